#include "../base/scratch.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cadtrain/train.h>

/* What a child that raises these signals (0 ends the list) ends with. */
static int child(const int *signals, int expected)
{
    int status;
    pid_t pid = fork();

    if (!pid) {
        cad_signals_setup();
        for (; *signals; signals++) raise(*signals);
        _exit(cad_signals_stop() == expected ? 0 : 1);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void signals_that_ask_to_stop_set_the_flag(void **state)
{
    (void)state;
    assert_int_equal(child((int[]){0}, 0), 0);
    assert_int_equal(child((int[]){SIGTERM, 0}, SIGTERM), 0);
    assert_int_equal(child((int[]){SIGUSR1, 0}, SIGUSR1), 0);
    assert_int_equal(child((int[]){SIGINT, 0}, SIGINT), 0);
    assert_int_equal(child((int[]){SIGUSR1, SIGTERM, SIGTERM, 0}, SIGUSR1), 0);
}

static void a_signal_that_follows_does_not_touch_the_flag(void **state)
{
    (void)state;
    assert_int_equal(child((int[]){SIGUSR1, SIGCONT, SIGPIPE, 0}, SIGUSR1), 0);
    assert_int_equal(child((int[]){SIGCONT, SIGPIPE, 0}, 0), 0);
}

static void a_second_interrupt_ends_the_process_at_once(void **state)
{
    int status = child((int[]){SIGINT, SIGINT, 0}, SIGINT);

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGINT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_that_ask_to_stop_set_the_flag),
        cmocka_unit_test(a_signal_that_follows_does_not_touch_the_flag),
        cmocka_unit_test(a_second_interrupt_ends_the_process_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
