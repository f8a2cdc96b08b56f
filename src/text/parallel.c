#include "text_priv.h"
#include <pthread.h>
#include <stdatomic.h>

/* Texts are handed out in blocks; a worker appends to ids of its own, and the blocks are put in order at the end. */
enum { BLOCK = 16, MOST_THREADS = 256 };
typedef struct block { int worker; int64_t from; } block;
typedef struct job {
    const cad_tokenizer *t;
    const char *const *texts;
    const size_t *sizes;
    int64_t count, longest;
    bool keep_left;
    int64_t *starts;
    bool *cut;
    block *blocks;
    atomic_llong next, done;
    atomic_bool stop;
    void (*progress)(void *, int64_t);
    void *with;
} job;
typedef struct worker {
    job *j;
    int number;
    cad_ids ids;
    cad_status status;
    int64_t failed; /* text */
    char reason[512];
    pthread_t thread;
    bool started;
} worker;

static cad_status work_block(worker *w, cadp_scratch *s, int64_t from)
{
    job *j = w->j;
    int64_t to = cad_min(from + BLOCK, j->count);

    j->blocks[from / BLOCK] = (block){w->number, w->ids.count};
    for (int64_t i = from; i < to; ++i) {
        int64_t before = w->ids.count;
        bool cut;
        w->failed = i;
        CAD_TRY(cadp_encode(j->t, s, j->texts[i], j->sizes[i], true, j->longest, j->keep_left, &w->ids, &cut));
        j->starts[i + 1] = w->ids.count - before;
        if (j->cut) j->cut[i] = cut;
    }
    atomic_fetch_add(&j->done, to - from);
    return CAD_OK;
}

static void work(worker *w)
{
    job *j = w->j;
    cadp_scratch *s = NULL;
    int64_t from;

    w->status = cadp_scratch_take(j->t, &s);
    while (!w->status && !atomic_load(&j->stop) && (from = atomic_fetch_add(&j->next, BLOCK)) < j->count) {
        w->status = work_block(w, s, from);
        if (w->number == 0 && j->progress && !w->status) j->progress(j->with, atomic_load(&j->done));
    }
    if (w->status) atomic_store(&j->stop, true);
    if (s) cadp_scratch_give(j->t, s);
}

static void *work_thread(void *with)
{
    worker *w = with;

    work(w);
    if (w->status) {
        size_t n = strlen(cad_reason());
        if (n >= sizeof w->reason) n = sizeof w->reason - 1;
        memcpy(w->reason, cad_reason(), n);
        cad_clear();
    }
    return NULL;
}

/* The failure of the first text that failed, in this thread's words. */
static cad_status verdict(worker *workers, int count)
{
    worker *bad = NULL;

    for (int i = 0; i < count; ++i)
        if (workers[i].status && (!bad || workers[i].failed < bad->failed)) bad = &workers[i];
    if (!bad) return CAD_OK;
    if (bad->number == 0) return bad->status;
    cad_clear();
    return cad_fail(bad->status, "%s", bad->reason);
}

static cad_status gather(job *j, worker *workers, cad_ids *ids)
{
    int64_t total = 0;

    for (int64_t i = 0; i < j->count; ++i) total += j->starts[i + 1];
    CAD_TRY(cadp_ids_room(ids, total));
    j->starts[0] = ids->count;
    for (int64_t i = 0; i < j->count; ++i) j->starts[i + 1] += j->starts[i];
    for (int64_t i = 0; i < j->count; i += BLOCK) {
        block b = j->blocks[i / BLOCK];
        int64_t n = j->starts[cad_min(i + BLOCK, j->count)] - j->starts[i];
        if (n) memcpy(ids->data + j->starts[i], workers[b.worker].ids.data + b.from, (size_t)n * sizeof *ids->data);
    }
    ids->count += total;
    return CAD_OK;
}

static cad_status run(job *j, int threads, cad_ids *ids)
{
    worker *workers = NULL;
    cad_status status;

    CAD_TRY(cad_alloc(&workers, (size_t)threads, sizeof *workers, "workers"));
    for (int i = 0; i < threads; ++i) workers[i] = (worker){.j = j, .number = i, .failed = j->count};
    for (int i = 1; i < threads; ++i) workers[i].started = !pthread_create(&workers[i].thread, NULL, work_thread, &workers[i]);
    work(&workers[0]); /* fewer threads than asked for only take longer */
    for (int i = 1; i < threads; ++i)
        if (workers[i].started) pthread_join(workers[i].thread, NULL);
    status = verdict(workers, threads);
    if (!status && j->progress) j->progress(j->with, j->count);
    if (!status) status = gather(j, workers, ids);
    for (int i = 0; i < threads; ++i) cad_free(&workers[i].ids.data);
    cad_free(&workers);
    return status;
}

cad_status cad_tokenizer_encode_all(const cad_tokenizer *t, const char *const *texts, const size_t *sizes, int64_t count, int64_t longest, bool keep_left,
                                    int threads, cad_ids *ids, int64_t *starts, bool *cut, void (*progress)(void *with, int64_t done), void *with)
{
    int64_t blocks = cad_ceil_div(count, BLOCK);
    job j = {.t = t, .texts = texts, .sizes = sizes, .count = count, .longest = longest, .keep_left = keep_left, .starts = starts, .cut = cut,
             .progress = progress, .with = with};
    cad_status status;

    CAD_TRY(cad_alloc(&j.blocks, (size_t)blocks, sizeof *j.blocks, "blocks of texts"));
    threads = (int)cad_max(1, cad_min(cad_min(threads, MOST_THREADS), blocks));
    status = run(&j, threads, ids);
    cad_free(&j.blocks);
    return status;
}
