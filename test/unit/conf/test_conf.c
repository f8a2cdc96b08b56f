#include "conf_bench.h"

#include <sys/stat.h>

static double rate(const char *config, const char *flag, const char *value)
{
    cad_config *c = opened("--config", config, flag, value, NULL);
    double r = cad_config_options(c)->training.learning_rate;
    cad_config_close(&c);
    return r;
}

static void flags_win_over_environment_over_experiment_over_paths_over_defaults(void **state)
{
    const char *bare = file("bare.yaml", "experiment_name: a\n");
    const char *with_paths = file("paths.yaml", "paths: {training: part.yaml}\n");
    const char *with_own = file("own.yaml", "paths: {training: part.yaml}\ntraining: {learning_rate: 3e-3}\n");

    (void)state;
    file("part.yaml", "learning_rate: 2e-3\nweight_decay: 0.5\n");
    assert_true(rate(bare, "--set", "training.weight_decay=0") == 5e-5);
    assert_true(rate(with_paths, "--weight-decay", "0") == 2e-3);
    assert_true(rate(with_own, "--weight-decay", "0") == 3e-3);
    setenv("CADTRAIN_LEARNING_RATE", "4e-3", 1);
    assert_true(rate(with_own, "--weight-decay", "0") == 4e-3);
    setenv("CADTRAIN_TRAINING_LEARNING_RATE", "5e-3", 1); /* the one with the section is the more exact */
    assert_true(rate(with_own, "--weight-decay", "0") == 5e-3);
    assert_true(rate(with_own, "--learning_rate", "6e-3") == 6e-3);
    unsetenv("CADTRAIN_LEARNING_RATE");
    unsetenv("CADTRAIN_TRAINING_LEARNING_RATE");
}

static void sections_merge_key_by_key(void **state)
{
    const char *config = file("merge.yaml", "paths: {model: lora.yaml}\nmodel:\n  lora: {r: 4}\n  head_trainable_patterns: [score]\n");
    cad_config *c;

    (void)state;
    file("lora.yaml", "model_name_or_path: base\nlora: {enabled: true, r: 8, lora_alpha: 64}\nhead_trainable_patterns: [a, b]\n");
    c = opened("--config", config, NULL);
    assert_int_equal(cad_config_options(c)->model.lora.r, 4);
    assert_true(cad_config_options(c)->model.lora.enabled);
    assert_true(cad_config_options(c)->model.lora.lora_alpha == 64);
    assert_string_equal(cad_config_options(c)->model.model_name_or_path, "base");
    assert_int_equal(cad_config_options(c)->model.head_trainable_patterns.count, 1);
    cad_config_close(&c);
}

static void paths_are_tried_beside_the_experiment_and_then_here(void **state)
{
    char here[1024], there[128];
    const char *config;
    cad_config *c;

    (void)state;
    assert_non_null(getcwd(here, sizeof here));
    snprintf(there, sizeof there, "%s/deep", scratch);
    assert_int_equal(mkdir(there, 0700), 0);
    config = file("deep/e.yaml", "paths: {task: ../task.json, dataset: data.yaml}\n");
    file("task.json", "{\"max_length\": 77}");
    file("data.yaml", "split_seed: 7\n");
    assert_int_equal(chdir(scratch), 0);
    c = opened("--config", config, NULL);
    assert_int_equal(chdir(here), 0);
    assert_int_equal(cad_config_options(c)->task.max_length, 77);
    assert_int_equal(cad_config_options(c)->dataset.split_seed, 7);
    cad_config_close(&c);
    file("deep/data.yaml", "split_seed: 8\n");
    c = opened("--config", config, NULL);
    assert_int_equal(cad_config_options(c)->dataset.split_seed, 8);
    cad_config_close(&c);
}

static void every_experiment_of_the_repository_reads(void **state)
{
    static const char *const all[] = {"medical", "demo", "lora", "full"};
    char path[128];
    cad_config *c;

    (void)state;
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "configs/experiments/%s.yaml", all[i]);
        c = opened("--config", path, NULL);
        assert_string_equal(cad_config_options(c)->experiment_name, all[i]);
        cad_config_close(&c);
    }
}

static void the_medical_experiment_is_the_python_programs(void **state)
{
    cad_config *c = opened("--config", "configs/experiments/medical.yaml", NULL);
    const cad_options *o = cad_config_options(c);

    (void)state;
    assert_true(o->dataset.oversampling.enabled && o->dataset.oversampling.repeat_times == 4);
    assert_true(o->dataset.class_weights.values[0] == 0.501 && o->dataset.class_weights.values[1] == 1.525);
    assert_true(o->model.lora.enabled && o->model.lora.r == 16 && o->model.lora.lora_alpha == 32 && o->model.lora.lora_dropout == 0.05);
    assert_string_equal(o->model.lora.target_modules.word[0], "all-linear");
    assert_true(o->training.learning_rate == 3e-5 && o->training.warmup_ratio == 0.1 && o->training.num_train_epochs == 5);
    assert_int_equal(o->training.per_device_train_batch_size, 32);
    assert_int_equal(o->training.eval_strategy, CAD_WHEN_EPOCH);
    assert_int_equal(o->runtime.zero_stage, 2);
    assert_true(o->training.bf16 && !o->training.fp16 && !o->demo);
    cad_config_close(&c);
}

static cad_config *open_train(int argc, char **argv)
{
    cad_config *c = NULL;
    cad_clear();
    if (cad_config_open(&c, argc, argv, NULL, true)) fail_msg("%s", cad_reason());
    return c;
}

static void nothing_given_is_the_demo_that_the_program_carries(void **state)
{
    char here[1024], *model[] = {"--model-name-or-path", "/m"}, *steps[] = {"--max-steps", "3"};
    cad_config *c;

    (void)state;
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir("/"), 0);
    c = open_train(2, steps);
    assert_true(cad_config_options(c)->demo);
    assert_int_equal(cad_config_options(c)->training.max_steps, 3);
    assert_int_equal(cad_config_options(c)->training.per_device_train_batch_size, 16);
    assert_int_equal(cad_config_options(c)->dataset.class_weights.mode, CAD_WEIGHTS_NONE);
    assert_true(cad_config_options(c)->training.overwrite_output_dir);
    assert_null(cad_config_options(c)->model.model_name_or_path);
    expect_in(cad_config_says(c), "embedded demo");
    cad_config_close(&c);
    c = open_train(2, model);
    assert_false(cad_config_options(c)->demo);
    assert_int_equal(cad_config_options(c)->training.per_device_train_batch_size, 8);
    expect_in(cad_config_says(c), "defaults");
    cad_config_close(&c);
    assert_int_equal(chdir(here), 0);
}

static void the_demo_does_not_overwrite_a_folder_that_was_named(void **state)
{
    char *argv[] = {"--config", "configs/experiments/demo.yaml", "--output-dir", "x"};
    cad_config *c = open_train(4, argv);

    (void)state;
    assert_true(cad_config_options(c)->demo);
    assert_false(cad_config_options(c)->training.overwrite_output_dir);
    cad_config_close(&c);
}

static void a_cadtrain_yaml_here_is_read_when_nothing_else_is_named(void **state)
{
    char here[1024];
    cad_config *c;

    (void)state;
    assert_non_null(getcwd(here, sizeof here));
    file("cadtrain.yaml", "training: {max_steps: 11}\n");
    assert_int_equal(chdir(scratch), 0);
    c = open_train(0, NULL);
    assert_int_equal(chdir(here), 0);
    assert_int_equal(cad_config_options(c)->training.max_steps, 11);
    assert_false(cad_config_options(c)->demo);
    expect_in(cad_config_says(c), "cadtrain.yaml");
    cad_config_close(&c);
}

static void values_that_follow_from_others_are_filled_in(void **state)
{
    cad_config *c = opened("--logging-steps", "7", "--evaluation-strategy", "steps", "--lr-scheduler-type", "cosine_with_restarts", "--resume-from-checkpoint", "true", NULL);

    (void)state;
    assert_int_equal(cad_config_options(c)->training.eval_steps, 7);
    assert_true(cad_config_options(c)->training.lr_num_cycles == 1);
    assert_string_equal(cad_config_options(c)->training.resume_from_checkpoint, "last");
    cad_config_close(&c);
    c = opened("--resume-from-checkpoint", "none", "--lr-scheduler-type", "cosine", "--evaluation-strategy", "epoch", NULL);
    assert_int_equal(cad_config_options(c)->training.eval_steps, 0); /* of no use there; the Trainer's state says 500 */
    assert_null(cad_config_options(c)->training.resume_from_checkpoint);
    assert_true(cad_config_options(c)->training.lr_num_cycles == 0.5);
    cad_config_close(&c);
}

static void evaluation_switched_off_by_a_flag_switches_off_what_needs_it(void **state)
{
    cad_config *c = opened("--config", "configs/experiments/medical.yaml", "--evaluation-strategy", "no", NULL);

    (void)state;
    assert_false(cad_config_options(c)->training.load_best_model_at_end);
    expect_in(cad_config_notes(c), "load_best_model_at_end is off");
    cad_config_close(&c);
    expect_in(refused("--load-best-model-at-end", NULL), "--load-best-model-at-end: load_best_model_at_end needs training.eval_strategy");
}

static void folders_follow_from_the_model_and_the_mode(void **state)
{
    static const struct { const char *flag, *value, *dir; } modes[] = {
        {"--lora-enable", "false", "outputs/checkpoints/Qwen_Qwen2_7B_full"}, {"--lora-enable", "true", "outputs/checkpoints/Qwen_Qwen2_7B_lora"},
        {"--load-in-4bit", "true", "outputs/checkpoints/Qwen_Qwen2_7B_qlora"}, {"--load-in-8bit", "true", "outputs/checkpoints/Qwen_Qwen2_7B_lora8bit"}};

    (void)state;
    for (int i = 0; i < 4; i++) {
        cad_config *c = opened("--model-name-or-path", "Qwen\\Qwen2 7B", modes[i].flag, modes[i].value, NULL);
        assert_int_equal(cad_derive_dirs(cad_config_options(c)), CAD_OK);
        assert_string_equal(cad_config_options(c)->output_dir, modes[i].dir);
        assert_non_null(strstr(cad_config_options(c)->prediction_output_dir, "outputs/predictions/Qwen_Qwen2_7B_"));
        cad_config_close(&c);
    }
}

static void predictions_go_beside_a_named_folder(void **state)
{
    cad_config *c = opened("--output-dir", "/o", "--model-name-or-path", "/m", NULL);

    (void)state;
    assert_int_equal(cad_derive_dirs(cad_config_options(c)), CAD_OK);
    assert_string_equal(cad_config_options(c)->output_dir, "/o");
    assert_string_equal(cad_config_options(c)->prediction_output_dir, "/o/predictions");
    assert_null(cad_config_options(c)->logging_dir); /* the log makes a folder of its own under output_dir/runs */
    cad_config_close(&c);
}

static void no_failed_allocation_leaks(void **state)
{
    char *argv[] = {"--config", "configs/experiments/medical.yaml", "--report-to", "csv,jsonl", "--set", "model.lora.target_modules=[q_proj]", "--bf16"};
    int64_t before = cad_mem_blocks();
    cad_status st = CAD_ERESOURCE;

    (void)state;
    for (int64_t nth = 1; st == CAD_ERESOURCE && nth < 20000; nth += 1 + nth / 40) {
        cad_config *c = NULL;
        cad_clear();
        cad_mem_fail_at(nth);
        st = cad_config_open(&c, 7, argv, NULL, true);
        cad_mem_fail_at(0);
        if (st) assert_null(c);
        cad_config_close(&c);
        assert_int_equal(cad_mem_blocks(), before);
    }
    assert_int_equal(st, CAD_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_win_over_environment_over_experiment_over_paths_over_defaults), cmocka_unit_test(sections_merge_key_by_key),
        cmocka_unit_test(paths_are_tried_beside_the_experiment_and_then_here), cmocka_unit_test(every_experiment_of_the_repository_reads),
        cmocka_unit_test(the_medical_experiment_is_the_python_programs), cmocka_unit_test(nothing_given_is_the_demo_that_the_program_carries),
        cmocka_unit_test(the_demo_does_not_overwrite_a_folder_that_was_named), cmocka_unit_test(a_cadtrain_yaml_here_is_read_when_nothing_else_is_named),
        cmocka_unit_test(values_that_follow_from_others_are_filled_in), cmocka_unit_test(evaluation_switched_off_by_a_flag_switches_off_what_needs_it),
        cmocka_unit_test(folders_follow_from_the_model_and_the_mode), cmocka_unit_test(predictions_go_beside_a_named_folder),
        cmocka_unit_test(no_failed_allocation_leaks)};
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
