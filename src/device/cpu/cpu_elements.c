/* axpby and dropout. */
#include "cpu_priv.h"

#include <math.h>

CAD_CLONES static void axpby(float *y, const float *x, float alpha, float beta, int64_t n)
{
    if (beta == 0) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] = alpha * x[i];
    } else {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] = alpha * x[i] + beta * y[i];
    }
}

typedef struct axpby_args { cad_axpby_args x; cadp_grid grid; } axpby_args;

static void axpby_rect(const void *args, int64_t i, void *work)
{
    const axpby_args *a = args;
    const cad_axpby_args *x = &a->x;
    cadp_rect r = cadp_rect_of(&a->grid, i);
    float in[CADP_STRIP], out[CADP_STRIP];

    (void)work;
    for (int64_t row = r.row; row < r.rows_end; row++)
        for (int64_t j = r.col; j < r.cols_end; j += CADP_STRIP) {
            int64_t n = cad_min(CADP_STRIP, r.cols_end - j);
            float *y = cadp_slot(x->y, row, j, out);
            if (x->beta != 0) (void)cadp_get(x->y, row, j, n, out);
            axpby(y, cadp_get(x->x, row, j, n, in), (float)x->alpha, (float)x->beta, n);
            cadp_put(x->y, row, j, n, y);
        }
}

static bool contiguous(cad_tensor t) { return t.rows == 1 || t.ld == t.cols; }
static cad_tensor flat(cad_tensor t) { return cad_view(t.data, t.dtype, 1, t.rows * t.cols); }

cad_status cadp_cpu_axpby(cad_device *d, const cad_axpby_args *x, void *work)
{
    axpby_args a = {.x = *x};

    (void)work;
    if (x->x.dtype == CAD_F64 || x->y.dtype == CAD_F64) return cad_fail(CAD_EUSAGE, "axpby: device %s does not compute in F64; device \"ref\" does", d->name);
    if (contiguous(x->x) && contiguous(x->y)) a.x.x = flat(x->x), a.x.y = flat(x->y);
    a.grid = cadp_grid_of(a.x.x.rows, a.x.x.cols);
    cadp_cpu_each(d, a.grid.n, axpby_rect, &a, NULL, 0);
    return CAD_OK;
}

/* limit: words from it on keep their element, times `by`. */
typedef struct dropout_args { const cad_dropout_args *x; cadp_grid grid; uint32_t limit; float by; } dropout_args;

enum { QUADS = CADP_STRIP / 4 };

/* cad_rng_words of counters first, first + 1, … side by side: words[w][q]. */
CAD_CLONES static void draw(uint32_t words[4][QUADS], uint64_t seed, uint32_t site, uint32_t index, uint32_t first, int64_t n)
{
#pragma omp simd
    for (int64_t q = 0; q < n; q++) {
        uint32_t a = first + (uint32_t)q, b = index, c = site, e = CAD_RNG_DROPOUT, k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
        for (int round = 0; round < 10; round++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * a, p1 = (uint64_t)0xCD9E8D57u * c;
            a = (uint32_t)(p1 >> 32) ^ b ^ k0;
            b = (uint32_t)p1;
            c = (uint32_t)(p0 >> 32) ^ e ^ k1;
            e = (uint32_t)p0;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        words[0][q] = a, words[1][q] = b, words[2][q] = c, words[3][q] = e;
    }
}

CAD_CLONES static void factors(float *factor, uint32_t words[4][QUADS], uint32_t limit, float by, int64_t quads)
{
#pragma omp simd
    for (int64_t q = 0; q < quads; q++) {
        factor[4 * q] = words[0][q] >= limit ? by : 0;
        factor[4 * q + 1] = words[1][q] >= limit ? by : 0;
        factor[4 * q + 2] = words[2][q] >= limit ? by : 0;
        factor[4 * q + 3] = words[3][q] >= limit ? by : 0;
    }
}

CAD_CLONES static void apply(float *out, const float *in, const float *factor, bool add, int64_t n)
{
    if (add) {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) out[j] += factor[j] > 0 ? in[j] * factor[j] : 0;
    } else {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) out[j] = factor[j] > 0 ? in[j] * factor[j] : 0;
    }
}

/* col is a multiple of 4. */
static void drop_strip(const dropout_args *a, int64_t row, int64_t col, const float *in, float *out, int64_t n)
{
    const cad_dropout_args *x = a->x;
    uint64_t first = (uint64_t)row * (uint64_t)cad_ceil_div(x->x.cols, 4) + (uint64_t)col / 4;
    int64_t quads = cad_ceil_div(n, 4);
    uint32_t words[4][QUADS];
    float factor[CADP_STRIP];

    draw(words, x->seed, x->site, (uint32_t)x->index, (uint32_t)first, quads);
    factors(factor, words, a->limit, a->by, quads);
    apply(out, in, factor, x->accumulate, n);
}

/* Words from limit on keep their element. */
static uint32_t limit_of(double p, float *by)
{
    double limit = ceil(p * 0x1p32);

    *by = limit >= 0x1p32 ? 0 : (float)(1 / (1 - p));
    return limit >= 0x1p32 ? UINT32_MAX : (uint32_t)limit;
}

void cadp_keep(float *factor, double p, uint64_t seed, uint64_t index, uint32_t site, uint64_t first, int64_t n)
{
    uint32_t words[4][QUADS], limit;
    float by;

    limit = limit_of(p, &by);
    draw(words, seed, site, (uint32_t)index, (uint32_t)first, cad_ceil_div(n, 4));
    factors(factor, words, limit, by, cad_ceil_div(n, 4));
}

static void drop_rect(const void *args, int64_t i, void *work)
{
    const dropout_args *a = args;
    cadp_rect r = cadp_rect_of(&a->grid, i);
    float in[CADP_STRIP], out[CADP_STRIP];

    (void)work;
    for (int64_t row = r.row; row < r.rows_end; row++)
        for (int64_t j = r.col; j < r.cols_end; j += CADP_STRIP) {
            int64_t n = cad_min(CADP_STRIP, r.cols_end - j);
            float *y = cadp_slot(a->x->y, row, j, out);
            if (a->x->accumulate) (void)cadp_get(a->x->y, row, j, n, out);
            drop_strip(a, row, j, cadp_get(a->x->x, row, j, n, in), y, n);
            cadp_put(a->x->y, row, j, n, y);
        }
}

cad_status cadp_cpu_dropout(cad_device *d, const cad_dropout_args *x, void *work)
{
    dropout_args a = {.x = x, .grid = cadp_grid_of(x->x.rows, x->x.cols)};

    (void)work;
    a.limit = limit_of(x->p, &a.by);
    cadp_cpu_each(d, a.grid.n, drop_rect, &a, NULL, 0);
    return CAD_OK;
}
