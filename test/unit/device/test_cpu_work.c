/* Work space is asked for once, with the largest batch of a run: no smaller one may need more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include <cadtrain/device.h>

enum { MOST = 1700 };
typedef struct shape { int64_t n, k; bool tb, two; cad_dtype dtype, result; } shape;

static cad_tensor on(cad_device *d, cad_dtype dtype, int64_t rows, int64_t cols)
{
    cad_tensor t = cad_view(NULL, dtype, rows, cols);

    assert_int_equal(cad_device_alloc(d, &t.data, rows * cols * (int64_t)cad_dtype_bytes(dtype), "tensor"), CAD_OK);
    return t;
}

/* y = x w of the first m rows; terms: w = x' y of the first m rows, as in gradients of weights. */
static void multiply(cad_device *d, const shape *s, cad_tensor x, cad_tensor w, cad_tensor y, int64_t m, bool terms)
{
    cad_matmul_args a = {.c = cad_slice(y, 0, m), .a = cad_slice(x, 0, m), .b = w, .tb = s->tb, .alpha = 1, .alpha2 = 1};

    if (terms) a = (cad_matmul_args){.c = w, .a = cad_slice(x, 0, m), .b = cad_slice(y, 0, m), .ta = true, .alpha = 1};
    if (s->two) a.a2 = a.a, a.b2 = a.b, a.tb2 = a.tb;
    assert_int_equal(cad_matmul(d, &a), CAD_OK);
}

static void no_batch_needs_more_than(int64_t most, const shape *s, bool terms)
{
    cad_device *d;
    cad_tensor x, w, y;
    int64_t needed;

    assert_int_equal(cad_device_open(&d, "plan:cpu", 2), CAD_OK);
    x = on(d, s->dtype, MOST, s->k);
    w = s->tb ? on(d, s->dtype, s->n, s->k) : on(d, terms ? s->result : s->dtype, s->k, s->n);
    y = on(d, terms ? s->dtype : s->result, MOST, s->n);
    multiply(d, s, x, w, y, most, terms);
    needed = cad_device_work_needed(d);
    for (int64_t m = 1; m < most; m++) {
        multiply(d, s, x, w, y, m, terms);
        if (cad_device_work_needed(d) != needed)
            fail_msg("n %d, k %d: %d rows need %d bytes, %d rows needed %d", (int)s->n, (int)s->k, (int)m, (int)cad_device_work_needed(d), (int)most, (int)needed);
    }
    cad_device_free(d, &x.data);
    cad_device_free(d, &w.data);
    cad_device_free(d, &y.data);
    assert_int_equal(cad_device_close(&d), CAD_OK);
}

static void on_all_shapes(cad_dtype dtype, cad_dtype result, bool terms)
{
    static const int64_t most[] = {33, 96, 130, 321, 640, 769, MOST}, sides[] = {4, 56, 424, 1100};

    for (size_t i = 0; i < sizeof most / sizeof *most; i++)
        for (int n = 0; n < 4; n++)
            for (int k = 0; k < 4; k++)
                for (int more = 0; more < (terms ? 1 : 4); more++) no_batch_needs_more_than(most[i], &(shape){sides[n], sides[k], more & 1, more & 2, dtype, result}, terms);
}

static void fewer_rows_never_need_more_work_space(void **state)
{
    (void)state;
    on_all_shapes(CAD_F32, CAD_F32, false);
    setenv("CADTRAIN_BF16_PRODUCTS", "native", 1);
    on_all_shapes(CAD_BF16, CAD_BF16, false);
    setenv("CADTRAIN_BF16_PRODUCTS", "convert", 1);
    on_all_shapes(CAD_BF16, CAD_F32, false);
    unsetenv("CADTRAIN_BF16_PRODUCTS");
    assert_int_equal(cad_mem_blocks(), 0);
}

static void fewer_terms_never_need_more_work_space(void **state)
{
    (void)state;
    on_all_shapes(CAD_F32, CAD_F32, true);
    setenv("CADTRAIN_BF16_PRODUCTS", "native", 1);
    on_all_shapes(CAD_BF16, CAD_F32, true);
    setenv("CADTRAIN_BF16_PRODUCTS", "convert", 1);
    on_all_shapes(CAD_BF16, CAD_F32, true);
    unsetenv("CADTRAIN_BF16_PRODUCTS");
    assert_int_equal(cad_mem_blocks(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fewer_rows_never_need_more_work_space), cmocka_unit_test(fewer_terms_never_need_more_work_space)};

    return cmocka_run_group_tests_name("cpu_work", tests, NULL, NULL);
}
