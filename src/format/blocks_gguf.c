/* Quantised blocks as ggml lays them out (ggml-common.h, ggml-quants.c: dequantize_row_*), product by product in its order. */
#include "st_priv.h"

#include <math.h>

static float half_at(const unsigned char *p) { return cad_f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }

/* d, 16 bytes of two values each: the low halves first. */
static void unpack_q4_0(const unsigned char *b, float *y)
{
    float d = half_at(b);

    for (int j = 0; j < 16; j++) {
        y[j] = (float)((b[2 + j] & 15) - 8) * d;
        y[j + 16] = (float)((b[2 + j] >> 4) - 8) * d;
    }
}

static void unpack_q4_1(const unsigned char *b, float *y)
{
    float d = half_at(b), m = half_at(b + 2);

    for (int j = 0; j < 16; j++) {
        y[j] = (float)(b[4 + j] & 15) * d + m;
        y[j + 16] = (float)(b[4 + j] >> 4) * d + m;
    }
}

static uint32_t bits_at(const unsigned char *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }

/* The fifth bit of each of the 32 values lies in a word before the halves. */
static void unpack_q5_0(const unsigned char *b, float *y)
{
    float d = half_at(b);
    uint32_t high = bits_at(b + 2);

    for (int j = 0; j < 16; j++) {
        y[j] = (float)((int)((b[6 + j] & 15) | (high >> j & 1) << 4) - 16) * d;
        y[j + 16] = (float)((int)((uint32_t)(b[6 + j] >> 4) | (high >> (j + 16) & 1) << 4) - 16) * d;
    }
}

static void unpack_q5_1(const unsigned char *b, float *y)
{
    float d = half_at(b), m = half_at(b + 2);
    uint32_t high = bits_at(b + 4);

    for (int j = 0; j < 16; j++) {
        y[j] = (float)((b[8 + j] & 15) | (high >> j & 1) << 4) * d + m;
        y[j + 16] = (float)((uint32_t)(b[8 + j] >> 4) | (high >> (j + 16) & 1) << 4) * d + m;
    }
}

static void unpack_q8_0(const unsigned char *b, float *y)
{
    float d = half_at(b);

    for (int j = 0; j < 32; j++) y[j] = (float)(int8_t)b[2 + j] * d;
}

/* Eight scales and eight minima of six bits in twelve bytes. */
static void scale_min(const unsigned char *s, int j, float *scale, float *min)
{
    if (j < 4) {
        *scale = (float)(s[j] & 63);
        *min = (float)(s[j + 4] & 63);
    } else {
        *scale = (float)((s[j + 4] & 15) | (s[j - 4] >> 6) << 4);
        *min = (float)(s[j + 4] >> 4 | (s[j] >> 6) << 4);
    }
}

static void unpack_q4_k(const unsigned char *b, float *y)
{
    float d = half_at(b), min = half_at(b + 2), s, m;
    const unsigned char *q = b + 16;

    for (int j = 0; j < 8; j++, y += 32) {
        scale_min(b + 4, j, &s, &m);
        float d1 = d * s, m1 = min * m;
        for (int l = 0; l < 32; l++) y[l] = d1 * (float)(j & 1 ? q[l] >> 4 : q[l] & 15) - m1;
        if (j & 1) q += 32;
    }
}

static void unpack_q5_k(const unsigned char *b, float *y)
{
    float d = half_at(b), min = half_at(b + 2), s, m;
    const unsigned char *high = b + 16, *q = b + 48;

    for (int j = 0; j < 8; j++, y += 32) {
        scale_min(b + 4, j, &s, &m);
        float d1 = d * s, m1 = min * m;
        for (int l = 0; l < 32; l++) y[l] = d1 * (float)((j & 1 ? q[l] >> 4 : q[l] & 15) + (high[l] >> j & 1) * 16) - m1;
        if (j & 1) q += 32;
    }
}

/* Sixteen scales of eight bits; of each value four bits in `low`, two in `high`. */
static void unpack_q6_k(const unsigned char *b, float *y)
{
    const unsigned char *low = b, *high = b + 128, *scale = b + 192;
    float d = half_at(b + 208);

    for (int part = 0; part < 2; part++, low += 64, high += 32, scale += 8, y += 128)
        for (int l = 0; l < 32; l++)
            for (int k = 0; k < 4; k++) {
                int nibble = k < 2 ? low[l + 32 * k] & 15 : low[l + 32 * (k - 2)] >> 4;
                int value = (nibble | (high[l] >> (2 * k) & 3) << 4) - 32;
                y[l + 32 * k] = d * (float)(int8_t)scale[l / 16 + 2 * k] * (float)value;
            }
}

enum { LARGEST_BLOCK = 256 };
static const struct { const char *name; int64_t elems; size_t bytes; void (*unpack)(const unsigned char *b, float *y); } packs[] = {
    [CAD_PACK_NONE] = {"", 1, 0, NULL},
    [CAD_PACK_Q4_0] = {"Q4_0", 32, 18, unpack_q4_0}, [CAD_PACK_Q4_1] = {"Q4_1", 32, 20, unpack_q4_1},
    [CAD_PACK_Q5_0] = {"Q5_0", 32, 22, unpack_q5_0}, [CAD_PACK_Q5_1] = {"Q5_1", 32, 24, unpack_q5_1},
    [CAD_PACK_Q8_0] = {"Q8_0", 32, 34, unpack_q8_0}, [CAD_PACK_Q4_K] = {"Q4_K", 256, 144, unpack_q4_k},
    [CAD_PACK_Q5_K] = {"Q5_K", 256, 176, unpack_q5_k}, [CAD_PACK_Q6_K] = {"Q6_K", 256, 210, unpack_q6_k},
};

int64_t cadp_pack_elems(cad_pack pack) { return packs[pack].elems; }
size_t cadp_pack_bytes(cad_pack pack) { return packs[pack].bytes; }
const char *cadp_pack_name(cad_pack pack) { return packs[pack].name; }

void cadp_unpack_values(cad_pack pack, const void *blocks, int64_t from, int64_t n, float *out)
{
    int64_t each = packs[pack].elems, skip = from % each;
    const unsigned char *b = (const unsigned char *)blocks + (size_t)(from / each) * packs[pack].bytes;
    float whole[LARGEST_BLOCK];

    for (; n > 0; b += packs[pack].bytes) {
        int64_t count = cad_min(n, each - skip);
        if (count == each) packs[pack].unpack(b, out);
        else {
            packs[pack].unpack(b, whole);
            memcpy(out, whole + skip, (size_t)count * sizeof *out);
        }
        out += count;
        n -= count;
        skip = 0;
    }
}

/* quantize_row_q8_0_ref: the scale is used before it is rounded to a half. */
void cadp_pack_q8_0(const float *x, int64_t n, unsigned char *out)
{
    for (; n > 0; n -= 32, x += 32, out += 34) {
        float most = 0;
        for (int i = 0; i < 32; i++) most = fmaxf(most, fabsf(x[i]));
        float d = most / 127.0f, inverse = d != 0 ? 1.0f / d : 0.0f;
        uint16_t half = cad_f32_to_f16(d);
        out[0] = (unsigned char)half;
        out[1] = (unsigned char)(half >> 8);
        for (int i = 0; i < 32; i++) out[2 + i] = (unsigned char)(int8_t)roundf(x[i] * inverse);
    }
}
