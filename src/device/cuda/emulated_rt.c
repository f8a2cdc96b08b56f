#include "emulated_rt.h"

#include <stdio.h>
#include <stdlib.h>

/* Calls for later stand in a ring; `given` and `done` count them. */
enum { LATER = 256 };
struct cadp_stream { cadp_emulator *grid; struct { void (*call)(void *with); void *with; } later[LATER]; int64_t given, done; };
struct cadp_event { double at; cadp_stream *stream; int64_t given; };

cadp_emulator *cadp_emulator_of(cadp_stream *s) { return s->grid; }

cad_status GRID(rt_open)(int index, cadp_gpu *out)
{
    if (index) return cad_fail(CAD_ERESOURCE, "device emulated:%d: there is one emulated device, 0", index);
    *out = (cadp_gpu){.name = "an emulated grid on the host", .processors = 1};
    if (getenv("CADTRAIN_EMULATED_GPU")) snprintf(out->identity, sizeof out->identity, "%s", getenv("CADTRAIN_EMULATED_GPU")); /* for tests of sharing */
    return CAD_OK;
}

/* CADTRAIN_EMULATED_MEMORY: for tests of what does not fit. */
void GRID(rt_memory)(int64_t *left, int64_t *all)
{
    const char *bytes = getenv("CADTRAIN_EMULATED_MEMORY");

    *left = *all = bytes ? strtoll(bytes, NULL, 10) : 0;
}

cad_status GRID(rt_alloc)(void **out, int64_t bytes, const char *what) { return cad_alloc(out, (size_t)bytes, 1, what); }

cad_status GRID(rt_free)(void *p)
{
    cad_free(&p);
    return CAD_OK;
}

cad_status GRID(rt_pinned)(void **out, int64_t bytes, const char *what) { return cad_alloc(out, (size_t)bytes, 1, what); }
cad_status GRID(rt_unpin)(void *p) { return GRID(rt_free)(p); }

cad_status GRID(stream_open)(cadp_stream **out)
{
    cad_status status;

    CAD_TRY(cad_alloc(out, 1, sizeof **out, "a stream"));
    if ((status = cadp_emulator_open(&(*out)->grid))) cad_free(out);
    return status;
}

void GRID(stream_close)(cadp_stream **s)
{
    if (*s) cadp_emulator_close(&(*s)->grid);
    cad_free(s);
}

static void run_later(cadp_stream *s, int64_t upto)
{
    while (s->done < upto) {
        int64_t at = s->done++ % LATER;
        s->later[at].call(s->later[at].with);
    }
}

cad_status GRID(stream_wait)(cadp_stream *s)
{
    run_later(s, s->given);
    return CAD_OK;
}

void *GRID(stream_native)(cadp_stream *s)
{
    (void)s;
    return NULL;
}

cad_status GRID(stream_later)(cadp_stream *s, void (*call)(void *with), void *with)
{
    if (s->given - s->done == LATER) run_later(s, s->done + 1);
    s->later[s->given % LATER].call = call;
    s->later[s->given++ % LATER].with = with;
    return CAD_OK;
}

cad_status GRID(stream_copy)(cadp_stream *s, void *to, const void *from, int64_t bytes)
{
    (void)s;
    if (from)
        memcpy(to, from, (size_t)bytes);
    else
        memset(to, 0, (size_t)bytes);
    return CAD_OK;
}

cad_status GRID(event_open)(cadp_event **out) { return cad_alloc(out, 1, sizeof **out, "an event"); }
void GRID(event_close)(cadp_event **e) { cad_free(e); }

cad_status GRID(event_record)(cadp_event *e, cadp_stream *s)
{
    e->at = cad_now();
    e->stream = s;
    e->given = s->given;
    return CAD_OK;
}

cad_status GRID(stream_after)(cadp_stream *s, cadp_event *e)
{
    if (!(e->at > 0)) return cad_fail(CAD_EINTERNAL, "a stream is to wait for an event that was never recorded");
    if (e->stream != s) run_later(e->stream, e->given);
    return CAD_OK;
}

cad_status GRID(event_wait)(cadp_event *e)
{
    if (e->stream) run_later(e->stream, e->given);
    return CAD_OK;
}

cad_status GRID(event_between)(cadp_event *from, cadp_event *to, float *ms)
{
    *ms = (float)((to->at - from->at) * 1e3);
    return CAD_OK;
}
