#include "vocab.h"

static uint64_t load8(const char *s)
{
    uint64_t v;
    memcpy(&v, s, 8);
    return v;
}

static uint64_t load4(const char *s)
{
    uint32_t v;
    memcpy(&v, s, 4);
    return v;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    a = (a ^ 0x9E3779B97F4A7C15u) * (b ^ 0xD6E8FEB86659FD93u);
    return a ^ a >> 32;
}

/* Overlapping loads keep short strings branch-poor and read no byte beyond them. */
uint64_t cadp_hash(const char *s, size_t n)
{
    uint64_t h = n;

    if (n < 4) {
        uint64_t v = n ? (uint64_t)(unsigned char)s[0] | (uint64_t)(unsigned char)s[n / 2] << 8 | (uint64_t)(unsigned char)s[n - 1] << 16 : 0;
        return mix(v * 0xA0761D6478BD642Fu + h, h + 1);
    }
    if (n <= 8) return mix((load4(s) | load4(s + n - 4) << 32) * 0xA0761D6478BD642Fu + h, h + 1);
    for (size_t i = 0; i + 8 < n; i += 8) h = mix(h + load8(s + i), 0xE7037ED1A0B428DBu) + (h << 7);
    return mix(h + load8(s + n - 8), 0x8EBC6AF09C88C6E3u);
}

static cad_status table_size(size_t entries, uint32_t *size)
{
    uint64_t want = 16;

    while (want < 2 * (uint64_t)entries) want *= 2;
    if (want > UINT32_MAX / 2) return cad_fail(CAD_EMODEL, "the tokenizer has too many entries (%zu)", entries);
    *size = (uint32_t)want;
    return CAD_OK;
}

cad_status cadp_vocab_open(cadp_vocab *v, int32_t ids, size_t strings)
{
    uint32_t size = 0;

    *v = (cadp_vocab){.ids = ids};
    CAD_TRY(table_size(strings, &size));
    CAD_TRY(cad_alloc(&v->token, (size_t)ids, sizeof *v->token, "the vocabulary"));
    CAD_TRY(cad_alloc(&v->slot, size, sizeof *v->slot, "the vocabulary"));
    v->mask = size - 1;
    return cad_str_add(&v->bytes, "", 0);
}

void cadp_vocab_close(cadp_vocab *v)
{
    cad_str_close(&v->bytes);
    cad_free(&v->token);
    cad_free(&v->slot);
    *v = (cadp_vocab){0};
}

static uint32_t place(const cadp_vocab *v, const char *s, size_t n)
{
    uint32_t i = (uint32_t)cadp_hash(s, n) & v->mask;

    for (; v->slot[i]; i = (i + 1) & v->mask) {
        const cadp_token *t = &v->token[v->slot[i] - 1];
        if (t->size == n && !memcmp(v->bytes.data + t->at, s, n)) break;
    }
    return i;
}

cad_status cadp_vocab_add(cadp_vocab *v, int32_t id, const char *s, size_t n, bool *added)
{
    uint32_t i = place(v, s, n);

    CAD_ASSERT(id >= 0 && id < v->ids);
    *added = !v->slot[i] && !v->token[id].there;
    if (!*added) return CAD_OK;
    if (v->bytes.size + n > UINT32_MAX) return cad_fail(CAD_EMODEL, "the tokenizer's vocabulary is larger than 4 GB");
    v->token[id] = (cadp_token){(uint32_t)v->bytes.size, (uint32_t)n, true};
    v->slot[i] = (uint32_t)id + 1;
    v->count++;
    return cad_str_add(&v->bytes, s, n);
}

int32_t cadp_vocab_find(const cadp_vocab *v, const char *s, size_t n)
{
    return (int32_t)v->slot[place(v, s, n)] - 1;
}

cad_status cadp_merges_open(cadp_merges *m, size_t count)
{
    uint32_t size = 0;

    CAD_TRY(table_size(count, &size));
    CAD_TRY(cad_alloc(&m->slot, size, sizeof *m->slot, "merges"));
    m->mask = size - 1;
    for (uint32_t i = 0; i < size; ++i) m->slot[i].left = -1;
    return CAD_OK;
}

void cadp_merges_close(cadp_merges *m)
{
    cad_free(&m->slot);
    m->mask = 0;
}

void cadp_merges_set(cadp_merges *m, cadp_merge merge)
{
    uint32_t i = cadp_merge_slot(merge.left, merge.right) & m->mask;

    while (m->slot[i].left >= 0 && !(m->slot[i].left == merge.left && m->slot[i].right == merge.right)) i = (i + 1) & m->mask;
    m->slot[i] = merge;
}
