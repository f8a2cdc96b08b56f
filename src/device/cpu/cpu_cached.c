/* Attention of few new tokens to kept keys. A task is a token and a kv head with all query heads that share it: each key and value is read once, in runs of
 * KEYS, with the largest score so far and the sums at it. */
#include "cpu_math.h"
#include "cpu_priv.h"

#include <math.h>

enum { KEYS = 256 };

/* Of a task, in fp32: queries and sums [group, d], scores [group, KEYS], one row of keys or values, and for each head the largest score and the sum of exponentials. */
typedef struct task { const cad_attention_cached_args *x; int64_t d, group, kv, token; float *q, *o, *s, *row, *top, *sum; } task;

static int64_t own_floats(const cad_attention_cached_args *x)
{
    int64_t group = x->q_heads / x->kv_heads, d = cad_round_up(x->head_dim, 16);

    return group * (2 * d + KEYS + 32) + d;
}

int64_t cadp_cpu_attention_cached_work(const cad_device *d, const cad_attention_cached_args *x) { return d->threads * cad_round_up(own_floats(x) * (int64_t)sizeof(float), 64); }

static void score_run(const task *t, int64_t from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const float *key = cadp_get(t->x->k, from + i, t->kv * t->d, t->d, t->row);
        for (int64_t h = 0; h < t->group; h++) t->s[h * KEYS + i] = (float)t->x->scale * cadp_dot(t->q + h * t->d, key, t->d);
    }
    for (int64_t h = 0; t->x->softcap > 0 && h < t->group; h++) cadp_cap(t->s + h * KEYS, (float)t->x->softcap, n);
}

static void soften_run(const task *t, int64_t n)
{
    for (int64_t h = 0; h < t->group; h++) {
        float *s = t->s + h * KEYS, run = cadp_largest(s, n), top = run > t->top[h] ? run : t->top[h], shrink = t->top[h] == top ? 1 : expf(t->top[h] - top);
        t->sum[h] = t->sum[h] * shrink + cadp_exponentials(s, top, n);
        if (shrink != 1) cadp_scale_row(t->o + h * t->d, shrink, t->d);
        t->top[h] = top;
    }
}

static void add_run(const task *t, int64_t from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const float *value = cadp_get(t->x->v, from + i, t->kv * t->d, t->d, t->row);
        for (int64_t h = 0; h < t->group; h++) cadp_add_scaled(t->o + h * t->d, value, t->s[h * KEYS + i], t->d);
    }
}

static task task_of(const cad_attention_cached_args *x, int64_t i, float *room)
{
    task t = {.x = x, .d = x->head_dim, .group = x->q_heads / x->kv_heads, .kv = i % x->kv_heads, .token = i / x->kv_heads};
    int64_t wide = t.group * cad_round_up(t.d, 16);

    t.q = room;
    t.o = t.q + wide;
    t.s = t.o + wide;
    t.row = t.s + t.group * KEYS;
    t.top = t.row + cad_round_up(t.d, 16);
    t.sum = t.top + t.group;
    return t;
}

static int32_t sequence_of(const cad_packing *p, int64_t token)
{
    int32_t low = 0, high = p->sequences;

    while (high - low > 1) {
        int32_t mid = low + (high - low) / 2;
        if (p->starts[mid] > token)
            high = mid;
        else
            low = mid;
    }
    return low;
}

static void begin(const task *t)
{
    for (int64_t h = 0; h < t->group; h++) {
        float *to = t->q + h * t->d;
        const float *from = cadp_get(t->x->q, t->token, (t->kv * t->group + h) * t->d, t->d, to);
        if (from != to) memcpy(to, from, (size_t)t->d * sizeof *to);
        t->top[h] = -INFINITY;
        t->sum[h] = 0;
    }
    memset(t->o, 0, (size_t)(t->group * t->d) * sizeof *t->o);
}

static void attend(const void *args, int64_t i, void *work)
{
    const cad_attention_cached_args *x = args;
    task t = task_of(x, i, work);
    int32_t s = sequence_of(x->packing, t.token);
    const int32_t *place = (const int32_t *)x->place.data + s * x->place.ld;
    int64_t position = place[1] + t.token - x->packing->starts[s], from = x->window ? cad_max(0, position - x->window + 1) : 0;

    CAD_ASSERT(place[0] >= 0 && place[1] >= 0 && place[0] + position < x->k.rows);
    if (x->chunk) from = cad_max(from, position / x->chunk * x->chunk);
    begin(&t);
    for (; from <= position; from += KEYS) {
        int64_t n = cad_min(KEYS, position + 1 - from);
        score_run(&t, place[0] + from, n);
        soften_run(&t, n);
        add_run(&t, place[0] + from, n);
    }
    for (int64_t h = 0; h < t.group; h++) {
        cadp_scale_row(t.o + h * t.d, 1 / t.sum[h], t.d);
        cadp_put(x->o, t.token, (t.kv * t.group + h) * t.d, t.d, t.o + h * t.d);
    }
}

cad_status cadp_cpu_attention_cached(cad_device *d, const cad_attention_cached_args *x, void *work)
{
    cadp_cpu_each(d, x->packing->tokens * x->kv_heads, attend, x, work, cad_round_up(own_floats(x) * (int64_t)sizeof(float), 64));
    return CAD_OK;
}
