#include "model_priv.h"

cad_status cadp_copy(cad_model *m, cad_tensor to, cad_tensor from, double beta)
{
    return cad_axpby(m->device, &(cad_axpby_args){.y = to, .x = from, .alpha = 1, .beta = beta});
}

cad_status cadp_norm_forward(cad_model *m, int unit, cad_role role, cad_unit_view w, cad_tensor y, cad_tensor x, cad_tensor rstd, cad_tensor mean)
{
    cad_tensor gain = cadp_weight(m, w, cadp_find(m, unit, role, CAD_PIECE_WEIGHT));

    if (!m->arch->centred) return cad_rmsnorm_fwd(m->device, &(cad_rmsnorm_args){.y = y, .x = x, .w = gain, .rstd = rstd, .eps = m->arch->eps, .plus_one = m->arch->gain_plus_one});
    return cad_layernorm_fwd(m->device, &(cad_layernorm_args){.y = y, .x = x, .w = gain, .b = cadp_weight(m, w, cadp_find(m, unit, role, CAD_PIECE_BIAS)), .mean = mean, .rstd = rstd,
                                                              .eps = m->arch->eps});
}

cad_status cadp_norm_onto(cad_model *m, int unit, cad_role role, cad_unit_view w, cad_tensor y, cad_tensor plus, cad_tensor x, cad_tensor rstd)
{
    CAD_ASSERT(!m->arch->centred);
    return cad_rmsnorm_fwd(m->device, &(cad_rmsnorm_args){.y = y, .x = x, .w = cadp_weight(m, w, cadp_find(m, unit, role, CAD_PIECE_WEIGHT)), .rstd = rstd, .eps = m->arch->eps,
                                                          .plus_one = m->arch->gain_plus_one, .plus = plus});
}

cad_status cadp_norm_backward(cad_model *m, int unit, cad_role role, cad_unit_view w, void *grads, cad_tensor dx, cad_tensor dy, cad_tensor x, cad_tensor rstd, cad_tensor mean, bool accumulate)
{
    int gain = cadp_find(m, unit, role, CAD_PIECE_WEIGHT), shift = cadp_find(m, unit, role, CAD_PIECE_BIAS);

    if (!m->arch->centred)
        return cad_rmsnorm_bwd(m->device, &(cad_rmsnorm_bwd_args){.dx = dx, .dw = cadp_grad(m, grads, gain), .dy = dy, .x = x, .w = cadp_weight(m, w, gain), .rstd = rstd,
                                                                  .plus_one = m->arch->gain_plus_one, .accumulate = accumulate, .accumulate_dw = m->add});
    CAD_ASSERT(!accumulate);
    return cad_layernorm_bwd(m->device, &(cad_layernorm_bwd_args){.dx = dx, .dw = cadp_grad(m, grads, gain), .db = cadp_grad(m, grads, shift), .dy = dy, .x = x, .w = cadp_weight(m, w, gain),
                                                                  .mean = mean, .rstd = rstd, .accumulate_dw = m->add});
}
