#define CADP_CUDA_REAL
#include "cuda_table.h"

const cadp_device_if cadp_device_cuda = CADP_GRID_TABLE("cuda");
