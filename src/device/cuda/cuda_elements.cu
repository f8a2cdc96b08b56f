/* axpby and dropout. */
#include "cuda_random.h"

template <class X, class Y> KERNEL(EIGHTS, 8) scale_and_add(cad_tensor y, cad_tensor x, float alpha, float beta, bool wide)
{
    int64_t col = my_eighth();
    int n = count_of(col, x.cols);
    float a[8], b[8];

    if (col >= x.cols) return;
    for (int64_t row = here_block().y; row < x.rows; row += here_blocks().y) {
        get8(a, at<X>(x, row, col), n, wide && n == 8);
        if (beta != 0) get8(b, at<Y>(y, row, col), n, wide && n == 8);
#pragma unroll
        for (int i = 0; i < 8; i++) a[i] = beta != 0 ? alpha * a[i] + beta * b[i] : alpha * a[i];
        put8(at<Y>(y, row, col), a, n, wide && n == 8);
    }
}

extern "C" cad_status GRID(axpby)(cad_device *d, const cad_axpby_args *args, void *work)
{
    cad_tensor x = args->x, y = args->y;
    bool wide;

    (void)work;
    if (x.dtype == CAD_F64 || y.dtype == CAD_F64) return cad_fail(CAD_EUSAGE, "axpby: device %s does not compute in F64; device \"ref\" does", d->name);
    if (is_flat(x) && is_flat(y)) x = as_row(x), y = as_row(y);
    wide = lies_wide(x) && lies_wide(y);
    WITH_TYPE(x.dtype, X, WITH_TYPE(y.dtype, Y, return launch(stream_of(d), "axpby", scale_and_add<X, Y>, eighths(x.rows, x.cols), EIGHTS, 0, y, x, (float)args->alpha, (float)args->beta, wide)));
}

template <class X, class Y> KERNEL(EIGHTS, 8) drop(cad_tensor y, cad_tensor x, mask m, bool add, bool wide)
{
    int64_t col = my_eighth(), quads = (x.cols + 3) / 4;
    int n = count_of(col, x.cols);
    float a[8], b[8];
    uint32_t words[8];

    if (col >= x.cols) return;
    for (int64_t row = here_block().y; row < x.rows; row += here_blocks().y) {
        uint32_t first = (uint32_t)((uint64_t)row * (uint64_t)quads + (uint64_t)col / 4);
        draw(words, m.seed, m.site, m.index, first);
        draw(words + 4, m.seed, m.site, m.index, first + 1);
        get8(a, at<X>(x, row, col), n, wide && n == 8);
        if (add) get8(b, at<Y>(y, row, col), n, wide && n == 8);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float kept = words[i] >= m.limit && m.by > 0 ? a[i] * m.by : 0;
            a[i] = add ? b[i] + kept : kept;
        }
        put8(at<Y>(y, row, col), a, n, wide && n == 8);
    }
}

extern "C" cad_status GRID(dropout)(cad_device *d, const cad_dropout_args *args, void *work)
{
    bool wide = lies_wide(args->x) && lies_wide(args->y);
    mask m = mask_of(args->p, args->seed, args->site, args->index);
    cad_tensor x = args->x, y = args->y;

    (void)work;
    WITH_TYPE(x.dtype, X, WITH_TYPE(y.dtype, Y, return launch(stream_of(d), "dropout", drop<X, Y>, eighths(x.rows, x.cols), EIGHTS, 0, y, x, m, args->accumulate, wide)));
}
