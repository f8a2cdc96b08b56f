/* The generator's door: all files at once, then what is true about them. */
#include "synth_files.h"

#include <errno.h>
#include <math.h>
#include <unistd.h>

enum { WITHDRAWALS = CADP_BASKETS + CADP_RECORDS, KINSHIP, TRUTH, FILES };
static const char *const basket_names[CADP_BASKETS] = {"basics", "visit", "blood", "life", "codes"};
static const char *const record_names[CADP_RECORDS] = {"hesin", "hesin_diag", "hesin_oper", "death", "death_cause"};
typedef struct ranked { double risk; int8_t label; } ranked;
typedef struct making {
    const cad_synth_plan *plan;
    cadp_maker maker;
    cadp_dictionary dictionary;
    const cadp_dialect *dialect[CADP_BASKETS];
    FILE *f[FILES];
    char name[FILES][64];
    int64_t fate[CADP_FATES], events;
    ranked *ranked;
    int64_t study;
} making;

static const cadp_dialect *dialect_of(const char *name)
{
    for (const cadp_dialect *d = cadp_dialects; d->name; d++)
        if (!strcmp(d->name, name)) return d;
    return NULL;
}

static cad_status choose_dialects(making *m)
{
    static const char *const mixed[CADP_BASKETS] = {"csv", "rap-labels", "tab", "rap-title", "rap"};
    const char *asked = m->plan->dialect && strcmp(m->plan->dialect, "mixed") ? m->plan->dialect : NULL;

    for (int b = 0; b < CADP_BASKETS; b++) m->dialect[b] = dialect_of(asked ? asked : mixed[b]);
    if (!m->dialect[0]) return cad_fail(CAD_EUSAGE, "--dialect: expected mixed, csv, txt, tab, rap, rap-labels, rap-title or ukb-format, found \"%.40s\"", asked);
    return CAD_OK;
}

static void name_files(making *m)
{
    for (int b = 0; b < CADP_BASKETS; b++) snprintf(m->name[b], sizeof m->name[b], "ukb_%s.%s", basket_names[b], m->dialect[b]->ending);
    for (int r = 0; r < CADP_RECORDS; r++) snprintf(m->name[CADP_BASKETS + r], sizeof m->name[0], "%s.txt", record_names[r]);
    snprintf(m->name[WITHDRAWALS], sizeof m->name[0], "w00000_20240101.csv");
    snprintf(m->name[KINSHIP], sizeof m->name[0], "ukb_rel.dat");
    snprintf(m->name[TRUTH], sizeof m->name[0], "truth.csv");
}

static cad_status open_files(making *m)
{
    char path[4096];

    for (int k = 0; k < FILES; k++) {
        if (snprintf(path, sizeof path, "%s/%s", m->plan->output, m->name[k]) >= (int)sizeof path) return cad_fail(CAD_EUSAGE, "--output: expected a shorter path");
        m->f[k] = fopen(path, "we");
        if (!m->f[k]) return cad_fail(CAD_ERESOURCE, "%s: cannot make the file: %s", path, strerror(errno));
        setvbuf(m->f[k], NULL, _IOFBF, 1 << 18);
    }
    return CAD_OK;
}

static cad_status close_files(making *m, cad_status st)
{
    for (int k = 0; k < FILES; k++) {
        bool bad = m->f[k] && ferror(m->f[k]);
        if (m->f[k] && (fclose(m->f[k]) || bad) && !st) st = cad_fail(CAD_ERESOURCE, "%s/%s: cannot write: %s", m->plan->output, m->name[k], strerror(errno));
    }
    return st;
}

static void put_kin(making *m, int64_t i, int64_t eid)
{
    cadp_made next;
    double kinship;

    if (!cadp_make_kin(&m->maker, i, &kinship)) return;
    cadp_make_person(&m->maker, i + 1, &next);
    fprintf(m->f[KINSHIP], "%lld %lld 0.05 0.01 %.4f\n", (long long)eid, (long long)next.eid, kinship);
}

static void put_person(making *m, int64_t i)
{
    static const char *const fates[CADP_FATES] = {"withdrawn", "no_linkage", "prevalent", "unknown_date", "case", "control", "censored"};
    cadp_made p;
    double risk;
    bool study;

    cadp_make_person(&m->maker, i, &p);
    for (int b = 0; b < CADP_BASKETS; b++) cadp_put_row(m->f[b], &m->dictionary, m->dialect[b], b, b ? 0 : m->plan->padding, &p);
    cadp_put_records(&m->f[CADP_BASKETS], &p);
    put_kin(m, i, p.eid);
    if (p.fate == CADP_FATE_WITHDRAWN) fprintf(m->f[WITHDRAWALS], "%lld\n", (long long)p.eid);
    risk = 1 / (1 + exp(-(p.linear + m->maker.offset)));
    study = p.fate == CADP_FATE_CASE || p.fate == CADP_FATE_CONTROL;
    fprintf(m->f[TRUTH], "%lld,%s,%.8f\n", (long long)p.eid, fates[p.fate], risk);
    m->fate[p.fate]++;
    if (study) m->ranked[m->study++] = (ranked){risk, p.fate == CADP_FATE_CASE};
}

static int rising(const void *a, const void *b)
{
    const ranked *x = a, *y = b;

    return (x->risk > y->risk) - (x->risk < y->risk);
}

static double best_auc(making *m)
{
    double pairs = 0, ones = 0, zeros = 0;

    qsort(m->ranked, (size_t)m->study, sizeof *m->ranked, rising);
    for (int64_t i = 0, k; i < m->study; i = k) {
        double one = 0, zero = 0;
        for (k = i; k < m->study && m->ranked[k].risk == m->ranked[i].risk; k++) {
            one += m->ranked[k].label;
            zero += !m->ranked[k].label;
        }
        pairs += one * (zeros + zero / 2);
        ones += one;
        zeros += zero;
    }
    return pairs / ones / zeros;
}

static cad_status write_text(const making *m, const char *name, const char *text, size_t n)
{
    char *path = NULL;
    cad_status st;

    CAD_TRY(cad_path_join(&path, m->plan->output, name));
    st = cad_write_file(path, text, n);
    cad_free(&path);
    return st;
}

static cad_status put_terms(cad_json *j)
{
    CAD_TRY(cad_json_string(j, "formula", "log-odds = offset + strength (1.25 (LP + 3.9) + the terms below) - 3.9; LP: log-odds of the PREVENT CHD base model, missing inputs at typical values of the sex; "
                                          "what is missing adds nothing"));
    CAD_TRY(cad_json_begin(j, "terms", '{'));
    CAD_TRY(cad_json_real(j, "male", .25));
    CAD_TRY(cad_json_real(j, "prs_cad", log(1.5)));
    CAD_TRY(cad_json_real(j, "ln_lpa_per_1.2", .15));
    CAD_TRY(cad_json_real(j, "ln_crp", .12));
    CAD_TRY(cad_json_real(j, "family_history", .15));
    return cad_json_end(j);
}

/* Mean change of the log-odds by each field: what explain should find. */
static cad_status put_importance(const making *m, cad_json *j)
{
    double of[CADP_RISK_FIELDS];

    cadp_measure_importance(&m->maker, of);
    CAD_TRY(cad_json_begin(j, "importance", '{'));
    for (int f = 0; f < CADP_RISK_FIELDS; f++) CAD_TRY(cad_json_real(j, cadp_risk_fields[f], of[f]));
    return cad_json_end(j);
}

static cad_status put_truth(making *m, cad_json *j)
{
    static const char *const keys[CADP_FATES] = {"withdrawn", "no_linkage", "prevalent", "unknown_date", "cases", "controls", "censored"};

    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_string(j, "note", "synthetic: a score on it proves the pipeline, not the medicine"));
    CAD_TRY(cad_json_int(j, "people", m->plan->people));
    CAD_TRY(cad_json_int(j, "seed", (int64_t)m->plan->seed));
    for (int k = 0; k < CADP_FATES; k++) CAD_TRY(cad_json_int(j, keys[k], m->fate[k]));
    CAD_TRY(cad_json_real(j, "incidence", (double)m->fate[CADP_FATE_CASE] / (double)m->study));
    CAD_TRY(cad_json_real(j, "best_reachable_auc", best_auc(m)));
    CAD_TRY(cad_json_real(j, "offset", m->maker.offset));
    CAD_TRY(cad_json_real(j, "strength", m->maker.strength));
    CAD_TRY(put_terms(j));
    CAD_TRY(put_importance(m, j));
    CAD_TRY(cad_json_end(j));
    return cad_str_add(&j->text, "\n", 1);
}

static cad_status write_truth(making *m)
{
    cad_json j = {.pretty = true};
    cad_status st = put_truth(m, &j);

    if (!st) st = write_text(m, "truth.json", j.text.data, j.text.size);
    cad_json_close(&j);
    return st;
}

static cad_status add_names(const making *m, cad_str *s, const char *key, int from, int to)
{
    CAD_TRY(cad_str_addf(s, "  %s:\n", key));
    for (int k = from; k < to; k++) CAD_TRY(cad_str_addf(s, "    - %s\n", m->name[k]));
    return CAD_OK;
}

static cad_status write_config(const making *m)
{
    cad_str s = {0};
    cad_status st = cad_str_addf(&s, "# Synthetic: nobody's records. `cadtrain prepare --config %s/cohort.yaml`\ncohort:\n", m->plan->output);

    if (!st) st = add_names(m, &s, "extracts", 0, CADP_BASKETS);
    if (!st) st = add_names(m, &s, "record_tables", CADP_BASKETS, CADP_BASKETS + CADP_RECORDS);
    if (!st) st = cad_str_addf(&s, "  withdrawals: %s\n  kinship: %s\n  censoring: censoring.yaml\n  output_dir: \"%s/prepared\"\n", m->name[WITHDRAWALS], m->name[KINSHIP], m->plan->output);
    if (!st) st = cad_str_addf(&s, "dataset:\n  train_file: \"%s/prepared/private/train.jsonl\"\n  validation_file: \"%s/prepared/private/validation.jsonl\"\n  test_file: \"%s/prepared/private/test.jsonl\"\n",
                               m->plan->output, m->plan->output, m->plan->output);
    if (!st) st = write_text(m, "cohort.yaml", s.data, s.size);
    cad_str_close(&s);
    return st;
}

static cad_status write_censoring(const making *m)
{
    static const char *const names[] = {"England", "Scotland", "Wales"};
    static const char *const centres[] = {"11001, 11002, 11006, 11007, 11008, 11009, 11010, 11011, 11012, 11013, 11014, 11016, 11017, 11018, 11020, 11021", "11004, 11005", "11003, 11022, 11023"};
    cad_str s = {0};
    cad_status st = cad_str_addf(&s, "# The state of December 2021: Welsh recruits of 2008 and later have less than ten years.\nnations:\n");

    for (int k = 0; k < 3 && !st; k++)
        st = cad_str_addf(&s, "  %s:\n    complete_until: \"%04d-%02d-%02d\"\n    centres: [%s]\n", names[k], (int)cadp_make_ends[k][0], (int)cadp_make_ends[k][1], (int)cadp_make_ends[k][2], centres[k]);
    if (!st) st = write_text(m, "censoring.yaml", s.data, s.size);
    cad_str_close(&s);
    return st;
}

static cad_status make_all(making *m)
{
    CAD_TRY(choose_dialects(m));
    CAD_TRY(cadp_dictionary_open(&m->dictionary, NULL));
    CAD_TRY(cadp_make_offset(&m->maker, m->plan->incidence));
    CAD_TRY(cad_mkdirs(m->plan->output));
    CAD_TRY(cad_alloc(&m->ranked, (size_t)m->plan->people, sizeof *m->ranked, "true risks"));
    name_files(m);
    CAD_TRY(open_files(m));
    for (int b = 0; b < CADP_BASKETS; b++) cadp_put_header(m->f[b], &m->dictionary, m->dialect[b], b, b ? 0 : m->plan->padding);
    cadp_put_record_headers(&m->f[CADP_BASKETS]);
    fputs("ID1 ID2 HetHet IBS0 Kinship\n", m->f[KINSHIP]);
    fputs("eid,fate,risk\n", m->f[TRUTH]);
    for (int64_t i = 0; i < m->plan->people; i++) put_person(m, i);
    return CAD_OK;
}

cad_status cad_synth_cohort(const cad_synth_plan *plan)
{
    making *m = NULL;
    cad_status st;

    CAD_TRY(cad_alloc(&m, 1, sizeof *m, "synthetic people"));
    m->plan = plan;
    m->maker = (cadp_maker){plan->seed, plan->people, 0, 0, plan->strength > 0 ? plan->strength : 1};
    st = close_files(m, make_all(m));
    if (!st) st = write_truth(m);
    if (!st) st = write_censoring(m);
    if (!st) st = write_config(m);
    if (!st) cad_info("%lld synthetic people, %lld cases; configuration: %s/cohort.yaml", (long long)plan->people, (long long)m->fate[CADP_FATE_CASE], plan->output);
    cadp_dictionary_close(&m->dictionary);
    cad_free(&m->ranked);
    cad_free(&m);
    return st;
}
