/* Options of several numbers: a list of whole numbers, a table of regular expressions and numbers. */
#include "conf_priv.h"

#include <math.h>

bool cadp_conf_in_range(const cadp_row *row, double v)
{
    bool low = row->marks & CADP_ABOVE ? v > row->low : v >= row->low;
    bool high = row->marks & CADP_BELOW ? v < row->high : v <= row->high;
    return low && high; /* NaN is neither */
}

/* One number, a list of them, or nothing. */
cad_status cadp_conf_set_wholes(cad_whole_numbers *to, const cadp_row *row, const cad_node *node, bool *fits)
{
    bool one = node->kind == CAD_INT;
    cad_whole_numbers got = {0};

    *fits = one || node->kind == CAD_LIST || node->kind == CAD_NULL || (node->kind == CAD_STRING && !node->size);
    for (const cad_node *n = one ? node : node->child; n && *fits; n = one ? NULL : n->next) *fits = n->kind == CAD_INT && cadp_conf_in_range(row, (double)n->integer);
    if (!*fits) return CAD_OK;
    CAD_TRY(cad_alloc(&got.at, (size_t)node->children + 1, sizeof *got.at, "options"));
    for (const cad_node *n = one ? node : node->child; n; n = one ? NULL : n->next) got.at[got.count++] = (int)n->integer;
    cad_free(&to->at);
    *to = got;
    return CAD_OK;
}

static bool is_number(const cadp_row *row, const cad_node *n)
{
    bool whole = n->kind == CAD_INT || (n->kind == CAD_REAL && n->real == floor(n->real));

    if (n->kind != CAD_INT && n->kind != CAD_REAL) return false;
    return n->key && *n->key && (whole || !(row->marks & CADP_WHOLE)) && cadp_conf_in_range(row, n->kind == CAD_INT ? (double)n->integer : n->real);
}

cad_status cadp_conf_set_pattern(cad_module_numbers *to, const cadp_row *row, const cad_node *node, bool *fits)
{
    cad_module_numbers got = {0};
    cad_status status = CAD_OK;

    *fits = node->kind == CAD_TABLE || node->kind == CAD_NULL || (node->kind == CAD_STRING && !node->size);
    for (const cad_node *n = node->child; n && *fits; n = n->next) *fits = is_number(row, n);
    if (!*fits) return CAD_OK;
    CAD_TRY(cad_alloc(&got.at, (size_t)node->children + 1, sizeof *got.at, "options"));
    for (const cad_node *n = node->child; n && !status; n = n->next) {
        got.at[got.count].value = n->kind == CAD_INT ? (double)n->integer : n->real;
        status = cadp_conf_store_text(&got.at[got.count++].pattern, n->key, strlen(n->key));
    }
    if (status) cadp_conf_free_pattern(&got);
    else {
        cadp_conf_free_pattern(to);
        *to = got;
    }
    return status;
}

void cadp_conf_free_pattern(cad_module_numbers *p)
{
    for (int i = 0; i < p->count; i++) cad_free(&p->at[i].pattern);
    cad_free(&p->at);
    p->count = 0;
}

cad_status cadp_conf_emit_wholes(cad_json *j, const char *key, const cad_whole_numbers *w)
{
    if (!w->count) return cad_json_null(j, key);
    CAD_TRY(cad_json_begin(j, key, '['));
    for (int i = 0; i < w->count; i++) CAD_TRY(cad_json_int(j, NULL, w->at[i]));
    return cad_json_end(j);
}

cad_status cadp_conf_emit_pattern(cad_json *j, const char *key, const cadp_row *row, const cad_module_numbers *p)
{
    CAD_TRY(cad_json_begin(j, key, '{'));
    for (int i = 0; i < p->count; i++) {
        if (row->marks & CADP_WHOLE) CAD_TRY(cad_json_int(j, p->at[i].pattern, (int64_t)p->at[i].value));
        else CAD_TRY(cad_json_real(j, p->at[i].pattern, p->at[i].value));
    }
    return cad_json_end(j);
}
