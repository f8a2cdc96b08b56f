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
    static const char *const keys[] = {"use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "layers_to_transform", "layer_replication", "target_parameters", "exclude_modules", "lora_bias", "use_qalora", "use_bdlora", "trainable_token_indices", "alora_invocation_tokens"};

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

static cad_status read_targets(cad_adapter_config *out, const cad_node *n, const char *path)
{
    if (!n || (n->kind != CAD_STRING && n->kind != CAD_LIST)) return cad_fail(CAD_EMODEL, "%s: target_modules: expected a list or a word, found %s", path, n ? cad_kind_name(n->kind) : "nothing");
    CAD_TRY(cad_alloc(&out->targets, (size_t)n->children + 1, sizeof *out->targets, "target modules"));
    if (n->kind == CAD_STRING) {
        out->target_is_regex = strcmp(n->text, "all-linear") != 0;
        out->target_count = 1;
        return cad_strdup(&out->targets[0], n->text);
    }
    for (const cad_node *c = n->child; c; c = c->next) {
        if (c->kind != CAD_STRING) return cad_fail(CAD_EMODEL, "%s:%d:%d: target_modules: expected words, found %s", path, c->line, c->column, cad_kind_name(c->kind));
        CAD_TRY(cad_strdup(&out->targets[out->target_count], c->text));
        out->target_count++;
    }
    return CAD_OK;
}

static cad_status read_saves(cad_adapter_config *out, const cad_node *n, const char *path)
{
    if (!n || n->kind == CAD_NULL) return CAD_OK;
    if (n->kind != CAD_LIST) return cad_fail(CAD_EMODEL, "%s:%d:%d: modules_to_save: expected a list, found %s", path, n->line, n->column, cad_kind_name(n->kind));
    CAD_TRY(cad_alloc(&out->saves, (size_t)n->children + 1, sizeof *out->saves, "modules_to_save"));
    for (const cad_node *c = n->child; c; c = c->next) {
        if (c->kind != CAD_STRING) return cad_fail(CAD_EMODEL, "%s:%d:%d: modules_to_save: expected words, found %s", path, c->line, c->column, cad_kind_name(c->kind));
        CAD_TRY(cad_strdup(&out->saves[out->save_count], c->text));
        out->save_count++;
        out->saves_head |= !strcmp(c->text, "score") || !strcmp(c->text, "classifier");
    }
    return CAD_OK;
}

static cad_status read_all(cad_adapter_config *out, const cad_node *root, const char *path)
{
    const char *type, *bias, *base, *task;

    if (!cad_get_string(root, "peft_type", &type, "LORA") || strcmp(type, "LORA")) return cad_fail(CAD_EMODEL, "%s: peft_type: expected LORA, found something else", path);
    CAD_TRY(check_plain(root, path));
    CAD_TRY(check_beginning(root, path));
    if (!cad_get_int(root, "r", &out->r, 8) || out->r < 1 || out->r > 4096) return cad_fail(CAD_EMODEL, "%s: r: expected a whole number from 1 to 4096", path);
    if (!cad_get_real(root, "lora_alpha", &out->alpha, 8) || !cad_get_real(root, "lora_dropout", &out->dropout, 0)) return cad_fail(CAD_EMODEL, "%s: lora_alpha and lora_dropout: expected numbers", path);
    if (!cad_get_bool(root, "use_rslora", &out->rslora, false)) return cad_fail(CAD_EMODEL, "%s: use_rslora: expected true or false", path);
    if (!cad_get_string(root, "bias", &bias, "none")) return cad_fail(CAD_EMODEL, "%s: bias: expected a word", path);
    if (strcmp(bias, "none") && strcmp(bias, "all") && strcmp(bias, "lora_only")) return cad_fail(CAD_EMODEL, "%s: bias: expected none, all or lora_only, found \"%s\"", path, bias);
    out->train_bias = strcmp(bias, "none") != 0;
    out->adapted_bias_only = !strcmp(bias, "lora_only");
    if (cad_get_string(root, "task_type", &task, NULL) && task) {
        out->causal = !strcmp(task, "CAUSAL_LM");
        out->classifies = !strcmp(task, "SEQ_CLS");
    }
    CAD_TRY(read_saves(out, cad_get(root, "modules_to_save"), path));
    if (cad_get_string(root, "base_model_name_or_path", &base, NULL) && base && *base) CAD_TRY(cad_strdup(&out->base_model, base));
    return read_targets(out, cad_get(root, "target_modules"), path);
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

void cad_adapter_config_close(cad_adapter_config *c)
{
    for (int i = 0; i < c->target_count; i++) cad_free(&c->targets[i]);
    for (int i = 0; i < c->save_count; i++) cad_free(&c->saves[i]);
    cad_free(&c->targets);
    cad_free(&c->saves);
    cad_free(&c->base_model);
    *c = (cad_adapter_config){0};
}

static const char *last_word(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot ? dot + 1 : name;
}

static cad_status put_targets(cad_json *j, const cad_arch *a, const cad_method *m)
{
    const cad_tensor_names *t = &a->names;
    const char *all[] = {t->q, t->k, t->v, t->o, t->gate, t->up, t->down};
    bool every = !m->target_count || (!m->target_is_regex && !strcmp(m->targets[0], "all-linear"));

    if (m->target_is_regex) return cad_json_string(j, "target_modules", m->targets[0]);
    CAD_TRY(cad_json_begin(j, "target_modules", '['));
    for (int i = 0; i < (every ? 7 : m->target_count); i++) CAD_TRY(cad_json_string(j, NULL, every ? last_word(all[i]) : m->targets[i]));
    return cad_json_end(j);
}

static cad_status put_adapter(cad_json *j, const char *base_model, const cad_arch *a, const cad_method *m)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_null(j, "auto_mapping"));
    CAD_TRY(cad_json_string(j, "base_model_name_or_path", base_model));
    CAD_TRY(cad_json_string(j, "bias", !m->train_bias ? "none" : m->adapted_bias_only ? "lora_only" : "all"));
    CAD_TRY(cad_json_bool(j, "fan_in_fan_out", false));
    CAD_TRY(cad_json_bool(j, "inference_mode", true));
    CAD_TRY(cad_json_bool(j, "init_lora_weights", true));
    CAD_TRY(fabs(m->alpha) < 1e15 && m->alpha == floor(m->alpha) ? cad_json_int(j, "lora_alpha", (int64_t)m->alpha) : cad_json_real(j, "lora_alpha", m->alpha));
    CAD_TRY(cad_json_real(j, "lora_dropout", m->dropout));
    CAD_TRY(cad_json_begin(j, "modules_to_save", '['));
    if (m->train_head) CAD_TRY(cad_json_string(j, NULL, m->custom_head ? "classifier" : "score"));
    for (int i = 0; i < m->save_count; i++)
        if (strcmp(m->saves[i], "score") && strcmp(m->saves[i], "classifier")) CAD_TRY(cad_json_string(j, NULL, m->saves[i]));
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_string(j, "peft_type", "LORA"));
    CAD_TRY(cad_json_int(j, "r", m->r));
    CAD_TRY(cad_json_null(j, "revision"));
    CAD_TRY(put_targets(j, a, m));
    CAD_TRY(cad_json_string(j, "task_type", m->causal ? "CAUSAL_LM" : "SEQ_CLS"));
    CAD_TRY(cad_json_bool(j, "use_dora", false));
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
    static const char *const keys[] = {"architectures", "num_labels", "id2label", "label2id", "dtype", "torch_dtype", "problem_type"};

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
static cad_status put_causal(cad_json *j, const cad_node *root, const cad_method *m)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    for (const cad_node *n = root->child; n; n = n->next)
        if (strcmp(n->key, "dtype") && strcmp(n->key, "torch_dtype")) CAD_TRY(cad_json_node(j, n->key, n));
    CAD_TRY(cad_json_string(j, cad_get(root, "torch_dtype") ? "torch_dtype" : "dtype", m->compute == CAD_BF16 ? "bfloat16" : "float32"));
    return cad_json_end(j);
}

static cad_status put_classifier(cad_json *j, const cad_node *root, const cad_arch *a, const cad_method *m)
{
    char name[64];

    if (m->causal) return put_causal(j, root, m);
    snprintf(name, sizeof name, "%s%s", a->class_stem, m->custom_head ? "Model" : "ForSequenceClassification");
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_begin(j, "architectures", '['));
    CAD_TRY(cad_json_string(j, NULL, name));
    CAD_TRY(cad_json_end(j));
    for (const cad_node *n = root->child; n; n = n->next)
        if (!replaced(n->key)) CAD_TRY(cad_json_node(j, n->key, n));
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
