/* Elements of a view whose dtype (F32 or BF16) only the run knows: for what is small beside the rest of a kernel's work. */
#ifndef CADP_CUDA_ANY_H
#define CADP_CUDA_ANY_H
#include "cuda_grid.h"

ON_DEVICE void get8_any(float v[8], const cad_tensor &t, int64_t row, int64_t col, int n, bool whole)
{
    if (t.dtype == CAD_BF16)
        get8(v, at<bf16>(t, row, col), n, whole);
    else
        get8(v, at<float>(t, row, col), n, whole);
}
ON_DEVICE void put8_any(const cad_tensor &t, int64_t row, int64_t col, const float v[8], int n, bool whole)
{
    if (t.dtype == CAD_BF16)
        put8(at<bf16>(t, row, col), v, n, whole);
    else
        put8(at<float>(t, row, col), v, n, whole);
}
ON_DEVICE void put_any(const cad_tensor &t, int64_t row, int64_t col, float v)
{
    if (t.dtype == CAD_BF16)
        put(at<bf16>(t, row, col), v);
    else
        put(at<float>(t, row, col), v);
}
/* Eight of a row of weights; `none` where there are no weights. */
ON_DEVICE void get8_or(float v[8], const cad_tensor &t, int64_t col, int n, bool whole, float none)
{
    if (t.data)
        get8_any(v, t, 0, col, n, whole);
    else
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = none;
}
#endif
