/* metric: arithmetic on labels and probabilities. Numbers equal scikit-learn's (golden/extra/metrics, 1e-12). */
#ifndef CADTRAIN_METRIC_H
#define CADTRAIN_METRIC_H
#include <cadtrain/base.h>
#ifdef __cplusplus
extern "C" {
#endif
enum { CAD_BINS = 10 };
typedef struct cad_interval { double low, high; } cad_interval;
typedef struct cad_class_row { double precision, recall, f1; int64_t support; } cad_class_row;
typedef struct cad_metrics {
    int64_t n, positives;
    double threshold;                      /* 0.5, or what was asked */
    double accuracy, precision, recall, f1; /* of class 1, prediction = the given predictions */
    double balanced_accuracy, mcc, specificity, npv;
    double auc, auprc, brier, log_loss;    /* of prob1; NaN where not defined */
    double loss;                           /* filled by the caller (eval_loss); NaN otherwise */
    cad_interval auc_ci;                   /* DeLong, 95 % */
    cad_interval auprc_ci, accuracy_ci, brier_ci; /* bootstrap (fixed seed, 1000 draws) or Wilson for accuracy */
    int64_t tp, fp, tn, fn;
    cad_class_row row[2], macro, weighted; /* classification_report */
    double calibration_slope, calibration_intercept, calibration_in_the_large, ece;
    struct { double mean, rate; int64_t n; } bin[CAD_BINS]; /* uniform bins of prob1 */
} cad_metrics;
/* labels and predictions 0/1; prob1 in [0, 1] (float32 softmax as double); logit = logit1 - logit0 in double, or NULL (then the
 * recalibration numbers come from prob1). `deep`: bootstrap and calibration too (they cost time; evaluation during training leaves them). */
CAD_CHECKED cad_status cad_metrics_compute(cad_metrics *out, const int32_t *labels, const int32_t *predictions, const double *prob1,
                                           const double *logit, int64_t n, bool deep);
/* scikit-learn's text of classification_report(digits=4), into `out`. */
CAD_CHECKED cad_status cad_metrics_report_text(const cad_metrics *m, cad_str *out);
/* By its name in Transformers ("auc", "eval_auc", "f1", …); false: no such metric. */
bool cad_metrics_by_name(const cad_metrics *m, const char *name, double *out);
bool cad_metric_larger_is_better(const char *name); /* loss, brier: false */
/* ---- two scores of the same rows (paired.c) ---- */
typedef struct cad_paired {
    int64_t n, positives;
    double auc_a, auc_b, difference, se, p;  /* a - b; DeLong, DeLong, Clarke-Pearson 1988; two-sided p of the normal approximation */
    cad_interval ci, bootstrap;              /* 95 %; bootstrap: percentiles of 1000 draws, within each label, or of whole families */
    double nri_events, nri_others;           /* continuous net reclassification from b to a */
} cad_paired;
/* Larger means riskier; any scale. family: an id a row, NULL: everybody alone. NaN where one class is absent. */
CAD_CHECKED cad_status cad_paired_auc(cad_paired *out, const int32_t *labels, const double *a, const double *b, const int64_t *family, int64_t n);
/* With a weight for each row (inverse probability of censoring). */
typedef struct cad_weighted { double people, events, auc, brier, observed_to_expected; } cad_weighted;
CAD_CHECKED cad_status cad_weighted_metrics(cad_weighted *out, const int32_t *labels, const double *prob1, const double *weight, int64_t n);
/* Bootstrap interval of the AUC over families. */
CAD_CHECKED cad_status cad_family_auc(cad_interval *out, const int32_t *labels, const double *prob1, const int64_t *family, int64_t n);

/* ---- ridge logistic regression (regression.c) ---- */
/* Row i as terms (the first is the constant), its label, its weight and what its log-odds have already (offset). */
typedef struct cad_regression_row { double *x, label, weight, offset; } cad_regression_row;
typedef struct cad_regression { int64_t rows; int terms; void *with; void (*row)(void *with, int64_t i, cad_regression_row *out); } cad_regression;
/* Coefficients that minimise the weighted minus log-likelihood + |beta|^2 / 2 without the constant (scikit-learn's C = 1), by Newton's method. */
CAD_CHECKED cad_status cad_logistic_fit(const cad_regression *r, double *beta);

/* ---- a decision, and how the risks fit (clinical.c) ---- */
typedef struct cad_point { double threshold; int64_t tp, fp, fn, tn; double sensitivity, specificity, ppv, npv, net_benefit; } cad_point;
cad_point cad_point_at(const int32_t *labels, const double *prob1, int64_t n, double threshold); /* called: p >= threshold */
/* The smallest threshold whose specificity is at least `specificity`; NaN without negatives. */
CAD_CHECKED cad_status cad_threshold_for(double *out, const int32_t *labels, const double *prob1, int64_t n, double specificity);
enum { CAD_SMOOTH = 100 };
typedef struct cad_smooth { double x[CAD_SMOOTH], y[CAD_SMOOTH]; int points; double ici, e50, e90; } cad_smooth;
/* Observed share as a smooth function of predicted risk: local quadratic regression, tricube weights, span 0.75 (Cleveland 1988), at quantiles of
 * the risk; ICI, E50, E90 (Austin, Steyerberg 2019): mean, median, 90 % of the distance from it. */
CAD_CHECKED cad_status cad_smooth_calibration(cad_smooth *out, const int32_t *labels, const double *prob1, int64_t n);
double cad_scaled_brier(const cad_metrics *m);       /* 1 - Brier / (rate (1 - rate)) */
double cad_observed_to_expected(const int32_t *labels, const double *prob1, int64_t n);
/* p after log-odds -> intercept + slope log-odds. */
double cad_recalibrated(double p, double intercept, double slope);
/* float32 softmax (shifted by the maximum) of two logits, class 1, as double: what the Python program writes. */
double cad_prob1(float logit0, float logit1);
#ifdef __cplusplus
}
#endif
#endif
