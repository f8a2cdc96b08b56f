#include "metric_priv.h"

#include <float.h>
#include <math.h>

double cad_prob1(float logit0, float logit1)
{
    float top = fmaxf(logit0, logit1), e0 = expf(logit0 - top), e1 = expf(logit1 - top);

    return (double)(e1 / (e0 + e1));
}

/* A share of nothing is 0, which is scikit-learn's zero_division. */
static double share(int64_t part, int64_t whole) { return whole ? (double)part / (double)whole : 0; }

static cad_status check_rows(const int32_t *labels, const int32_t *predictions, const double *prob1, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        long long row = (long long)i + 1;
        if (labels[i] != 0 && labels[i] != 1) return cad_fail(CAD_EDATA, "metrics: expected labels 0 and 1, found another in row %lld", row);
        if (predictions[i] != 0 && predictions[i] != 1)
            return cad_fail(CAD_EDATA, "metrics: expected predictions 0 and 1, found another in row %lld", row);
        if (isnan(prob1[i])) return cad_fail(CAD_EINTERNAL, "metrics: the probability of row %lld is not a number", row);
        if (!(prob1[i] >= 0 && prob1[i] <= 1))
            return cad_fail(CAD_EDATA, "metrics: expected probabilities from 0 to 1, found another in row %lld", row);
    }
    return CAD_OK;
}

static void count_cells(cad_metrics *m, const int32_t *labels, const int32_t *predictions)
{
    for (int64_t i = 0; i < m->n; i++) {
        m->tp += labels[i] && predictions[i];
        m->fp += !labels[i] && predictions[i];
        m->fn += labels[i] && !predictions[i];
        m->tn += !labels[i] && !predictions[i];
    }
    m->positives = m->tp + m->fn;
}

static cad_class_row class_row(int64_t hit, int64_t wrong, int64_t missed)
{
    return (cad_class_row){.precision = share(hit, hit + wrong), .recall = share(hit, hit + missed),
                           .f1 = share(2 * hit, 2 * hit + wrong + missed), .support = hit + missed};
}

/* A class that occurs neither in the labels nor in the predictions has no row in scikit-learn's averages. */
static void average_rows(cad_metrics *m)
{
    double classes = 0;
    cad_class_row a = {.support = m->n}, w = {.support = m->n};

    for (int c = 0; c < 2; c++) {
        const cad_class_row *r = &m->row[c];
        double part = (double)r->support / (double)m->n;
        bool there = c ? m->tp + m->fp + m->fn > 0 : m->tn + m->fp + m->fn > 0;
        classes += there;
        a.precision += r->precision;
        a.recall += r->recall;
        a.f1 += r->f1;
        w.precision += part * r->precision;
        w.recall += part * r->recall;
        w.f1 += part * r->f1;
    }
    a.precision /= classes;
    a.recall /= classes;
    a.f1 /= classes;
    m->macro = a;
    m->weighted = w;
}

static void decide(cad_metrics *m)
{
    double root = sqrt((double)(m->tp + m->fp)) * sqrt((double)(m->tp + m->fn)) * sqrt((double)(m->tn + m->fp)) * sqrt((double)(m->tn + m->fn));

    m->accuracy = (double)(m->tp + m->tn) / (double)m->n;
    m->row[1] = class_row(m->tp, m->fp, m->fn);
    m->row[0] = class_row(m->tn, m->fn, m->fp);
    average_rows(m);
    m->precision = m->row[1].precision;
    m->recall = m->row[1].recall;
    m->f1 = m->row[1].f1;
    m->specificity = m->row[0].recall;
    m->npv = m->row[0].precision;
    /* the mean of the recalls of the classes among the labels */
    m->balanced_accuracy = !m->positives ? m->specificity : m->positives == m->n ? m->recall : (m->recall + m->specificity) / 2;
    m->mcc = root > 0 ? ((double)m->tp * (double)m->tn - (double)m->fp * (double)m->fn) / root : 0;
}

static void score(cad_metrics *m, const int32_t *labels, const double *prob1)
{
    cadp_sum squares = {0, 0}, logs = {0, 0};

    for (int64_t i = 0; i < m->n; i++) {
        double off = prob1[i] - labels[i], p = labels[i] ? prob1[i] : 1 - prob1[i];
        cadp_sum_add(&squares, off * off);
        cadp_sum_add(&logs, -log(fmin(fmax(p, DBL_EPSILON), 1 - DBL_EPSILON)));
    }
    m->brier = cadp_sum_total(squares) / (double)m->n;
    m->log_loss = cadp_sum_total(logs) / (double)m->n;
}

/* Wilson 1927. */
static cad_interval wilson(double hits, double n)
{
    double p = hits / n, z2 = CADP_Z95 * CADP_Z95, middle = (p + z2 / (2 * n)) / (1 + z2 / n);
    double half = CADP_Z95 * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n);

    return (cad_interval){fmax(middle - half, 0), fmin(middle + half, 1)};
}

static cad_metrics nothing_defined(int64_t n)
{
    const cad_interval none = {NAN, NAN};
    const cad_class_row empty = {NAN, NAN, NAN, 0};
    cad_metrics m = {.n = n, .threshold = 0.5, .accuracy = NAN, .precision = NAN, .recall = NAN, .f1 = NAN, .balanced_accuracy = NAN,
                     .mcc = NAN, .specificity = NAN, .npv = NAN, .auc = NAN, .auprc = NAN, .brier = NAN, .log_loss = NAN, .loss = NAN,
                     .auc_ci = none, .auprc_ci = none, .accuracy_ci = none, .brier_ci = none, .row = {empty, empty}, .macro = empty,
                     .weighted = empty, .calibration_slope = NAN, .calibration_intercept = NAN, .calibration_in_the_large = NAN, .ece = NAN};

    for (int b = 0; b < CAD_BINS; b++) m.bin[b].mean = m.bin[b].rate = NAN;
    return m;
}

cad_status cad_metrics_compute(cad_metrics *out, const int32_t *labels, const int32_t *predictions, const double *prob1, const double *logit,
                               int64_t n, bool deep)
{
    cadp_scored *ranked = NULL;
    cad_status status;

    CAD_ASSERT(n >= 0);
    *out = nothing_defined(n);
    if (!n) return CAD_OK;
    CAD_TRY(check_rows(labels, predictions, prob1, n));
    CAD_TRY(cadp_rank(&ranked, labels, prob1, n));
    count_cells(out, labels, predictions);
    decide(out);
    score(out, labels, prob1);
    out->accuracy_ci = wilson((double)(out->tp + out->tn), (double)n);
    cadp_ranking(out, ranked);
    cadp_bins(out, labels, prob1);
    status = deep ? cadp_bootstrap(out, ranked) : CAD_OK;
    if (!status && deep) status = cadp_recalibrate(out, labels, prob1, logit);
    cad_free(&ranked);
    return status;
}
