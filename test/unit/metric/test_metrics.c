#include <cadtrain/format.h>
#include <cadtrain/metric.h>

#include <float.h>
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool near(double got, double want, double tolerance) { return (isnan(got) && isnan(want)) || fabs(got - want) <= tolerance; }

static void check_near(const char *where, const char *what, double got, double want, double tolerance)
{
    if (!near(got, want, tolerance)) fail_msg("%s: %s is %.17g, expected %.17g within %.3g", where, what, got, want, tolerance);
}

static const double rounding = 8 * DBL_EPSILON;

/* ---- vectors that can be checked by hand ---- */

static void a_small_case_is_as_computed_by_hand(void **state)
{
    (void)state;
    const int32_t y[] = {0, 0, 1, 1}, k[] = {0, 0, 0, 1};
    const double p[] = {0.1, 0.4, 0.35, 0.8};
    cad_metrics m;

    assert_int_equal(cad_metrics_compute(&m, y, k, p, NULL, 4, false), CAD_OK);
    assert_true(m.tp == 1 && m.fn == 1 && m.tn == 2 && m.fp == 0 && m.positives == 2);
    check_near("hand", "auc", m.auc, 0.75, rounding);
    check_near("hand", "auprc", m.auprc, (1 + 2 / 3.0) / 2, rounding);
    check_near("hand", "brier", m.brier, (0.01 + 0.16 + 0.4225 + 0.04) / 4, rounding);
    check_near("hand", "log_loss", m.log_loss, -(log(0.9) + log(0.6) + log(0.35) + log(0.8)) / 4, rounding);
    check_near("hand", "mcc", m.mcc, 2 / sqrt(12), rounding);
    check_near("hand", "balanced accuracy", m.balanced_accuracy, 0.75, 0);
    check_near("hand", "npv", m.npv, 2 / 3.0, rounding);
    check_near("hand", "f1", m.f1, 2 / 3.0, rounding);
    /* components 1/2, 1 and 1, 1/2: both variances 1/8 */
    check_near("hand", "auc low", m.auc_ci.low, 0.75 - 1.959963984540054 * sqrt(0.125), rounding);
    check_near("hand", "auc high", m.auc_ci.high, 1, 0);
    /* Wilson for 3 of 4 */
    check_near("hand", "accuracy low", m.accuracy_ci.low, 0.30064, 5e-6);
    check_near("hand", "accuracy high", m.accuracy_ci.high, 0.95441, 5e-6);
    assert_true(isnan(m.brier_ci.low) && isnan(m.calibration_slope) && isnan(m.loss));
}

static void equal_scores_rank_like_chance(void **state)
{
    (void)state;
    const int32_t y[] = {0, 1, 1, 0, 0}, k[] = {0, 0, 0, 0, 0};
    const double p[] = {0.25, 0.25, 0.25, 0.25, 0.25};
    cad_metrics m;

    assert_int_equal(cad_metrics_compute(&m, y, k, p, NULL, 5, true), CAD_OK);
    check_near("ties", "auc", m.auc, 0.5, 0);
    check_near("ties", "auprc", m.auprc, 0.4, rounding);
    check_near("ties", "mcc", m.mcc, 0, 0);
    check_near("ties", "precision", m.precision, 0, 0);
    assert_true(isnan(m.calibration_slope));
    check_near("ties", "shift", m.calibration_in_the_large, log(2 / 3.0) - log(1 / 3.0), 1e-13);
}

static void a_tie_between_the_classes_counts_half(void **state)
{
    (void)state;
    const int32_t y[] = {1, 1, 0, 0}, k[] = {1, 1, 1, 0};
    const double p[] = {0.9, 0.6, 0.6, 0.2};
    cad_metrics m;

    assert_int_equal(cad_metrics_compute(&m, y, k, p, NULL, 4, false), CAD_OK);
    check_near("tie", "auc", m.auc, 3.5 / 4, 0);
    check_near("tie", "auprc", m.auprc, 0.5 + 0.5 * 2 / 3, rounding);
}

static void recalibration_finds_the_line_through_two_groups(void **state)
{
    (void)state;
    const int32_t y[] = {1, 0, 0, 1, 1, 0}, k[] = {0, 0, 0, 1, 1, 1};
    const double p[] = {0.5, 0.5, 0.5, 0.7, 0.7, 0.7}, x[] = {0, 0, 0, 1, 1, 1};
    cad_metrics m;

    assert_int_equal(cad_metrics_compute(&m, y, k, p, x, 6, true), CAD_OK);
    check_near("two groups", "intercept", m.calibration_intercept, -log(2), 1e-12);
    check_near("two groups", "slope", m.calibration_slope, 2 * log(2), 1e-12);
    check_near("two groups", "shift", m.calibration_in_the_large, -0.5, 1e-12); /* by symmetry */
}

static void separable_classes_have_no_slope(void **state)
{
    (void)state;
    const int32_t y[] = {0, 0, 1, 1}, k[] = {0, 0, 1, 1};
    const double p[] = {0.1, 0.5, 0.5, 0.9};
    cad_metrics m;

    assert_int_equal(cad_metrics_compute(&m, y, k, p, NULL, 4, true), CAD_OK);
    assert_true(isnan(m.calibration_slope) && isnan(m.calibration_intercept));
    check_near("separable", "shift", m.calibration_in_the_large, 0, 1e-13);
}

static void a_probability_on_an_edge_belongs_to_the_lower_bin(void **state)
{
    (void)state;
    const int32_t y[] = {0, 1, 1, 0}, k[] = {0, 0, 1, 0};
    const double p[] = {0, 0.5, 1, 0.55};
    cad_metrics m;

    assert_int_equal(cad_metrics_compute(&m, y, k, p, NULL, 4, false), CAD_OK);
    assert_true(m.bin[0].n == 1 && m.bin[4].n == 1 && m.bin[5].n == 1 && m.bin[9].n == 1);
    assert_true(isnan(m.bin[1].mean));
    check_near("bins", "ece", m.ece, (0.5 + 0.55) / 4, rounding);
}

static void certain_and_wrong_costs_a_finite_log_loss(void **state)
{
    (void)state;
    const int32_t y[] = {0, 1}, k[] = {1, 0};
    const double p[] = {1, 0};
    cad_metrics m;

    assert_int_equal(cad_metrics_compute(&m, y, k, p, NULL, 2, true), CAD_OK);
    check_near("clip", "log_loss", m.log_loss, -log(DBL_EPSILON), 1e-13);
}

static void no_rows_give_no_numbers_and_no_crash(void **state)
{
    (void)state;
    cad_metrics m;
    cad_str text = {0};

    assert_int_equal(cad_metrics_compute(&m, NULL, NULL, NULL, NULL, 0, true), CAD_OK);
    assert_true(m.n == 0 && isnan(m.auc) && isnan(m.accuracy) && isnan(m.auprc) && isnan(m.ece) && isnan(m.weighted.f1));
    assert_int_equal(cad_metrics_report_text(&m, &text), CAD_OK);
    cad_str_close(&text);
}

static void one_row_gives_what_is_defined(void **state)
{
    (void)state;
    const int32_t y[] = {1}, k[] = {1};
    const double p[] = {0.75};
    cad_metrics m;

    assert_int_equal(cad_metrics_compute(&m, y, k, p, NULL, 1, true), CAD_OK);
    assert_true(isnan(m.auc) && isnan(m.auc_ci.low) && isnan(m.calibration_in_the_large));
    check_near("one", "auprc", m.auprc, 1, 0);
    check_near("one", "balanced accuracy", m.balanced_accuracy, 1, 0);
    check_near("one", "macro f1", m.macro.f1, 1, 0);
    check_near("one", "brier", m.brier, 0.0625, 0);
}

static void refuse(int32_t label, int32_t prediction, double prob, cad_status want, const char *word)
{
    const int32_t y[] = {0, label}, k[] = {0, prediction};
    const double p[] = {0.5, prob};
    cad_metrics m;

    assert_int_equal(cad_metrics_compute(&m, y, k, p, NULL, 2, false), want);
    assert_non_null(strstr(cad_reason(), word));
    assert_non_null(strstr(cad_reason(), "row 2"));
    cad_clear();
}

static void wrong_rows_are_refused_without_their_values(void **state)
{
    (void)state;
    refuse(2, 0, 0.5, CAD_EDATA, "labels 0 and 1");
    refuse(1, -1, 0.5, CAD_EDATA, "predictions 0 and 1");
    refuse(1, 1, 1.5, CAD_EDATA, "from 0 to 1");
    refuse(1, 1, NAN, CAD_EINTERNAL, "not a number");
}

/* ---- intervals by resampling ---- */

enum { MANY = 600 };
typedef struct sample { int32_t y[MANY], k[MANY]; double p[MANY], x[MANY]; } sample;

static void draw_sample(sample *s)
{
    for (int i = 0; i < MANY; i++) {
        double z = cad_rng_normal(7, CAD_RNG_TEST, 0, (uint64_t)i) - 1;
        s->y[i] = cad_rng_uniform(7, CAD_RNG_TEST, 1, (uint64_t)i) < 1 / (1 + exp(-z));
        s->x[i] = 1.4 * z;
        s->p[i] = 1 / (1 + exp(-s->x[i]));
        s->k[i] = s->p[i] > 0.5;
    }
}

static void resampling_repeats_for_any_number_of_threads(void **state)
{
    (void)state;
    static sample s;
    cad_metrics one, many;
    int threads = omp_get_max_threads();

    draw_sample(&s);
    omp_set_num_threads(1);
    assert_int_equal(cad_metrics_compute(&one, s.y, s.k, s.p, s.x, MANY, true), CAD_OK);
    omp_set_num_threads(3);
    assert_int_equal(cad_metrics_compute(&many, s.y, s.k, s.p, s.x, MANY, true), CAD_OK);
    omp_set_num_threads(threads);
    assert_memory_equal(&one.auprc_ci, &many.auprc_ci, sizeof one.auprc_ci);
    assert_memory_equal(&one.brier_ci, &many.brier_ci, sizeof one.brier_ci);
    assert_true(one.auprc_ci.low < one.auprc && one.auprc < one.auprc_ci.high);
}

static void the_resampled_interval_of_a_mean_is_the_normal_one(void **state)
{
    (void)state;
    static sample s;
    cad_metrics m;
    double squares = 0, se, tolerance;

    draw_sample(&s);
    assert_int_equal(cad_metrics_compute(&m, s.y, s.k, s.p, s.x, MANY, true), CAD_OK);
    for (int i = 0; i < MANY; i++) {
        double d = (s.p[i] - s.y[i]) * (s.p[i] - s.y[i]) - m.brier;
        squares += d * d;
    }
    se = sqrt(squares / MANY / MANY);
    /* a 2.5 % quantile of 1000 normal draws: sd sqrt(q (1 - q) / 1000) / density = 0.0845; four of them */
    tolerance = 4 * 0.0845 * se;
    check_near("bootstrap", "brier low", m.brier_ci.low, m.brier - 1.96 * se, tolerance);
    check_near("bootstrap", "brier high", m.brier_ci.high, m.brier + 1.96 * se, tolerance);
}

static void no_failed_allocation_leaks(void **state)
{
    (void)state;
    static sample s;
    cad_metrics m;
    int64_t before = cad_mem_blocks();
    cad_status status = CAD_ERESOURCE;

    draw_sample(&s);
    for (int nth = 1; status; nth++) {
        cad_mem_fail_at(nth);
        status = cad_metrics_compute(&m, s.y, s.k, s.p, NULL, 100, true);
        cad_mem_fail_at(0);
        assert_true(status == CAD_OK || status == CAD_ERESOURCE);
        assert_int_equal(cad_mem_blocks(), before);
        cad_clear();
        assert_true(nth < 50);
    }
}

/* ---- names, text, softmax ---- */

static void metrics_are_found_by_their_names(void **state)
{
    (void)state;
    const cad_metrics m = {.auc = 0.8, .loss = 0.4, .f1 = 0.3, .brier = 0.1};
    double x = 0;

    assert_true(cad_metrics_by_name(&m, "auc", &x) && x == 0.8);
    assert_true(cad_metrics_by_name(&m, "eval_loss", &x) && x == 0.4);
    assert_true(cad_metrics_by_name(&m, "eval_f1", &x) && x == 0.3);
    assert_false(cad_metrics_by_name(&m, "eval_", &x));
    assert_false(cad_metrics_by_name(&m, "aucc", &x));
    assert_true(cad_metric_larger_is_better("eval_auc") && cad_metric_larger_is_better("accuracy"));
    assert_false(cad_metric_larger_is_better("eval_loss") || cad_metric_larger_is_better("brier") || cad_metric_larger_is_better("log_loss"));
}

static void the_report_text_is_laid_out_like_scikit_learns(void **state)
{
    (void)state;
    const int32_t y[] = {0, 0, 1}, k[] = {1, 0, 0}, wrong[] = {1, 1, 0}, zero[] = {0, 0, 0};
    const double p[] = {0.6, 0.4, 0.4};
    cad_metrics m;
    cad_str text = {0};

    assert_int_equal(cad_metrics_compute(&m, y, k, p, NULL, 3, false), CAD_OK);
    assert_int_equal(cad_metrics_report_text(&m, &text), CAD_OK);
    assert_string_equal(text.data, "              precision    recall  f1-score   support\n\n"
                                   "           0     0.5000    0.5000    0.5000         2\n"
                                   "           1     0.0000    0.0000    0.0000         1\n\n"
                                   "    accuracy                         0.3333         3\n"
                                   "   macro avg     0.2500    0.2500    0.2500         3\n"
                                   "weighted avg     0.3333    0.3333    0.3333         3\n");
    cad_str_close(&text);
    assert_int_equal(cad_metrics_compute(&m, y, wrong, p, NULL, 3, false), CAD_OK);
    assert_int_equal(cad_metrics_report_text(&m, &text), CAD_OK);
    assert_non_null(strstr(text.data, "    accuracy                         0.0000       3.0\n"));
    cad_str_close(&text);
    assert_int_equal(cad_metrics_compute(&m, zero, zero, p, NULL, 3, false), CAD_OK);
    assert_int_equal(cad_metrics_report_text(&m, &text), CAD_OK);
    assert_null(strstr(text.data, "           1 "));
    assert_non_null(strstr(text.data, "   macro avg     1.0000    1.0000    1.0000         3\n"));
    cad_str_close(&text);
}

static void softmax_of_two_is_float32_and_never_overflows(void **state)
{
    (void)state;
    check_near("softmax", "even", cad_prob1(3, 3), 0.5, 0);
    check_near("softmax", "far", cad_prob1(-400, 400), 1, 0);
    check_near("softmax", "far below", cad_prob1(1e30f, -1e30f), 0, 0);
    check_near("softmax", "near", cad_prob1(0, 1), 1 / (1 + exp(-1)), 4 * FLT_EPSILON);
    assert_true(cad_prob1(0, 1) == (double)(float)cad_prob1(0, 1));
}

/* ---- scikit-learn's numbers ---- */

static double number(const cad_node *table, const char *key)
{
    const cad_node *x = cad_get(table, key);

    if (!x || x->kind == CAD_NULL || x->kind == CAD_STRING) return NAN;
    return x->real;
}

static double item(const cad_node *list, int i)
{
    const cad_node *x = list->child;

    while (i--) x = x->next;
    return x->kind == CAD_STRING ? NAN : x->real;
}

typedef struct rows { int32_t *y, *k; double *p, *x; int64_t n; } rows;

static rows read_rows(const cad_node *c)
{
    const cad_node *y = cad_get(c, "labels")->child, *k = cad_get(c, "pred")->child, *p = cad_get(c, "prob1")->child, *l = cad_get(c, "logits")->child;
    rows r = {.n = cad_get(c, "labels")->children};

    r.y = calloc((size_t)r.n, sizeof *r.y);
    r.k = calloc((size_t)r.n, sizeof *r.k);
    r.p = calloc((size_t)r.n, sizeof *r.p);
    r.x = calloc((size_t)r.n, sizeof *r.x);
    for (int64_t i = 0; i < r.n; i++, y = y->next, k = k->next, p = p->next, l = l->next) {
        double z0 = l->child->real, z1 = l->child->next->real;
        r.y[i] = (int32_t)y->integer;
        r.k[i] = (int32_t)k->integer;
        r.p[i] = p->real;
        r.x[i] = z1 - z0;
        /* exp of float32 within one unit in two libraries, the sum and the quotient half of one each */
        assert_true(fabs(cad_prob1((float)z0, (float)z1) - p->real) <= 3 * (double)FLT_EPSILON * p->real + 1e-37);
    }
    return r;
}

static void free_rows(rows *r)
{
    free(r->y);
    free(r->k);
    free(r->p);
    free(r->x);
}

/* Numbers up to 1 that are means or ratios of sums of n terms. */
static double of_sums(int64_t n) { return rounding * sqrt((double)n); }

static void check_class(const char *name, int64_t n, const cad_class_row *got, const cad_node *want)
{
    check_near(name, "class precision", got->precision, number(want, "precision"), of_sums(n));
    check_near(name, "class recall", got->recall, number(want, "recall"), of_sums(n));
    check_near(name, "class f1", got->f1, number(want, "f1-score"), of_sums(n));
    check_near(name, "class support", (double)got->support, number(want, "support"), 0);
}

static void check_bins(const char *name, const cad_metrics *m, const cad_node *uniform)
{
    const cad_node *count = cad_get(uniform, "count"), *rate = cad_get(uniform, "prob_true"), *mean = cad_get(uniform, "prob_pred");
    int k = 0;

    if (!uniform) return;
    for (int b = 0; b < CAD_BINS; b++) {
        if (!m->bin[b].n) continue;
        assert_true(k < count->children);
        check_near(name, "bin count", (double)m->bin[b].n, item(count, k), 0);
        check_near(name, "bin rate", m->bin[b].rate, item(rate, k), of_sums(m->bin[b].n));
        check_near(name, "bin mean", m->bin[b].mean, item(mean, k), of_sums(m->bin[b].n));
        k++;
    }
    assert_int_equal(k, count->children);
}

/* Where the reference's own Newton did not arrive, the defining equation decides: mean sigmoid(a + x) is the prevalence. */
static void check_recalibration(const char *name, const cad_metrics *m, const rows *r, const cad_node *e)
{
    const cad_node *line = cad_get(e, "recalibration");
    double shift = number(cad_get(e, "calibration_in_the_large"), "intercept"), sum = 0, a = number(line, "intercept"), b = number(line, "slope");

    check_near(name, "intercept", m->calibration_intercept, a, 1e-8 * fabs(a));
    check_near(name, "slope", m->calibration_slope, b, 1e-8 * fabs(b));
    if (!isnan(shift) || isnan(m->auc)) {
        check_near(name, "calibration in the large", m->calibration_in_the_large, shift, 1e-8 * fabs(shift));
        return;
    }
    for (int64_t i = 0; i < r->n; i++) sum += 1 / (1 + exp(-m->calibration_in_the_large - r->x[i]));
    check_near(name, "mean risk after the shift", sum / (double)r->n, (double)m->positives / (double)r->n, of_sums(r->n));
}

static void check_delong(const char *name, const cad_metrics *m, const cad_node *delong)
{
    bool defined = delong && !isnan(number(delong, "variance"));

    check_near(name, "auc low", m->auc_ci.low, defined ? item(cad_get(delong, "ci95_clipped"), 0) : NAN, 1e-12);
    check_near(name, "auc high", m->auc_ci.high, defined ? item(cad_get(delong, "ci95_clipped"), 1) : NAN, 1e-12);
}

static void check_case(const cad_node *c)
{
    static const struct { const char *ours, *theirs; } pairs[] = {
        {"accuracy", "accuracy"}, {"precision", "precision"}, {"recall", "recall"}, {"f1", "f1"},
        {"auc", "roc_auc"}, {"auprc", "average_precision"}, {"brier", "brier"}, 
        {"mcc", "mcc"}, {"balanced_accuracy", "balanced_accuracy"},
    };
    const char *name = cad_get(c, "name")->text;
    const cad_node *e = cad_get(c, "expected"), *report = cad_get(e, "classification_report");
    rows r = read_rows(c);
    cad_metrics m;

    assert_int_equal(cad_metrics_compute(&m, r.y, r.k, r.p, r.x, r.n, true), CAD_OK);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        double got = 0;
        assert_true(cad_metrics_by_name(&m, pairs[i].ours, &got));
        check_near(name, pairs[i].ours, got, number(e, pairs[i].theirs), of_sums(r.n));
    }
    check_near(name, "log_loss", m.log_loss, number(e, "log_loss"), of_sums(r.n) * -log(DBL_EPSILON)); /* a term is at most that */
    assert_true((double)m.tn == item(cad_get(e, "confusion")->child, 0) && (double)m.fp == item(cad_get(e, "confusion")->child, 1));
    assert_true((double)m.fn == item(cad_get(e, "confusion")->child->next, 0) && (double)m.tp == item(cad_get(e, "confusion")->child->next, 1));
    check_class(name, r.n, &m.row[0], cad_get(report, "0"));
    check_class(name, r.n, &m.row[1], cad_get(report, "1"));
    check_class(name, r.n, &m.macro, cad_get(report, "macro avg"));
    check_class(name, r.n, &m.weighted, cad_get(report, "weighted avg"));
    check_bins(name, &m, cad_get(cad_get(e, "calibration"), "uniform"));
    check_recalibration(name, &m, &r, e);
    check_delong(name, &m, cad_get(e, "delong"));
    free_rows(&r);
}

static void every_recorded_case_equals_scikit_learn(void **state)
{
    (void)state;
    const char *shared = getenv("CADTRAIN_SHARED");
    char path[1024];
    cad_tree *t = NULL;
    int cases = 0;

    snprintf(path, sizeof path, "%s/golden/extra/metrics/cases.json", shared ? shared : "../shared");
    if (!cad_is_file(path)) {
        print_message("skipped: no recorded metrics at %s\n", path);
        skip();
    }
    assert_int_equal(cad_json_read(&t, path, (size_t)64 << 20, CAD_EDATA), CAD_OK);
    for (const cad_node *c = cad_get(t->root, "cases")->child; c; c = c->next, cases++) check_case(c);
    assert_int_equal(cases, 17);
    cad_tree_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_case_is_as_computed_by_hand),
        cmocka_unit_test(equal_scores_rank_like_chance),
        cmocka_unit_test(a_tie_between_the_classes_counts_half),
        cmocka_unit_test(recalibration_finds_the_line_through_two_groups),
        cmocka_unit_test(separable_classes_have_no_slope),
        cmocka_unit_test(a_probability_on_an_edge_belongs_to_the_lower_bin),
        cmocka_unit_test(certain_and_wrong_costs_a_finite_log_loss),
        cmocka_unit_test(no_rows_give_no_numbers_and_no_crash),
        cmocka_unit_test(one_row_gives_what_is_defined),
        cmocka_unit_test(wrong_rows_are_refused_without_their_values),
        cmocka_unit_test(resampling_repeats_for_any_number_of_threads),
        cmocka_unit_test(the_resampled_interval_of_a_mean_is_the_normal_one),
        cmocka_unit_test(no_failed_allocation_leaks),
        cmocka_unit_test(metrics_are_found_by_their_names),
        cmocka_unit_test(the_report_text_is_laid_out_like_scikit_learns),
        cmocka_unit_test(softmax_of_two_is_float32_and_never_overflows),
        cmocka_unit_test(every_recorded_case_equals_scikit_learn),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    if (cad_mem_blocks()) print_error("%lld blocks alive\n", (long long)cad_mem_blocks());
    return failed || cad_mem_blocks() ? 1 : 0;
}
