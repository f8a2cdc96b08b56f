/* All that is wanted of NCCL, as a table: nccl_real.c asks the library (CUDA=1), nccl_standin.c stands in over MPI for device "emulated".
 * Codes are NCCL's own (ncclResult_t). Where a call says "in progress", `state` tells when it is over. */
#ifndef CADP_NCCL_API_H
#define CADP_NCCL_API_H
#include <cadtrain/comm.h>

enum { CADP_NCCL_OK = 0, CADP_NCCL_SYSTEM = 2, CADP_NCCL_INTERNAL = 3, CADP_NCCL_ARGUMENT = 4, CADP_NCCL_USAGE = 5, CADP_NCCL_REMOTE = 6, CADP_NCCL_IN_PROGRESS = 7 };
typedef struct cadp_nccl_id { char bytes[128]; } cadp_nccl_id;

typedef struct cadp_nccl_api {
    const char *name;
    int oldest;                                  /* the first version (major * 10000 + minor * 100 + patch) that will do */
    CAD_CHECKED cad_status (*load)(void);        /* finds the library; may be called again */
    int (*version)(int *out);
    int (*id)(cadp_nccl_id *out);
    int (*open)(void **out, int ranks, const cadp_nccl_id *id, int rank); /* collective, returns at once */
    int (*group_begin)(void);
    int (*group_end)(void);
    /* In place where send is where the rank's own part belongs. n elements of each part. stream: a cudaStream_t, or a cad_lane. */
    int (*gather)(const void *send, void *recv, int64_t n, cad_num type, void *comm, void *stream);
    int (*scatter)(const void *send, void *recv, int64_t n, cad_num type, void *comm, void *stream);
    int (*broadcast)(void *buffer, int64_t n, cad_num type, int root, void *comm, void *stream);
    int (*reduce)(const void *send, void *recv, int64_t n, cad_num type, int root, void *comm, void *stream);
    int (*state)(void *comm, int *out);          /* from any thread */
    int (*finish)(void *comm);                   /* what is in flight ends; then close */
    int (*close)(void *comm);
    int (*abort)(void *comm);                    /* from any thread; frees what it can */
    const char *(*explain)(int code);
    const char *(*last)(void *comm);             /* more words; "" where there are none */
} cadp_nccl_api;

extern const cadp_nccl_api cadp_nccl_real, cadp_nccl_standin;
#endif
