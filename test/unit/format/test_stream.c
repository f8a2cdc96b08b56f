#include <cadtrain/format.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SIZE = 9 * 1000 * 1000 + 7 };
static char folder[64], plain[96], packed[96], *content;

static int make_files(void **state)
{
    char command[512];

    (void)state;
    snprintf(folder, sizeof folder, "/tmp/cadtrain-stream-XXXXXX");
    if (!mkdtemp(folder) || cad_alloc(&content, SIZE, 1, "content")) return -1;
    snprintf(plain, sizeof plain, "%s/plain", folder);
    snprintf(packed, sizeof packed, "%s/plain.gz", folder);
    for (int i = 0; i < SIZE; i++) content[i] = (char)('a' + (i * 31 + i / 4099) % 26);
    if (cad_write_file(plain, content, SIZE)) return -1;
    snprintf(command, sizeof command, "head -c 4000000 %s | gzip -1 >%s && tail -c +4000001 %s | gzip -1 >>%s", plain, packed, plain, packed); /* two members */
    return system(command);
}

static int drop_files(void **state)
{
    (void)state;
    cad_free(&content);
    return cad_remove_tree(folder) || cad_mem_blocks() ? -1 : 0;
}

static void same(const char *path, size_t room)
{
    cad_stream *s = NULL;
    char *to = NULL;
    size_t got = 1, all = 0;

    assert_int_equal(cad_alloc(&to, room, 1, "room"), CAD_OK);
    assert_int_equal(cad_stream_open(&s, path, CAD_EDATA), CAD_OK);
    while (got) {
        assert_int_equal(cad_stream_read(s, to, room, &got), CAD_OK);
        assert_true(all + got <= SIZE);
        assert_memory_equal(to, content + all, got);
        all += got;
    }
    assert_int_equal(all, SIZE);
    cad_stream_close(&s);
    cad_free(&to);
}

static void plain_and_packed_files_give_the_same_bytes_in_any_cut(void **state)
{
    static const size_t rooms[] = {65521, 1 << 20, 5000000, SIZE + 10};

    (void)state;
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        same(plain, rooms[i]);
        same(packed, rooms[i]);
    }
}

static void a_stream_may_be_left_at_any_time(void **state)
{
    char some[100];
    size_t got;

    (void)state;
    for (int k = 0; k < 20; k++) {
        cad_stream *s = NULL;
        assert_int_equal(cad_stream_open(&s, k % 2 ? plain : packed, CAD_EDATA), CAD_OK);
        if (k % 3) assert_int_equal(cad_stream_read(s, some, sizeof some, &got), CAD_OK);
        cad_stream_close(&s);
        assert_null(s);
    }
}

static cad_status read_all(const char *path)
{
    static char to[1 << 16];
    cad_stream *s = NULL;
    size_t got = 1;
    cad_status st;

    cad_clear();
    CAD_TRY(cad_stream_open(&s, path, CAD_EDATA));
    for (st = CAD_OK; !st && got;) st = cad_stream_read(s, to, sizeof to, &got);
    cad_stream_close(&s);
    return st;
}

static void what_is_cut_or_damaged_is_refused(void **state)
{
    char *bytes = NULL, path[96];
    size_t n;

    (void)state;
    snprintf(path, sizeof path, "%s/bad.gz", folder);
    assert_int_equal(cad_read_file(&bytes, &n, packed, SIZE, CAD_EDATA), CAD_OK);
    assert_int_equal(cad_write_file(path, bytes, n - 9), CAD_OK);
    assert_int_equal(read_all(path), CAD_EDATA);
    assert_non_null(strstr(cad_reason(), "bad.gz"));
    bytes[n / 2] ^= 0x55;
    bytes[n / 2 + 1] ^= 0x55;
    assert_int_equal(cad_write_file(path, bytes, n), CAD_OK);
    assert_int_equal(read_all(path), CAD_EDATA);
    assert_int_equal(read_all(folder), CAD_EDATA);
    assert_non_null(strstr(cad_reason(), "found a folder"));
    snprintf(path, sizeof path, "%s/empty", folder);
    assert_int_equal(cad_write_file(path, "", 0), CAD_OK);
    assert_int_equal(read_all(path), CAD_OK);
    snprintf(path, sizeof path, "%s/absent", folder);
    assert_int_equal(read_all(path), CAD_EDATA);
    cad_free(&bytes);
    cad_clear();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(plain_and_packed_files_give_the_same_bytes_in_any_cut), cmocka_unit_test(a_stream_may_be_left_at_any_time),
                                       cmocka_unit_test(what_is_cut_or_damaged_is_refused)};
    return cmocka_run_group_tests(tests, make_files, drop_files);
}
