#include "data_priv.h"

/* SeedSequence and PCG64 (XSL-RR) as numpy.random.default_rng, Generator.permutation and .integers use them. */

static uint32_t hash_word(uint32_t v, uint32_t *h, uint32_t multiplier)
{
    v ^= *h;
    *h *= multiplier;
    v *= *h;
    return v ^ v >> 16;
}

static uint32_t mix(uint32_t x, uint32_t y)
{
    uint32_t r = 0xca01f9ddu * x - 0x4973f715u * y;
    return r ^ r >> 16;
}

/* An int64 seed has at most two words of entropy, so the loop over words beyond the fourth is never needed. */
static void seed_pool(uint64_t seed, uint32_t pool[4])
{
    uint32_t h = 0x43b0d7e5u, words[4] = {(uint32_t)seed, (uint32_t)(seed >> 32), 0, 0};

    for (int i = 0; i < 4; i++) pool[i] = hash_word(words[i], &h, 0x931e8875u);
    for (int a = 0; a < 4; a++) {
        for (int b = 0; b < 4; b++)
            if (a != b) pool[b] = mix(pool[b], hash_word(pool[a], &h, 0x931e8875u));
    }
}

static void step(cadp_pcg *g)
{
    const cadp_u128 multiplier = (cadp_u128)0x2360ED051FC65DA4u << 64 | 0x4385DF649FCCF645u;
    g->state = g->state * multiplier + g->inc;
}

static uint64_t next64(cadp_pcg *g)
{
    uint64_t hi, lo, x;
    unsigned turn;

    step(g);
    hi = (uint64_t)(g->state >> 64);
    lo = (uint64_t)g->state;
    x = hi ^ lo;
    turn = (unsigned)(hi >> 58);
    return turn ? x >> turn | x << (64 - turn) : x;
}

/* Uniform in 0..most by masking and rejection (numpy's random_interval). */
static uint64_t interval(cadp_pcg *g, uint64_t most)
{
    uint64_t mask = ~(uint64_t)0 >> __builtin_clzll(most), v;

    do v = most > 0xffffffffu ? next64(g) & mask : cadp_pcg_next32(g) & mask;
    while (v > most);
    return v;
}

void cadp_pcg_seed(cadp_pcg *g, uint64_t seed)
{
    uint32_t pool[4], h = 0x8b51f9ddu, word[8];
    uint64_t s[4];

    seed_pool(seed, pool);
    for (int i = 0; i < 8; i++) word[i] = hash_word(pool[i % 4], &h, 0x58f38dedu);
    for (int i = 0; i < 4; i++) s[i] = word[2 * i] | (uint64_t)word[2 * i + 1] << 32;
    *g = (cadp_pcg){.inc = ((cadp_u128)s[2] << 64 | s[3]) << 1 | 1};
    step(g);
    g->state += (cadp_u128)s[0] << 64 | s[1];
    step(g);
}

uint32_t cadp_pcg_next32(cadp_pcg *g)
{
    uint64_t v;

    g->has_half = !g->has_half;
    if (!g->has_half) return g->half;
    v = next64(g);
    g->half = (uint32_t)(v >> 32);
    return (uint32_t)v;
}

uint32_t cadp_pcg_below(cadp_pcg *g, uint32_t n)
{
    uint64_t m;
    uint32_t reject = (uint32_t)-n % n;

    if (n == 1) return 0; /* numpy draws nothing here */
    do m = (uint64_t)cadp_pcg_next32(g) * n;
    while ((uint32_t)m < reject);
    return (uint32_t)(m >> 32);
}

void cadp_pcg_shuffle(cadp_pcg *g, int64_t *rows, int64_t n)
{
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)interval(g, (uint64_t)i), row = rows[i];
        rows[i] = rows[j];
        rows[j] = row;
    }
}

void cad_numpy_permutation(uint64_t seed, int64_t n, int64_t *out)
{
    cadp_pcg g;

    for (int64_t i = 0; i < n; i++) out[i] = i;
    cadp_pcg_seed(&g, seed);
    cadp_pcg_shuffle(&g, out, n);
}
