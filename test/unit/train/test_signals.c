#include "../base/scratch.h"

#include <pthread.h>
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

/* ---- while the processor multiplies ---- */

static void *storm(void *over)
{
    while (!__atomic_load_n((bool *)over, __ATOMIC_RELAXED)) {
        kill(getpid(), SIGUSR1);
        usleep(50);
    }
    return NULL;
}

static void multiply(cad_device *d, float *values, int rounds)
{
    static const int64_t shapes[][3] = {{28, 64, 176}, {28, 176, 64}, {64, 176, 28}, {258, 64, 28}};

    for (int r = 0; r < rounds; r++)
        for (int s = 0; s < 8; s++) {
            int64_t m = shapes[s / 2][0], n = shapes[s / 2][1], k = shapes[s / 2][2];
            cad_matmul_args x = {.c = cad_view(values, CAD_F32, m, n), .a = cad_view(values + 65536, CAD_F32, m, k), .alpha = 1, .tb = s % 2,
                                 .b = s % 2 ? cad_view(values + 131072, CAD_F32, n, k) : cad_view(values + 131072, CAD_F32, k, n)};
            if (cad_matmul(d, &x)) _exit(2);
        }
}

/* oneDNN frees its blocks after each product: the C library finds them damaged. */
static void signals_during_products_leave_memory_as_it_is(void **state)
{
    int status;
    pid_t pid = fork();

    (void)state;
    if (!pid) {
        cad_device *d;
        pthread_t thread;
        bool over = false;
        float *values;
        if (cad_device_open(&d, "cpu", 2)) _exit(0); /* a machine that the cpu backend refuses */
        if (cad_device_alloc(d, &values, 3 * 65536 * sizeof(float), "values") || cad_device_reserve(d, 1 << 24)) _exit(2);
        cad_signals_setup();
        if (pthread_create(&thread, NULL, storm, &over)) _exit(2);
        multiply(d, values, 600);
        __atomic_store_n(&over, true, __ATOMIC_RELAXED);
        pthread_join(thread, NULL);
        _exit(cad_signals_stop() == SIGUSR1 ? 0 : 3);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_that_ask_to_stop_set_the_flag),
        cmocka_unit_test(a_signal_that_follows_does_not_touch_the_flag),
        cmocka_unit_test(a_second_interrupt_ends_the_process_at_once),
        cmocka_unit_test(signals_during_products_leave_memory_as_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
