/* Looking rows up, naming the nearest, and collecting mistakes. */
#include "conf_priv.h"

#include <stdarg.h>
#include <stdio.h>

bool cadp_conf_same(const char *a, size_t an, const char *b)
{
    if (strlen(b) != an) return false;
    for (size_t i = 0; i < an; i++) {
        char x = a[i] == '-' ? '_' : a[i], y = b[i] == '-' ? '_' : b[i];
        if (x != y) return false;
    }
    return true;
}

static bool equal(const char *a, size_t an, const char *b) { return strlen(b) == an && !memcmp(a, b, an); }

int cadp_conf_find(const char *section, size_t section_size, const char *key, size_t key_size)
{
    for (int i = 0; i < cadp_conf_row_count; i++) {
        const cadp_row *r = &cadp_conf_rows[i];
        if (equal(section, section_size, r->in) && (equal(key, key_size, r->key) || (r->also && equal(key, key_size, r->also)))) return i;
    }
    return -1;
}

int cadp_conf_find_path(const char *dotted)
{
    const char *dot = strrchr(dotted, '.');
    const char *key = dot ? dot + 1 : dotted;
    size_t n = dot ? (size_t)(dot - dotted) : 0;

    for (int i = 0; i < cadp_conf_row_count; i++) {
        const cadp_row *r = &cadp_conf_rows[i];
        if (r->marks & CADP_HIDDEN || !cadp_conf_same(dotted, n, r->in)) continue;
        if (cadp_conf_same(key, strlen(key), r->key) || (r->also && cadp_conf_same(key, strlen(key), r->also))) return i;
    }
    return -1;
}

void cadp_conf_each_flag(const cadp_row *row, void (*see)(void *with, const char *name), void *with)
{
    const char *list[2] = {row->key, row->also};
    char name[64];

    if (row->flags) {
        for (const char *p = row->flags; *p;) {
            size_t n = strcspn(p, " ");
            snprintf(name, sizeof name, "%.*s", (int)n, p);
            see(with, name);
            p += n + strspn(p + n, " ");
        }
        return;
    }
    for (int i = 0; i < 2 && list[i]; i++) {
        snprintf(name, sizeof name, "%s", list[i]);
        for (char *c = name; *c; c++)
            if (*c == '_') *c = '-';
        see(with, name);
    }
}

typedef struct match { const char *wanted; bool found; } match;
static void compare(void *with, const char *name)
{
    match *m = with;
    if (cadp_conf_same(m->wanted, strlen(m->wanted), name)) m->found = true;
}

int cadp_conf_find_flag(const char *name)
{
    for (int i = 0; i < cadp_conf_row_count; i++) {
        match m = {name, false};
        cadp_conf_each_flag(&cadp_conf_rows[i], compare, &m);
        if (m.found) return i;
    }
    return -1;
}

int cadp_conf_row_of(size_t at)
{
    for (int i = 0; i < cadp_conf_row_count; i++)
        if (cadp_conf_rows[i].at == at) return i;
    CAD_ASSERT(!"a field without a row");
    return -1;
}

bool cadp_conf_is_section(const char *name, size_t n)
{
    for (int i = 0; i < cadp_conf_row_count; i++)
        if (cadp_conf_same(name, n, cadp_conf_rows[i].in)) return n > 0;
    return false;
}

/* cohort has keys of its own under common names: they count only where nobody else has the key. */
const char *cadp_conf_home_of(const char *key)
{
    const char *home = NULL, *second = NULL;

    for (int i = 0; i < cadp_conf_row_count; i++) {
        const cadp_row *r = &cadp_conf_rows[i];
        if (r->marks & CADP_HIDDEN || !(cadp_conf_same(key, strlen(key), r->key) || (r->also && cadp_conf_same(key, strlen(key), r->also)))) continue;
        if (!strcmp(r->in, "cohort")) {
            second = r->in;
            continue;
        }
        if (home) return NULL;
        home = r->in;
    }
    return home ? home : second;
}

/* Cut between characters. */
cadp_quoted cadp_conf_quote(const char *text)
{
    cadp_quoted out;
    size_t n = strlen(text), keep = n;
    char part[64];

    if (keep > 60) {
        keep = 60;
        while (keep && ((unsigned char)text[keep] & 0xc0) == 0x80) keep--;
    }
    memcpy(part, text, keep);
    part[keep] = 0;
    for (char *c = part; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127) *c = ' ';
    snprintf(out.text, sizeof out.text, "\"%s\"%s", part, keep < n ? "…" : "");
    return out;
}

enum { MOST_MISTAKES = 60 };

static cad_status add_line(cad_str *s, const char *line)
{
    if (s->size) CAD_TRY(cad_str_add(s, "\n", 1));
    return cad_str_add(s, line, strlen(line));
}

static bool says_already(const cad_str *lines, const char *line)
{
    size_t n = strlen(line), length;

    for (const char *at = lines->size ? lines->data : ""; *at; at += length + (at[length] == '\n')) {
        length = strcspn(at, "\n");
        if (length == n && !memcmp(at, line, n)) return true;
    }
    return false;
}

cad_status cadp_conf_mistake(cad_config *c, const char *format, ...)
{
    char line[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (says_already(&c->mistakes, line)) return CAD_OK; /* one flag may set several rows */
    c->mistake_count++;
    return c->mistake_count > MOST_MISTAKES ? CAD_OK : add_line(&c->mistakes, line);
}

cad_status cadp_conf_note(cad_config *c, const char *format, ...)
{
    char line[2048];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    return add_line(&c->notes, line);
}

cad_status cadp_conf_take_failure(cad_config *c, cad_status status, const char *before)
{
    char line[1024];

    if (status == CAD_OK || status == CAD_EINTERNAL) return status;
    if (status == CAD_ERESOURCE && strstr(cad_reason(), "memory")) return status;
    snprintf(line, sizeof line, "%s%s", before, cad_reason());
    cad_clear();
    return cadp_conf_mistake(c, "%s", line);
}

void cadp_conf_place(char *out, size_t room, const cadp_from *from, const cad_node *node, bool of_key)
{
    bool key = of_key && node->key;

    if (!from->path) snprintf(out, room, "%s", from->name);
    else snprintf(out, room, "%s:%d:%d", from->path, key ? node->key_line : node->line, key ? node->key_column : node->column);
}
