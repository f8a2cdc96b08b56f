/* All that is wanted of cuBLASLt: one product. nvcc_lt.cu asks the library; emulated_lt.c stands in with plain loops. */
#ifndef CADP_CUDA_LT_H
#define CADP_CUDA_LT_H
#include "cuda_rt.h"
#include <cadtrain/device.h>
#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of work space that products may use; the same for every shape, so that the plan needs no GPU. */
enum { CADP_LT_WORK = 32 << 20 };

/* Row-major: C [m, n] = alpha op(A) op(B) + beta C + bias (of A's dtype, or NULL). */
typedef struct cadp_product {
    cad_tensor c, a, b;
    const void *bias;
    bool ta, tb;
    float alpha, beta;
} cadp_product;

typedef struct cadp_lt cadp_lt;
/* gpu: names the file that keeps which algorithm is best. */
CAD_CHECKED cad_status GRID(lt_open)(cadp_lt **out, const cadp_gpu *gpu);
/* Keeps what was measured for later runs; a file that cannot be written is no failure. */
void GRID(lt_close)(cadp_lt **lt);
/* *done: whether the library has a way to do it; else nothing happened. */
CAD_CHECKED cad_status GRID(lt_product)(cadp_lt *lt, cadp_stream *s, const cadp_product *p, void *work, bool *done);

#ifdef __cplusplus
}
#endif
#endif
