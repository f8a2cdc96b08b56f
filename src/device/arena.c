#include <cadtrain/arena.h>

const char *cad_category_name(cad_category c)
{
    static const char *const names[CAD_MEM_CATEGORIES] = {"parameters", "quantisation", "adapters", "gradients", "optimizer", "activations", "work", "communication"};

    return names[c];
}

cad_status cad_arena_take(cad_arena *a, cad_category category, const char *name, int64_t bytes, void *out)
{
    void *data = NULL;

    memcpy(out, &data, sizeof data);
    if (!bytes) return CAD_OK;
    if (a->count == a->room) {
        int room = a->room ? 2 * a->room : 64;
        CAD_TRY(cad_grow(&a->rows, (size_t)room, sizeof *a->rows, "the memory table"));
        a->room = room;
    }
    CAD_TRY(cad_device_alloc(a->device, &data, bytes, name));
    a->rows[a->count++] = (cad_arena_row){category, name, bytes, data};
    a->total[category] += bytes;
    memcpy(out, &data, sizeof data);
    return CAD_OK;
}

cad_status cad_arena_tensor(cad_arena *a, cad_category category, const char *name, cad_dtype dtype, int64_t rows, int64_t cols, cad_tensor *out)
{
    void *data;

    CAD_TRY(cad_arena_take(a, category, name, rows * cols * (int64_t)cad_dtype_bytes(dtype), &data));
    *out = cad_view(data, dtype, rows, cols);
    return CAD_OK;
}

void cad_arena_share(cad_arena *a, cad_category category, int64_t bytes)
{
    if (!bytes) return;
    CAD_ASSERT(a->count && bytes > 0 && bytes <= a->rows[a->count - 1].bytes);
    a->total[a->rows[a->count - 1].category] -= bytes;
    a->total[category] += bytes;
}

void cad_arena_close(cad_arena *a)
{
    for (int i = a->count; i-- > 0;) cad_device_free(a->device, &a->rows[i].data);
    cad_free(&a->rows);
    *a = (cad_arena){.device = a->device};
}
