#include "device_priv.h"

struct cad_ramp { cad_device *device; const cadp_ramp_if *does; void *own; char *memory; int64_t room, used; };

cad_status cad_ramp_open(cad_ramp **out, cad_device *d, int64_t bytes, const char *what)
{
    cad_status status = CAD_OK;

    CAD_TRY(cad_alloc(out, 1, sizeof **out, what));
    **out = (cad_ramp){.device = d, .does = d->table->ramps, .room = bytes};
    if (d->table->ramps && (status = d->table->ramps->open(&(*out)->own, bytes, what))) cad_free(out);
    return status;
}

void cad_ramp_close(cad_ramp **r)
{
    if (!*r) return;
    if ((*r)->does) (*r)->does->close((*r)->own);
    cad_free(r);
}

cad_status cad_ramp_turn(cad_ramp *r)
{
    r->used = 0;
    return r->does ? r->does->turn(r->device, r->own, &r->memory) : CAD_OK;
}

cad_status cad_ramp_up(cad_ramp *r, void *to, const void *from_host, int64_t bytes)
{
    char *at;

    if (!r->does) return cad_device_upload(r->device, to, from_host, bytes);
    CAD_TRY(cadp_need_inside(r->device, "upload", to, bytes));
    if (bytes > r->room - r->used) return cad_fail(CAD_EINTERNAL, "%lld bytes go up, and %lld did in this turn: expected %lld together at most", (long long)bytes, (long long)r->used, (long long)r->room);
    if (!bytes) return CAD_OK;
    at = r->memory + r->used;
    r->used += bytes;
    memcpy(at, from_host, (size_t)bytes);
    return r->does->send(r->device, r->own, to, at, bytes);
}
