/* What the files of src/cohort share. */
#ifndef CADTRAIN_COHORT_PRIV_H
#define CADTRAIN_COHORT_PRIV_H
#include <cadtrain/cohort.h>
#include <cadtrain/format.h>
#include <cadtrain/metric.h>

/* ---- days (days.c) ---- */
enum { CADP_NO_DAY = INT32_MIN, CADP_ODD_DAY = INT32_MIN + 1 }; /* missing; a placeholder: it happened, nobody knows when */
enum { CADP_FORM_UNKNOWN, CADP_FORM_ISO, CADP_FORM_DMY };
int32_t cadp_day_of(int year, int month, int day); /* days since 1970-01-01 */
void cadp_day_parts(int32_t day, int *year, int *month, int *dom);
/* A cell of a column whose dates have all had `*form` so far. 0: fine; else what was expected. Missing cells: CADP_NO_DAY. */
const char *cadp_day_read(const char *text, size_t n, int *form, int32_t *out);
static inline bool cadp_day_known(int32_t day) { return day > CADP_ODD_DAY; }

/* ---- whole numbers to rows, and families (ids.c) ---- */
typedef struct cadp_ids { struct cadp_id { int64_t id; int32_t row; } *slot; size_t room, used; } cadp_ids; /* {0} is empty */
CAD_CHECKED cad_status cadp_ids_add(cadp_ids *ids, int64_t id, int32_t row, int32_t *found); /* found: its row before, or the new one */
int32_t cadp_ids_find(const cadp_ids *ids, int64_t id); /* -1: none */
void cadp_ids_close(cadp_ids *ids);
int32_t cadp_family_of(int32_t *parent, int32_t a);
void cadp_family_join(int32_t *parent, int32_t a, int32_t b); /* the smaller row is the root */

/* ---- delimited files, streamed (scan.c) ---- */
typedef struct cadp_text { const char *at; uint32_t size; bool doubled; } cadp_text;
typedef struct cadp_scan {
    cad_stream *in;
    char *path, *buffer;
    size_t room, begin, end;
    bool ended, quotes;
    char delimiter;
    int columns;
    char **name;      /* of the header */
    int32_t *want;    /* of each column: its cell, or -1 */
    int *column_of;   /* of each cell */
    cadp_text *cell;  /* of the present row; borrowed until the next one */
    int cells;
    int64_t line, row_line, rows, bytes;
} cadp_scan;
CAD_CHECKED cad_status cadp_scan_open(cadp_scan *s, const char *path);
CAD_CHECKED cad_status cadp_scan_want(cadp_scan *s, int column, int *cell);
int cadp_scan_find(const cadp_scan *s, const char *name); /* column of a record table, without "entity." before it; -1 */
CAD_CHECKED cad_status cadp_scan_row(cadp_scan *s, bool *more);
CAD_CHECKED cad_status cadp_scan_fail(const cadp_scan *s, int cell, const char *expected);
void cadp_scan_close(cadp_scan *s);
bool cadp_is_missing(const cadp_text *c); /* empty, NA, NaN, "." */
bool cadp_whole_number(const cadp_text *c, int64_t *out);

/* ---- dictionary: titles, codings (dictionary.c) ---- */
typedef struct cadp_coding { int number; double missing[12], from[4], to[4]; int missings, changes; bool partial; } cadp_coding;
typedef struct cadp_field { int number, coding; const char *title; } cadp_field; /* coding: place in the list, -1 none */
typedef struct cadp_dictionary {
    cad_tree *tree;
    cadp_field *field;
    cadp_coding *coding;
    int fields, codings;
    cad_map *labels, *titles; /* "coding:label", "title", in lower case */
} cadp_dictionary;
CAD_CHECKED cad_status cadp_dictionary_open(cadp_dictionary *d, const char *path);
void cadp_dictionary_close(cadp_dictionary *d);
const cadp_field *cadp_dictionary_field(const cadp_dictionary *d, int field);
/* The tree of a file, or of an embedded one when path is NULL. */
CAD_CHECKED cad_status cadp_read_yaml(cad_tree **out, const char *path, const char *embedded);
/* What stands in a cell of a field. */
typedef enum cadp_sort { CADP_MISSING, CADP_SPECIAL, CADP_VALUE, CADP_LABEL, CADP_OTHER, CADP_BAD } cadp_sort; /* SPECIAL: not known, not said; LABEL: a value given by its label; OTHER: a text of a list that is not whole */
cadp_sort cadp_dictionary_value(const cadp_dictionary *d, const cadp_field *f, const cadp_text *c, double *out);
/* The label of a code, as the dictionary spells it; NULL. */
const char *cadp_dictionary_label(const cadp_dictionary *d, int field, double code);

/* ---- columns of all dialects (columns.c) ---- */
enum { CADP_EID = -1, CADP_NO_FIELD = 0 };
typedef struct cadp_place { int field, instance, array; } cadp_place;
cadp_place cadp_column_place(const cadp_dictionary *d, const char *name);
/* The items of a list in one cell: ["a","b"], a|b, or one. `at` walks; false at the end. */
bool cadp_list_next(const cadp_text *cell, size_t *at, cadp_text *item);

/* ---- predictors: fields.yaml (fields.c) ---- */
typedef enum cadp_kind { CADP_NUMBER, CADP_CATEGORY, CADP_ANY, CADP_HISTORY } cadp_kind;
typedef enum cadp_combine { CADP_MEAN, CADP_FIRST, CADP_MAX, CADP_MIN } cadp_combine;
enum { CADP_SYSTEMS = 5, CADP_ENTRY_FIELDS = 6, CADP_MOST_SLOTS = 512, CADP_MOST_LEVELS = 24 };
typedef enum cadp_system { CADP_ICD10, CADP_ICD9, CADP_OPCS4, CADP_OPCS3, CADP_DEATH } cadp_system;
typedef struct cadp_prefixes { const char **in, **out; int ins, outs; } cadp_prefixes;
typedef struct cadp_entry {
    const char *name, *wording, *yes, *no, *missing, *unit;
    cadp_kind kind;
    cadp_combine combine;
    int field[CADP_ENTRY_FIELDS], fields, instance, slot; /* slot + i belongs to field[i]; a history has one */
    double code[64]; int codes;                           /* any: what counts as yes */
    double level[CADP_MOST_LEVELS]; const char *level_text[CADP_MOST_LEVELS]; int levels;
    double low, high;                                     /* plausible; NaN: any */
    int decimals;
    bool empty_is_no, model;                              /* model: also a column of the logistic regression */
    cadp_prefixes codes_of[CADP_SYSTEMS];
    int line;
} cadp_entry;
typedef struct cadp_fields { cad_tree *tree; cadp_entry *entry; int entries, slots; } cadp_fields;
CAD_CHECKED cad_status cadp_fields_open(cadp_fields *f, const char *path);
void cadp_fields_close(cadp_fields *f);
const cadp_entry *cadp_fields_find(const cadp_fields *f, const char *name);

/* ---- phenotype.yaml, censoring.yaml (phenotype.c) ---- */
CAD_CHECKED cad_status cadp_prefixes_read(cadp_prefixes *p, const cad_node *node, const char *path);
void cadp_prefixes_close(cadp_prefixes *p);
/* Codes stand without dots, in capitals (cadp_code_text). */
bool cadp_prefixes_match(const cadp_prefixes *p, const char *code, size_t n);
/* "I25.1 Atherosclerotic…" -> "I251"; its length, 0: no code. */
size_t cadp_code_text(const cadp_text *c, char out[12]);
typedef struct cadp_self { int field; double code[16]; int codes; } cadp_self;
typedef struct cadp_phenotype {
    cad_tree *tree;
    const char *name, *about;
    cadp_prefixes hospital[CADP_SYSTEMS], underlying, contributory;
    cadp_self self[8];
    int selves;
    int date[16], dates; /* fields that hold the event's date: algorithmically defined outcomes, first occurrences */
} cadp_phenotype;
CAD_CHECKED cad_status cadp_phenotype_open(cadp_phenotype *p, const char *path);
void cadp_phenotype_close(cadp_phenotype *p);
typedef struct cadp_nation { const char *name; int32_t end; int centre[64]; int centres; } cadp_nation;
typedef struct cadp_censoring { cad_tree *tree; cadp_nation nation[8]; int nations; } cadp_censoring;
CAD_CHECKED cad_status cadp_censoring_open(cadp_censoring *c, const char *path);
void cadp_censoring_close(cadp_censoring *c);
int cadp_nation_of(const cadp_censoring *c, int centre); /* -1: none */

/* ---- people ---- */
typedef enum cadp_status {
    CADP_IN, CADP_NO_DATE, CADP_NO_LINKAGE, CADP_UNKNOWN_DATE, CADP_PREVALENT, CADP_NO_NATION, CADP_CENSORED, CADP_RELATIVE, CADP_STATUSES
} cadp_status; /* IN, or the first reason why not */
typedef enum cadp_source { CADP_FROM_NONE, CADP_FROM_HOSPITAL, CADP_FROM_OPERATION, CADP_FROM_DEATH, CADP_SOURCES } cadp_source;
enum { CADP_SELF_BEFORE = 1, CADP_CASE_NO_DATE = 2, CADP_FATAL_CASE = 4, CADP_DIED_FIRST = 8, CADP_SELF_LATER = 16 };
enum { CADP_TRAIN, CADP_VALIDATION, CADP_TEST, CADP_SPLITS };
typedef struct cadp_person {
    int64_t eid;
    uint64_t row, prompt;             /* salted row id; digest of the prompt */
    int32_t index, first_case, death, lost, family;
    int32_t file;                     /* the extract that gave a row last */
    int16_t centre;
    uint8_t flags, lost_reason, source, status, split;
    int8_t label, nation;
    float weight;
} cadp_person;
enum { CADP_BLOCK = 4096 };
typedef struct cadp_hit { uint64_t key; int32_t what, source; } cadp_hit; /* person << 24 | ins_index; what: -1 the phenotype, else an entry */
typedef struct cadp_cohort {
    const cad_cohort_plan *plan;
    cadp_dictionary dictionary;
    cadp_fields fields;
    cadp_phenotype phenotype;
    cadp_censoring censoring;
    cadp_ids ids, withdrawn;
    cadp_person *person;
    double **block;                   /* slots of CADP_BLOCK people each */
    int64_t people, room;
    int64_t withdrawn_rows;
    int64_t special, implausible, labels, odd_days, other_texts, unmatched; /* what was met while reading */
    int64_t bytes;
    double seconds;
    int64_t no_episode;
    cad_str findings;                 /* JSON objects of leakage findings, separated by commas */
    int findings_count, refused;
    int64_t joined_prompts, kin_pairs;
    char salt[65];
    double *risk[CAD_SCORES + 1];     /* of each person; the last is the logistic regression's */
    cad_str notes;
    double townsend[4];               /* limits of the fifths */
    cadp_hit *hit;
    int64_t hits, hit_room;
} cadp_cohort;
static inline double *cadp_slots(const cadp_cohort *c, int64_t person)
{
    return c->block[person / CADP_BLOCK] + (person % CADP_BLOCK) * c->fields.slots;
}
CAD_CHECKED cad_status cadp_person_add(cadp_cohort *c, int64_t eid, int32_t *row); /* known or new */
/* A code of the system on a day (CADP_ODD_DAY where none is known). */
void cadp_meet_code(cadp_cohort *c, int32_t person, cadp_system system, const char *code, size_t n, int32_t day);
void cadp_meet_case(cadp_cohort *c, int32_t person, cadp_source source, int32_t day);
CAD_CHECKED cad_status cadp_read_extract(cadp_cohort *c, const char *path, int32_t number);
CAD_CHECKED cad_status cadp_read_records(cadp_cohort *c);
CAD_CHECKED cad_status cadp_read_withdrawals(cadp_cohort *c, const char *path);

/* ---- what an entry says of a person (prompt.c) ---- */
/* NaN: missing. A category's code, 0 or 1 of yes and no. */
double cadp_entry_value(const cadp_cohort *c, const cadp_entry *e, int64_t person);
double cadp_named_value(const cadp_cohort *c, const char *name, int64_t person); /* NaN also where there is no such entry */
CAD_CHECKED cad_status cadp_prompt(const cadp_cohort *c, int64_t person, cad_str *out);
CAD_CHECKED cad_status cadp_add_prompts(cadp_cohort *c); /* digests */

/* ---- labels, splits, checks, models, files ---- */
CAD_CHECKED cad_status cadp_label(cadp_cohort *c);
CAD_CHECKED cad_status cadp_split_people(cadp_cohort *c);
CAD_CHECKED cad_status cadp_check_allowed(const cad_cohort_list *allow); /* names of rules */
CAD_CHECKED cad_status cadp_check_fields(cadp_cohort *c); /* before reading */
CAD_CHECKED cad_status cadp_check_people(cadp_cohort *c); /* after splitting */
CAD_CHECKED cad_status cadp_check_sides(cadp_cohort *c);
CAD_CHECKED cad_status cadp_finding(cadp_cohort *c, const char *rule, const char *field, int64_t count, const char *says, bool refuse);
CAD_CHECKED cad_status cadp_score_people(cadp_cohort *c);
CAD_CHECKED cad_status cadp_fit_logistic(cadp_cohort *c);
double cadp_split_auc(const cadp_cohort *c, const double *risk, int split, int64_t *n, int64_t *events); /* of those with a risk; NaN */
CAD_CHECKED cad_status cadp_write_cohort(cadp_cohort *c);
CAD_CHECKED cad_status cadp_write_flow(const cadp_cohort *c, const char *dir);
/* Subgroups of a person as words, NULL where not known: sex, age_group, ethnicity, deprivation, region, treated. */
enum { CADP_GROUPS = 6 };
extern const char *const cadp_group_names[CADP_GROUPS];
const char *cadp_group_of(const cadp_cohort *c, int group, int64_t person);
static inline bool cadp_is_in(const cadp_person *p) { return p->status == CADP_IN; }
enum { CADP_FEWEST = 5 }; /* UK Biobank: no cell below five */
#endif
