#include <cadtrain/base.h>

#include <stdio.h>

static const uint32_t K[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t turn(uint32_t x, int n) { return x >> n | x << (32 - n); }

/* FIPS 180-4, section 6.2.2. */
static void blocks_plain(uint32_t h[8], const uint8_t *p, size_t blocks)
{
    uint32_t w[64], v[8];

    for (; blocks--; p += 64) {
        for (int t = 0; t < 16; t++)
            w[t] = (uint32_t)p[4 * t] << 24 | (uint32_t)p[4 * t + 1] << 16 | (uint32_t)p[4 * t + 2] << 8 | p[4 * t + 3];
        for (int t = 16; t < 64; t++) {
            uint32_t s0 = turn(w[t - 15], 7) ^ turn(w[t - 15], 18) ^ w[t - 15] >> 3;
            uint32_t s1 = turn(w[t - 2], 17) ^ turn(w[t - 2], 19) ^ w[t - 2] >> 10;
            w[t] = w[t - 16] + s0 + w[t - 7] + s1;
        }
        memcpy(v, h, sizeof v);
        for (int t = 0; t < 64; t++) {
            uint32_t t1 = v[7] + (turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + K[t] + w[t];
            uint32_t t2 = (turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            memmove(v + 1, v, 7 * sizeof *v);
            v[4] += t1;
            v[0] = t1 + t2;
        }
        for (int i = 0; i < 8; i++) h[i] += v[i];
    }
}

/* CRC32C (Castagnoli, reflected 0x82f63b78), four bits at a time. */
static uint32_t crc_plain(uint32_t crc, const uint8_t *p, size_t n)
{
    static const uint32_t T[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
                                   0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    for (; n--; p++) {
        crc = crc >> 4 ^ T[(crc ^ *p) & 15];
        crc = crc >> 4 ^ T[(crc ^ *p >> 4) & 15];
    }
    return crc;
}

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>

__attribute__((target("sse4.2"))) static uint32_t crc_x86(uint32_t crc, const uint8_t *p, size_t n)
{
    uint64_t c = crc, w;

    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&w, p, 8);
        c = _mm_crc32_u64(c, w);
    }
    return crc_plain((uint32_t)c, p, n);
}

/* The instructions keep the state as (a b e f) and (c d g h) and do two rounds each; m holds the last sixteen words of the schedule. */
__attribute__((target("sha,sse4.1"))) static void blocks_x86(uint32_t h[8], const uint8_t *p, size_t blocks)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i lo = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)h), 0xb1);
    __m128i hi = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(h + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(lo, hi, 8), cdgh = _mm_blend_epi16(hi, lo, 0xf0);

    for (; blocks--; p += 64) {
        __m128i m[4], a = abef, c = cdgh;
        for (int i = 0; i < 4; i++) m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), swap);
        for (int i = 0; i < 16; i++) {
            __m128i k = _mm_add_epi32(m[0], _mm_load_si128((const __m128i *)(K + 4 * i)));
            __m128i next = _mm_add_epi32(_mm_sha256msg1_epu32(m[0], m[1]), _mm_alignr_epi8(m[3], m[2], 4));
            next = _mm_sha256msg2_epu32(next, m[3]);
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, k);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(k, 0x0e));
            m[0] = m[1];
            m[1] = m[2];
            m[2] = m[3];
            m[3] = next;
        }
        abef = _mm_add_epi32(abef, a);
        cdgh = _mm_add_epi32(cdgh, c);
    }
    lo = _mm_shuffle_epi32(abef, 0x1b);
    hi = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)h, _mm_blend_epi16(lo, hi, 0xf0));
    _mm_storeu_si128((__m128i *)(h + 4), _mm_alignr_epi8(hi, lo, 8));
}

static void blocks_best(uint32_t h[8], const uint8_t *p, size_t blocks)
{
    unsigned a, b = 0, c, d;
    bool has = __get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 29 & 1 && __builtin_cpu_supports("sse4.1");

    (has ? blocks_x86 : blocks_plain)(h, p, blocks);
}
static uint32_t crc_best(uint32_t crc, const uint8_t *p, size_t n) { return (__builtin_cpu_supports("sse4.2") ? crc_x86 : crc_plain)(crc, p, n); }
#else
static void blocks_best(uint32_t h[8], const uint8_t *p, size_t blocks) { blocks_plain(h, p, blocks); }
static uint32_t crc_best(uint32_t crc, const uint8_t *p, size_t n) { return crc_plain(crc, p, n); }
#endif

uint32_t cad_crc32c(uint32_t crc, const void *bytes, size_t n) { return ~crc_best(~crc, bytes, n); }

void cad_sha256_begin(cad_sha256 *s)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

    memset(s, 0, sizeof *s);
    memcpy(s->h, start, sizeof start);
}

void cad_sha256_add(cad_sha256 *s, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;

    if (!n) return;
    s->bytes += n;
    if (s->fill) {
        size_t take = n < 64 - s->fill ? n : 64 - s->fill;
        memcpy(s->block + s->fill, p, take);
        s->fill += take;
        p += take;
        n -= take;
        if (s->fill < 64) return;
        blocks_best(s->h, s->block, 1);
        s->fill = 0;
    }
    if (n / 64) blocks_best(s->h, p, n / 64);
    s->fill = n % 64;
    if (s->fill) memcpy(s->block, p + (n - s->fill), s->fill);
}

void cad_sha256_end(cad_sha256 *s, char hex[65])
{
    uint8_t tail[8];
    uint64_t bits = 8 * s->bytes;

    for (int i = 0; i < 8; i++) tail[i] = (uint8_t)(bits >> (56 - 8 * i));
    cad_sha256_add(s, "\x80", 1);
    while (s->fill != 56) cad_sha256_add(s, "", 1);
    cad_sha256_add(s, tail, sizeof tail);
    for (int i = 0; i < 8; i++) snprintf(hex + 8 * i, 9, "%08x", s->h[i]);
}
