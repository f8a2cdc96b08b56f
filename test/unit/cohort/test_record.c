#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cadtrain/cohort.h>

static cad_record_fields *fields;

static int open_fields(void **state)
{
    (void)state;
    return cad_record_fields_open(&fields, NULL);
}

static int close_fields(void **state)
{
    (void)state;
    cad_record_fields_close(&fields);
    return 0;
}

static void is_span(const char *text, const cad_span *s, const char *field, const char *words)
{
    assert_string_equal(cad_record_field_name(fields, s->field), field);
    assert_int_equal(s->to - s->from, strlen(words));
    assert_memory_equal(text + s->from, words, strlen(words));
}

static void sentences_are_found_by_their_wording(void **state)
{
    static const char text[] = "Will it be? Age: 58. Sex: male. Townsend deprivation index: -1.3. Takes blood pressure medication. Ethnic background: Black Caribbean. Nothing else.";
    cad_span s[8];

    (void)state;
    assert_int_equal(cad_record_split(fields, text, strlen(text), s, 8), 5);
    is_span(text, &s[0], "age", "Age: 58.");
    is_span(text, &s[1], "sex", "Sex: male.");
    is_span(text, &s[2], "townsend", "Townsend deprivation index: -1.3.");
    is_span(text, &s[3], "bp_drug", "Takes blood pressure medication.");
    is_span(text, &s[4], "ethnicity", "Ethnic background: Black Caribbean.");
}

static void what_is_worded_otherwise_is_no_field(void **state)
{
    static const char text[] = "Age: old. Sex: male, Waist: 90 cm.Teenage: 58.";
    cad_span s[8];

    (void)state;
    assert_int_equal(cad_record_split(fields, text, strlen(text), s, 8), 0);
    assert_int_equal(cad_record_split(fields, "", 0, s, 8), 0);
    assert_int_equal(cad_record_split(fields, "Age: 5", 6, s, 8), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sentences_are_found_by_their_wording), cmocka_unit_test(what_is_worded_otherwise_is_no_field)};

    return cmocka_run_group_tests(tests, open_fields, close_fields);
}
