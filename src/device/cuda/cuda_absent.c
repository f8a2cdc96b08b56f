/* Stands in for CUDA in a build without it. */
#include "../device_priv.h"

int cadp_cuda_count(void) { return 0; }

static cad_status open_cuda(cad_device *d)
{
    return cad_fail(CAD_ERESOURCE, "device %s: this cadtrain was built without CUDA; build it with `make CUDA=1` (docs/cuda.md)", d->name);
}

const cadp_device_if cadp_device_cuda = {.name = "cuda", .open = open_cuda};
