#include "cpu_math.h"
#include "cpu_priv.h"

#include <math.h>

CAD_CLONES static float largest(const float *x, int64_t n)
{
    float top = x[0];

#pragma omp simd reduction(max : top)
    for (int64_t i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
    return top;
}

CAD_CLONES static float sum_exp(const float *x, float top, int64_t n)
{
    float e[CADP_STRIP] __attribute__((aligned(64)));
    cadp_lanes sum = {0}, v;

#pragma omp simd
    for (int64_t i = 0; i < n; i++) e[i] = cadp_exp(x[i] - top);
    for (int64_t i = n; i < cad_round_up(n, 16); i++) e[i] = 0;
    for (int64_t i = 0; i < n; i += 16) {
        memcpy(&v, e + i, sizeof v);
        sum += v;
    }
    return cadp_join(&sum);
}

CAD_CLONES static void probabilities(float *p, const float *x, float top, float by, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) p[i] = cadp_exp(x[i] - top) * by;
}

static void xent_row(const void *args, int64_t i, void *work)
{
    const cad_xent_args *x = args;
    int64_t cols = x->logits.cols, label = ((const int32_t *)x->labels.data)[i * x->labels.ld];
    const float *z = (const float *)x->logits.data + i * x->logits.ld;
    float top = largest(z, cols), room[CADP_STRIP], by;
    double sum = 0;

    (void)work;
    for (int64_t j = 0; j < cols; j += CADP_STRIP) sum += (double)sum_exp(z + j, top, cad_min(CADP_STRIP, cols - j));
    ((double *)x->nll.data)[i * x->nll.ld] = (double)top - (double)z[label] + log(sum);
    if (!cad_some(x->dlogits)) return;
    by = (float)(x->scale * (double)((const float *)x->weights.data)[i * x->weights.ld]);
    for (int64_t j = 0; j < cols; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, cols - j);
        float *p = cadp_slot(x->dlogits, i, j, room);
        probabilities(p, z + j, top, (float)((double)by / sum), n);
        if (label >= j && label < j + n) p[label - j] -= by;
        cadp_put(x->dlogits, i, j, n, p);
    }
}

cad_status cadp_cpu_xent(cad_device *d, const cad_xent_args *x, void *work)
{
    (void)work;
    for (int64_t i = 0; i < x->logits.rows; i++) {
        int32_t label = ((const int32_t *)x->labels.data)[i * x->labels.ld];
        if (label < 0 || label >= x->logits.cols)
            return cad_fail(CAD_EINTERNAL, "xent: expected labels below %lld, found %d in row %lld", (long long)x->logits.cols, label, (long long)i);
    }
    cadp_cpu_each(d, x->logits.rows, xent_row, x, NULL, 0);
    return CAD_OK;
}
