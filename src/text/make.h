/* tokenizer.json made from other files: GGUF metadata, tokenizer.model, vocab.txt. What is made is read like a file of its own. */
#ifndef CADTRAIN_TEXT_MAKE_H
#define CADTRAIN_TEXT_MAKE_H
#include <cadtrain/format.h>

/* The kinds of SentencePiece, which GGUF took over. */
enum { CADP_PIECE_NORMAL = 1, CADP_PIECE_UNKNOWN, CADP_PIECE_CONTROL, CADP_PIECE_USER, CADP_PIECE_UNUSED, CADP_PIECE_BYTE };
enum { CADP_MODEL_ADDS_BOS = 0 }; /* without add_bos_token in tokenizer_config.json, as Transformers 5 has it */
typedef struct cadp_lexeme { const char *text; size_t size; float score; int kind; bool twice; } cadp_lexeme; /* twice: stands again further on */
typedef struct cadp_lexicon {
    const char *path;
    cadp_lexeme *item; /* by id */
    int64_t count;
    cad_map *ids;      /* of a text that stands twice the last */
} cadp_lexicon;
CAD_CHECKED cad_status cadp_lexicon_open(cadp_lexicon *l, const char *path, int64_t count);
void cadp_lexicon_close(cadp_lexicon *l);
/* Checks that every text is UTF-8 and fills `ids`. */
CAD_CHECKED cad_status cadp_lexicon_index(cadp_lexicon *l);

/* Pairs of pieces that make a piece, best first, as Transformers finds them (generate_merges): by score with the longer
 * left half first, or by place with the shorter first. Appended as the items of a JSON list. */
typedef enum cadp_merge_order { CADP_BY_SCORE, CADP_BY_PLACE } cadp_merge_order;
CAD_CHECKED cad_status cadp_make_merges(const cadp_lexicon *l, cadp_merge_order order, cad_str *out);

/* ---- pieces of JSON (make_json.c) ---- */

CAD_CHECKED cad_status cadp_make_quoted(cad_str *out, const char *s, size_t n);
/* "added_tokens": control tokens (special) and the user's, not normalised, or as added_tokens_decoder of tokenizer_config.json says; then what that or
 * added_tokens.json (`more`) adds behind the vocabulary. Both may be NULL. */
CAD_CHECKED cad_status cadp_make_added(const cadp_lexicon *l, const cad_tree *config, const cad_tree *more, cad_str *out);
CAD_CHECKED cad_status cadp_make_vocab(const cadp_lexicon *l, cad_str *out);
/* "post_processor" with ids before and after a text; -1: none. */
CAD_CHECKED cad_status cadp_make_template(const cadp_lexicon *l, int64_t before, int64_t after, cad_str *out);
/* normalizer, pre_tokenizer and decoder of SentencePiece's BPE. */
typedef enum cadp_lead { CADP_LEAD_NONE, CADP_LEAD_FIRST, CADP_LEAD_ALWAYS, CADP_LEAD_PIECES } cadp_lead; /* PIECES: before every piece, whatever it begins with */
CAD_CHECKED cad_status cadp_make_spaces(cadp_lead lead, cad_str *out);

/* ---- whole files ---- */

/* Leaves *json empty when there is no such file at `dir`. */
CAD_CHECKED cad_status cadp_make_from_gguf(const char *dir, cad_str *json, cad_str *config);
/* From the bytes of a tokenizer.model or vocab.txt. */
CAD_CHECKED cad_status cadp_make_model(const char *path, const char *bytes, size_t n, const cad_tree *config, const cad_tree *more, cad_str *json);
CAD_CHECKED cad_status cadp_make_words(const char *path, const char *bytes, size_t n, const cad_tree *config, const cad_tree *more, cad_str *json);
/* The content of a token of tokenizer_config.json: a string or {"content": string}; NULL: none. */
const cad_node *cadp_config_content(const cad_tree *config, const char *key);
#endif
