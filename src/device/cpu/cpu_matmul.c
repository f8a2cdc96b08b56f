/* C is cut into tiles, all of (nearly) one size and a multiple of eight of them where that leaves them large; a thread computes whole tiles.
 * fp32: straight into C; an op(B) that is transposed is turned once for all tiles, since oneDNN would turn it for each.
 * bf16: op(B) is brought once, block by block, into the form products like: packed by oneDNN where the processor multiplies bf16, else in
 * fp32. A's part follows with each tile, in pieces of the sum. Tiles are summed in fp32 and rounded once into C. */
#include "cpu_math.h"
#include "cpu_priv.h"

enum { TILE_ROWS = 320, FEW_ROWS = 128, TILE_COLS = 768, FEW_COLS = 96, TILES = 8, PANEL = 1 << 22, PIECE = 768, STRIPE = 64, BLOCK_COLS = 192 };

typedef enum path { DIRECT, CONVERTED, PACKED } path;

/* One of the two products of a call. op(B) lies in blocks: `pieces` of `piece` terms, each by block_cols columns. */
typedef struct half { cad_tensor a, b; cad_coded codes; bool ta, tb; int64_t k, piece, pieces; char *blocks; const cadp_bf16 *pack, *first, *next; } half;

typedef struct plan {
    path path;
    bool turn_b[2];             /* DIRECT: op(B) is turned beforehand */
    bool once;                  /* CONVERTED: one row of tiles, so each brings its own part of op(B) */
    int64_t m, n, tile_rows, tile_cols, block_cols, panel_cols;
    int64_t block_bytes[2], shared_bytes[2], a_bytes, b_bytes, tile_bytes, own_bytes; /* work space: op(B) of a panel; each thread's A, B and C */
} plan;

static int64_t tile_of(int64_t n, int64_t pieces) { return cad_round_up(cad_ceil_div(n, pieces), 16); }

/* Pieces of n, from `least` up to `most`, so that pieces * others is a multiple of TILES, or of half of that, … */
static int64_t pieces_of(int64_t least, int64_t most, int64_t others)
{
    for (int64_t unit = TILES; unit > 1; unit /= 2)
        for (int64_t p = least; p <= most; p++)
            if (p * others % unit == 0) return p;
    return least;
}

static void cut_tiles(plan *p)
{
    int64_t across = cad_ceil_div(p->n, TILE_COLS), down = cad_ceil_div(p->m, TILE_ROWS);

    down = pieces_of(down, cad_max(down, p->m / FEW_ROWS), across);
    if (down * across < TILES) across = pieces_of(across, cad_max(across, p->n / FEW_COLS), down);
    p->tile_rows = tile_of(p->m, down);
    p->tile_cols = tile_of(p->n, across);
}

/* Equal pieces, in steps of 32 terms: a primitive belongs to each length. */
static void cut_terms(half *h, path way)
{
    h->pieces = way == DIRECT ? 1 : cad_max(1, cad_ceil_div(h->k, PIECE));
    h->piece = way == DIRECT ? h->k : cad_max(32, cad_round_up(cad_ceil_div(h->k, h->pieces), 32));
}

static int64_t padded(int64_t bytes) { return cad_round_up(bytes, 64); }

static bool is_coded(const half *h) { return h->codes.code != CAD_PLAIN; }

/* Room of a thread that turns codes into numbers: a block of bf16 and what it was turned from, or a stripe of fp32. */
static int64_t decode_bytes(path way, int64_t cols, int64_t terms) { return way == PACKED ? 2 * padded(2 * cols * terms) : padded(4 * cols * STRIPE); }

static plan plan_of(const cad_device *d, const cad_matmul_args *x, half h[2])
{
    const cadp_cpu *own = d->own;
    plan p = {.path = x->a.dtype == CAD_F32 ? DIRECT : own->native ? PACKED : CONVERTED, .m = x->c.rows, .n = x->c.cols};

    h[0] = (half){.a = x->a, .b = x->b, .codes = x->codes, .ta = x->ta, .tb = x->tb, .k = x->ta ? x->a.rows : x->a.cols};
    h[1] = (half){.a = x->a2, .b = x->b2, .ta = x->ta2, .tb = x->tb2, .k = x->ta2 ? x->a2.rows : x->a2.cols};
    cut_tiles(&p);
    p.block_cols = p.path == PACKED ? tile_of(p.tile_cols, cad_ceil_div(p.tile_cols, BLOCK_COLS)) : p.tile_cols;
    p.tile_cols = cad_round_up(p.tile_cols, p.block_cols);
    p.once = p.path == CONVERTED && p.m <= p.tile_rows && !is_coded(&h[0]);
    p.panel_cols = p.once ? p.n : cad_max(1, PANEL / cad_max(1, h[0].k + h[1].k) / p.tile_cols) * p.tile_cols;
    p.tile_bytes = padded(p.tile_rows * p.tile_cols * 4);
    for (int i = 0; i < 2; i++) {
        int64_t blocks = p.once ? 0 : cad_ceil_div(cad_min(p.panel_cols, p.n), p.block_cols);
        cut_terms(&h[i], p.path);
        p.turn_b[i] = p.path == DIRECT && h[i].k && (is_coded(&h[i]) || (h[i].tb && p.m > 2 * p.tile_rows));
        p.block_bytes[i] = p.path == PACKED ? cadp_bf16_packed_bytes(p.block_cols, h[i].piece) : padded(h[i].piece * p.block_cols * 4);
        if (cad_some(h[i].a) && (p.path != DIRECT || p.turn_b[i])) p.shared_bytes[i] = blocks * h[i].pieces * p.block_bytes[i];
        if (cad_some(h[i].a) && p.path != DIRECT) {
            p.a_bytes = cad_max(p.a_bytes, padded(cad_max(p.tile_rows, p.block_cols) * h[i].piece * (p.path == PACKED ? 2 : 4)));
            p.b_bytes = p.once ? cad_max(p.b_bytes, p.block_bytes[i]) : 0;
            p.own_bytes += p.tile_bytes;
        }
    }
    if (p.path == DIRECT && x->c.dtype != CAD_F32) p.own_bytes = p.tile_bytes;
    p.own_bytes += p.a_bytes + p.b_bytes;
    if (is_coded(&h[0])) p.own_bytes = cad_max(p.own_bytes, decode_bytes(p.path, p.block_cols, h[0].piece));
    return p;
}

/* Terms of one half as they lie in pieces, at most. */
static int64_t most_terms(int64_t k, path way) { return way == DIRECT ? k : k + 32 * (cad_ceil_div(k, PIECE) + 1); }

/* op(B) of a panel, at most: all columns, or what a panel holds and one tile more. */
static int64_t most_shared(int64_t n, int64_t k, int64_t tile_cols, path way)
{
    int64_t terms = most_terms(k, way);

    return 4 * cad_min((n + tile_cols) * terms, 3 * (int64_t)PANEL + tile_cols * terms) + 64 * 64;
}

/* A bound that never shrinks when the rows or the terms grow: what the largest micro-batch needs is enough for every smaller one, though its
 * tiles are cut otherwise. */
int64_t cadp_cpu_matmul_work(const cad_device *d, const cad_matmul_args *x)
{
    const cadp_cpu *own = d->own;
    path way = x->a.dtype == CAD_F32 ? DIRECT : own->native ? PACKED : CONVERTED;
    int64_t rows = cad_min(cad_round_up(x->c.rows, 16), TILE_ROWS), cols = cad_min(cad_round_up(x->c.cols, 16), TILE_COLS) + BLOCK_COLS;
    int64_t k = x->ta ? x->a.rows : x->a.cols, k2 = cad_some(x->a2) ? x->ta2 ? x->a2.rows : x->a2.cols : 0;
    bool coded = x->codes.code != CAD_PLAIN, few = way != PACKED && !coded && x->c.rows < 2 * FEW_ROWS; /* surely one row of tiles: nothing is shared */
    int64_t shared = few ? 0 : (way != DIRECT || x->tb || coded ? most_shared(x->c.cols, k, cols, way) : 0) + (k2 && (way != DIRECT || x->tb2) ? most_shared(x->c.cols, k2, cols, way) : 0);
    int64_t tiles = way == DIRECT && x->c.dtype == CAD_F32 ? 0 : 4 * rows * cols * (k2 ? 2 : 1), terms = cad_min(most_terms(cad_max(k, k2), way), PIECE + 32);
    int64_t left = way == DIRECT ? 0 : 4 * terms * (cad_max(rows, cols) + (way == CONVERTED ? cols : 0)); /* with few rows tiles hold their part of op(B) too */

    if (x->outliers > 0) return cadp_cpu_int8_work(d, x);
    return cad_max(cadp_cpu_some_rows_work(x), cad_max(shared + d->threads * (tiles + left + (coded ? decode_bytes(way, cols, PIECE + 32) : 0) + 256), cadp_cpu_has_few_rows(x) ? cadp_cpu_few_rows_work(x) : 0));
}

/* Columns [col, col + cols) of C at present, cut into tiles. */
typedef struct panel { const cad_matmul_args *x; const cadp_dnnl *products; plan p; half h[2]; int64_t col, cols, across; } panel;

static char *block_at(const panel *t, int i, int64_t piece, int64_t block) { return t->h[i].blocks + (block * t->h[i].pieces + piece) * t->p.block_bytes[i]; }

/* ---- op(B) into blocks ---- */

typedef struct packing { const panel *t; int i; int64_t stripes; } packing;

/* Terms [from, from + rows) of op(B), columns [col, col + cols), in fp32 without gaps; rows behind its end are left out. */
static void widen_b(const half *h, int64_t from, int64_t rows, int64_t col, int64_t cols, float *to, uint16_t *room)
{
    cad_tensor part;

    rows = cad_min(rows, h->k - from);
    if (rows <= 0) return;
    if (is_coded(h)) {
        cadp_coded_block32(to, rows, cols, &h->codes, h->tb, h->a.dtype == CAD_BF16, from, col, (float *)(void *)room);
        return;
    }
    if (h->b.dtype == CAD_F32) {
        cadp_transpose32(to, cols, (const float *)h->b.data + col * h->b.ld + from, h->b.ld, cols, rows);
        return;
    }
    part = h->tb ? cad_view(room, CAD_BF16, rows, cols) : cad_columns(cad_slice(h->b, from, rows), col, cols);
    if (h->tb) cadp_transpose16(room, cols, (const uint16_t *)h->b.data + col * h->b.ld + from, h->b.ld, cols, rows);
    (void)cadp_widen(part, &to);
}

/* A stripe of terms of one block in fp32. */
static void widen_stripe(const void *args, int64_t i, void *work)
{
    const packing *w = args;
    const panel *t = w->t;
    const half *h = &t->h[w->i];
    int64_t stripe = i % w->stripes * STRIPE, piece = i / w->stripes % h->pieces, block = i / w->stripes / h->pieces;
    int64_t col = block * t->p.block_cols, cols = cad_min(t->p.block_cols, t->cols - col);
    float *to = (float *)(void *)block_at(t, w->i, piece, block) + stripe * cols;

    widen_b(h, piece * h->piece + stripe, cad_min(STRIPE, h->piece - stripe), t->col + col, cols, to, work);
}

static void pack_block(const void *args, int64_t i, void *work)
{
    const packing *w = args;
    const panel *t = w->t;
    const half *h = &t->h[w->i];
    int64_t piece = i % h->pieces, block = i / h->pieces;
    uint16_t *room = (uint16_t *)work + h->piece * t->p.block_cols;

    if (is_coded(h)) cadp_coded_block16(work, h->piece, t->p.block_cols, &h->codes, h->tb, piece * h->piece, t->col + block * t->p.block_cols, room);
    else cadp_block16(work, h->piece, t->p.block_cols, h->b, h->tb, piece * h->piece, t->col + block * t->p.block_cols);
    cadp_bf16_run(t->products, h->pack, work, NULL, block_at(t, w->i, piece, block));
}

static void prepare(const cad_device *d, const panel *t, int i, char *own)
{
    packing w = {t, i, cad_ceil_div(t->h[i].piece, STRIPE)};
    int64_t blocks = cad_ceil_div(t->cols, t->p.block_cols) * t->h[i].pieces;

    if (!t->p.shared_bytes[i]) return;
    if (t->p.path == PACKED)
        cadp_cpu_each(d, blocks, pack_block, &w, own, t->p.own_bytes);
    else
        cadp_cpu_each(d, blocks * w.stripes, widen_stripe, &w, own, t->p.own_bytes);
}

/* ---- tiles ---- */

/* Rows and columns of C, the columns counted from the panel's first. */
typedef struct area { int64_t row, rows, col, cols; } area;

static void direct_product(const panel *t, int i, const area *at, float alpha, float beta, float *c, int64_t ldc)
{
    const half *h = &t->h[i];
    int64_t col = t->col + at->col;
    cadp_factor a = {(const float *)h->a.data + (h->ta ? at->row : at->row * h->a.ld), h->a.ld, h->ta};
    cadp_factor b;

    if (t->p.turn_b[i]) b = (cadp_factor){(const float *)(void *)block_at(t, i, 0, at->col / t->p.block_cols), at->cols, false};
    else b = (cadp_factor){(const float *)h->b.data + (h->tb ? col * h->b.ld : col), h->b.ld, h->tb};
    cadp_sgemm(at->rows, at->cols, h->k, alpha, a, b, beta, c, ldc);
}

static void add_bias(cad_tensor bias, const area *at, int64_t col, float *c, int64_t ldc)
{
    float room[CADP_STRIP];

    for (int64_t j = 0; j < at->cols; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, at->cols - j);
        const float *b = cadp_get(bias, 0, col + j, n, room);
        for (int64_t i = 0; i < at->rows; i++) cadp_add_scaled(c + i * ldc + j, b, 1, n);
    }
}

static void direct_tile(const panel *t, const area *at, char *own)
{
    const cad_matmul_args *x = t->x;
    cad_tensor c = cad_columns(cad_slice(x->c, at->row, at->rows), t->col + at->col, at->cols);
    float *to = c.dtype == CAD_F32 ? c.data : (float *)(void *)own;
    int64_t ld = c.dtype == CAD_F32 ? c.ld : at->cols;

    for (int64_t r = 0; c.dtype != CAD_F32 && x->beta != 0 && r < at->rows; r++) (void)cadp_get(c, r, 0, at->cols, to + r * ld);
    direct_product(t, 0, at, (float)x->alpha, (float)x->beta, to, ld);
    if (cad_some(x->a2)) direct_product(t, 1, at, (float)x->alpha2, 1, to, ld);
    if (cad_some(x->bias)) add_bias(x->bias, at, t->col + at->col, to, ld);
    for (int64_t r = 0; c.dtype != CAD_F32 && r < at->rows; r++) cadp_put(c, r, 0, at->cols, to + r * ld);
}

/* A part of a bf16 factor in fp32 at room: terms [from, from + n), rows of op(A) or columns of op(B) [at, at + wide); turned as it lies. */
static cadp_factor widen_part(cad_tensor t, bool turned, bool terms_in_rows, int64_t from, int64_t n, int64_t at, int64_t wide, float *room)
{
    cad_tensor part = terms_in_rows ? cad_columns(cad_slice(t, from, n), at, wide) : cad_columns(cad_slice(t, at, wide), from, n);

    part = cadp_widen(part, &room);
    return (cadp_factor){part.data, part.cols, turned};
}

/* sum [rows, cols] in fp32 = op(A) op(B), piece by piece. */
static void converted_product(const panel *t, int i, const area *at, char *own, float *sum)
{
    const half *h = &t->h[i];

    for (int64_t piece = 0; piece < h->pieces; piece++) {
        int64_t from = piece * h->piece, n = cad_min(h->piece, h->k - from);
        cadp_factor a = widen_part(h->a, h->ta, h->ta, from, n, at->row, at->rows, (float *)(void *)own), b;
        if (t->p.once)
            b = widen_part(h->b, h->tb, !h->tb, from, n, t->col + at->col, at->cols, (float *)(void *)(own + t->p.a_bytes));
        else
            b = (cadp_factor){(const float *)(void *)block_at(t, i, piece, at->col / t->p.block_cols), at->cols, false};
        cadp_sgemm(at->rows, at->cols, n, 1, a, b, piece > 0, sum, at->cols);
    }
}

/* The same in blocks of whole primitives: [tile_rows, block_cols] one after the other. */
static void packed_product(const panel *t, int i, const area *at, uint16_t *room, float *sum)
{
    const half *h = &t->h[i];
    const plan *p = &t->p;

    for (int64_t piece = 0; piece < h->pieces; piece++) {
        cadp_block16(room, p->tile_rows, h->piece, h->a, h->ta, at->row, piece * h->piece);
        for (int64_t j = 0; j < at->cols; j += p->block_cols)
            cadp_bf16_run(t->products, piece ? h->next : h->first, room, block_at(t, i, piece, (at->col + j) / p->block_cols), sum + j * p->tile_rows);
    }
}

/* out = alpha a + alpha2 b (where given) + bias (where given) */
CAD_CLONES static void combine(float *out, const float *a, float alpha, const float *b, float alpha2, const float *bias, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = alpha * a[i];
    if (b) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) out[i] += alpha2 * b[i];
    }
    if (bias) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) out[i] += bias[i];
    }
}

/* Columns [j, j + n) of a tile from its sums at a and b, whose rows lie ld apart. */
static void finish(const panel *t, const area *at, int64_t j, int64_t n, const float *a, const float *b, int64_t ld)
{
    const cad_matmul_args *x = t->x;
    float out[CADP_STRIP], old[CADP_STRIP], room[CADP_STRIP];
    int64_t col = t->col + at->col + j;
    const float *bias = cad_some(x->bias) ? cadp_get(x->bias, 0, col, n, room) : NULL;

    for (int64_t r = 0; r < at->rows; r++) {
        combine(out, a + r * ld, (float)x->alpha, b ? b + r * ld : NULL, (float)x->alpha2, bias, n);
        if (x->beta != 0) cadp_add_scaled(out, cadp_get(x->c, at->row + r, col, n, old), (float)x->beta, n);
        cadp_put(x->c, at->row + r, col, n, out);
    }
}

static void summed_tile(const panel *t, const area *at, char *own)
{
    char *sums = own + t->p.a_bytes + t->p.b_bytes;
    float *sum[2] = {(float *)(void *)sums, (float *)(void *)(sums + t->p.tile_bytes)};
    int64_t wide = t->p.path == PACKED ? t->p.block_cols : at->cols, ld = wide;
    bool two = cad_some(t->x->a2);

    for (int i = 0; i <= two; i++) {
        if (t->p.path == PACKED)
            packed_product(t, i, at, (uint16_t *)(void *)own, sum[i]);
        else
            converted_product(t, i, at, own, sum[i]);
    }
    for (int64_t j = 0; j < at->cols; j += wide) {
        int64_t off = t->p.path == PACKED ? j * t->p.tile_rows : 0;
        finish(t, at, j, cad_min(wide, at->cols - j), sum[0] + off, two ? sum[1] + off : NULL, ld);
    }
}

static void multiply_tile(const void *args, int64_t i, void *work)
{
    const panel *t = args;
    int64_t row = i / t->across * t->p.tile_rows, col = i % t->across * t->p.tile_cols;
    area at = {row, cad_min(t->p.tile_rows, t->p.m - row), col, cad_min(t->p.tile_cols, t->cols - col)};

    (t->p.path == DIRECT ? direct_tile : summed_tile)(t, &at, work);
}

static cad_status find_primitives(const cadp_cpu *own, panel *t)
{
    for (int i = 0; i < 2; i++) {
        half *h = &t->h[i];
        if (t->p.path != PACKED || !t->p.shared_bytes[i]) continue;
        CAD_TRY(cadp_bf16_of(own->products, 0, t->p.block_cols, h->piece, false, &h->pack));
        CAD_TRY(cadp_bf16_of(own->products, t->p.tile_rows, t->p.block_cols, h->piece, false, &h->first));
        if (h->pieces > 1) CAD_TRY(cadp_bf16_of(own->products, t->p.tile_rows, t->p.block_cols, h->piece, true, &h->next));
    }
    return CAD_OK;
}

cad_status cadp_cpu_matmul(cad_device *d, const cad_matmul_args *x, void *work)
{
    const cadp_cpu *own = d->own;
    panel t = {.x = x, .products = own->products};
    char *rest;

    if (x->outliers > 0) return cadp_cpu_int8(d, x, work);
    if (cadp_cpu_has_few_rows(x)) {
        cadp_cpu_few_rows(d, x, work);
        return CAD_OK;
    }
    if (!own->native && cadp_cpu_has_some_rows(x)) {
        cadp_cpu_some_rows(d, x, work);
        return CAD_OK;
    }
    t.p = plan_of(d, x, t.h);
    CAD_ASSERT(t.p.shared_bytes[0] + t.p.shared_bytes[1] + t.p.own_bytes * d->threads <= cadp_cpu_matmul_work(d, x));
    t.h[0].blocks = work;
    t.h[1].blocks = (char *)work + t.p.shared_bytes[0];
    rest = t.h[1].blocks + t.p.shared_bytes[1];
    CAD_TRY(find_primitives(own, &t));
    for (t.col = 0; t.col < t.p.n; t.col += t.p.panel_cols) {
        t.cols = cad_min(t.p.panel_cols, t.p.n - t.col);
        t.across = cad_ceil_div(t.cols, t.p.tile_cols);
        prepare(d, &t, 0, rest);
        prepare(d, &t, 1, rest);
        cadp_cpu_each(d, cad_ceil_div(t.p.m, t.p.tile_rows) * t.across, multiply_tile, &t, rest, t.p.own_bytes);
    }
    return CAD_OK;
}
