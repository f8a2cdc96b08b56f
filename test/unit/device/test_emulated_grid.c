/* The emulated grid refuses what a GPU would get wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../src/device/cuda/emulated_grid.h"

enum { THREADS = 96 };

static int run(void (*body)(void *), void *with, cadp_dim blocks, int64_t shared)
{
    cadp_emulator *e;

    assert_int_equal(cadp_emulator_open(&e), CAD_OK);
    cadp_emulator_run(e, blocks, THREADS, shared, body, with);
    cadp_emulator_close(&e);
    return (int)cad_mem_blocks();
}

/* Whether a kernel ends the process, as a wrong program does. */
static bool is_refused(void (*body)(void *))
{
    int status;
    pid_t child = fork();

    if (!child) {
        if (!freopen("/dev/null", "w", stderr)) _exit(1);
        run(body, NULL, (cadp_dim){1, 1, 1}, 64);
        _exit(0);
    }
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) || WEXITSTATUS(status);
}

static void reverse(void *with)
{
    int *out = with, *shared = cadp_here->shared, t = cadp_here->thread;

    shared[t] = 10 * t;
    cadp_block_barrier();
    out[cadp_here->block.y * THREADS + t] = shared[THREADS - 1 - t] + cadp_here->block.y;
}

static void a_barrier_holds_until_every_thread_of_the_block_has_come(void **state)
{
    int out[2 * THREADS];

    (void)state;
    assert_int_equal(run(reverse, out, (cadp_dim){1, 2, 1}, THREADS * (int64_t)sizeof(int)), 0);
    for (int b = 0; b < 2; b++)
        for (int t = 0; t < THREADS; t++) assert_int_equal(out[b * THREADS + t], 10 * (THREADS - 1 - t) + b);
}

static void turn_lanes(void *with)
{
    int *out = with, t = cadp_here->thread;

    for (int round = 1; round < 4; round++) {
        int mine = t * round, got;
        memcpy(&got, cadp_exchange(&mine, sizeof mine) + (t + 1) % CADP_LANES * CADP_SLOT, sizeof got);
        out[t] = round == 1 ? got : out[t] + got;
    }
}

static void lanes_see_what_each_other_brought(void **state)
{
    int out[THREADS];

    (void)state;
    assert_int_equal(run(turn_lanes, out, (cadp_dim){1, 1, 1}, 0), 0);
    for (int t = 0; t < THREADS; t++) assert_int_equal(out[t], 6 * (t / 32 * 32 + (t + 1) % 32));
}

static void copy_two(void *with)
{
    int *out = with, *shared = cadp_here->shared, t = cadp_here->thread;
    static const int from[2] = {7, 9};

    if (t) return;
    shared[0] = shared[1] = 0;
    cadp_copy_later(&shared[0], &from[0], 4);
    cadp_copy_commit();
    cadp_copy_later(&shared[1], &from[1], 4);
    cadp_copy_commit();
    out[0] = shared[0];
    cadp_copy_wait(1);
    out[1] = shared[0];
    out[2] = shared[1];
    cadp_copy_wait(0);
    out[3] = shared[1];
}

static void a_copy_happens_when_it_is_waited_for(void **state)
{
    int out[4];

    (void)state;
    assert_int_equal(run(copy_two, out, (cadp_dim){1, 1, 1}, 8), 0);
    assert_int_equal(out[0], 0);
    assert_int_equal(out[1], 7);
    assert_int_equal(out[2], 0);
    assert_int_equal(out[3], 9);
}

static void two_barriers(void *with)
{
    (void)with;
    if (cadp_here->thread == 5)
        cadp_warp_barrier();
    else
        cadp_block_barrier();
}

static void lane_returned(void *with)
{
    (void)with;
    if (cadp_here->thread % 2) return;
    cadp_warp_barrier();
}

static void copy_forgotten(void *with)
{
    (void)with;
    cadp_copy_later(cadp_here->shared, with, 4);
    cadp_copy_commit();
}

static void kernels_that_would_hang_or_race_are_refused(void **state)
{
    (void)state;
    assert_true(is_refused(two_barriers));
    assert_true(is_refused(lane_returned));
    assert_true(is_refused(copy_forgotten));
}

static void threads_that_returned_are_not_waited_for(void *with)
{
    int *out = with;

    if (cadp_here->thread >= 64) return;
    cadp_block_barrier();
    if (!cadp_here->thread) out[0] = 1;
}

static void those_that_returned_are_not_waited_for(void **state)
{
    int out[1] = {0};

    (void)state;
    assert_int_equal(run(threads_that_returned_are_not_waited_for, out, (cadp_dim){1, 1, 1}, 0), 0);
    assert_int_equal(out[0], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_barrier_holds_until_every_thread_of_the_block_has_come),
        cmocka_unit_test(lanes_see_what_each_other_brought),
        cmocka_unit_test(a_copy_happens_when_it_is_waited_for),
        cmocka_unit_test(kernels_that_would_hang_or_race_are_refused),
        cmocka_unit_test(those_that_returned_are_not_waited_for),
    };
    return cmocka_run_group_tests_name("the emulated grid", tests, NULL, NULL);
}
