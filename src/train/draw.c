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

/* Who may be drawn: n candidates, of which the first `sorted` are in order and no less likely than the rest. A vocabulary is long and what counts of it short. */
typedef struct ranking { cadp_candidate *c; int64_t n, sorted; float top, reach; } ranking;

/* Those of the rest that are within reach of the likeliest. */
static void sort_more(ranking *r)
{
    cadp_candidate *c = r->c;
    int64_t from = r->sorted;
    float low = r->top - r->reach;

    for (int64_t i = from; i < r->n; i++)
        if (!(c[i].logit < low)) {
            cadp_candidate near = c[i];
            c[i] = c[r->sorted];
            c[r->sorted++] = near;
        }
    qsort(c + from, (size_t)(r->sorted - from), sizeof *c, by_logit);
    r->reach *= 1.5f;
}

static void sort_up_to(ranking *r, int64_t i)
{
    while (r->sorted <= i) sort_more(r);
}

static void keep(ranking *r, int64_t n) { r->n = r->sorted = n; }

/* Those as likely as the last one stay too. */
static void keep_top(ranking *r, int64_t k)
{
    if (k <= 0 || k >= r->n) return;
    sort_up_to(r, k - 1);
    while (k < r->sorted && r->c[k].logit == r->c[k - 1].logit) k++;
    keep(r, k);
}

static void keep_nucleus(ranking *r, double p)
{
    double all = 0, sum = 0;

    if (p >= 1) return;
    for (int64_t i = 0; i < r->n; i++) all += weight(r->c, i);
    for (int64_t i = 0; i < r->n; i++) {
        sort_up_to(r, i);
        sum += weight(r->c, i);
        if (sum >= p * all) keep(r, i + 1); /* no division: a share of equals is met exactly */
    }
}

static void keep_near(ranking *r, double min_p)
{
    if (min_p <= 0) return;
    for (int64_t i = 1; i < r->n; i++) {
        sort_up_to(r, i);
        if (weight(r->c, i) < min_p) keep(r, i);
    }
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
    ranking r = {.c = c, .n = n, .top = -INFINITY, .reach = 2};

    for (int32_t i = 0; i < n; i++) {
        c[i] = (cadp_candidate){logits[i] / (float)s->temperature, i};
        if (c[i].logit > r.top) r.top = c[i].logit;
    }
    sort_up_to(&r, 0);
    keep_top(&r, s->top_k);
    keep_nucleus(&r, s->top_p);
    keep_near(&r, s->min_p);
    return r.n;
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
