#include "page_priv.h"

#include <math.h>
#include <time.h>

/* The policy keeps a browser from fetching or running anything, whatever a title may contain. */
static void put_head(cadp_page *p, const char *title)
{
    cadp_page_raw(p, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n"
                "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n"
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<meta name=\"color-scheme\" content=\"light dark\"/>\n<title>");
    cadp_page_escape(p, title);
    cadp_page_raw(p, "</title>\n<style>\n");
    cadp_page_raw(p, cadp_style);
    cadp_page_raw(p, cadp_style_narrow);
    cadp_page_raw(p, cadp_style_on_paper);
    cadp_page_raw(p, "</style></head>\n<body><main>\n<header><h1>");
    cadp_page_escape(p, title);
    cadp_page_raw(p, "</h1>\n");
}

static void put_date(cadp_page *p, bool people)
{
    char text[64];
    time_t now = time(NULL);
    struct tm parts;

    strftime(text, sizeof text, "%Y-%m-%d %H:%M", localtime_r(&now, &parts));
    cadp_page_put(p, "<p class=\"lead\">Written by cadtrain, %s.", text);
    if (people) cadp_page_put(p, " Groups, never single persons: what counts fewer than %d people is not written out.", CADP_FEW);
    cadp_page_raw(p, "</p></header>\n");
}

static void put_notes(cadp_page *p, const char *const *notes, int count)
{
    if (!count) return;
    cadp_page_raw(p, "<section><h2>Notes</h2><ul>\n");
    for (int i = 0; i < count; i++) {
        cadp_page_raw(p, "<li>");
        cadp_page_escape(p, notes[i]);
        cadp_page_raw(p, "</li>\n");
    }
    cadp_page_raw(p, "</ul></section>\n");
}

static void put_prediction(cadp_page *p, const cad_report *r)
{
    cadp_page_raw(p, "<section><h2>Prediction</h2>\n<div class=\"grid2\">\n");
    if (r->labels && r->prob1) cadp_figures_of_risk(p, r);
    if (r->metrics->n) cadp_card_of_decisions(p, r->metrics);
    cadp_page_raw(p, "</div></section>\n");
}

cad_status cad_write_report(const char *path, const cad_report *r)
{
    cadp_page p = {.status = CAD_OK};
    const char *title = r->title && *r->title ? r->title : "cadtrain report";

    put_head(&p, title);
    put_date(&p, !r->sections);
    if (r->metrics) cadp_tiles(&p, r->metrics);
    put_notes(&p, r->notes, r->note_count);
    if (r->metrics) put_prediction(&p, r);
    if (r->metrics) cadp_table_of_metrics(&p, r->metrics);
    if (r->clinical) cadp_clinical_sections(&p, r);
    cadp_figures_of_fields(&p, r);
    if (r->sections) cadp_page_raw(&p, r->sections);
    cadp_figures_of_training(&p, r);
    cadp_table_of_facts(&p, r->facts, r->fact_count);
    if (r->clinical) cadp_checklist(&p, r);
    cadp_page_raw(&p, "</main></body></html>\n");
    if (!p.status) p.status = cad_write_file(path, p.text.data, p.text.size);
    cad_str_close(&p.text);
    return p.status;
}
