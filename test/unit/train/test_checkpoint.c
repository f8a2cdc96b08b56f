#include "kept.h"

#include <sys/stat.h>

static bool there(const kept *k, const char *name)
{
    char path[1024];
    struct stat st;

    snprintf(path, sizeof path, "%s/%s", k->out, name);
    return !lstat(path, &st);
}

static void expect_link(const kept *k, const char *name, const char *target)
{
    char path[1024], found[256];
    ssize_t n;

    snprintf(path, sizeof path, "%s/%s", k->out, name);
    n = readlink(path, found, sizeof found - 1);
    assert_true(n > 0);
    found[n] = 0;
    assert_string_equal(found, target);
}

static void start(kept *k, const char *out)
{
    kept_options(k, out);
    kept_open(k);
    OK(cadp_output_open(&k->r));
    kept_fill(k);
}

/* A second run that goes on from what `from` says. */
static void again(kept *k, const char *out, const char *from)
{
    kept_options(k, out);
    k->o.training.resume_from_checkpoint = (char *)from;
    OK(cadp_output_open(&k->r));
    OK(cadp_checkpoint_find(&k->r));
    assert_non_null(k->r.resume_dir);
    kept_open(k);
}

static void whole_models_come_back_bit_for_bit(void **state)
{
    kept a, b;

    (void)state;
    start(&a, "out");
    a.r.history.bad_evals = 2;
    kept_save(&a, 3, true);
    assert_true(there(&a, "checkpoint-3/model.safetensors") && there(&a, "checkpoint-3/config.json") && there(&a, "checkpoint-3/state.h5") && there(&a, "checkpoint-3/manifest.json"));
    assert_true(there(&a, "checkpoint-3/tokenizer.json") && there(&a, "checkpoint-3/merges.txt") && there(&a, "checkpoint-3/generation_config.json") && there(&a, "checkpoint-3/trainer_state.json"));
    expect_link(&a, "last", "checkpoint-3");
    expect_link(&a, "best", "checkpoint-3");
    cadp_output_close(&a.r);
    again(&b, "out", "last");
    assert_int_equal(b.r.facts.start_step, 3);
    assert_int_equal(b.r.facts.atoms_per_step, 3);
    OK(cadp_checkpoint_load(&b.r));
    kept_expect_filled(&b, CAD_STATES);
    assert_int_equal(b.r.step, 3);
    assert_int_equal(b.r.history.best_step, 3);
    assert_true(b.r.history.best_metric == 0.75);
    assert_int_equal(b.r.history.bad_evals, 2);
    for (int u = 0; u < b.r.params->units; u++) assert_true(cad_zero_largest(b.r.zero)[u] == 0.5 + u);
    kept_close(&a);
    kept_close(&b);
}

static void adapters_come_back_under_the_names_of_peft(void **state)
{
    static const char *const words[] = {"q_proj", "down_proj"};
    kept a, b;
    cad_st *st;
    cad_h5 *h;

    (void)state;
    kept_options(&a, "out");
    a.r.method = (cad_method){.lora = true, .r = 2, .alpha = 4, .targets = words, .target_count = 2, .train_head = true, .num_labels = 2, .compute = CAD_F32};
    kept_open(&a);
    OK(cadp_output_open(&a.r));
    kept_fill(&a);
    kept_save(&a, 3, false);
    OK(cad_st_open(&st, in_scratch("out/checkpoint-3/adapter_model.safetensors")));
    assert_int_equal(cad_st_count(st), 2 * 2 * 2 + 1);
    assert_non_null(cad_st_find(st, "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"));
    assert_non_null(cad_st_find(st, "base_model.model.score.weight"));
    cad_st_close(&st);
    OK(cad_h5_open(&h, in_scratch("out/checkpoint-3/state.h5")));
    assert_true(cad_h5_has(h, "/optimizer/base_model.model.score.weight/exp_avg_sq"));
    OK(cad_h5_close(&h));
    assert_true(there(&a, "checkpoint-3/adapter_config.json") && there(&a, "checkpoint-3/README.md") && !there(&a, "checkpoint-3/config.json"));
    cadp_output_close(&a.r);
    kept_options(&b, "out");
    b.o.training.resume_from_checkpoint = (char *)"auto";
    OK(cadp_output_open(&b.r));
    OK(cadp_checkpoint_find(&b.r));
    b.r.method = a.r.method;
    kept_open(&b);
    OK(cadp_checkpoint_load(&b.r));
    kept_expect_filled(&b, CAD_STATES);
    kept_close(&b);
    kept_close(&a);
}

static void half_precision_keeps_its_masters(void **state)
{
    kept a, b;
    cad_st *st;

    (void)state;
    kept_options(&a, "out");
    a.r.method.compute = CAD_BF16;
    kept_open(&a);
    OK(cadp_output_open(&a.r));
    kept_fill(&a);
    kept_save(&a, 3, false);
    OK(cad_st_open(&st, in_scratch("out/checkpoint-3")));
    for (int i = 0; i < cad_st_count(st); i++) assert_int_equal(cad_st_at(st, i)->dtype, CAD_BF16);
    cad_st_close(&st);
    cadp_output_close(&a.r);
    kept_options(&b, "out");
    b.o.training.resume_from_checkpoint = (char *)"last";
    OK(cadp_output_open(&b.r));
    OK(cadp_checkpoint_find(&b.r));
    b.r.method.compute = CAD_BF16;
    kept_open(&b);
    OK(cadp_checkpoint_load(&b.r));
    kept_expect_filled(&b, CAD_STATES);
    kept_close(&b);
    kept_close(&a);
}

static void the_own_head_has_the_names_of_the_python_program(void **state)
{
    kept a;
    cad_st *st;

    (void)state;
    kept_options(&a, "out");
    a.r.method.custom_head = true;
    kept_open(&a);
    OK(cadp_output_open(&a.r));
    kept_fill(&a);
    OK(cadp_write_model(&a.r, a.out));
    OK(cad_st_open(&st, a.out));
    assert_non_null(cad_st_find(st, "backbone.layers.0.self_attn.q_proj.weight"));
    assert_non_null(cad_st_find(st, "backbone.embed_tokens.weight"));
    assert_non_null(cad_st_find(st, "classifier.classifier.bias"));
    cad_st_close(&st);
    kept_close(&a);
}

static void the_same_state_gives_the_same_bytes(void **state)
{
    static const char *const names[] = {"state.h5", "model.safetensors", "config.json", "tokenizer.json", "trainer_state.json", "manifest.json"};
    char x[65], y[65], path[128];
    kept a;

    (void)state;
    start(&a, "out");
    kept_save(&a, 3, false);
    OK(cad_mkdirs(in_scratch("kept")));
    assert_int_equal(rename(in_scratch("out/checkpoint-3"), in_scratch("kept/checkpoint-3")), 0);
    a.r.saved_step = 0;
    kept_save(&a, 3, false);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "kept/checkpoint-3/%s", names[i]);
        OK(cad_sha256_file(in_scratch(path), x, CAD_EDATA));
        snprintf(path, sizeof path, "out/checkpoint-3/%s", names[i]);
        OK(cad_sha256_file(in_scratch(path), y, CAD_EDATA));
        assert_string_equal(x, y);
    }
    kept_close(&a);
}

static void the_oldest_go_and_the_best_and_last_stay(void **state)
{
    kept a;

    (void)state;
    start(&a, "out");
    a.o.training.save_total_limit = 2;
    kept_save(&a, 1, false);
    kept_save(&a, 2, true);
    kept_save(&a, 3, false);
    assert_false(there(&a, "checkpoint-1"));
    kept_save(&a, 4, false);
    assert_true(there(&a, "checkpoint-2") && there(&a, "checkpoint-4") && !there(&a, "checkpoint-3"));
    kept_save(&a, 5, true);
    assert_true(there(&a, "checkpoint-5") && there(&a, "checkpoint-4") && !there(&a, "checkpoint-2"));
    a.o.training.save_total_limit = 1;
    kept_save(&a, 6, false);
    assert_true(there(&a, "checkpoint-5") && there(&a, "checkpoint-6") && !there(&a, "checkpoint-4"));
    expect_link(&a, "best", "checkpoint-5");
    expect_link(&a, "last", "checkpoint-6");
    kept_close(&a);
}

static void a_checkpoint_of_the_same_number_is_replaced(void **state)
{
    kept a;

    (void)state;
    start(&a, "out");
    OK(cad_mkdirs(in_scratch("out/checkpoint-3/junk")));
    kept_save(&a, 3, false);
    assert_true(there(&a, "checkpoint-3/state.h5") && !there(&a, "checkpoint-3/junk"));
    kept_save(&a, 3, true); /* only the link moves */
    expect_link(&a, "best", "checkpoint-3");
    kept_close(&a);
}

/* A file where the folder would be made: what a full disk does, without filling one. */
static void block(const kept *k, int64_t step, bool on)
{
    char path[600];

    snprintf(path, sizeof path, "%s/.tmp-checkpoint-%lld", k->out, (long long)step);
    if (on) put_file(path, "x", 1);
    else assert_int_equal(unlink(path), 0);
}

static void a_failed_checkpoint_costs_a_warning_and_the_third_in_a_row_the_run(void **state)
{
    kept a;

    (void)state;
    start(&a, "out");
    kept_save(&a, 1, false);
    for (int64_t step = 2; step < 4; step++) {
        block(&a, step, true);
        kept_save(&a, step, false);
        assert_int_equal(a.r.saved_step, 1);
        assert_string_equal(cad_reason(), "");
        block(&a, step, false);
    }
    kept_save(&a, 4, false); /* the disk has room again: counting begins anew */
    assert_int_equal(a.r.saved_step, 4);
    for (int64_t step = 5; step < 8; step++) {
        block(&a, step, true);
        a.r.step = step;
        assert_int_equal(cadp_checkpoint_save(&a.r, false), step < 7 ? CAD_OK : CAD_ERESOURCE);
    }
    expect_reason("expected a folder to remove");
    OK(cadp_manifest_verify(in_scratch("out/checkpoint-1")));
    OK(cadp_manifest_verify(in_scratch("out/checkpoint-4")));
    assert_false(there(&a, "checkpoint-5"));
    kept_close(&a);
}

static void no_failed_allocation_leaks_or_publishes_half_a_checkpoint(void **state)
{
    kept a;
    char name[64];

    (void)state;
    start(&a, "out");
    for (int64_t nth = 1;; nth += 3 + nth / 8) {
        int64_t calls;
        assert_true(nth < 20000);
        a.r.step = 1000 + nth;
        a.r.failed_saves = 0;
        calls = cad_mem_calls();
        cad_mem_fail_at(nth);
        cad_status status = cadp_checkpoint_save(&a.r, false);
        cad_mem_fail_at(0);
        cad_clear();
        if (!status && a.r.saved_step == a.r.step && cad_mem_calls() - calls < nth) break;
        snprintf(name, sizeof name, "out/checkpoint-%lld", (long long)a.r.step);
        if (cad_is_dir(in_scratch(name))) OK(cadp_manifest_verify(in_scratch(name)));
    }
    kept_close(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole_models_come_back_bit_for_bit, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(adapters_come_back_under_the_names_of_peft, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(half_precision_keeps_its_masters, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(the_own_head_has_the_names_of_the_python_program, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(the_same_state_gives_the_same_bytes, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(the_oldest_go_and_the_best_and_last_stay, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(a_checkpoint_of_the_same_number_is_replaced, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(a_failed_checkpoint_costs_a_warning_and_the_third_in_a_row_the_run, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(no_failed_allocation_leaks_or_publishes_half_a_checkpoint, make_scratch, drop_scratch),
    };

    cad_h5_setup();
    cad_log_setup(0, 1, CAD_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
