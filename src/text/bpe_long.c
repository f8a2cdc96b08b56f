/* Merges of a long word: pairs that wait are kept by rank, so that few pairs that repeat are a few passes over it and no heap of its pairs. */
#include "vocab.h"

#include <stdlib.h>

enum { NONE = -1 };

/* ---- queues by rank, a heap of those that have something ---- */

static uint32_t slot_of(const cadp_bpe_work *w, uint32_t rank)
{
    uint32_t i = rank * 0x9E3779B1u >> 7 & w->slot_mask;

    while (w->slot[i] && w->queue[w->slot[i] - 1].merge->rank != rank) i = (i + 1) & w->slot_mask;
    return i;
}

static void lift(cadp_bpe_work *w, int32_t queue)
{
    size_t i = w->heaped++;

    for (; i && w->queue[w->heap[(i - 1) / 2]].merge->rank > w->queue[queue].merge->rank; i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = queue;
    w->queue[queue].heaped = true;
}

static int32_t take_lowest(cadp_bpe_work *w)
{
    int32_t top = w->heap[0], last = w->heap[--w->heaped];
    size_t i = 0;

    for (size_t child; (child = 2 * i + 1) < w->heaped; i = child) {
        if (child + 1 < w->heaped && w->queue[w->heap[child + 1]].merge->rank < w->queue[w->heap[child]].merge->rank) ++child;
        if (w->queue[w->heap[child]].merge->rank >= w->queue[last].merge->rank) break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    w->queue[top].heaped = false;
    return top;
}

static void append(cadp_bpe_work *w, cadp_queue *q, int32_t at)
{
    int32_t entry = (int32_t)w->waitings++;

    w->waiting[entry] = (cadp_waiting){at, NONE};
    if (q->head == NONE) q->head = entry;
    else {
        q->mixed |= w->waiting[q->tail].at > at;
        w->waiting[q->tail].next = entry;
    }
    q->tail = entry;
}

/* A long word has few pairs, or at least the same ones again soon. */
static inline cadp_recent *look(const cadp_bpe *b, cadp_bpe_work *w, int32_t left, int32_t right)
{
    cadp_recent *r = &w->recent[((uint32_t)left * 31 + (uint32_t)right) % CADP_RECENT];

    if (r->left == left && r->right == right && r->word == w->word) return r;
    *r = (cadp_recent){cadp_merges_find(&b->merges, left, right), left, right, NONE, w->word};
    ++w->misses;
    return r;
}

static void find_queue(cadp_bpe_work *w, cadp_recent *r)
{
    uint32_t i = slot_of(w, r->merge->rank);

    if (!w->slot[i]) {
        w->queue[w->queues] = (cadp_queue){.merge = r->merge, .head = NONE, .tail = NONE};
        w->slot[i] = (uint32_t)++w->queues;
    }
    r->queue = (int32_t)w->slot[i] - 1;
}

static void wait_for(const cadp_bpe *b, cadp_bpe_work *w, int32_t at)
{
    const cadp_symbol *s = &w->symbol[at];
    cadp_recent *r;

    if ((size_t)s->next >= w->symbols) return;
    r = look(b, w, s->id, w->symbol[s->next].id);
    if (!r->merge) return;
    if (r->queue == NONE) find_queue(w, r);
    append(w, &w->queue[r->queue], at);
    if (!w->queue[r->queue].heaped) lift(w, r->queue);
}

/* ---- one queue ---- */

static int by_place(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

    return (x > y) - (x < y);
}

/* Equal ranks merge from the left. */
static void put_in_order(cadp_bpe_work *w, cadp_queue *q)
{
    size_t n = 0;

    for (int32_t e = q->head; e != NONE; e = w->waiting[e].next) w->order[n++] = w->waiting[e].at;
    qsort(w->order, n, sizeof *w->order, by_place);
    n = 0;
    for (int32_t e = q->head; e != NONE; e = w->waiting[e].next) w->waiting[e].at = w->order[n++];
    q->mixed = false;
}

static void merge_at(const cadp_bpe *b, cadp_bpe_work *w, const cadp_merge *m, int32_t at)
{
    cadp_symbol *s = w->symbol;
    int32_t right = s[at].next;

    if (s[at].id != m->left || (size_t)right >= w->symbols || s[right].id != m->right) return;
    s[at].id = m->id;
    s[at].next = s[right].next;
    s[right].id = NONE;
    if ((size_t)s[at].next < w->symbols) s[s[at].next].prev = at;
    if (s[at].prev >= 0) wait_for(b, w, s[at].prev);
    wait_for(b, w, at);
}

/* Until it is empty or a merge of lower rank has become possible. */
static void empty_queue(const cadp_bpe *b, cadp_bpe_work *w, int32_t number)
{
    cadp_queue *q = &w->queue[number];

    while (q->head != NONE) {
        if (w->heaped && w->queue[w->heap[0]].merge->rank < q->merge->rank) break;
        if (q->mixed) put_in_order(w, q);
        int32_t at = w->waiting[q->head].at;
        q->head = w->waiting[q->head].next;
        merge_at(b, w, q->merge, at);
    }
    if (q->head != NONE && !q->heaped) lift(w, number);
}

/* Every symbol but the last waits once; each merge, and there are fewer than symbols, lets two more wait. */
static cad_status make_room(cadp_bpe_work *w)
{
    size_t most = 3 * w->symbols, slots = 64;

    if (most > INT32_MAX) return cad_fail(CAD_EDATA, "a word of a text is longer than 700 MB");
    if (most > w->long_room) {
        while (slots < 2 * most) slots *= 2;
        w->long_room = 0;
        CAD_TRY(cad_grow(&w->waiting, most, sizeof *w->waiting, "merges in waiting"));
        CAD_TRY(cad_grow(&w->queue, most, sizeof *w->queue, "merges in waiting"));
        CAD_TRY(cad_grow(&w->heap, most, sizeof *w->heap, "merges in waiting"));
        CAD_TRY(cad_grow(&w->order, most, sizeof *w->order, "merges in waiting"));
        cad_free(&w->slot);
        CAD_TRY(cad_alloc(&w->slot, slots, sizeof *w->slot, "merges in waiting"));
        w->slot_mask = (uint32_t)slots - 1;
        w->long_room = most;
    }
    w->waitings = w->queues = w->heaped = 0;
    return CAD_OK;
}

/* The slots that were used, so that a short word does not pay for a long one before it. */
static void forget(cadp_bpe_work *w)
{
    for (size_t i = 0; i < w->queues; ++i) w->order[i] = (int32_t)slot_of(w, w->queue[i].merge->rank);
    for (size_t i = 0; i < w->queues; ++i) w->slot[w->order[i]] = 0;
}

/* ---- monotonous words ---- */

static const cadp_merge *lowest(const cadp_bpe *b, cadp_bpe_work *w)
{
    const cadp_merge *best = NULL;

    for (size_t i = 0; i + 1 < w->symbols; ++i) {
        const cadp_merge *m = look(b, w, w->symbol[i].id, w->symbol[i + 1].id)->merge;
        if (m && (!best || m->rank < best->rank)) best = m;
    }
    return best;
}

static bool goes_before(const cadp_bpe *b, cadp_bpe_work *w, int32_t left, int32_t right, const cadp_merge *m)
{
    const cadp_merge *other = look(b, w, left, right)->merge;

    return other && other->rank < m->rank;
}

/* Merges every place of one pair from the left, and closes the gaps; stops where a merge that goes before it has become possible. */
static void merge_all(const cadp_bpe *b, cadp_bpe_work *w, const cadp_merge *m)
{
    cadp_symbol *s = w->symbol;
    size_t n = w->symbols, out = 0, i = 0;
    bool stop = false;

    while (i < n && !stop) {
        bool here = i + 1 < n && s[i].id == m->left && s[i + 1].id == m->right;
        s[out].id = here ? m->id : s[i].id;
        i += here ? 2 : 1;
        if (here) stop = (out && goes_before(b, w, s[out - 1].id, m->id, m)) || (i < n && goes_before(b, w, m->id, s[i].id, m));
        ++out;
    }
    for (; i < n; ++i) s[out++].id = s[i].id;
    w->symbols = out;
}

/* Pass by pass while that is little work, which it is where few pairs repeat: each pass halves them, or leaves runs. True: nothing is left to merge. */
static bool merge_passes(const cadp_bpe *b, cadp_bpe_work *w)
{
    size_t work = 4 * w->symbols, misses = 256 + w->symbols / 32;

    for (w->misses = 0; w->misses < misses && w->symbols < work; work -= w->symbols) {
        if (cadp_bpe_merge_runs(b, w)) return true;
        const cadp_merge *m = lowest(b, w);
        if (!m) return true;
        if (w->misses < misses) merge_all(b, w, m);
    }
    return false;
}

static cad_status merge_queues(const cadp_bpe *b, cadp_bpe_work *w)
{
    size_t n = w->symbols, out = 0;

    CAD_TRY(make_room(w));
    for (size_t i = 0; i + 1 < n; ++i) wait_for(b, w, (int32_t)i);
    while (w->heaped) empty_queue(b, w, take_lowest(w));
    forget(w);
    for (size_t i = 0; i < n; ++i)
        if (w->symbol[i].id >= 0) w->symbol[out++].id = w->symbol[i].id;
    w->symbols = out;
    return CAD_OK;
}

cad_status cadp_bpe_merge_long(const cadp_bpe *b, cadp_bpe_work *w)
{
    if (!++w->word) {
        memset(w->recent, 0, sizeof w->recent);
        w->word = 1;
    }
    return merge_passes(b, w) ? CAD_OK : merge_queues(b, w);
}
