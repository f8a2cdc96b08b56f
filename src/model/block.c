#include "model_priv.h"

static const cadp_linear *linear(const cad_model *m, int block, int which) { return &m->linear[block * CADP_LINEARS + which]; }

static cadp_slot *slot_of(cad_model *m, int block) { return &m->slot[m->slots == 1 ? 0 : block]; }

static cad_tensor u_of(const cad_model *m, const cadp_slot *s, int which) { return cad_some(s->u[which]) ? cadp_rows(m, s->u[which]) : s->u[which]; }

/* A half of a block: the linear layer that ends it, and the norms round it. */
typedef struct half { int block, last; cad_role norm, out_norm; cadp_edge *edge; uint32_t site; } half;

static half attention_half(int block, cadp_slot *s) { return (half){block, CADP_OUT, CAD_ROLE_ATTN_NORM, CAD_ROLE_ATTN_OUT_NORM, &s->attn, CADP_SITE_HIDDEN + 2 * (uint32_t)block}; }
static half mlp_half(int block, cadp_slot *s) { return (half){block, CADP_DOWN, CAD_ROLE_MLP_NORM, CAD_ROLE_MLP_OUT_NORM, &s->mlp, CADP_SITE_HIDDEN + 2 * (uint32_t)block + 1}; }

static cad_tensor stat(const cad_model *m, cad_tensor t) { return cad_some(t) ? cadp_rows(m, t) : t; }

static bool drops(const cad_model *m) { return m->training && m->arch->hidden_dropout > 0; }

static cad_status drop(cad_model *m, const half *h, cad_tensor y, cad_tensor x, bool accumulate)
{
    return cad_dropout(m->device, &(cad_dropout_args){.y = y, .x = x, .p = m->arch->hidden_dropout, .seed = m->method.seed, .index = m->seed_index, .site = h->site, .accumulate = accumulate});
}

/* What the half computes with: the normed residual stream in the compute dtype, or with norms behind the sum the stream itself. */
static cad_status enter(cad_model *m, const half *h, cad_unit_view w, cad_tensor x, cad_tensor *in)
{
    *in = cadp_rows(m, m->norm);
    if (m->arch->norm_place == CAD_NORM_AFTER) return cadp_copy(m, *in, x, 0);
    return cadp_norm_forward(m, h->block + 1, h->norm, w, *in, x, cadp_rows(m, h->edge->rstd), stat(m, h->edge->mean));
}

/* out = in + last(from), with the norms that stand behind the half. */
static cad_status leave(cad_model *m, const half *h, cad_unit_view w, cadp_slot *s, cad_tensor from, cad_tensor in, cad_tensor out)
{
    const cadp_linear *l = linear(m, h->block, h->last);
    cad_tensor kept = stat(m, h->edge->kept), u = u_of(m, s, h->last);

    if (m->arch->norm_place == CAD_NORM_BEFORE) {
        CAD_TRY(cadp_copy(m, out, in, 0));
        return cadp_linear_forward(m, l, w, from, out, 1, u);
    }
    if (m->arch->norm_place == CAD_NORM_AROUND) {
        CAD_TRY(cadp_linear_forward(m, l, w, from, kept, 0, u));
        return cadp_norm_onto(m, h->block + 1, h->out_norm, w, out, in, kept, cadp_rows(m, h->edge->rstd_out));
    }
    CAD_TRY(cadp_copy(m, kept, in, 0));
    if (drops(m)) {
        CAD_TRY(cadp_linear_forward(m, l, w, from, cadp_rows(m, m->dx), 0, u));
        CAD_TRY(drop(m, h, kept, cadp_rows(m, m->dx), true));
    } else
        CAD_TRY(cadp_linear_forward(m, l, w, from, kept, 1, u));
    return cadp_norm_forward(m, h->block + 1, h->norm, w, out, kept, cadp_rows(m, h->edge->rstd), stat(m, h->edge->mean));
}

/* From the gradient of the half's output in m->dh to that of its last layer's, in the compute dtype; m->dh becomes what goes past the half. */
static cad_status leave_back(cad_model *m, const half *h, cad_unit_view w, void *grads, cad_tensor *out)
{
    cad_tensor dh = cadp_rows(m, m->dh), kept = stat(m, h->edge->kept);

    if (m->arch->norm_place == CAD_NORM_AFTER)
        CAD_TRY(cadp_norm_backward(m, h->block + 1, h->norm, w, grads, dh, dh, kept, cadp_rows(m, h->edge->rstd), stat(m, h->edge->mean), false));
    *out = dh;
    if (!cad_some(m->dcast)) return CAD_OK;
    *out = cadp_rows(m, m->dcast);
    if (m->arch->norm_place == CAD_NORM_AROUND) return cadp_norm_backward(m, h->block + 1, h->out_norm, w, grads, *out, dh, kept, cadp_rows(m, h->edge->rstd_out), (cad_tensor){0}, false);
    return drops(m) ? drop(m, h, *out, dh, false) : cadp_copy(m, *out, dh, 0);
}

/* m->dh += the gradient in m->dx of what `enter` gave. */
static cad_status enter_back(cad_model *m, const half *h, cad_unit_view w, void *grads, cad_tensor x)
{
    cad_tensor dh = cadp_rows(m, m->dh), dx = cadp_rows(m, m->dx);

    if (m->arch->norm_place == CAD_NORM_AFTER) return cadp_copy(m, dh, dx, 1);
    return cadp_norm_backward(m, h->block + 1, h->norm, w, grads, dh, dx, x, cadp_rows(m, h->edge->rstd), stat(m, h->edge->mean), true);
}

static cad_status attention_forward(cad_model *m, int block, cad_unit_view w, cadp_slot *s, cad_tensor in)
{
    cad_attention_args x = cadp_attention(m, block, s);
    half h = attention_half(block, s);
    cad_tensor normed;

    CAD_TRY(enter(m, &h, w, in, &normed));
    CAD_TRY(cadp_linear_forward(m, linear(m, block, CADP_QKV), w, normed, cadp_rows(m, s->qkv), 0, u_of(m, s, CADP_QKV)));
    CAD_TRY(cadp_heads_forward(m, block, w, s));
    CAD_TRY(m->generating ? cadp_cache_attend(m, block, &x) : cad_attention_fwd(m->device, &x));
    return leave(m, &h, w, s, x.o, in, cadp_rows(m, s->mid));
}

/* ---- the MLP: gate and up (or up alone), activation, down; and experts beside it ---- */

typedef struct mlp { cad_tensor gate, up, inner, dinner; } mlp; /* up: none where there is no gate */

static mlp mlp_of(const cad_model *m, int block, const cadp_slot *s)
{
    int64_t n = linear(m, block, CADP_DOWN)->in;
    cad_tensor gu = cad_columns(cadp_rows(m, s->gu), 0, linear(m, block, CADP_GATE_UP)->out), none = {0};

    return (mlp){m->arch->gated ? cad_columns(gu, 0, n) : gu, m->arch->gated ? cad_columns(gu, n, n) : none, cad_columns(cadp_rows(m, m->m), 0, n), none};
}

static cad_tensor gate_up(const cad_model *m, int block, const cadp_slot *s) { return cad_columns(cadp_rows(m, s->gu), 0, linear(m, block, CADP_GATE_UP)->out); }

/* Up to what is kept for the backward. */
static cad_status mlp_up(cad_model *m, int block, cad_unit_view w, cadp_slot *s)
{
    half h = mlp_half(block, s);
    cad_tensor normed;

    CAD_TRY(enter(m, &h, w, cadp_rows(m, s->mid), &normed));
    CAD_TRY(cadp_linear_forward(m, linear(m, block, CADP_GATE_UP), w, normed, gate_up(m, block, s), 0, u_of(m, s, CADP_GATE_UP)));
    return m->arch->routed[block] ? cadp_experts_visit(m, block, w, &s->visits, normed) : CAD_OK;
}

static cad_status mlp_down(cad_model *m, int block, cad_unit_view w, cadp_slot *s, cad_tensor out)
{
    half h = mlp_half(block, s);
    mlp x = mlp_of(m, block, s);

    CAD_TRY(cad_glu_fwd(m->device, &(cad_glu_args){.m = x.inner, .gate = x.gate, .up = x.up, .act = m->arch->act}));
    CAD_TRY(leave(m, &h, w, s, x.inner, cadp_rows(m, s->mid), out));
    return m->arch->routed[block] ? cadp_experts_forward(m, block, w, &s->visits, out) : CAD_OK;
}

cad_status cadp_block_forward(cad_model *m, int block, cad_unit_view w)
{
    cadp_slot *s = slot_of(m, block);

    CAD_TRY(attention_forward(m, block, w, s, cadp_hidden(m, block)));
    CAD_TRY(mlp_up(m, block, w, s));
    CAD_TRY(mlp_down(m, block, w, s, cadp_hidden(m, block + 1)));
    return cadp_ahead_rest(m);
}

/* ---- back ---- */

static cad_status mlp_backward(cad_model *m, int block, cad_unit_view w, void *grads, cadp_slot *s)
{
    const cadp_linear *down = linear(m, block, CADP_DOWN);
    half h = mlp_half(block, s);
    mlp x = mlp_of(m, block, s);
    cad_tensor dm = cad_columns(cadp_rows(m, m->dm), 0, down->in), dy, mid = cadp_rows(m, s->mid), normed, dx = cadp_rows(m, m->dx);

    CAD_TRY(leave_back(m, &h, w, grads, &dy));
    CAD_TRY(cadp_linear_input_gradient(m, down, w, dy, dm));
    CAD_TRY(cad_glu_bwd(m->device, &(cad_glu_bwd_args){.dgate = x.gate, .dup = x.up, .dm = dm, .gate = x.gate, .up = x.up, .m = x.inner, .act = m->arch->act}));
    CAD_TRY(cadp_linear_weight_gradient(m, down, w, grads, x.inner, dy, u_of(m, s, CADP_DOWN)));
    CAD_TRY(enter(m, &h, w, mid, &normed));
    CAD_TRY(cadp_linear_backward(m, linear(m, block, CADP_GATE_UP), w, grads, normed, gate_up(m, block, s), dx, u_of(m, s, CADP_GATE_UP)));
    if (m->arch->routed[block]) CAD_TRY(cadp_experts_backward(m, block, w, grads, &s->visits, normed, dy, dx));
    return enter_back(m, &h, w, grads, mid);
}

/* Does anything below this block's attention need a gradient? Not under the first block when the embeddings are frozen: then only adapters do. */
static bool gradient_goes_on(const cad_model *m, int block)
{
    int norm = cadp_find(m, 1, CAD_ROLE_ATTN_NORM, CAD_PIECE_WEIGHT);

    return block > 0 || m->margin || m->params->train_elems[0] > 0 || (m->arch->norm_place != CAD_NORM_AFTER && m->params->row[norm].trains);
}

static cad_status attention_backward(cad_model *m, int block, cad_unit_view w, void *grads, cadp_slot *s)
{
    cad_attention_bwd_args x = {.f = cadp_attention(m, block, s), .d_o = cadp_rows(m, m->d_o)};
    half h = attention_half(block, s);
    cad_tensor dqkv = cadp_rows(m, m->dqkv), dy, in = cadp_hidden(m, block), normed;
    bool on = gradient_goes_on(m, block);

    cadp_split_qkv(m, dqkv, &x.dq, &x.dk, &x.dv);
    if (m->method.recompute == CAD_RECOMPUTE_ATTENTION) CAD_TRY(cad_attention_fwd(m->device, &x.f));
    CAD_TRY(leave_back(m, &h, w, grads, &dy));
    CAD_TRY(cadp_linear_backward(m, linear(m, block, CADP_OUT), w, grads, x.f.o, dy, x.d_o, u_of(m, s, CADP_OUT)));
    CAD_TRY(cad_attention_bwd(m->device, &x));
    CAD_TRY(cadp_heads_backward(m, block, w, grads, s, dqkv));
    CAD_TRY(enter(m, &h, w, in, &normed));
    CAD_TRY(cadp_linear_backward(m, linear(m, block, CADP_QKV), w, grads, normed, dqkv, on ? cadp_rows(m, m->dx) : (cad_tensor){0}, u_of(m, s, CADP_QKV)));
    return on ? enter_back(m, &h, w, grads, in) : CAD_OK;
}

cad_status cadp_block_backward(cad_model *m, int block, cad_unit_view w, void *grads)
{
    cadp_slot *s = slot_of(m, block);

    if (m->method.recompute == CAD_RECOMPUTE_BLOCKS) { /* what was not kept; the output, which is the same again, only where something of the last product is kept */
        CAD_TRY(attention_forward(m, block, w, s, cadp_hidden(m, block)));
        CAD_TRY(mlp_up(m, block, w, s));
        if (cad_some(s->u[CADP_DOWN]) || m->arch->norm_place != CAD_NORM_BEFORE) CAD_TRY(mlp_down(m, block, w, s, cadp_hidden(m, block + 1)));
    }
    CAD_TRY(mlp_backward(m, block, w, grads, s));
    CAD_TRY(attention_backward(m, block, w, grads, s));
    return cadp_ahead_rest(m);
}
