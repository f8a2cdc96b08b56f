#include "text_priv.h"
#include <utf8proc.h>

static bool is_chinese(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static cad_status add_point(cad_str *out, uint32_t c)
{
    char bytes[4];
    return cad_str_add(out, bytes, cadp_utf8(bytes, c));
}

/* clean_text and handle_chinese_chars in one pass. */
static cad_status clean(const cadp_normal *n, const char *text, size_t size, cad_str *out)
{
    out->size = 0;
    for (size_t i = 0, bytes; i < size; i += bytes) {
        uint32_t c = cadp_point(text + i, &bytes);
        if (n->clean) {
            if (cadp_inside(cadp_words_control, cadp_words_control_count, c)) continue;
            if (cadp_is_space(c)) c = ' ';
        }
        if (!n->chinese || !is_chinese(c)) CAD_TRY(add_point(out, c));
        else {
            CAD_TRY(add_point(out, ' '));
            CAD_TRY(add_point(out, c));
            CAD_TRY(add_point(out, ' '));
        }
    }
    return CAD_OK;
}

static cad_status lower(cad_str *out, uint32_t c)
{
    if (c == 0xA7CB) return add_point(out, 0x264); /* capitals of Unicode 16 whose small letters are older */
    if (c == 0xA7DC) return add_point(out, 0x19B);
    if (c != 0x130) return add_point(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
    CAD_TRY(add_point(out, 'i')); /* the one character whose small form is two */
    return add_point(out, 0x307);
}

cad_status cadp_words_normalize(const cadp_normal *n, const cadp_unicode *u, cadp_points *work, const char *text, size_t size, cad_str *out)
{
    CAD_TRY(clean(n, text, size, out));
    if (!n->strip_accents && !n->lowercase) return CAD_OK;
    if (n->strip_accents) {
        size_t kept = 0;
        CAD_TRY(cadp_nfd(u, out->data, out->size, work));
        for (size_t i = 0; i < work->count; ++i)
            if (!cadp_inside(cadp_words_accents, cadp_words_accents_count, work->at[i])) work->at[kept++] = work->at[i];
        work->count = kept;
    } else CAD_TRY(cadp_points_of(out->data, out->size, work));
    out->size = 0;
    for (size_t i = 0; i < work->count; ++i) CAD_TRY(n->lowercase ? lower(out, work->at[i]) : add_point(out, work->at[i]));
    return CAD_OK;
}

/* White space goes, every punctuation character is a word. */
cad_status cadp_words_split(const char *text, cadp_span in, cadp_spans *out)
{
    size_t from = in.from;

    for (size_t i = in.from, bytes; i < in.to; i += bytes) {
        uint32_t c = cadp_point(text + i, &bytes);
        bool space = cadp_is_space(c);
        if (!space && !cadp_inside(cadp_words_punctuation, cadp_words_punctuation_count, c)) continue;
        CAD_TRY(cadp_spans_add(out, from, i));
        if (!space) CAD_TRY(cadp_spans_add(out, i, i + bytes));
        from = i + bytes;
    }
    return cadp_spans_add(out, from, in.to);
}
