/* Attention: by tensor cores where there are kernels for the dtype and head size (cuda_flash_*.cu), else by these: a warp to a query
 * (or a key) and head, any head size, fp32 throughout, scores never kept. */
#include "cuda_packing.h"
#include "cuda_flash.h"
#include "cuda_random.h"

enum { WARPS = 4, PLAIN_THREADS = 32 * WARPS };

typedef struct plain { cad_tensor q, k, v, o, lse, d_o, dq, dk, dv, delta; const int32_t *starts; int sequences, head, heads, group, window, quads; float scale, softcap; bool causal, drops; mask keep; } plain; /* quads: of keys, of the longest sequence */

/* What a warp works on: row `token` of sequence [start, start + n), its place in it, and a head. */
typedef struct task { int64_t token; int start, n, place, head; } task;

ON_DEVICE bool find_task(const plain &p, int heads, task *t)
{
    int64_t index = (int64_t)here_block().x * WARPS + here_warp(), tokens = p.starts[p.sequences];
    int sequence;

    if (index >= tokens * heads) return false;
    t->token = index / heads;
    t->head = (int)(index % heads);
    sequence = sequence_of(p.starts, p.sequences, t->token);
    t->start = p.starts[sequence];
    t->n = p.starts[sequence + 1] - t->start;
    t->place = (int)(t->token - t->start);
    return true;
}

ON_DEVICE int first_of(const plain &p, int query) { return p.window && query >= p.window ? query - p.window + 1 : 0; }
ON_DEVICE int behind_of(const plain &p, int query, int n) { return p.causal ? query + 1 : n; }

/* A lane's sum over a row in shared memory and one in global memory. */
template <class T> ON_DEVICE float dot(const float *a, const T *b, int n)
{
    float sum = 0;

    for (int c = 0; c < n; c++) sum += a[c] * get(b + c);
    return sum;
}
template <class T> ON_DEVICE void read_row(float *to, const T *from, int n)
{
    for (int c = here_lane(); c < n; c += 32) to[c] = get(from + c);
}
ON_DEVICE float capped(const plain &p, float product) { return p.softcap > 0 ? p.softcap * tanhf(product * p.scale / p.softcap) : product * p.scale; }

/* What dropout makes of the probability of a token and head for a key of its sequence. */
ON_DEVICE float kept(const plain &p, int64_t token, int head, int key)
{
    uint32_t words[4], word;

    if (!p.drops) return 1;
    draw(words, p.keep.seed, p.keep.site, p.keep.index, ((uint32_t)token * (uint32_t)p.heads + (uint32_t)head) * (uint32_t)p.quads + (uint32_t)key / 4);
    word = key & 2 ? (key & 1 ? words[3] : words[2]) : (key & 1 ? words[1] : words[0]);
    return word >= p.keep.limit ? p.keep.by : 0;
}

template <class T> KERNEL(PLAIN_THREADS, 4) attend_plainly(plain p)
{
    SHARED(float, room);
    int width = p.head;
    float *q = room + here_warp() * (2 * width + 32), *o = q + width, *weight = o + width, top = -INFINITY, sum = 0;
    task t;

    if (!find_task(p, p.heads, &t)) return;
    int kv = t.head / p.group * width, from = first_of(p, t.place), to = behind_of(p, t.place, t.n);
    read_row(q, at<T>(p.q, t.token, t.head * width), width);
    for (int c = here_lane(); c < width; c += 32) o[c] = 0;
    warp_barrier();
    for (int key = from; key < to; key += 32) {
        int mine = key + here_lane(), count = to - key < 32 ? to - key : 32;
        float s = mine < to ? capped(p, dot(q, at<T>(p.k, t.start + mine, kv), width)) : -INFINITY, high = fmaxf(top, warp_max(s)), fall = expf(top - high);
        s = expf(s - high);
        sum = sum * fall + warp_sum(s);
        top = high;
        weight[here_lane()] = mine < to ? s * kept(p, t.token, t.head, mine) : 0;
        warp_barrier();
        for (int c = here_lane(); c < width; c += 32) {
            float v = o[c] * fall;
            for (int i = 0; i < count; i++) v += weight[i] * get(at<T>(p.v, t.start + key + i, kv + c));
            o[c] = v;
        }
        warp_barrier();
    }
    for (int c = here_lane(); c < width; c += 32) put(at<T>(p.o, t.token, t.head * width + c), o[c] / sum);
    if (here_lane() == 0) *at<float>(p.lse, t.token, t.head) = top + logf(sum);
}

/* delta = sum of o d_o over a head. */
template <class T> KERNEL(PLAIN_THREADS, 8) find_delta(plain p)
{
    float sum = 0;
    task t;

    if (!find_task(p, p.heads, &t)) return;
    for (int c = here_lane(); c < p.head; c += 32) sum += get(at<T>(p.o, t.token, t.head * p.head + c)) * get(at<T>(p.d_o, t.token, t.head * p.head + c));
    sum = warp_sum(sum);
    if (here_lane() == 0) *at<float>(p.delta, t.token, t.head) = sum;
}

/* What is left of the probability of a query and key, and the gradient of their score before `scale`; slope: d_o v of the pair; keep: of dropout. */
ON_DEVICE float through(const plain &p, float product, float slope, float keep, float lse, float delta, bool alone, float *weight)
{
    float s = capped(p, product), cap = p.softcap > 0 ? 1 - s / p.softcap * (s / p.softcap) : 1, probability = expf(s - lse);

    *weight = probability * keep;
    return alone ? 0 : probability * (keep * slope - delta) * cap * p.scale;
}

template <class T> KERNEL(PLAIN_THREADS, 4) query_gradient_plainly(plain p)
{
    SHARED(float, room);
    int width = p.head;
    float *q = room + here_warp() * (3 * width + 32), *d_o = q + width, *dq = d_o + width, *slope = dq + width;
    task t;

    if (!find_task(p, p.heads, &t)) return;
    int kv = t.head / p.group * width, from = first_of(p, t.place), to = behind_of(p, t.place, t.n);
    float lse = *at<float>(p.lse, t.token, t.head), delta = *at<float>(p.delta, t.token, t.head), weight;
    read_row(q, at<T>(p.q, t.token, t.head * width), width);
    read_row(d_o, at<T>(p.d_o, t.token, t.head * width), width);
    for (int c = here_lane(); c < width; c += 32) dq[c] = 0;
    warp_barrier();
    for (int key = from; key < to; key += 32) {
        int mine = key + here_lane(), count = to - key < 32 ? to - key : 32;
        if (mine < to)
            slope[here_lane()] = through(p, dot(q, at<T>(p.k, t.start + mine, kv), width), dot(d_o, at<T>(p.v, t.start + mine, kv), width), kept(p, t.token, t.head, mine), lse, delta, to - from == 1, &weight);
        warp_barrier();
        for (int c = here_lane(); c < width; c += 32)
            for (int i = 0; i < count; i++) dq[c] += slope[i] * get(at<T>(p.k, t.start + key + i, kv + c));
        warp_barrier();
    }
    for (int c = here_lane(); c < width; c += 32) put(at<T>(p.dq, t.token, t.head * width + c), dq[c]);
}

/* Queries [query, query + 32) of one head to the gradients of a key; `sees`: those of this lane that see it. */
template <class T> ON_DEVICE void add_queries(const plain &p, const task &t, int head, int query, int to, float *k)
{
    int width = p.head, mine = query + here_lane(), count = to - query < 32 ? to - query : 32;
    float *v = k + width, *dk = v + width, *dv = dk + width, *weight = dv + width, *slope = weight + 32, w = 0, s = 0;
    int64_t row = t.start + mine;

    if (mine < to && t.place >= first_of(p, mine) && t.place < behind_of(p, mine, t.n))
        s = through(p, dot(k, at<T>(p.q, row, head * width), width), dot(v, at<T>(p.d_o, row, head * width), width), kept(p, row, head, t.place), *at<float>(p.lse, row, head), *at<float>(p.delta, row, head),
                    behind_of(p, mine, t.n) - first_of(p, mine) == 1, &w);
    weight[here_lane()] = w;
    slope[here_lane()] = s;
    warp_barrier();
    for (int c = here_lane(); c < width; c += 32)
        for (int i = 0; i < count; i++) {
            dk[c] += slope[i] * get(at<T>(p.q, t.start + query + i, head * width + c));
            dv[c] += weight[i] * get(at<T>(p.d_o, t.start + query + i, head * width + c));
        }
    warp_barrier();
}

template <class T> KERNEL(PLAIN_THREADS, 4) key_gradient_plainly(plain p)
{
    SHARED(float, room);
    int width = p.head;
    float *k = room + here_warp() * (4 * width + 64), *v = k + width, *dk = v + width, *dv = dk + width;
    task t;

    if (!find_task(p, p.heads / p.group, &t)) return;
    int from = p.causal ? t.place : 0, to = p.window && t.n - t.place > p.window ? t.place + p.window : t.n;
    read_row(k, at<T>(p.k, t.token, t.head * width), width);
    read_row(v, at<T>(p.v, t.token, t.head * width), width);
    for (int c = here_lane(); c < width; c += 32) dk[c] = dv[c] = 0;
    warp_barrier();
    for (int head = t.head * p.group; head < (t.head + 1) * p.group; head++)
        for (int query = from; query < to; query += 32) add_queries<T>(p, t, head, query, to, k);
    for (int c = here_lane(); c < width; c += 32) {
        put(at<T>(p.dk, t.token, t.head * width + c), dk[c]);
        put(at<T>(p.dv, t.token, t.head * width + c), dv[c]);
    }
}

static plain plain_of(const cad_attention_args *x)
{
    plain p = {};

    p.q = x->q, p.k = x->k, p.v = x->v, p.o = x->o, p.lse = x->lse;
    p.starts = x->packing->starts_dev, p.sequences = x->packing->sequences;
    p.head = (int)x->head_dim, p.heads = (int)x->q_heads, p.group = (int)(x->q_heads / x->kv_heads), p.window = (int)cad_min(x->window, 1 << 30);
    p.scale = (float)x->scale, p.softcap = (float)x->softcap, p.causal = x->causal;
    p.drops = x->dropout > 0, p.quads = (int)cad_ceil_div(x->packing->longest, 4), p.keep = mask_of(x->dropout, x->seed, x->site, x->index);
    return p;
}

static cadp_dim tasks(const cad_attention_args *x, int64_t heads) { return dim(cad_ceil_div(x->packing->tokens * heads, WARPS), 1, 1); }
static int64_t rooms(const plain *p, int rows, int more) { return WARPS * ((int64_t)rows * p->head + more) * (int64_t)sizeof(float); }

extern "C" cad_status GRID(attention_fwd)(cad_device *d, const cad_attention_args *x, void *work)
{
    plain p = plain_of(x);

    (void)work;
    if (GRID(flash_has)(x)) return GRID(flash_fwd)(d, x);
    WITH_TYPE(x->q.dtype, T, return launch(stream_of(d), "attention_fwd", attend_plainly<T>, tasks(x, x->q_heads), PLAIN_THREADS, rooms(&p, 2, 32), p));
}

extern "C" int64_t GRID(attention_bwd_work)(const cad_device *d, const cad_attention_bwd_args *x)
{
    (void)d;
    return x->f.packing->tokens * x->f.q_heads * (int64_t)sizeof(float);
}

static cad_status go_back_plainly(cad_device *d, const cad_attention_args *x, const plain *p)
{
    WITH_TYPE(x->q.dtype, T, CAD_TRY(launch(stream_of(d), "attention_bwd, queries", query_gradient_plainly<T>, tasks(x, x->q_heads), PLAIN_THREADS, rooms(p, 3, 32), *p)));
    WITH_TYPE(x->q.dtype, T, return launch(stream_of(d), "attention_bwd, keys", key_gradient_plainly<T>, tasks(x, x->kv_heads), PLAIN_THREADS, rooms(p, 4, 64), *p));
}

extern "C" cad_status GRID(attention_bwd)(cad_device *d, const cad_attention_bwd_args *x, void *work)
{
    plain p = plain_of(&x->f);

    p.d_o = x->d_o, p.dq = x->dq, p.dk = x->dk, p.dv = x->dv;
    p.delta = cad_view(work, CAD_F32, x->f.packing->tokens, x->f.q_heads);
    WITH_TYPE(x->f.q.dtype, T, CAD_TRY(launch(stream_of(d), "attention_bwd, delta", find_delta<T>, tasks(&x->f, x->f.q_heads), PLAIN_THREADS, 0, p)));
    return GRID(flash_has)(&x->f) ? GRID(flash_bwd)(d, x, (const float *)work) : go_back_plainly(d, &x->f, &p);
}
