/* A template's tree, walked: text out. */
#include "chat_priv.h"

#include <cadtrain/text.h>
#include <stdlib.h>
#include <time.h>

enum { STEPS = 5000000, TURN = 50, DEEPEST = 200 }; /* a turn of a loop counts as so many steps */
typedef enum flow { GOES_ON, BREAKS, CONTINUES } flow;
typedef struct entry { const char *name; size_t size; cadp_value value; } entry;
typedef struct renderer {
    const char *path;
    cadp_pool pool;
    entry *entry;                /* names and what they mean, innermost last */
    int64_t count, room, base;   /* base: where the innermost scope begins */
    int64_t steps, depth;
    cad_str *out;
    const cad_str *page;         /* the text itself, which `out` is but while a value is made */
    cad_chat_marks *marks;       /* NULL: nobody asks */
} renderer;

static cad_status run_all(renderer *r, const cadp_tree *s, flow *f);
static cad_status eval(renderer *r, const cadp_tree *x, cadp_value *out);

static cad_status wrong(const renderer *r, const cadp_tree *x, const char *what) { return cad_fail(CAD_EMODEL, "%s:%d: chat template: %s", r->path, x->line, what); }

/* ---- names ---- */

static cad_status put_name(renderer *r, const char *name, size_t n, cadp_value v)
{
    for (int64_t i = r->base; i < r->count; i++)
        if (r->entry[i].size == n && !memcmp(r->entry[i].name, name, n)) {
            r->entry[i].value = v;
            return CAD_OK;
        }
    if (r->count == r->room) {
        r->room = 2 * r->room + 32;
        CAD_TRY(cad_grow(&r->entry, (size_t)r->room, sizeof *r->entry, "a chat template"));
    }
    r->entry[r->count++] = (entry){name, n, v};
    return CAD_OK;
}

static void get_name(const renderer *r, const cadp_tree *x, cadp_value *out)
{
    static const struct { const char *name; cadp_value value; } constants[] = {
        {"true", {.type = CADP_BOOL, .truth = true}}, {"True", {.type = CADP_BOOL, .truth = true}}, {"false", {.type = CADP_BOOL}}, {"False", {.type = CADP_BOOL}},
        {"none", {.type = CADP_NONE}}, {"None", {.type = CADP_NONE}}};
    static const char *const functions[] = {"raise_exception", "namespace", "strftime_now", "range", "dict", NULL};

    *out = (cadp_value){0};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (cadp_says(x->text, x->size, constants[i].name)) {
            *out = constants[i].value;
            return;
        }
    for (int64_t i = r->count - 1; i >= 0; i--)
        if (r->entry[i].size == x->size && !memcmp(r->entry[i].name, x->text, x->size)) {
            *out = r->entry[i].value;
            return;
        }
    for (int i = 0; functions[i]; i++)
        if (cadp_says(x->text, x->size, functions[i])) *out = (cadp_value){.type = CADP_FUNCTION, .text = functions[i], .size = strlen(functions[i])};
}

/* ---- parts of values ---- */

static cad_status member(renderer *r, const cadp_tree *x, cadp_value v, const char *name, size_t n, bool method, cadp_value *out)
{
    const cadp_value *at = cadp_many_find(&v, name, n);
    cadp_value *of;

    *out = at ? *at : (cadp_value){0};
    if (at) return CAD_OK;
    if (v.type == CADP_UNDEFINED) return wrong(r, x, "expected a value that is defined before a dot or a bracket");
    if (!method || !cadp_has_method(&v, name, n)) return CAD_OK;
    CAD_TRY(cadp_pool_take(&r->pool, &of, 1, sizeof *of));
    *of = v;
    *out = (cadp_value){.type = CADP_FUNCTION, .text = name, .size = n, .of = of};
    return CAD_OK;
}

static cad_status item(renderer *r, const cadp_tree *x, cadp_value v, const cadp_value *at, cadp_value *out)
{
    int64_t n = cadp_length(&v), i = at->integer < 0 ? at->integer + n : at->integer;

    *out = (cadp_value){0};
    if (at->type == CADP_TEXT || v.type == CADP_UNDEFINED) return member(r, x, v, at->text, at->size, false, out);
    if (at->type != CADP_INT || i < 0 || i >= n) return CAD_OK;
    if (v.type == CADP_LIST) *out = v.many->item[i];
    else if (v.type == CADP_TEXT) cadp_characters(&v, i, i + 1, out);
    return CAD_OK;
}

/* A bound of a slice, within [low, high]. */
static int64_t bound(const cadp_value *v, int64_t n, int64_t otherwise, int64_t low, int64_t high)
{
    int64_t i = v->type == CADP_INT ? v->integer < 0 ? v->integer + n : v->integer : otherwise;

    return cad_max(low, cad_min(high, i));
}

static cad_status slice(renderer *r, const cadp_tree *x, cadp_value *out)
{
    cadp_value v, from, to, by = {0}, one;
    int64_t n, step, i, end;

    CAD_TRY(eval(r, x->a, &v));
    CAD_TRY(eval(r, x->b, &from));
    CAD_TRY(eval(r, x->c, &to));
    if (x->d) CAD_TRY(eval(r, x->d, &by));
    n = cadp_length(&v);
    step = by.type == CADP_INT ? by.integer : 1;
    if (!step || (v.type != CADP_TEXT && v.type != CADP_LIST)) return wrong(r, x, "expected a text or a list to take a slice of");
    i = bound(&from, n, step > 0 ? 0 : n - 1, step > 0 ? 0 : -1, step > 0 ? n : n - 1);
    end = bound(&to, n, step > 0 ? n : -1, step > 0 ? 0 : -1, step > 0 ? n : n - 1);
    if (v.type == CADP_TEXT && step == 1) {
        cadp_characters(&v, i, end, out);
        return CAD_OK;
    }
    if (v.type == CADP_TEXT) return wrong(r, x, "expected steps of one in a slice of a text");
    CAD_TRY(cadp_many_new(&r->pool, CADP_LIST, out));
    for (; step > 0 ? i < end : i > end; i += step) {
        CAD_TRY(item(r, x, v, &(cadp_value){.type = CADP_INT, .integer = i}, &one));
        CAD_TRY(cadp_many_add(&r->pool, out->many, one));
    }
    return CAD_OK;
}

/* ---- operators ---- */

static bool is_number(const cadp_value *v) { return v->type == CADP_INT || v->type == CADP_REAL || v->type == CADP_BOOL; }
static double real_of(const cadp_value *v) { return v->type == CADP_REAL ? v->real : v->type == CADP_BOOL ? v->truth : (double)v->integer; }
static int64_t whole_of(const cadp_value *v) { return v->type == CADP_BOOL ? v->truth : v->integer; }

static cad_status reckon(renderer *r, const cadp_tree *x, const cadp_value *a, const cadp_value *b, cadp_value *out)
{
    char op = x->text[0];
    bool whole = a->type != CADP_REAL && b->type != CADP_REAL, floor = x->size == 2;
    int64_t i = whole_of(a), j = whole_of(b), n = 0;
    double p = real_of(a), q = real_of(b);

    if (strchr("/%", op) && q == 0) return wrong(r, x, "a division by zero");
    if (!whole || (op == '/' && !floor)) {
        if (floor || op == '%') return wrong(r, x, "expected whole numbers");
        *out = (cadp_value){.type = CADP_REAL, .real = op == '+' ? p + q : op == '-' ? p - q : op == '*' ? p * q : p / q};
        return CAD_OK;
    }
    if (i > INT32_MAX || i < INT32_MIN || j > INT32_MAX || j < INT32_MIN) return wrong(r, x, "expected smaller numbers");
    if (op == '+') n = i + j;
    else if (op == '-') n = i - j;
    else if (op == '*') n = i * j;
    else if (op == '/') n = i / j - (i % j != 0 && (i < 0) != (j < 0));
    else n = i % j + (i % j != 0 && (i < 0) != (j < 0) ? j : 0);
    *out = cadp_of_int(n);
    return CAD_OK;
}

static cad_status glue(renderer *r, const cadp_value *a, const cadp_value *b, cadp_value *out)
{
    cad_str s = {0};
    const char *text;
    cad_status status = cadp_write_value(a, false, &s);

    if (!status) status = cadp_write_value(b, false, &s);
    if (!status) status = cadp_pool_text(&r->pool, s.data, s.size, &text);
    if (!status) *out = cadp_of_text(text, s.size);
    cad_str_close(&s);
    return status;
}

static cad_status add(renderer *r, const cadp_tree *x, const cadp_value *a, const cadp_value *b, cadp_value *out)
{
    if (is_number(a) && is_number(b)) return reckon(r, x, a, b, out);
    if (a->type == CADP_TEXT && b->type == CADP_TEXT) return glue(r, a, b, out);
    if (a->type != CADP_LIST || b->type != CADP_LIST) return wrong(r, x, "expected two texts, two lists or two numbers to add");
    CAD_TRY(cadp_many_new(&r->pool, CADP_LIST, out));
    for (int64_t i = 0; i < a->many->count + b->many->count; i++) CAD_TRY(cadp_many_add(&r->pool, out->many, i < a->many->count ? a->many->item[i] : b->many->item[i - a->many->count]));
    return CAD_OK;
}

static cad_status compare(renderer *r, const cadp_tree *x, const cadp_value *a, const cadp_value *b, cadp_value *out)
{
    bool texts = a->type == CADP_TEXT && b->type == CADP_TEXT, less, equal;
    int order = texts ? memcmp(a->text, b->text, a->size < b->size ? a->size : b->size) : 0;

    if (!texts && (!is_number(a) || !is_number(b))) return wrong(r, x, "expected two numbers or two texts to compare");
    less = texts ? order < 0 || (!order && a->size < b->size) : real_of(a) < real_of(b);
    equal = cadp_is_equal(a, b);
    *out = cadp_of_bool((x->size == 2 && equal) || (x->text[0] == '<' ? less : !less && !equal));
    return CAD_OK;
}

static cad_status binary(renderer *r, const cadp_tree *x, cadp_value *out)
{
    cadp_value a, b;

    CAD_TRY(eval(r, x->a, &a));
    CAD_TRY(eval(r, x->b, &b));
    if (cadp_says(x->text, x->size, "in")) {
        *out = cadp_of_bool(cadp_contains(&b, &a) != x->negated);
        return CAD_OK;
    }
    if (cadp_says(x->text, x->size, "==") || cadp_says(x->text, x->size, "!=")) {
        *out = cadp_of_bool(cadp_is_equal(&a, &b) == (x->text[0] == '='));
        return CAD_OK;
    }
    if (strchr("<>", x->text[0])) return compare(r, x, &a, &b, out);
    if (x->text[0] == '~') return glue(r, &a, &b, out);
    if (x->text[0] == '+') return add(r, x, &a, &b, out);
    return is_number(&a) && is_number(&b) ? reckon(r, x, &a, &b, out) : wrong(r, x, "expected two numbers");
}

/* ---- calls ---- */

static cad_status arguments(renderer *r, const cadp_tree *x, cadp_value *list, cadp_value *named, cadp_arguments *out)
{
    CAD_TRY(cadp_many_new(&r->pool, CADP_LIST, list));
    CAD_TRY(cadp_many_new(&r->pool, CADP_TABLE, named));
    for (; x; x = x->next) {
        cadp_value v;
        CAD_TRY(eval(r, x->kind == CADP_X_NAMED ? x->a : x, &v));
        if (x->kind == CADP_X_NAMED) CAD_TRY(cadp_many_put(&r->pool, named, x->text, x->size, v));
        else CAD_TRY(cadp_many_add(&r->pool, list->many, v));
    }
    *out = (cadp_arguments){list->many->item, list->many->count, named};
    return CAD_OK;
}

/* What is written while it runs, as a value. */
static cad_status captured(renderer *r, const cadp_tree *body, cadp_value *out)
{
    cad_str s = {0}, *before = r->out;
    const char *text = "";
    flow f = GOES_ON;
    cad_status status;

    r->out = &s;
    status = run_all(r, body, &f);
    r->out = before;
    if (!status) status = cadp_pool_text(&r->pool, s.data, s.size, &text);
    *out = cadp_of_text(text, s.size);
    cad_str_close(&s);
    return status;
}

static cad_status call_macro(renderer *r, const cadp_tree *m, const cadp_arguments *a, cadp_value *out)
{
    int64_t base = r->base, count = r->count, place = 0;

    r->base = r->count;
    for (const cadp_tree *p = m->a; p; p = p->next, place++) {
        const cadp_value *given = place < a->count ? &a->at[place] : cadp_many_find(a->named, p->text, p->size);
        cadp_value v = {0};
        if (given) v = *given;
        else if (p->a) CAD_TRY(eval(r, p->a, &v));
        CAD_TRY(put_name(r, p->text, p->size, v));
    }
    CAD_TRY(captured(r, m->b, out));
    r->count = count;
    r->base = base;
    return CAD_OK;
}

static cad_status range(renderer *r, const cadp_tree *x, const cadp_arguments *a, cadp_value *out)
{
    int64_t from = a->count > 1 ? whole_of(&a->at[0]) : 0, to = a->count ? whole_of(&a->at[a->count > 1]) : 0, step = a->count > 2 ? whole_of(&a->at[2]) : 1;

    CAD_TRY(cadp_many_new(&r->pool, CADP_LIST, out));
    if (!step || to - from > 100000 || from - to > 100000) return wrong(r, x, "range: expected at most 100000 numbers");
    for (int64_t i = from; step > 0 ? i < to : i > to; i += step) CAD_TRY(cadp_many_add(&r->pool, out->many, cadp_of_int(i)));
    return CAD_OK;
}

static cad_status today(renderer *r, const cadp_tree *x, const cadp_arguments *a, cadp_value *out)
{
    char format[256], text[512];
    time_t now = time(NULL);
    struct tm parts;
    const char *kept;
    size_t n;

    if (!a->count || a->at[0].type != CADP_TEXT || a->at[0].size >= sizeof format || !localtime_r(&now, &parts)) return wrong(r, x, "strftime_now: expected a format");
    memcpy(format, a->at[0].text, a->at[0].size);
    format[a->at[0].size] = 0;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the template's */
    n = strftime(text, sizeof text, format, &parts);
#pragma GCC diagnostic pop
    CAD_TRY(cadp_pool_text(&r->pool, text, n, &kept));
    *out = cadp_of_text(kept, n);
    return CAD_OK;
}

/* The reason is the template's own words; what it puts together may hold words of a record and is left out. */
static cad_status refuse(renderer *r, const cadp_tree *x)
{
    const cadp_tree *said = x->b;

    while (said && said->kind == CADP_X_BINARY) said = said->a;
    if (!said || said->kind != CADP_X_TEXT) return wrong(r, x, "it refuses this conversation");
    return cad_fail(CAD_EDATA, "%s:%d: the chat template refuses this conversation: %.*s", r->path, x->line, (int)(said->size < 200 ? said->size : 200), said->text);
}

static cad_status call(renderer *r, const cadp_tree *x, cadp_value *out)
{
    cadp_value f, list, named;
    cadp_arguments a;
    bool known = true;

    if (x->a->kind == CADP_X_NAME && cadp_says(x->a->text, x->a->size, "raise_exception")) return refuse(r, x);
    CAD_TRY(eval(r, x->a, &f));
    CAD_TRY(arguments(r, x->b, &list, &named, &a));
    if (f.type == CADP_MACRO) return call_macro(r, f.macro, &a, out);
    if (f.type != CADP_FUNCTION) return wrong(r, x, "expected a function that this program knows");
    if (f.of) return cadp_chat_method(&r->pool, f.text, f.size, *f.of, &a, out, &known);
    if (cadp_says(f.text, f.size, "range")) return range(r, x, &a, out);
    if (cadp_says(f.text, f.size, "strftime_now")) return today(r, x, &a, out);
    *out = named; /* namespace, dict */
    return CAD_OK;
}

static cad_status filter_or_test(renderer *r, const cadp_tree *x, cadp_value *out)
{
    cadp_value v, list, named;
    cadp_arguments a;
    bool known;

    CAD_TRY(eval(r, x->a, &v));
    CAD_TRY(arguments(r, x->b, &list, &named, &a));
    if (x->kind == CADP_X_TEST) *out = cadp_of_bool(cadp_chat_test(x->text, x->size, &v, &a, &known) != x->negated);
    else CAD_TRY(cadp_chat_filter(&r->pool, x->text, x->size, v, &a, out, &known));
    return known ? CAD_OK : cad_fail(CAD_EMODEL, "%s:%d: chat template: expected a filter or a test that this program knows, found %.*s", r->path, x->line, (int)(x->size < 40 ? x->size : 40), x->text);
}

/* ---- expressions ---- */

static cad_status several(renderer *r, const cadp_tree *x, cadp_value *out)
{
    CAD_TRY(cadp_many_new(&r->pool, x->kind == CADP_X_LIST ? CADP_LIST : CADP_TABLE, out));
    for (const cadp_tree *i = x->a; i; i = i->next) {
        cadp_value v;
        CAD_TRY(eval(r, i, &v));
        CAD_TRY(cadp_many_add(&r->pool, out->many, v));
    }
    return CAD_OK;
}

static cad_status number(const renderer *r, const cadp_tree *x, cadp_value *out)
{
    char digits[32];

    if (x->size >= sizeof digits) return wrong(r, x, "a number is too long");
    memcpy(digits, x->text, x->size);
    digits[x->size] = 0;
    *out = x->kind == CADP_X_INT ? cadp_of_int(strtoll(digits, NULL, 10)) : (cadp_value){.type = CADP_REAL, .real = strtod(digits, NULL)};
    return CAD_OK;
}

static cad_status either(renderer *r, const cadp_tree *x, cadp_value *out)
{
    CAD_TRY(eval(r, x->a, out));
    return cadp_is_true(out) == (x->kind == CADP_X_OR) ? CAD_OK : eval(r, x->b, out);
}

static cad_status choice(renderer *r, const cadp_tree *x, cadp_value *out)
{
    cadp_value v;

    CAD_TRY(eval(r, x->b, &v));
    *out = (cadp_value){0};
    if (cadp_is_true(&v)) return eval(r, x->a, out);
    return x->c ? eval(r, x->c, out) : CAD_OK;
}

static cad_status negative(renderer *r, const cadp_tree *x, cadp_value *out)
{
    static const cadp_value zero = {.type = CADP_INT};
    static const cadp_tree minus = {.text = "-", .size = 1};
    cadp_value v;

    CAD_TRY(eval(r, x->a, &v));
    return is_number(&v) ? reckon(r, &minus, &zero, &v, out) : wrong(r, x, "expected a number behind a minus");
}

static cad_status part(renderer *r, const cadp_tree *x, cadp_value *out)
{
    cadp_value v, at;

    CAD_TRY(eval(r, x->a, &v));
    if (x->kind == CADP_X_FIELD) return member(r, x, v, x->text, x->size, true, out);
    CAD_TRY(eval(r, x->b, &at));
    return item(r, x, v, &at, out);
}

static cad_status eval_kind(renderer *r, const cadp_tree *x, cadp_value *out)
{
    switch (x->kind) {
    case CADP_X_TEXT: *out = cadp_of_text(x->text, x->size); return CAD_OK;
    case CADP_X_INT:
    case CADP_X_REAL: return number(r, x, out);
    case CADP_X_NAME: get_name(r, x, out); return CAD_OK;
    case CADP_X_LIST:
    case CADP_X_TABLE: return several(r, x, out);
    case CADP_X_FIELD:
    case CADP_X_ITEM: return part(r, x, out);
    case CADP_X_SLICE: return slice(r, x, out);
    case CADP_X_CALL: return call(r, x, out);
    case CADP_X_FILTER:
    case CADP_X_TEST: return filter_or_test(r, x, out);
    case CADP_X_NOT: CAD_TRY(eval(r, x->a, out)); *out = cadp_of_bool(!cadp_is_true(out)); return CAD_OK;
    case CADP_X_MINUS: return negative(r, x, out);
    case CADP_X_BINARY: return binary(r, x, out);
    case CADP_X_AND:
    case CADP_X_OR: return either(r, x, out);
    case CADP_X_CHOICE: return choice(r, x, out);
    default: *out = (cadp_value){0}; return CAD_OK;
    }
}

static cad_status eval(renderer *r, const cadp_tree *x, cadp_value *out)
{
    cad_status status;

    *out = (cadp_value){0};
    if (++r->steps > STEPS || r->depth >= DEEPEST) return wrong(r, x, "it does not come to an end");
    r->depth++;
    status = eval_kind(r, x, out);
    r->depth--;
    return status;
}

/* ---- statements ---- */

/* One value to one name, or a list's to several. */
static cad_status assign(renderer *r, const cadp_tree *to, cadp_value v)
{
    cadp_value space;
    int64_t i = 0;

    if (to->kind == CADP_X_FIELD) {
        CAD_TRY(eval(r, to->a, &space));
        return space.type == CADP_TABLE ? cadp_many_put(&r->pool, &space, to->text, to->size, v) : wrong(r, to, "expected a namespace");
    }
    if (!to->next) return put_name(r, to->text, to->size, v);
    for (; to; to = to->next, i++) {
        if (v.type != CADP_LIST || i >= v.many->count) return wrong(r, to, "expected as many values as names");
        CAD_TRY(put_name(r, to->text, to->size, v.many->item[i]));
    }
    return CAD_OK;
}

static cad_status loop_value(renderer *r, const cadp_value *all, int64_t i, cadp_value *out)
{
    int64_t n = all->many->count;
    const struct { const char *name; cadp_value value; } parts[] = {
        {"index0", cadp_of_int(i)}, {"index", cadp_of_int(i + 1)}, {"first", cadp_of_bool(!i)}, {"last", cadp_of_bool(i == n - 1)}, {"length", cadp_of_int(n)},
        {"revindex0", cadp_of_int(n - 1 - i)}, {"revindex", cadp_of_int(n - i)}};

    CAD_TRY(cadp_many_new(&r->pool, CADP_TABLE, out));
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) CAD_TRY(cadp_many_put(&r->pool, out, parts[k].name, strlen(parts[k].name), parts[k].value));
    if (i) CAD_TRY(cadp_many_put(&r->pool, out, "previtem", 8, all->many->item[i - 1]));
    return i + 1 < n ? cadp_many_put(&r->pool, out, "nextitem", 8, all->many->item[i + 1]) : CAD_OK;
}

/* What a for goes through: items of a list, keys of a table, characters; those that its "if" lets pass. */
static cad_status passing(renderer *r, const cadp_tree *x, cadp_value *out)
{
    cadp_value v, all, keep;
    bool known;

    CAD_TRY(eval(r, x->b, &v));
    if (cadp_length(&v) < 0) return wrong(r, x, "for: expected a list, a table or a text");
    CAD_TRY(cadp_chat_filter(&r->pool, "list", 4, v, &(cadp_arguments){0}, &all, &known));
    *out = all;
    if (!x->b->next) return CAD_OK;
    CAD_TRY(cadp_many_new(&r->pool, CADP_LIST, out));
    for (int64_t i = 0; i < all.many->count; i++) {
        CAD_TRY(assign(r, x->a, all.many->item[i]));
        CAD_TRY(eval(r, x->b->next, &keep));
        if (cadp_is_true(&keep)) CAD_TRY(cadp_many_add(&r->pool, out->many, all.many->item[i]));
    }
    return CAD_OK;
}

static cad_status run_for(renderer *r, const cadp_tree *x)
{
    int64_t base = r->base, count = r->count;
    cadp_value all, loop;
    flow f = GOES_ON;

    r->base = count;
    CAD_TRY(passing(r, x, &all));
    for (int64_t i = 0; i < all.many->count && f != BREAKS; i++) {
        f = GOES_ON;
        r->count = count;
        if ((r->steps += TURN) > STEPS) return wrong(r, x, "it does not come to an end");
        CAD_TRY(loop_value(r, &all, i, &loop));
        CAD_TRY(put_name(r, "loop", 4, loop));
        CAD_TRY(assign(r, x->a, all.many->item[i]));
        CAD_TRY(run_all(r, x->c, &f));
    }
    r->count = count;
    if (!all.many->count) CAD_TRY(run_all(r, x->d, &f));
    r->count = count;
    r->base = base;
    return CAD_OK;
}

static cad_status run_if(renderer *r, const cadp_tree *x, flow *f)
{
    cadp_value v;

    CAD_TRY(eval(r, x->a, &v));
    return run_all(r, cadp_is_true(&v) ? x->b : x->c, f);
}

static cad_status run_set(renderer *r, const cadp_tree *x)
{
    cadp_value v;

    CAD_TRY(x->kind == CADP_S_SET ? eval(r, x->b, &v) : captured(r, x->b, &v));
    return assign(r, x->a, v);
}

static cad_status run_generation(renderer *r, const cadp_tree *s, flow *f)
{
    cad_chat_marks *m = r->out == r->page ? r->marks : NULL;
    size_t from = r->out->size;

    CAD_TRY(run_all(r, s->a, f));
    if (!m || r->out->size == from) return CAD_OK;
    if (m->count + 2 > m->room) {
        m->room = 2 * m->room + 16;
        CAD_TRY(cad_grow(&m->at, (size_t)m->room, sizeof *m->at, "marks of a chat template"));
    }
    m->at[m->count++] = from;
    m->at[m->count++] = r->out->size;
    return CAD_OK;
}

static cad_status run_one(renderer *r, const cadp_tree *s, flow *f)
{
    cadp_value v;

    switch (s->kind) {
    case CADP_S_TEXT: return cad_str_add(r->out, s->text, s->size);
    case CADP_S_PRINT: CAD_TRY(eval(r, s->a, &v)); return cadp_write_value(&v, false, r->out);
    case CADP_S_IF: return run_if(r, s, f);
    case CADP_S_FOR: return run_for(r, s);
    case CADP_S_SET:
    case CADP_S_SET_BLOCK: return run_set(r, s);
    case CADP_S_MACRO: return put_name(r, s->text, s->size, (cadp_value){.type = CADP_MACRO, .macro = s});
    case CADP_S_BREAK: *f = BREAKS; return CAD_OK;
    case CADP_S_CONTINUE: *f = CONTINUES; return CAD_OK;
    default: return run_generation(r, s, f);
    }
}

static cad_status run_all(renderer *r, const cadp_tree *s, flow *f)
{
    if (r->depth >= DEEPEST) return cad_fail(CAD_EMODEL, "%s: chat template: it does not come to an end", r->path);
    r->depth++;
    for (; s && *f == GOES_ON; s = s->next) CAD_TRY(run_one(r, s, f));
    r->depth--;
    return CAD_OK;
}

/* ---- the door ---- */

/* Newlines as "\n", the last one gone. */
static cad_status plain_lines(cadp_pool *p, const char *text, size_t n, const char **out, size_t *size)
{
    char *to;

    CAD_TRY(cadp_pool_take(p, &to, n + 1, 1));
    *out = to;
    *size = 0;
    for (size_t i = 0; i < n; i++)
        if (text[i] != '\r' || i + 1 == n || text[i + 1] != '\n') to[(*size)++] = text[i] == '\r' ? '\n' : text[i];
    if (*size && to[*size - 1] == '\n') --*size;
    return CAD_OK;
}

static cad_status render(renderer *r, const char *text, size_t n, const cad_node *variables, cadp_source *s)
{
    cadp_tree *tree;
    flow f = GOES_ON;

    CAD_TRY(plain_lines(&r->pool, text, n, &text, &n));
    CAD_TRY(cadp_chat_lex(s, text, n));
    CAD_TRY(cadp_chat_parse(s, &tree));
    for (const cad_node *v = variables->child; v; v = v->next) {
        cadp_value value;
        CAD_TRY(cadp_value_of_node(&r->pool, v, &value));
        CAD_TRY(put_name(r, v->key, (size_t)v->key_size, value));
    }
    return run_all(r, tree, &f);
}

cad_status cad_chat_render_marked(const char *text, size_t n, const char *path, const cad_node *variables, cad_str *out, cad_chat_marks *marks)
{
    renderer r = {.path = path, .out = out, .page = out, .marks = marks};
    cadp_source s = {.path = path, .pool = &r.pool};
    cad_status status = render(&r, text, n, variables, &s);

    cad_free(&s.token);
    cad_free(&r.entry);
    cadp_pool_close(&r.pool);
    return status;
}

cad_status cad_chat_render(const char *text, size_t n, const char *path, const cad_node *variables, cad_str *out)
{
    return cad_chat_render_marked(text, n, path, variables, out, NULL);
}
