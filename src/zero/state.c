/* Parameters and optimizer state by name: from files into the parts, from the parts to rank 0 and back. */
#include "zero_priv.h"

#include <stdio.h>

/* fp32 values of the unit's flat elements [at, at + n) into one part that begins at element `low` of it; `half` has room for n. */
static cad_status put_compute(cad_zero *z, char *part, int64_t low, int64_t at, int64_t n, const float *values, uint16_t *half)
{
    if (z->o.compute == CAD_F32) return cad_device_upload(cadp_params_at(z), part + (at - low) * 4, values, n * 4);
    for (int64_t i = 0; i < n; i++) half[i] = cad_f32_to_bf16(values[i]);
    return cad_device_upload(cadp_params_at(z), part + (at - low) * 2, half, n * 2);
}

/* What one thread brings at a time stays in its cache. Where memory is the host's own, values are read where they belong; elsewhere by way of `stage`. */
enum { SLICE = 1 << 16 };
typedef struct filler { cad_zero *z; cad_zero_reader read; void *with; int row; float *stage; } filler;

/* n elements from `from` of the row, as `as`, to `to` in memory of `d`. */
static cad_status fill(filler *f, const cad_device *d, int64_t from, int64_t n, cad_dtype as, void *to)
{
    int64_t each = (int64_t)cad_dtype_bytes(as);

    if (!f->stage || d == f->z->host) return f->read(f->with, f->row, from, n, as, to);
    for (int64_t done = 0; done < n; done += SLICE) {
        int64_t count = cad_min(n - done, SLICE);
        CAD_TRY(f->read(f->with, f->row, from + done, count, as, f->stage));
        CAD_TRY(cad_device_upload(f->z->device, (char *)to + done * each, f->stage, count * each));
    }
    return CAD_OK;
}

/* Elements [from, from + n) of a frozen row of plain numbers, into what this rank holds of them. */
static cad_status load_frozen(filler *f, const cad_param *p, int64_t from, int64_t n)
{
    cad_zero *z = f->z;
    cadp_unit *u = &z->unit[p->unit];
    int64_t low = cadp_frozen_low(z, u), at, bytes;

    if (!cadp_common(p->at + from * z->each, n * z->each, low, cadp_frozen_high(z, u), &at, &bytes)) return CAD_OK;
    return fill(f, cadp_params_at(z), (at - p->at) / z->each, bytes / z->each, z->o.compute, u->frozen + (at - low));
}

static cad_status load_piece(filler *f, const cad_param *p, int64_t from, int64_t n)
{
    cad_zero *z = f->z;
    cadp_unit *u = &z->unit[p->unit];
    int64_t low = cadp_whole(z) ? 0 : u->cut[z->rank], high = cadp_whole(z) ? u->n : u->cut[z->rank + 1], at, count;

    if (!p->trains) return load_frozen(f, p, from, n);
    if (cadp_common(p->at + from, n, low, high, &at, &count)) CAD_TRY(fill(f, cadp_params_at(z), at - p->at, count, z->o.compute, u->train + (at - low) * z->each));
    if (!z->o.train || !cadp_masters_apart(z) || !cadp_common(p->at + from, n, u->own, u->own + u->own_n, &at, &count)) return CAD_OK;
    return fill(f, cadp_masters_at(z), at - p->at, count, CAD_F32, u->master + (at - u->own));
}

/* The reason of a failure is the thread's own and is carried over. */
typedef struct failure { cad_status status; char reason[512]; } failure;

static void load_row(filler f, failure *first)
{
    const cad_param *p = &f.z->params->row[f.row];
    int64_t elems = p->code ? 0 : p->elems; /* codes.c brings those */

#pragma omp for schedule(dynamic) nowait
    for (int64_t from = 0; from < elems; from += CAD_STATE_PIECE) {
        cad_status status = load_piece(&f, p, from, cad_min(CAD_STATE_PIECE, elems - from));
        if (!status) continue;
#pragma omp critical(cad_zero_load)
        {
            if (!first->status) snprintf(first->reason, sizeof first->reason, "%s", cad_reason());
            if (!first->status) first->status = status;
            cad_clear();
        }
    }
}

/* Pieces of rows on all threads: reading, widening and the first touch of memory take as long as the disk. */
static cad_status load_rows(cad_zero *z, cad_zero_reader read, void *with, int threads, float *stage)
{
    failure first = {0};

#pragma omp parallel num_threads(threads)
    for (int i = 0; i < z->params->count; i++) load_row((filler){z, read, with, i, stage}, &first);
    return first.status ? cad_fail(first.status, "%s", first.reason) : CAD_OK;
}

cad_status cad_zero_load(cad_zero *z, cad_zero_reader read, void *with)
{
    bool host = cad_device_on_host(z->device);
    float *stage = NULL;
    cad_status status;

    if (cad_device_pretends(z->device)) return CAD_OK;
    if (!host) CAD_TRY(cad_alloc(&stage, SLICE, sizeof *stage, "weights on their way"));
    status = load_rows(z, read, with, host ? cad_device_threads(z->device) : 1, stage);
    if (!status) status = cadp_load_codes(z, read, with, host ? cad_device_threads(z->device) : 1, stage);
    cad_free(&stage);
    return status;
}

cad_status cad_zero_collect(cad_zero *z, int row, cad_state what, int64_t from, int64_t n, float *out)
{
    const cad_param *p = &z->params->row[row];
    cadp_unit *u = &z->unit[p->unit];
    cadp_span s = cadp_span_of(z, row, what);
    int64_t at, count;
    bool here = cadp_common(s.first + from, n, u->own / s.each, cad_ceil_div(u->own + u->own_n, s.each), &at, &count);

    CAD_ASSERT(p->trains && n <= CAD_STATE_PIECE);
    if (!z->o.stage || z->size == 1) return z->rank ? CAD_OK : cadp_state_get(z, row, what, at, n, out);
    for (int k = 0; k < z->size; k++) {
        int64_t a, c;
        (void)cadp_common(s.first + from, n, u->cut[k] / s.each, cad_ceil_div(u->cut[k + 1], s.each), &a, &c);
        z->offsets[k + 1] = z->offsets[k] + c * 4;
    }
    if (here) CAD_TRY(cadp_state_get(z, row, what, at, count, z->piece));
    return cad_comm_collect(z->comm, z->piece, out, z->offsets, 0);
}

cad_status cad_zero_spread(cad_zero *z, int row, cad_state what, int64_t from, int64_t n, float *values)
{
    const cad_param *p = &z->params->row[row];
    cadp_unit *u = &z->unit[p->unit];
    cadp_span s = cadp_span_of(z, row, what);
    int64_t at, count, first = s.first + from;

    CAD_ASSERT(p->trains && n <= CAD_STATE_PIECE);
    CAD_TRY(cad_comm_bcast(z->comm, values, (size_t)n * 4, 0));
    if (cadp_common(first, n, u->own / s.each, cad_ceil_div(u->own + u->own_n, s.each), &at, &count))
        CAD_TRY(cadp_state_put(z, row, what, at, count, values + (at - first)));
    if (what != CAD_STATE_PARAM) return CAD_OK;
    if (cadp_whole(z)) return put_compute(z, u->train, 0, first, n, values, z->half);
    if (!cadp_common(first, n, u->cut[z->rank], u->cut[z->rank + 1], &at, &count)) return CAD_OK;
    return put_compute(z, u->train, u->cut[z->rank], at, count, values + (at - first), z->half);
}
