#include "check_priv.h"

bool cadp_is_poison(const void *p, int64_t bytes)
{
    const unsigned char *b = p;

    for (int64_t i = 0; i < bytes; i++)
        if (b[i] != CADP_POISON) return false;
    return true;
}

/* 0xfffb in little-endian halves: NaN as bfloat16, fp32 and double. */
static unsigned char zone_byte(const char *p) { return (uintptr_t)p % 2 ? 0xff : 0xfb; }

static void fill(char *from)
{
    for (int i = 0; i < CADP_ZONE; i++) from[i] = (char)zone_byte(from + i);
}

static int broken_at(const char *from)
{
    for (int i = 0; i < CADP_ZONE; i++)
        if ((unsigned char)from[i] != zone_byte(from + i)) return i;
    return -1;
}

void cadp_zones_fill(char *at, int64_t bytes)
{
    fill(at - CADP_ZONE);
    fill(at + bytes);
}

cad_status cadp_zones_check(const cad_device *d, const char *at, int64_t bytes, const char *what)
{
    int before = broken_at(at - CADP_ZONE), behind = broken_at(at + bytes);

    if (before >= 0) return cad_fail(CAD_EINTERNAL, "device %s: %s (%lld bytes) was written %d bytes before its start", d->name, what, (long long)bytes, CADP_ZONE - before);
    if (behind >= 0) return cad_fail(CAD_EINTERNAL, "device %s: %s (%lld bytes) was written %d bytes behind its end", d->name, what, (long long)bytes, behind);
    return CAD_OK;
}
