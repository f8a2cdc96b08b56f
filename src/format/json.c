#include "tree_priv.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEEPEST = 64 };

void cadp_cursor_begin(cadp_cursor *c, const char *text, size_t n, const char *path, cad_status kind, void **arena)
{
    *c = (cadp_cursor){.path = path, .at = text, .end = text + n, .line_start = text, .line = 1, .kind = kind, .arena = arena};
}

int cadp_cursor_column(const cadp_cursor *c)
{
    size_t column = (size_t)(c->at - c->line_start) - c->wide + 1;

    return column > INT_MAX ? INT_MAX : (int)column;
}

static cad_status fail_found(const cadp_cursor *c, const char *expected, const char *found)
{
    return cad_fail(c->kind, "%s:%d:%d: expected %s, found %s", c->path, c->line, cadp_cursor_column(c), expected, found);
}

cad_status cadp_cursor_fail(const cadp_cursor *c, const char *expected)
{
    char found[40];

    return fail_found(c, expected, cadp_found(found, c->at, c->end));
}

void cadp_json_space(cadp_cursor *c)
{
    for (; c->at < c->end; c->at++) {
        if (*c->at == '\n') {
            c->line += c->line < INT_MAX;
            c->line_start = c->at + 1;
            c->wide = 0;
        } else if (*c->at != ' ' && *c->at != '\t' && *c->at != '\r') return;
    }
}

cad_status cadp_json_take(cadp_cursor *c, char what, const char *expected)
{
    if (c->at >= c->end || *c->at != what) return cadp_cursor_fail(c, expected);
    c->at++;
    return CAD_OK;
}

/* ---- strings ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The code unit of \uXXXX at p, -1 when it is none. */
static int unit(const char *p, const char *end)
{
    int u = 0;

    if (end - p < 6 || p[0] != '\\' || p[1] != 'u') return -1;
    for (int i = 2; i < 6; i++) {
        int h = hex_digit(p[i]);
        if (h < 0) return -1;
        u = u << 4 | h;
    }
    return u;
}

/* What \c stands for, 0 when c is no such letter. */
static char plain_escape(char c)
{
    static const char means[128] = {['"'] = '"', ['\\'] = '\\', ['/'] = '/', ['b'] = '\b', ['f'] = '\f', ['n'] = '\n', ['r'] = '\r', ['t'] = '\t'};

    return (unsigned char)c < 128 ? means[(unsigned char)c] : 0;
}

/* The length of the escape at c->at: 2, 6, or 12 for a surrogate pair. */
static cad_status check_escape(cadp_cursor *c, int *length)
{
    int u;

    *length = 2;
    if (c->end - c->at >= 2 && plain_escape(c->at[1])) return CAD_OK;
    if ((u = unit(c->at, c->end)) < 0) return fail_found(c, "an escape of JSON (\\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX)", "another one");
    *length = 6;
    if (u < 0xd800 || u > 0xdfff) return CAD_OK;
    *length = 12;
    int low = u < 0xdc00 ? unit(c->at + 6, c->end) : -1;
    return low >= 0xdc00 && low <= 0xdfff ? CAD_OK : fail_found(c, "a pair of surrogates", "one alone");
}

/* Nonzero when a byte of v is below `least` <= 128 (S. E. Anderson, Bit Twiddling Hacks, "hasless"). */
static uint64_t below(uint64_t v, uint64_t least) { return (v - least * 0x0101010101010101u) & ~v & 0x8080808080808080u; }

/* Passes over groups of eight bytes that are ASCII and neither end nor escape. */
static const char *skip_plain(const char *p, const char *end)
{
    const uint64_t high = 0x8080808080808080u, quote = 0x2222222222222222u, backslash = 0x5c5c5c5c5c5c5c5cu;
    uint64_t v;

    for (; end - p >= 8; p += 8) {
        memcpy(&v, p, 8);
        if ((v & high) || below(v, 0x20) || below(v ^ quote, 1) || below(v ^ backslash, 1)) break;
    }
    return p;
}

cad_status cadp_json_string(cadp_cursor *c, const char **close, bool *plain)
{
    const int line = c->line, column = cadp_cursor_column(c);
    int length;

    *plain = true;
    c->at = skip_plain(c->at + 1, c->end);
    while (c->at < c->end && *c->at != '"') {
        unsigned char byte = (unsigned char)*c->at;
        if (byte < 0x20) return cadp_cursor_fail(c, "a closing quote or an escape");
        if (byte == '\\') {
            *plain = false;
            CAD_TRY(check_escape(c, &length));
            c->at = skip_plain(c->at + length, c->end);
        } else {
            c->wide += (byte & 0xc0) == 0x80;
            c->at++;
        }
    }
    if (c->at >= c->end)
        return cad_fail(c->kind, "%s:%d:%d: expected a closing quote, found the end of the file", c->path, line, column);
    *close = c->at++;
    return CAD_OK;
}

static size_t put_utf8(char *to, unsigned u)
{
    if (u < 0x80) {
        to[0] = (char)u;
        return 1;
    }
    if (u < 0x800) {
        to[0] = (char)(0xc0 | u >> 6);
        to[1] = (char)(0x80 | (u & 63));
        return 2;
    }
    if (u < 0x10000) {
        to[0] = (char)(0xe0 | u >> 12);
        to[1] = (char)(0x80 | (u >> 6 & 63));
        to[2] = (char)(0x80 | (u & 63));
        return 3;
    }
    to[0] = (char)(0xf0 | u >> 18);
    to[1] = (char)(0x80 | (u >> 12 & 63));
    to[2] = (char)(0x80 | (u >> 6 & 63));
    to[3] = (char)(0x80 | (u & 63));
    return 4;
}

size_t cadp_json_unescape(char *to, const char *from, const char *close)
{
    char *start = to;

    while (from < close) {
        if (*from != '\\') *to++ = *from++;
        else if (from[1] != 'u') {
            *to++ = plain_escape(from[1]);
            from += 2;
        } else {
            int u = unit(from, close);
            if (u >= 0xd800 && u <= 0xdfff) {
                u = 0x10000 + ((u - 0xd800) << 10) + (unit(from + 6, close) - 0xdc00);
                from += 6;
            }
            from += 6;
            to += put_utf8(to, (unsigned)u);
        }
    }
    return (size_t)(to - start);
}

/* A string into the arena, NUL-terminated. */
static cad_status take_string(cadp_cursor *c, char **out, size_t *size)
{
    const char *from = c->at + 1, *close;
    bool plain;

    CAD_TRY(cadp_json_string(c, &close, &plain));
    CAD_TRY(cadp_take(c->arena, out, (size_t)(close - from) + 1));
    if (plain) memcpy(*out, from, *size = (size_t)(close - from));
    else *size = cadp_json_unescape(*out, from, close);
    (*out)[*size] = 0;
    return CAD_OK;
}

/* ---- numbers and words ---- */

static bool digit(const cadp_cursor *c) { return c->at < c->end && *c->at >= '0' && *c->at <= '9'; }

static cad_status digits(cadp_cursor *c)
{
    if (!digit(c)) return cadp_cursor_fail(c, "a digit");
    while (digit(c)) c->at++;
    return CAD_OK;
}

static bool at_one_of(const cadp_cursor *c, char a, char b) { return c->at < c->end && (*c->at == a || *c->at == b); }

/* RFC 8259, section 6. */
static cad_status check_number(cadp_cursor *c, bool *whole)
{
    *whole = true;
    if (at_one_of(c, '-', '-')) c->at++;
    if (at_one_of(c, '0', '0')) {
        c->at++;
        if (digit(c)) return cadp_cursor_fail(c, "no digit after a leading zero");
    } else CAD_TRY(digits(c));
    if (at_one_of(c, '.', '.')) {
        *whole = false;
        c->at++;
        CAD_TRY(digits(c));
    }
    if (at_one_of(c, 'e', 'E')) {
        *whole = false;
        c->at++;
        if (at_one_of(c, '+', '-')) c->at++;
        CAD_TRY(digits(c));
    }
    return CAD_OK;
}

static bool fits_int64(const char *s, const char *end, int64_t *out)
{
    bool minus = *s == '-';
    int64_t v = 0;

    for (s += minus; s < end; s++) {
        if (__builtin_mul_overflow(v, 10, &v)) return false;
        if (minus ? __builtin_sub_overflow(v, *s - '0', &v) : __builtin_add_overflow(v, *s - '0', &v)) return false;
    }
    *out = v;
    return true;
}

static cad_status to_real(cadp_cursor *c, const char *from, double *out)
{
    char few[64], *copy = few;
    size_t n = (size_t)(c->at - from);

    if (n >= sizeof few) CAD_TRY(cadp_take(c->arena, &copy, n + 1)); /* strtod wants the NUL that the text may lack */
    memcpy(copy, from, n);
    copy[n] = 0;
    *out = strtod(copy, NULL);
    if (!isinf(*out)) return CAD_OK;
    c->at = from;
    return fail_found(c, "a number that a double can hold", "a larger one");
}

/* An integer beyond int64 keeps its digits: a copied tokenizer_config.json says model_max_length as it was. */
static cad_status take_copy(cadp_cursor *c, const char *from, char **out, size_t *size)
{
    *size = (size_t)(c->at - from);
    CAD_TRY(cadp_take(c->arena, out, *size + 1));
    memcpy(*out, from, *size);
    (*out)[*size] = 0;
    return CAD_OK;
}

static cad_status number(cadp_cursor *c, cad_node *out)
{
    const char *from = c->at;
    bool whole;

    CAD_TRY(check_number(c, &whole));
    if (whole && fits_int64(from, c->at, &out->integer)) {
        out->kind = CAD_INT;
        out->real = (double)out->integer;
        return CAD_OK;
    }
    out->kind = CAD_REAL;
    if (whole) CAD_TRY(take_copy(c, from, &out->text, &out->size));
    return to_real(c, from, &out->real);
}

static bool word(cadp_cursor *c, const char *w)
{
    size_t n = strlen(w);

    if ((size_t)(c->end - c->at) < n || memcmp(c->at, w, n)) return false;
    c->at += n;
    return true;
}

static cad_status literal(cadp_cursor *c, cad_node *out)
{
    out->kind = CAD_BOOL;
    if (word(c, "true")) {
        out->boolean = true;
        return CAD_OK;
    }
    if (word(c, "false")) return CAD_OK;
    out->kind = CAD_NULL;
    if (word(c, "null")) return CAD_OK;
    out->kind = CAD_REAL;
    out->real = word(c, "NaN") ? NAN : word(c, "Infinity") ? INFINITY : word(c, "-Infinity") ? -INFINITY : 0;
    return out->real == 0 ? cadp_cursor_fail(c, "a value") : CAD_OK;
}

/* ---- lists and tables ---- */

static cad_status entry_key(cadp_cursor *c, cad_node *table, cadp_keys *keys, cad_node *e)
{
    size_t n;
    bool seen;
    char shown[64];

    e->key_line = c->line;
    e->key_column = cadp_cursor_column(c);
    if (c->at >= c->end || *c->at != '"') return cadp_cursor_fail(c, table->children ? "a key" : "a key or '}'");
    CAD_TRY(take_string(c, &e->key, &n));
    if (n > INT_MAX) return cad_fail(c->kind, "%s:%d:%d: expected a key below 2 GiB", c->path, e->key_line, e->key_column);
    e->key_size = (int)n;
    CAD_TRY(cadp_key_seen(keys, table, e->key, n, &seen));
    if (seen)
        return cad_fail(c->kind, "%s:%d:%d: expected every key once, found \"%s\" again", c->path, e->key_line, e->key_column,
                        cadp_show(shown, e->key, n));
    cadp_json_space(c);
    CAD_TRY(cadp_json_take(c, ':', "':' after the key"));
    cadp_json_space(c);
    return CAD_OK;
}

static cad_status entries(cadp_cursor *c, cad_node *out, int depth, cadp_keys *keys, char close)
{
    cad_node *tail = NULL, *e;

    cadp_json_space(c);
    if (at_one_of(c, close, close)) {
        c->at++;
        return CAD_OK;
    }
    for (;;) {
        if (out->children == INT_MAX) return cadp_cursor_fail(c, "fewer entries");
        CAD_TRY(cadp_node(c->arena, &e));
        if (out->kind == CAD_TABLE) CAD_TRY(entry_key(c, out, keys, e));
        CAD_TRY(cadp_json_value(c, e, depth + 1));
        cadp_append(out, &tail, e);
        cadp_json_space(c);
        if (at_one_of(c, close, close)) break;
        CAD_TRY(cadp_json_take(c, ',', close == '}' ? "',' or '}'" : "',' or ']'"));
        cadp_json_space(c);
    }
    c->at++;
    return CAD_OK;
}

static cad_status container(cadp_cursor *c, cad_node *out, int depth)
{
    cadp_keys keys = {0};
    char close = *c->at == '{' ? '}' : ']';

    if (depth > DEEPEST) return fail_found(c, "at most 64 levels", "one more");
    out->kind = close == '}' ? CAD_TABLE : CAD_LIST;
    c->at++;
    cad_status status = entries(c, out, depth, &keys, close);
    cad_map_close(&keys.map);
    return status;
}

cad_status cadp_json_value(cadp_cursor *c, cad_node *out, int depth)
{
    out->line = c->line;
    out->column = cadp_cursor_column(c);
    if (c->at >= c->end) return cadp_cursor_fail(c, "a value");
    if (*c->at == '"') {
        out->kind = CAD_STRING;
        return take_string(c, &out->text, &out->size);
    }
    if (*c->at == '{' || *c->at == '[') return container(c, out, depth);
    if (digit(c) || (*c->at == '-' && !(c->end - c->at > 1 && c->at[1] == 'I'))) return number(c, out);
    return literal(c, out);
}

/* ---- the door ---- */

cad_status cad_json_parse(cad_tree **out, const char *text, size_t n, const char *path, cad_status kind)
{
    cad_tree *t = NULL;
    cadp_cursor c;

    CAD_TRY(cadp_check_utf8(text, n, path, kind));
    CAD_TRY(cadp_tree_open(&t, path));
    cadp_cursor_begin(&c, text, n, path, kind, &t->arena);
    cadp_json_space(&c);
    cad_status status = cadp_json_value(&c, t->root, 1);
    cadp_json_space(&c);
    if (!status && c.at < c.end) status = cadp_cursor_fail(&c, "the end of the file");
    if (status) {
        cad_tree_close(&t);
        return status;
    }
    *out = t;
    return CAD_OK;
}

cad_status cad_json_read(cad_tree **out, const char *path, size_t limit, cad_status kind)
{
    char *text;
    size_t n;

    CAD_TRY(cad_read_file(&text, &n, path, limit, kind));
    cad_status status = cad_json_parse(out, text, n, path, kind);
    cad_free(&text);
    return status;
}
