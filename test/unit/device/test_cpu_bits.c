/* Results of the cpu device on shapes of several tiles: the same bits for any number of threads, and bf16 products native as in fp32. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <cadtrain/device.h>

enum { TENSORS = 24, SEQUENCES = 5, TOKENS = 397, COLS = 1100 };

/* One run of one operation: its tensors on the device, and those of them that are results. */
typedef struct world {
    cad_device *d;
    cad_tensor t[TENSORS];
    bool result[TENSORS];
    int n;
    cad_dtype real;
    cad_packing packing;
    void *starts, *ids;
} world;

static const int32_t starts[SEQUENCES + 1] = {0, 130, 131, 164, 392, TOKENS};
static int32_t ids[TOKENS];

static int64_t bytes(cad_tensor t) { return t.rows * t.cols * (int64_t)cad_dtype_bytes(t.dtype); }

enum { NORMALS = 8191 };
static double normals[NORMALS];

static int make_normals(void **state)
{
    (void)state;
    for (int i = 0; i < NORMALS; i++) normals[i] = cad_rng_normal(5, CAD_RNG_TEST, 0, (uint64_t)i);
    return 0;
}

static void fill(cad_tensor t, uint32_t site, void *host)
{
    for (int64_t i = 0; i < t.rows * t.cols; i++) {
        double v = normals[(i + 97 * (int64_t)site) % NORMALS];
        if (t.dtype == CAD_F32) ((float *)host)[i] = (float)v;
        if (t.dtype == CAD_BF16) ((uint16_t *)host)[i] = cad_f32_to_bf16((float)v);
        if (t.dtype == CAD_F64) ((double *)host)[i] = fabs(v);
        if (t.dtype == CAD_I64) ((int64_t *)host)[i] = (int64_t)(v * 0x1p30);
        if (t.dtype == CAD_I32) ((int32_t *)host)[i] = (int32_t)(i % 7);
    }
}

static cad_tensor add(world *w, cad_dtype dtype, int64_t rows, int64_t cols, bool result)
{
    cad_tensor t = cad_view(NULL, dtype, rows, cols);
    void *host;

    assert_true(w->n < TENSORS);
    assert_int_equal(cad_device_alloc(w->d, &t.data, bytes(t), "tensor"), CAD_OK);
    if (!cad_device_pretends(w->d)) {
        assert_int_equal(cad_alloc(&host, (size_t)bytes(t), 1, "values"), CAD_OK);
        fill(t, (uint32_t)w->n, host);
        assert_int_equal(cad_device_upload(w->d, t.data, host, bytes(t)), CAD_OK);
        cad_free(&host);
    }
    w->result[w->n] = result;
    return w->t[w->n++] = t;
}

static cad_tensor in(world *w, int64_t rows, int64_t cols) { return add(w, w->real, rows, cols, false); }
static cad_tensor out(world *w, int64_t rows, int64_t cols) { return add(w, w->real, rows, cols, true); }
static cad_tensor in32(world *w, int64_t rows, int64_t cols) { return add(w, CAD_F32, rows, cols, false); }
static cad_tensor out32(world *w, int64_t rows, int64_t cols) { return add(w, CAD_F32, rows, cols, true); }

/* ---- the operations ---- */

enum { M = 350, N = 810, K = 900, RANK = 24 };

static cad_status forward_product(world *w)
{
    return cad_matmul(w->d, &(cad_matmul_args){.a = in(w, M, K), .b = in(w, N, K), .tb = true, .alpha = 0.5, .a2 = in(w, M, RANK), .b2 = in(w, N, RANK), .tb2 = true,
                                               .alpha2 = 2, .bias = in(w, 1, N), .c = out(w, M, N)});
}

static cad_status input_product(world *w) { return cad_matmul(w->d, &(cad_matmul_args){.a = in(w, M, K), .b = in(w, K, N), .alpha = 1, .beta = 1, .c = out(w, M, N)}); }

static cad_status weight_product(world *w)
{
    return cad_matmul(w->d, &(cad_matmul_args){.a = in(w, K, M), .b = in(w, K, N), .ta = true, .alpha = 1, .beta = 1, .c = out32(w, M, N)});
}

static cad_status narrow_product(world *w) { return cad_matmul(w->d, &(cad_matmul_args){.a = in(w, K, RANK), .b = in(w, K, N), .ta = true, .alpha = 1, .c = out32(w, RANK, N)}); }

static cad_status few_rows(world *w)
{
    return cad_matmul(w->d, &(cad_matmul_args){.a = in(w, 40, K), .b = in(w, N, K), .tb = true, .alpha = 1, .c = out32(w, 40, N)});
}

static cad_status norm(world *w)
{
    cad_tensor x = in32(w, TOKENS, COLS), g = in(w, 1, COLS), y = out(w, TOKENS, COLS), rstd = out32(w, TOKENS, 1), dy = in(w, TOKENS, COLS);

    CAD_TRY(cad_rmsnorm_fwd(w->d, &(cad_rmsnorm_args){y, x, g, rstd, 1e-6, false, 0, {0}}));
    CAD_TRY(cad_rmsnorm_fwd(w->d, &(cad_rmsnorm_args){out(w, TOKENS, 128), in(w, TOKENS, 128), in(w, 1, 32), out32(w, TOKENS, 4), 1e-6, true, 32, {0}}));
    return cad_rmsnorm_bwd(w->d, &(cad_rmsnorm_bwd_args){out32(w, TOKENS, COLS), out32(w, 1, COLS), dy, x, g, rstd, false, true, true, 0});
}

static cad_status centred_norm(world *w)
{
    cad_tensor x = in32(w, TOKENS, COLS), g = in(w, 1, COLS), mean = out32(w, TOKENS, 1), rstd = out32(w, TOKENS, 1);

    CAD_TRY(cad_layernorm_fwd(w->d, &(cad_layernorm_args){out(w, TOKENS, COLS), x, g, in(w, 1, COLS), mean, rstd, 1e-12}));
    return cad_layernorm_bwd(w->d, &(cad_layernorm_bwd_args){out32(w, TOKENS, COLS), out32(w, 1, COLS), out32(w, 1, COLS), in(w, TOKENS, COLS), x, g, mean, rstd, false});
}

static cad_status experts(world *w)
{
    enum { E = 8, CHOSEN = 2, VISITS = TOKENS * CHOSEN };
    cad_tensor token = add(w, CAD_I32, VISITS, 1, true), slot = add(w, CAD_I32, TOKENS, CHOSEN, true), first = add(w, CAD_I32, 1, E + 1, true), score = out32(w, VISITS, 1);
    cad_tensor x = in(w, TOKENS, 96), seen = out(w, VISITS, 96), y = out(w, VISITS, 64);

    CAD_TRY(cad_route_fwd(w->d, &(cad_route_args){in32(w, TOKENS, E), token, slot, first, score}));
    CAD_TRY(cad_gather(w->d, &(cad_gather_args){seen, x, token, score, false}));
    CAD_TRY(cad_matmul_groups(w->d, &(cad_groups_args){y, seen, in(w, E * 96, 64), first, false, false, E, {0}, false}));
    CAD_TRY(cad_matmul_groups(w->d, &(cad_groups_args){out32(w, E * 96, 64), seen, y, first, true, false, E, {0}, false}));
    CAD_TRY(cad_gather(w->d, &(cad_gather_args){out32(w, TOKENS, 64), y, slot, {0}, true}));
    return cad_route_bwd(w->d, &(cad_route_bwd_args){out32(w, TOKENS, 96), out(w, TOKENS, E), seen, x, slot, first, score});
}

static cad_status attention(world *w)
{
    enum { D = 64, H = 6, KV = 2 };
    cad_attention_bwd_args x = {{in(w, TOKENS, H * D), in(w, TOKENS, KV * D), in(w, TOKENS, KV * D), out(w, TOKENS, H * D), out32(w, TOKENS, H), D, H, KV, 0, 0.125, 0, true,
                                 &w->packing, 0.1, 7, 8, 9}, out(w, TOKENS, H * D), out(w, TOKENS, KV * D), out(w, TOKENS, KV * D), in(w, TOKENS, H * D)};
    cad_rope_args r = {x.f.q, in32(w, 300, D / 2), in32(w, 300, D / 2), D, false, false, &w->packing};

    w->result[0] = true;
    CAD_TRY(cad_rope(w->d, &r));
    CAD_TRY(cad_attention_fwd(w->d, &x.f));
    return cad_attention_bwd(w->d, &x);
}

static cad_status windows(world *w)
{
    enum { D = 32, H = 5 };
    cad_attention_bwd_args x = {{in(w, TOKENS, H * D), in(w, TOKENS, H * D), in(w, TOKENS, H * D), out(w, TOKENS, H * D), out32(w, TOKENS, H), D, H, H, 50, 0.2, 4, true,
                                 &w->packing, 0, 0, 0, 0}, out(w, TOKENS, H * D), out(w, TOKENS, H * D), out(w, TOKENS, H * D), in(w, TOKENS, H * D)};

    CAD_TRY(cad_attention_fwd(w->d, &x.f));
    return cad_attention_bwd(w->d, &x);
}

static cad_status gates(world *w)
{
    for (int act = CAD_ACT_SILU; act <= CAD_ACT_TANH; act++) {
        cad_tensor gate = in(w, 40, COLS), up = in(w, 40, COLS);
        CAD_TRY(cad_glu_fwd(w->d, &(cad_glu_args){out(w, 40, COLS), gate, up, (cad_activation)act}));
        CAD_TRY(cad_glu_bwd(w->d, &(cad_glu_bwd_args){out(w, 40, COLS), out(w, 40, COLS), in(w, 40, COLS), gate, up, {0}, (cad_activation)act}));
    }
    return CAD_OK;
}

static cad_status tokens(world *w)
{
    cad_tensor table = in(w, 50, COLS), h = out32(w, TOKENS, COLS), y = out(w, SEQUENCES, COLS);

    CAD_TRY(cad_embed_fwd(w->d, &(cad_embed_args){h, table, 2, -1, &w->packing, false, false}));
    CAD_TRY(cad_embed_bwd(w->d, &(cad_embed_args){h, out32(w, 50, COLS), 0.5, 3, &w->packing, false, false}));
    CAD_TRY(cad_pool_fwd(w->d, &(cad_pool_args){y, h, CAD_POOLING_MEAN, &w->packing}));
    CAD_TRY(cad_pool_bwd(w->d, &(cad_pool_args){y, out(w, TOKENS, COLS), CAD_POOLING_LAST, &w->packing}));
    CAD_TRY(cad_xent(w->d, &(cad_xent_args){h, out(w, TOKENS, COLS), add(w, CAD_F64, TOKENS, 1, true), add(w, CAD_I32, TOKENS, 1, false), in32(w, TOKENS, 1), 0.1, 5}));
    return cad_sum_rows(w->d, &(cad_sum_rows_args){out32(w, 1, COLS), in(w, TOKENS, COLS), true});
}

static cad_status elements(world *w)
{
    cad_tensor x = in(w, TOKENS, COLS), y = out32(w, TOKENS, COLS);

    CAD_TRY(cad_axpby(w->d, &(cad_axpby_args){y, x, 0.5, 2}));
    return cad_dropout(w->d, &(cad_dropout_args){out(w, TOKENS, COLS), y, 0.1, 7, 8, 9, true});
}

static cad_status flat(world *w)
{
    enum { ELEMENTS = 100003 };
    cad_tensor p = out32(w, 1, ELEMENTS), m = out32(w, 1, ELEMENTS), v = out32(w, 1, ELEMENTS), g = in32(w, 1, ELEMENTS), copy = add(w, CAD_BF16, 1, ELEMENTS, true);
    cad_tensor q = add(w, CAD_I64, 1, ELEMENTS, true), largest = add(w, CAD_F64, 1, 1, true);

    CAD_TRY(cad_axpby(w->d, &(cad_axpby_args){v, g, 0, 0})); /* second moments are not negative */
    CAD_TRY(cad_adamw(w->d, &(cad_adamw_args){p, m, v, g, copy, 1e-3, 0.9, 0.999, 1e-8, 0.1, 0.7, 3}));
    CAD_TRY(cad_sumsq(w->d, &(cad_sumsq_args){g, add(w, CAD_F64, 1, cad_ceil_div(ELEMENTS, CAD_CHUNK), true)}));
    CAD_TRY(cad_fixed_add(w->d, &(cad_fixed_args){q, p, largest, 40, true}));
    CAD_TRY(cad_add_i64(w->d, q, add(w, CAD_I64, 1, ELEMENTS, false)));
    return cad_fixed_back(w->d, &(cad_fixed_args){q, out32(w, 1, ELEMENTS), largest, 40, false});
}

typedef struct trial { const char *name; cad_status (*run)(world *w); } trial;
static const trial trials[] = {{"forward product", forward_product}, {"product", input_product}, {"weight product", weight_product}, {"narrow product", narrow_product}, {"few rows", few_rows},
                               {"norm", norm}, {"centred norm", centred_norm}, {"experts", experts}, {"attention", attention}, {"window", windows}, {"gates", gates}, {"tokens", tokens}, {"elements", elements}, {"flat", flat}};
enum { PRODUCTS = 5, TRIALS = sizeof trials / sizeof *trials };

/* ---- runs ---- */

static void pack(world *w)
{
    w->packing = (cad_packing){TOKENS, SEQUENCES, 228, starts, ids, NULL, NULL};
    for (int t = 0; t < TOKENS; t++) ids[t] = t * 7 % 50;
    assert_int_equal(cad_device_alloc(w->d, &w->starts, sizeof starts, "starts"), CAD_OK);
    assert_int_equal(cad_device_alloc(w->d, &w->ids, sizeof ids, "ids"), CAD_OK);
    assert_int_equal(cad_device_upload(w->d, w->starts, starts, sizeof starts), CAD_OK);
    assert_int_equal(cad_device_upload(w->d, w->ids, ids, sizeof ids), CAD_OK);
    w->packing.starts_dev = w->starts;
    w->packing.ids_dev = w->ids;
}

/* Runs a trial; *work: what it needs, found where 0. Results one after the other into *got (NULL: none wanted). */
static int64_t run(const trial *t, const char *device, int threads, cad_dtype real, int64_t *work, char **got)
{
    world w = {.real = real};
    int64_t size = 0;

    assert_int_equal(cad_device_open(&w.d, device, threads), CAD_OK);
    pack(&w);
    if (*work) assert_int_equal(cad_device_reserve(w.d, *work), CAD_OK);
    if (t->run(&w)) fail_msg("%s: %s", t->name, cad_reason());
    *work = cad_device_work_needed(w.d);
    for (int i = 0; i < w.n; i++) size += w.result[i] ? bytes(w.t[i]) : 0;
    if (got) assert_int_equal(cad_alloc(got, (size_t)size, 1, "results"), CAD_OK);
    for (int64_t i = 0, at = 0; got && i < w.n; i++)
        if (w.result[i]) {
            assert_int_equal(cad_device_download(w.d, *got + at, w.t[i].data, bytes(w.t[i])), CAD_OK);
            at += bytes(w.t[i]);
        }
    for (int i = 0; i < w.n; i++) cad_device_free(w.d, &w.t[i].data);
    cad_device_free(w.d, &w.starts);
    cad_device_free(w.d, &w.ids);
    assert_int_equal(cad_device_close(&w.d), CAD_OK);
    return size;
}

static int64_t results(const trial *t, int threads, cad_dtype real, char **got)
{
    int64_t work = 0;

    run(t, "plan:cpu", threads, real, &work, NULL);
    return run(t, "cpu", threads, real, &work, got);
}

static void same_bits(const trial *t, cad_dtype real)
{
    char *one, *many;
    int64_t size = results(t, 1, real, &one);

    for (int threads = 2; threads <= 4; threads++) {
        assert_int_equal(results(t, threads, real, &many), size);
        if (memcmp(one, many, (size_t)size)) fail_msg("%s in %s: bits of 1 and of %d threads differ", t->name, cad_dtype_name(real), threads);
        cad_free(&many);
    }
    cad_free(&one);
}

static void every_operation_gives_the_same_bits_on_1_to_4_threads(void **state)
{
    (void)state;
    for (int i = 0; i < TRIALS; i++) {
        same_bits(&trials[i], CAD_F32);
        same_bits(&trials[i], CAD_BF16);
    }
}

static void choose(const char *products)
{
    if (products)
        setenv("CADTRAIN_BF16_PRODUCTS", products, 1);
    else
        unsetenv("CADTRAIN_BF16_PRODUCTS");
}

static bool no_native_products(void)
{
    cad_device *d;
    cad_status status;

    choose("native");
    status = cad_device_open(&d, "cpu", 1);
    choose(NULL);
    if (status) print_message("skipped: %s\n", cad_reason());
    cad_clear();
    return status || cad_device_close(&d);
}

static void native_products_give_the_same_bits_on_1_to_4_threads(void **state)
{
    (void)state;
    if (no_native_products()) skip();
    choose("native");
    for (int i = 0; i < PRODUCTS; i++) same_bits(&trials[i], CAD_BF16);
    choose(NULL);
}

static double element(const char *at, cad_dtype dtype, int64_t i)
{
    uint16_t half;
    float single;

    if (dtype == CAD_BF16) {
        memcpy(&half, at + 2 * i, 2);
        return (double)cad_bf16_to_f32(half);
    }
    memcpy(&single, at + 4 * i, 4);
    return (double)single;
}

/* Two sums of `terms` in fp32, each rounded once: root mean squares differ by 4 (u(result) + u(fp32) sqrt(terms)). */
static void close_to(const trial *t, const char *a, const char *b, cad_dtype dtype, int64_t n, int64_t terms)
{
    double difference = 0, whole = 0, limit = 4 * ((dtype == CAD_BF16 ? 0x1p-9 : 0x1p-24) + 0x1p-24 * sqrt((double)terms));

    for (int64_t i = 0; i < n; i++) {
        double x = element(a, dtype, i), y = element(b, dtype, i);
        difference += (x - y) * (x - y);
        whole += x * x;
    }
    if (!(sqrt(difference) <= limit * sqrt(whole))) fail_msg("%s: native and converted products differ by %g, allowed %g", t->name, sqrt(difference / whole), limit);
}

static void native_products_agree_with_those_in_fp32(void **state)
{
    (void)state;
    if (no_native_products()) skip();
    for (int i = 0; i < PRODUCTS; i++) {
        cad_dtype dtype = i < 2 ? CAD_BF16 : CAD_F32;
        char *native, *convert;
        int64_t size;
        choose("native");
        size = results(&trials[i], 2, CAD_BF16, &native);
        choose("convert");
        assert_int_equal(results(&trials[i], 2, CAD_BF16, &convert), size);
        choose(NULL);
        close_to(&trials[i], native, convert, dtype, size / (int64_t)cad_dtype_bytes(dtype), K);
        cad_free(&native);
        cad_free(&convert);
    }
}

static void product_of(int64_t m, int64_t n, int64_t k, bool turned, cad_dtype dtype, int threads)
{
    int64_t work = 0;

    for (int real = 0; real < 2; real++) {
        world w = {.real = dtype};
        assert_int_equal(cad_device_open(&w.d, real ? "cpu" : "plan:cpu", threads), CAD_OK);
        if (real) assert_int_equal(cad_device_reserve(w.d, work), CAD_OK);
        cad_matmul_args x = {.a = in(&w, m, k), .b = turned ? in(&w, n, k) : in(&w, k, n), .tb = turned, .alpha = 1, .c = out(&w, m, n)};
        x.a2 = x.a, x.b2 = x.b, x.tb2 = turned, x.alpha2 = -1;
        if (cad_matmul(w.d, &x)) fail_msg("%lld x %lld x %lld on %d threads: %s", (long long)m, (long long)n, (long long)k, threads, cad_reason());
        work = cad_device_work_needed(w.d);
        for (int i = 0; i < w.n; i++) cad_device_free(w.d, &w.t[i].data);
        assert_int_equal(cad_device_close(&w.d), CAD_OK);
    }
}

/* The backend asserts that the space planned holds what it lays out. */
static void the_work_space_planned_suffices(void **state)
{
    static const int64_t rows[] = {1, 40, 320, 321, 700}, cols[] = {50, 800}, terms[] = {33, 800};

    (void)state;
    for (int i = 0; i < 5 * 2 * 2 * 3; i++) {
        choose(i % 3 == 2 ? "convert" : NULL);
        product_of(rows[i / 3 % 5], cols[i / 15 % 2], terms[i / 30], i % 2, i % 3 ? CAD_BF16 : CAD_F32, i % 3 == 2 ? 16 : 3);
    }
    choose("convert");
    product_of(40, 6144, 768, true, CAD_BF16, 48);
    choose(NULL);
}

static void repeated_products_allocate_nothing(void **state)
{
    world w = {.real = CAD_BF16};
    int64_t work = 0, before;
    cad_tensor a, b, c;

    (void)state;
    run(&trials[0], "plan:cpu", 2, CAD_BF16, &work, NULL);
    assert_int_equal(cad_device_open(&w.d, "cpu", 2), CAD_OK);
    assert_int_equal(cad_device_reserve(w.d, work), CAD_OK);
    a = in(&w, M, K), b = in(&w, N, K), c = out(&w, M, N);
    assert_int_equal(cad_matmul(w.d, &(cad_matmul_args){.a = a, .b = b, .tb = true, .alpha = 1, .c = c}), CAD_OK);
    before = cad_mem_calls();
    assert_int_equal(cad_matmul(w.d, &(cad_matmul_args){.a = a, .b = b, .tb = true, .alpha = 1, .c = c}), CAD_OK);
    assert_int_equal(cad_mem_calls(), before);
    for (int i = 0; i < w.n; i++) cad_device_free(w.d, &w.t[i].data);
    assert_int_equal(cad_device_close(&w.d), CAD_OK);
}

static void no_failed_allocation_leaks(void **state)
{
    cad_status status = CAD_ERESOURCE;
    cad_device *d;

    (void)state;
    choose(no_native_products() ? NULL : "native");
    for (int64_t nth = 1; status; nth++) {
        cad_mem_fail_at(nth);
        status = cad_device_open(&d, "cpu", 2);
        cad_mem_fail_at(0);
        if (status) assert_true(status == CAD_ERESOURCE && !d && !cad_mem_blocks());
        cad_clear();
    }
    choose(NULL);
    assert_int_equal(cad_device_close(&d), CAD_OK);
    assert_int_equal(cad_mem_blocks(), 0);
}

static void other_words_for_products_are_refused(void **state)
{
    cad_device *d = NULL;

    (void)state;
    choose("nativ");
    assert_int_equal(cad_device_open(&d, "cpu", 1), CAD_EUSAGE);
    choose(NULL);
    assert_null(d);
    assert_string_equal(cad_reason(), "CADTRAIN_BF16_PRODUCTS: expected native or convert, found \"nativ\"");
    cad_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_words_for_products_are_refused),
        cmocka_unit_test(every_operation_gives_the_same_bits_on_1_to_4_threads),
        cmocka_unit_test(native_products_give_the_same_bits_on_1_to_4_threads),
        cmocka_unit_test(native_products_agree_with_those_in_fp32),
        cmocka_unit_test(the_work_space_planned_suffices),
        cmocka_unit_test(repeated_products_allocate_nothing),
        cmocka_unit_test(no_failed_allocation_leaks),
    };
    return cmocka_run_group_tests_name("bits of the cpu device", tests, make_normals, NULL);
}
