/* Finding a checkpoint that is whole, and going on from it. Every file's digest is checked before any other reader sees a byte. */
#include "keep_priv.h"

#include <math.h>

/* ---- which one ---- */

static cad_status whole(const char *dir)
{
    cad_str path = {0};
    cad_status status = cadp_join(&path, dir, "manifest.json");

    if (!status && !cad_is_file(path.data)) status = cad_fail(CAD_ECHECKPOINT, "%s: is no complete checkpoint of cadtrain: it has no manifest.json", dir);
    if (!status) status = cadp_manifest_verify(dir);
    if (!status) status = cadp_join(&path, dir, "state.h5");
    if (!status && !cad_is_file(path.data)) status = cad_fail(CAD_ECHECKPOINT, "%s: expected state.h5 in it, found none", dir);
    cad_str_close(&path);
    return status;
}

/* The newest by its number that is whole; one that is not is named and passed over. */
static cad_status newest(char **out, const char *dir)
{
    int64_t *steps;
    int count;
    cad_str path = {0};
    cad_status status, broken = CAD_OK;

    *out = NULL;
    CAD_TRY(cadp_list_checkpoints(dir, &steps, &count));
    status = CAD_OK;
    for (int i = count - 1; i >= 0 && !*out && !status; i--) {
        if ((status = cadp_checkpoint_path(&path, dir, steps[i]))) break;
        broken = whole(path.data);
        if (!broken) status = cad_strdup(out, path.data);
        else if (i) {
            cad_warn("checkpoints", "%s; the checkpoint before it is tried", cad_reason());
            cad_clear();
        }
    }
    cad_str_close(&path);
    cad_free(&steps);
    if (status || *out) return status;
    return broken ? broken : cad_fail(CAD_ECHECKPOINT, "%s: expected a checkpoint-N in it, found none", dir);
}

static cad_status named(char **out, const char *path)
{
    cad_str inside = {0};
    bool single;
    cad_status status;

    if (!cad_is_dir(path)) return cad_fail(CAD_ECHECKPOINT, "resume_from_checkpoint %s: expected a folder, found none", path);
    CAD_TRY(cadp_join(&inside, path, "state.h5"));
    single = cad_is_file(inside.data);
    status = cadp_join(&inside, path, "manifest.json");
    single = single || (!status && cad_is_file(inside.data));
    cad_str_close(&inside);
    if (status) return status;
    if (!single) return newest(out, path);
    CAD_TRY(whole(path));
    return cad_strdup(out, path);
}

static cad_status choose(cad_run *r)
{
    const char *dir = r->o->output_dir;
    int64_t *steps;
    int count;

    switch (cadp_resume_kind(r->o)) {
    case CADP_RESUME_NONE: return CAD_OK;
    case CADP_RESUME_PATH: return named(&r->resume_dir, r->o->training.resume_from_checkpoint);
    case CADP_RESUME_LAST: return newest(&r->resume_dir, dir);
    case CADP_RESUME_AUTO: break;
    }
    CAD_TRY(cadp_list_checkpoints(dir, &steps, &count));
    cad_free(&steps);
    return count ? newest(&r->resume_dir, dir) : CAD_OK;
}

/* ---- its configuration beside ours ---- */

/* Keys that leave the numbers of the training as they are, or whose effect is checked otherwise. */
static bool is_harmless(const cad_run *r, const char *key)
{
    static const char *const keys[] = {
        "experiment_name", "output_dir", "prediction_output_dir", "logging_dir", "predictions_include_input", "demo", "model.cache_dir", "model.device_map", "model.padding_side", "model.trust_remote_code",
        "model.attn_implementation", "dataset.train_file", "dataset.validation_file", "dataset.test_file", "training.per_device_eval_batch_size", "training.gradient_accumulation_steps",
        "training.logging_steps", "training.logging_first_step", "training.eval_strategy", "training.eval_steps", "training.save_strategy", "training.save_steps", "training.save_total_limit",
        "training.load_best_model_at_end", "training.metric_for_best_model", "training.greater_is_better", "training.early_stopping_patience", "training.resume_from_checkpoint",
        "training.overwrite_output_dir", "training.run_test_after_train", "training.log_level", "runtime.launcher", "runtime.gradient_checkpointing", "runtime.dataloader_num_workers", "runtime.report_to",
        "runtime.threads", "runtime.zero_stage", "runtime.offload_optimizer", "runtime.offload_param", "runtime.device_memory", "runtime.wall_time", "runtime.watchdog_seconds"};

    /* Evaluations draw from the generator that groups by length. */
    if (r->o->training.group_by_length && !strncmp(key, "training.eval_st", 16)) return false;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(keys[i], key)) return true;
    return !strncmp(key, "deepspeed", 9);
}

static bool same_value(const cad_node *a, const cad_node *b)
{
    const cad_node *x, *y;

    if ((a->kind == CAD_INT || a->kind == CAD_REAL) && (b->kind == CAD_INT || b->kind == CAD_REAL)) return a->real == b->real;
    if (a->kind != b->kind || a->children != b->children) return false;
    if (a->kind == CAD_BOOL) return a->boolean == b->boolean;
    if (a->kind == CAD_STRING) return a->size == b->size && !memcmp(a->text, b->text, a->size);
    for (x = a->child, y = b->child; x && y; x = x->next, y = y->next)
        if (!same_value(x, y)) return false;
    return true;
}

static cad_status compare(const cad_run *r, cad_str *changed, const char *prefix, const cad_node *then, const cad_node *now)
{
    cad_str key = {0};
    cad_status status = CAD_OK;

    for (const cad_node *n = now->child; n && !status; n = n->next) {
        const cad_node *before = cad_get(then, n->key);
        key.size = 0;
        if ((status = cad_str_addf(&key, "%s%s%s", prefix, *prefix ? "." : "", n->key))) break;
        if (!before || is_harmless(r, key.data)) continue;
        if (n->kind == CAD_TABLE && before->kind == CAD_TABLE) status = compare(r, changed, key.data, before, n);
        else if (!same_value(before, n)) status = cad_str_addf(changed, "%s%s", changed->size ? ", " : "", key.data);
    }
    cad_str_close(&key);
    return status;
}

static cad_status compare_texts(const cad_run *r, cad_str *changed, const cad_node *run, const char *config_json)
{
    const cad_node *then = cad_get(run, "config");
    cad_tree *now;
    cad_status status = CAD_OK;

    if (!then || then->kind != CAD_TABLE || !config_json) return CAD_OK;
    CAD_TRY(cad_json_parse(&now, config_json, strlen(config_json), "the configuration", CAD_EINTERNAL));
    if (now->root->kind == CAD_TABLE) status = compare(r, changed, "", then, now->root);
    cad_tree_close(&now);
    return status;
}

static cad_status tell_changes(const cad_run *r)
{
    cad_str path = {0}, changed = {0};
    cad_tree *run = NULL;
    cad_status status = cadp_join(&path, r->resume_dir, "run.json");

    if (!status && cad_is_file(path.data)) {
        status = cad_json_read(&run, path.data, 16 << 20, CAD_ECHECKPOINT);
        if (!status) status = compare_texts(r, &changed, run->root, r->what.config_json);
    }
    if (!status && changed.size) cad_warn("the configuration", "%s was made with other values of %s: the run goes on with the present ones and will differ from an undisturbed run", r->resume_dir, changed.data);
    cad_tree_close(&run);
    cad_str_close(&path);
    cad_str_close(&changed);
    return status;
}

/* ---- what decides the run before anything is allocated ---- */

static cad_status open_state(cad_h5 **out, const char *dir)
{
    cad_str path = {0};
    char *form = NULL;
    cad_status status = cadp_join(&path, dir, "state.h5");

    *out = NULL;
    if (!status) status = cad_h5_open(out, path.data);
    if (!status) status = cad_h5_get_text(*out, "format", &form);
    if (!status && strcmp(form, "cadtrain-state-1")) status = cad_fail(CAD_ECHECKPOINT, "%s: attribute format: expected cadtrain-state-1, found another", path.data);
    if (status && cad_h5_close(out)) cad_debug("%s", cad_reason());
    cad_free(&form);
    cad_str_close(&path);
    return status;
}

static cad_status positive(cad_h5 *h, const char *dir, const char *name, int64_t *out)
{
    CAD_TRY(cad_h5_get_int(h, name, out));
    return *out > 0 ? CAD_OK : cad_fail(CAD_ECHECKPOINT, "%s/state.h5: attribute %s: expected a positive number, found %lld", dir, name, (long long)*out);
}

/* The atoms of a step and how they were cut when the run began stay what they were, whatever the world size is now. */
static cad_status read_position(cad_run *r, cad_h5 *h)
{
    int64_t accumulation, atoms;

    CAD_TRY(positive(h, r->resume_dir, "step", &r->facts.start_step));
    CAD_TRY(positive(h, r->resume_dir, "atoms_per_step", &atoms));
    CAD_TRY(positive(h, r->resume_dir, "accumulation", &accumulation));
    if (atoms % accumulation) return cad_fail(CAD_ECHECKPOINT, "%s/state.h5: expected atoms_per_step (%lld) to be a multiple of accumulation (%lld)", r->resume_dir, (long long)atoms, (long long)accumulation);
    if (atoms != r->size * r->o->training.gradient_accumulation_steps)
        cad_info("A step keeps its %lld micro-batches (world size x accumulation when the run began; %lld now)", (long long)atoms, (long long)(r->size * r->o->training.gradient_accumulation_steps));
    r->facts.atoms_per_step = atoms;
    r->o->training.gradient_accumulation_steps = accumulation;
    return CAD_OK;
}

cad_status cadp_checkpoint_find(cad_run *r)
{
    cad_h5 *h;
    cad_status status, closed;

    CAD_TRY(choose(r));
    if (!r->resume_dir) return CAD_OK;
    CAD_TRY(open_state(&h, r->resume_dir));
    status = read_position(r, h);
    closed = cad_h5_close(&h);
    if (!status) status = closed;
    return status ? status : tell_changes(r);
}

/* ---- tensors ---- */

typedef struct loader {
    cad_run *run;
    cad_h5 *file;      /* rank 0 */
    const char *dir;   /* its folder */
    float *values;     /* a piece */
    cad_str name;
    cad_status failed; /* rank 0 could not read: the rest still travels, because every rank takes part */
} loader;

static cad_status check_tensor(loader *l, const cad_param *p)
{
    cad_dtype dtype;
    int64_t shape[CAD_MAX_DIMS];
    int dims;

    if (!cad_h5_has(l->file, l->name.data)) return cad_fail(CAD_ECHECKPOINT, "%s in %s/state.h5: expected this tensor, found none: the checkpoint is of another model or method", l->name.data, l->dir);
    CAD_TRY(cad_h5_shape(l->file, l->name.data, &dtype, shape, &dims));
    int64_t want[3];
    int count = cad_param_shape(p, want);
    bool same = dtype == CAD_F32 && dims == count;
    for (int i = 0; i < dims && same; i++) same = shape[i] == want[i];
    if (same) return CAD_OK;
    return cad_fail(CAD_ECHECKPOINT, "%s in %s/state.h5: expected F32 [%lld, %lld], found %s with %d dimensions, first %lld", l->name.data, l->dir, (long long)p->rows, (long long)p->cols, cad_dtype_name(dtype), dims,
                    dims ? (long long)shape[0] : 0);
}

/* A checkpoint of moments in fp32 has no scales, one of 8 bits has. */
static cad_status check_scales(loader *l, int64_t count)
{
    int64_t shape[CAD_MAX_DIMS];
    cad_dtype dtype;
    int dims;

    if (!cad_h5_has(l->file, l->name.data))
        return cad_fail(CAD_ECHECKPOINT, "%s in %s/state.h5: expected scales of moments of 8 bits, found none: the checkpoint was made with moments in fp32", l->name.data, l->dir);
    CAD_TRY(cad_h5_shape(l->file, l->name.data, &dtype, shape, &dims));
    if (dtype == CAD_F32 && dims == 1 && shape[0] == count) return CAD_OK;
    return cad_fail(CAD_ECHECKPOINT, "%s in %s/state.h5: expected %lld scales, found others", l->name.data, l->dir, (long long)count);
}

static cad_status name_state(loader *l, const cad_param *p, cad_state what, int64_t count)
{
    static const char *const ends[CAD_STATES] = {"", "/exp_avg_scale", "/exp_avg_sq_scale", "/exp_avg", "/exp_avg_sq"};
    cad_str plain = {0};
    cad_status status = cadp_file_name(&plain, &l->run->method, p);

    l->name.size = 0;
    if (!status)
        status = cad_str_addf(&l->name, "/%s/%s%s", what == CAD_STATE_PARAM ? "model" : "optimizer", plain.data, ends[what]);
    cad_str_close(&plain);
    CAD_TRY(status);
    return what == CAD_STATE_SCALE_AVG || what == CAD_STATE_SCALE_AVG_SQ ? check_scales(l, count) : check_tensor(l, p);
}

/* Collective. */
static cad_status spread_row(loader *l, int row, cad_state what)
{
    cad_run *r = l->run;
    const cad_param *p = &r->params->row[row];
    int64_t count = cad_zero_state_count(r->zero, row, what);

    if (!count) return CAD_OK;
    if (!r->rank && !l->failed) l->failed = name_state(l, p, what, count);
    for (int64_t from = 0; from < count; from += CAD_STATE_PIECE) {
        int64_t n = cad_min(CAD_STATE_PIECE, count - from);
        cad_watchdog_beat("loading a checkpoint", r->step);
        if (!r->rank && !l->failed) l->failed = cad_h5_read(l->file, l->name.data, CAD_F32, from, n, l->values);
        CAD_TRY(cad_zero_spread(r->zero, row, what, from, n, l->values));
    }
    return CAD_OK;
}

static cad_status spread_all(loader *l, int kinds)
{
    for (int i = 0; i < l->run->params->count; i++)
        for (int s = 0; s < kinds && l->run->params->row[i].trains; s++) CAD_TRY(spread_row(l, i, (cad_state)s));
    return CAD_OK;
}

typedef struct counter { int64_t tensors; } counter;

static cad_status count_tensor(void *with, const char *name)
{
    (void)name;
    ((counter *)with)->tensors++;
    return CAD_OK;
}

/* All names of ours are looked up one by one; as many must be there. */
static cad_status check_count(loader *l)
{
    const cad_params *p = l->run->params;
    counter c = {0};
    int64_t ours = 0;

    for (int i = 0; i < p->count; i++) ours += p->row[i].trains;
    CAD_TRY(cad_h5_each(l->file, "/model", count_tensor, &c));
    if (c.tensors == ours) return CAD_OK;
    return cad_fail(CAD_ECHECKPOINT, "%s/state.h5: expected %lld trainable tensors, found %lld: the checkpoint is of another model or method", l->dir, (long long)ours, (long long)c.tensors);
}

static cad_status loader_open(loader *l, cad_run *r, const char *dir)
{
    *l = (loader){.run = r, .dir = dir};
    CAD_TRY(cad_alloc(&l->values, CAD_STATE_PIECE, sizeof *l->values, "a piece of a tensor"));
    if (r->rank) return CAD_OK;
    CAD_TRY(open_state(&l->file, dir));
    return check_count(l);
}

static void loader_close(loader *l)
{
    if (cad_h5_close(&l->file)) cad_debug("%s", cad_reason());
    cad_free(&l->values);
    cad_str_close(&l->name);
}

/* ---- the rest of the state ---- */

static cad_status check_data(const cad_run *r, cad_h5 *h)
{
    char *then = NULL, now[65];
    cad_status status = cad_h5_get_text(h, "data_sha256", &then);

    cadp_data_digest(r, now);
    if (!status && strcmp(then, now)) {
        cad_advise("records, tokenizer, max_length, split and shuffle seeds must be those the run began with");
        status = cad_fail(CAD_ECHECKPOINT, "%s: expected the training data it was made with (SHA-256 %.12s…), found %.12s…", r->resume_dir, then, now);
    }
    cad_free(&then);
    return status;
}

static cad_status read_largest(const cad_run *r, cad_h5 *h, double *largest)
{
    cad_dtype dtype;
    int64_t shape[CAD_MAX_DIMS];
    int dims;

    CAD_TRY(cad_h5_shape(h, "/cadtrain/largest", &dtype, shape, &dims));
    if (dims != 1 || shape[0] != r->params->units) return cad_fail(CAD_ECHECKPOINT, "/cadtrain/largest in state.h5: expected %d values, one for each unit of the model", r->params->units);
    return cad_h5_read(h, "/cadtrain/largest", CAD_F64, 0, r->params->units, largest);
}

/* A best checkpoint that is not in this output directory cannot be gone back to: the choice begins anew. */
static cad_status keep_best(cad_run *r)
{
    cad_str path = {0};
    cad_status status;

    if (!r->history.best_step) return CAD_OK;
    status = cadp_checkpoint_path(&path, r->o->output_dir, r->history.best_step);
    if (!status && !cad_is_dir(path.data) && r->o->training.load_best_model_at_end) {
        cad_warn("the best checkpoint", "%s, the best so far, is not there: the best is chosen among what is still to come", path.data);
        r->history.best_step = r->history.bad_evals = 0;
        r->history.best_metric = NAN;
    }
    cad_str_close(&path);
    return status;
}

static cad_status read_history(cad_run *r, cad_h5 *h)
{
    cad_str path = {0};
    cad_status status = cadp_join(&path, r->resume_dir, "trainer_state.json");

    if (!status) status = cadp_read_trainer_state(r, path.data);
    cad_str_close(&path);
    CAD_TRY(status);
    CAD_TRY(cad_h5_get_int(h, "best_step", &r->history.best_step));
    CAD_TRY(cad_h5_get_int(h, "bad_evals", &r->history.bad_evals));
    CAD_TRY(cad_h5_get_real(h, "best_metric", &r->history.best_metric));
    return keep_best(r);
}

static cad_status read_rest(loader *l, double *largest)
{
    cad_run *r = l->run;

    if (r->rank) return CAD_OK;
    CAD_TRY(l->failed);
    CAD_TRY(read_largest(r, l->file, largest));
    return read_history(r, l->file);
}

static cad_status load_everything(loader *l)
{
    cad_run *r = l->run;
    double *largest;
    cad_status status;

    CAD_TRY(spread_all(l, CAD_STATES));
    CAD_TRY(cad_alloc(&largest, (size_t)r->params->units, sizeof *largest, "largest gradients"));
    status = cad_comm_agree(r->comm, read_rest(l, largest));
    if (!status) status = cad_comm_bcast(r->comm, largest, (size_t)r->params->units * sizeof *largest, 0);
    if (!status) cad_zero_set_largest(r->zero, largest);
    cad_free(&largest);
    return status;
}

cad_status cadp_checkpoint_load(cad_run *r)
{
    loader l;
    cad_status status = loader_open(&l, r, r->resume_dir);

    if (!status && !r->rank) status = check_data(r, l.file);
    status = cad_comm_agree(r->comm, status);
    if (!status) status = load_everything(&l);
    loader_close(&l);
    CAD_TRY(status);
    r->step = r->facts.start_step;
    if (!r->rank) cad_info("Going on from %s at step %lld", r->resume_dir, (long long)r->step);
    return CAD_OK;
}

cad_status cadp_checkpoint_load_params(cad_run *r, const char *dir)
{
    loader l = {0};
    cad_status status = r->rank ? CAD_OK : whole(dir);

    if (!status) status = loader_open(&l, r, dir);
    status = cad_comm_agree(r->comm, status);
    if (!status) status = spread_all(&l, 1);
    if (!status) status = cad_comm_agree(r->comm, l.failed);
    loader_close(&l);
    return status;
}
