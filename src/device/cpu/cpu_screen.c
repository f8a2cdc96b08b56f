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

static float bound(const cadp_screen *s, float scale) { return scale * s->per_scale + s->per_one; }

float cadp_screen_estimate(const cadp_screen *s, const cad_coded *q, int64_t from, int64_t n, float *out)
{
    const float *scale = (const float *)q->scales.data + q->above;
    const int8_t *codes = (const int8_t *)q->codes.data + (q->above + from) * q->cols;
    float most = -INFINITY;

    for (int64_t j = 0; j < n; j++, codes += q->cols) {
        float by = scale[from + j], low;
        out[j] = (float)dot_words(codes, s->words, q->cols) * (s->step * (by * (1.0f / 127.0f)));
        low = out[j] - bound(s, by);
        if (low > most) most = low;
    }
    return most;
}

bool cadp_screen_passes(const cadp_screen *s, const cad_coded *q, int64_t row, float estimate, float most)
{
    return !(estimate + bound(s, ((const float *)q->scales.data)[q->above + row]) < most); /* what is no number passes */
}
