#include "ref_priv.h"

#include <math.h>

static int32_t *whole(cad_tensor t, int64_t i, int64_t j) { return (int32_t *)t.data + i * t.ld + j; }

cad_status cadp_ref_gather(cad_device *d, const cad_gather_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t i = 0; i < x->y.rows; i++)
        for (int64_t c = 0; c < x->y.cols; c++) {
            double sum = x->accumulate ? cadp_load(x->y, i, c) : 0;
            for (int64_t j = 0; j < x->index.cols; j++) {
                int32_t from = *whole(x->index, i, j);
                if (from >= x->x.rows) return cad_fail(CAD_EINTERNAL, "gather: expected rows below %lld, found %d", (long long)x->x.rows, from);
                if (from >= 0) sum += (cad_some(x->scale) ? cadp_load(x->scale, i, j) : 1) * cadp_load(x->x, from, c);
            }
            cadp_store(x->y, i, c, sum);
        }
    return CAD_OK;
}

/* NaN is below all, so that every row has its k experts. */
static double logit_of(const cad_route_args *x, int64_t i, int64_t e)
{
    double v = cadp_load(x->logits, i, e);

    return isnan(v) ? -INFINITY : v;
}

/* Expert e of row i is chosen when fewer than k are before it. */
static bool chosen(const cad_route_args *x, int64_t i, int64_t e)
{
    double mine = logit_of(x, i, e);
    int64_t before = 0;

    for (int64_t o = 0; o < x->logits.cols; o++) before += logit_of(x, i, o) > mine || (o < e && logit_of(x, i, o) == mine);
    return before < x->slot.cols;
}

cad_status cadp_ref_route_fwd(cad_device *d, const cad_route_args *x, void *work)
{
    int32_t visit = 0;

    (void)d, (void)work;
    for (int64_t i = 0; i < x->slot.rows; i++)
        for (int64_t j = 0; j < x->slot.cols; j++) *whole(x->slot, i, j) = -1;
    for (int64_t e = 0; e < x->logits.cols; e++) {
        *whole(x->starts, 0, e) = visit;
        for (int64_t i = 0; i < x->logits.rows; i++) {
            int64_t j = 0;
            if (!chosen(x, i, e)) continue;
            while (*whole(x->slot, i, j) >= 0) j++;
            *whole(x->slot, i, j) = visit;
            *whole(x->token, visit, 0) = (int32_t)i;
            cadp_store(x->score, visit++, 0, 1 / (1 + exp(-logit_of(x, i, e))));
        }
    }
    *whole(x->starts, 0, x->logits.cols) = visit;
    return CAD_OK;
}

static int64_t expert_of(const cad_route_bwd_args *x, int32_t visit)
{
    int64_t e = 0;

    while (*whole(x->starts, 0, e + 1) <= visit) e++;
    return e;
}

cad_status cadp_ref_route_bwd(cad_device *d, const cad_route_bwd_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t i = 0; i < x->x.rows; i++) {
        for (int64_t e = 0; e < x->dlogits.cols; e++) cadp_store(x->dlogits, i, e, 0);
        for (int64_t j = 0; j < x->slot.cols; j++) {
            int32_t visit = *whole(x->slot, i, j);
            double s = cadp_load(x->score, visit, 0), ds = 0;
            for (int64_t c = 0; c < x->x.cols; c++) {
                ds += cadp_load(x->dv, visit, c) * cadp_load(x->x, i, c);
                cadp_store(x->dx, i, c, cadp_load(x->dx, i, c) + s * cadp_load(x->dv, visit, c));
            }
            cadp_store(x->dlogits, i, expert_of(x, visit), ds * s * (1 - s));
        }
    }
    return CAD_OK;
}

cad_status cadp_ref_matmul_groups(cad_device *d, const cad_groups_args *x, void *work)
{
    int64_t k = x->a.cols, each = (x->codes.code ? x->codes.rows : x->b.rows) / x->groups;

    for (int64_t g = 0; g < x->groups; g++) {
        int64_t from = *whole(x->starts, 0, g), n = *whole(x->starts, 0, g + 1) - from;
        cad_matmul_args one = {.a = cad_slice(x->a, from, n), .ta = x->ta, .tb = x->tb, .alpha = 1, .beta = x->accumulate};
        one.c = x->ta ? cad_slice(x->c, g * k, k) : cad_slice(x->c, from, n);
        if (x->codes.code) one.codes = cad_coded_rows(x->codes, g * each, each);
        else one.b = x->ta ? cad_slice(x->b, from, n) : cad_slice(x->b, g * each, each);
        CAD_TRY(cadp_ref_matmul(d, &one, work));
    }
    return CAD_OK;
}
