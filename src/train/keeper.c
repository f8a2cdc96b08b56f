/* Trainable tensors, piece by piece, from their owners to rank 0. */
#include "keep_priv.h"

static cad_status take_room(cadp_keeper *k)
{
    if (k->run->rank) return CAD_OK;
    CAD_TRY(cad_alloc(&k->values, CAD_STATE_PIECE, sizeof *k->values, "a piece of a tensor"));
    if (k->run->method.compute != CAD_BF16) return CAD_OK;
    return cad_alloc(&k->half, CAD_STATE_PIECE, sizeof *k->half, "a piece of a tensor");
}

cad_status cadp_keeper_open(cadp_keeper *k, cad_run *r)
{
    cad_status status;

    *k = (cadp_keeper){.run = r};
    status = cad_comm_agree(r->comm, take_room(k));
    if (status) cadp_keeper_close(k);
    return status;
}

void cadp_keeper_close(cadp_keeper *k)
{
    cad_free(&k->values);
    cad_free(&k->half);
}

cad_status cadp_collect(cadp_keeper *k, int row, cad_state what, cadp_piece_taker take, void *with)
{
    cad_run *r = k->run;
    const cad_param *p = &r->params->row[row];
    int64_t all = cad_zero_state_count(r->zero, row, what);

    for (int64_t from = 0; from < all; from += CAD_STATE_PIECE) {
        int64_t n = cad_min(CAD_STATE_PIECE, all - from);
        cad_watchdog_beat("collecting tensors", r->step);
        CAD_TRY(cad_zero_collect(r->zero, row, what, from, n, k->values));
        if (cadp_keeper_writes(k)) k->failed = take(with, p, k->values, n);
    }
    return CAD_OK;
}
