/* Sums over rows: partial sums of fixed tiles of rows, then the sum of those in the order of the tiles. */
#include "cpu_priv.h"

enum { SUM_ROWS = 128, SUM_COLS = 256 };

CAD_CLONES static void add(float *to, const float *from, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) to[i] += from[i];
}

typedef struct partials { cad_tensor y; const float *from; int64_t tiles; bool accumulate; } partials;

static void sum_columns(const void *args, int64_t i, void *work)
{
    const partials *p = args;
    int64_t from = i * SUM_COLS, n = cad_min(SUM_COLS, p->y.cols - from);
    float *y = (float *)p->y.data + from;

    (void)work;
    if (!p->accumulate) memset(y, 0, (size_t)n * sizeof *y);
    for (int64_t tile = 0; tile < p->tiles; tile++) add(y, p->from + tile * p->y.cols + from, n);
}

void cadp_sum_partials(const cad_device *d, cad_tensor y, const float *from, int64_t tiles, bool accumulate)
{
    partials p = {y, from, tiles, accumulate};

    cadp_cpu_each(d, cad_ceil_div(y.cols, SUM_COLS), sum_columns, &p, NULL, 0);
}

typedef struct sum_args { cad_tensor x; float *partial; } sum_args;

static void sum_tile(const void *args, int64_t i, void *work)
{
    const sum_args *a = args;
    float *sum = a->partial + i * a->x.cols, room[CADP_STRIP];

    (void)work;
    memset(sum, 0, (size_t)a->x.cols * sizeof *sum);
    for (int64_t row = i * SUM_ROWS; row < cad_min((i + 1) * SUM_ROWS, a->x.rows); row++)
        for (int64_t j = 0; j < a->x.cols; j += CADP_STRIP) {
            int64_t n = cad_min(CADP_STRIP, a->x.cols - j);
            add(sum + j, cadp_get(a->x, row, j, n, room), n);
        }
}

int64_t cadp_cpu_sum_rows_work(const cad_device *d, const cad_sum_rows_args *x)
{
    (void)d;
    return cad_ceil_div(x->x.rows, SUM_ROWS) * x->x.cols * (int64_t)sizeof(float);
}

cad_status cadp_cpu_sum_rows(cad_device *d, const cad_sum_rows_args *x, void *work)
{
    sum_args a = {x->x, work};
    int64_t tiles = cad_ceil_div(x->x.rows, SUM_ROWS);

    cadp_cpu_each(d, tiles, sum_tile, &a, NULL, 0);
    cadp_sum_partials(d, x->y, work, tiles, x->accumulate);
    return CAD_OK;
}

/* ---- columns by factors, and the gradient of those ---- */

CAD_CLONES static void multiply(float *y, const float *x, const float *w, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * w[i];
}

CAD_CLONES static void add_product(float *sum, const float *x, const float *y, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) sum[i] += x[i] * y[i];
}

typedef struct scale_args { const cad_scale_cols_args *x; cadp_grid grid; } scale_args;

static void scale_rect(const void *args, int64_t i, void *work)
{
    const cad_scale_cols_args *x = ((const scale_args *)args)->x;
    cadp_rect r = cadp_rect_of(&((const scale_args *)args)->grid, i);
    float in[CADP_STRIP], factor[CADP_STRIP], more[CADP_STRIP], out[CADP_STRIP];

    (void)work;
    for (int64_t row = r.row; row < r.rows_end; row++)
        for (int64_t j = r.col; j < r.cols_end; j += CADP_STRIP) {
            int64_t n = cad_min(CADP_STRIP, r.cols_end - j);
            multiply(out, cadp_get(x->x, row, j, n, in), cadp_get(x->w, 0, j, n, factor), n);
            if (cad_some(x->b)) add(out, cadp_get(x->b, 0, j, n, more), n);
            if (x->accumulate) add(out, cadp_get(x->y, row, j, n, more), n);
            cadp_put(x->y, row, j, n, out);
        }
}

cad_status cadp_cpu_scale_cols(cad_device *d, const cad_scale_cols_args *x, void *work)
{
    scale_args a = {x, cadp_grid_of(x->x.rows, x->x.cols)};

    (void)work;
    if (x->x.dtype == CAD_F64 || x->y.dtype == CAD_F64 || x->w.dtype == CAD_F64) return cad_fail(CAD_EUSAGE, "scale_cols: device %s does not compute in F64; device \"ref\" does", d->name);
    cadp_cpu_each(d, a.grid.n, scale_rect, &a, NULL, 0);
    return CAD_OK;
}

typedef struct dot_args { const cad_dot_cols_args *x; float *partial; } dot_args;

static void dot_tile(const void *args, int64_t i, void *work)
{
    const cad_dot_cols_args *x = ((const dot_args *)args)->x;
    float *sum = ((const dot_args *)args)->partial + i * x->x.cols, a[CADP_STRIP], b[CADP_STRIP];

    (void)work;
    memset(sum, 0, (size_t)x->x.cols * sizeof *sum);
    for (int64_t row = i * SUM_ROWS; row < cad_min((i + 1) * SUM_ROWS, x->x.rows); row++)
        for (int64_t j = 0; j < x->x.cols; j += CADP_STRIP) {
            int64_t n = cad_min(CADP_STRIP, x->x.cols - j);
            add_product(sum + j, cadp_get(x->x, row, j, n, a), cadp_get(x->y, row, j, n, b), n);
        }
}

int64_t cadp_cpu_dot_cols_work(const cad_device *d, const cad_dot_cols_args *x)
{
    (void)d;
    return cad_ceil_div(x->x.rows, SUM_ROWS) * x->x.cols * (int64_t)sizeof(float);
}

cad_status cadp_cpu_dot_cols(cad_device *d, const cad_dot_cols_args *x, void *work)
{
    dot_args a = {x, work};
    int64_t tiles = cad_ceil_div(x->x.rows, SUM_ROWS);

    cadp_cpu_each(d, tiles, dot_tile, &a, NULL, 0);
    cadp_sum_partials(d, x->w, work, tiles, false);
    return CAD_OK;
}
