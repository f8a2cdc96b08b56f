/* Strings <-> ids, merges, and the words they make. */
#ifndef CADTRAIN_TEXT_VOCAB_H
#define CADTRAIN_TEXT_VOCAB_H
#include "unicode.h"
#include <cadtrain/text.h>

enum { CADP_MOST_IDS = 1 << 24, CADP_NO_TOKEN = -1 };
typedef struct cadp_token { uint32_t at, size; bool there; } cadp_token;
typedef struct cadp_vocab {
    cad_str bytes;
    cadp_token *token; /* by id */
    int32_t ids;       /* largest id + 1 */
    int32_t count;     /* strings */
    uint32_t *slot;    /* id + 1, open addressing */
    uint32_t mask;
} cadp_vocab;
/* Room for `strings` strings with ids below `ids`. */
CAD_CHECKED cad_status cadp_vocab_open(cadp_vocab *v, int32_t ids, size_t strings);
void cadp_vocab_close(cadp_vocab *v);
/* False through *added when the string or the id is there already. */
CAD_CHECKED cad_status cadp_vocab_add(cadp_vocab *v, int32_t id, const char *s, size_t n, bool *added);
int32_t cadp_vocab_find(const cadp_vocab *v, const char *s, size_t n); /* CADP_NO_TOKEN: none */
uint64_t cadp_hash(const char *s, size_t n);

typedef struct cadp_merge { int32_t left, right, id; uint32_t rank; } cadp_merge; /* left < 0: an empty slot */
typedef struct cadp_merges { cadp_merge *slot; uint32_t mask; } cadp_merges;
CAD_CHECKED cad_status cadp_merges_open(cadp_merges *m, size_t count);
void cadp_merges_close(cadp_merges *m);
void cadp_merges_set(cadp_merges *m, cadp_merge merge); /* a pair that is there already takes the new rank */

static inline uint32_t cadp_merge_slot(int32_t left, int32_t right)
{
    uint64_t k = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(k >> 32 ^ k >> 15);
}
static inline const cadp_merge *cadp_merges_find(const cadp_merges *m, int32_t left, int32_t right)
{
    for (uint32_t i = cadp_merge_slot(left, right) & m->mask; m->slot[i].left >= 0; i = (i + 1) & m->mask)
        if (m->slot[i].left == left && m->slot[i].right == right) return &m->slot[i];
    return NULL;
}

/* ---- byte-pair encoding (bpe.c) ---- */

typedef struct cadp_bpe {
    const cadp_vocab *vocab;  /* strings as the file writes them */
    const cadp_vocab *whole;  /* whole-word look-up of ignore_merges: `vocab`, or raw bytes under ByteLevel; NULL: off */
    cadp_merges merges;
    bool bytes;               /* a word's symbols are its bytes (ByteLevel), else its characters */
    bool fallback, fuse_unknown;
    int32_t byte[256];        /* id of a byte: as a symbol (bytes) or as <0xXX> (fallback); CADP_NO_TOKEN: none */
    int32_t unknown;          /* CADP_NO_TOKEN: unknown characters vanish */
    bool cuts;                /* no merge joins another character with a following U+2581 but those in `joins` */
    uint32_t *joins;          /* sorted */
    int32_t joins_count;
} cadp_bpe;

enum { CADP_CACHE_SLOTS = 1 << 14, CADP_CACHE_KEY = 28, CADP_CACHE_IDS = 8 };
typedef struct cadp_cached { uint8_t size, count, spare[2]; char key[CADP_CACHE_KEY]; int32_t id[CADP_CACHE_IDS]; } cadp_cached;
enum { CADP_RECENT = 64 };
typedef struct cadp_symbol { int32_t id, prev, next; } cadp_symbol;
/* Pairs of one rank that wait, by the place of their left symbol (bpe_long.c). */
typedef struct cadp_waiting { int32_t at, next; } cadp_waiting;
typedef struct cadp_recent { const cadp_merge *merge; int32_t left, right, queue; uint32_t word; } cadp_recent; /* merge NULL: none */
typedef struct cadp_queue { const cadp_merge *merge; int32_t head, tail; bool mixed, heaped; } cadp_queue;
/* One thread's working memory. */
typedef struct cadp_bpe_work {
    cadp_cached *cache;
    cadp_symbol *symbol;
    size_t symbols, symbol_room;
    cadp_waiting *waiting;
    cadp_queue *queue;
    int32_t *heap, *order;    /* of queues; places while they are sorted */
    uint32_t *slot, slot_mask; /* rank -> queue + 1 */
    cadp_recent recent[CADP_RECENT]; /* pairs looked up in this word */
    uint32_t word, misses;
    size_t waitings, queues, heaped, long_room;
} cadp_bpe_work;
CAD_CHECKED cad_status cadp_bpe_work_open(cadp_bpe_work *w);
void cadp_bpe_work_close(cadp_bpe_work *w);
/* Merges of w->symbol, whatever their number (bpe_long.c). */
CAD_CHECKED cad_status cadp_bpe_merge_long(const cadp_bpe *b, cadp_bpe_work *w);
/* The same where they are few runs of equal symbols, or of a block of them; false: something may be left to merge (bpe_runs.c). */
bool cadp_bpe_merge_runs(const cadp_bpe *b, cadp_bpe_work *w);
/* Ids of one word (valid UTF-8) appended. */
CAD_CHECKED cad_status cadp_bpe_encode(const cadp_bpe *b, cadp_bpe_work *w, const char *word, size_t n, cad_ids *ids);
/* Finds `cuts` and `joins` from the merges. */
CAD_CHECKED cad_status cadp_bpe_find_cuts(cadp_bpe *b);
CAD_CHECKED cad_status cadp_ids_room(cad_ids *ids, int64_t more);

/* ---- WordPiece (wordpiece.c) ---- */

typedef struct cadp_wordpiece { const cadp_vocab *vocab; char *prefix; size_t prefix_size; int64_t longest_word; int32_t unknown; } cadp_wordpiece;
CAD_CHECKED cad_status cadp_wordpiece_encode(const cadp_wordpiece *w, cad_str *work, const char *word, size_t n, cad_ids *ids);
#endif
