/* C [some rows, n] = A B' where B is bf16 or 4-bit codes: a prompt. Codes meet A as words (cpu_word_tiles.c). Rows of bf16 become fp32 eight at a time, their terms in the
 * order in which they fall out of words, and meet rows of A, three at a time, whose terms were brought into that order once: nothing is turned or packed. */
#include "cpu_words.h"

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

static int64_t ld_of(int64_t k, bool coded) { return coded ? cadp_run_floats(k) : cad_round_up(k, 32); }

/* That of as many rows as there may be at most, so that fewer never need more. */
int64_t cadp_cpu_some_rows_work(const cad_matmul_args *x)
{
    int64_t k2 = cad_some(x->a2) ? x->a2.cols : 0;

    return fits(x) ? cad_min(x->c.rows, MOST) * (ld_of(x->a.cols, x->codes.code != CAD_PLAIN) + (k2 ? ld_of(k2, false) : 0)) * (int64_t)sizeof(float) : 0;
}

#if defined(__x86_64__)
#define WIDE CADP_WIDE

/* codes: NULL where B is numbers. */
typedef struct side { const float *a; int64_t ld, k; cad_tensor b; const cad_coded *codes; float alpha; } side;
typedef struct product { const cad_matmul_args *x; side s[2]; int sides; } product;

/* ---- A: 32 terms as the even and the odd ones, or runs of words ---- */

static void order_terms(const float *from, int64_t k, float *to)
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

typedef struct ordering { const product *p; cad_tensor a[2]; float *to[2]; } ordering;

static void order(const void *args, int64_t i, void *work)
{
    const ordering *o = args;
    float row[PIECE];

    (void)work;
    for (int s = 0; s < o->p->sides; s++) {
        const side *d = &o->p->s[s];
        for (int64_t j = 0; j < d->k; j += PIECE) {
            int64_t n = cad_min(PIECE, d->k - j);
            (d->codes ? cadp_to_runs : order_terms)(cadp_get(o->a[s], i, j, n, row), n, o->to[s] + i * d->ld + ld_of(j, d->codes));
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

/* ---- products ---- */

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
        for (int r = 0; r < GROUP; r += 4) _mm_storeu_ps(sum[i] + at + r, _mm_fmadd_ps(_mm_set1_ps(alpha), cadp_totals(s[i] + r), _mm_loadu_ps(sum[i] + at + r)));
}

/* Rows [row, row + GROUP) of B, the last again where there are fewer. */
static void add_side(const side *s, int64_t row, int64_t rows_b, int64_t rows, float *b, float (*sum)[COLS], int64_t at)
{
    if (s->codes) {
        cadp_word_tiles(s->codes, row, s->a, rows, s->alpha, sum[0] + at, COLS);
        return;
    }
    for (int64_t from = 0; from < s->k; from += PIECE) {
        int64_t n = cad_min(PIECE, s->k - from), wide = ld_of(n, false);
        for (int64_t r = 0; r < GROUP; r++) widen((const uint16_t *)s->b.data + cad_min(row + r, rows_b - 1) * s->b.ld + from, n, b + r * APART);
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
    bool coded = x->codes.code != CAD_PLAIN;
    product p = {.x = x, .sides = cad_some(x->a2) ? 2 : 1, .s = {{.ld = ld_of(x->a.cols, coded), .k = x->a.cols, .b = x->b, .codes = coded ? &x->codes : NULL, .alpha = (float)x->alpha},
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
