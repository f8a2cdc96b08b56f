/* Stands in for NCCL in a build without CUDA. */
#include "nccl_api.h"

static cad_status load(void) { return cad_fail(CAD_ERESOURCE, "NCCL: this cadtrain was built without CUDA; build it with `make CUDA=1` (docs/cuda.md)"); }

const cadp_nccl_api cadp_nccl_real = {.name = "NCCL", .load = load};
