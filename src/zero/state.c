/* Parameters and optimizer state by name: from files into the parts, from the parts to rank 0 and back. */
#include "zero_priv.h"

/* fp32 values of the unit's flat elements [at, at + n) into one part that begins at element `low` of it. */
static cad_status put_compute(cad_zero *z, char *part, int64_t low, int64_t at, int64_t n, const float *values)
{
    if (z->o.compute == CAD_F32) return cad_device_upload(z->device, part + (at - low) * 4, values, n * 4);
    for (int64_t i = 0; i < n; i++) z->half[i] = cad_f32_to_bf16(values[i]);
    return cad_device_upload(z->device, part + (at - low) * 2, z->half, n * 2);
}

typedef struct filler { cad_zero *z; cad_zero_reader read; void *with; int row; } filler;

static cad_status fill(filler *f, int64_t from, int64_t n, char *part, int64_t low, int64_t first, float *master, int64_t own)
{
    cad_zero *z = f->z;

    for (int64_t done = 0; done < n;) {
        int64_t count = cad_min(n - done, 1 << 18), at = from + done;
        CAD_TRY(f->read(f->with, f->row, at - first, count, z->piece));
        if (master) CAD_TRY(cad_device_upload(z->device, master + (at - own), z->piece, count * 4));
        if (part) CAD_TRY(put_compute(z, part, low, at, count, z->piece));
        done += count;
    }
    return CAD_OK;
}

static cad_status load_row(filler *f, const cad_param *p)
{
    cad_zero *z = f->z;
    cadp_unit *u = &z->unit[p->unit];
    const int64_t *cut = p->trains ? u->cut : u->fcut;
    int64_t low = cadp_whole(z) ? 0 : cut[z->rank], high = cadp_whole(z) ? (p->trains ? u->n : u->f) : cut[z->rank + 1], at, n;

    if (cadp_common(p->at, p->elems, low, high, &at, &n)) CAD_TRY(fill(f, at, n, p->trains ? u->train : u->frozen, low, p->at, NULL, 0));
    if (!p->trains || !z->o.train || z->o.compute == CAD_F32 || !cadp_common(p->at, p->elems, u->own, u->own + u->own_n, &at, &n)) return CAD_OK;
    return fill(f, at, n, NULL, 0, p->at, u->master, u->own);
}

cad_status cad_zero_load(cad_zero *z, cad_zero_reader read, void *with)
{
    if (cad_device_pretends(z->device)) return CAD_OK;
    for (int i = 0; i < z->params->count; i++) CAD_TRY(load_row(&(filler){z, read, with, i}, &z->params->row[i]));
    return CAD_OK;
}

static float *state_of(const cadp_unit *u, cad_state what) { return what == CAD_STATE_PARAM ? u->master : what == CAD_STATE_EXP_AVG ? u->m : u->v; }

cad_status cad_zero_collect(cad_zero *z, int row, cad_state what, int64_t from, int64_t n, float *out)
{
    const cad_param *p = &z->params->row[row];
    cadp_unit *u = &z->unit[p->unit];
    int64_t at, count;
    bool here = cadp_common(p->at + from, n, u->own, u->own + u->own_n, &at, &count);

    CAD_ASSERT(p->trains && n <= CAD_STATE_PIECE);
    if (!z->o.stage || z->size == 1) return z->rank ? CAD_OK : cad_device_download(z->device, out, state_of(u, what) + (at - u->own), n * 4);
    for (int k = 0; k < z->size; k++) {
        int64_t a, c;
        (void)cadp_common(p->at + from, n, u->cut[k], u->cut[k + 1], &a, &c);
        z->offsets[k + 1] = z->offsets[k] + c * 4;
    }
    if (here) CAD_TRY(cad_device_download(z->device, z->piece, state_of(u, what) + (at - u->own), count * 4));
    return cad_comm_collect(z->comm, z->piece, out, z->offsets, 0);
}

cad_status cad_zero_spread(cad_zero *z, int row, cad_state what, int64_t from, int64_t n, float *values)
{
    const cad_param *p = &z->params->row[row];
    cadp_unit *u = &z->unit[p->unit];
    int64_t at, count, first = p->at + from;

    CAD_ASSERT(p->trains && n <= CAD_STATE_PIECE);
    CAD_TRY(cad_comm_bcast(z->comm, values, (size_t)n * 4, 0));
    if (cadp_common(first, n, u->own, u->own + u->own_n, &at, &count))
        CAD_TRY(cad_device_upload(z->device, state_of(u, what) + (at - u->own), values + (at - first), count * 4));
    if (what != CAD_STATE_PARAM) return CAD_OK;
    if (cadp_whole(z)) return put_compute(z, u->train, 0, first, n, values);
    if (!cadp_common(first, n, u->cut[z->rank], u->cut[z->rank + 1], &at, &count)) return CAD_OK;
    return put_compute(z, u->train, u->cut[z->rank], at, count, values + (at - first));
}
