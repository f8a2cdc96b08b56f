/* Rotary positions, in place: a block takes a token, a thread pairs of its elements. */
#include "cuda_packing.h"

enum { ROPE_THREADS = 128 };

template <class T> KERNEL(ROPE_THREADS, 8) turn(cad_tensor x, cad_tensor cosine, cad_tensor sine, const int32_t *starts, int sequences, int half, float sign, bool pairs)
{
    int64_t token = here_block().x, position = token - starts[sequence_of(starts, sequences, token)];
    int columns = (int)(x.cols / 2);

    for (int c = here_thread(); c < columns; c += here_threads()) {
        int j = c % half, first = c / half * 2 * half + (pairs ? 2 * j : j);
        float co = *at<float>(cosine, position, j), si = *at<float>(sine, position, j) * sign;
        T *one = at<T>(x, token, first), *two = one + (pairs ? 1 : half);
        float a = get(one), b = get(two);
        put(one, a * co - b * si);
        put(two, b * co + a * si);
    }
}

extern "C" cad_status GRID(rope)(cad_device *d, const cad_rope_args *x, void *work)
{
    const cad_packing *p = x->packing;

    (void)work;
    WITH_TYPE(x->x.dtype, T, return launch(stream_of(d), "rope", turn<T>, dim(p->tokens, 1, 1), ROPE_THREADS, 0, x->x, x->cosine, x->sine, p->starts_dev, (int)p->sequences,
                                           (int)(x->head_dim / 2), x->inverse ? -1.0f : 1.0f, x->pairs));
}
