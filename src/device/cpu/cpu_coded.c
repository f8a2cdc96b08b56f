/* Matrices held as codes, turned back into numbers: a run of a row at a time, into what products like. */
#include "cpu_math.h"
#include "cpu_priv.h"

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint8_t bytes8 __attribute__((vector_size(8)));
typedef uint16_t halves32 __attribute__((vector_size(64)));
typedef uint32_t words16 __attribute__((vector_size(64)));
typedef uint64_t longs8 __attribute__((vector_size(64)));

static float scale_of(const cad_coded *q, const float *map, int64_t block)
{
    if (q->scales.dtype == CAD_F32) return ((const float *)q->scales.data)[block];
    return cad_nested_scale(map, ((const uint8_t *)q->scales.data)[block], ((const float *)q->scales2.data)[block / CAD_SCALE_BLOCK], *(const float *)q->offset.data);
}

void cadp_code_scales(const cad_coded *q, const float *map, int64_t block, int64_t n, float *out)
{
    const uint8_t *nested = q->scales.data;
    const float *above = q->scales2.data;
    float offset;

    if (q->scales.dtype == CAD_F32) {
        memcpy(out, (const float *)q->scales.data + block, (size_t)n * sizeof *out);
        return;
    }
    offset = *(const float *)q->offset.data;
    for (int64_t i = 0; i < n; i++) out[i] = cad_nested_scale(map, nested[block + i], above[(block + i) / CAD_SCALE_BLOCK], offset);
}

/* The 16 values of a block; the same again behind them. */
typedef struct table16 { uint16_t value[32]; } table16;
typedef struct table32 { float value[16]; } table32;

static inline void fill16(table16 *t, const float *book, float scale)
{
    for (int i = 0; i < 16; i++) t->value[i] = t->value[i + 16] = cadp_round_bf16(book[i] * scale);
}

static inline void fill32(table32 *t, const float *book, float scale)
{
    for (int i = 0; i < 16; i++) t->value[i] = book[i] * scale;
}

/* n values from the start of a byte, n even or the rest of a row. */
static inline void look_up16(const table16 *t, const uint8_t *codes, int64_t n, uint16_t *out)
{
    int64_t i = 0;

#if !defined(__clang__) /* which has no shuffle by a variable */
    halves32 values;
    memcpy(&values, t->value, sizeof values);
    for (; i + 32 <= n; i += 32) {
        bytes16 pairs;
        memcpy(&pairs, codes + i / 2, sizeof pairs);
        words16 w = __builtin_convertvector(pairs, words16);
        halves32 found = __builtin_shuffle(values, (halves32)(w >> 4 | (w & 15) << 16));
        memcpy(out + i, &found, sizeof found);
    }
#endif
    for (; i < n; i++) out[i] = t->value[i % 2 ? codes[i / 2] & 15 : codes[i / 2] >> 4];
}

static inline void look_up32(const table32 *t, const uint8_t *codes, int64_t n, float *out)
{
    int64_t i = 0;

#if !defined(__clang__)
    cadp_lanes values;
    memcpy(&values, t->value, sizeof values);
    for (; i + 16 <= n; i += 16) {
        bytes8 pairs;
        memcpy(&pairs, codes + i / 2, sizeof pairs);
        longs8 w = __builtin_convertvector(pairs, longs8);
        cadp_lanes found = __builtin_shuffle(values, (words16)(w >> 4 | (w & 15) << 32));
        memcpy(out + i, &found, sizeof found);
    }
#endif
    for (; i < n; i++) out[i] = t->value[i % 2 ? codes[i / 2] & 15 : codes[i / 2] >> 4];
}

/* The part of a block that starts in the middle of a byte. */
static inline float odd_value(const cad_coded *q, const float *book, float scale, int64_t at) { return book[((const uint8_t *)q->codes.data)[at / 2] & 15] * scale; }

CAD_CLONES static void run16(const cad_coded *q, const float *map, int64_t at, int64_t n, uint16_t *out)
{
    const float *book = cad_code_book(q->code);
    const uint8_t *codes = q->codes.data;
    table16 t;

    for (int64_t end = at + n; at < end;) {
        int64_t block = at / CAD_QUANT_BLOCK, count = cad_min(end, (block + 1) * CAD_QUANT_BLOCK) - at, odd = at % 2;
        float scale = scale_of(q, map, block);
        fill16(&t, book, scale);
        if (odd) out[0] = cadp_round_bf16(odd_value(q, book, scale, at));
        look_up16(&t, codes + (at + odd) / 2, count - odd, out + odd);
        at += count;
        out += count;
    }
}

CAD_CLONES static void run32(const cad_coded *q, const float *map, int64_t at, int64_t n, float *out)
{
    const float *book = cad_code_book(q->code);
    const uint8_t *codes = q->codes.data;
    table32 t;

    for (int64_t end = at + n; at < end;) {
        int64_t block = at / CAD_QUANT_BLOCK, count = cad_min(end, (block + 1) * CAD_QUANT_BLOCK) - at, odd = at % 2;
        float scale = scale_of(q, map, block);
        fill32(&t, book, scale);
        if (odd) out[0] = odd_value(q, book, scale, at);
        look_up32(&t, codes + (at + odd) / 2, count - odd, out + odd);
        at += count;
        out += count;
    }
}

CAD_CLONES static void whole16(const int8_t *codes, float scale, int64_t n, uint16_t *out)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = cadp_round_bf16(cad_int8_value(codes[i], scale));
}

CAD_CLONES static void whole32(const int8_t *codes, float scale, int64_t n, float *out)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = cad_int8_value(codes[i], scale);
}

void cadp_decode16(const cad_coded *q, int64_t row, int64_t col, int64_t n, uint16_t *out)
{
    int64_t at = (q->above + row) * q->cols + col;

    if (q->code == CAD_INT8) whole16((const int8_t *)q->codes.data + at, ((const float *)q->scales.data)[q->above + row], n, out);
    else run16(q, cad_dynamic_map(true), at, n, out);
}

void cadp_decode32(const cad_coded *q, int64_t row, int64_t col, int64_t n, float *out)
{
    int64_t at = (q->above + row) * q->cols + col;

    if (q->code == CAD_INT8) whole32((const int8_t *)q->codes.data + at, ((const float *)q->scales.data)[q->above + row], n, out);
    else run32(q, cad_dynamic_map(true), at, n, out);
}

void cadp_coded_block16(uint16_t *to, int64_t rows, int64_t cols, const cad_coded *q, bool turned, int64_t row, int64_t col, uint16_t *room)
{
    int64_t high = cad_min(rows, (turned ? q->cols : q->rows) - row), wide = cad_min(cols, (turned ? q->rows : q->cols) - col);

    if (turned) {
        for (int64_t i = 0; i < wide; i++) cadp_decode16(q, col + i, row, high, room + i * high);
        cadp_block16(to, rows, cols, cad_view(room, CAD_BF16, wide, high), true, 0, 0);
        return;
    }
    for (int64_t i = 0; i < high; i++) {
        cadp_decode16(q, row + i, col, wide, to + i * cols);
        memset(to + i * cols + wide, 0, (size_t)(cols - wide) * sizeof *to);
    }
    memset(to + high * cols, 0, (size_t)((rows - high) * cols) * sizeof *to);
}

CAD_CLONES static void round_all(float *x, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] = cadp_float((uint32_t)cadp_round_bf16(x[i]) << 16);
}

void cadp_coded_block32(float *to, int64_t rows, int64_t cols, const cad_coded *q, bool turned, bool rounds, int64_t row, int64_t col, float *room)
{
    if (turned) {
        for (int64_t i = 0; i < cols; i++) cadp_decode32(q, col + i, row, rows, room + i * rows);
        cadp_transpose32(to, cols, room, rows, cols, rows);
    } else {
        for (int64_t i = 0; i < rows; i++) cadp_decode32(q, row + i, col, cols, to + i * cols);
    }
    if (rounds) round_all(to, rows * cols);
}

/* ---- dequantise ---- */

static void decode_rect(const void *args, int64_t i, void *work)
{
    const cad_dequantise_args *x = args;
    cadp_grid g = cadp_grid_of(x->y.rows, x->y.cols);
    cadp_rect r = cadp_rect_of(&g, i);

    (void)work;
    for (int64_t row = r.row; row < r.rows_end; row++) {
        int64_t at = row * x->y.ld + r.col, n = r.cols_end - r.col;
        if (x->y.dtype == CAD_F32) cadp_decode32(&x->q, row, r.col, n, (float *)x->y.data + at);
        else cadp_decode16(&x->q, row, r.col, n, (uint16_t *)x->y.data + at);
    }
}

cad_status cadp_cpu_dequantise(cad_device *d, const cad_dequantise_args *x, void *work)
{
    cadp_grid g = cadp_grid_of(x->y.rows, x->y.cols);

    (void)work;
    cadp_cpu_each(d, g.n, decode_rect, x, NULL, 0);
    return CAD_OK;
}
