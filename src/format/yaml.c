#include "tree_priv.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

/* libyaml's events become our tree. Its composer is not used: it follows aliases, and accepts a key twice. */

enum { DEEPEST = 16, LARGEST = 1000000 };

typedef struct reader {
    yaml_parser_t yaml;
    yaml_event_t event; /* the current one */
    bool has_event;
    cad_tree *tree;
    const char *text;
    size_t size;
    bool loose;         /* keys may come again */
} reader;

static cad_status fail_at(const reader *r, yaml_mark_t mark, const char *expected, const char *found)
{
    return cad_fail(CAD_EUSAGE, "%s:%zu:%zu: expected %s, found %s", r->tree->path, mark.line + 1, mark.column + 1, expected, found);
}

static cad_status fail_here(const reader *r, const char *expected, const char *found)
{
    return fail_at(r, r->event.start_mark, expected, found);
}

/* libyaml's own sentences are constants: they quote nothing of the file. */
static cad_status yaml_failure(const reader *r)
{
    const yaml_parser_t *y = &r->yaml;
    const char *problem = y->problem ? y->problem : "unreadable text";
    int line, column;

    if (y->error == YAML_MEMORY_ERROR) return cad_fail(CAD_ERESOURCE, "%s: out of memory", r->tree->path);
    if (y->error == YAML_READER_ERROR) {
        cadp_place(r->text, y->problem_offset < r->size ? y->problem_offset : r->size, &line, &column);
        return cad_fail(CAD_EUSAGE, "%s:%d:%d: expected YAML: %s", r->tree->path, line, column, problem);
    }
    return cad_fail(CAD_EUSAGE, "%s:%zu:%zu: expected YAML: %s%s%s", r->tree->path, y->problem_mark.line + 1, y->problem_mark.column + 1,
                    problem, y->context ? " " : "", y->context ? y->context : "");
}

static cad_status advance(reader *r)
{
    if (r->has_event) yaml_event_delete(&r->event);
    r->has_event = false;
    if (!yaml_parser_parse(&r->yaml, &r->event)) return yaml_failure(r);
    r->has_event = true;
    return CAD_OK;
}

/* ---- scalars: the core schema of YAML 1.2, section 10.3.2; a fraction or an exponent may stand without the other ---- */

static bool is_word(const char *s, const char *const words[])
{
    for (; *words; words++)
        if (!strcmp(s, *words)) return true;
    return false;
}

static const char *skip_digits(const char *s)
{
    while (*s >= '0' && *s <= '9') s++;
    return s;
}

static bool is_whole(const char *s)
{
    s += *s == '+' || *s == '-';
    return *s && !*skip_digits(s);
}

static bool is_based(const char *s)
{
    if (s[0] != '0' || (s[1] != 'x' && s[1] != 'o') || !s[2]) return false;
    return !s[2 + strspn(s + 2, s[1] == 'x' ? "0123456789abcdefABCDEF" : "01234567")];
}

static bool is_real(const char *s)
{
    const char *start, *dot;

    s += *s == '+' || *s == '-';
    start = s;
    s = dot = skip_digits(s);
    if (*s == '.') s = skip_digits(s + 1);
    if (s == start || (dot == start && s == start + 1)) return false;
    if (*s != 'e' && *s != 'E') return !*s;
    s++;
    s += *s == '+' || *s == '-';
    return *s && !*skip_digits(s);
}

/* What does not fit an int64 stays a number. */
static void set_number(cad_node *n, int base)
{
    const char *s = n->text;

    errno = 0;
    n->kind = CAD_INT;
    n->integer = strtoll(base == 10 ? s : s + 2, NULL, base);
    n->real = (double)n->integer;
    if (!errno) return;
    n->kind = CAD_REAL;
    n->integer = 0;
    if (base == 10) n->real = strtod(s, NULL);
    else
        for (n->real = 0, s += 2; *s; s++) n->real = base * n->real + (*s <= '9' ? *s - '0' : (*s | 32) - 'a' + 10);
}

static bool set_special_real(cad_node *n)
{
    static const char *const nan_words[] = {".nan", ".NaN", ".NAN", NULL}, *const inf_words[] = {".inf", ".Inf", ".INF", NULL};
    const char *s = n->text;
    bool minus = *s == '-';

    if (is_word(s, nan_words)) n->real = NAN;
    else if (is_word(s + (minus || *s == '+'), inf_words)) n->real = minus ? -INFINITY : INFINITY;
    else return false;
    n->kind = CAD_REAL;
    return true;
}

static void set_plain(cad_node *n)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", NULL}, *const falses[] = {"false", "False", "FALSE", NULL};

    n->kind = CAD_STRING;
    if (strlen(n->text) != n->size) return;
    if (is_word(n->text, nulls)) n->kind = CAD_NULL;
    else if (is_word(n->text, trues) || is_word(n->text, falses)) {
        n->kind = CAD_BOOL;
        n->boolean = (n->text[0] | 32) == 't';
    } else if (is_whole(n->text)) set_number(n, 10);
    else if (is_based(n->text)) set_number(n, n->text[1] == 'x' ? 16 : 8);
    else if (is_real(n->text)) {
        n->kind = CAD_REAL;
        n->real = strtod(n->text, NULL);
    } else set_special_real(n);
}

static cad_status take_text(reader *r, char **out, size_t *size)
{
    *size = r->event.data.scalar.length;
    CAD_TRY(cadp_take(&r->tree->arena, out, *size + 1));
    memcpy(*out, r->event.data.scalar.value, *size);
    (*out)[*size] = 0;
    return CAD_OK;
}

/* ---- structure ---- */

static cad_status refuse_extras(const reader *r)
{
    const yaml_event_t *e = &r->event;
    bool anchor = (e->type == YAML_SCALAR_EVENT && e->data.scalar.anchor) || (e->type == YAML_SEQUENCE_START_EVENT && e->data.sequence_start.anchor) ||
                  (e->type == YAML_MAPPING_START_EVENT && e->data.mapping_start.anchor);
    bool tag = (e->type == YAML_SCALAR_EVENT && e->data.scalar.tag) || (e->type == YAML_SEQUENCE_START_EVENT && e->data.sequence_start.tag) ||
               (e->type == YAML_MAPPING_START_EVENT && e->data.mapping_start.tag);

    if (e->type == YAML_ALIAS_EVENT) return fail_here(r, "a plain value", "an alias (*name); aliases are not supported");
    if (anchor) return fail_here(r, "a plain value", "an anchor (&name); anchors are not supported");
    if (tag) return fail_here(r, "a plain value", "a tag (!name); tags are not supported");
    return CAD_OK;
}

static cad_status value(reader *r, cad_node *out, int depth);

static cad_status key(reader *r, cad_node *table, cadp_keys *keys, cad_node *e)
{
    size_t n;
    bool seen;
    char shown[64], found[96];

    CAD_TRY(refuse_extras(r));
    if (r->event.type != YAML_SCALAR_EVENT) return fail_here(r, "a key that is a word", "a list or a table");
    e->key_line = (int)r->event.start_mark.line + 1;
    e->key_column = (int)r->event.start_mark.column + 1;
    CAD_TRY(take_text(r, &e->key, &n));
    bool plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (plain && !n) return fail_here(r, "a key", "nothing before ':'");
    if (plain && !strcmp(e->key, "<<")) return fail_here(r, "a key", "a merge key (<<); merge keys are not supported");
    e->key_size = (int)n;
    CAD_TRY(cadp_key_seen(keys, table, e->key, n, &seen));
    snprintf(found, sizeof found, "\"%s\" again", cadp_show(shown, e->key, n));
    e->again = seen;
    return seen && !r->loose ? fail_here(r, "every key once", found) : advance(r);
}

static cad_status entries(reader *r, cad_node *out, int depth, cadp_keys *keys, yaml_event_type_t last)
{
    cad_node *tail = NULL, *e;

    CAD_TRY(advance(r));
    while (r->event.type != last) {
        CAD_TRY(cadp_node(&r->tree->arena, &e));
        if (out->kind == CAD_TABLE) CAD_TRY(key(r, out, keys, e));
        CAD_TRY(value(r, e, depth + 1));
        cadp_append(out, &tail, e);
    }
    return CAD_OK;
}

/* The value that begins at the current event; ends on the event after it. */
static cad_status value(reader *r, cad_node *out, int depth)
{
    cadp_keys keys = {0};

    CAD_TRY(refuse_extras(r));
    out->line = (int)r->event.start_mark.line + 1;
    out->column = (int)r->event.start_mark.column + 1;
    if (r->event.type == YAML_SCALAR_EVENT) {
        CAD_TRY(take_text(r, &out->text, &out->size));
        if (r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE) set_plain(out);
        else out->kind = CAD_STRING;
        if (out->kind == CAD_REAL && isinf(out->real) && !strpbrk(out->text, "iI"))
            return fail_here(r, "a number that a double can hold", "a larger one");
        return advance(r);
    }
    bool table = r->event.type == YAML_MAPPING_START_EVENT;
    CAD_ASSERT(table || r->event.type == YAML_SEQUENCE_START_EVENT);
    if (depth > DEEPEST) return fail_here(r, "at most 16 levels", "one more");
    out->kind = table ? CAD_TABLE : CAD_LIST;
    cad_status status = entries(r, out, depth, &keys, table ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT);
    cad_map_close(&keys.map);
    return status ? status : advance(r);
}

static void empty_table(cad_node *n)
{
    *n = (cad_node){.kind = CAD_TABLE, .line = 1, .column = 1};
}

static cad_status document(reader *r)
{
    cad_node *root = r->tree->root;

    CAD_TRY(advance(r));
    CAD_ASSERT(r->event.type == YAML_STREAM_START_EVENT);
    CAD_TRY(advance(r));
    if (r->event.type == YAML_STREAM_END_EVENT) {
        empty_table(root);
        return CAD_OK;
    }
    if (r->event.data.document_start.tag_directives.start != r->event.data.document_start.tag_directives.end)
        return fail_here(r, "a document", "a %TAG directive; tags are not supported");
    CAD_TRY(advance(r));
    CAD_TRY(value(r, root, 1));
    if (root->kind == CAD_NULL && !root->size) empty_table(root);
    CAD_ASSERT(r->event.type == YAML_DOCUMENT_END_EVENT);
    CAD_TRY(advance(r));
    return r->event.type == YAML_STREAM_END_EVENT ? CAD_OK : fail_here(r, "one document", "a second one");
}

static cad_status parse(cad_tree **out, const char *text, size_t n, const char *path, bool loose)
{
    reader r = {.text = text, .size = n, .loose = loose};

    if (n > LARGEST) return cad_fail(CAD_EUSAGE, "%s: expected at most %d bytes of YAML, found %zu", path, LARGEST, n);
    CAD_TRY(cadp_check_utf8(text, n, path, CAD_EUSAGE));
    CAD_TRY(cadp_tree_open(&r.tree, path));
    cad_status status = CAD_OK;
    if (!yaml_parser_initialize(&r.yaml)) status = cad_fail(CAD_ERESOURCE, "%s: out of memory", path);
    if (!status) {
        yaml_parser_set_input_string(&r.yaml, (const unsigned char *)text, n);
        status = document(&r);
        if (r.has_event) yaml_event_delete(&r.event);
        yaml_parser_delete(&r.yaml);
    }
    if (status) {
        cad_tree_close(&r.tree);
        return status;
    }
    *out = r.tree;
    return CAD_OK;
}

static cad_status read_text(cad_tree **out, const char *path, bool loose)
{
    char *text;
    size_t n;

    CAD_TRY(cad_read_file(&text, &n, path, LARGEST, CAD_EUSAGE));
    cad_status status = parse(out, text, n, path, loose);
    cad_free(&text);
    return status;
}

cad_status cad_yaml_parse(cad_tree **out, const char *text, size_t n, const char *path) { return parse(out, text, n, path, false); }
cad_status cad_yaml_read(cad_tree **out, const char *path) { return read_text(out, path, false); }
cad_status cad_yaml_read_loosely(cad_tree **out, const char *path) { return read_text(out, path, true); }
