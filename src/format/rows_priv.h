/* Inside of cad_rows: rows.c keeps the cells, rows_json.c and rows_csv.c find them, unpack.c undoes gz. */
#ifndef CADTRAIN_ROWS_PRIV_H
#define CADTRAIN_ROWS_PRIV_H
#include "tree_priv.h"

enum { CADP_LONGEST_CELL = 1 << 30, CADP_MOST_COLUMNS = 1 << 24 };

/* Cells lie end to end, row after row, and point into `text`, where their escapes and doubled quotes were undone in place; each
 * ends in a NUL. A row has only the cells that it names, so a file cannot ask for more cells than it has bytes. */
typedef struct cadp_cell { const char *text; uint32_t size, column : 28, kind : 4; } cadp_cell;
typedef struct cadp_row { int64_t first; int cells, line; } cadp_row;
typedef struct cadp_column { const char *name; size_t size; int64_t last_row; } cadp_column; /* last_row: from 1; finds a key given twice */
struct cad_rows {
    char *path, *text;
    size_t size;
    cad_map *names;
    cadp_column *columns;
    cadp_row *rows;
    cadp_cell *cells;
    int64_t n_rows, room_rows, n_cells, room_cells;
    int n_columns, room_columns;
};

CAD_CHECKED cad_status cadp_rows_begin(cad_rows *r, int line);
/* Adds to the row begun last. */
CAD_CHECKED cad_status cadp_rows_add(cad_rows *r, int column, cad_cell_kind kind, const char *text, size_t size);
/* The column of a name, new or known; `guess` is tried first. The name is borrowed. */
CAD_CHECKED cad_status cadp_rows_name(cad_rows *r, const char *name, size_t n, int guess, int *column, bool *known);
CAD_CHECKED cad_status cadp_rows_json(cad_rows *r, char *text, size_t n);
CAD_CHECKED cad_status cadp_rows_csv(cad_rows *r, char *text, size_t n, char delimiter);
/* Replaces the content of a gz file by what was packed; other bytes stay. */
CAD_CHECKED cad_status cadp_unpack(char **bytes, size_t *n, const char *path, size_t limit);

#endif
