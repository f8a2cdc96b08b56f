#include "st_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct entry {
    char *name;
    cad_dtype dtype;
    int dims;
    int64_t shape[CAD_MAX_DIMS];
    int64_t bytes;
    int shard;
    int64_t at; /* in the shard's data */
} entry;
typedef struct part { char *name, *path, *aside; int64_t bytes, data_at; } part; /* one file: shard, or the index */

struct cad_st_writer {
    char *dir, *stem; /* of "model.safetensors": "model" */
    int64_t shard_bytes;
    entry *entries;
    int count, room;
    cad_map *names;
    part *parts;
    int shards, nparts; /* parts: the shards, then with several shards the index */
    bool planned, over; /* over: finished or failed, and nothing more is written */
    int fd, open_shard; /* -1: none */
    int next;           /* entry that gets bytes now, and how many it has */
    int64_t done;
};

static cad_status trouble(const part *p, const char *what)
{
    return cad_fail(CAD_ERESOURCE, "%s: cannot %s: %s", p->path, what, strerror(errno));
}

static cad_status put(const part *p, int fd, const char *bytes, size_t n, int64_t at)
{
    while (n) {
        ssize_t done = pwrite(fd, bytes, n, at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            if (!done) errno = ENOSPC;
            return trouble(p, "write");
        }
        bytes += done;
        n -= (size_t)done;
        at += done;
    }
    return CAD_OK;
}

/* As Transformers cuts: a shard is closed before the tensor that would make it too large; none is empty. */
static void cut_shards(cad_st_writer *w)
{
    int64_t fill = 0;

    w->shards = 1;
    for (int i = 0; i < w->count; i++) {
        entry *e = &w->entries[i];
        if (w->shard_bytes > 0 && fill > 0 && e->bytes > w->shard_bytes - fill) {
            w->shards++;
            fill = 0;
        }
        fill += e->bytes;
        e->shard = w->shards - 1;
    }
}

static int64_t lay_out(cad_st_writer *w, int shard, size_t each, int64_t at)
{
    for (int i = 0; i < w->count; i++) {
        entry *e = &w->entries[i];
        if (e->shard != shard || cad_dtype_bytes(e->dtype) != each) continue;
        e->at = at;
        at += e->bytes;
    }
    return at;
}

/* Wider elements lie first, as the library of the format lays them: each tensor is aligned to its elements and can be viewed in place. */
static void lay_out_all(cad_st_writer *w)
{
    for (int s = 0; s < w->shards; s++)
        for (size_t each = 8; each; each /= 2) w->parts[s].bytes = lay_out(w, s, each, each == 8 ? 0 : w->parts[s].bytes);
}

static cad_status name_part(cad_st_writer *w, int i)
{
    part *p = &w->parts[i];
    cad_str s = {0};
    cad_status status;

    if (i == w->shards) status = cad_str_addf(&s, "%s.safetensors.index.json", w->stem);
    else if (w->shards == 1) status = cad_str_addf(&s, "%s.safetensors", w->stem);
    else status = cad_str_addf(&s, "%s-%05d-of-%05d.safetensors", w->stem, i + 1, w->shards);
    if (!status) status = cad_strdup(&p->name, s.data);
    if (!status) status = cad_path_join(&p->path, w->dir, p->name);
    cad_str_close(&s);
    return status;
}

static cad_status plan(cad_st_writer *w)
{
    cut_shards(w);
    w->nparts = w->shards > 1 ? w->shards + 1 : 1;
    CAD_TRY(cad_alloc(&w->parts, (size_t)w->nparts, sizeof *w->parts, "a list of shards"));
    for (int i = 0; i < w->nparts; i++) CAD_TRY(name_part(w, i));
    lay_out_all(w);
    w->planned = true;
    return CAD_OK;
}

static cad_status put_entry(cad_json *j, const entry *e)
{
    CAD_TRY(cad_json_begin(j, e->name, '{'));
    CAD_TRY(cad_json_string(j, "dtype", cad_dtype_name(e->dtype)));
    CAD_TRY(cad_json_begin(j, "shape", '['));
    for (int d = 0; d < e->dims; d++) CAD_TRY(cad_json_int(j, NULL, e->shape[d]));
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_begin(j, "data_offsets", '['));
    CAD_TRY(cad_json_int(j, NULL, e->at));
    CAD_TRY(cad_json_int(j, NULL, e->at + e->bytes));
    CAD_TRY(cad_json_end(j));
    return cad_json_end(j);
}

static cad_status make_header(const cad_st_writer *w, int shard, cad_json *j)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_begin(j, "__metadata__", '{'));
    CAD_TRY(cad_json_string(j, "format", "pt"));
    CAD_TRY(cad_json_end(j));
    for (int i = 0; i < w->count; i++)
        if (w->entries[i].shard == shard) CAD_TRY(put_entry(j, &w->entries[i]));
    CAD_TRY(cad_json_end(j));
    while (j->text.size % 8) CAD_TRY(cad_str_add(&j->text, " ", 1));
    return CAD_OK;
}

static cad_status write_header(const cad_st_writer *w, int shard, int fd)
{
    part *p = &w->parts[shard];
    cad_json j = {0};
    char size[8];
    cad_status status = make_header(w, shard, &j);

    for (int i = 0; i < 8; i++) size[i] = (char)((uint64_t)j.text.size >> 8 * i & 255);
    p->data_at = 8 + (int64_t)j.text.size;
    if (!status && fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, p->data_at + p->bytes) && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        status = trouble(p, "reserve its space");
    if (!status) status = put(p, fd, size, 8, 0);
    if (!status) status = put(p, fd, j.text.data, j.text.size, 8);
    cad_json_close(&j);
    return status;
}

/* A name that is taken (a dead run's, a planted link) is passed over. */
static cad_status open_aside(part *p, int *fd)
{
    cad_str s = {0};
    cad_status status = CAD_OK;

    *fd = -1;
    for (int i = 0; *fd < 0 && !status && i < 100; i++) {
        s.size = 0;
        if ((status = cad_str_addf(&s, "%s.tmp-%ld-%d", p->path, (long)getpid(), i))) break;
        *fd = open(s.data, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (*fd < 0 && errno != EEXIST && errno != EINTR) break;
    }
    if (!status && *fd < 0) status = trouble(p, "make a file beside it");
    if (!status && (status = cad_strdup(&p->aside, s.data))) {
        close(*fd);
        unlink(s.data);
        *fd = -1;
    }
    cad_str_close(&s);
    if (!status && fchmod(*fd, 0600)) status = trouble(p, "set the mode");
    return status;
}

static int sync_fd(int fd)
{
    int failed;

    do failed = fsync(fd);
    while (failed && errno == EINTR);
    return failed;
}

static cad_status close_aside(const part *p, int *fd, cad_status status)
{
    if (*fd < 0) return status;
    if (!status && sync_fd(*fd)) status = trouble(p, "sync");
    if (close(*fd) && !status && errno != EINTR) status = trouble(p, "close");
    *fd = -1;
    return status;
}

static cad_status close_shard(cad_st_writer *w)
{
    return w->fd < 0 ? CAD_OK : close_aside(&w->parts[w->open_shard], &w->fd, CAD_OK);
}

static cad_status open_shard(cad_st_writer *w, int shard)
{
    if (w->fd >= 0 && w->open_shard == shard) return CAD_OK;
    CAD_TRY(close_shard(w));
    w->open_shard = shard;
    CAD_TRY(open_aside(&w->parts[shard], &w->fd));
    return write_header(w, shard, w->fd);
}

static int by_name(const void *a, const void *b)
{
    const entry *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static cad_status put_weight_map(const cad_st_writer *w, cad_json *j)
{
    const entry **sorted;
    cad_status status = CAD_OK;

    CAD_TRY(cad_alloc(&sorted, (size_t)w->count, sizeof *sorted, "a list of tensors"));
    for (int i = 0; i < w->count; i++) sorted[i] = &w->entries[i];
    qsort(sorted, (size_t)w->count, sizeof *sorted, by_name);
    for (int i = 0; !status && i < w->count; i++) status = cad_json_string(j, sorted[i]->name, w->parts[sorted[i]->shard].name);
    cad_free(&sorted);
    return status;
}

static cad_status make_index(const cad_st_writer *w, cad_json *j)
{
    int64_t total = 0;

    for (int i = 0; i < w->shards; i++) total += w->parts[i].bytes;
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_begin(j, "metadata", '{'));
    CAD_TRY(cad_json_int(j, "total_size", total));
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_begin(j, "weight_map", '{'));
    CAD_TRY(put_weight_map(w, j));
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_end(j));
    return cad_str_add(&j->text, "\n", 1);
}

static cad_status write_index(cad_st_writer *w)
{
    part *p = &w->parts[w->shards];
    cad_json j = {.pretty = true};
    int fd = -1;
    cad_status status = make_index(w, &j);

    if (!status) status = open_aside(p, &fd);
    if (!status) status = put(p, fd, j.text.data, j.text.size, 0);
    status = close_aside(p, &fd, status);
    cad_json_close(&j);
    return status;
}

static void remove_asides(cad_st_writer *w)
{
    for (int i = 0; w->parts && i < w->nparts; i++) {
        if (w->parts[i].aside) unlink(w->parts[i].aside);
        cad_free(&w->parts[i].aside);
    }
}

/* Everything is on the disk before the first name appears; the index comes last. */
static cad_status publish(cad_st_writer *w)
{
    for (int i = 0; i < w->nparts; i++) {
        part *p = &w->parts[i];
        if (rename(p->aside, p->path)) return trouble(p, "rename onto it");
        cad_free(&p->aside);
    }
    return cad_fsync_dir(w->dir);
}

static cad_status copy_stem(cad_st_writer *w, const char *file)
{
    size_t n = strlen(file), m = strlen(".safetensors");

    CAD_ASSERT(n > m && !strcmp(file + n - m, ".safetensors") && !strchr(file, '/'));
    CAD_TRY(cad_strdup(&w->stem, file));
    w->stem[n - m] = 0;
    return CAD_OK;
}

cad_status cad_st_create(cad_st_writer **out, const char *dir, const char *file, int64_t shard_bytes)
{
    cad_st_writer *w;
    cad_status status;

    *out = NULL;
    if (!cad_is_dir(dir)) return cad_fail(CAD_ERESOURCE, "%s: expected a folder to write %s into", dir, file);
    CAD_TRY(cad_alloc(&w, 1, sizeof *w, "a writer of tensors"));
    w->fd = -1;
    w->shard_bytes = shard_bytes;
    status = cad_strdup(&w->dir, dir);
    if (!status) status = copy_stem(w, file);
    if (!status) status = cad_map_open(&w->names);
    if (status) cad_st_abandon(&w);
    else *out = w;
    return status;
}

static cad_status check_name(cad_st_writer *w, const char *name)
{
    char shown[64];
    bool had;

    if (!strcmp(name, "__metadata__") || !cad_utf8_valid(name, strlen(name), NULL))
        return cad_fail(CAD_EINTERNAL, "tensor '%s': no safetensors file can hold this name", cadp_show(shown, name, strlen(name)));
    CAD_TRY(cad_map_set(w->names, name, strlen(name), 0, &had));
    return had ? cad_fail(CAD_EINTERNAL, "tensor '%s': declared twice", cadp_show(shown, name, strlen(name))) : CAD_OK;
}

cad_status cad_st_declare(cad_st_writer *w, const char *name, cad_dtype dtype, const int64_t *shape, int dims)
{
    char shown[64];
    entry e = {.dtype = dtype, .dims = dims, .bytes = (int64_t)cad_dtype_bytes(dtype)};

    CAD_ASSERT(!w->planned && dims >= 0 && dims <= CAD_MAX_DIMS);
    for (int d = 0; d < dims; d++) {
        CAD_ASSERT(shape[d] >= 0);
        e.shape[d] = shape[d];
        if (__builtin_mul_overflow(e.bytes, shape[d], &e.bytes))
            return cad_fail(CAD_EINTERNAL, "tensor '%s': has more than 2^63 bytes", cadp_show(shown, name, strlen(name)));
    }
    CAD_TRY(check_name(w, name));
    if (w->count == w->room) {
        CAD_TRY(cad_grow(&w->entries, 2 * (size_t)w->room + 64, sizeof e, "a list of tensors"));
        w->room = 2 * w->room + 64;
    }
    CAD_TRY(cad_strdup(&e.name, name));
    w->entries[w->count++] = e;
    return CAD_OK;
}

static void skip_full(cad_st_writer *w)
{
    while (w->next < w->count && w->done == w->entries[w->next].bytes) {
        w->next++;
        w->done = 0;
    }
}

static cad_status write_bytes(cad_st_writer *w, const char *bytes, size_t n)
{
    if (!w->planned) CAD_TRY(plan(w));
    for (skip_full(w); n; skip_full(w)) {
        if (w->next == w->count) return cad_fail(CAD_EINTERNAL, "%s: %zu bytes more than the declared tensors have", w->dir, n);
        const entry *e = &w->entries[w->next];
        size_t piece = (uint64_t)n < (uint64_t)(e->bytes - w->done) ? n : (size_t)(e->bytes - w->done);
        CAD_TRY(open_shard(w, e->shard));
        CAD_TRY(put(&w->parts[e->shard], w->fd, bytes, piece, w->parts[e->shard].data_at + e->at + w->done));
        w->done += (int64_t)piece;
        bytes += piece;
        n -= piece;
    }
    return CAD_OK;
}

static void drop(cad_st_writer *w)
{
    w->over = true;
    if (w->fd >= 0) close(w->fd);
    w->fd = -1;
    remove_asides(w);
}

cad_status cad_st_write(cad_st_writer *w, const void *bytes, size_t n)
{
    CAD_ASSERT(!w->over);
    cad_status status = write_bytes(w, bytes, n);

    if (status) drop(w);
    return status;
}

static cad_status finish(cad_st_writer *w)
{
    char shown[64];

    if (!w->planned) CAD_TRY(plan(w));
    skip_full(w);
    if (w->next < w->count)
        return cad_fail(CAD_EINTERNAL, "tensor '%s': %" PRId64 " of %" PRId64 " bytes were written",
            cadp_show(shown, w->entries[w->next].name, strlen(w->entries[w->next].name)), w->done, w->entries[w->next].bytes);
    for (int s = 0; s < w->shards; s++) /* a file without a byte of data was never opened */
        if (!w->parts[s].aside) CAD_TRY(open_shard(w, s));
    CAD_TRY(close_shard(w));
    if (w->shards > 1) CAD_TRY(write_index(w));
    return publish(w);
}

cad_status cad_st_finish(cad_st_writer *w)
{
    CAD_ASSERT(!w->over);
    cad_status status = finish(w);

    if (status) drop(w);
    w->over = true;
    return status;
}

void cad_st_abandon(cad_st_writer **w)
{
    if (!*w) return;
    drop(*w);
    for (int i = 0; i < (*w)->count; i++) cad_free(&(*w)->entries[i].name);
    for (int i = 0; (*w)->parts && i < (*w)->nparts; i++) {
        cad_free(&(*w)->parts[i].name);
        cad_free(&(*w)->parts[i].path);
    }
    cad_free(&(*w)->parts);
    cad_free(&(*w)->entries);
    cad_map_close(&(*w)->names);
    cad_free(&(*w)->stem);
    cad_free(&(*w)->dir);
    cad_free(w);
}
