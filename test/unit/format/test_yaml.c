#include "trees.h"

#include <math.h>

static cad_status parse(cad_tree **t, const char *text) { return cad_yaml_parse(t, text, strlen(text), "f.yaml"); }

static cad_tree *tree(const char *text)
{
    cad_tree *t = NULL;

    if (parse(&t, text)) fail_msg("%s", cad_reason());
    return t;
}

static void scalars_are_those_of_the_core_schema(void **state)
{
    static const struct { const char *text; cad_kind kind; double value; } cases[] = {
        {"null", CAD_NULL, 0}, {"Null", CAD_NULL, 0}, {"NULL", CAD_NULL, 0}, {"~", CAD_NULL, 0}, {"", CAD_NULL, 0}, {"true", CAD_BOOL, 1},
        {"True", CAD_BOOL, 1}, {"TRUE", CAD_BOOL, 1}, {"false", CAD_BOOL, 0}, {"False", CAD_BOOL, 0}, {"FALSE", CAD_BOOL, 0}, {"0", CAD_INT, 0},
        {"-17", CAD_INT, -17}, {"+3", CAD_INT, 3}, {"007", CAD_INT, 7}, {"0x1F", CAD_INT, 31}, {"0o17", CAD_INT, 15}, {"3e-5", CAD_REAL, 3e-5},
        {"5E+8", CAD_REAL, 5e8}, {"1.", CAD_REAL, 1}, {".5", CAD_REAL, .5}, {"-1.5e3", CAD_REAL, -1500}, {".inf", CAD_REAL, INFINITY},
        {"-.Inf", CAD_REAL, -INFINITY}, {"+.INF", CAD_REAL, INFINITY}, {"9223372036854775807", CAD_INT, 9223372036854775807.0},
        {"9223372036854775808", CAD_REAL, 9223372036854775808.0}, {"0xFFFFFFFFFFFFFFFF", CAD_REAL, 18446744073709551615.0},
        {"-9223372036854775808", CAD_INT, -9223372036854775808.0}, {"yes", CAD_STRING, 0}, {"no", CAD_STRING, 0}, {"on", CAD_STRING, 0}, {".", CAD_STRING, 0},
        {"e5", CAD_STRING, 0}, {"1e", CAD_STRING, 0}, {"1e+", CAD_STRING, 0}, {"1_000", CAD_STRING, 0}, {"0x", CAD_STRING, 0}, {"0o8", CAD_STRING, 0},
        {"-0x1", CAD_STRING, 0}, {"+", CAD_STRING, 0}, {"1.5.2", CAD_STRING, 0}, {"12:30", CAD_STRING, 0}, {"tRUE", CAD_STRING, 0},
        {"inf", CAD_STRING, 0}, {"NaN", CAD_STRING, 0}, {"-.nan", CAD_STRING, 0},
    };
    char text[64];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(text, sizeof text, "a: %s\n", cases[i].text);
        cad_tree *t = tree(text);
        const cad_node *n = cad_get(t->root, "a");
        if (n->kind != cases[i].kind) fail_msg("%s is read as %s", cases[i].text, cad_kind_name(n->kind));
        assert_true(cases[i].kind == CAD_BOOL ? n->boolean == (cases[i].value != 0) : n->real == cases[i].value);
        if (n->kind == CAD_INT && llabs(n->integer) < 1000) assert_true((double)n->integer == cases[i].value);
        assert_string_equal(n->text, cases[i].text);
        cad_tree_close(&t);
    }
}

static void nan_is_written_with_a_dot(void **state)
{
    cad_tree *t = tree("[.nan, .NaN, .NAN]");

    (void)state;
    for (const cad_node *n = t->root->child; n; n = n->next) assert_true(n->kind == CAD_REAL && isnan(n->real));
    cad_tree_close(&t);
}

static void what_is_quoted_or_a_block_is_a_string(void **state)
{
    cad_tree *t = tree("a: '1'\nb: \"true\"\nc: |\n  12\nd: >-\n  x\n  y\ne: ''\nf: \"\\u00e9\\0\"\n");

    (void)state;
    expect_tree(&t, "{\"a\": \"1\", \"b\": \"true\", \"c\": \"12\\n\", \"d\": \"x y\", \"e\": \"\", \"f\": \"\xc3\xa9\\u0000\"}");
}

static void documents_are_read(void **state)
{
    static const struct { const char *text, *json; } cases[] = {
        {"", "{}"}, {"\n# only a comment\n", "{}"}, {"---\n", "{}"}, {"---\n...\n", "{}"}, {"{}", "{}"}, {"[]", "[]"}, {"''", "\"\""}, {"null", "null"},
        {"a:\n  b:\n    - 1\n    - c: 2\n      d: [x, {e: f}]\n", "{\"a\": {\"b\": [1, {\"c\": 2, \"d\": [\"x\", {\"e\": \"f\"}]}]}}"},
        {"1: x\ntrue: y\n", "{\"1\": \"x\", \"true\": \"y\"}"}, {"{\"a\": 1.0e-5, \"b\": \"auto\"}", "{\"a\": 1e-05, \"b\": \"auto\"}"},
        {"%YAML 1.2\n---\na: 1\n", "{\"a\": 1}"}, {"\xef\xbb\xbf""a: 1\r\nb: 2\r\n", "{\"a\": 1, \"b\": 2}"}, {"a: x # y\n", "{\"a\": \"x\"}"},
        {"'<<': 1\n", "{\"<<\": 1}"}, {"{a, b: }", "{\"a\": null, \"b\": null}"}, {"'': 1", "{\"\": 1}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cad_tree *t = tree(cases[i].text);
        expect_tree(&t, cases[i].json);
    }
}

static void bad_texts_are_refused_with_their_place(void **state)
{
    static const struct { const char *text, *reason; } cases[] = {
        {"a: &x 1", "f.yaml:1:4: expected a plain value, found an anchor"},
        {"a:\n  - &x [1]", "f.yaml:2:5: expected a plain value, found an anchor"},
        {"a: &x {b: 1}", "f.yaml:1:4: expected a plain value, found an anchor"},
        {"a: 1\nb: *a", "f.yaml:2:4: expected a plain value, found an alias"},
        {"*a : 1", "f.yaml:1:1: expected a plain value, found an alias"},
        {"&a b: 1", "f.yaml:1:1: expected a plain value, found an anchor"},
        {"a: !!str 1", "f.yaml:1:4: expected a plain value, found a tag"},
        {"a: !x [1]", "f.yaml:1:4: expected a plain value, found a tag"},
        {"!x {a: 1}", "f.yaml:1:1: expected a plain value, found a tag"},
        {"a: ! b", "f.yaml:1:4: expected a plain value, found a tag"},
        {"%TAG ! x\n---\na: 1", "f.yaml:1:1: expected a document, found a %TAG directive"},
        {"a:\n  <<: {b: 1}", "f.yaml:2:3: expected a key, found a merge key"},
        {"a: 1\nb: 2\n\"a\": 3", "f.yaml:3:1: expected every key once, found \"a\" again"},
        {"x:\n  a: 1\n  b: 2\n  a: 3", "f.yaml:4:3: expected every key once, found \"a\" again"},
        {"{a: 1, a: 2}", "f.yaml:1:8: expected every key once, found \"a\" again"},
        {"a: 1\n---\nb: 2", "f.yaml:2:1: expected one document, found a second one"},
        {"? [a]\n: 1", "f.yaml:1:3: expected a key that is a word, found a list or a table"},
        {"{? : 1}", "expected a key, found nothing before ':'"},
        {"a: 1e999", "f.yaml:1:4: expected a number that a double can hold, found a larger one"},
        {"a: [1,\n", "f.yaml:2:1: expected YAML: "},
        {"a: b: c", "f.yaml:1:5: expected YAML: mapping values are not allowed in this context"},
        {"\ta: 1", "f.yaml:1:1: expected YAML: found character that cannot start any token"},
        {"a: 'x", "expected YAML: found unexpected end of stream while scanning a quoted scalar"},
        {"a: 1\n b: 2", "f.yaml:2:3: expected YAML: mapping values are not allowed in this context"},
        {"- a\nb: 1", "f.yaml:2:1: expected YAML: "},
        {"\xc3\xa9: @x", "f.yaml:1:4: expected YAML: found character that cannot start any token"},
        {"a: b\n\xff", "f.yaml:2:1: expected UTF-8, found the byte 0xff"},
        {"a: b\nc: \x01", "f.yaml:2:4: expected YAML: control characters are not allowed"},
        {"a: 1\nb: 2\nc", "f.yaml:"},
        {"%YAML 3.0\n---\na", "f.yaml:1:1: expected YAML: found incompatible YAML document"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cad_tree *t = NULL;
        if (parse(&t, cases[i].text) != CAD_EUSAGE) fail_msg("accepted: %s", cases[i].text);
        assert_null(t);
        expect_reason(cases[i].reason);
    }
}

static void values_and_keys_know_their_places(void **state)
{
    cad_tree *t = tree("# x\n\xc3\xa9: 1\nb:\n  - c: true\n");
    const cad_node *b = cad_get(t->root, "b"), *c = cad_get(b->child, "c");

    (void)state;
    assert_int_equal(t->root->child->line * 100 + t->root->child->column, 204);
    assert_int_equal(b->key_line * 100 + b->key_column, 301);
    assert_int_equal(b->line * 100 + b->column, 403);
    assert_int_equal(c->key_line * 100 + c->key_column, 405);
    assert_int_equal(c->line * 100 + c->column, 408);
    cad_tree_close(&t);
}

/* Each of these takes seconds to hours where depth or aliases are not stopped at once. */
static void bombs_are_refused_quickly(void **state)
{
    static const char *const pieces[] = {"[", "- ", "{a: ", "? ", "[\n", "a: &a [*a]\n", "{"};
    static char text[1000001];
    double begun = cad_now();

    (void)state;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        size_t each = strlen(pieces[i]), n = 0;
        for (; n + each <= 900000; n += each) memcpy(text + n, pieces[i], each);
        text[n] = 0;
        cad_tree *t = NULL;
        assert_int_equal(parse(&t, text), CAD_EUSAGE);
        expect_reason("f.yaml:");
    }
    assert_true(cad_now() - begun < 5);
}

static void depth_ends_at_16_and_size_at_a_million(void **state)
{
    static char text[1000002];
    cad_tree *t = tree("[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]");

    (void)state;
    cad_tree_close(&t);
    assert_int_equal(parse(&t, "[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]"), CAD_EUSAGE);
    expect_reason("f.yaml:1:17: expected at most 16 levels, found one more");
    memset(text, ' ', 1000001);
    text[0] = '#';
    assert_int_equal(parse(&t, text), CAD_EUSAGE);
    expect_reason("expected at most 1000000 bytes of YAML, found 1000001");
    text[1000000] = 0;
    t = tree(text);
    expect_tree(&t, "{}");
}

static void every_truncation_ends_well(void **state)
{
    static const char text[] = "a: {b: [1, 'x', \"y\\n\"]}\nc:\n  - d: |\n      text\n  - e: 3e-5\n";
    cad_tree *t = NULL;

    (void)state;
    for (size_t n = 0; n < sizeof text; n++) {
        cad_status status = cad_yaml_parse(&t, text, n, "f.yaml");
        assert_true(status == CAD_OK || status == CAD_EUSAGE);
        if (status) expect_reason("f.yaml:");
        cad_tree_close(&t);
    }
}

static void no_failed_allocation_leaks(void **state)
{
    cad_status status = CAD_ERESOURCE;
    cad_tree *t = NULL;

    (void)state;
    for (int nth = 1; status; nth++) {
        cad_mem_fail_at(nth);
        status = parse(&t, "{a: 1, b: 2, c: 3, d: [4], e: 5, f: 6, g: 7, h: 8, i: {j: k}, l: 10}");
        cad_mem_fail_at(0);
        assert_true(status == CAD_OK || status == CAD_ERESOURCE);
        cad_tree_close(&t);
        assert_int_equal(cad_mem_blocks(), 0);
        cad_clear();
        assert_true(nth < 50);
    }
}

static void a_file_is_read_under_its_name(void **state)
{
    cad_tree *t = NULL;

    (void)state;
    put_file(in_scratch("a.yaml"), "a: 1\n", 5);
    assert_int_equal(cad_yaml_read(&t, in_scratch("a.yaml")), CAD_OK);
    expect_tree(&t, "{\"a\": 1}");
    put_file(in_scratch("a.yaml"), "a: *b\n", 6);
    assert_int_equal(cad_yaml_read(&t, in_scratch("a.yaml")), CAD_EUSAGE);
    expect_reason("/a.yaml:1:4: ");
    assert_int_equal(cad_yaml_read(&t, in_scratch("none.yaml")), CAD_EUSAGE);
    expect_reason("cannot open");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(scalars_are_those_of_the_core_schema, nothing_is_left),
        cmocka_unit_test_teardown(nan_is_written_with_a_dot, nothing_is_left),
        cmocka_unit_test_teardown(what_is_quoted_or_a_block_is_a_string, nothing_is_left),
        cmocka_unit_test_teardown(documents_are_read, nothing_is_left),
        cmocka_unit_test_teardown(bad_texts_are_refused_with_their_place, nothing_is_left),
        cmocka_unit_test_teardown(values_and_keys_know_their_places, nothing_is_left),
        cmocka_unit_test_teardown(bombs_are_refused_quickly, nothing_is_left),
        cmocka_unit_test_teardown(depth_ends_at_16_and_size_at_a_million, nothing_is_left),
        cmocka_unit_test_teardown(every_truncation_ends_well, nothing_is_left),
        cmocka_unit_test_teardown(no_failed_allocation_leaks, nothing_is_left),
        cmocka_unit_test_teardown(a_file_is_read_under_its_name, nothing_is_left),
    };
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
