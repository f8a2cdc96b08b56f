/* The words of a template as a tree: Jinja's grammar, an operator's operands being parsed by the level below it. */
#include "chat_priv.h"

enum { DEEPEST = 100 };
typedef struct parser { const cadp_source *s; int64_t at; int depth; } parser;

static const cadp_token *now(const parser *p) { return &p->s->token[p->at]; }

static bool is(const parser *p, cadp_token_kind kind, const char *text) { return now(p)->kind == kind && (!text || cadp_says(now(p)->text, now(p)->size, text)); }

static bool take(parser *p, cadp_token_kind kind, const char *text)
{
    if (!is(p, kind, text)) return false;
    p->at++;
    return true;
}

static bool sign(parser *p, const char *text) { return take(p, CADP_T_SIGN, text); }
static bool keyword(parser *p, const char *text) { return take(p, CADP_T_NAME, text); }

static cad_status wrong(const parser *p, const char *expected) { return cad_fail(CAD_EMODEL, "%s:%d: chat template: expected %s", p->s->path, now(p)->line, expected); }
static cad_status need(parser *p, const char *text) { return sign(p, text) ? CAD_OK : wrong(p, text); }

static cad_status make(parser *p, cadp_kind kind, cadp_tree **out)
{
    CAD_TRY(cadp_pool_take(p->s->pool, out, 1, sizeof **out));
    **out = (cadp_tree){.kind = kind, .line = now(p)->line, .text = now(p)->text, .size = now(p)->size};
    return CAD_OK;
}

static cad_status over(parser *p, cadp_kind kind, cadp_tree *a, cadp_tree **out)
{
    CAD_TRY(make(p, kind, out));
    (*out)->a = a;
    return CAD_OK;
}

static cad_status expression(parser *p, cadp_tree **out);
static cad_status unary(parser *p, bool filters, cadp_tree **out);

/* ---- operands ---- */

/* Up to the sign `end`: expressions, "name=expression" where named; a table's keys and values in turn. */
static cad_status items(parser *p, const char *end, bool named, bool table, cadp_tree **out)
{
    while (!sign(p, end)) {
        const cadp_token *name = now(p);
        if (named && name->kind == CADP_T_NAME && name[1].kind == CADP_T_SIGN && cadp_says(name[1].text, name[1].size, "=")) {
            CAD_TRY(make(p, CADP_X_NAMED, out));
            p->at += 2;
            CAD_TRY(expression(p, &(*out)->a));
        } else CAD_TRY(expression(p, out));
        out = &(*out)->next;
        if (table) {
            CAD_TRY(need(p, ":"));
            CAD_TRY(expression(p, out));
            out = &(*out)->next;
        }
        if (!is(p, CADP_T_SIGN, end)) CAD_TRY(need(p, ","));
    }
    return CAD_OK;
}

static cad_status literal(parser *p, cadp_kind kind, cadp_tree **out)
{
    CAD_TRY(make(p, kind, out));
    p->at++;
    return CAD_OK;
}

static cad_status strings(parser *p, cadp_tree **out)
{
    CAD_TRY(literal(p, CADP_X_TEXT, out));
    while (is(p, CADP_T_STRING, NULL)) { /* neighbours are one */
        char *both;
        CAD_TRY(cadp_pool_take(p->s->pool, &both, (*out)->size + now(p)->size + 1, 1));
        memcpy(both, (*out)->text, (*out)->size);
        memcpy(both + (*out)->size, now(p)->text, now(p)->size);
        (*out)->text = both;
        (*out)->size += now(p)->size;
        p->at++;
    }
    return CAD_OK;
}

static cad_status bracketed(parser *p, cadp_tree **out)
{
    cadp_tree *first;

    if (sign(p, ")")) return make(p, CADP_X_LIST, out);
    CAD_TRY(expression(p, &first));
    *out = first;
    if (sign(p, ")")) return CAD_OK;
    CAD_TRY(need(p, ",")); /* a tuple */
    CAD_TRY(over(p, CADP_X_LIST, first, out));
    return items(p, ")", false, false, &first->next);
}

static cad_status primary(parser *p, cadp_tree **out)
{
    if (is(p, CADP_T_STRING, NULL)) return strings(p, out);
    if (is(p, CADP_T_INT, NULL)) return literal(p, CADP_X_INT, out);
    if (is(p, CADP_T_REAL, NULL)) return literal(p, CADP_X_REAL, out);
    if (is(p, CADP_T_NAME, NULL)) return literal(p, CADP_X_NAME, out);
    if (sign(p, "(")) return bracketed(p, out);
    if (is(p, CADP_T_SIGN, "[") || is(p, CADP_T_SIGN, "{")) {
        bool list = sign(p, "[");
        if (!list) p->at++;
        CAD_TRY(make(p, list ? CADP_X_LIST : CADP_X_TABLE, out));
        return items(p, list ? "]" : "}", false, !list, &(*out)->a);
    }
    return wrong(p, "a value");
}

static cad_status slice_part(parser *p, cadp_tree **out)
{
    if (is(p, CADP_T_SIGN, ":") || is(p, CADP_T_SIGN, "]")) return make(p, CADP_X_NOTHING, out);
    return expression(p, out);
}

static cad_status subscript(parser *p, cadp_tree **x)
{
    cadp_tree *from;

    CAD_TRY(slice_part(p, &from));
    if (!is(p, CADP_T_SIGN, ":")) {
        CAD_TRY(over(p, CADP_X_ITEM, *x, x));
        (*x)->b = from;
        return need(p, "]");
    }
    CAD_TRY(over(p, CADP_X_SLICE, *x, x));
    (*x)->b = from;
    p->at++;
    CAD_TRY(slice_part(p, &(*x)->c));
    if (sign(p, ":")) CAD_TRY(slice_part(p, &(*x)->d));
    return need(p, "]");
}

static cad_status postfix(parser *p, cadp_tree **x)
{
    for (;;) {
        if (sign(p, ".")) {
            if (!is(p, CADP_T_NAME, NULL) && !is(p, CADP_T_INT, NULL)) return wrong(p, "a name behind a dot");
            CAD_TRY(over(p, CADP_X_FIELD, *x, x));
            p->at++;
        } else if (sign(p, "[")) CAD_TRY(subscript(p, x));
        else if (sign(p, "(")) {
            CAD_TRY(over(p, CADP_X_CALL, *x, x));
            CAD_TRY(items(p, ")", true, false, &(*x)->b));
        } else return CAD_OK;
    }
}

/* A test's one argument may stand without brackets. */
static bool is_operand(const parser *p)
{
    static const char *const not[] = {"else", "or", "and", "is", "not", "in", "if", "recursive", NULL};

    for (int i = 0; not[i]; i++)
        if (is(p, CADP_T_NAME, not[i])) return false;
    return is(p, CADP_T_NAME, NULL) || is(p, CADP_T_STRING, NULL) || is(p, CADP_T_INT, NULL) || is(p, CADP_T_REAL, NULL) || is(p, CADP_T_SIGN, "[") || is(p, CADP_T_SIGN, "{");
}

static cad_status named(parser *p, cadp_kind kind, cadp_tree **x)
{
    bool negated = kind == CADP_X_TEST && keyword(p, "not");

    if (!is(p, CADP_T_NAME, NULL)) return wrong(p, "a name");
    CAD_TRY(over(p, kind, *x, x));
    (*x)->negated = negated;
    p->at++;
    if (sign(p, "(")) return items(p, ")", true, false, &(*x)->b);
    if (kind == CADP_X_FILTER || !is_operand(p)) return CAD_OK;
    CAD_TRY(primary(p, &(*x)->b));
    return postfix(p, &(*x)->b);
}

static cad_status unary(parser *p, bool filters, cadp_tree **out)
{
    if (++p->depth > DEEPEST) return wrong(p, "less nesting");
    if (sign(p, "-")) {
        CAD_TRY(make(p, CADP_X_MINUS, out));
        CAD_TRY(unary(p, false, &(*out)->a));
    } else if (sign(p, "+")) CAD_TRY(unary(p, false, out));
    else CAD_TRY(primary(p, out));
    CAD_TRY(postfix(p, out));
    while (filters) {
        if (sign(p, "|")) CAD_TRY(named(p, CADP_X_FILTER, out));
        else if (keyword(p, "is")) CAD_TRY(named(p, CADP_X_TEST, out));
        else if (sign(p, "(")) {
            CAD_TRY(over(p, CADP_X_CALL, *out, out));
            CAD_TRY(items(p, ")", true, false, &(*out)->b));
        } else break;
    }
    p->depth--;
    return CAD_OK;
}

/* ---- operators, loosest last ---- */

static const char *const operators[4][7] = {{"*", "/", "//", "%", NULL}, {"~", NULL}, {"+", "-", NULL}, {"==", "!=", "<", "<=", ">", ">=", NULL}};

static bool operator_of(parser *p, int level, bool *negated)
{
    *negated = false;
    if (now(p)->kind == CADP_T_SIGN)
        for (int i = 0; i < 7 && operators[level][i]; i++)
            if (cadp_says(now(p)->text, now(p)->size, operators[level][i])) return true;
    if (level < 3) return false;
    if (is(p, CADP_T_NAME, "not") && cadp_says(now(p)[1].text, now(p)[1].size, "in")) {
        p->at++;
        *negated = true;
    }
    return is(p, CADP_T_NAME, "in");
}

static cad_status binary(parser *p, int level, cadp_tree **out)
{
    bool negated;

    CAD_TRY(level ? binary(p, level - 1, out) : unary(p, true, out));
    while (operator_of(p, level, &negated)) {
        CAD_TRY(over(p, CADP_X_BINARY, *out, out));
        (*out)->negated = negated;
        p->at++;
        CAD_TRY(level ? binary(p, level - 1, &(*out)->b) : unary(p, true, &(*out)->b));
    }
    return CAD_OK;
}

static cad_status inverse(parser *p, cadp_tree **out)
{
    bool not = is(p, CADP_T_NAME, "not");

    if (!not) return binary(p, 3, out);
    if (++p->depth > DEEPEST) return wrong(p, "less nesting");
    CAD_TRY(make(p, CADP_X_NOT, out));
    p->at++;
    CAD_TRY(inverse(p, &(*out)->a));
    p->depth--;
    return CAD_OK;
}

static cad_status logic(parser *p, bool or, cadp_tree **out)
{
    CAD_TRY(or ? logic(p, false, out) : inverse(p, out));
    while (keyword(p, or ? "or" : "and")) {
        CAD_TRY(over(p, or ? CADP_X_OR : CADP_X_AND, *out, out));
        CAD_TRY(or ? logic(p, false, &(*out)->b) : inverse(p, &(*out)->b));
    }
    return CAD_OK;
}

static cad_status expression(parser *p, cadp_tree **out)
{
    if (++p->depth > DEEPEST) return wrong(p, "less nesting");
    CAD_TRY(logic(p, true, out));
    while (keyword(p, "if")) {
        CAD_TRY(over(p, CADP_X_CHOICE, *out, out));
        CAD_TRY(logic(p, true, &(*out)->b));
        if (keyword(p, "else")) CAD_TRY(expression(p, &(*out)->c));
    }
    p->depth--;
    return CAD_OK;
}

/* As behind "print", "in" of a for and "=" of a set: commas make a tuple. */
static cad_status tuple(parser *p, cadp_tree **out)
{
    cadp_tree *first, **last;

    CAD_TRY(expression(p, &first));
    *out = first;
    if (!is(p, CADP_T_SIGN, ",")) return CAD_OK;
    CAD_TRY(over(p, CADP_X_LIST, first, out));
    for (last = &first->next; sign(p, ","); last = &(*last)->next) CAD_TRY(expression(p, last));
    return CAD_OK;
}

/* ---- statements ---- */

static cad_status statements(parser *p, const char *const *ends, cadp_tree **out);

static cad_status block_end(parser *p) { return take(p, CADP_T_BLOCK_END, NULL) ? CAD_OK : wrong(p, "the end of the tag"); }

static cad_status body(parser *p, const char *end, cadp_tree **out)
{
    const char *ends[] = {end, NULL};

    CAD_TRY(block_end(p));
    CAD_TRY(statements(p, ends, out));
    p->at += 2;
    return block_end(p);
}

/* Names that a for or a set gives values to; ns.name of a set. */
static cad_status targets(parser *p, cadp_tree **out)
{
    do {
        if (!is(p, CADP_T_NAME, NULL)) return wrong(p, "a name");
        CAD_TRY(literal(p, CADP_X_NAME, out));
        if (sign(p, ".")) {
            CAD_TRY(over(p, CADP_X_FIELD, *out, out));
            p->at++;
        }
        out = &(*out)->next;
    } while (sign(p, ","));
    return CAD_OK;
}

static cad_status if_statement(parser *p, cadp_tree **out)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};

    CAD_TRY(make(p, CADP_S_IF, out));
    CAD_TRY(tuple(p, &(*out)->a));
    CAD_TRY(block_end(p));
    CAD_TRY(statements(p, ends, &(*out)->b));
    p->at++;
    if (keyword(p, "elif")) {
        if (++p->depth > DEEPEST) return wrong(p, "less nesting");
        CAD_TRY(if_statement(p, &(*out)->c));
        p->depth--;
        return CAD_OK;
    }
    if (keyword(p, "else")) return body(p, "endif", &(*out)->c);
    p->at++;
    return block_end(p);
}

static cad_status for_statement(parser *p, cadp_tree **out)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    cadp_tree *x;

    CAD_TRY(make(p, CADP_S_FOR, out));
    x = *out;
    CAD_TRY(targets(p, &x->a));
    if (!keyword(p, "in")) return wrong(p, "in");
    CAD_TRY(logic(p, true, &x->b));
    if (keyword(p, "if")) CAD_TRY(expression(p, &x->b->next));
    CAD_TRY(block_end(p));
    CAD_TRY(statements(p, ends, &x->c));
    p->at++;
    if (keyword(p, "else")) return body(p, "endfor", &x->d);
    p->at++;
    return block_end(p);
}

static cad_status set_statement(parser *p, cadp_tree **out)
{
    cadp_tree *to;

    CAD_TRY(targets(p, &to));
    CAD_TRY(over(p, is(p, CADP_T_SIGN, "=") ? CADP_S_SET : CADP_S_SET_BLOCK, to, out));
    if (!sign(p, "=")) return body(p, "endset", &(*out)->b);
    CAD_TRY(tuple(p, &(*out)->b));
    return block_end(p);
}

static cad_status macro_statement(parser *p, cadp_tree **out)
{
    cadp_tree **last;

    if (!is(p, CADP_T_NAME, NULL)) return wrong(p, "a name");
    CAD_TRY(literal(p, CADP_S_MACRO, out));
    CAD_TRY(need(p, "("));
    for (last = &(*out)->a; !sign(p, ")"); last = &(*last)->next) {
        if (!is(p, CADP_T_NAME, NULL)) return wrong(p, "a name");
        CAD_TRY(literal(p, CADP_X_NAMED, last));
        if (sign(p, "=")) CAD_TRY(expression(p, &(*last)->a));
        if (!is(p, CADP_T_SIGN, ")")) CAD_TRY(need(p, ","));
    }
    return body(p, "endmacro", &(*out)->b);
}

static cad_status statement(parser *p, cadp_tree **out)
{
    if (keyword(p, "if")) return if_statement(p, out);
    if (keyword(p, "for")) return for_statement(p, out);
    if (keyword(p, "set")) return set_statement(p, out);
    if (keyword(p, "macro")) return macro_statement(p, out);
    if (is(p, CADP_T_NAME, "break") || is(p, CADP_T_NAME, "continue")) {
        CAD_TRY(literal(p, is(p, CADP_T_NAME, "break") ? CADP_S_BREAK : CADP_S_CONTINUE, out));
        return block_end(p);
    }
    if (!keyword(p, "generation")) return wrong(p, "if, for, set, macro, break, continue or generation: what this program knows of Jinja");
    CAD_TRY(make(p, CADP_S_GENERATION, out));
    return body(p, "endgeneration", &(*out)->a);
}

static bool ends_here(const parser *p, const char *const *ends)
{
    for (int i = 0; ends && ends[i]; i++)
        if (is(p, CADP_T_BLOCK, NULL) && cadp_says(now(p)[1].text, now(p)[1].size, ends[i])) return true;
    return false;
}

/* Up to a block that begins with one of `ends`, or the template's end. */
static cad_status statements(parser *p, const char *const *ends, cadp_tree **out)
{
    *out = NULL;
    if (++p->depth > DEEPEST) return wrong(p, "less nesting");
    for (; !ends_here(p, ends); out = &(*out)->next) {
        if (is(p, CADP_T_END, NULL)) break;
        if (is(p, CADP_T_TEXT, NULL)) CAD_TRY(literal(p, CADP_S_TEXT, out));
        else if (take(p, CADP_T_PRINT, NULL)) {
            CAD_TRY(make(p, CADP_S_PRINT, out));
            CAD_TRY(tuple(p, &(*out)->a));
            if (!take(p, CADP_T_PRINT_END, NULL)) return wrong(p, "}}");
        } else {
            p->at++;
            CAD_TRY(statement(p, out));
        }
    }
    p->depth--;
    return !ends || !is(p, CADP_T_END, NULL) ? CAD_OK : wrong(p, ends[0]);
}

cad_status cadp_chat_parse(const cadp_source *s, cadp_tree **out)
{
    parser p = {.s = s};

    return statements(&p, NULL, out);
}
