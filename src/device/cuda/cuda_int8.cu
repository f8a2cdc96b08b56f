/* LLM.int8(): A's rows become codes of 8 bits, the product is one of whole numbers; columns of A with an outlier are multiplied in fp32. */
#include "cuda_grid.h"
extern "C" {
#include <cadtrain/quant.h>
}

enum { ROW_THREADS = 256, ROW_ROOM = ROW_THREADS / 32 * (int)sizeof(float), SIDE = 32, DOWN = 8, TILE_THREADS = SIDE * DOWN, TILE = SIDE * (SIDE + 1) };

/* A as codes [rows, cols]: column k stands outside where marks[k]. */
typedef struct coded_rows { uint8_t *marks; int8_t *codes; float *scales; float threshold; } coded_rows;
typedef struct int8_product { cad_tensor c, a, bias; const int8_t *codes; const float *scales; float alpha, beta; } int8_product;

template <class T> KERNEL(ROW_THREADS, 4) mark_columns(cad_tensor a, coded_rows q)
{
    int64_t col = (int64_t)here_block().x * here_threads() + here_thread();
    uint8_t mark = 0;

    if (col >= a.cols) return;
    for (int64_t row = 0; row < a.rows; row++) mark |= CAD_IS_OUTLIER(through_half(get(at<T>(a, row, col))), q.threshold);
    q.marks[col] = mark;
}

template <class T> KERNEL(ROW_THREADS, 4) code_rows(cad_tensor a, coded_rows q)
{
    SHARED(float, room);
    int64_t row = here_block().x;
    float top = 0, by;

    for (int64_t k = here_thread(); k < a.cols; k += here_threads()) {
        float h = through_half(get(at<T>(a, row, k)));
        if (!CAD_IS_OUTLIER(h, q.threshold)) top = fmaxf(top, fabsf(h));
    }
    top = block_max(top, room);
    by = top > 0 ? 1 / top * 127 : 0;
    if (here_thread() == 0) q.scales[row] = top;
    for (int64_t k = here_thread(); k < a.cols; k += here_threads()) q.codes[row * a.cols + k] = q.marks[k] ? (int8_t)0 : (int8_t)rintf(through_half(get(at<T>(a, row, k))) * by);
}

/* Codes [SIDE, SIDE] from (row, col) on, 0 beyond the end. */
ON_DEVICE void load_codes(int32_t *to, const int8_t *from, int64_t rows, int64_t cols, int64_t row, int64_t col)
{
    int x = here_thread() % SIDE;

    for (int y = here_thread() / SIDE; y < SIDE; y += DOWN) to[y * (SIDE + 1) + x] = row + y < rows && col + x < cols ? from[(row + y) * cols + col + x] : 0;
}

ON_DEVICE float rounded(const float *, float v) { return v; }
ON_DEVICE float rounded(const bf16 *, float v) { bf16 b; put(&b, v); return get(&b); }

template <class T, class C> KERNEL(TILE_THREADS, 2) multiply_codes8(int8_product p, coded_rows q)
{
    SHARED(int32_t, left);
    int32_t *right = left + TILE, whole[SIDE / DOWN] = {0};
    float rest[SIDE / DOWN] = {0};
    int x = here_thread() % SIDE, y = here_thread() / SIDE;
    int64_t row = (int64_t)here_block().x * SIDE, col = (int64_t)here_block().y * SIDE, j = col + x, terms = p.a.cols;

    for (int64_t k = 0; k < terms; k += SIDE) {
        block_barrier();
        load_codes(left, q.codes, p.c.rows, terms, row, k);
        load_codes(right, p.codes, p.c.cols, terms, col, k);
        block_barrier();
        for (int e = 0; e < SIDE; e++)
#pragma unroll
            for (int i = 0; i < SIDE / DOWN; i++) whole[i] += left[(y + i * DOWN) * (SIDE + 1) + e] * right[x * (SIDE + 1) + e];
        for (int e = 0; e < SIDE && k + e < terms; e++) {
            if (!q.marks[k + e] || j >= p.c.cols) continue;
            float b = rounded((const T *)NULL, (float)right[x * (SIDE + 1) + e] * times(p.scales[j], 1.0f / 127.0f));
            for (int i = 0; i < SIDE / DOWN; i++)
                if (row + y + i * DOWN < p.c.rows) rest[i] += get(at<T>(p.a, row + y + i * DOWN, k + e)) * b;
        }
    }
    for (int i = 0; i < SIDE / DOWN; i++) {
        int64_t here = row + y + i * DOWN;
        if (here >= p.c.rows || j >= p.c.cols) continue;
        C *c = at<C>(p.c, here, j);
        float v = p.alpha * ((float)whole[i] * times(q.scales[here], p.scales[j]) * CAD_INT8_PRODUCT + rest[i]);
        if (p.bias.data) v += get(at<T>(p.bias, 0, j));
        put(c, p.beta != 0 ? v + p.beta * get(c) : v);
    }
}

static int64_t padded(int64_t bytes) { return cad_round_up(bytes, 256); }

extern "C" int64_t GRID(int8_work)(const cad_matmul_args *x) { return padded(x->a.cols) + padded(x->a.rows * x->a.cols) + padded(4 * x->a.rows); }

template <class T> static cad_status code_them(cad_device *d, const cad_matmul_args *x, const coded_rows &q)
{
    CAD_TRY(launch(stream_of(d), "mark columns", mark_columns<T>, dim(cad_ceil_div(x->a.cols, (int64_t)ROW_THREADS), 1, 1), ROW_THREADS, 0, x->a, q));
    return launch(stream_of(d), "rows to 8 bits", code_rows<T>, dim(x->a.rows, 1, 1), ROW_THREADS, ROW_ROOM, x->a, q);
}

extern "C" cad_status GRID(int8_product)(cad_device *d, const cad_matmul_args *x, void *work)
{
    char *at = (char *)work + padded(x->a.cols);
    coded_rows q = {(uint8_t *)work, (int8_t *)at, (float *)(at + padded(x->a.rows * x->a.cols)), (float)x->outliers};
    const cad_coded *w = &x->codes;
    int8_product p = {x->c, x->a, x->bias, (const int8_t *)w->codes.data + w->above * w->cols, (const float *)w->scales.data + w->above, (float)x->alpha, (float)x->beta};
    cadp_dim blocks = dim(cad_ceil_div(x->c.rows, SIDE), cad_ceil_div(x->c.cols, SIDE), 1);

    if (!x->c.rows || !x->c.cols) return CAD_OK;
    WITH_TYPE(x->a.dtype, T, CAD_TRY(code_them<T>(d, x, q)));
    WITH_TYPE(x->a.dtype, T, WITH_TYPE(x->c.dtype, C, return launch(stream_of(d), "product of 8 bits", multiply_codes8<T, C>, blocks, TILE_THREADS, 2 * TILE * (int64_t)sizeof(int32_t), p, q)));
}
