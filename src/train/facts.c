/* Rank 0: tokenizer, data sets, orders, sampler; and from them the facts that every rank must agree on. */
#include "train_priv.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

/* Tokens are kept beside the output folders, so that the next run finds them; `check` changes nothing. */
static const char *token_cache(const cad_run *r, char *path, size_t room)
{
    const char *out = r->o->output_dir, *slash = strrchr(out, '/');

    if (r->what.purpose != CAD_RUN_TRAIN && r->what.purpose != CAD_RUN_EVAL) return NULL;
    if (snprintf(path, room, "%.*s%stoken-cache", slash ? (int)(slash - out) : 0, out, slash ? "/" : "") >= (int)room) return NULL;
    return path;
}

static int tokenizer_threads(const cad_run *r)
{
    int64_t asked = r->o->runtime.dataloader_num_workers;

    return (int)(asked > 0 ? asked : cad_max(1, sysconf(_SC_NPROCESSORS_ONLN)));
}

static cad_dataset_options dataset_options(const cad_run *r, const char *path, const char *cache, bool label_needed)
{
    const cad_options *o = r->o;

    return (cad_dataset_options){.path = path, .input_column = o->task.input_column, .label_column = o->task.label_column, .label_needed = label_needed, .max_length = o->task.max_length,
                                 .truncation = o->task.truncation, .keep_left = !o->task.truncation_left, .threads = tokenizer_threads(r), .cache_dir = cache,
                                 .vocabulary = r->arch.vocab, .form = r->form, .form_text = r->form_text, .end = r->form_end, .chat = r->chat.own ? &r->chat_form : NULL,
                                 .columns = {o->task.question_column, o->task.cot_column, o->task.response_column}};
}

static cad_status open_set(cad_run *r, cadp_set *s, const char *path, bool label_needed)
{
    char cache[4096];
    cad_dataset_options d = dataset_options(r, path, token_cache(r, cache, sizeof cache), label_needed);

    s->owned = true;
    return cad_dataset_open(&s->data, r->tokenizer, &d);
}

static cad_status all_rows(cadp_set *s)
{
    CAD_TRY(cad_alloc(&s->rows, (size_t)s->data->count, sizeof *s->rows, "row numbers"));
    s->count = s->data->count;
    for (int64_t i = 0; i < s->count; i++) s->rows[i] = i;
    return CAD_OK;
}

static cad_split_options split_options(const cad_options *o)
{
    return (cad_split_options){.validation_split = o->dataset.validation_split, .split_seed = (uint64_t)o->dataset.split_seed, .stratify = o->dataset.stratify,
                               .oversample = o->dataset.oversampling.enabled, .target_label = o->dataset.oversampling.target_label, .repeat_times = o->dataset.oversampling.repeat_times,
                               .shuffle_seed = (uint64_t)o->dataset.shuffle_seed, .train_shuffle_seed = (uint64_t)o->dataset.train_shuffle_seed,
                               .eval_shuffle_seed = (uint64_t)o->dataset.eval_shuffle_seed, .has_validation_file = o->dataset.validation_file != NULL,
                               .path = o->dataset.train_file};
}

/* Rows given by an order: copied, so that sets can be closed alike. */
static cad_status take_rows(cadp_set *s, const int64_t *rows, int64_t n)
{
    CAD_TRY(cad_alloc(&s->rows, (size_t)n, sizeof *s->rows, "row numbers"));
    memcpy(s->rows, rows, (size_t)n * sizeof *rows);
    s->count = n;
    return CAD_OK;
}

static cad_status open_validation_file(cad_run *r)
{
    int64_t *order;
    cad_status status;

    CAD_TRY(open_set(r, &r->eval, r->o->dataset.validation_file, true));
    CAD_TRY(cad_alloc(&order, (size_t)r->eval.data->count, sizeof *order, "row numbers"));
    cad_numpy_permutation((uint64_t)r->o->dataset.eval_shuffle_seed, r->eval.data->count, order);
    status = take_rows(&r->eval, order, r->eval.data->count);
    cad_free(&order);
    return status;
}

static cad_status open_split(cad_run *r)
{
    cad_split_options s = split_options(r->o);

    CAD_TRY(open_set(r, &r->train, r->o->dataset.train_file, true));
    CAD_TRY(cad_make_orders(&r->orders, r->train.data->labels, r->train.data->count, &s));
    CAD_TRY(take_rows(&r->train, r->orders.train, r->orders.train_count));
    if (r->o->dataset.validation_file) return open_validation_file(r);
    if (!r->orders.eval_count) return CAD_OK;
    r->eval.data = r->train.data;
    return take_rows(&r->eval, r->orders.eval, r->orders.eval_count);
}

static cad_status open_test_file(cad_run *r)
{
    CAD_TRY(open_set(r, &r->test, r->o->dataset.test_file, true));
    return all_rows(&r->test);
}

/* ---- facts ---- */

static int64_t length(const cadp_set *s, int64_t i)
{
    int64_t row = s->rows[i];

    return s->data->starts[row + 1] - s->data->starts[row];
}

static void longest_of(cad_run *r, const cadp_set *s)
{
    for (int64_t i = 0; i < s->count; i++) r->facts.longest = cad_max(r->facts.longest, length(s, i));
}

static void class_weights(cad_run *r)
{
    const cad_options *o = r->o;
    int64_t count[2] = {0, 0};

    r->facts.class_weight[0] = r->facts.class_weight[1] = 1;
    if (cadp_is_sft(r)) return;
    if (o->dataset.class_weights.mode == CAD_WEIGHTS_MANUAL) memcpy(r->facts.class_weight, o->dataset.class_weights.values, sizeof r->facts.class_weight);
    if (o->dataset.class_weights.mode != CAD_WEIGHTS_BALANCED) return;
    for (int64_t i = 0; i < r->train.count; i++) count[r->train.data->labels[r->train.rows[i]] == 1]++;
    for (int c = 0; c < 2; c++)
        if (count[c]) r->facts.class_weight[c] = (double)r->train.count / (2.0 * (double)count[c]);
}

/* The largest micro-batch of all epochs: known, because the orders are. At most 64 epochs are looked at; beyond, the bound of the longest rows. */
static cad_status largest_atom(cad_run *r)
{
    int64_t atoms = r->facts.atoms_per_epoch * cad_min(r->facts.epochs, 64), *rows;
    cad_status status = CAD_OK;

    CAD_TRY(cad_alloc(&rows, (size_t)r->facts.sequences, sizeof *rows, "row numbers"));
    for (int64_t a = 0; a < atoms && !status; a++) {
        int64_t n, tokens = 0;
        if ((status = cad_sampler_atom(r->sampler, a, rows, &n))) break;
        for (int64_t i = 0; i < n; i++) tokens += length(&r->train, rows[i]);
        r->facts.tokens = cad_max(r->facts.tokens, tokens);
    }
    if (r->facts.epochs > 64) r->facts.tokens = cad_max(r->facts.tokens, r->facts.sequences * r->facts.longest);
    cad_free(&rows);
    return status;
}

static cad_status open_sampler(cad_run *r)
{
    const cad_options *o = r->o;
    int32_t *lengths = NULL;
    cad_sampler_options s = {.rows = r->train.count, .batch = o->training.per_device_train_batch_size, .atoms_per_step = r->facts.atoms_per_step,
                             .world_at_start = (int)cad_max(1, r->facts.atoms_per_step / o->training.gradient_accumulation_steps), .accumulation_at_start = o->training.gradient_accumulation_steps,
                             .seed = (uint64_t)o->runtime.seed, .group_by_length = o->training.group_by_length,
                             .evaluates_epochs = r->eval.count && o->training.eval_strategy == CAD_WHEN_EPOCH,
                             .evaluates_every = r->eval.count && o->training.eval_strategy == CAD_WHEN_STEPS ? o->training.eval_steps : 0, .normalization = (cad_normalization)o->training.loss_normalization};
    cad_status status;

    CAD_TRY(cad_alloc(&lengths, (size_t)r->train.count, sizeof *lengths, "lengths"));
    for (int64_t i = 0; i < r->train.count; i++) lengths[i] = (int32_t)length(&r->train, i);
    s.lengths = lengths;
    status = cad_sampler_open(&r->sampler, &s);
    cad_free(&lengths);
    return status;
}

/* A prompt as long as the window leaves nothing of the answer. */
static cad_status check_answers(const cad_run *r)
{
    const cad_dataset *d = r->train.data;
    int64_t empty = 0;

    for (int64_t i = 0; i < r->train.count; i++) empty += !cadp_learned(r, length(&r->train, i), d->given + d->starts[r->train.rows[i]]);
    if (empty == r->train.count)
        return cad_fail(CAD_EDATA, "%s: expected records with something to learn within max_length %lld, found none", r->o->dataset.train_file, (long long)r->o->task.max_length);
    if (empty) cad_warn("prompts", "%lld of %lld records have nothing to learn: their prompts alone reach max_length %lld", (long long)empty, (long long)r->train.count, (long long)r->o->task.max_length);
    return CAD_OK;
}

static cad_status check_classes(const cad_run *r)
{
    int64_t positive = 0;

    if (!r->train.count) return cad_fail(CAD_EDATA, "%s: expected rows to train on, found none", r->o->dataset.train_file);
    if (cadp_is_sft(r)) return check_answers(r);
    for (int64_t i = 0; i < r->train.count; i++) positive += r->train.data->labels[r->train.rows[i]] == 1;
    if (positive && positive < r->train.count) return CAD_OK;
    return cad_fail(CAD_EDATA, "%s: expected rows of both classes to train on, found only label %d", r->o->dataset.train_file, positive ? 1 : 0);
}

/* A DeepSpeed file may say how many rows a step has: micro-batch x accumulation x ranks. */
static cad_status check_deepspeed_batch(const cad_run *r)
{
    const cad_options *o = r->o;
    int64_t rows = o->training.per_device_train_batch_size * r->facts.atoms_per_step;

    if (!o->deepspeed_train_batch_size || o->deepspeed_train_batch_size == rows) return CAD_OK;
    return cad_fail(CAD_EUSAGE, "deepspeed.train_batch_size: expected %lld (%lld a micro-batch x %lld micro-batches a step), found %lld", (long long)rows,
                    (long long)o->training.per_device_train_batch_size, (long long)r->facts.atoms_per_step, (long long)o->deepspeed_train_batch_size);
}

static cad_status train_facts(cad_run *r)
{
    const cad_options *o = r->o;
    cadp_facts *f = &r->facts;
    int64_t accumulation = cad_max(1, o->training.gradient_accumulation_steps), world;
    cad_steps s;

    CAD_TRY(check_classes(r));
    if (!f->atoms_per_step) f->atoms_per_step = accumulation * r->size; /* a resumed run keeps its own */
    CAD_TRY(check_deepspeed_batch(r));
    world = cad_max(1, f->atoms_per_step / accumulation);
    f->train_rows = r->train.count;
    f->eval_rows = r->eval.count;
    CAD_TRY(open_sampler(r));
    f->atoms_per_epoch = cad_sampler_atoms(r->sampler);
    f->steps_per_epoch = cad_sampler_steps(r->sampler);
    s = cad_count_steps(r->train.count, o->training.per_device_train_batch_size, (int)world, accumulation, o->training.num_train_epochs, o->training.max_steps);
    f->batches_per_rank = s.batches_per_rank;
    f->max_steps = s.max_steps;
    f->epochs = cad_ceil_div(f->max_steps, cad_max(1, f->steps_per_epoch));
    f->warmup = cad_count_warmup(o->training.warmup_steps, o->training.warmup_ratio, f->max_steps);
    f->sequences = o->training.per_device_train_batch_size;
    f->mean_length = 0;
    for (int64_t i = 0; i < r->train.count; i++) f->mean_length += (double)length(&r->train, i) / (double)r->train.count;
    class_weights(r);
    CAD_TRY(cadp_start_beside(r));
    cad_schedule schedule = cadp_schedule(r);
    CAD_TRY(cad_schedule_check(&schedule));
    return largest_atom(r);
}

/* `check` plans what training would do. */
static bool is_training(const cad_run *r) { return r->what.purpose == CAD_RUN_TRAIN || r->what.purpose == CAD_RUN_CHECK; }

/* Scoring cuts its batches to fit: as many rows as the evaluation batch holds, and no more tokens than planned. */
static void scoring_facts(cad_run *r)
{
    cadp_facts *f = &r->facts;
    int64_t batch = r->o->training.per_device_eval_batch_size;

    f->predict_batch = batch;
    if (!is_training(r)) {
        f->sequences = batch;
        f->tokens = cad_min(batch * f->longest, cad_max(f->longest, 16384));
    }
    f->tokens = cad_max(f->tokens, f->longest + f->sequences - 1); /* so that the planned batch has the longest row and as many rows as any */
    if (is_training(r)) f->predict_batch = cad_min(batch, f->sequences);
}

static cad_status open_scored(cad_run *r)
{
    const cad_options *o = r->o;

    if (r->what.input) {
        CAD_TRY(open_set(r, &r->test, r->what.input, false));
        return all_rows(&r->test);
    }
    if (o->dataset.test_file) return open_test_file(r);
    if (o->dataset.validation_file) {
        CAD_TRY(open_set(r, &r->test, o->dataset.validation_file, true));
        return all_rows(&r->test);
    }
    if (!o->dataset.train_file) return cad_fail(CAD_EUSAGE, "expected rows to score: --test-file, --validation-file or --train-file");
    CAD_TRY(open_split(r));
    if (!r->eval.count) return cad_fail(CAD_EUSAGE, "expected rows to score: %s has no validation rows (validation_split 0)", o->dataset.train_file);
    return CAD_OK;
}

cad_status cadp_open_data(cad_run *r)
{
    bool trains = is_training(r);

    CAD_TRY(cad_tokenizer_open(&r->tokenizer, r->tokenizer_dir));
    CAD_TRY(cadp_open_form(r));
    if (r->what.purpose == CAD_RUN_GENERATE) return cadp_open_prompts(r);
    if (trains && !r->o->dataset.train_file) return cad_fail(CAD_EUSAGE, "train_file: expected a file of records, found none");
    CAD_TRY(trains ? open_split(r) : open_scored(r));
    if (trains && r->o->dataset.test_file && r->o->training.run_test_after_train) CAD_TRY(open_test_file(r));
    CAD_TRY(cadp_open_beside(r));
    longest_of(r, &r->train);
    longest_of(r, &r->eval);
    longest_of(r, &r->test);
    if (trains) CAD_TRY(train_facts(r));
    else class_weights(r);
    if (r->what.purpose == CAD_RUN_TRAIN && cadp_is_sft(r)) CAD_TRY(cadp_pick_samples(r));
    scoring_facts(r);
    r->facts.longest = cad_max(1, r->facts.longest);
    for (const cadp_set *s = &r->train; s; s = s == &r->train ? &r->eval : s == &r->eval ? &r->test : NULL)
        for (int64_t i = 0; s->data && i < s->data->starts[s->data->count]; i++) r->facts.vocabulary = cad_max(r->facts.vocabulary, s->data->ids[i] + 1);
    return CAD_OK;
}

cad_schedule cadp_schedule(const cad_run *r)
{
    const cad_options *o = r->o;

    return (cad_schedule){.kind = (cad_schedule_kind)o->training.lr_scheduler_type, .learning_rate = o->training.learning_rate, .warmup = r->facts.warmup, .total = r->facts.max_steps,
                          .num_cycles = o->training.lr_num_cycles, .lr_end = o->training.lr_end, .power = o->training.lr_power, .min_lr = o->training.min_lr,
                          .min_lr_rate = o->training.min_lr_rate, .warmup_lr_rate = -1};
}
