/* Work space is reserved for the largest micro-batch: every smaller one must do with it. */
#include <cadtrain/device.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define OK(call)                                                          \
    do {                                                                  \
        cad_status status_ = (call);                                      \
        if (status_) fail_msg("%s: %d %s", #call, status_, cad_reason()); \
    } while (0)

typedef struct shape { int64_t n, k, low; cad_dtype in, out; } shape;

static void tensor(cad_device *d, cad_tensor *t, cad_dtype dtype, int64_t rows, int64_t cols)
{
    OK(cad_device_alloc(d, &t->data, rows * cols * (int64_t)cad_dtype_bytes(dtype), "a matrix"));
    *t = cad_view(t->data, dtype, rows, cols);
}

/* Forward, input gradient and weight gradient of a linear layer for `rows` tokens out of `most`. */
static void products(cad_device *d, cad_tensor t[8], int64_t rows)
{
    cad_tensor x = cad_slice(t[0], 0, rows), y = cad_slice(t[2], 0, rows), u = cad_slice(t[3], 0, rows), dx = cad_slice(t[5], 0, rows);

    OK(cad_matmul(d, &(cad_matmul_args){.c = y, .a = x, .b = t[1], .tb = true, .alpha = 1, .a2 = u, .b2 = t[4], .tb2 = true, .alpha2 = 2}));
    OK(cad_matmul(d, &(cad_matmul_args){.c = dx, .a = y, .b = t[1], .alpha = 1}));
    OK(cad_matmul(d, &(cad_matmul_args){.c = t[6], .a = y, .ta = true, .b = x, .alpha = 1}));
    OK(cad_matmul(d, &(cad_matmul_args){.c = u, .a = x, .b = t[7], .tb = true, .alpha = 1}));
}

static int64_t need(const shape *s, int64_t first, int64_t most, int threads)
{
    cad_device *d;
    cad_tensor t[8];
    int64_t result;

    OK(cad_device_open(&d, "plan:cpu", threads));
    tensor(d, &t[0], s->in, most, s->k);
    tensor(d, &t[1], s->in, s->n, s->k);
    tensor(d, &t[2], s->in, most, s->n);
    tensor(d, &t[3], s->in, most, s->low);
    tensor(d, &t[4], s->in, s->n, s->low);
    tensor(d, &t[5], s->out, most, s->k);
    tensor(d, &t[6], CAD_F32, s->n, s->k);
    tensor(d, &t[7], s->in, s->low, s->k);
    for (int64_t rows = first; rows <= most; rows++) products(d, t, rows);
    result = cad_device_work_needed(d);
    for (int i = 0; i < 8; i++) cad_device_free(d, &t[i].data);
    OK(cad_device_close(&d));
    return result;
}

static void the_largest_batch_needs_as_much_as_all_smaller_ones_together(void **state)
{
    static const shape shapes[] = {{576, 576, 16, CAD_F32, CAD_F32}, {1536, 576, 4, CAD_BF16, CAD_F32}, {64, 176, 8, CAD_BF16, CAD_BF16}, {896, 4864, 16, CAD_F32, CAD_F32}};
    static const int64_t most[] = {1, 17, 256, 700, 1031};

    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t k = 0; k < sizeof most / sizeof *most; k++)
            for (int threads = 1; threads <= 3; threads += 2) assert_int_equal(need(&shapes[i], most[k], most[k], threads), need(&shapes[i], 1, most[k], threads));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_largest_batch_needs_as_much_as_all_smaller_ones_together)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
