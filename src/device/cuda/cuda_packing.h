/* Where a token is in its sequence. */
#ifndef CADP_CUDA_PACKING_H
#define CADP_CUDA_PACKING_H
#include "cuda_grid.h"

/* The sequence that holds a token. */
ON_DEVICE int sequence_of(const int32_t *starts, int sequences, int64_t token)
{
    int low = 0, high = sequences;

    while (high - low > 1) {
        int mid = low + (high - low) / 2;
        if (starts[mid] > token)
            high = mid;
        else
            low = mid;
    }
    return low;
}
#endif
