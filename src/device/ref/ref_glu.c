#include "ref_priv.h"

#include <math.h>

static const double root_2_over_pi = 0.79788456080286535588, root_half = 0.70710678118654752440, one_over_root_2_pi = 0.39894228040143267794;

/* torch.nn.functional: silu, gelu(approximate="tanh"), gelu */
static double act(cad_activation how, double z)
{
    switch (how) {
    case CAD_ACT_SILU: return z / (1 + exp(-z));
    case CAD_ACT_GELU_TANH: return 0.5 * z * (1 + tanh(root_2_over_pi * (z + 0.044715 * z * z * z)));
    case CAD_ACT_GELU_ERF: return 0.5 * z * (1 + erf(z * root_half));
    case CAD_ACT_TANH: return tanh(z);
    }
    CAD_ASSERT(!"an activation");
    return 0;
}

static double slope(cad_activation how, double z)
{
    double s, t;

    switch (how) {
    case CAD_ACT_SILU:
        s = 1 / (1 + exp(-z));
        return s * (1 + z * (1 - s));
    case CAD_ACT_GELU_TANH:
        t = tanh(root_2_over_pi * (z + 0.044715 * z * z * z));
        return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * root_2_over_pi * (1 + 3 * 0.044715 * z * z);
    case CAD_ACT_GELU_ERF: return 0.5 * (1 + erf(z * root_half)) + z * one_over_root_2_pi * exp(-0.5 * z * z);
    case CAD_ACT_TANH: return 1 - tanh(z) * tanh(z);
    }
    CAD_ASSERT(!"an activation");
    return 0;
}

static double times(cad_tensor up, int64_t i, int64_t j) { return cad_some(up) ? cadp_load(up, i, j) : 1; }

cad_status cadp_ref_glu_fwd(cad_device *d, const cad_glu_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t i = 0; i < x->gate.rows; i++)
        for (int64_t j = 0; j < x->gate.cols; j++) cadp_store(x->m, i, j, act(x->act, cadp_load(x->gate, i, j)) * times(x->up, i, j));
    return CAD_OK;
}

cad_status cadp_ref_glu_bwd(cad_device *d, const cad_glu_bwd_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t i = 0; i < x->gate.rows; i++)
        for (int64_t j = 0; j < x->gate.cols; j++) {
            double gate = cadp_load(x->gate, i, j), up = times(x->up, i, j), dm = cadp_load(x->dm, i, j);
            cadp_store(x->dgate, i, j, dm * up * slope(x->act, gate));
            if (cad_some(x->up)) cadp_store(x->dup, i, j, dm * act(x->act, gate));
            if (cad_some(x->m)) cadp_store(x->m, i, j, act(x->act, gate) * up);
        }
    return CAD_OK;
}
