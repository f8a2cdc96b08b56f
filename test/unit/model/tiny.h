/* Tiny models of any shape from a line of config.json, their parameters drawn at a size where every nonlinearity bends. */
#ifndef CADTRAIN_TEST_TINY_H
#define CADTRAIN_TEST_TINY_H
#include "../base/scratch.h"

#include <math.h>

#include <cadtrain/model.h>

#define OK(call)                                                          \
    do {                                                                  \
        cad_status status_ = (call);                                      \
        if (status_) fail_msg("%s: %d %s", #call, status_, cad_reason()); \
    } while (0)

enum { TINY_TOKENS = 64, TINY_SEQUENCES = 12, TINY_VOCAB = 13, TINY_PAD = 3 };

typedef struct tiny {
    cad_device *device;
    cad_arena arena;
    cad_arch arch;
    cad_method method;
    cad_params *params;
    cad_model *model;
    cad_unit_view *view;
    void **grad;
    size_t each, real; /* bytes of a parameter, of a gradient */
    int threads;       /* 0: one */
    int64_t kept;      /* generation: positions kept */
    bool greedy;       /* only the likeliest next token is asked for */
} tiny;

/* Four heads over two key-value heads; `more` is what else stands in config.json, beginning with a comma. */
static inline void tiny_arch(cad_arch *out, const char *family, int layers, const char *more)
{
    char json[1024];
    int n = snprintf(json, sizeof json,
                     "{\"model_type\": \"%s\", \"num_hidden_layers\": %d, \"hidden_size\": 8, \"intermediate_size\": 10, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
                     "\"head_dim\": 4, \"vocab_size\": %d, \"max_position_embeddings\": 64, \"pad_token_id\": %d%s}", family, layers, TINY_VOCAB, TINY_PAD, more);

    OK(cad_arch_parse(out, json, (size_t)n, "config.json"));
}

/* Element i of row `row`: gains around one, everything else around zero; adapters are not zero as new ones are. */
static inline double tiny_value(const cad_param *p, int row, int64_t i)
{
    double x = cad_rng_normal(5, CAD_RNG_TEST, (uint32_t)row, (uint64_t)i);
    bool gain = p->dims == 1 && (p->piece == CAD_PIECE_WEIGHT || p->piece == CAD_PIECE_MAGNITUDE);

    return gain ? 1 + 0.25 * x : p->dims == 1 ? 0.3 * x : p->role == CAD_ROLE_EMBED ? x : (p->piece == CAD_PIECE_B ? 0.3 : 1.2) * x / sqrt((double)(p->groups > 1 ? p->rows / p->groups : p->cols));
}

static inline char *tiny_flat(const tiny *t, const cad_param *p) { return p->trains ? t->view[p->unit].train : t->view[p->unit].frozen; }

static inline void tiny_set(const tiny *t, const cad_param *p, int64_t i, double value)
{
    float narrow = (float)value;
    uint16_t half = cad_f32_to_bf16(narrow);
    const void *from = t->each == 8 ? (void *)&value : t->each == 4 ? (void *)&narrow : (void *)&half;

    OK(cad_device_upload(t->device, tiny_flat(t, p) + (size_t)(p->trains ? (p->at + i) * (int64_t)t->each : p->at + i * (int64_t)t->each), from, (int64_t)t->each));
}

static inline void tiny_draw(tiny *t)
{
    for (int r = 0; r < t->params->count; r++)
        for (int64_t i = 0; i < t->params->row[r].elems; i++) tiny_set(t, &t->params->row[r], i, tiny_value(&t->params->row[r], r, i));
}

/* t->arch and t->method are set. */
static inline void tiny_open(tiny *t, const char *device, bool train)
{
    cad_limits limits = {TINY_TOKENS, TINY_SEQUENCES, 64, train, true, t->kept, t->greedy};

    t->each = cad_dtype_bytes(t->method.compute);
    t->real = t->each == 8 ? 8 : 4;
    if (!t->method.num_labels) t->method.num_labels = 2;
    OK(cad_device_open(&t->device, device, t->threads ? t->threads : 1));
    OK(cad_device_reserve(t->device, 32 << 20));
    t->arena = (cad_arena){.device = t->device};
    OK(cad_params_open(&t->params, &t->arch, &t->method));
    OK(cad_model_open(&t->model, &t->arch, t->params, &t->method, &t->arena, &limits));
    OK(cad_alloc(&t->view, (size_t)t->params->units, sizeof *t->view, "views"));
    OK(cad_alloc(&t->grad, (size_t)t->params->units, sizeof *t->grad, "gradients"));
    for (int u = 0; u < t->params->units; u++) {
        OK(cad_arena_take(&t->arena, CAD_MEM_PARAMETERS, "weights", t->params->train_elems[u] * (int64_t)t->each, &t->view[u].train));
        OK(cad_arena_take(&t->arena, CAD_MEM_PARAMETERS, "weights", t->params->frozen_bytes[u], &t->view[u].frozen));
        OK(cad_arena_take(&t->arena, CAD_MEM_GRADIENTS, "gradients", t->params->train_elems[u] * (int64_t)t->real, &t->grad[u]));
    }
    tiny_draw(t);
}

static inline void tiny_close(tiny *t)
{
    cad_model_close(&t->model);
    cad_params_close(&t->params);
    cad_free(&t->view);
    cad_free(&t->grad);
    cad_arena_close(&t->arena);
    OK(cad_device_close(&t->device));
}

typedef struct tiny_batch {
    int32_t ids[TINY_TOKENS], starts[TINY_SEQUENCES + 1], labels[TINY_SEQUENCES], targets[TINY_TOKENS];
    float weights[TINY_SEQUENCES], target_weights[TINY_TOKENS];
    cad_model_batch b;
} tiny_batch;

/* Sequences of the given lengths; the pad id occurs inside; weights and labels by position. */
static inline void tiny_fill(tiny_batch *x, const int *lengths, int n)
{
    int32_t longest = 0;

    for (int s = 0; s < n; s++) {
        x->starts[s + 1] = x->starts[s] + lengths[s];
        longest = (int32_t)cad_max(longest, lengths[s]);
        x->labels[s] = s % 3 == 1;
        x->weights[s] = s % 2 ? 3.0f : 0.625f;
    }
    for (int32_t i = 0; i < x->starts[n]; i++) x->ids[i] = (2 * i * i + TINY_PAD) % TINY_VOCAB;
    for (int s = 0; s < n; s++)
        for (int32_t t = x->starts[s]; t < x->starts[s + 1]; t++) {
            x->targets[t] = t + 1 < x->starts[s + 1] && t % 4 != 2 ? x->ids[t + 1] : -1;
            x->target_weights[t] = t % 2 ? 1.5f : 0.5f;
        }
    x->b = (cad_model_batch){.tokens = x->starts[n], .sequences = n, .longest = longest, .ids = x->ids, .starts = x->starts, .labels = x->labels, .weights = x->weights,
                             .targets = x->targets, .target_weights = x->target_weights, .scale = 0.25, .seed_index = 77};
}

/* Forward from unit `from` on; what lies before is kept from the last time. The weighted loss. */
static inline double tiny_loss_from(tiny *t, const cad_model_batch *b, int from, bool training)
{
    double nll[TINY_TOKENS], loss = 0;
    int n = 0;

    if (!from) OK(cad_model_start(t->model, b, training));
    for (int u = from; u < t->params->units; u++) OK(cad_model_forward(t->model, u, t->view[u]));
    OK(cad_model_nll(t->model, nll));
    for (int i = 0; i < b->sequences && !t->method.causal; i++) loss += b->scale * (double)b->weights[i] * nll[i];
    for (int i = 0; i < b->tokens && t->method.causal; i++)
        if (b->targets[i] >= 0) loss += b->scale * (double)b->target_weights[i] * nll[n++];
    return loss;
}

static inline void tiny_backward(tiny *t)
{
    for (int u = t->params->units - 1; u >= 0; u--) OK(cad_model_backward(t->model, u, t->view[u], t->grad[u], false));
}

/* The gradient of element i of a trainable row. */
static inline double tiny_gradient(const tiny *t, const cad_param *p, int64_t i)
{
    double wide;
    float narrow;
    const char *at = (const char *)t->grad[p->unit] + (size_t)(p->at + i) * t->real;

    OK(cad_device_download(t->device, t->real == 8 ? (void *)&wide : (void *)&narrow, at, (int64_t)t->real));
    return t->real == 8 ? wide : (double)narrow;
}
#endif
