/* Shared by the files of this room only. */
#ifndef CADTRAIN_METRIC_PRIV_H
#define CADTRAIN_METRIC_PRIV_H
#include <cadtrain/metric.h>

/* One row, by falling probability; equal probabilities stand in row order and form a group whose end is `last`. */
typedef struct cadp_scored { double p; int64_t row; int32_t label; bool last; } cadp_scored;

/* A sum that keeps what rounding drops (Neumaier 1974). */
typedef struct cadp_sum { double high, low; } cadp_sum;
static inline void cadp_sum_add(cadp_sum *s, double x)
{
    double t = s->high + x;
    bool big = (s->high < 0 ? -s->high : s->high) >= (x < 0 ? -x : x);

    s->low += big ? (s->high - t) + x : (x - t) + s->high;
    s->high = t;
}
static inline double cadp_sum_total(cadp_sum s) { return s.high + s.low; }

CAD_CHECKED cad_status cadp_rank(cadp_scored **out, const int32_t *labels, const double *prob1, int64_t n);
/* AUC with its DeLong interval, average precision. */
void cadp_ranking(cad_metrics *m, const cadp_scored *s);
/* The 2.5th and 97.5th percentile of what is a number; sorts `values`. */
cad_interval cadp_middle95(double *values, int64_t n);
CAD_CHECKED cad_status cadp_bootstrap(cad_metrics *m, const cadp_scored *s);
void cadp_bins(cad_metrics *m, const int32_t *labels, const double *prob1);
CAD_CHECKED cad_status cadp_recalibrate(cad_metrics *m, const int32_t *labels, const double *prob1, const double *logit);

/* The 0.975 quantile of the normal distribution. */
#define CADP_Z95 1.959963984540054
#endif
