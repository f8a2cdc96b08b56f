#include "comm_priv.h"

#include <stdio.h>
#include <unistd.h>

size_t cadp_num_bytes(cad_num type)
{
    static const size_t bytes[] = {
        [CAD_NUM_U8] = 1, [CAD_NUM_I32] = 4, [CAD_NUM_I64] = 8, [CAD_NUM_F32] = 4, [CAD_NUM_F64] = 8, [CAD_NUM_BF16] = 2,
    };
    CAD_ASSERT((size_t)type < sizeof bytes / sizeof *bytes);
    return bytes[type];
}

cad_status cadp_comm_new(cad_comm **out, const cadp_comm_if *does, int rank, int size)
{
    cad_comm *c;

    CAD_TRY(cad_alloc(&c, 1, sizeof *c, "a communicator"));
    c->does = does;
    c->rank = rank;
    c->size = c->local_size = size;
    c->nodes = 1;
    c->failed_rank = -1;
    c->piece_bytes = (size_t)1 << 30;
    c->slot_count = 64 + 4 * (int)cad_min(size, 4096);
    snprintf(c->library, sizeof c->library, "%s", does->name);
    cad_status status = cad_alloc(&c->slots, (size_t)c->slot_count, sizeof *c->slots, "transfers in flight");
    if (status) cadp_comm_delete(&c);
    *out = c;
    return status;
}

void cadp_comm_delete(cad_comm **c)
{
    if (!*c) return;
    for (int i = 0; i < CADP_LANES; i++) cad_free(&(*c)->lanes[i].scratch);
    cad_free(&(*c)->slots);
    cad_free(c);
}

/* The smallest free lane with room for `need` bytes, so that a small call leaves the large ones alone; else the largest free one. */
static int choose_lane(const cad_comm *c, int64_t need)
{
    int best = -1;

    for (int i = 0; i < CADP_LANES; i++) {
        const cadp_lane *l = &c->lanes[i], *b = best < 0 ? NULL : &c->lanes[best];
        if (l->busy) continue;
        bool fits = l->room >= need, best_fits = b && b->room >= need;
        if (!b || (fits && !best_fits) || (fits && l->room < b->room) || (!fits && !best_fits && l->room > b->room)) best = i;
    }
    return best;
}

static cad_status take_lane(cad_comm *c, cadp_slot *s)
{
    int64_t part = s->at[c->rank + 1] - s->at[c->rank];
    int64_t need = s->use == CADP_SCATTER ? (c->size - 1) * part * (int64_t)cadp_num_bytes(s->type) : 0;
    cadp_lane *l;

    s->lane = choose_lane(c, need);
    if (s->lane < 0) return cad_fail(CAD_EINTERNAL, "more than %d collective transfers in flight", (int)CADP_LANES);
    l = &c->lanes[s->lane];
    if (l->room < need) {
        cad_free(&l->scratch);
        l->room = 0;
        if (!c->does->pretends) CAD_TRY(cad_alloc(&l->scratch, (size_t)need, 1, "what other ranks send to be summed"));
        l->room = need;
    }
    l->busy = true;
    return CAD_OK;
}

static void release(cad_comm *c, cadp_slot *s)
{
    if (s->lane >= 0) c->lanes[s->lane].busy = false;
    s->use = CADP_FREE;
}

static cadp_slot *free_slot(cad_comm *c)
{
    for (int i = 0; i < c->slot_count; i++)
        if (c->slots[i].use == CADP_FREE) return &c->slots[i];
    return NULL;
}

static cad_status begin(cad_comm *c, cad_request *r, const cadp_slot *what, cad_status (*start)(cad_comm *, cadp_slot *))
{
    cadp_slot *s = free_slot(c);
    cad_status status = CAD_OK;

    *r = (cad_request){0};
    if (!s) return cad_fail(CAD_EINTERNAL, "more than %d transfers in flight", c->slot_count);
    *s = *what;
    s->lane = -1;
    s->order = c->posted++;
    if (s->at && c->size > 1) status = take_lane(c, s);
    if (!status) status = start(c, s);
    if (status || (s->done && s->use != CADP_RECEIVE)) {
        release(c, s);
        return status;
    }
    *r = (cad_request){.handle = s, .slot = (int)(s - c->slots)};
    return CAD_OK;
}

void cadp_comm_count(cad_comm *c, cad_wire kind, int64_t n, size_t each)
{
    if (c->size > 1) c->wire[kind] += n * (int64_t)each;
}

void cadp_comm_check_parts(const cad_comm *c, const int64_t *at)
{
    CAD_ASSERT(at && at[0] == 0);
    for (int k = 0; k < c->size; k++) CAD_ASSERT(at[k] <= at[k + 1]);
}

static void check_rank(const cad_comm *c, int rank) { CAD_ASSERT(rank >= 0 && rank < c->size); }

cad_status cad_comm_open(cad_comm **out, const char *kind)
{
    *out = NULL;
    if (!strcmp(kind, "mpi")) return cadp_mpi_open(out);
    if (!strcmp(kind, "self")) return cadp_self_open(out);
    if (!strncmp(kind, "plan:", 5)) return cadp_plan_open(out, kind + 5);
    return cad_fail(CAD_EUSAGE, "communicator: expected mpi, self or plan:N, found '%s'", kind);
}

void cad_comm_close(cad_comm **c)
{
    if (!*c) return;
    for (int i = 0; i < (*c)->slot_count; i++) CAD_ASSERT((*c)->slots[i].use == CADP_FREE);
    (*c)->does->close(*c);
    cadp_comm_delete(c);
}

int cad_comm_rank(const cad_comm *c) { return c->rank; }
int cad_comm_size(const cad_comm *c) { return c->size; }
int cad_comm_local_rank(const cad_comm *c) { return c->local_rank; }
int cad_comm_local_size(const cad_comm *c) { return c->local_size; }
int cad_comm_nodes(const cad_comm *c) { return c->nodes; }
const char *cad_comm_library(const cad_comm *c) { return c->library; }
bool cad_comm_pretends(const cad_comm *c) { return c->does->pretends; }
int64_t cad_comm_wire_bytes(const cad_comm *c, cad_wire kind) { return c->wire[kind]; }

int64_t cad_comm_scratch_bytes(const cad_comm *c)
{
    int64_t bytes = 0;
    for (int i = 0; i < CADP_LANES; i++) bytes += c->lanes[i].room;
    return bytes;
}

static void let_go_first(const cad_comm *c)
{
    if (c->first) c->first(c->first_with);
}

/* One number carries rank and status, so that a MAX finds the lowest failed rank: 0 well, 1 heard of a failure, else
 * (size - rank) * 256 + status. */
cad_status cad_comm_agree(cad_comm *c, cad_status mine)
{
    int64_t word = mine == CAD_OK ? 0 : mine == CAD_EPEER ? 1 : (int64_t)(c->size - c->rank) << 8 | (int64_t)mine;
    cad_status status;

    if (!mine) let_go_first(c);
    status = c->does->allreduce(c, &word, 1, CAD_NUM_I64, CAD_MAX);
    if (status) return mine ? mine : status;
    if (word > 1) {
        c->failed_rank = c->size - (int)(word >> 8);
        c->verdict = (cad_status)(word & 255);
    } else if (word == 0) {
        c->failed_rank = -1;
        c->verdict = CAD_OK;
    } else if (!c->verdict) c->verdict = CAD_EPEER; /* else the earlier verdict, which was heard of, stays */
    if (mine || !c->verdict) return mine;
    if (c->failed_rank < 0) return cad_fail(CAD_EPEER, "another rank heard of a failure");
    return cad_fail(CAD_EPEER, "rank %d failed with status %d and has the reason", c->failed_rank, (int)c->verdict);
}

cad_status cad_comm_verdict(const cad_comm *c, int *failed_rank)
{
    if (failed_rank) *failed_rank = c->failed_rank;
    return c->verdict;
}

void cad_comm_abort(cad_comm *c, cad_status code)
{
    fflush(NULL);
    c->does->stop((int)code);
    _exit((int)code);
}

cad_status cad_comm_barrier(cad_comm *c)
{
    let_go_first(c);
    return c->does->barrier(c);
}

cad_status cad_comm_bcast(cad_comm *c, void *bytes, size_t n, int root)
{
    check_rank(c, root);
    cadp_comm_count(c, CAD_WIRE_CONTROL, (int64_t)n, 1);
    let_go_first(c);
    return c->does->bcast(c, bytes, n, root);
}

cad_status cad_comm_allreduce(cad_comm *c, void *inout, int64_t n, cad_num type, cad_reduce op)
{
    CAD_ASSERT(n >= 0 && type != CAD_NUM_BF16);
    cadp_comm_count(c, CAD_WIRE_CONTROL, n, cadp_num_bytes(type));
    let_go_first(c);
    return c->does->allreduce(c, inout, n, type, op);
}

cad_status cad_comm_collect(cad_comm *c, const void *mine, void *all, const int64_t *at, int root)
{
    cadp_comm_check_parts(c, at);
    check_rank(c, root);
    cadp_comm_count(c, CAD_WIRE_CONTROL, at[c->size], 1);
    let_go_first(c);
    return c->does->collect(c, mine, all, at, root);
}

cad_status cad_comm_isend(cad_comm *c, const void *bytes, size_t n, int to, int tag, cad_request *r)
{
    check_rank(c, to);
    CAD_ASSERT(tag >= 0);
    if (to != c->rank) cadp_comm_count(c, CAD_WIRE_BATCH, (int64_t)n, 1);
    return begin(c, r, &(cadp_slot){.use = CADP_SEND, .in = bytes, .bytes = n, .peer = to, .tag = tag}, c->does->send);
}

cad_status cad_comm_irecv(cad_comm *c, void *bytes, size_t n, int from, int tag, cad_request *r)
{
    check_rank(c, from);
    CAD_ASSERT(tag >= 0);
    return begin(c, r, &(cadp_slot){.use = CADP_RECEIVE, .out = bytes, .bytes = n, .peer = from, .tag = tag}, c->does->receive);
}

cad_status cad_comm_igather(cad_comm *c, void *buffer, const int64_t *at, cad_num type, cad_request *r)
{
    cadp_comm_check_parts(c, at);
    cadp_comm_count(c, CAD_WIRE_GATHER, at[c->size], cadp_num_bytes(type));
    return begin(c, r, &(cadp_slot){.use = CADP_GATHER, .out = buffer, .at = at, .type = type}, c->does->gather);
}

cad_status cad_comm_iscatter(cad_comm *c, const void *buffer, void *out, const int64_t *at, cad_num type, cad_request *r)
{
    cadp_comm_check_parts(c, at);
    CAD_ASSERT(type == CAD_NUM_I64 || type == CAD_NUM_F32);
    cadp_comm_count(c, CAD_WIRE_SCATTER, at[c->size], cadp_num_bytes(type));
    return begin(c, r, &(cadp_slot){.use = CADP_SCATTER, .in = buffer, .out = out, .at = at, .type = type}, c->does->scatter);
}

void cad_comm_progress(cad_comm *c)
{
    c->does->progress(c);
    if (c->also) c->also(c->also_with);
}

cad_status cad_comm_wait(cad_comm *c, cad_request *r, size_t *received)
{
    cadp_slot *s = r->handle;
    cad_status status;

    *r = (cad_request){0};
    if (received) *received = 0;
    if (!s) return CAD_OK;
    CAD_ASSERT(s->use != CADP_FREE);
    let_go_first(c);
    status = c->does->wait(c, s);
    if (received) *received = s->received;
    if (!status && s->use == CADP_RECEIVE && s->received > s->bytes)
        status = cad_fail(CAD_EINTERNAL, "a message from rank %d with tag %d is longer than its room of %zu bytes", s->peer, s->tag, s->bytes);
    release(c, s);
    return status;
}
