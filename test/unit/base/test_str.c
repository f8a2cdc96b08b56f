#include "scratch.h"

static void bytes_and_formats_are_joined(void **state)
{
    cad_str s = {0};

    (void)state;
    assert_int_equal(cad_str_add(&s, "ab", 2), CAD_OK);
    assert_int_equal(cad_str_addf(&s, "-%d-%s", 7, "x"), CAD_OK);
    assert_int_equal(cad_str_add(&s, NULL, 0), CAD_OK);
    assert_string_equal(s.data, "ab-7-x");
    assert_int_equal(s.size, 6);
    for (int i = 0; i < 1000; i++) assert_int_equal(cad_str_addf(&s, "%d,", i), CAD_OK);
    assert_int_equal(strlen(s.data), s.size);
    cad_str_close(&s);
    assert_null(s.data);
}

static void a_failed_growth_keeps_the_text(void **state)
{
    cad_str s = {0};

    (void)state;
    assert_int_equal(cad_str_add(&s, "ab", 2), CAD_OK);
    cad_mem_fail_at(1);
    assert_int_equal(cad_str_addf(&s, "%0200d", 1), CAD_ERESOURCE);
    cad_mem_fail_at(0);
    assert_string_equal(s.data, "ab");
    cad_str_close(&s);
    cad_clear();
}

static void distances_count_typing_errors(void **state)
{
    (void)state;
    assert_int_equal(cad_edit_distance("", ""), 0);
    assert_int_equal(cad_edit_distance("learning_rate", "learning-rate"), 0);
    assert_int_equal(cad_edit_distance("learning_rate", "Learning_Rate"), 0);
    assert_int_equal(cad_edit_distance("learning_rate", "learning_rtae"), 1);
    assert_int_equal(cad_edit_distance("kitten", "sitting"), 3);
    assert_int_equal(cad_edit_distance("", "abc"), 3);
    assert_int_equal(cad_edit_distance("abc", ""), 3);
}

static void utf8_is_that_of_rfc_3629(void **state)
{
    static const struct { const char *text; size_t n, bad; } cases[] = {
        {"", 0, 9}, {"abc", 3, 9}, {"\xc3\xa9", 2, 9}, {"\xe2\x82\xac", 3, 9}, {"\xf0\x9f\x98\x80", 4, 9}, {"\xf4\x8f\xbf\xbf", 4, 9}, {"a\0b", 3, 9},
        {"a\x80", 2, 1}, {"\xc0\x80", 2, 0}, {"\xc1\xbf", 2, 0}, {"\xe0\x9f\xbf", 3, 0}, {"\xed\xa0\x80", 3, 0}, {"\xf0\x8f\xbf\xbf", 4, 0},
        {"\xf4\x90\x80\x80", 4, 0}, {"\xf5\x80\x80\x80", 4, 0}, {"\xff", 1, 0}, {"ab\xe2\x82", 4, 2}, {"\xc3(", 2, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t bad = 9;
        assert_int_equal(cad_utf8_valid(cases[i].text, cases[i].n, &bad), cases[i].bad == 9);
        assert_int_equal(bad, cases[i].bad);
    }
    assert_false(cad_utf8_valid("\xff", 1, NULL));
}

static void an_invalid_byte_is_found_at_any_offset(void **state)
{
    char text[64];
    size_t bad;

    (void)state;
    for (size_t i = 0; i < sizeof text; i++) {
        memset(text, 'a', sizeof text);
        text[i] = (char)0xff;
        assert_false(cad_utf8_valid(text, sizeof text, &bad));
        assert_int_equal(bad, i);
    }
}

static void only_a_near_name_is_offered(void **state)
{
    cad_near near = {.wanted = "lable"}, far = {.wanted = "lable"};

    (void)state;
    cad_near_offer(&near, "table_of_all");
    cad_near_offer(&near, "label");
    assert_string_equal(cad_near_hint(&near, "--"), "; did you mean \"--label\"?");
    cad_near_offer(&far, "a man of 61 who smokes");
    assert_string_equal(cad_near_hint(&far, ""), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_and_formats_are_joined),
        cmocka_unit_test(a_failed_growth_keeps_the_text),
        cmocka_unit_test(distances_count_typing_errors),
        cmocka_unit_test(only_a_near_name_is_offered),
        cmocka_unit_test(utf8_is_that_of_rfc_3629),
        cmocka_unit_test(an_invalid_byte_is_found_at_any_offset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
