/* Codes and scales bit for bit as bitsandbytes makes them, by the plain functions and by the operations of both backends. A few of its vectors lie
 * beside this test; all of them are read where they are. */
#include <cadtrain/device.h>

#include <math.h>

#include "../base/scratch.h"

#define OK(call)                                                        \
    do {                                                                \
        cad_status status_ = (call);                                    \
        if (status_) fail_msg("%s: %d %s", #call, status_, cad_reason()); \
    } while (0)

static const char *const backends[] = {"ref", "cpu", "check:cpu"};
enum { BACKENDS = 3 };

static const char *vectors(const char *name)
{
    static char path[1024];
    const char *dir = getenv("CADTRAIN_SHARED");

    snprintf(path, sizeof path, "%s/golden/extra/quant/%s", dir ? dir : "../shared", name);
    if (cad_is_file(path)) return path;
    snprintf(path, sizeof path, "test/unit/device/quant/%s", name);
    return path;
}

static cad_st *open_vectors(const char *name)
{
    cad_st *st;

    OK(cad_st_open(&st, vectors(name)));
    return st;
}

static const cad_st_tensor *find(const cad_st *st, const char *stem, const char *end)
{
    char name[256];

    snprintf(name, sizeof name, "%s%s", stem, end);
    return cad_st_find(st, name);
}

static const cad_st_tensor *need(const cad_st *st, const char *stem, const char *end)
{
    const cad_st_tensor *t = find(st, stem, end);

    if (!t) fail_msg("no %s%s", stem, end);
    return t;
}

static float *floats(const cad_st_tensor *t)
{
    float *x;

    OK(cad_alloc(&x, (size_t)t->elems + 1, 4, "floats"));
    OK(cad_st_read_f32(t, 0, t->elems, x));
    return x;
}

static void expect_bytes(const char *name, const char *what, const void *got, const void *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (((const unsigned char *)got)[i] != ((const unsigned char *)want)[i])
            fail_msg("%s: %s: byte %zu of %zu is %02x, expected %02x", name, what, i, n, ((const unsigned char *)got)[i], ((const unsigned char *)want)[i]);
}

/* ---- the plain functions ---- */

static void the_dynamic_maps_are_those_of_bitsandbytes(void **state)
{
    cad_st *st = open_vectors("blockwise8.safetensors");

    (void)state;
    for (int s = 0; s < 2; s++) {
        const cad_st_tensor *map = need(st, s ? "dynamic_map_signed" : "dynamic_map_unsigned", "");
        expect_bytes(map->name, "the map", cad_dynamic_map(s), map->data, 1024);
    }
    cad_st_close(&st);
}

static void numbers_become_the_codes_of_8_bits_that_bitsandbytes_takes(void **state)
{
    cad_st *st = open_vectors("blockwise8.safetensors");
    char stem[128];
    int seen = 0;

    (void)state;
    for (int i = 0; i < cad_st_count(st); i++) {
        const char *name = cad_st_at(st, i)->name, *end = strstr(name, ".b256.input");
        float *x, scales[16];
        uint8_t codes[1000];
        int64_t n = cad_st_at(st, i)->elems;
        if (!end) continue;
        snprintf(stem, sizeof stem, "%.*s.b256", (int)(end - name), name);
        x = floats(cad_st_at(st, i));
        cad_quantise_dynamic(strstr(name, "unsigned") == NULL, x, n, codes, scales);
        expect_bytes(stem, "codes", codes, need(st, stem, ".q")->data, (size_t)n);
        expect_bytes(stem, "scales", scales, need(st, stem, ".absmax")->data, (size_t)cad_ceil_div(n, 256) * 4);
        cad_free(&x);
        seen++;
    }
    assert_int_equal(seen, 6);
    cad_st_close(&st);
}

/* ---- operations ---- */

typedef struct rig { cad_device *d; cad_coded q; void *codes, *x, *y, *nest; } rig;

static void give(rig *r, void *out, int64_t bytes, const void *from)
{
    OK(cad_device_alloc(r->d, out, cad_max(bytes, 1), "a test"));
    void *p;
    memcpy(&p, out, sizeof p);
    if (from) OK(cad_device_upload(r->d, p, from, bytes));
}

static void open_rig(rig *r, const char *backend, cad_code code, const cad_st_tensor *input, bool nested)
{
    int64_t rows = input->shape[0], cols = input->shape[1], n = rows * cols;
    cad_dtype dtype = input->dtype == CAD_BF16 ? CAD_BF16 : CAD_F32;
    float *wide = floats(input);
    cad_coded_layout l = cad_coded_layout_of(code, false, rows, cols);

    *r = (rig){0};
    OK(cad_device_open(&r->d, backend, 2));
    give(r, &r->x, n * (int64_t)cad_dtype_bytes(dtype), dtype == CAD_BF16 ? input->data : wide);
    give(r, &r->codes, l.bytes, NULL);
    give(r, &r->y, n * 4, NULL);
    give(r, &r->nest, cad_coded_layout_of(code, nested, rows, cols).bytes, NULL);
    r->q = cad_coded_view(r->codes, code, false, rows, cols);
    OK(cad_quantise(r->d, &(cad_quantise_args){r->q, cad_view(r->x, dtype, rows, cols)}));
    cad_free(&wide);
}

static void close_rig(rig *r)
{
    cad_device_free(r->d, &r->codes);
    cad_device_free(r->d, &r->x);
    cad_device_free(r->d, &r->y);
    cad_device_free(r->d, &r->nest);
    OK(cad_device_close(&r->d));
}

static void expect_tensor(rig *r, const char *stem, const char *what, cad_tensor t, const cad_st_tensor *want)
{
    int64_t n = t.rows * t.cols * (int64_t)cad_dtype_bytes(t.dtype);
    unsigned char *got;

    assert_int_equal(n, (int64_t)want->bytes);
    OK(cad_alloc(&got, (size_t)n + 1, 1, "bytes"));
    OK(cad_device_download(r->d, got, t.data, n));
    expect_bytes(stem, what, got, want->data, (size_t)n);
    cad_free(&got);
}

/* Values in fp16 are those in fp32, rounded. */
static void expect_values(rig *r, const char *stem, const cad_coded *q, const cad_st_tensor *want)
{
    cad_dtype dtype = want->dtype == CAD_BF16 ? CAD_BF16 : CAD_F32;
    int64_t n = want->elems;
    cad_tensor y = cad_view(r->y, dtype, q->rows, q->cols);
    float *got;
    uint16_t half;

    OK(cad_dequantise(r->d, &(cad_dequantise_args){y, *q}));
    if (want->dtype != CAD_F16) {
        expect_tensor(r, stem, "values", y, want);
        return;
    }
    OK(cad_alloc(&got, (size_t)n, 4, "values"));
    OK(cad_device_download(r->d, got, r->y, n * 4));
    for (int64_t i = 0; i < n; i++) {
        half = cad_f32_to_f16(got[i]);
        expect_bytes(stem, "values", &half, (const uint16_t *)want->data + i, 2);
    }
    cad_free(&got);
}

/* The mean may differ in its last bit, since the order of its sum is not part of the format; then the codes are made from theirs. */
static bool nest(rig *r, const cad_st *st, const char *stem, cad_coded *q)
{
    cad_coded all = cad_coded_view(r->nest, r->q.code, true, r->q.rows, r->q.cols);
    float theirs, ours, *scales;
    const cad_st_tensor *offset = find(st, stem, ".nested.offset");

    OK(cad_nest(r->d, &(cad_nest_args){all.scales, all.scales2, all.offset, r->q.scales}));
    *q = all;
    q->codes = r->q.codes;
    memcpy(&theirs, (offset ? offset : need(st, stem, ".offset"))->data, 4);
    OK(cad_device_download(r->d, &ours, all.offset.data, 4));
    if (memcmp(&ours, &theirs, 4) == 0) return true;
    assert_true(fabsf(ours - theirs) <= nextafterf(fabsf(theirs), INFINITY) - fabsf(theirs));
    OK(cad_alloc(&scales, (size_t)all.scales.cols, 4, "scales"));
    memcpy(scales, r->q.scales.data, (size_t)all.scales.cols * 4);
    cad_nest_scales(scales, all.scales.cols, theirs, all.scales.data, all.scales2.data);
    memcpy(all.offset.data, &theirs, 4);
    cad_free(&scales);
    return false;
}

static void check_case(const cad_st *st, const char *stem, const cad_st_tensor *input, const char *backend, int *nested, int *means)
{
    rig r;
    cad_coded q;

    open_rig(&r, backend, strncmp(stem, "fp4", 3) ? CAD_NF4 : CAD_FP4, input, true);
    expect_tensor(&r, stem, "codes", r.q.codes, need(st, stem, ".packed"));
    expect_tensor(&r, stem, "scales", r.q.scales, need(st, stem, ".absmax"));
    expect_values(&r, stem, &r.q, need(st, stem, ".dequant"));
    if (find(st, stem, ".nested.offset")) {
        *nested += 1;
        *means += nest(&r, st, stem, &q);
        expect_tensor(&r, stem, "nested scales", q.scales, need(st, stem, ".nested.absmax_u8"));
        expect_tensor(&r, stem, "scales of scales", q.scales2, need(st, stem, ".nested.absmax2"));
        expect_values(&r, stem, &q, need(st, stem, ".nested.dequant"));
    }
    close_rig(&r);
}

static void matrices_become_the_codes_of_4_bits_that_bitsandbytes_makes(void **state)
{
    cad_st *st = open_vectors("fourbit.safetensors");
    char stem[128], input[160];
    int seen = 0, nested = 0, means = 0;

    (void)state;
    for (int i = 0; i < cad_st_count(st); i++) {
        const char *name = cad_st_at(st, i)->name, *end = strstr(name, ".packed");
        if (!end) continue;
        snprintf(stem, sizeof stem, "%.*s", (int)(end - name), name);
        snprintf(input, sizeof input, "%s.input", stem + 4);
        for (int b = 0; b < BACKENDS; b++) check_case(st, stem, need(st, input, ""), backends[b], &nested, &means);
        seen++;
    }
    print_message("%d cases, %d with nested scales, %d with their very mean of them\n", seen, nested / BACKENDS, means / BACKENDS);
    assert_true(seen >= 8 && means >= nested * 9 / 10);
    cad_st_close(&st);
}

static void more_than_256_blocks_have_several_scales_of_scales(void **state)
{
    cad_st *st;

    (void)state;
    if (!cad_is_file(vectors("fourbit_nested_large.safetensors"))) {
        print_message("skipped: %s is not here\n", vectors("fourbit_nested_large.safetensors"));
        skip();
    }
    st = open_vectors("fourbit_nested_large.safetensors");
    for (int c = 0; c < 2; c++)
        for (int b = 0; b < BACKENDS; b++) {
            const char *stem = c ? "fp4" : "nf4";
            rig r;
            cad_coded q;
            open_rig(&r, backends[b], c ? CAD_FP4 : CAD_NF4, need(st, "input", ""), true);
            expect_tensor(&r, stem, "codes", r.q.codes, need(st, stem, ".packed"));
            (void)nest(&r, st, stem, &q);
            expect_tensor(&r, stem, "nested scales", q.scales, need(st, stem, ".absmax_u8"));
            expect_tensor(&r, stem, "scales of scales", q.scales2, need(st, stem, ".absmax2"));
            expect_values(&r, stem, &q, need(st, stem, ".dequant"));
            close_rig(&r);
        }
    expect_bytes("nf4", "the book", cad_code_book(CAD_NF4), need(st, "nf4.serialised.quant_map", "")->data, 64);
    expect_bytes("fp4", "the book", cad_code_book(CAD_FP4), need(st, "fp4.serialised.quant_map", "")->data, 64);
    cad_st_close(&st);
}

static void rows_become_the_whole_numbers_that_bitsandbytes_makes(void **state)
{
    cad_st *st = open_vectors("int8.safetensors");
    char stem[64];
    int seen = 0;

    (void)state;
    for (int i = 0; i < cad_st_count(st); i++) {
        const char *name = cad_st_at(st, i)->name, *end = strstr(name, ".CB");
        if (!end || end[3]) continue;
        snprintf(stem, sizeof stem, "%.*s", (int)(end - name), name);
        for (int b = 0; b < BACKENDS; b++) {
            rig r;
            open_rig(&r, backends[b], CAD_INT8, need(st, stem, ".weight"), false);
            expect_tensor(&r, stem, "codes", r.q.codes, cad_st_at(st, i));
            expect_tensor(&r, stem, "scales", r.q.scales, need(st, stem, ".SCB"));
            close_rig(&r);
        }
        seen++;
    }
    assert_true(seen >= 1);
    cad_st_close(&st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_dynamic_maps_are_those_of_bitsandbytes),
        cmocka_unit_test(numbers_become_the_codes_of_8_bits_that_bitsandbytes_takes),
        cmocka_unit_test(matrices_become_the_codes_of_4_bits_that_bitsandbytes_makes),
        cmocka_unit_test(more_than_256_blocks_have_several_scales_of_scales),
        cmocka_unit_test(rows_become_the_whole_numbers_that_bitsandbytes_makes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
