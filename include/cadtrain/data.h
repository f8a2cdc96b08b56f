/* data: records -> split -> oversample -> shuffle -> atoms -> packed batches, index for index as datasets + Trainer + accelerate.
 * Only rank 0 calls in here (rank and size come in as ints). */
#ifndef CADTRAIN_DATA_H
#define CADTRAIN_DATA_H
#include <cadtrain/format.h>
#include <cadtrain/text.h>
#ifdef __cplusplus
extern "C" {
#endif

/* ---- orders (order.c): golden/extra/data_order has the vectors ---- */
/* numpy.random.default_rng(seed).permutation(n) */
void cad_numpy_permutation(uint64_t seed, int64_t n, int64_t *out);
/* torch.randperm(n, generator=manual_seed(seed)) */
void cad_torch_permutation(uint64_t seed, int64_t n, int64_t *out);
/* One torch CPU generator drawn from again and again (length-grouped order). */
typedef struct cad_mt { uint32_t state[624]; int at; } cad_mt;
void cad_mt_seed(cad_mt *m, uint64_t seed);
uint32_t cad_mt_next(cad_mt *m);
void cad_mt_permutation(cad_mt *m, int64_t n, int64_t *out);

typedef struct cad_split_options {
    double validation_split; uint64_t split_seed; bool stratify;
    bool oversample; int64_t target_label, repeat_times;
    uint64_t shuffle_seed, train_shuffle_seed, eval_shuffle_seed;
    bool has_validation_file; /* then nothing is split off */
    const char *path;         /* of the records, for failures; may be NULL */
} cad_split_options;
typedef struct cad_orders { int64_t *train, *eval; int64_t train_count, eval_count; } cad_orders; /* rows of the raw file */
/* labels[n] 0/1. Without split (0 or a validation file) eval_count is 0, all rows are trained on and oversampling and shuffles still apply;
 * the order of a validation file is cad_numpy_permutation(eval_shuffle_seed, its rows). shuffle_seed belongs to oversampling: unused without.
 * stratify: as datasets' train_test_split(stratify_by_column), index for index.
 * CAD_EDATA: a split that leaves nothing or (stratified) cannot hold both labels on both sides, oversampling without positives. */
CAD_CHECKED cad_status cad_make_orders(cad_orders *out, const int32_t *labels, int64_t n, const cad_split_options *o);
void cad_orders_close(cad_orders *o);

/* ---- atoms (sampler.c): the micro-batches of an epoch ---- */
typedef enum cad_normalization { CAD_NORM_GLOBAL, CAD_NORM_HF, CAD_NORM_HF_MEAN } cad_normalization;
typedef struct cad_sampler_options {
    int64_t rows, batch, atoms_per_step; /* atoms_per_step = world size x accumulation (kept over a resume) */
    int world_at_start;                  /* the world size in force when the run began: decides the deal of `hf` fills */
    int64_t accumulation_at_start;
    /* group_by_length: the order of world size one whatever the world (the library lets each rank permute for itself); lengths: tokens of
     * each row, borrowed for the call */
    uint64_t seed; bool group_by_length; const int32_t *lengths;
    bool evaluates_epochs; int64_t evaluates_every; /* when the run evaluates (0: not by steps): group_by_length draws its order from a generator that each evaluation draws from too */
    cad_normalization normalization;     /* hf, hf_mean: the last round is filled from the epoch's beginning */
} cad_sampler_options;
typedef struct cad_sampler cad_sampler;
CAD_CHECKED cad_status cad_sampler_open(cad_sampler **out, const cad_sampler_options *o);
void cad_sampler_close(cad_sampler **s);
/* The order in which group_by_length evaluates: out[rows]. */
CAD_CHECKED cad_status cad_length_grouped(uint64_t seed, const int32_t *lengths, int64_t rows, int64_t batch, int64_t *out);
int64_t cad_sampler_atoms(const cad_sampler *s);  /* of one epoch */
int64_t cad_sampler_steps(const cad_sampler *s);  /* optimizer steps of one epoch */
/* Rows (positions 0..rows-1 of the training order) of atom `atom` (global index: epoch * atoms + i; any order of calls, epochs are
 * made as needed and the last two kept). Returns how many; `rows` has room for batch. The atom's step is atom / atoms_per_step within its epoch:
 * atoms u*A … u*A+A-1 of the epoch belong to step u, the last step takes what is left. With W ranks, atom a of a step is computed by rank
 * a % W in its micro-step a / W. With `hf` on W > 1 that is also accelerate's deal (golden rank_batches.json). */
CAD_CHECKED cad_status cad_sampler_atom(cad_sampler *s, int64_t atom, int64_t *rows, int64_t *count);

/* ---- templates (template.c): question, reasoning and response as one text ---- */
typedef enum cad_field { CAD_FIELD_QUESTION, CAD_FIELD_COT, CAD_FIELD_RESPONSE, CAD_FIELDS } cad_field;
typedef struct cad_template cad_template;
/* Text with {question}, {cot}, {response} (or {} {} {} in this order, as Python formats); {{ and }} are braces. CAD_EUSAGE: other fields, no question, no
 * response, an answer before the question; `where` names the text in failures. */
CAD_CHECKED cad_status cad_template_parse(cad_template **out, const char *text, const char *where);
void cad_template_close(cad_template **t);
/* The text between reasoning and response, without white space round it unless it is nothing else; "" where there is none: behind it an answer's last part begins. */
CAD_CHECKED cad_status cad_template_mark(const cad_template *t, cad_str *out);
bool cad_template_uses(const cad_template *t, cad_field f);
/* Adds the text to *out; *answer: where what is to be learned begins (the first of reasoning and response). With values[CAD_FIELD_RESPONSE].text NULL: the
 * prompt alone, up to there. */
typedef struct cad_words_of { const char *text; size_t size; } cad_words_of;
CAD_CHECKED cad_status cad_template_fill(const cad_template *t, const cad_words_of values[CAD_FIELDS], cad_str *out, size_t *answer);

/* How a model's own template writes a question (ready for the answer) and a conversation, JSON text of a list of role and content. cuts: bytes of the
 * text where what is learned begins and ends, in turn; the last answer begins where the last pair does. id: what decides the texts. */
typedef struct cad_cuts { size_t *at; int64_t count, room; } cad_cuts;
typedef struct cad_chat_form {
    void *with;
    cad_status (*ask)(void *with, const char *said, size_t n, cad_str *out);
    cad_status (*talk)(void *with, const char *messages, cad_str *out, cad_cuts *cuts);
    const char *id;
} cad_chat_form;

/* ---- dataset (dataset.c): columns -> ids, labels; the token cache ---- */
typedef struct cad_dataset {
    cad_rows *rows_file;      /* kept for the other columns of predictions; NULL with forget_text */
    int64_t count;
    int32_t *labels;          /* 0/1; -1 when there is no label (predict) */
    int32_t *ids;             /* all rows end to end */
    int64_t *starts;          /* count + 1 */
    int32_t *answers;         /* tokens of each row before its (last) answer (templates, conversations); else 0 */
    uint8_t *given;           /* of each id: 1 where it is given, not learned, when only answers are learned */
    bool *cut;                /* truncated? */
    int64_t cut_by_label[2], count_by_label[2];
    int64_t longest;
    bool from_cache;
    char digest[65];          /* SHA-256 over file, tokenizer and options */
    float *beside;            /* [count * beside_width]: what the log-odds begin with, then the terms of the columns; NULL: none (cad_beside_apply) */
    int64_t beside_width;
    double *row_weights;      /* [count]; NULL: all 1 (cad_dataset_weigh) */
} cad_dataset;
typedef struct cad_dataset_options {
    const char *path, *input_column, *label_column;
    bool label_needed;
    int64_t max_length; bool truncation; bool keep_left;
    int threads;
    const char *cache_dir;    /* NULL: no cache. A file <digest>.tokens, 0600, mapped on the next run */
    int64_t vocabulary;       /* ids must be below (CAD_EMODEL otherwise); 0: unchecked */
    const cad_template *form; /* text from several columns instead of input_column, no labels (they are 0); NULL: none */
    const char *form_text, *columns[CAD_FIELDS], *end; /* what form was made of; the columns; what follows each text */
    const cad_chat_form *chat; /* with form: questions are what a user says, and a column `messages` holds whole conversations; NULL: plain texts */
    bool forget_text;         /* rows_file is not wanted: a cached data set is then opened without reading the records again */
} cad_dataset_options;
/* CAD_EDATA: missing column (with the nearest name), label not 0/1 (integers or strings of them; row's line named, value not; where no
 * label is needed such a row has label -1), an empty text is allowed when the tokenizer adds special tokens, else an error with the line. */
CAD_CHECKED cad_status cad_dataset_open(cad_dataset **out, const cad_tokenizer *t, const cad_dataset_options *o);
void cad_dataset_close(cad_dataset **d);

/* ---- columns beside the text (beside.c) ---- */
/* Names as in dataset.head_columns: "name", "name:category" (numbers are codes), "beginning*". offset: a column of risks, or of log-odds where a value
 * that trains lies outside [0, 1]; NULL: none. */
typedef struct cad_beside_options { char *const *name; int count; const char *offset; } cad_beside_options;
typedef struct cad_beside cad_beside;
/* From the given rows (those that train, each once). A column of numbers is standardised; one of words has a term for each level that at least five
 * rows have; a column that some row lacks has a term "is missing". CAD_EDATA: no such column, more than 200 levels, an offset that is no number. */
CAD_CHECKED cad_status cad_beside_learn(cad_beside **out, const cad_rows *rows, const int64_t *row, int64_t n, const cad_beside_options *o);
CAD_CHECKED cad_status cad_beside_read(cad_beside **out, const char *path); /* CAD_EMODEL */
CAD_CHECKED cad_status cad_beside_write(const cad_beside *c, const char *path);
void cad_beside_close(cad_beside **c);
int cad_beside_width(const cad_beside *c);                   /* terms; the first is the constant */
const char *cad_beside_term(const cad_beside *c, int term);  /* "age", "site = Leeds", "age is missing" */
const char *cad_beside_of_term(const cad_beside *c, int term); /* the column; NULL: the constant */
const char *cad_beside_offset(const cad_beside *c, bool *odds); /* NULL: none */
double cad_beside_offset_mean(const cad_beside *c);          /* of the log-odds; also where the score is missing */
/* Fills d->beside from d->rows_file. CAD_EDATA: a column is missing, a number is none (with the line). */
CAD_CHECKED cad_status cad_beside_apply(const cad_beside *c, cad_dataset *d);
/* Fills d->row_weights from a column of numbers of at least 0. */
CAD_CHECKED cad_status cad_dataset_weigh(cad_dataset *d, const char *column);

/* ---- packed batches (pack.c) ---- */
/* T tokens end to end; starts[n + 1]; what travels from rank 0 to a rank. One flat message, so that sending needs no packing. */
typedef struct cad_batch_head {
    int64_t step, micro, atom;   /* optimizer step (1-based), micro-step, global atom index (-1: none, an empty batch) */
    int32_t tokens, sequences;
    int32_t last;                /* 1: the run is over; nothing else holds */
    int32_t micro_of_step;       /* micro-steps of this step on every rank */
    double scale;                /* multiplies every row's weight: 1 / global denominator, or what the normalisation says */
    int64_t seed_index;          /* index for dropout: the atom's global index */
} cad_batch_head;
typedef struct cad_batch {
    cad_batch_head *head;
    int32_t *ids, *starts;       /* [tokens], [sequences + 1] */
    int32_t *labels, *rows;      /* [sequences]; row numbers of the raw file (for naming records, never text) */
    uint8_t *given;              /* [tokens] 1: given, not learned, when only answers are learned */
    float *weights;              /* [sequences] class weights, times those of the rows */
    float *beside;               /* [sequences * width] of cad_dataset.beside */
    int64_t width;
    void *memory; size_t bytes, room;
} cad_batch;
size_t cad_batch_bytes(int64_t tokens, int64_t sequences, int64_t width); /* of the flat message */
CAD_CHECKED cad_status cad_batch_open(cad_batch *b, int64_t max_tokens, int64_t max_sequences, int64_t width); /* allocates once */
void cad_batch_close(cad_batch *b);
/* Points the members into memory for these sizes (after a receive: sizes from the head). CAD_EINTERNAL if it does not fit. */
CAD_CHECKED cad_status cad_batch_layout(cad_batch *b, int64_t tokens, int64_t sequences);
/* Fills b with the given rows (numbers of the dataset); weights from class_weight[label], 0 without a label. head->tokens… are set; the rest of the head is the caller's. */
CAD_CHECKED cad_status cad_batch_pack(cad_batch *b, const cad_dataset *d, const int64_t *rows, int64_t count, const double class_weight[2]);

/* cad_batch_head.scale by contract section 4. step_weights: sum of class weights over all rows of the step; atom_weights: over the rows of this
 * atom; world: the world size in force when the run began; micros: micro-batches per rank of this update (ceil(atoms of the step / world)).
 * 0 when the sum is 0 (only classes of weight 0). */
double cad_step_scale(cad_normalization n, double step_weights, double atom_weights, int world, int64_t micros);

#ifdef __cplusplus
}
#endif
#endif
