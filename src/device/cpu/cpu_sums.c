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
