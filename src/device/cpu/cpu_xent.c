#include "cpu_math.h"
#include "cpu_priv.h"

#include <math.h>

CAD_CLONES static void cap(float *to, const float *x, float softcap, int64_t n)
{
    float by = 1 / softcap;

#pragma omp simd
    for (int64_t i = 0; i < n; i++) to[i] = softcap * cadp_tanh(x[i] * by);
}

CAD_CLONES static float sum_exp(const float *x, float top, int64_t n)
{
    float e[CADP_STRIP];

#pragma omp simd
    for (int64_t i = 0; i < n; i++) e[i] = cadp_exp(x[i] - top);
    return cadp_total(e, n);
}

CAD_CLONES static void probabilities(float *p, const float *x, float top, float by, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) p[i] = cadp_exp(x[i] - top) * by;
}

CAD_CLONES static void through_cap(float *p, const float *x, float softcap, int64_t n)
{
    float by = 1 / softcap;

#pragma omp simd
    for (int64_t i = 0; i < n; i++) p[i] *= 1 - x[i] * by * (x[i] * by);
}

/* n logits of a row after the cap. */
static const float *strip_of(const cad_xent_args *x, const float *z, int64_t n, float *room)
{
    if (x->softcap <= 0) return z;
    cap(room, z, (float)x->softcap, n);
    return room;
}

static void xent_gradient(const cad_xent_args *x, int64_t i, int64_t label, const float *z, float top, double sum)
{
    float by = (float)(x->scale * (double)((const float *)x->weights.data)[i * x->weights.ld]), room[CADP_STRIP], low[CADP_STRIP];
    int64_t cols = x->logits.cols;

    for (int64_t j = 0; j < cols; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, cols - j);
        const float *v = strip_of(x, z + j, n, low);
        float *p = cadp_slot(x->dlogits, i, j, room);
        probabilities(p, v, top, (float)((double)by / sum), n);
        if (label >= j && label < j + n) p[label - j] -= by;
        if (x->softcap > 0) through_cap(p, v, (float)x->softcap, n);
        cadp_put(x->dlogits, i, j, n, p);
    }
}

static void xent_row(const void *args, int64_t i, void *work)
{
    const cad_xent_args *x = args;
    int64_t cols = x->logits.cols, label = ((const int32_t *)x->labels.data)[i * x->labels.ld];
    const float *z = (const float *)x->logits.data + i * x->logits.ld;
    float top = cadp_largest(z, cols), low[CADP_STRIP], own;
    double sum = 0;

    (void)work;
    top = *strip_of(x, &top, 1, low); /* the cap keeps the order */
    own = *strip_of(x, z + label, 1, low);
    for (int64_t j = 0; j < cols; j += CADP_STRIP) {
        int64_t n = cad_min(CADP_STRIP, cols - j);
        sum += (double)sum_exp(strip_of(x, z + j, n, low), top, n);
    }
    ((double *)x->nll.data)[i * x->nll.ld] = (double)top - (double)own + log(sum);
    if (cad_some(x->dlogits)) xent_gradient(x, i, label, z, top, sum);
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
