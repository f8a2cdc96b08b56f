/* Upper and lower case as Python's str has it, for chat templates. */
#include "chat_priv.h"

#include <utf8proc.h>

/* SpecialCasing.txt: letters that become several in upper case (of Greek with iota below only what one letter says). */
static const struct { uint32_t from; const char *upper, *title; } many[] = {
    {0xdf, "SS", "Ss"}, {0x149, "\xca\xbcN", "\xca\xbcN"}, {0x1f0, "J\xcc\x8c", "J\xcc\x8c"}, {0x587, "\xd4\xb5\xd5\x92", "\xd4\xb5\xd6\x82"}, {0xfb00, "FF", "Ff"}, {0xfb01, "FI", "Fi"},
    {0xfb02, "FL", "Fl"}, {0xfb03, "FFI", "Ffi"}, {0xfb04, "FFL", "Ffl"}, {0xfb05, "ST", "St"}, {0xfb06, "ST", "St"}};

static cad_status add_point(cad_str *out, int32_t point)
{
    utf8proc_uint8_t bytes[4];

    return cad_str_add(out, (const char *)bytes, (size_t)utf8proc_encode_char(point, bytes));
}

static cad_status add_upper(cad_str *out, int32_t c, bool title)
{
    for (size_t i = 0; i < sizeof many / sizeof *many; i++)
        if (many[i].from == (uint32_t)c) return cad_str_addf(out, "%s", title ? many[i].title : many[i].upper);
    return add_point(out, title ? utf8proc_totitle(c) : utf8proc_toupper(c));
}

static bool is_cased(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);

    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT || utf8proc_tolower(c) != c || utf8proc_toupper(c) != c;
}

/* A sigma that ends a word has a form of its own; I with a dot keeps its dot. */
static cad_status add_lower(cad_str *out, int32_t c, bool after_letter, int32_t next)
{
    if (c == 0x130) return cad_str_addf(out, "i\xcc\x87");
    if (c == 0x3a3 && after_letter && !is_cased(next)) c = 0x3c2;
    return add_point(out, c == 0x3c2 ? c : utf8proc_tolower(c));
}

/* What jinja's title begins a word behind; str.title: anything that has no case. */
static bool ends_word(int32_t c, cadp_case how)
{
    if (how == CADP_CASE_WORDS) return !is_cased(c);
    return how == CADP_CASE_TITLE && (c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || (c >= '\t' && c <= '\r') || c == ' ' || c == 0xa0 || utf8proc_category(c) == UTF8PROC_CATEGORY_ZS);
}

cad_status cadp_recase(const char *text, size_t n, cadp_case how, cad_str *out)
{
    bool first = true, letter = false;

    for (size_t i = 0; i < n;) {
        utf8proc_int32_t c, next = 0;
        utf8proc_ssize_t size = utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &c);
        if (size < 1) { /* no UTF-8: as it is */
            CAD_TRY(cad_str_add(out, text + i++, 1));
            continue;
        }
        i += (size_t)size;
        if (i < n && utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &next) < 1) next = 0;
        if (how == CADP_CASE_UPPER || (how == CADP_CASE_TITLE && first)) CAD_TRY(add_upper(out, c, false));
        else if (how != CADP_CASE_LOWER && first) CAD_TRY(add_upper(out, c, true));
        else CAD_TRY(add_lower(out, c, letter, next));
        letter = is_cased(c);
        first = ends_word(c, how);
    }
    return CAD_OK;
}
