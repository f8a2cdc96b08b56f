/* Flat operations on shards. */
#include "ops_priv.h"

cad_status cadp_describe_adamw(cadp_call *c, const cad_adamw_args *x)
{
    int64_t n = x->p.cols;

    cadp_update(c, "p", x->p, CADP_WIDE, 1, n);
    cadp_update(c, "m", x->m, CADP_WIDE, 1, n);
    cadp_update(c, "v", x->v, CADP_WIDE, 1, n);
    cadp_read(c, "g", x->g, CADP_WIDE, 1, n);
    if (cad_some(x->copy)) cadp_write(c, "copy", x->copy, CADP_BF16, 1, n);
    return cadp_need(c, x->step >= 1, "steps counted from 1", (double)x->step);
}

cad_status cadp_describe_sumsq(cadp_call *c, const cad_sumsq_args *x)
{
    cadp_write(c, "out", x->out, CADP_F64, 1, cad_ceil_div(x->x.cols, CAD_CHUNK));
    cadp_read(c, "x", x->x, CADP_WIDE, 1, x->x.cols);
    return CAD_OK;
}

static cad_status check_exponent(const cadp_call *c, const cad_fixed_args *x)
{
    return cadp_need(c, x->exponent >= -1000 && x->exponent <= 1000, "an exponent within +-1000", x->exponent);
}

cad_status cadp_describe_fixed_add(cadp_call *c, const cad_fixed_args *x)
{
    (x->accumulate ? cadp_update : cadp_write)(c, "q", x->q, CADP_I64, 1, x->x.cols);
    cadp_read(c, "x", x->x, CADP_WIDE, 1, x->x.cols);
    cadp_update(c, "largest", x->largest, CADP_F64, 1, 1);
    return check_exponent(c, x);
}

cad_status cadp_describe_fixed_back(cadp_call *c, const cad_fixed_args *x)
{
    cadp_write(c, "x", x->x, CADP_WIDE, 1, x->x.cols);
    cadp_read(c, "q", x->q, CADP_I64, 1, x->x.cols);
    return check_exponent(c, x);
}

cad_status cadp_describe_add_i64(cadp_call *c, const cad_fixed_args *x)
{
    cadp_update(c, "q", x->q, CADP_I64, 1, x->x.cols);
    cadp_read(c, "q2", x->x, CADP_I64, 1, x->x.cols);
    return CAD_OK;
}
