/* Any bytes as a checkpoint's state.h5: refused in one sentence, or all of it can be read, or is said to be damaged. */
#include "fuzz.h"

#include <cadtrain/format.h>

#include <hdf5.h>

/* HDF5 1.10 loses some 400 bytes for each header of an object whose checksum is wrong. What we would lose of its objects, obj_count tells below. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libhdf5"; }

const int fuzz_near = 2000;

static cad_status fill(cad_h5 *h)
{
    static const double largest[] = {1, 0.5};
    static const float weights[] = {1, 2, 3, 4, 5, 6};

    CAD_TRY(cad_h5_set_text(h, "format", "cadtrain-state-1"));
    CAD_TRY(cad_h5_set_int(h, "step", 7));
    CAD_TRY(cad_h5_set_real(h, "epoch", 0.25));
    CAD_TRY(cad_h5_begin(h, "/cadtrain/largest", CAD_F64, (const int64_t[]){2}, 1));
    CAD_TRY(cad_h5_write(h, largest, 2));
    CAD_TRY(cad_h5_end(h));
    CAD_TRY(cad_h5_begin(h, "/weights/model.norm.weight", CAD_F32, (const int64_t[]){3, 2}, 2));
    CAD_TRY(cad_h5_write(h, weights, 6));
    return cad_h5_end(h);
}

bool fuzz_seed(int i, cad_str *out)
{
    const char *path;
    char *bytes;
    size_t n;
    cad_h5 *h;

    if (i > 1) return false;
    cad_h5_setup();
    path = fuzz_keep("seed.h5", "", 0);
    CAD_ASSERT(!unlink(path) && !cad_h5_create(&h, path));
    CAD_ASSERT(i || !fill(h));
    CAD_ASSERT(!cad_h5_close(&h) && !cad_read_file(&bytes, &n, path, 1 << 20, CAD_EDATA) && !cad_str_add(out, bytes, n));
    cad_free(&bytes);
    return true;
}

static cad_status see(void *with, const char *name)
{
    cad_h5 *h = with;
    int64_t shape[CAD_MAX_DIMS], elems = 1;
    cad_dtype dtype;
    int dims;
    char *x;
    cad_status status;

    CAD_TRY(cad_h5_shape(h, name, &dtype, shape, &dims));
    for (int d = 0; d < dims; d++) elems *= shape[d];
    CAD_TRY(cad_alloc(&x, (size_t)cad_max(elems, 1), cad_dtype_bytes(dtype), "values"));
    status = cad_h5_read(h, name, dtype, 0, elems, x);
    cad_free(&x);
    return status;
}

static void read_attributes(cad_h5 *h)
{
    int64_t step;
    double epoch;
    char *format = NULL;

    if (cad_h5_get_int(h, "step", &step)) CAD_ASSERT(cad_reason()[0]);
    if (cad_h5_get_real(h, "epoch", &epoch)) CAD_ASSERT(cad_reason()[0]);
    if (cad_h5_get_text(h, "format", &format)) CAD_ASSERT(cad_reason()[0]);
    cad_free(&format);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static bool ready;
    cad_h5 *h;

    if (!ready) cad_h5_setup();
    ready = true;
    cad_clear();
    if (cad_h5_open(&h, fuzz_keep("state.h5", bytes, n))) CAD_ASSERT(cad_reason()[0]);
    else {
        if (cad_h5_verify(h)) CAD_ASSERT(cad_reason()[0]);
        if (cad_h5_each(h, "/", see, h)) CAD_ASSERT(cad_reason()[0]);
        read_attributes(h);
        if (cad_h5_close(&h)) CAD_ASSERT(cad_reason()[0]);
    }
    cad_clear();
    CAD_ASSERT(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL) == 0);
    CAD_ASSERT(!cad_mem_blocks());
    return 0;
}
