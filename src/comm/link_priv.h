/* The kind "nccl" of a link (link_nccl.c). */
#ifndef CADP_LINK_PRIV_H
#define CADP_LINK_PRIV_H
#include <cadtrain/link.h>
#include "comm_priv.h"

typedef struct cadp_nccl cadp_nccl;
CAD_CHECKED cad_status cadp_nccl_open(cadp_nccl **out, cad_comm *comm, cad_device *device);
void cadp_nccl_close(cadp_nccl **n); /* NULL allowed */
const char *cadp_nccl_library(const cadp_nccl *n);
CAD_CHECKED cad_status cadp_nccl_gather(cadp_nccl *n, void *buffer, const int64_t *at, cad_num type, cad_request *r);
CAD_CHECKED cad_status cadp_nccl_scatter(cadp_nccl *n, const void *buffer, void *out, const int64_t *at, cad_num type, cad_request *r);
CAD_CHECKED cad_status cadp_nccl_wait(cadp_nccl *n, cad_request *r);
#endif
