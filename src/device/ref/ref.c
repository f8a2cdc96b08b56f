#include "ref_priv.h"

#include <math.h>
#include <stdio.h>

/* To float by rounding to odd, so that the second rounding, to bfloat16, cannot double the first (Boldo and Melquiond). */
static uint16_t to_bf16(double value)
{
    float f = (float)value;
    uint32_t bits;

    if (!isfinite(f) || (double)f == value) return cad_f32_to_bf16(f);
    memcpy(&bits, &f, 4);
    if (fabs((double)f) > fabs(value)) bits--;
    bits |= 1;
    memcpy(&f, &bits, 4);
    return cad_f32_to_bf16(f);
}

void cadp_store(cad_tensor t, int64_t i, int64_t j, double value)
{
    int64_t at = i * t.ld + j;

    switch (t.dtype) {
    case CAD_F64: ((double *)t.data)[at] = value; break;
    case CAD_F32: ((float *)t.data)[at] = (float)value; break;
    case CAD_BF16: ((uint16_t *)t.data)[at] = to_bf16(value); break;
    default: CAD_ASSERT(!"a real dtype");
    }
}

static cad_status open_ref(cad_device *d)
{
    snprintf(d->description, sizeof d->description, "plain loops in double precision, 1 thread");
    return CAD_OK;
}

static void close_ref(cad_device *d) { (void)d; }

static cad_status alloc(cad_device *d, void **out, int64_t bytes, const char *what)
{
    (void)d;
    return cad_alloc(out, (size_t)bytes, 1, what);
}

static cad_status release(cad_device *d, void *p, int64_t bytes)
{
    (void)d, (void)bytes;
    cad_free(&p);
    return CAD_OK;
}

static cad_status move(cad_device *d, void *to, const void *from, int64_t bytes)
{
    (void)d;
    if (from)
        memmove(to, from, (size_t)bytes);
    else
        memset(to, 0, (size_t)bytes);
    return CAD_OK;
}

static cad_status sync_ref(cad_device *d)
{
    (void)d;
    return CAD_OK;
}

#define ROW(name, args) .name = cadp_ref_##name,
const cadp_device_if cadp_device_ref = {
    .name = "ref", .doubles = true, .open = open_ref, .close = close_ref, .alloc = alloc, .release = release, .move = move, .sync = sync_ref,
    CADP_OPS(ROW)
    .attention_fwd_work = cadp_ref_attention_fwd_work, .attention_bwd_work = cadp_ref_attention_bwd_work,
};
#undef ROW
