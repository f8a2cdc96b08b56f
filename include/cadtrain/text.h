/* text: records <-> token ids, by what tokenizer.json says. */
#ifndef CADTRAIN_TEXT_H
#define CADTRAIN_TEXT_H
#include <cadtrain/base.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef struct cad_tokenizer cad_tokenizer;
/* Reads DIR/tokenizer.json (and tokenizer_config.json where it overrides); without one what cad_tokenizer_make makes of the other files. CAD_EMODEL: missing, corrupt, a part that is not
 * implemented (named), ids or merges out of range. Stored truncation and padding are not obeyed. Read-only afterwards: any number
 * of threads may encode. */
CAD_CHECKED cad_status cad_tokenizer_open(cad_tokenizer **out, const char *dir);
void cad_tokenizer_close(cad_tokenizer **t);
/* Ids of one text appended to *ids (grown with cad_grow; *count in, *room in and out). `special`: with the post-processor's tokens.
 * The text must be valid UTF-8 (CAD_EDATA with the byte's place otherwise). Special tokens written in the text are recognised. */
typedef struct cad_ids { int32_t *data; int64_t count, room; } cad_ids;
CAD_CHECKED cad_status cad_tokenizer_encode(const cad_tokenizer *t, const char *text, size_t n, bool special, cad_ids *ids);
/* As encode, cut to at most `longest` ids as Transformers does: room is left for special tokens; *cut says whether anything was cut.
 * keep_left: truncation_side right (the default) keeps the beginning. longest <= 0: no cut. */
CAD_CHECKED cad_status cad_tokenizer_encode_cut(const cad_tokenizer *t, const char *text, size_t n, int64_t longest, bool keep_left, cad_ids *ids, bool *cut);
/* Many texts on `threads` threads; starts[texts + 1] receives the offsets into ids (allocated by the caller). cut may be NULL. */
CAD_CHECKED cad_status cad_tokenizer_encode_all(const cad_tokenizer *t, const char *const *texts, const size_t *sizes, int64_t count, int64_t longest,
                                                bool keep_left, int threads, cad_ids *ids, int64_t *starts, bool *cut,
                                                void (*progress)(void *with, int64_t done), void *with);
/* Text of ids, special tokens skipped, as `tokenizers` decodes. */
CAD_CHECKED cad_status cad_tokenizer_decode(const cad_tokenizer *t, const int32_t *ids, int64_t n, cad_str *out);
/* The text of a tokenizer.json from a GGUF file at `dir`, or DIR/tokenizer.model (SentencePiece), or DIR/vocab.txt (WordPiece) with the words of
 * tokenizer_config.json and added_tokens.json; *config receives a tokenizer_config.json where `dir` has none of its own (GGUF). *json stays empty when DIR
 * has a tokenizer.json or none of these. */
CAD_CHECKED cad_status cad_tokenizer_make(const char *dir, cad_str *json, cad_str *config);
int32_t cad_tokenizer_size(const cad_tokenizer *t);        /* largest id + 1, added tokens included */
int32_t cad_tokenizer_id(const cad_tokenizer *t, const char *token); /* -1: none */
int32_t cad_tokenizer_pad(const cad_tokenizer *t);         /* from tokenizer_config.json; -1: none */
const char *cad_tokenizer_digest(const cad_tokenizer *t);  /* SHA-256 of the files that decide ids, hex */

/* What a chat template (the part of Jinja that such templates are written in, with the switches of Transformers) writes for `variables`, a table: messages, add_generation_prompt,
 * bos_token, … Appended to *out. path: for sentences. CAD_EMODEL: a template that is wrong or goes beyond that part; CAD_EDATA: the template refuses the conversation. */
struct cad_node;
CAD_CHECKED cad_status cad_chat_render(const char *text, size_t n, const char *path, const struct cad_node *variables, cad_str *out);
/* The same; marks: where what the template has between generation and endgeneration begins and ends in *out, in turn. The caller frees marks->at. */
typedef struct cad_chat_marks { size_t *at; int64_t count, room; } cad_chat_marks;
CAD_CHECKED cad_status cad_chat_render_marked(const char *text, size_t n, const char *path, const struct cad_node *variables, cad_str *out, cad_chat_marks *marks);
#ifdef __cplusplus
}
#endif
#endif
