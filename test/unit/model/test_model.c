/* The model against the numbers that Transformers and PEFT produced on tiny checkpoints: logits, loss, gradients. */
#include <cadtrain/model.h>
#include <cadtrain/text.h>

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const char *shared(void)
{
    const char *dir = getenv("CADTRAIN_SHARED");

    return dir ? dir : "../shared";
}

static char *path_of(const char *family, const char *name)
{
    static char path[8][1024];
    static int next;
    char *p = path[next++ % 8];

    snprintf(p, sizeof path[0], "%s/golden/%s/%s", shared(), family, name);
    return p;
}

#define OK(call)                                                        \
    do {                                                                \
        cad_status status_ = (call);                                    \
        if (status_) fail_msg("%s: %d %s", #call, status_, cad_reason()); \
    } while (0)

/* A whole model with its flat parameters, without ranks. */
typedef struct rig {
    cad_device *device;
    cad_arena arena;
    cad_arch arch;
    cad_method method;
    cad_adapter_config adapter;
    cad_params *params;
    cad_model *model;
    cad_unit_view *view;
    void **grad;
} rig;

typedef struct batch { int32_t *ids, starts[64], labels[64]; float weights[64]; int32_t tokens, n, longest; double scale; } batch;

static size_t real_bytes(const rig *r) { return r->method.compute == CAD_F64 ? 8 : 4; }

static void put(void *at, cad_dtype dtype, int64_t i, float v)
{
    if (dtype == CAD_F64) ((double *)at)[i] = v;
    else if (dtype == CAD_F32) ((float *)at)[i] = v;
    else ((uint16_t *)at)[i] = cad_f32_to_bf16(v);
}

static void load(rig *r, const char *dir, const char *head, const char *adapter)
{
    cad_source *s, *h = NULL;
    float *v;
    size_t each = cad_dtype_bytes(r->method.compute);

    OK(cad_source_open(&s, dir, adapter, r->params, true));
    cad_source_set_draw(s, 7, 0.02);
    if (head) OK(cad_source_open(&h, NULL, head, r->params, true));
    for (int u = 0; u < r->params->units; u++) {
        OK(cad_arena_take(&r->arena, CAD_MEM_PARAMETERS, "weights", r->params->train_elems[u] * (int64_t)each, &r->view[u].train));
        OK(cad_arena_take(&r->arena, CAD_MEM_PARAMETERS, "weights", r->params->frozen_bytes[u], &r->view[u].frozen));
        OK(cad_arena_take(&r->arena, CAD_MEM_GRADIENTS, "gradients", r->params->train_elems[u] * (int64_t)real_bytes(r), &r->grad[u]));
    }
    for (int i = 0; i < r->params->count; i++) {
        const cad_param *p = &r->params->row[i];
        char *base = p->trains ? r->view[p->unit].train : r->view[p->unit].frozen;
        void *cast;
        OK(cad_alloc(&v, (size_t)p->elems, 4, "values"));
        OK(cad_alloc(&cast, (size_t)p->elems, each, "values"));
        OK(cad_source_read(h && cad_source_has(h, i) ? h : s, i, 0, p->elems, CAD_F32, v));
        for (int64_t k = 0; k < p->elems; k++) put(cast, r->method.compute, k, v[k]);
        OK(cad_device_upload(r->device, base + (p->trains ? (size_t)p->at * each : (size_t)p->at), cast, p->elems * (int64_t)each));
        cad_free(&v);
        cad_free(&cast);
    }
    cad_source_close(&h);
    cad_source_close(&s);
}

static void open_rooms(rig *r, const char *family, const char *adapter)
{
    cad_limits limits = {2048, 64, r->arch.max_positions < 512 ? r->arch.max_positions : 512, true, true, 0, false};

    OK(cad_params_open(&r->params, &r->arch, &r->method));
    OK(cad_device_reserve(r->device, 64 << 20));
    OK(cad_model_open(&r->model, &r->arch, r->params, &r->method, &r->arena, &limits));
    OK(cad_alloc(&r->view, (size_t)r->params->units, sizeof *r->view, "views"));
    OK(cad_alloc(&r->grad, (size_t)r->params->units, sizeof *r->grad, "gradients"));
    load(r, path_of(family, "model"), r->method.causal ? NULL : path_of(family, "seqcls/head.safetensors"), adapter);
}

static void open_device(rig *r, const char *family, const char *device)
{
    memset(r, 0, sizeof *r);
    OK(cad_device_open(&r->device, device, 2));
    r->arena.device = r->device;
    OK(cad_arch_read(&r->arch, path_of(family, "model")));
}

static void open_rig_for(rig *r, const char *family, const char *device, cad_method method)
{
    open_device(r, family, device);
    r->method = method;
    open_rooms(r, family, NULL);
}

static void open_rig(rig *r, const char *family, const char *device, cad_dtype compute, const char *adapter, bool recompute)
{
    open_device(r, family, device);
    r->method = (cad_method){.num_labels = 2, .pooling = CAD_POOLING_LAST, .compute = compute, .recompute = recompute, .seed = 42};
    if (adapter) {
        OK(cad_adapter_config_read(&r->adapter, adapter));
        r->method.lora = true;
        r->method.r = r->adapter.r;
        r->method.alpha = r->adapter.alpha;
        r->method.targets = (const char *const *)r->adapter.targets;
        r->method.target_count = r->adapter.target_count;
        r->method.train_head = r->adapter.saves_head;
    }
    open_rooms(r, family, adapter);
}

static void close_rig(rig *r)
{
    cad_free(&r->view);
    cad_free(&r->grad);
    cad_model_close(&r->model);
    cad_params_close(&r->params);
    cad_adapter_config_close(&r->adapter);
    cad_arena_close(&r->arena);
    OK(cad_device_close(&r->device));
}

static void read_batch(batch *b, const char *family, cad_tree **golden)
{
    cad_tree *ids;
    const cad_node *labels, *weights;
    double w[2] = {1, 1};
    int32_t *at;

    memset(b, 0, sizeof *b);
    OK(cad_json_read(golden, path_of(family, "golden.json"), 1 << 26, CAD_EDATA));
    OK(cad_json_read(&ids, path_of(family, "ids.json"), 1 << 26, CAD_EDATA));
    labels = cad_get((*golden)->root, "labels")->child;
    weights = cad_get((*golden)->root, "class_weights")->child;
    w[0] = weights->real;
    w[1] = weights->next->real;
    OK(cad_alloc(&b->ids, 4096, 4, "ids"));
    at = b->ids;
    for (const cad_node *row = ids->root->child; row; row = row->next, labels = labels->next) {
        for (const cad_node *id = row->child; id; id = id->next) *at++ = (int32_t)id->integer;
        b->labels[b->n] = (int32_t)labels->integer;
        b->weights[b->n] = (float)w[labels->integer];
        b->scale += w[labels->integer];
        b->starts[++b->n] = (int32_t)(at - b->ids);
        b->longest = (int32_t)cad_max(b->longest, b->starts[b->n] - b->starts[b->n - 1]);
    }
    b->tokens = b->starts[b->n];
    b->scale = 1 / b->scale;
    cad_tree_close(&ids);
}

static double loss_of(rig *r, const batch *b, bool training, bool gradients)
{
    cad_model_batch m = {.tokens = b->tokens, .sequences = b->n, .longest = b->longest, .ids = b->ids, .starts = b->starts, .labels = b->labels, .weights = b->weights, .scale = b->scale};
    double nll[64], loss = 0;

    OK(cad_model_start(r->model, &m, training));
    for (int u = 0; u < r->params->units; u++) OK(cad_model_forward(r->model, u, r->view[u]));
    OK(cad_model_nll(r->model, nll));
    for (int i = 0; i < b->n; i++) loss += b->scale * (double)b->weights[i] * nll[i];
    for (int u = r->params->units - 1; gradients && u >= 0; u--) OK(cad_model_backward(r->model, u, r->view[u], r->grad[u], false));
    return loss;
}

/* Of numbers of about one: two ways to round a chain of products differ by c eps sqrt(terms), with the terms that one token meets on its way through
 * four matrices of hidden and three of mlp columns in each layer. Measured: 1 at most is needed for c. */
static double rounding(const rig *r) { return 4 * FLT_EPSILON * sqrt(r->arch.layers * (4.0 * (double)r->arch.hidden + 3.0 * (double)r->arch.intermediate)); }

static double worst_logit(rig *r, const batch *b, const cad_node *rows)
{
    float out[128];
    double worst = 0;
    int i = 0;

    OK(cad_model_logits(r->model, out));
    for (const cad_node *row = rows->child; row; row = row->next)
        for (const cad_node *x = row->child; x; x = x->next, i++) worst = fmax(worst, fabs(out[i] - x->real) / fmax(1, fabs(x->real)));
    assert_int_equal(i, 2 * b->n);
    return worst;
}

/* Without rotation a key's bias moves all scores of a query alike: it has no gradient, and each side has its own noise, of the size of the roundings that
 * the weight's gradient is made of. */
static bool vanishes(const rig *r, const cad_param *p) { return p->role == CAD_ROLE_K && p->piece == CAD_PIECE_BIAS && !r->arch.rotates; }

static double noise_of_keys(const rig *r, const cad_st *st, const cad_param *p)
{
    const cad_param *weight = &r->params->row[r->params->find[p->unit][CAD_ROLE_K][CAD_PIECE_WEIGHT]];
    const cad_st_tensor *t = cad_st_find(st, weight->name);
    double n = 0;
    float v;

    assert_non_null(t);
    for (int64_t i = 0; i < weight->elems; i++) {
        OK(cad_st_read_f32(t, i, 1, &v));
        n += (double)v * (double)v;
    }
    return 0x1p-24 * sqrt(1000) * sqrt(n); /* some thousand tokens */
}

/* The distance of every gradient tensor to the reference, relative to its norm; grows with the number of summed terms. */
static void compare_gradients(rig *r, const char *file, bool adapter)
{
    cad_st *st;
    int seen = 0;

    OK(cad_st_open(&st, file));
    for (int i = 0; i < r->params->count; i++) {
        const cad_param *p = &r->params->row[i];
        cad_str name = {0};
        double d = 0, n = 0;
        float *v;

        if (!p->trains) continue;
        if (!adapter) OK(cad_str_addf(&name, "%s", p->name));
        else { /* as the live module calls it, not the file */
            const char *end = strrchr(p->name, '.');
            OK(cad_str_addf(&name, "base_model.model.%.*s%s.default%s", (int)(end - p->name), p->name, p->role == CAD_ROLE_HEAD ? ".modules_to_save" : "", end));
        }
        const cad_st_tensor *t = cad_st_find(st, name.data);
        if (!t) fail_msg("no reference gradient %s", name.data);
        OK(cad_alloc(&v, (size_t)p->elems, 4, "values"));
        OK(cad_st_read_f32(t, 0, p->elems, v));
        for (int64_t k = 0; k < p->elems; k++) {
            double g = real_bytes(r) == 8 ? ((double *)r->grad[p->unit])[p->at + k] : ((float *)r->grad[p->unit])[p->at + k];
            d += (g - v[k]) * (g - v[k]);
            n += (double)v[k] * v[k];
        }
        if (vanishes(r, p)) {
            if (!(sqrt(d) <= 2 * noise_of_keys(r, st, p))) fail_msg("%s: %g, expected nothing", name.data, sqrt(d));
        } else if (sqrt(d) > rounding(r) * sqrt(n) + 1e-9) fail_msg("%s: off by %g of its norm %g (bound %g)", name.data, sqrt(d / n), sqrt(n), rounding(r));
        cad_free(&v);
        cad_str_close(&name);
        seen++;
    }
    assert_true(seen > 0);
    cad_st_close(&st);
}

static const char *const families[] = {"llama", "llama31", "qwen2", "mistral", "qwen3", "gemma2", "gemma3", "bert", "llama4"};
enum { FAMILIES = 9, WITH_ADAPTER = 8 };

static void need_shared(void)
{
    if (cad_is_dir(path_of("qwen2", "model"))) return;
    print_message("skipped: no reference numbers (../shared is absent)\n");
    skip();
}

static void check_family(const char *family, const char *device, bool recompute, bool lora)
{
    rig r;
    batch b;
    cad_tree *golden;
    const cad_node *part;

    open_rig(&r, family, device, CAD_F32, lora ? path_of(family, "lora/adapter") : NULL, recompute);
    read_batch(&b, family, &golden);
    part = cad_get(golden->root, lora ? "lora" : "seqcls");
    double loss = loss_of(&r, &b, true, true), want;
    assert_true(cad_get_real(part, "loss", &want, 0));
    if (want > 0) assert_true(fabs(loss - want) <= rounding(&r) * fmax(1, want));
    if (worst_logit(&r, &b, cad_get(part, "logits")) > rounding(&r)) fail_msg("%s: logits off by %g", family, worst_logit(&r, &b, cad_get(part, "logits")));
    compare_gradients(&r, path_of(family, lora ? "lora/grads.safetensors" : "seqcls/grads.safetensors"), lora);
    cad_tree_close(&golden);
    cad_free(&b.ids);
    close_rig(&r);
    assert_int_equal(cad_mem_blocks(), 0);
}

static void full_models_have_the_logits_and_gradients_of_transformers(void **state)
{
    (void)state;
    need_shared();
    for (size_t i = 0; i < FAMILIES; i++) check_family(families[i], "ref", false, false);
    for (size_t i = 0; i < FAMILIES; i++) check_family(families[i], "cpu", false, false);
    check_family("qwen2", "emulated", false, false);
}

static void adapters_have_the_logits_and_gradients_of_peft(void **state)
{
    (void)state;
    need_shared();
    for (size_t i = 0; i < WITH_ADAPTER; i++) check_family(families[i], "cpu", false, true);
    for (size_t i = 0; i < WITH_ADAPTER; i += 5) check_family(families[i], "check:cpu", false, true);
    check_family("llama31", "ref", false, true);
    check_family(families[0], "emulated", false, true);
    check_family("qwen2", "emulated", false, true);
}

static void recomputing_changes_nothing(void **state)
{
    (void)state;
    need_shared();
    for (size_t i = 0; i < FAMILIES; i++) check_family(families[i], "cpu", true, i % 2 == 1);
}

/* The mean loss over all next tokens, its gradient in every parameter (the table of words gets that of a tied head too), and the sum of each text. */
static void check_causal(const char *family, const char *device)
{
    int32_t ids[4096], starts[64] = {0}, targets[4096], tokens = 0, n = 0, longest = 0, predicted = 0;
    float weights[4096];
    double nll[4096], loss = 0, want;
    cad_tree *golden;
    const cad_node *part, *sum;
    rig r;

    OK(cad_json_read(&golden, path_of(family, "golden.json"), 1 << 26, CAD_EDATA));
    part = cad_get(golden->root, "causal");
    for (const cad_node *row = cad_get(part, "ids")->child; row; row = row->next) {
        for (const cad_node *id = row->child; id; id = id->next) {
            ids[tokens] = (int32_t)id->integer;
            weights[tokens] = 1;
            targets[tokens++] = id->next ? (int32_t)id->next->integer : -1;
            predicted += id->next != NULL;
        }
        starts[++n] = tokens;
        longest = (int32_t)cad_max(longest, starts[n] - starts[n - 1]);
    }
    open_rig_for(&r, family, device, (cad_method){.causal = true, .compute = CAD_F32, .seed = 42});
    cad_model_batch m = {.tokens = tokens, .sequences = n, .longest = longest, .ids = ids, .starts = starts, .targets = targets, .target_weights = weights, .scale = 1.0 / predicted};
    OK(cad_model_start(r.model, &m, true));
    for (int u = 0; u < r.params->units; u++) OK(cad_model_forward(r.model, u, r.view[u]));
    OK(cad_model_nll(r.model, nll));
    for (int u = r.params->units - 1; u >= 0; u--) OK(cad_model_backward(r.model, u, r.view[u], r.grad[u], false));
    sum = cad_get(part, "sum_nll")->child;
    for (int s = 0, at = 0; s < n; s++, sum = sum->next) {
        double text = 0;
        for (int i = 0; i < starts[s + 1] - starts[s] - 1; i++) text += nll[at++];
        assert_true(fabs(text - sum->real) <= rounding(&r) * fabs(sum->real));
        loss += text / predicted;
    }
    assert_true(cad_get_real(part, "loss", &want, 0) && fabs(loss - want) <= rounding(&r) * fmax(1, want));
    compare_gradients(&r, path_of(family, "causal/grads.safetensors"), false);
    cad_tree_close(&golden);
    close_rig(&r);
    assert_int_equal(cad_mem_blocks(), 0);
}

static void language_models_have_the_losses_and_gradients_of_transformers(void **state)
{
    (void)state;
    need_shared();
    for (size_t i = 0; i < FAMILIES; i++) {
        if (strcmp(families[i], "bert")) check_causal(families[i], "cpu");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_models_have_the_logits_and_gradients_of_transformers),
        cmocka_unit_test(adapters_have_the_logits_and_gradients_of_peft),
        cmocka_unit_test(recomputing_changes_nothing),
        cmocka_unit_test(language_models_have_the_losses_and_gradients_of_transformers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
