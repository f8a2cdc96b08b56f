#include "page_priv.h"

#include <math.h>
#include <stdio.h>

enum { BUCKETS = 240, MEANS = 48 };

/* A long curve as the lowest and highest value of each bucket, so that no spike is lost. */
typedef struct thinned { double x[2 * BUCKETS], y[2 * BUCKETS]; int64_t n; } thinned;

static void add(thinned *t, const cad_curve *c, int64_t i)
{
    t->x[t->n] = c->x[i];
    t->y[t->n++] = c->y[i];
}

static void thin(thinned *t, const cad_curve *c)
{
    int64_t each = cad_ceil_div(cad_max(c->n, 1), 2 * BUCKETS);

    t->n = 0;
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

/* Bucket means of what is finite: the trend under the noise. */
static void smooth(thinned *t, const cad_curve *c)
{
    t->n = 0;
    for (int b = 0; b < MEANS; b++) {
        int64_t from = c->n * b / MEANS, to = c->n * (b + 1) / MEANS, k = 0;
        double x = 0, y = 0;
        for (int64_t i = from; i < to; i++) {
            if (!isfinite(c->y[i])) continue;
            x += c->x[i];
            y += c->y[i];
            k++;
        }
        if (!k) continue;
        t->x[t->n] = x / (double)k;
        t->y[t->n++] = y / (double)k;
    }
}

static const cad_curve *find(const cad_report *r, const char *name)
{
    for (int i = 0; name && i < r->curve_count; i++)
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

static void draw_measured(cadp_page *p, const cadp_plot *t, const cad_curve *c, bool noisy)
{
    thinned all;

    thin(&all, c);
    cadp_plot_line(p, t, noisy ? "faint" : "la", all.x, all.y, all.n);
    for (int64_t i = 0; i < c->n && c->n <= 30; i++) cadp_plot_dot(p, t, "fa", c->x[i], c->y[i]);
    if (!noisy) return;
    smooth(&all, c);
    cadp_plot_line(p, t, "la", all.x, all.y, all.n);
}

static void draw_validated(cadp_page *p, const cadp_plot *t, const cad_curve *c)
{
    thinned all;

    thin(&all, c);
    cadp_plot_line(p, t, "lb", all.x, all.y, all.n);
    for (int64_t i = 0; i < c->n && c->n <= 60; i++) cadp_plot_dot(p, t, "fb", c->x[i], c->y[i]);
}

static int64_t count_undefined(const cad_curve *c)
{
    int64_t n = 0;

    for (int64_t i = 0; c && i < c->n; i++) n += !isfinite(c->y[i]);
    return n;
}

/* One picture of what is logged at each step, what is found in validation, or both. */
static void draw(cadp_page *p, cadp_plot t, const cad_curve *measured, const cad_curve *validated, bool trend)
{
    bool noisy = trend && measured && measured->n > 4 * MEANS;
    int64_t undefined = count_undefined(measured) + count_undefined(validated);
    char note[160] = "";

    t.x_low = t.y_low = INFINITY;
    t.x_high = t.y_high = -INFINITY;
    widen(&t, measured);
    widen(&t, validated);
    round_ranges(&t);
    t.x_label = "Step";
    t.y_label = t.title;
    cadp_plot_begin(p, &t);
    if (measured) draw_measured(p, &t, measured, noisy);
    if (validated) draw_validated(p, &t, validated);
    cadp_plot_end(p);
    if (noisy) {
        cadp_plot_key(p, "faint", "As logged");
        cadp_plot_key(p, "la", "Mean of neighbours");
    } else if (measured && validated) cadp_plot_key(p, "la", "Training");
    if (validated) cadp_plot_key(p, "lb", "Validation");
    if (undefined) snprintf(note, sizeof note, "Values that are not finite numbers: %lld. They leave gaps.", (long long)undefined);
    cadp_figure_end(p, note);
}

void cadp_figures_of_training(cadp_page *p, const cad_report *r)
{
    static const struct { const char *measured, *validated, *id, *title, *about; bool trend; } pictures[] = {
        {"loss", "eval_loss", "loss", "Loss", "Training and validation loss over the steps of the training.", true},
        {NULL, "eval_auc", "eval-auc", "Validation AUC", "AUC on the validation rows over the steps of the training.", false},
        {"learning_rate", NULL, "learning-rate", "Learning rate", "Learning rate over the steps of the training.", false},
        {"grad_norm", NULL, "grad-norm", "Gradient norm", "Norm of the gradient before clipping, over the steps of the training.", true},
        {"tokens_per_second", NULL, "speed", "Tokens per second", "Tokens per second over the steps of the training.", true},
    };

    if (!r->curve_count) return;
    cadp_page_raw(p, "<section><h2>Training</h2>\n<div class=\"grid2\">\n");
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++) {
        const cad_curve *measured = find(r, pictures[i].measured), *validated = find(r, pictures[i].validated);
        if (measured || validated)
            draw(p, (cadp_plot){.id = pictures[i].id, .title = pictures[i].title, .about = pictures[i].about}, measured, validated,
                 pictures[i].trend);
    }
    cadp_page_raw(p, "</div></section>\n");
}
