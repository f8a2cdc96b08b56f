#include "cpu_priv.h"

#include <stdio.h>
#include <sys/mman.h>

static void name_processor(char *out, size_t size)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");

    snprintf(out, size, "processor");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        snprintf(out, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (f) fclose(f);
}

static void close_cpu(cad_device *d)
{
    cadp_cpu *own = d->own;

    if (own) cadp_dnnl_close(&own->products);
    cad_free(&d->own);
}

static cad_status open_cpu(cad_device *d)
{
    char processor[128], version[32];
    cadp_cpu *own;
    cad_status status;

    CAD_TRY(cad_alloc(&d->own, 1, sizeof *own, "the device's state"));
    own = d->own;
    status = cadp_dnnl_choose_bf16(&own->native);
    if (!status) status = cadp_dnnl_open(&own->products, d->threads);
    if (status) {
        close_cpu(d);
        return status;
    }
    name_processor(processor, sizeof processor);
    cadp_dnnl_version(version, sizeof version);
    snprintf(d->description, sizeof d->description, "%s, %d thread%s, %s, bf16 products %s, oneDNN %s", processor, d->threads, d->threads == 1 ? "" : "s", cadp_dnnl_isa(),
             own->native ? "native" : "in fp32", version);
    return CAD_OK;
}

/* Blocks of at least one huge page come from the system, aligned to it and zero until touched. */
static const int64_t huge = 2 << 20;

static cad_status map_huge(void **out, int64_t bytes, const char *what)
{
    size_t size = (size_t)bytes + (size_t)huge, before;
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED) return cad_fail(CAD_ERESOURCE, "out of memory: %s needs %lld bytes", what, (long long)bytes);
    before = (size_t)(cad_round_up((int64_t)(uintptr_t)p, huge) - (int64_t)(uintptr_t)p);
    if (before) munmap(p, before);
    p += before;
    munmap(p + cad_round_up(bytes, 4096), size - before - (size_t)cad_round_up(bytes, 4096));
    (void)madvise(p, (size_t)bytes, MADV_HUGEPAGE); /* only speed depends on it */
    *out = p;
    return CAD_OK;
}

static cad_status alloc(cad_device *d, void **out, int64_t bytes, const char *what)
{
    (void)d;
    if (bytes > INT64_MAX / 2) return cad_fail(CAD_ERESOURCE, "out of memory: %s needs %lld bytes", what, (long long)bytes);
    return bytes < huge ? cad_alloc(out, (size_t)bytes, 1, what) : map_huge(out, bytes, what);
}

static cad_status release(cad_device *d, void *p, int64_t bytes)
{
    (void)d;
    if (bytes < huge)
        cad_free(&p);
    else
        munmap(p, (size_t)cad_round_up(bytes, 4096));
    return CAD_OK;
}

typedef struct moved { char *to; const char *from; int64_t bytes; } moved;

enum { MOVE = 1 << 20 };

static void move_part(const void *args, int64_t i, void *work)
{
    const moved *m = args;
    size_t n = (size_t)cad_min(MOVE, m->bytes - i * MOVE);

    (void)work;
    if (m->from)
        memcpy(m->to + i * MOVE, m->from + i * MOVE, n);
    else
        memset(m->to + i * MOVE, 0, n);
}

static cad_status move(cad_device *d, void *to, const void *from, int64_t bytes)
{
    moved m = {to, from, bytes};

    if (from && m.to < m.from + bytes && m.from < m.to + bytes)
        memmove(to, from, (size_t)bytes);
    else
        cadp_cpu_each(d, cad_ceil_div(bytes, MOVE), move_part, &m, NULL, 0);
    return CAD_OK;
}

static cad_status sync_cpu(cad_device *d)
{
    (void)d;
    return CAD_OK;
}

#define ROW(name, args) .name = cadp_cpu_##name,
const cadp_device_if cadp_device_cpu = {
    .name = "cpu", .screen_bytes = cadp_screen_bytes, .make_screen = cadp_make_screen, .open = open_cpu, .close = close_cpu, .alloc = alloc, .release = release, .move = move, .sync = sync_cpu,
    CADP_OPS(ROW)
    .matmul_work = cadp_cpu_matmul_work, .attention_fwd_work = cadp_cpu_attention_fwd_work, .attention_bwd_work = cadp_cpu_attention_bwd_work,
    .rmsnorm_bwd_work = cadp_cpu_rmsnorm_bwd_work, .sum_rows_work = cadp_cpu_sum_rows_work, .fixed_add_work = cadp_cpu_fixed_add_work,
    .layernorm_bwd_work = cadp_cpu_layernorm_bwd_work, .dot_cols_work = cadp_cpu_dot_cols_work, .route_fwd_work = cadp_cpu_route_fwd_work, .matmul_groups_work = cadp_cpu_matmul_groups_work,
    .attention_cached_work = cadp_cpu_attention_cached_work,
};
#undef ROW
