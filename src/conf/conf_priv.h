/* conf_priv: what the files of src/conf share. The table of rows (table.c) is the one place where an option is described. */
#ifndef CADTRAIN_CONF_PRIV_H
#define CADTRAIN_CONF_PRIV_H
#include <cadtrain/format.h>
#include <cadtrain/options.h>

typedef enum cadp_type {
    CADP_BOOL, CADP_INT, CADP_REAL, CADP_TEXT,
    CADP_WORD,    /* int, one of the row's words */
    CADP_WORDS,   /* cad_words */
    CADP_PAIR,    /* double[2] */
    CADP_MAYBE,   /* int: -1 null, 0 false, 1 true */
    CADP_SECONDS, /* double: a number or [D-]HH:MM:SS */
    CADP_TARGETS, /* cad_words and the bool behind it: names or a regular expression */
    CADP_WHOLES,  /* cad_whole_numbers: one or a list */
    CADP_PATTERN  /* cad_module_numbers: a table; whole numbers with CADP_WHOLE */
} cadp_type;

enum {
    CADP_NULLABLE = 1,  /* null is allowed and stored as `none` (text: NULL) */
    CADP_ABOVE = 2,     /* `low` itself is out of range */
    CADP_BELOW = 4,     /* `high` itself is out of range */
    CADP_IDLE = 8,      /* accepted, without effect */
    CADP_SECOND = 16,   /* another way to write an earlier row's field: not printed, not in JSON */
    CADP_BOOL_TOO = 32, /* text that may also be written true or false */
    CADP_AS_BOOL = 128, /* a word kept in a bool */
    CADP_WHOLE = 256,   /* numbers of a table are whole */
    CADP_HIDDEN = 64    /* travels between ranks; not for users */
};

/* Of several words with one value the first is the one that is printed. -1: known and refused, for the row's `refusal`. */
typedef struct cadp_word { const char *word; int value; } cadp_word;

typedef struct cadp_row {
    const char *in, *key;      /* section ("" at the top, "model.lora" nested) and key */
    const char *also;          /* another spelling of the key in files */
    const char *flags;         /* names separated by spaces; NULL: the key (and `also`) in kebab case; "": none but --set */
    cadp_type type;
    size_t at;                 /* in cad_options */
    double low, high, none;
    const cadp_word *words;    /* ends with {0}; a text with words is one of them */
    const char *refusal;
    const char *standard;      /* the default as a flag would write it; NULL: none */
    const char *help;
    unsigned marks;
} cadp_row;
extern const cadp_row cadp_conf_rows[];
extern const int cadp_conf_row_count;

enum { CADP_DEFAULT, CADP_PATHS, CADP_EXPERIMENT, CADP_ENVIRONMENT, CADP_FLAG };
/* Where a value comes from while it is read: a file (`path`) or a name ("--learning-rate", "CADTRAIN_SEED"). */
typedef struct cadp_from {
    int level;
    int serial;        /* of the file: one file gives a field once; 0: not counted */
    const char *path;  /* NULL: `name` is the place */
    const char *name;
    const char *label; /* what the value is called in a message; NULL: section.key */
    bool inside;       /* hidden rows may be set */
    bool linked;       /* set by the wake of another option */
} cadp_from;
/* What is kept of it for each row. */
typedef struct cadp_origin { int level, serial; bool linked; char *where; } cadp_origin;

struct cad_config {
    cad_options options;
    cadp_origin *origin; /* one a row */
    cad_str mistakes, notes, says;
    int mistake_count, files;
    char *file; /* the experiment */
    const char **values; /* of the command's flags that take many */
    bool wants_print, no_deepspeed; /* a DeepSpeed file of a higher source stands in for those of the experiment */
};

/* ---- rows (conf_rows.c) ---- */
int cadp_conf_find(const char *section, size_t section_size, const char *key, size_t key_size); /* -1: none; both spellings */
int cadp_conf_find_path(const char *dotted);                                /* "training.learning_rate"; '-' and '_' are equal */
int cadp_conf_find_flag(const char *name);                                  /* without "--"; '-' and '_' are equal */
int cadp_conf_row_of(size_t at);                                            /* the row that owns the field */
bool cadp_conf_is_section(const char *name, size_t n);
const char *cadp_conf_home_of(const char *key);                             /* the section of a key that only one section has; NULL */
bool cadp_conf_same(const char *a, size_t an, const char *b);               /* '-' and '_' are equal */
/* Calls back for each flag name of the row, without "--". */
void cadp_conf_each_flag(const cadp_row *row, void (*see)(void *with, const char *name), void *with);
/* A name or text of the user in quotes: at most 60 bytes, no control characters. */
typedef struct cadp_quoted { char text[72]; } cadp_quoted;
cadp_quoted cadp_conf_quote(const char *text);

/* ---- mistakes and notes (conf_rows.c) ---- */
CAD_CHECKED cad_status cadp_conf_mistake(cad_config *c, const char *format, ...) CAD_PRINTF(2, 3);
CAD_CHECKED cad_status cadp_conf_note(cad_config *c, const char *format, ...) CAD_PRINTF(2, 3);
/* Turns a failure to read a file into a mistake; running out of memory stays a failure. */
CAD_CHECKED cad_status cadp_conf_take_failure(cad_config *c, cad_status status, const char *before);
/* "file:line:column" of the value or of the key, or the name. */
void cadp_conf_place(char *out, size_t room, const cadp_from *from, const cad_node *node, bool of_key);

/* ---- values (conf_value.c) ---- */
/* Sets row i from a node; a value that does not fit becomes a mistake. */
CAD_CHECKED cad_status cadp_conf_set(cad_config *c, int i, const cad_node *node, const cadp_from *from);
/* Sets row i from text as a flag, a variable or the default column writes it. */
CAD_CHECKED cad_status cadp_conf_set_text(cad_config *c, int i, const char *text, const cadp_from *from);
void cadp_conf_expectation(char *out, size_t room, const cadp_row *row);
void cadp_conf_describe(char *out, size_t room, const cad_node *node);
bool cadp_conf_read_clock(const char *text, double *seconds);
CAD_CHECKED cad_status cadp_conf_store_text(char **field, const char *text, size_t n);
CAD_CHECKED cad_status cadp_conf_emit(cad_json *j, const char *key, const cadp_row *row, const cad_options *o);
const char *cadp_conf_word_of(const cadp_word *words, int value);
void cadp_conf_free_options(cad_options *o);

/* ---- several values (conf_lists.c) ---- */
CAD_CHECKED cad_status cadp_conf_set_wholes(cad_whole_numbers *to, const cadp_row *row, const cad_node *node, bool *fits);
CAD_CHECKED cad_status cadp_conf_set_pattern(cad_module_numbers *to, const cadp_row *row, const cad_node *node, bool *fits);
CAD_CHECKED cad_status cadp_conf_emit_wholes(cad_json *j, const char *key, const cad_whole_numbers *w);
CAD_CHECKED cad_status cadp_conf_emit_pattern(cad_json *j, const char *key, const cadp_row *row, const cad_module_numbers *p);
void cadp_conf_free_pattern(cad_module_numbers *p);
bool cadp_conf_in_range(const cadp_row *row, double v);

/* ---- trees and files (conf_tree.c, conf_files.c, conf_deepspeed.c) ---- */
CAD_CHECKED cad_status cadp_conf_apply_section(cad_config *c, const cad_node *table, const char *section, const cadp_from *from);
CAD_CHECKED cad_status cadp_conf_apply_root(cad_config *c, const cad_node *root, const cadp_from *from);
CAD_CHECKED cad_status cadp_conf_unknown_key(cad_config *c, const cad_node *child, const char *section, const cadp_from *from);
CAD_CHECKED cad_status cadp_conf_load_experiment(cad_config *c, const char *path, bool embedded);
CAD_CHECKED cad_status cadp_conf_load_deepspeed(cad_config *c, const char *path, int level, const char *named_by);
CAD_CHECKED cad_status cadp_conf_apply_deepspeed(cad_config *c, const cad_node *root, const cadp_from *from);
CAD_CHECKED cad_status cadp_conf_deepspeed_markdown(cad_str *out);

/* ---- flags and environment (conf_flags.c) ---- */
typedef struct cadp_item {
    int row;           /* -1: a section (`section`) as a table */
    char *section;
    const char *value; /* NULL: a flag without a value */
    char *name;        /* for messages */
    int level;
    bool exact;        /* named by section.key: no other section is meant */
    bool invert;       /* --skip-test, --no-…: the opposite is stored */
} cadp_item;
typedef struct cadp_given {
    cadp_item *item;
    int count, room;
    const char *config, *deepspeed, *env_deepspeed;
} cadp_given;
CAD_CHECKED cad_status cadp_conf_read_flags(cad_config *c, cadp_given *g, int argc, char **argv, cad_flag *command_flags);
CAD_CHECKED cad_status cadp_conf_read_environment(cad_config *c, cadp_given *g);
CAD_CHECKED cad_status cadp_conf_apply_given(cad_config *c, const cadp_given *g, int level);
bool cadp_conf_given_field(const cadp_given *g, size_t at); /* with a value that is not empty */
void cadp_conf_given_close(cadp_given *g);

/* ---- checks over several options, and values that follow from others (conf_settle.c) ---- */
CAD_CHECKED cad_status cadp_conf_settle(cad_config *c);

#endif
