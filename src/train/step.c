/* One optimizer step: reads like the algorithm. The loop does not know the ZeRO stage. */
#include "train_priv.h"

#include <math.h>
#include <stdio.h>

static cad_model_batch model_batch(const cad_run *r, const cad_batch *b)
{
    int32_t longest = 0;

    for (int32_t i = 0; i < b->head->sequences; i++) longest = (int32_t)cad_max(longest, b->starts[i + 1] - b->starts[i]);
    return (cad_model_batch){.tokens = b->head->tokens, .sequences = b->head->sequences, .longest = longest, .ids = b->ids, .starts = b->starts, .labels = b->labels,
                             .weights = b->weights, .targets = r->targets, .target_weights = r->target_weights, .beside = b->beside, .scale = b->head->scale, .seed_index = (uint64_t)b->head->seed_index, .slots = r->at_slots, .past = r->at_past};
}

int64_t cadp_learned(const cad_run *r, int64_t tokens, const uint8_t *given)
{
    int64_t n = cad_max(0, tokens - 1);

    for (int64_t t = 1; t < tokens && r->o->task.completion_only_loss; t++) n -= given[t];
    return n;
}

/* Each token is to predict the one behind it; the last of a sequence predicts nothing, and given tokens are not learned. */
void cadp_set_targets(cad_run *r, const cad_batch *b)
{
    bool answers = cadp_is_sft(r) && r->o->task.completion_only_loss;

    for (int32_t s = 0; s < b->head->sequences; s++) {
        int32_t end = b->starts[s + 1];
        for (int32_t t = b->starts[s]; t < end; t++) {
            r->targets[t] = t + 1 < end && !(answers && b->given[t + 1]) ? b->ids[t + 1] : -1;
            r->target_weights[t] = 1;
        }
    }
}

static bool is_empty(const cad_batch *b) { return !b || !b->head->sequences; }

cad_status cadp_forward(cad_run *r, const cad_batch *b, bool training)
{
    cad_model_batch m;

    if (is_empty(b)) return cad_walk_forward(r->zero, r->model, r->params->units, NULL, training);
    m = model_batch(r, b);
    if (r->method.causal && !r->at_slots) cadp_set_targets(r, b);
    return cad_walk_forward(r->zero, r->model, r->params->units, &m, training);
}

cad_status cadp_backward(cad_run *r, const cad_batch *b) { return cad_walk_backward(r->zero, r->model, r->params->units, is_empty(b)); }

/* The atom's share of the step's loss: scale * sum of weight * nll, in row order. */
static cad_status atom_loss(cad_run *r, const cad_batch *b, double *out)
{
    *out = 0;
    CAD_TRY(cad_model_nll(r->model, r->nll));
    if (r->method.causal) {
        const double *nll = r->nll;
        for (int32_t t = 0; t < b->head->tokens; t++)
            if (r->targets[t] >= 0) *out += *nll++;
    }
    for (int32_t i = 0; !r->method.causal && i < b->head->sequences; i++) *out += (double)b->weights[i] * r->nll[i];
    *out *= b->head->scale;
    return CAD_OK;
}

static cad_status bad_loss(cad_run *r, int64_t step, const cad_batch *b)
{
    char rows[256];
    int n = 0;

    for (int32_t i = 0; i < b->head->sequences && n < (int)sizeof rows - 16; i++) n += snprintf(rows + n, sizeof rows - (size_t)n, "%s%d", i ? ", " : "", b->rows[i]);
    (void)r;
    return cad_fail(CAD_EINTERNAL, "the loss is not finite at step %lld: records %s%s of the training file (numbered from 0)", (long long)step, rows, n >= (int)sizeof rows - 16 ? ", …" : "");
}

/* Losses of the step's atoms, tokens and flags, known to everybody: slots nobody else fills are zero, so that the sum is exact. */
static cad_status share(cad_run *r, double *slots, int64_t atoms, cadp_step_result *out)
{
    CAD_TRY(cad_comm_allreduce(r->comm, slots, atoms + 3, CAD_NUM_F64, CAD_SUM));
    for (int64_t i = 0; i < atoms; i++) out->loss += slots[i];
    out->tokens = (int64_t)slots[atoms];
    out->stop = slots[atoms + 1] > 0;
    out->save = slots[atoms + 2] > 0;
    return CAD_OK;
}

static cad_zero_step_args step_args(const cad_run *r, int64_t step)
{
    cad_schedule s = cadp_schedule(r);

    return (cad_zero_step_args){.lr = cad_schedule_rate(&s, step), .beta1 = r->o->training.adam_beta1, .beta2 = r->o->training.adam_beta2, .eps = r->o->training.adam_epsilon,
                                .weight_decay = r->o->training.weight_decay, .max_grad_norm = r->o->training.max_grad_norm, .step = step};
}

static cad_status micro_steps(cad_run *r, int64_t step, double *slots, int64_t atoms)
{
    int64_t micros = cadp_feed_batch(r, 0)->head->micro_of_step;
    cad_zero_step_args args = step_args(r, step);
    const cad_batch *bad = NULL;

    CAD_TRY(cad_zero_begin(r->zero));
    for (int64_t i = 0; i < micros; i++) {
        const cad_batch *b = cadp_feed_batch(r, i);
        double loss = 0;

        cad_watchdog_beat("forward", step);
        CAD_TRY(cadp_forward(r, b, true));
        if (!is_empty(b)) {
            CAD_TRY(atom_loss(r, b, &loss));
            if (!isfinite(loss)) bad = b;
            slots[i * r->size + r->rank] = loss;
            slots[atoms] += b->head->tokens;
        }
        cad_watchdog_beat("backward", step);
        if (i == micros - 1) CAD_TRY(cad_zero_last(r->zero, &args));
        CAD_TRY(cadp_backward(r, b));
    }
    return cad_comm_agree(r->comm, bad ? bad_loss(r, step, bad) : CAD_OK);
}

static bool asked_to_save(const cad_run *r)
{
    char path[4096];

    return !r->rank && snprintf(path, sizeof path, "%s/SAVE", r->o->output_dir) < (int)sizeof path && cad_is_file(path);
}

/* Before the time is over there must be room for what the longest step so far took, evaluation included, and for the checkpoint. */
static bool wall_is_near(cad_run *r)
{
    double wall = r->wall, now = cad_now(), save = r->save_seconds;

    if (r->looked > 0) r->step_seconds = cad_max(r->step_seconds, now - r->looked);
    r->looked = now;
    if (save == 0) save = 1 + 16 * (double)r->params->trainable / 2e8; /* none written yet: a slow disk's 200 MB/s */
    return wall > 0 && now - r->opened + r->step_seconds + 1.5 * save >= wall;
}

static bool asked_to_stop(cad_run *r)
{
    char path[4096];

    if (cad_signals_stop()) return true;
    if (r->rank) return false;
    if (wall_is_near(r)) return true;
    return snprintf(path, sizeof path, "%s/STOP", r->o->output_dir) < (int)sizeof path && cad_is_file(path);
}

/* A failure that only this rank knows leaves without agreement: the caller ends all ranks. A grid that did not fit is seen by every rank alike; the micro-batches are still here. */
static cad_status compute_and_update(cad_run *r, int64_t step, double *slots, int64_t atoms, cad_zero_step_result *done)
{
    cad_zero_step_args args = step_args(r, step);

    for (int tries = 0; tries < 3; tries++) {
        memset(slots, 0, (size_t)(atoms + 3) * sizeof *slots);
        CAD_TRY(micro_steps(r, step, slots, atoms));
        cad_watchdog_beat("optimizer step", step);
        CAD_TRY(cad_zero_step(r->zero, &args, done));
        if (!done->again) return CAD_OK;
        cad_debug("step %lld is computed once more: its gradients did not fit the fixed-point grid", (long long)step);
    }
    return cad_fail(CAD_EINTERNAL, "the fixed-point grid does not settle at step %lld", (long long)step);
}

cad_status cadp_train_step(cad_run *r, cadp_step_result *out)
{
    int64_t step = r->step + 1, atoms = r->facts.micros * r->size;
    cad_zero_step_result done;

    *out = (cadp_step_result){0};
    cad_watchdog_beat("waiting for data", step);
    CAD_TRY(cad_comm_agree(r->comm, cadp_feed_step(r, step)));
    CAD_TRY(compute_and_update(r, step, r->slots, atoms, &done));
    r->slots[atoms + 1] = asked_to_stop(r);
    r->slots[atoms + 2] = asked_to_save(r);
    CAD_TRY(share(r, r->slots, atoms, out));
    out->grad_norm = done.grad_norm;
    out->lr = step_args(r, step).lr;
    r->step = step;
    return CAD_OK;
}
