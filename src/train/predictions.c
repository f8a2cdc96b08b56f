/* What scoring leaves in a folder: metrics.json, predictions.jsonl, report.html. Rank 0. */
#include "train_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- predictions.jsonl ---- */

typedef struct place { int64_t row, at; } place;

static int by_row(const void *a, const void *b)
{
    const place *x = a, *y = b;

    return x->row != y->row ? (x->row > y->row) - (x->row < y->row) : (x->at > y->at) - (x->at < y->at);
}

/* Scored rows in the order of the file. */
static cad_status file_order(place **out, const cadp_set *set, int64_t n)
{
    CAD_TRY(cad_alloc(out, (size_t)n, sizeof **out, "the order of predictions"));
    for (int64_t i = 0; i < n; i++) (*out)[i] = (place){set->rows[i], i};
    qsort(*out, (size_t)n, sizeof **out, by_row);
    return CAD_OK;
}

static bool is_taken(const char *column)
{
    static const char *const names[] = {"index", "label", "prediction", "positive_probability", "logits"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], column)) return true;
    return false;
}

static cad_status put_cell(cad_json *j, const char *name, const cad_cell *c)
{
    switch (c->kind) {
    case CAD_CELL_MISSING: return CAD_OK;
    case CAD_CELL_NULL: return cad_json_null(j, name);
    case CAD_CELL_TEXT: return cad_json_bytes(j, name, c->text, c->size);
    case CAD_CELL_BOOL: return cad_json_bool(j, name, c->integer != 0);
    case CAD_CELL_INT:
    case CAD_CELL_REAL:
    case CAD_CELL_JSON: return cad_json_raw(j, name, c->text);
    }
    return CAD_OK;
}

/* The row's other columns; one whose name is ours already is set apart. */
static cad_status put_columns(cad_json *j, const cad_run *r, const cad_rows *rows, int64_t row)
{
    const cad_options *o = r->o;
    cad_str name = {0};
    cad_status status = CAD_OK;

    for (int c = 0; c < cad_rows_columns(rows) && !status; c++) {
        const char *column = cad_rows_column(rows, c);
        cad_cell cell = cad_rows_cell(rows, row, c);
        bool input = o->task.input_column && !strcmp(column, o->task.input_column), label = o->task.label_column && !strcmp(column, o->task.label_column);
        if (label || (input && !o->predictions_include_input)) continue;
        name.size = 0;
        status = cad_str_addf(&name, "%s%s", is_taken(column) ? "column_" : "", column);
        if (!status) status = put_cell(j, name.data, &cell);
    }
    cad_str_close(&name);
    return status;
}

static cad_status put_line(cad_json *j, const cad_run *r, const cadp_set *set, const cadp_scores *s, int64_t at)
{
    int64_t row = set->rows[at];
    int labels = r->method.num_labels;

    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_int(j, "index", row));
    CAD_TRY(s->labels[at] < 0 ? cad_json_null(j, "label") : cad_json_int(j, "label", s->labels[at]));
    CAD_TRY(cad_json_int(j, "prediction", s->predictions[at]));
    CAD_TRY(cad_json_real(j, "positive_probability", s->prob1[at]));
    CAD_TRY(cad_json_begin(j, "logits", '['));
    for (int i = 0; i < labels; i++) CAD_TRY(cad_json_real(j, NULL, (double)s->logits[at * labels + i]));
    CAD_TRY(cad_json_end(j));
    if (set->data->rows_file) CAD_TRY(put_columns(j, r, set->data->rows_file, row));
    return cad_json_end(j);
}

cad_status cadp_predictions_text(const cad_run *r, const cadp_set *set, const cadp_scores *s, cad_str *out)
{
    place *order;
    cad_status status;

    CAD_TRY(file_order(&order, set, s->n));
    status = cad_str_add(out, "", 0);
    for (int64_t i = 0; i < s->n && !status; i++) {
        cad_json j = {0};
        status = put_line(&j, r, set, s, order[i].at);
        if (!status) status = cad_str_add(out, j.text.data, j.text.size);
        if (!status) status = cad_str_add(out, "\n", 1);
        cad_json_close(&j);
    }
    cad_free(&order);
    return status;
}

/* ---- report.html ---- */

enum { MOST_NOTES = 64 };

/* Lines of r->notes, cut where they end. */
static int split_notes(char *text, const char **out)
{
    int n = 0;

    for (char *line = text; line && *line && n < MOST_NOTES;) {
        char *end = strchr(line, '\n');
        if (end) *end = 0;
        if (*line) out[n++] = line;
        line = end ? end + 1 : NULL;
    }
    return n;
}

static int curves_of(const cadp_history *h, cad_curve *out)
{
    int n = 0;

    for (int i = 0; i < CADP_CURVES; i++)
        if (h->curve_n[i]) out[n++] = (cad_curve){cadp_curve_names[i], h->curve_step[i], h->curve[i], h->curve_n[i]};
    return n;
}

static int facts_of(const cad_run *r, const cadp_scores *s, cad_number *out)
{
    int n = 0;

    out[n++] = (cad_number){"records scored", (double)s->n, true};
    out[n++] = (cad_number){"seconds of scoring", s->seconds, false};
    if (s->seconds > 0) out[n++] = (cad_number){"records per second", (double)s->n / s->seconds, false};
    if (r->params) out[n++] = (cad_number){"trainable parameters", (double)r->params->trainable, true};
    if (r->params) out[n++] = (cad_number){"all parameters", (double)r->params->all, true};
    if (r->facts.train_rows) out[n++] = (cad_number){"training rows", (double)r->facts.train_rows, true};
    if (r->step) out[n++] = (cad_number){"optimizer steps", (double)r->step, true};
    if (r->facts.max_steps) out[n++] = (cad_number){"planned steps", (double)r->facts.max_steps, true};
    out[n++] = (cad_number){"ranks", (double)r->size, true};
    return n;
}

cad_status cadp_write_page(const cad_run *r, const char *path, cad_report *page)
{
    const char *notes[MOST_NOTES];
    cad_curve curves[CADP_CURVES];
    char *text;
    cad_status status;

    CAD_TRY(cad_strdup(&text, r->notes.data ? r->notes.data : ""));
    if (r->o->experiment_name && *r->o->experiment_name) page->title = r->o->experiment_name;
    page->curves = curves;
    page->curve_count = curves_of(&r->history, curves);
    page->notes = notes;
    page->note_count = split_notes(text, notes);
    status = cad_write_report(path, page);
    cad_free(&text);
    return status;
}

static cad_status write_report(const cad_run *r, const char *path, const cadp_scores *s, bool labelled)
{
    cad_number facts[16];
    cad_report page = {.title = "Coronary artery disease from records", .metrics = labelled ? &s->metrics : NULL, .labels = labelled ? s->labels : NULL, .prob1 = labelled ? s->prob1 : NULL,
                       .n = s->n, .facts = facts, .fact_count = facts_of(r, s, facts)};

    return cadp_write_page(r, path, &page);
}

/* ---- the folder ---- */

static cad_status write_text(const cad_run *r, const char *path, const cadp_set *set, const cadp_scores *s)
{
    cad_str text = {0};
    cad_status status = cadp_predictions_text(r, set, s, &text);

    if (!status) status = cad_write_file(path, text.data, text.size);
    cad_str_close(&text);
    return status;
}

static cad_status no_folder(void) { return cad_fail(CAD_EUSAGE, "prediction_output_dir: expected a folder, found none"); }

static bool all_labelled(const cadp_scores *s)
{
    for (int64_t i = 0; i < s->n; i++)
        if (s->labels[i] < 0) return false;
    return s->n > 0;
}

cad_status cadp_write_predictions(cad_run *r, const char *dir, const cadp_set *set, const cadp_scores *s)
{
    char *metrics = NULL, *lines = NULL, *page = NULL;
    bool labelled = all_labelled(s);
    cad_status status;

    if (!dir) return no_folder();
    CAD_TRY(cad_mkdirs(dir));
    if (!(status = cad_path_join(&metrics, dir, "metrics.json")) && !(status = cad_path_join(&lines, dir, "predictions.jsonl")) && !(status = cad_path_join(&page, dir, "report.html")) &&
        !(status = write_text(r, lines, set, s)) && !(status = labelled ? cad_write_metrics(metrics, &s->metrics) : CAD_OK))
        status = write_report(r, page, s, labelled);
    cad_free(&metrics);
    cad_free(&lines);
    cad_free(&page);
    return status;
}

/* ---- predict ---- */

static cad_status write_stdout(const cad_str *text)
{
    if (fwrite(text->data, 1, text->size, stdout) == text->size && !fflush(stdout)) return CAD_OK;
    return cad_fail(CAD_ERESOURCE, "standard output: cannot write: %s", strerror(errno));
}

static cad_status write_named(const cad_run *r, const char *output, const cad_str *text)
{
    char *path = NULL;
    cad_status status;

    if (output && !strcmp(output, "-")) return write_stdout(text);
    if (!output && !r->o->prediction_output_dir) return no_folder();
    if (!output) CAD_TRY(cad_mkdirs(r->o->prediction_output_dir));
    CAD_TRY(output ? cad_strdup(&path, output) : cad_path_join(&path, r->o->prediction_output_dir, "predictions.jsonl"));
    status = cad_write_file(path, text->data, text->size);
    if (!status) cad_info("predictions  %s", path);
    cad_free(&path);
    return status;
}

static cad_status write_scored(const cad_run *r, const char *output, const cadp_scores *s)
{
    cad_str text = {0};
    cad_status status = cadp_predictions_text(r, &r->test, s, &text);

    if (!status) status = write_named(r, output, &text);
    cad_str_close(&text);
    return status;
}

cad_status cad_run_predict(cad_run *r, const char *output)
{
    cadp_scores s;
    cad_status status = cadp_score(r, &r->test, r->test.count, false, &s);

    if (!status) status = cad_comm_agree(r->comm, r->rank ? CAD_OK : write_scored(r, output, &s));
    cadp_scores_close(&s);
    return status;
}
