/* The door: all sources in their order, and every mistake in one reason. */
#include "conf_priv.h"

#include <stdio.h>

static const char demo_path[] = "configs/experiments/demo.yaml";

static cad_status set_defaults(cad_config *c)
{
    cadp_from from = {.level = CADP_DEFAULT};
    cad_node null = {.kind = CAD_NULL};

    for (int i = 0; i < cadp_conf_row_count; i++) {
        const cadp_row *row = &cadp_conf_rows[i];
        if (row->marks & CADP_SECOND) continue;
        if (row->standard) CAD_TRY(cadp_conf_set_text(c, i, row->standard, &from));
        else CAD_TRY(cadp_conf_set(c, i, &null, &from));
    }
    CAD_ASSERT(!c->mistake_count); /* the table's own defaults fit */
    return CAD_OK;
}

static cad_status make(cad_config **out)
{
    cad_config *c = NULL;
    cad_status st;

    *out = NULL;
    CAD_TRY(cad_alloc(&c, 1, sizeof *c, "configuration"));
    st = cad_alloc(&c->origin, (size_t)cadp_conf_row_count, sizeof *c->origin, "configuration");
    if (!st) st = set_defaults(c);
    if (st) cad_config_close(&c);
    *out = c;
    return st;
}

void cad_config_close(cad_config **c)
{
    if (!*c) return;
    cadp_conf_free_options(&(*c)->options);
    for (int i = 0; (*c)->origin && i < cadp_conf_row_count; i++) cad_free(&(*c)->origin[i].where);
    cad_free(&(*c)->origin);
    cad_free(&(*c)->file);
    cad_free(&(*c)->values);
    cad_str_close(&(*c)->mistakes);
    cad_str_close(&(*c)->notes);
    cad_str_close(&(*c)->says);
    cad_free(c);
}

static cad_status load_files(cad_config *c, const cadp_given *g, bool train_defaults)
{
    bool bare = !cadp_conf_given_field(g, offsetof(cad_options, model.model_name_or_path)) &&
                !cadp_conf_given_field(g, offsetof(cad_options, dataset.train_file));

    if (g->config) {
        CAD_TRY(cad_strdup(&c->file, g->config));
        CAD_TRY(cad_str_addf(&c->says, "configuration: %s", g->config));
        return cadp_conf_load_experiment(c, g->config, false);
    }
    if (train_defaults && cad_is_file("cadtrain.yaml")) {
        CAD_TRY(cad_strdup(&c->file, "cadtrain.yaml"));
        CAD_TRY(cad_str_addf(&c->says, "configuration: cadtrain.yaml of the current directory"));
        return cadp_conf_load_experiment(c, "cadtrain.yaml", false);
    }
    if (train_defaults && bare) {
        CAD_TRY(cad_str_addf(&c->says, "configuration: the embedded demo (%s), a small model and synthetic people", demo_path));
        return cadp_conf_load_experiment(c, demo_path, true);
    }
    return cad_str_addf(&c->says, "configuration: defaults, environment and flags (no --config)");
}

static cad_status read_all(cad_config *c, cadp_given *g, int argc, char **argv, cad_flag *command_flags, bool train_defaults)
{
    const char *deepspeed;

    CAD_TRY(cadp_conf_read_flags(c, g, argc, argv, command_flags));
    CAD_TRY(cadp_conf_read_environment(c, g));
    deepspeed = g->deepspeed ? g->deepspeed : g->env_deepspeed && *g->env_deepspeed ? g->env_deepspeed : NULL;
    c->no_deepspeed = deepspeed != NULL;
    CAD_TRY(load_files(c, g, train_defaults));
    if (deepspeed && !g->deepspeed) CAD_TRY(cadp_conf_load_deepspeed(c, deepspeed, CADP_ENVIRONMENT, "CADTRAIN_DEEPSPEED"));
    CAD_TRY(cadp_conf_apply_given(c, g, CADP_ENVIRONMENT));
    if (g->deepspeed) CAD_TRY(cadp_conf_load_deepspeed(c, g->deepspeed, CADP_FLAG, "--deepspeed"));
    CAD_TRY(cadp_conf_apply_given(c, g, CADP_FLAG));
    return cadp_conf_settle(c);
}

static cad_status verdict(const cad_config *c, cad_status kind)
{
    int lines = 1;

    if (!c->mistake_count) return CAD_OK;
    for (const char *p = c->mistakes.data; *p; p++) lines += *p == '\n';
    if (c->mistake_count > lines) return cad_fail(kind, "%s\n… and %d more", c->mistakes.data, c->mistake_count - lines);
    return cad_fail(kind, "%s", c->mistakes.data);
}

cad_status cad_config_open(cad_config **out, int argc, char **argv, cad_flag *command_flags, bool train_defaults)
{
    cad_config *c = NULL;
    cadp_given given = {0};
    cad_status st = make(&c);

    *out = NULL;
    if (!st) st = read_all(c, &given, argc, argv, command_flags, train_defaults);
    if (!st) st = verdict(c, CAD_EUSAGE);
    cadp_conf_given_close(&given);
    if (st) cad_config_close(&c);
    *out = c;
    return st;
}

cad_status cad_config_from_json(cad_config **out, const char *json, size_t n)
{
    static const char name[] = "configuration";
    cadp_from from = {.level = CADP_EXPERIMENT, .serial = 1, .path = name, .inside = true};
    cad_config *c = NULL;
    cad_tree *tree = NULL;
    cad_status st = make(&c);

    *out = NULL;
    if (!st) st = cad_json_parse(&tree, json, n, name, CAD_EINTERNAL);
    if (!st) st = cadp_conf_apply_root(c, tree->root, &from);
    if (!st) st = verdict(c, CAD_EINTERNAL);
    if (!st) st = cad_str_addf(&c->says, "configuration: from JSON");
    cad_tree_close(&tree);
    if (st) cad_config_close(&c);
    *out = c;
    return st;
}

cad_options *cad_config_options(cad_config *c) { return &c->options; }
const char *cad_config_says(const cad_config *c) { return c->says.data ? c->says.data : ""; }
const char *cad_config_notes(const cad_config *c) { return c->notes.data ? c->notes.data : ""; }
const char *cad_config_file(const cad_config *c) { return c->file; }
bool cad_config_wants_print(const cad_config *c) { return c->wants_print; }
