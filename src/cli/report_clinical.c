/* The clinical part of a report: from the rows and their other columns (subgroups, families, scores) to numbers. */
#include "report_priv.h"

#include <math.h>
#include <stdlib.h>

/* A cell of all files end to end. */
typedef struct place { const cadp_predictions *s; const char *column; int file, at; int64_t row; } place;
static bool next_cell(place *p, cad_cell *out)
{
    while (p->file < p->s->files && p->row >= cad_rows_count(p->s->rows[p->file])) {
        p->file++;
        p->row = 0;
    }
    if (p->file >= p->s->files) return false;
    if (!p->row) p->at = cad_rows_find(p->s->rows[p->file], p->column);
    *out = p->at < 0 ? (cad_cell){.kind = CAD_CELL_MISSING} : cad_rows_cell(p->s->rows[p->file], p->row, p->at);
    p->row++;
    return true;
}

static bool has_text(const cad_cell *c) { return (c->kind == CAD_CELL_TEXT || c->kind == CAD_CELL_INT || c->kind == CAD_CELL_REAL) && c->size > 0; }

static bool has_column(const cadp_predictions *s, const char *name)
{
    for (int i = 0; i < s->files; i++)
        if (cad_rows_find(s->rows[i], name) >= 0) return true;
    return false;
}

/* ---- families ---- */

static cad_status read_families(cadp_clinical_work *w)
{
    place p = {.s = w->s, .column = "group"};
    cad_map *seen = NULL;
    cad_cell cell;
    int64_t i = 0, families = 0;
    cad_status st;

    if (!has_column(w->s, "group")) return CAD_OK;
    CAD_TRY(cad_alloc(&w->family, (size_t)w->s->n, sizeof *w->family, "families"));
    st = cad_map_open(&seen);
    for (; !st && next_cell(&p, &cell); i++) {
        bool known = has_text(&cell) && cad_map_get(seen, cell.text, cell.size, &w->family[i]);
        if (known) continue;
        w->family[i] = families++;
        if (has_text(&cell)) st = cad_map_set(seen, cell.text, cell.size, w->family[i], NULL);
    }
    cad_map_close(&seen);
    w->page.families = families;
    return st ? st : cad_family_auc(&w->page.family_auc, w->s->labels, w->s->prob1, w->family, w->s->n);
}

/* ---- subgroups ---- */

static bool is_subgroup(const char *name)
{
    static const char *const known[] = {"sex", "age_group", "ethnicity", "deprivation", "region", "centre", "treated"};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i])) return true;
    return !strncmp(name, "subgroup_", 9);
}

typedef struct subset { int32_t *labels, *called; double *prob1, *logit; int64_t n; } subset;

static void close_subset(subset *u)
{
    cad_free(&u->labels);
    cad_free(&u->called);
    cad_free(&u->prob1);
}

static cad_status open_subset(subset *u, int64_t n)
{
    *u = (subset){0};
    CAD_TRY(cad_alloc(&u->labels, (size_t)n, sizeof *u->labels, "a subgroup"));
    CAD_TRY(cad_alloc(&u->called, (size_t)n, sizeof *u->called, "a subgroup"));
    return cad_alloc(&u->prob1, (size_t)n, sizeof *u->prob1, "a subgroup");
}

static void add_row(subset *u, const cadp_predictions *s, const double *risk, int64_t i)
{
    u->labels[u->n] = s->labels[i];
    u->called[u->n] = risk[i] >= 0.5;
    u->prob1[u->n++] = risk[i];
}

static bool holds(const cad_cell *c, const char *level) { return has_text(c) && c->size == strlen(level) && !memcmp(c->text, level, c->size); }

static cad_status measure_level(cadp_clinical_work *w, const char *column, const char *level, subset *u)
{
    place p = {.s = w->s, .column = column};
    cad_group_row *row = &w->groups[w->page.group_count];
    cad_metrics m;
    cad_cell cell;

    u->n = 0;
    for (int64_t i = 0; next_cell(&p, &cell); i++)
        if (holds(&cell, level)) add_row(u, w->s, w->risk, i);
    CAD_TRY(cad_metrics_compute(&m, u->labels, u->called, u->prob1, NULL, u->n, false));
    *row = (cad_group_row){column, level, u->n, m.positives, m.auc, cad_observed_to_expected(u->labels, u->prob1, u->n), m.auc_ci, false};
    w->page.group_count++;
    return CAD_OK;
}

static int by_word(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The distinct words of a column, at most sixteen; then it is no subgroup. */
static cad_status find_levels(cadp_clinical_work *w, const char *column, char **level, int *count)
{
    enum { MOST = 16 };
    place p = {.s = w->s, .column = column};
    cad_cell cell;
    bool many = false;

    for (*count = 0; next_cell(&p, &cell) && !many;) {
        int k = 0;
        if (!has_text(&cell) || cell.size > 60) continue;
        while (k < *count && !holds(&cell, level[k])) k++;
        many = k == *count && *count == MOST;
        if (k == *count && !many) CAD_TRY(cad_strdup(&level[(*count)++], cell.text));
    }
    for (int k = 0; many && k < *count; k++) cad_free(&level[k]);
    if (many) *count = 0;
    return CAD_OK;
}

static cad_status measure_column(cadp_clinical_work *w, const char *column)
{
    char **level = &w->levels[w->page.group_count];
    int count = 0;
    subset u;
    cad_status st;

    if (w->page.group_count + 16 > CADP_MOST_ROWS) return CAD_OK;
    CAD_TRY(find_levels(w, column, level, &count));
    qsort(level, (size_t)count, sizeof *level, by_word);
    st = open_subset(&u, w->s->n);
    for (int k = 0; k < count && !st; k++) st = measure_level(w, column, level[k], &u);
    close_subset(&u);
    return st;
}

/* ---- scores ---- */

cad_status cadp_clinical_compare(cadp_clinical_work *w, const char *name, const double *score)
{
    cad_compare_row *row = &w->compares[w->page.compare_count];
    const char *slash = strrchr(name, '/');
    int32_t *labels = NULL;
    int64_t *family = NULL, n = 0;
    double *a = NULL, *b = NULL;
    cad_status st;

    if (w->page.compare_count == CADP_MOST_COMPARED) return CAD_OK;
    st = cad_alloc(&labels, (size_t)w->s->n, sizeof *labels, "a comparison");
    if (!st) st = cad_alloc(&family, (size_t)w->s->n, sizeof *family, "a comparison");
    if (!st) st = cad_alloc(&a, (size_t)w->s->n, sizeof *a, "a comparison");
    if (!st) st = cad_alloc(&b, (size_t)w->s->n, sizeof *b, "a comparison");
    for (int64_t i = 0; !st && i < w->s->n; i++) {
        if (isnan(score[i])) continue;
        labels[n] = w->s->labels[i];
        family[n] = w->family ? w->family[i] : i;
        a[n] = w->s->prob1[i];
        b[n++] = score[i];
    }
    if (!st) st = cad_paired_auc(&row->pair, labels, a, b, w->family ? family : NULL, n);
    if (!st) st = cad_strdup(&w->compare_names[w->page.compare_count], slash ? slash + 1 : name);
    if (!st) row->name = w->compare_names[w->page.compare_count++];
    cad_free(&labels);
    cad_free(&family);
    cad_free(&a);
    cad_free(&b);
    return st;
}

static cad_status compare_column(cadp_clinical_work *w, const char *column)
{
    place p = {.s = w->s, .column = column};
    cad_cell cell;
    double *score = NULL;
    int64_t i = 0;
    cad_status st;

    CAD_TRY(cad_alloc(&score, (size_t)w->s->n, sizeof *score, "a score"));
    for (; next_cell(&p, &cell); i++)
        if (!cadp_number_of(cell, &score[i])) score[i] = NAN;
    st = cadp_clinical_compare(w, column + strlen("score_"), score);
    cad_free(&score);
    return st;
}

static cad_status read_columns(cadp_clinical_work *w)
{
    const cad_rows *first = w->s->files ? w->s->rows[0] : NULL;

    for (int i = 0; first && i < cad_rows_columns(first); i++) {
        const char *name = cad_rows_column(first, i);
        if (is_subgroup(name)) CAD_TRY(measure_column(w, name));
        if (!strncmp(name, "score_", 6)) CAD_TRY(compare_column(w, name));
    }
    cad_hide_small_groups(w->groups, w->page.group_count);
    w->page.groups = w->groups;
    w->page.compares = w->compares;
    return CAD_OK;
}

/* ---- fit, recalibration, operating points ---- */

static cad_status measure_fit(cadp_clinical_work *w)
{
    cad_clinical *c = &w->page;
    const cadp_predictions *s = w->s;

    c->observed_to_expected = cad_observed_to_expected(s->labels, s->prob1, s->n);
    c->scaled_brier = cad_scaled_brier(&s->metrics);
    return cad_smooth_calibration(&c->smooth, s->labels, s->prob1, s->n);
}

/* Platt: y ~ log-odds on the validation rows; without an answer there (one class, separated) the risks stay. */
static cad_status recalibrate(cadp_clinical_work *w, const cadp_predictions *v)
{
    cad_clinical *c = &w->page;
    cad_smooth smooth;
    cad_metrics m;

    for (int64_t i = 0; i < w->s->n; i++) w->risk[i] = w->s->prob1[i];
    if (!v || isnan(v->metrics.calibration_slope)) return CAD_OK;
    c->recalibrated = true;
    c->intercept = v->metrics.calibration_intercept;
    c->slope = v->metrics.calibration_slope;
    for (int64_t i = 0; i < w->s->n; i++) w->risk[i] = cad_recalibrated(w->s->prob1[i], c->intercept, c->slope);
    CAD_TRY(cad_metrics_compute(&m, w->s->labels, w->s->predictions, w->risk, NULL, w->s->n, true));
    CAD_TRY(cad_smooth_calibration(&smooth, w->s->labels, w->risk, w->s->n));
    c->brier_after = m.brier;
    c->slope_after = m.calibration_slope;
    c->ici_after = smooth.ici;
    c->observed_to_expected_after = cad_observed_to_expected(w->s->labels, w->risk, w->s->n);
    return CAD_OK;
}

static cad_status choose_threshold(cadp_clinical_work *w, const cadp_predictions *v, double specificity, double *out)
{
    const cadp_predictions *from = v ? v : w->s;

    CAD_TRY(cad_threshold_for(out, from->labels, from->prob1, from->n, specificity));
    if (v && w->page.recalibrated && !isnan(*out)) *out = cad_recalibrated(*out, w->page.intercept, w->page.slope);
    return CAD_OK;
}

static cad_status measure_points(cadp_clinical_work *w, const cadp_predictions *v)
{
    static const char *const names[CADP_POINTS] = {"risk 5%", "risk 7.5%", "risk 10%", "risk 20%", "specificity 90%", "specificity 95%"};
    double threshold[CADP_POINTS] = {0.05, 0.075, 0.10, 0.20};

    CAD_TRY(choose_threshold(w, v, 0.90, &threshold[4]));
    CAD_TRY(choose_threshold(w, v, 0.95, &threshold[5]));
    for (int k = 0; k < CADP_POINTS; k++) {
        if (isnan(threshold[k]) || threshold[k] >= 1) continue;
        w->points[w->page.point_count++] = (cad_operating_row){names[k], cad_point_at(w->s->labels, w->risk, w->s->n, threshold[k])};
    }
    w->page.points = w->points;
    w->page.points_from = v ? "Thresholds for a specificity were chosen on the validation rows; risks are recalibrated on them. Net benefit as in the decision curve."
                            : "Thresholds for a specificity were chosen on these very rows and are optimistic: give the validation rows with --validation. Net benefit as in the decision curve.";
    return CAD_OK;
}

static cad_status measure_weights(cadp_clinical_work *w)
{
    place p = {.s = w->s, .column = "weight"};
    cad_cell cell;
    double *weight = NULL;
    int64_t i = 0;
    cad_status st;

    if (!has_column(w->s, "weight")) return CAD_OK;
    CAD_TRY(cad_alloc(&weight, (size_t)w->s->n, sizeof *weight, "weights"));
    st = CAD_OK;
    for (; !st && next_cell(&p, &cell); i++)
        if (!cadp_number_of(cell, &weight[i]) || !(weight[i] >= 0)) st = cad_fail(CAD_EDATA, "%s:%d: weight: expected a number of at least 0", cad_rows_path(w->s->rows[p.file]), cad_rows_line(w->s->rows[p.file], p.row - 1));
    if (!st) st = cad_weighted_metrics(&w->page.weighted, w->s->labels, w->s->prob1, weight, w->s->n);
    w->page.has_weights = !st;
    cad_free(&weight);
    return st;
}

/* ---- what prepare wrote ---- */

static cad_status read_cohort(cadp_clinical_work *w, const char *dir)
{
    char *svg = NULL, *json = NULL;
    size_t size;
    cad_status st = cad_path_join(&svg, dir, "flow.svg");

    if (!st) st = cad_path_join(&json, dir, "cohort.json");
    if (!st && cad_is_file(svg)) st = cad_read_file(&w->svg, &size, svg, 1 << 20, CAD_EDATA);
    if (!st) st = cad_json_read(&w->cohort, json, 16 << 20, CAD_EDATA);
    if (!st) w->page.cohort = w->cohort->root;
    if (!st && w->svg && (strncmp(w->svg, "<svg ", 5) || strstr(w->svg, "<script") || strstr(w->svg, "href"))) st = cad_fail(CAD_EDATA, "%s: expected the picture that prepare wrote, found another", svg);
    w->page.flow_svg = w->svg;
    cad_free(&svg);
    cad_free(&json);
    return st;
}

cad_status cadp_clinical_open(cadp_clinical_work *w, const cadp_predictions *s, const cadp_predictions *validation, const char *cohort_dir)
{
    w->s = s;
    w->page.family_auc = (cad_interval){NAN, NAN};
    CAD_TRY(cad_alloc(&w->risk, (size_t)s->n, sizeof *w->risk, "risks"));
    CAD_TRY(measure_fit(w));
    CAD_TRY(recalibrate(w, validation));
    CAD_TRY(measure_points(w, validation));
    CAD_TRY(measure_weights(w));
    CAD_TRY(read_families(w));
    CAD_TRY(read_columns(w));
    return cohort_dir ? read_cohort(w, cohort_dir) : CAD_OK;
}

void cadp_clinical_close(cadp_clinical_work *w)
{
    for (int i = 0; i < CADP_MOST_ROWS; i++) cad_free(&w->levels[i]);
    for (int i = 0; i < CADP_MOST_COMPARED; i++) cad_free(&w->compare_names[i]);
    cad_free(&w->risk);
    cad_free(&w->family);
    cad_free(&w->svg);
    cad_tree_close(&w->cohort);
}

/* ---- metrics.json ---- */

static cad_status add_fit(const cad_clinical *c, cad_json *j)
{
    CAD_TRY(cad_json_real(j, "observed_to_expected", c->observed_to_expected));
    CAD_TRY(cad_json_real(j, "scaled_brier", c->scaled_brier));
    CAD_TRY(cad_json_real(j, "ici", c->smooth.ici));
    CAD_TRY(cad_json_real(j, "e50", c->smooth.e50));
    CAD_TRY(cad_json_real(j, "e90", c->smooth.e90));
    if (c->has_weights) {
        CAD_TRY(cad_json_begin(j, "weighted", '{'));
        CAD_TRY(cad_json_real(j, "people", c->weighted.people));
        CAD_TRY(cad_json_real(j, "auc", c->weighted.auc));
        CAD_TRY(cad_json_real(j, "brier", c->weighted.brier));
        CAD_TRY(cad_json_real(j, "observed_to_expected", c->weighted.observed_to_expected));
        CAD_TRY(cad_json_end(j));
    }
    if (c->families) CAD_TRY(cad_report_interval(j, "auc_ci_families", c->family_auc));
    if (!c->recalibrated) return CAD_OK;
    CAD_TRY(cad_json_begin(j, "recalibrated", '{'));
    CAD_TRY(cad_json_real(j, "intercept", c->intercept));
    CAD_TRY(cad_json_real(j, "slope", c->slope));
    CAD_TRY(cad_json_real(j, "brier", c->brier_after));
    CAD_TRY(cad_json_real(j, "observed_to_expected", c->observed_to_expected_after));
    CAD_TRY(cad_json_real(j, "calibration_slope", c->slope_after));
    CAD_TRY(cad_json_real(j, "ici", c->ici_after));
    return cad_json_end(j);
}

static cad_status add_point(const cad_operating_row *r, cad_json *j)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_string(j, "name", r->name));
    CAD_TRY(cad_json_real(j, "threshold", r->point.threshold));
    CAD_TRY(cad_json_real(j, "sensitivity", r->point.sensitivity));
    CAD_TRY(cad_json_real(j, "specificity", r->point.specificity));
    CAD_TRY(cad_json_real(j, "ppv", r->point.ppv));
    CAD_TRY(cad_json_real(j, "npv", r->point.npv));
    CAD_TRY(cad_json_real(j, "net_benefit", r->point.net_benefit));
    return cad_json_end(j);
}

static cad_status add_score(const cad_compare_row *r, cad_json *j)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_string(j, "name", r->name));
    CAD_TRY(cad_json_int(j, "n", r->pair.n));
    CAD_TRY(cad_json_int(j, "positives", r->pair.positives));
    CAD_TRY(cad_json_real(j, "auc_model", r->pair.auc_a));
    CAD_TRY(cad_json_real(j, "auc_score", r->pair.auc_b));
    CAD_TRY(cad_json_real(j, "difference", r->pair.difference));
    CAD_TRY(cad_report_interval(j, "difference_ci", r->pair.ci));
    CAD_TRY(cad_report_interval(j, "difference_ci_bootstrap", r->pair.bootstrap));
    CAD_TRY(cad_json_real(j, "p", r->pair.p));
    CAD_TRY(cad_json_real(j, "nri_events", r->pair.nri_events));
    CAD_TRY(cad_json_real(j, "nri_others", r->pair.nri_others));
    return cad_json_end(j);
}

static cad_status add_group(const cad_group_row *g, cad_json *j)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_string(j, "group", g->group));
    CAD_TRY(cad_json_string(j, "level", g->level));
    if (g->hidden) CAD_TRY(cad_json_bool(j, "suppressed", true));
    else {
        CAD_TRY(cad_json_int(j, "n", g->n));
        CAD_TRY(cad_json_int(j, "positives", g->events));
        CAD_TRY(cad_json_real(j, "auc", g->auc));
        CAD_TRY(cad_report_interval(j, "auc_ci", g->auc_ci));
        CAD_TRY(cad_json_real(j, "observed_to_expected", g->observed_to_expected));
    }
    return cad_json_end(j);
}

cad_status cadp_clinical_json(const cadp_clinical_work *w, cad_json *j)
{
    const cad_clinical *c = &w->page;

    CAD_TRY(cad_json_begin(j, "clinical", '{'));
    CAD_TRY(add_fit(c, j));
    CAD_TRY(cad_json_begin(j, "operating_points", '['));
    for (int i = 0; i < c->point_count; i++) CAD_TRY(add_point(&c->points[i], j));
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_begin(j, "scores", '['));
    for (int i = 0; i < c->compare_count; i++) CAD_TRY(add_score(&c->compares[i], j));
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_begin(j, "subgroups", '['));
    for (int i = 0; i < c->group_count; i++) CAD_TRY(add_group(&c->groups[i], j));
    CAD_TRY(cad_json_end(j));
    return cad_json_end(j);
}
