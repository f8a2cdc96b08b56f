/* Where a model lies: a folder, or ORG/NAME in the Hugging Face cache (models--ORG--NAME/refs/main names snapshots/REVISION). Offline. */
#include "train_priv.h"

#include <stdlib.h>

/* Of letters, digits, '.', '_', '-'; no part is "." or "..". */
bool cadp_is_hub_name(const char *name)
{
    int slashes = 0;
    size_t part = 0;

    for (const char *p = name;; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || (*p && strchr("._-", *p));
        if (plain) {
            part++;
            continue;
        }
        if (!part || (part <= 2 && !strncmp(p - part, "..", part))) return false;
        if (!*p) return slashes <= 1;
        if (*p != '/') return false;
        slashes++;
        part = 0;
    }
}

static cad_status hub_folder(cad_str *out, const char *name)
{
    CAD_TRY(cad_str_addf(out, "models--"));
    for (const char *p = name; *p; p++) CAD_TRY(*p == '/' ? cad_str_addf(out, "--") : cad_str_add(out, p, 1));
    return CAD_OK;
}

/* The revision that refs/main names: one plain word. */
static bool read_revision(char out[128], const char *model)
{
    char *path = NULL, *text = NULL;
    size_t n;
    bool found = false;

    if (!cad_path_join(&path, model, "refs/main") && cad_is_file(path) && !cad_read_file(&text, &n, path, 127, CAD_EMODEL)) {
        n = strspn(text, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-");
        found = n && !text[n + strspn(text + n, " \r\n")];
        if (found) memcpy(out, text, n);
        out[found ? n : 0] = 0;
    }
    cad_clear();
    cad_free(&text);
    cad_free(&path);
    return found;
}

/* CACHE/models--ORG--NAME/snapshots/REVISION, or NULL. */
static cad_status look_in(char **out, const char *cache, const char *below, const char *folder)
{
    char revision[128];
    cad_str model = {0};
    cad_status status = cad_str_addf(&model, "%s/%s%s", cache, below, folder);

    *out = NULL;
    if (!status && read_revision(revision, model.data)) status = cad_str_addf(&model, "/snapshots/%s", revision);
    else if (!status) model.size = 0;
    if (!status && model.size && cad_is_dir(model.data)) status = cad_strdup(out, model.data);
    cad_str_close(&model);
    return status;
}

static cad_status look_everywhere(char **out, const char *folder, const char *cache_dir)
{
    const char *hub = getenv("HF_HUB_CACHE"), *home = getenv("HF_HOME"), *user = getenv("HOME");
    const struct { const char *cache, *below; } places[] = {{cache_dir, ""}, {hub, ""}, {home, "hub/"}, {user, ".cache/huggingface/hub/"}};

    *out = NULL;
    for (size_t i = 0; i < sizeof places / sizeof *places && !*out; i++)
        if (places[i].cache && *places[i].cache) CAD_TRY(look_in(out, places[i].cache, places[i].below, folder));
    return CAD_OK;
}

static bool is_model_file(const char *path)
{
    size_t n = strlen(path);

    return n > 5 && !strcmp(path + n - 5, ".gguf") && cad_is_file(path);
}

cad_status cad_find_model(char **out, const char *name_or_path, const char *cache_dir)
{
    cad_str folder = {0};
    cad_status status;

    *out = NULL;
    if (cad_is_dir(name_or_path) || is_model_file(name_or_path)) return cad_strdup(out, name_or_path);
    if (!cadp_is_hub_name(name_or_path)) return cad_fail(CAD_EMODEL, "%s: expected a model directory, found none", name_or_path);
    status = hub_folder(&folder, name_or_path);
    if (!status) status = look_everywhere(out, folder.data, cache_dir);
    cad_str_close(&folder);
    if (status || *out) return status;
    cad_advise("cadtrain never opens a connection: run the download where there is one, with the same HF_HOME");
    return cad_fail(CAD_EMODEL, "%s: expected a model directory or a model in the Hugging Face cache, found neither (huggingface-cli download %s brings it there)", name_or_path, name_or_path);
}
