#include "golden.h"

#include <cadtrain/data.h>

static int32_t ids[] = {10, 11, 12, 20, 30, 31, 32, 33}, labels[] = {0, 1, -1};
static int64_t starts[] = {0, 3, 4, 8};
static const double weight[2] = {0.501, 1.525};
static const cad_dataset three = {.count = 3, .labels = labels, .ids = ids, .starts = starts};

static void records_are_packed_end_to_end(void **state)
{
    static const int64_t rows[] = {2, 0, 2};
    static const int32_t want_ids[] = {30, 31, 32, 33, 10, 11, 12, 30, 31, 32, 33}, want_starts[] = {0, 4, 7, 11}, want_labels[] = {-1, 0, -1}, want_rows[] = {2, 0, 2};
    cad_batch b;

    (void)state;
    assert_int_equal(cad_batch_open(&b, 11, 3, 0), CAD_OK);
    assert_int_equal(cad_batch_pack(&b, &three, rows, 3, weight), CAD_OK);
    assert_int_equal(b.head->tokens, 11);
    assert_int_equal(b.head->sequences, 3);
    assert_memory_equal(b.ids, want_ids, sizeof want_ids);
    assert_memory_equal(b.starts, want_starts, sizeof want_starts);
    assert_memory_equal(b.labels, want_labels, sizeof want_labels);
    assert_memory_equal(b.rows, want_rows, sizeof want_rows);
    assert_true(b.weights[0] == 0 && b.weights[1] == (float)0.501);
    assert_int_equal(b.bytes, cad_batch_bytes(11, 3, 0));
    cad_batch_close(&b);
}

static void a_batch_travels_as_one_flat_message(void **state)
{
    static const int64_t rows[] = {1, 0};
    cad_batch from, to;
    int64_t calls;

    (void)state;
    assert_int_equal(cad_batch_open(&from, 20, 4, 0), CAD_OK);
    assert_int_equal(cad_batch_open(&to, 20, 4, 0), CAD_OK);
    calls = cad_mem_calls();
    assert_int_equal(cad_batch_pack(&from, &three, rows, 2, weight), CAD_OK);
    from.head->step = 7;
    from.head->scale = 0.25;
    memcpy(to.memory, from.memory, from.bytes);
    assert_int_equal(cad_batch_layout(&to, to.head->tokens, to.head->sequences), CAD_OK);
    assert_int_equal(to.head->step, 7);
    assert_true(to.head->scale == 0.25);
    assert_memory_equal(to.ids, from.ids, 4 * sizeof(int32_t));
    assert_memory_equal(to.starts, from.starts, 3 * sizeof(int32_t));
    assert_memory_equal(to.weights, from.weights, 2 * sizeof(float));
    assert_int_equal(to.rows[0], 1);
    assert_int_equal(cad_mem_calls(), calls);
    cad_batch_close(&from);
    cad_batch_close(&to);
}

static void parts_stand_on_multiples_of_eight_bytes_and_do_not_overlap(void **state)
{
    (void)state;
    for (int64_t tokens = 0; tokens < 9; tokens++)
        for (int64_t n = 0; n < 9; n++) {
            cad_batch b;
            assert_int_equal(cad_batch_open(&b, tokens, n, 0), CAD_OK);
            assert_int_equal(cad_batch_layout(&b, tokens, n), CAD_OK);
            assert_int_equal(b.bytes % 8, 0);
            assert_int_equal(((uintptr_t)b.ids | (uintptr_t)b.starts | (uintptr_t)b.labels | (uintptr_t)b.rows | (uintptr_t)b.weights) % 8, 0);
            assert_true((char *)b.ids >= (char *)(b.head + 1) && b.starts >= b.ids + tokens && b.labels >= b.starts + n + 1);
            assert_true(b.rows >= b.labels + n && (int32_t *)b.weights >= b.rows + n && (char *)(b.weights + n) <= (char *)b.memory + b.bytes);
            cad_batch_close(&b);
        }
}

static void an_empty_batch_is_a_batch(void **state)
{
    cad_batch b;

    (void)state;
    assert_int_equal(cad_batch_open(&b, 0, 0, 0), CAD_OK);
    assert_int_equal(cad_batch_pack(&b, &three, NULL, 0, weight), CAD_OK);
    assert_int_equal(b.head->tokens, 0);
    assert_int_equal(b.head->sequences, 0);
    assert_int_equal(b.starts[0], 0);
    cad_batch_close(&b);
}

static void sizes_that_do_not_fit_are_refused(void **state)
{
    static const int64_t rows[] = {0, 1, 2};
    static const int64_t wrong[][2] = {{-1, 0}, {0, -1}, {9, 3}, {8, 5}, {INT64_MAX, 0}, {0, INT64_MAX}, {(int64_t)INT32_MAX + 1, 0}};
    cad_batch b;

    (void)state;
    assert_int_equal(cad_batch_open(&b, 7, 3, 0), CAD_OK);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cad_clear();
        assert_int_equal(cad_batch_layout(&b, wrong[i][0], wrong[i][1]), CAD_EINTERNAL);
    }
    cad_clear();
    b.room -= 8; /* seven tokens take the place of eight */
    assert_int_equal(cad_batch_pack(&b, &three, rows, 3, weight), CAD_EINTERNAL);
    cad_batch_close(&b);
    assert_int_equal(cad_batch_open(&b, (int64_t)INT32_MAX + 1, 1, 0), CAD_EUSAGE);
    cad_batch_close(&b);
}

static void the_scale_follows_the_normalisation(void **state)
{
    (void)state;
    assert_true(cad_step_scale(CAD_NORM_GLOBAL, 8, 2, 4, 3) == 0.125);
    assert_true(cad_step_scale(CAD_NORM_HF, 8, 2, 4, 3) == 0.125);
    assert_true(cad_step_scale(CAD_NORM_HF, 8, 2, 1, 3) == 0.5);
    assert_true(cad_step_scale(CAD_NORM_HF_MEAN, 8, 2, 2, 4) == 0.0625);
    assert_true(cad_step_scale(CAD_NORM_HF, 8, 0, 1, 1) == 0);
    assert_true(cad_step_scale(CAD_NORM_GLOBAL, 0, 0, 1, 1) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLEAN_TEST(records_are_packed_end_to_end),
        CLEAN_TEST(a_batch_travels_as_one_flat_message),
        CLEAN_TEST(parts_stand_on_multiples_of_eight_bytes_and_do_not_overlap),
        CLEAN_TEST(an_empty_batch_is_a_batch),
        CLEAN_TEST(sizes_that_do_not_fit_are_refused),
        CLEAN_TEST(the_scale_follows_the_normalisation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
