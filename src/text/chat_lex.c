/* A template cut into text and the words of its tags. */
#include "chat_priv.h"

typedef struct lexer { cadp_source *s; const char *text; size_t size, at; int line; } lexer;

static cad_status add(lexer *l, cadp_token_kind kind, const char *text, size_t n)
{
    cadp_source *s = l->s;

    if (s->count == s->room) {
        s->room = 2 * s->room + 256;
        CAD_TRY(cad_grow(&s->token, (size_t)s->room, sizeof *s->token, "a chat template"));
    }
    s->token[s->count++] = (cadp_token){kind, text, n, l->line};
    return CAD_OK;
}

static bool sees(const lexer *l, const char *what) { return l->size - l->at >= strlen(what) && !memcmp(l->text + l->at, what, strlen(what)); }
static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static void advance(lexer *l, size_t n)
{
    for (; n; n--) l->line += l->text[l->at++] == '\n';
}

static void skip_space(lexer *l)
{
    while (l->at < l->size && is_space(l->text[l->at])) advance(l, 1);
}

/* Text up to a tag that begins with "{%" or "{#" loses what stands before the tag in its line; with "-" all white space before it. */
static size_t trimmed_end(const lexer *l, size_t from, size_t to, bool variable)
{
    char sign = to + 2 < l->size ? l->text[to + 2] : 0;
    size_t end = to;

    if (sign == '-') {
        while (end > from && is_space(l->text[end - 1])) end--;
        return end;
    }
    if (variable || sign == '+') return to;
    while (end > from && (l->text[end - 1] == ' ' || l->text[end - 1] == '\t')) end--;
    return end == 0 || l->text[end - 1] == '\n' ? end : to; /* end == from: the tag before may have taken the line's end */
}

static size_t next_tag(const lexer *l)
{
    size_t at = l->at;

    while (at < l->size && (l->text[at] != '{' || at + 1 == l->size || !strchr("{%#", l->text[at + 1]))) at++;
    return at;
}

/* Behind "%}" and "#}" the line's end goes; with "-" all white space. */
static void close_tag(lexer *l, char sign, bool variable)
{
    if (sign == '-') skip_space(l);
    else if (!variable && sign != '+' && l->at < l->size && l->text[l->at] == '\n') advance(l, 1);
}

static cad_status skip_comment(lexer *l)
{
    int line = l->line;

    advance(l, 2);
    while (l->at < l->size && !sees(l, "#}")) advance(l, 1);
    if (l->at == l->size) return cad_fail(CAD_EMODEL, "%s:%d: chat template: a comment has no end", l->s->path, line);
    advance(l, 2);
    close_tag(l, l->text[l->at - 3], false);
    return CAD_OK;
}

static size_t put_point(char *to, uint32_t c)
{
    if (c < 0x80) return to[0] = (char)c, 1;
    if (c < 0x800) return to[0] = (char)(0xc0 | c >> 6), to[1] = (char)(0x80 | (c & 63)), 2;
    return to[0] = (char)(0xe0 | c >> 12), to[1] = (char)(0x80 | (c >> 6 & 63)), to[2] = (char)(0x80 | (c & 63)), 3;
}

/* \u and \x with so many digits; false where they are not all there. */
static bool hexadecimal(const char *s, size_t n, size_t digits, uint32_t *out)
{
    *out = 0;
    if (n < digits) return false;
    for (size_t i = 0; i < digits; i++) {
        const char *all = "0123456789abcdef", *at = s[i] ? strchr(all, s[i] >= 'A' && s[i] <= 'F' ? s[i] + 32 : s[i]) : NULL;
        if (!at) return false;
        *out = *out * 16 + (uint32_t)(at - all);
    }
    return true;
}

static size_t unescape(const char *from, size_t n, char *to)
{
    static const char codes[] = "ntrbfav0\\'\"", means[] = "\n\t\r\b\f\a\v\0\\'\"";
    size_t out = 0;
    uint32_t c;

    for (size_t i = 0; i < n; i++) {
        const char *code = from[i] == '\\' && i + 1 < n ? strchr(codes, from[i + 1]) : NULL;
        size_t digits = from[i] == '\\' && i + 1 < n ? (from[i + 1] == 'u' ? 4 : from[i + 1] == 'x' ? 2 : 0) : 0;
        if (digits && hexadecimal(from + i + 2, n - i - 2, digits, &c)) {
            out += put_point(to + out, c);
            i += 1 + digits;
        } else if (code && *code) {
            to[out++] = means[code - codes];
            i++;
        } else if (from[i] == '\\' && i + 1 < n && from[i + 1] == '\n') i++; /* the line goes on */
        else to[out++] = from[i];
    }
    return out;
}

static cad_status string(lexer *l)
{
    size_t from = l->at + 1, to = from;
    char quote = l->text[l->at], *copy;

    while (to < l->size && l->text[to] != quote) to += l->text[to] == '\\' ? 2 : 1;
    if (to >= l->size) return cad_fail(CAD_EMODEL, "%s:%d: chat template: a text in quotes has no end", l->s->path, l->line);
    CAD_TRY(cadp_pool_take(l->s->pool, &copy, to - from + 1, 1));
    CAD_TRY(add(l, CADP_T_STRING, copy, unescape(l->text + from, to - from, copy)));
    advance(l, to + 1 - l->at);
    return CAD_OK;
}

static bool is_name(char c) { return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

static cad_status word(lexer *l)
{
    static const char *const pairs[] = {"==", "!=", "<=", ">=", "//", "**", NULL};
    size_t from = l->at, to = from;
    bool digit = l->text[from] >= '0' && l->text[from] <= '9', real = false;

    if (l->text[from] == '"' || l->text[from] == '\'') return string(l);
    while (to < l->size && (is_name(l->text[to]) || (digit && l->text[to] == '.' && !real && to + 1 < l->size && l->text[to + 1] >= '0' && l->text[to + 1] <= '9'))) real |= l->text[to++] == '.';
    if (to > from) {
        CAD_TRY(add(l, real ? CADP_T_REAL : digit ? CADP_T_INT : CADP_T_NAME, l->text + from, to - from));
        advance(l, to - from);
        return CAD_OK;
    }
    to = from + 1;
    for (int i = 0; pairs[i]; i++)
        if (sees(l, pairs[i])) to = from + 2;
    if (!strchr("+-*/%~()[]{}.,:|=<>!", l->text[from])) return cad_fail(CAD_EMODEL, "%s:%d: chat template: found an unexpected character in a tag", l->s->path, l->line);
    CAD_TRY(add(l, CADP_T_SIGN, l->text + from, to - from));
    advance(l, to - from);
    return CAD_OK;
}

/* One tag, from behind its "{{" or "{%". */
static cad_status tag(lexer *l, bool variable)
{
    int depth = 0, line = l->line;

    CAD_TRY(add(l, variable ? CADP_T_PRINT : CADP_T_BLOCK, "", 0));
    advance(l, 2);
    if (sees(l, "-") || sees(l, "+")) advance(l, 1);
    for (;;) {
        char sign = 0;
        skip_space(l);
        if (l->at == l->size) return cad_fail(CAD_EMODEL, "%s:%d: chat template: a tag has no end", l->s->path, line);
        if (!depth && (sees(l, variable ? "-}}" : "-%}") || (!variable && sees(l, "+%}")))) sign = l->text[l->at];
        if (!depth && (sign || sees(l, variable ? "}}" : "%}"))) {
            CAD_TRY(add(l, variable ? CADP_T_PRINT_END : CADP_T_BLOCK_END, "", 0));
            advance(l, sign ? 3 : 2);
            close_tag(l, sign, variable);
            return CAD_OK;
        }
        depth += strchr("([{", l->text[l->at]) ? 1 : strchr(")]}", l->text[l->at]) ? -1 : 0;
        CAD_TRY(word(l));
    }
}

cad_status cadp_chat_lex(cadp_source *s, const char *text, size_t n)
{
    lexer l = {s, text, n, 0, 1};

    if (memchr(text, 0, n)) return cad_fail(CAD_EMODEL, "%s: chat template: expected a text, found a NUL", s->path);
    while (l.at < n) {
        size_t to = next_tag(&l), from = l.at;
        bool variable = to < n && l.text[to + 1] == '{';
        size_t end = to < n ? trimmed_end(&l, from, to, variable) : to;
        if (end > from) CAD_TRY(add(&l, CADP_T_TEXT, text + from, end - from));
        advance(&l, to - from);
        if (to == n) break;
        CAD_TRY(l.text[to + 1] == '#' ? skip_comment(&l) : tag(&l, variable));
    }
    return add(&l, CADP_T_END, "", 0);
}
