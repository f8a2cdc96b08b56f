/* Embedding and pooling. */
#include "cuda_packing.h"

enum { ROW_THREADS = 128, ROW_COLS = 512 };

/* turned: the table has a column for an id. */
template <class T> KERNEL(ROW_THREADS, 8) embed(cad_tensor h, cad_tensor table, const int32_t *ids, float scale, bool add, bool turned, bool wide)
{
    int64_t token = here_block().x, id = ids[token];
    float v[8], old[8];

    for (int64_t col = 8 * here_thread(); col < h.cols; col += 8 * here_threads()) {
        int n = count_of(col, h.cols);
        if (turned)
            for (int i = 0; i < 8; i++) v[i] = i < n ? get(at<T>(table, col + i, id)) : 0;
        else
            get8(v, at<T>(table, id, col), n, wide && n == 8);
        if (add) get8(old, at<float>(h, token, col), n, wide && n == 8);
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = add ? old[i] + scale * v[i] : scale * v[i];
        put8(at<float>(h, token, col), v, n, wide && n == 8);
    }
}

extern "C" cad_status GRID(embed_fwd)(cad_device *d, const cad_embed_args *x, void *work)
{
    bool wide = lies_wide(x->h) && lies_wide(x->table);

    (void)work;
    WITH_TYPE(x->table.dtype, T, return launch(stream_of(d), "embed_fwd", embed<T>, dim(x->packing->tokens, 1, 1), ROW_THREADS, 0, x->h, x->table, x->packing->ids_dev, (float)x->scale, x->accumulate, x->turned, wide));
}

/* The block of the first token with an id adds the rows of all tokens that have it, in their order. */
KERNEL(ROW_THREADS, 8) embed_back(cad_tensor h, cad_tensor table, const int32_t *ids, int tokens, float scale, int64_t skip, bool turned)
{
    SHARED(uint32_t, found);
    int token = here_block().x, id = ids[token], before = 0;
    int64_t from = (int64_t)here_block().y * ROW_COLS, to = from + ROW_COLS < h.cols ? from + ROW_COLS : h.cols;

    if (id == skip) return;
    for (int t = here_thread(); t < token; t += here_threads()) before |= ids[t] == id;
    before = block_sum(before, (int *)found);
    if (before) return;
    for (int first = token; first < tokens; first += here_threads()) {
        int t = first + here_thread();
        uint32_t bits = vote(t < tokens && ids[t] == id);
        block_barrier();
        if (here_lane() == 0) found[here_warp()] = bits;
        block_barrier();
        for (int w = 0; w < here_threads() / 32; w++)
            for (uint32_t left = found[w]; left; left &= left - 1) {
                int64_t row = first + 32 * w + lowest_bit(left);
                for (int64_t col = from + here_thread(); col < to; col += here_threads()) *at<float>(table, turned ? col : id, turned ? id : col) += scale * *at<float>(h, row, col);
            }
    }
}

extern "C" cad_status GRID(embed_bwd)(cad_device *d, const cad_embed_args *x, void *work)
{
    int tokens = x->packing->tokens;

    (void)work;
    if (!tokens) return CAD_OK;
    return launch(stream_of(d), "embed_bwd", embed_back, dim(tokens, cad_ceil_div(x->h.cols, ROW_COLS), 1), ROW_THREADS, ROW_THREADS / 32 * (int64_t)sizeof(uint32_t), x->h, x->table,
                  x->packing->ids_dev, tokens, (float)x->scale, x->skip, x->turned);
}

/* Tokens of a sequence that count. */
ON_DEVICE void counted(int how, const int32_t *starts, int sequence, int *from, int *to)
{
    *from = starts[sequence];
    *to = starts[sequence + 1];
    if (how == CAD_POOLING_LAST) *from = *to - 1;
    if (how == CAD_POOLING_FIRST) *to = *from + 1;
}

template <class X, class Y> KERNEL(ROW_THREADS, 8) pool(cad_tensor y, cad_tensor x, const int32_t *starts, int how)
{
    int64_t col = (int64_t)here_block().y * here_threads() + here_thread();
    int sequence = here_block().x, from, to;
    float sum = 0;

    if (col >= x.cols) return;
    counted(how, starts, sequence, &from, &to);
    for (int t = from; t < to; t++) sum += get(at<X>(x, t, col));
    put(at<Y>(y, sequence, col), sum * (1 / (float)(to - from)));
}

extern "C" cad_status GRID(pool_fwd)(cad_device *d, const cad_pool_args *x, void *work)
{
    cadp_dim blocks = dim(x->packing->sequences, cad_ceil_div(x->x.cols, ROW_THREADS), 1);

    (void)work;
    WITH_TYPE(x->x.dtype, X, WITH_TYPE(x->y.dtype, Y, return launch(stream_of(d), "pool_fwd", pool<X, Y>, blocks, ROW_THREADS, 0, x->y, x->x, x->packing->starts_dev, (int)x->how)));
}

template <class X, class Y> KERNEL(ROW_THREADS, 8) spread(cad_tensor x, cad_tensor y, const int32_t *starts, int sequences, int how)
{
    int64_t token = here_block().x;
    int sequence = sequence_of(starts, sequences, token), from, to;

    counted(how, starts, sequence, &from, &to);
    for (int64_t col = here_thread(); col < x.cols; col += here_threads())
        put(at<X>(x, token, col), token >= from && token < to ? get(at<Y>(y, sequence, col)) * (1 / (float)(to - from)) : 0);
}

extern "C" cad_status GRID(pool_bwd)(cad_device *d, const cad_pool_args *x, void *work)
{
    cadp_dim blocks = dim(x->packing->tokens, 1, 1);

    (void)work;
    WITH_TYPE(x->x.dtype, X, WITH_TYPE(x->y.dtype, Y, return launch(stream_of(d), "pool_bwd", spread<X, Y>, blocks, ROW_THREADS, 0, x->x, x->y, x->packing->starts_dev, (int)x->packing->sequences, (int)x->how)));
}
