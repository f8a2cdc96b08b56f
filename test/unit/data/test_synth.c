#include "golden.h"

#include <cadtrain/data.h>

#include <math.h>
#include <sys/stat.h>

enum { PEOPLE = 4000 };
typedef struct scored { double logit; int label; } scored;

static char *make_file(int64_t people, uint64_t seed, size_t *size)
{
    char path[] = "/tmp/cadtrain-synth-XXXXXX", *text;
    int fd = mkstemp(path);
    struct stat s;

    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(cad_synth_records(path, people, seed), CAD_OK);
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    assert_int_equal(cad_read_file(&text, size, path, (size_t)1 << 28, CAD_EDATA), CAD_OK);
    unlink(path);
    return text;
}

static double number_after(const char *text, const char *name, double otherwise)
{
    const char *at = strstr(text, name);
    return at ? atof(at + strlen(name)) : otherwise;
}

static double said(const char *text, const char *what) { return strstr(text, what) != NULL; }

/* The true risk, read back from nothing but the text. */
static double logit_of(const char *text)
{
    return -3.6 + 1.4 * said(text, "Sex: male") + 0.1 * (number_after(text, "Age: ", 55) - 55) + 0.6 * said(text, "Smoking: previous") +
           2.0 * said(text, "Smoking: current") + 1.2 * said(text, "Family history: yes") + 1.7 * said(text, "Diabetes: yes") + 2.2 * said(text, "Chest pain: yes") +
           0.02 * (number_after(text, "pressure: ", 139) - 139) + 0.5 * (number_after(text, "LDL: ", 3.6) - 3.6);
}

static int by_logit(const void *a, const void *b)
{
    double x = ((const scored *)a)->logit, y = ((const scored *)b)->logit;
    return (x > y) - (x < y);
}

static double area(scored *s, int64_t n)
{
    double below = 0, pairs = 0;

    qsort(s, (size_t)n, sizeof *s, by_logit);
    for (int64_t i = 0; i < n; i++)
        if (s[i].label) pairs += below;
        else below++;
    return pairs / (below * ((double)n - below));
}

static void records_are_json_and_their_risk_is_in_the_text(void **state)
{
    static scored s[PEOPLE];
    int64_t n = 0, ones = 0, shortest = 1000, longest = 0, total = 0;
    double expected = 0, variance = 0, auc;
    size_t size;
    char *text = make_file(PEOPLE, 1, &size);

    (void)state;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), n++) {
        cad_tree *t;
        const char *input = "";
        int64_t label = -1;
        double p;
        assert_int_equal(cad_json_parse(&t, line, strlen(line), "line", CAD_EDATA), CAD_OK);
        assert_true(cad_get_string(t->root, "input", &input, ""));
        assert_true(cad_get_int(t->root, "output", &label, -1));
        assert_int_equal(t->root->children, 2);
        s[n] = (scored){logit_of(input), (int)label};
        p = 1 / (1 + exp(-s[n].logit));
        expected += p;
        variance += p * (1 - p);
        ones += label;
        total += (int64_t)strlen(input);
        shortest = cad_min(shortest, (int64_t)strlen(input));
        longest = cad_max(longest, (int64_t)strlen(input));
        cad_tree_close(&t);
    }
    cad_free(&text);
    auc = area(s, n);
    print_message("best AUC %.3f, prevalence %.3f, bytes %lld..%lld, mean %.0f\n", auc, (double)ones / PEOPLE, (long long)shortest, (long long)longest, (double)total / PEOPLE);
    assert_int_equal(n, PEOPLE);
    assert_true(fabs((double)ones - expected) < 4 * sqrt(variance)); /* the labels are drawn with this risk */
    assert_true(fabs((double)ones / PEOPLE - 0.25) < 0.03);
    assert_true(auc > 0.83 && auc < 0.88);
    assert_true(shortest >= 30 && longest <= 400);
}

static void the_same_seed_gives_the_same_bytes_and_more_people_only_add_lines(void **state)
{
    size_t a_size, b_size, more_size, other_size;
    char *a = make_file(50, 3, &a_size), *b = make_file(50, 3, &b_size), *more = make_file(60, 3, &more_size), *other = make_file(50, 4, &other_size);

    (void)state;
    assert_int_equal(a_size, b_size);
    assert_memory_equal(a, b, a_size);
    assert_true(more_size > a_size);
    assert_memory_equal(a, more, a_size);
    assert_true(a_size != other_size || memcmp(a, other, a_size) != 0);
    cad_free(&a);
    cad_free(&b);
    cad_free(&more);
    cad_free(&other);
}

static void a_folder_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    assert_true(cad_synth_records("/nonexistent/folder/x.jsonl", 3, 1) != CAD_OK);
    assert_true(strlen(cad_reason()) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLEAN_TEST(records_are_json_and_their_risk_is_in_the_text),
        CLEAN_TEST(the_same_seed_gives_the_same_bytes_and_more_people_only_add_lines),
        CLEAN_TEST(a_folder_that_is_not_there_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
