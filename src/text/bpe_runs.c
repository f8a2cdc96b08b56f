/* Merges of a long word that is a few runs of equal symbols, such as one letter 20,000 times: the runs are merged, not their symbols. Before that a block
 * of a few symbols that repeats, such as the bytes of a letter, is merged once for all its repetitions. */
#include "vocab.h"

enum { MOST = 24, WORTH = 8, BLOCK = 4 }; /* runs that may come to be; symbols in a run, on the average, from which this pays; symbols of a block */
typedef struct stretch { int32_t id; size_t count; } stretch;
typedef struct stretches { stretch at[MOST]; int n; } stretches;

static bool read_runs(const cadp_bpe_work *w, stretches *r)
{
    size_t most = cad_min(w->symbols / WORTH, MOST / 2);

    r->n = 0;
    for (size_t i = 0, end; i < w->symbols; i = end) {
        if ((size_t)r->n == most) return false;
        for (end = i + 1; end < w->symbols && w->symbol[end].id == w->symbol[i].id;) ++end;
        r->at[r->n++] = (stretch){w->symbol[i].id, end - i};
    }
    return true;
}

static void write_runs(cadp_bpe_work *w, const stretches *r)
{
    size_t out = 0;

    for (int i = 0; i < r->n; ++i)
        for (size_t k = 0; k < r->at[i].count; ++k) w->symbol[out++].id = r->at[i].id;
    w->symbols = out;
}

static bool goes_before(const cadp_bpe *b, int32_t left, int32_t right, const cadp_merge *m)
{
    const cadp_merge *other = cadp_merges_find(&b->merges, left, right);

    return other && other->rank <= m->rank;
}

static void keep_lower(const cadp_merge *m, int at, bool within, const cadp_merge **best, int *best_at, bool *best_within)
{
    if (!m || (*best && m->rank >= (*best)->rank)) return;
    *best = m;
    *best_at = at;
    *best_within = within;
}

/* The lowest rank there is, leftmost: two symbols of run *at, or the last of it and the first of the next. */
static const cadp_merge *lowest(const cadp_bpe *b, const stretches *r, int *at, bool *within)
{
    const cadp_merge *best = NULL;

    for (int i = 0; i < r->n; ++i) {
        if (r->at[i].count > 1) keep_lower(cadp_merges_find(&b->merges, r->at[i].id, r->at[i].id), i, true, &best, at, within);
        if (i + 1 < r->n) keep_lower(cadp_merges_find(&b->merges, r->at[i].id, r->at[i + 1].id), i, false, &best, at, within);
    }
    return best;
}

/* Runs without symbols go, neighbours of one symbol join. */
static void tidy(stretches *r)
{
    int out = 0;

    for (int i = 0; i < r->n; ++i) {
        if (!r->at[i].count) continue;
        if (out && r->at[out - 1].id == r->at[i].id) r->at[out - 1].count += r->at[i].count;
        else r->at[out++] = r->at[i];
    }
    r->n = out;
}

static void insert(stretches *r, int at, stretch s)
{
    memmove(r->at + at + 1, r->at + at, (size_t)(r->n - at) * sizeof *r->at);
    r->at[at] = s;
    ++r->n;
}

/* All pairs of one run from the left; false where a pair that goes before them would come between. */
static bool merge_within(const cadp_bpe *b, stretches *r, int at, const cadp_merge *m)
{
    size_t count = r->at[at].count;

    if (m->id == m->left) return false;
    if (count > 3 && (goes_before(b, m->id, m->left, m) || goes_before(b, m->id, m->id, m) || (at && goes_before(b, r->at[at - 1].id, m->id, m)))) return false;
    r->at[at] = (stretch){m->id, count / 2};
    insert(r, at + 1, (stretch){m->left, count % 2});
    return true;
}

static void merge_between(stretches *r, int at, const cadp_merge *m)
{
    --r->at[at].count;
    --r->at[at + 1].count;
    insert(r, at + 1, (stretch){m->id, 1});
}

/* ---- blocks that repeat ---- */

static bool repeats(const cadp_bpe_work *w, size_t block)
{
    if (w->symbols % block || w->symbols < WORTH * block) return false;
    for (size_t i = block; i < w->symbols; ++i)
        if (w->symbol[i].id != w->symbol[i - block].id) return false;
    return true;
}

/* After a merge at `at`: nothing that it made possible, in the block or between it and the next, goes before the same merge of the next. */
static bool in_step(const cadp_bpe *b, const int32_t *id, size_t n, size_t at, int32_t first, const cadp_merge *m)
{
    if (goes_before(b, id[n - 1], first, m) || goes_before(b, id[n - 1], id[0], m)) return false;
    return !(at && goes_before(b, id[at - 1], id[at], m)) && !(at + 1 < n && goes_before(b, id[at], id[at + 1], m));
}

/* Merges within one block, which all its repetitions take in step; false where they do not. */
static bool merge_block(const cadp_bpe *b, int32_t *id, size_t *n)
{
    while (*n > 1) {
        const cadp_merge *best = NULL, *m;
        int32_t first = id[0];
        size_t at = 0;
        for (size_t i = 0; i + 1 < *n; ++i)
            if ((m = cadp_merges_find(&b->merges, id[i], id[i + 1])) && (!best || m->rank < best->rank)) {
                best = m;
                at = i;
            }
        if (!best) return !cadp_merges_find(&b->merges, id[*n - 1], first);
        if (goes_before(b, id[*n - 1], first, best)) return false;
        id[at] = best->id;
        memmove(id + at + 1, id + at + 2, (--*n - at - 1) * sizeof *id);
        if (!in_step(b, id, *n, at, first, best)) return false;
    }
    return true;
}

static void merge_blocks(const cadp_bpe *b, cadp_bpe_work *w)
{
    int32_t id[BLOCK];
    size_t block = 2, n, times, out = 0;

    while (block <= BLOCK && !repeats(w, block)) ++block;
    if (block > BLOCK || repeats(w, 1)) return;
    for (n = 0; n < block; ++n) id[n] = w->symbol[n].id;
    times = w->symbols / block;
    if (!merge_block(b, id, &n)) return;
    for (size_t k = 0; k < times; ++k)
        for (size_t i = 0; i < n; ++i) w->symbol[out++].id = id[i];
    w->symbols = out;
}

/* True: nothing is left to merge. False: some may be merged already, in their order. */
bool cadp_bpe_merge_runs(const cadp_bpe *b, cadp_bpe_work *w)
{
    const cadp_merge *m;
    stretches r;
    bool within = false;
    int at = 0;

    merge_blocks(b, w);
    if (!read_runs(w, &r)) return false;
    while ((m = lowest(b, &r, &at, &within))) {
        if (r.n == MOST) return false;
        if (within && !merge_within(b, &r, at, m)) return false;
        if (!within) merge_between(&r, at, m);
        tidy(&r);
    }
    write_runs(w, &r);
    return true;
}
