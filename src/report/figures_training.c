#include "page_priv.h"

#include <math.h>
#include <stdio.h>

enum { BUCKETS = 240 };

/* A long curve as the lowest and highest value of each bucket, so that no spike is lost. */
typedef struct thinned { double x[2 * BUCKETS], y[2 * BUCKETS]; int64_t n, undefined; } thinned;

static void add(thinned *t, const cad_curve *c, int64_t i)
{
    t->x[t->n] = c->x[i];
    t->y[t->n++] = c->y[i];
}

static void thin(thinned *t, const cad_curve *c)
{
    int64_t each = cad_ceil_div(cad_max(c->n, 1), 2 * BUCKETS);

    t->n = t->undefined = 0;
    for (int64_t i = 0; i < c->n; i++) t->undefined += !isfinite(c->y[i]);
    if (each > 1) each *= 2;
    for (int64_t from = 0; from < c->n; from += each) {
        int64_t low = from, high = from, end = cad_min(from + each, c->n);
        for (int64_t i = from; i < end; i++) {
            if (!(c->y[i] >= c->y[low])) low = i;
            if (!(c->y[i] <= c->y[high])) high = i;
        }
        add(t, c, (int64_t)cad_min(low, high));
        if (low != high) add(t, c, cad_max(low, high));
    }
}

static const cad_curve *find(const cad_report *r, const char *name)
{
    for (int i = 0; i < r->curve_count; i++)
        if (!strcmp(r->curves[i].name, name) && r->curves[i].n > 0) return &r->curves[i];
    return NULL;
}

static void widen(cadp_plot *t, const cad_curve *c)
{
    for (int64_t i = 0; c && i < c->n; i++) {
        t->x_low = fmin(t->x_low, c->x[i]);
        t->x_high = fmax(t->x_high, c->x[i]);
        if (!isfinite(c->y[i])) continue;
        t->y_low = fmin(t->y_low, c->y[i]);
        t->y_high = fmax(t->y_high, c->y[i]);
    }
}

/* Axes that end at round numbers; what is never negative and near zero begins at zero. */
static void round_ranges(cadp_plot *t)
{
    double span, step;

    if (!(t->y_high >= t->y_low)) t->y_low = 0, t->y_high = 1;
    if (t->y_low >= 0 && t->y_low < 0.5 * t->y_high) t->y_low = 0;
    span = fmax(t->y_high - t->y_low, 1e-3 * fmax(fabs(t->y_high), 1e-12));
    step = cadp_round_up_nicely(span / 5);
    t->y_low = step * floor(t->y_low / step + 1e-9);
    t->y_high = step * ceil(t->y_high / step - 1e-9);
    if (t->y_high <= t->y_low) t->y_high = t->y_low + step;
    if (t->x_low > 0 && t->x_low < 0.2 * t->x_high) t->x_low = 0;
    if (t->x_high <= t->x_low) t->x_high = t->x_low + 1;
}

static void draw_curve(cadp_page *p, const cadp_plot *t, const char *class, const char *dots, const cad_curve *c)
{
    thinned all;

    thin(&all, c);
    cadp_plot_line(p, t, class, all.x, all.y, all.n);
    for (int64_t i = 0; dots && i < all.n && all.n <= 60; i++) cadp_plot_dot(p, t, dots, all.x[i], all.y[i]);
}

/* One picture for one or two curves; `second` may be NULL. */
static void draw(cadp_page *p, cadp_plot t, const cad_curve *first, const cad_curve *second, const char *key1, const char *key2)
{
    thinned all;
    char note[160] = "";
    int64_t undefined = 0;

    t.x_low = t.y_low = INFINITY;
    t.x_high = t.y_high = -INFINITY;
    widen(&t, first);
    widen(&t, second);
    round_ranges(&t);
    t.x_label = "Step";
    t.y_label = t.title;
    cadp_plot_begin(p, &t);
    if (first) draw_curve(p, &t, second ? "thin" : "la", first->n <= 30 ? "fa" : NULL, first);
    if (second) draw_curve(p, &t, "lb", "fb", second);
    cadp_plot_end(p);
    if (first && key1) cadp_key(p, "la", key1);
    if (second) cadp_key(p, "lb", key2);
    if (first) thin(&all, first), undefined += all.undefined;
    if (second) thin(&all, second), undefined += all.undefined;
    if (undefined) snprintf(note, sizeof note, "%lld values are not finite numbers and leave gaps.", (long long)undefined);
    cadp_figure_end(p, note);
}

void cadp_figures_of_training(cadp_page *p, const cad_report *r)
{
    static const struct { const char *curve, *id, *title, *about; } single[] = {
        {"learning_rate", "learning-rate", "Learning rate", "Learning rate over the steps of the training."},
        {"grad_norm", "grad-norm", "Gradient norm", "Norm of the gradient before clipping, over the steps of the training."},
        {"eval_auc", "eval-auc", "AUC on the validation rows", "AUC on the validation rows over the steps of the training."},
        {"tokens_per_second", "speed", "Tokens per second", "Tokens per second over the steps of the training."},
    };
    const cad_curve *loss = find(r, "loss"), *eval = find(r, "eval_loss");

    if (!r->curve_count) return;
    cadp_raw(p, "<section><h2>Training</h2>\n<div class=\"grid2\">\n");
    if (loss || eval)
        draw(p, (cadp_plot){.id = "loss", .title = "Loss", .about = "Training and validation loss over the steps of the training."}, loss, eval,
             "Training", "Validation");
    for (size_t i = 0; i < sizeof single / sizeof *single; i++) {
        const cad_curve *c = find(r, single[i].curve);
        if (c) draw(p, (cadp_plot){.id = single[i].id, .title = single[i].title, .about = single[i].about}, c, NULL, NULL, NULL);
    }
    cadp_raw(p, "</div></section>\n");
}
