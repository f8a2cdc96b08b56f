#include "scratch.h"

#include <fcntl.h>
#include <unistd.h>

/* What `talk` prints on descriptor `fd`. */
static char *printed(int fd, void (*talk)(void))
{
    char *text = NULL;
    size_t n;
    FILE *f = fopen(in_scratch("printed"), "w");
    int kept = dup(fd);

    assert_non_null(f);
    fflush(NULL);
    dup2(fileno(f), fd);
    talk();
    fflush(NULL);
    dup2(kept, fd);
    close(kept);
    fclose(f);
    assert_int_equal(cad_read_file(&text, &n, in_scratch("printed"), 1 << 20, CAD_EDATA), CAD_OK);
    return text;
}

static void expect_printed(int fd, void (*talk)(void), const char *expected)
{
    char *text = printed(fd, talk);

    assert_string_equal(text, expected);
    cad_free(&text);
}

static void inform(void)
{
    cad_info("step %d", 1);
    cad_debug("detail %d", 2);
}

static void warn_often(void)
{
    for (int i = 1; i <= 20; i++) cad_warn("rows", "row %d is odd", i);
    cad_warn("other", "once");
}

static void report(void)
{
    cad_clear();
    cad_print_failure();
    cad_fail(CAD_EDATA, "line 7 is bad");
    cad_advise("mend it");
    cad_print_failure();
    cad_clear();
}

static int yes(void) { return 1; }

static void a_reader_that_stopped_reading_does_not_hold_up_the_end(void **state)
{
    char full[4096];
    ssize_t n, room = 0, left = 0;
    int ends[2], kept = dup(STDOUT_FILENO);

    (void)state;
    memset(full, 'x', sizeof full);
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    while ((n = write(ends[1], full, sizeof full)) > 0) room += n;
    fflush(stdout);
    dup2(ends[1], STDOUT_FILENO);
    cad_print_while(yes);
    cad_print("dropped\n");
    cad_print_while(NULL);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    while ((n = read(ends[0], full, sizeof full)) > 0) left += n;
    assert_int_equal(left, room);
    close(ends[0]);
    close(ends[1]);
}

static void only_the_first_rank_informs_and_only_up_to_its_level(void **state)
{
    (void)state;
    expect_printed(1, inform, "step 1\n");
    cad_log_setup(0, 2, CAD_LOG_DEBUG);
    assert_int_equal(cad_log_level(), CAD_LOG_DEBUG);
    expect_printed(1, inform, "step 1\ndetail 2\n");
    cad_log_setup(0, 2, CAD_LOG_WARNING);
    expect_printed(1, inform, "");
    cad_log_setup(1, 2, CAD_LOG_INFO);
    expect_printed(1, inform, "");
    cad_log_setup(0, 1, CAD_LOG_INFO);
}

static void warnings_of_one_kind_stop_after_ten(void **state)
{
    (void)state;
    char *text = printed(2, warn_often);
    assert_non_null(strstr(text, "cadtrain: warning: row 10 is odd\n"));
    assert_null(strstr(text, "row 11"));
    assert_non_null(strstr(text, "further warnings about rows are not printed\ncadtrain: warning: once\n"));
    cad_free(&text);
}

static void a_failure_is_printed_with_rank_and_advice(void **state)
{
    (void)state;
    expect_printed(2, report, "cadtrain: error: failed without a reason\ncadtrain: error: line 7 is bad\n  mend it\n");
    cad_log_setup(1, 2, CAD_LOG_INFO);
    expect_printed(2, report, "cadtrain: error: rank 1: failed without a reason\ncadtrain: error: rank 1: line 7 is bad\n  mend it\n");
    cad_log_setup(0, 1, CAD_LOG_INFO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_that_stopped_reading_does_not_hold_up_the_end),
        cmocka_unit_test(only_the_first_rank_informs_and_only_up_to_its_level),
        cmocka_unit_test(warnings_of_one_kind_stop_after_ten),
        cmocka_unit_test(a_failure_is_printed_with_rank_and_advice),
    };
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
