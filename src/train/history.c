/* The log of a run as Transformers keeps it: trainer_state.json; and curves for the report. Rank 0. */
#include "train_priv.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char *const cadp_curve_names[CADP_CURVES] = {"loss", "eval_loss", "learning_rate", "grad_norm", "eval_auc"};

double cadp_epoch_at(const cad_run *r, int64_t step)
{
    int64_t epoch, in, done;

    if (step < 1 || r->facts.steps_per_epoch < 1) return 0;
    epoch = (step - 1) / r->facts.steps_per_epoch;
    in = (step - 1) % r->facts.steps_per_epoch + 1;
    done = cad_min(in * r->o->training.gradient_accumulation_steps, r->facts.batches_per_rank);
    return (double)epoch + (double)done / (double)cad_max(1, r->facts.batches_per_rank);
}

/* ---- curves ---- */

static cad_status add_point(cadp_history *h, const char *name, double step, double value)
{
    for (int i = 0; i < CADP_CURVES; i++) {
        if (strcmp(cadp_curve_names[i], name)) continue;
        if (h->curve_n[i] == h->curve_room[i]) {
            size_t room = 2 * (size_t)h->curve_room[i] + 256;
            CAD_TRY(cad_grow(&h->curve_step[i], room, sizeof *h->curve_step[i], "a curve"));
            CAD_TRY(cad_grow(&h->curve[i], room, sizeof *h->curve[i], "a curve"));
            h->curve_room[i] = (int64_t)room;
        }
        h->curve_step[i][h->curve_n[i]] = step;
        h->curve[i][h->curve_n[i]++] = value;
    }
    return CAD_OK;
}

/* ---- rows ---- */

/* What the Trainer's log has; our own numbers (tokens_per_second, …) are in log.jsonl. */
static bool in_log_history(const char *name)
{
    static const char *const names[] = {"loss", "grad_norm", "learning_rate", "epoch", "total_flos", "num_input_tokens_seen"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], name)) return true;
    return !strncmp(name, "eval_", 5) || !strncmp(name, "train_", 6);
}

static int by_name(const void *a, const void *b)
{
    const cad_number *x = a, *y = b;

    return strcmp(x->name, y->name);
}

static cad_status add_value(cad_str *s, const char *name, double value, bool integer, bool first)
{
    char text[32];

    if (integer) snprintf(text, sizeof text, "%" PRId64, (int64_t)value);
    else cad_format_real(text, value);
    return cad_str_addf(s, "%s\n      \"%s\": %s", first ? "" : ",", name, text);
}

/* Keys sorted, two spaces: as json.dumps(indent=2, sort_keys=True) would. The numbers are sorted already and end with the step. */
static cad_status add_row(cadp_history *h, const cad_number *sorted, int count)
{
    CAD_TRY(cad_str_addf(&h->rows, h->count ? ",\n    {" : "{"));
    for (int i = 0; i < count; i++) CAD_TRY(add_value(&h->rows, sorted[i].name, sorted[i].value, sorted[i].integer, !i));
    CAD_TRY(cad_str_addf(&h->rows, "\n    }"));
    h->count++;
    return CAD_OK;
}

static cad_status keep_row(cadp_history *h, int64_t step, cad_number *row, int count)
{
    for (int i = 0; i < count; i++) CAD_TRY(add_point(h, row[i].name, (double)step, row[i].value));
    row[count++] = (cad_number){"step", (double)step, true};
    qsort(row, (size_t)count, sizeof *row, by_name);
    return add_row(h, row, count);
}

cad_status cadp_history_row(cad_run *r, int64_t step, const cad_number *numbers, int count)
{
    cad_number *row;
    int kept = 0;
    cad_status status;

    cad_log_row(r->sinks, step, numbers, count);
    CAD_TRY(cad_alloc(&row, (size_t)count + 1, sizeof *row, "a row of the log"));
    for (int i = 0; i < count; i++)
        if (in_log_history(numbers[i].name)) row[kept++] = numbers[i];
    status = keep_row(&r->history, step, row, kept);
    cad_free(&row);
    return status;
}

void cadp_history_close(cad_run *r)
{
    cadp_history *h = &r->history;

    cad_str_close(&h->rows);
    for (int i = 0; i < CADP_CURVES; i++) {
        cad_free(&h->curve_step[i]);
        cad_free(&h->curve[i]);
    }
}

/* ---- trainer_state.json ---- */

/* saving: a checkpoint of this step is being made. */
static cad_status put_best(cad_json *j, const cad_run *r, bool saving)
{
    const cadp_history *h = &r->history;
    char path[4096];
    bool there = h->best_step && snprintf(path, sizeof path, "%s/checkpoint-%" PRId64, r->o->output_dir, h->best_step) < (int)sizeof path && ((saving && h->best_step == r->step) || cad_is_dir(path));

    CAD_TRY(h->best_step ? cad_json_int(j, "best_global_step", h->best_step) : cad_json_null(j, "best_global_step"));
    CAD_TRY(h->best_step ? cad_json_real(j, "best_metric", h->best_metric) : cad_json_null(j, "best_metric"));
    return cad_json_string(j, "best_model_checkpoint", there ? path : NULL);
}

static cad_status put_callbacks(cad_json *j, const cad_run *r)
{
    CAD_TRY(cad_json_begin(j, "stateful_callbacks", '{'));
    if (r->o->training.early_stopping_patience > 0) {
        CAD_TRY(cad_json_begin(j, "EarlyStoppingCallback", '{'));
        CAD_TRY(cad_json_begin(j, "args", '{'));
        CAD_TRY(cad_json_int(j, "early_stopping_patience", r->o->training.early_stopping_patience));
        CAD_TRY(cad_json_real(j, "early_stopping_threshold", 0));
        CAD_TRY(cad_json_end(j));
        CAD_TRY(cad_json_begin(j, "attributes", '{'));
        CAD_TRY(cad_json_int(j, "early_stopping_patience_counter", r->history.bad_evals));
        CAD_TRY(cad_json_end(j));
        CAD_TRY(cad_json_end(j));
    }
    return cad_json_end(j);
}

static cad_status put_rows(cad_json *j, const cadp_history *h)
{
    CAD_TRY(cad_json_begin(j, "log_history", '['));
    if (h->count) CAD_TRY(cad_json_raw(j, NULL, h->rows.data));
    return cad_json_end(j);
}

static cad_status put_state(cad_json *j, const cad_run *r, bool saving)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(put_best(j, r, saving));
    CAD_TRY(cad_json_real(j, "epoch", cadp_epoch_at(r, r->step)));
    CAD_TRY(cad_json_int(j, "eval_steps", r->o->training.eval_steps ? r->o->training.eval_steps : 500));
    CAD_TRY(cad_json_int(j, "global_step", r->step));
    CAD_TRY(cad_json_bool(j, "is_hyper_param_search", false));
    CAD_TRY(cad_json_bool(j, "is_local_process_zero", true));
    CAD_TRY(cad_json_bool(j, "is_world_process_zero", true));
    CAD_TRY(put_rows(j, &r->history));
    CAD_TRY(cad_json_int(j, "logging_steps", r->o->training.logging_steps));
    CAD_TRY(cad_json_int(j, "max_steps", r->facts.max_steps));
    CAD_TRY(cad_json_int(j, "num_input_tokens_seen", 0));
    CAD_TRY(cad_json_int(j, "num_train_epochs", r->facts.epochs));
    CAD_TRY(cad_json_int(j, "save_steps", r->o->training.save_steps));
    CAD_TRY(put_callbacks(j, r));
    CAD_TRY(cad_json_real(j, "total_flos", r->history.flos));
    CAD_TRY(cad_json_int(j, "train_batch_size", r->o->training.per_device_train_batch_size));
    CAD_TRY(cad_json_null(j, "trial_name"));
    CAD_TRY(cad_json_null(j, "trial_params"));
    CAD_TRY(cad_json_end(j));
    return cad_str_add(&j->text, "\n", 1);
}

cad_status cadp_write_trainer_state(const cad_run *r, const char *path, bool saving)
{
    cad_json j = {.pretty = true};
    cad_status status = put_state(&j, r, saving);

    if (!status) status = cad_write_file(path, j.text.data, j.text.size);
    cad_json_close(&j);
    return status;
}

/* ---- reading it back ---- */

static cad_status read_row(cad_run *r, const cad_node *row, const char *path)
{
    cad_number *numbers;
    int64_t step;
    int count = 0;
    cad_status status = CAD_OK;

    if (!cad_get_int(row, "step", &step, -1) || step < 0) return cad_fail(CAD_ECHECKPOINT, "%s:%d:%d: expected a row with a \"step\"", path, row->line, row->column);
    if (step > r->facts.start_step) return CAD_OK;
    CAD_TRY(cad_alloc(&numbers, (size_t)row->children + 1, sizeof *numbers, "a row of the log"));
    for (const cad_node *n = row->child; n && !status; n = n->next) {
        if (!strcmp(n->key, "step")) continue;
        if (n->kind != CAD_INT && n->kind != CAD_REAL) status = cad_fail(CAD_ECHECKPOINT, "%s:%d:%d: expected a number, found %s", path, n->line, n->column, cad_kind_name(n->kind));
        else numbers[count++] = (cad_number){n->key, n->real, n->kind == CAD_INT};
    }
    if (!status) status = keep_row(&r->history, step, numbers, count);
    cad_free(&numbers);
    return status;
}

static cad_status read_state(cad_run *r, const cad_node *root, const char *path)
{
    const cad_node *rows = cad_get(root, "log_history");
    const cad_node *stopping = cad_get(cad_get(cad_get(root, "stateful_callbacks"), "EarlyStoppingCallback"), "attributes");
    cadp_history *h = &r->history;

    if (!rows || rows->kind != CAD_LIST) return cad_fail(CAD_ECHECKPOINT, "%s: expected a list \"log_history\"", path);
    if (!cad_get_real(root, "total_flos", &h->flos, 0) || !cad_get_int(root, "best_global_step", &h->best_step, 0) || !cad_get_real(root, "best_metric", &h->best_metric, NAN) ||
        !cad_get_int(stopping, "early_stopping_patience_counter", &h->bad_evals, 0))
        return cad_fail(CAD_ECHECKPOINT, "%s: expected numbers in total_flos, best_global_step, best_metric", path);
    for (const cad_node *n = rows->child; n; n = n->next) CAD_TRY(read_row(r, n, path));
    return CAD_OK;
}

cad_status cadp_read_trainer_state(cad_run *r, const char *path)
{
    cad_tree *tree = NULL;
    cad_status status;

    cadp_history_close(r);
    r->history = (cadp_history){.best_metric = NAN};
    CAD_TRY(cad_json_read(&tree, path, 256 << 20, CAD_ECHECKPOINT));
    status = read_state(r, tree->root, path);
    cad_tree_close(&tree);
    return status;
}
