#include "text_priv.h"
#include <stdio.h>

cad_status cadp_unexpected(const cad_tree *tree, const cad_node *at, const char *parent, const char *key, const char *what)
{
    const cad_node *found = cad_get(at, key);

    if (found) at = found;
    return cad_fail(CAD_EMODEL, "%s:%d:%d: expected %s in %s.%s, found %s", tree->path, at->line, at->column, what, parent, key,
                    found ? cad_kind_name(found->kind) : "nothing");
}

cad_status cadp_not_implemented(const cad_tree *tree, const cad_node *at, const char *part, const char *what)
{
    return cad_fail(CAD_EMODEL, "%s:%d:%d: expected a known %s, found %s, which is not implemented", tree->path, at->line, at->column, part, what);
}

cad_status cadp_want_text(const cad_tree *tree, const cad_node *table, const char *part, const char *key, const char **text, size_t *size)
{
    const cad_node *n = cad_get(table, key);

    *text = "";
    *size = 0;
    if (!n || n->kind != CAD_STRING) return cadp_unexpected(tree, table, part, key, "a string");
    *text = n->text;
    *size = n->size;
    return CAD_OK;
}

cad_status cadp_want_bool(const cad_tree *tree, const cad_node *table, const char *part, const char *key, bool otherwise, bool *out)
{
    return cad_get_bool(table, key, out, otherwise) ? CAD_OK : cadp_unexpected(tree, table, part, key, "true or false");
}

static cad_status copy(char **out, const char *s, size_t n)
{
    CAD_TRY(cad_alloc(out, n + 1, 1, "a string"));
    memcpy(*out, s, n);
    return CAD_OK;
}

/* {"String": s} or {"Regex": s}. */
static cad_status pattern(const cad_tree *tree, const cad_node *table, const char *part, bool *regex, const char **text, size_t *size)
{
    const cad_node *p = cad_get(table, "pattern");

    if (!p || p->kind != CAD_TABLE) return cadp_unexpected(tree, table, part, "pattern", "a table");
    *regex = cad_get(p, "Regex") != NULL;
    CAD_TRY(cadp_want_text(tree, p, part, *regex ? "Regex" : "String", text, size));
    return *size ? CAD_OK : cadp_not_implemented(tree, p, part, "an empty pattern");
}

static cad_status plain_pattern(const cad_tree *tree, const cad_node *table, const char *part, char **from, size_t *from_size, char **to, size_t *to_size)
{
    const char *text;
    bool regex;

    CAD_TRY(pattern(tree, table, part, &regex, &text, from_size));
    if (regex) return cadp_not_implemented(tree, table, part, "Replace with a regular expression");
    CAD_TRY(copy(from, text, *from_size));
    CAD_TRY(cadp_want_text(tree, table, part, "content", &text, to_size));
    return copy(to, text, *to_size);
}

static cad_status normalizer(cad_tokenizer *t, const cad_tree *tree, const cad_node *n, const char *type)
{
    cadp_normal *s = &t->normal[t->normals++];
    const char *text;

    if (!strcmp(type, "NFC")) s->kind = CADP_NORMAL_NFC;
    else if (!strcmp(type, "Precompiled")) {
        char where[256];
        size_t size;
        s->kind = CADP_NORMAL_CHARSMAP;
        snprintf(where, sizeof where, "%s:%d:%d", tree->path, n->line, n->column);
        CAD_TRY(cadp_want_text(tree, n, "normalizer", "precompiled_charsmap", &text, &size));
        return cadp_charsmap_load(s, text, size, where);
    }
    else if (!strcmp(type, "Prepend")) {
        s->kind = CADP_NORMAL_PREPEND;
        CAD_TRY(cadp_want_text(tree, n, "normalizer", "prepend", &text, &s->to_size));
        return copy(&s->to, text, s->to_size);
    } else if (!strcmp(type, "Replace")) {
        s->kind = CADP_NORMAL_REPLACE;
        return plain_pattern(tree, n, "normalizer", &s->from, &s->from_size, &s->to, &s->to_size);
    } else if (!strcmp(type, "BertNormalizer")) {
        s->kind = CADP_NORMAL_WORDS;
        CAD_TRY(cadp_want_bool(tree, n, "normalizer", "clean_text", true, &s->clean));
        CAD_TRY(cadp_want_bool(tree, n, "normalizer", "handle_chinese_chars", true, &s->chinese));
        CAD_TRY(cadp_want_bool(tree, n, "normalizer", "lowercase", true, &s->lowercase));
        return cadp_want_bool(tree, n, "normalizer", "strip_accents", s->lowercase, &s->strip_accents);
    } else return cadp_not_implemented(tree, n, "normalizer", type);
    return CAD_OK;
}

static cad_status gpt2_splitter(cadp_pre *s)
{
    s->splits = true;
    s->splitter = (cadp_splitter){.known = CADP_GPT2, .behavior = CADP_ISOLATED};
    return CAD_OK;
}

static cad_status split(cadp_pre *s, const cad_tree *tree, const cad_node *n)
{
    static const char *const behaviors[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *text, *behavior;
    char where[256];
    size_t size, ignored;
    bool regex;

    s->splits = true;
    CAD_TRY(pattern(tree, n, "pre_tokenizer", &regex, &text, &size));
    CAD_TRY(cadp_want_bool(tree, n, "pre_tokenizer", "invert", false, &s->splitter.invert));
    CAD_TRY(cadp_want_text(tree, n, "pre_tokenizer", "behavior", &behavior, &ignored));
    s->splitter.behavior = CADP_REMOVED;
    while (s->splitter.behavior <= CADP_CONTIGUOUS && strcmp(behavior, behaviors[s->splitter.behavior])) s->splitter.behavior++;
    if (s->splitter.behavior > CADP_CONTIGUOUS) return cadp_not_implemented(tree, n, "behavior of Split", behavior);
    if (!regex) {
        s->splitter.literal_size = size;
        return copy(&s->splitter.literal, text, size);
    }
    s->splitter.known = strlen(text) == size && s->splitter.behavior == CADP_ISOLATED ? cadp_known_pattern(text) : CADP_ANY;
    if (s->splitter.known) return CAD_OK;
    snprintf(where, sizeof where, "%s:%d:%d", tree->path, n->line, n->column);
    return cadp_regex_open(&s->splitter.regex, text, size, where);
}

static cad_status byte_level(cad_tokenizer *t, cadp_pre *s, const cad_tree *tree, const cad_node *n)
{
    bool prefix, regex;

    CAD_TRY(cadp_want_bool(tree, n, "pre_tokenizer", "add_prefix_space", true, &prefix));
    CAD_TRY(cadp_want_bool(tree, n, "pre_tokenizer", "use_regex", true, &regex));
    s->prepend = prefix ? CADP_PREPEND_ALWAYS : CADP_PREPEND_NEVER;
    t->bytes = true;
    return regex ? gpt2_splitter(s) : CAD_OK;
}

static cad_status metaspace(cadp_pre *s, const cad_tree *tree, const cad_node *n)
{
    const char *text, *scheme;
    bool prefix;
    size_t size, bytes = 0;

    CAD_TRY(cadp_want_text(tree, n, "pre_tokenizer", "replacement", &text, &size));
    if (size) cadp_point(text, &bytes);
    if (!size || bytes != size) return cadp_unexpected(tree, n, "pre_tokenizer", "replacement", "one character");
    memcpy(s->replacement, text, size);
    if (!cad_get_string(n, "prepend_scheme", &scheme, "always")) return cadp_unexpected(tree, n, "pre_tokenizer", "prepend_scheme", "a string");
    CAD_TRY(cadp_want_bool(tree, n, "pre_tokenizer", "add_prefix_space", true, &prefix));
    CAD_TRY(cadp_want_bool(tree, n, "pre_tokenizer", "split", true, &s->splits));
    if (!strcmp(scheme, "never") || !prefix) s->prepend = CADP_PREPEND_NEVER;
    else if (!strcmp(scheme, "first")) s->prepend = CADP_PREPEND_FIRST;
    else if (!strcmp(scheme, "always")) s->prepend = CADP_PREPEND_ALWAYS;
    else return cadp_not_implemented(tree, n, "prepend_scheme", scheme);
    s->splitter = (cadp_splitter){.literal_size = size, .behavior = CADP_WITH_NEXT};
    return copy(&s->splitter.literal, text, size);
}

static cad_status pre_tokenizer(cad_tokenizer *t, const cad_tree *tree, const cad_node *n, const char *type)
{
    cadp_pre *s = &t->pre[t->pres++];

    if (t->bytes) return cadp_not_implemented(tree, n, "pre_tokenizer", "a step behind ByteLevel");
    if (!strcmp(type, "Split")) return s->kind = CADP_PRE_SPLIT, split(s, tree, n);
    if (!strcmp(type, "ByteLevel")) return s->kind = CADP_PRE_BYTES, byte_level(t, s, tree, n);
    if (!strcmp(type, "Metaspace")) return s->kind = CADP_PRE_METASPACE, metaspace(s, tree, n);
    s->kind = CADP_PRE_WORDS;
    return strcmp(type, "BertPreTokenizer") ? cadp_not_implemented(tree, n, "pre_tokenizer", type) : CAD_OK;
}

static cad_status decode_metaspace(cadp_decode *s, const cad_tree *tree, const cad_node *n)
{
    cadp_pre as_pre = {0};
    cad_status status = metaspace(&as_pre, tree, n);

    s->kind = CADP_DECODE_METASPACE;
    s->flag = as_pre.prepend != CADP_PREPEND_NEVER;
    s->from = as_pre.splitter.literal;
    s->from_size = as_pre.splitter.literal_size;
    return status;
}

static cad_status decode_strip(cadp_decode *s, const cad_tree *tree, const cad_node *n)
{
    const char *text;

    s->kind = CADP_DECODE_STRIP;
    CAD_TRY(cadp_want_text(tree, n, "decoder", "content", &text, &s->from_size));
    if (!s->from_size) return cadp_unexpected(tree, n, "decoder", "content", "one character");
    if (!cad_get_int(n, "start", &s->start, 0)) return cadp_unexpected(tree, n, "decoder", "start", "a number");
    if (!cad_get_int(n, "stop", &s->stop, 0)) return cadp_unexpected(tree, n, "decoder", "stop", "a number");
    return copy(&s->from, text, s->from_size);
}

static cad_status decoder(cad_tokenizer *t, const cad_tree *tree, const cad_node *n, const char *type)
{
    cadp_decode *s = &t->decode[t->decodes++];
    const char *text;

    if (!strcmp(type, "ByteLevel")) s->kind = CADP_DECODE_BYTES;
    else if (!strcmp(type, "ByteFallback")) s->kind = CADP_DECODE_FALLBACK;
    else if (!strcmp(type, "Fuse")) s->kind = CADP_DECODE_FUSE;
    else if (!strcmp(type, "Strip")) return decode_strip(s, tree, n);
    else if (!strcmp(type, "Metaspace")) return decode_metaspace(s, tree, n);
    else if (!strcmp(type, "Replace")) {
        s->kind = CADP_DECODE_REPLACE;
        return plain_pattern(tree, n, "decoder", &s->from, &s->from_size, &s->to, &s->to_size);
    } else if (!strcmp(type, "WordPiece")) {
        s->kind = CADP_DECODE_WORDPIECE;
        CAD_TRY(cadp_want_text(tree, n, "decoder", "prefix", &text, &s->from_size));
        CAD_TRY(cadp_want_bool(tree, n, "decoder", "cleanup", true, &s->flag));
        return copy(&s->from, text, s->from_size);
    } else return cadp_not_implemented(tree, n, "decoder", type);
    return CAD_OK;
}

typedef cad_status (*reader)(cad_tokenizer *, const cad_tree *, const cad_node *, const char *type);

static cad_status one_step(cad_tokenizer *t, const cad_tree *tree, const cad_node *n, const char *part, reader read, int *count)
{
    const char *type;
    size_t size;

    if (n->kind != CAD_TABLE)
        return cad_fail(CAD_EMODEL, "%s:%d:%d: expected a table in %s, found %s", tree->path, n->line, n->column, part, cad_kind_name(n->kind));
    CAD_TRY(cadp_want_text(tree, n, part, "type", &type, &size));
    if (*count == CADP_MOST_STEPS) return cadp_not_implemented(tree, n, part, "a longer sequence");
    return read(t, tree, n, type);
}

/* A step, or a Sequence of steps (not of sequences). */
static cad_status steps(cad_tokenizer *t, const cad_tree *tree, const char *part, const char *list, reader read, int *count)
{
    const cad_node *n = cad_get(tree->root, part), *inner;
    const char *type;

    if (!n || n->kind == CAD_NULL) return CAD_OK;
    if (!cad_get_string(n, "type", &type, "") || strcmp(type, "Sequence")) return one_step(t, tree, n, part, read, count);
    inner = cad_get(n, list);
    if (!inner || inner->kind != CAD_LIST) return cadp_unexpected(tree, n, part, list, "a list");
    for (const cad_node *i = inner->child; i; i = i->next) CAD_TRY(one_step(t, tree, i, part, read, count));
    return CAD_OK;
}

cad_status cadp_load_steps(cad_tokenizer *t, const cad_tree *tree)
{
    const cad_node *d = cad_get(tree->root, "decoder");

    t->decoder = d && d->kind != CAD_NULL;
    CAD_TRY(steps(t, tree, "normalizer", "normalizers", normalizer, &t->normals));
    CAD_TRY(steps(t, tree, "pre_tokenizer", "pretokenizers", pre_tokenizer, &t->pres));
    return steps(t, tree, "decoder", "decoders", decoder, &t->decodes);
}
