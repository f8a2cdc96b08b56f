/* format: bytes on disk <-> values. Knows no model and no device. Foreign headers <yaml.h>, <hdf5.h>, <jansson.h>, <zlib.h> live here.
 * Parsers are strict and linear; every refusal is "file:line:column: expected …, found …" and never quotes a person's row. */
#ifndef CADTRAIN_FORMAT_H
#define CADTRAIN_FORMAT_H
#include <cadtrain/base.h>
#ifdef __cplusplus
extern "C" {
#endif

/* ---- one tree for YAML and JSON (node.c, yaml.c, json.c) ---- */

typedef enum cad_kind { CAD_NULL, CAD_BOOL, CAD_INT, CAD_REAL, CAD_STRING, CAD_LIST, CAD_TABLE } cad_kind;
typedef struct cad_node cad_node;
struct cad_node {
    cad_kind kind;
    int line, column;        /* of the value, from 1; of a table's entry: `key_line`, `key_column` */
    int key_line, key_column;
    int children, key_size;
    bool boolean, again;     /* again: the table has this key already (cad_yaml_read_loosely) */
    char *key;               /* of a table's entry (NUL-terminated, `key_size` bytes), else NULL */
    int64_t integer;         /* CAD_INT */
    double real;             /* CAD_REAL, and CAD_INT as double */
    char *text;              /* CAD_STRING: UTF-8, NUL-terminated, `size` bytes; numbers and booleans of YAML, integers of JSON beyond int64: as written */
    size_t size;
    cad_node *child, *next;  /* list and table: first child; siblings */
};
/* A tree lives in one arena: cad_tree_close frees all of it. Borrowed pointers into it die with it. */
typedef struct cad_tree { cad_node *root; char *path; void *arena; } cad_tree;

/* YAML 1.2 core scalars, and 3e-5 is a number. Refused (status CAD_EUSAGE): anchors, aliases, tags, merge keys, duplicate keys,
 * more than one document, depth > 16, > 1 MB. An empty document is an empty table. */
CAD_CHECKED cad_status cad_yaml_parse(cad_tree **out, const char *text, size_t n, const char *path);
CAD_CHECKED cad_status cad_yaml_read(cad_tree **out, const char *path);
/* Duplicate keys are kept and marked `again`, for who names all mistakes at once. */
CAD_CHECKED cad_status cad_yaml_read_loosely(cad_tree **out, const char *path);
/* RFC 8259: strict UTF-8, no duplicate keys, no trailing bytes, depth <= 64; integers that fit int64 stay integers; NaN and
 * Infinity (as Python writes them) are accepted as CAD_REAL. `kind` is the status of a failure. */
CAD_CHECKED cad_status cad_json_parse(cad_tree **out, const char *text, size_t n, const char *path, cad_status kind);
CAD_CHECKED cad_status cad_json_read(cad_tree **out, const char *path, size_t limit, cad_status kind);
void cad_tree_close(cad_tree **t);
const cad_node *cad_get(const cad_node *table, const char *key); /* NULL when absent or not a table */
/* Typed look-ups with a default for absent or null; false when present with another type. */
bool cad_get_int(const cad_node *table, const char *key, int64_t *out, int64_t otherwise);
bool cad_get_real(const cad_node *table, const char *key, double *out, double otherwise);
bool cad_get_bool(const cad_node *table, const char *key, bool *out, bool otherwise);
bool cad_get_string(const cad_node *table, const char *key, const char **out, const char *otherwise);
const char *cad_kind_name(cad_kind kind);

/* ---- JSON text out (emit.c): a small writer that counts commas itself ---- */

typedef struct cad_json { cad_str text; int depth; bool first[128]; bool pretty; char closing[128]; } cad_json; /* {0}, or .pretty = true (2 spaces) */
CAD_CHECKED cad_status cad_json_begin(cad_json *j, const char *key, char bracket); /* '{' or '['; key NULL in a list or at the root */
CAD_CHECKED cad_status cad_json_end(cad_json *j);
CAD_CHECKED cad_status cad_json_string(cad_json *j, const char *key, const char *value); /* NULL value: null */
CAD_CHECKED cad_status cad_json_bytes(cad_json *j, const char *key, const char *value, size_t n);
CAD_CHECKED cad_status cad_json_int(cad_json *j, const char *key, int64_t value);
/* Shortest form that reads back to the same double, with ".0" kept as Python does; NaN, Infinity as Python writes them. */
CAD_CHECKED cad_status cad_json_real(cad_json *j, const char *key, double value);
CAD_CHECKED cad_status cad_json_bool(cad_json *j, const char *key, bool value);
CAD_CHECKED cad_status cad_json_null(cad_json *j, const char *key);
/* A value that is JSON already (a copied node; raw text). */
CAD_CHECKED cad_status cad_json_node(cad_json *j, const char *key, const cad_node *node);
CAD_CHECKED cad_status cad_json_raw(cad_json *j, const char *key, const char *text);
void cad_json_close(cad_json *j);
/* The shortest decimal that reads back to the same double ("0.1", "3e-05", "1.0", "nan" as NaN); returns its length. */
int cad_format_real(char out[32], double value);

/* ---- records: JSON array, JSONL, CSV, TSV, and gz of these (rows.c) ---- */

/* The columns of all rows, read once. A cell borrows from the table; its text ends in a NUL. */
typedef enum cad_cell_kind { CAD_CELL_MISSING, CAD_CELL_NULL, CAD_CELL_TEXT, CAD_CELL_INT, CAD_CELL_REAL, CAD_CELL_BOOL, CAD_CELL_JSON } cad_cell_kind;
typedef struct cad_cell { cad_cell_kind kind; const char *text; size_t size; double real; int64_t integer; } cad_cell; /* text: JSON text for CAD_CELL_JSON, digits as written for numbers */
typedef struct cad_rows cad_rows;
/* The form is told by the first byte that is not white space ('[': array, '{': JSONL) after unpacking, and by .csv/.tsv in the name.
 * CAD_EDATA: empty file, bad JSON (line and column), a row that is no object, invalid UTF-8, an unclosed quote, a row with more or
 * fewer fields than the header, duplicate column names, NUL bytes. A UTF-8 BOM and CRLF are accepted. Blank lines are
 * passed over. A CSV cell is text as written; without quotes and empty it is CAD_CELL_NULL. */
CAD_CHECKED cad_status cad_rows_read(cad_rows **out, const char *path);
/* The same from memory (copied); `path` names it in messages and tells CSV and TSV. */
CAD_CHECKED cad_status cad_rows_parse(cad_rows **out, const char *text, size_t n, const char *path);
void cad_rows_close(cad_rows **r);
int64_t cad_rows_count(const cad_rows *r);
int cad_rows_columns(const cad_rows *r);
const char *cad_rows_column(const cad_rows *r, int column);
int cad_rows_find(const cad_rows *r, const char *column); /* -1: none; the caller names the nearest */
cad_cell cad_rows_cell(const cad_rows *r, int64_t row, int column);
int cad_rows_line(const cad_rows *r, int64_t row); /* where the row starts in the (unpacked) file, from 1 */
const char *cad_rows_path(const cad_rows *r);

/* ---- the bytes of a file one piece after another, gz undone, read ahead by a thread (stream.c) ---- */

typedef struct cad_stream cad_stream;
/* `kind` is the status of a failure to read (damage, a cut gz file). */
CAD_CHECKED cad_status cad_stream_open(cad_stream **out, const char *path, cad_status kind);
CAD_CHECKED cad_status cad_stream_read(cad_stream *s, char *to, size_t room, size_t *got); /* less than `room` only at the end */
void cad_stream_close(cad_stream **s);

/* ---- safetensors (st_*.c, dtype.c) ---- */

typedef enum cad_dtype { CAD_F32, CAD_BF16, CAD_F16, CAD_F64, CAD_I64, CAD_I32, CAD_I16, CAD_I8, CAD_U8, CAD_BOOL8 } cad_dtype;
size_t cad_dtype_bytes(cad_dtype d);
const char *cad_dtype_name(cad_dtype d); /* "F32", "BF16", … as safetensors spells them */

enum { CAD_MAX_DIMS = 8 };
/* Blocks of values with a scale, as GGUF files hold them. */
typedef enum cad_pack {
    CAD_PACK_NONE, CAD_PACK_Q4_0, CAD_PACK_Q4_1, CAD_PACK_Q5_0, CAD_PACK_Q5_1, CAD_PACK_Q8_0, CAD_PACK_Q4_K, CAD_PACK_Q5_K, CAD_PACK_Q6_K
} cad_pack;
typedef struct cad_st_tensor {
    char *name;
    cad_dtype dtype;
    int dims;
    int64_t shape[CAD_MAX_DIMS];
    int64_t elems;
    const void *data; /* mapped, read-only, maybe unaligned */
    size_t bytes;
    int file;         /* index for cad_st_file */
    cad_pack pack;    /* how a GGUF file packs the values; then dtype is what they are read as */
    int64_t heads;    /* 0, or the rows of each of so many heads lie in pairs: first, middle, second, middle + 1, … */
    float minus;      /* taken from every value that is read */
} cad_st_tensor;
typedef struct cad_st cad_st;
/* A file, or a directory: model.safetensors, or model.safetensors.index.json with its shards, or adapter_model.safetensors, in this order.
 * Files are mapped; in a directory no link may lead out of it (of models--ORG--NAME in the Hugging Face cache). CAD_EMODEL with the tensor's name and file: header longer than the file or 100 MB, bad JSON, unknown dtype,
 * dtype x shape != bytes, overlap, hole, bytes after the end, duplicate names, a weight_map that leaves the folder or names a
 * missing file or tensor. */
CAD_CHECKED cad_status cad_st_open(cad_st **out, const char *path);
void cad_st_close(cad_st **s);
int cad_st_count(const cad_st *s);
const cad_st_tensor *cad_st_at(const cad_st *s, int i);                  /* in file order */
const cad_st_tensor *cad_st_find(const cad_st *s, const char *name);     /* NULL: none */
const char *cad_st_file(const cad_st *s, int file);
/* Elements [from, from + n) of a tensor as fp32 (F32, BF16, F16, F64). */
CAD_CHECKED cad_status cad_st_read_f32(const cad_st_tensor *t, int64_t from, int64_t n, float *out);
/* The same as F32 or BF16 (rounded to nearest, ties to even; BF16 as it is). */
CAD_CHECKED cad_status cad_st_read(const cad_st_tensor *t, int64_t from, int64_t n, cad_dtype as, void *out);
const char *cad_st_kind(const cad_st_tensor *t); /* "BF16", "Q4_K", … */

/* Writing: declare every tensor, then give its bytes in the same order; streams, so that no tensor but the present one is in memory.
 * In a file wider elements lie first, then in declared order.
 * Files are 0600 and appear under their names only at cad_st_finish (fsync, rename); metadata {"format": "pt"}.
 * With shard_bytes > 0 and more data than that: model-0000i-of-0000n.safetensors and model.safetensors.index.json. */
typedef struct cad_st_writer cad_st_writer;
CAD_CHECKED cad_status cad_st_create(cad_st_writer **out, const char *dir, const char *file, int64_t shard_bytes);
CAD_CHECKED cad_status cad_st_declare(cad_st_writer *w, const char *name, cad_dtype dtype, const int64_t *shape, int dims);
CAD_CHECKED cad_status cad_st_write(cad_st_writer *w, const void *bytes, size_t n); /* any cut, in declared order */
CAD_CHECKED cad_status cad_st_finish(cad_st_writer *w); /* CAD_EINTERNAL when bytes are missing */
void cad_st_abandon(cad_st_writer **w);                  /* closes; removes what was not finished */

/* ---- GGUF (gguf.c, gguf_head.c, gguf_write.c): what llama.cpp reads; knows no model ---- */

/* A value of the metadata. Texts and lists lie in the file, not NUL-terminated, and die with it. */
typedef struct cad_gguf_value {
    cad_kind kind;           /* CAD_BOOL, CAD_INT, CAD_REAL, CAD_STRING, CAD_LIST */
    bool boolean;
    int64_t integer;
    double real;             /* CAD_REAL, and CAD_INT as double */
    const char *text;
    size_t size;
    int64_t count;           /* CAD_LIST */
    int of;                  /* CAD_LIST: type of its items as the format numbers it */
    const void *items;
} cad_gguf_value;
typedef struct cad_gguf cad_gguf;
/* The file a path stands for: a file that ends in .gguf, or a folder without safetensors that has one model as .gguf (of several parts the
 * first). *out NULL: none. CAD_EMODEL: more than one. The caller frees. */
CAD_CHECKED cad_status cad_gguf_find(char **out, const char *path);
/* Versions 2 and 3, little-endian; NAME-00001-of-0000N.gguf with its parts. Mapped. CAD_EMODEL with one sentence: sizes beyond the file, unknown
 * types, nested lists, names that stand twice, tensors that overlap or do not follow each other, blocks that do not fill a row. */
CAD_CHECKED cad_status cad_gguf_open(cad_gguf **out, const char *path);
void cad_gguf_close(cad_gguf **g);
bool cad_gguf_get(const cad_gguf *g, const char *key, cad_gguf_value *out); /* of the first part */
cad_gguf_value cad_gguf_item(const cad_gguf_value *list, int64_t i);
int cad_gguf_count(const cad_gguf *g);                        /* tensors of all parts */
const cad_st_tensor *cad_gguf_at(const cad_gguf *g, int i);   /* shape as safetensors has it: rows first */
int cad_gguf_files(const cad_gguf *g);
const char *cad_gguf_file(const cad_gguf *g, int file);
/* Its tensors as a set: `rename` gives each its name there (empty: left out) and may set heads and minus. Takes *g on success. */
typedef cad_status (*cad_gguf_rename)(void *with, cad_st_tensor *t, char *name, size_t room);
CAD_CHECKED cad_status cad_st_adopt(cad_st **out, cad_gguf **g, cad_gguf_rename rename, void *with);

/* Writing: metadata, then every tensor is declared, then values of each in that order as fp32. Appears under its name at the end, 0600. */
typedef struct cad_gguf_writer cad_gguf_writer;
CAD_CHECKED cad_status cad_gguf_create(cad_gguf_writer **out, const char *path);
CAD_CHECKED cad_status cad_gguf_put_int(cad_gguf_writer *w, const char *key, int64_t value); /* as uint32 */
CAD_CHECKED cad_status cad_gguf_put_real(cad_gguf_writer *w, const char *key, double value); /* as float32 */
CAD_CHECKED cad_status cad_gguf_put_bool(cad_gguf_writer *w, const char *key, bool value);
CAD_CHECKED cad_status cad_gguf_put_text(cad_gguf_writer *w, const char *key, const char *value, size_t n);
/* A list: its items follow with cad_gguf_add_*; `of` is CAD_STRING, CAD_INT (as int32), CAD_REAL (float32) or CAD_BOOL. */
CAD_CHECKED cad_status cad_gguf_put_list(cad_gguf_writer *w, const char *key, cad_kind of, int64_t count);
CAD_CHECKED cad_status cad_gguf_add_text(cad_gguf_writer *w, const char *value, size_t n);
CAD_CHECKED cad_status cad_gguf_add_number(cad_gguf_writer *w, cad_kind of, double value);
/* `kind`: "F32", "F16" or "Q8_0"; a row that 32 does not divide is kept as F16 instead of Q8_0. */
CAD_CHECKED cad_status cad_gguf_declare(cad_gguf_writer *w, const char *name, const char *kind, const int64_t *shape, int dims);
CAD_CHECKED cad_status cad_gguf_write(cad_gguf_writer *w, const float *values, int64_t n); /* whole rows; CAD_EMODEL: not a finite number of the kind */
CAD_CHECKED cad_status cad_gguf_finish(cad_gguf_writer *w);
void cad_gguf_abandon(cad_gguf_writer **w); /* closes; removes what was not finished */

/* ---- HDF5 (hdf5.c, h5_*.c: the only files that see <hdf5.h>; serial, one process) ---- */

typedef struct cad_h5 cad_h5;
void cad_h5_setup(void); /* first thing in main: H5dont_atexit, no plugins, HDF5_* unset, errors not printed */
const char *cad_h5_version(void); /* of the library in use: "1.10.8" */
/* Every failure is CAD_ECHECKPOINT with the file and the object's name; a full disk CAD_ERESOURCE. */
CAD_CHECKED cad_status cad_h5_create(cad_h5 **out, const char *path); /* 0600, must not exist */
CAD_CHECKED cad_status cad_h5_open(cad_h5 **out, const char *path);   /* read-only; refuses external storage, links out, filters, virtual layouts */
CAD_CHECKED cad_status cad_h5_close(cad_h5 **h);                      /* flushes; NULL allowed */
/* A contiguous dataset "/group/…/name"; groups are made. Bytes come in pieces in order; a CRC32C attribute "crc32c" is written at the end. */
CAD_CHECKED cad_status cad_h5_begin(cad_h5 *h, const char *name, cad_dtype dtype, const int64_t *shape, int dims);
CAD_CHECKED cad_status cad_h5_write(cad_h5 *h, const void *bytes, int64_t elems);
CAD_CHECKED cad_status cad_h5_end(cad_h5 *h);
/* Elements [from, from + n) of a dataset (flat); shape and dtype must be as expected. */
CAD_CHECKED cad_status cad_h5_read(cad_h5 *h, const char *name, cad_dtype dtype, int64_t from, int64_t n, void *out);
CAD_CHECKED cad_status cad_h5_shape(cad_h5 *h, const char *name, cad_dtype *dtype, int64_t *shape, int *dims);
bool cad_h5_has(cad_h5 *h, const char *name);
/* Calls back for every dataset below `group`, names in order. */
CAD_CHECKED cad_status cad_h5_each(cad_h5 *h, const char *group, cad_status (*see)(void *with, const char *name), void *with);
/* Reads every dataset whole and compares with its crc32c. */
CAD_CHECKED cad_status cad_h5_verify(cad_h5 *h);
/* Attributes of the root. */
CAD_CHECKED cad_status cad_h5_set_int(cad_h5 *h, const char *name, int64_t value);
CAD_CHECKED cad_status cad_h5_set_real(cad_h5 *h, const char *name, double value);
CAD_CHECKED cad_status cad_h5_set_text(cad_h5 *h, const char *name, const char *value);
CAD_CHECKED cad_status cad_h5_get_int(cad_h5 *h, const char *name, int64_t *value);
CAD_CHECKED cad_status cad_h5_get_real(cad_h5 *h, const char *name, double *value);
CAD_CHECKED cad_status cad_h5_get_text(cad_h5 *h, const char *name, char **value); /* caller frees */

#ifdef __cplusplus
}
#endif
#endif
