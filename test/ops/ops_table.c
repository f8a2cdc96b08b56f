#include "ops_coded.h"

#include <stdio.h>

static void in(ops_sheet *s, const char *name, cad_dtype dtype, int64_t rows, int64_t cols)
{
    ops_add(s, (ops_slot){.name = name, .dtype = dtype, .rows = rows, .cols = cols, .use = OPS_IN});
}

static void in_as(ops_sheet *s, const char *name, cad_dtype dtype, int64_t rows, int64_t cols, ops_fill fill)
{
    ops_add(s, (ops_slot){.name = name, .dtype = dtype, .rows = rows, .cols = cols, .use = OPS_IN, .fill = fill});
}

static void out(ops_sheet *s, const char *name, cad_dtype dtype, int64_t rows, int64_t cols, bool update)
{
    ops_add(s, (ops_slot){.name = name, .dtype = dtype, .rows = rows, .cols = cols, .use = update ? OPS_INOUT : OPS_OUT});
}

/* What the bf16 path keeps in fp32. */
static cad_dtype wide(void) { return CAD_F32; }

/* ---- matmul ---- */

static void operand(ops_sheet *s, const char *name, cad_dtype dtype, bool turned, int64_t rows, int64_t cols)
{
    in(s, name, dtype, turned ? cols : rows, turned ? rows : cols);
}

static void fill_matmul(const ops_case *c, ops_sheet *s)
{
    out(s, "c", c->out, c->m, c->n, c->beta != 0);
    operand(s, "a", c->in, c->flags & TA, c->m, c->k);
    operand(s, "b", c->in, c->flags & TB, c->k, c->n);
    if (c->k2) operand(s, "a2", c->in, c->flags & TA2, c->m, c->k2);
    if (c->k2) operand(s, "b2", c->in, c->flags & TB2, c->k2, c->n);
    if (c->flags & BIAS) in(s, "bias", c->in, 1, c->n);
}

static cad_status call_matmul(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_matmul(d, &(cad_matmul_args){.c = ops_t(s, "c"), .a = ops_t(s, "a"), .b = ops_t(s, "b"), .ta = c->flags & TA, .tb = c->flags & TB,
                                            .alpha = c->alpha, .beta = c->beta, .a2 = ops_t(s, "a2"), .b2 = ops_t(s, "b2"), .ta2 = c->flags & TA2,
                                            .tb2 = c->flags & TB2, .alpha2 = c->alpha2, .bias = ops_t(s, "bias")});
}

static const ops_op matmul = {"matmul", fill_matmul, call_matmul, NULL, false};

/* ---- rmsnorm ---- */

/* kind: width; BIAS: no gain; ADD: onto a residual stream, TWIN: in its memory. */
static int64_t width_of(const ops_case *c) { return c->kind ? c->kind : c->n; }

static void fill_rmsnorm(const ops_case *c, ops_sheet *s)
{
    in(s, "x", c->in, c->m, c->n);
    if (!(c->flags & BIAS)) in(s, "w", c->out, 1, width_of(c));
    if (c->flags & (ADD | TWIN)) in(s, "plus", c->out, c->m, c->n);
    if (c->flags & TWIN) ops_add(s, (ops_slot){.name = "y", .dtype = c->out, .rows = c->m, .cols = c->n, .use = OPS_OUT, .twin = s->n});
    else out(s, "y", c->out, c->m, c->n, false);
    out(s, "rstd", wide(), c->m, c->n / width_of(c), false);
}

static cad_status call_rmsnorm(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_rmsnorm_fwd(d, &(cad_rmsnorm_args){.y = ops_t(s, "y"), .x = ops_t(s, "x"), .w = ops_t(s, "w"), .rstd = ops_t(s, "rstd"), .eps = 1e-5,
                                                  .plus_one = c->flags & PLUS1, .width = c->kind, .plus = ops_t(s, "plus")});
}

static const ops_op rmsnorm_fwd = {"rmsnorm_fwd", fill_rmsnorm, call_rmsnorm, NULL, false};

/* The gradient in the memory of the one that comes in, or in memory of its own. */
static void fill_dx(const ops_case *c, ops_sheet *s)
{
    in(s, "dy", c->out, c->m, c->n);
    if (c->flags & TWIN)
        ops_add(s, (ops_slot){.name = "dx", .dtype = c->out, .rows = c->m, .cols = c->n, .use = OPS_OUT, .twin = s->n});
    else
        out(s, "dx", wide(), c->m, c->n, c->flags & ADD);
}

static void fill_rmsnorm_bwd(const ops_case *c, ops_sheet *s)
{
    in(s, "x", c->in, c->m, c->n);
    if (!(c->flags & BIAS)) in(s, "w", c->out, 1, width_of(c));
    in_as(s, "y", c->out, c->m, c->n, OPS_MADE);
    in_as(s, "rstd", wide(), c->m, c->n / width_of(c), OPS_MADE);
    fill_dx(c, s);
    if (!(c->flags & MORE)) out(s, "dw", wide(), 1, width_of(c), c->flags & ADDW);
}

static cad_status call_rmsnorm_bwd(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_rmsnorm_bwd(d, &(cad_rmsnorm_bwd_args){.dx = ops_t(s, "dx"), .dw = ops_t(s, "dw"), .dy = ops_t(s, "dy"), .x = ops_t(s, "x"),
                                                      .w = ops_t(s, "w"), .rstd = ops_t(s, "rstd"), .plus_one = c->flags & PLUS1,
                                                      .accumulate = c->flags & ADD, .accumulate_dw = c->flags & ADDW, .width = c->kind});
}

static const ops_op rmsnorm_bwd = {"rmsnorm_bwd", fill_rmsnorm_bwd, call_rmsnorm_bwd, call_rmsnorm, false};

/* ---- layernorm ---- */

static void fill_layernorm(const ops_case *c, ops_sheet *s)
{
    in(s, "x", c->in, c->m, c->n);
    in(s, "w", c->out, 1, c->n);
    in(s, "b", c->out, 1, c->n);
    out(s, "y", c->out, c->m, c->n, false);
    out(s, "mean", wide(), c->m, 1, false);
    out(s, "rstd", wide(), c->m, 1, false);
}

static cad_status call_layernorm(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    (void)c;
    return cad_layernorm_fwd(d, &(cad_layernorm_args){.y = ops_t(s, "y"), .x = ops_t(s, "x"), .w = ops_t(s, "w"), .b = ops_t(s, "b"), .mean = ops_t(s, "mean"), .rstd = ops_t(s, "rstd"), .eps = 1e-5});
}

static const ops_op layernorm_fwd = {"layernorm_fwd", fill_layernorm, call_layernorm, NULL, false};

static void fill_layernorm_bwd(const ops_case *c, ops_sheet *s)
{
    in(s, "x", c->in, c->m, c->n);
    in(s, "w", c->out, 1, c->n);
    in(s, "b", c->out, 1, c->n);
    in_as(s, "y", c->out, c->m, c->n, OPS_MADE);
    in_as(s, "mean", wide(), c->m, 1, OPS_MADE);
    in_as(s, "rstd", wide(), c->m, 1, OPS_MADE);
    fill_dx(c, s);
    if (!(c->flags & MORE)) out(s, "dw", wide(), 1, c->n, c->flags & ADDW);
    if (!(c->flags & MORE)) out(s, "db", wide(), 1, c->n, c->flags & ADDW);
}

static cad_status call_layernorm_bwd(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_layernorm_bwd(d, &(cad_layernorm_bwd_args){.dx = ops_t(s, "dx"), .dw = ops_t(s, "dw"), .db = ops_t(s, "db"), .dy = ops_t(s, "dy"), .x = ops_t(s, "x"), .w = ops_t(s, "w"),
                                                          .mean = ops_t(s, "mean"), .rstd = ops_t(s, "rstd"), .accumulate_dw = c->flags & ADDW});
}

static const ops_op layernorm_bwd = {"layernorm_bwd", fill_layernorm_bwd, call_layernorm_bwd, call_layernorm, false};

/* ---- rope ---- */

static cad_status rotate(cad_device *d, const ops_case *c, const ops_sheet *s, cad_tensor x, bool inverse)
{
    return cad_rope(d, &(cad_rope_args){.x = x, .cosine = ops_t(s, "cosine"), .sine = ops_t(s, "sine"), .head_dim = c->head, .inverse = inverse,
                                        .pairs = c->flags & PAIRS, .packing = &s->packing});
}

static void fill_angles(const ops_case *c, ops_sheet *s)
{
    in_as(s, "cosine", wide(), s->packing.longest + 5, c->head / 2, OPS_COSINE);
    in_as(s, "sine", wide(), s->packing.longest + 5, c->head / 2, OPS_SINE);
}

static void fill_rope(const ops_case *c, ops_sheet *s)
{
    out(s, "x", c->in, s->packing.tokens, c->head * c->heads, true);
    fill_angles(c, s);
}

static cad_status call_rope(cad_device *d, const ops_case *c, const ops_sheet *s) { return rotate(d, c, s, ops_t(s, "x"), c->flags & INVERSE); }

static const ops_op rope = {"rope", fill_rope, call_rope, NULL, false};

static void fill_rope_bwd(const ops_case *c, ops_sheet *s)
{
    in(s, "x", c->in, s->packing.tokens, c->head * c->heads);
    in_as(s, "y", c->in, s->packing.tokens, c->head * c->heads, OPS_MADE);
    in(s, "dy", c->in, s->packing.tokens, c->head * c->heads);
    out(s, "dx", c->in, s->packing.tokens, c->head * c->heads, false);
    fill_angles(c, s);
}

static cad_status forward_rope(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    CAD_TRY(cad_axpby(d, &(cad_axpby_args){.y = ops_t(s, "y"), .x = ops_t(s, "x"), .alpha = 1}));
    return rotate(d, c, s, ops_t(s, "y"), false);
}

static cad_status call_rope_bwd(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    CAD_TRY(cad_axpby(d, &(cad_axpby_args){.y = ops_t(s, "dx"), .x = ops_t(s, "dy"), .alpha = 1}));
    return rotate(d, c, s, ops_t(s, "dx"), true);
}

static const ops_op rope_bwd = {"rope backwards", fill_rope_bwd, call_rope_bwd, forward_rope, false};

/* ---- attention ---- */

static void fill_heads(const ops_case *c, ops_sheet *s)
{
    in(s, "q", c->in, s->packing.tokens, c->heads * c->head);
    in(s, "k", c->in, s->packing.tokens, c->kv * c->head);
    in(s, "v", c->in, s->packing.tokens, c->kv * c->head);
}

static void fill_attention(const ops_case *c, ops_sheet *s)
{
    fill_heads(c, s);
    out(s, "y", c->in, s->packing.tokens, c->heads * c->head, false);
    out(s, "lse", wide(), s->packing.tokens, c->heads, false);
}

static cad_attention_args attention_of(const ops_case *c, const ops_sheet *s)
{
    return (cad_attention_args){.q = ops_t(s, "q"), .k = ops_t(s, "k"), .v = ops_t(s, "v"), .o = ops_t(s, "y"), .lse = ops_t(s, "lse"), .head_dim = c->head,
                                .q_heads = c->heads, .kv_heads = c->kv, .window = c->window, .scale = c->alpha, .softcap = c->softcap,
                                .causal = c->flags & CAUSAL, .packing = &s->packing, .dropout = c->alpha2, .seed = 42, .index = (1u << 31) - 1, .site = 7};
}

static cad_status call_attention(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    cad_attention_args x = attention_of(c, s);

    return cad_attention_fwd(d, &x);
}

static const ops_op attention_fwd = {"attention_fwd", fill_attention, call_attention, NULL, true};

static void fill_attention_bwd(const ops_case *c, ops_sheet *s)
{
    fill_heads(c, s);
    in_as(s, "y", c->in, s->packing.tokens, c->heads * c->head, OPS_MADE);
    in_as(s, "lse", wide(), s->packing.tokens, c->heads, OPS_MADE);
    in(s, "dy", c->in, s->packing.tokens, c->heads * c->head);
    out(s, "dq", c->in, s->packing.tokens, c->heads * c->head, false);
    out(s, "dk", c->in, s->packing.tokens, c->kv * c->head, false);
    out(s, "dv", c->in, s->packing.tokens, c->kv * c->head, false);
}

static cad_status call_attention_bwd(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_attention_bwd(d, &(cad_attention_bwd_args){.f = attention_of(c, s), .dq = ops_t(s, "dq"), .dk = ops_t(s, "dk"), .dv = ops_t(s, "dv"),
                                                          .d_o = ops_t(s, "dy")});
}

static const ops_op attention_bwd = {"attention_bwd", fill_attention_bwd, call_attention_bwd, call_attention, true};

/* ---- glu ---- */

static void fill_glu(const ops_case *c, ops_sheet *s)
{
    in(s, "gate", c->in, c->m, c->n);
    if (!(c->flags & BIAS)) in(s, "up", c->in, c->m, c->n); /* BIAS: activation alone */
    out(s, "y", c->in, c->m, c->n, false);
}

static cad_status call_glu(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_glu_fwd(d, &(cad_glu_args){.m = ops_t(s, "y"), .gate = ops_t(s, "gate"), .up = ops_t(s, "up"), .act = (cad_activation)c->kind});
}

static const ops_op glu_fwd = {"glu_fwd", fill_glu, call_glu, NULL, false};

static void fill_glu_bwd(const ops_case *c, ops_sheet *s)
{
    bool twin = c->flags & TWIN;

    in(s, "gate", c->in, c->m, c->n);
    if (!(c->flags & BIAS)) in(s, "up", c->in, c->m, c->n);
    in_as(s, "y", c->in, c->m, c->n, OPS_MADE);
    in(s, "dy", c->in, c->m, c->n);
    ops_add(s, (ops_slot){.name = "dgate", .dtype = c->in, .rows = c->m, .cols = c->n, .use = OPS_OUT, .twin = twin ? 1 : 0});
    if (!(c->flags & BIAS)) ops_add(s, (ops_slot){.name = "dup", .dtype = c->in, .rows = c->m, .cols = c->n, .use = OPS_OUT, .twin = twin ? 2 : 0});
    if (c->flags & MORE) out(s, "again", c->in, c->m, c->n, false);
}

static cad_status call_glu_bwd(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_glu_bwd(d, &(cad_glu_bwd_args){.dgate = ops_t(s, "dgate"), .dup = ops_t(s, "dup"), .dm = ops_t(s, "dy"), .gate = ops_t(s, "gate"),
                                              .up = ops_t(s, "up"), .m = ops_t(s, "again"), .act = (cad_activation)c->kind});
}

static const ops_op glu_bwd = {"glu_bwd", fill_glu_bwd, call_glu_bwd, call_glu, false};

/* ---- embed ---- */

/* TA: the table lies turned. */
static void fill_embed(const ops_case *c, ops_sheet *s)
{
    operand(s, "table", c->in, c->flags & TA, c->m, c->n);
    out(s, "y", wide(), s->packing.tokens, c->n, c->flags & ADD);
}

static cad_status call_embed(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_embed_fwd(d, &(cad_embed_args){.h = ops_t(s, "y"), .table = ops_t(s, "table"), .scale = c->alpha, .skip = -1, .packing = &s->packing, .accumulate = c->flags & ADD, .turned = c->flags & TA});
}

static const ops_op embed_fwd = {"embed_fwd", fill_embed, call_embed, NULL, false};

static void fill_embed_bwd(const ops_case *c, ops_sheet *s)
{
    operand(s, "table", wide(), c->flags & TA, c->m, c->n);
    in_as(s, "y", wide(), s->packing.tokens, c->n, OPS_MADE);
    in(s, "dy", wide(), s->packing.tokens, c->n);
    out(s, "dtable", wide(), c->flags & TA ? c->n : c->m, c->flags & TA ? c->m : c->n, true);
}

static cad_status call_embed_bwd(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_embed_bwd(d, &(cad_embed_args){.h = ops_t(s, "dy"), .table = ops_t(s, "dtable"), .scale = c->alpha, .skip = c->kind, .packing = &s->packing, .turned = c->flags & TA});
}

static const ops_op embed_bwd = {"embed_bwd", fill_embed_bwd, call_embed_bwd, call_embed, false};

/* ---- pool ---- */

static void fill_pool(const ops_case *c, ops_sheet *s)
{
    in(s, "x", c->in, s->packing.tokens, c->n);
    out(s, "y", c->out, s->packing.sequences, c->n, false);
}

static cad_status call_pool(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_pool_fwd(d, &(cad_pool_args){.y = ops_t(s, "y"), .x = ops_t(s, "x"), .how = (cad_pooling)c->kind, .packing = &s->packing});
}

static const ops_op pool_fwd = {"pool_fwd", fill_pool, call_pool, NULL, false};

static void fill_pool_bwd(const ops_case *c, ops_sheet *s)
{
    in(s, "x", c->in, s->packing.tokens, c->n);
    in_as(s, "y", c->out, s->packing.sequences, c->n, OPS_MADE);
    in(s, "dy", c->out, s->packing.sequences, c->n);
    out(s, "dx", c->in, s->packing.tokens, c->n, false);
}

static cad_status call_pool_bwd(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_pool_bwd(d, &(cad_pool_args){.y = ops_t(s, "dy"), .x = ops_t(s, "dx"), .how = (cad_pooling)c->kind, .packing = &s->packing});
}

static const ops_op pool_bwd = {"pool_bwd", fill_pool_bwd, call_pool_bwd, call_pool, false};

/* ---- cross-entropy: one operation gives both; its gradient is that of sum(weights nll) ---- */

static void fill_labels(const ops_case *c, ops_sheet *s)
{
    ops_add(s, (ops_slot){.name = "labels", .dtype = CAD_I32, .rows = c->m, .cols = 1, .fill = OPS_LABELS, .fixed = true});
    in(s, "logits", CAD_F32, c->m, c->n);
}

static void fill_xent(const ops_case *c, ops_sheet *s)
{
    fill_labels(c, s);
    ops_add(s, (ops_slot){.name = "nll", .dtype = CAD_F64, .rows = c->m, .cols = 1, .use = OPS_OUT, .fixed = true});
    ops_add(s, (ops_slot){.name = "y", .dtype = CAD_F64, .rows = c->m, .cols = 1, .fill = OPS_MADE, .fixed = true});
    ops_add(s, (ops_slot){.name = "dy", .dtype = CAD_F32, .rows = c->m, .cols = 1, .fixed = true});
    if (!(c->flags & MORE)) out(s, "dlogits", c->out, c->m, c->n, false);
}

static cad_status call_xent(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_xent(d, &(cad_xent_args){.logits = ops_t(s, "logits"), .dlogits = ops_t(s, "dlogits"), .nll = ops_t(s, "nll"), .labels = ops_t(s, "labels"),
                                        .weights = ops_t(s, "dy"), .scale = c->alpha, .softcap = c->softcap});
}

static cad_status forward_xent(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_xent(d, &(cad_xent_args){.logits = ops_t(s, "logits"), .nll = ops_t(s, "y"), .labels = ops_t(s, "labels"), .scale = 1, .softcap = c->softcap});
}

static const ops_op xent = {"xent", fill_xent, call_xent, forward_xent, false};

/* ---- rows by number: y [m, n] from x [k2, n], k a row; BIAS: with factors ---- */

static void whole(ops_sheet *s, const char *name, int64_t rows, int64_t cols, ops_use use, ops_fill fill)
{
    ops_add(s, (ops_slot){.name = name, .dtype = CAD_I32, .rows = rows, .cols = cols, .use = use, .fill = fill, .fixed = true, .exact = true});
}

static void fill_gather(const ops_case *c, ops_sheet *s)
{
    in(s, "x", c->in, c->k2, c->n);
    whole(s, "index", c->m, c->k, OPS_IN, OPS_ROWS);
    if (c->flags & BIAS) in(s, "scale", wide(), c->m, c->k);
    out(s, "y", c->out, c->m, c->n, c->flags & ADD);
}

static cad_status call_gather(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_gather(d, &(cad_gather_args){.y = ops_t(s, "y"), .x = ops_t(s, "x"), .index = ops_t(s, "index"), .scale = ops_t(s, "scale"), .accumulate = c->flags & ADD});
}

static const ops_op gather = {"gather", fill_gather, call_gather, NULL, false};

/* ---- experts: m rows, k2 experts, k of them chosen ---- */

static void fill_visits(const ops_case *c, ops_sheet *s, ops_use use)
{
    ops_fill fill = use == OPS_IN ? OPS_MADE : OPS_NORMAL;

    in(s, "logits", CAD_F32, c->m, c->k2);
    whole(s, "token", c->m * c->k, 1, use, fill);
    whole(s, "slot", c->m, c->k, use, fill);
    whole(s, "starts", 1, c->k2 + 1, use, fill);
    ops_add(s, (ops_slot){.name = "score", .dtype = CAD_F32, .rows = c->m * c->k, .cols = 1, .use = use, .fill = fill});
}

static void fill_route(const ops_case *c, ops_sheet *s) { fill_visits(c, s, OPS_OUT); }

static cad_status call_route(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    (void)c;
    return cad_route_fwd(d, &(cad_route_args){.logits = ops_t(s, "logits"), .token = ops_t(s, "token"), .slot = ops_t(s, "slot"), .starts = ops_t(s, "starts"), .score = ops_t(s, "score")});
}

static const ops_op route_fwd = {"route_fwd", fill_route, call_route, NULL, false};

/* y is what visits see: score x. */
static void fill_route_bwd(const ops_case *c, ops_sheet *s)
{
    fill_visits(c, s, OPS_IN);
    in(s, "x", c->in, c->m, c->n);
    in_as(s, "y", c->in, c->m * c->k, c->n, OPS_MADE);
    in(s, "dy", c->in, c->m * c->k, c->n);
    out(s, "dx", wide(), c->m, c->n, true);
    out(s, "dlogits", c->out, c->m, c->k2, false);
}

static cad_status forward_route(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    CAD_TRY(call_route(d, c, s));
    return cad_gather(d, &(cad_gather_args){.y = ops_t(s, "y"), .x = ops_t(s, "x"), .index = ops_t(s, "token"), .scale = ops_t(s, "score")});
}

static cad_status call_route_bwd(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    (void)c;
    return cad_route_bwd(d, &(cad_route_bwd_args){.dx = ops_t(s, "dx"), .dlogits = ops_t(s, "dlogits"), .dv = ops_t(s, "dy"), .x = ops_t(s, "x"), .slot = ops_t(s, "slot"),
                                                  .starts = ops_t(s, "starts"), .score = ops_t(s, "score")});
}

static const ops_op route_bwd = {"route_bwd", fill_route_bwd, call_route_bwd, forward_route, false};

/* m rows in k2 groups. */
static void fill_groups(const ops_case *c, ops_sheet *s)
{
    bool weights = c->flags & TA;

    in(s, "a", c->in, c->m, c->k);
    if (weights) in(s, "b", c->in, c->m, c->n);
    else operand(s, "b", c->in, false, c->k2 * (c->flags & TB ? c->n : c->k), c->flags & TB ? c->k : c->n);
    whole(s, "starts", 1, c->k2 + 1, OPS_IN, OPS_STARTS);
    out(s, "c", c->out, weights ? c->k2 * c->k : c->m, c->n, c->flags & ADD);
}

static cad_status call_groups(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_matmul_groups(d, &(cad_groups_args){.c = ops_t(s, "c"), .a = ops_t(s, "a"), .b = ops_t(s, "b"), .starts = ops_t(s, "starts"), .ta = c->flags & TA, .tb = c->flags & TB, .groups = c->k2,
                                                   .accumulate = c->flags & ADD});
}

static const ops_op groups = {"matmul_groups", fill_groups, call_groups, NULL, false};

/* ---- attention to what came before: m rows for each sequence, k and more tokens before; k2: chunk ---- */

static void fill_cached(const ops_case *c, ops_sheet *s)
{
    int64_t n = s->packing.sequences;

    in(s, "q", c->in, s->packing.tokens, c->heads * c->head);
    in(s, "k", c->in, n * c->m, c->kv * c->head);
    in(s, "v", c->in, n * c->m, c->kv * c->head);
    whole(s, "place", n, 2, OPS_IN, OPS_PLACES);
    out(s, "y", c->in, s->packing.tokens, c->heads * c->head, false);
}

static cad_status call_cached(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_attention_cached(d, &(cad_attention_cached_args){.q = ops_t(s, "q"), .o = ops_t(s, "y"), .k = ops_t(s, "k"), .v = ops_t(s, "v"), .place = ops_t(s, "place"), .head_dim = c->head,
                                                                .q_heads = c->heads, .kv_heads = c->kv, .window = c->window, .chunk = c->k2, .scale = c->alpha, .softcap = c->softcap,
                                                                .packing = &s->packing});
}

static const ops_op cached = {"attention_cached", fill_cached, call_cached, NULL, true};

/* ---- element by element ---- */

static void fill_axpby(const ops_case *c, ops_sheet *s)
{
    out(s, "y", c->out, c->m, c->n, c->beta != 0);
    in(s, "x", c->in, c->m, c->n);
}

static cad_status call_axpby(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_axpby(d, &(cad_axpby_args){.y = ops_t(s, "y"), .x = ops_t(s, "x"), .alpha = c->alpha, .beta = c->beta});
}

static const ops_op axpby = {"axpby", fill_axpby, call_axpby, NULL, false};

static void fill_sum_rows(const ops_case *c, ops_sheet *s)
{
    out(s, "y", wide(), 1, c->n, c->flags & ADD);
    in(s, "x", c->in, c->m, c->n);
}

static cad_status call_sum_rows(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_sum_rows(d, &(cad_sum_rows_args){.y = ops_t(s, "y"), .x = ops_t(s, "x"), .accumulate = c->flags & ADD});
}

static const ops_op sum_rows = {"sum_rows", fill_sum_rows, call_sum_rows, NULL, false};

static void fill_scale_cols(const ops_case *c, ops_sheet *s)
{
    in(s, "x", c->in, c->m, c->n);
    in(s, "w", CAD_F32, 1, c->n);
    if (c->flags & BIAS) in(s, "b", c->in, 1, c->n);
    ops_add(s, (ops_slot){.name = "y", .dtype = c->out, .rows = c->m, .cols = c->n, .use = c->flags & ADD ? OPS_INOUT : OPS_OUT, .twin = c->flags & TWIN ? 1 : 0});
}

static cad_status call_scale_cols(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_scale_cols(d, &(cad_scale_cols_args){.y = ops_t(s, "y"), .x = ops_t(s, "x"), .w = ops_t(s, "w"), .b = ops_t(s, "b"), .accumulate = c->flags & ADD});
}

static const ops_op scale_cols = {"scale_cols", fill_scale_cols, call_scale_cols, NULL, false};

/* The gradient of the factors of scale_cols. */
static void fill_dot_cols(const ops_case *c, ops_sheet *s)
{
    in(s, "x", c->in, c->m, c->n);
    in(s, "w", CAD_F32, 1, c->n);
    in_as(s, "y", c->out, c->m, c->n, OPS_MADE);
    in(s, "dy", c->out, c->m, c->n);
    out(s, "dw", wide(), 1, c->n, false);
}

static cad_status call_dot_cols(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    (void)c;
    return cad_dot_cols(d, &(cad_dot_cols_args){.w = ops_t(s, "dw"), .x = ops_t(s, "x"), .y = ops_t(s, "dy")});
}

static const ops_op dot_cols = {"dot_cols", fill_dot_cols, call_dot_cols, call_scale_cols, false};

static void fill_dropout(const ops_case *c, ops_sheet *s)
{
    in(s, "x", c->in, c->m, c->n);
    ops_add(s, (ops_slot){.name = "y", .dtype = c->out, .rows = c->m, .cols = c->n, .use = c->flags & ADD ? OPS_INOUT : OPS_OUT, .twin = c->flags & TWIN ? 1 : 0});
}

static cad_status call_dropout(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_dropout(d, &(cad_dropout_args){.y = ops_t(s, "y"), .x = ops_t(s, "x"), .p = c->alpha, .seed = 42, .index = (1u << 31) - 1, .site = 7,
                                              .accumulate = c->flags & ADD});
}

static const ops_op dropout = {"dropout", fill_dropout, call_dropout, NULL, false};

/* ---- flat ---- */

static void fill_adamw(const ops_case *c, ops_sheet *s)
{
    out(s, "p", CAD_F32, 1, c->n, true);
    out(s, "m", CAD_F32, 1, c->n, true);
    ops_add(s, (ops_slot){.name = "v", .dtype = CAD_F32, .rows = 1, .cols = c->n, .use = OPS_INOUT, .fill = OPS_SQUARES});
    in(s, "g", CAD_F32, 1, c->n);
    if (c->flags & MORE) ops_add(s, (ops_slot){.name = "copy", .dtype = CAD_BF16, .rows = 1, .cols = c->n, .use = OPS_OUT, .fixed = true});
}

static cad_status call_adamw(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_adamw(d, &(cad_adamw_args){.p = ops_t(s, "p"), .m = ops_t(s, "m"), .v = ops_t(s, "v"), .g = ops_t(s, "g"), .copy = ops_t(s, "copy"), .lr = 1e-2,
                                          .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .decay = 0.1, .clip = 0.5, .step = c->kind});
}

static const ops_op adamw = {"adamw", fill_adamw, call_adamw, NULL, false};

static void fill_sumsq(const ops_case *c, ops_sheet *s)
{
    in(s, "x", CAD_F32, 1, c->n);
    ops_add(s, (ops_slot){.name = "out", .dtype = CAD_F64, .rows = 1, .cols = cad_ceil_div(c->n, CAD_CHUNK), .use = OPS_OUT, .fixed = true, .exact = true});
}

static cad_status call_sumsq(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    (void)c;
    return cad_sumsq(d, &(cad_sumsq_args){.x = ops_t(s, "x"), .out = ops_t(s, "out")});
}

static const ops_op sumsq = {"sumsq", fill_sumsq, call_sumsq, NULL, false};

static void words(ops_sheet *s, const char *name, int64_t n, ops_use use)
{
    ops_add(s, (ops_slot){.name = name, .dtype = CAD_I64, .rows = 1, .cols = n, .use = use, .fill = OPS_WORDS, .fixed = true, .exact = true});
}

static void fill_fixed_add(const ops_case *c, ops_sheet *s)
{
    in_as(s, "x", CAD_F32, 1, c->n, OPS_WILD);
    words(s, "q", c->n, c->flags & ADD ? OPS_INOUT : OPS_OUT);
    ops_add(s, (ops_slot){.name = "largest", .dtype = CAD_F64, .rows = 1, .cols = 1, .use = OPS_INOUT, .fill = OPS_SQUARES, .fixed = true, .exact = true});
}

static cad_status call_fixed_add(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_fixed_add(d, &(cad_fixed_args){.q = ops_t(s, "q"), .x = ops_t(s, "x"), .largest = ops_t(s, "largest"), .exponent = c->kind, .accumulate = c->flags & ADD});
}

static const ops_op fixed_add = {"fixed_add", fill_fixed_add, call_fixed_add, NULL, false};

static void fill_fixed_back(const ops_case *c, ops_sheet *s)
{
    words(s, "q", c->n, OPS_IN);
    out(s, "x", CAD_F32, 1, c->n, false);
}

static cad_status call_fixed_back(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_fixed_back(d, &(cad_fixed_args){.q = ops_t(s, "q"), .x = ops_t(s, "x"), .exponent = c->kind});
}

static const ops_op fixed_back = {"fixed_back", fill_fixed_back, call_fixed_back, NULL, false};

static void fill_add_i64(const ops_case *c, ops_sheet *s)
{
    words(s, "q", c->n, OPS_INOUT);
    words(s, "q2", c->n, OPS_IN);
}

static cad_status call_add_i64(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    (void)c;
    return cad_add_i64(d, ops_t(s, "q"), ops_t(s, "q2"));
}

static const ops_op add_i64 = {"add_i64", fill_add_i64, call_add_i64, NULL, false};

#define MM(M, N, K, IN, OUT, ...) {.op = &matmul, .m = M, .n = N, .k = K, .in = CAD_##IN, .out = CAD_##OUT, .terms = K, __VA_ARGS__}
#define NORM(OP, M, N, IN, OUT, ...) {.op = &OP, .m = M, .n = N, .in = CAD_##IN, .out = CAD_##OUT, __VA_ARGS__}
#define HEADS(OP, HEAD, Q, KV, IN, ...) {.op = &OP, .head = HEAD, .heads = Q, .kv = KV, .in = CAD_##IN, .alpha = 0.2, __VA_ARGS__}
#define FLAT(OP, N, ...) {.op = &OP, .n = N, __VA_ARGS__}
#define TOKENS(...) .length = {__VA_ARGS__}

const ops_case ops_table[] = {
    MM(1, 700, 577, F32, F32, .alpha = 1, .flags = TB), MM(1, 577, 1000, BF16, BF16, .alpha = 1, .flags = TB | BIAS), MM(3, 300, 200, BF16, F32, .alpha = 0.5, .beta = 1, .flags = TB),
    MM(4, 400, 96, BF16, BF16, .alpha = 1, .alpha2 = 2, .k2 = 8, .flags = TB | TB2), MM(2, 513, 65, F32, F32, .alpha = 1, .alpha2 = 2, .k2 = 5, .flags = TB | TB2 | BIAS),
    MM(26, 300, 577, BF16, BF16, .alpha = 1, .flags = TB | BIAS), MM(9, 300, 200, BF16, F32, .alpha = 0.5, .alpha2 = 2, .k2 = 8, .beta = 1, .flags = TB | TB2 | BIAS), MM(61, 130, 1030, BF16, BF16, .alpha = 1, .flags = TB),
    MM(1, 1, 1, F32, F32, .alpha = 1), MM(7, 13, 5, F32, F32, .alpha = 1), MM(33, 65, 129, F32, F32, .alpha = 1, .flags = TB),
    MM(33, 65, 129, F32, F32, .alpha = -0.5, .beta = 1, .flags = TA), MM(64, 48, 80, F32, F32, .alpha = 1, .beta = 0.5, .flags = TA | TB),
    MM(1, 300, 64, F32, F32, .alpha = 1, .flags = TB | BIAS), MM(3000, 3, 5, F32, F32, .alpha = 1, .flags = TB), MM(5, 3, 3000, F32, F32, .alpha = 1, .flags = TA),
    MM(2, 3, 0, F32, F32, .alpha = 1, .beta = 2, .flags = BIAS), MM(0, 3, 4, F32, F32, .alpha = 1), MM(4, 0, 3, BF16, BF16, .alpha = 1),
    MM(1, 1, 1, BF16, BF16, .alpha = 1), MM(7, 13, 5, BF16, F32, .alpha = 1, .flags = TB), MM(33, 65, 129, BF16, BF16, .alpha = 1, .flags = TB),
    MM(33, 65, 129, BF16, F32, .alpha = 1, .beta = 1, .flags = TA), MM(130, 97, 64, BF16, BF16, .alpha = 2, .beta = -1),
    MM(64, 64, 64, BF16, BF16, .alpha = 1, .flags = TA | TB | BIAS), MM(40, 24, 3000, BF16, F32, .alpha = 1, .beta = 1, .flags = TA),
    MM(3000, 2, 64, BF16, BF16, .alpha = 1, .flags = TB), MM(96, 128, 256, BF16, F32, .alpha = 1, .flags = TB),
    MM(33, 72, 40, BF16, F32, .alpha = 1, .alpha2 = 2, .k2 = 8, .beta = 1, .flags = TB | TB2 | BIAS), MM(7, 27, 16, BF16, F32, .alpha = 1, .flags = TB | BIAS),
    MM(33, 65, 29, F32, F32, .alpha = 1, .alpha2 = 2, .k2 = 8, .flags = TB | TB2), MM(33, 65, 29, BF16, BF16, .alpha = 1, .alpha2 = 0.5, .k2 = 16, .flags = TB | TB2 | BIAS),
    MM(33, 65, 29, BF16, BF16, .alpha = 1, .alpha2 = 2, .k2 = 3, .beta = 1, .flags = TA2), MM(33, 65, 29, BF16, F32, .alpha = 1, .alpha2 = 2, .k2 = 5, .flags = TA | TA2 | TB2),

    NORM(rmsnorm_fwd, 1, 1, F32, F32, .terms = 1), NORM(rmsnorm_fwd, 3, 577, F32, F32, .terms = 577), NORM(rmsnorm_fwd, 3, 576, F32, BF16, .terms = 576),
    NORM(rmsnorm_fwd, 1000, 16, F32, BF16, .terms = 16, .flags = PLUS1), NORM(rmsnorm_fwd, 5, 67, BF16, BF16, .terms = 67, .flags = PLUS1),
    NORM(rmsnorm_fwd, 2, 5000, BF16, BF16, .terms = 5000), NORM(rmsnorm_fwd, 0, 8, F32, F32, .terms = 8),
    NORM(rmsnorm_fwd, 5, 577, BF16, F32, .terms = 577, .flags = ADD | PLUS1), NORM(rmsnorm_fwd, 4, 96, F32, F32, .terms = 96, .flags = TWIN), NORM(rmsnorm_fwd, 70, 48, F32, BF16, .terms = 48, .flags = ADD),
    NORM(rmsnorm_bwd, 1, 1, F32, F32, .terms = 1), NORM(rmsnorm_bwd, 3, 11, F32, F32, .terms = 11, .flags = GRAD), NORM(rmsnorm_bwd, 4, 9, F32, F32, .terms = 9, .flags = GRAD | PLUS1 | ADD | ADDW),
    NORM(rmsnorm_bwd, 33, 576, F32, BF16, .terms = 576, .flags = ADD), NORM(rmsnorm_bwd, 1000, 16, F32, BF16, .terms = 1000, .flags = PLUS1 | ADDW),
    NORM(rmsnorm_bwd, 5, 67, BF16, BF16, .terms = 67, .flags = MORE), NORM(rmsnorm_bwd, 2, 5000, F32, F32, .terms = 5000, .flags = MORE | ADD),
    NORM(rmsnorm_bwd, 0, 8, F32, F32, .terms = 1),
    NORM(rmsnorm_fwd, 7, 60, F32, F32, .kind = 12, .terms = 12), NORM(rmsnorm_fwd, 5, 512, BF16, BF16, .kind = 128, .terms = 128, .flags = PLUS1), NORM(rmsnorm_fwd, 9, 48, BF16, BF16, .kind = 16, .terms = 16, .flags = BIAS),
    NORM(rmsnorm_bwd, 4, 12, F32, F32, .kind = 4, .terms = 4, .flags = GRAD), NORM(rmsnorm_bwd, 3, 10, F32, F32, .kind = 5, .terms = 5, .flags = GRAD | PLUS1 | TWIN), NORM(rmsnorm_bwd, 3, 12, F32, F32, .kind = 6, .terms = 6, .flags = GRAD | BIAS | MORE),
    NORM(rmsnorm_bwd, 70, 512, BF16, BF16, .kind = 64, .terms = 560, .flags = TWIN), NORM(rmsnorm_bwd, 5, 2304, F32, F32, .kind = 1152, .terms = 1152, .flags = TWIN | PLUS1), NORM(rmsnorm_bwd, 40, 64, BF16, BF16, .kind = 16, .terms = 16, .flags = TWIN | BIAS | MORE),

    NORM(layernorm_fwd, 1, 1, F32, F32, .terms = 1), NORM(layernorm_fwd, 3, 577, F32, F32, .terms = 577), NORM(layernorm_fwd, 3, 768, F32, BF16, .terms = 768), NORM(layernorm_fwd, 1000, 16, BF16, BF16, .terms = 16),
    NORM(layernorm_fwd, 2, 5000, F32, F32, .terms = 5000), NORM(layernorm_fwd, 0, 8, F32, F32, .terms = 8), NORM(layernorm_bwd, 3, 11, F32, F32, .terms = 11, .flags = GRAD), NORM(layernorm_bwd, 4, 9, F32, F32, .terms = 9, .flags = GRAD | TWIN),
    NORM(layernorm_bwd, 33, 768, F32, BF16, .terms = 768), NORM(layernorm_bwd, 1000, 16, F32, F32, .terms = 1000, .flags = TWIN), NORM(layernorm_bwd, 2, 5000, F32, F32, .terms = 5000, .flags = MORE), NORM(layernorm_bwd, 5, 67, BF16, BF16, .terms = 67, .flags = TWIN | MORE),
    NORM(layernorm_bwd, 0, 8, F32, F32, .terms = 1), NORM(layernorm_bwd, 4, 9, F32, F32, .terms = 9, .flags = GRAD | ADDW), NORM(layernorm_bwd, 200, 768, F32, BF16, .terms = 768, .flags = TWIN | ADDW),
    NORM(layernorm_bwd, 0, 8, F32, F32, .terms = 1, .flags = ADDW),

    HEADS(rope, 8, 7, 0, F32, TOKENS(5, 1, 17)), HEADS(rope, 64, 9, 0, BF16, TOKENS(1)), HEADS(rope, 128, 1, 0, BF16, TOKENS(40, 3), .flags = PAIRS),
    HEADS(rope, 2, 3, 0, F32, TOKENS(9), .flags = PAIRS | INVERSE), HEADS(rope, 64, 3, 0, BF16, TOKENS(33, 1, 1, 96), .flags = INVERSE),
    HEADS(rope_bwd, 6, 3, 0, F32, TOKENS(5, 1, 3), .flags = GRAD), HEADS(rope_bwd, 4, 1, 0, F32, TOKENS(6), .flags = GRAD | PAIRS), HEADS(rope_bwd, 64, 2, 0, BF16, TOKENS(9, 2)),

    HEADS(attention_fwd, 8, 7, 7, F32, TOKENS(5, 1, 17), .flags = CAUSAL, .terms = 17), HEADS(attention_fwd, 64, 9, 3, F32, TOKENS(70), .flags = CAUSAL, .terms = 70),
    HEADS(attention_fwd, 64, 9, 3, BF16, TOKENS(33, 1, 1, 96), .flags = CAUSAL, .terms = 96), HEADS(attention_fwd, 128, 4, 1, BF16, TOKENS(1), .flags = CAUSAL, .terms = 1),
    HEADS(attention_fwd, 128, 2, 1, BF16, TOKENS(130, 2), .flags = CAUSAL, .window = 16, .terms = 16), HEADS(attention_fwd, 8, 2, 2, F32, TOKENS(40), .flags = CAUSAL, .window = 1, .terms = 1),
    HEADS(attention_fwd, 64, 2, 1, F32, TOKENS(140), .flags = CAUSAL, .window = 70, .softcap = 3, .terms = 70), HEADS(attention_fwd, 64, 2, 2, BF16, TOKENS(65, 64), .softcap = 50, .terms = 65),
    HEADS(attention_fwd, 32, 12, 12, F32, TOKENS(19, 1, 40), .terms = 40), HEADS(attention_fwd, 24, 6, 2, F32, TOKENS(30, 7), .window = 4, .terms = 30),
    HEADS(attention_fwd, 64, 3, 1, F32, TOKENS(300), .flags = CAUSAL, .terms = 300), HEADS(attention_fwd, 8, 2, 1, F32, TOKENS(0)),
    HEADS(attention_fwd, 80, 2, 1, BF16, TOKENS(150, 3), .flags = CAUSAL, .terms = 150), HEADS(attention_fwd, 96, 4, 2, BF16, TOKENS(70), .flags = CAUSAL, .window = 33, .terms = 33),
    HEADS(attention_fwd, 256, 2, 1, BF16, TOKENS(90, 1), .flags = CAUSAL, .softcap = 5, .terms = 90), HEADS(attention_fwd, 128, 4, 2, BF16, TOKENS(200), .flags = CAUSAL, .terms = 200),
    HEADS(attention_fwd, 64, 2, 1, BF16, TOKENS(300), .flags = CAUSAL, .window = 100, .terms = 100), HEADS(attention_fwd, 24, 2, 1, BF16, TOKENS(30, 7), .window = 4, .terms = 30),
    HEADS(attention_fwd, 128, 1, 1, BF16, TOKENS(200), .window = 20, .terms = 200),
    HEADS(attention_bwd, 4, 4, 2, F32, TOKENS(5, 1, 3), .flags = GRAD | CAUSAL, .terms = 5), HEADS(attention_bwd, 3, 2, 2, F32, TOKENS(6, 2), .flags = GRAD, .terms = 6),
    HEADS(attention_bwd, 4, 6, 2, F32, TOKENS(9), .flags = GRAD | CAUSAL, .window = 3, .softcap = 1.5, .terms = 9), HEADS(attention_bwd, 4, 2, 1, F32, TOKENS(7), .flags = GRAD, .window = 3, .terms = 7),
    HEADS(attention_bwd, 64, 9, 3, F32, TOKENS(70), .flags = CAUSAL, .terms = 210), HEADS(attention_bwd, 64, 9, 3, BF16, TOKENS(33, 1, 1, 66), .flags = CAUSAL, .terms = 198),
    HEADS(attention_bwd, 8, 7, 7, F32, TOKENS(5, 1, 17), .flags = CAUSAL, .terms = 17), HEADS(attention_bwd, 128, 4, 1, BF16, TOKENS(1), .flags = CAUSAL, .terms = 4),
    HEADS(attention_bwd, 128, 2, 1, BF16, TOKENS(80, 2), .flags = CAUSAL, .window = 16, .terms = 32), HEADS(attention_bwd, 64, 2, 2, BF16, TOKENS(65, 64), .softcap = 5, .terms = 65),
    HEADS(attention_bwd, 32, 4, 4, F32, TOKENS(19, 1, 40), .terms = 40), HEADS(attention_bwd, 64, 2, 1, F32, TOKENS(140), .flags = CAUSAL, .window = 70, .softcap = 3, .terms = 140),
    HEADS(attention_bwd, 80, 2, 1, BF16, TOKENS(150, 3), .flags = CAUSAL, .terms = 300), HEADS(attention_bwd, 96, 4, 2, BF16, TOKENS(70), .flags = CAUSAL, .window = 33, .terms = 66),
    HEADS(attention_bwd, 256, 2, 1, BF16, TOKENS(90, 1), .flags = CAUSAL, .softcap = 5, .terms = 180), HEADS(attention_bwd, 128, 4, 2, BF16, TOKENS(200), .flags = CAUSAL, .terms = 400),
    HEADS(attention_bwd, 64, 2, 1, BF16, TOKENS(200), .flags = CAUSAL, .window = 100, .terms = 200), HEADS(attention_bwd, 24, 2, 1, BF16, TOKENS(30, 7), .window = 4, .terms = 60),
    HEADS(attention_bwd, 128, 1, 1, BF16, TOKENS(140), .window = 20, .terms = 140),

    HEADS(attention_fwd, 8, 4, 2, F32, TOKENS(5, 1, 17), .alpha2 = 0.3, .terms = 17), HEADS(attention_fwd, 64, 6, 3, BF16, TOKENS(33, 1, 70), .flags = CAUSAL, .alpha2 = 0.1, .terms = 70),
    HEADS(attention_fwd, 16, 2, 1, F32, TOKENS(140), .flags = CAUSAL, .window = 70, .softcap = 3, .alpha2 = 0.5, .terms = 70), HEADS(attention_fwd, 2, 1, 1, F32, TOKENS(1100), .alpha2 = 0.1, .terms = 1100),
    HEADS(attention_bwd, 4, 4, 2, F32, TOKENS(5, 1, 3), .flags = GRAD, .alpha2 = 0.3, .terms = 5), HEADS(attention_bwd, 4, 6, 2, F32, TOKENS(9), .flags = GRAD | CAUSAL, .window = 3, .softcap = 1.5, .alpha2 = 0.4, .terms = 9),
    HEADS(attention_bwd, 64, 6, 3, BF16, TOKENS(33, 1, 70), .flags = CAUSAL, .alpha2 = 0.1, .terms = 140), HEADS(attention_bwd, 16, 2, 1, F32, TOKENS(140), .flags = CAUSAL, .window = 70, .softcap = 3, .alpha2 = 0.5, .terms = 140),

    HEADS(cached, 8, 7, 7, F32, TOKENS(1, 1, 1), .m = 40, .k = 17, .terms = 20), HEADS(cached, 64, 9, 3, F32, TOKENS(1), .m = 700, .k = 699, .terms = 700), HEADS(cached, 64, 9, 3, BF16, TOKENS(5, 1, 17), .m = 60, .k = 40, .terms = 59),
    HEADS(cached, 24, 6, 2, F32, TOKENS(1, 2), .m = 300, .k = 290, .window = 33, .terms = 33), HEADS(cached, 256, 2, 1, BF16, TOKENS(1, 1), .m = 90, .k = 80, .softcap = 5, .terms = 82),
    HEADS(cached, 64, 5, 1, F32, TOKENS(1, 3), .m = 130, .k = 120, .k2 = 16, .terms = 16), HEADS(cached, 128, 4, 2, BF16, TOKENS(1), .m = 9, .k = 0, .terms = 1), HEADS(cached, 8, 2, 1, F32, TOKENS(0), .m = 1),

    NORM(glu_fwd, 1, 1, F32, F32, .kind = CAD_ACT_SILU), NORM(glu_fwd, 9, 67, F32, F32, .kind = CAD_ACT_GELU_TANH), NORM(glu_fwd, 9, 67, BF16, BF16, .kind = CAD_ACT_SILU),
    NORM(glu_fwd, 1000, 5, BF16, BF16, .kind = CAD_ACT_GELU_ERF), NORM(glu_fwd, 3, 1536, BF16, BF16, .kind = CAD_ACT_GELU_TANH), NORM(glu_fwd, 0, 5, F32, F32, .kind = CAD_ACT_SILU),
    NORM(glu_bwd, 3, 7, F32, F32, .kind = CAD_ACT_SILU, .flags = GRAD), NORM(glu_bwd, 3, 7, F32, F32, .kind = CAD_ACT_GELU_TANH, .flags = GRAD), NORM(glu_bwd, 3, 7, F32, F32, .kind = CAD_ACT_GELU_ERF, .flags = GRAD),
    NORM(glu_bwd, 9, 67, BF16, BF16, .kind = CAD_ACT_SILU, .flags = TWIN | MORE), NORM(glu_bwd, 9, 67, F32, F32, .kind = CAD_ACT_GELU_TANH, .flags = TWIN),
    NORM(glu_bwd, 1000, 5, BF16, BF16, .kind = CAD_ACT_GELU_ERF, .flags = MORE), NORM(glu_bwd, 3, 1536, BF16, BF16, .kind = CAD_ACT_GELU_TANH),

    NORM(glu_fwd, 9, 67, F32, F32, .kind = CAD_ACT_TANH, .flags = BIAS), NORM(glu_fwd, 9, 67, BF16, BF16, .kind = CAD_ACT_GELU_ERF, .flags = BIAS), NORM(glu_fwd, 9, 67, BF16, BF16, .kind = CAD_ACT_TANH),
    NORM(glu_bwd, 3, 7, F32, F32, .kind = CAD_ACT_TANH, .flags = GRAD), NORM(glu_bwd, 3, 7, F32, F32, .kind = CAD_ACT_TANH, .flags = GRAD | BIAS), NORM(glu_bwd, 3, 7, F32, F32, .kind = CAD_ACT_GELU_ERF, .flags = GRAD | BIAS),
    NORM(glu_bwd, 9, 67, BF16, BF16, .kind = CAD_ACT_GELU_ERF, .flags = BIAS | TWIN | MORE), NORM(glu_bwd, 9, 1500, F32, F32, .kind = CAD_ACT_TANH, .flags = BIAS | TWIN),

    NORM(embed_fwd, 19, 67, F32, F32, .alpha = 1, .flags = ADD, TOKENS(5, 1, 17)), NORM(embed_fwd, 19, 7, F32, F32, .alpha = 1, .flags = TA, TOKENS(5, 1, 17)), NORM(embed_fwd, 9, 130, BF16, F32, .alpha = 3, .flags = TA | ADD, TOKENS(40)),
    NORM(embed_bwd, 6, 5, F32, F32, .alpha = 3, .kind = -1, .flags = GRAD | TA, .terms = 9, TOKENS(5, 1, 3)), NORM(embed_bwd, 20, 130, F32, F32, .alpha = 0.5, .kind = 1, .terms = 40, .flags = TA, TOKENS(33, 7)),
    NORM(embed_fwd, 19, 67, F32, F32, .alpha = 1, TOKENS(5, 1, 17)), NORM(embed_fwd, 5, 576, BF16, F32, .alpha = 24, TOKENS(1)), NORM(embed_fwd, 1, 8, BF16, F32, .alpha = 1, TOKENS(0)),
    NORM(embed_bwd, 6, 5, F32, F32, .alpha = 3, .kind = -1, .flags = GRAD, .terms = 9, TOKENS(5, 1, 3)), NORM(embed_bwd, 3, 67, F32, F32, .alpha = 0.5, .kind = 1, .terms = 300, TOKENS(300, 7)),
    NORM(embed_bwd, 1000, 64, F32, F32, .alpha = 1, .kind = 0, .terms = 4, TOKENS(33, 1, 1, 96)), NORM(embed_bwd, 4, 3, F32, F32, .alpha = 1, .kind = -1, .terms = 1, TOKENS(0)),

    NORM(pool_fwd, 0, 67, F32, F32, .kind = CAD_POOLING_LAST, TOKENS(5, 1, 17)), NORM(pool_fwd, 0, 64, BF16, BF16, .kind = CAD_POOLING_MEAN, .terms = 96, TOKENS(33, 1, 1, 96)),
    NORM(pool_fwd, 0, 9, F32, F32, .kind = CAD_POOLING_MEAN, .terms = 300, TOKENS(300)), NORM(pool_fwd, 0, 67, BF16, F32, .kind = CAD_POOLING_FIRST, TOKENS(5, 1, 17)),
    NORM(pool_fwd, 0, 5, F32, BF16, .kind = CAD_POOLING_LAST, TOKENS(1)),
    NORM(pool_bwd, 0, 5, F32, F32, .kind = CAD_POOLING_LAST, .flags = GRAD, TOKENS(5, 1, 3)), NORM(pool_bwd, 0, 5, F32, F32, .kind = CAD_POOLING_MEAN, .flags = GRAD, TOKENS(5, 1, 3)),
    NORM(pool_bwd, 0, 5, F32, F32, .kind = CAD_POOLING_FIRST, .flags = GRAD, TOKENS(5, 1, 3)), NORM(pool_bwd, 0, 64, BF16, BF16, .kind = CAD_POOLING_MEAN, TOKENS(33, 1, 1, 96)),
    NORM(pool_bwd, 0, 64, BF16, F32, .kind = CAD_POOLING_LAST, TOKENS(33, 1, 1, 96)), NORM(pool_bwd, 0, 3, F32, BF16, .kind = CAD_POOLING_FIRST, TOKENS(7)),

    NORM(xent, 1, 1, F32, F32, .alpha = 1, .terms = 1), NORM(xent, 5, 2, F32, F32, .alpha = 1, .terms = 2, .flags = GRAD), NORM(xent, 7, 11, F32, F32, .alpha = 1, .terms = 11, .flags = GRAD),
    NORM(xent, 4, 2, F32, F32, .alpha = 0.25, .terms = 2, .flags = MORE), NORM(xent, 3, 5003, F32, BF16, .alpha = 0.1, .terms = 5003), NORM(xent, 1000, 2, F32, BF16, .alpha = 1e-3, .terms = 2),

    NORM(xent, 7, 11, F32, F32, .alpha = 1, .terms = 11, .softcap = 2, .flags = GRAD), NORM(xent, 3, 5003, F32, BF16, .alpha = 0.1, .terms = 5003, .softcap = 30), NORM(xent, 4, 3, F32, F32, .alpha = 0.25, .terms = 3, .softcap = 1, .flags = MORE),

    NORM(gather, 7, 11, F32, F32, .k2 = 5, .k = 1), NORM(gather, 9, 67, BF16, BF16, .k2 = 4, .k = 3, .terms = 3, .flags = BIAS), NORM(gather, 300, 1500, BF16, F32, .k2 = 40, .k = 2, .terms = 2, .flags = ADD),
    NORM(gather, 5, 64, F32, BF16, .k2 = 5, .k = 1, .flags = BIAS | ADD), NORM(gather, 0, 3, F32, F32, .k2 = 2, .k = 1), NORM(gather, 20, 3, F32, F32, .k2 = 1, .k = 1),
    NORM(route_fwd, 1, 1, F32, F32, .k2 = 1, .k = 1), NORM(route_fwd, 300, 1, F32, F32, .k2 = 16, .k = 1), NORM(route_fwd, 40, 1, F32, F32, .k2 = 7, .k = 3), NORM(route_fwd, 9, 1, F32, F32, .k2 = 4, .k = 4), NORM(route_fwd, 3, 1, F32, F32, .k2 = 130, .k = 2),
    NORM(route_bwd, 5, 4, F32, F32, .k2 = 3, .k = 1, .terms = 4, .flags = GRAD), NORM(route_bwd, 6, 5, F32, F32, .k2 = 4, .k = 2, .terms = 5, .flags = GRAD), NORM(route_bwd, 70, 1100, BF16, BF16, .k2 = 16, .k = 1, .terms = 1100), NORM(route_bwd, 33, 64, F32, F32, .k2 = 5, .k = 3, .terms = 64),
    NORM(groups, 1, 1, F32, F32, .k = 1, .k2 = 1, .terms = 1), NORM(groups, 40, 24, F32, F32, .k = 16, .k2 = 5, .terms = 16), NORM(groups, 40, 24, F32, F32, .k = 16, .k2 = 5, .terms = 16, .flags = TB), NORM(groups, 40, 24, F32, F32, .k = 16, .k2 = 5, .terms = 40, .flags = TA),
    NORM(groups, 130, 96, BF16, BF16, .k = 64, .k2 = 16, .terms = 64), NORM(groups, 130, 96, BF16, F32, .k = 64, .k2 = 16, .terms = 64, .flags = TB), NORM(groups, 130, 96, BF16, F32, .k = 64, .k2 = 16, .terms = 130, .flags = TA),
    NORM(groups, 3, 5, F32, F32, .k = 7, .k2 = 9, .terms = 3, .flags = TA), NORM(groups, 700, 40, BF16, F32, .k = 30, .k2 = 3, .terms = 700, .flags = TA),
    NORM(groups, 40, 24, F32, F32, .k = 16, .k2 = 5, .terms = 40, .flags = TA | ADD), NORM(groups, 3, 5, F32, F32, .k = 7, .k2 = 9, .terms = 3, .flags = TA | ADD), NORM(groups, 130, 96, BF16, F32, .k = 64, .k2 = 16, .terms = 130, .flags = TA | ADD),
    NORM(groups, 130, 96, BF16, BF16, .k = 64, .k2 = 16, .terms = 64, .flags = ADD),

    NORM(axpby, 1, 1, F32, F32, .alpha = 1), NORM(axpby, 9, 67, F32, BF16, .alpha = 1), NORM(axpby, 9, 67, BF16, F32, .alpha = 1, .beta = 1), NORM(axpby, 3, 1000, BF16, BF16, .alpha = 0.5, .beta = -2),
    NORM(axpby, 1000, 3, F32, F32, .alpha = -1, .beta = 0.25), NORM(axpby, 0, 3, F32, F32, .alpha = 1),
    NORM(sum_rows, 1, 1, F32, F32, .terms = 1), NORM(sum_rows, 3000, 5, BF16, F32, .terms = 3000, .flags = ADD), NORM(sum_rows, 33, 577, F32, F32, .terms = 33), NORM(sum_rows, 0, 3, F32, F32, .terms = 1),
    NORM(scale_cols, 1, 1, F32, F32, .kind = 0), NORM(scale_cols, 9, 67, BF16, F32, .flags = BIAS | ADD), NORM(scale_cols, 300, 5, BF16, BF16, .flags = TWIN), NORM(scale_cols, 3, 5000, F32, BF16, .flags = BIAS), NORM(scale_cols, 5, 7, F32, F32, .flags = TWIN | ADD),
    NORM(dot_cols, 5, 7, F32, F32, .terms = 5, .flags = GRAD), NORM(dot_cols, 3000, 5, BF16, BF16, .terms = 3000), NORM(dot_cols, 33, 1500, F32, F32, .terms = 33), NORM(dot_cols, 0, 3, F32, F32, .terms = 1),
    NORM(dropout, 1, 1, F32, F32, .alpha = 0.5), NORM(dropout, 9, 67, F32, BF16, .alpha = 0.1), NORM(dropout, 9, 66, BF16, F32, .alpha = 0.05, .flags = ADD), NORM(dropout, 300, 5, BF16, BF16, .alpha = 0.9, .flags = TWIN),
    NORM(dropout, 5, 64, F32, F32, .alpha = 0, .flags = TWIN), NORM(dropout, 5, 7, F32, F32, .alpha = 0.3, .flags = ADD),

    FLAT(adamw, 1, .kind = 1), FLAT(adamw, 1029, .kind = 1, .flags = MORE), FLAT(adamw, 5000, .kind = 1000), FLAT(adamw, 0, .kind = 1),
    FLAT(sumsq, 1, .kind = 0), FLAT(sumsq, 1024, .kind = 0), FLAT(sumsq, 5001, .kind = 0), FLAT(sumsq, 0, .kind = 0),
    FLAT(fixed_add, 1, .kind = 30), FLAT(fixed_add, 1029, .kind = 40, .flags = ADD), FLAT(fixed_add, 5000, .kind = 0), FLAT(fixed_add, 300, .kind = 60, .flags = ADD), FLAT(fixed_add, 0, .kind = 1),
    FLAT(fixed_back, 1, .kind = 30), FLAT(fixed_back, 5000, .kind = 40), FLAT(fixed_back, 77, .kind = -3),
    FLAT(add_i64, 1, .kind = 0), FLAT(add_i64, 5000, .kind = 0),

    CODED_CASES,
};
const int ops_cases = sizeof ops_table / sizeof *ops_table;

const char *ops_describe(const ops_case *c, int row)
{
    static char text[160];

    snprintf(text, sizeof text, "%s, row %d (%lld x %lld x %lld, %lld heads of %lld, %s to %s, flags %#x)", c->op->name, row, (long long)c->m, (long long)c->n,
             (long long)c->k, (long long)c->heads, (long long)c->head, cad_dtype_name(c->in), cad_dtype_name(c->out), (unsigned)c->flags);
    return text;
}
