/* The optimizer step: sums, the global norm, AdamW on what this rank owns. */
#include "zero_priv.h"

#include <math.h>

/* Bits that |x| 2^e may have so that the sum of all atoms stays below 2^62. */
static int room(const cad_zero *z)
{
    int addends = 0;

    while ((int64_t)1 << addends < z->o.atoms_per_step) addends++;
    return 62 - addends;
}

/* The grid follows the largest gradient of the step before, with 12 bits to grow; at first |x| < 2^14 is taken for granted. A function of
 * numbers that do not depend on the world size. */
int cadp_exponent(const cad_zero *z, double largest)
{
    int e;

    if (largest < 0) return room(z) - 14;
    (void)frexp(largest, &e);
    return (int)cad_min(1000, room(z) - 12 - e);
}

/* 28 bits below the largest are finer than fp32 itself. */
static bool grid_fits(const cad_zero *z, int unit)
{
    double top = ldexp(z->seen[unit], z->exponent[unit]);

    return z->seen[unit] == 0 || (top < ldexp(1, room(z)) && top >= 0x1p28);
}

static cad_status check_grid(cad_zero *z, cad_zero_step_result *out)
{
    if (!z->fixed) return CAD_OK;
    CAD_TRY(cad_device_download(z->device, z->seen, z->largest_dev, (int64_t)z->units * 8));
    CAD_TRY(cad_comm_allreduce(z->comm, z->seen, z->units, CAD_NUM_F64, CAD_MAX));
    for (int i = 0; i < z->units; i++) {
        if (!isfinite(z->seen[i])) {
            out->bad_unit = i;
            return cad_fail(CAD_EINTERNAL, "the gradient of unit %d is not finite", i);
        }
        if (!grid_fits(z, i)) out->again = true;
    }
    for (int i = 0; i < z->units; i++)
        if (z->seen[i] > 0) z->largest[i] = z->seen[i];
    return CAD_OK;
}

/* Stage 0: each rank sums its part for all, then everybody takes all parts: the same additions as in the other stages. */
static cad_status sum_over_ranks(cad_zero *z)
{
    for (int i = 0; i < z->units; i++) {
        cadp_unit *u = &z->unit[i];
        cadp_travel *t = &z->travel[i % 2];
        int64_t at = u->cut[z->rank], n = u->cut[z->rank + 1] - at, each = (int64_t)cadp_sum_bytes(z);
        cad_request r = {0};

        if (!u->n) continue;
        CAD_TRY(cad_link_scatter(z->link, u->sum, t->part, u->cut, cadp_sum_num(z), &r));
        CAD_TRY(cad_link_wait(z->link, &r));
        if (n) CAD_TRY(cad_device_copy(z->device, (char *)u->sum + at * each, t->part, n * each));
        CAD_TRY(cad_link_gather(z->link, u->sum, u->cut, cadp_sum_num(z), &r));
        CAD_TRY(cad_link_wait(z->link, &r));
    }
    return CAD_OK;
}

/* The owned gradient as fp32: sums in fixed point are turned back into the (now free) place of a unit's gradient. */
static cad_status owned_gradient(cad_zero *z, int unit, cad_tensor *out)
{
    cadp_unit *u = &z->unit[unit];

    *out = cadp_flat(z->fixed ? (void *)z->travel[unit % 2].grad : u->sum, CAD_F32, u->own_n);
    if (!z->fixed) return CAD_OK;
    return cad_fixed_back(z->device, &(cad_fixed_args){.q = cadp_flat(u->sum, CAD_I64, u->own_n), .x = *out, .exponent = z->exponent[unit]});
}

/* Sums of squares of the same chunks on every world size, added in their order. */
static cad_status global_norm(cad_zero *z, double *out)
{
    double sum = 0;

    CAD_TRY(cad_device_zero(z->device, z->partial_dev, z->chunks * 8));
    for (int i = 0; i < z->units; i++) {
        cadp_unit *u = &z->unit[i];
        cad_tensor g;

        if (!u->own_n) continue;
        CAD_TRY(owned_gradient(z, i, &g));
        CAD_TRY(cad_sumsq(z->device, &(cad_sumsq_args){g, cad_view(z->partial_dev + u->first_chunk + u->own / CAD_CHUNK, CAD_F64, 1, cad_ceil_div(u->own_n, CAD_CHUNK))}));
    }
    CAD_TRY(cad_device_download(z->device, z->partial, z->partial_dev, z->chunks * 8));
    if (z->o.stage) CAD_TRY(cad_comm_allreduce(z->comm, z->partial, z->chunks, CAD_NUM_F64, CAD_SUM)); /* x + 0 is x */
    for (int64_t i = 0; i < z->chunks; i++) sum += z->partial[i];
    *out = sqrt(sum);
    return CAD_OK;
}

/* Elements [done, done + n) of the own part of a row, as a call of AdamW takes them. */
typedef struct piece { const cad_zero_step_args *a; cad_tensor p, m, v, scale_m, scale_v, g, copy; double decay, clip; int64_t first; bool coded; } piece;

static cad_status move(cad_device *d, const piece *x)
{
    const cad_zero_step_args *a = x->a;

    if (x->coded)
        return cad_adamw8(d, &(cad_adamw8_args){.p = x->p, .m = x->m, .v = x->v, .scale_m = x->scale_m, .scale_v = x->scale_v, .g = x->g, .copy = x->copy, .lr = a->lr, .beta1 = a->beta1, .beta2 = a->beta2,
                                                .eps = a->eps, .decay = x->decay, .clip = x->clip, .step = a->step, .first = x->first});
    return cad_adamw(d, &(cad_adamw_args){.p = x->p, .m = x->m, .v = x->v, .g = x->g, .copy = x->copy, .lr = a->lr, .beta1 = a->beta1, .beta2 = a->beta2, .eps = a->eps, .decay = x->decay, .clip = x->clip,
                                          .step = a->step});
}

static int64_t bytes_of(cad_tensor t) { return t.rows * t.cols * (int64_t)cad_dtype_bytes(t.dtype); }

/* A tensor that lies on the host goes up into a page, or comes down from there again. */
static cad_status bring(cad_zero *z, cad_tensor *t, void *page)
{
    CAD_TRY(cad_device_upload(z->device, page, t->data, bytes_of(*t)));
    t->data = page;
    return CAD_OK;
}

/* What lies on the host has no numbers where a device only counts. */
static cad_status down(cad_zero *z, void *to, const void *from, int64_t bytes) { return cad_device_pretends(z->device) ? CAD_OK : cad_device_download(z->device, to, from, bytes); }

static cad_status move_page(cad_zero *z, const piece *x)
{
    piece y = *x;

    CAD_TRY(bring(z, &y.m, z->page_m));
    CAD_TRY(bring(z, &y.v, z->page_v));
    if (x->coded) CAD_TRY(bring(z, &y.scale_m, z->page_scale_m));
    if (x->coded) CAD_TRY(bring(z, &y.scale_v, z->page_scale_v));
    CAD_TRY(move(z->device, &y));
    CAD_TRY(down(z, x->m.data, y.m.data, bytes_of(x->m)));
    CAD_TRY(down(z, x->v.data, y.v.data, bytes_of(x->v)));
    if (x->coded) CAD_TRY(down(z, x->scale_m.data, y.scale_m.data, bytes_of(x->scale_m)));
    return x->coded ? down(z, x->scale_v.data, y.scale_v.data, bytes_of(x->scale_v)) : CAD_OK;
}

/* The gradient comes to the host, the parameters go back: `to` on the device. */
static cad_status move_on_host(cad_zero *z, const piece *x, char *to)
{
    piece y = *x;

    y.g = cadp_flat(z->page_m, CAD_F32, x->g.cols);
    y.copy = z->o.compute == CAD_BF16 ? cadp_flat(z->page_copy, CAD_BF16, x->g.cols) : (cad_tensor){0};
    CAD_TRY(down(z, y.g.data, x->g.data, bytes_of(x->g)));
    CAD_TRY(move(z->host, &y));
    return cad_device_upload(z->device, to, z->o.compute == CAD_BF16 ? y.copy.data : y.p.data, x->g.cols * z->each);
}

static cad_status move_piece(cad_zero *z, const cadp_unit *u, const cadp_place *s, cad_tensor g, piece x, int64_t done, int64_t n)
{
    int64_t in = s->at - u->own + done, each = s->coded ? 1 : 4, scale = s->scale + (s->first + done) / CAD_SCALE_BLOCK;
    char *to = u->train + ((cadp_whole(z) ? s->at + done : in)) * z->each;
    cad_dtype dtype = s->coded ? CAD_U8 : CAD_F32;

    x.coded = s->coded;
    x.first = (s->first + done) % CAD_SCALE_BLOCK;
    x.p = cadp_flat(u->master + in, CAD_F32, n);
    x.g = cadp_flat((float *)g.data + in, CAD_F32, n);
    x.m = cadp_flat(u->m + s->byte + done * each, dtype, n);
    x.v = cadp_flat(u->v + s->byte + done * each, dtype, n);
    if (s->coded) x.scale_m = cadp_flat(u->scale_m + scale, CAD_F32, cad_ceil_div(x.first + n, CAD_SCALE_BLOCK));
    if (s->coded) x.scale_v = cadp_flat(u->scale_v + scale, CAD_F32, cad_ceil_div(x.first + n, CAD_SCALE_BLOCK));
    if (z->o.host_states) return move_on_host(z, &x, to);
    if (z->o.compute == CAD_BF16) x.copy = cadp_flat(to, CAD_BF16, n);
    return z->o.paged ? move_page(z, &x) : move(z->device, &x);
}

/* Pages end where blocks of coded moments do. */
static cad_status update_row(cad_zero *z, int row, cadp_unit *u, cad_tensor g, const cad_zero_step_args *a, double clip)
{
    const cad_param *p = &z->params->row[row];
    piece x = {.a = a, .decay = p->decays ? a->weight_decay : 0, .clip = clip};
    cadp_place s;

    if (!cadp_place_of(z, row, &s)) return CAD_OK;
    for (int64_t done = 0, n; done < s.n; done += n) {
        n = z->o.paged || z->o.host_states ? cad_min(s.n - done, CADP_PAGE - (done ? 0 : s.first)) : s.n;
        CAD_TRY(move_piece(z, u, &s, g, x, done, n));
    }
    return CAD_OK;
}

static cad_status update(cad_zero *z, const cad_zero_step_args *a, double clip)
{
    int row = 0;

    for (int i = 0; i < z->units; i++) {
        cad_tensor g = {0};

        if (z->unit[i].own_n) CAD_TRY(owned_gradient(z, i, &g));
        for (; row < z->params->count && z->params->row[row].unit == i; row++)
            if (z->unit[i].own_n) CAD_TRY(update_row(z, row, &z->unit[i], g, a, clip));
    }
    return cad_device_sync(z->device);
}

/* Stage 2: everybody takes the owners' new parameters; two units on the wire at a time. */
static cad_status share_parameters(cad_zero *z)
{
    cad_request r[2] = {{0}, {0}};

    for (int i = 0; i < z->units; i++) {
        CAD_TRY(cad_link_wait(z->link, &r[i % 2]));
        if (z->unit[i].n) CAD_TRY(cad_link_gather(z->link, z->unit[i].train, z->unit[i].cut, cadp_compute_num(z), &r[i % 2]));
    }
    CAD_TRY(cad_link_wait(z->link, &r[0]));
    return cad_link_wait(z->link, &r[1]);
}

cad_status cad_zero_step(cad_zero *z, const cad_zero_step_args *a, cad_zero_step_result *out)
{
    double clip = 1;

    *out = (cad_zero_step_result){.bad_unit = -1};
    for (int i = 0; i < 2; i++) CAD_TRY(cadp_finish_travel(z, i));
    CAD_TRY(check_grid(z, out));
    if (out->again) return CAD_OK;
    if (z->size > 1 && z->o.stage == 0) CAD_TRY(sum_over_ranks(z));
    CAD_TRY(global_norm(z, &out->grad_norm));
    if (!isfinite(out->grad_norm)) return cad_fail(CAD_EINTERNAL, "the gradient is not finite");
    if (a->max_grad_norm > 0) clip = fmin(1, a->max_grad_norm / (out->grad_norm + 1e-6));
    CAD_TRY(update(z, a, clip));
    return z->o.stage == 2 && z->size > 1 ? share_parameters(z) : CAD_OK;
}

const double *cad_zero_largest(const cad_zero *z) { return z->largest; }

void cad_zero_set_largest(cad_zero *z, const double *largest) { memcpy(z->largest, largest, (size_t)z->units * sizeof *largest); }
