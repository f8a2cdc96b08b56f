#include "../base/scratch.h"

#include <math.h>
#include <sys/stat.h>

#include "../../../src/train/keep_priv.h"

static const char records[] = "[{\"input\": \"SECRET one\", \"output\": 1, \"age\": 61, \"index\": 7, \"sites\": [1, \"b\"]},\n"
                              " {\"input\": \"SECRET two\", \"output\": 0, \"age\": 44.5, \"smoker\": true, \"note\": null},\n"
                              " {\"input\": \"SECRET three\", \"output\": \"1\", \"age\": \"n/a \\\"q\\\"\"}]";

typedef struct fixture {
    cad_options o;
    cad_run r;
    cad_dataset data;
    cadp_set set;
    cadp_scores s;
    int64_t rows[3];
    float logits[6];
    double prob1[3], logit[3];
    int32_t labels[3], predictions[3];
} fixture;

/* The rows scored in another order than the file's. */
static void set_up(fixture *f, bool labelled)
{
    static const int64_t order[3] = {2, 0, 1};
    static const float logits[6] = {0.1f, -0.25f, 1e-8f, 3.0f, -1.5f, 0.30000001f};
    static const int32_t labels[3] = {1, 1, 0};

    memset(f, 0, sizeof *f);
    f->r.o = &f->o;
    f->r.size = 1;
    f->r.method.num_labels = 2;
    f->o.task.input_column = (char *)"input";
    f->o.task.label_column = (char *)"output";
    assert_int_equal(cad_rows_parse(&f->data.rows_file, records, sizeof records - 1, "records.json"), CAD_OK);
    f->data.count = 3;
    memcpy(f->rows, order, sizeof order);
    memcpy(f->logits, logits, sizeof logits);
    for (int i = 0; i < 3; i++) {
        f->labels[i] = labelled ? labels[i] : -1;
        f->predictions[i] = logits[2 * i + 1] > logits[2 * i];
        f->prob1[i] = cad_prob1(logits[2 * i], logits[2 * i + 1]);
        f->logit[i] = (double)logits[2 * i + 1] - (double)logits[2 * i];
    }
    f->set = (cadp_set){.data = &f->data, .rows = f->rows, .count = 3};
    f->s = (cadp_scores){.logits = f->logits, .prob1 = f->prob1, .logit = f->logit, .labels = f->labels, .predictions = f->predictions, .n = 3, .seconds = 0.5};
    if (labelled) assert_int_equal(cad_metrics_compute(&f->s.metrics, f->labels, f->predictions, f->prob1, f->logit, 3, false), CAD_OK);
}

static char *text_of(fixture *f)
{
    cad_str out = {0};
    char *copy;

    assert_int_equal(cadp_predictions_text(&f->r, &f->set, &f->s, &out), CAD_OK);
    assert_int_equal(cad_strdup(&copy, out.data), CAD_OK);
    cad_str_close(&out);
    return copy;
}

static void lines_stand_in_the_files_order_with_its_other_columns(void **state)
{
    fixture f;
    char *text, *want;
    cad_str s = {0};

    (void)state;
    set_up(&f, true);
    text = text_of(&f);
    assert_int_equal(cad_str_addf(&s,
                                  "{\"index\": 0, \"label\": 1, \"prediction\": 1, \"positive_probability\": %.17g, \"logits\": [9.99999993922529e-09, 3.0], \"age\": 61, \"column_index\": 7, \"sites\": [1, \"b\"]}\n",
                                  f.prob1[1]), CAD_OK);
    want = s.data;
    if (strncmp(text, want, 60)) fail_msg("%s", text);
    assert_non_null(strstr(text, "\"logits\": [9.99999993922529e-09, 3.0]"));
    assert_non_null(strstr(text, "\"age\": 61, \"column_index\": 7, \"sites\": [1, \"b\"]}\n{\"index\": 1, \"label\": 0, "));
    assert_non_null(strstr(text, "\"logits\": [-1.5, 0.30000001192092896], \"age\": 44.5, \"smoker\": true, \"note\": null}\n{\"index\": 2, \"label\": 1, "));
    assert_non_null(strstr(text, "\"logits\": [0.10000000149011612, -0.25], \"age\": \"n/a \\\"q\\\"\"}\n"));
    assert_null(strstr(text, "SECRET"));
    cad_str_close(&s);
    cad_free(&text);
    cad_rows_close(&f.data.rows_file);
}

static void the_input_is_written_only_when_asked_for(void **state)
{
    fixture f;
    char *text;

    (void)state;
    set_up(&f, true);
    f.o.predictions_include_input = true;
    text = text_of(&f);
    assert_non_null(strstr(text, "\"input\": \"SECRET two\""));
    cad_free(&text);
    cad_rows_close(&f.data.rows_file);
}

static void rows_without_a_label_have_none(void **state)
{
    fixture f;
    char *text;

    (void)state;
    set_up(&f, false);
    text = text_of(&f);
    assert_non_null(strstr(text, "{\"index\": 0, \"label\": null, \"prediction\": 1"));
    cad_free(&text);
    assert_int_equal(cadp_write_predictions(&f.r, in_scratch("p"), &f.set, &f.s), CAD_OK);
    assert_false(cad_is_file(in_scratch("p/metrics.json")));
    assert_true(cad_is_file(in_scratch("p/predictions.jsonl")) && cad_is_file(in_scratch("p/report.html")));
    cad_rows_close(&f.data.rows_file);
}

static void a_folder_holds_metrics_lines_and_report_for_this_user_alone(void **state)
{
    static const char *const names[] = {"p/q/metrics.json", "p/q/predictions.jsonl", "p/q/report.html"};
    double steps[2] = {1, 2}, loss[2] = {0.7, 0.5};
    struct stat st;
    char *page;
    size_t n;
    fixture f;

    (void)state;
    set_up(&f, true);
    f.r.history.curve_step[0] = steps;
    f.r.history.curve[0] = loss;
    f.r.history.curve_n[0] = 2;
    assert_int_equal(cad_str_addf(&f.r.notes, "One record was cut.\nAnother note.\n"), CAD_OK);
    assert_int_equal(cadp_write_predictions(&f.r, in_scratch("p/q"), &f.set, &f.s), CAD_OK);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(stat(in_scratch(names[i]), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    assert_int_equal(stat(in_scratch("p/q"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(cad_read_file(&page, &n, in_scratch("p/q/report.html"), 1 << 22, CAD_EDATA), CAD_OK);
    assert_non_null(strstr(page, "One record was cut."));
    assert_null(strstr(page, "SECRET"));
    cad_free(&page);
    cad_str_close(&f.r.notes);
    assert_int_equal(cadp_write_predictions(&f.r, NULL, &f.set, &f.s), CAD_EUSAGE);
    cad_clear();
    cad_rows_close(&f.data.rows_file);
}

static void no_failed_allocation_leaks(void **state)
{
    cad_status status = CAD_ERESOURCE;
    fixture f;
    int64_t blocks;

    (void)state;
    set_up(&f, true);
    blocks = cad_mem_blocks();
    for (int64_t nth = 1; status; nth += 1 + nth / 8) {
        cad_mem_fail_at(nth);
        status = cadp_write_predictions(&f.r, in_scratch("p"), &f.set, &f.s);
        cad_mem_fail_at(0);
        cad_clear();
        assert_int_equal(cad_mem_blocks(), blocks);
    }
    cad_rows_close(&f.data.rows_file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_stand_in_the_files_order_with_its_other_columns, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(the_input_is_written_only_when_asked_for, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(rows_without_a_label_have_none, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(a_folder_holds_metrics_lines_and_report_for_this_user_alone, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(no_failed_allocation_leaks, make_scratch, drop_scratch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
