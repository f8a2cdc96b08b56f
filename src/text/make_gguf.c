/* tokenizer.ggml.* of a GGUF file as tokenizer.json, as Transformers' integrations/gguf reads them. */
#include "make.h"

#include <cadtrain/embedded.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct reading {
    const cad_gguf *file;
    cad_tree *table;     /* configs/gguf/tokenizers.yaml */
    cadp_lexicon words;
    const char *path;
    char *spaces;        /* room for texts that are rewritten */
    int64_t bos, eos, pad, unknown;
    bool bytes;          /* byte-level BPE */
} reading;

enum { MOST_TOKENS = 1 << 24 };

static cad_status open_table(cad_tree **out)
{
    static const char path[] = "configs/gguf/tokenizers.yaml";

    for (const cad_embedded *f = cad_embedded_files; f->path; f++)
        if (!strcmp(f->path, path)) return cad_yaml_parse(out, f->text, strlen(f->text), path);
    return cad_fail(CAD_EINTERNAL, "%s is not in this program", path);
}

/* ---- values ---- */

static bool text_is(const cad_gguf_value *v, const char *text) { return v->kind == CAD_STRING && v->size == strlen(text) && !memcmp(v->text, text, v->size); }

static bool lists(const cad_node *list, const cad_gguf_value *v)
{
    for (const cad_node *n = list ? list->child : NULL; n; n = n->next)
        if (n->kind == CAD_STRING && text_is(v, n->text)) return true;
    return false;
}

/* A list of one kind as long as the tokens; *there false: no such key. */
static cad_status list_of(const reading *r, const char *key, cad_kind of, int64_t count, cad_gguf_value *out, bool *there)
{
    *there = cad_gguf_get(r->file, key, out);
    if (!*there) return CAD_OK;
    if (out->kind != CAD_LIST || (out->count && cad_gguf_item(out, 0).kind != of))
        return cad_fail(CAD_EMODEL, "%s: \"%s\": expected a list of %ss, found another value", r->path, key, cad_kind_name(of));
    if (count >= 0 && out->count != count)
        return cad_fail(CAD_EMODEL, "%s: \"%s\": expected %lld values, one of each token, found %lld", r->path, key, (long long)count, (long long)out->count);
    return CAD_OK;
}

static cad_status id_of(const reading *r, const char *key, int64_t *out)
{
    cad_gguf_value v;

    *out = -1;
    if (!cad_gguf_get(r->file, key, &v)) return CAD_OK;
    if (v.kind == CAD_INT && v.integer >= 0 && v.integer < r->words.count) *out = v.integer;
    else if (v.kind != CAD_INT || (v.integer != -1 && v.integer != UINT32_MAX))
        return cad_fail(CAD_EMODEL, "%s: \"%s\": expected an id below %lld, found another value", r->path, key, (long long)r->words.count);
    return CAD_OK;
}

static bool flag_of(const reading *r, const char *key, bool otherwise)
{
    cad_gguf_value v;

    return cad_gguf_get(r->file, key, &v) && v.kind == CAD_BOOL ? v.boolean : otherwise;
}

/* ---- the vocabulary ---- */

static bool only_spaces(const cad_gguf_value *v)
{
    for (size_t i = 0; i < v->size; i++)
        if (v->text[i] != ' ') return false;
    return v->size > 1;
}

/* Runs of spaces are written with spaces where the vocabulary has U+2581. */
static cad_status respell(reading *r, cadp_lexeme *p, const cad_gguf_value *v, size_t *room)
{
    if (r->bytes || !only_spaces(v)) return CAD_OK;
    p->text = r->spaces + *room;
    p->size = 3 * v->size;
    for (size_t i = 0; i < v->size; i++) memcpy(r->spaces + *room + 3 * i, "\xE2\x96\x81", 3);
    *room += p->size;
    return CAD_OK;
}

static cad_status spaces_room(reading *r, const cad_gguf_value *tokens)
{
    size_t bytes = 0;

    for (int64_t i = 0; i < tokens->count; i++) {
        cad_gguf_value v = cad_gguf_item(tokens, i);
        if (only_spaces(&v)) bytes += 3 * v.size;
    }
    return cad_alloc(&r->spaces, bytes, 1, "a vocabulary");
}

/* Where the scores do not tell, the order does: what the user added comes first, as its pieces all score 0, then the rest as placed. */
static float score_of(const reading *r, int kind, int64_t i, const cad_gguf_value *scores)
{
    cad_gguf_value arch;

    if (cad_gguf_get(r->file, "general.architecture", &arch) && lists(cad_get(r->table->root, "placed"), &arch)) return kind == CADP_PIECE_USER ? 0 : -(float)(i + 1);
    return scores ? (float)cad_gguf_item(scores, i).real : 0;
}

static cad_status read_words(reading *r)
{
    cad_gguf_value tokens, scores, kinds;
    bool has_tokens, has_scores, has_kinds;
    size_t room = 0;

    CAD_TRY(list_of(r, "tokenizer.ggml.tokens", CAD_STRING, -1, &tokens, &has_tokens));
    if (!has_tokens || tokens.count < 1 || tokens.count > MOST_TOKENS)
        return cad_fail(CAD_EMODEL, "%s: \"tokenizer.ggml.tokens\": expected 1 to %d tokens, found %lld", r->path, MOST_TOKENS, has_tokens ? (long long)tokens.count : 0LL);
    CAD_TRY(list_of(r, "tokenizer.ggml.scores", CAD_REAL, tokens.count, &scores, &has_scores));
    CAD_TRY(list_of(r, "tokenizer.ggml.token_type", CAD_INT, tokens.count, &kinds, &has_kinds));
    CAD_TRY(spaces_room(r, &tokens));
    CAD_TRY(cadp_lexicon_open(&r->words, r->path, tokens.count));
    for (int64_t i = 0; i < tokens.count; i++) {
        cad_gguf_value v = cad_gguf_item(&tokens, i);
        cadp_lexeme *p = &r->words.item[i];
        *p = (cadp_lexeme){.text = v.text, .size = v.size, .kind = has_kinds ? (int)cad_gguf_item(&kinds, i).integer : CADP_PIECE_NORMAL};
        p->score = score_of(r, p->kind, i, has_scores ? &scores : NULL);
        CAD_TRY(respell(r, p, &v, &room));
    }
    CAD_TRY(cadp_lexicon_index(&r->words));
    CAD_TRY(id_of(r, "tokenizer.ggml.bos_token_id", &r->bos));
    CAD_TRY(id_of(r, "tokenizer.ggml.eos_token_id", &r->eos));
    CAD_TRY(id_of(r, "tokenizer.ggml.padding_token_id", &r->pad));
    CAD_TRY(id_of(r, "tokenizer.ggml.unknown_token_id", &r->unknown));
    const int64_t special[] = {r->bos, r->eos, r->pad, r->unknown};
    for (int i = 0; i < 4; i++)
        if (special[i] >= 0) r->words.item[special[i]].kind = CADP_PIECE_CONTROL;
    return CAD_OK;
}

/* ---- merges ---- */

static cad_status given_merges(const reading *r, const cad_gguf_value *merges, cad_str *out)
{
    for (int64_t i = 0; i < merges->count; i++) {
        cad_gguf_value v = cad_gguf_item(merges, i);
        if (!cad_utf8_valid(v.text, v.size, NULL)) return cad_fail(CAD_EMODEL, "%s: \"tokenizer.ggml.merges\": expected merge %lld in UTF-8, found other bytes", r->path, (long long)i);
        CAD_TRY(cad_str_addf(out, i ? ",\n" : "\n"));
        CAD_TRY(cadp_make_quoted(out, v.text, v.size));
    }
    return CAD_OK;
}

static cad_status put_merges(const reading *r, cad_str *out)
{
    cad_gguf_value merges;
    bool there;

    CAD_TRY(list_of(r, "tokenizer.ggml.merges", CAD_STRING, -1, &merges, &there));
    if (there) return given_merges(r, &merges, out);
    if (r->bytes) return cad_fail(CAD_EMODEL, "%s: expected \"tokenizer.ggml.merges\", found no such key", r->path);
    return cadp_make_merges(&r->words, CADP_BY_SCORE, out);
}

/* ---- the steps ---- */

static cad_status find_splitter(const reading *r, const cad_node **out)
{
    const cad_node *list = cad_get(r->table->root, "pre_tokenizers");
    cad_gguf_value v;
    bool there = cad_gguf_get(r->file, "tokenizer.ggml.pre", &v) && v.kind == CAD_STRING;

    for (*out = list ? list->child : NULL; *out; *out = (*out)->next)
        if (there && lists(cad_get(*out, "names"), &v)) return CAD_OK;
    return cad_fail(CAD_EMODEL, "%s: \"tokenizer.ggml.pre\": expected a known way of splitting texts, found \"%.*s\", which is not implemented", r->path,
                    there ? (int)cad_min((int64_t)v.size, 40) : 0, there ? v.text : "");
}

static cad_status put_byte_steps(const reading *r, const cad_node *splitter, cad_str *out)
{
    const char *pattern = "", *normalizer = "";

    (void)cad_get_string(splitter, "pattern", &pattern, "");
    (void)cad_get_string(splitter, "normalizer", &normalizer, "");
    (void)r;
    if (*normalizer) CAD_TRY(cad_str_addf(out, "\"normalizer\": {\"type\": \"%s\"},\n", normalizer));
    else CAD_TRY(cad_str_addf(out, "\"normalizer\": null,\n"));
    CAD_TRY(cad_str_addf(out, "\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": ["));
    if (*pattern) {
        CAD_TRY(cad_str_addf(out, "{\"type\": \"Split\", \"pattern\": {\"Regex\": "));
        CAD_TRY(cadp_make_quoted(out, pattern, strlen(pattern)));
        CAD_TRY(cad_str_addf(out, "}, \"behavior\": \"Isolated\", \"invert\": false}, "));
    }
    CAD_TRY(cad_str_addf(out, "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": %s}]},\n", *pattern ? "false" : "true"));
    return cad_str_addf(out, "\"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true}");
}

static cad_status put_model(const reading *r, bool ignore_merges, cad_str *out)
{
    CAD_TRY(cad_str_addf(out, "\"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": "));
    if (r->bytes || r->unknown < 0) CAD_TRY(cad_str_addf(out, "null"));
    else CAD_TRY(cadp_make_quoted(out, r->words.item[r->unknown].text, r->words.item[r->unknown].size));
    CAD_TRY(cad_str_addf(out, ", \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": %s, \"byte_fallback\": %s, \"ignore_merges\": %s,\n",
                         r->bytes ? "false" : "true", r->bytes ? "false" : "true", ignore_merges ? "true" : "false"));
    CAD_TRY(cadp_make_vocab(&r->words, out));
    CAD_TRY(cad_str_addf(out, ",\n\"merges\": ["));
    CAD_TRY(put_merges(r, out));
    return cad_str_addf(out, "]}");
}

static cad_status put_json(reading *r, cad_str *out)
{
    const cad_node *splitter = NULL;
    bool ignore_merges = false, bos = !r->bytes;
    cadp_lead lead = flag_of(r, "tokenizer.ggml.add_space_prefix", true) ? CADP_LEAD_PIECES : CADP_LEAD_NONE; /* as llama.cpp leads */

    if (r->bytes) CAD_TRY(find_splitter(r, &splitter));
    (void)cad_get_bool(splitter, "ignore_merges", &ignore_merges, false);
    if (r->bytes) (void)cad_get_bool(splitter, "add_bos", &bos, false);
    bos = flag_of(r, "tokenizer.ggml.add_bos_token", bos);
    CAD_TRY(cad_str_addf(out, "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null,\n"));
    CAD_TRY(cadp_make_added(&r->words, NULL, NULL, out));
    CAD_TRY(cad_str_addf(out, ",\n"));
    CAD_TRY(r->bytes ? put_byte_steps(r, splitter, out) : cadp_make_spaces(lead, out));
    CAD_TRY(cad_str_addf(out, ",\n"));
    CAD_TRY(cadp_make_template(&r->words, bos ? r->bos : -1, flag_of(r, "tokenizer.ggml.add_eos_token", false) ? r->eos : -1, out));
    CAD_TRY(cad_str_addf(out, ",\n"));
    CAD_TRY(put_model(r, ignore_merges, out));
    return cad_str_addf(out, "}\n");
}

/* ---- tokenizer_config.json ---- */

static cad_status put_config(const reading *r, cad_str *out)
{
    const struct { const char *key; int64_t id; } tokens[] = {{"bos_token", r->bos}, {"eos_token", r->eos}, {"pad_token", r->pad}, {"unk_token", r->unknown}};
    cad_gguf_value template;

    CAD_TRY(cad_str_addf(out, "{\n"));
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        if (tokens[i].id < 0) continue;
        CAD_TRY(cad_str_addf(out, "  \"%s\": ", tokens[i].key));
        CAD_TRY(cadp_make_quoted(out, r->words.item[tokens[i].id].text, r->words.item[tokens[i].id].size));
        CAD_TRY(cad_str_addf(out, ",\n"));
    }
    if (cad_gguf_get(r->file, "tokenizer.chat_template", &template) && template.kind == CAD_STRING && cad_utf8_valid(template.text, template.size, NULL)) {
        CAD_TRY(cad_str_addf(out, "  \"chat_template\": "));
        CAD_TRY(cadp_make_quoted(out, template.text, template.size));
        CAD_TRY(cad_str_addf(out, ",\n"));
    }
    return cad_str_addf(out, "  \"clean_up_tokenization_spaces\": false,\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n");
}

static cad_status read_kind(reading *r)
{
    cad_gguf_value v;

    if (!cad_gguf_get(r->file, "tokenizer.ggml.model", &v) || v.kind != CAD_STRING) return cad_fail(CAD_EMODEL, "%s: expected \"tokenizer.ggml.model\", found no such text", r->path);
    r->bytes = text_is(&v, "gpt2");
    if (r->bytes || lists(cad_get(r->table->root, "sentencepiece"), &v)) return CAD_OK;
    return cad_fail(CAD_EMODEL, "%s: \"tokenizer.ggml.model\": expected byte-level or SentencePiece BPE, found \"%.*s\", which is not implemented", r->path, (int)cad_min((int64_t)v.size, 40), v.text);
}

cad_status cadp_make_from_gguf(const char *dir, cad_str *json, cad_str *config)
{
    char *path;
    cad_gguf *file = NULL;
    reading r = {0};
    cad_status status;

    CAD_TRY(cad_gguf_find(&path, dir));
    if (!path) return CAD_OK;
    r.path = path;
    if (!(status = open_table(&r.table)) && !(status = cad_gguf_open(&file, path))) {
        r.file = file;
        if (!(status = read_kind(&r)) && !(status = read_words(&r)) && !(status = put_json(&r, json))) status = put_config(&r, config);
    }
    cadp_lexicon_close(&r.words);
    cad_free(&r.spaces);
    cad_gguf_close(&file);
    cad_tree_close(&r.table);
    cad_free(&path);
    return status;
}
