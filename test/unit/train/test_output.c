#include "../base/scratch.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../src/train/keep_priv.h"

typedef struct fixture { cad_options o; cad_run r; char dir[512]; } fixture;

static void set_up(fixture *f)
{
    memset(f, 0, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "%s/out", scratch_dir);
    f->o.output_dir = f->dir;
    f->r.o = &f->o;
    f->r.lock = -1;
}

static void put(const fixture *f, const char *name)
{
    char path[600];

    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    put_file(path, "x", 1);
}

static void make(const fixture *f, const char *name)
{
    char path[600];

    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    assert_int_equal(cad_mkdirs(path), CAD_OK);
}

static bool there(const fixture *f, const char *name)
{
    char path[600];
    struct stat st;

    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    return !lstat(path, &st);
}

static void open_and_close(fixture *f)
{
    cad_status status = cadp_output_open(&f->r);

    if (!status) status = cadp_output_clear(&f->r);
    if (status) fail_msg("%d %s", status, cad_reason());
    cadp_output_close(&f->r);
}

static void expect_refusal(fixture *f, cad_status status, const char *reason)
{
    assert_int_equal(cadp_output_open(&f->r), status);
    assert_int_equal(f->r.lock, -1);
    expect_reason(reason);
}

static void a_new_folder_is_private_and_marked(void **state)
{
    fixture f;
    struct stat st;

    (void)state;
    set_up(&f);
    assert_int_equal(cadp_output_open(&f.r), CAD_OK);
    assert_true(there(&f, ".cadtrain") && there(&f, ".lock"));
    assert_int_equal(stat(f.dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    cadp_output_close(&f.r);
    assert_false(there(&f, ".lock"));
    open_and_close(&f); /* nothing was written: it counts as empty */
}

static void an_open_folder_is_made_private(void **state)
{
    fixture f;
    struct stat st;

    (void)state;
    set_up(&f);
    make(&f, "");
    assert_int_equal(chmod(f.dir, 0777), 0);
    open_and_close(&f);
    assert_int_equal(stat(f.dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void a_folder_with_something_in_it_is_refused(void **state)
{
    fixture f;

    (void)state;
    set_up(&f);
    make(&f, "");
    put(&f, "thesis.txt");
    expect_refusal(&f, CAD_EUSAGE, "found \"thesis.txt\"");
    f.o.training.overwrite_output_dir = true;
    open_and_close(&f);
    assert_true(there(&f, "thesis.txt") && there(&f, ".cadtrain"));
}

static void a_model_that_no_run_wrote_is_not_removed(void **state)
{
    fixture f;

    (void)state;
    set_up(&f);
    f.o.training.overwrite_output_dir = true;
    make(&f, "");
    put(&f, "model.safetensors");
    put(&f, "config.json");
    expect_refusal(&f, CAD_EUSAGE, "no .cadtrain");
    assert_true(there(&f, "model.safetensors") && there(&f, "config.json"));
}

static void fill_as_a_run(fixture *f)
{
    static const char *const names[] = {"log.jsonl", "metrics.csv", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "config.json", "tokenizer.json", "run.json",
                                        "trainer_state.json", "train_results.json", "all_results.json", "STOP", "log.jsonl.tmp-41-0", "README.md", "adapter_model.safetensors"};
    char link[600];

    open_and_close(f);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) put(f, names[i]);
    make(f, "checkpoint-2");
    put(f, "checkpoint-2/state.h5");
    make(f, "runs/a");
    make(f, "predictions");
    put(f, "predictions/metrics.json");
    make(f, ".tmp-checkpoint-7");
    snprintf(link, sizeof link, "%s/best", f->dir);
    assert_int_equal(symlink("checkpoint-2", link), 0);
}

static void overwriting_removes_what_a_run_wrote(void **state)
{
    static const char *const names[] = {"log.jsonl", "config.json", "model-00001-of-00002.safetensors", "checkpoint-2", "runs", "best", "predictions", "STOP", ".tmp-checkpoint-7", "README.md"};
    fixture f;

    (void)state;
    set_up(&f);
    fill_as_a_run(&f);
    expect_refusal(&f, CAD_EUSAGE, "expected an empty folder");
    f.o.training.overwrite_output_dir = true;
    assert_int_equal(cadp_output_open(&f.r), CAD_OK);
    assert_true(there(&f, "config.json") && there(&f, "checkpoint-2")); /* until the new run is known to begin */
    cadp_output_close(&f.r);
    open_and_close(&f);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) assert_false(there(&f, names[i]));
}

static void anything_else_stays_when_a_run_is_overwritten(void **state)
{
    static const char *const names[] = {"notes.txt", "checkpoint-x", "checkpoint-01", "predictions/summary.xlsx", "model.bin", "vocabulary.json"};
    fixture f;

    (void)state;
    set_up(&f);
    fill_as_a_run(&f);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) put(&f, names[i]);
    expect_refusal(&f, CAD_EUSAGE, "expected an empty folder");
    f.o.training.overwrite_output_dir = true;
    open_and_close(&f);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) assert_true(there(&f, names[i]));
    assert_false(there(&f, "config.json") || there(&f, "checkpoint-2") || there(&f, "predictions/metrics.json"));
}

/* What a language model's samples and the demo's scores add. */
static void all_predictions_are_a_runs_own(void **state)
{
    fixture f;

    (void)state;
    set_up(&f);
    fill_as_a_run(&f);
    put(&f, "predictions/samples.jsonl");
    make(&f, "predictions/clinical");
    put(&f, "predictions/clinical/report.html");
    f.o.training.overwrite_output_dir = true;
    open_and_close(&f);
    assert_false(there(&f, "predictions"));
}

static void the_model_that_is_read_is_not_removed(void **state)
{
    fixture f;

    (void)state;
    set_up(&f);
    fill_as_a_run(&f);
    f.o.training.overwrite_output_dir = true;
    f.r.model_dir = f.dir;
    expect_refusal(&f, CAD_EUSAGE, "the run does not read");
    assert_true(there(&f, "config.json"));
}

static void resuming_keeps_what_is_there(void **state)
{
    fixture f;
    char inside[600];

    (void)state;
    set_up(&f);
    fill_as_a_run(&f);
    for (int i = 0; i < 3; i++) {
        snprintf(inside, sizeof inside, "%s/checkpoint-2", f.dir);
        f.o.training.resume_from_checkpoint = i == 0 ? (char *)"last" : i == 1 ? (char *)"auto" : inside;
        f.o.training.overwrite_output_dir = i == 1;
        open_and_close(&f);
        assert_true(there(&f, "log.jsonl") && there(&f, "checkpoint-2/state.h5") && there(&f, "best"));
        assert_false(there(&f, ".tmp-checkpoint-7") || there(&f, "STOP") || there(&f, "log.jsonl.tmp-41-0"));
    }
    f.o.training.overwrite_output_dir = false;
    f.o.training.resume_from_checkpoint = (char *)"/elsewhere/checkpoint-4";
    expect_refusal(&f, CAD_EUSAGE, "expected an empty folder");
}

static void a_run_that_died_before_its_first_checkpoint_starts_afresh_with_auto(void **state)
{
    fixture f;

    (void)state;
    set_up(&f);
    open_and_close(&f);
    put(&f, "log.jsonl");
    make(&f, "runs");
    expect_refusal(&f, CAD_EUSAGE, "expected an empty folder");
    f.o.training.resume_from_checkpoint = (char *)"last";
    expect_refusal(&f, CAD_ECHECKPOINT, "expected a checkpoint-N");
    f.o.training.resume_from_checkpoint = (char *)"auto";
    open_and_close(&f);
    assert_false(there(&f, "log.jsonl"));
    put(&f, "model.safetensors"); /* a finished run is not thrown away */
    expect_refusal(&f, CAD_EUSAGE, "expected an empty folder");
}

static void the_second_job_is_refused_with_the_first_ones_name(void **state)
{
    fixture a, b;
    char mine[64];

    (void)state;
    set_up(&a);
    set_up(&b);
    setenv("SLURM_JOB_ID", "4711", 1);
    assert_int_equal(cadp_output_open(&a.r), CAD_OK);
    put(&a, "log.jsonl");
    snprintf(mine, sizeof mine, "process %ld on ", (long)getpid());
    assert_int_equal(cadp_output_open(&b.r), CAD_ERESOURCE);
    assert_non_null(strstr(cad_reason(), "Slurm job 4711"));
    expect_reason(mine);
    unsetenv("SLURM_JOB_ID");
    assert_true(there(&a, ".lock"));
    cadp_output_close(&a.r);
    b.o.training.overwrite_output_dir = true;
    open_and_close(&b);
}

static void the_lock_of_a_dead_job_is_no_lock(void **state)
{
    fixture f;
    int status;
    pid_t pid;

    (void)state;
    set_up(&f);
    if (!(pid = fork())) {
        if (cadp_output_open(&f.r)) _exit(1);
        _exit(0); /* without closing */
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(there(&f, ".lock"));
    open_and_close(&f);
}

/* Twelve processes at once, each tries a few times: never two inside. */
static void of_many_jobs_one_runs(void **state)
{
    int status, done = 0;
    char inside[600];
    fixture f;

    (void)state;
    set_up(&f);
    f.o.training.overwrite_output_dir = true;
    snprintf(inside, sizeof inside, "%s/../inside", f.dir);
    for (int i = 0; i < 12; i++)
        if (!fork()) {
            for (int k = 0; k < 4; k++) {
                FILE *x;
                cad_clear();
                if (cadp_output_open(&f.r)) continue;
                if (!(x = fopen(inside, "wx"))) _exit(2); /* somebody else is inside */
                fclose(x);
                usleep(500);
                unlink(inside);
                cadp_output_close(&f.r);
            }
            _exit(0);
        }
    while (wait(&status) > 0) {
        assert_int_equal(status, 0);
        done++;
    }
    assert_int_equal(done, 12);
}

static void links_and_files_in_its_place_are_refused(void **state)
{
    fixture f;
    char link[600];

    (void)state;
    set_up(&f);
    put_file(f.dir, "x", 1);
    expect_refusal(&f, CAD_EUSAGE, "expected a folder, found a file");
    snprintf(f.dir, sizeof f.dir, "%s/linked", scratch_dir);
    make(&f, "");
    snprintf(link, sizeof link, "%s/.lock", f.dir);
    assert_int_equal(symlink("/tmp/elsewhere-that-is-not-there", link), 0);
    expect_refusal(&f, CAD_ERESOURCE, "cannot make the lock");
    f.o.output_dir = NULL;
    expect_refusal(&f, CAD_EUSAGE, "output_dir: expected a folder");
}

static void checkpoints_are_listed_by_their_numbers(void **state)
{
    fixture f;
    int64_t *steps;
    int count;

    (void)state;
    set_up(&f);
    make(&f, "checkpoint-10");
    make(&f, "checkpoint-9");
    make(&f, "checkpoint-100");
    make(&f, "checkpoint-0");
    make(&f, "checkpoint--1");
    make(&f, "checkpoint-1x");
    make(&f, "checkpoint-99999999999999999999");
    make(&f, ".tmp-checkpoint-11");
    assert_int_equal(cadp_list_checkpoints(f.dir, &steps, &count), CAD_OK);
    assert_int_equal(count, 3);
    assert_int_equal(steps[0], 9);
    assert_int_equal(steps[1], 10);
    assert_int_equal(steps[2], 100);
    cad_free(&steps);
    assert_int_equal(cadp_list_checkpoints("/no/such/folder", &steps, &count), CAD_OK);
    assert_int_equal(count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_new_folder_is_private_and_marked, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(an_open_folder_is_made_private, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(a_folder_with_something_in_it_is_refused, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(a_model_that_no_run_wrote_is_not_removed, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(overwriting_removes_what_a_run_wrote, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(anything_else_stays_when_a_run_is_overwritten, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(all_predictions_are_a_runs_own, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(the_model_that_is_read_is_not_removed, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(resuming_keeps_what_is_there, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(a_run_that_died_before_its_first_checkpoint_starts_afresh_with_auto, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(the_second_job_is_refused_with_the_first_ones_name, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(the_lock_of_a_dead_job_is_no_lock, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(of_many_jobs_one_runs, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(links_and_files_in_its_place_are_refused, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(checkpoints_are_listed_by_their_numbers, make_scratch, drop_scratch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
