#include "conf_bench.h"

/* Each a whole experiment file, and what its one mistake must say. */
static const struct { const char *text, *says; } wrong[] = {
    {"training: {learnin_rate: 1}\n", "bad.yaml:1:12: unknown key \"learnin_rate\" in section training; did you mean \"learning_rate\"?"},
    {"trainning: {learning_rate: 1}\n", "bad.yaml:1:1: unknown key \"trainning\" at the top; did you mean \"training\"?"},
    {"model:\n  lorra: {r: 1}\n", "bad.yaml:2:3: unknown key \"lorra\" in section model; did you mean \"lora\"?"},
    {"model:\n  lora:\n    lora_alfa: 1\n", "bad.yaml:3:5: unknown key \"lora_alfa\" in section model.lora; did you mean \"lora_alpha\"?"},
    {"dataset: {oversampling: {enable: true}}\n", "in section dataset.oversampling; did you mean \"enabled\"?"},
    {"dataset: {class_weights: {value: [1, 2]}}\n", "in section dataset.class_weights; did you mean \"values\"?"},
    {"runtime: {zero-stage: 2}\n", "unknown key \"zero-stage\" in section runtime; did you mean \"zero_stage\"?"},
    {"task: {maxlength: 5}\n", "did you mean \"max_length\"?"},
    {"model: {learning_rate: 1}\n", "bad.yaml:1:9: unknown key \"learning_rate\" in section model; it belongs in section training"},
    {"training: {seed: 1}\n", "it belongs in section runtime"},
    {"training: {gradient_checkpointing: true}\n", "it belongs in section runtime"},
    {"training: {max_length: 5}\n", "it belongs in section task"},
    {"training: {output_dir: x}\n", "it belongs at the top"},
    {"model: {train_file: x}\n", "it belongs in section dataset"},
    {"learning_rate: 1\n", "unknown key \"learning_rate\" at the top; it belongs in section training"},
    {"deepspeed_train_batch_size: 1\n", "unknown key \"deepspeed_train_batch_size\" at the top"},
    {"experiment: x\n", "unknown key \"experiment\" at the top"},
    {"paths: {modle: x.yaml}\n", "unknown key \"modle\" in section paths; did you mean \"model\"?"},
    {"paths: {model: gone.yaml}\n", "paths.model: there is no file \"gone.yaml\", neither beside "},
    {"paths: {model: 5}\n", "paths.model: expected the name of a file, found 5"},
    {"paths: [a]\n", "paths: expected a table of files, found a list of 1"},
    {"training: 5\n", "bad.yaml:1:11: training: expected a table of options, found 5"},
    {"training: [a, b]\n", "training: expected a table of options, found a list of 2"},
    {"model: {lora: true}\n", "model.lora: expected a table of options, found true"},
    {"- a\n", "configuration: expected a table of options, found a list of 1"},
    {"training: {learning_rate: fast}\n", "bad.yaml:1:27: training.learning_rate: expected a number from 0.0 to 1000.0, found \"fast\""},
    {"training: {learning_rate: [1]}\n", "training.learning_rate: expected a number from 0.0 to 1000.0, found a list of 1"},
    {"training: {learning_rate: -1e-5}\n", "found -1e-05"},
    {"training: {learning_rate: .nan}\n", "training.learning_rate: expected a number"},
    {"training: {learning_rate: .inf}\n", "training.learning_rate: expected a number"},
    {"training: {learning_rate: null}\n", "training.learning_rate: expected a number from 0.0 to 1000.0, found null"},
    {"training: {learning_rate: true}\n", "found true"},
    {"training: {max_steps: 1.5}\n", "training.max_steps: expected a whole number of at least -1, found 1.5"},
    {"training: {max_steps: -2}\n", "found -2"},
    {"training: {max_steps: 99999999999999999999}\n", "training.max_steps: expected a whole number"},
    {"training: {num_train_epochs: 0}\n", "training.num_train_epochs: expected a number above 0.0, found 0"},
    {"training: {per_device_train_batch_size: 0}\n", "expected a whole number of at least 1, found 0"},
    {"training: {per_device_eval_batch_size: many}\n", "found \"many\""},
    {"training: {gradient_accumulation_steps: 0}\n", "found 0"},
    {"training: {weight_decay: -0.1}\n", "training.weight_decay: expected a number from 0.0 to 1000.0, found -0.1"},
    {"training: {warmup_ratio: 1.1}\n", "training.warmup_ratio: expected a number from 0.0 to 1.0, found 1.1"},
    {"training: {warmup_steps: -1}\n", "training.warmup_steps: expected a number of at least 0.0, found -1"},
    {"training: {adam_beta1: 1}\n", "training.adam_beta1: expected a number from 0.0 to 1.0 (excluded), found 1"},
    {"training: {adam_beta2: 2}\n", "found 2"},
    {"training: {adam_epsilon: -1}\n", "found -1"},
    {"training: {max_grad_norm: -1}\n", "training.max_grad_norm: expected a number of at least 0.0, found -1"},
    {"training: {logging_steps: 0}\n", "found 0"},
    {"training: {save_steps: 0.5}\n", "found 0.5"},
    {"training: {save_total_limit: -1}\n", "training.save_total_limit: expected a whole number of at least 0 (or null), found -1"},
    {"training: {bf16: yes}\n", "training.bf16: expected true or false, found \"yes\""},
    {"training: {bf16: 1}\n", "training.bf16: expected true or false, found 1"},
    {"training: {bf16: \"true\"}\n", "training.bf16: expected true or false, found \"true\""},
    {"training: {greater_is_better: maybe}\n", "training.greater_is_better: expected true, false or null, found \"maybe\""},
    {"training: {lr_scheduler_type: cosin}\n", "found \"cosin\"; did you mean \"cosine\"?"},
    {"training: {lr_scheduler_type: linaer}\n", "did you mean \"linear\"?"},
    {"training: {lr_scheduler_type: 3}\n", "training.lr_scheduler_type: expected one of linear, cosine, "},
    {"training: {lr_scheduler_type: cosine_with_min_lr}\n", "expected lr_scheduler_kwargs.min_lr or min_lr_rate beside it, found neither"},
    {"training: {lr_scheduler_type: cosine_with_min_lr, lr_scheduler_kwargs: {min_lr: 1e-6, min_lr_rate: 0.1}}\n", "found both"},
    {"training: {lr_scheduler_kwargs: {num_cycle: 2}}\n", "in section training.lr_scheduler_kwargs; did you mean \"num_cycles\"?"},
    {"training: {optim: adamw}\n", "did you mean \"adamw_hf\"?"},
    {"training: {optim: sgd}\n", "training.optim: expected one of adamw_torch, "},
    {"training: {eval_strategy: epochs}\n", "did you mean \"epoch\"?"},
    {"training: {eval_strategy: best}\n", "training.eval_strategy: expected one of no, steps or epoch, found \"best\""},
    {"training: {evaluation_strategy: stpes}\n", "did you mean \"steps\"?"},
    {"training: {save_strategy: bset}\n", "did you mean \"best\"?"},
    {"training: {metric_for_best_model: aux}\n", "did you mean \"auc\"?"},
    {"training: {metric_for_best_model: roc}\n", "training.metric_for_best_model: expected one of loss, accuracy, precision, recall, f1, auc, auprc or brier, found \"roc\""},
    {"training: {loss_normalization: hf-mean}\n", "did you mean \"hf_mean\"?"},
    {"training: {reduction: exactly}\n", "did you mean \"exact\"?"},
    {"training: {log_level: inf}\n", "did you mean \"info\"?"},
    {"training: {log_level: verbose}\n", "training.log_level: expected one of error, warning, info or debug, found \"verbose\""},
    {"training: {fp16: true}\n", "training.fp16: expected false, found true: fp16 training is not offered; use bf16"},
    {"training: {load_best_model_at_end: true}\n", "needs training.eval_strategy steps or epoch, found no"},
    {"training: {early_stopping_patience: 2}\n", "early_stopping_patience needs training.eval_strategy"},
    {"training: {early_stopping_patience: -1}\n", "found -1"},
    {"training: {save_strategy: best}\n", "save_strategy best needs training.eval_strategy"},
    {"training: {eval_strategy: no, evaluation_strategy: epoch}\n", "training.eval_strategy is given a second time (first at "},
    {"training: {group_by_length: true, train_sampling_strategy: random}\n", "is given a second time"},
    {"training: {max_steps: 1, max_steps: 2}\n", "max_steps"},
    {"model: {trust_remote_code: true}\n", "model.trust_remote_code: expected false, found true: code that comes with a model is never run"},
    {"model: {load_in_4bit: true, load_in_8bit: true}\n", "expected load_in_4bit or load_in_8bit, found both"},
    {"model: {num_labels: 3}\n", "model.num_labels: expected 2 for binary_classification"},
    {"task: {num_labels: 3}\n", "task.num_labels: expected 2 for binary_classification"},
    {"model: {num_labels: 0}\n", "found 0"},
    {"model: {bnb_4bit_quant_type: nf5}\n", "model.bnb_4bit_quant_type: expected one of nf4 or fp4, found \"nf5\"; did you mean \"nf4\"?"},
    {"model: {bnb_4bit_compute_dtype: bfloat}\n", "did you mean \"bfloat16\"?"},
    {"model: {pooling: first}\n", "model.pooling: expected one of last_token, mean or cls, found \"first\""},
    {"model: {padding_side: both}\n", "model.padding_side: expected one of right or left (or null)"},
    {"model: {head_dropout: 1}\n", "found 1"},
    {"model: {model_name_or_path: 7}\n", "model.model_name_or_path: expected text (or null), found 7"},
    {"model: {model_name_or_path: {a: b}}\n", "found a table"},
    {"model: {head_trainable_patterns: [1]}\n", "model.head_trainable_patterns: expected a list of texts, found a list of 1"},
    {"model: {lora: {r: 0}}\n", "model.lora.r: expected a whole number from 1 to 65536, found 0"},
    {"model: {lora: {lora_alpha: 0}}\n", "model.lora.lora_alpha: expected a number above 0.0, found 0"},
    {"model: {lora: {lora_dropout: 1.0}}\n", "model.lora.lora_dropout"},
    {"model: {lora: {bias: some}}\n", "model.lora.bias: expected one of none, all or lora_only, found \"some\""},
    {"model: {lora: {target_modules: []}}\n", "model.lora.target_modules: expected all-linear, a list of names or a regular expression, found a list of 0"},
    {"model: {lora: {target_modules: 3}}\n", "found 3"},
    {"model: {lora: {exclude_modules: 3}}\n", "model.lora.exclude_modules: expected a list of names or a regular expression (or null), found 3"},
    {"model: {lora: {layers_to_transform: [0, x]}}\n", "model.lora.layers_to_transform: expected a whole number from 0 to 1023 (or null), or a list of them, found a list of 2"},
    {"model: {lora: {layers_to_transform: -1}}\n", "found -1"},
    {"model: {lora: {rank_pattern: {q_proj: 0}}}\n", "model.lora.rank_pattern: expected a table of regular expressions and whole numbers from 1 to 65536, found a table"},
    {"model: {lora: {rank_pattern: 8}}\n", "found 8"},
    {"model: {lora: {alpha_pattern: {q_proj: big}}}\n", "model.lora.alpha_pattern: expected a table of regular expressions and numbers above 0.0, found a table"},
    {"model: {lora: {rank_patern: {q_proj: 8}}}\n", "did you mean \"rank_pattern\"?"},
    {"model: {lora: {target_modules: \"\"}}\n", "model.lora.target_modules"},
    {"model: {lora: {init_lora_weights: pissa}}\n", "model.lora.init_lora_weights: expected one of true, false or gaussian, found \"pissa\""},
    {"task: {task_name: binary}\n", "task.task_name: expected one of binary_classification or sft, found \"binary\""},
    {"task: {input_column: \"\"}\n", "task.input_column: expected text, found \"\""},
    {"task: {max_length: 0}\n", "found 0"},
    {"task: {truncation_side: rigth}\n", "did you mean \"right\"?"},
    {"dataset: {validation_split: 1}\n", "dataset.validation_split: expected a number from 0.0 to 1.0 (excluded), found 1"},
    {"dataset: {validation_split: -0.1}\n", "found -0.1"},
    {"dataset: {split_seed: -1}\n", "found -1"},
    {"dataset: {stratify: 0}\n", "dataset.stratify: expected true or false, found 0"},
    {"dataset: {oversampling: {target_label: 2}}\n", "dataset.oversampling.target_label: expected a whole number from 0 to 1, found 2"},
    {"dataset: {oversampling: {repeat_times: 0}}\n", "found 0"},
    {"dataset: {class_weights: {mode: auto}}\n", "dataset.class_weights.mode: expected one of manual, balanced or none, found \"auto\""},
    {"dataset: {class_weights: {mode: manual}}\n", "manual needs dataset.class_weights.values"},
    {"dataset: {class_weights: {values: [1]}}\n", "dataset.class_weights.values: expected a list of two numbers above 0.0, found a list of 1"},
    {"dataset: {class_weights: {values: [1, 2, 3]}}\n", "found a list of 3"},
    {"dataset: {class_weights: {values: [0, 1]}}\n", "dataset.class_weights.values"},
    {"runtime: {report_to: wandb}\n", "runtime.report_to: \"wandb\" sends data over the network, which cadtrain never does; the offline sinks are tensorboard, csv and jsonl"},
    {"runtime: {report_to: [csv, mlflow]}\n", "\"mlflow\" sends data over the network"},
    {"runtime: {report_to: [csv, jsonn]}\n", "found \"jsonn\"; did you mean \"jsonl\"?"},
    {"runtime: {device: gpu}\n", "runtime.device: expected one of auto, cpu, cuda or emulated, found \"gpu\""},
    {"runtime: {zero_stage: 1}\n", "runtime.zero_stage: expected 0, 2 or 3, found 1: stage 2 computes the same with less memory"},
    {"runtime: {zero_stage: 4}\n", "found 4"},
    {"runtime: {offload_optimizer: nvme}\n", "runtime.offload_optimizer: expected one of none or cpu (or null), found \"nvme\""},
    {"runtime: {wall_time: 1h}\n", "runtime.wall_time: expected seconds or [D-]HH:MM:SS, found \"1h\""},
    {"runtime: {wall_time: \"00:61:00\"}\n", "runtime.wall_time"},
    {"runtime: {watchdog_seconds: -1}\n", "found -1"},
    {"runtime: {threads: -1}\n", "found -1"},
    {"a: &x 1\nb: *x\n", "bad.yaml:1:4"},
    {"training: {max_steps: !!int 3}\n", "bad.yaml:1:"},
    {"training:\n  max_steps: 1\n bf16: true\n", "bad.yaml:"},
    {"training: {max_steps: 1\n", "bad.yaml:"},
    {"deepspeed: [1]\n", "deepspeed: expected a table or the name of a file, found a list of 1"},
    {"deepspeed: gone.json\n", "deepspeed: there is no file \"gone.json\""},
    {"predictions_include_input: 2\n", "predictions_include_input: expected true or false, found 2"},
};
enum { WRONG = sizeof wrong / sizeof wrong[0] };

static void every_mistake_is_refused_with_its_place_and_what_was_meant(void **state)
{
    (void)state;
    assert_true(WRONG >= 100);
    for (int i = 0; i < WRONG; i++) {
        const char *why = refused("--config", file("bad.yaml", wrong[i].text), NULL);
        expect_in(why, wrong[i].says);
        expect_in(why, "bad.yaml:");
        if (strchr(why, '\n')) fail_msg("one mistake, several lines:\n%s", why);
    }
    printf("%d wrong files refused\n", WRONG);
}

static const struct { const char *flag, *value, *says; } wrong_flags[] = {
    {"--learnin-rate", "1", "--learnin-rate: unknown flag; did you mean \"--learning-rate\"?"}, {"--confg", "x.yaml", "did you mean \"--config\"?"},
    {"--lora_rr", "1", "did you mean \"--lora-r\"?"}, {"--set", "training.max_step=1", "--set: unknown option \"training.max_step\"; did you mean \"training.max_steps\"?"},
    {"--set", "max_steps=1", "did you mean \"training.max_steps\"?"}, {"--set", "model.max_steps=1", "did you mean \"training.max_steps\"?"},
    {"--set", "training.max_steps", "--set: expected section.key=value, found \"training.max_steps\""}, {"--set", NULL, "--set: expected section.key=value"},
    {"--set", "training.max_steps=x", "--set training.max_steps: expected a whole number of at least -1, found \"x\""},
    {"--max-steps", NULL, "--max-steps: expected a whole number of at least -1, found nothing"}, {"--config", NULL, "--config: expected a value"},
    {"--config", "/gone.yaml", "/gone.yaml: "}, {"--config", "configs/experiments", "expected a file named .yaml, .yml or .json"},
    {"--deepspeed", "/gone.json", "--deepspeed: there is no file \"/gone.json\""}, {"stray", NULL, "unexpected argument \"stray\""},
    {"--bf16=2", NULL, "--bf16: expected true or false, found 2"}, {"--skip-test=2", NULL, "--skip-test: expected true or false"},
    {"--report-to", "wandb", "--report-to: \"wandb\" sends data over the network"}, {"--trust-remote-code", "true", "--trust-remote-code: expected false, found true"},
    {"--fp16", NULL, "--fp16: expected false, found true: fp16 training is not offered; use bf16"}, {"--lora-dropout", "[", "--lora-dropout: expected a number"},
    {"--max-length", "1, 2", "--max-length: expected a whole number of at least 1, found \"1, 2\""},
    {"--print-config=yes", NULL, "--print-config: takes no value"}, {"--lora", "5", "expected a table of options, found 5"},
    {"--zero-stage", "1", "--zero-stage: expected 0, 2 or 3, found 1"}, {"--no-learning-rate", NULL, "--no-learning-rate: unknown flag; did you mean \"--learning-rate\"?"},
};

static void every_wrong_flag_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong_flags / sizeof wrong_flags[0]; i++) {
        const char *why = refused(wrong_flags[i].flag, wrong_flags[i].value, NULL);
        expect_in(why, wrong_flags[i].says);
    }
}

static void all_mistakes_of_all_sources_are_named_at_once(void **state)
{
    const char *config = file("many.yaml", "paths: {task: part.yaml}\nmodle: {a: 1}\ntraining:\n  learning_rate: fast\n  optimm: x\n  bf16: 3\n  bf16: true\nmodel: {lora: {r: 1, r: 2}}\n");
    const char *why;
    int lines = 1;

    (void)state;
    file("part.yaml", "max_length: -1\n");
    setenv("CADTRAIN_SEED", "x", 1);
    why = refused("--config", config, "--max-step", "3", "--lora-r", "none", NULL);
    unsetenv("CADTRAIN_SEED");
    for (const char *p = why; *p; p++) lines += *p == '\n';
    assert_int_equal(lines, 10);
    expect_in(why, "part.yaml:1:13: task.max_length");
    expect_in(why, "many.yaml:2:1: unknown key \"modle\"");
    expect_in(why, "many.yaml:4:18: training.learning_rate");
    expect_in(why, "many.yaml:5:3: unknown key \"optimm\" in section training; did you mean \"optim\"?");
    expect_in(why, "many.yaml:6:9: training.bf16");
    expect_in(why, "many.yaml:7:3: expected every key once, found \"bf16\" again");
    expect_in(why, "many.yaml:8:22: expected every key once, found \"r\" again");
    expect_in(why, "CADTRAIN_SEED: expected");
    expect_in(why, "--max-step: unknown flag; did you mean \"--max-steps\"?");
    expect_in(why, "--lora-r: expected");
}

static void a_flood_of_mistakes_is_cut_and_counted(void **state)
{
    cad_str text = {0};

    (void)state;
    for (int i = 0; i < 200; i++) assert_int_equal(cad_str_addf(&text, "unknown_key_%d: 1\n", i), CAD_OK);
    expect_in(refused("--config", file("flood.yaml", text.data), NULL), "… and 140 more");
    cad_str_close(&text);
}

/* ---- typos of one character ---- */

static int tried, right;

/* The typo is itself a key of the section, or as near to another one: nothing can tell. */
static bool is_key(const cadp_row *row, const char *typo)
{
    return cadp_conf_find(row->in, strlen(row->in), typo, strlen(typo)) >= 0;
}

static void try_typo(const cadp_row *row, const char *key, const char *typo, bool as_flag)
{
    char text[256], wanted[160], name[96];
    const char *why;

    if (!*typo || !strcmp(typo, key) || is_key(row, typo)) return;
    tried++;
    if (as_flag) {
        snprintf(name, sizeof name, "--%s", typo);
        if (cadp_conf_find_flag(typo) >= 0) {
            tried--;
            return;
        }
        why = refused(name, "1", NULL);
        snprintf(wanted, sizeof wanted, "did you mean \"--%s\"?", key);
    } else {
        cad_str nested = {0};
        int depth = 0;
        for (const char *p = row->in; *p;) {
            size_t n = strcspn(p, ".");
            assert_int_equal(cad_str_addf(&nested, "%*s%.*s:\n", 2 * depth++, "", (int)n, p), CAD_OK);
            p += n + (p[n] == '.');
        }
        assert_int_equal(cad_str_addf(&nested, "%*s%s: 1\n", 2 * depth, "", typo), CAD_OK);
        snprintf(text, sizeof text, "%s", nested.data);
        cad_str_close(&nested);
        why = refused("--config", file("typo.yaml", text), NULL);
        snprintf(wanted, sizeof wanted, "did you mean \"%s\"?", key);
        expect_in(why, "typo.yaml:");
        expect_in(why, "unknown key");
    }
    if (strstr(why, wanted)) right++;
}

/* A letter left out, doubled, replaced and swapped at places that a fixed generator draws. */
static void try_typos(const cadp_row *row, const char *key, int which, bool as_flag)
{
    size_t n = strlen(key), at = cad_rng_uniform(1, CAD_RNG_TEST, 0, (uint64_t)which) * (double)n;
    char typo[96], letter = (char)('a' + (int)(cad_rng_uniform(1, CAD_RNG_TEST, 1, (uint64_t)which) * 26));

    if (as_flag && n < 2) return;
    snprintf(typo, sizeof typo, "%.*s%s", (int)at, key, key + at + 1);
    if (as_flag || n > 1) try_typo(row, key, typo, as_flag);
    snprintf(typo, sizeof typo, "%.*s%c%s", (int)at, key, letter, key + at);
    try_typo(row, key, typo, as_flag);
    snprintf(typo, sizeof typo, "%s", key);
    typo[at] = letter;
    try_typo(row, key, typo, as_flag);
    snprintf(typo, sizeof typo, "%s", key);
    if (at + 1 < n) {
        typo[at] = key[at + 1];
        typo[at + 1] = key[at];
        try_typo(row, key, typo, as_flag);
    }
}

static void a_typo_of_any_key_is_refused_with_that_key(void **state)
{
    (void)state;
    tried = right = 0;
    for (int i = 0; i < cadp_conf_row_count; i++)
        if (!(cadp_conf_rows[i].marks & CADP_HIDDEN)) try_typos(&cadp_conf_rows[i], cadp_conf_rows[i].key, i, false);
    printf("typos of keys: %d of %d named right\n", right, tried);
    assert_true(tried > 350);
    assert_true(right * 100 >= tried * 95);
}

typedef struct names { const cadp_row *row; int which; } names;
static void typos_of_flag(void *with, const char *name)
{
    const names *n = with;
    try_typos(n->row, name, n->which, true);
}

static void a_typo_of_any_flag_is_refused_with_that_flag(void **state)
{
    (void)state;
    tried = right = 0;
    for (int i = 0; i < cadp_conf_row_count; i++) {
        names n = {&cadp_conf_rows[i], i};
        cadp_conf_each_flag(&cadp_conf_rows[i], typos_of_flag, &n);
    }
    printf("typos of flags: %d of %d named right\n", right, tried);
    assert_true(tried > 350);
    assert_true(right * 100 >= tried * 95);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mistake_is_refused_with_its_place_and_what_was_meant), cmocka_unit_test(every_wrong_flag_is_refused_by_name),
        cmocka_unit_test(all_mistakes_of_all_sources_are_named_at_once), cmocka_unit_test(a_flood_of_mistakes_is_cut_and_counted),
        cmocka_unit_test(a_typo_of_any_key_is_refused_with_that_key), cmocka_unit_test(a_typo_of_any_flag_is_refused_with_that_flag)};
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
