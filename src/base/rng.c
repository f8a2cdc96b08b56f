#include <cadtrain/base.h>

#include <math.h>

void cad_rng_words(uint64_t seed, cad_purpose purpose, uint32_t site, uint64_t index, uint32_t out[4])
{
    uint32_t c[4] = {(uint32_t)index, (uint32_t)(index >> 32), site, (uint32_t)purpose};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);

    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c[1] ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
        c[1] = (uint32_t)p1;
        c[3] = (uint32_t)p0;
        c[0] = n0;
        c[2] = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

double cad_rng_uniform(uint64_t seed, cad_purpose purpose, uint32_t site, uint64_t index)
{
    uint32_t w[4];

    cad_rng_words(seed, purpose, site, index, w);
    return (double)(((uint64_t)w[0] << 32 | w[1]) >> 11) * 0x1p-53;
}

double cad_rng_normal(uint64_t seed, cad_purpose purpose, uint32_t site, uint64_t index)
{
    uint32_t w[4];

    cad_rng_words(seed, purpose, site, index, w); /* Box and Muller */
    double u = ((double)(((uint64_t)w[0] << 32 | w[1]) >> 11) + 1) * 0x1p-53;
    double v = (double)(((uint64_t)w[2] << 32 | w[3]) >> 11) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}
