/* link: collectives over the memory of a device, on top of a communicator of host buffers. Kinds:
 * "host": the device's memory is the host's; buffers go to the communicator as they are.
 * "staged": by way of host memory (devices that share a GPU, or have no NCCL). What is gathered or scattered is copied there and back.
 * "nccl": NCCL's collectives on a lane of the device, beside its operations; the host does not wait. On "emulated" a stand-in over MPI.
 *   Sums of F32 and BF16 go in NCCL's order (equal run to run at one world size); those of I64 are exact.
 * Where the communicator is a plan's, every kind is "host": the sizes are the same. Alone, nothing travels.
 * Collective functions are called in the same order on all ranks; calls follow the device's queue: what was computed before is what travels, and
 * what is computed after cad_link_wait sees what arrived. Bytes are counted by the communicator. */
#ifndef CADTRAIN_LINK_H
#define CADTRAIN_LINK_H
#include <cadtrain/comm.h>
#include <cadtrain/device.h>
#ifdef __cplusplus
extern "C" {
#endif
typedef struct cad_link cad_link;
/* Borrows both until close. Collective for "nccl": all ranks open it or none does. CAD_EUSAGE: another kind, or a device that has no lanes. */
CAD_CHECKED cad_status cad_link_open(cad_link **out, cad_comm *comm, cad_device *device, const char *kind);
void cad_link_close(cad_link **l);              /* nothing should be in flight; NULL allowed */
const char *cad_link_kind(const cad_link *l);
int64_t cad_link_host_bytes(const cad_link *l); /* page-locked or plain host memory held for staging */
/* What stands behind it ("NCCL 2.28.9"); "" where that is the communicator alone. */
const char *cad_link_library(const cad_link *l);
/* As cad_comm_igather and cad_comm_iscatter, with buffers of the device ("nccl": BF16 sums too). at[] and the buffers stay valid until the wait. */
CAD_CHECKED cad_status cad_link_gather(cad_link *l, void *buffer, const int64_t *at, cad_num type, cad_request *r);
CAD_CHECKED cad_status cad_link_scatter(cad_link *l, const void *buffer, void *out, const int64_t *at, cad_num type, cad_request *r);
CAD_CHECKED cad_status cad_link_wait(cad_link *l, cad_request *r); /* {0} is done */
#ifdef __cplusplus
}
#endif
#endif
