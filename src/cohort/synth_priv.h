/* Nobody's records: what the files of the generator share. */
#ifndef CADTRAIN_SYNTH_PRIV_H
#define CADTRAIN_SYNTH_PRIV_H
#include "cohort_priv.h"

enum { CADP_MOST_EPISODES = 12, CADP_MOST_CODES = 16 };
typedef enum cadp_fate { CADP_FATE_WITHDRAWN, CADP_FATE_NO_LINKAGE, CADP_FATE_PREVALENT, CADP_FATE_UNKNOWN_DATE, CADP_FATE_CASE, CADP_FATE_CONTROL, CADP_FATE_CENSORED, CADP_FATES } cadp_fate;
typedef struct cadp_episode { int32_t day; char icd10[2][8], opcs4[8]; } cadp_episode; /* day: CADP_ODD_DAY is written as 1900-01-01 */

/* One synthetic person; NaN: missing; whole numbers are UK Biobank's codes. */
typedef struct cadp_made {
    int64_t eid;
    double male, age, townsend, bmi, waist, sbp[2], dbp[2], manual, tc, hdl, ldl, tg, apob, lpa, crp, hba1c, creatinine, cystatin, prs;
    int ethnicity, smoking, alcohol, health, walking, income, diabetes, father, mother, siblings; /* of codes; 0 of ethnicity…: a true code */
    bool bp_drug, statin, asks_drugs, hypertension, self_attack;
    int centre, nation;
    int32_t visit, death, lost;
    int lost_reason;
    char cause[8];
    cadp_episode episode[CADP_MOST_EPISODES];
    int episodes;
    double linear;              /* the true log-odds without the constant */
    int32_t event;              /* the true first event after the visit; CADP_NO_DAY */
    cadp_fate fate;
} cadp_made;

typedef struct cadp_maker { uint64_t seed; int64_t people; double offset, early, strength; } cadp_maker; /* early: the offset of events before the assessment */
enum { CADP_RISK_FIELDS = 14 };
extern const char *const cadp_risk_fields[CADP_RISK_FIELDS];
void cadp_measure_importance(const cadp_maker *m, double out[CADP_RISK_FIELDS]);
double cadp_true_risk(const cadp_maker *m, const cadp_made *p); /* log-odds without the constant */
/* A function of (seed, i, offset) alone. */
void cadp_make_person(const cadp_maker *m, int64_t i, cadp_made *out);
CAD_CHECKED cad_status cadp_make_offset(cadp_maker *m, double incidence);
int cadp_make_kin(const cadp_maker *m, int64_t i, double *kinship); /* with person i + 1; 0: none */
extern const int32_t cadp_make_ends[3][3]; /* year, month, day of England, Scotland, Wales */
static inline bool cadp_is_unset(int code) { return code == INT32_MIN; }
#endif
