/* Rows of 4-bit codes times a row of numbers as whole ones: numbers become words of 16 bits, each 64 with a scale of their own, and codes are looked up as words too.
 *
 * Both are below 2^14, so that the eight products of a lane fit 32 bits and their sum is exact; scales enter once a block, in fp32.
 * What is left out: of a value of the book at most 1 / (2 BOOK) of its block's scale (nothing of FP4's, which are whole 192ths), and of a number at most 1 / (2 TOP) of the
 * largest of its block. A block's product so errs by at most 64 / 2^14 of (scale) (largest number), whatever the signs, and as a rule by an eighth of that; a value of the
 * book errs by less than a fifth of what rounding it to bf16 costs, which is what these products are spared. */
#include "cpu_words.h"

enum { BOOK = 192 * 85, TOP = (1 << 14) - 1, RUN = CADP_WORD_RUN, BLOCK = CAD_QUANT_BLOCK, ROWS = 4, MOST = CADP_WORD_BLOCKS };

/* A row: a scale for each block, and behind them its words. */
static int64_t scale_floats(int64_t k) { return cad_round_up(k / BLOCK, 16); }

int64_t cadp_word_floats(int64_t k) { return scale_floats(k) + cad_ceil_div(k, RUN) * (int64_t)(sizeof(cadp_words) / sizeof(float)); }

#if defined(__x86_64__)

#define WIDE CADP_WIDE
#define VNNI CADP_VNNI

bool cadp_has_words(void) { return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"); }

/* ---- numbers to words ---- */

WIDE static inline __m512i words_of(const float *x, __m512 by)
{
    __m256i low = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), by)));

    return _mm512_inserti64x4(_mm512_castsi256_si512(low), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), by))), 1);
}

/* The bits of the largest magnitude of a block; those of a NaN are the largest of all. */
WIDE static inline uint32_t largest_bits(const float *x)
{
    __m512i mask = _mm512_set1_epi32(0x7fffffff), top = _mm512_setzero_si512();

    for (int i = 0; i < BLOCK; i += 16) top = _mm512_max_epu32(top, _mm512_and_si512(_mm512_loadu_si512(x + i), mask));
    return _mm512_reduce_max_epu32(top);
}

/* What is below 2^-100 counts as 0; where a number is not finite the scale is NaN. */
WIDE float cadp_put_block(cadp_words to, int half, const float *x)
{
    static const int16_t from[2][32] = {{1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45, 49, 53, 57, 61, 0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60},
                                        {3, 7, 11, 15, 19, 23, 27, 31, 35, 39, 43, 47, 51, 55, 59, 63, 2, 6, 10, 14, 18, 22, 26, 30, 34, 38, 42, 46, 50, 54, 58, 62}};
    uint32_t top = largest_bits(x), last = cadp_bits(0x1.fffffep127f);
    float by = top < cadp_bits(0x1p-100f) || top > last ? 0 : TOP / cadp_float(top);
    __m512i low = words_of(x, _mm512_set1_ps(by)), high = words_of(x + 32, _mm512_set1_ps(by));

    for (int s = 0; s < 2; s++) {
        __m512i both = _mm512_permutex2var_epi16(low, _mm512_loadu_si512(from[s]), high);
        _mm256_storeu_si256((__m256i *)(void *)(to[2 * s] + 16 * half), _mm512_castsi512_si256(both));
        _mm256_storeu_si256((__m256i *)(void *)(to[2 * s + 1] + 16 * half), _mm512_extracti64x4_epi64(both, 1));
    }
    return top > last ? cadp_float(0x7fc00000) : cadp_float(top) / TOP / BOOK;
}

WIDE void cadp_to_words(const float *x, int64_t k, void *to)
{
    float *scale = to;
    cadp_words *r = (cadp_words *)(void *)(scale + scale_floats(k));

    CAD_ASSERT(k % BLOCK == 0);
    memset(scale, 0, (size_t)scale_floats(k) * sizeof *scale);
    for (; k >= RUN; k -= RUN, x += RUN, r++) {
        *scale++ = cadp_put_block(*r, 0, x);
        *scale++ = cadp_put_block(*r, 1, x + BLOCK);
    }
    if (!k) return;
    memset(r, 0, sizeof *r);
    *scale = cadp_put_block(*r, 1, x);
}

/* ---- scales ---- */

/* n codes of the map of 256 under one scale: of 32 values by five bits, eight times, then of those by the other three. */
WIDE static void nested_scales(const float *map, const uint8_t *codes, float above, float offset, int64_t n, float *out)
{
    __m512 table[16], found[8];

    for (int i = 0; i < 16; i++) table[i] = _mm512_loadu_ps(map + 16 * i);
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 some = (__mmask16)(n - i >= 16 ? 0xffff : (1u << (n - i)) - 1);
        __m512i at = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(some, codes + i));
        __mmask16 first = _mm512_test_epi32_mask(at, _mm512_set1_epi32(32)), second = _mm512_test_epi32_mask(at, _mm512_set1_epi32(64)), third = _mm512_test_epi32_mask(at, _mm512_set1_epi32(128));
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) found[j] = _mm512_permutex2var_ps(table[2 * j], at, table[2 * j + 1]);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) found[j] = _mm512_mask_blend_ps(first, found[2 * j], found[2 * j + 1]);
        found[0] = _mm512_mask_blend_ps(third, _mm512_mask_blend_ps(second, found[0], found[1]), _mm512_mask_blend_ps(second, found[2], found[3]));
        _mm512_mask_storeu_ps(out + i, some, _mm512_add_ps(_mm512_mul_ps(found[0], _mm512_set1_ps(above)), _mm512_set1_ps(offset)));
    }
}

enum { SOON = 512 }; /* bytes */

static void ask_for(const void *first)
{
    for (int i = 0; i < SOON; i += 64) __builtin_prefetch((const char *)first + i);
}

const float *cadp_block_scales(const cad_coded *q, int64_t block, int64_t n, float *room)
{
    if (q->scales.dtype == CAD_F32) return (const float *)q->scales.data + block;
    for (int64_t end = block + n, each, at = block; at < end; at += each) {
        each = cad_min(end, (at / CAD_SCALE_BLOCK + 1) * CAD_SCALE_BLOCK) - at;
        nested_scales(cad_dynamic_map(true), (const uint8_t *)q->scales.data + at, ((const float *)q->scales2.data)[at / CAD_SCALE_BLOCK], *(const float *)q->offset.data, each, room + at - block);
    }
    return room;
}

/* ---- products ---- */

/* Five bits of each word are looked at: the table holds its 16 values twice. The upper byte of a word is the lower of one read a byte later. */
WIDE static inline __m512 run_product(const uint8_t *codes, const cadp_words *a, __m512i book)
{
    __m512i w = _mm512_loadu_si512(codes), v = _mm512_srli_epi16(w, 8);
    __m512i sum = _mm512_madd_epi16(_mm512_loadu_si512((*a)[0]), _mm512_permutexvar_epi16(w, book));

    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_loadu_si512((*a)[1]), _mm512_permutexvar_epi16(_mm512_srli_epi16(w, 4), book)));
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_loadu_si512((*a)[2]), _mm512_permutexvar_epi16(v, book)));
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_loadu_si512((*a)[3]), _mm512_permutexvar_epi16(_mm512_srli_epi16(w, 12), book)));
    return _mm512_cvtepi32_ps(sum);
}

VNNI static inline __m512 run_product_vnni(const uint8_t *codes, const cadp_words *a, __m512i book)
{
    __m512i w = _mm512_loadu_si512(codes), v = _mm512_srli_epi16(w, 8);
    __m512i sum = _mm512_dpwssd_epi32(_mm512_setzero_si512(), _mm512_loadu_si512((*a)[0]), _mm512_permutexvar_epi16(w, book));

    sum = _mm512_dpwssd_epi32(sum, _mm512_loadu_si512((*a)[1]), _mm512_permutexvar_epi16(_mm512_srli_epi16(w, 4), book));
    sum = _mm512_dpwssd_epi32(sum, _mm512_loadu_si512((*a)[2]), _mm512_permutexvar_epi16(v, book));
    sum = _mm512_dpwssd_epi32(sum, _mm512_loadu_si512((*a)[3]), _mm512_permutexvar_epi16(_mm512_srli_epi16(w, 12), book));
    return _mm512_cvtepi32_ps(sum);
}

/* Four rows at once, far enough from each other that each is a stream of its own to the processor; own: the scales of the numbers' blocks. Whole numbers are the same on every
 * instruction set. */
typedef struct quad { const uint8_t *codes[ROWS]; const float *scales[ROWS]; } quad;
#define FOUR_ROWS(name, TARGET, product)                                                                                                                                \
    TARGET static void name(const quad *q, int64_t blocks, const float *own, const cadp_words *a, __m512i book, float *out)                                             \
    {                                                                                                                                                                   \
        __m512 sum[ROWS] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};                                                        \
        int64_t i = 0;                                                                                                                                                  \
                                                                                                                                                                        \
        for (; i + 2 <= blocks; i += 2, a++) {                                                                                                                          \
            __m512 by = cadp_two_scales(own + i);                                                                                                                       \
            _Pragma("GCC unroll 4") for (int r = 0; r < ROWS; r++) {                                                                                                    \
                const uint8_t *codes = q->codes[r] + i * (BLOCK / 2);                                                                                                   \
                _mm_prefetch((const char *)codes + AHEAD, _MM_HINT_T0);                                                                                                 \
                sum[r] = _mm512_fmadd_ps(product(codes, a, book), _mm512_mul_ps(cadp_two_scales(q->scales[r] + i), by), sum[r]);                                        \
            }                                                                                                                                                           \
        }                                                                                                                                                               \
        for (int r = 0; i < blocks && r < ROWS; r++)                                                                                                                    \
            sum[r] = _mm512_fmadd_ps(product(q->codes[r] + (i - 1) * (BLOCK / 2), a, book), _mm512_set1_ps(q->scales[r][i] * own[i]), sum[r]);                          \
        _mm_storeu_ps(out, cadp_totals(sum));                                                                                                                           \
    }
enum { AHEAD = 1024 };
FOUR_ROWS(four_rows, WIDE, run_product)
FOUR_ROWS(four_rows_vnni, VNNI, run_product_vnni)

WIDE __m512i cadp_word_book(cad_code code)
{
    const float *values = cad_code_book(code);
    int16_t words[32];

    for (int i = 0; i < 32; i++) words[i] = (int16_t)__builtin_rintf(values[i % 16] * BOOK);
    return _mm512_loadu_si512(words);
}

/* Rows [row, row + each) of four parts, `apart` rows from each other; out likewise. */
WIDE static void four_parts(const cad_coded *q, int64_t row, int64_t each, int64_t apart, const float *a, float *out)
{
    int64_t blocks = q->cols / BLOCK;
    bool vnni = __builtin_cpu_supports("avx512vnni");
    __m512i book = cadp_word_book(q->code);
    const cadp_words *runs = (const cadp_words *)(const void *)(a + scale_floats(q->cols));
    float room[ROWS][MOST], found[ROWS];
    const float *of[ROWS];
    quad at;

    for (int64_t p = 0; p < ROWS; p++) ask_for((const char *)q->scales.data + (row + p * apart) * blocks * (int64_t)cad_dtype_bytes(q->scales.dtype));
    for (int64_t p = 0; p < ROWS; p++) ask_for((const char *)q->codes.data + (row + p * apart) * q->cols / 2);
    for (int64_t p = 0; p < ROWS; p++) of[p] = cadp_block_scales(q, (row + p * apart) * blocks, each * blocks, room[p]);
    for (int64_t i = 0; i < each; i++) {
        for (int64_t p = 0; p < ROWS; p++) {
            at.codes[p] = (const uint8_t *)q->codes.data + (row + p * apart + i) * (q->cols / 2);
            at.scales[p] = of[p] + i * blocks;
            _mm_prefetch((const char *)at.scales[p] + SOON, _MM_HINT_T0);
        }
        (vnni ? four_rows_vnni : four_rows)(&at, blocks, a, runs, book, found);
        for (int64_t p = 0; p < ROWS; p++) out[p * apart + i] = found[p];
    }
}

/* What is left of fours is done one by one, a row four times. */
void cadp_word_rows(const cad_coded *q, int64_t row, int64_t rows, const void *a, float *out)
{
    int64_t apart = rows / ROWS, most = MOST / (q->cols / BLOCK), first = q->above + row;

    CAD_ASSERT(q->cols >= RUN && most > 0);
    for (int64_t i = 0; i < apart; i += most) four_parts(q, first + i, cad_min(most, apart - i), apart, a, out + i);
    for (int64_t i = apart * ROWS; i < rows; i++) four_parts(q, first + i, 1, 0, a, out + i);
}
#else
bool cadp_has_words(void) { return false; }
void cadp_to_words(const float *x, int64_t k, void *to) { CAD_ASSERT(!x && !k && !to); }
void cadp_word_rows(const cad_coded *q, int64_t row, int64_t rows, const void *a, float *out) { CAD_ASSERT(!q && !row && !rows && !a && !out); }
#endif
