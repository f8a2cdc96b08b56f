/* Rows of a delimited file as they stream by; only the wanted columns are kept. */
#include "cohort_priv.h"

#include <limits.h>
#include <stdlib.h>

enum { PIECE = 4 << 20, LONGEST_ROW = 64 << 20 };

/* Moves what is left to the front and reads more behind it. The byte after the end is a newline, so that scanning loops need no bound. */
static cad_status refill(cadp_scan *s)
{
    size_t left = s->end - s->begin, got;

    if (left + PIECE / 2 > s->room) {
        size_t room = s->room ? 2 * s->room : PIECE;
        if (room > LONGEST_ROW)
            return cad_fail(CAD_EDATA, "%s:%lld: expected the end of a row within 64 MB, found none (a quote that does not close?)", s->path, (long long)s->row_line);
        CAD_TRY(cad_grow(&s->buffer, room + 1, 1, "a piece of a table"));
        s->room = room;
    }
    memmove(s->buffer, s->buffer + s->begin, left);
    CAD_TRY(cad_stream_read(s->in, s->buffer + left, s->room - left, &got));
    s->bytes += (int64_t)got;
    s->begin = 0;
    s->end = left + got;
    s->ended = s->end < s->room;
    s->buffer[s->end] = '\n';
    return CAD_OK;
}

typedef enum verdict { WHOLE, MORE, BROKEN } verdict;

/* On an opening quote; leaves `*at` behind the closing one. */
static verdict pass_quoted(cadp_scan *s, const char **at, cadp_text *out)
{
    const char *p = *at + 1, *end = s->buffer + s->end;

    out->at = p;
    out->doubled = false;
    for (;;) {
        while (*p != '"' && *p != '\n') p++;
        if (p >= end) return s->ended ? BROKEN : MORE;
        if (*p == '\n') {
            s->line++;
            p++;
            continue;
        }
        if (p + 1 >= end && !s->ended) return MORE;
        if (p[1] != '"' || p + 1 >= end) break;
        out->doubled = true;
        p += 2;
    }
    out->size = (uint32_t)(p - out->at);
    *at = p + 1;
    return WHOLE;
}

/* One row from `begin`; `fields` counts. With room for no wanted cells (the header) `each` takes every field. */
typedef cad_status each_field(void *with, int column, const cadp_text *field);
static verdict split_row(cadp_scan *s, int *fields, size_t *after, each_field *each, void *with, cad_status *status)
{
    const char *p = s->buffer + s->begin, *end = s->buffer + s->end, delimiter = s->delimiter;

    s->line = s->row_line;
    for (int column = 0;; column++) {
        int32_t cell = s->want && column < s->columns ? s->want[column] : -1;
        cadp_text field = {p, 0, false};
        if (s->quotes && *p == '"' && p < end) {
            verdict v = pass_quoted(s, &p, &field);
            if (v != WHOLE) return v;
            if (*p == '\r') p++;
            if (*p != delimiter && *p != '\n') return BROKEN;
            if (p >= end && !s->ended) return MORE;
        } else {
            while (*p != delimiter && *p != '\n') p++;
            if (p >= end && !s->ended) return MORE;
            field.size = (uint32_t)(p - field.at);
            if (*p == '\n' && field.size && p[-1] == '\r') field.size--;
        }
        if (cell >= 0) s->cell[cell] = field;
        if (each && (*status = each(with, column, &field))) return WHOLE;
        if (*p == '\n' || p >= end) {
            *fields = column + 1;
            *after = p < end ? (size_t)(p + 1 - s->buffer) : s->end;
            return WHOLE;
        }
        p++;
    }
}

static cad_status broken(const cadp_scan *s)
{
    return cad_fail(CAD_EDATA, "%s:%lld: expected a closing quote and then a delimiter, found something else", s->path, (long long)s->row_line);
}

static cad_status next(cadp_scan *s, int *fields, each_field *each, void *with)
{
    size_t after = 0;
    cad_status status = CAD_OK;

    for (;;) {
        verdict v = split_row(s, fields, &after, each, with, &status);
        if (status) return status;
        if (v == BROKEN) return broken(s);
        if (v == WHOLE) break;
        CAD_TRY(refill(s));
    }
    s->begin = after;
    s->line++;
    return CAD_OK;
}

/* In place: "" becomes " (only where a wanted cell has any); quotes around a cell of a file without quoting go too. */
static void tidy_cells(cadp_scan *s)
{
    for (int i = 0; i < s->cells; i++) {
        cadp_text *c = &s->cell[i];
        if (c->doubled) {
            char *to = s->buffer + (c->at - s->buffer), *start = to;
            for (uint32_t k = 0; k < c->size; k++) {
                *to++ = c->at[k];
                if (c->at[k] == '"') k++;
            }
            c->size = (uint32_t)(to - start);
            c->doubled = false;
        } else if (!s->quotes && c->size >= 2 && c->at[0] == '"' && c->at[c->size - 1] == '"') {
            c->at++;
            c->size -= 2;
        }
    }
}

static cad_status take_name(void *with, int column, const cadp_text *field)
{
    cadp_scan *s = with;
    const char *at = field->at;
    uint32_t n = field->size;

    if (column < s->columns) return CAD_OK; /* seen before more bytes were read */
    if (n >= 2 && at[0] == '"' && at[n - 1] == '"') at++, n -= 2;
    if (column % 1024 == 0) CAD_TRY(cad_grow(&s->name, (size_t)column + 1024, sizeof *s->name, "column names"));
    CAD_TRY(cad_alloc(&s->name[column], (size_t)n + 1, 1, "a column name"));
    memcpy(s->name[column], at, n);
    s->columns = column + 1;
    return CAD_OK;
}

/* The delimiter of the first line outside quotes. */
static char guess_delimiter(const cadp_scan *s)
{
    bool quoted = false;
    const char *at = s->buffer + s->begin;

    for (; at < s->buffer + s->end && (quoted || *at != '\n'); at++) {
        if (*at == '"') quoted = !quoted;
        if (*at == '\t') return '\t';
    }
    return ',';
}

static cad_status read_header(cadp_scan *s)
{
    int fields = 0;

    CAD_TRY(refill(s));
    while (!s->ended && !memchr(s->buffer, '\n', s->end)) CAD_TRY(refill(s));
    if (s->end >= 3 && !memcmp(s->buffer, "\xef\xbb\xbf", 3)) s->begin = 3;
    if (s->end == s->begin) return cad_fail(CAD_EDATA, "%s: expected a header line, found an empty file", s->path);
    if (memchr(s->buffer, 0, s->end)) return cad_fail(CAD_EDATA, "%s: expected text, found a NUL byte (is it packed in another way than gz?)", s->path);
    s->delimiter = guess_delimiter(s);
    s->quotes = s->delimiter == ',';
    CAD_TRY(next(s, &fields, take_name, s));
    CAD_TRY(cad_alloc(&s->want, (size_t)s->columns, sizeof *s->want, "columns"));
    for (int i = 0; i < s->columns; i++) s->want[i] = -1;
    s->row_line = s->line;
    return CAD_OK;
}

cad_status cadp_scan_open(cadp_scan *s, const char *path)
{
    cad_status st;

    *s = (cadp_scan){.row_line = 1, .line = 1};
    st = cad_strdup(&s->path, path);
    if (!st) st = cad_stream_open(&s->in, path, CAD_EDATA);
    if (!st) st = read_header(s);
    if (st) cadp_scan_close(s);
    return st;
}

void cadp_scan_close(cadp_scan *s)
{
    for (int i = 0; s->name && i < s->columns; i++) cad_free(&s->name[i]);
    cad_free(&s->name);
    cad_free(&s->want);
    cad_free(&s->cell);
    cad_free(&s->column_of);
    cad_free(&s->buffer);
    cad_free(&s->path);
    cad_stream_close(&s->in);
    *s = (cadp_scan){0};
}

cad_status cadp_scan_want(cadp_scan *s, int column, int *cell)
{
    if (s->want[column] < 0) {
        if (s->cells % 64 == 0) {
            CAD_TRY(cad_grow(&s->cell, (size_t)s->cells + 64, sizeof *s->cell, "cells"));
            CAD_TRY(cad_grow(&s->column_of, (size_t)s->cells + 64, sizeof *s->column_of, "cells"));
        }
        s->column_of[s->cells] = column;
        s->want[column] = s->cells++;
    }
    *cell = s->want[column];
    return CAD_OK;
}

/* "hesin_diag-eid", "participant.eid" -> "eid". */
static const char *bare(const char *name)
{
    const char *dot = strrchr(name, '.'), *dash = strrchr(name, '-');

    if (dash && dash > dot) dot = dash;
    return dot ? dot + 1 : name;
}

static bool same(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if ((*a | 32) != (*b | 32)) return false;
    return !*a && !*b;
}

int cadp_scan_find(const cadp_scan *s, const char *name)
{
    for (int i = 0; i < s->columns; i++)
        if (same(bare(s->name[i]), name)) return i;
    return -1;
}

cad_status cadp_scan_row(cadp_scan *s, bool *more)
{
    int fields = 0;

    for (;;) {
        s->row_line = s->line;
        while (s->begin >= s->end && !s->ended) CAD_TRY(refill(s));
        *more = s->begin < s->end;
        if (!*more) return CAD_OK;
        if (s->buffer[s->begin] == '\n' || (s->buffer[s->begin] == '\r' && s->begin + 1 < s->end && s->buffer[s->begin + 1] == '\n')) {
            s->begin += s->buffer[s->begin] == '\n' ? 1 : 2;
            s->line++;
            continue;
        }
        CAD_TRY(next(s, &fields, NULL, NULL));
        break;
    }
    if (fields != s->columns)
        return cad_fail(CAD_EDATA, "%s:%lld: expected %d fields as in the header, found %d", s->path, (long long)s->row_line, s->columns, fields);
    s->rows++;
    tidy_cells(s);
    return CAD_OK;
}

cad_status cadp_scan_fail(const cadp_scan *s, int cell, const char *expected)
{
    return cad_fail(CAD_EDATA, "%s:%lld:%d: column \"%.60s\": expected %s", s->path, (long long)s->row_line, s->column_of[cell] + 1, s->name[s->column_of[cell]], expected);
}

bool cadp_is_missing(const cadp_text *c)
{
    const char *t = c->at;

    switch (c->size) {
    case 0: return true;
    case 1: return *t == '.';
    case 2: return t[0] == 'N' && t[1] == 'A';
    case 3: return (t[0] | 32) == 'n' && (t[1] | 32) == 'a' && (t[2] | 32) == 'n';
    case 4: return !memcmp(t, "NULL", 4) || !memcmp(t, "None", 4);
    default: return false;
    }
}

/* "1075.0", as pandas and R write a whole number beside missing ones, is one too. */
bool cadp_whole_number(const cadp_text *c, int64_t *out)
{
    uint32_t n = c->size, i = 0;
    bool minus = n && c->at[0] == '-';
    int64_t v = 0;

    if (n > 2 && c->at[n - 1] == '0' && c->at[n - 2] == '.') n -= 2;
    for (i = minus; i < n; i++) {
        if (c->at[i] < '0' || c->at[i] > '9' || v > INT64_MAX / 10 - 10) return false;
        v = v * 10 + (c->at[i] - '0');
    }
    *out = minus ? -v : v;
    return n > (uint32_t)minus;
}
