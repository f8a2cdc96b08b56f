/* The table of operations on ref, which defines them, and under check and plan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ops/ops_modes.c"
#include "ops/ops_run.c"
#include "ops/ops_table.c"

static void results_are_those_in_double_precision_once_rounded(void **state)
{
    (void)state;
    assert_int_equal(ops_against_doubles("ref", 1), 0);
}

static void every_operation_reads_and_writes_only_what_it_may(void **state)
{
    (void)state;
    assert_int_equal(ops_against_doubles("check:ref", 1), 0);
}

static void gradients_are_those_of_central_differences(void **state)
{
    (void)state;
    assert_int_equal(ops_against_differences(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_those_in_double_precision_once_rounded),
        cmocka_unit_test(every_operation_reads_and_writes_only_what_it_may),
        cmocka_unit_test(gradients_are_those_of_central_differences),
    };
    return cmocka_run_group_tests_name("operations on ref", tests, NULL, NULL);
}
