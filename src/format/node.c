#include "tree_priv.h"

#include <limits.h>
#include <stdio.h>

/* ---- arena ---- */

typedef struct chunk chunk;
struct chunk { chunk *before; size_t used, room; char bytes[]; };

cad_status cadp_take(void **arena, void *out, size_t n)
{
    enum { FIRST = 1 << 14, LARGEST = 1 << 22 };
    chunk *top = *arena;
    char *p;

    if (n > SIZE_MAX / 2) return cad_fail(CAD_ERESOURCE, "out of memory: a text of %zu bytes", n);
    n = (n + 7) & ~(size_t)7;
    if (!top || n > top->room - top->used) {
        size_t room = !top ? FIRST : top->room < LARGEST ? 2 * top->room : LARGEST;
        chunk *fresh = NULL;
        if (room < n) room = n;
        CAD_TRY(cad_grow(&fresh, sizeof *fresh + room, 1, "a text's values"));
        *fresh = (chunk){.before = top, .room = room};
        *arena = top = fresh;
    }
    p = top->bytes + top->used;
    top->used += n;
    memcpy(out, &p, sizeof p);
    return CAD_OK;
}

cad_status cadp_node(void **arena, cad_node **out)
{
    CAD_TRY(cadp_take(arena, out, sizeof **out));
    memset(*out, 0, sizeof **out);
    return CAD_OK;
}

void cadp_rewind(void **arena)
{
    chunk *top = *arena;

    if (!top) return;
    for (chunk *c = top->before, *before; c; c = before) {
        before = c->before;
        cad_free(&c);
    }
    top->before = NULL;
    top->used = 0;
}

void cadp_release(void **arena)
{
    cadp_rewind(arena);
    cad_free(arena);
}

/* ---- building ---- */

cad_status cadp_tree_open(cad_tree **out, const char *path)
{
    cad_tree *t;
    size_t n = strlen(path) + 1;

    CAD_TRY(cad_alloc(&t, 1, sizeof *t, "a tree"));
    cad_status status = cadp_take(&t->arena, &t->path, n);
    if (!status) status = cadp_node(&t->arena, &t->root);
    if (status) {
        cad_tree_close(&t);
        return status;
    }
    memcpy(t->path, path, n);
    *out = t;
    return CAD_OK;
}

void cadp_append(cad_node *parent, cad_node **tail, cad_node *entry)
{
    if (*tail) (*tail)->next = entry;
    else parent->child = entry;
    *tail = entry;
    parent->children++;
}

static bool has_key(const cad_node *n, const char *key, size_t size)
{
    return (size_t)n->key_size == size && !memcmp(n->key, key, size);
}

cad_status cadp_key_seen(cadp_keys *k, const cad_node *table, const char *key, size_t n, bool *seen)
{
    enum { FEW = 8 };

    *seen = false;
    if (!k->map && table->children < FEW) {
        for (const cad_node *c = table->child; c && !*seen; c = c->next) *seen = has_key(c, key, n);
        return CAD_OK;
    }
    if (!k->map) {
        CAD_TRY(cad_map_open(&k->map));
        for (const cad_node *c = table->child; c; c = c->next) CAD_TRY(cad_map_set(k->map, c->key, (size_t)c->key_size, 0, NULL));
    }
    return cad_map_set(k->map, key, n, 0, seen);
}

/* ---- places and words ---- */

void cadp_place(const char *text, size_t at, int *line, int *column)
{
    *line = *column = 1;
    for (size_t i = 0; i < at; i++) {
        if (text[i] == '\n') {
            *line += *line < INT_MAX;
            *column = 1;
        } else if ((text[i] & 0xc0) != 0x80) *column += *column < INT_MAX;
    }
}

const char *cadp_show(char out[64], const char *name, size_t n)
{
    size_t cut = n > 60 ? 60 : n;

    while (cut < n && cut && (name[cut] & 0xc0) == 0x80) cut--;
    for (size_t i = 0; i < cut; i++) out[i] = (unsigned char)name[i] < 0x20 || name[i] == 0x7f ? '?' : name[i];
    memcpy(out + cut, n > cut ? "..." : "", n > cut ? 4 : 1);
    return out;
}

const char *cadp_found(char out[40], const char *at, const char *end)
{
    unsigned char c;

    if (at >= end) return "the end of the file";
    c = (unsigned char)*at;
    if (c >= '0' && c <= '9') return "a digit";
    if ((c | 32) >= 'a' && (c | 32) <= 'z') return "a letter";
    if (c == '\n' || c == '\r') return "the end of the line";
    if (c == 0xef && end - at >= 3 && !memcmp(at, "\xef\xbb\xbf", 3)) return "a byte order mark";
    if (c >= 0x80) return "a character outside ASCII";
    if (c < 0x20 || c == 0x7f) snprintf(out, 40, "the control character 0x%02x", c);
    else snprintf(out, 40, "'%c'", c);
    return out;
}

cad_status cadp_check_utf8(const char *text, size_t n, const char *path, cad_status kind)
{
    size_t bad;
    int line, column;

    if (cad_utf8_valid(text, n, &bad)) return CAD_OK;
    cadp_place(text, bad, &line, &column);
    return cad_fail(kind, "%s:%d:%d: expected UTF-8, found the byte 0x%02x", path, line, column, (unsigned char)text[bad]);
}

/* ---- reading ---- */

void cad_tree_close(cad_tree **t)
{
    if (!*t) return;
    cadp_release(&(*t)->arena);
    cad_free(t);
}

const cad_node *cad_get(const cad_node *table, const char *key)
{
    size_t n = strlen(key);

    if (!table || table->kind != CAD_TABLE) return NULL;
    for (const cad_node *c = table->child; c; c = c->next)
        if (has_key(c, key, n)) return c;
    return NULL;
}

static const cad_node *present(const cad_node *table, const char *key)
{
    const cad_node *n = cad_get(table, key);

    return n && n->kind != CAD_NULL ? n : NULL;
}

bool cad_get_int(const cad_node *table, const char *key, int64_t *out, int64_t otherwise)
{
    const cad_node *n = present(table, key);

    if (n && n->kind != CAD_INT) return false;
    *out = n ? n->integer : otherwise;
    return true;
}

bool cad_get_real(const cad_node *table, const char *key, double *out, double otherwise)
{
    const cad_node *n = present(table, key);

    if (n && n->kind != CAD_INT && n->kind != CAD_REAL) return false;
    *out = n ? n->real : otherwise;
    return true;
}

bool cad_get_bool(const cad_node *table, const char *key, bool *out, bool otherwise)
{
    const cad_node *n = present(table, key);

    if (n && n->kind != CAD_BOOL) return false;
    *out = n ? n->boolean : otherwise;
    return true;
}

bool cad_get_string(const cad_node *table, const char *key, const char **out, const char *otherwise)
{
    const cad_node *n = present(table, key);

    if (n && n->kind != CAD_STRING) return false;
    *out = n ? n->text : otherwise;
    return true;
}

const char *cad_kind_name(cad_kind kind)
{
    static const char *const names[] = {"null", "a boolean", "an integer", "a number", "a string", "a list", "a table"};

    CAD_ASSERT(kind >= CAD_NULL && kind <= CAD_TABLE);
    return names[kind];
}
