#include "golden.h"

#include <cadtrain/data.h>

static const cad_split_options program = {.validation_split = 0.2, .split_seed = 42, .target_label = 1, .repeat_times = 4,
                                          .shuffle_seed = 420, .train_shuffle_seed = 425, .eval_shuffle_seed = 300};

static void numpy_permutations_of_two_seeds(void **state)
{
    static const int64_t of_42[12] = {0, 7, 6, 9, 11, 3, 5, 2, 4, 10, 1, 8}, of_large[9] = {7, 1, 2, 5, 3, 0, 8, 4, 6};
    int64_t got[12];

    (void)state;
    cad_numpy_permutation(42, 12, got);
    assert_memory_equal(got, of_42, sizeof of_42);
    cad_numpy_permutation(((uint64_t)1 << 40) + 5, 9, got);
    assert_memory_equal(got, of_large, sizeof of_large);
}

static void torch_permutations_ignore_the_high_half_of_the_seed(void **state)
{
    static const int64_t of_42[12] = {6, 8, 1, 7, 0, 2, 10, 11, 4, 3, 5, 9}, short_one[5] = {2, 4, 3, 0, 1};
    int64_t got[12];

    (void)state;
    cad_torch_permutation(42, 12, got);
    assert_memory_equal(got, of_42, sizeof of_42);
    cad_torch_permutation(((uint64_t)1 << 32) + 42, 5, got);
    assert_memory_equal(got, short_one, sizeof short_one);
}

static void permutations_of_nothing_and_of_one(void **state)
{
    int64_t got[1] = {7};

    (void)state;
    cad_numpy_permutation(1, 0, got);
    cad_torch_permutation(1, 0, got);
    assert_int_equal(got[0], 7);
    cad_numpy_permutation(1, 1, got);
    assert_int_equal(got[0], 0);
    got[0] = 7;
    cad_torch_permutation(1, 1, got);
    assert_int_equal(got[0], 0);
}

static void check_split(const cad_node *c)
{
    int64_t n = int_of(c, "n"), *p, tests = cad_get(c, "test")->children;
    const cad_node *shuffles = cad_get(c, "shuffle");

    assert_int_equal(cad_alloc(&p, (size_t)n, sizeof *p, "a permutation"), CAD_OK);
    cad_numpy_permutation((uint64_t)int_of(c, "seed"), n, p);
    assert_ints_equal(p, tests, cad_get(c, "test"));
    assert_ints_equal(p + tests, n - tests, cad_get(c, "train"));
    for (const cad_node *s = shuffles ? shuffles->child : NULL; s; s = s->next) {
        cad_numpy_permutation(strtoull(s->key, NULL, 10), n, p);
        assert_ints_equal(p, n, s);
    }
    cad_free(&p);
}

static void splits_and_shuffles_are_those_of_datasets(void **state)
{
    cad_tree *t = read_golden("data_order/split_shuffle.json");

    (void)state;
    for (const cad_node *c = cad_get(t->root, "cases")->child; c; c = c->next) check_split(c);
    for (const cad_node *c = cad_get(t->root, "other")->child; c; c = c->next) check_split(c);
    cad_tree_close(&t);
}

static void permutations_are_those_of_torch(void **state)
{
    cad_tree *t = read_golden("data_order/torch_randperm.json");
    int64_t p[7], *big;
    cad_mt m;

    (void)state;
    for (const cad_node *c = cad_get(t->root, "vectors")->child; c; c = c->next) {
        int64_t n = int_of(c, "n");
        assert_int_equal(cad_alloc(&big, (size_t)n, sizeof *big, "a permutation"), CAD_OK);
        cad_torch_permutation((uint64_t)int_of(c, "seed"), n, big);
        assert_ints_equal(big, n, cad_get(c, "perm"));
        cad_free(&big);
    }
    cad_mt_seed(&m, 42);
    cad_mt_permutation(&m, 5, p);
    assert_ints_equal(p, 5, list_at(cad_get(t->root, "one_generator_seed_42"), 0));
    cad_mt_permutation(&m, 7, p);
    assert_ints_equal(p, 7, list_at(cad_get(t->root, "one_generator_seed_42"), 1));
    cad_tree_close(&t);
}

static int32_t *labels_of(const cad_node *list)
{
    int32_t *y, i = 0;

    assert_int_equal(cad_alloc(&y, (size_t)list->children, sizeof *y, "labels"), CAD_OK);
    for (const cad_node *c = list->child; c; c = c->next) y[i++] = c->kind == CAD_STRING ? atoi(c->text) : (int32_t)c->integer;
    return y;
}

static void the_whole_pipeline_is_that_of_the_python_program(void **state)
{
    cad_tree *t = read_golden("data_order/pipeline.json");

    (void)state;
    for (const cad_node *c = cad_get(t->root, "cases")->child; c; c = c->next) {
        cad_split_options o = program;
        int32_t *y = labels_of(cad_get(c, "labels"));
        cad_orders orders;
        o.oversample = true;
        o.repeat_times = int_of(c, "repeat_times");
        assert_int_equal(cad_make_orders(&orders, y, int_of(c, "n"), &o), CAD_OK);
        assert_ints_equal(orders.train, orders.train_count, cad_get(c, "train_final"));
        assert_ints_equal(orders.eval, orders.eval_count, cad_get(c, "eval_final"));
        cad_orders_close(&orders);
        cad_free(&y);
    }
    cad_tree_close(&t);
}

static void a_stratified_split_is_that_of_datasets(void **state)
{
    static const int32_t y[11] = {1, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0};
    static const int64_t train[8] = {7, 10, 1, 8, 4, 0, 9, 5}, eval[3] = {6, 2, 3};
    cad_split_options o = program;
    cad_orders got;

    (void)state;
    o.stratify = true;
    o.validation_split = 0.25;
    o.split_seed = 7;
    assert_int_equal(cad_make_orders(&got, y, 11, &o), CAD_OK);
    assert_int_equal(got.train_count, 8);
    assert_int_equal(got.eval_count, 3);
    assert_memory_equal(got.train, train, sizeof train);
    assert_memory_equal(got.eval, eval, sizeof eval);
    cad_orders_close(&got);
}

static void a_stratified_split_keeps_the_share_of_each_label(void **state)
{
    int32_t y[103];
    cad_split_options o = program;

    (void)state;
    o.stratify = true;
    for (int64_t n = 20; n <= 103; n++) {
        int64_t ones = 0, in_eval = 0, seen[103] = {0};
        cad_orders got;
        for (int64_t i = 0; i < n; i++) ones += y[i] = i % 3 == 0;
        o.split_seed = (uint64_t)n;
        assert_int_equal(cad_make_orders(&got, y, n, &o), CAD_OK);
        for (int64_t i = 0; i < got.eval_count; i++) in_eval += y[got.eval[i]], seen[got.eval[i]]++;
        for (int64_t i = 0; i < got.train_count; i++) seen[got.train[i]]++;
        for (int64_t i = 0; i < n; i++) assert_int_equal(seen[i], 1);
        assert_true(llabs(in_eval * n - ones * got.eval_count) <= n); /* off by one record at most */
        cad_orders_close(&got);
    }
}

static void without_a_split_every_row_is_trained_on_and_still_shuffled(void **state)
{
    static const int32_t y[6] = {0, 1, 0, 0, 1, 0};
    int64_t want[6], seen[6] = {0};
    cad_orders got;

    (void)state;
    for (int file = 0; file < 2; file++) {
        cad_split_options o = program;
        o.validation_split = file ? 0.2 : 0;
        o.has_validation_file = file;
        assert_int_equal(cad_make_orders(&got, y, 6, &o), CAD_OK);
        cad_numpy_permutation(425, 6, want);
        assert_int_equal(got.eval_count, 0);
        assert_int_equal(got.train_count, 6);
        assert_memory_equal(got.train, want, sizeof want);
        cad_orders_close(&got);
        o.oversample = true;
        assert_int_equal(cad_make_orders(&got, y, 6, &o), CAD_OK);
        assert_int_equal(got.train_count, 4 + 2 * 4);
        memset(seen, 0, sizeof seen);
        for (int64_t i = 0; i < got.train_count; i++) seen[got.train[i]]++;
        for (int64_t i = 0; i < 6; i++) assert_int_equal(seen[i], y[i] ? 4 : 1);
        cad_orders_close(&got);
    }
}

static void assert_refused(const int32_t *y, int64_t n, const cad_split_options *o, cad_status status, const char *part)
{
    cad_orders got;

    cad_clear();
    assert_int_equal(cad_make_orders(&got, y, n, o), status);
    assert_non_null(strstr(cad_reason(), part));
    assert_null(got.train);
    assert_null(got.eval);
}

static void orders_that_cannot_be_made_are_refused_with_a_reason(void **state)
{
    static const int32_t y[5] = {0, 0, 1, 0, 0}, zeros[5] = {0};
    cad_split_options o = program;

    (void)state;
    assert_refused(y, 0, &o, CAD_EDATA, "expected records to train on, found none");
    assert_refused(y, 1, &o, CAD_EDATA, "leaves nothing to train on");
    o.validation_split = 1;
    assert_refused(y, 5, &o, CAD_EUSAGE, "validation_split");
    o.validation_split = -0.1;
    assert_refused(y, 5, &o, CAD_EUSAGE, "validation_split");
    o.validation_split = 0.2;
    o.stratify = true;
    assert_refused(y, 5, &o, CAD_EDATA, "at least 2 records of each label");
    o.stratify = false;
    o.oversample = true;
    assert_refused(zeros, 5, &o, CAD_EDATA, "expected records of label 1 to repeat (oversampling), found none among 4");
    o.repeat_times = 0;
    assert_refused(y, 5, &o, CAD_EUSAGE, "repeat_times");
    o.validation_split = 0;
    o.repeat_times = INT64_MAX;
    assert_refused(y, 5, &o, CAD_EUSAGE, "too many");
}

static void no_failed_allocation_leaks(void **state)
{
    int32_t y[40];
    cad_split_options o = program;
    cad_orders got;

    (void)state;
    for (int i = 0; i < 40; i++) y[i] = i % 4 == 0;
    for (int stratify = 0; stratify < 2; stratify++) {
        int64_t nth = 0;
        o.stratify = stratify;
        o.oversample = true;
        do {
            cad_clear();
            cad_mem_fail_at(++nth);
        } while (cad_make_orders(&got, y, 40, &o) && cad_mem_blocks() == 0);
        cad_mem_fail_at(0);
        assert_int_equal(nth, 5); /* four allocations */
        cad_orders_close(&got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLEAN_TEST(numpy_permutations_of_two_seeds),
        CLEAN_TEST(torch_permutations_ignore_the_high_half_of_the_seed),
        CLEAN_TEST(permutations_of_nothing_and_of_one),
        CLEAN_TEST(splits_and_shuffles_are_those_of_datasets),
        CLEAN_TEST(permutations_are_those_of_torch),
        CLEAN_TEST(the_whole_pipeline_is_that_of_the_python_program),
        CLEAN_TEST(a_stratified_split_is_that_of_datasets),
        CLEAN_TEST(a_stratified_split_keeps_the_share_of_each_label),
        CLEAN_TEST(without_a_split_every_row_is_trained_on_and_still_shuffled),
        CLEAN_TEST(orders_that_cannot_be_made_are_refused_with_a_reason),
        CLEAN_TEST(no_failed_allocation_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
