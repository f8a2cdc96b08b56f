#include "gguf_priv.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_PARTS = 9999 };
typedef struct part { char *path; cadp_mapping map; cadp_gguf_head head; } part;
struct cad_gguf {
    part *parts;
    int files;
    cad_st_tensor *tensors; /* of all parts */
    int count;
};

/* ---- where it lies ---- */

static bool ends_in_gguf(const char *name)
{
    size_t n = strlen(name);

    return n > 5 && !strcmp(name + n - 5, ".gguf");
}

/* NAME-00002-of-00003.gguf: the two numbers, and where "-00002" begins. */
static bool part_numbers(const char *name, int *number, int *parts, size_t *at)
{
    size_t n = strlen(name), tail = strlen("-00001-of-00002.gguf");
    const char *end = name + n - tail;

    if (n < tail || memcmp(end, "-", 1) || memcmp(end + 6, "-of-", 4)) return false;
    for (int i = 1; i <= 5; i++)
        if (end[i] < '0' || end[i] > '9' || end[i + 9] < '0' || end[i + 9] > '9') return false;
    *number = (int)strtol(end + 1, NULL, 10);
    *parts = (int)strtol(end + 10, NULL, 10);
    *at = n - tail;
    return ends_in_gguf(name);
}

static bool is_first_part(const char *name)
{
    int number, parts;
    size_t at;

    return !part_numbers(name, &number, &parts, &at) || number == 1;
}

static bool has(const char *dir, const char *name)
{
    char *path;
    bool there;

    if (cad_path_join(&path, dir, name)) return false;
    there = cad_is_file(path);
    cad_free(&path);
    return there;
}

static cad_status one_of_folder(char **out, const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    cad_status status = CAD_OK;

    if (!d) return cad_fail(CAD_EMODEL, "%s: cannot be opened: %s", dir, strerror(errno));
    while (!status && (e = readdir(d))) {
        if (e->d_name[0] == '.' || !ends_in_gguf(e->d_name) || !is_first_part(e->d_name)) continue;
        if (*out) status = cad_fail(CAD_EMODEL, "%s: expected one model as .gguf in this folder, found several; name the file", dir);
        else status = cad_path_join(out, dir, e->d_name);
    }
    closedir(d);
    if (status) cad_free(out);
    return status;
}

cad_status cad_gguf_find(char **out, const char *path)
{
    *out = NULL;
    if (!cad_is_dir(path)) return ends_in_gguf(path) && cad_is_file(path) ? cad_strdup(out, path) : CAD_OK;
    if (has(path, "model.safetensors") || has(path, "model.safetensors.index.json")) return CAD_OK;
    return one_of_folder(out, path);
}

/* ---- reading ---- */

static cad_status open_part(cad_gguf *g, int i, const char *path, cad_map *seen)
{
    part *p = &g->parts[i];

    CAD_TRY(cad_strdup(&p->path, path));
    CAD_TRY(cadp_map_file(&p->map, NULL, path, "GGUF"));
    return cadp_gguf_head_read(&p->head, seen, i, path, p->map.bytes, p->map.size);
}

/* What split.no and split.count say; a file without them is one of one. */
static void split_of(const cadp_gguf_head *h, int64_t *number, int64_t *count)
{
    cad_gguf_value v;

    *number = cadp_gguf_get(h, "split.no", &v) && v.kind == CAD_INT ? v.integer : 0;
    *count = cadp_gguf_get(h, "split.count", &v) && v.kind == CAD_INT ? v.integer : 1;
}

static cad_status check_split(const part *p, int64_t number, int64_t count)
{
    int64_t found, of;

    split_of(&p->head, &found, &of);
    if (found == number && of == count) return CAD_OK;
    return cad_fail(CAD_EMODEL, "%s: expected part %lld of %lld, found that the file calls itself part %lld of %lld", p->path, (long long)number + 1, (long long)count, (long long)found + 1,
                    (long long)of);
}

static cad_status open_others(cad_gguf *g, const char *path, int64_t count, cad_map *seen)
{
    int number, parts;
    size_t stem;
    cad_str other = {0};
    cad_status status = CAD_OK;

    if (!part_numbers(path, &number, &parts, &stem) || parts != count || count > MOST_PARTS)
        return cad_fail(CAD_EMODEL, "%s: expected a name like model-00001-of-%05lld.gguf, as the file says it is one of %lld parts", path, (long long)cad_min(count, MOST_PARTS), (long long)count);
    CAD_TRY(cad_grow(&g->parts, (size_t)count, sizeof *g->parts, "a list of files"));
    memset(g->parts + 1, 0, (size_t)(count - 1) * sizeof *g->parts);
    for (int i = 1; i < count && !status; i++) {
        other.size = 0;
        g->files = i + 1;
        status = cad_str_addf(&other, "%.*s-%05d-of-%05d.gguf", (int)stem, path, i + 1, parts);
        if (!status) status = open_part(g, i, other.data, seen);
        if (!status) status = check_split(&g->parts[i], i, count);
    }
    cad_str_close(&other);
    return status;
}

static cad_status open_parts(cad_gguf *g, const char *path, cad_map *seen)
{
    int64_t number, count;

    CAD_TRY(cad_alloc(&g->parts, 1, sizeof *g->parts, "a list of files"));
    g->files = 1;
    CAD_TRY(open_part(g, 0, path, seen));
    split_of(&g->parts[0].head, &number, &count);
    if (number) return cad_fail(CAD_EMODEL, "%s: expected the first part of a model, found part %lld; name the first", path, (long long)number + 1);
    return count > 1 ? open_others(g, path, count, seen) : CAD_OK;
}

static cad_status collect_tensors(cad_gguf *g)
{
    int64_t total = 0;

    for (int i = 0; i < g->files; i++) total += g->parts[i].head.count;
    if (total > INT_MAX) return cad_fail(CAD_EMODEL, "%s: too many tensors", g->parts[0].path);
    CAD_TRY(cad_alloc(&g->tensors, (size_t)total, sizeof *g->tensors, "a list of tensors"));
    for (int i = 0; i < g->files; i++) {
        const cadp_gguf_head *h = &g->parts[i].head;
        if (h->count) memcpy(g->tensors + g->count, h->tensors, (size_t)h->count * sizeof *h->tensors);
        g->count += h->count;
    }
    return CAD_OK;
}

cad_status cad_gguf_open(cad_gguf **out, const char *path)
{
    cad_gguf *g;
    cad_map *seen = NULL;
    cad_status status;

    *out = NULL;
    CAD_TRY(cad_alloc(&g, 1, sizeof *g, "a GGUF file"));
    if (!(status = cad_map_open(&seen)) && !(status = open_parts(g, path, seen))) status = collect_tensors(g);
    cad_map_close(&seen);
    if (status) cad_gguf_close(&g);
    else *out = g;
    return status;
}

void cad_gguf_close(cad_gguf **g)
{
    if (!*g) return;
    for (int i = 0; (*g)->parts && i < (*g)->files; i++) {
        cadp_gguf_head_close(&(*g)->parts[i].head);
        cadp_unmap(&(*g)->parts[i].map);
        cad_free(&(*g)->parts[i].path);
    }
    cad_free(&(*g)->parts);
    cad_free(&(*g)->tensors);
    cad_free(g);
}

bool cad_gguf_get(const cad_gguf *g, const char *key, cad_gguf_value *out) { return cadp_gguf_get(&g->parts[0].head, key, out); }
int cad_gguf_count(const cad_gguf *g) { return g->count; }
int cad_gguf_files(const cad_gguf *g) { return g->files; }

const cad_st_tensor *cad_gguf_at(const cad_gguf *g, int i)
{
    CAD_ASSERT(i >= 0 && i < g->count);
    return &g->tensors[i];
}

const char *cad_gguf_file(const cad_gguf *g, int file)
{
    CAD_ASSERT(file >= 0 && file < g->files);
    return g->parts[file].path;
}
