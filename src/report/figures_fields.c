/* Which fields moved the risk: bars, as a picture and as a table. */
#include "page_priv.h"

#include <math.h>

enum { WIDTH = 640, NAMES = 200, ROW = 24, TOP = 8, MOST = 40 };

static void bar(cadp_page *p, const cad_field_row *f, int i, double per)
{
    int y = TOP + i * ROW;
    double gradients = f->gradients_abs * per, removed = f->removed_abs * per;

    cadp_page_put(p, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", NAMES - 8, y + 15);
    cadp_page_escape(p, f->name);
    cadp_page_put(p, "</text><rect class=\"fa\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"9\"/><rect class=\"fb\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"6\"/>", NAMES, y + 2, gradients, NAMES, y + 12, removed);
    cadp_page_put(p, "<text x=\"%.1f\" y=\"%d\">%.2g</text>\n", NAMES + fmax(gradients, removed) + 6, y + 15, f->gradients_abs);
}

void cadp_figures_of_fields(cadp_page *p, const cad_report *r)
{
    int count = r->field_count < MOST ? r->field_count : MOST;
    double largest = 0;

    if (!count) return;
    for (int i = 0; i < count; i++) largest = fmax(largest, fmax(r->fields[i].gradients_abs, r->fields[i].removed_abs));
    cadp_page_raw(p, "<section><h2>What moved the risk</h2>\n<figure>");
    cadp_page_put(p, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"Bars of the fields by their mean effect on the log-odds\">\n", WIDTH, TOP + count * ROW + 8);
    for (int i = 0; i < count; i++) bar(p, &r->fields[i], i, largest > 0 ? (WIDTH - NAMES - 60) / largest : 0);
    cadp_page_raw(p, "</svg>\n");
    cadp_plot_key(p, "fa", "integrated gradients");
    cadp_plot_key(p, "fb", "field removed");
    cadp_figure_end(p, "Mean absolute change of the log-odds over all records. Fields that fewer than five records say are left out.");
    cadp_page_raw(p, "<details><summary>As a table</summary><div class=\"scroll\"><table><thead><tr><th>Field</th><th>Gradients, mean |.|</th><th>Gradients, mean</th><th>Removed, mean |.|</th><th>Removed, mean</th></tr></thead><tbody>\n");
    for (int i = 0; i < r->field_count; i++) {
        const cad_field_row *f = &r->fields[i];
        cadp_page_raw(p, "<tr><td>");
        cadp_page_escape(p, f->name);
        cadp_page_put(p, "</td><td>%.4f</td><td>%+.4f</td><td>%.4f</td><td>%+.4f</td></tr>\n", f->gradients_abs, f->gradients, f->removed_abs, f->removed);
    }
    cadp_page_raw(p, "</tbody></table></div></details></section>\n");
}
