/* Some rows of numbers times rows of 4-bit codes, both as words (cpu_words.c): rows of codes are looked up once, a few at a time, and meet one row of numbers after the other. */
#include "cpu_words.h"

enum { RUN = CADP_WORD_RUN, BLOCK = CAD_QUANT_BLOCK, ROWS = CADP_TILE_ROWS };

int64_t cadp_run_floats(int64_t k) { return cad_ceil_div(k, RUN) * (int64_t)(sizeof(cadp_run) / sizeof(float)); }

#if defined(__x86_64__)
static void put_half(cadp_run *to, int half, const float *x)
{
    float scale = cadp_put_block(to->x, half, x);

    for (int lane = 8 * half; lane < 8 * half + 8; lane++) to->scale[lane] = scale;
}

void cadp_to_runs(const float *x, int64_t k, float *to)
{
    cadp_run *r = (cadp_run *)(void *)to;

    CAD_ASSERT(k % BLOCK == 0);
    for (; k >= RUN; k -= RUN, x += RUN, r++) {
        put_half(r, 0, x);
        put_half(r, 1, x + BLOCK);
    }
    if (!k) return;
    memset(r, 0, sizeof *r);
    put_half(r, 1, x);
}

/* What the last block's lower half finds meets zeros. */
CADP_WIDE static void look_up(const uint8_t *codes, const float *scales, int64_t blocks, __m512i book, cadp_run *to)
{
    for (int64_t i = 0; i < blocks; i += 2, to++) {
        bool last = i + 1 == blocks;
        __m512i w = _mm512_loadu_si512(codes + (i - last) * (BLOCK / 2));
        _mm512_storeu_si512(to->x[0], _mm512_permutexvar_epi16(w, book));
        _mm512_storeu_si512(to->x[1], _mm512_permutexvar_epi16(_mm512_srli_epi16(w, 4), book));
        _mm512_storeu_si512(to->x[2], _mm512_permutexvar_epi16(_mm512_srli_epi16(w, 8), book));
        _mm512_storeu_si512(to->x[3], _mm512_permutexvar_epi16(_mm512_srli_epi16(w, 12), book));
        _mm512_storeu_ps(to->scale, last ? _mm512_set1_ps(scales[i]) : cadp_two_scales(scales + i));
    }
}

CADP_WIDE static void bring(const cad_coded *q, int64_t row, int64_t from, int64_t n, cadp_run (*to)[CADP_TILE_RUNS])
{
    float room[CADP_TILE_RUNS * 2];
    __m512i book = cadp_word_book(q->code);

    for (int64_t r = 0; r < ROWS; r++) {
        int64_t at = (q->above + cad_min(row + r, q->rows - 1)) * q->cols + from;
        look_up((const uint8_t *)q->codes.data + at / 2, cadp_block_scales(q, at / BLOCK, n / BLOCK, room), n / BLOCK, book, to[r]);
    }
}

CADP_WIDE static inline __m512i add_products(__m512i sum, __m512i x, __m512i y) { return _mm512_add_epi32(sum, _mm512_madd_epi16(x, y)); }

/* sum[r] += alpha a . b[r]: the products of a lane's terms are whole numbers, the same on every instruction set, until their blocks' scales enter. */
#define TILE(name, TARGET, add)                                                                                                                                         \
    TARGET static void name(const cadp_run *a, cadp_run (*b)[CADP_TILE_RUNS], int64_t runs, float alpha, float *sum)                                                    \
    {                                                                                                                                                                   \
        __m512 s[ROWS];                                                                                                                                                 \
                                                                                                                                                                        \
        _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++) s[r] = _mm512_setzero_ps();                                                                              \
        for (int64_t j = 0; j < runs; j++) {                                                                                                                            \
            __m512i d[ROWS];                                                                                                                                            \
            _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++) d[r] = _mm512_setzero_si512();                                                                       \
            _Pragma("GCC unroll 4") for (int w = 0; w < 4; w++) {                                                                                                       \
                __m512i x = _mm512_loadu_si512(a[j].x[w]);                                                                                                              \
                _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++) d[r] = add(d[r], x, _mm512_loadu_si512(b[r][j].x[w]));                                           \
            }                                                                                                                                                           \
            _Pragma("GCC unroll 8") for (int r = 0; r < ROWS; r++)                                                                                                      \
                s[r] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(d[r]), _mm512_loadu_ps(a[j].scale)), _mm512_loadu_ps(b[r][j].scale), s[r]);                     \
        }                                                                                                                                                               \
        for (int r = 0; r < ROWS; r += 4) _mm_storeu_ps(sum + r, _mm_fmadd_ps(_mm_set1_ps(alpha), cadp_totals(s + r), _mm_loadu_ps(sum + r)));                          \
    }
TILE(tile, CADP_WIDE, add_products)
TILE(tile_vnni, CADP_VNNI, _mm512_dpwssd_epi32)

void cadp_word_tiles(const cad_coded *q, int64_t row, const float *a, int64_t rows, float alpha, float *sum, int64_t ld)
{
    cadp_run b[ROWS][CADP_TILE_RUNS] __attribute__((aligned(64)));
    bool vnni = __builtin_cpu_supports("avx512vnni");
    int64_t lda = cadp_run_floats(q->cols);

    for (int64_t from = 0; from < q->cols; from += CADP_TILE_RUNS * RUN) {
        int64_t n = cad_min(CADP_TILE_RUNS * RUN, q->cols - from);
        bring(q, row, from, n, b);
        for (int64_t i = 0; i < rows; i++) (vnni ? tile_vnni : tile)((const cadp_run *)(const void *)(a + i * lda) + from / RUN, b, cad_ceil_div(n, RUN), alpha, sum + i * ld);
    }
}
#else
void cadp_to_runs(const float *x, int64_t k, float *to) { CAD_ASSERT(!x && !k && !to); }
void cadp_word_tiles(const cad_coded *q, int64_t row, const float *a, int64_t rows, float alpha, float *sum, int64_t ld) { CAD_ASSERT(!q && !row && !a && !rows && alpha == 0 && !sum && !ld); }
#endif
