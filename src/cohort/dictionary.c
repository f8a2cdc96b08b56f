/* What fields are called and what their codes mean: configs/ukb/dictionary.yaml, or a file of the user's. */
#include "cohort_priv.h"

#include <cadtrain/embedded.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

cad_status cadp_read_yaml(cad_tree **out, const char *path, const char *embedded)
{
    if (path) return cad_yaml_read(out, path);
    for (const cad_embedded *f = cad_embedded_files; f->path; f++)
        if (!strcmp(f->path, embedded)) return cad_yaml_parse(out, f->text, strlen(f->text), embedded);
    return cad_fail(CAD_EINTERNAL, "%s is not part of this program", embedded);
}

static void lower(char *out, size_t room, const char *text, size_t n)
{
    size_t k = 0;

    for (size_t i = 0; i < n && k + 1 < room; i++) out[k++] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] | 32 : text[i]);
    out[k] = 0;
}

static cad_status bad(const cad_tree *t, const cad_node *n, const char *expected)
{
    return cad_fail(CAD_EUSAGE, "%s:%d:%d: expected %s", t->path, n->key ? n->key_line : n->line, n->key ? n->key_column : n->column, expected);
}

static bool number_of_key(const cad_node *n, double *out)
{
    char *end;

    if (!n->key || !*n->key) return false;
    *out = strtod(n->key, &end);
    return !*end;
}

static cad_status add_labels(cadp_dictionary *d, int coding, const cad_node *labels)
{
    char key[160];
    double code;

    for (const cad_node *n = labels ? labels->child : NULL; n; n = n->next) {
        if (!number_of_key(n, &code) || !n->text) return bad(d->tree, n, "CODE: \"label\"");
        int used = snprintf(key, sizeof key, "%d:", coding);
        lower(key + used, sizeof key - (size_t)used, n->text, n->size);
        CAD_TRY(cad_map_set(d->labels, key, strlen(key), (int64_t)code, NULL));
    }
    return CAD_OK;
}

static cad_status read_coding(cadp_dictionary *d, const cad_node *node)
{
    cadp_coding *c = &d->coding[d->codings];
    const cad_node *missing = cad_get(node, "missing"), *values = cad_get(node, "values");
    double number, code;

    if (!number_of_key(node, &number) || node->kind != CAD_TABLE) return bad(d->tree, node, "CODING: {labels, missing, values, partial}");
    c->number = (int)number;
    for (const cad_node *n = missing ? missing->child : NULL; n; n = n->next) {
        if (c->missings == 12 || (n->kind != CAD_INT && n->kind != CAD_REAL)) return bad(d->tree, n, "at most 12 numbers");
        c->missing[c->missings++] = n->real;
    }
    for (const cad_node *n = values ? values->child : NULL; n; n = n->next) {
        if (c->changes == 4 || !number_of_key(n, &code) || (n->kind != CAD_INT && n->kind != CAD_REAL)) return bad(d->tree, n, "at most four CODE: number");
        c->from[c->changes] = code;
        c->to[c->changes++] = n->real;
    }
    if (!cad_get_bool(node, "partial", &c->partial, false)) return bad(d->tree, node, "partial: true or false");
    d->codings++;
    return add_labels(d, c->number, cad_get(node, "labels"));
}

static int coding_place(const cadp_dictionary *d, int64_t number)
{
    for (int i = 0; i < d->codings; i++)
        if (d->coding[i].number == number) return i;
    return -1;
}

static cad_status read_field(cadp_dictionary *d, const cad_node *node)
{
    cadp_field *f = &d->field[d->fields];
    double number;
    int64_t coding;
    char title[256];

    if (!number_of_key(node, &number) || node->kind != CAD_TABLE || !cad_get_string(node, "title", &f->title, NULL) || !cad_get_int(node, "coding", &coding, 0))
        return bad(d->tree, node, "FIELD: {title: text, coding: number}");
    f->number = (int)number;
    f->coding = coding ? coding_place(d, coding) : -1;
    if (coding && f->coding < 0) return bad(d->tree, node, "a coding that is listed under codings");
    d->fields++;
    if (!f->title) return CAD_OK;
    lower(title, sizeof title, f->title, strlen(f->title));
    return cad_map_set(d->titles, title, strlen(title), f->number, NULL);
}

static int by_number(const void *a, const void *b)
{
    const cadp_field *x = a, *y = b;

    return (x->number > y->number) - (x->number < y->number);
}

static cad_status read_all(cadp_dictionary *d)
{
    const cad_node *codings = cad_get(d->tree->root, "codings"), *fields = cad_get(d->tree->root, "fields");

    if (!fields || fields->kind != CAD_TABLE) return cad_fail(CAD_EUSAGE, "%s: expected a table fields, found none", d->tree->path);
    CAD_TRY(cad_map_open(&d->labels));
    CAD_TRY(cad_map_open(&d->titles));
    CAD_TRY(cad_alloc(&d->coding, codings ? (size_t)codings->children : 0, sizeof *d->coding, "codings"));
    CAD_TRY(cad_alloc(&d->field, (size_t)fields->children, sizeof *d->field, "fields"));
    for (const cad_node *n = codings ? codings->child : NULL; n; n = n->next) CAD_TRY(read_coding(d, n));
    for (const cad_node *n = fields->child; n; n = n->next) CAD_TRY(read_field(d, n));
    qsort(d->field, (size_t)d->fields, sizeof *d->field, by_number);
    return CAD_OK;
}

cad_status cadp_dictionary_open(cadp_dictionary *d, const char *path)
{
    *d = (cadp_dictionary){0};
    CAD_TRY(cadp_read_yaml(&d->tree, path, "configs/ukb/dictionary.yaml"));
    cad_status st = read_all(d);
    if (st) cadp_dictionary_close(d);
    return st;
}

void cadp_dictionary_close(cadp_dictionary *d)
{
    cad_map_close(&d->labels);
    cad_map_close(&d->titles);
    cad_free(&d->field);
    cad_free(&d->coding);
    cad_tree_close(&d->tree);
}

const cadp_field *cadp_dictionary_field(const cadp_dictionary *d, int field)
{
    cadp_field key = {.number = field};

    return bsearch(&key, d->field, (size_t)d->fields, sizeof *d->field, by_number);
}

/* "5.432": up to 15 digits and a power of ten are exact, so their quotient is rounded once, as strtod rounds. */
static bool read_decimal(const cadp_text *c, double *out)
{
    static const double ten[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    uint32_t i = c->size && *c->at == '-', digits = 0, after = 0;
    bool point = false;
    int64_t v = 0;

    for (bool minus = i; i < c->size; i++) {
        char x = c->at[i];
        if (x == '.' && !point) point = true;
        else if (x >= '0' && x <= '9' && ++digits <= 15) {
            v = v * 10 + (x - '0');
            after += point;
        } else return false;
        *out = minus ? -((double)v / ten[after]) : (double)v / ten[after];
    }
    return digits > 0;
}

static bool read_number(const cadp_text *c, double *out)
{
    char text[40], *end;

    if (read_decimal(c, out)) return true;
    if (c->size >= sizeof text || !c->size || !strchr("+-.0123456789", *c->at)) return false;
    memcpy(text, c->at, c->size);
    text[c->size] = 0;
    *out = strtod(text, &end);
    return !*end && isfinite(*out);
}

static cadp_sort settle(const cadp_coding *coding, double *x, cadp_sort sort)
{
    for (int i = 0; coding && i < coding->missings; i++)
        if (coding->missing[i] == *x) return CADP_SPECIAL;
    for (int i = 0; coding && i < coding->changes; i++)
        if (coding->from[i] == *x) {
            *x = coding->to[i];
            break;
        }
    return sort;
}

cadp_sort cadp_dictionary_value(const cadp_dictionary *d, const cadp_field *f, const cadp_text *c, double *out)
{
    const cadp_coding *coding = f && f->coding >= 0 ? &d->coding[f->coding] : NULL;
    char key[160];
    int64_t code;

    if (cadp_is_missing(c)) return CADP_MISSING;
    if (read_number(c, out)) return settle(coding, out, CADP_VALUE);
    if (!coding) return CADP_BAD;
    int used = snprintf(key, sizeof key, "%d:", coding->number);
    lower(key + used, sizeof key - (size_t)used, c->at, c->size);
    if (!cad_map_get(d->labels, key, strlen(key), &code)) return coding->partial ? CADP_OTHER : CADP_BAD;
    *out = (double)code;
    return settle(coding, out, CADP_LABEL);
}

const char *cadp_dictionary_label(const cadp_dictionary *d, int field, double code)
{
    const cadp_field *f = cadp_dictionary_field(d, field);
    const cad_node *codings = cad_get(d->tree->root, "codings"), *labels;
    char key[32];

    if (!f || f->coding < 0) return NULL;
    snprintf(key, sizeof key, "%d", d->coding[f->coding].number);
    labels = cad_get(cad_get(codings, key), "labels");
    snprintf(key, sizeof key, "%.0f", code);
    labels = labels ? cad_get(labels, key) : NULL;
    return labels ? labels->text : NULL;
}
