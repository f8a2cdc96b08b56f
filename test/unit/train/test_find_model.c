#include "../base/scratch.h"

#include <unistd.h>

#include <cadtrain/train.h>

static const char revision[] = "0123456789abcdef0123456789abcdef01234567";

static void forget_caches(void)
{
    unsetenv("HF_HUB_CACHE");
    unsetenv("HF_HOME");
    setenv("HOME", scratch_dir, 1);
}

/* CACHE/models--FOLDER with refs/main and its snapshot. */
static void make_cached(const char *cache, const char *folder, const char *ref)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s/refs", cache, folder);
    assert_int_equal(cad_mkdirs(path), CAD_OK);
    snprintf(path, sizeof path, "%s/%s/refs/main", cache, folder);
    put_file(path, ref, strlen(ref));
    snprintf(path, sizeof path, "%s/%s/snapshots/%s", cache, folder, revision);
    assert_int_equal(cad_mkdirs(path), CAD_OK);
}

static void expect_found(const char *name, const char *cache_dir, const char *cache, const char *folder)
{
    char want[512], *found;

    snprintf(want, sizeof want, "%s/%s/snapshots/%s", cache, folder, revision);
    assert_int_equal(cad_find_model(&found, name, cache_dir), CAD_OK);
    assert_string_equal(found, want);
    cad_free(&found);
}

static void a_folder_is_taken_as_it_is(void **state)
{
    char *found;

    (void)state;
    assert_int_equal(cad_find_model(&found, scratch_dir, NULL), CAD_OK);
    assert_string_equal(found, scratch_dir);
    cad_free(&found);
}

static void every_cache_is_looked_in(void **state)
{
    char home[512], user[512];

    (void)state;
    forget_caches();
    make_cached(in_scratch("given"), "models--Org--Name-1.5", revision);
    expect_found("Org/Name-1.5", in_scratch("given"), in_scratch("given"), "models--Org--Name-1.5");
    make_cached(in_scratch("hub"), "models--Org--B", revision);
    setenv("HF_HUB_CACHE", in_scratch("hub"), 1);
    expect_found("Org/B", NULL, in_scratch("hub"), "models--Org--B");
    snprintf(home, sizeof home, "%s/home/hub", scratch_dir);
    make_cached(home, "models--Org--C", revision);
    setenv("HF_HOME", in_scratch("home"), 1);
    expect_found("Org/C", "", home, "models--Org--C");
    snprintf(user, sizeof user, "%s/.cache/huggingface/hub", scratch_dir);
    make_cached(user, "models--d", "0123456789abcdef0123456789abcdef01234567\n");
    expect_found("d", NULL, user, "models--d");
    forget_caches();
}

static void what_is_nowhere_names_the_command_that_downloads_it(void **state)
{
    char *found;

    (void)state;
    forget_caches();
    assert_int_equal(cad_find_model(&found, "Org/Absent", NULL), CAD_EMODEL);
    assert_null(found);
    expect_reason("huggingface-cli download Org/Absent");
}

static void what_is_no_name_of_the_hub_is_a_missing_folder(void **state)
{
    static const char *const names[] = {"/no/such/folder", "../x/y", "a/../b", "./a", "a//b", "a/b/c", "a b/c", "", "a/", "/", "~/model", ".."};
    char *found;

    (void)state;
    forget_caches();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (cad_is_dir(names[i])) continue;
        assert_int_equal(cad_find_model(&found, names[i], NULL), CAD_EMODEL);
        expect_reason("expected a model directory, found none");
    }
}

static void a_revision_that_leaves_the_cache_is_not_followed(void **state)
{
    char path[512], *found;

    (void)state;
    forget_caches();
    make_cached(in_scratch("evil"), "models--Org--E", "../../..");
    assert_int_equal(cad_find_model(&found, "Org/E", in_scratch("evil")), CAD_EMODEL);
    cad_clear();
    snprintf(path, sizeof path, "%s/evil/models--Org--E/refs/main", scratch_dir);
    put_file(path, "no-such-revision", 16);
    assert_int_equal(cad_find_model(&found, "Org/E", in_scratch("evil")), CAD_EMODEL);
    cad_clear();
}

static void no_failed_allocation_leaks(void **state)
{
    char *found = NULL;
    cad_status status = CAD_ERESOURCE;

    (void)state;
    forget_caches();
    make_cached(in_scratch("given"), "models--Org--A", revision);
    for (int64_t nth = 1; status; nth++) {
        assert_true(nth < 100);
        cad_mem_fail_at(nth);
        status = cad_find_model(&found, "Org/A", in_scratch("given"));
        cad_mem_fail_at(0);
        if (!status) break;
        assert_null(found);
        cad_clear();
    }
    cad_free(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_folder_is_taken_as_it_is, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(every_cache_is_looked_in, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(what_is_nowhere_names_the_command_that_downloads_it, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(what_is_no_name_of_the_hub_is_a_missing_folder, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(a_revision_that_leaves_the_cache_is_not_followed, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(no_failed_allocation_leaks, make_scratch, drop_scratch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
