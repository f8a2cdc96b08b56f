#include "nvcc_rt.h"

#include <stdio.h>
#include <stdlib.h>

struct cadp_stream { cudaStream_t stream; bool careful; };
struct cadp_event { cudaEvent_t event; };

static cad_status told(cudaError_t e, const char *verb)
{
    return e ? cad_fail(e == cudaErrorMemoryAllocation ? CAD_ERESOURCE : CAD_EINTERNAL, "CUDA, %s: %s", verb, cudaGetErrorString(e)) : CAD_OK;
}

cudaStream_t cadp_cuda_stream_of(cadp_stream *s) { return s->stream; }

cad_status cadp_cuda_launched(cadp_stream *s, const char *what)
{
    cudaError_t e = cudaGetLastError();

    if (!e && s->careful) e = cudaStreamSynchronize(s->stream);
    return told(e, what);
}

static cad_status count_devices(int index, int *n)
{
    cudaError_t e = cudaGetDeviceCount(n);

    if (e) return cad_fail(CAD_ERESOURCE, "device cuda:%d: %s", index, cudaGetErrorString(e));
    if (index >= *n) return cad_fail(CAD_ERESOURCE, "device cuda:%d: expected a number below %d (the GPUs that this process sees), found %d", index, *n, index);
    return CAD_OK;
}

extern "C" int cadp_cuda_count(void)
{
    int n = 0;

    if (cudaGetDeviceCount(&n)) n = 0;
    (void)cudaGetLastError();
    return n;
}

extern "C" void GRID(rt_memory)(int64_t *left, int64_t *all)
{
    size_t some = 0, whole = 0;

    if (cudaMemGetInfo(&some, &whole)) some = whole = 0;
    *left = (int64_t)some;
    *all = (int64_t)whole;
}

extern "C" cad_status GRID(rt_open)(int index, cadp_gpu *out)
{
    cudaDeviceProp p;
    cudaError_t e;
    int n;

    CAD_TRY(count_devices(index, &n));
    if (!(e = cudaSetDevice(index))) e = cudaGetDeviceProperties(&p, index);
    if (e) return cad_fail(CAD_ERESOURCE, "device cuda:%d: %s", index, cudaGetErrorString(e));
    if (p.major < 8) return cad_fail(CAD_ERESOURCE, "device cuda:%d: expected compute capability 8.0 or later, found %d.%d (%s)", index, p.major, p.minor, p.name);
    memcpy(out->name, p.name, sizeof out->name - 1);
    out->name[sizeof out->name - 1] = 0;
    for (int i = 0; i < 16; i++) snprintf(out->identity + 2 * i, 3, "%02x", (unsigned char)p.uuid.bytes[i]);
    out->major = p.major;
    out->minor = p.minor;
    out->processors = p.multiProcessorCount;
    out->memory = (int64_t)p.totalGlobalMem;
    return CAD_OK;
}

extern "C" cad_status GRID(rt_alloc)(void **out, int64_t bytes, const char *what)
{
    size_t left = 0, all = 0;
    cudaError_t e = cudaMalloc(out, (size_t)cad_max(bytes, 1));

    if (!e) return CAD_OK;
    (void)cudaGetLastError();
    (void)cudaMemGetInfo(&left, &all);
    return cad_fail(CAD_ERESOURCE, "out of device memory: %s needs %lld bytes, %lld of %lld are free (%s)", what, (long long)bytes, (long long)left, (long long)all, cudaGetErrorString(e));
}

extern "C" cad_status GRID(rt_free)(void *p) { return told(cudaFree(p), "giving memory back"); }

extern "C" cad_status GRID(rt_pinned)(void **out, int64_t bytes, const char *what)
{
    cudaError_t e = cudaMallocHost(out, (size_t)cad_max(bytes, 1));

    return e ? cad_fail(CAD_ERESOURCE, "no pinned memory: %s needs %lld bytes: %s", what, (long long)bytes, cudaGetErrorString(e)) : CAD_OK;
}

extern "C" cad_status GRID(rt_unpin)(void *p) { return told(cudaFreeHost(p), "giving pinned memory back"); }
extern "C" cad_status GRID(rt_lock)(void *p, int64_t bytes) { return told(cudaHostRegister(p, (size_t)bytes, cudaHostRegisterDefault), "pinning memory"); }
extern "C" cad_status GRID(rt_unlock)(void *p) { return told(cudaHostUnregister(p), "unpinning memory"); }

extern "C" cad_status GRID(stream_open)(cadp_stream **out)
{
    const char *careful = getenv("CAD_SYNC");
    cad_status status;

    CAD_TRY(cad_alloc(out, 1, sizeof **out, "a stream"));
    (*out)->careful = careful && *careful && *careful != '0';
    if ((status = told(cudaStreamCreateWithFlags(&(*out)->stream, cudaStreamNonBlocking), "a stream"))) cad_free(out);
    return status;
}

extern "C" void GRID(stream_close)(cadp_stream **s)
{
    if (*s) (void)cudaStreamDestroy((*s)->stream);
    cad_free(s);
}

extern "C" cad_status GRID(stream_wait)(cadp_stream *s) { return told(cudaStreamSynchronize(s->stream), "waiting for the device"); }

extern "C" cad_status GRID(stream_copy)(cadp_stream *s, void *to, const void *from, int64_t bytes)
{
    if (!from) return told(cudaMemsetAsync(to, 0, (size_t)bytes, s->stream), "clearing memory");
    return told(cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDefault, s->stream), "copying");
}

extern "C" void *GRID(stream_native)(cadp_stream *s) { return s->stream; }
extern "C" cad_status GRID(stream_later)(cadp_stream *s, void (*call)(void *with), void *with) { return told(cudaLaunchHostFunc(s->stream, call, with), "a call of the host"); }

extern "C" cad_status GRID(event_open)(cadp_event **out)
{
    cad_status status;

    CAD_TRY(cad_alloc(out, 1, sizeof **out, "an event"));
    if ((status = told(cudaEventCreate(&(*out)->event), "an event"))) cad_free(out);
    return status;
}

extern "C" void GRID(event_close)(cadp_event **e)
{
    if (*e) (void)cudaEventDestroy((*e)->event);
    cad_free(e);
}

extern "C" cad_status GRID(event_record)(cadp_event *e, cadp_stream *s) { return told(cudaEventRecord(e->event, s->stream), "recording an event"); }
extern "C" cad_status GRID(stream_after)(cadp_stream *s, cadp_event *e) { return told(cudaStreamWaitEvent(s->stream, e->event, 0), "ordering streams"); }

extern "C" cad_status GRID(event_wait)(cadp_event *e) { return told(cudaEventSynchronize(e->event), "waiting for an event"); }

extern "C" cad_status GRID(event_between)(cadp_event *from, cadp_event *to, float *ms)
{
    CAD_TRY(told(cudaEventSynchronize(to->event), "waiting for an event"));
    return told(cudaEventElapsedTime(ms, from->event, to->event), "timing");
}
