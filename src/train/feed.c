/* Micro-batches from rank 0 to everybody. While a step computes, a thread on rank 0 packs the next one; messages are exchanged at the border. */
#include "train_priv.h"

#include <pthread.h>

/* One step's micro-batches: [micros] here, [micros * ranks] on rank 0. */
typedef struct set { cad_batch *batch; int64_t step; } set;

struct cadp_feed {
    cad_run *run;
    set sets[2];
    int64_t count;             /* batches in a set */
    int64_t *rows, *positions; /* rank 0: of one atom */
    pthread_t thread;
    bool packing;
    int64_t packing_step;
    cad_status packed;         /* what the thread ended with */
    char reason[512];
};

static int64_t atoms_in_step(const cad_run *r, int64_t in_epoch)
{
    return cad_min(r->facts.atoms_per_step, r->facts.atoms_per_epoch - in_epoch * r->facts.atoms_per_step);
}

/* The rows of atom number `i` of a step, as data set rows. */
static cad_status atom_rows(cadp_feed *f, int64_t atom, int64_t *count)
{
    cad_run *r = f->run;

    CAD_TRY(cad_sampler_atom(r->sampler, atom, f->positions, count));
    for (int64_t i = 0; i < *count; i++) f->rows[i] = r->train.rows[f->positions[i]];
    return CAD_OK;
}

static double weight_of(const cad_run *r, const int64_t *rows, int64_t count)
{
    const cad_dataset *d = r->train.data;
    double sum = 0;

    if (cadp_is_sft(r)) {
        bool counts_first = r->o->training.loss_normalization != CAD_NORM_GLOBAL; /* Transformers counts before the shift (families 9.2) */
        for (int64_t i = 0; i < count; i++) {
            int64_t n = d->starts[rows[i] + 1] - d->starts[rows[i]];
            const uint8_t *given = d->given + d->starts[rows[i]];
            sum += (double)cadp_learned(r, n, given) + (counts_first && n && (!r->o->task.completion_only_loss || !*given) ? 1 : 0);
        }
        return sum;
    }
    for (int64_t i = 0; i < count; i++) sum += cadp_row_weight(r, d, rows[i]);
    return sum;
}

static cad_status step_weight(cadp_feed *f, int64_t first, int64_t atoms, double *out)
{
    *out = 0;
    for (int64_t i = 0; i < atoms; i++) {
        int64_t count;
        CAD_TRY(atom_rows(f, first + i, &count));
        *out += weight_of(f->run, f->rows, count);
    }
    return CAD_OK;
}

static cad_status pack_atom(cadp_feed *f, cad_batch *b, int64_t atom, int64_t index, int64_t atoms, double all)
{
    cad_run *r = f->run;
    int64_t count, world = r->facts.atoms_per_step / cad_max(1, r->o->training.gradient_accumulation_steps);
    int64_t micros = cad_ceil_div(atoms - index % world, world); /* micro-batches of this update on the rank that has this atom */

    CAD_TRY(atom_rows(f, atom, &count));
    CAD_TRY(cad_batch_pack(b, r->train.data, f->rows, count, r->facts.class_weight));
    b->head->atom = atom;
    b->head->seed_index = atom;
    b->head->scale = cadp_is_sft(r) ? cad_step_scale(CAD_NORM_GLOBAL, all, all, world, micros) : cad_step_scale(r->o->training.loss_normalization, all, weight_of(r, f->rows, count), world, micros);
    return CAD_OK;
}

static cad_status empty_batch(cad_batch *b)
{
    CAD_TRY(cad_batch_layout(b, 0, 0));
    b->starts[0] = 0;
    b->head->atom = -1;
    b->head->scale = 0;
    return CAD_OK;
}

/* Packs a step into its set: batch [micro * ranks + rank] is atom micro * ranks + rank of the step. */
static cad_status pack_step(cadp_feed *f, int64_t step)
{
    cad_run *r = f->run;
    set *s = &f->sets[step % 2];
    int64_t epoch = (step - 1) / r->facts.steps_per_epoch, in_epoch = (step - 1) % r->facts.steps_per_epoch;
    int64_t atoms = atoms_in_step(r, in_epoch), first = epoch * r->facts.atoms_per_epoch + in_epoch * r->facts.atoms_per_step;
    double all;

    CAD_TRY(step_weight(f, first, atoms, &all));
    for (int64_t i = 0; i < f->count; i++) {
        cad_batch *b = &s->batch[i];
        CAD_TRY(i < atoms ? pack_atom(f, b, first + i, i, atoms, all) : empty_batch(b));
        b->head->step = step;
        b->head->micro = i / r->size;
        b->head->micro_of_step = (int32_t)cad_ceil_div(atoms, r->size);
    }
    s->step = step;
    return CAD_OK;
}

static void *pack_in_thread(void *with)
{
    cadp_feed *f = with;

    f->packed = pack_step(f, f->packing_step);
    if (f->packed) memcpy(f->reason, cad_reason(), cad_min(sizeof f->reason - 1, strlen(cad_reason())));
    return NULL;
}

static cad_status begin_packing(cadp_feed *f, int64_t step)
{
    f->packing_step = step;
    if (pthread_create(&f->thread, NULL, pack_in_thread, f)) return cad_fail(CAD_ERESOURCE, "cannot start the thread that packs batches");
    f->packing = true;
    return CAD_OK;
}

static cad_status end_packing(cadp_feed *f)
{
    if (!f->packing) return CAD_OK;
    pthread_join(f->thread, NULL);
    f->packing = false;
    return f->packed ? cad_fail(f->packed, "%s", f->reason) : CAD_OK;
}

static cad_status open_set(cadp_feed *f, set *s)
{
    cad_run *r = f->run;

    CAD_TRY(cad_alloc(&s->batch, (size_t)f->count, sizeof *s->batch, "micro-batches"));
    for (int64_t i = 0; i < f->count; i++) CAD_TRY(cad_batch_open(&s->batch[i], r->facts.tokens, r->facts.sequences, r->facts.beside));
    return CAD_OK;
}

cad_status cadp_feed_open(cad_run *r)
{
    cadp_feed *f;

    CAD_TRY(cad_alloc(&r->feed, 1, sizeof *r->feed, "the feed"));
    f = r->feed;
    f->run = r;
    f->count = r->facts.micros * (r->rank ? 1 : r->size);
    CAD_TRY(cad_alloc(&f->rows, (size_t)r->facts.sequences, sizeof *f->rows, "the feed"));
    CAD_TRY(cad_alloc(&f->positions, (size_t)r->facts.sequences, sizeof *f->positions, "the feed"));
    for (int i = 0; i < 2; i++) CAD_TRY(open_set(f, &f->sets[i]));
    return CAD_OK;
}

void cadp_feed_close(cad_run *r)
{
    cadp_feed *f = r->feed;

    if (!f) return;
    if (f->packing) pthread_join(f->thread, NULL);
    for (int i = 0; i < 2; i++) {
        for (int64_t k = 0; f->sets[i].batch && k < f->count; k++) cad_batch_close(&f->sets[i].batch[k]);
        cad_free(&f->sets[i].batch);
    }
    cad_free(&f->rows);
    cad_free(&f->positions);
    cad_free(&r->feed);
}

/* Tags tell micro-batches of two neighbouring steps apart. */
static int tag_of(const cad_run *r, int64_t step, int64_t micro) { return (int)((step % 2) * r->facts.micros + micro); }

static cad_status send_step(cadp_feed *f, int64_t step)
{
    cad_run *r = f->run;
    set *s = &f->sets[step % 2];

    for (int64_t i = 0; i < f->count; i++) {
        cad_request q = {0};
        if (i % r->size == 0) continue;
        CAD_TRY(cad_comm_isend(r->comm, s->batch[i].memory, s->batch[i].bytes, (int)(i % r->size), tag_of(r, step, i / r->size), &q));
        CAD_TRY(cad_comm_wait(r->comm, &q, NULL));
    }
    return CAD_OK;
}

static cad_status receive_step(cadp_feed *f, int64_t step)
{
    cad_run *r = f->run;
    set *s = &f->sets[step % 2];

    for (int64_t i = 0; i < f->count; i++) {
        cad_batch *b = &s->batch[i];
        cad_request q = {0};
        CAD_TRY(cad_comm_irecv(r->comm, b->memory, b->room, 0, tag_of(r, step, i), &q));
        CAD_TRY(cad_comm_wait(r->comm, &q, NULL));
        CAD_TRY(cad_batch_layout(b, b->head->tokens, b->head->sequences));
    }
    s->step = step;
    return CAD_OK;
}

cad_status cadp_feed_step(cad_run *r, int64_t step)
{
    cadp_feed *f = r->feed;

    if (r->rank) return receive_step(f, step);
    CAD_TRY(end_packing(f));
    if (f->sets[step % 2].step != step) CAD_TRY(pack_step(f, step));
    CAD_TRY(send_step(f, step));
    return step < r->facts.max_steps ? begin_packing(f, step + 1) : CAD_OK;
}

const cad_batch *cadp_feed_batch(const cad_run *r, int64_t micro)
{
    const cadp_feed *f = r->feed;
    const set *s = &f->sets[(r->step + 1) % 2];

    return &s->batch[r->rank ? micro : micro * r->size];
}
