/* Elementary functions in fp32 without branches, so that loops over them become vector code. */
#ifndef CADP_CPU_MATH_H
#define CADP_CPU_MATH_H
#include <stdint.h>
#include <string.h>

static inline uint32_t cadp_bits(float x)
{
    uint32_t u;

    memcpy(&u, &x, 4);
    return u;
}

static inline float cadp_float(uint32_t u)
{
    float x;

    memcpy(&x, &u, 4);
    return x;
}

/* Rounded to fp16 and back, ties to even: to 11 digits, or from 2^-14 down to whole 2^-24; infinite from 65520 on. */
static inline float cadp_to_half(float x)
{
    uint32_t bits = cadp_bits(x) & 0x7fffffff, digits = (bits + 0xfff + ((bits >> 13) & 1)) & ~0x1fffu, small = cadp_bits((cadp_float(bits) + 0.5f) - 0.5f);
    uint32_t finite = digits < 0x47800000 ? digits : 0x7f800000, large = bits > 0x7f800000 ? bits : finite, y = bits < 0x38800000 ? small : large;

    return cadp_float(y | (cadp_bits(x) & 0x80000000));
}

/* 2^n for n in [-126, 127]. */
static inline float cadp_power(int32_t n) { return cadp_float((uint32_t)(n + 127) << 23); }

/* Cephes expf (Moshier): exp(x) = 2^n exp(r), |r| <= log(2) / 2; within 2 ulp, 0 below -103.97, infinite above 88.72. */
static inline float cadp_exp(float x)
{
    float y = x > 89 ? 89 : x, z = y < -104 ? -104 : y; /* NaN stays */
    float whole = z * 1.44269504088896341f + 12582912; /* 1.5 * 2^23: rounds to an integer in the low bits */
    int32_t n = (int32_t)(cadp_bits(whole) - cadp_bits(12582912)), half = n >> 1;
    float turns = whole - 12582912, r = z - turns * 0.693359375f - turns * -2.12194440e-4f, p = 1.9875691500e-4f;

    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1;
    return p * cadp_power(half) * cadp_power(n - half);
}

static inline float cadp_copysign(float x, float sign) { return cadp_float((cadp_bits(x) & 0x7fffffff) | (cadp_bits(sign) & 0x80000000)); }
static inline float cadp_abs(float x) { return cadp_float(cadp_bits(x) & 0x7fffffff); }

/* Cephes tanhf. */
static inline float cadp_tanh(float x)
{
    float t = cadp_abs(x), z = x * x, far = 1 - 2 / (cadp_exp(2 * t) + 1), p = -5.70498872745e-3f;

    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    p = p * z * x + x;
    return t < 0.625f ? p : cadp_copysign(far, x);
}

/* Minimax polynomials of N. Juffa (StackOverflow 35148198). */
static inline float cadp_erf(float x)
{
    float t = cadp_abs(x), s = x * x, far = -1.72853470e-5f * t + 3.83197126e-4f, near = -5.96761703e-4f;

    far = far * s + (-3.88396438e-3f * t + 2.42546219e-2f);
    far = far * t - 1.06777877e-1f;
    far = far * t - 6.34846687e-1f;
    far = far * t - 1.28717512e-1f;
    far = 1 - cadp_exp(far * t - t);
    near = near * s + 4.99119423e-3f;
    near = near * s - 2.67681349e-2f;
    near = near * s + 1.12819925e-1f;
    near = near * s - 3.76125336e-1f;
    near = near * s + 1.28379166e-1f;
    near = near * x + x;
    return t > 0.927734375f ? cadp_copysign(far, x) : near;
}

/* As cad_f32_to_bf16, without a branch. */
static inline uint16_t cadp_round_bf16(float x)
{
    uint32_t u = cadp_bits(x), rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16, quiet = u >> 16 | 0x40;

    return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}
#endif
