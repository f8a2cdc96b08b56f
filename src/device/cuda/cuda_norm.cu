/* y = x rstd w. With n = x rstd and g = w dy: dx = rstd (g - n mean(g n)), dw = sum over rows of dy n. A block takes a row. */
#include "cuda_sums.h"

enum { NORM_THREADS = 256, NORM_ROOM = NORM_THREADS / 32 * (int)sizeof(double) };

template <class X, class W, class Y> KERNEL(NORM_THREADS, 4) norm(cad_tensor y, cad_tensor x, cad_tensor w, cad_tensor rstd, double eps, float plus, bool wide)
{
    SHARED(float, room);
    int64_t step = 8 * here_threads(), first = 8 * here_thread();

    for (int64_t row = here_block().x; row < x.rows; row += here_blocks().x) {
        float v[8], gain[8], sum = 0, r;
        for (int64_t col = first; col < x.cols; col += step) {
            int n = count_of(col, x.cols);
            get8(v, at<X>(x, row, col), n, wide && n == 8);
#pragma unroll
            for (int i = 0; i < 8; i++) sum += v[i] * v[i];
        }
        sum = block_sum(sum, room);
        r = (float)(1 / sqrt((double)sum / (double)x.cols + eps));
        if (here_thread() == 0) *at<float>(rstd, row, 0) = r;
        for (int64_t col = first; col < x.cols; col += step) {
            int n = count_of(col, x.cols);
            get8(v, at<X>(x, row, col), n, wide && n == 8);
            get8(gain, at<W>(w, 0, col), n, wide && n == 8);
#pragma unroll
            for (int i = 0; i < 8; i++) v[i] = v[i] * r * (gain[i] + plus);
            put8(at<Y>(y, row, col), v, n, wide && n == 8);
        }
    }
}

extern "C" cad_status GRID(rmsnorm_fwd)(cad_device *d, const cad_rmsnorm_args *x, void *work)
{
    bool wide = lies_wide(x->x) && lies_wide(x->y) && lies_wide(x->w);
    cadp_dim blocks = dim(upto(x->x.rows, 1 << 20), 1, 1);

    (void)work;
    WITH_TYPE(x->x.dtype, X, WITH_TYPE(x->w.dtype, W, WITH_TYPE(x->y.dtype, Y,
        return launch(stream_of(d), "rmsnorm_fwd", norm<X, W, Y>, blocks, NORM_THREADS, NORM_ROOM, x->y, x->x, x->w, x->rstd, x->eps, x->plus_one ? 1.0f : 0.0f, wide))));
}

/* In double: the two terms nearly cancel where a row has few columns or one large element. */
template <class G, class X, class W> KERNEL(NORM_THREADS, 2) norm_back(cad_tensor dx, cad_tensor dy, cad_tensor x, cad_tensor w, cad_tensor rstd, float plus, bool add, bool wide)
{
    SHARED(double, room);
    int64_t step = 8 * here_threads(), first = 8 * here_thread();

    for (int64_t row = here_block().x; row < x.rows; row += here_blocks().x) {
        double sum = 0, r = (double)*at<float>(rstd, row, 0), pull;
        float v[8], g[8], gain[8], old[8];
        for (int64_t col = first; col < x.cols; col += step) {
            int n = count_of(col, x.cols);
            get8(v, at<X>(x, row, col), n, wide && n == 8);
            get8(g, at<G>(dy, row, col), n, wide && n == 8);
            get8(gain, at<W>(w, 0, col), n, wide && n == 8);
#pragma unroll
            for (int i = 0; i < 8; i++) sum += (double)g[i] * (double)(gain[i] + plus) * (double)v[i];
        }
        pull = block_sum(sum, room) * r / (double)x.cols * r;
        for (int64_t col = first; col < x.cols; col += step) {
            int n = count_of(col, x.cols);
            get8(v, at<X>(x, row, col), n, wide && n == 8);
            get8(g, at<G>(dy, row, col), n, wide && n == 8);
            get8(gain, at<W>(w, 0, col), n, wide && n == 8);
            if (add) get8(old, at<float>(dx, row, col), n, wide && n == 8);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float slope = (float)(r * ((double)g[i] * (double)(gain[i] + plus) - (double)v[i] * pull));
                v[i] = add ? old[i] + slope : slope;
            }
            put8(at<float>(dx, row, col), v, n, wide && n == 8);
        }
    }
}

template <class G, class X> KERNEL(TILE_COLS, 8) gain_tile(float *partial, cad_tensor dy, cad_tensor x, cad_tensor rstd)
{
    int64_t col = (int64_t)here_block().x * TILE_COLS + here_thread();

    if (col >= x.cols) return;
    for (int64_t tile = here_block().y; tile * TILE_ROWS < x.rows; tile += here_blocks().y) {
        float sum = 0;
        for (int64_t row = tile * TILE_ROWS; row < (tile + 1) * TILE_ROWS && row < x.rows; row++)
            sum += get(at<G>(dy, row, col)) * (get(at<X>(x, row, col)) * *at<float>(rstd, row, 0));
        partial[tile * x.cols + col] = sum;
    }
}

extern "C" int64_t GRID(rmsnorm_bwd_work)(const cad_device *d, const cad_rmsnorm_bwd_args *x)
{
    (void)d;
    return cad_some(x->dw) ? tiles_of(x->x.rows) * x->x.cols * (int64_t)sizeof(float) : 0;
}

extern "C" cad_status GRID(rmsnorm_bwd)(cad_device *d, const cad_rmsnorm_bwd_args *x, void *work)
{
    bool wide = lies_wide(x->dx) && lies_wide(x->dy) && lies_wide(x->x) && lies_wide(x->w);
    cadp_dim blocks = dim(upto(x->x.rows, 1 << 20), 1, 1), tiles = tile_blocks(x->x.rows, x->x.cols);

    if (x->x.rows)
        WITH_TYPE(x->dy.dtype, G, WITH_TYPE(x->x.dtype, X, WITH_TYPE(x->w.dtype, W,
            CAD_TRY(launch(stream_of(d), "rmsnorm_bwd", norm_back<G, X, W>, blocks, NORM_THREADS, NORM_ROOM, x->dx, x->dy, x->x, x->w, x->rstd, x->plus_one ? 1.0f : 0.0f, x->accumulate, wide)))));
    if (!cad_some(x->dw)) return CAD_OK;
    if (x->x.rows)
        WITH_TYPE(x->dy.dtype, G, WITH_TYPE(x->x.dtype, X, CAD_TRY(launch(stream_of(d), "rmsnorm_bwd, gain", gain_tile<G, X>, tiles, TILE_COLS, 0, (float *)work, x->dy, x->x, x->rstd))));
    return GRID(sum_partials)(d, x->dw, (const float *)work, tiles_of(x->x.rows), x->accumulate_dw);
}
