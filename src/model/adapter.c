#include <cadtrain/model.h>

#include <math.h>
#include <stdio.h>

bool cad_is_adapter(const char *dir)
{
    char path[4096];

    return snprintf(path, sizeof path, "%s/adapter_config.json", dir) < (int)sizeof path && cad_is_file(path);
}

/* Keys that change the arithmetic in ways this program does not compute: they must be absent, null, false, zero or empty. */
static cad_status check_plain(const cad_node *root, const char *path)
{
    static const char *const keys[] = {"fan_in_fan_out", "layer_replication", "lora_bias", "use_qalora", "use_bdlora", "trainable_token_indices", "alora_invocation_tokens"};

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const cad_node *n = cad_get(root, keys[i]);
        bool plain = !n || n->kind == CAD_NULL || (n->kind == CAD_BOOL && !n->boolean) || ((n->kind == CAD_LIST || n->kind == CAD_TABLE) && !n->children);
        if (!plain) return cad_fail(CAD_EMODEL, "%s:%d:%d: expected an adapter without \"%s\", which this program does not compute", path, n->key_line, n->key_column, keys[i]);
    }
    return CAD_OK;
}

/* Ways to begin that PEFT repeats on every load, changing the base weights under the adapter. */
static cad_status check_beginning(const cad_node *root, const char *path)
{
    const cad_node *n = cad_get(root, "init_lora_weights");

    if (!n || n->kind != CAD_STRING || !strcmp(n->text, "gaussian") || !strcmp(n->text, "eva") || !strcmp(n->text, "orthogonal")) return CAD_OK;
    return cad_fail(CAD_EMODEL, "%s:%d:%d: init_lora_weights: expected an adapter that leaves the base weights as they are (true, false, gaussian, eva, orthogonal), found \"%s\"", path, n->line,
                    n->column, n->text);
}

/* A list of words, or one word (is_word); absent or null: none. */
static cad_status read_words(const cad_node *n, const char *key, const char *path, char ***out, int *count, bool *is_word)
{
    *is_word = n && n->kind == CAD_STRING;
    if (!n || n->kind == CAD_NULL) return CAD_OK;
    if (!*is_word && n->kind != CAD_LIST) return cad_fail(CAD_EMODEL, "%s:%d:%d: %s: expected a list or a word, found %s", path, n->line, n->column, key, cad_kind_name(n->kind));
    CAD_TRY(cad_alloc(out, (size_t)n->children + 1, sizeof **out, key));
    for (const cad_node *c = *is_word ? n : n->child; c; c = *is_word ? NULL : c->next) {
        if (c->kind != CAD_STRING) return cad_fail(CAD_EMODEL, "%s:%d:%d: %s: expected words, found %s", path, c->line, c->column, key, cad_kind_name(c->kind));
        CAD_TRY(cad_strdup(&(*out)[*count], c->text));
        ++*count;
    }
    return CAD_OK;
}

static cad_status read_saves(cad_adapter_config *out, const cad_node *n, const char *path)
{
    bool word;

    CAD_TRY(read_words(n, "modules_to_save", path, &out->saves, &out->save_count, &word));
    for (int i = 0; i < out->save_count; i++) out->saves_head |= !strcmp(out->saves[i], "score") || !strcmp(out->saves[i], "classifier");
    return CAD_OK;
}

static cad_status read_targets(cad_adapter_config *out, const cad_node *n, const char *path)
{
    bool word;

    if (out->parameter_count && (!n || n->kind == CAD_NULL || (n->kind == CAD_LIST && !n->children))) return CAD_OK;
    if (!n || n->kind == CAD_NULL) return cad_fail(CAD_EMODEL, "%s: target_modules: expected a list or a word, found %s", path, n ? cad_kind_name(n->kind) : "nothing");
    CAD_TRY(read_words(n, "target_modules", path, &out->targets, &out->target_count, &word));
    if (!out->target_count || !*out->targets[0]) return cad_fail(CAD_EMODEL, "%s:%d:%d: target_modules: expected at least one name, found none", path, n->line, n->column);
    out->target_is_regex = word && strcmp(n->text, "all-linear") != 0;
    return CAD_OK;
}

/* {"module": number}; whole numbers for ranks. */
static cad_status read_pattern(const cad_node *n, const char *key, const char *path, bool whole, cad_module_number **out, int *count)
{
    if (!n || n->kind == CAD_NULL) return CAD_OK;
    if (n->kind != CAD_TABLE) return cad_fail(CAD_EMODEL, "%s:%d:%d: %s: expected a table, found %s", path, n->line, n->column, key, cad_kind_name(n->kind));
    CAD_TRY(cad_alloc(out, (size_t)n->children + 1, sizeof **out, key));
    for (const cad_node *c = n->child; c; c = c->next) {
        bool number = c->kind == CAD_INT || (!whole && c->kind == CAD_REAL && isfinite(c->real));
        if (!number || (whole && (c->integer < 1 || c->integer > 4096)))
            return cad_fail(CAD_EMODEL, "%s:%d:%d: %s: expected %s, found something else", path, c->line, c->column, key, whole ? "whole numbers from 1 to 4096" : "numbers");
        CAD_TRY(cad_strdup(&(*out)[*count].pattern, c->key));
        (*out)[(*count)++].value = c->real;
    }
    return CAD_OK;
}

static cad_status read_layers(cad_adapter_config *out, const cad_node *n, const char *path)
{
    bool one = n && n->kind == CAD_INT;

    if (!n || n->kind == CAD_NULL) return CAD_OK;
    if (!one && n->kind != CAD_LIST) return cad_fail(CAD_EMODEL, "%s:%d:%d: layers_to_transform: expected a whole number or a list of them, found %s", path, n->line, n->column, cad_kind_name(n->kind));
    CAD_TRY(cad_alloc(&out->only_layers, (size_t)n->children + 1, sizeof *out->only_layers, "layers_to_transform"));
    for (const cad_node *c = one ? n : n->child; c; c = one ? NULL : c->next) {
        if (c->kind != CAD_INT || c->integer < 0 || c->integer >= CAD_MAX_LAYERS)
            return cad_fail(CAD_EMODEL, "%s:%d:%d: layers_to_transform: expected layers from 0 to %d, found something else", path, c->line, c->column, CAD_MAX_LAYERS - 1);
        out->only_layers[out->only_count++] = (int)c->integer;
    }
    return CAD_OK;
}

/* What says where the adapter is and how large. */
static cad_status read_places(cad_adapter_config *out, const cad_node *root, const char *path)
{
    bool word;

    CAD_TRY(read_words(cad_get(root, "exclude_modules"), "exclude_modules", path, &out->excluded, &out->exclude_count, &out->exclude_is_regex));
    CAD_TRY(read_words(cad_get(root, "layers_pattern"), "layers_pattern", path, &out->layers_pattern, &out->layers_pattern_count, &word));
    CAD_TRY(read_words(cad_get(root, "target_parameters"), "target_parameters", path, &out->parameters, &out->parameter_count, &word));
    if (word) return cad_fail(CAD_EMODEL, "%s: target_parameters: expected a list of words, found one word", path);
    CAD_TRY(read_layers(out, cad_get(root, "layers_to_transform"), path));
    CAD_TRY(read_pattern(cad_get(root, "rank_pattern"), "rank_pattern", path, true, &out->ranks, &out->rank_count));
    CAD_TRY(read_pattern(cad_get(root, "alpha_pattern"), "alpha_pattern", path, false, &out->alphas, &out->alpha_count));
    return read_targets(out, cad_get(root, "target_modules"), path);
}

static cad_status read_purpose(cad_adapter_config *out, const cad_node *root, const char *path)
{
    const char *task, *base;

    if (!cad_get_string(root, "task_type", &task, NULL)) return cad_fail(CAD_EMODEL, "%s: task_type: expected a word", path);
    if (!cad_get_string(root, "base_model_name_or_path", &base, NULL)) return cad_fail(CAD_EMODEL, "%s: base_model_name_or_path: expected a word", path);
    out->causal = task && !strcmp(task, "CAUSAL_LM");
    out->classifies = task && !strcmp(task, "SEQ_CLS");
    return base && *base ? cad_strdup(&out->base_model, base) : CAD_OK;
}

static cad_status read_all(cad_adapter_config *out, const cad_node *root, const char *path)
{
    const char *type, *bias;

    if (root->kind != CAD_TABLE) return cad_fail(CAD_EMODEL, "%s: expected a table, found %s", path, cad_kind_name(root->kind));
    if (!cad_get_string(root, "peft_type", &type, "LORA") || strcmp(type, "LORA")) return cad_fail(CAD_EMODEL, "%s: peft_type: expected LORA, found something else", path);
    CAD_TRY(check_plain(root, path));
    CAD_TRY(check_beginning(root, path));
    if (!cad_get_int(root, "r", &out->r, 8) || out->r < 1 || out->r > 4096) return cad_fail(CAD_EMODEL, "%s: r: expected a whole number from 1 to 4096", path);
    if (!cad_get_real(root, "lora_alpha", &out->alpha, 8) || !isfinite(out->alpha) || !cad_get_real(root, "lora_dropout", &out->dropout, 0)) return cad_fail(CAD_EMODEL, "%s: lora_alpha and lora_dropout: expected numbers", path);
    if (!(out->dropout >= 0 && out->dropout <= 1)) return cad_fail(CAD_EMODEL, "%s: lora_dropout: expected a number from 0 to 1", path);
    if (!cad_get_bool(root, "use_rslora", &out->rslora, false)) return cad_fail(CAD_EMODEL, "%s: use_rslora: expected true or false", path);
    if (!cad_get_string(root, "bias", &bias, "none")) return cad_fail(CAD_EMODEL, "%s: bias: expected a word", path);
    if (strcmp(bias, "none") && strcmp(bias, "all") && strcmp(bias, "lora_only")) return cad_fail(CAD_EMODEL, "%s: bias: expected none, all or lora_only, found \"%s\"", path, bias);
    out->train_bias = strcmp(bias, "none") != 0;
    out->adapted_bias_only = !strcmp(bias, "lora_only");
    CAD_TRY(read_purpose(out, root, path));
    CAD_TRY(read_saves(out, cad_get(root, "modules_to_save"), path));
    if (!cad_get_bool(root, "ensure_weight_tying", &out->ties, false)) return cad_fail(CAD_EMODEL, "%s: ensure_weight_tying: expected true or false", path);
    if (!cad_get_bool(root, "use_dora", &out->dora, false)) return cad_fail(CAD_EMODEL, "%s: use_dora: expected true or false", path);
    return read_places(out, root, path);
}

cad_status cad_adapter_config_read(cad_adapter_config *out, const char *dir)
{
    char *path;
    cad_tree *tree = NULL;
    cad_status status;

    *out = (cad_adapter_config){0};
    CAD_TRY(cad_path_join(&path, dir, "adapter_config.json"));
    status = cad_json_read(&tree, path, 1 << 20, CAD_EMODEL);
    if (!status) status = read_all(out, tree->root, path);
    if (status) cad_adapter_config_close(out);
    cad_tree_close(&tree);
    cad_free(&path);
    return status;
}

static void free_words(char ***words, int count)
{
    for (int i = 0; i < count; i++) cad_free(&(*words)[i]);
    cad_free(words);
}

static void free_numbers(cad_module_number **list, int count)
{
    for (int i = 0; i < count; i++) cad_free(&(*list)[i].pattern);
    cad_free(list);
}

void cad_adapter_config_close(cad_adapter_config *c)
{
    free_words(&c->targets, c->target_count);
    free_words(&c->saves, c->save_count);
    free_words(&c->excluded, c->exclude_count);
    free_words(&c->layers_pattern, c->layers_pattern_count);
    free_words(&c->parameters, c->parameter_count);
    free_numbers(&c->ranks, c->rank_count);
    free_numbers(&c->alphas, c->alpha_count);
    cad_free(&c->only_layers);
    cad_free(&c->base_model);
    *c = (cad_adapter_config){0};
}

void cad_method_take_adapter(cad_method *m, const cad_adapter_config *c)
{
    m->lora = true;
    m->r = c->r;
    m->alpha = c->alpha;
    m->rslora = c->rslora;
    m->dora = c->dora;
    m->train_bias = c->train_bias;
    m->adapted_bias_only = c->adapted_bias_only;
    m->targets = (const char *const *)c->targets;
    m->target_count = c->target_count;
    m->target_is_regex = c->target_is_regex;
    m->excluded = (const char *const *)c->excluded;
    m->exclude_count = c->exclude_count;
    m->exclude_is_regex = c->exclude_is_regex;
    m->only_layers = c->only_layers;
    m->only_count = c->only_count;
    m->layers_pattern = (const char *const *)c->layers_pattern;
    m->layers_pattern_count = c->layers_pattern_count;
    m->parameters = (const char *const *)c->parameters;
    m->parameter_count = c->parameter_count;
    m->parameters_only = c->parameter_count && !c->target_count;
    m->ranks = c->ranks;
    m->rank_count = c->rank_count;
    m->alphas = c->alphas;
    m->alpha_count = c->alpha_count;
    m->train_head = c->saves_head;
    m->saves = (const char *const *)c->saves;
    m->save_count = c->save_count;
}

static const char *last_word(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot ? dot + 1 : name;
}

static bool is_new(const char *const *words, size_t n, const char *word)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(last_word(words[i]), word)) return false;
    return *word != 0;
}

/* All linear layers of a block (and a pooler), by the last word of their names. */
static cad_status put_all_linear(cad_json *j, const cad_arch *a)
{
    const cad_tensor_names *t = &a->names;
    const char *const all[] = {t->q, t->k, t->v, t->o, t->gate, t->up, t->down, t->shared_gate, t->shared_up, t->shared_down, t->pooler};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (is_new(all, i, last_word(all[i]))) CAD_TRY(cad_json_string(j, NULL, last_word(all[i])));
    return CAD_OK;
}

static cad_status put_words(cad_json *j, const char *key, const char *const *words, int n, bool is_word)
{
    if (is_word) return cad_json_string(j, key, words[0]);
    if (!n) return cad_json_null(j, key);
    CAD_TRY(cad_json_begin(j, key, '['));
    for (int i = 0; i < n; i++) CAD_TRY(cad_json_string(j, NULL, words[i]));
    return cad_json_end(j);
}

static cad_status add_escaped(cad_str *out, const char *name)
{
    for (; *name; name++) CAD_TRY(cad_str_addf(out, *name == '.' ? "\\%c" : "%c", *name));
    return CAD_OK;
}

/* Names of a language model that has others beside it: as an expression, or PEFT would find them in the others too. */
static cad_status put_nested(cad_json *j, const cad_arch *a, const cad_method *m, bool every)
{
    const cad_tensor_names *t = &a->names;
    const char *const all[] = {t->q, t->k, t->v, t->o, t->gate, t->up, t->down, t->shared_gate, t->shared_up, t->shared_down, t->pooler};
    size_t n = every ? sizeof all / sizeof *all : (size_t)m->target_count, put = 0;
    cad_str text = {0};
    cad_status status = add_escaped(&text, t->nested_root);

    if (!status) status = cad_str_addf(&text, "\\.(.*\\.)?(");
    for (size_t i = 0; i < n && !status; i++) {
        const char *word = every ? last_word(all[i]) : m->targets[i];
        if (every && !is_new(all, i, word)) continue;
        if (put++) status = cad_str_add(&text, "|", 1);
        if (!status) status = add_escaped(&text, word);
    }
    if (!status) status = cad_str_addf(&text, ")");
    if (!status) status = cad_json_string(j, "target_modules", text.data);
    cad_str_close(&text);
    return status;
}

static cad_status put_targets(cad_json *j, const cad_arch *a, const cad_method *m)
{
    bool every = !m->target_count || (!m->target_is_regex && !strcmp(m->targets[0], "all-linear"));

    if (m->parameters_only) {
        CAD_TRY(cad_json_begin(j, "target_modules", '['));
        return cad_json_end(j);
    }
    if (a->nested && *a->names.nested_root && !m->custom_head && !m->target_is_regex && !m->only_count) return put_nested(j, a, m, every);
    if (!every) return put_words(j, "target_modules", m->targets, m->target_count, m->target_is_regex);
    CAD_TRY(cad_json_begin(j, "target_modules", '['));
    CAD_TRY(put_all_linear(j, a));
    return cad_json_end(j);
}

static cad_status put_number(cad_json *j, const char *key, double x)
{
    return fabs(x) < 1e15 && x == floor(x) ? cad_json_int(j, key, (int64_t)x) : cad_json_real(j, key, x);
}

static cad_status put_pattern(cad_json *j, const char *key, const cad_module_number *list, int n)
{
    CAD_TRY(cad_json_begin(j, key, '{'));
    for (int i = 0; i < n; i++) CAD_TRY(put_number(j, list[i].pattern, list[i].value));
    return cad_json_end(j);
}

static cad_status put_layers(cad_json *j, const cad_method *m)
{
    CAD_TRY(put_words(j, "layers_pattern", m->layers_pattern, m->layers_pattern_count, false));
    if (!m->only_count) return cad_json_null(j, "layers_to_transform");
    CAD_TRY(cad_json_begin(j, "layers_to_transform", '['));
    for (int i = 0; i < m->only_count; i++) CAD_TRY(cad_json_int(j, NULL, m->only_layers[i]));
    return cad_json_end(j);
}

bool cad_method_ties(const cad_arch *a, const cad_method *m)
{
    size_t n = strlen(a->names.embed) - strlen(".weight");

    for (int i = 0; a->tied && m->causal && m->lora && i < m->save_count; i++) {
        size_t k = strlen(m->saves[i]);
        if (k <= n && !memcmp(a->names.embed + n - k, m->saves[i], k)) return true;
    }
    return false;
}

static cad_status put_adapter(cad_json *j, const char *base_model, const cad_arch *a, const cad_method *m)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(put_pattern(j, "alpha_pattern", m->alphas, m->alpha_count));
    CAD_TRY(cad_json_null(j, "auto_mapping"));
    CAD_TRY(cad_json_string(j, "base_model_name_or_path", base_model));
    CAD_TRY(cad_json_string(j, "bias", !m->train_bias ? "none" : m->adapted_bias_only ? "lora_only" : "all"));
    if (cad_method_ties(a, m)) CAD_TRY(cad_json_bool(j, "ensure_weight_tying", true));
    CAD_TRY(put_words(j, "exclude_modules", m->excluded, m->exclude_count, m->exclude_is_regex));
    CAD_TRY(cad_json_bool(j, "fan_in_fan_out", false));
    CAD_TRY(cad_json_bool(j, "inference_mode", true));
    CAD_TRY(cad_json_bool(j, "init_lora_weights", true));
    CAD_TRY(put_layers(j, m));
    CAD_TRY(put_number(j, "lora_alpha", m->alpha));
    CAD_TRY(cad_json_real(j, "lora_dropout", m->dropout));
    CAD_TRY(cad_json_begin(j, "modules_to_save", '['));
    if (m->train_head) CAD_TRY(cad_json_string(j, NULL, m->custom_head ? "classifier" : a->names.head));
    for (int i = 0; i < m->save_count; i++)
        if (strcmp(m->saves[i], "score") && strcmp(m->saves[i], "classifier")) CAD_TRY(cad_json_string(j, NULL, m->saves[i]));
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_string(j, "peft_type", "LORA"));
    CAD_TRY(cad_json_int(j, "r", m->r));
    CAD_TRY(put_pattern(j, "rank_pattern", m->ranks, m->rank_count));
    CAD_TRY(cad_json_null(j, "revision"));
    CAD_TRY(put_targets(j, a, m));
    CAD_TRY(put_words(j, "target_parameters", m->parameters, m->parameter_count, false));
    CAD_TRY(cad_json_string(j, "task_type", m->causal ? "CAUSAL_LM" : "SEQ_CLS"));
    CAD_TRY(cad_json_bool(j, "use_dora", m->dora));
    CAD_TRY(cad_json_bool(j, "use_rslora", m->rslora));
    return cad_json_end(j);
}

static cad_status write_json(const char *path, cad_json *j)
{
    CAD_TRY(cad_str_add(&j->text, "\n", 1));
    return cad_write_file(path, j->text.data, j->text.size);
}

cad_status cad_adapter_config_write(const char *dir, const char *base_model, const cad_arch *arch, const cad_method *method)
{
    cad_json j = {.pretty = true};
    char *path = NULL;
    cad_status status = put_adapter(&j, base_model, arch, method);

    if (!status) status = cad_path_join(&path, dir, "adapter_config.json");
    if (!status) status = write_json(path, &j);
    cad_free(&path);
    cad_json_close(&j);
    return status;
}

static bool replaced(const char *key)
{
    static const char *const keys[] = {"architectures", "num_labels", "id2label", "label2id", "dtype", "torch_dtype", "problem_type", "quantization_config"};

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(keys[i], key)) return true;
    return false;
}

static cad_status put_labels(cad_json *j, int count)
{
    char key[16], name[24];

    CAD_TRY(cad_json_begin(j, "id2label", '{'));
    for (int i = 0; i < count; i++) {
        snprintf(key, sizeof key, "%d", i);
        snprintf(name, sizeof name, "LABEL_%d", i);
        CAD_TRY(cad_json_string(j, key, name));
    }
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_begin(j, "label2id", '{'));
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "LABEL_%d", i);
        CAD_TRY(cad_json_int(j, name, i));
    }
    return cad_json_end(j);
}

/* A language model's own, in the dtype it is written in. */
static cad_status put_causal(cad_json *j, const cad_node *root, const cad_arch *a, const cad_method *m)
{
    char name[64];

    snprintf(name, sizeof name, "%sForCausalLM", a->causal_stem);
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    if (a->nested) { /* what is written is the language model alone */
        root = cad_get(root, "text_config");
        CAD_TRY(cad_json_begin(j, "architectures", '['));
        CAD_TRY(cad_json_string(j, NULL, name));
        CAD_TRY(cad_json_end(j));
        CAD_TRY(cad_json_string(j, "model_type", a->text_type));
    }
    for (const cad_node *n = root->child; n; n = n->next)
        if (strcmp(n->key, "dtype") && strcmp(n->key, "torch_dtype") && !(a->nested && (!strcmp(n->key, "model_type") || !strcmp(n->key, "architectures")))) CAD_TRY(cad_json_node(j, n->key, n));
    CAD_TRY(cad_json_string(j, cad_get(root, "torch_dtype") ? "torch_dtype" : "dtype", m->compute == CAD_BF16 ? "bfloat16" : "float32"));
    return cad_json_end(j);
}

static cad_status put_classifier(cad_json *j, const cad_node *root, const cad_arch *a, const cad_method *m)
{
    char name[64];

    if (m->causal) return put_causal(j, root, a, m);
    snprintf(name, sizeof name, "%s%s", a->class_stem, m->custom_head ? "Model" : "ForSequenceClassification");
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_begin(j, "architectures", '['));
    CAD_TRY(cad_json_string(j, NULL, name));
    CAD_TRY(cad_json_end(j));
    if (a->nested) { /* what is written is the language model alone */
        root = cad_get(root, "text_config");
        CAD_TRY(cad_json_string(j, "model_type", a->text_type));
    }
    for (const cad_node *n = root->child; n; n = n->next)
        if (!replaced(n->key) && !(a->nested && !strcmp(n->key, "model_type"))) CAD_TRY(cad_json_node(j, n->key, n));
    CAD_TRY(cad_json_string(j, cad_get(root, "torch_dtype") ? "torch_dtype" : "dtype", m->compute == CAD_BF16 ? "bfloat16" : "float32"));
    CAD_TRY(put_labels(j, m->num_labels));
    CAD_TRY(cad_json_string(j, "problem_type", "single_label_classification"));
    return cad_json_end(j);
}

cad_status cad_classifier_config_write(const char *path, const char *source_config, const cad_arch *arch, const cad_method *method)
{
    cad_json j = {.pretty = true};
    cad_tree *tree;
    cad_status status;

    CAD_TRY(cad_json_parse(&tree, source_config, strlen(source_config), "config.json", CAD_EMODEL));
    status = put_classifier(&j, tree->root, arch, method);
    if (!status) status = write_json(path, &j);
    cad_json_close(&j);
    cad_tree_close(&tree);
    return status;
}
