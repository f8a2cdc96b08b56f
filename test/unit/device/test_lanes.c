/* Second queues, ramps and the clock of operations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <cadtrain/device.h>

enum { N = 64 };

static cad_device *open_device(const char *name)
{
    cad_device *d;

    assert_int_equal(cad_device_open(&d, name, 1), CAD_OK);
    assert_int_equal(cad_device_reserve(d, 1 << 16), CAD_OK);
    return d;
}

static void note(void *with) { ++*(int *)with; }

static void a_call_waits_for_its_turn(void **state)
{
    cad_device *d = open_device("emulated");
    cad_lane *l;
    int first = 0, second = 0;

    (void)state;
    assert_true(cad_device_has_lanes(d));
    assert_int_equal(cad_lane_open(&l, d), CAD_OK);
    assert_null(cad_lane_native(l));
    assert_int_equal(cad_lane_follow(l), CAD_OK);
    assert_int_equal(cad_lane_later(l, note, &first), CAD_OK);
    assert_int_equal(cad_lane_mark(l, 3), CAD_OK);
    assert_int_equal(cad_lane_later(l, note, &second), CAD_OK);
    assert_int_equal(first, 0);
    assert_int_equal(cad_lane_before(l, 3), CAD_OK);
    assert_int_equal(cad_device_sync(d), CAD_OK);
    assert_int_equal(first, 1);
    assert_int_equal(second, 0);
    assert_int_equal(cad_lane_wait(l), CAD_OK);
    assert_int_equal(second, 1);
    cad_lane_close(&l);
    assert_int_equal(cad_device_close(&d), CAD_OK);
}

static void a_mark_that_was_never_set_is_not_waited_for(void **state)
{
    cad_device *d = open_device("emulated");
    cad_lane *l;

    (void)state;
    assert_int_equal(cad_lane_open(&l, d), CAD_OK);
    assert_int_equal(cad_lane_before(l, 0), CAD_EINTERNAL);
    cad_clear();
    cad_lane_close(&l);
    assert_int_equal(cad_device_close(&d), CAD_OK);
}

static void other_devices_have_no_lanes(void **state)
{
    static const char *const names[] = {"cpu", "ref", "check:cpu", "plan:emulated"};

    (void)state;
    for (int i = 0; i < 4; i++) {
        cad_device *d = open_device(names[i]);
        cad_lane *l;
        assert_false(cad_device_has_lanes(d));
        assert_int_equal(cad_lane_open(&l, d), CAD_EUSAGE);
        assert_non_null(strstr(cad_reason(), "one queue"));
        assert_null(l);
        cad_clear();
        assert_int_equal(cad_device_close(&d), CAD_OK);
    }
}

static void what_goes_up_a_ramp_arrives_as_it_was(void **state)
{
    static const char *const names[] = {"cpu", "emulated", "check:cpu", "plan:cpu"};

    (void)state;
    for (int i = 0; i < 4; i++) {
        cad_device *d = open_device(names[i]);
        cad_ramp *r;
        int32_t host[N], back[N], *up;
        assert_int_equal(cad_device_alloc(d, &up, sizeof host, "numbers"), CAD_OK);
        assert_int_equal(cad_ramp_open(&r, d, sizeof host, "numbers on their way"), CAD_OK);
        for (int turn = 0; turn < 5; turn++) {
            assert_int_equal(cad_ramp_turn(r), CAD_OK);
            for (int k = 0; k < N; k++) host[k] = 100 * turn + k;
            assert_int_equal(cad_ramp_up(r, up, host, sizeof host / 2), CAD_OK);
            assert_int_equal(cad_ramp_up(r, up + N / 2, host + N / 2, sizeof host / 2), CAD_OK);
            memset(host, 0x5a, sizeof host); /* the caller's again */
            assert_int_equal(cad_device_download(d, back, up, sizeof back), CAD_OK);
            for (int k = 0; k < N; k++) assert_int_equal(back[k], cad_device_pretends(d) ? 0 : 100 * turn + k);
        }
        cad_ramp_close(&r);
        cad_device_free(d, &up);
        assert_int_equal(cad_device_close(&d), CAD_OK);
    }
}

static void more_than_a_ramp_holds_is_refused(void **state)
{
    cad_device *d = open_device("emulated");
    cad_ramp *r;
    int32_t host[N] = {0}, *up;

    (void)state;
    assert_int_equal(cad_device_alloc(d, &up, sizeof host, "numbers"), CAD_OK);
    assert_int_equal(cad_ramp_open(&r, d, 8, "numbers on their way"), CAD_OK);
    assert_int_equal(cad_ramp_turn(r), CAD_OK);
    assert_int_equal(cad_ramp_up(r, up, host, 8), CAD_OK);
    assert_int_equal(cad_ramp_up(r, up, host, 4), CAD_EINTERNAL);
    cad_clear();
    cad_ramp_close(&r);
    cad_device_free(d, &up);
    assert_int_equal(cad_device_close(&d), CAD_OK);
}

static void the_clock_runs_while_it_is_on(void **state)
{
    cad_device *d = open_device("emulated");
    const char *name;
    double seconds, axpby = 0;
    float *x;

    (void)state;
    assert_int_equal(cad_device_alloc(d, &x, N * 4, "numbers"), CAD_OK);
    assert_int_equal(cad_device_zero(d, x, N * 4), CAD_OK);
    cad_tensor t = cad_view(x, CAD_F32, 1, N);
    cad_axpby_args a = {.y = t, .x = t, .alpha = 2};
    for (int on = 0; on < 2; on++) {
        cad_device_time(d, on);
        assert_int_equal(cad_axpby(d, &a), CAD_OK);
        for (int i = 0; cad_device_timed(d, i, &name, &seconds); i++)
            if (!strcmp(name, "axpby")) axpby = seconds;
            else assert_true(seconds == 0);
        assert_int_equal(axpby > 0, on);
    }
    cad_device_free(d, &x);
    assert_int_equal(cad_device_close(&d), CAD_OK);
}

static void nothing_stays_allocated(void **state)
{
    (void)state;
    assert_int_equal(cad_mem_blocks(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_waits_for_its_turn),
        cmocka_unit_test(a_mark_that_was_never_set_is_not_waited_for),
        cmocka_unit_test(other_devices_have_no_lanes),
        cmocka_unit_test(what_goes_up_a_ramp_arrives_as_it_was),
        cmocka_unit_test(more_than_a_ramp_holds_is_refused),
        cmocka_unit_test(the_clock_runs_while_it_is_on),
        cmocka_unit_test(nothing_stays_allocated),
    };
    return cmocka_run_group_tests_name("lanes, ramps and the clock", tests, NULL, NULL);
}
