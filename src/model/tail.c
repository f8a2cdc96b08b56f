#include "model_priv.h"

static int tail_unit(const cad_model *m) { return m->arch->layers + 1; }

static bool has_norm(const cad_model *m) { return cadp_find(m, tail_unit(m), CAD_ROLE_FINAL_NORM, CAD_PIECE_WEIGHT) >= 0; }
static bool has_pooler(const cad_model *m) { return cadp_pooler(m)->parts > 0; }

static cad_status final_norm(cad_model *m, cad_unit_view w, cad_tensor y, cad_tensor x)
{
    return cadp_norm_forward(m, tail_unit(m), CAD_ROLE_FINAL_NORM, w, y, x, cad_slice(m->rstd, 0, x.rows), (cad_tensor){0});
}

static cad_status pool(cad_model *m, cad_tensor y, cad_tensor x, cad_pooling how)
{
    return cad_pool_fwd(m->device, &(cad_pool_args){.y = y, .x = x, .how = how, .packing = &m->packing});
}

/* A pooler looks at the first token. */
static cad_pooling pooling_of(const cad_model *m) { return has_pooler(m) ? CAD_POOLING_FIRST : m->method.pooling; }

/* feature [sequences, hidden] = the normed hidden state of one token, or the mean of the normed hidden states. A norm is per token, so that
 * one token is picked first and normed then. */
cad_status cadp_tail_feature(cad_model *m, cad_unit_view w, cad_pooling how)
{
    cad_tensor h = cadp_hidden(m, m->arch->layers), feature = cadp_seqs(m, m->feature), picked = cadp_seqs(m, m->picked);

    if (!has_norm(m)) return pool(m, feature, h, how);
    if (how == CAD_POOLING_MEAN) {
        CAD_TRY(final_norm(m, w, cadp_rows(m, m->full), h));
        return pool(m, feature, cadp_rows(m, m->full), how);
    }
    CAD_TRY(pool(m, picked, h, how));
    return final_norm(m, w, feature, picked);
}

/* A family with a pooler has a dropout of its own before its classifier. */
static double head_dropout(const cad_model *m) { return !m->training ? 0 : has_pooler(m) ? m->arch->classifier_dropout : m->method.head_dropout; }

static cad_status drop_feature(cad_model *m, cad_tensor x)
{
    if (head_dropout(m) <= 0) return CAD_OK;
    return cad_dropout(m->device, &(cad_dropout_args){.y = x, .x = x, .p = head_dropout(m), .seed = m->method.seed, .index = m->seed_index, .site = 0xffffffffu});
}

static cad_tensor u_pool(const cad_model *m) { return cad_some(m->u_pool) ? cadp_seqs(m, m->u_pool) : m->u_pool; }

/* tanh(W x + b) of the pooled token. */
static cad_status pooler_forward(cad_model *m, cad_unit_view w)
{
    cad_tensor pre = cadp_seqs(m, m->pre);

    CAD_TRY(cadp_linear_forward(m, cadp_pooler(m), w, cadp_seqs(m, m->pooled), pre, 0, u_pool(m)));
    return cad_glu_fwd(m->device, &(cad_glu_args){.m = cadp_seqs(m, m->head_in), .gate = pre, .act = CAD_ACT_TANH});
}

cad_status cadp_tail_forward(cad_model *m, cad_unit_view w)
{
    int unit = tail_unit(m);
    cad_tensor pooled = cadp_seqs(m, m->pooled), in = cadp_seqs(m, m->head_in), logits = cadp_seqs(m, m->logits);

    if (m->method.causal) return cadp_lm_forward(m, w);
    CAD_TRY(cadp_tail_feature(m, w, pooling_of(m)));
    if (m->pooled.data != m->feature.data) CAD_TRY(cadp_copy(m, pooled, cadp_seqs(m, m->feature), 0));
    if (has_pooler(m)) CAD_TRY(pooler_forward(m, w));
    CAD_TRY(drop_feature(m, in));
    CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = logits, .a = in, .b = cadp_weight(m, w, cadp_find(m, unit, CAD_ROLE_HEAD, CAD_PIECE_WEIGHT)), .tb = true, .alpha = 1,
                                                     .bias = cadp_weight(m, w, cadp_find(m, unit, CAD_ROLE_HEAD, CAD_PIECE_BIAS))}));
    CAD_TRY(cadp_columns_forward(m, w));
    if (m->margin) return cadp_margin_gradient(m);
    if (!m->has_labels) return CAD_OK;
    return cad_xent(m->device, &(cad_xent_args){.logits = logits, .dlogits = m->training ? cadp_seqs(m, m->dlogits) : (cad_tensor){0}, .nll = cadp_seqs(m, m->nll),
                                                .labels = cadp_seqs(m, m->labels), .weights = cadp_seqs(m, m->weights), .scale = m->scale});
}

static cad_status head_backward(cad_model *m, cad_unit_view w, void *grads)
{
    int unit = tail_unit(m), weight = cadp_find(m, unit, CAD_ROLE_HEAD, CAD_PIECE_WEIGHT);
    cad_tensor dl = cadp_seqs(m, m->dlogits), df = cadp_seqs(m, m->dfeature);
    cad_tensor dw = cadp_grad(m, grads, weight), db = cadp_grad(m, grads, cadp_find(m, unit, CAD_ROLE_HEAD, CAD_PIECE_BIAS));

    if (cad_some(dw)) CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = dw, .a = dl, .ta = true, .b = cadp_seqs(m, m->head_in), .alpha = 1, .beta = m->add}));
    CAD_TRY(cadp_columns_backward(m, grads));
    if (cad_some(db)) CAD_TRY(cad_sum_rows(m->device, &(cad_sum_rows_args){.y = db, .x = dl, .accumulate = m->add}));
    CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = df, .a = dl, .b = cadp_weight(m, w, weight), .alpha = 1}));
    return drop_feature(m, df);
}

/* m->dfeature: from the gradient of tanh's value to that of the pooled token. */
static cad_status pooler_backward(cad_model *m, cad_unit_view w, void *grads)
{
    cad_tensor df = cadp_seqs(m, m->dfeature), cast = cadp_seqs(m, m->dfeature_cast), pre = cadp_seqs(m, m->pre);

    if (m->dfeature_cast.data != m->dfeature.data) CAD_TRY(cadp_copy(m, cast, df, 0));
    CAD_TRY(cad_glu_bwd(m->device, &(cad_glu_bwd_args){.dgate = pre, .dm = cast, .gate = pre, .act = CAD_ACT_TANH}));
    return cadp_linear_backward(m, cadp_pooler(m), w, grads, cadp_seqs(m, m->pooled), pre, df, u_pool(m));
}

static cad_status norm_backward(cad_model *m, cad_unit_view w, void *grads, cad_tensor dx, cad_tensor dy, cad_tensor x)
{
    return cadp_norm_backward(m, tail_unit(m), CAD_ROLE_FINAL_NORM, w, grads, dx, dy, x, cad_slice(m->rstd, 0, x.rows), (cad_tensor){0}, false);
}

/* What no value depends on has no gradient. */
static cad_status clear_idle(cad_model *m, void *grads)
{
    for (int i = 0; i < m->params->count; i++) {
        cad_tensor g = m->params->row[i].idle && !m->add ? cadp_grad(m, grads, i) : (cad_tensor){0};
        if (cad_some(g)) CAD_TRY(cad_device_zero(m->device, g.data, g.rows * g.cols * (int64_t)cad_dtype_bytes(g.dtype)));
    }
    return CAD_OK;
}

/* Writes dh, the gradient of the last block's output. */
cad_status cadp_tail_backward(cad_model *m, cad_unit_view w, void *grads)
{
    cad_tensor df = cadp_seqs(m, m->dfeature), picked = cadp_seqs(m, m->picked), dh = cadp_rows(m, m->dh), dx = cadp_rows(m, m->dx);
    cad_pooling how = pooling_of(m);

    if (m->method.causal) return cadp_lm_backward(m, w, grads);
    CAD_TRY(clear_idle(m, grads));
    CAD_TRY(head_backward(m, w, grads));
    if (has_pooler(m)) CAD_TRY(pooler_backward(m, w, grads));
    if (!has_norm(m)) return cad_pool_bwd(m->device, &(cad_pool_args){.y = df, .x = dh, .how = how, .packing = &m->packing});
    if (how == CAD_POOLING_MEAN) {
        CAD_TRY(cad_pool_bwd(m->device, &(cad_pool_args){.y = df, .x = dx, .how = CAD_POOLING_MEAN, .packing = &m->packing}));
        return norm_backward(m, w, grads, dh, dx, cadp_hidden(m, m->arch->layers));
    }
    CAD_TRY(norm_backward(m, w, grads, cadp_seqs(m, m->feature), df, picked)); /* feature is free by now */
    return cad_pool_bwd(m->device, &(cad_pool_args){.y = cadp_seqs(m, m->feature), .x = dh, .how = how, .packing = &m->packing});
}
