#include "text_priv.h"
#include <utf8proc.h>

static bool is_control(uint32_t c)
{
    if (c == '\t' || c == '\n' || c == '\r') return false;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CC: case UTF8PROC_CATEGORY_CF: case UTF8PROC_CATEGORY_CO: case UTF8PROC_CATEGORY_CS: return true;
    default: return false;
    }
}

static bool is_chinese(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static bool is_punctuation(uint32_t c)
{
    if ((c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126)) return true;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_PC: case UTF8PROC_CATEGORY_PD: case UTF8PROC_CATEGORY_PS: case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI: case UTF8PROC_CATEGORY_PF: case UTF8PROC_CATEGORY_PO: return true;
    default: return false;
    }
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
            if (c == 0 || c == 0xFFFD || is_control(c)) continue;
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
    if (c != 0x130) return add_point(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
    CAD_TRY(add_point(out, 'i')); /* the one character whose small form is two */
    return add_point(out, 0x307);
}

cad_status cadp_bert_normalize(const cadp_normal *n, const cadp_unicode *u, cadp_points *work, const char *text, size_t size, cad_str *out)
{
    CAD_TRY(clean(n, text, size, out));
    if (!n->strip_accents && !n->lowercase) return CAD_OK;
    if (n->strip_accents) {
        size_t kept = 0;
        CAD_TRY(cadp_nfd(u, out->data, out->size, work));
        for (size_t i = 0; i < work->count; ++i)
            if (utf8proc_category((utf8proc_int32_t)work->at[i]) != UTF8PROC_CATEGORY_MN) work->at[kept++] = work->at[i];
        work->count = kept;
    } else CAD_TRY(cadp_points_of(out->data, out->size, work));
    out->size = 0;
    for (size_t i = 0; i < work->count; ++i) CAD_TRY(n->lowercase ? lower(out, work->at[i]) : add_point(out, work->at[i]));
    return CAD_OK;
}

/* White space goes, every punctuation character is a word. */
cad_status cadp_bert_split(const char *text, cadp_span in, cadp_spans *out)
{
    size_t from = in.from;

    for (size_t i = in.from, bytes; i < in.to; i += bytes) {
        uint32_t c = cadp_point(text + i, &bytes);
        bool space = cadp_is_space(c);
        if (!space && !is_punctuation(c)) continue;
        CAD_TRY(cadp_spans_add(out, from, i));
        if (!space) CAD_TRY(cadp_spans_add(out, i, i + bytes));
        from = i + bytes;
    }
    return cadp_spans_add(out, from, in.to);
}
