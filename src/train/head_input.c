/* What a record has beside its text: columns that enter the head, a score that the log-odds begin with, the weight of its loss. */
#include "keep_priv.h"

#include <cadtrain/cohort.h>

#include <math.h>
#include <stdlib.h>

const char cadp_beside_file[] = "head_columns.json";

/* ---- the columns: those that the model was trained with, else learned on the rows that train ---- */

static bool asked(const cad_run *r) { return r->o->dataset.head_columns.count || r->o->dataset.offset_column; }

static cad_status read_from(cad_run *r, const char *dir, bool *found)
{
    cad_str path = {0};
    cad_status st = dir ? cadp_join(&path, dir, cadp_beside_file) : CAD_OK;

    *found = !st && dir && cad_is_file(path.data);
    if (*found) st = cad_beside_read(&r->columns, path.data);
    cad_str_close(&path);
    return st;
}

static int up(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* The rows that train, each once. */
static cad_status rows_once(const cadp_set *s, int64_t **out, int64_t *n)
{
    CAD_TRY(cad_alloc(out, (size_t)s->count, sizeof **out, "row numbers"));
    memcpy(*out, s->rows, (size_t)s->count * sizeof **out);
    qsort(*out, (size_t)s->count, sizeof **out, up);
    *n = 0;
    for (int64_t i = 0; i < s->count; i++)
        if (!i || (*out)[i] != (*out)[i - 1]) (*out)[(*n)++] = (*out)[i];
    return CAD_OK;
}

static cad_status learn(cad_run *r)
{
    const cad_options *o = r->o;
    cad_beside_options c = {o->dataset.head_columns.word, o->dataset.head_columns.count, o->dataset.offset_column};
    int64_t *rows, n;
    cad_status st;

    CAD_TRY(rows_once(&r->train, &rows, &n));
    st = cad_beside_learn(&r->columns, r->train.data->rows_file, rows, n, &c);
    cad_free(&rows);
    return st;
}

static bool reads_columns(const cad_run *r)
{
    return !cadp_is_sft(r) && !r->method.causal && (r->what.purpose == CAD_RUN_TRAIN || r->what.purpose == CAD_RUN_CHECK || r->what.purpose == CAD_RUN_EVAL || r->what.purpose == CAD_RUN_PREDICT || r->what.purpose == CAD_RUN_EXPLAIN);
}

static cad_status choose_columns(cad_run *r)
{
    bool found = false;

    CAD_TRY(read_from(r, r->what.checkpoint ? r->what.checkpoint : r->adapter_dir, &found));
    if (!found) CAD_TRY(read_from(r, r->model_dir, &found));
    if (found) return CAD_OK;
    if (r->what.checkpoint && asked(r)) {
        cad_warn("the configuration", "head_columns and offset_column have no effect: %s was trained on the text alone", r->what.checkpoint);
        return CAD_OK;
    }
    return asked(r) ? learn(r) : CAD_OK;
}

/* What prepare writes where the censored are stood for by others, unless another column is named. */
static const char *weight_column(const cad_options *o)
{
    if (o->dataset.weight_column) return o->dataset.weight_column;
    return o->cohort.extracts.count && o->cohort.censored == CAD_CENSORED_WEIGHT ? "weight" : NULL;
}

static cad_status apply(cad_run *r, cadp_set *s)
{
    const char *weight = weight_column(r->o);
    bool labelled = r->what.purpose != CAD_RUN_PREDICT && r->what.purpose != CAD_RUN_EXPLAIN;

    if (!s->data || !s->owned) return CAD_OK;
    if (r->columns) CAD_TRY(cad_beside_apply(r->columns, s->data));
    return weight && labelled ? cad_dataset_weigh(s->data, weight) : CAD_OK;
}

static void tell(const cad_run *r)
{
    bool odds;
    const char *offset = cad_beside_offset(r->columns, &odds);

    cad_info("Columns beside the text: %d terms in the head (%s)", cad_beside_width(r->columns), cadp_beside_file);
    if (offset) cad_info("Log-odds begin with those of column %s, read as %s", offset, odds ? "log-odds" : "risks");
}

cad_status cadp_open_beside(cad_run *r)
{
    if (!reads_columns(r)) return CAD_OK;
    CAD_TRY(choose_columns(r));
    CAD_TRY(apply(r, &r->train));
    CAD_TRY(apply(r, &r->eval));
    CAD_TRY(apply(r, &r->test));
    if (r->what.purpose == CAD_RUN_TRAIN && weight_column(r->o)) cad_info("Rows are weighed by column %s: the loss of a step is sum(weight x class weight x loss) / sum(weight x class weight)", weight_column(r->o));
    if (!r->columns) return CAD_OK;
    r->facts.beside = 1 + cad_beside_width(r->columns);
    if (r->what.purpose == CAD_RUN_TRAIN) tell(r);
    return CAD_OK;
}

double cadp_row_weight(const cad_run *r, const cad_dataset *d, int64_t row) { return r->facts.class_weight[d->labels[row]] * (d->row_weights ? d->row_weights[row] : 1); }

/* ---- where the layer begins ---- */

static void show(void *with, int64_t i, cad_regression_row *out)
{
    const cad_run *r = with;
    const cad_dataset *d = r->train.data;
    int64_t row = r->train.rows[i];
    const float *beside = d->beside + row * d->beside_width;

    for (int64_t k = 1; k < d->beside_width; k++) out->x[k - 1] = (double)beside[k];
    out->offset = (double)beside[0];
    out->label = d->labels[row];
    out->weight = cadp_row_weight(r, d, row);
}

/* Log-odds are the difference of two logits: each takes half of a coefficient. */
cad_status cadp_start_beside(cad_run *r)
{
    int n = (int)r->facts.beside - 1;
    double *beta;
    cad_status st;

    if (!r->columns || r->method.num_labels != 2) return CAD_OK;
    CAD_TRY(cad_alloc(&beta, (size_t)n, sizeof *beta, "a regression"));
    st = cad_alloc(&r->columns_start, (size_t)n * 2, sizeof *r->columns_start, "a regression");
    if (!st) st = cad_logistic_fit(&(cad_regression){r->train.count, n, r, show}, beta);
    for (int k = 0; k < n && !st; k++) {
        r->columns_start[k] = (float)(-beta[k] / 2);
        r->columns_start[n + k] = (float)(beta[k] / 2);
    }
    cad_free(&beta);
    return st;
}

cad_status cadp_tell_beside(cad_run *r)
{
    int64_t n = r->facts.beside;
    int starts = r->columns_start != NULL;

    if (!n) return CAD_OK;
    r->method.columns = (int)n - 1;
    CAD_TRY(cad_comm_bcast(r->comm, &starts, sizeof starts, 0));
    if (!starts) return CAD_OK;
    if (r->rank) CAD_TRY(cad_alloc(&r->columns_start, (size_t)(n - 1) * 2, sizeof *r->columns_start, "a regression"));
    return cad_comm_bcast(r->comm, r->columns_start, (size_t)(n - 1) * 2 * sizeof *r->columns_start, 0);
}

void cadp_read_start(const cad_run *r, int64_t from, int64_t n, cad_dtype as, void *out)
{
    for (int64_t i = 0; i < n; i++) {
        if (as == CAD_F32) ((float *)out)[i] = r->columns_start[from + i];
        else ((uint16_t *)out)[i] = cad_f32_to_bf16(r->columns_start[from + i]);
    }
}

void cadp_close_beside(cad_run *r)
{
    cad_beside_close(&r->columns);
    cad_free(&r->columns_start);
}

cad_status cadp_write_beside(const cad_run *r, const char *dir)
{
    cad_str path = {0};
    cad_status st;

    if (!r->columns) return CAD_OK;
    st = cadp_join(&path, dir, cadp_beside_file);
    if (!st) st = cad_beside_write(r->columns, path.data);
    cad_str_close(&path);
    return st;
}
