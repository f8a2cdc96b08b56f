/* A run with real tensors and no data set: what can be kept and gone on from without training. */
#ifndef CADTRAIN_TEST_KEPT_H
#define CADTRAIN_TEST_KEPT_H
#include "../base/scratch.h"

#include <math.h>
#include <unistd.h>

#include "../../../src/train/keep_priv.h"

#define OK(call)                                                          \
    do {                                                                  \
        cad_status status_ = (call);                                      \
        if (status_) fail_msg("%s: %d %s", #call, status_, cad_reason()); \
    } while (0)

static const char kept_config[] =
    "{\"model_type\": \"qwen2\", \"num_hidden_layers\": 2, \"hidden_size\": 8, \"intermediate_size\": 12, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"vocab_size\": 13, "
    "\"max_position_embeddings\": 64, \"pad_token_id\": 3, \"architectures\": [\"Qwen2ForCausalLM\"], \"dtype\": \"float32\"}";

typedef struct kept {
    cad_options o;
    cad_run r;
    cad_dataset data;
    int64_t rows[6];
    char out[512], model[512], config_json[512];
} kept;

static inline void kept_put(const char *dir, const char *name, const char *text)
{
    char path[1024];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    put_file(path, text, strlen(text));
}

static inline void kept_options(kept *k, const char *out)
{
    memset(k, 0, sizeof *k);
    snprintf(k->out, sizeof k->out, "%s/%s", scratch_dir, out);
    snprintf(k->model, sizeof k->model, "%s/model", scratch_dir);
    k->o.output_dir = k->out;
    k->o.model.model_name_or_path = (char *)"Org/Tiny";
    k->o.training.gradient_accumulation_steps = 3;
    k->o.training.per_device_train_batch_size = 2;
    k->o.training.learning_rate = 1e-3;
    k->o.training.logging_steps = 1;
    k->o.runtime.seed = 42;
    k->r.o = &k->o;
    k->r.lock = -1;
    k->r.size = 1;
    k->r.history.best_metric = NAN;
    k->r.facts = (cadp_facts){.train_rows = 6, .atoms_per_epoch = 3, .atoms_per_step = 3, .steps_per_epoch = 1, .max_steps = 9, .epochs = 9, .batches_per_rank = 3, .class_weight = {1, 2}, .longest = 7};
    k->r.method = (cad_method){.num_labels = 2, .compute = CAD_F32};
    snprintf(k->config_json, sizeof k->config_json, "{\"output_dir\": \"%s\", \"training\": {\"learning_rate\": 0.001, \"save_steps\": 3}, \"runtime\": {\"seed\": 42, \"zero_stage\": 0}}", out);
    k->r.what.config_json = k->config_json;
}

static inline void kept_data(kept *k)
{
    memset(k->data.digest, 'd', 64);
    k->data.count = 6;
    for (int i = 0; i < 6; i++) k->rows[i] = (i * 5) % 6;
    k->r.train = (cadp_set){.data = &k->data, .rows = k->rows, .count = 6};
}

/* k->r.method is set. */
static inline void kept_open(kept *k)
{
    cad_run *r = &k->r;

    OK(cad_mkdirs(k->model));
    kept_put(k->model, "config.json", kept_config);
    kept_put(k->model, "tokenizer.json", "{\"x\": 1}\n");
    kept_put(k->model, "merges.txt", "a b\r\n");
    kept_put(k->model, "generation_config.json", "{}");
    kept_data(k);
    r->model_dir = r->tokenizer_dir = k->model;
    r->source_config = (char *)kept_config;
    OK(cad_arch_parse(&r->arch, kept_config, sizeof kept_config - 1, "config.json"));
    OK(cad_comm_open(&r->comm, "self"));
    OK(cad_device_open(&r->device, "ref", 1));
    OK(cad_device_reserve(r->device, 8 << 20));
    r->arena = (cad_arena){.device = r->device};
    OK(cad_params_open(&r->params, &r->arch, &r->method));
    OK(cad_zero_open(&r->zero, r->params, r->comm, &r->arena, &(cad_zero_options){.train = true, .exact = true, .atoms_per_step = 3, .compute = r->method.compute}));
}

static inline void kept_close(kept *k)
{
    cad_run *r = &k->r;

    cadp_output_close(r);
    cadp_history_close(r);
    cad_zero_close(&r->zero);
    cad_params_close(&r->params);
    cad_arena_close(&r->arena);
    OK(cad_device_close(&r->device));
    cad_comm_close(&r->comm);
    cad_free(&r->resume_dir);
}

static inline float kept_value(int row, cad_state what, int64_t i)
{
    float x = (float)cad_rng_normal(7, CAD_RNG_TEST, (uint32_t)(row * 3 + (int)what), (uint64_t)i);

    return what == CAD_STATE_EXP_AVG_SQ ? fabsf(x) : x;
}

/* Other numbers everywhere, as if steps had been done. */
static inline void kept_fill(kept *k)
{
    const cad_params *p = k->r.params;
    double largest[64];

    for (int i = 0; i < p->count; i++)
        for (int s = 0; s < CAD_STATES && p->row[i].trains; s++) {
            float values[512];
            assert_true(p->row[i].elems <= 512);
            for (int64_t e = 0; e < cad_zero_state_count(k->r.zero, i, (cad_state)s); e++) values[e] = kept_value(i, (cad_state)s, e);
            if (cad_zero_state_count(k->r.zero, i, (cad_state)s)) OK(cad_zero_spread(k->r.zero, i, (cad_state)s, 0, p->row[i].elems, values));
        }
    for (int u = 0; u < p->units; u++) largest[u] = 0.5 + u;
    cad_zero_set_largest(k->r.zero, largest);
}

static inline void kept_expect_filled(const kept *k, int states)
{
    const cad_params *p = k->r.params;

    for (int i = 0; i < p->count; i++)
        for (int s = 0; s < states && p->row[i].trains; s++) {
            float values[512];
            if (!cad_zero_state_count(k->r.zero, i, (cad_state)s)) continue;
            OK(cad_zero_collect(k->r.zero, i, (cad_state)s, 0, p->row[i].elems, values));
            for (int64_t e = 0; e < p->row[i].elems; e++) assert_true(values[e] == kept_value(i, (cad_state)s, e));
        }
}

static inline void kept_save(kept *k, int64_t step, bool best)
{
    k->r.step = step;
    if (best) {
        k->r.history.best_step = step;
        k->r.history.best_metric = 0.75;
    }
    OK(cadp_checkpoint_save(&k->r, best));
}
#endif
