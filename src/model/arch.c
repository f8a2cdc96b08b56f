#include "arch_priv.h"
#include "model_priv.h"

#include <cadtrain/embedded.h>

#include <math.h>
#include <stdio.h>

cad_status cadp_bad_type(const cadp_reader *r, const char *key, const char *expected)
{
    const cad_node *n = cad_get(r->config, key);

    return cad_fail(CAD_EMODEL, "%s:%d:%d: \"%s\": expected %s, found %s", r->path, n ? n->line : 1, n ? n->column : 1, key, expected,
                    n ? cad_kind_name(n->kind) : "nothing");
}

cad_status cadp_number(const cadp_reader *r, const char *key, double *out, double otherwise, bool needed)
{
    double fallback = otherwise;
    const cad_node *defaults = cad_get(r->family, "defaults");

    if (!cad_get_real(defaults, key, &fallback, otherwise)) return cad_fail(CAD_EINTERNAL, "family row: \"%s\" is no number", key);
    if (!cad_get_real(r->config, key, out, fallback)) return cadp_bad_type(r, key, "a number");
    if (needed && isnan(*out)) return cad_fail(CAD_EMODEL, "%s: expected \"%s\", found no such key", r->path, key);
    return CAD_OK;
}

cad_status cadp_number_or_none(const cadp_reader *r, const char *key, double *out)
{
    const cad_node *given = cad_get(r->config, key);

    *out = 0;
    if (given && given->kind == CAD_NULL) return CAD_OK;
    CAD_TRY(cadp_number(r, key, out, 0, true));
    if (*out >= 0 && isfinite(*out)) return CAD_OK;
    return cad_fail(CAD_EMODEL, "%s: \"%s\": expected a number from 0 on or null, found %g", r->path, key, *out);
}

cad_status cadp_whole(const cadp_reader *r, const char *key, int64_t *out, double otherwise, int64_t least, int64_t most)
{
    double value;

    CAD_TRY(cadp_number(r, key, &value, otherwise, true));
    if (value != floor(value) || value < (double)least || value > (double)most)
        return cad_fail(CAD_EMODEL, "%s: \"%s\": expected a whole number from %lld to %lld, found %g", r->path, key, (long long)least, (long long)most, value);
    *out = (int64_t)value;
    return CAD_OK;
}

cad_status cadp_truth(const cadp_reader *r, const char *key, bool *out, bool otherwise)
{
    bool fallback = otherwise;

    (void)cad_get_bool(cad_get(r->family, "defaults"), key, &fallback, otherwise);
    if (!cad_get_bool(r->config, key, out, fallback)) return cadp_bad_type(r, key, "true or false");
    return CAD_OK;
}

/* ---- words of the family's row ---- */

const char *cadp_block_word(const cadp_reader *r, const char *name, const char *otherwise)
{
    const char *word = otherwise;

    (void)cad_get_string(cad_get(r->family, "block"), name, &word, otherwise);
    return word ? word : otherwise;
}

/* A fact of the block: true, false, or the name of the key of config.json that decides. */
static cad_status fact(const cadp_reader *r, const char *name, bool *out)
{
    const cad_node *n = cad_get(cad_get(r->family, "block"), name);

    *out = n && n->boolean;
    return n && n->kind == CAD_STRING ? cadp_truth(r, n->text, out, false) : CAD_OK;
}

/* One word of a list; its number. */
static cad_status choice(const cadp_reader *r, const char *name, const char *const *words, int *out)
{
    const char *word = cadp_block_word(r, name, words[0]);

    for (int i = 0; words[i]; i++)
        if (!strcmp(words[i], word)) {
            *out = i;
            return CAD_OK;
        }
    return cad_fail(CAD_EINTERNAL, "family row: \"%s\" is no word for %s", word, name);
}

static cad_status copy_name(char *out, size_t room, const cad_node *table, const char *key, bool needed)
{
    const char *text;

    if (!cad_get_string(table, key, &text, NULL) || (needed && !text) || (text && strlen(text) >= room)) return cad_fail(CAD_EINTERNAL, "family row: no usable \"%s\"", key);
    if (text) memcpy(out, text, strlen(text) + 1);
    return CAD_OK;
}

static cad_status read_names(cad_arch *a, const cadp_reader *r)
{
    const cad_node *t = cad_get(r->family, "tensors");
    cad_tensor_names *n = &a->names;
    struct { char *out; const char *key; bool needed; } all[] = {
        {n->root, "root", true}, {n->embed, "embed", true}, {n->final_norm, "final_norm", false}, {n->block_prefix, "block_prefix", true}, {n->attn_norm, "attn_norm", true},
        {n->mlp_norm, "mlp_norm", true}, {n->q, "q", true}, {n->k, "k", true}, {n->v, "v", true}, {n->o, "o", true}, {n->gate, "gate", false}, {n->up, "up", true},
        {n->down, "down", true}, {n->head, "head", true}, {n->lm_head, "lm_head", false}, {n->embed_position, "embed_position", false}, {n->embed_type, "embed_type", false},
        {n->embed_norm, "embed_norm", false}, {n->attn_out_norm, "attn_out_norm", false}, {n->mlp_out_norm, "mlp_out_norm", false}, {n->q_norm, "q_norm", false},
        {n->k_norm, "k_norm", false}, {n->pooler, "pooler", false}, {n->router, "router", false}, {n->expert_gate_up, "expert_gate_up", false},
        {n->expert_down, "expert_down", false}, {n->shared_gate, "shared_gate", false}, {n->shared_up, "shared_up", false}, {n->shared_down, "shared_down", false},
        {n->nested_root, "nested_root", false}, {n->one_gate, "one_gate", false}, {n->one_up, "one_up", false}, {n->one_down, "one_down", false}};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) CAD_TRY(copy_name(all[i].out, sizeof n->embed, t, all[i].key, all[i].needed));
    CAD_TRY(copy_name(a->family, sizeof a->family, r->family, "family", true));
    CAD_TRY(copy_name(a->text_type, sizeof a->text_type, r->family, "text_type", false));
    CAD_TRY(copy_name(a->class_stem, sizeof a->class_stem, r->family, "class_stem", true));
    memcpy(a->causal_stem, a->class_stem, sizeof a->causal_stem);
    return cad_get(r->family, "causal_stem") ? copy_name(a->causal_stem, sizeof a->causal_stem, r->family, "causal_stem", true) : CAD_OK;
}

/* ---- sizes ---- */

static cad_status read_sizes(cad_arch *a, const cadp_reader *r)
{
    int64_t layers;

    CAD_TRY(cadp_whole(r, "hidden_size", &a->hidden, NAN, 1, 1 << 20));
    CAD_TRY(cadp_whole(r, "intermediate_size", &a->intermediate, NAN, 1, 1 << 22));
    CAD_TRY(cadp_whole(r, "num_hidden_layers", &layers, NAN, 1, CAD_MAX_LAYERS));
    CAD_TRY(cadp_whole(r, "num_attention_heads", &a->q_heads, NAN, 1, 1 << 16));
    CAD_TRY(cadp_whole(r, "num_key_value_heads", &a->kv_heads, (double)a->q_heads, 1, 1 << 16));
    CAD_TRY(cadp_whole(r, "vocab_size", &a->vocab, NAN, 1, 1 << 24));
    CAD_TRY(cadp_whole(r, "max_position_embeddings", &a->max_positions, NAN, 1, 1 << 26));
    CAD_TRY(cadp_whole(r, "head_dim", &a->head_dim, (double)(a->hidden / a->q_heads), 2, 1024));
    a->layers = (int)layers;
    a->dense_intermediate = a->intermediate;
    if (a->head_dim % 2 && strcmp(cadp_block_word(r, "rotation", "halves"), "none")) return cad_fail(CAD_EMODEL, "%s: \"head_dim\": expected an even number from 2 to 1024, found %lld", r->path, (long long)a->head_dim);
    if (a->q_heads % a->kv_heads)
        return cad_fail(CAD_EMODEL, "%s: expected num_attention_heads (%lld) to be a multiple of num_key_value_heads (%lld)", r->path, (long long)a->q_heads, (long long)a->kv_heads);
    return CAD_OK;
}

static cad_status read_activation(cad_arch *a, const cadp_reader *r)
{
    static const struct { const char *name; cad_activation act; } known[] = {
        {"silu", CAD_ACT_SILU}, {"swish", CAD_ACT_SILU}, {"gelu_pytorch_tanh", CAD_ACT_GELU_TANH}, {"gelu_new", CAD_ACT_GELU_TANH}, {"gelu", CAD_ACT_GELU_ERF}};
    const char *name, *usual = "silu", *key = cadp_block_word(r, "activation_key", "hidden_act");

    (void)cad_get_string(cad_get(r->family, "defaults"), key, &usual, "silu");
    if (!cad_get_string(r->config, key, &name, usual)) return cadp_bad_type(r, key, "a word");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name)) {
            a->act = known[i].act;
            return CAD_OK;
        }
    return cad_fail(CAD_EMODEL, "%s: \"%s\": expected silu, gelu_pytorch_tanh or gelu, found \"%s\"", r->path, key, name);
}

static cad_dtype stored_dtype(const cad_node *config)
{
    const char *name = "float32";

    if (!cad_get_string(config, "dtype", &name, NULL) || !name) (void)cad_get_string(config, "torch_dtype", &name, "float32");
    return name && !strcmp(name, "bfloat16") ? CAD_BF16 : name && !strcmp(name, "float16") ? CAD_F16 : CAD_F32;
}

/* As torch.nn.Embedding takes its padding_idx: a row of the table, negative ones counted from the end. */
static cad_status read_pad(cad_arch *a, const cadp_reader *r)
{
    const cad_node *n = cad_get(r->config, "pad_token_id"), *usual = cad_get(cad_get(r->family, "defaults"), "pad_token_id");

    a->pad_id = -1;
    if ((!n && !usual) || (n && n->kind == CAD_NULL)) return CAD_OK;
    CAD_TRY(cadp_whole(r, "pad_token_id", &a->pad_id, -1, -a->vocab, a->vocab - 1));
    if (a->pad_id < 0) a->pad_id += a->vocab;
    return CAD_OK;
}

/* Labels may stand at the top of a nested file. */
static cad_status read_labels(cad_arch *a, const cadp_reader *r)
{
    const cad_node *names = cad_get(r->outer, "id2label");
    cadp_reader top = *r;
    int64_t labels;

    if (!names) names = cad_get(r->config, "id2label");
    if (cad_get(r->outer, "num_labels")) top.config = r->outer;
    CAD_TRY(cadp_whole(&top, "num_labels", &labels, names && names->kind == CAD_TABLE ? names->children : 2, 1, 1 << 16));
    a->num_labels = (int)labels;
    return CAD_OK;
}

/* ---- the shape of a block ---- */

/* Where the family's row names a key, 1 / sqrt of its number; else of the width of a head. */
static cad_status read_scales(cad_arch *a, const cadp_reader *r)
{
    const char *key = cadp_block_word(r, "attn_scale", NULL), *embed = cadp_block_word(r, "embed_scale", "none");
    double of = (double)a->head_dim;

    if (key) CAD_TRY(cadp_number(r, key, &of, of, true));
    if (!(of > 0)) return cad_fail(CAD_EMODEL, "%s: \"%s\": expected a positive number, found %g", r->path, key, of);
    a->attn_scale = 1 / sqrt(of);
    a->embed_scale = strcmp(embed, "root_hidden") ? 1 : sqrt((double)a->hidden);
    if (!cadp_block_word(r, "softcaps", NULL)) return CAD_OK;
    CAD_TRY(cadp_number_or_none(r, "attn_logit_softcapping", &a->attn_softcap));
    return cadp_number_or_none(r, "final_logit_softcapping", &a->final_softcap);
}

/* classifier_dropout null: as inside the blocks. */
static cad_status read_dropouts(cad_arch *a, const cadp_reader *r)
{
    double *all[] = {&a->attn_dropout, &a->hidden_dropout, &a->classifier_dropout};
    const char *keys[] = {cadp_block_word(r, "attn_dropout", "attention_dropout"), cadp_block_word(r, "hidden_dropout", NULL), cadp_block_word(r, "classifier_dropout", NULL)};

    for (int i = 0; i < 3; i++) {
        const cad_node *given = keys[i] ? cad_get(r->config, keys[i]) : NULL;
        if (!keys[i]) continue;
        CAD_TRY(cadp_number_or_none(r, keys[i], all[i]));
        if (i == 2 && (!given || given->kind == CAD_NULL)) a->classifier_dropout = a->hidden_dropout;
        if (*all[i] >= 1) return cad_fail(CAD_EMODEL, "%s: \"%s\": expected a number in [0, 1), found %g", r->path, keys[i], *all[i]);
    }
    return CAD_OK;
}

static cad_status read_shape(cad_arch *a, const cadp_reader *r)
{
    static const char *const norms[] = {"rms", "layer", NULL}, *const places[] = {"before", "around", "after", NULL}, *const heads[] = {"none", "before_rotation", "after_rotation", NULL};
    static const char *const turns[] = {"halves", "pairs", "none", NULL}, *const mlps[] = {"gated", "plain", NULL}, *const masks[] = {"causal", "all", NULL};
    int norm, place, head, turn, mlp, mask;
    const char *deciding = cadp_block_word(r, "head_norm_if", NULL);
    bool heads_normed = true;

    CAD_TRY(choice(r, "norm", norms, &norm));
    CAD_TRY(choice(r, "norm_place", places, &place));
    CAD_TRY(choice(r, "head_norm", heads, &head));
    CAD_TRY(choice(r, "rotation", turns, &turn));
    CAD_TRY(choice(r, "mlp", mlps, &mlp));
    CAD_TRY(choice(r, "attends", masks, &mask));
    if (deciding) CAD_TRY(cadp_truth(r, deciding, &heads_normed, true));
    a->centred = norm == 1;
    a->norm_place = (cad_norm_place)place;
    a->head_norm = heads_normed ? (cad_head_norm)head : CAD_HEAD_NORM_NONE;
    a->rotates = turn != 2;
    a->rotate_pairs = turn == 1;
    a->gated = mlp == 0;
    a->causal = mask == 0;
    CAD_TRY(fact(r, "gain_plus_one", &a->gain_plus_one));
    CAD_TRY(fact(r, "qkv_bias", &a->qkv_bias));
    CAD_TRY(fact(r, "o_bias", &a->o_bias));
    CAD_TRY(fact(r, "mlp_bias", &a->mlp_bias));
    CAD_TRY(fact(r, "head_bias", &a->head_bias));
    if (*a->names.embed_type) CAD_TRY(cadp_whole(r, "type_vocab_size", &a->types, 2, 1, 1 << 16));
    return CAD_OK;
}

static cad_status read_rest(cad_arch *a, const cadp_reader *r)
{
    CAD_TRY(cadp_number(r, cadp_block_word(r, "eps_key", "rms_norm_eps"), &a->eps, 1e-6, true));
    CAD_TRY(cadp_number(r, "initializer_range", &a->initializer_range, 0.02, true));
    CAD_TRY(read_pad(a, r));
    CAD_TRY(read_labels(a, r));
    CAD_TRY(cadp_truth(r, "tie_word_embeddings", &a->tied, false));
    CAD_TRY(read_shape(a, r));
    CAD_TRY(read_activation(a, r));
    CAD_TRY(read_scales(a, r));
    CAD_TRY(read_dropouts(a, r));
    a->stored = stored_dtype(r->config);
    a->nested = r->outer != r->config;
    return CAD_OK;
}

/* ---- the family ---- */

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

static bool is_set(const cad_node *n) { return n && n->kind != CAD_NULL && !(n->kind == CAD_BOOL && !n->boolean); }

/* Keys that a family's row refuses when they are set, and words that must be as it expects them. */
static cad_status check_refused(const cadp_reader *r)
{
    const cad_node *refused = cad_get(r->family, "refuse"), *expected = cad_get(r->family, "expect");

    for (const cad_node *k = refused ? refused->child : NULL; k; k = k->next) {
        const cad_node *n = cad_get(r->config, k->text);
        if (is_set(n)) return cad_fail(CAD_EMODEL, "%s:%d:%d: \"%s\": expected it not to be set: this program does not compute it", r->path, n->key_line, n->key_column, k->text);
    }
    for (const cad_node *k = expected ? expected->child : NULL; k; k = k->next) {
        const char *word;
        if (!cad_get_string(r->config, k->key, &word, k->text)) return cadp_bad_type(r, k->key, "a word");
        if (strcmp(word, k->text)) return cad_fail(CAD_EMODEL, "%s: \"%s\": expected \"%s\", found \"%s\"", r->path, k->key, k->text, word);
    }
    return CAD_OK;
}

static cad_status read_all(cad_arch *out, const cadp_reader *r)
{
    CAD_TRY(cadp_read_quantization(out, cad_get(r->outer, "quantization_config"), r->path));
    CAD_TRY(check_refused(r));
    CAD_TRY(read_names(out, r));
    CAD_TRY(read_sizes(out, r));
    CAD_TRY(read_rest(out, r));
    return cadp_read_layers(out, r);
}

cad_status cad_arch_parse(cad_arch *out, const char *json, size_t n, const char *path)
{
    cad_tree *config = NULL, *family = NULL;
    cad_str known = {0};
    const cad_node *text;
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
    text = cad_get(config->root, "text_config"); /* what describes the language model beside a picture's */
    status = read_all(out, &(cadp_reader){family->root, config->root, text && text->kind == CAD_TABLE ? text : config->root, path});
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
    status = cad_arch_text(&text, &n, dir);
    if (!status) status = cad_arch_parse(out, text, n, path);
    cad_free(&text);
    cad_free(&path);
    return status;
}
