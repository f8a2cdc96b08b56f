#include "data_priv.h"

/* MT19937 (Matsumoto and Nishimura) as torch's CPU generator uses it, and torch.randperm on top. */

static void refill(cad_mt *m)
{
    for (int i = 0; i < 624; i++) {
        uint32_t y = (m->state[i] & 0x80000000u) | (m->state[(i + 1) % 624] & 0x7fffffffu);
        m->state[i] = m->state[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    m->at = 0;
}

void cad_mt_seed(cad_mt *m, uint64_t seed)
{
    m->state[0] = (uint32_t)seed; /* torch ignores the higher bits */
    for (int i = 1; i < 624; i++) m->state[i] = 1812433253u * (m->state[i - 1] ^ m->state[i - 1] >> 30) + (uint32_t)i;
    m->at = 624;
}

uint32_t cad_mt_next(cad_mt *m)
{
    uint32_t y;

    if (m->at == 624) refill(m);
    y = m->state[m->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

void cad_mt_permutation(cad_mt *m, int64_t n, int64_t *out)
{
    CAD_ASSERT(n < (int64_t)1 << 32); /* the modulo of 32-bit draws reaches no further */
    for (int64_t i = 0; i < n; i++) out[i] = i;
    for (int64_t i = 0; i < n - 1; i++) {
        int64_t j = i + cad_mt_next(m) % (n - i), row = out[i];
        out[i] = out[j];
        out[j] = row;
    }
}

void cad_torch_permutation(uint64_t seed, int64_t n, int64_t *out)
{
    cad_mt m;

    cad_mt_seed(&m, seed);
    cad_mt_permutation(&m, n, out);
}
