#include "page_priv.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* 12345678 -> 12,345,678 */
static void group_digits(char out[32], int64_t n)
{
    char plain[32];
    int size = snprintf(plain, sizeof plain, "%" PRId64, n), k = 0;

    for (int i = 0; i < size; i++) {
        if (i && (size - i) % 3 == 0 && plain[i - 1] != '-') out[k++] = ',';
        out[k++] = plain[i];
    }
    out[k] = 0;
}

void cadp_people_text(char out[32], int64_t n)
{
    if (n > 0 && n < CADP_FEW) snprintf(out, 32, "&lt;%d", CADP_FEW);
    else group_digits(out, n);
}

static void number(char out[32], double x)
{
    if (isnan(x)) snprintf(out, 32, "not defined");
    else snprintf(out, 32, "%.3f", x);
}

void cadp_between(char out[64], cad_interval x)
{
    if (isnan(x.low)) *out = 0;
    else snprintf(out, 64, "%.3f to %.3f", x.low, x.high);
}

static void tile(cadp_page *p, const char *what, double value, const char *below)
{
    char text[32];

    number(text, value);
    cadp_page_put(p, "<div class=\"tile\"><span class=\"what\">%s</span><b>%s</b><span>%s</span></div>\n", what, isnan(value) ? "&#8211;" : text, below);
}

void cadp_tiles(cadp_page *p, const cad_metrics *m)
{
    char people[32], events[32], text[128], range[64];
    double rate = (double)m->positives / (double)m->n;

    cadp_people_text(people, m->n);
    cadp_people_text(events, m->positives);
    cadp_page_put(p, "<div class=\"tiles\">\n<div class=\"tile\"><span class=\"what\">People</span><b>%s</b>"
                     "<span>%s with the event</span></div>\n", people, events);
    cadp_between(range, m->auc_ci);
    snprintf(text, sizeof text, "%s%s", *range ? "95% interval " : "", range);
    tile(p, "AUC", m->auc, text);
    if (m->positives >= CADP_FEW) snprintf(text, sizeof text, "chance: %.3f", rate);
    else snprintf(text, sizeof text, "area under precision-recall");
    tile(p, "AUPRC", m->auprc, text);
    snprintf(text, sizeof text, "%.1f%% better than the mean risk", 100 * (1 - m->brier / (rate * (1 - rate))));
    tile(p, "Brier score", m->brier, m->positives && m->positives < m->n && m->brier < rate * (1 - rate) ? text : "lower is better");
    tile(p, "Calibration slope", m->calibration_slope, "best: 1; below 1: too extreme");
    cadp_page_raw(p, "</div>\n");
}

static void metric_row(cadp_page *p, const char *name, double value, const cad_interval *range, const char *meaning)
{
    char text[32], ends[64] = "";

    number(text, value);
    if (range) cadp_between(ends, *range);
    cadp_page_put(p, "<tr><th scope=\"row\">%s</th><td>%s</td><td class=\"soft\">%s</td><td class=\"text soft\">%s</td></tr>\n", name, text, ends, meaning);
}

void cadp_table_of_metrics(cadp_page *p, const cad_metrics *m)
{
    char text[128];

    cadp_page_raw(p, "<section><h2>Metrics</h2><div class=\"scroll\"><table><thead><tr><th scope=\"col\">Metric</th><th scope=\"col\">Value</th>"
                "<th scope=\"col\">95% interval</th><th scope=\"col\" style=\"text-align:left\">What it says</th></tr></thead><tbody>\n");
    metric_row(p, "AUC", m->auc, &m->auc_ci, "ranking; interval by DeLong");
    metric_row(p, "AUPRC (average precision)", m->auprc, &m->auprc_ci, "precision over all recalls; interval by bootstrap");
    metric_row(p, "Brier score", m->brier, &m->brier_ci, "mean squared error of the risk; interval by bootstrap");
    metric_row(p, "Log loss", m->log_loss, NULL, "mean surprise in nats");
    if (!isnan(m->loss)) metric_row(p, "Loss", m->loss, NULL, "the objective of the training, on these rows");
    metric_row(p, "Calibration slope", m->calibration_slope, NULL, "best: 1");
    metric_row(p, "Calibration intercept", m->calibration_intercept, NULL, "fitted with the slope");
    metric_row(p, "Calibration in the large", m->calibration_in_the_large, NULL, "best: 0; negative: risks are too high on the whole");
    metric_row(p, "Expected calibration error", m->ece, NULL, "mean distance from the diagonal over ten even bins of risk");
    snprintf(text, sizeof text, "share of right calls at the threshold %.4g; interval by Wilson", m->threshold);
    metric_row(p, "Accuracy", m->accuracy, &m->accuracy_ci, text);
    metric_row(p, "Balanced accuracy", m->balanced_accuracy, NULL, "mean of sensitivity and specificity");
    metric_row(p, "Sensitivity (recall)", m->recall, NULL, "events that are called");
    metric_row(p, "Specificity", m->specificity, NULL, "others that are not called");
    metric_row(p, "Precision (PPV)", m->precision, NULL, "calls that are events");
    metric_row(p, "NPV", m->npv, NULL, "not called and no event");
    metric_row(p, "F1", m->f1, NULL, "harmonic mean of precision and recall");
    metric_row(p, "Matthews correlation", m->mcc, NULL, "-1 to 1; 0: no better than chance");
    cadp_page_raw(p, "</tbody></table></div></section>\n");
}

/* A small cell would follow from its neighbour and the total, so the neighbour becomes a bound. */
static void cell(char out[32], int64_t n, int64_t neighbour)
{
    bool hides = neighbour > 0 && neighbour < CADP_FEW && n >= CADP_FEW;
    char digits[32];

    cadp_people_text(out, n);
    if (!hides) return;
    group_digits(digits, cad_max(n + neighbour - (CADP_FEW - 1), 0));
    snprintf(out, 32, "&gt;=%.20s", digits);
}

static void decision_row(cadp_page *p, const char *name, int64_t called, int64_t not_called)
{
    char a[32], b[32], sum[32];

    cell(a, called, not_called);
    cell(b, not_called, called);
    cadp_people_text(sum, called + not_called);
    cadp_page_put(p, "<tr><th scope=\"row\">%s</th><td>%s</td><td>%s</td><td>%s</td></tr>\n", name, a, b, sum);
}

static bool few(int64_t n) { return n > 0 && n < CADP_FEW; }

static void decision_counts(cadp_page *p, const cad_metrics *m)
{
    if (few(m->positives) || few(m->n - m->positives)) {
        cadp_page_put(p, "<p>One of the two groups has fewer than %d people, so no counts are written out.</p>", CADP_FEW);
        return;
    }
    cadp_page_raw(p, "<table><thead><tr><th scope=\"col\"></th><th scope=\"col\">Called</th><th scope=\"col\">Not called</th>"
                     "<th scope=\"col\">People</th></tr></thead><tbody>\n");
    decision_row(p, "With the event", m->tp, m->fn);
    decision_row(p, "Without", m->fp, m->tn);
    cadp_page_raw(p, "</tbody></table>\n");
}

static void class_row(cadp_page *p, const char *name, const cad_class_row *r)
{
    char a[32], b[32], c[32];

    number(a, r->precision);
    number(b, r->recall);
    number(c, r->f1);
    cadp_page_put(p, "<tr><th scope=\"row\">%s</th><td>%s</td><td>%s</td><td>%s</td></tr>\n", name, a, b, c);
}

void cadp_card_of_decisions(cadp_page *p, const cad_metrics *m)
{
    cadp_page_put(p, "<figure id=\"decisions\"><h3>Decisions at the threshold %.4g</h3>\n", m->threshold);
    decision_counts(p, m);
    cadp_page_raw(p, "<table><thead><tr><th scope=\"col\"></th><th scope=\"col\">Precision</th><th scope=\"col\">Recall</th>"
                     "<th scope=\"col\">F1</th></tr></thead><tbody>\n");
    class_row(p, "With the event", &m->row[1]);
    class_row(p, "Without", &m->row[0]);
    class_row(p, "Mean of both", &m->macro);
    class_row(p, "Weighted by people", &m->weighted);
    cadp_page_put(p, "</tbody></table><figcaption>A model for rare events calls few people at 0.5; choose the threshold by what "
                     "a call leads to. Counts below %d are not written out, nor what would give them away.</figcaption></figure>\n", CADP_FEW);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && !strcmp(s + n - m, end);
}

static void bytes_text(char out[48], double x)
{
    static const char *const unit[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int u = 0;

    for (; x >= 1024 && u < 5; u++) x /= 1024;
    snprintf(out, 48, u ? "%.2f %s" : "%.0f %s", x, unit[u]);
}

static void seconds_text(char out[48], double x)
{
    int64_t s = (int64_t)x;

    if (x < 60) snprintf(out, 48, "%.3g s", x);
    else if (x < 3600) snprintf(out, 48, "%" PRId64 " min %" PRId64 " s", s / 60, s % 60);
    else snprintf(out, 48, "%" PRId64 " h %" PRId64 " min", s / 3600, s / 60 % 60);
}

static void fact_text(char out[48], const cad_number *f)
{
    bool speed = strstr(f->name, "per_second") != NULL;

    if (!isfinite(f->value)) snprintf(out, 32, "not defined");
    else if (ends_with(f->name, "bytes")) bytes_text(out, f->value);
    else if (!speed && f->value >= 0 && f->value < 1e12 && (ends_with(f->name, "seconds") || ends_with(f->name, "runtime"))) seconds_text(out, f->value);
    else if (f->integer && fabs(f->value) < 9e15) group_digits(out, (int64_t)f->value);
    else snprintf(out, 48, "%.4g", f->value);
}

void cadp_table_of_facts(cadp_page *p, const cad_number *facts, int count)
{
    char text[48];

    if (!count) return;
    cadp_page_raw(p, "<section><h2>The run</h2><div class=\"scroll\"><table><tbody>\n");
    for (int i = 0; i < count; i++) {
        fact_text(text, &facts[i]);
        cadp_page_raw(p, "<tr><th scope=\"row\">");
        for (const char *c = facts[i].name; *c; c++) cadp_page_escape(p, (char[]){*c == '_' ? ' ' : *c, 0});
        cadp_page_put(p, "</th><td>%s</td></tr>\n", text);
    }
    cadp_page_raw(p, "</tbody></table></div></section>\n");
}
