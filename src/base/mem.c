#include <cadtrain/base.h>

#include <stdatomic.h>
#include <stdlib.h>

/* Each block carries its size in the 64 bytes before it, so that counting needs no table. */
enum { HEAD = 64 };

static atomic_llong blocks, calls, bytes, peak, fail_in;

static bool planned_failure(void)
{
    return atomic_load(&fail_in) > 0 && atomic_fetch_sub(&fail_in, 1) == 1;
}

static void count(int64_t grown)
{
    long long now = atomic_fetch_add(&bytes, grown) + grown, top = atomic_load(&peak);
    while (now > top && !atomic_compare_exchange_weak(&peak, &top, now)) {
    }
}

static char *block_of(void *p) { return (char *)p - HEAD; }

static cad_status no_memory(size_t n, size_t each, const char *what)
{
    return cad_fail(CAD_ERESOURCE, "out of memory: %s needs %zu x %zu bytes", what, n, each);
}

static cad_status take(void **out, size_t n, size_t each, const char *what, bool zero)
{
    size_t size, all;
    char *b;

    atomic_fetch_add(&calls, 1);
    if (!cad_mul_ok(n, each, &size) || __builtin_add_overflow(size, HEAD + 63, &all) || planned_failure())
        return no_memory(n, each, what);
    b = aligned_alloc(64, all / 64 * 64);
    if (!b) return no_memory(n, each, what);
    memcpy(b, &size, sizeof size);
    if (zero) memset(b + HEAD, 0, size);
    atomic_fetch_add(&blocks, 1);
    count((int64_t)size);
    *out = b + HEAD;
    return CAD_OK;
}

cad_status cad_alloc(void *out, size_t n, size_t each, const char *what)
{
    void *p = NULL;
    cad_status status = take(&p, n, each, what, true);

    memcpy(out, &p, sizeof p);
    return status;
}

cad_status cad_grow(void *inout, size_t n, size_t each, const char *what)
{
    void *old, *p;
    size_t had = 0, now;

    memcpy(&old, inout, sizeof old);
    CAD_TRY(take(&p, n, each, what, false));
    now = n * each;
    if (old) {
        memcpy(&had, block_of(old), sizeof had);
        memcpy(p, old, had < now ? had : now);
        cad_free(inout);
    }
    memcpy(inout, &p, sizeof p);
    return CAD_OK;
}

void cad_free(void *inout)
{
    void *p, *none = NULL;
    size_t size;

    memcpy(&p, inout, sizeof p);
    if (!p) return;
    memcpy(&size, block_of(p), sizeof size);
    atomic_fetch_sub(&bytes, (long long)size);
    atomic_fetch_sub(&blocks, 1);
    free(block_of(p));
    memcpy(inout, &none, sizeof none);
}

cad_status cad_strdup(char **out, const char *s)
{
    size_t n = strlen(s) + 1;

    CAD_TRY(cad_alloc(out, n, 1, "a string"));
    memcpy(*out, s, n);
    return CAD_OK;
}

int64_t cad_mem_blocks(void) { return atomic_load(&blocks); }
int64_t cad_mem_calls(void) { return atomic_load(&calls); }
int64_t cad_mem_bytes(void) { return atomic_load(&bytes); }
int64_t cad_mem_peak(void) { return atomic_load(&peak); }
void cad_mem_fail_at(int64_t nth) { atomic_store(&fail_in, nth); }
