/* A template is pieces of text and fields in turn. */
#include "data_priv.h"

#include <stdio.h>

enum { MOST_PIECES = 64 };
typedef struct piece { size_t from, size; int field; } piece; /* field -1: text */
struct cad_template { cad_str text; piece piece[MOST_PIECES]; int count; };

static const char *const names[CAD_FIELDS] = {"question", "cot", "response"};

bool cad_template_uses(const cad_template *t, cad_field f)
{
    for (int i = 0; i < t->count; i++)
        if (t->piece[i].field == (int)f) return true;
    return false;
}

static cad_status add_piece(cad_template *t, piece p, const char *where)
{
    if (p.field < 0 && !p.size) return CAD_OK;
    if (t->count == MOST_PIECES) return cad_fail(CAD_EUSAGE, "%s: expected at most %d fields, found more", where, MOST_PIECES / 2);
    t->piece[t->count++] = p;
    return CAD_OK;
}

/* The field of the word between braces: -1 none, CAD_FIELDS: the next in turn. */
static int field_of(const char *word, size_t n)
{
    for (int f = 0; f < CAD_FIELDS; f++)
        if (strlen(names[f]) == n && !memcmp(names[f], word, n)) return f;
    return n ? -1 : CAD_FIELDS;
}

static bool is_word(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9') || s[i] == '_')) return false;
    return true;
}

/* Braces round anything but a name are text. */
static cad_status take_field(cad_template *t, const char **at, int *turn, bool *took, const char *where)
{
    size_t n = strcspn(*at + 1, "{}");
    int f = field_of(*at + 1, n);

    *took = (*at)[n + 1] == '}' && is_word(*at + 1, n);
    if (!*took) return CAD_OK;
    if (f == CAD_FIELDS) f = (*turn)++;
    if (f < 0 || f >= CAD_FIELDS)
        return cad_fail(CAD_EUSAGE, "%s: expected the fields {question}, {cot} and {response}, found {%.*s}%s", where, (int)cad_min(60, (int64_t)n), *at + 1, f < 0 ? "" : " a fourth time");
    *at += n + 2;
    return add_piece(t, (piece){.field = f}, where);
}

static cad_status take_pieces(cad_template *t, const char *at, const char *where)
{
    size_t from = 0;
    int turn = 0;

    while (*at) {
        bool took = false;
        size_t written = t->text.size;
        if (*at == '{' && at[1] != '{') {
            piece before = {from, written - from, -1};
            int count = t->count;
            CAD_TRY(add_piece(t, before, where));
            CAD_TRY(take_field(t, &at, &turn, &took, where));
            if (took) from = written;
            else t->count = count;
        }
        if (took) continue;
        if ((*at == '{' || *at == '}') && at[1] == *at) at++;
        CAD_TRY(cad_str_add(&t->text, at++, 1));
    }
    return add_piece(t, (piece){from, t->text.size - from, -1}, where);
}

static cad_status check(const cad_template *t, const char *where)
{
    bool asked = false;

    if (!cad_template_uses(t, CAD_FIELD_QUESTION)) return cad_fail(CAD_EUSAGE, "%s: expected the field {question}, found none", where);
    if (!cad_template_uses(t, CAD_FIELD_RESPONSE)) return cad_fail(CAD_EUSAGE, "%s: expected the field {response}, found none", where);
    for (int i = 0; i < t->count; i++) {
        if (t->piece[i].field == CAD_FIELD_QUESTION) asked = true;
        else if (t->piece[i].field >= 0 && !asked) return cad_fail(CAD_EUSAGE, "%s: expected {question} before {%s}, found it behind", where, names[t->piece[i].field]);
    }
    return CAD_OK;
}

cad_status cad_template_parse(cad_template **out, const char *text, const char *where)
{
    cad_status status;

    CAD_TRY(cad_alloc(out, 1, sizeof **out, "a template"));
    if (!(status = cad_str_add(&(*out)->text, "", 0)) && !(status = take_pieces(*out, text, where))) status = check(*out, where);
    if (status) cad_template_close(out);
    return status;
}

void cad_template_close(cad_template **t)
{
    if (!*t) return;
    cad_str_close(&(*t)->text);
    cad_free(t);
}

cad_status cad_template_fill(const cad_template *t, const cad_words_of values[CAD_FIELDS], cad_str *out, size_t *answer)
{
    bool found = false;

    for (int i = 0; i < t->count; i++) {
        const piece *p = &t->piece[i];
        if (p->field > CAD_FIELD_QUESTION && !found) {
            found = true;
            *answer = out->size;
            if (!values[CAD_FIELD_RESPONSE].text) return CAD_OK;
        }
        CAD_TRY(p->field < 0 ? cad_str_add(out, t->text.data + p->from, p->size) : cad_str_add(out, values[p->field].text ? values[p->field].text : "", values[p->field].size));
    }
    return CAD_OK;
}

cad_status cad_template_mark(const cad_template *t, cad_str *out)
{
    CAD_TRY(cad_str_add(out, "", 0));
    for (int i = 2; i < t->count; i++) {
        const piece *p = &t->piece[i - 1];
        const char *at = t->text.data + p->from, *end = at + p->size;
        if (t->piece[i].field != CAD_FIELD_RESPONSE || p->field >= 0 || t->piece[i - 2].field != CAD_FIELD_COT) continue;
        while (at < end && strchr(" \t\r\n", *at)) at++;
        while (end > at && strchr(" \t\r\n", end[-1])) end--;
        return at == end ? cad_str_add(out, t->text.data + p->from, p->size) : cad_str_add(out, at, (size_t)(end - at));
    }
    return CAD_OK;
}
