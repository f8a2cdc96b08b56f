#include "cpu_math.h"
#include "cpu_priv.h"

#include <math.h>

CAD_CLONES static void widen(float *to, const uint16_t *from, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) to[i] = cadp_float((uint32_t)from[i] << 16);
}

CAD_CLONES static void narrow(uint16_t *to, const float *from, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) to[i] = cadp_round_bf16(from[i]);
}

CAD_CLONES float cadp_largest(const float *x, int64_t n)
{
    typedef int32_t mask __attribute__((vector_size(64)));
    cadp_lanes top = (cadp_lanes){0} - INFINITY, v;
    float one = -INFINITY;
    int64_t i = 0;

    for (; i + 16 <= n; i += 16) {
        memcpy(&v, x + i, sizeof v);
        mask more = v > top;
        top = (cadp_lanes)(((mask)v & more) | ((mask)top & ~more));
    }
    for (; i < n; i++) one = x[i] > one ? x[i] : one;
    for (int lane = 0; lane < 16; lane++) one = top[lane] > one ? top[lane] : one;
    return one;
}

CAD_CLONES float cadp_total(const float *x, int64_t n)
{
    cadp_lanes sum = {0}, v;
    int64_t i = 0;

    for (; i + 16 <= n; i += 16) {
        memcpy(&v, x + i, sizeof v);
        sum += v;
    }
    for (; i < n; i++) sum[i % 16] += x[i];
    return cadp_join(&sum);
}

CAD_CLONES void cadp_add_scaled(float *to, const float *from, float by, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) to[i] += by * from[i];
}

const float *cadp_get(cad_tensor t, int64_t i, int64_t j, int64_t n, float *room)
{
    if (t.dtype == CAD_F32) return (const float *)t.data + i * t.ld + j;
    widen(room, (const uint16_t *)t.data + i * t.ld + j, n);
    return room;
}

float *cadp_slot(cad_tensor t, int64_t i, int64_t j, float *room) { return t.dtype == CAD_F32 ? (float *)t.data + i * t.ld + j : room; }

void cadp_put(cad_tensor t, int64_t i, int64_t j, int64_t n, const float *from)
{
    float *to = (float *)t.data + i * t.ld + j;

    if (t.dtype != CAD_F32)
        narrow((uint16_t *)t.data + i * t.ld + j, from, n);
    else if (from != to)
        memcpy(to, from, (size_t)n * sizeof *to);
}

int64_t cadp_widen_floats(cad_dtype dtype, int64_t rows, int64_t cols) { return dtype == CAD_F32 ? 0 : cad_round_up(rows * cols, 16); }

cad_tensor cadp_widen(cad_tensor t, float **room)
{
    cad_tensor wide = cad_view(*room, CAD_F32, t.rows, t.cols);

    if (t.dtype == CAD_F32) return t;
    for (int64_t i = 0; i < t.rows; i++) widen(*room + i * t.cols, (const uint16_t *)t.data + i * t.ld, t.cols);
    *room += cadp_widen_floats(t.dtype, t.rows, t.cols);
    return wide;
}

typedef struct widen_args { cad_tensor from; float *to; cadp_grid grid; } widen_args;

static void widen_rect(const void *args, int64_t i, void *work)
{
    const widen_args *w = args;
    cadp_rect r = cadp_rect_of(&w->grid, i);

    (void)work;
    for (int64_t row = r.row; row < r.rows_end; row++)
        widen(w->to + row * w->from.cols + r.col, (const uint16_t *)w->from.data + row * w->from.ld + r.col, r.cols_end - r.col);
}

void cadp_widen_all(const cad_device *d, cad_tensor from, float *to)
{
    widen_args w = {from, to, cadp_grid_of(from.rows, from.cols)};

    cadp_cpu_each(d, w.grid.n, widen_rect, &w, NULL, 0);
}

CAD_CLONES float cadp_dot(const float *a, const float *b, int64_t n)
{
    cadp_lanes sum = {0}, x, y;
    int64_t i = 0;

    for (; i + 16 <= n; i += 16) {
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        sum += x * y;
    }
    for (; i < n; i++) sum[i % 16] += a[i] * b[i];
    return cadp_join(&sum);
}

CAD_CLONES float cadp_exponentials(float *x, float top, int64_t n)
{
    cadp_lanes sum = {0}, v;
    int64_t i = 0;

    for (; i + 16 <= n; i += 16) {
#pragma omp simd
        for (int64_t e = i; e < i + 16; e++) x[e] = cadp_exp(x[e] - top);
        memcpy(&v, x + i, sizeof v);
        sum += v;
    }
    for (; i < n; i++) sum[i % 16] += x[i] = cadp_exp(x[i] - top);
    return cadp_join(&sum);
}

CAD_CLONES void cadp_scale_row(float *x, float by, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] *= by;
}

CAD_CLONES void cadp_cap(float *s, float softcap, int64_t n)
{
    float by = 1 / softcap;

#pragma omp simd
    for (int64_t i = 0; i < n; i++) s[i] = softcap * cadp_tanh(s[i] * by);
}
