/* Weights and moments held as codes (quant.h): to codes, back, and AdamW on coded moments. The same bits as on the host. */
#include "cuda_grid.h"
extern "C" {
#include <cadtrain/quant.h>
}

enum { CODE_THREADS = CAD_SCALE_BLOCK, CODE_ROOM = CODE_THREADS / 32 * (int)sizeof(float) };

/* A matrix of codes with the values that they stand for. */
typedef struct coded { const uint8_t *codes, *nested; const float *scales, *scales2, *offset; int64_t cols, above; bool bytes; float book[16], map[256]; } coded;

static coded coded_of(const cad_coded *q)
{
    coded c = {};

    c.codes = (const uint8_t *)q->codes.data;
    c.cols = q->cols;
    c.above = q->above;
    c.bytes = q->code == CAD_INT8;
    if (!c.bytes) memcpy(c.book, cad_code_book(q->code), sizeof c.book);
    if (q->scales.dtype == CAD_F32) c.scales = (const float *)q->scales.data;
    else {
        c.nested = (const uint8_t *)q->scales.data;
        c.scales2 = (const float *)q->scales2.data;
        c.offset = (const float *)q->offset.data;
        memcpy(c.map, cad_dynamic_map(true), sizeof c.map);
    }
    return c;
}

ON_DEVICE float scale_of(const coded &q, int64_t block)
{
    if (q.scales) return q.scales[block];
    return times(q.map[q.nested[block]], q.scales2[block / CAD_SCALE_BLOCK]) + *q.offset;
}

/* n of a row from element `at` on; eight that begin at a multiple of eight are four bytes and have one scale. */
ON_DEVICE void values_of(float v[8], const coded &q, const float *book, int64_t at, int n)
{
    const uint8_t *p = q.codes + at / 2;
    bool whole = n == 8 && at % 8 == 0 && (size_t)p % 4 == 0;
    float scale = scale_of(q, at / CAD_QUANT_BLOCK);
    uint32_t four = whole ? *(const uint32_t *)p : 0;

#pragma unroll
    for (int i = 0; i < 8; i++) {
        int64_t here = at + i;
        if (whole) v[i] = book[four >> (i ^ 1) * 4 & 15] * scale;
        else if (i < n) v[i] = book[here % 2 ? q.codes[here / 2] & 15 : q.codes[here / 2] >> 4] * scale_of(q, here / CAD_QUANT_BLOCK);
    }
}
ON_DEVICE void bytes_of(float v[8], const coded &q, int64_t row, int64_t at, int n)
{
    float scale = times(scale_of(q, row), 1.0f / 127.0f);

#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = i < n ? (float)(int8_t)q.codes[at + i] * scale : 0;
}

template <class Y> KERNEL(EIGHTS, 4) turn_back(cad_tensor y, coded q, bool wide)
{
    SHARED(float, book); /* threads look up different ones at once */
    int64_t col = my_eighth();
    int n = count_of(col, y.cols);
    float v[8];

    if (here_thread() < 16) book[here_thread()] = q.book[here_thread()];
    block_barrier();
    if (col >= y.cols) return;
    for (int64_t row = here_block().y; row < y.rows; row += here_blocks().y) {
        int64_t first = (q.above + row) * q.cols + col;

        if (q.bytes) bytes_of(v, q, q.above + row, first, n);
        else values_of(v, q, book, first, n);
        put8(at<Y>(y, row, col), v, n, wide && n == 8);
    }
}

cad_status GRID(dequantise_in)(cadp_stream *s, const cad_dequantise_args *x)
{
    WITH_TYPE(x->y.dtype, Y, return launch(s, "dequantise", turn_back<Y>, eighths(x->y.rows, x->y.cols), EIGHTS, 16 * (int64_t)sizeof(float), x->y, coded_of(&x->q), lies_wide(x->y)));
}

extern "C" cad_status GRID(dequantise)(cad_device *d, const cad_dequantise_args *x, void *work)
{
    (void)work;
    return GRID(dequantise_in)(stream_of(d), x);
}

/* ---- to 4 bits: a thread takes a block of 64 ---- */

typedef struct book4 { float middle[15]; uint64_t patterns; } book4; /* four bits each */

ON_DEVICE uint8_t code_of(const book4 &b, float s)
{
    int index = 0;

#pragma unroll
    for (int i = 0; i < 15; i++) index += b.middle[i] < s;
    return (uint8_t)(b.patterns >> 4 * index & 15);
}

/* A whole block is multiplied by the reciprocal, the last short one divided: each as bitsandbytes does it. */
template <class X> KERNEL(EIGHTS, 4) quantise4(uint8_t *codes, float *scales, const X *x, int64_t n, book4 book)
{
    int64_t block = (int64_t)here_block().x * here_threads() + here_thread(), from = block * CAD_QUANT_BLOCK;
    int count = n - from < CAD_QUANT_BLOCK ? (int)(n - from) : (int)CAD_QUANT_BLOCK;
    bool whole = count == CAD_QUANT_BLOCK;
    float top = 0, by;

    if (from >= n) return;
    for (int i = 0; i < count; i++) top = fmaxf(top, fabsf(get(x + from + i)));
    if (!whole) top = fmaxf(top, 1e-38f);
    scales[block] = top;
    by = 1 / fmaxf(top, 1e-38f);
    for (int i = 0; i < count; i += 2) {
        float a = get(x + from + i), b = i + 1 < count ? get(x + from + i + 1) : 0;
        a = whole ? a * by : a / top;
        b = whole ? b * by : b / top;
        codes[(from + i) / 2] = (uint8_t)(code_of(book, fminf(fmaxf(a, -1), 1)) << 4 | code_of(book, fminf(fmaxf(b, -1), 1)));
    }
}

/* ---- to 8 bits: a block of threads takes a row ---- */

template <class X> KERNEL(CODE_THREADS, 4) quantise8(int8_t *codes, float *scales, const X *x, int64_t cols)
{
    SHARED(float, room);
    int64_t row = here_block().x;
    float top = 0, by;

    for (int64_t j = here_thread(); j < cols; j += here_threads()) top = fmaxf(top, fabsf(through_half(get(x + row * cols + j))));
    top = block_max(top, room);
    by = top > 0 ? 1 / top * 127 : 0;
    if (here_thread() == 0) scales[row] = top;
    for (int64_t j = here_thread(); j < cols; j += here_threads()) codes[row * cols + j] = (int8_t)rintf(through_half(get(x + row * cols + j)) * by);
}

extern "C" cad_status GRID(quantise)(cad_device *d, const cad_quantise_args *x, void *work)
{
    int64_t n = x->x.rows * x->x.cols;
    book4 book = {};

    (void)work;
    if (!n) return CAD_OK;
    if (x->q.code == CAD_INT8)
        WITH_TYPE(x->x.dtype, X, return launch(stream_of(d), "quantise, 8 bits", quantise8<X>, dim(x->x.rows, 1, 1), CODE_THREADS, CODE_ROOM, (int8_t *)x->q.codes.data, (float *)x->q.scales.data,
                                               (const X *)x->x.data, x->x.cols));
    memcpy(book.middle, cad_code_middles(x->q.code), sizeof book.middle);
    for (int i = 0; i < 16; i++) book.patterns |= (uint64_t)cad_code_patterns(x->q.code)[i] << 4 * i;
    WITH_TYPE(x->x.dtype, X, return launch(stream_of(d), "quantise, 4 bits", quantise4<X>, dim(cad_ceil_div(n, (int64_t)CAD_QUANT_BLOCK * EIGHTS), 1, 1), EIGHTS, 0, (uint8_t *)x->q.codes.data,
                                           (float *)x->q.scales.data, (const X *)x->x.data, n, book));
}

/* ---- codes of the dynamic maps ---- */

typedef struct dynamic { float map[256]; } dynamic;

static dynamic dynamic_of(bool is_signed)
{
    dynamic m;

    memcpy(m.map, cad_dynamic_map(is_signed), sizeof m.map);
    return m;
}

/* The grid point nearest to x, and of its neighbours in the map the nearer one: as the host's table was made. */
ON_DEVICE uint8_t nearest(const dynamic &m, float x)
{
    int k = (int)floorf(times(x + 1, 32767.5f) + 0.5f), low = 0, high = 255;
    double point;

    k = k < 0 ? 0 : k > 65535 ? 65535 : k;
    point = k / 32767.5 - 1;
    while (low < high) {
        int mid = (low + high) / 2;
        if (fabs((double)m.map[mid + 1] - point) < fabs((double)m.map[mid] - point)) low = mid + 1;
        else high = mid;
    }
    return (uint8_t)low;
}

/* A block of threads takes 256 scales. */
KERNEL(CODE_THREADS, 4) nest_scales(uint8_t *codes, float *scales2, const float *offset, const float *scales, int64_t n, dynamic m)
{
    SHARED(float, room);
    int64_t i = (int64_t)here_block().x * CAD_SCALE_BLOCK + here_thread();
    float x = i < n ? scales[i] - *offset : 0, top = block_max(fabsf(x), room);

    if (here_thread() == 0) scales2[here_block().x] = top;
    if (i < n) codes[i] = top > 0 ? nearest(m, x / top) : 0;
}

/* In order: the host adds them so. */
KERNEL(32, 1) mean_scale(float *offset, const float *scales, int64_t n)
{
    double sum = 0;

    if (here_thread()) return;
    for (int64_t i = 0; i < n; i++) sum += (double)scales[i];
    *offset = (float)(sum / (double)(n > 1 ? n : 1));
}

extern "C" cad_status GRID(nest)(cad_device *d, const cad_nest_args *x, void *work)
{
    int64_t n = x->scales.cols;

    (void)work;
    CAD_TRY(launch(stream_of(d), "nest, mean", mean_scale, dim(1, 1, 1), 32, 0, (float *)x->offset.data, (const float *)x->scales.data, n));
    if (!n) return CAD_OK;
    return launch(stream_of(d), "nest", nest_scales, dim(cad_ceil_div(n, CAD_SCALE_BLOCK), 1, 1), CODE_THREADS, CODE_ROOM, (uint8_t *)x->codes.data, (float *)x->scales2.data,
                  (const float *)x->offset.data, (const float *)x->scales.data, n, dynamic_of(true));
}

/* ---- AdamW on coded moments: a block of threads takes a block of 256, the first of which may begin before the shard ---- */

typedef struct adamw8 { float *p, *scale_m, *scale_v; uint8_t *m, *v; const float *g; bf16 *copy; float keep, pull, beta2, rate, root, eps, clip; int64_t n, first; } adamw8;

KERNEL(CODE_THREADS, 4) step_adamw8(adamw8 a, dynamic map_m, dynamic map_v)
{
    SHARED(float, room);
    int64_t block = here_block().x, i = block * CAD_SCALE_BLOCK - a.first + here_thread();
    bool inside = i >= 0 && i < a.n;
    float m = 0, v = 0, top_m, top_v;

    if (inside) {
        float s = a.clip * a.g[i], p;
        m = map_m.map[a.m[i]] * a.scale_m[block];
        v = map_v.map[a.v[i]] * a.scale_v[block];
        m = m + (s - m) * a.pull;
        v = a.beta2 * v + (1 - a.beta2) * (s * s);
        p = a.p[i] * a.keep - a.rate * m / (sqrtf(v) * a.root + a.eps);
        a.p[i] = p;
        if (a.copy) put(a.copy + i, p);
    }
    top_m = block_max(fabsf(m), room);
    top_v = block_max(fabsf(v), room);
    if (here_thread() == 0) {
        a.scale_m[block] = top_m;
        a.scale_v[block] = top_v;
    }
    if (!inside) return;
    a.m[i] = top_m > 0 ? nearest(map_m, m / top_m) : 0;
    a.v[i] = top_v > 0 ? nearest(map_v, v / top_v) : 0;
}

extern "C" cad_status GRID(adamw8)(cad_device *d, const cad_adamw8_args *x, void *work)
{
    double c1 = 1 - pow(x->beta1, (double)x->step), c2 = 1 - pow(x->beta2, (double)x->step);
    adamw8 a = {(float *)x->p.data, (float *)x->scale_m.data, (float *)x->scale_v.data, (uint8_t *)x->m.data, (uint8_t *)x->v.data, (const float *)x->g.data, (bf16 *)x->copy.data,
                (float)(1 - x->lr * x->decay), (float)(1 - x->beta1), (float)x->beta2, (float)(x->lr / c1), (float)(1 / sqrt(c2)), (float)x->eps, (float)x->clip, x->p.cols, x->first};

    (void)work;
    if (!x->p.cols) return CAD_OK;
    return launch(stream_of(d), "adamw8", step_adamw8, dim(x->scale_m.cols, 1, 1), CODE_THREADS, CODE_ROOM, a, dynamic_of(true), dynamic_of(false));
}
