#include "comm_priv.h"

#include <fcntl.h>
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { REDUCE_ROOM = 1 << 16, SUM_BLOCK = 4096 };

/* What MPI has to know of a collective until it is complete. */
typedef struct lane_state { MPI_Request *requests; int *ints; int requested, request_room, int_room; } lane_state;

typedef struct mpi_state {
    MPI_Comm control, letters, parts; /* blocking collectives; messages; gathers and scatters */
    lane_state lanes[CADP_LANES];
    MPI_Request *messages; /* one per slot */
    int *ints; /* counts and places of a blocking call */
    double *reduce;
    int64_t reduce_room;
    char shared[256]; /* the name that forget_shared_file took away */
    int tag, most_tag; /* of the next scatter: ranks call collectives in the same order */
} mpi_state;

static mpi_state *state(const cad_comm *c) { return c->own; }

static cad_status explain(const cad_comm *c, int code, const char *what)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length, class = MPI_SUCCESS;

    if (code == MPI_SUCCESS) return CAD_OK;
    MPI_Error_class(code, &class);
    MPI_Error_string(code, text, &length);
    return cad_fail(class == MPI_ERR_NO_MEM ? CAD_ERESOURCE : CAD_EINTERNAL, "MPI on rank %d of %d: %s: %s", c->rank, c->size, what, text);
}

static MPI_Datatype mpi_type(cad_num type)
{
    switch (type) {
    case CAD_NUM_U8: return MPI_UINT8_T;
    case CAD_NUM_I32: return MPI_INT32_T;
    case CAD_NUM_I64: return MPI_INT64_T;
    case CAD_NUM_F32: return MPI_FLOAT;
    case CAD_NUM_F64: return MPI_DOUBLE;
    case CAD_NUM_BF16: return MPI_UINT16_T; /* only its bits travel */
    }
    return MPI_DATATYPE_NULL;
}

static int64_t piece_elements(const cad_comm *c, size_t each) { return cad_max(1, (int64_t)(c->piece_bytes / each)); }

static cad_status barrier(cad_comm *c) { return explain(c, MPI_Barrier(state(c)->control), "barrier"); }

static cad_status bcast(cad_comm *c, void *bytes, size_t n, int root)
{
    char *b = bytes;

    for (size_t at = 0; at < n; at += c->piece_bytes) {
        size_t piece = n - at < c->piece_bytes ? n - at : c->piece_bytes;
        CAD_TRY(explain(c, MPI_Bcast(b + at, (int)piece, MPI_BYTE, root, state(c)->control), "broadcast"));
    }
    return CAD_OK;
}

static double reduced(double a, double b, cad_reduce op)
{
    if (op == CAD_SUM) return a + b;
    return isnan(a) || b <= a ? a : b;
}

/* all: n elements of rank 0, then of rank 1, … A float's sum is rounded to float at each rank, as in the scatter. */
static void reduce_f32(float *out, const float *all, int64_t n, int size, cad_reduce op)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = all[i];
        for (int k = 1; k < size; k++) out[i] = (float)reduced(out[i], all[k * n + i], op);
    }
}

static void reduce_f64(double *out, const double *all, int64_t n, int size, cad_reduce op)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = all[i];
        for (int k = 1; k < size; k++) out[i] = reduced(out[i], all[k * n + i], op);
    }
}

/* MPI may add in any order; here every rank adds all contributions in rank order. */
static cad_status allreduce_float(cad_comm *c, void *inout, int64_t n, cad_num type, cad_reduce op)
{
    mpi_state *m = state(c);
    size_t each = cadp_num_bytes(type);
    int64_t most = cad_min(m->reduce_room / c->size, piece_elements(c, each));

    for (int64_t at = 0; at < n; at += most) {
        int64_t piece = cad_min(most, n - at);
        char *here = (char *)inout + (size_t)at * each;
        int code = MPI_Allgather(here, (int)piece, mpi_type(type), m->reduce, (int)piece, mpi_type(type), m->control);
        CAD_TRY(explain(c, code, "all-reduce"));
        if (type == CAD_NUM_F32) reduce_f32((float *)here, (const float *)m->reduce, piece, c->size, op);
        else reduce_f64((double *)here, m->reduce, piece, c->size, op);
    }
    return CAD_OK;
}

static cad_status allreduce(cad_comm *c, void *inout, int64_t n, cad_num type, cad_reduce op)
{
    size_t each = cadp_num_bytes(type);
    int64_t most = piece_elements(c, each);

    if (type == CAD_NUM_F32 || type == CAD_NUM_F64) return allreduce_float(c, inout, n, type, op);
    for (int64_t at = 0; at < n; at += most) {
        int code = MPI_Allreduce(MPI_IN_PLACE, (char *)inout + (size_t)at * each, (int)cad_min(most, n - at), mpi_type(type),
                                 op == CAD_SUM ? MPI_SUM : MPI_MAX, state(c)->control);
        CAD_TRY(explain(c, code, "all-reduce"));
    }
    return CAD_OK;
}

/* What of every rank's part lies in the window [from, from + most) of the flat array: counts, and places relative to `from`.
 * MPI's counts and places are int; windows keep both small. */
static void window(const cad_comm *c, const int64_t *at, int64_t from, int64_t most, int *counts, int *places)
{
    for (int k = 0; k < c->size; k++) {
        int64_t lo = cad_max(at[k], from), hi = cad_min(at[k + 1], from + most);
        counts[k] = hi > lo ? (int)(hi - lo) : 0;
        places[k] = hi > lo ? (int)(lo - from) : 0;
    }
}

static cad_status collect(cad_comm *c, const void *mine, void *all, const int64_t *at, int root)
{
    int64_t most = piece_elements(c, 1);
    int *counts = state(c)->ints, *places = counts + c->size;

    for (int64_t from = 0; from < at[c->size]; from += most) {
        window(c, at, from, most, counts, places);
        int64_t skip = counts[c->rank] ? from + places[c->rank] - at[c->rank] : 0;
        const char *part = counts[c->rank] ? (const char *)mine + skip : mine;
        char *whole = c->rank == root ? (char *)all + from : NULL;
        int code = MPI_Gatherv(part, counts[c->rank], MPI_BYTE, whole, counts, places, MPI_BYTE, root, state(c)->control);
        CAD_TRY(explain(c, code, "gathering parts on one rank"));
    }
    return CAD_OK;
}

/* n bytes as `count` items of `type`: more than a piece is one item of a type made for it (free_type). */
static int byte_type(const cad_comm *c, size_t n, MPI_Datatype *type, int *count)
{
    int pieces = (int)(n / c->piece_bytes), code;
    MPI_Datatype piece, many;

    *type = MPI_BYTE;
    *count = (int)n;
    if (n <= c->piece_bytes) return MPI_SUCCESS;
    *count = 1;
    if ((code = MPI_Type_contiguous((int)c->piece_bytes, MPI_BYTE, &piece))) return code;
    if ((code = MPI_Type_contiguous(pieces, piece, &many))) return code;
    code = MPI_Type_create_struct(2, (int[]){1, (int)(n % c->piece_bytes)}, (MPI_Aint[]){0, (MPI_Aint)(n - n % c->piece_bytes)},
                                  (MPI_Datatype[]){many, MPI_BYTE}, type);
    MPI_Type_free(&many);
    MPI_Type_free(&piece);
    return code ? code : MPI_Type_commit(type);
}

static void free_type(MPI_Datatype *type)
{
    if (*type != MPI_BYTE) MPI_Type_free(type);
}

static MPI_Request *message(const cad_comm *c, const cadp_slot *s) { return &state(c)->messages[s - c->slots]; }

static cad_status post_send(cad_comm *c, cadp_slot *s)
{
    MPI_Datatype type;
    int count, code = byte_type(c, s->bytes, &type, &count);

    CAD_ASSERT(s->tag <= state(c)->most_tag);
    if (!code) code = MPI_Isend(s->in, count, type, s->peer, s->tag, state(c)->letters, message(c, s));
    free_type(&type);
    return explain(c, code, "sending a message");
}

static cad_status post_receive(cad_comm *c, cadp_slot *s)
{
    MPI_Datatype type;
    int count, code = byte_type(c, s->bytes, &type, &count);

    CAD_ASSERT(s->tag <= state(c)->most_tag);
    if (!code) code = MPI_Irecv(s->out, count, type, s->peer, s->tag, state(c)->letters, message(c, s));
    free_type(&type);
    return explain(c, code, "receiving a message");
}

static cad_status wait_message(cad_comm *c, cadp_slot *s)
{
    MPI_Status status;
    MPI_Count bytes = 0;
    int code = MPI_Wait(message(c, s), &status), class = MPI_SUCCESS;

    if (code) MPI_Error_class(code, &class);
    if (class == MPI_ERR_TRUNCATE) {
        s->received = s->bytes + 1; /* the door has the sentence */
        return CAD_OK;
    }
    CAD_TRY(explain(c, code, s->use == CADP_SEND ? "sending a message" : "receiving a message"));
    if (s->use == CADP_RECEIVE) CAD_TRY(explain(c, MPI_Get_elements_x(&status, MPI_BYTE, &bytes), "the length of a message"));
    s->received = (size_t)bytes;
    return CAD_OK;
}

static cad_status make_room(lane_state *l, int requests, int ints)
{
    if (l->request_room < requests) {
        cad_free(&l->requests);
        l->request_room = 0;
        CAD_TRY(cad_alloc(&l->requests, (size_t)requests, sizeof *l->requests, "MPI requests"));
        l->request_room = requests;
    }
    if (l->int_room < ints) {
        cad_free(&l->ints);
        l->int_room = 0;
        CAD_TRY(cad_alloc(&l->ints, (size_t)ints, sizeof *l->ints, "MPI counts"));
        l->int_room = ints;
    }
    l->requested = 0;
    return CAD_OK;
}

static cad_status post_gather(cad_comm *c, cadp_slot *s)
{
    mpi_state *m = state(c);
    lane_state *l = &m->lanes[s->lane];
    size_t each = cadp_num_bytes(s->type);
    int64_t most = piece_elements(c, each), windows = cad_ceil_div(s->at[c->size], most);

    CAD_TRY(make_room(l, (int)windows, 2 * (int)windows * c->size));
    for (int64_t w = 0; w < windows; w++) {
        int *counts = l->ints + 2 * w * c->size, *places = counts + c->size;
        window(c, s->at, w * most, most, counts, places);
        int code = MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, (char *)s->out + (size_t)(w * most) * each, counts, places,
                                   mpi_type(s->type), m->parts, &l->requests[l->requested]);
        CAD_TRY(explain(c, code, "gathering parts"));
        l->requested++;
    }
    return CAD_OK;
}

/* Where rank k's contribution to this rank's part lies. */
static const char *contribution(const cad_comm *c, const cadp_slot *s, int k)
{
    size_t each = cadp_num_bytes(s->type), part = (size_t)(s->at[c->rank + 1] - s->at[c->rank]) * each;

    if (k == c->rank) return (const char *)s->in + (size_t)s->at[k] * each;
    return (const char *)c->lanes[s->lane].scratch + (size_t)(k < c->rank ? k : k - 1) * part;
}

/* Direct messages and our own sums: exact order for floats, and on one node three times the speed of MPI_Ireduce_scatter
 * (Open MPI 4.1 reduces everything on rank 0 and scatters that). Ranks start at different peers, so that none is flooded. */
static cad_status post_scatter(cad_comm *c, cadp_slot *s)
{
    mpi_state *m = state(c);
    lane_state *l = &m->lanes[s->lane];
    size_t each = cadp_num_bytes(s->type);
    int64_t most = piece_elements(c, each), mine = s->at[c->rank + 1] - s->at[c->rank], pieces = 0;

    for (int k = 0; k < c->size; k++) pieces += cad_ceil_div(s->at[k + 1] - s->at[k], most) + cad_ceil_div(mine, most);
    CAD_TRY(make_room(l, (int)pieces, 0));
    m->tag = m->tag == m->most_tag ? 0 : m->tag + 1;
    for (int d = 1; d < c->size; d++) {
        int from = (c->rank - d + c->size) % c->size;
        for (int64_t i = 0; i < mine; i += most, l->requested++) {
            char *place = (char *)(uintptr_t)contribution(c, s, from) + (size_t)i * each;
            int code = MPI_Irecv(place, (int)cad_min(most, mine - i), mpi_type(s->type), from, m->tag, m->parts, &l->requests[l->requested]);
            CAD_TRY(explain(c, code, "receiving contributions to a sum"));
        }
    }
    for (int d = 1; d < c->size; d++) {
        int to = (c->rank + d) % c->size;
        for (int64_t i = s->at[to]; i < s->at[to + 1]; i += most, l->requested++) {
            const char *place = (const char *)s->in + (size_t)i * each;
            int code = MPI_Isend(place, (int)cad_min(most, s->at[to + 1] - i), mpi_type(s->type), to, m->tag, m->parts, &l->requests[l->requested]);
            CAD_TRY(explain(c, code, "sending contributions to a sum"));
        }
    }
    return CAD_OK;
}

static void add_f32(float *out, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) out[i] += x[i];
}

static void add_i64(int64_t *out, const int64_t *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) out[i] = (int64_t)((uint64_t)out[i] + (uint64_t)x[i]);
}

static void sum_block(const cad_comm *c, const cadp_slot *s, int64_t from, int64_t n)
{
    size_t each = cadp_num_bytes(s->type), skip = (size_t)from * each;
    char *out = (char *)s->out + skip;

    memcpy(out, contribution(c, s, 0) + skip, (size_t)n * each);
    for (int k = 1; k < c->size; k++) {
        const char *x = contribution(c, s, k) + skip;
        if (s->type == CAD_NUM_F32) add_f32((float *)out, (const float *)x, n);
        else add_i64((int64_t *)out, (const int64_t *)x, n);
    }
}

static void sum_part(const cad_comm *c, const cadp_slot *s)
{
    int64_t n = s->at[c->rank + 1] - s->at[c->rank];

#pragma omp parallel for schedule(static) if (n > 16 * SUM_BLOCK)
    for (int64_t from = 0; from < n; from += SUM_BLOCK) sum_block(c, s, from, cad_min(SUM_BLOCK, n - from));
}

static cad_status complete(cad_comm *c, cadp_slot *s)
{
    if (s->lane < 0) return wait_message(c, s);
    lane_state *l = &state(c)->lanes[s->lane];
    const char *what = s->use == CADP_GATHER ? "gathering parts" : "summing parts";

    CAD_TRY(explain(c, MPI_Waitall(l->requested, l->requests, MPI_STATUSES_IGNORE), what));
    if (s->use == CADP_SCATTER) sum_part(c, s);
    return CAD_OK;
}

static void progress(cad_comm *c)
{
    int any;
    MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, state(c)->letters, &any, MPI_STATUS_IGNORE); /* moves everything else too */
}

/* Open MPI's shared memory between the ranks of a node is a file in /dev/shm for each rank, which a killed job would leave there,
 * gradients and all. Once every rank of the node has it mapped, its name is not needed any more: vader_segment.….LOCAL_RANK */
static void forget_shared_file(const cad_comm *c)
{
    mpi_state *m = state(c);
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[4096], suffix[16];

    if (!maps) return;
    snprintf(suffix, sizeof suffix, ".%d", c->local_rank);
    while (!m->shared[0] && fgets(line, sizeof line, maps)) {
        char *path = strchr(line, '/'), *dot;
        if (!path || !strstr(path, "/vader_segment.")) continue;
        path[strcspn(path, "\n")] = 0;
        dot = strrchr(path, '.');
        if (!strcmp(dot, suffix) && strlen(path) < sizeof m->shared && !unlink(path)) memcpy(m->shared, path, strlen(path) + 1);
    }
    fclose(maps);
}

/* MPI_Finalize complains when it finds nothing to remove. */
static void restore_shared_name(const mpi_state *m)
{
    int file = m->shared[0] ? open(m->shared, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600) : -1;

    if (file >= 0) close(file);
}

static cad_status allocate(cad_comm *c)
{
    mpi_state *m;

    CAD_TRY(cad_alloc(&c->own, 1, sizeof *m, "the MPI world"));
    m = c->own;
    m->control = m->letters = m->parts = MPI_COMM_NULL;
    m->reduce_room = cad_max(REDUCE_ROOM, c->size);
    CAD_TRY(cad_alloc(&m->reduce, (size_t)m->reduce_room, sizeof *m->reduce, "contributions to a sum"));
    CAD_TRY(cad_alloc(&m->messages, (size_t)c->slot_count, sizeof *m->messages, "MPI requests"));
    CAD_TRY(cad_alloc(&m->ints, 2 * (size_t)c->size, sizeof *m->ints, "MPI counts"));
    for (int i = 0; i < CADP_LANES; i++) CAD_TRY(make_room(&m->lanes[i], 2 * c->size, 2 * c->size));
    return CAD_OK;
}

static void close_mpi(cad_comm *c)
{
    mpi_state *m = state(c);

    if (m) {
        restore_shared_name(m);
        MPI_Comm *all[] = {&m->control, &m->letters, &m->parts};
        for (int i = 0; i < 3; i++)
            if (*all[i] != MPI_COMM_NULL) MPI_Comm_free(all[i]);
        for (int i = 0; i < CADP_LANES; i++) {
            cad_free(&m->lanes[i].requests);
            cad_free(&m->lanes[i].ints);
        }
        cad_free(&m->reduce);
        cad_free(&m->messages);
        cad_free(&m->ints);
        cad_free(&c->own);
    }
    MPI_Finalize();
}

static void stop_mpi(int code) { MPI_Abort(MPI_COMM_WORLD, code); }

static cad_status meet_neighbours(const cad_comm *c, MPI_Comm node)
{
    int *out = state(c)->ints, *in = out + c->size;

    memset(out, 0, (size_t)c->local_size * sizeof *out);
    CAD_TRY(explain(c, MPI_Alltoall(out, 1, MPI_INT, in, 1, MPI_INT, node), "meeting the node's ranks"));
    CAD_TRY(explain(c, MPI_Barrier(node), "meeting the node's ranks"));
    forget_shared_file(c);
    return CAD_OK;
}

static cad_status find_neighbours(cad_comm *c)
{
    MPI_Comm node;
    int first;

    CAD_TRY(explain(c, MPI_Comm_split_type(state(c)->control, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &node), "finding the node's ranks"));
    MPI_Comm_rank(node, &c->local_rank);
    MPI_Comm_size(node, &c->local_size);
    CAD_TRY(meet_neighbours(c, node));
    MPI_Comm_free(&node);
    first = c->local_rank == 0;
    return explain(c, MPI_Allreduce(&first, &c->nodes, 1, MPI_INT, MPI_SUM, state(c)->control), "counting nodes");
}

static cad_status join(cad_comm *c)
{
    mpi_state *m = state(c);
    MPI_Comm *all[] = {&m->control, &m->letters, &m->parts};
    int *most, found;

    for (int i = 0; i < 3; i++) CAD_TRY(explain(c, MPI_Comm_dup(MPI_COMM_WORLD, all[i]), "copying the communicator"));
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &most, &found);
    m->most_tag = found ? *most : 32767; /* what the standard promises at least */
    return find_neighbours(c);
}

/* "Open MPI v4.1.4, package: …": up to the comma. */
static void name_library(cad_comm *c)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;

    MPI_Get_library_version(text, &length);
    text[strcspn(text, ",\n")] = 0;
    snprintf(c->library, sizeof c->library, "%.*s", (int)sizeof c->library - 1, text);
}

static const cadp_comm_if mpi = {
    .name = "mpi", .close = close_mpi, .stop = stop_mpi,
    .barrier = barrier, .bcast = bcast, .allreduce = allreduce, .collect = collect,
    .send = post_send, .receive = post_receive, .gather = post_gather, .scatter = post_scatter,
    .wait = complete, .progress = progress,
};

static const cadp_comm_if mpi_alone = {
    .name = "mpi", .close = close_mpi, .stop = stop_mpi,
    .barrier = cadp_alone_barrier, .bcast = cadp_alone_bcast, .allreduce = cadp_alone_allreduce, .collect = cadp_alone_collect,
    .send = cadp_alone_send, .receive = cadp_alone_receive, .gather = cadp_alone_gather, .scatter = cadp_alone_scatter,
    .wait = cadp_alone_wait, .progress = cadp_alone_progress,
};

/* The variable by which a launcher other than Open MPI's says that it started several processes; NULL: none does. mpirun inside a
 * Slurm job knows best, so it is believed. */
static const char *launched_several(void)
{
    static const char *const names[] = {"SLURM_NTASKS", "SLURM_NPROCS", "PMI_SIZE"};

    if (getenv("OMPI_COMM_WORLD_SIZE")) return NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *n = getenv(names[i]);
        if (n && strtol(n, NULL, 10) > 1) return names[i];
    }
    return NULL;
}

static cad_status refuse_lonely(const char *variable)
{
    cad_advise("start it with `srun --mpi=pmix`, or with Open MPI's `mpirun`");
    return cad_fail(CAD_EUSAGE, "this process is rank 0 of 1, but %s=%s: the processes of the job do not see each other", variable, getenv(variable));
}

static cad_status start_mpi(int *rank, int *size)
{
    int running = 0, level;

    MPI_Initialized(&running);
    if (running) return cad_fail(CAD_EINTERNAL, "MPI is started once in a process; it was started before");
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0); /* without mpirun: no helper process, 0.1 s less */
    int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
    if (code) return cad_fail(CAD_ERESOURCE, "MPI does not start (code %d)", code);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, rank);
    MPI_Comm_size(MPI_COMM_WORLD, size);
    if (level >= MPI_THREAD_FUNNELED) return CAD_OK;
    MPI_Finalize();
    return cad_fail(CAD_ERESOURCE, "this MPI library does not allow threads beside the one that communicates");
}

/* All ranks open or none does. */
static cad_status agree_to_open(cad_status mine)
{
    int any = mine != CAD_OK;

    MPI_Allreduce(MPI_IN_PLACE, &any, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (mine || !any) return mine;
    return cad_fail(CAD_EPEER, "another rank could not open its communicator");
}

cad_status cadp_mpi_open(cad_comm **out)
{
    const char *several = launched_several();
    cad_comm *c = NULL;
    int rank, size;

    CAD_TRY(start_mpi(&rank, &size));
    cad_status status = size == 1 && several ? refuse_lonely(several) : CAD_OK;
    if (!status) status = cadp_comm_new(&c, size > 1 ? &mpi : &mpi_alone, rank, size);
    if (!status) status = allocate(c);
    status = agree_to_open(status);
    if (!status) status = join(c);
    if (!status) name_library(c);
    if (!status) *out = c;
    else if (c) {
        close_mpi(c);
        cadp_comm_delete(&c);
    } else MPI_Finalize();
    if (status == CAD_EPEER) nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL); /* the launcher ends all when the first one leaves: the rank that knows why says it first */
    return status;
}
