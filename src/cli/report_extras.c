/* What a report may show beside predictions: the training's curves, which fields moved the risk. */
#include "report_priv.h"

#include <math.h>

static const char *const curve_names[CADP_LOG_CURVES] = {"loss", "eval_loss", "learning_rate", "grad_norm", "eval_auc"};

/* ---- log.jsonl ---- */

static cad_status add_point(cadp_extras *x, int k, double step, double value)
{
    int64_t n = x->curve[k].n;

    if (n % 256 == 0) {
        CAD_TRY(cad_grow(&x->at[k], (size_t)n + 256, sizeof *x->at[k], "curves"));
        CAD_TRY(cad_grow(&x->value[k], (size_t)n + 256, sizeof *x->value[k], "curves"));
    }
    x->at[k][n] = step;
    x->value[k][n] = value;
    x->curve[k].n++;
    return CAD_OK;
}

static cad_status read_curves(cadp_extras *x, const cad_rows *rows)
{
    int step = cad_rows_find(rows, "step");

    if (step < 0) return cad_fail(CAD_EDATA, "%s: expected a log.jsonl of training with \"step\", found none", cad_rows_path(rows));
    for (int k = 0; k < CADP_LOG_CURVES; k++) {
        int column = cad_rows_find(rows, curve_names[k]);
        for (int64_t i = 0; i < cad_rows_count(rows) && column >= 0; i++) {
            double at, value;
            if (cadp_number_of(cad_rows_cell(rows, i, step), &at) && cadp_number_of(cad_rows_cell(rows, i, column), &value) && isfinite(value)) CAD_TRY(add_point(x, k, at, value));
        }
    }
    return CAD_OK;
}

static cad_status read_log(cadp_extras *x, const char *path)
{
    cad_rows *rows;
    cad_status st;

    CAD_TRY(cad_rows_read(&rows, path));
    st = read_curves(x, rows);
    cad_rows_close(&rows);
    for (int k = 0; k < CADP_LOG_CURVES; k++) {
        if (!x->curve[k].n) continue;
        x->curve[k].name = curve_names[k];
        x->curve[k].x = x->at[k];
        x->curve[k].y = x->value[k];
        x->shown[x->curves++] = x->curve[k];
    }
    return st;
}

/* ---- importance.json ---- */

static cad_status read_fields(cadp_extras *x, const char *path)
{
    const cad_node *list;

    CAD_TRY(cad_json_read(&x->importance, path, 16 << 20, CAD_EDATA));
    list = cad_get(x->importance->root, "fields");
    if (!list || list->kind != CAD_LIST) return cad_fail(CAD_EDATA, "%s: expected the importance.json that explain writes, found no list of fields", path);
    CAD_TRY(cad_alloc(&x->field, (size_t)list->children + 1, sizeof *x->field, "fields"));
    for (const cad_node *n = list->child; n; n = n->next) {
        cad_field_row *f = &x->field[x->fields++];
        if (!cad_get_string(n, "field", &f->name, NULL) || !f->name || !cad_get_real(n, "gradients_abs", &f->gradients_abs, 0) || !cad_get_real(n, "gradients", &f->gradients, 0) ||
            !cad_get_real(n, "removed_abs", &f->removed_abs, 0) || !cad_get_real(n, "removed", &f->removed, 0))
            return cad_fail(CAD_EDATA, "%s:%d: expected a field with its numbers, found something else", path, n->line);
    }
    return CAD_OK;
}

cad_status cadp_extras_open(cadp_extras *x, const char *log, const char *importance)
{
    if (log) CAD_TRY(read_log(x, log));
    return importance ? read_fields(x, importance) : CAD_OK;
}

void cadp_extras_close(cadp_extras *x)
{
    for (int k = 0; k < CADP_LOG_CURVES; k++) {
        cad_free(&x->at[k]);
        cad_free(&x->value[k]);
    }
    cad_free(&x->field);
    cad_tree_close(&x->importance);
}
