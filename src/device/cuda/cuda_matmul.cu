/* Products: cuBLASLt's, a second one accumulated onto the first, a bias of another dtype added behind; what it has no way for (no terms, fp32 into
 * bf16, odd places) is done by a kernel of our own, in fp32. */
#include "cuda_grid.h"
#include "cuda_lt.h"

enum { SIDE = 32, DOWN = 8, OWN_THREADS = SIDE * DOWN };

/* Rows and columns [SIDE, SIDE] of op(t) from (row, col) on. */
template <class T> ON_DEVICE void load_square(float *to, const cad_tensor &t, bool turned, int64_t row, int64_t col)
{
    int64_t rows = turned ? t.cols : t.rows, cols = turned ? t.rows : t.cols;
    int x = here_thread() % SIDE;

    for (int y = here_thread() / SIDE; y < SIDE; y += DOWN) {
        int64_t i = row + (turned ? x : y), j = col + (turned ? y : x);
        to[(turned ? x : y) * (SIDE + 1) + (turned ? y : x)] = i < rows && j < cols ? get(turned ? at<T>(t, j, i) : at<T>(t, i, j)) : 0;
    }
}

template <class T> ON_DEVICE void add_product(float sum[SIDE / DOWN], float *left, float *right, const cad_tensor &a, const cad_tensor &b, bool ta, bool tb, int64_t row, int64_t col)
{
    int64_t terms = ta ? a.rows : a.cols;
    int x = here_thread() % SIDE, y = here_thread() / SIDE;

    for (int64_t k = 0; k < terms; k += SIDE) {
        block_barrier();
        load_square<T>(left, a, ta, row, k);
        load_square<T>(right, b, tb, k, col);
        block_barrier();
        for (int e = 0; e < SIDE; e++)
#pragma unroll
            for (int i = 0; i < SIDE / DOWN; i++) sum[i] += left[(y + i * DOWN) * (SIDE + 1) + e] * right[e * (SIDE + 1) + x];
    }
}

/* A call, with numbers of the size that kernels want them. */
typedef struct own_product { cad_tensor c, a, b, a2, b2, bias; bool ta, tb, ta2, tb2; float alpha, alpha2, beta; } own_product;

template <class T, class C> KERNEL(OWN_THREADS, 2) multiply(own_product p)
{
    SHARED(float, left);
    float *right = left + SIDE * (SIDE + 1), one[SIDE / DOWN] = {0}, two[SIDE / DOWN] = {0};
    int64_t row = (int64_t)here_block().x * SIDE, col = (int64_t)here_block().y * SIDE, j = col + here_thread() % SIDE;

    add_product<T>(one, left, right, p.a, p.b, p.ta, p.tb, row, col);
    if (p.a2.data) add_product<T>(two, left, right, p.a2, p.b2, p.ta2, p.tb2, row, col);
    for (int i = 0; i < SIDE / DOWN; i++) {
        int64_t at_row = row + here_thread() / SIDE + i * DOWN;
        if (at_row >= p.c.rows || j >= p.c.cols) continue;
        C *c = at<C>(p.c, at_row, j);
        float v = p.alpha * one[i];
        if (p.a2.data) v += p.alpha2 * two[i];
        if (p.bias.data) v += get(at<T>(p.bias, 0, j));
        put(c, p.beta != 0 ? v + p.beta * get(c) : v);
    }
}

static cad_status multiply_ourselves(cad_device *d, const cad_matmul_args *x)
{
    own_product p = {x->c, x->a, x->b, x->a2, x->b2, x->bias, x->ta, x->tb, x->ta2, x->tb2, (float)x->alpha, (float)x->alpha2, (float)x->beta};
    cadp_dim blocks = dim(cad_ceil_div(x->c.rows, SIDE), cad_ceil_div(x->c.cols, SIDE), 1);

    WITH_TYPE(x->a.dtype, T, WITH_TYPE(x->c.dtype, C, return launch(stream_of(d), "matmul", multiply<T, C>, blocks, OWN_THREADS, 2 * SIDE * (SIDE + 1) * (int64_t)sizeof(float), p)));
}

extern "C" int64_t GRID(matmul_work)(const cad_device *d, const cad_matmul_args *x)
{
    (void)d;
    if (x->outliers > 0) return CADP_LT_WORK + GRID(int8_work)(x);
    return CADP_LT_WORK + (x->codes.code ? x->codes.rows * x->codes.cols * (int64_t)cad_dtype_bytes(x->a.dtype) : 0);
}

/* Codes are turned back into work space first, each element rounded to A's dtype. */
static cad_status multiply_codes(cad_device *d, const cad_matmul_args *x, void *work)
{
    cad_matmul_args plain = *x;
    cad_dequantise_args back = {cad_view((char *)work + CADP_LT_WORK, x->a.dtype, x->codes.rows, x->codes.cols), x->codes};

    plain.codes = {};
    plain.b = back.y;
    CAD_TRY(GRID(dequantise)(d, &back, work));
    return GRID(matmul)(d, &plain, work);
}

template <class B, class C> KERNEL(EIGHTS, 8) add_row(cad_tensor c, cad_tensor row, bool wide)
{
    int64_t col = my_eighth();
    int n = count_of(col, c.cols);
    float v[8], more[8];

    if (col >= c.cols) return;
    get8(more, at<B>(row, 0, col), n, wide && n == 8);
    for (int64_t i = here_block().y; i < c.rows; i += here_blocks().y) {
        get8(v, at<C>(c, i, col), n, wide && n == 8);
#pragma unroll
        for (int e = 0; e < 8; e++) v[e] += more[e];
        put8(at<C>(c, i, col), v, n, wide && n == 8);
    }
}

static cad_status add_bias(cad_device *d, const cad_matmul_args *x)
{
    WITH_TYPE(x->bias.dtype, B, WITH_TYPE(x->c.dtype, C, return launch(stream_of(d), "matmul, bias", add_row<B, C>, eighths(x->c.rows, x->c.cols), EIGHTS, 0, x->c, x->bias, lies_wide(x->c) && lies_wide(x->bias))));
}

extern "C" cad_status GRID(matmul)(cad_device *d, const cad_matmul_args *x, void *work)
{
    const cadp_cuda *own = (const cadp_cuda *)d->own;
    cadp_product first = {x->c, x->a, x->b, x->bias.data, x->ta, x->tb, (float)x->alpha, (float)x->beta};
    cadp_product second = {x->c, x->a2, x->b2, NULL, x->ta2, x->tb2, (float)x->alpha2, 1};
    cad_matmul_args rest = {x->c, x->a2, x->b2, x->ta2, x->tb2, x->alpha2, 1, {}, {}, false, false, 0, {}, {}, 0, {}};
    bool done, behind = cad_some(x->bias) && x->bias.dtype != x->c.dtype;

    if (behind) first.bias = NULL;
    if (x->codes.code && x->outliers == 0) return multiply_codes(d, x, work);
    if (x->outliers > 0) {
        CAD_TRY(GRID(int8_product)(d, x, (char *)work + CADP_LT_WORK));
    } else {
        CAD_TRY(GRID(lt_product)(own->lt, own->stream, &first, work, &done));
        if (!done) return multiply_ourselves(d, x);
        if (behind) CAD_TRY(add_bias(d, x));
    }
    if (!cad_some(x->a2)) return CAD_OK;
    CAD_TRY(GRID(lt_product)(own->lt, own->stream, &second, work, &done));
    return done ? CAD_OK : multiply_ourselves(d, &rest);
}
