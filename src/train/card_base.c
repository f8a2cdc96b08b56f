/* The base of a trained model as others know it: a name without the folders of this machine, and the licence of its own card. */
#include "keep_priv.h"

/* ---- the name ---- */

/* A folder of the Hugging Face cache, …/models--ORG--NAME/snapshots/REVISION, is ORG/NAME. */
static bool name_in_cache(const char *path, cad_str *out)
{
    const char *from = strstr(path, "models--"), *to = from ? strstr(from, "/snapshots/") : NULL, *dashes;

    if (!to || (from > path && from[-1] != '/')) return false;
    from += strlen("models--");
    dashes = strstr(from, "--");
    if (memchr(from, '/', (size_t)(to - from))) return false;
    out->size = 0;
    if (!dashes || dashes > to) return !cad_str_addf(out, "%.*s", (int)(to - from), from);
    return !cad_str_addf(out, "%.*s/%.*s", (int)(dashes - from), from, (int)(to - dashes) - 2, dashes + 2);
}

static cad_status last_part(const char *path, cad_str *out)
{
    size_t end = strlen(path), from;

    while (end > 1 && path[end - 1] == '/') end--;
    for (from = end; from > 0 && path[from - 1] != '/';) from--;
    out->size = 0;
    return cad_str_addf(out, "%.*s", (int)(end - from), path + from);
}

cad_status cadp_public_name(const char *name_or_path, cad_str *out, bool *known)
{
    *known = true;
    if (name_in_cache(name_or_path, out) && cadp_is_hub_name(out->data)) return CAD_OK;
    *known = !cad_is_dir(name_or_path) && !cad_is_file(name_or_path) && cadp_is_hub_name(name_or_path);
    out->size = 0;
    return *known ? cad_str_addf(out, "%s", name_or_path) : last_part(name_or_path, out);
}

/* ---- the licence ---- */

/* The YAML between the first two lines of three dashes. */
static bool front_matter(const char *text, const char **from, size_t *n)
{
    const char *end;

    if (strncmp(text, "---\n", 4)) return false;
    *from = text + 4;
    if (!(end = strstr(text + 3, "\n---"))) return false;
    *n = end > *from ? (size_t)(end - *from) + 1 : 0;
    return true;
}

static cad_status add_word(cad_str *out, const cad_node *root, const char *key)
{
    cad_json j = {0};
    const char *word;
    cad_status status;

    if (!cad_get_string(root, key, &word, NULL) || !word) return CAD_OK;
    status = cad_json_string(&j, NULL, word); /* a JSON string is a YAML string */
    if (!status) status = cad_str_addf(out, "%s: %s\n", key, j.text.data);
    cad_json_close(&j);
    return status;
}

static cad_status add_licence(cad_str *out, const char *path)
{
    static const char *const keys[] = {"license", "license_name", "license_link"};
    const char *from;
    char *text;
    size_t n;
    cad_tree *tree;
    cad_status status;

    CAD_TRY(cad_read_file(&text, &n, path, 1 << 24, CAD_EMODEL));
    status = front_matter(text, &from, &n) ? cad_yaml_parse(&tree, from, n, path) : CAD_EMODEL;
    cad_free(&text);
    CAD_TRY(status);
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !status; i++) status = add_word(out, tree->root, keys[i]);
    cad_tree_close(&tree);
    return status;
}

cad_status cadp_base_licence(const char *model_dir, cad_str *out)
{
    cad_str path = {0};
    cad_status status = cadp_join(&path, model_dir, "README.md");

    if (!status && cad_is_file(path.data) && add_licence(out, path.data)) { /* a card that cannot be read says nothing */
        out->size = 0;
        cad_clear();
    }
    cad_str_close(&path);
    return status;
}
