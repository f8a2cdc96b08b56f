/* Ridge logistic regression on the same columns as the text, fitted on the training split alone; and the classical scores of everybody. */
#include "cohort_priv.h"

#include <math.h>
#include <stdio.h>

enum { MOST_TERMS = 1024, TURNS = 25 };
/* A column of the regression: a standardised number or yes/no (missing: the mean), one level of a category, or "is missing". */
typedef enum sort { VALUE, LEVEL, ABSENT } sort;
typedef struct term { const cadp_entry *e; sort sort; double level, mean, sd; } term;
typedef struct design { const cadp_cohort *c; term *t; int n; double *value; } design; /* value: of each entry, of the present person */
typedef struct fit { int p; double *beta, *gradient, *hessian, *x; } fit;

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

static double dot(const double *a, const double *b, int n)
{
    double s = 0;

    for (int i = 0; i < n; i++) s += a[i] * b[i];
    return s;
}

static double sigmoid(double t) { return 1 / (1 + exp(-t)); }

/* Minus log-likelihood plus |beta|^2 / 2 (without the constant): scikit-learn's C = 1. */
static double loss(const design *d, const fit *f)
{
    double sum = dot(f->beta + 1, f->beta + 1, f->p - 1) / 2;

    for (int64_t i = 0; i < d->c->people; i++) {
        double t;
        if (!trains(d->c, i)) continue;
        fill(d, i, f->x);
        t = dot(f->beta, f->x, f->p);
        sum += d->c->person[i].weight * (fmax(t, 0) + log1p(exp(-fabs(t))) - d->c->person[i].label * t);
    }
    return sum;
}

static void derive(const design *d, const fit *f)
{
    int p = f->p;

    memset(f->gradient, 0, (size_t)p * sizeof(double));
    memset(f->hessian, 0, (size_t)p * (size_t)p * sizeof(double));
    for (int k = 1; k < p; k++) {
        f->gradient[k] = f->beta[k];
        f->hessian[k * p + k] = 1;
    }
    for (int64_t i = 0; i < d->c->people; i++) {
        double mu, w, r;
        if (!trains(d->c, i)) continue;
        fill(d, i, f->x);
        mu = sigmoid(dot(f->beta, f->x, p));
        w = d->c->person[i].weight * mu * (1 - mu);
        r = d->c->person[i].weight * (mu - d->c->person[i].label);
        for (int a = 0; a < p; a++) {
            double wa = w * f->x[a];
            f->gradient[a] += r * f->x[a];
            if (wa == 0) continue;
            for (int b = 0; b <= a; b++) f->hessian[a * p + b] += wa * f->x[b];
        }
    }
}

/* Cholesky in place; the gradient becomes the step. */
static bool solve(const fit *f)
{
    int p = f->p;
    double *h = f->hessian, *g = f->gradient;

    for (int a = 0; a < p; a++)
        for (int b = 0; b <= a; b++) {
            double s = h[a * p + b] - dot(h + a * p, h + b * p, b);
            if (a == b && !(s > 0)) return false;
            h[a * p + b] = a == b ? sqrt(s) : s / h[b * p + b];
        }
    for (int a = 0; a < p; a++) g[a] = (g[a] - dot(h + a * p, g, a)) / h[a * p + a];
    for (int a = p - 1; a >= 0; a--) {
        for (int b = a + 1; b < p; b++) g[a] -= h[b * p + a] * g[b];
        g[a] /= h[a * p + a];
    }
    return true;
}

static double step(fit *f, double share)
{
    double most = 0;

    for (int k = 0; k < f->p; k++) {
        f->beta[k] -= share * f->gradient[k];
        most = fmax(most, fabs(share * f->gradient[k]));
    }
    return most;
}

/* Newton with halving; the loss is convex. */
static cad_status climb(const design *d, fit *f)
{
    double here = loss(d, f);

    for (int turn = 0; turn < TURNS; turn++) {
        double share = 1, there, moved;
        derive(d, f);
        if (!solve(f)) return cad_fail(CAD_EINTERNAL, "the logistic regression's curvature is not positive");
        moved = step(f, share);
        for (there = loss(d, f); there > here + 1e-9 * fabs(here) && share > 1e-6; there = loss(d, f)) {
            step(f, -share / 2);
            share /= 2;
        }
        here = there;
        if (moved < 1e-6) return CAD_OK;
    }
    return cad_fail(CAD_EINTERNAL, "the logistic regression does not come to rest in %d turns", TURNS);
}

static void close_fit(fit *f)
{
    cad_free(&f->beta);
    cad_free(&f->gradient);
    cad_free(&f->hessian);
    cad_free(&f->x);
}

static cad_status run(cadp_cohort *c, design *d)
{
    fit f = {0};
    cad_status st;

    for (int i = 0; i < c->fields.entries; i++)
        if (c->fields.entry[i].model) add_entry(d, &c->fields.entry[i]);
    f.p = d->n + 1;
    st = cad_alloc(&f.beta, (size_t)f.p, sizeof(double), "a regression");
    if (!st) st = cad_alloc(&f.gradient, (size_t)f.p, sizeof(double), "a regression");
    if (!st) st = cad_alloc(&f.hessian, (size_t)f.p * (size_t)f.p, sizeof(double), "a regression");
    if (!st) st = cad_alloc(&f.x, (size_t)f.p, sizeof(double), "a regression");
    if (!st) st = climb(d, &f);
    for (int64_t i = 0; !st && i < c->people; i++) {
        if (!cadp_is_in(&c->person[i])) continue;
        fill(d, i, f.x);
        c->risk[CAD_SCORES][i] = sigmoid(dot(f.beta, f.x, f.p));
    }
    close_fit(&f);
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
    st = run(c, &d);
    cad_free(&d.t);
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
