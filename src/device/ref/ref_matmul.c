#include "ref_priv.h"

#include <math.h>

/* Element (i, j) of op(A) op(B). */
static double dot(cad_tensor a, bool ta, cad_tensor b, bool tb, int64_t i, int64_t j)
{
    int64_t terms = ta ? a.rows : a.cols;
    double sum = 0;

    for (int64_t k = 0; k < terms; k++)
        sum += (ta ? cadp_load(a, k, i) : cadp_load(a, i, k)) * (tb ? cadp_load(b, j, k) : cadp_load(b, k, j));
    return sum;
}

/* The same with B as codes, each element rounded to A's dtype. */
static double coded_dot(const cad_matmul_args *x, int64_t i, int64_t j)
{
    int64_t terms = x->ta ? x->a.rows : x->a.cols;
    double sum = 0;

    for (int64_t k = 0; k < terms; k++) {
        float b = x->tb ? cadp_coded_value(&x->codes, j, k) : cadp_coded_value(&x->codes, k, j);
        if (x->a.dtype == CAD_BF16) b = cad_bf16_to_f32(cad_f32_to_bf16(b));
        sum += (x->ta ? cadp_load(x->a, k, i) : cadp_load(x->a, i, k)) * (double)b;
    }
    return sum;
}

/* LLM.int8(): a column of A with an outlier counts in numbers, the others in codes: halves over their row's largest that is no outlier. */
typedef struct int8_rows { bool *outlying; float *scales, *codes; } int8_rows; /* [cols], [rows], [rows, cols] */

static float half(cad_tensor a, int64_t i, int64_t k) { return cad_f16_to_f32(cad_f32_to_f16((float)cadp_load(a, i, k))); }

static void int8_row(int8_rows *rows, const cad_matmul_args *x, int64_t i)
{
    float *codes = rows->codes + i * x->a.cols, top = 0, by;

    for (int64_t k = 0; k < x->a.cols; k++) {
        codes[k] = half(x->a, i, k);
        if (CAD_IS_OUTLIER(codes[k], (float)x->outliers)) rows->outlying[k] = true;
        else top = fmaxf(top, fabsf(codes[k]));
    }
    by = top > 0 ? 1 / top * 127 : 0;
    for (int64_t k = 0; k < x->a.cols; k++) codes[k] = rintf(codes[k] * by);
    rows->scales[i] = top;
}

static void close_int8_rows(int8_rows *rows)
{
    cad_free(&rows->outlying);
    cad_free(&rows->scales);
    cad_free(&rows->codes);
}

static cad_status open_int8_rows(int8_rows *rows, const cad_matmul_args *x)
{
    cad_status status = cad_alloc(&rows->outlying, (size_t)x->a.cols, sizeof *rows->outlying, "columns with outliers");

    if (!status) status = cad_alloc(&rows->scales, (size_t)x->a.rows, sizeof *rows->scales, "scales");
    if (!status) status = cad_alloc(&rows->codes, (size_t)(x->a.rows * x->a.cols), sizeof *rows->codes, "codes");
    for (int64_t i = 0; i < x->a.rows && !status; i++) int8_row(rows, x, i);
    if (status) close_int8_rows(rows);
    return status;
}

static double int8_dot(const cad_matmul_args *x, const int8_rows *rows, int64_t i, int64_t j)
{
    const int8_t *codes = (const int8_t *)x->codes.codes.data + (x->codes.above + j) * x->codes.cols;
    int64_t whole = 0;
    double rest = 0;

    for (int64_t k = 0; k < x->a.cols; k++) {
        float b = cadp_coded_value(&x->codes, j, k);
        if (rows->outlying[k]) rest += cadp_load(x->a, i, k) * (double)(x->a.dtype == CAD_BF16 ? cad_bf16_to_f32(cad_f32_to_bf16(b)) : b);
        else whole += (int64_t)rows->codes[i * x->a.cols + k] * codes[k];
    }
    return (double)whole * (double)rows->scales[i] * (double)((const float *)x->codes.scales.data)[x->codes.above + j] * (double)CAD_INT8_PRODUCT + rest;
}

cad_status cadp_ref_matmul(cad_device *d, const cad_matmul_args *x, void *work)
{
    int8_rows rows = {0};

    (void)d, (void)work;
    if (x->codes.code && x->outliers > 0) CAD_TRY(open_int8_rows(&rows, x));
    for (int64_t i = 0; i < x->c.rows; i++)
        for (int64_t j = 0; j < x->c.cols; j++) {
            double c = x->alpha * (rows.codes ? int8_dot(x, &rows, i, j) : x->codes.code ? coded_dot(x, i, j) : dot(x->a, x->ta, x->b, x->tb, i, j));
            if (cad_some(x->a2)) c += x->alpha2 * dot(x->a2, x->ta2, x->b2, x->tb2, i, j);
            if (x->beta != 0) c += x->beta * cadp_load(x->c, i, j);
            if (cad_some(x->bias)) c += cadp_load(x->bias, 0, j);
            cadp_store(x->c, i, j, c);
        }
    close_int8_rows(&rows);
    return CAD_OK;
}
