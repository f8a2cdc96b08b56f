/* Units come and go (stage 3), gradients leave for their owners (stage 2, 3). */
#include "zero_priv.h"

/* This rank's part into its place; up from the host, where it lies there. */
static cad_status place(cad_zero *z, char *buffer, const char *part, const int64_t *cut, int64_t each)
{
    int64_t at = cut[z->rank] * each, n = cut[z->rank + 1] * each - at;

    if (!n) return CAD_OK;
    if (z->up.lane) return cad_lane_copy(z->up.lane, buffer + at, part, n);
    return (z->o.host_params ? cad_device_upload : cad_device_copy)(z->device, buffer + at, part, n);
}

static cad_status place_unit(cad_zero *z, int unit)
{
    cadp_visit *v = &z->visit[unit % 2];
    cadp_unit *u = &z->unit[unit];

    if (z->up.lane) CAD_TRY(cad_lane_follow(z->up.lane)); /* the room was that of an earlier unit */
    CAD_TRY(place(z, v->memory, u->train, u->cut, z->each));
    CAD_TRY(place(z, v->memory + cadp_visit_frozen(z, u), u->frozen, u->fcut, 1));
    return z->up.lane ? cad_lane_mark(z->up.lane, unit % 2) : CAD_OK;
}

/* Then everybody's parts over the wire. */
cad_status cad_zero_fetch(cad_zero *z, int unit)
{
    cadp_visit *v = &z->visit[unit % 2];
    cadp_unit *u = &z->unit[unit];

    if (!cadp_visits(z)) return CAD_OK;
    CAD_ASSERT(v->unit == -1 || v->unit == unit);
    if (v->unit == unit) return CAD_OK;
    v->unit = unit;
    v->waiting = true;
    CAD_TRY(place_unit(z, unit));
    if (z->size == 1) return CAD_OK;
    if (z->up.lane) CAD_TRY(cad_lane_before(z->up.lane, unit % 2));
    if (u->n) CAD_TRY(cad_link_gather(z->link, v->memory, u->cut, cadp_compute_num(z), &v->train));
    return u->f ? cad_link_gather(z->link, v->memory + cadp_visit_frozen(z, u), u->fcut, CAD_NUM_U8, &v->frozen) : CAD_OK;
}

cad_status cad_zero_use(cad_zero *z, int unit, cad_unit_view *out)
{
    cadp_visit *v = &z->visit[unit % 2];
    cadp_unit *u = &z->unit[unit];

    *out = (cad_unit_view){u->train, u->frozen};
    if (!cadp_visits(z)) return CAD_OK;
    CAD_ASSERT(v->unit == unit);
    if (v->waiting) {
        if (z->size > 1) CAD_TRY(cad_link_wait(z->link, &v->train));
        if (z->size > 1) CAD_TRY(cad_link_wait(z->link, &v->frozen));
        else if (z->up.lane) CAD_TRY(cad_lane_before(z->up.lane, unit % 2));
        v->waiting = false;
    }
    *out = (cad_unit_view){v->memory, v->memory + cadp_visit_frozen(z, u)};
    return CAD_OK;
}

cad_status cad_zero_release(cad_zero *z, int unit)
{
    if (cadp_visits(z)) z->visit[unit % 2].unit = -1;
    cad_comm_progress(z->comm);
    return CAD_OK;
}

cad_status cadp_add(cad_zero *z, cadp_unit *u, const void *part, bool fresh)
{
    cad_tensor sum = cadp_flat(u->sum, z->fixed ? CAD_I64 : CAD_F32, u->own_n), more = sum;
    cad_device *d = cadp_sums_at(z);

    if (fresh) return cad_device_copy(d, u->sum, part, u->own_n * (int64_t)cadp_sum_bytes(z));
    more.data = (void *)(uintptr_t)part;
    if (z->fixed) return cad_add_i64(d, sum, more);
    return cad_axpby(d, &(cad_axpby_args){.y = sum, .x = more, .alpha = 1, .beta = 1});
}

static cad_status add_to_sum(cad_zero *z, cadp_unit *u, const void *part)
{
    bool fresh = u->fresh;

    u->fresh = false;
    return u->own_n ? cadp_add(z, u, part, fresh) : CAD_OK;
}

cad_status cadp_finish_travel(cad_zero *z, int parity)
{
    cadp_travel *t = &z->travel[parity];
    cadp_unit *u;

    if (t->unit < 0) return CAD_OK;
    u = &z->unit[t->unit];
    t->unit = -1;
    CAD_TRY(cad_link_wait(z->link, &t->request));
    return z->o.host_states ? cadp_beside_take(z, (int)(u - z->unit), t->part) : add_to_sum(z, u, t->part);
}

cad_status cad_zero_begin(cad_zero *z)
{
    for (int i = 0; i < 2; i++) CAD_TRY(cadp_finish_travel(z, i)); /* of micro-steps whose step was never made */
    if (z->o.host_states) CAD_TRY(cadp_beside_wait(z));
    z->last = false;
    for (int i = 0; i < z->units; i++) {
        z->unit[i].fresh = true;
        z->unit[i].normed = z->unit[i].moved = false;
        z->exponent[i] = cadp_exponent(z, z->largest[i]);
    }
    return z->fixed ? cad_device_zero(cadp_largest_at(z), z->largest_dev, (int64_t)z->units * 8) : CAD_OK;
}

cad_status cad_zero_grads(cad_zero *z, int unit, void **out, bool *add)
{
    cadp_unit *u = &z->unit[unit];

    *out = NULL;
    *add = z->direct && !u->fresh;
    if (!u->n) return CAD_OK;
    CAD_TRY(cadp_finish_travel(z, unit % 2));
    if (z->o.host_states) CAD_TRY(cadp_beside_taken(z, unit % 2));
    *out = z->direct ? u->sum : z->travel[unit % 2].grad;
    return CAD_OK;
}

/* Gradients stay here until the step: one rank, or stage 0. */
static cad_status keep(cad_zero *z, int unit, bool empty)
{
    cadp_unit *u = &z->unit[unit];
    cad_tensor grad = cadp_flat(z->travel[unit % 2].grad, CAD_F32, u->n), sum = cadp_flat(u->sum, z->fixed ? CAD_I64 : CAD_F32, u->n);
    bool fresh = u->fresh;

    if (empty && !fresh) return CAD_OK;
    u->fresh = false;
    if (empty) return cad_device_zero(z->device, u->sum, u->n * (int64_t)cadp_sum_bytes(z));
    if (z->fixed) return cad_fixed_add(z->device, &(cad_fixed_args){.q = sum, .x = grad, .largest = cadp_largest_of(z, unit), .exponent = z->exponent[unit], .accumulate = !fresh});
    return cad_axpby(z->device, &(cad_axpby_args){.y = sum, .x = grad, .alpha = 1, .beta = fresh ? 0 : 1});
}

static cad_status send(cad_zero *z, int unit, bool empty)
{
    cadp_unit *u = &z->unit[unit];
    cadp_travel *t = &z->travel[unit % 2];
    void *buffer = z->fixed ? t->fixed : (void *)t->grad;

    if (empty) CAD_TRY(cad_device_zero(z->device, buffer, u->n * (int64_t)cadp_sum_bytes(z)));
    else if (z->fixed)
        CAD_TRY(cad_fixed_add(z->device, &(cad_fixed_args){.q = cadp_flat(t->fixed, CAD_I64, u->n), .x = cadp_flat(t->grad, CAD_F32, u->n), .largest = cadp_largest_of(z, unit), .exponent = z->exponent[unit]}));
    t->unit = unit;
    return cad_link_scatter(z->link, buffer, t->part, u->cut, cadp_sum_num(z), &t->request);
}

cad_status cad_zero_grads_done(cad_zero *z, int unit, bool empty)
{
    cadp_unit *u = &z->unit[unit];

    if (!u->n) return CAD_OK;
    if (z->direct) {
        bool zero = empty && u->fresh;
        u->fresh = false;
        return zero ? cad_device_zero(z->device, u->sum, u->n * 4) : CAD_OK;
    }
    if (z->cut_grads) return send(z, unit, empty);
    return z->o.host_states ? cadp_beside_take(z, unit, empty ? NULL : z->travel[unit % 2].grad) : keep(z, unit, empty);
}
