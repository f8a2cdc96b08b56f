#include <cadtrain/metric.h>

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MANY = 400 };
static int32_t y[MANY];
static double a[MANY], b[MANY];

static double draw(uint32_t site, int i) { return cad_rng_normal(9, CAD_RNG_TEST, site, (uint64_t)i); }

/* Scores of one decimal, so that many are equal. */
static void make_rows(int n)
{
    for (int i = 0; i < n; i++) {
        double z = draw(0, i);
        a[i] = round(10 * z) / 10;
        b[i] = round(10 * (0.5 * z + draw(1, i))) / 10;
        y[i] = cad_rng_uniform(9, CAD_RNG_TEST, 2, (uint64_t)i) < 1 / (1 + exp(-(1.5 * z - 1)));
    }
}

static double kernel(double x, double other) { return x > other ? 1 : x == other ? 0.5 : 0; }

/* The definition, pair by pair: the component of row i is its mean over the rows of the other label. */
static double component(const double *s, int n, int i)
{
    double sum = 0, count = 0;

    for (int k = 0; k < n; k++) {
        if (y[k] == y[i]) continue;
        sum += y[i] ? kernel(s[i], s[k]) : kernel(s[k], s[i]);
        count++;
    }
    return sum / count;
}

static void the_difference_of_areas_is_delong_s_by_definition(void **state)
{
    double mean[2] = {0, 0}, squares[2] = {0, 0}, n[2] = {0, 0}, d[MANY], variance;
    cad_paired p;

    (void)state;
    make_rows(MANY);
    assert_int_equal(cad_paired_auc(&p, y, a, b, NULL, MANY), CAD_OK);
    for (int i = 0; i < MANY; i++) {
        d[i] = component(a, MANY, i) - component(b, MANY, i);
        mean[y[i]] += d[i];
        n[y[i]]++;
    }
    mean[0] /= n[0];
    mean[1] /= n[1];
    for (int i = 0; i < MANY; i++) squares[y[i]] += (d[i] - mean[y[i]]) * (d[i] - mean[y[i]]);
    variance = squares[0] / (n[0] - 1) / n[0] + squares[1] / (n[1] - 1) / n[1];
    assert_true(fabs(mean[0] - mean[1]) < 8 * DBL_EPSILON * sqrt(MANY)); /* both are the difference */
    assert_true(fabs(p.difference - mean[1]) < 8 * DBL_EPSILON * sqrt(MANY));
    assert_true(fabs(p.se - sqrt(variance)) < 32 * DBL_EPSILON * sqrt(MANY));
    assert_true(fabs(p.ci.high - p.ci.low - 2 * 1.959963984540054 * p.se) < 1e-15);
    assert_true(p.p > 0 && p.p < 1);
    /* a bootstrap of the same difference: its width within a quarter */
    assert_true(fabs((p.bootstrap.high - p.bootstrap.low) / (p.ci.high - p.ci.low) - 1) < 0.25);
    assert_true(p.bootstrap.low < p.difference && p.difference < p.bootstrap.high);
}

static void a_score_beside_itself_differs_by_nothing(void **state)
{
    cad_paired p;

    (void)state;
    make_rows(MANY);
    assert_int_equal(cad_paired_auc(&p, y, a, a, NULL, MANY), CAD_OK);
    assert_true(p.difference == 0 && p.se == 0 && p.p == 1 && p.bootstrap.low == 0 && p.bootstrap.high == 0 && p.nri_events == 0 && p.nri_others == 0);
}

static void one_class_gives_nothing(void **state)
{
    static const int32_t none[3] = {0, 0, 0};
    cad_paired p;

    (void)state;
    assert_int_equal(cad_paired_auc(&p, none, a, b, NULL, 3), CAD_OK);
    assert_true(isnan(p.auc_a) && isnan(p.difference) && isnan(p.ci.low) && isnan(p.bootstrap.low));
}

/* Everybody twice, as a family: the rows say no more than half of them do. */
static void families_widen_the_interval(void **state)
{
    int64_t family[MANY];
    cad_interval alone, together;

    (void)state;
    make_rows(MANY);
    for (int i = 0; i < MANY; i++) {
        family[i] = i / 2;
        if (i % 2) a[i] = a[i - 1], y[i] = y[i - 1];
    }
    assert_int_equal(cad_family_auc(&alone, y, a, NULL, MANY), CAD_OK);
    assert_int_equal(cad_family_auc(&together, y, a, family, MANY), CAD_OK);
    assert_true((together.high - together.low) / (alone.high - alone.low) > 1.2);
}

static void a_weight_of_two_is_a_row_that_stands_twice(void **state)
{
    double weight[MANY], twice[2 * MANY];
    int32_t label[2 * MANY];
    cad_weighted w, plain;
    double ones[2 * MANY];
    int n = 0;

    (void)state;
    make_rows(MANY);
    for (int i = 0; i < MANY; i++) a[i] = 1 / (1 + exp(-a[i]));
    for (int i = 0; i < MANY; i++) {
        weight[i] = 1 + i % 2;
        for (int k = 0; k < 1 + i % 2; k++) twice[n] = a[i], label[n] = y[i], ones[n++] = 1;
    }
    assert_int_equal(cad_weighted_metrics(&w, y, a, weight, MANY), CAD_OK);
    assert_int_equal(cad_weighted_metrics(&plain, label, twice, ones, n), CAD_OK);
    assert_true(w.people == n && w.events == plain.events);
    assert_true(fabs(w.auc - plain.auc) < 8 * DBL_EPSILON && fabs(w.brier - plain.brier) < 8 * DBL_EPSILON && fabs(w.observed_to_expected - plain.observed_to_expected) < 8 * DBL_EPSILON);
}

static void reclassification_counts_the_moves(void **state)
{
    static const int32_t label[4] = {1, 1, 0, 0};
    static const double model[4] = {.9, .2, .1, .5}, score[4] = {.5, .3, .2, .5};
    cad_paired p;

    (void)state;
    assert_int_equal(cad_paired_auc(&p, label, model, score, NULL, 4), CAD_OK);
    assert_true(p.nri_events == 0 && p.nri_others == 0.5);
}

static void an_operating_point_counts_who_is_called(void **state)
{
    static const int32_t label[5] = {1, 0, 1, 0, 0};
    static const double p[5] = {.5, .5, .2, .1, .3};
    cad_point q = cad_point_at(label, p, 5, 0.5);

    (void)state;
    assert_true(q.tp == 1 && q.fp == 1 && q.fn == 1 && q.tn == 2);
    assert_true(q.sensitivity == 0.5 && q.ppv == 0.5 && fabs(q.net_benefit - (1.0 / 5 - 1.0 / 5)) < DBL_EPSILON);
    q = cad_point_at(label, p, 5, 0.9);
    assert_true(q.sensitivity == 0 && isnan(q.ppv) && q.npv == 0.6);
}

static void a_threshold_reaches_its_specificity_and_no_more_than_needed(void **state)
{
    static double p[MANY];
    static int32_t label[MANY];
    double t;

    (void)state;
    for (int i = 0; i < MANY; i++) {
        p[i] = (i * 37 % 100) / 100.0;
        label[i] = i % 5 == 0;
    }
    for (int k = 1; k < 20; k++) {
        double want = k / 20.0;
        assert_int_equal(cad_threshold_for(&t, label, p, MANY, want), CAD_OK);
        assert_true(cad_point_at(label, p, MANY, t).specificity >= want);
        assert_true(cad_point_at(label, p, MANY, nextafter(t, 0)).specificity < want);
    }
}

static void calibrated_risks_lie_on_their_curve_and_doubled_ones_twice_as_high(void **state)
{
    enum { N = 20000 };
    double *p = NULL, mean = 0;
    int32_t *label = NULL;
    cad_smooth s;

    (void)state;
    assert_int_equal(cad_alloc(&p, N, sizeof *p, "risks"), CAD_OK);
    assert_int_equal(cad_alloc(&label, N, sizeof *label, "labels"), CAD_OK);
    for (int i = 0; i < N; i++) {
        p[i] = 0.4 * cad_rng_uniform(5, CAD_RNG_TEST, 0, (uint64_t)i);
        label[i] = cad_rng_uniform(5, CAD_RNG_TEST, 1, (uint64_t)i) < p[i];
        mean += p[i] / N;
    }
    assert_int_equal(cad_smooth_calibration(&s, label, p, N), CAD_OK);
    assert_true(s.ici < 4 * sqrt(mean * (1 - mean) * 4 / N)); /* noise of about four parameters over N rows */
    assert_true(fabs(cad_observed_to_expected(label, p, N) - 1) < 4 / sqrt(N * mean));
    for (int i = 0; i < N; i++) p[i] *= 2;
    assert_int_equal(cad_smooth_calibration(&s, label, p, N), CAD_OK);
    assert_true(fabs(s.ici - mean) < 0.01 && s.e50 <= s.e90);
    for (int i = 0; i + 1 < s.points; i++) assert_true(s.x[i] < s.x[i + 1]);
    cad_free(&p);
    cad_free(&label);
}

static void a_smooth_curve_of_few_or_equal_risks_stays_a_share(void **state)
{
    static const int32_t label[6] = {0, 1, 0, 1, 1, 0};
    static const double same[6] = {.3, .3, .3, .3, .3, .3}, two[6] = {.1, .1, .1, .9, .9, .9};
    cad_smooth s;

    (void)state;
    assert_int_equal(cad_smooth_calibration(&s, label, same, 6), CAD_OK);
    assert_true(s.points == 1 && s.y[0] >= 0 && s.y[0] <= 1 && !isnan(s.ici));
    assert_int_equal(cad_smooth_calibration(&s, label, two, 6), CAD_OK);
    for (int i = 0; i < s.points; i++) assert_true(s.y[i] >= 0 && s.y[i] <= 1);
    assert_int_equal(cad_smooth_calibration(&s, label, same, 1), CAD_OK);
    assert_int_equal(cad_smooth_calibration(&s, label, same, 0), CAD_OK);
    assert_true(isnan(s.ici));
}

static void recalibration_is_a_line_in_the_log_odds(void **state)
{
    (void)state;
    assert_true(fabs(cad_recalibrated(0.2, 0, 1) - 0.2) < 4 * DBL_EPSILON);
    assert_true(fabs(cad_recalibrated(0.5, -log(12.176), 1) - 1 / (1 + 12.176)) < 4 * DBL_EPSILON);
    assert_true(cad_recalibrated(0, 0, 1) > 0 && cad_recalibrated(1, 0, 1) < 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_difference_of_areas_is_delong_s_by_definition), cmocka_unit_test(a_score_beside_itself_differs_by_nothing),
        cmocka_unit_test(one_class_gives_nothing), cmocka_unit_test(families_widen_the_interval), cmocka_unit_test(a_weight_of_two_is_a_row_that_stands_twice), cmocka_unit_test(reclassification_counts_the_moves),
        cmocka_unit_test(an_operating_point_counts_who_is_called), cmocka_unit_test(a_threshold_reaches_its_specificity_and_no_more_than_needed),
        cmocka_unit_test(calibrated_risks_lie_on_their_curve_and_doubled_ones_twice_as_high), cmocka_unit_test(a_smooth_curve_of_few_or_equal_risks_stays_a_share),
        cmocka_unit_test(recalibration_is_a_line_in_the_log_odds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
