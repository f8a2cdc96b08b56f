#include "cpu_math.h"
#include "cpu_priv.h"

#include <math.h>

/* Elements of one tile: whole blocks. */
enum { FLAT = 1 << 14 };

typedef struct quantise_args { cad_tensor x; cad_code code; uint8_t *codes; float *scales; int64_t n; } quantise_args;

/* How many midpoints lie below each number of a block. */
CAD_CLONES static void count_below(const float *x, float by, bool divides, const float *middle, uint8_t *index)
{
    float s[CAD_QUANT_BLOCK];
    int32_t count[CAD_QUANT_BLOCK] = {0};

#pragma omp simd
    for (int i = 0; i < CAD_QUANT_BLOCK; i++) {
        float y = divides ? x[i] / by : x[i] * by, low = y > -1 ? y : -1;
        s[i] = low < 1 ? low : 1;
    }
    for (int k = 0; k < 15; k++) {
        float m = middle[k];
#pragma omp simd
        for (int i = 0; i < CAD_QUANT_BLOCK; i++) count[i] += m < s[i];
    }
#pragma omp simd
    for (int i = 0; i < CAD_QUANT_BLOCK; i++) index[i] = (uint8_t)count[i];
}

CAD_CLONES float cadp_largest_magnitude(const float *x, int64_t n)
{
    uint32_t top = 0;

#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = cadp_bits(x[i]) & 0x7fffffff;
        top = bits > top ? bits : top;
    }
    return cadp_float(top);
}

/* As cad_quantise_4bit, which also takes the last short block. */
static void quantise_block(const quantise_args *a, const float *middle, const uint8_t *pattern, const float *x, int64_t at)
{
    uint8_t index[CAD_QUANT_BLOCK], *to = a->codes + at / 2;
    float top = cadp_largest_magnitude(x, CAD_QUANT_BLOCK);

    a->scales[at / CAD_QUANT_BLOCK] = top;
    count_below(x, 1 / fmaxf(top, 1e-38f), false, middle, index);
    for (int i = 0; i < CAD_QUANT_BLOCK; i += 2) to[i / 2] = (uint8_t)(pattern[index[i]] << 4 | pattern[index[i + 1]]);
}

static void quantise_tile(const void *args, int64_t i, void *work)
{
    const quantise_args *a = args;
    const float *middle = cad_code_middles(a->code);
    const uint8_t *pattern = cad_code_patterns(a->code);
    float room[CAD_QUANT_BLOCK];

    (void)work;
    for (int64_t at = i * FLAT; at < cad_min(a->n, (i + 1) * FLAT); at += CAD_QUANT_BLOCK) {
        int64_t n = cad_min(CAD_QUANT_BLOCK, a->n - at);
        const float *x = cadp_get(a->x, 0, at, n, room);
        if (n == CAD_QUANT_BLOCK) quantise_block(a, middle, pattern, x, at);
        else cad_quantise_4bit(a->code, x, n, a->codes + at / 2, a->scales + at / CAD_QUANT_BLOCK);
    }
}

/* As cad_int8_scale and cad_quantise_int8. */
CAD_CLONES static float largest_half(const float *x, int64_t n)
{
    uint32_t top = 0;

#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = cadp_bits(cadp_to_half(x[i])) & 0x7fffffff, number = bits > 0x7f800000 ? 0 : bits; /* NaN is passed over */
        top = number > top ? number : top;
    }
    return cadp_float(top);
}

CAD_CLONES static void to_bytes(const float *x, int64_t n, float by, int8_t *codes)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) codes[i] = (int8_t)(int32_t)(cadp_bits(cadp_to_half(x[i]) * by + 12582912) - cadp_bits(12582912)); /* rounded as in cadp_exp */
}

/* A strip of a row at a time, twice. */
static void quantise_row(const void *args, int64_t i, void *work)
{
    const cad_quantise_args *x = args;
    float room[CADP_STRIP], scale = 0;

    (void)work;
    for (int64_t j = 0; j < x->x.cols; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, x->x.cols - j);
        scale = fmaxf(scale, largest_half(cadp_get(x->x, i, j, n, room), n));
    }
    for (int64_t j = 0; j < x->x.cols; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, x->x.cols - j);
        to_bytes(cadp_get(x->x, i, j, n, room), n, scale > 0 ? 1 / scale * 127 : 0, (int8_t *)x->q.codes.data + i * x->x.cols + j);
    }
    ((float *)x->q.scales.data)[i] = scale;
}

cad_status cadp_cpu_quantise(cad_device *d, const cad_quantise_args *x, void *work)
{
    quantise_args a = {cad_view(x->x.data, x->x.dtype, 1, x->x.rows * x->x.cols), x->q.code, x->q.codes.data, x->q.scales.data, x->x.rows * x->x.cols};

    (void)work;
    if (x->q.code == CAD_INT8) cadp_cpu_each(d, x->x.rows, quantise_row, x, NULL, 0);
    else cadp_cpu_each(d, cad_ceil_div(a.n, FLAT), quantise_tile, &a, NULL, 0);
    return CAD_OK;
}

cad_status cadp_cpu_nest(cad_device *d, const cad_nest_args *x, void *work)
{
    float *offset = x->offset.data;

    (void)d, (void)work;
    *offset = cad_mean_scale(x->scales.data, x->scales.cols);
    cad_nest_scales(x->scales.data, x->scales.cols, *offset, x->codes.data, x->scales2.data);
    return CAD_OK;
}

/* ---- AdamW on coded moments ---- */

enum { BLOCKS = 64 };
typedef struct adamw8_args { const cad_adamw8_args *x; const float *map_m, *map_v; float keep, pull, beta2, rate, root, eps, clip; } adamw8_args;

/* Elements [from, to) are block `block`. The arithmetic is that of adamw (cpu_flat.c). */
CAD_CLONES static void move_block(const adamw8_args *a, int64_t block, int64_t from, int64_t n, float *m, float *v)
{
    const uint8_t *code_m = (const uint8_t *)a->x->m.data + from, *code_v = (const uint8_t *)a->x->v.data + from;
    const float *grad = (const float *)a->x->g.data + from, *map_m = a->map_m, *map_v = a->map_v;
    float *p = (float *)a->x->p.data + from, scale_m = ((const float *)a->x->scale_m.data)[block], scale_v = ((const float *)a->x->scale_v.data)[block];
    float keep = a->keep, pull = a->pull, beta2 = a->beta2, push = 1 - beta2, rate = a->rate, root = a->root, eps = a->eps, clip = a->clip;

#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = clip * grad[i], old = map_m[code_m[i]] * scale_m, first = old + (g - old) * pull, second = beta2 * (map_v[code_v[i]] * scale_v) + push * (g * g);
        m[i] = first;
        v[i] = second;
        p[i] = p[i] * keep - rate * first / (__builtin_sqrtf(second) * root + eps);
    }
}

static void adamw8_tile(const void *args, int64_t i, void *work)
{
    const adamw8_args *a = args;
    const cad_adamw8_args *x = a->x;
    float m[CAD_SCALE_BLOCK], v[CAD_SCALE_BLOCK];

    (void)work;
    for (int64_t block = i * BLOCKS; block < cad_min(x->scale_m.cols, (i + 1) * BLOCKS); block++) {
        int64_t from = cad_max(0, block * CAD_SCALE_BLOCK - x->first), n = cad_min(x->p.cols, (block + 1) * CAD_SCALE_BLOCK - x->first) - from;
        move_block(a, block, from, n, m, v);
        cad_quantise_dynamic(true, m, n, (uint8_t *)x->m.data + from, (float *)x->scale_m.data + block);
        cad_quantise_dynamic(false, v, n, (uint8_t *)x->v.data + from, (float *)x->scale_v.data + block);
        if (cad_some(x->copy)) cadp_put(x->copy, 0, from, n, (const float *)x->p.data + from);
    }
}

cad_status cadp_cpu_adamw8(cad_device *d, const cad_adamw8_args *x, void *work)
{
    double c1 = 1 - pow(x->beta1, (double)x->step), c2 = 1 - pow(x->beta2, (double)x->step);
    adamw8_args a = {x, cad_dynamic_map(true), cad_dynamic_map(false), (float)(1 - x->lr * x->decay), (float)(1 - x->beta1), (float)x->beta2, (float)(x->lr / c1), (float)(1 / sqrt(c2)), (float)x->eps, (float)x->clip};

    (void)work;
    cadp_cpu_each(d, cad_ceil_div(x->scale_m.cols, BLOCKS), adamw8_tile, &a, NULL, 0);
    return CAD_OK;
}
