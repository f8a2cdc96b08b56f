/* Page-locked memory in two halves: one is filled while the other goes up. */
#include "cuda_grid.h"

typedef struct ramp { char *half[2]; cadp_event *gone[2]; int now; } ramp;

static void close_ramp(void *own)
{
    ramp *r = (ramp *)own;

    if (!r) return;
    for (int i = 0; i < 2; i++) {
        if (r->gone[i] && GRID(event_wait)(r->gone[i])) cad_clear(); /* nothing may still read what is given back */
        if (r->half[i] && GRID(rt_unpin)(r->half[i])) cad_clear();
        GRID(event_close)(&r->gone[i]);
    }
    cad_free(&r);
}

static cad_status open_halves(ramp *r, int64_t bytes, const char *what)
{
    for (int i = 0; i < 2; i++) {
        CAD_TRY(GRID(event_open)(&r->gone[i]));
        CAD_TRY(GRID(rt_pinned)((void **)&r->half[i], bytes, what));
    }
    return CAD_OK;
}

static cad_status open_ramp(void **own, int64_t bytes, const char *what)
{
    cad_status status;

    CAD_TRY(cad_alloc(own, 1, sizeof(ramp), "a ramp"));
    if ((status = open_halves((ramp *)*own, bytes, what))) {
        close_ramp(*own);
        *own = NULL;
    }
    return status;
}

static cad_status turn(cad_device *d, void *own, char **memory)
{
    ramp *r = (ramp *)own;

    (void)d;
    r->now = !r->now;
    *memory = r->half[r->now];
    return GRID(event_wait)(r->gone[r->now]);
}

static cad_status send_up(cad_device *d, void *own, void *to, const char *from, int64_t bytes)
{
    ramp *r = (ramp *)own;

    CAD_TRY(GRID(stream_copy)(stream_of(d), to, from, bytes));
    return GRID(event_record)(r->gone[r->now], stream_of(d));
}

extern "C" const cadp_ramp_if GRID(ramps) = {open_ramp, close_ramp, turn, send_up};
