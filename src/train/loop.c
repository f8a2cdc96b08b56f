/* The whole training: steps, logging, evaluation, checkpoints, the end. */
#include "train_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* What has gathered since the last logged row. Rank 0. */
typedef struct since { double loss, began; int64_t steps, tokens, wire; } since;

static int64_t wire_bytes(const cad_run *r)
{
    return cad_comm_wire_bytes(r->comm, CAD_WIRE_GATHER) + cad_comm_wire_bytes(r->comm, CAD_WIRE_SCATTER) + cad_comm_wire_bytes(r->comm, CAD_WIRE_BATCH);
}

static bool ends_epoch(const cad_run *r, int64_t step) { return step % r->facts.steps_per_epoch == 0 || step == r->facts.max_steps; }

static bool due(int when, int64_t every, const cad_run *r)
{
    if (when == CAD_WHEN_STEPS) return (every > 0 && r->step % every == 0) || r->step == r->facts.max_steps; /* the last step is never without, as in the Trainer */
    return when == CAD_WHEN_EPOCH && ends_epoch(r, r->step);
}

static bool log_due(const cad_run *r)
{
    int64_t every = r->o->training.logging_steps;

    return (every > 0 && r->step % every == 0) || (r->o->training.logging_first_step && r->step == 1);
}

static cad_status log_step(cad_run *r, const cadp_step_result *s, since *g)
{
    double seconds = cad_now() - g->began, rate = seconds > 0 ? (double)g->tokens / seconds : 0;
    int64_t wire = wire_bytes(r);
    cad_number row[] = {
        {"loss", g->loss / (double)g->steps, false}, {"grad_norm", s->grad_norm, false}, {"learning_rate", s->lr, false}, {"epoch", cadp_epoch_at(r, r->step), false},
        {"step", (double)r->step, true}, {"tokens_per_second", rate, false},
        {"mfu", r->facts.peak_flops > 0 ? rate * cad_flop_per_token(&r->arch, r->params, r->facts.mean_length) / r->facts.peak_flops : NAN, false},
        {"peak_bytes", (double)cad_device_peak(r->device), true}, {"wire_bytes", (double)(wire - g->wire), true}, {"seconds", cad_now() - r->began, false}};

    *g = (since){.began = cad_now(), .wire = wire};
    if (log_due(r)) return cadp_history_row(r, r->step, row, sizeof row / sizeof *row);
    cad_log_row(r->sinks, r->step, row, sizeof row / sizeof *row); /* what is left at the end: seen, but no row of the Trainer's log */
    return CAD_OK;
}

/* ---- evaluation during training ---- */

static const char *bare(const char *metric) { return !strncmp(metric, "eval_", 5) ? metric + 5 : metric; }

static bool larger_is_better(const cad_run *r)
{
    int given = r->o->training.greater_is_better;

    return given >= 0 ? given : cad_metric_larger_is_better(bare(r->o->training.metric_for_best_model));
}

enum { EVAL_ROW = 13 };

static void eval_row(const cad_run *r, const cadp_scores *s, cad_number out[EVAL_ROW])
{
    const cad_metrics *m = &s->metrics;
    double per = s->seconds > 0 ? 1 / s->seconds : 0;
    const cad_number row[EVAL_ROW] = {{"eval_loss", m->loss, false}, {"eval_accuracy", m->accuracy, false}, {"eval_precision", m->precision, false}, {"eval_recall", m->recall, false},
                        {"eval_f1", m->f1, false}, {"eval_auc", m->auc, false}, {"eval_auprc", m->auprc, false}, {"eval_brier", m->brier, false}, {"eval_runtime", s->seconds, false},
                        {"eval_samples_per_second", (double)s->n * per, false},
                        {"eval_steps_per_second", (double)cad_ceil_div(s->n, r->o->training.per_device_eval_batch_size) * per, false}, {"epoch", cadp_epoch_at(r, r->step), false},
                        {"step", (double)r->step, true}};

    memcpy(out, row, sizeof row);
    if (cadp_is_sft(r)) { /* what a language model has none of gives way */
        out[1] = (cad_number){"eval_perplexity", exp(m->loss), false};
        out[2] = (cad_number){"eval_tokens", (double)s->tokens, true};
        memmove(out + 3, out + 8, (EVAL_ROW - 8) * sizeof *out);
    }
}

static int eval_numbers(const cad_run *r) { return cadp_is_sft(r) ? EVAL_ROW - 5 : EVAL_ROW; }

static cad_status put_evaluation(cad_run *r, const cadp_scores *s)
{
    cad_number row[EVAL_ROW];

    eval_row(r, s, row);
    CAD_TRY(cadp_history_row(r, r->step, row, eval_numbers(r)));
    return cadp_write_results(r, "eval", row, eval_numbers(r));
}

static cad_status judge(cad_run *r, const cadp_scores *s, bool *better, bool *stop)
{
    cadp_history *h = &r->history;
    int64_t patience = r->o->training.early_stopping_patience;
    double now = NAN;

    (void)cad_metrics_by_name(&s->metrics, r->o->training.metric_for_best_model, &now);
    *better = !isnan(now) && (isnan(h->best_metric) || (larger_is_better(r) ? now > h->best_metric : now < h->best_metric));
    if (*better) {
        h->best_metric = now;
        h->best_step = r->step;
    }
    h->bad_evals = *better ? 0 : h->bad_evals + 1;
    *stop = patience > 0 && h->bad_evals >= patience;
    return put_evaluation(r, s);
}

cad_status cadp_evaluate_during(cad_run *r, bool *better, bool *stop)
{
    cadp_scores s;
    bool said[2] = {false, false};
    cad_status status;

    *better = *stop = false;
    status = cadp_score(r, &r->eval, r->eval.count, false, &s);
    if (!status) status = cad_comm_agree(r->comm, r->rank ? CAD_OK : judge(r, &s, &said[0], &said[1]));
    cadp_scores_close(&s);
    if (!status) status = cad_comm_bcast(r->comm, said, sizeof said, 0);
    *better = said[0];
    *stop = said[1];
    r->history.eval_step = r->step;
    return status;
}

/* ---- the loop ---- */

/* CADTRAIN_DEBUG_ALLOC=1: a test sees that nothing is allocated between step 2 and the last one. */
static void say_allocations(const cad_run *r)
{
    const char *wanted = getenv("CADTRAIN_DEBUG_ALLOC");

    if (!wanted || strcmp(wanted, "1") || (r->step != 2 && r->step != r->facts.max_steps)) return;
    printf("allocations after step %lld: rank %d: %lld in memory, %lld on the device\n", (long long)r->step, r->rank, (long long)cad_mem_calls(), (long long)cad_device_allocs(r->device));
    fflush(stdout);
}

static cad_status after_step(cad_run *r, const cadp_step_result *s, bool *stop)
{
    const cad_options *o = r->o;
    bool better = false;

    if (r->facts.eval_rows && due(o->training.eval_strategy, o->training.eval_steps, r)) CAD_TRY(cadp_evaluate_during(r, &better, stop));
    if (due(o->training.save_strategy, o->training.save_steps, r) || (o->training.save_strategy == CAD_WHEN_BEST && better) || s->save || s->stop)
        CAD_TRY(cadp_checkpoint_save(r, better));
    else if (better && o->training.load_best_model_at_end) CAD_TRY(cadp_checkpoint_save(r, true));
    if (s->save && !r->rank) {
        char path[4096];
        if (snprintf(path, sizeof path, "%s/SAVE", o->output_dir) < (int)sizeof path) remove(path);
    }
    return CAD_OK;
}

/* 75 promises a checkpoint of this step; a disk that was full just now must not let a batch script believe in one. */
static cad_status stopped(const cad_run *r)
{
    if (r->saved_step != r->step) return cad_fail(CAD_ERESOURCE, "stopped after step %lld of %lld, and its checkpoint could not be written", (long long)r->step, (long long)r->facts.max_steps);
    return cad_fail(CAD_ESTOPPED, "stopped after step %lld of %lld; a checkpoint is written, run again with --resume-from-checkpoint auto to go on", (long long)r->step, (long long)r->facts.max_steps);
}

static cad_status loop(cad_run *r, double *mean_loss)
{
    since g = {.began = cad_now(), .wire = wire_bytes(r)};
    cad_progress bar = {0};
    int64_t first = r->step;
    bool stop = false;

    if (!r->rank) cad_progress_begin(&bar, "training", r->facts.max_steps);
    while (r->step < r->facts.max_steps && !stop) {
        cadp_step_result s;
        CAD_TRY(cadp_train_step(r, &s));
        say_allocations(r);
        r->history.flos += (double)s.tokens * cad_flop_per_token(&r->arch, r->params, r->facts.mean_length);
        r->tokens += s.tokens;
        g.loss += s.loss;
        *mean_loss += s.loss;
        g.steps++;
        g.tokens += s.tokens;
        if (!r->rank) cad_progress_at(&bar, r->step);
        if (log_due(r) || r->step == r->facts.max_steps) CAD_TRY(cad_comm_agree(r->comm, r->rank ? CAD_OK : log_step(r, &s, &g)));
        CAD_TRY(after_step(r, &s, &stop));
        if (s.stop) {
            if (!r->rank) cad_progress_end(&bar);
            return stopped(r);
        }
    }
    if (!r->rank) cad_progress_end(&bar);
    *mean_loss /= (double)cad_max(1, r->step - first);
    return CAD_OK;
}

static cad_status back_to_best(cad_run *r, bool *went)
{
    char dir[4096];
    int64_t best = r->history.best_step;

    *went = false;
    CAD_TRY(cad_comm_bcast(r->comm, &best, sizeof best, 0));
    if (!r->o->training.load_best_model_at_end || !best || best == r->step) return CAD_OK;
    if (snprintf(dir, sizeof dir, "%s/checkpoint-%lld", r->o->output_dir, (long long)best) >= (int)sizeof dir) return cad_fail(CAD_ERESOURCE, "output_dir: the path is too long");
    *went = true;
    if (!r->rank) cad_info("Loading best model from %s (%s: %.6g)", dir, r->o->training.metric_for_best_model, r->history.best_metric);
    return cadp_checkpoint_load_params(r, dir);
}

static cad_status train_results(cad_run *r, double mean_loss)
{
    double seconds = cad_now() - r->began;
    int64_t steps = r->step - r->facts.start_step;
    double rows = (double)steps * (double)(r->facts.train_rows) / (double)r->facts.steps_per_epoch;
    cad_number row[] = {{"epoch", cadp_epoch_at(r, cad_max(1, r->step)), false}, {"total_flos", r->history.flos, false}, {"train_loss", mean_loss, false}, {"train_runtime", seconds, false},
                        {"train_samples_per_second", rows / seconds, false}, {"train_steps_per_second", (double)steps / seconds, false},
                        {"train_tokens_per_second", (double)r->tokens / seconds, false}, {"step", (double)r->step, true}};

    CAD_TRY(cadp_history_row(r, r->step, row, sizeof row / sizeof *row));
    cad_print_metrics_block("train", row, 7);
    return cadp_write_results(r, "train", row, 7);
}

/* The validation rows with the model that is kept, where the last evaluation was of another: what eval_results.json says in the end. */
static cad_status evaluate_kept(cad_run *r, bool is_best)
{
    cad_number row[EVAL_ROW];
    cadp_scores s;
    cad_status status;

    if (r->o->training.eval_strategy == CAD_WHEN_NO || !r->facts.eval_rows || (r->history.eval_step == r->step && !is_best)) return CAD_OK;
    if (!(status = cadp_score(r, &r->eval, r->eval.count, false, &s)) && !r->rank) {
        eval_row(r, &s, row);
        cad_print_metrics_block("eval", row, eval_numbers(r) - 1);
        status = cadp_write_results(r, "eval", row, eval_numbers(r));
    }
    cadp_scores_close(&s);
    return cad_comm_agree(r->comm, status);
}

/* Rank 0. The rows that chose the best checkpoint flatter it. */
static void say_what_is_tested(cad_run *r)
{
    const char *held = "Scored on the validation rows, as no test_file is given", *chosen = r->history.best_step && r->o->training.load_best_model_at_end ? ": the best checkpoint was chosen on them, so the figures are somewhat too good" : "";

    if (r->rank || r->test.count || !r->eval.count) return;
    cad_info("%s%s", held, chosen);
    if (cad_str_addf(&r->notes, "%s%s.\n", held, chosen)) cad_clear();
}

static cad_status test(cad_run *r)
{
    const cadp_set *set = r->test.count ? &r->test : &r->eval;
    int64_t count = set->count;
    cadp_scores s;
    cad_status status;

    CAD_TRY(cad_comm_bcast(r->comm, &count, sizeof count, 0));
    if (!r->o->training.run_test_after_train || !count) return CAD_OK;
    say_what_is_tested(r);
    if (cadp_is_sft(r)) return cadp_sft_finish(r, r->o->prediction_output_dir);
    if (!(status = cadp_score(r, set, count, true, &s))) status = cad_comm_agree(r->comm, r->rank ? CAD_OK : cadp_write_predictions(r, r->o->prediction_output_dir, set, &s));
    if (!status && !r->rank) status = cad_str_addf(&r->results, "| %s | %lld records: AUC %.4f, AUPRC %.4f, accuracy %.4f, F1 %.4f, Brier %.4f |\n", r->test.count ? "test" : "held-out records", (long long)s.n, s.metrics.auc,
                                                   s.metrics.auprc, s.metrics.accuracy, s.metrics.f1, s.metrics.brier);
    if (!status && !r->rank) cad_info("test: %lld records, AUC %.4f, accuracy %.4f, Brier %.4f", (long long)s.n, s.metrics.auc, s.metrics.accuracy, s.metrics.brier);
    cadp_scores_close(&s);
    return status;
}

static cad_status write_final(cad_run *r)
{
    char path[4096];

    if (r->rank) return CAD_OK;
    if (snprintf(path, sizeof path, "%s/trainer_state.json", r->o->output_dir) >= (int)sizeof path) return cad_fail(CAD_ERESOURCE, "output_dir: the path is too long");
    CAD_TRY(cadp_write_trainer_state(r, path, false));
    return cadp_write_run_json(r);
}

static void say_where(const cad_run *r)
{
    char link[4096];
    bool tested = r->o->training.run_test_after_train && (r->test.count || r->eval.count);

    cad_info("model        %s", r->o->output_dir);
    if (snprintf(link, sizeof link, "%s/last", r->o->output_dir) < (int)sizeof link && cad_is_dir(link)) cad_info("checkpoint   %s", link);
    if (!tested) return;
    cad_info("metrics      %s/metrics.json", r->o->prediction_output_dir);
    if (!cadp_is_sft(r)) cad_info("predictions  %s/predictions.jsonl", r->o->prediction_output_dir);
    else if (r->facts.samples) cad_info("samples      %s/samples.jsonl", r->o->prediction_output_dir);
    cad_info("report       %s/report.html", r->o->prediction_output_dir);
}

static bool reports_to(const cad_run *r, const char *sink)
{
    for (int i = 0; i < r->o->runtime.report_to.count; i++)
        if (!strcmp(r->o->runtime.report_to.word[i], sink)) return true;
    return false;
}

/* log.jsonl is always written: other programs read it. */
static cad_status open_sinks(cad_run *r)
{
    cad_sink_options s = {.output_dir = r->o->output_dir, .logging_dir = r->o->logging_dir, .jsonl = true, .csv = reports_to(r, "csv"), .tensorboard = reports_to(r, "tensorboard"),
                          .console = true, .append = r->resume_dir != NULL};

    if (r->rank) return CAD_OK;
    CAD_TRY(cadp_output_clear(r));
    return cad_log_sinks_open(&r->sinks, &s, r->facts.start_step);
}

static cad_status finish(cad_run *r, double mean_loss)
{
    bool went;

    CAD_TRY(cad_comm_agree(r->comm, r->rank ? CAD_OK : train_results(r, mean_loss)));
    CAD_TRY(back_to_best(r, &went));
    CAD_TRY(cadp_write_model(r, r->o->output_dir));
    CAD_TRY(cad_comm_agree(r->comm, write_final(r)));
    CAD_TRY(evaluate_kept(r, went));
    CAD_TRY(test(r));
    CAD_TRY(cad_comm_agree(r->comm, r->results.size ? cadp_write_card(r, r->o->output_dir) : CAD_OK)); /* again, now that they are known */
    if (!r->rank) say_where(r);
    return CAD_OK;
}

cad_status cad_run_train(cad_run *r)
{
    double mean_loss = 0;

    CAD_TRY(cad_comm_agree(r->comm, open_sinks(r)));
    cadp_say_start(r);
    CAD_TRY(cadp_say_memory(r));
    if (cadp_is_sft(r)) CAD_TRY(cadp_sft_before(r));
    r->began = cad_now();
    CAD_TRY(loop(r, &mean_loss));
    return finish(r, mean_loss);
}

cad_status cad_run_evaluate(cad_run *r)
{
    const cadp_set *set = r->test.count ? &r->test : &r->eval;
    cadp_scores s;
    cad_status status;

    if (cadp_is_sft(r)) return cadp_sft_finish(r, r->o->prediction_output_dir);
    if (!(status = cadp_score(r, set, set->count, true, &s))) status = cad_comm_agree(r->comm, r->rank ? CAD_OK : cadp_write_predictions(r, r->o->prediction_output_dir, set, &s));
    if (!status && !r->rank) {
        cad_number row[] = {{"n", (double)s.n, true}, {"accuracy", s.metrics.accuracy, false}, {"precision", s.metrics.precision, false}, {"recall", s.metrics.recall, false},
                            {"f1", s.metrics.f1, false}, {"auc", s.metrics.auc, false}, {"auprc", s.metrics.auprc, false}, {"brier", s.metrics.brier, false}};
        cad_info("Device memory: %lld bytes at most, %lld planned", (long long)cad_device_peak(r->device), (long long)r->planned);
        cad_print_metrics_block("eval", row, sizeof row / sizeof *row);
        cad_info("metrics      %s/metrics.json", r->o->prediction_output_dir);
        cad_info("predictions  %s/predictions.jsonl", r->o->prediction_output_dir);
        cad_info("report       %s/report.html", r->o->prediction_output_dir);
    }
    cadp_scores_close(&s);
    return status;
}
