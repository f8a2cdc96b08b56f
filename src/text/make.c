#include "make.h"

#include <cadtrain/text.h>

enum { MOST_BYTES = 512 * 1024 * 1024 };
typedef cad_status maker(const char *path, const char *bytes, size_t n, const cad_tree *config, const cad_tree *more, cad_str *json);

/* A small JSON file that may be absent. */
static cad_status read_if_there(const char *dir, const char *name, cad_tree **out)
{
    char *path;
    cad_status status = CAD_OK;

    *out = NULL;
    CAD_TRY(cad_path_join(&path, dir, name));
    if (cad_is_file(path)) status = cad_json_read(out, path, MOST_BYTES, CAD_EMODEL);
    cad_free(&path);
    return status;
}

static cad_status make_from(const char *dir, const char *name, maker *make, const cad_tree *config, cad_str *json)
{
    char *path, *bytes = NULL;
    size_t n;
    cad_tree *more = NULL;
    cad_status status = CAD_OK;

    CAD_TRY(cad_path_join(&path, dir, name));
    if (cad_is_file(path) && !(status = read_if_there(dir, "added_tokens.json", &more)) && !(status = cad_read_file(&bytes, &n, path, MOST_BYTES, CAD_EMODEL)))
        status = make(path, bytes, n, config, more, json);
    cad_free(&bytes);
    cad_tree_close(&more);
    cad_free(&path);
    return status;
}

static cad_status make_any(const char *dir, const cad_tree *config, cad_str *json, cad_str *made_config)
{
    CAD_TRY(cadp_make_from_gguf(dir, json, made_config));
    if (!json->size) CAD_TRY(make_from(dir, "tokenizer.model", cadp_make_model, config, json));
    return json->size ? CAD_OK : make_from(dir, "vocab.txt", cadp_make_words, config, json);
}

cad_status cad_tokenizer_make(const char *dir, cad_str *json, cad_str *made_config)
{
    char *own;
    cad_tree *config = NULL;
    cad_status status;

    CAD_TRY(cad_path_join(&own, dir, "tokenizer.json"));
    status = CAD_OK;
    if (!cad_is_file(own) && !(status = read_if_there(dir, "tokenizer_config.json", &config))) status = make_any(dir, config, json, made_config);
    cad_tree_close(&config);
    cad_free(&own);
    if (status) cad_str_close(json);
    return status;
}
