/* Backward, in two kernels that each compute the scores again, so that every gradient is summed by one block in one order: one for dq,
 * which walks over keys, and one for dk and dv, which walks over queries with scores turned (rows are keys). */
#include "cuda_flash.h"

/* Scores s become probabilities, and dp the gradient of the scores (before `scale`): p (dp - delta), through the cap. A query that sees a
 * single key has probability 1 whatever its score. */
ON_DEVICE void through_softmax(const flash &f, float *s, float *dp, float lse2, float delta, int query, int key, int n, bool whole)
{
    float slope, p = two_to(exponent_of(f, *s, &slope) - lse2);
    bool alone = behind_key(f, query, n) - first_key(f, query) == 1;

    if (!whole && !(query < n && sees(f, query, key, n))) p = 0;
    *s = p;
    *dp = alone ? 0 : p * (*dp - delta) * slope;
}

template <int D, int KEYS> KERNEL(FLASH_THREADS, 1) query_gradient(flash f)
{
    enum { QUERIES = 64, LD = D + 8, NT = KEYS / 8, DT = D / 8, STAGE = 2 * KEYS * LD };
    SHARED(bf16, q);
    bf16 *d_o = q + QUERIES * LD, *stages = d_o + QUERIES * LD;
    int head = here_block().y, start = f.starts[here_block().z], n = f.starts[here_block().z + 1] - start;
    int first = (here_blocks().x - 1 - here_block().x) * QUERIES, own = first + here_warp() * 16, row = own + here_lane() / 4;
    const bf16 *keys = f.k + start * f.ldk + head / f.group * D, *values = f.v + start * f.ldv + head / f.group * D;
    int from = first_key(f, first) / KEYS * KEYS, to = f.causal && first + QUERIES < n ? first + QUERIES : n, stage = 0;
    float dq[1][DT][4] = {}, lse2[2], delta[2];

    if (first >= n) return;
    for (int h = 0; h < 2; h++) {
        int64_t at = start + (row + 8 * h < n ? row + 8 * h : n - 1);
        lse2[h] = f.lse[at * f.ldlse + head] * LOG2_E;
        delta[h] = f.delta[at * f.lddelta + head];
    }
    fetch<D, QUERIES>(q, f.q + start * f.ldq + head * D, f.ldq, first, n, f.wide);
    fetch<D, QUERIES>(d_o, f.d_o + start * f.lddo + head * D, f.lddo, first, n, f.wide);
    fetch<D, KEYS>(stages, keys, f.ldk, from, n, f.wide);
    fetch<D, KEYS>(stages + KEYS * LD, values, f.ldv, from, n, f.wide);
    copy_commit();
    for (int key = from; key < to; key += KEYS, stage ^= 1) {
        const bf16 *k = stages + stage * STAGE, *v = k + KEYS * LD;
        bf16 *next = stages + (stage ^ 1) * STAGE;
        bool whole = own + 15 < n && key + KEYS <= n && key >= first_key(f, own + 15) && key + KEYS <= behind_key(f, own, n);
        float s[1][NT][4] = {}, dp[1][NT][4] = {};
        if (key + KEYS < to) {
            fetch<D, KEYS>(next, keys, f.ldk, key + KEYS, n, f.wide);
            fetch<D, KEYS>(next + KEYS * LD, values, f.ldv, key + KEYS, n, f.wide);
        }
        copy_commit();
        copy_wait<1>();
        block_barrier();
        add_scores<D, 1, NT>(s, q + here_warp() * 16 * LD, k);
        add_scores<D, 1, NT>(dp, d_o + here_warp() * 16 * LD, v);
#pragma unroll
        for (int t = 0; t < NT; t++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                through_softmax(f, &s[0][t][i], &dp[0][t][i], lse2[i / 2], delta[i / 2], row + 8 * (i / 2), key + 8 * t + 2 * (here_lane() % 4) + i % 2, n, whole);
        add_weighted<LD, 1, NT, DT>(dq, dp, k);
        block_barrier(); /* this stage may be overwritten */
    }
    copy_wait<0>();
    put_rows<LD, DT>(q + here_warp() * 16 * LD, dq[0], f.scale, f.scale);
    warp_barrier();
    store_rows<D, LD>(f.dq + start * f.lddq + head * D, f.lddq, q + here_warp() * 16 * LD, own, n, f.wide);
}

/* Queries [first, first + QUERIES) of a head and their numbers, on their way to a stage. */
template <int D, int QUERIES> ON_DEVICE void fetch_queries(const flash &f, bf16 *stage, int head, int start, int first, int n)
{
    float *lse = (float *)(stage + 2 * QUERIES * (D + 8)), *delta = lse + QUERIES;
    int at = first + here_thread();

    fetch<D, QUERIES>(stage, f.q + start * f.ldq + head * D, f.ldq, first, n, f.wide);
    fetch<D, QUERIES>(stage + QUERIES * (D + 8), f.d_o + start * f.lddo + head * D, f.lddo, first, n, f.wide);
    if (here_thread() >= QUERIES) return;
    copy4(lse + here_thread(), f.lse + (int64_t)(start + (at < n ? at : 0)) * f.ldlse + head, at < n);
    copy4(delta + here_thread(), f.delta + (int64_t)(start + (at < n ? at : 0)) * f.lddelta + head, at < n);
}

/* WIDTH columns of dk and dv; a head of 256 has too many for one block's registers. */
template <int D, int WIDTH, int QUERIES> KERNEL(FLASH_THREADS, 1) key_gradient(flash f)
{
    enum { KEYS = 64, LD = D + 8, NT = QUERIES / 8, DT = WIDTH / 8, STAGE = 2 * QUERIES * LD + 4 * QUERIES };
    SHARED(bf16, k);
    bf16 *v = k + KEYS * LD, *stages = v + KEYS * LD, *mine = k + here_warp() * 16 * LD;
    int kv = here_block().y, start = f.starts[here_block().z], n = f.starts[here_block().z + 1] - start;
    int first = here_block().x / (D / WIDTH) * KEYS, column = here_block().x % (D / WIDTH) * WIDTH, row = first + here_warp() * 16 + here_lane() / 4;
    int last = first + KEYS < n ? first + KEYS - 1 : n - 1, from = f.causal ? first / QUERIES * QUERIES : 0, to = f.window && last + f.window < n ? last + f.window : n;
    int across = (to - from + QUERIES - 1) / QUERIES;
    float dk[1][DT][4] = {}, dv[1][DT][4] = {};

    if (first >= n) return;
    fetch<D, KEYS>(k, f.k + start * f.ldk + kv * D, f.ldk, first, n, f.wide);
    fetch<D, KEYS>(v, f.v + start * f.ldv + kv * D, f.ldv, first, n, f.wide);
    fetch_queries<D, QUERIES>(f, stages, kv * f.group, start, from, n);
    copy_commit();
    for (int i = 0; i < across * f.group; i++) {
        const bf16 *q = stages + i % 2 * STAGE, *d_o = q + QUERIES * LD;
        const float *lse = (const float *)(d_o + QUERIES * LD), *delta = lse + QUERIES;
        int query = from + i % across * QUERIES, next = i + 1;
        bool whole = query + QUERIES <= n && first + KEYS <= n && first >= first_key(f, query + QUERIES - 1) && first + KEYS <= behind_key(f, query, n);
        float s[1][NT][4] = {}, dp[1][NT][4] = {};
        if (next < across * f.group) fetch_queries<D, QUERIES>(f, stages + next % 2 * STAGE, kv * f.group + next / across, start, from + next % across * QUERIES, n);
        copy_commit();
        copy_wait<1>();
        block_barrier();
        add_scores<D, 1, NT>(s, mine, q);
        add_scores<D, 1, NT>(dp, v + here_warp() * 16 * LD, d_o);
#pragma unroll
        for (int t = 0; t < NT; t++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int c = 8 * t + 2 * (here_lane() % 4) + e % 2;
                through_softmax(f, &s[0][t][e], &dp[0][t][e], lse[c] * LOG2_E, delta[c], query + c, row + 8 * (e / 2), n, whole);
            }
        add_weighted<LD, 1, NT, DT>(dv, s, d_o + column);
        add_weighted<LD, 1, NT, DT>(dk, dp, q + column);
        block_barrier();
    }
    copy_wait<0>();
    put_rows<LD, DT>(mine, dk[0], f.scale, f.scale);
    put_rows<LD, DT>(v + here_warp() * 16 * LD, dv[0], 1, 1);
    warp_barrier();
    store_rows<WIDTH, LD>(f.dk + start * f.lddk + kv * D + column, f.lddk, mine, first + here_warp() * 16, n, f.wide);
    store_rows<WIDTH, LD>(f.dv + start * f.lddv + kv * D + column, f.lddv, v + here_warp() * 16 * LD, first + here_warp() * 16, n, f.wide);
}

template <int D, int KEYS, int WIDTH, int QUERIES> static cad_status run(cad_device *d, const cad_attention_bwd_args *x, const flash *f)
{
    const cad_packing *p = x->f.packing;
    int64_t tiles = cad_ceil_div(p->longest, 64), row = (D + 8) * (int64_t)sizeof(bf16);

    flash some = *f;

    for (int64_t from = 0; from < p->sequences; from += MOST_ACROSS, some.starts += MOST_ACROSS) {
        int64_t n = cad_min(MOST_ACROSS, p->sequences - from);
        CAD_TRY(launch(stream_of(d), "attention_bwd, queries", query_gradient<D, KEYS>, dim(tiles, x->f.q_heads, n), FLASH_THREADS, (2 * 64 + 4 * KEYS) * row, some));
        CAD_TRY(launch(stream_of(d), "attention_bwd, keys", key_gradient<D, WIDTH, QUERIES>, dim(tiles * (D / WIDTH), x->f.kv_heads, n), FLASH_THREADS,
                       (2 * 64 + 4 * QUERIES) * row + 16 * QUERIES, some));
    }
    return CAD_OK;
}

extern "C" cad_status GRID(flash_bwd)(cad_device *d, const cad_attention_bwd_args *args, const float *delta)
{
    const cad_attention_args *x = &args->f;
    flash f = {};

    f.q = (const bf16 *)x->q.data, f.k = (const bf16 *)x->k.data, f.v = (const bf16 *)x->v.data, f.d_o = (const bf16 *)args->d_o.data;
    f.dq = (bf16 *)args->dq.data, f.dk = (bf16 *)args->dk.data, f.dv = (bf16 *)args->dv.data;
    f.lse = (float *)x->lse.data, f.delta = delta;
    f.ldq = x->q.ld, f.ldk = x->k.ld, f.ldv = x->v.ld, f.lddo = args->d_o.ld, f.lddq = args->dq.ld, f.lddk = args->dk.ld, f.lddv = args->dv.ld, f.ldlse = x->lse.ld, f.lddelta = x->q_heads;
    f.starts = x->packing->starts_dev;
    f.group = (int)(x->q_heads / x->kv_heads), f.window = (int)cad_min(x->window, 1 << 30), f.scale = (float)x->scale, f.softcap = (float)x->softcap, f.causal = x->causal;
    f.wide = lies_wide(x->q) && lies_wide(x->k) && lies_wide(x->v) && lies_wide(args->d_o) && lies_wide(args->dq) && lies_wide(args->dk) && lies_wide(args->dv);
    switch (x->head_dim) {
    case 64: return run<64, 64, 64, 64>(d, args, &f);
    case 80: return run<80, 64, 80, 64>(d, args, &f);
    case 96: return run<96, 64, 96, 64>(d, args, &f);
    case 128: return run<128, 64, 128, 32>(d, args, &f);
    default: return run<256, 32, 128, 32>(d, args, &f);
    }
}
