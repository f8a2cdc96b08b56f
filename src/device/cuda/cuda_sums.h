/* Sums over rows: partial sums of fixed tiles of rows, then the sum of those in the order of the tiles. */
#ifndef CADP_CUDA_SUMS_H
#define CADP_CUDA_SUMS_H
#include "cuda_grid.h"

enum { TILE_ROWS = 64, TILE_COLS = 128 };
static inline int64_t tiles_of(int64_t rows) { return cad_ceil_div(rows, TILE_ROWS); }
static inline cadp_dim tile_blocks(int64_t rows, int64_t cols) { return dim(cad_ceil_div(cols, TILE_COLS), upto(tiles_of(rows), MOST_DOWN), 1); }

extern "C" {
/* y [1, cols] F32 = (or +=) the sum of `tiles` rows, in order. */
CAD_CHECKED cad_status GRID(sum_partials)(cad_device *d, cad_tensor y, const float *from, int64_t tiles, bool accumulate);
}
#endif
