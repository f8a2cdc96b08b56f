/* SentencePiece's unigram model: of all ways to cut a word into pieces the one of the highest sum of scores. */
#include "text_priv.h"

enum { UNKNOWN_PENALTY = 10 }; /* below the lowest score, as in the tokenizers library */

static cad_status note(cadp_reach *to, double score, int32_t id, size_t from)
{
    if (to->from < 0 || score > to->score) *to = (cadp_reach){score, id, (int32_t)from, 0};
    return CAD_OK;
}

/* Every piece that begins at `from`, and the unknown one for its first character when that is no piece. */
static cad_status reach_from(const cadp_unigram *u, cadp_reach *best, const char *word, size_t n, size_t from)
{
    uint32_t node = 0;
    size_t first;
    bool single = false;

    cadp_point(word + from, &first);
    for (size_t i = from; i < n && cadp_trie_step(&u->pieces, &node, word[i]); ++i) {
        int32_t id = u->pieces.token[node];
        if (id < 0) continue;
        single |= i + 1 == from + first;
        CAD_TRY(note(&best[i + 1], u->score[id] + best[from].score, id, from));
    }
    return single ? CAD_OK : note(&best[from + first], u->unknown_score + best[from].score, u->unknown, from);
}

static cad_status add_id(cad_ids *ids, int32_t id)
{
    CAD_TRY(cadp_ids_room(ids, 1));
    ids->data[ids->count++] = id;
    return CAD_OK;
}

/* Neighbouring unknown pieces are one text: a piece after all, its bytes, or the unknown token. */
static cad_status add_unknown(const cadp_unigram *u, const char *text, size_t n, cad_ids *ids)
{
    int32_t id = cadp_vocab_find(u->vocab, text, n);
    bool bytes = u->fallback && id < 0;

    for (size_t i = 0; i < n && bytes; ++i) bytes = u->byte[(unsigned char)text[i]] >= 0;
    for (size_t i = 0; i < n && bytes; ++i) CAD_TRY(add_id(ids, u->byte[(unsigned char)text[i]]));
    if (bytes) return CAD_OK;
    if (id < 0) id = u->unknown;
    return id >= 0 ? add_id(ids, id) : cad_fail(CAD_EDATA, "a text has a character that the tokenizer has no token for");
}

/* The way back leaves its cuts in the front of `best`, which it has passed. */
static cad_status add_cuts(const cadp_unigram *u, cadp_reach *best, const char *word, size_t n, cad_ids *ids)
{
    size_t to = n, cuts = n + 1;

    for (; to > 0; to = (size_t)best[to].from) best[--cuts].next = (int32_t)to;
    for (size_t i = cuts, from = 0; i <= n; ++i) {
        size_t end = (size_t)best[i].next;
        if (best[end].id != u->unknown) CAD_TRY(add_id(ids, best[end].id));
        else {
            while (i < n && best[best[i + 1].next].id == u->unknown) end = (size_t)best[++i].next;
            CAD_TRY(add_unknown(u, word + from, end - from, ids));
        }
        from = end;
    }
    return CAD_OK;
}

cad_status cadp_unigram_encode(const cadp_unigram *u, cadp_scratch *s, const char *word, size_t n, cad_ids *ids)
{
    size_t bytes;

    if (n + 1 > s->reach_room) {
        s->reach_room = 0;
        CAD_TRY(cad_grow(&s->reach, n + 1, sizeof *s->reach, "a word"));
        s->reach_room = n + 1;
    }
    for (size_t i = 0; i <= n; ++i) s->reach[i] = (cadp_reach){0, CADP_NO_TOKEN, -1, 0};
    for (size_t from = 0; from < n; from += bytes) {
        cadp_point(word + from, &bytes);
        CAD_TRY(reach_from(u, s->reach, word, n, from));
    }
    return add_cuts(u, s->reach, word, n, ids);
}

/* ---- loading ---- */

static cad_status piece_of(const cad_tree *tree, const cad_node *n, const cad_node **text, double *score)
{
    const cad_node *second = n->kind == CAD_LIST && n->children == 2 ? n->child->next : NULL;

    if (!second || n->child->kind != CAD_STRING || (second->kind != CAD_REAL && second->kind != CAD_INT) || !(second->real > -1e300 && second->real < 1e300))
        return cad_fail(CAD_EMODEL, "%s:%d:%d: expected a piece and its score, found another value", tree->path, n->line, n->column);
    *text = n->child;
    *score = second->real;
    return CAD_OK;
}

static cad_status read_pieces(cad_tokenizer *t, const cad_tree *tree, const cad_node *vocab, cadp_trie_entry *entries, size_t *count)
{
    double least = 0, score = 0;
    const cad_node *text = NULL;
    int32_t id = 0;
    bool added;

    for (const cad_node *n = vocab->child; n; n = n->next, ++id) {
        CAD_TRY(piece_of(tree, n, &text, &score));
        CAD_TRY(cadp_vocab_add(&t->vocab, id, text->text, text->size, &added));
        if (!added) return cad_fail(CAD_EMODEL, "%s:%d:%d: expected pieces that differ, found one once more", tree->path, n->line, n->column);
        t->unigram.score[id] = score;
        if (!id || score < least) least = score;
        if (text->size) entries[(*count)++] = (cadp_trie_entry){text->text, text->size, id};
    }
    t->unigram.unknown_score = least - UNKNOWN_PENALTY;
    return CAD_OK;
}

cad_status cadp_load_unigram(cad_tokenizer *t, const cad_tree *tree, const cad_node *model)
{
    const cad_node *vocab = cad_get(model, "vocab");
    cadp_trie_entry *entries;
    size_t count = 0;
    int64_t unknown;
    cad_status status;

    if (!vocab || vocab->kind != CAD_LIST || !vocab->children || vocab->children >= CADP_MOST_IDS) return cadp_unexpected(tree, model, "model", "vocab", "a list of pieces");
    if (!cad_get_int(model, "unk_id", &unknown, CADP_NO_TOKEN) || unknown < CADP_NO_TOKEN || unknown >= vocab->children) return cadp_unexpected(tree, model, "model", "unk_id", "an id");
    CAD_TRY(cadp_want_bool(tree, model, "model", "byte_fallback", false, &t->unigram.fallback));
    CAD_TRY(cadp_vocab_open(&t->vocab, vocab->children, (size_t)vocab->children));
    CAD_TRY(cad_alloc(&t->unigram.score, (size_t)vocab->children, sizeof *t->unigram.score, "scores"));
    CAD_TRY(cad_alloc(&entries, (size_t)vocab->children, sizeof *entries, "pieces"));
    if (!(status = read_pieces(t, tree, vocab, entries, &count))) status = cadp_trie_open(&t->unigram.pieces, entries, count, tree->path);
    cad_free(&entries);
    t->unigram.unknown = (int32_t)unknown;
    t->unigram.vocab = &t->vocab;
    for (int i = 0; i < 256 && !status; ++i) {
        cad_str text = {0};
        if (!(status = cad_str_addf(&text, "<0x%02X>", (unsigned)i))) t->unigram.byte[i] = cadp_vocab_find(&t->vocab, text.data, text.size);
        cad_str_close(&text);
    }
    return status;
}
