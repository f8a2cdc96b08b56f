/* The doors of all operations: describe, check, count, find work space, dispatch. */
#include "ops_priv.h"

static bool writes_nothing(const cadp_call *c)
{
    for (int i = 0; i < c->n; i++)
        if (c->args[i].use & CADP_WRITE && cadp_extent(c->args[i].t)) return false;
    return true;
}

static cad_status count(cad_device *d, const cadp_call *c, int64_t work)
{
    d->needed = cad_max(d->needed, work);
    if (work > d->reserved && !cad_device_pretends(d))
        return cad_fail(CAD_EINTERNAL, "%s: needs %lld bytes of work space on device %s, %lld are reserved", c->op, (long long)work, d->name, (long long)d->reserved);
    d->flops += c->flops;
    d->launches++;
    return CAD_OK;
}

static cad_status end_timing(cad_device *d, int op, double began)
{
    CAD_TRY(d->table->sync(d));
    d->seconds[op] += cad_now() - began;
    return CAD_OK;
}

void cad_device_time(cad_device *d, bool on) { d->timed = on; }

bool cad_device_timed(const cad_device *d, int i, const char **name, double *seconds)
{
#define NAME(op, args) #op,
    static const char *const names[] = {CADP_OPS(NAME)};
#undef NAME

    if (i >= CADP_OP_COUNT) return false;
    *name = names[i];
    *seconds = d->seconds[i];
    return true;
}

#define DOOR(verb, args_type)                                                              \
    static cad_status door_##verb(cad_device *d, const args_type *x)                       \
    {                                                                                    \
        cadp_call c = {.op = #verb};                                                       \
        double began = d->timed ? cad_now() : 0;                                             \
                                                                                         \
        CAD_TRY(cadp_describe_##verb(&c, x));                                              \
        CAD_TRY(cadp_admit(d, &c));                                                      \
        if (writes_nothing(&c)) return CAD_OK;                                           \
        CAD_TRY(count(d, &c, d->table->verb##_work ? d->table->verb##_work(d, x) : 0));      \
        if (d->between) d->between(d->between_with);                                     \
        CAD_TRY(d->table->verb(d, x, d->reserve));                                         \
        return d->timed ? end_timing(d, CADP_OP_##verb, began) : CAD_OK;                   \
    }
CADP_OPS(DOOR)

cad_status cad_matmul(cad_device *d, const cad_matmul_args *x) { return door_matmul(d, x); }
cad_status cad_rmsnorm_fwd(cad_device *d, const cad_rmsnorm_args *x) { return door_rmsnorm_fwd(d, x); }
cad_status cad_rmsnorm_bwd(cad_device *d, const cad_rmsnorm_bwd_args *x) { return door_rmsnorm_bwd(d, x); }
cad_status cad_layernorm_fwd(cad_device *d, const cad_layernorm_args *x) { return door_layernorm_fwd(d, x); }
cad_status cad_layernorm_bwd(cad_device *d, const cad_layernorm_bwd_args *x) { return door_layernorm_bwd(d, x); }
cad_status cad_rope(cad_device *d, const cad_rope_args *x) { return door_rope(d, x); }
cad_status cad_attention_fwd(cad_device *d, const cad_attention_args *x) { return door_attention_fwd(d, x); }
cad_status cad_attention_bwd(cad_device *d, const cad_attention_bwd_args *x) { return door_attention_bwd(d, x); }
cad_status cad_glu_fwd(cad_device *d, const cad_glu_args *x) { return door_glu_fwd(d, x); }
cad_status cad_glu_bwd(cad_device *d, const cad_glu_bwd_args *x) { return door_glu_bwd(d, x); }
cad_status cad_embed_fwd(cad_device *d, const cad_embed_args *x) { return door_embed_fwd(d, x); }
cad_status cad_embed_bwd(cad_device *d, const cad_embed_args *x) { return door_embed_bwd(d, x); }
cad_status cad_pool_fwd(cad_device *d, const cad_pool_args *x) { return door_pool_fwd(d, x); }
cad_status cad_pool_bwd(cad_device *d, const cad_pool_args *x) { return door_pool_bwd(d, x); }
cad_status cad_xent(cad_device *d, const cad_xent_args *x) { return door_xent(d, x); }
cad_status cad_axpby(cad_device *d, const cad_axpby_args *x) { return door_axpby(d, x); }
cad_status cad_sum_rows(cad_device *d, const cad_sum_rows_args *x) { return door_sum_rows(d, x); }
cad_status cad_scale_cols(cad_device *d, const cad_scale_cols_args *x) { return door_scale_cols(d, x); }
cad_status cad_dot_cols(cad_device *d, const cad_dot_cols_args *x) { return door_dot_cols(d, x); }
cad_status cad_dropout(cad_device *d, const cad_dropout_args *x) { return door_dropout(d, x); }
cad_status cad_gather(cad_device *d, const cad_gather_args *x) { return door_gather(d, x); }
cad_status cad_route_fwd(cad_device *d, const cad_route_args *x) { return door_route_fwd(d, x); }
cad_status cad_route_bwd(cad_device *d, const cad_route_bwd_args *x) { return door_route_bwd(d, x); }
cad_status cad_matmul_groups(cad_device *d, const cad_groups_args *x) { return door_matmul_groups(d, x); }
cad_status cad_adamw(cad_device *d, const cad_adamw_args *x) { return door_adamw(d, x); }
cad_status cad_sumsq(cad_device *d, const cad_sumsq_args *x) { return door_sumsq(d, x); }
cad_status cad_fixed_add(cad_device *d, const cad_fixed_args *x) { return door_fixed_add(d, x); }
cad_status cad_fixed_back(cad_device *d, const cad_fixed_args *x) { return door_fixed_back(d, x); }
cad_status cad_add_i64(cad_device *d, cad_tensor q, cad_tensor q2) { return door_add_i64(d, &(cad_fixed_args){.q = q, .x = q2}); }
cad_status cad_adamw8(cad_device *d, const cad_adamw8_args *x) { return door_adamw8(d, x); }
cad_status cad_quantise(cad_device *d, const cad_quantise_args *x) { return door_quantise(d, x); }
cad_status cad_nest(cad_device *d, const cad_nest_args *x) { return door_nest(d, x); }
cad_status cad_dequantise(cad_device *d, const cad_dequantise_args *x) { return door_dequantise(d, x); }
cad_status cad_attention_cached(cad_device *d, const cad_attention_cached_args *x) { return door_attention_cached(d, x); }
