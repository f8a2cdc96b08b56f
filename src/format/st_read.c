#include "st_priv.h"

#include <limits.h>
#include <math.h>
#include <sys/mman.h>

struct cad_st {
    cadp_listing list;
    cadp_mapping *files;
    char **names;      /* [files] */
    cad_st_tensor *tensors;
    int count;
    cad_map *by_name;
    cad_gguf *gguf;    /* of cad_st_adopt: holds the files; `names` has one entry */
};

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
    cadp_mapping *m = &s->files[file];
    const char *path = s->list.paths[file];
    cadp_header h;
    cad_status status;

    CAD_TRY(cadp_map_file(m, s->list.dir, path, "safetensors"));
    CAD_TRY(cadp_st_header(&h, s->by_name, file, path, m->bytes, m->size));
    s->names[file] = h.names;
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
    CAD_TRY(cad_alloc(&s->names, (size_t)s->list.count, sizeof *s->names, "a list of files"));
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

static int files_of(const cad_st *s) { return s->gguf ? cad_gguf_files(s->gguf) : s->list.count; }

void cad_st_close(cad_st **s)
{
    if (!*s) return;
    for (int i = 0; (*s)->files && i < (*s)->list.count; i++) cadp_unmap(&(*s)->files[i]);
    for (int i = 0; (*s)->names && i < files_of(*s); i++) cad_free(&(*s)->names[i]);
    cad_gguf_close(&(*s)->gguf);
    cad_free(&(*s)->names);
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
    CAD_ASSERT(file >= 0 && file < files_of(s));
    return s->gguf ? cad_gguf_file(s->gguf, file) : s->list.paths[file];
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
    if (t->dtype == CAD_BF16 && !t->heads && !t->minus) {
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
    if (!t->pack) forget(t, from, n); /* of blocks no element lies at its own place */
    return CAD_OK;
}

static void read_stored(const cad_st_tensor *t, int64_t from, int64_t n, float *out)
{
    if (t->pack) cadp_unpack_values(t->pack, t->data, from, n, out);
    else cadp_to_f32(t->dtype, (const unsigned char *)t->data + (size_t)from * cad_dtype_bytes(t->dtype), n, out);
}

/* Row (head, half, j) of the tensor lies where (head, j, half) stands. */
static int64_t stored_row(const cad_st_tensor *t, int64_t row)
{
    int64_t each = t->shape[0] / t->heads, half = each / 2, r = row % each;

    return row - r + 2 * (r % half) + r / half;
}

static void read_rows(const cad_st_tensor *t, int64_t from, int64_t n, float *out)
{
    int64_t cols = t->elems / t->shape[0];

    for (int64_t count; n > 0; n -= count, from += count, out += count) {
        count = cad_min(n, cols - from % cols);
        read_stored(t, stored_row(t, from / cols) * cols + from % cols, count, out);
    }
}

cad_status cad_st_read_f32(const cad_st_tensor *t, int64_t from, int64_t n, float *out)
{
    char shown[64];

    CAD_ASSERT(from >= 0 && n >= 0 && from <= t->elems && n <= t->elems - from);
    if (t->dtype != CAD_F32 && t->dtype != CAD_BF16 && t->dtype != CAD_F16 && t->dtype != CAD_F64)
        return cad_fail(CAD_EMODEL, "tensor '%s': expected F32, BF16, F16 or F64 values, found %s", cadp_show(shown, t->name, strlen(t->name)),
            cad_dtype_name(t->dtype));
    if (t->heads) read_rows(t, from, n, out);
    else read_stored(t, from, n, out);
    for (int64_t i = 0; t->pack && i < n; i++)
        if (!isfinite(out[i])) return cad_fail(CAD_EMODEL, "tensor '%s': expected finite scales of %s blocks, found another behind value %lld", cadp_show(shown, t->name, strlen(t->name)), cadp_pack_name(t->pack), (long long)(from + i));
    for (int64_t i = 0; t->minus != 0 && i < n; i++) out[i] -= t->minus;
    return CAD_OK;
}

const char *cad_st_kind(const cad_st_tensor *t) { return t->pack ? cadp_pack_name(t->pack) : cad_dtype_name(t->dtype); }

/* ---- a GGUF file's tensors ---- */

static cad_status take_name(cad_st *s, cad_st_tensor *t, const char *name, cad_str *names)
{
    size_t at = names->size;

    CAD_TRY(cad_str_add(names, name, strlen(name) + 1));
    t->name = (char *)(uintptr_t)at; /* becomes a pointer when `names` has stopped moving */
    s->tensors[s->count++] = *t;
    return CAD_OK;
}

static cad_status take_tensors(cad_st *s, const cad_gguf *g, cad_gguf_rename rename, void *with, cad_str *names)
{
    char name[256];

    CAD_TRY(cad_alloc(&s->tensors, (size_t)cad_gguf_count(g), sizeof *s->tensors, "a list of tensors"));
    for (int i = 0; i < cad_gguf_count(g); i++) {
        cad_st_tensor t = *cad_gguf_at(g, i);
        name[0] = 0;
        CAD_TRY(rename(with, &t, name, sizeof name));
        if (name[0]) CAD_TRY(take_name(s, &t, name, names));
    }
    return CAD_OK;
}

static cad_status index_names(cad_st *s, const cad_gguf *g, cad_str *names)
{
    char shown[64];
    bool had;

    for (int i = 0; i < s->count; i++) {
        cad_st_tensor *t = &s->tensors[i];
        t->name = names->data + (uintptr_t)t->name;
        CAD_TRY(cad_map_set(s->by_name, t->name, strlen(t->name), i, &had));
        if (had) return cad_fail(CAD_EMODEL, "tensor '%s' in %s: the name stands twice", cadp_show(shown, t->name, strlen(t->name)), cad_gguf_file(g, t->file));
    }
    return CAD_OK;
}

cad_status cad_st_adopt(cad_st **out, cad_gguf **g, cad_gguf_rename rename, void *with)
{
    cad_str names = {0};
    cad_st *s;
    cad_status status;

    *out = NULL;
    CAD_TRY(cad_alloc(&s, 1, sizeof *s, "a set of tensors"));
    if (!(status = cad_map_open(&s->by_name)) && !(status = cad_alloc(&s->names, (size_t)cad_gguf_files(*g), sizeof *s->names, "a list of files")) &&
        !(status = take_tensors(s, *g, rename, with, &names)))
        status = index_names(s, *g, &names);
    if (status) {
        cad_str_close(&names);
        cad_st_close(&s);
        return status;
    }
    s->names[0] = names.data;
    s->gguf = *g;
    *g = NULL;
    *out = s;
    return CAD_OK;
}
