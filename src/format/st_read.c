#include "st_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct mapping { void *bytes; size_t size; char *names; } mapping;
struct cad_st {
    cadp_listing list;
    mapping *files;
    cad_st_tensor *tensors;
    int count;
    cad_map *by_name;
};

/* A link inside a model folder may not leave it. The Hugging Face cache keeps its files as links from
 * models--ORG--NAME/snapshots/REVISION to models--ORG--NAME/blobs, so there the model's own folder is the border. */
static void widen_to_cache(char *root)
{
    char *revision = strrchr(root, '/'), *snapshots, *model;

    if (!revision || revision == root) return;
    *revision = 0;
    snapshots = strrchr(root, '/');
    if (snapshots && snapshots != root && !strcmp(snapshots, "/snapshots")) {
        *snapshots = 0;
        model = strrchr(root, '/');
        if (model && !strncmp(model, "/models--", 9)) return;
        *snapshots = '/';
    }
    *revision = '/';
}

static bool lies_below(const char *path, const char *root)
{
    size_t n = strlen(root);

    return !strncmp(path, root, n) && (path[n] == '/' || (n && root[n - 1] == '/'));
}

static cad_status check_border(const char *dir, const char *path)
{
    char root[PATH_MAX], real[PATH_MAX];

    if (!realpath(dir, root) || !realpath(path, real)) return cad_fail(CAD_EMODEL, "%s: cannot open: %s", path, strerror(errno));
    widen_to_cache(root);
    if (lies_below(real, root)) return CAD_OK;
    return cad_fail(CAD_EMODEL, "%s: is a link out of its folder; copy the file there or name the folder it lies in", path);
}

/* O_NONBLOCK: a pipe must not hang the open; it is no regular file. */
static cad_status map_open_file(mapping *m, int fd, const char *path)
{
    struct stat at;

    if (fstat(fd, &at)) return cad_fail(CAD_EMODEL, "%s: cannot open: %s", path, strerror(errno));
    if (!S_ISREG(at.st_mode)) return cad_fail(CAD_EMODEL, "%s: expected a regular file", path);
    if (at.st_size < 8) return cad_fail(CAD_EMODEL, "%s: expected a safetensors file, found %lld bytes", path, (long long)at.st_size);
    m->bytes = mmap(NULL, (size_t)at.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (m->bytes == MAP_FAILED) {
        m->bytes = NULL;
        return cad_fail(CAD_ERESOURCE, "%s: cannot map %lld bytes: %s", path, (long long)at.st_size, strerror(errno));
    }
    m->size = (size_t)at.st_size;
    return CAD_OK;
}

static cad_status map_file(mapping *m, const char *dir, const char *path)
{
    cad_status status;
    int fd;

    if (dir) CAD_TRY(check_border(dir, path));
    do fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) return cad_fail(CAD_EMODEL, "%s: cannot open: %s", path, strerror(errno));
    status = map_open_file(m, fd, path);
    close(fd);
    return status;
}

static cad_status check_against_map(const cad_st *s, const cad_st_tensor *t)
{
    char shown[64];
    int64_t file;

    if (!cad_map_get(s->list.map, t->name, strlen(t->name), &file))
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: weight_map of %s does not name it", cadp_show(shown, t->name, strlen(t->name)),
            s->list.paths[t->file], s->list.index);
    if (file != t->file)
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: weight_map of %s places it in %s", cadp_show(shown, t->name, strlen(t->name)),
            s->list.paths[t->file], s->list.index, s->list.paths[file]);
    return CAD_OK;
}

static cad_status read_file(cad_st *s, int file)
{
    mapping *m = &s->files[file];
    const char *path = s->list.paths[file];
    cadp_header h;
    cad_status status;

    CAD_TRY(map_file(m, s->list.dir, path));
    CAD_TRY(cadp_st_header(&h, s->by_name, file, path, m->bytes, m->size));
    m->names = h.names;
    h.names = NULL;
    for (int i = 0; s->list.map && i < h.count; i++)
        if ((status = check_against_map(s, &h.tensors[i]))) goto done;
    if (h.count > INT_MAX - s->count) {
        status = cad_fail(CAD_EMODEL, "%s: too many tensors", path);
        goto done;
    }
    if ((status = cad_grow(&s->tensors, (size_t)(s->count + h.count), sizeof *s->tensors, "a list of tensors"))) goto done;
    if (h.count) memcpy(s->tensors + s->count, h.tensors, (size_t)h.count * sizeof *h.tensors);
    s->count += h.count;
done:
    cadp_st_header_close(&h);
    return status;
}

static cad_status check_all_found(const cad_st *s)
{
    char shown[64], shown_file[64];

    for (const cad_node *e = cad_get(s->list.tree->root, "weight_map")->child; e; e = e->next)
        if (!cad_map_get(s->by_name, e->key, strlen(e->key), NULL))
            return cad_fail(CAD_EMODEL, "tensor '%s' in %s: its file '%s' does not hold it", cadp_show(shown, e->key, strlen(e->key)), s->list.index,
                cadp_show(shown_file, e->text, strlen(e->text)));
    return CAD_OK;
}

static cad_status read_all(cad_st *s, const char *path)
{
    bool had;

    CAD_TRY(cadp_st_list(&s->list, path));
    CAD_TRY(cad_map_open(&s->by_name));
    CAD_TRY(cad_alloc(&s->files, (size_t)s->list.count, sizeof *s->files, "a list of files"));
    for (int i = 0; i < s->list.count; i++) CAD_TRY(read_file(s, i));
    if (s->list.tree) CAD_TRY(check_all_found(s));
    cad_tree_close(&s->list.tree);
    for (int i = 0; i < s->count; i++)
        CAD_TRY(cad_map_set(s->by_name, s->tensors[i].name, strlen(s->tensors[i].name), i, &had));
    return CAD_OK;
}

cad_status cad_st_open(cad_st **out, const char *path)
{
    cad_st *s;
    cad_status status;

    *out = NULL;
    CAD_TRY(cad_alloc(&s, 1, sizeof *s, "a set of tensors"));
    status = read_all(s, path);
    if (status) cad_st_close(&s);
    else *out = s;
    return status;
}

void cad_st_close(cad_st **s)
{
    if (!*s) return;
    for (int i = 0; (*s)->files && i < (*s)->list.count; i++) {
        if ((*s)->files[i].bytes) munmap((*s)->files[i].bytes, (*s)->files[i].size);
        cad_free(&(*s)->files[i].names);
    }
    cad_free(&(*s)->files);
    cad_free(&(*s)->tensors);
    cad_map_close(&(*s)->by_name);
    cadp_st_listing_close(&(*s)->list);
    cad_free(s);
}

int cad_st_count(const cad_st *s) { return s->count; }

const cad_st_tensor *cad_st_at(const cad_st *s, int i)
{
    CAD_ASSERT(i >= 0 && i < s->count);
    return &s->tensors[i];
}

const cad_st_tensor *cad_st_find(const cad_st *s, const char *name)
{
    int64_t i;

    return cad_map_get(s->by_name, name, strlen(name), &i) ? &s->tensors[i] : NULL;
}

const char *cad_st_file(const cad_st *s, int file)
{
    CAD_ASSERT(file >= 0 && file < s->list.count);
    return s->list.paths[file];
}

/* What was read stays in the system's cache but is no longer counted as ours: a model of any size is read in little memory. */
enum { LARGE = 1 << 16 };
static void forget(const cad_st_tensor *t, int64_t from, int64_t n)
{
    uintptr_t page = 4096, begin = (uintptr_t)t->data + (uintptr_t)from * cad_dtype_bytes(t->dtype), end = begin + (uintptr_t)n * cad_dtype_bytes(t->dtype);

    begin = (begin + page - 1) / page * page;
    end = end / page * page;
    if (end > begin && end - begin >= LARGE) (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
}

static cad_status read_as(const cad_st_tensor *t, int64_t from, int64_t n, cad_dtype as, void *out)
{
    uint16_t *half = out;
    float wide[256];

    CAD_ASSERT(as == CAD_F32 || as == CAD_BF16);
    if (as == CAD_F32) return cad_st_read_f32(t, from, n, out);
    if (t->dtype == CAD_BF16) {
        CAD_ASSERT(from >= 0 && n >= 0 && from <= t->elems && n <= t->elems - from);
        memcpy(out, (const unsigned char *)t->data + 2 * (size_t)from, 2 * (size_t)n);
        return CAD_OK;
    }
    for (int64_t i = 0; i < n; i += 256) {
        int64_t count = cad_min(256, n - i);
        CAD_TRY(cad_st_read_f32(t, from + i, count, wide));
        for (int64_t k = 0; k < count; k++) half[i + k] = cad_f32_to_bf16(wide[k]);
    }
    return CAD_OK;
}

cad_status cad_st_read(const cad_st_tensor *t, int64_t from, int64_t n, cad_dtype as, void *out)
{
    CAD_TRY(read_as(t, from, n, as, out));
    forget(t, from, n);
    return CAD_OK;
}

cad_status cad_st_read_f32(const cad_st_tensor *t, int64_t from, int64_t n, float *out)
{
    char shown[64];

    CAD_ASSERT(from >= 0 && n >= 0 && from <= t->elems && n <= t->elems - from);
    if (t->dtype != CAD_F32 && t->dtype != CAD_BF16 && t->dtype != CAD_F16 && t->dtype != CAD_F64)
        return cad_fail(CAD_EMODEL, "tensor '%s': expected F32, BF16, F16 or F64 values, found %s", cadp_show(shown, t->name, strlen(t->name)),
            cad_dtype_name(t->dtype));
    cadp_to_f32(t->dtype, (const unsigned char *)t->data + (size_t)from * cad_dtype_bytes(t->dtype), n, out);
    return CAD_OK;
}
