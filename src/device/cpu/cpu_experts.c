/* Rows by number, routing, products of groups. */
#include "cpu_priv.h"

#include <math.h>

enum { GATHER_ROWS = 16 };

static int32_t *whole(cad_tensor t, int64_t i, int64_t j) { return (int32_t *)t.data + i * t.ld + j; }

static void gather_row(const cad_gather_args *x, int64_t i)
{
    float in[CADP_STRIP], out[CADP_STRIP];

    for (int64_t c = 0; c < x->y.cols; c += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, x->y.cols - c);
        if (x->accumulate) memcpy(out, cadp_get(x->y, i, c, n, in), (size_t)n * sizeof *out);
        else memset(out, 0, (size_t)n * sizeof *out);
        for (int64_t j = 0; j < x->index.cols; j++) {
            int32_t from = *whole(x->index, i, j);
            float by = cad_some(x->scale) ? ((const float *)x->scale.data)[i * x->scale.ld + j] : 1;
            if (from >= 0) cadp_add_scaled(out, cadp_get(x->x, from, c, n, in), by, n);
        }
        cadp_put(x->y, i, c, n, out);
    }
}

static void gather_rows(const void *args, int64_t i, void *work)
{
    const cad_gather_args *x = args;

    (void)work;
    for (int64_t row = i * GATHER_ROWS; row < cad_min((i + 1) * GATHER_ROWS, x->y.rows); row++) gather_row(x, row);
}

cad_status cadp_cpu_gather(cad_device *d, const cad_gather_args *x, void *work)
{
    (void)work;
    if (cad_some(x->scale) && x->scale.dtype != CAD_F32) return cad_fail(CAD_EINTERNAL, "gather: device %s takes a scale in F32", d->name);
    for (int64_t i = 0; i < x->index.rows; i++)
        for (int64_t j = 0; j < x->index.cols; j++)
            if (*whole(x->index, i, j) >= x->x.rows) return cad_fail(CAD_EINTERNAL, "gather: expected rows below %lld, found %d", (long long)x->x.rows, *whole(x->index, i, j));
    cadp_cpu_each(d, cad_ceil_div(x->y.rows, GATHER_ROWS), gather_rows, x, NULL, 0);
    return CAD_OK;
}

/* NaN is below all, so that every row has its k experts. */
static float logit_of(const cad_route_args *x, int64_t i, int64_t e)
{
    float v = ((const float *)x->logits.data)[i * x->logits.ld + e];

    return isnan(v) ? -INFINITY : v;
}

/* k numbers of row i in rising order. */
static void sort_row(cad_tensor t, int64_t i)
{
    for (int64_t j = 1; j < t.cols; j++)
        for (int64_t at = j; at > 0 && *whole(t, i, at) < *whole(t, i, at - 1); at--) {
            int32_t low = *whole(t, i, at);
            *whole(t, i, at) = *whole(t, i, at - 1);
            *whole(t, i, at - 1) = low;
        }
}

/* Experts of row i into slot (experts for now, visits later). */
static void choose(const cad_route_args *x, int64_t i)
{
    int64_t k = x->slot.cols;

    for (int64_t e = 0, n = 0; e < x->logits.cols; e++) {
        int64_t j = n < k ? n++ : k;
        while (j > 0 && logit_of(x, i, e) > logit_of(x, i, *whole(x->slot, i, j - 1))) {
            if (j < k) *whole(x->slot, i, j) = *whole(x->slot, i, j - 1);
            j--;
        }
        if (j < k) *whole(x->slot, i, j) = (int32_t)e;
    }
    sort_row(x->slot, i);
}

/* A counting sort by expert: visits of one expert in the order of the rows. */
cad_status cadp_cpu_route_fwd(cad_device *d, const cad_route_args *x, void *work)
{
    int32_t *next = work, *starts = x->starts.data;
    int64_t experts = x->logits.cols;

    (void)d;
    memset(starts, 0, (size_t)(experts + 1) * sizeof *starts);
    for (int64_t i = 0; i < x->slot.rows; i++) {
        choose(x, i);
        for (int64_t j = 0; j < x->slot.cols; j++) starts[*whole(x->slot, i, j) + 1]++;
    }
    for (int64_t e = 0; e < experts; e++) starts[e + 1] += starts[e];
    memcpy(next, starts, (size_t)experts * sizeof *next);
    for (int64_t i = 0; i < x->slot.rows; i++)
        for (int64_t j = 0; j < x->slot.cols; j++) {
            int32_t e = *whole(x->slot, i, j), visit = next[e]++;
            *whole(x->slot, i, j) = visit;
            *whole(x->token, visit, 0) = (int32_t)i;
            ((float *)x->score.data)[visit * x->score.ld] = 1 / (1 + expf(-logit_of(x, i, e)));
        }
    return CAD_OK;
}

int64_t cadp_cpu_route_fwd_work(const cad_device *d, const cad_route_args *x)
{
    (void)d;
    return x->logits.cols * (int64_t)sizeof(int32_t);
}

CAD_CLONES static double dot(const float *a, const float *b, int64_t n)
{
    cadp_lanes sum = {0}, x, y;
    int64_t i = 0;

    for (; i + 16 <= n; i += 16) {
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        sum += x * y;
    }
    for (; i < n; i++) sum[i % 16] += a[i] * b[i];
    return (double)cadp_join(&sum);
}

static int64_t expert_of(const cad_route_bwd_args *x, int32_t visit)
{
    const int32_t *starts = x->starts.data;
    int64_t low = 0, high = x->dlogits.cols;

    while (high - low > 1) {
        int64_t mid = low + (high - low) / 2;
        if (starts[mid] > visit) high = mid;
        else low = mid;
    }
    return low;
}

static void visit_back(const cad_route_bwd_args *x, int64_t i, int32_t visit)
{
    float v[CADP_STRIP], in[CADP_STRIP], score = ((const float *)x->score.data)[visit * x->score.ld], slope;
    double ds = 0;

    for (int64_t c = 0; c < x->x.cols; c += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, x->x.cols - c);
        const float *dv = cadp_get(x->dv, visit, c, n, v);
        ds += dot(dv, cadp_get(x->x, i, c, n, in), n);
        cadp_add_scaled((float *)x->dx.data + i * x->dx.ld + c, dv, score, n);
    }
    slope = (float)(ds * (double)score * (1 - (double)score));
    cadp_put(x->dlogits, i, expert_of(x, visit), 1, &slope);
}

static void route_rows_back(const void *args, int64_t i, void *work)
{
    const cad_route_bwd_args *x = args;
    static const float zero[1];

    (void)work;
    for (int64_t row = i * GATHER_ROWS; row < cad_min((i + 1) * GATHER_ROWS, x->x.rows); row++) {
        for (int64_t e = 0; e < x->dlogits.cols; e++) cadp_put(x->dlogits, row, e, 1, zero);
        for (int64_t j = 0; j < x->slot.cols; j++) visit_back(x, row, *whole(x->slot, row, j));
    }
}

cad_status cadp_cpu_route_bwd(cad_device *d, const cad_route_bwd_args *x, void *work)
{
    (void)work;
    cadp_cpu_each(d, cad_ceil_div(x->x.rows, GATHER_ROWS), route_rows_back, x, NULL, 0);
    return CAD_OK;
}

/* The product of group g, whose rows are [from, from + n). */
static cad_matmul_args group_of(const cad_groups_args *x, int64_t g, int64_t from, int64_t n)
{
    int64_t k = x->a.cols, each = (x->codes.code ? x->codes.rows : x->b.rows) / x->groups;
    cad_matmul_args one = {.a = cad_slice(x->a, from, n), .ta = x->ta, .tb = x->tb, .alpha = 1, .beta = x->accumulate};

    one.c = x->ta ? cad_slice(x->c, g * k, k) : cad_slice(x->c, from, n);
    if (x->codes.code) one.codes = cad_coded_rows(x->codes, g * each, each);
    else one.b = x->ta ? cad_slice(x->b, from, n) : cad_slice(x->b, g * each, each);
    return one;
}

/* All rows in one group need the most. */
int64_t cadp_cpu_matmul_groups_work(const cad_device *d, const cad_groups_args *x)
{
    cad_matmul_args one = group_of(x, 0, 0, x->a.rows);

    return cadp_cpu_matmul_work(d, &one);
}

cad_status cadp_cpu_matmul_groups(cad_device *d, const cad_groups_args *x, void *work)
{
    const int32_t *starts = x->starts.data;

    for (int64_t g = 0; g < x->groups; g++) {
        int64_t n = starts[g + 1] - starts[g];
        cad_matmul_args one = group_of(x, g, starts[g], n);
        if (n || x->ta) CAD_TRY(cadp_cpu_matmul(d, &one, work));
    }
    return CAD_OK;
}
