#include "vocab.h"

static size_t points_of(const char *s, size_t n)
{
    size_t count = 0;

    for (size_t i = 0; i < n; ++i) count += ((unsigned char)s[i] & 0xC0) != 0x80;
    return count;
}

/* The longest prefix of word[from, n) in the vocabulary; its end, or 0. */
static cad_status longest(const cadp_wordpiece *w, cad_str *work, const char *word, size_t from, size_t n, int32_t *id, size_t *end)
{
    size_t skip = from ? w->prefix_size : 0;

    work->size = 0;
    if (skip) CAD_TRY(cad_str_add(work, w->prefix, skip));
    CAD_TRY(cad_str_add(work, word + from, n - from));
    for (*end = n; *end > from; --*end) {
        if (*end < n && ((unsigned char)word[*end] & 0xC0) == 0x80) continue;
        *id = cadp_vocab_find(w->vocab, work->data, skip + *end - from);
        if (*id >= 0) return CAD_OK;
    }
    *end = 0;
    return CAD_OK;
}

cad_status cadp_wordpiece_encode(const cadp_wordpiece *w, cad_str *work, const char *word, size_t n, cad_ids *ids)
{
    int64_t from = ids->count;
    bool bad = (int64_t)points_of(word, n) > w->longest_word;
    size_t end;
    int32_t id = CADP_NO_TOKEN;

    for (size_t at = 0; !bad && at < n; at = end) {
        CAD_TRY(longest(w, work, word, at, n, &id, &end));
        bad = end == 0;
        if (bad) break;
        CAD_TRY(cadp_ids_room(ids, 1));
        ids->data[ids->count++] = id;
    }
    if (!bad) return CAD_OK;
    ids->count = from;
    CAD_TRY(cadp_ids_room(ids, 1));
    ids->data[ids->count++] = w->unknown;
    return CAD_OK;
}
