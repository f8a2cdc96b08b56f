/* How much each field matters to the risk that synthetic people are drawn from: the mean distance of a person's log-odds from what they are on average
 * with the field of others. */
#include "synth_priv.h"

#include <math.h>

enum { PEOPLE = 1000, OTHERS = 16 };
const char *const cadp_risk_fields[CADP_RISK_FIELDS] = {"age", "sex", "smoking", "sbp", "bp_drug", "cholesterol_drug", "diabetes", "family_history", "total_cholesterol", "hdl", "lpa", "crp", "creatinine", "prs_cad"};

static void take_field(cadp_made *p, const cadp_made *from, int field)
{
    switch (field) {
    case 0: p->age = from->age; break;
    case 1: p->male = from->male; break;
    case 2: p->smoking = from->smoking; break;
    case 3: p->sbp[0] = from->sbp[0], p->sbp[1] = from->sbp[1]; break;
    case 4: p->bp_drug = from->bp_drug && from->asks_drugs; break;
    case 5: p->statin = from->statin && from->asks_drugs; break;
    case 6: p->diabetes = from->diabetes; break;
    case 7: p->father = from->father, p->mother = from->mother, p->siblings = from->siblings; break;
    case 8: p->tc = from->tc; break;
    case 9: p->hdl = from->hdl; break;
    case 10: p->lpa = from->lpa; break;
    case 11: p->crp = from->crp; break;
    case 12: p->creatinine = from->creatinine; break;
    default: p->prs = from->prs; break;
    }
}

static double moved(const cadp_maker *m, const cadp_made *p, const cadp_made *other, int field)
{
    double mean = 0;

    for (int k = 0; k < OTHERS; k++) {
        cadp_made mixed = *p;
        take_field(&mixed, &other[k], field);
        mean += cadp_true_risk(m, &mixed) / OTHERS;
    }
    return fabs(p->linear - mean);
}

void cadp_measure_importance(const cadp_maker *m, double out[CADP_RISK_FIELDS])
{
    int64_t n = cad_min(m->people, PEOPLE);

    memset(out, 0, CADP_RISK_FIELDS * sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        cadp_made p, other[OTHERS];
        cadp_make_person(m, i, &p);
        for (int k = 0; k < OTHERS; k++) cadp_make_person(m, (i + (k + 1) * 7919) % m->people, &other[k]);
        for (int f = 0; f < CADP_RISK_FIELDS; f++) out[f] += moved(m, &p, other, f) / (double)n;
    }
}
