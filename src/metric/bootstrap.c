#include "metric_priv.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

enum { DRAWS = 1000, SEED = 20071, MOST_THREADS = 16 };

/* How often each ranked row occurs in draw number `draw`: a function of (SEED, draw, position) alone. */
static void draw_counts(uint32_t *times, int64_t n, uint32_t draw)
{
    uint32_t w[4];

    memset(times, 0, (size_t)n * sizeof *times);
    for (int64_t i = 0; i < n; i++) {
        if (i % 4 == 0) cad_rng_words(SEED, CAD_RNG_BOOTSTRAP, draw, (uint64_t)(i / 4), w);
        times[(uint64_t)w[i % 4] * (uint64_t)n >> 32]++;
    }
}

static void measure(const cadp_scored *s, int64_t n, const uint32_t *times, double *auprc, double *brier)
{
    double squares = 0, gained = 0;
    int64_t tp = 0, before = 0, seen = 0;

    for (int64_t i = 0; i < n; i++) {
        double off = s[i].p - s[i].label;
        squares += times[i] * off * off;
        seen += times[i];
        if (s[i].label == 1) tp += times[i];
        if (!s[i].last || tp == before) continue;
        gained += (double)(tp - before) * ((double)tp / (double)seen);
        before = tp;
    }
    *auprc = tp ? gained / (double)tp : NAN;
    *brier = squares / (double)n;
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Linear between neighbours, as numpy's percentile. */
static double quantile(const double *sorted, int64_t n, double q)
{
    double at = q * (double)(n - 1);
    int64_t i = (int64_t)at;

    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

cad_interval cadp_middle95(double *values, int64_t n)
{
    int64_t kept = 0;

    for (int64_t i = 0; i < n; i++)
        if (!isnan(values[i])) values[kept++] = values[i];
    if (!kept) return (cad_interval){NAN, NAN};
    qsort(values, (size_t)kept, sizeof *values, rising);
    return (cad_interval){quantile(values, kept, 0.025), quantile(values, kept, 0.975)};
}

cad_status cadp_bootstrap(cad_metrics *m, const cadp_scored *s)
{
    int threads = (int)cad_min(omp_get_max_threads(), MOST_THREADS);
    int64_t n = m->n;
    uint32_t *times = NULL;
    double *values = NULL;
    cad_status status;

    CAD_ASSERT(n <= UINT32_MAX);
    if ((status = cad_alloc(&values, 2 * DRAWS, sizeof *values, "bootstrap"))) goto done;
    if ((status = cad_alloc(&times, (size_t)threads * (size_t)n, sizeof *times, "bootstrap"))) goto done;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int d = 0; d < DRAWS; d++) {
        uint32_t *mine = times + (int64_t)omp_get_thread_num() * n;
        draw_counts(mine, n, (uint32_t)d);
        measure(s, n, mine, &values[d], &values[DRAWS + d]);
    }
    m->auprc_ci = cadp_middle95(values, DRAWS);
    m->brier_ci = cadp_middle95(values + DRAWS, DRAWS);
done:
    cad_free(&times);
    cad_free(&values);
    return status;
}
