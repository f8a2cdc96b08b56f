#include "cohort_priv.h"

/* splitmix64: neighbours end far apart. */
static uint64_t scatter(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static struct cadp_id *seek(const cadp_ids *ids, int64_t id)
{
    size_t i = scatter((uint64_t)id) & (ids->room - 1);

    while (ids->slot[i].row >= 0 && ids->slot[i].id != id) i = (i + 1) & (ids->room - 1);
    return &ids->slot[i];
}

static cad_status widen(cadp_ids *ids)
{
    cadp_ids wide = {.room = ids->room ? 2 * ids->room : 64, .used = ids->used};

    CAD_TRY(cad_alloc(&wide.slot, wide.room, sizeof *wide.slot, "a table of ids"));
    for (size_t i = 0; i < wide.room; i++) wide.slot[i].row = -1;
    for (size_t i = 0; i < ids->room; i++)
        if (ids->slot[i].row >= 0) *seek(&wide, ids->slot[i].id) = ids->slot[i];
    cad_free(&ids->slot);
    *ids = wide;
    return CAD_OK;
}

cad_status cadp_ids_add(cadp_ids *ids, int64_t id, int32_t row, int32_t *found)
{
    struct cadp_id *at;

    if (2 * (ids->used + 1) > ids->room) CAD_TRY(widen(ids));
    at = seek(ids, id);
    if (at->row < 0) {
        *at = (struct cadp_id){id, row};
        ids->used++;
    }
    *found = at->row;
    return CAD_OK;
}

int32_t cadp_ids_find(const cadp_ids *ids, int64_t id) { return ids->room ? seek(ids, id)->row : -1; }

void cadp_ids_close(cadp_ids *ids)
{
    cad_free(&ids->slot);
    *ids = (cadp_ids){0};
}

int32_t cadp_family_of(int32_t *parent, int32_t a)
{
    while (parent[a] != a) a = parent[a] = parent[parent[a]];
    return a;
}

void cadp_family_join(int32_t *parent, int32_t a, int32_t b)
{
    a = cadp_family_of(parent, a);
    b = cadp_family_of(parent, b);
    if (a < b) parent[b] = a;
    else parent[a] = b;
}
