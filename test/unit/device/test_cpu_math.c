#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "../../../src/device/cpu/cpu_math.h"
#include <cadtrain/base.h>

/* Distance in units of the last place of the exact value. */
static double ulps(float got, double want)
{
    float near = (float)want;
    double unit = (double)nextafterf(fabsf(near), INFINITY) - fabs((double)near);

    return fabs((double)got - want) / unit;
}

static void within(float (*ours)(float), double (*exact)(double), float from, float to, double limit)
{
    enum { STEPS = 40000 };
    double worst = 0;
    float at = 0;

    for (int i = 0; i <= STEPS; i++) {
        float x = from + (to - from) * (float)i / STEPS;
        double u = ulps(ours(x), exact((double)x));
        if (!(u <= worst)) worst = u, at = x;
    }
    if (!(worst <= limit)) fail_msg("%.2f ulp at %.9g, allowed %.2f", worst, (double)at, limit);
}

static void the_exponential_is_within_2_ulp(void **state)
{
    (void)state;
    within(cadp_exp, exp, -87.3f, 88.7f, 2);
    within(cadp_exp, exp, -103, -87, 2);
    within(cadp_exp, exp, -1, 1, 2);
}

static void tanh_is_within_3_ulp(void **state)
{
    (void)state;
    within(cadp_tanh, tanh, -12, 12, 3);
    within(cadp_tanh, tanh, -1, 1, 3);
}

static void erf_is_within_3_ulp(void **state)
{
    (void)state;
    within(cadp_erf, erf, -6, 6, 3);
    within(cadp_erf, erf, -1.5f, 1.5f, 3);
}

static void the_ends_of_the_range_are_those_of_the_library(void **state)
{
    (void)state;
    assert_true(cadp_exp(-INFINITY) == 0 && cadp_exp(-1000) == 0);
    assert_true(isinf(cadp_exp(89)) && isinf(cadp_exp(INFINITY)));
    assert_true(cadp_exp(0) == 1);
    assert_true(isnan(cadp_exp(NAN)) && isnan(cadp_tanh(NAN)) && isnan(cadp_erf(NAN)));
    assert_true(cadp_tanh(INFINITY) == 1 && cadp_tanh(-INFINITY) == -1 && cadp_tanh(50) == 1);
    assert_true(cadp_erf(30) == 1 && cadp_erf(-30) == -1);
}

static void bfloat16_is_rounded_as_by_base(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 1 << 17; i++) {
        float x = cadp_float((uint32_t)(i * 32749));
        assert_int_equal(cadp_round_bf16(x), cad_f32_to_bf16(x));
    }
    assert_true(isnan(cad_bf16_to_f32(cadp_round_bf16(NAN))));
}

static void fp16_is_rounded_as_by_base(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 1 << 18; i++) {
        float x = cadp_float((uint32_t)(i * 16381)), y = cadp_to_half(x), want = cad_f16_to_f32(cad_f32_to_f16(x));
        assert_true(isnan(x) ? isnan(y) : cadp_bits(y) == cadp_bits(want));
    }
    for (uint32_t half = 0; half < 0x7c00; half++) /* ties, and their neighbours */
        for (int step = -1; step <= 1; step++) {
            float x = cadp_float(cadp_bits((cad_f16_to_f32((uint16_t)half) + cad_f16_to_f32((uint16_t)(half + 1 < 0x7c00 ? half + 1 : half))) / 2) + (uint32_t)step);
            if (x > 0) assert_true(cadp_to_half(x) == cad_f16_to_f32(cad_f32_to_f16(x)) && cadp_to_half(-x) == -cadp_to_half(x));
        }
    assert_true(isinf(cadp_to_half(65520)) && !isinf(cadp_to_half(65519)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_exponential_is_within_2_ulp),
        cmocka_unit_test(tanh_is_within_3_ulp),
        cmocka_unit_test(erf_is_within_3_ulp),
        cmocka_unit_test(the_ends_of_the_range_are_those_of_the_library),
        cmocka_unit_test(bfloat16_is_rounded_as_by_base),
        cmocka_unit_test(fp16_is_rounded_as_by_base),
    };
    return cmocka_run_group_tests_name("fp32 functions of the cpu device", tests, NULL, NULL);
}
