/* Streams and events of the emulated device, early and late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include <cadtrain/device.h>

#include "../../../src/device/cuda/emulated_rt.h"

static int before_each(void **state)
{
    (void)state;
    cad_clear();
    setenv("CADTRAIN_EMULATED_STREAMS", "late", 1);
    return 0;
}

static int after_each(void **state)
{
    (void)state;
    unsetenv("CADTRAIN_EMULATED_STREAMS");
    unsetenv("CADTRAIN_EMULATED_FAULT");
    cad_clear();
    return (int)cad_mem_blocks();
}

static void a_late_stream_does_nothing_before_somebody_waits(void **state)
{
    cadp_stream *s;
    int from = 7, to = 0;

    (void)state;
    assert_int_equal(GRID(stream_open)(&s), CAD_OK);
    assert_int_equal(GRID(stream_copy)(s, &to, &from, sizeof to), CAD_OK);
    assert_int_equal(to, 0);
    assert_int_equal(GRID(stream_wait)(s), CAD_OK);
    assert_int_equal(to, 7);
    GRID(stream_close)(&s);
}

/* The second stream reads what the first writes: only the event brings them into order. */
static int read_by_another_stream(bool asks)
{
    cadp_stream *first, *second;
    cadp_event *done;
    int source = 7, between = 0, end = 0;

    assert_int_equal(GRID(stream_open)(&first), CAD_OK);
    assert_int_equal(GRID(stream_open)(&second), CAD_OK);
    assert_int_equal(GRID(event_open)(&done), CAD_OK);
    for (int i = 0; i < 100; i++) assert_int_equal(GRID(stream_copy)(first, &end, NULL, sizeof end), CAD_OK);
    assert_int_equal(GRID(stream_copy)(first, &between, &source, sizeof between), CAD_OK);
    assert_int_equal(GRID(event_record)(done, first), CAD_OK);
    if (asks) assert_int_equal(GRID(stream_after)(second, done), CAD_OK);
    assert_int_equal(GRID(stream_copy)(second, &end, &between, sizeof end), CAD_OK);
    assert_int_equal(GRID(stream_wait)(second), CAD_OK);
    int seen = end;
    assert_int_equal(GRID(stream_wait)(first), CAD_OK);
    GRID(event_close)(&done);
    GRID(stream_close)(&second);
    GRID(stream_close)(&first);
    return seen;
}

static void an_event_orders_two_streams_and_nothing_else_does(void **state)
{
    (void)state;
    assert_int_equal(read_by_another_stream(true), 7);
    assert_int_equal(read_by_another_stream(false), 0);
}

static void an_event_that_was_never_recorded_is_refused(void **state)
{
    cadp_stream *s;
    cadp_event *e;

    (void)state;
    assert_int_equal(GRID(stream_open)(&s), CAD_OK);
    assert_int_equal(GRID(event_open)(&e), CAD_OK);
    assert_int_equal(GRID(stream_after)(s, e), CAD_EINTERNAL);
    GRID(event_close)(&e);
    GRID(stream_close)(&s);
}

/* What fails on the device is told where the host next waits for it. */
static void a_fault_is_told_at_the_next_wait(void **state)
{
    cad_device *d;
    float *at, value = 0;

    (void)state;
    setenv("CADTRAIN_EMULATED_FAULT", "3", 1);
    assert_int_equal(cad_device_open(&d, "emulated", 1), CAD_OK);
    assert_int_equal(cad_device_alloc(d, &at, 4, "a number"), CAD_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(cad_axpby(d, &(cad_axpby_args){.y = cad_view(at, CAD_F32, 1, 1), .x = cad_view(at, CAD_F32, 1, 1), .alpha = 1}), CAD_OK);
    assert_int_equal(cad_device_download(d, &value, at, 4), CAD_EINTERNAL);
    assert_non_null(strstr(cad_reason(), "failed at thing 3"));
    cad_device_free(d, &at);
    assert_int_equal(cad_device_close(&d), CAD_EINTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_late_stream_does_nothing_before_somebody_waits, before_each, after_each),
        cmocka_unit_test_setup_teardown(an_event_orders_two_streams_and_nothing_else_does, before_each, after_each),
        cmocka_unit_test_setup_teardown(an_event_that_was_never_recorded_is_refused, before_each, after_each),
        cmocka_unit_test_setup_teardown(a_fault_is_told_at_the_next_wait, before_each, after_each),
    };
    return cmocka_run_group_tests_name("streams of the emulated device", tests, NULL, NULL);
}
