/* The files of an experiment: the experiment itself, the sections its `paths` name, DeepSpeed JSON; on disk or as the program carries them. */
#include "conf_priv.h"

#include <cadtrain/embedded.h>

#include <stdio.h>

enum { LARGEST = 1 << 20 };

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static const cad_embedded *carried(const char *path)
{
    for (const cad_embedded *e = cad_embedded_files; e->path; e++)
        if (!strcmp(e->path, path)) return e;
    return NULL;
}

/* Names every key that its table has twice, and takes it out. */
static cad_status name_repeats(cad_config *c, cad_node *node, const cadp_from *from)
{
    char place[512];

    for (cad_node **at = &node->child; *at;) {
        CAD_TRY(name_repeats(c, *at, from));
        if (!(*at)->again) {
            at = &(*at)->next;
            continue;
        }
        cadp_conf_place(place, sizeof place, from, *at, true);
        CAD_TRY(cadp_conf_mistake(c, "%s: expected every key once, found %s again", place, cadp_conf_quote((*at)->key).text));
        *at = (*at)->next;
        node->children--;
    }
    return CAD_OK;
}

static cad_status read_tree(cad_config *c, cad_tree **out, const char *path, bool embedded)
{
    bool json = ends_with(path, ".json");
    const cad_embedded *e;

    *out = NULL;
    if (!json && !ends_with(path, ".yaml") && !ends_with(path, ".yml"))
        return cad_fail(CAD_EUSAGE, "%s: expected a file named .yaml, .yml or .json", path);
    if (!embedded && json) return cad_json_read(out, path, LARGEST, CAD_EUSAGE);
    if (!embedded) {
        CAD_TRY(cad_yaml_read_loosely(out, path));
        return name_repeats(c, (*out)->root, &(cadp_from){.path = path});
    }
    e = carried(path);
    if (!e) return cad_fail(CAD_EUSAGE, "%s is not part of this program", path);
    return json ? cad_json_parse(out, e->text, strlen(e->text), path, CAD_EUSAGE) : cad_yaml_parse(out, e->text, strlen(e->text), path);
}

/* "a/b/../c" -> "a/c", in place; enough for paths inside the program. */
static void tidy(char *path)
{
    char *up;

    while ((up = strstr(path, "/../"))) {
        char *from = up;
        while (from > path && from[-1] != '/') from--;
        if (from == up) return;
        memmove(from, up + 4, strlen(up + 4) + 1);
    }
}

/* Beside the file that names it, else as it stands. */
static cad_status find_file(cad_str *out, const char *named, const char *beside, bool embedded, bool *found)
{
    const char *slash = strrchr(beside, '/');
    int dir = slash && named[0] != '/' ? (int)(slash - beside + 1) : 0;

    out->size = 0;
    CAD_TRY(cad_str_addf(out, "%.*s%s", dir, beside, named));
    if (embedded) {
        tidy(out->data);
        out->size = strlen(out->data);
        *found = carried(out->data) != NULL;
        if (*found) return CAD_OK;
    } else {
        *found = cad_is_file(out->data);
        if (*found) return CAD_OK;
    }
    out->size = 0;
    CAD_TRY(cad_str_addf(out, "%s", named));
    *found = embedded ? carried(named) != NULL : cad_is_file(named);
    return CAD_OK;
}

static cad_status apply_part(cad_config *c, const char *section, const char *path, bool embedded)
{
    cad_tree *tree = NULL;
    cadp_from from = {.level = CADP_PATHS, .serial = ++c->files, .path = path};
    cad_status st = read_tree(c, &tree, path, embedded);

    if (st) st = cadp_conf_take_failure(c, st, "");
    else if (!strcmp(section, "deepspeed")) st = cadp_conf_apply_deepspeed(c, tree->root, &from);
    else st = cadp_conf_apply_section(c, tree->root, section, &from);
    cad_tree_close(&tree);
    return st;
}

static bool is_part(const char *name)
{
    return !strcmp(name, "deepspeed") || (!strpbrk(name, ".-") && cadp_conf_is_section(name, strlen(name)));
}

static cad_status unknown_part(cad_config *c, const cad_node *child, const char *place)
{
    cad_near near = {.wanted = child->key};

    for (int i = 0; i < cadp_conf_row_count; i++)
        if (*cadp_conf_rows[i].in && !strchr(cadp_conf_rows[i].in, '.')) cad_near_offer(&near, cadp_conf_rows[i].in);
    cad_near_offer(&near, "deepspeed");
    return cadp_conf_mistake(c, "%s: unknown key %s in section paths%s", place, cadp_conf_quote(child->key).text, cad_near_hint(&near, ""));
}

/* One entry of `paths`, or `deepspeed: FILE`. */
static cad_status apply_reference(cad_config *c, const cad_node *child, const char *label, const char *experiment, bool embedded)
{
    char place[512], found[128];
    cadp_from from = {.path = experiment};
    cad_str path = {0};
    bool there = false;
    cad_status st;

    cadp_conf_place(place, sizeof place, &from, child, false);
    if (child->kind == CAD_NULL) return CAD_OK;
    if (child->kind != CAD_STRING || !child->size) {
        cadp_conf_describe(found, sizeof found, child);
        return cadp_conf_mistake(c, "%s: %s: expected the name of a file, found %s", place, label, found);
    }
    st = find_file(&path, child->text, experiment, embedded, &there);
    if (!st && !there)
        st = cadp_conf_mistake(c, "%s: %s: there is no file \"%s\", neither beside %s nor in the current directory", place, label, child->text, experiment);
    else if (!st) st = apply_part(c, child->key, path.data, embedded);
    cad_str_close(&path);
    return st;
}

static cad_status apply_paths(cad_config *c, const cad_node *paths, const char *experiment, bool embedded, bool deepspeed)
{
    char place[512], found[128], label[96];
    cadp_from from = {.path = experiment};

    if (paths->kind == CAD_NULL) return CAD_OK;
    cadp_conf_place(place, sizeof place, &from, paths, false);
    if (paths->kind != CAD_TABLE) {
        cadp_conf_describe(found, sizeof found, paths);
        return deepspeed ? CAD_OK : cadp_conf_mistake(c, "%s: paths: expected a table of files, found %s", place, found);
    }
    for (const cad_node *child = paths->child; child; child = child->next) {
        bool mine = !strcmp(child->key, "deepspeed");
        cadp_conf_place(place, sizeof place, &from, child, true);
        snprintf(label, sizeof label, "paths.%.64s", child->key);
        if (mine != deepspeed || (mine && c->no_deepspeed)) continue;
        if (!is_part(child->key)) CAD_TRY(unknown_part(c, child, place));
        else CAD_TRY(apply_reference(c, child, label, experiment, embedded));
    }
    return CAD_OK;
}

/* An experiment's own DeepSpeed section goes over the one its paths name; both yield to options given as such. */
static cad_status apply_all(cad_config *c, const cad_node *root, const char *path, bool embedded)
{
    cadp_from from = {.level = CADP_EXPERIMENT, .serial = ++c->files, .path = path};
    cadp_from inner = {.level = CADP_EXPERIMENT, .path = path};
    const cad_node *paths = cad_get(root, "paths"), *deepspeed = cad_get(root, "deepspeed");

    if (paths) CAD_TRY(apply_paths(c, paths, path, embedded, true));
    if (paths) CAD_TRY(apply_paths(c, paths, path, embedded, false));
    if (deepspeed && !c->no_deepspeed) {
        if (deepspeed->kind == CAD_STRING) CAD_TRY(apply_reference(c, deepspeed, "deepspeed", path, embedded));
        else CAD_TRY(cadp_conf_apply_deepspeed(c, deepspeed, &inner));
    }
    return cadp_conf_apply_root(c, root, &from);
}

cad_status cadp_conf_load_experiment(cad_config *c, const char *path, bool embedded)
{
    cad_tree *tree = NULL;
    cad_status st;

    if (!embedded && !cad_is_file(path) && carried(path)) embedded = true;
    st = read_tree(c, &tree, path, embedded);
    st = st ? cadp_conf_take_failure(c, st, "") : apply_all(c, tree->root, path, embedded);
    cad_tree_close(&tree);
    return st;
}

cad_status cadp_conf_load_deepspeed(cad_config *c, const char *path, int level, const char *named_by)
{
    cad_tree *tree = NULL;
    cadp_from from = {.level = level, .path = path};
    char before[128];
    cad_status st;

    if (!cad_is_file(path)) return cadp_conf_mistake(c, "%s: there is no file \"%s\"", named_by, path);
    snprintf(before, sizeof before, "%s: ", named_by);
    st = read_tree(c, &tree, path, false);
    st = st ? cadp_conf_take_failure(c, st, before) : cadp_conf_apply_deepspeed(c, tree->root, &from);
    cad_tree_close(&tree);
    return st;
}
