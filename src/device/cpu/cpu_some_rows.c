/* C [some rows, n] = A B' where B is bf16 or 4-bit codes: a prompt. Codes meet A as words where the processor multiplies these (cpu_word_tiles.c). Else rows of B become fp32 eight at a time, their terms in the order in which they fall out of words, and
 * meet rows of A, three at a time, whose terms were brought into that order once: nothing is turned or packed. */
#include "cpu_math.h"
#include "cpu_priv.h"

enum { LEAST = 5, MOST = 96, MOST_PLAIN = 64, SMALL = 1 << 14, GROUP = CADP_TILE_ROWS, ABREAST = 3, PIECE = 512, APART = PIECE + 16, COLS = 64 }; /* APART: rows of one multiple of 4096 bytes would share their places in a cache */

static bool is_looked_up(const cad_coded *q) { return (q->code == CAD_NF4 || q->code == CAD_FP4) && q->cols % CAD_QUANT_BLOCK == 0 && q->cols > CAD_QUANT_BLOCK; }

static bool fits(const cad_matmul_args *x)
{
    if (x->ta || !x->tb || x->a.dtype != CAD_BF16 || x->c.cols * x->a.cols < SMALL || !cadp_has_words()) return false;
    if (x->codes.code != CAD_PLAIN && !is_looked_up(&x->codes)) return false;
    return !cad_some(x->a2) || (!x->ta2 && x->tb2);
}

/* From here on rows of codes, and of numbers, are turned and packed faster. */
bool cadp_cpu_has_some_rows(const cad_matmul_args *x) { return x->c.rows >= LEAST && x->c.rows <= (x->codes.code == CAD_PLAIN ? MOST_PLAIN : MOST) && fits(x); }

static int64_t ld_of(int64_t k, bool coded) { return cad_round_up(k, coded ? 128 : 32); }

/* That of as many rows as there may be at most, so that fewer never need more. */
int64_t cadp_cpu_some_rows_work(const cad_matmul_args *x)
{
    int64_t k2 = cad_some(x->a2) ? x->a2.cols : 0;

    return fits(x) ? cad_min(x->c.rows, MOST) * (ld_of(x->a.cols, x->codes.code != CAD_PLAIN) + (k2 ? ld_of(k2, false) : 0)) * (int64_t)sizeof(float) : 0;
}

#if defined(__x86_64__)
#include <immintrin.h>

#define WIDE __attribute__((target("fma,avx512f,avx512bw,avx512vl,avx512dq")))

typedef struct side { const float *a; int64_t ld, k; cad_tensor b; const cad_coded *codes; float alpha; bool words; } side;
typedef struct product { const cad_matmul_args *x; side s[2]; int sides; } product;

/* ---- A: 32 terms as the even and the odd ones, or 128 as cpu_few_rows.c has them for codes ---- */

static void order_terms(float *to, const float *from, int64_t k)
{
    float run[32];

    for (int64_t j = 0; j < k; j += 32, to += 32) {
        memset(run, 0, sizeof run);
        memcpy(run, from + j, (size_t)cad_min(32, k - j) * sizeof *run);
        for (int i = 0; i < 16; i++) {
            to[i] = run[2 * i];
            to[16 + i] = run[2 * i + 1];
        }
    }
}

/* The last block of an odd number lies in the upper half. */
static void order_blocks(float *to, const float *from, int64_t k)
{
    float run[128];

    for (int64_t j = 0; j < k; j += 128, to += 128) {
        int64_t n = cad_min(128, k - j);
        memset(run, 0, sizeof run);
        memcpy(run + 128 - n, from + j, (size_t)n * sizeof *run);
        for (int byte = 0; byte < 4; byte++)
            for (int lane = 0; lane < 16; lane++) {
                to[32 * byte + lane] = run[8 * lane + 2 * byte + 1];
                to[32 * byte + 16 + lane] = run[8 * lane + 2 * byte];
            }
    }
}

typedef struct ordering { const product *p; cad_tensor a[2]; float *to[2]; } ordering;

static void order(const void *args, int64_t i, void *work)
{
    const ordering *o = args;
    float row[PIECE];

    (void)work;
    for (int s = 0; s < o->p->sides; s++) {
        const side *d = &o->p->s[s];
        for (int64_t j = 0; j < d->k && d->words; j += PIECE) {
            int64_t n = cad_min(PIECE, d->k - j);
            cadp_to_runs(cadp_get(o->a[s], i, j, n, row), n, o->to[s] + i * d->ld + cadp_run_floats(j));
        }
        for (int64_t j = d->words ? d->k : 0; j < d->k; j += PIECE) {
            int64_t n = cad_min(PIECE, d->k - j);
            (d->codes ? order_blocks : order_terms)(o->to[s] + i * d->ld + j, cadp_get(o->a[s], i, j, n, row), n);
        }
    }
}

/* ---- B: terms [from, from + n) of a row ---- */

WIDE static void widen(const uint16_t *b, int64_t n, float *out)
{
    __m512i mask = _mm512_set1_epi32((int)0xffff0000);

    for (int64_t j = 0; j < n; j += 32) {
        __mmask32 some = n - j >= 32 ? 0xffffffffu : (1u << (n - j)) - 1;
        __m512i w = _mm512_maskz_loadu_epi16(some, b + j);
        _mm512_storeu_si512(out + j, _mm512_slli_epi32(w, 16));
        _mm512_storeu_si512(out + j + 16, _mm512_and_si512(w, mask));
    }
}

/* 16 values of a block, rounded to bf16. */
WIDE static inline __m512 table_of(__m512 book, float scale)
{
    __m512i v = _mm512_castps_si512(_mm512_mul_ps(book, _mm512_set1_ps(scale)));
    __m512i up = _mm512_add_epi32(_mm512_set1_epi32(0x7fff), _mm512_and_si512(_mm512_srli_epi32(v, 16), _mm512_set1_epi32(1)));

    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_add_epi32(v, up), _mm512_set1_epi32((int)0xffff0000)));
}

/* Two blocks a word of 64 bytes, eight lanes each: a lane's four bits and its half choose of two tables. */
WIDE static void look_up(const uint8_t *codes, const float *scales, int64_t blocks, __m512 book, float *out)
{
    __m512i four = _mm512_set1_epi32(15), half = _mm512_mask_set1_epi32(_mm512_setzero_si512(), 0xff00, 16);

    for (int64_t i = 0; i < blocks; i += 2, out += 128) {
        bool last = i + 1 == blocks;
        __m512i w = _mm512_loadu_si512(codes + (i - last) * (CAD_QUANT_BLOCK / 2));
        __m512 low = table_of(book, scales[i]), high = table_of(book, scales[last ? i : i + 1]); /* what the last block's lower half finds meets zeros */
#pragma GCC unroll 4
        for (int byte = 0; byte < 4; byte++, w = _mm512_srli_epi32(w, 8)) {
            __m512i odd = _mm512_ternarylogic_epi32(w, four, half, 0xea), even = _mm512_ternarylogic_epi32(_mm512_srli_epi32(w, 4), four, half, 0xea); /* (w & four) | half */
            _mm512_storeu_ps(out + 32 * byte, _mm512_permutex2var_ps(low, odd, high));
            _mm512_storeu_ps(out + 32 * byte + 16, _mm512_permutex2var_ps(low, even, high));
        }
    }
}

WIDE static void bring_row(const side *s, int64_t row, int64_t from, int64_t n, float *out)
{
    const cad_coded *q = s->codes;
    float scales[PIECE / CAD_QUANT_BLOCK];

    if (!q) {
        widen((const uint16_t *)s->b.data + row * s->b.ld + from, n, out);
        return;
    }
    cadp_code_scales(q, cad_dynamic_map(true), ((q->above + row) * q->cols + from) / CAD_QUANT_BLOCK, n / CAD_QUANT_BLOCK, scales);
    look_up((const uint8_t *)q->codes.data + ((q->above + row) * q->cols + from) / 2, scales, n / CAD_QUANT_BLOCK, _mm512_loadu_ps(cad_code_book(q->code)), out);
}

/* ---- products ---- */

WIDE static inline __m256 halves(__m512 x) { return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)); }

WIDE static inline __m128 totals(const __m512 *s)
{
    __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(halves(s[0]), halves(s[1])), _mm256_hadd_ps(halves(s[2]), halves(s[3])));

    return _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
}

/* sum [ABREAST][COLS] from `at` on += alpha rows of a . rows of b, n terms, a multiple of 16. */
WIDE static void tile(const float *const *a, const float *b, int64_t n, float alpha, float (*sum)[COLS], int64_t at)
{
    __m512 s[ABREAST][GROUP];

#pragma GCC unroll 3
    for (int i = 0; i < ABREAST; i++)
#pragma GCC unroll 8
        for (int r = 0; r < GROUP; r++) s[i][r] = _mm512_setzero_ps();
    for (int64_t j = 0; j < n; j += 16) {
        __m512 x = _mm512_loadu_ps(a[0] + j), y = _mm512_loadu_ps(a[1] + j), z = _mm512_loadu_ps(a[2] + j);
#pragma GCC unroll 8
        for (int r = 0; r < GROUP; r++) {
            __m512 v = _mm512_loadu_ps(b + r * APART + j);
            __asm__("" : "+v"(v)); /* read once */
            s[0][r] = _mm512_fmadd_ps(x, v, s[0][r]);
            s[1][r] = _mm512_fmadd_ps(y, v, s[1][r]);
            s[2][r] = _mm512_fmadd_ps(z, v, s[2][r]);
        }
    }
#pragma GCC unroll 3
    for (int i = 0; i < ABREAST; i++)
        for (int r = 0; r < GROUP; r += 4) _mm_storeu_ps(sum[i] + at + r, _mm_fmadd_ps(_mm_set1_ps(alpha), totals(s[i] + r), _mm_loadu_ps(sum[i] + at + r)));
}

/* Rows [row, row + GROUP) of B, the last again where there are fewer. */
static void add_side(const side *s, int64_t row, int64_t rows_b, int64_t rows, float *b, float (*sum)[COLS], int64_t at)
{
    if (s->words) {
        cadp_word_tiles(s->codes, row, s->a, rows, s->alpha, sum[0] + at, COLS);
        return;
    }
    for (int64_t from = 0; from < s->k; from += PIECE) {
        int64_t n = cad_min(PIECE, s->k - from), wide = ld_of(n, s->codes != NULL);
        for (int64_t r = 0; r < GROUP; r++) bring_row(s, cad_min(row + r, rows_b - 1), from, n, b + r * APART);
        for (int64_t i = 0; i < rows; i += ABREAST) {
            const float *a[ABREAST];
            for (int64_t j = 0; j < ABREAST; j++) a[j] = s->a + cad_min(i + j, rows - 1) * s->ld + from;
            tile(a, b, wide, s->alpha, sum + i, at);
        }
    }
}

static void columns(const void *args, int64_t i, void *work)
{
    const product *p = args;
    const cad_matmul_args *x = p->x;
    float b[GROUP * APART] __attribute__((aligned(64))), sum[MOST + ABREAST][COLS], room[COLS];
    int64_t col = i * COLS, n = cad_min(COLS, x->c.cols - col);

    (void)work;
    memset(sum, 0, (size_t)(x->c.rows + ABREAST) * sizeof *sum);
    for (int64_t j = 0; j < n; j += GROUP)
        for (int s = 0; s < p->sides; s++) add_side(&p->s[s], col + j, x->c.cols, x->c.rows, b, sum, j);
    for (int64_t r = 0; r < x->c.rows; r++) {
        if (x->beta != 0) cadp_add_scaled(sum[r], cadp_get(x->c, r, col, n, room), (float)x->beta, n);
        if (cad_some(x->bias)) cadp_add_scaled(sum[r], cadp_get(x->bias, 0, col, n, room), 1, n);
        if (x->c.dtype == CAD_F32) memcpy((float *)x->c.data + r * x->c.ld + col, sum[r], (size_t)n * sizeof(float));
        else cadp_put(x->c, r, col, n, sum[r]);
    }
}

void cadp_cpu_some_rows(const cad_device *d, const cad_matmul_args *x, void *work)
{
    bool coded = x->codes.code != CAD_PLAIN, words = coded && cadp_has_word_tiles();
    product p = {.x = x, .sides = cad_some(x->a2) ? 2 : 1, .s = {{.words = words, .ld = words ? cadp_run_floats(x->a.cols) : ld_of(x->a.cols, coded), .k = x->a.cols, .b = x->b, .codes = coded ? &x->codes : NULL, .alpha = (float)x->alpha},
                                                                 {.ld = ld_of(x->a2.cols, false), .k = x->a2.cols, .b = x->b2, .alpha = (float)x->alpha2}}};
    ordering o = {.p = &p, .a = {x->a, x->a2}, .to = {work, (float *)work + x->a.rows * p.s[0].ld}};

    p.s[0].a = o.to[0];
    p.s[1].a = o.to[1];
    cadp_cpu_each(d, x->c.rows, order, &o, NULL, 0);
    cadp_cpu_each(d, cad_ceil_div(x->c.cols, COLS), columns, &p, NULL, 0);
}
#else
void cadp_cpu_some_rows(const cad_device *d, const cad_matmul_args *x, void *work) { CAD_ASSERT(!d && !x && !work); }
#endif
