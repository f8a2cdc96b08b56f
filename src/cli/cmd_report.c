/* report: metrics.json and report.html from prediction files. */
#include "report_priv.h"

#include <math.h>
#include <stdio.h>

typedef cadp_predictions scores;

typedef struct columns { int label, prob1, prediction, logits; } columns;

static void close_scores(scores *s)
{
    for (int i = 0; i < s->files; i++) cad_rows_close(&s->rows[i]);
    cad_free(&s->rows);
    cad_free(&s->labels);
    cad_free(&s->predictions);
    cad_free(&s->prob1);
    cad_free(&s->logit);
}

static cad_status need_column(const cad_rows *rows, const char *name, int *out)
{
    cad_near near = {.wanted = name};

    *out = cad_rows_find(rows, name);
    if (*out >= 0) return CAD_OK;
    for (int i = 0; i < cad_rows_columns(rows); i++) cad_near_offer(&near, cad_rows_column(rows, i));
    return cad_fail(CAD_EDATA, "%s: expected a column \"%s\", found none%s", cad_rows_path(rows), name, cad_near_hint(&near, ""));
}

static cad_status find_columns(const cad_rows *rows, columns *c)
{
    CAD_TRY(need_column(rows, "label", &c->label));
    CAD_TRY(need_column(rows, "positive_probability", &c->prob1));
    c->prediction = cad_rows_find(rows, "prediction");
    c->logits = cad_rows_find(rows, "logits");
    return CAD_OK;
}

/* A number in any of the forms a file has for it; the whole cell. */
bool cadp_number_of(cad_cell cell, double *out)
{
    char after;

    if (cell.kind == CAD_CELL_INT || cell.kind == CAD_CELL_REAL) {
        *out = cell.real;
        return true;
    }
    return cell.kind == CAD_CELL_TEXT && cell.size < 64 && sscanf(cell.text, "%lf %c", out, &after) == 1;
}

static cad_status refuse(const cad_rows *rows, int64_t row, const char *column, const char *expected)
{
    return cad_fail(CAD_EDATA, "%s:%d: %s: expected %s", cad_rows_path(rows), cad_rows_line(rows, row), column, expected);
}

static cad_status read_class(const cad_rows *rows, int64_t row, int column, int32_t *out)
{
    double x;

    if (!cadp_number_of(cad_rows_cell(rows, row, column), &x) || (x != 0 && x != 1)) return refuse(rows, row, cad_rows_column(rows, column), "0 or 1, found something else");
    *out = (int32_t)x;
    return CAD_OK;
}

/* [logit0, logit1]: the difference, which a probability near 1 has lost. */
static cad_status read_logits(const cad_rows *rows, int64_t row, int column, double *out)
{
    cad_cell cell = cad_rows_cell(rows, row, column);
    cad_tree *tree = NULL;
    const cad_node *a = NULL, *b = NULL;
    cad_status st = CAD_OK;

    if ((cell.kind == CAD_CELL_JSON || cell.kind == CAD_CELL_TEXT) && !cad_json_parse(&tree, cell.text, cell.size, "logits", CAD_EDATA)) a = tree->root->child;
    cad_clear();
    b = a ? a->next : NULL;
    if (!b || b->next || (a->kind != CAD_INT && a->kind != CAD_REAL) || (b->kind != CAD_INT && b->kind != CAD_REAL))
        st = refuse(rows, row, "logits", "a list of two numbers, found something else");
    else *out = b->real - a->real;
    cad_tree_close(&tree);
    return st;
}

static cad_status read_row(scores *s, const cad_rows *rows, int64_t row, const columns *c)
{
    double *p = &s->prob1[s->n];

    CAD_TRY(read_class(rows, row, c->label, &s->labels[s->n]));
    if (!cadp_number_of(cad_rows_cell(rows, row, c->prob1), p) || !(*p >= 0 && *p <= 1))
        return refuse(rows, row, "positive_probability", "a number from 0 to 1, found something else");
    s->predictions[s->n] = *p >= 0.5;
    if (c->prediction >= 0) CAD_TRY(read_class(rows, row, c->prediction, &s->predictions[s->n]));
    if (s->has_logits) CAD_TRY(read_logits(rows, row, c->logits, &s->logit[s->n]));
    s->n++;
    return CAD_OK;
}

static cad_status make_room(scores *s, int64_t more)
{
    size_t room = (size_t)(s->n + more);

    CAD_TRY(cad_grow(&s->labels, room, sizeof *s->labels, "labels"));
    CAD_TRY(cad_grow(&s->predictions, room, sizeof *s->predictions, "predictions"));
    CAD_TRY(cad_grow(&s->prob1, room, sizeof *s->prob1, "probabilities"));
    return cad_grow(&s->logit, room, sizeof *s->logit, "logits");
}

static cad_status take_rows(scores *s, const cad_rows *rows)
{
    columns c;

    CAD_TRY(find_columns(rows, &c));
    if (s->n && c.logits < 0) s->has_logits = false;
    if (!s->n) s->has_logits = c.logits >= 0;
    CAD_TRY(make_room(s, cad_rows_count(rows)));
    for (int64_t i = 0; i < cad_rows_count(rows); i++) CAD_TRY(read_row(s, rows, i, &c));
    return CAD_OK;
}

static cad_status read_scores(scores *s, const char *path)
{
    CAD_TRY(cad_grow(&s->rows, (size_t)s->files + 1, sizeof *s->rows, "files"));
    s->rows[s->files] = NULL;
    CAD_TRY(cad_rows_read(&s->rows[s->files], path));
    s->files++;
    return take_rows(s, s->rows[s->files - 1]);
}

static cad_status measure(scores *s) { return cad_metrics_compute(&s->metrics, s->labels, s->predictions, s->prob1, s->has_logits ? s->logit : NULL, s->n, true); }

static cad_status read_predictions(scores *s, const cad_flag *files)
{
    for (int i = 0; i < files->count; i++) CAD_TRY(read_scores(s, files->values[i]));
    return measure(s);
}

static cad_status check_same_rows(const scores *a, const scores *b, const char *path)
{
    if (a->n != b->n) return cad_fail(CAD_EDATA, "%s: expected the %lld rows of the predictions, found %lld", path, (long long)a->n, (long long)b->n);
    for (int64_t i = 0; i < a->n; i++)
        if (a->labels[i] != b->labels[i]) return cad_fail(CAD_EDATA, "%s: expected the same labels in the same order, found another one in row %lld", path, (long long)i + 1);
    return CAD_OK;
}

static cad_status add_comparison(cad_json *j, const char *path, const cad_metrics *a, const cad_metrics *b)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_string(j, "file", path));
    CAD_TRY(cad_json_real(j, "auc", b->auc));
    CAD_TRY(cad_report_interval(j, "auc_ci", b->auc_ci));
    CAD_TRY(cad_json_real(j, "auc_difference", b->auc - a->auc));
    CAD_TRY(cad_json_real(j, "auprc", b->auprc));
    CAD_TRY(cad_json_real(j, "brier", b->brier));
    CAD_TRY(cad_json_real(j, "log_loss", b->log_loss));
    return cad_json_end(j);
}

static cad_status compare(cad_json *j, cadp_clinical_work *w, const scores *a, const char *path)
{
    scores b = {0};
    cad_status st = read_scores(&b, path);

    if (!st) st = check_same_rows(a, &b, path);
    if (!st) st = measure(&b);
    if (!st) st = add_comparison(j, path, &a->metrics, &b.metrics);
    if (!st) st = cadp_clinical_compare(w, path, b.prob1);
    close_scores(&b);
    return st;
}

static cad_status compare_all(cad_json *j, cadp_clinical_work *w, const scores *a, const cad_flag *files)
{
    CAD_TRY(cad_json_begin(j, NULL, '['));
    for (int i = 0; i < files->count; i++) CAD_TRY(compare(j, w, a, files->values[i]));
    return cad_json_end(j);
}

static cad_status add_comparisons(cad_json *j, const cad_node *metrics, const char *comparisons, const cadp_clinical_work *w)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    for (const cad_node *n = metrics->child; n; n = n->next) CAD_TRY(cad_json_node(j, n->key, n));
    if (comparisons) CAD_TRY(cad_json_raw(j, "compare", comparisons));
    CAD_TRY(cadp_clinical_json(w, j));
    CAD_TRY(cad_json_end(j));
    return cad_str_add(&j->text, "\n", 1);
}

/* The metrics as they were written, and the comparisons below them. */
static cad_status write_comparisons(const char *path, const char *comparisons, const cadp_clinical_work *w)
{
    cad_json j = {.pretty = true};
    cad_tree *tree = NULL;
    cad_status st = cad_json_read(&tree, path, 1 << 20, CAD_EINTERNAL);

    if (!st) st = add_comparisons(&j, tree->root, comparisons, w);
    if (!st) st = cad_write_file(path, j.text.data, j.text.size);
    cad_tree_close(&tree);
    cad_json_close(&j);
    return st;
}

/* What is read, and where the files go. */
typedef struct sources { const cad_flag *predictions, *compared, *validated; const char *cohort, *log, *importance, *output; bool quiet; } sources;

static cad_status write_files(const scores *s, const char *comparisons, const cadp_clinical_work *w, const cadp_extras *x, bool quiet, const char *metrics, const char *page)
{
    cad_report report = {.title = w->page.cohort ? "Clinical report" : "Predictions", .metrics = &s->metrics, .labels = s->labels, .prob1 = s->prob1, .n = s->n, .clinical = &w->page,
                         .curves = x->shown, .curve_count = x->curves, .fields = x->field, .field_count = x->fields};

    CAD_TRY(cad_write_metrics(metrics, &s->metrics));
    CAD_TRY(write_comparisons(metrics, comparisons, w));
    CAD_TRY(cad_write_report(page, &report));
    if (quiet) {
        cad_info("clinical     %s", page);
        return CAD_OK;
    }
    cad_info("n %lld, positives %lld, AUC %.4f (95 %% %.4f to %.4f), AUPRC %.4f, Brier %.4f", (long long)s->metrics.n, (long long)s->metrics.positives, s->metrics.auc,
             s->metrics.auc_ci.low, s->metrics.auc_ci.high, s->metrics.auprc, s->metrics.brier);
    cad_info("metrics  %s\nreport   %s", metrics, page);
    return CAD_OK;
}

static cad_status write_all(const scores *s, const char *comparisons, const cadp_clinical_work *w, const cadp_extras *x, const sources *from)
{
    char *metrics = NULL, *page = NULL;
    cad_status st = cad_mkdirs(from->output);

    if (!st) st = cad_path_join(&metrics, from->output, "metrics.json");
    if (!st) st = cad_path_join(&page, from->output, "report.html");
    if (!st) st = write_files(s, comparisons, w, x, from->quiet, metrics, page);
    cad_free(&metrics);
    cad_free(&page);
    return st;
}

/* Everything is read before anything is written. */
static cad_status make_report(const sources *from)
{
    scores s = {0}, v = {0};
    cadp_clinical_work w = {0};
    cadp_extras x = {0};
    cad_json comparisons = {0};
    cad_status st = read_predictions(&s, from->predictions);

    if (!st && from->validated->given) st = read_predictions(&v, from->validated);
    if (!st) st = cadp_clinical_open(&w, &s, v.n ? &v : NULL, from->cohort);
    if (!st) st = cadp_extras_open(&x, from->log, from->importance);
    if (!st && from->compared->given) st = compare_all(&comparisons, &w, &s, from->compared);
    if (!st) st = write_all(&s, comparisons.text.data, &w, &x, from);
    cadp_clinical_close(&w);
    cadp_extras_close(&x);
    close_scores(&s);
    close_scores(&v);
    cad_json_close(&comparisons);
    return st;
}

cad_status cadp_cmd_report(cadp_call *c)
{
    return make_report(&(sources){cadp_call_flag(c, "predictions"), cadp_call_flag(c, "compare"), cadp_call_flag(c, "validation"), cadp_call_value(c, "cohort"), cadp_call_value(c, "log"),
                                  cadp_call_value(c, "importance"), cadp_call_value(c, "output"), false});
}

/* The last part of the demo, of the files that its run has written. */
cad_status cadp_report_demo(const cad_options *o)
{
    const char *none = NULL, *file;
    char *path[3] = {NULL, NULL, NULL};
    cad_flag predictions = {.given = true, .count = 1, .values = &file}, absent = {.values = &none};
    cad_status st = cad_path_join(&path[0], o->prediction_output_dir, "predictions.jsonl");

    if (!st) st = cad_path_join(&path[1], o->output_dir, "log.jsonl");
    if (!st) st = cad_path_join(&path[2], o->prediction_output_dir, "clinical");
    file = path[0];
    if (!st && cad_is_file(path[0])) st = make_report(&(sources){&predictions, &absent, &absent, "outputs/demo/people/prepared/share", cad_is_file(path[1]) ? path[1] : NULL, NULL, path[2], true});
    for (int i = 0; i < 3; i++) cad_free(&path[i]);
    return st;
}
