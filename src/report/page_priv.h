/* Writing report.html; shared by the files of this room only. */
#ifndef CADTRAIN_PAGE_PRIV_H
#define CADTRAIN_PAGE_PRIV_H
#include <cadtrain/report.h>

/* Fewer people than this are neither counted in words nor drawn as a point of a curve. */
enum { CADP_FEW = 10 };

/* A text that remembers its first failure, so that only the end of the writing has to ask. */
typedef struct cadp_page { cad_str text; cad_status status; } cadp_page;
void cadp_page_raw(cadp_page *p, const char *text);
void cadp_page_put(cadp_page *p, const char *format, ...) CAD_PRINTF(2, 3);
void cadp_page_escape(cadp_page *p, const char *text); /* & < > " ' as entities, control characters as spaces */

/* ---- one picture with its axes (plot.c) ---- */
typedef struct cadp_plot {
    const char *id, *title, *about, *x_label, *y_label; /* about: for who cannot see the picture */
    double x_low, x_high, y_low, y_high;
    bool percent_x, percent_y, absolute_y; /* absolute_y: both directions count from 0 */
} cadp_plot;
void cadp_plot_begin(cadp_page *p, const cadp_plot *plot);
void cadp_plot_line(cadp_page *p, const cadp_plot *plot, const char *class, const double *x, const double *y, int64_t n);
void cadp_plot_dot(cadp_page *p, const cadp_plot *plot, const char *class, double x, double y);
void cadp_plot_bar(cadp_page *p, const cadp_plot *plot, const char *class, double x_from, double x_to, double y);
void cadp_plot_whisker(cadp_page *p, const cadp_plot *plot, const char *class, double x, double y_from, double y_to);
/* Ends the drawing; keys and a caption may follow before cadp_figure_end. */
void cadp_plot_end(cadp_page *p);
void cadp_plot_key(cadp_page *p, const char *class, const char *text);
void cadp_figure_end(cadp_page *p, const char *caption);
/* The next of 1, 2, 2.5, 5, 10 x 10^k at or above x > 0. */
double cadp_round_up_nicely(double x);

/* ---- people by falling risk, never one by one (people.c) ---- */
typedef struct cadp_people { struct cadp_one { double p; int32_t label; } *at; int64_t n, events; } cadp_people;
typedef struct cadp_group { int64_t n, events; double mean, low; } cadp_group; /* of at least CADP_FEW people; low: smallest risk in it */
CAD_CHECKED cad_status cadp_people_open(cadp_people *out, const int32_t *labels, const double *prob1, int64_t n);
void cadp_people_close(cadp_people *s);
/* Cuts by falling risk into at most `most` groups of about one size; equal risks stay together. None below CADP_FEW people. */
CAD_CHECKED cad_status cadp_people_cut(cadp_group **out, int *count, const cadp_people *s, int most);

/* ---- the parts ---- */
void cadp_figures_of_risk(cadp_page *p, const cad_report *r);
void cadp_figures_of_fields(cadp_page *p, const cad_report *r);
void cadp_figures_of_training(cadp_page *p, const cad_report *r);
void cadp_tiles(cadp_page *p, const cad_metrics *m);
void cadp_table_of_metrics(cadp_page *p, const cad_metrics *m);
void cadp_card_of_decisions(cadp_page *p, const cad_metrics *m);
void cadp_clinical_sections(cadp_page *p, const cad_report *r);
void cadp_checklist(cadp_page *p, const cad_report *r);
void cadp_table_of_facts(cadp_page *p, const cad_number *facts, int count);
/* "0.712 to 0.834", or nothing. */
void cadp_between(char out[64], cad_interval x);
/* A count of people, or "<10". */
void cadp_people_text(char out[32], int64_t n);
extern const char cadp_style[], cadp_style_narrow[], cadp_style_on_paper[];
#endif
