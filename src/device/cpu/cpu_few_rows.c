/* C [few rows, n] = A B': bound by reading B once. A's rows are widened once; each row of B meets all of them while it passes. */
#include "cpu_priv.h"

enum { FEW = 4, LEAST = 1 << 14, TASK = 1 << 15 };

bool cadp_cpu_has_few_rows(const cad_matmul_args *x)
{
    int64_t k = x->a.cols;

    if (x->ta || !x->tb || x->c.rows < 1 || x->c.rows > FEW || x->c.cols * k < LEAST) return false;
    return !cad_some(x->a2) || (!x->ta2 && x->tb2);
}

typedef struct side { cad_tensor a, b; float alpha; } side; /* a: F32 */
typedef struct product { const cad_matmul_args *x; side s[2]; int64_t rows; } product; /* rows of B in a task */

static int64_t floats_of(cad_tensor a) { return cad_some(a) && a.dtype != CAD_F32 ? cad_round_up(a.cols, 16) * a.rows : 0; }

int64_t cadp_cpu_few_rows_work(const cad_matmul_args *x) { return (floats_of(x->a) + floats_of(x->a2)) * (int64_t)sizeof(float); }

static cad_tensor widened(cad_tensor a, float **room)
{
    int64_t ld = cad_round_up(a.cols, 16);
    cad_tensor to = {*room, CAD_F32, a.rows, a.cols, ld};

    if (!cad_some(a) || a.dtype == CAD_F32) return a;
    for (int64_t i = 0; i < a.rows; i++) (void)cadp_get(a, i, 0, a.cols, *room + i * ld);
    *room += floats_of(a);
    return to;
}

typedef uint16_t halves __attribute__((vector_size(32)));
typedef uint32_t words __attribute__((vector_size(64)));

/* out[i] += alpha * (row of B) . (row i of A), sums in 32 lanes. */
#define DOTS(NAME, TYPE, LOAD)                                                                                                \
    CAD_CLONES static void NAME(const TYPE *b, const float *a, int64_t lda, int64_t rows, int64_t k, float alpha, float *out) \
    {                                                                                                                         \
        for (int64_t i = 0; i < rows; i++) {                                                                                  \
            cadp_lanes even = {0}, odd = {0}, x, y;                                                                           \
            const float *at = a + i * lda;                                                                                    \
            int64_t j = 0;                                                                                                    \
            for (; j + 32 <= k; j += 32) {                                                                                    \
                LOAD(y, b + j);                                                                                               \
                memcpy(&x, at + j, sizeof x);                                                                                 \
                even += x * y;                                                                                                \
                LOAD(y, b + j + 16);                                                                                          \
                memcpy(&x, at + j + 16, sizeof x);                                                                            \
                odd += x * y;                                                                                                 \
            }                                                                                                                 \
            even += odd;                                                                                                      \
            for (; j < k; j++) even[j % 16] += at[j] * ONE_##LOAD(b[j]);                                                      \
            out[i] += alpha * cadp_join(&even);                                                                               \
        }                                                                                                                     \
    }
#define WORDS(to, from) memcpy(&(to), from, sizeof(to))
#define HALVES(to, from)                                                \
    do {                                                                \
        halves half_;                                                   \
        memcpy(&half_, from, sizeof half_);                             \
        (to) = (cadp_lanes)(__builtin_convertvector(half_, words) << 16); \
    } while (0)
#define ONE_WORDS(v) (v)
#define ONE_HALVES(v) cad_bf16_to_f32(v)
DOTS(dots_wide, float, WORDS)
DOTS(dots_half, uint16_t, HALVES)

static void add_side(const side *s, int64_t col, float *out)
{
    if (!cad_some(s->b)) return;
    if (s->b.dtype == CAD_F32)
        dots_wide((const float *)s->b.data + col * s->b.ld, s->a.data, s->a.ld, s->a.rows, s->a.cols, s->alpha, out);
    else
        dots_half((const uint16_t *)s->b.data + col * s->b.ld, s->a.data, s->a.ld, s->a.rows, s->a.cols, s->alpha, out);
}

static float load(cad_tensor t, int64_t i, int64_t j) { return t.dtype == CAD_F32 ? ((const float *)t.data)[i * t.ld + j] : cad_bf16_to_f32(((const uint16_t *)t.data)[i * t.ld + j]); }

static void store(cad_tensor t, int64_t i, int64_t j, float v)
{
    if (t.dtype == CAD_F32)
        ((float *)t.data)[i * t.ld + j] = v;
    else
        ((uint16_t *)t.data)[i * t.ld + j] = cad_f32_to_bf16(v);
}

static void columns(const void *args, int64_t i, void *work)
{
    const product *p = args;
    const cad_matmul_args *x = p->x;

    (void)work;
    for (int64_t col = i * p->rows; col < cad_min((i + 1) * p->rows, x->c.cols); col++) {
        float sum[FEW] = {0};
        for (int64_t r = 0; r < x->c.rows && x->beta != 0; r++) sum[r] = (float)x->beta * load(x->c, r, col);
        add_side(&p->s[0], col, sum);
        add_side(&p->s[1], col, sum);
        for (int64_t r = 0; r < x->c.rows; r++) store(x->c, r, col, sum[r] + (cad_some(x->bias) ? load(x->bias, 0, col) : 0));
    }
}

void cadp_cpu_few_rows(const cad_device *d, const cad_matmul_args *x, void *work)
{
    float *room = work;
    product p = {.x = x, .rows = cad_max(1, TASK / cad_max(1, x->a.cols))};

    p.s[0] = (side){widened(x->a, &room), x->b, (float)x->alpha};
    p.s[1] = (side){widened(x->a2, &room), x->b2, (float)x->alpha2};
    cadp_cpu_each(d, cad_ceil_div(x->c.cols, p.rows), columns, &p, NULL, 0);
}
