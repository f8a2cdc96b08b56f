/* link: collectives over the memory of a device, on top of a communicator of host buffers. Kinds:
 * "host": the device's memory is the host's; buffers go to the communicator as they are.
 * "staged": by way of host memory (devices that share a GPU, or have no NCCL). What is gathered or scattered is copied there and back.
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
/* Borrows both until close. Not collective ("host", "staged"). CAD_EUSAGE: another kind. */
CAD_CHECKED cad_status cad_link_open(cad_link **out, cad_comm *comm, cad_device *device, const char *kind);
void cad_link_close(cad_link **l);              /* nothing should be in flight; NULL allowed */
const char *cad_link_kind(const cad_link *l);
int64_t cad_link_host_bytes(const cad_link *l); /* page-locked or plain host memory held for staging */
/* As cad_comm_igather and cad_comm_iscatter, with buffers of the device. at[] and the buffers stay valid until the wait. */
CAD_CHECKED cad_status cad_link_gather(cad_link *l, void *buffer, const int64_t *at, cad_num type, cad_request *r);
CAD_CHECKED cad_status cad_link_scatter(cad_link *l, const void *buffer, void *out, const int64_t *at, cad_num type, cad_request *r);
CAD_CHECKED cad_status cad_link_wait(cad_link *l, cad_request *r); /* {0} is done */
#ifdef __cplusplus
}
#endif
#endif
