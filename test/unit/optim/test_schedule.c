#include "../data/golden.h"

#include <cadtrain/optim.h>

#include <math.h>

static const char *const names[] = {
    [CAD_LINEAR] = "linear", [CAD_COSINE] = "cosine", [CAD_COSINE_WITH_RESTARTS] = "cosine_with_restarts", [CAD_POLYNOMIAL] = "polynomial",
    [CAD_CONSTANT] = "constant", [CAD_CONSTANT_WITH_WARMUP] = "constant_with_warmup", [CAD_INVERSE_SQRT] = "inverse_sqrt",
    [CAD_COSINE_WITH_MIN_LR] = "cosine_with_min_lr", [CAD_COSINE_WARMUP_WITH_MIN_LR] = "cosine_warmup_with_min_lr",
};

/* With the library's defaults. */
static cad_schedule schedule(cad_schedule_kind kind, double rate, int64_t warmup, int64_t total)
{
    return (cad_schedule){.kind = kind, .learning_rate = rate, .warmup = warmup, .total = total, .num_cycles = kind == CAD_COSINE_WITH_RESTARTS ? 1 : 0.5,
                          .lr_end = 1e-7, .power = 1, .min_lr = -1, .min_lr_rate = -1, .warmup_lr_rate = -1};
}

static void assert_rate(double got, double want)
{
    if (fabs(got - want) <= 1e-12 * fabs(want)) return;
    print_error("rate %.17g, expected %.17g\n", got, want);
    fail();
}

static cad_schedule schedule_of(const cad_node *c)
{
    const cad_node *k = cad_get(c, "kwargs");
    const char *name;
    cad_schedule s;
    int kind = 0;

    assert_true(cad_get_string(c, "name", &name, ""));
    while (strcmp(names[kind], name) != 0) assert_true(++kind <= CAD_COSINE_WARMUP_WITH_MIN_LR);
    s = schedule((cad_schedule_kind)kind, real_of(c, "lr", 0), int_of(c, "warmup_steps"), int_of(c, "num_training_steps"));
    s.num_cycles = real_of(k, "num_cycles", s.num_cycles);
    s.lr_end = real_of(k, "lr_end", s.lr_end);
    s.power = real_of(k, "power", s.power);
    s.min_lr = real_of(k, "min_lr", s.min_lr);
    s.min_lr_rate = real_of(k, "min_lr_rate", s.min_lr_rate);
    assert_true(cad_get_int(k, "timescale", &s.timescale, 0));
    return s;
}

static void rates_are_those_of_transformers(void **state)
{
    cad_tree *t = read_golden("schedule/schedules.json");
    int cases = 0, refused = 0;

    (void)state;
    for (const cad_node *c = cad_get(t->root, "cases")->child; c; c = c->next, cases++) {
        cad_schedule s = schedule_of(c);
        const cad_node *error = cad_get(c, "error"), *after = cad_get(c, "lr_after_last");
        int64_t step = 1;
        cad_clear();
        assert_int_equal(cad_count_warmup(real_of(c, "warmup", 0), 0, s.total), s.warmup);
        if (error && error->kind == CAD_STRING) {
            assert_int_equal(cad_schedule_check(&s), CAD_EUSAGE);
            refused++;
            continue;
        }
        assert_int_equal(cad_schedule_check(&s), CAD_OK);
        for (const cad_node *rate = cad_get(c, "lr_used_by_step")->child; rate; rate = rate->next) assert_rate(cad_schedule_rate(&s, step++), rate->real);
        assert_int_equal(step, s.total + 1);
        if (after && after->kind == CAD_REAL) assert_rate(cad_schedule_rate(&s, step), after->real);
    }
    print_message("%d schedules, %d of them refused as the library does\n", cases, refused);
    assert_true(refused > 0);
    cad_tree_close(&t);
}

static void logged_rates_are_those_of_a_run(void **state)
{
    cad_tree *t = read_golden("schedule/logged.json");
    cad_schedule s = schedule(CAD_COSINE, 1.0, cad_count_warmup(0.2, 0, 10), 10);

    (void)state;
    for (const cad_node *row = t->root->child; row; row = row->next) assert_rate(cad_schedule_rate(&s, list_at(row, 0)->integer), list_at(row, 1)->real);
    cad_tree_close(&t);
}

static void rates_of_each_kind_by_hand(void **state)
{
    static const struct { cad_schedule_kind kind; double rate[4]; } want[] = { /* steps 1, 2, 3, 5 of 6 with 2 of warm-up, from 1.0 */
        {CAD_LINEAR, {0, 0.5, 1, 0.5}},
        {CAD_COSINE, {0, 0.5, 1, 0.5}},
        {CAD_COSINE_WITH_RESTARTS, {0, 0.5, 1, 0.5}},
        {CAD_POLYNOMIAL, {0, 0.5, 1, 0.50000005}},
        {CAD_CONSTANT, {1, 1, 1, 1}},
        {CAD_CONSTANT_WITH_WARMUP, {0, 0.5, 1, 1}},
        {CAD_INVERSE_SQRT, {0, 0.5, 1, 0.70710678118654757}},
        {CAD_COSINE_WITH_MIN_LR, {0, 0.5, 1, 0.55}},
        {CAD_COSINE_WARMUP_WITH_MIN_LR, {0.5, 1, 0.86819805153394638, 0.23180194846605362}},
    };
    static const int64_t step[4] = {1, 2, 3, 5};

    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        cad_schedule s = schedule(want[i].kind, 1.0, 2, 6);
        if (want[i].kind >= CAD_COSINE_WITH_MIN_LR) s.min_lr = 0.1;
        assert_int_equal(cad_schedule_check(&s), CAD_OK);
        for (int k = 0; k < 4; k++) assert_rate(cad_schedule_rate(&s, step[k]), want[i].rate[k]);
    }
}

static void schedules_that_the_library_refuses_are_refused(void **state)
{
    cad_schedule s[] = {schedule(CAD_POLYNOMIAL, 1e-7, 0, 10), schedule(CAD_POLYNOMIAL, 1, 10, 10), schedule(CAD_COSINE_WITH_MIN_LR, 1, 0, 10),
                        schedule(CAD_COSINE_WARMUP_WITH_MIN_LR, 1, 0, 10), schedule(CAD_COSINE_WITH_MIN_LR, 0, 0, 10), schedule(CAD_INVERSE_SQRT, 1, 0, 10),
                        schedule(CAD_LINEAR, NAN, 0, 10), schedule(CAD_LINEAR, -1, 0, 10), schedule(CAD_LINEAR, 1, -1, 10)};

    (void)state;
    s[3].min_lr = s[3].min_lr_rate = 0.1;
    s[4].min_lr = 0.1;
    s[5].timescale = -5;
    for (size_t i = 0; i < sizeof s / sizeof *s; i++) {
        cad_clear();
        assert_int_equal(cad_schedule_check(&s[i]), CAD_EUSAGE);
        assert_true(strlen(cad_reason()) > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLEAN_TEST(rates_are_those_of_transformers),
        CLEAN_TEST(logged_rates_are_those_of_a_run),
        CLEAN_TEST(rates_of_each_kind_by_hand),
        CLEAN_TEST(schedules_that_the_library_refuses_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
