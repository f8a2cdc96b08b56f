/* Kernels on the GPU: the functions of emulated_api.h by what sm_80 and later have. */
#ifndef CADP_NVCC_GRID_H
#define CADP_NVCC_GRID_H
#include <cuda_fp16.h>
#include "nvcc_rt.h"

#define KERNEL(threads, blocks) static __global__ void __launch_bounds__(threads, blocks)
#define ON_DEVICE static __device__ __forceinline__
#define SHARED(type, name)                                   \
    extern __shared__ __align__(16) unsigned char grid_shared[]; \
    type *name = reinterpret_cast<type *>(grid_shared)

ON_DEVICE int here_thread(void) { return (int)threadIdx.x; }
ON_DEVICE int here_threads(void) { return (int)blockDim.x; }
ON_DEVICE int here_lane(void) { return (int)threadIdx.x % 32; }
ON_DEVICE int here_warp(void) { return (int)threadIdx.x / 32; }
ON_DEVICE cadp_dim here_block(void) { return {(int)blockIdx.x, (int)blockIdx.y, (int)blockIdx.z}; }
ON_DEVICE cadp_dim here_blocks(void) { return {(int)gridDim.x, (int)gridDim.y, (int)gridDim.z}; }
ON_DEVICE void block_barrier(void) { __syncthreads(); }
ON_DEVICE void warp_barrier(void) { __syncwarp(); }

template <class T> ON_DEVICE T shuffle_xor(T v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
template <class T> ON_DEVICE T shuffle_from(T v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
ON_DEVICE uint32_t vote(bool holds) { return __ballot_sync(0xffffffffu, holds); }
ON_DEVICE int lowest_bit(uint32_t bits) { return __ffs((int)bits) - 1; }

ON_DEVICE uint32_t pack_bf16(float low, float high)
{
    uint32_t two;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(high), "f"(low));
    return two;
}
ON_DEVICE int64_t to_int64(double v) { return __double2ll_rn(v); }
ON_DEVICE float times(float a, float b) { return __fmul_rn(a, b); }
ON_DEVICE float through_half(float x) { return __half2float(__float2half_rn(x)); }
ON_DEVICE float two_to(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
ON_DEVICE float log_two(float x) { return log2f(x); }

ON_DEVICE uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }
ON_DEVICE void copy16(void *to, const void *from, bool take)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(take ? 16 : 0) : "memory");
}
ON_DEVICE void copy4(void *to, const void *from, bool take)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from), "r"(take ? 4 : 0) : "memory");
}
ON_DEVICE void copy_commit(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int groups> ON_DEVICE void copy_wait(void) { asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory"); }

ON_DEVICE void load_matrices(uint32_t out[4], const void *row, bool turned)
{
    uint32_t a = shared_address(row);
    if (turned)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(a) : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(a) : "memory");
}
ON_DEVICE void multiply_add(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* ---- launches ---- */

enum { SHARED_WITHOUT_ASKING = 48 << 10 };

template <class... P, class... A>
static cad_status launch(cadp_stream *s, const char *what, void (*kernel)(P...), cadp_dim blocks, int threads, int64_t shared, A... args)
{
    if (!blocks.x || !blocks.y || !blocks.z) return CAD_OK; /* nothing to do; the runtime refuses an empty grid */
    if (shared > SHARED_WITHOUT_ASKING) {
        cudaError_t e = cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
        if (e) return cad_fail(CAD_ERESOURCE, "%s: %lld bytes of shared memory for a block: %s", what, (long long)shared, cudaGetErrorString(e));
    }
    kernel<<<dim3((unsigned)blocks.x, (unsigned)blocks.y, (unsigned)blocks.z), (unsigned)threads, (size_t)shared, cadp_cuda_stream_of(s)>>>(args...);
    return cadp_cuda_launched(s, what);
}
#endif
