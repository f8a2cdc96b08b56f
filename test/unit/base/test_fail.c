#include "scratch.h"

static int clear(void **state)
{
    (void)state;
    cad_clear();
    return 0;
}

static void the_first_reason_stays(void **state)
{
    (void)state;
    assert_string_equal(cad_reason(), "");
    assert_int_equal(cad_fail(CAD_EDATA, "line %d", 7), CAD_EDATA);
    assert_int_equal(cad_fail(CAD_EMODEL, "later"), CAD_EMODEL);
    assert_string_equal(cad_reason(), "line 7");
    cad_clear();
    assert_string_equal(cad_reason(), "");
}

static void two_lines_of_advice_are_kept(void **state)
{
    (void)state;
    cad_advise("try %s", "this");
    cad_advise("or that");
    cad_advise("or nothing");
    assert_string_equal(cad_advice(), "try this\nor that");
}

static void a_reason_longer_than_the_room_is_cut(void **state)
{
    enum { REASON = 16384, ADVICE = 1024 }; /* rooms of fail.c, a NUL each */
    static char text[40000];

    (void)state;
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    cad_fail(CAD_EDATA, "%s", text);
    assert_int_equal(strlen(cad_reason()), REASON - 1);
    cad_advise("%s", text);
    cad_advise("%s", text);
    assert_int_equal(strlen(cad_advice()), ADVICE - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_first_reason_stays, clear),
        cmocka_unit_test_setup(two_lines_of_advice_are_kept, clear),
        cmocka_unit_test_setup(a_reason_longer_than_the_room_is_cut, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
