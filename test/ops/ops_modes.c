#include "ops.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char *ops_only;

/* Unit roundoff. */
static double roundoff(cad_dtype dtype)
{
    switch (dtype) {
    case CAD_BF16: return 0x1p-9;
    case CAD_F32: return 0x1p-24;
    default: return 0x1p-53;
    }
}

static bool has(const ops_sheet *s, cad_dtype dtype)
{
    for (int k = 0; k < s->n; k++)
        if (s->slot[k].dtype == dtype && !s->slot[k].fixed) return true;
    return false;
}

/* Root mean square error, over root mean square, of one rounding of the result, of fp32 sums of `terms`, and (where an operation may)
 * of factors rounded to bfloat16: 4 (u(result) + u(factors) + u(fp32) sqrt(terms)). Single elements get 6 times that of their row's
 * largest or the whole's root mean square. */
static double allowed(const ops_sheet *s, const ops_slot *o, const ops_case *c)
{
    double factors = c->op->rounds_terms && has(s, CAD_BF16) ? roundoff(CAD_BF16) : 0;
    double sums = has(s, CAD_F64) ? roundoff(CAD_F64) : roundoff(CAD_F32);

    return 4 * (roundoff(o->dtype) + factors + sums * sqrt((double)cad_max(c->terms, 1)));
}

static double root_mean_square(const double *v, const double *minus, int64_t n)
{
    double sum = 0;

    for (int64_t e = 0; e < n; e++) {
        double x = minus ? v[e] - minus[e] : v[e];
        sum += x * x;
    }
    return sqrt(sum / (double)cad_max(n, 1));
}

static bool rows_close(const ops_slot *o, const double *got, const double *want, double limit, double typical)
{
    for (int64_t i = 0; i < o->rows; i++) {
        double top = typical;
        for (int64_t j = 0; j < o->cols; j++) top = fmax(top, fabs(want[i * o->cols + j]));
        for (int64_t j = 0; j < o->cols; j++)
            if (!(fabs(got[i * o->cols + j] - want[i * o->cols + j]) <= 6 * limit * top)) {
                printf("%s (%lld, %lld): %.9g, expected %.9g within %.3g\n", o->name, (long long)i, (long long)j, got[i * o->cols + j], want[i * o->cols + j], 6 * limit * top);
                return false;
            }
    }
    return true;
}

static bool slot_close(const ops_sheet *got, const ops_sheet *want, int k, const ops_case *c, double *worst)
{
    const ops_slot *o = &got->slot[k];
    int64_t n = o->rows * o->cols;
    double typical = root_mean_square(want->value[k], NULL, n), limit = allowed(got, o, c), error;

    if (o->exact) {
        if (!memcmp(got->value[k], want->value[k], (size_t)n * sizeof(double))) return true;
        printf("%s: bits differ\n", o->name);
        return false;
    }
    error = root_mean_square(got->value[k], want->value[k], n);
    if (typical > 0) *worst = fmax(*worst, error / (limit * typical));
    if (!(error <= limit * typical)) {
        printf("%s: relative error %.3g, allowed %.3g\n", o->name, error / typical, limit);
        return false;
    }
    return rows_close(o, got->value[k], want->value[k], limit, typical);
}

/* Results of the forward operation, as the backward one will find them. */
static bool make(ops_sheet *s, const ops_case *c)
{
    ops_sheet wide;
    bool good;

    if (!c->op->forward) return true;
    ops_sheet_open(&wide, c, true, s);
    for (int k = 0; k < s->n; k++)
        if (s->slot[k].use == OPS_IN && s->slot[k].fill == OPS_MADE) wide.slot[k].use = OPS_OUT;
    good = ops_run(&wide, c, "ref", 1, c->op->forward);
    for (int k = 0; k < s->n; k++)
        for (int64_t e = 0; s->slot[k].fill == OPS_MADE && e < s->slot[k].rows * s->slot[k].cols; e++) {
            double v = wide.value[k][e];
            s->value[k][e] = s->slot[k].dtype == CAD_BF16 ? (double)cad_bf16_to_f32(cad_f32_to_bf16((float)v)) : s->slot[k].dtype == CAD_F32 ? (double)(float)v : v;
        }
    ops_sheet_close(&wide);
    return good;
}

static bool row_against_doubles(const ops_case *c, const char *device, int threads, double *worst)
{
    ops_sheet got, want;
    bool good;

    ops_sheet_open(&got, c, false, NULL);
    good = make(&got, c);
    ops_sheet_open(&want, c, true, &got);
    good = good && ops_run(&want, c, "ref", 1, c->op->call) && ops_run(&got, c, device, threads, c->op->call);
    for (int k = 0; k < got.n && good; k++)
        if (got.slot[k].use != OPS_IN) good = slot_close(&got, &want, k, c, worst);
    ops_sheet_close(&got);
    ops_sheet_close(&want);
    return good;
}

int ops_against_doubles(const char *device, int threads)
{
    double worst = 0;
    int bad = 0;

    for (int row = 0; row < ops_cases; row++)
        if (!(ops_only && strcmp(ops_only, ops_table[row].op->name)) && !row_against_doubles(&ops_table[row], device, threads, &worst)) {
            bad++;
            printf("  ^ %s on %s\n", ops_describe(&ops_table[row], row), device);
        }
    printf("%d rows on %s, the largest error is %.2f of what its formula allows\n", ops_cases, device, worst);
    return bad;
}

static bool row_same_bits(const ops_case *c, const char *device)
{
    ops_sheet made, one, many;
    bool good;

    ops_sheet_open(&made, c, false, NULL);
    good = make(&made, c);
    ops_sheet_open(&one, c, false, &made);
    good = good && ops_run(&one, c, device, 1, c->op->call);
    for (int threads = 2; good && threads <= 4; threads += threads) {
        ops_sheet_open(&many, c, false, &made);
        good = ops_run(&many, c, device, threads, c->op->call);
        for (int k = 0; k < one.n && good; k++)
            if (memcmp(one.value[k], many.value[k], (size_t)(one.slot[k].rows * one.slot[k].cols) * sizeof(double))) {
                printf("%s: bits of 1 and %d threads differ\n", one.slot[k].name, threads);
                good = false;
            }
        ops_sheet_close(&many);
    }
    ops_sheet_close(&one);
    ops_sheet_close(&made);
    return good;
}

int ops_same_bits(const char *device)
{
    int bad = 0;

    for (int row = 0; row < ops_cases; row++)
        if (!row_same_bits(&ops_table[row], device)) {
            bad++;
            printf("  ^ %s on %s\n", ops_describe(&ops_table[row], row), device);
        }
    return bad;
}

static bool row_same_bits_where(const ops_case *c, const char *device, const char *variable, const char *value)
{
    ops_sheet with, without;
    bool good;

    ops_sheet_open(&with, c, false, NULL);
    good = make(&with, c);
    ops_sheet_open(&without, c, false, &with);
    good = good && ops_run(&without, c, device, 1, c->op->call);
    setenv(variable, value, 1);
    good = good && ops_run(&with, c, device, 1, c->op->call);
    unsetenv(variable);
    for (int k = 0; k < with.n && good; k++)
        if (memcmp(with.value[k], without.value[k], (size_t)(with.slot[k].rows * with.slot[k].cols) * sizeof(double))) {
            printf("%s: bits differ with %s=%s\n", with.slot[k].name, variable, value);
            good = false;
        }
    ops_sheet_close(&with);
    ops_sheet_close(&without);
    return good;
}

int ops_same_bits_where(const char *device, const char *variable, const char *value)
{
    int bad = 0;

    for (int row = 0; row < ops_cases; row++)
        if (!row_same_bits_where(&ops_table[row], device, variable, value)) {
            bad++;
            printf("  ^ %s on %s\n", ops_describe(&ops_table[row], row), device);
        }
    return bad;
}

static int slot_named(const ops_sheet *s, const char *name)
{
    for (int k = 0; k < s->n; k++)
        if (!strcmp(s->slot[k].name, name)) return k;
    return -1;
}

/* y of the forward operation on the inputs of `like` with element e of slot x moved by h. */
static bool moved(const ops_case *c, const ops_sheet *like, int x, int64_t e, double h, ops_sheet *s)
{
    ops_sheet_open(s, c, true, like);
    for (int k = 0; k < s->n; k++)
        if (s->slot[k].use == OPS_IN && s->slot[k].fill == OPS_MADE) s->slot[k].use = OPS_OUT;
    s->value[x][e] += h;
    return ops_run(s, c, "ref", 1, c->op->forward);
}

/* d/dx of sum(y dy) by central differences. With h = eps^(1/3) truncation and rounding are both of the order eps^(2/3). */
static bool difference(const ops_case *c, const ops_sheet *at, int x, int64_t e, double *out)
{
    const double *dy = at->value[slot_named(at, "dy")];
    double h = cbrt(DBL_EPSILON), sum = 0;
    ops_sheet up, down;
    bool good = moved(c, at, x, e, h, &up);
    int y;

    good = moved(c, at, x, e, -h, &down) && good;
    y = slot_named(&up, "y");
    for (int64_t i = 0; i < up.slot[y].rows * up.slot[y].cols; i++) sum += (up.value[y][i] - down.value[y][i]) * dy[i];
    *out = sum / (2 * h);
    ops_sheet_close(&up);
    ops_sheet_close(&down);
    return good;
}

enum { SAMPLES = 17 };

static bool slot_against_differences(const ops_case *c, const ops_sheet *before, const ops_sheet *after, int dx, int x)
{
    const ops_slot *o = &after->slot[dx];
    int64_t n = o->rows * o->cols, step = cad_max(1, n / SAMPLES);
    double top = 1, numeric;

    for (int64_t e = 0; e < n; e++) top = fmax(top, fabs(after->value[dx][e] - (o->use == OPS_INOUT ? before->value[dx][e] : 0)));
    for (int64_t e = 0; e < n; e += step) {
        double analytic = after->value[dx][e] - (o->use == OPS_INOUT ? before->value[dx][e] : 0);
        double limit = 64 * pow(DBL_EPSILON, 2.0 / 3) * top;
        if (!difference(c, before, x, e, &numeric)) return false;
        if (!(fabs(analytic - numeric) <= limit)) {
            printf("%s element %lld: %.12g, differences say %.12g, allowed %.3g\n", o->name, (long long)e, analytic, numeric, limit);
            return false;
        }
    }
    return true;
}

static bool row_against_differences(const ops_case *c)
{
    ops_sheet before, after;
    bool good;
    int seen = 0;

    ops_sheet_open(&before, c, true, NULL);
    good = make(&before, c);
    ops_sheet_open(&after, c, true, &before);
    good = good && ops_run(&after, c, "ref", 1, c->op->call);
    for (int k = 0; k < after.n && good; k++) {
        int x = after.slot[k].use != OPS_IN && after.slot[k].name[0] == 'd' ? slot_named(&after, after.slot[k].name + 1) : -1;
        if (x < 0) continue;
        good = slot_against_differences(c, &before, &after, k, x);
        seen++;
    }
    ops_sheet_close(&before);
    ops_sheet_close(&after);
    return good && seen;
}

int ops_against_differences(void)
{
    int bad = 0;

    for (int row = 0; row < ops_cases; row++)
        if (ops_table[row].flags & GRAD && !row_against_differences(&ops_table[row])) {
            bad++;
            printf("  ^ %s\n", ops_describe(&ops_table[row], row));
        }
    return bad;
}
