/* Attention of new tokens to the keys kept of what came before: a warp takes a token and head, lanes take keys, then columns. */
#include "cuda_packing.h"

enum { CACHED_WARPS = 4, CACHED_THREADS = 32 * CACHED_WARPS };

typedef struct kept_past { cad_tensor q, o, k, v, place; const int32_t *starts; int sequences, head, heads, group; int64_t window, chunk; float scale, softcap; } kept_past;

/* The first position that a query at `position` sees. */
ON_DEVICE int64_t first_seen(const kept_past &p, int64_t position)
{
    int64_t from = p.window && position >= p.window ? position - p.window + 1 : 0;

    return p.chunk && position / p.chunk * p.chunk > from ? position / p.chunk * p.chunk : from;
}

template <class T> ON_DEVICE float score(const kept_past &p, const float *q, const T *k)
{
    float sum = 0;

    for (int c = 0; c < p.head; c++) sum += q[c] * get(k + c);
    return p.softcap > 0 ? p.softcap * tanhf(sum * p.scale / p.softcap) : sum * p.scale;
}

template <class T> KERNEL(CACHED_THREADS, 4) attend_to_past(kept_past p)
{
    SHARED(float, room);
    int64_t index = (int64_t)here_block().x * CACHED_WARPS + here_warp(), tokens = p.starts[p.sequences];
    float *q = room + here_warp() * (2 * p.head + 32), *o = q + p.head, *weight = o + p.head, top = -INFINITY, sum = 0;

    if (index >= tokens * p.heads) return;
    int64_t token = index / p.heads;
    int head = (int)(index % p.heads), kv = head / p.group * p.head, sequence = sequence_of(p.starts, p.sequences, token);
    int64_t first = *at<int32_t>(p.place, sequence, 0), position = *at<int32_t>(p.place, sequence, 1) + token - p.starts[sequence];
    for (int c = here_lane(); c < p.head; c += 32) q[c] = get(at<T>(p.q, token, head * p.head + c)), o[c] = 0;
    warp_barrier();
    for (int64_t key = first_seen(p, position); key <= position; key += 32) {
        int64_t mine = key + here_lane();
        int count = position + 1 - key < 32 ? (int)(position + 1 - key) : 32;
        float s = mine <= position ? score(p, q, at<T>(p.k, first + mine, kv)) : -INFINITY, high = fmaxf(top, warp_max(s)), fall = expf(top - high);
        s = expf(s - high);
        sum = sum * fall + warp_sum(s);
        top = high;
        weight[here_lane()] = s;
        warp_barrier();
        for (int c = here_lane(); c < p.head; c += 32) {
            float v = o[c] * fall;
            for (int i = 0; i < count; i++) v += weight[i] * get(at<T>(p.v, first + key + i, kv + c));
            o[c] = v;
        }
        warp_barrier();
    }
    for (int c = here_lane(); c < p.head; c += 32) put(at<T>(p.o, token, head * p.head + c), o[c] / sum);
}

extern "C" cad_status GRID(attention_cached)(cad_device *d, const cad_attention_cached_args *x, void *work)
{
    const cad_packing *k = x->packing;
    kept_past p = {x->q, x->o, x->k, x->v, x->place, k->starts_dev, (int)k->sequences, (int)x->head_dim, (int)x->q_heads, (int)(x->q_heads / x->kv_heads), x->window, x->chunk,
                   (float)x->scale, (float)x->softcap};

    (void)work;
    if (!k->tokens) return CAD_OK;
    WITH_TYPE(x->q.dtype, T, return launch(stream_of(d), "attention_cached", attend_to_past<T>, dim(cad_ceil_div(k->tokens * x->q_heads, CACHED_WARPS), 1, 1), CACHED_THREADS,
                                           CACHED_WARPS * (2 * x->head_dim + 32) * (int64_t)sizeof(float), p));
}
