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
    CAD_TRY(cad_device_download(cadp_largest_at(z), z->seen, z->largest_dev, (int64_t)z->units * 8));
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

/* Sums that lie on the host travel from there. */
static cad_status sum_unit(cad_zero *z, cadp_unit *u, void *part)
{
    int64_t at = u->cut[z->rank], n = u->cut[z->rank + 1] - at, each = (int64_t)cadp_sum_bytes(z);
    cad_num type = cadp_sum_num(z);
    cad_request r = {0};

    CAD_TRY(z->o.host_states ? cad_comm_iscatter(z->comm, u->sum, part, u->cut, type, &r) : cad_link_scatter(z->link, u->sum, part, u->cut, type, &r));
    CAD_TRY(z->o.host_states ? cad_comm_wait(z->comm, &r, NULL) : cad_link_wait(z->link, &r));
    if (n) CAD_TRY(cad_device_copy(cadp_sums_at(z), (char *)u->sum + at * each, part, n * each));
    CAD_TRY(z->o.host_states ? cad_comm_igather(z->comm, u->sum, u->cut, type, &r) : cad_link_gather(z->link, u->sum, u->cut, type, &r));
    return z->o.host_states ? cad_comm_wait(z->comm, &r, NULL) : cad_link_wait(z->link, &r);
}

/* Stage 0: each rank sums its part for all, then everybody takes all parts: the same additions as in the other stages. */
static cad_status sum_over_ranks(cad_zero *z)
{
    for (int i = 0; i < z->units; i++)
        if (z->unit[i].n) CAD_TRY(sum_unit(z, &z->unit[i], z->o.host_states ? z->beside[i % 2].buffer : z->travel[i % 2].part));
    return CAD_OK;
}

static cad_status sum_squares(cad_zero *z)
{
    CAD_TRY(cad_device_zero(z->device, z->partial_dev, z->chunks * 8));
    for (int i = 0; i < z->units; i++) {
        cadp_unit *u = &z->unit[i];
        cad_tensor g;

        if (!u->own_n) continue;
        CAD_TRY(cadp_owned_gradient(z, i, &g));
        CAD_TRY(cad_sumsq(z->device, &(cad_sumsq_args){g, cad_view(z->partial_dev + u->first_chunk + u->own / CAD_CHUNK, CAD_F64, 1, cad_ceil_div(u->own_n, CAD_CHUNK))}));
    }
    return CAD_OK;
}

/* Sums of squares of the same chunks on every world size, added in their order. */
static cad_status global_norm(cad_zero *z, double *out)
{
    double sum = 0;

    CAD_TRY(z->o.host_states ? cadp_beside_norms(z) : sum_squares(z));
    CAD_TRY(cad_device_download(cadp_sums_at(z), z->partial, z->partial_dev, z->chunks * 8));
    if (z->o.stage) CAD_TRY(cad_comm_allreduce(z->comm, z->partial, z->chunks, CAD_NUM_F64, CAD_SUM)); /* x + 0 is x */
    for (int64_t i = 0; i < z->chunks; i++) sum += z->partial[i];
    *out = sqrt(sum);
    return CAD_OK;
}

static cad_status update(cad_zero *z)
{
    if (z->o.host_states) return cadp_beside_moves(z);
    for (int i = 0; i < z->units; i++) CAD_TRY(cadp_update_unit(z, i));
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
    *out = (cad_zero_step_result){.bad_unit = -1};
    for (int i = 0; i < 2; i++) CAD_TRY(cadp_finish_travel(z, i));
    if (z->o.host_states) CAD_TRY(cadp_beside_wait(z));
    CAD_TRY(check_grid(z, out));
    if (out->again) return CAD_OK;
    if (z->size > 1 && z->o.stage == 0) CAD_TRY(sum_over_ranks(z));
    z->args = *a;
    z->clip = 1;
    CAD_TRY(global_norm(z, &out->grad_norm));
    if (!isfinite(out->grad_norm)) return cad_fail(CAD_EINTERNAL, "the gradient is not finite");
    if (a->max_grad_norm > 0) z->clip = fmin(1, a->max_grad_norm / (out->grad_norm + 1e-6));
    CAD_TRY(update(z));
    return z->o.stage == 2 && z->size > 1 ? share_parameters(z) : CAD_OK;
}

const double *cad_zero_largest(const cad_zero *z) { return z->largest; }

void cad_zero_set_largest(cad_zero *z, const double *largest) { memcpy(z->largest, largest, (size_t)z->units * sizeof *largest); }
