/* Model files as Transformers and PEFT load them (contract section 5). */
#include "keep_priv.h"

static const int64_t shard_bytes = 5000000000; /* where Transformers cuts */
const char *const cadp_tokenizer_files[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "vocab.json", "vocab.txt", "merges.txt",
                                            "tokenizer.model", "sentencepiece.bpe.model", "spiece.model", NULL};

cad_status cadp_join(cad_str *out, const char *dir, const char *name)
{
    out->size = 0;
    return cad_str_addf(out, "%s/%s", dir, name);
}

cad_status cadp_copy_if_there(const char *from, const char *to, const char *name)
{
    cad_str source = {0}, target = {0};
    cad_status status = cadp_join(&source, from, name);

    if (!status) status = cadp_join(&target, to, name);
    if (!status && cad_is_file(source.data)) status = cad_copy_file(source.data, target.data);
    cad_str_close(&source);
    cad_str_close(&target);
    return status;
}

/* A GGUF file holds its tokenizer inside: it is written as files of its own. */
static cad_status write_made(const char *from, const char *to)
{
    cad_str json = {0}, config = {0}, path = {0};
    cad_status status = cad_tokenizer_make(from, &json, &config);

    if (!status && config.size && !(status = cadp_join(&path, to, "tokenizer.json")) && !(status = cad_write_file(path.data, json.data, json.size)) &&
        !(status = cadp_join(&path, to, "tokenizer_config.json")))
        status = cad_write_file(path.data, config.data, config.size);
    cad_str_close(&json);
    cad_str_close(&config);
    cad_str_close(&path);
    return status;
}

cad_status cadp_copy_tokenizer(const char *from, const char *to)
{
    for (int i = 0; cadp_tokenizer_files[i]; i++) CAD_TRY(cadp_copy_if_there(from, to, cadp_tokenizer_files[i]));
    return write_made(from, to);
}

cad_status cadp_file_name(cad_str *out, const cad_method *m, const cad_param *p)
{
    const char *prefix = m->lora ? "base_model.model." : "", *name = p->name;

    out->size = 0;
    if (m->lora && (p->wrapped || !m->custom_head)) return cad_param_adapter_name(out, p);
    if (!m->custom_head || !p->root) return cad_str_addf(out, "%s%s", prefix, name);
    return cad_str_addf(out, "%sbackbone.%s", prefix, name + p->root);
}

/* ---- tensors ---- */

/* Rank 0's side of one file of tensors: what is written, and a checksum of it for reading it back. */
typedef struct tensors {
    cadp_keeper *keeper;
    cad_st_writer *writer;
    cad_dtype dtype;
    uint32_t crc;
    float *spread;  /* of a tensor whose elements lie otherwise in the file: what came of it */
    int64_t came;
} tensors;

/* Adapters are stored in the precision they are trained in, whole models in the precision they compute in. */
static cad_dtype stored_dtype(const cad_run *r) { return !r->method.lora && r->method.compute == CAD_BF16 ? CAD_BF16 : CAD_F32; }
static const char *tensor_file(const cad_run *r) { return r->method.lora ? "adapter_model.safetensors" : "model.safetensors"; }

/* The table of words that PEFT looks for under the head's name too. */
static bool is_head_too(const cad_run *r, const cad_param *p) { return p->role == CAD_ROLE_EMBED && p->piece == CAD_PIECE_WEIGHT && cad_method_ties(&r->arch, &r->method); }

static cad_status head_name(const cad_run *r, cad_str *out)
{
    out->size = 0;
    return cad_str_addf(out, "base_model.model.%s", r->arch.names.lm_head);
}

static cad_status declare_all(tensors *t, const char *dir)
{
    const cad_run *r = t->keeper->run;
    cad_str name = {0};
    cad_status status = cad_st_create(&t->writer, dir, tensor_file(r), r->method.lora ? 0 : shard_bytes);

    for (int i = 0; i < r->params->count && !status; i++) {
        const cad_param *p = &r->params->row[i];
        int64_t shape[3];
        int dims = cad_param_file_shape(p, shape);
        if (!p->trains) continue;
        status = cadp_file_name(&name, &r->method, p);
        if (!status) status = cad_st_declare(t->writer, name.data, t->dtype, shape, dims);
        if (!status && is_head_too(r, p) && !(status = head_name(r, &name))) status = cad_st_declare(t->writer, name.data, t->dtype, shape, dims);
    }
    cad_str_close(&name);
    return status;
}

static cad_status write_spread(tensors *t, const cad_param *p, const float *values, int64_t n)
{
    cad_status status;

    if (!t->came) CAD_TRY(cad_alloc(&t->spread, (size_t)p->elems, sizeof *t->spread, "an adapter of experts"));
    for (int64_t i = 0; i < n; i++) t->spread[cad_param_file_at(p, t->came + i)] = values[i];
    t->came += n;
    if (t->came < p->elems) return CAD_OK;
    t->came = 0;
    t->crc = cad_crc32c(t->crc, t->spread, (size_t)p->elems * sizeof *t->spread); /* adapters are F32 */
    status = cad_st_write(t->writer, t->spread, (size_t)p->elems * sizeof *t->spread);
    cad_free(&t->spread);
    return status;
}

static cad_status write_piece(void *with, const cad_param *p, const float *values, int64_t n)
{
    tensors *t = with;
    const void *bytes = values;
    size_t size = (size_t)n * cad_dtype_bytes(t->dtype);

    if (cad_param_is_spread(p)) return write_spread(t, p, values, n);
    if (t->dtype == CAD_BF16) {
        for (int64_t i = 0; i < n; i++) t->keeper->half[i] = cad_f32_to_bf16(values[i]);
        bytes = t->keeper->half;
    }
    t->crc = cad_crc32c(t->crc, bytes, size);
    return cad_st_write(t->writer, bytes, size);
}

/* A write that was reported done and was not is found before the checkpoint gets its name. */
static cad_status read_back(const tensors *t, const cad_st *st)
{
    const cad_run *r = t->keeper->run;
    cad_str name = {0};
    uint32_t crc = 0;
    cad_status status = CAD_OK;

    for (int i = 0; i < r->params->count && !status; i++) {
        const cad_st_tensor *found;
        if (!r->params->row[i].trains) continue;
        if ((status = cadp_file_name(&name, &r->method, &r->params->row[i]))) break;
        cad_watchdog_beat("reading a checkpoint back", r->step);
        for (int twice = is_head_too(r, &r->params->row[i]); twice >= 0 && !status; twice--) {
            found = cad_st_find(st, name.data);
            if (found) crc = cad_crc32c(crc, found->data, found->bytes);
            if (twice) status = head_name(r, &name);
        }
    }
    cad_str_close(&name);
    if (!status && crc != t->crc) status = cad_fail(CAD_ERESOURCE, "%s: what was written reads back differently: the file system lost a write", cad_st_file(st, 0));
    return status;
}

static cad_status finish_tensors(tensors *t, const char *dir)
{
    cad_str path = {0};
    cad_st *st = NULL;
    cad_status status;

    CAD_TRY(cad_st_finish(t->writer));
    status = t->keeper->run->method.lora ? cadp_join(&path, dir, tensor_file(t->keeper->run)) : cad_str_addf(&path, "%s", dir);
    if (!status) status = cad_st_open(&st, path.data);
    if (!status) status = read_back(t, st);
    cad_st_close(&st);
    cad_str_close(&path);
    return status;
}

static cad_status write_tensors(cadp_keeper *k, const char *dir)
{
    cad_run *r = k->run;
    tensors t = {.keeper = k, .dtype = stored_dtype(r)};
    cad_status status = CAD_OK;

    if (cadp_keeper_writes(k)) k->failed = declare_all(&t, dir);
    for (int i = 0; i < r->params->count && !status; i++)
        for (int twice = is_head_too(r, &r->params->row[i]); twice >= 0 && r->params->row[i].trains && !status; twice--) status = cadp_collect(k, i, CAD_STATE_PARAM, write_piece, &t);
    if (!status && cadp_keeper_writes(k)) k->failed = finish_tensors(&t, dir);
    cad_st_abandon(&t.writer);
    cad_free(&t.spread);
    return status;
}

/* ---- what describes them ---- */

static cad_status write_classifier(const cad_run *r, const char *dir)
{
    cad_str path = {0};
    cad_status status = cadp_join(&path, dir, "config.json");

    if (!status) status = cad_classifier_config_write(path.data, r->source_config, &r->arch, &r->method);
    if (!status) status = cadp_copy_if_there(r->model_dir, dir, "generation_config.json");
    cad_str_close(&path);
    return status;
}

static cad_status write_adapter(const cad_run *r, const char *dir)
{
    const char *base = r->o->model.model_name_or_path;

    return cad_adapter_config_write(dir, base ? base : r->model_dir, &r->arch, &r->method);
}

/* A template of the program's that was trained with goes with the model. */
static cad_status write_chat(const cad_run *r, const char *dir)
{
    cad_str path = {0};
    cad_status status = cadp_join(&path, dir, "chat_template.jinja");

    if (!status) status = cad_write_file(path.data, r->chat.own, r->chat.size);
    cad_str_close(&path);
    return status;
}

static cad_status describe(const cad_run *r, const char *dir)
{
    CAD_TRY(r->method.lora ? write_adapter(r, dir) : write_classifier(r, dir));
    CAD_TRY(cadp_write_card(r, dir));
    CAD_TRY(cadp_write_beside(r, dir));
    CAD_TRY(cadp_copy_tokenizer(r->tokenizer_dir, dir));
    return r->chat.built_in ? write_chat(r, dir) : CAD_OK;
}

int64_t cadp_model_bytes(const cad_run *r) { return r->params->trainable * (int64_t)cad_dtype_bytes(stored_dtype(r)); }

cad_status cadp_write_model_files(cadp_keeper *k, const char *dir)
{
    CAD_TRY(write_tensors(k, dir));
    if (cadp_keeper_writes(k)) k->failed = describe(k->run, dir);
    return CAD_OK;
}

cad_status cadp_write_model(cad_run *r, const char *dir)
{
    cadp_keeper k;
    cad_status status;

    CAD_TRY(cadp_keeper_open(&k, r));
    if (cadp_keeper_writes(&k)) k.failed = cad_mkdirs(dir);
    if (cadp_keeper_writes(&k)) k.failed = cad_need_space(dir, cadp_model_bytes(r));
    status = cadp_write_model_files(&k, dir);
    cadp_keeper_close(&k);
    CAD_TRY(status);
    return cad_comm_agree(r->comm, k.failed);
}
