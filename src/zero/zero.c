#include "zero_priv.h"

static cad_status cut_units(cad_zero *z)
{
    size_t marks = (size_t)z->size + 1;

    for (int i = 0; i < z->units; i++) {
        cadp_unit *u = &z->unit[i];
        u->n = z->params->train_elems[i];
        u->f = z->params->frozen_bytes[i];
        CAD_TRY(cad_alloc(&u->cut, marks, sizeof *u->cut, "the cut of a unit"));
        CAD_TRY(cad_alloc(&u->fcut, marks, sizeof *u->fcut, "the cut of a unit"));
        cadp_cut(u->n, z->size, u->cut);
        cadp_cut_bytes(u->f, z->size, u->fcut);
        u->own = z->o.stage ? u->cut[z->rank] : 0;
        u->own_n = z->o.stage ? u->cut[z->rank + 1] - u->own : u->n;
        u->first_chunk = z->chunks;
        z->chunks += cad_ceil_div(u->n, CAD_CHUNK);
    }
    return CAD_OK;
}

static cad_status take_zeroed(cad_zero *z, cad_arena *a, cad_category c, const char *name, int64_t bytes, void *out)
{
    void *p;

    CAD_TRY(cad_arena_take(a, c, name, bytes, out));
    (void)z;
    memcpy(&p, out, sizeof p);
    return p ? cad_device_zero(a->device, p, bytes) : CAD_OK;
}

/* host_params: one piece of memory, so that it is pinned once. */
static cad_status open_room(cad_zero *z)
{
    if (!z->o.host_params) return CAD_OK;
    for (int i = 0; i < z->units; i++) z->up.bytes += cad_round_up(z->unit[i].own_n * z->each, 64) + cad_round_up(z->unit[i].fcut[z->rank + 1] - z->unit[i].fcut[z->rank], 64);
    CAD_TRY(cad_arena_take(&z->host_arena, CAD_MEM_PARAMETERS, "parameters", z->up.bytes, &z->up.memory));
    if (!cad_device_has_lanes(z->device)) return CAD_OK;
    CAD_TRY(cad_lane_open(&z->up.lane, z->device));
    z->up.pinned = z->up.bytes && cad_lane_pin(z->up.lane, z->up.memory, z->up.bytes);
    return CAD_OK;
}

static char *from_room(cad_zero *z, int64_t bytes)
{
    char *at = z->up.memory + z->up.used;

    z->up.used += cad_round_up(bytes, 64);
    return bytes ? at : NULL;
}

static void close_room(cad_zero *z)
{
    if (!z->up.lane) return;
    if (cad_lane_wait(z->up.lane)) cad_clear();
    if (z->up.pinned) cad_lane_unpin(z->up.lane, z->up.memory);
    cad_lane_close(&z->up.lane);
}

static cad_status hold_unit(cad_zero *z, cad_arena *a, cadp_unit *u)
{
    bool adapters = z->params->trainable < z->params->all;
    int64_t train = cadp_whole(z) ? u->n : u->own_n, frozen = cadp_frozen_high(z, u) - cadp_frozen_low(z, u), bytes, scales;
    cad_arena *moments = z->o.paged || z->o.host_states ? &z->host_arena : a, *masters = z->o.host_states ? &z->host_arena : a, *sums = z->o.host_states ? &z->host_arena : a;

    if (z->o.host_params) {
        u->train = from_room(z, train * z->each);
        u->frozen = from_room(z, frozen);
    } else {
        CAD_TRY(cad_arena_take(a, adapters ? CAD_MEM_ADAPTERS : CAD_MEM_PARAMETERS, adapters ? "adapters and head" : "parameters", train * z->each, &u->train));
        CAD_TRY(cad_arena_take(a, CAD_MEM_PARAMETERS, "frozen parameters", frozen, &u->frozen));
        cad_arena_share(a, CAD_MEM_QUANTISATION, cadp_scale_bytes(z, (int)(u - z->unit)));
    }
    if (!z->o.train || !u->own_n) return CAD_OK;
    if (!cadp_masters_apart(z)) u->master = (float *)(void *)(u->train + (cadp_whole(z) ? u->own : 0) * 4);
    else CAD_TRY(cad_arena_take(masters, CAD_MEM_OPTIMIZER, "master parameters", u->own_n * 4, &u->master));
    cadp_moment_sizes(z, (int)(u - z->unit), &bytes, &scales);
    CAD_TRY(take_zeroed(z, moments, CAD_MEM_OPTIMIZER, "first moments", bytes, &u->m));
    CAD_TRY(take_zeroed(z, moments, CAD_MEM_OPTIMIZER, "second moments", bytes, &u->v));
    CAD_TRY(take_zeroed(z, moments, CAD_MEM_OPTIMIZER, "scales of first moments", scales * 4, &u->scale_m));
    CAD_TRY(take_zeroed(z, moments, CAD_MEM_OPTIMIZER, "scales of second moments", scales * 4, &u->scale_v));
    return cad_arena_take(sums, CAD_MEM_GRADIENTS, "gradient sums", u->own_n * (int64_t)cadp_sum_bytes(z), &u->sum);
}

/* The largest of n (trainable elements), of a whole unit (bytes) and of the owned part (elements) over units of one parity. */
static void largest_of(const cad_zero *z, int parity, int64_t *train, int64_t *all, int64_t *part)
{
    *train = *all = *part = 0;
    for (int i = parity; i < z->units; i += 2) {
        const cadp_unit *u = &z->unit[i];
        *train = cad_max(*train, u->n);
        *all = cad_max(*all, cadp_visit_frozen(z, u) + u->f);
        *part = cad_max(*part, u->cut[z->rank + 1] - u->cut[z->rank]);
    }
}

static cad_status take_travel(cad_zero *z, cad_arena *a, int parity)
{
    cadp_travel *t = &z->travel[parity];
    int64_t train, all, part, sum = (int64_t)cadp_sum_bytes(z);

    largest_of(z, parity, &train, &all, &part);
    if (cadp_visits(z)) CAD_TRY(cad_arena_take(a, CAD_MEM_COMMUNICATION, "visiting unit", all, &z->visit[parity].memory));
    if (!z->o.train || z->direct) return CAD_OK;
    CAD_TRY(cad_arena_take(a, CAD_MEM_GRADIENTS, "gradient of a unit", train * 4, &t->grad));
    if (z->size > 1 && !(z->o.host_states && !z->cut_grads)) CAD_TRY(cad_arena_take(a, CAD_MEM_COMMUNICATION, "summed part", part * sum, &t->part));
    if (z->cut_grads && z->fixed) CAD_TRY(cad_arena_take(a, CAD_MEM_COMMUNICATION, "gradient in fixed point", train * sum, &t->fixed));
    return CAD_OK;
}

/* Room for a page of the step, where what it needs lies on the host. */
static cad_status take_pages(cad_zero *z, cad_arena *a)
{
    enum { SCALES = CADP_PAGE / CAD_SCALE_BLOCK + 1 };
    int64_t most = 0;

    for (int i = 0; i < z->units; i++) most = cad_max(most, z->unit[i].own_n);
    most = cad_min(most, CADP_PAGE);
    if (!z->o.train || !most || !z->host) return CAD_OK;
    if (z->o.host_params && !z->o.host_states) CAD_TRY(cad_arena_take(a, CAD_MEM_WORK, "a page of parameters", most * z->each, &z->page_params));
    if (!z->o.paged) return CAD_OK;
    CAD_TRY(cad_arena_take(a, CAD_MEM_OPTIMIZER, "a page of moments", most * 4, &z->page_m));
    CAD_TRY(cad_arena_take(a, CAD_MEM_OPTIMIZER, "a page of moments", most * 4, &z->page_v));
    CAD_TRY(cad_arena_take(a, CAD_MEM_OPTIMIZER, "a page of scales", z->o.coded ? SCALES * 4 : 0, &z->page_scale_m));
    return cad_arena_take(a, CAD_MEM_OPTIMIZER, "a page of scales", z->o.coded ? SCALES * 4 : 0, &z->page_scale_v);
}

static cad_status take_step(cad_zero *z, cad_arena *a)
{
    size_t units = (size_t)z->units;

    if (!z->o.train) return CAD_OK;
    CAD_TRY(cad_arena_take(cadp_sums_at(z) == z->device ? a : &z->host_arena, CAD_MEM_WORK, "sums of squares", z->chunks * 8, &z->partial_dev));
    CAD_TRY(take_zeroed(z, cadp_largest_at(z) == z->device ? a : &z->host_arena, CAD_MEM_WORK, "largest gradients", z->units * 8, &z->largest_dev));
    CAD_TRY(cadp_beside_open(z));
    CAD_TRY(cad_alloc(&z->partial, (size_t)z->chunks, sizeof *z->partial, "sums of squares"));
    CAD_TRY(cad_alloc(&z->seen, units, sizeof *z->seen, "largest gradients"));
    CAD_TRY(cad_alloc(&z->largest, units, sizeof *z->largest, "largest gradients"));
    CAD_TRY(cad_alloc(&z->exponent, units, sizeof *z->exponent, "fixed-point grids"));
    for (int i = 0; i < z->units; i++) z->largest[i] = -1;
    return CAD_OK;
}

/* The most elements of one tensor that are on the host at a time. */
static size_t largest_piece(const cad_params *p)
{
    int64_t n = 1;

    for (int i = 0; i < p->count; i++) n = cad_max(n, p->row[i].elems);
    return (size_t)cad_min(n, CAD_STATE_PIECE);
}

static cad_status build(cad_zero *z, cad_arena *a)
{
    size_t piece = largest_piece(z->params);

    CAD_TRY(cad_alloc(&z->unit, (size_t)z->units, sizeof *z->unit, "the units"));
    CAD_TRY(cad_alloc(&z->offsets, (size_t)z->size + 1, sizeof *z->offsets, "the units"));
    CAD_TRY(cad_alloc(&z->piece, piece, sizeof *z->piece, "a piece of a tensor"));
    if (z->o.compute == CAD_BF16) CAD_TRY(cad_alloc(&z->half, piece, sizeof *z->half, "a piece of a tensor"));
    if (z->o.coded) CAD_TRY(cad_alloc(&z->codes, piece, 1, "a piece of a tensor"));
    if (z->o.coded) CAD_TRY(cad_alloc(&z->scales, piece / CAD_SCALE_BLOCK + 2, sizeof *z->scales, "a piece of a tensor"));
    CAD_TRY(cut_units(z));
    CAD_TRY(open_room(z));
    for (int i = 0; i < z->units; i++) CAD_TRY(hold_unit(z, a, &z->unit[i]));
    CAD_TRY(cadp_take_coder(z, a));
    for (int i = 0; i < 2; i++) {
        z->visit[i].unit = z->travel[i].unit = -1;
        CAD_TRY(take_travel(z, a, i));
    }
    CAD_TRY(take_pages(z, a));
    return take_step(z, a);
}

/* All ranks have it or none: opening the link is collective. */
static cad_status agreed_room(cad_zero **out, cad_comm *comm)
{
    cad_status status = cad_comm_agree(comm, cad_alloc(out, 1, sizeof **out, "the sharding"));

    if (status) cad_free(out);
    return status;
}

/* The host beside the device: where that is the host itself, nothing moves. */
static cad_status open_host(cad_zero *z)
{
    bool is_host = cad_device_is_host(z->device);

    z->o.host_states = z->o.host_states && z->o.train && !is_host;
    z->o.paged = z->o.paged && z->o.train && !is_host && !z->o.host_states;
    z->o.host_params = z->o.host_params && z->o.stage == 3 && !is_host;
    z->direct = z->direct && !z->o.host_states;
    if (!z->o.host_states && !z->o.paged && !z->o.host_params) return CAD_OK;
    CAD_TRY(cad_device_open(&z->host, cad_device_pretends(z->device) ? "plan:cpu" : "cpu", 0));
    z->host_arena.device = z->host;
    return CAD_OK;
}

int64_t cad_zero_host_bytes(const cad_zero *z)
{
    int64_t sum = 0;

    for (int c = 0; c < CAD_MEM_CATEGORIES; c++) sum += z->host_arena.total[c];
    return sum;
}

cad_status cad_zero_open(cad_zero **out, const cad_params *params, cad_comm *comm, cad_arena *arena, const cad_zero_options *o)
{
    cad_zero *z;
    cad_status status;

    CAD_ASSERT(o->stage == 0 || o->stage == 2 || o->stage == 3);
    CAD_ASSERT(o->compute == CAD_F32 || o->compute == CAD_BF16);
    CAD_TRY(agreed_room(out, comm));
    z = *out;
    pthread_mutex_init(&z->lock, NULL);
    z->params = params;
    z->comm = comm;
    z->device = arena->device;
    z->o = *o;
    z->rank = cad_comm_rank(comm);
    z->size = cad_comm_size(comm);
    z->units = params->units;
    z->each = (int64_t)cad_dtype_bytes(o->compute);
    z->fixed = o->exact && o->atoms_per_step > 1; /* the sum of one atom is the atom */
    z->direct = z->size == 1 && !z->fixed;
    z->cut_grads = z->size > 1 && o->stage >= 2;
    status = cad_link_open(&z->link, comm, z->device, o->link ? o->link : "host");
    if (!status) status = cad_comm_agree(comm, open_host(z));
    if (!status) status = cad_comm_agree(comm, build(z, arena)); /* a link is left by all ranks together */
    if (status) cad_zero_close(out);
    return status;
}

const char *cad_zero_library(const cad_zero *z) { return cad_link_library(z->link); }
const char *cad_zero_link(const cad_zero *z) { return cad_link_kind(z->link); }

void cad_zero_close(cad_zero **z)
{
    if (!*z) return;
    for (int i = 0; (*z)->unit && i < (*z)->units; i++) {
        cad_free(&(*z)->unit[i].cut);
        cad_free(&(*z)->unit[i].fcut);
    }
    cad_link_close(&(*z)->link);
    cadp_beside_close(*z);
    close_room(*z);
    pthread_mutex_destroy(&(*z)->lock);
    if ((*z)->host) cad_arena_close(&(*z)->host_arena);
    if (cad_device_close(&(*z)->host)) cad_clear();
    cad_free(&(*z)->unit);
    cad_free(&(*z)->offsets);
    cad_free(&(*z)->piece);
    cad_free(&(*z)->half);
    cad_free(&(*z)->codes);
    cad_free(&(*z)->scales);
    cad_free(&(*z)->partial);
    cad_free(&(*z)->seen);
    cad_free(&(*z)->largest);
    cad_free(&(*z)->exponent);
    cad_free(z);
}
