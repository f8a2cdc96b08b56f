#include "../base/scratch.h"

#include <cadtrain/data.h>

static const cad_words_of said[CAD_FIELDS] = {{"why", 3}, {"think", 5}, {"so", 2}};

static void expect_text(const char *template, const char *text, size_t answer)
{
    cad_template *t;
    cad_str out = {0};
    size_t at = 99;

    assert_int_equal(cad_template_parse(&t, template, "t"), CAD_OK);
    assert_int_equal(cad_template_fill(t, said, &out, &at), CAD_OK);
    assert_string_equal(out.data, text);
    assert_int_equal(at, answer);
    cad_str_close(&out);
    cad_template_close(&t);
}

static void fields_are_filled_by_name_or_in_turn(void **state)
{
    (void)state;
    expect_text("Q: {question} A: {cot} {response}", "Q: why A: think so", 10);
    expect_text("Q: {} A: {} {}", "Q: why A: think so", 10);
    expect_text("{question}{response}", "whyso", 3);
    expect_text("{{x}} {question}|{response}}}", "{x} why|so}", 8);
    expect_text("f({x y}) {question} {response} {", "f({x y}) why so {", 13);
}

static void the_prompt_ends_where_the_answer_begins(void **state)
{
    cad_words_of asked[CAD_FIELDS] = {{"why", 3}};
    cad_template *t;
    cad_str out = {0}, mark = {0};
    size_t at;

    (void)state;
    assert_int_equal(cad_template_parse(&t, "Q: {question}\n<think>\n{cot}\n</think>\n{response}", "t"), CAD_OK);
    assert_int_equal(cad_template_fill(t, asked, &out, &at), CAD_OK);
    assert_string_equal(out.data, "Q: why\n<think>\n");
    assert_int_equal(cad_template_mark(t, &mark), CAD_OK);
    assert_string_equal(mark.data, "</think>");
    cad_str_close(&out);
    cad_str_close(&mark);
    cad_template_close(&t);
}

static void wrong_fields_are_one_sentence(void **state)
{
    static const char *const wrong[][2] = {
        {"{question} {answer}", "found {answer}"}, {"{response}", "expected the field {question}"}, {"{question}", "expected the field {response}"},
        {"{response} {question}", "expected {question} before {response}"}, {"{} {} {} {}", "a fourth time"}};

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cad_template *t = NULL;
        assert_int_equal(cad_template_parse(&t, wrong[i][0], "task.template"), CAD_EUSAGE);
        assert_non_null(strstr(cad_reason(), wrong[i][1]));
        assert_null(t);
        cad_clear();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_filled_by_name_or_in_turn),
        cmocka_unit_test(the_prompt_ends_where_the_answer_begins),
        cmocka_unit_test(wrong_fields_are_one_sentence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
