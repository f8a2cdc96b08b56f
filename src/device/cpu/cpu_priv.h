/* cpu: every operation is cut into tiles by its shapes alone; a thread takes whole tiles and works on each in a fixed order, so that
 * results depend neither on the number of threads nor on who took what. */
#ifndef CADP_CPU_PRIV_H
#define CADP_CPU_PRIV_H
#include "../device_priv.h"

/* Functions compiled once per instruction set and chosen at the start of the program. They must not contain OpenMP regions. */
#if defined(CAD_NO_CLONES) || !defined(__x86_64__) || defined(__clang__)
#define CAD_CLONES
#else
#define CAD_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif

/* Sixteen lanes: sums are kept in lanes and joined by cadp_join, the same way on every instruction set. */
typedef float cadp_lanes __attribute__((vector_size(64)));
static inline float cadp_join(const cadp_lanes *v)
{
    float s[16];

    memcpy(s, v, sizeof s);
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) s[i] += s[i + half];
    return s[0];
}

/* ---- threads (cpu_each.c) ---- */

typedef void cadp_tile(const void *args, int64_t i, void *work);
/* tile(args, i, own) for every i in [0, n), each by one thread; own: `each` bytes of `work` that belong to the thread. */
void cadp_cpu_each(const cad_device *d, int64_t n, cadp_tile *tile, const void *args, void *work, int64_t each);

/* A matrix cut into rectangles of about CADP_RECT elements. */
enum { CADP_RECT = 1 << 14, CADP_STRIP = 1024 };
typedef struct cadp_grid { int64_t rows, cols, height, width, across, n; } cadp_grid;
typedef struct cadp_rect { int64_t row, rows_end, col, cols_end; } cadp_rect;
cadp_grid cadp_grid_of(int64_t rows, int64_t cols);
cadp_rect cadp_rect_of(const cadp_grid *g, int64_t i);

/* ---- fp32 and bf16 (cpu_strips.c) ---- */

float cadp_largest(const float *x, int64_t n); /* -infinity of none; NaN is passed over */
float cadp_largest_magnitude(const float *x, int64_t n); /* NaN is the largest (cpu_quant.c) */
float cadp_total(const float *x, int64_t n);
void cadp_add_scaled(float *to, const float *from, float by, int64_t n);
float cadp_dot(const float *a, const float *b, int64_t n);
float cadp_exponentials(float *x, float top, int64_t n); /* x = exp(x - top); returns their sum */
void cadp_scale_row(float *x, float by, int64_t n);
void cadp_cap(float *s, float softcap, int64_t n); /* s = softcap tanh(s / softcap) */

/* n elements from (i, j) as floats: the tensor's own where it is F32, else converted into room. */
const float *cadp_get(cad_tensor t, int64_t i, int64_t j, int64_t n, float *room);
/* Where to compute such elements; cadp_put then stores them (and does nothing where they are in place). */
float *cadp_slot(cad_tensor t, int64_t i, int64_t j, float *room);
void cadp_put(cad_tensor t, int64_t i, int64_t j, int64_t n, const float *from);
/* All of t as F32: t itself, or a copy at *room, which moves on. */
cad_tensor cadp_widen(cad_tensor t, float **room);
int64_t cadp_widen_floats(cad_dtype dtype, int64_t rows, int64_t cols);
/* to = from, to compact F32, by all threads. */
void cadp_widen_all(const cad_device *d, cad_tensor from, float *to);

/* n factors of dropout, 0 or 1 / (1 - p), of elements from word `first` on: those cad_dropout applies (cpu_elements.c). n <= CADP_STRIP. */
void cadp_keep(float *factor, double p, uint64_t seed, uint64_t index, uint32_t site, uint64_t first, int64_t n);

/* y [1, cols] F32 = (or +=) the sum of `tiles` rows, in order (cpu_sums.c). */
void cadp_sum_partials(const cad_device *d, cad_tensor y, const float *from, int64_t tiles, bool accumulate);

/* ---- products (cpu_dnnl.c: all that is known of oneDNN) ---- */

typedef struct cadp_factor { const float *data; int64_t ld; bool turned; } cadp_factor;
/* C [m, n] = alpha op(A) op(B) + beta C, row-major, by the calling thread alone. */
void cadp_sgemm(int64_t m, int64_t n, int64_t k, float alpha, cadp_factor a, cadp_factor b, float beta, float *c, int64_t ldc);
/* Called by each thread of a team: products started by it use no further threads. */
void cadp_cpu_alone(void);
const char *cadp_dnnl_isa(void);
void cadp_dnnl_version(char *out, size_t room); /* "2.6.3" */

/* Products of bf16 factors: made for a shape by the thread that starts a team, run by any of the team. */
typedef struct cadp_dnnl cadp_dnnl;
typedef struct cadp_bf16 cadp_bf16;
/* Whether bf16 is multiplied as it is: what the processor has, or what CADTRAIN_BF16_PRODUCTS says. CAD_EUSAGE where that is neither native nor convert, or native without AVX-512. */
CAD_CHECKED cad_status cadp_dnnl_choose_bf16(bool *native);
CAD_CHECKED cad_status cadp_dnnl_open(cadp_dnnl **out, int threads);
void cadp_dnnl_close(cadp_dnnl **o);
/* C [m, n] F32 = (add: +=) A [m, k] B [k, n] without gaps between rows, B packed. m == 0: packs B [k, n]. Kept until the close. */
CAD_CHECKED cad_status cadp_bf16_of(cadp_dnnl *o, int64_t m, int64_t n, int64_t k, bool add, const cadp_bf16 **out);
void cadp_bf16_run(const cadp_dnnl *o, const cadp_bf16 *s, const uint16_t *from, const void *packed, void *to);
static inline int64_t cadp_bf16_packed_bytes(int64_t n, int64_t k) { return cad_round_up(n, 64) * cad_round_up(k, 64) * 2; }

/* Products with so few rows of A, and B transposed, that reading B is what counts (cpu_few_rows.c). */
bool cadp_cpu_has_few_rows(const cad_matmul_args *x);
int64_t cadp_cpu_few_rows_work(const cad_matmul_args *x);
void cadp_cpu_few_rows(const cad_device *d, const cad_matmul_args *x, void *work);

/* And with as many rows as a prompt has (cpu_some_rows.c). */
bool cadp_cpu_has_some_rows(const cad_matmul_args *x);
int64_t cadp_cpu_some_rows_work(const cad_matmul_args *x);
void cadp_cpu_some_rows(const cad_device *d, const cad_matmul_args *x, void *work);

/* Rows [row, row + rows) of 4-bit codes, their blocks whole, times a row of numbers as words of 16 bits (cpu_words.c): out = each row . a. */
enum { CADP_WORD_BLOCKS = 512 }; /* at most, and at least two */
bool cadp_has_words(void); /* this processor has what it takes */
int64_t cadp_word_floats(int64_t k); /* room for such a row */
void cadp_to_words(const float *x, int64_t k, void *to);
void cadp_word_rows(const cad_coded *q, int64_t row, int64_t rows, const void *a, float *out);
/* Some such rows of numbers, as runs, times CADP_TILE_ROWS rows of codes from `row` on, the last again where there are fewer (cpu_word_tiles.c): sum [rows, ld] += alpha (a . row). */
enum { CADP_TILE_ROWS = 8, CADP_TILE_RUNS = 8 };
int64_t cadp_run_floats(int64_t k); /* room for a row of k, a multiple of a block's terms */
void cadp_to_runs(const float *x, int64_t k, float *to);
void cadp_word_tiles(const cad_coded *q, int64_t row, const float *a, int64_t rows, float alpha, float *sum, int64_t ld);

/* Rows of a matrix that can give the largest element of its product with x, from its screen (cpu_screen.c). */
int64_t cadp_screen_bytes(int64_t rows, int64_t cols);
CAD_CHECKED cad_status cadp_make_screen(cad_device *d, void *screen, cad_tensor b);
typedef struct cadp_screen_view { uint8_t *codes; float *step, *off; int64_t cols, bytes; bool six; } cadp_screen_view; /* of each row: codes, `bytes` of them, their step, and |row - codes * step| */
cadp_screen_view cadp_screen_of(void *data, int64_t rows, int64_t cols);
typedef struct cadp_screen { cadp_screen_view v; const int16_t *words; const int8_t *high; int64_t sum; float step, per_step, per_off, per_one; } cadp_screen; /* a row's bound: step per_step + off per_off + per_one */
int64_t cadp_screen_words(int64_t k); /* room for x as words */
bool cadp_screen_open(cadp_screen *s, const float *x, int64_t k, const cadp_screen_view *v, int16_t *words); /* false: x is not finite */
/* out = elements [from, from + n), about; returns what the largest of them is at least. */
enum { CADP_SCREEN_ROWS = 256 }; /* n at most */
float cadp_screen_estimate(const cadp_screen *s, int64_t from, int64_t n, float *out);
/* Which of them, in turn, may be as large as `most`: into rows [n]; how many. All of x becomes -infinity. */
int64_t cadp_screen_pass(const cadp_screen *s, int64_t from, int64_t n, float most, float *x, int64_t *rows);

/* Products of whole numbers: matmul with outliers (cpu_int8.c). */
int64_t cadp_cpu_int8_work(const cad_device *d, const cad_matmul_args *x);
CAD_CHECKED cad_status cadp_cpu_int8(cad_device *d, const cad_matmul_args *x, void *work);

/* The state behind d->own. */
typedef struct cadp_cpu { cadp_dnnl *products; bool native; } cadp_cpu;

/* ---- blocks of factors (cpu_pack.c) ---- */

/* to [cols, rows], ld `ldt`, = the transpose of from [rows, cols]; elements of 2 or 4 bytes. */
void cadp_transpose16(uint16_t *to, int64_t ldt, const uint16_t *from, int64_t ld, int64_t rows, int64_t cols);
void cadp_transpose32(float *to, int64_t ldt, const float *from, int64_t ld, int64_t rows, int64_t cols);
/* to [rows, cols] = rows and columns of op(t) from (row, col) on, zero where t ends. */
void cadp_block16(uint16_t *to, int64_t rows, int64_t cols, cad_tensor t, bool turned, int64_t row, int64_t col);

/* ---- matrices of codes (cpu_coded.c) ---- */

/* The scales of n blocks of 4-bit codes; map: cad_dynamic_map(true). */
void cadp_code_scales(const cad_coded *q, const float *map, int64_t block, int64_t n, float *out);
/* Elements (row, col) to (row, col + n), as the matrix means them; 16: rounded to bf16. */
void cadp_decode16(const cad_coded *q, int64_t row, int64_t col, int64_t n, uint16_t *out);
void cadp_decode32(const cad_coded *q, int64_t row, int64_t col, int64_t n, float *out);
/* As cadp_block16; room: rows x cols more. */
void cadp_coded_block16(uint16_t *to, int64_t rows, int64_t cols, const cad_coded *q, bool turned, int64_t row, int64_t col, uint16_t *room);
/* to [rows, cols] fp32 = op(q) from (row, col) on, all of it inside; rounds: to bf16 on the way. room: rows x cols more. */
void cadp_coded_block32(float *to, int64_t rows, int64_t cols, const cad_coded *q, bool turned, bool rounds, int64_t row, int64_t col, float *room);

#define CADP_CPU(op, args) CAD_CHECKED cad_status cadp_cpu_##op(cad_device *d, const args *x, void *work);
CADP_OPS(CADP_CPU)
#undef CADP_CPU
int64_t cadp_cpu_matmul_work(const cad_device *d, const cad_matmul_args *x);
int64_t cadp_cpu_attention_fwd_work(const cad_device *d, const cad_attention_args *x);
int64_t cadp_cpu_attention_cached_work(const cad_device *d, const cad_attention_cached_args *x);
int64_t cadp_cpu_attention_bwd_work(const cad_device *d, const cad_attention_bwd_args *x);
int64_t cadp_cpu_rmsnorm_bwd_work(const cad_device *d, const cad_rmsnorm_bwd_args *x);
int64_t cadp_cpu_sum_rows_work(const cad_device *d, const cad_sum_rows_args *x);
int64_t cadp_cpu_fixed_add_work(const cad_device *d, const cad_fixed_args *x);
int64_t cadp_cpu_dot_cols_work(const cad_device *d, const cad_dot_cols_args *x);
int64_t cadp_cpu_layernorm_bwd_work(const cad_device *d, const cad_layernorm_bwd_args *x);
int64_t cadp_cpu_route_fwd_work(const cad_device *d, const cad_route_args *x);
int64_t cadp_cpu_matmul_groups_work(const cad_device *d, const cad_groups_args *x);
#endif
