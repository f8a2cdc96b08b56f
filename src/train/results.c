/* *_results.json, all_results.json, run.json: the numbers of a run and what it was made of. */
#include "keep_priv.h"
#include <cadtrain/version.h>

void cadp_text_digest(const char *text, char hex[65])
{
    cad_sha256 s;

    cad_sha256_begin(&s);
    cad_sha256_add(&s, text, strlen(text));
    cad_sha256_end(&s, hex);
}

void cadp_data_digest(const cad_run *r, char hex[65])
{
    cad_sha256 s;

    cad_sha256_begin(&s);
    cad_sha256_add(&s, r->train.data->digest, 64);
    cad_sha256_add(&s, r->train.rows, (size_t)r->train.count * sizeof *r->train.rows);
    cad_sha256_end(&s, hex);
}

static cad_status write_json(const char *dir, const char *name, cad_json *j)
{
    cad_str path = {0};
    cad_status status = cad_str_add(&j->text, "\n", 1);

    if (!status) status = cadp_join(&path, dir, name);
    if (!status) status = cad_write_file(path.data, j->text.data, j->text.size);
    cad_str_close(&path);
    return status;
}

/* ---- results ---- */

static bool kept(const cad_number *n) { return strcmp(n->name, "step") != 0; }

static cad_status put_number(cad_json *j, const cad_number *n) { return n->integer ? cad_json_int(j, n->name, (int64_t)n->value) : cad_json_real(j, n->name, n->value); }

static bool named(const char *key, const cad_number *numbers, int count)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(numbers[i].name, key)) return true;
    return false;
}

/* The earlier entries of all_results.json that are not said again, then these. */
static cad_status put_numbers(cad_json *j, const cad_node *earlier, const cad_number *numbers, int count)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    for (const cad_node *n = earlier ? earlier->child : NULL; n; n = n->next)
        if (!named(n->key, numbers, count)) CAD_TRY(cad_json_node(j, n->key, n));
    for (int i = 0; i < count; i++)
        if (kept(&numbers[i])) CAD_TRY(put_number(j, &numbers[i]));
    return cad_json_end(j);
}

static cad_status write_numbers(const char *dir, const char *name, const cad_node *earlier, const cad_number *numbers, int count)
{
    cad_json j = {.pretty = true};
    cad_status status = put_numbers(&j, earlier, numbers, count);

    if (!status) status = write_json(dir, name, &j);
    cad_json_close(&j);
    return status;
}

/* Damaged numbers of an earlier part of the run are not worth ending a training for. */
static cad_tree *read_earlier(const char *dir)
{
    cad_str path = {0};
    cad_tree *tree = NULL;

    if (!cadp_join(&path, dir, "all_results.json") && cad_is_file(path.data) && cad_json_read(&tree, path.data, 1 << 20, CAD_ERESOURCE)) {
        cad_warn("all_results.json", "%s is written anew: %s", path.data, cad_reason());
        cad_clear();
    }
    cad_str_close(&path);
    if (tree && tree->root->kind != CAD_TABLE) cad_tree_close(&tree);
    return tree;
}

cad_status cadp_write_results(cad_run *r, const char *name, const cad_number *numbers, int count)
{
    cad_str file = {0};
    cad_tree *earlier = read_earlier(r->o->output_dir);
    cad_status status = cad_str_addf(&file, "%s_results.json", name);

    if (!status) status = write_numbers(r->o->output_dir, file.data, NULL, numbers, count);
    if (!status) status = write_numbers(r->o->output_dir, "all_results.json", earlier ? earlier->root : NULL, numbers, count);
    cad_tree_close(&earlier);
    cad_str_close(&file);
    return status;
}

/* ---- run.json ---- */

static cad_status put_config(cad_json *j, const cad_run *r)
{
    char digest[65];
    cad_tree *tree;
    cad_status status;

    if (!r->what.config_json) return cad_json_null(j, "config");
    cadp_text_digest(r->what.config_json, digest);
    CAD_TRY(cad_json_string(j, "config_sha256", digest));
    CAD_TRY(cad_json_parse(&tree, r->what.config_json, strlen(r->what.config_json), "the configuration", CAD_EINTERNAL));
    status = cad_json_node(j, "config", tree->root);
    cad_tree_close(&tree);
    return status;
}

static cad_status put_data(cad_json *j, const cad_run *r)
{
    char digest[65];

    cadp_data_digest(r, digest);
    CAD_TRY(cad_json_begin(j, "data", '{'));
    CAD_TRY(cad_json_string(j, "sha256", digest));
    CAD_TRY(cad_json_string(j, "train_tokens_sha256", r->train.data->digest));
    if (r->eval.owned) CAD_TRY(cad_json_string(j, "eval_tokens_sha256", r->eval.data->digest));
    CAD_TRY(cad_json_int(j, "records", r->train.data->count));
    CAD_TRY(cad_json_int(j, "train_rows", r->facts.train_rows));
    CAD_TRY(cad_json_int(j, "eval_rows", r->facts.eval_rows));
    CAD_TRY(cad_json_begin(j, "class_weights", '['));
    for (int i = 0; i < 2; i++) CAD_TRY(cad_json_real(j, NULL, r->facts.class_weight[i]));
    CAD_TRY(cad_json_end(j));
    return cad_json_end(j);
}

static cad_status put_seeds(cad_json *j, const cad_options *o)
{
    CAD_TRY(cad_json_begin(j, "seeds", '{'));
    CAD_TRY(cad_json_int(j, "seed", o->runtime.seed));
    CAD_TRY(cad_json_int(j, "split_seed", o->dataset.split_seed));
    CAD_TRY(cad_json_int(j, "shuffle_seed", o->dataset.shuffle_seed));
    CAD_TRY(cad_json_int(j, "train_shuffle_seed", o->dataset.train_shuffle_seed));
    CAD_TRY(cad_json_int(j, "eval_shuffle_seed", o->dataset.eval_shuffle_seed));
    return cad_json_end(j);
}

static cad_status put_shape(cad_json *j, const cad_run *r)
{
    CAD_TRY(cad_json_int(j, "world_size", r->size));
    CAD_TRY(cad_json_int(j, "nodes", cad_comm_nodes(r->comm)));
    CAD_TRY(cad_json_int(j, "zero_stage", r->o->runtime.zero_stage));
    CAD_TRY(cad_json_string(j, "precision", r->method.compute == CAD_BF16 ? "bf16" : "fp32"));
    CAD_TRY(cad_json_string(j, "reduction", r->exact ? "exact" : "fast"));
    CAD_TRY(cad_json_int(j, "atoms_per_step", r->facts.atoms_per_step));
    CAD_TRY(cad_json_int(j, "step", r->step));
    CAD_TRY(cad_json_int(j, "max_steps", r->facts.max_steps));
    CAD_TRY(cad_json_int(j, "trainable_parameters", r->params->trainable));
    return cad_json_int(j, "all_parameters", r->params->all);
}

/* Left out where the base cannot be read any more. */
static cad_status put_base(cad_json *j, const cad_run *r)
{
    char digest[65];

    if (!r->method.lora) return CAD_OK;
    if (!cadp_base_digest(r->model_dir, digest)) return cad_json_string(j, "base_sha256", digest);
    cad_clear();
    return CAD_OK;
}

static cad_status put_run(cad_json *j, const cad_run *r)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_begin(j, "versions", '{'));
    CAD_TRY(cad_json_string(j, "cadtrain", CAD_VERSION));
    CAD_TRY(cad_json_string(j, "mpi", cad_comm_library(r->comm)));
    CAD_TRY(cad_json_string(j, "hdf5", cad_h5_version()));
    CAD_TRY(cad_json_string(j, "device", cad_device_description(r->device)));
    CAD_TRY(cad_json_end(j));
    CAD_TRY(put_shape(j, r));
    CAD_TRY(put_seeds(j, r->o));
    CAD_TRY(put_data(j, r));
    CAD_TRY(put_base(j, r));
    CAD_TRY(cadp_put_slurm(j));
    CAD_TRY(put_config(j, r));
    return cad_json_end(j);
}

cad_status cadp_write_run_json_to(const cad_run *r, const char *dir)
{
    cad_json j = {.pretty = true};
    cad_status status = put_run(&j, r);

    if (!status) status = write_json(dir, "run.json", &j);
    cad_json_close(&j);
    return status;
}

cad_status cadp_write_run_json(const cad_run *r) { return cadp_write_run_json_to(r, r->o->output_dir); }
