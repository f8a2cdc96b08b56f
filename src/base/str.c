#include <cadtrain/base.h>

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

static cad_status make_room(cad_str *s, size_t more)
{
    size_t need = s->size + more + 1;

    if (need <= s->room) return CAD_OK;
    if (need < 2 * s->room) need = 2 * s->room;
    if (need < 64) need = 64;
    CAD_TRY(cad_grow(&s->data, need, 1, "text"));
    s->room = need;
    return CAD_OK;
}

cad_status cad_str_add(cad_str *s, const void *bytes, size_t n)
{
    CAD_TRY(make_room(s, n));
    if (n) memcpy(s->data + s->size, bytes, n);
    s->size += n;
    s->data[s->size] = 0;
    return CAD_OK;
}

cad_status cad_str_addf(cad_str *s, const char *format, ...)
{
    va_list args, again;
    int n;
    cad_status status;

    va_start(args, format);
    va_copy(again, args);
    n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    status = n < 0 ? cad_fail(CAD_EINTERNAL, "cannot format text") : make_room(s, (size_t)n);
    if (!status) {
        vsnprintf(s->data + s->size, (size_t)n + 1, format, again);
        s->size += (size_t)n;
    }
    va_end(again);
    return status;
}

void cad_str_close(cad_str *s)
{
    cad_free(&s->data);
    s->size = s->room = 0;
}

static int same(char a, char b)
{
    a = a == '-' ? '_' : (char)tolower((unsigned char)a);
    b = b == '-' ? '_' : (char)tolower((unsigned char)b);
    return a == b;
}

int cad_edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 63 };
    int d[LONGEST + 1][LONGEST + 1];
    int n = (int)strnlen(a, LONGEST), m = (int)strnlen(b, LONGEST);

    for (int i = 0; i <= n; i++) d[i][0] = i;
    for (int j = 0; j <= m; j++) d[0][j] = j;
    for (int i = 1; i <= n; i++)
        for (int j = 1; j <= m; j++) {
            int best = d[i - 1][j - 1] + !same(a[i - 1], b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]) && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

/* Among names at one distance: the one of like length that shares the longest beginning and end. */
static int cost(const char *wanted, const char *name)
{
    int n = (int)strlen(wanted), m = (int)strlen(name), ahead = 0, behind = 0, least = n < m ? n : m;

    while (ahead < least && wanted[ahead] == name[ahead]) ahead++;
    while (behind < least - ahead && wanted[n - 1 - behind] == name[m - 1 - behind]) behind++;
    return cad_edit_distance(wanted, name) * 1000 + (n > m ? n - m : m - n) * 10 + (63 - (ahead + behind) % 64) / 8;
}

void cad_near_offer(cad_near *near, const char *name)
{
    int n = (int)strlen(near->wanted), limit = n < 3 ? 1 : (n + 1) / 2, now = cost(near->wanted, name);

    if (now / 1000 > limit || (near->found && now >= near->cost)) return;
    near->found = true;
    near->cost = now;
    snprintf(near->best, sizeof near->best, "%s", name);
}

const char *cad_near_hint(cad_near *near, const char *before)
{
    near->hint[0] = 0;
    if (near->found) snprintf(near->hint, sizeof near->hint, "; did you mean \"%s%s\"?", before, near->best);
    return near->hint;
}

/* The length of the UTF-8 sequence at s (n bytes left), 0 when it is none (RFC 3629: no surrogates, no overlong forms). */
static size_t sequence(const unsigned char *s, size_t n)
{
    unsigned char c = s[0];
    size_t len = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;

    if (!len || len > n) return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if (c == 0xe0 && s[1] < 0xa0) return 0;
    if (c == 0xed && s[1] > 0x9f) return 0;
    if (c == 0xf0 && s[1] < 0x90) return 0;
    if (c == 0xf4 && s[1] > 0x8f) return 0;
    return len;
}

/* Passes over groups of eight ASCII bytes. */
static size_t skip_ascii(const char *s, size_t i, size_t n)
{
    uint64_t eight;

    for (; n - i >= 8; i += 8) {
        memcpy(&eight, s + i, 8);
        if (eight & 0x8080808080808080u) break;
    }
    return i;
}

bool cad_utf8_valid(const char *s, size_t n, size_t *bad_at)
{
    for (size_t i = 0; (i = skip_ascii(s, i, n)) < n;) {
        size_t len = sequence((const unsigned char *)s + i, n - i);
        if (!len) {
            if (bad_at) *bad_at = i;
            return false;
        }
        i += len;
    }
    return true;
}
