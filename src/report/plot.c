#include "page_priv.h"

#include <math.h>
#include <stdio.h>

enum { WIDTH = 480, HEIGHT = 340, LEFT = 70, RIGHT = 464, TOP = 14, BOTTOM = 286 };

static double px(const cadp_plot *t, double x) { return LEFT + (x - t->x_low) / (t->x_high - t->x_low) * (RIGHT - LEFT); }

static double py(const cadp_plot *t, double y)
{
    double at = BOTTOM - (y - t->y_low) / (t->y_high - t->y_low) * (BOTTOM - TOP);

    return fmin(fmax(at, TOP - 1), BOTTOM + 1);
}

double cadp_round_up_nicely(double x)
{
    double ten = pow(10, floor(log10(x)));
    static const double of[] = {1, 2, 2.5, 5};

    for (int i = 0; i < 4; i++)
        if (x <= of[i] * ten * (1 + 1e-9)) return of[i] * ten;
    return 10 * ten;
}

/* Large and small numbers as 2×10ⁿ would need superscripts; k, M and e keep labels short. */
static void label(char out[32], double v, double step, bool percent)
{
    double size = fabs(v);

    if (size < step * 1e-6) v = size = 0;
    if (percent) snprintf(out, 32, "%.4g%%", 100 * v);
    else if (size >= 1e6) snprintf(out, 32, "%.4gM", v * 1e-6);
    else if (size >= 1e4) snprintf(out, 32, "%.4gk", v * 1e-3);
    else if (size > 0 && size < 1e-3) snprintf(out, 32, "%.2g", v);
    else snprintf(out, 32, "%.4g", v);
}

static void grid_x(cadp_page *p, const cadp_plot *t)
{
    double step = cadp_round_up_nicely((t->x_high - t->x_low) / 6);
    char text[32];

    for (double k = ceil(t->x_low / step - 1e-9); k * step <= t->x_high + 1e-9 * step; k++) {
        label(text, k * step, step, t->percent_x);
        cadp_page_put(p, "<line class=\"grid\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>", px(t, k * step), TOP, px(t, k * step), BOTTOM);
        cadp_page_put(p, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", px(t, k * step), BOTTOM + 18, text);
    }
}

static void grid_y(cadp_page *p, const cadp_plot *t)
{
    double step = cadp_round_up_nicely((t->y_high - t->y_low) / 6);
    char text[32];

    for (double k = ceil(t->y_low / step - 1e-9); k * step <= t->y_high + 1e-9 * step; k++) {
        label(text, t->absolute_y ? fabs(k * step) : k * step, step, t->percent_y);
        cadp_page_put(p, "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>", LEFT, py(t, k * step), RIGHT, py(t, k * step));
        cadp_page_put(p, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", LEFT - 8, py(t, k * step) + 4, text);
    }
}

void cadp_plot_begin(cadp_page *p, const cadp_plot *t)
{
    cadp_page_put(p, "<figure id=\"%s\"><h3>%s</h3>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"%s-title %s-about\">", t->id, t->title,
             WIDTH, HEIGHT, t->id, t->id);
    cadp_page_put(p, "<title id=\"%s-title\">%s</title><desc id=\"%s-about\">%s</desc>\n", t->id, t->title, t->id, t->about);
    grid_x(p, t);
    grid_y(p, t);
    cadp_page_put(p, "<path class=\"axis\" d=\"M%d %dV%dH%d\"/>\n", LEFT, TOP, BOTTOM, RIGHT);
    cadp_page_put(p, "<text class=\"name\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>", (LEFT + RIGHT) / 2, HEIGHT - 12, t->x_label);
    cadp_page_put(p, "<text class=\"name\" transform=\"translate(14 %d) rotate(-90)\" text-anchor=\"middle\">%s</text>\n", (TOP + BOTTOM) / 2, t->y_label);
}

/* A value that is no number breaks the line; a value alone between two such is drawn as a dot. */
void cadp_plot_line(cadp_page *p, const cadp_plot *t, const char *class, const double *x, const double *y, int64_t n)
{
    bool down = false;

    cadp_page_put(p, "<path class=\"%s\" d=\"", class);
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(y[i])) {
            down = false;
            continue;
        }
        cadp_page_put(p, "%c%.1f %.1f", down ? 'L' : 'M', px(t, x[i]), py(t, y[i]));
        if (!down && (i + 1 == n || !isfinite(y[i + 1]))) cadp_page_raw(p, "h0.01");
        down = true;
    }
    cadp_page_raw(p, "\"/>\n");
}

void cadp_plot_dot(cadp_page *p, const cadp_plot *t, const char *class, double x, double y)
{
    if (isfinite(y)) cadp_page_put(p, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>\n", class, px(t, x), py(t, y));
}

void cadp_plot_bar(cadp_page *p, const cadp_plot *t, const char *class, double x_from, double x_to, double y)
{
    double from = px(t, x_from) + 0.5, to = px(t, x_to) - 0.5, zero = py(t, 0), at = py(t, y);

    cadp_page_put(p, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n", class, from, fmin(zero, at), to - from, fabs(zero - at));
}

void cadp_plot_whisker(cadp_page *p, const cadp_plot *t, const char *class, double x, double y_from, double y_to)
{
    double at = px(t, x);

    cadp_page_put(p, "<path class=\"%s\" d=\"M%.1f %.1fV%.1fM%.1f %.1fh6M%.1f %.1fh6\"/>\n", class, at, py(t, y_from), py(t, y_to), at - 3, py(t, y_from),
             at - 3, py(t, y_to));
}

void cadp_plot_end(cadp_page *p) { cadp_page_raw(p, "</svg>\n"); }

void cadp_plot_key(cadp_page *p, const char *class, const char *text)
{
    cadp_page_put(p, "<span class=\"key\"><i class=\"%s\"></i>", class);
    cadp_page_escape(p, text);
    cadp_page_raw(p, "</span>\n");
}

void cadp_figure_end(cadp_page *p, const char *caption)
{
    cadp_page_put(p, "<figcaption>%s</figcaption></figure>\n", caption);
}
