/* Fields of records and what moved their log-odds: names, sums, files. */
#include "explain_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { FEW = 5, MOST_NAMES = 4096, LONGEST_NAME = 48 }; /* FEW: a field of fewer records stands in no aggregate */

/* ---- names ---- */

static cad_status field_of(cadp_explained *e, const char *name, size_t n, int *out)
{
    int64_t found;
    char *copy;

    if (cad_map_get(e->number, name, n, &found)) {
        *out = (int)found;
        return CAD_OK;
    }
    if (e->fields == MOST_NAMES) return cad_fail(CAD_EDATA, "expected records of at most %d fields, found more: the clauses of these texts have no names in common", MOST_NAMES);
    if (e->fields == e->room) {
        e->room = e->room ? 2 * e->room : 64;
        CAD_TRY(cad_grow(&e->name, (size_t)e->room, sizeof *e->name, "fields"));
        CAD_TRY(cad_grow(&e->sum, (size_t)e->room, sizeof *e->sum, "fields"));
    }
    CAD_TRY(cad_alloc(&copy, n + 1, 1, "a field"));
    memcpy(copy, name, n);
    e->name[e->fields] = copy;
    e->sum[e->fields] = (cadp_sums){0};
    *out = e->fields++;
    return cad_map_set(e->number, name, n, *out, NULL);
}

/* "value_age" says what the field age says. */
static cad_status field_of_column(cadp_explained *e, const char *column, int *out)
{
    const char *name = !strncmp(column, "value_", 6) ? column + 6 : column;
    int64_t found;

    if (cad_map_get(e->number, name, strlen(name), &found)) {
        *out = (int)found;
        return CAD_OK;
    }
    return field_of(e, column, strlen(column), out);
}

/* ---- columns beside the text ---- */

static cad_status fetch_weights(cadp_explained *e, cad_run *r)
{
    int tail = r->params->units - 1;
    const cad_param *p = &r->params->row[r->params->find[tail][CAD_ROLE_COLUMNS][CAD_PIECE_WEIGHT]];
    size_t each = cad_dtype_bytes(r->method.compute);
    cad_unit_view w;
    char *host;
    cad_status st;

    CAD_TRY(cad_alloc(&e->difference, (size_t)e->terms, sizeof *e->difference, "columns"));
    CAD_TRY(cad_alloc(&host, (size_t)p->elems, each, "columns"));
    if (!(st = cad_zero_fetch(r->zero, tail)) && !(st = cad_zero_use(r->zero, tail, &w)) && !(st = cad_device_download(r->device, host, (char *)w.train + (size_t)p->at * each, p->elems * (int64_t)each)))
        st = cad_zero_release(r->zero, tail);
    for (int k = 0; k < e->terms && !st; k++) {
        const float *f = (const float *)(const void *)host;
        const uint16_t *b = (const uint16_t *)(const void *)host;
        e->difference[k] = each == 4 ? f[e->terms + k] - f[k] : cad_bf16_to_f32(b[e->terms + k]) - cad_bf16_to_f32(b[k]);
    }
    cad_free(&host);
    return st;
}

static cad_status open_columns(cadp_explained *e, cad_run *r)
{
    bool odds;
    const char *offset;

    if (!r->columns) return CAD_OK;
    e->terms = cad_beside_width(r->columns);
    e->offset_mean = cad_beside_offset_mean(r->columns);
    offset = cad_beside_offset(r->columns, &odds);
    CAD_TRY(cad_alloc(&e->field_of_term, (size_t)e->terms + 1, sizeof *e->field_of_term, "columns"));
    for (int k = 1; k < e->terms; k++) CAD_TRY(field_of_column(e, cad_beside_of_term(r->columns, k), &e->field_of_term[k]));
    e->field_of_term[0] = e->field_of_term[e->terms] = -2;
    if (offset) CAD_TRY(field_of_column(e, offset, &e->field_of_term[e->terms]));
    return fetch_weights(e, r);
}

cad_status cadp_explained_open(cadp_explained *e, cad_run *r)
{
    int field;

    CAD_TRY(cad_map_open(&e->number));
    CAD_TRY(cad_record_fields_open(&e->wording, r->o->cohort.fields));
    for (int i = 0; i < cad_record_fields_count(e->wording); i++) {
        const char *name = cad_record_field_name(e->wording, i);
        CAD_TRY(field_of(e, name, strlen(name), &field));
    }
    e->known = e->fields;
    return open_columns(e, r);
}

void cadp_explained_close(cadp_explained *e)
{
    cad_map_close(&e->number);
    cad_record_fields_close(&e->wording);
    for (int i = 0; i < e->fields; i++) cad_free(&e->name[i]);
    cad_free(&e->name);
    cad_free(&e->sum);
    cad_free(&e->field_of_term);
    cad_free(&e->difference);
    cad_str_close(&e->lines);
}

void cadp_explain_neutral(const cadp_explained *e, int field, float *beside)
{
    if (field < 0) return;
    for (int k = 1; k < e->terms; k++)
        if (e->field_of_term[k] == field) beside[1 + k] = 0;
    if (e->field_of_term && e->field_of_term[e->terms] == field) beside[0] = (float)e->offset_mean;
}

void cadp_explain_columns(const cadp_explained *e, const float *beside, cadp_record_explained *one)
{
    for (int k = 1; k < e->terms; k++) {
        double more = (double)e->difference[k] * (double)beside[1 + k];
        one->gradients[e->field_of_term[k]] += more;
        one->present[e->field_of_term[k]] = true;
        one->baseline -= more;
    }
    if (!e->terms || e->field_of_term[e->terms] < 0) return;
    one->gradients[e->field_of_term[e->terms]] += (double)beside[0] - e->offset_mean;
    one->present[e->field_of_term[e->terms]] = true;
    one->baseline -= (double)beside[0] - e->offset_mean;
}

/* ---- a text in parts ---- */

static bool ends_clause(const char *t, size_t n, size_t i)
{
    return t[i] == '\n' || (strchr(".;,!?", t[i]) && (i + 1 == n || t[i + 1] == ' ' || t[i + 1] == '\n'));
}

/* What stands before a colon; else the words with # for numbers. */
static cad_status name_clause(const char *t, size_t n, cad_str *out)
{
    const char *colon = memchr(t, ':', n);

    out->size = 0;
    for (size_t i = 0; i < n && t + i != colon && out->size < LONGEST_NAME; i++) {
        bool digit = t[i] >= '0' && t[i] <= '9';
        if (digit && out->size && out->data[out->size - 1] == '#') continue;
        CAD_TRY(cad_str_add(out, digit ? "#" : (unsigned char)t[i] < 128 ? t + i : "?", 1));
    }
    return cad_str_add(out, "", 0);
}

static cad_status split_clauses(cadp_explained *e, const char *t, size_t n, cad_span *out, int most, int *count)
{
    cad_str name = {0};
    cad_status st = CAD_OK;

    *count = 0;
    for (size_t from = 0; from < n && *count < most && !st;) {
        size_t to = from;
        while (to < n && !ends_clause(t, n, to)) to++;
        to += to < n;
        while (from < to && t[from] == ' ') from++;
        if (to > from + 1 && !(st = name_clause(t + from, to - from - 1, &name))) {
            out[*count] = (cad_span){0, from, to};
            st = field_of(e, name.data, name.size, &out[(*count)++].field);
        }
        from = to;
    }
    cad_str_close(&name);
    return st;
}

cad_status cadp_explain_split(cadp_explained *e, const char *t, size_t n, cad_span *out, int most, int *count)
{
    size_t said = 0;

    *count = cad_record_split(e->wording, t, n, out, most);
    for (int k = 0; k < *count; k++) said += out[k].to - out[k].from;
    return 3 * said > n ? CAD_OK : split_clauses(e, t, n, out, most, count);
}

/* ---- one record ---- */

cad_status cadp_explained_clear(const cadp_explained *e, cadp_record_explained *one)
{
    if (one->room < e->fields) {
        one->room = e->room;
        CAD_TRY(cad_grow(&one->removed, (size_t)one->room, sizeof *one->removed, "fields"));
        CAD_TRY(cad_grow(&one->gradients, (size_t)one->room, sizeof *one->gradients, "fields"));
        CAD_TRY(cad_grow(&one->present, (size_t)one->room, sizeof *one->present, "fields"));
    }
    memset(one->removed, 0, (size_t)e->fields * sizeof *one->removed);
    memset(one->gradients, 0, (size_t)e->fields * sizeof *one->gradients);
    memset(one->present, 0, (size_t)e->fields * sizeof *one->present);
    one->other = 0;
    return CAD_OK;
}

void cadp_record_explained_close(cadp_record_explained *one)
{
    cad_free(&one->removed);
    cad_free(&one->gradients);
    cad_free(&one->present);
}

static cad_status put_record(const cadp_explained *e, int64_t row, const cadp_record_explained *one, cad_json *j)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_int(j, "index", row));
    CAD_TRY(cad_json_real(j, "log_odds", one->logit));
    CAD_TRY(cad_json_real(j, "baseline", one->baseline));
    CAD_TRY(cad_json_begin(j, "fields", '['));
    for (int f = 0; f < e->fields; f++) {
        if (!one->present[f]) continue;
        CAD_TRY(cad_json_begin(j, NULL, '{'));
        CAD_TRY(cad_json_string(j, "field", e->name[f]));
        CAD_TRY(cad_json_real(j, "removed", one->removed[f]));
        CAD_TRY(cad_json_real(j, "gradients", one->gradients[f]));
        CAD_TRY(cad_json_end(j));
    }
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_real(j, "other_text", one->other));
    CAD_TRY(cad_json_real(j, "sum_off_by", one->off));
    CAD_TRY(cad_json_int(j, "nodes", one->nodes));
    return cad_json_end(j);
}

cad_status cadp_explained_add(cadp_explained *e, int64_t row, const cadp_record_explained *one)
{
    cad_json j = {0};
    cad_status st;

    for (int f = 0; f < e->fields; f++) {
        cadp_sums *s = &e->sum[f];
        if (!one->present[f]) continue;
        s->records++;
        s->removed += one->removed[f];
        s->removed_abs += fabs(one->removed[f]);
        s->gradients += one->gradients[f];
        s->gradients_abs += fabs(one->gradients[f]);
    }
    e->records++;
    e->incomplete += !one->complete;
    e->worst = fmax(e->worst, fabs(one->off));
    st = put_record(e, row, one, &j);
    if (!st) st = cad_str_add(&e->lines, j.text.data, j.text.size);
    if (!st) st = cad_str_add(&e->lines, "\n", 1);
    cad_json_close(&j);
    return st;
}

/* ---- all of them ---- */

static int by_weight(const void *a, const void *b)
{
    const cad_field_row *x = a, *y = b;

    if (x->gradients_abs != y->gradients_abs) return x->gradients_abs < y->gradients_abs ? 1 : -1;
    return strcmp(x->name, y->name);
}

/* Means over all records: a field that a record does not say moved nothing there. */
static int rows_of(const cadp_explained *e, cad_field_row *out)
{
    double n = (double)cad_max(1, e->records);
    int count = 0;

    for (int f = 0; f < e->fields; f++) {
        const cadp_sums *s = &e->sum[f];
        if (s->records < FEW) continue;
        out[count++] = (cad_field_row){e->name[f], s->removed / n, s->removed_abs / n, s->gradients / n, s->gradients_abs / n};
    }
    qsort(out, (size_t)count, sizeof *out, by_weight);
    return count;
}

static cad_status put_importance(const cadp_explained *e, const cad_field_row *row, int count, cad_json *j)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_int(j, "records", e->records));
    CAD_TRY(cad_json_string(j, "unit", "log-odds, mean over all records"));
    CAD_TRY(cad_json_begin(j, "fields", '['));
    for (int i = 0; i < count; i++) {
        CAD_TRY(cad_json_begin(j, NULL, '{'));
        CAD_TRY(cad_json_string(j, "field", row[i].name));
        CAD_TRY(cad_json_real(j, "gradients_abs", row[i].gradients_abs));
        CAD_TRY(cad_json_real(j, "gradients", row[i].gradients));
        CAD_TRY(cad_json_real(j, "removed_abs", row[i].removed_abs));
        CAD_TRY(cad_json_real(j, "removed", row[i].removed));
        CAD_TRY(cad_json_end(j));
    }
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_real(j, "largest_gap_of_sums", e->worst));
    CAD_TRY(cad_json_int(j, "records_with_a_gap", e->incomplete));
    return cad_json_end(j);
}

static cad_status write_named(const char *dir, const char *name, const cad_str *text)
{
    char *path;
    cad_status st;

    CAD_TRY(cad_path_join(&path, dir, name));
    if (!(st = cad_write_file(path, text->data ? text->data : "", text->size))) cad_info("%-12s %s", !strcmp(name, "importance.json") ? "importance" : "records", path);
    cad_free(&path);
    return st;
}

static cad_status write_page(const cadp_explained *e, const cad_field_row *row, int count, const char *dir)
{
    char first[200], second[200], *path;
    const char *notes[] = {first, second};
    cad_report page = {.title = "Explanation of a model", .notes = notes, .note_count = 2, .fields = row, .field_count = count};
    cad_status st;

    snprintf(first, sizeof first, "Integrated gradients: the sums of the fields miss the difference of the log-odds by at most %.2g; beyond the tolerance in %lld of %lld records.", e->worst,
             (long long)e->incomplete, (long long)e->records);
    snprintf(second, sizeof second, "What a model uses is no cause of disease: fields that go together share or take each other's part.");
    CAD_TRY(cad_path_join(&path, dir, "importance.html"));
    if (!(st = cad_write_report(path, &page))) cad_info("%-12s %s", "report", path);
    cad_free(&path);
    return st;
}

static void tell(const cadp_explained *e, const cad_field_row *row, int count)
{
    cad_info("%lld records explained; sums of integrated gradients off by at most %.2g in log-odds", (long long)e->records, e->worst);
    if (e->incomplete) cad_warn("explain", "in %lld records the sums miss the difference of the log-odds by more than the tolerance", (long long)e->incomplete);
    for (int i = 0; i < count && i < 12; i++) cad_info("  %-28s %8.4f  (removed: %.4f)", row[i].name, row[i].gradients_abs, row[i].removed_abs);
}

cad_status cadp_explained_write(const cadp_explained *e, const char *dir)
{
    cad_field_row *row = NULL;
    cad_json j = {.pretty = true};
    int count = 0;
    cad_status st = cad_alloc(&row, (size_t)e->fields, sizeof *row, "fields");

    if (!st) count = rows_of(e, row);
    if (!st) st = cad_mkdirs(dir);
    if (!st) st = write_named(dir, "explanations.jsonl", &e->lines);
    if (!st) st = put_importance(e, row, count, &j);
    if (!st) st = cad_str_add(&j.text, "\n", 1);
    if (!st) st = write_named(dir, "importance.json", &j.text);
    if (!st) st = write_page(e, row, count, dir);
    if (!st) tell(e, row, count);
    cad_json_close(&j);
    cad_free(&row);
    return st;
}
