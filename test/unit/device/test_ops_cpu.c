/* The table of operations on cpu. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ops/ops_modes.c"
#include "ops/ops_run.c"
#include "ops/ops_table.c"

static void need_cpu(void)
{
    cad_device *d;
    cad_status status = cad_device_open(&d, "cpu", 1);

    if (status) print_message("skipped: %s\n", cad_reason());
    cad_clear();
    if (status) skip();
    assert_int_equal(cad_device_close(&d), CAD_OK);
}

static void results_are_those_in_double_precision_within_the_formula(void **state)
{
    (void)state;
    need_cpu();
    assert_int_equal(ops_against_doubles("cpu", 2), 0);
}

static void every_operation_reads_and_writes_only_what_it_may(void **state)
{
    (void)state;
    need_cpu();
    assert_int_equal(ops_against_doubles("check:cpu", 2), 0);
}

static void bits_do_not_depend_on_threads(void **state)
{
    (void)state;
    need_cpu();
    assert_int_equal(ops_same_bits("cpu"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_those_in_double_precision_within_the_formula),
        cmocka_unit_test(every_operation_reads_and_writes_only_what_it_may),
        cmocka_unit_test(bits_do_not_depend_on_threads),
    };
    return cmocka_run_group_tests_name("operations on cpu", tests, NULL, NULL);
}
