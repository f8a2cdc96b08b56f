/* report: sinks for numbers. Given numbers; never looks at a model. */
#ifndef CADTRAIN_REPORT_H
#define CADTRAIN_REPORT_H
#include <cadtrain/format.h>
#include <cadtrain/metric.h>
#ifdef __cplusplus
extern "C" {
#endif
/* ---- a run's log: log.jsonl, metrics.csv, TensorBoard events, console lines ---- */
typedef struct cad_number { const char *name; double value; bool integer; } cad_number;
typedef struct cad_log_sinks cad_log_sinks;
typedef struct cad_sink_options { const char *output_dir; const char *logging_dir; bool jsonl, csv, tensorboard, console; bool append; } cad_sink_options;
/* Writes OUT/log.jsonl, OUT/metrics.csv, OUT/runs/<name>/events.out.tfevents.* (0600). `append`: a resumed run goes on; rows with
 * step > keep_through_step are dropped first. A sink that cannot write warns once and is left out; training goes on. */
CAD_CHECKED cad_status cad_log_sinks_open(cad_log_sinks **out, const cad_sink_options *o, int64_t keep_through_step);
void cad_log_sinks_close(cad_log_sinks **s);
/* One row: training ("loss" among the names) or evaluation ("eval_…"). On the console a dict-like line {'loss': 0.61, …}. */
void cad_log_row(cad_log_sinks *s, int64_t step, const cad_number *numbers, int count);

/* ---- progress: a bar with ETA on a terminal, else nothing (never a carriage return in a file) ---- */
typedef struct cad_progress { const char *what; int64_t total; double began, drawn; bool on; } cad_progress;
void cad_progress_begin(cad_progress *p, const char *what, int64_t total);
void cad_progress_at(cad_progress *p, int64_t done);
void cad_progress_end(cad_progress *p);

/* ---- prediction metrics ---- */
/* metrics.json as contract section 5 says: accuracy, precision, recall, f1, classification_report, auc, then the rest; NaN as Python's json. */
CAD_CHECKED cad_status cad_write_metrics(const char *path, const cad_metrics *m);
CAD_CHECKED cad_status cad_report_interval(cad_json *j, const char *key, cad_interval x); /* key: [low, high] */
/* "***** train metrics *****" block of aligned key = value lines on stdout. */
void cad_print_metrics_block(const char *title, const cad_number *numbers, int count);

/* ---- report.html: one file, inline SVG: ROC, precision-recall, calibration, histogram of probabilities, loss and learning-rate curves ---- */
typedef struct cad_curve { const char *name; const double *x, *y; int64_t n; } cad_curve;
/* What a clinical reader asks for besides; every count below ten, and what would give it away, is left out of the page. */
typedef struct cad_group_row { const char *group, *level; int64_t n, events; double auc, observed_to_expected; cad_interval auc_ci; bool hidden; } cad_group_row;
typedef struct cad_compare_row { const char *name; cad_paired pair; } cad_compare_row; /* pair.a: the model */
typedef struct cad_operating_row { const char *name; cad_point point; } cad_operating_row;
typedef struct cad_clinical {
    const cad_group_row *groups; int group_count;
    const cad_compare_row *compares; int compare_count;
    const cad_operating_row *points; int point_count;
    const char *points_from;                         /* where thresholds for a specificity were chosen */
    cad_smooth smooth;
    double observed_to_expected, scaled_brier;
    int64_t families; cad_interval family_auc;       /* families 0: everybody alone */
    bool recalibrated; double intercept, slope;      /* fitted on validation rows */
    double brier_after, observed_to_expected_after, slope_after, ici_after;
    bool has_weights; cad_weighted weighted;         /* a column "weight": people who were lost are stood for by others */
    const char *flow_svg;                            /* as prepare wrote it; NULL: none */
    const cad_node *cohort;                          /* share/cohort.json; NULL: none */
} cad_clinical;
/* Changes of the log-odds by a field, means over all records: signed, and of absolute values. */
typedef struct cad_field_row { const char *name; double removed, removed_abs, gradients, gradients_abs; } cad_field_row;
typedef struct cad_report {
    const char *title;
    const cad_metrics *metrics;                      /* NULL: none */
    const int32_t *labels; const double *prob1; int64_t n;
    const cad_curve *curves; int curve_count;        /* training curves over steps: "loss", "eval_loss", "learning_rate", "grad_norm", "eval_auc" */
    const cad_number *facts; int fact_count;         /* run facts: counts, seconds, tokens/s, peak bytes */
    const char *const *notes; int note_count;        /* sentences: truncation, prior shift, warnings */
    const cad_clinical *clinical;                    /* NULL: none */
    const cad_field_row *fields; int field_count;    /* which fields moved the risk; 0: none */
    const char *sections;                            /* HTML of its own: what a language model answered; NULL: none */
} cad_report;
/* Marks rows of small groups hidden, and in a variable with one such row the next smallest as well: its count would follow from the sum. */
void cad_hide_small_groups(cad_group_row *rows, int count);
CAD_CHECKED cad_status cad_write_report(const char *path, const cad_report *r);
#ifdef __cplusplus
}
#endif
#endif
