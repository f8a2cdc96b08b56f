/* Factors and shifts by column, and the gradient of the factors. */
#include "cuda_any.h"
#include "cuda_sums.h"

template <class X, class Y> KERNEL(EIGHTS, 8) scale_columns(cad_tensor y, cad_tensor x, cad_tensor w, cad_tensor b, bool add, bool wide)
{
    int64_t col = my_eighth();
    int n = count_of(col, x.cols);
    float gain[8], shift[8], v[8], old[8];

    if (col >= x.cols) return;
    get8_any(gain, w, 0, col, n, wide && n == 8);
    get8_or(shift, b, col, n, wide && n == 8, 0);
    for (int64_t row = here_block().y; row < x.rows; row += here_blocks().y) {
        get8(v, at<X>(x, row, col), n, wide && n == 8);
        if (add) get8(old, at<Y>(y, row, col), n, wide && n == 8);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            v[i] = v[i] * gain[i] + shift[i];
            if (add) v[i] += old[i];
        }
        put8(at<Y>(y, row, col), v, n, wide && n == 8);
    }
}

extern "C" cad_status GRID(scale_cols)(cad_device *d, const cad_scale_cols_args *x, void *work)
{
    bool wide = lies_wide(x->x) && lies_wide(x->y) && lies_wide(x->w) && lies_wide(x->b);

    (void)work;
    if (x->x.dtype == CAD_F64 || x->y.dtype == CAD_F64 || x->w.dtype == CAD_F64 || x->b.dtype == CAD_F64)
        return cad_fail(CAD_EUSAGE, "scale_cols: device %s does not compute in F64; device \"ref\" does", d->name);
    WITH_TYPE(x->x.dtype, X, WITH_TYPE(x->y.dtype, Y,
        return launch(stream_of(d), "scale_cols", scale_columns<X, Y>, eighths(x->x.rows, x->x.cols), EIGHTS, 0, x->y, x->x, x->w, x->b, x->accumulate, wide)));
}

template <class X, class Y> KERNEL(TILE_COLS, 8) dot_tile(float *partial, cad_tensor x, cad_tensor y)
{
    int64_t col = (int64_t)here_block().x * TILE_COLS + here_thread();

    if (col >= x.cols) return;
    for (int64_t tile = here_block().y; tile * TILE_ROWS < x.rows; tile += here_blocks().y) {
        float sum = 0;
        for (int64_t row = tile * TILE_ROWS; row < (tile + 1) * TILE_ROWS && row < x.rows; row++) sum += get(at<X>(x, row, col)) * get(at<Y>(y, row, col));
        partial[tile * x.cols + col] = sum;
    }
}

extern "C" int64_t GRID(dot_cols_work)(const cad_device *d, const cad_dot_cols_args *x)
{
    (void)d;
    return tiles_of(x->x.rows) * x->x.cols * (int64_t)sizeof(float);
}

extern "C" cad_status GRID(dot_cols)(cad_device *d, const cad_dot_cols_args *x, void *work)
{
    cadp_dim blocks = tile_blocks(x->x.rows, x->x.cols);

    if (x->x.rows)
        WITH_TYPE(x->x.dtype, X, WITH_TYPE(x->y.dtype, Y, CAD_TRY(launch(stream_of(d), "dot_cols", dot_tile<X, Y>, blocks, TILE_COLS, 0, (float *)work, x->x, x->y))));
    return GRID(sum_partials)(d, x->w, (const float *)work, tiles_of(x->x.rows), false);
}
