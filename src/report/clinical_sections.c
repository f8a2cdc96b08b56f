/* Comparisons, operating points, subgroups, the cohort and its flow: what a clinical reader looks for after the curves. */
#include "page_priv.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static bool is_small(const cad_group_row *g) { return g->n < CADP_FEW || g->events < CADP_FEW || g->n - g->events < CADP_FEW; }

static void hide_neighbour(cad_group_row *rows, int from, int to)
{
    int small = 0, next = -1;

    for (int i = from; i < to; i++) {
        small += rows[i].hidden;
        if (!rows[i].hidden && (next < 0 || rows[i].n < rows[next].n)) next = i;
    }
    if (small == 1 && next >= 0) rows[next].hidden = true;
}

void cad_hide_small_groups(cad_group_row *rows, int count)
{
    for (int i = 0; i < count; i++) rows[i].hidden = is_small(&rows[i]);
    for (int from = 0, to; from < count; from = to) {
        for (to = from; to < count && !strcmp(rows[to].group, rows[from].group); to++) {}
        hide_neighbour(rows, from, to);
    }
}

static void number(char out[32], double x, int digits)
{
    if (isnan(x)) snprintf(out, 32, "&#8211;");
    else snprintf(out, 32, "%.*f", digits, x);
}

static void spaced(cadp_page *p, const char *text)
{
    for (; *text; text++) cadp_page_escape(p, (char[]){*text == '_' ? ' ' : *text, 0});
}

/* ---- calibration in numbers ---- */

static void fit_row(cadp_page *p, const char *name, double before, double after, bool both, const char *meaning)
{
    char a[32], b[32];

    number(a, before, 4);
    number(b, after, 4);
    cadp_page_put(p, "<tr><th scope=\"row\">%s</th><td>%s</td>", name, a);
    if (both) cadp_page_put(p, "<td>%s</td>", b);
    cadp_page_put(p, "<td class=\"text soft\">%s</td></tr>\n", meaning);
}

static void put_fit(cadp_page *p, const cad_clinical *c, const cad_metrics *m)
{
    bool both = c->recalibrated;

    cadp_page_raw(p, "<section><h2>How well the risks fit</h2>\n");
    if (both) cadp_page_put(p, "<p>Recalibrated with intercept %.3f and slope %.3f, fitted on the validation rows; the ranking is the same.</p>\n", c->intercept, c->slope);
    cadp_page_put(p, "<div class=\"scroll\"><table><thead><tr><th scope=\"col\"></th><th scope=\"col\">As predicted</th>%s<th scope=\"col\" style=\"text-align:left\">What it says</th></tr></thead><tbody>\n",
                  both ? "<th scope=\"col\">Recalibrated</th>" : "");
    fit_row(p, "Observed to expected events", c->observed_to_expected, c->observed_to_expected_after, both, "best: 1; below 1: risks are too high");
    fit_row(p, "Calibration slope", m->calibration_slope, c->slope_after, both, "best: 1; below 1: too extreme");
    fit_row(p, "Integrated calibration index", c->smooth.ici, c->ici_after, both, "mean distance from the smooth curve; best: 0");
    fit_row(p, "Brier score", m->brier, c->brier_after, both, "mean squared error");
    cadp_page_put(p, "</tbody></table></div><p class=\"lead\">Scaled Brier score %.3f (1: perfect; 0: no better than the mean risk). Half of the people lie within %.4f of the smooth curve, "
                     "nine of ten within %.4f.</p>\n", c->scaled_brier, c->smooth.e50, c->smooth.e90);
    if (c->has_weights) cadp_page_put(p, "<p>With the weights for those whose follow-up ended early: AUC %.3f, Brier score %.4f, observed to expected %.3f. Other numbers of this page are without them.</p>\n",
                                      c->weighted.auc, c->weighted.brier, c->weighted.observed_to_expected);
    cadp_page_raw(p, "</section>\n");
}

/* ---- operating points ---- */

static bool shows(const cad_point *q)
{
    const int64_t cell[] = {q->tp, q->fp, q->fn, q->tn};

    for (int i = 0; i < 4; i++)
        if (cell[i] > 0 && cell[i] < CADP_FEW) return false;
    return true;
}

static void percent(char out[32], double x)
{
    if (isnan(x)) snprintf(out, 32, "&#8211;");
    else snprintf(out, 32, "%.1f%%", 100 * x);
}

static void put_point(cadp_page *p, const cad_operating_row *r)
{
    char text[5][32], called[32];

    percent(text[0], r->point.sensitivity);
    percent(text[1], r->point.specificity);
    percent(text[2], r->point.ppv);
    percent(text[3], r->point.npv);
    number(text[4], r->point.net_benefit, 4);
    cadp_people_text(called, r->point.tp + r->point.fp);
    cadp_page_raw(p, "<tr><th scope=\"row\">");
    cadp_page_escape(p, r->name);
    cadp_page_put(p, "</th><td>%.2f%%</td>", 100 * r->point.threshold);
    if (shows(&r->point)) cadp_page_put(p, "<td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>\n", called, text[0], text[1], text[2], text[3], text[4]);
    else cadp_page_put(p, "<td colspan=\"6\" class=\"soft\">a cell has fewer than %d people</td></tr>\n", CADP_FEW);
}

static void put_points(cadp_page *p, const cad_clinical *c)
{
    if (!c->point_count) return;
    cadp_page_raw(p, "<section><h2>Decisions at a threshold</h2><div class=\"scroll\"><table><thead><tr><th scope=\"col\">Called when</th><th scope=\"col\">Risk at least</th><th scope=\"col\">Called</th>"
                     "<th scope=\"col\">Sensitivity</th><th scope=\"col\">Specificity</th><th scope=\"col\">PPV</th><th scope=\"col\">NPV</th><th scope=\"col\">Net benefit</th></tr></thead><tbody>\n");
    for (int i = 0; i < c->point_count; i++) put_point(p, &c->points[i]);
    cadp_page_raw(p, "</tbody></table></div><p class=\"lead\">");
    cadp_page_escape(p, c->points_from);
    cadp_page_raw(p, "</p></section>\n");
}

/* ---- other scores ---- */

static void put_comparison(cadp_page *p, const cad_compare_row *r)
{
    char people[32], events[32], ci[64], boot[64], p_text[32];

    cadp_page_raw(p, "<tr><th scope=\"row\">");
    spaced(p, r->name);
    cadp_people_text(people, r->pair.n);
    cadp_people_text(events, r->pair.positives);
    cadp_between(ci, r->pair.ci);
    cadp_between(boot, r->pair.bootstrap);
    if (r->pair.p < 0.001) snprintf(p_text, sizeof p_text, "&lt;0.001");
    else number(p_text, r->pair.p, 3);
    cadp_page_put(p, "</th><td>%s</td><td>%s</td>", people, events);
    if (r->pair.positives < CADP_FEW || isnan(r->pair.difference)) cadp_page_raw(p, "<td colspan=\"6\" class=\"soft\">too few events</td></tr>\n");
    else cadp_page_put(p, "<td>%.3f</td><td>%.3f</td><td>%+.3f</td><td>%s</td><td>%s</td><td>%s</td></tr>\n", r->pair.auc_a, r->pair.auc_b, r->pair.difference, ci, boot, p_text);
}

static void put_reclassification(cadp_page *p, const cad_clinical *c)
{
    cadp_page_raw(p, "<details><summary>Reclassification</summary><table><thead><tr><th scope=\"col\">From the score to the model</th><th scope=\"col\">Events: up less down</th>"
                     "<th scope=\"col\">Others: down less up</th></tr></thead><tbody>\n");
    for (int i = 0; i < c->compare_count; i++) {
        const cad_paired *q = &c->compares[i].pair;
        if (q->positives < CADP_FEW || isnan(q->nri_events)) continue;
        cadp_page_raw(p, "<tr><th scope=\"row\">");
        spaced(p, c->compares[i].name);
        cadp_page_put(p, "</th><td>%+.3f</td><td>%+.3f</td></tr>\n", q->nri_events, q->nri_others);
    }
    cadp_page_raw(p, "</tbody></table><p>Continuous net reclassification (Pencina 2011). It follows the level of the risks as much as their order: read it with the calibration.</p></details>\n");
}

static void put_comparisons(cadp_page *p, const cad_clinical *c)
{
    if (!c->compare_count) return;
    cadp_page_raw(p, "<section><h2>Beside other scores</h2><div class=\"scroll\"><table><thead><tr><th scope=\"col\">Score</th><th scope=\"col\">People</th><th scope=\"col\">Events</th>"
                     "<th scope=\"col\">AUC of the model</th><th scope=\"col\">AUC of the score</th><th scope=\"col\">Difference</th><th scope=\"col\">95% (DeLong)</th>"
                     "<th scope=\"col\">95% (bootstrap)</th><th scope=\"col\">p</th></tr></thead><tbody>\n");
    for (int i = 0; i < c->compare_count; i++) put_comparison(p, &c->compares[i]);
    cadp_page_raw(p, "</tbody></table></div><p class=\"lead\">Each row on the people for whom the score can be computed. Above 0: the model ranks better. Framingham, PCE and SCORE2 predict wider "
                     "outcomes than coronary disease: compare their ranking, not their level. SCORE2 was derived on UK Biobank among others.</p>\n");
    put_reclassification(p, c);
    cadp_page_raw(p, "</section>\n");
}

/* ---- subgroups: a table, and the areas as a forest ---- */

static void put_group(cadp_page *p, const cad_group_row *g, bool first)
{
    char people[32], events[32], auc[32], ci[64], fit[32];

    cadp_people_text(people, g->n);
    cadp_people_text(events, g->events);
    number(auc, g->auc, 3);
    number(fit, g->observed_to_expected, 2);
    cadp_between(ci, g->auc_ci);
    cadp_page_raw(p, "<tr><th scope=\"row\">");
    if (first) spaced(p, g->group);
    cadp_page_raw(p, "</th><td class=\"text\">");
    cadp_page_escape(p, g->level);
    if (g->hidden) cadp_page_raw(p, "</td><td colspan=\"5\" class=\"soft\">not shown: a small group, or one that would give a small group away</td></tr>\n");
    else cadp_page_put(p, "</td><td>%s</td><td>%s</td><td>%s</td><td class=\"soft\">%s</td><td>%s</td></tr>\n", people, events, auc, ci, fit);
}

static void draw_forest(cadp_page *p, const cad_clinical *c, double all)
{
    enum { LEFT = 250, RIGHT = 470, ROW = 20 };
    int shown = 0, y = 8;

    for (int i = 0; i < c->group_count; i++) shown += !c->groups[i].hidden && !isnan(c->groups[i].auc_ci.low);
    if (!shown || isnan(all)) return;
    cadp_page_put(p, "<figure id=\"forest\" style=\"max-width:560px\"><h3>AUC in subgroups</h3><svg viewBox=\"0 0 480 %d\" role=\"img\" aria-label=\"AUC with 95 percent intervals in subgroups\">\n", shown * ROW + 40);
    for (int k = 5; k <= 10; k++) {
        double x = LEFT + (RIGHT - LEFT) * (k - 5) / 5.0;
        cadp_page_put(p, "<line class=\"grid\" x1=\"%.1f\" y1=\"4\" x2=\"%.1f\" y2=\"%d\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.1f</text>\n", x, x, shown * ROW + 10, x, shown * ROW + 28, k / 10.0);
    }
    cadp_page_put(p, "<path class=\"ref\" d=\"M%.1f 4V%d\"/>\n", LEFT + (RIGHT - LEFT) * fmax(all - .5, 0) / .5, shown * ROW + 10);
    for (int i = 0; i < c->group_count; i++) {
        const cad_group_row *g = &c->groups[i];
        double low = fmax(g->auc_ci.low - .5, 0) / .5, high = fmax(g->auc_ci.high - .5, 0) / .5, at = fmax(g->auc - .5, 0) / .5;
        if (g->hidden || isnan(g->auc_ci.low)) continue;
        cadp_page_put(p, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", LEFT - 12, y + 12);
        spaced(p, g->group);
        cadp_page_raw(p, ": ");
        cadp_page_escape(p, g->level);
        cadp_page_put(p, "</text><path class=\"thin\" d=\"M%.1f %dH%.1f\"/><circle class=\"fa\" cx=\"%.1f\" cy=\"%d\" r=\"4\"/>\n", LEFT + (RIGHT - LEFT) * low, y + 8, LEFT + (RIGHT - LEFT) * high,
                      LEFT + (RIGHT - LEFT) * at, y + 8);
        y += ROW;
    }
    cadp_page_raw(p, "</svg><figcaption>Dashed: everybody. Lines: 95% intervals.</figcaption></figure>\n");
}

static void put_groups(cadp_page *p, const cad_clinical *c, double all)
{
    if (!c->group_count) return;
    cadp_page_raw(p, "<section><h2>Subgroups</h2>\n<div class=\"scroll\"><table><thead><tr><th scope=\"col\"></th><th scope=\"col\" style=\"text-align:left\">Group</th><th scope=\"col\">People</th>"
                     "<th scope=\"col\">Events</th><th scope=\"col\">AUC</th><th scope=\"col\">95% interval</th><th scope=\"col\">Observed : expected</th></tr></thead><tbody>\n");
    for (int i = 0; i < c->group_count; i++) put_group(p, &c->groups[i], !i || strcmp(c->groups[i].group, c->groups[i - 1].group));
    cadp_page_raw(p, "</tbody></table></div>\n");
    draw_forest(p, c, all);
    cadp_page_raw(p, "</section>\n");
}

/* ---- the cohort ---- */

/* A number, or the text of a suppressed one. */
static void node_text(cadp_page *p, const cad_node *n, int digits)
{
    if (!n || n->kind == CAD_NULL) cadp_page_raw(p, "&#8211;");
    else if (n->kind == CAD_STRING) cadp_page_escape(p, n->text);
    else if (n->kind == CAD_INT) {
        char text[32];
        cadp_people_text(text, n->integer);
        cadp_page_raw(p, text);
    } else cadp_page_put(p, "%.*f", digits, n->real);
}

static void put_side(cadp_page *p, const cad_node *s)
{
    const cad_node *yes = s ? cad_get(s, "share_yes") : NULL, *mean = s ? cad_get(s, "mean") : NULL;

    cadp_page_raw(p, "<td>");
    if (yes && yes->kind == CAD_REAL) cadp_page_put(p, "%.1f%%", 100 * yes->real);
    else if (mean && mean->kind == CAD_REAL) {
        cadp_page_put(p, "%.2f (", mean->real);
        node_text(p, cad_get(s, "sd"), 2);
        cadp_page_raw(p, ")");
    } else cadp_page_raw(p, "&#8211;");
    cadp_page_raw(p, "</td><td class=\"soft\">");
    node_text(p, s ? cad_get(s, "missing") : NULL, 0);
    cadp_page_raw(p, "</td>");
}

static void put_share(cadp_page *p, const cad_node *level, const cad_node *side)
{
    const cad_node *n = side ? cad_get(side, "n") : NULL;

    if (level && level->kind == CAD_INT && n && n->kind == CAD_INT && n->integer > 0) cadp_page_put(p, "<td>%.1f%%</td><td></td>", 100 * level->real / n->real);
    else if (level && level->kind == CAD_STRING) {
        cadp_page_raw(p, "<td>");
        cadp_page_escape(p, level->text);
        cadp_page_raw(p, "</td><td></td>");
    } else cadp_page_raw(p, "<td>&#8211;</td><td></td>");
}

static void put_levels(cadp_page *p, const cad_node *with, const cad_node *without)
{
    const cad_node *a = with ? cad_get(with, "levels") : NULL, *b = without ? cad_get(without, "levels") : NULL;

    for (const cad_node *l = a ? a->child : NULL; l; l = l->next) {
        cadp_page_raw(p, "<tr><th scope=\"row\" class=\"soft\">&#160;&#160;");
        cadp_page_escape(p, l->key);
        cadp_page_raw(p, "</th>");
        put_share(p, l, with);
        put_share(p, b ? cad_get(b, l->key) : NULL, without);
        cadp_page_raw(p, "</tr>\n");
    }
}

static void put_field(cadp_page *p, const cad_node *f)
{
    const cad_node *name = cad_get(f, "name"), *unit = cad_get(f, "unit"), *with = cad_get(f, "with_event"), *without = cad_get(f, "without_event");

    cadp_page_raw(p, "<tr><th scope=\"row\">");
    spaced(p, name && name->text ? name->text : "");
    if (unit && unit->kind == CAD_STRING) {
        cadp_page_raw(p, ", ");
        cadp_page_escape(p, unit->text);
    }
    cadp_page_raw(p, "</th>");
    put_side(p, with);
    put_side(p, without);
    cadp_page_raw(p, "</tr>\n");
    put_levels(p, with, without);
}

static void put_check(cadp_page *p, const cad_node *k)
{
    const cad_node *rule = cad_get(k, "rule"), *field = cad_get(k, "field"), *says = cad_get(k, "says"), *verdict = cad_get(k, "verdict");

    cadp_page_raw(p, "<tr><th scope=\"row\">");
    spaced(p, rule && rule->text ? rule->text : "");
    cadp_page_raw(p, "</th><td class=\"text\">");
    if (field && field->text) cadp_page_escape(p, field->text);
    cadp_page_raw(p, "</td><td>");
    node_text(p, cad_get(k, "count"), 0);
    cadp_page_raw(p, "</td><td class=\"text\">");
    if (verdict && verdict->text) cadp_page_escape(p, verdict->text);
    cadp_page_raw(p, "</td><td class=\"text soft\">");
    if (says && says->text) cadp_page_escape(p, says->text);
    cadp_page_raw(p, "</td></tr>\n");
}

static void put_cohort(cadp_page *p, const cad_clinical *c)
{
    const cad_node *fields = c->cohort ? cad_get(c->cohort, "fields") : NULL, *checks = c->cohort ? cad_get(c->cohort, "checks") : NULL;

    if (!c->flow_svg && !c->cohort) return;
    cadp_page_raw(p, "<section><h2>The people</h2>\n");
    if (c->flow_svg) {
        cadp_page_raw(p, "<figure id=\"flow\" style=\"max-width:640px\"><h3>Who is in the study</h3>");
        cadp_page_raw(p, c->flow_svg);
        cadp_page_raw(p, "</figure>");
    }
    if (fields) {
        cadp_page_raw(p, "<h3 style=\"margin-top:24px\">At the assessment</h3><div class=\"scroll\"><table><thead><tr><th scope=\"col\"></th><th scope=\"col\">With the event: mean (SD) or share</th>"
                         "<th scope=\"col\">missing</th><th scope=\"col\">Without</th><th scope=\"col\">missing</th></tr></thead><tbody>\n");
        for (const cad_node *f = fields->child; f; f = f->next) put_field(p, f);
        cadp_page_raw(p, "</tbody></table></div>\n");
    }
    if (checks && checks->child) {
        cadp_page_raw(p, "<h3>Checks for leakage</h3><div class=\"scroll\"><table><thead><tr><th scope=\"col\">Rule</th><th scope=\"col\" style=\"text-align:left\">Field</th><th scope=\"col\">Found</th>"
                         "<th scope=\"col\" style=\"text-align:left\">Verdict</th><th scope=\"col\" style=\"text-align:left\">What was looked for</th></tr></thead><tbody>\n");
        for (const cad_node *k = checks->child; k; k = k->next) put_check(p, k);
        cadp_page_raw(p, "</tbody></table></div>\n");
    }
    cadp_page_raw(p, "</section>\n");
}

void cadp_clinical_sections(cadp_page *p, const cad_report *r)
{
    const cad_clinical *c = r->clinical;

    if (r->metrics) put_fit(p, c, r->metrics);
    put_points(p, c);
    put_comparisons(p, c);
    put_groups(p, c, r->metrics ? r->metrics->auc : NAN);
    put_cohort(p, c);
}

/* TRIPOD+AI (BMJ 2024;385:e078378), items in short: what the program knows stands, the rest is a marked gap. */
void cadp_checklist(cadp_page *p, const cad_report *r)
{
    const cad_clinical *c = r->clinical;
    const char *gap = "to be written by the authors";
    const struct { const char *item, *text; } rows[] = {
        {"Title, abstract, background (1-3)", gap}, {"Objectives (4)", gap},
        {"Data sources, dates (5, 6)", c->cohort ? "UK Biobank extracts as prepared; dates of the registers in the censoring file" : gap},
        {"Eligibility, flow of people (6, 20)", c->flow_svg ? "flow chart above" : gap},
        {"Data preparation (7)", c->cohort ? "fields and wording in share/cohort.json" : gap},
        {"Outcome and horizon (8)", c->cohort ? "phenotype and horizon in share/cohort.json" : gap},
        {"Predictors (9)", c->cohort ? "table above" : gap},
        {"Sample size (10)", r->metrics ? "people and events above; its justification " "is to be written by the authors" : gap},
        {"Missing data (11)", c->cohort ? "counts above; a record does not mention what is missing" : gap},
        {"Analysis, performance measures (12)", "discrimination, calibration, net benefit and subgroups above, with intervals"},
        {"Class imbalance (13)", c->recalibrated ? "recalibrated on validation rows" : "no recalibration in this report"},
        {"Fairness (14)", c->group_count ? "subgroups above" : gap},
        {"Model output, thresholds (15)", c->point_count ? "decisions at a threshold above" : gap},
        {"Ethics, funding, conflicts, protocol (17, 18)", gap}, {"Open science: data, code (18)", gap},
        {"Limitations, use in practice (25-27)", gap}};

    cadp_page_raw(p, "<section><h2>Reporting checklist</h2><p>After TRIPOD+AI, shortened. What the program knows is filled in; the rest is a gap for the authors.</p><div class=\"scroll\"><table><tbody>\n");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cadp_page_put(p, "<tr><th scope=\"row\">%s</th><td class=\"text%s\">%s</td></tr>\n", rows[i].item, rows[i].text == gap ? " soft" : "", rows[i].text);
    cadp_page_raw(p, "</tbody></table></div></section>\n");
}
