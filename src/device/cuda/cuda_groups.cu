/* Products of groups of rows. Where a group begins only the device knows: blocks find theirs. bf16 on tensor cores by 64 x 128 tiles of C,
 * 32 terms at a time in two stages; fp32 by 32 x 32 tiles. */
#include "cuda_flash.h"

/* op(A) [m, k] and op(B) [k, n] lie as views; C of group g. turned: C_g = A' B of the group's rows. */
typedef struct groups { cad_tensor c, a, b; const int32_t *starts; int groups; bool tb, turned, wide, add; } groups;

/* What a block does: rows [row, row + rows) and columns from `col` on of the group's C, `terms` terms. */
typedef struct tile { cad_tensor c, a, b; int64_t row, col, rows, cols, terms; } tile;

ON_DEVICE cad_tensor part(const cad_tensor &t, int64_t from, int64_t rows)
{
    cad_tensor v = {(char *)t.data + from * t.ld * (t.dtype == CAD_BF16 ? 2 : 4), t.dtype, rows, t.cols, t.ld};

    return v;
}

/* The tile of `block`, of those down all groups one after the other; false behind the last. */
ON_DEVICE bool find_tile(const groups &p, int64_t block, int64_t col, int side, tile *t)
{
    int64_t from = 0, n = 0, tiles, b_rows = p.b.rows / p.groups;
    int g = 0;

    for (; g < p.groups; g++, block -= tiles) {
        from = p.starts[g];
        n = p.starts[g + 1] - from;
        tiles = ((p.turned ? p.a.cols : n) + side - 1) / side;
        if (block < tiles) break;
    }
    if (g == p.groups) return false;
    t->a = part(p.a, from, n);
    t->b = p.turned ? part(p.b, from, n) : part(p.b, g * b_rows, b_rows);
    t->c = p.turned ? part(p.c, g * p.a.cols, p.a.cols) : part(p.c, from, n);
    t->row = block * side, t->rows = t->c.rows, t->cols = t->c.cols, t->col = col;
    t->terms = p.turned ? n : p.a.cols;
    return true;
}

/* ---- bf16 ---- */

enum { TILE_M = 64, TILE_N = 128, TILE_K = 32, WARP_N = TILE_N / 2, GROUP_MT = 2, GROUP_NT = WARP_N / 8 };

/* ROWS rows of COLS elements of t from (row, col) on, on their way to shared memory, LD apart; zeros outside of t. */
template <int ROWS, int COLS, int LD> ON_DEVICE void fetch_part(bf16 *to, const cad_tensor &t, int64_t row, int64_t col, bool wide)
{
    enum { PIECES = COLS / 8 };

#pragma unroll
    for (int c = here_thread(); c < ROWS * PIECES; c += FLASH_THREADS) {
        int i = c / PIECES, j = c % PIECES * 8, n = row + i < t.rows ? (int)(t.cols - col - j < 8 ? t.cols - col - j : 8) : 0;
        const bf16 *p = (const bf16 *)t.data + (n > 0 ? (row + i) * t.ld + col + j : 0);
        if (wide && (n >= 8 || n <= 0))
            copy16(to + i * LD + j, p, n > 0);
        else
            for (int e = 0; e < 8; e++) to[i * LD + j + e].bits = e < n ? p[e].bits : 0;
    }
}

/* A fragment of A kept [k, m]: as one of B kept [n, k]. */
template <int LD> ON_DEVICE const bf16 *rows_of_turned_a(const bf16 *at) { return rows_of_b<LD>(at); }

/* C += op(A) op(B) of one stage, by a warp: TILE_M / 2 rows, WARP_N columns. */
template <bool TA, bool TB, int LDA, int LDB> ON_DEVICE void add_stage(float c[GROUP_MT][GROUP_NT][4], const bf16 *a, const bf16 *b, int row, int col)
{
    const bf16 *left = TA ? rows_of_turned_a<LDA>(a + row) : rows_of_a<LDA>(a + row * LDA), *right = TB ? rows_of_b<LDB>(b + col * LDB) : rows_of_turned_b<LDB>(b + col);

#pragma unroll
    for (int k = 0; k < TILE_K; k += 16) {
        uint32_t x[GROUP_MT][4], y[4];
#pragma unroll
        for (int m = 0; m < GROUP_MT; m++) load_matrices(x[m], TA ? left + k * LDA + m * 16 : left + m * 16 * LDA + k, TA);
#pragma unroll
        for (int n = 0; n < GROUP_NT; n += 2) {
            load_matrices(y, TB ? right + n * 8 * LDB + k : right + k * LDB + n * 8, !TB);
#pragma unroll
            for (int m = 0; m < GROUP_MT; m++) {
                multiply_add(c[m][n], x[m], y[0], y[1]);
                multiply_add(c[m][n + 1], x[m], y[2], y[3]);
            }
        }
    }
}

template <class C> ON_DEVICE void put_sum(const groups &p, C *to, float x) { put(to, p.add ? get(to) + x : x); }

template <class C> ON_DEVICE void put_tile(const groups &p, const tile &t, const float c[GROUP_MT][GROUP_NT][4], int row, int col)
{
    int64_t first = t.row + row + here_lane() / 4, left = t.col + col + 2 * (here_lane() % 4);

#pragma unroll
    for (int m = 0; m < GROUP_MT; m++)
#pragma unroll
        for (int n = 0; n < GROUP_NT; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int64_t r = first + m * 16 + i / 2 * 8, j = left + n * 8 + i % 2;
                if (r < t.rows && j < t.cols) put_sum(p, at<C>(t.c, r, j), c[m][n][i]);
            }
}

template <class C, bool TA, bool TB> KERNEL(FLASH_THREADS, 2) multiply_groups(groups p)
{
    enum { LDA = TA ? TILE_M + 8 : TILE_K + 8, LDB = TB ? TILE_K + 8 : TILE_N + 8, A = LDA * (TA ? TILE_K : TILE_M), STAGE = A + LDB * (TB ? TILE_N : TILE_K) };
    SHARED(bf16, stages);
    int row = here_warp() / 2 * (TILE_M / 2), col = here_warp() % 2 * WARP_N, stage = 0;
    float c[GROUP_MT][GROUP_NT][4] = {};
    tile t;

    if (!find_tile(p, here_block().x, (int64_t)here_block().y * TILE_N, TILE_M, &t)) return;
    for (int64_t k = -TILE_K; k < t.terms; k += TILE_K, stage ^= 1) {
        bf16 *now = stages + stage * STAGE, *next = stages + (stage ^ 1) * STAGE;
        int64_t ahead = k + TILE_K;
        if (ahead < t.terms) {
            fetch_part<TA ? TILE_K : TILE_M, TA ? TILE_M : TILE_K, LDA>(next, t.a, TA ? ahead : t.row, TA ? t.row : ahead, p.wide);
            fetch_part<TB ? TILE_N : TILE_K, TB ? TILE_K : TILE_N, LDB>(next + A, t.b, TB ? t.col : ahead, TB ? ahead : t.col, p.wide);
        }
        copy_commit();
        if (k < 0) continue;
        copy_wait<1>();
        block_barrier();
        add_stage<TA, TB, LDA, LDB>(c, now, now + A, row, col);
        block_barrier();
    }
    copy_wait<0>();
    put_tile<C>(p, t, c, row, col);
}

template <class C, bool TA, bool TB> static cad_status run_bf16(cad_device *d, const groups *p, cadp_dim blocks)
{
    int64_t a = TA ? TILE_K * (TILE_M + 8) : TILE_M * (TILE_K + 8), b = TB ? TILE_N * (TILE_K + 8) : TILE_K * (TILE_N + 8);

    return launch(stream_of(d), "matmul_groups", multiply_groups<C, TA, TB>, blocks, FLASH_THREADS, 2 * (a + b) * (int64_t)sizeof(bf16), *p);
}

/* ---- fp32 ---- */

enum { SIDE = 32, DOWN = 8, OWN_THREADS = SIDE * DOWN };

/* Rows and columns [SIDE, SIDE] of op(t) from (row, col) on. */
ON_DEVICE void load_square(float *to, const cad_tensor &t, bool turned, int64_t row, int64_t col)
{
    int64_t rows = turned ? t.cols : t.rows, cols = turned ? t.rows : t.cols;
    int x = here_thread() % SIDE;

    for (int y = here_thread() / SIDE; y < SIDE; y += DOWN) {
        int64_t i = row + (turned ? x : y), j = col + (turned ? y : x);
        to[(turned ? x : y) * (SIDE + 1) + (turned ? y : x)] = i < rows && j < cols ? (turned ? *at<float>(t, j, i) : *at<float>(t, i, j)) : 0;
    }
}

template <class C> KERNEL(OWN_THREADS, 2) multiply_groups_plainly(groups p)
{
    SHARED(float, left);
    float *right = left + SIDE * (SIDE + 1), sum[SIDE / DOWN] = {0};
    int x = here_thread() % SIDE, y = here_thread() / SIDE;
    tile t;

    if (!find_tile(p, here_block().x, (int64_t)here_block().y * SIDE, SIDE, &t)) return;
    for (int64_t k = 0; k < t.terms; k += SIDE) {
        block_barrier();
        load_square(left, t.a, p.turned, t.row, k);
        load_square(right, t.b, p.tb, k, t.col);
        block_barrier();
        for (int e = 0; e < SIDE; e++)
#pragma unroll
            for (int i = 0; i < SIDE / DOWN; i++) sum[i] += left[(y + i * DOWN) * (SIDE + 1) + e] * right[e * (SIDE + 1) + x];
    }
    for (int i = 0; i < SIDE / DOWN; i++)
        if (t.row + y + i * DOWN < t.rows && t.col + x < t.cols) put_sum(p, at<C>(t.c, t.row + y + i * DOWN, t.col + x), sum[i]);
}

/* Blocks for the tiles down all groups, at most, and across. */
static cadp_dim blocks_of(const cad_groups_args *x, int down, int across)
{
    int64_t tiles = x->ta ? x->groups * cad_ceil_div(x->a.cols, down) : cad_ceil_div(x->a.rows, down) + x->groups;

    return dim(tiles, cad_ceil_div(x->c.cols, across), 1);
}

extern "C" int64_t GRID(matmul_groups_work)(const cad_device *d, const cad_groups_args *x)
{
    (void)d;
    return x->codes.code ? x->codes.rows * x->codes.cols * (int64_t)cad_dtype_bytes(x->a.dtype) : 0;
}

/* Codes of all groups are turned back into work space, each element rounded to A's dtype. */
static cad_status multiply_codes(cad_device *d, const cad_groups_args *x, void *work)
{
    cad_groups_args plain = *x;
    cad_dequantise_args back = {cad_view(work, x->a.dtype, x->codes.rows, x->codes.cols), x->codes};

    plain.codes = {};
    plain.b = back.y;
    CAD_TRY(GRID(dequantise)(d, &back, work));
    return GRID(matmul_groups)(d, &plain, work);
}

extern "C" cad_status GRID(matmul_groups)(cad_device *d, const cad_groups_args *x, void *work)
{
    groups p = {x->c, x->a, x->b, (const int32_t *)x->starts.data, (int)x->groups, x->tb, x->ta, lies_wide(x->a) && lies_wide(x->b), x->accumulate};
    cadp_dim blocks = blocks_of(x, TILE_M, TILE_N);

    if (x->codes.code) return multiply_codes(d, x, work);
    if (x->a.dtype != CAD_BF16) WITH_TYPE(x->c.dtype, C, return launch(stream_of(d), "matmul_groups", multiply_groups_plainly<C>, blocks_of(x, SIDE, SIDE), OWN_THREADS,
                                                                       2 * SIDE * (SIDE + 1) * (int64_t)sizeof(float), p));
    if (x->ta) WITH_TYPE(x->c.dtype, C, return run_bf16<C, true, false>(d, &p, blocks));
    if (x->tb) WITH_TYPE(x->c.dtype, C, return run_bf16<C, false, true>(d, &p, blocks));
    WITH_TYPE(x->c.dtype, C, return run_bf16<C, false, false>(d, &p, blocks));
}
