#include "cuda_sums.h"

KERNEL(TILE_COLS, 8) add_tiles(float *y, const float *from, int64_t cols, int64_t tiles, bool accumulate)
{
    int64_t col = (int64_t)here_block().x * TILE_COLS + here_thread();
    float sum;

    if (col >= cols) return;
    sum = accumulate ? y[col] : 0;
    for (int64_t tile = 0; tile < tiles; tile++) sum += from[tile * cols + col];
    y[col] = sum;
}

extern "C" cad_status GRID(sum_partials)(cad_device *d, cad_tensor y, const float *from, int64_t tiles, bool accumulate)
{
    return launch(stream_of(d), "sums of tiles", add_tiles, dim(cad_ceil_div(y.cols, TILE_COLS), 1, 1), TILE_COLS, 0, (float *)y.data, from, y.cols, tiles, accumulate);
}

template <class X> KERNEL(TILE_COLS, 8) sum_tile(float *partial, cad_tensor x)
{
    int64_t col = (int64_t)here_block().x * TILE_COLS + here_thread();

    if (col >= x.cols) return;
    for (int64_t tile = here_block().y; tile * TILE_ROWS < x.rows; tile += here_blocks().y) {
        float sum = 0;
        for (int64_t row = tile * TILE_ROWS; row < (tile + 1) * TILE_ROWS && row < x.rows; row++) sum += get(at<X>(x, row, col));
        partial[tile * x.cols + col] = sum;
    }
}

extern "C" int64_t GRID(sum_rows_work)(const cad_device *d, const cad_sum_rows_args *x)
{
    (void)d;
    return tiles_of(x->x.rows) * x->x.cols * (int64_t)sizeof(float);
}

extern "C" cad_status GRID(sum_rows)(cad_device *d, const cad_sum_rows_args *x, void *work)
{
    cadp_dim blocks = tile_blocks(x->x.rows, x->x.cols);

    if (x->x.rows) WITH_TYPE(x->x.dtype, X, CAD_TRY(launch(stream_of(d), "sum_rows", sum_tile<X>, blocks, TILE_COLS, 0, (float *)work, x->x)));
    return GRID(sum_partials)(d, x->y, (const float *)work, tiles_of(x->x.rows), x->accumulate);
}
