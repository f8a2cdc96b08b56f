#include "ref_priv.h"

#include <math.h>

/* The query of one token and head: its keys are rows [from, to), its own the last of them. */
typedef struct query { const cad_attention_cached_args *x; int64_t token, head, from, to; } query;

static int64_t first_seen(const cad_attention_cached_args *x, int64_t position)
{
    int64_t from = x->window ? cad_max(0, position - x->window + 1) : 0;

    return x->chunk ? cad_max(from, position / x->chunk * x->chunk) : from;
}

static double score(const query *q, int64_t row)
{
    const cad_attention_cached_args *x = q->x;
    int64_t d = x->head_dim, kv = q->head / (x->q_heads / x->kv_heads);
    double s = 0;

    for (int64_t c = 0; c < d; c++) s += cadp_load(x->q, q->token, q->head * d + c) * cadp_load(x->k, row, kv * d + c);
    s *= x->scale;
    return x->softcap > 0 ? x->softcap * tanh(s / x->softcap) : s;
}

static void attend(const query *q)
{
    const cad_attention_cached_args *x = q->x;
    int64_t d = x->head_dim, kv = q->head / (x->q_heads / x->kv_heads);
    double top = -INFINITY, sum = 0;

    for (int64_t r = q->from; r < q->to; r++) top = fmax(top, score(q, r));
    for (int64_t r = q->from; r < q->to; r++) sum += exp(score(q, r) - top);
    for (int64_t c = 0; c < d; c++) {
        double o = 0;
        for (int64_t r = q->from; r < q->to; r++) o += exp(score(q, r) - top) / sum * cadp_load(x->v, r, kv * d + c);
        cadp_store(x->o, q->token, q->head * d + c, o);
    }
}

cad_status cadp_ref_attention_cached(cad_device *d, const cad_attention_cached_args *x, void *work)
{
    const cad_packing *p = x->packing;

    (void)d, (void)work;
    for (int32_t s = 0; s < p->sequences; s++) {
        const int32_t *place = (const int32_t *)x->place.data + s * x->place.ld;
        for (int64_t t = p->starts[s]; t < p->starts[s + 1]; t++) {
            int64_t position = place[1] + t - p->starts[s];
            CAD_ASSERT(place[0] >= 0 && place[1] >= 0 && place[0] + position < x->k.rows);
            for (int64_t h = 0; h < x->q_heads; h++) attend(&(query){x, t, h, place[0] + first_seen(x, position), place[0] + position + 1});
        }
    }
    return CAD_OK;
}
