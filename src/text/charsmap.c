/* SentencePiece's precompiled_charsmap: a double array (Darts) over the bytes of texts to be replaced, and the texts that replace them. */
#include "text_priv.h"
#include <utf8proc.h>

static uint32_t unit_at(const cadp_normal *n, size_t i)
{
    uint32_t v = 0;

    for (int b = 3; b >= 0; --b) v = v << 8 | (unsigned char)n->from[4 * i + (size_t)b];
    return v;
}

static size_t offset_of(uint32_t unit) { return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6); }

/* What the shortest beginning of s[0, n) in the table becomes; NULL: none. */
static const char *replacement(const cadp_normal *map, const char *s, size_t n, size_t *size)
{
    size_t units = map->from_size / 4, at;

    if (!units) return NULL;
    at = offset_of(unit_at(map, 0));
    for (size_t i = 0; i < n && s[i]; ++i) {
        at ^= (unsigned char)s[i];
        if (at >= units) return NULL;
        uint32_t unit = unit_at(map, at);
        if ((unit & (1u << 31 | 0xFF)) != (unsigned char)s[i]) return NULL;
        at ^= offset_of(unit);
        if (!(unit >> 8 & 1)) continue;
        size_t text = at < units ? unit_at(map, at) & 0x7fffffffu : SIZE_MAX;
        if (text >= map->to_size) return NULL;
        *size = strnlen(map->to + text, map->to_size - text);
        return map->to + text;
    }
    return NULL;
}

static size_t grapheme(const char *s, size_t n)
{
    utf8proc_int32_t state = 0;
    size_t at, bytes;
    uint32_t before = cadp_point(s, &at);

    while (at < n) {
        uint32_t next = cadp_point(s + at, &bytes);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)next, &state)) break;
        before = next;
        at += bytes;
    }
    return at;
}

/* A short grapheme whole, else its characters one by one (spm_precompiled, normalize). */
cad_status cadp_charsmap_normalize(const cadp_normal *map, const char *text, size_t n, cad_str *out)
{
    const char *to;
    size_t size, whole, bytes;

    out->size = 0;
    CAD_TRY(cad_str_add(out, "", 0));
    for (size_t i = 0; i < n; i += whole) {
        whole = grapheme(text + i, n - i);
        if (whole < 6 && (to = replacement(map, text + i, whole, &size))) {
            CAD_TRY(cad_str_add(out, to, size));
            continue;
        }
        for (size_t k = 0; k < whole; k += bytes) {
            cadp_point(text + i + k, &bytes);
            to = replacement(map, text + i + k, bytes, &size);
            CAD_TRY(to ? cad_str_add(out, to, size) : cad_str_add(out, text + i + k, bytes));
        }
    }
    return CAD_OK;
}

/* ---- loading ---- */

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static cad_status decode(const char *s, size_t n, const char *where, cad_str *out)
{
    uint32_t bits = 0;
    int held = 0;

    while (n && s[n - 1] == '=') --n;
    for (size_t i = 0; i < n; ++i) {
        int d = digit(s[i]);
        if (d < 0) return cad_fail(CAD_EMODEL, "%s: expected precompiled_charsmap in base64, found another character", where);
        bits = bits << 6 | (uint32_t)d;
        if ((held += 6) < 8) continue;
        held -= 8;
        CAD_TRY(cad_str_add(out, &(char){(char)(bits >> held)}, 1));
    }
    return CAD_OK;
}

/* Four bytes of the table's size, the table, the texts, each up to a NUL. A replacement is UTF-8 as everything that is made of the text must be. */
static cad_status take_parts(cadp_normal *s, const char *where, const cad_str *raw)
{
    size_t table = 0;

    for (int b = 3; b >= 0 && raw->size >= 4; --b) table = table << 8 | (unsigned char)raw->data[b];
    if (raw->size < 4 || table > raw->size - 4 || table % 4 || !cad_utf8_valid(raw->data + 4 + table, raw->size - 4 - table, NULL))
        return cad_fail(CAD_EMODEL, "%s: expected precompiled_charsmap to hold a table and its texts, found other bytes", where);
    s->from_size = table;
    s->to_size = raw->size - 4 - table;
    CAD_TRY(cad_alloc(&s->from, table + 1, 1, "a table of characters"));
    CAD_TRY(cad_alloc(&s->to, s->to_size + 1, 1, "a table of characters"));
    memcpy(s->from, raw->data + 4, table);
    memcpy(s->to, raw->data + 4 + table, s->to_size);
    return CAD_OK;
}

cad_status cadp_charsmap_load(cadp_normal *s, const char *text, size_t n, const char *where)
{
    cad_str raw = {0};
    cad_status status = decode(text, n, where, &raw);

    if (!status) status = take_parts(s, where, &raw);
    cad_str_close(&raw);
    return status;
}
