/* One token drawn from its logits: who may be drawn, in the order of Transformers' processors. */
#include "train_priv.h"

#include <math.h>
#include <stdlib.h>

static int by_logit(const void *a, const void *b)
{
    const cadp_candidate *x = a, *y = b;

    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

static double weight(const cadp_candidate *c, int64_t i) { return exp((double)c[i].logit - (double)c[0].logit); }

/* Those as likely as the last one stay too. */
static int64_t keep_top(const cadp_candidate *c, int64_t n, int64_t k)
{
    if (k <= 0 || k >= n) return n;
    while (k < n && c[k].logit == c[k - 1].logit) k++;
    return k;
}

static int64_t keep_nucleus(const cadp_candidate *c, int64_t n, double p)
{
    double all = 0, sum = 0;

    if (p >= 1) return n;
    for (int64_t i = 0; i < n; i++) all += weight(c, i);
    for (int64_t i = 0; i < n; i++) {
        sum += weight(c, i) / all;
        if (sum >= p) return i + 1;
    }
    return n;
}

/* What is there already becomes less likely (Keskar et al. 2019). */
void cadp_penalise(double by, const uint8_t *seen, int64_t n, float *logits)
{
    float f = (float)by;

    for (int64_t i = 0; i < n; i++)
        if (seen[i]) logits[i] = logits[i] < 0 ? logits[i] * f : logits[i] / f;
}

int64_t cadp_keep_likely(const cad_sampling *s, const float *logits, int64_t n, cadp_candidate *c)
{
    for (int32_t i = 0; i < n; i++) c[i] = (cadp_candidate){logits[i] / (float)s->temperature, i};
    qsort(c, (size_t)n, sizeof *c, by_logit);
    n = keep_nucleus(c, keep_top(c, n, s->top_k), s->top_p);
    while (s->min_p > 0 && n > 1 && weight(c, n - 1) < s->min_p) n--;
    return n;
}

int32_t cadp_draw(const cadp_candidate *c, int64_t n, double at)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++) sum += weight(c, i);
    at *= sum;
    for (int64_t i = 0; i < n; i++)
        if ((at -= weight(c, i)) < 0) return c[i].id;
    return c[n - 1].id;
}
