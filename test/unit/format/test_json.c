#include "trees.h"

#include <math.h>

static cad_status parse(cad_tree **t, const char *text) { return cad_json_parse(t, text, strlen(text), "f.json", CAD_EMODEL); }

static cad_tree *tree(const char *text)
{
    cad_tree *t = NULL;

    if (parse(&t, text)) fail_msg("%s", cad_reason());
    return t;
}

static void values_of_each_kind_are_read(void **state)
{
    static const struct { const char *text, *again; } cases[] = {
        {"null", "null"}, {" true\n", "true"}, {"false", "false"}, {"0", "0"}, {"-0", "0"}, {"-12", "-12"}, {"0.5", "0.5"}, {"1e2", "100.0"},
        {"1E-7", "1e-07"}, {"-0.0", "-0.0"}, {"NaN", "NaN"}, {"Infinity", "Infinity"}, {"-Infinity", "-Infinity"}, {"[]", "[]"}, {"{}", "{}"},
        {"[1,[2,[]],{\"a\":{}}]", "[1, [2, []], {\"a\": {}}]"}, {"{\"\":1,\"a\":\"\"}", "{\"\": 1, \"a\": \"\"}"},
        {"9223372036854775807", "9223372036854775807"}, {"-9223372036854775808", "-9223372036854775808"},
        {"1000000000000000019884624838656", "1000000000000000019884624838656"}, {"\"\\u0000\\u001f\"", "\"\\u0000\\u001f\""},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\""}, {"\"\\u00e9\\u20AC\\ud83d\\ude00\"", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"\"\x7f\xf4\x8f\xbf\xbf\"", "\"\x7f\xf4\x8f\xbf\xbf\""}, {"\t\r\n [ 1 , 2 ] ", "[1, 2]"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cad_tree *t = tree(cases[i].text);
        expect_tree(&t, cases[i].again);
    }
}

static void bad_texts_are_refused_with_their_place(void **state)
{
    static const struct { const char *text, *reason; } cases[] = {
        {"", "f.json:1:1: expected a value, found the end of the file"},
        {" \n ", "f.json:2:2: expected a value, found the end of the file"},
        {"[1,]", "f.json:1:4: expected a value, found ']'"},
        {"[1 2]", "f.json:1:4: expected ',' or ']', found a digit"},
        {"[1", "f.json:1:3: expected ',' or ']', found the end of the file"},
        {"{\"a\" 1}", "f.json:1:6: expected ':' after the key, found a digit"},
        {"{\"a\":1,}", "f.json:1:8: expected a key, found '}'"},
        {"{a:1}", "f.json:1:2: expected a key or '}', found a letter"},
        {"{1:1}", "f.json:1:2: expected a key or '}', found a digit"},
        {"{\"a\":1", "f.json:1:7: expected ',' or '}', found the end of the file"},
        {"{\"a\":1,\n \"b\":2,\n \"a\":3}", "f.json:3:2: expected every key once, found \"a\" again"},
        {"{\"a\":1,\"\\u0061\":3}", "f.json:1:8: expected every key once, found \"a\" again"},
        {"[{\"\x01\":1}]", "f.json:1:4: expected a closing quote or an escape, found the control character 0x01"},
        {"1 2", "f.json:1:3: expected the end of the file, found a digit"},
        {"{} x", "f.json:1:4: expected the end of the file, found a letter"},
        {"01", "f.json:1:2: expected no digit after a leading zero, found a digit"},
        {"-", "f.json:1:2: expected a digit, found the end of the file"},
        {"1.", "f.json:1:3: expected a digit, found the end of the file"},
        {".5", "f.json:1:1: expected a value, found '.'"},
        {"+1", "f.json:1:1: expected a value, found '+'"},
        {"1e", "f.json:1:3: expected a digit, found the end of the file"},
        {"1e+x", "f.json:1:4: expected a digit, found a letter"},
        {"0x1", "f.json:1:2: expected the end of the file, found a letter"},
        {"[1e999]", "f.json:1:2: expected a number that a double can hold, found a larger one"},
        {"tru", "f.json:1:1: expected a value, found a letter"},
        {"-Inf", "f.json:1:1: expected a value, found '-'"},
        {"'a'", "f.json:1:1: expected a value, found '''"},
        {"// a\n1", "f.json:1:1: expected a value, found '/'"},
        {"[\"ab", "f.json:1:2: expected a closing quote, found the end of the file"},
        {"\"a\nb\"", "f.json:1:3: expected a closing quote or an escape, found the end of the line"},
        {"\"\\x\"", "f.json:1:2: expected an escape of JSON"},
        {"\"\\u12g4\"", "f.json:1:2: expected an escape of JSON"},
        {"\"\\u12", "f.json:1:2: expected an escape of JSON"},
        {"\"\\", "f.json:1:2: expected an escape of JSON"},
        {"\"\\ud800\"", "f.json:1:2: expected a pair of surrogates, found one alone"},
        {"\"\\udc00\\ud800\"", "f.json:1:2: expected a pair of surrogates, found one alone"},
        {"\"\\ud800\\u0041\"", "f.json:1:2: expected a pair of surrogates, found one alone"},
        {"[1,\n\"a\xff\"]", "f.json:2:3: expected UTF-8, found the byte 0xff"},
        {"\"\xed\xa0\x80\"", "f.json:1:2: expected UTF-8, found the byte 0xed"},
        {"\xef\xbb\xbf{}", "f.json:1:1: expected a value, found a byte order mark"},
        {"\"\xc3\xa9\xc3\xa9\" x", "f.json:1:6: expected the end of the file, found a letter"},
        {"\"\xc3\xa9\"\n,", "f.json:2:1: expected the end of the file, found ','"},
        {"[\xc2\xa0]", "f.json:1:2: expected a value, found a character outside ASCII"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cad_tree *t = NULL;
        assert_int_equal(parse(&t, cases[i].text), CAD_EMODEL);
        assert_null(t);
        expect_reason(cases[i].reason);
    }
}

static void every_truncation_of_a_document_is_refused(void **state)
{
    static const char text[] = "{\"a\": [1, -2.5e3, \"x\\u00e9\\n\", null, true], \"b\": {\"c\": \"\\ud83d\\ude00\"}}";
    cad_tree *t = NULL;

    (void)state;
    for (size_t n = 0; n < sizeof text - 1; n++) {
        assert_int_equal(cad_json_parse(&t, text, n, "f.json", CAD_EDATA), CAD_EDATA);
        expect_reason("f.json:1:");
    }
    assert_int_equal(cad_json_parse(&t, text, sizeof text - 1, "f.json", CAD_EDATA), CAD_OK);
    cad_tree_close(&t);
}

static void values_and_keys_know_their_places(void **state)
{
    cad_tree *t = tree("{\n  \"\xc3\xa9\": 1, \"b\":\n [true]}");
    const cad_node *e = t->root->child, *b = cad_get(t->root, "b");

    (void)state;
    assert_int_equal(e->key_line * 100 + e->key_column, 203);
    assert_int_equal(e->line * 100 + e->column, 208);
    assert_int_equal(b->key_line * 100 + b->key_column, 211);
    assert_int_equal(b->line * 100 + b->column, 302);
    assert_int_equal(b->child->line * 100 + b->child->column, 303);
    assert_string_equal(t->path, "f.json");
    cad_tree_close(&t);
    cad_tree_close(&t);
}

static void a_key_may_hold_a_nul(void **state)
{
    cad_tree *t = tree("{\"a\\u0000b\":1,\"a\":2,\"a\\u0000c\":3}");

    (void)state;
    assert_int_equal(cad_get(t->root, "a")->integer, 2);
    assert_int_equal(t->root->child->key_size, 3);
    expect_tree(&t, "{\"a\\u0000b\": 1, \"a\": 2, \"a\\u0000c\": 3}");
}

static void nested(char *text, int depth)
{
    memset(text, '[', (size_t)depth);
    memset(text + depth, ']', (size_t)depth);
    text[2 * depth] = 0;
}

static void depth_ends_at_64(void **state)
{
    static char text[200001];
    cad_tree *t = NULL;

    (void)state;
    nested(text, 64);
    t = tree(text);
    cad_tree_close(&t);
    nested(text, 65);
    assert_int_equal(parse(&t, text), CAD_EMODEL);
    expect_reason("f.json:1:65: expected at most 64 levels, found one more");
    nested(text, 100000);
    assert_int_equal(parse(&t, text), CAD_EMODEL);
    expect_reason("f.json:1:65");
}

/* The last of many keys is compared with all before it: a check that is not linear shows as minutes. */
static void a_duplicate_among_150000_keys_is_found(void **state)
{
    cad_str s = {0};
    cad_tree *t = NULL;

    (void)state;
    assert_int_equal(cad_str_add(&s, "{", 1), CAD_OK);
    for (int i = 0; i < 150000; i++) assert_int_equal(cad_str_addf(&s, "\"key%d\":%d,", i, i), CAD_OK);
    size_t kept = s.size;
    assert_int_equal(cad_str_addf(&s, "\"last\":1}"), CAD_OK);
    t = tree(s.data);
    assert_int_equal(t->root->children, 150001);
    assert_int_equal(cad_get(t->root, "key149999")->integer, 149999);
    cad_tree_close(&t);
    s.size = kept;
    assert_int_equal(cad_str_addf(&s, "\"key77\":1}"), CAD_OK);
    assert_int_equal(parse(&t, s.data), CAD_EMODEL);
    expect_reason("expected every key once, found \"key77\" again");
    cad_str_close(&s);
}

static void typed_look_ups_say_when_the_type_is_another(void **state)
{
    cad_tree *t = tree("{\"i\":7,\"r\":0.5,\"b\":true,\"s\":\"x\",\"n\":null}");
    int64_t i;
    double r;
    bool b;
    const char *s;

    (void)state;
    assert_true(cad_get_int(t->root, "i", &i, 1) && i == 7);
    assert_true(cad_get_int(t->root, "n", &i, 1) && i == 1);
    assert_true(cad_get_int(t->root, "absent", &i, 2) && i == 2);
    assert_false(cad_get_int(t->root, "r", &i, 1));
    assert_true(cad_get_real(t->root, "i", &r, 1) && r == 7);
    assert_true(cad_get_real(t->root, "r", &r, 1) && r == 0.5);
    assert_false(cad_get_real(t->root, "s", &r, 1));
    assert_true(cad_get_bool(t->root, "b", &b, false) && b);
    assert_true(cad_get_bool(t->root, "n", &b, true) && b);
    assert_false(cad_get_bool(t->root, "i", &b, false));
    assert_true(cad_get_string(t->root, "s", &s, "y") && !strcmp(s, "x"));
    assert_true(cad_get_string(NULL, "s", &s, NULL) && !s);
    assert_false(cad_get_string(t->root, "b", &s, "y"));
    assert_null(cad_get(t->root->child, "i"));
    assert_string_equal(cad_kind_name(CAD_TABLE), "a table");
    cad_tree_close(&t);
}

static void a_name_in_a_message_is_short_and_harmless(void **state)
{
    char text[400], key[101];
    cad_tree *t = NULL;

    (void)state;
    memset(key, 'k', 100);
    key[100] = 0;
    snprintf(text, sizeof text, "{\"%s\":1,\"%s\":2}", key, key);
    assert_int_equal(parse(&t, text), CAD_EMODEL);
    key[60] = 0;
    snprintf(text, sizeof text, "found \"%s...\" again", key);
    expect_reason(text);
    assert_int_equal(parse(&t, "{\"\\u001b[31m\":1,\"\\u001b[31m\":2}"), CAD_EMODEL);
    expect_reason("found \"?[31m\" again");
}

static void no_failed_allocation_leaks(void **state)
{
    static const char text[] = "{\"a\":1,\"b\":2,\"c\":3,\"d\":[4],\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":{\"j\":\"\\u00e9\"},\"k\":10}";
    cad_status status = CAD_ERESOURCE;
    cad_tree *t = NULL;

    (void)state;
    for (int nth = 1; status; nth++) {
        cad_mem_fail_at(nth);
        status = parse(&t, text);
        cad_mem_fail_at(0);
        assert_true(status == CAD_OK || status == CAD_ERESOURCE);
        cad_tree_close(&t);
        assert_int_equal(cad_mem_blocks(), 0);
        cad_clear();
        assert_true(nth < 50);
    }
}

static void a_file_is_read_up_to_its_limit(void **state)
{
    cad_tree *t = NULL;

    (void)state;
    put_file(in_scratch("a.json"), "{\"a\":1}", 7);
    assert_int_equal(cad_json_read(&t, in_scratch("a.json"), 7, CAD_EMODEL), CAD_OK);
    expect_tree(&t, "{\"a\": 1}");
    assert_int_equal(cad_json_read(&t, in_scratch("a.json"), 6, CAD_EMODEL), CAD_EMODEL);
    expect_reason("expected at most 6 bytes");
    assert_int_equal(cad_json_read(&t, in_scratch("none.json"), 6, CAD_ECHECKPOINT), CAD_ECHECKPOINT);
    expect_reason("cannot open");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(values_of_each_kind_are_read, nothing_is_left),
        cmocka_unit_test_teardown(bad_texts_are_refused_with_their_place, nothing_is_left),
        cmocka_unit_test_teardown(every_truncation_of_a_document_is_refused, nothing_is_left),
        cmocka_unit_test_teardown(values_and_keys_know_their_places, nothing_is_left),
        cmocka_unit_test_teardown(a_key_may_hold_a_nul, nothing_is_left),
        cmocka_unit_test_teardown(depth_ends_at_64, nothing_is_left),
        cmocka_unit_test_teardown(a_duplicate_among_150000_keys_is_found, nothing_is_left),
        cmocka_unit_test_teardown(typed_look_ups_say_when_the_type_is_another, nothing_is_left),
        cmocka_unit_test_teardown(a_name_in_a_message_is_short_and_harmless, nothing_is_left),
        cmocka_unit_test_teardown(no_failed_allocation_leaks, nothing_is_left),
        cmocka_unit_test_teardown(a_file_is_read_up_to_its_limit, nothing_is_left),
    };
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
