/* plan: memory counts but does not exist, operations are counted by their doors and compute nothing. */
#include "../device_priv.h"

#include <stdio.h>
#include <sys/mman.h>

static cad_status open_plan(cad_device *d)
{
    cad_status status = d->inner->open(d);
    char inner[sizeof d->description];

    snprintf(inner, sizeof inner, "%s", d->description);
    snprintf(d->description, sizeof d->description, "counts for %.200s", inner);
    return status;
}

static void close_plan(cad_device *d) { d->inner->close(d); }

/* Address space that faults when touched; rounded to pages, one at least, so that addresses are distinct. */
static int64_t pages(int64_t bytes) { return cad_round_up(cad_max(bytes, 1), 4096); }

static cad_status alloc(cad_device *d, void **out, int64_t bytes, const char *what)
{
    void *p = mmap(NULL, (size_t)pages(bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    (void)d;
    if (p == MAP_FAILED) return cad_fail(CAD_ERESOURCE, "plan: no address space for %s of %lld bytes", what, (long long)bytes);
    *out = p;
    return CAD_OK;
}

static cad_status release(cad_device *d, void *p, int64_t bytes)
{
    (void)d;
    munmap(p, (size_t)pages(bytes));
    return CAD_OK;
}

static cad_status move(cad_device *d, void *to, const void *from, int64_t bytes)
{
    (void)from;
    if (!cadp_block_of(d, to, bytes)) memset(to, 0, (size_t)bytes); /* a download */
    return CAD_OK;
}

static cad_status sync_plan(cad_device *d)
{
    (void)d;
    return CAD_OK;
}

#define PLAN(op, args)                                                              \
    static cad_status op(cad_device *d, const args *x, void *work)                  \
    {                                                                               \
        (void)d, (void)x, (void)work;                                               \
        return CAD_OK;                                                              \
    }                                                                               \
    static int64_t op##_work(const cad_device *d, const args *x)                    \
    {                                                                               \
        return d->inner->op##_work ? d->inner->op##_work(d, x) : 0;                 \
    }
CADP_OPS(PLAN)

#define ROW(name, args) .name = name, .name##_work = name##_work,
const cadp_device_if cadp_device_plan = {
    .name = "plan", .open = open_plan, .close = close_plan, .alloc = alloc, .release = release, .move = move, .sync = sync_plan,
    CADP_OPS(ROW)
};
#undef ROW
