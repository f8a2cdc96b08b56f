/* NCCL's stand-in over MPI, for device "emulated". A collective is done when somebody waits for the lane it was given to, and not before:
 * who reads too early, or writes what is still on its way, ends on other numbers. Sums go in rank order.
 * CADTRAIN_NCCL_FAULT=WHAT:RANK[:N] makes rank RANK fail: version, init, stuck (starts for ever), and at its Nth collective call (refused),
 * async (an error that shows with the next look), late (one that shows a second after) or hang. */
#include "comm_priv.h"
#include "nccl_api.h"

#include <cadtrain/device.h>
#include <mpi.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

typedef enum verb { GATHER, SCATTER, BROADCAST, REDUCE } verb;
typedef struct standin standin;
typedef struct job { standin *s; verb verb; const void *send; void *recv; int64_t n; cad_num type; int root; } job;

enum { JOBS = 512 };
struct standin {
    MPI_Comm comm;
    int rank, size;
    _Atomic int state;
    _Atomic double late; /* when the error shows; 0: never */
    int64_t calls, given; /* `given` also counts the parts of a group */
    job jobs[JOBS];
    char *scratch;
    int64_t room;
};

/* Whether the fault `what` is for this rank now. */
static bool faulty(const char *what, int rank, int64_t call)
{
    const char *f = getenv("CADTRAIN_NCCL_FAULT");
    size_t n = strlen(what);
    char *end;

    if (!f || strncmp(f, what, n) || f[n] != ':' || strtol(f + n + 1, &end, 10) != rank) return false;
    return call < 0 || (*end == ':' && strtol(end + 1, NULL, 10) == call);
}

static int world_rank(void)
{
    int rank = 0;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

static cad_status load(void) { return CAD_OK; }

static int version(int *out)
{
    *out = faulty("version", world_rank(), -1) ? 21803 : 22809;
    return CADP_NCCL_OK;
}

static int make_id(cadp_nccl_id *out)
{
    for (size_t i = 0; i < sizeof out->bytes; i++) out->bytes[i] = (char)(getpid() + 7 * (int)i);
    return CADP_NCCL_OK;
}

static bool same_id(const standin *s, const cadp_nccl_id *mine)
{
    cadp_nccl_id first = *mine;

    MPI_Bcast(first.bytes, (int)sizeof first.bytes, MPI_BYTE, 0, s->comm);
    return !memcmp(first.bytes, mine->bytes, sizeof first.bytes);
}

static int open_rank(void **out, int ranks, const cadp_nccl_id *id, int rank)
{
    standin *s;
    bool same;

    if (cad_alloc(out, 1, sizeof *s, "the stand-in for NCCL")) return CADP_NCCL_SYSTEM;
    s = *out;
    s->rank = rank;
    s->size = ranks;
    if (MPI_Comm_dup(MPI_COMM_WORLD, &s->comm)) return CADP_NCCL_SYSTEM;
    same = same_id(s, id);
    s->state = faulty("stuck", rank, -1) ? CADP_NCCL_IN_PROGRESS : CADP_NCCL_OK;
    if (!same) return CADP_NCCL_ARGUMENT;
    return faulty("init", rank, -1) ? CADP_NCCL_INTERNAL : CADP_NCCL_IN_PROGRESS;
}

static int nothing(void) { return CADP_NCCL_OK; }

static bool make_room(standin *s, int64_t bytes)
{
    if (s->room >= bytes) return true;
    cad_free(&s->scratch);
    s->room = 0;
    if (cad_alloc(&s->scratch, (size_t)bytes, 1, "what other ranks send to be summed")) return false;
    s->room = bytes;
    return true;
}

static float bf16_value(const char *p)
{
    uint16_t h;

    memcpy(&h, p, sizeof h);
    return cad_bf16_to_f32(h);
}

/* The sum over ranks of element i of what lies in scratch, part of rank 0 first; bf16 is summed in fp32 and rounded once. */
static void sum_element(const standin *s, int64_t i, int64_t n, cad_num type, void *out)
{
    if (type == CAD_NUM_I64) {
        uint64_t sum = 0;
        for (int k = 0; k < s->size; k++) sum += ((const uint64_t *)(const void *)s->scratch)[k * n + i];
        ((uint64_t *)out)[i] = sum;
    } else if (type == CAD_NUM_F32) {
        float sum = ((const float *)(const void *)s->scratch)[i];
        for (int k = 1; k < s->size; k++) sum += ((const float *)(const void *)s->scratch)[k * n + i];
        ((float *)out)[i] = sum;
    } else {
        float sum = bf16_value(s->scratch + i * 2);
        for (int k = 1; k < s->size; k++) sum += bf16_value(s->scratch + (k * n + i) * 2);
        ((uint16_t *)out)[i] = cad_f32_to_bf16(sum);
    }
}

static int reduce_now(standin *s, const void *send, void *recv, int64_t n, cad_num type, int root)
{
    int64_t bytes = n * (int64_t)cadp_num_bytes(type);

    if (s->rank == root && !make_room(s, s->size * bytes)) return CADP_NCCL_SYSTEM;
    if (MPI_Gather(send, (int)bytes, MPI_BYTE, s->scratch, (int)bytes, MPI_BYTE, root, s->comm)) return CADP_NCCL_SYSTEM;
    for (int64_t i = 0; s->rank == root && i < n; i++) sum_element(s, i, n, type, recv);
    return CADP_NCCL_OK;
}

static int do_job(const job *j)
{
    standin *s = j->s;
    int64_t bytes = j->n * (int64_t)cadp_num_bytes(j->type);
    int code = 0;

    if (j->verb == GATHER) return MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, j->recv, (int)bytes, MPI_BYTE, s->comm) ? CADP_NCCL_SYSTEM : CADP_NCCL_OK;
    if (j->verb == BROADCAST) return MPI_Bcast(j->recv, (int)bytes, MPI_BYTE, j->root, s->comm) ? CADP_NCCL_SYSTEM : CADP_NCCL_OK;
    if (j->verb == REDUCE) return reduce_now(s, j->send, j->recv, j->n, j->type, j->root);
    for (int k = 0; k < s->size && !code; k++) code = reduce_now(s, (const char *)j->send + k * bytes, j->recv, j->n, j->type, k);
    return code;
}

static void in_turn(void *with)
{
    job *j = with;
    int code;

    if (faulty("hang", j->s->rank, j->s->calls))
        for (;;) pause();
    if (j->s->state == CADP_NCCL_OK && (code = do_job(j))) j->s->state = code;
}

static int give(void *comm, void *stream, job j)
{
    standin *s = comm;
    job *place = &s->jobs[s->given++ % JOBS];

    s->calls++;
    if (j.n * (int64_t)cadp_num_bytes(j.type) > INT32_MAX) return CADP_NCCL_ARGUMENT; /* MPI's counts are int */
    if (faulty("call", s->rank, s->calls)) return CADP_NCCL_USAGE;
    if (faulty("async", s->rank, s->calls)) s->state = CADP_NCCL_REMOTE;
    if (faulty("late", s->rank, s->calls)) s->late = cad_now() + 1;
    j.s = s;
    *place = j;
    return cad_lane_later(stream, in_turn, place) ? CADP_NCCL_SYSTEM : CADP_NCCL_OK;
}

static int gather(const void *send, void *recv, int64_t n, cad_num type, void *comm, void *stream)
{
    const standin *s = comm;

    CAD_ASSERT((const char *)send == (char *)recv + s->rank * n * (int64_t)cadp_num_bytes(type));
    return give(comm, stream, (job){.verb = GATHER, .recv = recv, .n = n, .type = type});
}

static int scatter(const void *send, void *recv, int64_t n, cad_num type, void *comm, void *stream)
{
    return give(comm, stream, (job){.verb = SCATTER, .send = send, .recv = recv, .n = n, .type = type});
}

static int broadcast(void *buffer, int64_t n, cad_num type, int root, void *comm, void *stream)
{
    return give(comm, stream, (job){.verb = BROADCAST, .recv = buffer, .n = n, .type = type, .root = root});
}

static int reduce(const void *send, void *recv, int64_t n, cad_num type, int root, void *comm, void *stream)
{
    return give(comm, stream, (job){.verb = REDUCE, .send = send, .recv = recv, .n = n, .type = type, .root = root});
}

static int tell_state(void *comm, int *out)
{
    standin *s = comm;

    if (s->late > 0 && cad_now() > s->late) s->state = CADP_NCCL_REMOTE;
    *out = s->state;
    return CADP_NCCL_OK;
}

static int finish(void *comm)
{
    (void)comm;
    return CADP_NCCL_OK;
}

static int close_comm(void *comm)
{
    standin *s = comm;

    MPI_Comm_free(&s->comm);
    cad_free(&s->scratch);
    cad_free(&s);
    return CADP_NCCL_OK;
}

/* Whoever still works on it sees that it is over; the memory stays, since that may be another thread. */
static int abort_comm(void *comm)
{
    standin *s = comm;
    int well = CADP_NCCL_OK;

    atomic_compare_exchange_strong(&s->state, &well, CADP_NCCL_INTERNAL);
    return CADP_NCCL_OK;
}

static const char *explain(int code)
{
    static const char *const words[] = {"no error", "unhandled cuda error", "unhandled system error", "internal error", "invalid argument",
                                        "invalid usage", "remote process exited or there was a network error", "in progress"};
    return code >= 0 && code < (int)(sizeof words / sizeof *words) ? words[code] : "unknown result code";
}

static const char *last(void *comm)
{
    (void)comm;
    return "a stand-in over MPI";
}

const cadp_nccl_api cadp_nccl_standin = {
    .name = "NCCL's stand-in", .oldest = 22800, .load = load, .version = version, .id = make_id, .open = open_rank, .group_begin = nothing, .group_end = nothing,
    .gather = gather, .scatter = scatter, .broadcast = broadcast, .reduce = reduce, .state = tell_state, .finish = finish, .close = close_comm,
    .abort = abort_comm, .explain = explain, .last = last,
};
