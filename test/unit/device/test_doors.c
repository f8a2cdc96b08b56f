/* The doors refuse what no backend should see, with the operation, what was expected and what was found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <cadtrain/device.h>

enum { ROOM = 1 << 16 };
typedef struct bench { cad_device *d; char *at; } bench;

static int set_up(void **state)
{
    static bench b;

    cad_clear();
    if (cad_device_open(&b.d, "ref", 0)) return -1;
    if (cad_device_alloc(b.d, &b.at, ROOM, "arena") || cad_device_zero(b.d, b.at, ROOM)) return -1;
    *state = &b;
    return 0;
}

static int tear_down(void **state)
{
    bench *b = *state;

    cad_device_free(b->d, &b->at);
    return cad_device_close(&b->d) || cad_mem_blocks();
}

/* The i-th kilobyte. */
static cad_tensor f32(const bench *b, int i, int64_t rows, int64_t cols) { return cad_view(b->at + 1024 * i, CAD_F32, rows, cols); }
static cad_tensor as(cad_tensor t, cad_dtype dtype)
{
    t.dtype = dtype;
    return t;
}

static void refused(cad_status status, const char *words)
{
    assert_int_equal(status, CAD_EINTERNAL);
    if (!strstr(cad_reason(), words)) fail_msg("expected \"%s\" in \"%s\"", words, cad_reason());
    cad_clear();
}

static void accepted(cad_status status)
{
    if (status) fail_msg("%s", cad_reason());
}

static void an_unknown_name_is_refused(void **state)
{
    cad_device *d;

    (void)state;
    assert_int_equal(cad_device_open(&d, "gpu", 0), CAD_EUSAGE);
    assert_null(d);
    assert_string_equal(cad_reason(), "device: expected cpu, cuda, cuda:N, emulated, ref, check, check:cpu, plan:cpu or plan:ref, found \"gpu\"");
    cad_clear();
    assert_int_equal(cad_device_open(&d, "ref", -1), CAD_EUSAGE);
    cad_clear();
    assert_int_equal(cad_device_close(&d), CAD_OK);
}

static void a_device_tells_what_it_is(void **state)
{
    bench *b = *state;

    assert_string_equal(cad_device_name(b->d), "ref");
    assert_non_null(strstr(cad_device_description(b->d), "double"));
    assert_true(cad_device_threads(b->d) >= 1);
    assert_false(cad_device_pretends(b->d));
}

static void bytes_move_only_inside_blocks(void **state)
{
    bench *b = *state;
    char host[8] = {1, 2, 3};
    void *none = NULL;

    accepted(cad_device_upload(b->d, b->at + ROOM - 8, host, 8));
    refused(cad_device_upload(b->d, b->at + ROOM - 7, host, 8), "upload of 8 bytes: not inside any block alive of device ref; the block before is arena (65536 bytes), 65529 bytes earlier");
    refused(cad_device_download(b->d, host, b->at, -1), "download of -1 bytes");
    refused(cad_device_zero(b->d, host, 8), "zero of 8 bytes");
    refused(cad_device_copy(b->d, b->at, host, 8), "copy (from) of 8 bytes");
    refused(cad_device_alloc(b->d, &none, -1, "x"), "x asks for -1 bytes");
    assert_null(none);
}

static void shapes_must_fit(void **state)
{
    bench *b = *state;
    cad_matmul_args x = {.c = f32(b, 0, 3, 4), .a = f32(b, 1, 3, 5), .b = f32(b, 2, 6, 4), .alpha = 1};

    refused(cad_matmul(b->d, &x), "matmul: expected b F32 [5, 4], found F32 [6, 4] with ld 4");
    x.b = f32(b, 2, 4, 5);
    x.tb = true;
    accepted(cad_matmul(b->d, &x));
    x.bias = f32(b, 3, 1, 5);
    refused(cad_matmul(b->d, &x), "matmul: expected bias F32 [1, 4], found F32 [1, 5] with ld 5");
    x.bias = f32(b, 3, 1, 4);
    x.a2 = f32(b, 4, 3, 2);
    refused(cad_matmul(b->d, &x), "matmul: expected b2 F32 [2, 4], found none");
    x.b2 = f32(b, 5, 2, 4);
    accepted(cad_matmul(b->d, &x));
    x.a.ld = 4;
    refused(cad_matmul(b->d, &x), "found F32 [3, 5] with ld 4");
}

static void dtypes_must_fit(void **state)
{
    bench *b = *state;
    cad_rmsnorm_args x = {.y = f32(b, 0, 2, 4), .x = f32(b, 1, 2, 4), .w = f32(b, 2, 1, 4), .rstd = f32(b, 3, 2, 1), .eps = 1e-5};

    accepted(cad_rmsnorm_fwd(b->d, &x));
    x.rstd.dtype = CAD_BF16;
    refused(cad_rmsnorm_fwd(b->d, &x), "rmsnorm_fwd: expected rstd F32 or F64 [2, 1], found BF16 [2, 1]");
    x.rstd.dtype = CAD_F32;
    x.x.dtype = CAD_I32;
    refused(cad_rmsnorm_fwd(b->d, &x), "rmsnorm_fwd: expected x F32 or BF16 or F64 [2, 4], found I32 [2, 4]");
    x.x.dtype = CAD_F64;
    refused(cad_rmsnorm_fwd(b->d, &x), "rmsnorm_fwd: expected rstd F64 as x is, found F32");
    x.x = f32(b, 1, 2, 4);
    x.eps = -1;
    refused(cad_rmsnorm_fwd(b->d, &x), "rmsnorm_fwd: expected eps >= 0, found -1");
}

static void arguments_must_be_there_aligned_and_in_memory(void **state)
{
    bench *b = *state;
    cad_axpby_args x = {.y = f32(b, 0, 2, 4), .alpha = 1};

    refused(cad_axpby(b->d, &x), "axpby: expected y F32 or BF16 or F64 [0, 0], found F32 [2, 4]");
    x.x = f32(b, 1, 2, 4);
    x.x.data = (char *)x.x.data + 2;
    refused(cad_axpby(b->d, &x), "axpby: x is not aligned to its F32 elements");
    x.x = f32(b, 63, 2, 200);
    x.y = f32(b, 0, 2, 200);
    refused(cad_axpby(b->d, &x), "axpby: x [2, 200] does not lie inside one block alive of device ref");
    x.x = cad_view(b->at, CAD_F32, (int64_t)1 << 32, (int64_t)1 << 32);
    x.y = x.x;
    refused(cad_axpby(b->d, &x), "axpby: expected y");
}

static void results_must_not_overlap_what_is_read(void **state)
{
    bench *b = *state;
    cad_tensor wide = f32(b, 0, 4, 12);
    cad_glu_bwd_args g = {.dgate = f32(b, 4, 2, 4), .dup = f32(b, 5, 2, 4), .dm = f32(b, 6, 2, 4), .gate = f32(b, 4, 2, 4), .up = f32(b, 5, 2, 4)};

    refused(cad_matmul(b->d, &(cad_matmul_args){.c = f32(b, 0, 4, 4), .a = f32(b, 1, 4, 4), .b = cad_view(b->at + 60, CAD_F32, 4, 4), .alpha = 1}),
            "matmul: c [4, 4] and b [4, 4] overlap in memory");
    accepted(cad_matmul(b->d, &(cad_matmul_args){.c = cad_columns(wide, 0, 4), .a = cad_columns(wide, 4, 4), .b = cad_columns(wide, 8, 4), .alpha = 1}));
    refused(cad_matmul(b->d, &(cad_matmul_args){.c = cad_columns(wide, 0, 4), .a = cad_columns(wide, 3, 4), .b = cad_columns(wide, 8, 4), .alpha = 1}), "overlap");
    refused(cad_matmul(b->d, &(cad_matmul_args){.c = cad_columns(wide, 3, 4), .a = cad_columns(wide, 0, 4), .b = cad_columns(wide, 8, 4), .alpha = 1}), "overlap");
    accepted(cad_axpby(b->d, &(cad_axpby_args){.y = cad_slice(wide, 0, 2), .x = cad_slice(wide, 2, 2), .alpha = 1}));
    accepted(cad_axpby(b->d, &(cad_axpby_args){.y = wide, .x = wide, .alpha = 2}));
    refused(cad_axpby(b->d, &(cad_axpby_args){.y = as(wide, CAD_BF16), .x = wide, .alpha = 2}), "overlap");
    accepted(cad_glu_bwd(b->d, &g));
    g.dgate = f32(b, 6, 2, 4);
    refused(cad_glu_bwd(b->d, &g), "glu_bwd: dm [2, 4] and dgate [2, 4] overlap in memory");
}

static cad_packing packing(bench *b, const int32_t *starts, int32_t sequences, const int32_t *ids)
{
    cad_packing p = {.tokens = starts[sequences], .sequences = sequences, .longest = 3, .starts = starts, .ids = ids};

    p.starts_dev = (const int32_t *)(b->at + 60 * 1024);
    p.ids_dev = (const int32_t *)(b->at + 61 * 1024);
    accepted(cad_device_upload(b->d, b->at + 60 * 1024, starts, 4 * (sequences + 1)));
    if (ids) accepted(cad_device_upload(b->d, b->at + 61 * 1024, ids, 4 * p.tokens));
    return p;
}

static cad_status pool(bench *b, const cad_packing *p)
{
    return cad_pool_fwd(b->d, &(cad_pool_args){.y = f32(b, 0, p ? p->sequences : 1, 4), .x = f32(b, 1, p ? p->tokens : 1, 4), .packing = p});
}

static void packings_must_be_sound(void **state)
{
    bench *b = *state;
    cad_packing p = packing(b, (const int32_t[]){0, 3, 5}, 2, NULL);

    accepted(pool(b, &p));
    p.longest = 2;
    refused(pool(b, &p), "pool_fwd: expected packing.longest to be the longest sequence, found 2");
    p.longest = 3;
    p.tokens = 6;
    refused(pool(b, &p), "pool_fwd: expected packing ends at its count of tokens, found 5");
    p = packing(b, (const int32_t[]){0, 3, 3}, 2, NULL);
    refused(pool(b, &p), "pool_fwd: expected sequences of at least one token, found 0");
    p = packing(b, (const int32_t[]){1, 3}, 1, NULL);
    refused(pool(b, &p), "pool_fwd: expected packing starts at 0, found 1");
    refused(pool(b, NULL), "pool_fwd: expected a packing with starts, found none");
    p = packing(b, (const int32_t[]){0}, 0, NULL);
    accepted(pool(b, &p));
}

static void ids_must_be_rows_of_the_table(void **state)
{
    bench *b = *state;
    cad_packing p = packing(b, (const int32_t[]){0, 3}, 1, (const int32_t[]){0, 6, 7});
    cad_embed_args x = {.h = f32(b, 0, 3, 4), .table = f32(b, 1, 7, 4), .scale = 1, .skip = -1, .packing = &p};

    refused(cad_embed_fwd(b->d, &x), "embed_fwd: expected ids below 7, found 7 at token 2");
    x.table.rows = 8;
    accepted(cad_embed_fwd(b->d, &x));
    x.skip = 8;
    refused(cad_embed_bwd(b->d, &x), "embed_bwd: expected skip to be a row of the table or -1, found 8");
    p.ids = NULL;
    refused(cad_embed_fwd(b->d, &x), "embed_fwd: expected a packing with ids, found none");
}

static void heads_must_divide(void **state)
{
    bench *b = *state;
    cad_packing p = packing(b, (const int32_t[]){0, 3}, 1, NULL);
    cad_attention_args x = {.q = f32(b, 0, 3, 12), .k = f32(b, 1, 3, 8), .v = f32(b, 2, 3, 8), .o = f32(b, 3, 3, 12), .lse = f32(b, 4, 3, 3), .head_dim = 4, .q_heads = 3,
                            .kv_heads = 2, .scale = 1, .packing = &p};

    refused(cad_attention_fwd(b->d, &x), "attention_fwd: expected q_heads to be a multiple of kv_heads > 0, found 3");
    x.kv_heads = 1;
    refused(cad_attention_fwd(b->d, &x), "attention_fwd: expected k F32 [3, 4], found F32 [3, 8]");
    refused(cad_rope(b->d, &(cad_rope_args){.x = f32(b, 0, 3, 12), .head_dim = 3, .packing = &p}), "rope: expected an even head_dim, found 3");
    refused(cad_rope(b->d, &(cad_rope_args){.x = f32(b, 0, 3, 12), .head_dim = 4, .cosine = f32(b, 1, 2, 2), .sine = f32(b, 2, 2, 2), .packing = &p}),
            "rope: expected a cosine for every position of the longest sequence, found 2");
}

static void scalars_must_be_in_range(void **state)
{
    bench *b = *state;
    cad_tensor y = f32(b, 0, 2, 4), x = f32(b, 1, 2, 4), flat = f32(b, 2, 1, 4);

    refused(cad_dropout(b->d, &(cad_dropout_args){.y = y, .x = x, .p = 1}), "dropout: expected p in [0, 1), found 1");
    refused(cad_dropout(b->d, &(cad_dropout_args){.y = y, .x = x, .p = 0.5, .index = (uint64_t)1 << 31}), "dropout: expected index < 2^31");
    refused(cad_adamw(b->d, &(cad_adamw_args){.p = flat, .m = f32(b, 3, 1, 4), .v = f32(b, 4, 1, 4), .g = f32(b, 5, 1, 4)}), "adamw: expected steps counted from 1, found 0");
    refused(cad_add_i64(b->d, as(flat, CAD_I64), f32(b, 3, 1, 4)), "add_i64: expected q2 I64 [1, 4], found F32 [1, 4]");
}

static void no_rows_are_no_work_but_sums_over_them_are_zero(void **state)
{
    bench *b = *state;
    int64_t launches = cad_device_launches(b->d);
    float one[4] = {1, 1, 1, 1}, got[4];

    accepted(cad_matmul(b->d, &(cad_matmul_args){.c = f32(b, 0, 0, 4), .a = f32(b, 1, 0, 5), .b = f32(b, 2, 5, 4), .alpha = 1}));
    assert_int_equal(cad_device_launches(b->d), launches);
    accepted(cad_device_upload(b->d, b->at, one, 16));
    accepted(cad_sum_rows(b->d, &(cad_sum_rows_args){.y = f32(b, 0, 1, 4), .x = f32(b, 1, 0, 4)}));
    assert_int_equal(cad_device_launches(b->d), launches + 1);
    accepted(cad_device_download(b->d, got, b->at, 16));
    assert_true(got[0] == 0 && got[3] == 0);
}

static void the_reserve_counts_and_is_replaced(void **state)
{
    bench *b = *state;

    accepted(cad_device_reserve(b->d, 100));
    assert_int_equal(cad_device_bytes(b->d), ROOM + 100);
    accepted(cad_device_reserve(b->d, 50));
    assert_int_equal(cad_device_bytes(b->d), ROOM + 50);
    assert_int_equal(cad_device_peak(b->d), ROOM + 100);
}

static void no_failed_allocation_leaks(void **state)
{
    (void)state;
    int64_t before = cad_mem_blocks();
    for (int64_t nth = 1;; nth++) {
        cad_device *d;
        void *p[70] = {NULL};
        cad_mem_fail_at(nth);
        cad_status status = cad_device_open(&d, "ref", 1);
        for (int i = 0; !status && i < 70; i++) status = cad_device_alloc(d, &p[i], 8, "p");
        for (int i = 0; d && i < 70; i++) cad_device_free(d, &p[i]);
        assert_int_equal(cad_device_close(&d), CAD_OK);
        cad_mem_fail_at(0);
        assert_int_equal(cad_mem_blocks(), before);
        if (!status) break;
        assert_int_equal(status, CAD_ERESOURCE);
        cad_clear();
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_unknown_name_is_refused),
        TEST(a_device_tells_what_it_is),
        TEST(bytes_move_only_inside_blocks),
        TEST(shapes_must_fit),
        TEST(dtypes_must_fit),
        TEST(arguments_must_be_there_aligned_and_in_memory),
        TEST(results_must_not_overlap_what_is_read),
        TEST(packings_must_be_sound),
        TEST(ids_must_be_rows_of_the_table),
        TEST(heads_must_divide),
        TEST(scalars_must_be_in_range),
        TEST(no_rows_are_no_work_but_sums_over_them_are_zero),
        TEST(the_reserve_counts_and_is_replaced),
        TEST(no_failed_allocation_leaks),
    };
    return cmocka_run_group_tests_name("doors", tests, NULL, NULL);
}
