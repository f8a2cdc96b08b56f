/* Hugging Face and PEFT directories from a checkpoint, from files alone. */
#include "merge_priv.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static bool has(const char *dir, const char *name)
{
    cad_str path = {0};
    bool there = !cadp_join(&path, dir, name) && cad_is_file(path.data);

    cad_str_close(&path);
    return there;
}

static bool has_model(const char *dir) { return has(dir, "adapter_model.safetensors") || has(dir, "model.safetensors") || has(dir, "model.safetensors.index.json"); }

static bool has_folder(cad_str *out, const char *dir, const char *name) { return !cadp_join(out, dir, name) && cad_is_dir(out->data); }

/* A model directory or checkpoint-N as it is; an output directory without a final model by its best, else its last checkpoint. */
static cad_status find_source(cad_str *out, const char *checkpoint)
{
    if (!cad_is_dir(checkpoint)) return cad_fail(CAD_ECHECKPOINT, "--checkpoint %s: expected a folder, found none", checkpoint);
    if (has_model(checkpoint)) {
        out->size = 0;
        CAD_TRY(cad_str_addf(out, "%s", checkpoint));
    } else if (!has_folder(out, checkpoint, "best") && !has_folder(out, checkpoint, "last"))
        return cad_fail(CAD_ECHECKPOINT, "--checkpoint %s: expected a model, an adapter or checkpoints in it, found none", checkpoint);
    else cad_info("Taking %s", out->data);
    return has(out->data, "manifest.json") ? cadp_manifest_verify(out->data) : CAD_OK;
}

/* ---- the target ---- */

static cad_status check_target(const char *output)
{
    DIR *d = opendir(output);
    struct dirent *e;
    cad_status status = CAD_OK;

    if (!d && errno == ENOENT) return CAD_OK;
    if (!d) return cad_fail(CAD_EUSAGE, "%s: cannot be opened: %s", output, strerror(errno));
    while (!status && (e = readdir(d)))
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) status = cad_fail(CAD_EUSAGE, "%s: expected an empty folder, found \"%s\" in it", output, e->d_name);
    closedir(d);
    return status;
}

/* Written beside its place and moved there at the end: the folder is complete or absent. */
static cad_status name_aside(cad_str *out, const char *output)
{
    size_t n = strlen(output);

    while (n > 1 && output[n - 1] == '/') n--;
    return cad_str_addf(out, "%.*s.tmp-%ld", (int)n, output, (long)getpid());
}

/* ---- copies ---- */

/* A copy of half a file helps nobody: header and sizes are looked at, and what the configuration says. */
static cad_status check_adapter(const char *from)
{
    cad_adapter_config config = {0};
    cad_str path = {0};
    cad_st *st = NULL;
    cad_status status = cadp_join(&path, from, "adapter_model.safetensors");

    if (!status) status = cad_st_open(&st, path.data);
    if (!status) status = cad_adapter_config_read(&config, from);
    cad_adapter_config_close(&config);
    cad_st_close(&st);
    cad_str_close(&path);
    return status;
}

static cad_status copy_adapter(const char *from, const char *to)
{
    const char *const names[] = {"adapter_model.safetensors", "adapter_config.json", "README.md", cadp_beside_file};

    CAD_TRY(check_adapter(from));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) CAD_TRY(cadp_copy_if_there(from, to, names[i]));
    return cadp_copy_tokenizer(from, to);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static cad_status copy_shards(const char *from, const char *to)
{
    cad_st *st;
    const char *before = "";
    cad_status status = CAD_OK;

    CAD_TRY(cad_st_open(&st, from)); /* header, sizes and the index are checked here */
    for (int i = 0; i < cad_st_count(st) && !status; i++) {
        const char *file = cad_st_file(st, cad_st_at(st, i)->file);
        if (!strcmp(file, before)) continue;
        before = file;
        status = cadp_copy_if_there(from, to, base_name(file));
    }
    cad_st_close(&st);
    return status ? status : cadp_copy_if_there(from, to, "model.safetensors.index.json");
}

static cad_status copy_classifier(const char *from, const char *to)
{
    if (!has(from, "config.json")) return cad_fail(CAD_EMODEL, "%s: expected config.json in it, found none", from);
    CAD_TRY(copy_shards(from, to));
    CAD_TRY(cadp_copy_if_there(from, to, "config.json"));
    CAD_TRY(cadp_copy_if_there(from, to, "generation_config.json"));
    CAD_TRY(cadp_copy_if_there(from, to, "README.md"));
    CAD_TRY(cadp_copy_if_there(from, to, cadp_beside_file));
    return cadp_copy_tokenizer(from, to);
}

/* ---- which of them ---- */

typedef enum form { FORM_ADAPTER, FORM_CLASSIFIER, FORM_MERGED, FORM_CODES, FORM_GGUF, FORM_GGUF_MERGED } form;

static const char *gguf_kind(const char *format)
{
    if (!format || strncmp(format, "gguf-", 5)) return NULL;
    return !strcmp(format + 5, "f16") ? "F16" : !strcmp(format + 5, "q8_0") ? "Q8_0" : NULL;
}

static cad_status choose_form(form *out, const char *source, const char *format, cad_merge merge, bool codes)
{
    bool adapter = cad_is_adapter(source), peft = format && !strcmp(format, "peft"), gguf = gguf_kind(format);

    if (format && !peft && !gguf && strcmp(format, "hf")) return cad_fail(CAD_EUSAGE, "--format: expected hf, peft or gguf, found \"%.40s\"", format);
    if (merge && !adapter) return cad_fail(CAD_EUSAGE, "--merge: expected an adapter, found a whole model in %s", source);
    if (merge && peft) return cad_fail(CAD_EUSAGE, "--merge makes a whole model: expected --format hf, found peft");
    if (peft && !adapter) return cad_fail(CAD_EUSAGE, "--format peft: expected an adapter, found a whole model in %s", source);
    if (format && !peft && adapter && !merge) return cad_fail(CAD_EUSAGE, "--format %s: %s holds an adapter; --merge folds it into its base", gguf ? "gguf" : "hf", source);
    if (gguf) *out = merge ? FORM_GGUF_MERGED : FORM_GGUF;
    else *out = merge ? FORM_MERGED : adapter ? FORM_ADAPTER : codes ? FORM_CODES : FORM_CLASSIFIER;
    return CAD_OK;
}

static cad_status write_form(form f, const cad_options *o, const char *source, const char *format, const char *to, cad_merge merge)
{
    if (f >= FORM_GGUF) return cadp_export_gguf(o, source, to, gguf_kind(format), f == FORM_GGUF_MERGED ? merge : CAD_MERGE_NONE);
    if (f == FORM_ADAPTER) return copy_adapter(source, to);
    if (f == FORM_CODES) return cadp_write_codes(o, source, to);
    return f == FORM_CLASSIFIER ? copy_classifier(source, to) : cadp_merge(o, source, to, merge);
}

static cad_status write_aside(form f, const cad_options *o, const char *source, const char *format, const char *output, cad_merge merge, cadp_finish more)
{
    cad_str aside = {0};
    cad_status status = name_aside(&aside, output);

    if (!status) status = cad_remove_tree(aside.data);
    if (!status) status = cad_mkdirs(aside.data);
    if (!status) status = write_form(f, o, source, format, aside.data, merge);
    if (!status && more) status = more(o, aside.data);
    if (!status) status = cad_publish_dir(aside.data, output);
    if (status && aside.data && cad_remove_tree(aside.data)) cad_debug("%s is left behind", aside.data);
    cad_str_close(&aside);
    return status;
}

cad_status cadp_export(const cad_options *o, const char *checkpoint, const char *output, const char *format, cad_merge merge, cadp_finish more)
{
    cad_str source = {0};
    form f = FORM_CLASSIFIER;
    cad_status status = find_source(&source, checkpoint);

    if (!status) status = choose_form(&f, source.data, format, merge, o->model.load_in_4bit || o->model.load_in_8bit);
    if (!status) status = check_target(output);
    if (!status) status = write_aside(f, o, source.data, format, output, merge, more);
    if (!status) cad_info("Written to %s", output);
    cad_str_close(&source);
    return status;
}

cad_status cad_export(const cad_options *o, const char *checkpoint, const char *output, const char *format, cad_merge merge) { return cadp_export(o, checkpoint, output, format, merge, NULL); }
