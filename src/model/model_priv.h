/* What the files of the model share. T: tokens of the present micro-batch; R: the residual dtype (F32, or F64 with compute F64); act: the compute
 * dtype. */
#ifndef CADP_MODEL_PRIV_H
#define CADP_MODEL_PRIV_H
#include <cadtrain/model.h>

enum { CADP_QKV, CADP_OUT, CADP_GATE_UP, CADP_DOWN, CADP_LINEARS };

/* One member of a linear layer: rows of the parameter table (-1: none), its columns of the output, of the adapters' inner values, and of
 * DoRA's factors. */
typedef struct cadp_part { int weight, bias, a, b, magnitude; int64_t from, out, u_from, r, factors; double scale; } cadp_part;
/* A linear layer: one input, 1 to 3 members side by side in the output. Members whose weights lie next to each other are one
 * product: fused, without adapters; joined, with adapters that are added to it (where a device adds them apart anyway). u: ranks of all adapters. */
typedef struct cadp_linear { cadp_part part[3]; int parts; int64_t in, out, u; bool fused, joined; uint32_t site; } cadp_linear;

/* The norm round one half of a block: what its backward needs. kept: what the norm behind the half was taken of (its output, or with CAD_NORM_AFTER the sum). */
typedef struct cadp_edge { cad_tensor rstd, mean, kept, rstd_out; } cadp_edge;
/* Visits of experts: who, with what score, sorted how; and what the experts' first product gave. */
typedef struct cadp_visits { cad_tensor token, slot, starts, score, gu; } cadp_visits;
/* What the forward of a block leaves for its backward (kept for every block, or one shared when recomputing). qk: query and key as attention takes them,
 * where they are normed. */
typedef struct cadp_slot { cadp_edge attn, mlp; cad_tensor qkv, qk, rstd_qk, lse, o, mid, gu, u[CADP_LINEARS]; cadp_visits visits; } cadp_slot;

/* Of matrices held as codes, turned back before their product (ahead.c): two rooms, the parameters they hold (-1: none), whether the lane is still at it, and the
 * room that the last product read. Room NULL: products take codes; lane NULL: one queue. */
typedef struct cadp_ahead { cad_lane *lane; char *room[2]; int holds[2], last; bool pending[2]; } cadp_ahead;

enum { CADP_ROPE_FULL, CADP_ROPE_LOCAL, CADP_TEMPERATURE, CADP_TABLES };

struct cad_model {
    const cad_arch *arch;
    const cad_params *params;
    cad_method method;
    cad_device *device;
    cad_ramp *ramp;              /* what a batch goes up by */
    cad_limits limits;
    cad_dtype act, real;
    cadp_linear *linear; /* [layers * CADP_LINEARS], then the pooler */
    double embed_scale;  /* in the compute dtype */

    cadp_ahead ahead;

    cad_tensor *h;       /* [layers + 1] inputs of the blocks and the last output; two in evaluation */
    int hs;
    cadp_slot *slot;     /* [slots] */
    int slots;
    cad_tensor norm, m, dm, dqkv, d_o, dx, dh, dcast, drop, v;        /* working space of blocks */
    cad_tensor dora, stretch, stretched, stretched_norm;              /* inner values of a layer; c and 1 / n of all; rows of a weight with its adapter */
    int64_t factors;                                                  /* columns of stretch */
    cad_tensor scores, dscores, visit, hidden, low, dlow;             /* of experts: router's logits; inputs or outputs of visits; inside them, inside their adapters */
    cad_tensor sum, sum_mean, sum_rstd, words, dwords, words_cast;    /* of the embeddings: before their norm; inner values of an adapter */
    cad_tensor full, rstd, picked, feature, pooled, pre, head_in, u_pool, logits, dlogits, dfeature, dfeature_cast, nll; /* of the tail; full: [T, hidden] R */
    cad_tensor targets, target_weights, pick, place, vocab, dvocab, dpicked, dtied, tied; /* of a language model's head */
    cad_tensor cosine[CADP_TABLES], sine[CADP_TABLES];
    int32_t *ids_dev, *starts_dev, *positions_dev, *zeros_dev, *chunk_starts_dev;
    int32_t *positions, *chunk_starts, *picks; /* host; picks: tokens with targets, the place of each token among them, the targets */
    float *pick_weights;
    cad_tensor labels, weights;
    cad_tensor columns, offset; /* of the records: their terms, [sequences, method.columns]; what their logits begin with, [sequences, labels] */
    void *columns_host;

    cad_packing packing, chunks, places, kinds; /* of the batch; cut at chunks; with positions, with zeros in place of ids */
    bool add;            /* gradients of what trains are added to what is there */
    int64_t predicted;   /* tokens with a target */

    /* Generation: keys and values of what came before, [sequences * kept, kv width] for each layer; where each sequence has its own; and the rotation of each new token. */
    cad_tensor *keys, *values, seats, spots, spot_cosine[CADP_TABLES], spot_sine[CADP_TABLES];
    int32_t *seats_host, *spots_host, line_starts[2], *line_starts_dev;
    cad_packing line;    /* all new tokens as one sequence: its "positions" are rows of spot_cosine */
    cad_tensor screen;   /* of the head, made when first needed: what greedy generation looks at before it */
    bool screened;
    bool generating, goes_on; /* goes_on: something came before */
    bool training, has_labels, margin;
    double scale;
    uint64_t seed_index;
};

/* Where dropouts of a family's own stand. */
enum { CADP_SITE_ATTENTION = 0x40000000, CADP_SITE_HIDDEN = 0x50000000, CADP_SITE_EMBED = 0x60000000 };

static inline cad_tensor cadp_rows(const cad_model *m, cad_tensor t) { return cad_slice(t, 0, m->packing.tokens); }
static inline cad_tensor cadp_seqs(const cad_model *m, cad_tensor t) { return cad_slice(t, 0, m->packing.sequences); }
/* storage.c: called for a row as the table is filled. choose: its codes, if any; place: its first byte behind *bytes of frozen ones. */
void cadp_choose_storage(cad_param *p, const cad_method *m);
int64_t cadp_place_frozen(cad_param *p, const cad_method *m, int64_t *bytes);

/* ---- stored_codes.c: a matrix whose codes are on disk ---- */
typedef struct cadp_stored cadp_stored;
bool cadp_is_stored_code(const cad_param *p, const cad_st_tensor *t);
/* CAD_EMODEL: a part is missing or of another size, the state is not that of this layer, maps are not those of bitsandbytes. */
CAD_CHECKED cad_status cadp_stored_match(cadp_stored **out, const cad_st *st, const cad_param *p, const cad_st_tensor *t);
void cadp_stored_bytes(const cadp_stored *s, int64_t from, int64_t n, void *out); /* of the row as cad_coded_layout_of places it */
void cadp_stored_values(const cadp_stored *s, int64_t from, int64_t n, cad_dtype as, void *out);

/* ---- stored_experts.c: experts that are on disk one by one ---- */
typedef struct cadp_experts cadp_experts;
/* Names of the parts of row `row` -> row | (part + 1) << 32; nothing for other rows than experts'. */
CAD_CHECKED cad_status cadp_experts_names(const cad_params *ps, int row, cad_map *rows);
CAD_CHECKED cad_status cadp_experts_place(cadp_experts **e, const cad_params *ps, int row, int64_t part, const cad_st *st, const cad_st_tensor *t);
CAD_CHECKED cad_status cadp_experts_check(const cadp_experts *e, const cad_params *ps, const char *dir); /* CAD_EMODEL: a part is not there */
CAD_CHECKED cad_status cadp_experts_read(const cadp_experts *e, int64_t from, int64_t n, cad_dtype as, void *out); /* elements of the row */
void cadp_experts_close(cadp_experts **e);

/* quant_config.c: arch.code and arch.code_nested from quantization_config (NULL: none). */
CAD_CHECKED cad_status cadp_read_quantization(cad_arch *out, const cad_node *n, const char *path);

/* A parameter in the unit's view; its gradient in the unit's flat gradient. `row` -1: none. */
cad_tensor cadp_weight(const cad_model *m, cad_unit_view w, int row);
cad_tensor cadp_grad(const cad_model *m, void *grads, int row); /* none for a frozen one */
/* What a forward product with that weight takes from the method. */
static inline double cadp_outliers(const cad_model *m, const cad_matmul_args *x) { return x->codes.code == CAD_INT8 ? m->method.outliers : 0; }
cad_coded cadp_codes(const cad_model *m, cad_unit_view w, int row); /* none for one that is not held as codes */
void cadp_put_weight(const cad_model *m, cad_unit_view w, int row, cad_matmul_args *x); /* b or codes */
static inline int cadp_find(const cad_model *m, int unit, cad_role role, cad_piece piece) { return m->params->find[unit][role][piece]; }
static inline cadp_linear *cadp_pooler(const cad_model *m) { return &m->linear[m->arch->layers * CADP_LINEARS]; } /* parts 0: none */
CAD_CHECKED cad_status cadp_copy(cad_model *m, cad_tensor to, cad_tensor from, double beta); /* to = from + beta to */

CAD_CHECKED cad_status cadp_linears_build(cad_model *m);
/* y = x W' + beta y + bias + s dropout(x) A' B'; u keeps dropout(x) A' of every member. */
CAD_CHECKED cad_status cadp_linear_forward(cad_model *m, const cadp_linear *l, cad_unit_view w, cad_tensor x, cad_tensor y, double beta, cad_tensor u);
/* dx = dy W + s ((dy B) A) mask (none: left out); leaves dy B of every member in m->v for the weight gradient that must follow. */
CAD_CHECKED cad_status cadp_linear_input_gradient(cad_model *m, const cadp_linear *l, cad_unit_view w, cad_tensor dy, cad_tensor dx);
/* Gradients of what trains are written. */
CAD_CHECKED cad_status cadp_linear_weight_gradient(cad_model *m, const cadp_linear *l, cad_unit_view w, void *grads, cad_tensor x, cad_tensor dy, cad_tensor u);
/* Both. */
CAD_CHECKED cad_status cadp_linear_backward(cad_model *m, const cadp_linear *l, cad_unit_view w, void *grads, cad_tensor x, cad_tensor dy, cad_tensor dx, cad_tensor u);

/* dora.c: y = (beta y +) the layer's value; low: A of what the adapter sees. */
CAD_CHECKED cad_status cadp_dora_forward(cad_model *m, const cadp_linear *l, const cadp_part *p, cad_unit_view w, cad_tensor x, cad_tensor seen, cad_tensor low, cad_tensor y, double beta);
/* The gradient of z from that of the value, in room that the next call takes again. */
CAD_CHECKED cad_status cadp_dora_gradient(cad_model *m, const cadp_part *p, cad_tensor dy, cad_tensor *dz);
CAD_CHECKED cad_status cadp_dora_magnitude(cad_model *m, const cadp_part *p, cad_unit_view w, cad_tensor d, cad_tensor seen, cad_tensor low, cad_tensor dy);

/* memory.c: everything is taken before the first step. */
CAD_CHECKED cad_status cadp_take_memory(cad_model *m, cad_arena *a);

/* ahead.c: the weight of member i as its product takes it, back: of the gradient of its input. */
CAD_CHECKED cad_status cadp_put_part(cad_model *m, const cadp_linear *l, cad_unit_view w, int i, bool back, cad_matmul_args *x);
CAD_CHECKED cad_status cadp_take_ahead(cad_model *m, cad_arena *a);
CAD_CHECKED cad_status cadp_ahead_rest(cad_model *m); /* before a unit's codes may leave: nothing reads them any more */
void cadp_ahead_forget(cad_model *m);                 /* other weights may lie there now */

/* embeddings.c */
CAD_CHECKED cad_status cadp_embed_forward(cad_model *m, cad_unit_view w);
CAD_CHECKED cad_status cadp_embed_backward(cad_model *m, cad_unit_view w, void *grads);

/* norms.c: the norm of a role as the architecture takes it; mean is none where rows are not centred. */
CAD_CHECKED cad_status cadp_norm_forward(cad_model *m, int unit, cad_role role, cad_unit_view w, cad_tensor y, cad_tensor x, cad_tensor rstd, cad_tensor mean);
/* y = plus + the norm of x, where the residual sum is not a product's own. */
CAD_CHECKED cad_status cadp_norm_onto(cad_model *m, int unit, cad_role role, cad_unit_view w, cad_tensor y, cad_tensor plus, cad_tensor x, cad_tensor rstd);
/* dx = (accumulate: +=) the gradient; dx may be dy. */
CAD_CHECKED cad_status cadp_norm_backward(cad_model *m, int unit, cad_role role, cad_unit_view w, void *grads, cad_tensor dx, cad_tensor dy, cad_tensor x, cad_tensor rstd, cad_tensor mean, bool accumulate);

/* experts.c: out += what the chosen experts make of x; first the visits and what stands before the last product. */
CAD_CHECKED cad_status cadp_experts_visit(cad_model *m, int block, cad_unit_view w, cadp_visits *v, cad_tensor x);
CAD_CHECKED cad_status cadp_experts_forward(cad_model *m, int block, cad_unit_view w, cadp_visits *v, cad_tensor out);
/* dx += the gradient by way of the experts and of the router; x is what the forward saw. */
CAD_CHECKED cad_status cadp_experts_backward(cad_model *m, int block, cad_unit_view w, void *grads, cadp_visits *v, cad_tensor x, cad_tensor dy, cad_tensor dx);

/* heads.c: query and key from the q|k|v buffer to what attention takes, and back. */
CAD_CHECKED cad_status cadp_heads_forward(cad_model *m, int block, cad_unit_view w, cadp_slot *s);
CAD_CHECKED cad_status cadp_heads_backward(cad_model *m, int block, cad_unit_view w, void *grads, cadp_slot *s, cad_tensor dqkv);
cad_attention_args cadp_attention(const cad_model *m, int block, const cadp_slot *s);
void cadp_split_qkv(const cad_model *m, cad_tensor all, cad_tensor *q, cad_tensor *k, cad_tensor *v);

CAD_CHECKED cad_status cadp_block_forward(cad_model *m, int block, cad_unit_view w);
CAD_CHECKED cad_status cadp_block_backward(cad_model *m, int block, cad_unit_view w, void *grads);
CAD_CHECKED cad_status cadp_tail_forward(cad_model *m, cad_unit_view w);
CAD_CHECKED cad_status cadp_tail_backward(cad_model *m, cad_unit_view w, void *grads);
CAD_CHECKED cad_status cadp_tail_feature(cad_model *m, cad_unit_view w, cad_pooling how);
/* head_columns.c: what stands beside the text. */
CAD_CHECKED cad_status cadp_take_columns(cad_model *m, cad_arena *a);
CAD_CHECKED cad_status cadp_values(cad_model *m, cad_tensor t, float *out); /* model.c: an array of fp32 or fp64, as float on the host */
CAD_CHECKED cad_status cadp_margin_gradient(cad_model *m); /* inputs.c: m->dlogits = (-1, 1) of each sequence */
CAD_CHECKED cad_status cadp_start_columns(cad_model *m, const cad_model_batch *b);
CAD_CHECKED cad_status cadp_columns_forward(cad_model *m, cad_unit_view w);
CAD_CHECKED cad_status cadp_columns_backward(cad_model *m, void *grads);
int64_t cadp_columns_bytes(const cad_model *m); /* on their way to the device, at most */
/* cache.c: what came before the new tokens. */
CAD_CHECKED cad_status cadp_take_cache(cad_model *m, cad_arena *a);
CAD_CHECKED cad_status cadp_start_cache(cad_model *m, const cad_model_batch *b);
CAD_CHECKED cad_status cadp_cache_attend(cad_model *m, int block, const cad_attention_args *x); /* keeps k and v, then attends */
/* lm_head.c: the tail of a language model. */
CAD_CHECKED cad_status cadp_lm_forward(cad_model *m, cad_unit_view w);
CAD_CHECKED cad_status cadp_lm_backward(cad_model *m, cad_unit_view w, void *grads);
cad_tensor cadp_hidden(const cad_model *m, int block); /* the input of a block; block == layers: the last output */
#endif
