#include "cuda_table.h"

const cadp_device_if cadp_device_emulated = CADP_GRID_TABLE("emulated");
