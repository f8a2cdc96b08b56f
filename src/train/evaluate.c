/* Scoring rows on all ranks: rank 0 cuts and sends batches, everybody computes, logits come back to rank 0. */
#include "train_priv.h"

#include <math.h>
#include <stdlib.h>

/* One round: a batch for each rank. `first` is where the next row of the set stands. */
typedef struct scorer { cad_run *run; const cadp_set *set; const cadp_asked *asked; cad_batch batch; int64_t count, first; int64_t *rows; int64_t *took; int64_t *offsets; char *mine, *all; } scorer;

static cad_status scorer_open(scorer *s)
{
    cad_run *r = s->run;

    CAD_TRY(cad_batch_open(&s->batch, r->facts.tokens, r->facts.sequences, r->facts.beside));
    CAD_TRY(cad_alloc(&s->rows, (size_t)r->facts.sequences, sizeof *s->rows, "a batch"));
    CAD_TRY(cad_alloc(&s->took, (size_t)r->size, sizeof *s->took, "a batch"));
    CAD_TRY(cad_alloc(&s->offsets, (size_t)r->size + 1, sizeof *s->offsets, "a batch"));
    CAD_TRY(cad_alloc(&s->mine, (size_t)(r->facts.sequences * s->asked->each), sizeof *s->mine, "results"));
    return cad_alloc(&s->all, (size_t)(r->size * r->facts.sequences * s->asked->each), sizeof *s->all, "results");
}

static void scorer_close(scorer *s)
{
    cad_batch_close(&s->batch);
    cad_free(&s->rows);
    cad_free(&s->took);
    cad_free(&s->offsets);
    cad_free(&s->mine);
    cad_free(&s->all);
}

/* As many of the next rows as fit. Rank 0. */
static int64_t next_rows(scorer *s)
{
    cad_run *r = s->run;
    int64_t n = 0, tokens = 0;

    while (s->first < s->count && n < s->asked->most) {
        int64_t row = s->set->rows[s->first], more = s->set->data->starts[row + 1] - s->set->data->starts[row];
        if (n && tokens + more > r->facts.tokens) break;
        s->rows[n++] = row;
        tokens += more;
        s->first++;
    }
    return n;
}

static cad_status pack_next(scorer *s, int rank)
{
    static const double ones[2] = {1, 1};

    s->took[rank] = next_rows(s);
    CAD_TRY(cad_batch_pack(&s->batch, s->set->data, s->rows, s->took[rank], ones));
    s->batch.head->atom = s->took[rank] ? 0 : -1;
    return CAD_OK;
}

/* Batches for ranks 1… are packed in the same memory one after another; rank 0 keeps the last one packed for itself. */
static cad_status deal(scorer *s)
{
    cad_run *r = s->run;

    for (int k = 0; k < r->size - 1; k++) {
        cad_request q = {0};
        CAD_TRY(pack_next(s, k + 1));
        CAD_TRY(cad_comm_isend(r->comm, s->batch.memory, s->batch.bytes, k + 1, 0, &q));
        CAD_TRY(cad_comm_wait(r->comm, &q, NULL));
    }
    return pack_next(s, 0);
}

static cad_status take(scorer *s)
{
    cad_request q = {0};

    CAD_TRY(cad_comm_irecv(s->run->comm, s->batch.memory, s->batch.room, 0, 0, &q));
    CAD_TRY(cad_comm_wait(s->run->comm, &q, NULL));
    return cad_batch_layout(&s->batch, s->batch.head->tokens, s->batch.head->sequences);
}

cad_status cadp_loss_sums(cad_run *r, const cad_batch *b, void *out)
{
    double *sum = out;
    const double *nll = r->nll;

    if (!b->head->sequences) return CAD_OK;
    CAD_TRY(cad_model_nll(r->model, r->nll));
    for (int32_t i = 0; i < b->head->sequences; i++, sum += 2) {
        sum[0] = sum[1] = 0;
        for (int32_t t = b->starts[i]; t < b->starts[i + 1]; t++) {
            if (r->targets[t] < 0) continue;
            sum[0] += *nll++;
            sum[1]++;
        }
    }
    return CAD_OK;
}

static cad_status logits_of(cad_run *r, const cad_batch *b, void *out) { return b->head->sequences ? cad_model_logits(r->model, out) : CAD_OK; }

static cad_status compute(scorer *s)
{
    int32_t *labels = s->batch.labels;
    cad_status status;

    s->batch.labels = NULL; /* no loss: it is computed from the logits on rank 0 */
    status = cadp_forward(s->run, &s->batch, false);
    s->batch.labels = labels;
    return status ? status : s->asked->compute(s->run, &s->batch, s->mine);
}

static cad_status gather(scorer *s)
{
    cad_run *r = s->run;
    int64_t each = s->asked->each, begin = s->first;
    int64_t *at = s->offsets;

    CAD_TRY(cad_comm_bcast(r->comm, s->took, (size_t)r->size * sizeof *s->took, 0));
    for (int k = 0; k < r->size; k++) at[k + 1] = at[k] + s->took[k] * each;
    CAD_TRY(cad_comm_collect(r->comm, s->mine, s->all, at, 0));
    if (r->rank) return CAD_OK;
    for (int k = 0; k < r->size; k++) begin -= s->took[k];
    for (int k = 1; k <= r->size; k++) { /* rank 0 had the last rows of the round */
        int from = k % r->size;
        for (int64_t i = 0; i < s->took[from]; i++) CAD_TRY(s->asked->tell(s->asked->to, begin++, s->all + at[from] + i * each));
    }
    return CAD_OK;
}

static cad_status score_all(scorer *s, const char *said)
{
    cad_run *r = s->run;
    cad_progress bar = {0};
    int64_t left;

    if (!r->rank) cad_progress_begin(&bar, said, s->count);
    for (;;) {
        left = s->count - s->first;
        CAD_TRY(cad_comm_bcast(r->comm, &left, sizeof left, 0));
        if (!left) break;
        cad_watchdog_beat("scoring", r->step);
        CAD_TRY(r->rank ? take(s) : deal(s));
        CAD_TRY(compute(s));
        CAD_TRY(gather(s));
        if (!r->rank) cad_progress_at(&bar, s->first);
    }
    if (!r->rank) cad_progress_end(&bar);
    return CAD_OK;
}

cad_status cadp_ask(cad_run *r, const cadp_set *set, int64_t count, const cadp_asked *asked, const char *said)
{
    scorer s = {.run = r, .set = set, .asked = asked, .count = r->rank ? 0 : count};
    cad_status status;

    if (!(status = scorer_open(&s))) status = score_all(&s, said);
    scorer_close(&s);
    return status;
}

typedef struct shelf { char *results; int64_t each; } shelf;

static cad_status keep(void *to, int64_t i, const void *result)
{
    const shelf *s = to;

    memcpy(s->results + i * s->each, result, (size_t)s->each);
    return CAD_OK;
}

cad_status cadp_predict(cad_run *r, const cadp_set *set, int64_t count, void *results, const char *said)
{
    bool sft = cadp_is_sft(r);
    shelf s = {results, sft ? 2 * (int64_t)sizeof(double) : r->method.num_labels * (int64_t)sizeof(float)};

    return cadp_ask(r, set, count, &(cadp_asked){s.each, r->facts.predict_batch, sft ? cadp_loss_sums : logits_of, keep, &s}, said);
}

/* ---- numbers ---- */

static double nll_of(const float *logits, int labels, int32_t label)
{
    double top = logits[0], sum = 0;

    for (int c = 1; c < labels; c++) top = fmax(top, logits[c]);
    for (int c = 0; c < labels; c++) sum += exp(logits[c] - top);
    return top + log(sum) - logits[label];
}

/* Of `count` rows from place `from` of the order; beyond its end come those of each rank's first batch again. */
static double batch_loss(const cad_run *r, const cadp_scores *s, const int64_t *order, int64_t from, int64_t count, int64_t again)
{
    double sum = 0, weight = 0;
    int labels = r->method.num_labels;

    for (int64_t at = from; at < from + count; at++) {
        int64_t i = order[at < s->n ? at : (at - s->n) % again];
        double w = r->facts.class_weight[s->labels[i] == 1] * (s->weights ? s->weights[i] : 1);
        sum += w * nll_of(s->logits + i * labels, labels, s->labels[i]);
        weight += w;
    }
    return weight > 0 ? sum / weight : 0;
}

/* global: the weighted mean over all rows. hf: each evaluation batch's weighted mean, averaged with the number of rows; with several
 * ranks accelerate fills the last batch up, and what fills it has a say in that batch's mean. */
static double loss_in_order(const cad_run *r, const cadp_scores *s, const int64_t *order)
{
    int64_t group = r->o->training.per_device_eval_batch_size, world = r->what.purpose == CAD_RUN_TRAIN ? r->facts.atoms_per_step / r->o->training.gradient_accumulation_steps : 1;
    double total = 0;

    if (!s->n) return NAN;
    if (r->o->training.loss_normalization == CAD_NORM_GLOBAL) return batch_loss(r, s, order, 0, s->n, s->n);
    for (int64_t from = 0; from < s->n; from += group) {
        int64_t n = cad_min(group, s->n - from);
        total += (double)n * batch_loss(r, s, order, from, world > 1 ? group : n, cad_min(s->n, world * group));
    }
    return total / (double)s->n;
}

static cad_status eval_loss(const cad_run *r, const cadp_set *set, const cadp_scores *s, double *out)
{
    int64_t *order;
    int32_t *lengths = NULL;
    cad_status status;

    CAD_TRY(cad_alloc(&order, (size_t)s->n, sizeof *order, "the order of an evaluation"));
    for (int64_t i = 0; i < s->n; i++) order[i] = i;
    status = r->o->training.group_by_length ? cad_alloc(&lengths, (size_t)s->n, sizeof *lengths, "lengths of records") : CAD_OK;
    for (int64_t i = 0; lengths && i < s->n; i++) lengths[i] = set->data->starts[set->rows[i] + 1] - set->data->starts[set->rows[i]];
    if (lengths) status = cad_length_grouped((uint64_t)r->o->runtime.seed, lengths, s->n, r->o->training.per_device_eval_batch_size, order);
    if (!status) *out = loss_in_order(r, s, order);
    cad_free(&lengths);
    cad_free(&order);
    return status;
}

static cad_status room_for(cadp_scores *s, int64_t n, int labels)
{
    s->n = n;
    CAD_TRY(cad_alloc(&s->logits, (size_t)(n * labels), sizeof *s->logits, "logits"));
    CAD_TRY(cad_alloc(&s->prob1, (size_t)n, sizeof *s->prob1, "probabilities"));
    CAD_TRY(cad_alloc(&s->logit, (size_t)n, sizeof *s->logit, "logits"));
    CAD_TRY(cad_alloc(&s->labels, (size_t)n, sizeof *s->labels, "labels"));
    return cad_alloc(&s->predictions, (size_t)n, sizeof *s->predictions, "predictions");
}

static bool all_labelled(const cadp_scores *s)
{
    for (int64_t i = 0; i < s->n; i++)
        if (s->labels[i] < 0) return false;
    return true;
}

static cad_status numbers(cad_run *r, const cadp_set *set, bool deep, cadp_scores *s)
{
    for (int64_t i = 0; i < s->n; i++) {
        const float *l = s->logits + i * r->method.num_labels;
        if (!isfinite(l[0]) || !isfinite(l[1])) return cad_fail(CAD_EINTERNAL, "the scores of record %lld are not finite", (long long)set->rows[i]);
        s->labels[i] = set->data->labels[set->rows[i]];
        s->predictions[i] = l[1] > l[0];
        s->prob1[i] = cad_prob1(l[0], l[1]);
        s->logit[i] = (double)l[1] - (double)l[0];
    }
    if (set->data->row_weights) CAD_TRY(cad_alloc(&s->weights, (size_t)s->n, sizeof *s->weights, "weights of rows"));
    for (int64_t i = 0; s->weights && i < s->n; i++) s->weights[i] = set->data->row_weights[set->rows[i]];
    if (!all_labelled(s)) return CAD_OK;
    CAD_TRY(cad_metrics_compute(&s->metrics, s->labels, s->predictions, s->prob1, s->logit, s->n, deep));
    return eval_loss(r, set, s, &s->metrics.loss);
}

cad_status cadp_score(cad_run *r, const cadp_set *set, int64_t count, bool deep, cadp_scores *out)
{
    double began = cad_now();

    *out = (cadp_scores){0};
    if (cadp_is_sft(r)) {
        out->metrics = (cad_metrics){.loss = NAN, .accuracy = NAN, .precision = NAN, .recall = NAN, .f1 = NAN, .auc = NAN, .auprc = NAN, .brier = NAN};
        out->n = count;
        return cadp_sft_evaluate(r, set, &out->metrics.loss, &out->tokens, &out->seconds);
    }
    CAD_TRY(cad_comm_agree(r->comm, room_for(out, r->rank ? 1 : count, r->method.num_labels)));
    CAD_TRY(cadp_predict(r, set, count, out->logits, "scoring"));
    CAD_TRY(cad_comm_agree(r->comm, r->rank ? CAD_OK : numbers(r, set, deep, out)));
    out->seconds = cad_now() - began;
    return CAD_OK;
}

void cadp_scores_close(cadp_scores *s)
{
    cad_free(&s->logits);
    cad_free(&s->prob1);
    cad_free(&s->logit);
    cad_free(&s->weights);
    cad_free(&s->labels);
    cad_free(&s->predictions);
}
