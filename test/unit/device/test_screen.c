/* A product with a screen: every element that may be the largest of its row is there bit for bit, so that the largest, the lower number first where two are equal, is
 * that of the product without. */
#include <cadtrain/device.h>

#include "../../../src/device/cpu/cpu_screen.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(x) assert_int_equal(x, CAD_OK)

typedef struct sheet { cad_device *d; cad_tensor a, b, c, full, screen; float *x, *w, *with, *without; } sheet;

static uint32_t state = 1;
static float uniform(void) { return (float)((state = state * 1664525u + 1013904223u) >> 8) / 0x1p24f; }
static float normal(void) { return sqrtf(-2 * logf(uniform() + 0x1p-25f)) * cosf(6.2831853f * uniform()); }

static void *take(sheet *s, cad_tensor *t, cad_dtype dtype, int64_t rows, int64_t cols)
{
    OK(cad_device_alloc(s->d, &t->data, rows * cols * (int64_t)cad_dtype_bytes(dtype), "tensor"));
    *t = cad_view(t->data, dtype, rows, cols);
    return calloc((size_t)(rows * cols), sizeof(float));
}

static void open_sheet(sheet *s, const char *device, cad_dtype dtype, int64_t m, int64_t n, int64_t k)
{
    OK(cad_device_open(&s->d, device, 2));
    OK(cad_device_reserve(s->d, 1 << 24));
    s->x = take(s, &s->a, dtype, m, k);
    s->w = take(s, &s->b, dtype, n, k);
    s->with = take(s, &s->c, CAD_F32, m, n);
    s->without = take(s, &s->full, CAD_F32, m, n);
    free(take(s, &s->screen, CAD_U8, 1, cad_screen_bytes(s->d, n, k)));
    for (int64_t i = 0; i < m * k; i++) s->x[i] = normal();
    for (int64_t i = 0; i < n * k; i++) s->w[i] = 0.02f * normal();
}

static void close_sheet(sheet *s)
{
    void *all[] = {s->a.data, s->b.data, s->c.data, s->full.data, s->screen.data};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) cad_device_free(s->d, &all[i]);
    free(s->x);
    free(s->w);
    free(s->with);
    free(s->without);
    OK(cad_device_close(&s->d));
}

static void upload(sheet *s, cad_tensor t, const float *from)
{
    int64_t n = t.rows * t.cols;
    uint16_t *half = calloc((size_t)n, sizeof *half);

    for (int64_t i = 0; i < n; i++) half[i] = cad_f32_to_bf16(from[i]);
    OK(cad_device_upload(s->d, t.data, t.dtype == CAD_F32 ? (const void *)from : half, n * (int64_t)cad_dtype_bytes(t.dtype)));
    free(half);
}

static int64_t likeliest(const float *x, int64_t n)
{
    int64_t best = 0;

    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* How many elements are there. */
static int64_t compare(sheet *s)
{
    int64_t m = s->c.rows, n = s->c.cols, there = 0;
    cad_matmul_args x = {.c = s->full, .a = s->a, .b = s->b, .tb = true, .alpha = 1};

    upload(s, s->a, s->x);
    upload(s, s->b, s->w);
    OK(cad_make_screen(s->d, s->screen, s->b));
    OK(cad_matmul(s->d, &x));
    x.c = s->c;
    x.screen = s->screen;
    OK(cad_matmul(s->d, &x));
    OK(cad_device_download(s->d, s->with, s->c.data, m * n * 4));
    OK(cad_device_download(s->d, s->without, s->full.data, m * n * 4));
    for (int64_t r = 0; r < m; r++) {
        const float *with = s->with + r * n, *without = s->without + r * n;
        int64_t best = likeliest(without, n);
        assert_int_equal(likeliest(with, n), best);
        for (int64_t j = 0; j < n; j++) {
            bool same = !memcmp(with + j, without + j, sizeof *with);
            if (!same) assert_true(with[j] == -INFINITY && !(without[j] >= without[best]));
            there += same;
        }
    }
    return there;
}

static const char *const devices[] = {"cpu", "check:cpu"};

static void the_largest_of_random_rows_is_found(void **state_)
{
    static const struct { cad_dtype dtype; int64_t m, n, k; } shape[] = {{CAD_BF16, 1, 3000, 576}, {CAD_BF16, 4, 900, 896}, {CAD_F32, 2, 700, 100}, {CAD_BF16, 3, 5000, 33}, {CAD_F32, 1, 33, 5000}, {CAD_BF16, 7, 200, 96}};

    (void)state_;
    for (size_t d = 0; d < sizeof devices / sizeof *devices; d++)
        for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
            sheet s = {0};
            int64_t there;
            open_sheet(&s, devices[d], shape[i].dtype, shape[i].m, shape[i].n, shape[i].k);
            there = compare(&s);
            if (shape[i].m <= 4) assert_in_range(there, shape[i].m, shape[i].m * (shape[i].n < 100 ? shape[i].n : shape[i].n / 8)); /* bounds grow as the terms, what they part as their root */
            else assert_int_equal(there, shape[i].m * shape[i].n);
            close_sheet(&s);
        }
}

enum { N = 600, K = 200 };

static void twist(sheet *s, int what)
{
    for (int64_t j = 0; j < N; j++)
        for (int64_t i = 0; i < K; i++) {
            float *w = s->w + j * K + i;
            if (what == 0) *w = s->w[i];                                             /* all rows equal */
            if (what == 1) *w = s->w[i] * (i == j % K && j % 3 ? 1.0078125f : 1);    /* nearly */
            if (what == 2 && i == j % 7) *w *= 1000;                                 /* a few large weights */
            if (what == 3) *w *= 1e-30f;
            if (what == 4 && j % 5 == 0) *w *= 1e30f;                                /* no fp16 */
            if (what == 5) *w = 0;
            if (what == 6 && j % 2) *w = s->w[(j - 1) * K + i];                      /* twins */
            if (what == 7) *w *= 1e-6f;                                              /* fp16 without digits */
        }
    for (int64_t i = 0; i < 2 * K; i++) {
        if (what == 8 && i % 50 == 3) s->x[i] *= 1e4f; /* outliers, as hidden states have */
        if (what == 9) s->x[i] *= 1e-32f;
        if (what == 10) s->x[i] = 0;
        if (what == 11) s->x[i] *= 1e30f;
    }
    if (what == 12) s->w[5] = NAN;
    if (what == 13) s->w[17 * K + 5] = NAN;
    if (what == 14) s->w[17 * K + 5] = INFINITY;
    if (what == 15) s->x[7] = INFINITY;
    if (what == 16) s->x[K + 7] = NAN;
    if (what == 17) s->w[17 * K + 5] = -INFINITY;
}

static void and_of_rows_made_to_mislead(void **state_)
{
    (void)state_;
    for (int dtype = 0; dtype < 2; dtype++)
        for (int what = 0; what < 18; what++) {
            sheet s = {0};
            open_sheet(&s, "cpu", dtype ? CAD_F32 : CAD_BF16, 2, N, K);
            twist(&s, what);
            (void)compare(&s);
            close_sheet(&s);
        }
}

static void many_near_ties(void **state_)
{
    (void)state_;
    for (int round = 0; round < 40; round++) {
        sheet s = {0};
        open_sheet(&s, "cpu", round % 2 ? CAD_F32 : CAD_BF16, 1, N, K);
        for (int64_t j = 1; j < N; j++) /* the first row, and an error of the size of a code's, of bf16's last digit, or of fp32's */
            for (int64_t i = 0; i < K; i++) s.w[j * K + i] = s.w[i] * (1 + (round % 3 ? round % 3 == 1 ? 0x1p-8f : 0x1p-22f : 0x1p-6f) * normal());
        (void)compare(&s);
        close_sheet(&s);
    }
}

/* Whole numbers: the instructions of this processor say what those of every processor say, also where all are as large as can be. */
static void every_kind_of_processor_sees_the_same_codes(void **state_)
{
    enum { ROWS = CADP_SCREEN_ABREAST };
    static const int64_t terms[] = {1, 33, 128, 576, 896, 2047, 2048, 2049, 5000, 9000};

    (void)state_;
    for (size_t i = 0; i < 2 * sizeof terms / sizeof *terms; i++) {
        int64_t k = terms[i / 2], bytes = cadp_screen_bytes(ROWS, k), of_all[ROWS], plain[ROWS];
        cadp_screen s;
        sheet t = {0};
        const uint8_t *rows[ROWS];
        int16_t *words = calloc((size_t)cadp_screen_words(k), sizeof *words);
        open_sheet(&t, "cpu", CAD_F32, 1, ROWS, k);
        for (int64_t j = 0; j < k && i % 2; j++) t.x[j] = 1, t.w[j] = t.w[k + j] = -1;
        upload(&t, t.b, t.w);
        assert_int_equal(t.screen.cols, bytes);
        OK(cad_make_screen(t.d, t.screen, t.b));
        cadp_screen_view v = cadp_screen_of(t.screen.data, ROWS, k);
        assert_true(cadp_screen_open(&s, t.x, k, &v, words));
        for (int64_t r = 0; r < ROWS; r++) rows[r] = v.codes + r * v.bytes;
        cadp_screen_dots(&s, rows, of_all);
        cadp_screen_dots_plain(&s, rows, plain);
        assert_memory_equal(of_all, plain, sizeof plain);
        if (i % 2) assert_int_equal(plain[0], -k * (v.six ? CADP_SIX_TOP : 127) * 32639);
        free(words);
        close_sheet(&t);
    }
}

static void a_screen_beside_something_else_is_refused(void **state_)
{
    sheet s = {0};
    cad_matmul_args x;

    (void)state_;
    open_sheet(&s, "cpu", CAD_F32, 2, N, K);
    x = (cad_matmul_args){.c = s.c, .a = s.a, .b = s.b, .tb = true, .alpha = 2, .screen = s.screen};
    assert_int_equal(cad_matmul(s.d, &x), CAD_EINTERNAL);
    assert_non_null(strstr(cad_reason(), "screen"));
    close_sheet(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_largest_of_random_rows_is_found), cmocka_unit_test(and_of_rows_made_to_mislead), cmocka_unit_test(many_near_ties), cmocka_unit_test(every_kind_of_processor_sees_the_same_codes),
                                       cmocka_unit_test(a_screen_beside_something_else_is_refused)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
