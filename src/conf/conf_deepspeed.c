/* A DeepSpeed JSON: what it says in our words, what has no effect here, and what DeepSpeed does not know either.
 * Keys from DeepSpeed's runtime/constants.py, runtime/zero/config.py, runtime/zero/offload_config.py and the documents of its JSON. */
#include "conf_priv.h"

#include <stdio.h>

typedef enum kind {
    TABLE,    /* a table whose keys stand here too */
    VALUE,    /* sets an option, unless it is "auto" */
    STAGE, DEVICE, CPU_OFFLOAD, BETAS, OPTIMIZER, SCHEDULER, /* the same with a meaning of their own */
    DEMAND,   /* only one value has an equal here: `to` */
    IDLE,     /* known, without effect */
    ANYTHING  /* a table with whatever in it, without effect */
} kind;

typedef struct key { const char *path; kind kind; const char *to; const char *why; } key;

#define WARMS "warm-up starts at 0 here"
#define LENGTH "the length of the run is training.max_steps or training.num_train_epochs"
static const key keys[] = {
    {"train_batch_size", VALUE, "deepspeed_train_batch_size", NULL},
    {"train_micro_batch_size_per_gpu", VALUE, "training.per_device_train_batch_size", NULL},
    {"gradient_accumulation_steps", VALUE, "training.gradient_accumulation_steps", NULL},
    {"gradient_clipping", VALUE, "training.max_grad_norm", NULL},
    {"bf16", TABLE, NULL, NULL}, {"bf16.enabled", VALUE, "training.bf16", NULL}, {"bf16.immediate_grad_update", IDLE, NULL, NULL},
    {"bf16.check_grad_overflow", IDLE, NULL, NULL}, {"bf16.auto_cast", IDLE, NULL, NULL}, {"bf16.loss_scale", IDLE, NULL, NULL},
    {"bf16.initial_scale_power", IDLE, NULL, NULL}, {"bf16.loss_scale_window", IDLE, NULL, NULL}, {"bf16.hysteresis", IDLE, NULL, NULL},
    {"bf16.min_loss_scale", IDLE, NULL, NULL}, {"bf16.accumulate_grads_in_fp32", IDLE, NULL, NULL},
    {"bf16.bf16_master_weights_and_grads", IDLE, NULL, NULL}, {"bf16.bf16_optimizer_states", IDLE, NULL, NULL},
    {"bfloat16", TABLE, NULL, NULL}, {"bfloat16.enabled", VALUE, "training.bf16", NULL}, {"bfloat16.immediate_grad_update", IDLE, NULL, NULL},
    {"fp16", TABLE, NULL, NULL}, {"fp16.enabled", VALUE, "training.fp16", NULL}, {"fp16.auto_cast", IDLE, NULL, NULL},
    {"fp16.loss_scale", IDLE, NULL, NULL}, {"fp16.initial_scale_power", IDLE, NULL, NULL}, {"fp16.loss_scale_window", IDLE, NULL, NULL},
    {"fp16.hysteresis", IDLE, NULL, NULL}, {"fp16.consecutive_hysteresis", IDLE, NULL, NULL}, {"fp16.min_loss_scale", IDLE, NULL, NULL},
    {"fp16.fused_mode", IDLE, NULL, NULL}, {"fp16.opt_level", IDLE, NULL, NULL}, {"fp16.fp16_master_weights_and_grads", IDLE, NULL, NULL},
    {"optimizer", TABLE, NULL, NULL}, {"optimizer.type", OPTIMIZER, NULL, NULL}, {"optimizer.legacy_fusion", IDLE, NULL, NULL},
    {"optimizer.params", TABLE, NULL, NULL}, {"optimizer.params.lr", VALUE, "training.learning_rate", NULL},
    {"optimizer.params.betas", BETAS, NULL, NULL}, {"optimizer.params.eps", VALUE, "training.adam_epsilon", NULL},
    {"optimizer.params.weight_decay", VALUE, "training.weight_decay", NULL}, {"optimizer.params.torch_adam", IDLE, NULL, NULL},
    {"optimizer.params.fused", IDLE, NULL, NULL}, {"optimizer.params.adam_w_mode", DEMAND, "true", "weight decay is decoupled here (AdamW)"},
    {"optimizer.params.bias_correction", DEMAND, "true", "AdamW corrects its moments here"},
    {"optimizer.params.amsgrad", DEMAND, "false", "plain AdamW is what there is"},
    {"scheduler", TABLE, NULL, NULL}, {"scheduler.type", SCHEDULER, NULL, NULL}, {"scheduler.params", TABLE, NULL, NULL},
    {"scheduler.params.warmup_min_lr", DEMAND, "0", WARMS}, {"scheduler.params.warmup_min_ratio", DEMAND, "0", WARMS},
    {"scheduler.params.warmup_max_lr", VALUE, "training.learning_rate", NULL},
    {"scheduler.params.warmup_num_steps", VALUE, "training.warmup_steps", NULL},
    {"scheduler.params.total_num_steps", DEMAND, "auto", LENGTH},
    {"scheduler.params.warmup_type", DEMAND, "linear", "warm-up is linear here"},
    {"scheduler.params.cos_min_ratio", VALUE, "training.lr_scheduler_kwargs.min_lr_rate", NULL},
    {"scheduler.params.last_batch_iteration", DEMAND, "-1", "a run goes on with training.resume_from_checkpoint"},
    {"zero_optimization", TABLE, NULL, NULL}, {"zero_optimization.stage", STAGE, "runtime.zero_stage", NULL},
    {"zero_optimization.offload_optimizer", TABLE, NULL, NULL},
    {"zero_optimization.offload_optimizer.device", DEVICE, "runtime.offload_optimizer", NULL},
    {"zero_optimization.offload_optimizer.pin_memory", IDLE, NULL, NULL}, {"zero_optimization.offload_optimizer.nvme_path", IDLE, NULL, NULL},
    {"zero_optimization.offload_optimizer.buffer_count", IDLE, NULL, NULL}, {"zero_optimization.offload_optimizer.buffer_size", IDLE, NULL, NULL},
    {"zero_optimization.offload_optimizer.pipeline", IDLE, NULL, NULL}, {"zero_optimization.offload_optimizer.pipeline_read", IDLE, NULL, NULL},
    {"zero_optimization.offload_optimizer.pipeline_write", IDLE, NULL, NULL}, {"zero_optimization.offload_optimizer.fast_init", IDLE, NULL, NULL},
    {"zero_optimization.offload_optimizer.ratio", IDLE, NULL, NULL}, {"zero_optimization.offload_optimizer.super_offload", IDLE, NULL, NULL},
    {"zero_optimization.offload_optimizer.convert_grad_on_cpu", IDLE, NULL, NULL},
    {"zero_optimization.offload_optimizer.cpuadam_cores_perc", IDLE, NULL, NULL},
    {"zero_optimization.offload_param", TABLE, NULL, NULL}, {"zero_optimization.offload_param.device", DEVICE, "runtime.offload_param", NULL},
    {"zero_optimization.offload_param.pin_memory", IDLE, NULL, NULL}, {"zero_optimization.offload_param.nvme_path", IDLE, NULL, NULL},
    {"zero_optimization.offload_param.buffer_count", IDLE, NULL, NULL}, {"zero_optimization.offload_param.buffer_size", IDLE, NULL, NULL},
    {"zero_optimization.offload_param.max_in_cpu", IDLE, NULL, NULL},
    {"zero_optimization.cpu_offload", CPU_OFFLOAD, "runtime.offload_optimizer", NULL}, {"zero_optimization.cpu_offload_param", CPU_OFFLOAD, "runtime.offload_param", NULL},
    {"zero_optimization.cpu_offload_params", CPU_OFFLOAD, "runtime.offload_param", NULL}, {"zero_optimization.cpu_offload_use_pin_memory", IDLE, NULL, NULL},
    {"zero_optimization.contiguous_gradients", IDLE, NULL, NULL}, {"zero_optimization.reduce_scatter", IDLE, NULL, NULL},
    {"zero_optimization.reduce_bucket_size", IDLE, NULL, NULL}, {"zero_optimization.allgather_partitions", IDLE, NULL, NULL},
    {"zero_optimization.allgather_bucket_size", IDLE, NULL, NULL}, {"zero_optimization.overlap_comm", IDLE, NULL, NULL},
    {"zero_optimization.use_multi_rank_bucket_allreduce", IDLE, NULL, NULL}, {"zero_optimization.load_from_fp32_weights", IDLE, NULL, NULL},
    {"zero_optimization.elastic_checkpoint", IDLE, NULL, NULL}, {"zero_optimization.sub_group_size", IDLE, NULL, NULL},
    {"zero_optimization.round_robin_gradients", IDLE, NULL, NULL}, {"zero_optimization.ignore_unused_parameters", IDLE, NULL, NULL},
    {"zero_optimization.legacy_stage1", IDLE, NULL, NULL}, {"zero_optimization.zero_hpz_partition_size", IDLE, NULL, NULL},
    {"zero_optimization.zero_quantized_weights", IDLE, NULL, NULL}, {"zero_optimization.zero_quantized_nontrainable_weights", IDLE, NULL, NULL},
    {"zero_optimization.zero_quantized_gradients", IDLE, NULL, NULL}, {"zero_optimization.zeropp_loco_param", ANYTHING, NULL, NULL},
    {"zero_optimization.mics_shard_size", IDLE, NULL, NULL}, {"zero_optimization.mics_hierarchical_params_gather", IDLE, NULL, NULL},
    {"zero_optimization.memory_efficient_linear", IDLE, NULL, NULL}, {"zero_optimization.pipeline_loading_checkpoint", IDLE, NULL, NULL},
    {"zero_optimization.override_module_apply", IDLE, NULL, NULL}, {"zero_optimization.log_trace_cache_warnings", IDLE, NULL, NULL},
    {"zero_optimization.enable_sanity_checks", IDLE, NULL, NULL}, {"zero_optimization.save_muon_momentum_buffer_in_memory", IDLE, NULL, NULL},
    {"zero_optimization.zenflow", ANYTHING, NULL, NULL}, {"zero_optimization.leaf_module", ANYTHING, NULL, NULL},
    {"zero_optimization.stage3_prefetch_bucket_size", IDLE, NULL, NULL}, {"zero_optimization.stage3_param_persistence_threshold", IDLE, NULL, NULL},
    {"zero_optimization.stage3_model_persistence_threshold", IDLE, NULL, NULL}, {"zero_optimization.stage3_max_live_parameters", IDLE, NULL, NULL},
    {"zero_optimization.stage3_max_reuse_distance", IDLE, NULL, NULL},
    {"zero_optimization.stage3_gather_16bit_weights_on_model_save", IDLE, NULL, NULL},
    {"zero_optimization.stage3_gather_fp16_weights_on_model_save", IDLE, NULL, NULL},
    {"zero_optimization.stage3_module_granularity_threshold", IDLE, NULL, NULL},
    {"zero_optimization.stage3_use_all_reduce_for_fetch_params", IDLE, NULL, NULL}, {"zero_optimization.stage3_allgather_sequential", IDLE, NULL, NULL},
    {"zero_optimization.stage3_partition_stream_chunk_size", IDLE, NULL, NULL}, {"zero_optimization.prefetch_bucket_size", IDLE, NULL, NULL},
    {"zero_optimization.param_persistence_threshold", IDLE, NULL, NULL}, {"zero_optimization.model_persistence_threshold", IDLE, NULL, NULL},
    {"zero_optimization.max_live_parameters", IDLE, NULL, NULL}, {"zero_optimization.max_reuse_distance", IDLE, NULL, NULL},
    {"zero_optimization.gather_16bit_weights_on_model_save", IDLE, NULL, NULL},
    {"zero_allow_untested_optimizer", IDLE, NULL, NULL}, {"zero_force_ds_cpu_optimizer", IDLE, NULL, NULL},
    {"steps_per_print", IDLE, NULL, NULL}, {"wall_clock_breakdown", IDLE, NULL, NULL}, {"memory_breakdown", IDLE, NULL, NULL},
    {"dump_state", IDLE, NULL, NULL}, {"prescale_gradients", IDLE, NULL, NULL}, {"gradient_predivide_factor", IDLE, NULL, NULL},
    {"gradient_allreduce_op", IDLE, NULL, NULL}, {"managed_gradient_accumulation", IDLE, NULL, NULL},
    {"sparse_gradients", IDLE, NULL, NULL}, {"communication_data_type", IDLE, NULL, NULL}, {"seq_parallel_communication_data_type", IDLE, NULL, NULL},
    {"disable_allgather", IDLE, NULL, NULL}, {"graph_harvesting", IDLE, NULL, NULL}, {"vocabulary_size", IDLE, NULL, NULL},
    {"dataloader_drop_last", DEMAND, "false", "every record is used here"}, {"data_types", ANYTHING, NULL, NULL},
    {"train_steps", IDLE, NULL, NULL}, {"use_data_before_expert_parallelism", IDLE, NULL, NULL},
    {"activation_checkpointing", ANYTHING, NULL, NULL}, {"aio", ANYTHING, NULL, NULL}, {"amp", ANYTHING, NULL, NULL},
    {"autotuning", ANYTHING, NULL, NULL}, {"checkpoint", ANYTHING, NULL, NULL}, {"comms_logger", ANYTHING, NULL, NULL},
    {"communication", ANYTHING, NULL, NULL}, {"compile", ANYTHING, NULL, NULL}, {"compression_training", ANYTHING, NULL, NULL},
    {"csv_monitor", ANYTHING, NULL, NULL}, {"curriculum_learning", ANYTHING, NULL, NULL}, {"data_efficiency", ANYTHING, NULL, NULL},
    {"datastates", ANYTHING, NULL, NULL}, {"eigenvalue", ANYTHING, NULL, NULL}, {"elasticity", ANYTHING, NULL, NULL},
    {"expert_parallel", ANYTHING, NULL, NULL}, {"flops_profiler", ANYTHING, NULL, NULL}, {"hybrid_engine", ANYTHING, NULL, NULL},
    {"comet", ANYTHING, NULL, NULL}, {"nebula", ANYTHING, NULL, NULL}, {"pipeline", ANYTHING, NULL, NULL},
    {"progressive_layer_drop", ANYTHING, NULL, NULL}, {"sparse_attention", ANYTHING, NULL, NULL}, {"tensor_parallel", ANYTHING, NULL, NULL},
    {"tensorboard", ANYTHING, NULL, NULL}, {"timers", ANYTHING, NULL, NULL}, {"torch_autocast", ANYTHING, NULL, NULL},
    {"wandb", ANYTHING, NULL, NULL}, {"weight_quantization", ANYTHING, NULL, NULL}, {"zenflow", ANYTHING, NULL, NULL},
};
enum { KEYS = sizeof keys / sizeof keys[0] };

typedef struct walk { cad_config *c; const cadp_from *from; const cad_node *params; cad_str idle; } walk; /* params: of the scheduler */

static const key *find_key(const char *path)
{
    for (int i = 0; i < KEYS; i++)
        if (!strcmp(keys[i].path, path)) return &keys[i];
    return NULL;
}

static const char *name_of(const cadp_from *from) { return from->path ? from->path : from->name; }

static bool is_auto(const cad_node *node) { return node->kind == CAD_STRING && !strcmp(node->text, "auto"); }

static cad_status set_option(walk *w, const char *to, const cad_node *node, const char *label)
{
    cadp_from from = *w->from;
    const char *dot = strrchr(to, '.');
    int i = dot ? cadp_conf_find(to, (size_t)(dot - to), dot + 1, strlen(dot + 1)) : cadp_conf_find("", 0, to, strlen(to));

    CAD_ASSERT(i >= 0);
    from.label = label;
    from.serial = 0;
    return cadp_conf_set(w->c, i, node, &from);
}

static cad_status set_word(walk *w, const char *to, const char *word, const cad_node *at, const char *label)
{
    cad_node node = {.kind = CAD_STRING, .size = strlen(word), .line = at->line, .column = at->column};
    cad_status st = cadp_conf_store_text(&node.text, word, node.size);

    if (!st) st = set_option(w, to, &node, label);
    cad_free(&node.text);
    return st;
}

static cad_status complain(walk *w, const cad_node *node, const char *label, const char *expected, const char *why)
{
    char place[512], found[128];

    cadp_conf_place(place, sizeof place, w->from, node, false);
    cadp_conf_describe(found, sizeof found, node);
    return cadp_conf_mistake(w->c, "%s: %s: expected %s, found %s%s%s", place, label, expected, found, why ? ": " : "", why ? why : "");
}

static cad_status set_stage(walk *w, const cad_node *node, const char *label)
{
    cad_node two = {.kind = CAD_INT, .integer = 2, .real = 2, .line = node->line, .column = node->column};
    char place[512];

    if (node->kind != CAD_INT || node->integer != 1) return set_option(w, "runtime.zero_stage", node, label);
    cadp_conf_place(place, sizeof place, w->from, node, false);
    CAD_TRY(cadp_conf_note(w->c, "%s: ZeRO stage 1 runs as stage 2, which computes the same with less memory", place));
    return set_option(w, "runtime.zero_stage", &two, label);
}

static cad_status set_betas(walk *w, const cad_node *node, const char *label)
{
    if (node->kind != CAD_LIST || node->children != 2) return complain(w, node, label, "a list of two numbers", NULL);
    CAD_TRY(set_option(w, "training.adam_beta1", node->child, label));
    return set_option(w, "training.adam_beta2", node->child->next, label);
}

static cad_status set_optimizer(walk *w, const cad_node *node, const char *label)
{
    if (node->kind == CAD_STRING && (!strcmp(node->text, "AdamW") || !strcmp(node->text, "Adam"))) return CAD_OK;
    return complain(w, node, label, "AdamW or Adam", "AdamW is the one optimizer here (training.optim chooses where its moments live)");
}

/* WarmupCosineLR without cos_min_ratio ends at 0.0001 of the rate. */
static cad_status set_scheduler(walk *w, const cad_node *node, const char *label)
{
    static const struct { const char *theirs, *ours; } equals[] = {
        {"WarmupLR", "constant_with_warmup"}, {"WarmupDecayLR", "linear"}, {"WarmupCosineLR", "cosine_with_min_lr"}};
    cad_node ratio = {.kind = CAD_REAL, .real = 1e-4, .line = node->line, .column = node->column};
    const cad_node *given = w->params ? cad_get(w->params, "cos_min_ratio") : NULL;

    for (int i = 0; i < 3; i++) {
        if (node->kind != CAD_STRING || strcmp(node->text, equals[i].theirs)) continue;
        if (i == 2 && (!given || is_auto(given))) CAD_TRY(set_option(w, "training.lr_scheduler_kwargs.min_lr_rate", &ratio, label));
        return set_word(w, "training.lr_scheduler_type", equals[i].ours, node, label);
    }
    return complain(w, node, label, "WarmupLR, WarmupDecayLR or WarmupCosineLR", "other shapes are training.lr_scheduler_type");
}

static cad_status set_device(walk *w, const cad_node *node, const key *k)
{
    if (node->kind == CAD_STRING && !strcmp(node->text, "nvme"))
        return complain(w, node, k->path, "none or cpu", "nothing is held on disks during a run");
    return set_option(w, k->to, node, k->path);
}

static cad_status set_cpu_offload(walk *w, const cad_node *node, const key *k)
{
    if (node->kind != CAD_BOOL) return complain(w, node, k->path, "true or false", NULL);
    return node->boolean ? set_word(w, k->to, "cpu", node, k->path) : CAD_OK;
}

static cad_status check_demand(walk *w, const cad_node *node, const key *k)
{
    char found[128], expected[64];
    bool holds;

    cadp_conf_describe(found, sizeof found, node);
    holds = node->kind == CAD_STRING ? !strcmp(node->text, k->to) : !strcmp(found, k->to);
    if ((node->kind == CAD_INT || node->kind == CAD_REAL) && !strcmp(k->to, "0")) holds = node->real == 0;
    if (holds || is_auto(node)) return CAD_OK;
    snprintf(expected, sizeof expected, "%s%s", k->to, !strcmp(k->to, "auto") ? "" : " (or \"auto\")");
    return complain(w, node, k->path, expected, k->why);
}

static cad_status add_idle(walk *w, const char *path)
{
    if (w->idle.size) CAD_TRY(cad_str_add(&w->idle, ", ", 2));
    return cad_str_add(&w->idle, path, strlen(path));
}

static cad_status apply_key(walk *w, const cad_node *node, const key *k)
{
    if (k->kind == IDLE || k->kind == ANYTHING) return add_idle(w, k->path);
    if (k->kind == DEMAND) return check_demand(w, node, k);
    if (is_auto(node) || node->kind == CAD_NULL) return CAD_OK;
    switch (k->kind) {
    case VALUE: return set_option(w, k->to, node, k->path);
    case STAGE: return set_stage(w, node, k->path);
    case DEVICE: return set_device(w, node, k);
    case CPU_OFFLOAD: return set_cpu_offload(w, node, k);
    case BETAS: return set_betas(w, node, k->path);
    case OPTIMIZER: return set_optimizer(w, node, k->path);
    case SCHEDULER: return set_scheduler(w, node, k->path);
    default: return complain(w, node, k->path, "a table", NULL);
    }
}

static cad_status unknown(walk *w, const cad_node *child, const char *prefix)
{
    cad_near near = {.wanted = child->key};
    size_t n = strlen(prefix);
    char place[512];

    for (int i = 0; i < KEYS; i++) {
        const char *rest = keys[i].path + n;
        if (!strncmp(keys[i].path, prefix, n) && !strchr(rest, '.')) cad_near_offer(&near, rest);
    }
    cadp_conf_place(place, sizeof place, w->from, child, true);
    return cadp_conf_mistake(w->c, "%s: unknown key %s in section deepspeed%s%.*s%s", place, cadp_conf_quote(child->key).text, n ? "." : "", n ? (int)n - 1 : 0,
                             prefix, cad_near_hint(&near, ""));
}

/* `zero_optimization: true` is an old way to write stage 1. */
static cad_status old_switch(walk *w, const cad_node *node, const char *label)
{
    cad_node stage = {.kind = CAD_INT, .integer = node->boolean, .real = node->boolean, .line = node->line, .column = node->column};
    return set_stage(w, &stage, label);
}

static cad_status apply_table(walk *w, const cad_node *table, const char *prefix)
{
    char path[256];

    for (const cad_node *child = table->child; child; child = child->next) {
        const key *k;
        snprintf(path, sizeof path, "%s%.120s", prefix, child->key);
        k = find_key(path);
        if (!k) CAD_TRY(unknown(w, child, prefix));
        else if (k->kind == TABLE && child->kind == CAD_TABLE) {
            memcpy(path + strlen(path), ".", 2);
            CAD_TRY(apply_table(w, child, path));
        } else if (child->kind == CAD_BOOL && !strcmp(path, "zero_optimization")) CAD_TRY(old_switch(w, child, path));
        else CAD_TRY(apply_key(w, child, k));
    }
    return CAD_OK;
}

/* Without a warmup_type DeepSpeed warms up along a logarithm; the files that Transformers fills in mean the straight line. */
static cad_status check_scheduler(walk *w, const cad_node *scheduler)
{
    if (scheduler->kind != CAD_TABLE) return CAD_OK;
    if (!cad_get(scheduler, "type")) return complain(w, scheduler, "scheduler", "its type (WarmupLR, WarmupDecayLR or WarmupCosineLR)", NULL);
    if (w->params && cad_get(w->params, "warmup_type")) return CAD_OK;
    return cadp_conf_note(w->c, "%s: scheduler: warm-up is linear here; DeepSpeed's own default is logarithmic", name_of(w->from));
}

cad_status cadp_conf_apply_deepspeed(cad_config *c, const cad_node *root, const cadp_from *from)
{
    walk w = {.c = c, .from = from};
    const cad_node *scheduler;
    cad_status st = CAD_OK;

    if (root->kind == CAD_NULL) return CAD_OK;
    if (root->kind != CAD_TABLE) return complain(&w, root, "deepspeed", "a table or the name of a file", NULL);
    scheduler = cad_get(root, "scheduler");
    w.params = scheduler ? cad_get(scheduler, "params") : NULL;
    st = apply_table(&w, root, "");
    if (!st && scheduler) st = check_scheduler(&w, scheduler);
    if (!st && w.idle.size) st = cadp_conf_note(c, "%s: DeepSpeed keys without effect here: %s", name_of(from), w.idle.data);
    cad_str_close(&w.idle);
    return st;
}

static const char *meaning(const key *k)
{
    if (!strcmp(k->path, "train_batch_size")) return "checked: micro-batch x accumulation x ranks must give it";
    switch (k->kind) {
    case STAGE: return "runtime.zero_stage (1 runs as 2)";
    case DEVICE: return !strcmp(k->to, "runtime.offload_param") ? "runtime.offload_param (none, cpu)" : "runtime.offload_optimizer (none, cpu)";
    case CPU_OFFLOAD: return !strcmp(k->to, "runtime.offload_param") ? "runtime.offload_param cpu when true" : "runtime.offload_optimizer cpu when true";
    case BETAS: return "training.adam_beta1, training.adam_beta2";
    case OPTIMIZER: return "AdamW or Adam (both AdamW)";
    case SCHEDULER:
        return "training.lr_scheduler_type: WarmupLR is constant_with_warmup, WarmupDecayLR linear, WarmupCosineLR cosine_with_min_lr";
    default: return k->to;
    }
}

cad_status cadp_conf_deepspeed_markdown(cad_str *out)
{
    bool first = true;

    CAD_TRY(cad_str_addf(out, "| DeepSpeed key | here |\n|---|---|\n"));
    for (int i = 0; i < KEYS; i++) {
        const key *k = &keys[i];
        if (k->kind == TABLE || k->kind == IDLE || k->kind == ANYTHING) continue;
        if (k->kind == DEMAND) {
            bool only = !strcmp(k->to, "auto");
            CAD_TRY(cad_str_addf(out, "| `%s` | must be %s%s%s`\"auto\"`: %s |\n", k->path, only ? "" : "`", only ? "" : k->to, only ? "" : "` or ", k->why));
        } else CAD_TRY(cad_str_addf(out, "| `%s` | %s |\n", k->path, meaning(k)));
    }
    CAD_TRY(cad_str_addf(out, "\nKnown and without effect (named once in the log): "));
    for (int i = 0; i < KEYS; i++) {
        if (keys[i].kind != IDLE && keys[i].kind != ANYTHING) continue;
        CAD_TRY(cad_str_addf(out, "%s`%s%s`", first ? "" : ", ", keys[i].path, keys[i].kind == ANYTHING ? ".*" : ""));
        first = false;
    }
    return cad_str_addf(out, ".\n");
}
