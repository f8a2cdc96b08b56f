#include "split.h"

cad_status cadp_spans_room(cadp_spans *s, int64_t more)
{
    int64_t want = s->count + more;

    if (want <= s->room) return CAD_OK;
    want = cad_max(want, cad_max(256, 2 * s->room));
    CAD_TRY(cad_grow(&s->at, (size_t)want, sizeof *s->at, "words"));
    s->room = want;
    return CAD_OK;
}

cad_status cadp_spans_add(cadp_spans *s, size_t from, size_t to)
{
    if (from == to) return CAD_OK;
    CAD_TRY(cadp_spans_room(s, 1));
    s->at[s->count++] = (cadp_span){(uint32_t)from, (uint32_t)to};
    return CAD_OK;
}

#define MODERN(digits) \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

cadp_known cadp_known_pattern(const char *pattern)
{
    if (!strcmp(pattern, MODERN("\\p{N}"))) return CADP_DIGIT1;
    if (!strcmp(pattern, MODERN("\\p{N}{1,3}"))) return CADP_DIGIT3;
    return !strcmp(pattern, CADP_GPT2_PATTERN) ? CADP_GPT2 : CADP_ANY;
}

static uint8_t look(const uint8_t *flags, const char *text, size_t at, size_t *bytes)
{
    if ((unsigned char)text[at] < 0x80) return *bytes = 1, flags[(unsigned char)text[at]];
    return flags[cadp_point(text + at, bytes)];
}

static size_t run_of(const uint8_t *flags, const char *text, size_t n, size_t at, uint8_t flag)
{
    for (size_t bytes; at < n && look(flags, text, at, &bytes) & flag;) at += bytes;
    return at;
}

/* [^\s\p{L}\p{N}]* */
static size_t run_of_others(const uint8_t *flags, const char *text, size_t n, size_t at)
{
    for (size_t bytes; at < n && !(look(flags, text, at, &bytes) & (CADP_LETTER | CADP_NUMBER | CADP_SPACE));) at += bytes;
    return at;
}

static bool line_end(char c) { return c == '\r' || c == '\n'; }

/* 's 't 're 've 'm 'll 'd behind an apostrophe at `at`: the end, or 0. `any_case` also takes capitals and the long s (U+017F). */
static size_t contraction(const char *text, size_t n, size_t at, bool any_case)
{
    char a, b, fold = any_case ? 0x20 : 0;

    if (at + 1 >= n) return 0;
    a = (char)(text[at + 1] | fold);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
    if (at + 2 >= n) return 0;
    if (any_case && text[at + 1] == '\xC5' && text[at + 2] == '\xBF') return at + 3;
    b = (char)(text[at + 2] | fold);
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? at + 3 : 0;
}

/* \s+(?!\S)|\s+ for the run [from, end) of spaces: the last of several stays for the next word unless the text ends here. */
static size_t spaces(const char *text, size_t n, size_t from, size_t end)
{
    size_t last = end - 1;

    if (end == n) return end;
    while (((unsigned char)text[last] & 0xC0) == 0x80) --last;
    return last > from ? last : end;
}

size_t cadp_next_gpt2(const uint8_t *flags, const char *text, size_t n, size_t from)
{
    size_t bytes, end, at = from;
    uint8_t k;

    if (text[from] == '\'' && (end = contraction(text, n, from, false))) return end;
    if (text[from] == ' ' && from + 1 < n) ++at;
    k = look(flags, text, at, &bytes);
    if (k & CADP_LETTER) return run_of(flags, text, n, at, CADP_LETTER);
    if (k & CADP_NUMBER) return run_of(flags, text, n, at, CADP_NUMBER);
    if (!(k & CADP_SPACE)) return run_of_others(flags, text, n, at);
    return spaces(text, n, from, run_of(flags, text, n, from, CADP_SPACE));
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t modern_spaces(const uint8_t *flags, const char *text, size_t n, size_t from)
{
    size_t end = from, bytes, lines = 0;

    while (end < n && look(flags, text, end, &bytes) & CADP_SPACE) {
        if (line_end(text[end])) lines = end + 1;
        end += bytes;
    }
    return lines ? lines : spaces(text, n, from, end);
}

size_t cadp_next_modern(const uint8_t *flags, const char *text, size_t n, size_t from, int digits)
{
    size_t bytes, next, end;
    uint8_t k = look(flags, text, from, &bytes);

    if (k & CADP_LETTER) return run_of(flags, text, n, from + bytes, CADP_LETTER);
    if (k & CADP_NUMBER) {
        for (end = from + bytes; --digits > 0 && end < n && look(flags, text, end, &next) & CADP_NUMBER;) end += next;
        return end;
    }
    if (text[from] == '\'' && (end = contraction(text, n, from, true))) return end;
    end = from + bytes;
    if (!line_end(text[from]) && end < n && look(flags, text, end, &next) & CADP_LETTER) return run_of(flags, text, n, end + next, CADP_LETTER);
    if (!(k & CADP_SPACE) || (text[from] == ' ' && end < n && !(look(flags, text, end, &next) & (CADP_LETTER | CADP_NUMBER | CADP_SPACE)))) {
        end = run_of_others(flags, text, n, end);
        while (end < n && line_end(text[end])) ++end;
        return end;
    }
    return modern_spaces(flags, text, n, from);
}

static cad_status split_known(const cadp_splitter *s, const uint8_t *flags, const char *text, cadp_span in, cadp_spans *out)
{
    const char *base = text + in.from;
    size_t n = in.to - in.from, end;

    for (size_t at = 0; at < n; at = end) {
        end = s->known == CADP_GPT2 ? cadp_next_gpt2(flags, base, n, at) : cadp_next_modern(flags, base, n, at, s->known == CADP_DIGIT1 ? 1 : 3);
        CAD_TRY(cadp_spans_room(out, 1));
        out->at[out->count++] = (cadp_span){(uint32_t)(in.from + at), (uint32_t)(in.from + end)};
    }
    return CAD_OK;
}

/* Matches as Rust's find_iter gives them: an empty one right behind a match is passed over. */
static cad_status find_all(const cadp_splitter *s, cadp_matcher *m, const char *text, size_t n, cadp_spans *out)
{
    size_t at = 0, last = SIZE_MAX, bytes;
    cadp_span match = {0, 0};
    bool found;

    while (at <= n) {
        if (s->literal) {
            const char *hit = at < n ? memmem(text + at, n - at, s->literal, s->literal_size) : NULL;
            if (!hit) return CAD_OK;
            match = (cadp_span){(uint32_t)(hit - text), (uint32_t)((size_t)(hit - text) + s->literal_size)};
        } else {
            CAD_TRY(cadp_regex_find(s->regex, m, text, n, at, &match, &found));
            if (!found) return CAD_OK;
        }
        if (match.from == match.to && match.to == last) {
            if (at >= n) return CAD_OK;
            cadp_point(text + at, &bytes);
            at += bytes;
            continue;
        }
        CAD_TRY(cadp_spans_room(out, 1));
        out->at[out->count++] = match;
        at = last = match.to;
    }
    return CAD_OK;
}

/* One stretch of the text, match or not, appended by the behaviour's rule (normalizer.rs, NormalizedString::split). */
typedef struct joiner { cadp_spans *out; cadp_behavior behavior; int64_t first; bool any, before; size_t pending; } joiner;

static cad_status join_next(joiner *j, size_t base, size_t from, size_t to, bool match)
{
    bool extend = false;

    switch (j->behavior) {
    case CADP_REMOVED: return match ? CAD_OK : cadp_spans_add(j->out, base + from, base + to);
    case CADP_ISOLATED: break;
    case CADP_WITH_PREVIOUS: extend = match && !j->before; break;
    case CADP_CONTIGUOUS: extend = match == j->before; break;
    case CADP_WITH_NEXT: extend = !match && j->before; break;
    }
    j->before = match;
    if (extend && j->out->count > j->first) {
        j->out->at[j->out->count - 1].to = (uint32_t)(base + to);
        return CAD_OK;
    }
    return cadp_spans_add(j->out, base + from, base + to);
}

static cad_status split_matches(const cadp_splitter *s, const cadp_spans *matches, cadp_span in, cadp_spans *out)
{
    joiner j = {.out = out, .behavior = s->behavior, .first = out->count};
    size_t at = 0, n = in.to - in.from;

    for (int64_t i = 0; i < matches->count; ++i) {
        cadp_span m = matches->at[i];
        if (at < m.from) CAD_TRY(join_next(&j, in.from, at, m.from, s->invert));
        CAD_TRY(join_next(&j, in.from, m.from, m.to, !s->invert));
        at = m.to;
    }
    return at < n ? join_next(&j, in.from, at, n, s->invert) : CAD_OK;
}

cad_status cadp_split(const cadp_splitter *s, const uint8_t *flags, cadp_matcher *m, const char *text, cadp_span in, cadp_spans *matches, cadp_spans *out)
{
    if (s->known && s->behavior == CADP_ISOLATED) return split_known(s, flags, text, in, out);
    matches->count = 0;
    CAD_TRY(find_all(s, m, text + in.from, in.to - in.from, matches));
    return split_matches(s, matches, in, out);
}
