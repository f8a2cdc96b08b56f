/* Scoring a model that a run of ours trained: records read otherwise than in training are told of. Rank 0. */
#include "keep_priv.h"

static const struct { const char *section, *key; } keys[] = {
    {"task", "max_length"}, {"task", "truncation"}, {"task", "truncation_side"}, {"task", "input_column"}, {"model", "use_custom_binary_head"}, {"model", "pooling"},
    {"model", "load_in_4bit"}, {"model", "load_in_8bit"}, {"model", "bnb_4bit_quant_type"}, {"model", "bnb_4bit_use_double_quant"}, {"model", "quantize_experts"}, {"model", "llm_int8_threshold"}};

static const cad_node *value_of(const cad_node *config, int i)
{
    const cad_node *section = config && config->kind == CAD_TABLE ? cad_get(config, keys[i].section) : NULL;

    return section && section->kind == CAD_TABLE ? cad_get(section, keys[i].key) : NULL;
}

static cad_status compare(cad_str *out, const cad_node *then, const cad_node *now)
{
    cad_json a = {0}, b = {0};
    cad_status status = CAD_OK;

    for (int i = 0; i < (int)(sizeof keys / sizeof *keys) && !status; i++) {
        const cad_node *x = value_of(then, i), *y = value_of(now, i);
        if (!x || !y) continue;
        cad_json_close(&a);
        cad_json_close(&b);
        if ((status = cad_json_node(&a, NULL, x)) || (status = cad_json_node(&b, NULL, y))) break;
        if (strcmp(a.text.data, b.text.data)) status = cad_str_addf(out, "%s%s %s (here %s)", out->size ? ", " : "", keys[i].key, a.text.data, b.text.data);
    }
    cad_json_close(&a);
    cad_json_close(&b);
    return status;
}

static cad_status differences(cad_str *out, const cad_run *r, const char *path)
{
    cad_tree *run = NULL, *now = NULL;
    cad_status status = cad_json_read(&run, path, 16 << 20, CAD_ECHECKPOINT);

    if (!status) status = cad_json_parse(&now, r->what.config_json, strlen(r->what.config_json), "the configuration", CAD_EINTERNAL);
    if (!status && run->root->kind == CAD_TABLE) status = compare(out, cad_get(run->root, "config"), now->root);
    cad_tree_close(&run);
    cad_tree_close(&now);
    return status;
}

cad_status cadp_tell_reading(const cad_run *r)
{
    cad_str path = {0}, found = {0};
    cad_status status;

    if (r->rank || !r->what.checkpoint || !r->what.config_json) return CAD_OK;
    status = cadp_join(&path, r->what.checkpoint, "run.json");
    if (!status && cad_is_file(path.data)) {
        status = differences(&found, r, path.data);
        if (!status && found.size) cad_warn("the configuration", "%s was trained with %s", r->what.checkpoint, found.data);
    }
    cad_str_close(&path);
    cad_str_close(&found);
    return status;
}
