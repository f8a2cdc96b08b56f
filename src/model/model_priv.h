/* What the files of the model share. T: tokens of the present micro-batch; R: the residual dtype (F32, or F64 with compute F64); act: the compute
 * dtype. */
#ifndef CADP_MODEL_PRIV_H
#define CADP_MODEL_PRIV_H
#include <cadtrain/model.h>

enum { CADP_QKV, CADP_OUT, CADP_GATE_UP, CADP_DOWN, CADP_LINEARS };

/* One member of a linear layer: rows of the parameter table (-1: none) and its columns of the output. */
typedef struct cadp_part { int weight, bias, a, b; int64_t from, out; } cadp_part;
/* A linear layer: one input, 1 to 3 members side by side in the output. Members whose weights lie next to each other and have no adapter are
 * one product. */
typedef struct cadp_linear { cadp_part part[3]; int parts; int64_t in, out; bool fused; uint32_t site; } cadp_linear;

/* What the forward of a block leaves for its backward (kept for every block, or one shared when recomputing). */
typedef struct cadp_slot { cad_tensor rstd1, qkv, lse, o, mid, rstd2, gu, u[CADP_LINEARS]; } cadp_slot;

struct cad_model {
    const cad_arch *arch;
    const cad_params *params;
    cad_method method;
    cad_device *device;
    cad_ramp *ramp;              /* what a batch goes up by */
    cad_limits limits;
    cad_dtype act, real;
    cadp_linear *linear; /* [layers * CADP_LINEARS] */
    double lora_scale;

    cad_tensor *h;       /* [layers + 1] inputs of the blocks and the last output; two in evaluation */
    int hs;
    cadp_slot *slot;     /* [slots] */
    int slots;
    cad_tensor norm, m, dm, dqkv, d_o, dx, dh, dcast, drop, v;        /* working space of blocks */
    cad_tensor full, rstd, picked, feature, pooled, logits, dlogits, dfeature, nll; /* of the tail; full: [T, hidden] R for mean pooling */
    cad_tensor cosine, sine;
    int32_t *ids_dev, *starts_dev;
    cad_tensor labels, weights;

    cad_packing packing;
    bool training, has_labels;
    double scale;
    uint64_t seed_index;
};

static inline cad_tensor cadp_rows(const cad_model *m, cad_tensor t) { return cad_slice(t, 0, m->packing.tokens); }
static inline cad_tensor cadp_seqs(const cad_model *m, cad_tensor t) { return cad_slice(t, 0, m->packing.sequences); }
/* A parameter in the unit's view; its gradient in the unit's flat gradient. `row` -1: none. */
cad_tensor cadp_weight(const cad_model *m, cad_unit_view w, int row);
cad_tensor cadp_grad(const cad_model *m, void *grads, int row); /* none for a frozen one */
static inline int cadp_find(const cad_model *m, int unit, cad_role role, cad_piece piece) { return m->params->find[unit][role][piece]; }

CAD_CHECKED cad_status cadp_linears_build(cad_model *m);
/* y = x W' + beta y + bias + s dropout(x) A' B'; u keeps dropout(x) A' of every member. */
CAD_CHECKED cad_status cadp_linear_forward(cad_model *m, const cadp_linear *l, cad_unit_view w, cad_tensor x, cad_tensor y, double beta, cad_tensor u);
/* dx = dy W + s ((dy B) A) mask (none: left out); leaves dy B of every member in m->v for the weight gradient that must follow. */
CAD_CHECKED cad_status cadp_linear_input_gradient(cad_model *m, const cadp_linear *l, cad_unit_view w, cad_tensor dy, cad_tensor dx);
/* Gradients of what trains are written. */
CAD_CHECKED cad_status cadp_linear_weight_gradient(cad_model *m, const cadp_linear *l, void *grads, cad_tensor x, cad_tensor dy, cad_tensor u);
/* Both. */
CAD_CHECKED cad_status cadp_linear_backward(cad_model *m, const cadp_linear *l, cad_unit_view w, void *grads, cad_tensor x, cad_tensor dy, cad_tensor dx, cad_tensor u);

CAD_CHECKED cad_status cadp_block_forward(cad_model *m, int block, cad_unit_view w);
CAD_CHECKED cad_status cadp_block_backward(cad_model *m, int block, cad_unit_view w, void *grads);
CAD_CHECKED cad_status cadp_tail_forward(cad_model *m, cad_unit_view w);
CAD_CHECKED cad_status cadp_tail_backward(cad_model *m, cad_unit_view w, void *grads);
CAD_CHECKED cad_status cadp_tail_feature(cad_model *m, cad_unit_view w, cad_pooling how);
cad_tensor cadp_hidden(const cad_model *m, int block); /* the input of a block; block == layers: the last output */
#endif
