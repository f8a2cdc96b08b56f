#include "metric_priv.h"

#include <math.h>

typedef struct line { double intercept, slope; } line;

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* A float32 softmax cannot tell probabilities nearer to 0 or 1 than this, so neither can their log-odds. */
static double log_odds(double p)
{
    p = fmin(fmax(p, 0x1p-24), 1 - 0x1p-24);
    return log(p) - log1p(-p);
}

void cadp_bins(cad_metrics *m, const int32_t *labels, const double *prob1)
{
    cadp_sum mean[CAD_BINS] = {{0, 0}}, ece = {0, 0};
    int64_t events[CAD_BINS] = {0};

    for (int64_t i = 0; i < m->n; i++) {
        int b = 0;
        while (b < CAD_BINS - 1 && (b + 1) * (1.0 / CAD_BINS) < prob1[i]) b++;
        cadp_sum_add(&mean[b], prob1[i]);
        events[b] += labels[i];
        m->bin[b].n++;
    }
    for (int b = 0; b < CAD_BINS; b++) {
        m->bin[b].mean = cadp_sum_total(mean[b]) / (double)m->bin[b].n; /* NaN when empty */
        m->bin[b].rate = (double)events[b] / (double)m->bin[b].n;
        if (m->bin[b].n) cadp_sum_add(&ece, (double)m->bin[b].n * fabs(m->bin[b].mean - m->bin[b].rate));
    }
    m->ece = cadp_sum_total(ece) / (double)m->n;
}

/* In one dimension the maximum exists exactly when each class reaches into the other (Albert, Anderson 1984). */
static bool overlap(const int32_t *labels, const double *x, int64_t n)
{
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};

    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) return false;
        low[labels[i]] = fmin(low[labels[i]], x[i]);
        high[labels[i]] = fmax(high[labels[i]], x[i]);
    }
    return high[0] > low[1] && high[1] > low[0];
}

/* log p(y | x) summed; log(1 + e^t) without overflow. */
static double likelihood(const int32_t *labels, const double *x, int64_t n, line f)
{
    cadp_sum sum = {0, 0};

    for (int64_t i = 0; i < n; i++) {
        double t = f.intercept + f.slope * x[i];
        cadp_sum_add(&sum, labels[i] * t - fmax(t, 0) - log1p(exp(-fabs(t))));
    }
    return cadp_sum_total(sum);
}

static line newton_step(const int32_t *labels, const double *x, int64_t n, line f)
{
    cadp_sum g0 = {0, 0}, g1 = {0, 0}, h00 = {0, 0}, h01 = {0, 0}, h11 = {0, 0};
    double a, b, c, det;

    for (int64_t i = 0; i < n; i++) {
        double mu = sigmoid(f.intercept + f.slope * x[i]), w = mu * (1 - mu), r = labels[i] - mu;
        cadp_sum_add(&g0, r);
        cadp_sum_add(&g1, r * x[i]);
        cadp_sum_add(&h00, w);
        cadp_sum_add(&h01, w * x[i]);
        cadp_sum_add(&h11, w * x[i] * x[i]);
    }
    a = cadp_sum_total(h00), b = cadp_sum_total(h01), c = cadp_sum_total(h11);
    det = a * c - b * b;
    return (line){(c * cadp_sum_total(g0) - b * cadp_sum_total(g1)) / det, (a * cadp_sum_total(g1) - b * cadp_sum_total(g0)) / det};
}

/* Newton with step halving: the likelihood is concave, so the climb ends at the maximum. NaN when it does not within reason. */
static line climb(const int32_t *labels, const double *x, int64_t n, line f)
{
    double here = likelihood(labels, x, n, f);

    for (int turn = 0; turn < 100; turn++) {
        line d = newton_step(labels, x, n, f), next = f;
        double there = -INFINITY, share = 1;
        if (!isfinite(d.intercept) || !isfinite(d.slope)) break;
        for (; share > 1e-9; share /= 2) {
            next = (line){f.intercept + share * d.intercept, f.slope + share * d.slope};
            there = likelihood(labels, x, n, next);
            if (there >= here - 1e-12 * fabs(here)) break;
        }
        f = next;
        here = there;
        if (fabs(d.intercept) <= 1e-11 * (1 + fabs(f.intercept)) && fabs(d.slope) <= 1e-11 * (1 + fabs(f.slope))) return f;
    }
    return (line){NAN, NAN};
}

/* y ~ intercept + slope x. Standardised inside, so that log-odds of any size are well conditioned. */
static line fit_line(const int32_t *labels, double *x, int64_t n, double prevalence)
{
    cadp_sum sum = {0, 0}, squares = {0, 0};
    double mean, sd;
    line f;

    for (int64_t i = 0; i < n; i++) cadp_sum_add(&sum, x[i]);
    mean = cadp_sum_total(sum) / (double)n;
    for (int64_t i = 0; i < n; i++) cadp_sum_add(&squares, (x[i] - mean) * (x[i] - mean));
    sd = sqrt(cadp_sum_total(squares) / (double)n);
    for (int64_t i = 0; i < n; i++) x[i] = (x[i] - mean) / sd;
    f = climb(labels, x, n, (line){log(prevalence) - log1p(-prevalence), 0});
    return (line){f.intercept - f.slope * mean / sd, f.slope / sd};
}

/* The shift a with sum sigmoid(a + x) = positives: Newton kept inside a bracket that must hold the root. */
static double shift_to_prevalence(const double *x, int64_t n, double prevalence)
{
    double low = INFINITY, high = -INFINITY, wanted = log(prevalence) - log1p(-prevalence), a;

    for (int64_t i = 0; i < n; i++) {
        low = fmin(low, wanted - x[i]);
        high = fmax(high, wanted - x[i]);
    }
    if (!isfinite(low) || !isfinite(high)) return NAN;
    a = low + (high - low) / 2;
    for (int turn = 0; turn < 200; turn++) {
        cadp_sum f = {0, 0}, slope = {0, 0};
        double step, next;
        for (int64_t i = 0; i < n; i++) {
            double mu = sigmoid(a + x[i]);
            cadp_sum_add(&f, mu - prevalence);
            cadp_sum_add(&slope, mu * (1 - mu));
        }
        if (cadp_sum_total(f) > 0) high = a; else low = a;
        step = cadp_sum_total(f) / cadp_sum_total(slope);
        next = a - step;
        if (!(next >= low && next <= high)) next = low + (high - low) / 2;
        if (fabs(next - a) <= 1e-14 * (1 + fabs(a))) return next;
        a = next;
    }
    return a;
}

cad_status cadp_recalibrate(cad_metrics *m, const int32_t *labels, const double *prob1, const double *logit)
{
    double prevalence = (double)m->positives / (double)m->n, *x = NULL;

    if (!m->positives || m->positives == m->n) return CAD_OK;
    CAD_TRY(cad_alloc(&x, (size_t)m->n, sizeof *x, "log-odds"));
    for (int64_t i = 0; i < m->n; i++) x[i] = logit ? logit[i] : log_odds(prob1[i]);
    m->calibration_in_the_large = shift_to_prevalence(x, m->n, prevalence);
    if (overlap(labels, x, m->n)) {
        line f = fit_line(labels, x, m->n, prevalence);
        m->calibration_intercept = f.intercept;
        m->calibration_slope = f.slope;
    }
    cad_free(&x);
    return CAD_OK;
}
