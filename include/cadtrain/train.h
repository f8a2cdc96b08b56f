/* train: a run. Opens the rooms in order, trains, evaluates, keeps checkpoints, and closes in reverse. Collective unless it says otherwise. */
#ifndef CADTRAIN_TRAIN_H
#define CADTRAIN_TRAIN_H
#include <cadtrain/comm.h>
#include <cadtrain/data.h>
#include <cadtrain/model.h>
#include <cadtrain/options.h>
#include <cadtrain/optim.h>
#include <cadtrain/report.h>
#include <cadtrain/zero.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef struct cad_run cad_run;

/* What a run is opened for. */
typedef enum cad_purpose_of_run { CAD_RUN_TRAIN, CAD_RUN_EVAL, CAD_RUN_PREDICT, CAD_RUN_EMBED, CAD_RUN_CHECK, CAD_RUN_SCORE, CAD_RUN_GENERATE, CAD_RUN_EXPLAIN } cad_purpose_of_run;
/* How text is continued. temperature 0: the likeliest token; else drawn, after (each left out where it is 0, or 1 for top_p and the penalty) the penalty of what
 * is there already, the temperature, the top_k likeliest, those that make up top_p, those not below min_p of the likeliest. */
typedef struct cad_sampling { int64_t max_new_tokens, top_k; double temperature, top_p, min_p, repetition_penalty; uint64_t seed; } cad_sampling;
typedef struct cad_generation {
    cad_sampling sampling;
    const char *prompt;      /* or the input of cad_run_options; rank 0 */
    const char *const *stop; /* texts that end an answer; rank 0 */
    int stop_count;
    bool json, chat;         /* chat: the prompt is what a user says, in the model's chat template */
    const char *system;      /* chat: what the system says before; NULL: nothing */
} cad_generation;
typedef struct cad_run_options {
    const cad_generation *generation; /* generate; else NULL */
    cad_purpose_of_run purpose;
    const char *checkpoint;  /* eval, predict: a model directory, an adapter directory or a checkpoint-N; else NULL */
    const char *input;       /* predict, embed, score: the file of records */
    const char *config_json; /* the resolved configuration as text (run.json); borrowed */
} cad_run_options;
/* Reads everything the purpose needs (data on rank 0 only), plans, allocates, loads weights. Borrows o and comm until close. */
CAD_CHECKED cad_status cad_run_open(cad_run **out, cad_options *o, cad_comm *comm, const cad_run_options *what);
void cad_run_close(cad_run **r);
/* The whole training: start block, loop, evaluation, checkpoints, final files, test predictions. CAD_ESTOPPED after a signal or at wall_time. */
CAD_CHECKED cad_status cad_run_train(cad_run *r);
/* Scores the rows (test_file, else validation_file, else the split's validation rows) and writes metrics, predictions, report. */
CAD_CHECKED cad_status cad_run_evaluate(cad_run *r);
/* Scores `input`; predictions as JSONL to `output` (NULL: PRED/predictions.jsonl; "-": stdout). */
CAD_CHECKED cad_status cad_run_predict(cad_run *r, const char *output);
/* {"embedding": […]} a line on stdout for each {"text"} of `input`. */
CAD_CHECKED cad_status cad_run_embed(cad_run *r, cad_pooling how);
/* One rank. Which fields of each record of `input` moved its log-odds (by its removal, by integrated gradients), into `output` (NULL: PRED): explanations.jsonl
 * (a record a line), importance.json and importance.html (means over all). rows > 0: only so many of the first. */
CAD_CHECKED cad_status cad_run_explain(cad_run *r, const char *output, int64_t rows);
/* {"tokens", "sum_nll", "mean_nll"} a line on stdout for each {"text"} of `input`: tokens that are predicted, the first one is not. */
CAD_CHECKED cad_status cad_run_score(cad_run *r);
/* Answers to the prompts on stdout: as they come where it is one and no JSON; else one JSON object or text a prompt, in their order. */
typedef struct cad_generated { int64_t prompts, tokens, peak_bytes, planned_bytes; double seconds, weight_bytes; } cad_generated; /* tokens made; of the device; of the whole; bytes of weights read for each step of one token */
CAD_CHECKED cad_status cad_run_generate(cad_run *r, cad_generated *out);
/* contract 2, `check`: what a run would read and do; prints lines or (json) one object. Changes nothing. */
CAD_CHECKED cad_status cad_run_check(cad_run *r, const char *config_json, const char *sources_json, const char *config_text, bool json);

/* Not collective. From files alone (rank 0). */
/* What an adapter is folded into: what its base meant in training (codes turned back into numbers), or what the codes were made from. */
typedef enum cad_merge { CAD_MERGE_NONE, CAD_MERGE_AS_TRAINED, CAD_MERGE_ORIGINAL } cad_merge;
CAD_CHECKED cad_status cad_export(const cad_options *o, const char *checkpoint, const char *output, const char *format, cad_merge merge);

/* An upload-ready folder from a trained directory: the adapter or model, tokenizer, chat template, card, checksums. CAD_EUSAGE: `to` is there already. */
CAD_CHECKED cad_status cad_push(const cad_options *o, const char *checkpoint, const char *to);

/* ---- plan (plan.c): one step of the real program on a device that only counts. Not collective; one process. ---- */
typedef struct cad_plan_options { int world; int64_t device_memory; } cad_plan_options; /* 0: this world, unknown */
/* Prints the table, or (json) one object, on stdout. Reads config.json only; token counts are batch x max_length unless a data file is given. */
CAD_CHECKED cad_status cad_plan_print(cad_options *o, const cad_plan_options *p, bool json);

/* Where a model lies: a directory as it is, ORG/NAME through the Hugging Face cache (offline). CAD_EMODEL names the command that downloads it. */
CAD_CHECKED cad_status cad_find_model(char **out, const char *name_or_path, const char *cache_dir);

/* ---- one micro-batch through the units of a model and back (walk.c), as ZeRO brings them; collective where units travel. b NULL, `empty`: this rank has none ---- */
CAD_CHECKED cad_status cad_walk_forward(cad_zero *z, cad_model *m, int units, const cad_model_batch *b, bool training);
CAD_CHECKED cad_status cad_walk_backward(cad_zero *z, cad_model *m, int units, bool empty);

/* ---- signals (signals.c): not collective; flags only ---- */
void cad_signals_setup(void);
int cad_signals_stop(void); /* the signal that asked to stop; 0: none */

#ifdef __cplusplus
}
#endif
#endif
