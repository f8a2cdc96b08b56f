#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cadtrain/metric.h>
#include <math.h>

enum { N = 40, P = 3 };
static double x[N][P], y[N], weight[N], offset[N];

static void show(void *with, int64_t i, cad_regression_row *out)
{
    (void)with;
    for (int k = 0; k < P; k++) out->x[k] = x[i][k];
    out->label = y[i];
    out->weight = weight[i];
    out->offset = offset[i];
}

static void make_rows(void)
{
    for (int i = 0; i < N; i++) {
        x[i][0] = 1;
        x[i][1] = cad_rng_normal(1, CAD_RNG_TEST, 0, (uint64_t)i);
        x[i][2] = cad_rng_normal(1, CAD_RNG_TEST, 1, (uint64_t)i);
        weight[i] = 0.5 + cad_rng_uniform(1, CAD_RNG_TEST, 2, (uint64_t)i);
        offset[i] = cad_rng_normal(1, CAD_RNG_TEST, 3, (uint64_t)i);
        y[i] = cad_rng_uniform(1, CAD_RNG_TEST, 4, (uint64_t)i) < 1 / (1 + exp(-offset[i] - x[i][1]));
    }
}

/* At the minimum the gradient of sum w nll + |beta|^2 / 2 is zero; Newton's last step bounds how far from it. */
static void the_gradient_is_zero_at_the_fit(void **state)
{
    double beta[P], gradient[P] = {0, 0, 0};

    (void)state;
    make_rows();
    assert_int_equal(cad_logistic_fit(&(cad_regression){N, P, NULL, show}, beta), CAD_OK);
    for (int i = 0; i < N; i++) {
        double t = offset[i];
        for (int k = 0; k < P; k++) t += beta[k] * x[i][k];
        for (int k = 0; k < P; k++) gradient[k] += weight[i] * (1 / (1 + exp(-t)) - y[i]) * x[i][k];
    }
    for (int k = 0; k < P; k++) assert_true(fabs(gradient[k] + (k ? beta[k] : 0)) < 1e-6 * N);
}

static void a_perfect_column_stays_finite(void **state)
{
    double beta[P];

    (void)state;
    make_rows();
    for (int i = 0; i < N; i++) x[i][1] = 2 * y[i] - 1;
    assert_int_equal(cad_logistic_fit(&(cad_regression){N, P, NULL, show}, beta), CAD_OK);
    for (int k = 0; k < P; k++) assert_true(isfinite(beta[k]));
    assert_true(beta[1] > 1);
}

static void rows_without_weight_are_refused(void **state)
{
    double beta[P];

    (void)state;
    make_rows();
    for (int i = 0; i < N; i++) weight[i] = 0;
    assert_int_equal(cad_logistic_fit(&(cad_regression){N, P, NULL, show}, beta), CAD_EDATA);
    cad_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_gradient_is_zero_at_the_fit), cmocka_unit_test(a_perfect_column_stays_finite), cmocka_unit_test(rows_without_weight_are_refused)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
