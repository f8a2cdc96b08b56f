/* options: every knob of the program, as one struct. The table that fills, checks, prints and documents it is src/conf/table.c. */
#ifndef CADTRAIN_OPTIONS_H
#define CADTRAIN_OPTIONS_H
#include <cadtrain/base.h>
#ifdef __cplusplus
extern "C" {
#endif
enum { CAD_BIAS_NONE, CAD_BIAS_ALL, CAD_BIAS_LORA_ONLY };
enum { CAD_POOL_LAST, CAD_POOL_MEAN, CAD_POOL_CLS };
enum { CAD_WHEN_NO, CAD_WHEN_STEPS, CAD_WHEN_EPOCH, CAD_WHEN_BEST };
enum { CAD_WEIGHTS_MANUAL, CAD_WEIGHTS_BALANCED, CAD_WEIGHTS_NONE };
enum { CAD_REDUCE_AUTO, CAD_REDUCE_EXACT, CAD_REDUCE_FAST };
enum { CAD_TASK_BINARY, CAD_TASK_SFT };
enum { CAD_BNB_NF4, CAD_BNB_FP4 };          /* bnb_4bit_quant_type */
enum { CAD_OFFLOAD_NONE, CAD_OFFLOAD_CPU }; /* offload_optimizer */
enum { CAD_CHECKPOINT_NO, CAD_CHECKPOINT_BLOCKS, CAD_CHECKPOINT_SELECTIVE, CAD_CHECKPOINT_AUTO }; /* gradient_checkpointing */
enum { CAD_OPTIM_TORCH, CAD_OPTIM_TORCH_FUSED, CAD_OPTIM_HF, CAD_OPTIM_PAGED_32BIT, CAD_OPTIM_8BIT, CAD_OPTIM_PAGED_8BIT }; /* optim */
typedef struct cad_words { char **word; int count; } cad_words;
typedef struct cad_whole_numbers { int *at; int count; } cad_whole_numbers;
/* A number for modules whose name ends as a regular expression says (PEFT's rank_pattern, alpha_pattern). */
typedef struct cad_module_number { char *pattern; double value; } cad_module_number;
typedef struct cad_module_numbers { cad_module_number *at; int count; } cad_module_numbers;

typedef struct cad_options {
    char *experiment_name, *output_dir, *prediction_output_dir, *logging_dir; /* NULL: derived */
    struct {
        char *model_name_or_path, *tokenizer_name_or_path, *adapter_name_or_path, *cache_dir;
        bool trust_remote_code; int64_t num_labels;
        bool load_in_4bit, load_in_8bit; int bnb_4bit_quant_type; bool bnb_4bit_use_double_quant; char *bnb_4bit_compute_dtype; bool quantize_experts; double llm_int8_threshold;
        char *device_map, *padding_side, *attn_implementation;
        bool use_custom_binary_head; int pooling; double head_dropout; cad_words head_trainable_patterns;
        struct {
            bool enabled; int64_t r; double lora_alpha, lora_dropout; int bias;
            cad_words target_modules; bool target_is_regex; /* one string that is not "all-linear": a regular expression; ["all-linear"]: all */
            cad_words exclude_modules; bool exclude_is_regex; cad_whole_numbers layers_to_transform; cad_words layers_pattern, target_parameters;
            cad_module_numbers rank_pattern, alpha_pattern;
            cad_words modules_to_save; bool use_rslora, use_dora; char *init_lora_weights;
        } lora;
    } model;
    struct {
        int task_name; char *input_column, *label_column; int64_t max_length; bool truncation; bool truncation_left; /* truncation_side left */
        int64_t num_labels; char *template_text, *question_column, *cot_column, *response_column; bool completion_only_loss; int64_t generate_samples, generate_max_new_tokens;
    } task;
    struct {
        char *train_file, *validation_file, *test_file; double validation_split; int64_t split_seed; bool stratify;
        int64_t shuffle_seed, train_shuffle_seed, eval_shuffle_seed;
        struct { bool enabled; int64_t target_label, repeat_times; } oversampling;
        struct { int mode; double values[2]; } class_weights;
        cad_words head_columns; char *offset_column, *weight_column;
    } dataset;
    struct {
        double num_train_epochs; int64_t max_steps, per_device_train_batch_size, per_device_eval_batch_size, gradient_accumulation_steps;
        double learning_rate, weight_decay, warmup_ratio, warmup_steps; int lr_scheduler_type; /* cad_schedule_kind */
        double lr_num_cycles, lr_end, lr_power, min_lr, min_lr_rate; /* lr_scheduler_kwargs */
        double adam_beta1, adam_beta2, adam_epsilon, max_grad_norm; int optim;
        bool bf16, fp16, tf32; int64_t logging_steps; bool logging_first_step;
        int eval_strategy; int64_t eval_steps; int save_strategy; int64_t save_steps, save_total_limit; /* limit 0: none */
        bool load_best_model_at_end; char *metric_for_best_model; int greater_is_better; /* -1: by the metric */
        int64_t early_stopping_patience; bool group_by_length; char *resume_from_checkpoint; bool overwrite_output_dir, run_test_after_train;
        int loss_normalization; /* cad_normalization */ int reduction; int log_level; /* cad_level */
    } training;
    struct {
        char *launcher; int64_t seed; int gradient_checkpointing; int64_t dataloader_num_workers; cad_words report_to; char *device; int64_t threads;
        int64_t zero_stage; int offload_optimizer, offload_param; int64_t device_memory; /* 0: what there is */ double wall_time; /* seconds, 0: none */ double watchdog_seconds; /* 0: off */
    } runtime;
    struct {
        cad_words extracts, record_tables, allow, test_centres, validation_centres;
        char *withdrawals, *kinship, *fields, *phenotype, *censoring, *dictionary, *template_text, *output_dir;
        double horizon_years, validation, test, kinship_threshold;
        int prevalent, censored, split, columns; /* cohort.h */
        bool stratify; int64_t seed;
    } cohort;
    bool predictions_include_input; /* --predictions-include-input */
    bool demo; /* nothing was given (or the demo's file with no model and no data): the embedded demo */
    int64_t deepspeed_train_batch_size; /* rows of one step as a DeepSpeed file demands them: micro-batch x accumulation x world size; 0: not given */
} cad_options;

/* ---- the command line (conf.c) ---- */
/* Flags that belong to a command rather than to the configuration (--input, --checkpoint, --json, …): the command's table. */
typedef struct cad_flag {
    const char *name; bool takes_value; const char *help; /* name without "--", "" for the one argument without a flag; the table ends with {0} */
    const char *value; bool given;                        /* filled in; of a flag given twice the later one */
    bool many; const char **values; int count;            /* `many`: all arguments up to the next flag; until cad_config_close */
    bool gathers;                                          /* of each time it is given, where the last time counts otherwise */
} cad_flag;
typedef struct cad_config cad_config;
/* Defaults < paths files < experiment file < CADTRAIN_* < flags. `argv` without the program and the command. --config FILE (or --config=FILE),
 * --set section.key=value, --print-config (see cad_config_wants_print), and the command's own flags. All mistakes at once (one line each)
 * in the reason, CAD_EUSAGE. `train_defaults`: with no --config take cadtrain.yaml of the current directory, or, when neither a model
 * nor a data file is given, the embedded demo. `says` receives one line about where the configuration came from. */
CAD_CHECKED cad_status cad_config_open(cad_config **out, int argc, char **argv, cad_flag *command_flags, bool train_defaults);
void cad_config_close(cad_config **c);
cad_options *cad_config_options(cad_config *c);
const char *cad_config_says(const cad_config *c);
const char *cad_config_file(const cad_config *c); /* the experiment file, NULL: none */
/* Lines for the log ("" when there are none): DeepSpeed keys without effect here, stage 1 run as stage 2, CADTRAIN_* variables that name no option. */
const char *cad_config_notes(const cad_config *c);
bool cad_config_wants_print(const cad_config *c);
/* The resolved configuration with the source of each value, as lines. */
CAD_CHECKED cad_status cad_config_print(const cad_config *c, cad_str *out);
/* As JSON text: {"model": {…}, …}; and {"model.num_labels": "flag --num-labels", …}. */
CAD_CHECKED cad_status cad_config_json(const cad_config *c, cad_str *out);
CAD_CHECKED cad_status cad_config_sources_json(const cad_config *c, cad_str *out);
/* A configuration that travels to other ranks: JSON text in, the same options out. */
CAD_CHECKED cad_status cad_config_from_json(cad_config **out, const char *json, size_t n);
/* Help from the table: all options, or one section; and docs/options.md. */
CAD_CHECKED cad_status cad_config_help(cad_str *out, const cad_flag *command_flags);
CAD_CHECKED cad_status cad_config_markdown(cad_str *out);
/* Directories derived from the model's path and the mode where none is given (contract 3.1): outputs/checkpoints/<slug>_<mode> and
 * outputs/predictions/<slug>_<mode>; beside a given output_dir the predictions go to output_dir/predictions. */
CAD_CHECKED cad_status cad_derive_dirs(cad_options *o);
const char *cad_mode_name(const cad_options *o); /* full, lora, qlora, lora8bit */
#ifdef __cplusplus
}
#endif
#endif
