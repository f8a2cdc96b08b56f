#include "gguf_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

enum { VERSION = 3, TYPE_F32 = 0, TYPE_F16 = 1, TYPE_Q8_0 = 8, PIECE = 1 << 16 };
typedef struct entry { uint32_t type; int64_t elems; uint64_t at; } entry;
struct cad_gguf_writer {
    char *path, *aside;
    int fd;
    cad_str meta, infos;
    uint64_t keys, data_at, size; /* size: of the data declared so far, padded */
    entry *entries;
    int count, room, next;
    int64_t done;                 /* values of the next tensor that are written */
    bool started;
    unsigned char *packed;
};

/* ---- bytes ---- */

static cad_status add_little(cad_str *s, uint64_t v, int bytes)
{
    unsigned char b[8];

    for (int i = 0; i < bytes; i++) b[i] = (unsigned char)(v >> (8 * i));
    return cad_str_add(s, b, (size_t)bytes);
}

static cad_status add_text(cad_str *s, const char *text, size_t n)
{
    CAD_TRY(add_little(s, n, 8));
    return cad_str_add(s, text, n);
}

static uint32_t bits_of(float f)
{
    uint32_t u;

    memcpy(&u, &f, 4);
    return u;
}

static cad_status trouble(const cad_gguf_writer *w, const char *what) { return cad_fail(CAD_ERESOURCE, "%s: cannot %s: %s", w->path, what, strerror(errno)); }

static cad_status put(const cad_gguf_writer *w, const void *bytes, size_t n, uint64_t at)
{
    for (size_t done = 0; done < n;) {
        ssize_t some = pwrite(w->fd, (const char *)bytes + done, n - done, (off_t)(at + done));
        if (some < 0 && errno == EINTR) continue;
        if (some <= 0) return trouble(w, "write");
        done += (size_t)some;
    }
    return CAD_OK;
}

static uint64_t padded(uint64_t n) { return (n + CADP_GGUF_ALIGNMENT - 1) / CADP_GGUF_ALIGNMENT * CADP_GGUF_ALIGNMENT; }

/* ---- metadata ---- */

cad_status cad_gguf_create(cad_gguf_writer **out, const char *path)
{
    cad_gguf_writer *w;
    cad_str aside = {0};
    cad_status status;

    *out = NULL;
    CAD_TRY(cad_alloc(&w, 1, sizeof *w, "a writer of tensors"));
    w->fd = -1;
    if (!(status = cad_strdup(&w->path, path)) && !(status = cad_str_addf(&aside, "%s.tmp-%ld", path, (long)getpid())) && !(status = cad_strdup(&w->aside, aside.data)))
        status = cad_alloc(&w->packed, PIECE, 4, "packed values");
    cad_str_close(&aside);
    if (status) cad_gguf_abandon(&w);
    else *out = w;
    return status;
}

static cad_status begin_key(cad_gguf_writer *w, const char *key, int type)
{
    CAD_ASSERT(!w->started);
    w->keys++;
    CAD_TRY(add_text(&w->meta, key, strlen(key)));
    return add_little(&w->meta, (uint64_t)type, 4);
}

cad_status cad_gguf_put_int(cad_gguf_writer *w, const char *key, int64_t value)
{
    if (value < 0 || value > UINT32_MAX) return cad_fail(CAD_EMODEL, "%s: \"%s\": expected a number from 0 to 2^32 - 1, found %" PRId64, w->path, key, value);
    CAD_TRY(begin_key(w, key, CADP_GGUF_U32));
    return add_little(&w->meta, (uint64_t)value, 4);
}

cad_status cad_gguf_put_real(cad_gguf_writer *w, const char *key, double value)
{
    CAD_TRY(begin_key(w, key, CADP_GGUF_F32));
    return add_little(&w->meta, bits_of((float)value), 4);
}

cad_status cad_gguf_put_bool(cad_gguf_writer *w, const char *key, bool value)
{
    CAD_TRY(begin_key(w, key, CADP_GGUF_BOOL));
    return add_little(&w->meta, value, 1);
}

cad_status cad_gguf_put_text(cad_gguf_writer *w, const char *key, const char *value, size_t n)
{
    CAD_TRY(begin_key(w, key, CADP_GGUF_STRING));
    return add_text(&w->meta, value, n);
}

cad_status cad_gguf_put_list(cad_gguf_writer *w, const char *key, cad_kind of, int64_t count)
{
    int type = of == CAD_STRING ? CADP_GGUF_STRING : of == CAD_REAL ? CADP_GGUF_F32 : of == CAD_BOOL ? CADP_GGUF_BOOL : CADP_GGUF_I32;

    CAD_TRY(begin_key(w, key, CADP_GGUF_LIST));
    CAD_TRY(add_little(&w->meta, (uint64_t)type, 4));
    return add_little(&w->meta, (uint64_t)count, 8);
}

cad_status cad_gguf_add_text(cad_gguf_writer *w, const char *value, size_t n) { return add_text(&w->meta, value, n); }

cad_status cad_gguf_add_number(cad_gguf_writer *w, cad_kind of, double value)
{
    if (of == CAD_REAL) return add_little(&w->meta, bits_of((float)value), 4);
    if (of == CAD_BOOL) return add_little(&w->meta, value != 0, 1);
    return add_little(&w->meta, (uint64_t)(uint32_t)(int32_t)value, 4);
}

/* ---- tensors ---- */

static uint64_t bytes_of(const entry *e)
{
    if (e->type == TYPE_Q8_0) return (uint64_t)e->elems / 32 * 34;
    return (uint64_t)e->elems * (e->type == TYPE_F16 ? 2 : 4);
}

cad_status cad_gguf_declare(cad_gguf_writer *w, const char *name, const char *kind, const int64_t *shape, int dims)
{
    entry e = {.type = !strcmp(kind, "F32") ? TYPE_F32 : !strcmp(kind, "F16") ? TYPE_F16 : TYPE_Q8_0, .elems = 1, .at = w->size};

    CAD_ASSERT(!w->started && dims >= 1 && dims <= 4 && (e.type != TYPE_Q8_0 || !strcmp(kind, "Q8_0")));
    if (e.type == TYPE_Q8_0 && shape[dims - 1] % 32) e.type = TYPE_F16;
    CAD_TRY(add_text(&w->infos, name, strlen(name)));
    CAD_TRY(add_little(&w->infos, (uint64_t)dims, 4));
    for (int d = dims - 1; d >= 0; d--) {
        CAD_TRY(add_little(&w->infos, (uint64_t)shape[d], 8));
        if (shape[d] < 1 || __builtin_mul_overflow(e.elems, shape[d], &e.elems) || e.elems > INT64_MAX / 8)
            return cad_fail(CAD_EMODEL, "tensor %s for %s: expected a shape of 1 to 2^60 elements, found another", name, w->path);
    }
    CAD_TRY(add_little(&w->infos, e.type, 4));
    CAD_TRY(add_little(&w->infos, e.at, 8));
    if (w->count == w->room) {
        CAD_TRY(cad_grow(&w->entries, 2 * (size_t)w->room + 64, sizeof e, "a list of tensors"));
        w->room = 2 * w->room + 64;
    }
    w->entries[w->count++] = e;
    w->size += padded(bytes_of(&e));
    return CAD_OK;
}

static cad_status start(cad_gguf_writer *w)
{
    cad_str head = {0};
    cad_status status;

    w->started = true;
    w->fd = open(w->aside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (w->fd < 0) return trouble(w, "make the file");
    if (!(status = cad_str_add(&head, "GGUF", 4)) && !(status = add_little(&head, VERSION, 4)) && !(status = add_little(&head, (uint64_t)w->count, 8)) &&
        !(status = add_little(&head, w->keys, 8)) && !(status = cad_str_add(&head, w->meta.data, w->meta.size)) && w->infos.size)
        status = cad_str_add(&head, w->infos.data, w->infos.size);
    w->data_at = padded(head.size);
    while (!status && head.size < w->data_at) status = cad_str_add(&head, "", 1);
    if (!status) status = put(w, head.data, head.size, 0);
    cad_str_close(&head);
    return status;
}

static cad_status not_finite(const cad_gguf_writer *w, const entry *e)
{
    return cad_fail(CAD_EMODEL, "%s: expected numbers that %s can hold in tensor %d, found one that it cannot", w->path, e->type == TYPE_F32 ? "F32" : e->type == TYPE_F16 ? "F16" : "Q8_0", w->next);
}

/* Packs n values of the tensor; false: one of them has no place in the type. */
static bool pack(const entry *e, const float *x, int64_t n, unsigned char *out)
{
    float limit = e->type == TYPE_F32 ? INFINITY : e->type == TYPE_F16 ? 65520.0f : 65504.0f * 127.0f;

    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(x[i]) < limit)) return false;
    if (e->type == TYPE_Q8_0) cadp_pack_q8_0(x, n, out);
    else if (e->type == TYPE_F32) memcpy(out, x, (size_t)n * 4);
    else
        for (int64_t i = 0; i < n; i++) {
            uint16_t half = cad_f32_to_f16(x[i]);
            memcpy(out + 2 * i, &half, 2);
        }
    return true;
}

static cad_status write_some(cad_gguf_writer *w, const float *x, int64_t n)
{
    static const char zeros[CADP_GGUF_ALIGNMENT];
    entry *e = &w->entries[w->next];
    entry before = {e->type, w->done, 0}, now = {e->type, n, 0};

    CAD_ASSERT(e->type != TYPE_Q8_0 || n % 32 == 0);
    if (!pack(e, x, n, w->packed)) return not_finite(w, e);
    CAD_TRY(put(w, w->packed, (size_t)bytes_of(&now), w->data_at + e->at + bytes_of(&before)));
    w->done += n;
    if (w->done < e->elems) return CAD_OK;
    uint64_t bytes = bytes_of(e);
    CAD_TRY(put(w, zeros, (size_t)(padded(bytes) - bytes), w->data_at + e->at + bytes));
    w->next++;
    w->done = 0;
    return CAD_OK;
}

cad_status cad_gguf_write(cad_gguf_writer *w, const float *values, int64_t n)
{
    if (!w->started) CAD_TRY(start(w));
    while (n > 0) {
        CAD_ASSERT(w->next < w->count);
        int64_t some = cad_min(cad_min(n, PIECE), w->entries[w->next].elems - w->done);
        CAD_TRY(write_some(w, values, some));
        values += some;
        n -= some;
    }
    return CAD_OK;
}

cad_status cad_gguf_finish(cad_gguf_writer *w)
{
    char *dir;
    char *slash;
    cad_status status;

    if (!w->started) CAD_TRY(start(w));
    if (w->next < w->count) return cad_fail(CAD_EINTERNAL, "%s: tensor %d of %d was not written whole", w->path, w->next, w->count);
    if (fsync(w->fd)) return trouble(w, "sync");
    if (close(w->fd)) return trouble(w, "close");
    w->fd = -1;
    if (rename(w->aside, w->path)) return trouble(w, "rename onto it");
    cad_free(&w->aside);
    CAD_TRY(cad_strdup(&dir, w->path));
    slash = strrchr(dir, '/');
    if (slash) *slash = 0;
    status = cad_fsync_dir(slash ? dir : ".");
    cad_free(&dir);
    return status;
}

void cad_gguf_abandon(cad_gguf_writer **out)
{
    cad_gguf_writer *w = *out;

    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    if (w->aside && w->started) unlink(w->aside);
    cad_free(&w->path);
    cad_free(&w->aside);
    cad_str_close(&w->meta);
    cad_str_close(&w->infos);
    cad_free(&w->entries);
    cad_free(&w->packed);
    cad_free(out);
}
