#define PCRE2_CODE_UNIT_WIDTH 8
#include "split.h"
#include <pcre2.h>

struct cadp_regex { pcre2_code *code; };
struct cadp_matcher { pcre2_match_data *data; pcre2_match_context *context; pcre2_jit_stack *stack; };

enum { STEPS_ALLOWED = 2000000000, STACK_FIRST = 32 * 1024, STACK_MOST = 64 * 1024 * 1024 };
#define SPACES "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define NO_SPACES "\\x{0}-\\x{8}\\x{E}-\\x{1F}!-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}" \
                  "\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-\\x{10FFFF}"

/* Categories with code points that PCRE2's older tables do not have. */
static const struct { const char *name; const cadp_range *range; const size_t *count; } newer[] = {
    {"L", cadp_newer_l, &cadp_newer_l_count}, {"Lu", cadp_newer_lu, &cadp_newer_lu_count}, {"Ll", cadp_newer_ll, &cadp_newer_ll_count},
    {"Lm", cadp_newer_lm, &cadp_newer_lm_count}, {"Lo", cadp_newer_lo, &cadp_newer_lo_count}, {"M", cadp_newer_m, &cadp_newer_m_count},
    {"N", cadp_newer_n, &cadp_newer_n_count}, {"P", cadp_newer_p, &cadp_newer_p_count}, {"S", cadp_newer_s, &cadp_newer_s_count},
};

static cad_status add_text(cad_str *out, const char *text) { return cad_str_add(out, text, strlen(text)); }

static cad_status add_ranges(cad_str *out, const char *name, size_t size)
{
    for (size_t i = 0; i < sizeof newer / sizeof newer[0]; ++i) {
        if (strlen(newer[i].name) != size || memcmp(newer[i].name, name, size)) continue;
        for (size_t j = 0; j < *newer[i].count; ++j)
            CAD_TRY(cad_str_addf(out, "\\x{%X}-\\x{%X}", newer[i].range[j].first, newer[i].range[j].last));
    }
    return CAD_OK;
}

/* \p{Name} at pattern[i]; inside brackets the set's members, outside a set of its own. */
static cad_status add_property(cad_str *out, const char *pattern, size_t n, size_t *at, bool in_set, const char *where)
{
    size_t from = *at + 3, to = from;
    bool negative = pattern[*at + 1] == 'P';

    while (to < n && pattern[to] != '}') ++to;
    if (to >= n || pattern[*at + 2] != '{') return cad_fail(CAD_EMODEL, "%s: the pattern has \\p without {name}", where);
    if (from < to && pattern[from] == '^') {
        negative = !negative;
        ++from;
    }
    *at = to + 1;
    if (negative && in_set) return cad_str_addf(out, "\\P{%.*s}", (int)(to - from), pattern + from);
    if (!in_set) CAD_TRY(add_text(out, negative ? "[^" : "["));
    CAD_TRY(cad_str_addf(out, "\\p{%.*s}", (int)(to - from), pattern + from));
    CAD_TRY(add_ranges(out, pattern + from, to - from));
    return in_set ? CAD_OK : add_text(out, "]");
}

static cad_status add_escape(cad_str *out, const char *pattern, size_t n, size_t *at, bool in_set, const char *where)
{
    char c = *at + 1 < n ? pattern[*at + 1] : 0;

    if (c == 'p' || c == 'P') return add_property(out, pattern, n, at, in_set, where);
    *at += 2;
    if (c == 's') return add_text(out, in_set ? SPACES : "[" SPACES "]");
    if (c == 'S') return add_text(out, in_set ? NO_SPACES : "[^" SPACES "]");
    if (c == 0 || (c >= 'a' && c <= 'z' && !strchr("adefnrtxz", c)) || (c >= 'A' && c <= 'Z' && !strchr("AD", c)))
        return cad_fail(CAD_EMODEL, "%s: the pattern's \\%c is not implemented", where, c ? c : ' ');
    return cad_str_add(out, pattern + *at - 2, 2);
}

/* Anchors mean lines in the one engine and texts in the other; options but i, {1,2}+ and && mean different things too. */
static cad_status check_plain(const char *p, size_t left, const char *where)
{
    static const char *const groups[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"};

    if (*p == '^' || *p == '$') return cad_fail(CAD_EMODEL, "%s: the pattern's %c is not implemented", where, *p);
    if (*p == '}' && left > 1 && p[1] == '+') return cad_fail(CAD_EMODEL, "%s: the pattern's }+ is not implemented", where);
    if (*p != '(' || left < 2 || p[1] != '?') return CAD_OK;
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; ++i)
        if (left >= strlen(groups[i]) && !memcmp(p, groups[i], strlen(groups[i]))) return CAD_OK;
    return cad_fail(CAD_EMODEL, "%s: the pattern's group (?%c is not implemented", where, left > 2 ? p[2] : ' ');
}

static cad_status translate(const char *pattern, size_t n, const char *where, cad_str *out)
{
    bool in_set = false;

    for (size_t i = 0; i < n;) {
        char c = pattern[i];
        if (c == '\\') {
            CAD_TRY(add_escape(out, pattern, n, &i, in_set, where));
            continue;
        }
        if (!in_set) CAD_TRY(check_plain(pattern + i, n - i, where));
        if (in_set && (c == '[' || (c == '&' && i + 1 < n && pattern[i + 1] == '&')))
            return cad_fail(CAD_EMODEL, "%s: sets within sets are not implemented", where);
        CAD_TRY(cad_str_add(out, &c, 1));
        ++i;
        if (!in_set && c == '[') {
            in_set = true;
            if (i < n && pattern[i] == '^') CAD_TRY(cad_str_add(out, &pattern[i++], 1));
            if (i < n && pattern[i] == ']') return cad_fail(CAD_EMODEL, "%s: the pattern has a set that begins with ]", where);
        } else if (in_set && c == ']') in_set = false;
    }
    return CAD_OK;
}

cad_status cadp_regex_open(cadp_regex **out, const char *pattern, size_t n, const char *where)
{
    cad_str text = {0};
    cadp_regex *r = NULL;
    int error = 0;
    PCRE2_SIZE at = 0;
    char message[120];
    cad_status status;

    if ((status = translate(pattern, n, where, &text))) goto done;
    if ((status = cad_alloc(&r, 1, sizeof *r, "a pattern"))) goto done;
    r->code = pcre2_compile((PCRE2_SPTR)text.data, text.size, PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK | PCRE2_NEVER_BACKSLASH_C, &error, &at, NULL);
    if (!r->code) {
        pcre2_get_error_message(error, (PCRE2_UCHAR *)message, sizeof message);
        status = cad_fail(CAD_EMODEL, "%s: expected a regular expression: %s", where, message);
        goto done;
    }
    pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE); /* without it the interpreter runs */
    *out = r;
    r = NULL;
done:
    cad_str_close(&text);
    cadp_regex_close(&r);
    return status;
}

void cadp_regex_close(cadp_regex **r)
{
    if (!*r) return;
    pcre2_code_free((*r)->code);
    cad_free(r);
}

cad_status cadp_matcher_open(cadp_matcher **out, const cadp_regex *r)
{
    cadp_matcher *m;

    CAD_TRY(cad_alloc(&m, 1, sizeof *m, "a matcher"));
    m->data = pcre2_match_data_create_from_pattern(r->code, NULL);
    m->context = pcre2_match_context_create(NULL);
    m->stack = pcre2_jit_stack_create(STACK_FIRST, STACK_MOST, NULL); /* NULL without JIT */
    if (!m->data || !m->context) {
        cadp_matcher_close(&m);
        return cad_fail(CAD_ERESOURCE, "no memory for a matcher");
    }
    pcre2_set_match_limit(m->context, STEPS_ALLOWED);
    pcre2_set_depth_limit(m->context, STEPS_ALLOWED);
    if (m->stack) pcre2_jit_stack_assign(m->context, NULL, m->stack);
    *out = m;
    return CAD_OK;
}

void cadp_matcher_close(cadp_matcher **m)
{
    if (!*m) return;
    pcre2_match_data_free((*m)->data);
    pcre2_match_context_free((*m)->context);
    pcre2_jit_stack_free((*m)->stack);
    cad_free(m);
}

cad_status cadp_regex_find(const cadp_regex *r, cadp_matcher *m, const char *text, size_t n, size_t from, cadp_span *match, bool *found)
{
    const PCRE2_SIZE *ends;
    int rc = pcre2_match(r->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, m->data, m->context);

    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(r->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, m->data, m->context);
    *found = rc > 0;
    if (rc == PCRE2_ERROR_NOMATCH) return CAD_OK;
    if (rc <= 0) return cad_fail(CAD_ERESOURCE, "the tokenizer's pattern gave up on a text (PCRE2 error %d)", rc);
    ends = pcre2_get_ovector_pointer(m->data);
    *match = (cadp_span){(uint32_t)ends[0], (uint32_t)ends[1]};
    return CAD_OK;
}
