#include "kept.h"

static void start(kept *k, const char *out)
{
    kept_options(k, out);
    kept_open(k);
    OK(cadp_output_open(&k->r));
    kept_fill(k);
}

/* Three checkpoints of a run that ended; what is left of the run is closed. */
static void leave_three(void)
{
    kept a;

    start(&a, "out");
    for (int64_t step = 1; step <= 3; step++) kept_save(&a, step, step == 1);
    kept_close(&a);
}

static void damage(const char *name)
{
    char *bytes;
    size_t n;

    OK(cad_read_file(&bytes, &n, in_scratch(name), 1 << 24, CAD_EDATA));
    bytes[n / 2] ^= 4;
    put_file(in_scratch(name), bytes, n);
    cad_free(&bytes);
}

static cad_status find(kept *k, const char *out, const char *from)
{
    kept_options(k, out);
    k->o.training.resume_from_checkpoint = (char *)from;
    return cadp_checkpoint_find(&k->r);
}

static void expect_step(const char *from, int64_t step)
{
    kept k;

    OK(find(&k, "out", from));
    assert_int_equal(k.r.facts.start_step, step);
    cad_free(&k.r.resume_dir);
}

static void the_newest_whole_one_is_taken(void **state)
{
    (void)state;
    leave_three();
    expect_step("last", 3);
    expect_step("auto", 3);
    expect_step(in_scratch("out"), 3);
    expect_step(in_scratch("out/checkpoint-2"), 2);
    expect_step(in_scratch("out/best"), 1);
    damage("out/checkpoint-3/model.safetensors");
    expect_step("auto", 2);
    damage("out/checkpoint-2/manifest.json");
    expect_step("last", 1);
    assert_int_equal(unlink(in_scratch("out/checkpoint-2/manifest.json")), 0);
    expect_step(in_scratch("out"), 1);
}

static void every_file_that_is_damaged_is_named(void **state)
{
    static const char *const names[] = {"state.h5", "model.safetensors", "config.json", "tokenizer.json", "trainer_state.json", "run.json", "merges.txt", "generation_config.json"};
    char path[128];
    kept k;

    (void)state;
    leave_three();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "out/checkpoint-3/%s", names[i]);
        damage(path);
        assert_int_equal(find(&k, "out", in_scratch("out/checkpoint-3")), CAD_ECHECKPOINT);
        assert_null(k.r.resume_dir);
        expect_reason(names[i]);
        damage(path); /* and back */
    }
    expect_step("last", 3);
}

static void nothing_whole_is_an_error_and_nothing_at_all_a_fresh_start_with_auto(void **state)
{
    kept k;

    (void)state;
    OK(find(&k, "nowhere", "auto"));
    assert_null(k.r.resume_dir);
    OK(find(&k, "nowhere", "none"));
    assert_null(k.r.resume_dir);
    OK(find(&k, "nowhere", NULL));
    assert_int_equal(find(&k, "nowhere", "last"), CAD_ECHECKPOINT);
    expect_reason("expected a checkpoint-N");
    assert_int_equal(find(&k, "nowhere", "/no/such/checkpoint"), CAD_ECHECKPOINT);
    expect_reason("expected a folder, found none");
    leave_three();
    for (int i = 1; i <= 3; i++) {
        char path[64];
        snprintf(path, sizeof path, "out/checkpoint-%d/state.h5", i);
        damage(path);
    }
    assert_int_equal(find(&k, "out", "auto"), CAD_ECHECKPOINT);
    expect_reason("checkpoint-1/state.h5: is damaged");
}

/* Loads checkpoint-3 into a run that `change` has made different; the status of that. */
static cad_status load(void (*change)(kept *k))
{
    kept k;
    cad_status status;

    OK(find(&k, "out", "last"));
    kept_open(&k);
    change(&k);
    status = cadp_checkpoint_load(&k.r);
    kept_close(&k);
    return status;
}

static void other_rows(kept *k)
{
    k->rows[0] = 1;
    k->rows[5] = 0;
}

static void other_tokens(kept *k) { k->data.digest[63] = 'e'; }

static void other_data_is_refused(void **state)
{
    (void)state;
    leave_three();
    assert_int_equal(load(other_rows), CAD_ECHECKPOINT);
    expect_reason("expected the training data it was made with");
    assert_int_equal(load(other_tokens), CAD_ECHECKPOINT);
    expect_reason("expected the training data it was made with");
}

static void reopen(kept *k)
{
    cad_zero_close(&k->r.zero);
    cad_params_close(&k->r.params);
    OK(cad_params_open(&k->r.params, &k->r.arch, &k->r.method));
    OK(cad_zero_open(&k->r.zero, k->r.params, k->r.comm, &k->r.arena, &(cad_zero_options){.train = true, .exact = true, .atoms_per_step = 3, .compute = CAD_F32}));
}

static void three_labels(kept *k)
{
    k->r.method.num_labels = 3;
    reopen(k);
}

static void an_adapter(kept *k)
{
    static const char *const words[] = {"q_proj"};

    k->r.method = (cad_method){.lora = true, .r = 2, .alpha = 4, .targets = words, .target_count = 1, .train_head = true, .num_labels = 2, .compute = CAD_F32};
    reopen(k);
}

static void another_model_is_refused_with_the_tensor(void **state)
{
    (void)state;
    leave_three();
    assert_int_equal(load(three_labels), CAD_ECHECKPOINT);
    expect_reason("/state.h5: expected F32 [3, 8]");
    assert_int_equal(load(an_adapter), CAD_ECHECKPOINT);
    expect_reason("trainable tensors, found");
}

static void the_best_can_be_gone_back_to(void **state)
{
    kept k;

    (void)state;
    leave_three();
    kept_options(&k, "out");
    kept_open(&k);
    OK(cadp_checkpoint_load_params(&k.r, in_scratch("out/best")));
    kept_expect_filled(&k, 1);
    damage("out/checkpoint-1/state.h5");
    assert_int_equal(cadp_checkpoint_load_params(&k.r, in_scratch("out/best")), CAD_ECHECKPOINT);
    expect_reason("state.h5: is damaged");
    kept_close(&k);
}

static void a_best_that_is_elsewhere_is_forgotten(void **state)
{
    kept k;

    (void)state;
    leave_three();
    OK(find(&k, "other", in_scratch("out/checkpoint-2")));
    k.o.training.load_best_model_at_end = true;
    kept_open(&k);
    OK(cadp_checkpoint_load(&k.r));
    assert_int_equal(k.r.history.best_step, 0);
    assert_true(isnan(k.r.history.best_metric));
    kept_close(&k);
}

static void the_atoms_of_a_step_stay_what_they_were(void **state)
{
    kept k;

    (void)state;
    leave_three();
    kept_options(&k, "out");
    k.o.training.resume_from_checkpoint = (char *)"last";
    k.o.training.gradient_accumulation_steps = 1;
    k.r.facts = (cadp_facts){0};
    k.r.size = 3;
    OK(cadp_checkpoint_find(&k.r));
    assert_int_equal(k.r.facts.atoms_per_step, 3);
    assert_int_equal(k.o.training.gradient_accumulation_steps, 3);
    cad_free(&k.r.resume_dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_newest_whole_one_is_taken, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(every_file_that_is_damaged_is_named, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(nothing_whole_is_an_error_and_nothing_at_all_a_fresh_start_with_auto, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(other_data_is_refused, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(another_model_is_refused_with_the_tensor, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(the_best_can_be_gone_back_to, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(a_best_that_is_elsewhere_is_forgotten, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(the_atoms_of_a_step_stay_what_they_were, make_scratch, drop_scratch),
    };

    cad_h5_setup();
    cad_log_setup(0, 1, CAD_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
