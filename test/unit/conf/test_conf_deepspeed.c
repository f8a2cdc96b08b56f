#include "conf_bench.h"

static cad_config *with(const char *json) { return opened("--deepspeed", file("ds.json", json), NULL); }
static const char *without(const char *json) { return refused("--deepspeed", file("ds.json", json), NULL); }

/* The shapes that people have: Transformers' guide, axolotl, LLaMA-Factory, ChatGLM. */
static const char transformers_zero2[] =
    "{\"fp16\": {\"enabled\": \"auto\", \"loss_scale\": 0, \"loss_scale_window\": 1000, \"initial_scale_power\": 16, \"hysteresis\": 2, \"min_loss_scale\": 1},\n"
    " \"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": \"auto\", \"betas\": \"auto\", \"eps\": \"auto\", \"weight_decay\": \"auto\"}},\n"
    " \"scheduler\": {\"type\": \"WarmupLR\", \"params\": {\"warmup_min_lr\": \"auto\", \"warmup_max_lr\": \"auto\", \"warmup_num_steps\": \"auto\"}},\n"
    " \"zero_optimization\": {\"stage\": 2, \"offload_optimizer\": {\"device\": \"cpu\", \"pin_memory\": true}, \"allgather_partitions\": true,\n"
    "   \"allgather_bucket_size\": 2e8, \"overlap_comm\": true, \"reduce_scatter\": true, \"reduce_bucket_size\": 2e8, \"contiguous_gradients\": true},\n"
    " \"gradient_accumulation_steps\": \"auto\", \"gradient_clipping\": \"auto\", \"steps_per_print\": 2000, \"train_batch_size\": \"auto\",\n"
    " \"train_micro_batch_size_per_gpu\": \"auto\", \"wall_clock_breakdown\": false}";
static const char transformers_zero3[] =
    "{\"bf16\": {\"enabled\": \"auto\"}, \"zero_optimization\": {\"stage\": 3, \"offload_optimizer\": {\"device\": \"none\", \"pin_memory\": true},\n"
    "  \"offload_param\": {\"device\": \"none\", \"pin_memory\": true}, \"overlap_comm\": true, \"contiguous_gradients\": true, \"sub_group_size\": 1e9,\n"
    "  \"reduce_bucket_size\": \"auto\", \"stage3_prefetch_bucket_size\": \"auto\", \"stage3_param_persistence_threshold\": \"auto\",\n"
    "  \"stage3_max_live_parameters\": 1e9, \"stage3_max_reuse_distance\": 1e9, \"stage3_gather_16bit_weights_on_model_save\": true},\n"
    " \"gradient_clipping\": 0.5, \"zero_allow_untested_optimizer\": true, \"gradient_accumulation_steps\": 4, \"train_micro_batch_size_per_gpu\": 2}";
static const char explicit_all[] =
    "{\"train_batch_size\": 64, \"train_micro_batch_size_per_gpu\": 4, \"gradient_accumulation_steps\": 2, \"gradient_clipping\": 1.0,\n"
    " \"optimizer\": {\"type\": \"Adam\", \"params\": {\"lr\": 3e-5, \"betas\": [0.8, 0.99], \"eps\": 1e-6, \"weight_decay\": 3e-7, \"adam_w_mode\": true}},\n"
    " \"scheduler\": {\"params\": {\"cos_min_ratio\": 0.05, \"warmup_num_steps\": 100, \"warmup_type\": \"linear\"}, \"type\": \"WarmupCosineLR\"},\n"
    " \"bf16\": {\"enabled\": true}, \"zero_optimization\": {\"stage\": 1}, \"flops_profiler\": {\"enabled\": true, \"profile_step\": 1},\n"
    " \"activation_checkpointing\": {\"partition_activations\": false}}";

static void auto_takes_the_training_sections_value(void **state)
{
    cad_config *c = opened("--deepspeed", file("ds.json", transformers_zero2), "--learning-rate", "1e-4", "--per-device-train-batch-size", "3", NULL);
    const cad_options *o = cad_config_options(c);

    (void)state;
    assert_true(o->training.learning_rate == 1e-4 && o->training.per_device_train_batch_size == 3 && o->training.max_grad_norm == 1.0);
    assert_int_equal(o->runtime.zero_stage, 2);
    assert_int_equal(o->runtime.offload_optimizer, CAD_OFFLOAD_CPU);
    assert_int_equal(o->training.lr_scheduler_type, 5);
    assert_int_equal(o->deepspeed_train_batch_size, 0);
    cad_config_close(&c);
}

static void zero_three_of_the_guide_reads(void **state)
{
    cad_config *c = with(transformers_zero3);
    const cad_options *o = cad_config_options(c);

    (void)state;
    assert_int_equal(o->runtime.zero_stage, 3);
    assert_int_equal(o->runtime.offload_optimizer, CAD_OFFLOAD_NONE);
    assert_true(o->training.max_grad_norm == 0.5 && o->training.gradient_accumulation_steps == 4 && o->training.per_device_train_batch_size == 2);
    cad_config_close(&c);
}

static void explicit_values_become_options(void **state)
{
    cad_config *c = with(explicit_all);
    const cad_options *o = cad_config_options(c);

    (void)state;
    assert_int_equal(o->deepspeed_train_batch_size, 64);
    assert_true(o->training.per_device_train_batch_size == 4 && o->training.gradient_accumulation_steps == 2);
    assert_true(o->training.learning_rate == 3e-5 && o->training.adam_beta1 == 0.8 && o->training.adam_beta2 == 0.99 && o->training.adam_epsilon == 1e-6);
    assert_true(o->training.weight_decay == 3e-7 && o->training.bf16 && o->training.warmup_steps == 100);
    assert_int_equal(o->training.lr_scheduler_type, 7);
    assert_true(o->training.min_lr_rate == 0.05);
    assert_int_equal(o->runtime.zero_stage, 2);
    expect_in(cad_config_notes(c), "ds.json:4:");
    expect_in(cad_config_notes(c), "ZeRO stage 1 runs as stage 2");
    cad_config_close(&c);
}

static void keys_without_effect_are_named_once(void **state)
{
    cad_config *c = with(transformers_zero2);
    const char *notes = cad_config_notes(c), *first = strstr(notes, "zero_optimization.overlap_comm");

    (void)state;
    expect_in(notes, "DeepSpeed keys without effect here: ");
    expect_in(notes, "steps_per_print");
    expect_in(notes, "zero_optimization.offload_optimizer.pin_memory");
    assert_non_null(first);
    assert_null(strstr(first + 1, "zero_optimization.overlap_comm"));
    expect_not_in(notes, "gradient_clipping");
    expect_in(notes, "warm-up is linear here");
    cad_config_close(&c);
}

static void options_of_a_higher_source_win(void **state)
{
    const char *config = file("e.yaml", "paths: {deepspeed: ds3.json, runtime: rt.yaml}\n"), *ds2 = file("ds2.json", "{\"zero_optimization\": {\"stage\": 2}}");
    cad_config *c;

    (void)state;
    file("ds3.json", "{\"zero_optimization\": {\"stage\": 3}, \"gradient_clipping\": 2}");
    file("rt.yaml", "seed: 1\n");
    c = opened("--config", config, NULL);
    assert_int_equal(cad_config_options(c)->runtime.zero_stage, 3);
    cad_config_close(&c);
    c = opened("--config", config, "--deepspeed", ds2, NULL); /* replaces the experiment's file */
    assert_int_equal(cad_config_options(c)->runtime.zero_stage, 2);
    assert_true(cad_config_options(c)->training.max_grad_norm == 1.0);
    cad_config_close(&c);
    c = opened("--zero-stage", "0", "--config", config, "--deepspeed", ds2, NULL);
    assert_int_equal(cad_config_options(c)->runtime.zero_stage, 0);
    cad_config_close(&c);
    setenv("CADTRAIN_DEEPSPEED", ds2, 1);
    c = opened("--config", config, NULL);
    unsetenv("CADTRAIN_DEEPSPEED");
    assert_int_equal(cad_config_options(c)->runtime.zero_stage, 2);
    cad_config_close(&c);
    c = opened("--config", file("own.yaml", "paths: {deepspeed: ds3.json}\ndeepspeed: {gradient_clipping: 7}\nruntime: {zero_stage: 2}\n"), NULL);
    assert_int_equal(cad_config_options(c)->runtime.zero_stage, 2);
    assert_true(cad_config_options(c)->training.max_grad_norm == 7);
    cad_config_close(&c);
    c = opened("--config", file("named.yaml", "deepspeed: ds3.json\n"), NULL);
    assert_int_equal(cad_config_options(c)->runtime.zero_stage, 3);
    cad_config_close(&c);
}

static void schedulers_have_their_equals(void **state)
{
    cad_config *c = with("{\"scheduler\": {\"type\": \"WarmupDecayLR\", \"params\": {\"warmup_min_lr\": 0, \"warmup_max_lr\": 2e-5, \"warmup_num_steps\": 10, \"total_num_steps\": \"auto\"}}}");

    (void)state;
    assert_int_equal(cad_config_options(c)->training.lr_scheduler_type, 0);
    assert_true(cad_config_options(c)->training.learning_rate == 2e-5 && cad_config_options(c)->training.warmup_steps == 10);
    cad_config_close(&c);
    c = with("{\"scheduler\": {\"type\": \"WarmupCosineLR\"}}");
    assert_true(cad_config_options(c)->training.lr_scheduler_type == 7 && cad_config_options(c)->training.min_lr_rate == 1e-4);
    cad_config_close(&c);
}

static void old_spellings_read(void **state)
{
    cad_config *c = with("{\"zero_optimization\": {\"stage\": 2, \"cpu_offload\": true}, \"bfloat16\": {\"enabled\": true}}");

    (void)state;
    assert_int_equal(cad_config_options(c)->runtime.offload_optimizer, CAD_OFFLOAD_CPU);
    assert_true(cad_config_options(c)->training.bf16);
    cad_config_close(&c);
    c = with("{\"zero_optimization\": true}");
    assert_int_equal(cad_config_options(c)->runtime.zero_stage, 2);
    cad_config_close(&c);
}

static void parameters_and_optimizer_are_offloaded_apart(void **state)
{
    static const struct { const char *zero; int optimizer, param; } cases[] = {
        {"\"offload_param\": {\"device\": \"cpu\"}", CAD_OFFLOAD_NONE, CAD_OFFLOAD_CPU}, {"\"offload_optimizer\": {\"device\": \"cpu\"}, \"offload_param\": {\"device\": \"none\"}", CAD_OFFLOAD_CPU, CAD_OFFLOAD_NONE},
        {"\"offload_param\": {\"device\": \"cpu\"}, \"offload_optimizer\": {\"device\": \"cpu\"}", CAD_OFFLOAD_CPU, CAD_OFFLOAD_CPU}, {"\"cpu_offload_params\": true", CAD_OFFLOAD_NONE, CAD_OFFLOAD_CPU}};
    char json[256];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(json, sizeof json, "{\"zero_optimization\": {\"stage\": 3, %s}}", cases[i].zero);
        cad_config *c = with(json);
        assert_int_equal(cad_config_options(c)->runtime.offload_optimizer, cases[i].optimizer);
        assert_int_equal(cad_config_options(c)->runtime.offload_param, cases[i].param);
        cad_config_close(&c);
    }
}

static const struct { const char *json, *says; } wrong[] = {
    {"{\"gradient_cliping\": 1}", "ds.json:1:2: unknown key \"gradient_cliping\" in section deepspeed; did you mean \"gradient_clipping\"?"},
    {"{\"zero_optimization\": {\"stag\": 2}}", "unknown key \"stag\" in section deepspeed.zero_optimization; did you mean \"stage\"?"},
    {"{\"zero_optimization\": {\"overlap_com\": true}}", "did you mean \"overlap_comm\"?"},
    {"{\"zero_optimization\": {\"offload_optimizer\": {\"devise\": \"cpu\"}}}", "in section deepspeed.zero_optimization.offload_optimizer; did you mean \"device\"?"},
    {"{\"zero_optimization\": {\"stage3_prefetch_bucketsize\": 1}}", "did you mean \"stage3_prefetch_bucket_size\"?"},
    {"{\"fp16\": {\"enable\": true}}", "in section deepspeed.fp16; did you mean \"enabled\"?"},
    {"{\"optimizer\": {\"type\": \"AdamW\", \"params\": {\"learning_rate\": 1}}}", "unknown key \"learning_rate\" in section deepspeed.optimizer.params"},
    {"{\"optimizer\": {\"type\": \"Lamb\"}}", "optimizer.type: expected AdamW or Adam, found \"Lamb\""},
    {"{\"optimizer\": {\"type\": \"AdamW\", \"params\": {\"betas\": 0.9}}}", "optimizer.params.betas: expected a list of two numbers, found 0.9"},
    {"{\"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": \"fast\"}}}", "optimizer.params.lr: expected a number"},
    {"{\"optimizer\": {\"type\": \"Adam\", \"params\": {\"adam_w_mode\": false}}}", "optimizer.params.adam_w_mode: expected true (or \"auto\"), found false"},
    {"{\"scheduler\": {\"type\": \"OneCycle\"}}", "scheduler.type: expected WarmupLR, WarmupDecayLR or WarmupCosineLR, found \"OneCycle\": other shapes are training.lr_scheduler_type"},
    {"{\"scheduler\": {\"params\": {}}}", "scheduler: expected its type"},
    {"{\"scheduler\": {\"type\": \"WarmupLR\", \"params\": {\"warmup_min_lr\": 1e-8}}}", "scheduler.params.warmup_min_lr: expected 0 (or \"auto\"), found 1e-08: warm-up starts at 0 here"},
    {"{\"scheduler\": {\"type\": \"WarmupLR\", \"params\": {\"warmup_type\": \"log\"}}}", "scheduler.params.warmup_type: expected linear (or \"auto\"), found \"log\""},
    {"{\"scheduler\": {\"type\": \"WarmupDecayLR\", \"params\": {\"total_num_steps\": 100}}}", "the length of the run is training.max_steps"},
    {"{\"zero_optimization\": {\"stage\": 4}}", "ds.json:1:33: zero_optimization.stage: expected a whole number from 0 to 3, found 4"},
    {"{\"zero_optimization\": {\"stage\": \"two\"}}", "zero_optimization.stage: expected a whole number"},
    {"{\"zero_optimization\": {\"offload_optimizer\": {\"device\": \"nvme\"}}}", "zero_optimization.offload_optimizer.device: expected none or cpu, found \"nvme\""},
    {"{\"zero_optimization\": 2}", "zero_optimization: expected a table, found 2"},
    {"{\"train_batch_size\": 0.5}", "train_batch_size: expected a whole number"},
    {"{\"gradient_accumulation_steps\": 0}", "gradient_accumulation_steps: expected a whole number of at least 1, found 0"},
    {"{\"bf16\": {\"enabled\": \"yes\"}}", "bf16.enabled: expected true or false, found \"yes\""},
    {"{\"fp16\": {\"enabled\": true}}", "fp16 training is not offered; use bf16"},
    {"{\"bf16\": {}, \"bf16\": {}}", "ds.json:1:"},
    {"[1]", "deepspeed: expected a table or the name of a file, found a list of 1"},
    {"{\"bf16\": {\"enabled\": true}", "ds.json:1:"},
};

static void what_deepspeed_does_not_know_is_refused_too(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) expect_in(without(wrong[i].json), wrong[i].says);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_takes_the_training_sections_value), cmocka_unit_test(zero_three_of_the_guide_reads), cmocka_unit_test(explicit_values_become_options),
        cmocka_unit_test(keys_without_effect_are_named_once), cmocka_unit_test(options_of_a_higher_source_win), cmocka_unit_test(schedulers_have_their_equals),
        cmocka_unit_test(old_spellings_read), cmocka_unit_test(parameters_and_optimizer_are_offloaded_apart),
        cmocka_unit_test(what_deepspeed_does_not_know_is_refused_too)};
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
