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

/* Each loop runs over a block of fixed length, so that compilers vectorise it at -O2. */
enum { BLOCK = 64 };
typedef void widen_block(const unsigned char *in, float *restrict out);

static void copy_f32(const unsigned char *in, float *restrict out) { memcpy(out, in, BLOCK * sizeof *out); }

static void widen_bf16(const unsigned char *in, float *restrict out)
{
    for (int i = 0; i < BLOCK; i++) {
        uint16_t h;
        memcpy(&h, in + 2 * i, 2);
        out[i] = cad_bf16_to_f32(h);
    }
}

/* Exponent and mantissa move to their places and the exponent is rebased by adding: 112 = 127 - 15, twice for infinity and NaN.
 * A number below 2^-14 gets an exponent it must not have, which a subtraction takes away exactly. No branches. */
static void widen_f16(const unsigned char *in, float *restrict out)
{
    const uint32_t exponent = 31u << 23, rebase = 112u << 23, tiny = 113u << 23;
    uint32_t u[BLOCK], less[BLOCK];
    float f[BLOCK], l[BLOCK];

    for (int i = 0; i < BLOCK; i++) {
        uint16_t h;
        memcpy(&h, in + 2 * i, 2);
        uint32_t v = (uint32_t)(h & 0x7fffu) << 13, e = v & exponent;
        uint32_t small = e == 0 ? ~0u : 0, huge = e == exponent ? ~0u : 0;
        u[i] = v + rebase + (small & 1u << 23) + (huge & rebase);
        less[i] = small & tiny;
    }
    memcpy(f, u, sizeof f);
    memcpy(l, less, sizeof l);
    for (int i = 0; i < BLOCK; i++) out[i] = f[i] - l[i];
    memcpy(u, out, sizeof u);
    for (int i = 0; i < BLOCK; i++) {
        uint16_t h;
        memcpy(&h, in + 2 * i, 2);
        u[i] |= (uint32_t)(h & 0x8000u) << 16;
    }
    memcpy(out, u, sizeof u);
}

static void narrow_f64(const unsigned char *in, float *restrict out)
{
    for (int i = 0; i < BLOCK; i++) {
        double d;
        memcpy(&d, in + 8 * i, 8);
        out[i] = (float)d;
    }
}

void cadp_to_f32(cad_dtype d, const void *bytes, int64_t n, float *out)
{
    static widen_block *const widen[DTYPES] = {[CAD_F32] = copy_f32, [CAD_BF16] = widen_bf16, [CAD_F16] = widen_f16, [CAD_F64] = narrow_f64};
    const unsigned char *in = bytes;
    size_t each = cad_dtype_bytes(d);
    unsigned char last[BLOCK * 8] = {0};
    float wide[BLOCK];

    CAD_ASSERT(widen[d]);
    for (; n >= BLOCK; n -= BLOCK, in += BLOCK * each, out += BLOCK) widen[d](in, out);
    if (!n) return;
    memcpy(last, in, (size_t)n * each);
    widen[d](last, wide);
    memcpy(out, wide, (size_t)n * sizeof *out);
}
