#include "ref_priv.h"

#include <math.h>

static cad_tensor element(const cad_embed_args *x, int32_t id, int64_t j) { return x->turned ? cad_columns(cad_slice(x->table, j, 1), id, 1) : cad_columns(cad_slice(x->table, id, 1), j, 1); }

cad_status cadp_ref_embed_fwd(cad_device *d, const cad_embed_args *x, void *work)
{
    (void)d, (void)work;
    for (int32_t t = 0; t < x->packing->tokens; t++)
        for (int64_t j = 0; j < x->h.cols; j++)
            cadp_store(x->h, t, j, x->scale * cadp_load(element(x, x->packing->ids_dev[t], j), 0, 0) + (x->accumulate ? cadp_load(x->h, t, j) : 0));
    return CAD_OK;
}

cad_status cadp_ref_embed_bwd(cad_device *d, const cad_embed_args *x, void *work)
{
    (void)d, (void)work;
    for (int32_t t = 0; t < x->packing->tokens; t++) {
        int32_t id = x->packing->ids_dev[t];
        for (int64_t j = 0; id != x->skip && j < x->h.cols; j++) cadp_store(element(x, id, j), 0, 0, cadp_load(element(x, id, j), 0, 0) + x->scale * cadp_load(x->h, t, j));
    }
    return CAD_OK;
}

/* The share that token t of [from, to) has in what its sequence is pooled to. */
static double share(cad_pooling how, int32_t t, int32_t from, int32_t to)
{
    switch (how) {
    case CAD_POOLING_LAST: return t == to - 1;
    case CAD_POOLING_MEAN: return 1.0 / (to - from);
    case CAD_POOLING_FIRST: return t == from;
    }
    CAD_ASSERT(!"a pooling");
    return 0;
}

cad_status cadp_ref_pool_fwd(cad_device *d, const cad_pool_args *x, void *work)
{
    const int32_t *starts = x->packing->starts;

    (void)d, (void)work;
    for (int32_t s = 0; s < x->packing->sequences; s++)
        for (int64_t j = 0; j < x->x.cols; j++) {
            double sum = 0;
            for (int32_t t = starts[s]; t < starts[s + 1]; t++) {
                double part = share(x->how, t, starts[s], starts[s + 1]);
                if (part > 0) sum += part * cadp_load(x->x, t, j);
            }
            cadp_store(x->y, s, j, sum);
        }
    return CAD_OK;
}

cad_status cadp_ref_pool_bwd(cad_device *d, const cad_pool_args *x, void *work)
{
    const int32_t *starts = x->packing->starts;

    (void)d, (void)work;
    for (int32_t s = 0; s < x->packing->sequences; s++)
        for (int32_t t = starts[s]; t < starts[s + 1]; t++) {
            double part = share(x->how, t, starts[s], starts[s + 1]);
            for (int64_t j = 0; j < x->x.cols; j++) cadp_store(x->x, t, j, part > 0 ? part * cadp_load(x->y, s, j) : 0);
        }
    return CAD_OK;
}

/* The logit after the cap, and the slope of the cap there. */
static double capped(const cad_xent_args *x, int64_t i, int64_t j)
{
    double z = cadp_load(x->logits, i, j);

    return x->softcap > 0 ? x->softcap * tanh(z / x->softcap) : z;
}

static double slope(const cad_xent_args *x, double z) { return x->softcap > 0 ? 1 - z / x->softcap * (z / x->softcap) : 1; }

static void xent_row(const cad_xent_args *x, int64_t i, int64_t label)
{
    double top = -INFINITY, sum = 0, lse;

    for (int64_t j = 0; j < x->logits.cols; j++) top = fmax(top, capped(x, i, j));
    for (int64_t j = 0; j < x->logits.cols; j++) sum += exp(capped(x, i, j) - top);
    lse = top + log(sum);
    cadp_store(x->nll, i, 0, lse - capped(x, i, label));
    for (int64_t j = 0; cad_some(x->dlogits) && j < x->logits.cols; j++) {
        double z = capped(x, i, j), p = exp(z - lse);
        cadp_store(x->dlogits, i, j, x->scale * cadp_load(x->weights, i, 0) * (p - (j == label)) * slope(x, z));
    }
}

cad_status cadp_ref_xent(cad_device *d, const cad_xent_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t i = 0; i < x->logits.rows; i++) {
        int32_t label = ((const int32_t *)x->labels.data)[i * x->labels.ld];
        if (label < 0 || label >= x->logits.cols)
            return cad_fail(CAD_EINTERNAL, "xent: expected labels below %lld, found %d in row %lld", (long long)x->logits.cols, label, (long long)i);
        xent_row(x, i, label);
    }
    return CAD_OK;
}

cad_status cadp_ref_axpby(cad_device *d, const cad_axpby_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t i = 0; i < x->x.rows; i++)
        for (int64_t j = 0; j < x->x.cols; j++)
            cadp_store(x->y, i, j, x->alpha * cadp_load(x->x, i, j) + (x->beta != 0 ? x->beta * cadp_load(x->y, i, j) : 0));
    return CAD_OK;
}

cad_status cadp_ref_sum_rows(cad_device *d, const cad_sum_rows_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t j = 0; j < x->x.cols; j++) {
        double sum = x->accumulate ? cadp_load(x->y, 0, j) : 0;
        for (int64_t i = 0; i < x->x.rows; i++) sum += cadp_load(x->x, i, j);
        cadp_store(x->y, 0, j, sum);
    }
    return CAD_OK;
}

cad_status cadp_ref_scale_cols(cad_device *d, const cad_scale_cols_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t i = 0; i < x->x.rows; i++)
        for (int64_t j = 0; j < x->x.cols; j++) {
            double y = cadp_load(x->x, i, j) * cadp_load(x->w, 0, j) + (cad_some(x->b) ? cadp_load(x->b, 0, j) : 0);
            cadp_store(x->y, i, j, y + (x->accumulate ? cadp_load(x->y, i, j) : 0));
        }
    return CAD_OK;
}

cad_status cadp_ref_dot_cols(cad_device *d, const cad_dot_cols_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t j = 0; j < x->x.cols; j++) {
        double sum = 0;
        for (int64_t i = 0; i < x->x.rows; i++) sum += cadp_load(x->x, i, j) * cadp_load(x->y, i, j);
        cadp_store(x->w, 0, j, sum);
    }
    return CAD_OK;
}

static bool kept(const cad_dropout_args *x, int64_t i, int64_t j)
{
    uint32_t words[4];
    uint64_t word = (uint64_t)i * (uint64_t)cad_ceil_div(x->x.cols, 4) + (uint64_t)j / 4;

    cad_rng_words(x->seed, CAD_RNG_DROPOUT, x->site, x->index << 32 | word, words);
    return (double)words[j % 4] >= x->p * 0x1p32;
}

cad_status cadp_ref_dropout(cad_device *d, const cad_dropout_args *x, void *work)
{
    (void)d, (void)work;
    for (int64_t i = 0; i < x->x.rows; i++)
        for (int64_t j = 0; j < x->x.cols; j++) {
            double y = kept(x, i, j) ? cadp_load(x->x, i, j) / (1 - x->p) : 0;
            cadp_store(x->y, i, j, y + (x->accumulate ? cadp_load(x->y, i, j) : 0));
        }
    return CAD_OK;
}
