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

/* ---- products of LLM.int8() ---- */

/* One case of the stored vectors: y in evaluation (whole numbers, outliers from 6 on) and in training (dequantised weights). */
typedef struct product { cad_device *d; const cad_st_tensor *of_x, *of_y; cad_dtype dtype; int64_t m, n, k; void *codes, *x, *bias, *y; cad_coded q; } product;

static void *put_numbers(cad_device *d, const cad_st_tensor *t, cad_dtype dtype)
{
    float *wide = floats(t);
    void *at;

    for (int64_t i = 0; i < t->elems && dtype == CAD_BF16; i++) ((uint16_t *)(void *)wide)[i] = cad_f32_to_bf16(wide[i]);
    OK(cad_device_alloc(d, &at, t->elems * (int64_t)cad_dtype_bytes(dtype), "a test"));
    OK(cad_device_upload(d, at, wide, t->elems * (int64_t)cad_dtype_bytes(dtype)));
    cad_free(&wide);
    return at;
}

static void open_product(product *p, const char *backend, const cad_st *st, const char *stem, const char *shape)
{
    cad_coded_layout l;

    *p = (product){.of_x = need(st, stem, ".x")};
    OK(cad_device_open(&p->d, backend, 2));
    OK(cad_device_reserve(p->d, 64 << 20));
    p->dtype = p->of_x->dtype == CAD_BF16 ? CAD_BF16 : CAD_F32;
    p->m = p->of_x->shape[0], p->k = p->of_x->shape[1], p->n = need(st, shape, ".CB")->shape[0];
    l = cad_coded_layout_of(CAD_INT8, false, p->n, p->k);
    OK(cad_device_alloc(p->d, &p->codes, l.bytes, "codes"));
    OK(cad_device_alloc(p->d, &p->y, p->m * p->n * 4, "y"));
    p->q = cad_coded_view(p->codes, CAD_INT8, false, p->n, p->k);
    OK(cad_device_upload(p->d, p->q.codes.data, need(st, shape, ".CB")->data, p->n * p->k));
    OK(cad_device_upload(p->d, p->q.scales.data, need(st, shape, ".SCB")->data, p->n * 4));
    p->x = put_numbers(p->d, p->of_x, p->dtype);
    p->bias = put_numbers(p->d, need(st, shape, ".bias"), p->dtype);
}

static void expect_product(product *p, const char *stem, double outliers, const cad_st_tensor *want)
{
    float *y = floats(want), *got, largest = 0, off = 0, allowed = want->dtype == CAD_F32 ? 2e-6f : want->dtype == CAD_BF16 ? 1.6e-2f : 2e-3f;

    OK(cad_matmul(p->d, &(cad_matmul_args){.c = cad_view(p->y, CAD_F32, p->m, p->n), .a = cad_view(p->x, p->dtype, p->m, p->k), .tb = true, .alpha = 1,
                                           .bias = cad_view(p->bias, p->dtype, 1, p->n), .codes = p->q, .outliers = outliers}));
    OK(cad_alloc(&got, (size_t)want->elems, 4, "y"));
    OK(cad_device_download(p->d, got, p->y, want->elems * 4));
    for (int64_t i = 0; i < want->elems; i++) {
        largest = fmaxf(largest, fabsf(y[i]));
        off = fmaxf(off, fabsf(y[i] - got[i]));
    }
    if (!(off <= allowed * largest)) fail_msg("%s on %s: off by %g of %g", stem, cad_device_name(p->d), (double)off, (double)largest);
    cad_free(&got);
    cad_free(&y);
}

static void products_of_8_bits_are_those_of_bitsandbytes(void **state)
{
    static const char *const all[] = {"ref", "cpu", "check:cpu", "emulated"};
    cad_st *st = open_vectors("int8.safetensors");
    int seen = 0;

    (void)state;
    for (int i = 0; i < cad_st_count(st); i++) {
        const char *name = cad_st_at(st, i)->name, *end = strstr(name, ".y_eval");
        char stem[64], shape[64];
        if (!end) continue;
        snprintf(stem, sizeof stem, "%.*s", (int)(end - name), name);
        snprintf(shape, sizeof shape, "%.*s", (int)strcspn(name, "."), name);
        for (int b = 0; b < 4; b++) {
            product p;
            open_product(&p, all[b], st, stem, shape);
            expect_product(&p, stem, 6, cad_st_at(st, i));
            expect_product(&p, stem, 0, need(st, stem, ".y_train"));
            for (void **at = (void *[]){&p.codes, &p.x, &p.bias, &p.y, NULL}; *at; at++) cad_device_free(p.d, *at);
            OK(cad_device_close(&p.d));
        }
        seen++;
    }
    assert_true(seen >= 1);
    cad_st_close(&st);
}

/* ---- moments ---- */

enum { MOMENTS = 1000, FIRST = 100, BLOCKS = (FIRST + MOMENTS + 255) / 256 };
typedef struct moments { cad_device *d; float *p, *g, *sm, *sv, *m32, *v32; uint8_t *m, *v; } moments;

static float gradient(int step, int64_t i) { return (float)cad_rng_normal(3, CAD_RNG_TEST, (uint32_t)step, (uint64_t)i) * (i % 7 ? 1 : 1e-3f); }

static void open_moments(moments *x, const char *backend)
{
    float start[MOMENTS];

    memset(x, 0, sizeof *x);
    OK(cad_device_open(&x->d, backend, 2));
    for (int64_t i = 0; i < MOMENTS; i++) start[i] = gradient(0, i);
    OK(cad_device_alloc(x->d, &x->p, sizeof start, "p"));
    OK(cad_device_upload(x->d, x->p, start, sizeof start));
    OK(cad_device_alloc(x->d, &x->g, sizeof start, "g"));
    void *const parts[] = {&x->sm, &x->sv, &x->m32, &x->v32, &x->m, &x->v};
    const int64_t bytes[] = {BLOCKS * 4, BLOCKS * 4, sizeof start, sizeof start, MOMENTS, MOMENTS};
    for (int i = 0; i < 6; i++) {
        void *at;
        OK(cad_device_alloc(x->d, parts[i], bytes[i], "moments"));
        memcpy(&at, parts[i], sizeof at);
        OK(cad_device_zero(x->d, at, bytes[i]));
    }
}

static void close_moments(moments *x)
{
    void *const parts[] = {&x->p, &x->g, &x->sm, &x->sv, &x->m32, &x->v32, &x->m, &x->v};

    for (int i = 0; i < 8; i++) cad_device_free(x->d, parts[i]);
    OK(cad_device_close(&x->d));
}

static void take_step(moments *x, int step, bool coded, float *p)
{
    float g[MOMENTS];
    cad_tensor flat[] = {cad_view(x->p, CAD_F32, 1, MOMENTS), cad_view(x->g, CAD_F32, 1, MOMENTS)};

    for (int64_t i = 0; i < MOMENTS; i++) g[i] = gradient(step, i);
    OK(cad_device_upload(x->d, x->g, g, sizeof g));
    if (coded)
        OK(cad_adamw8(x->d, &(cad_adamw8_args){.p = flat[0], .g = flat[1], .m = cad_view(x->m, CAD_U8, 1, MOMENTS), .v = cad_view(x->v, CAD_U8, 1, MOMENTS), .scale_m = cad_view(x->sm, CAD_F32, 1, BLOCKS),
                                               .scale_v = cad_view(x->sv, CAD_F32, 1, BLOCKS), .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .decay = 0.1, .clip = 0.5, .step = step, .first = FIRST}));
    else
        OK(cad_adamw(x->d, &(cad_adamw_args){.p = flat[0], .g = flat[1], .m = cad_view(x->m32, CAD_F32, 1, MOMENTS), .v = cad_view(x->v32, CAD_F32, 1, MOMENTS), .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.99,
                                             .eps = 1e-8, .decay = 0.1, .clip = 0.5, .step = step}));
    OK(cad_device_download(x->d, p, x->p, sizeof g));
}

/* What codes mean, beside the fp32 moments: half the widest gap of the map (0.9 / 64 between values of one decade; unsigned half of that), and the grid of
 * 65,536 points from which codes are taken. */
static void expect_moments(const moments *x, bool second)
{
    float exact[MOMENTS], scales[BLOCKS];
    uint8_t codes[MOMENTS];

    OK(cad_device_download(x->d, exact, second ? x->v32 : x->m32, sizeof exact));
    OK(cad_device_download(x->d, scales, second ? x->sv : x->sm, sizeof scales));
    OK(cad_device_download(x->d, codes, second ? x->v : x->m, sizeof codes));
    for (int64_t i = 0; i < MOMENTS; i++) {
        float scale = scales[(FIRST + i) / 256], value = cad_dynamic_map(!second)[codes[i]] * scale;
        assert_true(fabsf(exact[i]) <= scale);
        assert_true(fabsf(value - exact[i]) <= scale * (0.45f / (second ? 128 : 64) + 1.0f / 32767 + 0x1p-20f));
    }
}

/* The second step goes on from what the codes mean: fp32 arithmetic of some ten operations. */
static void expect_second_step(moments *x, const float *before)
{
    float sm[BLOCKS], sv[BLOCKS], p[MOMENTS];
    uint8_t cm[MOMENTS], cv[MOMENTS];

    OK(cad_device_download(x->d, sm, x->sm, sizeof sm));
    OK(cad_device_download(x->d, sv, x->sv, sizeof sv));
    OK(cad_device_download(x->d, cm, x->m, sizeof cm));
    OK(cad_device_download(x->d, cv, x->v, sizeof cv));
    take_step(x, 2, true, p);
    for (int64_t i = 0; i < MOMENTS; i++) {
        double g = 0.5 * gradient(2, i), m = cad_dynamic_map(true)[cm[i]] * sm[(FIRST + i) / 256], v = cad_dynamic_map(false)[cv[i]] * sv[(FIRST + i) / 256], step;
        m = 0.9 * m + 0.1 * g;
        v = 0.99 * v + 0.01 * g * g;
        step = 1e-2 / (1 - 0.9 * 0.9) * m / (sqrt(v) / sqrt(1 - 0.99 * 0.99) + 1e-8);
        assert_true(fabs((double)before[i] * (1 - 1e-3) - step - p[i]) <= 16 * 0x1p-24 * (fabs((double)before[i]) + fabs(step) + 0.1 * fabs(g)));
    }
}

/* From moments of zero the first step is AdamW's to the bit, and what is kept of it is its moments to half a code. */
static void moments_of_8_bits_follow_those_of_32(void **state)
{
    (void)state;
    for (int b = 0; b < BACKENDS; b++) {
        moments coded, plain;
        float p[MOMENTS], want[MOMENTS];
        open_moments(&coded, backends[b]);
        open_moments(&plain, backends[b]);
        take_step(&coded, 1, true, p);
        take_step(&plain, 1, false, want);
        expect_bytes(backends[b], "the first step", p, want, sizeof p);
        take_step(&coded, 1, false, p); /* fp32 moments of the same gradient, beside the codes */
        expect_moments(&coded, false);
        expect_moments(&coded, true);
        close_moments(&coded);
        open_moments(&coded, backends[b]);
        take_step(&coded, 1, true, p);
        expect_second_step(&coded, p);
        close_moments(&coded);
        close_moments(&plain);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_dynamic_maps_are_those_of_bitsandbytes),
        cmocka_unit_test(numbers_become_the_codes_of_8_bits_that_bitsandbytes_takes),
        cmocka_unit_test(matrices_become_the_codes_of_4_bits_that_bitsandbytes_makes),
        cmocka_unit_test(more_than_256_blocks_have_several_scales_of_scales),
        cmocka_unit_test(rows_become_the_whole_numbers_that_bitsandbytes_makes),
        cmocka_unit_test(products_of_8_bits_are_those_of_bitsandbytes),
        cmocka_unit_test(moments_of_8_bits_follow_those_of_32),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
