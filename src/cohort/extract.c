/* One extract, streamed: which columns are wanted, and what a row adds to a person. Baskets meet on eid; the later one refreshes. */
#include "cohort_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_ARRAYS = 1024 };
typedef struct cells { int *cell, *array, count; } cells; /* of one field (and instance), by array */
typedef struct extract {
    cadp_cohort *c;
    cadp_scan scan;
    int32_t number;
    int eid, uses;
    cells index, centre, lost_reason, lost, death, underlying, contributory, code[4], day[4], self[8], later[8], dates;
    cells *slot;          /* of each slot */
    int *form;            /* of each cell, where it is a date */
    uint8_t *seen;        /* of each cell: 1 codes, 2 labels */
    int day_cell[4][MOST_ARRAYS];
} extract;

static cad_status add_cell(extract *x, cells *to, int column, cadp_place p)
{
    int at = to->count;

    CAD_TRY(cad_grow(&to->cell, (size_t)at + 1, sizeof *to->cell, "columns"));
    CAD_TRY(cad_grow(&to->array, (size_t)at + 1, sizeof *to->array, "columns"));
    while (at && to->array[at - 1] > p.array) {
        to->array[at] = to->array[at - 1];
        to->cell[at] = to->cell[at - 1];
        at--;
    }
    to->array[at] = p.array;
    to->count++;
    x->uses++;
    return cadp_scan_want(&x->scan, column, &to->cell[at]);
}

static void close_cells(cells *c)
{
    cad_free(&c->cell);
    cad_free(&c->array);
}

/* ---- the header ---- */

static cad_status plan_core(extract *x, int column, cadp_place p)
{
    static const int codes[4] = {41270, 41271, 41272, 41273}, days[4] = {41280, 41281, 41282, 41283};
    const struct { int field; cells *to; bool any; } core[] = {
        {53, &x->index, false}, {54, &x->centre, false}, {190, &x->lost_reason, true}, {191, &x->lost, true}, {40000, &x->death, true},
        {40001, &x->underlying, true}, {40002, &x->contributory, true}};

    for (size_t i = 0; i < sizeof core / sizeof *core; i++)
        if (core[i].field == p.field && (core[i].any || p.instance == 0)) CAD_TRY(add_cell(x, core[i].to, column, p));
    for (int s = 0; s < 4; s++) {
        if (p.field == codes[s]) CAD_TRY(add_cell(x, &x->code[s], column, p));
        if (p.field == days[s]) CAD_TRY(add_cell(x, &x->day[s], column, p));
    }
    for (int i = 0; i < x->c->phenotype.dates; i++)
        if (x->c->phenotype.date[i] == p.field) CAD_TRY(add_cell(x, &x->dates, column, p));
    for (int i = 0; i < x->c->phenotype.selves; i++)
        if (x->c->phenotype.self[i].field == p.field) CAD_TRY(add_cell(x, p.instance ? &x->later[i] : &x->self[i], column, p));
    return CAD_OK;
}

static cad_status plan_entries(extract *x, int column, cadp_place p)
{
    const cadp_fields *f = &x->c->fields;

    for (int i = 0; i < f->entries; i++)
        for (int k = 0; k < f->entry[i].fields; k++)
            if (f->entry[i].field[k] == p.field && f->entry[i].instance == p.instance) CAD_TRY(add_cell(x, &x->slot[f->entry[i].slot + k], column, p));
    return CAD_OK;
}

static cad_status index_days(extract *x)
{
    for (int s = 0; s < 4; s++) {
        for (int i = 0; i < MOST_ARRAYS; i++) x->day_cell[s][i] = -1;
        for (int i = 0; i < x->day[s].count; i++) {
            if (x->day[s].array[i] >= MOST_ARRAYS) return cad_fail(CAD_EDATA, "%s: expected at most 1024 dates of one field, found more", x->scan.path);
            x->day_cell[s][x->day[s].array[i]] = x->day[s].cell[i];
        }
        if (x->code[s].count && !x->day[s].count) {
            cad_warn("codes without dates", "%s: field %d without its dates (%d) in the same file: its codes are not used", x->scan.path, 41270 + s, 41280 + s);
            x->code[s].count = 0;
        }
    }
    return CAD_OK;
}

static cad_status check_places(const extract *x, const cadp_place *place)
{
    int eids = 0, known = 0;

    for (int i = 0; i < x->scan.columns; i++) {
        eids += place[i].field == CADP_EID;
        known += place[i].field > 0;
    }
    if (eids != 1) return cad_fail(CAD_EDATA, "%s:1: expected one column of participant ids (eid, f.eid, n_eid, Participant ID), found %d", x->scan.path, eids);
    if (!known) return cad_fail(CAD_EDATA, "%s:1: expected columns as 31-0.0, f.31.0.0, p31_i0 or a field's title, found none", x->scan.path);
    if (!x->uses) cad_warn("an extract without use", "%s: none of its %d columns is wanted", x->scan.path, x->scan.columns);
    return CAD_OK;
}

static int by_place(const void *a, const void *b) { return memcmp(a, b, sizeof(cadp_place)); }

static cad_status refuse_twins(const extract *x, cadp_place *place)
{
    qsort(place, (size_t)x->scan.columns, sizeof *place, by_place);
    for (int i = 1; i < x->scan.columns; i++)
        if (place[i].field > 0 && !by_place(&place[i - 1], &place[i]))
            return cad_fail(CAD_EDATA, "%s:1: expected every column once, found field %d, instance %d, array %d twice", x->scan.path, place[i].field, place[i].instance, place[i].array);
    return CAD_OK;
}

static cad_status plan_columns(extract *x, cadp_place *place)
{
    for (int i = 0; i < x->scan.columns; i++) {
        place[i] = cadp_column_place(&x->c->dictionary, x->scan.name[i]);
        if (place[i].field == CADP_EID) CAD_TRY(cadp_scan_want(&x->scan, i, &x->eid));
        if (place[i].field <= 0) continue;
        CAD_TRY(plan_core(x, i, place[i]));
        CAD_TRY(plan_entries(x, i, place[i]));
    }
    CAD_TRY(check_places(x, place));
    CAD_TRY(refuse_twins(x, place));
    CAD_TRY(cad_alloc(&x->form, (size_t)x->scan.cells, sizeof *x->form, "columns"));
    CAD_TRY(cad_alloc(&x->seen, (size_t)x->scan.cells, 1, "columns"));
    return index_days(x);
}

static cad_status read_header(extract *x, const char *path)
{
    cadp_place *place = NULL;
    cad_status st;

    CAD_TRY(cadp_scan_open(&x->scan, path));
    CAD_TRY(cad_alloc(&x->slot, (size_t)x->c->fields.slots, sizeof *x->slot, "columns"));
    st = cad_alloc(&place, (size_t)x->scan.columns, sizeof *place, "columns");
    if (!st) st = plan_columns(x, place);
    cad_free(&place);
    return st;
}

/* ---- a row ---- */

static cad_status read_day(extract *x, int cell, int32_t *out)
{
    const cadp_text *t = &x->scan.cell[cell];
    const char *expected = cadp_day_read(t->at, t->size, &x->form[cell], out);

    if (expected) return cadp_scan_fail(&x->scan, cell, expected);
    x->c->odd_days += *out == CADP_ODD_DAY;
    return CAD_OK;
}

static cad_status read_value(extract *x, int field, int cell, const cadp_text *t, cadp_sort *sort, double *out)
{
    *sort = cadp_dictionary_value(&x->c->dictionary, cadp_dictionary_field(&x->c->dictionary, field), t, out);
    x->c->special += *sort == CADP_SPECIAL;
    x->c->labels += *sort == CADP_LABEL;
    x->c->other_texts += *sort == CADP_OTHER;
    if (*sort == CADP_VALUE) x->seen[cell] |= 1;
    if (*sort == CADP_LABEL) x->seen[cell] |= 2;
    return *sort == CADP_BAD ? cadp_scan_fail(&x->scan, cell, "a number, a code or a label that the dictionary knows, found another text") : CAD_OK;
}

static double combine(cadp_combine how, double so_far, double x, int count)
{
    switch (how) {
    case CADP_MEAN: return so_far + x;
    case CADP_FIRST: return count ? so_far : x;
    case CADP_MAX: return count && so_far > x ? so_far : x;
    case CADP_MIN: return count && so_far < x ? so_far : x;
    }
    return x;
}

static cad_status take_number(extract *x, const cadp_entry *e, int field, const cells *from, double *slot)
{
    double sum = 0, v;
    int count = 0;
    cadp_sort sort;

    for (int i = 0; i < from->count; i++) {
        CAD_TRY(read_value(x, field, from->cell[i], &x->scan.cell[from->cell[i]], &sort, &v));
        if (sort != CADP_VALUE && sort != CADP_LABEL) continue;
        if (v < e->low || v > e->high) {
            x->c->implausible++;
            continue;
        }
        sum = combine(e->combine, sum, v, count);
        count++;
    }
    if (count) *slot = e->combine == CADP_MEAN ? sum / count : sum;
    return CAD_OK;
}

static cad_status take_category(extract *x, const cadp_entry *e, int field, const cells *from, double *slot)
{
    cadp_sort sort;
    double v;

    for (int i = 0; i < from->count; i++) {
        CAD_TRY(read_value(x, field, from->cell[i], &x->scan.cell[from->cell[i]], &sort, &v));
        if (sort != CADP_VALUE && sort != CADP_LABEL) continue;
        for (int k = 0; k < e->levels; k++)
            if (e->level[k] == v) {
                *slot = v;
                return CAD_OK;
            }
        x->c->implausible++;
    }
    return CAD_OK;
}

static bool is_among(double v, const double *list, int count)
{
    for (int i = 0; i < count; i++)
        if (list[i] == v) return true;
    return false;
}

/* The values in a cell one after another: lists as JSON, with bars, or (where the whole is no label) with commas. */
typedef struct walk { size_t at, inner; cadp_text item; bool splitting; } walk;
static cad_status next_value(extract *x, int field, int cell, walk *w, bool *more, cadp_sort *sort, double *v)
{
    const cadp_field *f = cadp_dictionary_field(&x->c->dictionary, field);
    cadp_text part;

    *more = true;
    if (!w->splitting) {
        *more = cadp_list_next(&x->scan.cell[cell], &w->at, &w->item);
        if (!*more) return CAD_OK;
        w->splitting = memchr(w->item.at, ',', w->item.size) && cadp_dictionary_value(&x->c->dictionary, f, &w->item, v) == CADP_BAD;
        w->inner = 0;
        if (!w->splitting) return read_value(x, field, cell, &w->item, sort, v);
    }
    const char *from = w->item.at + w->inner, *comma = memchr(from, ',', w->item.size - w->inner), *end = comma ? comma : w->item.at + w->item.size;
    part = (cadp_text){from, (uint32_t)(end - from), false};
    while (part.size && *part.at == ' ') part.at++, part.size--;
    w->inner = comma ? (size_t)(comma + 1 - w->item.at) : 0;
    w->splitting = comma != NULL;
    return read_value(x, field, cell, &part, sort, v);
}

/* 1: one of the codes; 0: an answer without them; NaN: no answer. */
static cad_status find_codes(extract *x, int field, const cells *from, const double *code, int codes, double *out)
{
    *out = NAN;
    for (int i = 0; i < from->count; i++) {
        walk w = {0};
        bool more = true;
        while (more) {
            cadp_sort sort = CADP_MISSING;
            double v = 0;
            CAD_TRY(next_value(x, field, from->cell[i], &w, &more, &sort, &v));
            if (!more || sort == CADP_MISSING || sort == CADP_SPECIAL) continue;
            if (isnan(*out)) *out = 0;
            if (sort != CADP_OTHER && is_among(v, code, codes)) *out = 1;
        }
    }
    return CAD_OK;
}

static cad_status take_any(extract *x, const cadp_entry *e, int field, const cells *from, double *slot)
{
    double found;

    CAD_TRY(find_codes(x, field, from, e->code, e->codes, &found));
    if (isnan(found) && e->empty_is_no) found = 0;
    if (!isnan(found)) *slot = found;
    return CAD_OK;
}

static cad_status take_entries(extract *x, double *slots)
{
    for (int i = 0; i < x->c->fields.entries; i++) {
        const cadp_entry *e = &x->c->fields.entry[i];
        for (int k = 0; k < e->fields; k++) {
            const cells *from = &x->slot[e->slot + k];
            double *to = &slots[e->slot + k];
            if (!from->count) continue;
            if (e->kind == CADP_NUMBER) CAD_TRY(take_number(x, e, e->field[k], from, to));
            else if (e->kind == CADP_CATEGORY) CAD_TRY(take_category(x, e, e->field[k], from, to));
            else CAD_TRY(take_any(x, e, e->field[k], from, to));
        }
    }
    return CAD_OK;
}

/* Element k of the codes goes with element k of the dates, whether the codes are a list in one cell or a cell each. */
static cad_status take_codes(extract *x, int32_t person)
{
    for (int s = 0; s < 4; s++)
        for (int i = 0; i < x->code[s].count; i++) {
            const cadp_text *cell = &x->scan.cell[x->code[s].cell[i]];
            cadp_text item;
            size_t at = 0;
            char code[12];
            if (cadp_is_missing(cell)) continue;
            for (int k = x->code[s].array[i]; cadp_list_next(cell, &at, &item); k++) {
                size_t n = cadp_code_text(&item, code);
                int32_t day = CADP_ODD_DAY;
                if (!n || cadp_is_missing(&item)) continue;
                if (k < MOST_ARRAYS && x->day_cell[s][k] >= 0) CAD_TRY(read_day(x, x->day_cell[s][k], &day));
                cadp_meet_code(x->c, person, (cadp_system)s, code, n, day == CADP_NO_DAY ? CADP_ODD_DAY : day);
            }
        }
    return CAD_OK;
}

static bool any_cause(extract *x, const cells *from, const cadp_prefixes *p)
{
    cadp_text item;
    char code[12];

    for (int i = 0; i < from->count; i++)
        for (size_t at = 0; !cadp_is_missing(&x->scan.cell[from->cell[i]]) && cadp_list_next(&x->scan.cell[from->cell[i]], &at, &item);) {
            size_t n = cadp_code_text(&item, code);
            if (n && cadp_prefixes_match(p, code, n)) return true;
        }
    return false;
}

static cad_status take_death(extract *x, cadp_person *p)
{
    int32_t day;

    for (int i = 0; i < x->death.count; i++) {
        CAD_TRY(read_day(x, x->death.cell[i], &day));
        if (cadp_day_known(day) && (!cadp_day_known(p->death) || day < p->death)) p->death = day;
    }
    if (any_cause(x, &x->underlying, &x->c->phenotype.underlying) || any_cause(x, &x->contributory, &x->c->phenotype.contributory)) p->flags |= CADP_FATAL_CASE;
    return CAD_OK;
}

static cad_status take_self(extract *x, cadp_person *p)
{
    double found;

    for (int i = 0; i < x->c->phenotype.selves; i++) {
        const cadp_self *s = &x->c->phenotype.self[i];
        CAD_TRY(find_codes(x, s->field, &x->self[i], s->code, s->codes, &found));
        if (found == 1) p->flags |= CADP_SELF_BEFORE;
        CAD_TRY(find_codes(x, s->field, &x->later[i], s->code, s->codes, &found));
        if (found == 1) p->flags |= CADP_SELF_LATER;
    }
    return CAD_OK;
}

static cad_status take_core(extract *x, cadp_person *p)
{
    cadp_sort sort;
    int32_t day;
    double v;

    for (int i = 0; i < x->index.count; i++) {
        CAD_TRY(read_day(x, x->index.cell[i], &day));
        if (cadp_day_known(day)) p->index = day;
    }
    for (int i = 0; i < x->centre.count; i++) {
        CAD_TRY(read_value(x, 54, x->centre.cell[i], &x->scan.cell[x->centre.cell[i]], &sort, &v));
        if ((sort == CADP_VALUE || sort == CADP_LABEL) && v > 0 && v < INT16_MAX) p->centre = (int16_t)v;
    }
    for (int i = 0; i < x->lost.count; i++) {
        CAD_TRY(read_day(x, x->lost.cell[i], &day));
        if (cadp_day_known(day) && (!cadp_day_known(p->lost) || day < p->lost)) p->lost = day;
    }
    for (int i = 0; i < x->lost_reason.count; i++) {
        CAD_TRY(read_value(x, 190, x->lost_reason.cell[i], &x->scan.cell[x->lost_reason.cell[i]], &sort, &v));
        if ((sort == CADP_VALUE || sort == CADP_LABEL) && v > 0 && v < 256) p->lost_reason = (uint8_t)v;
    }
    CAD_TRY(take_death(x, p));
    return take_self(x, p);
}

static cad_status take_dates(extract *x, int32_t person)
{
    int32_t day;

    for (int i = 0; i < x->dates.count; i++) {
        CAD_TRY(read_day(x, x->dates.cell[i], &day));
        if (day != CADP_NO_DAY) cadp_meet_case(x->c, person, CADP_FROM_HOSPITAL, day);
    }
    return CAD_OK;
}

static cad_status take_row(extract *x)
{
    cadp_cohort *c = x->c;
    int64_t eid;
    int32_t row;

    if (!cadp_whole_number(&x->scan.cell[x->eid], &eid)) return cadp_scan_fail(&x->scan, x->eid, "a participant's id, a whole number");
    if (eid <= 0 || cadp_ids_find(&c->withdrawn, eid) >= 0) { /* withdrawn people stand with negative ids in some files */
        c->withdrawn_rows++;
        return CAD_OK;
    }
    CAD_TRY(cadp_person_add(c, eid, &row));
    if (c->person[row].file == x->number) return cadp_scan_fail(&x->scan, x->eid, "every participant once, found one again");
    c->person[row].file = x->number;
    CAD_TRY(take_core(x, &c->person[row]));
    CAD_TRY(take_dates(x, row));
    CAD_TRY(take_codes(x, row));
    return take_entries(x, cadp_slots(c, row));
}

static void close_extract(extract *x)
{
    cells *const all[] = {&x->index, &x->centre, &x->lost_reason, &x->lost, &x->death, &x->underlying, &x->contributory, &x->dates};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) close_cells(all[i]);
    for (int i = 0; i < 4; i++) {
        close_cells(&x->code[i]);
        close_cells(&x->day[i]);
    }
    for (int i = 0; i < 8; i++) {
        close_cells(&x->self[i]);
        close_cells(&x->later[i]);
    }
    for (int i = 0; x->slot && i < x->c->fields.slots; i++) close_cells(&x->slot[i]);
    cad_free(&x->slot);
    cad_free(&x->form);
    cad_free(&x->seen);
    cadp_scan_close(&x->scan);
}

static void report_mixtures(const extract *x)
{
    for (int i = 0; i < x->scan.cells; i++)
        if (x->seen[i] == 3) cad_warn("codes and labels", "%s: column \"%.60s\": codes in some rows, labels in others; both were read", x->scan.path, x->scan.name[x->scan.column_of[i]]);
}

cad_status cadp_read_extract(cadp_cohort *c, const char *path, int32_t number)
{
    extract *x = NULL;
    bool more = true;
    double began = cad_now(), worked = (double)clock();
    cad_status st;

    CAD_TRY(cad_alloc(&x, 1, sizeof *x, "an extract"));
    x->c = c;
    x->number = number;
    st = read_header(x, path);
    while (!st && more) {
        st = cadp_scan_row(&x->scan, &more);
        if (!st && more) st = take_row(x);
    }
    if (!st) report_mixtures(x);
    if (!st) cad_info("%s: %lld rows, %d columns (%d used), %.0f MB/s, %.0f MB per processor second", path, (long long)x->scan.rows, x->scan.columns, x->scan.cells,
                      (double)x->scan.bytes / 1e6 / (cad_now() - began + 1e-9), (double)x->scan.bytes / 1e6 / (((double)clock() - worked) / CLOCKS_PER_SEC + 1e-9));
    c->bytes += x->scan.bytes;
    c->seconds += cad_now() - began;
    close_extract(x);
    cad_free(&x);
    return st;
}
