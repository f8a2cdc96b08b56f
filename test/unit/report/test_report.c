#include <cadtrain/report.h>

#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { MANY = 400, STEPS = 500 };

static char folder[64], path[128];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/cadtrain-report-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/out", folder);
    return 0;
}

static int drop_folder(void **state)
{
    (void)state;
    return cad_remove_tree(folder) ? -1 : 0;
}

static char *slurp(void)
{
    char *text = NULL;
    size_t size = 0;
    struct stat info;

    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(cad_read_file(&text, &size, path, 8 << 20, CAD_ERESOURCE), CAD_OK);
    return text;
}

typedef struct sample { int32_t y[MANY], k[MANY]; double p[MANY]; cad_metrics m; } sample;

static void draw_sample(sample *s, int64_t n, double shift)
{
    for (int64_t i = 0; i < n; i++) {
        double z = cad_rng_normal(3, CAD_RNG_TEST, 0, (uint64_t)i) + shift;
        s->y[i] = cad_rng_uniform(3, CAD_RNG_TEST, 1, (uint64_t)i) < 1 / (1 + exp(-z));
        s->p[i] = 1 / (1 + exp(-1.3 * z));
        s->k[i] = s->p[i] > 0.5;
    }
    assert_int_equal(cad_metrics_compute(&s->m, s->y, s->k, s->p, NULL, n, true), CAD_OK);
}

/* ---- metrics.json ---- */

static void metrics_json_has_the_original_keys_first(void **state)
{
    (void)state;
    static const char *const first[] = {"accuracy", "precision", "recall", "f1", "classification_report", "auc", "auprc", "brier", "log_loss",
                                        "mcc", "balanced_accuracy", "n", "positives", "threshold", "auc_ci"};
    static sample s;
    cad_tree *t = NULL;
    const cad_node *at;
    double auc = 0;
    char *text;

    draw_sample(&s, MANY, 0);
    assert_int_equal(cad_write_metrics(path, &s.m), CAD_OK);
    text = slurp();
    cad_free(&text);
    assert_int_equal(cad_json_read(&t, path, 1 << 20, CAD_EDATA), CAD_OK);
    at = t->root->child;
    for (size_t i = 0; i < sizeof first / sizeof *first; i++, at = at->next) assert_string_equal(at->key, first[i]);
    assert_true(cad_get_real(t->root, "auc", &auc, 0) && auc == s.m.auc);
    assert_int_equal(cad_get(t->root, "classification_report")->kind, CAD_STRING);
    assert_int_equal(cad_get(t->root, "brier_ci")->children, 2);
    assert_null(cad_get(t->root, "loss"));
    cad_tree_close(&t);
}

static void a_number_that_is_not_defined_is_nan(void **state)
{
    (void)state;
    const int32_t y[] = {0, 0}, k[] = {0, 1};
    const double p[] = {0.2, 0.7};
    cad_metrics m;
    char *text;

    assert_int_equal(cad_metrics_compute(&m, y, k, p, NULL, 2, true), CAD_OK);
    assert_int_equal(cad_write_metrics(path, &m), CAD_OK);
    text = slurp();
    assert_non_null(strstr(text, "\"auc\": NaN"));
    assert_non_null(strstr(text, "\"auprc\": 0.0"));
    assert_non_null(strstr(text, "\"n\": 2"));
    cad_free(&text);
}

/* ---- report.html ---- */

/* Every tag that opens closes, in order, and ids are unique: enough of XML to trust the structure. */
static void check_structure(const char *html)
{
    char open[64][32];
    int depth = 0;

    for (const char *at = strchr(html, '<'); at; at = strchr(at + 1, '<')) {
        const char *end = strchr(at, '>');
        int n = 0;
        bool closing = at[1] == '/';
        char name[32];
        assert_non_null(end);
        if (at[1] == '!') continue;
        at += 1 + closing;
        while (isalnum((unsigned char)at[n])) n++;
        assert_true(n > 0 && n < 32);
        memcpy(name, at, (size_t)n);
        name[n] = 0;
        if (closing) {
            assert_true(depth > 0);
            assert_string_equal(open[--depth], name);
        } else if (end[-1] != '/') {
            assert_true(depth < 64);
            strcpy(open[depth++], name);
        }
        at = end;
    }
    assert_int_equal(depth, 0);
}

static int count(const char *text, const char *what)
{
    int n = 0;

    for (const char *at = text; (at = strstr(at, what)); at += strlen(what)) n++;
    return n;
}

static void write_full(const sample *s, int64_t n)
{
    static double x[STEPS], loss[STEPS], rate[STEPS], norm[STEPS], ex[5], eloss[5], eauc[5];
    const cad_number facts[] = {{"train_rows", 21344, true}, {"peak_bytes", 3221225472.0, true}, {"train_runtime", 3723, false},
                                {"tokens_per_second", 21480.25, false}};
    const char *const notes[] = {"Synthetic <people> & \"data\"."};

    for (int i = 0; i < STEPS; i++) {
        x[i] = i + 1;
        loss[i] = i == 250 ? NAN : 1.0 / (1 + i);
        rate[i] = 1e-5 * (STEPS - i);
        norm[i] = 1 + (i == 77) * 50;
    }
    for (int i = 0; i < 5; i++) {
        ex[i] = 100 * (i + 1);
        eloss[i] = 1.0 / (1 + i);
        eauc[i] = 0.5 + 0.05 * i;
    }
    const cad_curve curves[] = {{"loss", x, loss, STEPS}, {"learning_rate", x, rate, STEPS}, {"grad_norm", x, norm, STEPS},
                                {"eval_loss", ex, eloss, 5}, {"eval_auc", ex, eauc, 5}};
    const cad_report r = {.title = "CAD <1>", .metrics = &s->m, .labels = s->y, .prob1 = s->p, .n = n, .curves = curves, .curve_count = 5,
                          .facts = facts, .fact_count = 4, .notes = notes, .note_count = 1};
    assert_int_equal(cad_write_report(path, &r), CAD_OK);
}

static void the_report_is_one_well_formed_file_with_every_picture(void **state)
{
    (void)state;
    static const char *const pictures[] = {"roc", "pr", "calibration", "histogram", "decision", "loss", "eval-auc", "learning-rate", "grad-norm"};
    static sample s;
    char *html, id[64];

    draw_sample(&s, MANY, 0);
    write_full(&s, MANY);
    html = slurp();
    check_structure(html);
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++) {
        snprintf(id, sizeof id, "<figure id=\"%s\">", pictures[i]);
        assert_int_equal(count(html, id), 1);
        snprintf(id, sizeof id, "<title id=\"%s-title\">", pictures[i]);
        assert_int_equal(count(html, id), 1);
    }
    assert_int_equal(count(html, "<svg "), 9);
    assert_int_equal(count(html, "role=\"img\""), 9);
    assert_non_null(strstr(html, "CAD &lt;1&gt;"));
    assert_non_null(strstr(html, "Synthetic &lt;people&gt; &amp; &quot;data&quot;."));
    assert_non_null(strstr(html, "21,344"));
    assert_non_null(strstr(html, "3.00 GiB"));
    assert_non_null(strstr(html, "1 h 2 min"));
    assert_non_null(strstr(html, "Values that are not finite numbers: 1."));
    cad_free(&html);
}

static void the_report_fetches_and_runs_nothing(void **state)
{
    (void)state;
    static const char *const forbidden[] = {"<script", "http:", "https:", "src=", "href=", "url(", "@import", "onload", "nan", "inf\"", "inf "};
    static sample s;
    char *html;

    draw_sample(&s, MANY, 0);
    write_full(&s, MANY);
    html = slurp();
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        if (strstr(html, forbidden[i])) fail_msg("the report contains %s", forbidden[i]);
    assert_non_null(strstr(html, "prefers-color-scheme:dark"));
    assert_non_null(strstr(html, "@media print"));
    cad_free(&html);
}

/* 1 of 40 rows is a lone event: neither its count, nor the cells that would give it away, nor a point of its own. */
static void small_counts_are_not_written_out(void **state)
{
    (void)state;
    static sample s;
    char *html;

    for (int i = 0; i < 40; i++) {
        s.y[i] = i == 3;
        s.p[i] = (i + 1) / 50.0;
        s.k[i] = s.p[i] > 0.5;
    }
    assert_int_equal(cad_metrics_compute(&s.m, s.y, s.k, s.p, NULL, 40, true), CAD_OK);
    write_full(&s, 40);
    html = slurp();
    check_structure(html);
    assert_non_null(strstr(html, "&lt;10 with the event"));
    assert_null(strstr(html, ">39<"));
    assert_null(strstr(html, "Event rate 2.5%"));
    assert_non_null(strstr(html, "no counts are written out"));
    cad_free(&html);
}

static void a_small_cell_turns_its_neighbour_into_a_bound(void **state)
{
    (void)state;
    static sample s;
    char *html;

    for (int i = 0; i < 100; i++) {
        s.y[i] = i % 2;
        s.p[i] = (i + 1) / 101.0;
        s.k[i] = s.y[i] && i != 51;
    }
    assert_int_equal(cad_metrics_compute(&s.m, s.y, s.k, s.p, NULL, 100, true), CAD_OK);
    write_full(&s, 100);
    html = slurp();
    assert_non_null(strstr(html, "<td>&gt;=41</td><td>&lt;10</td><td>50</td>"));
    assert_null(strstr(html, ">49<"));
    cad_free(&html);
}

static void no_people_and_one_class_still_give_a_report(void **state)
{
    (void)state;
    static sample s;
    const cad_report empty = {.title = NULL};
    cad_report r = {.title = "", .metrics = &s.m, .labels = s.y, .prob1 = s.p};
    char *html;

    assert_int_equal(cad_write_report(path, &empty), CAD_OK);
    html = slurp();
    check_structure(html);
    cad_free(&html);
    for (int64_t n = 0; n < 30; n += 29) {
        memset(s.y, 0, sizeof s.y);
        for (int64_t i = 0; i < n; i++) s.p[i] = (double)i / 30;
        assert_int_equal(cad_metrics_compute(&s.m, s.y, s.y, s.p, NULL, n, true), CAD_OK);
        r.n = n;
        assert_int_equal(cad_write_report(path, &r), CAD_OK);
        html = slurp();
        check_structure(html);
        assert_non_null(strstr(html, "No pictures of the risks"));
        assert_null(strstr(html, "nan"));
        cad_free(&html);
    }
}

static void odd_curves_do_not_break_the_axes(void **state)
{
    (void)state;
    const double one[] = {10}, flat[] = {3, 3, 3}, x[] = {0, 1, 2}, none[] = {NAN, INFINITY, NAN}, far[] = {-1e12, 0, 1e12};
    const cad_curve curves[] = {{"loss", one, one, 1}, {"learning_rate", x, flat, 3}, {"grad_norm", x, none, 3},
                                {"eval_auc", x, far, 3}, {"eval_loss", x, far, 0}};
    const cad_report r = {.title = "odd", .curves = curves, .curve_count = 5};
    char *html;

    assert_int_equal(cad_write_report(path, &r), CAD_OK);
    html = slurp();
    check_structure(html);
    assert_int_equal(count(html, "<svg "), 4);
    assert_null(strstr(html, "nan"));
    cad_free(&html);
}

static void no_failed_allocation_leaks_or_leaves_half_a_report(void **state)
{
    (void)state;
    static sample s;
    int64_t before;
    cad_status status = CAD_ERESOURCE;

    draw_sample(&s, 100, 0);
    const cad_report r = {.title = "t", .metrics = &s.m, .labels = s.y, .prob1 = s.p, .n = 100};
    before = cad_mem_blocks();
    for (int nth = 1; status; nth++) {
        cad_mem_fail_at(nth);
        status = cad_write_report(path, &r);
        cad_mem_fail_at(0);
        assert_true(status == CAD_OK || status == CAD_ERESOURCE);
        if (cad_is_file(path)) { /* also after the rename, when only the folder could not be synced */
            char *html = slurp();
            check_structure(html);
            assert_non_null(strstr(html, "</html>\n"));
            cad_free(&html);
        }
        assert_int_equal(cad_mem_blocks(), before);
        cad_clear();
        assert_true(nth < 100);
    }
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(metrics_json_has_the_original_keys_first),
        IN_FOLDER(a_number_that_is_not_defined_is_nan),
        IN_FOLDER(the_report_is_one_well_formed_file_with_every_picture),
        IN_FOLDER(the_report_fetches_and_runs_nothing),
        IN_FOLDER(small_counts_are_not_written_out),
        IN_FOLDER(a_small_cell_turns_its_neighbour_into_a_bound),
        IN_FOLDER(no_people_and_one_class_still_give_a_report),
        IN_FOLDER(odd_curves_do_not_break_the_axes),
        IN_FOLDER(no_failed_allocation_leaks_or_leaves_half_a_report),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    if (cad_mem_blocks()) print_error("%lld blocks alive\n", (long long)cad_mem_blocks());
    return failed || cad_mem_blocks() ? 1 : 0;
}
