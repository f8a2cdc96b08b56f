/* Synthetic people written as extracts in any dialect, and as record-level tables. */
#include "synth_files.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

const cadp_dialect cadp_dialects[] = {
    {"csv", ',', true, CADP_HEAD_DASH, false, "", CADP_LIST_WIDE, "csv"},        {"txt", '\t', false, CADP_HEAD_DASH, false, "", CADP_LIST_WIDE, "txt"},
    {"tab", '\t', false, CADP_HEAD_R, false, "NA", CADP_LIST_WIDE, "tab"},       {"rap", ',', false, CADP_HEAD_RAP, false, "", CADP_LIST_JSON, "csv"},
    {"rap-labels", ',', false, CADP_HEAD_ENTITY, true, "", CADP_LIST_JSON, "csv"}, {"rap-title", ',', false, CADP_HEAD_TITLE, true, "", CADP_LIST_BAR, "csv"},
    {"ukb-format", '\t', false, CADP_HEAD_DASH, true, "", CADP_LIST_BAR, "tsv"},  {0}};

/* ---- the columns of each basket ---- */

/* arrays: of the wide form; list: RAP holds them in one cell; single: RAP leaves _i out. */
typedef struct column { int field, instance, arrays, first; bool list, single; } column;
static const column basics[] = {{31, 0, 1, 0, false, true}, {53, 0, 1, 0, false, false}, {53, 1, 1, 0, false, false}, {54, 0, 1, 0, false, false}, {21022, 0, 1, 0, false, true},
                                {21000, 0, 1, 0, false, false}, {22189, 0, 1, 0, false, true}, {190, 0, 1, 0, false, true}, {191, 0, 1, 0, false, true},
                                {40000, 0, 1, 0, false, false}, {40001, 0, 1, 0, false, false}, {0}};
static const column visit[] = {{4080, 0, 2, 0, false, false}, {4079, 0, 2, 0, false, false}, {93, 0, 2, 0, false, false}, {94, 0, 2, 0, false, false}, {4080, 1, 1, 0, false, false},
                               {20116, 0, 1, 0, false, false}, {1558, 0, 1, 0, false, false}, {2443, 0, 1, 0, false, false}, {6150, 0, 4, 0, true, false},
                               {6153, 0, 4, 0, true, false}, {6177, 0, 3, 0, true, false}, {20107, 0, 4, 0, true, false}, {20110, 0, 4, 0, true, false}, {20111, 0, 4, 0, true, false},
                               {20002, 0, 5, 0, false, false}, {21001, 0, 1, 0, false, false}, {48, 0, 1, 0, false, false}, {0}};
static const column blood[] = {{30690, 0, 1, 0, false, false}, {30760, 0, 1, 0, false, false}, {30780, 0, 1, 0, false, false}, {30870, 0, 1, 0, false, false},
                               {30640, 0, 1, 0, false, false}, {30790, 0, 1, 0, false, false}, {30710, 0, 1, 0, false, false}, {30750, 0, 1, 0, false, false},
                               {30700, 0, 1, 0, false, false}, {30720, 0, 1, 0, false, false}, {26227, 0, 1, 0, false, true}, {0}};
static const column life[] = {{2178, 0, 1, 0, false, false}, {924, 0, 1, 0, false, false}, {738, 0, 1, 0, false, false}, {0}};
static const column codes[] = {{41270, 0, 24, 0, true, true}, {41280, 0, 24, 0, false, true}, {41272, 0, 12, 0, true, true}, {41282, 0, 12, 0, false, true}, {0}};
static const column *const baskets[CADP_BASKETS] = {basics, visit, blood, life, codes};

/* ---- values: the items of a field ---- */

enum { MOST_ITEMS = 32 };
typedef struct items { char text[MOST_ITEMS][16]; int count; bool coded; } items;

static void add_text(items *t, const char *text)
{
    if (t->count < MOST_ITEMS) snprintf(t->text[t->count++], sizeof t->text[0], "%s", text);
}

static void add_code(items *t, int code)
{
    t->coded = true;
    if (!cadp_is_unset(code) && t->count < MOST_ITEMS) snprintf(t->text[t->count++], sizeof t->text[0], "%d", code);
}

static void add_number(items *t, double v, int decimals)
{
    if (!isnan(v) && t->count < MOST_ITEMS) snprintf(t->text[t->count++], sizeof t->text[0], "%.*f", decimals, v);
}

void cadp_day_text(char out[16], int32_t day, bool strokes)
{
    int y, m, d;

    if (day == CADP_NO_DAY) {
        out[0] = 0;
        return;
    }
    if (day == CADP_ODD_DAY) y = 1900, m = 1, d = 1;
    else cadp_day_parts(day, &y, &m, &d);
    snprintf(out, 16, strokes ? "%02d/%02d/%04d" : "%04d-%02d-%02d", strokes ? d % 100 : y % 10000, m % 100, strokes ? y % 10000 : d % 100);
}

static void add_day(items *t, int32_t day)
{
    char text[16];

    cadp_day_text(text, day, false);
    if (*text) add_text(t, text);
}

/* The first date of each distinct code, as the summary fields have it. */
typedef struct firsts { char code[MOST_ITEMS][8]; int32_t day[MOST_ITEMS]; int count; } firsts;
static void meet(firsts *f, const char *code, int32_t day)
{
    if (!*code) return;
    for (int i = 0; i < f->count; i++)
        if (!strcmp(f->code[i], code)) {
            if (day == CADP_ODD_DAY || f->day[i] == CADP_ODD_DAY) f->day[i] = CADP_ODD_DAY;
            else if (day < f->day[i]) f->day[i] = day;
            return;
        }
    if (f->count == MOST_ITEMS) return;
    snprintf(f->code[f->count], sizeof f->code[0], "%s", code);
    f->day[f->count++] = day;
}

static void add_codes(items *t, const cadp_made *p, int field)
{
    firsts f = {.count = 0};
    bool operations = field == 41272 || field == 41282;

    for (int e = 0; e < p->episodes; e++) {
        if (operations) meet(&f, p->episode[e].opcs4, p->episode[e].day);
        for (int k = 0; k < 2 && !operations; k++) meet(&f, p->episode[e].icd10[k], p->episode[e].day);
    }
    for (int i = 0; i < f.count; i++) {
        if (field == 41270 || field == 41272) add_text(t, f.code[i]);
        else add_day(t, f.day[i]);
    }
}

static void add_drugs(items *t, const cadp_made *p, bool men)
{
    t->coded = true;
    if ((p->male > 0) != men) return;
    if (!p->asks_drugs) add_code(t, -3);
    if (p->asks_drugs && p->statin) add_code(t, 1);
    if (p->asks_drugs && p->bp_drug) add_code(t, 2);
    if (p->asks_drugs && !p->statin && !p->bp_drug) add_code(t, -7);
}

static void add_relative(items *t, int heart)
{
    t->coded = true;
    if (cadp_is_unset(heart)) {
        add_code(t, -11);
        add_code(t, -27);
        return;
    }
    if (heart) add_code(t, 1);
    else add_code(t, -17);
    add_code(t, heart ? 10 : -27);
}

static void add_heart(items *t, const cadp_made *p)
{
    t->coded = true;
    if (p->self_attack) add_code(t, 1);
    if (p->hypertension) add_code(t, 4);
    if (!p->self_attack && !p->hypertension) add_code(t, -7);
}

static void add_illnesses(items *t, const cadp_made *p)
{
    t->coded = true;
    if (p->hypertension) add_code(t, 1065);
    if (p->diabetes == 1) add_code(t, 1220);
    if (p->self_attack) add_code(t, 1075);
    if (p->health == 4) add_code(t, 1465);
}

static void values_of(const cadp_made *p, const column *c, items *t)
{
    t->count = 0;
    t->coded = false;
    if (c->instance) return; /* nobody of these came again */
    switch (c->field) {
    case 31: add_code(t, p->male > 0); break;
    case 53: add_day(t, p->visit); break;
    case 54: add_code(t, p->centre); break;
    case 21022: add_number(t, p->age, 0); break;
    case 21000: add_code(t, p->ethnicity); break;
    case 22189: add_number(t, p->townsend, 2); break;
    case 190: add_code(t, p->lost == CADP_NO_DAY ? INT32_MIN : p->lost_reason); break;
    case 191: add_day(t, p->lost); break;
    case 40000: add_day(t, p->death); break;
    case 40001: if (p->death != CADP_NO_DAY) add_text(t, p->cause); break;
    case 4080: case 4079:
        for (int k = 0; k < 2 && !p->manual; k++) add_number(t, c->field == 4080 ? p->sbp[k] : p->dbp[k], 0);
        break;
    case 93: case 94:
        for (int k = 0; k < 2 && p->manual; k++) add_number(t, c->field == 93 ? p->sbp[k] : p->dbp[k], 0);
        break;
    case 20116: add_code(t, p->smoking); break;
    case 1558: add_code(t, p->alcohol); break;
    case 2443: add_code(t, (int)p->diabetes); break;
    case 6150: add_heart(t, p); break;
    case 6153: add_drugs(t, p, false); break;
    case 6177: add_drugs(t, p, true); break;
    case 20107: add_relative(t, p->father); break;
    case 20110: add_relative(t, p->mother); break;
    case 20111: add_relative(t, p->siblings); break;
    case 20002: add_illnesses(t, p); break;
    case 21001: add_number(t, p->bmi, 4); break;
    case 48: add_number(t, p->waist, 0); break;
    case 30690: add_number(t, p->tc, 3); break;
    case 30760: add_number(t, p->hdl, 3); break;
    case 30780: add_number(t, p->ldl, 3); break;
    case 30870: add_number(t, p->tg, 3); break;
    case 30640: add_number(t, p->apob, 3); break;
    case 30790: add_number(t, p->lpa, 2); break;
    case 30710: add_number(t, p->crp, 2); break;
    case 30750: add_number(t, p->hba1c, 1); break;
    case 30700: add_number(t, p->creatinine, 1); break;
    case 30720: add_number(t, p->cystatin, 3); break;
    case 26227: add_number(t, p->prs, 4); break;
    case 2178: add_code(t, p->health); break;
    case 924: add_code(t, p->walking); break;
    case 738: add_code(t, p->income == 6 ? -1 : p->income); break;
    default: add_codes(t, p, c->field);
    }
}

/* ---- headers and cells ---- */

static void header_name(char out[200], const cadp_dictionary *d, const cadp_dialect *w, const column *c, int array, bool whole)
{
    const cadp_field *f = cadp_dictionary_field(d, c->field);
    char instance[32] = "", element[32] = "";

    switch (w->head) {
    case CADP_HEAD_DASH: snprintf(out, 200, "%d-%d.%d", c->field, c->instance, array); break;
    case CADP_HEAD_R: snprintf(out, 200, "f.%d.%d.%d", c->field, c->instance, array); break;
    case CADP_HEAD_RAP: case CADP_HEAD_ENTITY:
        if (!c->single) snprintf(instance, sizeof instance, "_i%d", c->instance);
        if (!whole && c->arrays > 1) snprintf(element, sizeof element, "_a%d", array);
        snprintf(out, 200, "%sp%d%s%s", w->head == CADP_HEAD_ENTITY ? "participant." : "", c->field, instance, element);
        break;
    case CADP_HEAD_TITLE:
        if (!c->single) snprintf(instance, sizeof instance, " | Instance %d", c->instance);
        if (!whole && c->arrays > 1) snprintf(element, sizeof element, " | Array %d", array);
        snprintf(out, 200, "%.100s%s%s", f ? f->title : "?", instance, element);
        break;
    }
}

/* Quotes where a value has a delimiter or a quote; ukbconv's csv has them everywhere. */
static void put_cell(FILE *f, const cadp_dialect *w, const char *text)
{
    bool quote = w->quote_all || (w->delimiter == ',' && strpbrk(text, ",\"\n"));

    if (!quote) {
        fputs(text, f);
        return;
    }
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"') fputc('"', f);
        fputc(*text, f);
    }
    fputc('"', f);
}

static const char *shown(const cadp_dictionary *d, const cadp_dialect *w, const column *c, const items *t, int k)
{
    const char *label = w->labels && t->coded ? cadp_dictionary_label(d, c->field, strtod(t->text[k], NULL)) : NULL;

    return label ? label : t->text[k];
}

static void put_list(FILE *f, const cadp_dictionary *d, const cadp_dialect *w, const column *c, const items *t)
{
    char text[2048];
    size_t n = 0;
    bool json = w->list == CADP_LIST_JSON;

    if (!t->count) {
        put_cell(f, w, w->missing);
        return;
    }
    for (int k = 0; k < t->count && n + 160 < sizeof text; k++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s%s%s", k ? (json ? "," : "|") : json ? "[" : "", json ? "\"" : "", shown(d, w, c, t, k), json ? "\"" : "");
    snprintf(text + n, sizeof text - n, "%s", json ? "]" : "");
    put_cell(f, w, text);
}

void cadp_put_header(FILE *f, const cadp_dictionary *d, const cadp_dialect *w, int basket, int64_t padding)
{
    static const char *const eid[] = {"eid", "f.eid", "eid", "participant.eid", "Participant ID"};
    char name[200];

    put_cell(f, w, eid[w->head]);
    for (int64_t k = 0; k < padding; k++) {
        column c = {.field = (int)(50000 + k / 4), .instance = 0, .arrays = 4};
        header_name(name, d, w, &c, (int)(k % 4), false);
        fputc(w->delimiter, f);
        put_cell(f, w, name);
    }
    for (const column *c = baskets[basket]; c->field; c++) {
        bool whole = c->list && w->list != CADP_LIST_WIDE;
        for (int a = 0; a < (whole ? 1 : c->arrays); a++) {
            header_name(name, d, w, c, a, whole);
            fputc(w->delimiter, f);
            put_cell(f, w, name);
        }
    }
    fputc('\n', f);
}

/* A cheap filling that varies from cell to cell. */
static void put_padding(FILE *f, const cadp_dialect *w, int64_t eid, int64_t padding)
{
    char text[32];

    for (int64_t k = 0; k < padding; k++) {
        uint32_t h = (uint32_t)eid * 2654435761u + (uint32_t)k * 40503u;
        fputc(w->delimiter, f);
        snprintf(text, sizeof text, "%u.%u", h >> 22, h >> 16 & 63);
        put_cell(f, w, h >> 29 ? text : w->missing);
    }
}

void cadp_put_row(FILE *f, const cadp_dictionary *d, const cadp_dialect *w, int basket, int64_t padding, const cadp_made *p)
{
    items t;
    char eid[24];

    snprintf(eid, sizeof eid, "%lld", (long long)p->eid);
    put_cell(f, w, eid);
    put_padding(f, w, p->eid, padding);
    for (const column *c = baskets[basket]; c->field; c++) {
        values_of(p, c, &t);
        if (c->list && w->list != CADP_LIST_WIDE) {
            fputc(w->delimiter, f);
            put_list(f, d, w, c, &t);
            continue;
        }
        for (int a = 0; a < c->arrays; a++) {
            fputc(w->delimiter, f);
            put_cell(f, w, a < t.count ? shown(d, w, c, &t, a) : w->missing);
        }
    }
    fputc('\n', f);
}

/* ---- record-level tables, as the Data Portal writes them: tabs, dd/mm/YYYY ---- */

void cadp_put_records(FILE *const f[CADP_RECORDS], const cadp_made *p)
{
    char day[16];
    long long eid = (long long)p->eid;

    for (int e = 0; e < p->episodes; e++) {
        const cadp_episode *x = &p->episode[e];
        cadp_day_text(day, x->day == CADP_ODD_DAY ? CADP_NO_DAY : x->day, true);
        fprintf(f[0], "%lld\t%d\tHES\t%s\t%s\n", eid, e, e % 3 ? day : "", day);
        for (int k = 0; k < 2; k++)
            if (x->icd10[k][0]) fprintf(f[1], "%lld\t%d\t%d\t%d\t\t%s\n", eid, e, k, k + 1, x->icd10[k]);
        if (x->opcs4[0]) fprintf(f[2], "%lld\t%d\t0\t1\t%s\t\t%s\n", eid, e, e % 2 ? day : "", x->opcs4);
    }
    if (p->death == CADP_NO_DAY) return;
    cadp_day_text(day, p->death, true);
    fprintf(f[3], "%lld\t0\tE/W\t%s\n", eid, day);
    fprintf(f[4], "%lld\t0\t0\t1\t%s\n", eid, p->cause);
}

void cadp_put_record_headers(FILE *const f[CADP_RECORDS])
{
    fputs("eid\tins_index\tdsource\tepistart\tadmidate\n", f[0]);
    fputs("eid\tins_index\tarr_index\tlevel\tdiag_icd9\tdiag_icd10\n", f[1]);
    fputs("eid\tins_index\tarr_index\tlevel\topdate\toper3\toper4\n", f[2]);
    fputs("eid\tins_index\tdsource\tdate_of_death\n", f[3]);
    fputs("eid\tins_index\tarr_index\tlevel\tcause_icd10\n", f[4]);
}
