#include <cadtrain/base.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Open addressing over one array of slots; keys lie end to end in one buffer. */
typedef struct slot { uint64_t hash; size_t at, size; int64_t value; bool used; } slot;
struct cad_map { slot *slots; size_t room, used; cad_str keys; };

cad_status cad_map_open(cad_map **out)
{
    CAD_TRY(cad_alloc(out, 1, sizeof **out, "a table"));
    (*out)->room = 64;
    cad_status status = cad_alloc(&(*out)->slots, (*out)->room, sizeof(slot), "a table");
    if (status) cad_free(out);
    return status;
}

void cad_map_close(cad_map **m)
{
    if (!*m) return;
    cad_free(&(*m)->slots);
    cad_str_close(&(*m)->keys);
    cad_free(m);
}

static slot *find(const cad_map *m, const char *key, size_t n, uint64_t hash)
{
    size_t i = hash & (m->room - 1);

    while (m->slots[i].used) {
        slot *s = &m->slots[i];
        if (s->hash == hash && s->size == n && !memcmp(m->keys.data + s->at, key, n)) return s;
        i = (i + 1) & (m->room - 1);
    }
    return &m->slots[i];
}

static cad_status widen(cad_map *m)
{
    cad_map wide = {.room = 2 * m->room, .keys = m->keys};

    CAD_TRY(cad_alloc(&wide.slots, wide.room, sizeof(slot), "a table"));
    for (size_t i = 0; i < m->room; i++)
        if (m->slots[i].used) *find(&wide, m->keys.data + m->slots[i].at, m->slots[i].size, m->slots[i].hash) = m->slots[i];
    cad_free(&m->slots);
    m->slots = wide.slots;
    m->room = wide.room;
    return CAD_OK;
}

cad_status cad_map_set(cad_map *m, const char *key, size_t n, int64_t value, bool *had)
{
    uint64_t hash = XXH3_64bits(key, n);
    slot *s = find(m, key, n, hash);

    if (had) *had = s->used;
    if (!s->used) {
        if (2 * (m->used + 1) > m->room) {
            CAD_TRY(widen(m));
            s = find(m, key, n, hash);
        }
        size_t at = m->keys.size;
        CAD_TRY(cad_str_add(&m->keys, key, n));
        *s = (slot){.hash = hash, .at = at, .size = n, .used = true};
        m->used++;
    }
    s->value = value;
    return CAD_OK;
}

bool cad_map_get(const cad_map *m, const char *key, size_t n, int64_t *value)
{
    const slot *s = find(m, key, n, XXH3_64bits(key, n));

    if (s->used && value) *value = s->value;
    return s->used;
}
