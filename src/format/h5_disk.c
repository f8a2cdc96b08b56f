/* A file driver for HDF5. HDF5 1.10 cannot close a file whose writes keep failing: the file's id stays open for good, and the
 * library crashes when it tidies up at exit (both seen with its own driver on a full disk). So a failed write is noted here and
 * reported as done: HDF5 closes in good order, and we know that the file is bad. The driver also lets HDF5 see only a descriptor
 * we opened ourselves. */
#include "h5_priv.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct disk { H5FD_t pub; cadp_disk to; dev_t device; ino_t inode; haddr_t eoa, eof; } disk;

bool cadp_disk_write(int fd, int *error, const void *bytes, size_t n, int64_t at)
{
    const char *from = bytes;

    while (n) {
        ssize_t done = pwrite(fd, from, n, at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            *error = done < 0 ? errno : ENOSPC;
            return false;
        }
        from += done;
        n -= (size_t)done;
        at += done;
    }
    return true;
}

bool cadp_disk_read(int fd, void *bytes, size_t n, int64_t at)
{
    char *to = bytes;

    while (n) {
        ssize_t done = pread(fd, to, n, at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            if (!done) errno = 0;
            return false;
        }
        to += done;
        n -= (size_t)done;
        at += done;
    }
    return true;
}

static H5FD_t *open_disk(const char *name, unsigned flags, hid_t fapl, haddr_t maxaddr)
{
    const cadp_disk *to = H5Pget_driver_info(fapl);
    struct stat at;
    disk *d;

    (void)name, (void)flags, (void)maxaddr;
    if (!to || fstat(to->fd, &at) || cad_alloc(&d, 1, sizeof *d, "an HDF5 file")) return NULL;
    d->to = *to;
    d->device = at.st_dev;
    d->inode = at.st_ino;
    d->eof = (haddr_t)at.st_size;
    return &d->pub;
}

static herr_t close_disk(H5FD_t *f)
{
    cad_free(&f);
    return 0;
}

static int compare(const H5FD_t *f, const H5FD_t *g)
{
    const disk *a = (const disk *)f, *b = (const disk *)g;

    if (a->device != b->device) return a->device < b->device ? -1 : 1;
    return a->inode == b->inode ? 0 : a->inode < b->inode ? -1 : 1;
}

static herr_t query(const H5FD_t *f, unsigned long *flags)
{
    (void)f;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_AGGREGATE_SMALLDATA;
    return 0;
}

static haddr_t get_eoa(const H5FD_t *f, H5FD_mem_t type)
{
    (void)type;
    return ((const disk *)f)->eoa;
}

static herr_t set_eoa(H5FD_t *f, H5FD_mem_t type, haddr_t eoa)
{
    (void)type;
    ((disk *)f)->eoa = eoa;
    return 0;
}

static haddr_t get_eof(const H5FD_t *f, H5FD_mem_t type)
{
    (void)type;
    return ((const disk *)f)->eof;
}

/* Beyond the end a file reads as zeros, as with HDF5's own drivers. */
static herr_t read_disk(H5FD_t *f, H5FD_mem_t type, hid_t transfer, haddr_t at, size_t n, void *bytes)
{
    disk *d = (disk *)f;
    size_t there = at >= d->eof ? 0 : d->eof - at < n ? (size_t)(d->eof - at) : n;

    (void)type, (void)transfer;
    if (at > INT64_MAX || n > INT64_MAX - at) return -1;
    memset((char *)bytes + there, 0, n - there);
    return cadp_disk_read(d->to.fd, bytes, there, (int64_t)at) ? 0 : -1;
}

static herr_t write_disk(H5FD_t *f, H5FD_mem_t type, hid_t transfer, haddr_t at, size_t n, const void *bytes)
{
    disk *d = (disk *)f;

    (void)type, (void)transfer;
    if (!d->to.writing) return -1;
    if (!*d->to.error && cadp_disk_write(d->to.fd, d->to.error, bytes, n, (int64_t)at) && at + n > d->eof) d->eof = at + n;
    return 0;
}

static herr_t truncate_disk(H5FD_t *f, hid_t transfer, hbool_t closing)
{
    disk *d = (disk *)f;

    (void)transfer, (void)closing;
    if (!d->to.writing || *d->to.error) return 0;
    if (ftruncate(d->to.fd, (off_t)d->eoa)) *d->to.error = errno;
    else d->eof = d->eoa;
    return 0;
}

hid_t cadp_disk_driver(void)
{
    static const H5FD_class_t driver = {
        .name = "cadtrain", .maxaddr = INT64_MAX, .fc_degree = H5F_CLOSE_STRONG, .fapl_size = sizeof(cadp_disk),
        .open = open_disk, .close = close_disk, .cmp = compare, .query = query, .get_eoa = get_eoa, .set_eoa = set_eoa,
        .get_eof = get_eof, .read = read_disk, .write = write_disk, .truncate = truncate_disk, .fl_map = H5FD_FLMAP_DICHOTOMY,
    };
    return H5FDregister(&driver);
}
