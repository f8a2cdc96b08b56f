#include "../../../src/cohort/synth_priv.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { N = 30000 };
static cadp_made people[N];
static cadp_maker maker = {11, N, 0, 0, 1};

static int make_people(void **state)
{
    (void)state;
    if (cadp_make_offset(&maker, 0.03)) return -1;
    for (int64_t i = 0; i < N; i++) cadp_make_person(&maker, i, &people[i]);
    return cad_mem_blocks() ? -1 : 0;
}

typedef struct moments { double n, mean, sd; } moments;
static moments of(size_t at, double male)
{
    double n = 0, sum = 0, squares = 0, v;

    for (int i = 0; i < N; i++) {
        memcpy(&v, (const char *)&people[i] + at, sizeof v);
        if (people[i].male != male || isnan(v)) continue;
        n++;
        sum += v;
        squares += v * v;
    }
    return (moments){n, sum / n, sqrt(squares / n - sum / n * sum / n)};
}

/* Clipping, treatment and the age bands move a mean by a few percent of the published one; sampling by far less. */
static void expect_mean(const char *what, size_t at, double women, double men)
{
    moments w = of(at, 0), m = of(at, 1);

    if (fabs(w.mean / women - 1) > 0.06 || fabs(m.mean / men - 1) > 0.06) fail_msg("%s: women %.3f (published %.3f), men %.3f (published %.3f)", what, w.mean, women, m.mean, men);
}

static void means_by_sex_are_those_of_uk_biobank(void **state)
{
    (void)state;
    assert_true(fabs(of(offsetof(cadp_made, age), 1).n / N - 0.456) < 4 * sqrt(0.25 / N));
    expect_mean("age", offsetof(cadp_made, age), 56.4, 56.9);
    expect_mean("bmi", offsetof(cadp_made, bmi), 27.0, 27.8);
    expect_mean("waist", offsetof(cadp_made, waist), 84.7, 97.0);
    expect_mean("sbp", offsetof(cadp_made, sbp), 135.1, 141.1);
    expect_mean("dbp", offsetof(cadp_made, dbp), 80.6, 84.1);
    expect_mean("tc", offsetof(cadp_made, tc), 5.89, 5.51);
    expect_mean("hdl", offsetof(cadp_made, hdl), 1.60, 1.29);
    expect_mean("ldl", offsetof(cadp_made, ldl), 3.64, 3.49);
    expect_mean("tg", offsetof(cadp_made, tg), 1.55, 1.98);
    expect_mean("hba1c", offsetof(cadp_made, hba1c), 35.6, 36.2);
    expect_mean("creatinine", offsetof(cadp_made, creatinine), 64, 81);
    expect_mean("cystatin", offsetof(cadp_made, cystatin), 0.88, 0.94);
}

typedef struct ranked { double v; int y; } ranked;
static int rising(const void *a, const void *b)
{
    const ranked *x = a, *y = b;

    return (x->v > y->v) - (x->v < y->v);
}

static double auc_of(ranked *r, int n)
{
    double pairs = 0, zeros = 0, ones = 0;

    qsort(r, (size_t)n, sizeof *r, rising);
    for (int i = 0; i < n; i++) {
        if (r[i].y) pairs += zeros, ones++;
        else zeros++;
    }
    return pairs / ones / zeros;
}

static bool studied(const cadp_made *p) { return p->fate == CADP_FATE_CASE || p->fate == CADP_FATE_CONTROL; }

static void three_in_a_hundred_have_the_event_and_men_more_often(void **state)
{
    double n[2] = {0, 0}, cases[2] = {0, 0}, prevalent = 0, rate;

    (void)state;
    for (int i = 0; i < N; i++) {
        int male = people[i].male > 0;
        prevalent += people[i].fate == CADP_FATE_PREVALENT;
        if (!studied(&people[i])) continue;
        n[male]++;
        cases[male] += people[i].fate == CADP_FATE_CASE;
    }
    rate = (cases[0] + cases[1]) / (n[0] + n[1]);
    assert_true(fabs(rate - 0.03) < 0.003 + 4 * sqrt(0.03 / (n[0] + n[1]))); /* early ends of follow-up take controls, other deaths take cases */
    assert_true(cases[1] / n[1] > 0.033 && cases[1] / n[1] < 0.055 && cases[0] / n[0] > 0.011 && cases[0] / n[0] < 0.025);
    assert_true(prevalent / N > 0.03 && prevalent / N < 0.06);
}

/* Acceptance of the recipe: PREVENT .74-.77, the truth above it. */
static void the_true_risk_ranks_best_and_prevent_as_published(void **state)
{
    static ranked truth[N], prevent[N];
    double best, score;
    int n = 0, m = 0;

    (void)state;
    for (int i = 0; i < N; i++) {
        const cadp_made *p = &people[i];
        cad_score_inputs x = {p->male, p->age, p->tc, p->hdl, (p->sbp[0] + p->sbp[1]) / 2, p->smoking == 2, p->diabetes == 1, p->bp_drug, p->statin, cad_egfr(p->male > 0, p->age, p->creatinine), p->bmi, 0};
        double risk = cad_prevent_chd(&x);
        if (!studied(p)) continue;
        truth[n++] = (ranked){p->linear, p->fate == CADP_FATE_CASE};
        if (!isnan(risk)) prevent[m++] = (ranked){risk, p->fate == CADP_FATE_CASE};
    }
    best = auc_of(truth, n);
    score = auc_of(prevent, m);
    if (!(best > 0.765 && best < 0.805 && score > 0.735 && score < 0.785 && score < best)) fail_msg("truth %.3f, PREVENT %.3f", best, score);
}

static void a_person_is_a_function_of_seed_and_number(void **state)
{
    cadp_made again;

    (void)state;
    for (int64_t i = 0; i < N; i += 997) {
        cadp_make_person(&maker, i, &again);
        assert_memory_equal(&again, &people[i], sizeof again);
    }
}

static void what_the_laboratory_leaves_out_is_left_out_together(void **state)
{
    double hdl = 0, tc = 0, both = 0;

    (void)state;
    for (int i = 0; i < N; i++) {
        tc += isnan(people[i].tc);
        hdl += isnan(people[i].hdl);
        both += isnan(people[i].tc) && isnan(people[i].hdl);
    }
    assert_true(both == tc); /* without blood there is no HDL either */
    assert_true(fabs(tc / N - 0.063) < 0.01 && fabs(hdl / N - 0.14) < 0.015);
}

static void ids_are_different(void **state)
{
    cadp_ids ids = {0};
    int32_t found;

    (void)state;
    for (int i = 0; i < N; i++) {
        assert_true(people[i].eid >= 1000000 && people[i].eid < 6000000);
        assert_int_equal(cadp_ids_add(&ids, people[i].eid, i, &found), CAD_OK);
        assert_int_equal(found, i);
    }
    cadp_ids_close(&ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(means_by_sex_are_those_of_uk_biobank), cmocka_unit_test(three_in_a_hundred_have_the_event_and_men_more_often),
        cmocka_unit_test(the_true_risk_ranks_best_and_prevent_as_published), cmocka_unit_test(a_person_is_a_function_of_seed_and_number),
        cmocka_unit_test(what_the_laboratory_leaves_out_is_left_out_together), cmocka_unit_test(ids_are_different)};
    return cmocka_run_group_tests(tests, make_people, NULL);
}
