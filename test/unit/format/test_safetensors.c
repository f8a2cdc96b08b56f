#include <cadtrain/format.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct room { char dir[256], path[512]; } room;

static void ok(cad_status status)
{
    if (status) print_error("%s\n", cad_reason());
    assert_int_equal(status, CAD_OK);
}

static int make_room(void **state)
{
    const char *tmp = getenv("TMPDIR");
    room *r = calloc(1, sizeof *r);

    if (!r) return -1;
    snprintf(r->dir, sizeof r->dir, "%s/cadtrain-st-XXXXXX", tmp ? tmp : "/tmp");
    *state = r;
    return mkdtemp(r->dir) ? 0 : -1;
}

static int leave_room(void **state)
{
    room *r = *state;
    int failed = cad_remove_tree(r->dir) || cad_mem_blocks();

    cad_clear();
    free(r);
    return failed;
}

static const char *inside(room *r, const char *name)
{
    snprintf(r->path, sizeof r->path, "%s/%s", r->dir, name);
    return r->path;
}

static void put_bytes(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void put_text(const char *path, const char *text) { put_bytes(path, text, strlen(text)); }

/* A file of a given header text, a claimed header length and so many bytes of data. */
static void put_file(const char *path, uint64_t claimed, const char *header, size_t header_bytes, size_t data_bytes)
{
    char *all = calloc(1, 8 + header_bytes + data_bytes);

    assert_non_null(all);
    for (int i = 0; i < 8; i++) all[i] = (char)(claimed >> 8 * i & 255);
    memcpy(all + 8, header, header_bytes);
    for (size_t i = 0; i < data_bytes; i++) all[8 + header_bytes + i] = (char)i;
    put_bytes(path, all, 8 + header_bytes + data_bytes);
    free(all);
}

static void put_tensors(const char *path, const char *header, size_t data_bytes)
{
    put_file(path, strlen(header), header, strlen(header), data_bytes);
}

static void assert_has(const char *what)
{
    if (!strstr(cad_reason(), what)) fail_msg("expected '%s' in: %s", what, cad_reason());
}

static void refused(const char *path, const char *part, const char *second)
{
    cad_st *s = NULL;
    cad_status status = cad_st_open(&s, path);

    if (status != CAD_EMODEL) fail_msg("expected a refusal that says '%s', got %d", part, status);
    assert_null(s);
    assert_has(part);
    assert_has(second);
    cad_clear();
    assert_int_equal(cad_mem_blocks(), 0);
}

#define T(name, dtype, shape, offsets) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void bad_headers_are_refused_with_tensor_and_file(void **state)
{
    static const struct { const char *header; size_t data; const char *says, *where; } bad[] = {
        {"", 0, "expected '{' as the header's first byte, found the end", "x.safetensors"},
        {" {}", 0, "expected '{' as the header's first byte", "x.safetensors"},
        {"[]", 0, "expected '{' as the header's first byte, found '['", "x.safetensors"},
        {"{", 0, "x.safetensors:1:2: expected a tensor's name", "x.safetensors"},
        {"{}x", 0, "nothing but spaces behind", "x.safetensors"},
        {"{}", 4, "4 bytes behind the last tensor belong to none", "x.safetensors"},
        {"{" T("w", "F32", "[1]", "[0,4]") "}", 8, "4 bytes behind the last tensor", "x.safetensors"},
        {"{" T("w", "F32", "[1]", "[0,4]") ",}", 4, "expected a tensor's name", "x.safetensors"},
        {"{" T("w", "F32", "[1]", "[0,4]"), 4, "expected ',' or '}'", "x.safetensors"},
        {"{" T("w", "F32", "[2]", "[0,4]") "}", 4, "tensor 'w' in", "needs 2 x 4 bytes, data_offsets give it 4"},
        {"{" T("w", "F31", "[1]", "[0,4]") "}", 4, "tensor 'w' in", "dtype 'F31' is unknown"},
        {"{" T("w", "f32", "[1]", "[0,4]") "}", 4, "tensor 'w' in", "dtype 'f32' is unknown"},
        {"{" T("w", "F8_E4M3", "[4]", "[0,4]") "}", 4, "x.safetensors", "dtype 'F8_E4M3' is unknown"},
        {"{" T("a", "U8", "[4]", "[0,4]") "," T("b", "U8", "[4]", "[3,7]") "}", 7, "tensor 'b' in", "overlap"},
        {"{" T("a", "U8", "[4]", "[0,4]") "," T("b", "U8", "[4]", "[0,4]") "}", 4, "x.safetensors", "overlap"},
        {"{" T("a", "U8", "[4]", "[0,4]") "," T("b", "U8", "[4]", "[6,10]") "}", 10, "tensor 'b' in", "a hole of 2 bytes"},
        {"{" T("a", "U8", "[4]", "[1,5]") "}", 5, "tensor 'a' in", "a hole of 1 bytes"},
        {"{" T("a", "U8", "[4]", "[4,0]") "}", 4, "tensor 'a' in", "[4, 0] run backwards"},
        {"{" T("a", "U8", "[8]", "[0,8]") "}", 4, "tensor 'a' in", "go beyond the file's 4 bytes"},
        {"{" T("a", "U8", "[-1]", "[0,4]") "}", 4, "tensor 'a' in", "shapes must be whole numbers"},
        {"{" T("a", "U8", "[4]", "[-4,0]") "}", 4, "tensor 'a' in", "data_offsets must be whole numbers"},
        {"{" T("a", "U8", "[1e3]", "[0,1000]") "}", 1000, "tensor 'a' in", "shapes must be whole numbers"},
        {"{" T("a", "U8", "[4.0]", "[0,4]") "}", 4, "tensor 'a' in", "shapes must be whole numbers"},
        {"{" T("a", "U8", "[04]", "[0,4]") "}", 4, "tensor 'a' in", "shapes must be whole numbers"},
        {"{" T("a", "U8", "[\"4\"]", "[0,4]") "}", 4, "tensor 'a' in", "shapes must be whole numbers"},
        {"{" T("a", "U8", "[18446744073709551616]", "[0,0]") "}", 0, "tensor 'a' in", "beyond 2^63"},
        {"{" T("a", "F32", "[4398046511105,4398046511105]", "[0,4]") "}", 4, "tensor 'a' in", "more than 2^63 elements"},
        {"{" T("a", "F64", "[2305843009213693952]", "[0,0]") "}", 0, "tensor 'a' in", "needs 2305843009213693952 x 8 bytes"},
        {"{" T("a", "U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, "tensor 'a' in", "more than 8 dimensions"},
        {"{" T("a", "U8", "[4]", "[0,18446744073709551615]") "}", 4, "tensor 'a' in", "beyond 2^63"},
        {"{" T("a", "U8", "[4]", "[0,4,8]") "}", 4, "x.safetensors", "']' after two data_offsets"},
        {"{" T("a", "U8", "[4]", "[4]") "}", 4, "x.safetensors", "',' between two data_offsets"},
        {"{" T("a", "U8", "[4 5]", "[0,4]") "}", 4, "x.safetensors", "',' or ']' in a shape"},
        {"{" T("a", "U8", "[4]", "[0,4]") "," T("a", "U8", "[4]", "[4,8]") "}", 8, "tensor 'a' in", "the name stands twice"},
        {"{" T("a", "U8", "[4]", "[0,4]") "," T("\\u0061", "U8", "[4]", "[4,8]") "}", 8, "tensor 'a' in", "the name stands twice"},
        {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "tensor 'a' in", "'dtype' stands twice"},
        {"{\"a\":{\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "tensor 'a' in", "has no dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}", 4, "tensor 'a' in", "has no shape"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, "tensor 'a' in", "has no data_offsets"},
        {"{\"a\":{}}", 0, "tensor 'a' in", "has no dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"extra\":1}}", 4, "tensor 'a' in", "key 'extra' is unknown"},
        {"{\"a\":[]}", 0, "x.safetensors", "expected '{' of a tensor, found '['"},
        {"{\"a\":null}", 0, "x.safetensors", "expected '{' of a tensor, found a letter"},
        {"{\"a\":{\"dtype\":8,\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "x.safetensors", "the dtype as a string"},
        {"{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", 0, "x.safetensors", "a value of __metadata__ as a string"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "x.safetensors", "a value of __metadata__ as a string"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "x.safetensors", "__metadata__ stands twice"},
        {"{\"a\\u0000b\":{}}", 0, "x.safetensors", "no NUL character"},
        {"{\"a\\ud800\":{}}", 0, "x.safetensors", "expected a pair of surrogates"},
        {"{\"a\\x\":{}}", 0, "x.safetensors", "an escape of JSON"},
        {"{\"a\nb\":{}}", 0, "x.safetensors", "expected a closing quote or an escape"},
        {"{\"a\xff\":{}}", 0, "x.safetensors", "expected UTF-8"},
        {"{\"a\xed\xa0\x80\":{}}", 0, "x.safetensors", ":1:4: expected UTF-8"},
        {"{\"a", 0, "x.safetensors", "expected a closing quote"},
        {"{\"a\" 1", 0, "x.safetensors", "':' after a name, found a digit"},
        {"{'a':1}", 0, "x.safetensors", "expected a tensor's name"},
    };
    room *r = *state;
    const char *path = inside(r, "x.safetensors");

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_tensors(path, bad[i].header, bad[i].data);
        refused(path, bad[i].says, bad[i].where);
    }
}

static void a_header_that_claims_more_than_there_is_is_refused(void **state)
{
    room *r = *state;
    const char *path = inside(r, "x.safetensors");

    put_file(path, 3, "{}", 2, 0);
    refused(path, "x.safetensors", "the header claims 3 bytes, the file has 10");
    put_file(path, 100000001, "{}", 2, 0);
    refused(path, "x.safetensors", "at most 100000000 are allowed");
    put_file(path, UINT64_MAX, "{}", 2, 0);
    refused(path, "x.safetensors", "18446744073709551615");
    put_file(path, UINT64_MAX - 7, "{}", 2, 0);
    refused(path, "x.safetensors", "at most 100000000 are allowed");
    put_text(path, "short");
    refused(path, "x.safetensors", "found 5 bytes");
    put_text(path, "");
    refused(path, "x.safetensors", "found 0 bytes");
}

static void every_truncation_is_refused(void **state)
{
    static const char header[] = "{" T("a", "F32", "[2]", "[0,8]") "," T("b", "U8", "[1]", "[8,9]") "}";
    room *r = *state;
    const char *path = inside(r, "x.safetensors");
    size_t size = 8 + sizeof header - 1 + 9;
    cad_st *s;

    put_tensors(path, header, 9);
    ok(cad_st_open(&s, path));
    cad_st_close(&s);
    for (size_t n = size; n--;) {
        assert_int_equal(truncate(path, (off_t)n), 0);
        refused(path, "x.safetensors", "");
    }
}

static void names_in_messages_cannot_steer_a_terminal(void **state)
{
    room *r = *state;

    put_tensors(inside(r, "x.safetensors"), "{" T("a\\u001b[31m\\n", "F31", "[1]", "[0,1]") "}", 1);
    refused(r->path, "tensor 'a?[31m?'", "F31");
}

static void space_order_escapes_and_empty_tensors_are_accepted(void **state)
{
    room *r = *state;
    cad_st *s;

    put_tensors(inside(r, "x.safetensors"),
        "{ \"__metadata__\" : {\"format\":\"pt\",\"k\":\"\\u00e9\\ud83d\\ude00\"},\n" T("late", "I64", "[]", "[8,16]") ", " T("early", "U8", "[2,4]", "[0,8]") ","
        T("none", "F32", "[3,0]", "[8,8]") "," T("\\u00e9\\ud83d\\ude00/\\\"", "BOOL", "[1]", "[16,17]") "}   ", 17);
    ok(cad_st_open(&s, r->path));
    assert_int_equal(cad_st_count(s), 4);
    assert_string_equal(cad_st_at(s, 0)->name, "early");
    assert_int_equal(cad_st_at(s, 0)->dims, 2);
    assert_int_equal(cad_st_at(s, 0)->shape[1], 4);
    assert_string_equal(cad_st_at(s, 1)->name, "none");
    assert_int_equal(cad_st_at(s, 1)->elems, 0);
    assert_string_equal(cad_st_at(s, 2)->name, "late");
    assert_int_equal(cad_st_at(s, 2)->elems, 1);
    assert_string_equal(cad_st_at(s, 3)->name, "\xc3\xa9\xf0\x9f\x98\x80/\"");
    assert_ptr_equal(cad_st_find(s, "late"), cad_st_at(s, 2));
    assert_null(cad_st_find(s, "lat"));
    assert_string_equal(cad_st_file(s, 0), r->path);
    cad_st_close(&s);
}

static void what_is_no_regular_file_is_refused(void **state)
{
    room *r = *state;

    assert_int_equal(mkfifo(inside(r, "p.safetensors"), 0600), 0);
    refused(r->path, "p.safetensors", "expected a regular file");
    refused("/dev/zero", "/dev/zero", "expected a regular file");
    refused(inside(r, "absent.safetensors"), "absent.safetensors", "cannot open");
    refused(r->dir, r->dir, "expected model.safetensors");
}

static void a_folder_with_a_pickle_gets_advice(void **state)
{
    room *r = *state;
    cad_st *s;

    put_text(inside(r, "pytorch_model.bin"), "x");
    assert_int_equal(cad_st_open(&s, r->dir), CAD_EMODEL);
    assert_non_null(strstr(cad_advice(), "save_pretrained"));
    cad_clear();
}

static void put_index(room *r, const char *text) { put_text(inside(r, "model.safetensors.index.json"), text); }

static void bad_indexes_are_refused(void **state)
{
    static const struct { const char *map, *says, *where; } bad[] = {
        {"{\"a\":\"../one.safetensors\"}", "tensor 'a' in", "plain name of a file"},
        {"{\"a\":\"/etc/passwd\"}", "tensor 'a' in", "plain name of a file in the same folder, found '/etc/passwd'"},
        {"{\"a\":\"/proc/self/environ\"}", "tensor 'a' in", "plain name"},
        {"{\"a\":\"a/../../b.safetensors\"}", "index.json", "plain name"},
        {"{\"a\":\"..\\\\one.safetensors\"}", "index.json", "plain name"},
        {"{\"a\":\"..\"}", "index.json", "plain name"},
        {"{\"a\":\"\"}", "index.json", "ends in .safetensors"},
        {"{\"a\":\"pytorch_model.bin\"}", "tensor 'a' in", "ends in .safetensors, found 'pytorch_model.bin'"},
        {"{\"a\":1}", "tensor 'a' in", "expected a file name as a string"},
        {"{\"a\":\"absent.safetensors\"}", "tensor 'a' in", "its file 'absent.safetensors' is missing"},
        {"{\"a\":\"folder.safetensors\"}", "tensor 'a' in", "is missing"},
        {"{\"a\":\"pipe.safetensors\"}", "pipe.safetensors", "missing"},
        {"{\"a\":\"link.safetensors\",\"b\":\"two.safetensors\"}", "link.safetensors", "is a link out of its folder"},
        {"{\"a\":\"one.safetensors\",\"b\":\"one.safetensors\"}", "tensor 'b' in", "its file 'one.safetensors' does not hold it"},
        {"{\"a\":\"two.safetensors\",\"b\":\"two.safetensors\"}", "tensor 'a' in", "'two.safetensors' does not hold it"},
        {"{\"b\":\"two.safetensors\",\"c\":\"one.safetensors\"}", "tensor 'a' in", "does not name it"},
        {"{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\"}", "tensor 'a' in", "places it in"},
        {"{\"a\":\"one.safetensors\",\"a2\":\"twin.safetensors\"}", "tensor 'a' in", "twin.safetensors"},
        {"{\"a\\u0000\":\"one.safetensors\"}", "index.json:1:", "no NUL character"},
        {"{}", "index.json", "weight_map names no tensor"},
        {"[]", "index.json", "expected a table weight_map"},
        {"{\"a\":\"one.safetensors\",\"a\":\"one.safetensors\"}", "index.json", ""},
    };
    room *r = *state;
    char text[512], longest[4200], outside[300];

    snprintf(outside, sizeof outside, "%s-outside", r->dir);
    put_tensors(inside(r, "one.safetensors"), "{" T("a", "U8", "[4]", "[0,4]") "}", 4);
    put_tensors(inside(r, "two.safetensors"), "{" T("b", "U8", "[4]", "[0,4]") "}", 4);
    put_tensors(inside(r, "twin.safetensors"), "{" T("a", "U8", "[4]", "[0,4]") "}", 4);
    put_tensors(outside, "{" T("a", "U8", "[4]", "[0,4]") "}", 4);
    assert_int_equal(symlink(outside, inside(r, "link.safetensors")), 0);
    assert_int_equal(mkdir(inside(r, "folder.safetensors"), 0700), 0);
    assert_int_equal(mkfifo(inside(r, "pipe.safetensors"), 0600), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "{\"metadata\":{\"total_size\":8},\"weight_map\":%s}", bad[i].map);
        put_index(r, text);
        refused(r->dir, bad[i].says, bad[i].where);
    }
    put_index(r, "{\"metadata\":{}}");
    refused(r->dir, "index.json", "expected a table weight_map");
    put_index(r, "{\"weight_map\":{\"a\":\"one.safetensors\"}");
    refused(r->dir, "index.json", "");
    memset(longest, 'a', sizeof longest);
    memcpy(longest, "{\"weight_map\":{\"a\":\"", 20);
    memcpy(longest + 4100, ".safetensors\"}}", 16);
    put_index(r, longest);
    refused(r->dir, "tensor 'a' in", "plain name");
    unlink(outside);
}

static void the_files_of_an_index_are_read_in_the_order_of_their_names(void **state)
{
    room *r = *state;
    cad_st *s;

    put_tensors(inside(r, "two.safetensors"), "{" T("b", "U8", "[4]", "[0,4]") "}", 4);
    put_tensors(inside(r, "one.safetensors"), "{" T("a", "U8", "[4]", "[0,4]") "}", 4);
    put_index(r, "{\"metadata\":{},\"weight_map\":{\"b\":\"two.safetensors\",\"a\":\"one.safetensors\"}}");
    ok(cad_st_open(&s, r->dir));
    assert_int_equal(cad_st_count(s), 2);
    assert_string_equal(cad_st_at(s, 0)->name, "a");
    assert_int_equal(cad_st_at(s, 1)->file, 1);
    assert_non_null(strstr(cad_st_file(s, 1), "/two.safetensors"));
    cad_st_close(&s);
}

static void links_of_the_hugging_face_cache_are_followed(void **state)
{
    room *r = *state;
    char path[600];
    cad_st *s;

    ok(cad_mkdirs(inside(r, "models--org--name/snapshots/0123")));
    ok(cad_mkdirs(inside(r, "models--org--name/blobs")));
    put_tensors(inside(r, "models--org--name/blobs/abc"), "{" T("a", "U8", "[4]", "[0,4]") "}", 4);
    put_tensors(inside(r, "stranger"), "{" T("a", "U8", "[4]", "[0,4]") "}", 4);
    snprintf(path, sizeof path, "%s/models--org--name/snapshots/0123/model.safetensors", r->dir);
    assert_int_equal(symlink("../../blobs/abc", path), 0);
    ok(cad_st_open(&s, inside(r, "models--org--name/snapshots/0123")));
    cad_st_close(&s);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("../../../stranger", path), 0);
    refused(r->path, "model.safetensors", "is a link out of its folder");
}

static void one_file_goes_before_an_index_and_an_adapter(void **state)
{
    room *r = *state;
    cad_st *s;

    put_tensors(inside(r, "adapter_model.safetensors"), "{" T("adapter", "U8", "[4]", "[0,4]") "}", 4);
    ok(cad_st_open(&s, r->dir));
    assert_non_null(cad_st_find(s, "adapter"));
    cad_st_close(&s);
    put_tensors(inside(r, "model.safetensors"), "{" T("whole", "U8", "[4]", "[0,4]") "}", 4);
    put_index(r, "{\"weight_map\":{\"adapter\":\"adapter_model.safetensors\"}}");
    ok(cad_st_open(&s, r->dir));
    assert_non_null(cad_st_find(s, "whole"));
    cad_st_close(&s);
}

static bool same_float(float a, float b) { return (isnan(a) && isnan(b)) || !memcmp(&a, &b, sizeof a); }

static void every_half_is_widened_exactly(void **state)
{
    enum { ALL = 65536 };
    uint16_t *in = malloc(ALL * sizeof *in);
    float *out = malloc((ALL + 1) * sizeof *out);
    char *odd = malloc(ALL * sizeof *in + 1);

    (void)state;
    assert_true(in && out && odd);
    for (int i = 0; i < ALL; i++) in[i] = (uint16_t)i;
    memcpy(odd + 1, in, ALL * sizeof *in);
    cad_st_tensor t = {.name = (char[]){"t"}, .dtype = CAD_F16, .dims = 1, .shape = {ALL}, .elems = ALL, .data = odd + 1, .bytes = 2 * ALL};
    ok(cad_st_read_f32(&t, 0, ALL, out));
    for (int i = 0; i < ALL; i++) assert_true(same_float(out[i], cad_f16_to_f32(in[i])));
    t.dtype = CAD_BF16;
    out[ALL] = 7;
    for (int from = 0; from < 130; from++) { /* every cut against the block length */
        ok(cad_st_read_f32(&t, from, ALL - 3 * from, out));
        for (int i = 0; i < 200; i++) assert_true(same_float(out[i], cad_bf16_to_f32(in[from + i])));
        assert_true(same_float(out[ALL - 3 * from - 1], cad_bf16_to_f32(in[ALL - 2 * from - 1])));
    }
    assert_true(out[ALL] == 7);
    free(in);
    free(out);
    free(odd);
}

static const cad_dtype all_dtypes[] = {CAD_F32, CAD_BF16, CAD_F16, CAD_F64, CAD_I64, CAD_I32, CAD_I16, CAD_I8, CAD_U8, CAD_BOOL8};
enum { DTYPES = sizeof all_dtypes / sizeof *all_dtypes, ELEMS = 15 };

static void all_dtypes_come_back_as_written(void **state)
{
    room *r = *state;
    char name[32], bytes[DTYPES][ELEMS * 8];
    struct stat at;
    cad_st_writer *w;
    cad_st *s;

    ok(cad_st_create(&w, r->dir, "adapter_model.safetensors", 0));
    for (int d = DTYPES; d--;) { /* narrow first: the layout must align the wide ones */
        snprintf(name, sizeof name, "t\"%d\xc3\xa9", d);
        ok(cad_st_declare(w, name, all_dtypes[d], (int64_t[]){3, 5}, 2));
        for (int i = 0; i < ELEMS * 8; i++) bytes[d][i] = (char)(i * 7 + d);
    }
    for (int d = DTYPES; d--;) { /* in cuts of 7 bytes */
        size_t n = ELEMS * cad_dtype_bytes(all_dtypes[d]);
        for (size_t i = 0; i < n; i += 7) ok(cad_st_write(w, bytes[d] + i, n - i < 7 ? n - i : 7));
    }
    assert_int_equal(access(inside(r, "adapter_model.safetensors"), F_OK), -1);
    ok(cad_st_finish(w));
    cad_st_abandon(&w);
    assert_int_equal(stat(r->path, &at), 0);
    assert_int_equal(at.st_mode & 0777, 0600);
    ok(cad_st_open(&s, r->dir));
    assert_int_equal(cad_st_count(s), DTYPES);
    for (int d = 0; d < DTYPES; d++) {
        snprintf(name, sizeof name, "t\"%d\xc3\xa9", d);
        const cad_st_tensor *t = cad_st_find(s, name);
        assert_non_null(t);
        assert_int_equal(t->dtype, all_dtypes[d]);
        assert_int_equal(t->bytes, ELEMS * cad_dtype_bytes(all_dtypes[d]));
        assert_memory_equal(t->data, bytes[d], t->bytes);
        assert_int_equal((uintptr_t)t->data % cad_dtype_bytes(t->dtype), 0);
    }
    cad_st_close(&s);
}

static void integers_are_not_read_as_weights(void **state)
{
    cad_st_tensor t = {.name = (char[]){"ids"}, .dtype = CAD_I64, .elems = 1, .data = &(int64_t){1}, .bytes = 8};
    float out;

    (void)state;
    assert_int_equal(cad_st_read_f32(&t, 0, 1, &out), CAD_EMODEL);
    assert_has("tensor 'ids'");
    assert_has("found I64");
    cad_clear();
}

static void doubles_are_rounded_once(void **state)
{
    double d[3] = {0.1, 1e300, -0.0};
    cad_st_tensor t = {.name = (char[]){"d"}, .dtype = CAD_F64, .elems = 3, .data = d, .bytes = 24};
    float out[3];

    (void)state;
    ok(cad_st_read_f32(&t, 0, 3, out));
    assert_true(out[0] == 0.1f && isinf(out[1]) && signbit(out[2]));
}

static int count_files(const char *dir)
{
    DIR *d = opendir(dir);
    int n = -2;

    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void large_models_are_cut_into_shards(void **state)
{
    static const int sizes[] = {4, 4, 9, 2, 2, 1}; /* limit 8 floats: [4 4] [9] [2 2 1] */
    static const int shard_of[] = {0, 0, 1, 2, 2, 2};
    room *r = *state;
    char name[8], *text;
    size_t size;
    float x[9];
    cad_st_writer *w;
    cad_st *s;
    cad_tree *tree;
    int64_t total;

    ok(cad_st_create(&w, r->dir, "model.safetensors", 32));
    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "%c", 'f' - i);
        ok(cad_st_declare(w, name, CAD_F32, (int64_t[]){sizes[i]}, 1));
    }
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < 9; k++) x[k] = (float)(10 * i + k);
        ok(cad_st_write(w, x, (size_t)sizes[i] * 4));
    }
    ok(cad_st_finish(w));
    cad_st_abandon(&w);
    assert_int_equal(count_files(r->dir), 4);
    ok(cad_st_open(&s, r->dir));
    assert_int_equal(cad_st_count(s), 6);
    for (int i = 0; i < 6; i++) {
        const cad_st_tensor *t = cad_st_at(s, i);
        assert_int_equal(t->name[0], 'f' - i);
        assert_int_equal(t->file, shard_of[i]);
        ok(cad_st_read_f32(t, 0, t->elems, x));
        assert_true(x[t->elems - 1] == (float)(10 * i + sizes[i] - 1));
    }
    assert_non_null(strstr(cad_st_file(s, 2), "/model-00003-of-00003.safetensors"));
    cad_st_close(&s);
    ok(cad_read_file(&text, &size, inside(r, "model.safetensors.index.json"), 1 << 20, CAD_EMODEL));
    ok(cad_json_parse(&tree, text, size, "index", CAD_EMODEL));
    assert_true(cad_get_int(cad_get(tree->root, "metadata"), "total_size", &total, 0));
    assert_int_equal(total, 22 * 4);
    cad_tree_close(&tree);
    cad_free(&text);
}

static void a_limit_that_is_not_reached_gives_one_file(void **state)
{
    room *r = *state;
    cad_st_writer *w;

    ok(cad_st_create(&w, r->dir, "model.safetensors", 8));
    ok(cad_st_declare(w, "a", CAD_F32, (int64_t[]){2}, 1));
    ok(cad_st_write(w, (float[]){1, 2}, 8));
    ok(cad_st_finish(w));
    cad_st_abandon(&w);
    assert_int_equal(count_files(r->dir), 1);
    assert_true(cad_is_file(inside(r, "model.safetensors")));
}

static void a_file_without_tensors_can_be_read_back(void **state)
{
    room *r = *state;
    cad_st_writer *w;
    cad_st *s;

    ok(cad_st_create(&w, r->dir, "model.safetensors", 8));
    ok(cad_st_finish(w));
    cad_st_abandon(&w);
    ok(cad_st_open(&s, r->dir));
    assert_int_equal(cad_st_count(s), 0);
    cad_st_close(&s);
}

static void wrong_counts_of_bytes_are_told(void **state)
{
    room *r = *state;
    cad_st_writer *w;

    ok(cad_st_create(&w, r->dir, "model.safetensors", 0));
    ok(cad_st_declare(w, "a", CAD_F32, (int64_t[]){2}, 1));
    assert_int_equal(cad_st_declare(w, "a", CAD_F32, (int64_t[]){2}, 1), CAD_EINTERNAL);
    assert_has("declared twice");
    cad_clear();
    ok(cad_st_write(w, (float[]){1}, 4));
    assert_int_equal(cad_st_finish(w), CAD_EINTERNAL);
    assert_has("tensor 'a': 4 of 8 bytes");
    cad_clear();
    cad_st_abandon(&w);
    ok(cad_st_create(&w, r->dir, "model.safetensors", 0));
    assert_int_equal(cad_st_write(w, (float[]){1}, 4), CAD_EINTERNAL);
    cad_clear();
    cad_st_abandon(&w);
    assert_int_equal(count_files(r->dir), 0);
}

static void an_abandoned_writing_leaves_the_old_file(void **state)
{
    room *r = *state;
    cad_st_writer *w;
    char old[4];

    put_text(inside(r, "model.safetensors"), "old");
    ok(cad_st_create(&w, r->dir, "model.safetensors", 0));
    ok(cad_st_declare(w, "a", CAD_F32, (int64_t[]){2}, 1));
    ok(cad_st_write(w, (float[]){1, 2}, 8));
    assert_int_equal(count_files(r->dir), 2);
    cad_st_abandon(&w);
    assert_int_equal(count_files(r->dir), 1);
    FILE *f = fopen(r->path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(old, 1, sizeof old, f), 3);
    fclose(f);
}

static cad_status write_floats(const char *dir, int tensors, int64_t shard_bytes)
{
    static const float x[4096];
    char name[16];
    cad_st_writer *w;
    cad_status status;

    if ((status = cad_st_create(&w, dir, "model.safetensors", shard_bytes))) return status;
    for (int i = 0; !status && i < tensors; i++) {
        snprintf(name, sizeof name, "t%d", i);
        status = cad_st_declare(w, name, CAD_F32, (int64_t[]){4096}, 1);
    }
    for (int i = 0; !status && i < tensors; i++) status = cad_st_write(w, x, sizeof x);
    if (!status) status = cad_st_finish(w);
    cad_st_abandon(&w);
    return status;
}

static void a_full_disk_is_told_and_leaves_nothing(void **state)
{
    room *r = *state;
    struct rlimit before, limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t full = 0; full < 70000; full += 9973) {
        limit = (struct rlimit){.rlim_cur = full, .rlim_max = before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        cad_status status = write_floats(r->dir, 5, 0);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(status, CAD_ERESOURCE);
        assert_has("/model.safetensors: cannot");
        cad_clear();
        assert_int_equal(count_files(r->dir), 0);
    }
    assert_int_equal(write_floats("/dev/null/x", 1, 0), CAD_ERESOURCE);
    cad_clear();
}

static void no_failed_allocation_leaks_or_leaves_a_file(void **state)
{
    room *r = *state;
    cad_status status = CAD_ERESOURCE;
    cad_st *s;

    for (int64_t nth = 1; status && nth < 1000; nth++) {
        cad_mem_fail_at(nth);
        status = write_floats(r->dir, 3, 20000);
        cad_mem_fail_at(0);
        assert_int_equal(cad_mem_blocks(), 0);
        if (!status) break;
        assert_int_equal(status, CAD_ERESOURCE);
        cad_clear();
        if (count_files(r->dir) && count_files(r->dir) != 4) fail_msg("%d files are left", count_files(r->dir));
    }
    status = CAD_ERESOURCE;
    for (int64_t nth = 1; status && nth < 1000; nth++) {
        cad_mem_fail_at(nth);
        status = cad_st_open(&s, r->dir);
        cad_mem_fail_at(0);
        if (!status) break;
        assert_int_equal(status, CAD_ERESOURCE);
        assert_null(s);
        assert_int_equal(cad_mem_blocks(), 0);
        cad_clear();
    }
    assert_int_equal(status, CAD_OK);
    cad_st_close(&s);
}

static const char *golden(char *path, size_t n, const char *name)
{
    const char *shared = getenv("CADTRAIN_SHARED");

    snprintf(path, n, "%s/golden/%s", shared ? shared : "../shared", name);
    if (cad_is_dir(path)) return path;
    print_message("%s is absent\n", path);
    skip();
    return NULL;
}

static void recorded_models_are_read(void **state)
{
    static const struct { const char *dir; cad_dtype dtype; int files; } models[] = {
        {"bert/model", CAD_F32, 1}, {"gemma2/model", CAD_F32, 1}, {"gemma3/model", CAD_F32, 1}, {"llama/model", CAD_F32, 1},
        {"llama31/model", CAD_F32, 1}, {"llama4/model", CAD_F32, 1}, {"mistral/model", CAD_F32, 1}, {"qwen2/model", CAD_F32, 1},
        {"qwen3/model", CAD_F32, 1}, {"bert/lora/adapter", CAD_F32, 1}, {"extra/hf_v4_config/qwen2_sharded", CAD_F32, 3},
        {"extra/hf_v4_config/qwen2_bf16", CAD_BF16, 1}, {"extra/hf_v4_config/qwen2_fp16", CAD_F16, 1},
    };
    char path[1024];
    cad_st *s;

    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        int floats = 0, files = 0;
        ok(cad_st_open(&s, golden(path, sizeof path, models[i].dir)));
        for (int k = 0; k < cad_st_count(s); k++) {
            floats += cad_st_at(s, k)->dtype == models[i].dtype;
            if (cad_st_at(s, k)->file + 1 > files) files = cad_st_at(s, k)->file + 1;
        }
        assert_true(floats > 0);
        assert_int_equal(files, models[i].files);
        cad_st_close(&s);
    }
}

/* The half-precision models are roundings of the sharded fp32 one: |a - b| <= eps/2 * |a|, and below the least normal half a step. */
static void halves_and_shards_agree_with_the_whole(void **state)
{
    static const struct { const char *dir; float eps, least; } halves[] = {
        {"extra/hf_v4_config/qwen2_bf16", 0x1p-8f, 0}, {"extra/hf_v4_config/qwen2_fp16", 0x1p-11f, 0x1p-25f},
    };
    char path[1024];
    cad_st *whole, *half;

    (void)state;
    ok(cad_st_open(&whole, golden(path, sizeof path, "extra/hf_v4_config/qwen2_sharded")));
    for (int m = 0; m < 2; m++) {
        ok(cad_st_open(&half, golden(path, sizeof path, halves[m].dir)));
        assert_int_equal(cad_st_count(half), cad_st_count(whole));
        for (int i = 0; i < cad_st_count(whole); i++) {
            const cad_st_tensor *a = cad_st_at(whole, i), *b = cad_st_find(half, a->name);
            assert_non_null(b);
            assert_int_equal(a->elems, b->elems);
            float *x = malloc((size_t)a->elems * 4), *y = malloc((size_t)a->elems * 4);
            assert_true(x && y);
            ok(cad_st_read_f32(a, 0, a->elems, x));
            ok(cad_st_read_f32(b, 0, b->elems, y));
            for (int64_t k = 0; k < a->elems; k++) assert_true(fabsf(x[k] - y[k]) <= fmaxf(halves[m].eps * fabsf(x[k]), halves[m].least));
            free(x);
            free(y);
        }
        cad_st_close(&half);
    }
    cad_st_close(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bad_headers_are_refused_with_tensor_and_file, make_room, leave_room),
        cmocka_unit_test_setup_teardown(a_header_that_claims_more_than_there_is_is_refused, make_room, leave_room),
        cmocka_unit_test_setup_teardown(every_truncation_is_refused, make_room, leave_room),
        cmocka_unit_test_setup_teardown(names_in_messages_cannot_steer_a_terminal, make_room, leave_room),
        cmocka_unit_test_setup_teardown(space_order_escapes_and_empty_tensors_are_accepted, make_room, leave_room),
        cmocka_unit_test_setup_teardown(what_is_no_regular_file_is_refused, make_room, leave_room),
        cmocka_unit_test_setup_teardown(a_folder_with_a_pickle_gets_advice, make_room, leave_room),
        cmocka_unit_test_setup_teardown(bad_indexes_are_refused, make_room, leave_room),
        cmocka_unit_test_setup_teardown(the_files_of_an_index_are_read_in_the_order_of_their_names, make_room, leave_room),
        cmocka_unit_test_setup_teardown(links_of_the_hugging_face_cache_are_followed, make_room, leave_room),
        cmocka_unit_test_setup_teardown(one_file_goes_before_an_index_and_an_adapter, make_room, leave_room),
        cmocka_unit_test(every_half_is_widened_exactly),
        cmocka_unit_test_setup_teardown(all_dtypes_come_back_as_written, make_room, leave_room),
        cmocka_unit_test(integers_are_not_read_as_weights),
        cmocka_unit_test(doubles_are_rounded_once),
        cmocka_unit_test_setup_teardown(large_models_are_cut_into_shards, make_room, leave_room),
        cmocka_unit_test_setup_teardown(a_limit_that_is_not_reached_gives_one_file, make_room, leave_room),
        cmocka_unit_test_setup_teardown(a_file_without_tensors_can_be_read_back, make_room, leave_room),
        cmocka_unit_test_setup_teardown(wrong_counts_of_bytes_are_told, make_room, leave_room),
        cmocka_unit_test_setup_teardown(an_abandoned_writing_leaves_the_old_file, make_room, leave_room),
        cmocka_unit_test_setup_teardown(a_full_disk_is_told_and_leaves_nothing, make_room, leave_room),
        cmocka_unit_test_setup_teardown(no_failed_allocation_leaks_or_leaves_a_file, make_room, leave_room),
        cmocka_unit_test(recorded_models_are_read),
        cmocka_unit_test(halves_and_shards_agree_with_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
