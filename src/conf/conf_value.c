/* One option's value: from a node or text into the struct, and back out as JSON. */
#include "conf_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void *field(cad_options *o, const cadp_row *row) { return (char *)o + row->at; }
static const void *field_of(const cad_options *o, const cadp_row *row) { return (const char *)o + row->at; }

/* ---- what was expected, what was found ---- */

static void add(char *out, size_t room, const char *text)
{
    size_t used = strlen(out);
    if (used + 1 < room) snprintf(out + used, room - used, "%s", text);
}

/* Other spellings and refused words stay unsaid. */
static bool is_said(const cadp_row *row, const cadp_word *w) { return w->value >= 0 && cadp_conf_word_of(row->words, w->value) == w->word; }

static void list_words(char *out, size_t room, const cadp_row *row)
{
    const cadp_word *last = row->words;

    for (const cadp_word *w = row->words; w->word; w++)
        if (is_said(row, w)) last = w;
    for (const cadp_word *w = row->words; w <= last; w++) {
        if (!is_said(row, w)) continue;
        add(out, room, w == row->words ? "" : w == last ? " or " : ", ");
        add(out, room, w->word);
    }
    if (row->marks & CADP_NULLABLE && row->type != CADP_WORDS) add(out, room, " (or null)");
}

static void add_range(char *out, size_t room, const cadp_row *row)
{
    char text[96], low[32], high[32];

    cad_format_real(low, row->low);
    cad_format_real(high, row->high);
    if (row->type == CADP_INT || row->type == CADP_WHOLES || row->marks & CADP_WHOLE) {
        snprintf(low, sizeof low, "%.0f", row->low);
        snprintf(high, sizeof high, "%.0f", row->high);
    }
    if (row->high >= 1e6) snprintf(text, sizeof text, row->marks & CADP_ABOVE ? " above %s" : " of at least %s", low);
    else snprintf(text, sizeof text, " from %s%s to %s%s", low, row->marks & CADP_ABOVE ? " (excluded)" : "", high,
                  row->marks & CADP_BELOW ? " (excluded)" : "");
    add(out, room, text);
    if (row->marks & CADP_NULLABLE) add(out, room, " (or null)");
}

void cadp_conf_expectation(char *out, size_t room, const cadp_row *row)
{
    out[0] = 0;
    switch (row->type) {
    case CADP_BOOL: add(out, room, "true or false"); break;
    case CADP_MAYBE: add(out, room, "true, false or null"); break;
    case CADP_INT: add(out, room, "a whole number"); add_range(out, room, row); break;
    case CADP_REAL: add(out, room, "a number"); add_range(out, room, row); break;
    case CADP_SECONDS: add(out, room, "seconds or [D-]HH:MM:SS"); break;
    case CADP_PAIR: add(out, room, "a list of two numbers"); add_range(out, room, row); break;
    case CADP_WORD: add(out, room, "one of "); list_words(out, room, row); break;
    case CADP_TARGETS: add(out, room, row->standard ? "all-linear, a list of names or a regular expression" : "a list of names or a regular expression (or null)"); break;
    case CADP_WHOLES: add(out, room, "a whole number"); add_range(out, room, row); add(out, room, ", or a list of them"); break;
    case CADP_PATTERN:
        add(out, room, "a table of regular expressions and ");
        add(out, room, row->marks & CADP_WHOLE ? "whole numbers" : "numbers");
        add_range(out, room, row);
        break;
    case CADP_WORDS:
        add(out, room, row->words ? "a list of " : "a list of texts");
        if (row->words) list_words(out, room, row);
        break;
    case CADP_TEXT:
        add(out, room, row->words ? "one of " : "text");
        if (row->words) list_words(out, room, row);
        else if (row->marks & CADP_NULLABLE) add(out, room, " (or null)");
        break;
    }
}

void cadp_conf_describe(char *out, size_t room, const cad_node *node)
{
    char real[32];

    switch (node->kind) {
    case CAD_NULL: snprintf(out, room, "null"); break;
    case CAD_BOOL: snprintf(out, room, "%s", node->boolean ? "true" : "false"); break;
    case CAD_INT: snprintf(out, room, "%lld", (long long)node->integer); break;
    case CAD_REAL:
        cad_format_real(real, node->real);
        snprintf(out, room, "%s", real);
        break;
    case CAD_STRING: snprintf(out, room, "%s", cadp_conf_quote(node->text).text); break;
    case CAD_LIST: snprintf(out, room, "a list of %d", node->children); break;
    case CAD_TABLE: snprintf(out, room, "a table"); break;
    }
}

/* ---- reading ---- */

static bool read_int(const cadp_row *row, const cad_node *node, int64_t *out)
{
    if (node->kind == CAD_INT) *out = node->integer;
    else if (node->kind == CAD_REAL && fabs(node->real) <= 9e15 && node->real == floor(node->real)) *out = (int64_t)node->real;
    else return false;
    return cadp_conf_in_range(row, (double)*out);
}

static bool read_real(const cadp_row *row, const cad_node *node, double *out)
{
    if (node->kind != CAD_INT && node->kind != CAD_REAL) return false;
    *out = node->kind == CAD_INT ? (double)node->integer : node->real;
    return cadp_conf_in_range(row, *out);
}

bool cadp_conf_read_clock(const char *text, double *seconds)
{
    unsigned d = 0, h, m, s;
    int end = 0;

    if (sscanf(text, "%4u-%2u:%2u:%2u%n", &d, &h, &m, &s, &end) != 4 || text[end]) {
        d = 0;
        end = 0;
        if (sscanf(text, "%4u:%2u:%2u%n", &h, &m, &s, &end) != 3 || text[end]) return false;
    }
    if (strspn(text, "0123456789:-") != strlen(text) || m > 59 || s > 59) return false;
    *seconds = ((d * 24.0 + h) * 60 + m) * 60 + s;
    return true;
}

static const cadp_word *find_word(const cadp_word *words, const char *text)
{
    for (const cadp_word *w = words; w->word; w++)
        if (!strcmp(w->word, text)) return w;
    return NULL;
}

const char *cadp_conf_word_of(const cadp_word *words, int value)
{
    for (const cadp_word *w = words; w->word; w++)
        if (w->value == value) return w->word;
    return "?";
}

cad_status cadp_conf_store_text(char **to, const char *text, size_t n)
{
    char *copy;

    CAD_TRY(cad_alloc(&copy, n + 1, 1, "option"));
    memcpy(copy, text, n);
    cad_free(to);
    *to = copy;
    return CAD_OK;
}

static cad_status set_text(char **to, const cadp_row *row, const cad_node *node, bool *fits)
{
    const char *text = node->kind == CAD_STRING ? node->text : NULL;
    const cadp_word *word;

    if (node->kind == CAD_BOOL && row->marks & CADP_BOOL_TOO) text = node->boolean ? "true" : "false";
    if (node->kind == CAD_NULL || (text && !*text)) {
        *fits = row->marks & CADP_NULLABLE;
        if (*fits) cad_free(to);
        return CAD_OK;
    }
    *fits = text && strlen(text) == (node->kind == CAD_STRING ? node->size : strlen(text)); /* no NUL inside */
    if (!*fits) return CAD_OK;
    if (!row->words) return cadp_conf_store_text(to, text, strlen(text));
    word = find_word(row->words, text);
    *fits = word != NULL;
    if (!word) return CAD_OK;
    text = cadp_conf_word_of(row->words, word->value);
    return cadp_conf_store_text(to, text, strlen(text));
}

static void free_words(cad_words *w)
{
    for (int i = 0; i < w->count; i++) cad_free(&w->word[i]);
    cad_free(&w->word);
    w->count = 0;
}

static cad_status add_word(cad_words *w, const char *text, size_t n)
{
    CAD_TRY(cad_grow(&w->word, (size_t)w->count + 1, sizeof *w->word, "options"));
    w->word[w->count] = NULL;
    CAD_TRY(cadp_conf_store_text(&w->word[w->count], text, n));
    w->count++;
    return CAD_OK;
}

/* "a, b" as a flag writes it, or one text of a file. */
static cad_status split(cad_words *w, const char *text)
{
    for (const char *p = text; *p;) {
        size_t n;
        p += strspn(p, ", \t");
        n = strcspn(p, ", \t");
        if (n) CAD_TRY(add_word(w, p, n));
        p += n;
    }
    return CAD_OK;
}

/* numbers: whole numbers as words too (codes of centres). */
static cad_status gather(cad_words *w, const cad_node *node, bool numbers, bool *fits)
{
    *fits = node->kind == CAD_LIST || node->kind == CAD_STRING || node->kind == CAD_NULL;
    if (node->kind == CAD_STRING) return split(w, node->text);
    for (const cad_node *child = node->kind == CAD_LIST ? node->child : NULL; child && *fits; child = child->next) {
        *fits = (child->kind == CAD_STRING || (numbers && child->kind == CAD_INT)) && child->text && child->size && strlen(child->text) == child->size;
        if (*fits) CAD_TRY(add_word(w, child->text, child->size));
    }
    return CAD_OK;
}

/* Each is one of the row's words; "none" is an empty list. */
static bool keep_known(cad_words *w, const cadp_row *row, const char **culprit)
{
    int kept = 0;

    for (int i = 0; i < w->count; i++) {
        const cadp_word *word = find_word(row->words, w->word[i]);
        if (!word || word->value < 0) {
            *culprit = w->word[i];
            return false;
        }
    }
    for (int i = 0; i < w->count; i++) {
        if (!strcmp(w->word[i], "none")) cad_free(&w->word[i]);
        else w->word[kept++] = w->word[i];
    }
    w->count = kept;
    return true;
}

static cad_status set_words(cad_config *c, const cadp_row *row, const cad_node *node, const char *place, bool *fits)
{
    cad_words got = {0};
    const char *culprit = NULL;
    cad_status st = gather(&got, node, !strcmp(row->in, "cohort"), fits);

    if (!st && *fits && row->words && !keep_known(&got, row, &culprit)) {
        const cadp_word *known = find_word(row->words, culprit);
        cad_near near = {.wanted = culprit};
        for (const cadp_word *w = row->words; w->word; w++) cad_near_offer(&near, w->word);
        if (known) st = cadp_conf_mistake(c, "%s: \"%s\" %s", place, culprit, row->refusal);
        else {
            char expected[256];
            cadp_conf_expectation(expected, sizeof expected, row);
            st = cadp_conf_mistake(c, "%s: expected %s, found %s%s", place, expected, cadp_conf_quote(culprit).text, cad_near_hint(&near, ""));
        }
    } else if (!st && *fits) {
        free_words(field(&c->options, row));
        *(cad_words *)field(&c->options, row) = got;
        return CAD_OK;
    }
    free_words(&got);
    return st;
}

/* A text with a comma and nothing that a pattern would have is a list written on a command line. */
static bool is_name_list(const char *text)
{
    return strchr(text, ',') && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-., ") == strlen(text);
}

static bool is_target(const cadp_row *row) { return row->at == offsetof(cad_options, model.lora.target_modules); }

static void note_regex(cad_options *o, const cadp_row *row, bool regex) { *(is_target(row) ? &o->model.lora.target_is_regex : &o->model.lora.exclude_is_regex) = regex; }

static cad_status set_targets(cad_config *c, const cadp_row *row, const cad_node *node, bool *fits)
{
    cad_words got = {0}, *to = field(&c->options, row);
    bool regex = false;
    cad_status st;

    if (node->kind == CAD_STRING && !is_name_list(node->text) && (node->size || !(row->marks & CADP_NULLABLE))) {
        regex = !row->standard || strcmp(node->text, row->standard) != 0;
        *fits = node->size > 0;
        st = *fits ? add_word(&got, node->text, node->size) : CAD_OK;
    } else {
        st = gather(&got, node, false, fits);
        if (!got.count && !(row->marks & CADP_NULLABLE)) *fits = false;
    }
    if (st || !*fits) {
        free_words(&got);
        return st;
    }
    free_words(to);
    *to = got;
    note_regex(&c->options, row, regex);
    return CAD_OK;
}

static bool set_word(void *to, const cadp_row *row, const cad_node *node)
{
    bool switched = node->kind == CAD_BOOL && row->marks & CADP_BOOL_TOO;
    const cadp_word *word = switched ? find_word(row->words, node->boolean ? "true" : "false") : node->kind == CAD_STRING ? find_word(row->words, node->text) : NULL;
    int value = word ? word->value : (int)row->none;

    if (!word && !(node->kind == CAD_NULL && row->marks & CADP_NULLABLE)) return false;
    if (row->marks & CADP_AS_BOOL) *(bool *)to = value != 0;
    else *(int *)to = value;
    return true;
}

static bool set_number(void *to, const cadp_row *row, const cad_node *node)
{
    bool none = node->kind == CAD_NULL && row->marks & CADP_NULLABLE, fits;
    int64_t whole = (int64_t)row->none;
    double real = row->none;

    if (row->type == CADP_INT) {
        fits = none || read_int(row, node, &whole);
        if (fits) *(int64_t *)to = whole;
        return fits;
    }
    fits = none || (row->type == CADP_SECONDS && node->kind == CAD_STRING ? cadp_conf_read_clock(node->text, &real) : read_real(row, node, &real));
    if (fits) *(double *)to = real;
    return fits;
}

static bool set_pair(double to[2], const cadp_row *row, const cad_node *node)
{
    double a, b;

    if (node->kind != CAD_LIST || node->children != 2) return false;
    if (!read_real(row, node->child, &a) || !read_real(row, node->child->next, &b)) return false;
    to[0] = a;
    to[1] = b;
    return true;
}

static cad_status store(cad_config *c, const cadp_row *row, const cad_node *node, const char *place, bool *fits)
{
    void *to = field(&c->options, row);

    switch (row->type) {
    case CADP_BOOL:
        *fits = node->kind == CAD_BOOL;
        if (*fits) *(bool *)to = node->boolean;
        return CAD_OK;
    case CADP_MAYBE:
        *fits = node->kind == CAD_BOOL || node->kind == CAD_NULL;
        if (*fits) *(int *)to = node->kind == CAD_NULL ? -1 : node->boolean;
        return CAD_OK;
    case CADP_INT: case CADP_REAL: case CADP_SECONDS: *fits = set_number(to, row, node); return CAD_OK;
    case CADP_WORD: *fits = set_word(to, row, node); return CAD_OK;
    case CADP_PAIR: *fits = set_pair(to, row, node); return CAD_OK;
    case CADP_TEXT: return set_text(to, row, node, fits);
    case CADP_WORDS: return set_words(c, row, node, place, fits);
    case CADP_TARGETS: return set_targets(c, row, node, fits);
    case CADP_WHOLES: return cadp_conf_set_wholes(to, row, node, fits);
    case CADP_PATTERN: return cadp_conf_set_pattern(to, row, node, fits);
    }
    return CAD_OK;
}

static cad_status misfit(cad_config *c, const cadp_row *row, const cad_node *node, const char *place)
{
    char expected[256], found[128];
    cad_near near = {.wanted = node->text};

    cadp_conf_expectation(expected, sizeof expected, row);
    cadp_conf_describe(found, sizeof found, node);
    if (node->kind == CAD_STRING && row->words)
        for (const cadp_word *w = row->words; w->word; w++)
            if (w->value >= 0) cad_near_offer(&near, w->word);
    return cadp_conf_mistake(c, "%s: expected %s, found %s%s", place, expected, found, cad_near_hint(&near, ""));
}

static cad_status remember(cad_config *c, int i, const cad_node *node, const cadp_from *from)
{
    cadp_origin *origin = &c->origin[cadp_conf_row_of(cadp_conf_rows[i].at)];
    char where[512];

    origin->level = from->level;
    origin->serial = from->serial;
    origin->linked = from->linked;
    if (!from->path && !from->name) {
        cad_free(&origin->where);
        return CAD_OK;
    }
    cadp_conf_place(where, sizeof where, from, node, false);
    return cadp_conf_store_text(&origin->where, where, strlen(where));
}

cad_status cadp_conf_set(cad_config *c, int i, const cad_node *node, const cadp_from *from)
{
    const cadp_row *row = &cadp_conf_rows[i];
    const cadp_origin *origin = &c->origin[cadp_conf_row_of(row->at)];
    char place[640], at[512];
    int before = c->mistake_count;
    bool fits = true;

    if (from->path || from->name) {
        cadp_conf_place(at, sizeof at, from, node, false);
        if (from->label) snprintf(place, sizeof place, "%s: %s", at, from->label);
        else if (from->path) snprintf(place, sizeof place, "%s: %s%s%s", at, row->in, *row->in ? "." : "", row->key);
        else snprintf(place, sizeof place, "%s", at);
    } else snprintf(place, sizeof place, "default of %s.%s", row->in, row->key);
    if (from->serial && origin->serial == from->serial && origin->level == from->level)
        return cadp_conf_mistake(c, "%s is given a second time (first at %s)", place, origin->where);
    CAD_TRY(store(c, row, node, place, &fits));
    if (!fits) return misfit(c, row, node, place);
    return c->mistake_count == before ? remember(c, i, node, from) : CAD_OK;
}

/* ---- text as a command line writes it ---- */

static bool quoted(const char *text, size_t n) { return n >= 2 && (text[0] == '"' || text[0] == '\'') && text[n - 1] == text[0]; }

/* Is the text taken as it stands, not as YAML? */
static bool is_plain(const cadp_row *row, const char *text)
{
    size_t n = strlen(text);

    if (!n) return true;
    if (!strcmp(text, "null") || !strcmp(text, "~")) return !(row->marks & CADP_NULLABLE);
    if (row->type == CADP_TEXT) return !quoted(text, n);
    if (row->type == CADP_WORDS || row->type == CADP_TARGETS) return text[0] != '[' || text[n - 1] != ']';
    return row->type == CADP_WORD;
}

/* The value is the one entry of a YAML list around it; what is no such value is text. */
static cad_status parse_flow(cad_tree **out, const cadp_row *row, const char *text)
{
    cad_str flow = {0};
    bool twice = row->type == CADP_PAIR && text[0] != '[';
    cad_status st = cad_str_addf(&flow, twice ? "[[%s]]" : "[%s]", text);

    *out = NULL;
    if (!st) st = cad_yaml_parse(out, flow.data, flow.size, "value");
    cad_str_close(&flow);
    if (st == CAD_EUSAGE) {
        cad_clear();
        return CAD_OK;
    }
    if (!st && ((*out)->root->kind != CAD_LIST || (*out)->root->children != 1)) cad_tree_close(out);
    return st;
}

cad_status cadp_conf_set_text(cad_config *c, int i, const char *text, const cadp_from *from)
{
    const cadp_row *row = &cadp_conf_rows[i];
    cad_node plain = {.kind = CAD_STRING, .size = strlen(text)};
    cad_tree *tree = NULL;
    cad_status st = CAD_OK;

    if (!is_plain(row, text)) st = parse_flow(&tree, row, text);
    if (!st) st = cadp_conf_store_text(&plain.text, text, plain.size);
    if (!st) st = cadp_conf_set(c, i, tree ? tree->root->child : &plain, from);
    cad_free(&plain.text);
    cad_tree_close(&tree);
    return st;
}

/* ---- writing ---- */

static cad_status emit_words(cad_json *j, const char *key, const cad_words *w)
{
    CAD_TRY(cad_json_begin(j, key, '['));
    for (int i = 0; i < w->count; i++) CAD_TRY(cad_json_string(j, NULL, w->word[i]));
    return cad_json_end(j);
}

static cad_status emit_number(cad_json *j, const char *key, const cadp_row *row, const void *at)
{
    bool whole = row->type == CADP_INT;
    double value = whole ? (double)*(const int64_t *)at : *(const double *)at;

    if (row->marks & CADP_NULLABLE && value == row->none) return cad_json_null(j, key);
    return whole ? cad_json_int(j, key, *(const int64_t *)at) : cad_json_real(j, key, value);
}

/* A word that may be true or false is one in JSON too. */
static cad_status emit_word(cad_json *j, const char *key, const cadp_row *row, const void *at)
{
    const char *word = cadp_conf_word_of(row->words, row->marks & CADP_AS_BOOL ? *(const bool *)at : *(const int *)at);

    if (row->marks & CADP_BOOL_TOO && (!strcmp(word, "true") || !strcmp(word, "false"))) return cad_json_bool(j, key, *word == 't');
    return cad_json_string(j, key, word);
}

cad_status cadp_conf_emit(cad_json *j, const char *key, const cadp_row *row, const cad_options *o)
{
    const void *at = field_of(o, row);

    switch (row->type) {
    case CADP_BOOL: return cad_json_bool(j, key, *(const bool *)at);
    case CADP_MAYBE: return *(const int *)at < 0 ? cad_json_null(j, key) : cad_json_bool(j, key, *(const int *)at != 0);
    case CADP_INT: case CADP_REAL: case CADP_SECONDS: return emit_number(j, key, row, at);
    case CADP_TEXT: return cad_json_string(j, key, *(char *const *)at);
    case CADP_WORD: return emit_word(j, key, row, at);
    case CADP_WORDS: return emit_words(j, key, at);
    case CADP_TARGETS:
        if (is_target(row) ? o->model.lora.target_is_regex : o->model.lora.exclude_is_regex) return cad_json_string(j, key, ((const cad_words *)at)->word[0]);
        return emit_words(j, key, at);
    case CADP_WHOLES: return cadp_conf_emit_wholes(j, key, at);
    case CADP_PATTERN: return cadp_conf_emit_pattern(j, key, row, at);
    case CADP_PAIR:
        CAD_TRY(cad_json_begin(j, key, '['));
        CAD_TRY(cad_json_real(j, NULL, ((const double *)at)[0]));
        CAD_TRY(cad_json_real(j, NULL, ((const double *)at)[1]));
        return cad_json_end(j);
    }
    return CAD_OK;
}

void cadp_conf_free_options(cad_options *o)
{
    for (int i = 0; i < cadp_conf_row_count; i++) {
        const cadp_row *row = &cadp_conf_rows[i];
        if (row->type == CADP_TEXT) cad_free(field(o, row));
        if (row->type == CADP_WORDS || row->type == CADP_TARGETS) free_words(field(o, row));
        if (row->type == CADP_WHOLES) cad_free(&((cad_whole_numbers *)field(o, row))->at);
        if (row->type == CADP_PATTERN) cadp_conf_free_pattern(field(o, row));
    }
}
