#include "data_priv.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* head | starts | labels | ids | answers | cut | given, each part on a multiple of 8 bytes; numbers as this machine writes them (a file of a machine with
 * another byte order has another magic and is rebuilt). */
enum { VERSION = 3 };
static const uint64_t magic = 0x534e454b4f544443u; /* "CDTOKENS" */
typedef struct flat_head {
    uint64_t magic;
    uint32_t version, crc; /* CRC32C of the whole block with this field 0 */
    char digest[64];
    int64_t count, ids;
} flat_head;
typedef struct parts { size_t starts, labels, ids, answers, cut, given, end; } parts; /* offsets */

static bool add_part(size_t *at, int64_t n, size_t each)
{
    size_t bytes;

    return n >= 0 && cad_mul_ok((size_t)n, each, &bytes) && !__builtin_add_overflow(bytes, 7, &bytes) && !__builtin_add_overflow(*at, bytes / 8 * 8, at);
}

static bool measure(int64_t count, int64_t ids, parts *p)
{
    size_t at = sizeof(flat_head);

    if (count < 0 || count == INT64_MAX) return false;
    p->starts = at;
    if (!add_part(&at, count + 1, sizeof(int64_t))) return false;
    p->labels = at;
    if (!add_part(&at, count, sizeof(int32_t))) return false;
    p->ids = at;
    if (!add_part(&at, ids, sizeof(int32_t))) return false;
    p->answers = at;
    if (!add_part(&at, count, sizeof(int32_t))) return false;
    p->cut = at;
    if (!add_part(&at, count, 1)) return false;
    p->given = at;
    if (!add_part(&at, ids, 1)) return false;
    p->end = at;
    return true;
}

static uint32_t checksum(const cadp_flat *f)
{
    flat_head h;

    memcpy(&h, f->bytes, sizeof h);
    h.crc = 0;
    return cad_crc32c(cad_crc32c(0, &h, sizeof h), f->bytes + sizeof h, f->size - sizeof h);
}

cad_status cadp_flat_make(cadp_flat *f, const cad_dataset *d)
{
    flat_head h = {.magic = magic, .version = VERSION, .count = d->count, .ids = d->starts[d->count]};
    parts p;

    *f = (cadp_flat){0};
    if (!measure(h.count, h.ids, &p)) return cad_fail(CAD_ERESOURCE, "%lld tokens are too many", (long long)h.ids);
    CAD_TRY(cad_alloc(&f->bytes, p.end, 1, "token ids"));
    f->size = p.end;
    memcpy(h.digest, d->digest, sizeof h.digest);
    memcpy(f->bytes, &h, sizeof h);
    memcpy(f->bytes + p.starts, d->starts, (size_t)(h.count + 1) * sizeof *d->starts);
    memcpy(f->bytes + p.labels, d->labels, (size_t)h.count * sizeof *d->labels);
    memcpy(f->bytes + p.ids, d->ids, (size_t)h.ids * sizeof *d->ids);
    memcpy(f->bytes + p.answers, d->answers, (size_t)h.count * sizeof *d->answers);
    memcpy(f->bytes + p.cut, d->cut, (size_t)h.count * sizeof *d->cut);
    if (d->given) memcpy(f->bytes + p.given, d->given, (size_t)h.ids);
    h.crc = checksum(f);
    memcpy(f->bytes, &h, sizeof h);
    return CAD_OK;
}

static const char *head_fault(const cadp_flat *f, const char *digest, flat_head *h, parts *p)
{
    if (f->size < sizeof *h) return "it is too short";
    memcpy(h, f->bytes, sizeof *h);
    if (h->magic != magic || h->version != VERSION) return "it is no token cache of this version";
    if (!measure(h->count, h->ids, p) || p->end != f->size) return "its size does not fit its counts";
    if (memcmp(h->digest, digest, sizeof h->digest) != 0) return "it belongs to other data";
    return checksum(f) == h->crc ? NULL : "its checksum does not match";
}

static const char *content_fault(const flat_head *h, const cad_dataset *d)
{
    const unsigned char *cut = (const unsigned char *)d->cut;

    if (d->starts[0] != 0 || d->starts[h->count] != h->ids) return "its offsets are wrong";
    for (int64_t i = 0; i < h->count; i++)
        if (d->starts[i + 1] < d->starts[i] || d->labels[i] < -1 || d->labels[i] > 1 || cut[i] > 1 || d->answers[i] < 0 || d->answers[i] > d->starts[i + 1] - d->starts[i]) return "its rows are wrong";
    for (int64_t i = 0; i < h->ids; i++)
        if (d->ids[i] < 0 || d->given[i] > 1) return "its ids are wrong";
    return NULL;
}

bool cadp_flat_attach(const cadp_flat *f, const char *digest, cad_dataset *d, const char **why)
{
    flat_head h;
    parts p;

    if ((*why = head_fault(f, digest, &h, &p))) return false;
    d->count = h.count;
    d->starts = (int64_t *)(f->bytes + p.starts);
    d->labels = (int32_t *)(f->bytes + p.labels);
    d->ids = (int32_t *)(f->bytes + p.ids);
    d->answers = (int32_t *)(f->bytes + p.answers);
    d->cut = (bool *)(f->bytes + p.cut);
    d->given = f->bytes + p.given;
    return !(*why = content_fault(&h, d));
}

bool cadp_flat_map(cadp_flat *f, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat s;
    void *m = MAP_FAILED;

    *f = (cadp_flat){0};
    if (fd < 0) return false;
    if (!fstat(fd, &s) && S_ISREG(s.st_mode) && s.st_size > 0) m = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (m == MAP_FAILED) return false;
    *f = (cadp_flat){m, (size_t)s.st_size, true};
    return true;
}

void cadp_flat_close(cadp_flat *f)
{
    if (f->mapped) munmap(f->bytes, f->size);
    else cad_free(&f->bytes);
    *f = (cadp_flat){0};
}
