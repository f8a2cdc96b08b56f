#include "ref_priv.h"

#include <math.h>

static double gain(cad_tensor w, int64_t j, bool plus_one) { return cadp_load(w, 0, j) + (plus_one ? 1 : 0); }

cad_status cadp_ref_rmsnorm_fwd(cad_device *d, const cad_rmsnorm_args *x, void *work)
{
    int64_t cols = x->x.cols;

    (void)d, (void)work;
    for (int64_t i = 0; i < x->x.rows; i++) {
        double sum = 0, rstd;
        for (int64_t j = 0; j < cols; j++) sum += cadp_load(x->x, i, j) * cadp_load(x->x, i, j);
        rstd = 1 / sqrt(sum / (double)cols + x->eps);
        for (int64_t j = 0; j < cols; j++) cadp_store(x->y, i, j, cadp_load(x->x, i, j) * rstd * gain(x->w, j, x->plus_one));
        cadp_store(x->rstd, i, 0, rstd);
    }
    return CAD_OK;
}

/* With n = x rstd and g = w dy: dx = rstd (g - n mean(g n)). */
static void input_gradient(const cad_rmsnorm_bwd_args *x, int64_t i)
{
    double rstd = cadp_load(x->rstd, i, 0), mean = 0;
    int64_t cols = x->x.cols;

    for (int64_t j = 0; j < cols; j++) mean += cadp_load(x->dy, i, j) * gain(x->w, j, x->plus_one) * cadp_load(x->x, i, j) * rstd;
    mean /= (double)cols;
    for (int64_t j = 0; j < cols; j++) {
        double g = cadp_load(x->dy, i, j) * gain(x->w, j, x->plus_one);
        double dx = rstd * (g - cadp_load(x->x, i, j) * rstd * mean);
        cadp_store(x->dx, i, j, dx + (x->accumulate ? cadp_load(x->dx, i, j) : 0));
    }
}

cad_status cadp_ref_rmsnorm_bwd(cad_device *d, const cad_rmsnorm_bwd_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t i = 0; i < x->x.rows; i++) input_gradient(x, i);
    for (int64_t j = 0; cad_some(x->dw) && j < x->x.cols; j++) {
        double sum = x->accumulate_dw ? cadp_load(x->dw, 0, j) : 0;
        for (int64_t i = 0; i < x->x.rows; i++) sum += cadp_load(x->dy, i, j) * cadp_load(x->x, i, j) * cadp_load(x->rstd, i, 0);
        cadp_store(x->dw, 0, j, sum);
    }
    return CAD_OK;
}
