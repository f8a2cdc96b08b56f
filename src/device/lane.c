#include "ops_priv.h"

struct cad_lane { cad_device *device; const cadp_lane_if *does; void *own; };

bool cad_device_has_lanes(const cad_device *d) { return d->table->lanes != NULL; }

cad_status cad_lane_open(cad_lane **out, cad_device *d)
{
    cad_status status;

    *out = NULL;
    if (!d->table->lanes) return cad_fail(CAD_EUSAGE, "device %s: it has one queue; a second one is wanted (cuda and emulated have it)", d->name);
    CAD_TRY(cad_alloc(out, 1, sizeof **out, "a lane"));
    **out = (cad_lane){.device = d, .does = d->table->lanes};
    if ((status = d->table->lanes->open(d, &(*out)->own))) cad_free(out);
    return status;
}

void cad_lane_close(cad_lane **l)
{
    if (!*l) return;
    (*l)->does->close((*l)->own);
    cad_free(l);
}

bool cad_lane_pin(cad_lane *l, void *host, int64_t bytes)
{
    cad_status status = l->does->pin(host, bytes);

    if (status) cad_clear();
    return !status;
}

void cad_lane_unpin(cad_lane *l, void *host)
{
    if (l->does->unpin(host)) cad_clear();
}

static void check_mark(int mark) { CAD_ASSERT(mark >= 0 && mark < CAD_LANE_MARKS); }

void *cad_lane_native(const cad_lane *l) { return l->does->native(l->own); }
cad_status cad_lane_follow(cad_lane *l) { return l->does->follow(l->device, l->own); }
cad_status cad_lane_later(cad_lane *l, void (*call)(void *with), void *with) { return l->does->later(l->own, call, with); }
cad_status cad_lane_wait(cad_lane *l) { return l->does->wait(l->own); }
cad_status cad_lane_copy(cad_lane *l, void *to, const void *from, int64_t bytes) { return bytes ? l->does->copy(l->own, to, from, bytes) : CAD_OK; }

cad_status cad_lane_mark(cad_lane *l, int mark)
{
    check_mark(mark);
    return l->does->mark(l->own, mark);
}

cad_status cad_lane_before(cad_lane *l, int mark)
{
    check_mark(mark);
    return l->does->before(l->device, l->own, mark);
}

cad_status cad_lane_dequantise(cad_lane *l, const cad_dequantise_args *x)
{
    cadp_call c = {.op = "dequantise"};

    CAD_TRY(cadp_describe_dequantise(&c, x));
    CAD_TRY(cadp_admit(l->device, &c));
    l->device->launches++;
    return l->does->dequantise(l->own, x);
}
