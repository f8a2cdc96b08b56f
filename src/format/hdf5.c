/* Only names, types and shapes go through HDF5. The numbers themselves lie end to end at H5Dget_offset and are written and read
 * there directly: a piece of a flat dataset is one pwrite, where a selection of a many-dimensional one would be several. */
#include "h5_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_BYTES = 1 << 20 };
extern char **environ;

static void forget_variables(void)
{
    char name[256];

    for (char **e = environ; e && *e;) {
        size_t n = strcspn(*e, "=");
        if (strncmp(*e, "HDF5_", 5) || n >= sizeof name) {
            e++;
            continue;
        }
        memcpy(name, *e, n);
        name[n] = 0;
        if (unsetenv(name)) e++;
        else e = environ;
    }
}

void cad_h5_setup(void)
{
    forget_variables();
    H5dont_atexit();
    H5open();
    H5PLset_loading_state(0);
    cadp_h5_quiet();
}

static cad_status make(cad_h5 **out, const char *path, bool writing)
{
    cad_h5 *h;

    cadp_h5_quiet();
    CAD_TRY(cad_alloc(&h, 1, sizeof *h, "an HDF5 file"));
    h->fd = -1;
    h->driver = h->file = h->set = -1;
    h->writing = writing;
    cad_status status = cad_strdup(&h->path, path);
    if (status) cad_free(&h);
    *out = h;
    return status;
}

/* Version 2 of the superblock and of headers (from HDF5 1.8): these carry checksums of their own. */
static hid_t access_list(cad_h5 *h)
{
    cadp_disk to = {.fd = h->fd, .writing = h->writing, .error = &h->error};
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);

    h->driver = cadp_disk_driver();
    if (list >= 0 && h->driver >= 0 && H5Pset_driver(list, h->driver, &to) >= 0 &&
        H5Pset_libver_bounds(list, H5F_LIBVER_V18, H5F_LIBVER_LATEST) >= 0 && H5Pset_fclose_degree(list, H5F_CLOSE_STRONG) >= 0)
        return list;
    if (list >= 0) H5Pclose(list);
    return -1;
}

/* Without times the same state gives the same bytes. */
static hid_t untimed(hid_t kind)
{
    hid_t list = H5Pcreate(kind);

    if (list >= 0 && H5Pset_obj_track_times(list, 0) >= 0) return list;
    if (list >= 0) H5Pclose(list);
    return -1;
}

static cad_status create_file(cad_h5 *h)
{
    hid_t access, creation;

    h->fd = open(h->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (h->fd < 0) {
        cad_status status = errno == EEXIST ? CAD_ECHECKPOINT : CAD_ERESOURCE;
        return cad_fail(status, "%s: cannot be made: %s", h->path, strerror(errno));
    }
    if (fchmod(h->fd, 0600)) return cad_fail(CAD_ERESOURCE, "%s: cannot set the mode: %s", h->path, strerror(errno));
    access = access_list(h);
    creation = untimed(H5P_FILE_CREATE);
    if (access >= 0 && creation >= 0) h->file = H5Fcreate(h->path, H5F_ACC_TRUNC, creation, access);
    if (creation >= 0) H5Pclose(creation);
    if (access >= 0) H5Pclose(access);
    return h->file < 0 || h->error ? cadp_h5_fail(h, NULL, "HDF5 cannot make the file") : CAD_OK;
}

static cad_status open_file(cad_h5 *h)
{
    struct stat at;
    hid_t access;

    do h->fd = open(h->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    while (h->fd < 0 && errno == EINTR);
    if (h->fd < 0 || fstat(h->fd, &at)) return cad_fail(CAD_ECHECKPOINT, "%s: cannot open: %s", h->path, strerror(errno));
    if (!S_ISREG(at.st_mode)) return cad_fail(CAD_ECHECKPOINT, "%s: expected a regular file", h->path);
    access = access_list(h);
    if (access >= 0) h->file = H5Fopen(h->path, H5F_ACC_RDONLY, access);
    if (access >= 0) H5Pclose(access);
    if (h->file < 0) return cadp_h5_fail(h, NULL, "expected an HDF5 file, found something else or a truncated one");
    return cadp_h5_check(h);
}

/* Every HDF5 object is closed whatever failed; true when all went well. */
static bool close_all(cad_h5 *h)
{
    bool good = true;

    if (h->set >= 0) good &= H5Dclose(h->set) >= 0;
    if (h->file >= 0) good &= H5Fclose(h->file) >= 0;
    if (h->driver >= 0) H5FDunregister(h->driver);
    if (h->fd >= 0 && close(h->fd) && errno != EINTR && h->writing && !h->error) h->error = errno;
    cad_free(&h->set_name);
    return good && !h->error;
}

static void drop(cad_h5 **h)
{
    close_all(*h);
    cad_free(&(*h)->path);
    cad_free(h);
}

const char *cad_h5_version(void)
{
    static char text[32];
    unsigned major = 0, minor = 0, release = 0;

    (void)H5get_libversion(&major, &minor, &release);
    snprintf(text, sizeof text, "%u.%u.%u", major, minor, release);
    return text;
}

cad_status cad_h5_create(cad_h5 **out, const char *path)
{
    cad_h5 *h;
    cad_status status;

    *out = NULL;
    CAD_TRY(make(&h, path, true));
    status = create_file(h);
    if (!status) *out = h;
    else {
        if (h->fd >= 0) unlink(path);
        drop(&h);
    }
    return status;
}

cad_status cad_h5_open(cad_h5 **out, const char *path)
{
    cad_h5 *h;
    cad_status status;

    *out = NULL;
    CAD_TRY(make(&h, path, false));
    status = open_file(h);
    if (status) drop(&h);
    else *out = h;
    return status;
}

cad_status cad_h5_close(cad_h5 **h)
{
    cad_status status = CAD_OK;

    if (!*h) return CAD_OK;
    cadp_h5_quiet();
    if ((*h)->set >= 0 && !(*h)->error)
        status = cad_fail(CAD_EINTERNAL, "%s in %s: was begun and not ended", (*h)->set_name, (*h)->path);
    if (!close_all(*h) && !status) status = cadp_h5_fail(*h, NULL, "cannot be closed");
    cad_free(&(*h)->path);
    cad_free(h);
    return status;
}

static bool plain_name(const char *name)
{
    if (*name != '/' || !cad_utf8_valid(name, strlen(name), NULL)) return false;
    for (const char *part = name + 1;; part++) {
        size_t n = strcspn(part, "/");
        if (!n || (n == 1 && *part == '.')) return false;
        part += n;
        if (!*part) return true;
    }
}

/* Calls `see` with "/a", "/a/b", … and at last the whole name. */
static bool each_prefix(cad_h5 *h, const char *name, bool (*see)(cad_h5 *h, const char *prefix, bool last))
{
    char *prefix;
    bool good = true, last = false;

    if (cad_strdup(&prefix, name)) return false;
    for (size_t n = 1; good && !last; n++) {
        n += strcspn(name + n, "/");
        last = !name[n];
        prefix[n] = 0;
        good = see(h, prefix, last);
        prefix[n] = name[n];
    }
    cad_free(&prefix);
    return good;
}

static bool link_exists(cad_h5 *h, const char *prefix, bool last)
{
    (void)last;
    return H5Lexists(h->file, prefix, H5P_DEFAULT) > 0;
}

bool cad_h5_has(cad_h5 *h, const char *name)
{
    cadp_h5_quiet();
    return plain_name(name) && each_prefix(h, name, link_exists);
}

static bool make_group(cad_h5 *h, const char *prefix, bool last)
{
    hid_t list, group = -1;

    if (last || link_exists(h, prefix, last)) return true;
    list = untimed(H5P_GROUP_CREATE);
    if (list >= 0) {
        group = H5Gcreate2(h->file, prefix, H5P_DEFAULT, list, H5P_DEFAULT);
        H5Pclose(list);
    }
    return group >= 0 && H5Gclose(group) >= 0;
}

static hid_t shape_space(const int64_t *shape, int dims)
{
    hsize_t wide[CAD_MAX_DIMS];

    if (!dims) return H5Screate(H5S_SCALAR);
    for (int d = 0; d < dims; d++) wide[d] = (hsize_t)shape[d];
    return H5Screate_simple(dims, wide, NULL);
}

/* Its place is fixed at once and nothing is written there before our own bytes. */
static hid_t make_set(cad_h5 *h, const char *name, cad_dtype dtype, const int64_t *shape, int dims)
{
    hid_t space = shape_space(shape, dims), list = untimed(H5P_DATASET_CREATE), set = -1;

    if (space >= 0 && list >= 0 && H5Pset_layout(list, H5D_CONTIGUOUS) >= 0 && H5Pset_alloc_time(list, H5D_ALLOC_TIME_EARLY) >= 0 &&
        H5Pset_fill_time(list, H5D_FILL_TIME_NEVER) >= 0)
        set = H5Dcreate2(h->file, name, cadp_h5_type(dtype), space, H5P_DEFAULT, list, H5P_DEFAULT);
    if (list >= 0) H5Pclose(list);
    if (space >= 0) H5Sclose(space);
    return set;
}

/* A disk that is too small is found before the first byte; file systems that cannot reserve are left to the writing. */
static void reserve(cad_h5 *h, int64_t at, int64_t bytes)
{
    if (bytes && fallocate(h->fd, FALLOC_FL_KEEP_SIZE, at, bytes) && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        h->error = errno;
}

static cad_status begin_set(cad_h5 *h, const char *name, cad_dtype dtype, const int64_t *shape, int dims)
{
    cadp_h5_set found;

    if (cad_h5_has(h, name)) return cadp_h5_fail(h, name, "there is an object of this name already");
    if (!each_prefix(h, name, make_group)) return cadp_h5_fail(h, name, "its groups cannot be made");
    h->set = make_set(h, name, dtype, shape, dims);
    if (h->set < 0 || h->error) return cadp_h5_fail(h, name, "the dataset cannot be made");
    CAD_TRY(cadp_h5_describe(h, h->set, name, &found));
    CAD_TRY(cad_strdup(&h->set_name, name));
    h->dtype = dtype;
    h->elems = found.elems;
    h->at = found.at;
    h->done = 0;
    h->crc = 0;
    reserve(h, h->at, h->elems * (int64_t)cad_dtype_bytes(dtype));
    return h->error ? cadp_h5_fail(h, name, "no space") : CAD_OK;
}

cad_status cad_h5_begin(cad_h5 *h, const char *name, cad_dtype dtype, const int64_t *shape, int dims)
{
    CAD_ASSERT(h->writing && h->set < 0 && dims >= 0 && dims <= CAD_MAX_DIMS);
    cadp_h5_quiet();
    if (h->error) return cadp_h5_fail(h, name, "an earlier write failed");
    if (!plain_name(name)) return cadp_h5_fail(h, name, "expected a name of the form /group/name in UTF-8");
    if (cadp_h5_type(dtype) < 0)
        return cad_fail(CAD_EINTERNAL, "%s in %s: datasets hold F32, F64, I64, I32, I16, I8 or U8, not %s", name, h->path,
            cad_dtype_name(dtype));
    return begin_set(h, name, dtype, shape, dims);
}

cad_status cad_h5_write(cad_h5 *h, const void *bytes, int64_t elems)
{
    int64_t each = (int64_t)cad_dtype_bytes(h->dtype);

    CAD_ASSERT(h->writing && h->set >= 0 && elems >= 0);
    if (h->error) return cadp_h5_fail(h, h->set_name, "an earlier write failed");
    if (elems > h->elems - h->done)
        return cad_fail(CAD_EINTERNAL, "%s in %s: %" PRId64 " elements more than its shape has", h->set_name, h->path,
            elems - (h->elems - h->done));
    if (!cadp_disk_write(h->fd, &h->error, bytes, (size_t)(elems * each), h->at + h->done * each))
        return cadp_h5_fail(h, h->set_name, "cannot be written");
    h->crc = cad_crc32c(h->crc, bytes, (size_t)(elems * each));
    h->done += elems;
    return CAD_OK;
}

cad_status cad_h5_end(cad_h5 *h)
{
    cad_status status;

    CAD_ASSERT(h->writing && h->set >= 0);
    cadp_h5_quiet();
    if (h->done != h->elems && !h->error)
        return cad_fail(CAD_EINTERNAL, "%s in %s: %" PRId64 " of %" PRId64 " elements were written", h->set_name, h->path, h->done, h->elems);
    status = cadp_h5_put(h, h->set, "crc32c", H5T_STD_U32LE, H5T_NATIVE_UINT32, &h->crc);
    if (H5Dclose(h->set) < 0 && !status) status = cadp_h5_fail(h, h->set_name, "cannot be closed");
    h->set = -1;
    cad_free(&h->set_name);
    return status;
}

static cad_status read_bytes(cad_h5 *h, const char *name, void *out, size_t n, int64_t at)
{
    if (cadp_disk_read(h->fd, out, n, at)) return CAD_OK;
    return cadp_h5_fail(h, name, errno ? strerror(errno) : "its data go beyond the end of the file");
}

cad_status cad_h5_read(cad_h5 *h, const char *name, cad_dtype dtype, int64_t from, int64_t n, void *out)
{
    int64_t each = (int64_t)cad_dtype_bytes(dtype);
    cadp_h5_set found;
    hid_t set;

    CAD_TRY(cadp_h5_open_set(h, name, &set, &found));
    H5Dclose(set);
    if (found.dtype != dtype)
        return cad_fail(CAD_ECHECKPOINT, "%s in %s: expected %s values, found %s", name, h->path, cad_dtype_name(dtype),
            cad_dtype_name(found.dtype));
    if (from < 0 || n < 0 || from > found.elems || n > found.elems - from)
        return cad_fail(CAD_ECHECKPOINT, "%s in %s: expected at least %" PRId64 " elements, found %" PRId64, name, h->path, from + n,
            found.elems);
    return read_bytes(h, name, out, (size_t)(n * each), found.at + from * each);
}

cad_status cad_h5_shape(cad_h5 *h, const char *name, cad_dtype *dtype, int64_t *shape, int *dims)
{
    cadp_h5_set found;
    hid_t set;

    CAD_TRY(cadp_h5_open_set(h, name, &set, &found));
    H5Dclose(set);
    *dtype = found.dtype;
    *dims = found.dims;
    memcpy(shape, found.shape, (size_t)found.dims * sizeof *shape);
    return CAD_OK;
}

typedef struct visit {
    cad_h5 *h;
    const char *group;
    cad_status (*see)(void *with, const char *name);
    void *with;
    cad_status status;
} visit;

static herr_t visit_link(hid_t group, const char *name, const H5L_info_t *link, void *with)
{
    visit *v = with;
    cad_str full = {0};
    hid_t object = link->type == H5L_TYPE_HARD ? H5Oopen(group, name, H5P_DEFAULT) : -1;
    bool set = object >= 0 && H5Iget_type(object) == H5I_DATASET;

    if (object >= 0) H5Oclose(object);
    else v->status = cadp_h5_fail(v->h, name, "cannot be opened");
    if (set) {
        v->status = cad_str_addf(&full, "%s/%s", strcmp(v->group, "/") ? v->group : "", name);
        if (!v->status) v->status = v->see(v->with, full.data);
        cad_str_close(&full);
    }
    return v->status ? -1 : 0;
}

cad_status cad_h5_each(cad_h5 *h, const char *group, cad_status (*see)(void *with, const char *name), void *with)
{
    visit v = {.h = h, .group = group, .see = see, .with = with};
    herr_t done;

    cadp_h5_quiet();
    if (strcmp(group, "/") && !cad_h5_has(h, group)) return cadp_h5_fail(h, group, "this group is missing");
    done = H5Lvisit_by_name(h->file, group, H5_INDEX_NAME, H5_ITER_INC, visit_link, &v, H5P_DEFAULT);
    if (v.status) return v.status;
    return done < 0 ? cadp_h5_fail(h, group, "cannot be listed") : CAD_OK;
}

typedef struct verification { cad_h5 *h; char *piece; } verification;

static cad_status digest(const verification *v, const char *name, const cadp_h5_set *found, uint32_t *crc)
{
    int64_t left = found->elems * (int64_t)cad_dtype_bytes(found->dtype), at = found->at;

    for (*crc = 0; left; ) {
        int64_t n = cad_min(left, PIECE_BYTES);
        CAD_TRY(read_bytes(v->h, name, v->piece, (size_t)n, at));
        *crc = cad_crc32c(*crc, v->piece, (size_t)n);
        at += n;
        left -= n;
    }
    return CAD_OK;
}

static cad_status verify_set(void *with, const char *name)
{
    verification *v = with;
    cadp_h5_set found;
    hid_t set;
    uint32_t noted, crc;
    cad_status status;

    CAD_TRY(cadp_h5_open_set(v->h, name, &set, &found));
    status = cadp_h5_get(v->h, set, name, "crc32c", H5T_STD_U32LE, H5T_NATIVE_UINT32, &noted);
    H5Dclose(set);
    if (!status) status = digest(v, name, &found, &crc);
    if (!status && crc != noted)
        status = cad_fail(CAD_ECHECKPOINT, "%s in %s: its data are damaged: CRC32C %08" PRIx32 ", expected %08" PRIx32, name, v->h->path, crc,
            noted);
    return status;
}

cad_status cad_h5_verify(cad_h5 *h)
{
    verification v = {.h = h};
    cad_status status;

    CAD_TRY(cad_alloc(&v.piece, PIECE_BYTES, 1, "a piece of a dataset"));
    status = cad_h5_each(h, "/", verify_set, &v);
    cad_free(&v.piece);
    return status;
}
