#include "text_priv.h"
#include "make.h"

enum { MOST_BYTES = 512 * 1024 * 1024 };

cad_status cadp_scratch_take(const cad_tokenizer *t, cadp_scratch **out)
{
    cad_tokenizer *mine = (cad_tokenizer *)t; /* `idle` alone changes, under its lock */
    cad_status status;

    pthread_mutex_lock(&mine->lock);
    *out = mine->idle;
    if (*out) mine->idle = (*out)->next;
    pthread_mutex_unlock(&mine->lock);
    if (*out) return CAD_OK;
    CAD_TRY(cad_alloc(out, 1, sizeof **out, "a tokenizer's working memory"));
    status = cadp_bpe_work_open(&(*out)->bpe);
    if (status) cadp_scratch_close(out);
    return status;
}

void cadp_scratch_give(const cad_tokenizer *t, cadp_scratch *s)
{
    cad_tokenizer *mine = (cad_tokenizer *)t;

    pthread_mutex_lock(&mine->lock);
    s->next = mine->idle;
    mine->idle = s;
    pthread_mutex_unlock(&mine->lock);
}

void cadp_scratch_close(cadp_scratch **out)
{
    cadp_scratch *s = *out;

    cadp_bpe_work_close(&s->bpe);
    cadp_points_close(&s->points);
    cad_str_close(&s->word);
    cad_free(&s->matches.at);
    cad_free(&s->reach);
    for (int i = 0; i < 2; ++i) {
        cad_str_close(&s->text[i]);
        cad_str_close(&s->parts[i]);
        cad_free(&s->spans[i].at);
    }
    for (int i = 0; i < CADP_MOST_STEPS; ++i) cadp_matcher_close(&s->matcher[i]);
    cad_free(out);
}

void cad_tokenizer_close(cad_tokenizer **tokenizer)
{
    cad_tokenizer *t = *tokenizer;

    if (!t) return;
    for (cadp_scratch *s = t->idle, *next; s; s = next) {
        next = s->next;
        cadp_scratch_close(&s);
    }
    for (int32_t i = 0; i < t->addeds; ++i) {
        cad_free(&t->added[i].content);
        cad_free(&t->added[i].shown);
    }
    for (int i = 0; i < CADP_MOST_STEPS; ++i) {
        cad_free(&t->normal[i].from);
        cad_free(&t->normal[i].to);
        cadp_regex_close(&t->pre[i].splitter.regex);
        cad_free(&t->pre[i].splitter.literal);
        cad_free(&t->decode[i].from);
        cad_free(&t->decode[i].to);
    }
    cadp_trie_close(&t->raw_trie);
    cadp_trie_close(&t->normal_trie);
    cadp_vocab_close(&t->vocab);
    cadp_vocab_close(&t->raw);
    cadp_merges_close(&t->bpe.merges);
    cad_free(&t->bpe.joins);
    cad_free(&t->wordpiece.prefix);
    cad_free(&t->unigram.score);
    cadp_trie_close(&t->unigram.pieces);
    cad_free(&t->added);
    cad_free(&t->added_of);
    cad_free(&t->before.data);
    cad_free(&t->after.data);
    cad_free(&t->unicode);
    cad_free(&t->path);
    pthread_mutex_destroy(&t->lock);
    cad_free(tokenizer);
}

static cad_status load(cad_tokenizer *t, const cad_tree *tree, const cad_tree *config, bool made)
{
    if (tree->root->kind != CAD_TABLE)
        return cad_fail(CAD_EMODEL, "%s:%d:%d: expected a table, found %s", tree->path, tree->root->line, tree->root->column, cad_kind_name(tree->root->kind));
    CAD_TRY(cadp_load_steps(t, tree));
    CAD_TRY(cadp_load_model(t, tree));
    CAD_TRY(cadp_unicode_open(&t->unicode));
    CAD_TRY(cadp_load_added(t, tree));
    CAD_TRY(cadp_load_template(t, tree));
    return config ? cadp_load_config(t, config, made) : CAD_OK;
}

static cad_status begin(cad_tokenizer **out)
{
    *out = NULL;
    CAD_TRY(cad_alloc(out, 1, sizeof **out, "a tokenizer"));
    (*out)->pad = CADP_NO_TOKEN;
    if (!pthread_mutex_init(&(*out)->lock, NULL)) return CAD_OK;
    cad_free(out);
    return cad_fail(CAD_ERESOURCE, "no memory for a lock");
}

cad_status cadp_tokenizer_parse(cad_tokenizer **out, const char *text, size_t n, const char *path)
{
    cad_tree *tree = NULL;
    cad_status status;

    CAD_TRY(begin(out));
    status = cad_json_parse(&tree, text, n, path, CAD_EMODEL);
    if (!status) status = load(*out, tree, NULL, false);
    cad_tree_close(&tree);
    if (status) cad_tokenizer_close(out);
    return status;
}

static cad_status add_file(cad_sha256 *sum, const char *path)
{
    char hex[65];

    CAD_TRY(cad_sha256_file(path, hex, CAD_EMODEL));
    cad_sha256_add(sum, hex, 64);
    return CAD_OK;
}

/* One file: its own digest. With tokenizer_config.json: the digest of the two digests in hex. */
static cad_status digest(cad_tokenizer *t, const char *config)
{
    cad_sha256 sum;

    if (!config) return cad_sha256_file(t->path, t->digest, CAD_EMODEL);
    cad_sha256_begin(&sum);
    CAD_TRY(add_file(&sum, t->path));
    CAD_TRY(add_file(&sum, config));
    cad_sha256_end(&sum, t->digest);
    return CAD_OK;
}

/* What a sentence about a made text calls it: the file that is there. */
static cad_status name_made(cad_str *out, const char *dir, bool gguf)
{
    static const char *const names[] = {"tokenizer.model", "vocab.txt"};

    for (size_t i = 0; i < sizeof names / sizeof *names && !gguf; i++) {
        out->size = 0;
        CAD_TRY(cad_str_addf(out, "%s/%s", dir, names[i]));
        if (cad_is_file(out->data)) return cad_str_addf(out, ", as tokenizer.json");
    }
    out->size = 0;
    return cad_str_addf(out, "%s, its tokenizer as tokenizer.json", dir);
}

/* What was made of other files: the digest of the texts it was made into. */
static cad_status load_made(cad_tokenizer *t, const char *dir, const cad_str *json, const cad_str *made_config, const cad_tree *config)
{
    cad_tree *tree = NULL, *own = NULL;
    cad_sha256 sum;
    cad_str name = {0};
    cad_status status = name_made(&name, dir, made_config->size > 0);

    if (!status) status = cad_json_parse(&tree, json->data, json->size, name.data, CAD_EMODEL);
    if (!status && made_config->size) status = cad_json_parse(&own, made_config->data, made_config->size, name.data, CAD_EMODEL);
    if (!status) status = load(t, tree, own ? own : config, true);
    cad_str_close(&name);
    cad_tree_close(&tree);
    cad_tree_close(&own);
    cad_sha256_begin(&sum);
    cad_sha256_add(&sum, json->data, json->size);
    cad_sha256_end(&sum, t->digest);
    return status;
}

static cad_status load_own(cad_tokenizer *t, const cad_tree *config, const char *config_path)
{
    cad_tree *tree = NULL;
    cad_status status = cad_json_read(&tree, t->path, MOST_BYTES, CAD_EMODEL);

    if (!status) status = load(t, tree, config, false);
    cad_tree_close(&tree);
    return status ? status : digest(t, config ? config_path : NULL);
}

static cad_status open_files(cad_tokenizer *t, const char *dir)
{
    cad_tree *config = NULL;
    char *config_path = NULL;
    cad_str json = {0}, made_config = {0};
    cad_status status;

    if ((status = cad_path_join(&t->path, dir, "tokenizer.json"))) goto done;
    if ((status = cad_path_join(&config_path, dir, "tokenizer_config.json"))) goto done;
    if ((status = cad_tokenizer_make(dir, &json, &made_config))) goto done;
    if (cad_is_file(config_path) && (status = cad_json_read(&config, config_path, MOST_BYTES, CAD_EMODEL))) goto done;
    status = json.size ? load_made(t, dir, &json, &made_config, config) : load_own(t, config, config_path);
done:
    cad_tree_close(&config);
    cad_free(&config_path);
    cad_str_close(&json);
    cad_str_close(&made_config);
    return status;
}

cad_status cad_tokenizer_open(cad_tokenizer **out, const char *dir)
{
    cad_status status;

    CAD_TRY(begin(out));
    status = open_files(*out, dir);
    if (status) cad_tokenizer_close(out);
    return status;
}

int32_t cad_tokenizer_size(const cad_tokenizer *t) { return t->size; }
int32_t cad_tokenizer_id(const cad_tokenizer *t, const char *token) { return cadp_token_id(t, token, strlen(token)); }
int32_t cad_tokenizer_pad(const cad_tokenizer *t) { return t->pad; }
const char *cad_tokenizer_digest(const cad_tokenizer *t) { return t->digest; }
