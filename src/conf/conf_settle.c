/* What follows from several options together, once all sources are in. */
#include "conf_priv.h"

#include <stdio.h>

/* The numbers of cad_schedule_kind that matter here (test_table.c compares them). */
enum { COSINE = 1, RESTARTS = 2, WITH_MIN_LR = 7, WARMUP_WITH_MIN_LR = 8 };

static const cadp_origin *origin_of(const cad_config *c, size_t at) { return &c->origin[cadp_conf_row_of(at)]; }

static bool is_given(const cad_config *c, size_t at) { return origin_of(c, at)->level > CADP_DEFAULT; }

/* "file:line:column: section.key", "--flag", or "section.key" of a default. */
static void place_of(const cad_config *c, size_t at, char *out, size_t room)
{
    const cadp_row *row = &cadp_conf_rows[cadp_conf_row_of(at)];
    const cadp_origin *origin = origin_of(c, at);
    const char *where = origin->where ? origin->where : "";

    if (origin->level >= CADP_ENVIRONMENT && !strchr(where, ':')) snprintf(out, room, "%s", where);
    else snprintf(out, room, "%s%s%s%s%s", where, *where ? ": " : "", row->in, *row->in ? "." : "", row->key);
}

static cad_status object(cad_config *c, size_t at, const char *sentence)
{
    char place[640];

    place_of(c, at, place, sizeof place);
    return cadp_conf_mistake(c, "%s: %s", place, sentence);
}

static cad_status check_model(cad_config *c)
{
    const cad_options *o = &c->options;

    if (o->model.trust_remote_code)
        CAD_TRY(object(c, offsetof(cad_options, model.trust_remote_code), "expected false, found true: code that comes with a model is never run"));
    if (o->model.load_in_4bit && o->model.load_in_8bit)
        CAD_TRY(object(c, offsetof(cad_options, model.load_in_8bit), "expected load_in_4bit or load_in_8bit, found both"));
    if (o->task.task_name != CAD_TASK_BINARY) return CAD_OK;
    if (o->model.num_labels != 2) CAD_TRY(object(c, offsetof(cad_options, model.num_labels), "expected 2 for binary_classification"));
    if (o->task.num_labels != 2) CAD_TRY(object(c, offsetof(cad_options, task.num_labels), "expected 2 for binary_classification"));
    return CAD_OK;
}

static cad_status check_schedule(cad_config *c)
{
    const cad_options *o = &c->options;
    bool low = o->training.min_lr >= 0, share = o->training.min_lr_rate >= 0;

    if (o->training.lr_scheduler_type != WITH_MIN_LR && o->training.lr_scheduler_type != WARMUP_WITH_MIN_LR) return CAD_OK;
    if (low == share)
        return object(c, offsetof(cad_options, training.lr_scheduler_type),
                      low ? "expected lr_scheduler_kwargs.min_lr or min_lr_rate beside it, found both"
                          : "expected lr_scheduler_kwargs.min_lr or min_lr_rate beside it, found neither");
    return CAD_OK;
}

static cad_status check_training(cad_config *c)
{
    const cad_options *o = &c->options;

    if (o->training.fp16)
        CAD_TRY(object(c, offsetof(cad_options, training.fp16), "expected false, found true: fp16 training is not offered; use bf16"));
    if (o->runtime.zero_stage == 1)
        CAD_TRY(object(c, offsetof(cad_options, runtime.zero_stage), "expected 0, 2 or 3, found 1: stage 2 computes the same with less memory"));
    if (o->dataset.class_weights.mode == CAD_WEIGHTS_MANUAL && !is_given(c, offsetof(cad_options, dataset.class_weights.values)))
        CAD_TRY(object(c, offsetof(cad_options, dataset.class_weights.mode), "manual needs dataset.class_weights.values, a list of two numbers"));
    return check_schedule(c);
}

/* Wanting the best model, or to stop early, needs evaluations. Whoever switched these off with a higher source switched the wish off too. */
static cad_status check_evaluation(cad_config *c, size_t at, void (*off)(cad_options *o), const char *name)
{
    char sentence[160];

    if (origin_of(c, offsetof(cad_options, training.eval_strategy))->level > origin_of(c, at)->level) {
        off(&c->options);
        return cadp_conf_note(c, "training.%s is off, because training.eval_strategy is no", name);
    }
    snprintf(sentence, sizeof sentence, "%s needs training.eval_strategy steps or epoch, found no", name);
    return object(c, at, sentence);
}

static void keep_last(cad_options *o) { o->training.load_best_model_at_end = false; }
static void run_on(cad_options *o) { o->training.early_stopping_patience = 0; }
static void save_none(cad_options *o) { o->training.save_strategy = CAD_WHEN_NO; }

static cad_status check_evaluations(cad_config *c)
{
    const cad_options *o = &c->options;

    if (o->training.eval_strategy != CAD_WHEN_NO) return CAD_OK;
    if (o->training.load_best_model_at_end)
        CAD_TRY(check_evaluation(c, offsetof(cad_options, training.load_best_model_at_end), keep_last, "load_best_model_at_end"));
    if (o->training.early_stopping_patience > 0)
        CAD_TRY(check_evaluation(c, offsetof(cad_options, training.early_stopping_patience), run_on, "early_stopping_patience"));
    if (o->training.save_strategy == CAD_WHEN_BEST)
        CAD_TRY(check_evaluation(c, offsetof(cad_options, training.save_strategy), save_none, "save_strategy best"));
    return CAD_OK;
}

static cad_status settle_resume(cad_options *o)
{
    char **resume = &o->training.resume_from_checkpoint;

    if (!*resume) return CAD_OK;
    if (!strcmp(*resume, "none") || !strcmp(*resume, "false")) cad_free(resume);
    else if (!strcmp(*resume, "true")) return cadp_conf_store_text(resume, "last", 4);
    return CAD_OK;
}

cad_status cadp_conf_settle(cad_config *c)
{
    cad_options *o = &c->options;

    CAD_TRY(check_model(c));
    CAD_TRY(check_training(c));
    CAD_TRY(check_evaluations(c));
    CAD_TRY(settle_resume(o));
    if (!o->training.eval_steps && o->training.eval_strategy == CAD_WHEN_STEPS) o->training.eval_steps = o->training.logging_steps;
    if (o->training.lr_num_cycles < 0) o->training.lr_num_cycles = o->training.lr_scheduler_type == RESTARTS ? 1 : 0.5;
    if (o->model.model_name_or_path || o->dataset.train_file) o->demo = false;
    /* The demo may be run again and again, in the folder that it chose itself. */
    if (o->demo && !o->output_dir && !o->training.resume_from_checkpoint && !is_given(c, offsetof(cad_options, training.overwrite_output_dir)))
        o->training.overwrite_output_dir = true;
    return CAD_OK;
}
