/* Query and key on their way to attention: norm of each head, rotation, temperature. */
#include "model_priv.h"

static int64_t both_width(const cad_model *m) { return (m->arch->q_heads + m->arch->kv_heads) * m->arch->head_dim; }
static int64_t q_width(const cad_model *m) { return m->arch->q_heads * m->arch->head_dim; }
static int64_t k_width(const cad_model *m) { return m->arch->kv_heads * m->arch->head_dim; }

/* Whether heads of this block are normed: after the rotation only where there is one. */
static bool norms_heads(const cad_arch *a, int block) { return a->head_norm == CAD_HEAD_NORM_BEFORE || (a->head_norm == CAD_HEAD_NORM_AFTER && a->rope_of[block] >= 0); }

void cadp_split_qkv(const cad_model *m, cad_tensor all, cad_tensor *q, cad_tensor *k, cad_tensor *v)
{
    *q = cad_columns(all, 0, q_width(m));
    *k = cad_columns(all, q_width(m), k_width(m));
    *v = cad_columns(all, both_width(m), k_width(m));
}

cad_attention_args cadp_attention(const cad_model *m, int block, const cadp_slot *s)
{
    const cad_arch *a = m->arch;
    cad_attention_args x = {.o = cadp_rows(m, s->o), .lse = cadp_rows(m, s->lse), .head_dim = a->head_dim, .q_heads = a->q_heads, .kv_heads = a->kv_heads,
                            .window = a->window[block], .scale = a->attn_scale, .softcap = a->attn_softcap, .causal = a->causal, .packing = a->chunked[block] ? &m->chunks : &m->packing,
                            .dropout = m->training ? a->attn_dropout : 0, .seed = m->method.seed, .index = m->seed_index, .site = CADP_SITE_ATTENTION + (uint32_t)block};

    cadp_split_qkv(m, cadp_rows(m, s->qkv), &x.q, &x.k, &x.v);
    if (!norms_heads(a, block)) return x;
    x.q = cad_columns(cadp_rows(m, s->qk), 0, q_width(m));
    x.k = cad_columns(cadp_rows(m, s->qk), q_width(m), k_width(m));
    return x;
}

static cad_status turn(cad_model *m, cad_tensor x, int table, bool inverse)
{
    cad_rope_args r = {.x = x, .cosine = m->cosine[table], .sine = m->sine[table], .head_dim = m->arch->head_dim, .inverse = inverse, .pairs = m->arch->rotate_pairs, .packing = &m->packing};

    if (m->generating) {
        r.cosine = cadp_rows(m, m->spot_cosine[table]);
        r.sine = cadp_rows(m, m->spot_sine[table]);
        r.packing = &m->line;
    }
    return cad_rope(m->device, &r);
}

/* Rotation by position, or where there is none the queries' temperature: a rotation by no angle that makes them longer. */
static cad_status place(cad_model *m, int block, cad_tensor both, bool inverse)
{
    const cad_arch *a = m->arch;

    if (a->rope_of[block] >= 0) return turn(m, both, a->rope_of[block], inverse);
    return a->temperature > 0 ? turn(m, cad_columns(both, 0, q_width(m)), CADP_TEMPERATURE, inverse) : CAD_OK;
}

/* One norm for each head of `width` columns from `from` on; rstd has a column for each. */
typedef struct range { cad_role role; int64_t from, width, heads; } range;

static int ranges_of(const cad_model *m, range out[2])
{
    const cad_arch *a = m->arch;

    if (a->head_norm == CAD_HEAD_NORM_AFTER) {
        out[0] = (range){CAD_ROLES, 0, both_width(m), 0};
        return 1;
    }
    out[0] = (range){CAD_ROLE_Q_NORM, 0, q_width(m), 0};
    out[1] = (range){CAD_ROLE_K_NORM, q_width(m), k_width(m), a->q_heads};
    return 2;
}

static int row_of(const cad_model *m, int block, const range *r) { return r->role == CAD_ROLES ? -1 : cadp_find(m, block + 1, r->role, CAD_PIECE_WEIGHT); }

static cad_status norm_heads(cad_model *m, int block, cad_unit_view w, cadp_slot *s)
{
    cad_tensor raw = cadp_rows(m, s->qkv), normed = cadp_rows(m, s->qk), rstd = cadp_rows(m, s->rstd_qk);
    int64_t d = m->arch->head_dim;
    range r[2];
    int n = ranges_of(m, r);

    for (int i = 0; i < n; i++)
        CAD_TRY(cad_rmsnorm_fwd(m->device, &(cad_rmsnorm_args){.y = cad_columns(normed, r[i].from, r[i].width), .x = cad_columns(raw, r[i].from, r[i].width), .w = cadp_weight(m, w, row_of(m, block, &r[i])),
                                                               .rstd = cad_columns(rstd, r[i].heads, r[i].width / d), .eps = m->arch->eps, .plus_one = m->arch->gain_plus_one, .width = d}));
    return CAD_OK;
}

static cad_status norm_heads_back(cad_model *m, int block, cad_unit_view w, void *grads, cadp_slot *s, cad_tensor dqkv)
{
    cad_tensor raw = cadp_rows(m, s->qkv), rstd = cadp_rows(m, s->rstd_qk);
    int64_t d = m->arch->head_dim;
    range r[2];
    int n = ranges_of(m, r);

    for (int i = 0; i < n; i++) {
        cad_tensor dx = cad_columns(dqkv, r[i].from, r[i].width);
        int row = row_of(m, block, &r[i]);
        CAD_TRY(cad_rmsnorm_bwd(m->device, &(cad_rmsnorm_bwd_args){.dx = dx, .dy = dx, .dw = cadp_grad(m, grads, row), .x = cad_columns(raw, r[i].from, r[i].width), .w = cadp_weight(m, w, row),
                                                                   .rstd = cad_columns(rstd, r[i].heads, r[i].width / d), .plus_one = m->arch->gain_plus_one, .width = d, .accumulate_dw = m->add}));
    }
    return CAD_OK;
}

cad_status cadp_heads_forward(cad_model *m, int block, cad_unit_view w, cadp_slot *s)
{
    const cad_arch *a = m->arch;
    cad_tensor raw = cad_columns(cadp_rows(m, s->qkv), 0, both_width(m));

    if (!norms_heads(a, block)) return place(m, block, raw, false);
    if (a->head_norm == CAD_HEAD_NORM_AFTER) CAD_TRY(place(m, block, raw, false));
    CAD_TRY(norm_heads(m, block, w, s));
    return a->head_norm == CAD_HEAD_NORM_BEFORE ? place(m, block, cadp_rows(m, s->qk), false) : CAD_OK;
}

cad_status cadp_heads_backward(cad_model *m, int block, cad_unit_view w, void *grads, cadp_slot *s, cad_tensor dqkv)
{
    const cad_arch *a = m->arch;
    cad_tensor both = cad_columns(dqkv, 0, both_width(m));

    if (!norms_heads(a, block)) return place(m, block, both, true);
    if (a->head_norm == CAD_HEAD_NORM_BEFORE) CAD_TRY(place(m, block, both, true));
    CAD_TRY(norm_heads_back(m, block, w, grads, s, dqkv));
    return a->head_norm == CAD_HEAD_NORM_AFTER ? place(m, block, both, true) : CAD_OK;
}
