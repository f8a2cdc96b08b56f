/* Two scores of the same rows: the difference of their areas with its interval. */
#include "metric_priv.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

enum { DRAWS = 1000, SEED = 40087, MOST_THREADS = 16 };
typedef struct one { double v; int64_t row; } one;
typedef struct ranking { int64_t *row; bool *last; } ranking; /* rows by rising score; last: end of a group of equal scores */

static int rising(const void *a, const void *b)
{
    const one *x = a, *y = b;

    if (x->v != y->v) return x->v < y->v ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static void close_ranking(ranking *r)
{
    cad_free(&r->row);
    cad_free(&r->last);
}

static cad_status rank(ranking *r, const double *score, int64_t n)
{
    one *s = NULL;
    cad_status st = cad_alloc(&s, (size_t)n, sizeof *s, "ranks");

    if (!st) st = cad_alloc(&r->row, (size_t)n, sizeof *r->row, "ranks");
    if (!st) st = cad_alloc(&r->last, (size_t)n, sizeof *r->last, "ranks");
    for (int64_t i = 0; !st && i < n; i++) s[i] = (one){score[i], i};
    if (!st) qsort(s, (size_t)n, sizeof *s, rising);
    for (int64_t i = 0; !st && i < n; i++) {
        r->row[i] = s[i].row;
        r->last[i] = i + 1 == n || s[i + 1].v != s[i].v;
    }
    cad_free(&s);
    return st;
}

/* The area when row i counts times[i] (NULL: once each). */
static double area(const ranking *r, const int32_t *labels, const uint32_t *times, int64_t n)
{
    double pairs = 0, below = 0, ones = 0, one_here = 0, zero_here = 0;

    for (int64_t i = 0; i < n; i++) {
        double t = times ? times[r->row[i]] : 1;
        if (labels[r->row[i]]) one_here += t;
        else zero_here += t;
        if (!r->last[i]) continue;
        pairs += one_here * (below + zero_here / 2);
        below += zero_here;
        ones += one_here;
        one_here = zero_here = 0;
    }
    return ones > 0 && below > 0 ? pairs / ones / below : NAN;
}

/* The structural components: of a positive the share of negatives below it, of a negative the share of positives above it. */
static void components(const ranking *r, const int32_t *labels, int64_t n, double ones, double zeros, double *out)
{
    double zeros_below = 0, ones_below = 0, one_here = 0, zero_here = 0;

    for (int64_t i = 0, from = 0; i < n; i++) {
        if (labels[r->row[i]]) one_here++;
        else zero_here++;
        if (!r->last[i]) continue;
        for (; from <= i; from++) out[r->row[from]] = labels[r->row[from]] ? (zeros_below + zero_here / 2) / zeros : 1 - (ones_below + one_here / 2) / ones;
        zeros_below += zero_here;
        ones_below += one_here;
        one_here = zero_here = 0;
    }
}

static double variance(const int32_t *labels, const double *a, const double *b, int64_t n, double difference, double ones, double zeros)
{
    cadp_sum sum[2] = {{0, 0}, {0, 0}};

    for (int64_t i = 0; i < n; i++) {
        double d = a[i] - b[i] - difference;
        cadp_sum_add(&sum[labels[i]], d * d);
    }
    return cadp_sum_total(sum[1]) / (ones - 1) / ones + cadp_sum_total(sum[0]) / (zeros - 1) / zeros;
}

static cad_status delong(cad_paired *p, const ranking *a, const ranking *b, const int32_t *labels, int64_t n)
{
    double ones = (double)p->positives, zeros = (double)(n - p->positives), *va = NULL, *vb = NULL;
    cad_status st;

    if (ones < 2 || zeros < 2) return CAD_OK;
    st = cad_alloc(&va, (size_t)n, sizeof *va, "components");
    if (!st) st = cad_alloc(&vb, (size_t)n, sizeof *vb, "components");
    if (!st) {
        components(a, labels, n, ones, zeros, va);
        components(b, labels, n, ones, zeros, vb);
        p->se = sqrt(variance(labels, va, vb, n, p->difference, ones, zeros));
        p->ci = (cad_interval){p->difference - CADP_Z95 * p->se, p->difference + CADP_Z95 * p->se};
        p->p = p->se > 0 ? erfc(fabs(p->difference) / p->se / sqrt(2)) : p->difference == 0 ? 1 : 0;
    }
    cad_free(&va);
    cad_free(&vb);
    return st;
}

/* ---- bootstrap ---- */

typedef struct strata { int64_t *member, *start; int64_t families, count[2]; bool whole; } strata;

static int by_family(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    if (x[0] != y[0]) return x[0] < y[0] ? -1 : 1;
    return (x[1] > y[1]) - (x[1] < y[1]);
}

static cad_status gather_families(strata *s, const int64_t *family, int64_t n)
{
    int64_t(*pair)[2] = NULL;

    CAD_TRY(cad_alloc(&pair, (size_t)n, sizeof *pair, "families"));
    for (int64_t i = 0; i < n; i++) pair[i][0] = family[i], pair[i][1] = i;
    qsort(pair, (size_t)n, sizeof *pair, by_family);
    for (int64_t i = 0; i < n; i++) {
        if (!i || pair[i][0] != pair[i - 1][0]) s->start[s->families++] = i;
        s->member[i] = pair[i][1];
    }
    s->start[s->families] = n;
    cad_free(&pair);
    return CAD_OK;
}

/* Without families: the negatives first, then the positives, so that each label keeps its number. */
static void gather_labels(strata *s, const int32_t *labels, int64_t n)
{
    for (int c = 0; c < 2; c++)
        for (int64_t i = 0; i < n; i++)
            if (labels[i] == c) s->member[s->count[0] + (c ? s->count[1] : 0)] = i, s->count[c]++;
}

static cad_status open_strata(strata *s, const int32_t *labels, const int64_t *family, int64_t n)
{
    *s = (strata){.whole = family != NULL};
    CAD_TRY(cad_alloc(&s->member, (size_t)n, sizeof *s->member, "bootstrap"));
    CAD_TRY(cad_alloc(&s->start, (size_t)n + 1, sizeof *s->start, "bootstrap"));
    if (family) return gather_families(s, family, n);
    gather_labels(s, labels, n);
    return CAD_OK;
}

static void close_strata(strata *s)
{
    cad_free(&s->member);
    cad_free(&s->start);
}

/* Draw number `draw` is a function of (SEED, draw, position). */
static void draw_times(const strata *s, uint32_t draw, uint32_t *times, int64_t n)
{
    int64_t all = s->whole ? s->families : n;
    uint32_t w[4] = {0};

    memset(times, 0, (size_t)n * sizeof *times);
    for (int64_t i = 0; i < all; i++) {
        if (i % 4 == 0) cad_rng_words(SEED, CAD_RNG_BOOTSTRAP, draw, (uint64_t)(i / 4), w);
        if (s->whole) {
            int64_t f = (int64_t)((uint64_t)w[i % 4] * (uint64_t)all >> 32);
            for (int64_t k = s->start[f]; k < s->start[f + 1]; k++) times[s->member[k]]++;
        } else {
            int64_t base = i < s->count[0] ? 0 : s->count[0], size = i < s->count[0] ? s->count[0] : s->count[1];
            times[s->member[base + (int64_t)((uint64_t)w[i % 4] * (uint64_t)size >> 32)]]++;
        }
    }
}

/* b NULL: of the area of a itself. */
static cad_status bootstrap(cad_interval *out, const ranking *a, const ranking *b, const int32_t *labels, const int64_t *family, int64_t n)
{
    int threads = (int)cad_min(omp_get_max_threads(), MOST_THREADS);
    uint32_t *times = NULL;
    double *v = NULL;
    strata s;
    cad_status st = open_strata(&s, labels, family, n);

    if (!st) st = cad_alloc(&v, DRAWS, sizeof *v, "bootstrap");
    if (!st) st = cad_alloc(&times, (size_t)threads * (size_t)n, sizeof *times, "bootstrap");
    if (!st) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int d = 0; d < DRAWS; d++) {
            uint32_t *mine = times + (int64_t)omp_get_thread_num() * n;
            draw_times(&s, (uint32_t)d, mine, n);
            v[d] = area(a, labels, mine, n) - (b ? area(b, labels, mine, n) : 0);
        }
        *out = cadp_middle95(v, DRAWS);
    }
    cad_free(&times);
    cad_free(&v);
    close_strata(&s);
    return st;
}

/* Pencina 2011: up among events less down; down among the others less up. */
static void reclassify(cad_paired *p, const int32_t *labels, const double *a, const double *b, int64_t n)
{
    double moved[2] = {0, 0};

    for (int64_t i = 0; i < n; i++) moved[labels[i]] += (a[i] > b[i]) - (a[i] < b[i]);
    p->nri_events = moved[1] / (double)p->positives;
    p->nri_others = -moved[0] / (double)(n - p->positives);
}

cad_status cad_paired_auc(cad_paired *out, const int32_t *labels, const double *a, const double *b, const int64_t *family, int64_t n)
{
    const cad_interval none = {NAN, NAN};
    ranking ra = {0}, rb = {0};
    cad_status st = CAD_OK;

    *out = (cad_paired){n, 0, NAN, NAN, NAN, NAN, NAN, none, none, NAN, NAN};
    for (int64_t i = 0; i < n; i++) out->positives += labels[i];
    if (!out->positives || out->positives == n) return CAD_OK;
    st = rank(&ra, a, n);
    if (!st) st = rank(&rb, b, n);
    if (!st) {
        out->auc_a = area(&ra, labels, NULL, n);
        out->auc_b = area(&rb, labels, NULL, n);
        out->difference = out->auc_a - out->auc_b;
        reclassify(out, labels, a, b, n);
        st = delong(out, &ra, &rb, labels, n);
    }
    if (!st) st = bootstrap(&out->bootstrap, &ra, &rb, labels, family, n);
    close_ranking(&ra);
    close_ranking(&rb);
    return st;
}

static double weighted_area(const ranking *r, const int32_t *labels, const double *weight, int64_t n)
{
    double pairs = 0, below = 0, ones = 0, here[2] = {0, 0};

    for (int64_t i = 0; i < n; i++) {
        here[labels[r->row[i]]] += weight[r->row[i]];
        if (!r->last[i]) continue;
        pairs += here[1] * (below + here[0] / 2);
        below += here[0];
        ones += here[1];
        here[0] = here[1] = 0;
    }
    return ones > 0 && below > 0 ? pairs / ones / below : NAN;
}

cad_status cad_weighted_metrics(cad_weighted *out, const int32_t *labels, const double *prob1, const double *weight, int64_t n)
{
    cadp_sum all = {0, 0}, events = {0, 0}, expected = {0, 0}, squares = {0, 0};
    ranking r = {0};
    cad_status st = rank(&r, prob1, n);

    for (int64_t i = 0; i < n; i++) {
        cadp_sum_add(&all, weight[i]);
        cadp_sum_add(&events, weight[i] * labels[i]);
        cadp_sum_add(&expected, weight[i] * prob1[i]);
        cadp_sum_add(&squares, weight[i] * (prob1[i] - labels[i]) * (prob1[i] - labels[i]));
    }
    *out = (cad_weighted){cadp_sum_total(all), cadp_sum_total(events), NAN, cadp_sum_total(squares) / cadp_sum_total(all), cadp_sum_total(events) / cadp_sum_total(expected)};
    if (!st) out->auc = weighted_area(&r, labels, weight, n);
    close_ranking(&r);
    return st;
}

cad_status cad_family_auc(cad_interval *out, const int32_t *labels, const double *prob1, const int64_t *family, int64_t n)
{
    ranking r = {0};
    cad_status st = rank(&r, prob1, n);

    *out = (cad_interval){NAN, NAN};
    if (!st) st = bootstrap(out, &r, NULL, labels, family, n);
    close_ranking(&r);
    return st;
}
