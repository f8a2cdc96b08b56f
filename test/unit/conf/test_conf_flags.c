#include "conf_bench.h"

static void all_spellings_of_a_flag_are_the_same(void **state)
{
    static const char *const ways[][2] = {{"--learning-rate", "1e-4"}, {"--learning-rate=1e-4", NULL}, {"--learning_rate", "1e-4"}, {"--learning_rate=1e-4", NULL},
                                          {"--set", "training.learning_rate=1e-4"}, {"--set=training.learning_rate=1e-4", NULL},
                                          {"--training.learning_rate", "1e-4"}, {"--set", "training.learning-rate=0.0001"}};

    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        cad_config *c = opened(ways[i][0], ways[i][1], NULL);
        assert_true(cad_config_options(c)->training.learning_rate == 1e-4);
        cad_config_close(&c);
    }
}

static void booleans_stand_alone_or_with_their_value(void **state)
{
    cad_config *c = opened("--bf16", "--logging-first-step", "true", "--tf32=true", "--stratify", "false", "--no-truncation", NULL);
    const cad_options *o = cad_config_options(c);

    (void)state;
    assert_true(o->training.bf16 && o->training.logging_first_step && o->training.tf32);
    assert_false(o->dataset.stratify || o->task.truncation);
    cad_config_close(&c);
    expect_in(refused("--bf16", "maybe", NULL), "--bf16: expected true or false, found \"maybe\"");
}

static void the_later_flag_wins(void **state)
{
    cad_config *c = opened("--max-steps", "3", "--set", "training.max_steps=4", "--max-steps=5", "--bf16", "--bf16", "false", NULL);

    (void)state;
    assert_int_equal(cad_config_options(c)->training.max_steps, 5);
    assert_false(cad_config_options(c)->training.bf16);
    cad_config_close(&c);
}

static void the_model_brings_its_tokenizer_unless_one_is_given(void **state)
{
    const char *config = file("tok.yaml", "model: {model_name_or_path: a, tokenizer_name_or_path: b}\n");
    cad_config *c = opened("--config", config, "--model-name-or-path", "m", NULL);

    (void)state;
    assert_string_equal(cad_config_options(c)->model.tokenizer_name_or_path, "m");
    cad_config_close(&c);
    c = opened("--tokenizer-name-or-path", "t", "--model-name-or-path", "m", NULL);
    assert_string_equal(cad_config_options(c)->model.tokenizer_name_or_path, "t");
    cad_config_close(&c);
    c = opened("--model-name-or-path", "m", "--tokenizer-name-or-path", "t", "--model-name-or-path", "n", NULL);
    assert_string_equal(cad_config_options(c)->model.tokenizer_name_or_path, "t");
    assert_string_equal(cad_config_options(c)->model.model_name_or_path, "n");
    cad_config_close(&c);
    c = opened("--config", config, NULL);
    assert_string_equal(cad_config_options(c)->model.tokenizer_name_or_path, "b");
    cad_config_close(&c);
}

static void flags_that_exclude_each_other_switch_each_other_off(void **state)
{
    const char *config = file("four.yaml", "model: {load_in_4bit: true}\ntraining: {fp16: true}\n");
    cad_config *c = opened("--config", config, "--load-in-8bit", "true", "--bf16", NULL);

    (void)state;
    assert_true(cad_config_options(c)->model.load_in_8bit && !cad_config_options(c)->model.load_in_4bit);
    assert_true(cad_config_options(c)->training.bf16 && !cad_config_options(c)->training.fp16);
    cad_config_close(&c);
    c = opened("--load-in-8bit", "true", "--load-in-4bit", "true", "--load-in-8bit", "false", NULL);
    assert_true(cad_config_options(c)->model.load_in_4bit && !cad_config_options(c)->model.load_in_8bit);
    cad_config_close(&c);
}

static void num_labels_sets_both_sections(void **state)
{
    cad_config *c = opened("--num-labels", "3", "--set", "task.task_name=sft", NULL);

    (void)state;
    assert_int_equal(cad_config_options(c)->model.num_labels, 3);
    assert_int_equal(cad_config_options(c)->task.num_labels, 3);
    cad_config_close(&c);
    c = opened("--set", "task.num_labels=3", "--set", "task.task_name=sft", NULL);
    assert_int_equal(cad_config_options(c)->model.num_labels, 2);
    cad_config_close(&c);
}

static void an_empty_text_clears(void **state)
{
    const char *config = file("clear.yaml", "dataset: {validation_file: v.json, test_file: t.json}\n");
    cad_config *c = opened("--config", config, "--validation-file", "", "--set", "dataset.test_file=null", "--attn-implementation=", NULL);

    (void)state;
    assert_null(cad_config_options(c)->dataset.validation_file);
    assert_null(cad_config_options(c)->dataset.test_file);
    cad_config_close(&c);
}

static void a_text_is_taken_as_it_stands(void **state)
{
    const char *text = "### Question: {question} ### Answer: {cot} {response}";
    char set[128];
    cad_config *c;

    (void)state;
    snprintf(set, sizeof set, "task.template=%s", text);
    c = opened("--set", set, "--model-name-or-path", "123", "--train-file", "a: [b", "--set", "task.input_column=\"my \\\"text\\\"\"", NULL);
    assert_string_equal(cad_config_options(c)->task.template_text, text);
    assert_string_equal(cad_config_options(c)->model.model_name_or_path, "123");
    assert_string_equal(cad_config_options(c)->dataset.train_file, "a: [b");
    assert_string_equal(cad_config_options(c)->task.input_column, "my \"text\"");
    cad_config_close(&c);
}

static void lists_are_written_with_commas_or_as_yaml(void **state)
{
    cad_config *c = opened("--report-to", "jsonl, csv", "--set", "model.lora.target_modules=[q_proj, v_proj]", "--modules-to-save", "score",
                           "--head-columns", "['age at visit', sex]", "--class-weights-values", "0.5,1.5", NULL);
    const cad_options *o = cad_config_options(c);

    (void)state;
    assert_int_equal(o->runtime.report_to.count, 2);
    assert_string_equal(o->runtime.report_to.word[1], "csv");
    assert_int_equal(o->model.lora.target_modules.count, 2);
    assert_false(o->model.lora.target_is_regex);
    assert_int_equal(o->model.lora.modules_to_save.count, 1);
    assert_string_equal(o->dataset.head_columns.word[0], "age at visit");
    assert_true(o->dataset.class_weights.values[0] == 0.5 && o->dataset.class_weights.values[1] == 1.5);
    cad_config_close(&c);
}

static void target_modules_is_a_word_a_list_or_an_expression(void **state)
{
    cad_config *c = opened("--target-modules", ".*\\.(q|v)_proj{1,2}", NULL);

    (void)state;
    assert_true(cad_config_options(c)->model.lora.target_is_regex);
    assert_string_equal(cad_config_options(c)->model.lora.target_modules.word[0], ".*\\.(q|v)_proj{1,2}");
    cad_config_close(&c);
    c = opened("--target-modules", "q_proj,v_proj", NULL);
    assert_int_equal(cad_config_options(c)->model.lora.target_modules.count, 2);
    assert_false(cad_config_options(c)->model.lora.target_is_regex);
    cad_config_close(&c);
    c = opened(NULL, NULL);
    assert_string_equal(cad_config_options(c)->model.lora.target_modules.word[0], "all-linear");
    assert_false(cad_config_options(c)->model.lora.target_is_regex);
    cad_config_close(&c);
}

static void the_acceptance_runs_flags_are_understood(void **state)
{
    cad_config *c = opened(
        "--model-name-or-path", "/tmp/m", "--train-file", "records.json", "--validation-split", "0", "--max-length", "64",
        "--per-device-train-batch-size", "6", "--gradient-accumulation-steps", "1", "--max-steps", "5", "--learning-rate", "0.001", "--weight-decay", "0.01",
        "--lr-scheduler-type", "linear", "--warmup-ratio", "0", "--max-grad-norm", "1.0", "--logging-steps", "1", "--optim", "adamw_torch", "--seed", "42",
        "--skip-test", "--set", "dataset.class_weights.mode=manual", "--set", "dataset.class_weights.values=[0.501, 1.525]",
        "--set", "dataset.oversampling.enabled=false", "--set", "runtime.zero_stage=2", "--evaluation-strategy", "no", "--output-dir", "/tmp/o",
        "--device", "cpu", "--overwrite-output-dir", "true", NULL);
    const cad_options *o = cad_config_options(c);

    (void)state;
    assert_true(o->dataset.validation_split == 0 && o->dataset.class_weights.values[1] == 1.525);
    assert_false(o->training.run_test_after_train);
    assert_true(o->training.overwrite_output_dir && o->training.max_steps == 5 && o->runtime.zero_stage == 2);
    assert_int_equal(o->training.eval_strategy, CAD_WHEN_NO);
    cad_config_close(&c);
    c = opened("--save-strategy", "no", "--adapter-name-or-path", "ad", "--lora-enable", "true", "--lora-r", "8", "--lora-alpha", "16", "--lora-dropout", "0",
               "--save-strategy", "steps", "--save-steps", "3", "--resume-from-checkpoint", "ck", "--set", "model.use_custom_binary_head=true",
               "--set", "model.pooling=mean", "--load-in-4bit", "true", "--set", "model.bnb_4bit_use_double_quant=true", "--bf16",
               "--set", "task.task_name=sft", "--set", "task.question_column=Question", "--set", "task.cot_column=Complex_CoT",
               "--set", "task.response_column=Response", "--set", "training.loss_normalization=hf_mean", NULL);
    o = cad_config_options(c);
    assert_true(o->model.lora.enabled && o->model.lora.lora_dropout == 0 && o->model.load_in_4bit && o->training.bf16);
    assert_int_equal(o->model.pooling, CAD_POOL_MEAN);
    assert_int_equal(o->task.task_name, CAD_TASK_SFT);
    assert_string_equal(o->training.resume_from_checkpoint, "ck");
    cad_config_close(&c);
    c = opened("--num-train-epochs", "2", "--evaluation-strategy", "epoch", "--set", "dataset.oversampling.enabled=true", "--set", "dataset.oversampling.target_label=1",
               "--set", "dataset.oversampling.repeat_times=4", "--prediction-output-dir", "p", "--per-device-eval-batch-size", "5", "--test-file", "t", NULL);
    assert_int_equal(cad_config_options(c)->dataset.oversampling.repeat_times, 4);
    cad_config_close(&c);
}

static void the_python_programs_scripts_are_understood(void **state)
{
    cad_config *c = opened(
        "--deepspeed", "configs/deepspeed/zero2.json", "--config", "configs/experiments/medical.yaml", "--model-name-or-path", "Qwen/Qwen2-7B-Instruct",
        "--train-file", "a.json", "--test-file", "b.json", "--launcher", "deepspeed", "--bf16", "--tf32", "true", "--lora-enable", "true", "--load-in-4bit", "true",
        "--load-in-8bit", "false", "--lora-r", "16", "--lora-alpha", "32", "--gradient-checkpointing", "true", "--logging-first-step", "true", "--log-level", "info",
        "--optim", "paged_adamw_32bit", "--save-strategy", "epoch", "--evaluation-strategy", "epoch", "--save-total-limit", "5", "--max-steps", "-1",
        "--load-best-model-at-end", "true", "--metric-for-best-model", "eval_auc", "--greater-is-better", "true", "--attn-implementation", "flash_attention_2",
        "--trust-remote-code", "false", "--local_rank=0", NULL);
    const cad_options *o = cad_config_options(c);

    (void)state;
    assert_string_equal(o->training.metric_for_best_model, "auc");
    assert_int_equal(o->training.max_steps, -1);
    assert_int_equal(o->training.greater_is_better, 1);
    assert_int_equal(o->training.optim, CAD_OPTIM_PAGED_32BIT);
    assert_int_equal(o->runtime.zero_stage, 2);
    assert_string_equal(cad_mode_name(o), "qlora");
    cad_config_close(&c);
}

static void other_names_of_transformers_are_understood(void **state)
{
    cad_config *c = opened("--warmup-steps", "0.1", "--train-sampling-strategy", "group_by_length", "--lr-scheduler-kwargs", "{\"num_cycles\": 2, \"power\": 3}",
                           "--eval-strategy", "epoch", "--early-stopping-patience", "2", "--wall-time", "01:30:00", "--truncation-side", "left", NULL);
    const cad_options *o = cad_config_options(c);

    (void)state;
    assert_true(o->training.warmup_steps == 0.1 && o->training.group_by_length && o->training.lr_num_cycles == 2 && o->training.lr_power == 3);
    assert_true(o->runtime.wall_time == 5400 && o->task.truncation_left);
    cad_config_close(&c);
    c = opened("--wall-time", "1-00:00:01", "--log-level", "passive", NULL);
    assert_true(cad_config_options(c)->runtime.wall_time == 86401);
    assert_int_equal(cad_config_options(c)->training.log_level, CAD_LOG_INFO);
    cad_config_close(&c);
    c = opened("--wall-time", "90", NULL);
    assert_true(cad_config_options(c)->runtime.wall_time == 90);
    cad_config_close(&c);
}

static void flags_of_a_command_are_its_own(void **state)
{
    char *argv[] = {"--input", "a.jsonl", "--json", "--predictions", "p1", "p2", "p3", "--seed=7", "--no-special-tokens", "PATH", "--max-steps", "-1"};
    cad_flag flags[] = {{.name = "input", .takes_value = true}, {.name = "json"}, {.name = "predictions", .takes_value = true, .many = true},
                        {.name = "no-special-tokens"}, {.name = "stop", .takes_value = true}, {.name = "", .takes_value = true}, {0}};
    cad_config *c = NULL;

    (void)state;
    cad_clear();
    if (cad_config_open(&c, 12, argv, flags, false)) fail_msg("%s", cad_reason());
    assert_string_equal(flags[0].value, "a.jsonl");
    assert_true(flags[1].given && flags[3].given && !flags[4].given);
    assert_int_equal(flags[2].count, 3);
    assert_string_equal(flags[2].values[2], "p3");
    assert_string_equal(flags[5].value, "PATH");
    assert_int_equal(cad_config_options(c)->runtime.seed, 7);
    cad_config_close(&c);
}

static void the_last_time_of_a_flag_counts_unless_it_gathers(void **state)
{
    char *argv[] = {"--stop", "a", "b", "--seed=7", "--stop=--c", "--files", "u", "v", "--files=x=y", "--stop", "d"};
    cad_flag flags[] = {{.name = "files", .takes_value = true, .many = true}, {.name = "stop", .takes_value = true, .many = true, .gathers = true}, {0}};
    static const char *const want[] = {"a", "b", "--c", "d"};
    cad_config *c = NULL;

    (void)state;
    cad_clear();
    if (cad_config_open(&c, 11, argv, flags, false)) fail_msg("%s", cad_reason());
    assert_int_equal(flags[1].count, 4);
    for (int i = 0; i < 4; i++) assert_string_equal(flags[1].values[i], want[i]);
    assert_int_equal(flags[0].count, 1);
    assert_string_equal(flags[0].values[0], "x=y");
    cad_config_close(&c);
}

static void the_environment_names_options_by_section_or_flag(void **state)
{
    cad_config *c;

    (void)state;
    setenv("CADTRAIN_MODEL_LORA_R", "4", 1);
    setenv("CADTRAIN_LORA_ALPHA", "8", 1);
    setenv("CADTRAIN_MODEL_NAME_OR_PATH", "/m", 1);
    setenv("CADTRAIN_BF16", "true", 1);
    setenv("CADTRAIN_TRAINING_EVALUATION_STRATEGY", "epoch", 1);
    setenv("CADTRAIN_OUTPUT_DIR", "/o", 1);
    c = opened(NULL, NULL);
    assert_int_equal(cad_config_options(c)->model.lora.r, 4);
    assert_true(cad_config_options(c)->model.lora.lora_alpha == 8 && cad_config_options(c)->training.bf16);
    assert_string_equal(cad_config_options(c)->model.tokenizer_name_or_path, "/m");
    assert_string_equal(cad_config_options(c)->output_dir, "/o");
    assert_int_equal(cad_config_options(c)->training.eval_strategy, CAD_WHEN_EPOCH);
    cad_config_close(&c);
    setenv("CADTRAIN_BF16", "1", 1);
    expect_in(refused(NULL, NULL), "CADTRAIN_BF16: expected true or false, found 1");
    static const char *const names[] = {"CADTRAIN_MODEL_LORA_R", "CADTRAIN_LORA_ALPHA", "CADTRAIN_MODEL_NAME_OR_PATH", "CADTRAIN_BF16",
                                        "CADTRAIN_TRAINING_EVALUATION_STRATEGY", "CADTRAIN_OUTPUT_DIR"};
    for (int i = 0; i < 6; i++) unsetenv(names[i]);
}

static void a_misspelt_variable_is_refused_and_a_strange_one_noted(void **state)
{
    cad_config *c;

    (void)state;
    setenv("CADTRAIN_LEARNING_RATES", "1", 1);
    expect_in(refused(NULL, NULL), "CADTRAIN_LEARNING_RATES: unknown option in the environment; did you mean \"CADTRAIN_LEARNING_RATE\"?");
    unsetenv("CADTRAIN_LEARNING_RATES");
    setenv("CADTRAIN_TRAINING_SPEED_OF_LIGHT", "1", 1);
    expect_in(refused(NULL, NULL), "CADTRAIN_TRAINING_SPEED_OF_LIGHT: unknown option");
    unsetenv("CADTRAIN_TRAINING_SPEED_OF_LIGHT");
    setenv("CADTRAIN_INSTALLED_UNDER", "/opt", 1);
    c = opened(NULL, NULL);
    expect_in(cad_config_notes(c), "CADTRAIN_INSTALLED_UNDER in the environment names no option");
    cad_config_close(&c);
    unsetenv("CADTRAIN_INSTALLED_UNDER");
}

static void print_config_is_remembered(void **state)
{
    cad_config *c = opened("--print-config", NULL);

    (void)state;
    assert_true(cad_config_wants_print(c));
    cad_config_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_spellings_of_a_flag_are_the_same), cmocka_unit_test(booleans_stand_alone_or_with_their_value), cmocka_unit_test(the_later_flag_wins),
        cmocka_unit_test(the_model_brings_its_tokenizer_unless_one_is_given), cmocka_unit_test(flags_that_exclude_each_other_switch_each_other_off),
        cmocka_unit_test(num_labels_sets_both_sections), cmocka_unit_test(an_empty_text_clears), cmocka_unit_test(a_text_is_taken_as_it_stands),
        cmocka_unit_test(lists_are_written_with_commas_or_as_yaml), cmocka_unit_test(target_modules_is_a_word_a_list_or_an_expression),
        cmocka_unit_test(the_acceptance_runs_flags_are_understood), cmocka_unit_test(the_python_programs_scripts_are_understood),
        cmocka_unit_test(other_names_of_transformers_are_understood), cmocka_unit_test(flags_of_a_command_are_its_own), cmocka_unit_test(the_last_time_of_a_flag_counts_unless_it_gathers),
        cmocka_unit_test(the_environment_names_options_by_section_or_flag), cmocka_unit_test(a_misspelt_variable_is_refused_and_a_strange_one_noted),
        cmocka_unit_test(print_config_is_remembered)};
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
