#include "cpu_priv.h"

enum { ROPE_TOKENS = 32 };

/* Elements j of the first and of the second half of a head. */
CAD_CLONES static void turn_halves(float *a, float *b, const float *cosine, const float *sine, float sign, int64_t n)
{
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        float s = sine[j] * sign, x = a[j], y = b[j];
        a[j] = x * cosine[j] - y * s;
        b[j] = y * cosine[j] + x * s;
    }
}

CAD_CLONES static void turn_pairs(float *a, const float *cosine, const float *sine, float sign, int64_t n)
{
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        float s = sine[j] * sign, x = a[2 * j], y = a[2 * j + 1];
        a[2 * j] = x * cosine[j] - y * s;
        a[2 * j + 1] = y * cosine[j] + x * s;
    }
}

static float *take(cad_tensor t, int64_t i, int64_t j, int64_t n, float *room)
{
    float *at = cadp_slot(t, i, j, room);

    (void)cadp_get(t, i, j, n, room);
    return at;
}

static void turn_head(const cad_rope_args *x, int64_t token, int64_t position, int64_t first)
{
    int64_t half = x->head_dim / 2;
    float low[CADP_STRIP], high[CADP_STRIP / 2], sign = x->inverse ? -1 : 1;

    for (int64_t j = 0; j < half; j += CADP_STRIP / 2) {
        int64_t n = cad_min(CADP_STRIP / 2, half - j), at = first + (x->pairs ? 2 * j : j), wide = x->pairs ? 2 * n : n;
        const float *cosine = (const float *)x->cosine.data + position * x->cosine.ld + j, *sine = (const float *)x->sine.data + position * x->sine.ld + j;
        float *a = take(x->x, token, at, wide, low), *b = x->pairs ? NULL : take(x->x, token, at + half, n, high);
        if (x->pairs)
            turn_pairs(a, cosine, sine, sign, n);
        else
            turn_halves(a, b, cosine, sine, sign, n);
        cadp_put(x->x, token, at, wide, a);
        if (b) cadp_put(x->x, token, at + half, n, b);
    }
}

/* The sequence that holds a token. */
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

static void turn_tokens(const void *args, int64_t i, void *work)
{
    const cad_rope_args *x = args;
    const cad_packing *p = x->packing;
    int32_t s = sequence_of(p, i * ROPE_TOKENS);

    (void)work;
    for (int64_t t = i * ROPE_TOKENS; t < cad_min((i + 1) * ROPE_TOKENS, p->tokens); t++) {
        if (t == p->starts[s + 1]) s++;
        for (int64_t first = 0; first < x->x.cols; first += x->head_dim) turn_head(x, t, t - p->starts[s], first);
    }
}

cad_status cadp_cpu_rope(cad_device *d, const cad_rope_args *x, void *work)
{
    (void)work;
    cadp_cpu_each(d, cad_ceil_div(x->packing->tokens, ROPE_TOKENS), turn_tokens, x, NULL, 0);
    return CAD_OK;
}
