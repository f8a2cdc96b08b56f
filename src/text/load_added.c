#include "text_priv.h"

int32_t cadp_token_id(const cad_tokenizer *t, const char *s, size_t n)
{
    for (int32_t i = 0; i < t->addeds; ++i)
        if (t->added[i].size == n && !memcmp(t->added[i].content, s, n)) return t->added[i].id;
    return cadp_vocab_find(&t->vocab, s, n);
}

/* The tokenizers library numbers added tokens itself, the vocabulary's first and the others on from its end; a file that says otherwise would
 * give other ids there than here. */
static cad_status check_id(const cad_tokenizer *t, const cad_tree *tree, const cad_node *id, const cadp_added *a, int32_t *fresh)
{
    int32_t due = cadp_vocab_find(&t->vocab, a->content, a->size);

    if (due < 0) due = (*fresh)++;
    if (due == a->id) return CAD_OK;
    return cad_fail(CAD_EMODEL, "%s:%d:%d: expected id %d for added token \"%s\", which follows from the vocabulary, found %d", tree->path, id->line,
                    id->column, due, a->content, a->id);
}

static cad_status read_added(cad_tokenizer *t, const cad_tree *tree, const cad_node *n, cadp_added *a, int32_t *fresh)
{
    const cad_node *id = cad_get(n, "id");
    const char *text;

    if (n->kind != CAD_TABLE || !id || id->kind != CAD_INT || id->integer < 0 || id->integer >= CADP_MOST_IDS)
        return cadp_unexpected(tree, n, "added_tokens", "id", "an id below 16777216");
    a->id = (int32_t)id->integer;
    CAD_TRY(cadp_want_text(tree, n, "added_tokens", "content", &text, &a->size));
    CAD_TRY(cadp_want_bool(tree, n, "added_tokens", "single_word", false, &a->single_word));
    CAD_TRY(cadp_want_bool(tree, n, "added_tokens", "lstrip", false, &a->lstrip));
    CAD_TRY(cadp_want_bool(tree, n, "added_tokens", "rstrip", false, &a->rstrip));
    CAD_TRY(cadp_want_bool(tree, n, "added_tokens", "special", false, &a->special));
    CAD_TRY(cadp_want_bool(tree, n, "added_tokens", "normalized", !a->special, &a->normalized));
    CAD_TRY(cad_alloc(&a->content, a->size + 1, 1, "an added token"));
    memcpy(a->content, text, a->size);
    if (!a->size) return cadp_unexpected(tree, n, "added_tokens", "content", "a text");
    CAD_TRY(check_id(t, tree, id, a, fresh));
    t->size = (int32_t)cad_max(t->size, a->id + 1);
    return CAD_OK;
}

static cad_status index_added(cad_tokenizer *t)
{
    CAD_TRY(cad_alloc(&t->added_of, (size_t)t->size, sizeof *t->added_of, "added tokens"));
    for (int32_t i = 0; i < t->size; ++i) t->added_of[i] = -1;
    for (int32_t i = 0; i < t->addeds; ++i) t->added_of[t->added[i].id] = i;
    return CAD_OK;
}

static bool is_special(const cad_tokenizer *t, const char *text, size_t n)
{
    for (int32_t i = 0; i < t->addeds; ++i)
        if (t->added[i].special && t->added[i].size == n && !memcmp(t->added[i].content, text, n)) return true;
    return false;
}

/* A normalized token is looked for, and decoded, as the normalizer leaves it; whether it is skipped is asked of that text too. */
static cad_status show(cad_tokenizer *t, cadp_scratch *s, cadp_added *a)
{
    cadp_piece p = {a->content, a->size, true};

    if (a->normalized) CAD_TRY(cadp_normalize(t, s, &p));
    CAD_TRY(cad_alloc(&a->shown, p.size + 1, 1, "an added token"));
    memcpy(a->shown, p.text, p.size);
    a->shown_size = p.size;
    a->skipped = p.size == a->size && !memcmp(p.text, a->content, p.size) ? a->special : is_special(t, p.text, p.size);
    return CAD_OK;
}

static cad_status build_trie(cad_tokenizer *t, const cad_tree *tree, bool normalized, cadp_trie *trie)
{
    cadp_trie_entry *entries;
    size_t count = 0;
    cad_status status;

    CAD_TRY(cad_alloc(&entries, (size_t)t->addeds, sizeof *entries, "added tokens"));
    for (int32_t i = 0; i < t->addeds; ++i)
        if (t->added[i].normalized == normalized && t->added[i].shown_size)
            entries[count++] = (cadp_trie_entry){t->added[i].shown, t->added[i].shown_size, i};
    status = cadp_trie_open(trie, entries, count, tree->path);
    cad_free(&entries);
    return status;
}

static cad_status show_all(cad_tokenizer *t)
{
    cadp_scratch *s;
    cad_status status = CAD_OK;

    CAD_TRY(cadp_scratch_take(t, &s));
    for (int32_t i = 0; !status && i < t->addeds; ++i) status = show(t, s, &t->added[i]);
    cadp_scratch_give(t, s);
    return status;
}

cad_status cadp_load_added(cad_tokenizer *t, const cad_tree *tree)
{
    const cad_node *list = cad_get(tree->root, "added_tokens");
    int32_t fresh = t->vocab.count;

    t->size = t->vocab.ids;
    if (list && list->kind != CAD_LIST && list->kind != CAD_NULL) return cadp_unexpected(tree, tree->root, "tokenizer", "added_tokens", "a list");
    if (list && list->children) {
        CAD_TRY(cad_alloc(&t->added, (size_t)list->children, sizeof *t->added, "added tokens"));
        for (const cad_node *n = list->child; n; n = n->next) CAD_TRY(read_added(t, tree, n, &t->added[t->addeds++], &fresh));
    }
    CAD_TRY(index_added(t));
    CAD_TRY(show_all(t));
    CAD_TRY(build_trie(t, tree, false, &t->raw_trie));
    return build_trie(t, tree, true, &t->normal_trie);
}

static cad_status push_id(cad_ids *ids, int32_t id)
{
    CAD_TRY(cadp_ids_room(ids, 1));
    ids->data[ids->count++] = id;
    return CAD_OK;
}

/* special_tokens.NAME.ids of a TemplateProcessing. */
static cad_status special_ids(const cad_tokenizer *t, const cad_tree *tree, const cad_node *post, const char *name, cad_ids *to)
{
    const cad_node *special = cad_get(cad_get(post, "special_tokens"), name), *ids = cad_get(special, "ids");

    if (!ids || ids->kind != CAD_LIST)
        return cad_fail(CAD_EMODEL, "%s:%d:%d: expected ids of \"%s\" in post_processor.special_tokens", tree->path, post->line, post->column, name);
    for (const cad_node *n = ids->child; n; n = n->next) {
        if (n->kind != CAD_INT || n->integer < 0 || n->integer >= t->size)
            return cad_fail(CAD_EMODEL, "%s:%d:%d: expected an id from 0 to %d in post_processor.special_tokens", tree->path, n->line, n->column, t->size - 1);
        CAD_TRY(push_id(to, (int32_t)n->integer));
    }
    return CAD_OK;
}

static cad_status template_processing(cad_tokenizer *t, const cad_tree *tree, const cad_node *post)
{
    const cad_node *single = cad_get(post, "single");
    const char *name;
    int texts = 0;
    size_t size;

    if (!single || single->kind != CAD_LIST) return cadp_unexpected(tree, post, "post_processor", "single", "a list");
    if (t->before.count || t->after.count) return cadp_not_implemented(tree, post, "post_processor", "a second template");
    for (const cad_node *n = single->child; n; n = n->next) {
        const cad_node *special = cad_get(n, "SpecialToken");
        if (cad_get(n, "Sequence")) {
            ++texts;
            continue;
        }
        CAD_TRY(cadp_want_text(tree, special ? special : n, "post_processor.single", "id", &name, &size));
        CAD_TRY(special_ids(t, tree, post, name, texts ? &t->after : &t->before));
    }
    return texts == 1 ? CAD_OK : cadp_not_implemented(tree, post, "post_processor", "a template without one text");
}

/* BertProcessing and RobertaProcessing: "cls" and "sep" are [token, id]. */
static cad_status pair_processing(cad_tokenizer *t, const cad_tree *tree, const cad_node *post)
{
    static const char *const keys[] = {"cls", "sep"};

    if (t->before.count || t->after.count) return cadp_not_implemented(tree, post, "post_processor", "a second template");
    for (int i = 0; i < 2; ++i) {
        const cad_node *n = cad_get(post, keys[i]), *id = n && n->children == 2 ? n->child->next : NULL;
        if (!id || id->kind != CAD_INT || id->integer < 0 || id->integer >= t->size)
            return cadp_unexpected(tree, post, "post_processor", keys[i], "a token and its id");
        CAD_TRY(push_id(i ? &t->after : &t->before, (int32_t)id->integer));
    }
    return CAD_OK;
}

static cad_status post_step(cad_tokenizer *t, const cad_tree *tree, const cad_node *n)
{
    const char *type;
    size_t size;

    CAD_TRY(cadp_want_text(tree, n, "post_processor", "type", &type, &size));
    if (!strcmp(type, "ByteLevel")) return CAD_OK; /* trims offsets only */
    if (!strcmp(type, "TemplateProcessing")) return template_processing(t, tree, n);
    if (!strcmp(type, "BertProcessing") || !strcmp(type, "RobertaProcessing")) return pair_processing(t, tree, n);
    return cadp_not_implemented(tree, n, "post_processor", type);
}

cad_status cadp_load_template(cad_tokenizer *t, const cad_tree *tree)
{
    const cad_node *post = cad_get(tree->root, "post_processor"), *list;
    const char *type;

    if (!post || post->kind == CAD_NULL) return CAD_OK;
    if (!cad_get_string(post, "type", &type, "") || strcmp(type, "Sequence")) return post_step(t, tree, post);
    list = cad_get(post, "processors");
    if (!list || list->kind != CAD_LIST) return cadp_unexpected(tree, post, "post_processor", "processors", "a list");
    for (const cad_node *n = list->child; n; n = n->next) CAD_TRY(post_step(t, tree, n));
    return CAD_OK;
}

/* A token of tokenizer_config.json: a string, {"content": string}, or absent. */
static int32_t config_token(const cad_tokenizer *t, const cad_node *root, const char *key, bool *named)
{
    const cad_node *n = cad_get(root, key);

    if (n && n->kind == CAD_TABLE) n = cad_get(n, "content");
    *named = n && n->kind == CAD_STRING;
    return *named ? cadp_token_id(t, n->text, n->size) : CADP_NO_TOKEN;
}

static cad_status config_template(cad_tokenizer *t, const cad_tree *config, const char *flag, const char *token, cad_ids *to)
{
    bool add, named;
    int32_t id = config_token(t, config->root, token, &named);

    to->count = 0;
    CAD_TRY(cadp_want_bool(config, config->root, "tokenizer_config", flag, false, &add));
    if (!add || !named) return CAD_OK;
    if (id < 0) return cad_fail(CAD_EMODEL, "%s: expected %s among the tokenizer's tokens, as %s is true", config->path, token, flag);
    return push_id(to, id);
}

/* Transformers 5 builds the template anew from bos_token and eos_token as soon as one of the two flags is written in the file. */
cad_status cadp_load_config(cad_tokenizer *t, const cad_tree *config, bool made)
{
    bool named;

    t->pad = config_token(t, config->root, "pad_token", &named);
    if (made || (!cad_get(config->root, "add_bos_token") && !cad_get(config->root, "add_eos_token"))) return CAD_OK;
    CAD_TRY(config_template(t, config, "add_bos_token", "bos_token", &t->before));
    return config_template(t, config, "add_eos_token", "eos_token", &t->after);
}
