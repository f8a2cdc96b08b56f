#include "check_priv.h"

static const char *place(cad_tensor t, int64_t i, int64_t j) { return (const char *)t.data + (i * t.ld + j) * (int64_t)cad_dtype_bytes(t.dtype); }

static const char *name_of(const cad_device *d, cad_tensor t)
{
    const cadp_block *b = cadp_block_before(d, t.data);

    return b ? b->what : "nothing";
}

/* The first element that is poison. -1 is a sound value of one 64-bit integer, 255 of one byte, so those count only as a whole. */
static bool find_poison(cad_tensor t, int64_t *row, int64_t *col)
{
    int64_t size = (int64_t)cad_dtype_bytes(t.dtype), found = 0;

    for (int64_t i = 0; i < t.rows; i++)
        for (int64_t j = 0; j < t.cols; j++) {
            if (!cadp_is_poison(place(t, i, j), size)) continue;
            if (!found++) *row = i, *col = j;
            if (t.dtype != CAD_I64 && size > 1) return true;
        }
    return found > 1 && found == t.rows * t.cols;
}

static void poison(cad_tensor t)
{
    size_t size = cad_dtype_bytes(t.dtype) * (size_t)t.cols;

    for (int64_t i = 0; i < t.rows; i++) memset((char *)(uintptr_t)place(t, i, 0), CADP_POISON, size);
}

/* An argument that shares memory with one that is read keeps its content. */
static bool is_read_too(const cadp_call *c, const cadp_arg *a)
{
    for (int i = 0; i < c->n; i++)
        if (c->args[i].use & CADP_READ && cadp_overlap(c->args[i].t, a->t)) return true;
    return false;
}

static cad_status check_written(const cad_device *d, const cadp_call *c, const cadp_arg *a)
{
    int64_t i, j;

    if (!(a->use & CADP_READ) || !find_poison(a->t, &i, &j)) return CAD_OK;
    return cad_fail(CAD_EINTERNAL, "%s: %s [%lld, %lld] in %s is read but (%lld, %lld) was never written", c->op, a->name, (long long)a->t.rows,
                    (long long)a->t.cols, name_of(d, a->t), (long long)i, (long long)j);
}

static cad_status check_packing(const cad_device *d, const cadp_call *c)
{
    const cad_packing *p = c->packing;
    bool starts = !p || !memcmp(p->starts, p->starts_dev, ((size_t)p->sequences + 1) * sizeof *p->starts);
    bool ids = !p || !p->ids || !cadp_block_of(d, p->ids_dev, 4 * (int64_t)p->tokens) || !memcmp(p->ids, p->ids_dev, (size_t)p->tokens * sizeof *p->ids);

    if (starts && ids) return CAD_OK;
    return cad_fail(CAD_EINTERNAL, "%s: packing.%s differ between host and device %s", c->op, starts ? "ids" : "starts", d->name);
}

/* Space behind what an operation asked for serves as its red zone. */
static int64_t tail(const cad_device *d, int64_t work_bytes) { return cad_min(CADP_ZONE, d->reserved - work_bytes); }

cad_status cadp_check_before(const cad_device *d, const cadp_call *c, void *work, int64_t work_bytes)
{
    for (int i = 0; i < c->n; i++) CAD_TRY(check_written(d, c, &c->args[i]));
    CAD_TRY(check_packing(d, c));
    for (int i = 0; i < c->n; i++)
        if (c->args[i].use == CADP_WRITE && !is_read_too(c, &c->args[i])) poison(c->args[i].t);
    if (work) memset(work, CADP_POISON, (size_t)(work_bytes + tail(d, work_bytes)));
    return CAD_OK;
}

static cad_status check_result(const cad_device *d, const cadp_call *c, const cadp_arg *a)
{
    const cadp_block *b = cadp_block_before(d, a->t.data);
    int64_t i, j;

    if (b) CAD_TRY(cadp_zones_check(d, b->at, b->bytes, b->what));
    if (!(a->use & CADP_WRITE) || !find_poison(a->t, &i, &j)) return CAD_OK;
    return cad_fail(CAD_EINTERNAL, "%s: (%lld, %lld) of %s [%lld, %lld] in %s was left unwritten by device %s", c->op, (long long)i, (long long)j, a->name,
                    (long long)a->t.rows, (long long)a->t.cols, name_of(d, a->t), d->name);
}

cad_status cadp_check_after(const cad_device *d, const cadp_call *c, const void *work, int64_t work_bytes)
{
    for (int i = 0; i < c->n; i++) CAD_TRY(check_result(d, c, &c->args[i]));
    if (work && !cadp_is_poison((const char *)work + work_bytes, tail(d, work_bytes)))
        return cad_fail(CAD_EINTERNAL, "%s: device %s wrote behind the %lld bytes of work space it asked for", c->op, d->name, (long long)work_bytes);
    return CAD_OK;
}
