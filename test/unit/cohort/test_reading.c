#include "../../../src/cohort/cohort_priv.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static char folder[64], path[128];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/cadtrain-cohort-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/table", folder);
    return 0;
}

static int drop_folder(void **state)
{
    (void)state;
    return cad_remove_tree(folder) || cad_mem_blocks() ? -1 : 0;
}

/* ---- dates ---- */

static int32_t day(const char *text, int *form, bool fine)
{
    int32_t out;
    const char *expected = cadp_day_read(text, strlen(text), form, &out);

    if ((expected == NULL) != fine) fail_msg("%s: %s", text, expected ? expected : "was accepted");
    return out;
}

static void both_forms_of_a_date_are_the_same_day(void **state)
{
    int iso = 0, strokes = 0, y, m, d;

    (void)state;
    assert_int_equal(day("1970-01-01", &iso, true), 0);
    assert_int_equal(day("2008-02-29", &iso, true), day("29/02/2008", &strokes, true));
    assert_int_equal(day("2008-02-29T00:00:00Z", &iso, true), day("2008-02-29", &iso, true));
    for (int32_t k = -15000; k < 25000; k += 7) {
        cadp_day_parts(k, &y, &m, &d);
        assert_int_equal(cadp_day_of(y, m, d), k);
    }
}

static void a_column_keeps_its_form_of_dates(void **state)
{
    int form = 0;

    (void)state;
    assert_int_equal(day("", &form, true), CADP_NO_DAY);
    assert_int_equal(day("NA", &form, true), CADP_NO_DAY);
    day("03/04/2009", &form, true);
    day("2009-04-03", &form, false);
    day("13/14/2009", &form, false); /* month before day */
    day("31/04/2009", &form, false);
    day("03/04/09", &form, false);
    day("03/04/2009x", &form, false);
}

static void placeholders_say_that_the_day_is_not_known(void **state)
{
    static const char *const odd[] = {"1900-01-01", "1901-01-01", "1902-02-02", "1903-03-03", "1909-09-09", "2037-07-07", "1910-01-01", "1925-06-01", "2199-01-01"};
    int form = 0;

    (void)state;
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) assert_int_equal(day(odd[i], &form, true), CADP_ODD_DAY);
}

/* ---- names of columns ---- */

static void names(const cadp_dictionary *d, const char *name, int field, int instance, int array)
{
    cadp_place p = cadp_column_place(d, name);

    if (p.field != field || (field > 0 && (p.instance != instance || p.array != array))) fail_msg("%s: field %d, instance %d, array %d", name, p.field, p.instance, p.array);
}

static void every_dialect_names_the_same_places(void **state)
{
    static const char *const ids[] = {"eid", "EID", "f.eid", "n_eid", "participant.eid", "Participant ID"};
    static const char *const none[] = {"", "p", "px31", "31-0", "f.31.0", "n_31_0", "notes", "Standing", "p31_i", "31-0.0.0"};
    cadp_dictionary d;

    (void)state;
    assert_int_equal(cadp_dictionary_open(&d, NULL), CAD_OK);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) names(&d, ids[i], CADP_EID, 0, 0);
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) names(&d, none[i], CADP_NO_FIELD, 0, 0);
    names(&d, "4080-1.1", 4080, 1, 1);
    names(&d, "f.4080.1.1", 4080, 1, 1);
    names(&d, "n_4080_1_1", 4080, 1, 1);
    names(&d, "ts_53_0_0", 53, 0, 0);
    names(&d, "s_40001_0_0", 40001, 0, 0);
    names(&d, "sex_f31_0_0", 31, 0, 0);
    names(&d, "p31", 31, 0, 0);
    names(&d, "p53_i2", 53, 2, 0);
    names(&d, "p41280_a17", 41280, 0, 17);
    names(&d, "participant.p4080_i1_a1", 4080, 1, 1);
    names(&d, "Sex", 31, 0, 0);
    names(&d, "Systolic blood pressure, automated reading | Instance 1 | Array 1", 4080, 1, 1);
    names(&d, "Date of first in-patient diagnosis - ICD10 | Array 9", 41280, 0, 9);
    cadp_dictionary_close(&d);
}

/* ---- cells ---- */

static cadp_text cell(const char *text) { return (cadp_text){text, (uint32_t)strlen(text), false}; }

static void value(const cadp_dictionary *d, int field, const char *text, cadp_sort sort, double expected)
{
    double v = -999;
    cadp_text t = cell(text);
    cadp_sort found = cadp_dictionary_value(d, cadp_dictionary_field(d, field), &t, &v);

    if (found != sort || (sort >= CADP_VALUE && sort <= CADP_LABEL && v != expected)) fail_msg("field %d \"%s\": sort %d, value %g", field, text, (int)found, v);
}

static void codes_labels_and_special_codes_are_told_apart_by_the_coding(void **state)
{
    cadp_dictionary d;

    (void)state;
    assert_int_equal(cadp_dictionary_open(&d, NULL), CAD_OK);
    value(&d, 31, "1", CADP_VALUE, 1);
    value(&d, 31, "Male", CADP_LABEL, 1);
    value(&d, 31, "male", CADP_LABEL, 1);
    value(&d, 31, "man", CADP_BAD, 0);
    value(&d, 20116, "-3", CADP_SPECIAL, 0);
    value(&d, 20116, "Prefer not to answer", CADP_SPECIAL, 0);
    value(&d, 20116, "2.0", CADP_VALUE, 2);
    value(&d, 1070, "-10", CADP_VALUE, 0.5);
    value(&d, 22189, "-3", CADP_VALUE, -3); /* Townsend: a true value */
    value(&d, 22189, "-3.55", CADP_VALUE, -3.55);
    value(&d, 6138, "-7", CADP_VALUE, -7); /* none of the above is an answer */
    value(&d, 20107, "-13", CADP_SPECIAL, 0);
    value(&d, 20107, "-17", CADP_VALUE, -17);
    value(&d, 20002, "migraine and more", CADP_OTHER, 0);
    value(&d, 30690, "", CADP_MISSING, 0);
    value(&d, 30690, "NA", CADP_MISSING, 0);
    value(&d, 30690, "5.4.3", CADP_BAD, 0);
    value(&d, 30690, "inf", CADP_BAD, 0);
    value(&d, 99999, "140", CADP_VALUE, 140);
    cadp_dictionary_close(&d);
}

static void decimals_are_read_as_strtod_reads_them(void **state)
{
    cadp_dictionary d;
    char text[40];

    (void)state;
    assert_int_equal(cadp_dictionary_open(&d, NULL), CAD_OK);
    for (uint64_t i = 0; i < 20000; i++) {
        double v = (cad_rng_uniform(1, CAD_RNG_TEST, 0, i) - 0.3) * pow(10, (double)(i % 9) - 2);
        snprintf(text, sizeof text, "%.*f", (int)(i % 13), v);
        value(&d, 22189, text, CADP_VALUE, strtod(text, NULL));
    }
    value(&d, 22189, "1e-3", CADP_VALUE, 1e-3);
    value(&d, 22189, "+4", CADP_VALUE, 4);
    value(&d, 22189, ".5", CADP_VALUE, .5);
    value(&d, 22189, "5.", CADP_VALUE, 5);
    value(&d, 22189, "0.1234567890123456789", CADP_VALUE, 0.1234567890123456789);
    value(&d, 22189, "-", CADP_BAD, 0);
    value(&d, 22189, "-.", CADP_BAD, 0);
    value(&d, 22189, "1-2", CADP_BAD, 0);
    cadp_dictionary_close(&d);
}

static void a_whole_number_may_have_lost_its_type(void **state)
{
    static const struct { const char *text; int64_t value; bool fine; } cases[] = {
        {"140", 140, true}, {"1075.0", 1075, true}, {"-3.0", -3, true}, {"1.5", 0, false}, {"", 0, false}, {"-", 0, false}, {"1e3", 0, false}, {"99999999999999999999", 0, false}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cadp_text t = cell(cases[i].text);
        int64_t v = 0;
        assert_int_equal(cadp_whole_number(&t, &v), cases[i].fine);
        if (cases[i].fine) assert_int_equal(v, cases[i].value);
    }
}

static void lists_in_a_cell_have_the_same_items_in_every_form(void **state)
{
    static const char *const forms[] = {"[\"I10\",\"I251\",\"K409\"]", "['I10', 'I251', 'K409']", "I10|I251|K409", "[I10,I251,K409]"};
    static const char *const items[] = {"I10", "I251", "K409"};

    (void)state;
    for (size_t f = 0; f < 4; f++) {
        cadp_text t = cell(forms[f]), item;
        size_t at = 0;
        int n = 0;
        while (cadp_list_next(&t, &at, &item)) {
            assert_true(n < 3 && item.size == strlen(items[n]) && !memcmp(item.at, items[n], item.size));
            n++;
        }
        assert_int_equal(n, 3);
    }
}

/* ---- codes ---- */

static bool matches(const cadp_prefixes *p, const char *code)
{
    char text[12];
    cadp_text t = cell(code);
    size_t n = cadp_code_text(&t, text);

    return cadp_prefixes_match(p, text, n);
}

static void code_systems_stay_apart_and_prefixes_end_where_they_say(void **state)
{
    cadp_phenotype p;
    const cadp_prefixes *icd, *opcs;

    (void)state;
    assert_int_equal(cadp_phenotype_open(&p, NULL), CAD_OK);
    icd = &p.hospital[CADP_ICD10];
    opcs = &p.hospital[CADP_OPCS4];
    assert_true(matches(icd, "I21") && matches(icd, "I210") && matches(icd, "I2101") && matches(icd, "I21.4 Acute subendocardial myocardial infarction"));
    assert_true(matches(icd, "I252") && !matches(icd, "I251") && !matches(icd, "I25") && !matches(icd, "I20"));
    assert_true(matches(opcs, "K451") && matches(opcs, "K501") && !matches(opcs, "K502") && !matches(opcs, "K50"));
    assert_false(matches(icd, "K451") || matches(icd, "K501") || matches(opcs, "I214"));
    assert_true(matches(&p.hospital[CADP_ICD9], "4109") && !matches(&p.hospital[CADP_ICD10], "4109"));
    cadp_phenotype_close(&p);
}

/* ---- tables ---- */

static void write_table(const char *text) { assert_int_equal(cad_write_file(path, text, strlen(text)), CAD_OK); }

static cad_status count_rows(int *rows, char *last, size_t room)
{
    cadp_scan s;
    bool more = true;
    int c = 0;
    cad_status st = cadp_scan_open(&s, path);

    *rows = 0;
    if (!st) st = cadp_scan_want(&s, s.columns - 1, &c);
    while (!st && more) {
        st = cadp_scan_row(&s, &more);
        if (st || !more) continue;
        ++*rows;
        snprintf(last, room, "%.*s", (int)s.cell[c].size, s.cell[c].at);
    }
    if (s.path) cadp_scan_close(&s);
    return st;
}

static void table(const char *text, int rows, const char *last)
{
    char found[64] = "";
    int n;

    write_table(text);
    if (count_rows(&n, found, sizeof found)) fail_msg("%s", cad_reason());
    assert_int_equal(n, rows);
    assert_string_equal(found, last);
}

static void tables_are_read_with_their_quirks(void **state)
{
    (void)state;
    table("eid,a\n1,2\n", 1, "2");
    table("eid,a\n1,2", 1, "2");
    table("\xef\xbb\xbf" "eid,a\r\n1,2\r\n\r\n3,4\r\n", 2, "4");
    table("\"eid\",\"a\"\r\n\"1\",\"x\"\"y\"\r\n", 1, "x\"y");
    table("eid,a\n1,\"two\nlines\"\n2,\"\"\n", 2, "");
    table("eid\ta\n1\tsays \"so\" twice\n", 1, "says \"so\" twice");
    table("eid\ta\n1\t\"quoted\"\n", 1, "quoted");
    table("eid,a\n1,\xe9t\xe9\n", 1, "\xe9t\xe9");
}

static void bad(const char *text, const char *place)
{
    char found[64];
    int n;

    write_table(text);
    assert_int_equal(count_rows(&n, found, sizeof found), CAD_EDATA);
    if (!strstr(cad_reason(), place)) fail_msg("expected \"%s\" in: %s", place, cad_reason());
    assert_null(strstr(cad_reason(), "secret"));
    cad_clear();
}

static void a_row_that_is_cut_or_badly_quoted_is_refused_with_its_line(void **state)
{
    (void)state;
    bad("", "empty file");
    bad("eid,a\n1,2\nsecret\n", "table:3: expected 2 fields as in the header, found 1");
    bad("eid,a\n1,2,secret\n", "table:2: expected 2 fields as in the header, found 3");
    bad("eid,a\n1,\"secret\n2,3\n", "table:2: expected a closing quote");
    bad("eid,a\n1,2\n3,\"secret\"x\n", "table:3: expected a closing quote");
}

static void rows_longer_than_a_piece_are_whole(void **state)
{
    enum { WIDE = 700000 };
    cad_str text = {0};
    char last[16] = "";
    int n;

    (void)state;
    assert_int_equal(cad_str_addf(&text, "eid"), CAD_OK);
    for (int i = 0; i < WIDE; i++) assert_int_equal(cad_str_addf(&text, ",c%d", i), CAD_OK);
    for (int r = 0; r < 2; r++) {
        assert_int_equal(cad_str_addf(&text, "\n%d", r), CAD_OK);
        for (int i = 0; i < WIDE; i++) assert_int_equal(cad_str_addf(&text, ",\"%d\"", (i % 10000 * 7919 + r) % 10000), CAD_OK);
    }
    write_table(text.data);
    if (count_rows(&n, last, sizeof last)) fail_msg("%s", cad_reason());
    assert_int_equal(n, 2);
    assert_int_equal(atoi(last), ((WIDE - 1) % 10000 * 7919 + 1) % 10000);
    cad_str_close(&text);
}

static void a_field_without_wording_or_with_an_unknown_key_is_refused(void **state)
{
    static const struct { const char *yaml, *says; } cases[] = {
        {"fields: []\n", "expected a list fields"},
        {"fields:\n  - {name: x, fields: [31], colour: 1}\n", "a known key, found \"colour\""},
        {"fields:\n  - {name: x, kind: any, fields: [31]}\n", "codes: a list"},
        {"fields:\n  - {name: x, fields: [31], wording: \"x\"}\n", "{value} in it"},
        {"fields:\n  - {name: X, fields: [31]}\n", "small letters"},
        {"fields:\n  - {name: x, kind: history, fields: [31]}\n", "no fields for a history"},
        {"fields:\n  - {name: x, fields: [31]}\n  - {name: x, fields: [32]}\n", "every name once"}};
    cadp_fields f;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_table(cases[i].yaml);
        assert_int_equal(cadp_fields_open(&f, path), CAD_EUSAGE);
        if (!strstr(cad_reason(), cases[i].says)) fail_msg("expected \"%s\" in: %s", cases[i].says, cad_reason());
        cad_clear();
    }
    assert_int_equal(cadp_fields_open(&f, NULL), CAD_OK);
    assert_non_null(cadp_fields_find(&f, "sbp"));
    cadp_fields_close(&f);
}

static void families_join_and_ids_are_found(void **state)
{
    cadp_ids ids = {0};
    int32_t parent[6] = {0, 1, 2, 3, 4, 5}, found;

    (void)state;
    cadp_family_join(parent, 4, 5);
    cadp_family_join(parent, 1, 4);
    cadp_family_join(parent, 5, 1);
    assert_int_equal(cadp_family_of(parent, 5), 1);
    assert_int_equal(cadp_family_of(parent, 0), 0);
    assert_int_equal(cadp_ids_find(&ids, 7), -1);
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(cadp_ids_add(&ids, 1000000 + 7 * i, i, &found), CAD_OK);
        assert_int_equal(found, i);
    }
    assert_int_equal(cadp_ids_add(&ids, 1000000 + 70, 99, &found), CAD_OK);
    assert_int_equal(found, 10);
    assert_int_equal(cadp_ids_find(&ids, 1000000 + 7 * 4999), 4999);
    assert_int_equal(cadp_ids_find(&ids, 5), -1);
    cadp_ids_close(&ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_forms_of_a_date_are_the_same_day), cmocka_unit_test(a_column_keeps_its_form_of_dates), cmocka_unit_test(placeholders_say_that_the_day_is_not_known),
        cmocka_unit_test(every_dialect_names_the_same_places), cmocka_unit_test(codes_labels_and_special_codes_are_told_apart_by_the_coding),
        cmocka_unit_test(decimals_are_read_as_strtod_reads_them), cmocka_unit_test(a_whole_number_may_have_lost_its_type), cmocka_unit_test(lists_in_a_cell_have_the_same_items_in_every_form),
        cmocka_unit_test(code_systems_stay_apart_and_prefixes_end_where_they_say), cmocka_unit_test(tables_are_read_with_their_quirks),
        cmocka_unit_test(a_row_that_is_cut_or_badly_quoted_is_refused_with_its_line), cmocka_unit_test(rows_longer_than_a_piece_are_whole),
        cmocka_unit_test(a_field_without_wording_or_with_an_unknown_key_is_refused), cmocka_unit_test(families_join_and_ids_are_found)};
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
