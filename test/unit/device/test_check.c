/* Planted faults are found by the checking device, each with a sentence that names it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../../src/device/device_priv.h"

static cad_device *open_checker(void)
{
    cad_device *d;

    cad_clear();
    assert_int_equal(cad_device_open(&d, "check", 1), CAD_OK);
    return d;
}

static float *take(cad_device *d, int64_t n, const char *what)
{
    float *p;

    assert_int_equal(cad_device_alloc(d, &p, n * (int64_t)sizeof *p, what), CAD_OK);
    return p;
}

static void says(cad_status status, const char *words)
{
    assert_int_equal(status, CAD_EINTERNAL);
    if (!strstr(cad_reason(), words)) fail_msg("expected \"%s\" in \"%s\"", words, cad_reason());
    cad_clear();
}

static cad_status scale(cad_device *d, float *y, const float *x, int64_t n)
{
    return cad_axpby(d, &(cad_axpby_args){.y = cad_view(y, CAD_F32, 1, n), .x = cad_view((void *)(uintptr_t)x, CAD_F32, 1, n), .alpha = 2});
}

static void sound_use_passes(void **state)
{
    cad_device *d = open_checker();
    float *x = take(d, 3, "x"), *y = take(d, 3, "y"), back[3];

    (void)state;
    assert_int_equal(cad_device_upload(d, x, (float[]){1, 2, 3}, 12), CAD_OK);
    assert_int_equal(scale(d, y, x, 3), CAD_OK);
    assert_int_equal(cad_device_download(d, back, y, 12), CAD_OK);
    assert_true(back[0] == 2 && back[1] == 4 && back[2] == 6);
    cad_device_free(d, &x);
    cad_device_free(d, &y);
    assert_int_equal(cad_device_close(&d), CAD_OK);
    assert_null(d);
    assert_int_equal(cad_mem_blocks(), 0);
}

static void fresh_memory_is_not_a_number(void **state)
{
    cad_device *d = open_checker();
    float *x = take(d, 5, "x");

    (void)state;
    for (int i = 0; i < 5; i++) assert_true(x[i] != x[i]);
    cad_device_free(d, &x);
    assert_int_equal(cad_device_close(&d), CAD_OK);
}

static void a_write_past_the_end_is_found(void **state)
{
    cad_device *d = open_checker();
    float *x = take(d, 5, "weights");

    (void)state;
    ((volatile float *)x)[5] = 1;
    says(cad_device_sync(d), "weights (20 bytes) was written 0 bytes behind its end");
    cad_device_free(d, &x);
    says(cad_device_close(&d), "weights (20 bytes) was written");
}

static void a_write_before_the_start_is_found_when_the_block_is_freed(void **state)
{
    cad_device *d = open_checker();
    float *x = take(d, 5, "weights");

    (void)state;
    ((volatile float *)x)[-1] = 1;
    cad_device_free(d, &x);
    says(cad_device_sync(d), "4 bytes before its start");
    assert_int_equal(cad_device_close(&d), CAD_EINTERNAL);
}

static void a_read_of_what_was_never_written_names_the_argument(void **state)
{
    cad_device *d = open_checker();
    float *x = take(d, 4, "hidden"), *y = take(d, 4, "y");

    (void)state;
    assert_int_equal(cad_device_upload(d, x, (float[]){1, 2}, 8), CAD_OK);
    says(scale(d, y, x, 4), "axpby: x [1, 4] in hidden is read but (0, 2) was never written");
    assert_int_equal(cad_device_zero(d, x + 2, 8), CAD_OK);
    assert_int_equal(scale(d, y, x, 4), CAD_OK);
    cad_device_free(d, &x);
    cad_device_free(d, &y);
    assert_int_equal(cad_device_close(&d), CAD_OK);
}

static void an_operation_on_freed_memory_is_refused(void **state)
{
    cad_device *d = open_checker();
    float *x = take(d, 4, "x"), *y = take(d, 4, "y"), *stale = x;

    (void)state;
    assert_int_equal(cad_device_zero(d, x, 16), CAD_OK);
    cad_device_free(d, &x);
    says(scale(d, y, stale, 4), "axpby: x [1, 4] does not lie inside one block alive");
    says(cad_device_upload(d, stale, (float[]){1}, 4), "upload of 4 bytes");
    cad_device_free(d, &y);
    assert_int_equal(cad_device_close(&d), CAD_OK);
}

static void a_write_after_free_is_found(void **state)
{
    cad_device *d = open_checker();
    float *x = take(d, 4, "cache"), *stale = x;

    (void)state;
    cad_device_free(d, &x);
    *(volatile float *)stale = 1;
    says(cad_device_sync(d), "cache (16 bytes) was written after it was freed");
    assert_int_equal(cad_device_close(&d), CAD_EINTERNAL);
}

static void freed_memory_is_not_a_number(void **state)
{
    cad_device *d = open_checker();
    float *x = take(d, 4, "x"), *stale = x;

    (void)state;
    assert_int_equal(cad_device_zero(d, x, 16), CAD_OK);
    cad_device_free(d, &x);
    assert_true(stale[3] != stale[3]);
    assert_int_equal(cad_device_close(&d), CAD_OK);
}

static void many_freed_blocks_are_given_back_in_the_end(void **state)
{
    cad_device *d = open_checker();

    (void)state;
    for (int i = 0; i < 200; i++) {
        float *x = take(d, 1 + i, "x");
        cad_device_free(d, &x);
    }
    assert_int_equal(cad_device_bytes(d), 0);
    assert_int_equal(cad_device_close(&d), CAD_OK);
    assert_int_equal(cad_mem_blocks(), 0);
}

static void a_leak_is_named_and_freed(void **state)
{
    cad_device *d = open_checker();
    float *x = take(d, 4, "forgotten");

    (void)state;
    assert_non_null(x);
    says(cad_device_close(&d), "closed with 1 blocks alive, the first is forgotten (16 bytes)");
    assert_int_equal(cad_mem_blocks(), 0);
}

static void freeing_twice_is_told(void **state)
{
    cad_device *d = open_checker();
    float *x = take(d, 4, "x"), *again = x;

    (void)state;
    cad_device_free(d, &x);
    cad_device_free(d, &again);
    says(cad_device_sync(d), "freed twice");
    assert_int_equal(cad_device_close(&d), CAD_EINTERNAL);
}

static void a_packing_that_differs_on_the_device_is_found(void **state)
{
    cad_device *d = open_checker();
    int32_t *starts;
    float *x = take(d, 6, "x"), *y = take(d, 3, "y");
    cad_packing p = {.tokens = 2, .sequences = 1, .longest = 2, .starts = (const int32_t[]){0, 2}};

    (void)state;
    assert_int_equal(cad_device_alloc(d, &starts, 8, "starts"), CAD_OK);
    assert_int_equal(cad_device_zero(d, starts, 8), CAD_OK);
    assert_int_equal(cad_device_zero(d, x, 24), CAD_OK);
    p.starts_dev = starts;
    says(cad_pool_fwd(d, &(cad_pool_args){.y = cad_view(y, CAD_F32, 1, 3), .x = cad_view(x, CAD_F32, 2, 3), .packing = &p}), "packing.starts differ");
    cad_device_free(d, &x);
    cad_device_free(d, &y);
    cad_device_free(d, &starts);
    assert_int_equal(cad_device_close(&d), CAD_OK);
}

/* A backend with faults in it. */

static cad_status lazy(cad_device *d, const cad_axpby_args *x, void *work)
{
    (void)d, (void)x, (void)work;
    return CAD_OK;
}

static cad_status greedy(cad_device *d, const cad_axpby_args *x, void *work)
{
    CAD_TRY(cadp_device_ref.axpby(d, x, work));
    ((volatile float *)x->y.data)[x->y.cols] = 0;
    return CAD_OK;
}

static cad_status sprawling(cad_device *d, const cad_axpby_args *x, void *work)
{
    CAD_TRY(cadp_device_ref.axpby(d, x, work));
    ((volatile char *)work)[8] = 0;
    return CAD_OK;
}

static int64_t eight(const cad_device *d, const cad_axpby_args *x)
{
    (void)d, (void)x;
    return 8;
}

static void fault_says(cad_status (*axpby)(cad_device *, const cad_axpby_args *, void *), const char *words)
{
    cad_device *d = open_checker();
    float *x = take(d, 3, "x"), *y = take(d, 3, "y");
    cadp_device_if faulty = cadp_device_ref;

    faulty.axpby = axpby;
    faulty.axpby_work = eight;
    d->inner = &faulty;
    assert_int_equal(cad_device_reserve(d, 64), CAD_OK);
    assert_int_equal(cad_device_zero(d, x, 12), CAD_OK);
    assert_int_equal(cad_device_zero(d, y, 12), CAD_OK);
    says(scale(d, y, x, 3), words);
    cad_device_free(d, &x);
    cad_device_free(d, &y);
    (void)cad_device_close(&d);
    cad_clear();
    assert_int_equal(cad_mem_blocks(), 0);
}

static void a_backend_that_leaves_its_result_unwritten_is_found(void **state)
{
    (void)state;
    fault_says(lazy, "axpby: (0, 0) of y [1, 3] in y was left unwritten");
}

static void a_backend_that_writes_past_its_result_is_found(void **state)
{
    (void)state;
    fault_says(greedy, "y (12 bytes) was written 0 bytes behind its end");
}

static void a_backend_that_outgrows_its_work_space_is_found(void **state)
{
    (void)state;
    fault_says(sprawling, "wrote behind the 8 bytes of work space");
}

static void no_failed_allocation_leaks(void **state)
{
    cad_device *d;
    void *p;

    (void)state;
    for (int64_t nth = 1;; nth++) {
        cad_clear();
        cad_mem_fail_at(nth);
        cad_status status = cad_device_open(&d, "check", 1);
        if (status) assert_null(d);
        if (!status) {
            status = cad_device_alloc(d, &p, 100, "p");
            cad_device_free(d, &p);
            assert_int_equal(cad_device_close(&d), CAD_OK);
        }
        cad_mem_fail_at(0);
        assert_int_equal(cad_mem_blocks(), 0);
        if (!status) break;
        assert_int_equal(status, CAD_ERESOURCE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_use_passes),
        cmocka_unit_test(fresh_memory_is_not_a_number),
        cmocka_unit_test(a_write_past_the_end_is_found),
        cmocka_unit_test(a_write_before_the_start_is_found_when_the_block_is_freed),
        cmocka_unit_test(a_read_of_what_was_never_written_names_the_argument),
        cmocka_unit_test(an_operation_on_freed_memory_is_refused),
        cmocka_unit_test(a_write_after_free_is_found),
        cmocka_unit_test(freed_memory_is_not_a_number),
        cmocka_unit_test(many_freed_blocks_are_given_back_in_the_end),
        cmocka_unit_test(a_leak_is_named_and_freed),
        cmocka_unit_test(freeing_twice_is_told),
        cmocka_unit_test(a_packing_that_differs_on_the_device_is_found),
        cmocka_unit_test(a_backend_that_leaves_its_result_unwritten_is_found),
        cmocka_unit_test(a_backend_that_writes_past_its_result_is_found),
        cmocka_unit_test(a_backend_that_outgrows_its_work_space_is_found),
        cmocka_unit_test(no_failed_allocation_leaks),
    };
    return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
