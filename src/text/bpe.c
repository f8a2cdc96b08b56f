#include "vocab.h"
#include <stdlib.h>

enum { SHORT = 32 }; /* symbols up to which a scan for the best merge beats queues */
#define LOWER_BLOCK 0x2581u

cad_status cadp_ids_room(cad_ids *ids, int64_t more)
{
    int64_t want = ids->count + more;

    if (want <= ids->room) return CAD_OK;
    want = cad_max(want, cad_max(256, 2 * ids->room));
    CAD_TRY(cad_grow(&ids->data, (size_t)want, sizeof *ids->data, "token ids"));
    ids->room = want;
    return CAD_OK;
}

cad_status cadp_bpe_work_open(cadp_bpe_work *w)
{
    *w = (cadp_bpe_work){0};
    return cad_alloc(&w->cache, CADP_CACHE_SLOTS, sizeof *w->cache, "the word cache");
}

void cadp_bpe_work_close(cadp_bpe_work *w)
{
    cad_free(&w->cache);
    cad_free(&w->symbol);
    cad_free(&w->waiting);
    cad_free(&w->queue);
    cad_free(&w->heap);
    cad_free(&w->order);
    cad_free(&w->slot);
    *w = (cadp_bpe_work){0};
}

static cad_status add_symbol(cadp_bpe_work *w, int32_t id)
{
    int32_t at = (int32_t)w->symbols;

    if (w->symbols == w->symbol_room) {
        size_t room = w->symbol_room ? 2 * w->symbol_room : 256;
        CAD_TRY(cad_grow(&w->symbol, room, sizeof *w->symbol, "symbols"));
        w->symbol_room = room;
    }
    w->symbol[w->symbols++] = (cadp_symbol){id, at - 1, at + 1};
    return CAD_OK;
}

static bool bytes_known(const cadp_bpe *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n; ++i)
        if (b->byte[(unsigned char)s[i]] < 0) return false;
    return true;
}

/* An unknown character waits, so that neighbours fuse; byte tokens overtake it, as in the tokenizers library. */
static cad_status add_unknown(const cadp_bpe *b, cadp_bpe_work *w, bool *waiting)
{
    if (b->unknown < 0) return CAD_OK;
    if (*waiting && !b->fuse_unknown) CAD_TRY(add_symbol(w, b->unknown));
    *waiting = true;
    return CAD_OK;
}

/* The character at `at` is the one of `last` bytes before it. */
static bool repeats(const char *word, size_t n, size_t at, size_t last)
{
    return last && at + last <= n && (last == 1 ? word[at] == word[at - 1] : !memcmp(word + at, word + at - last, last));
}

static cad_status add_symbols(const cadp_bpe *b, cadp_bpe_work *w, const char *word, size_t n)
{
    bool waiting = false;
    int32_t id = CADP_NO_TOKEN;

    w->symbols = 0;
    for (size_t i = 0, bytes, last = 0; i < n; last = bytes, i += bytes) {
        if (b->bytes) {
            bytes = 1;
            id = b->byte[(unsigned char)word[i]];
        } else if (!repeats(word, n, i, last)) {
            cadp_point(word + i, &bytes);
            id = cadp_vocab_find(b->vocab, word + i, bytes);
        } else bytes = last;
        if (id >= 0) {
            if (waiting) CAD_TRY(add_symbol(w, b->unknown));
            waiting = false;
            CAD_TRY(add_symbol(w, id));
        } else if (b->fallback && !b->bytes && bytes_known(b, word + i, bytes)) {
            for (size_t j = 0; j < bytes; ++j) CAD_TRY(add_symbol(w, b->byte[(unsigned char)word[i + j]]));
        } else CAD_TRY(add_unknown(b, w, &waiting));
    }
    return waiting ? add_symbol(w, b->unknown) : CAD_OK;
}

/* Few symbols: the best pair by scanning, left first among equals. */
static void merge_short(const cadp_bpe *b, cadp_bpe_work *w)
{
    const cadp_merge *pair[SHORT];
    cadp_symbol *s = w->symbol;
    size_t n = w->symbols, best;

    for (size_t i = 0; i + 1 < n; ++i) pair[i] = cadp_merges_find(&b->merges, s[i].id, s[i + 1].id);
    for (;;) {
        best = n;
        for (size_t i = 0; i + 1 < n; ++i)
            if (pair[i] && (best == n || pair[i]->rank < pair[best]->rank)) best = i;
        if (best == n) break;
        s[best].id = pair[best]->id;
        --n;
        for (size_t i = best + 1; i < n; ++i) s[i].id = s[i + 1].id;
        for (size_t i = best + 1; i + 1 < n; ++i) pair[i] = pair[i + 1];
        if (best + 1 < n) pair[best] = cadp_merges_find(&b->merges, s[best].id, s[best + 1].id);
        if (best) pair[best - 1] = cadp_merges_find(&b->merges, s[best - 1].id, s[best].id);
    }
    w->symbols = n;
}

static cad_status encode_word(const cadp_bpe *b, cadp_bpe_work *w, const char *word, size_t n, cad_ids *ids)
{
    int32_t id;

    if (b->whole && (id = cadp_vocab_find(b->whole, word, n)) >= 0) {
        CAD_TRY(cadp_ids_room(ids, 1));
        ids->data[ids->count++] = id;
        return CAD_OK;
    }
    CAD_TRY(add_symbols(b, w, word, n));
    if (w->symbols <= SHORT) merge_short(b, w);
    else CAD_TRY(cadp_bpe_merge_long(b, w));
    CAD_TRY(cadp_ids_room(ids, (int64_t)w->symbols));
    for (size_t i = 0; i < w->symbols; ++i) ids->data[ids->count++] = w->symbol[i].id;
    return CAD_OK;
}

/* Two neighbouring slots a word; the newer one comes first. */
static cad_status encode_cached(const cadp_bpe *b, cadp_bpe_work *w, const char *word, size_t n, cad_ids *ids)
{
    cadp_cached *first = &w->cache[cadp_hash(word, n) & (CADP_CACHE_SLOTS - 2)], *hit = NULL;
    int64_t from = ids->count;

    if (first[0].size == n && !memcmp(first[0].key, word, n)) hit = &first[0];
    else if (first[1].size == n && !memcmp(first[1].key, word, n)) hit = &first[1];
    if (hit) {
        CAD_TRY(cadp_ids_room(ids, CADP_CACHE_IDS));
        memcpy(ids->data + from, hit->id, sizeof hit->id);
        ids->count += hit->count;
        return CAD_OK;
    }
    CAD_TRY(encode_word(b, w, word, n, ids));
    if (ids->count - from > CADP_CACHE_IDS) return CAD_OK;
    first[1] = first[0];
    first[0].size = (uint8_t)n;
    first[0].count = (uint8_t)(ids->count - from);
    memcpy(first[0].key, word, n);
    if (first[0].count) memcpy(first[0].id, ids->data + from, first[0].count * sizeof first[0].id[0]);
    return CAD_OK;
}

static cad_status encode_part(const cadp_bpe *b, cadp_bpe_work *w, const char *word, size_t n, cad_ids *ids)
{
    return n && n <= CADP_CACHE_KEY ? encode_cached(b, w, word, n, ids) : encode_word(b, w, word, n, ids);
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t last_point(const char *s, size_t n)
{
    size_t at = n - 1;

    while (at && ((unsigned char)s[at] & 0xC0) == 0x80) --at;
    return cadp_point(s + at, &n);
}

static bool joins(const cadp_bpe *b, uint32_t point)
{
    return point == LOWER_BLOCK || (b->joins_count && bsearch(&point, b->joins, (size_t)b->joins_count, sizeof point, by_value));
}

cad_status cadp_bpe_encode(const cadp_bpe *b, cadp_bpe_work *w, const char *word, size_t n, cad_ids *ids)
{
    size_t from = 0;

    if (!b->cuts) return encode_part(b, w, word, n, ids);
    for (size_t i = 1; i + 3 <= n; ++i) {
        const char *block = memchr(word + i, 0xE2, n - i - 2);
        if (!block) break;
        i = (size_t)(block - word);
        if (memcmp(block, "\xE2\x96\x81", 3) || joins(b, last_point(word, i))) continue;
        CAD_TRY(encode_part(b, w, word + from, i - from, ids));
        from = i;
    }
    return encode_part(b, w, word + from, n - from, ids);
}

enum { MOST_JOINS = 4096 };

/* Notes that `point` may stay joined with U+2581 behind it; false when there are too many such characters. */
static bool note_join(cadp_bpe *b, uint32_t point)
{
    for (int32_t i = 0; i < b->joins_count; ++i)
        if (b->joins[i] == point) return true;
    if (point == LOWER_BLOCK) return true;
    if (b->joins_count == MOST_JOINS) return false;
    b->joins[b->joins_count++] = point;
    return true;
}

static bool note_merge(cadp_bpe *b, const cadp_merge *m, const bool *odd)
{
    const cadp_token *l = &b->vocab->token[m->left], *r = &b->vocab->token[m->right];
    const char *bytes = b->vocab->bytes.data;

    if (odd[m->left] || odd[m->right]) return false;
    return r->size < 3 || memcmp(bytes + r->at, "\xE2\x96\x81", 3) || note_join(b, last_point(bytes + l->at, l->size));
}

/* Where no merge can join, encoding the parts is encoding the whole: merges never cross, and their order within a part stays. Byte tokens and
 * the unknown token must not take part in merges, since their text is not the text they stand for; and U+2581 must be a token, which ends a run
 * of unknown characters. */
cad_status cadp_bpe_find_cuts(cadp_bpe *b)
{
    bool *odd;

    if (b->bytes || b->whole || cadp_vocab_find(b->vocab, "\xE2\x96\x81", 3) < 0) return CAD_OK;
    CAD_TRY(cad_alloc(&b->joins, MOST_JOINS, sizeof *b->joins, "cuts"));
    CAD_TRY(cad_alloc(&odd, (size_t)b->vocab->ids, sizeof *odd, "cuts"));
    for (int i = 0; i < 256; ++i)
        if (b->fallback && b->byte[i] >= 0) odd[b->byte[i]] = true;
    if (b->unknown >= 0) odd[b->unknown] = true;
    b->cuts = true;
    for (uint32_t i = 0; b->cuts && i <= b->merges.mask; ++i)
        if (b->merges.slot[i].left >= 0) b->cuts = note_merge(b, &b->merges.slot[i], odd);
    qsort(b->joins, (size_t)b->joins_count, sizeof *b->joins, by_value);
    cad_free(&odd);
    return CAD_OK;
}
