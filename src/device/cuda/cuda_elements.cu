/* axpby and dropout. */
#include "cuda_grid.h"

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

/* Philox4x32-10 as cad_rng_words: four words for four columns. */
ON_DEVICE void draw(uint32_t out[4], uint64_t seed, uint32_t site, uint32_t index, uint32_t word)
{
    uint32_t a = word, b = index, c = site, e = CAD_RNG_DROPOUT, k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);

#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * a, p1 = (uint64_t)0xCD9E8D57u * c;
        a = (uint32_t)(p1 >> 32) ^ b ^ k0;
        b = (uint32_t)p1;
        c = (uint32_t)(p0 >> 32) ^ e ^ k1;
        e = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = a, out[1] = b, out[2] = c, out[3] = e;
}

/* limit: words from it on keep their element, times `by`. */
typedef struct mask { uint64_t seed; uint32_t site, index, limit; float by; } mask;

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
    double limit = ceil(args->p * 4294967296.0);
    bool none = limit >= 4294967296.0, wide = lies_wide(args->x) && lies_wide(args->y);
    mask m = {args->seed, args->site, (uint32_t)args->index, none ? UINT32_MAX : (uint32_t)limit, none ? 0 : (float)(1 / (1 - args->p))};
    cad_tensor x = args->x, y = args->y;

    (void)work;
    WITH_TYPE(x.dtype, X, WITH_TYPE(y.dtype, Y, return launch(stream_of(d), "dropout", drop<X, Y>, eighths(x.rows, x.cols), EIGHTS, 0, y, x, m, args->accumulate, wide)));
}
