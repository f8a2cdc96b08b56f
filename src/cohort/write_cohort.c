/* private/: rows of people. share/: aggregates. */
#include "cohort_priv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const split_names[CADP_SPLITS] = {"train", "validation", "test"};

/* ---- a file that grows and takes its place at the end ---- */

typedef struct out_file { FILE *f; char path[4096], part[4112]; } out_file;

static cad_status open_out(out_file *o, const char *dir, const char *name)
{
    if (snprintf(o->path, sizeof o->path, "%s/%s", dir, name) >= (int)sizeof o->path) return cad_fail(CAD_EUSAGE, "%s: expected a shorter path", dir);
    snprintf(o->part, sizeof o->part, "%s.part", o->path);
    unlink(o->part);
    o->f = fopen(o->part, "wxe"); /* 0600 by the umask of the program */
    return o->f ? CAD_OK : cad_fail(CAD_ERESOURCE, "%s: cannot make the file: %s", o->part, strerror(errno));
}

static cad_status close_out(out_file *o, cad_status st)
{
    bool bad;

    if (!o->f) return st;
    bad = ferror(o->f) || fflush(o->f) || fsync(fileno(o->f));
    if ((fclose(o->f) || bad) && !st) st = cad_fail(CAD_ERESOURCE, "%s: cannot write: %s", o->part, strerror(errno));
    if (!st && rename(o->part, o->path)) st = cad_fail(CAD_ERESOURCE, "%s: cannot rename onto it: %s", o->path, strerror(errno));
    if (st) unlink(o->part);
    return st;
}

/* ---- one person ---- */

static cad_status put_score(cad_json *j, const char *name, double risk)
{
    char key[64];

    snprintf(key, sizeof key, "score_%s", name);
    return isnan(risk) ? cad_json_null(j, key) : cad_json_real(j, key, risk);
}

static cad_status put_report_columns(const cadp_cohort *c, cad_json *j, int64_t i)
{
    char group[24];

    snprintf(group, sizeof group, "%016llx", (unsigned long long)c->person[c->person[i].family].row);
    CAD_TRY(cad_json_string(j, "group", group));
    for (int g = 0; g < CADP_GROUPS; g++) CAD_TRY(cad_json_string(j, cadp_group_names[g], cadp_group_of(c, g, i)));
    if (c->plan->censored == CAD_CENSORED_WEIGHT) CAD_TRY(cad_json_real(j, "weight", c->person[i].weight));
    for (int k = 0; k < CAD_SCORES; k++) CAD_TRY(put_score(j, cad_score_name((cad_score)k), c->risk[k][i]));
    return put_score(j, "logistic", c->risk[CAD_SCORES][i]);
}

static cad_status put_values(const cadp_cohort *c, cad_json *j, int64_t i)
{
    char key[96];

    for (int e = 0; e < c->fields.entries; e++) {
        double v = cadp_entry_value(c, &c->fields.entry[e], i);
        snprintf(key, sizeof key, "value_%.60s", c->fields.entry[e].name);
        CAD_TRY(isnan(v) ? cad_json_null(j, key) : cad_json_real(j, key, v));
    }
    return CAD_OK;
}

static cad_status put_person(const cadp_cohort *c, cad_json *j, cad_str *prompt, int64_t i)
{
    char row[24];

    snprintf(row, sizeof row, "%016llx", (unsigned long long)c->person[i].row);
    CAD_TRY(cadp_prompt(c, i, prompt));
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_bytes(j, "input", prompt->data, prompt->size));
    CAD_TRY(cad_json_string(j, "output", c->person[i].label ? "1" : "0"));
    CAD_TRY(cad_json_string(j, "row", row));
    if (c->plan->columns != CAD_COLUMNS_NONE) CAD_TRY(put_report_columns(c, j, i));
    if (c->plan->columns == CAD_COLUMNS_ALL) CAD_TRY(put_values(c, j, i));
    return cad_json_end(j);
}

typedef struct order { uint64_t row; int64_t person; } order;
static int by_row(const void *a, const void *b)
{
    const order *x = a, *y = b;

    return (x->row > y->row) - (x->row < y->row);
}

static cad_status write_split(const cadp_cohort *c, const order *o, int64_t n, int split, const char *dir)
{
    out_file out = {0};
    cad_str prompt = {0};
    char name[32];
    cad_status st;

    snprintf(name, sizeof name, "%s.jsonl", split_names[split]);
    st = open_out(&out, dir, name);
    for (int64_t i = 0; i < n && !st; i++) {
        cad_json j = {0};
        if (c->person[o[i].person].split != split) continue;
        st = put_person(c, &j, &prompt, o[i].person);
        if (!st && (fwrite(j.text.data, 1, j.text.size, out.f) != j.text.size || fputc('\n', out.f) == EOF)) st = cad_fail(CAD_ERESOURCE, "%s: cannot write: %s", out.part, strerror(errno));
        cad_json_close(&j);
    }
    cad_str_close(&prompt);
    return close_out(&out, st);
}

static cad_status write_ids(const cadp_cohort *c, const char *dir)
{
    static const char *const why[CADP_STATUSES] = {"in", "no_date", "no_linkage", "unknown_date", "prevalent", "no_nation", "censored", "relative"};
    out_file out = {0};

    CAD_TRY(open_out(&out, dir, "ids.csv"));
    fprintf(out.f, "row,eid,status,split,label\n");
    for (int64_t i = 0; i < c->people; i++) {
        const cadp_person *p = &c->person[i];
        fprintf(out.f, "%016llx,%lld,%s,", (unsigned long long)p->row, (long long)p->eid, why[p->status]);
        if (cadp_is_in(p)) fprintf(out.f, "%s,%d\n", split_names[p->split], p->label);
        else fprintf(out.f, ",\n");
    }
    return close_out(&out, CAD_OK);
}

static cad_status write_private(const cadp_cohort *c, const char *dir)
{
    char *path = NULL;
    order *o = NULL;
    int64_t n = 0;
    cad_status st;

    CAD_TRY(cad_path_join(&path, dir, ".gitignore"));
    st = cad_write_file(path, "*\n", 2);
    cad_free(&path);
    if (!st) st = cad_alloc(&o, (size_t)c->people, sizeof *o, "the order of rows");
    for (int64_t i = 0; !st && i < c->people; i++)
        if (cadp_is_in(&c->person[i])) o[n++] = (order){c->person[i].row, i};
    if (!st) qsort(o, (size_t)n, sizeof *o, by_row);
    for (int s = 0; s < CADP_SPLITS && !st; s++) st = write_split(c, o, n, s, dir);
    cad_free(&o);
    return st ? st : write_ids(c, dir);
}

/* ---- aggregates ---- */

static cad_status put_count(cad_json *j, const char *key, int64_t n)
{
    return n > 0 && n < CADP_FEWEST ? cad_json_string(j, key, "<5") : cad_json_int(j, key, n);
}

typedef struct summary { int64_t n, missing, level[CADP_MOST_LEVELS]; double sum, squares; } summary;

static summary sum_up(const cadp_cohort *c, const cadp_entry *e, int label)
{
    summary s = {0};

    for (int64_t i = 0; i < c->people; i++) {
        double v;
        if (!cadp_is_in(&c->person[i]) || c->person[i].label != label) continue;
        v = cadp_entry_value(c, e, i);
        s.missing += isnan(v);
        if (isnan(v)) continue;
        s.n++;
        s.sum += v;
        s.squares += v * v;
        for (int k = 0; k < e->levels; k++) s.level[k] += e->level[k] == v;
    }
    return s;
}

/* Levels of one wording are one. */
static int64_t level_count(const cadp_entry *e, const summary *s, int k)
{
    int64_t n = 0;

    for (int i = 0; i < e->levels; i++) {
        if (strcmp(e->level_text[i], e->level_text[k])) continue;
        if (i < k) return -1; /* told already */
        n += s->level[i];
    }
    return n;
}

/* One small cell would follow from the others and the total: then those are told roughly. */
static cad_status put_roughly(cad_json *j, const char *key, int64_t n)
{
    if (n < CADP_FEWEST) return put_count(j, key, n);
    return n < 100 ? cad_json_string(j, key, ">=5") : cad_json_int(j, key, (n + 5) / 10 * 10);
}

static cad_status put_levels(cad_json *j, const cadp_entry *e, const summary *s)
{
    bool small = false;

    for (int k = 0; k < e->levels; k++) {
        int64_t n = level_count(e, s, k);
        small |= n > 0 && n < CADP_FEWEST;
    }
    CAD_TRY(cad_json_begin(j, "levels", '{'));
    for (int k = 0; k < e->levels; k++) {
        int64_t n = level_count(e, s, k);
        if (n >= 0) CAD_TRY(small ? put_roughly(j, e->level_text[k], n) : put_count(j, e->level_text[k], n));
    }
    return cad_json_end(j);
}

static cad_status put_summary(cad_json *j, const char *key, const cadp_entry *e, const summary *s)
{
    double mean = s->sum / (double)s->n;

    CAD_TRY(cad_json_begin(j, key, '{'));
    CAD_TRY(put_count(j, "n", s->n));
    CAD_TRY(put_count(j, "missing", s->missing));
    if (e->kind == CADP_CATEGORY) CAD_TRY(put_levels(j, e, s));
    else if (s->n < CADP_FEWEST) CAD_TRY(cad_json_null(j, "mean"));
    else if (e->kind == CADP_NUMBER) {
        CAD_TRY(cad_json_real(j, "mean", mean));
        CAD_TRY(cad_json_real(j, "sd", sqrt(fmax(s->squares / (double)s->n - mean * mean, 0))));
    } else {
        bool small = s->sum < CADP_FEWEST || (double)s->n - s->sum < CADP_FEWEST;
        CAD_TRY(small ? cad_json_null(j, "share_yes") : cad_json_real(j, "share_yes", mean));
    }
    return cad_json_end(j);
}

static cad_status put_entry(const cadp_cohort *c, cad_json *j, const cadp_entry *e)
{
    static const char *const kinds[] = {"number", "category", "any", "history"};
    summary with = sum_up(c, e, 1), without = sum_up(c, e, 0);

    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_string(j, "name", e->name));
    CAD_TRY(cad_json_string(j, "kind", kinds[e->kind]));
    CAD_TRY(cad_json_string(j, "unit", e->unit));
    CAD_TRY(cad_json_begin(j, "fields", '['));
    for (int k = 0; k < e->fields; k++) {
        const cadp_field *f = cadp_dictionary_field(&c->dictionary, e->field[k]);
        CAD_TRY(cad_json_begin(j, NULL, '{'));
        CAD_TRY(cad_json_int(j, "field", e->field[k]));
        CAD_TRY(cad_json_string(j, "title", f ? f->title : NULL));
        CAD_TRY(cad_json_end(j));
    }
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_string(j, "wording", e->wording ? e->wording : e->yes));
    CAD_TRY(put_summary(j, "with_event", e, &with));
    CAD_TRY(put_summary(j, "without_event", e, &without));
    return cad_json_end(j);
}

static cad_status put_splits(const cadp_cohort *c, cad_json *j)
{
    int64_t n[CADP_SPLITS] = {0}, events[CADP_SPLITS] = {0};
    bool small = false;

    for (int64_t i = 0; i < c->people; i++) {
        if (!cadp_is_in(&c->person[i])) continue;
        n[c->person[i].split]++;
        events[c->person[i].split] += c->person[i].label;
    }
    for (int s = 0; s < CADP_SPLITS; s++) small |= events[s] > 0 && events[s] < CADP_FEWEST;
    CAD_TRY(cad_json_begin(j, "splits", '{'));
    for (int s = 0; s < CADP_SPLITS; s++) {
        CAD_TRY(cad_json_begin(j, split_names[s], '{'));
        CAD_TRY(put_count(j, "people", n[s]));
        CAD_TRY(put_count(j, "events", small && events[s] >= CADP_FEWEST ? (events[s] + 5) / 10 * 10 : events[s]));
        CAD_TRY(small || events[s] < CADP_FEWEST ? cad_json_null(j, "prevalence") : cad_json_real(j, "prevalence", (double)events[s] / (double)n[s]));
        CAD_TRY(cad_json_end(j));
    }
    return cad_json_end(j);
}

/* Which input is missing how often, so that nobody wonders why a score is missing. */
static cad_status put_scores(const cadp_cohort *c, cad_json *j)
{
    CAD_TRY(cad_json_begin(j, "scores", '['));
    for (int k = 0; k <= CAD_SCORES; k++) {
        int64_t all = 0, known = 0, n, events;
        double auc;
        for (int64_t i = 0; i < c->people; i++) {
            all += cadp_is_in(&c->person[i]);
            known += cadp_is_in(&c->person[i]) && !isnan(c->risk[k][i]);
        }
        CAD_TRY(cad_json_begin(j, NULL, '{'));
        CAD_TRY(cad_json_string(j, "name", k == CAD_SCORES ? "logistic" : cad_score_name((cad_score)k)));
        CAD_TRY(put_count(j, "computable", known));
        CAD_TRY(put_count(j, "missing_inputs", all - known));
        for (int s = 0; s < CADP_SPLITS; s++) {
            char key[32];
            snprintf(key, sizeof key, "auc_%s", split_names[s]);
            auc = cadp_split_auc(c, c->risk[k], s, &n, &events);
            CAD_TRY(events < CADP_FEWEST || isnan(auc) ? cad_json_null(j, key) : cad_json_real(j, key, auc));
        }
        CAD_TRY(cad_json_end(j));
    }
    return cad_json_end(j);
}

static cad_status put_reading(const cadp_cohort *c, cad_json *j)
{
    CAD_TRY(cad_json_begin(j, "reading", '{'));
    CAD_TRY(cad_json_int(j, "bytes", c->bytes));
    CAD_TRY(cad_json_real(j, "seconds", c->seconds));
    CAD_TRY(put_count(j, "special_codes", c->special));
    CAD_TRY(put_count(j, "values_out_of_range", c->implausible));
    CAD_TRY(put_count(j, "values_given_as_labels", c->labels));
    CAD_TRY(put_count(j, "placeholder_dates", c->odd_days));
    CAD_TRY(put_count(j, "records_of_others", c->unmatched));
    CAD_TRY(put_count(j, "records_without_episode", c->no_episode));
    CAD_TRY(put_count(j, "kin_pairs", c->kin_pairs));
    CAD_TRY(put_count(j, "equal_records", c->joined_prompts));
    return cad_json_end(j);
}

static cad_status put_cohort(const cadp_cohort *c, cad_json *j)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_string(j, "phenotype", c->phenotype.name));
    CAD_TRY(cad_json_string(j, "about", c->phenotype.about));
    CAD_TRY(cad_json_real(j, "horizon_years", c->plan->horizon_years));
    CAD_TRY(cad_json_string(j, "prevalent", c->plan->prevalent ? "keep" : "exclude"));
    CAD_TRY(cad_json_string(j, "censored", c->plan->censored ? "weight" : "exclude"));
    CAD_TRY(cad_json_string(j, "split", c->plan->split ? "centre" : "random"));
    CAD_TRY(cad_json_int(j, "seed", (int64_t)c->plan->seed));
    CAD_TRY(cad_json_string(j, "template", c->plan->template_text));
    CAD_TRY(put_splits(c, j));
    CAD_TRY(put_scores(c, j));
    CAD_TRY(cad_json_begin(j, "checks", '['));
    CAD_TRY(c->findings.size ? cad_json_raw(j, NULL, c->findings.data) : CAD_OK);
    CAD_TRY(cad_json_end(j));
    CAD_TRY(put_reading(c, j));
    CAD_TRY(cad_json_begin(j, "fields", '['));
    for (int i = 0; i < c->fields.entries; i++) CAD_TRY(put_entry(c, j, &c->fields.entry[i]));
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_end(j));
    return cad_str_add(&j->text, "\n", 1);
}

static cad_status write_share(const cadp_cohort *c, const char *dir)
{
    cad_json j = {.pretty = true};
    char *path = NULL;
    cad_status st = put_cohort(c, &j);

    if (!st) st = cad_path_join(&path, dir, "cohort.json");
    if (!st) st = cad_write_file(path, j.text.data, j.text.size);
    cad_free(&path);
    cad_json_close(&j);
    return st ? st : cadp_write_flow(c, dir);
}

cad_status cadp_write_cohort(cadp_cohort *c)
{
    char *private = NULL, *share = NULL;
    cad_status st = cad_path_join(&private, c->plan->output_dir, "private");

    if (!st) st = cad_path_join(&share, c->plan->output_dir, "share");
    if (!st) st = cad_mkdirs(private);
    if (!st) st = cad_mkdirs(share);
    if (!st) st = write_private(c, private);
    if (!st) st = write_share(c, share);
    cad_free(&private);
    cad_free(&share);
    return st;
}
