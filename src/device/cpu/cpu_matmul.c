#include "cpu_priv.h"

/* C is cut into tiles of about this size, all of (nearly) one size. */
enum { TILE_ROWS = 256, TILE_COLS = 384, PANEL_FLOATS = 1 << 22 };

/* Extents of a call, its tiles, and the panels whose bf16 factors are in fp32 at one time. */
typedef struct plan {
    int64_t m, n, k, k2, tile_rows, tile_cols, panel_rows, panel_cols;
    int64_t a, b, a2, b2, shared, own; /* floats of work space: converted factors, and each thread's tile of a bf16 C */
} plan;

static int64_t tile_of(int64_t n, int64_t most) { return cad_round_up(cad_ceil_div(n, cad_ceil_div(n, most)), 16); }

static int64_t panel_of(int64_t n, int64_t tile, int64_t terms)
{
    int64_t most = PANEL_FLOATS / cad_max(terms, 1) / tile * tile;

    return cad_min(n, cad_max(most, tile));
}

static plan plan_of(const cad_matmul_args *x)
{
    plan p = {.m = x->c.rows, .n = x->c.cols, .k = x->ta ? x->a.rows : x->a.cols, .k2 = x->ta2 ? x->a2.rows : x->a2.cols};

    p.tile_rows = tile_of(p.m, TILE_ROWS);
    p.tile_cols = tile_of(p.n, TILE_COLS);
    p.panel_rows = x->a.dtype == CAD_F32 ? p.m : panel_of(p.m, p.tile_rows, p.k + p.k2);
    p.panel_cols = x->a.dtype == CAD_F32 ? p.n : panel_of(p.n, p.tile_cols, p.k + p.k2);
    p.a = cadp_widen_floats(x->a.dtype, p.panel_rows, p.k);
    p.b = cadp_widen_floats(x->a.dtype, p.k, p.panel_cols);
    p.a2 = cadp_widen_floats(x->a.dtype, p.panel_rows, p.k2);
    p.b2 = cadp_widen_floats(x->a.dtype, p.k2, p.panel_cols);
    p.shared = p.a + p.b + p.a2 + p.b2;
    p.own = cadp_widen_floats(x->c.dtype, p.tile_rows, p.tile_cols);
    return p;
}

int64_t cadp_cpu_matmul_work(const cad_device *d, const cad_matmul_args *x)
{
    plan p = plan_of(x);

    return (p.shared + p.own * d->threads) * (int64_t)sizeof(float);
}

/* Tiles of one panel; all factors in fp32. */
typedef struct panel { const cad_matmul_args *x; plan p; cad_tensor c, a, b, a2, b2, bias; int64_t across; } panel;

/* The columns (of op(B)) or rows (of op(A)) from `at` on. */
static cad_tensor from_row(cad_tensor t, bool turned, int64_t at, int64_t n) { return turned ? cad_columns(t, at, n) : cad_slice(t, at, n); }
static cad_tensor from_col(cad_tensor t, bool turned, int64_t at, int64_t n) { return from_row(t, !turned, at, n); }
static cadp_factor factor(cad_tensor t, bool turned) { return (cadp_factor){t.data, t.ld, turned}; }

static void add_bias(cad_tensor bias, int64_t rows, float *c, int64_t ldc)
{
    float room[CADP_STRIP];

    for (int64_t j = 0; j < bias.cols; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, bias.cols - j);
        const float *b = cadp_get(bias, 0, j, n, room);
        for (int64_t i = 0; i < rows; i++) {
#pragma omp simd
            for (int64_t e = 0; e < n; e++) c[i * ldc + j + e] += b[e];
        }
    }
}

static void multiply(const panel *t, int64_t row, int64_t rows, int64_t col, int64_t cols, float *c, int64_t ldc)
{
    const cad_matmul_args *x = t->x;

    cadp_sgemm(rows, cols, t->p.k, (float)x->alpha, factor(from_row(t->a, x->ta, row, rows), x->ta), factor(from_col(t->b, x->tb, col, cols), x->tb),
               (float)x->beta, c, ldc);
    if (cad_some(t->a2))
        cadp_sgemm(rows, cols, t->p.k2, (float)x->alpha2, factor(from_row(t->a2, x->ta2, row, rows), x->ta2),
                   factor(from_col(t->b2, x->tb2, col, cols), x->tb2), 1, c, ldc);
    if (cad_some(t->bias)) add_bias(cad_columns(t->bias, col, cols), rows, c, ldc);
}

static void multiply_tile(const void *args, int64_t i, void *work)
{
    const panel *t = args;
    int64_t row = i / t->across * t->p.tile_rows, col = i % t->across * t->p.tile_cols;
    int64_t rows = cad_min(t->p.tile_rows, t->c.rows - row), cols = cad_min(t->p.tile_cols, t->c.cols - col);
    cad_tensor c = cad_columns(cad_slice(t->c, row, rows), col, cols);
    float *wide = work;

    if (c.dtype == CAD_F32) {
        multiply(t, row, rows, col, cols, c.data, c.ld);
        return;
    }
    for (int64_t r = 0; t->x->beta != 0 && r < rows; r++) (void)cadp_get(c, r, 0, cols, wide + r * cols);
    multiply(t, row, rows, col, cols, wide, cols);
    for (int64_t r = 0; r < rows; r++) cadp_put(c, r, 0, cols, wide + r * cols);
}

/* t itself, or its conversion to fp32 at `room`. */
static cad_tensor convert(const cad_device *d, cad_tensor t, float *room)
{
    if (!cad_some(t) || t.dtype == CAD_F32) return t;
    cadp_widen_all(d, t, room);
    return cad_view(room, CAD_F32, t.rows, t.cols);
}

static void multiply_panel(const cad_device *d, panel *t, int64_t row, int64_t col, float *work)
{
    const cad_matmul_args *x = t->x;
    int64_t rows = cad_min(t->p.panel_rows, t->p.m - row), cols = cad_min(t->p.panel_cols, t->p.n - col);

    t->c = cad_columns(cad_slice(x->c, row, rows), col, cols);
    t->a = convert(d, from_row(x->a, x->ta, row, rows), work + t->p.b + t->p.b2);
    t->a2 = cad_some(x->a2) ? convert(d, from_row(x->a2, x->ta2, row, rows), work + t->p.b + t->p.b2 + t->p.a) : x->a2;
    t->across = cad_ceil_div(cols, t->p.tile_cols);
    cadp_cpu_each(d, cad_ceil_div(rows, t->p.tile_rows) * t->across, multiply_tile, t, work + t->p.shared, t->p.own * (int64_t)sizeof(float));
}

cad_status cadp_cpu_matmul(cad_device *d, const cad_matmul_args *x, void *work)
{
    panel t = {.x = x, .p = plan_of(x)};

    for (int64_t col = 0; col < t.p.n; col += t.p.panel_cols) {
        int64_t cols = cad_min(t.p.panel_cols, t.p.n - col);
        t.b = convert(d, from_col(x->b, x->tb, col, cols), work);
        t.b2 = cad_some(x->b2) ? convert(d, from_col(x->b2, x->tb2, col, cols), (float *)work + t.p.b) : x->b2;
        t.bias = cad_some(x->bias) ? cad_columns(x->bias, col, cols) : x->bias;
        for (int64_t row = 0; row < t.p.m; row += t.p.panel_rows) multiply_panel(d, &t, row, col, work);
    }
    return CAD_OK;
}
