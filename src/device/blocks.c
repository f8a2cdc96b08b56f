#include "device_priv.h"

#include <stdio.h>

/* Index of the first block that starts after p. */
static int64_t after(const cad_device *d, const char *p)
{
    int64_t low = 0, high = d->blocks;

    while (low < high) {
        int64_t mid = low + (high - low) / 2;
        if (d->list[mid].at > p)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

const cadp_block *cadp_block_before(const cad_device *d, const void *p)
{
    int64_t i = after(d, p);

    return i ? &d->list[i - 1] : NULL;
}

const cadp_block *cadp_block_of(const cad_device *d, const void *p, int64_t bytes)
{
    const cadp_block *b = cadp_block_before(d, p);

    return b && bytes <= b->bytes - ((const char *)p - b->at) ? b : NULL;
}

cad_status cadp_block_add(cad_device *d, void *at, int64_t bytes, const char *what)
{
    int64_t i = after(d, at);

    if (d->blocks == d->room) {
        int64_t room = d->room ? 2 * d->room : 64;
        CAD_TRY(cad_grow(&d->list, (size_t)room, sizeof *d->list, "the list of device memory"));
        d->room = room;
    }
    memmove(d->list + i + 1, d->list + i, (size_t)(d->blocks - i) * sizeof *d->list);
    d->list[i] = (cadp_block){.at = at, .bytes = bytes};
    snprintf(d->list[i].what, sizeof d->list[i].what, "%s", what);
    d->blocks++;
    return CAD_OK;
}

void cadp_block_drop(cad_device *d, const void *at)
{
    int64_t i = after(d, at) - 1;

    CAD_ASSERT(i >= 0 && d->list[i].at == at);
    d->blocks--;
    memmove(d->list + i, d->list + i + 1, (size_t)(d->blocks - i) * sizeof *d->list);
}
