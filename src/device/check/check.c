#include "check_priv.h"

#include <stdio.h>

static cad_status open_check(cad_device *d)
{
    char inner[sizeof d->description];
    cad_status status;

    CAD_TRY(d->inner->open(d));
    snprintf(inner, sizeof inner, "%s", d->description);
    snprintf(d->description, sizeof d->description, "watches %.200s", inner);
    status = cad_alloc(&d->outer, 1, sizeof(cadp_check), "the memory checker");
    if (status) d->inner->close(d);
    return status;
}

static cad_status check_grave(const cad_device *d, const cadp_grave *g)
{
    CAD_TRY(cadp_zones_check(d, g->at, g->bytes, g->what));
    return cadp_is_poison(g->at, g->bytes) ? CAD_OK : cad_fail(CAD_EINTERNAL, "device %s: %s (%lld bytes) was written after it was freed", d->name, g->what, (long long)g->bytes);
}

static cad_status dig_up(cad_device *d)
{
    cadp_check *c = d->outer;
    cad_status status = check_grave(d, &c->graves[0]), freed;

    freed = d->inner->release(d, c->graves[0].at - CADP_ZONE, c->graves[0].bytes + 2 * CADP_ZONE);
    c->bytes -= c->graves[0].bytes;
    memmove(c->graves, c->graves + 1, (size_t)--c->n * sizeof *c->graves);
    return status ? status : freed;
}

static void close_check(cad_device *d)
{
    cadp_check *c = d->outer;

    while (c->n) {
        cad_status status = dig_up(d);
        if (status && !d->fault) d->fault = status;
    }
    cad_free(&d->outer);
    d->inner->close(d);
}

static cad_status alloc(cad_device *d, void **out, int64_t bytes, const char *what)
{
    void *raw;
    char *at;

    if (bytes > INT64_MAX - 2 * CADP_ZONE) return cad_fail(CAD_ERESOURCE, "out of memory: %s needs %lld bytes", what, (long long)bytes);
    CAD_TRY(d->inner->alloc(d, &raw, bytes + 2 * CADP_ZONE, what));
    at = (char *)raw + CADP_ZONE;
    memset(at, CADP_POISON, (size_t)bytes);
    cadp_zones_fill(at, bytes);
    *out = at;
    return CAD_OK;
}

static cad_status release(cad_device *d, void *p, int64_t bytes)
{
    cadp_check *c = d->outer;
    const cadp_block *b = cadp_block_before(d, p);
    cadp_grave g = {.at = p, .bytes = bytes};
    cad_status status, worse = CAD_OK;

    snprintf(g.what, sizeof g.what, "%s", b ? b->what : "");
    status = cadp_zones_check(d, p, bytes, g.what);
    memset(p, CADP_POISON, (size_t)bytes);
    cadp_zones_fill(p, bytes);
    if (c->n == CADP_GRAVES) worse = dig_up(d);
    c->graves[c->n++] = g;
    c->bytes += bytes;
    while (c->n > 1 && c->bytes > CADP_GRAVE_BYTES) {
        cad_status s = dig_up(d);
        if (s) worse = s;
    }
    return status ? status : worse;
}

static cad_status move(cad_device *d, void *to, const void *from, int64_t bytes) { return d->inner->move(d, to, from, bytes); }

static cad_status sync_check(cad_device *d)
{
    const cadp_check *c = d->outer;

    CAD_TRY(d->inner->sync(d));
    for (int64_t i = 0; i < d->blocks; i++) CAD_TRY(cadp_zones_check(d, d->list[i].at, d->list[i].bytes, d->list[i].what));
    for (int i = 0; i < c->n; i++) CAD_TRY(check_grave(d, &c->graves[i]));
    return CAD_OK;
}

#define CHECK(verb, args)                                                            \
    static int64_t verb##_work(const cad_device *d, const args *x)                    \
    {                                                                               \
        return d->inner->verb##_work ? d->inner->verb##_work(d, x) : 0;                 \
    }                                                                               \
    static cad_status checked_##verb(cad_device *d, const args *x, void *work)        \
    {                                                                               \
        cadp_call c = {.op = #verb};                                                  \
        int64_t bytes = verb##_work(d, x);                                            \
                                                                                    \
        CAD_TRY(cadp_describe_##verb(&c, x));                                         \
        CAD_TRY(cadp_check_before(d, &c, work, bytes));                             \
        CAD_TRY(d->inner->verb(d, x, work));                                          \
        CAD_TRY(d->inner->sync(d));                                                 \
        return cadp_check_after(d, &c, work, bytes);                                \
    }
CADP_OPS(CHECK)

#define ROW(name, args) .name = checked_##name, .name##_work = name##_work,
const cadp_device_if cadp_device_check = {
    .name = "check", .open = open_check, .close = close_check, .alloc = alloc, .release = release, .move = move, .sync = sync_check,
    CADP_OPS(ROW)
};
#undef ROW
