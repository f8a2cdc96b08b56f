/* Codes on a device that turns a whole matrix back into numbers before a product: two rooms take turns. While a product reads the one, the matrix that comes
 * after it in its block is turned back into the other, in a queue of its own where the device has one. */
#include "model_priv.h"

/* Members of coded layers whose product is with the numbers, not with the codes. */
static bool turns_back(const cad_model *m, const cadp_part *p, bool back)
{
    cad_code code = m->params->row[p->weight].code;

    if (!m->ahead.room[0] || !code || p->magnitude >= 0) return false;
    return back || code != CAD_INT8 || m->method.outliers == 0;
}

/* The member that comes after member i of l in its block, NULL when none does. */
static const cadp_part *after(const cad_model *m, const cadp_linear *l, int i, bool back)
{
    int which = (int)(l - m->linear) % CADP_LINEARS;

    if (l == cadp_pooler(m)) return NULL;
    if (i + 1 < l->parts) return &l->part[i + 1];
    if (which == (back ? 0 : CADP_LINEARS - 1)) return NULL;
    l += back ? -1 : 1;
    return l->parts ? &l->part[0] : NULL;
}

static int room_of(const cadp_ahead *a, int row) { return a->holds[0] == row ? 0 : a->holds[1] == row ? 1 : -1; }

static cad_dequantise_args into(const cad_model *m, cad_unit_view w, int row, int room)
{
    const cad_param *p = &m->params->row[row];

    return (cad_dequantise_args){cad_view(m->ahead.room[room], m->act, p->rows, p->cols), cadp_codes(m, w, row)};
}

/* The device's own queue goes on when the room is ready. */
static cad_status await(cadp_ahead *a, int room)
{
    if (!a->pending[room]) return CAD_OK;
    a->pending[room] = false;
    return cad_lane_before(a->lane, room);
}

/* The matrix is in its room before what the device is given next. */
static cad_status hold(cad_model *m, cad_unit_view w, int row, int *room)
{
    cadp_ahead *a = &m->ahead;
    cad_dequantise_args x;

    *room = room_of(a, row);
    if (*room >= 0) return await(a, *room);
    *room = !a->last;
    CAD_TRY(await(a, *room));
    x = into(m, w, row, *room);
    a->holds[*room] = row;
    return cad_dequantise(m->device, &x);
}

/* The other room was read last by the product before this one: the queue beside waits for that, not for what follows. */
static cad_status begin(cad_model *m, cad_unit_view w, int row, int room)
{
    cadp_ahead *a = &m->ahead;
    cad_dequantise_args x = into(m, w, row, room);

    if (!a->lane || room_of(a, row) >= 0) return CAD_OK;
    a->holds[room] = row;
    CAD_TRY(cad_lane_follow(a->lane));
    CAD_TRY(cad_lane_dequantise(a->lane, &x));
    a->pending[room] = true;
    return cad_lane_mark(a->lane, room);
}

cad_status cadp_put_part(cad_model *m, const cadp_linear *l, cad_unit_view w, int i, bool back, cad_matmul_args *x)
{
    const cadp_part *next;
    int room;

    if (!turns_back(m, &l->part[i], back)) {
        cadp_put_weight(m, w, l->part[i].weight, x);
        return CAD_OK;
    }
    next = after(m, l, i, back);
    CAD_TRY(hold(m, w, l->part[i].weight, &room));
    m->ahead.last = room;
    x->b = into(m, w, l->part[i].weight, room).y;
    return next && turns_back(m, next, back) ? begin(m, w, next->weight, !room) : CAD_OK;
}

cad_status cadp_ahead_rest(cad_model *m)
{
    CAD_TRY(await(&m->ahead, 0));
    return await(&m->ahead, 1);
}

void cadp_ahead_forget(cad_model *m) { m->ahead.holds[0] = m->ahead.holds[1] = -1; }

static int64_t largest(const cad_model *m)
{
    int64_t most = 0;

    for (int i = 0; i <= m->arch->layers * CADP_LINEARS; i++)
        for (int j = 0; j < m->linear[i].parts; j++) {
            const cad_param *p = &m->params->row[m->linear[i].part[j].weight];
            if (p->code && m->linear[i].part[j].magnitude < 0) most = cad_max(most, p->rows * p->cols);
        }
    return most;
}

cad_status cadp_take_ahead(cad_model *m, cad_arena *a)
{
    int64_t bytes = largest(m) * (int64_t)cad_dtype_bytes(m->act);

    cadp_ahead_forget(m);
    if (!bytes || !cad_device_turns_back(m->device)) return CAD_OK;
    for (int i = 0; i < 2; i++) CAD_TRY(cad_arena_take(a, CAD_MEM_WORK, "a matrix turned back from codes", bytes, &m->ahead.room[i]));
    return cad_device_has_lanes(m->device) ? cad_lane_open(&m->ahead.lane, m->device) : CAD_OK;
}
