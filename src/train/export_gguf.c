/* A whole or merged model as one GGUF file for llama.cpp and Ollama. */
#include "merge_priv.h"

static cad_status write_head_row(cad_st_writer *w, const cad_st_tensor *t)
{
    float *values;
    cad_status status;

    CAD_TRY(cad_alloc(&values, (size_t)t->elems, sizeof *values, "a head"));
    status = cad_st_read_f32(t, 0, t->elems, values);
    if (!status) status = cad_st_write(w, values, (size_t)t->elems * sizeof *values);
    cad_free(&values);
    return status;
}

static bool is_head(const cad_st_tensor *t) { return strstr(t->name, "score.") || strstr(t->name, "classifier.") || strstr(t->name, "head_columns."); }

static cad_status write_head_rows(cad_st_writer *w, const cad_st *st)
{
    for (int i = 0; i < cad_st_count(st); i++) {
        const cad_st_tensor *t = cad_st_at(st, i);
        if (is_head(t)) CAD_TRY(cad_st_declare(w, t->name, CAD_F32, t->shape, t->dims));
    }
    for (int i = 0; i < cad_st_count(st); i++)
        if (is_head(cad_st_at(st, i))) CAD_TRY(write_head_row(w, cad_st_at(st, i)));
    return cad_st_finish(w);
}

/* A head that llama.cpp has no place for is kept beside its file: score = head x the last token's embedding (pooling last). */
static cad_status write_head(const char *model, const char *to)
{
    cad_st *st;
    cad_st_writer *w = NULL;
    cad_status status;

    CAD_TRY(cad_weights_open(&st, model));
    if (!(status = cad_st_create(&w, to, "head.safetensors", 0))) status = write_head_rows(w, st);
    cad_st_abandon(&w);
    cad_st_close(&st);
    return status;
}

static cad_status write_file(const char *model, const char *to, const char *kind)
{
    cad_str path = {0};
    bool left_head = false;
    cad_status status = cadp_join(&path, to, !strcmp(kind, "F16") ? "model-f16.gguf" : "model-q8_0.gguf");

    if (!status) status = cad_gguf_export(model, path.data, kind, &left_head);
    cad_str_close(&path);
    CAD_TRY(status);
    if (!left_head) return CAD_OK;
    cad_warn("head", "llama.cpp has no place for a classification head in this architecture: it is written beside the model as head.safetensors");
    CAD_TRY(cadp_copy_if_there(model, to, cadp_beside_file));
    return write_head(model, to);
}

cad_status cadp_export_gguf(const cad_options *o, const char *source, const char *to, const char *kind, cad_merge how)
{
    cad_str merged = {0};
    cad_status status;

    if (!how) return write_file(source, to, kind);
    if (!(status = cadp_join(&merged, to, "merged")) && !(status = cad_mkdirs(merged.data)) && !(status = cadp_merge(o, source, merged.data, how)))
        status = write_file(merged.data, to, kind);
    if (merged.data) {
        cad_status removed = cad_remove_tree(merged.data);
        if (!status) status = removed;
    }
    cad_str_close(&merged);
    return status;
}
