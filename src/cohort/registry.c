/* People and what is met about them; the record-level tables; who withdrew. */
#include "cohort_priv.h"

#include <math.h>
#include <stdlib.h>

cad_status cadp_person_add(cadp_cohort *c, int64_t eid, int32_t *row)
{
    double *slots;

    CAD_TRY(cadp_ids_add(&c->ids, eid, (int32_t)c->people, row));
    if (*row < c->people) return CAD_OK;
    if (c->people >= INT32_MAX - 1) return cad_fail(CAD_EDATA, "expected fewer than 2147483646 people");
    if (c->people == c->room) {
        c->room = c->room ? 2 * c->room : CADP_BLOCK;
        CAD_TRY(cad_grow(&c->person, (size_t)c->room, sizeof *c->person, "people"));
        CAD_TRY(cad_grow(&c->block, (size_t)(c->room / CADP_BLOCK), sizeof *c->block, "people"));
    }
    if (c->people % CADP_BLOCK == 0) CAD_TRY(cad_alloc(&c->block[c->people / CADP_BLOCK], (size_t)CADP_BLOCK * (size_t)c->fields.slots, sizeof(double), "columns of people"));
    c->person[c->people++] = (cadp_person){.eid = eid, .index = CADP_NO_DAY, .first_case = CADP_NO_DAY, .death = CADP_NO_DAY, .lost = CADP_NO_DAY, .file = -1, .weight = 1, .nation = -1};
    slots = cadp_slots(c, *row);
    for (int i = 0; i < c->fields.slots; i++) slots[i] = NAN;
    return CAD_OK;
}

void cadp_meet_case(cadp_cohort *c, int32_t person, cadp_source source, int32_t day)
{
    cadp_person *p = &c->person[person];

    if (!cadp_day_known(day)) p->flags |= CADP_CASE_NO_DATE;
    else if (!cadp_day_known(p->first_case) || day < p->first_case) {
        p->first_case = day;
        p->source = (uint8_t)source;
    }
}

static void meet_history(cadp_cohort *c, int32_t person, int entry, int32_t day)
{
    double *slot = cadp_slots(c, person) + c->fields.entry[entry].slot;

    if (isnan(*slot) || (cadp_day_known(day) && (*slot == CADP_ODD_DAY || day < *slot))) *slot = day;
}

void cadp_meet_code(cadp_cohort *c, int32_t person, cadp_system system, const char *code, size_t n, int32_t day)
{
    if (cadp_prefixes_match(&c->phenotype.hospital[system], code, n)) cadp_meet_case(c, person, system >= CADP_OPCS4 ? CADP_FROM_OPERATION : CADP_FROM_HOSPITAL, day);
    for (int i = 0; i < c->fields.entries; i++)
        if (c->fields.entry[i].kind == CADP_HISTORY && cadp_prefixes_match(&c->fields.entry[i].codes_of[system], code, n)) meet_history(c, person, i, day);
}

/* ---- withdrawals: a column without header, or with the word eid ---- */

static cad_status take_withdrawn(cadp_cohort *c, const char *path, const char *line, size_t n, int number)
{
    cadp_text t = {line, (uint32_t)n, false};
    int64_t eid;
    int32_t found;

    while (t.size && strchr(" \t\r,\"", t.at[t.size - 1])) t.size--;
    while (t.size && strchr(" \t\"", *t.at)) t.at++, t.size--;
    if (!t.size || (number == 1 && t.size == 3 && (t.at[0] | 32) == 'e')) return CAD_OK;
    if (!cadp_whole_number(&t, &eid)) return cad_fail(CAD_EDATA, "%s:%d: expected one participant's id on a line", path, number);
    return cadp_ids_add(&c->withdrawn, eid, (int32_t)c->withdrawn.used, &found);
}

cad_status cadp_read_withdrawals(cadp_cohort *c, const char *path)
{
    char *text = NULL;
    size_t size = 0;
    int number = 0;
    cad_status st;

    CAD_TRY(cad_read_file(&text, &size, path, 256 << 20, CAD_EDATA));
    st = CAD_OK;
    for (char *at = text; !st && at < text + size;) {
        size_t n = strcspn(at, "\n");
        st = take_withdrawn(c, path, at, n, ++number);
        at += n + 1;
    }
    cad_free(&text);
    return st;
}

/* ---- record-level tables ---- */

typedef enum table { T_HESIN, T_DIAG, T_OPER, T_DEATH, T_CAUSE, T_OTHER } table;
static table table_of(const cadp_scan *s)
{
    if (cadp_scan_find(s, "diag_icd10") >= 0) return T_DIAG;
    if (cadp_scan_find(s, "oper4") >= 0) return T_OPER;
    if (cadp_scan_find(s, "cause_icd10") >= 0) return T_CAUSE;
    if (cadp_scan_find(s, "date_of_death") >= 0) return T_DEATH;
    if (cadp_scan_find(s, "epistart") >= 0 || cadp_scan_find(s, "admidate") >= 0) return T_HESIN;
    return T_OTHER;
}

typedef struct records { cadp_cohort *c; cadp_scan s; table table; int eid, ins, col[4]; int form[4]; } records;

static cad_status want(records *r, const char *name, bool needed, int *cell)
{
    int column = cadp_scan_find(&r->s, name);

    *cell = -1;
    if (column >= 0) return cadp_scan_want(&r->s, column, cell);
    return needed ? cad_fail(CAD_EDATA, "%s:1: expected a column %s, found none", r->s.path, name) : CAD_OK;
}

static cad_status open_table(records *r, const char *path)
{
    static const char *const names[T_OTHER][4] = {{"epistart", "admidate", "elecdate"}, {"diag_icd10", "diag_icd9"}, {"oper4", "oper3", "opdate"}, {"date_of_death"}, {"cause_icd10", "level"}};

    CAD_TRY(cadp_scan_open(&r->s, path));
    r->table = table_of(&r->s);
    if (r->table == T_OTHER) return cad_fail(CAD_EDATA, "%s:1: expected the columns of hesin, hesin_diag, hesin_oper, death or death_cause, found others", path);
    CAD_TRY(want(r, "eid", true, &r->eid));
    CAD_TRY(want(r, "ins_index", r->table <= T_OPER, &r->ins));
    for (int i = 0; i < 4; i++) {
        r->col[i] = -1;
        if (names[r->table][i]) CAD_TRY(want(r, names[r->table][i], i == 0 && r->table != T_HESIN, &r->col[i]));
    }
    return CAD_OK;
}

static cad_status record_day(records *r, int k, int32_t *out)
{
    const cadp_text *t;
    const char *expected;

    *out = CADP_NO_DAY;
    if (r->col[k] < 0) return CAD_OK;
    t = &r->s.cell[r->col[k]];
    expected = cadp_day_read(t->at, t->size, &r->form[k], out);
    return expected ? cadp_scan_fail(&r->s, r->col[k], expected) : CAD_OK;
}

static cad_status add_hit(cadp_cohort *c, uint64_t key, int what, cadp_source source)
{
    if (c->hits == c->hit_room) {
        c->hit_room = c->hit_room ? 2 * c->hit_room : 4096;
        CAD_TRY(cad_grow(&c->hit, (size_t)c->hit_room, sizeof *c->hit, "records"));
    }
    c->hit[c->hits++] = (cadp_hit){key, what, (int32_t)source};
    return CAD_OK;
}

/* Remembered until the episode's date is known. */
static cad_status remember_code(records *r, uint64_t key, cadp_system system, const cadp_text *cell)
{
    cadp_cohort *c = r->c;
    char code[12];
    size_t n = cadp_is_missing(cell) ? 0 : cadp_code_text(cell, code);

    if (!n) return CAD_OK;
    if (cadp_prefixes_match(&c->phenotype.hospital[system], code, n)) CAD_TRY(add_hit(c, key, -1, system >= CADP_OPCS4 ? CADP_FROM_OPERATION : CADP_FROM_HOSPITAL));
    for (int i = 0; i < c->fields.entries; i++)
        if (c->fields.entry[i].kind == CADP_HISTORY && cadp_prefixes_match(&c->fields.entry[i].codes_of[system], code, n)) CAD_TRY(add_hit(c, key, i, CADP_FROM_HOSPITAL));
    return CAD_OK;
}

static cad_status take_operation(records *r, int32_t person, uint64_t key)
{
    char code[12];
    int32_t day;

    CAD_TRY(record_day(r, 2, &day));
    for (int k = 0; k < 2; k++) {
        const cadp_text *cell = r->col[k] < 0 ? NULL : &r->s.cell[r->col[k]];
        size_t n = !cell || cadp_is_missing(cell) ? 0 : cadp_code_text(cell, code);
        if (!n) continue;
        if (day == CADP_NO_DAY) CAD_TRY(remember_code(r, key, k ? CADP_OPCS3 : CADP_OPCS4, cell));
        else cadp_meet_code(r->c, person, k ? CADP_OPCS3 : CADP_OPCS4, code, n, day);
    }
    return CAD_OK;
}

static int by_key(const void *a, const void *b)
{
    const cadp_hit *x = a, *y = b;

    return (x->key > y->key) - (x->key < y->key);
}

/* The date of an episode: its start, else the admission, else the elective date. */
static cad_status take_episode(records *r, int32_t person, uint64_t key)
{
    cadp_cohort *c = r->c;
    cadp_hit seek = {key, 0, 0}, *at;
    int32_t day = CADP_NO_DAY, other;

    for (int k = 0; k < 3; k++) {
        CAD_TRY(record_day(r, k, &other));
        if (day == CADP_NO_DAY) day = other;
    }
    at = c->hits ? bsearch(&seek, c->hit, (size_t)c->hits, sizeof *c->hit, by_key) : NULL;
    if (!at) return CAD_OK;
    while (at > c->hit && at[-1].key == key) at--;
    if (day == CADP_NO_DAY) day = CADP_ODD_DAY;
    for (; at < c->hit + c->hits && at->key == key; at++) {
        if (at->source < 0) continue;
        if (at->what < 0) cadp_meet_case(c, person, (cadp_source)at->source, day);
        else meet_history(c, person, at->what, day);
        at->source = -1; /* has its date */
    }
    return CAD_OK;
}

static cad_status take_death_record(records *r, cadp_person *p)
{
    int32_t day;

    CAD_TRY(record_day(r, 0, &day));
    if (cadp_day_known(day) && (!cadp_day_known(p->death) || day < p->death)) p->death = day;
    return CAD_OK;
}

static void take_cause(records *r, cadp_person *p)
{
    const cadp_text *cell = &r->s.cell[r->col[0]], *level = r->col[1] < 0 ? NULL : &r->s.cell[r->col[1]];
    char code[12];
    size_t n = cadp_is_missing(cell) ? 0 : cadp_code_text(cell, code);
    bool underlying = level && level->size && *level->at == '1';

    if (n && cadp_prefixes_match(underlying ? &r->c->phenotype.underlying : &r->c->phenotype.contributory, code, n)) p->flags |= CADP_FATAL_CASE;
}

static cad_status take_record(records *r)
{
    cadp_cohort *c = r->c;
    int64_t eid, ins = 0;
    int32_t person;

    if (!cadp_whole_number(&r->s.cell[r->eid], &eid)) return cadp_scan_fail(&r->s, r->eid, "a participant's id, a whole number");
    person = cadp_ids_find(&c->ids, eid);
    if (person < 0) {
        c->unmatched += cadp_ids_find(&c->withdrawn, eid) < 0;
        return CAD_OK;
    }
    if (r->ins >= 0 && (!cadp_whole_number(&r->s.cell[r->ins], &ins) || ins < 0 || ins >= 1 << 24)) return cadp_scan_fail(&r->s, r->ins, "a whole number");
    uint64_t key = (uint64_t)person << 24 | (uint64_t)ins;
    switch (r->table) {
    case T_DIAG:
        CAD_TRY(remember_code(r, key, CADP_ICD10, &r->s.cell[r->col[0]]));
        return r->col[1] >= 0 ? remember_code(r, key, CADP_ICD9, &r->s.cell[r->col[1]]) : CAD_OK;
    case T_OPER: return take_operation(r, person, key);
    case T_HESIN: return take_episode(r, person, key);
    case T_DEATH: return take_death_record(r, &c->person[person]);
    case T_CAUSE: take_cause(r, &c->person[person]); return CAD_OK;
    case T_OTHER: break;
    }
    return CAD_OK;
}

/* Episodes come last: by then it is known which of them matter. */
static cad_status read_table(cadp_cohort *c, const char *path, bool episodes)
{
    records r = {.c = c};
    bool more = true;
    double began = cad_now();
    cad_status st = open_table(&r, path);
    bool now = !st && (r.table == T_HESIN) == episodes;

    while (!st && now && more) {
        st = cadp_scan_row(&r.s, &more);
        if (!st && more) st = take_record(&r);
    }
    if (!st && now) cad_info("%s: %lld records, %.0f MB/s", path, (long long)r.s.rows, (double)r.s.bytes / 1e6 / (cad_now() - began + 1e-9));
    if (now) c->bytes += r.s.bytes;
    if (now) c->seconds += cad_now() - began;
    cadp_scan_close(&r.s);
    return st;
}

cad_status cadp_read_records(cadp_cohort *c)
{
    const cad_cohort_list *tables = &c->plan->record_tables;

    for (int i = 0; i < tables->count; i++) CAD_TRY(read_table(c, tables->word[i], false));
    if (c->hits) qsort(c->hit, (size_t)c->hits, sizeof *c->hit, by_key);
    for (int i = 0; i < tables->count; i++) CAD_TRY(read_table(c, tables->word[i], true));
    for (int64_t i = 0; i < c->hits; i++) {
        if (c->hit[i].source < 0) continue;
        c->no_episode++;
        if (c->hit[i].what < 0) cadp_meet_case(c, (int32_t)(c->hit[i].key >> 24), (cadp_source)c->hit[i].source, CADP_ODD_DAY);
    }
    if (c->no_episode) cad_warn("records without episode", "%lld records of diagnoses or operations have no episode in hesin: their dates are not known", (long long)c->no_episode);
    return CAD_OK;
}
