/* C [few rows, n] = A B': bound by reading B once, as codes where it is codes. A's rows are widened once; a row of B meets all of them while it passes. */
#include "cpu_priv.h"

#include <math.h>

/* SOON, AHEAD: bytes, of one of four streams and of one alone; rows follow one another in memory, so what is fetched beyond the end of one is the start of the next. */
enum { FEW = 4, LEAST = 1 << 14, TASK = 1 << 17, TASKS = 8, ABREAST = 4, SOON = 1024, AHEAD = 4096, STRIP = 1024, SCALES = CADP_WORD_BLOCKS, ROWS = CADP_SCREEN_ROWS };

bool cadp_cpu_has_few_rows(const cad_matmul_args *x)
{
    int64_t k = x->a.cols;

    if (x->ta || !x->tb || x->c.rows < 1 || x->c.rows > FEW || x->c.cols * k < LEAST) return false;
    return !cad_some(x->a2) || (!x->ta2 && x->tb2);
}

/* How codes meet a: turned into numbers a strip at a time; looked up as numbers; or, where they mean bf16, as whole numbers. */
typedef enum meeting { IN_STRIPS, AS_NUMBERS, AS_WORDS } meeting;
/* a: F32, its terms parted where B's lie in halves of words, or words; rounds: codes mean bf16. */
typedef struct side { cad_tensor a, b; cad_coded codes; float alpha; meeting by; bool rounds; } side;
typedef struct product { const cad_matmul_args *x; side s[2]; int64_t rows; } product; /* rows of B in a task */

static meeting meeting_of(const cad_matmul_args *x)
{
    const cad_coded *q = &x->codes;

    if (q->code == CAD_PLAIN || q->code == CAD_INT8 || q->cols % CAD_QUANT_BLOCK || q->cols == CAD_QUANT_BLOCK || q->cols / CAD_QUANT_BLOCK > SCALES) return IN_STRIPS;
    if (x->a.dtype != CAD_F32 && cadp_has_words()) return AS_WORDS;
#if defined(__clang__) /* which has no shuffle by a variable */
    return IN_STRIPS;
#else
    return AS_NUMBERS;
#endif
}

/* A row of a as it meets B. */
static int64_t row_floats(int64_t k, meeting by) { return by == AS_WORDS ? cadp_word_floats(k) : cad_round_up(k, by == AS_NUMBERS ? 128 : 16); }

static int64_t floats_of(cad_tensor a, meeting by) { return cad_some(a) && (by == AS_NUMBERS || a.dtype != CAD_F32) ? row_floats(a.cols, by) * a.rows : 0; }

/* A screen's own: of each row of a its words, and its fp32; what each task found. */
static int64_t screen_floats(const cad_matmul_args *x)
{
    int64_t k = x->a.cols;

    return cad_some(x->screen) ? x->a.rows * (cadp_screen_words(k) / 2 + cad_ceil_div(x->c.cols, 16)) + cad_round_up(k, 16) : 0;
}

/* A row in fp32 before it becomes words. */
static int64_t room_of(cad_tensor a, meeting by) { return by == AS_WORDS ? cad_round_up(a.cols, 16) : 0; }

int64_t cadp_cpu_few_rows_work(const cad_matmul_args *x)
{
    meeting by = meeting_of(x);

    return (floats_of(x->a, by) + room_of(x->a, by) + floats_of(x->a2, IN_STRIPS) + screen_floats(x)) * (int64_t)sizeof(float);
}

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

/* Runs of 128 terms as dot_codes meets them: lane i of 16 has the bytes 4 i to 4 i + 3 of codes, the upper half of a byte being the term before the lower's. */
static void part_codes(float *to, int64_t k)
{
    float run[128];

    for (int64_t j = 0; j < k; j += 128) {
        bool half = k - j < 128;
        if (half) memset(run, 0, 64 * sizeof *run);
        memcpy(run + (half ? 64 : 0), to + j, (half ? 64 : 128) * sizeof *run);
        for (int lane = 0; lane < 16; lane++)
            for (int byte = 0; byte < 4; byte++) {
                to[j + 32 * byte + lane] = run[8 * lane + 2 * byte + 1];
                to[j + 32 * byte + 16 + lane] = run[8 * lane + 2 * byte];
            }
    }
}

static void widen_row(meeting by, cad_tensor a, int64_t i, float *to, float *room)
{
    float *wide = by == AS_WORDS ? room : to;
    const float *from = cadp_get(a, i, 0, a.cols, wide);

    if (by == AS_WORDS) {
        cadp_to_words(from, a.cols, to);
        return;
    }
    if (from != to) memcpy(to, from, (size_t)a.cols * sizeof *to);
    (by == AS_NUMBERS ? part_codes : part_terms)(to, a.cols);
}

static void widen_side(side *s, cad_tensor a, float **room)
{
    int64_t ld = row_floats(a.cols, s->by);
    float *to = *room;

    s->a = a;
    s->rounds = a.dtype != CAD_F32;
    if (!floats_of(a, s->by)) return;
    *room += ld * a.rows;
    for (int64_t i = 0; i < a.rows; i++) widen_row(s->by, a, i, to + i * ld, *room);
    *room += room_of(a, s->by);
    s->a = (cad_tensor){to, CAD_F32, a.rows, a.cols, ld};
}

typedef uint32_t words __attribute__((vector_size(64)));
typedef uint64_t pairs __attribute__((vector_size(64)));
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

/* A row of B . a. The sums are kept in 64 lanes, and what is AHEAD is asked for: a core waits for memory, not for sums. */
CAD_CLONES static float dot_wide(const float *b, const float *a, int64_t k)
{
    cadp_lanes x, y, sum[4] = {{0}};
    float rest = 0;
    int64_t j = 0;

    for (; j + 64 <= k; j += 64)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            __builtin_prefetch((const char *)(b + j + 16 * i) + AHEAD);
            memcpy(&x, a + j + 16 * i, sizeof x);
            memcpy(&y, b + j + 16 * i, sizeof y);
            sum[i] += x * y;
        }
    for (; j < k; j++) rest += a[j] * b[j];
    sum[0] = (sum[0] + sum[2]) + (sum[1] + sum[3]);
    return join(&sum[0]) + rest;
}

/* Four rows of B, each a stream of its own to the processor, . a. A row's sum is the same whichever rows are beside it. */
CAD_CLONES static void dots_half(const uint16_t *const *b, const float *a, int64_t k, float *out)
{
    cadp_lanes even, odd, sum[ABREAST] = {{0}};
    words w;
    int64_t j = 0;

    for (; j + 32 <= k; j += 32) {
        memcpy(&even, a + j, sizeof even);
        memcpy(&odd, a + j + 16, sizeof odd);
#pragma GCC unroll 4
        for (int r = 0; r < ABREAST; r++) {
            __builtin_prefetch((const char *)(b[r] + j) + SOON);
            memcpy(&w, b[r] + j, sizeof w);
            sum[r] += even * (cadp_lanes)(w << 16);
            sum[r] += odd * (cadp_lanes)(w & 0xffff0000u);
        }
    }
    for (int r = 0; r < ABREAST; r++) {
        float rest = 0;
        for (int64_t i = j; i < k; i++) rest += a[i] * cad_bf16_to_f32(b[r][i]);
        out[r] = join(&sum[r]) + rest;
    }
}

static float dot_half(const uint16_t *b, const float *a, int64_t k)
{
    const uint16_t *same[ABREAST] = {b, b, b, b};
    float out[ABREAST];

    dots_half(same, a, k, out);
    return out[0];
}

/* n rows of B, ld apart. */
static void all_half(const uint16_t *b, int64_t ld, int64_t n, const float *a, int64_t k, float *out)
{
    int64_t apart = n / ABREAST;
    float found[ABREAST];

    for (int64_t i = 0; i < apart; i++) {
        const uint16_t *rows[ABREAST];
        for (int64_t r = 0; r < ABREAST; r++) rows[r] = b + (r * apart + i) * ld;
        dots_half(rows, a, k, found);
        for (int64_t r = 0; r < ABREAST; r++) out[r * apart + i] = found[r];
    }
    for (int64_t i = apart * ABREAST; i < n; i++) out[i] = dot_half(b + i * ld, a, k);
}

#if !defined(__clang__)
/* Multiply-add where the processor has it: such a row is bound by what is computed. */
#define CAD_FUSED __attribute__((optimize("fp-contract=fast")))
/* Rows of 4-bit codes, their blocks whole, as book and scale mean them: scales enter once a block, so that there is no rounding between. A word of 64 bytes
 * holds two blocks, eight lanes each; of an odd number of blocks the last lies in the upper lanes, and a is zero in the lower. */
CAD_CLONES CAD_FUSED static void dots_codes(const uint8_t *codes, const float *scales, int64_t blocks, const float *values, const float *a, int64_t rows, float *out)
{
    enum { WORD = 2 * CAD_QUANT_BLOCK };
    cadp_lanes book, x;
    pairs scale = {0};
    words w;

    memcpy(&book, values, sizeof book);
    for (int64_t r = 0; r < rows; r++, scales += blocks) {
        const float *at = a;
        cadp_lanes sum = {0};
        for (int64_t i = 0; i < blocks; i += 2, codes += WORD / 2, at += WORD) {
            cadp_lanes even = {0}, odd = {0};
            bool last = i + 1 == blocks;
            if (last) codes -= CAD_QUANT_BLOCK / 2;
            memcpy(&scale, scales + i - last, sizeof(uint64_t));
            memcpy(&w, codes, sizeof w);
            __builtin_prefetch(codes + AHEAD);
#pragma GCC unroll 4
            for (int byte = 0; byte < 4; byte++) {
                memcpy(&x, at + 32 * byte, sizeof x);
                odd += x * __builtin_shuffle(book, w >> (8 * byte));
                memcpy(&x, at + 32 * byte + 16, sizeof x);
                even += x * __builtin_shuffle(book, w >> (8 * byte + 4));
            }
            scale = __builtin_shuffle(scale, (pairs){0});
            sum += __builtin_shuffle((cadp_lanes)scale, (words){0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1}) * (even + odd);
        }
        out[r] = join(&sum);
    }
}

static void lookups(const cad_coded *q, int64_t row, int64_t rows, const float *a, float *out)
{
    float scales[SCALES];
    int64_t blocks = q->cols / CAD_QUANT_BLOCK, each = cad_min(rows, SCALES / blocks);

    row += q->above;
    for (int64_t r = 0; r < rows; r += each) {
        int64_t n = cad_min(each, rows - r);
        cadp_code_scales(q, cad_dynamic_map(true), (row + r) * blocks, n * blocks, scales);
        dots_codes((const uint8_t *)q->codes.data + (row + r) * q->cols / 2, scales, blocks, cad_code_book(q->code), a, n, out + r);
    }
}
#endif

/* Other codes are turned into numbers first, a strip at a time. */
static float dot_strips(const side *s, int64_t row, const float *a)
{
    union { uint16_t half[STRIP]; float wide[STRIP]; } room;
    float sum = 0;

    for (int64_t j = 0; j < s->codes.cols; j += STRIP) {
        int64_t n = cad_min(STRIP, s->codes.cols - j);
        if (s->rounds) {
            cadp_decode16(&s->codes, row, j, n, room.half);
            sum += dot_half(room.half, a + j, n);
        } else {
            cadp_decode32(&s->codes, row, j, n, room.wide);
            sum += dot_wide(room.wide, a + j, n);
        }
    }
    return sum;
}

/* out = rows [row, row + n) of B, at most ROWS, . a */
static void dots(const side *s, int64_t row, int64_t n, const float *a, float *out)
{
    if (s->by == AS_WORDS) {
        cadp_word_rows(&s->codes, row, n, a, out);
        return;
    }
#if !defined(__clang__)
    if (s->by == AS_NUMBERS) {
        lookups(&s->codes, row, n, a, out);
        return;
    }
#endif
    if (s->codes.code == CAD_PLAIN && s->b.dtype != CAD_F32) {
        all_half((const uint16_t *)s->b.data + row * s->b.ld, s->b.ld, n, a, s->a.cols, out);
        return;
    }
    for (int64_t i = 0; i < n; i++) out[i] = s->codes.code != CAD_PLAIN ? dot_strips(s, row + i, a) : dot_wide((const float *)s->b.data + (row + i) * s->b.ld, a, s->a.cols);
}

/* Any rows of B; rows of halves four at a time. */
static void dots_of(const side *s, const int64_t *rows, int64_t n, const float *a, float *out)
{
    bool halves = s->codes.code == CAD_PLAIN && s->b.dtype != CAD_F32;
    const uint16_t *b[ABREAST];
    float found[ABREAST];

    for (int64_t j = 0; j < n && !halves; j++) dots(s, rows[j], 1, a, out + j);
    for (int64_t j = 0, some; j < n && halves; j += some) {
        some = cad_min(ABREAST, n - j);
        for (int64_t r = 0; r < ABREAST; r++) b[r] = (const uint16_t *)s->b.data + rows[j + cad_min(r, some - 1)] * s->b.ld;
        dots_half(b, a, s->a.cols, found);
        memcpy(out + j, found, (size_t)some * sizeof *out);
    }
}

static void columns(const void *args, int64_t i, void *work)
{
    const product *p = args;
    const cad_matmul_args *x = p->x;

    (void)work;
    for (int64_t col = i * p->rows, end = cad_min(col + p->rows, x->c.cols); col < end; col += ROWS)
        for (int64_t r = 0, n = cad_min(ROWS, end - col); r < x->c.rows; r++) {
            float sum[ROWS] = {0}, one[ROWS];
            if (x->beta != 0) cadp_add_scaled(sum, cadp_get(x->c, r, col, n, one), (float)x->beta, n);
            for (const side *s = p->s; s < p->s + 2 && cad_some(s->a); s++) {
                dots(s, col, n, (const float *)s->a.data + r * s->a.ld, one);
                cadp_add_scaled(sum, one, s->alpha, n);
            }
            if (cad_some(x->bias)) cadp_add_scaled(sum, cadp_get(x->bias, 0, col, n, one), 1, n);
            cadp_put(x->c, r, col, n, sum);
        }
}

/* ---- with a screen ---- */

typedef struct screened { const product *p; cadp_screen row[FEW]; float most[FEW], *found; } screened; /* found: what each task's largest is at least, row by row */

static void estimate(const void *args, int64_t i, void *work)
{
    const screened *s = args;
    const cad_matmul_args *x = s->p->x;
    int64_t col = i * s->p->rows, n = cad_min(s->p->rows, x->c.cols - col);

    (void)work;
    for (int64_t r = 0; r < x->c.rows; r++) s->found[i * x->c.rows + r] = cadp_screen_estimate(&s->row[r], col, n, (float *)x->c.data + r * x->c.ld + col);
}

/* The first row counts in any case: where it is no number, nothing is larger. */
static void settle(const void *args, int64_t i, void *work)
{
    const screened *s = args;
    const side *b = s->p->s;
    const cad_matmul_args *x = s->p->x;
    int64_t from = i * s->p->rows, n = cad_min(s->p->rows, x->c.cols - from), rows[ROWS + 1] = {0};
    float found[ROWS + 1];

    (void)work;
    for (int64_t r = 0; r < x->c.rows; r++) {
        float *c = (float *)x->c.data + r * x->c.ld;
        int64_t first = !from, passing = first + cadp_screen_pass(&s->row[r], from, n, s->most[r], c + from, rows + first);
        dots_of(b, rows, passing, (const float *)b->a.data + r * b->a.ld, found);
        for (int64_t j = 0; j < passing; j++) c[rows[j]] = b->alpha * found[j] + 0;
    }
}

/* False: something in a is not finite. */
static bool with_screen(const cad_device *d, const product *p, float *room)
{
    const cad_matmul_args *x = p->x;
    int64_t tasks = cad_ceil_div(x->c.cols, p->rows), ld = cadp_screen_words(x->a.cols);
    float *wide = room + x->a.rows * (ld / 2);
    cadp_screen_view view = cadp_screen_of(x->screen.data, x->c.cols, x->a.cols);
    screened s = {.p = p, .found = wide + cad_round_up(x->a.cols, 16)};

    for (int64_t r = 0; r < x->a.rows; r++)
        if (!cadp_screen_open(&s.row[r], cadp_get(x->a, r, 0, x->a.cols, wide), x->a.cols, &view, (int16_t *)(void *)room + r * ld)) return false;
    cadp_cpu_each(d, tasks, estimate, &s, NULL, 0);
    for (int64_t r = 0; r < x->a.rows; r++) {
        s.most[r] = -INFINITY;
        for (int64_t i = 0; i < tasks; i++) s.most[r] = fmaxf(s.most[r], s.found[i * x->a.rows + r]);
    }
    cadp_cpu_each(d, tasks, settle, &s, NULL, 0);
    return true;
}

/* Rows of a task: TASK bytes, so that parts of it lie on pages of their own; fewer where that makes few tasks. */
static int64_t rows_of(const cad_matmul_args *x)
{
    int64_t bits = x->codes.code == CAD_PLAIN ? 8 * (int64_t)cad_dtype_bytes(x->b.dtype) : x->codes.code == CAD_INT8 ? 8 : 4, all = cad_ceil_div(8 * TASK, cad_max(1, x->a.cols * bits));

    return cad_round_up(cad_max(1, cad_min(cad_min(all, ROWS), cad_ceil_div(x->c.cols, TASKS))), 16);
}

void cadp_cpu_few_rows(const cad_device *d, const cad_matmul_args *x, void *work)
{
    float *room = work;
    product p = {.x = x, .rows = rows_of(x), .s = {{.b = x->b, .codes = x->codes, .alpha = (float)x->alpha, .by = meeting_of(x)}, {.b = x->b2, .alpha = (float)x->alpha2}}};

    widen_side(&p.s[0], x->a, &room);
    widen_side(&p.s[1], x->a2, &room);
    if (cad_some(x->screen) && with_screen(d, &p, room)) return;
    cadp_cpu_each(d, cad_ceil_div(x->c.cols, p.rows), columns, &p, NULL, 0);
}
