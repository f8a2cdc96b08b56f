/* NCCL itself, found when it is first wanted: a program for one GPU needs no NCCL on its machine. */
#include "nccl_api.h"

#include <dlfcn.h>
#include <nccl.h>
#include <stdlib.h>

#define WANTED(X)                                                                                                                        \
    X(GetVersion) X(GetUniqueId) X(CommInitRankConfig) X(GroupStart) X(GroupEnd) X(AllGather) X(ReduceScatter) X(Broadcast) X(Reduce)    \
    X(CommGetAsyncError) X(CommFinalize) X(CommDestroy) X(CommAbort) X(GetErrorString) X(GetLastError)

#define FIELD(name) __typeof__(&nccl##name) name;
static struct { void *handle; WANTED(FIELD) } lib;
#undef FIELD

_Static_assert((int)CADP_NCCL_SYSTEM == (int)ncclSystemError && (int)CADP_NCCL_INTERNAL == (int)ncclInternalError && (int)CADP_NCCL_ARGUMENT == (int)ncclInvalidArgument &&
               (int)CADP_NCCL_USAGE == (int)ncclInvalidUsage && (int)CADP_NCCL_REMOTE == (int)ncclRemoteError && (int)CADP_NCCL_IN_PROGRESS == (int)ncclInProgress, "codes are NCCL's");
_Static_assert(sizeof(cadp_nccl_id) == sizeof(ncclUniqueId), "NCCL's id");

static cad_status find_symbol(const char *name, void *out)
{
    void *p = dlsym(lib.handle, name);

    if (!p) return cad_fail(CAD_ERESOURCE, "NCCL: %s is not in the library that was found: %s", name, dlerror());
    memcpy(out, &p, sizeof p);
    return CAD_OK;
}

static cad_status load(void)
{
    const char *path = getenv("CADTRAIN_NCCL_LIBRARY");

    if (lib.handle) return CAD_OK;
    if (!(lib.handle = dlopen(path ? path : "libnccl.so.2", RTLD_NOW | RTLD_LOCAL)))
        return cad_fail(CAD_ERESOURCE, "NCCL: expected the library libnccl.so.2 (named by CADTRAIN_NCCL_LIBRARY, or where LD_LIBRARY_PATH leads), found none: %s", dlerror());
#define FIND(name) CAD_TRY(find_symbol("nccl" #name, &lib.name));
    WANTED(FIND)
#undef FIND
    return CAD_OK;
}

static int version(int *out) { return (int)lib.GetVersion(out); }

static int make_id(cadp_nccl_id *out)
{
    ncclUniqueId id;
    int code = (int)lib.GetUniqueId(&id);

    if (!code) memcpy(out, &id, sizeof id);
    return code;
}

static int open_rank(void **out, int ranks, const cadp_nccl_id *id, int rank)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId own;
    ncclComm_t comm = NULL;
    int code;

    memcpy(&own, id, sizeof own);
    config.blocking = 0; /* so that a rank that died is noticed here too */
    code = (int)lib.CommInitRankConfig(&comm, ranks, own, rank, &config);
    *out = comm;
    return code;
}

static int group_begin(void) { return (int)lib.GroupStart(); }
static int group_end(void) { return (int)lib.GroupEnd(); }

static ncclDataType_t type_of(cad_num type)
{
    switch (type) {
    case CAD_NUM_U8: return ncclUint8;
    case CAD_NUM_I32: return ncclInt32;
    case CAD_NUM_I64: return ncclInt64;
    case CAD_NUM_F32: return ncclFloat32;
    case CAD_NUM_F64: return ncclFloat64;
    case CAD_NUM_BF16: return ncclBfloat16;
    }
    return ncclNumTypes;
}

static int gather(const void *send, void *recv, int64_t n, cad_num type, void *comm, void *stream)
{
    return (int)lib.AllGather(send, recv, (size_t)n, type_of(type), comm, stream);
}

static int scatter(const void *send, void *recv, int64_t n, cad_num type, void *comm, void *stream)
{
    return (int)lib.ReduceScatter(send, recv, (size_t)n, type_of(type), ncclSum, comm, stream);
}

static int broadcast(void *buffer, int64_t n, cad_num type, int root, void *comm, void *stream)
{
    return (int)lib.Broadcast(buffer, buffer, (size_t)n, type_of(type), root, comm, stream);
}

static int reduce(const void *send, void *recv, int64_t n, cad_num type, int root, void *comm, void *stream)
{
    return (int)lib.Reduce(send, recv, (size_t)n, type_of(type), ncclSum, root, comm, stream);
}

static int state(void *comm, int *out)
{
    ncclResult_t now = ncclSuccess;
    int code = (int)lib.CommGetAsyncError(comm, &now);

    *out = (int)now;
    return code;
}

static int finish(void *comm) { return (int)lib.CommFinalize(comm); }
static int close_comm(void *comm) { return (int)lib.CommDestroy(comm); }
static int abort_comm(void *comm) { return (int)lib.CommAbort(comm); }
static const char *explain(int code) { return lib.GetErrorString((ncclResult_t)code); }

static const char *last(void *comm)
{
    const char *s = lib.GetLastError(comm);
    return s ? s : "";
}

/* What was compiled against decides: its structures are newer than an older library knows. */
const cadp_nccl_api cadp_nccl_real = {
    .name = "NCCL", .oldest = NCCL_VERSION(NCCL_MAJOR, NCCL_MINOR, 0), .load = load, .version = version, .id = make_id, .open = open_rank,
    .group_begin = group_begin, .group_end = group_end, .gather = gather, .scatter = scatter, .broadcast = broadcast, .reduce = reduce,
    .state = state, .finish = finish, .close = close_comm, .abort = abort_comm, .explain = explain, .last = last,
};
