#include "trees.h"

#include <float.h>
#include <math.h>

static void expect_real(double value, const char *text)
{
    char out[32];

    assert_int_equal(cad_format_real(out, value), strlen(text));
    assert_string_equal(out, text);
}

/* The texts are those of Python's repr. */
static void reals_are_written_as_python_does(void **state)
{
    static const struct { double value; const char *text; } cases[] = {
        {0.0, "0.0"}, {-0.0, "-0.0"}, {1.0, "1.0"}, {-1.5, "-1.5"}, {0.1, "0.1"}, {0.1 + 0.2, "0.30000000000000004"}, {1e-5, "1e-05"}, {3e-5, "3e-05"},
        {1e-4, "0.0001"}, {0.00012345678901234567, "0.00012345678901234567"}, {1.5e-7, "1.5e-07"}, {1e15, "1000000000000000.0"}, {1e16, "1e+16"},
        {9999999999999998.0, "9999999999999998.0"}, {123456789012345678.0, "1.2345678901234568e+17"}, {1e22, "1e+22"}, {1e23, "1e+23"}, {1e100, "1e+100"},
        {100.0, "100.0"}, {123456.0, "123456.0"}, {2.0 / 3, "0.6666666666666666"}, {5e-324, "5e-324"}, {1e-323, "1e-323"}, {DBL_MIN, "2.2250738585072014e-308"},
        {DBL_MAX, "1.7976931348623157e+308"}, {0x1p-44, "5.684341886080802e-14"}, {0x1p-24, "5.960464477539063e-08"}, {0x1p60, "1.152921504606847e+18"},
        {9007199254740993.0, "9007199254740992.0"}, {1 / 3.0, "0.3333333333333333"}, {0x1p-1022 - 0x1p-1074, "2.225073858507201e-308"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) expect_real(cases[i].value, cases[i].text);
    expect_real(NAN, "NaN");
    expect_real(-NAN, "NaN");
    expect_real(INFINITY, "Infinity");
    expect_real(-INFINITY, "-Infinity");
}

static void every_real_reads_back(void **state)
{
    char out[32];
    uint32_t w[4];

    (void)state;
    for (uint64_t i = 0; i < 20000; i++) {
        double value;
        cad_rng_words(1, CAD_RNG_TEST, 0, i, w);
        memcpy(&value, w, sizeof value);
        if (isnan(value)) continue;
        int n = cad_format_real(out, value);
        assert_true(n > 0 && n < 32 && !out[n]);
        assert_true(isinf(value) || strtod(out, NULL) == value);
    }
    for (int e = -1074; e < 1024; e++) {
        assert_true(cad_format_real(out, ldexp(1, e)) <= 24);
        assert_true(strtod(out, NULL) == ldexp(1, e));
    }
}

static void write_sample(cad_json *j)
{
    assert_int_equal(cad_json_begin(j, NULL, '{'), CAD_OK);
    assert_int_equal(cad_json_int(j, "i", -7), CAD_OK);
    assert_int_equal(cad_json_begin(j, "l", '['), CAD_OK);
    assert_int_equal(cad_json_real(j, NULL, 0.5), CAD_OK);
    assert_int_equal(cad_json_bool(j, NULL, true), CAD_OK);
    assert_int_equal(cad_json_null(j, NULL), CAD_OK);
    assert_int_equal(cad_json_raw(j, NULL, "[1]"), CAD_OK);
    assert_int_equal(cad_json_end(j), CAD_OK);
    assert_int_equal(cad_json_begin(j, "e", '{'), CAD_OK);
    assert_int_equal(cad_json_end(j), CAD_OK);
    assert_int_equal(cad_json_begin(j, "f", '['), CAD_OK);
    assert_int_equal(cad_json_end(j), CAD_OK);
    assert_int_equal(cad_json_string(j, "s", "x"), CAD_OK);
    assert_int_equal(cad_json_string(j, "n", NULL), CAD_OK);
    assert_int_equal(cad_json_end(j), CAD_OK);
}

static void commas_lines_and_keys_are_set(void **state)
{
    cad_json plain = {0}, pretty = {.pretty = true};

    (void)state;
    write_sample(&plain);
    assert_string_equal(plain.text.data, "{\"i\": -7, \"l\": [0.5, true, null, [1]], \"e\": {}, \"f\": [], \"s\": \"x\", \"n\": null}");
    write_sample(&pretty);
    assert_string_equal(pretty.text.data, "{\n  \"i\": -7,\n  \"l\": [\n    0.5,\n    true,\n    null,\n    [1]\n  ],\n  \"e\": {},\n  \"f\": [],\n"
                                          "  \"s\": \"x\",\n  \"n\": null\n}");
    cad_json_close(&plain);
    cad_json_close(&pretty);
}

static void expect_quoted(const char *bytes, size_t n, const char *text)
{
    cad_json j = {0};

    assert_int_equal(cad_json_bytes(&j, NULL, bytes, n), CAD_OK);
    assert_string_equal(j.text.data, text);
    cad_json_close(&j);
}

static void strings_are_escaped(void **state)
{
    (void)state;
    expect_quoted("", 0, "\"\"");
    expect_quoted("a\"b\\c/d", 7, "\"a\\\"b\\\\c/d\"");
    expect_quoted("\b\f\n\r\t\x01\x1f\x7f", 8, "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"");
    expect_quoted("a\0b", 3, "\"a\\u0000b\"");
    expect_quoted("\xc3\xa9\xf0\x9f\x98\x80", 6, "\"\xc3\xa9\xf0\x9f\x98\x80\"");
}

static void bytes_that_are_no_utf8_become_replacement_characters(void **state)
{
    (void)state;
    expect_quoted("a\xff\"\xfe", 4, "\"a\xef\xbf\xbd\\\"\xef\xbf\xbd\"");
    expect_quoted("\xe2\x82", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"");
    expect_quoted("\xed\xa0\x80x", 4, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx\"");
}

static void the_deepest_tree_can_be_written_in_a_list(void **state)
{
    char text[129];
    cad_tree *t;
    cad_json j = {0};

    (void)state;
    memset(text, '[', 64);
    memset(text + 64, ']', 64);
    assert_int_equal(cad_json_parse(&t, text, 128, "f", CAD_EDATA), CAD_OK);
    for (int i = 0; i < 60; i++) assert_int_equal(cad_json_begin(&j, NULL, '['), CAD_OK);
    assert_int_equal(cad_json_node(&j, NULL, t->root), CAD_OK);
    for (int i = 0; i < 60; i++) assert_int_equal(cad_json_end(&j), CAD_OK);
    assert_int_equal(j.text.size, 248);
    cad_json_close(&j);
    cad_tree_close(&t);
}

static cad_status write_node(cad_json *j, const cad_tree *t)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_node(j, "copied", t->root));
    return cad_json_end(j);
}

static void no_failed_allocation_leaks(void **state)
{
    static const char text[] = "{\"a\": [1, 2.5, true, null, \"a long string that makes the buffer grow once more than it would\"], \"b\": {}}";
    cad_tree *t;
    cad_status status = CAD_ERESOURCE;

    (void)state;
    assert_int_equal(cad_json_parse(&t, text, sizeof text - 1, "f", CAD_EDATA), CAD_OK);
    for (int nth = 1; status; nth++) {
        cad_json j = {0};
        cad_mem_fail_at(nth);
        status = write_node(&j, t);
        cad_mem_fail_at(0);
        assert_true(nth < 10 && (status == CAD_OK || status == CAD_ERESOURCE));
        cad_json_close(&j);
        cad_clear();
    }
    cad_tree_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(reals_are_written_as_python_does, nothing_is_left),
        cmocka_unit_test_teardown(every_real_reads_back, nothing_is_left),
        cmocka_unit_test_teardown(commas_lines_and_keys_are_set, nothing_is_left),
        cmocka_unit_test_teardown(strings_are_escaped, nothing_is_left),
        cmocka_unit_test_teardown(bytes_that_are_no_utf8_become_replacement_characters, nothing_is_left),
        cmocka_unit_test_teardown(the_deepest_tree_can_be_written_in_a_list, nothing_is_left),
        cmocka_unit_test_teardown(no_failed_allocation_leaks, nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
