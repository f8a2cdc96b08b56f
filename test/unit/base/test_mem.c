#include "scratch.h"

static void memory_is_zeroed_aligned_and_counted(void **state)
{
    char *p;
    int64_t blocks = cad_mem_blocks(), bytes = cad_mem_bytes(), calls = cad_mem_calls();

    (void)state;
    assert_int_equal(cad_alloc(&p, 10, 7, "a test"), CAD_OK);
    assert_int_equal((uintptr_t)p % 64, 0);
    for (int i = 0; i < 70; i++) assert_int_equal(p[i], 0);
    assert_int_equal(cad_mem_blocks(), blocks + 1);
    assert_int_equal(cad_mem_bytes(), bytes + 70);
    assert_int_equal(cad_mem_calls(), calls + 1);
    assert_true(cad_mem_peak() >= bytes + 70);
    cad_free(&p);
    assert_null(p);
    assert_int_equal(cad_mem_bytes(), bytes);
}

static void no_elements_give_a_valid_pointer(void **state)
{
    int *p = NULL;

    (void)state;
    assert_int_equal(cad_alloc(&p, 0, sizeof *p, "a test"), CAD_OK);
    assert_non_null(p);
    cad_free(&p);
    cad_free(&p);
}

static void growing_keeps_what_was_there(void **state)
{
    char *p = NULL;

    (void)state;
    assert_int_equal(cad_grow(&p, 4, 1, "a test"), CAD_OK);
    memcpy(p, "abc", 4);
    assert_int_equal(cad_grow(&p, 100000, 1, "a test"), CAD_OK);
    assert_string_equal(p, "abc");
    assert_int_equal(cad_grow(&p, 2, 1, "a test"), CAD_OK);
    assert_memory_equal(p, "ab", 2);
    cad_free(&p);
}

static void a_size_that_overflows_is_refused(void **state)
{
    char *p = (char *)1;

    (void)state;
    assert_int_equal(cad_alloc(&p, SIZE_MAX / 2, 3, "the sea"), CAD_ERESOURCE);
    assert_null(p);
    expect_reason("the sea");
    assert_int_equal(cad_alloc(&p, SIZE_MAX, 1, "the sea"), CAD_ERESOURCE);
    expect_reason("out of memory");
}

static void the_planned_allocation_fails_and_only_that(void **state)
{
    char *a = NULL, *b = NULL, *c = NULL;

    (void)state;
    cad_mem_fail_at(2);
    assert_int_equal(cad_alloc(&a, 1, 1, "a"), CAD_OK);
    assert_int_equal(cad_alloc(&b, 1, 1, "b"), CAD_ERESOURCE);
    assert_int_equal(cad_alloc(&c, 1, 1, "c"), CAD_OK);
    cad_free(&a);
    cad_free(&c);
    cad_clear();
}

static void a_failed_growth_leaves_the_old_block(void **state)
{
    char *p = NULL;

    (void)state;
    assert_int_equal(cad_grow(&p, 4, 1, "a test"), CAD_OK);
    memcpy(p, "abc", 4);
    cad_mem_fail_at(1);
    assert_int_equal(cad_grow(&p, 8, 1, "a test"), CAD_ERESOURCE);
    cad_mem_fail_at(0);
    assert_string_equal(p, "abc");
    cad_free(&p);
    cad_clear();
}

static int no_block_is_left(void **state)
{
    (void)state;
    return cad_mem_blocks() != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_aligned_and_counted),
        cmocka_unit_test(no_elements_give_a_valid_pointer),
        cmocka_unit_test(growing_keeps_what_was_there),
        cmocka_unit_test(a_size_that_overflows_is_refused),
        cmocka_unit_test(the_planned_allocation_fails_and_only_that),
        cmocka_unit_test(a_failed_growth_leaves_the_old_block),
    };
    return cmocka_run_group_tests(tests, NULL, no_block_is_left);
}
