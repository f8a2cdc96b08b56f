/* Weighted cross-entropy: a block takes a row. A label that is no class makes its row NaN, which ends the run. */
#include "cuda_grid.h"

enum { XENT_THREADS = 256 };

/* c tanh(z / c) where there is a cap. */
ON_DEVICE float capped(float z, float cap) { return cap > 0 ? cap * tanhf(z / cap) : z; }

template <class G> KERNEL(XENT_THREADS, 4) cross_entropy(cad_tensor logits, cad_tensor dlogits, cad_tensor nll, cad_tensor labels, cad_tensor weights, double scale, float cap)
{
    SHARED(float, room);
    int64_t row = here_block().x, cols = logits.cols, label = *at<int32_t>(labels, row, 0);
    const float *z = at<float>(logits, row, 0);
    bool sound = label >= 0 && label < cols;
    float top = -INFINITY, sum = 0, by, share;

    for (int64_t j = here_thread(); j < cols; j += here_threads()) top = fmaxf(top, capped(z[j], cap));
    top = block_max(top, room);
    for (int64_t j = here_thread(); j < cols; j += here_threads()) sum += expf(capped(z[j], cap) - top);
    sum = block_sum(sum, room);
    if (here_thread() == 0) *at<double>(nll, row, 0) = sound ? (double)top - (double)capped(z[label], cap) + log((double)sum) : (double)NAN;
    if (!dlogits.data) return;
    by = sound ? (float)(scale * (double)*at<float>(weights, row, 0)) : NAN;
    share = (float)((double)by / (double)sum);
    for (int64_t j = here_thread(); j < cols; j += here_threads()) {
        float c = capped(z[j], cap), slope = cap > 0 ? 1 - c / cap * (c / cap) : 1;
        put(at<G>(dlogits, row, j), (expf(c - top) * share - (j == label ? by : 0)) * slope);
    }
}

extern "C" cad_status GRID(xent)(cad_device *d, const cad_xent_args *x, void *work)
{
    int threads = x->logits.cols <= 32 ? 32 : XENT_THREADS;

    (void)work;
    WITH_TYPE(x->dlogits.dtype, G, return launch(stream_of(d), "xent", cross_entropy<G>, dim(x->logits.rows, 1, 1), threads, XENT_THREADS / 32 * (int64_t)sizeof(float), x->logits, x->dlogits, x->nll,
                                                 x->labels, x->weights, x->scale, (float)x->softcap));
}
