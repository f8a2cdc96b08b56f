#include <cadtrain/optim.h>

#include <math.h>

/* Factors as transformers/optimization.py computes them, operation for operation; `at` is the step counted from 0. */

static const double pi = 3.141592653589793;

static double rise(const cad_schedule *s, double at) { return at / (double)cad_max(1, s->warmup); }

static double progress(const cad_schedule *s, double at) { return (at - (double)s->warmup) / (double)cad_max(1, s->total - s->warmup); }

static double wave(const cad_schedule *s, double part) { return 0.5 * (1.0 + cos(pi * s->num_cycles * 2.0 * part)); }

static double lowest(const cad_schedule *s) { return s->min_lr < 0 ? s->min_lr_rate : s->min_lr / s->learning_rate; }

static double linear(const cad_schedule *s, double at)
{
    return fmax(0.0, ((double)s->total - at) / (double)cad_max(1, s->total - s->warmup));
}

static double cosine(const cad_schedule *s, double at) { return fmax(0.0, wave(s, progress(s, at))); }

static double restarts(const cad_schedule *s, double at)
{
    double part = progress(s, at);
    return part >= 1.0 ? 0.0 : fmax(0.0, 0.5 * (1.0 + cos(pi * fmod(s->num_cycles * part, 1.0))));
}

static double polynomial(const cad_schedule *s, double at)
{
    double left = 1.0 - (at - (double)s->warmup) / (double)(s->total - s->warmup);

    if (at > (double)s->total) return s->lr_end / s->learning_rate;
    return ((s->learning_rate - s->lr_end) * pow(left, s->power) + s->lr_end) / s->learning_rate;
}

static double constant(const cad_schedule *s, double at)
{
    (void)s;
    (void)at;
    return 1.0;
}

static double inverse_sqrt(const cad_schedule *s, double at)
{
    double timescale = (double)(s->timescale ? s->timescale : s->warmup ? s->warmup : 10000);
    return 1.0 / sqrt((at + (timescale - (double)s->warmup)) / timescale);
}

static double cosine_to_least(const cad_schedule *s, double at)
{
    double least = lowest(s);
    return fmax(0.0, wave(s, progress(s, at)) * (1.0 - least) + least);
}

/* Counts a step ahead of the others. */
static double rise_early(const cad_schedule *s, double at)
{
    if (s->warmup_lr_rate < 0) return (at + 1.0) / (double)cad_max(1, s->warmup);
    return s->warmup_lr_rate + (1.0 - s->warmup_lr_rate) * at / (double)cad_max(1, s->warmup - 1);
}

static double cosine_early(const cad_schedule *s, double at) { return cosine_to_least(s, at + 1.0); }

typedef double factor(const cad_schedule *s, double at);
static const struct { factor *before, *after; } shapes[] = {
    [CAD_LINEAR] = {rise, linear},
    [CAD_COSINE] = {rise, cosine},
    [CAD_COSINE_WITH_RESTARTS] = {rise, restarts},
    [CAD_POLYNOMIAL] = {rise, polynomial},
    [CAD_CONSTANT] = {constant, constant},
    [CAD_CONSTANT_WITH_WARMUP] = {rise, constant},
    [CAD_INVERSE_SQRT] = {rise, inverse_sqrt},
    [CAD_COSINE_WITH_MIN_LR] = {rise, cosine_to_least},
    [CAD_COSINE_WARMUP_WITH_MIN_LR] = {rise_early, cosine_early},
};

static cad_status check_polynomial(const cad_schedule *s)
{
    if (!(s->learning_rate > s->lr_end))
        return cad_fail(CAD_EUSAGE, "polynomial schedule: lr_end (%g) must be below learning_rate (%g)", s->lr_end, s->learning_rate);
    if (s->warmup == s->total)
        return cad_fail(CAD_EUSAGE, "polynomial schedule: %lld warm-up steps leave none of the %lld steps to decay in", (long long)s->warmup, (long long)s->total);
    return CAD_OK;
}

static cad_status check_least(const cad_schedule *s)
{
    if (s->min_lr < 0 && s->min_lr_rate < 0) return cad_fail(CAD_EUSAGE, "this schedule needs min_lr or min_lr_rate, found neither");
    if (s->min_lr >= 0 && s->min_lr_rate >= 0) return cad_fail(CAD_EUSAGE, "this schedule needs min_lr or min_lr_rate, found both");
    if (s->min_lr >= 0 && s->learning_rate == 0) return cad_fail(CAD_EUSAGE, "min_lr needs a learning_rate above 0, found 0");
    return CAD_OK;
}

cad_status cad_schedule_check(const cad_schedule *s)
{
    if (!isfinite(s->learning_rate) || s->learning_rate < 0) return cad_fail(CAD_EUSAGE, "learning_rate: expected a number from 0, found %g", s->learning_rate);
    if (s->warmup < 0 || s->total < 0)
        return cad_fail(CAD_EUSAGE, "schedule: expected step counts from 0, found %lld warm-up of %lld steps", (long long)s->warmup, (long long)s->total);
    if (s->kind == CAD_POLYNOMIAL) return check_polynomial(s);
    if (s->kind == CAD_COSINE_WITH_MIN_LR || s->kind == CAD_COSINE_WARMUP_WITH_MIN_LR) return check_least(s);
    if (s->kind == CAD_INVERSE_SQRT && s->timescale < 0) return cad_fail(CAD_EUSAGE, "inverse_sqrt schedule: expected a timescale from 1, found %lld", (long long)s->timescale);
    return CAD_OK;
}

double cad_schedule_rate(const cad_schedule *s, int64_t step)
{
    int64_t at = step - 1;
    factor *f;

    CAD_ASSERT((size_t)s->kind < sizeof shapes / sizeof *shapes && step >= 1);
    f = at < s->warmup ? shapes[s->kind].before : shapes[s->kind].after;
    return s->learning_rate * f(s, (double)at);
}
