/* Scores of a few queries of one sequence, for all query heads that share a kv head, are one product: row (query, head of the group).
 * Rows of scores are whole, so their softmax needs one pass for the largest and one for the sum. */
#include "cpu_math.h"
#include "cpu_priv.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_QUERIES = 64, MOST_ROWS = 192 };

/* One kv head of one sequence: n tokens, `group` query heads of width d. */
typedef struct heads { const cad_attention_args *x; int32_t sequence; int64_t kv, n, d, group; float scale, softcap; } heads;
/* Queries [first, first + count), the keys [from, to) that any of them sees, and the scores' rows. */
typedef struct span { int64_t first, count, from, to, rows, ld; } span;

static heads heads_of(const cad_attention_args *x, int32_t sequence, int64_t kv)
{
    const int32_t *starts = x->packing->starts;

    return (heads){x, sequence, kv, starts[sequence + 1] - starts[sequence], x->head_dim, x->q_heads / x->kv_heads, (float)x->scale, (float)x->softcap};
}

/* Rows of the sequence, columns of the kv head (wide: d) or of its group (wide: group d; lse: group). */
static cad_tensor part(const heads *h, cad_tensor t, int64_t wide)
{
    return cad_columns(cad_slice(t, h->x->packing->starts[h->sequence], h->n), h->kv * wide, wide);
}

/* Queries at a time. */
static int64_t queries(const cad_attention_args *x)
{
    int64_t fit = MOST_ROWS / (x->q_heads / x->kv_heads) / 16 * 16;

    return cad_min(MOST_QUERIES, cad_max(16, fit));
}

static int64_t first_key(const heads *h, int64_t i) { return h->x->window ? cad_max(0, i - h->x->window + 1) : 0; }
static int64_t behind_key(const heads *h, int64_t i) { return h->x->causal ? i + 1 : h->n; }

static span span_of(const heads *h, int64_t first)
{
    span s = {.first = first, .count = cad_min(queries(h->x), h->n - first)};

    s.from = first_key(h, first);
    s.to = behind_key(h, first + s.count - 1);
    s.rows = s.count * h->group;
    s.ld = cad_round_up(s.to - s.from, 16);
    return s;
}

/* ---- blocks in fp32 ---- */

static float *take(float **room, int64_t floats)
{
    float *at = *room;

    *room += cad_round_up(floats, 16);
    return at;
}

/* Rows of a span, all heads of the group, as [rows, d] without gaps. */
static float *gather(const heads *h, const span *at, cad_tensor t, float **room)
{
    int64_t wide = h->group * h->d;
    float *to = take(room, at->count * wide);

    t = part(h, t, wide);
    for (int64_t i = 0; i < at->count; i++)
        for (int64_t j = 0; j < wide; j += CADP_STRIP) {
            int64_t n = cad_min(CADP_STRIP, wide - j);
            const float *from = cadp_get(t, at->first + i, j, n, to + i * wide + j);
            if (from != to + i * wide + j) memcpy(to + i * wide + j, from, (size_t)n * sizeof *to);
        }
    return to;
}

static void scatter(const heads *h, const span *at, cad_tensor t, const float *from)
{
    int64_t wide = h->group * h->d;

    t = part(h, t, wide);
    for (int64_t i = 0; i < at->count; i++) cadp_put(t, at->first + i, 0, wide, from + i * wide);
}

/* The first n rows of t turned, [d, n]; natural: where they lie in fp32, if asked for. */
static float *turn(cad_tensor t, int64_t n, float **room, cad_tensor *natural)
{
    float *to = take(room, t.cols * n);
    cad_tensor wide = cadp_widen(cad_slice(t, 0, n), room);

    cadp_transpose32(to, n, wide.data, wide.ld, n, t.cols);
    if (natural) *natural = wide;
    return to;
}

/* ---- scores ---- */

/* s = scale q k^T of a span, capped; keys: k^T of all keys, ld apart. */
static void score(const heads *h, const span *at, const float *q, const float *keys, int64_t ld, float *s)
{
    int64_t width = at->to - at->from;

    cadp_sgemm(at->rows, width, h->d, h->scale, (cadp_factor){q, h->d, false}, (cadp_factor){keys + at->from, ld, false}, 0, s, at->ld);
    for (int64_t r = 0; h->softcap > 0 && r < at->rows; r++) cadp_cap(s + r * at->ld, h->softcap, width);
}

/* Keys that row r sees are [*from, *to) of its scores; zeroes the others. */
static void see(const heads *h, const span *at, int64_t r, float *row, int64_t *from, int64_t *to)
{
    int64_t i = at->first + r / h->group;

    *from = first_key(h, i) - at->from;
    *to = behind_key(h, i) - at->from;
    memset(row, 0, (size_t)*from * sizeof *row);
    memset(row + *to, 0, (size_t)(at->ld - *to) * sizeof *row);
}

/* Probabilities (or what is multiplied by them) of row r for the keys [from, to) of the span, dropped. */
static void drop(const heads *h, const span *at, int64_t r, float *row, int64_t from, int64_t to)
{
    const cad_attention_args *x = h->x;
    float factor[CADP_STRIP];
    int64_t token = x->packing->starts[h->sequence] + at->first + r / h->group, head = h->kv * h->group + r % h->group, first = at->from + from, end = at->from + to;
    uint64_t word = (uint64_t)(token * x->q_heads + head) * (uint64_t)cad_ceil_div(x->packing->longest, 4);

    if (x->dropout <= 0) return;
    for (int64_t key = first / 4 * 4; key < end; key += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, end - key);
        cadp_keep(factor, x->dropout, x->seed, x->index, x->site, word + (uint64_t)key / 4, n);
        for (int64_t k = cad_max(key, first); k < key + n; k++) row[k - at->from] *= factor[k - key];
    }
}

/* ---- forward: a task is a span and a kv head ---- */

typedef struct forward { const cad_attention_args *x; const int64_t *spans; } forward; /* spans: those before each sequence */

static int32_t sequence_of(const int64_t *spans, int32_t sequences, int64_t wanted)
{
    int32_t low = 0, high = sequences;

    while (high - low > 1) {
        int32_t mid = low + (high - low) / 2;
        if (spans[mid] > wanted)
            high = mid;
        else
            low = mid;
    }
    return low;
}

static void soften(const heads *h, const span *at, float *s, float *inverse)
{
    cad_tensor lse = part(h, h->x->lse, h->group);
    int64_t from, to;

    for (int64_t r = 0; r < at->rows; r++) {
        float *row = s + r * at->ld, top, sum;
        see(h, at, r, row, &from, &to);
        top = cadp_largest(row + from, to - from);
        sum = cadp_exponentials(row + from, top, to - from);
        drop(h, at, r, row, from, to);
        inverse[r] = 1 / sum;
        ((float *)lse.data)[(at->first + r / h->group) * lse.ld + r % h->group] = top + logf(sum);
    }
}

static void attend(const void *args, int64_t i, void *work)
{
    const forward *f = args;
    const cad_attention_args *x = f->x;
    int32_t sequence = sequence_of(f->spans, x->packing->sequences, i / x->kv_heads);
    heads h = heads_of(x, sequence, i % x->kv_heads);
    span at = span_of(&h, (i / x->kv_heads - f->spans[sequence]) * queries(x));
    int64_t width = at.to - at.from;
    float *room = work, *keys = turn(part(&h, x->k, h.d), at.to, &room, NULL);
    cad_tensor v = cadp_widen(cad_slice(part(&h, x->v, h.d), at.from, width), &room);
    float *q = gather(&h, &at, x->q, &room), *o = take(&room, at.rows * h.d), *inverse = take(&room, at.rows), *s = take(&room, at.rows * at.ld);

    score(&h, &at, q, keys, at.to, s);
    soften(&h, &at, s, inverse);
    cadp_sgemm(at.rows, h.d, width, 1, (cadp_factor){s, at.ld, false}, (cadp_factor){v.data, v.ld, false}, 0, o, h.d);
    for (int64_t r = 0; r < at.rows; r++) cadp_scale_row(o + r * h.d, inverse[r], h.d);
    scatter(&h, &at, x->o, o);
}

/* Floats of blocks of the longest sequence: each of its tokens, each of a span's rows, and scores. */
static int64_t token_floats(const cad_attention_args *x) { return cad_round_up((int64_t)x->packing->longest * x->head_dim, 16); }
static int64_t span_rows(const cad_attention_args *x) { return cad_min(queries(x), x->packing->longest) * (x->q_heads / x->kv_heads); }
static int64_t row_floats(const cad_attention_args *x) { return cad_round_up(span_rows(x) * x->head_dim, 16); }
static int64_t score_floats(const cad_attention_args *x) { return span_rows(x) * cad_round_up(x->packing->longest, 16); }

static int64_t spans_bytes(const cad_packing *p) { return cad_round_up(((int64_t)p->sequences + 1) * (int64_t)sizeof(int64_t), 64); }

static int64_t forward_bytes(const cad_attention_args *x)
{
    int64_t blocks = x->k.dtype == CAD_F32 ? 1 : 3;

    return (blocks * token_floats(x) + 2 * row_floats(x) + cad_round_up(span_rows(x), 16) + score_floats(x)) * (int64_t)sizeof(float);
}

int64_t cadp_cpu_attention_fwd_work(const cad_device *d, const cad_attention_args *x) { return spans_bytes(x->packing) + d->threads * forward_bytes(x); }

cad_status cadp_cpu_attention_fwd(cad_device *d, const cad_attention_args *x, void *work)
{
    const cad_packing *p = x->packing;
    int64_t *spans = work;
    forward f = {x, spans};

    spans[0] = 0;
    for (int32_t s = 0; s < p->sequences; s++) spans[s + 1] = spans[s] + cad_ceil_div(p->starts[s + 1] - p->starts[s], queries(x));
    cadp_cpu_each(d, spans[p->sequences] * x->kv_heads, attend, &f, (char *)work + spans_bytes(p), forward_bytes(x));
    return CAD_OK;
}

/* ---- backward: a task is one sequence and one kv head, whose spans follow in order ---- */

typedef struct order { int64_t length, sequence; } order;
typedef struct backward { const cad_attention_bwd_args *x; const order *longest_first; } backward;

/* A task's keys and values, the sums of their gradients, and room for spans. */
typedef struct blocks { cad_tensor k, dk, dv; const float *keys, *values; float *room; } blocks;

/* s becomes the probabilities exp(s - lse), dp the gradient of the scores before scale and cap. */
CAD_CLONES static void through_softmax(float *s, float *dp, float lse, float mean, float scale, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float p = cadp_exp(s[i] - lse);
        s[i] = p;
        dp[i] = p * (dp[i] - mean) * scale;
    }
}

/* The gradients of a row of scores add up to nothing (a constant added to all scores changes no probability). What rounding left of their sum is taken out in
 * the shares of the probabilities: a key's bias would see it as a gradient. */
CAD_CLONES static void balance(float *dp, const float *p, int64_t n)
{
    double lane[16] = {0};
    int64_t i = 0;
    float rest;

    for (; i + 16 <= n; i += 16) {
#pragma omp simd
        for (int l = 0; l < 16; l++) lane[l] += (double)dp[i + l];
    }
    for (; i < n; i++) lane[i % 16] += (double)dp[i];
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    rest = (float)lane[0];
#pragma omp simd
    for (int64_t k = 0; k < n; k++) dp[k] -= rest * p[k];
}

CAD_CLONES static void through_cap(float *dp, const float *s, float softcap, int64_t n)
{
    float by = 1 / softcap;

#pragma omp simd
    for (int64_t i = 0; i < n; i++) dp[i] *= 1 - s[i] * by * (s[i] * by);
}

/* With softcap, dp - mean is scaled by the cap's slope first, which commutes with the softmax's factors. */
static void soften_back(const heads *h, const span *at, const float *o, const float *d_o, float *s, float *dp)
{
    cad_tensor lse = part(h, h->x->lse, h->group);
    int64_t from, to, ignored;

    for (int64_t r = 0; r < at->rows; r++) {
        float *row = s + r * at->ld, *slope = dp + r * at->ld, mean = cadp_dot(o + r * h->d, d_o + r * h->d, h->d);
        see(h, at, r, row, &from, &to);
        see(h, at, r, slope, &from, &ignored);
        drop(h, at, r, slope, from, to);
        if (h->softcap > 0) {
            for (int64_t i = from; i < to; i++) slope[i] -= mean;
            mean = 0;
            through_cap(slope + from, row + from, h->softcap, to - from);
        }
        through_softmax(row + from, slope + from, ((const float *)lse.data)[(at->first + r / h->group) * lse.ld + r % h->group], mean, h->scale, to - from);
        if (h->softcap <= 0) balance(slope + from, row + from, to - from);
        if (to - from == 1) slope[from] = 0; /* the probability of a single key stays 1 */
        drop(h, at, r, row, from, to);
    }
}

static void span_gradient(const heads *h, const span *at, const cad_attention_bwd_args *x, const blocks *b)
{
    int64_t width = at->to - at->from, d = h->d;
    float *room = b->room, *q = gather(h, at, x->f.q, &room), *d_o = gather(h, at, x->d_o, &room), *o = gather(h, at, x->f.o, &room);
    float *s = take(&room, at->rows * at->ld), *dp = take(&room, at->rows * at->ld);
    cadp_factor ds = {dp, at->ld, false}, ds_turned = {dp, at->ld, true}, p_turned = {s, at->ld, true};

    score(h, at, q, b->keys, h->n, s);
    cadp_sgemm(at->rows, width, d, 1, (cadp_factor){d_o, d, false}, (cadp_factor){b->values + at->from, h->n, false}, 0, dp, at->ld);
    soften_back(h, at, o, d_o, s, dp);
    cadp_sgemm(at->rows, d, width, 1, ds, (cadp_factor){(const float *)b->k.data + at->from * b->k.ld, b->k.ld, false}, 0, o, d);
    scatter(h, at, x->dq, o);
    cadp_sgemm(width, d, at->rows, 1, ds_turned, (cadp_factor){q, d, false}, 1, (float *)b->dk.data + at->from * b->dk.ld, b->dk.ld);
    cadp_sgemm(width, d, at->rows, 1, p_turned, (cadp_factor){d_o, d, false}, 1, (float *)b->dv.data + at->from * b->dv.ld, b->dv.ld);
}

/* F32 zeros to sum into: t itself, or room. */
static cad_tensor begin_sum(cad_tensor t, float **room)
{
    cad_tensor sum = t.dtype == CAD_F32 ? t : cad_view(take(room, t.rows * t.cols), CAD_F32, t.rows, t.cols);

    for (int64_t i = 0; i < t.rows; i++) memset((float *)sum.data + i * sum.ld, 0, (size_t)t.cols * sizeof(float));
    return sum;
}

static void end_sum(cad_tensor t, cad_tensor sum)
{
    for (int64_t i = 0; i < t.rows; i++) cadp_put(t, i, 0, t.cols, (const float *)sum.data + i * sum.ld);
}

static void attend_back(const void *args, int64_t i, void *work)
{
    const backward *w = args;
    const cad_attention_bwd_args *x = w->x;
    heads h = heads_of(&x->f, (int32_t)w->longest_first[i / x->f.kv_heads].sequence, i % x->f.kv_heads);
    cad_tensor dk = part(&h, x->dk, h.d), dv = part(&h, x->dv, h.d);
    blocks b = {.room = work};

    b.dk = begin_sum(dk, &b.room);
    b.dv = begin_sum(dv, &b.room);
    b.keys = turn(part(&h, x->f.k, h.d), h.n, &b.room, &b.k);
    b.values = turn(part(&h, x->f.v, h.d), h.n, &b.room, NULL);
    for (int64_t first = 0; first < h.n; first += queries(&x->f)) {
        span at = span_of(&h, first);
        span_gradient(&h, &at, x, &b);
    }
    end_sum(dk, b.dk);
    end_sum(dv, b.dv);
}

static int64_t orders_bytes(const cad_packing *p) { return cad_round_up((int64_t)p->sequences * (int64_t)sizeof(order), 64); }

static int64_t backward_bytes(const cad_attention_args *x)
{
    int64_t tokens = x->k.dtype == CAD_F32 ? 2 : 6;

    return (tokens * token_floats(x) + 3 * row_floats(x) + 2 * score_floats(x)) * (int64_t)sizeof(float);
}

int64_t cadp_cpu_attention_bwd_work(const cad_device *d, const cad_attention_bwd_args *x)
{
    return orders_bytes(x->f.packing) + d->threads * backward_bytes(&x->f);
}

static int longer(const void *a, const void *b)
{
    const order *x = a, *y = b;

    return x->length != y->length ? (x->length < y->length) - (x->length > y->length) : (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

cad_status cadp_cpu_attention_bwd(cad_device *d, const cad_attention_bwd_args *x, void *work)
{
    const cad_packing *p = x->f.packing;
    order *orders = work;
    backward w = {x, orders};

    for (int32_t s = 0; s < p->sequences; s++) orders[s] = (order){p->starts[s + 1] - p->starts[s], s};
    qsort(orders, (size_t)p->sequences, sizeof *orders, longer);
    cadp_cpu_each(d, p->sequences * x->f.kv_heads, attend_back, &w, (char *)work + orders_bytes(p), backward_bytes(&x->f));
    return CAD_OK;
}
