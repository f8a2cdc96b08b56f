/* Weights from files and from nowhere; the files of an adapter and of a classifier. */
#include "tiny.h"

/* ---- files ---- */

typedef struct odd { const char *prefix, *without, *other_shape, *other_dtype; bool base_layer; } odd;

/* Element i of tensor number t. */
static float stored(int t, int64_t i) { return (float)(t + 1) + (float)(i % 1000) / 1024; }

/* The name under which a file has it: `prefix` instead of "model.". */
static const char *file_name(const cad_param *p, const odd *o)
{
    static char name[256];
    bool inner = !strncmp(p->name, "model.", 6);

    if (o->base_layer && p->role >= CAD_ROLE_Q && p->role <= CAD_ROLE_O && p->role != CAD_ROLE_MLP_NORM)
        snprintf(name, sizeof name, "%.*s.base_layer%s", (int)(strrchr(p->name, '.') - p->name), p->name, strrchr(p->name, '.'));
    else if (o->prefix && (inner || !strncmp(o->prefix, "base_", 5))) snprintf(name, sizeof name, "%s%s", o->prefix, inner && strncmp(o->prefix, "base_", 5) ? p->name + 6 : p->name);
    else snprintf(name, sizeof name, "%s", p->name);
    return name;
}

static bool written(const cad_param *p, const odd *o, bool adapter)
{
    bool part = p->piece == CAD_PIECE_A || p->piece == CAD_PIECE_B;

    return (adapter ? p->trains : !part) && !(o->without && !strcmp(o->without, p->name));
}

static cad_dtype dtype_of(const cad_param *p, const odd *o) { return o->other_dtype && !strcmp(o->other_dtype, p->name) ? CAD_I32 : CAD_F32; }

static void write_tensors(const char *dir, const char *file, const cad_params *p, const odd *o, bool adapter)
{
    cad_st_writer *w;

    OK(cad_mkdirs(dir));
    OK(cad_st_create(&w, dir, file, 0));
    for (int i = 0; i < p->count; i++) {
        const cad_param *r = &p->row[i];
        bool turned = o->other_shape && !strcmp(o->other_shape, r->name);
        int64_t shape[2] = {r->dims == 2 ? r->rows : r->cols, r->cols};
        cad_str name = {0};
        if (!written(r, o, adapter)) continue;
        if (turned) shape[0]++;
        if (adapter) OK(cad_param_adapter_name(&name, r));
        else OK(cad_str_addf(&name, "%s", file_name(r, o)));
        OK(cad_st_declare(w, name.data, dtype_of(r, o), shape, r->dims));
        cad_str_close(&name);
    }
    for (int i = 0; i < p->count; i++) {
        const cad_param *r = &p->row[i];
        int64_t n = r->elems + (o->other_shape && !strcmp(o->other_shape, r->name) ? (r->dims == 2 ? r->cols : 1) : 0);
        float *v;
        if (!written(r, o, adapter)) continue;
        OK(cad_alloc(&v, (size_t)n, sizeof *v, "values"));
        for (int64_t k = 0; k < n; k++) v[k] = stored(i, k);
        OK(cad_st_write(w, v, (size_t)n * 4));
        cad_free(&v);
    }
    OK(cad_st_finish(w));
    cad_st_abandon(&w);
}

static const cad_method lora = {.lora = true, .r = 2, .alpha = 4, .train_head = true, .train_bias = true, .num_labels = 2};

static cad_params *table(const cad_method *m)
{
    cad_arch a;
    cad_params *p;

    tiny_arch(&a, "qwen2", 2, "");
    OK(cad_params_open(&p, &a, m));
    return p;
}

static void expect_values(const cad_source *s, const cad_params *p, int row)
{
    float v[256];

    assert_true(p->row[row].elems <= 256 && cad_source_has(s, row));
    OK(cad_source_read(s, row, 0, p->row[row].elems, CAD_F32, v));
    for (int64_t k = 0; k < p->row[row].elems; k++)
        if (v[k] != stored(row, k)) fail_msg("%s[%lld]: expected %g, found %g", p->row[row].name, (long long)k, (double)stored(row, k), (double)v[k]);
}

static void every_spelling_of_a_name_is_understood(void **state)
{
    static const char *const prefixes[] = {"model.", "", "backbone.", "base_model.model.", "model.language_model.", "language_model.model."};
    cad_method m = {.num_labels = 2};
    cad_params *p = table(&m);

    (void)state;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        const char *dir = in_scratch("model");
        cad_source *s;
        write_tensors(dir, "model.safetensors", p, &(odd){.prefix = prefixes[i]}, false);
        OK(cad_source_open(&s, dir, NULL, p, false));
        for (int r = 0; r < p->count; r++) expect_values(s, p, r);
        assert_false(cad_source_head_is_new(s));
        cad_source_close(&s);
        OK(cad_remove_tree(dir));
    }
    cad_params_close(&p);
}

static void wrapped_layers_are_understood(void **state)
{
    cad_method m = {.num_labels = 2};
    cad_params *p = table(&m);
    cad_source *s;

    (void)state;
    write_tensors(in_scratch("model"), "model.safetensors", p, &(odd){.base_layer = true}, false);
    OK(cad_source_open(&s, in_scratch("model"), NULL, p, false));
    for (int r = 0; r < p->count; r++) expect_values(s, p, r);
    cad_source_close(&s);
    cad_params_close(&p);
}

static void an_adapter_goes_before_its_base(void **state)
{
    cad_params *p = table(&lora);
    cad_source *s;
    float v;

    (void)state;
    write_tensors(in_scratch("model"), "model.safetensors", p, &(odd){0}, false);
    write_tensors(in_scratch("adapter"), "adapter_model.safetensors", p, &(odd){0}, true);
    OK(cad_source_open(&s, in_scratch("model"), in_scratch("adapter"), p, false));
    for (int r = 0; r < p->count; r++) expect_values(s, p, r);
    cad_source_close(&s);
    OK(cad_source_open(&s, in_scratch("model"), NULL, p, false)); /* a new adapter */
    for (int r = 0; r < p->count; r++) {
        bool part = p->row[r].piece == CAD_PIECE_A || p->row[r].piece == CAD_PIECE_B;
        assert_true(cad_source_has(s, r) == !part);
        OK(cad_source_read(s, r, 0, 1, CAD_F32, &v));
        assert_true(p->row[r].piece != CAD_PIECE_B || v == 0);
    }
    cad_source_close(&s);
    cad_params_close(&p);
}

static void a_head_is_new_only_where_that_is_allowed(void **state)
{
    cad_method m = {.num_labels = 2};
    cad_params *p = table(&m);
    cad_source *s = NULL;

    (void)state;
    write_tensors(in_scratch("model"), "model.safetensors", p, &(odd){.without = "score.weight"}, false);
    OK(cad_source_open(&s, in_scratch("model"), NULL, p, true));
    assert_true(cad_source_head_is_new(s) && !cad_source_has(s, p->count - 1) && cad_source_has(s, 0));
    cad_source_close(&s);
    assert_int_equal(cad_source_open(&s, in_scratch("model"), NULL, p, false), CAD_EMODEL);
    expect_reason("tensor score.weight: expected in ");
    assert_null(s);
    cad_params_close(&p);
}

static void refuse(const cad_params *p, const odd *model, const odd *adapter, const char *reason)
{
    const char *dir = in_scratch("model"), *other = in_scratch("adapter");
    cad_source *s = NULL;

    write_tensors(dir, "model.safetensors", p, model, false);
    if (adapter) write_tensors(other, "adapter_model.safetensors", p, adapter, true);
    assert_int_equal(cad_source_open(&s, dir, adapter ? other : NULL, p, true), CAD_EMODEL);
    expect_reason(reason);
    assert_null(s);
    OK(cad_remove_tree(dir));
    if (adapter) OK(cad_remove_tree(other));
}

static void what_does_not_fit_is_named(void **state)
{
    cad_params *p = table(&lora);

    (void)state;
    refuse(p, &(odd){.without = "model.norm.weight"}, NULL, "tensor model.norm.weight: expected in ");
    refuse(p, &(odd){.without = "model.layers.1.self_attn.k_proj.bias"}, NULL, "tensor model.layers.1.self_attn.k_proj.bias: expected in ");
    refuse(p, &(odd){.other_shape = "model.embed_tokens.weight"}, NULL, "tensor model.embed_tokens.weight in ");
    refuse(p, &(odd){.other_shape = "model.embed_tokens.weight"}, NULL, "model.safetensors: expected shape [13, 8], found [14, 8]");
    refuse(p, &(odd){.other_shape = "model.norm.weight", .prefix = ""}, NULL, "tensor norm.weight in ");
    refuse(p, &(odd){.other_shape = "model.norm.weight"}, NULL, "expected shape [8], found [9]");
    refuse(p, &(odd){.other_dtype = "model.layers.0.mlp.up_proj.weight"}, NULL, "expected F32, BF16, F16 or F64, found I32");
    refuse(p, &(odd){0}, &(odd){.without = "model.layers.1.mlp.up_proj.lora_B.weight"}, "tensor model.layers.1.mlp.up_proj.lora_B.weight: expected in ");
    refuse(p, &(odd){0}, &(odd){.other_shape = "model.layers.0.self_attn.q_proj.lora_A.weight"}, "expected shape [2, 8], found [3, 8]");
    cad_params_close(&p);
}

/* One element of one tensor of an adapter's file becomes `bits`. */
static void spoil(const char *file, const char *tensor, int64_t element, uint32_t bits)
{
    cad_st *st;
    const cad_st_tensor *t;
    char *bytes;
    size_t n;

    OK(cad_st_open(&st, file));
    t = cad_st_find(st, tensor);
    assert_non_null(t);
    OK(cad_read_file(&bytes, &n, file, 1 << 20, CAD_EDATA));
    /* data lie at the end of the file, tensor after tensor */
    size_t after = 0;
    for (int i = 0; i < cad_st_count(st); i++) after += cad_st_at(st, i)->data >= t->data ? cad_st_at(st, i)->bytes : 0;
    memcpy(bytes + n - after + (size_t)element * 4, &bits, 4);
    cad_st_close(&st);
    put_file(file, bytes, n);
    cad_free(&bytes);
}

static void an_adapter_with_numbers_that_are_none_is_refused(void **state)
{
    static const struct { const char *tensor; int64_t element; uint32_t bits; const char *reason; } cases[] = {
        {"base_model.model.model.layers.1.mlp.up_proj.lora_B.weight", 3, 0x7FC00000, "lora_B.weight in "},
        {"base_model.model.model.layers.1.mlp.up_proj.lora_B.weight", 3, 0x7FC00000, "adapter_model.safetensors: expected finite numbers, found NaN at element 3"},
        {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", 15, 0xFF800000, "found infinity at element 15"},
        {"base_model.model.score.weight", 0, 0x7F800001, "tensor base_model.model.score.weight in "},
    };
    cad_params *p = table(&lora);
    cad_source *s = NULL;

    (void)state;
    write_tensors(in_scratch("model"), "model.safetensors", p, &(odd){0}, false);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_tensors(in_scratch("adapter"), "adapter_model.safetensors", p, &(odd){0}, true);
        spoil(in_scratch("adapter/adapter_model.safetensors"), cases[i].tensor, cases[i].element, cases[i].bits);
        assert_int_equal(cad_source_open(&s, in_scratch("model"), in_scratch("adapter"), p, false), CAD_EMODEL);
        expect_reason(cases[i].reason);
        assert_null(s);
    }
    cad_params_close(&p);
}

/* A file with one more tensor than the table has. */
static void an_adapter_with_a_tensor_too_many_is_refused(void **state)
{
    static const struct { const char *name; bool fits; } cases[] = {
        {"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight", false}, {"base_model.model.model.layers.0.self_attn.q_proj.ia3_l", false},
        {"base_model.model.model.layers.0.mlp.other.weight", false},               {"base_model.model.prompt_embeddings", false},
        {"base_model.model.lm_head.weight", true} /* of another task */};
    cad_params *p = table(&lora);
    float x[4] = {1, 2, 3, 4};
    int64_t four = 4;

    (void)state;
    write_tensors(in_scratch("model"), "model.safetensors", p, &(odd){0}, false);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cad_st_writer *w;
        cad_source *s = NULL;
        OK(cad_mkdirs(in_scratch("adapter")));
        OK(cad_st_create(&w, in_scratch("adapter"), "adapter_model.safetensors", 0));
        OK(cad_st_declare(w, cases[i].name, CAD_F32, &four, 1));
        OK(cad_st_write(w, x, sizeof x));
        OK(cad_st_finish(w));
        cad_st_abandon(&w);
        assert_int_equal(cad_source_open(&s, in_scratch("model"), in_scratch("adapter"), p, false), CAD_EMODEL);
        assert_true(cases[i].fits || strstr(cad_reason(), cases[i].name));
        expect_reason(cases[i].fits ? "lora_A.weight: expected in " : "found no place for it");
    }
    cad_params_close(&p);
}

static void an_adapter_on_other_layers_is_refused(void **state)
{
    static const char *const targets[] = {"q_proj"};
    cad_method narrow = lora;
    cad_params *wide = table(&lora), *p;
    cad_source *s = NULL;

    (void)state;
    narrow.targets = targets;
    narrow.target_count = 1;
    p = table(&narrow);
    write_tensors(in_scratch("model"), "model.safetensors", wide, &(odd){0}, false);
    write_tensors(in_scratch("adapter"), "adapter_model.safetensors", wide, &(odd){0}, true);
    assert_int_equal(cad_source_open(&s, in_scratch("model"), in_scratch("adapter"), p, false), CAD_EMODEL);
    expect_reason("found no place for it");
    cad_params_close(&wide);
    cad_params_close(&p);
}

static void a_missing_directory_is_named(void **state)
{
    cad_params *p = table(&lora);
    cad_source *s = NULL;

    (void)state;
    assert_int_equal(cad_source_open(&s, in_scratch("none"), NULL, p, true), CAD_EMODEL);
    expect_reason("/none");
    cad_params_close(&p);
}

/* ---- what no file holds ---- */

/* Expert e's matrix of `half` (0 gate or down, 1 up) as a linear layer [out, in]. */
static float of_expert(int64_t e, int64_t half, int64_t o, int64_t i) { return (float)(e + 1) + (float)half / 4 + (float)o / 64 + (float)i / 4096; }

static bool is_experts(const cad_param *p) { return p->role == CAD_ROLE_EXPERT_GATE_UP || p->role == CAD_ROLE_EXPERT_DOWN; }

static void name_expert(char out[128], const cad_param *p, int64_t e, int64_t half)
{
    snprintf(out, 128, "language_model.model.layers.%d.feed_forward.experts.%lld.%s_proj.weight", p->unit - 1, (long long)e, p->role == CAD_ROLE_EXPERT_DOWN ? "down" : half ? "up" : "gate");
}

static void write_one_by_one(const char *dir, const cad_params *p, const char *without)
{
    cad_st_writer *w;
    char name[128];

    OK(cad_mkdirs(dir));
    OK(cad_st_create(&w, dir, "model.safetensors", 0));
    for (int pass = 0; pass < 2; pass++)
        for (int r = 0; r < p->count; r++) {
            const cad_param *q = &p->row[r];
            int64_t halves = q->role == CAD_ROLE_EXPERT_GATE_UP ? 2 : 1, shape[3] = {q->cols / halves, q->rows / q->groups};
            float v[256] = {0};
            if (!is_experts(q)) {
                assert_true(q->elems <= 256);
                if (pass) OK(cad_st_write(w, v, (size_t)q->elems * 4));
                else OK(cad_st_declare(w, q->name, CAD_F32, shape, cad_param_shape(q, shape)));
                continue;
            }
            for (int64_t e = 0; e < q->groups * halves; e++) {
                name_expert(name, q, e / halves, e % halves);
                if (without && !strcmp(name, without)) continue;
                for (int64_t k = 0; k < shape[0] * shape[1]; k++) v[k] = of_expert(e / halves, e % halves, k / shape[1], k % shape[1]);
                if (pass) OK(cad_st_write(w, v, (size_t)(shape[0] * shape[1]) * 4));
                else OK(cad_st_declare(w, name, CAD_F32, shape, 2));
            }
        }
    OK(cad_st_finish(w));
    cad_st_abandon(&w);
}

/* Any stretch of a row, element by element. */
static void expect_experts(const cad_source *s, const cad_params *p, int row, uint64_t draw)
{
    const cad_param *q = &p->row[row];
    int64_t from = (int64_t)(cad_rng_uniform(3, CAD_RNG_TEST, (uint32_t)row, 2 * draw) * (double)q->elems);
    int64_t n = 1 + (int64_t)(cad_rng_uniform(3, CAD_RNG_TEST, (uint32_t)row, 2 * draw + 1) * (double)(q->elems - from - 1)), in = q->rows / q->groups, halves = q->role == CAD_ROLE_EXPERT_GATE_UP ? 2 : 1;
    float wide[1024];
    uint16_t half[1024];

    assert_true(n <= 1024 && cad_source_has(s, row));
    OK(cad_source_read(s, row, from, n, CAD_F32, wide));
    OK(cad_source_read(s, row, from, n, CAD_BF16, half));
    for (int64_t k = 0; k < n; k++) {
        int64_t r = (from + k) / q->cols, c = (from + k) % q->cols, out = q->cols / halves;
        float want = of_expert(r / in, c / out, c % out, r % in);
        if (wide[k] != want || half[k] != cad_f32_to_bf16(want)) fail_msg("%s[%lld]: expected %g, found %g", q->name, (long long)(from + k), (double)want, (double)wide[k]);
    }
}

static void experts_may_be_stored_one_by_one(void **state)
{
    static const char missing[] = "language_model.model.layers.1.feed_forward.experts.2.up_proj.weight";
    cad_method m = {.num_labels = 2};
    const char *dir = in_scratch("model");
    cad_source *s;
    cad_params *p;
    cad_arch a;

    (void)state;
    tiny_arch(&a, "llama4_text", 2, ", \"num_local_experts\": 3, \"intermediate_size_mlp\": 10");
    OK(cad_params_open(&p, &a, &m));
    write_one_by_one(dir, p, NULL);
    OK(cad_source_open(&s, dir, NULL, p, false));
    for (int r = 0; r < p->count; r++)
        for (uint64_t i = 0; i < 50 && is_experts(&p->row[r]); i++) expect_experts(s, p, r, i);
    cad_source_close(&s);
    OK(cad_remove_tree(dir));
    write_one_by_one(dir, p, missing);
    assert_int_equal(cad_source_open(&s, dir, NULL, p, false), CAD_EMODEL);
    assert_non_null(strstr(cad_reason(), "tensor model.layers.1.feed_forward.experts.2.up_proj.weight: expected in "));
    cad_clear();
    cad_params_close(&p);
    assert_int_equal(cad_mem_blocks(), 0);
}

static void drawn_values_do_not_depend_on_the_cut(void **state)
{
    cad_params *p = table(&lora);
    cad_source *a, *b, *c;
    float whole[256], piece[256], other[256];
    bool differs = false;

    (void)state;
    OK(cad_source_open(&a, NULL, NULL, p, true));
    OK(cad_source_open(&b, NULL, NULL, p, true));
    OK(cad_source_open(&c, NULL, NULL, p, true));
    cad_source_set_draw(a, 7, 0.02);
    cad_source_set_draw(b, 7, 0.02);
    cad_source_set_draw(c, 8, 0.02);
    for (int r = p->count - 1; r >= 0; r--) {
        int64_t n = p->row[r].elems, cut = n / 3;
        OK(cad_source_read(a, r, 0, n, CAD_F32, whole));
        OK(cad_source_read(b, r, cut, n - cut, CAD_F32, piece + cut));
        OK(cad_source_read(b, r, 0, cut, CAD_F32, piece));
        OK(cad_source_read(c, r, 0, n, CAD_F32, other));
        assert_memory_equal(whole, piece, (size_t)n * 4);
        differs |= memcmp(whole, other, (size_t)n * 4) != 0;
    }
    assert_true(differs);
    cad_source_close(&a);
    cad_source_close(&b);
    cad_source_close(&c);
    cad_params_close(&p);
}

/* The mean of n normal numbers is within 5 sd / sqrt(n), their variance within 5 sqrt(2 / n) of itself: one failure in a million. */
static void check_normal(const float *v, int64_t n, double sd)
{
    double sum = 0, squares = 0;

    for (int64_t i = 0; i < n; i++) {
        sum += (double)v[i];
        squares += (double)v[i] * (double)v[i];
    }
    assert_true(fabs(sum / (double)n) < 5 * sd / sqrt((double)n));
    assert_true(fabs(squares / (double)n / (sd * sd) - 1) < 5 * sqrt(2 / (double)n));
}

static void drawn_values_have_the_sizes_of_transformers_and_peft(void **state)
{
    static const char config[] = "{\"model_type\": \"qwen2\", \"num_hidden_layers\": 1, \"hidden_size\": 64, \"intermediate_size\": 96, \"num_attention_heads\": 4, \"vocab_size\": 50}";
    cad_arch a;
    cad_params *p;
    cad_source *s;
    float *v;

    (void)state;
    OK(cad_arch_parse(&a, config, sizeof config - 1, "config.json"));
    OK(cad_params_open(&p, &a, &lora));
    OK(cad_source_open(&s, NULL, NULL, p, true));
    cad_source_set_draw(s, 3, 0.05);
    OK(cad_alloc(&v, 64 * 96, sizeof *v, "values"));
    for (int r = 0; r < p->count; r++) {
        const cad_param *q = &p->row[r];
        double bound = 1 / sqrt((double)q->cols), most = 0;
        OK(cad_source_read(s, r, 0, q->elems, CAD_F32, v));
        for (int64_t i = 0; i < q->elems; i++) most = fmax(most, fabs((double)v[i]));
        if (q->piece == CAD_PIECE_A) assert_true(most <= bound && most > 0.9 * bound);
        else if (q->piece == CAD_PIECE_B || q->piece == CAD_PIECE_BIAS) assert_true(most == 0);
        else if (q->dims == 1) assert_true(most == 1 && v[0] == 1);
        else check_normal(v, q->elems, 0.05);
    }
    cad_free(&v);
    cad_source_close(&s);
    cad_params_close(&p);
}

/* ---- adapter_config.json ---- */

static void put_config(const char *text)
{
    OK(cad_mkdirs(in_scratch("adapter")));
    put_file(in_scratch("adapter/adapter_config.json"), text, strlen(text));
}

static void an_adapter_of_peft_is_read(void **state)
{
    cad_adapter_config c;

    (void)state;
    put_config("{\"alora_invocation_tokens\": null, \"alpha_pattern\": {}, \"auto_mapping\": null, \"base_model_name_or_path\": \"llama/model\", \"bias\": \"none\", \"corda_config\": null, "
               "\"exclude_modules\": null, \"fan_in_fan_out\": false, \"inference_mode\": true, \"init_lora_weights\": true, \"layer_replication\": null, \"layers_to_transform\": null, "
               "\"loftq_config\": {}, \"lora_alpha\": 8, \"lora_bias\": false, \"lora_dropout\": 0.05, \"modules_to_save\": [\"score\", \"classifier\", \"score\"], \"peft_type\": \"LORA\", "
               "\"peft_version\": \"0.21.2\", \"r\": 4, \"rank_pattern\": {}, \"target_modules\": [\"k_proj\", \"gate_proj\"], \"target_parameters\": null, \"task_type\": \"SEQ_CLS\", "
               "\"use_dora\": false, \"use_rslora\": true}");
    assert_true(cad_is_adapter(in_scratch("adapter")) && !cad_is_adapter(in_scratch("model")));
    OK(cad_adapter_config_read(&c, in_scratch("adapter")));
    assert_string_equal(c.base_model, "llama/model");
    assert_true(c.r == 4 && c.alpha == 8 && c.dropout == 0.05 && c.rslora && !c.train_bias && c.saves_head && !c.target_is_regex && c.target_count == 2);
    assert_string_equal(c.targets[1], "gate_proj");
    cad_adapter_config_close(&c);
    put_config("{\"peft_type\": \"LORA\", \"r\": 64, \"target_modules\": \".*_proj\", \"bias\": \"lora_only\", \"base_model_name_or_path\": null, \"modules_to_save\": null}");
    OK(cad_adapter_config_read(&c, in_scratch("adapter")));
    assert_true(!c.base_model && c.r == 64 && c.alpha == 8 && c.train_bias && c.adapted_bias_only && c.target_is_regex && !c.saves_head);
    cad_adapter_config_close(&c);
    put_config("{\"peft_type\": \"LORA\", \"target_modules\": \"all-linear\", \"bias\": \"all\"}");
    OK(cad_adapter_config_read(&c, in_scratch("adapter")));
    assert_true(c.r == 8 && c.train_bias && !c.adapted_bias_only && !c.target_is_regex && c.target_count == 1);
    cad_adapter_config_close(&c);
}

static void what_an_adapter_needs_and_we_do_not_compute_is_refused(void **state)
{
    static const struct { const char *json, *reason; } cases[] = {
        {"{\"peft_type\": \"LOHA\", \"target_modules\": [\"q_proj\"]}", "peft_type: expected LORA"},
        {"{\"target_modules\": [\"q_proj\"], \"use_dora\": 1}", "use_dora: expected true or false"},
        {"{\"target_modules\": [\"q_proj\"], \"rank_pattern\": {\"q_proj\": 0}}", "rank_pattern: expected whole numbers from 1 to 4096"},
        {"{\"target_modules\": [\"q_proj\"], \"rank_pattern\": [4]}", "rank_pattern: expected a table"},
        {"{\"target_modules\": [\"q_proj\"], \"alpha_pattern\": {\"q_proj\": \"x\"}}", "alpha_pattern: expected numbers"},
        {"{\"target_modules\": [\"q_proj\"], \"layers_to_transform\": [-1]}", "layers_to_transform: expected layers from 0"},
        {"{\"target_modules\": [\"q_proj\"], \"layers_to_transform\": true}", "layers_to_transform: expected a whole number or a list"},
        {"{\"target_modules\": [\"q_proj\"], \"exclude_modules\": 3}", "exclude_modules: expected a list or a word"},
        {"{\"target_modules\": [\"q_proj\"], \"layers_pattern\": [3]}", "layers_pattern: expected words"},
        {"{\"target_modules\": [\"q_proj\"], \"lora_bias\": true}", "\"lora_bias\""},
        {"{\"target_modules\": [\"q_proj\"], \"fan_in_fan_out\": true}", "\"fan_in_fan_out\""},
        {"{\"target_modules\": [\"q_proj\"], \"target_parameters\": [3]}", "target_parameters: expected words"},
        {"{\"target_modules\": [\"q_proj\"], \"target_parameters\": \"x\"}", "target_parameters: expected a list of words, found one word"},
        {"{\"target_modules\": [\"q_proj\"], \"init_lora_weights\": \"pissa\"}", "init_lora_weights: expected an adapter that leaves the base weights as they are"},
        {"{\"target_modules\": [\"q_proj\"], \"r\": 0}", "r: expected a whole number from 1 to 4096"},
        {"{\"target_modules\": [\"q_proj\"], \"r\": \"8\"}", "r: expected a whole number"},
        {"{\"target_modules\": [\"q_proj\"], \"lora_alpha\": \"x\"}", "lora_alpha and lora_dropout: expected numbers"},
        {"{\"target_modules\": [\"q_proj\"], \"use_rslora\": 1}", "use_rslora: expected true or false"},
        {"{\"target_modules\": [\"q_proj\"], \"bias\": \"some\"}", "bias: expected none, all or lora_only, found \"some\""},
        {"{\"target_modules\": [\"q_proj\", 3]}", "target_modules: expected words"},
        {"{\"r\": 8}", "target_modules: expected a list or a word"},
        {"{\"target_modules\": null}", "target_modules: expected a list or a word"},
        {"{\"target_modules\"", "adapter_config.json:1:"},
        {"", "adapter_config.json:1:"},
        {"[]", "adapter_config.json: expected a table"},
        {"\"LORA\"", "adapter_config.json: expected a table"},
        {"{\"target_modules\": [\"q_proj\"], \"target_modules\": 1}", "adapter_config.json:1:"},
        {"{\"target_modules\": []}", "target_modules: expected"},
        {"{\"peft_type\": 7, \"target_modules\": [\"q_proj\"]}", "peft_type: expected LORA"},
        {"{\"target_modules\": [\"q_proj\"], \"r\": 1000000000}", "r: expected a whole number from 1 to 4096"},
        {"{\"target_modules\": [\"q_proj\"], \"r\": 8.5}", "r: expected a whole number"},
        {"{\"target_modules\": [\"q_proj\"], \"lora_alpha\": 1e400}", "adapter_config.json"},
        {"{\"target_modules\": [\"q_proj\"], \"lora_alpha\": NaN}", "adapter_config.json"},
        {"{\"target_modules\": [\"q_proj\"], \"lora_dropout\": 2}", "lora_dropout: expected"},
        {"{\"target_modules\": [\"q_proj\"], \"bias\": 1}", "bias: expected a word"},
        {"{\"target_modules\": [\"q_proj\"], \"modules_to_save\": {}}", "modules_to_save: expected a list or a word"},
        {"{\"target_modules\": [\"q_proj\"], \"base_model_name_or_path\": 3}", "base_model_name_or_path: expected a word"},
        {"{\"target_modules\": [\"q_proj\"], \"task_type\": 3}", "task_type: expected a word"},
    };
    cad_adapter_config c;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_config(cases[i].json);
        if (cad_adapter_config_read(&c, in_scratch("adapter")) != CAD_EMODEL) fail_msg("%s is not refused", cases[i].json);
        if (!strstr(cad_reason(), "adapter_config.json")) fail_msg("%s: the file is not named in \"%s\"", cases[i].json, cad_reason());
        expect_reason(cases[i].reason);
    }
}

static void a_written_adapter_is_read_back(void **state)
{
    static const char *const targets[] = {"q_proj", "down_proj"}, *const saves[] = {"score", "embed_tokens"}, *const excluded[] = {"a.*b"};
    static char x[] = "x", y[] = "y";
    static const cad_module_number numbers[] = {{x, 5}, {y, 2.5}};
    static const int layers[] = {1, 7};
    cad_method back, m = {.lora = true, .r = 12, .alpha = 2.5, .dropout = 0.125, .rslora = true, .train_bias = true, .targets = targets, .target_count = 2, .train_head = true, .saves = saves, .save_count = 2};
    cad_adapter_config c;
    cad_tree *t;
    cad_arch a;
    const char *word;

    (void)state;
    tiny_arch(&a, "qwen2", 2, "");
    OK(cad_adapter_config_write(in_scratch(""), "some/base", &a, &m));
    OK(cad_adapter_config_read(&c, in_scratch("")));
    assert_string_equal(c.base_model, "some/base");
    assert_true(c.r == 12 && c.alpha == 2.5 && c.dropout == 0.125 && c.rslora && c.train_bias && !c.adapted_bias_only && c.saves_head && c.target_count == 2 && c.save_count == 2);
    assert_string_equal(c.saves[1], "embed_tokens");
    assert_string_equal(c.targets[0], "q_proj");
    cad_adapter_config_close(&c);
    m = (cad_method){.lora = true, .r = 1, .alpha = 1, .train_bias = true, .adapted_bias_only = true};
    OK(cad_adapter_config_write(in_scratch(""), NULL, &a, &m));
    OK(cad_adapter_config_read(&c, in_scratch("")));
    assert_true(!c.base_model && c.target_count == 7 && c.train_bias && c.adapted_bias_only && !c.saves_head);
    assert_string_equal(c.targets[6], "down_proj");
    cad_adapter_config_close(&c);
    m = (cad_method){.lora = true, .dora = true, .r = 3, .alpha = 1, .targets = targets, .target_count = 2, .excluded = excluded, .exclude_count = 1, .exclude_is_regex = true, .only_layers = layers, .only_count = 2,
                     .layers_pattern = targets + 1, .layers_pattern_count = 1, .ranks = numbers, .rank_count = 1, .alphas = numbers + 1, .alpha_count = 1};
    OK(cad_adapter_config_write(in_scratch(""), NULL, &a, &m));
    OK(cad_adapter_config_read(&c, in_scratch("")));
    memset(&back, 0, sizeof back);
    cad_method_take_adapter(&back, &c);
    assert_true(back.dora && back.exclude_is_regex && back.exclude_count == 1 && !strcmp(back.excluded[0], "a.*b") && back.only_count == 2 && back.only_layers[1] == 7);
    assert_true(back.layers_pattern_count == 1 && !strcmp(back.layers_pattern[0], "down_proj") && back.rank_count == 1 && back.ranks[0].value == 5 && !strcmp(back.ranks[0].pattern, "x"));
    assert_true(back.alpha_count == 1 && back.alphas[0].value == 2.5 && back.r == 3);
    cad_adapter_config_close(&c);
    OK(cad_json_read(&t, in_scratch("adapter_config.json"), 1 << 16, CAD_EMODEL));
    assert_true(cad_get_string(t->root, "task_type", &word, NULL));
    assert_string_equal(word, "SEQ_CLS");
    assert_true(cad_get_string(t->root, "peft_type", &word, NULL));
    assert_string_equal(word, "LORA");
    for (const cad_node *n = t->root->child; n->next; n = n->next) assert_true(strcmp(n->key, n->next->key) < 0); /* sorted, as PEFT's */
    cad_tree_close(&t);
}

/* ---- config.json of a classifier ---- */

static void a_classifier_keeps_what_its_source_says(void **state)
{
    static const char source[] = "{\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\", \"hidden_size\": 64, \"num_attention_heads\": 4, \"torch_dtype\": \"float16\", "
                                 "\"num_labels\": 7, \"id2label\": {\"0\": \"x\"}, \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 2.5}, \"eos_token_id\": [1, 2], \"odd\": 12345678901234567890}";
    cad_method m = {.num_labels = 2, .compute = CAD_BF16};
    cad_arch a, b;
    cad_tree *t;
    const cad_node *n;
    const char *word;

    (void)state;
    OK(cad_arch_parse(&a, source, strlen(source), "config.json"));
    OK(cad_classifier_config_write(in_scratch("config.json"), source, &a, &m));
    OK(cad_arch_read(&b, in_scratch("")));
    assert_true(b.hidden == 64 && b.num_labels == 2 && b.stored == CAD_BF16 && b.rope.kind == CAD_ROPE_LINEAR && b.rope.factor == 2.5);
    OK(cad_json_read(&t, in_scratch("config.json"), 1 << 16, CAD_EMODEL));
    n = cad_get(t->root, "architectures");
    assert_string_equal(n->child->text, "Qwen2ForSequenceClassification");
    assert_null(cad_get(t->root, "num_labels"));
    assert_true(cad_get_string(t->root, "torch_dtype", &word, NULL));
    assert_string_equal(word, "bfloat16");
    n = cad_get(t->root, "id2label");
    assert_true(n->children == 2 && !strcmp(n->child->text, "LABEL_0") && cad_get(cad_get(t->root, "label2id"), "LABEL_1")->integer == 1);
    assert_int_equal(cad_get(t->root, "eos_token_id")->children, 2);
    assert_string_equal(cad_get(t->root, "odd")->text, "12345678901234567890");
    cad_tree_close(&t);
    m.custom_head = true;
    m.compute = CAD_F32;
    OK(cad_classifier_config_write(in_scratch("config.json"), "{\"model_type\": \"qwen2\"}", &a, &m));
    OK(cad_json_read(&t, in_scratch("config.json"), 1 << 16, CAD_EMODEL));
    assert_string_equal(cad_get(t->root, "architectures")->child->text, "Qwen2Model");
    assert_string_equal(cad_get(t->root, "dtype")->text, "float32");
    cad_tree_close(&t);
}

static void no_failed_allocation_leaks(void **state)
{
    cad_params *p = table(&lora);
    const char *dir = in_scratch("model"), *other = in_scratch("adapter");
    cad_source *s = NULL;
    cad_adapter_config c;
    cad_status status = CAD_ERESOURCE;
    int64_t before;

    (void)state;
    write_tensors(dir, "model.safetensors", p, &(odd){0}, false);
    write_tensors(other, "adapter_model.safetensors", p, &(odd){0}, true);
    put_config("{\"target_modules\": [\"q_proj\", \"k_proj\"], \"base_model_name_or_path\": \"b\"}");
    before = cad_mem_blocks();
    for (int64_t nth = 1; status && nth < 2000; nth++) {
        cad_mem_fail_at(nth);
        status = cad_source_open(&s, dir, other, p, true);
        cad_mem_fail_at(0);
        cad_clear();
        cad_source_close(&s);
        assert_int_equal(cad_mem_blocks(), before);
    }
    assert_int_equal(status, CAD_OK);
    status = CAD_ERESOURCE;
    for (int64_t nth = 1; status && nth < 2000; nth++) {
        cad_mem_fail_at(nth);
        status = cad_adapter_config_read(&c, other);
        cad_mem_fail_at(0);
        cad_clear();
        cad_adapter_config_close(&c);
        assert_int_equal(cad_mem_blocks(), before);
    }
    assert_int_equal(status, CAD_OK);
    cad_params_close(&p);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_scratch, drop_scratch)

/* Two slices of a matrix, whose scales are known before, and the whole. */
static void numbers_come_back_from_codes_in_slices(void **state)
{
    enum { ROWS = 9, COLS = 1000, N = ROWS * COLS, CUT = 64 * 60, BLOCKS = (N + 63) / 64 };
    static float whole[N], parts[N], scales[BLOCKS];
    static uint8_t codes[N];
    cad_param p = {.rows = ROWS, .cols = COLS, .elems = N, .code = CAD_NF4};

    (void)state;
    for (int nested = 0; nested < 2; nested++) {
        for (int i = 0; i < N; i++) whole[i] = parts[i] = (float)cad_rng_normal(5, CAD_RNG_TEST, (uint32_t)(i / 700), (uint64_t)i);
        p.nested = nested;
        cad_to_codes(CAD_NF4, parts, CUT, codes, scales);
        cad_to_codes(CAD_NF4, parts + CUT, N - CUT, codes, scales + CUT / 64);
        assert_false(nested ? cad_nest_through(scales, BLOCKS) : CAD_OK);
        assert_false(cad_through_codes(&p, CAD_BF16, N, whole, NULL));
        assert_false(cad_through_codes(&p, CAD_BF16, CUT, parts, scales));
        assert_false(cad_through_codes(&p, CAD_BF16, N - CUT, parts + CUT, scales + CUT / 64));
        assert_memory_equal(whole, parts, sizeof whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_spelling_of_a_name_is_understood),
        TEST(wrapped_layers_are_understood),
        TEST(an_adapter_goes_before_its_base),
        TEST(a_head_is_new_only_where_that_is_allowed),
        TEST(what_does_not_fit_is_named),
        TEST(an_adapter_with_numbers_that_are_none_is_refused), TEST(an_adapter_with_a_tensor_too_many_is_refused), TEST(an_adapter_on_other_layers_is_refused),
        TEST(a_missing_directory_is_named),
        TEST(experts_may_be_stored_one_by_one),
        TEST(drawn_values_do_not_depend_on_the_cut),
        TEST(drawn_values_have_the_sizes_of_transformers_and_peft),
        TEST(an_adapter_of_peft_is_read),
        TEST(what_an_adapter_needs_and_we_do_not_compute_is_refused),
        TEST(a_written_adapter_is_read_back),
        TEST(a_classifier_keeps_what_its_source_says),
        TEST(numbers_come_back_from_codes_in_slices),
        TEST(no_failed_allocation_leaks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
