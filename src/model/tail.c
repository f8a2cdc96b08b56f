#include "model_priv.h"

static int tail_unit(const cad_model *m) { return m->arch->layers + 1; }

static cad_status final_norm(cad_model *m, cad_unit_view w, cad_tensor y, cad_tensor x)
{
    return cad_rmsnorm_fwd(m->device, &(cad_rmsnorm_args){.y = y, .x = x, .rstd = cad_slice(m->rstd, 0, x.rows), .eps = m->arch->eps, .plus_one = m->arch->gain_plus_one,
                                                          .w = cadp_weight(m, w, cadp_find(m, tail_unit(m), CAD_ROLE_FINAL_NORM, CAD_PIECE_WEIGHT))});
}

static cad_status pool(cad_model *m, cad_tensor y, cad_tensor x, cad_pooling how)
{
    return cad_pool_fwd(m->device, &(cad_pool_args){.y = y, .x = x, .how = how, .packing = &m->packing});
}

/* feature [sequences, hidden] = the normed hidden state of one token, or the mean of the normed hidden states. A norm is per token, so that
 * one token is picked first and normed then. */
cad_status cadp_tail_feature(cad_model *m, cad_unit_view w, cad_pooling how)
{
    cad_tensor h = cadp_hidden(m, m->arch->layers), feature = cadp_seqs(m, m->feature), picked = cadp_seqs(m, m->picked);

    if (how == CAD_POOLING_MEAN) {
        CAD_TRY(final_norm(m, w, cadp_rows(m, m->full), h));
        return pool(m, feature, cadp_rows(m, m->full), how);
    }
    CAD_TRY(pool(m, picked, h, how));
    return final_norm(m, w, feature, picked);
}

static bool head_drops(const cad_model *m) { return m->training && m->method.head_dropout > 0; }

static cad_status drop_feature(cad_model *m, cad_tensor x)
{
    return cad_dropout(m->device, &(cad_dropout_args){.y = x, .x = x, .p = m->method.head_dropout, .seed = m->method.seed, .index = m->seed_index, .site = 0xffffffffu});
}

cad_status cadp_tail_forward(cad_model *m, cad_unit_view w)
{
    int unit = tail_unit(m);
    cad_tensor pooled = cadp_seqs(m, m->pooled), logits = cadp_seqs(m, m->logits);

    CAD_TRY(cadp_tail_feature(m, w, m->method.pooling));
    if (m->pooled.data != m->feature.data) CAD_TRY(cad_axpby(m->device, &(cad_axpby_args){.y = pooled, .x = cadp_seqs(m, m->feature), .alpha = 1}));
    if (head_drops(m)) CAD_TRY(drop_feature(m, pooled));
    CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = logits, .a = pooled, .b = cadp_weight(m, w, cadp_find(m, unit, CAD_ROLE_HEAD, CAD_PIECE_WEIGHT)), .tb = true, .alpha = 1,
                                                     .bias = cadp_weight(m, w, cadp_find(m, unit, CAD_ROLE_HEAD, CAD_PIECE_BIAS))}));
    if (!m->has_labels) return CAD_OK;
    return cad_xent(m->device, &(cad_xent_args){.logits = logits, .dlogits = m->training ? cadp_seqs(m, m->dlogits) : (cad_tensor){0}, .nll = cadp_seqs(m, m->nll),
                                                .labels = cadp_seqs(m, m->labels), .weights = cadp_seqs(m, m->weights), .scale = m->scale});
}

static cad_status head_backward(cad_model *m, cad_unit_view w, void *grads)
{
    int unit = tail_unit(m), weight = cadp_find(m, unit, CAD_ROLE_HEAD, CAD_PIECE_WEIGHT);
    cad_tensor dl = cadp_seqs(m, m->dlogits), df = cadp_seqs(m, m->dfeature);
    cad_tensor dw = cadp_grad(m, grads, weight), db = cadp_grad(m, grads, cadp_find(m, unit, CAD_ROLE_HEAD, CAD_PIECE_BIAS));

    if (cad_some(dw)) CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = dw, .a = dl, .ta = true, .b = cadp_seqs(m, m->pooled), .alpha = 1}));
    if (cad_some(db)) CAD_TRY(cad_sum_rows(m->device, &(cad_sum_rows_args){.y = db, .x = dl}));
    CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = df, .a = dl, .b = cadp_weight(m, w, weight), .alpha = 1}));
    return head_drops(m) ? drop_feature(m, df) : CAD_OK;
}

static cad_status norm_backward(cad_model *m, cad_unit_view w, void *grads, cad_tensor dx, cad_tensor dy, cad_tensor x)
{
    int row = cadp_find(m, tail_unit(m), CAD_ROLE_FINAL_NORM, CAD_PIECE_WEIGHT);

    return cad_rmsnorm_bwd(m->device, &(cad_rmsnorm_bwd_args){.dx = dx, .dw = cadp_grad(m, grads, row), .dy = dy, .x = x, .w = cadp_weight(m, w, row), .rstd = cad_slice(m->rstd, 0, x.rows),
                                                              .plus_one = m->arch->gain_plus_one});
}

/* Writes dh, the gradient of the last block's output. */
cad_status cadp_tail_backward(cad_model *m, cad_unit_view w, void *grads)
{
    cad_tensor df = cadp_seqs(m, m->dfeature), picked = cadp_seqs(m, m->picked), dh = cadp_rows(m, m->dh), dx = cadp_rows(m, m->dx);

    CAD_TRY(head_backward(m, w, grads));
    if (m->method.pooling == CAD_POOLING_MEAN) {
        CAD_TRY(cad_pool_bwd(m->device, &(cad_pool_args){.y = df, .x = dx, .how = CAD_POOLING_MEAN, .packing = &m->packing}));
        return norm_backward(m, w, grads, dh, dx, cadp_hidden(m, m->arch->layers));
    }
    CAD_TRY(norm_backward(m, w, grads, cadp_seqs(m, m->feature), df, picked)); /* feature is free by now */
    return cad_pool_bwd(m->device, &(cad_pool_args){.y = cadp_seqs(m, m->feature), .x = dh, .how = m->method.pooling, .packing = &m->packing});
}
