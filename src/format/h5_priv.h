/* What the HDF5 files share; nobody outside src/format sees it. */
#ifndef CADTRAIN_H5_PRIV_H
#define CADTRAIN_H5_PRIV_H
#include <cadtrain/format.h>
#include <hdf5.h>

struct cad_h5 {
    char *path;
    int fd;
    bool writing;
    int error; /* errno of the first write that failed; nothing is written after it */
    hid_t driver, file;
    hid_t set; /* dataset between begin and end, else -1 */
    char *set_name;
    cad_dtype dtype;
    int64_t elems, done, at;
    uint32_t crc;
};

/* A dataset that was found to be one of ours: its bytes lie end to end in the file. */
typedef struct cadp_h5_set { cad_dtype dtype; int64_t shape[CAD_MAX_DIMS]; int dims; int64_t elems, at; } cadp_h5_set;

/* ---- h5_disk.c ---- */

typedef struct cadp_disk { int fd; bool writing; int *error; } cadp_disk; /* what a file access list carries */
/* Registers the driver; the file descriptor stays the caller's. -1 on failure. */
hid_t cadp_disk_driver(void);
/* Sets h->error and returns false when not all bytes could be written. */
bool cadp_disk_write(int fd, int *error, const void *bytes, size_t n, int64_t at);
/* False at the end of the file (errno 0) or on an error. */
bool cadp_disk_read(int fd, void *bytes, size_t n, int64_t at);

/* ---- h5_check.c ---- */

void cadp_h5_quiet(void);
/* The failure of an operation on object `name` (NULL: the file): a full disk when a write has failed. */
cad_status cadp_h5_fail(cad_h5 *h, const char *name, const char *what);
hid_t cadp_h5_type(cad_dtype d); /* borrowed; -1: HDF5 files of ours do not hold it */
CAD_CHECKED cad_status cadp_h5_describe(cad_h5 *h, hid_t set, const char *name, cadp_h5_set *out);
CAD_CHECKED cad_status cadp_h5_open_set(cad_h5 *h, const char *name, hid_t *set, cadp_h5_set *out);
/* Refuses whatever is no hard link to a group or to a plain dataset inside this file. */
CAD_CHECKED cad_status cadp_h5_check(cad_h5 *h);

/* ---- h5_attrs.c ---- */

CAD_CHECKED cad_status cadp_h5_put(cad_h5 *h, hid_t object, const char *name, hid_t file_type, hid_t memory_type, const void *value);
CAD_CHECKED cad_status cadp_h5_get(cad_h5 *h, hid_t object, const char *of, const char *name, hid_t file_type, hid_t memory_type, void *value);
#endif
