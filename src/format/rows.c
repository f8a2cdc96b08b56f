#include "rows_priv.h"

#include <limits.h>
#include <stdlib.h>
#include <strings.h>

static const size_t LARGEST = (size_t)64 << 30;

/* ---- building ---- */

cad_status cadp_rows_begin(cad_rows *r, int line)
{
    if (r->n_rows == r->room_rows) {
        int64_t room = cad_max(256, 2 * r->room_rows);
        CAD_TRY(cad_grow(&r->rows, (size_t)room, sizeof *r->rows, "the rows of a file"));
        r->room_rows = room;
    }
    r->rows[r->n_rows++] = (cadp_row){.first = r->n_cells, .line = line};
    return CAD_OK;
}

cad_status cadp_rows_add(cad_rows *r, int column, cad_cell_kind kind, const char *text, size_t size)
{
    if (r->n_cells == r->room_cells) {
        int64_t room = cad_max(1024, 2 * r->room_cells);
        CAD_TRY(cad_grow(&r->cells, (size_t)room, sizeof *r->cells, "the cells of a file"));
        r->room_cells = room;
    }
    r->cells[r->n_cells++] = (cadp_cell){.text = text, .size = (uint32_t)size, .column = (uint32_t)column & 0xfffffff, .kind = (uint32_t)kind & 15};
    r->rows[r->n_rows - 1].cells++;
    return CAD_OK;
}

static cad_status add_column(cad_rows *r, const char *name, size_t n)
{
    if (r->n_columns == CADP_MOST_COLUMNS) return cad_fail(CAD_EDATA, "%s: expected at most %d columns, found more", r->path, CADP_MOST_COLUMNS);
    if (r->n_columns == r->room_columns) {
        int room = r->room_columns ? 2 * r->room_columns : 16;
        CAD_TRY(cad_grow(&r->columns, (size_t)room, sizeof *r->columns, "the columns of a file"));
        r->room_columns = room;
    }
    r->columns[r->n_columns++] = (cadp_column){.name = name, .size = n};
    return CAD_OK;
}

cad_status cadp_rows_name(cad_rows *r, const char *name, size_t n, int guess, int *column, bool *known)
{
    int64_t at = guess;

    *known = guess >= 0 && guess < r->n_columns && r->columns[guess].size == n && !memcmp(r->columns[guess].name, name, n);
    if (!*known) *known = cad_map_get(r->names, name, n, &at);
    if (!*known) {
        at = r->n_columns;
        CAD_TRY(add_column(r, name, n));
        CAD_TRY(cad_map_set(r->names, name, n, at, NULL));
    }
    *column = (int)at;
    return CAD_OK;
}

/* ---- which form ---- */

static bool ends_in(const char *path, size_t n, const char *end)
{
    size_t m = strlen(end);

    return n >= m && !strncasecmp(path + n - m, end, m);
}

static char delimiter_of(const char *path)
{
    size_t n = strlen(path);

    if (ends_in(path, n, ".gz")) n -= 3;
    return ends_in(path, n, ".csv") ? ',' : ends_in(path, n, ".tsv") ? '\t' : 0;
}

static cad_status check_text(const char *text, size_t n, const char *path)
{
    const char *nul = n ? memchr(text, 0, n) : NULL;
    int line, column;

    if (!n) return cad_fail(CAD_EDATA, "%s: expected rows, found an empty file", path);
    CAD_TRY(cadp_check_utf8(text, n, path, CAD_EDATA));
    if (!nul) return CAD_OK;
    cadp_place(text, (size_t)(nul - text), &line, &column);
    return cad_fail(CAD_EDATA, "%s:%d:%d: expected text, found a NUL byte", path, line, column);
}

static cad_status json_or_nothing(cad_rows *r, char *text, size_t n)
{
    cadp_cursor c;

    cadp_cursor_begin(&c, text, n, r->path, CAD_EDATA, NULL);
    cadp_json_space(&c);
    if (c.at >= c.end) return cad_fail(CAD_EDATA, "%s: expected rows, found an empty file", r->path);
    if (*c.at != '[' && *c.at != '{')
        return cadp_cursor_fail(&c, "'[' of a JSON array or '{' of JSONL (CSV and TSV are known by their names)");
    return cadp_rows_json(r, text, n);
}

static cad_status parse(cad_rows *r)
{
    size_t mark = r->size >= 3 && !memcmp(r->text, "\xef\xbb\xbf", 3) ? 3 : 0;
    char delimiter = delimiter_of(r->path), *text = r->text + mark;
    size_t n = r->size - mark;

    CAD_TRY(check_text(text, n, r->path));
    return delimiter ? cadp_rows_csv(r, text, n, delimiter) : json_or_nothing(r, text, n);
}

/* Takes *text, which has a byte of room at the end. */
static cad_status open_rows(cad_rows **out, char **text, size_t n, const char *path)
{
    cad_rows *r;

    CAD_TRY(cad_alloc(&r, 1, sizeof *r, "rows"));
    r->text = *text;
    r->size = n;
    *text = NULL;
    cad_status status = cad_strdup(&r->path, path);
    if (!status) status = cad_map_open(&r->names);
    if (!status) status = parse(r);
    if (status) cad_rows_close(&r);
    *out = r;
    return status;
}

/* ---- the door ---- */

cad_status cad_rows_parse(cad_rows **out, const char *text, size_t n, const char *path)
{
    char *copy;

    CAD_TRY(cad_alloc(&copy, n + 1, 1, "rows"));
    if (n) memcpy(copy, text, n);
    cad_status status = cadp_unpack(&copy, &n, path, LARGEST);
    if (!status) status = open_rows(out, &copy, n, path);
    cad_free(&copy);
    return status;
}

cad_status cad_rows_read(cad_rows **out, const char *path)
{
    char *text;
    size_t n;

    CAD_TRY(cad_read_file(&text, &n, path, LARGEST, CAD_EDATA));
    cad_status status = cadp_unpack(&text, &n, path, LARGEST);
    if (!status) status = open_rows(out, &text, n, path);
    cad_free(&text);
    return status;
}

void cad_rows_close(cad_rows **r)
{
    if (!*r) return;
    cad_free(&(*r)->path);
    cad_free(&(*r)->text);
    cad_map_close(&(*r)->names);
    cad_free(&(*r)->columns);
    cad_free(&(*r)->rows);
    cad_free(&(*r)->cells);
    cad_free(r);
}

int64_t cad_rows_count(const cad_rows *r) { return r->n_rows; }
int cad_rows_columns(const cad_rows *r) { return r->n_columns; }

const char *cad_rows_column(const cad_rows *r, int column)
{
    CAD_ASSERT(column >= 0 && column < r->n_columns);
    return r->columns[column].name;
}

int cad_rows_find(const cad_rows *r, const char *column)
{
    int64_t at;

    return cad_map_get(r->names, column, strlen(column), &at) ? (int)at : -1;
}

/* Most rows name their columns in the order of the first. */
static const cadp_cell *find_cell(const cad_rows *r, const cadp_row *row, int column)
{
    const cadp_cell *cells = r->cells + row->first;

    if (column < row->cells && (int)cells[column].column == column) return cells + column;
    for (int i = 0; i < row->cells; i++)
        if ((int)cells[i].column == column) return cells + i;
    return NULL;
}

cad_cell cad_rows_cell(const cad_rows *r, int64_t row, int column)
{
    CAD_ASSERT(row >= 0 && row < r->n_rows && column >= 0 && column < r->n_columns);
    const cadp_cell *found = find_cell(r, &r->rows[row], column);
    cad_cell c = {.kind = CAD_CELL_MISSING, .text = ""};

    if (!found) return c;
    c = (cad_cell){.kind = (cad_cell_kind)found->kind, .text = found->text, .size = found->size};
    if (c.kind == CAD_CELL_INT) c.integer = strtoll(c.text, NULL, 10);
    if (c.kind == CAD_CELL_BOOL) c.integer = c.text[0] == 't';
    c.real = c.kind == CAD_CELL_REAL ? strtod(c.text, NULL) : (double)c.integer;
    return c;
}

int cad_rows_line(const cad_rows *r, int64_t row)
{
    CAD_ASSERT(row >= 0 && row < r->n_rows);
    return r->rows[row].line;
}

const char *cad_rows_path(const cad_rows *r) { return r->path; }
