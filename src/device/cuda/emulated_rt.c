/* With CADTRAIN_EMULATED_STREAMS=late a stream does nothing before somebody waits for it or for an event in it, so that an order that nobody
 * asked for is not kept by accident (a rank that waits for others lets its collectives run before); CADTRAIN_EMULATED_FAULT=N lets the Nth thing that streams are given fail, which the next wait tells. */
#include "emulated_rt.h"

#include <stdio.h>
#include <stdlib.h>

/* What a stream is given: something to run, or (run NULL) another stream's progress to wait for. */
typedef struct job { void (*run)(cadp_stream *s, void *with); void *with; cadp_stream *other; int64_t until; } job;
struct cadp_stream {
    cadp_emulator *grid;
    job *jobs; /* those from `ran` to `given` */
    int64_t given, ran, room, fault_at;
    bool late;
    cad_status failed;
};
struct cadp_event { cadp_stream *stream; int64_t until; double at; };

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

/* CADTRAIN_EMULATED_ALLOCATIONS=N: there is memory for the first N of the process. */
cad_status GRID(rt_alloc)(void **out, int64_t bytes, const char *what)
{
    static int64_t served;
    const char *most = getenv("CADTRAIN_EMULATED_ALLOCATIONS");

    if (most && served >= strtoll(most, NULL, 10)) return cad_fail(CAD_ERESOURCE, "out of device memory: %s needs %lld bytes, 0 are free", what, (long long)bytes);
    served++;
    return cad_alloc(out, (size_t)bytes, 1, what);
}

cad_status GRID(rt_free)(void *p)
{
    cad_free(&p);
    return CAD_OK;
}

cad_status GRID(rt_pinned)(void **out, int64_t bytes, const char *what) { return cad_alloc(out, (size_t)bytes, 1, what); }
cad_status GRID(rt_unpin)(void *p) { return GRID(rt_free)(p); }

cad_status GRID(rt_lock)(void *p, int64_t bytes)
{
    (void)p;
    (void)bytes;
    return CAD_OK;
}

cad_status GRID(rt_unlock)(void *p)
{
    (void)p;
    return CAD_OK;
}

/* ---- streams ---- */

/* The jobs up to `until`, first those of other streams that they come after. */
static void catch_up(cadp_stream *s, int64_t until)
{
    while (s->ran < until) {
        job j = s->jobs[s->ran++ % s->room];
        if (s->ran == s->fault_at) s->failed = CAD_EINTERNAL;
        if (j.other) catch_up(j.other, j.until);
        if (j.run && !s->failed) j.run(s, j.with);
        cad_free(&j.with);
    }
}

static cad_status make_room(cadp_stream *s)
{
    int64_t room = s->room ? 2 * s->room : 64;
    job *jobs;

    CAD_TRY(cad_alloc(&jobs, (size_t)room, sizeof *jobs, "what a stream is given"));
    for (int64_t i = s->ran; i < s->given; i++) jobs[i % room] = s->jobs[i % s->room];
    cad_free(&s->jobs);
    s->jobs = jobs;
    s->room = room;
    return CAD_OK;
}

static cad_status give(cadp_stream *s, job j)
{
    if (s->given - s->ran == s->room) CAD_TRY(make_room(s));
    s->jobs[s->given++ % s->room] = j;
    if (!s->late) catch_up(s, s->given);
    return CAD_OK;
}

cad_status cadp_emulated_give(cadp_stream *s, void (*run)(cadp_stream *, void *), const void *with, int64_t bytes)
{
    job j = {.run = run};
    cad_status status;

    if (!s->late) { /* nothing is before it */
        s->given = ++s->ran;
        if (s->ran == s->fault_at) s->failed = CAD_EINTERNAL;
        if (!s->failed) run(s, (void *)(uintptr_t)with);
        return CAD_OK;
    }
    CAD_TRY(cad_alloc(&j.with, (size_t)bytes, 1, "arguments of a kernel"));
    memcpy(j.with, with, (size_t)bytes);
    if ((status = give(s, j))) cad_free(&j.with);
    return status;
}

cad_status GRID(stream_open)(cadp_stream **out)
{
    const char *streams = getenv("CADTRAIN_EMULATED_STREAMS"), *fault = getenv("CADTRAIN_EMULATED_FAULT");
    cad_status status;

    CAD_TRY(cad_alloc(out, 1, sizeof **out, "a stream"));
    (*out)->late = streams && !strcmp(streams, "late");
    (*out)->fault_at = fault ? strtoll(fault, NULL, 10) : 0;
    if ((status = cadp_emulator_open(&(*out)->grid))) cad_free(out);
    return status;
}

void GRID(stream_close)(cadp_stream **s)
{
    if (!*s) return;
    catch_up(*s, (*s)->given);
    cadp_emulator_close(&(*s)->grid);
    cad_free(&(*s)->jobs);
    cad_free(s);
}

cad_status GRID(stream_wait)(cadp_stream *s)
{
    catch_up(s, s->given);
    return s->failed ? cad_fail(s->failed, "the emulated device failed at thing %lld that it was given", (long long)s->fault_at) : CAD_OK;
}

typedef struct transfer { void *to; const void *from; int64_t bytes; } transfer;

static void run_transfer(cadp_stream *s, void *with)
{
    const transfer *t = with;

    (void)s;
    if (t->from)
        memcpy(t->to, t->from, (size_t)t->bytes);
    else
        memset(t->to, 0, (size_t)t->bytes);
}

cad_status GRID(stream_copy)(cadp_stream *s, void *to, const void *from, int64_t bytes)
{
    transfer t = {to, from, bytes};

    return cadp_emulated_give(s, run_transfer, &t, sizeof t);
}

void *GRID(stream_native)(cadp_stream *s)
{
    (void)s;
    return NULL;
}

typedef struct host_call { void (*call)(void *with); void *with; } host_call;

static void run_host_call(cadp_stream *s, void *with)
{
    const host_call *h = with;

    (void)s;
    h->call(h->with);
}

/* A stream that is given calls is late from then on: they stand for work of others, which takes its time. */
cad_status GRID(stream_later)(cadp_stream *s, void (*call)(void *with), void *with)
{
    host_call h = {call, with};

    s->late = true;
    return cadp_emulated_give(s, run_host_call, &h, sizeof h);
}

/* ---- events ---- */

cad_status GRID(event_open)(cadp_event **out) { return cad_alloc(out, 1, sizeof **out, "an event"); }
void GRID(event_close)(cadp_event **e) { cad_free(e); }

cad_status GRID(event_record)(cadp_event *e, cadp_stream *s)
{
    *e = (cadp_event){s, s->given, cad_now()};
    return CAD_OK;
}

cad_status GRID(stream_after)(cadp_stream *s, cadp_event *e)
{
    if (!e->stream) return cad_fail(CAD_EINTERNAL, "a stream is to wait for an event that was never recorded");
    return give(s, (job){.other = e->stream, .until = e->until});
}

cad_status GRID(event_wait)(cadp_event *e)
{
    if (e->stream) catch_up(e->stream, e->until);
    return CAD_OK;
}

cad_status GRID(event_between)(cadp_event *from, cadp_event *to, float *ms)
{
    catch_up(to->stream, to->until);
    *ms = (float)((to->at - from->at) * 1e3);
    return CAD_OK;
}
