/* Which rows of B can give the largest element of B x, from half its bytes: codes q of 8 bits with a scale s a row (quant.h), and x as whole numbers w of 16 bits and a step.
 *
 * Let u = s / 127. b = u q + f with |f_i| <= s (1/254 + 2^-11) + 2^-25: a code's rounding, and that of b to fp16 before it (absolute where fp16 has no more digits).
 * x = step w + e. So b.x = u step (q.w) + f.x + (u q).e, where q.w is exact, |f.x| <= (s (1/254 + 2^-11) + 2^-25) |x|1 and |(u q).e| <= s |e|1.
 * The product that counts, summed in fp32 in some order, lies within (k + 8) 2^-24 |b|.|x| of b.x, and |b_i| <= s (1 + 2^-10) + 2^-25. 2^-18 s |x|1 is more than what
 * the arithmetic of the codes, of this estimate and of these bounds rounds away. The row whose estimate less its bound is largest can be beaten by those only whose
 * estimate and bound reach that. */
#include "cpu_math.h"
#include "cpu_priv.h"

#include <math.h>

/* A row's terms are summed CHUNK at a time in 32 bits: CHUNK 127 (2^15 - 1) < 2^31. */
enum { CHUNK = 512, TOP = 32767 };

int64_t cadp_screen_words(int64_t k) { return cad_round_up(k, 32); }

bool cadp_screen_open(cadp_screen *s, const float *x, int64_t k, int16_t *words)
{
    double norm = 0, left = 0, per_scale, per_one;
    float top = cadp_largest_magnitude(x, k);

    for (int64_t i = 0; i < k; i++) norm += fabs((double)x[i]);
    if (!isfinite(norm) || !isfinite(top)) return false;
    s->words = words;
    memset(words, 0, (size_t)cadp_screen_words(k) * sizeof *words);
    s->step = top >= 0x1p-100f ? top / TOP : 0;
    for (int64_t i = 0; i < k; i++) {
        words[i] = s->step > 0 ? (int16_t)rintf(fminf(fmaxf(x[i] / s->step, -TOP), TOP)) : 0;
        left += fabs((double)x[i] - (double)s->step * words[i]);
    }
    per_scale = norm * (1.0 / 254 + 0x1p-11 + 0x1p-18 + (double)(k + 8) * 0x1.01p-24) + left * 1.01;
    per_one = norm * (0x1p-25 * (1 + (double)(k + 8) * 0x1p-24)) + 0x1p-90;
    s->per_scale = (float)(per_scale * (1 + 0x1p-20));
    s->per_one = (float)(per_one * (1 + 0x1p-20));
    return true;
}

CAD_CLONES static int32_t dot_chunk(const int8_t *q, const int16_t *w, int64_t n)
{
    int32_t sum = 0;

#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (int16_t)q[i] * w[i];
    return sum;
}

static int64_t dot_words(const int8_t *q, const int16_t *w, int64_t k)
{
    int64_t sum = 0;

    for (int64_t i = 0; i < k; i += CHUNK) sum += dot_chunk(q + i, w + i, cad_min(CHUNK, k - i));
    return sum;
}

/* Four rows at once, each a stream of its own to the processor. */
enum { ROWS = 4 };
static void four_dots_plain(const int8_t *const *q, const int16_t *w, int64_t k, int64_t *out)
{
    for (int r = 0; r < ROWS; r++) out[r] = dot_words(q[r], w, k);
}

#if defined(__x86_64__)
#include <immintrin.h>

/* A lane's 2 MOST / 32 products stay below 2^31. */
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) static void four_dots_wide(const int8_t *const *q, const int16_t *w, int64_t k, int64_t *out)
{
    enum { MOST = 8192, AHEAD = 1024 };

    for (int r = 0; r < ROWS; r++) out[r] = 0;
    for (int64_t from = 0; from < k; from += MOST) {
        __m512i sum[ROWS] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
        for (int64_t i = from, end = cad_min(k, from + MOST); i < end; i += 32) {
            __mmask32 some = end - i >= 32 ? 0xffffffffu : (1u << (end - i)) - 1;
            __m512i x = _mm512_loadu_si512(w + i);
#pragma GCC unroll 4
            for (int r = 0; r < ROWS; r++) {
                if (i % 64 == 0) _mm_prefetch((const char *)q[r] + i + AHEAD, _MM_HINT_T0);
                sum[r] = _mm512_add_epi32(sum[r], _mm512_madd_epi16(x, _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(some, q[r] + i))));
            }
        }
        for (int r = 0; r < ROWS; r++)
            out[r] += _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(sum[r])), _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(sum[r], 1))));
    }
}

static void four_dots(const int8_t *const *q, const int16_t *w, int64_t k, int64_t *out) { (cadp_has_words() ? four_dots_wide : four_dots_plain)(q, w, k, out); }
#else
static void four_dots(const int8_t *const *q, const int16_t *w, int64_t k, int64_t *out) { four_dots_plain(q, w, k, out); }
#endif

/* Elements [from, from + n) of a product of which `dots` are whole: to = each, and what the largest is at least. */
CAD_CLONES static float weigh(const cadp_screen *s, const float *scale, const int64_t *dots, int64_t n, float *to)
{
    float low[CADP_SCREEN_ROWS], per_scale = s->per_scale, per_one = s->per_one, step = s->step;

#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        to[i] = (float)dots[i] * (step * (scale[i] * (1.0f / 127.0f)));
        low[i] = to[i] - (scale[i] * per_scale + per_one);
    }
    return cadp_largest(low, n);
}

/* What is left of fours is done one by one, a row four times. */
float cadp_screen_estimate(const cadp_screen *s, const cad_coded *q, int64_t from, int64_t n, float *out)
{
    const int8_t *codes = (const int8_t *)q->codes.data + (q->above + from) * q->cols, *rows[ROWS];
    int64_t dots[CADP_SCREEN_ROWS], found[ROWS], apart = n / ROWS;

    CAD_ASSERT(n <= CADP_SCREEN_ROWS);
    for (int64_t j = 0; j < apart; j++) {
        for (int64_t r = 0; r < ROWS; r++) rows[r] = codes + (j + r * apart) * q->cols;
        four_dots(rows, s->words, q->cols, found);
        for (int64_t r = 0; r < ROWS; r++) dots[j + r * apart] = found[r];
    }
    for (int64_t j = apart * ROWS; j < n; j++) {
        for (int64_t r = 0; r < ROWS; r++) rows[r] = codes + j * q->cols;
        four_dots(rows, s->words, q->cols, found);
        dots[j] = found[0];
    }
    return weigh(s, (const float *)q->scales.data + q->above + from, dots, n, out);
}

/* What is no number passes. */
CAD_CLONES int64_t cadp_screen_pass(const cadp_screen *s, const cad_coded *q, int64_t from, int64_t n, float most, float *x, int64_t *rows)
{
    enum { RUN = 64 };
    const float *scale = (const float *)q->scales.data + q->above + from;
    int64_t passing = 0;

    for (int64_t i = 0; i < n; i += RUN) {
        int64_t end = cad_min(n, i + RUN);
        int some = 0;
#pragma omp simd reduction(| : some)
        for (int64_t j = i; j < end; j++) some |= !(x[j] + (scale[j] * s->per_scale + s->per_one) < most);
        for (int64_t j = i; some && j < end; j++)
            if (!(x[j] + (scale[j] * s->per_scale + s->per_one) < most)) rows[passing++] = from + j;
        for (int64_t j = i; j < end; j++) x[j] = -INFINITY;
    }
    return passing;
}
