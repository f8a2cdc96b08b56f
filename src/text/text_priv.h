/* What tokenizer.json says, ready to run. */
#ifndef CADTRAIN_TEXT_PRIV_H
#define CADTRAIN_TEXT_PRIV_H
#include "split.h"
#include "vocab.h"
#include <cadtrain/format.h>
#include <pthread.h>

enum { CADP_MOST_STEPS = 16 };

/* ---- normalizers (normal.c, clean_words.c) ---- */

typedef enum cadp_normal_kind { CADP_NORMAL_NFC, CADP_NORMAL_PREPEND, CADP_NORMAL_REPLACE, CADP_NORMAL_WORDS, CADP_NORMAL_CHARSMAP } cadp_normal_kind;
typedef struct cadp_normal {
    cadp_normal_kind kind;
    char *from, *to; /* PREPEND: to; REPLACE: both; CHARSMAP: the table and its texts */
    size_t from_size, to_size;
    bool clean, chinese, strip_accents, lowercase;
} cadp_normal;

/* ---- pre-tokenizers (pre.c) ---- */

typedef enum cadp_pre_kind { CADP_PRE_SPLIT, CADP_PRE_BYTES, CADP_PRE_METASPACE, CADP_PRE_WORDS } cadp_pre_kind;
typedef enum cadp_prepend { CADP_PREPEND_NEVER, CADP_PREPEND_FIRST, CADP_PREPEND_ALWAYS } cadp_prepend;
typedef struct cadp_pre {
    cadp_pre_kind kind;
    cadp_splitter splitter;  /* SPLIT; BYTES with use_regex; METASPACE that splits */
    bool splits;
    cadp_prepend prepend;    /* METASPACE; BYTES: ALWAYS is add_prefix_space */
    char replacement[5];     /* METASPACE */
} cadp_pre;

/* ---- decoders (decode.c) ---- */

typedef enum cadp_decode_kind {
    CADP_DECODE_BYTES, CADP_DECODE_REPLACE, CADP_DECODE_FALLBACK, CADP_DECODE_FUSE, CADP_DECODE_STRIP, CADP_DECODE_METASPACE, CADP_DECODE_WORDPIECE
} cadp_decode_kind;
typedef struct cadp_decode {
    cadp_decode_kind kind;
    char *from, *to;         /* REPLACE: both; STRIP: from is the character; WORDPIECE: from is the prefix; METASPACE: from */
    size_t from_size, to_size;
    int64_t start, stop;     /* STRIP */
    bool flag;               /* WORDPIECE: cleanup; METASPACE: the first replacement vanishes */
} cadp_decode;

/* ---- added tokens (added.c) ---- */

typedef struct cadp_added {
    char *content, *shown; /* shown: after the normalizer when `normalized` */
    size_t size, shown_size;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
    bool skipped;          /* by decode */
} cadp_added;
/* A trie whose edges (node, byte) -> node sit in one hash table. */
typedef struct cadp_trie {
    uint64_t *edge;      /* (node << 8 | byte) + 1; 0: empty */
    uint32_t *target;
    uint32_t mask, nodes;
    int32_t *token;      /* by node: index of the added token that ends here, or -1 */
    bool first[256];
    int only;            /* the one first byte, or -1 */
    bool any;
} cadp_trie;
/* One byte on; false: no entry goes on so. */
bool cadp_trie_step(const cadp_trie *t, uint32_t *node, char byte);
typedef struct cadp_trie_entry { const char *text; size_t size; int32_t token; } cadp_trie_entry;
CAD_CHECKED cad_status cadp_trie_open(cadp_trie *t, const cadp_trie_entry *entries, size_t count, const char *where);
void cadp_trie_close(cadp_trie *t);

/* ---- unigram (unigram.c) ---- */

typedef struct cadp_reach { double score; int32_t id, from, next; } cadp_reach; /* the best way to a place of a word; next: cuts on the way back */
typedef struct cadp_unigram {
    const cadp_vocab *vocab;
    cadp_trie pieces;
    double *score, unknown_score;
    int32_t unknown, byte[256];
    bool fallback;
} cadp_unigram;

/* ---- the tokenizer ---- */

typedef struct cadp_scratch {
    struct cadp_scratch *next;
    cadp_bpe_work bpe;
    cadp_points points;
    cad_str text[2], word, parts[2];      /* pieces while they are rewritten; WordPiece's look-up */
    cadp_spans spans[2], matches;
    cadp_matcher *matcher[CADP_MOST_STEPS];
    cadp_reach *reach;
    size_t reach_room;
} cadp_scratch;

typedef enum cadp_model { CADP_BPE, CADP_WORDPIECE, CADP_UNIGRAM } cadp_model;
struct cad_tokenizer {
    char *path;
    cadp_unicode *unicode;
    cadp_vocab vocab;                     /* the model's */
    cadp_vocab raw;                       /* ByteLevel: the same with raw bytes */
    cadp_model model;
    cadp_bpe bpe;
    cadp_wordpiece wordpiece;
    cadp_unigram unigram;
    cadp_normal normal[CADP_MOST_STEPS];
    cadp_pre pre[CADP_MOST_STEPS];
    cadp_decode decode[CADP_MOST_STEPS];
    int normals, pres, decodes;
    bool bytes, decoder;                  /* a ByteLevel pre-tokenizer; the file has a decoder */
    cadp_added *added;
    int32_t *added_of;                    /* by id: index into added, or -1 */
    int32_t addeds, size;                 /* size: largest id + 1 */
    cadp_trie raw_trie, normal_trie;      /* added tokens looked for before and after normalisation */
    cad_ids before, after;                /* special tokens around a text */
    int32_t pad;
    char digest[65];
    pthread_mutex_t lock;                 /* of `idle` */
    cadp_scratch *idle;
};

CAD_CHECKED cad_status cadp_scratch_take(const cad_tokenizer *t, cadp_scratch **out);
void cadp_scratch_give(const cad_tokenizer *t, cadp_scratch *s);
void cadp_scratch_close(cadp_scratch **s);

/* The normalised piece: the argument itself or one of s->text. */
typedef struct cadp_piece { const char *text; size_t size; bool first; } cadp_piece; /* first: starts where the whole text starts */
CAD_CHECKED cad_status cadp_normalize(const cad_tokenizer *t, cadp_scratch *s, cadp_piece *p);
/* BertNormalizer from text into `out`. */
CAD_CHECKED cad_status cadp_words_normalize(const cadp_normal *n, const cadp_unicode *u, cadp_points *work, const char *text, size_t size, cad_str *out);
/* Precompiled from text into `out`; its base64 text into a step. */
CAD_CHECKED cad_status cadp_charsmap_normalize(const cadp_normal *map, const char *text, size_t n, cad_str *out);
CAD_CHECKED cad_status cadp_charsmap_load(cadp_normal *s, const char *text, size_t n, const char *where);
CAD_CHECKED cad_status cadp_unigram_encode(const cadp_unigram *u, cadp_scratch *s, const char *word, size_t n, cad_ids *ids);
CAD_CHECKED cad_status cadp_words_split(const char *text, cadp_span in, cadp_spans *out);
/* Words of a piece into s->spans[*which], relative to p->text, which may move into one of s->parts. */
CAD_CHECKED cad_status cadp_pretokenize(const cad_tokenizer *t, cadp_scratch *s, cadp_piece *p, int *which);
/* The added token found first at or after `from`; *found says whether there is one. */
typedef struct cadp_hit { size_t from, to; int32_t token; } cadp_hit;
bool cadp_trie_find(const cadp_trie *t, const char *text, size_t n, size_t from, cadp_hit *hit);

/* Appends special tokens' room, text, special tokens: as cad_tokenizer_encode_cut with a scratch at hand. */
CAD_CHECKED cad_status cadp_encode(const cad_tokenizer *t, cadp_scratch *s, const char *text, size_t n, bool special, int64_t longest, bool keep_left,
                                   cad_ids *ids, bool *cut);

/* ---- loading ---- */

/* "PATH:line:column: expected WHAT, found …" */
cad_status cadp_unexpected(const cad_tree *tree, const cad_node *at, const char *parent, const char *key, const char *what);
CAD_CHECKED cad_status cadp_want_text(const cad_tree *tree, const cad_node *table, const char *part, const char *key, const char **text, size_t *size);
CAD_CHECKED cad_status cadp_want_bool(const cad_tree *tree, const cad_node *table, const char *part, const char *key, bool otherwise, bool *out);
cad_status cadp_not_implemented(const cad_tree *tree, const cad_node *at, const char *part, const char *what);
CAD_CHECKED cad_status cadp_load_model(cad_tokenizer *t, const cad_tree *tree);   /* load_model.c */
CAD_CHECKED cad_status cadp_load_unigram(cad_tokenizer *t, const cad_tree *tree, const cad_node *model); /* unigram.c */
CAD_CHECKED cad_status cadp_load_steps(cad_tokenizer *t, const cad_tree *tree);   /* load_steps.c: normalizer, pre_tokenizer, decoder */
CAD_CHECKED cad_status cadp_load_added(cad_tokenizer *t, const cad_tree *tree);   /* load_added.c */
CAD_CHECKED cad_status cadp_load_template(cad_tokenizer *t, const cad_tree *tree); /* load_added.c: post_processor */
CAD_CHECKED cad_status cadp_load_config(cad_tokenizer *t, const cad_tree *config, bool made); /* tokenizer_config.json; made: its flags are in the template already */
/* A tokenizer from the bytes of a tokenizer.json (without digest). */
CAD_CHECKED cad_status cadp_tokenizer_parse(cad_tokenizer **out, const char *text, size_t n, const char *path);
/* The byte that ByteLevel writes as this code point, or -1; and the reverse. */
int cadp_byte_of(uint32_t point);
uint32_t cadp_point_of(uint8_t byte);
/* Bytes of a string written by ByteLevel; false when it has a character that stands for no byte. */
CAD_CHECKED cad_status cadp_raw_bytes(const char *s, size_t n, cad_str *out, bool *all);
/* The id of a token, added ones first. */
int32_t cadp_token_id(const cad_tokenizer *t, const char *s, size_t n);
#endif
