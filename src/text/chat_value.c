/* What a template computes with: values as Python has them. */
#include "chat_priv.h"

#include <stdio.h>

enum { DEEPEST = 64, MOST = 1 << 24 };

cad_status cadp_pool_take(cadp_pool *p, void *out, size_t n, size_t each)
{
    void *piece;

    if (p->count == p->room) {
        p->room = 2 * p->room + 256;
        CAD_TRY(cad_grow(&p->piece, (size_t)p->room, sizeof *p->piece, "a chat template"));
    }
    CAD_TRY(cad_alloc(&piece, n, each, "a chat template"));
    p->piece[p->count++] = piece;
    memcpy(out, &piece, sizeof piece);
    return CAD_OK;
}

cad_status cadp_pool_text(cadp_pool *p, const char *from, size_t n, const char **out)
{
    char *copy;

    CAD_TRY(cadp_pool_take(p, &copy, n + 1, 1));
    if (n) memcpy(copy, from, n);
    *out = copy;
    return CAD_OK;
}

void cadp_pool_close(cadp_pool *p)
{
    for (int64_t i = 0; i < p->count; i++) cad_free(&p->piece[i]);
    cad_free(&p->piece);
    *p = (cadp_pool){0};
}

/* ---- lists and tables ---- */

cad_status cadp_many_new(cadp_pool *p, cadp_type type, cadp_value *out)
{
    *out = (cadp_value){.type = type};
    return cadp_pool_take(p, &out->many, 1, sizeof *out->many);
}

cad_status cadp_many_add(cadp_pool *p, cadp_many *m, cadp_value v)
{
    if (m->count == m->room) {
        cadp_value *more;
        m->room = 2 * m->room + 8;
        CAD_TRY(cadp_pool_take(p, &more, (size_t)m->room, sizeof *more));
        if (m->count) memcpy(more, m->item, (size_t)m->count * sizeof *more);
        m->item = more;
    }
    m->item[m->count++] = v;
    return CAD_OK;
}

cadp_value *cadp_many_find(const cadp_value *table, const char *key, size_t n)
{
    for (int64_t i = 0; table->type == CADP_TABLE && i < table->many->count; i += 2) {
        const cadp_value *k = &table->many->item[i];
        if (k->type == CADP_TEXT && k->size == n && !memcmp(k->text, key, n)) return &table->many->item[i + 1];
    }
    return NULL;
}

cad_status cadp_many_put(cadp_pool *p, cadp_value *table, const char *key, size_t n, cadp_value v)
{
    cadp_value *at = cadp_many_find(table, key, n);

    if (at) {
        *at = v;
        return CAD_OK;
    }
    CAD_TRY(cadp_many_add(p, table->many, cadp_of_text(key, n)));
    return cadp_many_add(p, table->many, v);
}

static cad_status of_node(cadp_pool *p, const cad_node *n, int depth, cadp_value *out)
{
    *out = (cadp_value){.type = CADP_NONE};
    if (depth > DEEPEST) return cad_fail(CAD_EDATA, "a conversation: expected less nesting");
    if (n->kind == CAD_BOOL) *out = cadp_of_bool(n->boolean);
    else if (n->kind == CAD_INT) *out = cadp_of_int(n->integer);
    else if (n->kind == CAD_REAL) *out = (cadp_value){.type = CADP_REAL, .real = n->real};
    else if (n->kind == CAD_STRING) *out = cadp_of_text(n->text, n->size);
    else if (n->kind == CAD_LIST || n->kind == CAD_TABLE) {
        CAD_TRY(cadp_many_new(p, n->kind == CAD_LIST ? CADP_LIST : CADP_TABLE, out));
        for (const cad_node *c = n->child; c; c = c->next) {
            cadp_value v;
            CAD_TRY(of_node(p, c, depth + 1, &v));
            if (n->kind == CAD_TABLE) CAD_TRY(cadp_many_add(p, out->many, cadp_of_text(c->key, (size_t)c->key_size)));
            CAD_TRY(cadp_many_add(p, out->many, v));
        }
    }
    return CAD_OK;
}

cad_status cadp_value_of_node(cadp_pool *p, const cad_node *n, cadp_value *out) { return of_node(p, n, 0, out); }

/* ---- questions ---- */

static bool is_number(const cadp_value *v) { return v->type == CADP_INT || v->type == CADP_REAL || v->type == CADP_BOOL; }
static double number(const cadp_value *v) { return v->type == CADP_INT ? (double)v->integer : v->type == CADP_REAL ? v->real : v->truth; }

bool cadp_is_true(const cadp_value *v)
{
    if (is_number(v)) return number(v) != 0;
    if (v->type == CADP_TEXT) return v->size > 0;
    if (v->type == CADP_LIST || v->type == CADP_TABLE) return v->many->count > 0;
    return v->type >= CADP_MACRO;
}

bool cadp_is_equal(const cadp_value *a, const cadp_value *b)
{
    if (is_number(a) && is_number(b)) return a->type != CADP_REAL && b->type != CADP_REAL ? (a->type == CADP_INT ? a->integer : a->truth) == (b->type == CADP_INT ? b->integer : b->truth) : number(a) == number(b);
    if (a->type != b->type) return false;
    if (a->type == CADP_TEXT) return a->size == b->size && !memcmp(a->text, b->text, a->size);
    if (a->type != CADP_LIST && a->type != CADP_TABLE) return true;
    if (a->many == b->many) return true;
    if (a->many->count != b->many->count) return false;
    for (int64_t i = 0; i < a->many->count; i++)
        if (!cadp_is_equal(&a->many->item[i], &b->many->item[i])) return false;
    return true;
}

static size_t character(const cadp_value *v, size_t at)
{
    for (at++; at < v->size && ((unsigned char)v->text[at] & 0xc0) == 0x80;) at++;
    return at;
}

int64_t cadp_length(const cadp_value *v)
{
    int64_t n = 0;

    if (v->type == CADP_UNDEFINED) return 0;
    if (v->type == CADP_LIST) return v->many->count;
    if (v->type == CADP_TABLE) return v->many->count / 2;
    if (v->type != CADP_TEXT) return -1;
    for (size_t at = 0; at < v->size; n++) at = character(v, at);
    return n;
}

void cadp_characters(const cadp_value *v, int64_t from, int64_t to, cadp_value *out)
{
    size_t first = 0, at = 0;

    for (int64_t i = 0; i < to && at < v->size; i++) {
        if (i == from) first = at;
        at = character(v, at);
    }
    if (from >= to) at = first = 0;
    *out = cadp_of_text(v->text + first, at - first);
}

/* Bytes of the white space (as Python's str.isspace has it) that begins at text[at]; 0: none. */
static size_t space_at(const cadp_value *v, size_t at)
{
    static const char *const wide[] = {"\xc2\x85", "\xc2\xa0", "\xe1\x9a\x80", "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80", NULL};
    unsigned char c = (unsigned char)v->text[at];

    if (c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f)) return 1;
    for (int i = 0; wide[i]; i++)
        if (v->size - at >= strlen(wide[i]) && !memcmp(v->text + at, wide[i], strlen(wide[i]))) return strlen(wide[i]);
    return v->size - at >= 3 && !memcmp(v->text + at, "\xe2\x80", 2) && (unsigned char)v->text[at + 2] >= 0x80 && (unsigned char)v->text[at + 2] <= 0x8a ? 3 : 0;
}

static size_t stripped_at(const cadp_value *v, const cadp_value *of, size_t at)
{
    size_t n = character(v, at) - at;

    if (!of || of->type != CADP_TEXT) return space_at(v, at);
    for (size_t i = 0; i < of->size; i = character(of, i))
        if (character(of, i) - i == n && !memcmp(of->text + i, v->text + at, n)) return n;
    return 0;
}

void cadp_strip(cadp_value *v, const cadp_value *of, bool left, bool right)
{
    size_t n;

    for (; left && v->size && (n = stripped_at(v, of, 0)); v->size -= n) v->text += n;
    while (right && v->size) {
        size_t at = v->size - 1;
        while (at && ((unsigned char)v->text[at] & 0xc0) == 0x80) at--;
        if (!stripped_at(v, of, at)) break;
        v->size = at;
    }
}

/* ---- as text ---- */

static cad_status write_quoted(const cadp_value *v, cad_str *out)
{
    bool twice = memchr(v->text, '\'', v->size) && !memchr(v->text, '"', v->size);

    CAD_TRY(cad_str_add(out, twice ? "\"" : "'", 1));
    for (size_t i = 0; i < v->size; i++) {
        char c = v->text[i];
        if (c == '\n') CAD_TRY(cad_str_add(out, "\\n", 2));
        else if (c == '\t') CAD_TRY(cad_str_add(out, "\\t", 2));
        else if (c == '\r') CAD_TRY(cad_str_add(out, "\\r", 2));
        else if (c == '\\' || (c == '\'' && !twice)) CAD_TRY(cad_str_addf(out, "\\%c", c));
        else CAD_TRY(cad_str_add(out, &c, 1));
    }
    return cad_str_add(out, twice ? "\"" : "'", 1);
}

static cad_status write_many(const cadp_value *v, cad_str *out)
{
    bool table = v->type == CADP_TABLE;

    CAD_TRY(cad_str_add(out, table ? "{" : "[", 1));
    for (int64_t i = 0; i < v->many->count; i++) {
        if (i) CAD_TRY(cad_str_add(out, table && i % 2 ? ": " : ", ", 2));
        CAD_TRY(cadp_write_value(&v->many->item[i], true, out));
    }
    return cad_str_add(out, table ? "}" : "]", 1);
}

cad_status cadp_write_value(const cadp_value *v, bool quoted, cad_str *out)
{
    char real[32];

    if (out->size > MOST) return cad_fail(CAD_EDATA, "chat template: expected a text of at most %d bytes", MOST);
    switch (v->type) {
    case CADP_UNDEFINED: return CAD_OK;
    case CADP_NONE: return cad_str_add(out, "None", 4);
    case CADP_BOOL: return cad_str_addf(out, "%s", v->truth ? "True" : "False");
    case CADP_INT: return cad_str_addf(out, "%lld", (long long)v->integer);
    case CADP_REAL: return cad_str_add(out, real, (size_t)cad_format_real(real, v->real));
    case CADP_TEXT: return quoted ? write_quoted(v, out) : cad_str_add(out, v->text, v->size);
    case CADP_LIST:
    case CADP_TABLE: return write_many(v, out);
    default: return cad_fail(CAD_EMODEL, "chat template: expected a value to print, found a function");
    }
}

/* ---- as JSON: json.dumps(ensure_ascii=False) ---- */

static cad_status break_line(int64_t indent, int64_t depth, cad_str *out)
{
    if (indent < 0) return CAD_OK;
    return cad_str_addf(out, "\n%*s", (int)(indent * depth), "");
}

static cad_status json_text(const cadp_value *v, cad_str *out)
{
    static const char marks[] = "\"\\\n\r\t\b\f", codes[] = "\"\\nrtbf";

    CAD_TRY(cad_str_add(out, "\"", 1));
    for (size_t i = 0; i < v->size; i++) {
        char c = v->text[i];
        const char *mark = c ? strchr(marks, c) : NULL;
        if (mark) CAD_TRY(cad_str_addf(out, "\\%c", codes[mark - marks]));
        else if ((unsigned char)c < 32) CAD_TRY(cad_str_addf(out, "\\u%04x", c));
        else CAD_TRY(cad_str_add(out, &c, 1));
    }
    return cad_str_add(out, "\"", 1);
}

cad_status cadp_write_json(const cadp_value *v, int64_t indent, int64_t depth, cad_str *out)
{
    bool table = v->type == CADP_TABLE;

    if (v->type == CADP_TEXT) return json_text(v, out);
    if (v->type == CADP_NONE) return cad_str_add(out, "null", 4);
    if (v->type == CADP_BOOL) return cad_str_addf(out, "%s", v->truth ? "true" : "false");
    if (v->type == CADP_UNDEFINED || v->type >= CADP_MACRO) return cad_fail(CAD_EMODEL, "chat template: tojson: expected a value, found none");
    if (!table && v->type != CADP_LIST) return cadp_write_value(v, false, out);
    CAD_TRY(cad_str_add(out, table ? "{" : "[", 1));
    for (int64_t i = 0; i < v->many->count; i++) {
        if (table && i % 2) CAD_TRY(cad_str_add(out, ": ", 2));
        else {
            if (i) CAD_TRY(cad_str_add(out, indent < 0 ? ", " : ",", indent < 0 ? 2 : 1));
            CAD_TRY(break_line(indent, depth + 1, out));
        }
        CAD_TRY(cadp_write_json(&v->many->item[i], indent, depth + 1, out));
    }
    if (v->many->count) CAD_TRY(break_line(indent, depth, out));
    return cad_str_add(out, table ? "}" : "]", 1);
}
