/* What kernels and products need of the host's stand-in for the runtime. */
#ifndef CADP_EMULATED_RT_H
#define CADP_EMULATED_RT_H
#include "cuda_rt.h"
#ifdef __cplusplus
extern "C" {
#endif

cadp_emulator *cadp_emulator_of(cadp_stream *s);
/* The stream runs `run` in its turn, with a copy of `bytes` at `with`. */
CAD_CHECKED cad_status cadp_emulated_give(cadp_stream *s, void (*run)(cadp_stream *s, void *with), const void *with, int64_t bytes);

#ifdef __cplusplus
}
#endif
#endif
