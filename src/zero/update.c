/* AdamW on what this rank owns, piece by piece. */
#include "zero_priv.h"

/* Sums in fixed point are turned back into the (now free) place of a unit's gradient. */
cad_status cadp_owned_gradient(cad_zero *z, int unit, cad_tensor *out)
{
    cadp_unit *u = &z->unit[unit];

    *out = cadp_flat(z->fixed ? (void *)z->travel[unit % 2].grad : u->sum, CAD_F32, u->own_n);
    if (!z->fixed) return CAD_OK;
    return cad_fixed_back(z->device, &(cad_fixed_args){.q = cadp_flat(u->sum, CAD_I64, u->own_n), .x = *out, .exponent = z->exponent[unit]});
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

/* On the device; parameters that lie on the host (at `to`) come too, or their rounded copies go there. */
static cad_status move_on_device(cad_zero *z, piece x, char *to)
{
    bool rounded = z->o.compute == CAD_BF16;
    int64_t n = x.p.cols;

    if (rounded) x.copy = cadp_flat(z->o.host_params ? z->page_params : to, CAD_BF16, n);
    else if (z->o.host_params) CAD_TRY(bring(z, &x.p, z->page_params));
    CAD_TRY(z->o.paged ? move_page(z, &x) : move(z->device, &x));
    return z->o.host_params ? down(z, to, z->page_params, n * z->each) : CAD_OK;
}

/* On the host; parameters are left in `to`, which may be where they lie. */
static cad_status move_on_host(cad_zero *z, int unit, piece x, int64_t in, char *to)
{
    int64_t n = x.p.cols;

    CAD_TRY(cadp_host_gradient(z, unit, in, n, &x.g));
    if (z->o.compute == CAD_BF16) x.copy = cadp_flat(to, CAD_BF16, n);
    CAD_TRY(move(z->host, &x));
    return z->o.compute == CAD_BF16 || z->o.host_params ? CAD_OK : cad_device_copy(z->host, to, x.p.data, n * 4);
}

static cad_status move_piece(cad_zero *z, int unit, const cadp_place *s, cad_tensor g, piece x, int64_t done, int64_t n)
{
    const cadp_unit *u = &z->unit[unit];
    int64_t in = s->at - u->own + done, each = s->coded ? 1 : 4, scale = s->scale + (s->first + done) / CAD_SCALE_BLOCK;
    cad_dtype dtype = s->coded ? CAD_U8 : CAD_F32;

    x.coded = s->coded;
    x.first = (s->first + done) % CAD_SCALE_BLOCK;
    x.p = cadp_flat(u->master + in, CAD_F32, n);
    x.m = cadp_flat(u->m + s->byte + done * each, dtype, n);
    x.v = cadp_flat(u->v + s->byte + done * each, dtype, n);
    if (s->coded) x.scale_m = cadp_flat(u->scale_m + scale, CAD_F32, cad_ceil_div(x.first + n, CAD_SCALE_BLOCK));
    if (s->coded) x.scale_v = cadp_flat(u->scale_v + scale, CAD_F32, cad_ceil_div(x.first + n, CAD_SCALE_BLOCK));
    if (z->o.host_states) return move_on_host(z, unit, x, in, (z->o.host_params ? u->train : z->beside[unit % 2].buffer) + in * z->each);
    x.g = cadp_flat((float *)g.data + in, CAD_F32, n);
    return move_on_device(z, x, u->train + (cadp_whole(z) ? s->at + done : in) * z->each);
}

/* Pages end where blocks of coded moments do. */
static cad_status update_row(cad_zero *z, int row, int unit, cad_tensor g)
{
    const cad_param *p = &z->params->row[row];
    piece x = {.a = &z->args, .decay = p->decays ? z->args.weight_decay : 0, .clip = z->clip};
    bool pages = z->o.paged || z->o.host_states || z->o.host_params;
    cadp_place s;

    if (!cadp_place_of(z, row, &s)) return CAD_OK;
    for (int64_t done = 0, n; done < s.n; done += n) {
        n = pages ? cad_min(s.n - done, CADP_PAGE - (done ? 0 : s.first)) : s.n;
        CAD_TRY(move_piece(z, unit, &s, g, x, done, n));
    }
    return CAD_OK;
}

cad_status cadp_update_unit(cad_zero *z, int unit)
{
    cad_tensor g = {0};

    if (!z->unit[unit].own_n) return CAD_OK;
    if (!z->o.host_states) CAD_TRY(cadp_owned_gradient(z, unit, &g));
    for (int row = 0; row < z->params->count; row++)
        if (z->params->row[row].unit == unit) CAD_TRY(update_row(z, row, unit, g));
    return CAD_OK;
}
