/* What kernels and products need of the CUDA runtime. */
#ifndef CADP_NVCC_RT_H
#define CADP_NVCC_RT_H
#include "cuda_rt.h"
#include <cuda_runtime.h>

cudaStream_t cadp_cuda_stream_of(cadp_stream *s);
/* After a launch: what the runtime says of it; with CAD_SYNC=1 in the environment, what the device says once it is done. */
CAD_CHECKED cad_status cadp_cuda_launched(cadp_stream *s, const char *what);
#endif
