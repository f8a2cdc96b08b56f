#include "make.h"

#include <math.h>
#include <stdlib.h>

cad_status cadp_lexicon_open(cadp_lexicon *l, const char *path, int64_t count)
{
    *l = (cadp_lexicon){.path = path, .count = count};
    CAD_TRY(cad_alloc(&l->item, (size_t)count, sizeof *l->item, "a vocabulary"));
    return cad_map_open(&l->ids);
}

void cadp_lexicon_close(cadp_lexicon *l)
{
    cad_free(&l->item);
    cad_map_close(&l->ids);
}

cad_status cadp_lexicon_index(cadp_lexicon *l)
{
    int64_t before;

    for (int64_t i = 0; i < l->count; i++) {
        const cadp_lexeme *p = &l->item[i];
        if (!cad_utf8_valid(p->text, p->size, NULL)) return cad_fail(CAD_EMODEL, "%s: expected token %lld in UTF-8, found other bytes", l->path, (long long)i);
        if (!isfinite(p->score)) return cad_fail(CAD_EMODEL, "%s: expected a finite score of token %lld, found another", l->path, (long long)i);
        if (cad_map_get(l->ids, p->text, p->size, &before)) l->item[before].twice = true;
        CAD_TRY(cad_map_set(l->ids, p->text, p->size, i, NULL));
    }
    return CAD_OK;
}

static cad_status add(cad_str *out, const char *s) { return cad_str_add(out, s, strlen(s)); }

cad_status cadp_make_quoted(cad_str *out, const char *s, size_t n)
{
    CAD_TRY(add(out, "\""));
    for (size_t i = 0, from = 0; i <= n; i++) {
        bool plain = i < n && (unsigned char)s[i] >= 0x20 && s[i] != '"' && s[i] != '\\';
        if (plain) continue;
        CAD_TRY(cad_str_add(out, s + from, i - from));
        if (i < n) CAD_TRY(cad_str_addf(out, "\\u%04x", (unsigned char)s[i]));
        from = i + 1;
    }
    return add(out, "\"");
}

/* ---- added tokens ---- */

typedef struct extra { int64_t id; const char *text; size_t size; const cad_node *flags; bool special; } extra;
typedef struct extras { extra *at; int64_t count; } extras;

enum { NAMED = 7 };

static int by_id(const void *a, const void *b)
{
    const extra *x = a, *y = b;

    return (x->id > y->id) - (x->id < y->id);
}

/* {"32000": {"content": …}}; an entry that is none of this is passed over. */
static extra from_decoder(const cad_node *n)
{
    const cad_node *content = cad_get(n, "content");
    char *end;
    long id = strtol(n->key, &end, 10);

    if (end == n->key || *end || id < 0 || !content || content->kind != CAD_STRING) return (extra){.id = -1};
    return (extra){id, content->text, content->size, n, false};
}

/* {"[PAD]": 32000} */
static extra from_list(const cad_node *n)
{
    if (n->kind != CAD_INT || n->integer < 0) return (extra){.id = -1};
    return (extra){n->integer, n->key, (size_t)n->key_size, NULL, false};
}

static bool is_extra(const extras *x, const cad_node *text)
{
    for (int64_t i = 0; i < x->count; i++)
        if (x->at[i].size == text->size && !memcmp(x->at[i].text, text->text, text->size)) return true;
    return false;
}

/* Special tokens that tokenizer_config.json names and nothing holds come behind everything else. */
static void add_named(const cadp_lexicon *l, const cad_tree *config, extras *out)
{
    static const char *const keys[NAMED] = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
    int64_t next = l->count;

    if (out->count) next = cad_max(next, out->at[out->count - 1].id + 1);
    for (int i = 0; i < NAMED; i++) {
        const cad_node *n = cadp_config_content(config, keys[i]);
        if (n && n->size && !cad_map_get(l->ids, n->text, n->size, NULL) && !is_extra(out, n)) out->at[out->count++] = (extra){next++, n->text, n->size, NULL, true};
    }
}

static cad_status find_extras(const cadp_lexicon *l, const cad_tree *config, const cad_tree *more, extras *out)
{
    const cad_node *decoder = config ? cad_get(config->root, "added_tokens_decoder") : NULL, *list = decoder ? decoder : more ? more->root : NULL;
    bool any = list && list->kind == CAD_TABLE;

    CAD_TRY(cad_alloc(&out->at, (size_t)(any ? list->children : 0) + NAMED, sizeof *out->at, "added tokens"));
    for (const cad_node *n = any ? list->child : NULL; n; n = n->next) {
        extra e = decoder ? from_decoder(n) : from_list(n);
        if (e.id >= 0 && e.size) out->at[out->count++] = e;
    }
    if (out->count) qsort(out->at, (size_t)out->count, sizeof *out->at, by_id);
    add_named(l, config, out);
    return CAD_OK;
}

static bool flag_of(const extra *e, const char *key, bool otherwise)
{
    bool value;

    return e && e->flags && cad_get_bool(e->flags, key, &value, otherwise) ? value : otherwise;
}

static cad_status put_added(int64_t id, const char *text, size_t size, const extra *e, bool special, bool *any, cad_str *out)
{
    static const char *const keys[] = {"single_word", "lstrip", "rstrip", "normalized"};

    special = flag_of(e, "special", special);
    CAD_TRY(cad_str_addf(out, "%s{\"id\": %lld, \"content\": ", *any ? ",\n" : "\n", (long long)id));
    CAD_TRY(cadp_make_quoted(out, text, size));
    for (int i = 0; i < 4; i++) CAD_TRY(cad_str_addf(out, ", \"%s\": %s", keys[i], flag_of(e, keys[i], e && i == 3 && !special) ? "true" : "false"));
    *any = true;
    return cad_str_addf(out, ", \"special\": %s}", special ? "true" : "false");
}

static const extra *find_extra(const extras *x, int64_t id)
{
    extra key = {.id = id};

    return x->count ? bsearch(&key, x->at, (size_t)x->count, sizeof key, by_id) : NULL;
}

static cad_status put_all_added(const cadp_lexicon *l, const extras *x, cad_str *out)
{
    bool any = false;

    for (int64_t i = 0; i < l->count; i++) {
        const cadp_lexeme *p = &l->item[i];
        const extra *e = find_extra(x, i);
        if (e && (e->size != p->size || memcmp(e->text, p->text, p->size))) e = NULL;
        if (p->twice || !p->size || (!e && p->kind != CADP_PIECE_CONTROL && p->kind != CADP_PIECE_USER)) continue;
        CAD_TRY(put_added(i, p->text, p->size, e, p->kind == CADP_PIECE_CONTROL, &any, out));
    }
    for (int64_t i = 0; i < x->count; i++)
        if (x->at[i].id >= l->count && !cad_map_get(l->ids, x->at[i].text, x->at[i].size, NULL))
            CAD_TRY(put_added(x->at[i].id, x->at[i].text, x->at[i].size, &x->at[i], x->at[i].special, &any, out));
    return CAD_OK;
}

cad_status cadp_make_added(const cadp_lexicon *l, const cad_tree *config, const cad_tree *more, cad_str *out)
{
    extras x = {0};
    cad_status status = find_extras(l, config, more, &x);

    if (!status) status = add(out, "\"added_tokens\": [");
    if (!status) status = put_all_added(l, &x, out);
    if (!status) status = add(out, "]");
    cad_free(&x.at);
    return status;
}

/* ---- vocabulary and template ---- */

cad_status cadp_make_vocab(const cadp_lexicon *l, cad_str *out)
{
    bool any = false;

    CAD_TRY(add(out, "\"vocab\": {"));
    for (int64_t i = 0; i < l->count; i++) {
        if (l->item[i].twice) continue;
        CAD_TRY(add(out, any ? ",\n" : "\n"));
        CAD_TRY(cadp_make_quoted(out, l->item[i].text, l->item[i].size));
        CAD_TRY(cad_str_addf(out, ": %lld", (long long)i));
        any = true;
    }
    return add(out, "}");
}

static cad_status special_part(const cadp_lexicon *l, int64_t id, int type, bool comma_before, bool comma_after, cad_str *out)
{
    if (id < 0) return CAD_OK;
    CAD_TRY(add(out, comma_before ? ", {\"SpecialToken\": {\"id\": " : "{\"SpecialToken\": {\"id\": "));
    CAD_TRY(cadp_make_quoted(out, l->item[id].text, l->item[id].size));
    return cad_str_addf(out, ", \"type_id\": %d}}%s", type, comma_after ? ", " : "");
}

static cad_status sequence_part(const cadp_lexicon *l, int64_t before, int64_t after, int type, cad_str *out)
{
    CAD_TRY(special_part(l, before, type, false, true, out));
    CAD_TRY(cad_str_addf(out, "{\"Sequence\": {\"id\": \"%c\", \"type_id\": %d}}", type ? 'B' : 'A', type));
    return special_part(l, after, type, true, false, out);
}

static cad_status special_ids(const cadp_lexicon *l, int64_t id, bool comma, cad_str *out)
{
    const cadp_lexeme *p = &l->item[id];

    CAD_TRY(add(out, comma ? ", " : ""));
    CAD_TRY(cadp_make_quoted(out, p->text, p->size));
    CAD_TRY(add(out, ": {\"id\": "));
    CAD_TRY(cadp_make_quoted(out, p->text, p->size));
    CAD_TRY(cad_str_addf(out, ", \"ids\": [%lld], \"tokens\": [", (long long)id));
    CAD_TRY(cadp_make_quoted(out, p->text, p->size));
    return add(out, "]}");
}

cad_status cadp_make_template(const cadp_lexicon *l, int64_t before, int64_t after, cad_str *out)
{
    if (before < 0 && after < 0) return add(out, "\"post_processor\": null");
    CAD_TRY(add(out, "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": ["));
    CAD_TRY(sequence_part(l, before, after, 0, out));
    CAD_TRY(add(out, "], \"pair\": ["));
    CAD_TRY(sequence_part(l, before, after, 0, out));
    CAD_TRY(add(out, ", "));
    CAD_TRY(sequence_part(l, before, after, 1, out));
    CAD_TRY(add(out, "], \"special_tokens\": {"));
    if (before >= 0) CAD_TRY(special_ids(l, before, false, out));
    if (after >= 0 && after != before) CAD_TRY(special_ids(l, after, before >= 0, out));
    return add(out, "}}");
}

#define BLOCK "\xE2\x96\x81"

cad_status cadp_make_spaces(cadp_lead lead, cad_str *out)
{
    static const char plain[] = "\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"" BLOCK "\"},\n"
                                "\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, \"behavior\": \"MergedWithPrevious\", \"invert\": false},\n";
    static const char pieces[] = "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"" BLOCK "\"}, "
                                 "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"" BLOCK "\"}]},\n\"pre_tokenizer\": null,\n";
    static const char decoder[] = "\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"" BLOCK "\"}, \"content\": \" \"}, "
                                  "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}";

    if (lead == CADP_LEAD_NONE) CAD_TRY(add(out, plain));
    else if (lead == CADP_LEAD_PIECES) CAD_TRY(add(out, pieces));
    else
        CAD_TRY(cad_str_addf(out, "\"normalizer\": null,\n\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"" BLOCK "\", \"prepend_scheme\": \"%s\", \"split\": false},\n",
                             lead == CADP_LEAD_FIRST ? "first" : "always"));
    CAD_TRY(add(out, decoder));
    return add(out, lead == CADP_LEAD_NONE ? "]}" : ", {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]}");
}

const cad_node *cadp_config_content(const cad_tree *config, const char *key)
{
    const cad_node *n = config ? cad_get(config->root, key) : NULL;

    if (n && n->kind == CAD_TABLE) n = cad_get(n, "content");
    return n && n->kind == CAD_STRING ? n : NULL;
}
