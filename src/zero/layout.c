#include "zero_priv.h"

void cadp_cut(int64_t n, int size, int64_t *at)
{
    int64_t chunks = cad_ceil_div(n, CAD_CHUNK);

    for (int k = 0; k <= size; k++) at[k] = cad_min(n, cad_ceil_div(chunks * k, size) * CAD_CHUNK);
}

void cadp_cut_bytes(int64_t bytes, int size, int64_t *at)
{
    int64_t chunks = cad_ceil_div(bytes, CADP_FROZEN_CHUNK);

    for (int k = 0; k <= size; k++) at[k] = cad_min(bytes, cad_ceil_div(chunks * k, size) * CADP_FROZEN_CHUNK);
}

bool cadp_common(int64_t from, int64_t n, int64_t low, int64_t high, int64_t *at, int64_t *count)
{
    int64_t begin = cad_max(from, low), end = cad_min(from + n, high);

    *at = begin;
    *count = end > begin ? end - begin : 0;
    return *count > 0;
}

cad_zero_wire cad_zero_theory(const cad_zero *z)
{
    cad_zero_wire w = {0};
    int64_t train = 0, frozen = 0, sum = (int64_t)cadp_sum_bytes(z);

    if (z->size == 1) return w;
    for (int i = 0; i < z->units; i++) {
        train += z->unit[i].n;
        frozen += z->unit[i].f;
    }
    if (z->o.stage == 3) w.gather_per_micro = 2 * (train * z->each + frozen);
    if (z->o.stage >= 2) w.scatter_per_micro = train * sum;
    if (z->o.stage == 2) w.gather_per_step = train * z->each;
    if (z->o.stage == 0) w.gather_per_step = w.scatter_per_step = train * sum;
    return w;
}
