/* Numbers as they come back from codes: what a layer held as codes computes with. */
#include "model_priv.h"

enum { SPAN = 1 << 16 }; /* of blocks' elements, one thread's at a time */

void cad_to_codes(cad_code code, const float *x, int64_t n, uint8_t *codes, float *scales)
{
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < n; at += SPAN) cad_quantise_4bit(code, x + at, cad_min(SPAN, n - at), codes + at / 2, scales + at / CAD_QUANT_BLOCK);
}

static void from_codes(cad_code code, const uint8_t *codes, const float *scales, int64_t n, float *x)
{
    const float *book = cad_code_book(code);

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) x[i] = book[i % 2 ? codes[i / 2] & 15 : codes[i / 2] >> 4] * scales[i / CAD_QUANT_BLOCK];
}

cad_status cad_nest_through(float *scales, int64_t blocks)
{
    cad_coded_layout l = cad_coded_layout_of(CAD_NF4, true, 1, blocks * CAD_QUANT_BLOCK);
    float offset = cad_mean_scale(scales, blocks), *scales2;
    uint8_t *codes;

    CAD_TRY(cad_alloc(&codes, (size_t)blocks + (size_t)l.blocks2 * 4 + 64, 1, "scales"));
    scales2 = (float *)(void *)(codes + cad_round_up(blocks, 4));
    cad_nest_scales(scales, blocks, offset, codes, scales2);
    for (int64_t i = 0; i < blocks; i++) scales[i] = cad_nested_scale(cad_dynamic_map(true), codes[i], scales2[i / CAD_SCALE_BLOCK], offset);
    cad_free(&codes);
    return CAD_OK;
}

static cad_status through_4bit(cad_code code, bool nested, int64_t n, float *x, const float *known)
{
    int64_t blocks = cad_ceil_div(n, CAD_QUANT_BLOCK);
    uint8_t *codes = NULL;
    float *scales = NULL;
    cad_status status = cad_alloc(&codes, (size_t)(n + 1) / 2, 1, "codes");

    if (!status) status = cad_alloc(&scales, (size_t)blocks, sizeof *scales, "scales");
    if (!status) cad_to_codes(code, x, n, codes, scales);
    if (!status && nested && !known) status = cad_nest_through(scales, blocks);
    if (!status) from_codes(code, codes, known ? known : scales, n, x);
    cad_free(&codes);
    cad_free(&scales);
    return status;
}

static cad_status through_int8(int64_t rows, int64_t cols, float *x)
{
    int8_t *codes;

    CAD_TRY(cad_alloc(&codes, (size_t)cols, 1, "codes"));
    for (int64_t i = 0; i < rows; i++) {
        float scale = cad_int8_scale(x + i * cols, cols);
        cad_quantise_int8(x + i * cols, cols, scale, codes);
        for (int64_t j = 0; j < cols; j++) x[i * cols + j] = cad_int8_value(codes[j], scale);
    }
    cad_free(&codes);
    return CAD_OK;
}

cad_status cad_through_codes(const cad_param *p, cad_dtype compute, int64_t n, float *x, const float *scales)
{
    CAD_TRY(p->code == CAD_INT8 ? through_int8(n / p->cols, p->cols, x) : through_4bit(p->code, p->nested, n, x, scales));
    for (int64_t i = 0; i < n && compute == CAD_BF16; i++) x[i] = cad_bf16_to_f32(cad_f32_to_bf16(x[i]));
    return CAD_OK;
}
