#include "cpu_math.h"
#include "cpu_priv.h"

#include <math.h>

/* Rows of one tile of rmsnorm_bwd: each has its own partial sum of dw. */
enum { NORM_ROWS = 32 };

CAD_CLONES static float sum_squares(const float *x, int64_t n)
{
    cadp_lanes sum = {0}, v;
    int64_t i = 0;

    for (; i + 16 <= n; i += 16) {
        memcpy(&v, x + i, sizeof v);
        sum += v * v;
    }
    for (; i < n; i++) sum[i % 16] += x[i] * x[i];
    return cadp_join(&sum);
}

CAD_CLONES static void scale_row(float *y, const float *x, const float *w, float rstd, float plus, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * rstd * (w[i] + plus);
}

CAD_CLONES static void scale_row_onto(float *y, const float *x, const float *w, float rstd, float plus, const float *onto, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = onto[i] + x[i] * rstd * (w[i] + plus);
}

/* A gain of none is 0 + 1. */
static const float nothing[CADP_STRIP];
typedef struct gains { cad_tensor w; float plus; } gains;
static gains gains_of(cad_tensor w, bool plus_one) { return (gains){w, (float)((plus_one ? 1 : 0) + (cad_some(w) ? 0 : 1))}; }
static const float *gain_at(const gains *g, int64_t j, int64_t n, float *room) { return cad_some(g->w) ? cadp_get(g->w, 0, j, n, room) : nothing; }

/* Columns [first, first + width) of row i, run g of it. */
static void norm_run(const cad_rmsnorm_args *x, const gains *w, int64_t i, int64_t g, int64_t width)
{
    float in[CADP_STRIP], gain[CADP_STRIP], out[CADP_STRIP], old[CADP_STRIP], rstd;
    int64_t first = g * width;
    double sum = 0;

    for (int64_t j = 0; j < width; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, width - j);
        sum += (double)sum_squares(cadp_get(x->x, i, first + j, n, in), n);
    }
    rstd = (float)(1 / sqrt(sum / (double)width + x->eps));
    ((float *)x->rstd.data)[i * x->rstd.ld + g] = rstd;
    for (int64_t j = 0; j < width; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, width - j);
        float *y = cadp_slot(x->y, i, first + j, out);
        if (cad_some(x->plus)) scale_row_onto(y, cadp_get(x->x, i, first + j, n, in), gain_at(w, j, n, gain), rstd, w->plus, cadp_get(x->plus, i, first + j, n, old), n);
        else scale_row(y, cadp_get(x->x, i, first + j, n, in), gain_at(w, j, n, gain), rstd, w->plus, n);
        cadp_put(x->y, i, first + j, n, y);
    }
}

static void norm_rows(const void *args, int64_t i, void *work)
{
    const cad_rmsnorm_args *x = args;
    int64_t width = x->width ? x->width : x->x.cols;
    gains w = gains_of(x->w, x->plus_one);

    (void)work;
    for (int64_t row = i * NORM_ROWS; row < cad_min((i + 1) * NORM_ROWS, x->x.rows); row++)
        for (int64_t g = 0; g * width < x->x.cols; g++) norm_run(x, &w, row, g, width);
}

cad_status cadp_cpu_rmsnorm_fwd(cad_device *d, const cad_rmsnorm_args *x, void *work)
{
    (void)work;
    cadp_cpu_each(d, cad_ceil_div(x->x.rows, NORM_ROWS), norm_rows, x, NULL, 0);
    return CAD_OK;
}

/* With n = x rstd and g = w dy: dx = rstd (g - n mean(g n)), dw = sum over rows of dy n. */
CAD_CLONES static double dot_gain(const float *dy, const float *x, const float *w, float plus, int64_t n)
{
    double lane[16] = {0};
    int64_t i = 0;

    for (; i + 16 <= n; i += 16) {
#pragma omp simd
        for (int l = 0; l < 16; l++) lane[l] += (double)dy[i + l] * (double)(w[i + l] + plus) * (double)x[i + l];
    }
    for (; i < n; i++) lane[i % 16] += (double)dy[i] * (double)(w[i] + plus) * (double)x[i];
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

/* In double: the two terms nearly cancel where a row has few columns or one large element. */
CAD_CLONES static void input_gradient(float *dx, const float *dy, const float *x, const float *w, float plus, double rstd, double mean, bool add, int64_t n)
{
    double pull = mean * rstd;

    if (add) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) dx[i] += (float)(rstd * ((double)dy[i] * (double)(w[i] + plus) - (double)x[i] * pull));
    } else {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) dx[i] = (float)(rstd * ((double)dy[i] * (double)(w[i] + plus) - (double)x[i] * pull));
    }
}

CAD_CLONES static void gain_gradient(float *dw, const float *dy, const float *x, float rstd, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dw[i] += dy[i] * (x[i] * rstd);
}

typedef struct norm_args { const cad_rmsnorm_bwd_args *x; float *partial; } norm_args;

static void norm_run_backwards(const cad_rmsnorm_bwd_args *x, const gains *w, int64_t i, int64_t g, int64_t width, float *dw)
{
    float in[CADP_STRIP], gain[CADP_STRIP], dout[CADP_STRIP], room[CADP_STRIP], rstd = ((const float *)x->rstd.data)[i * x->rstd.ld + g];
    int64_t first = g * width;
    double sum = 0;

    for (int64_t j = 0; j < width; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, width - j);
        sum += dot_gain(cadp_get(x->dy, i, first + j, n, dout), cadp_get(x->x, i, first + j, n, in), gain_at(w, j, n, gain), w->plus, n);
    }
    for (int64_t j = 0; j < width; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, width - j);
        const float *dy = cadp_get(x->dy, i, first + j, n, dout), *v = cadp_get(x->x, i, first + j, n, in);
        float *dx = cadp_slot(x->dx, i, first + j, room);
        if (dw) gain_gradient(dw + j, dy, v, rstd, n); /* before dx, which may be dy */
        if (x->accumulate) (void)cadp_get(x->dx, i, first + j, n, room);
        input_gradient(dx, dy, v, gain_at(w, j, n, gain), w->plus, (double)rstd, sum * (double)rstd / (double)width, x->accumulate, n);
        cadp_put(x->dx, i, first + j, n, dx);
    }
}

static void norm_rows_backwards(const void *args, int64_t i, void *work)
{
    const norm_args *a = args;
    int64_t cols = a->x->x.cols, width = a->x->width ? a->x->width : cols;
    float *dw = cad_some(a->x->dw) ? a->partial + i * width : NULL;
    gains w = gains_of(a->x->w, a->x->plus_one);

    (void)work;
    if (dw) memset(dw, 0, (size_t)width * sizeof *dw);
    for (int64_t row = i * NORM_ROWS; row < cad_min((i + 1) * NORM_ROWS, a->x->x.rows); row++)
        for (int64_t g = 0; g * width < cols; g++) norm_run_backwards(a->x, &w, row, g, width, dw);
}

int64_t cadp_cpu_rmsnorm_bwd_work(const cad_device *d, const cad_rmsnorm_bwd_args *x)
{
    (void)d;
    return cad_some(x->dw) ? cad_ceil_div(x->x.rows, NORM_ROWS) * x->dw.cols * (int64_t)sizeof(float) : 0;
}

cad_status cadp_cpu_rmsnorm_bwd(cad_device *d, const cad_rmsnorm_bwd_args *x, void *work)
{
    norm_args a = {x, work};
    int64_t tiles = cad_ceil_div(x->x.rows, NORM_ROWS);

    cadp_cpu_each(d, tiles, norm_rows_backwards, &a, NULL, 0);
    if (cad_some(x->dw)) cadp_sum_partials(d, x->dw, a.partial, tiles, x->accumulate_dw);
    return CAD_OK;
}
