#include "cpu_math.h"
#include "cpu_priv.h"

#include <math.h>

/* Queries of one tile. */
enum { QUERIES = 64 };

/* One query head of one sequence. */
typedef struct head { cad_tensor q, k, v; int64_t n, d, window; float scale, softcap; bool causal; } head;
/* Queries [first, first + count) and the keys [from, to) that any of them sees. */
typedef struct span { int64_t first, count, from, to; } span;

static cad_tensor cut(cad_tensor t, const cad_packing *p, int32_t s, int64_t column, int64_t width)
{
    return cad_columns(cad_slice(t, p->starts[s], p->starts[s + 1] - p->starts[s]), column * width, width);
}

static int64_t first_key(const head *h, int64_t i) { return h->window ? cad_max(0, i - h->window + 1) : 0; }
static int64_t behind_key(const head *h, int64_t i) { return h->causal ? i + 1 : h->n; }
static bool sees_one(const head *h, int64_t i) { return behind_key(h, i) - first_key(h, i) == 1; }

static span span_of(const head *h, int64_t first)
{
    int64_t count = cad_min(QUERIES, h->n - first);

    return (span){first, count, first_key(h, first), behind_key(h, first + count - 1)};
}

static cadp_factor factor(cad_tensor t, bool turned) { return (cadp_factor){t.data, t.ld, turned}; }

CAD_CLONES static void cap(float *s, float softcap, int64_t n)
{
    float by = 1 / softcap;

#pragma omp simd
    for (int64_t i = 0; i < n; i++) s[i] = softcap * cadp_tanh(s[i] * by);
}

/* s = scale q k^T of a span, capped, row by row from key `from` on; q holds the span's rows. */
static void scores(const head *h, const span *at, cad_tensor q, float *s)
{
    int64_t width = at->to - at->from;

    cadp_sgemm(at->count, width, h->d, h->scale, factor(q, false), factor(cad_slice(h->k, at->from, width), true), 0, s, width);
    if (h->softcap > 0) cap(s, h->softcap, at->count * width);
}

CAD_CLONES static float largest(const float *x, int64_t n)
{
    float top = x[0];

#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
    return top;
}

CAD_CLONES static void exponentials(float *x, float top, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] = cadp_exp(x[i] - top);
}

CAD_CLONES static float total(const float *x, int64_t n)
{
    cadp_lanes sum = {0}, v;
    int64_t i = 0;

    for (; i + 16 <= n; i += 16) {
        memcpy(&v, x + i, sizeof v);
        sum += v;
    }
    for (; i < n; i++) sum[i % 16] += x[i];
    return cadp_join(&sum);
}

CAD_CLONES static void scale_row(float *x, float by, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] *= by;
}

/* Keys that query i of the span sees are [*from, *to) of its row; zeroes the others. */
static void see(const head *h, const span *at, int64_t i, float *row, int64_t *from, int64_t *to)
{
    int64_t width = at->to - at->from;

    *from = first_key(h, at->first + i) - at->from;
    *to = behind_key(h, at->first + i) - at->from;
    memset(row, 0, (size_t)*from * sizeof *row);
    memset(row + *to, 0, (size_t)(width - *to) * sizeof *row);
}

static void soften(const head *h, const span *at, float *s, float *inverse, cad_tensor lse)
{
    int64_t width = at->to - at->from, from, to;

    for (int64_t i = 0; i < at->count; i++) {
        float *row = s + i * width, top, sum;
        see(h, at, i, row, &from, &to);
        top = largest(row + from, to - from);
        exponentials(row + from, top, to - from);
        sum = total(row + from, to - from);
        inverse[i] = 1 / sum;
        ((float *)lse.data)[(at->first + i) * lse.ld] = top + logf(sum);
    }
}

/* ---- forward: a task is a span of one sequence, for all query heads of one kv head ---- */

typedef struct fwd_args { const cad_attention_args *x; const int64_t *spans; } fwd_args; /* spans before each sequence */

static head head_of(const cad_attention_args *x, int32_t s, int64_t h, cad_tensor k, cad_tensor v)
{
    return (head){cut(x->q, x->packing, s, h, x->head_dim), k, v, x->packing->starts[s + 1] - x->packing->starts[s], x->head_dim, x->window,
                  (float)x->scale, (float)x->softcap, x->causal};
}

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

static void attend(const head *h, const span *at, cad_tensor o, cad_tensor lse, float *room)
{
    int64_t width = at->to - at->from;
    float *s = room, *inverse = s + cad_round_up(QUERIES * width, 16), *rows = inverse + QUERIES, *wide = rows;
    cad_tensor q = cadp_widen(cad_slice(h->q, at->first, at->count), &wide);
    int64_t ld = o.dtype == CAD_F32 ? o.ld : h->d;
    float *out = cadp_slot(o, at->first, 0, rows);

    scores(h, at, q, s);
    soften(h, at, s, inverse, lse);
    cadp_sgemm(at->count, h->d, width, 1, (cadp_factor){s, width, false}, factor(cad_slice(h->v, at->from, width), false), 0, out, ld);
    for (int64_t i = 0; i < at->count; i++) {
        scale_row(out + i * ld, inverse[i], h->d);
        cadp_put(o, at->first + i, 0, h->d, out + i * ld);
    }
}

static void attend_span(const void *args, int64_t i, void *work)
{
    const fwd_args *a = args;
    const cad_attention_args *x = a->x;
    int64_t kv = i % x->kv_heads, group = x->q_heads / x->kv_heads;
    int32_t s = sequence_of(a->spans, x->packing->sequences, i / x->kv_heads);
    cad_tensor k = cut(x->k, x->packing, s, kv, x->head_dim), v = cut(x->v, x->packing, s, kv, x->head_dim);
    head h = head_of(x, s, kv * group, k, v);
    span at = span_of(&h, (i / x->kv_heads - a->spans[s]) * QUERIES);
    float *room = work;

    k = cadp_widen(cad_slice(k, 0, at.to), &room);
    v = cadp_widen(cad_slice(v, 0, at.to), &room);
    for (int64_t q = kv * group; q < (kv + 1) * group; q++) {
        h = head_of(x, s, q, k, v);
        attend(&h, &at, cut(x->o, x->packing, s, q, x->head_dim), cut(x->lse, x->packing, s, q, 1), room);
    }
}

static int64_t spans_bytes(const cad_packing *p) { return cad_round_up(((int64_t)p->sequences + 1) * (int64_t)sizeof(int64_t), 64); }

static int64_t fwd_floats(const cad_attention_args *x)
{
    int64_t longest = x->packing->longest, d = x->head_dim;

    return 2 * cadp_widen_floats(x->k.dtype, longest, d) + cad_round_up(QUERIES * longest, 16) + QUERIES + cad_round_up(QUERIES * d, 16);
}

int64_t cadp_cpu_attention_fwd_work(const cad_device *d, const cad_attention_args *x)
{
    return spans_bytes(x->packing) + d->threads * fwd_floats(x) * (int64_t)sizeof(float);
}

cad_status cadp_cpu_attention_fwd(cad_device *d, const cad_attention_args *x, void *work)
{
    const cad_packing *p = x->packing;
    int64_t *spans = work;
    fwd_args a = {x, spans};

    spans[0] = 0;
    for (int32_t s = 0; s < p->sequences; s++) spans[s + 1] = spans[s] + cad_ceil_div(p->starts[s + 1] - p->starts[s], QUERIES);
    cadp_cpu_each(d, spans[p->sequences] * x->kv_heads, attend_span, &a, (char *)work + spans_bytes(p), fwd_floats(x) * (int64_t)sizeof(float));
    return CAD_OK;
}

/* ---- backward: a task is one sequence and one kv head; its query heads and their spans follow in order ---- */

/* p = exp(s - lse), 0 where it is not seen. */
static void probabilities(const head *h, const span *at, const float *s, float *p, cad_tensor lse)
{
    int64_t width = at->to - at->from, from, to;

    for (int64_t i = 0; i < at->count; i++) {
        float *row = p + i * width;
        see(h, at, i, row, &from, &to);
        if (row != s + i * width) memcpy(row + from, s + i * width + from, (size_t)(to - from) * sizeof *row);
        exponentials(row + from, ((const float *)lse.data)[(at->first + i) * lse.ld], to - from);
    }
}

CAD_CLONES static float dot(const float *a, const float *b, int64_t n)
{
    cadp_lanes sum = {0}, x, y;
    int64_t i = 0;

    for (; i + 16 <= n; i += 16) {
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        sum += x * y;
    }
    for (; i < n; i++) sum[i % 16] += a[i] * b[i];
    return cadp_join(&sum);
}

/* dp becomes the gradient of the scores before scaling and cap. */
CAD_CLONES static void through_softmax(float *dp, const float *p, float mean, float scale, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dp[i] = p[i] * (dp[i] - mean) * scale;
}

CAD_CLONES static void through_cap(float *ds, const float *s, float softcap, int64_t n)
{
    float by = 1 / softcap;

#pragma omp simd
    for (int64_t i = 0; i < n; i++) ds[i] *= 1 - s[i] * by * (s[i] * by);
}

/* Where a task's gradients are summed: dk, dv [n, d] F32; and the work space of a span. */
typedef struct sums { cad_tensor dk, dv; float *s, *p, *dp, *rows; } sums;

static void span_gradient(const head *h, const span *at, const cad_attention_bwd_args *x, int32_t seq, int64_t query_head, const sums *g)
{
    const cad_packing *packing = x->f.packing;
    int64_t d = h->d, width = at->to - at->from;
    cad_tensor dq = cad_slice(cut(x->dq, packing, seq, query_head, d), at->first, at->count);
    float *room = g->rows, *out;
    cad_tensor q = cadp_widen(cad_slice(h->q, at->first, at->count), &room);
    cad_tensor d_o = cadp_widen(cad_slice(cut(x->d_o, packing, seq, query_head, d), at->first, at->count), &room);
    cad_tensor o = cadp_widen(cad_slice(cut(x->f.o, packing, seq, query_head, d), at->first, at->count), &room);
    cadp_factor k = factor(cad_slice(h->k, at->from, width), false), v = factor(cad_slice(h->v, at->from, width), true);
    int64_t ld = dq.dtype == CAD_F32 ? dq.ld : d;

    scores(h, at, q, g->s);
    probabilities(h, at, g->s, g->p, cut(x->f.lse, packing, seq, query_head, 1));
    cadp_sgemm(at->count, width, d, 1, factor(d_o, false), v, 0, g->dp, width);
    for (int64_t i = 0; i < at->count; i++) {
        float mean = dot((const float *)d_o.data + i * d_o.ld, (const float *)o.data + i * o.ld, d);
        through_softmax(g->dp + i * width, g->p + i * width, mean, h->scale, width);
        if (sees_one(h, at->first + i)) memset(g->dp + i * width, 0, (size_t)width * sizeof(float)); /* its probability stays 1 */
    }
    if (h->softcap > 0) through_cap(g->dp, g->s, h->softcap, at->count * width);
    out = cadp_slot(dq, 0, 0, room);
    cadp_sgemm(at->count, d, width, 1, (cadp_factor){g->dp, width, false}, k, 0, out, ld);
    for (int64_t i = 0; i < at->count; i++) cadp_put(dq, i, 0, d, out + i * ld);
    cadp_sgemm(width, d, at->count, 1, (cadp_factor){g->dp, width, true}, factor(q, false), 1, (float *)g->dk.data + at->from * g->dk.ld, g->dk.ld);
    cadp_sgemm(width, d, at->count, 1, (cadp_factor){g->p, width, true}, factor(d_o, false), 1, (float *)g->dv.data + at->from * g->dv.ld, g->dv.ld);
}

/* F32 zeros to sum into: t itself, or room. */
static cad_tensor begin_sum(cad_tensor t, float **room)
{
    cad_tensor sum = t.dtype == CAD_F32 ? t : cad_view(*room, CAD_F32, t.rows, t.cols);

    *room += cadp_widen_floats(t.dtype, t.rows, t.cols);
    for (int64_t i = 0; i < t.rows; i++) memset((float *)sum.data + i * sum.ld, 0, (size_t)t.cols * sizeof(float));
    return sum;
}

static void end_sum(cad_tensor t, cad_tensor sum)
{
    for (int64_t i = 0; i < t.rows; i++) cadp_put(t, i, 0, t.cols, (const float *)sum.data + i * sum.ld);
}

static void kv_head_gradient(const void *args, int64_t i, void *work)
{
    const cad_attention_bwd_args *x = args;
    const cad_attention_args *f = &x->f;
    int64_t kv = i % f->kv_heads, group = f->q_heads / f->kv_heads, d = f->head_dim;
    int32_t s = (int32_t)(i / f->kv_heads);
    float *room = work;
    cad_tensor k = cadp_widen(cut(f->k, f->packing, s, kv, d), &room), v = cadp_widen(cut(f->v, f->packing, s, kv, d), &room);
    cad_tensor dk = cut(x->dk, f->packing, s, kv, d), dv = cut(x->dv, f->packing, s, kv, d);
    sums g = {.dk = begin_sum(dk, &room), .dv = begin_sum(dv, &room)};
    int64_t tile = cad_round_up(QUERIES * k.rows, 16);

    g.s = room;
    g.dp = g.s + tile;
    g.p = f->softcap > 0 ? g.dp + tile : g.s;
    g.rows = g.dp + tile + (f->softcap > 0 ? tile : 0);
    for (int64_t q = kv * group; q < (kv + 1) * group; q++) {
        head h = head_of(f, s, q, k, v);
        for (int64_t first = 0; first < h.n; first += QUERIES) {
            span at = span_of(&h, first);
            span_gradient(&h, &at, x, s, q, &g);
        }
    }
    end_sum(dk, g.dk);
    end_sum(dv, g.dv);
}

static int64_t bwd_floats(const cad_attention_bwd_args *x)
{
    int64_t longest = x->f.packing->longest, d = x->f.head_dim, tiles = x->f.softcap > 0 ? 3 : 2;

    return 4 * cadp_widen_floats(x->f.k.dtype, longest, d) + tiles * cad_round_up(QUERIES * longest, 16) + 4 * cad_round_up(QUERIES * d, 16);
}

int64_t cadp_cpu_attention_bwd_work(const cad_device *d, const cad_attention_bwd_args *x) { return d->threads * bwd_floats(x) * (int64_t)sizeof(float); }

cad_status cadp_cpu_attention_bwd(cad_device *d, const cad_attention_bwd_args *x, void *work)
{
    cadp_cpu_each(d, x->f.packing->sequences * x->f.kv_heads, kv_head_gradient, x, work, bwd_floats(x) * (int64_t)sizeof(float));
    return CAD_OK;
}
