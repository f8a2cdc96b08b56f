/* The table of operations on the GPU's kernels, by the emulated grid; and on the GPU that CADTRAIN_TEST_DEVICE names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "ops/ops_modes.c"
#include "ops/ops_run.c"
#include "ops/ops_table.c"

#if defined(__SANITIZE_ADDRESS__)
enum { WATCHED = 1 }; /* slow, and the sanitizer sees what the device "check" does */
#else
enum { WATCHED = 0 };
#endif

static const char *device(void)
{
    const char *asked = getenv("CADTRAIN_TEST_DEVICE");

    return asked ? asked : "emulated";
}

static void results_are_those_in_double_precision_within_the_formula(void **state)
{
    (void)state;
    assert_int_equal(ops_against_doubles(device(), 1), 0);
}

static void rows_that_may_be_read_sixteen_bytes_at_a_time_give_the_same(void **state)
{
    (void)state;
    ops_rim = 8;
    assert_int_equal(ops_against_doubles(device(), 1), 0);
    ops_rim = 3;
}

static void every_operation_reads_and_writes_only_what_it_may(void **state)
{
    (void)state;
    if (getenv("CADTRAIN_TEST_DEVICE") || WATCHED) skip();
    assert_int_equal(ops_against_doubles("check:emulated", 1), 0);
}

static void products_of_our_own_kernel_are_right_too(void **state)
{
    (void)state;
    setenv("CADTRAIN_PRODUCTS", "own", 1);
    ops_only = "matmul";
    assert_int_equal(ops_against_doubles(device(), 1), 0);
    ops_only = NULL;
    unsetenv("CADTRAIN_PRODUCTS");
}

/* Bits that depend on which thread of a block comes first show a barrier that is missing. */
static void bits_do_not_depend_on_the_order_of_threads(void **state)
{
    (void)state;
    if (getenv("CADTRAIN_TEST_DEVICE") || WATCHED) skip();
    assert_int_equal(ops_same_bits_where("emulated", "CADTRAIN_EMULATED_ORDER", "backwards"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_those_in_double_precision_within_the_formula),
        cmocka_unit_test(rows_that_may_be_read_sixteen_bytes_at_a_time_give_the_same),
        cmocka_unit_test(every_operation_reads_and_writes_only_what_it_may),
        cmocka_unit_test(products_of_our_own_kernel_are_right_too),
        cmocka_unit_test(bits_do_not_depend_on_the_order_of_threads),
    };
    return cmocka_run_group_tests_name("operations on the GPU's kernels", tests, NULL, NULL);
}
