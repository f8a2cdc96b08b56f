/* What would let the answer into the question (ukb.md 5.3): each rule is run on every prepare and named with field and count. */
#include "cohort_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

cad_status cadp_check_allowed(const cad_cohort_list *allow)
{
    static const char *const rules[] = {"outcome_twin", "after_baseline", "place_or_date", "enhanced_prs", "too_good", "missing_tells", "censored_as_control", "prevalent_kept",
                                        "self_report_later", "id_in_prompt", "date_in_prompt", "relatives_over_splits", "prompts_over_splits", "people_over_splits"};
    enum { RULES = sizeof rules / sizeof *rules };

    for (int i = 0; i < allow->count; i++) {
        cad_near near = {.wanted = allow->word[i]};
        int k = 0;
        for (; k < RULES && strcmp(rules[k], allow->word[i]); k++) cad_near_offer(&near, rules[k]);
        if (k == RULES) return cad_fail(CAD_EUSAGE, "cohort.allow: expected a rule of the leakage checks, found \"%.40s\"%s", allow->word[i], cad_near_hint(&near, ""));
    }
    return CAD_OK;
}

static bool is_allowed(const cadp_cohort *c, const char *rule)
{
    for (int i = 0; i < c->plan->allow.count; i++)
        if (!strcmp(c->plan->allow.word[i], rule)) return true;
    return false;
}

static cad_status add_finding(cadp_cohort *c, const char *rule, const char *field, int64_t count, const char *says, const char *verdict)
{
    cad_json j = {0};
    cad_status st = cad_json_begin(&j, NULL, '{');

    if (!st) st = cad_json_string(&j, "rule", rule);
    if (!st) st = field ? cad_json_string(&j, "field", field) : cad_json_null(&j, "field");
    if (!st) st = count > 0 && count < CADP_FEWEST ? cad_json_string(&j, "count", "<5") : cad_json_int(&j, "count", count);
    if (!st) st = cad_json_string(&j, "verdict", verdict);
    if (!st) st = cad_json_string(&j, "says", says);
    if (!st) st = cad_json_end(&j);
    if (!st) st = cad_str_addf(&c->findings, "%s%s", c->findings.size ? "," : "", j.text.data);
    cad_json_close(&j);
    return st;
}

cad_status cadp_finding(cadp_cohort *c, const char *rule, const char *field, int64_t count, const char *says, bool refuse)
{
    const char *verdict = !count ? "ok" : !refuse ? "warning" : is_allowed(c, rule) ? "allowed" : "refused";
    char number[32];

    CAD_TRY(add_finding(c, rule, field, count, says, verdict));
    if (!count) return CAD_OK;
    snprintf(number, sizeof number, count < CADP_FEWEST ? "<5" : "%lld", (long long)count);
    c->findings_count++;
    if (strcmp(verdict, "refused")) {
        cad_warn("leakage checks", "%s%s%s: %s %s (%s)", rule, field ? ", field " : "", field ? field : "", number, says, verdict);
        return CAD_OK;
    }
    cad_advise("a deliberate exception is written as cohort.allow: [%s] and stands in the report", rule);
    return cad_fail(CAD_EDATA, "leakage: %s%s%s: %s %s", rule, field ? ", field " : "", field ? field : "", number, says);
}

static bool is_one_of(int x, const int *list, int n)
{
    for (int i = 0; i < n; i++)
        if (list[i] == x) return true;
    return false;
}

static bool shares_code(const cadp_entry *e, const double *list, int n)
{
    for (int i = 0; i < e->codes; i++)
        for (int k = 0; k < n; k++)
            if (e->code[i] == list[k]) return true;
    return false;
}

/* The outcome under another name: reports of it, and what is given for it. */
static bool is_twin(const cadp_cohort *c, const cadp_entry *e, int field)
{
    static const double illness[] = {1066, 1074, 1075}, drug[] = {1140910766, 1140860832, 1140860834, 1140888762};

    if (field == 3894 || field == 3627 || field == 20004 || (field >= 42000 && field <= 42013) || (field >= 131296 && field <= 131307)) return true;
    if (field == 20002 && shares_code(e, illness, 3)) return true;
    if (field == 20003 && shares_code(e, drug, 4)) return true;
    if (field == 6150 && shares_code(e, (const double[]){1, 2}, 2)) return true;
    for (int i = 0; i < c->phenotype.selves; i++)
        if (c->phenotype.self[i].field == field && (e->kind != CADP_ANY || shares_code(e, c->phenotype.self[i].code, c->phenotype.self[i].codes))) return true;
    return false;
}

static bool is_later(int field)
{
    static const int later[] = {12336, 12340, 22330, 22331, 22332, 22333, 22334, 90012, 41202, 41204, 41262, 41263, 40000, 40001, 40002, 40007, 190, 191};

    return is_one_of(field, later, sizeof later / sizeof *later) || (field >= 41270 && field <= 41283) || (field >= 130000 && field <= 132605) || (field >= 110001 && field <= 110008);
}

static bool same_start(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);

    return !strncmp(a, b, n < m ? n : m);
}

/* A history of the outcome itself should be empty once prevalent people are out. */
static bool is_own_history(const cadp_cohort *c, const cadp_entry *e)
{
    for (int s = 0; s < CADP_DEATH; s++)
        for (int i = 0; i < e->codes_of[s].ins; i++)
            for (int k = 0; k < c->phenotype.hospital[s].ins; k++)
                if (same_start(e->codes_of[s].in[i], c->phenotype.hospital[s].in[k])) return true;
    return false;
}

static cad_status check_field(cadp_cohort *c, const cadp_entry *e, int field)
{
    static const int place_or_date[] = {52, 53, 54, 55, 40005, 42000, 20008, 20009, 20010}, enhanced[] = {26224, 26228};

    if (is_twin(c, e, field)) CAD_TRY(cadp_finding(c, "outcome_twin", e->name, 1, "field reports the outcome or its treatment", true));
    if (is_later(field)) CAD_TRY(cadp_finding(c, "after_baseline", e->name, 1, "field is measured or recorded after the index date", true));
    if (is_one_of(field, place_or_date, sizeof place_or_date / sizeof *place_or_date)) CAD_TRY(cadp_finding(c, "place_or_date", e->name, 1, "field is a date or the assessment centre", true));
    if (is_one_of(field, enhanced, 2)) CAD_TRY(cadp_finding(c, "enhanced_prs", e->name, 1, "score was trained on UK Biobank itself", false));
    return CAD_OK;
}

cad_status cadp_check_fields(cadp_cohort *c)
{
    for (int i = 0; i < c->fields.entries; i++) {
        const cadp_entry *e = &c->fields.entry[i];
        for (int k = 0; k < e->fields; k++) CAD_TRY(check_field(c, e, e->field[k]));
        if (e->instance > 0) CAD_TRY(cadp_finding(c, "after_baseline", e->name, 1, "field is of a later visit", true));
        if (e->kind == CADP_HISTORY && is_own_history(c, e)) CAD_TRY(cadp_finding(c, "outcome_twin", e->name, 1, "history shares codes with the phenotype", true));
    }
    return CAD_OK;
}

/* ---- a single column that tells too much ---- */

enum { ENOUGH = 10 }; /* with fewer on a side a high AUC is chance */

typedef struct pair { double v; int8_t y; } pair;

static int rising(const void *a, const void *b)
{
    const pair *x = a, *y = b;

    return (x->v > y->v) - (x->v < y->v);
}

/* Mann and Whitney, ties count half; NaN with fewer than `least` on a side. */
static double auc_of(pair *p, int64_t n, double least)
{
    double pairs = 0, ones = 0, zeros = 0;

    qsort(p, (size_t)n, sizeof *p, rising);
    for (int64_t i = 0; i < n;) {
        int64_t k = i;
        double one = 0, zero = 0;
        for (; k < n && p[k].v == p[i].v; k++) {
            one += p[k].y;
            zero += !p[k].y;
        }
        pairs += one * (zeros + zero / 2);
        ones += one;
        zeros += zero;
        i = k;
    }
    return ones >= least && zeros >= least ? pairs / ones / zeros : NAN;
}

double cadp_split_auc(const cadp_cohort *c, const double *risk, int split, int64_t *n, int64_t *events)
{
    pair *p = NULL;
    double auc;

    *n = *events = 0;
    if (cad_alloc(&p, (size_t)c->people, sizeof *p, "ranks")) {
        cad_clear();
        return NAN;
    }
    for (int64_t i = 0; i < c->people; i++) {
        if (!cadp_is_in(&c->person[i]) || c->person[i].split != split || isnan(risk[i])) continue;
        p[(*n)++] = (pair){risk[i], c->person[i].label};
        *events += c->person[i].label;
    }
    auc = auc_of(p, *n, 1);
    cad_free(&p);
    return auc;
}

/* Alone above 0.85 either way is no risk factor; nor is what is missing above 0.75. */
static cad_status check_entry(cadp_cohort *c, const cadp_entry *e, pair *p)
{
    int64_t n = 0, all = 0;
    double auc;

    for (int64_t i = 0; i < c->people; i++) {
        if (!cadp_is_in(&c->person[i]) || c->person[i].split != CADP_TRAIN) continue;
        double v = cadp_entry_value(c, e, i);
        if (!isnan(v)) p[n++] = (pair){v, c->person[i].label};
    }
    auc = n ? auc_of(p, n, ENOUGH) : NAN;
    if (auc > 0.85 || auc < 0.15) CAD_TRY(cadp_finding(c, "too_good", e->name, n, "people: this field alone ranks the outcome with an AUC beyond 0.85", true));
    for (int64_t i = 0; i < c->people; i++)
        if (cadp_is_in(&c->person[i]) && c->person[i].split == CADP_TRAIN) p[all++] = (pair){isnan(cadp_entry_value(c, e, i)), c->person[i].label};
    auc = n < all ? auc_of(p, all, ENOUGH) : NAN;
    if (auc > 0.75 || auc < 0.25) CAD_TRY(cadp_finding(c, "missing_tells", e->name, all - n, "people: whether this field is missing ranks the outcome with an AUC beyond 0.75", true));
    return CAD_OK;
}

/* Every rule stands in the list, also where it found nothing. */
static cad_status complete_list(cadp_cohort *c)
{
    static const struct { const char *rule, *says; } rules[] = {
        {"outcome_twin", "fields that report the outcome or its treatment"}, {"after_baseline", "fields measured or recorded after the index date"},
        {"place_or_date", "fields that are a date or the assessment centre"}, {"enhanced_prs", "scores trained on UK Biobank itself"},
        {"too_good", "fields that alone rank the outcome with an AUC beyond 0.85"}, {"missing_tells", "fields whose absence ranks the outcome with an AUC beyond 0.75"}};
    char quoted[64];

    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        snprintf(quoted, sizeof quoted, "\"%s\"", rules[i].rule);
        if (!strstr(c->findings.data, quoted)) CAD_TRY(cadp_finding(c, rules[i].rule, NULL, 0, rules[i].says, true));
    }
    return CAD_OK;
}

cad_status cadp_check_people(cadp_cohort *c)
{
    pair *p = NULL;
    cad_status st;

    CAD_TRY(cadp_check_sides(c));
    CAD_TRY(cad_alloc(&p, (size_t)c->people, sizeof *p, "ranks"));
    st = CAD_OK;
    for (int i = 0; i < c->fields.entries && !st; i++) st = check_entry(c, &c->fields.entry[i], p);
    cad_free(&p);
    return st ? st : complete_list(c);
}
