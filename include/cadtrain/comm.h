/* comm: groups of ranks. <mpi.h> lives in src/comm only. Host buffers. Every function is Collective unless it says otherwise. */
#ifndef CADTRAIN_COMM_H
#define CADTRAIN_COMM_H
#include <cadtrain/base.h>
#ifdef __cplusplus
extern "C" {
#endif
typedef struct cad_comm cad_comm;
typedef struct cad_request { void *handle; int slot; } cad_request; /* {0} is done; several may be in flight (collectives: 16) */
typedef enum cad_num { CAD_NUM_U8, CAD_NUM_I32, CAD_NUM_I64, CAD_NUM_F32, CAD_NUM_F64, CAD_NUM_BF16 } cad_num;
typedef enum cad_reduce { CAD_SUM, CAD_MAX } cad_reduce;
typedef enum cad_wire { CAD_WIRE_GATHER, CAD_WIRE_SCATTER, CAD_WIRE_BATCH, CAD_WIRE_CONTROL, CAD_WIRE_KINDS } cad_wire;

/* "mpi": MPI_Init_thread(FUNNELED) on the whole world, once in a process; "self": one rank; "plan:N": pretends to be rank 0 of N,
 * touches no buffer (they may be NULL), counts bytes. CAD_EUSAGE: another kind, or "mpi" with a world of one where the launcher
 * (Slurm, another MPI's mpiexec) started several. */
CAD_CHECKED cad_status cad_comm_open(cad_comm **out, const char *kind);
/* Finalizes MPI when "mpi". Only when all ranks come here with nothing in flight: else cad_comm_abort. */
void cad_comm_close(cad_comm **c);
int cad_comm_rank(const cad_comm *c);
int cad_comm_size(const cad_comm *c);
int cad_comm_local_rank(const cad_comm *c); /* on this node */
int cad_comm_local_size(const cad_comm *c);
int cad_comm_nodes(const cad_comm *c);
const char *cad_comm_library(const cad_comm *c);
bool cad_comm_pretends(const cad_comm *c);  /* "plan:N" */

/* Every rank brings its own status and leaves with the same verdict: CAD_OK when all are; its own failure where it failed; elsewhere
 * CAD_EPEER. cad_comm_verdict then gives the status (exit code) that all ranks should end with and the lowest rank that failed by
 * itself (-1: none; a rank that brings CAD_EPEER only passes on what it heard). That rank has the reason and prints it. */
CAD_CHECKED cad_status cad_comm_agree(cad_comm *c, cad_status mine);
cad_status cad_comm_verdict(const cad_comm *c, int *failed_rank);
/* Not collective: ends all ranks at once with this exit code (MPI_Abort). Prints nothing. */
__attribute__((noreturn)) void cad_comm_abort(cad_comm *c, cad_status code);

CAD_CHECKED cad_status cad_comm_barrier(cad_comm *c);
CAD_CHECKED cad_status cad_comm_bcast(cad_comm *c, void *bytes, size_t n, int root);
/* Not BF16. F32 and F64 go in rank order and keep a NaN. bcast, allreduce and collect are counted as CAD_WIRE_CONTROL. */
CAD_CHECKED cad_status cad_comm_allreduce(cad_comm *c, void *inout, int64_t n, cad_num type, cad_reduce op);
/* Point to point, not collective; counted as CAD_WIRE_BATCH where it is sent to another rank. tag >= 0. */
CAD_CHECKED cad_status cad_comm_isend(cad_comm *c, const void *bytes, size_t n, int to, int tag, cad_request *r);
CAD_CHECKED cad_status cad_comm_irecv(cad_comm *c, void *bytes, size_t n, int from, int tag, cad_request *r); /* n: room */
CAD_CHECKED cad_status cad_comm_wait(cad_comm *c, cad_request *r, size_t *received); /* received may be NULL */

/* Non-blocking, in place over `buffer` of at[size] elements; rank k's part is [at[k], at[k + 1]). The buffers belong to the call until
 * cad_comm_wait. at[] must stay valid until then.
 * igather: every rank ends with all parts. Counted: at[size] elements (0 at world size 1).
 * iscatter: sums over ranks; rank k's part of `out` receives the sum of everybody's buffer[at[k]..at[k+1]) (out may not overlap buffer).
 *   I64 sums are exact in any order; F32 sums are in rank order (so that sums repeat run to run). Counted: at[size] elements.
 *   What the others send waits in scratch of size - 1 parts for each call in flight, allocated at first use and kept. */
CAD_CHECKED cad_status cad_comm_igather(cad_comm *c, void *buffer, const int64_t *at, cad_num type, cad_request *r);
CAD_CHECKED cad_status cad_comm_iscatter(cad_comm *c, const void *buffer, void *out, const int64_t *at, cad_num type, cad_request *r);
int64_t cad_comm_scratch_bytes(const cad_comm *c); /* held now; "plan:N": would be held on rank 0 */
void cad_comm_progress(cad_comm *c); /* not collective: lets pending transfers move */
/* Blocking; sizes differ per rank: `mine` bytes from each rank, end to end in rank order into `all` on `root` (at[size + 1] byte
 * offsets, known to all). `all` may be NULL elsewhere. */
CAD_CHECKED cad_status cad_comm_collect(cad_comm *c, const void *mine, void *all, const int64_t *at, int root);
int64_t cad_comm_wire_bytes(const cad_comm *c, cad_wire kind); /* payload since the start; 0 at world size 1 */

/* ---- watchdog (watchdog.c): a thread of the process; no beat for `seconds` -> prints rank, step and what this rank was doing and
 * ends the process with 124 (mpirun and srun -K then end the other ranks). Time during which the process was stopped does not count. ---- */
CAD_CHECKED cad_status cad_watchdog_start(double seconds, int rank); /* 0: off */
void cad_watchdog_beat(const char *doing, int64_t step); /* `doing` must be a constant string; cheap; nothing while off */
void cad_watchdog_stop(void); /* also when it was not started */
#ifdef __cplusplus
}
#endif
#endif
