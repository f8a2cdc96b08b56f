/* Code points: flags by code point, UTF-8, NFC. */
#ifndef CADTRAIN_TEXT_UNICODE_H
#define CADTRAIN_TEXT_UNICODE_H
#include <cadtrain/base.h>

typedef struct cadp_range { uint32_t first, last; } cadp_range;
extern const cadp_range cadp_letters[], cadp_numbers[], cadp_spaces[], cadp_marks[], cadp_words_control[], cadp_words_accents[], cadp_words_punctuation[];
extern const size_t cadp_letters_count, cadp_numbers_count, cadp_spaces_count, cadp_marks_count, cadp_words_control_count, cadp_words_accents_count,
    cadp_words_punctuation_count;
extern const cadp_range cadp_newer_l[], cadp_newer_lu[], cadp_newer_ll[], cadp_newer_lm[], cadp_newer_lo[], cadp_newer_m[], cadp_newer_n[],
    cadp_newer_p[], cadp_newer_s[];
extern const size_t cadp_newer_l_count, cadp_newer_lu_count, cadp_newer_ll_count, cadp_newer_lm_count, cadp_newer_lo_count, cadp_newer_m_count,
    cadp_newer_n_count, cadp_newer_p_count, cadp_newer_s_count;

enum {
    CADP_LETTER = 1, CADP_NUMBER = 2, CADP_SPACE = 4,
    CADP_MARK = 8,      /* canonical combining class is not 0 */
    CADP_UNSTABLE = 16, /* NFC changes it, or it may join the character before it */
    CADP_POINTS = 0x110000
};

typedef struct cadp_pair { uint32_t first, second, joined; } cadp_pair;
enum { CADP_PAIRS = 4096 };
/* What NFC and the splitters ask of a code point. */
typedef struct cadp_unicode {
    uint8_t flags[CADP_POINTS];
    cadp_pair pair[CADP_PAIRS]; /* canonical compositions, open addressing; joined == 0: empty */
} cadp_unicode;
CAD_CHECKED cad_status cadp_unicode_open(cadp_unicode **out);

/* The code point at s of valid UTF-8; *n receives its bytes. */
static inline uint32_t cadp_point(const char *s, size_t *n)
{
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x80) return *n = 1, u[0];
    if (u[0] < 0xE0) return *n = 2, ((uint32_t)(u[0] & 31) << 6) | (u[1] & 63);
    if (u[0] < 0xF0) return *n = 3, ((uint32_t)(u[0] & 15) << 12) | ((uint32_t)(u[1] & 63) << 6) | (u[2] & 63);
    return *n = 4, ((uint32_t)(u[0] & 7) << 18) | ((uint32_t)(u[1] & 63) << 12) | ((uint32_t)(u[2] & 63) << 6) | (u[3] & 63);
}
size_t cadp_utf8(char out[4], uint32_t point);
bool cadp_inside(const cadp_range *r, size_t n, uint32_t point); /* r in order */
bool cadp_is_space(uint32_t point);
bool cadp_is_word(uint32_t point); /* \w of the regular expressions of added tokens */

/* Code points being normalised; grown as needed. */
typedef struct cadp_points { uint32_t *at, *other; size_t count, room, other_room; } cadp_points;
void cadp_points_close(cadp_points *p);
/* The code points of text as they are. */
CAD_CHECKED cad_status cadp_points_of(const char *text, size_t n, cadp_points *work);
/* NFC of text. *changed false: nothing to do, `out` untouched; else the result replaces `out`. O(n log n). */
CAD_CHECKED cad_status cadp_nfc(const cadp_unicode *u, const char *text, size_t n, cadp_points *work, cad_str *out, bool *changed);
/* Canonical decomposition of text in canonical order, whole, into work->at. */
CAD_CHECKED cad_status cadp_nfd(const cadp_unicode *u, const char *text, size_t n, cadp_points *work);
#endif
