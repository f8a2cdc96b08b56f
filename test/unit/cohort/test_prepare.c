#include <cadtrain/cohort.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static char folder[64], extract[96], extract2[96], censoring[96], fields[96], phenotype[96], kinship[96], withdrawals[96], out[96];

static void name(char to[96], const char *what) { snprintf(to, 96, "%s/%s", folder, what); }

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/cadtrain-prepare-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    name(extract, "extract.csv");
    name(extract2, "second.csv");
    name(censoring, "censoring.yaml");
    name(fields, "fields.yaml");
    name(phenotype, "phenotype.yaml");
    name(kinship, "kin");
    name(withdrawals, "w.csv");
    name(out, "out");
    cad_log_setup(0, 1, CAD_LOG_ERROR);
    return 0;
}

static int drop_folder(void **state)
{
    (void)state;
    return cad_remove_tree(folder) || cad_mem_blocks() ? -1 : 0;
}

static void put(const char *path, const char *text) { assert_int_equal(cad_write_file(path, text, strlen(text)), CAD_OK); }

static cad_cohort_plan plan_of(char **files, int count)
{
    put(censoring, "nations:\n  England: {complete_until: \"2020-12-31\", centres: [11001]}\n  Wales: {complete_until: \"2018-01-01\", centres: [11003]}\n");
    put(fields, "fields:\n  - {name: age, fields: [21022], wording: \"Age {value}.\"}\n  - {name: sbp, fields: [4080, 93], wording: \"Pressure {value}.\"}\n"
                "  - {name: smoking, fields: [20116], kind: category, labels: {0: never, 2: current}, wording: \"Smokes: {value}.\", missing: \"Smoking unknown.\"}\n"
                "  - {name: drug, fields: [6177, 6153], kind: any, codes: [2], \"yes\": \"Drug.\", \"no\": \"No drug.\"}\n"
                "  - {name: flutter, kind: history, icd10: [I48], \"yes\": \"Flutter.\"}\n");
    return (cad_cohort_plan){.extracts = {files, count}, .fields = fields, .censoring = censoring, .template_text = "{years}: {record}", .output_dir = out, .horizon_years = 10,
                             .kinship_threshold = 0.0442, .columns = CAD_COLUMNS_NONE, .seed = 1};
}

static char *slurp(const char *file)
{
    char path[160], *text = NULL;
    size_t size;

    snprintf(path, sizeof path, "%s/%s", out, file);
    assert_int_equal(cad_read_file(&text, &size, path, 1 << 20, CAD_EDATA), CAD_OK);
    return text;
}

static void prepared(const cad_cohort_plan *p)
{
    cad_clear();
    if (cad_prepare_cohort(p)) fail_msg("%s", cad_reason());
}

/* "EID,STATUS,…" of private/ids.csv ends with what is expected. */
static void fate(const char *ids, int eid, const char *expected)
{
    char key[32];
    const char *at;

    snprintf(key, sizeof key, ",%d,", eid);
    at = strstr(ids, key);
    if (!at) fail_msg("%d is not there", eid);
    at += strlen(key);
    if (strncmp(at, expected, strlen(expected))) fail_msg("%d: expected %s, found %.30s", eid, expected, at);
}

static void every_boundary_of_the_follow_up_falls_on_its_side(void **state)
{
    char *files[] = {extract}, *ids;
    cad_cohort_plan p = plan_of(files, 1);

    (void)state;
    put(extract, "eid,p53_i0,p54_i0,p190,p191,p40000_i0,p40001_i0,p41270,p41280_a0,p41280_a1,p6150_i0,p21022\n"
                 "1,2008-01-01,11001,,,,,,,,,50\n"                                    /* followed for ten years */
                 "2,2008-01-01,11001,,,,,\"[\"\"I214\"\"]\",2008-01-01,,,50\n"         /* on the day itself */
                 "3,2008-01-01,11001,,,,,\"[\"\"I214\"\"]\",2008-01-02,,,50\n"         /* the day after */
                 "4,2008-01-01,11001,,,,,I21.4,2018-01-01,,,50\n"                      /* on the last day: 3653 days */
                 "5,2008-01-01,11001,,,,,I214,2018-01-02,,,50\n"                       /* a day too late */
                 "6,2008-01-01,11001,,,,,I251|I210,2009-01-01,2010-01-01,,50\n"        /* I251 is not hard */
                 "7,2008-01-01,11001,,,,,I214,1900-01-01,,,50\n"                       /* nobody knows when */
                 "8,2008-01-01,11001,,,,,,,,1,50\n"                                    /* reported it */
                 "9,2008-01-01,11001,5,2012-01-01,,,,,,,50\n"                          /* consent withdrawn */
                 "10,2008-01-01,11001,3,2012-01-01,,,,,,,50\n"                         /* left the country */
                 "11,2008-01-01,11001,,,2012-01-01,C349,,,,,50\n"                      /* died of something else */
                 "12,2008-01-01,11001,,,2012-01-01,I219,,,,,50\n"                      /* died of it */
                 "13,2008-01-02,11003,,,,,,,,,50\n"                                    /* Wales ends a day before */
                 "14,2008-01-01,11003,,,,,,,,,50\n"                                    /* and just in time */
                 "15,,11001,,,,,,,,,50\n"                                              /* no date */
                 "16,2008-01-01,99,,,,,,,,,50\n"                                       /* nobody's centre */
                 "17,2008-01-01,11001,,,2018-01-02,C349,,,,,50\n"                      /* died after the horizon */
                 "18,2008-01-01,11001,3,2012-01-01,,,I214,2010-01-01,,,50\n"           /* before it left */
                 "19,2008-01-01,11001,,,,,I214,,,,50\n"                                /* a code without any date */
                 "-5,2008-01-01,11001,,,,,,,,,50\n");                                  /* stands for somebody who withdrew */
    prepared(&p);
    ids = slurp("private/ids.csv");
    fate(ids, 1, "in,train,0\n");
    fate(ids, 2, "prevalent,");
    fate(ids, 3, "in,train,1\n");
    fate(ids, 4, "in,train,1\n");
    fate(ids, 5, "in,train,0\n");
    fate(ids, 6, "in,train,1\n");
    fate(ids, 7, "unknown_date,");
    fate(ids, 8, "prevalent,");
    fate(ids, 9, "no_linkage,");
    fate(ids, 10, "censored,");
    fate(ids, 11, "in,train,0\n");
    fate(ids, 12, "in,train,1\n");
    fate(ids, 13, "censored,");
    fate(ids, 14, "in,train,0\n");
    fate(ids, 15, "no_date,");
    fate(ids, 16, "no_nation,");
    fate(ids, 17, "in,train,0\n");
    fate(ids, 18, "in,train,1\n");
    fate(ids, 19, "unknown_date,");
    assert_null(strstr(ids, ",-5,"));
    cad_free(&ids);
}

static void a_record_says_what_the_cells_mean(void **state)
{
    char *files[] = {extract, extract2}, *text;
    cad_cohort_plan p = plan_of(files, 2);

    (void)state;
    put(extract, "f.eid\tf.53.0.0\tf.54.0.0\tf.21022.0.0\tf.4080.0.0\tf.4080.0.1\tf.93.0.0\tf.20116.0.0\tf.6177.0.0\tf.6177.0.1\tf.6153.0.0\n"
                 "1\t2008-01-01\t11001\t50\t131\t134\t99\t-3\t1\t2\tNA\n"
                 "2\t2008-01-01\t11001\t51.0\tNA\tNA\t120\t2\t-7\tNA\tNA\n"
                 "3\t2008-01-01\t11001\t52\tNA\tNA\tNA\t0\t-1\tNA\tNA\n");
    /* a later basket: refreshed age, history, and the events */
    put(extract2, "eid,21022-0.0,41270-0.0,41270-0.1,41280-0.0,41280-0.1\n1,60,I48,I214,2007-01-01,2009-01-01\n2,,I480,,2008-06-01,\n3,,K409,,2001-01-01,\n");
    prepared(&p);
    text = slurp("private/train.jsonl");
    assert_non_null(strstr(text, "\"input\": \"10: Age 60. Pressure 132. Smoking unknown. Drug. Flutter.\", \"output\": \"1\""));
    assert_non_null(strstr(text, "\"input\": \"10: Age 51. Pressure 120. Smokes: current. No drug.\", \"output\": \"0\""));
    assert_non_null(strstr(text, "\"input\": \"10: Age 52. Smokes: never.\", \"output\": \"0\""));
    cad_free(&text);
}

static void make_many(int n, bool equal)
{
    cad_str s = {0}, kin = {0};

    assert_int_equal(cad_str_addf(&s, "eid,p53_i0,p54_i0,p21022,p4080_i0_a0,p41270,p41280_a0\n"), CAD_OK);
    assert_int_equal(cad_str_addf(&kin, "ID1 ID2 Kinship\n"), CAD_OK);
    for (int i = 0; i < n; i++) {
        assert_int_equal(cad_str_addf(&s, "%d,2008-01-01,11001,%d,%d,%s\n", 100 + i, equal ? 50 : 40 + i % 30, equal ? 120 : 100 + i, i % 7 ? "," : "I21,2012-01-01"), CAD_OK);
        if (i % 3) assert_int_equal(cad_str_addf(&kin, "%d %d %s\n", 100 + i - 1, 100 + i, i % 3 == 1 ? "0.25" : "0.0442"), CAD_OK);
    }
    put(extract, s.data);
    put(kinship, kin.data);
    cad_str_close(&s);
    cad_str_close(&kin);
}

static int side_of(const char *ids, int eid)
{
    char key[32];
    const char *at;

    snprintf(key, sizeof key, ",%d,in,", eid);
    at = strstr(ids, key);
    return at ? at[strlen(key)] : 0;
}

static void families_of_three_stay_together_and_shares_are_met(void **state)
{
    enum { N = 600 };
    char *files[] = {extract}, *ids;
    cad_cohort_plan p = plan_of(files, 1);
    int test = 0;

    (void)state;
    make_many(N, false);
    p.kinship = kinship;
    p.validation = 0.1;
    p.test = 0.25;
    p.stratify = true;
    prepared(&p);
    ids = slurp("private/ids.csv");
    for (int i = 0; i < N; i += 3) {
        assert_int_equal(side_of(ids, 100 + i), side_of(ids, 101 + i));
        assert_int_equal(side_of(ids, 100 + i), side_of(ids, 102 + i));
    }
    for (const char *at = strstr(ids, ",test,"); at; at = strstr(at + 1, ",test,")) test++;
    assert_true(abs(test - N / 4) <= 6);
    cad_free(&ids);
}

static void records_of_one_text_stay_on_one_side(void **state)
{
    char *files[] = {extract};
    cad_cohort_plan p = plan_of(files, 1);

    (void)state;
    make_many(60, true);
    p.test = 0.3;
    cad_clear();
    assert_int_equal(cad_prepare_cohort(&p), CAD_EDATA); /* one family of sixty: no test can be made of it */
    assert_non_null(strstr(cad_reason(), "test split"));
    cad_clear();
}

static void those_who_withdrew_are_nowhere(void **state)
{
    char *files[] = {extract}, *ids;
    cad_cohort_plan p = plan_of(files, 1);

    (void)state;
    make_many(60, false);
    put(withdrawals, "101\r\n102\n\n");
    p.withdrawals = withdrawals;
    prepared(&p);
    ids = slurp("private/ids.csv");
    assert_null(strstr(ids, ",101,"));
    assert_null(strstr(ids, ",102,"));
    assert_non_null(strstr(ids, ",103,"));
    cad_free(&ids);
    put(withdrawals, "101\nten\n");
    cad_clear();
    assert_int_equal(cad_prepare_cohort(&p), CAD_EDATA);
    assert_non_null(strstr(cad_reason(), "w.csv:2: expected one participant's id"));
    cad_clear();
}

static void a_field_that_knows_the_answer_is_found(void **state)
{
    char *files[] = {extract, extract2};
    cad_cohort_plan p = plan_of(files, 2);
    cad_str s = {0};

    (void)state;
    make_many(210, false);
    assert_int_equal(cad_str_addf(&s, "eid,93-0.0\n"), CAD_OK);
    for (int i = 0; i < 210; i++) assert_int_equal(cad_str_addf(&s, "%d,%d\n", 100 + i, i % 7 ? 100 + i % 50 : 180 + i % 20), CAD_OK);
    put(extract2, s.data);
    put(fields, "fields:\n  - {name: age, fields: [21022], wording: \"Age {value}.\"}\n  - {name: marker, fields: [93], wording: \"Marker {value}.\"}\n");
    cad_clear();
    assert_int_equal(cad_prepare_cohort(&p), CAD_EDATA);
    assert_non_null(strstr(cad_reason(), "too_good, field marker"));
    cad_clear();
    cad_str_close(&s);
}

static void a_date_field_may_be_the_outcome(void **state)
{
    char *files[] = {extract}, *ids;
    cad_cohort_plan p = plan_of(files, 1);

    (void)state;
    put(phenotype, "name: defined\ndates: [42000]\n");
    p.phenotype = phenotype;
    put(extract, "eid,p53_i0,p54_i0,p42000,p21022\n1,2008-01-01,11001,2009-05-05,50\n2,2008-01-01,11001,1900-01-01,51\n3,2008-01-01,11001,,52\n4,2008-01-01,11001,2007-01-01,53\n");
    prepared(&p);
    ids = slurp("private/ids.csv");
    fate(ids, 1, "in,train,1");
    fate(ids, 2, "unknown_date,");
    fate(ids, 3, "in,train,0");
    fate(ids, 4, "prevalent,");
    cad_free(&ids);
}

static void no_failed_allocation_leaks(void **state)
{
    char *files[] = {extract};
    cad_cohort_plan p = plan_of(files, 1);
    cad_status st = CAD_ERESOURCE;

    (void)state;
    make_many(30, false);
    for (int64_t nth = 1; st; nth += 1 + nth / 40) {
        int64_t before = cad_mem_blocks();
        cad_clear();
        cad_mem_fail_at(nth);
        st = cad_prepare_cohort(&p);
        cad_mem_fail_at(0);
        assert_int_equal(cad_mem_blocks(), before);
        if (st) assert_true(st == CAD_ERESOURCE || st == CAD_EUSAGE || st == CAD_EDATA);
    }
    cad_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_boundary_of_the_follow_up_falls_on_its_side), cmocka_unit_test(a_record_says_what_the_cells_mean),
        cmocka_unit_test(families_of_three_stay_together_and_shares_are_met), cmocka_unit_test(records_of_one_text_stay_on_one_side),
        cmocka_unit_test(those_who_withdrew_are_nowhere), cmocka_unit_test(a_field_that_knows_the_answer_is_found),
        cmocka_unit_test(a_date_field_may_be_the_outcome), cmocka_unit_test(no_failed_allocation_leaks)};
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
