/* Embedding and pooling. */
#include "cpu_priv.h"

enum { ROW_COLS = 64, EMBED_TOKENS = 16 };

CAD_CLONES static void scale(float *to, const float *from, float by, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) to[i] = by * from[i];
}

/* Column `id` of a table that lies turned. */
static void embed_turned(const cad_embed_args *x, int64_t t)
{
    float one;

    for (int64_t j = 0; j < x->h.cols; j++) {
        float *h = (float *)x->h.data + t * x->h.ld + j, v = (float)x->scale * *cadp_get(x->table, j, x->packing->ids_dev[t], 1, &one);
        *h = x->accumulate ? *h + v : v;
    }
}

static void embed_tokens(const void *args, int64_t i, void *work)
{
    const cad_embed_args *x = args;
    float room[CADP_STRIP];

    (void)work;
    for (int64_t t = i * EMBED_TOKENS; t < cad_min((i + 1) * EMBED_TOKENS, x->packing->tokens); t++) {
        if (x->turned) embed_turned(x, t);
        for (int64_t j = 0; !x->turned && j < x->h.cols; j += CADP_STRIP) {
            int64_t n = cad_min(CADP_STRIP, x->h.cols - j);
            float *to = (float *)x->h.data + t * x->h.ld + j;
            const float *from = cadp_get(x->table, x->packing->ids_dev[t], j, n, room);
            if (x->accumulate) cadp_add_scaled(to, from, (float)x->scale, n);
            else scale(to, from, (float)x->scale, n);
        }
    }
}

cad_status cadp_cpu_embed_fwd(cad_device *d, const cad_embed_args *x, void *work)
{
    (void)work;
    cadp_cpu_each(d, cad_ceil_div(x->packing->tokens, EMBED_TOKENS), embed_tokens, x, NULL, 0);
    return CAD_OK;
}

/* One tile of columns takes all tokens in order: ids repeat. */
static void embed_columns(const void *args, int64_t i, void *work)
{
    const cad_embed_args *x = args;
    int64_t j = i * ROW_COLS, n = cad_min(ROW_COLS, x->h.cols - j);

    (void)work;
    for (int32_t t = 0; t < x->packing->tokens; t++) {
        int32_t id = x->packing->ids_dev[t];
        for (int64_t c = j; x->turned && id != x->skip && c < j + n; c++) ((float *)x->table.data)[c * x->table.ld + id] += (float)x->scale * ((const float *)x->h.data)[t * x->h.ld + c];
        if (!x->turned && id != x->skip) cadp_add_scaled((float *)x->table.data + id * x->table.ld + j, (const float *)x->h.data + t * x->h.ld + j, (float)x->scale, n);
    }
}

cad_status cadp_cpu_embed_bwd(cad_device *d, const cad_embed_args *x, void *work)
{
    (void)work;
    cadp_cpu_each(d, cad_ceil_div(x->h.cols, ROW_COLS), embed_columns, x, NULL, 0);
    return CAD_OK;
}

/* Tokens of sequence s that count. */
static void counted(const cad_pool_args *x, int32_t s, int32_t *from, int32_t *to)
{
    *from = x->packing->starts[s];
    *to = x->packing->starts[s + 1];
    if (x->how == CAD_POOLING_LAST) *from = *to - 1;
    if (x->how == CAD_POOLING_FIRST) *to = *from + 1;
}

static void pool_sequence(const void *args, int64_t i, void *work)
{
    const cad_pool_args *x = args;
    float room[CADP_STRIP], sum[CADP_STRIP];
    int32_t from, to;

    (void)work;
    counted(x, (int32_t)i, &from, &to);
    for (int64_t j = 0; j < x->x.cols; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, x->x.cols - j);
        memset(sum, 0, (size_t)n * sizeof *sum);
        for (int32_t t = from; t < to; t++) cadp_add_scaled(sum, cadp_get(x->x, t, j, n, room), 1, n);
        scale(sum, sum, 1 / (float)(to - from), n);
        cadp_put(x->y, i, j, n, sum);
    }
}

cad_status cadp_cpu_pool_fwd(cad_device *d, const cad_pool_args *x, void *work)
{
    (void)work;
    cadp_cpu_each(d, x->packing->sequences, pool_sequence, x, NULL, 0);
    return CAD_OK;
}

static void spread_sequence(const void *args, int64_t i, void *work)
{
    const cad_pool_args *x = args;
    const int32_t *starts = x->packing->starts;
    float room[CADP_STRIP], part[CADP_STRIP];
    static const float nothing[CADP_STRIP];
    int32_t from, to;

    (void)work;
    counted(x, (int32_t)i, &from, &to);
    for (int64_t j = 0; j < x->x.cols; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, x->x.cols - j);
        scale(part, cadp_get(x->y, i, j, n, room), 1 / (float)(to - from), n);
        for (int32_t t = starts[i]; t < starts[i + 1]; t++) cadp_put(x->x, t, j, n, t >= from && t < to ? part : nothing);
    }
}

cad_status cadp_cpu_pool_bwd(cad_device *d, const cad_pool_args *x, void *work)
{
    (void)work;
    cadp_cpu_each(d, x->packing->sequences, spread_sequence, x, NULL, 0);
    return CAD_OK;
}
