#include "ref_priv.h"

#include <math.h>

static float scale_of(const cad_coded *q, int64_t block)
{
    if (q->scales.dtype == CAD_F32) return ((const float *)q->scales.data)[block];
    return cad_nested_scale(cad_dynamic_map(true), ((const uint8_t *)q->scales.data)[block], ((const float *)q->scales2.data)[block / CAD_SCALE_BLOCK], *(const float *)q->offset.data);
}

float cadp_coded_value(const cad_coded *q, int64_t i, int64_t j)
{
    int64_t at = (q->above + i) * q->cols + j;
    uint8_t pair;

    if (q->code == CAD_INT8) return cad_int8_value(((const int8_t *)q->codes.data)[at], scale_of(q, q->above + i));
    pair = ((const uint8_t *)q->codes.data)[at / 2];
    return cad_code_book(q->code)[at % 2 ? pair & 15 : pair >> 4] * scale_of(q, at / CAD_QUANT_BLOCK);
}

cad_status cadp_ref_dequantise(cad_device *d, const cad_dequantise_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t i = 0; i < x->y.rows; i++)
        for (int64_t j = 0; j < x->y.cols; j++) cadp_store(x->y, i, j, (double)cadp_coded_value(&x->q, i, j));
    return CAD_OK;
}

static void load_run(cad_tensor x, int64_t at, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) out[i] = (float)cadp_load(cad_view(x.data, x.dtype, 1, x.rows * x.cols), 0, at + i);
}

cad_status cadp_ref_quantise(cad_device *d, const cad_quantise_args *x, void *work)
{
    int64_t n = x->x.rows * x->x.cols, each = x->q.code == CAD_INT8 ? x->x.cols : CAD_QUANT_BLOCK;
    float *values = NULL;

    (void)d, (void)work;
    CAD_TRY(cad_alloc(&values, (size_t)each, sizeof *values, "values"));
    for (int64_t at = 0, block = 0; at < n; at += each, block++) {
        float *scale = (float *)x->q.scales.data + block;
        load_run(x->x, at, cad_min(each, n - at), values);
        if (x->q.code == CAD_INT8) {
            *scale = cad_int8_scale(values, each);
            cad_quantise_int8(values, each, *scale, (int8_t *)x->q.codes.data + at);
        }
        else cad_quantise_4bit(x->q.code, values, cad_min(each, n - at), (uint8_t *)x->q.codes.data + at / 2, scale);
    }
    cad_free(&values);
    return CAD_OK;
}

cad_status cadp_ref_nest(cad_device *d, const cad_nest_args *x, void *work)
{
    float *offset = x->offset.data;

    (void)d, (void)work;
    *offset = cad_mean_scale(x->scales.data, x->scales.cols);
    cad_nest_scales(x->scales.data, x->scales.cols, *offset, x->codes.data, x->scales2.data);
    return CAD_OK;
}

/* ---- AdamW on coded moments ---- */

static double moment(const uint8_t *codes, const float *scales, bool is_signed, int64_t i, int64_t block) { return (double)(cad_dynamic_map(is_signed)[codes[i]] * scales[block]); }

/* Elements [from, to) are one block. */
static void adamw_block(const cad_adamw8_args *x, int64_t block, int64_t from, int64_t to)
{
    double c1 = 1 - pow(x->beta1, (double)x->step), c2 = 1 - pow(x->beta2, (double)x->step);
    float m[CAD_SCALE_BLOCK], v[CAD_SCALE_BLOCK];

    for (int64_t i = from; i < to; i++) {
        double g = x->clip * cadp_load(x->g, 0, i), p = cadp_load(x->p, 0, i) * (1 - x->lr * x->decay);
        double first = moment(x->m.data, x->scale_m.data, true, i, block), second = moment(x->v.data, x->scale_v.data, false, i, block);
        first += (g - first) * (1 - x->beta1);
        second = x->beta2 * second + (1 - x->beta2) * g * g;
        cadp_store(x->p, 0, i, p - x->lr / c1 * first / (sqrt(second) / sqrt(c2) + x->eps));
        if (cad_some(x->copy)) cadp_store(x->copy, 0, i, cadp_load(x->p, 0, i));
        m[i - from] = (float)first;
        v[i - from] = (float)second;
    }
    cad_quantise_dynamic(true, m, to - from, (uint8_t *)x->m.data + from, (float *)x->scale_m.data + block);
    cad_quantise_dynamic(false, v, to - from, (uint8_t *)x->v.data + from, (float *)x->scale_v.data + block);
}

cad_status cadp_ref_adamw8(cad_device *d, const cad_adamw8_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t block = 0; block < x->scale_m.cols; block++)
        adamw_block(x, block, cad_max(0, block * CAD_SCALE_BLOCK - x->first), cad_min(x->p.cols, (block + 1) * CAD_SCALE_BLOCK - x->first));
    return CAD_OK;
}
