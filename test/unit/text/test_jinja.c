#include "../base/scratch.h"

#include <cadtrain/format.h>
#include <cadtrain/text.h>

/* Templates of our own, one side of Jinja each, with what jinja2 3.1 as Transformers sets it up makes of them. */
static const char vectors[] = "test/unit/text/data/chat.jsonl";

static cad_status render(const char *template, const char *variables, cad_str *out)
{
    cad_tree *tree;
    cad_status status;

    assert_int_equal(cad_json_parse(&tree, variables, strlen(variables), "variables", CAD_EDATA), CAD_OK);
    status = cad_chat_render(template, strlen(template), "template", tree->root, out);
    cad_tree_close(&tree);
    return status;
}

static void templates_say_what_jinja_makes_of_them(void **state)
{
    cad_rows *rows;

    (void)state;
    assert_int_equal(cad_rows_read(&rows, vectors), CAD_OK);
    assert_true(cad_rows_count(rows) >= 30);
    for (int64_t i = 0; i < cad_rows_count(rows); i++) {
        cad_str text = {0};
        cad_status status = render(cad_rows_cell(rows, i, cad_rows_find(rows, "template")).text, cad_rows_cell(rows, i, cad_rows_find(rows, "variables")).text, &text);
        if (status) print_message("%s\n", cad_reason());
        assert_int_equal(status, CAD_OK);
        assert_string_equal(text.data ? text.data : "", cad_rows_cell(rows, i, cad_rows_find(rows, "text")).text);
        cad_str_close(&text);
    }
    cad_rows_close(&rows);
}

static void refuse(const char *template, const char *reason)
{
    cad_str text = {0};

    assert_true(render(template, "{\"messages\": [{\"role\": \"user\", \"content\": \"private\"}]}", &text) != CAD_OK);
    if (!strstr(cad_reason(), reason)) print_message("%s\n", cad_reason());
    assert_non_null(strstr(cad_reason(), reason));
    assert_null(strstr(cad_reason(), "private"));
    cad_clear();
    cad_str_close(&text);
}

static void what_is_wrong_is_one_sentence_with_its_line(void **state)
{
    char deep[4096] = "{{ ";

    (void)state;
    refuse("a\n{% if x %}", "template:2: chat template: expected elif");
    refuse("{{ 'a }}", "a text in quotes has no end");
    refuse("{{ 1", "a tag has no end");
    refuse("{# 1", "a comment has no end");
    refuse("{{ 1 ; }}", "an unexpected character");
    refuse("{{ (1 }}", "a tag has no end");
    refuse("{% include 'x' %}", "expected if, for, set");
    refuse("{{ 1 | wordwrap }}", "found wordwrap");
    refuse("{{ 1 is prime }}", "found prime");
    refuse("{{ nothing.at.all }}", "expected a value that is defined");
    refuse("{{ messages[0].content + 1 }}", "expected two texts");
    refuse("{{ 1 / 0 }}", "a division by zero");
    refuse("{{ unknown('x') }}", "expected a function");
    refuse("{{ raise_exception('no ' + messages[0].content) }}", "refuses this conversation: no");
    refuse("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "does not come to an end");
    refuse("{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}", "does not come to an end");
    for (int i = 0; i < 900; i++) strcat(deep, "(");
    refuse(deep, "");
}

static void a_nul_in_what_is_said_is_a_letter_like_others(void **state)
{
    cad_str text = {0};

    (void)state;
    assert_int_equal(render("{{ messages.split() | length }}{{ [1, 2] | select | list | length }}", "{\"messages\": \"a \\u0000\\u0000b c\"}", &text), CAD_OK);
    assert_string_equal(text.data, "32");
    cad_str_close(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(templates_say_what_jinja_makes_of_them), cmocka_unit_test(what_is_wrong_is_one_sentence_with_its_line), cmocka_unit_test(a_nul_in_what_is_said_is_a_letter_like_others)};

    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
