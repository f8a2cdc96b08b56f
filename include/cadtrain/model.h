/* model: one decoder for every family, families as data. Knows no ranks and no ZeRO: it describes its parameters in a table and computes one
 * unit (embeddings, a block, the tail) from a flat view it is handed. */
#ifndef CADTRAIN_MODEL_H
#define CADTRAIN_MODEL_H
#include <cadtrain/arena.h>
#include <cadtrain/options.h>
#ifdef __cplusplus
extern "C" {
#endif

/* ---- arch (arch.c): configs/families/NAME.yaml + config.json ---- */

enum { CAD_MAX_LAYERS = 256 };
typedef enum cad_rope_kind { CAD_ROPE_DEFAULT, CAD_ROPE_LINEAR, CAD_ROPE_BANDED } cad_rope_kind;
typedef struct cad_rope_spec { cad_rope_kind kind; double theta, factor, low, high, original; } cad_rope_spec;
/* Norms stand before each half of a block (h += f(N h)), around it (h += M(f(N h))), or after the sum (h = N(h + f h)). */
typedef enum cad_norm_place { CAD_NORM_BEFORE, CAD_NORM_AROUND, CAD_NORM_AFTER } cad_norm_place;
/* Heads of query and key are normed before their rotation, with gains, or after it, without. */
typedef enum cad_head_norm { CAD_HEAD_NORM_NONE, CAD_HEAD_NORM_BEFORE, CAD_HEAD_NORM_AFTER } cad_head_norm;
/* Names of the tensors of a family: whole names, or (of a block) what follows block_prefix with the layer's number in it. Empty: none. Linear layers
 * without ".weight" / ".bias"; root: the word before the first dot that checkpoints may leave out. */
typedef struct cad_tensor_names {
    char root[64], embed[64], embed_position[64], embed_type[64], embed_norm[64], final_norm[64], block_prefix[64]; /* "model.layers.%d." */
    char attn_norm[64], attn_out_norm[64], mlp_norm[64], mlp_out_norm[64], q_norm[64], k_norm[64];
    char q[64], k[64], v[64], o[64], gate[64], up[64], down[64];
    char router[64], expert_gate_up[64], expert_down[64], shared_gate[64], shared_up[64], shared_down[64]; /* experts: whole names */
    char one_gate[64], one_up[64], one_down[64]; /* experts stored one by one: the number is %d */
    char pooler[64], head[64], lm_head[64];
    char nested_root[64]; /* what Transformers' class of a nested directory calls the root: "model.language_model" */
} cad_tensor_names;
typedef struct cad_arch {
    char family[32], class_stem[32], causal_stem[32], text_type[32]; /* "qwen2", "Qwen2" (…ForSequenceClassification, …ForCausalLM); model_type of the text part of a nested file */
    int layers;
    int64_t hidden, intermediate, dense_intermediate, vocab, q_heads, kv_heads, head_dim, max_positions, types; /* dense_intermediate: of layers without experts */
    double eps, embed_scale, attn_scale, attn_softcap, final_softcap, initializer_range;
    double attn_dropout, hidden_dropout, classifier_dropout; /* of the family itself, in training */
    cad_rope_spec rope, rope_local;
    cad_activation act;
    cad_norm_place norm_place;
    cad_head_norm head_norm;
    bool centred;                   /* LayerNorm with bias, not RMSNorm */
    bool gated, causal, rotates;
    bool gain_plus_one, qkv_bias, o_bias, mlp_bias, head_bias, rotate_pairs, tied;
    bool nested;                    /* config.json has the language model in text_config */
    int32_t window[CAD_MAX_LAYERS]; /* 0: full attention */
    int8_t rope_of[CAD_MAX_LAYERS]; /* 0: rope, 1: rope_local, -1: no rotation */
    bool chunked[CAD_MAX_LAYERS], routed[CAD_MAX_LAYERS]; /* attends inside chunks only; has experts */
    int64_t chunk, experts, chosen; /* tokens of a chunk; experts, and how many of them a token visits */
    double temperature, temperature_floor; /* layers without rotation: q *= 1 + temperature ln(1 + floor((p + 1) / floor)) */
    int64_t pad_id;                 /* of config.json; -1: none */
    cad_dtype stored;               /* the dtype config.json speaks of */
    cad_code code;                  /* quantization_config: the linear weights on disk are such codes */
    bool code_nested;              /* their scales are codes too */
    int num_labels;
    cad_tensor_names names;
} cad_arch;
/* `dir`/config.json in the transformers 4 or 5 form. CAD_EMODEL: unknown model_type (with those known), missing sizes, sizes that do not fit,
 * an unknown rope_type, a quantization_config other than bitsandbytes', what this program does not compute. */
CAD_CHECKED cad_status cad_arch_read(cad_arch *out, const char *dir);
CAD_CHECKED cad_status cad_arch_parse(cad_arch *out, const char *json, size_t n, const char *path);
/* The row of facts as an object. */
CAD_CHECKED cad_status cad_arch_json(cad_json *j, const char *key, const cad_arch *a);
/* Rotation frequencies [head_dim / 2] in fp32 arithmetic, as Transformers computes them. */
void cad_rope_frequencies(const cad_rope_spec *spec, int64_t head_dim, float *out);

/* ---- method: what trains ---- */

/* What the backward pass computes again. Norms and activation functions always; attention too; or whole blocks, of which only the inputs are kept. */
typedef enum cad_recompute { CAD_RECOMPUTE_LEAST, CAD_RECOMPUTE_BLOCKS, CAD_RECOMPUTE_ATTENTION } cad_recompute;
typedef struct cad_method {
    bool lora;
    int64_t r;
    double alpha, dropout;
    bool rslora, train_bias;      /* train_bias: "bias: all" */
    bool adapted_bias_only;       /* with train_bias: "bias: lora_only", those of layers with an adapter */
    const char *const *targets;   /* names or one regular expression; count 0 or "all-linear": all */
    int target_count;
    bool target_is_regex;
    const char *const *excluded;  /* exclude_modules: names, or one regular expression */
    int exclude_count;
    bool exclude_is_regex;
    const int *only_layers;       /* layers_to_transform; count 0: all */
    int only_count;
    const char *const *layers_pattern; /* what stands before the layer's number; count 0: anything */
    int layers_pattern_count;
    const char *const *parameters; /* target_parameters: names of tensors of routed experts that get adapters */
    int parameter_count;
    bool parameters_only;         /* target_modules is empty: no linear layer has an adapter */
    const cad_module_number *ranks, *alphas;
    int rank_count, alpha_count;
    bool dora;
    bool causal;                  /* a language model's head over the vocabulary in place of a classifier's */
    bool custom_head;             /* classifier.classifier.{weight,bias} instead of score.weight */
    bool train_head;              /* LoRA: the head is in modules_to_save */
    const char *const *saves;     /* LoRA: modules_to_save; a module whose name ends with one of them trains in full (PEFT's rule) */
    int save_count;
    int num_labels;
    int columns;                  /* terms of columns of the record beside the pooled state: head_columns.weight, [num_labels, columns]; 0: none */
    double head_dropout;
    cad_pooling pooling;
    cad_dtype compute;            /* F32, BF16, F64 */
    cad_code code;                /* frozen linear weights are held as such codes; CAD_PLAIN: in `compute` */
    bool nested;                  /* and their scales as codes too */
    double outliers;              /* INT8: LLM.int8()'s product in forward passes, with columns from this magnitude on outside; 0: dequantised weights */
    bool plain_experts;           /* with codes: routed experts stay numbers, as Transformers leaves them */
    int recompute;                /* cad_recompute */
    uint64_t seed;
} cad_method;

/* ---- parameter table (params.c) ---- */

typedef enum cad_role {
    CAD_ROLE_EMBED, CAD_ROLE_ATTN_NORM, CAD_ROLE_Q, CAD_ROLE_K, CAD_ROLE_V, CAD_ROLE_O, CAD_ROLE_MLP_NORM, CAD_ROLE_GATE, CAD_ROLE_UP, CAD_ROLE_DOWN,
    CAD_ROLE_FINAL_NORM, CAD_ROLE_HEAD, CAD_ROLE_EMBED_POSITION, CAD_ROLE_EMBED_TYPE, CAD_ROLE_EMBED_NORM, CAD_ROLE_Q_NORM, CAD_ROLE_K_NORM, CAD_ROLE_ATTN_OUT_NORM,
    CAD_ROLE_MLP_OUT_NORM, CAD_ROLE_ROUTER, CAD_ROLE_EXPERT_GATE_UP, CAD_ROLE_EXPERT_DOWN, CAD_ROLE_POOLER, CAD_ROLE_LM_HEAD, CAD_ROLE_COLUMNS, CAD_ROLES
} cad_role;
typedef enum cad_piece { CAD_PIECE_WEIGHT, CAD_PIECE_BIAS, CAD_PIECE_A, CAD_PIECE_B, CAD_PIECE_MAGNITUDE, CAD_PIECES } cad_piece;
typedef struct cad_param {
    char *name;        /* in a full model: "model.layers.0.self_attn.q_proj.weight"; an adapter: "….q_proj.lora_A.weight" */
    int unit;          /* 0: embeddings; 1..layers: blocks; layers + 1: the tail (final norm and head) */
    cad_role role;
    cad_piece piece;
    int64_t rows, cols, elems; /* a vector: rows = 1; groups of matrices lie one below the other */
    int64_t groups;    /* 3 dimensions: the first of them; else 1 */
    int dims;          /* 1, 2 or 3 as stored */
    int root;          /* bytes of the name that a checkpoint may leave out: "model." */
    double scale;      /* piece A: what the adapter is multiplied by, alpha / r */
    bool idle;         /* part of the model, but nothing computed depends on it: its gradient is none */
    bool trains, decays;
    const char *outer; /* NULL, or what stands in an adapter's file in place of the root (of parameters, not to be freed) */
    bool wrapped;      /* a bias beside an adapter: PEFT calls it "….base_layer.bias" */
    int64_t at;        /* first element in its unit's trainable flat array, first byte in the frozen one */
    int64_t bytes;     /* frozen: held there */
    cad_code code;     /* frozen: held as codes (cad_coded_layout_of) */
    bool nested;
} cad_param;
typedef struct cad_params {
    cad_param *row;
    int count, units;
    int64_t *train_elems, *frozen_elems, *frozen_bytes; /* [units] */
    int64_t trainable, all;
    bool gain_plus_one;                  /* of the architecture: a new gain is 0 */
    cad_tensor_names names;              /* of the architecture */
    cad_code stored;                     /* on disk linear layers are such codes */
    bool stored_nested;
    char outer_root[72], outer_head[72]; /* what `outer` of a row points to */
    cad_dtype compute;                   /* of the method */
    int (*find)[CAD_ROLES][CAD_PIECES];  /* [units]: row number or -1 */
} cad_params;
CAD_CHECKED cad_status cad_params_open(cad_params **out, const cad_arch *arch, const cad_method *method);
void cad_params_close(cad_params **p);
/* The shape as stored; returns the number of dimensions. */
int cad_param_shape(const cad_param *p, int64_t shape[3]);
/* The same in a file of tensors. Of experts' adapters, which are 3 dimensions here, PEFT makes 2: A [experts * r, out], B [in, r * experts] (of neighbours in a
 * row each is another expert's); at: where there element i lies. */
int cad_param_file_shape(const cad_param *p, int64_t shape[3]);
int64_t cad_param_file_at(const cad_param *p, int64_t i);
static inline bool cad_param_is_spread(const cad_param *p) { return p->piece == CAD_PIECE_B && p->dims == 3; } /* cad_param_file_at(i) is not i */
/* The name of a row inside PEFT's adapter file: base_model.model.<name>, with .base_layer before the .bias of an adapted layer. */
CAD_CHECKED cad_status cad_param_adapter_name(cad_str *out, const cad_param *p);

/* ---- the model (model.c, block.c, linear.c, tail.c) ---- */

typedef struct cad_unit_view { void *train, *frozen; } cad_unit_view; /* flat arrays: of the compute dtype; of bytes */
typedef struct cad_model cad_model;
/* Largest micro-batch; longest sequence. views_last: a view stays readable after its unit was computed, so that a tied head needs no copy of the table. */
/* kept > 0: the model generates, and keeps the keys and values of so many positions of each sequence. */
/* greedy: of each sequence only the likeliest next token is asked for; cad_model_next may then give -infinity for others. */
typedef struct cad_limits { int64_t tokens, sequences, positions; bool train, views_last; int64_t kept; bool greedy; } cad_limits;
/* Takes activations and working space from `arena`. Borrows arch and params until close. */
CAD_CHECKED cad_status cad_model_open(cad_model **out, const cad_arch *arch, const cad_params *params, const cad_method *method, cad_arena *arena, const cad_limits *limits);
void cad_model_close(cad_model **m);
int cad_model_units(const cad_model *m);
/* Host arrays, borrowed until the next call. labels and weights may be NULL (no loss). seed_index: what dropout depends on. */
typedef struct cad_model_batch {
    int32_t tokens, sequences, longest;
    const int32_t *ids, *starts, *labels;
    const float *weights;
    const int32_t *targets;      /* causal: the token that each one is to predict, [tokens]; -1: none */
    const float *target_weights; /* causal: [tokens] */
    const int32_t *slots, *past; /* generation: [sequences]: where each sequence keeps its past (below limits.sequences), and how many tokens that has */
    const float *beside;         /* [sequences * (1 + method.columns)]: what is added to the logit of label 1, then the terms; NULL: zeros */
    double scale;        /* of every weight in the gradient */
    uint64_t seed_index;
    bool margin;                 /* the backward pass is that of logit 1 - logit 0 of each sequence, down to the first block's input; no labels, no dropout */
} cad_model_batch;
CAD_CHECKED cad_status cad_model_start(cad_model *m, const cad_model_batch *b, bool training);
int64_t cad_model_screen_bytes(const cad_model *m); /* greedy: of codes of 6 or 8 bits that are read in place of the head, which is only where they do not decide; 0: none */
/* The unit that holds the head: makes what it is read as from it, once its weights are there (else the first step does). Other models, other units: nothing. */
int cad_model_head_unit(const cad_model *m);
CAD_CHECKED cad_status cad_model_make_screen(cad_model *m, cad_unit_view head_unit);
/* Unit by unit in order 0 … units - 1. */
CAD_CHECKED cad_status cad_model_forward(cad_model *m, int unit, cad_unit_view w);
/* Unit by unit in reverse order. Writes the whole flat gradient of the unit (F32, or F64 with compute F64); add: adds it to what is there. */
CAD_CHECKED cad_status cad_model_backward(cad_model *m, int unit, cad_unit_view w, void *grads, bool add);
/* After the tail's forward: logits [sequences * num_labels] (host). */
CAD_CHECKED cad_status cad_model_logits(cad_model *m, float *out);
/* After the tail's forward with labels: nll [sequences], unweighted (host); causal: of each target, in the order of the tokens. */
CAD_CHECKED cad_status cad_model_nll(cad_model *m, double *out);
/* After the tail's forward of a batch with slots: logits [sequences * vocabulary] of what follows each sequence's last token (host). */
CAD_CHECKED cad_status cad_model_next(cad_model *m, float *out);
/* What the first block sees, [tokens, hidden] (host): after the embeddings' forward; put in place of it; its gradient after the first block's backward of
 * a batch with `margin` (gradients of parameters are written too and mean nothing). */
CAD_CHECKED cad_status cad_model_input(cad_model *m, float *out);
CAD_CHECKED cad_status cad_model_set_input(cad_model *m, const float *input);
CAD_CHECKED cad_status cad_model_input_gradient(cad_model *m, float *out);
/* After the last block's forward: pooled hidden states after the final norm, [sequences, hidden] as float (host); needs the tail's view. */
CAD_CHECKED cad_status cad_model_embedding(cad_model *m, cad_unit_view tail, cad_pooling how, float *out);
double cad_flop_per_token(const cad_arch *a, const cad_params *p, double mean_length);

/* ---- weights on disk (weights.c) ---- */

/* The text of DIR/config.json, or what the metadata of a GGUF file (`dir` itself, or the one in it without safetensors) say in its form. The caller frees. */
CAD_CHECKED cad_status cad_arch_text(char **out, size_t *n, const char *dir);
/* cad_st_open, or a GGUF file's tensors (`dir` itself, or the one in it) under the names of a Hugging Face directory, as they are there. */
CAD_CHECKED cad_status cad_weights_open(cad_st **out, const char *dir);
/* Writes FILE, a GGUF file for llama.cpp, from a whole model's directory; `kind` of matrices: "F16" or "Q8_0". *left_head: a classification head was
 * left out, as llama.cpp has no place for it in this architecture. CAD_EMODEL: an architecture or tokenizer that has no form there. */
CAD_CHECKED cad_status cad_gguf_export(const char *dir, const char *file, const char *kind, bool *left_head);
typedef struct cad_source cad_source; /* a model directory's tensors by canonical name, and an adapter's */
/* CAD_EMODEL: missing directory or tensors, wrong shapes (with the tensor and its file). adapter may be NULL. */
CAD_CHECKED cad_status cad_source_open(cad_source **out, const char *dir, const char *adapter_dir, const cad_params *params, bool head_may_be_missing);
void cad_source_close(cad_source **s);
/* How what no file holds is drawn; dir NULL at open: everything is (the demo's model). */
void cad_source_set_draw(cad_source *s, uint64_t seed, double initializer_range);
/* Elements [from, from + n) of a parameter as fp32; what no file holds (a new head, a new adapter) is drawn by (seed, row). Any rank, any order. */
CAD_CHECKED cad_status cad_source_read(const cad_source *s, int row, int64_t from, int64_t n, cad_dtype as, void *out);
/* Bytes [from, from + n) of a row that is held as codes, where the file holds the very codes; *has says whether. n 0: only asks. */
CAD_CHECKED cad_status cad_source_read_codes(const cad_source *s, int row, int64_t from, int64_t n, void *out, bool *has);
bool cad_source_has(const cad_source *s, int row);
/* By all threads, as cad_quantise_4bit; */
void cad_to_codes(cad_code code, const float *x, int64_t n, uint8_t *codes, float *scales);
/* n elements of a row that is held as codes, in place: quantised and turned back, rounded to the dtype it computes in. Whole blocks (rows of INT8) but for
 * the matrix's end. scales: theirs as they come back from codes of their own (nested); NULL: x is the whole matrix, or scales are not nested. */
CAD_CHECKED cad_status cad_through_codes(const cad_param *p, cad_dtype compute, int64_t n, float *x, const float *scales);
CAD_CHECKED cad_status cad_nest_through(float *scales, int64_t blocks); /* all scales of a matrix, in place */
bool cad_source_head_is_new(const cad_source *s);

/* ---- PEFT's adapter_config.json (adapter.c) ---- */

typedef struct cad_adapter_config {
    char *base_model; /* NULL: none named */
    int64_t r;
    double alpha, dropout;
    bool rslora, train_bias, adapted_bias_only, target_is_regex, saves_head;
    bool ties; /* ensure_weight_tying */
    bool causal, classifies; /* task_type CAUSAL_LM, SEQ_CLS; others: neither */
    char **saves; /* modules_to_save as written there */
    int save_count;
    char **targets;
    int target_count;
    char **excluded; /* exclude_modules */
    int exclude_count;
    bool exclude_is_regex, dora;
    int *only_layers; /* layers_to_transform */
    int only_count;
    char **layers_pattern;
    int layers_pattern_count;
    char **parameters; /* target_parameters */
    int parameter_count;
    cad_module_number *ranks, *alphas; /* rank_pattern, alpha_pattern, in the order of the file */
    int rank_count, alpha_count;
} cad_adapter_config;
bool cad_is_adapter(const char *dir); /* has an adapter_config.json */
/* CAD_EMODEL: unreadable, no LoRA, or something in it that this program does not compute (named). */
CAD_CHECKED cad_status cad_adapter_config_read(cad_adapter_config *out, const char *dir);
void cad_adapter_config_close(cad_adapter_config *c);
/* The shape that the file gives the adapter, into a method; borrows the lists until close. */
void cad_method_take_adapter(cad_method *m, const cad_adapter_config *c);
/* Whether a language model's head is its table of words and that is one of modules_to_save: PEFT moves the head with it (ensure_weight_tying) where its file
 * has the table under the head's name too; otherwise the head stays the base's. */
bool cad_method_ties(const cad_arch *arch, const cad_method *m);
/* Writes DIR/adapter_config.json as PEFT does. */
CAD_CHECKED cad_status cad_adapter_config_write(const char *dir, const char *base_model, const cad_arch *arch, const cad_method *method);
/* config.json of a sequence classifier: the source's, with architectures, num_labels, labels and dtype set. */
CAD_CHECKED cad_status cad_classifier_config_write(const char *path, const char *source_config, const cad_arch *arch, const cad_method *method);

#ifdef __cplusplus
}
#endif
#endif
