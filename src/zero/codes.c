/* Matrices held as codes: a piece of one is read, quantised on the device, and this rank's part of the codes is kept. What is in memory beside
 * the codes is one piece, and the scales of one matrix. */
#include "zero_priv.h"

#include <stdio.h>

enum { PIECE = 1 << 20, SLICE = 1 << 16 };

static cad_coded_layout layout_of(const cad_param *p) { return cad_coded_layout_of(p->code, p->nested, p->rows, p->cols); }

int64_t cadp_scale_bytes(const cad_zero *z, int unit)
{
    const cadp_unit *u = &z->unit[unit];
    int64_t sum = 0, at, n;

    for (int i = 0; i < z->params->count; i++) {
        const cad_param *p = &z->params->row[i];
        if (p->unit != unit || !p->code) continue;
        cad_coded_layout l = layout_of(p);
        if (cadp_common(p->at + l.scales, l.bytes - l.scales, cadp_frozen_low(z, u), cadp_frozen_high(z, u), &at, &n)) sum += n;
    }
    return sum;
}

cad_status cadp_take_coder(cad_zero *z, cad_arena *a)
{
    int64_t piece = 0, blocks = 0, nested = 0;

    for (int i = 0; i < z->params->count; i++) {
        const cad_param *p = &z->params->row[i];
        if (!p->code) continue;
        cad_coded_layout l = layout_of(p);
        piece = cad_max(piece, cad_max(cad_min(p->elems, PIECE), p->code == CAD_INT8 ? p->cols : 0));
        blocks = cad_max(blocks, l.blocks);
        if (p->nested) nested = cad_max(nested, l.bytes - l.scales);
    }
    z->coder.piece = piece;
    CAD_TRY(cad_arena_take(a, CAD_MEM_WORK, "a piece of a matrix", piece * z->each, &z->coder.x));
    CAD_TRY(cad_arena_take(a, CAD_MEM_WORK, "its codes", piece, &z->coder.codes));
    CAD_TRY(cad_arena_take(a, CAD_MEM_WORK, "the scales of a matrix", blocks * 4, &z->coder.scales));
    return cad_arena_take(a, CAD_MEM_WORK, "the scales as codes", nested, &z->coder.nested);
}

typedef struct loader { cad_zero *z; cad_zero_reader read; void *with; int row, threads; float *stage; } loader;

/* [from, from + n) of the row's own bytes, from device memory, into what lies here of them. */
static cad_status keep(const loader *l, int64_t from, int64_t n, const char *bytes)
{
    cad_zero *z = l->z;
    const cad_param *p = &z->params->row[l->row];
    cadp_unit *u = &z->unit[p->unit];
    int64_t low = cadp_frozen_low(z, u), at, count;

    if (!cadp_common(p->at + from, n, low, cadp_frozen_high(z, u), &at, &count)) return CAD_OK;
    return (z->o.host_params ? cad_device_download : cad_device_copy)(z->device, u->frozen + (at - low), bytes + (at - p->at - from), count);
}

/* A slice of a piece, where it belongs or by way of the stage. */
static cad_status read_slice(const loader *l, int64_t from, int64_t n, char *to)
{
    cad_zero *z = l->z;

    if (!l->stage) return l->read(l->with, l->row, from, n, z->o.compute, to);
    CAD_TRY(l->read(l->with, l->row, from, n, z->o.compute, l->stage));
    return cad_device_upload(z->device, to, l->stage, n * z->each);
}

static cad_status read_piece(const loader *l, int64_t from, int64_t n)
{
    cad_status first = CAD_OK;
    char reason[512] = "";

#pragma omp parallel for schedule(dynamic) num_threads(l->threads)
    for (int64_t at = 0; at < n; at += SLICE) {
        cad_status status = read_slice(l, from + at, cad_min(SLICE, n - at), l->z->coder.x + at * l->z->each);
        if (!status) continue;
#pragma omp critical(cad_zero_codes)
        {
            if (!first) snprintf(reason, sizeof reason, "%s", cad_reason());
            if (!first) first = status;
            cad_clear();
        }
    }
    return first ? cad_fail(first, "%s", reason) : CAD_OK;
}

/* Whole blocks (whole rows of INT8) from `from` on. */
static cad_status code_piece(const loader *l, int64_t from, int64_t n)
{
    cad_zero *z = l->z;
    const cad_param *p = &z->params->row[l->row];
    bool bytes = p->code == CAD_INT8;
    int64_t rows = bytes ? n / p->cols : 1, cols = n / rows, blocks = bytes ? rows : cad_ceil_div(n, CAD_QUANT_BLOCK), size = bytes ? n : cad_ceil_div(n, 2);
    cad_quantise_args x = {.x = cad_view(z->coder.x, z->o.compute, rows, cols), .q = {.code = p->code, .rows = rows, .cols = cols}};

    x.q.codes = bytes ? cad_view(z->coder.codes, CAD_I8, rows, cols) : cad_view(z->coder.codes, CAD_U8, 1, size);
    x.q.scales = cad_view(z->coder.scales + (bytes ? from / p->cols : from / CAD_QUANT_BLOCK), CAD_F32, 1, blocks);
    CAD_TRY(read_piece(l, from, n));
    CAD_TRY(cad_quantise(z->device, &x));
    return keep(l, bytes ? from : from / 2, size, z->coder.codes);
}

/* Of the row's own bytes [from, from + n): does any lie here? */
static bool has_here(const loader *l, int64_t from, int64_t n)
{
    const cad_zero *z = l->z;
    const cad_param *p = &z->params->row[l->row];
    const cadp_unit *u = &z->unit[p->unit];
    int64_t at, count;

    return cadp_common(p->at + from, n, cadp_frozen_low(z, u), cadp_frozen_high(z, u), &at, &count);
}

/* Codes depend on their own blocks alone, nested scales on all of the matrix: who holds any of those needs every piece. */
static bool is_needed(const loader *l, int64_t from, int64_t n)
{
    const cad_param *p = &l->z->params->row[l->row];
    cad_coded_layout at = layout_of(p);
    int64_t unit = p->code == CAD_INT8 ? p->cols : CAD_QUANT_BLOCK, each = p->code == CAD_INT8 ? 1 : 2;

    if (p->nested && has_here(l, at.scales, at.bytes - at.scales)) return true;
    return has_here(l, from / each, cad_ceil_div(n, each)) || has_here(l, at.scales + from / unit * 4, cad_ceil_div(n, unit) * 4);
}

static cad_status keep_scales(const loader *l, const cad_param *p)
{
    cad_zero *z = l->z;
    cad_coded_layout at = layout_of(p);
    cad_nest_args x;

    if (!p->nested) return keep(l, at.scales, at.blocks * 4, (const char *)z->coder.scales);
    if (!has_here(l, at.scales, at.bytes - at.scales)) return CAD_OK;
    CAD_TRY(cad_device_zero(z->device, z->coder.nested, at.bytes - at.scales));
    x = (cad_nest_args){cad_view(z->coder.nested, CAD_U8, 1, at.blocks), cad_view(z->coder.nested + (at.scales2 - at.scales), CAD_F32, 1, at.blocks2),
                        cad_view(z->coder.nested + (at.offset - at.scales), CAD_F32, 1, 1), cad_view(z->coder.scales, CAD_F32, 1, at.blocks)};
    CAD_TRY(cad_nest(z->device, &x));
    return keep(l, at.scales, at.bytes - at.scales, z->coder.nested);
}

/* The codes as the source holds them. */
static cad_status copy_row(const loader *l, const cad_param *p)
{
    cad_zero *z = l->z;
    int64_t piece = cad_min(z->coder.piece, l->stage ? SLICE * 4 : z->coder.piece);
    bool has;

    for (int64_t from = 0; from < p->bytes; from += piece) {
        int64_t n = cad_min(piece, p->bytes - from);
        CAD_TRY(z->read_codes(l->with, l->row, from, n, l->stage ? (void *)l->stage : z->coder.codes, &has));
        if (l->stage) CAD_TRY(cad_device_upload(z->device, z->coder.codes, l->stage, n));
        CAD_TRY(keep(l, from, n, z->coder.codes));
    }
    return CAD_OK;
}

static cad_status code_row(const loader *l, const cad_param *p)
{
    int64_t unit = p->code == CAD_INT8 ? p->cols : CAD_QUANT_BLOCK, piece = cad_max(1, PIECE / unit) * unit;
    bool has = false;

    if (l->z->read_codes) CAD_TRY(l->z->read_codes(l->with, l->row, 0, 0, NULL, &has));
    if (has) return copy_row(l, p);
    for (int64_t from = 0; from < p->elems; from += piece)
        if (is_needed(l, from, cad_min(piece, p->elems - from))) CAD_TRY(code_piece(l, from, cad_min(piece, p->elems - from)));
    return keep_scales(l, p);
}

cad_status cadp_load_codes(cad_zero *z, cad_zero_reader read, void *with, int threads, float *stage)
{
    for (int i = 0; i < z->params->count; i++) {
        const cad_param *p = &z->params->row[i];
        loader l = {z, read, with, i, threads, stage};
        if (p->code && has_here(&l, 0, p->bytes)) CAD_TRY(code_row(&l, p));
    }
    return CAD_OK;
}

void cad_zero_set_code_reader(cad_zero *z, cad_zero_code_reader read) { z->read_codes = read; }
