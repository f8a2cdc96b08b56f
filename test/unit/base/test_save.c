#include "scratch.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static int entries(const char *dir)
{
    DIR *d = opendir(dir);
    int n = -2;

    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void a_written_file_is_private_whatever_the_umask(void **state)
{
    static const mode_t masks[] = {0, 022, 077, 0777};
    struct stat st;

    (void)state;
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        mode_t old = umask(masks[i]);
        cad_status status = cad_write_file(in_scratch("f"), "hello", 5);
        umask(old);
        assert_int_equal(status, CAD_OK);
        assert_int_equal(stat(in_scratch("f"), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        expect_content(in_scratch("f"), "hello");
    }
}

static void writing_replaces_and_leaves_nothing_beside(void **state)
{
    (void)state;
    assert_int_equal(cad_mkdirs(in_scratch("w")), CAD_OK);
    assert_int_equal(cad_write_file(in_scratch("w/f"), "old", 3), CAD_OK);
    assert_int_equal(cad_write_file(in_scratch("w/f"), "new", 3), CAD_OK);
    assert_int_equal(cad_write_file(in_scratch("w/empty"), NULL, 0), CAD_OK);
    expect_content(in_scratch("w/f"), "new");
    expect_content(in_scratch("w/empty"), "");
    assert_int_equal(entries(in_scratch("w")), 2);
}

static void a_name_without_a_folder_is_one_in_the_current(void **state)
{
    char here[512];

    (void)state;
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(scratch_dir), 0);
    cad_status status = cad_write_file("bare", "x", 1);
    assert_int_equal(chdir(here), 0);
    assert_int_equal(status, CAD_OK);
    expect_content(in_scratch("bare"), "x");
}

static void a_planted_link_is_not_followed(void **state)
{
    char name[64];

    (void)state;
    put_file(in_scratch("victim"), "safe", 4);
    snprintf(name, sizeof name, "planted.tmp-%ld-0", (long)getpid());
    assert_int_equal(symlink(in_scratch("victim"), in_scratch(name)), 0);
    assert_int_equal(cad_write_file(in_scratch("planted"), "mine", 4), CAD_OK);
    expect_content(in_scratch("victim"), "safe");
    expect_content(in_scratch("planted"), "mine");
    assert_int_equal(unlink(in_scratch(name)), 0);
}

static void a_link_under_the_name_is_replaced_not_followed(void **state)
{
    struct stat st;

    (void)state;
    put_file(in_scratch("target"), "safe", 4);
    assert_int_equal(symlink("target", in_scratch("link")), 0);
    assert_int_equal(cad_write_file(in_scratch("link"), "mine", 4), CAD_OK);
    expect_content(in_scratch("target"), "safe");
    assert_int_equal(lstat(in_scratch("link"), &st), 0);
    assert_true(S_ISREG(st.st_mode));
}

static void a_failed_write_keeps_the_old_file(void **state)
{
    struct rlimit old, small = {0};
    char bytes[5000] = {0};

    (void)state;
    assert_int_equal(cad_mkdirs(in_scratch("full")), CAD_OK);
    assert_int_equal(cad_write_file(in_scratch("full/f"), "old", 3), CAD_OK);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){.rlim_cur = 4096, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    cad_status status = cad_write_file(in_scratch("full/f"), bytes, sizeof bytes);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(status, CAD_ERESOURCE);
    expect_reason("cannot write: File too large");
    expect_content(in_scratch("full/f"), "old");
    assert_int_equal(entries(in_scratch("full")), 1);
}

static void a_folder_that_is_not_there_is_named(void **state)
{
    (void)state;
    assert_int_equal(cad_write_file(in_scratch("none/f"), "x", 1), CAD_ERESOURCE);
    expect_reason("none/f: cannot make a file beside it: No such file");
    assert_int_equal(cad_fsync_dir(in_scratch("none")), CAD_ERESOURCE);
    expect_reason("cannot open the folder");
}

static void writing_onto_a_folder_fails_and_cleans_up(void **state)
{
    (void)state;
    assert_int_equal(cad_mkdirs(in_scratch("onto/f")), CAD_OK);
    assert_int_equal(cad_write_file(in_scratch("onto/f"), "x", 1), CAD_ERESOURCE);
    expect_reason("cannot rename onto it");
    assert_int_equal(entries(in_scratch("onto")), 1);
}

static void no_failed_allocation_leaves_a_file_or_a_block(void **state)
{
    cad_status status = CAD_ERESOURCE;

    (void)state;
    assert_int_equal(cad_mkdirs(in_scratch("oom")), CAD_OK);
    for (int nth = 1; status; nth++) {
        cad_mem_fail_at(nth);
        status = cad_write_file(in_scratch("oom/f"), "x", 1);
        cad_mem_fail_at(0);
        assert_int_equal(cad_mem_blocks(), 0);
        assert_int_equal(entries(in_scratch("oom")), cad_is_file(in_scratch("oom/f")));
        cad_clear();
        assert_true(nth < 20);
    }
}

static void a_copy_has_the_same_bytes(void **state)
{
    char *bytes, *copy;
    size_t n = (2 << 20) + 5, got;

    (void)state;
    assert_int_equal(cad_alloc(&bytes, n, 1, "a file"), CAD_OK);
    for (size_t i = 0; i < n; i++) bytes[i] = (char)(i * 31 >> 4);
    put_file(in_scratch("from"), bytes, n);
    assert_int_equal(cad_copy_file(in_scratch("from"), in_scratch("to")), CAD_OK);
    assert_int_equal(cad_read_file(&copy, &got, in_scratch("to"), n, CAD_EDATA), CAD_OK);
    assert_int_equal(got, n);
    assert_memory_equal(copy, bytes, n);
    cad_free(&bytes);
    cad_free(&copy);
    assert_int_equal(cad_copy_file(in_scratch("none"), in_scratch("to")), CAD_ERESOURCE);
    expect_reason("none: cannot open");
    assert_int_equal(cad_copy_file(scratch_dir, in_scratch("to")), CAD_ERESOURCE);
    expect_reason("expected a regular file");
}

static void a_tree_is_removed_and_links_are_not_followed(void **state)
{
    (void)state;
    assert_int_equal(cad_mkdirs(in_scratch("kept")), CAD_OK);
    put_file(in_scratch("kept/f"), "x", 1);
    assert_int_equal(cad_mkdirs(in_scratch("tree/a/b/c")), CAD_OK);
    put_file(in_scratch("tree/a/f"), "x", 1);
    for (int i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "tree/a/b/%d", i);
        put_file(in_scratch(name), "x", 1);
    }
    assert_int_equal(symlink("../../kept", in_scratch("tree/a/link")), 0);
    assert_int_equal(cad_remove_tree(in_scratch("tree/")), CAD_OK);
    assert_false(cad_is_dir(in_scratch("tree")));
    expect_content(in_scratch("kept/f"), "x");
    assert_int_equal(cad_remove_tree(in_scratch("tree")), CAD_OK);
}

static void only_a_folder_is_removed_as_a_tree(void **state)
{
    (void)state;
    assert_int_equal(cad_mkdirs(in_scratch("behind")), CAD_OK);
    put_file(in_scratch("behind/f"), "x", 1);
    assert_int_equal(symlink("behind", in_scratch("before")), 0);
    assert_int_equal(cad_remove_tree(in_scratch("before")), CAD_ERESOURCE);
    expect_reason("expected a folder to remove");
    assert_int_equal(cad_remove_tree(in_scratch("before/")), CAD_ERESOURCE);
    expect_reason("expected a folder to remove");
    expect_content(in_scratch("behind/f"), "x");
}

static void a_published_folder_appears_whole(void **state)
{
    (void)state;
    assert_int_equal(cad_mkdirs(in_scratch("step.tmp/sub")), CAD_OK);
    put_file(in_scratch("step.tmp/f"), "x", 1);
    put_file(in_scratch("step.tmp/sub/g"), "y", 1);
    assert_int_equal(symlink("f", in_scratch("step.tmp/link")), 0);
    assert_int_equal(cad_publish_dir(in_scratch("step.tmp"), in_scratch("step")), CAD_OK);
    assert_false(cad_is_dir(in_scratch("step.tmp")));
    expect_content(in_scratch("step/sub/g"), "y");
    assert_int_equal(cad_mkdirs(in_scratch("step.tmp")), CAD_OK);
    assert_int_equal(cad_publish_dir(in_scratch("step.tmp"), in_scratch("step")), CAD_ERESOURCE);
    expect_reason("cannot rename the finished folder");
    expect_content(in_scratch("step/f"), "x");
    assert_int_equal(cad_publish_dir(in_scratch("none"), in_scratch("step2")), CAD_ERESOURCE);
    expect_reason("expected a folder to publish");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_written_file_is_private_whatever_the_umask),
        cmocka_unit_test(writing_replaces_and_leaves_nothing_beside),
        cmocka_unit_test(a_name_without_a_folder_is_one_in_the_current),
        cmocka_unit_test(a_planted_link_is_not_followed),
        cmocka_unit_test(a_link_under_the_name_is_replaced_not_followed),
        cmocka_unit_test(a_failed_write_keeps_the_old_file),
        cmocka_unit_test(a_folder_that_is_not_there_is_named),
        cmocka_unit_test(writing_onto_a_folder_fails_and_cleans_up),
        cmocka_unit_test(no_failed_allocation_leaves_a_file_or_a_block),
        cmocka_unit_test(a_copy_has_the_same_bytes),
        cmocka_unit_test(a_tree_is_removed_and_links_are_not_followed),
        cmocka_unit_test(only_a_folder_is_removed_as_a_tree),
        cmocka_unit_test(a_published_folder_appears_whole),
    };
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
