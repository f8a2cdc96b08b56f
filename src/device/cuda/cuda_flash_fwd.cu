/* Forward: a block takes QUERIES queries of a head and walks over the keys they see, keeping the largest score and the sum so far. */
#include "cuda_flash.h"

/* Scores of one warp's sixteen rows become probabilities times 2^-top; o and the sums are scaled where top rose. */
template <int NT, int DT> ON_DEVICE void soften(const flash &f, float s[NT][4], float o[DT][4], float top[2], float sum[2], int query, int key, int n, bool whole)
{
    float slope, rise[2], more[2] = {0, 0}, high[2] = {top[0], top[1]};
    int row = query + here_lane() / 4, col = key + 2 * (here_lane() % 4);

#pragma unroll
    for (int t = 0; t < NT; t++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            s[t][i] = exponent_of(f, s[t][i], &slope);
            if (!whole && !sees(f, row + 8 * (i / 2), col + 8 * t + i % 2, n)) s[t][i] = -INFINITY;
            high[i / 2] = fmaxf(high[i / 2], s[t][i]);
        }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        high[h] = quad_max(high[h]);
        rise[h] = high[h] > -INFINITY ? two_to(top[h] - high[h]) : 1;
        top[h] = high[h];
        high[h] = high[h] > -INFINITY ? high[h] : 0; /* nothing seen so far: probabilities are 2^-infinity */
    }
#pragma unroll
    for (int t = 0; t < NT; t++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            s[t][i] = two_to(s[t][i] - high[i / 2]);
            more[i / 2] += s[t][i];
        }
#pragma unroll
    for (int h = 0; h < 2; h++) sum[h] = sum[h] * rise[h] + more[h];
#pragma unroll
    for (int t = 0; t < DT; t++)
#pragma unroll
        for (int i = 0; i < 4; i++) o[t][i] *= rise[i / 2];
}

template <int D, int MT, int KEYS> KERNEL(FLASH_THREADS, 1) attend(flash f)
{
    enum { QUERIES = 64 * MT, LD = D + 8, NT = KEYS / 8, DT = D / 8 };
    SHARED(bf16, q);
    bf16 *k = q + QUERIES * LD, *v = k + KEYS * LD, *mine = q + here_warp() * 16 * MT * LD;
    int head = here_block().y, start = f.starts[here_block().z], n = f.starts[here_block().z + 1] - start;
    int first = (here_blocks().x - 1 - here_block().x) * QUERIES, own = first + here_warp() * 16 * MT; /* the longest walks begin first */
    const bf16 *keys = f.k + start * f.ldk + head / f.group * D, *values = f.v + start * f.ldv + head / f.group * D;
    float o[MT][DT][4] = {}, top[MT][2], sum[MT][2] = {};
    int from = first_key(f, first) / KEYS * KEYS, to = f.causal && first + QUERIES < n ? first + QUERIES : n;

    if (first >= n) return;
    for (int m = 0; m < MT; m++) top[m][0] = top[m][1] = -INFINITY;
    fetch<D, QUERIES>(q, f.q + start * f.ldq + head * D, f.ldq, first, n, f.wide);
    fetch<D, KEYS>(k, keys, f.ldk, from, n, f.wide);
    copy_commit();
    for (int key = from; key < to; key += KEYS) {
        float s[MT][NT][4] = {};
        copy_wait<0>();
        block_barrier();
        fetch<D, KEYS>(v, values, f.ldv, key, n, f.wide);
        copy_commit();
        add_scores<D, MT, NT>(s, mine, k);
        copy_wait<0>();
        block_barrier();
        if (key + KEYS < to) fetch<D, KEYS>(k, keys, f.ldk, key + KEYS, n, f.wide);
        copy_commit();
#pragma unroll
        for (int m = 0; m < MT; m++) {
            int query = own + 16 * m;
            bool whole = key + KEYS <= n && key >= first_key(f, query + 15) && key + KEYS <= behind_key(f, query, n);
            soften<NT, DT>(f, s[m], o[m], top[m], sum[m], query, key, n, whole);
        }
        add_weighted<LD, MT, NT, DT>(o, s, v);
    }
    copy_wait<0>();
    block_barrier(); /* nobody reads q any more: its rows take the results */
#pragma unroll
    for (int m = 0; m < MT; m++) {
        int query = own + 16 * m, row = query + here_lane() / 4;
        for (int h = 0; h < 2; h++) {
            sum[m][h] = quad_sum(sum[m][h]);
            if (here_lane() % 4 == 0 && row + 8 * h < n) f.lse[(start + row + 8 * h) * f.ldlse + head] = top[m][h] * LOG_2 + logf(sum[m][h]);
        }
        put_rows<LD, DT>(mine + m * 16 * LD, o[m], 1 / sum[m][0], 1 / sum[m][1]);
        warp_barrier();
        store_rows<D, LD>(f.o + start * f.ldo + head * D, f.ldo, mine + m * 16 * LD, query, n, f.wide);
    }
}

template <int D, int MT, int KEYS> static cad_status run(cad_device *d, const cad_attention_args *x, const flash *f)
{
    int64_t tiles = cad_ceil_div(x->packing->longest, 64 * MT), bytes = (64 * MT + 2 * KEYS) * (D + 8) * (int64_t)sizeof(bf16);

    flash some = *f;

    for (int64_t from = 0; from < x->packing->sequences; from += MOST_ACROSS, some.starts += MOST_ACROSS)
        CAD_TRY(launch(stream_of(d), "attention_fwd", attend<D, MT, KEYS>, dim(tiles, x->q_heads, cad_min(MOST_ACROSS, x->packing->sequences - from)), FLASH_THREADS, bytes, some));
    return CAD_OK;
}

extern "C" bool GRID(flash_has)(const cad_attention_args *x)
{
    int64_t h = x->head_dim;

    return x->q.dtype == CAD_BF16 && !(x->dropout > 0) && (h == 64 || h == 80 || h == 96 || h == 128 || h == 256);
}

extern "C" cad_status GRID(flash_fwd)(cad_device *d, const cad_attention_args *x)
{
    flash f = {};

    f.q = (const bf16 *)x->q.data, f.k = (const bf16 *)x->k.data, f.v = (const bf16 *)x->v.data, f.o = (bf16 *)x->o.data, f.lse = (float *)x->lse.data;
    f.ldq = x->q.ld, f.ldk = x->k.ld, f.ldv = x->v.ld, f.ldo = x->o.ld, f.ldlse = x->lse.ld;
    f.starts = x->packing->starts_dev;
    f.group = (int)(x->q_heads / x->kv_heads), f.window = (int)cad_min(x->window, 1 << 30), f.scale = (float)x->scale, f.softcap = (float)x->softcap, f.causal = x->causal;
    f.wide = lies_wide(x->q) && lies_wide(x->k) && lies_wide(x->v) && lies_wide(x->o);
    switch (x->head_dim) {
    case 64: return run<64, 2, 64>(d, x, &f);
    case 80: return run<80, 2, 32>(d, x, &f);
    case 96: return run<96, 2, 32>(d, x, &f);
    case 128: return run<128, 2, 32>(d, x, &f);
    default: return run<256, 1, 32>(d, x, &f);
    }
}
