/* Decisions at thresholds, and how well risks fit what is observed. */
#include "metric_priv.h"

#include <math.h>
#include <stdlib.h>

static double share(int64_t part, int64_t whole) { return whole ? (double)part / (double)whole : NAN; }

cad_point cad_point_at(const int32_t *labels, const double *prob1, int64_t n, double threshold)
{
    cad_point p = {.threshold = threshold};

    for (int64_t i = 0; i < n; i++) {
        bool called = prob1[i] >= threshold;
        p.tp += labels[i] && called;
        p.fp += !labels[i] && called;
        p.fn += labels[i] && !called;
        p.tn += !labels[i] && !called;
    }
    p.sensitivity = share(p.tp, p.tp + p.fn);
    p.specificity = share(p.tn, p.tn + p.fp);
    p.ppv = share(p.tp, p.tp + p.fp);
    p.npv = share(p.tn, p.tn + p.fn);
    p.net_benefit = (double)p.tp / (double)n - (double)p.fp / (double)n * threshold / (1 - threshold);
    return p;
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

cad_status cad_threshold_for(double *out, const int32_t *labels, const double *prob1, int64_t n, double specificity)
{
    double *p = NULL;
    int64_t k = 0, least;

    *out = NAN;
    CAD_TRY(cad_alloc(&p, (size_t)n, sizeof *p, "risks"));
    for (int64_t i = 0; i < n; i++)
        if (!labels[i]) p[k++] = prob1[i];
    qsort(p, (size_t)k, sizeof *p, rising);
    least = (int64_t)ceil(specificity * (double)k - 1e-9);
    /* with at least `least` negatives below it: just above the largest of them */
    if (k) *out = least < 1 ? 0 : nextafter(p[least - 1], INFINITY);
    cad_free(&p);
    return CAD_OK;
}

typedef struct pair { double p; int32_t y; } pair;
static int by_p(const void *a, const void *b)
{
    const pair *x = a, *y = b;

    return (x->p > y->p) - (x->p < y->p);
}

/* The fitted value at x of a weighted quadratic over s[from, to): three normal equations in (p - x) / reach. */
static double local_fit(const pair *s, int64_t from, int64_t to, double x, double reach)
{
    double m[5] = {0}, r[3] = {0}, det, top;

    for (int64_t i = from; i < to; i++) {
        double t = (s[i].p - x) / reach, u = 1 - fabs(t * t * t), w = u > 0 ? u * u * u : 0;
        m[0] += w, m[1] += w * t, m[2] += w * t * t, m[3] += w * t * t * t, m[4] += w * t * t * t * t;
        if (s[i].y) r[0] += w, r[1] += w * t, r[2] += w * t * t;
    }
    det = m[0] * (m[2] * m[4] - m[3] * m[3]) - m[1] * (m[1] * m[4] - m[2] * m[3]) + m[2] * (m[1] * m[3] - m[2] * m[2]);
    top = r[0] * (m[2] * m[4] - m[3] * m[3]) - m[1] * (r[1] * m[4] - m[3] * r[2]) + m[2] * (r[1] * m[3] - m[2] * r[2]);
    if (m[0] > 0 && fabs(det) <= 1e-12 * m[0] * m[2] * m[4]) return r[0] / m[0]; /* all at one place */
    return m[0] > 0 ? top / det : NAN;
}

/* The nearest `span` rows of x; their largest distance is the reach. */
static void window(const pair *s, int64_t n, int64_t span, double x, int64_t *from, double *reach)
{
    while (*from + span < n && s[*from + span].p - x < x - s[*from].p) ++*from;
    *reach = fmax(x - s[*from].p, s[*from + span - 1].p - x);
    if (!(*reach > 0)) *reach = 1e-9;
}

static double between(const cad_smooth *c, double p)
{
    int k = 0;

    if (c->points == 1 || p <= c->x[0]) return c->y[0];
    while (k + 2 < c->points && c->x[k + 1] < p) k++;
    if (p >= c->x[c->points - 1]) return c->y[c->points - 1];
    return c->y[k] + (c->y[k + 1] - c->y[k]) * (p - c->x[k]) / (c->x[k + 1] - c->x[k]);
}

static void fit_points(cad_smooth *out, const pair *s, int64_t n)
{
    int64_t span = cad_max((int64_t)(0.75 * (double)n), 1), from = 0;
    double reach;

    for (int k = 0; k < CAD_SMOOTH; k++) {
        double x = s[(int64_t)((double)(n - 1) * k / (CAD_SMOOTH - 1))].p;
        if (out->points && x <= out->x[out->points - 1]) continue;
        window(s, n, span, x, &from, &reach);
        out->x[out->points] = x;
        out->y[out->points++] = fmin(fmax(local_fit(s, from, from + span, x, reach * (1 + 1e-9)), 0), 1);
    }
}

static cad_status measure_distance(cad_smooth *out, const pair *s, int64_t n)
{
    double *d = NULL;
    cadp_sum sum = {0, 0};

    CAD_TRY(cad_alloc(&d, (size_t)n, sizeof *d, "distances"));
    for (int64_t i = 0; i < n; i++) {
        d[i] = fabs(s[i].p - between(out, s[i].p));
        cadp_sum_add(&sum, d[i]);
    }
    qsort(d, (size_t)n, sizeof *d, rising);
    out->ici = cadp_sum_total(sum) / (double)n;
    out->e50 = d[(n - 1) / 2];
    out->e90 = d[(int64_t)(0.9 * (double)(n - 1))];
    cad_free(&d);
    return CAD_OK;
}

cad_status cad_smooth_calibration(cad_smooth *out, const int32_t *labels, const double *prob1, int64_t n)
{
    pair *s = NULL;
    cad_status st;

    *out = (cad_smooth){.ici = NAN, .e50 = NAN, .e90 = NAN};
    if (!n) return CAD_OK;
    CAD_TRY(cad_alloc(&s, (size_t)n, sizeof *s, "risks"));
    for (int64_t i = 0; i < n; i++) s[i] = (pair){prob1[i], labels[i]};
    qsort(s, (size_t)n, sizeof *s, by_p);
    fit_points(out, s, n);
    st = measure_distance(out, s, n);
    cad_free(&s);
    return st;
}

double cad_scaled_brier(const cad_metrics *m)
{
    double rate = (double)m->positives / (double)m->n;

    return rate > 0 && rate < 1 ? 1 - m->brier / (rate * (1 - rate)) : NAN;
}

double cad_observed_to_expected(const int32_t *labels, const double *prob1, int64_t n)
{
    cadp_sum expected = {0, 0};
    double observed = 0;

    for (int64_t i = 0; i < n; i++) {
        observed += labels[i];
        cadp_sum_add(&expected, prob1[i]);
    }
    return cadp_sum_total(expected) > 0 ? observed / cadp_sum_total(expected) : NAN;
}

double cad_recalibrated(double p, double intercept, double slope)
{
    double q = fmin(fmax(p, 0x1p-24), 1 - 0x1p-24);

    return 1 / (1 + exp(-(intercept + slope * (log(q) - log1p(-q)))));
}
