#include "../base/scratch.h"

#include <math.h>

#include "../../../src/train/keep_priv.h"

typedef struct fixture { cad_options o; cad_run r; } fixture;

static void set_up(fixture *f)
{
    memset(f, 0, sizeof *f);
    f->o.output_dir = scratch_dir;
    f->o.training.gradient_accumulation_steps = 2;
    f->o.training.per_device_train_batch_size = 4;
    f->o.training.logging_steps = 1;
    f->o.training.eval_steps = f->o.training.save_steps = 500;
    f->r.o = &f->o;
    f->r.facts = (cadp_facts){.steps_per_epoch = 45, .batches_per_rank = 89, .max_steps = 135, .epochs = 3};
    f->r.history.best_metric = NAN;
}

static void add(fixture *f, int64_t step, double loss, bool eval)
{
    cad_number train[] = {{"loss", loss, false}, {"grad_norm", 2 * loss, false}, {"learning_rate", 1e-5, false}, {"epoch", cadp_epoch_at(&f->r, step), false}, {"step", (double)step, true},
                          {"tokens_per_second", 99, false}, {"mfu", NAN, false}};
    cad_number scored[] = {{"eval_loss", loss, false}, {"eval_auc", 0.5, false}, {"epoch", cadp_epoch_at(&f->r, step), false}, {"step", (double)step, true}};

    f->r.step = step;
    assert_int_equal(eval ? cadp_history_row(&f->r, step, scored, 4) : cadp_history_row(&f->r, step, train, 7), CAD_OK);
}

static void epochs_are_counted_as_transformers_counts_them(void **state)
{
    fixture f;

    (void)state;
    set_up(&f);
    assert_true(cadp_epoch_at(&f.r, 0) == 0);
    assert_true(cadp_epoch_at(&f.r, 1) == 2.0 / 89);
    assert_true(cadp_epoch_at(&f.r, 44) == 88.0 / 89);
    assert_true(cadp_epoch_at(&f.r, 45) == 1); /* the last step has one batch */
    assert_true(cadp_epoch_at(&f.r, 46) == 1 + 2.0 / 89);
    assert_true(cadp_epoch_at(&f.r, 135) == 3);
}

static void the_file_is_what_json_dumps_would_write(void **state)
{
    fixture f;

    (void)state;
    set_up(&f);
    add(&f, 1, 0.5, false);
    assert_int_equal(cadp_write_trainer_state(&f.r, in_scratch("s.json"), true), CAD_OK);
    expect_content(in_scratch("s.json"),
                   "{\n  \"best_global_step\": null,\n  \"best_metric\": null,\n  \"best_model_checkpoint\": null,\n  \"epoch\": 0.02247191011235955,\n  \"eval_steps\": 500,\n  \"global_step\": 1,\n"
                   "  \"is_hyper_param_search\": false,\n  \"is_local_process_zero\": true,\n  \"is_world_process_zero\": true,\n  \"log_history\": [\n    {\n"
                   "      \"epoch\": 0.02247191011235955,\n      \"grad_norm\": 1.0,\n      \"learning_rate\": 1e-05,\n      \"loss\": 0.5,\n      \"step\": 1\n    }\n  ],\n"
                   "  \"logging_steps\": 1,\n  \"max_steps\": 135,\n  \"num_input_tokens_seen\": 0,\n  \"num_train_epochs\": 3,\n  \"save_steps\": 500,\n  \"stateful_callbacks\": {},\n"
                   "  \"total_flos\": 0.0,\n  \"train_batch_size\": 4,\n  \"trial_name\": null,\n  \"trial_params\": null\n}\n");
    cadp_history_close(&f.r);
}

static void same_file(const char *a, const char *b)
{
    char *x;
    size_t n;

    assert_int_equal(cad_read_file(&x, &n, a, 1 << 20, CAD_EDATA), CAD_OK);
    expect_content(b, x);
    cad_free(&x);
}

static void what_is_read_back_is_written_again_byte_for_byte(void **state)
{
    fixture f, g;
    const char *first, *second;

    (void)state;
    set_up(&f);
    for (int64_t step = 1; step <= 9; step++) {
        add(&f, step, 1.0 / (double)step, false);
        if (step % 3 == 0) add(&f, step, step == 6 ? NAN : 0.1, true);
    }
    f.r.history.flos = 12345678901.5;
    f.r.history.best_step = 9;
    f.r.history.best_metric = 0.1;
    f.r.history.bad_evals = 1;
    f.o.training.early_stopping_patience = 3;
    first = in_scratch("a.json");
    second = in_scratch("b.json");
    assert_int_equal(cadp_write_trainer_state(&f.r, first, true), CAD_OK);
    set_up(&g);
    g.o.training.early_stopping_patience = 3;
    g.r.facts.start_step = g.r.step = 9;
    assert_int_equal(cadp_read_trainer_state(&g.r, first), CAD_OK);
    assert_int_equal(cadp_write_trainer_state(&g.r, second, true), CAD_OK);
    same_file(first, second);
    assert_int_equal(g.r.history.count, 12);
    assert_int_equal(g.r.history.bad_evals, 1);
    for (int i = 0; i < CADP_CURVES; i++) {
        assert_int_equal(g.r.history.curve_n[i], f.r.history.curve_n[i]);
        for (int64_t k = 0; k < g.r.history.curve_n[i]; k++) assert_true(g.r.history.curve[i][k] == f.r.history.curve[i][k] || isnan(f.r.history.curve[i][k]));
    }
    cadp_history_close(&f.r);
    cadp_history_close(&g.r);
}

static void rows_after_the_step_gone_on_from_are_dropped(void **state)
{
    fixture f, g;

    (void)state;
    set_up(&f);
    set_up(&g);
    for (int64_t step = 1; step <= 9; step++) add(&f, step, 1, false);
    assert_int_equal(cadp_write_trainer_state(&f.r, in_scratch("a.json"), true), CAD_OK);
    g.r.facts.start_step = 4;
    assert_int_equal(cadp_read_trainer_state(&g.r, in_scratch("a.json")), CAD_OK);
    assert_int_equal(g.r.history.count, 4);
    assert_int_equal(g.r.history.curve_n[0], 4);
    cadp_history_close(&f.r);
    cadp_history_close(&g.r);
}

static void a_file_that_is_no_state_is_refused(void **state)
{
    static const char *const texts[] = {"{}", "{\"log_history\": {}}", "{\"log_history\": [{\"loss\": 1}]}", "{\"log_history\": [{\"step\": 1, \"loss\": \"x\"}]}", "{\"log_history\": [], \"best_metric\": \"x\"}", "[", "{\"log_history\": [3]}"};
    fixture f;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        set_up(&f);
        f.r.facts.start_step = 10;
        put_file(in_scratch("s.json"), texts[i], strlen(texts[i]));
        assert_int_equal(cadp_read_trainer_state(&f.r, in_scratch("s.json")), CAD_ECHECKPOINT);
        expect_reason("s.json");
        cadp_history_close(&f.r);
    }
}

static void results_merge_into_all_results(void **state)
{
    fixture f;
    cad_number train[] = {{"train_loss", 0.25, false}, {"epoch", 2, false}, {"step", 3, true}, {"rows", 7, true}}, eval[] = {{"eval_auc", NAN, false}, {"epoch", 3, false}};

    (void)state;
    set_up(&f);
    assert_int_equal(cadp_write_results(&f.r, "train", train, 4), CAD_OK);
    assert_int_equal(cadp_write_results(&f.r, "eval", eval, 2), CAD_OK);
    expect_content(in_scratch("train_results.json"), "{\n  \"train_loss\": 0.25,\n  \"epoch\": 2.0,\n  \"rows\": 7\n}\n");
    expect_content(in_scratch("all_results.json"), "{\n  \"train_loss\": 0.25,\n  \"rows\": 7,\n  \"eval_auc\": NaN,\n  \"epoch\": 3.0\n}\n");
    put_file(in_scratch("all_results.json"), "broken", 6);
    assert_int_equal(cadp_write_results(&f.r, "eval", eval, 2), CAD_OK);
    expect_content(in_scratch("all_results.json"), "{\n  \"eval_auc\": NaN,\n  \"epoch\": 3.0\n}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(epochs_are_counted_as_transformers_counts_them, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(the_file_is_what_json_dumps_would_write, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(what_is_read_back_is_written_again_byte_for_byte, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(rows_after_the_step_gone_on_from_are_dropped, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(a_file_that_is_no_state_is_refused, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(results_merge_into_all_results, make_scratch, drop_scratch),
    };

    cad_log_setup(0, 1, CAD_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
