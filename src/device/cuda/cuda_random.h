/* Dropout masks: the words of cad_rng_words. */
#ifndef CADP_CUDA_RANDOM_H
#define CADP_CUDA_RANDOM_H
#include "cuda_grid.h"

/* Philox4x32-10 as cad_rng_words: four words for four columns. */
ON_DEVICE void draw(uint32_t out[4], uint64_t seed, uint32_t site, uint32_t index, uint32_t word)
{
    uint32_t a = word, b = index, c = site, e = CAD_RNG_DROPOUT, k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);

#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * a, p1 = (uint64_t)0xCD9E8D57u * c;
        a = (uint32_t)(p1 >> 32) ^ b ^ k0;
        b = (uint32_t)p1;
        c = (uint32_t)(p0 >> 32) ^ e ^ k1;
        e = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = a, out[1] = b, out[2] = c, out[3] = e;
}

/* limit: words from it on keep their element, times `by` (0: none is kept). */
typedef struct mask { uint64_t seed; uint32_t site, index, limit; float by; } mask;

static inline mask mask_of(double p, uint64_t seed, uint32_t site, uint64_t index)
{
    double limit = ceil(p * 4294967296.0);
    bool none = limit >= 4294967296.0;
    mask m = {seed, site, (uint32_t)index, none ? UINT32_MAX : (uint32_t)limit, none ? 0 : (float)(1 / (1 - p))};

    return m;
}
#endif
