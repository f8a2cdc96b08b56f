#include "cpu_math.h"
#include "cpu_priv.h"

#include <math.h>

/* Elements of one tile. */
enum { FLAT = 1 << 14 };

typedef struct adamw_args { float *p, *m, *v; const float *g; uint16_t *copy; float keep, beta1, beta2, rate, root, eps, clip; int64_t n; } adamw_args;

CAD_CLONES static void adamw(const adamw_args *a, int64_t from, int64_t to)
{
    float *p = a->p, *m = a->m, *v = a->v, keep = a->keep, pull = a->beta1, beta2 = a->beta2, rate = a->rate, root = a->root, eps = a->eps, clip = a->clip;
    const float *grad = a->g;
    float push = 1 - beta2;

#pragma omp simd
    for (int64_t i = from; i < to; i++) {
        float g = clip * grad[i], first = m[i] + (g - m[i]) * pull, second = beta2 * v[i] + push * (g * g);
        m[i] = first;
        v[i] = second;
        p[i] = p[i] * keep - rate * first / (__builtin_sqrtf(second) * root + eps);
    }
}

CAD_CLONES static void round_copy(uint16_t *to, const float *from, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) to[i] = cadp_round_bf16(from[i]);
}

static void adamw_tile(const void *args, int64_t i, void *work)
{
    const adamw_args *a = args;
    int64_t from = i * FLAT, to = cad_min(a->n, from + FLAT);

    (void)work;
    adamw(a, from, to);
    if (a->copy) round_copy(a->copy + from, a->p + from, to - from);
}

cad_status cadp_cpu_adamw(cad_device *d, const cad_adamw_args *x, void *work)
{
    double c1 = 1 - pow(x->beta1, (double)x->step), c2 = 1 - pow(x->beta2, (double)x->step);
    adamw_args a = {x->p.data, x->m.data, x->v.data, x->g.data, x->copy.data, (float)(1 - x->lr * x->decay), (float)(1 - x->beta1), (float)x->beta2,
                    (float)(x->lr / c1), (float)(1 / sqrt(c2)), (float)x->eps, (float)x->clip, x->p.cols};

    (void)work;
    cadp_cpu_each(d, cad_ceil_div(a.n, FLAT), adamw_tile, &a, NULL, 0);
    return CAD_OK;
}

/* Eight chunks at a time: each in its own order, their additions overlap. */
enum { CHUNKS = 8 };

static void sum_chunks(const void *args, int64_t i, void *work)
{
    const cad_sumsq_args *a = args;
    const float *x = a->x.data;
    int64_t chunk = i * CHUNKS, chunks = cad_min(CHUNKS, a->out.cols - chunk), whole = (chunk + CHUNKS) * CAD_CHUNK <= a->x.cols ? CAD_CHUNK : 0;
    double sum[CHUNKS] = {0}, *out = (double *)a->out.data + chunk;

    (void)work;
    for (int64_t e = 0; e < whole; e++)
        for (int c = 0; c < CHUNKS; c++) {
            double v = (double)x[(chunk + c) * CAD_CHUNK + e];
            sum[c] += v * v;
        }
    for (int64_t c = 0; !whole && c < chunks; c++)
        for (int64_t e = (chunk + c) * CAD_CHUNK; e < cad_min((chunk + c + 1) * CAD_CHUNK, a->x.cols); e++) sum[c] += (double)x[e] * (double)x[e];
    memcpy(out, sum, (size_t)chunks * sizeof *out);
}

cad_status cadp_cpu_sumsq(cad_device *d, const cad_sumsq_args *x, void *work)
{
    (void)work;
    cadp_cpu_each(d, cad_ceil_div(x->out.cols, CHUNKS), sum_chunks, x, NULL, 0);
    return CAD_OK;
}

/* scale: 2^exponent or 2^-exponent; largest: of each tile, the largest magnitude as bits (those of NaN are above all). */
typedef struct fixed_args { int64_t *q; float *x; uint32_t *largest; double scale; int64_t n; bool accumulate; } fixed_args;

CAD_CLONES static uint32_t to_fixed(int64_t *q, const float *x, double scale, uint64_t keep, int64_t n)
{
    uint32_t top = 0;

#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = cadp_bits(x[i]) & 0x7fffffff;
        double s = bits > 0x7f800000 ? 0 : (double)x[i] * scale, low = s > -0x1p62 ? s : -0x1p62, v = low < 0x1p62 ? low : 0x1p62;
        top = bits > top ? bits : top;
        q[i] = (int64_t)(((uint64_t)q[i] & keep) + (uint64_t)(int64_t)__builtin_rint(v));
    }
    return top;
}

static void fixed_tile(const void *args, int64_t i, void *work)
{
    const fixed_args *a = args;
    int64_t from = i * FLAT, n = cad_min(FLAT, a->n - from);

    (void)work;
    if (!a->accumulate) memset(a->q + from, 0, (size_t)n * sizeof *a->q);
    a->largest[i] = to_fixed(a->q + from, a->x + from, a->scale, UINT64_MAX, n);
}

int64_t cadp_cpu_fixed_add_work(const cad_device *d, const cad_fixed_args *x)
{
    (void)d;
    return cad_ceil_div(x->x.cols, FLAT) * (int64_t)sizeof(uint32_t);
}

cad_status cadp_cpu_fixed_add(cad_device *d, const cad_fixed_args *x, void *work)
{
    fixed_args a = {x->q.data, x->x.data, work, ldexp(1, x->exponent), x->x.cols, x->accumulate};
    int64_t tiles = cad_ceil_div(a.n, FLAT);
    double *largest = x->largest.data;
    uint32_t top = 0;

    cadp_cpu_each(d, tiles, fixed_tile, &a, NULL, 0);
    for (int64_t i = 0; i < tiles; i++) top = a.largest[i] > top ? a.largest[i] : top;
    *largest = top >= 0x7f800000 ? INFINITY : fmax(*largest, (double)cadp_float(top));
    return CAD_OK;
}

CAD_CLONES static void from_fixed(float *x, const int64_t *q, double scale, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] = (float)((double)q[i] * scale);
}

static void back_tile(const void *args, int64_t i, void *work)
{
    const fixed_args *a = args;

    (void)work;
    from_fixed(a->x + i * FLAT, a->q + i * FLAT, a->scale, cad_min(FLAT, a->n - i * FLAT));
}

cad_status cadp_cpu_fixed_back(cad_device *d, const cad_fixed_args *x, void *work)
{
    fixed_args a = {.q = x->q.data, .x = x->x.data, .scale = ldexp(1, -x->exponent), .n = x->x.cols};

    (void)work;
    cadp_cpu_each(d, cad_ceil_div(a.n, FLAT), back_tile, &a, NULL, 0);
    return CAD_OK;
}

CAD_CLONES static void add_words(uint64_t *q, const uint64_t *other, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) q[i] += other[i];
}

static void add_tile(const void *args, int64_t i, void *work)
{
    const cad_fixed_args *x = args;

    (void)work;
    add_words((uint64_t *)x->q.data + i * FLAT, (const uint64_t *)x->x.data + i * FLAT, cad_min(FLAT, x->q.cols - i * FLAT));
}

cad_status cadp_cpu_add_i64(cad_device *d, const cad_fixed_args *x, void *work)
{
    (void)work;
    cadp_cpu_each(d, cad_ceil_div(x->q.cols, FLAT), add_tile, x, NULL, 0);
    return CAD_OK;
}
