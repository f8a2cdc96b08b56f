#include "ref_priv.h"

#include <math.h>

static double gain(cad_tensor w, int64_t j, bool plus_one) { return (cad_some(w) ? cadp_load(w, 0, j) : 1) + (plus_one ? 1 : 0); }

/* Run g of row i. */
static cad_tensor run_of(cad_tensor t, int64_t i, int64_t g, int64_t width) { return cad_columns(cad_slice(t, i, 1), g * width, width); }
static int64_t width_of(int64_t width, cad_tensor x) { return width ? width : x.cols; }

static void norm_run(const cad_rmsnorm_args *a, cad_tensor y, cad_tensor x, cad_tensor plus, cad_tensor rstd)
{
    double sum = 0, r;

    for (int64_t j = 0; j < x.cols; j++) sum += cadp_load(x, 0, j) * cadp_load(x, 0, j);
    r = 1 / sqrt(sum / (double)x.cols + a->eps);
    for (int64_t j = 0; j < x.cols; j++) cadp_store(y, 0, j, cadp_load(x, 0, j) * r * gain(a->w, j, a->plus_one) + (cad_some(plus) ? cadp_load(plus, 0, j) : 0));
    cadp_store(rstd, 0, 0, r);
}

cad_status cadp_ref_rmsnorm_fwd(cad_device *d, const cad_rmsnorm_args *x, void *work)
{
    int64_t width = width_of(x->width, x->x);

    (void)d, (void)work;
    for (int64_t i = 0; i < x->x.rows; i++)
        for (int64_t g = 0; g * width < x->x.cols; g++)
            norm_run(x, run_of(x->y, i, g, width), run_of(x->x, i, g, width), cad_some(x->plus) ? run_of(x->plus, i, g, width) : x->plus, run_of(x->rstd, i, g, 1));
    return CAD_OK;
}

/* With n = x rstd and g = w dy: dx = rstd (g - n mean(g n)). */
static void input_gradient(const cad_rmsnorm_bwd_args *a, cad_tensor dx, cad_tensor dy, cad_tensor x, double rstd)
{
    double mean = 0;

    for (int64_t j = 0; j < x.cols; j++) mean += cadp_load(dy, 0, j) * gain(a->w, j, a->plus_one) * cadp_load(x, 0, j) * rstd;
    mean /= (double)x.cols;
    for (int64_t j = 0; j < x.cols; j++) {
        double g = cadp_load(dy, 0, j) * gain(a->w, j, a->plus_one), v = rstd * (g - cadp_load(x, 0, j) * rstd * mean);
        cadp_store(dx, 0, j, v + (a->accumulate ? cadp_load(dx, 0, j) : 0));
    }
}

static void gain_gradient(const cad_rmsnorm_bwd_args *x, int64_t width)
{
    for (int64_t j = 0; j < width; j++) {
        double sum = x->accumulate_dw ? cadp_load(x->dw, 0, j) : 0;
        for (int64_t i = 0; i < x->x.rows; i++)
            for (int64_t g = 0; g * width < x->x.cols; g++) sum += cadp_load(x->dy, i, g * width + j) * cadp_load(x->x, i, g * width + j) * cadp_load(x->rstd, i, g);
        cadp_store(x->dw, 0, j, sum);
    }
}

/* dx may be dy: dw first. */
cad_status cadp_ref_rmsnorm_bwd(cad_device *d, const cad_rmsnorm_bwd_args *x, void *work)
{
    int64_t width = width_of(x->width, x->x);

    (void)d, (void)work;
    if (cad_some(x->dw)) gain_gradient(x, width);
    for (int64_t i = 0; i < x->x.rows; i++)
        for (int64_t g = 0; g * width < x->x.cols; g++)
            input_gradient(x, run_of(x->dx, i, g, width), run_of(x->dy, i, g, width), run_of(x->x, i, g, width), cadp_load(x->rstd, i, g));
    return CAD_OK;
}

cad_status cadp_ref_layernorm_fwd(cad_device *d, const cad_layernorm_args *x, void *work)
{
    int64_t n = x->x.cols;

    (void)d, (void)work;
    for (int64_t i = 0; i < x->x.rows; i++) {
        double mean = 0, square = 0, rstd;
        for (int64_t j = 0; j < n; j++) mean += cadp_load(x->x, i, j) / (double)n;
        for (int64_t j = 0; j < n; j++) square += (cadp_load(x->x, i, j) - mean) * (cadp_load(x->x, i, j) - mean) / (double)n;
        rstd = 1 / sqrt(square + x->eps);
        for (int64_t j = 0; j < n; j++) cadp_store(x->y, i, j, (cadp_load(x->x, i, j) - mean) * rstd * cadp_load(x->w, 0, j) + cadp_load(x->b, 0, j));
        cadp_store(x->mean, i, 0, mean);
        cadp_store(x->rstd, i, 0, rstd);
    }
    return CAD_OK;
}

/* x brought to mean 0 and variance 1. */
static double normal(const cad_layernorm_bwd_args *x, int64_t i, int64_t j) { return (cadp_load(x->x, i, j) - cadp_load(x->mean, i, 0)) * cadp_load(x->rstd, i, 0); }

/* With n = (x - mean) rstd and g = w dy: dx = rstd (g - mean(g) - n mean(g n)). */
static void centred_gradient(const cad_layernorm_bwd_args *x, int64_t i)
{
    double of_g = 0, of_gn = 0;
    int64_t cols = x->x.cols;

    for (int64_t j = 0; j < cols; j++) {
        double g = cadp_load(x->dy, i, j) * cadp_load(x->w, 0, j);
        of_g += g / (double)cols;
        of_gn += g * normal(x, i, j) / (double)cols;
    }
    for (int64_t j = 0; j < cols; j++) {
        double g = cadp_load(x->dy, i, j) * cadp_load(x->w, 0, j);
        cadp_store(x->dx, i, j, cadp_load(x->rstd, i, 0) * (g - of_g - normal(x, i, j) * of_gn));
    }
}

cad_status cadp_ref_layernorm_bwd(cad_device *d, const cad_layernorm_bwd_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t j = 0; j < x->x.cols; j++) {
        double dw = x->accumulate_dw && cad_some(x->dw) ? cadp_load(x->dw, 0, j) : 0, db = x->accumulate_dw && cad_some(x->db) ? cadp_load(x->db, 0, j) : 0;
        for (int64_t i = 0; i < x->x.rows; i++) {
            dw += cadp_load(x->dy, i, j) * normal(x, i, j);
            db += cadp_load(x->dy, i, j);
        }
        if (cad_some(x->dw)) cadp_store(x->dw, 0, j, dw);
        if (cad_some(x->db)) cadp_store(x->db, 0, j, db);
    }
    for (int64_t i = 0; i < x->x.rows; i++) centred_gradient(x, i);
    return CAD_OK;
}
