/* y = w (x - mean) rstd + b. With n = (x - mean) rstd and g = w dy: dx = rstd (g - mean(g) - n mean(g n)), dw = sum over rows of dy n,
 * db = sum over rows of dy. A block takes a row; its sums are in double: what is subtracted is nearly as large as the row. */
#include "cuda_any.h"
#include "cuda_sums.h"

enum { LAYER_THREADS = 256, LAYER_ROOM = 2 * LAYER_THREADS / 32 * (int)sizeof(double), MOST_ROWS = 1 << 20 };

template <class X> ON_DEVICE void centre(const cad_tensor &x, int64_t row, bool wide, double *room, double *mean, double *square)
{
    double sum = 0, squares = 0;
    float v[8];

    for (int64_t col = 8 * here_thread(); col < x.cols; col += 8 * here_threads()) {
        int n = count_of(col, x.cols);
        get8(v, at<X>(x, row, col), n, wide && n == 8);
#pragma unroll
        for (int i = 0; i < 8; i++) sum += (double)v[i];
    }
    *mean = block_sum(sum, room) / (double)x.cols;
    for (int64_t col = 8 * here_thread(); col < x.cols; col += 8 * here_threads()) {
        int n = count_of(col, x.cols);
        get8(v, at<X>(x, row, col), n, wide && n == 8);
#pragma unroll
        for (int i = 0; i < 8; i++) squares += i < n ? ((double)v[i] - *mean) * ((double)v[i] - *mean) : 0;
    }
    *square = block_sum(squares, room) / (double)x.cols;
}

template <class X> KERNEL(LAYER_THREADS, 4) normalize(cad_tensor y, cad_tensor x, cad_tensor w, cad_tensor b, cad_tensor means, cad_tensor rstd, double eps, bool wide)
{
    SHARED(double, room);

    for (int64_t row = here_block().x; row < x.rows; row += here_blocks().x) {
        double mean, square, r;
        float v[8], gain[8], shift[8];
        centre<X>(x, row, wide, room, &mean, &square);
        r = 1 / sqrt(square + eps);
        if (here_thread() == 0) *at<float>(means, row, 0) = (float)mean, *at<float>(rstd, row, 0) = (float)r;
        for (int64_t col = 8 * here_thread(); col < x.cols; col += 8 * here_threads()) {
            int n = count_of(col, x.cols);
            get8(v, at<X>(x, row, col), n, wide && n == 8);
            get8_any(gain, w, 0, col, n, wide && n == 8);
            get8_any(shift, b, 0, col, n, wide && n == 8);
#pragma unroll
            for (int i = 0; i < 8; i++) v[i] = (float)(((double)v[i] - mean) * r * (double)gain[i] + (double)shift[i]);
            put8_any(y, row, col, v, n, wide && n == 8);
        }
    }
}

static int threads_for(int64_t cols) { return (int)cad_min(LAYER_THREADS, 32 * cad_max(1, cad_ceil_div(cols, 8 * 32))); }

extern "C" cad_status GRID(layernorm_fwd)(cad_device *d, const cad_layernorm_args *x, void *work)
{
    bool wide = lies_wide(x->x) && lies_wide(x->y) && lies_wide(x->w) && lies_wide(x->b);

    (void)work;
    WITH_TYPE(x->x.dtype, X, return launch(stream_of(d), "layernorm_fwd", normalize<X>, dim(upto(x->x.rows, MOST_ROWS), 1, 1), threads_for(x->x.cols), LAYER_ROOM, x->y, x->x, x->w, x->b, x->mean,
                                           x->rstd, x->eps, wide));
}

template <class G, class X> KERNEL(LAYER_THREADS, 2) normalize_back(cad_tensor dx, cad_tensor dy, cad_tensor x, cad_tensor w, cad_tensor means, cad_tensor rstd, bool wide)
{
    SHARED(double, room);

    for (int64_t row = here_block().x; row < x.rows; row += here_blocks().x) {
        double mean = (double)*at<float>(means, row, 0), r = (double)*at<float>(rstd, row, 0), of_g = 0, of_gn = 0;
        float v[8], g[8], gain[8];
        for (int64_t col = 8 * here_thread(); col < x.cols; col += 8 * here_threads()) {
            int n = count_of(col, x.cols);
            get8(v, at<X>(x, row, col), n, wide && n == 8);
            get8(g, at<G>(dy, row, col), n, wide && n == 8);
            get8_any(gain, w, 0, col, n, wide && n == 8);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                double one = (double)g[i] * (double)gain[i];
                of_g += one;
                of_gn += one * (((double)v[i] - mean) * r);
            }
        }
        of_g = block_sum(of_g, room) / (double)x.cols;
        of_gn = block_sum(of_gn, room) / (double)x.cols;
        for (int64_t col = 8 * here_thread(); col < x.cols; col += 8 * here_threads()) {
            int n = count_of(col, x.cols);
            get8(v, at<X>(x, row, col), n, wide && n == 8);
            get8(g, at<G>(dy, row, col), n, wide && n == 8);
            get8_any(gain, w, 0, col, n, wide && n == 8);
#pragma unroll
            for (int i = 0; i < 8; i++) v[i] = (float)(r * ((double)g[i] * (double)gain[i] - of_g - ((double)v[i] - mean) * r * of_gn));
            put8_any(dx, row, col, v, n, wide && n == 8);
        }
    }
}

/* Sums over a tile of rows, for dw and for db. */
template <class G, class X> KERNEL(TILE_COLS, 8) weight_tile(float *dw, float *db, cad_tensor dy, cad_tensor x, cad_tensor means, cad_tensor rstd)
{
    int64_t col = (int64_t)here_block().x * TILE_COLS + here_thread();

    if (col >= x.cols) return;
    for (int64_t tile = here_block().y; tile * TILE_ROWS < x.rows; tile += here_blocks().y) {
        float gains = 0, shifts = 0;
        for (int64_t row = tile * TILE_ROWS; row < (tile + 1) * TILE_ROWS && row < x.rows; row++) {
            float g = get(at<G>(dy, row, col));
            gains += g * ((get(at<X>(x, row, col)) - *at<float>(means, row, 0)) * *at<float>(rstd, row, 0));
            shifts += g;
        }
        dw[tile * x.cols + col] = gains;
        db[tile * x.cols + col] = shifts;
    }
}

extern "C" int64_t GRID(layernorm_bwd_work)(const cad_device *d, const cad_layernorm_bwd_args *x)
{
    (void)d;
    return cad_some(x->dw) || cad_some(x->db) ? 2 * tiles_of(x->x.rows) * x->x.cols * (int64_t)sizeof(float) : 0;
}

static cad_status weight_gradients(cad_device *d, const cad_layernorm_bwd_args *x, float *work)
{
    int64_t tiles = tiles_of(x->x.rows);
    float *other = work + tiles * x->x.cols;

    if (x->x.rows)
        WITH_TYPE(x->dy.dtype, G, WITH_TYPE(x->x.dtype, X,
            CAD_TRY(launch(stream_of(d), "layernorm_bwd, weights", weight_tile<G, X>, tile_blocks(x->x.rows, x->x.cols), TILE_COLS, 0, work, other, x->dy, x->x, x->mean, x->rstd))));
    if (cad_some(x->dw)) CAD_TRY(GRID(sum_partials)(d, x->dw, work, tiles, x->accumulate_dw));
    return cad_some(x->db) ? GRID(sum_partials)(d, x->db, other, tiles, x->accumulate_dw) : CAD_OK;
}

/* dx may be dy: weights first. */
extern "C" cad_status GRID(layernorm_bwd)(cad_device *d, const cad_layernorm_bwd_args *x, void *work)
{
    bool wide = lies_wide(x->dx) && lies_wide(x->dy) && lies_wide(x->x) && lies_wide(x->w);

    if (cad_some(x->dw) || cad_some(x->db)) CAD_TRY(weight_gradients(d, x, (float *)work));
    if (!x->x.rows) return CAD_OK;
    WITH_TYPE(x->dy.dtype, G, WITH_TYPE(x->x.dtype, X, return launch(stream_of(d), "layernorm_bwd", normalize_back<G, X>, dim(upto(x->x.rows, MOST_ROWS), 1, 1), threads_for(x->x.cols), LAYER_ROOM,
                                                                     x->dx, x->dy, x->x, x->w, x->mean, x->rstd, wide)));
}
