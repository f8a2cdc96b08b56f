#include "data_priv.h"

#include <math.h>

/* ---- the stratified split of datasets' train_test_split(stratify_by_column) ---- */

typedef struct classes { int64_t count[2]; int n; int32_t label[2]; } classes; /* labels that occur, rising */

static classes count_classes(const int32_t *labels, int64_t n)
{
    classes c = {.n = 0};
    int64_t count[2] = {0, 0};

    for (int64_t i = 0; i < n; i++) count[labels[i] == 1]++;
    for (int32_t y = 0; y < 2; y++) {
        if (!count[y]) continue;
        c.label[c.n] = y;
        c.count[c.n++] = count[y];
    }
    return c;
}

/* How many of each class to draw: floor(share), the rest by largest remainder, a tie by lot (scikit-learn's _approximate_mode). */
static void draw_counts(cadp_pcg *g, const int64_t count[2], int n, int64_t draws, int64_t out[2])
{
    double share[2] = {0, 0}, left[2] = {0, 0}, total = 0, floors = 0;

    for (int i = 0; i < n; i++) total += (double)count[i];
    for (int i = 0; i < n; i++) {
        share[i] = (double)draws * (double)count[i] / total;
        left[i] = share[i] - floor(share[i]);
        out[i] = (int64_t)floor(share[i]);
        floors += floor(share[i]);
    }
    if ((double)draws - floors < 1) return;
    /* remainders of two classes add up to one at most, so that one draw at most is missing */
    if (n == 1) out[0]++;
    else if (left[0] == left[1]) out[cadp_pcg_below(g, 2)]++;
    else out[left[1] > left[0]]++;
}

/* The rows of one label in the file's order. */
static void list_rows(const int32_t *labels, int64_t n, int32_t label, int64_t *rows)
{
    for (int64_t i = 0, k = 0; i < n; i++)
        if ((labels[i] == 1) == label) rows[k++] = i;
}

static cad_status split_stratified(cad_orders *o, const int32_t *labels, int64_t n, const cad_split_options *opt)
{
    classes c = count_classes(labels, n);
    int64_t train[2] = {0, 0}, eval[2] = {0, 0}, rest[2], *rows, t = 0, e = 0;
    cadp_pcg g;

    for (int i = 0; i < c.n; i++)
        if (c.count[i] < 2) return cad_fail(CAD_EDATA, "a stratified split needs at least 2 records of each label, label %d has 1", c.label[i]);
    if (o->train_count < c.n || o->eval_count < c.n)
        return cad_fail(CAD_EDATA, "a stratified split of %lld records into %lld and %lld cannot hold both labels on both sides", (long long)n,
                        (long long)o->train_count, (long long)o->eval_count);
    CAD_TRY(cad_alloc(&rows, (size_t)n, sizeof *rows, "rows of a label"));
    cadp_pcg_seed(&g, opt->split_seed);
    draw_counts(&g, c.count, c.n, o->train_count, train);
    for (int i = 0; i < 2; i++) rest[i] = i < c.n ? c.count[i] - train[i] : 0;
    draw_counts(&g, rest, c.n, o->eval_count, eval);
    for (int i = 0; i < c.n; i++) {
        list_rows(labels, n, c.label[i], rows);
        cadp_pcg_shuffle(&g, rows, c.count[i]);
        memcpy(o->train + t, rows, (size_t)train[i] * sizeof *rows);
        memcpy(o->eval + e, rows + train[i], (size_t)eval[i] * sizeof *rows);
        t += train[i];
        e += eval[i];
    }
    cadp_pcg_shuffle(&g, o->train, t);
    cadp_pcg_shuffle(&g, o->eval, e);
    cad_free(&rows);
    return CAD_OK;
}

/* ---- split, oversample ---- */

static cad_status split_plain(cad_orders *o, int64_t n, uint64_t seed)
{
    int64_t *rows;

    CAD_TRY(cad_alloc(&rows, (size_t)n, sizeof *rows, "the split"));
    cad_numpy_permutation(seed, n, rows);
    memcpy(o->eval, rows, (size_t)o->eval_count * sizeof *rows);
    memcpy(o->train, rows + o->eval_count, (size_t)o->train_count * sizeof *rows);
    cad_free(&rows);
    return CAD_OK;
}

static cad_status split(cad_orders *o, const int32_t *labels, int64_t n, const cad_split_options *opt)
{
    bool whole = opt->has_validation_file || opt->validation_split == 0;

    if (!whole && !(opt->validation_split > 0 && opt->validation_split < 1))
        return cad_fail(CAD_EUSAGE, "validation_split: expected 0 or a fraction below 1, found %g", opt->validation_split);
    o->eval_count = whole ? 0 : (int64_t)ceil(opt->validation_split * (double)n);
    o->train_count = n - o->eval_count;
    if (o->train_count <= 0)
        return cad_fail(CAD_EDATA, "validation_split %g of %lld record%s leaves nothing to train on", opt->validation_split, (long long)n, n == 1 ? "" : "s");
    CAD_TRY(cad_alloc(&o->train, (size_t)o->train_count, sizeof *o->train, "the training order"));
    CAD_TRY(cad_alloc(&o->eval, (size_t)o->eval_count, sizeof *o->eval, "the evaluation order"));
    if (!whole) return opt->stratify ? split_stratified(o, labels, n, opt) : split_plain(o, n, opt->split_seed);
    for (int64_t i = 0; i < n; i++) o->train[i] = i;
    return CAD_OK;
}

static const char *source_of(const cad_split_options *o) { return o->path ? o->path : "the training file"; }

/* The others, then the whole list of the target label again and again; each list keeps its order. */
static cad_status oversample(cad_orders *o, const int32_t *labels, const cad_split_options *opt)
{
    int64_t hits = 0, total, k = 0, *rows;

    if (opt->repeat_times < 1) return cad_fail(CAD_EUSAGE, "repeat_times: expected at least 1, found %lld", (long long)opt->repeat_times);
    for (int64_t i = 0; i < o->train_count; i++) hits += labels[o->train[i]] == opt->target_label;
    if (!hits) return cad_fail(CAD_EDATA, "%s: expected records of label %lld to repeat (oversampling), found none among %lld to train on", source_of(opt), (long long)opt->target_label, (long long)o->train_count);
    if (__builtin_mul_overflow(hits, opt->repeat_times, &total) || __builtin_add_overflow(total, o->train_count - hits, &total))
        return cad_fail(CAD_EUSAGE, "repeat_times: %lld x %lld records is too many", (long long)opt->repeat_times, (long long)hits);
    CAD_TRY(cad_alloc(&rows, (size_t)total, sizeof *rows, "the oversampled order"));
    for (int64_t i = 0; i < o->train_count; i++)
        if (labels[o->train[i]] != opt->target_label) rows[k++] = o->train[i];
    for (int64_t i = 0; i < o->train_count; i++)
        if (labels[o->train[i]] == opt->target_label) rows[k++] = o->train[i];
    for (; k < total; k++) rows[k] = rows[k - hits];
    cad_free(&o->train);
    o->train = rows;
    o->train_count = total;
    return CAD_OK;
}

static void shuffle(int64_t *rows, int64_t n, uint64_t seed)
{
    cadp_pcg g;

    cadp_pcg_seed(&g, seed);
    cadp_pcg_shuffle(&g, rows, n);
}

static cad_status arrange(cad_orders *o, const int32_t *labels, int64_t n, const cad_split_options *opt)
{
    CAD_TRY(split(o, labels, n, opt));
    if (opt->oversample) {
        CAD_TRY(oversample(o, labels, opt));
        shuffle(o->train, o->train_count, opt->shuffle_seed);
    }
    shuffle(o->train, o->train_count, opt->train_shuffle_seed);
    shuffle(o->eval, o->eval_count, opt->eval_shuffle_seed);
    return CAD_OK;
}

cad_status cad_make_orders(cad_orders *out, const int32_t *labels, int64_t n, const cad_split_options *o)
{
    cad_status status;

    *out = (cad_orders){0};
    status = n < 1 ? cad_fail(CAD_EDATA, "%s: expected records to train on, found none", source_of(o)) : arrange(out, labels, n, o);
    if (status) cad_orders_close(out);
    return status;
}

void cad_orders_close(cad_orders *o)
{
    cad_free(&o->train);
    cad_free(&o->eval);
    o->train_count = o->eval_count = 0;
}
