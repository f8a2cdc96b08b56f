#include "h5_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

void cadp_h5_quiet(void)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

cad_status cadp_h5_fail(cad_h5 *h, const char *name, const char *what)
{
    bool full = h->error == ENOSPC || h->error == EDQUOT || h->error == EFBIG;

    if (!h->error)
        return cad_fail(CAD_ECHECKPOINT, "%s%s%s: %s", name ? name : "", name ? " in " : "", h->path, what);
    return cad_fail(full ? CAD_ERESOURCE : CAD_ECHECKPOINT, "%s%s%s: cannot write: %s", name ? name : "", name ? " in " : "", h->path,
        strerror(h->error));
}

hid_t cadp_h5_type(cad_dtype d)
{
    switch (d) {
    case CAD_F32: return H5T_IEEE_F32LE;
    case CAD_F64: return H5T_IEEE_F64LE;
    case CAD_I64: return H5T_STD_I64LE;
    case CAD_I32: return H5T_STD_I32LE;
    case CAD_I16: return H5T_STD_I16LE;
    case CAD_I8: return H5T_STD_I8LE;
    case CAD_U8: return H5T_STD_U8LE;
    default: return -1;
    }
}

static cad_status read_dtype(cad_h5 *h, hid_t set, const char *name, cad_dtype *out)
{
    static const cad_dtype known[] = {CAD_F32, CAD_F64, CAD_I64, CAD_I32, CAD_I16, CAD_I8, CAD_U8};
    hid_t type = H5Dget_type(set);
    bool found = false;

    for (size_t i = 0; type >= 0 && !found && i < sizeof known / sizeof *known; i++)
        if ((found = H5Tequal(type, cadp_h5_type(known[i])) > 0)) *out = known[i];
    if (type >= 0) H5Tclose(type);
    return found ? CAD_OK : cadp_h5_fail(h, name, "expected little-endian F32, F64, I64, I32, I16, I8 or U8 values, found another type");
}

/* Before anything else is asked of a dataset: its bytes must lie plainly in this very file. */
static cad_status check_storage(cad_h5 *h, hid_t set, const char *name)
{
    hid_t list = H5Dget_create_plist(set);
    const char *bad = NULL;

    if (list < 0) return cadp_h5_fail(h, name, "how it is stored cannot be read");
    if (H5Pget_external_count(list) != 0) bad = "its data lie in another file (external storage), which is refused";
    else if (H5Pget_layout(list) == H5D_VIRTUAL) bad = "it is a virtual dataset made of other files, which is refused";
    else if (H5Pget_nfilters(list) != 0) bad = "its data pass through a filter (compression), which is refused";
    else if (H5Pget_layout(list) != H5D_CONTIGUOUS) bad = "expected contiguous storage, found chunked or compact";
    H5Pclose(list);
    return bad ? cadp_h5_fail(h, name, bad) : CAD_OK;
}

static cad_status read_shape(cad_h5 *h, hid_t set, const char *name, cadp_h5_set *out)
{
    hid_t space = H5Dget_space(set);
    hsize_t shape[H5S_MAX_RANK];
    H5S_class_t kind = space < 0 ? H5S_NO_CLASS : H5Sget_simple_extent_type(space);
    int dims = kind == H5S_SIMPLE || kind == H5S_SCALAR ? H5Sget_simple_extent_dims(space, shape, NULL) : -1;

    if (space >= 0) H5Sclose(space);
    if (dims < 0 || dims > CAD_MAX_DIMS) return cadp_h5_fail(h, name, "expected a shape of at most 8 dimensions");
    out->dims = dims;
    out->elems = 1;
    for (int d = 0; d < dims; d++) {
        if (shape[d] > INT64_MAX || __builtin_mul_overflow(out->elems, (int64_t)shape[d], &out->elems))
            return cadp_h5_fail(h, name, "its shape has more than 2^63 elements");
        out->shape[d] = (int64_t)shape[d];
    }
    return CAD_OK;
}

/* A file of a kilobyte may declare terabytes: the bytes must be there. */
static cad_status find_bytes(cad_h5 *h, hid_t set, const char *name, cadp_h5_set *out)
{
    struct stat at;
    int64_t bytes;
    haddr_t place;

    if (__builtin_mul_overflow(out->elems, (int64_t)cad_dtype_bytes(out->dtype), &bytes))
        return cadp_h5_fail(h, name, "its shape has more than 2^63 bytes");
    if (!bytes) return CAD_OK;
    place = H5Dget_offset(set);
    if (place == HADDR_UNDEF || place > INT64_MAX || fstat(h->fd, &at)) return cadp_h5_fail(h, name, "its data were never written");
    if (!h->writing && (bytes > at.st_size || (int64_t)place > at.st_size - bytes))
        return cad_fail(CAD_ECHECKPOINT, "%s in %s: its %" PRId64 " bytes of data go beyond the end of the file (%lld bytes)", name, h->path,
            bytes, (long long)at.st_size);
    out->at = (int64_t)place;
    return CAD_OK;
}

cad_status cadp_h5_describe(cad_h5 *h, hid_t set, const char *name, cadp_h5_set *out)
{
    *out = (cadp_h5_set){0};
    CAD_TRY(check_storage(h, set, name));
    CAD_TRY(read_dtype(h, set, name, &out->dtype));
    CAD_TRY(read_shape(h, set, name, out));
    return find_bytes(h, set, name, out);
}

cad_status cadp_h5_open_set(cad_h5 *h, const char *name, hid_t *set, cadp_h5_set *out)
{
    cad_status status;

    cadp_h5_quiet();
    if (!cad_h5_has(h, name)) return cadp_h5_fail(h, name, "this dataset is missing");
    *set = H5Dopen2(h->file, name, H5P_DEFAULT);
    if (*set < 0) return cadp_h5_fail(h, name, "expected a dataset that can be read");
    status = cadp_h5_describe(h, *set, name, out);
    if (status) H5Dclose(*set);
    return status;
}

static cad_status check_object(cad_h5 *h, hid_t object, const char *name)
{
    cadp_h5_set ignored;

    switch (H5Iget_type(object)) {
    case H5I_GROUP: return CAD_OK;
    case H5I_DATASET: return cadp_h5_describe(h, object, name, &ignored);
    default: return cadp_h5_fail(h, name, "expected a group or a dataset, found something else");
    }
}

typedef struct visit { cad_h5 *h; cad_status status; } visit;

static herr_t check_link(hid_t group, const char *name, const H5L_info_t *link, void *with)
{
    visit *v = with;
    hid_t object;

    if (link->type != H5L_TYPE_HARD) {
        v->status = cadp_h5_fail(v->h, name, "it is a link by name (soft or to another file), which is refused");
        return -1;
    }
    object = H5Oopen(group, name, H5P_DEFAULT);
    v->status = object < 0 ? cadp_h5_fail(v->h, name, "cannot be opened: the file is damaged") : check_object(v->h, object, name);
    if (object >= 0) H5Oclose(object);
    return v->status ? -1 : 0;
}

cad_status cadp_h5_check(cad_h5 *h)
{
    visit v = {.h = h};
    herr_t done = H5Lvisit(h->file, H5_INDEX_NAME, H5_ITER_INC, check_link, &v);

    if (v.status) return v.status;
    return done < 0 ? cadp_h5_fail(h, NULL, "its contents cannot be listed: the file is damaged") : CAD_OK;
}
