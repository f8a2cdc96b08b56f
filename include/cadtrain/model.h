/* model: one decoder for every family, families as data. Knows no ranks and no ZeRO: it describes its parameters in a table and computes one
 * unit (embeddings, a block, the tail) from a flat view it is handed. */
#ifndef CADTRAIN_MODEL_H
#define CADTRAIN_MODEL_H
#include <cadtrain/arena.h>
#ifdef __cplusplus
extern "C" {
#endif

/* ---- arch (arch.c): configs/families/NAME.yaml + config.json ---- */

enum { CAD_MAX_LAYERS = 256 };
typedef enum cad_rope_kind { CAD_ROPE_DEFAULT, CAD_ROPE_LINEAR, CAD_ROPE_BANDED } cad_rope_kind;
typedef struct cad_rope_spec { cad_rope_kind kind; double theta, factor, low, high, original; } cad_rope_spec;
/* Names of the tensors of a family: whole names, or (block_*) what follows block_prefix with the layer's number in it. */
typedef struct cad_tensor_names {
    char embed[64], final_norm[64], block_prefix[64]; /* "model.layers.%d." */
    char attn_norm[64], mlp_norm[64];
    char q[64], k[64], v[64], o[64], gate[64], up[64], down[64]; /* without ".weight" / ".bias" */
} cad_tensor_names;
typedef struct cad_arch {
    char family[32], class_stem[32]; /* "qwen2", "Qwen2" (…ForSequenceClassification) */
    int layers;
    int64_t hidden, intermediate, vocab, q_heads, kv_heads, head_dim, max_positions;
    double eps, embed_scale, attn_scale, attn_softcap, initializer_range;
    cad_rope_spec rope;
    cad_activation act;
    bool gain_plus_one, qkv_bias, o_bias, mlp_bias, rotate_pairs, tied;
    int32_t window[CAD_MAX_LAYERS]; /* 0: full attention */
    int64_t pad_id;                 /* of config.json; -1: none */
    cad_dtype stored;               /* the dtype config.json speaks of */
    int num_labels;
    cad_tensor_names names;
} cad_arch;
/* `dir`/config.json in the transformers 4 or 5 form. CAD_EMODEL: unknown model_type (with those known), missing sizes, sizes that do not fit,
 * an unknown rope_type, a quantization_config, what this program does not compute. */
CAD_CHECKED cad_status cad_arch_read(cad_arch *out, const char *dir);
CAD_CHECKED cad_status cad_arch_parse(cad_arch *out, const char *json, size_t n, const char *path);
/* Rotation frequencies [head_dim / 2] in fp32 arithmetic, as Transformers computes them. */
void cad_rope_frequencies(const cad_rope_spec *spec, int64_t head_dim, float *out);

/* ---- method: what trains ---- */

typedef struct cad_method {
    bool lora;
    int64_t r;
    double alpha, dropout;
    bool rslora, train_bias;      /* train_bias: "bias: all" */
    bool adapted_bias_only;       /* with train_bias: "bias: lora_only", those of layers with an adapter */
    const char *const *targets;   /* names or one regular expression; count 0 or "all-linear": all */
    int target_count;
    bool target_is_regex;
    bool custom_head;             /* classifier.classifier.{weight,bias} instead of score.weight */
    bool train_head;              /* LoRA: the head is in modules_to_save */
    const char *const *saves;     /* LoRA: modules_to_save; a module whose name ends with one of them trains in full (PEFT's rule) */
    int save_count;
    int num_labels;
    double head_dropout;
    cad_pooling pooling;
    cad_dtype compute;            /* F32, BF16, F64 */
    bool recompute;               /* activation checkpointing: only the input of each block is kept */
    uint64_t seed;
} cad_method;

/* ---- parameter table (params.c) ---- */

typedef enum cad_role {
    CAD_ROLE_EMBED, CAD_ROLE_ATTN_NORM, CAD_ROLE_Q, CAD_ROLE_K, CAD_ROLE_V, CAD_ROLE_O, CAD_ROLE_MLP_NORM, CAD_ROLE_GATE, CAD_ROLE_UP, CAD_ROLE_DOWN,
    CAD_ROLE_FINAL_NORM, CAD_ROLE_HEAD, CAD_ROLES
} cad_role;
typedef enum cad_piece { CAD_PIECE_WEIGHT, CAD_PIECE_BIAS, CAD_PIECE_A, CAD_PIECE_B, CAD_PIECES } cad_piece;
typedef struct cad_param {
    char *name;        /* in a full model: "model.layers.0.self_attn.q_proj.weight"; an adapter: "….q_proj.lora_A.weight" */
    int unit;          /* 0: embeddings; 1..layers: blocks; layers + 1: the tail (final norm and head) */
    cad_role role;
    cad_piece piece;
    int64_t rows, cols, elems; /* a vector: rows = 1 */
    int dims;          /* 1 or 2 as stored */
    bool trains, decays;
    bool wrapped;      /* a bias beside an adapter: PEFT calls it "….base_layer.bias" */
    int64_t at;        /* first element in its unit's trainable or frozen flat array */
} cad_param;
typedef struct cad_params {
    cad_param *row;
    int count, units;
    int64_t *train_elems, *frozen_elems; /* [units] */
    int64_t trainable, all;
    int (*find)[CAD_ROLES][CAD_PIECES];  /* [units]: row number or -1 */
} cad_params;
CAD_CHECKED cad_status cad_params_open(cad_params **out, const cad_arch *arch, const cad_method *method);
void cad_params_close(cad_params **p);
/* The name of a row inside PEFT's adapter file: base_model.model.<name>, with .base_layer before the .bias of an adapted layer. */
CAD_CHECKED cad_status cad_param_adapter_name(cad_str *out, const cad_param *p);

/* ---- the model (model.c, block.c, linear.c, tail.c) ---- */

typedef struct cad_unit_view { void *train, *frozen; } cad_unit_view; /* flat arrays of the compute dtype */
typedef struct cad_model cad_model;
typedef struct cad_limits { int64_t tokens, sequences, positions; bool train; } cad_limits; /* largest micro-batch; longest sequence */
/* Takes activations and working space from `arena`. Borrows arch and params until close. */
CAD_CHECKED cad_status cad_model_open(cad_model **out, const cad_arch *arch, const cad_params *params, const cad_method *method, cad_arena *arena, const cad_limits *limits);
void cad_model_close(cad_model **m);
int cad_model_units(const cad_model *m);
/* Host arrays, borrowed until the next call. labels and weights may be NULL (no loss). seed_index: what dropout depends on. */
typedef struct cad_model_batch {
    int32_t tokens, sequences, longest;
    const int32_t *ids, *starts, *labels;
    const float *weights;
    double scale;        /* of every row's weight in the gradient */
    uint64_t seed_index;
} cad_model_batch;
CAD_CHECKED cad_status cad_model_start(cad_model *m, const cad_model_batch *b, bool training);
/* Unit by unit in order 0 … units - 1. */
CAD_CHECKED cad_status cad_model_forward(cad_model *m, int unit, cad_unit_view w);
/* Unit by unit in reverse order. Writes the whole flat gradient of the unit (F32, or F64 with compute F64). */
CAD_CHECKED cad_status cad_model_backward(cad_model *m, int unit, cad_unit_view w, void *grads);
/* After the tail's forward: logits [sequences * num_labels] (host). */
CAD_CHECKED cad_status cad_model_logits(cad_model *m, float *out);
/* After the tail's forward with labels: nll [sequences], unweighted (host). */
CAD_CHECKED cad_status cad_model_nll(cad_model *m, double *out);
/* After the last block's forward: pooled hidden states after the final norm, [sequences, hidden] as float (host); needs the tail's view. */
CAD_CHECKED cad_status cad_model_embedding(cad_model *m, cad_unit_view tail, cad_pooling how, float *out);
double cad_flop_per_token(const cad_arch *a, const cad_params *p, double mean_length);

/* ---- weights on disk (weights.c) ---- */

typedef struct cad_source cad_source; /* a model directory's tensors by canonical name, and an adapter's */
/* CAD_EMODEL: missing directory or tensors, wrong shapes (with the tensor and its file). adapter may be NULL. */
CAD_CHECKED cad_status cad_source_open(cad_source **out, const char *dir, const char *adapter_dir, const cad_params *params, bool head_may_be_missing);
void cad_source_close(cad_source **s);
/* How what no file holds is drawn; dir NULL at open: everything is (the demo's model). */
void cad_source_set_draw(cad_source *s, uint64_t seed, double initializer_range);
/* Elements [from, from + n) of a parameter as fp32; what no file holds (a new head, a new adapter) is drawn by (seed, row). Any rank, any order. */
CAD_CHECKED cad_status cad_source_read(const cad_source *s, int row, int64_t from, int64_t n, cad_dtype as, void *out);
bool cad_source_has(const cad_source *s, int row);
bool cad_source_head_is_new(const cad_source *s);

/* ---- PEFT's adapter_config.json (adapter.c) ---- */

typedef struct cad_adapter_config {
    char *base_model; /* NULL: none named */
    int64_t r;
    double alpha, dropout;
    bool rslora, train_bias, adapted_bias_only, target_is_regex, saves_head;
    char **saves; /* modules_to_save as written there */
    int save_count;
    char **targets;
    int target_count;
} cad_adapter_config;
bool cad_is_adapter(const char *dir); /* has an adapter_config.json */
/* CAD_EMODEL: unreadable, no LoRA, or something in it that this program does not compute (named). */
CAD_CHECKED cad_status cad_adapter_config_read(cad_adapter_config *out, const char *dir);
void cad_adapter_config_close(cad_adapter_config *c);
/* Writes DIR/adapter_config.json as PEFT does. */
CAD_CHECKED cad_status cad_adapter_config_write(const char *dir, const char *base_model, const cad_arch *arch, const cad_method *method);
/* config.json of a sequence classifier: the source's, with architectures, num_labels, labels and dtype set. */
CAD_CHECKED cad_status cad_classifier_config_write(const char *path, const char *source_config, const cad_arch *arch, const cad_method *method);

#ifdef __cplusplus
}
#endif
#endif
