#include "scratch.h"

#include <math.h>

typedef struct form { float (*widen)(uint16_t); uint16_t (*narrow)(float); uint16_t infinity; } form;

static float widen_bf16(uint16_t h) { return cad_bf16_to_f32(h); }
static uint16_t narrow_bf16(float f) { return cad_f32_to_bf16(f); }

static const form forms[] = {{cad_f16_to_f32, cad_f32_to_f16, 0x7c00}, {widen_bf16, narrow_bf16, 0x7f80}};

static void every_half_survives_the_round_trip(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++)
        for (unsigned h = 0; h < 65536; h++) {
            float f = forms[k].widen((uint16_t)h);
            if ((h & 0x7fff) > forms[k].infinity) assert_true(isnan(f) && isnan(forms[k].widen(forms[k].narrow(f))));
            else assert_int_equal(forms[k].narrow(f), h);
        }
}

/* Between neighbours h and h + 1 the middle goes to the even one, and what is off the middle by one step of float to the nearer. */
static void narrowing_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++)
        for (unsigned h = 0; h + 1 < forms[k].infinity; h++)
            for (unsigned sign = 0; sign < 0x10000; sign += 0x8000) {
                double low = forms[k].widen((uint16_t)h), high = forms[k].widen((uint16_t)(h + 1));
                float middle = (float)((low + high) / 2);
                assert_true(middle == (low + high) / 2);
                float side = sign ? -1.0f : 1.0f;
                assert_int_equal(forms[k].narrow(side * middle), sign | (h + (h & 1)));
                assert_int_equal(forms[k].narrow(side * nextafterf(middle, 0)), sign | h);
                assert_int_equal(forms[k].narrow(side * nextafterf(middle, INFINITY)), sign | (h + 1));
            }
}

static void what_is_too_large_becomes_infinite(void **state)
{
    (void)state;
    assert_int_equal(cad_f32_to_f16(65504.0f), 0x7bff);
    assert_int_equal(cad_f32_to_f16(nextafterf(65520.0f, 0)), 0x7bff);
    assert_int_equal(cad_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(cad_f32_to_f16(-1e30f), 0xfc00);
    assert_int_equal(cad_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(cad_f32_to_bf16(3.4028235e38f), 0x7f80);
    assert_int_equal(cad_f32_to_bf16(-INFINITY), 0xff80);
}

static void a_nan_with_low_bits_only_stays_one(void **state)
{
    uint32_t u = 0x7f800001;
    float f;

    (void)state;
    memcpy(&f, &u, 4);
    assert_true(isnan(cad_bf16_to_f32(cad_f32_to_bf16(f))));
    assert_true(isnan(cad_f16_to_f32(cad_f32_to_f16(f))));
}

static void whole_number_helpers_hold_at_their_edges(void **state)
{
    size_t product;

    (void)state;
    assert_int_equal(cad_ceil_div(0, 8), 0);
    assert_int_equal(cad_ceil_div(8, 8), 1);
    assert_int_equal(cad_ceil_div(9, 8), 2);
    assert_int_equal(cad_round_up(1, 64), 64);
    assert_int_equal(cad_round_up(64, 64), 64);
    assert_true(cad_mul_ok(1u << 31, 1u << 31, &product));
    assert_false(cad_mul_ok(SIZE_MAX, 2, &product));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_survives_the_round_trip),
        cmocka_unit_test(narrowing_rounds_to_nearest_even),
        cmocka_unit_test(what_is_too_large_becomes_infinite),
        cmocka_unit_test(a_nan_with_low_bits_only_stays_one),
        cmocka_unit_test(whole_number_helpers_hold_at_their_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
