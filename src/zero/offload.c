/* What the host does beside the device (host_states). The gradient of a unit comes down as soon as it is there, into the buffer of its parity, and the host
 * adds it up while the device computes the next one; in the last micro-step sums of squares are taken too, and where nobody has to know the norm first
 * AdamW moves the unit at once. Each parity has a lane: what it is given runs in its order. */
#include "zero_priv.h"

#include <math.h>
#include <stdio.h>

static int64_t largest_of(const cad_zero *z, int parity, bool comes_down)
{
    int64_t most = 0, sum = (int64_t)cadp_sum_bytes(z);

    for (int i = parity; i < z->units; i += 2) {
        const cadp_unit *u = &z->unit[i];
        int64_t down = z->cut_grads ? u->own_n * sum : u->n * 4, part = z->size > 1 ? (u->cut[z->rank + 1] - u->cut[z->rank]) * sum : 0;
        most = cad_max(most, comes_down ? cad_max(down, part) : cad_min(u->own_n, CADP_PAGE) * 4);
    }
    return cad_round_up(most, 64);
}

cad_status cadp_beside_open(cad_zero *z)
{
    int64_t bytes[2] = {largest_of(z, 0, true), largest_of(z, 1, true)};

    if (!z->o.host_states) return CAD_OK;
    CAD_TRY(cad_device_reserve(z->host, CADP_HOST_WORK));
    CAD_TRY(cad_arena_take(&z->host_arena, CAD_MEM_COMMUNICATION, "gradients coming down", bytes[0] + bytes[1], &z->beside[0].buffer));
    z->beside[1].buffer = z->beside[0].buffer + bytes[0];
    for (int i = 0; i < 2; i++) {
        if (z->fixed) CAD_TRY(cad_arena_take(&z->host_arena, CAD_MEM_WORK, "a page of gradients", largest_of(z, i, false), &z->beside[i].page));
        if (cad_device_has_lanes(z->device)) CAD_TRY(cad_lane_open(&z->beside[i].lane, z->device));
    }
    z->pinned = z->beside[0].lane && bytes[0] + bytes[1] && cad_lane_pin(z->beside[0].lane, z->beside[0].buffer, bytes[0] + bytes[1]);
    return CAD_OK;
}

void cadp_beside_close(cad_zero *z)
{
    for (int i = 0; i < 2; i++)
        if (z->beside[i].lane && cad_lane_wait(z->beside[i].lane)) cad_clear(); /* what is under way reads and writes what is given back */
    if (z->pinned) cad_lane_unpin(z->beside[0].lane, z->beside[0].buffer);
    for (int i = 0; i < 2; i++) cad_lane_close(&z->beside[i].lane);
}

/* ---- jobs: on whatever thread the lane calls from ---- */

cad_status cadp_host_gradient(cad_zero *z, int unit, int64_t at, int64_t n, cad_tensor *out)
{
    *out = cadp_flat(z->fixed ? z->beside[unit % 2].page : (float *)z->unit[unit].sum + at, CAD_F32, n);
    if (!z->fixed) return CAD_OK;
    return cad_fixed_back(z->host, &(cad_fixed_args){.q = cadp_flat((int64_t *)z->unit[unit].sum + at, CAD_I64, n), .x = *out, .exponent = z->exponent[unit]});
}

/* A gradient of this rank alone goes to fixed point here: half the bytes come down. */
static cad_status add(cad_zero *z, const cadp_job *j)
{
    cadp_unit *u = &z->unit[j->unit];
    char *buffer = z->beside[j->unit % 2].buffer;

    if (!z->fixed || z->cut_grads) return cadp_add(z, u, buffer, j->fresh);
    for (int64_t at = 0, n; at < u->own_n; at += n) {
        n = cad_min(u->own_n - at, CADP_PAGE);
        CAD_TRY(cad_fixed_add(z->host, &(cad_fixed_args){.q = cadp_flat((int64_t *)u->sum + at, CAD_I64, n), .x = cadp_flat((float *)(void *)buffer + at, CAD_F32, n), .largest = cadp_largest_of(z, j->unit),
                                                          .exponent = z->exponent[j->unit], .accumulate = !j->fresh}));
    }
    return CAD_OK;
}

static cad_status take_norm(cad_zero *z, int unit)
{
    cadp_unit *u = &z->unit[unit];
    cad_tensor g;

    for (int64_t at = 0, n; at < u->own_n; at += n) {
        n = cad_min(u->own_n - at, CADP_PAGE);
        CAD_TRY(cadp_host_gradient(z, unit, at, n, &g));
        CAD_TRY(cad_sumsq(z->host, &(cad_sumsq_args){g, cad_view(z->partial_dev + u->first_chunk + (u->own + at) / CAD_CHUNK, CAD_F64, 1, cad_ceil_div(n, CAD_CHUNK))}));
    }
    return CAD_OK;
}

static cad_status check_finite(const cad_zero *z, int unit)
{
    const cadp_unit *u = &z->unit[unit];
    const double *at = z->partial_dev + u->first_chunk + u->own / CAD_CHUNK;

    for (int64_t i = 0; !cad_device_pretends(z->host) && i < cad_ceil_div(u->own_n, CAD_CHUNK); i++)
        if (!isfinite(at[i])) return cad_fail(CAD_EINTERNAL, "the gradient of unit %d is not finite", unit);
    return CAD_OK;
}

static cad_status do_job(const cadp_job *j)
{
    cad_zero *z = j->z;
    cadp_unit *u = &z->unit[j->unit];

    if (j->clears) CAD_TRY(cad_device_zero(z->host, u->sum, u->own_n * (int64_t)cadp_sum_bytes(z)));
    if (j->takes) CAD_TRY(add(z, j));
    if (j->norms) CAD_TRY(take_norm(z, j->unit));
    if (j->norms && j->moves) CAD_TRY(check_finite(z, j->unit));
    return j->moves ? cadp_update_unit(z, j->unit) : CAD_OK;
}

/* Lanes may call from threads of their own; the first failure stays, and nothing is done after it. */
static void run(void *with)
{
    cadp_job *j = with;
    cad_zero *z = j->z;
    cad_status status;

    pthread_mutex_lock(&z->lock);
    if (!z->failed && (status = do_job(j))) {
        z->failed = status;
        snprintf(z->reason, sizeof z->reason, "%s", cad_reason());
        cad_clear();
    }
    pthread_mutex_unlock(&z->lock);
}

/* ---- what lanes are given ---- */

static bool goes_up(const cad_zero *z, const cadp_job *j) { return j->moves && !z->o.host_params; }
static char *parameters_of(const cad_zero *z, const cadp_unit *u) { return u->train + (cadp_whole(z) ? u->own * z->each : 0); }

static cad_status do_at_once(cad_zero *z, cadp_job j, const void *from, int64_t bytes)
{
    const cadp_unit *u = &z->unit[j.unit];

    if (bytes && !cad_device_pretends(z->device)) CAD_TRY(cad_device_download(z->device, z->beside[j.unit % 2].buffer, from, bytes));
    run(&j);
    return goes_up(z, &j) ? cad_device_upload(z->device, parameters_of(z, u), z->beside[j.unit % 2].buffer, u->own_n * z->each) : CAD_OK;
}

/* Behind what the device was given so far: what is down there is read, and the parameters that go up are no longer used. */
static cad_status give(cad_zero *z, cadp_job j, const void *from, int64_t bytes)
{
    cadp_beside *b = &z->beside[j.unit % 2];
    const cadp_unit *u = &z->unit[j.unit];

    if (!b->lane) return do_at_once(z, j, from, bytes);
    if (b->jobs == CADP_JOBS) {
        CAD_TRY(cad_lane_wait(b->lane));
        b->jobs = 0;
    }
    b->job[b->jobs] = j;
    CAD_TRY(cad_lane_follow(b->lane));
    CAD_TRY(cad_lane_copy(b->lane, b->buffer, from, bytes));
    CAD_TRY(cad_lane_mark(b->lane, 0));
    b->marked = true;
    CAD_TRY(cad_lane_later(b->lane, run, &b->job[b->jobs++]));
    return goes_up(z, &j) ? cad_lane_copy(b->lane, parameters_of(z, u), b->buffer, u->own_n * z->each) : CAD_OK;
}

cad_status cadp_beside_take(cad_zero *z, int unit, const void *from)
{
    cadp_unit *u = &z->unit[unit];
    cadp_job j = {.z = z, .unit = unit, .takes = from, .clears = !from && u->fresh, .fresh = u->fresh, .norms = z->last, .moves = z->last && z->early};

    u->fresh = false;
    u->normed = j.norms;
    u->moved = j.moves;
    if (!u->own_n || !(j.takes || j.clears || j.norms)) return CAD_OK;
    return give(z, j, from, !from ? 0 : z->cut_grads ? u->own_n * (int64_t)cadp_sum_bytes(z) : u->n * 4);
}

cad_status cadp_beside_taken(cad_zero *z, int parity)
{
    cadp_beside *b = &z->beside[parity];

    return b->lane && b->marked ? cad_lane_before(b->lane, 0) : CAD_OK;
}

cad_status cadp_beside_wait(cad_zero *z)
{
    for (int i = 0; i < 2; i++) {
        if (z->beside[i].lane) CAD_TRY(cad_lane_wait(z->beside[i].lane));
        z->beside[i].jobs = 0;
    }
    return z->failed ? cad_fail(z->failed, "%s", z->reason) : CAD_OK;
}

cad_status cadp_beside_norms(cad_zero *z)
{
    if (!z->last) CAD_TRY(cad_device_zero(z->host, z->partial_dev, z->chunks * 8));
    for (int i = 0; i < z->units; i++)
        if (z->unit[i].own_n && !z->unit[i].normed) CAD_TRY(give(z, (cadp_job){.z = z, .unit = i, .norms = true}, NULL, 0));
    return cadp_beside_wait(z);
}

/* While the parameters of one unit go up the next one moves. */
cad_status cadp_beside_moves(cad_zero *z)
{
    for (int i = 0; i < z->units; i++)
        if (z->unit[i].own_n && !z->unit[i].moved) CAD_TRY(give(z, (cadp_job){.z = z, .unit = i, .moves = true}, NULL, 0));
    return cadp_beside_wait(z);
}

cad_status cad_zero_last(cad_zero *z, const cad_zero_step_args *a)
{
    if (!z->o.host_states || (z->o.stage == 0 && z->size > 1)) return CAD_OK;
    for (int i = 0; i < 2; i++) CAD_TRY(cadp_finish_travel(z, i)); /* of the micro-step before */
    z->last = true;
    z->early = a->max_grad_norm <= 0 && !z->fixed;
    z->args = *a;
    z->clip = 1;
    return cad_device_zero(z->host, z->partial_dev, z->chunks * 8);
}
