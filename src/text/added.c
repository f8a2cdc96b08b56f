#include "text_priv.h"

static uint32_t edge_slot(const cadp_trie *t, uint64_t key)
{
    uint32_t i = (uint32_t)(key * 0x9E3779B97F4A7C15u >> 32) & t->mask;

    while (t->edge[i] && t->edge[i] != key + 1) i = (i + 1) & t->mask;
    return i;
}

static uint64_t edge_key(uint32_t node, char byte) { return (uint64_t)node << 8 | (unsigned char)byte; }

bool cadp_trie_step(const cadp_trie *t, uint32_t *node, char byte)
{
    uint32_t slot = edge_slot(t, edge_key(*node, byte));

    if (!t->edge[slot]) return false;
    *node = t->target[slot];
    return true;
}

static cad_status add_entry(cadp_trie *t, const cadp_trie_entry *e, const char *where)
{
    uint32_t node = 0;

    for (size_t i = 0; i < e->size; ++i) {
        uint32_t slot = edge_slot(t, edge_key(node, e->text[i]));
        if (!t->edge[slot]) {
            t->edge[slot] = edge_key(node, e->text[i]) + 1;
            t->target[slot] = t->nodes;
            t->token[t->nodes++] = -1;
        }
        node = t->target[slot];
    }
    if (t->token[node] >= 0) return cad_fail(CAD_EMODEL, "%s: expected added tokens that differ, found two of the same text (\"%s\")", where, e->text);
    t->token[node] = e->token;
    t->first[(unsigned char)e->text[0]] = true;
    return CAD_OK;
}

cad_status cadp_trie_open(cadp_trie *t, const cadp_trie_entry *entries, size_t count, const char *where)
{
    size_t bytes = 1, slots = 16;
    int firsts = 0;

    *t = (cadp_trie){.any = count > 0, .only = -1};
    for (size_t i = 0; i < count; ++i) bytes += entries[i].size;
    if (bytes > UINT32_MAX / 8) return cad_fail(CAD_EMODEL, "%s: the added tokens are too long", where);
    while (slots < 2 * bytes) slots *= 2;
    CAD_TRY(cad_alloc(&t->edge, slots, sizeof *t->edge, "added tokens"));
    CAD_TRY(cad_alloc(&t->target, slots, sizeof *t->target, "added tokens"));
    CAD_TRY(cad_alloc(&t->token, bytes, sizeof *t->token, "added tokens"));
    t->mask = (uint32_t)slots - 1;
    t->nodes = 1;
    t->token[0] = -1;
    for (size_t i = 0; i < count; ++i) CAD_TRY(add_entry(t, &entries[i], where));
    for (int b = 0; b < 256; ++b)
        if (t->first[b]) t->only = firsts++ ? -1 : b;
    return CAD_OK;
}

void cadp_trie_close(cadp_trie *t)
{
    cad_free(&t->edge);
    cad_free(&t->target);
    cad_free(&t->token);
    *t = (cadp_trie){0};
}

static size_t next_first(const cadp_trie *t, const char *text, size_t n, size_t at)
{
    if (t->only >= 0) {
        const char *hit = at < n ? memchr(text + at, t->only, n - at) : NULL;
        return hit ? (size_t)(hit - text) : n;
    }
    while (at < n && !t->first[(unsigned char)text[at]]) ++at;
    return at;
}

/* Leftmost, and of those the longest. */
bool cadp_trie_find(const cadp_trie *t, const char *text, size_t n, size_t from, cadp_hit *hit)
{
    if (!t->any) return false;
    for (size_t at = next_first(t, text, n, from); at < n; at = next_first(t, text, n, at + 1)) {
        uint32_t node = 0;
        hit->token = -1;
        for (size_t i = at; i < n; ++i) {
            uint32_t slot = edge_slot(t, edge_key(node, text[i]));
            if (!t->edge[slot]) break;
            node = t->target[slot];
            if (t->token[node] >= 0) *hit = (cadp_hit){at, i + 1, t->token[node]};
        }
        if (hit->token >= 0) return true;
    }
    return false;
}
