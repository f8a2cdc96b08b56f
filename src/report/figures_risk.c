#include "page_priv.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum { CURVE_POINTS = 200, DECILES = 10, BARS = 20, THRESHOLDS = 50 };

/* What the five pictures share: curve points are groups by falling risk, so each is made of CADP_FEW people or more. */
typedef struct view { const cad_metrics *m; const cad_clinical *c; cadp_people people; cadp_group *fine, *tenth; int fine_count, tenth_count; double top; } view;

static void draw_roc(cadp_page *p, const view *v)
{
    const cadp_plot t = {.id = "roc", .title = "ROC curve", .about = "Share of events found against share of others called, over all thresholds.",
                         .x_label = "1 - specificity", .y_label = "Sensitivity", .x_high = 1, .y_high = 1};
    double x[CURVE_POINTS + 1] = {0}, y[CURVE_POINTS + 1] = {0}, fp = 0, tp = 0, others = (double)(v->people.n - v->people.events);
    char text[160];

    for (int i = 0; i < v->fine_count; i++) {
        tp += (double)v->fine[i].events;
        fp += (double)(v->fine[i].n - v->fine[i].events);
        x[i + 1] = fp / others;
        y[i + 1] = tp / (double)v->people.events;
    }
    cadp_plot_begin(p, &t);
    cadp_plot_line(p, &t, "ref", (double[]){0, 1}, (double[]){0, 1}, 2);
    cadp_plot_line(p, &t, "la", x, y, v->fine_count + 1);
    cadp_plot_dot(p, &t, "ring", 1 - v->m->specificity, v->m->recall);
    cadp_plot_end(p);
    snprintf(text, sizeof text, "Model, AUC %.3f", v->m->auc);
    cadp_plot_key(p, "la", text);
    cadp_plot_key(p, "ref", "Chance");
    snprintf(text, sizeof text, "Threshold %.4g", v->m->threshold);
    cadp_plot_key(p, "ring", text);
    cadp_figure_end(p, "The area is the chance that a person with the event is given a higher risk than one without.");
}

static void draw_precision(cadp_page *p, const view *v)
{
    const cadp_plot t = {.id = "pr", .title = "Precision and recall", .about = "Share of true events among those called, against share of events found.",
                         .x_label = "Recall (sensitivity)", .y_label = "Precision (PPV)", .x_high = 1, .y_high = 1};
    double x[2 * CURVE_POINTS], y[2 * CURVE_POINTS], tp = 0, n = 0, rate = (double)v->people.events / (double)v->people.n;
    int k = 0;
    char text[160];

    for (int i = 0; i < v->fine_count; i++) {
        double before = tp;
        tp += (double)v->fine[i].events;
        n += (double)v->fine[i].n;
        x[k] = before / (double)v->people.events;
        y[k++] = tp / n;
        x[k] = tp / (double)v->people.events;
        y[k++] = tp / n;
    }
    cadp_plot_begin(p, &t);
    cadp_plot_line(p, &t, "ref", (double[]){0, 1}, (double[]){rate, rate}, 2);
    cadp_plot_line(p, &t, "la", x, y, k);
    if (v->m->tp + v->m->fp) cadp_plot_dot(p, &t, "ring", v->m->recall, v->m->precision);
    cadp_plot_end(p);
    snprintf(text, sizeof text, "Model, AUPRC %.3f", v->m->auprc);
    cadp_plot_key(p, "la", text);
    snprintf(text, sizeof text, "Event rate %.3g%%", 100 * rate);
    cadp_plot_key(p, "ref", v->people.events < CADP_FEW ? "Event rate" : text);
    snprintf(text, sizeof text, "Threshold %.4g", v->m->threshold);
    cadp_plot_key(p, "ring", text);
    cadp_figure_end(p, "Where events are rare, this shows more than the ROC curve what a call of the model is worth.");
}

/* Wilson 1927, for the whiskers. */
static cad_interval rate_interval(const cadp_group *g)
{
    double n = (double)g->n, q = (double)g->events / n, z = 1.959963984540054, z2 = z * z, middle = (q + z2 / (2 * n)) / (1 + z2 / n);
    double half = z * sqrt(q * (1 - q) / n + z2 / (4 * n * n)) / (1 + z2 / n);

    return (cad_interval){fmax(middle - half, 0), fmin(middle + half, 1)};
}

static void table_of_groups(cadp_page *p, const view *v)
{
    cadp_page_raw(p, "<details><summary>The groups in numbers</summary><table><thead><tr><th scope=\"col\">Group</th><th scope=\"col\">People</th>"
                "<th scope=\"col\">Mean predicted</th><th scope=\"col\">Observed</th></tr></thead><tbody>\n");
    for (int i = v->tenth_count - 1; i >= 0; i--) {
        const cadp_group *g = &v->tenth[i];
        bool few = g->events < CADP_FEW;
        cadp_page_put(p, "<tr><th scope=\"row\">%d</th><td>%" PRId64 "</td><td>%.2f%%</td><td>%s%.2f%%</td></tr>\n", v->tenth_count - i, g->n,
                 100 * g->mean, few ? "&lt;" : "", 100 * (double)(few ? CADP_FEW : g->events) / (double)g->n);
    }
    cadp_page_raw(p, "</tbody></table></details>\n");
}

/* As far as the groups reach; the ends of the curve rest on few people. */
static void draw_smooth(cadp_page *p, const cadp_plot *t, const cad_smooth *s)
{
    int n = 0;

    while (n < s->points && s->x[n] <= t->x_high) n++;
    cadp_plot_line(p, t, "lb", s->x, s->y, n);
}

static void draw_calibration(cadp_page *p, const view *v)
{
    double x[DECILES], y[DECILES], top = 0;
    cadp_plot t = {.id = "calibration", .title = "Calibration", .about = "Observed share of events against predicted risk, in groups of rising risk.",
                   .x_label = "Mean predicted risk", .y_label = "Observed share", .percent_x = true, .percent_y = true};

    for (int i = 0; i < v->tenth_count; i++) {
        x[i] = v->tenth[i].mean;
        y[i] = (double)v->tenth[i].events / (double)v->tenth[i].n;
        top = fmax(top, fmax(x[i], rate_interval(&v->tenth[i]).high));
    }
    t.x_high = t.y_high = fmin(cadp_round_up_nicely(top), 1);
    cadp_plot_begin(p, &t);
    cadp_plot_line(p, &t, "ref", (double[]){0, t.x_high}, (double[]){0, t.x_high}, 2);
    for (int i = 0; i < v->tenth_count; i++) {
        cad_interval w = rate_interval(&v->tenth[i]);
        cadp_plot_whisker(p, &t, "thin", x[i], w.low, w.high);
    }
    cadp_plot_line(p, &t, "la", x, y, v->tenth_count);
    if (v->c) draw_smooth(p, &t, &v->c->smooth);
    for (int i = 0; i < v->tenth_count; i++) cadp_plot_dot(p, &t, "fa", x[i], y[i]);
    cadp_plot_end(p);
    cadp_plot_key(p, "la", "Groups of equal size, 95% interval");
    if (v->c) cadp_plot_key(p, "lb", "Smooth");
    cadp_plot_key(p, "ref", "Perfect");
    table_of_groups(p, v);
    cadp_figure_end(p, "Points below the diagonal: the model overstates the risk; above: it understates it.");
}

static void draw_histogram(cadp_page *p, const view *v)
{
    double share[2][BARS] = {{0}}, most[2] = {0, 0}, of[2] = {(double)(v->people.n - v->people.events), (double)v->people.events};
    cadp_plot t = {.id = "histogram", .title = "Predicted risk by outcome", .about = "Upwards: people with the event. Downwards: people without it.",
                   .x_label = "Predicted risk", .y_label = "Share of the group", .x_high = v->top, .percent_x = true, .percent_y = true, .absolute_y = true};

    for (int64_t i = 0; i < v->people.n; i++) {
        int c = v->people.at[i].label, b = (int)fmin(v->people.at[i].p / v->top * BARS, BARS - 1);
        share[c][b] += 1 / of[c];
        most[c] = fmax(most[c], share[c][b]);
    }
    t.y_high = cadp_round_up_nicely(most[1]);
    t.y_low = -cadp_round_up_nicely(most[0]);
    cadp_plot_begin(p, &t);
    for (int b = 0; b < BARS; b++) {
        double from = b * v->top / BARS, to = (b + 1) * v->top / BARS;
        if (share[1][b] * of[1] >= CADP_FEW - 0.5) cadp_plot_bar(p, &t, "fb", from, to, share[1][b]);
        if (share[0][b] * of[0] >= CADP_FEW - 0.5) cadp_plot_bar(p, &t, "fa", from, to, -share[0][b]);
    }
    cadp_plot_line(p, &t, "none", (double[]){0, v->top}, (double[]){0, 0}, 2);
    cadp_plot_end(p);
    cadp_plot_key(p, "fb", "With the event");
    cadp_plot_key(p, "fa", "Without");
    cadp_figure_end(p, "The further apart the two halves lie, the better the model tells the groups apart. Bars of fewer than ten people are left out.");
}

/* Vickers, Elkin 2006: TP/n - FP/n x t/(1-t); positive when the risk is at least t. */
static void net_benefit(const view *v, double *threshold, double *model, double *all)
{
    double n = (double)v->people.n, rate = (double)v->people.events / n, tp = 0;
    int64_t called = 0;

    for (int k = THRESHOLDS; k >= 1; k--) {
        double t = k / 100.0, odds = t / (1 - t);
        while (called < v->people.n && v->people.at[called].p >= t) tp += v->people.at[called++].label;
        threshold[k - 1] = t;
        model[k - 1] = tp / n - ((double)called - tp) / n * odds;
        all[k - 1] = rate - (1 - rate) * odds;
    }
}

static void draw_decision(cadp_page *p, const view *v)
{
    double x[THRESHOLDS], model[THRESHOLDS], all[THRESHOLDS], rate = (double)v->people.events / (double)v->people.n;
    cadp_plot t = {.id = "decision", .title = "Decision curve", .about = "Net benefit of treating by the model, everybody and nobody, over risk thresholds.",
                   .x_label = "Risk threshold for treatment", .y_label = "Net benefit", .x_high = rate < 0.1 ? 0.2 : 0.5, .percent_x = true};
    int64_t shown = 0, last = rate < 0.1 ? 20 : THRESHOLDS;

    net_benefit(v, x, model, all);
    t.y_high = cadp_round_up_nicely(rate);
    t.y_low = -t.y_high / 4;
    while (shown < THRESHOLDS && all[shown] >= t.y_low) shown++;
    cadp_plot_begin(p, &t);
    cadp_plot_line(p, &t, "none", (double[]){0, t.x_high}, (double[]){0, 0}, 2);
    cadp_plot_line(p, &t, "ref", x, all, cad_min(shown + 1, last));
    cadp_plot_line(p, &t, "la", x, model, last);
    cadp_plot_end(p);
    cadp_plot_key(p, "la", "Model");
    cadp_plot_key(p, "ref", "Treat all");
    cadp_plot_key(p, "none", "Treat none");
    cadp_figure_end(p, "True events found, less the false calls weighed at the odds of the threshold; useful where above both other lines.");
}

/* One in two hundred may lie beyond and stands in the last bar. */
static double largest_shown(const cadp_people *s)
{
    static const double ends[] = {0.05, 0.1, 0.2, 0.5};

    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (s->at[s->n / 200].p <= ends[i]) return ends[i];
    return 1;
}

static void draw_all(cadp_page *p, view *v)
{
    p->status = cadp_people_cut(&v->fine, &v->fine_count, &v->people, CURVE_POINTS);
    if (!p->status) p->status = cadp_people_cut(&v->tenth, &v->tenth_count, &v->people, DECILES);
    if (p->status) return;
    v->top = largest_shown(&v->people);
    draw_roc(p, v);
    draw_precision(p, v);
    draw_calibration(p, v);
    draw_histogram(p, v);
    draw_decision(p, v);
}

void cadp_figures_of_risk(cadp_page *p, const cad_report *r)
{
    view v = {.m = r->metrics, .c = r->clinical};

    if (p->status) return;
    p->status = cadp_people_open(&v.people, r->labels, r->prob1, r->n);
    if (!p->status && v.people.n >= CADP_FEW && v.people.events && v.people.events < v.people.n) draw_all(p, &v);
    else cadp_page_raw(p, "<p>No pictures of the risks: they need people with the event and without it, and at least ten in all.</p>\n");
    cad_free(&v.fine);
    cad_free(&v.tenth);
    cadp_people_close(&v.people);
}
