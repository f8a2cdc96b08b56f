/* y = x rstd w (+ what it is added to). With n = x rstd and g = w dy: dx = rstd (g - n mean(g n)), dw = sum over rows of dy n. A block takes a run of `width` columns
 * of a row; usually that is the row. */
#include "cuda_any.h"
#include "cuda_sums.h"

enum { NORM_THREADS = 256, NORM_ROOM = NORM_THREADS / 32 * (int)sizeof(double), MOST_RUNS = 1 << 20 };

template <class X, class Y> KERNEL(NORM_THREADS, 4) norm(cad_tensor y, cad_tensor x, cad_tensor w, cad_tensor onto, cad_tensor rstd, int64_t width, double eps, float plus, bool wide)
{
    SHARED(float, room);
    int64_t step = 8 * here_threads(), first = 8 * here_thread(), runs = x.cols / width;

    for (int64_t run = here_block().x; run < x.rows * runs; run += here_blocks().x) {
        int64_t row = run / runs, from = run % runs * width;
        float v[8], gain[8], old[8], sum = 0, r;
        for (int64_t col = first; col < width; col += step) {
            int n = count_of(col, width);
            get8(v, at<X>(x, row, from + col), n, wide && n == 8);
#pragma unroll
            for (int i = 0; i < 8; i++) sum += v[i] * v[i];
        }
        sum = block_sum(sum, room);
        r = (float)(1 / sqrt((double)sum / (double)width + eps));
        if (here_thread() == 0) *at<float>(rstd, row, run % runs) = r;
        for (int64_t col = first; col < width; col += step) {
            int n = count_of(col, width);
            get8(v, at<X>(x, row, from + col), n, wide && n == 8);
            get8_or(gain, w, col, n, wide && n == 8, 1);
#pragma unroll
            for (int i = 0; i < 8; i++) v[i] = v[i] * r * (gain[i] + plus);
            if (onto.data) {
                get8_any(old, onto, row, from + col, n, wide && n == 8);
#pragma unroll
                for (int i = 0; i < 8; i++) v[i] += old[i];
            }
            put8(at<Y>(y, row, from + col), v, n, wide && n == 8);
        }
    }
}

static int64_t width_of(int64_t width, cad_tensor x) { return width ? width : cad_max(x.cols, 1); }
/* Threads for a run: eight columns each. */
static int threads_for(int64_t width) { return (int)cad_min(NORM_THREADS, 32 * cad_ceil_div(width, 8 * 32)); }
static bool runs_lie_wide(cad_tensor x, int64_t width) { return width == x.cols || width % 8 == 0; }

extern "C" cad_status GRID(rmsnorm_fwd)(cad_device *d, const cad_rmsnorm_args *x, void *work)
{
    int64_t width = width_of(x->width, x->x);
    bool wide = runs_lie_wide(x->x, width) && lies_wide(x->x) && lies_wide(x->y) && lies_wide(x->w) && lies_wide(x->plus);
    cadp_dim blocks = dim(upto(x->x.rows * (x->x.cols / width), MOST_RUNS), 1, 1);

    (void)work;
    WITH_TYPE(x->x.dtype, X, WITH_TYPE(x->y.dtype, Y,
        return launch(stream_of(d), "rmsnorm_fwd", norm<X, Y>, blocks, threads_for(width), NORM_ROOM, x->y, x->x, x->w, x->plus, x->rstd, width, x->eps, x->plus_one ? 1.0f : 0.0f, wide)));
}

/* In double: the two terms nearly cancel where a run has few columns or one large element. */
template <class G, class X> KERNEL(NORM_THREADS, 2) norm_back(cad_tensor dx, cad_tensor dy, cad_tensor x, cad_tensor w, cad_tensor rstd, int64_t width, float plus, bool add, bool wide)
{
    SHARED(double, room);
    int64_t step = 8 * here_threads(), first = 8 * here_thread(), runs = x.cols / width;

    for (int64_t run = here_block().x; run < x.rows * runs; run += here_blocks().x) {
        int64_t row = run / runs, from = run % runs * width;
        double sum = 0, r = (double)*at<float>(rstd, row, run % runs), pull;
        float v[8], g[8], gain[8], old[8];
        for (int64_t col = first; col < width; col += step) {
            int n = count_of(col, width);
            get8(v, at<X>(x, row, from + col), n, wide && n == 8);
            get8(g, at<G>(dy, row, from + col), n, wide && n == 8);
            get8_or(gain, w, col, n, wide && n == 8, 1);
#pragma unroll
            for (int i = 0; i < 8; i++) sum += (double)g[i] * (double)(gain[i] + plus) * (double)v[i];
        }
        pull = block_sum(sum, room) * r / (double)width * r;
        for (int64_t col = first; col < width; col += step) {
            int n = count_of(col, width);
            get8(v, at<X>(x, row, from + col), n, wide && n == 8);
            get8(g, at<G>(dy, row, from + col), n, wide && n == 8);
            get8_or(gain, w, col, n, wide && n == 8, 1);
            if (add) get8_any(old, dx, row, from + col, n, wide && n == 8);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float slope = (float)(r * ((double)g[i] * (double)(gain[i] + plus) - (double)v[i] * pull));
                v[i] = add ? old[i] + slope : slope;
            }
            put8_any(dx, row, from + col, v, n, wide && n == 8);
        }
    }
}

/* Sums over the rows of a tile, and in each over its runs. */
template <class G, class X> KERNEL(TILE_COLS, 8) gain_tile(float *partial, cad_tensor dy, cad_tensor x, cad_tensor rstd, int64_t width)
{
    int64_t col = (int64_t)here_block().x * TILE_COLS + here_thread();

    if (col >= width) return;
    for (int64_t tile = here_block().y; tile * TILE_ROWS < x.rows; tile += here_blocks().y) {
        float sum = 0;
        for (int64_t row = tile * TILE_ROWS; row < (tile + 1) * TILE_ROWS && row < x.rows; row++)
            for (int64_t run = 0; run * width < x.cols; run++)
                sum += get(at<G>(dy, row, run * width + col)) * (get(at<X>(x, row, run * width + col)) * *at<float>(rstd, row, run));
        partial[tile * width + col] = sum;
    }
}

extern "C" int64_t GRID(rmsnorm_bwd_work)(const cad_device *d, const cad_rmsnorm_bwd_args *x)
{
    (void)d;
    return cad_some(x->dw) ? tiles_of(x->x.rows) * width_of(x->width, x->x) * (int64_t)sizeof(float) : 0;
}

static cad_status gain_gradient(cad_device *d, const cad_rmsnorm_bwd_args *x, int64_t width, float *work)
{
    cadp_dim tiles = tile_blocks(x->x.rows, width);

    if (x->x.rows)
        WITH_TYPE(x->dy.dtype, G, WITH_TYPE(x->x.dtype, X, CAD_TRY(launch(stream_of(d), "rmsnorm_bwd, gain", gain_tile<G, X>, tiles, TILE_COLS, 0, work, x->dy, x->x, x->rstd, width))));
    return GRID(sum_partials)(d, x->dw, work, tiles_of(x->x.rows), x->accumulate_dw);
}

/* dx may be dy: dw first. */
extern "C" cad_status GRID(rmsnorm_bwd)(cad_device *d, const cad_rmsnorm_bwd_args *x, void *work)
{
    int64_t width = width_of(x->width, x->x);
    bool wide = runs_lie_wide(x->x, width) && lies_wide(x->dx) && lies_wide(x->dy) && lies_wide(x->x) && lies_wide(x->w);
    cadp_dim blocks = dim(upto(x->x.rows * (x->x.cols / width), MOST_RUNS), 1, 1);

    if (cad_some(x->dw)) CAD_TRY(gain_gradient(d, x, width, (float *)work));
    if (!x->x.rows) return CAD_OK;
    WITH_TYPE(x->dy.dtype, G, WITH_TYPE(x->x.dtype, X,
        return launch(stream_of(d), "rmsnorm_bwd", norm_back<G, X>, blocks, threads_for(width), NORM_ROOM, x->dx, x->dy, x->x, x->w, x->rstd, width, x->plus_one ? 1.0f : 0.0f, x->accumulate, wide)));
}
