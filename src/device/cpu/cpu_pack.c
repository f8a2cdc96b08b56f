#include "cpu_priv.h"

/* Vectors of 16 bytes: part of every x86-64 and of every 64-bit ARM. */
typedef uint16_t v8 __attribute__((vector_size(16)));
typedef float v4 __attribute__((vector_size(16)));

static inline v8 low8(v8 a, v8 b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
static inline v8 high8(v8 a, v8 b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
static inline v4 low4(v4 a, v4 b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
static inline v4 high4(v4 a, v4 b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }

/* Interleaving row i with row i + n / 2 log2(n) times transposes n x n. */
static void transpose8(uint16_t *to, int64_t ldt, const uint16_t *from, int64_t ld)
{
    v8 a[8], b[8];

    for (int i = 0; i < 8; i++) memcpy(&a[i], from + i * ld, sizeof *a);
    for (int i = 0; i < 4; i++) b[2 * i] = low8(a[i], a[i + 4]), b[2 * i + 1] = high8(a[i], a[i + 4]);
    for (int i = 0; i < 4; i++) a[2 * i] = low8(b[i], b[i + 4]), a[2 * i + 1] = high8(b[i], b[i + 4]);
    for (int i = 0; i < 4; i++) b[2 * i] = low8(a[i], a[i + 4]), b[2 * i + 1] = high8(a[i], a[i + 4]);
    for (int i = 0; i < 8; i++) memcpy(to + i * ldt, &b[i], sizeof *b);
}

static void transpose4(float *to, int64_t ldt, const float *from, int64_t ld)
{
    v4 a[4], b[4];

    for (int i = 0; i < 4; i++) memcpy(&a[i], from + i * ld, sizeof *a);
    for (int i = 0; i < 2; i++) b[2 * i] = low4(a[i], a[i + 2]), b[2 * i + 1] = high4(a[i], a[i + 2]);
    for (int i = 0; i < 2; i++) a[2 * i] = low4(b[i], b[i + 2]), a[2 * i + 1] = high4(b[i], b[i + 2]);
    for (int i = 0; i < 4; i++) memcpy(to + i * ldt, &a[i], sizeof *a);
}

/* Squares of this many rows at a time stay in the first cache. */
enum { SQUARE = 32 };

#define TRANSPOSE(name, type, side, square)                                                                              \
    static void name##_part(type *to, int64_t ldt, const type *from, int64_t ld, int64_t rows, int64_t cols)             \
    {                                                                                                                    \
        int64_t i = 0, j;                                                                                                \
                                                                                                                         \
        for (; i + side <= rows; i += side) {                                                                            \
            for (j = 0; j + side <= cols; j += side) square(to + j * ldt + i, ldt, from + i * ld + j, ld);               \
            for (; j < cols; j++)                                                                                        \
                for (int64_t r = i; r < i + side; r++) to[j * ldt + r] = from[r * ld + j];                               \
        }                                                                                                                \
        for (; i < rows; i++)                                                                                            \
            for (j = 0; j < cols; j++) to[j * ldt + i] = from[i * ld + j];                                               \
    }                                                                                                                    \
    void name(type *to, int64_t ldt, const type *from, int64_t ld, int64_t rows, int64_t cols)                           \
    {                                                                                                                    \
        for (int64_t j = 0; j < cols; j += SQUARE)                                                                       \
            for (int64_t i = 0; i < rows; i += SQUARE)                                                                   \
                name##_part(to + j * ldt + i, ldt, from + i * ld + j, ld, cad_min(SQUARE, rows - i), cad_min(SQUARE, cols - j)); \
    }
TRANSPOSE(cadp_transpose16, uint16_t, 8, transpose8)
TRANSPOSE(cadp_transpose32, float, 4, transpose4)

void cadp_block16(uint16_t *to, int64_t rows, int64_t cols, cad_tensor t, bool turned, int64_t row, int64_t col)
{
    const uint16_t *from = (const uint16_t *)t.data + (turned ? col * t.ld + row : row * t.ld + col);
    int64_t high = cad_min(rows, (turned ? t.cols : t.rows) - row), wide = cad_min(cols, (turned ? t.rows : t.cols) - col);

    if (turned) cadp_transpose16(to, cols, from, t.ld, wide, high);
    for (int64_t i = 0; i < high; i++) {
        if (!turned) memcpy(to + i * cols, from + i * t.ld, (size_t)wide * sizeof *to);
        memset(to + i * cols + wide, 0, (size_t)(cols - wide) * sizeof *to);
    }
    memset(to + high * cols, 0, (size_t)((rows - high) * cols) * sizeof *to);
}
