/* A tokenizer.json as the metadata of a GGUF file. */
#include "foreign.h"

#include <cadtrain/embedded.h>
#include <cadtrain/text.h>
#include <stdio.h>

enum { NORMAL = 1, UNKNOWN, CONTROL, USER, UNUSED, BYTE, MOST_BYTES = 512 << 20 };
typedef struct word { const char *text; size_t size; int kind; float score; } word;
typedef struct tokens {
    const char *dir;
    char *path;
    cad_tree *json, *config, *table; /* tokenizer.json, tokenizer_config.json (NULL: none), configs/gguf/tokenizers.yaml */
    cad_map *ids;
    word *words;
    char *room;                      /* of texts that are rewritten */
    int64_t rows;
    bool bytes;
} tokens;

/* ---- reading ---- */

static cad_status open_table(cad_tree **out)
{
    static const char path[] = "configs/gguf/tokenizers.yaml";

    for (const cad_embedded *f = cad_embedded_files; f->path; f++)
        if (!strcmp(f->path, path)) return cad_yaml_parse(out, f->text, strlen(f->text), path);
    return cad_fail(CAD_EINTERNAL, "%s is not in this program", path);
}

/* The files of the folder, or what is made of others. */
static cad_status read_files(tokens *t)
{
    cad_str made = {0}, made_config = {0};
    char *path = NULL;
    cad_status status = cad_tokenizer_make(t->dir, &made, &made_config);

    if (!status && made.size) status = cad_json_parse(&t->json, made.data, made.size, t->dir, CAD_EMODEL);
    if (!status && made_config.size) status = cad_json_parse(&t->config, made_config.data, made_config.size, t->dir, CAD_EMODEL);
    if (!status && !(status = cad_path_join(&t->path, t->dir, "tokenizer.json")) && !made.size) status = cad_json_read(&t->json, t->path, MOST_BYTES, CAD_EMODEL);
    if (!status && !(status = cad_path_join(&path, t->dir, "tokenizer_config.json")) && !t->config && cad_is_file(path)) status = cad_json_read(&t->config, path, MOST_BYTES, CAD_EMODEL);
    cad_str_close(&made);
    cad_str_close(&made_config);
    cad_free(&path);
    return status;
}

static const char *type_of(const cad_node *n)
{
    const char *type = "";

    (void)cad_get_string(n, "type", &type, "");
    return type;
}

/* The step of a kind in a part of tokenizer.json: the part itself or one of its sequence. */
static const cad_node *find_step(const tokens *t, const char *part, const char *list, const char *type)
{
    const cad_node *n = cad_get(t->json->root, part), *steps = cad_get(n, list);

    if (!strcmp(type_of(n), type)) return n;
    for (const cad_node *s = steps && steps->kind == CAD_LIST ? steps->child : NULL; s; s = s->next)
        if (!strcmp(type_of(s), type)) return s;
    return NULL;
}

static cad_status take_word(tokens *t, const char *text, size_t n, int64_t id, int kind)
{
    if (id < 0 || id >= t->rows)
        return cad_fail(CAD_EMODEL, "%s: expected ids below %lld, the rows of the embedding table, found %lld", t->path, (long long)t->rows, (long long)id);
    t->words[id] = (word){text, n, kind, 0};
    return cad_map_set(t->ids, text, n, id, NULL);
}

static bool is_byte(const char *s, size_t n) { return n == 6 && !memcmp(s, "<0x", 3) && s[5] == '>'; }

/* The user's tokens are looked for in the text as it is: spaces, not U+2581. */
static void respell(tokens *t, word *w, size_t *used)
{
    char *to = t->room + *used;
    size_t n = 0;

    if (t->bytes || w->kind != USER || !memmem(w->text, w->size, "\xE2\x96\x81", 3)) return;
    for (size_t i = 0; i < w->size;) {
        bool block = i + 3 <= w->size && !memcmp(w->text + i, "\xE2\x96\x81", 3);
        to[n++] = block ? ' ' : w->text[i];
        i += block ? 3 : 1;
    }
    *used += w->size;
    w->text = to;
    w->size = n;
}

static cad_status read_added(tokens *t)
{
    const cad_node *added = cad_get(t->json->root, "added_tokens"), *unknown = cad_get(cad_get(t->json->root, "model"), "unk_token");
    size_t room = 0;

    for (const cad_node *n = added && added->kind == CAD_LIST ? added->child : NULL; n; n = n->next) {
        const cad_node *text = cad_get(n, "content");
        int64_t id;
        bool special;
        if (!text || text->kind != CAD_STRING || !cad_get_int(n, "id", &id, -1) || !cad_get_bool(n, "special", &special, false))
            return cad_fail(CAD_EMODEL, "%s:%d:%d: expected an added token with id and content, found another value", t->path, n->line, n->column);
        CAD_TRY(take_word(t, text->text, text->size, id, special ? CONTROL : USER));
        room += text->size;
    }
    if (!t->bytes && unknown && unknown->kind == CAD_STRING) {
        int64_t id;
        if (cad_map_get(t->ids, unknown->text, unknown->size, &id)) t->words[id].kind = UNKNOWN;
    }
    return cad_alloc(&t->room, room, 1, "a vocabulary");
}

static cad_status read_words(tokens *t)
{
    const cad_node *model = cad_get(t->json->root, "model"), *vocab = cad_get(model, "vocab");
    size_t used = 0;

    if (strcmp(type_of(model), "BPE") || !vocab || vocab->kind != CAD_TABLE) return cad_fail(CAD_EMODEL, "%s: expected a BPE vocabulary, the only one that GGUF files get here, found another", t->path);
    CAD_TRY(cad_map_open(&t->ids));
    CAD_TRY(cad_alloc(&t->words, (size_t)t->rows, sizeof *t->words, "a vocabulary"));
    for (const cad_node *n = vocab->child; n; n = n->next)
        CAD_TRY(take_word(t, n->key, (size_t)n->key_size, n->kind == CAD_INT ? n->integer : -1, !t->bytes && is_byte(n->key, (size_t)n->key_size) ? BYTE : NORMAL));
    CAD_TRY(read_added(t));
    for (int64_t i = 0; i < t->rows; i++)
        if (t->words[i].text) respell(t, &t->words[i], &used);
    return CAD_OK;
}

/* ---- merges ---- */

static cad_status merge_text(const tokens *t, const cad_node *n, cad_str *out, size_t *cut)
{
    const char *space;

    out->size = 0;
    if (n->kind == CAD_LIST && n->children == 2 && n->child->kind == CAD_STRING && n->child->next->kind == CAD_STRING) {
        CAD_TRY(cad_str_add(out, n->child->text, n->child->size));
        *cut = out->size;
        CAD_TRY(cad_str_add(out, " ", 1));
        return cad_str_add(out, n->child->next->text, n->child->next->size);
    }
    if (n->kind != CAD_STRING || !(space = memchr(n->text, ' ', n->size))) return cad_fail(CAD_EMODEL, "%s:%d:%d: expected a merge of two tokens", t->path, n->line, n->column);
    *cut = (size_t)(space - n->text);
    return cad_str_add(out, n->text, n->size);
}

/* Without byte-level BPE the file keeps scores, of which llama.cpp merges the best first: minus the place of the first merge that makes a token. */
static cad_status score_merge(tokens *t, cad_str *text, size_t cut, int64_t place)
{
    int64_t id;

    memmove(text->data + cut, text->data + cut + 1, text->size - cut - 1);
    if (cad_map_get(t->ids, text->data, text->size - 1, &id) && t->words[id].score == 0) t->words[id].score = -(float)(place + 1);
    return CAD_OK;
}

static cad_status put_merges(tokens *t, cad_gguf_writer *w)
{
    const cad_node *merges = cad_get(cad_get(t->json->root, "model"), "merges");
    cad_str text = {0};
    int64_t place = 0;
    size_t cut = 0;
    cad_status status = CAD_OK;

    if (!merges || merges->kind != CAD_LIST) return cad_fail(CAD_EMODEL, "%s: expected a list of merges, found none", t->path);
    if (t->bytes) status = cad_gguf_put_list(w, "tokenizer.ggml.merges", CAD_STRING, merges->children);
    for (const cad_node *n = merges->child; n && !status; n = n->next, place++) {
        status = merge_text(t, n, &text, &cut);
        if (!status) status = t->bytes ? cad_gguf_add_text(w, text.data, text.size) : score_merge(t, &text, cut, place);
    }
    cad_str_close(&text);
    return status;
}

/* ---- writing ---- */

static cad_status put_lists(const tokens *t, cad_gguf_writer *w)
{
    char spare[32];

    CAD_TRY(cad_gguf_put_list(w, "tokenizer.ggml.tokens", CAD_STRING, t->rows));
    for (int64_t i = 0; i < t->rows; i++) {
        const word *p = &t->words[i];
        int n = snprintf(spare, sizeof spare, "[PAD%lld]", (long long)i);
        CAD_TRY(cad_gguf_add_text(w, p->text ? p->text : spare, p->text ? p->size : (size_t)n));
    }
    CAD_TRY(cad_gguf_put_list(w, "tokenizer.ggml.token_type", CAD_INT, t->rows));
    for (int64_t i = 0; i < t->rows; i++) CAD_TRY(cad_gguf_add_number(w, CAD_INT, t->words[i].text ? t->words[i].kind : UNUSED));
    if (t->bytes) return CAD_OK;
    CAD_TRY(cad_gguf_put_list(w, "tokenizer.ggml.scores", CAD_REAL, t->rows));
    for (int64_t i = 0; i < t->rows; i++) CAD_TRY(cad_gguf_add_number(w, CAD_REAL, (double)t->words[i].score));
    return CAD_OK;
}

/* The id of a token that tokenizer_config.json names, else of config.json; -1: none. */
static int64_t special_id(const tokens *t, const char *key, const cad_node *config, const char *config_key)
{
    const cad_node *n = t->config ? cad_get(t->config->root, key) : NULL, *own = cad_get(config, config_key);
    int64_t id;

    if (n && n->kind == CAD_TABLE) n = cad_get(n, "content");
    if (n && n->kind == CAD_STRING && cad_map_get(t->ids, n->text, n->size, &id)) return id;
    if (own && own->kind == CAD_LIST) own = own->child;
    return own && own->kind == CAD_INT && own->integer >= 0 && own->integer < t->rows ? own->integer : -1;
}

/* Whether an empty text gets a token before or behind it. */
static cad_status put_flags(const tokens *t, cad_gguf_writer *w, int64_t bos, int64_t eos)
{
    cad_tokenizer *tokenizer;
    cad_ids ids = {0};
    cad_status status = cad_tokenizer_open(&tokenizer, t->dir);

    if (!status) status = cad_tokenizer_encode(tokenizer, "", 0, true, &ids);
    cad_tokenizer_close(&tokenizer);
    if (!status) status = cad_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", bos >= 0 && ids.count && ids.data[0] == bos);
    if (!status) status = cad_gguf_put_bool(w, "tokenizer.ggml.add_eos_token", eos >= 0 && ids.count && ids.data[ids.count - 1] == eos && (ids.count > 1 || eos != bos));
    cad_free(&ids.data);
    return status;
}

static cad_status put_specials(const tokens *t, cad_gguf_writer *w, const cad_node *config)
{
    static const char *const names[][3] = {{"bos_token", "bos_token_id", "tokenizer.ggml.bos_token_id"}, {"eos_token", "eos_token_id", "tokenizer.ggml.eos_token_id"},
                                           {"pad_token", "pad_token_id", "tokenizer.ggml.padding_token_id"}, {"unk_token", "unk_token_id", "tokenizer.ggml.unknown_token_id"}};
    int64_t id[4];

    for (int i = 0; i < 4; i++) {
        id[i] = special_id(t, names[i][0], config, names[i][1]);
        if (id[i] >= 0) CAD_TRY(cad_gguf_put_int(w, names[i][2], id[i]));
    }
    return put_flags(t, w, id[0], id[1]);
}

static cad_status put_template(const tokens *t, cad_gguf_writer *w)
{
    const cad_node *own = t->config ? cad_get(t->config->root, "chat_template") : NULL;
    char *path, *text = NULL;
    size_t n;
    cad_status status;

    if (own && own->kind == CAD_STRING) return cad_gguf_put_text(w, "tokenizer.chat_template", own->text, own->size);
    CAD_TRY(cad_path_join(&path, t->dir, "chat_template.jinja"));
    status = cad_is_file(path) ? cad_read_file(&text, &n, path, 16 << 20, CAD_EMODEL) : CAD_OK;
    if (!status && text) status = cad_gguf_put_text(w, "tokenizer.chat_template", text, n);
    cad_free(&text);
    cad_free(&path);
    return status;
}

/* What llama.cpp calls this way of splitting texts. */
static cad_status put_splitter(const tokens *t, cad_gguf_writer *w)
{
    const cad_node *split = find_step(t, "pre_tokenizer", "pretokenizers", "Split"), *regex = cad_get(cad_get(split, "pattern"), "Regex");
    const cad_node *list = cad_get(t->table->root, "pre_tokenizers");
    const char *pattern = regex && regex->kind == CAD_STRING ? regex->text : "", *known;

    for (const cad_node *n = list ? list->child : NULL; n; n = n->next)
        if (cad_get_string(n, "pattern", &known, NULL) && known && !strcmp(known, pattern)) {
            const cad_node *name = cad_get(n, "names")->child;
            return cad_gguf_put_text(w, "tokenizer.ggml.pre", name->text, name->size);
        }
    return cad_fail(CAD_EMODEL, "%s: expected a pattern of pre_tokenizer that llama.cpp has a name for, found another", t->path);
}

static bool leads_with_space(const tokens *t)
{
    const cad_node *meta = find_step(t, "pre_tokenizer", "pretokenizers", "Metaspace");
    const char *scheme = "always";

    (void)cad_get_string(meta, "prepend_scheme", &scheme, "always");
    return find_step(t, "normalizer", "normalizers", "Prepend") || (meta && strcmp(scheme, "never"));
}

static cad_status put_kind(const tokens *t, cad_gguf_writer *w)
{
    const cad_node *names = cad_get(t->table->root, "sentencepiece");

    if (t->bytes) {
        CAD_TRY(cad_gguf_put_text(w, "tokenizer.ggml.model", "gpt2", 4));
        return put_splitter(t, w);
    }
    CAD_TRY(cad_gguf_put_text(w, "tokenizer.ggml.model", names->child->text, names->child->size));
    CAD_TRY(cad_gguf_put_text(w, "tokenizer.ggml.pre", "default", 7));
    return cad_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", leads_with_space(t));
}

static cad_status put_all(tokens *t, cad_gguf_writer *w, const cad_node *config)
{
    CAD_TRY(open_table(&t->table));
    CAD_TRY(read_files(t));
    t->bytes = find_step(t, "pre_tokenizer", "pretokenizers", "ByteLevel") != NULL;
    CAD_TRY(read_words(t));
    CAD_TRY(put_kind(t, w));
    CAD_TRY(put_merges(t, w));
    CAD_TRY(put_lists(t, w));
    CAD_TRY(put_specials(t, w, config));
    return put_template(t, w);
}

cad_status cadp_foreign_put_tokens(cad_gguf_writer *w, const char *dir, int64_t rows, const cad_node *config)
{
    tokens t = {.dir = dir, .rows = rows};
    cad_status status = put_all(&t, w, config);

    cad_tree_close(&t.json);
    cad_tree_close(&t.config);
    cad_tree_close(&t.table);
    cad_map_close(&t.ids);
    cad_free(&t.words);
    cad_free(&t.room);
    cad_free(&t.path);
    return status;
}
