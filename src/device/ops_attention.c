#include "ops_priv.h"

cad_status cadp_describe_rope(cadp_call *c, const cad_rope_args *x)
{
    int64_t d = x->head_dim;

    CAD_TRY(cadp_need(c, d > 0 && d % 2 == 0, "an even head_dim", (double)d));
    CAD_TRY(cadp_need(c, x->x.cols % d == 0, "x of whole heads in its columns", (double)x->x.cols));
    CAD_TRY(cadp_packing(c, x->packing, 0));
    CAD_TRY(cadp_need(c, x->cosine.rows >= x->packing->longest, "a cosine for every position of the longest sequence", (double)x->cosine.rows));
    cadp_update(c, "x", x->x, CADP_REAL, x->packing->tokens, x->x.cols);
    cadp_read(c, "cosine", x->cosine, CADP_WIDE, x->cosine.rows, d / 2);
    cadp_read(c, "sine", x->sine, CADP_WIDE, x->cosine.rows, d / 2);
    return CAD_OK;
}

/* Pairs (query, key) that see each other in a sequence of n tokens. */
static double visible(double n, double window, bool causal)
{
    double rest = window > 0 && n > window ? n - window : 0, hidden = rest * (rest + 1) / 2;

    return (causal ? n * (n + 1) / 2 : n * n) - hidden;
}

static double visible_pairs(const cad_attention_args *x)
{
    const int32_t *starts = x->packing->starts;
    double pairs = 0;

    for (int32_t s = 0; s < x->packing->sequences; s++) pairs += visible(starts[s + 1] - starts[s], (double)x->window, x->causal);
    return pairs * (double)x->q_heads * (double)x->head_dim;
}

static cad_status check_heads(cadp_call *c, const cad_attention_args *x)
{
    CAD_TRY(cadp_need(c, x->head_dim > 0, "head_dim > 0", (double)x->head_dim));
    CAD_TRY(cadp_need(c, x->kv_heads > 0 && x->q_heads > 0 && x->q_heads % x->kv_heads == 0, "q_heads to be a multiple of kv_heads > 0", (double)x->q_heads));
    CAD_TRY(cadp_need(c, x->window >= 0, "window >= 0", (double)x->window));
    CAD_TRY(cadp_need(c, x->softcap >= 0, "softcap >= 0", x->softcap));
    CAD_TRY(cadp_need(c, x->dropout >= 0 && x->dropout < 1, "dropout in [0, 1)", x->dropout));
    CAD_TRY(cadp_packing(c, x->packing, 0));
    double words = (double)x->packing->tokens * (double)x->q_heads * (double)cad_ceil_div(x->packing->longest, 4);
    return cadp_need(c, x->dropout == 0 || (words < 0x1p32 && x->index < (uint64_t)1 << 31), "tokens * heads * ceil(longest / 4) < 2^32 and index < 2^31", words);
}

cad_status cadp_describe_attention_fwd(cadp_call *c, const cad_attention_args *x)
{
    unsigned same = cadp_as(x->q, CADP_REAL);

    CAD_TRY(check_heads(c, x));
    int64_t tokens = x->packing->tokens, wide = x->q_heads * x->head_dim, narrow = x->kv_heads * x->head_dim;
    cadp_read(c, "q", x->q, CADP_REAL, tokens, wide);
    cadp_read(c, "k", x->k, same, tokens, narrow);
    cadp_read(c, "v", x->v, same, tokens, narrow);
    cadp_write(c, "o", x->o, same, tokens, wide);
    cadp_write(c, "lse", x->lse, CADP_WIDE, tokens, x->q_heads);
    c->flops = 4 * visible_pairs(x);
    return CAD_OK;
}

cad_status cadp_describe_attention_bwd(cadp_call *c, const cad_attention_bwd_args *x)
{
    const cad_attention_args *f = &x->f;
    unsigned same = cadp_as(f->q, CADP_REAL);

    CAD_TRY(check_heads(c, f));
    int64_t tokens = f->packing->tokens, wide = f->q_heads * f->head_dim, narrow = f->kv_heads * f->head_dim;
    cadp_read(c, "q", f->q, CADP_REAL, tokens, wide);
    cadp_read(c, "k", f->k, same, tokens, narrow);
    cadp_read(c, "v", f->v, same, tokens, narrow);
    cadp_read(c, "o", f->o, same, tokens, wide);
    cadp_read(c, "lse", f->lse, CADP_WIDE, tokens, f->q_heads);
    cadp_read(c, "d_o", x->d_o, same, tokens, wide);
    cadp_write(c, "dq", x->dq, same, tokens, wide);
    cadp_write(c, "dk", x->dk, same, tokens, narrow);
    cadp_write(c, "dv", x->dv, same, tokens, narrow);
    c->flops = 10 * visible_pairs(f); /* the scores again, and four products of their size */
    return CAD_OK;
}

cad_status cadp_describe_attention_cached(cadp_call *c, const cad_attention_cached_args *x)
{
    unsigned same = cadp_as(x->q, CADP_REAL);
    int64_t wide = x->q_heads * x->head_dim, narrow = x->kv_heads * x->head_dim;

    CAD_TRY(cadp_need(c, x->head_dim > 0, "head_dim > 0", (double)x->head_dim));
    CAD_TRY(cadp_need(c, x->kv_heads > 0 && x->q_heads > 0 && x->q_heads % x->kv_heads == 0, "q_heads to be a multiple of kv_heads > 0", (double)x->q_heads));
    CAD_TRY(cadp_need(c, x->window >= 0 && x->chunk >= 0, "window and chunk >= 0", (double)cad_min(x->window, x->chunk)));
    CAD_TRY(cadp_need(c, x->softcap >= 0, "softcap >= 0", x->softcap));
    CAD_TRY(cadp_packing(c, x->packing, 0));
    cadp_read(c, "q", x->q, CADP_REAL, x->packing->tokens, wide);
    cadp_read(c, "k", x->k, same, x->k.rows, narrow);
    cadp_read(c, "v", x->v, same, x->k.rows, narrow);
    cadp_read(c, "place", x->place, CADP_I32, x->packing->sequences, 2);
    cadp_write(c, "o", x->o, same, x->packing->tokens, wide);
    return CAD_OK;
}
