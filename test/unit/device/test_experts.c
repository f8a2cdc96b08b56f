/* Sorting visits by expert and skipping experts without visits gives what running every expert on every row gives, rows of experts not chosen being zero. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <cmocka.h>

#include <cadtrain/device.h>

enum { ROWS = 23, WIDE = 12, OUT = 7, MOST = 9, LAST = 3 };

typedef struct bench { cad_device *d; void *block[16]; int n; } bench;

static cad_tensor tensor(bench *b, cad_dtype dtype, int64_t rows, int64_t cols, const void *values)
{
    int64_t bytes = rows * cols * (int64_t)cad_dtype_bytes(dtype);

    assert_int_equal(cad_device_alloc(b->d, &b->block[b->n], bytes, "tensor"), CAD_OK);
    assert_int_equal(values ? cad_device_upload(b->d, b->block[b->n], values, bytes) : cad_device_zero(b->d, b->block[b->n], bytes), CAD_OK);
    return cad_view(b->block[b->n++], dtype, rows, cols);
}

static void draw(float *out, int n, uint32_t site)
{
    for (int i = 0; i < n; i++) out[i] = (float)cad_rng_normal(3, CAD_RNG_TEST, site, (uint64_t)i);
}

static bool is_chosen(const float *logits, int experts, int chosen, int e)
{
    int better = 0;

    for (int o = 0; o < experts; o++) better += logits[o] > logits[e];
    return better < chosen;
}

/* y[i] = sum over all experts of (score x[i], or zeros) W_e, in double. */
static void run_all(double *y, const float *x, const float *w, const float *logits, int experts, int chosen)
{
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < OUT; j++) {
            y[i * OUT + j] = 0;
            for (int e = 0; e < experts; e++) {
                double score = is_chosen(logits + i * experts, experts, chosen, e) ? 1 / (1 + exp(-(double)logits[i * experts + e])) : 0, sum = 0;
                for (int k = 0; k < WIDE; k++) sum += score * (double)x[i * WIDE + k] * (double)w[(e * WIDE + k) * OUT + j];
                y[i * OUT + j] += sum;
            }
        }
}

/* `last` experts are never chosen. */
static void compare(const char *device, int experts, int chosen, int last)
{
    float x[ROWS * WIDE], w[MOST * WIDE * OUT], logits[ROWS * MOST], got[ROWS * OUT];
    double want[ROWS * OUT];
    int32_t starts[MOST + 1];
    bench b = {0};

    draw(x, ROWS * WIDE, 1);
    draw(w, experts * WIDE * OUT, 2);
    draw(logits, ROWS * experts, 3);
    for (int i = 0; i < ROWS; i++)
        for (int e = experts - last; e < experts; e++) logits[i * experts + e] -= 100;
    assert_int_equal(cad_device_open(&b.d, device, 2), CAD_OK);
    assert_int_equal(cad_device_reserve(b.d, 1 << 20), CAD_OK);
    cad_tensor rows = tensor(&b, CAD_F32, ROWS, WIDE, x), weights = tensor(&b, CAD_F32, experts * WIDE, OUT, w), scores = tensor(&b, CAD_F32, ROWS, experts, logits);
    cad_tensor token = tensor(&b, CAD_I32, ROWS * chosen, 1, NULL), slot = tensor(&b, CAD_I32, ROWS, chosen, NULL), first = tensor(&b, CAD_I32, 1, experts + 1, NULL);
    cad_tensor score = tensor(&b, CAD_F32, ROWS * chosen, 1, NULL), seen = tensor(&b, CAD_F32, ROWS * chosen, WIDE, NULL), given = tensor(&b, CAD_F32, ROWS * chosen, OUT, NULL), y = tensor(&b, CAD_F32, ROWS, OUT, NULL);
    assert_int_equal(cad_route_fwd(b.d, &(cad_route_args){scores, token, slot, first, score}), CAD_OK);
    assert_int_equal(cad_gather(b.d, &(cad_gather_args){seen, rows, token, score, false}), CAD_OK);
    assert_int_equal(cad_matmul_groups(b.d, &(cad_groups_args){given, seen, weights, first, false, false, experts, {0}, false}), CAD_OK);
    assert_int_equal(cad_gather(b.d, &(cad_gather_args){.y = y, .x = given, .index = slot}), CAD_OK);
    assert_int_equal(cad_device_download(b.d, got, y.data, sizeof got), CAD_OK);
    assert_int_equal(cad_device_download(b.d, starts, first.data, (experts + 1) * 4), CAD_OK);
    run_all(want, x, w, logits, experts, chosen);
    for (int i = 0; i < ROWS * OUT; i++) assert_true(fabs((double)got[i] - want[i]) <= 4 * 0x1p-24 * sqrt(WIDE * chosen) * 16); /* values below 16 */
    assert_true(starts[0] == 0 && starts[experts] == ROWS * chosen);
    for (int e = experts - last; e < experts; e++) assert_int_equal(starts[e], ROWS * chosen);
    for (int i = 0; i < b.n; i++) cad_device_free(b.d, &b.block[i]);
    assert_int_equal(cad_device_close(&b.d), CAD_OK);
}

static void sorted_visits_are_all_experts(void **state)
{
    static const char *const devices[] = {"ref", "cpu", "check:cpu"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        compare(devices[i], 4, 1, 0);
        compare(devices[i], MOST, 1, LAST);
        compare(devices[i], MOST, 3, LAST);
        compare(devices[i], 2, 2, 0);
        compare(devices[i], 1, 1, 0);
    }
}

static void logits_that_are_no_numbers_still_choose(void **state)
{
    float logits[8] = {NAN, 1, NAN, NAN, NAN, NAN, NAN, NAN};
    int32_t slot[4];
    bench b = {0};

    (void)state;
    for (int i = 0; i < 2; i++) {
        b = (bench){0};
        assert_int_equal(cad_device_open(&b.d, i ? "cpu" : "ref", 1), CAD_OK);
        assert_int_equal(cad_device_reserve(b.d, 4096), CAD_OK);
        cad_tensor s = tensor(&b, CAD_I32, 2, 2, NULL);
        assert_int_equal(cad_route_fwd(b.d, &(cad_route_args){tensor(&b, CAD_F32, 2, 4, logits), tensor(&b, CAD_I32, 4, 1, NULL), s, tensor(&b, CAD_I32, 1, 5, NULL), tensor(&b, CAD_F32, 4, 1, NULL)}), CAD_OK);
        assert_int_equal(cad_device_download(b.d, slot, s.data, sizeof slot), CAD_OK);
        assert_true(slot[0] == 0 && slot[1] == 2 && slot[2] == 1 && slot[3] == 3);
        for (int k = 0; k < b.n; k++) cad_device_free(b.d, &b.block[k]);
        assert_int_equal(cad_device_close(&b.d), CAD_OK);
    }
}

static void rows_beyond_the_end_are_refused(void **state)
{
    static const int32_t index[2] = {0, 3};
    bench b = {0};

    (void)state;
    assert_int_equal(cad_device_open(&b.d, "cpu", 1), CAD_OK);
    assert_int_equal(cad_gather(b.d, &(cad_gather_args){.y = tensor(&b, CAD_F32, 2, 4, NULL), .x = tensor(&b, CAD_F32, 3, 4, NULL), .index = tensor(&b, CAD_I32, 2, 1, index)}), CAD_EINTERNAL);
    assert_non_null(strstr(cad_reason(), "expected rows below 3, found 3"));
    cad_clear();
    for (int k = 0; k < b.n; k++) cad_device_free(b.d, &b.block[k]);
    assert_int_equal(cad_device_close(&b.d), CAD_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sorted_visits_are_all_experts),
        cmocka_unit_test(logits_that_are_no_numbers_still_choose),
        cmocka_unit_test(rows_beyond_the_end_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
