/* Units over NCCL: each collective is put on a lane behind what the device computed so far; waiting for one ties the device to the lane's
 * mark, and the host goes on. The communicator does not block, so that an error anywhere is noticed: it is aborted, and this rank ends with
 * the reason. */
#include "link_priv.h"
#include "nccl_api.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const double LONGEST_START = 120;

struct cadp_nccl {
    const cadp_nccl_api *api;
    cad_comm *comm;
    cad_lane *lane;
    void *nccl, *stream;
    bool busy[CAD_LANE_MARKS];
    char library[64];
    pthread_mutex_t lock; /* of what follows: the watchdog looks too */
    bool failed;
    char reason[512];
};

const char *cadp_nccl_library(const cadp_nccl *n) { return n->library; }

/* The first failure stays; the communicator is over. */
static void note(cadp_nccl *n, int code, const char *what)
{
    pthread_mutex_lock(&n->lock);
    if (!n->failed) {
        snprintf(n->reason, sizeof n->reason, "%s on rank %d of %d: %s: %s (%s)", n->api->name, n->comm->rank, n->comm->size, what, n->api->explain(code), n->nccl ? n->api->last(n->nccl) : "");
        n->failed = true;
        if (n->nccl) (void)n->api->abort(n->nccl);
    }
    pthread_mutex_unlock(&n->lock);
}

static cad_status told(cadp_nccl *n)
{
    bool failed;

    pthread_mutex_lock(&n->lock);
    failed = n->failed;
    pthread_mutex_unlock(&n->lock);
    return failed ? cad_fail(CAD_EINTERNAL, "%s", n->reason) : CAD_OK;
}

static cad_status explained(cadp_nccl *n, int code, const char *what)
{
    if (code == CADP_NCCL_OK || code == CADP_NCCL_IN_PROGRESS) return CAD_OK;
    note(n, code, what);
    return told(n);
}

/* An aborted communicator must not be asked. */
static int now(cadp_nccl *n)
{
    int state = CADP_NCCL_OK, code;

    pthread_mutex_lock(&n->lock);
    code = n->failed ? CADP_NCCL_OK : n->api->state(n->nccl, &state);
    pthread_mutex_unlock(&n->lock);
    return code ? code : state;
}

static bool is_well(void *with)
{
    cadp_nccl *n = with;
    int state = now(n);

    if (state && state != CADP_NCCL_IN_PROGRESS) note(n, state, "noticed beside the work");
    return !n->failed;
}

static void look(void *with) { (void)is_well(with); }

/* What does not block tells later how it went. */
static cad_status settle(cadp_nccl *n, int code, const char *what, double seconds)
{
    double began = cad_now();

    for (; code == CADP_NCCL_IN_PROGRESS; code = now(n)) {
        if (seconds > 0 && cad_now() - began > seconds) {
            note(n, CADP_NCCL_IN_PROGRESS, what);
            return cad_fail(CAD_EINTERNAL, "%s on rank %d of %d: %s: not done after %g s", n->api->name, n->comm->rank, n->comm->size, what, seconds);
        }
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    CAD_TRY(explained(n, code, what));
    return told(n);
}

/* NCCL's work goes on while the host waits for other ranks; that of its stand-in, which another rank may be waiting for, is done by the host
 * itself. A failure shows when the device is waited for. */
static void let_lane_run(void *with)
{
    cadp_nccl *n = with;

    if (!n->failed && cad_lane_wait(n->lane)) cad_clear();
}

/* ---- opening: over MPI, all or none ---- */

static double longest_start(void)
{
    const char *s = getenv("CADTRAIN_NCCL_SECONDS");
    double seconds = s ? strtod(s, NULL) : 0;

    return seconds > 0 ? seconds : LONGEST_START;
}

static void words_of(int version, char out[32]) { snprintf(out, 32, "%d.%d.%d", version / 10000, version % 10000 / 100, version % 100); }

static cad_status check_version(cadp_nccl *n, int *version)
{
    char wanted[32], found[32];

    CAD_TRY(n->api->load());
    CAD_TRY(explained(n, n->api->version(version), "its version"));
    words_of(n->api->oldest, wanted);
    words_of(*version, found);
    snprintf(n->library, sizeof n->library, "%s %s", n->api->name, found);
    return *version >= n->api->oldest ? CAD_OK : cad_fail(CAD_ERESOURCE, "%s on rank %d: expected version %s or later, found %s", n->api->name, n->comm->rank, wanted, found);
}

static cad_status same_version(cadp_nccl *n, int version)
{
    int64_t ends[2] = {version, -(int64_t)version};
    char low[32], high[32];

    CAD_TRY(cad_comm_allreduce(n->comm, ends, 2, CAD_NUM_I64, CAD_MAX));
    words_of((int)-ends[1], low);
    words_of((int)ends[0], high);
    return ends[0] == -ends[1] ? CAD_OK : cad_fail(CAD_ERESOURCE, "%s: expected one version on all ranks, found %s and %s", n->api->name, low, high);
}

static cad_status start(cadp_nccl *n)
{
    cadp_nccl_id id = {{0}};
    int version = 0, code;

    CAD_TRY(cad_comm_agree(n->comm, check_version(n, &version)));
    CAD_TRY(cad_comm_agree(n->comm, same_version(n, version)));
    CAD_TRY(cad_comm_agree(n->comm, n->comm->rank ? CAD_OK : explained(n, n->api->id(&id), "an id for the group")));
    CAD_TRY(cad_comm_bcast(n->comm, &id, sizeof id, 0));
    code = n->api->open(&n->nccl, n->comm->size, &id, n->comm->rank);
    return cad_comm_agree(n->comm, settle(n, code, "starting", longest_start()));
}

static cad_status open_lane(cadp_nccl *n, cad_device *device)
{
    CAD_TRY(cad_lane_open(&n->lane, device));
    n->stream = cad_lane_native(n->lane);
    n->api = n->stream ? &cadp_nccl_real : &cadp_nccl_standin;
    if (!n->stream) n->stream = n->lane;
    return CAD_OK;
}

static cad_status open_room(cadp_nccl **out, cad_comm *comm, cad_device *device)
{
    CAD_TRY(cad_alloc(out, 1, sizeof **out, "the link over NCCL"));
    (*out)->comm = comm;
    pthread_mutex_init(&(*out)->lock, NULL);
    return open_lane(*out, device);
}

/* Another rank did not start: nobody will answer. */
static void abandon(cadp_nccl *n)
{
    if (n->nccl && !n->failed) (void)n->api->abort(n->nccl);
    n->failed = true;
}

cad_status cadp_nccl_open(cadp_nccl **out, cad_comm *comm, cad_device *device)
{
    cad_status status = cad_comm_agree(comm, open_room(out, comm, device));
    cadp_nccl *n = *out;

    if (!status && (status = start(n))) abandon(n);
    if (status) {
        cadp_nccl_close(out);
        return status;
    }
    comm->also = look;
    comm->also_with = n;
    if (n->api == &cadp_nccl_standin) comm->first = let_lane_run;
    comm->first_with = n;
    cadp_watchdog_also(is_well, n, n->reason);
    return CAD_OK;
}

/* After a failure the lane may wait for ever for what never comes: the communicator goes first. */
void cadp_nccl_close(cadp_nccl **out)
{
    cadp_nccl *n = *out;

    if (!n) return;
    cadp_watchdog_also(NULL, NULL, NULL);
    n->comm->also = NULL;
    n->comm->first = NULL;
    if (n->nccl && !n->failed && !cad_lane_wait(n->lane)) {
        if (!settle(n, n->api->finish(n->nccl), "ending", longest_start())) (void)n->api->close(n->nccl);
    }
    cad_lane_close(&n->lane);
    pthread_mutex_destroy(&n->lock);
    cad_free(out);
}

/* ---- collectives ---- */

static bool even(const cad_comm *c, const int64_t *at)
{
    for (int k = 1; k < c->size; k++)
        if (at[k + 1] - at[k] != at[1]) return false;
    return true;
}

/* Before and after the calls of one collective; the mark is the request. */
static cad_status begin(cadp_nccl *n, int *mark)
{
    CAD_TRY(told(n));
    for (*mark = 0; *mark < CAD_LANE_MARKS && n->busy[*mark]; ++*mark) continue;
    if (*mark == CAD_LANE_MARKS) return cad_fail(CAD_EINTERNAL, "more than %d collective transfers in flight", (int)CAD_LANE_MARKS);
    return cad_lane_follow(n->lane);
}

static cad_status end(cadp_nccl *n, int code, const char *what, int mark, cad_request *r)
{
    CAD_TRY(settle(n, code, what, 0));
    CAD_TRY(cad_lane_mark(n->lane, mark));
    n->busy[mark] = true;
    *r = (cad_request){.handle = n, .slot = mark};
    return CAD_OK;
}

/* Codes of the calls of a group: the first that is a failure; the group is closed in any case. */
static int worse(int a, int b) { return a && a != CADP_NCCL_IN_PROGRESS ? a : b; }

static int gather_parts(cadp_nccl *n, char *buffer, const int64_t *at, cad_num type)
{
    int64_t each = (int64_t)cadp_num_bytes(type);
    int code = n->api->group_begin();

    for (int k = 0; k < n->comm->size; k++)
        if (at[k + 1] > at[k]) code = worse(code, n->api->broadcast(buffer + at[k] * each, at[k + 1] - at[k], type, k, n->nccl, n->stream));
    return worse(code, n->api->group_end());
}

static int scatter_parts(cadp_nccl *n, const char *buffer, void *out, const int64_t *at, cad_num type)
{
    int64_t each = (int64_t)cadp_num_bytes(type);
    int code = n->api->group_begin();

    for (int k = 0; k < n->comm->size; k++)
        if (at[k + 1] > at[k]) code = worse(code, n->api->reduce(buffer + at[k] * each, out, at[k + 1] - at[k], type, k, n->nccl, n->stream));
    return worse(code, n->api->group_end());
}

cad_status cadp_nccl_gather(cadp_nccl *n, void *buffer, const int64_t *at, cad_num type, cad_request *r)
{
    char *b = buffer;
    int mark, code;

    cadp_comm_check_parts(n->comm, at);
    CAD_TRY(begin(n, &mark));
    cadp_comm_count(n->comm, CAD_WIRE_GATHER, at[n->comm->size], cadp_num_bytes(type));
    if (even(n->comm, at)) code = at[1] ? n->api->gather(b + at[n->comm->rank] * (int64_t)cadp_num_bytes(type), b, at[1], type, n->nccl, n->stream) : CADP_NCCL_OK;
    else code = gather_parts(n, b, at, type);
    return end(n, code, "gathering parts", mark, r);
}

cad_status cadp_nccl_scatter(cadp_nccl *n, const void *buffer, void *out, const int64_t *at, cad_num type, cad_request *r)
{
    int mark, code;

    cadp_comm_check_parts(n->comm, at);
    CAD_ASSERT(type == CAD_NUM_I64 || type == CAD_NUM_F32 || type == CAD_NUM_BF16);
    CAD_TRY(begin(n, &mark));
    cadp_comm_count(n->comm, CAD_WIRE_SCATTER, at[n->comm->size], cadp_num_bytes(type));
    if (even(n->comm, at)) code = at[1] ? n->api->scatter(buffer, out, at[1], type, n->nccl, n->stream) : CADP_NCCL_OK;
    else code = scatter_parts(n, buffer, out, at, type);
    return end(n, code, "summing parts", mark, r);
}

cad_status cadp_nccl_wait(cadp_nccl *n, cad_request *r)
{
    int mark = r->slot;
    bool there = r->handle != NULL;

    *r = (cad_request){0};
    if (!there) return CAD_OK;
    CAD_ASSERT(n->busy[mark]);
    n->busy[mark] = false;
    CAD_TRY(cad_lane_before(n->lane, mark));
    (void)is_well(n);
    return told(n);
}
