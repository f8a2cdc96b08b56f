/* The commands, and the first lines of every run. */
#include "cli_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const cad_flag eval_flags[] = {
    {.name = "checkpoint", .takes_value = true, .help = "Model, adapter or checkpoint directory."}, {0}};
static const cad_flag predict_flags[] = {
    {.name = "checkpoint", .takes_value = true, .help = "Model, adapter or checkpoint directory."},
    {.name = "input", .takes_value = true, .help = "Records (JSON, JSONL, CSV, TSV, gz of these); no labels needed."},
    {.name = "output", .takes_value = true, .help = "Predictions as JSONL; \"-\": standard output; default: predictions.jsonl in the prediction directory."}, {0}};
static const cad_flag explain_flags[] = {
    {.name = "checkpoint", .takes_value = true, .help = "Model, adapter or checkpoint directory."},
    {.name = "input", .takes_value = true, .help = "Records (JSON, JSONL, CSV, TSV, gz of these); no labels needed."},
    {.name = "output", .takes_value = true, .help = "Directory for explanations.jsonl, importance.json and importance.html; default: the prediction directory."},
    {.name = "rows", .takes_value = true, .help = "Only so many of the first records; default all."}, {0}};
static const cad_flag embed_flags[] = {
    {.name = "input", .takes_value = true, .help = "JSONL rows {\"text\": …}."},
    {.name = "pooling", .takes_value = true, .help = "last, mean or cls; default last."}, {0}};
static const cad_flag score_flags[] = {
    {.name = "input", .takes_value = true, .help = "JSONL rows {\"text\": …}."}, {0}};
static const cad_flag generate_flags[] = {
    {.name = "prompt", .takes_value = true, .help = "The text to go on from; with task.template the question."},
    {.name = "input", .takes_value = true, .help = "JSONL rows {\"prompt\": …}."},
    {.name = "max-new-tokens", .takes_value = true, .help = "Longest answer in tokens; default 128."},
    {.name = "temperature", .takes_value = true, .help = "0: always the likeliest token; else they are drawn; default 0."},
    {.name = "top-k", .takes_value = true, .help = "Draw among so many of the likeliest tokens; 0: all; default 0."},
    {.name = "top-p", .takes_value = true, .help = "Draw among the likeliest tokens that together have this probability; default 1."},
    {.name = "min-p", .takes_value = true, .help = "Draw among tokens with at least this share of the likeliest one's probability; default 0."},
    {.name = "repetition-penalty", .takes_value = true, .help = "Makes what is there already less likely; default 1: not."},
    {.name = "stop", .takes_value = true, .many = true, .gathers = true, .help = "Texts that end an answer; several, or given several times."},
    {.name = "chat", .help = "The prompt is what a user says: it is put into the model's chat template. Rows of --input may hold whole conversations: {\"messages\": [{\"role\", \"content\"}, …]}."},
    {.name = "system", .takes_value = true, .help = "With --chat: what the system says before the user."},
    {.name = "json", .help = "One JSON object a prompt: prompt, ids, text, finish_reason."}, {0}};
static const cad_flag push_flags[] = {
    {.name = "checkpoint", .takes_value = true, .help = "Output or checkpoint directory of a training."},
    {.name = "to", .takes_value = true, .help = "Directory to write; must be new or empty."}, {0}};
static const cad_flag json_flags[] = {{.name = "json", .help = "One JSON object on standard output."}, {0}};
static const cad_flag plan_flags[] = {
    {.name = "world-size", .takes_value = true, .help = "Number of ranks; default 1."},
    {.name = "device-memory", .takes_value = true, .help = "Memory of one device: bytes, or 80GB, 141GiB, 512MB; default unknown."},
    {.name = "json", .help = "One JSON object on standard output."}, {0}};
static const cad_flag tokenize_flags[] = {
    {.name = "no-special-tokens", .help = "Leave out the tokens that the post-processor adds."},
    {.name = "decode", .help = "Rows {\"ids\": […]} to rows {\"text\": …}; special tokens are skipped."}, {0}};
static const cad_flag inspect_flags[] = {
    {.name = "", .takes_value = true, .help = "Model, adapter or checkpoint directory, .safetensors, state.h5 or tokenizer.json."},
    {.name = "json", .help = "One JSON object on standard output."}, {0}};
static const cad_flag export_flags[] = {
    {.name = "checkpoint", .takes_value = true, .help = "Adapter, model or checkpoint directory."},
    {.name = "output", .takes_value = true, .help = "Directory to write; must be new or empty."},
    {.name = "format", .takes_value = true, .help = "hf: whole model; peft: adapter; gguf: one file for llama.cpp; default: as the checkpoint is."},
    {.name = "gguf-type", .takes_value = true, .help = "f16 or q8_0: how the matrices of a GGUF file are stored; default f16."},
    {.name = "merge", .help = "Fold the adapter into the model's weights."},
    {.name = "merge-base", .takes_value = true, .help = "dequantised (default): of a base held as codes, what they meant in training; original: what they were made from."}, {0}};
static const cad_flag synth_flags[] = {
    {.name = "output", .takes_value = true, .help = "Directory for the extracts, cohort.yaml and truth.json."},
    {.name = "people", .takes_value = true, .help = "Number of people, 1 to 4000000."},
    {.name = "seed", .takes_value = true, .help = "Default 42."},
    {.name = "dialect", .takes_value = true, .help = "mixed (each file in another, default), csv, txt, tab, rap, rap-labels, rap-title or ukb-format."},
    {.name = "padding", .takes_value = true, .help = "Columns without meaning added to the first extract; default 0."}, {0}};
static const cad_flag report_flags[] = {
    {.name = "predictions", .takes_value = true, .many = true, .help = "Predictions (JSON, JSONL, CSV) with label and positive_probability; several files are read as one."},
    {.name = "compare", .takes_value = true, .many = true, .help = "Predictions of other models for the same rows."},
    {.name = "validation", .takes_value = true, .many = true, .help = "Predictions of the validation rows: recalibration and thresholds come from them."},
    {.name = "cohort", .takes_value = true, .help = "The share/ folder that prepare wrote: flow chart, table of the people, checks."},
    {.name = "log", .takes_value = true, .help = "log.jsonl of the training: its curves."},
    {.name = "importance", .takes_value = true, .help = "importance.json that explain wrote: which fields moved the risk."},
    {.name = "output", .takes_value = true, .help = "Directory for metrics.json and report.html."}, {0}};

const cadp_command cadp_commands[] = {
    {"train", "[train] [--config FILE] [flags]", "fine-tunes; with no configuration and no data a demo that takes a minute",
     CADP_COMPUTES | CADP_RUN | CADP_OPTIONS | CADP_WATCHED, NULL, {0}, {0}, cadp_cmd_train},
    {"eval", "eval [--config FILE] --checkpoint DIR [flags]", "scores labelled rows: metrics, predictions, report",
     CADP_COMPUTES | CADP_OPTIONS | CADP_WATCHED, eval_flags, {"checkpoint"}, {0}, cadp_cmd_eval},
    {"predict", "predict --checkpoint DIR --input FILE [--output FILE] [flags]", "scores rows that need no label",
     CADP_COMPUTES | CADP_OPTIONS | CADP_WATCHED, predict_flags, {"checkpoint", "input"}, {0}, cadp_cmd_predict},
    {"embed", "embed --model-name-or-path DIR --input FILE.jsonl [--pooling last|mean|cls]", "pooled hidden states, as JSONL on standard output",
     CADP_OPTIONS | CADP_RESULTS | CADP_WATCHED, embed_flags, {"input"}, {"--input-column", "text"}, cadp_cmd_embed},
    {"score", "score --model-name-or-path DIR --input FILE.jsonl [--max-length N]", "log-likelihood of texts under a language model, as JSONL on standard output",
     CADP_OPTIONS | CADP_RESULTS | CADP_WATCHED, score_flags, {"input"}, {"--input-column", "text"}, cadp_cmd_score},
    {"generate", "generate --model-name-or-path DIR [--adapter-name-or-path DIR] (--prompt TEXT | --input FILE.jsonl) [--max-new-tokens N] [--json]", "text after a prompt",
     CADP_COMPUTES | CADP_OPTIONS | CADP_RESULTS | CADP_WATCHED, generate_flags, {0}, {0}, cadp_cmd_generate},
    {"push", "push --checkpoint DIR --to PATH [--model-name-or-path ORG/NAME]", "an upload-ready folder from a trained model or adapter; opens no connection", CADP_OPTIONS, push_flags, {"checkpoint", "to"}, {0}, cadp_cmd_push},
    {"tokenize", "tokenize --tokenizer-name-or-path DIR [--no-special-tokens] [--decode] < FILE.jsonl", "rows {\"text\"} to rows {\"ids\"} and back, standard input to standard output",
     CADP_OPTIONS | CADP_RESULTS, tokenize_flags, {0}, {0}, cadp_cmd_tokenize},
    {"check", "check [--config FILE] [--json]", "reads all that a run would read: configuration, data counts, plan; changes nothing",
     CADP_COMPUTES | CADP_RUN | CADP_OPTIONS, json_flags, {0}, {0}, cadp_cmd_check},
    {"plan", "plan [--config FILE] [--world-size N] [--device-memory BYTES] [--json]", "memory, wire bytes and FLOP of a step, from config.json alone",
     CADP_RUN | CADP_OPTIONS, plan_flags, {0}, {0}, cadp_cmd_plan},
    {"inspect", "inspect PATH [--json]", "what a model, adapter, checkpoint or tokenizer holds: names, dtypes, shapes, digests",
     0, inspect_flags, {""}, {0}, cadp_cmd_inspect},
    {"export", "export --checkpoint DIR --output DIR [--format hf|peft|gguf] [--gguf-type f16|q8_0] [--merge]", "a Hugging Face or PEFT directory or a GGUF file from a checkpoint",
     CADP_OPTIONS, export_flags, {"checkpoint", "output"}, {0}, cadp_cmd_export},
    {"report", "report --predictions FILE… [--compare FILE…] --output DIR", "metrics.json and report.html from predictions",
     0, report_flags, {"predictions", "output"}, {0}, cadp_cmd_report},
    {"synth", "synth --output DIR --people N [--seed S] [--dialect NAME]", "a synthetic UK Biobank extract with a known risk, and cohort.yaml for prepare",
     0, synth_flags, {"output", "people"}, {0}, cadp_cmd_synth},
    {"prepare", "prepare --config FILE", "records for training from UK Biobank extracts: labels, splits, leakage checks, scores",
     CADP_OPTIONS, NULL, {0}, {0}, cadp_cmd_prepare},
    {"bench", "bench [--bf16] [--threads N]", "speed of the operations of a training step on this machine, as JSON", CADP_OPTIONS | CADP_RESULTS, NULL, {0}, {0}, cadp_cmd_bench},
    {"version", "version [--json]", "versions of the program and of MPI, and what the devices are", CADP_COMPUTES | CADP_LIBRARY, json_flags, {0}, {0}, cadp_cmd_version},
    {"explain", "explain --checkpoint DIR --input FILE [--output DIR] [flags]", "which part of each record moved the risk",
     CADP_COMPUTES | CADP_OPTIONS | CADP_WATCHED, explain_flags, {"checkpoint", "input"}, {0}, cadp_cmd_explain},
    {0}};

/* What is written is for its owner alone, and no memory with rows of people goes into core files, even piped ones, or to debuggers.
 * Ranks of a node copy from each other's memory, which the kernel forbids where the process may not be dumped (unless root). */
static void harden(void)
{
    const char *debugging = getenv("CADTRAIN_DEBUG");
    int filter;

    umask(077);
    if (debugging && !strcmp(debugging, "1")) return;
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    filter = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
    if (filter >= 0) {
        ssize_t ignored = write(filter, "0", 1);
        (void)ignored;
        close(filter);
    }
    if (!cadp_launched()) prctl(PR_SET_DUMPABLE, 0);
}

static bool is_help(const char *arg) { return !strcmp(arg, "--help") || !strcmp(arg, "-h"); }

/* What is said before any work is said by the first process alone. */
static int end(cad_status status)
{
    if (!status && (fflush(stdout) || ferror(stdout))) status = cad_fail(CAD_ERESOURCE, "standard output: cannot be written");
    if (status && cadp_launcher_rank() == 0) cad_print_failure();
    return (int)status;
}

static int help(const cadp_command *command)
{
    if (cadp_launcher_rank()) return 0;
    return end(command ? cadp_help_command(command) : cadp_help_all());
}

static int help_about(const char *name)
{
    const cadp_command *command = cadp_find_command(name);

    return command || !strcmp(name, "help") || is_help(name) ? help(command) : end(cadp_unknown_command(name));
}

static int run(const cadp_command *command, int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (is_help(argv[i])) return help(command);
    if (!(command->marks & CADP_COMPUTES) && cadp_launcher_rank()) return 0;
    return cadp_call_run(command, argc, argv);
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "--";
    const cadp_command *command = cadp_find_command(word);

    cad_h5_setup();
    harden();
    if (is_help(word)) return help(NULL);
    if (!strcmp(word, "help")) return argc > 2 ? help_about(argv[2]) : help(NULL);
    if (!strcmp(word, "--version")) return run(cadp_find_command("version"), argc - 2, argv + 2);
    if (command) return run(command, argc - 2, argv + 2);
    if (word[0] == '-' || cadp_names_experiment(word)) return run(cadp_find_command("train"), argc > 1 ? argc - 1 : 0, argv + 1);
    return end(cadp_unknown_command(word));
}
