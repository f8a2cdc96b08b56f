/* LLM.int8(): A's rows become codes of 8 bits, the product is one of whole numbers; columns of A with an outlier are multiplied in fp32. */
#include "cpu_priv.h"

#include <math.h>

enum { ROWS = 32, COLS = 256, FOUR = 4 };

/* A as codes: column k stands outside where marks[k]; `list` names those columns. */
typedef struct int8 { const cad_matmul_args *x; float threshold; uint8_t *marks; int8_t *codes; float *scales; int32_t *list; int64_t outside, across; } int8;

static int64_t padded(int64_t bytes) { return cad_round_up(bytes, 64); }

/* What follows the first product: the second one, onto it. */
static cad_matmul_args rest_of(const cad_matmul_args *x)
{
    return (cad_matmul_args){.c = x->c, .a = x->a2, .b = x->b2, .ta = x->ta2, .tb = x->tb2, .alpha = x->alpha2, .beta = 1};
}

int64_t cadp_cpu_int8_work(const cad_device *d, const cad_matmul_args *x)
{
    int64_t k = x->a.cols, own = padded(k) + padded(x->a.rows * k) + padded(4 * x->a.rows) + padded(4 * k);
    cad_matmul_args rest = rest_of(x);

    return cad_some(x->a2) ? cad_max(own, cadp_cpu_matmul_work(d, &rest)) : own;
}

static float half_of(float x) { return cad_f16_to_f32(cad_f32_to_f16(x)); }

static void mark_columns(const void *args, int64_t i, void *work)
{
    const int8 *p = args;
    float room[CADP_STRIP];
    int64_t from = i * CADP_STRIP, n = cad_min(CADP_STRIP, p->x->a.cols - from);

    (void)work;
    memset(p->marks + from, 0, (size_t)n);
    for (int64_t r = 0; r < p->x->a.rows; r++) {
        const float *x = cadp_get(p->x->a, r, from, n, room);
        for (int64_t j = 0; j < n; j++) p->marks[from + j] |= CAD_IS_OUTLIER(half_of(x[j]), p->threshold);
    }
}

static void list_columns(int8 *p)
{
    for (int64_t k = 0; k < p->x->a.cols; k++)
        if (p->marks[k]) p->list[p->outside++] = (int32_t)k;
}

/* The scale is that of all but the outliers, also in columns that stand outside. */
static void code_row(const void *args, int64_t i, void *work)
{
    const int8 *p = args;
    float room[CADP_STRIP], scale = 0, by;
    int64_t k = p->x->a.cols;

    (void)work;
    for (int64_t from = 0; from < k; from += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, k - from);
        const float *x = cadp_get(p->x->a, i, from, n, room);
        for (int64_t j = 0; j < n; j++)
            if (!CAD_IS_OUTLIER(half_of(x[j]), p->threshold)) scale = fmaxf(scale, fabsf(half_of(x[j])));
    }
    by = scale > 0 ? 1 / scale * 127 : 0;
    for (int64_t from = 0; from < k; from += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, k - from);
        const float *x = cadp_get(p->x->a, i, from, n, room);
        for (int64_t j = 0; j < n; j++) p->codes[i * k + from + j] = p->marks[from + j] ? 0 : (int8_t)rintf(half_of(x[j]) * by);
    }
    p->scales[i] = scale;
}

/* One row with `count` rows of B. */
CAD_CLONES static void sum_codes(const int8_t *a, const int8_t *b, int64_t k, int64_t count, int32_t *sum)
{
    for (int64_t j = 0; j < count; j++) {
        const int8_t *q = b + j * k;
        int32_t s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t i = 0; i < k; i++) s += (int32_t)a[i] * q[i];
        sum[j] = s;
    }
}

/* out [n] += the outlying columns of row i with columns [col, col + n) of C, in order. */
static void add_outside(const int8 *p, int64_t i, int64_t col, int64_t n, float *out)
{
    const cad_coded *q = &p->x->codes;
    const float *scales = (const float *)q->scales.data + q->above + col;
    const int8_t *codes = (const int8_t *)q->codes.data + (q->above + col) * q->cols;

    for (int64_t o = 0; o < p->outside; o++) {
        float room, a = *cadp_get(p->x->a, i, p->list[o], 1, &room);
        for (int64_t j = 0; j < n; j++) {
            float b = cad_int8_value(codes[j * q->cols + p->list[o]], scales[j]);
            out[j] += a * (p->x->a.dtype == CAD_BF16 ? cad_bf16_to_f32(cad_f32_to_bf16(b)) : b);
        }
    }
}

static void put_part(const int8 *p, int64_t i, int64_t col, int64_t n, const int32_t *sum)
{
    const cad_matmul_args *x = p->x;
    const float *scales = (const float *)x->codes.scales.data + x->codes.above + col;
    float out[COLS], room[COLS];

    for (int64_t j = 0; j < n; j++) out[j] = (float)sum[j] * (p->scales[i] * scales[j]) * CAD_INT8_PRODUCT;
    add_outside(p, i, col, n, out);
    for (int64_t j = 0; j < n; j++) out[j] *= (float)x->alpha;
    if (cad_some(x->bias)) cadp_add_scaled(out, cadp_get(x->bias, 0, col, n, room), 1, n);
    if (x->beta != 0) cadp_add_scaled(out, cadp_get(x->c, i, col, n, room), (float)x->beta, n);
    cadp_put(x->c, i, col, n, out);
}

static void multiply(const void *args, int64_t t, void *work)
{
    const int8 *p = args;
    const cad_coded *q = &p->x->codes;
    int64_t row = t / p->across * ROWS, col = t % p->across * COLS, n = cad_min(COLS, p->x->c.cols - col), rows = cad_min(ROWS, p->x->c.rows - row);
    int32_t sum[ROWS][COLS];

    (void)work;
    for (int64_t j = 0; j < n; j += FOUR)
        for (int64_t i = 0; i < rows; i++)
            sum_codes(p->codes + (row + i) * q->cols, (const int8_t *)q->codes.data + (q->above + col + j) * q->cols, q->cols, cad_min(FOUR, n - j), sum[i] + j);
    for (int64_t i = 0; i < rows; i++) put_part(p, row + i, col, n, sum[i]);
}

cad_status cadp_cpu_int8(cad_device *d, const cad_matmul_args *x, void *work)
{
    int64_t m = x->a.rows, k = x->a.cols;
    int8 p = {.x = x, .threshold = (float)x->outliers, .marks = work, .across = cad_ceil_div(x->c.cols, COLS)};
    cad_matmul_args rest = rest_of(x);
    char *at = (char *)work + padded(k);

    p.codes = (int8_t *)at;
    p.scales = (float *)(void *)(at + padded(m * k));
    p.list = (int32_t *)(void *)(at + padded(m * k) + padded(4 * m));
    cadp_cpu_each(d, cad_ceil_div(k, CADP_STRIP), mark_columns, &p, NULL, 0);
    list_columns(&p);
    cadp_cpu_each(d, m, code_row, &p, NULL, 0);
    cadp_cpu_each(d, cad_ceil_div(m, ROWS) * p.across, multiply, &p, NULL, 0);
    return cad_some(x->a2) ? cadp_cpu_matmul(d, &rest, work) : CAD_OK;
}
