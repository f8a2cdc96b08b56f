/* Ridge logistic regression over rows that a caller shows one at a time. */
#include "metric_priv.h"

#include <math.h>

enum { TURNS = 25 };
typedef struct fit { const cad_regression *r; int p; double *beta, *gradient, *hessian, *x; } fit;

static double dot(const double *a, const double *b, int n)
{
    double s = 0;

    for (int i = 0; i < n; i++) s += a[i] * b[i];
    return s;
}

static cad_regression_row row_of(const fit *f, int64_t i)
{
    cad_regression_row row = {.x = f->x, .weight = 1};

    f->r->row(f->r->with, i, &row);
    return row;
}

static double loss(const fit *f)
{
    cadp_sum sum = {dot(f->beta + 1, f->beta + 1, f->p - 1) / 2, 0};

    for (int64_t i = 0; i < f->r->rows; i++) {
        cad_regression_row row = row_of(f, i);
        double t = row.offset + dot(f->beta, f->x, f->p);
        cadp_sum_add(&sum, row.weight * (fmax(t, 0) + log1p(exp(-fabs(t))) - row.label * t));
    }
    return cadp_sum_total(sum);
}

static void add_row(fit *f, int64_t i)
{
    cad_regression_row row = row_of(f, i);
    int p = f->p;
    double mu = 1 / (1 + exp(-row.offset - dot(f->beta, f->x, p))), w = row.weight * mu * (1 - mu), off = row.weight * (mu - row.label);

    for (int a = 0; a < p; a++) {
        double wa = w * f->x[a];
        f->gradient[a] += off * f->x[a];
        if (wa == 0) continue;
        for (int b = 0; b <= a; b++) f->hessian[a * p + b] += wa * f->x[b];
    }
}

static void derive(fit *f)
{
    int p = f->p;

    memset(f->gradient, 0, (size_t)p * sizeof(double));
    memset(f->hessian, 0, (size_t)p * (size_t)p * sizeof(double));
    for (int k = 1; k < p; k++) {
        f->gradient[k] = f->beta[k];
        f->hessian[k * p + k] = 1;
    }
    for (int64_t i = 0; i < f->r->rows; i++) add_row(f, i);
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
static cad_status climb(fit *f)
{
    double here = loss(f);

    for (int turn = 0; turn < TURNS; turn++) {
        double share = 1, there, moved;
        derive(f);
        if (!solve(f)) return cad_fail(CAD_EDATA, "logistic regression: expected rows of both labels with a weight above 0, found a curvature that is not positive");
        moved = step(f, share);
        for (there = loss(f); there > here + 1e-9 * fabs(here) && share > 1e-6; there = loss(f)) {
            step(f, -share / 2);
            share /= 2;
        }
        here = there;
        if (moved < 1e-6) return CAD_OK;
    }
    return cad_fail(CAD_EINTERNAL, "the logistic regression does not come to rest in %d turns", TURNS);
}

cad_status cad_logistic_fit(const cad_regression *r, double *beta)
{
    fit f = {.r = r, .p = r->terms, .beta = beta};
    size_t p = (size_t)r->terms;
    cad_status st = cad_alloc(&f.gradient, p, sizeof(double), "a regression");

    memset(beta, 0, p * sizeof *beta);
    if (!st) st = cad_alloc(&f.hessian, p * p, sizeof(double), "a regression");
    if (!st) st = cad_alloc(&f.x, p, sizeof(double), "a regression");
    if (!st) st = climb(&f);
    cad_free(&f.gradient);
    cad_free(&f.hessian);
    cad_free(&f.x);
    return st;
}
