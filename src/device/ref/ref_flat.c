#include "ref_priv.h"

#include <math.h>

cad_status cadp_ref_adamw(cad_device *d, const cad_adamw_args *x, void *work)
{
    double c1 = 1 - pow(x->beta1, (double)x->step), c2 = 1 - pow(x->beta2, (double)x->step);

    (void)d, (void)work;
    for (int64_t i = 0; i < x->p.cols; i++) {
        double g = x->clip * cadp_load(x->g, 0, i), p = cadp_load(x->p, 0, i) * (1 - x->lr * x->decay);
        double m = cadp_load(x->m, 0, i), v = x->beta2 * cadp_load(x->v, 0, i) + (1 - x->beta2) * g * g;
        m += (g - m) * (1 - x->beta1);
        p -= x->lr / c1 * m / (sqrt(v) / sqrt(c2) + x->eps);
        cadp_store(x->m, 0, i, m);
        cadp_store(x->v, 0, i, v);
        cadp_store(x->p, 0, i, p);
        if (cad_some(x->copy)) cadp_store(x->copy, 0, i, cadp_load(x->p, 0, i));
    }
    return CAD_OK;
}

cad_status cadp_ref_sumsq(cad_device *d, const cad_sumsq_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t c = 0; c < x->out.cols; c++) {
        double sum = 0;
        for (int64_t i = c * CAD_CHUNK; i < cad_min((c + 1) * CAD_CHUNK, x->x.cols); i++) sum += cadp_load(x->x, 0, i) * cadp_load(x->x, 0, i);
        cadp_store(x->out, 0, c, sum);
    }
    return CAD_OK;
}

static int64_t *words(cad_tensor q) { return q.data; }

/* Wraps, as every backend's integer addition does. */
static int64_t add(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }

static int64_t fixed(double value, int exponent)
{
    double scaled = rint(ldexp(value, exponent));

    if (isnan(scaled)) return 0;
    return (int64_t)fmin(fmax(scaled, -0x1p62), 0x1p62);
}

cad_status cadp_ref_fixed_add(cad_device *d, const cad_fixed_args *x, void *work)
{
    double largest = cadp_load(x->largest, 0, 0);

    (void)d, (void)work;
    for (int64_t i = 0; i < x->x.cols; i++) {
        double value = cadp_load(x->x, 0, i);
        words(x->q)[i] = add(x->accumulate ? words(x->q)[i] : 0, fixed(value, x->exponent));
        largest = isfinite(value) ? fmax(largest, fabs(value)) : INFINITY;
    }
    cadp_store(x->largest, 0, 0, largest);
    return CAD_OK;
}

cad_status cadp_ref_fixed_back(cad_device *d, const cad_fixed_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t i = 0; i < x->x.cols; i++) cadp_store(x->x, 0, i, ldexp((double)words(x->q)[i], -x->exponent));
    return CAD_OK;
}

cad_status cadp_ref_add_i64(cad_device *d, const cad_fixed_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t i = 0; i < x->q.cols; i++) words(x->q)[i] = add(words(x->q)[i], words(x->x)[i]);
    return CAD_OK;
}
