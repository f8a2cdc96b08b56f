/* What kernels need of the host's stand-in for the runtime. */
#ifndef CADP_EMULATED_RT_H
#define CADP_EMULATED_RT_H
#include "cuda_rt.h"
#ifdef __cplusplus
extern "C" {
#endif

cadp_emulator *cadp_emulator_of(cadp_stream *s);

#ifdef __cplusplus
}
#endif
#endif
