#include "model_priv.h"

#include <cadtrain/embedded.h>

#include <math.h>
#include <stdio.h>

/* What reading needs at hand: the family's row, the configuration, and where it stands for the sentences. */
typedef struct reader { const cad_node *family, *config; const char *path; } reader;

static cad_status bad_type(const reader *r, const char *key, const char *expected)
{
    const cad_node *n = cad_get(r->config, key);

    return cad_fail(CAD_EMODEL, "%s:%d:%d: \"%s\": expected %s, found %s", r->path, n ? n->line : 1, n ? n->column : 1, key, expected,
                    n ? cad_kind_name(n->kind) : "nothing");
}

/* A number of config.json, or what the family says it means when it is absent; `needed` without either is an error. */
static cad_status number(const reader *r, const char *key, double *out, double otherwise, bool needed)
{
    double fallback = otherwise;
    const cad_node *defaults = cad_get(r->family, "defaults");

    if (!cad_get_real(defaults, key, &fallback, otherwise)) return cad_fail(CAD_EINTERNAL, "family row: \"%s\" is no number", key);
    if (!cad_get_real(r->config, key, out, fallback)) return bad_type(r, key, "a number");
    if (needed && isnan(*out)) return cad_fail(CAD_EMODEL, "%s: expected \"%s\", found no such key", r->path, key);
    return CAD_OK;
}

static cad_status whole(const reader *r, const char *key, int64_t *out, double otherwise, int64_t least, int64_t most)
{
    double value;

    CAD_TRY(number(r, key, &value, otherwise, true));
    if (value != floor(value) || value < (double)least || value > (double)most)
        return cad_fail(CAD_EMODEL, "%s: \"%s\": expected a whole number from %lld to %lld, found %g", r->path, key, (long long)least, (long long)most, value);
    *out = (int64_t)value;
    return CAD_OK;
}

static cad_status truth(const reader *r, const char *key, bool *out, bool otherwise)
{
    bool fallback = otherwise;

    (void)cad_get_bool(cad_get(r->family, "defaults"), key, &fallback, otherwise);
    if (!cad_get_bool(r->config, key, out, fallback)) return bad_type(r, key, "true or false");
    return CAD_OK;
}

/* A fact of the block: true, false, or the name of the key of config.json that decides. */
static cad_status fact(const reader *r, const char *name, bool *out)
{
    const cad_node *n = cad_get(cad_get(r->family, "block"), name);

    if (!n) return cad_fail(CAD_EINTERNAL, "family row: block has no \"%s\"", name);
    *out = n->boolean;
    return n->kind == CAD_STRING ? truth(r, n->text, out, false) : CAD_OK;
}

static cad_status copy_name(char *out, size_t room, const cad_node *table, const char *key)
{
    const char *text;

    if (!cad_get_string(table, key, &text, NULL) || !text || strlen(text) >= room) return cad_fail(CAD_EINTERNAL, "family row: no usable \"%s\"", key);
    memcpy(out, text, strlen(text) + 1);
    return CAD_OK;
}

static cad_status read_names(cad_arch *a, const reader *r)
{
    const cad_node *t = cad_get(r->family, "tensors");
    struct { char *out; size_t room; const char *key; } all[] = {
        {a->names.embed, sizeof a->names.embed, "embed"}, {a->names.final_norm, sizeof a->names.final_norm, "final_norm"},
        {a->names.block_prefix, sizeof a->names.block_prefix, "block_prefix"}, {a->names.attn_norm, sizeof a->names.attn_norm, "attn_norm"},
        {a->names.mlp_norm, sizeof a->names.mlp_norm, "mlp_norm"}, {a->names.q, sizeof a->names.q, "q"}, {a->names.k, sizeof a->names.k, "k"},
        {a->names.v, sizeof a->names.v, "v"}, {a->names.o, sizeof a->names.o, "o"}, {a->names.gate, sizeof a->names.gate, "gate"},
        {a->names.up, sizeof a->names.up, "up"}, {a->names.down, sizeof a->names.down, "down"}};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) CAD_TRY(copy_name(all[i].out, all[i].room, t, all[i].key));
    CAD_TRY(copy_name(a->family, sizeof a->family, r->family, "family"));
    return copy_name(a->class_stem, sizeof a->class_stem, r->family, "class_stem");
}

static cad_status read_sizes(cad_arch *a, const reader *r)
{
    int64_t layers;

    CAD_TRY(whole(r, "hidden_size", &a->hidden, NAN, 1, 1 << 20));
    CAD_TRY(whole(r, "intermediate_size", &a->intermediate, NAN, 1, 1 << 22));
    CAD_TRY(whole(r, "num_hidden_layers", &layers, NAN, 1, CAD_MAX_LAYERS));
    CAD_TRY(whole(r, "num_attention_heads", &a->q_heads, NAN, 1, 1 << 16));
    CAD_TRY(whole(r, "num_key_value_heads", &a->kv_heads, (double)a->q_heads, 1, 1 << 16));
    CAD_TRY(whole(r, "vocab_size", &a->vocab, NAN, 1, 1 << 24));
    CAD_TRY(whole(r, "max_position_embeddings", &a->max_positions, NAN, 1, 1 << 26));
    CAD_TRY(whole(r, "head_dim", &a->head_dim, (double)(a->hidden / a->q_heads), 2, 1024));
    a->layers = (int)layers;
    if (a->head_dim % 2) return cad_fail(CAD_EMODEL, "%s: \"head_dim\": expected an even number from 2 to 1024, found %lld", r->path, (long long)a->head_dim);
    if (a->q_heads % a->kv_heads)
        return cad_fail(CAD_EMODEL, "%s: expected num_attention_heads (%lld) to be a multiple of num_key_value_heads (%lld)", r->path, (long long)a->q_heads, (long long)a->kv_heads);
    return CAD_OK;
}

/* The family row says which word of config.json means which kind of rotation. */
static bool rope_kind(const cad_node *family, const char *word, cad_rope_kind *out)
{
    static const char *const kinds[] = {"default", "linear", "banded"};
    const char *name;

    for (int i = 0; i < 3; i++)
        if (cad_get_string(cad_get(family, "rope_types"), kinds[i], &name, NULL) && name && !strcmp(name, word)) {
            *out = (cad_rope_kind)i;
            return true;
        }
    return false;
}

/* The words of config.json that this family knows, for the sentence that refuses another. */
static cad_status unknown_rope(const reader *r, const char *found)
{
    const cad_node *types = cad_get(r->family, "rope_types");
    cad_str words = {0};
    cad_status status = CAD_OK;

    for (const cad_node *n = types ? types->child : NULL; n && !status; n = n->next)
        if (n->kind == CAD_STRING) status = cad_str_addf(&words, "%s%s", words.size ? ", " : "", n->text);
    if (!status) status = cad_fail(CAD_EMODEL, "%s: \"rope_type\": expected one of %s, found \"%s\"", r->path, words.data ? words.data : "none", found);
    cad_str_close(&words);
    return status;
}

/* transformers 5: rope_parameters; transformers 4: rope_theta and rope_scaling. */
static cad_status read_rope(cad_arch *a, const reader *r)
{
    const cad_node *v5 = cad_get(r->config, "rope_parameters"), *v4 = cad_get(r->config, "rope_scaling");
    const cad_node *from = v5 && v5->kind == CAD_TABLE ? v5 : v4 && v4->kind == CAD_TABLE ? v4 : NULL;
    const char *kind;
    double theta;
    cad_rope_spec *s = &a->rope;

    CAD_TRY(number(r, "rope_theta", &theta, 10000.0, true));
    if (!cad_get_real(from, "rope_theta", &s->theta, theta)) return bad_type(r, "rope_parameters", "a table with a number \"rope_theta\"");
    if (!cad_get_string(from, "rope_type", &kind, NULL) || (!kind && !cad_get_string(from, "type", &kind, "default"))) return bad_type(r, "rope_scaling", "a table with a word \"rope_type\"");
    if (!rope_kind(r->family, kind, &s->kind)) return unknown_rope(r, kind);
    if (!cad_get_real(from, "factor", &s->factor, 1) || !cad_get_real(from, "low_freq_factor", &s->low, 1) || !cad_get_real(from, "high_freq_factor", &s->high, 4) ||
        !cad_get_real(from, "original_max_position_embeddings", &s->original, (double)a->max_positions))
        return bad_type(r, v5 ? "rope_parameters" : "rope_scaling", "a table of numbers");
    if (!(s->theta > 0) || !(s->factor > 0)) return cad_fail(CAD_EMODEL, "%s: rope theta and factor: expected positive numbers, found %g and %g", r->path, s->theta, s->factor);
    return CAD_OK;
}

static cad_status read_activation(cad_arch *a, const reader *r)
{
    static const struct { const char *name; cad_activation act; } known[] = {
        {"silu", CAD_ACT_SILU}, {"swish", CAD_ACT_SILU}, {"gelu_pytorch_tanh", CAD_ACT_GELU_TANH}, {"gelu_new", CAD_ACT_GELU_TANH}, {"gelu", CAD_ACT_GELU_ERF}};
    const char *name, *usual = "silu";

    (void)cad_get_string(cad_get(r->family, "defaults"), "hidden_act", &usual, "silu");
    if (!cad_get_string(r->config, "hidden_act", &name, usual)) return bad_type(r, "hidden_act", "a word");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name)) {
            a->act = known[i].act;
            return CAD_OK;
        }
    return cad_fail(CAD_EMODEL, "%s: \"hidden_act\": expected silu, gelu_pytorch_tanh or gelu, found \"%s\"", r->path, name);
}

static cad_status read_windows(cad_arch *a, const reader *r)
{
    const char *rule = "none";
    bool used = false;
    int64_t window, from;
    const cad_node *types = cad_get(r->config, "layer_types"), *given = cad_get(r->config, "sliding_window");

    (void)cad_get_string(cad_get(r->family, "block"), "window", &rule, "none");
    if (!strcmp(rule, "none")) return CAD_OK;
    CAD_TRY(truth(r, "use_sliding_window", &used, false));
    if (!used || (given && given->kind == CAD_NULL)) return CAD_OK;
    CAD_TRY(whole(r, "sliding_window", &window, 4096, 1, INT32_MAX));
    CAD_TRY(whole(r, "max_window_layers", &from, 28, 0, 1 << 20));
    const cad_node *type = types && types->kind == CAD_LIST ? types->child : NULL;
    for (int i = 0; i < a->layers; i++, type = type ? type->next : NULL) {
        bool slides = type && type->kind == CAD_STRING ? !strcmp(type->text, "sliding_attention") : i >= from;
        a->window[i] = slides ? (int32_t)window : 0;
    }
    return CAD_OK;
}

static cad_dtype stored_dtype(const cad_node *config)
{
    const char *name = "float32";

    if (!cad_get_string(config, "dtype", &name, NULL) || !name) (void)cad_get_string(config, "torch_dtype", &name, "float32");
    return name && !strcmp(name, "bfloat16") ? CAD_BF16 : name && !strcmp(name, "float16") ? CAD_F16 : CAD_F32;
}

/* As torch.nn.Embedding takes its padding_idx: a row of the table, negative ones counted from the end. */
static cad_status read_pad(cad_arch *a, const reader *r)
{
    const cad_node *n = cad_get(r->config, "pad_token_id");

    a->pad_id = -1;
    if (!n || n->kind == CAD_NULL) return CAD_OK;
    CAD_TRY(whole(r, "pad_token_id", &a->pad_id, -1, -a->vocab, a->vocab - 1));
    if (a->pad_id < 0) a->pad_id += a->vocab;
    return CAD_OK;
}

static cad_status read_labels(cad_arch *a, const reader *r)
{
    const cad_node *names = cad_get(r->config, "id2label");
    int64_t labels;

    CAD_TRY(whole(r, "num_labels", &labels, names && names->kind == CAD_TABLE ? names->children : 2, 1, 1 << 16));
    a->num_labels = (int)labels;
    return CAD_OK;
}

static cad_status read_rest(cad_arch *a, const reader *r)
{

    CAD_TRY(number(r, "rms_norm_eps", &a->eps, 1e-6, true));
    CAD_TRY(number(r, "initializer_range", &a->initializer_range, 0.02, true));
    CAD_TRY(read_pad(a, r));
    CAD_TRY(read_labels(a, r));
    CAD_TRY(truth(r, "tie_word_embeddings", &a->tied, false));
    CAD_TRY(fact(r, "gain_plus_one", &a->gain_plus_one));
    CAD_TRY(fact(r, "qkv_bias", &a->qkv_bias));
    CAD_TRY(fact(r, "o_bias", &a->o_bias));
    CAD_TRY(fact(r, "mlp_bias", &a->mlp_bias));
    CAD_TRY(read_activation(a, r));
    CAD_TRY(read_windows(a, r));
    a->stored = stored_dtype(r->config);
    a->embed_scale = 1;
    a->attn_scale = 1 / sqrt((double)a->head_dim);
    return CAD_OK;
}

static bool names_type(const cad_node *family, const char *type)
{
    const cad_node *list = cad_get(family, "model_types");

    for (const cad_node *n = list ? list->child : NULL; n; n = n->next)
        if (n->kind == CAD_STRING && !strcmp(n->text, type)) return true;
    return false;
}

/* The family row that names this model_type; `known` collects what there is. *out stays NULL when none does. */
static cad_status find_family(cad_tree **out, const char *type, cad_str *known)
{
    for (const cad_embedded *f = cad_embedded_files; f->path; f++) {
        cad_tree *t;
        const char *name = "";

        if (strncmp(f->path, "configs/families/", 17)) continue;
        CAD_TRY(cad_yaml_parse(&t, f->text, strlen(f->text), f->path));
        if (names_type(t->root, type)) {
            *out = t;
            return CAD_OK;
        }
        (void)cad_get_string(t->root, "family", &name, "");
        cad_status status = cad_str_addf(known, "%s%s", known->size ? ", " : "", name);
        cad_tree_close(&t);
        CAD_TRY(status);
    }
    return CAD_OK;
}

static cad_status read_all(cad_arch *out, const reader *r)
{
    CAD_TRY(cadp_read_quantization(out, cad_get(r->config, "quantization_config"), r->path));
    CAD_TRY(read_names(out, r));
    CAD_TRY(read_sizes(out, r));
    CAD_TRY(read_rope(out, r));
    return read_rest(out, r);
}

cad_status cad_arch_parse(cad_arch *out, const char *json, size_t n, const char *path)
{
    cad_tree *config = NULL, *family = NULL;
    cad_str known = {0};
    const char *type = NULL;
    cad_status status;

    *out = (cad_arch){0};
    CAD_TRY(cad_json_parse(&config, json, n, path, CAD_EMODEL));
    if (!cad_get_string(config->root, "model_type", &type, NULL) || !type) {
        status = cad_fail(CAD_EMODEL, "%s: expected a table with \"model_type\", found none", path);
        goto done;
    }
    if ((status = find_family(&family, type, &known))) goto done;
    if (!family) {
        status = cad_fail(CAD_EMODEL, "%s: model_type: expected one of %s, found \"%s\"", path, known.data ? known.data : "none", type);
        goto done;
    }
    status = read_all(out, &(reader){family->root, config->root, path});
done:
    cad_str_close(&known);
    cad_tree_close(&family);
    cad_tree_close(&config);
    return status;
}

cad_status cad_arch_read(cad_arch *out, const char *dir)
{
    char *path, *text = NULL;
    size_t n;
    cad_status status;

    CAD_TRY(cad_path_join(&path, dir, "config.json"));
    status = cad_read_file(&text, &n, path, 16 << 20, CAD_EMODEL);
    if (!status) status = cad_arch_parse(out, text, n, path);
    cad_free(&text);
    cad_free(&path);
    return status;
}

void cad_rope_frequencies(const cad_rope_spec *s, int64_t head_dim, float *out)
{
    float low_wave = (float)(s->original / s->low), high_wave = (float)(s->original / s->high);

    for (int64_t j = 0; j < head_dim / 2; j++) {
        float f = 1.0f / powf((float)s->theta, (float)(2 * j) / (float)head_dim);

        if (s->kind == CAD_ROPE_LINEAR) f /= (float)s->factor;
        if (s->kind == CAD_ROPE_BANDED) {
            float wave = 6.283185307179586f / f;
            if (wave > low_wave) f /= (float)s->factor;
            else if (wave >= high_wave && s->high != s->low) {
                float t = ((float)s->original / wave - (float)s->low) / ((float)s->high - (float)s->low);
                f = (1 - t) * f / (float)s->factor + t * f;
            }
        }
        out[j] = f;
    }
}
