/* Rows by number, and which experts a row goes to. */
#include "cuda_any.h"

enum { GATHER_THREADS = 128 };

/* A number that is no row gives NaN, which ends the run. */
template <class X, class Y> KERNEL(GATHER_THREADS, 8) gather_rows(cad_tensor y, cad_tensor x, cad_tensor index, cad_tensor scale, bool add, bool wide)
{
    int64_t row = here_block().x;
    float v[8], sum[8];

    for (int64_t col = 8 * here_thread(); col < y.cols; col += 8 * here_threads()) {
        int n = count_of(col, y.cols);
        if (add)
            get8(sum, at<Y>(y, row, col), n, wide && n == 8);
        else
#pragma unroll
            for (int i = 0; i < 8; i++) sum[i] = 0;
        for (int64_t j = 0; j < index.cols; j++) {
            int from = *at<int32_t>(index, row, j);
            float by = scale.data ? *at<float>(scale, row, j) : 1;
            if (from < 0) continue;
            if (from >= x.rows) by = NAN;
            get8(v, at<X>(x, from < x.rows ? from : 0, col), from < x.rows ? n : 0, wide && n == 8 && from < x.rows);
#pragma unroll
            for (int i = 0; i < 8; i++) sum[i] += by * v[i];
        }
        put8(at<Y>(y, row, col), sum, n, wide && n == 8);
    }
}

extern "C" cad_status GRID(gather)(cad_device *d, const cad_gather_args *x, void *work)
{
    bool wide = lies_wide(x->x) && lies_wide(x->y);

    (void)work;
    if (x->x.dtype == CAD_F64 || x->y.dtype == CAD_F64 || (cad_some(x->scale) && x->scale.dtype == CAD_F64))
        return cad_fail(CAD_EUSAGE, "gather: device %s does not compute in F64; device \"ref\" does", d->name);
    WITH_TYPE(x->x.dtype, X, WITH_TYPE(x->y.dtype, Y,
        return launch(stream_of(d), "gather", gather_rows<X, Y>, dim(x->y.rows, 1, 1), GATHER_THREADS, 0, x->y, x->x, x->index, x->scale, x->accumulate, wide)));
}

/* ---- routing: a warp takes ROUTE_ROWS rows, a lane one of 32 at a time; counts by tile and expert say where its visits begin ---- */

enum { ROUTE_ROWS = 128, ROUTE_THREADS = 256 };

/* NaN is below all, so that every row has its k experts. */
ON_DEVICE float logit_of(const cad_tensor &logits, int64_t row, int e)
{
    float v = *at<float>(logits, row, e);

    return v == v ? v : -INFINITY;
}

/* The last of the k experts of a row in the order (logit falling, number rising), and its logit. */
ON_DEVICE void find_last(const cad_tensor &logits, int64_t row, int k, float *value, int *number)
{
    *value = INFINITY;
    *number = -1;
    for (int j = 0; j < k; j++) {
        float best = -INFINITY;
        int found = -1;
        for (int e = 0; e < logits.cols; e++) {
            float v = logit_of(logits, row, e);
            bool after = v < *value || (v == *value && e > *number);
            if (after && (found < 0 || v > best)) best = v, found = e;
        }
        *value = best;
        *number = found;
    }
}

/* Whether the row, if there is one, goes to expert e. */
ON_DEVICE bool goes_to(const cad_tensor &logits, int64_t row, int e, float last, int number)
{
    float v = row < logits.rows ? logit_of(logits, row, e) : 0;

    return row < logits.rows && (v > last || (v == last && e <= number));
}

ON_DEVICE int count_bits(uint32_t bits)
{
    int n = 0;

    for (; bits; bits &= bits - 1) n++;
    return n;
}

KERNEL(32, 8) count_visits(int32_t *counts, cad_tensor logits, int k)
{
    int32_t *mine = counts + (int64_t)here_block().x * logits.cols;

    for (int64_t first = (int64_t)here_block().x * ROUTE_ROWS, row = first + here_lane(); row - here_lane() < first + ROUTE_ROWS; row += 32) {
        float last = 0;
        int number = -1;
        if (row < logits.rows) find_last(logits, row, k, &last, &number);
        for (int e = 0; e < logits.cols; e++) {
            uint32_t bits = vote(goes_to(logits, row, e, last, number));
            if (here_lane() == 0) mine[e] = (row == first ? 0 : mine[e]) + count_bits(bits);
        }
    }
}

/* Counts become the numbers of the first visits, and their ends `starts`: one block. */
KERNEL(ROUTE_THREADS, 1) place_visits(int32_t *counts, int32_t *starts, int experts, int64_t tiles)
{
    for (int e = here_thread(); e < experts; e += here_threads()) {
        int32_t sum = 0;
        for (int64_t tile = 0; tile < tiles; tile++) {
            int32_t n = counts[tile * experts + e];
            counts[tile * experts + e] = sum;
            sum += n;
        }
        starts[e + 1] = sum;
    }
    block_barrier();
    if (here_thread() == 0) {
        starts[0] = 0;
        for (int e = 0; e < experts; e++) starts[e + 1] += starts[e];
    }
    block_barrier();
    for (int64_t i = here_thread(); i < tiles * experts; i += here_threads()) counts[i] += starts[i % experts];
}

KERNEL(32, 8) number_visits(int32_t *firsts, cad_tensor logits, cad_tensor token, cad_tensor slot, cad_tensor score)
{
    int32_t *mine = firsts + (int64_t)here_block().x * logits.cols;
    uint32_t before = ((uint32_t)1 << here_lane()) - 1;

    for (int64_t first = (int64_t)here_block().x * ROUTE_ROWS, row = first + here_lane(); row - here_lane() < first + ROUTE_ROWS; row += 32) {
        float last = 0;
        int number = -1, j = 0;
        if (row < logits.rows) find_last(logits, row, (int)slot.cols, &last, &number);
        for (int e = 0; e < logits.cols; e++) {
            bool chosen = goes_to(logits, row, e, last, number);
            uint32_t bits = vote(chosen);
            int32_t visit = mine[e] + count_bits(bits & before);
            warp_barrier();
            if (here_lane() == 0) mine[e] += count_bits(bits);
            warp_barrier();
            if (!chosen) continue;
            *at<int32_t>(slot, row, j++) = visit;
            *at<int32_t>(token, visit, 0) = (int32_t)row;
            *at<float>(score, visit, 0) = 1 / (1 + expf(-logit_of(logits, row, e)));
        }
    }
}

static int64_t route_tiles(const cad_route_args *x) { return cad_ceil_div(x->logits.rows, ROUTE_ROWS); }

extern "C" int64_t GRID(route_fwd_work)(const cad_device *d, const cad_route_args *x)
{
    (void)d;
    return route_tiles(x) * x->logits.cols * (int64_t)sizeof(int32_t);
}

extern "C" cad_status GRID(route_fwd)(cad_device *d, const cad_route_args *x, void *work)
{
    int64_t tiles = route_tiles(x);
    int32_t *counts = (int32_t *)work, *starts = (int32_t *)x->starts.data;

    if (tiles) CAD_TRY(launch(stream_of(d), "route_fwd, counts", count_visits, dim(tiles, 1, 1), 32, 0, counts, x->logits, (int)x->slot.cols));
    CAD_TRY(launch(stream_of(d), "route_fwd, places", place_visits, dim(1, 1, 1), ROUTE_THREADS, 0, counts, starts, (int)x->logits.cols, tiles));
    if (!tiles) return CAD_OK;
    return launch(stream_of(d), "route_fwd", number_visits, dim(tiles, 1, 1), 32, 0, counts, x->logits, x->token, x->slot, x->score);
}

ON_DEVICE int expert_of(const int32_t *starts, int experts, int visit)
{
    int low = 0, high = experts;

    while (high - low > 1) {
        int mid = low + (high - low) / 2;
        if (starts[mid] > visit)
            high = mid;
        else
            low = mid;
    }
    return low;
}

template <class V, class X> KERNEL(GATHER_THREADS, 8) route_back(cad_tensor dx, cad_tensor dlogits, cad_tensor dv, cad_tensor x, cad_tensor slot, const int32_t *starts, cad_tensor score)
{
    SHARED(float, room);
    int64_t row = here_block().x;

    for (int e = here_thread(); e < dlogits.cols; e += here_threads()) put_any(dlogits, row, e, 0);
    for (int64_t j = 0; j < slot.cols; j++) {
        int visit = *at<int32_t>(slot, row, j);
        float s = *at<float>(score, visit, 0), sum = 0;
        for (int64_t col = here_thread(); col < x.cols; col += here_threads()) {
            float v = get(at<V>(dv, visit, col));
            sum += v * get(at<X>(x, row, col));
            *at<float>(dx, row, col) += s * v;
        }
        sum = block_sum(sum, room);
        if (here_thread() == 0) put_any(dlogits, row, expert_of(starts, (int)dlogits.cols, visit), (float)((double)sum * (double)s * (1 - (double)s)));
    }
}

extern "C" cad_status GRID(route_bwd)(cad_device *d, const cad_route_bwd_args *x, void *work)
{
    const int32_t *starts = (const int32_t *)x->starts.data;

    (void)work;
    WITH_TYPE(x->dv.dtype, V, WITH_TYPE(x->x.dtype, X, return launch(stream_of(d), "route_bwd", route_back<V, X>, dim(x->x.rows, 1, 1), GATHER_THREADS, GATHER_THREADS / 32 * (int64_t)sizeof(float),
                                                                     x->dx, x->dlogits, x->dv, x->x, x->slot, starts, x->score)));
}
