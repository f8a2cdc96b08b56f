/* The predictors: a list of entries with their wording, so that a user adds a field without touching C. */
#include "cohort_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct reading { cadp_fields *f; cadp_entry *e; const cad_node *node; } reading;

static cad_status wrong(const reading *r, const cad_node *at, const char *expected)
{
    const char *path = r->f->tree->path;

    if (!at) at = r->node;
    return cad_fail(CAD_EUSAGE, "%s:%d:%d: field \"%.40s\": expected %s", path, at->line, at->column, r->e->name ? r->e->name : "?", expected);
}

static int word_of(const char *word, const char *const *words, int count)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(words[i], word)) return i;
    return -1;
}

static cad_status check_keys(const reading *r)
{
    static const char *const keys[] = {"name", "fields", "kind", "combine", "codes", "labels", "range", "decimals", "unit", "wording", "yes", "no", "missing", "empty",
                                       "instance", "icd10", "icd9", "opcs4", "opcs3", "model"};
    char text[96];

    for (const cad_node *n = r->node->child; n; n = n->next) {
        if (word_of(n->key, keys, sizeof keys / sizeof *keys) >= 0) continue;
        snprintf(text, sizeof text, "a known key, found \"%.40s\"", n->key);
        return wrong(r, n, text);
    }
    return CAD_OK;
}

static cad_status read_numbers(const reading *r, const char *key, double *out, int most, int *count)
{
    const cad_node *list = cad_get(r->node, key);

    *count = 0;
    if (!list) return CAD_OK;
    if (list->kind != CAD_LIST || list->children > most) return wrong(r, list, "a list of numbers (not so many)");
    for (const cad_node *n = list->child; n; n = n->next) {
        if (n->kind != CAD_INT && n->kind != CAD_REAL) return wrong(r, n, "a number");
        out[(*count)++] = n->real;
    }
    return CAD_OK;
}

static cad_status read_levels(const reading *r)
{
    const cad_node *labels = cad_get(r->node, "labels");
    cadp_entry *e = r->e;
    char *end;

    for (const cad_node *n = labels ? labels->child : NULL; n; n = n->next) {
        if (e->levels == CADP_MOST_LEVELS || !n->key || !n->text) return wrong(r, n, "at most 24 CODE: \"words\"");
        e->level[e->levels] = strtod(n->key, &end);
        if (*end) return wrong(r, n, "CODE: \"words\" with a number as code");
        e->level_text[e->levels++] = n->text;
    }
    return e->kind == CADP_CATEGORY && !e->levels ? wrong(r, NULL, "labels: {CODE: \"words\"}") : CAD_OK;
}

static cad_status read_texts(const reading *r)
{
    static const char *const kinds[] = {"number", "category", "any", "history"}, *const combines[] = {"mean", "first", "max", "min"};
    const cad_node *n = r->node;
    cadp_entry *e = r->e;
    const char *kind, *combine, *empty;
    int i;

    if (!cad_get_string(n, "name", &e->name, NULL) || !e->name || strspn(e->name, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(e->name) || !*e->name)
        return wrong(r, NULL, "name: a word of small letters, digits and _");
    if (!cad_get_string(n, "kind", &kind, "number") || (i = word_of(kind, kinds, 4)) < 0) return wrong(r, cad_get(n, "kind"), "kind: number, category, any or history");
    e->kind = (cadp_kind)i;
    if (!cad_get_string(n, "combine", &combine, "mean") || (i = word_of(combine, combines, 4)) < 0) return wrong(r, cad_get(n, "combine"), "combine: mean, first, max or min");
    e->combine = (cadp_combine)i;
    if (!cad_get_string(n, "empty", &empty, NULL) || (empty && strcmp(empty, "no"))) return wrong(r, cad_get(n, "empty"), "empty: \"no\"");
    e->empty_is_no = empty != NULL;
    if (!cad_get_string(n, "wording", &e->wording, NULL) || !cad_get_string(n, "yes", &e->yes, NULL) || !cad_get_string(n, "no", &e->no, NULL) ||
        !cad_get_string(n, "missing", &e->missing, NULL) || !cad_get_string(n, "unit", &e->unit, NULL) || !cad_get_bool(n, "model", &e->model, true))
        return wrong(r, NULL, "texts for wording, yes, no, missing and unit, true or false for model");
    if (e->wording && (e->kind == CADP_NUMBER || e->kind == CADP_CATEGORY) && !strstr(e->wording, "{value}")) return wrong(r, cad_get(n, "wording"), "{value} in it");
    return CAD_OK;
}

static cad_status read_codes(const reading *r)
{
    static const char *const systems[] = {"icd10", "icd9", "opcs4", "opcs3"};

    CAD_TRY(read_numbers(r, "codes", r->e->code, 64, &r->e->codes));
    if (r->e->kind == CADP_ANY && !r->e->codes) return wrong(r, NULL, "codes: a list of what counts as yes");
    for (int i = 0; i < 4; i++) CAD_TRY(cadp_prefixes_read(&r->e->codes_of[i], cad_get(r->node, systems[i]), r->f->tree->path));
    return CAD_OK;
}

static cad_status read_entry(const reading *r)
{
    cadp_entry *e = r->e;
    double field[CADP_ENTRY_FIELDS], range[2];
    int64_t instance, decimals;
    int count;

    e->line = r->node->line;
    if (r->node->kind != CAD_TABLE) return wrong(r, NULL, "a table with name, fields, kind, wording");
    CAD_TRY(check_keys(r));
    CAD_TRY(read_texts(r));
    CAD_TRY(read_numbers(r, "fields", field, CADP_ENTRY_FIELDS, &e->fields));
    for (int i = 0; i < e->fields; i++) e->field[i] = (int)field[i];
    if ((e->kind == CADP_HISTORY) == (e->fields > 0)) return wrong(r, NULL, e->fields ? "no fields for a history" : "fields: a list of UK Biobank's numbers");
    CAD_TRY(read_numbers(r, "range", range, 2, &count));
    e->low = count == 2 ? range[0] : NAN;
    e->high = count == 2 ? range[1] : NAN;
    if (count == 1) return wrong(r, cad_get(r->node, "range"), "two numbers");
    if (!cad_get_int(r->node, "instance", &instance, 0) || !cad_get_int(r->node, "decimals", &decimals, 0) || decimals < 0 || decimals > 6 || instance < 0 || instance > 9)
        return wrong(r, NULL, "whole numbers for instance and decimals");
    e->instance = (int)instance;
    e->decimals = (int)decimals;
    CAD_TRY(read_levels(r));
    CAD_TRY(read_codes(r));
    e->slot = r->f->slots;
    r->f->slots += e->kind == CADP_HISTORY ? 1 : e->fields;
    return r->f->slots > CADP_MOST_SLOTS ? wrong(r, NULL, "at most 512 columns in all") : CAD_OK;
}

static cad_status read_all(cadp_fields *f)
{
    const cad_node *list = cad_get(f->tree->root, "fields");

    if (!list || list->kind != CAD_LIST || !list->child) return cad_fail(CAD_EUSAGE, "%s: expected a list fields, found none", f->tree->path);
    CAD_TRY(cad_alloc(&f->entry, (size_t)list->children, sizeof *f->entry, "fields"));
    for (const cad_node *n = list->child; n; n = n->next) {
        reading r = {f, &f->entry[f->entries++], n};
        CAD_TRY(read_entry(&r));
        for (int i = 0; i + 1 < f->entries; i++)
            if (!strcmp(f->entry[i].name, r.e->name)) return wrong(&r, NULL, "every name once");
    }
    return CAD_OK;
}

cad_status cadp_fields_open(cadp_fields *f, const char *path)
{
    *f = (cadp_fields){0};
    CAD_TRY(cadp_read_yaml(&f->tree, path, "configs/ukb/fields.yaml"));
    cad_status st = read_all(f);
    if (st) cadp_fields_close(f);
    return st;
}

void cadp_fields_close(cadp_fields *f)
{
    for (int i = 0; i < f->entries; i++)
        for (int k = 0; k < CADP_SYSTEMS; k++) cadp_prefixes_close(&f->entry[i].codes_of[k]);
    cad_free(&f->entry);
    cad_tree_close(&f->tree);
    *f = (cadp_fields){0};
}

const cadp_entry *cadp_fields_find(const cadp_fields *f, const char *name)
{
    for (int i = 0; i < f->entries; i++)
        if (!strcmp(f->entry[i].name, name)) return &f->entry[i];
    return NULL;
}
