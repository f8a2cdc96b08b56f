/* Flat operations on shards. */
#include "cuda_grid.h"

typedef struct adamw { float *p, *m, *v; const float *g; bf16 *copy; float keep, pull, beta2, rate, root, eps, clip; int64_t n; bool wide; } adamw;

KERNEL(EIGHTS, 8) step_adamw(adamw a)
{
    int64_t from = my_eighth();
    int n = count_of(from, a.n);
    float p[8], m[8], v[8], g[8];

    if (from >= a.n) return;
    get8(p, a.p + from, n, a.wide && n == 8);
    get8(m, a.m + from, n, a.wide && n == 8);
    get8(v, a.v + from, n, a.wide && n == 8);
    get8(g, a.g + from, n, a.wide && n == 8);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        float s = a.clip * g[i];
        m[i] = m[i] + (s - m[i]) * a.pull;
        v[i] = a.beta2 * v[i] + (1 - a.beta2) * (s * s);
        p[i] = p[i] * a.keep - a.rate * m[i] / (sqrtf(v[i]) * a.root + a.eps);
    }
    put8(a.p + from, p, n, a.wide && n == 8);
    put8(a.m + from, m, n, a.wide && n == 8);
    put8(a.v + from, v, n, a.wide && n == 8);
    if (a.copy) put8(a.copy + from, p, n, a.wide && n == 8);
}

extern "C" cad_status GRID(adamw)(cad_device *d, const cad_adamw_args *x, void *work)
{
    double c1 = 1 - pow(x->beta1, (double)x->step), c2 = 1 - pow(x->beta2, (double)x->step);
    adamw a = {(float *)x->p.data, (float *)x->m.data, (float *)x->v.data, (const float *)x->g.data, (bf16 *)x->copy.data, (float)(1 - x->lr * x->decay), (float)(1 - x->beta1),
               (float)x->beta2, (float)(x->lr / c1), (float)(1 / sqrt(c2)), (float)x->eps, (float)x->clip, x->p.cols, true};
    const cad_tensor t[5] = {x->p, x->m, x->v, x->g, x->copy};

    (void)work;
    for (int i = 0; i < 5; i++) a.wide = a.wide && (uintptr_t)t[i].data % 16 == 0;
    return launch(stream_of(d), "adamw", step_adamw, eighths(1, a.n), EIGHTS, 0, a);
}

/* A warp takes 32 chunks: it reads 32 elements of each at a time, side by side, and lane c adds those of chunk c in order. */
enum { SUM_WARPS = 4, SQUARE = 33 };

KERNEL(SUM_WARPS * 32, 4) sum_chunks(double *out, const float *x, int64_t n, int64_t chunks)
{
    SHARED(float, room);
    float *mine = room + here_warp() * 32 * SQUARE;
    int64_t first = ((int64_t)here_block().x * SUM_WARPS + here_warp()) * 32, own = first + here_lane();
    double sum = 0;

    if (first >= chunks) return;
    for (int from = 0; from < CAD_CHUNK; from += 32) {
        for (int c = 0; c < 32; c++) {
            int64_t i = (first + c) * CAD_CHUNK + from + here_lane();
            mine[c * SQUARE + here_lane()] = i < n ? x[i] : 0;
        }
        warp_barrier();
        for (int e = 0; e < 32; e++) {
            double v = (double)mine[here_lane() * SQUARE + e];
            sum += v * v; /* the square is exact, and adding +0 changes nothing */
        }
        warp_barrier();
    }
    if (own < chunks) out[own] = sum;
}

extern "C" cad_status GRID(sumsq)(cad_device *d, const cad_sumsq_args *x, void *work)
{
    int64_t chunks = x->out.cols;

    (void)work;
    return launch(stream_of(d), "sumsq", sum_chunks, dim(cad_ceil_div(chunks, 32 * SUM_WARPS), 1, 1), SUM_WARPS * 32, SUM_WARPS * 32 * SQUARE * (int64_t)sizeof(float),
                  (double *)x->out.data, (const float *)x->x.data, x->x.cols, chunks);
}

enum { FIXED_BLOCKS = 512, FIXED_THREADS = 256 };

/* Adds, and leaves the largest magnitude of each block as bits: those of NaN are above all. */
KERNEL(FIXED_THREADS, 4) add_fixed(int64_t *q, const float *x, double scale, int64_t n, bool accumulate, uint32_t *largest)
{
    SHARED(uint32_t, room);
    uint32_t top = 0;

    for (int64_t i = (int64_t)here_block().x * here_threads() + here_thread(); i < n; i += (int64_t)here_blocks().x * here_threads()) {
        uint32_t bits = as_bits(x[i]) & 0x7fffffffu;
        double s = bits > 0x7f800000u ? 0 : (double)x[i] * scale;
        s = s > -4611686018427387904.0 ? s : -4611686018427387904.0;
        s = s < 4611686018427387904.0 ? s : 4611686018427387904.0;
        top = bits > top ? bits : top;
        q[i] = (int64_t)((accumulate ? (uint64_t)q[i] : 0) + (uint64_t)to_int64(s));
    }
    for (int mask = 16; mask; mask /= 2) {
        uint32_t other = shuffle_xor(top, mask);
        top = other > top ? other : top;
    }
    if (here_lane() == 0) room[here_warp()] = top;
    block_barrier();
    if (here_thread()) return;
    for (int w = 0; w < here_threads() / 32; w++) top = room[w] > top ? room[w] : top;
    largest[here_block().x] = top;
}

KERNEL(32, 1) join_largest(double *largest, const uint32_t *of_blocks, int blocks)
{
    uint32_t top = 0;

    if (here_thread()) return;
    for (int i = 0; i < blocks; i++) top = of_blocks[i] > top ? of_blocks[i] : top;
    *largest = top >= 0x7f800000u ? (double)INFINITY : fmax(*largest, (double)as_float(top));
}

extern "C" int64_t GRID(fixed_add_work)(const cad_device *d, const cad_fixed_args *x)
{
    (void)d, (void)x;
    return FIXED_BLOCKS * (int64_t)sizeof(uint32_t);
}

extern "C" cad_status GRID(fixed_add)(cad_device *d, const cad_fixed_args *x, void *work)
{
    int64_t n = x->x.cols, blocks = cad_min(FIXED_BLOCKS, cad_ceil_div(n, FIXED_THREADS));

    if (!n) return CAD_OK;
    CAD_TRY(launch(stream_of(d), "fixed_add", add_fixed, dim(blocks, 1, 1), FIXED_THREADS, FIXED_THREADS / 32 * (int64_t)sizeof(uint32_t), (int64_t *)x->q.data, (const float *)x->x.data,
                   ldexp(1, x->exponent), n, x->accumulate, (uint32_t *)work));
    return launch(stream_of(d), "fixed_add", join_largest, dim(1, 1, 1), 32, 0, (double *)x->largest.data, (const uint32_t *)work, (int)blocks);
}

KERNEL(EIGHTS, 8) from_fixed(float *x, const int64_t *q, double scale, int64_t n)
{
    for (int64_t i = (int64_t)here_block().x * here_threads() + here_thread(); i < n; i += (int64_t)here_blocks().x * here_threads()) x[i] = (float)((double)q[i] * scale);
}

extern "C" cad_status GRID(fixed_back)(cad_device *d, const cad_fixed_args *x, void *work)
{
    (void)work;
    return launch(stream_of(d), "fixed_back", from_fixed, dim(upto(cad_ceil_div(x->x.cols, EIGHTS), 1 << 20), 1, 1), EIGHTS, 0, (float *)x->x.data, (const int64_t *)x->q.data,
                  ldexp(1, -x->exponent), x->x.cols);
}

KERNEL(EIGHTS, 8) add_words(uint64_t *q, const uint64_t *other, int64_t n)
{
    for (int64_t i = (int64_t)here_block().x * here_threads() + here_thread(); i < n; i += (int64_t)here_blocks().x * here_threads()) q[i] += other[i];
}

extern "C" cad_status GRID(add_i64)(cad_device *d, const cad_fixed_args *x, void *work)
{
    (void)work;
    return launch(stream_of(d), "add_i64", add_words, dim(upto(cad_ceil_div(x->q.cols, EIGHTS), 1 << 20), 1, 1), EIGHTS, 0, (uint64_t *)x->q.data, (const uint64_t *)x->x.data, x->q.cols);
}
