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

static void norm_row(const cad_rmsnorm_args *x, int64_t i)
{
    float in[CADP_STRIP], gain[CADP_STRIP], out[CADP_STRIP], rstd;
    int64_t cols = x->x.cols;
    double sum = 0;

    for (int64_t j = 0; j < cols; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, cols - j);
        sum += (double)sum_squares(cadp_get(x->x, i, j, n, in), n);
    }
    rstd = (float)(1 / sqrt(sum / (double)cols + x->eps));
    ((float *)x->rstd.data)[i * x->rstd.ld] = rstd;
    for (int64_t j = 0; j < cols; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, cols - j);
        float *y = cadp_slot(x->y, i, j, out);
        scale_row(y, cadp_get(x->x, i, j, n, in), cadp_get(x->w, 0, j, n, gain), rstd, x->plus_one, n);
        cadp_put(x->y, i, j, n, y);
    }
}

static void norm_rows(const void *args, int64_t i, void *work)
{
    const cad_rmsnorm_args *x = args;

    (void)work;
    for (int64_t row = i * NORM_ROWS; row < cad_min((i + 1) * NORM_ROWS, x->x.rows); row++) norm_row(x, row);
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

static void norm_row_backwards(const cad_rmsnorm_bwd_args *x, int64_t i, float *dw)
{
    float in[CADP_STRIP], gain[CADP_STRIP], dout[CADP_STRIP], rstd = ((const float *)x->rstd.data)[i * x->rstd.ld];
    float *dx = (float *)x->dx.data + i * x->dx.ld;
    int64_t cols = x->x.cols;
    double sum = 0;

    for (int64_t j = 0; j < cols; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, cols - j);
        sum += dot_gain(cadp_get(x->dy, i, j, n, dout), cadp_get(x->x, i, j, n, in), cadp_get(x->w, 0, j, n, gain), x->plus_one, n);
    }
    for (int64_t j = 0; j < cols; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, cols - j);
        const float *dy = cadp_get(x->dy, i, j, n, dout), *v = cadp_get(x->x, i, j, n, in);
        input_gradient(dx + j, dy, v, cadp_get(x->w, 0, j, n, gain), x->plus_one, (double)rstd, sum * (double)rstd / (double)cols, x->accumulate, n);
        if (dw) gain_gradient(dw + j, dy, v, rstd, n);
    }
}

static void norm_rows_backwards(const void *args, int64_t i, void *work)
{
    const norm_args *a = args;
    int64_t cols = a->x->x.cols;
    float *dw = cad_some(a->x->dw) ? a->partial + i * cols : NULL;

    (void)work;
    if (dw) memset(dw, 0, (size_t)cols * sizeof *dw);
    for (int64_t row = i * NORM_ROWS; row < cad_min((i + 1) * NORM_ROWS, a->x->x.rows); row++) norm_row_backwards(a->x, row, dw);
}

int64_t cadp_cpu_rmsnorm_bwd_work(const cad_device *d, const cad_rmsnorm_bwd_args *x)
{
    (void)d;
    return cad_some(x->dw) ? cad_ceil_div(x->x.rows, NORM_ROWS) * x->x.cols * (int64_t)sizeof(float) : 0;
}

cad_status cadp_cpu_rmsnorm_bwd(cad_device *d, const cad_rmsnorm_bwd_args *x, void *work)
{
    norm_args a = {x, work};
    int64_t tiles = cad_ceil_div(x->x.rows, NORM_ROWS);

    cadp_cpu_each(d, tiles, norm_rows_backwards, &a, NULL, 0);
    if (cad_some(x->dw)) cadp_sum_partials(d, x->dw, a.partial, tiles, x->accumulate_dw);
    return CAD_OK;
}
