#include "model_priv.h"

static const cadp_linear *linear(const cad_model *m, int block, int which) { return &m->linear[block * CADP_LINEARS + which]; }

static cadp_slot *slot_of(cad_model *m, int block) { return &m->slot[m->slots == 1 ? 0 : block]; }

static cad_tensor u_of(const cad_model *m, const cadp_slot *s, int which) { return cad_some(s->u[which]) ? cadp_rows(m, s->u[which]) : s->u[which]; }

static cad_status rms(cad_model *m, int block, cad_role role, cad_unit_view w, cad_tensor x, cad_tensor rstd)
{
    return cad_rmsnorm_fwd(m->device, &(cad_rmsnorm_args){.y = cadp_rows(m, m->norm), .x = x, .rstd = rstd, .eps = m->arch->eps, .plus_one = m->arch->gain_plus_one,
                                                          .w = cadp_weight(m, w, cadp_find(m, block + 1, role, CAD_PIECE_WEIGHT))});
}

static cad_status rms_back(cad_model *m, int block, cad_role role, cad_unit_view w, void *grads, cad_tensor x, cad_tensor rstd)
{
    int row = cadp_find(m, block + 1, role, CAD_PIECE_WEIGHT);

    return cad_rmsnorm_bwd(m->device, &(cad_rmsnorm_bwd_args){.dx = cadp_rows(m, m->dh), .dw = cadp_grad(m, grads, row), .dy = cadp_rows(m, m->dx), .x = x, .w = cadp_weight(m, w, row),
                                                              .rstd = rstd, .plus_one = m->arch->gain_plus_one, .accumulate = true});
}

/* The columns of the q|k|v buffer. */
static void split_qkv(const cad_model *m, cad_tensor all, cad_tensor *q, cad_tensor *k, cad_tensor *v)
{
    int64_t nq = m->arch->q_heads * m->arch->head_dim, nkv = m->arch->kv_heads * m->arch->head_dim;

    *q = cad_columns(all, 0, nq);
    *k = cad_columns(all, nq, nkv);
    *v = cad_columns(all, nq + nkv, nkv);
}

static cad_status rotate(cad_model *m, cad_tensor x, bool inverse)
{
    return cad_rope(m->device, &(cad_rope_args){.x = x, .cosine = m->cosine, .sine = m->sine, .head_dim = m->arch->head_dim, .inverse = inverse, .pairs = m->arch->rotate_pairs, .packing = &m->packing});
}

static cad_attention_args attention(const cad_model *m, int block, const cadp_slot *s)
{
    const cad_arch *a = m->arch;
    cad_attention_args x = {.o = cadp_rows(m, s->o), .lse = cadp_rows(m, s->lse), .head_dim = a->head_dim, .q_heads = a->q_heads, .kv_heads = a->kv_heads,
                            .window = a->window[block], .scale = a->attn_scale, .softcap = a->attn_softcap, .causal = true, .packing = &m->packing};

    split_qkv(m, cadp_rows(m, s->qkv), &x.q, &x.k, &x.v);
    return x;
}

static cad_status attention_forward(cad_model *m, int block, cad_unit_view w, cadp_slot *s, cad_tensor in)
{
    cad_attention_args x = attention(m, block, s);
    cad_tensor both = cad_columns(cadp_rows(m, s->qkv), 0, (m->arch->q_heads + m->arch->kv_heads) * m->arch->head_dim), mid = cadp_rows(m, s->mid);

    CAD_TRY(rms(m, block, CAD_ROLE_ATTN_NORM, w, in, cadp_rows(m, s->rstd1)));
    CAD_TRY(cadp_linear_forward(m, linear(m, block, CADP_QKV), w, cadp_rows(m, m->norm), cadp_rows(m, s->qkv), 0, u_of(m, s, CADP_QKV)));
    CAD_TRY(rotate(m, both, false));
    CAD_TRY(cad_attention_fwd(m->device, &x));
    CAD_TRY(cad_axpby(m->device, &(cad_axpby_args){.y = mid, .x = in, .alpha = 1}));
    return cadp_linear_forward(m, linear(m, block, CADP_OUT), w, x.o, mid, 1, u_of(m, s, CADP_OUT));
}

static cad_status mlp_forward(cad_model *m, int block, cad_unit_view w, cadp_slot *s, cad_tensor out)
{
    cad_tensor gu = cadp_rows(m, s->gu), mid = cadp_rows(m, s->mid), act = cadp_rows(m, m->m);
    int64_t n = m->arch->intermediate;

    CAD_TRY(rms(m, block, CAD_ROLE_MLP_NORM, w, mid, cadp_rows(m, s->rstd2)));
    CAD_TRY(cadp_linear_forward(m, linear(m, block, CADP_GATE_UP), w, cadp_rows(m, m->norm), gu, 0, u_of(m, s, CADP_GATE_UP)));
    CAD_TRY(cad_glu_fwd(m->device, &(cad_glu_args){.m = act, .gate = cad_columns(gu, 0, n), .up = cad_columns(gu, n, n), .act = m->arch->act}));
    CAD_TRY(cad_axpby(m->device, &(cad_axpby_args){.y = out, .x = mid, .alpha = 1}));
    return cadp_linear_forward(m, linear(m, block, CADP_DOWN), w, act, out, 1, u_of(m, s, CADP_DOWN));
}

cad_status cadp_block_forward(cad_model *m, int block, cad_unit_view w)
{
    cadp_slot *s = slot_of(m, block);

    CAD_TRY(attention_forward(m, block, w, s, cadp_hidden(m, block)));
    return mlp_forward(m, block, w, s, cadp_hidden(m, block + 1));
}

/* dh in the compute dtype, as products take it. */
static cad_status cast_gradient(cad_model *m, cad_tensor *out)
{
    cad_tensor dh = cadp_rows(m, m->dh);

    *out = dh;
    if (m->act == m->real) return CAD_OK;
    *out = cadp_rows(m, m->dcast);
    return cad_axpby(m->device, &(cad_axpby_args){.y = *out, .x = dh, .alpha = 1});
}

static cad_status mlp_backward(cad_model *m, int block, cad_unit_view w, void *grads, cadp_slot *s)
{
    cad_tensor gu = cadp_rows(m, s->gu), gate, up, act = cadp_rows(m, m->m), dm = cadp_rows(m, m->dm), dy, mid = cadp_rows(m, s->mid);
    const cadp_linear *down = linear(m, block, CADP_DOWN);
    int64_t n = m->arch->intermediate;

    gate = cad_columns(gu, 0, n);
    up = cad_columns(gu, n, n);
    CAD_TRY(cast_gradient(m, &dy));
    CAD_TRY(cadp_linear_input_gradient(m, down, w, dy, dm));
    CAD_TRY(cad_glu_bwd(m->device, &(cad_glu_bwd_args){.dgate = gate, .dup = up, .dm = dm, .gate = gate, .up = up, .m = act, .act = m->arch->act}));
    CAD_TRY(cadp_linear_weight_gradient(m, down, grads, act, dy, u_of(m, s, CADP_DOWN)));
    CAD_TRY(rms(m, block, CAD_ROLE_MLP_NORM, w, mid, cadp_rows(m, s->rstd2)));
    CAD_TRY(cadp_linear_backward(m, linear(m, block, CADP_GATE_UP), w, grads, cadp_rows(m, m->norm), gu, cadp_rows(m, m->dx), u_of(m, s, CADP_GATE_UP)));
    return rms_back(m, block, CAD_ROLE_MLP_NORM, w, grads, mid, cadp_rows(m, s->rstd2));
}

/* Does anything below this block's attention need a gradient? Not under the first block when the embeddings are frozen: then only adapters do. */
static bool gradient_goes_on(const cad_model *m, int block)
{
    return block > 0 || m->params->train_elems[0] > 0 || cadp_find(m, 1, CAD_ROLE_ATTN_NORM, CAD_PIECE_WEIGHT) < 0 ||
           m->params->row[cadp_find(m, 1, CAD_ROLE_ATTN_NORM, CAD_PIECE_WEIGHT)].trains;
}

static cad_status attention_backward(cad_model *m, int block, cad_unit_view w, void *grads, cadp_slot *s)
{
    cad_attention_bwd_args x = {.f = attention(m, block, s), .d_o = cadp_rows(m, m->d_o)};
    cad_tensor dqkv = cadp_rows(m, m->dqkv), dy, in = cadp_hidden(m, block);
    bool on = gradient_goes_on(m, block);

    split_qkv(m, dqkv, &x.dq, &x.dk, &x.dv);
    if (m->method.recompute == CAD_RECOMPUTE_ATTENTION) CAD_TRY(cad_attention_fwd(m->device, &x.f));
    CAD_TRY(cast_gradient(m, &dy));
    CAD_TRY(cadp_linear_backward(m, linear(m, block, CADP_OUT), w, grads, x.f.o, dy, x.d_o, u_of(m, s, CADP_OUT)));
    CAD_TRY(cad_attention_bwd(m->device, &x));
    CAD_TRY(rotate(m, cad_columns(dqkv, 0, (m->arch->q_heads + m->arch->kv_heads) * m->arch->head_dim), true));
    CAD_TRY(rms(m, block, CAD_ROLE_ATTN_NORM, w, in, cadp_rows(m, s->rstd1)));
    CAD_TRY(cadp_linear_backward(m, linear(m, block, CADP_QKV), w, grads, cadp_rows(m, m->norm), dqkv, on ? cadp_rows(m, m->dx) : (cad_tensor){0}, u_of(m, s, CADP_QKV)));
    return on ? rms_back(m, block, CAD_ROLE_ATTN_NORM, w, grads, in, cadp_rows(m, s->rstd1)) : CAD_OK;
}

cad_status cadp_block_backward(cad_model *m, int block, cad_unit_view w, void *grads)
{
    cadp_slot *s = slot_of(m, block);

    if (m->method.recompute == CAD_RECOMPUTE_BLOCKS) { /* recompute what was not kept; the block's output is not needed again */
        CAD_TRY(attention_forward(m, block, w, s, cadp_hidden(m, block)));
        cad_tensor gu = cadp_rows(m, s->gu);
        CAD_TRY(rms(m, block, CAD_ROLE_MLP_NORM, w, cadp_rows(m, s->mid), cadp_rows(m, s->rstd2)));
        CAD_TRY(cadp_linear_forward(m, linear(m, block, CADP_GATE_UP), w, cadp_rows(m, m->norm), gu, 0, u_of(m, s, CADP_GATE_UP)));
        if (cad_some(s->u[CADP_DOWN])) { /* the adapter's inner values of the last product */
            CAD_TRY(cad_glu_fwd(m->device, &(cad_glu_args){.m = cadp_rows(m, m->m), .gate = cad_columns(gu, 0, m->arch->intermediate), .up = cad_columns(gu, m->arch->intermediate, m->arch->intermediate), .act = m->arch->act}));
            CAD_TRY(cadp_linear_forward(m, linear(m, block, CADP_DOWN), w, cadp_rows(m, m->m), cadp_rows(m, m->dx), 0, u_of(m, s, CADP_DOWN)));
        }
    }
    CAD_TRY(mlp_backward(m, block, w, grads, s));
    return attention_backward(m, block, w, grads, s);
}
