#include "scratch.h"

#include <sys/stat.h>
#include <unistd.h>

static void expect_join(const char *dir, const char *name, const char *joined)
{
    char *path;

    assert_int_equal(cad_path_join(&path, dir, name), CAD_OK);
    assert_string_equal(path, joined);
    cad_free(&path);
}

static void an_absolute_name_wins(void **state)
{
    (void)state;
    expect_join("a", "b", "a/b");
    expect_join("a/", "b", "a/b");
    expect_join("/", "b", "/b");
    expect_join("", "b", "b");
    expect_join("a", "/b", "/b");
    expect_join("a", "../b", "a/../b");
}

static void folders_are_made_with_their_parents_and_private(void **state)
{
    struct stat st;

    (void)state;
    assert_int_equal(cad_mkdirs(in_scratch("a/b//c/")), CAD_OK);
    assert_true(cad_is_dir(in_scratch("a/b/c")));
    assert_int_equal(cad_mkdirs(in_scratch("a/b/c")), CAD_OK);
    assert_int_equal(stat(in_scratch("a/b"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void a_file_in_the_way_of_a_folder_is_named(void **state)
{
    (void)state;
    put_file(in_scratch("file"), "x", 1);
    assert_int_equal(cad_mkdirs(in_scratch("file/sub")), CAD_ERESOURCE);
    expect_reason("/file");
    assert_int_equal(cad_mkdirs(in_scratch("file")), CAD_ERESOURCE);
    expect_reason("cannot make the folder");
}

static void files_and_folders_are_told_apart(void **state)
{
    (void)state;
    put_file(in_scratch("plain"), "x", 1);
    assert_true(cad_is_file(in_scratch("plain")));
    assert_false(cad_is_dir(in_scratch("plain")));
    assert_false(cad_is_file(scratch_dir));
    assert_true(cad_is_dir(scratch_dir));
    assert_false(cad_is_file(in_scratch("none")));
    assert_false(cad_is_dir(in_scratch("none")));
}

static void a_file_is_read_whole_and_ends_in_a_nul(void **state)
{
    char *bytes;
    size_t n;

    (void)state;
    put_file(in_scratch("f"), "ab\0c", 4);
    assert_int_equal(cad_read_file(&bytes, &n, in_scratch("f"), 4, CAD_EDATA), CAD_OK);
    assert_int_equal(n, 4);
    assert_memory_equal(bytes, "ab\0c", 5);
    cad_free(&bytes);
    put_file(in_scratch("f"), "", 0);
    assert_int_equal(cad_read_file(&bytes, &n, in_scratch("f"), 4, CAD_EDATA), CAD_OK);
    assert_int_equal(n, 0);
    assert_string_equal(bytes, "");
    cad_free(&bytes);
}

static void what_cannot_be_read_is_refused_with_the_kind_asked_for(void **state)
{
    char *bytes = NULL;
    size_t n;

    (void)state;
    put_file(in_scratch("f"), "abcde", 5);
    assert_int_equal(cad_read_file(&bytes, &n, in_scratch("f"), 4, CAD_EDATA), CAD_EDATA);
    expect_reason("expected at most 4 bytes, found 5");
    assert_int_equal(cad_read_file(&bytes, &n, in_scratch("none"), 4, CAD_EMODEL), CAD_EMODEL);
    expect_reason("No such file");
    assert_int_equal(cad_read_file(&bytes, &n, scratch_dir, 4, CAD_EUSAGE), CAD_EUSAGE);
    expect_reason("found a folder");
    assert_int_equal(mkfifo(in_scratch("fifo"), 0600), 0);
    assert_int_equal(cad_read_file(&bytes, &n, in_scratch("fifo"), 4, CAD_EUSAGE), CAD_EUSAGE);
    expect_reason("a device or pipe");
    assert_null(bytes);
}

static void space_is_compared_with_what_is_free(void **state)
{
    (void)state;
    assert_int_equal(cad_need_space(scratch_dir, 0), CAD_OK);
    assert_int_equal(cad_need_space(scratch_dir, 1), CAD_OK);
    assert_int_equal(cad_need_space(scratch_dir, INT64_MAX), CAD_ERESOURCE);
    expect_reason("are needed");
    assert_int_equal(cad_need_space(in_scratch("none"), 1), CAD_ERESOURCE);
    expect_reason("cannot ask");
}

static void time_does_not_run_backwards(void **state)
{
    double before = cad_now();

    (void)state;
    usleep(2000);
    assert_true(cad_now() - before >= 0.002);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_absolute_name_wins),
        cmocka_unit_test(folders_are_made_with_their_parents_and_private),
        cmocka_unit_test(a_file_in_the_way_of_a_folder_is_named),
        cmocka_unit_test(files_and_folders_are_told_apart),
        cmocka_unit_test(a_file_is_read_whole_and_ends_in_a_nul),
        cmocka_unit_test(what_cannot_be_read_is_refused_with_the_kind_asked_for),
        cmocka_unit_test(space_is_compared_with_what_is_free),
        cmocka_unit_test(time_does_not_run_backwards),
    };
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
