#include "rows_priv.h"

typedef struct reader { cadp_cursor c; cad_rows *rows; char *text; void *scratch; int column; } reader;

static char *own(const reader *r, const char *at) { return r->text + (at - r->text); }

/* A string of the text, unescaped where it stands. */
static cad_status take_string(reader *r, const char **out, size_t *size)
{
    const char *from = r->c.at + 1, *close;
    bool plain;

    CAD_TRY(cadp_json_string(&r->c, &close, &plain));
    *size = plain ? (size_t)(close - from) : cadp_json_unescape(own(r, from), from, close);
    *own(r, from + *size) = 0;
    *out = from;
    return CAD_OK;
}

static cad_status fail_at(const reader *r, int line, int column, const char *sentence)
{
    return cad_fail(CAD_EDATA, "%s:%d:%d: %s", r->c.path, line, column, sentence);
}

static cad_status key(reader *r)
{
    const int line = r->c.line, column = cadp_cursor_column(&r->c);
    const char *name;
    size_t n;
    bool known;
    char shown[64];

    if (r->c.at >= r->c.end || *r->c.at != '"') return cadp_cursor_fail(&r->c, "a key in quotes");
    CAD_TRY(take_string(r, &name, &n));
    if (memchr(name, 0, n)) return fail_at(r, line, column, "expected a key without a NUL, found one");
    CAD_TRY(cadp_rows_name(r->rows, name, n, r->column + 1, &r->column, &known));
    cadp_column *c = &r->rows->columns[r->column];
    if (c->last_row == r->rows->n_rows)
        return cad_fail(CAD_EDATA, "%s:%d:%d: expected every key once, found \"%s\" again", r->c.path, line, column, cadp_show(shown, name, n));
    c->last_row = r->rows->n_rows;
    cadp_json_space(&r->c);
    CAD_TRY(cadp_json_take(&r->c, ':', "':' after the key"));
    cadp_json_space(&r->c);
    return CAD_OK;
}

static cad_cell_kind cell_kind(cad_kind kind)
{
    switch (kind) {
    case CAD_NULL: return CAD_CELL_NULL;
    case CAD_BOOL: return CAD_CELL_BOOL;
    case CAD_INT: return CAD_CELL_INT;
    case CAD_REAL: return CAD_CELL_REAL;
    case CAD_STRING: return CAD_CELL_TEXT;
    case CAD_LIST:
    case CAD_TABLE: break;
    }
    return CAD_CELL_JSON;
}

/* `*end` is where the NUL of a value that is no string belongs; a character stands there until it has been read. */
static cad_status value(reader *r, char **end, int depth)
{
    const int line = r->c.line, column = cadp_cursor_column(&r->c);
    const char *text = r->c.at;
    size_t size;
    cad_node node = {.kind = CAD_STRING};

    *end = NULL;
    if (r->c.at < r->c.end && *r->c.at == '"') CAD_TRY(take_string(r, &text, &size));
    else {
        CAD_TRY(cadp_json_value(&r->c, &node, depth)); /* the arena is scratch: a nested value is checked whole, its text is what stays */
        size = (size_t)(r->c.at - text);
        *end = own(r, r->c.at);
        cadp_rewind(&r->scratch);
    }
    if (size > CADP_LONGEST_CELL) return fail_at(r, line, column, "expected a value of at most 1 GiB, found a longer one");
    return cadp_rows_add(r->rows, r->column, cell_kind(node.kind), text, size);
}

static cad_status row(reader *r, int depth)
{
    char *end;

    CAD_TRY(cadp_rows_begin(r->rows, r->c.line));
    CAD_TRY(cadp_json_take(&r->c, '{', "a row that is an object"));
    r->column = -1;
    cadp_json_space(&r->c);
    if (r->c.at < r->c.end && *r->c.at == '}') {
        r->c.at++;
        return CAD_OK;
    }
    for (bool more = true; more;) {
        CAD_TRY(key(r));
        CAD_TRY(value(r, &end, depth + 1));
        cadp_json_space(&r->c);
        more = r->c.at < r->c.end && *r->c.at == ',';
        if (!more) CAD_TRY(cadp_json_take(&r->c, '}', "',' or '}'"));
        else r->c.at++;
        if (end) *end = 0;
        if (more) cadp_json_space(&r->c);
    }
    return CAD_OK;
}

static cad_status array(reader *r)
{
    CAD_TRY(cadp_json_take(&r->c, '[', "'['"));
    cadp_json_space(&r->c);
    bool more = !(r->c.at < r->c.end && *r->c.at == ']');
    while (more) {
        CAD_TRY(row(r, 2));
        cadp_json_space(&r->c);
        more = r->c.at < r->c.end && *r->c.at == ',';
        if (more) r->c.at++;
        else if (r->c.at >= r->c.end || *r->c.at != ']') return cadp_cursor_fail(&r->c, "',' or ']' after a row");
        cadp_json_space(&r->c);
    }
    r->c.at++;
    cadp_json_space(&r->c);
    return r->c.at < r->c.end ? cadp_cursor_fail(&r->c, "the end of the file") : CAD_OK;
}

/* A row cut short swallows the next one before it is noticed: the place is the end of its own line. */
static cad_status cut_row(const reader *r, const char *from, int line, int column)
{
    const int noticed = r->c.line;

    for (; from < r->c.end && *from != '\n' && *from != '\r'; from++) column += (*from & 0xc0) != 0x80;
    cad_clear();
    return cad_fail(CAD_EDATA, "%s:%d:%d: expected a whole row in its line, found the end of the line (line %d does not go on with it)", r->c.path, line, column, noticed);
}

static cad_status lines(reader *r)
{
    while (r->c.at < r->c.end) {
        const char *from = r->c.at;
        const int first = r->c.line, column = cadp_cursor_column(&r->c);
        const cad_status status = row(r, 1);
        int line = r->c.line;
        if (status == CAD_EDATA && line != first) return cut_row(r, from, first, column);
        CAD_TRY(status);
        cadp_json_space(&r->c);
        if (r->c.at < r->c.end && r->c.line == line) return cadp_cursor_fail(&r->c, "the end of the line after a row");
    }
    return CAD_OK;
}

cad_status cadp_rows_json(cad_rows *rows, char *text, size_t n)
{
    reader r = {.rows = rows, .text = text};

    cadp_cursor_begin(&r.c, text, n, rows->path, CAD_EDATA, &r.scratch);
    cadp_json_space(&r.c);
    cad_status status = r.c.at < r.c.end && *r.c.at == '{' ? lines(&r) : array(&r);
    cadp_release(&r.scratch);
    return status;
}
