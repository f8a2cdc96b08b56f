/* A second queue: a stream of its own; events tie it to the device's. */
#include "cuda_grid.h"

typedef struct lane { cadp_stream *stream; cadp_event *device_was_here, *mark[CAD_LANE_MARKS]; } lane;

static void close_lane(void *own)
{
    lane *l = (lane *)own;

    if (!l) return;
    for (int i = 0; i < CAD_LANE_MARKS; i++) GRID(event_close)(&l->mark[i]);
    GRID(event_close)(&l->device_was_here);
    GRID(stream_close)(&l->stream);
    cad_free(&l);
}

static cad_status open_parts(lane *l)
{
    CAD_TRY(GRID(stream_open)(&l->stream));
    CAD_TRY(GRID(event_open)(&l->device_was_here));
    for (int i = 0; i < CAD_LANE_MARKS; i++) CAD_TRY(GRID(event_open)(&l->mark[i]));
    return CAD_OK;
}

static cad_status open_lane(cad_device *d, void **own)
{
    cad_status status;

    (void)d;
    CAD_TRY(cad_alloc(own, 1, sizeof(lane), "a lane"));
    if ((status = open_parts((lane *)*own))) {
        close_lane(*own);
        *own = NULL;
    }
    return status;
}

static void *native(void *own) { return GRID(stream_native)(((lane *)own)->stream); }

static cad_status follow(cad_device *d, void *own)
{
    lane *l = (lane *)own;

    CAD_TRY(GRID(event_record)(l->device_was_here, stream_of(d)));
    return GRID(stream_after)(l->stream, l->device_was_here);
}

static cad_status set_mark(void *own, int mark) { return GRID(event_record)(((lane *)own)->mark[mark], ((lane *)own)->stream); }
static cad_status before(cad_device *d, void *own, int mark) { return GRID(stream_after)(stream_of(d), ((lane *)own)->mark[mark]); }
static cad_status give_call(void *own, void (*call)(void *with), void *with) { return GRID(stream_later)(((lane *)own)->stream, call, with); }
static cad_status dequantise(void *own, const cad_dequantise_args *x) { return GRID(dequantise_in)(((lane *)own)->stream, x); }
static cad_status wait(void *own) { return GRID(stream_wait)(((lane *)own)->stream); }
static cad_status copy(void *own, void *to, const void *from, int64_t bytes) { return GRID(stream_copy)(((lane *)own)->stream, to, from, bytes); }

extern "C" const cadp_lane_if GRID(lanes) = {open_lane, close_lane, native, follow, set_mark, before, give_call, wait, dequantise, copy, GRID(rt_lock), GRID(rt_unlock)};
