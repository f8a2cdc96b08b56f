/* Sums of a row in double, in sixteen lanes: what is subtracted is nearly as large as the row. */
#include "cpu_priv.h"

#include <math.h>

/* Rows of one tile of the backward: each has its own partial sums of dw and db. */
enum { LAYERNORM_ROWS = 32 };

static double join(double lane[16])
{
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

CAD_CLONES static double sum_of(const float *x, int64_t n)
{
    double lane[16] = {0};
    int64_t i = 0;

    for (; i + 16 <= n; i += 16) {
#pragma omp simd
        for (int l = 0; l < 16; l++) lane[l] += (double)x[i + l];
    }
    for (; i < n; i++) lane[i % 16] += (double)x[i];
    return join(lane);
}

CAD_CLONES static double squares_of(const float *x, double mean, int64_t n)
{
    double lane[16] = {0};
    int64_t i = 0;

    for (; i + 16 <= n; i += 16) {
#pragma omp simd
        for (int l = 0; l < 16; l++) lane[l] += ((double)x[i + l] - mean) * ((double)x[i + l] - mean);
    }
    for (; i < n; i++) lane[i % 16] += ((double)x[i] - mean) * ((double)x[i] - mean);
    return join(lane);
}

CAD_CLONES static void normal_strip(float *y, const float *x, const float *w, const float *b, double mean, double rstd, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = (float)(((double)x[i] - mean) * rstd * (double)w[i] + (double)b[i]);
}

static void layernorm_row(const cad_layernorm_args *x, int64_t i)
{
    float in[CADP_STRIP], gain[CADP_STRIP], shift[CADP_STRIP], out[CADP_STRIP];
    int64_t cols = x->x.cols;
    double mean = 0, square = 0, rstd;

    for (int64_t j = 0, n; j < cols; j += n) {
        n = cad_min(CADP_STRIP, cols - j);
        mean += sum_of(cadp_get(x->x, i, j, n, in), n);
    }
    mean /= (double)cols;
    for (int64_t j = 0, n; j < cols; j += n) {
        n = cad_min(CADP_STRIP, cols - j);
        square += squares_of(cadp_get(x->x, i, j, n, in), mean, n);
    }
    rstd = 1 / sqrt(square / (double)cols + x->eps);
    ((float *)x->mean.data)[i * x->mean.ld] = (float)mean;
    ((float *)x->rstd.data)[i * x->rstd.ld] = (float)rstd;
    for (int64_t j = 0, n; j < cols; j += n) {
        n = cad_min(CADP_STRIP, cols - j);
        float *y = cadp_slot(x->y, i, j, out);
        normal_strip(y, cadp_get(x->x, i, j, n, in), cadp_get(x->w, 0, j, n, gain), cadp_get(x->b, 0, j, n, shift), mean, rstd, n);
        cadp_put(x->y, i, j, n, y);
    }
}

static void layernorm_rows(const void *args, int64_t i, void *work)
{
    const cad_layernorm_args *x = args;

    (void)work;
    for (int64_t at = i * LAYERNORM_ROWS; at < cad_min((i + 1) * LAYERNORM_ROWS, x->x.rows); at++) layernorm_row(x, at);
}

cad_status cadp_cpu_layernorm_fwd(cad_device *d, const cad_layernorm_args *x, void *work)
{
    (void)work;
    cadp_cpu_each(d, cad_ceil_div(x->x.rows, LAYERNORM_ROWS), layernorm_rows, x, NULL, 0);
    return CAD_OK;
}

/* A row's mean and rstd, and the means of g = w dy and of g (x - mean) rstd. */
typedef struct row { double mean, rstd, of_g, of_gn; } row;

CAD_CLONES static void add_means(row *r, const float *dy, const float *x, const float *w, int64_t n)
{
    double g[16] = {0}, gn[16] = {0};
    int64_t i = 0;

    for (; i + 16 <= n; i += 16) {
#pragma omp simd
        for (int l = 0; l < 16; l++) {
            double v = (double)dy[i + l] * (double)w[i + l];
            g[l] += v;
            gn[l] += v * (((double)x[i + l] - r->mean) * r->rstd);
        }
    }
    for (; i < n; i++) {
        double v = (double)dy[i] * (double)w[i];
        g[i % 16] += v;
        gn[i % 16] += v * (((double)x[i] - r->mean) * r->rstd);
    }
    r->of_g += join(g);
    r->of_gn += join(gn);
}

CAD_CLONES static void centred_gradient(float *dx, const float *dy, const float *x, const float *w, const row *r, int64_t n)
{
    double mean = r->mean, rstd = r->rstd, of_g = r->of_g, of_gn = r->of_gn;

#pragma omp simd
    for (int64_t i = 0; i < n; i++) dx[i] = (float)(rstd * ((double)dy[i] * (double)w[i] - of_g - ((double)x[i] - mean) * rstd * of_gn));
}

CAD_CLONES static void gain_gradients(float *dw, float *db, const float *dy, const float *x, float mean, float rstd, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        dw[i] += dy[i] * ((x[i] - mean) * rstd);
        db[i] += dy[i];
    }
}

typedef struct back_args { const cad_layernorm_bwd_args *x; float *dw, *db; } back_args;

static void layernorm_row_backwards(const cad_layernorm_bwd_args *x, int64_t i, float *dw, float *db)
{
    float in[CADP_STRIP], gain[CADP_STRIP], dout[CADP_STRIP], room[CADP_STRIP], mean = ((const float *)x->mean.data)[i * x->mean.ld], rstd = ((const float *)x->rstd.data)[i * x->rstd.ld];
    int64_t cols = x->x.cols;
    row r = {.mean = (double)mean, .rstd = (double)rstd};

    for (int64_t j = 0, n; j < cols; j += n) {
        n = cad_min(CADP_STRIP, cols - j);
        add_means(&r, cadp_get(x->dy, i, j, n, dout), cadp_get(x->x, i, j, n, in), cadp_get(x->w, 0, j, n, gain), n);
    }
    r.of_g /= (double)cols;
    r.of_gn /= (double)cols;
    for (int64_t j = 0, n; j < cols; j += n) {
        n = cad_min(CADP_STRIP, cols - j);
        const float *dy = cadp_get(x->dy, i, j, n, dout), *v = cadp_get(x->x, i, j, n, in);
        float *dx = cadp_slot(x->dx, i, j, room);
        gain_gradients(dw + j, db + j, dy, v, mean, rstd, n); /* before dx, which may be dy */
        centred_gradient(dx, dy, v, cadp_get(x->w, 0, j, n, gain), &r, n);
        cadp_put(x->dx, i, j, n, dx);
    }
}

static void layernorm_rows_backwards(const void *args, int64_t i, void *work)
{
    const back_args *a = args;
    int64_t cols = a->x->x.cols;
    float *dw = a->dw + i * cols, *db = a->db + i * cols;

    (void)work;
    memset(dw, 0, (size_t)cols * sizeof *dw);
    memset(db, 0, (size_t)cols * sizeof *db);
    for (int64_t at = i * LAYERNORM_ROWS; at < cad_min((i + 1) * LAYERNORM_ROWS, a->x->x.rows); at++) layernorm_row_backwards(a->x, at, dw, db);
}

int64_t cadp_cpu_layernorm_bwd_work(const cad_device *d, const cad_layernorm_bwd_args *x)
{
    (void)d;
    return 2 * cad_ceil_div(x->x.rows, LAYERNORM_ROWS) * x->x.cols * (int64_t)sizeof(float);
}

cad_status cadp_cpu_layernorm_bwd(cad_device *d, const cad_layernorm_bwd_args *x, void *work)
{
    int64_t tiles = cad_ceil_div(x->x.rows, LAYERNORM_ROWS);
    back_args a = {x, work, (float *)work + tiles * x->x.cols};

    cadp_cpu_each(d, tiles, layernorm_rows_backwards, &a, NULL, 0);
    if (cad_some(x->dw)) cadp_sum_partials(d, x->dw, a.dw, tiles, x->accumulate_dw);
    if (cad_some(x->db)) cadp_sum_partials(d, x->db, a.db, tiles, x->accumulate_dw);
    return CAD_OK;
}
