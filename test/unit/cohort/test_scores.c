#include <cadtrain/cohort.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Published to so many decimals: the distance is half of the last one. */
static void near(double found, double published, double half)
{
    if (!(fabs(found - published) <= half)) fail_msg("expected %.6f within %.6f, found %.6f", published, half, found);
}

static const double mg = 1 / 38.67;

static void framingham_2008_gives_the_paper_s_examples(void **state)
{
    (void)state;
    near(cad_framingham(&(cad_score_inputs){.male = 0, .age = 61, .cholesterol = 180 * mg, .hdl = 47 * mg, .pressure = 124, .smoker = 1}), .1048, .00005);
    near(cad_framingham(&(cad_score_inputs){.male = 1, .age = 53, .cholesterol = 161 * mg, .hdl = 55 * mg, .pressure = 125, .pressure_drug = 1, .diabetes = 1}), .1562, .00005);
    near(cad_framingham(&(cad_score_inputs){.male = 1, .age = 55, .cholesterol = 213 * mg, .hdl = 50 * mg, .pressure = 140}), .1353, .00005);
}

static void prevent_gives_the_published_example(void **state)
{
    (void)state;
    cad_score_inputs x = {.male = 0, .age = 50, .cholesterol = 200 * .02586, .hdl = 45 * .02586, .pressure = 160, .diabetes = 1, .pressure_drug = 1, .egfr = 90};

    near(cad_prevent_chd(&x), .044, .0005);
    near(cad_prevent_chd(&(cad_score_inputs){.male = 1, .age = 56.9, .cholesterol = 5.51, .hdl = 1.29, .pressure = 141.1, .egfr = 90}), .025, .0005);
    near(cad_prevent_chd(&(cad_score_inputs){.male = 0, .age = 56.4, .cholesterol = 5.89, .hdl = 1.60, .pressure = 135.1, .egfr = 90}), .011, .0005);
}

static void pooled_cohort_equations_give_the_guideline_s_examples(void **state)
{
    static const double published[2][2] = {{.0205, .0303}, {.0538, .0607}};

    (void)state;
    for (int male = 0; male < 2; male++)
        for (int black = 0; black < 2; black++)
            near(cad_pce(&(cad_score_inputs){.male = male, .black = black, .age = 55, .cholesterol = 213 * mg, .hdl = 50 * mg, .pressure = 120}), published[male][black], .00005);
}

static void score2_gives_the_paper_s_examples_in_all_regions(void **state)
{
    static const double published[2][4] = {{.0433, .0523, .0713, .1413}, {.0631, .0811, .0881, .1506}}, abstract[2][2] = {{.042, .137}, {.059, .140}};

    (void)state;
    for (int male = 0; male < 2; male++) {
        cad_score_inputs x = {.male = male, .age = 50, .smoker = 1, .pressure = 140, .cholesterol = 6.3, .hdl = 1.4};
        for (int r = 0; r < 4; r++) near(cad_score2(&x, (cad_region)r), published[male][r], .00005);
        x.cholesterol = 5.5;
        x.hdl = 1.3;
        near(cad_score2(&x, CAD_REGION_LOW), abstract[male][0], .0005);
        near(cad_score2(&x, CAD_REGION_VERY_HIGH), abstract[male][1], .0005);
    }
}

static void egfr_is_ckd_epi_2021(void **state)
{
    (void)state;
    near(cad_egfr(true, 57, 81), 97.6, .05);
}

static void a_missing_input_gives_no_risk_and_is_named(void **state)
{
    cad_score_inputs x = {.male = 1, .age = 55, .cholesterol = 5.5, .hdl = NAN, .pressure = 140, .egfr = NAN};
    char lacks[160];

    (void)state;
    for (int s = 0; s < CAD_SCORES; s++) assert_true(isnan(cad_score_risk((cad_score)s, &x)));
    cad_score_lacks(CAD_SCORE_FRAMINGHAM, &x, lacks, sizeof lacks);
    assert_string_equal(lacks, "hdl");
    cad_score_lacks(CAD_SCORE_PREVENT, &x, lacks, sizeof lacks);
    assert_string_equal(lacks, "hdl, creatinine");
    x.hdl = 1.2;
    assert_false(isnan(cad_score_risk(CAD_SCORE_PCE, &x)));
    assert_true(isnan(cad_score_risk(CAD_SCORE_PREVENT, &x)));
    x.male = NAN;
    for (int s = 0; s < CAD_SCORES; s++) assert_true(isnan(cad_score_risk((cad_score)s, &x)));
    cad_score_lacks(CAD_SCORE_SCORE2, &x, lacks, sizeof lacks);
    assert_string_equal(lacks, "sex");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(framingham_2008_gives_the_paper_s_examples), cmocka_unit_test(prevent_gives_the_published_example),
        cmocka_unit_test(pooled_cohort_equations_give_the_guideline_s_examples), cmocka_unit_test(score2_gives_the_paper_s_examples_in_all_regions),
        cmocka_unit_test(egfr_is_ckd_epi_2021), cmocka_unit_test(a_missing_input_gives_no_risk_and_is_named)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
