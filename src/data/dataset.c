#include "data_priv.h"

#include <stdio.h>

typedef struct dataset { cad_dataset d; cadp_flat flat; } dataset; /* the door's struct comes first */

/* ---- columns ---- */

/* Where a file has no header, its first row stands for one: names that are not near stay unsaid. */
cad_status cadp_no_column(const cad_rows *r, const char *name)
{
    cad_near near = {.wanted = name};

    for (int i = 0; i < cad_rows_columns(r); i++) cad_near_offer(&near, cad_rows_column(r, i));
    if (near.found) return cad_fail(CAD_EDATA, "%s: there is no column \"%s\"; the nearest name is \"%s\"", cad_rows_path(r), name, near.best);
    return cad_fail(CAD_EDATA, "%s: there is no column \"%s\" among its %d", cad_rows_path(r), name, cad_rows_columns(r));
}

/* Kinds are named, values are not: they are out of a person's row. */
static const char *kind_words(cad_cell_kind kind)
{
    static const char *const words[] = {
        [CAD_CELL_MISSING] = "nothing", [CAD_CELL_NULL] = "null", [CAD_CELL_TEXT] = "another text", [CAD_CELL_INT] = "another number",
        [CAD_CELL_REAL] = "another number", [CAD_CELL_BOOL] = "a boolean", [CAD_CELL_JSON] = "a list or table",
    };
    return words[kind];
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static int label_of_text(const char *s, size_t n)
{
    while (n && is_space(s[0])) s++, n--;
    while (n && is_space(s[n - 1])) n--;
    if (n == 0 || (s[0] != '0' && s[0] != '1')) return -1;
    if (n == 1) return s[0] - '0';
    if (n < 3 || s[1] != '.') return -1;
    for (size_t i = 2; i < n; i++)
        if (s[i] != '0') return -1;
    return s[0] - '0';
}

/* 0, 1, or -1 for anything else. */
static int label_of(cad_cell c)
{
    if (c.kind == CAD_CELL_TEXT) return label_of_text(c.text, c.size);
    if (c.kind == CAD_CELL_INT || c.kind == CAD_CELL_BOOL) return c.integer == 0 || c.integer == 1 ? (int)c.integer : -1;
    if (c.kind == CAD_CELL_REAL) return c.real == 0 ? 0 : c.real == 1 ? 1 : -1;
    return -1;
}

cad_status cadp_wrong_cell(const cad_rows *r, int64_t i, int column, const char *wanted)
{
    return cad_fail(CAD_EDATA, "%s:%d: column \"%s\": expected %s, found %s", cad_rows_path(r), cad_rows_line(r, i), cad_rows_column(r, column), wanted, kind_words(cad_rows_cell(r, i, column).kind));
}

static cad_status read_labels(const cad_rows *r, const cad_dataset_options *o, int32_t *labels)
{
    int64_t n = cad_rows_count(r), wrong = 0, first = 0;

    if (o->form) return CAD_OK; /* all 0 */
    int column = o->label_column ? cad_rows_find(r, o->label_column) : -1;

    if (column < 0 && o->label_needed) return cadp_no_column(r, o->label_column ? o->label_column : "");
    for (int64_t i = 0; i < n; i++) {
        labels[i] = column < 0 ? -1 : label_of(cad_rows_cell(r, i, column));
        if (labels[i] < 0 && !wrong++) first = i;
    }
    if (!wrong || !o->label_needed) return CAD_OK;
    if (wrong > 1) cad_advise("%lld of %lld rows have no valid label", (long long)wrong, (long long)n);
    return cad_fail(CAD_EDATA, "%s:%d: column \"%s\": expected the label 0 or 1, found %s", cad_rows_path(r), cad_rows_line(r, first), o->label_column,
                    kind_words(cad_rows_cell(r, first, column).kind));
}

static cad_status read_texts(const cad_rows *r, const char *name, const char **texts, size_t *sizes)
{
    int column = cad_rows_find(r, name);

    if (column < 0) return cadp_no_column(r, name);
    for (int64_t i = 0; i < cad_rows_count(r); i++) {
        cad_cell c = cad_rows_cell(r, i, column);
        /* a number in a CSV column of texts is the text of its digits */
        if (c.kind != CAD_CELL_TEXT && c.kind != CAD_CELL_INT && c.kind != CAD_CELL_REAL)
            return cadp_wrong_cell(r, i, column, "a text");
        texts[i] = c.text;
        sizes[i] = c.size;
    }
    return CAD_OK;
}

/* ---- tokens ---- */

static cad_status check_texts(const cad_dataset_options *o, const cad_dataset *d)
{
    for (int64_t i = 0; i < d->count; i++)
        if (d->starts[i] == d->starts[i + 1])
            return cad_fail(CAD_EDATA, "%s:%d: column \"%s\": expected a text, found an empty one (this tokenizer adds no special tokens)", cad_rows_path(d->rows_file),
                            cad_rows_line(d->rows_file, i), o->input_column);
    return CAD_OK;
}

static cad_status encode(const cad_tokenizer *t, const cad_dataset_options *o, const char **texts, size_t *sizes, cad_dataset *d)
{
    cad_ids ids = {0};
    cad_status status;

    CAD_TRY(read_texts(d->rows_file, o->input_column, texts, sizes));
    status = cad_tokenizer_encode_all(t, texts, sizes, d->count, o->truncation ? o->max_length : 0, o->keep_left, o->threads, &ids, d->starts, d->cut, NULL, NULL);
    d->ids = ids.data;
    CAD_TRY(status);
    return check_texts(o, d);
}

static cad_status tokenize(const cad_tokenizer *t, const cad_dataset_options *o, cad_dataset *d)
{
    const char **texts = NULL;
    size_t *sizes = NULL, n = (size_t)d->count;
    cad_status status;

    if ((status = cad_alloc(&texts, n, sizeof *texts, "texts"))) goto done;
    if ((status = cad_alloc(&sizes, n, sizeof *sizes, "text sizes"))) goto done;
    status = o->form ? cadp_encode_form(t, o, d) : encode(t, o, texts, sizes, d);
    if (!status && o->form) status = check_texts(o, d);
done:
    cad_free(&texts);
    cad_free(&sizes);
    return status;
}

static cad_status fill(const cad_tokenizer *t, const cad_dataset_options *o, cad_dataset *d)
{
    size_t n = (size_t)d->count;

    CAD_TRY(cad_alloc(&d->labels, n, sizeof *d->labels, "labels"));
    CAD_TRY(cad_alloc(&d->starts, n + 1, sizeof *d->starts, "offsets of records"));
    CAD_TRY(cad_alloc(&d->cut, n, sizeof *d->cut, "flags of cut records"));
    CAD_TRY(cad_alloc(&d->answers, n, sizeof *d->answers, "lengths of prompts"));
    CAD_TRY(read_labels(d->rows_file, o, d->labels));
    return tokenize(t, o, d);
}

/* Reads and tokenises into one flat block; the parts it was made from are freed. */
static cad_status build(const cad_tokenizer *t, const cad_dataset_options *o, dataset *own)
{
    cad_dataset *d = &own->d;
    const char *why;
    cad_status status;

    CAD_TRY(cad_rows_read(&d->rows_file, o->path));
    d->count = cad_rows_count(d->rows_file);
    if ((status = fill(t, o, d)) == CAD_OK) status = cadp_flat_make(&own->flat, d);
    cad_free(&d->labels);
    cad_free(&d->starts);
    cad_free(&d->cut);
    cad_free(&d->answers);
    cad_free(&d->given);
    cad_free(&d->ids);
    CAD_TRY(status);
    if (!cadp_flat_attach(&own->flat, d->digest, d, &why)) return cad_fail(CAD_EINTERNAL, "%s: tokens were not stored as they are: %s", o->path, why);
    return CAD_OK;
}

/* ---- cache ---- */

static cad_status digest(const cad_tokenizer *t, const cad_dataset_options *o, char hex[65])
{
    char file[65], line[160];
    const char *label = o->label_column ? o->label_column : "", *tokenizer = cad_tokenizer_digest(t);
    cad_sha256 s;
    int n;

    CAD_TRY(cad_sha256_file(o->path, file, CAD_EDATA));
    n = snprintf(line, sizeof line, "cadtrain tokens 1\n%d %lld %d\n", o->label_needed, (long long)(o->truncation ? o->max_length : 0), o->keep_left);
    cad_sha256_begin(&s);
    cad_sha256_add(&s, line, (size_t)n);
    cad_sha256_add(&s, file, 64);
    cad_sha256_add(&s, tokenizer, strlen(tokenizer) + 1);
    cad_sha256_add(&s, o->input_column, strlen(o->input_column) + 1);
    cad_sha256_add(&s, label, strlen(label) + 1);
    if (o->form) {
        cad_sha256_add(&s, o->form_text, strlen(o->form_text) + 1);
        cad_sha256_add(&s, o->end, strlen(o->end) + 1);
        for (int f = 0; f < CAD_FIELDS; f++) cad_sha256_add(&s, o->columns[f], strlen(o->columns[f]) + 1);
        if (o->chat) cad_sha256_add(&s, o->chat->id, strlen(o->chat->id) + 1);
    }
    cad_sha256_end(&s, hex);
    return CAD_OK;
}

static void warn_and_go_on(const char *what, const char *path)
{
    cad_warn("token cache", "%s %s: %s", path, what, cad_reason());
    cad_clear();
}

/* True when the tokens come from the cache. A damaged file is a warning, never an error. */
static bool load(dataset *own, const char *path)
{
    const char *why;

    if (!cadp_flat_map(&own->flat, path)) return false;
    if (cadp_flat_attach(&own->flat, own->d.digest, &own->d, &why)) return own->d.from_cache = true;
    cad_warn("token cache", "%s is ignored and made again: %s", path, why);
    cadp_flat_close(&own->flat);
    own->d.labels = own->d.ids = own->d.answers = NULL;
    own->d.starts = NULL;
    own->d.cut = NULL;
    own->d.given = NULL;
    return false;
}

static void save(const dataset *own, const char *dir, const char *path)
{
    cad_status status = cad_mkdirs(dir);

    if (!status) status = cad_write_file(path, own->flat.bytes, own->flat.size);
    if (status) warn_and_go_on("is not written", path);
}

static cad_status cached(const cad_tokenizer *t, const cad_dataset_options *o, dataset *own)
{
    char name[80], *path;
    cad_status status = CAD_OK;

    snprintf(name, sizeof name, "%s.tokens", own->d.digest);
    CAD_TRY(cad_path_join(&path, o->cache_dir, name));
    if (!load(own, path)) {
        status = build(t, o, own);
        if (!status) save(own, o->cache_dir, path);
    }
    cad_free(&path);
    return status;
}

/* ---- the door ---- */

static cad_status keep_text(const cad_dataset_options *o, cad_dataset *d)
{
    if (o->forget_text) {
        cad_rows_close(&d->rows_file);
        return CAD_OK;
    }
    if (!d->rows_file) CAD_TRY(cad_rows_read(&d->rows_file, o->path));
    if (cad_rows_count(d->rows_file) != d->count)
        return cad_fail(CAD_EDATA, "%s: expected %lld records, found %lld: the file changes while it is read", o->path, (long long)d->count,
                        (long long)cad_rows_count(d->rows_file));
    return CAD_OK;
}

static cad_status check_ids(const cad_dataset *d, const char *path, int64_t vocabulary)
{
    int32_t top = -1;

    if (vocabulary <= 0) return CAD_OK;
    for (int64_t i = 0; i < d->starts[d->count]; i++)
        if (d->ids[i] > top) top = d->ids[i];
    if (top < vocabulary) return CAD_OK;
    cad_advise("the tokenizer belongs to another model");
    return cad_fail(CAD_EMODEL, "%s: the tokenizer gives the id %d, the model has %lld embeddings", path, top, (long long)vocabulary);
}

static void count_rows(cad_dataset *d)
{
    for (int64_t i = 0; i < d->count; i++) {
        int32_t y = d->labels[i];
        d->longest = cad_max(d->longest, d->starts[i + 1] - d->starts[i]);
        if (y < 0) continue;
        d->count_by_label[y]++;
        d->cut_by_label[y] += d->cut[i];
    }
}

static cad_status open_all(dataset *own, const cad_tokenizer *t, const cad_dataset_options *o)
{
    CAD_TRY(digest(t, o, own->d.digest));
    CAD_TRY(o->cache_dir ? cached(t, o, own) : build(t, o, own));
    CAD_TRY(keep_text(o, &own->d));
    CAD_TRY(check_ids(&own->d, o->path, o->vocabulary));
    count_rows(&own->d);
    return CAD_OK;
}

cad_status cad_dataset_open(cad_dataset **out, const cad_tokenizer *t, const cad_dataset_options *o)
{
    dataset *own;
    cad_status status;

    *out = NULL;
    CAD_TRY(cad_alloc(&own, 1, sizeof *own, "a data set"));
    *out = &own->d;
    status = open_all(own, t, o);
    if (status) cad_dataset_close(out);
    return status;
}

void cad_dataset_close(cad_dataset **d)
{
    dataset *own = (dataset *)*d;

    if (!own) return;
    cad_rows_close(&own->d.rows_file);
    cad_free(&own->d.beside);
    cad_free(&own->d.row_weights);
    cadp_flat_close(&own->flat);
    cad_free(&own);
    *d = NULL;
}
