#include "unicode.h"
#include <utf8proc.h>

/* Composed characters younger than Unicode 9, which the NFC of the tokenizers library does not know. */
static const cadp_range younger[] = {
    {0x105c9, 0x105c9}, {0x105e4, 0x105e4}, {0x11383, 0x11391}, {0x113c5, 0x113c8}, {0x11938, 0x11938}, {0x16121, 0x16128}, {0x16d68, 0x16d6a},
};
enum { L0 = 0x1100, V0 = 0x1161, T0 = 0x11A7, S0 = 0xAC00, LS = 19, VS = 21, TS = 28, LONGEST_DECOMPOSITION = 18 };

bool cadp_inside(const cadp_range *r, size_t n, uint32_t c)
{
    size_t low = 0;

    while (low < n) {
        size_t middle = (low + n) / 2;
        if (c > r[middle].last) low = middle + 1;
        else if (c < r[middle].first) n = middle;
        else return true;
    }
    return false;
}

bool cadp_is_space(uint32_t point) { return cadp_inside(cadp_spaces, cadp_spaces_count, point); }

/* Alphabetic, M, Nd, Pc and the joiners; the circled letters are alphabetic symbols (Other_Alphabetic outside of L and M). */
bool cadp_is_word(uint32_t point)
{
    switch (utf8proc_category((utf8proc_int32_t)point)) {
    case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT: case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN: case UTF8PROC_CATEGORY_MC: case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND: case UTF8PROC_CATEGORY_NL: case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return point == 0x200C || point == 0x200D || (point >= 0x24B6 && point <= 0x24E9) || (point >= 0x1F130 && point <= 0x1F149) ||
               (point >= 0x1F150 && point <= 0x1F169) || (point >= 0x1F170 && point <= 0x1F189);
    }
}

size_t cadp_utf8(char out[4], uint32_t point)
{
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)point, (utf8proc_uint8_t *)out);
}

static void mark_all(uint8_t *flags, const cadp_range *r, size_t n, uint8_t flag)
{
    for (size_t i = 0; i < n; ++i)
        for (uint32_t c = r[i].first; c <= r[i].last; ++c) flags[c] |= flag;
}

static uint32_t pair_slot(uint32_t first, uint32_t second) { return (first * 0x9E3779B1u ^ second * 0x85EBCA77u) >> 7 & (CADP_PAIRS - 1); }

static void add_pair(cadp_unicode *u, uint32_t first, uint32_t second, uint32_t joined)
{
    uint32_t i = pair_slot(first, second);

    while (u->pair[i].joined) i = (i + 1) & (CADP_PAIRS - 1);
    u->pair[i] = (cadp_pair){first, second, joined};
}

static uint32_t join(const cadp_unicode *u, uint32_t first, uint32_t second)
{
    if (first - L0 < LS && second - V0 < VS) return S0 + ((first - L0) * VS + (second - V0)) * TS;
    if (first - S0 < LS * VS * TS && (first - S0) % TS == 0 && second - T0 - 1 < TS - 1) return first + (second - T0);
    for (uint32_t i = pair_slot(first, second); u->pair[i].joined; i = (i + 1) & (CADP_PAIRS - 1))
        if (u->pair[i].first == first && u->pair[i].second == second) return u->pair[i].joined;
    return 0;
}

/* Canonical decomposition, complete. */
static size_t decompose(uint32_t c, uint32_t out[LONGEST_DECOMPOSITION])
{
    utf8proc_int32_t parts[LONGEST_DECOMPOSITION];
    utf8proc_ssize_t n;

    out[0] = c;
    if (cadp_inside(younger, sizeof younger / sizeof younger[0], c)) return 1;
    n = utf8proc_decompose_char((utf8proc_int32_t)c, parts, LONGEST_DECOMPOSITION, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, NULL);
    if (n < 1 || n > LONGEST_DECOMPOSITION) return 1;
    for (utf8proc_ssize_t i = 0; i < n; ++i) out[i] = (uint32_t)parts[i];
    return (size_t)n;
}

static uint32_t composed(const uint32_t *parts, size_t n)
{
    utf8proc_int32_t work[LONGEST_DECOMPOSITION];

    for (size_t i = 0; i < n; ++i) work[i] = (utf8proc_int32_t)parts[i];
    return utf8proc_normalize_utf32(work, (utf8proc_ssize_t)n, UTF8PROC_COMPOSE | UTF8PROC_STABLE) == 1 ? (uint32_t)work[0] : 0;
}

static void learn(cadp_unicode *u, uint32_t c)
{
    const utf8proc_property_t *p = utf8proc_get_property((utf8proc_int32_t)c);
    uint32_t parts[LONGEST_DECOMPOSITION];
    size_t n;

    if (p->decomp_type || p->decomp_seqindex == UINT16_MAX || (c >= S0 && c < S0 + LS * VS * TS)) return;
    n = decompose(c, parts);
    if (n == 1 && parts[0] == c) return;
    if (n < 2 || composed(parts, n) != c) {
        u->flags[c] |= CADP_UNSTABLE;
        return;
    }
    u->flags[parts[n - 1]] |= CADP_UNSTABLE;
    add_pair(u, n == 2 ? parts[0] : composed(parts, n - 1), parts[n - 1], c);
}

cad_status cadp_unicode_open(cadp_unicode **out)
{
    cadp_unicode *u;
    const cadp_range jamo[] = {{V0, V0 + VS - 1}, {T0 + 1, T0 + TS - 1}};

    CAD_TRY(cad_alloc(&u, 1, sizeof *u, "Unicode tables"));
    mark_all(u->flags, cadp_letters, cadp_letters_count, CADP_LETTER);
    mark_all(u->flags, cadp_numbers, cadp_numbers_count, CADP_NUMBER);
    mark_all(u->flags, cadp_spaces, cadp_spaces_count, CADP_SPACE);
    mark_all(u->flags, cadp_marks, cadp_marks_count, CADP_MARK);
    mark_all(u->flags, jamo, 2, CADP_UNSTABLE);
    for (uint32_t c = 0xC0; c < 0x30000; ++c) learn(u, c);
    *out = u;
    return CAD_OK;
}

void cadp_points_close(cadp_points *p)
{
    cad_free(&p->at);
    cad_free(&p->other);
    *p = (cadp_points){0};
}

static cad_status push(cadp_points *p, uint32_t c)
{
    if (p->count == p->room) {
        CAD_TRY(cad_grow(&p->at, p->room ? 2 * p->room : 256, sizeof *p->at, "normalised text"));
        p->room = p->room ? 2 * p->room : 256;
    }
    p->at[p->count++] = c;
    return CAD_OK;
}

cad_status cadp_points_of(const char *text, size_t n, cadp_points *p)
{
    p->count = 0;
    for (size_t i = 0, bytes; i < n; i += bytes) CAD_TRY(push(p, cadp_point(text + i, &bytes)));
    return CAD_OK;
}

static uint8_t mark_class(const cadp_unicode *u, uint32_t c)
{
    return u->flags[c] & CADP_MARK ? (uint8_t)utf8proc_get_property((utf8proc_int32_t)c)->combining_class : 0;
}

/* Stable sort of marks by combining class: insertion for the usual handful, counting for long runs, so that no text is quadratic. */
static cad_status sort_marks(const cadp_unicode *u, cadp_points *p, uint32_t *at, size_t n)
{
    size_t start[257] = {0};

    if (n <= 16) {
        for (size_t i = 1; i < n; ++i) {
            uint32_t c = at[i];
            uint8_t k = mark_class(u, c);
            size_t j = i;
            for (; j > 0 && mark_class(u, at[j - 1]) > k; --j) at[j] = at[j - 1];
            at[j] = c;
        }
        return CAD_OK;
    }
    if (p->other_room < n) {
        cad_free(&p->other);
        p->other_room = 0;
        CAD_TRY(cad_grow(&p->other, n, sizeof *p->other, "normalised text"));
        p->other_room = n;
    }
    for (size_t i = 0; i < n; ++i) start[mark_class(u, at[i]) + 1]++;
    for (int k = 0; k < 256; ++k) start[k + 1] += start[k];
    for (size_t i = 0; i < n; ++i) p->other[start[mark_class(u, at[i])]++] = at[i];
    memcpy(at, p->other, n * sizeof *at);
    return CAD_OK;
}

/* Decomposes and orders [text, text + n) into p->at. */
cad_status cadp_nfd(const cadp_unicode *u, const char *text, size_t n, cadp_points *p)
{
    uint32_t parts[LONGEST_DECOMPOSITION];

    p->count = 0;
    for (size_t i = 0, bytes; i < n; i += bytes) {
        uint32_t c = cadp_point(text + i, &bytes);
        size_t k = c < 0xC0 ? (parts[0] = c, 1) : decompose(c, parts);
        for (size_t j = 0; j < k; ++j) CAD_TRY(push(p, parts[j]));
    }
    for (size_t i = 0; i < p->count;) {
        size_t from = i;
        while (i < p->count && u->flags[p->at[i]] & CADP_MARK) ++i;
        if (i - from > 1) CAD_TRY(sort_marks(u, p, p->at + from, i - from));
        if (i == from) ++i;
    }
    return CAD_OK;
}

/* Unicode Standard, section 3.11: the canonical composition algorithm. */
static void compose(const cadp_unicode *u, cadp_points *p)
{
    size_t out = 0, starter = SIZE_MAX;
    uint8_t before = 0;

    for (size_t i = 0; i < p->count; ++i) {
        uint32_t c = p->at[i], joined;
        uint8_t k = mark_class(u, c);
        if (starter != SIZE_MAX && (before == 0 || before < k) && (joined = join(u, p->at[starter], c))) {
            p->at[starter] = joined;
            continue;
        }
        if (k == 0) starter = out;
        before = k;
        p->at[out++] = c;
    }
    p->count = out;
}

static cad_status normalise_part(const cadp_unicode *u, const char *text, size_t n, cadp_points *work, cad_str *out)
{
    char bytes[4];

    CAD_TRY(cadp_nfd(u, text, n, work));
    compose(u, work);
    for (size_t i = 0; i < work->count; ++i) CAD_TRY(cad_str_add(out, bytes, cadp_utf8(bytes, work->at[i])));
    return CAD_OK;
}

static size_t skip_ascii(const char *text, size_t i, size_t n)
{
    uint64_t word;

    for (; i + 8 <= n; i += 8) {
        memcpy(&word, text + i, 8);
        if (word & 0x8080808080808080u) break;
    }
    while (i < n && (unsigned char)text[i] < 0x80) ++i;
    return i;
}

/* Only stretches with a code point that NFC may touch are rewritten, each from the last safe code point before to the next one behind. */
cad_status cadp_nfc(const cadp_unicode *u, const char *text, size_t n, cadp_points *work, cad_str *out, bool *changed)
{
    size_t done = 0, safe = 0, i = 0, bytes;

    *changed = false;
    while (i < n) {
        if ((unsigned char)text[i] < 0x80) {
            i = skip_ascii(text, i, n);
            safe = i - 1;
            continue;
        }
        if (!(u->flags[cadp_point(text + i, &bytes)] & (CADP_MARK | CADP_UNSTABLE))) {
            safe = i;
            i += bytes;
            continue;
        }
        while (i < n && u->flags[cadp_point(text + i, &bytes)] & (CADP_MARK | CADP_UNSTABLE)) i += bytes;
        if (!*changed) out->size = 0;
        *changed = true;
        CAD_TRY(cad_str_add(out, text + done, safe - done));
        CAD_TRY(normalise_part(u, text + safe, i - safe, work, out));
        done = safe = i;
    }
    if (*changed) CAD_TRY(cad_str_add(out, text + done, n - done));
    return CAD_OK;
}
