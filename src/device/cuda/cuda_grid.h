/* What kernels are written in: one meaning for nvcc, one for the host. Blocks are one row of threads, a multiple of 32; shared memory is
 * that of the launch. Names of functions that other files see are GRID(name): both builds may be in one program. */
#ifndef CADP_CUDA_GRID_H
#define CADP_CUDA_GRID_H
#include <cadtrain/device.h>
#include <math.h>
extern "C" {
#include "../device_priv.h"
}
#include "cuda_rt.h"
#ifdef __CUDACC__
#include "nvcc_grid.h"
#else
#include "emulated_api.h"
#endif

/* A bf16 is kept as its bits. Sixteen bytes move at once where addresses allow it. */
typedef struct bf16 { uint16_t bits; } bf16;
typedef struct alignas(16) sixteen { uint32_t w[4]; } sixteen;

ON_DEVICE float as_float(uint32_t bits) { float f; memcpy(&f, &bits, 4); return f; }
ON_DEVICE uint32_t as_bits(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
ON_DEVICE float low_half(uint32_t two) { return as_float(two << 16); }
ON_DEVICE float high_half(uint32_t two) { return as_float(two & 0xffff0000u); }

ON_DEVICE float get(const float *p) { return *p; }
ON_DEVICE float get(const bf16 *p) { return as_float((uint32_t)p->bits << 16); }
ON_DEVICE void put(float *p, float v) { *p = v; }
ON_DEVICE void put(bf16 *p, float v) { p->bits = (uint16_t)pack_bf16(v, 0); }

/* n <= 8 elements from p on; whole: all eight, sixteen bytes at a time. */
ON_DEVICE void get8(float v[8], const bf16 *p, int n, bool whole)
{
    if (whole) {
        sixteen s = *(const sixteen *)p;
#pragma unroll
        for (int i = 0; i < 4; i++) v[2 * i] = low_half(s.w[i]), v[2 * i + 1] = high_half(s.w[i]);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = i < n ? get(p + i) : 0;
    }
}
ON_DEVICE void get8(float v[8], const float *p, int n, bool whole)
{
    if (whole) {
        sixteen a = ((const sixteen *)p)[0], b = ((const sixteen *)p)[1];
#pragma unroll
        for (int i = 0; i < 4; i++) v[i] = as_float(a.w[i]), v[4 + i] = as_float(b.w[i]);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = i < n ? p[i] : 0;
    }
}
ON_DEVICE void put8(bf16 *p, const float v[8], int n, bool whole)
{
    if (whole) {
        sixteen s;
#pragma unroll
        for (int i = 0; i < 4; i++) s.w[i] = pack_bf16(v[2 * i], v[2 * i + 1]);
        *(sixteen *)p = s;
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (i < n) put(p + i, v[i]);
    }
}
ON_DEVICE void put8(float *p, const float v[8], int n, bool whole)
{
    if (whole) {
        sixteen a, b;
#pragma unroll
        for (int i = 0; i < 4; i++) a.w[i] = as_bits(v[i]), b.w[i] = as_bits(v[4 + i]);
        ((sixteen *)p)[0] = a;
        ((sixteen *)p)[1] = b;
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (i < n) p[i] = v[i];
    }
}

/* Where element (row, col) of a view lies. */
template <class T> ON_DEVICE T *at(const cad_tensor &t, int64_t row, int64_t col) { return (T *)t.data + row * t.ld + col; }

/* ---- sums over a warp and over a block, in one order ---- */

template <class T> ON_DEVICE T warp_sum(T v)
{
#pragma unroll
    for (int mask = 16; mask; mask /= 2) v += shuffle_xor(v, mask);
    return v;
}
ON_DEVICE float warp_max(float v)
{
#pragma unroll
    for (int mask = 16; mask; mask /= 2) v = fmaxf(v, shuffle_xor(v, mask));
    return v;
}
/* room: shared, one element per warp. Every thread receives the sum. */
template <class T> ON_DEVICE T block_sum(T v, T *room)
{
    T sum = 0;

    v = warp_sum(v);
    block_barrier(); /* those before may still read room */
    if (here_lane() == 0) room[here_warp()] = v;
    block_barrier();
    for (int w = 0; w < here_threads() / 32; w++) sum += room[w];
    return sum;
}
ON_DEVICE float block_max(float v, float *room)
{
    float top;

    v = warp_max(v);
    block_barrier();
    if (here_lane() == 0) room[here_warp()] = v;
    block_barrier();
    top = room[0];
    for (int w = 1; w < here_threads() / 32; w++) top = fmaxf(top, room[w]);
    return top;
}

/* ---- the host's side ---- */

enum { MOST_ACROSS = 65535 }; /* blocks in the second and third dimension: a GPU has no more, and the emulated grid refuses them too */
static inline unsigned upto(int64_t n, int64_t most) { return (unsigned)cad_max(1, cad_min(n, most)); }
static inline cadp_dim dim(int64_t x, int64_t y, int64_t z) { cadp_dim d = {(int)x, (int)y, (int)z}; return d; }

/* Whether rows may be read sixteen bytes at a time. */
static inline bool lies_wide(cad_tensor t)
{
    return (uintptr_t)t.data % 16 == 0 && (t.rows == 1 || t.ld * (int64_t)cad_dtype_bytes(t.dtype) % 16 == 0);
}
/* One row where that is the same elements in the same order. */
static inline bool is_flat(cad_tensor t) { return t.rows == 1 || t.ld == t.cols; }
static inline cad_tensor as_row(cad_tensor t) { return cad_view(t.data, t.dtype, 1, t.rows * t.cols); }

/* A thread takes eight elements of a row: blocks of EIGHTS threads across, rows down. */
enum { EIGHTS = 128, MOST_DOWN = 32768 };
static inline cadp_dim eighths(int64_t rows, int64_t cols) { return dim(cad_ceil_div(cols, 8 * EIGHTS), upto(rows, MOST_DOWN), 1); }
ON_DEVICE int64_t my_eighth(void) { return 8 * ((int64_t)here_block().x * here_threads() + here_thread()); }
ON_DEVICE int count_of(int64_t col, int64_t cols) { return (int)(cols - col < 8 ? cols - col : 8); }

/* Calls with the C++ type of a real dtype that is not F64: WITH_TYPE(t.dtype, T, call<T>(…)). */
#define WITH_TYPE(dtype_, T, ...)      \
    do {                               \
        if ((dtype_) == CAD_BF16) {    \
            typedef bf16 T;            \
            __VA_ARGS__;               \
        } else {                       \
            typedef float T;           \
            __VA_ARGS__;               \
        }                              \
    } while (0)

/* ---- the backend's state, and its operations ---- */

typedef struct cadp_lt cadp_lt;
typedef struct cadp_cuda { cadp_stream *stream; cadp_lt *lt; } cadp_cuda;
static inline cadp_stream *stream_of(const cad_device *d) { return ((cadp_cuda *)d->own)->stream; }

extern "C" {
#define CADP_GRID_OP(op, args) CAD_CHECKED cad_status GRID(op)(cad_device *d, const args *x, void *work);
CADP_OPS(CADP_GRID_OP)
#undef CADP_GRID_OP
/* matmul with outliers: its first product (cuda_int8.cu) */
int64_t GRID(int8_work)(const cad_matmul_args *x);
CAD_CHECKED cad_status GRID(dequantise_in)(cadp_stream *s, const cad_dequantise_args *x);
CAD_CHECKED cad_status GRID(int8_product)(cad_device *d, const cad_matmul_args *x, void *work);
}
#endif
