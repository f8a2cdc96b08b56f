/* Parameters and optimizer state by name: from files into the parts, from the parts to rank 0 and back. */
#include "zero_priv.h"

#include <omp.h>
#include <stdio.h>

/* fp32 values of the unit's flat elements [at, at + n) into one part that begins at element `low` of it; `half` has room for n. */
static cad_status put_compute(cad_zero *z, char *part, int64_t low, int64_t at, int64_t n, const float *values, uint16_t *half)
{
    if (z->o.compute == CAD_F32) return cad_device_upload(z->device, part + (at - low) * 4, values, n * 4);
    for (int64_t i = 0; i < n; i++) half[i] = cad_f32_to_bf16(values[i]);
    return cad_device_upload(z->device, part + (at - low) * 2, half, n * 2);
}

/* What one thread brings at a time stays in its cache. */
enum { SLICE = 1 << 16 };
typedef struct filler { cad_zero *z; cad_zero_reader read; void *with; int row; float *values; uint16_t *half; } filler;

static cad_status fill(filler *f, int64_t from, int64_t n, char *part, int64_t low, int64_t first, float *master, int64_t own)
{
    cad_zero *z = f->z;

    for (int64_t done = 0; done < n;) {
        int64_t count = cad_min(n - done, SLICE), at = from + done;
        CAD_TRY(f->read(f->with, f->row, at - first, count, f->values));
        if (master) CAD_TRY(cad_device_upload(z->device, master + (at - own), f->values, count * 4));
        if (part) CAD_TRY(put_compute(z, part, low, at, count, f->values, f->half));
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

/* Rows on all threads: reading, widening and the first touch of memory take as long as the disk. The reason of a failure is the thread's own and
 * is carried over. */
static cad_status load_rows(cad_zero *z, cad_zero_reader read, void *with, int threads, float *values, uint16_t *half)
{
    cad_status failed = CAD_OK;
    char reason[512] = "";

#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int i = 0; i < z->params->count; i++) {
        int t = omp_get_thread_num();
        cad_status status = load_row(&(filler){z, read, with, i, values + (int64_t)t * SLICE, half + (int64_t)t * SLICE}, &z->params->row[i]);
        if (!status) continue;
#pragma omp critical(cad_zero_load)
        {
            if (!failed) snprintf(reason, sizeof reason, "%s", cad_reason());
            failed = failed ? failed : status;
            cad_clear();
        }
    }
    return failed ? cad_fail(failed, "%s", reason) : CAD_OK;
}

cad_status cad_zero_load(cad_zero *z, cad_zero_reader read, void *with)
{
    int threads = strcmp(cad_device_name(z->device), "cpu") ? 1 : cad_device_threads(z->device); /* host memory: uploads are copies */
    float *values = NULL;
    uint16_t *half = NULL;
    cad_status status;

    if (cad_device_pretends(z->device)) return CAD_OK;
    if (!(status = cad_alloc(&values, (size_t)threads * SLICE, sizeof *values, "weights on their way")) &&
        !(status = cad_alloc(&half, (size_t)threads * SLICE, sizeof *half, "weights on their way")))
        status = load_rows(z, read, with, threads, values, half);
    cad_free(&values);
    cad_free(&half);
    return status;
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
    if (cadp_whole(z)) return put_compute(z, u->train, 0, first, n, values, z->half);
    if (!cadp_common(first, n, u->cut[z->rank], u->cut[z->rank + 1], &at, &count)) return CAD_OK;
    return put_compute(z, u->train, u->cut[z->rank], at, count, values + (at - first), z->half);
}
