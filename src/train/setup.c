/* Opening a run: directories, architecture, method; then facts from rank 0; then the plan; then weights. */
#include "fit_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static cad_pooling pooling_of(int option)
{
    return option == CAD_POOL_MEAN ? CAD_POOLING_MEAN : option == CAD_POOL_CLS ? CAD_POOLING_FIRST : CAD_POOLING_LAST;
}

static bool saves_head(const cad_words *w)
{
    for (int i = 0; i < w->count; i++)
        if (!strcmp(w->word[i], "score") || !strcmp(w->word[i], "classifier")) return true;
    return false;
}

void cadp_lora_from_options(const cad_options *o, cad_method *m)
{
    m->lora = true;
    m->r = o->model.lora.r;
    m->alpha = o->model.lora.lora_alpha;
    m->rslora = o->model.lora.use_rslora;
    m->dora = o->model.lora.use_dora;
    m->train_bias = o->model.lora.bias != CAD_BIAS_NONE;
    m->adapted_bias_only = o->model.lora.bias == CAD_BIAS_LORA_ONLY;
    m->targets = (const char *const *)o->model.lora.target_modules.word;
    m->target_count = o->model.lora.target_modules.count;
    m->target_is_regex = o->model.lora.target_is_regex;
    m->excluded = (const char *const *)o->model.lora.exclude_modules.word;
    m->exclude_count = o->model.lora.exclude_modules.count;
    m->exclude_is_regex = o->model.lora.exclude_is_regex;
    m->only_layers = o->model.lora.layers_to_transform.at;
    m->only_count = o->model.lora.layers_to_transform.count;
    m->layers_pattern = (const char *const *)o->model.lora.layers_pattern.word;
    m->layers_pattern_count = o->model.lora.layers_pattern.count;
    m->parameters = (const char *const *)o->model.lora.target_parameters.word;
    m->parameter_count = o->model.lora.target_parameters.count;
    m->ranks = o->model.lora.rank_pattern.at;
    m->rank_count = o->model.lora.rank_pattern.count;
    m->alphas = o->model.lora.alpha_pattern.at;
    m->alpha_count = o->model.lora.alpha_pattern.count;
    m->train_head = saves_head(&o->model.lora.modules_to_save);
    m->saves = (const char *const *)o->model.lora.modules_to_save.word;
    m->save_count = o->model.lora.modules_to_save.count;
}

static cad_status check_adapter_task(const cad_run *r)
{
    bool model = r->method.causal, heads = !model && r->what.purpose != CAD_RUN_EMBED;

    if (model && r->adapter.classifies) return cad_fail(CAD_EMODEL, "%s: expected an adapter of a language model (task_type CAUSAL_LM), found one of a classifier (SEQ_CLS)", r->adapter_dir);
    if (model && r->adapter.r && !r->adapter.ties && cad_method_ties(&r->arch, &r->method))
        return cad_fail(CAD_EMODEL, "%s/adapter_config.json: expected ensure_weight_tying true beside embed_tokens in modules_to_save, as this model's head is its table of words, found false", r->adapter_dir);
    if (heads && r->adapter.causal) return cad_fail(CAD_EMODEL, "%s: expected an adapter of a classifier (task_type SEQ_CLS), found one of a language model (CAUSAL_LM)", r->adapter_dir);
    return CAD_OK;
}

static cad_status method_from_options(cad_run *r)
{
    cad_options *o = r->o;
    cad_method *m = &r->method;

    CAD_TRY(cadp_refuse_later(r));
    *m = (cad_method){.custom_head = o->model.use_custom_binary_head, .num_labels = (int)o->model.num_labels, .head_dropout = o->model.head_dropout,
                      .pooling = o->model.use_custom_binary_head ? pooling_of(o->model.pooling) : CAD_POOLING_LAST, .compute = o->training.bf16 ? CAD_BF16 : CAD_F32,
                      .recompute = o->runtime.gradient_checkpointing == CAD_CHECKPOINT_AUTO ? CAD_RECOMPUTE_LEAST : o->runtime.gradient_checkpointing, .seed = (uint64_t)o->runtime.seed};
    CAD_TRY(cadp_choose_codes(r));
    if (r->adapter.r) cad_method_take_adapter(m, &r->adapter); /* the adapter's own file decides its shape */
    else if (o->model.lora.enabled) cadp_lora_from_options(o, m);
    m->dropout = o->model.lora.lora_dropout;
    if (m->parameter_count && m->dropout > 0 && r->what.purpose == CAD_RUN_TRAIN)
        return cad_fail(CAD_EUSAGE, "lora.lora_dropout: expected 0 beside target_parameters, as in PEFT, found %g", m->dropout);
    m->causal = r->what.purpose == CAD_RUN_SCORE || r->what.purpose == CAD_RUN_GENERATE || cadp_is_sft(r);
    if (m->causal) m->train_head = false;
    return check_adapter_task(r);
}

/* eval, predict: CHECKPOINT is an adapter (its base named by the options or by itself), or a model. */
static cad_status resolve_checkpoint(cad_run *r)
{
    const char *c = r->what.checkpoint, *base = r->o->model.model_name_or_path;

    if (!cad_is_dir(c)) return cad_fail(CAD_ECHECKPOINT, "--checkpoint %s: expected a directory, found none", c);
    if (!cad_is_adapter(c)) {
        CAD_TRY(cad_strdup(&r->model_dir, c));
        return CAD_OK;
    }
    CAD_TRY(cad_strdup(&r->adapter_dir, c));
    CAD_TRY(cad_adapter_config_read(&r->adapter, c));
    if (!base || r->o->demo) base = r->adapter.base_model;
    if (!base) return cad_fail(CAD_EMODEL, "%s/adapter_config.json: expected base_model_name_or_path, found none; name the base with --model-name-or-path", c);
    return cad_find_model(&r->model_dir, base, r->o->model.cache_dir);
}

static cad_status resolve_start(cad_run *r)
{
    cad_options *o = r->o;

    if (!o->model.model_name_or_path) return cad_fail(CAD_EUSAGE, "model_name_or_path: expected a model directory, found none");
    CAD_TRY(cad_find_model(&r->model_dir, o->model.model_name_or_path, o->model.cache_dir));
    if (!o->model.adapter_name_or_path) return CAD_OK;
    CAD_TRY(cad_strdup(&r->adapter_dir, o->model.adapter_name_or_path));
    return cad_adapter_config_read(&r->adapter, r->adapter_dir);
}

static cad_status resolve_tokenizer(cad_run *r)
{
    const char *t = r->o->model.tokenizer_name_or_path;
    char path[4096];

    if (r->what.checkpoint && snprintf(path, sizeof path, "%s/tokenizer.json", r->what.checkpoint) < (int)sizeof path && cad_is_file(path))
        return cad_strdup(&r->tokenizer_dir, r->what.checkpoint);
    if (t && (!r->what.checkpoint || !r->o->model.model_name_or_path || strcmp(t, r->o->model.model_name_or_path))) return cad_find_model(&r->tokenizer_dir, t, r->o->model.cache_dir);
    return cad_strdup(&r->tokenizer_dir, r->model_dir);
}

cad_status cadp_resolve_model(cad_run *r)
{
    size_t n;

    CAD_TRY(r->what.checkpoint ? resolve_checkpoint(r) : resolve_start(r));
    CAD_TRY(resolve_tokenizer(r));
    CAD_TRY(cad_arch_text(&r->source_config, &n, r->model_dir));
    CAD_TRY(cad_arch_read(&r->arch, r->model_dir));
    return method_from_options(r);
}

/* ---- the rest of a run ---- */

static void decide_decay(cad_params *p)
{
    for (int i = 0; i < p->count; i++) p->row[i].decays = !p->row[i].idle && cad_decays(p->row[i].name);
}

int cadp_threads(const cad_run *r)
{
    const char *omp = getenv("OMP_NUM_THREADS"), *slurm = getenv("SLURM_CPUS_PER_TASK");
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (r->o->runtime.threads > 0) return (int)r->o->runtime.threads;
    if (omp && strtol(omp, NULL, 10) > 0) return (int)strtol(omp, NULL, 10);
    if (slurm && strtol(slurm, NULL, 10) > 0) return (int)strtol(slurm, NULL, 10);
    return (int)cad_max(1, cores / (r->comm ? cad_comm_local_size(r->comm) : 1));
}

static cad_zero_options zero_options(const cad_run *r)
{
    int stage = (int)r->o->runtime.zero_stage;

    return (cad_zero_options){.stage = stage == 1 ? 2 : stage, .train = r->what.purpose == CAD_RUN_TRAIN, .exact = r->exact, .atoms_per_step = cad_max(1, r->facts.atoms_per_step), .compute = r->method.compute, .link = r->link,
                              .coded = r->o->training.optim == CAD_OPTIM_8BIT || r->o->training.optim == CAD_OPTIM_PAGED_8BIT, .paged = r->pages,
                              .host_states = r->o->runtime.offload_optimizer == CAD_OFFLOAD_CPU, .host_params = r->o->runtime.offload_param == CAD_OFFLOAD_CPU};
}

/* A unit that visits leaves: its view does not last. */
static bool views_last(const cad_run *r)
{
    if (r->o->runtime.zero_stage < 3) return true;
    return r->size == 1 && (r->o->runtime.offload_param != CAD_OFFLOAD_CPU || cad_device_is_host(r->device));
}

/* Only which token is likeliest is looked at. */
static bool is_greedy(const cad_run *r)
{
    const cad_sampling *s = r->what.generation ? &r->what.generation->sampling : NULL;

    return r->what.purpose == CAD_RUN_GENERATE && s && s->temperature <= 0 && s->repetition_penalty == 1;
}

static cad_limits limits_of(const cad_run *r)
{
    return (cad_limits){r->facts.tokens, r->facts.sequences, cad_max(r->facts.longest, r->facts.kept), r->what.purpose == CAD_RUN_TRAIN || r->what.purpose == CAD_RUN_EXPLAIN, views_last(r), r->facts.kept, is_greedy(r)};
}

static cad_status open_params(cad_run *r)
{
    CAD_TRY(cad_params_open(&r->params, &r->arch, &r->method));
    decide_decay(r->params);
    return CAD_OK;
}

static cad_status take_scratch(cad_run *r)
{
    int64_t most = 1;

    for (int i = 1; i < r->params->units; i++) most = cad_max(most, r->params->train_elems[i]);
    return cad_arena_take(&r->arena, CAD_MEM_WORK, "gradients of one unit", most * 4, &r->scratch);
}

/* Rooms that hold memory, in order. The same function opens the plan's rooms on a device that only counts. */
cad_status cadp_open_rooms(cad_run *r)
{
    cad_limits limits = limits_of(r);
    cad_zero_options z = zero_options(r);

    r->arena.device = r->device;
    CAD_TRY(cad_comm_agree(r->comm, open_params(r)));
    CAD_TRY(cad_zero_open(&r->zero, r->params, r->comm, &r->arena, &z));
    CAD_TRY(cad_model_open(&r->model, &r->arch, r->params, &r->method, &r->arena, &limits));
    if (r->what.purpose == CAD_RUN_EXPLAIN) CAD_TRY(take_scratch(r));
    CAD_TRY(cad_alloc(&r->logits, (size_t)(r->facts.sequences * cad_max(r->method.num_labels, 4)), sizeof *r->logits, "logits"));
    if (r->facts.kept) CAD_TRY(cad_alloc(&r->next, (size_t)(r->facts.sequences * r->arch.vocab), sizeof *r->next, "logits"));
    CAD_TRY(cad_alloc(&r->nll, (size_t)(r->method.causal ? r->facts.tokens : r->facts.sequences), sizeof *r->nll, "losses"));
    if (r->method.causal) {
        CAD_TRY(cad_alloc(&r->targets, (size_t)r->facts.tokens, sizeof *r->targets, "targets"));
        CAD_TRY(cad_alloc(&r->target_weights, (size_t)r->facts.tokens, sizeof *r->target_weights, "targets"));
    }
    return cad_alloc(&r->slots, (size_t)(r->facts.micros * r->size + 3), sizeof *r->slots, "losses");
}

typedef struct reading { const cad_run *run; cad_source *source; } reading;

/* With columns beside the text a new layer of them begins at their own logistic regression and a new head at zero: so the run begins there. */
static cad_status read_weight(void *with, int row, int64_t from, int64_t n, cad_dtype as, void *out)
{
    const reading *f = with;
    const cad_run *r = f->run;
    const cad_param *p = &r->params->row[row];
    bool starts = r->columns_start && !cad_source_has(f->source, row);

    if (starts && p->role == CAD_ROLE_COLUMNS) cadp_read_start(r, from, n, as, out);
    else if (starts && p->role == CAD_ROLE_HEAD) memset(out, 0, (size_t)n * cad_dtype_bytes(as));
    else return cad_source_read(f->source, row, from, n, as, out);
    return CAD_OK;
}

static cad_status read_codes(void *with, int row, int64_t from, int64_t n, void *out, bool *has) { return cad_source_read_codes(((reading *)with)->source, row, from, n, out, has); }

static cad_status load_weights(cad_run *r)
{
    cad_source *s;
    bool new_head = r->what.purpose == CAD_RUN_TRAIN || r->what.purpose == CAD_RUN_EMBED;
    cad_status status;

    CAD_TRY(cad_source_open(&s, r->model_dir, r->adapter_dir, r->params, new_head));
    cad_source_set_draw(s, (uint64_t)r->o->runtime.seed, r->arch.initializer_range);
    if (cad_source_head_is_new(s) && r->what.purpose == CAD_RUN_TRAIN && !r->rank && !r->resume_dir && !r->o->demo) cad_warn("head", "%s has no classification head: a new one is drawn (seed %lld)", r->model_dir, (long long)r->o->runtime.seed);
    cad_zero_set_code_reader(r->zero, read_codes);
    status = cad_zero_load(r->zero, read_weight, &(reading){r, s});
    cad_source_close(&s);
    return status;
}

static cad_status check_vocabulary(const cad_run *r)
{
    if (r->facts.vocabulary <= r->arch.vocab) return CAD_OK;
    return cad_fail(CAD_EMODEL, "tokenizer in %s: expected ids below %lld (rows of the embedding table in %s), found ids up to %lld", r->tokenizer_dir, (long long)r->arch.vocab, r->model_dir,
                    (long long)r->facts.vocabulary - 1);
}

static cad_status tell_facts(cad_run *r, cad_status mine)
{
    CAD_TRY(cad_comm_agree(r->comm, mine));
    return cad_comm_bcast(r->comm, &r->facts, sizeof r->facts, 0);
}

static cad_status open_data(cad_run *r)
{
    if (r->rank) return CAD_OK;
    if (r->what.purpose == CAD_RUN_TRAIN) {
        CAD_TRY(cadp_output_open(r));
        CAD_TRY(cadp_checkpoint_find(r));
    }
    return cadp_open_data(r);
}

/* The path of the checkpoint to go on from is rank 0's to know; others only need to know that there is one. */
static cad_status tell_resume(cad_run *r)
{
    int there = r->resume_dir != NULL;

    CAD_TRY(cad_comm_bcast(r->comm, &there, sizeof there, 0));
    return there && !r->resume_dir ? cad_strdup(&r->resume_dir, "rank 0 has it") : CAD_OK;
}

static void let_transfers_move(void *comm) { cad_comm_progress(comm); }

/* With the weights, so that the first token does not wait for it. */
static cad_status make_screen(cad_run *r)
{
    int unit = cad_model_head_unit(r->model);
    cad_unit_view w;

    CAD_TRY(cad_zero_fetch(r->zero, unit));
    CAD_TRY(cad_zero_use(r->zero, unit, &w));
    CAD_TRY(cad_model_make_screen(r->model, w));
    return cad_zero_release(r->zero, unit);
}

static cad_status open_memory(cad_run *r)
{
    if (r->size > 1) cad_device_between(r->device, let_transfers_move, r->comm);
    CAD_TRY(cadp_open_rooms(r));
    CAD_TRY(cadp_reserve_work(r));
    CAD_TRY(load_weights(r));
    return cad_model_screen_bytes(r->model) ? make_screen(r) : CAD_OK;
}

/* Scores of a checkpoint go to a folder named after it, not to that of the run that trained it. */
static cad_status derive_scores_dir(cad_run *r)
{
    const char *c = r->what.checkpoint;
    cad_str path = {0};
    cad_status status;

    if (!c || r->o->prediction_output_dir || r->o->output_dir) return CAD_OK;
    while (!strncmp(c, "./", 2)) c += 2;
    status = cad_str_addf(&path, "outputs/predictions/%s", c);
    for (size_t i = strlen("outputs/predictions/"); !status && i < path.size; i++)
        if (strchr("/\\ ", path.data[i])) path.data[i] = '_';
    while (!status && path.size && path.data[path.size - 1] == '_') path.data[--path.size] = 0;
    if (!status) status = cad_strdup(&r->o->prediction_output_dir, path.data);
    cad_str_close(&path);
    return status;
}

static cad_status open_all(cad_run *r)
{
    CAD_TRY(derive_scores_dir(r));
    CAD_TRY(cad_derive_dirs(r->o));
    CAD_TRY(cad_comm_agree(r->comm, cadp_prepare_demo(r)));
    CAD_TRY(cad_comm_agree(r->comm, cadp_resolve_model(r)));
    CAD_TRY(cad_comm_agree(r->comm, cadp_tell_reading(r)));
    CAD_TRY(cad_comm_agree(r->comm, cadp_tell_base(r)));
    CAD_TRY(tell_facts(r, open_data(r)));
    CAD_TRY(cadp_tell_prompts(r));
    CAD_TRY(cadp_tell_beside(r));
    CAD_TRY(tell_resume(r));
    if (r->what.purpose == CAD_RUN_CHECK) return CAD_OK;
    r->facts.micros = cad_max(1, cad_ceil_div(r->facts.atoms_per_step, r->size));
    CAD_TRY(cad_comm_agree(r->comm, check_vocabulary(r)));
    CAD_TRY(cadp_open_device(r));
    CAD_TRY(cad_comm_agree(r->comm, r->what.purpose == CAD_RUN_TRAIN ? cadp_settle_memory(r) : cadp_settle_use(r)));
    CAD_TRY(cad_comm_agree(r->comm, open_memory(r)));
    CAD_TRY(cadp_try_largest(r));
    if (r->what.purpose != CAD_RUN_TRAIN) return CAD_OK;
    CAD_TRY(cadp_measure_peak(r));
    if (r->resume_dir) CAD_TRY(cadp_checkpoint_load(r));
    return cad_comm_agree(r->comm, cadp_feed_open(r));
}

cad_status cad_run_open(cad_run **out, cad_options *o, cad_comm *comm, const cad_run_options *what)
{
    cad_run *r;
    cad_status status;

    CAD_TRY(cad_alloc(out, 1, sizeof **out, "the run"));
    r = *out;
    r->o = o;
    r->what = *what;
    r->comm = comm;
    r->rank = cad_comm_rank(comm);
    r->size = cad_comm_size(comm);
    r->lock = -1;
    r->exact = cadp_exact(o, cadp_device_name(o), "host");
    r->began = r->opened = cad_now();
    r->wall = cadp_wall(r);
    r->history.best_metric = NAN;
    if ((status = open_all(r))) cad_run_close(out);
    return status;
}

static void close_set(cadp_set *s)
{
    if (s->owned) cad_dataset_close(&s->data);
    cad_free(&s->rows);
}

void cad_run_close(cad_run **out)
{
    cad_run *r = *out;

    if (!r) return;
    cadp_feed_close(r);
    cad_log_sinks_close(&r->sinks);
    cadp_history_close(r);
    cadp_output_close(r);
    cad_model_close(&r->model);
    cad_zero_close(&r->zero);
    cad_params_close(&r->params);
    if (r->device) cad_arena_close(&r->arena);
    if (cad_device_close(&r->device)) cad_debug("%s", cad_reason());
    cad_sampler_close(&r->sampler);
    cad_orders_close(&r->orders);
    close_set(&r->test);
    close_set(&r->eval);
    close_set(&r->train);
    cad_tokenizer_close(&r->tokenizer);
    cad_adapter_config_close(&r->adapter);
    cad_str_close(&r->notes);
    cad_str_close(&r->results);
    cad_free(&r->logits);
    cad_free(&r->next);
    cadp_close_prompts(r);
    cad_template_close(&r->form);
    cadp_close_chat_form(r);
    cad_free(&r->form_text);
    cad_free(&r->form_end);
    cad_free(&r->nll);
    cad_free(&r->targets);
    cad_free(&r->target_weights);
    cad_free(&r->slots);
    cadp_close_beside(r);
    cad_free(&r->model_dir);
    cad_free(&r->tokenizer_dir);
    cad_free(&r->adapter_dir);
    cad_free(&r->source_config);
    cad_free(&r->resume_dir);
    cadp_drop_demo(r);
    cad_free(out);
}
