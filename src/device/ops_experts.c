/* Rows by number, routing, products of groups. */
#include "ops_priv.h"

cad_status cadp_describe_gather(cadp_call *c, const cad_gather_args *x)
{
    int64_t rows = x->y.rows, cols = x->x.cols, k = x->index.cols;

    (x->accumulate ? cadp_update : cadp_write)(c, "y", x->y, CADP_REAL, rows, cols);
    cadp_read(c, "x", x->x, CADP_REAL, x->x.rows, cols);
    cadp_read(c, "index", x->index, CADP_I32, rows, k);
    if (cad_some(x->scale)) cadp_read(c, "scale", x->scale, CADP_F32 | CADP_F64, rows, k);
    c->mixed = true;
    return CAD_OK;
}

static cad_status check_choice(const cadp_call *c, int64_t k, int64_t experts)
{
    return cadp_need(c, k >= 1 && k <= experts, "1 <= k <= the number of experts", (double)k);
}

cad_status cadp_describe_route_fwd(cadp_call *c, const cad_route_args *x)
{
    int64_t rows = x->logits.rows, experts = x->logits.cols, k = x->slot.cols;

    CAD_TRY(check_choice(c, k, experts));
    CAD_TRY(cadp_need(c, rows <= INT32_MAX / k, "fewer than 2^31 visits", (double)rows));
    cadp_read(c, "logits", x->logits, CADP_WIDE, rows, experts);
    cadp_write(c, "token", x->token, CADP_I32, rows * k, 1);
    cadp_write(c, "slot", x->slot, CADP_I32, rows, k);
    cadp_write(c, "starts", x->starts, CADP_I32, 1, experts + 1);
    cadp_write(c, "score", x->score, CADP_WIDE, rows * k, 1);
    return CAD_OK;
}

cad_status cadp_describe_route_bwd(cadp_call *c, const cad_route_bwd_args *x)
{
    int64_t rows = x->x.rows, cols = x->x.cols, k = x->slot.cols, experts = x->dlogits.cols;

    CAD_TRY(check_choice(c, k, experts));
    cadp_update(c, "dx", x->dx, CADP_WIDE, rows, cols);
    cadp_write(c, "dlogits", x->dlogits, CADP_REAL, rows, experts);
    cadp_read(c, "dv", x->dv, CADP_REAL, rows * k, cols);
    cadp_read(c, "x", x->x, CADP_REAL, rows, cols);
    cadp_read(c, "slot", x->slot, CADP_I32, rows, k);
    cadp_read(c, "starts", x->starts, CADP_I32, 1, experts + 1);
    cadp_read(c, "score", x->score, CADP_WIDE, rows * k, 1);
    return CAD_OK;
}

/* Rows of all groups go through products of one size, wherever the groups begin. */
cad_status cadp_describe_matmul_groups(cadp_call *c, const cad_groups_args *x)
{
    int64_t rows = x->a.rows, k = x->a.cols, n = x->ta ? x->b.cols : x->c.cols;
    unsigned same = cadp_as(x->a, CADP_REAL);

    CAD_TRY(cadp_need(c, x->groups >= 1, "at least one group", (double)x->groups));
    CAD_TRY(cadp_need(c, !x->codes.code || !(x->ta || cad_some(x->b)), "codes in place of b", x->codes.code));
    (x->accumulate ? cadp_update : cadp_write)(c, "c", x->c, CADP_REAL, x->ta ? x->groups * k : rows, n);
    cadp_read(c, "a", x->a, CADP_REAL, rows, k);
    if (x->codes.code)
        CAD_TRY(cadp_coded(c, &x->codes, CADP_READ, x->groups * (x->tb ? n : k), x->tb ? k : n));
    else if (x->ta)
        cadp_read(c, "b", x->b, same, rows, n);
    else
        cadp_read(c, "b", x->b, same, x->groups * (x->tb ? n : k), x->tb ? k : n);
    cadp_read(c, "starts", x->starts, CADP_I32, 1, x->groups + 1);
    c->flops = 2.0 * (double)rows * (double)k * (double)n;
    return cadp_need(c, !(x->ta && x->tb), "at most one factor turned", 2);
}
