/* Chat templates: the part of Jinja that they are written in, with the switches Transformers sets (trim_blocks, lstrip_blocks, loop controls). */
#ifndef CADP_CHAT_H
#define CADP_CHAT_H
#include <cadtrain/base.h>
#include <cadtrain/format.h>

/* ---- memory of one rendering, freed at once (chat_value.c) ---- */

typedef struct cadp_pool { void **piece; int64_t count, room; } cadp_pool;
CAD_CHECKED cad_status cadp_pool_take(cadp_pool *p, void *out, size_t n, size_t each);
CAD_CHECKED cad_status cadp_pool_text(cadp_pool *p, const char *from, size_t n, const char **out);
void cadp_pool_close(cadp_pool *p);

/* ---- a template as a tree (chat_lex.c, chat_parse.c) ---- */

typedef enum cadp_token_kind { CADP_T_END, CADP_T_TEXT, CADP_T_PRINT, CADP_T_PRINT_END, CADP_T_BLOCK, CADP_T_BLOCK_END, CADP_T_NAME, CADP_T_STRING, CADP_T_INT, CADP_T_REAL, CADP_T_SIGN } cadp_token_kind;
typedef struct cadp_token { cadp_token_kind kind; const char *text; size_t size; int line; } cadp_token;
typedef struct cadp_source { const char *path; cadp_pool *pool; cadp_token *token; int64_t count, room; } cadp_source;
/* text: newlines already "\n". */
CAD_CHECKED cad_status cadp_chat_lex(cadp_source *s, const char *text, size_t n);

typedef enum cadp_kind {
    CADP_X_TEXT, CADP_X_INT, CADP_X_REAL, CADP_X_NAME, CADP_X_LIST, CADP_X_TABLE, CADP_X_FIELD, CADP_X_ITEM, CADP_X_SLICE, CADP_X_CALL, CADP_X_NAMED, CADP_X_FILTER, CADP_X_TEST,
    CADP_X_NOT, CADP_X_MINUS, CADP_X_BINARY, CADP_X_AND, CADP_X_OR, CADP_X_CHOICE, CADP_X_NOTHING,
    CADP_S_TEXT, CADP_S_PRINT, CADP_S_IF, CADP_S_FOR, CADP_S_SET, CADP_S_SET_BLOCK, CADP_S_MACRO, CADP_S_BREAK, CADP_S_CONTINUE, CADP_S_GENERATION
} cadp_kind;

/* a, b, c: what the kind needs; next: behind it in a list. text: a name, an operator or the text itself. */
typedef struct cadp_tree cadp_tree;
struct cadp_tree { cadp_kind kind; int line; bool negated; const char *text; size_t size; cadp_tree *a, *b, *c, *d, *next; };
CAD_CHECKED cad_status cadp_chat_parse(const cadp_source *s, cadp_tree **out);

/* ---- values (chat_value.c) ---- */

typedef enum cadp_type { CADP_UNDEFINED, CADP_NONE, CADP_BOOL, CADP_INT, CADP_REAL, CADP_TEXT, CADP_LIST, CADP_TABLE, CADP_MACRO, CADP_FUNCTION } cadp_type;
typedef struct cadp_value cadp_value;
typedef struct cadp_many { int64_t count, room; cadp_value *item; } cadp_many; /* a table: key, value, key, … */
/* text: of TEXT; the name of a FUNCTION, its object being `of`. */
struct cadp_value { cadp_type type; bool truth; int64_t integer; double real; const char *text; size_t size; cadp_many *many; const cadp_tree *macro; const cadp_value *of; };

static inline cadp_value cadp_of_bool(bool v) { return (cadp_value){.type = CADP_BOOL, .truth = v}; }
static inline cadp_value cadp_of_int(int64_t v) { return (cadp_value){.type = CADP_INT, .integer = v}; }
static inline cadp_value cadp_of_text(const char *text, size_t n) { return (cadp_value){.type = CADP_TEXT, .text = text, .size = n}; }
static inline bool cadp_says(const char *text, size_t n, const char *word) { return strlen(word) == n && !memcmp(text, word, n); }

CAD_CHECKED cad_status cadp_many_new(cadp_pool *p, cadp_type type, cadp_value *out);
CAD_CHECKED cad_status cadp_many_add(cadp_pool *p, cadp_many *m, cadp_value v);
cadp_value *cadp_many_find(const cadp_value *table, const char *key, size_t n); /* NULL: none */
CAD_CHECKED cad_status cadp_many_put(cadp_pool *p, cadp_value *table, const char *key, size_t n, cadp_value v);
CAD_CHECKED cad_status cadp_value_of_node(cadp_pool *p, const cad_node *n, cadp_value *out);
bool cadp_is_true(const cadp_value *v);
bool cadp_is_equal(const cadp_value *a, const cadp_value *b);
int64_t cadp_length(const cadp_value *v); /* -1: it has none */
/* Characters [from, to) of a text as bytes. */
void cadp_characters(const cadp_value *text, int64_t from, int64_t to, cadp_value *out);
CAD_CHECKED cad_status cadp_write_value(const cadp_value *v, bool quoted, cad_str *out); /* as Python's str; quoted: inside a list */
CAD_CHECKED cad_status cadp_write_json(const cadp_value *v, int64_t indent, int64_t depth, cad_str *out);
void cadp_strip(cadp_value *text, const cadp_value *of, bool left, bool right); /* of: NULL or not a text: white space */

/* ---- case (recase.c) ---- */
typedef enum cadp_case { CADP_CASE_UPPER, CADP_CASE_LOWER, CADP_CASE_FIRST, CADP_CASE_TITLE, CADP_CASE_WORDS } cadp_case; /* TITLE: jinja's filter; WORDS: Python's str.title */
CAD_CHECKED cad_status cadp_recase(const char *text, size_t n, cadp_case how, cad_str *out);

/* ---- what templates call (chat_calls.c) ---- */

/* Arguments of a call: by place, and by name as a table. */
typedef struct cadp_arguments { const cadp_value *at; int64_t count; const cadp_value *named; } cadp_arguments;
const cadp_value *cadp_argument(const cadp_arguments *a, int64_t place, const char *name); /* NULL: not given */
/* *known: false where there is no such filter, test or method. */
CAD_CHECKED cad_status cadp_chat_filter(cadp_pool *p, const char *name, size_t n, cadp_value v, const cadp_arguments *a, cadp_value *out, bool *known);
CAD_CHECKED cad_status cadp_chat_method(cadp_pool *p, const char *name, size_t n, cadp_value v, const cadp_arguments *a, cadp_value *out, bool *known);
bool cadp_chat_test(const char *name, size_t n, const cadp_value *v, const cadp_arguments *a, bool *known);
bool cadp_contains(const cadp_value *all, const cadp_value *one);
bool cadp_has_method(const cadp_value *v, const char *name, size_t n);
#endif
