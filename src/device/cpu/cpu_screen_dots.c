#include "cpu_math.h"
#include "cpu_screen.h"

/* A row's terms are summed CHUNK at a time in 32 bits: CHUNK 127 (2^15 - 1) < 2^31. */
enum { RUN = CADP_SCREEN_RUN, SIX = CADP_SIX_BYTES, ROWS = CADP_SCREEN_ABREAST, CHUNK = 512, AHEAD = 1024 };

CAD_CLONES void cadp_six_pack(const uint8_t *codes, uint8_t *to)
{
    for (int j = 0; j < 64; j++) to[j] = (uint8_t)((codes[j] & 15) | (codes[j + 64] & 15) << 4);
    for (int j = 0; j < 32; j++) to[64 + j] = (uint8_t)(codes[j] >> 4 | codes[j + 32] >> 4 << 2 | codes[j + 64] >> 4 << 4 | codes[j + 96] >> 4 << 6);
}

CAD_CLONES static void six_unpack(const uint8_t *from, int8_t *to)
{
    for (int j = 0; j < 32; j++) {
        int top = from[64 + j];
        to[j] = (int8_t)(((from[j] & 15) | (top & 3) << 4) - 32);
        to[j + 32] = (int8_t)(((from[j + 32] & 15) | (top >> 2 & 3) << 4) - 32);
        to[j + 64] = (int8_t)((from[j] >> 4 | (top >> 4 & 3) << 4) - 32);
        to[j + 96] = (int8_t)((from[j + 32] >> 4 | top >> 6 << 4) - 32);
    }
}

CAD_CLONES static int32_t dot_chunk(const int8_t *q, const int16_t *w, int64_t n)
{
    int32_t sum = 0;

#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (int16_t)q[i] * w[i];
    return sum;
}

static int64_t six_dot(const uint8_t *q, const int16_t *w, int64_t k)
{
    int8_t codes[RUN];
    int64_t sum = 0;

    for (int64_t i = 0; i < k; i += RUN, q += SIX) {
        six_unpack(q, codes);
        sum += dot_chunk(codes, w + i, RUN); /* where the words end there are zeros */
    }
    return sum;
}

static int64_t byte_dot(const int8_t *q, const int16_t *w, int64_t k)
{
    int64_t sum = 0;

    for (int64_t i = 0; i < k; i += CHUNK) sum += dot_chunk(q + i, w + i, cad_min(CHUNK, k - i));
    return sum;
}

void cadp_screen_dots_plain(const cadp_screen *s, const uint8_t *const *rows, int64_t *out)
{
    for (int r = 0; r < ROWS; r++) out[r] = s->v.six ? six_dot(rows[r], s->words, s->v.cols) : byte_dot((const int8_t *)rows[r], s->words, s->v.cols);
}

#if defined(__x86_64__)
#include <immintrin.h>

/* A lane's 2 MOST / 32 products stay below 2^31. */
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) static void byte_dots_wide(const cadp_screen *s, const uint8_t *const *rows, int64_t *out)
{
    enum { MOST = 8192 };

    for (int r = 0; r < ROWS; r++) out[r] = 0;
    for (int64_t from = 0, k = s->v.cols; from < k; from += MOST) {
        __m512i sum[ROWS] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
        for (int64_t i = from, end = cad_min(k, from + MOST); i < end; i += 32) {
            __mmask32 some = end - i >= 32 ? 0xffffffffu : (1u << (end - i)) - 1;
            __m512i x = _mm512_loadu_si512(s->words + i);
#pragma GCC unroll 4
            for (int r = 0; r < ROWS; r++) {
                if (i % 64 == 0) _mm_prefetch((const char *)rows[r] + i + AHEAD, _MM_HINT_T0);
                sum[r] = _mm512_add_epi32(sum[r], _mm512_madd_epi16(x, _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(some, rows[r] + i))));
            }
        }
        for (int r = 0; r < ROWS; r++)
            out[r] += _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(sum[r])), _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(sum[r], 1))));
    }
}

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

/* The sums of four vectors' lanes, modulo 2^32. */
VNNI static inline __m128i totals(const __m512i *s)
{
    __m256i h[ROWS];

#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++) h[r] = _mm256_add_epi32(_mm512_castsi512_si256(s[r]), _mm512_extracti64x4_epi64(s[r], 1));
    h[0] = _mm256_hadd_epi32(_mm256_hadd_epi32(h[0], h[1]), _mm256_hadd_epi32(h[2], h[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(h[0]), _mm256_extracti128_si256(h[0], 1));
}

/* A half of a run's upper bits is shifted further than the other. Codes are without a sign here: 32 times the words' sum goes off at the end. */
VNNI static void six_dots_vnni(const cadp_screen *s, const uint8_t *const *rows, int64_t *out)
{
    const __m512i four = _mm512_set1_epi8(15), two = _mm512_set1_epi8(0x30);
    const __m512i left = _mm512_inserti64x4(_mm512_set1_epi16(4), _mm256_set1_epi16(2), 1), right = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(2), 1);
    __m512i high[ROWS], low[ROWS];
    const int8_t *x = s->high, *y = x + cad_round_up(s->v.cols, RUN);

    for (int r = 0; r < ROWS; r++) high[r] = low[r] = _mm512_setzero_si512();
    for (int64_t i = 0; i < s->v.bytes; i += SIX, x += RUN, y += RUN) {
        __m512i x0 = _mm512_loadu_si512(x), x1 = _mm512_loadu_si512(x + 64), y0 = _mm512_loadu_si512(y), y1 = _mm512_loadu_si512(y + 64);
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) {
            const uint8_t *at = rows[r] + i;
            __m512i w = _mm512_loadu_si512(at), t = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)(at + 64)));
            __m512i a = _mm512_ternarylogic_epi32(_mm512_and_si512(w, four), _mm512_sllv_epi16(t, left), two, 0xf8); /* a | (b & c) */
            __m512i b = _mm512_ternarylogic_epi32(_mm512_and_si512(_mm512_srli_epi16(w, 4), four), _mm512_srlv_epi16(t, right), two, 0xf8);
            _mm_prefetch((const char *)at + AHEAD, _MM_HINT_T0);
            _mm_prefetch((const char *)at + AHEAD + SIX / 2, _MM_HINT_T0);
            high[r] = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(high[r], a, x0), b, x1);
            low[r] = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(low[r], a, y0), b, y1);
        }
    }
    for (int r = 0; r < ROWS; r++) high[r] = _mm512_add_epi32(_mm512_slli_epi32(high[r], 8), low[r]);
    _mm256_storeu_si256((__m256i *)(void *)out, _mm256_cvtepi32_epi64(_mm_sub_epi32(totals(high), _mm_set1_epi32((int32_t)(32 * s->sum)))));
}

void cadp_screen_dots(const cadp_screen *s, const uint8_t *const *rows, int64_t *out)
{
    if (!s->v.six && cadp_has_words()) byte_dots_wide(s, rows, out);
    else if (s->v.six && cadp_has_words() && __builtin_cpu_supports("avx512vnni")) six_dots_vnni(s, rows, out);
    else cadp_screen_dots_plain(s, rows, out);
}
#else
void cadp_screen_dots(const cadp_screen *s, const uint8_t *const *rows, int64_t *out) { cadp_screen_dots_plain(s, rows, out); }
#endif
