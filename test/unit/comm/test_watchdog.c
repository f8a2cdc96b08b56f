#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cadtrain/comm.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Runs `work` in a child; gives its exit code (128 + signal) and what it wrote on stderr. */
static int run(void (*work)(void), char *text, size_t room)
{
    int ends[2], how;
    size_t used = 0;
    ssize_t n;

    assert_int_equal(pipe(ends), 0);
    int pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        work();
        _exit(0);
    }
    close(ends[1]);
    while ((n = read(ends[0], text + used, room - 1 - used)) > 0) used += (size_t)n;
    text[used] = 0;
    close(ends[0]);
    assert_int_equal(waitpid(pid, &how, 0), pid);
    return WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
}

static void hang(void)
{
    if (cad_watchdog_start(0.3, 5)) _exit(1);
    cad_watchdog_beat("waiting for the gather of block 3", 17);
    for (;;) pause();
}

static void a_hang_is_named_and_ends_with_124(void **state)
{
    char text[512];
    double began = now();

    (void)state;
    assert_int_equal(run(hang, text, sizeof text), 124);
    assert_string_equal(text, "cadtrain: error: rank 5: no progress for 0.3 s in step 17 while waiting for the gather of block 3\n");
    assert_true(now() - began >= 0.3);
}

static void hang_at_start(void)
{
    if (cad_watchdog_start(0.2, 0)) _exit(1);
    for (;;) pause();
}

static void a_hang_before_the_first_beat_is_found(void **state)
{
    char text[512];

    (void)state;
    assert_int_equal(run(hang_at_start, text, sizeof text), 124);
    assert_string_equal(text, "cadtrain: error: rank 0: no progress for 0.2 s in step 0 while starting\n");
}

static void go_on(void)
{
    if (cad_watchdog_start(1, 0)) _exit(1);
    for (int step = 0; step < 30; step++) {
        cad_watchdog_beat("working", step);
        usleep(40000);
    }
    cad_watchdog_stop();
}

static void beats_keep_it_quiet(void **state)
{
    char text[512];

    (void)state;
    assert_int_equal(run(go_on, text, sizeof text), 0);
    assert_string_equal(text, "");
}

static void rest(void)
{
    double quickest = 1;

    for (int round = 0; round < 5; round++) {
        if (cad_watchdog_start(10, 0)) _exit(1);
        double began = now();
        cad_watchdog_stop();
        if (now() - began < quickest) quickest = now() - began;
    }
    if (quickest > 0.1) _exit(2); /* stopping does not wait for a nap to end */
    if (cad_watchdog_start(0.3, 0)) _exit(1);
    cad_watchdog_beat("working", 1);
    cad_watchdog_stop();
    cad_watchdog_stop();
    if (cad_watchdog_start(0, 0)) _exit(3);
    usleep(500000);
    cad_watchdog_stop();
}

static void a_stopped_watchdog_and_one_of_0_seconds_never_bark(void **state)
{
    char text[512];

    (void)state;
    assert_int_equal(run(rest, text, sizeof text), 0);
    assert_string_equal(text, "");
}

static void be_suspended(void)
{
    int parent = getpid();

    if (fork() == 0) {
        usleep(200000);
        kill(parent, SIGSTOP);
        usleep(2500000);
        kill(parent, SIGCONT);
        _exit(0);
    }
    if (cad_watchdog_start(2, 0)) _exit(1);
    double began = now();
    while (now() - began < 2.9) { /* hangs for 0.4 s besides the 2.5 s in which it is stopped */
    }
    cad_watchdog_stop();
}

static void time_in_which_the_process_was_stopped_does_not_count(void **state)
{
    char text[512];

    (void)state;
    assert_int_equal(run(be_suspended, text, sizeof text), 0);
    assert_string_equal(text, "");
}

static void nothing_stays_allocated(void **state)
{
    (void)state;
    int64_t blocks = cad_mem_blocks();
    assert_int_equal(cad_watchdog_start(10, 0), CAD_OK);
    cad_watchdog_stop();
    assert_int_equal(cad_mem_blocks(), blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hang_is_named_and_ends_with_124),
        cmocka_unit_test(a_hang_before_the_first_beat_is_found),
        cmocka_unit_test(beats_keep_it_quiet),
        cmocka_unit_test(a_stopped_watchdog_and_one_of_0_seconds_never_bark),
        cmocka_unit_test(time_in_which_the_process_was_stopped_does_not_count),
        cmocka_unit_test(nothing_stays_allocated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
