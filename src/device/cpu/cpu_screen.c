/* Which rows of B can give the largest element of B x, from a shorter copy of B (whole numbers q of 6 bits, of 8 in long rows, a step u for each row, and how far that is from the
 * row) and x as whole numbers w of 16 bits and a step.
 *
 * b = u q + f and x = step w + e, so b.x = u step (q.w) + f.x + (u q).e, where q.w is exact, |f.x| <= |f| |x|, and |(u q).e| <= s |e|1 with s = u TOP.
 * The product that counts, summed in fp32 in some order, lies within (k + 8) 2^-24 |b|.|x| of b.x, and |b|.|x| <= s |x|1 + |f| |x|. 2^-18 s |x|1 is more than what the arithmetic
 * of this estimate and of these bounds rounds away. The row whose estimate less its bound is largest can be beaten by those only whose estimate and bound reach that.
 *
 * Of k normal terms a code's step is about 3.5 / TOP of their spread, so that a bound is (3.5 / TOP) sqrt(k / 12) spreads of b.x: as long as that is about one with 6 bits, few rows
 * pass, and a quarter of what is read is spared. */
#include "cpu_math.h"
#include "cpu_priv.h"
#include "cpu_screen.h"

#include <math.h>

enum { RUN = CADP_SCREEN_RUN, SIX_BYTES = CADP_SIX_BYTES, SIX_TERMS = 2048, MOST_TERMS = 1 << 19, WORD_TOP = 32639 /* 127 * 256 + 127 */ };

static bool is_six(int64_t cols) { return cols <= SIX_TERMS; }

static int64_t row_bytes(int64_t cols) { return is_six(cols) ? cad_ceil_div(cols, RUN) * SIX_BYTES : cols; }

int64_t cadp_screen_bytes(int64_t rows, int64_t cols)
{
    if (cols > MOST_TERMS) return 0;
    return cad_round_up(rows * row_bytes(cols), 64) + 2 * cad_round_up(rows * (int64_t)sizeof(float), 64);
}

cadp_screen_view cadp_screen_of(void *data, int64_t rows, int64_t cols)
{
    char *steps = (char *)data + cad_round_up(rows * row_bytes(cols), 64);

    return (cadp_screen_view){.codes = data, .step = (float *)(void *)steps, .off = (float *)(void *)(steps + cad_round_up(rows * (int64_t)sizeof(float), 64)), .cols = cols,
                              .bytes = row_bytes(cols), .six = is_six(cols)};
}

/* ---- made ---- */

typedef struct maker { cadp_screen_view v; cad_tensor b; } maker;

/* Codes of n numbers, plus TOP + 1; returns the sum of the squares of what they are off, in steps. */
CAD_CLONES static float to_codes(const float *x, int64_t n, float by, int top, uint8_t *codes)
{
    float sum = 0;

#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        float steps = x[i] * by, whole = steps + 12582912; /* rounded as in cadp_exp */
        float off = steps - (whole - 12582912);
        codes[i] = (uint8_t)((int32_t)(cadp_bits(whole) - cadp_bits(12582912)) + top + 1);
        sum += off * off;
    }
    return sum;
}

/* Numbers of run i of a row; returns how many. */
static int64_t run_of(const maker *m, int64_t row, int64_t i, const float **x, float *room)
{
    int64_t n = cad_min(RUN, m->v.cols - i * RUN);

    *x = cadp_get(m->b, row, i * RUN, n, room);
    return n;
}

static float largest_of(const maker *m, int64_t row, float *room)
{
    const float *x;
    float top = 0;

    for (int64_t i = 0; i * RUN < m->v.cols; i++) {
        int64_t n = run_of(m, row, i, &x, room);
        float one = cadp_largest_magnitude(x, n);
        if (one > top || isnan(one)) top = one;
    }
    return top;
}

/* A code's distance is known to (TOP + 1) 2^-22 steps, and a run's sum of squares to 2^-16 of it. */
static float distance(float step, int64_t cols, double squares)
{
    double off = squares < 0 ? 128 * sqrt((double)cols) : sqrt(squares * (1 + 0x1p-16)) + 0x1p-15 * sqrt((double)cols);

    return (float)(off * step * (1 + 0x1p-20) + 0x1p-130);
}

/* A row that is not finite has no step: it passes. One of next to nothing is all distance. */
static void make_row(const void *args, int64_t row, void *work)
{
    const maker *m = args;
    int top = m->v.six ? CADP_SIX_TOP : 127;
    float room[RUN], largest = largest_of(m, row, room), step = isfinite(largest) ? largest / (float)top : NAN;
    bool nothing = !(step >= 0x1p-120f);
    double squares = nothing ? -1 : 0;

    (void)work;
    for (int64_t i = 0; i * RUN < m->v.cols; i++) {
        uint8_t codes[RUN], *to = m->v.codes + row * m->v.bytes + i * (m->v.six ? SIX_BYTES : RUN);
        const float *x;
        int64_t n = run_of(m, row, i, &x, room);
        memset(codes, top + 1, sizeof codes);
        if (!nothing) squares += (double)to_codes(x, n, 1 / step, top, codes);
        if (m->v.six) cadp_six_pack(codes, to);
        else
            for (int64_t j = 0; j < n; j++) to[j] = (uint8_t)(codes[j] - 128); /* int8 */
    }
    m->v.step[row] = step;
    m->v.off[row] = distance(step, m->v.cols, squares);
}

cad_status cadp_make_screen(cad_device *d, void *screen, cad_tensor b)
{
    maker m = {cadp_screen_of(screen, b.rows, b.cols), b};

    cadp_cpu_each(d, b.rows, make_row, &m, NULL, 0);
    return CAD_OK;
}

/* ---- looked at ---- */

int64_t cadp_screen_words(int64_t k) { return 2 * cad_round_up(k, RUN); }

/* Each word as 256 times one byte and another. */
static void part_words(const int16_t *w, int64_t n, int8_t *high, int8_t *low)
{
    for (int64_t i = 0; i < n; i++) {
        low[i] = (int8_t)(w[i] & 255);
        high[i] = (int8_t)((w[i] - low[i]) / 256);
    }
}

bool cadp_screen_open(cadp_screen *s, const float *x, int64_t k, const cadp_screen_view *v, int16_t *words)
{
    double norm = 0, squares = 0, left = 0, per_step, per_off, rounds = (double)(k + 8) * 0x1.01p-24;
    int64_t room = cad_round_up(k, RUN);
    float top = cadp_largest_magnitude(x, k);

    for (int64_t i = 0; i < k; i++) norm += fabs((double)x[i]), squares += (double)x[i] * (double)x[i];
    if (!isfinite(norm) || !isfinite(top)) return false;
    *s = (cadp_screen){.v = *v, .words = words, .high = (int8_t *)(words + room), .step = top >= 0x1p-100f ? top / WORD_TOP : 0};
    memset(words, 0, (size_t)cadp_screen_words(k) * sizeof *words);
    for (int64_t i = 0; i < k; i++) {
        words[i] = s->step > 0 ? (int16_t)rintf(fminf(fmaxf(x[i] / s->step, -WORD_TOP), WORD_TOP)) : 0;
        left += fabs((double)x[i] - (double)s->step * words[i]);
        s->sum += words[i];
    }
    part_words(words, room, (int8_t *)(words + room), (int8_t *)(words + room) + room);
    per_step = (norm * (0x1p-18 + rounds) + left * 1.01) * (v->six ? CADP_SIX_TOP : 127);
    per_off = sqrt(squares) * (1 + rounds);
    s->per_step = (float)(per_step * (1 + 0x1p-20));
    s->per_off = (float)(per_off * (1 + 0x1p-20));
    s->per_one = (float)(norm * 0x1p-120 + 0x1p-90);
    return true;
}

/* The bound of a row. */
#define BOUND(j) (step[j] * per_step + (off[j] * per_off + per_one))

/* Elements [from, from + n) of a product of which `dots` are whole: to = each, and what the largest is at least. */
CAD_CLONES static float weigh(const cadp_screen *s, int64_t from, const int64_t *dots, int64_t n, float *to)
{
    const float *step = s->v.step + from, *off = s->v.off + from;
    float low[CADP_SCREEN_ROWS], per_step = s->per_step, per_off = s->per_off, per_one = s->per_one, by = s->step;

#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        to[i] = (float)dots[i] * (by * step[i]);
        low[i] = to[i] - BOUND(i);
    }
    return cadp_largest(low, n);
}

/* What is left of fours is done one by one, a row four times. */
float cadp_screen_estimate(const cadp_screen *s, int64_t from, int64_t n, float *out)
{
    enum { ROWS = CADP_SCREEN_ABREAST };
    int64_t dots[CADP_SCREEN_ROWS], found[ROWS], apart = n / ROWS;
    const uint8_t *codes = s->v.codes + from * s->v.bytes, *rows[ROWS];

    CAD_ASSERT(n <= CADP_SCREEN_ROWS);
    for (int64_t j = 0; j < apart; j++) {
        for (int64_t r = 0; r < ROWS; r++) rows[r] = codes + (j + r * apart) * s->v.bytes;
        cadp_screen_dots(s, rows, found);
        for (int64_t r = 0; r < ROWS; r++) dots[j + r * apart] = found[r];
    }
    for (int64_t j = apart * ROWS; j < n; j++) {
        for (int64_t r = 0; r < ROWS; r++) rows[r] = codes + j * s->v.bytes;
        cadp_screen_dots(s, rows, found);
        dots[j] = found[0];
    }
    return weigh(s, from, dots, n, out);
}

/* What is no number passes. */
CAD_CLONES int64_t cadp_screen_pass(const cadp_screen *s, int64_t from, int64_t n, float most, float *x, int64_t *rows)
{
    enum { PART = 64 };
    const float *step = s->v.step + from, *off = s->v.off + from;
    float per_step = s->per_step, per_off = s->per_off, per_one = s->per_one;
    int64_t passing = 0;

    for (int64_t i = 0; i < n; i += PART) {
        int64_t end = cad_min(n, i + PART);
        int some = 0;
#pragma omp simd reduction(| : some)
        for (int64_t j = i; j < end; j++) some |= !(x[j] + BOUND(j) < most);
        for (int64_t j = i; some && j < end; j++)
            if (!(x[j] + BOUND(j) < most)) rows[passing++] = from + j;
        for (int64_t j = i; j < end; j++) x[j] = -INFINITY;
    }
    return passing;
}
