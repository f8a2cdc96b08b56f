/* Blocks against the values of the `gguf` package 0.19 (quants.dequantize), files put together by hand, and files that are refused. */
#include "../base/scratch.h"

#include "gguf_file.h"
#include <math.h>
#include <unistd.h>

/* One block each; 16 values spread evenly over it, as bytes of fp32. */
static const struct { const char *kind; int type; const char *bytes, *values; } vectors[] = {
    {"Q4_0", 2,
     "09afe5f1a94106a0956a26afbccdafe562f9",
     "00d8a83e0020e1bd0020613e00d8a83e0020613e0020e1be00fc44bf00d8283f00d828bf002061be0020613f0020e1bd00d8283f00d8a8be002061be00fc44bf"},
    {"Q4_1", 3,
     "55b21d304551370e99b2d74c3427fa48d732a1df",
     "00605cbf00d8a0bf0080d3bf00d8a0bf00b829bf00d4ecbf00d8a0bf00008ebd00b829bf0020eebe0080d3bf00681cc00020eebe00bc35c000681cc000681cc0"},
    {"Q5_0", 6,
     "acada621f9bd0ccc21397c1ec795ca7748dc03d17a88",
     "0080b53e0080b5bd0080b53e00304c3f00e062bf0080353f0078933f0020083f0000008000d09e3f00d01ebf002088bf002088bf0080b5be00000080008035bf"},
    {"Q5_1", 7,
     "7a2558321f223f4192c58efd5185f0711ef7677a1f132a81",
     "0054153f000c573f00da0f3f00004b3e00d8fe3e002cb23e00e6043f0008d33e00aa3b3f0030363f00c2253f00e6043f00da0f3f0038a73e00e8603e0020bd3e"},
    {"Q8_0", 8,
     "c329c3ce3be4ebcab72f45b35223479f6e794d57037e2cfde9e15a7789781e3721a5",
     "80bb2fc080f8294000fe71bf804d52c080c74640003b6c40808a4c4080729e4080d35d4000480a3e0084fd3f008584bf80a381404069abc000daac3f401483c0"},
    {"Q4_K", 12,
     "de30031c1bdc5d1d8fc83f0b0bb4db71be572209851d3d24f4c0cf83fe4363f82f4759778955f6ced681cbea7179ced2c8f814a13472ff70ce369d8385452a44f318337f08cd1e614f235d"
     "3f83bc45fee9ee0403a79be118544441317c9311f85e0429b19f7ec0e156f65a3322e791b880ee995e3f0d307d2fbaf400693a179e0d027ed4e58be7a9ebc28a271d43a788",
     "53bd65422681e541a0c70741d03dee41862c8b4103616442903d8442be60d3410025d240809c1e419e3efb419ef8bb4119a31342644e44410056ff3d603d983f"},
    {"Q5_K", 13,
     "abaefea8869793f0aad6ded8116e3ab51681c4a374fec70a68b3e4bdc92b387987416c17ec90963ec766888ab4b80eba7c5cfd81121bea9cee1810dfd5169faf26cd7b5c30c8aba44d9722"
     "99e8c7b41b9a1d2b0f180600a974d63b6332202c998e82b2522c49c4394c7d73265b6aaf61b288fbd0aecfa766616223611e764c93aa388ffabd0a6a6412b209971e2d827076f7e49ab8fa"
     "197271be53a3442b128cdad72bad0f8aeef42a0b9a26d74fc78f",
     "00a1bbc080ec83c190580cc270db45c2605b39c2e02a85c100a06f3f402abcc200ac09c080dbb2c05052a8c2001c24c2580eabc250987ec200224ec08c3902c3"},
    {"Q6_K", 14,
     "2562b87049307fd37899c118819af6674394c3f7aa5f93f32c810a37ca7bf1013ccdf8ab8ab4a6039954e84cbe3b3f7f1183c3df8375c517b4e786a9aadf7488f892b12191387ad86aca56"
     "d8531c927b931fe8f16e795b9b331767e712dbe8f5331dd9917f01e64710dd3c25f4d21690a049453135550ec0193a8bed1783d53ec944658d1d28960c44b0382e93438e60788d51e279a1"
     "31f8130b3ea4bd2f5d95e57bd791436d840f4e6654608135bbfb885d346959a49b36402a4f3dcc489fb6511fbe09e5d72bf834e04fe028ca4991e124",
     "d8d887c180dee2c000012141409e3ac08098c540400b7ac0e01e034100e225c080901e41009c88c080b7c0c0007d8dc1c0a9a4c1106e9c418014b23fa015cbc0"},
};

static size_t from_hex(const char *hex, unsigned char *out)
{
    size_t n = strlen(hex) / 2;

    for (size_t i = 0; i < n; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], 0};
        out[i] = (unsigned char)strtoul(pair, NULL, 16);
    }
    return n;
}

static const char *written(const cad_str *bytes, const char *name)
{
    put_file(in_scratch(name), bytes->data, bytes->size);
    return in_scratch(name);
}

static cad_gguf *opened(const gguf_file *f)
{
    cad_str bytes = {0};
    cad_gguf *g;

    gguf_build(f, &bytes);
    if (cad_gguf_open(&g, written(&bytes, "x.gguf"))) fail_msg("%s", cad_reason());
    cad_str_close(&bytes);
    return g;
}

static void blocks_are_dequantised_bit_by_bit_as_ggml_does(void **state)
{
    (void)state;
    for (size_t v = 0; v < sizeof vectors / sizeof *vectors; v++) {
        unsigned char block[256], want[64];
        size_t n = from_hex(vectors[v].bytes, block);
        int64_t values = n > 40 ? 256 : 32;
        float got[256], one;
        gguf_file f = {0};
        from_hex(vectors[v].values, want);
        gguf_tensor(&f, "t", vectors[v].type, (uint64_t)values, 0, block, n);
        cad_gguf *g = opened(&f);
        const cad_st_tensor *t = cad_gguf_at(g, 0);
        assert_string_equal(cad_st_kind(t), vectors[v].kind);
        assert_int_equal(cad_st_read_f32(t, 0, values, got), CAD_OK);
        for (int i = 0; i < 16; i++) {
            int64_t at = (int64_t)((double)(values - 1) / 15 * i);
            assert_memory_equal(&got[at], want + 4 * i, 4);
            assert_int_equal(cad_st_read_f32(t, at, 1, &one), CAD_OK);
            assert_memory_equal(&one, want + 4 * i, 4);
        }
        cad_gguf_close(&g);
        gguf_close(&f);
    }
}

static void metadata_are_read_by_kind(void **state)
{
    static const char *const words[] = {"one", "", "three"};
    static const int numbers[] = {1, -2};
    gguf_file f = {0};
    cad_gguf_value v;

    (void)state;
    gguf_u32(&f, "a", 7);
    gguf_f32(&f, "b", 0.5f);
    gguf_string(&f, "c", "text");
    gguf_strings(&f, "d", words, 3);
    gguf_ints(&f, "e", numbers, 2);
    cad_gguf *g = opened(&f);
    assert_true(cad_gguf_get(g, "a", &v) && v.kind == CAD_INT && v.integer == 7);
    assert_true(cad_gguf_get(g, "b", &v) && v.kind == CAD_REAL && v.real == 0.5);
    assert_true(cad_gguf_get(g, "c", &v) && v.kind == CAD_STRING && v.size == 4 && !memcmp(v.text, "text", 4));
    assert_true(cad_gguf_get(g, "d", &v) && v.kind == CAD_LIST && v.count == 3);
    assert_true(cad_gguf_item(&v, 1).size == 0 && cad_gguf_item(&v, 2).size == 5);
    assert_true(cad_gguf_get(g, "e", &v) && cad_gguf_item(&v, 1).integer == -2);
    assert_false(cad_gguf_get(g, "f", &v));
    cad_gguf_close(&g);
    gguf_close(&f);
}

/* ---- refused ---- */

static void expect_refused(const cad_str *bytes, const char *part)
{
    cad_gguf *g;

    assert_int_equal(cad_gguf_open(&g, written(bytes, "bad.gguf")), CAD_EMODEL);
    assert_null(g);
    assert_false(strchr(cad_reason(), '\n') != NULL);
    expect_reason(part);
}

static void every_truncation_ends_in_one_sentence(void **state)
{
    gguf_file f = {0};
    cad_str bytes = {0};
    size_t whole;

    (void)state;
    gguf_tiny(&f, true);
    gguf_build(&f, &bytes);
    whole = bytes.size;
    for (size_t n = 1; n < whole; n += n < 700 ? 1 : 37) {
        bytes.size = n;
        expect_refused(&bytes, "bad.gguf");
    }
    cad_str_close(&bytes);
    gguf_close(&f);
}

typedef struct bad { const char *part; size_t at; int bytes; uint64_t value; } bad;

static void absurd_numbers_of_the_head_are_refused(void **state)
{
    static const bad cases[] = {{"other first bytes", 0, 4, 0x46554746}, {"version 1", 4, 4, 1}, {"another version", 4, 4, 9}, {"big-endian", 4, 4, 0x03000000},
                                {"tensors", 8, 8, 1000000000}, {"tensors", 8, 8, UINT64_MAX}, {"keys", 16, 8, 1000000000}, {"keys", 16, 8, (uint64_t)1 << 62},
                                {"a key", 24, 8, (uint64_t)1 << 63}, {"a key", 24, 8, 1000000000}};
    gguf_file f = {0};
    cad_str bytes = {0};

    (void)state;
    gguf_tiny(&f, true);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gguf_build(&f, &bytes);
        for (int b = 0; b < cases[i].bytes; b++) bytes.data[cases[i].at + (size_t)b] = (char)(cases[i].value >> (8 * b));
        expect_refused(&bytes, cases[i].part);
    }
    cad_str_close(&bytes);
    gguf_close(&f);
}

static void refuse_file(gguf_file *f, const char *part)
{
    cad_str bytes = {0};

    gguf_build(f, &bytes);
    expect_refused(&bytes, part);
    cad_str_close(&bytes);
    gguf_close(f);
    *f = (gguf_file){0};
}

/* A scale that is no number would be a weight that is none. */
static void scales_that_are_no_numbers_are_refused(void **state)
{
    static const unsigned char block[34] = {0x00, 0x7E, 1, 2}, endless[34] = {0x00, 0x7C, 1, 2};

    (void)state;
    for (int i = 0; i < 2; i++) {
        gguf_file f = {0};
        cad_gguf *g;
        float x[32];
        gguf_tensor(&f, "t", 8, 32, 0, i ? endless : block, 34);
        g = opened(&f);
        assert_int_equal(cad_st_read_f32(cad_gguf_at(g, 0), 0, 32, x), CAD_EMODEL);
        expect_reason("tensor 't': expected finite scales of Q8_0 blocks");
        cad_gguf_close(&g);
        gguf_close(&f);
    }
}

static void tensors_that_cannot_be_are_refused(void **state)
{
    gguf_file f = {0};

    (void)state;
    gguf_tensor(&f, "t", 0, (uint64_t)1 << 40, (uint64_t)1 << 40, NULL, 64);
    refuse_file(&f, "2^63");
    gguf_tensor(&f, "t", 0, (uint64_t)1 << 40, 0, NULL, 64);
    refuse_file(&f, "truncated");
    gguf_tensor(&f, "t", 12, 100, 1, NULL, 144);
    refuse_file(&f, "whole blocks of 256");
    gguf_tensor(&f, "t", 10, 256, 1, NULL, 144);
    refuse_file(&f, "Q2_K");
    gguf_tensor(&f, "t", 77, 256, 1, NULL, 144);
    refuse_file(&f, "type 77 (unknown)");
    gguf_tensor(&f, "t", 0, 8, 0, NULL, 32);
    gguf_tensor(&f, "t", 0, 8, 0, NULL, 32);
    refuse_file(&f, "stands twice");
    gguf_tensor(&f, "t", 0, 8, 0, NULL, 32);
    f.infos.data[f.infos.size - 8] = 32;
    refuse_file(&f, "expected its data at byte 0");
    gguf_tensor(&f, "", 0, 8, 0, NULL, 32);
    refuse_file(&f, "tensor's name");
    gguf_tensor(&f, "t", 0, 0, 0, NULL, 32);
    refuse_file(&f, "shape");
}

static void metadata_that_cannot_be_are_refused(void **state)
{
    gguf_file f = {0};

    (void)state;
    gguf_u32(&f, "a", 1);
    gguf_u32(&f, "a", 1);
    refuse_file(&f, "stands twice");
    gguf_key(&f, "a", 13);
    refuse_file(&f, "expected a type from 0 to 12, found 13");
    gguf_key(&f, "a", 9);
    gguf_little(&f.meta, 9, 4);
    gguf_little(&f.meta, 1, 8);
    refuse_file(&f, "list of lists");
    gguf_key(&f, "a", 9);
    gguf_little(&f.meta, 8, 4);
    gguf_little(&f.meta, 1000000000, 8);
    refuse_file(&f, "list of texts");
    gguf_u32(&f, "general.alignment", 24);
    refuse_file(&f, "power of two");
    gguf_u32(&f, "\xff", 24);
    refuse_file(&f, "UTF-8");
}

/* ---- parts and folders ---- */

static void write_part(const char *name, int number, int count, const char *tensor)
{
    gguf_file f = {0};
    cad_str bytes = {0};

    gguf_u32(&f, "split.no", (uint32_t)number);
    gguf_u32(&f, "split.count", (uint32_t)count);
    gguf_tensor(&f, tensor, 0, 8, 0, NULL, 32);
    gguf_build(&f, &bytes);
    written(&bytes, name);
    cad_str_close(&bytes);
    gguf_close(&f);
}

static void parts_are_one_model_and_must_all_be_there(void **state)
{
    cad_gguf *g;

    (void)state;
    write_part("m-00001-of-00002.gguf", 0, 2, "a");
    assert_int_equal(cad_gguf_open(&g, in_scratch("m-00001-of-00002.gguf")), CAD_EMODEL);
    expect_reason("m-00002-of-00002.gguf");
    write_part("m-00002-of-00002.gguf", 1, 2, "b");
    assert_int_equal(cad_gguf_open(&g, in_scratch("m-00001-of-00002.gguf")), CAD_OK);
    assert_int_equal(cad_gguf_count(g), 2);
    assert_int_equal(cad_gguf_files(g), 2);
    cad_gguf_close(&g);
    assert_int_equal(cad_gguf_open(&g, in_scratch("m-00002-of-00002.gguf")), CAD_EMODEL);
    expect_reason("name the first");
    write_part("m-00002-of-00002.gguf", 1, 3, "b");
    assert_int_equal(cad_gguf_open(&g, in_scratch("m-00001-of-00002.gguf")), CAD_EMODEL);
    expect_reason("part 2 of 3");
    write_part("m-00002-of-00002.gguf", 1, 2, "a");
    assert_int_equal(cad_gguf_open(&g, in_scratch("m-00001-of-00002.gguf")), CAD_EMODEL);
    expect_reason("stands twice");
    assert_int_equal(unlink(in_scratch("m-00001-of-00002.gguf")) | unlink(in_scratch("m-00002-of-00002.gguf")), 0);
}

static void a_folder_stands_for_its_one_model(void **state)
{
    char *path;

    (void)state;
    assert_int_equal(cad_mkdirs(in_scratch("d")), CAD_OK);
    assert_int_equal(cad_gguf_find(&path, in_scratch("d")), CAD_OK);
    assert_null(path);
    write_part("d/m-00001-of-00002.gguf", 0, 2, "a");
    write_part("d/m-00002-of-00002.gguf", 1, 2, "b");
    assert_int_equal(cad_gguf_find(&path, in_scratch("d")), CAD_OK);
    assert_string_equal(path, in_scratch("d/m-00001-of-00002.gguf"));
    cad_free(&path);
    write_part("d/other.gguf", 0, 1, "a");
    assert_int_equal(cad_gguf_find(&path, in_scratch("d")), CAD_EMODEL);
    expect_reason("name the file");
    put_file(in_scratch("d/model.safetensors"), "", 0);
    assert_int_equal(cad_gguf_find(&path, in_scratch("d")), CAD_OK);
    assert_null(path);
}

/* ---- as a set ---- */

static cad_status rename_it(void *with, cad_st_tensor *t, char *name, size_t room)
{
    (void)with;
    snprintf(name, room, "%s", strcmp(t->name, "out") ? t->name : "");
    if (!strcmp(t->name, "q")) t->heads = 2;
    if (!strcmp(t->name, "n")) t->minus = 1;
    return CAD_OK;
}

static void rows_in_pairs_and_gains_are_undone_whatever_the_cut(void **state)
{
    float rows[8][3], norm[8], got[24];
    static const int order[] = {0, 2, 1, 3, 4, 6, 5, 7}; /* of two heads of four rows: first, third, second, fourth */
    gguf_file f = {0};
    cad_st *st;

    (void)state;
    for (int i = 0; i < 8; i++) {
        norm[i] = 1 + (float)i / 8;
        for (int j = 0; j < 3; j++) rows[i][j] = (float)(10 * i + j);
    }
    gguf_tensor(&f, "q", 0, 3, 8, rows, sizeof rows);
    gguf_tensor(&f, "n", 0, 8, 0, norm, sizeof norm);
    gguf_tensor(&f, "out", 0, 8, 0, norm, sizeof norm);
    cad_gguf *g = opened(&f);
    assert_int_equal(cad_st_adopt(&st, &g, rename_it, NULL), CAD_OK);
    assert_null(g);
    assert_int_equal(cad_st_count(st), 2);
    for (int64_t from = 0; from < 24; from++)
        for (int64_t n = 1; from + n <= 24; n++) {
            assert_int_equal(cad_st_read_f32(cad_st_find(st, "q"), from, n, got), CAD_OK);
            for (int64_t i = 0; i < n; i++) assert_true(got[i] == rows[order[(from + i) / 3]][(from + i) % 3]);
        }
    assert_int_equal(cad_st_read_f32(cad_st_find(st, "n"), 0, 8, got), CAD_OK);
    for (int i = 0; i < 8; i++) assert_true(got[i] == (float)i / 8);
    cad_st_close(&st);
    gguf_close(&f);
}

/* ---- writing ---- */

static void what_is_written_reads_back(void **state)
{
    cad_gguf_writer *w;
    cad_gguf *g;
    cad_gguf_value v;
    float x[64 * 3], back[64 * 3];
    int64_t shape[] = {3, 64}, odd[] = {3, 20};

    (void)state;
    for (int i = 0; i < 192; i++) x[i] = sinf((float)i);
    assert_int_equal(cad_gguf_create(&w, in_scratch("w.gguf")), CAD_OK);
    assert_int_equal(cad_gguf_put_text(w, "general.architecture", "x", 1), CAD_OK);
    assert_int_equal(cad_gguf_put_list(w, "l", CAD_REAL, 2), CAD_OK);
    assert_int_equal(cad_gguf_add_number(w, CAD_REAL, 1) | cad_gguf_add_number(w, CAD_REAL, -0.25), CAD_OK);
    assert_int_equal(cad_gguf_declare(w, "a", "F32", shape, 2) | cad_gguf_declare(w, "b", "Q8_0", shape, 2) | cad_gguf_declare(w, "c", "Q8_0", odd, 2), CAD_OK);
    assert_int_equal(cad_gguf_write(w, x, 64) | cad_gguf_write(w, x + 64, 128) | cad_gguf_write(w, x, 192) | cad_gguf_write(w, x, 60), CAD_OK);
    assert_int_equal(cad_gguf_finish(w), CAD_OK);
    cad_gguf_abandon(&w);
    assert_int_equal(cad_gguf_open(&g, in_scratch("w.gguf")), CAD_OK);
    assert_true(cad_gguf_get(g, "l", &v) && cad_gguf_item(&v, 1).real == -0.25);
    assert_int_equal(cad_st_read_f32(cad_gguf_at(g, 0), 0, 192, back), CAD_OK);
    assert_memory_equal(x, back, sizeof x);
    assert_string_equal(cad_st_kind(cad_gguf_at(g, 1)), "Q8_0");
    assert_int_equal(cad_st_read_f32(cad_gguf_at(g, 1), 0, 192, back), CAD_OK);
    for (int i = 0; i < 192; i++) { /* half a step of 1 / 127 of the largest, and the rounding of the step to a half: 127 x 2^-11 of a step */
        float most = 0;
        for (int j = i / 32 * 32; j < i / 32 * 32 + 32; j++) most = fmaxf(most, fabsf(x[j]));
        assert_true(fabsf(back[i] - x[i]) <= most / 127 * (0.5f + 127.0f / 2048));
    }
    assert_string_equal(cad_st_kind(cad_gguf_at(g, 2)), "F16");
    cad_gguf_close(&g);
}

static void numbers_without_a_place_are_refused_and_leave_nothing(void **state)
{
    static const struct { const char *kind; float x; } cases[] = {{"F32", NAN}, {"F32", INFINITY}, {"F16", 70000.0f}, {"Q8_0", NAN}, {"Q8_0", 1e9f}};
    int64_t shape = 32;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cad_gguf_writer *w;
        float x[32] = {cases[i].x};
        assert_int_equal(cad_gguf_create(&w, in_scratch("n.gguf")), CAD_OK);
        assert_int_equal(cad_gguf_declare(w, "a", cases[i].kind, &shape, 1), CAD_OK);
        assert_int_equal(cad_gguf_write(w, x, 32), CAD_EMODEL);
        expect_reason(cases[i].kind);
        cad_gguf_abandon(&w);
        assert_false(cad_is_file(in_scratch("n.gguf")));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_dequantised_bit_by_bit_as_ggml_does), cmocka_unit_test(metadata_are_read_by_kind), cmocka_unit_test(every_truncation_ends_in_one_sentence),
        cmocka_unit_test(absurd_numbers_of_the_head_are_refused), cmocka_unit_test(scales_that_are_no_numbers_are_refused), cmocka_unit_test(tensors_that_cannot_be_are_refused), cmocka_unit_test(metadata_that_cannot_be_are_refused),
        cmocka_unit_test(parts_are_one_model_and_must_all_be_there), cmocka_unit_test(a_folder_stands_for_its_one_model), cmocka_unit_test(rows_in_pairs_and_gains_are_undone_whatever_the_cut),
        cmocka_unit_test(what_is_written_reads_back), cmocka_unit_test(numbers_without_a_place_are_refused_and_leave_nothing)};

    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
