/* Ridge logistic regression on the same columns as the text, fitted on the training split alone; and the classical scores of everybody. */
#include "cohort_priv.h"

#include <math.h>
#include <stdio.h>

enum { MOST_TERMS = 1024 };
/* A column of the regression: a standardised number or yes/no (missing: the mean), one level of a category, or "is missing". */
typedef enum sort { VALUE, LEVEL, ABSENT } sort;
typedef struct term { const cadp_entry *e; sort sort; double level, mean, sd; } term;
typedef struct design { const cadp_cohort *c; term *t; int n; int64_t *train; } design; /* train: who is fitted on */

static bool trains(const cadp_cohort *c, int64_t i) { return cadp_is_in(&c->person[i]) && c->person[i].split == CADP_TRAIN; }

typedef struct moments { double sum, squares, n, missing; } moments;

static moments measure(const cadp_cohort *c, const cadp_entry *e)
{
    moments m = {0};

    for (int64_t i = 0; i < c->people; i++) {
        double v;
        if (!trains(c, i)) continue;
        v = cadp_entry_value(c, e, i);
        m.missing += isnan(v);
        if (isnan(v)) continue;
        m.n++;
        m.sum += v;
        m.squares += v * v;
    }
    return m;
}

static void add_term(design *d, const cadp_entry *e, sort s, double level, double mean, double sd)
{
    if (d->n < MOST_TERMS && sd > 1e-9) d->t[d->n++] = (term){e, s, level, mean, sd};
}

static void add_entry(design *d, const cadp_entry *e)
{
    moments m = measure(d->c, e);
    double all = m.n + m.missing, absent = m.missing / all, mean = m.n ? m.sum / m.n : 0;

    if (e->kind == CADP_CATEGORY)
        for (int k = 1; k < e->levels; k++) add_term(d, e, LEVEL, e->level[k], 0, 1);
    else add_term(d, e, VALUE, 0, mean, m.n ? sqrt(fmax(m.squares / m.n - mean * mean, 0)) : 0);
    if (absent > 0) add_term(d, e, ABSENT, 0, 0, 1);
}

static double cell_of(const term *t, double v)
{
    if (t->sort == ABSENT) return isnan(v);
    if (isnan(v)) return 0;
    return t->sort == LEVEL ? v == t->level : (v - t->mean) / t->sd;
}

/* x[0] is the constant. */
static void fill(const design *d, int64_t person, double *x)
{
    const cadp_entry *last = NULL;
    double v = NAN;

    x[0] = 1;
    for (int k = 0; k < d->n; k++) {
        if (d->t[k].e != last) v = cadp_entry_value(d->c, last = d->t[k].e, person);
        x[k + 1] = cell_of(&d->t[k], v);
    }
}

static void show(void *with, int64_t k, cad_regression_row *out)
{
    const design *d = with;
    int64_t i = d->train[k];

    fill(d, i, out->x);
    out->label = d->c->person[i].label;
    out->weight = d->c->person[i].weight;
}

static cad_status run(cadp_cohort *c, design *d)
{
    double *beta = NULL, *x = NULL;
    cad_regression r = {.with = d, .row = show};
    cad_status st;

    for (int i = 0; i < c->fields.entries; i++)
        if (c->fields.entry[i].model) add_entry(d, &c->fields.entry[i]);
    for (int64_t i = 0; i < c->people; i++)
        if (trains(c, i)) d->train[r.rows++] = i;
    r.terms = d->n + 1;
    st = cad_alloc(&beta, (size_t)r.terms, sizeof *beta, "a regression");
    if (!st) st = cad_alloc(&x, (size_t)r.terms, sizeof *x, "a regression");
    if (!st) st = cad_logistic_fit(&r, beta);
    for (int64_t i = 0; !st && i < c->people; i++) {
        double t = 0;
        if (!cadp_is_in(&c->person[i])) continue;
        fill(d, i, x);
        for (int k = 0; k < r.terms; k++) t += beta[k] * x[k];
        c->risk[CAD_SCORES][i] = 1 / (1 + exp(-t));
    }
    cad_free(&beta);
    cad_free(&x);
    return st;
}

static cad_status open_risk(cadp_cohort *c, int k)
{
    CAD_TRY(cad_alloc(&c->risk[k], (size_t)c->people, sizeof(double), "risks"));
    for (int64_t i = 0; i < c->people; i++) c->risk[k][i] = NAN;
    return CAD_OK;
}

cad_status cadp_fit_logistic(cadp_cohort *c)
{
    design d = {.c = c};
    cad_status st;

    CAD_TRY(open_risk(c, CAD_SCORES));
    CAD_TRY(cad_alloc(&d.t, MOST_TERMS, sizeof *d.t, "a regression"));
    st = cad_alloc(&d.train, (size_t)c->people, sizeof *d.train, "a regression");
    if (!st) st = run(c, &d);
    cad_free(&d.t);
    cad_free(&d.train);
    return st;
}

/* Ethnic background 4xxx is Black (the equations know no other group apart); SCORE2 and the rest do not ask. */
static cad_score_inputs inputs_of(const cadp_cohort *c, int64_t i)
{
    double smoking = cadp_named_value(c, "smoking", i), ethnicity = cadp_named_value(c, "ethnicity", i), creatinine = cadp_named_value(c, "creatinine", i);
    cad_score_inputs x = {.male = cadp_named_value(c, "sex", i), .age = cadp_named_value(c, "age", i), .cholesterol = cadp_named_value(c, "total_cholesterol", i),
                          .hdl = cadp_named_value(c, "hdl", i), .pressure = cadp_named_value(c, "sbp", i), .diabetes = cadp_named_value(c, "diabetes", i),
                          .pressure_drug = cadp_named_value(c, "bp_drug", i), .statin = cadp_named_value(c, "cholesterol_drug", i), .bmi = cadp_named_value(c, "bmi", i)};

    x.smoker = isnan(smoking) ? NAN : smoking == 2;
    x.black = ethnicity == 4 || (ethnicity >= 4000 && ethnicity < 5000);
    x.egfr = isnan(x.male) || isnan(x.age) || isnan(creatinine) ? NAN : cad_egfr(x.male > 0, x.age, creatinine);
    return x;
}

cad_status cadp_score_people(cadp_cohort *c)
{
    for (int k = 0; k < CAD_SCORES; k++) CAD_TRY(open_risk(c, k));
    for (int64_t i = 0; i < c->people; i++) {
        cad_score_inputs x;
        if (!cadp_is_in(&c->person[i])) continue;
        x = inputs_of(c, i);
        for (int k = 0; k < CAD_SCORES; k++) c->risk[k][i] = cad_score_risk((cad_score)k, &x);
    }
    return CAD_OK;
}
