/* Cutting a piece of text into words. */
#ifndef CADTRAIN_TEXT_SPLIT_H
#define CADTRAIN_TEXT_SPLIT_H
#include "unicode.h"

typedef struct cadp_span { uint32_t from, to; } cadp_span;
typedef struct cadp_spans { cadp_span *at; int64_t count, room; } cadp_spans;
CAD_CHECKED cad_status cadp_spans_room(cadp_spans *s, int64_t more);
/* Empty spans are dropped. */
CAD_CHECKED cad_status cadp_spans_add(cadp_spans *s, size_t from, size_t to);

/* ---- regular expressions (regex.c: the only file that sees <pcre2.h>) ---- */

typedef struct cadp_regex cadp_regex;
/* Oniguruma's \s and Unicode categories are put in PCRE2's terms; constructs that mean something else there are CAD_EMODEL. `where` begins the reason. */
CAD_CHECKED cad_status cadp_regex_open(cadp_regex **out, const char *pattern, size_t n, const char *where);
void cadp_regex_close(cadp_regex **r);
typedef struct cadp_matcher cadp_matcher; /* one thread's working memory for one regex */
CAD_CHECKED cad_status cadp_matcher_open(cadp_matcher **out, const cadp_regex *r);
void cadp_matcher_close(cadp_matcher **m);
/* First match at or after `from` in [0, n) of valid UTF-8; *found says whether there is one. */
CAD_CHECKED cad_status cadp_regex_find(const cadp_regex *r, cadp_matcher *m, const char *text, size_t n, size_t from, cadp_span *match, bool *found);

/* ---- splitters (split.c) ---- */

typedef enum cadp_behavior { CADP_REMOVED, CADP_ISOLATED, CADP_WITH_PREVIOUS, CADP_WITH_NEXT, CADP_CONTIGUOUS } cadp_behavior;
/* Patterns with a splitter of their own; each equals its pattern through cadp_regex_find. */
typedef enum cadp_known { CADP_ANY, CADP_GPT2, CADP_DIGIT1, CADP_DIGIT3 } cadp_known;
#define CADP_GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
cadp_known cadp_known_pattern(const char *pattern);
/* The end of the word that starts at `from` < n, for CADP_GPT2 (gpt2) and CADP_DIGIT1/3 (at most `digits` digits a word). */
size_t cadp_next_gpt2(const uint8_t *flags, const char *text, size_t n, size_t from);
size_t cadp_next_modern(const uint8_t *flags, const char *text, size_t n, size_t from, int digits);

typedef struct cadp_splitter {
    cadp_known known;
    cadp_regex *regex;   /* CADP_ANY without literal */
    char *literal;       /* a plain string instead of a pattern */
    size_t literal_size;
    cadp_behavior behavior;
    bool invert;
} cadp_splitter;
/* Cuts text[in.from, in.to) and appends the words to `out`; `matches` is working memory. */
CAD_CHECKED cad_status cadp_split(const cadp_splitter *s, const uint8_t *flags, cadp_matcher *m, const char *text, cadp_span in, cadp_spans *matches,
                                  cadp_spans *out);
#endif
