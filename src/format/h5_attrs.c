#include "h5_priv.h"

enum { LONGEST_TEXT = 1 << 24 };

cad_status cadp_h5_put(cad_h5 *h, hid_t object, const char *name, hid_t file_type, hid_t memory_type, const void *value)
{
    hid_t space, attribute = -1;
    bool failed;

    if (H5Aexists(object, name) > 0 && H5Adelete(object, name) < 0) return cadp_h5_fail(h, name, "the attribute cannot be replaced");
    space = H5Screate(H5S_SCALAR);
    if (space >= 0) attribute = H5Acreate2(object, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
    failed = attribute < 0 || H5Awrite(attribute, memory_type, value) < 0;
    if (attribute >= 0) failed |= H5Aclose(attribute) < 0;
    if (space >= 0) H5Sclose(space);
    return failed || h->error ? cadp_h5_fail(h, name, "the attribute cannot be written") : CAD_OK;
}

static cad_status open_attribute(cad_h5 *h, hid_t object, const char *of, const char *name, hid_t *out)
{
    hid_t space;
    bool one;

    if (H5Aexists(object, name) <= 0)
        return cad_fail(CAD_ECHECKPOINT, "%s in %s: attribute '%s' is missing", of, h->path, name);
    *out = H5Aopen(object, name, H5P_DEFAULT);
    if (*out < 0) return cadp_h5_fail(h, name, "the attribute cannot be read");
    space = H5Aget_space(*out);
    one = space >= 0 && H5Sget_simple_extent_npoints(space) == 1;
    if (space >= 0) H5Sclose(space);
    if (one) return CAD_OK;
    H5Aclose(*out);
    return cadp_h5_fail(h, name, "expected an attribute of one value");
}

cad_status cadp_h5_get(cad_h5 *h, hid_t object, const char *of, const char *name, hid_t file_type, hid_t memory_type, void *value)
{
    hid_t attribute, type;
    bool same;
    cad_status status = CAD_OK;

    CAD_TRY(open_attribute(h, object, of, name, &attribute));
    type = H5Aget_type(attribute);
    same = type >= 0 && H5Tequal(type, file_type) > 0;
    if (!same) status = cadp_h5_fail(h, name, "the attribute has another type than expected");
    else if (H5Aread(attribute, memory_type, value) < 0) status = cadp_h5_fail(h, name, "the attribute cannot be read");
    if (type >= 0) H5Tclose(type);
    H5Aclose(attribute);
    return status;
}

static hid_t text_type(size_t bytes)
{
    hid_t type = H5Tcopy(H5T_C_S1);

    if (type >= 0 && H5Tset_size(type, bytes) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0) return type;
    if (type >= 0) H5Tclose(type);
    return -1;
}

cad_status cad_h5_set_int(cad_h5 *h, const char *name, int64_t value)
{
    return cadp_h5_put(h, h->file, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

cad_status cad_h5_set_real(cad_h5 *h, const char *name, double value)
{
    return cadp_h5_put(h, h->file, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
}

cad_status cad_h5_set_text(cad_h5 *h, const char *name, const char *value)
{
    hid_t type = text_type(strlen(value) + 1);
    cad_status status;

    if (type < 0) return cadp_h5_fail(h, name, "the attribute cannot be written");
    status = cadp_h5_put(h, h->file, name, type, type, value);
    H5Tclose(type);
    return status;
}

cad_status cad_h5_get_int(cad_h5 *h, const char *name, int64_t *value)
{
    return cadp_h5_get(h, h->file, "/", name, H5T_STD_I64LE, H5T_NATIVE_INT64, value);
}

cad_status cad_h5_get_real(cad_h5 *h, const char *name, double *value)
{
    return cadp_h5_get(h, h->file, "/", name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, value);
}

static cad_status read_text(cad_h5 *h, hid_t attribute, hid_t type, const char *name, char **value)
{
    size_t n;

    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0)
        return cadp_h5_fail(h, name, "expected an attribute that is text of a fixed length");
    n = H5Tget_size(type);
    if (n > LONGEST_TEXT) return cadp_h5_fail(h, name, "the attribute's text is longer than 16 MB");
    CAD_TRY(cad_alloc(value, n + 1, 1, "an attribute"));
    if (H5Aread(attribute, type, *value) >= 0) return CAD_OK;
    cad_free(value);
    return cadp_h5_fail(h, name, "the attribute cannot be read");
}

cad_status cad_h5_get_text(cad_h5 *h, const char *name, char **value)
{
    hid_t attribute, type;
    cad_status status;

    *value = NULL;
    CAD_TRY(open_attribute(h, h->file, "/", name, &attribute));
    type = H5Aget_type(attribute);
    status = type < 0 ? cadp_h5_fail(h, name, "the attribute cannot be read") : read_text(h, attribute, type, name, value);
    if (type >= 0) H5Tclose(type);
    H5Aclose(attribute);
    return status;
}
