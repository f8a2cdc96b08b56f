/* Attention of bf16 with tensor cores: what its kernels share. Four warps to a block; tiles of rows lie in shared memory eight elements
 * apart from each other's banks, so that ldmatrix finds each of eight rows in banks of its own for every head size that is here. */
#ifndef CADP_CUDA_FLASH_H
#define CADP_CUDA_FLASH_H
#include "cuda_grid.h"

enum { FLASH_THREADS = 128, FLASH_WARPS = 4 };
#define LOG2_E 1.44269504088896340736f
#define LOG_2 0.69314718055994530942f

/* lse: of the forward; delta: sum of o d_o over a head. Rows of both lie ldlse, lddelta apart. */
typedef struct flash {
    const bf16 *q, *k, *v, *d_o;
    bf16 *o, *dq, *dk, *dv;
    float *lse;
    const float *delta;
    int64_t ldq, ldk, ldv, ldo, lddo, lddq, lddk, lddv, ldlse, lddelta;
    const int32_t *starts;
    int group, window;
    float scale, softcap;
    bool causal, wide; /* wide: rows may be read sixteen bytes at a time */
} flash;

/* A query sees the keys [first_key, behind_key) of its sequence of n tokens. */
ON_DEVICE int first_key(const flash &f, int query) { return f.window && query >= f.window ? query - f.window + 1 : 0; }
ON_DEVICE int behind_key(const flash &f, int query, int n) { return f.causal ? query + 1 : n; }
ON_DEVICE bool sees(const flash &f, int query, int key, int n) { return key < n && key >= first_key(f, query) && key < behind_key(f, query, n); }

/* ROWS rows of D elements from `row` on, of n that there are, on their way to shared memory; zeros behind the last. */
template <int D, int ROWS> ON_DEVICE void fetch(bf16 *to, const bf16 *from, int64_t ld, int row, int n, bool wide)
{
    enum { PIECES = D / 8, LD = D + 8 };

#pragma unroll 4
    for (int c = here_thread(); c < ROWS * PIECES; c += FLASH_THREADS) {
        int i = c / PIECES, j = c % PIECES * 8;
        bool there = row + i < n;
        const bf16 *p = from + (int64_t)(there ? row + i : 0) * ld + j;
        if (wide)
            copy16(to + i * LD + j, p, there);
        else
            for (int e = 0; e < 8; e++) to[i * LD + j + e].bits = there ? p[e].bits : 0;
    }
}

/* Sixteen rows of WIDTH elements, LD apart in shared memory, to global rows from `row` on, by one warp. */
template <int WIDTH, int LD> ON_DEVICE void store_rows(bf16 *to, int64_t ld, const bf16 *from, int row, int n, bool wide)
{
    enum { PIECES = WIDTH / 8 };

    for (int c = here_lane(); c < 16 * PIECES; c += 32) {
        int i = c / PIECES, j = c % PIECES * 8;
        if (row + i >= n) continue;
        if (wide)
            *(sixteen *)(to + (int64_t)(row + i) * ld + j) = *(const sixteen *)(from + i * LD + j);
        else
            for (int e = 0; e < 8; e++) to[(int64_t)(row + i) * ld + j + e] = from[i * LD + j + e];
    }
}

/* Fragments (multiply_add in emulated_api.h says which lane holds what). Where ldmatrix looks for its rows: of A, sixteen rows by sixteen
 * columns; of B kept [n, k], sixteen n by sixteen k; of B kept [k, n], sixteen k by sixteen n, to be turned. */
template <int LD> ON_DEVICE const bf16 *rows_of_a(const bf16 *tile) { return tile + (here_lane() & 15) * LD + (here_lane() >> 4) * 8; }
template <int LD> ON_DEVICE const bf16 *rows_of_b(const bf16 *tile) { return tile + ((here_lane() >> 4) * 8 + (here_lane() & 7)) * LD + ((here_lane() >> 3) & 1) * 8; }
template <int LD> ON_DEVICE const bf16 *rows_of_turned_b(const bf16 *tile) { return tile + (((here_lane() >> 3) & 1) * 8 + (here_lane() & 7)) * LD + (here_lane() >> 4) * 8; }

/* C [MT 16, 8 NT] += A [MT 16, D] B^T, both rows of D elements in shared memory (B: 8 NT rows). A fragment of B serves all of A. */
template <int D, int MT, int NT> ON_DEVICE void add_scores(float c[MT][NT][4], const bf16 *a, const bf16 *b)
{
    enum { LD = D + 8 };
    const bf16 *left = rows_of_a<LD>(a), *right = rows_of_b<LD>(b);

#pragma unroll
    for (int k = 0; k < D; k += 16) {
        uint32_t x[MT][4], y[4];
#pragma unroll
        for (int m = 0; m < MT; m++) load_matrices(x[m], left + m * 16 * LD + k, false);
#pragma unroll
        for (int n = 0; n < NT; n += 2) {
            load_matrices(y, right + n * 8 * LD + k, false);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                multiply_add(c[m][n], x[m], y[0], y[1]);
                multiply_add(c[m][n + 1], x[m], y[2], y[3]);
            }
        }
    }
}

/* C [MT 16, 8 DT] += P [MT 16, 8 NT] B [8 NT, 8 DT]: P is in registers as products left it, rounded to bf16; rows of B lie LD apart. */
template <int LD, int MT, int NT, int DT> ON_DEVICE void add_weighted(float c[MT][DT][4], const float p[MT][NT][4], const bf16 *b)
{
    const bf16 *right = rows_of_turned_b<LD>(b);

#pragma unroll
    for (int k = 0; k < NT; k += 2) {
        uint32_t x[MT][4], y[4];
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) x[m][i] = pack_bf16(p[m][k + i / 2][i % 2 * 2], p[m][k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int n = 0; n < DT; n += 2) {
            load_matrices(y, right + k * 8 * LD + n * 8, true);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                multiply_add(c[m][n], x[m], y[0], y[1]);
                multiply_add(c[m][n + 1], x[m], y[2], y[3]);
            }
        }
    }
}

/* Sixteen rows of results, times `by`, to this warp's rows of shared memory as bf16. */
template <int LD, int DT> ON_DEVICE void put_rows(bf16 *to, const float c[DT][4], float by_low, float by_high)
{
    int row = here_lane() / 4, col = 2 * (here_lane() % 4);

#pragma unroll
    for (int n = 0; n < DT; n++) {
        *(uint32_t *)(to + row * LD + n * 8 + col) = pack_bf16(c[n][0] * by_low, c[n][1] * by_low);
        *(uint32_t *)(to + (row + 8) * LD + n * 8 + col) = pack_bf16(c[n][2] * by_high, c[n][3] * by_high);
    }
}

/* A product q k as an exponent of two: scaled and capped. slope: of the cap. */
ON_DEVICE float exponent_of(const flash &f, float product, float *slope)
{
    float t;

    if (f.softcap <= 0) {
        *slope = 1;
        return product * (f.scale * LOG2_E);
    }
    t = tanhf(product * (f.scale / f.softcap));
    *slope = 1 - t * t;
    return t * (f.softcap * LOG2_E);
}
ON_DEVICE float quad_max(float v) { v = fmaxf(v, shuffle_xor(v, 1)); return fmaxf(v, shuffle_xor(v, 2)); }
ON_DEVICE float quad_sum(float v) { v += shuffle_xor(v, 1); return v + shuffle_xor(v, 2); }

extern "C" {
/* Whether there are kernels for the dtype and head size, without dropout. */
bool GRID(flash_has)(const cad_attention_args *x);
CAD_CHECKED cad_status GRID(flash_fwd)(cad_device *d, const cad_attention_args *x);
CAD_CHECKED cad_status GRID(flash_bwd)(cad_device *d, const cad_attention_bwd_args *x, const float *delta);
}
#endif
