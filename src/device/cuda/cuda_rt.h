/* All that is wanted of the CUDA runtime. nvcc_rt.cu asks the runtime; emulated_rt.c stands in on the host, where a stream does at once
 * what it is given (but for stream_later) and an event is done when it is recorded. */
#ifndef CADP_CUDA_RT_H
#define CADP_CUDA_RT_H
#include "emulated_grid.h"
#if defined(__CUDACC__) || defined(CADP_CUDA_REAL)
#define GRID(name) cadp_cuda_##name
#else
#define GRID(name) cadp_emulated_##name
#endif
#ifdef __cplusplus
extern "C" {
#endif

typedef struct cadp_stream cadp_stream;
typedef struct cadp_event cadp_event;
typedef struct cadp_gpu { char name[128], identity[64]; int major, minor, processors; int64_t memory; } cadp_gpu;

/* Makes the device the one of this thread. CAD_ERESOURCE with the driver's words when it cannot. */
CAD_CHECKED cad_status GRID(rt_open)(int index, cadp_gpu *out);
/* 0, 0: not known. */
void GRID(rt_memory)(int64_t *left, int64_t *all);
CAD_CHECKED cad_status GRID(rt_alloc)(void **out, int64_t bytes, const char *what);
cad_status GRID(rt_free)(void *p);
CAD_CHECKED cad_status GRID(rt_pinned)(void **out, int64_t bytes, const char *what);
cad_status GRID(rt_unpin)(void *p);
/* Page-locks memory that is there already. */
CAD_CHECKED cad_status GRID(rt_lock)(void *p, int64_t bytes);
cad_status GRID(rt_unlock)(void *p);

CAD_CHECKED cad_status GRID(stream_open)(cadp_stream **out);
void GRID(stream_close)(cadp_stream **s);
/* Waits, and says what failed since the last wait. */
CAD_CHECKED cad_status GRID(stream_wait)(cadp_stream *s);
/* Asynchronous, in the stream's order. from NULL: zeros. */
CAD_CHECKED cad_status GRID(stream_copy)(cadp_stream *s, void *to, const void *from, int64_t bytes);

/* The runtime's own handle; NULL on the host. */
void *GRID(stream_native)(cadp_stream *s);
/* `call` runs on the host in the stream's turn; the emulated stream keeps it until somebody waits for it. */
CAD_CHECKED cad_status GRID(stream_later)(cadp_stream *s, void (*call)(void *with), void *with);

CAD_CHECKED cad_status GRID(event_open)(cadp_event **out);
void GRID(event_close)(cadp_event **e);
CAD_CHECKED cad_status GRID(event_record)(cadp_event *e, cadp_stream *s);
/* What the stream is given from now on waits for the event; the host does not. */
CAD_CHECKED cad_status GRID(stream_after)(cadp_stream *s, cadp_event *e);
/* The host waits; an event that was never recorded is done. */
CAD_CHECKED cad_status GRID(event_wait)(cadp_event *e);
/* Milliseconds between two recorded events, after both are done. */
CAD_CHECKED cad_status GRID(event_between)(cadp_event *from, cadp_event *to, float *ms);

#ifdef __cplusplus
}
#endif
#endif
