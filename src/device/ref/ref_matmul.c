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

/* LLM.int8(): a column with an outlier counts in numbers, the others in codes. */
static bool is_outlying(const cad_matmul_args *x, int64_t k)
{
    for (int64_t i = 0; i < x->a.rows; i++)
        if (CAD_IS_OUTLIER(cad_f16_to_f32(cad_f32_to_f16((float)cadp_load(x->a, i, k))), (float)x->outliers)) return true;
    return false;
}

static float row_scale(const cad_matmul_args *x, int64_t i)
{
    float top = 0;

    for (int64_t k = 0; k < x->a.cols; k++) {
        float h = cad_f16_to_f32(cad_f32_to_f16((float)cadp_load(x->a, i, k)));
        if (!CAD_IS_OUTLIER(h, (float)x->outliers)) top = fmaxf(top, fabsf(h));
    }
    return top;
}

static double int8_dot(const cad_matmul_args *x, int64_t i, int64_t j)
{
    const int8_t *codes = x->codes.codes.data;
    float scale = row_scale(x, i), by = scale > 0 ? 1 / scale * 127 : 0;
    int64_t whole = 0;
    double rest = 0;

    for (int64_t k = 0; k < x->a.cols; k++) {
        float a = (float)cadp_load(x->a, i, k), b = cadp_coded_value(&x->codes, j, k);
        if (is_outlying(x, k)) rest += (double)a * (double)(x->a.dtype == CAD_BF16 ? cad_bf16_to_f32(cad_f32_to_bf16(b)) : b);
        else whole += (int64_t)rintf(cad_f16_to_f32(cad_f32_to_f16(a)) * by) * codes[(x->codes.above + j) * x->codes.cols + k];
    }
    return (double)whole * (double)scale * (double)((const float *)x->codes.scales.data)[x->codes.above + j] * (double)CAD_INT8_PRODUCT + rest;
}

static double coded_product(const cad_matmul_args *x, int64_t i, int64_t j) { return x->outliers > 0 ? int8_dot(x, i, j) : coded_dot(x, i, j); }

cad_status cadp_ref_matmul(cad_device *d, const cad_matmul_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t i = 0; i < x->c.rows; i++)
        for (int64_t j = 0; j < x->c.cols; j++) {
            double c = x->alpha * (x->codes.code ? coded_product(x, i, j) : dot(x->a, x->ta, x->b, x->tb, i, j));
            if (cad_some(x->a2)) c += x->alpha2 * dot(x->a2, x->ta2, x->b2, x->tb2, i, j);
            if (x->beta != 0) c += x->beta * cadp_load(x->c, i, j);
            if (cad_some(x->bias)) c += cadp_load(x->bias, 0, j);
            cadp_store(x->c, i, j, c);
        }
    return CAD_OK;
}
