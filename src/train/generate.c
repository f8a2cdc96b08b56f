/* Text after a prompt: prompts are dealt to the ranks in turn; a rank answers as many at a time as it has places for, one token of each in a step. */
#include "train_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A prompt being answered: in which place, and how many of its tokens the model has seen. */
typedef struct seat { int64_t prompt; int32_t past; bool taken; } seat;
typedef struct engine {
    cad_run *run;
    const cad_generation *g;
    cad_str stops;          /* each ends in NUL */
    int stop_count;
    seat *seats;
    int64_t places, next;   /* next: the first prompt of this rank that waits */
    cad_batch batch;
    int32_t *slots, *past;  /* of the batch's sequences */
    cadp_candidate *order;     /* [vocabulary] */
    uint8_t *seen;          /* [vocabulary] */
    cadp_on_token *step;
    void *with;
    int64_t done;           /* answers of this rank */
    double began, told;     /* when it was last said how many there are */
} engine;

/* ---- one token from its logits ---- */

/* The first of the largest; where the first of all is no number, that. */
static int32_t likeliest(const float *logits, int64_t n)
{
    enum { LANES = 16 };
    float top[LANES];
    int32_t best = 0;

    for (int l = 0; l < LANES; l++) top[l] = logits[0];
    for (int64_t i = 0; i + LANES <= n; i += LANES)
#pragma omp simd
        for (int l = 0; l < LANES; l++) top[l] = logits[i + l] > top[l] ? logits[i + l] : top[l];
    for (int64_t i = n / LANES * LANES; i < n; i++) top[0] = logits[i] > top[0] ? logits[i] : top[0];
    for (int l = 1; l < LANES; l++) top[0] = top[l] > top[0] ? top[l] : top[0];
    while (best < n - 1 && logits[best] < top[0]) best++;
    return best;
}

static void mark(const engine *e, int64_t prompt, uint8_t value)
{
    const cadp_prompts *p = &e->run->prompts;

    for (int64_t t = p->starts[prompt]; t < p->starts[prompt + 1]; t++) e->seen[p->ids[t]] = value;
    for (int32_t t = 0; t < p->lengths[prompt]; t++) e->seen[p->new_ids[prompt * p->most + t]] = value;
}

static void penalise(const engine *e, int64_t prompt, float *logits)
{
    if (e->g->sampling.repetition_penalty == 1) return;
    mark(e, prompt, 1);
    cadp_penalise(e->g->sampling.repetition_penalty, e->seen, e->run->arch.vocab, logits);
    mark(e, prompt, 0);
}

static int32_t draw(const engine *e, int64_t prompt, const float *logits)
{
    const cad_sampling *s = &e->g->sampling;
    int64_t n = cadp_keep_likely(s, logits, e->run->arch.vocab, e->order);

    return cadp_draw(e->order, n, cad_rng_uniform(s->seed, CAD_RNG_SAMPLE, (uint32_t)prompt, (uint64_t)e->run->prompts.lengths[prompt]));
}

/* ---- one answer ---- */

static bool is_end(const cad_run *r, int32_t id)
{
    for (int32_t i = 0; i < r->facts.end_count; i++)
        if (r->facts.ends[i] == id) return true;
    return false;
}

static cad_status decode(const cad_run *r, const int32_t *ids, int64_t n, cad_str *out)
{
    CAD_TRY(cad_str_add(out, "", 0));
    return cad_tokenizer_decode(r->tokenizer, ids, n, out);
}

/* So much of the prompt's end that more than a first word stands in its text: n tokens. */
static cad_status end_of_prompt(const cad_run *r, int64_t i, int64_t *n, cad_str *out)
{
    const cadp_prompts *p = &r->prompts;
    int64_t all = p->starts[i + 1] - p->starts[i];

    for (*n = cad_min(all, 16);; *n = cad_min(all, 2 * *n)) {
        out->size = 0;
        CAD_TRY(decode(r, p->ids + p->starts[i + 1] - *n, *n, out));
        if (*n == all || out->size >= 16) return CAD_OK;
    }
}

/* With the end of its prompt before it, as a decoder may write the first word of a text otherwise; the prompt is taken off again. */
static cad_status whole_text(const cad_run *r, int64_t i, cad_str *out)
{
    const cadp_prompts *p = &r->prompts;
    int64_t before, n = p->lengths[i];
    cad_str prompt = {0}, both = {0};
    int32_t *ids = NULL;
    cad_status status = end_of_prompt(r, i, &before, &prompt);

    if (!status) status = cad_alloc(&ids, (size_t)(before + n), sizeof *ids, "an answer");
    if (!status) {
        memcpy(ids, p->ids + p->starts[i + 1] - before, (size_t)before * sizeof *ids);
        memcpy(ids + before, p->new_ids + i * p->most, (size_t)n * sizeof *ids);
        status = decode(r, ids, before + n, &both);
    }
    if (!status && both.size >= prompt.size && !memcmp(both.data, prompt.data, prompt.size)) status = cad_str_add(out, both.data + prompt.size, both.size - prompt.size);
    else if (!status) status = decode(r, ids + before, n, out);
    cad_str_close(&prompt);
    cad_str_close(&both);
    cad_free(&ids);
    return status;
}

/* Where the first of the texts that end an answer begins; SIZE_MAX: none. */
static size_t stop_in(const engine *e, const cad_str *text)
{
    const char *stop = e->stops.data;
    size_t first = SIZE_MAX;

    for (int i = 0; i < e->stop_count; i++, stop += strlen(stop) + 1) {
        const char *at = *stop && text->size ? memmem(text->data, text->size, stop, strlen(stop)) : NULL;
        if (at && (size_t)(at - text->data) < first) first = (size_t)(at - text->data);
    }
    return first;
}

static cad_status stops_here(const engine *e, int64_t i, bool *stop)
{
    cad_str text = {0};
    cad_status status;

    *stop = false;
    if (!e->stop_count) return CAD_OK;
    if (!(status = whole_text(e->run, i, &text))) *stop = stop_in(e, &text) != SIZE_MAX;
    cad_str_close(&text);
    return status;
}

static cad_status take_token(engine *e, seat *s, float *logits)
{
    cad_run *r = e->run;
    cadp_prompts *p = &r->prompts;
    int64_t i = s->prompt;
    int32_t id;
    bool stop;

    penalise(e, i, logits);
    id = e->g->sampling.temperature > 0 ? draw(e, i, logits) : likeliest(logits, r->arch.vocab);
    p->new_ids[i * p->most + p->lengths[i]++] = id;
    CAD_TRY(stops_here(e, i, &stop));
    p->ended[i] = stop || is_end(r, id);
    s->taken = !p->ended[i] && p->lengths[i] < p->most && s->past + 1 <= r->facts.kept;
    e->done += !s->taken;
    if (e->step && !r->rank) e->step(e->with, i, !s->taken);
    return CAD_OK;
}

/* ---- steps ---- */

static void put_sequence(engine *e, int32_t k, const int32_t *ids, int64_t n, int64_t place)
{
    cad_batch *b = &e->batch;

    memcpy(b->ids + b->starts[k], ids, (size_t)n * sizeof *ids);
    b->starts[k + 1] = b->starts[k] + (int32_t)n;
    e->slots[k] = (int32_t)place;
    e->past[k] = e->seats[place].past;
    e->seats[place].past += (int32_t)n;
}

/* Prompts that wait and fit go in first, together. */
static cad_status new_prompts(engine *e, int32_t *count)
{
    cad_run *r = e->run;
    const cadp_prompts *p = &r->prompts;
    int64_t tokens = 0, first = e->next;

    *count = 0;
    for (int64_t i = 0; i < e->places && e->next < p->count; i++) {
        int64_t n = p->starts[e->next + 1] - p->starts[e->next];
        if (e->seats[i].taken) continue;
        if (tokens && tokens + n > r->facts.tokens) break;
        e->seats[i] = (seat){.prompt = e->next, .taken = true};
        tokens += n;
        e->next += r->size;
        ++*count;
    }
    CAD_TRY(cad_batch_layout(&e->batch, tokens, *count));
    e->batch.starts[0] = 0;
    for (int64_t i = 0, k = 0; k < *count; i++) /* the seats just taken are those of the prompts from `first` on that the model has not seen */
        if (e->seats[i].taken && !e->seats[i].past && e->seats[i].prompt >= first)
            put_sequence(e, (int32_t)k++, p->ids + p->starts[e->seats[i].prompt], p->starts[e->seats[i].prompt + 1] - p->starts[e->seats[i].prompt], i);
    return CAD_OK;
}

static cad_status next_tokens(engine *e, int32_t *count)
{
    const cadp_prompts *p = &e->run->prompts;
    int32_t n = 0;

    for (int64_t i = 0; i < e->places; i++) n += e->seats[i].taken;
    CAD_TRY(cad_batch_layout(&e->batch, n, n));
    e->batch.starts[0] = 0;
    *count = 0;
    for (int64_t i = 0; i < e->places; i++) {
        int64_t prompt = e->seats[i].prompt;
        if (e->seats[i].taken) put_sequence(e, (*count)++, &p->new_ids[prompt * p->most + p->lengths[prompt] - 1], 1, i);
    }
    return CAD_OK;
}

static bool has_place(const engine *e)
{
    for (int64_t i = 0; i < e->places; i++)
        if (!e->seats[i].taken) return true;
    return false;
}

static cad_status one_step(engine *e, int32_t *count)
{
    cad_run *r = e->run;
    bool fresh = e->next < r->prompts.count && has_place(e);

    CAD_TRY(fresh ? new_prompts(e, count) : next_tokens(e, count));
    e->batch.head->tokens = e->batch.starts[*count];
    e->batch.head->sequences = *count;
    e->batch.head->scale = 0;
    r->at_slots = e->slots;
    r->at_past = e->past;
    CAD_TRY(cadp_forward(r, &e->batch, false));
    if (!*count) return CAD_OK;
    CAD_TRY(cad_model_next(r->model, r->next));
    for (int32_t k = 0; k < *count; k++) CAD_TRY(take_token(e, &e->seats[e->slots[k]], r->next + k * r->arch.vocab));
    return CAD_OK;
}

/* Of many prompts, now and then; beside the answers of the command, or into the log of a training. */
static void tell_progress(engine *e, double done)
{
    enum { SECONDS = 10 };
    long long all = (long long)e->run->prompts.count;
    double now = cad_now();

    if (e->run->rank || all == 1 || now - e->told < SECONDS) return;
    e->told = now;
    if (e->run->what.generation) fprintf(stderr, "cadtrain: %.0f of %lld answers in %.0f s\n", done, all, now - e->began);
    else cad_info("Generation: %.0f of %lld answers in %.0f s", done, all, now - e->began);
}

static cad_status all_steps(engine *e)
{
    cad_run *r = e->run;

    for (e->began = e->told = cad_now();;) {
        double sums[2] = {e->next < r->prompts.count, (double)e->done}; /* what keeps this rank, what it has done */
        int32_t count;
        for (int64_t i = 0; i < e->places; i++) sums[0] += e->seats[i].taken;
        if (r->size > 1) CAD_TRY(cad_comm_allreduce(r->comm, sums, 2, CAD_NUM_F64, CAD_SUM));
        if (sums[0] == 0) return CAD_OK;
        tell_progress(e, sums[1]);
        cad_watchdog_beat("generating", 0);
        CAD_TRY(one_step(e, &count));
    }
}

/* Each answer is known to one rank; elsewhere it is zeros. */
static cad_status share(cad_run *r)
{
    cadp_prompts *p = &r->prompts;
    int64_t n = p->count * (p->most + 2), *all = NULL;
    cad_status status;

    if (r->size == 1) return CAD_OK;
    CAD_TRY(cad_alloc(&all, (size_t)n, sizeof *all, "answers"));
    for (int64_t i = 0; i < p->count * p->most; i++) all[i] = p->new_ids[i];
    for (int64_t i = 0; i < p->count; i++) {
        all[p->count * p->most + i] = p->lengths[i];
        all[p->count * (p->most + 1) + i] = p->ended[i];
    }
    status = cad_comm_allreduce(r->comm, all, n, CAD_NUM_I64, CAD_SUM);
    for (int64_t i = 0; i < p->count * p->most && !status; i++) p->new_ids[i] = (int32_t)all[i];
    for (int64_t i = 0; i < p->count && !status; i++) {
        p->lengths[i] = (int32_t)all[p->count * p->most + i];
        p->ended[i] = all[p->count * (p->most + 1) + i] != 0;
    }
    cad_free(&all);
    return status;
}

/* The texts that end an answer are rank 0's; a rank that has to look for them needs the tokenizer. */
static cad_status tell_stops(engine *e)
{
    cad_run *r = e->run;
    int64_t n[2] = {0, 0};

    for (int i = 0; !r->rank && i < e->g->stop_count; i++) CAD_TRY(cad_str_add(&e->stops, e->g->stop[i], strlen(e->g->stop[i]) + 1));
    n[0] = (int64_t)e->stops.size;
    n[1] = r->rank ? 0 : e->g->stop_count;
    CAD_TRY(cad_comm_bcast(r->comm, n, sizeof n, 0));
    e->stop_count = (int)n[1];
    if (!n[0]) return CAD_OK;
    if (r->rank) CAD_TRY(cad_alloc(&e->stops.data, (size_t)n[0], 1, "texts that end an answer"));
    e->stops.size = (size_t)n[0];
    CAD_TRY(cad_comm_bcast(r->comm, e->stops.data, e->stops.size, 0));
    return r->tokenizer ? CAD_OK : cad_tokenizer_open(&r->tokenizer, r->tokenizer_dir);
}

static cad_status open_engine(engine *e)
{
    cad_run *r = e->run;

    e->places = r->facts.sequences;
    e->next = r->rank;
    CAD_TRY(tell_stops(e));
    CAD_TRY(cad_alloc(&e->seats, (size_t)e->places, sizeof *e->seats, "places"));
    CAD_TRY(cad_alloc(&e->slots, (size_t)e->places, sizeof *e->slots, "places"));
    CAD_TRY(cad_alloc(&e->past, (size_t)e->places, sizeof *e->past, "places"));
    if (e->g->sampling.temperature > 0) CAD_TRY(cad_alloc(&e->order, (size_t)r->arch.vocab, sizeof *e->order, "candidates"));
    CAD_TRY(cad_alloc(&e->seen, (size_t)r->arch.vocab, 1, "candidates"));
    return cad_batch_open(&e->batch, r->facts.tokens, r->facts.sequences, 0);
}

static void close_engine(engine *e)
{
    e->run->at_slots = e->run->at_past = NULL;
    cad_str_close(&e->stops);
    cad_free(&e->seats);
    cad_free(&e->slots);
    cad_free(&e->past);
    cad_free(&e->order);
    cad_free(&e->seen);
    cad_batch_close(&e->batch);
}

/* What is behind a text that ends an answer does not belong to it. */
static void cut_stops(const engine *e, cad_str *text)
{
    size_t at = stop_in(e, text);

    if (at == SIZE_MAX) return;
    text->size = at;
    text->data[at] = 0;
}

cad_status cadp_answer_text(const cad_run *r, int64_t i, cad_str *out)
{
    engine e = {.g = r->what.generation};
    cad_status status = whole_text(r, i, out);

    for (int k = 0; !status && e.g && k < e.g->stop_count; k++, e.stop_count++) status = cad_str_add(&e.stops, e.g->stop[k], strlen(e.g->stop[k]) + 1);
    if (!status) cut_stops(&e, out);
    cad_str_close(&e.stops);
    return status;
}

cad_status cadp_generate(cad_run *r, const cad_generation *g, cadp_on_token *step, void *with)
{
    engine e = {.run = r, .g = g, .step = step, .with = with};
    cadp_prompts *p = &r->prompts;
    cad_status status;

    memset(p->lengths, 0, (size_t)p->count * sizeof *p->lengths);
    memset(p->new_ids, 0, (size_t)(p->count * p->most) * sizeof *p->new_ids);
    status = cad_comm_agree(r->comm, open_engine(&e));
    if (!status) status = all_steps(&e);
    if (!status) status = share(r);
    close_engine(&e);
    return status;
}
