/* `explain`: which field of a record moved its log-odds: what its removal changes, and integrated gradients (Sundararajan, Taly, Yan 2017) summed over its
 * tokens. The baseline of the text is the mean of the first block's inputs over the file; of a column its mean, of a score its mean log-odds. */
#include "explain_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { FIRST_NODES = 16, MOST_NODES = 512, MOST_SPANS = 512 };
static const double close_enough = 0.01; /* of the sum: nodes are doubled until the sums match so well */

typedef struct text { const char *data; size_t size; } text;
/* The record at hand. */
typedef struct work {
    cad_run *r;
    cadp_explained *e;
    cad_batch batch;
    float *mean, *own, *input, *gradient; /* [hidden], [longest, hidden], [tokens, hidden] twice */
    int64_t *bound;                       /* tokens before each span, and before its end */
    cad_span *span;
    int spans;
    double *path;                         /* [spans + 1]: of the integral; the last: what no field says */
} work;

/* ---- the model, forward and back to the first block's input ----
 * Rank 0 alone has the records. The others hold their parts of the parameters: they are told each walk and go along with the same batch. */

typedef enum walk { WALK_END, WALK_FORWARD, WALK_FROM_INPUT, WALK_BACK } walk;

static cad_model_batch of_batch(const cad_batch *b)
{
    int32_t longest = 0;

    for (int32_t i = 0; i < b->head->sequences; i++) longest = (int32_t)cad_max(longest, b->starts[i + 1] - b->starts[i]);
    return (cad_model_batch){.tokens = b->head->tokens, .sequences = b->head->sequences, .longest = longest, .ids = b->ids, .starts = b->starts, .beside = b->beside, .scale = 1, .margin = true};
}

/* Rank 0 tells the others what it does next, and on what. */
static cad_status share(cad_run *r, walk *what, cad_batch *b, float *input)
{
    cad_batch_head *h = b->head;
    int64_t told[3] = {*what, r->rank ? 0 : h->tokens, r->rank ? 0 : h->sequences}, tokens, sequences;

    if (r->size == 1) return CAD_OK;
    CAD_TRY(cad_comm_bcast(r->comm, told, sizeof told, 0));
    *what = (walk)told[0];
    if (*what != WALK_FORWARD && *what != WALK_FROM_INPUT) return CAD_OK;
    tokens = told[1];
    sequences = told[2];
    if (r->rank) {
        CAD_TRY(cad_batch_layout(b, tokens, sequences));
        b->head->tokens = (int32_t)tokens;
        b->head->sequences = (int32_t)sequences;
    }
    CAD_TRY(cad_comm_bcast(r->comm, b->ids, (size_t)tokens * sizeof *b->ids, 0));
    CAD_TRY(cad_comm_bcast(r->comm, b->starts, (size_t)(sequences + 1) * sizeof *b->starts, 0));
    if (b->width) CAD_TRY(cad_comm_bcast(r->comm, b->beside, (size_t)(sequences * b->width) * sizeof *b->beside, 0));
    return *what == WALK_FROM_INPUT ? cad_comm_bcast(r->comm, input, (size_t)(tokens * r->arch.hidden) * sizeof *input, 0) : CAD_OK;
}

static cad_status walk_forward(cad_run *r, const cad_batch *b, const float *input)
{
    cad_model_batch m = of_batch(b);

    CAD_TRY(cad_model_start(r->model, &m, false));
    for (int i = 0; i < r->params->units; i++) {
        cad_unit_view w;
        CAD_TRY(cad_zero_fetch(r->zero, i));
        CAD_TRY(cad_zero_use(r->zero, i, &w));
        CAD_TRY(cad_model_forward(r->model, i, w));
        CAD_TRY(cad_zero_release(r->zero, i));
        if (!i && input) CAD_TRY(cad_model_set_input(r->model, input));
    }
    return CAD_OK;
}

static cad_status walk_back(cad_run *r)
{
    for (int i = r->params->units - 1; i > 0; i--) {
        cad_unit_view w;
        CAD_TRY(cad_zero_fetch(r->zero, i));
        CAD_TRY(cad_zero_use(r->zero, i, &w));
        CAD_TRY(cad_model_backward(r->model, i, w, r->scratch, false));
        CAD_TRY(cad_zero_release(r->zero, i));
    }
    return CAD_OK;
}

cad_status cadp_explain_walk(cad_run *s, const cad_batch *b)
{
    CAD_TRY(walk_forward(s, b, NULL));
    return walk_back(s);
}

static cad_status forward(work *w, float *input)
{
    walk what = input ? WALK_FROM_INPUT : WALK_FORWARD;

    CAD_TRY(share(w->r, &what, &w->batch, input));
    return walk_forward(w->r, &w->batch, input);
}

static cad_status backward(work *w)
{
    walk what = WALK_BACK;

    CAD_TRY(share(w->r, &what, &w->batch, NULL));
    return walk_back(w->r);
}

/* One walk of rank 0's. */
static cad_status go_along(work *w, walk *what)
{
    CAD_TRY(share(w->r, what, &w->batch, w->input));
    if (*what == WALK_END) return CAD_OK;
    if (*what == WALK_BACK) return walk_back(w->r);
    return walk_forward(w->r, &w->batch, *what == WALK_FROM_INPUT ? w->input : NULL);
}

static cad_status margins(work *w, double *out)
{
    cad_run *r = w->r;

    CAD_TRY(cad_model_logits(r->model, r->logits));
    for (int32_t i = 0; i < w->batch.head->sequences; i++) out[i] = (double)r->logits[i * r->method.num_labels + 1] - (double)r->logits[i * r->method.num_labels];
    return CAD_OK;
}

/* ---- what is left without a field ---- */

/* The text without the spans of `field`, and without the space that stood before each. */
static cad_status without(const work *w, text t, int field, cad_str *out)
{
    size_t at = 0;

    out->size = 0;
    CAD_TRY(cad_str_add(out, "", 0));
    for (int k = 0; k < w->spans; k++) {
        size_t from = w->span[k].from, to = w->span[k].to;
        if (w->span[k].field != field) continue;
        if (from > at && t.data[from - 1] == ' ') from--;
        else if (to < t.size && t.data[to] == ' ') to++;
        CAD_TRY(cad_str_add(out, t.data + at, from - at));
        at = to;
    }
    return cad_str_add(out, t.data + at, t.size - at);
}

static cad_status encode(const cad_run *r, const char *data, size_t n, cad_ids *ids)
{
    const cad_options *o = r->o;
    bool cut;

    ids->count = 0;
    return cad_tokenizer_encode_cut(r->tokenizer, data, n, o->task.truncation ? o->task.max_length : 0, !o->task.truncation_left, ids, &cut);
}

/* One sequence more in the batch; false: there is no room. */
static bool put_sequence(work *w, const int32_t *ids, int64_t n, int64_t row, int32_t field)
{
    cad_batch *b = &w->batch;
    const cad_dataset *d = w->r->test.data;
    int32_t s = b->head->sequences;

    if (s == w->r->facts.sequences || b->head->tokens + n > w->r->facts.tokens) return false;
    memcpy(b->ids + b->head->tokens, ids, (size_t)n * sizeof *ids);
    b->head->tokens += (int32_t)n;
    b->starts[s + 1] = b->head->tokens;
    b->rows[s] = field;
    if (b->width) {
        float *beside = b->beside + s * b->width;
        memcpy(beside, d->beside + row * b->width, (size_t)b->width * sizeof *beside);
        cadp_explain_neutral(w->e, field, beside);
    }
    b->head->sequences = s + 1;
    return true;
}

/* Room of the largest size; sequences are put in one by one. */
static cad_status begin_batch(work *w)
{
    CAD_TRY(cad_batch_layout(&w->batch, w->r->facts.tokens, w->r->facts.sequences));
    w->batch.head->tokens = w->batch.head->sequences = 0;
    w->batch.starts[0] = 0;
    return CAD_OK;
}

static cad_status end_batch(work *w, double whole, cadp_record_explained *out)
{
    double *found = NULL;
    cad_status st;

    if (!w->batch.head->sequences) return CAD_OK;
    CAD_TRY(cad_alloc(&found, (size_t)w->batch.head->sequences, sizeof *found, "log-odds"));
    if (!(st = forward(w, NULL))) st = margins(w, found);
    for (int32_t i = 0; i < w->batch.head->sequences && !st; i++) out->removed[w->batch.rows[i]] = whole - found[i];
    cad_free(&found);
    return st ? st : begin_batch(w);
}

static cad_status remove_each(work *w, text t, int64_t row, cadp_record_explained *out)
{
    cad_str left = {0};
    cad_ids ids = {0};
    cad_status st = begin_batch(w);

    for (int f = 0; f < w->e->fields && !st; f++) {
        if (!out->present[f]) continue;
        if ((st = without(w, t, f, &left)) || (st = encode(w->r, left.data, left.size, &ids))) break;
        if (!ids.count) continue; /* nothing is left */
        if (put_sequence(w, ids.data, ids.count, row, f)) continue;
        if (!(st = end_batch(w, out->logit, out)) && !put_sequence(w, ids.data, ids.count, row, f)) st = cad_fail(CAD_EINTERNAL, "a record without one of its fields is longer than planned");
    }
    if (!st) st = end_batch(w, out->logit, out);
    cad_str_close(&left);
    cad_free(&ids.data);
    return st;
}

/* ---- tokens of spans ---- */

/* Tokens of the whole text that the text up to `at` has too: what reaches over the border belongs behind it. */
static cad_status tokens_before(const cad_run *r, text t, size_t at, const cad_ids *whole, cad_ids *ids, int64_t *out)
{
    ids->count = 0;
    while (at && at < t.size && ((unsigned char)t.data[at] & 0xc0) == 0x80) at--;
    CAD_TRY(cad_tokenizer_encode(r->tokenizer, t.data, at, true, ids));
    for (*out = 0; *out < ids->count && *out < whole->count && ids->data[*out] == whole->data[*out];) (*out)++;
    return CAD_OK;
}

static cad_status find_bounds(work *w, text t, int64_t n)
{
    cad_ids whole = {0}, ids = {0};
    cad_status st = cad_tokenizer_encode(w->r->tokenizer, t.data, t.size, true, &whole);
    int64_t dropped = w->r->o->task.truncation_left ? whole.count - n : 0, last = 0;

    for (int k = 0; k < 2 * w->spans && !st; k++) {
        const cad_span *s = &w->span[k / 2];
        int64_t at = 0;
        if ((st = tokens_before(w->r, t, k % 2 ? s->to : s->from, &whole, &ids, &at))) break;
        last = cad_max(last, cad_min(cad_max(at - dropped, 0), n));
        w->bound[k] = last;
    }
    cad_free(&whole.data);
    cad_free(&ids.data);
    return st;
}

/* ---- the integral along the straight path from the baseline ---- */

static int span_of(const work *w, int64_t token)
{
    for (int k = 0; k < w->spans; k++)
        if (token >= w->bound[2 * k] && token < w->bound[2 * k + 1]) return k;
    return w->spans;
}

/* Copies of the record, copy c at share[c] of the way. */
static cad_status at_shares(work *w, int64_t row, const double *share, int copies)
{
    const cad_dataset *d = w->r->test.data;
    int64_t n = d->starts[row + 1] - d->starts[row], h = w->r->arch.hidden;

    CAD_TRY(begin_batch(w));
    for (int c = 0; c < copies; c++) {
        if (!put_sequence(w, d->ids + d->starts[row], n, row, -1)) return cad_fail(CAD_EINTERNAL, "copies of a record do not fit into a batch");
        for (int64_t i = 0; i < n * h; i++) w->input[c * n * h + i] = (float)(w->mean[i % h] + share[c] * ((double)w->own[i] - (double)w->mean[i % h]));
    }
    return forward(w, w->input);
}

static void add_gradients(work *w, int64_t n, int copies, double each)
{
    int64_t h = w->r->arch.hidden;

    for (int c = 0; c < copies; c++)
        for (int64_t t = 0; t < n; t++) {
            const float *g = w->gradient + (c * n + t) * h, *x = w->own + t * h;
            double sum = 0;
            for (int64_t i = 0; i < h; i++) sum += (double)g[i] * ((double)x[i] - (double)w->mean[i]);
            w->path[span_of(w, t)] += each * sum;
        }
}

/* Midpoints of `nodes` equal steps. */
static cad_status integrate(work *w, int64_t row, int nodes)
{
    const cad_dataset *d = w->r->test.data;
    int64_t n = d->starts[row + 1] - d->starts[row];
    int most = (int)cad_max(1, cad_min(cad_min(w->r->facts.sequences, w->r->facts.tokens / n), 64));
    double share[64];

    memset(w->path, 0, (size_t)(w->spans + 1) * sizeof *w->path);
    for (int from = 0; from < nodes; from += most) {
        int copies = (int)cad_min(most, nodes - from);
        for (int c = 0; c < copies; c++) share[c] = (from + c + 0.5) / nodes;
        CAD_TRY(at_shares(w, row, share, copies));
        CAD_TRY(backward(w));
        CAD_TRY(cad_model_input_gradient(w->r->model, w->gradient));
        add_gradients(w, n, copies, 1.0 / nodes);
    }
    return CAD_OK;
}

static double sum_of(const work *w)
{
    double sum = 0;

    for (int k = 0; k <= w->spans; k++) sum += w->path[k];
    return sum;
}

/* The record's own input, its log-odds, and those at the baseline. */
static cad_status ends_of(work *w, int64_t row, cadp_record_explained *out)
{
    static const double ones[2] = {1, 1}, none = 0;

    CAD_TRY(cad_batch_pack(&w->batch, w->r->test.data, &row, 1, ones));
    CAD_TRY(forward(w, NULL));
    CAD_TRY(cad_model_input(w->r->model, w->own));
    CAD_TRY(margins(w, &out->logit));
    CAD_TRY(at_shares(w, row, &none, 1));
    return margins(w, &out->baseline);
}

static cad_status gradients(work *w, int64_t row, cadp_record_explained *out)
{
    double whole = out->logit - out->baseline, before = NAN, sum = NAN;

    for (out->nodes = FIRST_NODES; out->nodes <= MOST_NODES; out->nodes *= 2) {
        CAD_TRY(integrate(w, row, out->nodes));
        before = sum;
        sum = sum_of(w);
        if (fabs(sum - whole) <= close_enough * fmax(fabs(whole), 0.1)) break;
    }
    out->nodes = (int)cad_min(out->nodes, MOST_NODES);
    out->off = sum - whole;
    out->complete = fabs(out->off) <= fmax(close_enough * fmax(fabs(whole), 0.1), fabs(sum - before)); /* or what the last doubling changed */
    for (int k = 0; k < w->spans; k++) out->gradients[w->span[k].field] += w->path[k];
    out->other += w->path[w->spans];
    return CAD_OK;
}

/* ---- one record, all records ---- */

static cad_status explain_row(work *w, int64_t i, cadp_record_explained *out)
{
    cad_run *r = w->r;
    const cad_dataset *d = r->test.data;
    int64_t row = r->test.rows[i];
    cad_cell c = cad_rows_cell(d->rows_file, row, cad_rows_find(d->rows_file, r->o->task.input_column));
    text t = {c.text, c.size};

    CAD_TRY(cadp_explain_split(w->e, t.data, t.size, w->span, MOST_SPANS, &w->spans));
    CAD_TRY(cadp_explained_clear(w->e, out));
    for (int k = 0; k < w->spans; k++) out->present[w->span[k].field] = true;
    CAD_TRY(find_bounds(w, t, d->starts[row + 1] - d->starts[row]));
    CAD_TRY(ends_of(w, row, out));
    CAD_TRY(gradients(w, row, out));
    cadp_explain_columns(w->e, d->beside ? d->beside + row * d->beside_width : NULL, out);
    return remove_each(w, t, row, out);
}

/* The mean of the first block's inputs over every token of the file. */
static cad_status measure_mean(work *w, int64_t count)
{
    static const double ones[2] = {1, 1};
    cad_run *r = w->r;
    int64_t h = r->arch.hidden, tokens = 0;
    double *sum;
    cad_status st = cad_alloc(&sum, (size_t)h, sizeof *sum, "a mean");

    for (int64_t i = 0; i < count && !st; i++) {
        if ((st = cad_batch_pack(&w->batch, r->test.data, &r->test.rows[i], 1, ones)) || (st = forward(w, NULL)) || (st = cad_model_input(r->model, w->own))) break;
        for (int64_t t = 0; t < w->batch.head->tokens * h; t++) sum[t % h] += (double)w->own[t];
        tokens += w->batch.head->tokens;
    }
    for (int64_t k = 0; k < h; k++) w->mean[k] = (float)(sum[k] / (double)cad_max(1, tokens));
    cad_free(&sum);
    return st;
}

static cad_status open_work(work *w)
{
    const cadp_facts *f = &w->r->facts;
    size_t h = (size_t)w->r->arch.hidden;

    CAD_TRY(cad_batch_open(&w->batch, f->tokens, f->sequences, f->beside));
    CAD_TRY(cad_alloc(&w->mean, h, sizeof *w->mean, "a baseline"));
    CAD_TRY(cad_alloc(&w->own, (size_t)f->longest * h, sizeof *w->own, "inputs"));
    CAD_TRY(cad_alloc(&w->input, (size_t)f->tokens * h, sizeof *w->input, "inputs"));
    CAD_TRY(cad_alloc(&w->gradient, (size_t)f->tokens * h, sizeof *w->gradient, "gradients"));
    CAD_TRY(cad_alloc(&w->span, MOST_SPANS, sizeof *w->span, "fields"));
    CAD_TRY(cad_alloc(&w->bound, 2 * MOST_SPANS, sizeof *w->bound, "fields"));
    return cad_alloc(&w->path, MOST_SPANS + 1, sizeof *w->path, "fields");
}

static void close_work(work *w)
{
    cad_batch_close(&w->batch);
    cad_free(&w->mean);
    cad_free(&w->own);
    cad_free(&w->input);
    cad_free(&w->gradient);
    cad_free(&w->span);
    cad_free(&w->bound);
    cad_free(&w->path);
}

static cad_status explain_all(work *w, int64_t count, const char *dir)
{
    cadp_record_explained one = {0};
    cad_progress bar = {0};
    walk end = WALK_END;
    cad_status st = measure_mean(w, count);

    cad_progress_begin(&bar, "explaining", count);
    for (int64_t i = 0; i < count && !st; i++) {
        if (!(st = explain_row(w, i, &one))) st = cadp_explained_add(w->e, w->r->test.rows[i], &one);
        cad_progress_at(&bar, i + 1);
    }
    cad_progress_end(&bar);
    cadp_record_explained_close(&one);
    if (!st) st = share(w->r, &end, &w->batch, NULL);
    return st ? st : cadp_explained_write(w->e, dir);
}

static cad_status follow(work *w)
{
    walk what = WALK_FORWARD;

    while (what != WALK_END) {
        cad_watchdog_beat("explaining", 0);
        CAD_TRY(go_along(w, &what));
    }
    return CAD_OK;
}

cad_status cad_run_explain(cad_run *r, const char *output, int64_t rows)
{
    const char *dir = output ? output : r->o->prediction_output_dir;
    int64_t count = rows > 0 ? cad_min(rows, r->test.count) : r->test.count;
    cadp_explained e = {0};
    work w = {.r = r, .e = &e};
    cad_status st;

    if (r->method.num_labels != 2) return cad_fail(CAD_EUSAGE, "explain: expected a model of two labels, found %d", r->method.num_labels);
    if (!dir) return cad_fail(CAD_EUSAGE, "explain: expected --output DIR");
    st = open_work(&w);
    if (!st && !r->rank) st = cadp_explained_open(&e, r);
    if (!(st = cad_comm_agree(r->comm, st))) st = r->rank ? follow(&w) : explain_all(&w, count, dir);
    close_work(&w);
    cadp_explained_close(&e);
    return st;
}
