/* Columns beside the text: numbers standardised, words as levels, "is missing"; and a score that the log-odds begin with. Learned on the rows that train. */
#include "data_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_LEVELS = 200, MOST_TERMS = 4096, FEWEST = 5 }; /* FEWEST: what fewer people have in common has no term of its own, nor a name in a file */

typedef struct column { char *name; bool category, missing; double mean, sd; char **level; int levels; } column;
struct cad_beside {
    column *column;
    int count, width;  /* width: of the terms, the constant first */
    char *offset;      /* NULL: none */
    bool odds, offset_missing;
    double offset_mean;
    char **term;       /* [width] */
};

/* ---- cells ---- */

typedef enum found { NOTHING, NUMBER, WORD } found;

static bool is_one_of(const char *s, const char *const *words)
{
    for (; *words; words++)
        if (!strcmp(s, *words)) return true;
    return false;
}

static found read_text(const char *s, double *value)
{
    static const char *const nothing[] = {"", "NA", "NaN", "nan", ".", "null", "None", NULL};
    char *end;

    if (is_one_of(s, nothing)) return NOTHING;
    *value = strtod(s, &end);
    return *end || end == s || !isfinite(*value) ? WORD : NUMBER;
}

static found read_cell(const cad_cell *c, double *value)
{
    switch (c->kind) {
    case CAD_CELL_MISSING: case CAD_CELL_NULL: return NOTHING;
    case CAD_CELL_BOOL: *value = c->integer != 0; return NUMBER;
    case CAD_CELL_TEXT: return read_text(c->text, value);
    case CAD_CELL_INT: case CAD_CELL_REAL:
        *value = strtod(c->text, NULL);
        return isnan(*value) ? NOTHING : isfinite(*value) ? NUMBER : WORD;
    case CAD_CELL_JSON: break;
    }
    return WORD;
}

static const char *word_of(const cad_cell *c) { return c->kind == CAD_CELL_BOOL ? (c->integer ? "true" : "false") : c->text; }

static cad_status find_column(const cad_rows *rows, const char *name, int *out)
{
    *out = cad_rows_find(rows, name);
    return *out < 0 ? cadp_no_column(rows, name) : CAD_OK;
}

/* ---- names ---- */

static cad_status add_column(cad_beside *c, const char *name, size_t n, bool category)
{
    column *k;

    for (int i = 0; i < c->count; i++)
        if (strlen(c->column[i].name) == n && !memcmp(c->column[i].name, name, n)) return CAD_OK;
    CAD_TRY(cad_grow(&c->column, (size_t)c->count + 1, sizeof *c->column, "columns"));
    k = &c->column[c->count++];
    *k = (column){.category = category};
    CAD_TRY(cad_alloc(&k->name, n + 1, 1, "a name"));
    memcpy(k->name, name, n);
    return CAD_OK;
}

/* "name", "name:category", or "beginning*": every column that begins so, in the order of the file. */
static cad_status add_named(cad_beside *c, const cad_rows *rows, const char *name)
{
    static const char mark[] = ":category";
    size_t n = strlen(name), m = sizeof mark - 1;
    int at, before = c->count;

    if (cad_rows_find(rows, name) < 0 && n && name[n - 1] == '*') {
        for (int i = 0; i < cad_rows_columns(rows); i++)
            if (!strncmp(cad_rows_column(rows, i), name, n - 1)) CAD_TRY(add_column(c, cad_rows_column(rows, i), strlen(cad_rows_column(rows, i)), false));
        return c->count > before ? CAD_OK : cad_fail(CAD_EDATA, "%s: head_columns: expected columns that begin with \"%.*s\", found none", cad_rows_path(rows), (int)n - 1, name);
    }
    if (cad_rows_find(rows, name) < 0 && n > m && !strcmp(name + n - m, mark)) return add_column(c, name, n - m, true);
    CAD_TRY(find_column(rows, name, &at));
    return add_column(c, name, n, false);
}

/* ---- learning ---- */

typedef struct sample { const cad_rows *rows; const int64_t *row; int64_t n; } sample;

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static cad_status keep_levels(column *k, const char **word, int64_t n, const char *path)
{
    int64_t from = 0;

    qsort(word, (size_t)n, sizeof *word, by_text);
    CAD_TRY(cad_alloc(&k->level, MOST_LEVELS, sizeof *k->level, "levels"));
    for (int64_t i = 0; i < n; i++) {
        if (i + 1 < n && !strcmp(word[i], word[i + 1])) continue;
        if (i + 1 - from >= FEWEST) {
            if (k->levels == MOST_LEVELS) return cad_fail(CAD_EDATA, "%s: column \"%s\": expected numbers, or words of at most %d kinds, found more", path, k->name, MOST_LEVELS);
            CAD_TRY(cad_strdup(&k->level[k->levels++], word[i]));
        }
        from = i + 1;
    }
    return CAD_OK;
}

static cad_status learn_levels(column *k, const sample *s, int at)
{
    const char **word = NULL;
    int64_t n = 0;
    double value;
    cad_status st;

    k->category = true;
    CAD_TRY(cad_alloc(&word, (size_t)s->n, sizeof *word, "levels"));
    for (int64_t i = 0; i < s->n; i++) {
        cad_cell c = cad_rows_cell(s->rows, s->row[i], at);
        if (read_cell(&c, &value) == NOTHING) k->missing = true;
        else word[n++] = word_of(&c);
    }
    st = keep_levels(k, word, n, cad_rows_path(s->rows));
    cad_free(&word);
    return st;
}

static cad_status learn_number(column *k, const sample *s, int at)
{
    double sum = 0, squares = 0, n = 0, value;

    for (int64_t i = 0; i < s->n; i++) {
        cad_cell c = cad_rows_cell(s->rows, s->row[i], at);
        found f = read_cell(&c, &value);
        if (f == WORD) return learn_levels(k, s, at);
        if (f == NOTHING) k->missing = true;
        else sum += value, n++;
    }
    k->mean = n > 0 ? sum / n : 0;
    for (int64_t i = 0; i < s->n; i++) {
        cad_cell c = cad_rows_cell(s->rows, s->row[i], at);
        if (read_cell(&c, &value) == NUMBER) squares += (value - k->mean) * (value - k->mean);
    }
    k->sd = n > 0 ? sqrt(squares / n) : 0;
    if (!(k->sd > 1e-12 * fabs(k->mean))) k->sd = 1; /* one value only: nothing is learned from it */
    return CAD_OK;
}

static double log_odds(double p)
{
    const double least = 1e-6;

    p = fmin(fmax(p, least), 1 - least);
    return log(p / (1 - p));
}

/* Risks lie in [0, 1]; what does not are log-odds. */
static cad_status learn_offset(cad_beside *c, const sample *s)
{
    double sum = 0, n = 0, value;
    int at;

    CAD_TRY(find_column(s->rows, c->offset, &at));
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < s->n; i++) {
            cad_cell cell = cad_rows_cell(s->rows, s->row[i], at);
            found f = read_cell(&cell, &value);
            if (f == WORD) return cad_fail(CAD_EDATA, "%s:%d: offset_column \"%s\": expected a number, found none", cad_rows_path(s->rows), cad_rows_line(s->rows, s->row[i]), c->offset);
            if (f == NOTHING) c->offset_missing = true;
            else if (!pass) c->odds |= value < 0 || value > 1;
            else sum += c->odds ? value : log_odds(value), n++;
        }
    if (!(n > 0)) return cad_fail(CAD_EDATA, "%s: offset_column \"%s\": expected numbers in the rows that train, found none", cad_rows_path(s->rows), c->offset);
    c->offset_mean = sum / n;
    return CAD_OK;
}

/* ---- terms ---- */

static cad_status add_term(cad_beside *c, const char *name, const char *what, const char *level)
{
    cad_str s = {0};

    if (c->width == MOST_TERMS) return cad_fail(CAD_EDATA, "head_columns: expected at most %d terms, found more", MOST_TERMS);
    CAD_TRY(cad_grow(&c->term, (size_t)c->width + 1, sizeof *c->term, "terms"));
    c->term[c->width] = NULL;
    CAD_TRY(cad_str_addf(&s, "%s%s%s", name, what, level));
    c->term[c->width++] = s.data;
    return CAD_OK;
}

static cad_status name_terms(cad_beside *c)
{
    CAD_TRY(add_term(c, "constant", "", ""));
    for (int i = 0; i < c->count; i++) {
        const column *k = &c->column[i];
        if (!k->category) CAD_TRY(add_term(c, k->name, "", ""));
        for (int l = 0; l < k->levels; l++) CAD_TRY(add_term(c, k->name, " = ", k->level[l]));
        if (k->missing) CAD_TRY(add_term(c, k->name, " is missing", ""));
    }
    return c->offset_missing ? add_term(c, c->offset, " is missing", "") : CAD_OK;
}

static cad_status learn(cad_beside *c, const sample *s, const cad_beside_options *o)
{
    for (int i = 0; i < o->count; i++) CAD_TRY(add_named(c, s->rows, o->name[i]));
    for (int i = 0; i < c->count; i++) {
        int at;
        CAD_TRY(find_column(s->rows, c->column[i].name, &at));
        CAD_TRY(c->column[i].category ? learn_levels(&c->column[i], s, at) : learn_number(&c->column[i], s, at));
    }
    if (o->offset) {
        CAD_TRY(cad_strdup(&c->offset, o->offset));
        CAD_TRY(learn_offset(c, s));
    }
    return name_terms(c);
}

cad_status cad_beside_learn(cad_beside **out, const cad_rows *rows, const int64_t *row, int64_t n, const cad_beside_options *o)
{
    cad_status st;

    CAD_TRY(cad_alloc(out, 1, sizeof **out, "columns"));
    if ((st = learn(*out, &(sample){rows, row, n}, o))) cad_beside_close(out);
    return st;
}

void cad_beside_close(cad_beside **out)
{
    cad_beside *c = *out;

    if (!c) return;
    for (int i = 0; i < c->count; i++) {
        for (int l = 0; l < c->column[i].levels; l++) cad_free(&c->column[i].level[l]);
        cad_free(&c->column[i].level);
        cad_free(&c->column[i].name);
    }
    for (int i = 0; i < c->width; i++) cad_free(&c->term[i]);
    cad_free(&c->term);
    cad_free(&c->column);
    cad_free(&c->offset);
    cad_free(out);
}

int cad_beside_width(const cad_beside *c) { return c->width; }
const char *cad_beside_term(const cad_beside *c, int term) { return c->term[term]; }
const char *cad_beside_offset(const cad_beside *c, bool *odds)
{
    *odds = c->odds;
    return c->offset;
}

const char *cad_beside_of_term(const cad_beside *c, int term)
{
    int at = 1;

    if (!term) return NULL;
    for (int i = 0; i < c->count; i++) {
        at += !c->column[i].category + c->column[i].levels + c->column[i].missing;
        if (term < at) return c->column[i].name;
    }
    return c->offset;
}

double cad_beside_offset_mean(const cad_beside *c) { return c->offset_mean; }

/* ---- values ---- */

static cad_status put_column(const column *k, const cad_rows *rows, int64_t row, int at, float **to)
{
    cad_cell c = cad_rows_cell(rows, row, at);
    double value = 0;
    found f = read_cell(&c, &value);

    if (!k->category && f == WORD)
        return cad_fail(CAD_EDATA, "%s:%d: column \"%s\": expected a number as in training, found none", cad_rows_path(rows), cad_rows_line(rows, row), k->name);
    if (!k->category) *(*to)++ = f == NUMBER ? (float)((value - k->mean) / k->sd) : 0;
    for (int l = 0; l < k->levels; l++) *(*to)++ = f != NOTHING && c.kind != CAD_CELL_JSON && !strcmp(word_of(&c), k->level[l]);
    if (k->missing) *(*to)++ = f == NOTHING;
    return CAD_OK;
}

static cad_status put_offset(const cad_beside *c, const cad_rows *rows, int64_t row, int at, float *offset, float *missing)
{
    cad_cell cell = cad_rows_cell(rows, row, at);
    double value = 0;
    found f = read_cell(&cell, &value);

    if (f == WORD || (f == NUMBER && !c->odds && (value < 0 || value > 1)))
        return cad_fail(CAD_EDATA, "%s:%d: offset_column \"%s\": expected %s as in training, found none", cad_rows_path(rows), cad_rows_line(rows, row), c->offset, c->odds ? "log-odds" : "a risk from 0 to 1");
    *offset = (float)(f == NOTHING ? c->offset_mean : c->odds ? value : log_odds(value));
    if (c->offset_missing) *missing = f == NOTHING;
    return CAD_OK;
}

static cad_status put_row(const cad_beside *c, const cad_rows *rows, int64_t row, const int *at, float *out)
{
    float *to = out + 1;

    *to++ = 1;
    for (int i = 0; i < c->count; i++) CAD_TRY(put_column(&c->column[i], rows, row, at[i], &to));
    return c->offset ? put_offset(c, rows, row, at[c->count], out, to) : CAD_OK;
}

cad_status cad_beside_apply(const cad_beside *c, cad_dataset *d)
{
    int *at = NULL;
    cad_status st = cad_alloc(&at, (size_t)c->count + 1, sizeof *at, "columns");

    for (int i = 0; i < c->count && !st; i++) st = find_column(d->rows_file, c->column[i].name, &at[i]);
    if (!st && c->offset) st = find_column(d->rows_file, c->offset, &at[c->count]);
    if (!st) st = cad_alloc(&d->beside, (size_t)d->count * (size_t)(c->width + 1), sizeof *d->beside, "columns beside the text");
    d->beside_width = c->width + 1;
    for (int64_t i = 0; i < d->count && !st; i++) st = put_row(c, d->rows_file, i, at, d->beside + i * d->beside_width);
    cad_free(&at);
    return st;
}

cad_status cad_dataset_weigh(cad_dataset *d, const char *name)
{
    int at;

    CAD_TRY(find_column(d->rows_file, name, &at));
    CAD_TRY(cad_alloc(&d->row_weights, (size_t)d->count, sizeof *d->row_weights, "weights of rows"));
    for (int64_t i = 0; i < d->count; i++) {
        cad_cell c = cad_rows_cell(d->rows_file, i, at);
        if (read_cell(&c, &d->row_weights[i]) != NUMBER || d->row_weights[i] < 0)
            return cad_fail(CAD_EDATA, "%s:%d: weight_column \"%s\": expected a number of at least 0, found none", cad_rows_path(d->rows_file), cad_rows_line(d->rows_file, i), name);
    }
    return CAD_OK;
}

/* ---- on disk ---- */

static cad_status put_json(const cad_beside *c, cad_json *j)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_string(j, "format", "cadtrain head columns 1"));
    CAD_TRY(cad_json_begin(j, "columns", '['));
    for (int i = 0; i < c->count; i++) {
        const column *k = &c->column[i];
        CAD_TRY(cad_json_begin(j, NULL, '{'));
        CAD_TRY(cad_json_string(j, "name", k->name));
        CAD_TRY(cad_json_string(j, "kind", k->category ? "category" : "number"));
        if (!k->category) CAD_TRY(cad_json_real(j, "mean", k->mean));
        if (!k->category) CAD_TRY(cad_json_real(j, "sd", k->sd));
        if (k->category) CAD_TRY(cad_json_begin(j, "levels", '['));
        for (int l = 0; l < k->levels; l++) CAD_TRY(cad_json_string(j, NULL, k->level[l]));
        if (k->category) CAD_TRY(cad_json_end(j));
        CAD_TRY(cad_json_bool(j, "missing", k->missing));
        CAD_TRY(cad_json_end(j));
    }
    CAD_TRY(cad_json_end(j));
    if (c->offset) {
        CAD_TRY(cad_json_begin(j, "offset", '{'));
        CAD_TRY(cad_json_string(j, "name", c->offset));
        CAD_TRY(cad_json_string(j, "scale", c->odds ? "log-odds" : "risk"));
        CAD_TRY(cad_json_real(j, "mean", c->offset_mean));
        CAD_TRY(cad_json_bool(j, "missing", c->offset_missing));
        CAD_TRY(cad_json_end(j));
    }
    CAD_TRY(cad_json_begin(j, "terms", '[')); /* the columns of the tensor head_columns.weight */
    for (int i = 0; i < c->width; i++) CAD_TRY(cad_json_string(j, NULL, c->term[i]));
    CAD_TRY(cad_json_end(j));
    return cad_json_end(j);
}

cad_status cad_beside_write(const cad_beside *c, const char *path)
{
    cad_json j = {.pretty = true};
    cad_status st = put_json(c, &j);

    if (!st) st = cad_str_add(&j.text, "\n", 1);
    if (!st) st = cad_write_file(path, j.text.data, j.text.size);
    cad_json_close(&j);
    return st;
}

static cad_status wrong_file(const char *path, const cad_node *n, const char *expected)
{
    return cad_fail(CAD_EMODEL, "%s:%d:%d: expected %s, found something else", path, n ? n->line : 1, n ? n->column : 1, expected);
}

static cad_status read_levels(column *k, const cad_node *list, const char *path)
{
    if (!list || list->kind != CAD_LIST || list->children > MOST_LEVELS) return wrong_file(path, list, "a list of levels");
    CAD_TRY(cad_alloc(&k->level, MOST_LEVELS, sizeof *k->level, "levels"));
    for (const cad_node *n = list->child; n; n = n->next) {
        if (n->kind != CAD_STRING) return wrong_file(path, n, "a word");
        CAD_TRY(cad_strdup(&k->level[k->levels++], n->text));
    }
    return CAD_OK;
}

static cad_status read_column(cad_beside *c, const cad_node *n, const char *path)
{
    const char *name, *kind;
    column *k;

    if (n->kind != CAD_TABLE || !cad_get_string(n, "name", &name, NULL) || !name || !cad_get_string(n, "kind", &kind, NULL) || !kind || (strcmp(kind, "number") && strcmp(kind, "category")))
        return wrong_file(path, n, "a column with name and kind");
    CAD_TRY(add_column(c, name, strlen(name), !strcmp(kind, "category")));
    k = &c->column[c->count - 1];
    if (strcmp(k->name, name)) return wrong_file(path, n, "each column once");
    if (!cad_get_real(n, "mean", &k->mean, 0) || !cad_get_real(n, "sd", &k->sd, 1) || !(k->sd > 0) || !isfinite(k->mean) || !cad_get_bool(n, "missing", &k->missing, false)) return wrong_file(path, n, "mean, sd above 0, missing");
    return k->category ? read_levels(k, cad_get(n, "levels"), path) : CAD_OK;
}

static cad_status read_offset(cad_beside *c, const cad_node *n, const char *path)
{
    const char *name, *scale;

    if (!n || n->kind == CAD_NULL) return CAD_OK;
    if (!cad_get_string(n, "name", &name, NULL) || !name || !cad_get_string(n, "scale", &scale, NULL) || !scale || (strcmp(scale, "risk") && strcmp(scale, "log-odds")) ||
        !cad_get_real(n, "mean", &c->offset_mean, 0) || !isfinite(c->offset_mean) || !cad_get_bool(n, "missing", &c->offset_missing, false))
        return wrong_file(path, n, "name, scale, mean and missing of an offset");
    c->odds = !strcmp(scale, "log-odds");
    return cad_strdup(&c->offset, name);
}

static cad_status read_all(cad_beside *c, const cad_node *root, const char *path)
{
    const cad_node *list = cad_get(root, "columns");
    const char *format;

    if (root->kind != CAD_TABLE || !cad_get_string(root, "format", &format, "") || strcmp(format, "cadtrain head columns 1")) return wrong_file(path, root, "the format \"cadtrain head columns 1\"");
    if (!list || list->kind != CAD_LIST) return wrong_file(path, root, "a list of columns");
    for (const cad_node *n = list->child; n; n = n->next) CAD_TRY(read_column(c, n, path));
    CAD_TRY(read_offset(c, cad_get(root, "offset"), path));
    return name_terms(c);
}

cad_status cad_beside_read(cad_beside **out, const char *path)
{
    cad_tree *tree;
    cad_status st;

    *out = NULL;
    CAD_TRY(cad_json_read(&tree, path, 4 << 20, CAD_EMODEL));
    if (!(st = cad_alloc(out, 1, sizeof **out, "columns")) && (st = read_all(*out, tree->root, path))) cad_beside_close(out);
    cad_tree_close(&tree);
    return st;
}
