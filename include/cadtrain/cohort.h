/* cohort: UK Biobank extracts -> labelled prompts without leakage; synthetic extracts; clinical scores. Rank 0 only. */
#ifndef CADTRAIN_COHORT_H
#define CADTRAIN_COHORT_H
#include <cadtrain/base.h>
#ifdef __cplusplus
extern "C" {
#endif

/* ---- synth: nobody's records, as UK Biobank would deliver them ---- */
typedef struct cad_synth_plan {
    const char *output;
    int64_t people;
    uint64_t seed;
    const char *dialect;   /* NULL or "mixed": each file in another; csv, txt, tab, rap, rap-labels, rap-title, ukb-format: all in this one */
    double incidence;      /* of hard CAD within ten years among those free of it; 0: 0.03 */
    double strength;       /* of what fields say about the risk; 0: 1, as in UK Biobank */
    int64_t padding;       /* columns without meaning that are put before those of the first file */
} cad_synth_plan;
/* Writes extracts, record tables, withdrawals, kinship, censoring dates, cohort.yaml and truth.json into `output`. */
CAD_CHECKED cad_status cad_synth_cohort(const cad_synth_plan *p);

/* ---- prepare ---- */
enum { CAD_PREVALENT_EXCLUDE, CAD_PREVALENT_KEEP };
enum { CAD_CENSORED_EXCLUDE, CAD_CENSORED_WEIGHT };
enum { CAD_SPLIT_RANDOM, CAD_SPLIT_CENTRE };
enum { CAD_COLUMNS_NONE, CAD_COLUMNS_REPORT, CAD_COLUMNS_ALL };
typedef struct cad_cohort_list { char *const *word; int count; } cad_cohort_list;
typedef struct cad_cohort_plan {
    cad_cohort_list extracts, record_tables, allow, test_centres, validation_centres;
    const char *withdrawals, *kinship;                        /* NULL: none */
    const char *fields, *phenotype, *censoring, *dictionary;  /* NULL: those of configs/ukb in this program */
    const char *template_text, *output_dir;
    double horizon_years, validation, test, kinship_threshold;
    int prevalent, censored, split, columns;
    bool stratify;
    uint64_t seed;
} cad_cohort_plan;
/* Reads everything, then writes OUT/private (rows of people, 0600) and OUT/share (aggregates, cells below five suppressed). CAD_EDATA: a file
 * that is not as it should be (file:line: column), nobody left, a leak that is not allowed (`allow` names the rule). */
CAD_CHECKED cad_status cad_prepare_cohort(const cad_cohort_plan *p);

/* ---- a record's text, taken apart by the wording of its fields (record.c) ---- */
typedef struct cad_record_fields cad_record_fields;
typedef struct cad_span { int field; size_t from, to; } cad_span; /* bytes [from, to) of the text */
CAD_CHECKED cad_status cad_record_fields_open(cad_record_fields **out, const char *path); /* fields.yaml; NULL: that of this program */
void cad_record_fields_close(cad_record_fields **f);
int cad_record_fields_count(const cad_record_fields *f);
const char *cad_record_field_name(const cad_record_fields *f, int field);
/* Spans in the order of the text, at most `most`; what no field says is in none. */
int cad_record_split(const cad_record_fields *f, const char *text, size_t n, cad_span *out, int most);

/* ---- clinical scores: risks in [0, 1] over ten years; NaN where an input is missing ---- */
/* Missing: NaN. Concentrations in mmol/L, creatinine in umol/L, pressures in mmHg. Yes and no: 1 and 0. */
typedef struct cad_score_inputs {
    double male, age, cholesterol, hdl, pressure, smoker, diabetes, pressure_drug, statin, egfr, bmi, black;
} cad_score_inputs;
typedef enum cad_score { CAD_SCORE_FRAMINGHAM, CAD_SCORE_PREVENT, CAD_SCORE_PCE, CAD_SCORE_SCORE2, CAD_SCORES } cad_score;
typedef enum cad_region { CAD_REGION_LOW, CAD_REGION_MODERATE, CAD_REGION_HIGH, CAD_REGION_VERY_HIGH } cad_region;
double cad_framingham(const cad_score_inputs *x);      /* general CVD, D'Agostino 2008, lipids */
double cad_framingham_bmi(const cad_score_inputs *x);  /* the same with body mass index */
double cad_prevent_chd(const cad_score_inputs *x);     /* AHA PREVENT, CHD, base model */
double cad_pce(const cad_score_inputs *x);             /* pooled cohort equations 2013, ASCVD */
double cad_score2(const cad_score_inputs *x, cad_region region);
double cad_score_risk(cad_score score, const cad_score_inputs *x); /* SCORE2 for the low-risk region, where the UK is */
const char *cad_score_name(cad_score score);           /* "framingham", "prevent_chd", "pce", "score2" */
double cad_egfr(bool male, double age, double creatinine); /* CKD-EPI 2021 */
/* Which inputs a score lacks, as names separated by ", "; "" when none. */
void cad_score_lacks(cad_score score, const cad_score_inputs *x, char *out, size_t room);
#ifdef __cplusplus
}
#endif
#endif
