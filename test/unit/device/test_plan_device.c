/* The plan counts what a run would, and touches nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include <cadtrain/device.h>

typedef struct account { int64_t bytes, peak, allocs, launches, work; double flops; } account;

static cad_device *open_as(const char *name)
{
    cad_device *d;

    cad_clear();
    assert_int_equal(cad_device_open(&d, name, 1), CAD_OK);
    return d;
}

/* A small step: two products and attention over two sequences, with blocks that come and go. */
static account step(const char *name)
{
    enum { T = 7, H = 8 };
    cad_device *d = open_as(name);
    cad_packing p = {.tokens = T, .sequences = 2, .longest = 4, .starts = (const int32_t[]){0, 3, 7}};
    float *x, *y, *lse, host[T * H] = {0};
    void *starts, *extra;
    account a;

    assert_int_equal(cad_device_reserve(d, 4096), CAD_OK);
    assert_int_equal(cad_device_alloc(d, &x, sizeof host, "x"), CAD_OK);
    assert_int_equal(cad_device_alloc(d, &y, sizeof host, "y"), CAD_OK);
    assert_int_equal(cad_device_alloc(d, &lse, T * 2 * 4, "lse"), CAD_OK);
    assert_int_equal(cad_device_alloc(d, &starts, 12, "starts"), CAD_OK);
    assert_int_equal(cad_device_alloc(d, &extra, 1000, "extra"), CAD_OK);
    cad_device_free(d, &extra);
    assert_int_equal(cad_device_upload(d, starts, p.starts, 12), CAD_OK);
    assert_int_equal(cad_device_zero(d, x, sizeof host), CAD_OK);
    p.starts_dev = starts;
    cad_tensor tx = cad_view(x, CAD_F32, T, H), ty = cad_view(y, CAD_F32, T, H);
    assert_int_equal(cad_matmul(d, &(cad_matmul_args){.c = ty, .a = tx, .b = cad_slice(tx, 0, 7), .ta = false, .tb = true, .alpha = 1}), CAD_EINTERNAL);
    cad_clear();
    assert_int_equal(cad_matmul(d, &(cad_matmul_args){.c = cad_columns(ty, 0, 7), .a = tx, .b = tx, .tb = true, .alpha = 1}), CAD_OK);
    assert_int_equal(cad_attention_fwd(d, &(cad_attention_args){.q = tx, .k = cad_columns(tx, 0, 4), .v = cad_columns(tx, 4, 4), .o = ty, .lse = cad_view(lse, CAD_F32, T, 2),
                     .head_dim = 4, .q_heads = 2, .kv_heads = 1, .scale = 0.5, .causal = true, .packing = &p}), CAD_OK);
    assert_int_equal(cad_device_download(d, host, y, sizeof host), CAD_OK);
    assert_int_equal(cad_device_sync(d), CAD_OK);
    a = (account){cad_device_bytes(d), cad_device_peak(d), cad_device_allocs(d), cad_device_launches(d), cad_device_work_needed(d), cad_device_flops(d)};
    cad_device_free(d, &x);
    cad_device_free(d, &y);
    cad_device_free(d, &lse);
    cad_device_free(d, &starts);
    assert_int_equal(cad_device_close(&d), CAD_OK);
    assert_int_equal(cad_mem_blocks(), 0);
    return a;
}

static void the_plan_counts_as_the_run_does(void **state)
{
    account plan = step("plan:ref"), run = step("ref"), check = step("check:ref");

    (void)state;
    assert_memory_equal(&plan, &run, sizeof plan);
    assert_memory_equal(&check, &run, sizeof plan);
}

static void counts_are_those_of_the_formulas(void **state)
{
    account a = step("plan:ref");
    int64_t alive = 4096 + 2 * 7 * 8 * 4 + 7 * 2 * 4 + 12;

    (void)state;
    assert_int_equal(a.bytes, alive);
    assert_int_equal(a.peak, alive + 1000);
    assert_int_equal(a.allocs, 6);
    assert_int_equal(a.launches, 2);
    assert_true(a.flops == 2.0 * 7 * 7 * 8 + 4.0 * 4 * 2 * (3 * 4 / 2 + 4 * 5 / 2));
}

static double attention_flops(int64_t window, bool causal, bool backward)
{
    cad_device *d = open_as("plan:ref");
    cad_packing p = {.tokens = 11, .sequences = 2, .longest = 10, .starts = (const int32_t[]){0, 10, 11}};
    cad_tensor t[9];
    void *block[10];
    double flops;

    for (int i = 0; i < 9; i++) {
        assert_int_equal(cad_device_alloc(d, &block[i], 11 * 2 * 4, "t"), CAD_OK);
        t[i] = cad_view(block[i], CAD_F32, 11, 2);
    }
    assert_int_equal(cad_device_alloc(d, &block[9], 12, "starts"), CAD_OK);
    p.starts_dev = block[9];
    cad_attention_args f = {.q = t[0], .k = t[1], .v = t[2], .o = t[3], .lse = cad_view(block[4], CAD_F32, 11, 1), .head_dim = 2, .q_heads = 1, .kv_heads = 1,
                            .window = window, .scale = 1, .causal = causal, .packing = &p};
    assert_int_equal(backward ? cad_attention_bwd(d, &(cad_attention_bwd_args){f, t[5], t[6], t[7], t[8]}) : cad_attention_fwd(d, &f), CAD_OK);
    flops = cad_device_flops(d);
    for (int i = 0; i < 10; i++) cad_device_free(d, &block[i]);
    assert_int_equal(cad_device_close(&d), CAD_OK);
    return flops;
}

static double pairs_by_counting(int64_t window, bool causal)
{
    double pairs = 0;

    for (int64_t n = 1; n <= 10; n += 9)
        for (int64_t q = 0; q < n; q++)
            for (int64_t k = 0; k < n; k++) pairs += (!causal || k <= q) && (!window || k > q - window);
    return pairs;
}

static void attention_counts_the_pairs_that_see_each_other(void **state)
{
    (void)state;
    for (int64_t window = 0; window < 12; window++)
        for (int causal = 0; causal < 2; causal++) {
            assert_true(attention_flops(window, causal, false) == 4 * 2 * pairs_by_counting(window, causal));
            assert_true(attention_flops(window, causal, true) == 10 * 2 * pairs_by_counting(window, causal));
        }
}

static void a_terabyte_is_planned_at_once(void **state)
{
    cad_device *d = open_as("plan:ref");
    void *a, *b;

    (void)state;
    assert_true(cad_device_pretends(d));
    assert_int_equal(cad_device_alloc(d, &a, (int64_t)1 << 40, "a"), CAD_OK);
    assert_int_equal(cad_device_alloc(d, &b, 0, "b"), CAD_OK);
    assert_ptr_not_equal(a, b);
    assert_int_equal(cad_device_bytes(d), (int64_t)1 << 40);
    assert_int_equal(cad_device_zero(d, a, (int64_t)1 << 40), CAD_OK);
    assert_int_equal(cad_device_copy(d, a, (char *)a + 4096, 4096), CAD_OK);
    cad_device_free(d, &a);
    cad_device_free(d, &b);
    assert_int_equal(cad_device_close(&d), CAD_OK);
}

static void a_download_gives_zeroes(void **state)
{
    cad_device *d = open_as("plan:ref");
    char host[100];
    void *a;

    (void)state;
    memset(host, 1, sizeof host);
    assert_int_equal(cad_device_alloc(d, &a, 100, "a"), CAD_OK);
    assert_int_equal(cad_device_upload(d, a, host, 100), CAD_OK);
    assert_int_equal(host[99], 1);
    assert_int_equal(cad_device_download(d, host, a, 99), CAD_OK);
    assert_int_equal(host[0], 0);
    assert_int_equal(host[98], 0);
    assert_int_equal(host[99], 1);
    cad_device_free(d, &a);
    assert_int_equal(cad_device_close(&d), CAD_OK);
}

static void reading_an_address_of_the_plan_faults(void **state)
{
    cad_device *d = open_as("plan:ref");
    volatile char *a;
    int status = 0;

    (void)state;
    assert_int_equal(cad_device_alloc(d, &a, 100, "a"), CAD_OK);
    pid_t child = fork();
    if (!child) {
        signal(SIGSEGV, SIG_DFL);
        (void)a[50];
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    cad_device_free(d, &a);
    assert_int_equal(cad_device_close(&d), CAD_OK);
}

static void too_little_work_space_is_refused_by_a_run_and_recorded_by_the_plan(void **state)
{
    const char *names[] = {"plan:ref", "ref"};
    cad_packing p = {.tokens = 100, .sequences = 1, .longest = 100, .starts = (const int32_t[]){0, 100}};

    (void)state;
    for (int i = 0; i < 2; i++) {
        cad_device *d = open_as(names[i]);
        void *b[4], *starts;
        for (int k = 0; k < 4; k++) assert_int_equal(cad_device_alloc(d, &b[k], 400, "b"), CAD_OK);
        assert_int_equal(cad_device_alloc(d, &starts, 8, "starts"), CAD_OK);
        assert_int_equal(cad_device_upload(d, starts, p.starts, 8), CAD_OK);
        p.starts_dev = starts;
        cad_tensor q = cad_view(b[0], CAD_F32, 100, 1);
        assert_int_equal(cad_device_reserve(d, 64), CAD_OK);
        assert_int_equal(cad_attention_fwd(d, &(cad_attention_args){.q = q, .k = q, .v = q, .o = cad_view(b[1], CAD_F32, 100, 1), .lse = cad_view(b[2], CAD_F32, 100, 1),
                         .head_dim = 1, .q_heads = 1, .kv_heads = 1, .scale = 1, .packing = &p}), i ? CAD_EINTERNAL : CAD_OK);
        if (i) assert_non_null(strstr(cad_reason(), "attention_fwd: needs 800 bytes of work space on device ref, 64 are reserved"));
        assert_int_equal(cad_device_work_needed(d), 800);
        for (int k = 0; k < 4; k++) cad_device_free(d, &b[k]);
        cad_device_free(d, &starts);
        assert_int_equal(cad_device_close(&d), CAD_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plan_counts_as_the_run_does),
        cmocka_unit_test(counts_are_those_of_the_formulas),
        cmocka_unit_test(attention_counts_the_pairs_that_see_each_other),
        cmocka_unit_test(a_terabyte_is_planned_at_once),
        cmocka_unit_test(a_download_gives_zeroes),
        cmocka_unit_test(reading_an_address_of_the_plan_faults),
        cmocka_unit_test(too_little_work_space_is_refused_by_a_run_and_recorded_by_the_plan),
    };
    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
