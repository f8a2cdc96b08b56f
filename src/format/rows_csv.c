#include "rows_priv.h"

#include <limits.h>

/* RFC 4180. Beyond it: lines may end in LF alone, blank lines are passed over, and in TSV a quote inside a field is a character. */
typedef struct reader { cadp_cursor c; cad_rows *rows; char *text, delimiter; } reader;
typedef struct field { const char *text; size_t size; bool quoted, last; int line, column; } field;

static char *own(const reader *r, const char *at) { return r->text + (at - r->text); }

static void new_line(cadp_cursor *c)
{
    c->line += c->line < INT_MAX;
    c->line_start = c->at;
    c->wide = 0;
}

/* On the opening quote: the content in its place, without the doubled quotes. */
static cad_status quoted(reader *r, field *f)
{
    cadp_cursor *c = &r->c;
    char *to = own(r, ++c->at);

    f->text = to;
    for (;;) {
        if (c->at >= c->end)
            return cad_fail(CAD_EDATA, "%s:%d:%d: expected a closing quote, found the end of the file", c->path, f->line, f->column);
        char byte = *c->at++;
        if (byte == '\n') new_line(c);
        c->wide += ((unsigned char)byte & 0xc0) == 0x80;
        if (byte == '"') {
            if (c->at >= c->end || *c->at != '"') break;
            c->at++;
        }
        *to++ = byte;
    }
    f->size = (size_t)(to - f->text);
    *to = 0;
    return CAD_OK;
}

static cad_status unquoted(reader *r, field *f)
{
    cadp_cursor *c = &r->c;

    for (f->text = c->at; c->at < c->end && *c->at != r->delimiter && *c->at != '\n' && *c->at != '\r'; c->at++) {
        if (*c->at == '"' && r->delimiter == ',') return cadp_cursor_fail(c, "no quote inside a field that does not begin with one");
        c->wide += ((unsigned char)*c->at & 0xc0) == 0x80;
    }
    f->size = (size_t)(c->at - f->text);
    return CAD_OK;
}

/* What follows a field: a delimiter, the line's end, the file's end. */
static cad_status pass_end(reader *r, field *f)
{
    cadp_cursor *c = &r->c;

    f->last = c->at >= c->end || *c->at != r->delimiter;
    if (!f->last) {
        c->at++;
        return CAD_OK;
    }
    if (c->at < c->end && *c->at == '\r') c->at++;
    if (c->at >= c->end) return CAD_OK;
    if (*c->at != '\n') return cadp_cursor_fail(c, "a delimiter or the end of the line after a field");
    c->at++;
    new_line(c);
    return CAD_OK;
}

static cad_status next_field(reader *r, field *f)
{
    f->line = r->c.line;
    f->column = cadp_cursor_column(&r->c);
    f->quoted = r->c.at < r->c.end && *r->c.at == '"';
    CAD_TRY(f->quoted ? quoted(r, f) : unquoted(r, f));
    if (f->size > CADP_LONGEST_CELL)
        return cad_fail(CAD_EDATA, "%s:%d:%d: expected a field of at most 1 GiB, found a longer one", r->c.path, f->line, f->column);
    CAD_TRY(pass_end(r, f));
    *own(r, f->text + f->size) = 0; /* the character there has been read */
    return CAD_OK;
}

static cad_status header(reader *r)
{
    field f = {0};
    int column;
    bool known;
    char shown[64];

    while (!f.last) {
        CAD_TRY(next_field(r, &f));
        CAD_TRY(cadp_rows_name(r->rows, f.text, f.size, -1, &column, &known));
        if (known)
            return cad_fail(CAD_EDATA, "%s:%d:%d: expected every column name once, found \"%s\" again", r->c.path, f.line, f.column,
                            cadp_show(shown, f.text, f.size));
    }
    return CAD_OK;
}

static cad_status row(reader *r)
{
    const int columns = r->rows->n_columns, line = r->c.line;
    field f = {0};
    int n = 0;

    CAD_TRY(cadp_rows_begin(r->rows, line));
    for (; !f.last; n++) {
        CAD_TRY(next_field(r, &f));
        if (n == columns)
            return cad_fail(CAD_EDATA, "%s:%d:%d: expected %d fields as in the header, found more", r->c.path, f.line, f.column, columns);
        CAD_TRY(cadp_rows_add(r->rows, n, f.size || f.quoted ? CAD_CELL_TEXT : CAD_CELL_NULL, f.text, f.size));
    }
    if (n == columns) return CAD_OK;
    return cad_fail(CAD_EDATA, "%s:%d:1: expected %d fields as in the header, found %d", r->c.path, line, columns, n);
}

static void pass_blank_lines(cadp_cursor *c)
{
    for (;;) {
        size_t n = c->end - c->at >= 2 && c->at[0] == '\r' && c->at[1] == '\n' ? 2 : c->at < c->end && *c->at == '\n';
        if (!n) return;
        c->at += n;
        new_line(c);
    }
}

cad_status cadp_rows_csv(cad_rows *rows, char *text, size_t n, char delimiter)
{
    reader r = {.rows = rows, .text = text, .delimiter = delimiter};

    cadp_cursor_begin(&r.c, text, n, rows->path, CAD_EDATA, NULL);
    pass_blank_lines(&r.c);
    if (r.c.at >= r.c.end) return cadp_cursor_fail(&r.c, "a header line");
    CAD_TRY(header(&r));
    for (pass_blank_lines(&r.c); r.c.at < r.c.end; pass_blank_lines(&r.c)) CAD_TRY(row(&r));
    return CAD_OK;
}
