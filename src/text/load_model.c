#include "text_priv.h"
#include <stdio.h>

static bool identity(uint32_t c) { return (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255); }

/* ByteLevel's alphabet: printable bytes stand for themselves, the other 68 follow U+0100 in order. */
int cadp_byte_of(uint32_t point)
{
    uint32_t k = point - 0x100;

    if (point < 0x100) return identity(point) ? (int)point : -1;
    if (k < 33) return (int)k;
    if (k < 67) return (int)(127 + k - 33);
    return k == 67 ? 173 : -1;
}

uint32_t cadp_point_of(uint8_t byte)
{
    if (identity(byte)) return byte;
    return 0x100u + (byte < 33 ? byte : byte < 161 ? byte - 127u + 33u : 67u);
}

cad_status cadp_raw_bytes(const char *s, size_t n, cad_str *out, bool *all)
{
    *all = true;
    for (size_t i = 0, bytes; i < n; i += bytes) {
        int byte = cadp_byte_of(cadp_point(s + i, &bytes));
        *all = byte >= 0;
        if (!*all) return CAD_OK;
        CAD_TRY(cad_str_add(out, &(char){(char)byte}, 1));
    }
    return CAD_OK;
}

static cad_status load_vocab(cad_tokenizer *t, const cad_tree *tree, const cad_node *model)
{
    const cad_node *vocab = cad_get(model, "vocab");
    int64_t most = -1;
    bool added;

    if (!vocab || vocab->kind != CAD_TABLE || !vocab->children) return cadp_unexpected(tree, model, "model", "vocab", "a table of tokens");
    for (const cad_node *n = vocab->child; n; n = n->next) {
        if (n->kind != CAD_INT || n->integer < 0 || n->integer >= CADP_MOST_IDS)
            return cad_fail(CAD_EMODEL, "%s:%d:%d: expected an id from 0 to %d for \"%s\", found %s", tree->path, n->line, n->column, CADP_MOST_IDS - 1,
                            n->key, n->kind == CAD_INT ? "another number" : cad_kind_name(n->kind));
        most = cad_max(most, n->integer);
    }
    CAD_TRY(cadp_vocab_open(&t->vocab, (int32_t)most + 1, (size_t)vocab->children));
    for (const cad_node *n = vocab->child; n; n = n->next) {
        CAD_TRY(cadp_vocab_add(&t->vocab, (int32_t)n->integer, n->key, (size_t)n->key_size, &added));
        if (!added)
            return cad_fail(CAD_EMODEL, "%s:%d:%d: expected an id of its own for \"%s\", found %lld once more", tree->path, n->line, n->column, n->key,
                            (long long)n->integer);
    }
    return CAD_OK;
}

/* "a b" or ["a", "b"]. */
static bool merge_parts(const cad_node *n, const char *part[2], size_t size[2])
{
    const char *space;

    if (n->kind == CAD_LIST && n->children == 2 && n->child->kind == CAD_STRING && n->child->next->kind == CAD_STRING) {
        for (int i = 0; i < 2; ++i) {
            const cad_node *p = i ? n->child->next : n->child;
            part[i] = p->text;
            size[i] = p->size;
        }
        return size[0] && size[1];
    }
    if (n->kind != CAD_STRING || !(space = memchr(n->text, ' ', n->size))) return false;
    part[0] = n->text;
    size[0] = (size_t)(space - n->text);
    part[1] = space + 1;
    size[1] = n->size - size[0] - 1;
    return size[0] && size[1] && !memchr(part[1], ' ', size[1]);
}

static cad_status add_merge(cad_tokenizer *t, const cad_tree *tree, const cad_node *n, uint32_t rank, cad_str *joined)
{
    const char *part[2];
    size_t size[2];
    int32_t id[3];

    if (!merge_parts(n, part, size)) return cad_fail(CAD_EMODEL, "%s:%d:%d: expected a merge of two tokens", tree->path, n->line, n->column);
    joined->size = 0;
    for (int i = 0; i < 2; ++i) {
        id[i] = cadp_vocab_find(&t->vocab, part[i], size[i]);
        CAD_TRY(cad_str_add(joined, part[i], size[i]));
    }
    id[2] = cadp_vocab_find(&t->vocab, joined->data, joined->size);
    if (id[0] < 0 || id[1] < 0 || id[2] < 0)
        return cad_fail(CAD_EMODEL, "%s:%d:%d: expected a merge of tokens of the vocabulary, found \"%.*s\", which is none", tree->path, n->line, n->column,
                        id[0] < 0 ? (int)size[0] : id[1] < 0 ? (int)size[1] : (int)joined->size, id[0] < 0 ? part[0] : id[1] < 0 ? part[1] : joined->data);
    cadp_merges_set(&t->bpe.merges, (cadp_merge){id[0], id[1], id[2], rank});
    return CAD_OK;
}

static cad_status load_merges(cad_tokenizer *t, const cad_tree *tree, const cad_node *model)
{
    const cad_node *merges = cad_get(model, "merges");
    cad_str joined = {0};
    cad_status status = CAD_OK;
    uint32_t rank = 0;

    if (!merges || merges->kind != CAD_LIST) return cadp_unexpected(tree, model, "model", "merges", "a list of merges");
    CAD_TRY(cadp_merges_open(&t->bpe.merges, (size_t)merges->children));
    for (const cad_node *n = merges->child; n && !status; n = n->next) status = add_merge(t, tree, n, rank++, &joined);
    cad_str_close(&joined);
    return status;
}

static cad_status load_raw(cad_tokenizer *t)
{
    cad_str raw = {0};
    cad_status status = cadp_vocab_open(&t->raw, t->vocab.ids, (size_t)t->vocab.ids);

    for (int32_t id = 0; !status && id < t->vocab.ids; ++id) {
        const cadp_token *k = &t->vocab.token[id];
        bool all = false, added;
        raw.size = 0;
        if (k->there) status = cadp_raw_bytes(t->vocab.bytes.data + k->at, k->size, &raw, &all);
        if (!status && all) status = cadp_vocab_add(&t->raw, id, raw.data ? raw.data : "", raw.size, &added);
    }
    cad_str_close(&raw);
    return status;
}

static void find_bytes(cad_tokenizer *t)
{
    char code[8];

    for (int i = 0; i < 256; ++i) {
        size_t n = t->bytes ? cadp_utf8(code, cadp_point_of((uint8_t)i)) : (size_t)snprintf(code, sizeof code, "<0x%02X>", (unsigned)i);
        t->bpe.byte[i] = cadp_vocab_find(&t->vocab, code, n);
    }
}

static cad_status unknown_token(cad_tokenizer *t, const cad_tree *tree, const cad_node *model, const char *otherwise, int32_t *id)
{
    const char *unknown;

    *id = CADP_NO_TOKEN;
    if (!cad_get_string(model, "unk_token", &unknown, otherwise)) return cadp_unexpected(tree, model, "model", "unk_token", "a string");
    if (!unknown) return CAD_OK;
    *id = cadp_vocab_find(&t->vocab, unknown, strlen(unknown));
    return *id >= 0 ? CAD_OK : cad_fail(CAD_EMODEL, "%s: expected unk_token \"%s\" in the vocabulary", tree->path, unknown);
}

static cad_status refuse_affix(const cad_tree *tree, const cad_node *model, const char *key)
{
    const char *affix;

    if (!cad_get_string(model, key, &affix, "")) return cadp_unexpected(tree, model, "model", key, "a string");
    return *affix ? cadp_not_implemented(tree, cad_get(model, key), "model", key) : CAD_OK;
}

static cad_status load_bpe(cad_tokenizer *t, const cad_tree *tree, const cad_node *model)
{
    double dropout;
    bool ignore_merges;

    if (!cad_get_real(model, "dropout", &dropout, 0)) return cadp_unexpected(tree, model, "model", "dropout", "a number");
    if (dropout != 0) return cadp_not_implemented(tree, cad_get(model, "dropout"), "model", "dropout");
    CAD_TRY(refuse_affix(tree, model, "continuing_subword_prefix"));
    CAD_TRY(refuse_affix(tree, model, "end_of_word_suffix"));
    CAD_TRY(cadp_want_bool(tree, model, "model", "fuse_unk", false, &t->bpe.fuse_unknown));
    CAD_TRY(cadp_want_bool(tree, model, "model", "byte_fallback", false, &t->bpe.fallback));
    CAD_TRY(cadp_want_bool(tree, model, "model", "ignore_merges", false, &ignore_merges));
    CAD_TRY(load_merges(t, tree, model));
    CAD_TRY(unknown_token(t, tree, model, NULL, &t->bpe.unknown));
    t->bpe.vocab = &t->vocab;
    t->bpe.bytes = t->bytes;
    if (t->bytes && t->bpe.fallback) return cadp_not_implemented(tree, model, "model", "byte_fallback with ByteLevel");
    if (ignore_merges && t->bytes) CAD_TRY(load_raw(t));
    if (ignore_merges) t->bpe.whole = t->bytes ? &t->raw : &t->vocab;
    find_bytes(t);
    return cadp_bpe_find_cuts(&t->bpe);
}

static cad_status load_wordpiece(cad_tokenizer *t, const cad_tree *tree, const cad_node *model)
{
    const char *prefix;

    if (!cad_get_string(model, "continuing_subword_prefix", &prefix, "##"))
        return cadp_unexpected(tree, model, "model", "continuing_subword_prefix", "a string");
    if (!cad_get_int(model, "max_input_chars_per_word", &t->wordpiece.longest_word, 100) || t->wordpiece.longest_word < 0)
        return cadp_unexpected(tree, model, "model", "max_input_chars_per_word", "a whole number");
    t->wordpiece.longest_word = cad_min(t->wordpiece.longest_word, 100000);
    CAD_TRY(unknown_token(t, tree, model, "[UNK]", &t->wordpiece.unknown));
    CAD_TRY(cad_strdup(&t->wordpiece.prefix, prefix));
    t->wordpiece.prefix_size = strlen(prefix);
    t->wordpiece.vocab = &t->vocab;
    return CAD_OK;
}

/* After cadp_load_steps, which says whether words come as bytes. */
cad_status cadp_load_model(cad_tokenizer *t, const cad_tree *tree)
{
    const cad_node *model = cad_get(tree->root, "model");
    const char *type;

    if (!model || model->kind != CAD_TABLE) return cadp_unexpected(tree, tree->root, "tokenizer", "model", "a table");
    if (!cad_get_string(model, "type", &type, cad_get(model, "merges") ? "BPE" : "WordPiece")) return cadp_unexpected(tree, model, "model", "type", "a string");
    if (!strcmp(type, "Unigram")) {
        t->model = CADP_UNIGRAM;
        return t->bytes ? cadp_not_implemented(tree, model, "model", "Unigram with ByteLevel") : cadp_load_unigram(t, tree, model);
    }
    if (strcmp(type, "BPE") && strcmp(type, "WordPiece")) return cadp_not_implemented(tree, model, "model", type);
    CAD_TRY(load_vocab(t, tree, model));
    t->model = strcmp(type, "BPE") ? CADP_WORDPIECE : CADP_BPE;
    if (t->model == CADP_WORDPIECE && t->bytes) return cadp_not_implemented(tree, model, "model", "WordPiece with ByteLevel");
    return t->model == CADP_BPE ? load_bpe(t, tree, model) : load_wordpiece(t, tree, model);
}
