/* What the files of the report command share. */
#ifndef CADP_REPORT_PRIV_H
#define CADP_REPORT_PRIV_H
#include "cli_priv.h"

/* Rows of one or several prediction files, end to end; the files stay open for their other columns. */
typedef struct cadp_predictions {
    int64_t n, room;
    int32_t *labels, *predictions;
    double *prob1, *logit;
    bool has_logits;
    cad_metrics metrics;
    cad_rows **rows;
    int files;
} cadp_predictions;
bool cadp_number_of(cad_cell cell, double *out);

enum { CADP_MOST_ROWS = 128, CADP_MOST_COMPARED = 24, CADP_POINTS = 6 };
typedef struct cadp_clinical_work {
    cad_clinical page;               /* points into what follows */
    const cadp_predictions *s;
    double *risk;                    /* recalibrated where there is validation, else as predicted */
    int64_t *family;                 /* NULL: no column "group" */
    cad_group_row groups[CADP_MOST_ROWS];
    cad_compare_row compares[CADP_MOST_COMPARED];
    char *compare_names[CADP_MOST_COMPARED], *levels[CADP_MOST_ROWS];
    cad_operating_row points[CADP_POINTS];
    char *svg;
    cad_tree *cohort;
} cadp_clinical_work;
/* Operating points, fit, subgroups and scores among the columns. Borrows s and validation until close. */
CAD_CHECKED cad_status cadp_clinical_open(cadp_clinical_work *w, const cadp_predictions *s, const cadp_predictions *validation, const char *cohort_dir);
CAD_CHECKED cad_status cadp_clinical_compare(cadp_clinical_work *w, const char *name, const double *score);
CAD_CHECKED cad_status cadp_clinical_json(const cadp_clinical_work *w, cad_json *j);
/* report_extras.c */
enum { CADP_LOG_CURVES = 5 };
typedef struct cadp_extras {
    double *at[CADP_LOG_CURVES], *value[CADP_LOG_CURVES];
    cad_curve curve[CADP_LOG_CURVES], shown[CADP_LOG_CURVES];
    int curves, fields;
    cad_field_row *field; /* names point into importance */
    cad_tree *importance;
} cadp_extras;
CAD_CHECKED cad_status cadp_extras_open(cadp_extras *x, const char *log, const char *importance); /* NULL: none */
void cadp_extras_close(cadp_extras *x);
void cadp_clinical_close(cadp_clinical_work *w);
#endif
