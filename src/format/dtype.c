#include "st_priv.h"

static const struct { const char *name; size_t bytes; } dtypes[] = {
    [CAD_F32] = {"F32", 4}, [CAD_BF16] = {"BF16", 2}, [CAD_F16] = {"F16", 2}, [CAD_F64] = {"F64", 8}, [CAD_I64] = {"I64", 8},
    [CAD_I32] = {"I32", 4}, [CAD_I16] = {"I16", 2}, [CAD_I8] = {"I8", 1}, [CAD_U8] = {"U8", 1}, [CAD_BOOL8] = {"BOOL", 1},
};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

size_t cad_dtype_bytes(cad_dtype d)
{
    CAD_ASSERT((unsigned)d < DTYPES);
    return dtypes[d].bytes;
}

const char *cad_dtype_name(cad_dtype d)
{
    CAD_ASSERT((unsigned)d < DTYPES);
    return dtypes[d].name;
}

bool cadp_dtype_find(cad_dtype *out, const char *name)
{
    for (int i = 0; i < DTYPES; i++)
        if (!strcmp(dtypes[i].name, name)) {
            *out = (cad_dtype)i;
            return true;
        }
    return false;
}

/* The loops below run over blocks of a fixed length so that compilers vectorise them at -O2. */
enum { BLOCK = 64 };

static void widen_bf16(const unsigned char *in, float *restrict out, int n)
{
    for (int i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, in + 2 * i, 2);
        out[i] = cad_bf16_to_f32(h);
    }
}

/* Exponent and mantissa move to their places and the exponent is rebased by adding; a number below 2^-14 gets an exponent it
 * must not have, which a subtraction takes away exactly. */
static void widen_f16(const unsigned char *in, float *restrict out, int n)
{
    const float tiny = 0x1p-14f;

    for (int i = 0; i < n; i++) {
        uint16_t h;
        uint32_t u, e, sign;
        float f, less;

        memcpy(&h, in + 2 * i, 2);
        sign = (uint32_t)(h & 0x8000u) << 16;
        u = (uint32_t)(h & 0x7fffu) << 13;
        e = u & 0x0f800000u;
        u += e == 0 ? 113u << 23 : e == 0x0f800000u ? 224u << 23 : 112u << 23;
        memcpy(&f, &u, 4);
        less = f - tiny;
        f = e == 0 ? less : f;
        memcpy(&u, &f, 4);
        u |= sign;
        memcpy(out + i, &u, 4);
    }
}

static void narrow_f64(const unsigned char *in, float *restrict out, int n)
{
    for (int i = 0; i < n; i++) {
        double d;
        memcpy(&d, in + 8 * i, 8);
        out[i] = (float)d;
    }
}

void cadp_to_f32(cad_dtype d, const void *bytes, int64_t n, float *out)
{
    const unsigned char *in = bytes;
    size_t each = cad_dtype_bytes(d);
    int64_t i = 0;

    if (d == CAD_F32) {
        if (n) memcpy(out, in, (size_t)n * 4);
        return;
    }
    for (; i + BLOCK <= n; i += BLOCK, in += BLOCK * each, out += BLOCK) {
        if (d == CAD_BF16) widen_bf16(in, out, BLOCK);
        else if (d == CAD_F16) widen_f16(in, out, BLOCK);
        else narrow_f64(in, out, BLOCK);
    }
    if (d == CAD_BF16) widen_bf16(in, out, (int)(n - i));
    else if (d == CAD_F16) widen_f16(in, out, (int)(n - i));
    else narrow_f64(in, out, (int)(n - i));
}
