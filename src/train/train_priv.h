/* What the files of a run share. */
#ifndef CADP_TRAIN_PRIV_H
#define CADP_TRAIN_PRIV_H
#include <cadtrain/train.h>

/* Rank 0 knows, so it tells: what every rank must agree on before anything is allocated. */
typedef struct cadp_facts {
    int64_t train_rows, eval_rows;       /* after split and oversampling */
    int64_t atoms_per_epoch, atoms_per_step, steps_per_epoch, max_steps, epochs, warmup;
    int64_t batches_per_rank;            /* L of the `epoch` in the log */
    int64_t micros;                      /* micro-steps of a full step at this world size */
    int64_t tokens, sequences, longest;  /* of the largest micro-batch; longest sequence of any data set */
    int64_t predict_batch;
    double class_weight[2];
    double mean_length;
    int64_t vocabulary;                  /* of the tokenizer */
    int64_t kept;                        /* generation: positions of a sequence that are kept; 0: nothing is generated */
    int64_t beside;                      /* floats of a row beside its text: 1 + the terms of its columns; 0: none */
    int64_t prompts, prompt_tokens, samples; /* generate: prompts given, their tokens; training: questions answered before and after */
    int32_t ends[64], end_count;          /* tokens that end a text */
    int64_t start_step;                  /* optimizer steps already done (resume) */
    double peak_flops;                   /* of all devices together, measured or known; 0: unknown */
} cadp_facts;

/* A data set on rank 0 with the rows to use, in order. */
typedef struct cadp_set { cad_dataset *data; int64_t *rows; int64_t count; bool owned; } cadp_set;

/* Prompts to be continued, and what followed: on every rank alike. answer i: new_ids[i * most ...], lengths[i] of them; ended[i]: by an end, not by its length. */
typedef struct cadp_prompts { int64_t count, most; int32_t *ids; int64_t *starts; int32_t *new_ids, *lengths; bool *ended; char **texts; } cadp_prompts; /* texts: rank 0, or NULL */

/* The chat template of a tokenizer's folder, read once; own NULL: not open. */
typedef struct cadp_chat_source { const char *dir; cad_tree *config; char *own; size_t size; bool built_in; } cadp_chat_source; /* built_in: own is one of the program's */

/* Step t's micro-batches on this rank, and on rank 0 those of every rank. Two steps alternate. */
typedef struct cadp_feed cadp_feed;

enum { CADP_CURVES = 5 };
extern const char *const cadp_curve_names[CADP_CURVES];

/* The rows of trainer_state.json's log_history, as JSON text pieces, and the state around the best checkpoint. */
typedef struct cadp_history {
    cad_str rows;          /* "{…}" objects, comma-separated */
    int64_t count;
    double best_metric;    /* NaN: none yet */
    int64_t best_step;     /* 0: none */
    int64_t bad_evals;     /* evaluations since the best (early stopping) */
    double *curve_step[CADP_CURVES], *curve[CADP_CURVES]; /* cadp_curve_names, for the report; rank 0 */
    int64_t curve_n[CADP_CURVES], curve_room[CADP_CURVES];
    double flos;
    int64_t eval_step;     /* of the last evaluation; 0: none by this process */
} cadp_history;

struct cad_run {
    cad_options *o;
    cad_run_options what;
    cad_comm *comm;
    int rank, size;
    cad_device *device;
    const char *link;            /* how units travel: a kind of link.h */
    cad_arena arena;
    cad_arch arch;
    cad_method method;
    cad_adapter_config adapter;  /* of the adapter started from or evaluated; r == 0: none */
    cad_params *params;
    cad_zero *zero;
    cad_model *model;
    cadp_facts facts;
    bool exact;
    bool pages;                  /* optim paged_…, and the plan without pages does not fit the device */
    char *model_dir, *tokenizer_dir, *adapter_dir; /* resolved */
    char *source_config;         /* text of config.json of model_dir */
    char *demo_dir;              /* rank 0: the demo's files when nothing may be left behind */
    char *resume_dir;            /* checkpoint to go on from; NULL: none */

    /* rank 0 only */
    cad_tokenizer *tokenizer;
    cadp_set train, eval, test;
    cad_orders orders;
    cad_sampler *sampler;
    cad_template *form;          /* sft: how a record becomes a text */
    char *form_text, *form_end;  /* what form was made of; the end-of-text */
    cadp_chat_source chat;       /* sft with the template chat; else not open */
    cad_chat_form chat_form;     /* and how the data room asks for its texts */
    char *chat_id, *chat_begin;  /* what decides its texts; what the tokenizer puts before them by itself */
    cadp_prompts prompts;        /* generate (all ranks); training: the samples' questions */
    int64_t *asked;              /* training: rows of the samples, [facts.samples] */
    char **before;               /* training: the samples' answers at the start, [facts.samples] */
    double loss_before;          /* training, sft: of the held-out records at the start */
    cad_log_sinks *sinks;
    cadp_history history;
    cad_str notes;               /* sentences for the report, one a line */
    cad_str results;             /* rows of the model card: how the held-out records went */
    cad_beside *columns;        /* what stands beside the text; NULL: nothing */
    float *columns_start;        /* all ranks, training: where head_columns.weight begins; NULL: at what was loaded, or zero */
    char *scratch;               /* explain, on the device: where gradients of a unit's parameters go; they mean nothing */
    double began;                /* cad_now at the start of training */
    double looked, step_seconds, save_seconds; /* rank 0: of the last look at the clock; the longest step and save so far */
    double opened, wall;         /* and of the run: wall seconds count from here; 0: no limit */

    cadp_feed *feed;
    float *logits;               /* host, [sequences * labels] of one micro-batch */
    cad_pooling embed_how;
    double *nll;
    int32_t *targets;            /* of a language model: what each token of the micro-batch is to predict, and with what weight */
    float *target_weights;
    const int32_t *at_slots, *at_past; /* generation: of the present batch's sequences; else NULL */
    float *next;                 /* logits of what follows, [sequences * vocabulary] */
    double *slots;               /* [micros * ranks + 3]: losses of a step, tokens, flags */
    int64_t step;                /* optimizer steps done */
    int64_t tokens;              /* computed since the start of this process */
    double lr;
    int lock;                    /* OUT/.lock, -1: none */
    bool clears;                 /* rank 0: OUT holds an earlier run that is removed when this one begins */
    int64_t planned;             /* device memory of the largest rank, by the plan */
    double held[64];             /* of the first ranks: device memory after loading; rank 0 */
    int held_count;
    int64_t saved_step;          /* of the last complete checkpoint that this process wrote; 0: none */
    int failed_saves;            /* in a row */
};

/* ---- setup.c, facts.c ---- */
CAD_CHECKED cad_status cadp_open_data(cad_run *r);     /* rank 0: tokenizer, data sets, orders, sampler -> facts */
CAD_CHECKED cad_status cadp_resolve_model(cad_run *r); /* directories, arch, adapter, method */
double cadp_wall(const cad_run *r);                     /* seconds that the run has: wall_time, or what Slurm leaves its job; 0: no limit */
void cadp_say_slurm(void);
CAD_CHECKED cad_status cadp_put_slurm(cad_json *j);
int cadp_threads(const cad_run *r);                    /* of this rank: option, OMP_NUM_THREADS, Slurm, or its share of the cores */
void cadp_close_rooms(cad_run *r);                     /* and the device and the ranks */
CAD_CHECKED cad_status cadp_open_rooms(cad_run *r);    /* params, zero, model: everything that holds device memory */
CAD_CHECKED cad_status cadp_try_largest(cad_run *r);   /* plan_run.c, collective: the largest micro-batch once, so that what does not fit fails now */
CAD_CHECKED cad_status cadp_reserve_work(cad_run *r);  /* plan.c: what operations need, found by one step on the counting device */
void cadp_drop_demo(cad_run *r);                       /* what check and plan wrote for it */
CAD_CHECKED cad_status cadp_prepare_demo(cad_run *r);  /* demo.c: records and a small model of random weights, where nothing was given */
void cadp_history_close(cad_run *r);
cad_schedule cadp_schedule(const cad_run *r);
void cadp_say_start(cad_run *r);                       /* the first block of contract section 6 */
CAD_CHECKED cad_status cadp_say_memory(cad_run *r);    /* collective: what each rank holds after loading, beside the plan */

/* ---- method_codes.c ---- */
/* The same without a run. */
void cadp_codes_of(const cad_options *o, const cad_arch *a, cad_method *m);
bool cadp_codes_compute_in_bf16(const cad_options *o);
/* How the frozen weights are held: as the model directory holds them, else as the options say. */
CAD_CHECKED cad_status cadp_choose_codes(cad_run *r);
/* ---- devices.c ---- */
const char *cadp_device_name(const cad_options *o);    /* what `auto` stands for, else what was asked */
bool cadp_exact(const cad_options *o, const char *device, const char *link); /* the reduction: as asked, else fast on GPUs and over NCCL */
CAD_CHECKED cad_status cadp_open_device(cad_run *r);   /* collective: device, link, exact */
void cadp_say_device_memory(const cad_run *r);

/* ---- feed.c ---- */
CAD_CHECKED cad_status cadp_feed_open(cad_run *r);
void cadp_feed_close(cad_run *r);
/* Brings step `step` (1-based) here and begins to prepare the next. */
CAD_CHECKED cad_status cadp_feed_step(cad_run *r, int64_t step);
const cad_batch *cadp_feed_batch(const cad_run *r, int64_t micro); /* of the present step */

/* ---- step.c ---- */
typedef struct cadp_step_result { double loss, grad_norm, lr; int64_t tokens; int stop; bool save; } cadp_step_result;
CAD_CHECKED cad_status cadp_train_step(cad_run *r, cadp_step_result *out);
CAD_CHECKED cad_status cadp_forward(cad_run *r, const cad_batch *b, bool training); /* b NULL or empty: takes part in collectives only */

CAD_CHECKED cad_status cadp_backward(cad_run *r, const cad_batch *b);

void cadp_set_targets(cad_run *r, const cad_batch *b); /* of a language model */
int64_t cadp_learned(const cad_run *r, int64_t tokens, const uint8_t *given); /* tokens of a record that are predicted and learned */
static inline bool cadp_is_sft(const cad_run *r) { return r->o->task.task_name == CAD_TASK_SFT; }

/* ---- draw.c ---- */
typedef struct cadp_candidate { float logit; int32_t id; } cadp_candidate;
void cadp_penalise(double by, const uint8_t *seen, int64_t n, float *logits);
/* c[n]: candidates, over the temperature, the likeliest at the beginning. How many of them may be drawn. */
int64_t cadp_keep_likely(const cad_sampling *s, const float *logits, int64_t n, cadp_candidate *c);
int32_t cadp_draw(const cadp_candidate *c, int64_t n, double at); /* at: in [0, 1) */

/* ---- generate.c ---- */
/* Collective: answers r->prompts. step: called on rank 0 when prompt i has a further token (NULL: not). */
typedef void cadp_on_token(void *with, int64_t prompt, bool last); /* on rank 0, of its own prompts */
CAD_CHECKED cad_status cadp_generate(cad_run *r, const cad_generation *g, cadp_on_token *step, void *with);
/* Rank 0. The text of answer i. */
CAD_CHECKED cad_status cadp_answer_text(const cad_run *r, int64_t i, cad_str *out);
CAD_CHECKED cad_status cadp_open_prompts(cad_run *r);      /* rank 0: generate's prompts and facts */
CAD_CHECKED cad_status cadp_tell_prompts(cad_run *r);      /* collective, once facts are known */
CAD_CHECKED cad_status cadp_read_ends(cad_run *r);         /* rank 0: facts.ends */
void cadp_close_prompts(cad_run *r);
/* What a user says (behind what generate's --system says) in the model's chat template, ready for the assistant's answer (chat.c). */
CAD_CHECKED cad_status cadp_chat(const cad_run *r, const char *said, size_t size, cad_str *out);
/* A conversation: JSON text, a list of tables with role and content. ask: ready for the assistant's answer. */
CAD_CHECKED cad_status cadp_chat_messages(const cad_run *r, const char *messages, bool ask, cad_str *out);
/* Of the model's folder, or of the program: the one that the option names, or for a folder that brings none the one whose tokens its tokenizer has. */
CAD_CHECKED cad_status cadp_chat_open(const cad_run *r, cadp_chat_source *s);
/* chat_family.c: fills s->own from configs/chat. name NULL: by the tokens, and nothing where none fits. */
CAD_CHECKED cad_status cadp_family_chat(const cad_run *r, cadp_chat_source *s, const char *name);
void cadp_chat_close(cadp_chat_source *s);
/* The variables of a template, to render any number of the first messages with. */
CAD_CHECKED cad_status cadp_chat_variables(const cadp_chat_source *s, const char *messages, cad_tree **out);
CAD_CHECKED cad_status cadp_chat_render(const cadp_chat_source *s, cad_tree *variables, int64_t first, bool ask, cad_str *out, cad_chat_marks *marks);
/* spans.c. Bytes of `whole`, the text of all messages, before the answer that is message i (from 0) and up to its end, the template's end of a turn with it; SIZE_MAX: not known. */
CAD_CHECKED cad_status cadp_answer_begins(const cadp_chat_source *s, cad_tree *variables, int64_t i, const cad_str *whole, size_t *from);
CAD_CHECKED cad_status cadp_answer_ends(const cadp_chat_source *s, cad_tree *variables, int64_t i, const cad_str *whole, size_t *to);
/* A special token of tokenizer_config.json; "" where there is none. The caller frees. */
CAD_CHECKED cad_status cadp_special_token(const cad_run *r, const char *key, char **out);

/* ---- sft.c: the second job ---- */
static inline bool cadp_is_chat(const char *t) { return t && !strncmp(t, "chat", 4) && (!t[4] || t[4] == ':'); } /* chat, chat:NAME */
static inline bool cadp_chats(const cad_run *r) /* questions are what a user says, in the model's own template */
{
    return (r->what.generation && r->what.generation->chat) || cadp_is_chat(r->o->task.template_text);
}
/* predictions.c: a report with this run's name, curves and notes. */
CAD_CHECKED cad_status cadp_write_page(const cad_run *r, const char *path, cad_report *page);
/* talk.c, rank 0: r->chat_form, for records of question and answer and for conversations. */
CAD_CHECKED cad_status cadp_open_chat_form(cad_run *r);
void cadp_close_chat_form(cad_run *r);
/* What the assistant says last; "" where it is no text. The caller frees. */
CAD_CHECKED cad_status cadp_last_answer(const char *messages, char **out);
CAD_CHECKED cad_status cadp_open_form(cad_run *r);         /* rank 0: the template */
CAD_CHECKED cad_status cadp_pick_samples(cad_run *r);      /* rank 0: which held-out questions are answered; facts */
CAD_CHECKED cad_status cadp_sft_evaluate(cad_run *r, const cadp_set *set, double *loss, int64_t *tokens, double *seconds); /* collective */
CAD_CHECKED cad_status cadp_rouge_l(const char *a, const char *b, double *out);
CAD_CHECKED cad_status cadp_sft_before(cad_run *r);        /* collective: answers of the base */
CAD_CHECKED cad_status cadp_sft_finish(cad_run *r, const char *dir); /* collective: metrics, samples, report */

/* ---- peak.c ---- */
CAD_CHECKED cad_status cadp_measure_peak(cad_run *r); /* collective: facts.peak_flops */

/* ---- plan_run.c ---- */
CAD_CHECKED cad_status cadp_plan_json(cad_run *r, int world, int64_t memory, cad_json *j, const char *key);
CAD_CHECKED cad_status cadp_plan_table(cad_run *r, int world, int64_t memory); /* the same, printed */

/* ---- fit.c ---- */
/* Collective in its verdict: the plan against the memory that is there; gradient_checkpointing auto is decided here. CAD_EUSAGE, with the three nearest
 * settings that fit, when it does not. */
CAD_CHECKED cad_status cadp_settle_memory(cad_run *r);
CAD_CHECKED cad_status cadp_settle_use(cad_run *r); /* fit_use.c: the same of runs that do not train */

/* ---- evaluate.c ---- */
/* Logits [count * labels] of the set's rows on rank 0 (elsewhere ignored). */
/* What is asked about each row of a set: `each` bytes, computed on all ranks for batches of at most `most` rows (also for empty ones: parameters may
 * be gathered there), told on rank 0 in the set's order. */
typedef struct cadp_asked {
    int64_t each, most;
    cad_status (*compute)(cad_run *r, const cad_batch *b, void *out);
    cad_status (*tell)(void *to, int64_t i, const void *result);
    void *to;
} cadp_asked;
CAD_CHECKED cad_status cadp_ask(cad_run *r, const cadp_set *set, int64_t count, const cadp_asked *asked, const char *said); /* collective */
CAD_CHECKED cad_status cadp_loss_sums(cad_run *r, const cad_batch *b, void *out); /* a cadp_asked.compute: two doubles a row, the sum of its losses and how many */
CAD_CHECKED cad_status cadp_predict(cad_run *r, const cadp_set *set, int64_t count, void *results, const char *said); /* logits; sft: cadp_loss_sums */
typedef struct cadp_scores { cad_metrics metrics; float *logits; double *prob1; double *logit, *weights; int32_t *labels, *predictions; int64_t n, tokens; double seconds; } cadp_scores; /* sft: metrics.loss and tokens alone */
CAD_CHECKED cad_status cadp_score(cad_run *r, const cadp_set *set, int64_t count, bool deep, cadp_scores *out); /* collective; filled on rank 0 */
void cadp_scores_close(cadp_scores *s);
CAD_CHECKED cad_status cadp_evaluate_during(cad_run *r, bool *better, bool *stop); /* writes the eval row, keeps the best */
/* Rank 0: metrics.json, predictions.jsonl, report.html into `dir`. */
CAD_CHECKED cad_status cadp_write_predictions(cad_run *r, const char *dir, const cadp_set *set, const cadp_scores *s);

/* The same as JSONL text (contract section 5). Rank 0. */
CAD_CHECKED cad_status cadp_predictions_text(const cad_run *r, const cadp_set *set, const cadp_scores *s, cad_str *out);

/* ---- history.c (rank 0) ---- */
/* Epochs done after a step, as Transformers counts them: batches of the present epoch over batches per rank. */
double cadp_epoch_at(const cad_run *r, int64_t step);
CAD_CHECKED cad_status cadp_history_row(cad_run *r, int64_t step, const cad_number *numbers, int count); /* sinks + log_history */
CAD_CHECKED cad_status cadp_write_trainer_state(const cad_run *r, const char *path, bool saving);
CAD_CHECKED cad_status cadp_read_trainer_state(cad_run *r, const char *path);

/* ---- checkpoint.c ---- */
/* Collective. Writes OUT/checkpoint-<step> (complete or absent), moves the links, deletes what save_total_limit says. A full disk: a warning,
 * training goes on (failures are counted; the third in a row is CAD_ERESOURCE). */
CAD_CHECKED cad_status cadp_checkpoint_save(cad_run *r, bool is_best);
/* Rank 0, before anything is allocated: which checkpoint resume_from_checkpoint means (NULL: none), verified against its manifest; facts of
 * its state.h5 that decide the run (step, atoms_per_step) into r->facts. */
CAD_CHECKED cad_status cadp_checkpoint_find(cad_run *r);
/* Collective. Parameters, moments, step, fixed-point grids from r->resume_dir. */
CAD_CHECKED cad_status cadp_checkpoint_load(cad_run *r);
/* Collective. Trainable parameters only (the best checkpoint at the end). */
CAD_CHECKED cad_status cadp_checkpoint_load_params(cad_run *r, const char *dir);
/* Rank 0: creates or refuses the output directory, takes its lock. */
CAD_CHECKED cad_status cadp_output_open(cad_run *r);
/* Rank 0: removes the earlier run; not before everything that this one needs was read and found good. */
CAD_CHECKED cad_status cadp_output_clear(const cad_run *r);
void cadp_output_close(cad_run *r);

/* ---- files.c ---- */
/* Collective. The model files of contract section 5 (adapter or full) into `dir`, tensors streamed from their owners. */
CAD_CHECKED cad_status cadp_write_model(cad_run *r, const char *dir);
/* Rank 0: trainer_state.json, train_results.json, eval_results.json, all_results.json, run.json into OUT. */
CAD_CHECKED cad_status cadp_write_results(cad_run *r, const char *name, const cad_number *numbers, int count);
CAD_CHECKED cad_status cadp_write_run_json(const cad_run *r);
/* card.c, rank 0: README.md into `dir`. */
CAD_CHECKED cad_status cadp_write_card(const cad_run *r, const char *dir);

/* ---- find_model.c ---- */
bool cadp_is_hub_name(const char *name);               /* [ORG/]NAME as the Hub writes them; it may also be a path */

/* ---- head_input.c: columns beside the text, weights of rows ---- */
extern const char cadp_beside_file[];                  /* head_columns.json */
CAD_CHECKED cad_status cadp_open_beside(cad_run *r);   /* rank 0, once rows are known: facts.beside */
CAD_CHECKED cad_status cadp_tell_beside(cad_run *r);   /* collective, once facts are known: method.columns, where the layer begins */
CAD_CHECKED cad_status cadp_start_beside(cad_run *r);  /* rank 0, once class weights are known: facts */
void cadp_close_beside(cad_run *r);
void cadp_read_start(const cad_run *r, int64_t from, int64_t n, cad_dtype as, void *out);
double cadp_row_weight(const cad_run *r, const cad_dataset *d, int64_t row); /* of its class, times its own */
CAD_CHECKED cad_status cadp_write_beside(const cad_run *r, const char *dir); /* rank 0: head_columns.json */

/* ---- later.c ---- */
CAD_CHECKED cad_status cadp_refuse_later(const cad_run *r);

/* ---- as_trained.c ---- */
/* Rank 0. Warns where CHECKPOINT/run.json says that records were read otherwise in training than now. */
CAD_CHECKED cad_status cadp_tell_reading(const cad_run *r);
/* Of the first values of the norms and embeddings of a model (base_digest.c); and a warning where an adapter's run.json names another. */
CAD_CHECKED cad_status cadp_base_digest(const char *dir, char hex[65]);
CAD_CHECKED cad_status cadp_tell_base(const cad_run *r);
CAD_CHECKED cad_status cadp_tell_base_of(const char *adapter_dir, const char *model_dir);
#endif
