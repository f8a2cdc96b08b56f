/* WordPiece's vocab.txt as tokenizer.json: a token a line, its number from 0 the id. */
#include "make.h"

enum { MOST_WORDS = 1 << 24 };

/* Lines as Python reads them: \n, \r\n and \r end one. */
static size_t line_end(const char *s, size_t n, size_t *next)
{
    size_t i = 0;

    while (i < n && s[i] != '\n' && s[i] != '\r') i++;
    *next = i + (i < n) + (i + 1 < n && s[i] == '\r' && s[i + 1] == '\n');
    return i;
}

static int64_t count_lines(const char *s, size_t n)
{
    int64_t lines = 0;

    for (size_t next; n; s += next, n -= next, lines++) line_end(s, n, &next);
    return lines;
}

static cad_status read_lines(cadp_lexicon *l, const char *s, size_t n)
{
    size_t next, size;

    for (int64_t i = 0; i < l->count; i++, s += next, n -= next) {
        size = line_end(s, n, &next);
        l->item[i] = (cadp_lexeme){.text = s, .size = size, .kind = CADP_PIECE_NORMAL};
    }
    return cadp_lexicon_index(l);
}

typedef struct special { const char *key, *usual; int64_t id; } special;

static cad_status find_specials(cadp_lexicon *l, const cad_tree *config, special *s, int n)
{
    for (int i = 0; i < n; i++) {
        const cad_node *named = cadp_config_content(config, s[i].key);
        const char *text = named ? named->text : s[i].usual;
        s[i].id = -1;
        if (cad_map_get(l->ids, text, strlen(text), &s[i].id)) l->item[s[i].id].kind = CADP_PIECE_CONTROL;
        else if (i < 3) return cad_fail(CAD_EMODEL, "%s: expected the token \"%s\" (%s) in it, found none", l->path, text, s[i].key);
    }
    return CAD_OK;
}

static cad_status put_normalizer(const cad_tree *config, cad_str *out)
{
    bool lower = true, chinese = true, strip = true;
    const cad_node *accents = config ? cad_get(config->root, "strip_accents") : NULL;

    if (config && (!cad_get_bool(config->root, "do_lower_case", &lower, true) || !cad_get_bool(config->root, "tokenize_chinese_chars", &chinese, true) ||
                   !cad_get_bool(config->root, "strip_accents", &strip, true)))
        return cad_fail(CAD_EMODEL, "%s: expected true or false for do_lower_case, tokenize_chinese_chars and strip_accents, found another value", config->path);
    return cad_str_addf(out, "\"normalizer\": {\"type\": \"BertNormalizer\", \"clean_text\": true, \"handle_chinese_chars\": %s, \"strip_accents\": %s, \"lowercase\": %s},\n", chinese ? "true" : "false",
                        !accents || accents->kind == CAD_NULL ? "null" : strip ? "true" : "false", lower ? "true" : "false");
}

static cad_status put_json(cadp_lexicon *l, const cad_tree *config, const cad_tree *more, cad_str *out)
{
    special s[] = {{"unk_token", "[UNK]", 0}, {"cls_token", "[CLS]", 0}, {"sep_token", "[SEP]", 0}, {"pad_token", "[PAD]", 0}, {"mask_token", "[MASK]", 0}};

    CAD_TRY(find_specials(l, config, s, 5));
    CAD_TRY(cad_str_addf(out, "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null,\n"));
    CAD_TRY(cadp_make_added(l, config, more, out));
    CAD_TRY(cad_str_addf(out, ",\n"));
    CAD_TRY(put_normalizer(config, out));
    CAD_TRY(cad_str_addf(out, "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"},\n"));
    CAD_TRY(cadp_make_template(l, s[1].id, s[2].id, out));
    CAD_TRY(cad_str_addf(out, ",\n\"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": true},\n\"model\": {\"type\": \"WordPiece\", \"unk_token\": "));
    CAD_TRY(cadp_make_quoted(out, l->item[s[0].id].text, l->item[s[0].id].size));
    CAD_TRY(cad_str_addf(out, ", \"continuing_subword_prefix\": \"##\", \"max_input_chars_per_word\": 100,\n"));
    CAD_TRY(cadp_make_vocab(l, out));
    return cad_str_addf(out, "}}\n");
}

cad_status cadp_make_words(const char *path, const char *bytes, size_t n, const cad_tree *config, const cad_tree *more, cad_str *json)
{
    cadp_lexicon l = {0};
    int64_t lines = count_lines(bytes, n);
    cad_status status;

    if (lines < 1 || lines > MOST_WORDS) return cad_fail(CAD_EMODEL, "%s: expected 1 to %d tokens, one a line, found %lld", path, MOST_WORDS, (long long)lines);
    if (!(status = cadp_lexicon_open(&l, path, lines)) && !(status = read_lines(&l, bytes, n))) status = put_json(&l, config, more, json);
    cadp_lexicon_close(&l);
    return status;
}
