/* What the readers of text share: the arena of a tree, places in a text, and the JSON cursor. */
#ifndef CADTRAIN_TREE_PRIV_H
#define CADTRAIN_TREE_PRIV_H
#include <cadtrain/format.h>

/* ---- arena (node.c): *arena is NULL before the first use ---- */

CAD_CHECKED cad_status cadp_take(void **arena, void *out, size_t n); /* n bytes, 8-aligned, not zeroed */
CAD_CHECKED cad_status cadp_node(void **arena, cad_node **out);
void cadp_rewind(void **arena); /* forgets the content, keeps one chunk for the next */
void cadp_release(void **arena);
/* An empty tree for `path`. */
CAD_CHECKED cad_status cadp_tree_open(cad_tree **out, const char *path);

/* Appends `entry` to a list or table; *tail is its last child. */
void cadp_append(cad_node *parent, cad_node **tail, cad_node *entry);
/* Which keys a table has: compared one by one while there are few, in a map from then on. {0} to begin. */
typedef struct cadp_keys { cad_map *map; } cadp_keys;
CAD_CHECKED cad_status cadp_key_seen(cadp_keys *k, const cad_node *table, const char *key, size_t n, bool *seen);

/* ---- places and words for messages (node.c) ---- */

void cadp_place(const char *text, size_t at, int *line, int *column);
/* A name as a message may show it: at most 60 bytes, no control characters. */
const char *cadp_show(char out[64], const char *name, size_t n);
/* What stands at `at`, without quoting letters or digits of it. */
const char *cadp_found(char out[40], const char *at, const char *end);
/* UTF-8 or "path:line:column: expected UTF-8 …". */
CAD_CHECKED cad_status cadp_check_utf8(const char *text, size_t n, const char *path, cad_status kind);

/* ---- cursor over a text, and JSON under it (json.c) ---- */

typedef struct cadp_cursor {
    const char *path, *at, *end, *line_start;
    int line;
    size_t wide;  /* continuation bytes of UTF-8 on this line so far: columns count characters */
    cad_status kind;
    void **arena;
} cadp_cursor;
void cadp_cursor_begin(cadp_cursor *c, const char *text, size_t n, const char *path, cad_status kind, void **arena);
int cadp_cursor_column(const cadp_cursor *c);
CAD_CHECKED cad_status cadp_cursor_fail(const cadp_cursor *c, const char *expected);
void cadp_json_space(cadp_cursor *c);
CAD_CHECKED cad_status cadp_json_take(cadp_cursor *c, char what, const char *expected); /* that character, or a failure */
/* On the opening quote: checks the string and finds its closing quote. */
CAD_CHECKED cad_status cadp_json_string(cadp_cursor *c, const char **close, bool *plain);
/* Undoes the escapes of a checked string; `to` may be `from`. Returns the size. */
size_t cadp_json_unescape(char *to, const char *from, const char *close);
/* A value into a zeroed node; `depth` is that of the value if it is a list or table. */
CAD_CHECKED cad_status cadp_json_value(cadp_cursor *c, cad_node *out, int depth);

#endif
