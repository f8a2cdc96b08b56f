#include "metric_priv.h"

#include <math.h>
#include <stdlib.h>

static int falling(const void *a, const void *b)
{
    const cadp_scored *x = a, *y = b;

    if (x->p != y->p) return x->p > y->p ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

cad_status cadp_rank(cadp_scored **out, const int32_t *labels, const double *prob1, int64_t n)
{
    cadp_scored *s = NULL;

    CAD_TRY(cad_alloc(&s, (size_t)n, sizeof *s, "ranked probabilities"));
    for (int64_t i = 0; i < n; i++) s[i] = (cadp_scored){.p = prob1[i], .row = i, .label = labels[i]};
    qsort(s, (size_t)n, sizeof *s, falling);
    for (int64_t i = 0; i < n; i++) s[i].last = i + 1 == n || s[i + 1].p != s[i].p;
    *out = s;
    return CAD_OK;
}

/* Twice the number of (positive, negative) pairs in the right order; a tie counts one. */
static double twice_concordant(const cadp_scored *s, int64_t n)
{
    double pairs = 0;
    int64_t above = 0, pos = 0, neg = 0;

    for (int64_t i = 0; i < n; i++) {
        pos += s[i].label == 1;
        neg += s[i].label == 0;
        if (!s[i].last) continue;
        pairs += (double)neg * (double)(2 * above + pos);
        above += pos;
        pos = neg = 0;
    }
    return pairs;
}

/* DeLong, DeLong, Clarke-Pearson 1988: the variance of the structural components, which are mid-ranks (Sun, Xu 2014). */
static double delong_variance(const cadp_scored *s, int64_t n, int64_t positives, double auc)
{
    double p1 = (double)positives, p0 = (double)(n - positives);
    cadp_sum of_pos = {0, 0}, of_neg = {0, 0};
    int64_t above = 0, neg_seen = 0, pos = 0, neg = 0;

    if (positives < 2 || n - positives < 2) return NAN;
    for (int64_t i = 0; i < n; i++) {
        double v10, v01;
        pos += s[i].label == 1;
        neg += s[i].label == 0;
        if (!s[i].last) continue;
        v10 = (p0 - (double)neg_seen - 0.5 * (double)neg) / p0 - auc;
        v01 = ((double)above + 0.5 * (double)pos) / p1 - auc;
        cadp_sum_add(&of_pos, (double)pos * v10 * v10);
        cadp_sum_add(&of_neg, (double)neg * v01 * v01);
        above += pos;
        neg_seen += neg;
        pos = neg = 0;
    }
    return cadp_sum_total(of_pos) / (p1 - 1) / p1 + cadp_sum_total(of_neg) / (p0 - 1) / p0;
}

/* Sum over the distinct thresholds of (recall gained) x precision; 0 without positives, as scikit-learn has it. */
static double average_precision(const cadp_scored *s, int64_t n, int64_t positives)
{
    cadp_sum ap = {0, 0};
    int64_t tp = 0, before = 0;

    for (int64_t i = 0; i < n; i++) {
        tp += s[i].label == 1;
        if (!s[i].last) continue;
        cadp_sum_add(&ap, (double)(tp - before) * ((double)tp / (double)(i + 1)));
        before = tp;
    }
    return positives ? cadp_sum_total(ap) / (double)positives : 0;
}

void cadp_ranking(cad_metrics *m, const cadp_scored *s)
{
    double half;

    m->auprc = average_precision(s, m->n, m->positives);
    if (!m->positives || m->positives == m->n) return;
    m->auc = twice_concordant(s, m->n) / (2.0 * (double)m->positives * (double)(m->n - m->positives));
    half = CADP_Z95 * sqrt(delong_variance(s, m->n, m->positives, m->auc));
    if (isnan(half)) return;
    m->auc_ci = (cad_interval){fmax(m->auc - half, 0), fmin(m->auc + half, 1)};
}
