/* Prevalent, incident, censored: facts of the phenotype against the index date, the horizon and the registers' ends. */
#include "cohort_priv.h"

#include <math.h>
#include <stdlib.h>

enum { CONSENT_WITHDRAWN = 5 }; /* coding 1965: linkage is not known from then on */

static int32_t horizon_of(const cadp_cohort *c, const cadp_person *p) { return p->index + (int32_t)lround(c->plan->horizon_years * 365.25); }

/* The last day on which an event would have been seen. */
static int32_t end_of(const cadp_cohort *c, const cadp_person *p)
{
    int32_t end = c->censoring.nation[p->nation].end;

    return cadp_day_known(p->lost) && p->lost < end ? p->lost : end;
}

static bool is_prevalent(const cadp_person *p) { return p->flags & CADP_SELF_BEFORE || (cadp_day_known(p->first_case) && p->first_case <= p->index); }

static cadp_status judge(const cadp_cohort *c, cadp_person *p)
{
    int32_t until, end;

    if (!cadp_day_known(p->index)) return CADP_NO_DATE;
    if (p->lost_reason == CONSENT_WITHDRAWN) return CADP_NO_LINKAGE;
    if (is_prevalent(p)) {
        if (c->plan->prevalent == CAD_PREVALENT_EXCLUDE) return CADP_PREVALENT;
        p->label = 1;
        return CADP_IN;
    }
    if (p->flags & CADP_CASE_NO_DATE) return CADP_UNKNOWN_DATE;
    if (p->nation < 0) return CADP_NO_NATION;
    until = horizon_of(c, p);
    end = end_of(c, p);
    p->label = cadp_day_known(p->first_case) && p->first_case <= until;
    if (p->label) return CADP_IN;
    if (cadp_day_known(p->death) && p->death <= until && p->death <= end) {
        p->flags |= CADP_DIED_FIRST; /* of something else: the event did not come and cannot */
        return CADP_IN;
    }
    return end >= until ? CADP_IN : CADP_CENSORED;
}

/* ---- inverse probability of censoring (Kaplan and Meier of the censoring time) ---- */

typedef struct follow { int32_t days, person; bool censored; } follow;

static int by_days(const void *a, const void *b)
{
    const follow *x = a, *y = b;

    if (x->days != y->days) return x->days < y->days ? -1 : 1;
    return (int)x->censored - (int)y->censored; /* events of a day come before its censorings */
}

static follow follow_of(const cadp_cohort *c, int64_t i)
{
    const cadp_person *p = &c->person[i];
    int32_t until = horizon_of(c, p), last = until;

    if (p->status == CADP_CENSORED) last = end_of(c, p);
    else if (p->label) last = p->first_case;
    else if (p->flags & CADP_DIED_FIRST) last = p->death;
    return (follow){last < until ? last - p->index : until - p->index, (int32_t)i, p->status == CADP_CENSORED};
}

static void weigh(cadp_cohort *c, follow *f, int64_t n)
{
    double stays = 1, before = 1; /* G just before the present day */

    for (int64_t i = 0; i < n; i++) {
        if (!i || f[i].days != f[i - 1].days) before = stays;
        if (f[i].censored) stays *= 1 - 1 / (double)(n - i);
        else c->person[f[i].person].weight = (float)(1 / before);
    }
}

static cad_status weigh_all(cadp_cohort *c)
{
    follow *f = NULL;
    int64_t n = 0;

    CAD_TRY(cad_alloc(&f, (size_t)c->people, sizeof *f, "follow-up times"));
    for (int64_t i = 0; i < c->people; i++)
        if ((cadp_is_in(&c->person[i]) && !is_prevalent(&c->person[i])) || c->person[i].status == CADP_CENSORED) f[n++] = follow_of(c, i);
    qsort(f, (size_t)n, sizeof *f, by_days);
    weigh(c, f, n);
    cad_free(&f);
    return CAD_OK;
}

cad_status cadp_label(cadp_cohort *c)
{
    int64_t in = 0, cases = 0, wrong = 0, kept = 0, later = 0;

    for (int64_t i = 0; i < c->people; i++) {
        cadp_person *p = &c->person[i];
        if (p->flags & CADP_FATAL_CASE) cadp_meet_case(c, (int32_t)i, CADP_FROM_DEATH, cadp_day_known(p->death) ? p->death : CADP_ODD_DAY);
        p->nation = (int8_t)cadp_nation_of(&c->censoring, p->centre);
        p->status = (uint8_t)judge(c, p);
        if (!cadp_is_in(p)) continue;
        in++;
        cases += p->label;
        kept += is_prevalent(p);
        later += !p->label && p->flags & CADP_SELF_LATER;
        wrong += !p->label && !(p->flags & CADP_DIED_FIRST) && end_of(c, p) < horizon_of(c, p);
    }
    if (!in) return cad_fail(CAD_EDATA, "nobody is left after the exclusions: expected people with a date of assessment (field 53), a known centre (54) and enough follow-up");
    if (!cases || cases == in) return cad_fail(CAD_EDATA, "everybody has the same label after the exclusions: is the phenotype's data (41270 with 41280, or hesin tables) among the files?");
    CAD_TRY(cadp_finding(c, "censored_as_control", NULL, wrong, "people without the event whose follow-up ends before the horizon are labelled 0", true));
    CAD_TRY(cadp_finding(c, "prevalent_kept", NULL, kept, "people had the event before the index date", true));
    CAD_TRY(cadp_finding(c, "self_report_later", NULL, later, "people without the event reported it at a later visit; their label stays 0", false));
    return c->plan->censored == CAD_CENSORED_WEIGHT ? weigh_all(c) : CAD_OK;
}
