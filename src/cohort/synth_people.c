/* Marginals and correlations after published tables of UK Biobank; the risk is PREVENT's, made steeper, and what a record says besides. Whatever
 * is missing adds nothing, so that the true risk is a function of what is written: its AUC is the best that can be reached. */
#include "synth_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum site { SEX, AGE_BAND, AGE, BMI, SBP, DBP, TC, HDL, SMOKE, DIABETES, BPDRUG, STATIN, EGFR, PRS, LPA, FATHER, MOTHER, SIBLINGS, CRP, APOB, LDL, TG, HBA1C, CYSTATIN, WAIST,
            TOWNSEND, ETHNIC, ALCOHOL, HEALTH, WALK, INCOME, CENTRE, VISIT, MISS_BIO, MISS_HDL, MISS_LPA, MISS_BP, MISS_DRUG, MISS_FAMILY, MISS_SMOKE, MISS_PRS, WITHDRAWN,
            LINKAGE, LOST, LOST_DAY, PREVALENT, PREVALENT_DAY, PREVALENT_HOW, UNKNOWN, EVENT, EVENT_TIME, EVENT_KIND, LATE, DEATH, DEATH_TIME, DEATH_CAUSE, EPISODES, READ_A, READ_B,
            KIN, FAMILY, MISS_DIABETES, EPISODE_FROM = 200 };
typedef struct lots { uint64_t seed, i; } lots;

static double u(const lots *l, uint32_t site) { return cad_rng_uniform(l->seed, CAD_RNG_SYNTH, 5000 + site, l->i); }
static double z(const lots *l, uint32_t site) { return cad_rng_normal(l->seed, CAD_RNG_SYNTH, 5000 + site, l->i); }
static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double keep(double x, double low, double high) { return fmin(fmax(x, low), high); }
static double grain(double x, double g) { return round(x / g) * g; }

/* Chooses among shares that sum to about one. */
static int choose(double lot, const double *share, int n)
{
    for (int k = 0; k < n - 1; k++) {
        if (lot < share[k]) return k;
        lot -= share[k];
    }
    return n - 1;
}

static void make_who(const lots *l, cadp_made *p)
{
    static const double bands[] = {.102, .132, .153, .183, .243, .187}, ethnic[] = {.88, .025, .032, .006, .006, .009, .003, .004, .006, .005, .004, .003, .009, .008};
    static const int codes[] = {1001, 1002, 1003, 2001, 2004, 3001, 3002, 3004, 4001, 4002, 4003, 5, 6, INT32_MIN};
    static const int centres[] = {11001, 11002, 11003, 11004, 11005, 11006, 11007, 11008, 11009, 11010, 11011, 11012, 11013, 11014, 11016, 11017, 11018, 11020, 11021, 11022, 11023};
    int c = (int)(u(l, CENTRE) * 21);

    p->male = u(l, SEX) >= 0.544;
    p->age = floor(40 + 5 * choose(u(l, AGE_BAND), bands, 6) + 5 * u(l, AGE));
    p->ethnicity = codes[choose(u(l, ETHNIC), ethnic, 14)];
    p->townsend = grain(keep(-3.4 + exp(0.75 + 0.75 * z(l, TOWNSEND)) - 0.9, -6.3, 11), 0.01);
    p->centre = centres[c];
    p->nation = c == 3 || c == 4 ? 1 : c == 2 || c >= 19 ? 2 : 0;
    p->visit = cadp_day_of(2006, 3, 15) + (int32_t)(u(l, VISIT) * 1660);
}

static void make_body(const lots *l, cadp_made *p)
{
    bool m = p->male > 0;
    double age = (p->age - 56.5) / 8, zb = z(l, BMI), zs = .33 * age + .2 * zb + sqrt(1 - .33 * .33 - .2 * .2) * z(l, SBP), sbp = (m ? 141.1 : 135.1) + (m ? 16.8 : 19) * zs;
    double dbp = (m ? 84.1 : 80.6) + 10 * (.68 * zs + .73 * z(l, DBP)), log_sd = m ? .15 : .18, mean = m ? 27.8 : 27.0;

    p->bmi = grain(keep(exp(log(mean) - log_sd * log_sd / 2 + log_sd * zb), 14, 65), 0.0001);
    p->waist = grain(keep((m ? 97 : 84.7) + (m ? 11.4 : 12.5) * (.85 * zb + .53 * z(l, WAIST)), 50, 180), 1);
    for (int k = 0; k < 2; k++) {
        p->sbp[k] = round(keep(sbp + 3.7 * z(l, READ_A + (uint32_t)k), 75, 260));
        p->dbp[k] = round(keep(dbp + 2.8 * z(l, READ_B + 2 + (uint32_t)k), 40, 150));
    }
    p->manual = u(l, MISS_BP) < 0.05;
    if (u(l, MISS_BP) > 0.99) p->sbp[0] = p->sbp[1] = p->dbp[0] = p->dbp[1] = NAN;
    p->diabetes = u(l, DIABETES) < sigmoid((m ? -2.9 : -3.4) + .5 * age + .7 * zb);
    p->bp_drug = u(l, BPDRUG) < sigmoid((m ? -1.6 : -2.0) + .7 * age + .6 * zs);
    p->statin = u(l, STATIN) < sigmoid((m ? -1.8 : -2.4) + .9 * age + 1.5 * p->diabetes);
    p->hypertension = u(l, BPDRUG) < sigmoid((m ? -1.2 : -1.5) + .7 * age + .9 * zs);
}

static void make_blood(const lots *l, cadp_made *p)
{
    bool m = p->male > 0;
    double age = (p->age - 56.5) / 8, zb = z(l, BMI), zt = (m ? -.05 : .2) * age + .97 * z(l, TC), zh = -.35 * zb + .1 * zt + .93 * z(l, HDL), diabetic = p->diabetes == 1;
    double ldl = .95 * zt + .31 * z(l, LDL), egfr = keep(95 - .8 * (p->age - 56.5) + 11 * z(l, EGFR), 25, 120);

    p->tc = grain(keep((m ? 5.51 : 5.89) + 1.12 * zt - p->statin, 2, 14), 0.001);
    p->hdl = grain(keep((m ? 1.29 : 1.60) + (m ? .31 : .38) * zh, .4, 4), 0.001);
    p->ldl = grain(keep((m ? 3.49 : 3.64) + .87 * ldl - .8 * p->statin, .5, 10), 0.001);
    p->apob = grain(keep((m ? 1.02 : 1.04) + .24 * (.96 * ldl + .28 * z(l, APOB)) - .15 * p->statin, .2, 3), 0.001);
    p->tg = grain(keep(exp((m ? .55 : .31) + .5 * (-.47 * zh + .88 * z(l, TG))), .3, 11), 0.001);
    p->lpa = grain(keep(exp(3 + 1.2 * z(l, LPA)), 3.8, 400), 0.01);
    p->crp = grain(keep(exp((m ? .26 : .34) + (.45 * zb + .89 * z(l, CRP))), .08, 79), 0.01);
    p->hba1c = grain(keep(34.5 + .5 * age + .9 * zb + 3.2 * z(l, HBA1C) + (diabetic ? 14 : 0), 15, 140), 0.1);
    /* the equation turned round: one creatinine for an eGFR */
    p->creatinine = grain((m ? 79.6 : 61.9) * pow(142 * pow(.9938, p->age) * (m ? 1 : 1.012) / egfr, egfr < 142 * pow(.9938, p->age) ? 1 / 1.2 : 1 / (m ? .302 : .241)), 0.1);
    p->cystatin = grain(keep((m ? .94 : .88) - .006 * (egfr - 95) + .12 * z(l, CYSTATIN), .4, 4), 0.001);
}

static void make_life(const lots *l, cadp_made *p)
{
    static const double alcohol[] = {.2, .23, .26, .11, .115, .085}, health[] = {.165, .58, .21, .045}, walk[] = {.08, .53, .39}, income[] = {.188, .222, .229, .179, .046, .136};
    double smoker = (p->male > 0 ? .12 : .09) * exp(.15 * (p->townsend + 1.3)), previous = p->male > 0 ? .38 : .31, lot = u(l, SMOKE);

    p->smoking = lot < smoker ? 2 : lot < smoker + previous ? 1 : 0;
    p->alcohol = 1 + choose(u(l, ALCOHOL), alcohol, 6);
    p->health = 1 + choose(keep(u(l, HEALTH) + .03 * (p->bmi - 27.4) / 4.5 + .1 * p->diabetes, 0, .9999), health, 4);
    p->walking = 1 + choose(keep(u(l, WALK) - .05 * (p->bmi - 27.4) / 4.5, 0, .9999), walk, 3);
    p->income = choose(u(l, INCOME), income, 6) + 1;
    p->father = u(l, FATHER) < .3;
    p->mother = u(l, MOTHER) < .18;
    p->siblings = u(l, SIBLINGS) < .1;
    p->asks_drugs = u(l, MISS_DRUG) > .015;
}

/* Families of two share part of their scores. */
static void make_genes(const cadp_maker *m, const lots *l, cadp_made *p)
{
    double kinship;
    int64_t i = (int64_t)l->i;
    bool second = i && cadp_make_kin(m, i - 1, &kinship) && kinship > .1;
    lots family = {l->seed, second ? l->i - 1 : l->i};

    p->prs = grain(keep(.7071 * z(&family, FAMILY) + .7071 * z(l, PRS), -5, 5), 0.0001);
}

int cadp_make_kin(const cadp_maker *m, int64_t i, double *kinship)
{
    lots l = {m->seed, (uint64_t)i};
    double lot = u(&l, KIN);

    *kinship = 0;
    if (i + 1 >= m->people) return 0;
    if (lot < .13) *kinship = .25;
    else if (lot < .15) *kinship = .0625;
    else if (lot < .16) *kinship = .03; /* below the threshold: no relatives for the split */
    return *kinship > 0;
}

/* Together, as the laboratory leaves them out together. */
static void make_missing(const lots *l, cadp_made *p)
{
    if (u(l, MISS_BIO) < .063) p->tc = p->hdl = p->ldl = p->tg = p->apob = p->lpa = p->crp = p->hba1c = p->creatinine = p->cystatin = NAN;
    if (u(l, MISS_HDL) < .085) p->hdl = NAN;
    if (u(l, MISS_LPA) < .18) p->lpa = NAN;
    if (u(l, MISS_PRS) < .032) p->prs = NAN;
    if (u(l, MISS_SMOKE) < .006) p->smoking = -3;
    if (u(l, MISS_DIABETES) < .004) p->diabetes = u(l, MISS_DIABETES) < .002 ? -1 : -3;
    if (u(l, MISS_FAMILY) < .03) p->father = p->mother = p->siblings = INT32_MIN;
}

static double or_mean(double x, double mean) { return isnan(x) ? mean : x; }

double cadp_true_risk(const cadp_maker *maker, const cadp_made *p)
{
    bool m = p->male > 0;
    cad_score_inputs x = {.male = p->male, .age = p->age, .cholesterol = or_mean(p->tc, m ? 5.3 : 5.75), .hdl = or_mean(p->hdl, m ? 1.29 : 1.60),
                          .pressure = or_mean((p->sbp[0] + p->sbp[1]) / 2, m ? 141 : 135), .smoker = p->smoking == 2, .diabetes = p->diabetes == 1,
                          .pressure_drug = p->asks_drugs && p->bp_drug, .statin = p->asks_drugs && p->statin};
    double prevent, lp;

    x.egfr = isnan(p->creatinine) ? 95 : cad_egfr(m, p->age, p->creatinine);
    prevent = cad_prevent_chd(&x);
    lp = log(prevent / (1 - prevent));
    lp = 1.25 * (lp + 3.9) - 3.9 + .25 * p->male;
    lp += log(1.5) * or_mean(p->prs, 0);
    if (!isnan(p->lpa)) lp += .15 * (log(p->lpa) - 3) / 1.2;
    if (!isnan(p->crp)) lp += .12 * (log(p->crp) - .3);
    lp += .15 * (p->father == 1 || p->mother == 1 || p->siblings == 1);
    return maker->strength * (lp + 3.9) - 3.9;
}

/* ---- what happens ---- */

const int32_t cadp_make_ends[3][3] = {{2021, 3, 31}, {2021, 5, 7}, {2018, 3, 6}};

static int32_t end_of(const cadp_made *p)
{
    const int32_t *e = cadp_make_ends[p->nation];
    int32_t end = cadp_day_of(e[0], e[1], e[2]);

    return p->lost != CADP_NO_DAY && p->lost < end ? p->lost : end;
}

static void add_episode(cadp_made *p, int32_t day, const char *a, const char *b, const char *operation)
{
    cadp_episode *e = &p->episode[p->episodes];

    if (p->episodes == CADP_MOST_EPISODES) return;
    p->episodes++;
    e->day = day;
    snprintf(e->icd10[0], sizeof e->icd10[0], "%s", a);
    snprintf(e->icd10[1], sizeof e->icd10[1], "%s", b);
    snprintf(e->opcs4, sizeof e->opcs4, "%s", operation);
}

static void add_attack(const lots *l, cadp_made *p, int32_t day, uint32_t kind)
{
    static const char *const codes[] = {"I210", "I211", "I214", "I219", "I249", "I252"}, *const operations[] = {"K451", "K492", "K401"};
    double lot = u(l, kind);

    if (lot < .85) add_episode(p, day, codes[(int)(lot * 7) % 6], "I10", "");
    else add_episode(p, day, "I251", "E119", operations[(int)(lot * 1000) % 3]);
}

/* Codes that another code system would take for coronary ones are among them (K409: hernia; K501: Crohn's disease). */
static void make_noise(const lots *l, cadp_made *p)
{
    static const char *const codes[] = {"I10", "K409", "E119", "K501", "M179", "J459", "C509", "N390", "I48", "I209", "I251", "R074", "H259", "M058", "K750", "Z864"};
    static const char *const operations[] = {"", "W371", "K631", "H221", "C712", "", "", ""};
    int32_t last = end_of(p);
    int n = (int)(pow(u(l, EPISODES), 2) * 7);

    if (p->death != CADP_NO_DAY && p->death < last) last = p->death;
    for (int k = 0; k < n; k++) {
        uint32_t site = EPISODE_FROM + 4 * (uint32_t)k;
        int32_t day = p->visit - 3650 + (int32_t)(u(l, site) * 8500);
        if (day <= last) add_episode(p, day, codes[(int)(u(l, site + 1) * 16)], u(l, site + 2) < .5 ? "Z864" : "", operations[(int)(u(l, site + 3) * 8)]);
    }
}

static void make_prevalent(const lots *l, cadp_made *p)
{
    double how = u(l, PREVALENT_HOW);

    p->self_attack = how > .4;
    if (how < .7) add_attack(l, p, p->visit - 30 - (int32_t)(u(l, PREVALENT_DAY) * 5000), EVENT_KIND);
}

/* Days after the visit of the first attack and of another death; -1: none within sight. */
static void make_times(const lots *l, const cadp_made *p, double risk, int32_t *event, int32_t *death)
{
    double dies = sigmoid(-3.5 + .09 * (p->age - 57) + .4 * (p->smoking == 2) + .3 * p->male);

    *event = *death = -1;
    if (u(l, EVENT) < risk) *event = 1 + (int32_t)(3652 * pow(u(l, EVENT_TIME), 1 / 1.15));
    else if (u(l, LATE) < .5 * risk) *event = 3653 + (int32_t)(u(l, EVENT_TIME) * 2000);
    if (u(l, DEATH) < dies) *death = 2 + (int32_t)(5000 * pow(u(l, DEATH_TIME), 1 / 1.2));
    if (*death >= 0 && *event > *death) *event = -1;
    if (*event > 3652 && *event < 3653) *event = 3653;
}

static void make_lost(const lots *l, cadp_made *p)
{
    p->lost = CADP_NO_DAY;
    if (u(l, LINKAGE) < .001) {
        p->lost_reason = 5;
        p->lost = p->visit + 100 + (int32_t)(u(l, LOST_DAY) * 4000);
    } else if (u(l, LOST) < .003) {
        p->lost_reason = 3;
        p->lost = p->visit + 100 + (int32_t)(u(l, LOST_DAY) * 4000);
    }
}

static void make_attack(const lots *l, cadp_made *p, int32_t day)
{
    bool fatal = u(l, EVENT_KIND) * 100 - floor(u(l, EVENT_KIND) * 100) < .15;

    p->event = day;
    if (day > end_of(p)) return; /* nobody wrote it down */
    if (!fatal || u(l, LATE) < .5) add_attack(l, p, day, EVENT_KIND);
    if (!fatal) return;
    p->death = day;
    snprintf(p->cause, sizeof p->cause, "I219");
}

static cadp_fate fate_of(const lots *l, const cadp_made *p, bool prevalent, bool unknown, int32_t other_death)
{
    int32_t until = p->visit + 3653, end = end_of(p); /* lround(10 x 365.25) */

    if (u(l, WITHDRAWN) < .003) return CADP_FATE_WITHDRAWN;
    if (p->lost_reason == 5) return CADP_FATE_NO_LINKAGE;
    if (prevalent) return CADP_FATE_PREVALENT;
    if (unknown) return CADP_FATE_UNKNOWN_DATE;
    if (p->event != CADP_NO_DAY && p->event <= until && p->event <= end) return CADP_FATE_CASE;
    if (other_death >= 0 && p->visit + other_death <= until && p->visit + other_death <= end) return CADP_FATE_CONTROL;
    return end >= until ? CADP_FATE_CONTROL : CADP_FATE_CENSORED;
}

static void make_fate(const cadp_maker *m, const lots *l, cadp_made *p)
{
    static const char *const causes[] = {"C349", "J449", "I639", "C259", "I251", "G309"};
    bool prevalent = u(l, PREVALENT) < sigmoid(p->linear + m->early), unknown = !prevalent && u(l, UNKNOWN) < .002;
    int32_t event, death;

    p->death = p->event = CADP_NO_DAY;
    make_lost(l, p);
    make_times(l, p, sigmoid(p->linear + m->offset), &event, &death);
    if (prevalent) make_prevalent(l, p);
    if (unknown) add_episode(p, CADP_ODD_DAY, "I219", "", "");
    if (death >= 0 && p->visit + death <= end_of(p)) {
        p->death = p->visit + death;
        snprintf(p->cause, sizeof p->cause, "%s", causes[(int)(u(l, DEATH_CAUSE) * 6)]);
    }
    if (event >= 0 && !prevalent) make_attack(l, p, p->visit + event);
    make_noise(l, p);
    p->fate = fate_of(l, p, prevalent, unknown, death);
}

void cadp_make_person(const cadp_maker *m, int64_t i, cadp_made *out)
{
    lots l = {m->seed, (uint64_t)i};

    memset(out, 0, sizeof *out);
    out->eid = 1000000 + (int64_t)(((uint64_t)i * 2654435761u + m->seed % 1000) % 4999999u);
    make_who(&l, out);
    make_body(&l, out);
    make_blood(&l, out);
    make_life(&l, out);
    make_genes(m, &l, out);
    make_missing(&l, out);
    out->linear = cadp_true_risk(m, out);
    make_fate(m, &l, out);
}

enum { USUAL = 60000 }; /* people whose risks say where the offset lies */

/* Bisection on the mean risk of those free of the event. `early` moves along when it is to. */
static void find_offset(cadp_maker *m, const double *linear, int64_t n, double incidence, bool moves)
{
    double low = -6, high = 6;

    for (int turn = 0; turn < 50; turn++) {
        double sum = 0, weight = 0;
        m->offset = (low + high) / 2;
        if (moves) m->early = m->offset + .35;
        for (int64_t i = 0; i < n; i++) {
            double free = 1 - sigmoid(linear[i] + m->early);
            sum += free * sigmoid(linear[i] + m->offset);
            weight += free;
        }
        if (sum / weight < incidence) low = m->offset;
        else high = m->offset;
    }
}

cad_status cadp_make_offset(cadp_maker *m, double incidence)
{
    static const double usual = 0.03; /* of UK Biobank: events before the assessment are as many as there, whatever follows */
    int64_t n = cad_min(m->people, USUAL);
    double *linear = NULL;

    CAD_TRY(cad_alloc(&linear, (size_t)n, sizeof *linear, "risks"));
    for (int64_t i = 0; i < n; i++) {
        cadp_made p;
        cadp_make_person(m, i, &p);
        linear[i] = p.linear;
    }
    find_offset(m, linear, n, usual, true);
    if (incidence > 0 && fabs(incidence - usual) > 1e-9) find_offset(m, linear, n, incidence, false);
    cad_free(&linear);
    return CAD_OK;
}
