/* The first byte picks: a DeepSpeed JSON, an experiment's YAML, or a configuration as it travels between ranks. Refused, or options that travel unchanged. */
#include "fuzz.h"

#include <cadtrain/options.h>

const int fuzz_near = 150;

bool fuzz_seed(int i, cad_str *out)
{
    static const char *const texts[] = {
        "0{\"bf16\": {\"enabled\": \"auto\"}, \"zero_optimization\": {\"stage\": 3, \"offload_optimizer\": {\"device\": \"none\", \"pin_memory\": true}, \"offload_param\": {\"device\": \"cpu\"},"
        " \"sub_group_size\": 1e9, \"reduce_bucket_size\": \"auto\"}, \"gradient_clipping\": 0.5, \"gradient_accumulation_steps\": 4, \"train_micro_batch_size_per_gpu\": 2}",
        "0{\"train_batch_size\": 64, \"optimizer\": {\"type\": \"Adam\", \"params\": {\"lr\": 3e-5, \"betas\": [0.8, 0.99], \"eps\": 1e-6, \"weight_decay\": 3e-7, \"adam_w_mode\": true}},"
        " \"scheduler\": {\"params\": {\"cos_min_ratio\": 0.05, \"warmup_num_steps\": 100, \"warmup_type\": \"linear\"}, \"type\": \"WarmupCosineLR\"}, \"zero_optimization\": {\"stage\": 1}}",
        "1model:\n  num_labels: 2\ntraining:\n  learning_rate: 3e-5\n  bf16: true\n  lr_scheduler_type: cosine\nlora:\n  r: 8\n  target_modules: [q_proj, v_proj]\nruntime:\n  zero_stage: 2\n",
        "1deepspeed:\n  zero_optimization: {stage: 2}\n  gradient_clipping: auto\n",
        "2{\"training\": {\"learning_rate\": 0.001, \"max_steps\": 5}, \"runtime\": {\"seed\": 3}}"};

    return fuzz_text(texts, 5, i, out);
}

static cad_status open_config(cad_config **c, const char *bytes, size_t n)
{
    static char deepspeed[] = "--deepspeed", config[] = "--config";
    char *argv[] = {bytes[0] & 1 ? config : deepspeed, NULL};

    if (bytes[0] & 2) return cad_config_from_json(c, bytes + 1, n - 1);
    argv[1] = (char *)(uintptr_t)fuzz_keep(bytes[0] & 1 ? "experiment.yaml" : "ds.json", bytes + 1, n - 1);
    return cad_config_open(c, 2, argv, NULL, false);
}

static void travel(const cad_config *c)
{
    cad_config *there = NULL;
    cad_str a = {0}, b = {0};

    CAD_ASSERT(!cad_config_json(c, &a) && !cad_config_from_json(&there, a.data, a.size) && !cad_config_json(there, &b));
    CAD_ASSERT(a.size == b.size && !memcmp(a.data, b.data, a.size));
    b.size = 0;
    CAD_ASSERT(!cad_config_print(c, &b));
    cad_config_close(&there);
    cad_str_close(&a);
    cad_str_close(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    cad_config *c = NULL;

    if (!n) return 0;
    cad_clear();
    if (open_config(&c, (const char *)bytes, n)) CAD_ASSERT(cad_reason()[0]);
    else travel(c);
    cad_config_close(&c);
    cad_clear();
    CAD_ASSERT(!cad_mem_blocks());
    return 0;
}
