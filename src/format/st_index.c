#include "st_priv.h"

#include <stdlib.h>
#include <string.h>

/* model.safetensors goes before an index, as in Transformers: where both lie in one folder the same weights are read. */
static const char *const single_names[] = {"model.safetensors", "adapter_model.safetensors"};
static const char index_name[] = "model.safetensors.index.json";
enum { LONGEST_INDEX = 64 << 20 };

static cad_status add_path(cadp_listing *l, const char *name)
{
    CAD_TRY(cad_grow(&l->paths, (size_t)l->count + 1, sizeof *l->paths, "a list of files"));
    CAD_TRY(cad_path_join(&l->paths[l->count], l->dir, name));
    l->count++;
    return CAD_OK;
}

static cad_status exists(const char *dir, const char *name, bool *yes)
{
    char *path;

    CAD_TRY(cad_path_join(&path, dir, name));
    *yes = cad_is_file(path);
    cad_free(&path);
    return CAD_OK;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && !strcmp(s + n - m, end);
}

/* A shard is named by its base name alone: what leaves the folder is refused before anything is opened. */
static cad_status check_shard_name(const cadp_listing *l, const cad_node *entry)
{
    char shown[64], shown_file[64];

    if (strlen(entry->key) != (size_t)entry->key_size)
        return cad_fail(CAD_EMODEL, "%s:%d:%d: expected no NUL character in a tensor's name", l->index, entry->key_line, entry->key_column);
    if (entry->kind != CAD_STRING)
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: expected a file name as a string, found a %s", cadp_show(shown, entry->key, strlen(entry->key)),
            l->index, cad_kind_name(entry->kind));
    if (strlen(entry->text) != entry->size || strchr(entry->text, '/') || strchr(entry->text, '\\') || entry->text[0] == '.' ||
        entry->size > 255)
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: expected the plain name of a file in the same folder, found '%s'",
            cadp_show(shown, entry->key, strlen(entry->key)), l->index, cadp_show(shown_file, entry->text, strlen(entry->text)));
    if (!ends_with(entry->text, ".safetensors"))
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: expected a file that ends in .safetensors, found '%s'",
            cadp_show(shown, entry->key, strlen(entry->key)), l->index, cadp_show(shown_file, entry->text, strlen(entry->text)));
    return CAD_OK;
}

static cad_status check_shard_exists(const cadp_listing *l, const cad_node *entry)
{
    char shown[64], shown_file[64];
    bool yes;

    CAD_TRY(exists(l->dir, entry->text, &yes));
    if (yes) return CAD_OK;
    return cad_fail(CAD_EMODEL, "tensor '%s' in %s: its file '%s' is missing", cadp_show(shown, entry->key, strlen(entry->key)), l->index,
        cadp_show(shown_file, entry->text, strlen(entry->text)));
}

static int by_name(const void *a, const void *b)
{
    const cad_node *const *x = a, *const *y = b;

    return strcmp((*x)->text, (*y)->text);
}

/* Shards in the order of their names; the map says for each tensor which. */
static cad_status place_entries(cadp_listing *l, const cad_node **entries, size_t n)
{
    bool had;

    for (size_t i = 0; i < n; i++) CAD_TRY(check_shard_name(l, entries[i]));
    qsort(entries, n, sizeof *entries, by_name);
    for (size_t i = 0; i < n; i++) {
        if (!i || strcmp(entries[i]->text, entries[i - 1]->text)) {
            CAD_TRY(check_shard_exists(l, entries[i]));
            CAD_TRY(add_path(l, entries[i]->text));
        }
        CAD_TRY(cad_map_set(l->map, entries[i]->key, strlen(entries[i]->key), l->count - 1, &had));
    }
    return CAD_OK;
}

static cad_status read_map(cadp_listing *l)
{
    const cad_node *map = cad_get(l->tree->root, "weight_map"), **entries;
    size_t n = 0;
    cad_status status;

    if (!map || map->kind != CAD_TABLE) return cad_fail(CAD_EMODEL, "%s: expected a table weight_map, found none", l->index);
    if (!map->children) return cad_fail(CAD_EMODEL, "%s: weight_map names no tensor", l->index);
    CAD_TRY(cad_map_open(&l->map));
    CAD_TRY(cad_alloc(&entries, (size_t)map->children, sizeof *entries, "a list of tensors"));
    for (const cad_node *e = map->child; e; e = e->next) entries[n++] = e;
    status = place_entries(l, entries, n);
    cad_free(&entries);
    return status;
}

static cad_status list_index(cadp_listing *l)
{
    CAD_TRY(cad_path_join(&l->index, l->dir, index_name));
    CAD_TRY(cad_json_read(&l->tree, l->index, LONGEST_INDEX, CAD_EMODEL));
    return read_map(l);
}

static cad_status nothing_there(const char *dir)
{
    bool pickled, pickled_adapter;

    CAD_TRY(exists(dir, "pytorch_model.bin", &pickled));
    CAD_TRY(exists(dir, "adapter_model.bin", &pickled_adapter));
    if (pickled || pickled_adapter)
        cad_advise("%s holds a pickle; load it once with Transformers and save it with save_pretrained, which writes safetensors",
            pickled ? "pytorch_model.bin" : "adapter_model.bin");
    return cad_fail(CAD_EMODEL, "%s: expected model.safetensors, %s or adapter_model.safetensors in this folder, found none", dir,
        index_name);
}

static cad_status list_dir(cadp_listing *l)
{
    bool model, index, adapter;

    CAD_TRY(exists(l->dir, single_names[0], &model));
    if (model) return add_path(l, single_names[0]);
    CAD_TRY(exists(l->dir, index_name, &index));
    if (index) return list_index(l);
    CAD_TRY(exists(l->dir, single_names[1], &adapter));
    return adapter ? add_path(l, single_names[1]) : nothing_there(l->dir);
}

static cad_status list_file(cadp_listing *l, const char *path)
{
    CAD_TRY(cad_alloc(&l->paths, 1, sizeof *l->paths, "a list of files"));
    CAD_TRY(cad_strdup(&l->paths[0], path));
    l->count = 1;
    return CAD_OK;
}

cad_status cadp_st_list(cadp_listing *out, const char *path)
{
    cad_status status;

    *out = (cadp_listing){0};
    if (cad_is_dir(path)) {
        status = cad_strdup(&out->dir, path);
        if (!status) status = list_dir(out);
    } else status = list_file(out, path);
    if (status) cadp_st_listing_close(out);
    return status;
}

void cadp_st_listing_close(cadp_listing *l)
{
    for (int i = 0; i < l->count; i++) cad_free(&l->paths[i]);
    cad_free(&l->paths);
    cad_free(&l->dir);
    cad_free(&l->index);
    cad_map_close(&l->map);
    cad_tree_close(&l->tree);
    l->count = 0;
}
