#include "device_priv.h"

#include <limits.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct row { const char *name; const cadp_device_if *table, *inner; } row;

static const row devices[] = {
    {"cpu", &cadp_device_cpu, NULL},
    {"cuda", &cadp_device_cuda, NULL},
    {"emulated", &cadp_device_emulated, NULL},
    {"ref", &cadp_device_ref, NULL},
    {"check", &cadp_device_check, &cadp_device_ref},
    {"check:ref", &cadp_device_check, &cadp_device_ref},
    {"check:cpu", &cadp_device_check, &cadp_device_cpu},
    {"check:emulated", &cadp_device_check, &cadp_device_emulated},
    {"plan", &cadp_device_plan, &cadp_device_cpu},
    {"plan:cpu", &cadp_device_plan, &cadp_device_cpu},
    {"plan:ref", &cadp_device_plan, &cadp_device_ref},
    {"plan:emulated", &cadp_device_plan, &cadp_device_emulated},
    {"plan:cuda", &cadp_device_plan, &cadp_device_emulated}, /* asks for the same work space, and needs no GPU */
};

static bool is_called(const char *name, const char *known, int *index)
{
    size_t n = strlen(known);
    char *end;
    long number;

    *index = 0;
    if (strncmp(name, known, n)) return false;
    if (!name[n]) return true;
    if (n < 4 || strcmp(known + n - 4, "cuda") || name[n] != ':' || !name[n + 1] || strspn(name + n + 1, "0123456789") != strlen(name + n + 1)) return false;
    number = strtol(name + n + 1, &end, 10);
    *index = (int)cad_min(number, INT_MAX);
    return true;
}

static const row *find(const char *name, int *index)
{
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        if (is_called(name, devices[i].name, index)) return &devices[i];
    return NULL;
}

cad_status cad_device_open(cad_device **out, const char *name, int threads)
{
    int index;
    const row *r = find(name, &index);
    cad_device *d;
    cad_status status;

    *out = NULL;
    if (!r) return cad_fail(CAD_EUSAGE, "device: expected cpu, cuda, cuda:N, emulated, ref, check, check:cpu, plan:cpu or plan:ref, found \"%s\"", name);
    if (threads < 0) return cad_fail(CAD_EUSAGE, "device %s: expected threads >= 0, found %d", name, threads);
    CAD_TRY(cad_alloc(&d, 1, sizeof *d, "a device"));
    d->table = r->table;
    d->inner = r->inner;
    d->index = index;
    d->threads = threads ? threads : omp_get_max_threads();
    snprintf(d->name, sizeof d->name, "%s", name);
    snprintf(d->description, sizeof d->description, "%s, %d threads", r->name, d->threads);
    if ((status = d->table->open(d)))
        cad_free(&d);
    *out = d;
    return status;
}

const char *cad_device_name(const cad_device *d) { return d->name; }
const char *cad_device_description(const cad_device *d) { return d->description; }
int cad_device_threads(const cad_device *d) { return d->threads; }
bool cad_device_is_host(const cad_device *d) { return (d->inner ? d->inner : d->table) == &cadp_device_cpu; }
bool cad_device_on_host(const cad_device *d) { return d->table == &cadp_device_cpu; }
int cad_device_gpus(void) { return cadp_cuda_count(); }
const char *cad_device_identity(const cad_device *d) { return d->identity; }
bool cad_device_pretends(const cad_device *d) { return d->table == &cadp_device_plan; }

bool cad_device_turns_back(const cad_device *d) { return (d->inner ? d->inner : d->table)->back; }
bool cad_device_adds_apart(const cad_device *d) { return (d->inner ? d->inner : d->table)->apart; }
int64_t cad_device_bytes(const cad_device *d) { return d->bytes; }
int64_t cad_device_peak(const cad_device *d) { return d->peak; }
int64_t cad_device_allocs(const cad_device *d) { return d->allocs; }
int64_t cad_device_work_needed(const cad_device *d) { return d->needed; }
double cad_device_flops(const cad_device *d) { return d->flops; }
int64_t cad_device_launches(const cad_device *d) { return d->launches; }

void cad_device_memory(const cad_device *d, int64_t *left, int64_t *all)
{
    *left = *all = 0;
    if (d->table->memory) d->table->memory(d, left, all);
}

void cad_device_between(cad_device *d, void (*call)(void *with), void *with)
{
    d->between = call;
    d->between_with = with;
}

/* ---- memory ---- */

static cad_status take(cad_device *d, void **out, int64_t bytes, const char *what)
{
    cad_status status;

    if (bytes < 0) return cad_fail(CAD_EINTERNAL, "device %s: %s asks for %lld bytes", d->name, what, (long long)bytes);
    CAD_TRY(d->table->alloc(d, out, bytes, what));
    if ((status = cadp_block_add(d, *out, bytes, what))) {
        (void)d->table->release(d, *out, bytes);
        *out = NULL;
        return status;
    }
    d->allocs++;
    d->bytes += bytes;
    d->peak = cad_max(d->peak, d->bytes);
    return CAD_OK;
}

static void give_back(cad_device *d, void *p)
{
    const cadp_block *b = cadp_block_before(d, p);
    cad_status status;
    int64_t bytes;

    if (!b || b->at != p) {
        d->fault = cad_fail(CAD_EINTERNAL, "device %s: an address is freed that is no block alive (freed twice?)", d->name);
        return;
    }
    bytes = b->bytes;
    if ((status = d->table->release(d, p, bytes)) && !d->fault) d->fault = status;
    cadp_block_drop(d, p);
    d->bytes -= bytes;
}

cad_status cad_device_alloc(cad_device *d, void *out, int64_t bytes, const char *what)
{
    void *p = NULL;
    cad_status status = take(d, &p, bytes, what);

    memcpy(out, &p, sizeof p);
    return status;
}

void cad_device_free(cad_device *d, void *inout)
{
    void *p, *none = NULL;

    memcpy(&p, inout, sizeof p);
    if (p) give_back(d, p);
    memcpy(inout, &none, sizeof none);
}

cad_status cad_device_reserve(cad_device *d, int64_t bytes)
{
    cad_device_free(d, &d->reserve);
    d->reserved = 0;
    CAD_TRY(take(d, &d->reserve, bytes, "work space"));
    d->reserved = bytes;
    return CAD_OK;
}

static void note_leaks(cad_device *d)
{
    if (d->blocks && !d->fault)
        d->fault = cad_fail(CAD_EINTERNAL, "device %s is closed with %lld blocks alive, the first is %s (%lld bytes)", d->name,
                            (long long)d->blocks, d->list[0].what, (long long)d->list[0].bytes);
    while (d->blocks) give_back(d, d->list[d->blocks - 1].at);
}

cad_status cad_device_close(cad_device **inout)
{
    cad_device *d = *inout;
    cad_status status;

    if (!d) return CAD_OK;
    if ((status = d->table->sync(d)) && !d->fault) d->fault = status;
    cad_device_free(d, &d->reserve);
    note_leaks(d);
    d->table->close(d);
    status = d->fault;
    cad_free(&d->list);
    cad_free(inout);
    return status;
}

/* ---- bytes in and out ---- */

cad_status cadp_need_inside(const cad_device *d, const char *verb, const void *p, int64_t bytes)
{
    const cadp_block *b = cadp_block_before(d, p);

    if (bytes >= 0 && cadp_block_of(d, p, bytes)) return CAD_OK;
    if (!b) return cad_fail(CAD_EINTERNAL, "%s of %lld bytes: the address is no memory of device %s", verb, (long long)bytes, d->name);
    return cad_fail(CAD_EINTERNAL, "%s of %lld bytes: not inside any block alive of device %s; the block before is %s (%lld bytes), %lld bytes earlier",
                    verb, (long long)bytes, d->name, b->what, (long long)b->bytes, (long long)((const char *)p - b->at));
}

cad_status cad_device_upload(cad_device *d, void *to, const void *from_host, int64_t bytes)
{
    CAD_TRY(cadp_need_inside(d, "upload", to, bytes));
    return bytes ? d->table->move(d, to, from_host, bytes) : CAD_OK;
}

cad_status cad_device_download(cad_device *d, void *to_host, const void *from, int64_t bytes)
{
    CAD_TRY(cadp_need_inside(d, "download", from, bytes));
    return bytes ? d->table->move(d, to_host, from, bytes) : CAD_OK;
}

cad_status cad_device_copy(cad_device *d, void *to, const void *from, int64_t bytes)
{
    CAD_TRY(cadp_need_inside(d, "copy (to)", to, bytes));
    CAD_TRY(cadp_need_inside(d, "copy (from)", from, bytes));
    return bytes ? d->table->move(d, to, from, bytes) : CAD_OK;
}

cad_status cad_device_zero(cad_device *d, void *at, int64_t bytes)
{
    CAD_TRY(cadp_need_inside(d, "zero", at, bytes));
    return bytes ? d->table->move(d, at, NULL, bytes) : CAD_OK;
}

cad_status cad_device_sync(cad_device *d)
{
    CAD_TRY(d->table->sync(d));
    return d->fault;
}
