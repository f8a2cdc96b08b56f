/* What is left of a machine's memory: the kernel's own figure, and that of every control group round the process. */
#include "../base/scratch.h"

#include "../../../src/train/fit_priv.h"

static void put(const char *dir, const char *name, const char *text)
{
    char path[1024];

    assert_int_equal(cad_mkdirs(dir), CAD_OK);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    put_file(path, text, strlen(text));
}

static int64_t left(void)
{
    char meminfo[512], groups[512], self[512];

    snprintf(meminfo, sizeof meminfo, "%s/meminfo", scratch_dir);
    snprintf(groups, sizeof groups, "%s/groups", scratch_dir);
    snprintf(self, sizeof self, "%s/self", scratch_dir);
    return cadp_memory_left(meminfo, groups, self);
}

static void the_least_of_all_groups_counts(void **state)
{
    char group[512];

    (void)state;
    assert_true(left() == INT64_MAX);
    put(scratch_dir, "meminfo", "MemTotal:       8000000 kB\nMemAvailable:   5000000 kB\n");
    assert_true(left() == 5000000LL * 1024);
    snprintf(group, sizeof group, "%s/groups", scratch_dir);
    put(group, "memory.max", "max\n");
    put(scratch_dir, "self", "0::/job/step\n");
    assert_true(left() == 5000000LL * 1024);
    snprintf(group, sizeof group, "%s/groups/job/step", scratch_dir);
    put(group, "memory.max", "max\n");
    snprintf(group, sizeof group, "%s/groups/job", scratch_dir);
    put(group, "memory.max", "1000000\n");
    put(group, "memory.current", "700000\n");
    assert_true(left() == 300000);
    put(group, "memory.stat", "anon 500000\nfile 200000\n");
    assert_true(left() == 500000);
    put(group, "memory.current", "2700000\n");
    assert_true(left() == 0);
}

static void files_that_make_no_sense_say_nothing(void **state)
{
    char group[512];

    (void)state;
    put(scratch_dir, "meminfo", "MemAvailable: none\n");
    put(scratch_dir, "self", "4:memory:/x\n");
    snprintf(group, sizeof group, "%s/groups", scratch_dir);
    put(group, "memory.max", "much\n");
    assert_true(left() == INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_least_of_all_groups_counts, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(files_that_make_no_sense_say_nothing, make_scratch, drop_scratch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
