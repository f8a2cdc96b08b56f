#include "scratch.h"

#include <math.h>

/* The known answers that the authors of Philox ship with Random123 (kat_vectors, philox4x32, 10 rounds). */
static void the_words_are_those_of_philox(void **state)
{
    static const struct { uint64_t seed, index; uint32_t site, purpose, words[4]; } cases[] = {
        {0, 0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT32_MAX, UINT32_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822, 0x85a308d3243f6a88, 0x13198a2e, 0x03707344, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    uint32_t words[4];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cad_rng_words(cases[i].seed, (cad_purpose)cases[i].purpose, cases[i].site, cases[i].index, words);
        assert_memory_equal(words, cases[i].words, sizeof words);
    }
}

/* The mean of n draws has the standard error sd / sqrt(n), the mean of squares sd(x^2) / sqrt(n); five of them are allowed. */
static void uniforms_fill_the_unit_interval_evenly(void **state)
{
    enum { N = 100000 };
    double sum = 0, squares = 0;

    (void)state;
    for (uint64_t i = 0; i < N; i++) {
        double u = cad_rng_uniform(1, CAD_RNG_TEST, 0, i);
        assert_true(u >= 0 && u < 1);
        sum += u;
        squares += u * u;
    }
    assert_true(fabs(sum / N - 0.5) < 5 * sqrt(1.0 / 12 / N));
    assert_true(fabs(squares / N - 1.0 / 3) < 5 * sqrt(4.0 / 45 / N));
}

static void normals_have_mean_0_and_variance_1(void **state)
{
    enum { N = 100000 };
    double sum = 0, squares = 0;

    (void)state;
    for (uint64_t i = 0; i < N; i++) {
        double x = cad_rng_normal(1, CAD_RNG_TEST, 0, i);
        assert_true(isfinite(x));
        sum += x;
        squares += x * x;
    }
    assert_true(fabs(sum / N) < 5 * sqrt(1.0 / N));
    assert_true(fabs(squares / N - 1) < 5 * sqrt(2.0 / N));
}

static void every_part_of_the_index_matters(void **state)
{
    uint32_t a[4], b[4];

    (void)state;
    cad_rng_words(1, CAD_RNG_INIT, 2, 3, a);
    cad_rng_words(1, CAD_RNG_DROPOUT, 2, 3, b);
    assert_memory_not_equal(a, b, sizeof a);
    cad_rng_words(1, CAD_RNG_INIT, 3, 3, b);
    assert_memory_not_equal(a, b, sizeof a);
    cad_rng_words(1, CAD_RNG_INIT, 2, 3 + (1ull << 32), b);
    assert_memory_not_equal(a, b, sizeof a);
    cad_rng_words(1 + (1ull << 32), CAD_RNG_INIT, 2, 3, b);
    assert_memory_not_equal(a, b, sizeof a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_words_are_those_of_philox),
        cmocka_unit_test(uniforms_fill_the_unit_interval_evenly),
        cmocka_unit_test(normals_have_mean_0_and_variance_1),
        cmocka_unit_test(every_part_of_the_index_matters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
