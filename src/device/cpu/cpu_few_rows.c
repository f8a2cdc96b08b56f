/* C [few rows, n] = A B': bound by reading B once. A's rows are widened once; each row of B meets all of them while it passes. */
#include "cpu_priv.h"

enum { FEW = 4, ROWS = 4, LEAST = 1 << 14, TASK = 1 << 15 };

bool cadp_cpu_has_few_rows(const cad_matmul_args *x)
{
    int64_t k = x->a.cols;

    if (x->codes.code || x->ta || !x->tb || x->c.rows < 1 || x->c.rows > FEW || x->c.cols * k < LEAST) return false;
    return !cad_some(x->a2) || (!x->ta2 && x->tb2);
}

typedef struct side { cad_tensor a, b; float alpha; } side; /* a: F32 */
typedef struct product { const cad_matmul_args *x; side s[2]; int64_t rows; } product; /* rows of B in a task */

static int64_t floats_of(cad_tensor a) { return cad_some(a) && a.dtype != CAD_F32 ? cad_round_up(a.cols, 16) * a.rows : 0; }

int64_t cadp_cpu_few_rows_work(const cad_matmul_args *x) { return (floats_of(x->a) + floats_of(x->a2)) * (int64_t)sizeof(float); }

/* Runs of 32 terms lie as 16 even ones and 16 odd ones: the two halves of sixteen words of a row of B. */
static void part_terms(float *to, int64_t k)
{
    float run[32];

    for (int64_t j = 0; j + 32 <= k; j += 32) {
        memcpy(run, to + j, sizeof run);
        for (int i = 0; i < 16; i++) {
            to[j + i] = run[2 * i];
            to[j + 16 + i] = run[2 * i + 1];
        }
    }
}

static cad_tensor widened(cad_tensor a, float **room)
{
    int64_t ld = cad_round_up(a.cols, 16);
    cad_tensor to = {*room, CAD_F32, a.rows, a.cols, ld};

    if (!cad_some(a) || a.dtype == CAD_F32) return a;
    for (int64_t i = 0; i < a.rows; i++) {
        (void)cadp_get(a, i, 0, a.cols, *room + i * ld);
        part_terms(*room + i * ld, a.cols);
    }
    *room += floats_of(a);
    return to;
}

typedef uint32_t words __attribute__((vector_size(64)));
typedef float lanes8 __attribute__((vector_size(32)));
typedef float lanes4 __attribute__((vector_size(16)));

/* cadp_join without memory. */
static inline float join(const cadp_lanes *v)
{
    lanes8 a, b;
    lanes4 c, d;

    memcpy(&a, v, sizeof a);
    memcpy(&b, (const char *)v + sizeof a, sizeof b);
    a += b;
    memcpy(&c, &a, sizeof c);
    memcpy(&d, (const char *)&a + sizeof c, sizeof d);
    c += d;
    return (c[0] + c[2]) + (c[1] + c[3]);
}

/* out[r] = (row r of ROWS rows of B) . a, sums in 32 lanes each, which stay in registers: hence no loop over the rows. */
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3)
#define BEGIN(r) cadp_lanes even##r = {0}, odd##r = {0};
#define END(r)                                                                    \
    even##r += odd##r;                                                            \
    out[r] = join(&even##r);                                                      \
    for (int64_t i = j; i < k; i++) out[r] += a[i] * ONE(b[(r) * ldb + i]);
#define DOTS(NAME, TYPE, TERMS)                                                                                \
    CAD_CLONES static void NAME(const TYPE *b, int64_t ldb, const float *a, int64_t k, float *out)             \
    {                                                                                                          \
        cadp_lanes x, z, y = {0};                                                                                    \
        int64_t j = 0;                                                                                         \
        EACH_ROW(BEGIN)                                                                                        \
        for (; j + 32 <= k; j += 32) {                                                                         \
            memcpy(&x, a + j, sizeof x);                                                                       \
            memcpy(&z, a + j + 16, sizeof z);                                                                  \
            EACH_ROW(TERMS)                                                                                    \
        }                                                                                                      \
        (void)y;                                                                                               \
        EACH_ROW(END)                                                                                          \
    }
#define WIDE(r)                                        \
    memcpy(&y, b + (r) * ldb + j, sizeof y);           \
    even##r += x * y;                                  \
    memcpy(&y, b + (r) * ldb + j + 16, sizeof y);      \
    odd##r += z * y;
#define HALF(r)                                        \
    {                                                  \
        words w;                                       \
        memcpy(&w, b + (r) * ldb + j, sizeof w);       \
        even##r += x * (cadp_lanes)(w << 16);          \
        odd##r += z * (cadp_lanes)(w & 0xffff0000u);   \
    }
#define ONE(v) (v)
DOTS(dots_wide, float, WIDE)
#undef ONE
#define ONE(v) cad_bf16_to_f32(v)
DOTS(dots_half, uint16_t, HALF)

/* out[column][row of A] += alpha times the products of `cols` rows of B; the last rows may be fewer than ROWS: then one row is taken ROWS times. */
static void add_side(const side *s, int64_t col, int64_t cols, float out[ROWS][FEW])
{
    float sum[ROWS];

    if (!cad_some(s->b)) return;
    for (int64_t first = 0; first < cols; first += cols == ROWS ? ROWS : 1)
        for (int64_t i = 0; i < s->a.rows; i++) {
            int64_t ldb = cols == ROWS ? s->b.ld : 0, k = s->a.cols;
            const float *a = (const float *)s->a.data + i * s->a.ld;
            if (s->b.dtype == CAD_F32) dots_wide((const float *)s->b.data + (col + first) * s->b.ld, ldb, a, k, sum);
            else dots_half((const uint16_t *)s->b.data + (col + first) * s->b.ld, ldb, a, k, sum);
            for (int64_t r = 0; r < (cols == ROWS ? ROWS : 1); r++) out[first + r][i] += s->alpha * sum[r];
        }
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
    for (int64_t col = i * p->rows, end = cad_min((i + 1) * p->rows, x->c.cols); col < end; col += ROWS) {
        float sum[ROWS][FEW] = {{0}};
        int64_t cols = cad_min(ROWS, end - col);
        for (int64_t j = 0; j < cols && x->beta != 0; j++)
            for (int64_t r = 0; r < x->c.rows; r++) sum[j][r] = (float)x->beta * load(x->c, r, col + j);
        add_side(&p->s[0], col, cols, sum);
        add_side(&p->s[1], col, cols, sum);
        for (int64_t j = 0; j < cols; j++)
            for (int64_t r = 0; r < x->c.rows; r++) store(x->c, r, col + j, sum[j][r] + (cad_some(x->bias) ? load(x->bias, 0, col + j) : 0));
    }
}

void cadp_cpu_few_rows(const cad_device *d, const cad_matmul_args *x, void *work)
{
    float *room = work;
    product p = {.x = x, .rows = cad_round_up(cad_max(1, TASK / cad_max(1, x->a.cols)), ROWS)};

    p.s[0] = (side){widened(x->a, &room), x->b, (float)x->alpha};
    p.s[1] = (side){widened(x->a2, &room), x->b2, (float)x->alpha2};
    cadp_cpu_each(d, cad_ceil_div(x->c.cols, p.rows), columns, &p, NULL, 0);
}
