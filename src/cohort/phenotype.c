/* Which codes make a case, and until when the registers of each nation are complete. */
#include "cohort_priv.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const systems[CADP_SYSTEMS] = {"icd10", "icd9", "opcs4", "opcs3", "death"};

static cad_status read_list(const char ***out, int *count, const cad_node *list, const char *path)
{
    if (!list) return CAD_OK;
    if (list->kind != CAD_LIST) return cad_fail(CAD_EUSAGE, "%s:%d:%d: expected a list of codes", path, list->line, list->column);
    CAD_TRY(cad_alloc(out, (size_t)list->children, sizeof **out, "codes"));
    for (const cad_node *n = list->child; n; n = n->next) {
        if (!n->text || !n->size || n->size > 10 || strchr(n->text, '.'))
            return cad_fail(CAD_EUSAGE, "%s:%d:%d: expected a code without a dot as the registers write it (I252, 410, K501)", path, n->line, n->column);
        (*out)[(*count)++] = n->text;
    }
    return CAD_OK;
}

/* [I21, I252] or {include: […], exclude: […]} */
cad_status cadp_prefixes_read(cadp_prefixes *p, const cad_node *node, const char *path)
{
    if (!node || node->kind == CAD_NULL) return CAD_OK;
    if (node->kind == CAD_LIST) return read_list(&p->in, &p->ins, node, path);
    if (node->kind != CAD_TABLE) return cad_fail(CAD_EUSAGE, "%s:%d:%d: expected a list of codes or {include, exclude}", path, node->line, node->column);
    for (const cad_node *n = node->child; n; n = n->next)
        if (strcmp(n->key, "include") && strcmp(n->key, "exclude"))
            return cad_fail(CAD_EUSAGE, "%s:%d:%d: expected include or exclude, found another key", path, n->key_line, n->key_column);
    CAD_TRY(read_list(&p->in, &p->ins, cad_get(node, "include"), path));
    return read_list(&p->out, &p->outs, cad_get(node, "exclude"), path);
}

void cadp_prefixes_close(cadp_prefixes *p)
{
    cad_free(&p->in);
    cad_free(&p->out);
}

static bool begins(const char *prefix, const char *code, size_t n)
{
    size_t m = strlen(prefix);

    return m <= n && !memcmp(prefix, code, m);
}

bool cadp_prefixes_match(const cadp_prefixes *p, const char *code, size_t n)
{
    bool in = false;

    for (int i = 0; i < p->ins && !in; i++) in = begins(p->in[i], code, n);
    for (int i = 0; i < p->outs && in; i++) in = !begins(p->out[i], code, n);
    return in;
}

size_t cadp_code_text(const cadp_text *c, char out[12])
{
    size_t n = 0;

    for (uint32_t i = 0; i < c->size && n < 11 && c->at[i] != ' '; i++) {
        char x = c->at[i];
        if (x == '.') continue;
        out[n++] = (char)(x >= 'a' && x <= 'z' ? x - 32 : x);
    }
    out[n] = 0;
    return n;
}

static cad_status read_self(cadp_phenotype *p, const cad_node *table)
{
    char *end;

    for (const cad_node *n = table ? table->child : NULL; n; n = n->next) {
        cadp_self *s = &p->self[p->selves];
        s->field = (int)strtol(n->key, &end, 10);
        if (*end || n->kind != CAD_LIST || p->selves == 8)
            return cad_fail(CAD_EUSAGE, "%s:%d:%d: expected FIELD: [codes], at most eight fields", p->tree->path, n->key_line, n->key_column);
        for (const cad_node *v = n->child; v; v = v->next) {
            if ((v->kind != CAD_INT && v->kind != CAD_REAL) || s->codes == 16)
                return cad_fail(CAD_EUSAGE, "%s:%d:%d: expected at most 16 numbers", p->tree->path, v->line, v->column);
            s->code[s->codes++] = v->real;
        }
        p->selves++;
    }
    return CAD_OK;
}

static cad_status read_dates(cadp_phenotype *p, const cad_node *list)
{
    if (list && list->kind != CAD_LIST) return cad_fail(CAD_EUSAGE, "%s:%d:%d: dates: expected a list of fields", p->tree->path, list->line, list->column);
    for (const cad_node *n = list ? list->child : NULL; n; n = n->next) {
        if (n->kind != CAD_INT || p->dates == 16) return cad_fail(CAD_EUSAGE, "%s:%d:%d: expected at most 16 numbers of fields", p->tree->path, n->line, n->column);
        p->date[p->dates++] = (int)n->integer;
    }
    return CAD_OK;
}

static cad_status read_phenotype(cadp_phenotype *p)
{
    static const char *const keys[] = {"name", "about", "icd10", "icd9", "opcs4", "opcs3", "death", "self_report", "dates"};
    const cad_node *root = p->tree->root, *death = cad_get(root, "death");

    for (const cad_node *n = root->child; n; n = n->next) {
        size_t i = 0;
        while (i < sizeof keys / sizeof *keys && strcmp(keys[i], n->key)) i++;
        if (i == sizeof keys / sizeof *keys)
            return cad_fail(CAD_EUSAGE, "%s:%d:%d: expected name, about, icd10, icd9, opcs4, opcs3, death, self_report or dates, found \"%.40s\"", p->tree->path, n->key_line, n->key_column, n->key);
    }
    if (!cad_get_string(root, "name", &p->name, "phenotype") || !cad_get_string(root, "about", &p->about, ""))
        return cad_fail(CAD_EUSAGE, "%s: expected texts for name and about", p->tree->path);
    for (int i = 0; i < CADP_DEATH; i++) CAD_TRY(cadp_prefixes_read(&p->hospital[i], cad_get(root, systems[i]), p->tree->path));
    CAD_TRY(cadp_prefixes_read(&p->underlying, death ? cad_get(death, "underlying") : NULL, p->tree->path));
    CAD_TRY(cadp_prefixes_read(&p->contributory, death ? cad_get(death, "contributory") : NULL, p->tree->path));
    CAD_TRY(read_dates(p, cad_get(root, "dates")));
    return read_self(p, cad_get(root, "self_report"));
}

cad_status cadp_phenotype_open(cadp_phenotype *p, const char *path)
{
    *p = (cadp_phenotype){0};
    CAD_TRY(cadp_read_yaml(&p->tree, path, "configs/ukb/phenotypes/hard_cad.yaml"));
    cad_status st = read_phenotype(p);
    if (st) cadp_phenotype_close(p);
    return st;
}

void cadp_phenotype_close(cadp_phenotype *p)
{
    for (int i = 0; i < CADP_SYSTEMS; i++) cadp_prefixes_close(&p->hospital[i]);
    cadp_prefixes_close(&p->underlying);
    cadp_prefixes_close(&p->contributory);
    cad_tree_close(&p->tree);
}

static cad_status read_nation(cadp_censoring *c, const cad_node *node)
{
    cadp_nation *n = &c->nation[c->nations];
    const cad_node *centres = cad_get(node, "centres");
    const char *until = NULL, *wrong;
    int form = CADP_FORM_ISO;

    n->name = node->key;
    if (c->nations == 8 || !cad_get_string(node, "complete_until", &until, NULL) || !until || !centres || centres->kind != CAD_LIST)
        return cad_fail(CAD_EUSAGE, "%s:%d:%d: expected NATION: {complete_until: \"2022-10-31\", centres: […]}, at most eight", c->tree->path, node->key_line, node->key_column);
    if ((wrong = cadp_day_read(until, strlen(until), &form, &n->end)) || !cadp_day_known(n->end))
        return cad_fail(CAD_EUSAGE, "%s:%d: complete_until: expected %s", c->tree->path, node->key_line, wrong ? wrong : "a true date");
    for (const cad_node *v = centres->child; v; v = v->next) {
        if (v->kind != CAD_INT || n->centres == 64) return cad_fail(CAD_EUSAGE, "%s:%d:%d: expected codes of at most 64 centres", c->tree->path, v->line, v->column);
        n->centre[n->centres++] = (int)v->integer;
    }
    c->nations++;
    return CAD_OK;
}

cad_status cadp_censoring_open(cadp_censoring *c, const char *path)
{
    const cad_node *nations;
    cad_status st = CAD_OK;

    *c = (cadp_censoring){0};
    CAD_TRY(cadp_read_yaml(&c->tree, path, "configs/ukb/censoring.yaml"));
    nations = cad_get(c->tree->root, "nations");
    if (!nations || nations->kind != CAD_TABLE || !nations->child) st = cad_fail(CAD_EUSAGE, "%s: expected a table nations, found none", c->tree->path);
    for (const cad_node *n = st ? NULL : nations->child; n && !st; n = n->next) st = read_nation(c, n);
    if (st) cadp_censoring_close(c);
    return st;
}

void cadp_censoring_close(cadp_censoring *c) { cad_tree_close(&c->tree); }

int cadp_nation_of(const cadp_censoring *c, int centre)
{
    for (int i = 0; i < c->nations; i++)
        for (int k = 0; k < c->nation[i].centres; k++)
            if (c->nation[i].centre[k] == centre) return i;
    return -1;
}
