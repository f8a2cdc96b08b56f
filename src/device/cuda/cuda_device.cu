/* The device itself: memory, moves, its stream. */
#include "cuda_grid.h"
#include "cuda_lt.h"

#include <stdio.h>

extern "C" void GRID(close)(cad_device *d)
{
    cadp_cuda *own = (cadp_cuda *)d->own;

    if (!own) return;
    GRID(lt_close)(&own->lt);
    GRID(stream_close)(&own->stream);
    cad_free(&d->own);
}

static cad_status open_parts(cad_device *d, cadp_gpu *gpu)
{
    cadp_cuda *own;

    CAD_TRY(GRID(rt_open)(d->index, gpu));
    CAD_TRY(cad_alloc(&d->own, 1, sizeof *own, "the device's state"));
    own = (cadp_cuda *)d->own;
    CAD_TRY(GRID(stream_open)(&own->stream));
    return GRID(lt_open)(&own->lt, gpu);
}

extern "C" cad_status GRID(open)(cad_device *d)
{
    cadp_gpu gpu;
    cad_status status = open_parts(d, &gpu);

    if (status) {
        GRID(close)(d);
        return status;
    }
    snprintf(d->identity, sizeof d->identity, "%s", gpu.identity);
    if (gpu.major)
        snprintf(d->description, sizeof d->description, "%s, compute capability %d.%d, %d multiprocessors, %.1f GB", gpu.name, gpu.major, gpu.minor, gpu.processors, (double)gpu.memory * 1e-9);
    else
        snprintf(d->description, sizeof d->description, "%s, one block at a time, threads as fibers", gpu.name);
    return CAD_OK;
}

extern "C" cad_status GRID(alloc)(cad_device *d, void **out, int64_t bytes, const char *what)
{
    (void)d;
    return GRID(rt_alloc)(out, bytes, what);
}

/* Nothing that is still under way may lose its memory. */
extern "C" cad_status GRID(release)(cad_device *d, void *p, int64_t bytes)
{
    cad_status status = GRID(stream_wait)(stream_of(d)), freed = GRID(rt_free)(p);

    (void)bytes;
    return status ? status : freed;
}

/* The host's memory is the caller's again when this returns; between two places of the device nobody waits. */
extern "C" cad_status GRID(move)(cad_device *d, void *to, const void *from, int64_t bytes)
{
    bool inside = cadp_block_of(d, to, bytes) && (!from || cadp_block_of(d, from, bytes));
    const char *a = (const char *)to, *b = (const char *)from;

    if (from && a < b + bytes && b < a + bytes) return cad_fail(CAD_EINTERNAL, "device %s: a copy of %lld bytes onto itself", d->name, (long long)bytes);
    CAD_TRY(GRID(stream_copy)(stream_of(d), to, from, bytes));
    return inside ? CAD_OK : GRID(stream_wait)(stream_of(d));
}

extern "C" void GRID(memory)(const cad_device *d, int64_t *left, int64_t *all)
{
    (void)d;
    GRID(rt_memory)(left, all);
}

extern "C" cad_status GRID(sync)(cad_device *d) { return GRID(stream_wait)(stream_of(d)); }
