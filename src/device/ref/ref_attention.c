#include "ref_priv.h"

#include <math.h>

cad_status cadp_ref_rope(cad_device *d, const cad_rope_args *x, void *work)
{
    int64_t half = x->head_dim / 2, step = x->pairs ? 1 : half;

    (void)d, (void)work;
    for (int32_t s = 0; s < x->packing->sequences; s++)
        for (int64_t t = x->packing->starts[s], p = 0; t < x->packing->starts[s + 1]; t++, p++)
            for (int64_t c = 0; c < x->x.cols / 2; c++) {
                int64_t j = c % half, first = c / half * x->head_dim + (x->pairs ? 2 * j : j);
                double co = cadp_load(x->cosine, p, j), si = cadp_load(x->sine, p, j) * (x->inverse ? -1 : 1);
                double a = cadp_load(x->x, t, first), b = cadp_load(x->x, t, first + step);
                cadp_store(x->x, t, first, a * co - b * si);
                cadp_store(x->x, t, first + step, b * co + a * si);
            }
    return CAD_OK;
}

/* One head of one sequence: rows are its tokens. */
typedef struct head { cad_tensor q, k, v, o, lse; int64_t n, window; double scale, softcap; bool causal; const cad_attention_args *x; int32_t first; int64_t number; } head; /* first: token; number: of the query head */

static cad_tensor cut(cad_tensor t, const cad_packing *p, int32_t s, int64_t column, int64_t width)
{
    return cad_columns(cad_slice(t, p->starts[s], p->starts[s + 1] - p->starts[s]), column * width, width);
}

static head head_of(const cad_attention_args *x, int32_t s, int64_t h)
{
    int64_t d = x->head_dim, kv = h / (x->q_heads / x->kv_heads);
    const cad_packing *p = x->packing;

    return (head){cut(x->q, p, s, h, d), cut(x->k, p, s, kv, d), cut(x->v, p, s, kv, d), cut(x->o, p, s, h, d), cut(x->lse, p, s, h, 1),
                  p->starts[s + 1] - p->starts[s], x->window, x->scale, x->softcap, x->causal, x, p->starts[s], h};
}

/* Query i sees keys [first, behind). */
static int64_t first_key(const head *h, int64_t i) { return h->window ? cad_max(0, i - h->window + 1) : 0; }
static int64_t behind_key(const head *h, int64_t i) { return h->causal ? i + 1 : h->n; }

static double dot_rows(cad_tensor a, int64_t i, cad_tensor b, int64_t j)
{
    double sum = 0;

    for (int64_t c = 0; c < a.cols; c++) sum += cadp_load(a, i, c) * cadp_load(b, j, c);
    return sum;
}

static double score(const head *h, int64_t i, int64_t k)
{
    double s = h->scale * dot_rows(h->q, i, h->k, k);

    return h->softcap > 0 ? h->softcap * tanh(s / h->softcap) : s;
}

/* What dropout makes of the probability of (query i, key k). */
static double keep(const head *h, int64_t i, int64_t k)
{
    const cad_attention_args *x = h->x;
    uint64_t row = (uint64_t)(h->first + i) * (uint64_t)x->q_heads + (uint64_t)h->number, word = row * (uint64_t)cad_ceil_div(x->packing->longest, 4) + (uint64_t)k / 4;
    uint32_t words[4];

    if (x->dropout <= 0) return 1;
    cad_rng_words(x->seed, CAD_RNG_DROPOUT, x->site, x->index << 32 | word, words);
    return (double)words[k % 4] >= x->dropout * 0x1p32 ? 1 / (1 - x->dropout) : 0;
}

static void attend(const head *h, int64_t i, double *s)
{
    int64_t from = first_key(h, i), to = behind_key(h, i);
    double top = -INFINITY, sum = 0;

    for (int64_t k = from; k < to; k++) top = fmax(top, s[k] = score(h, i, k));
    for (int64_t k = from; k < to; k++) sum += s[k] = exp(s[k] - top);
    for (int64_t k = from; k < to; k++) s[k] = s[k] / sum * keep(h, i, k);
    for (int64_t c = 0; c < h->o.cols; c++) {
        double o = 0;
        for (int64_t k = from; k < to; k++) o += s[k] * cadp_load(h->v, k, c);
        cadp_store(h->o, i, c, o);
    }
    cadp_store(h->lse, i, 0, top + log(sum));
}

int64_t cadp_ref_attention_fwd_work(const cad_device *d, const cad_attention_args *x)
{
    (void)d;
    return x->packing->longest * (int64_t)sizeof(double);
}

cad_status cadp_ref_attention_fwd(cad_device *d, const cad_attention_args *x, void *work)
{
    (void)d;
    for (int32_t s = 0; s < x->packing->sequences; s++)
        for (int64_t q = 0; q < x->q_heads; q++) {
            head h = head_of(x, s, q);
            for (int64_t i = 0; i < h.n; i++) attend(&h, i, work);
        }
    return CAD_OK;
}

/* What query i adds to the gradients; p is the row of probabilities again. */
static void add_query(const head *h, cad_tensor d_o, cad_tensor dq, cad_tensor dk, cad_tensor dv, int64_t i)
{
    double mean = dot_rows(d_o, i, h->o, i), lse = cadp_load(h->lse, i, 0);
    double *q = dq.data;

    memset(q, 0, (size_t)dq.cols * sizeof *q);
    for (int64_t k = first_key(h, i); k < behind_key(h, i); k++) {
        double s = score(h, i, k), p = exp(s - lse), kept = keep(h, i, k), ds = p * (kept * dot_rows(d_o, i, h->v, k) - mean) * h->scale;
        if (h->softcap > 0) ds *= 1 - s / h->softcap * (s / h->softcap);
        for (int64_t c = 0; c < h->q.cols; c++) {
            ((double *)dv.data)[k * dv.ld + c] += p * kept * cadp_load(d_o, i, c);
            ((double *)dk.data)[k * dk.ld + c] += ds * cadp_load(h->q, i, c);
            q[c] += ds * cadp_load(h->k, k, c);
        }
    }
}

static void store_all(cad_tensor to, cad_tensor from)
{
    for (int64_t i = 0; i < to.rows; i++)
        for (int64_t j = 0; j < to.cols; j++) cadp_store(to, i, j, cadp_load(from, i, j));
}

/* Gradients of one sequence and one kv head, over all query heads that share it. */
static void kv_head_gradient(const cad_attention_bwd_args *x, int32_t s, int64_t kv, double *work)
{
    const cad_attention_args *f = &x->f;
    const cad_packing *p = f->packing;
    int64_t n = p->starts[s + 1] - p->starts[s], d = f->head_dim, group = f->q_heads / f->kv_heads;
    cad_tensor dk = cad_view(work, CAD_F64, n, d), dv = cad_view(work + n * d, CAD_F64, n, d), dq = cad_view(work + 2 * n * d, CAD_F64, 1, d);

    memset(work, 0, (size_t)(2 * n * d) * sizeof *work);
    for (int64_t q = kv * group; q < (kv + 1) * group; q++) {
        head h = head_of(f, s, q);
        for (int64_t i = 0; i < n; i++) {
            add_query(&h, cut(x->d_o, p, s, q, d), dq, dk, dv, i);
            store_all(cad_slice(cut(x->dq, p, s, q, d), i, 1), dq);
        }
    }
    store_all(cut(x->dk, p, s, kv, d), dk);
    store_all(cut(x->dv, p, s, kv, d), dv);
}

int64_t cadp_ref_attention_bwd_work(const cad_device *d, const cad_attention_bwd_args *x)
{
    (void)d;
    return (2 * (int64_t)x->f.packing->longest + 1) * x->f.head_dim * (int64_t)sizeof(double);
}

cad_status cadp_ref_attention_bwd(cad_device *d, const cad_attention_bwd_args *x, void *work)
{
    (void)d;
    for (int32_t s = 0; s < x->f.packing->sequences; s++)
        for (int64_t kv = 0; kv < x->f.kv_heads; kv++) kv_head_gradient(x, s, kv, work);
    return CAD_OK;
}
