#include "trees.h"

#include <math.h>
#include <zlib.h>

static cad_rows *rows(const char *name, const char *text)
{
    cad_rows *r = NULL;

    if (cad_rows_parse(&r, text, strlen(text), name)) fail_msg("%s", cad_reason());
    return r;
}

static void expect_cell(const cad_rows *r, int64_t row, int column, cad_cell_kind kind, const char *text)
{
    cad_cell c = cad_rows_cell(r, row, column);

    assert_int_equal(c.kind, kind);
    assert_string_equal(c.text, text);
    assert_int_equal(c.size, strlen(text));
}

static void an_array_of_objects_becomes_columns(void **state)
{
    cad_rows *r = rows("f.json", " [ {\"a\" : \"x\\u00e9\\n\", \"b\":1 ,\"c\":[1, {\"x\":\"\\u00e9\"}]},\n {\"b\": -2.5e1, \"d\":null, \"a\":\"\", \"e\":true}\n,{} ]\n");

    (void)state;
    assert_int_equal(cad_rows_count(r), 3);
    assert_int_equal(cad_rows_columns(r), 5);
    for (int c = 0; c < 5; c++) assert_int_equal(cad_rows_find(r, cad_rows_column(r, c)), c);
    assert_string_equal(cad_rows_column(r, 3), "d");
    assert_int_equal(cad_rows_find(r, "none"), -1);
    expect_cell(r, 0, 0, CAD_CELL_TEXT, "x\xc3\xa9\n");
    expect_cell(r, 0, 1, CAD_CELL_INT, "1");
    expect_cell(r, 0, 2, CAD_CELL_JSON, "[1, {\"x\":\"\\u00e9\"}]");
    expect_cell(r, 0, 3, CAD_CELL_MISSING, "");
    expect_cell(r, 1, 0, CAD_CELL_TEXT, "");
    expect_cell(r, 1, 1, CAD_CELL_REAL, "-2.5e1");
    expect_cell(r, 1, 3, CAD_CELL_NULL, "null");
    expect_cell(r, 1, 4, CAD_CELL_BOOL, "true");
    for (int c = 0; c < 5; c++) expect_cell(r, 2, c, CAD_CELL_MISSING, "");
    assert_int_equal(cad_rows_line(r, 0), 1);
    assert_int_equal(cad_rows_line(r, 1), 2);
    assert_int_equal(cad_rows_line(r, 2), 3);
    assert_string_equal(cad_rows_path(r), "f.json");
    cad_rows_close(&r);
    cad_rows_close(&r);
}

static void numbers_keep_their_kind(void **state)
{
    cad_rows *r = rows("f", "{\"a\":7,\"b\":9223372036854775807,\"c\":9223372036854775808,\"d\":1.0,\"e\":NaN,\"f\":-Infinity,\"g\":false}");

    (void)state;
    assert_int_equal(cad_rows_cell(r, 0, 0).integer, 7);
    assert_true(cad_rows_cell(r, 0, 0).real == 7);
    assert_true(cad_rows_cell(r, 0, 1).integer == INT64_MAX);
    expect_cell(r, 0, 2, CAD_CELL_REAL, "9223372036854775808");
    assert_true(cad_rows_cell(r, 0, 2).real == 9223372036854775808.0);
    expect_cell(r, 0, 3, CAD_CELL_REAL, "1.0");
    assert_true(isnan(cad_rows_cell(r, 0, 4).real));
    assert_true(cad_rows_cell(r, 0, 5).real == -INFINITY);
    assert_int_equal(cad_rows_cell(r, 0, 6).kind, CAD_CELL_BOOL);
    assert_int_equal(cad_rows_cell(r, 0, 6).integer, 0);
    cad_rows_close(&r);
}

static void jsonl_rows_know_their_lines(void **state)
{
    cad_rows *r = rows("f.jsonl", "\xef\xbb\xbf\n{\"a\":1}\r\n\n  {\"a\":\n2}\t\n{\"b\":3}");

    (void)state;
    assert_int_equal(cad_rows_count(r), 3);
    assert_int_equal(cad_rows_line(r, 0), 2);
    assert_int_equal(cad_rows_line(r, 1), 4);
    assert_int_equal(cad_rows_line(r, 2), 6);
    expect_cell(r, 1, 0, CAD_CELL_INT, "2");
    expect_cell(r, 2, 0, CAD_CELL_MISSING, "");
    cad_rows_close(&r);
}

static void csv_is_that_of_rfc_4180(void **state)
{
    cad_rows *r = rows("F.CSV", "\xef\xbb\xbf" "a,b b,\"c \"\"x\"\"\"\r\n1,\"x, \"\"y\"\"\r\nz\",\r\n\r\n\"\", 2 ,3\n\n\xc3\xa9,\"\"\"\",\"\n\"");

    (void)state;
    assert_int_equal(cad_rows_count(r), 3);
    assert_int_equal(cad_rows_columns(r), 3);
    assert_string_equal(cad_rows_column(r, 1), "b b");
    assert_string_equal(cad_rows_column(r, 2), "c \"x\"");
    expect_cell(r, 0, 0, CAD_CELL_TEXT, "1");
    expect_cell(r, 0, 1, CAD_CELL_TEXT, "x, \"y\"\r\nz");
    expect_cell(r, 0, 2, CAD_CELL_NULL, "");
    expect_cell(r, 1, 0, CAD_CELL_TEXT, "");
    expect_cell(r, 1, 1, CAD_CELL_TEXT, " 2 ");
    expect_cell(r, 2, 1, CAD_CELL_TEXT, "\"");
    expect_cell(r, 2, 2, CAD_CELL_TEXT, "\n");
    assert_int_equal(cad_rows_line(r, 0), 2);
    assert_int_equal(cad_rows_line(r, 1), 5);
    assert_int_equal(cad_rows_line(r, 2), 7);
    cad_rows_close(&r);
}

static void tsv_has_quotes_inside_of_fields(void **state)
{
    cad_rows *r = rows("f.tsv", "a\tb\n5\" lens, x\t\"y\tz\"\n\t\n");

    (void)state;
    assert_int_equal(cad_rows_count(r), 2);
    expect_cell(r, 0, 0, CAD_CELL_TEXT, "5\" lens, x");
    expect_cell(r, 0, 1, CAD_CELL_TEXT, "y\tz");
    expect_cell(r, 1, 1, CAD_CELL_NULL, "");
    cad_rows_close(&r);
}

static void a_header_or_an_empty_array_alone_are_no_rows(void **state)
{
    cad_rows *r = rows("f.csv", "a,b\n");

    (void)state;
    assert_int_equal(cad_rows_count(r), 0);
    assert_int_equal(cad_rows_columns(r), 2);
    cad_rows_close(&r);
    r = rows("f.json", " [ ] ");
    assert_int_equal(cad_rows_count(r) + cad_rows_columns(r), 0);
    cad_rows_close(&r);
}

static void bad_texts_are_refused_with_their_place(void **state)
{
    static const struct { const char *name, *text, *reason; } cases[] = {
        {"f.json", "", "f.json: expected rows, found an empty file"},
        {"f.json", " \n ", "f.json: expected rows, found an empty file"},
        {"f.json", "\xef\xbb\xbf", "f.json: expected rows, found an empty file"},
        {"f.txt", "a,b", "f.txt:1:1: expected '[' of a JSON array or '{' of JSONL (CSV and TSV are known by their names), found a letter"},
        {"f.json", "\"a\"", "f.json:1:1: expected '['"},
        {"f.json", "[{\"a\":1},\n {\"a\":1,}]", "f.json:2:9: expected a key in quotes, found '}'"},
        {"f.json", "[{\"a\":1},\n 3]", "f.json:2:2: expected a row that is an object, found a digit"},
        {"f.json", "[{\"a\":1},]", "f.json:1:10: expected a row that is an object, found ']'"},
        {"f.json", "[{\"a\":1}\n{\"a\":2}]", "f.json:2:1: expected ',' or ']' after a row, found '{'"},
        {"f.json", "[{\"a\":1}", "f.json:1:9: expected ',' or ']' after a row, found the end of the file"},
        {"f.json", "[", "f.json:1:2: expected a row that is an object, found the end of the file"},
        {"f.json", "[{}] x", "f.json:1:6: expected the end of the file, found a letter"},
        {"f.json", "[{\"a\" 1}]", "f.json:1:7: expected ':' after the key, found a digit"},
        {"f.json", "[{\"a\":1 \"b\":2}]", "f.json:1:9: expected ',' or '}', found '\"'"},
        {"f.json", "[{\"a\":}]", "f.json:1:7: expected a value, found '}'"},
        {"f.json", "[{\"a\":tru}]", "f.json:1:7: expected a value, found a letter"},
        {"f.json", "[{\"a\":01}]", "f.json:1:8: expected no digit after a leading zero"},
        {"f.json", "[{\"a\":1e999}]", "f.json:1:7: expected a number that a double can hold"},
        {"f.json", "[{\"a\":1,\"b\":2,\"a\":3}]", "f.json:1:15: expected every key once, found \"a\" again"},
        {"f.json", "[{\"a\":[1,{\"b\":1,\"b\":2}]}]", "f.json:1:17: expected every key once, found \"b\" again"},
        {"f.json", "[{\"a\\u0000\":1}]", "f.json:1:3: expected a key without a NUL, found one"},
        {"f.json", "[{\"\xc3\xa9\":\"\\ud800\"}]", "f.json:1:8: expected a pair of surrogates, found one alone"},
        {"f.json", "[{\"a\":\"x", "f.json:1:7: expected a closing quote, found the end of the file"},
        {"f.jsonl", "{\"a\":1} {\"a\":2}", "f.jsonl:1:9: expected the end of the line after a row, found '{'"},
        {"f.jsonl", "{\"a\":1}\n[1]", "f.jsonl:2:1: expected a row that is an object, found '['"},
        {"f.jsonl", "{\"a\":1}\n{\"a\":\"x\ny\"}", "f.jsonl:2:8: expected a closing quote or an escape, found the end of the line"},
        {"f.jsonl", "{\"a\":1}\n{\"a\":\"\xff\"}", "f.jsonl:2:7: expected UTF-8, found the byte 0xff"},
        {"f.csv", "", "f.csv: expected rows, found an empty file"},
        {"f.csv", "\r\n\n", "f.csv:3:1: expected a header line, found the end of the file"},
        {"f.csv", "a,b\n1,2\n1", "f.csv:3:1: expected 2 fields as in the header, found 1"},
        {"f.csv", "a,b\n1,\"2\n2\",3", "f.csv:3:4: expected 2 fields as in the header, found more"},
        {"f.csv", "a,\xc3\xa9,a", "f.csv:1:5: expected every column name once, found \"a\" again"},
        {"f.csv", "a\n\"x\n", "f.csv:2:1: expected a closing quote, found the end of the file"},
        {"f.csv", "a,b\n1,\"x\"y", "f.csv:2:6: expected a delimiter or the end of the line after a field, found a letter"},
        {"f.csv", "a,b\n1,\"x\" \n", "f.csv:2:6: expected a delimiter"},
        {"f.csv", "a,b\nx\"y,2", "f.csv:2:2: expected no quote inside a field that does not begin with one"},
        {"f.csv", "a,b\n1,2\r1,2", "f.csv:2:5: expected a delimiter or the end of the line after a field, found a digit"},
        {"f.csv.gz", "a,b\n1", "f.csv.gz:2:1: expected 2 fields"},
        {"f.tsv", "a\tb\n1,2", "f.tsv:2:1: expected 2 fields as in the header, found 1"},
        {"f.csv", "a,b\n1,\xc3(", "f.csv:2:3: expected UTF-8, found the byte 0xc3"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cad_rows *r = NULL;
        if (cad_rows_parse(&r, cases[i].text, strlen(cases[i].text), cases[i].name) != CAD_EDATA) fail_msg("accepted: %s", cases[i].text);
        assert_null(r);
        expect_reason(cases[i].reason);
    }
}

static void a_nul_byte_is_refused(void **state)
{
    cad_rows *r = NULL;

    (void)state;
    assert_int_equal(cad_rows_parse(&r, "a,b\n1,\0", 7, "f.csv"), CAD_EDATA);
    expect_reason("f.csv:2:3: expected text, found a NUL byte");
    assert_int_equal(cad_rows_parse(&r, "[{\"a\":\"\0\"}]", 11, "f.json"), CAD_EDATA);
    expect_reason("f.json:1:8: expected text, found a NUL byte");
}

/* A record is a person's: of it a message may show a place, a kind of character, a column's name. */
static void no_reason_holds_what_a_row_says(void **state)
{
    static const char *const texts[] = {
        "[{\"a\":\"MARKER\"},{\"a\":\"MARKER\" \"MARKER\"}]", "[{\"a\":MARKER}]", "[{\"a\":1} MARKER]", "[{\"a\":\"MARKER\\x\"}]", "[{\"a\":[\"MARKER\", MARKER]}]", "[MARKER]",
        "{\"a\":\"MARKER", "{\"a\":\"MARKER\n\"}"};
    static const char *const tables[] = {"a,b\nMARKER", "a,b\nMARKER,MARKER,MARKER", "a,b\n\"MARKER\"MARKER", "a,b\nMARKER\"MARKER,", "a,b\n\"MARKER", "a\nMARKER\rMARKER"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts + sizeof tables / sizeof *tables; i++) {
        bool json = i < sizeof texts / sizeof *texts;
        const char *text = json ? texts[i] : tables[i - sizeof texts / sizeof *texts];
        cad_rows *r = NULL;
        assert_int_equal(cad_rows_parse(&r, text, strlen(text), json ? "f.json" : "f.csv"), CAD_EDATA);
        assert_null(strstr(cad_reason(), "MARKER"));
        cad_clear();
    }
}

static void every_truncation_ends_well(void **state)
{
    static const struct { const char *name, *text; } cases[] = {
        {"f.json", "[{\"a\": \"x\\u00e9\", \"b\": [1, {\"c\": null}]}, {\"a\": -1.5e3}]"},
        {"f.jsonl", "{\"a\": \"x\"}\n{\"b\": true}\n"},
        {"f.csv", "a,b\r\n1,\"x \"\"y\"\"\"\r\n,2\r\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t n = 0; n <= strlen(cases[i].text); n++) {
            cad_rows *r = NULL;
            cad_status status = cad_rows_parse(&r, cases[i].text, n, cases[i].name);
            assert_true(status == CAD_OK || status == CAD_EDATA);
            assert_int_equal(!status, r != NULL);
            cad_rows_close(&r);
            cad_clear();
        }
}

/* Every row has a key of its own: what is kept must grow with the file, not with rows times columns. */
static void memory_follows_the_file_not_the_grid(void **state)
{
    enum { N = 20000 };
    cad_str s = {0};

    (void)state;
    for (int i = 0; i < N; i++) assert_int_equal(cad_str_addf(&s, "{\"k%d\":%d}\n", i, i), CAD_OK);
    int64_t before = cad_mem_bytes();
    cad_rows *r = rows("f.jsonl", s.data);
    assert_int_equal(cad_rows_columns(r), N);
    assert_true(cad_mem_bytes() - before < (int64_t)s.size + N * 512LL);
    expect_cell(r, N - 1, N - 1, CAD_CELL_INT, "19999");
    expect_cell(r, N - 1, 0, CAD_CELL_MISSING, "");
    cad_rows_close(&r);
    cad_str_close(&s);
}

static void put_gz(const char *path, const char *mode, const char *text)
{
    gzFile f = gzopen(path, mode);

    assert_non_null(f);
    assert_int_equal(gzwrite(f, text, (unsigned)strlen(text)), strlen(text));
    assert_int_equal(gzclose(f), Z_OK);
}

static void packed_files_are_read_members_and_all(void **state)
{
    cad_rows *r = NULL;

    (void)state;
    put_gz(in_scratch("f.csv.gz"), "wb", "a,b\n1,2\n");
    put_gz(in_scratch("f.csv.gz"), "ab", "3,4\n");
    assert_int_equal(cad_rows_read(&r, in_scratch("f.csv.gz")), CAD_OK);
    assert_int_equal(cad_rows_count(r), 2);
    expect_cell(r, 1, 1, CAD_CELL_TEXT, "4");
    cad_rows_close(&r);
    put_file(in_scratch("plain.jsonl.gz"), "{\"a\":1}", 7);
    assert_int_equal(cad_rows_read(&r, in_scratch("plain.jsonl.gz")), CAD_OK);
    cad_rows_close(&r);
    assert_int_equal(cad_rows_read(&r, in_scratch("none.csv")), CAD_EDATA);
    expect_reason("cannot open");
}

static void a_damaged_packed_file_is_refused(void **state)
{
    char *bytes, *bad;
    size_t n;

    (void)state;
    put_gz(in_scratch("g.jsonl.gz"), "wb", "{\"a\":\"some text that is packed\"}\n{\"a\":\"and some more text\"}\n");
    assert_int_equal(cad_read_file(&bytes, &n, in_scratch("g.jsonl.gz"), 1000, CAD_EDATA), CAD_OK);
    assert_int_equal(cad_alloc(&bad, n + 1, 1, "a copy"), CAD_OK);
    for (size_t cut = 2; cut < n; cut++) {
        cad_rows *r = NULL;
        assert_int_equal(cad_rows_parse(&r, bytes, cut, "g"), CAD_EDATA);
        expect_reason("g: expected the end of the gz data, found the end of the file");
    }
    for (size_t at = n - 8; at < n; at++) {
        cad_rows *r = NULL;
        memcpy(bad, bytes, n);
        bad[at] ^= 4;
        assert_int_equal(cad_rows_parse(&r, bad, n, "g"), CAD_EDATA);
        expect_reason("g: expected gz data, found damage");
    }
    cad_rows *r = NULL;
    memcpy(bad, bytes, n);
    bad[n] = 'x';
    assert_int_equal(cad_rows_parse(&r, bad, n + 1, "g"), CAD_EDATA);
    cad_free(&bytes);
    cad_free(&bad);
}

static void no_failed_allocation_leaks(void **state)
{
    static const struct { const char *name, *text; } cases[] = {{"f.json", "[{\"a\":[1],\"b\":2},{\"c\":\"x\"}]"}, {"f.csv", "a,b\n1,2\n"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cad_status status = CAD_ERESOURCE;
        for (int nth = 1; status; nth++) {
            cad_rows *r = NULL;
            cad_mem_fail_at(nth);
            status = cad_rows_parse(&r, cases[i].text, strlen(cases[i].text), cases[i].name);
            cad_mem_fail_at(0);
            assert_true(nth < 50 && (status == CAD_OK || status == CAD_ERESOURCE));
            cad_rows_close(&r);
            assert_int_equal(cad_mem_blocks(), 0);
            cad_clear();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(an_array_of_objects_becomes_columns, nothing_is_left),
        cmocka_unit_test_teardown(numbers_keep_their_kind, nothing_is_left),
        cmocka_unit_test_teardown(jsonl_rows_know_their_lines, nothing_is_left),
        cmocka_unit_test_teardown(csv_is_that_of_rfc_4180, nothing_is_left),
        cmocka_unit_test_teardown(tsv_has_quotes_inside_of_fields, nothing_is_left),
        cmocka_unit_test_teardown(a_header_or_an_empty_array_alone_are_no_rows, nothing_is_left),
        cmocka_unit_test_teardown(bad_texts_are_refused_with_their_place, nothing_is_left),
        cmocka_unit_test_teardown(a_nul_byte_is_refused, nothing_is_left),
        cmocka_unit_test_teardown(no_reason_holds_what_a_row_says, nothing_is_left),
        cmocka_unit_test_teardown(every_truncation_ends_well, nothing_is_left),
        cmocka_unit_test_teardown(memory_follows_the_file_not_the_grid, nothing_is_left),
        cmocka_unit_test_teardown(packed_files_are_read_members_and_all, nothing_is_left),
        cmocka_unit_test_teardown(a_damaged_packed_file_is_refused, nothing_is_left),
        cmocka_unit_test_teardown(no_failed_allocation_leaks, nothing_is_left),
    };
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
