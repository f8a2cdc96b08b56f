#include "data_priv.h"

#include <stdlib.h>

typedef struct epoch { int64_t number, *rows; } epoch; /* number -1: nothing yet */
struct cad_sampler {
    cad_sampler_options o;
    int64_t atoms;
    epoch kept[2];
    int newest;
    int32_t *lengths;
    cadp_length *scratch;
    cad_mt generator;     /* length-grouped: stands before epoch `drawn` */
    int64_t drawn;
};

static int by_length(const void *a, const void *b)
{
    const cadp_length *x = a, *y = b;

    if (x->tokens != y->tokens) return x->tokens < y->tokens ? 1 : -1;
    return (x->at > y->at) - (x->at < y->at); /* ties stay in permuted order */
}

/* 50 batches, or so many that there are four mega-batches. */
int64_t cadp_mega_batch(int64_t rows, int64_t batch)
{
    return cad_max(1, cad_min(rows / (batch * 4), 50)) * batch;
}

void cadp_group_by_length(cad_mt *m, const int32_t *lengths, int64_t rows, int64_t batch, int64_t *out, cadp_length *scratch)
{
    int64_t mega = cadp_mega_batch(rows, batch), longest = 0, first;

    cad_mt_permutation(m, rows, out);
    for (int64_t at = 0; at < rows; at += mega) {
        int64_t n = cad_min(mega, rows - at);
        for (int64_t i = 0; i < n; i++) scratch[i] = (cadp_length){lengths[out[at + i]], i, out[at + i]};
        qsort(scratch, (size_t)n, sizeof *scratch, by_length);
        for (int64_t i = 0; i < n; i++) out[at + i] = scratch[i].row;
        if (lengths[out[at]] > lengths[out[longest]]) longest = at;
    }
    first = out[0]; /* the longest record comes first, so that a lack of memory shows at once */
    out[0] = out[longest];
    out[longest] = first;
}

static int64_t evaluations_before(const cad_sampler *s, int64_t number)
{
    if (s->o.evaluates_epochs) return number;
    return s->o.evaluates_every > 0 ? number * cad_sampler_steps(s) / s->o.evaluates_every : 0;
}

/* Two numbers: the seed of a loader. */
static void draw_loader(cad_mt *m)
{
    cad_mt_next(m);
    cad_mt_next(m);
}

/* The global generator of the library is drawn from in every epoch: a loader's seed, then the permutation; and for the loader of each
 * evaluation between two epochs. With several ranks each of them would permute with its own; here all ranks follow the order of world size one. */
static void make_grouped(cad_sampler *s, epoch *e)
{
    if (e->number < s->drawn) {
        cad_mt_seed(&s->generator, s->o.seed);
        s->drawn = 0;
    }
    for (; s->drawn <= e->number; s->drawn++) {
        int64_t evaluations = s->drawn ? evaluations_before(s, s->drawn) - evaluations_before(s, s->drawn - 1) : 0;
        for (int64_t i = 0; i < evaluations + 1; i++) draw_loader(&s->generator);
        if (s->drawn < e->number)
            for (int64_t i = 0; i < s->o.rows - 1; i++) cad_mt_next(&s->generator);
        else cadp_group_by_length(&s->generator, s->lengths, s->o.rows, s->o.batch * s->o.accumulation_at_start, e->rows, s->scratch);
    }
}

static const int64_t *rows_of_epoch(cad_sampler *s, int64_t number)
{
    epoch *e;

    for (int i = 0; i < 2; i++)
        if (s->kept[i].number == number) return s->kept[i].rows;
    s->newest = !s->newest;
    e = &s->kept[s->newest];
    e->number = number;
    if (s->o.group_by_length) make_grouped(s, e);
    else cad_torch_permutation(s->o.seed + (uint64_t)number, s->o.rows, e->rows);
    return e->rows;
}

static bool fills(const cad_sampler_options *o) { return o->normalization != CAD_NORM_GLOBAL && o->world_at_start > 1; }

static cad_status prepare(cad_sampler *s)
{
    const cad_sampler_options *o = &s->o;
    size_t n = (size_t)o->rows;

    for (int i = 0; i < 2; i++) {
        s->kept[i].number = -1;
        CAD_TRY(cad_alloc(&s->kept[i].rows, n, sizeof(int64_t), "the order of an epoch"));
    }
    if (!o->group_by_length) return CAD_OK;
    CAD_TRY(cad_alloc(&s->lengths, n, sizeof *s->lengths, "lengths of the records"));
    memcpy(s->lengths, o->lengths, n * sizeof *s->lengths);
    CAD_TRY(cad_alloc(&s->scratch, (size_t)cad_min(o->rows, cadp_mega_batch(o->rows, o->batch * o->accumulation_at_start)), sizeof *s->scratch, "a mega-batch"));
    cad_mt_seed(&s->generator, o->seed);
    return CAD_OK;
}

cad_status cad_sampler_open(cad_sampler **out, const cad_sampler_options *o)
{
    cad_sampler *s;
    cad_status status;

    *out = NULL;
    CAD_ASSERT(o->batch > 0 && o->atoms_per_step > 0 && o->world_at_start > 0 && o->accumulation_at_start > 0);
    CAD_ASSERT(o->lengths || !o->group_by_length);
    if (o->rows < 1) return cad_fail(CAD_EDATA, "there are no records to train on");
    CAD_TRY(cad_alloc(&s, 1, sizeof *s, "the sampler"));
    s->o = *o;
    s->atoms = cad_ceil_div(o->rows, o->batch);
    if (fills(o)) s->atoms = cad_round_up(s->atoms, o->world_at_start);
    status = prepare(s);
    s->o.lengths = NULL; /* borrowed for this call only */
    if (status) cad_sampler_close(&s);
    *out = s;
    return status;
}

void cad_sampler_close(cad_sampler **s)
{
    if (!*s) return;
    for (int i = 0; i < 2; i++) cad_free(&(*s)->kept[i].rows);
    cad_free(&(*s)->lengths);
    cad_free(&(*s)->scratch);
    cad_free(s);
}

int64_t cad_sampler_atoms(const cad_sampler *s) { return s->atoms; }
int64_t cad_sampler_steps(const cad_sampler *s) { return cad_ceil_div(s->atoms, s->o.atoms_per_step); }

cad_status cad_sampler_atom(cad_sampler *s, int64_t atom, int64_t *rows, int64_t *count)
{
    const int64_t *order, n = s->o.rows, from = atom % s->atoms * s->o.batch;
    int64_t again; /* rows that filling goes round in: those of the first batch of each rank */

    CAD_ASSERT(atom >= 0);
    order = rows_of_epoch(s, atom / s->atoms);
    again = cad_min(n, s->o.world_at_start * s->o.batch);
    *count = fills(&s->o) ? s->o.batch : cad_min(s->o.batch, n - from);
    for (int64_t i = 0; i < *count; i++) rows[i] = from + i < n ? order[from + i] : order[(from + i - n) % again];
    return CAD_OK;
}

cad_status cad_length_grouped(uint64_t seed, const int32_t *lengths, int64_t rows, int64_t batch, int64_t *out)
{
    cadp_length *scratch;
    cad_mt m;

    if (!rows) return CAD_OK;
    CAD_TRY(cad_alloc(&scratch, (size_t)cad_min(rows, cadp_mega_batch(rows, batch)), sizeof *scratch, "a mega-batch"));
    cad_mt_seed(&m, seed);
    cadp_group_by_length(&m, lengths, rows, batch, out, scratch);
    cad_free(&scratch);
    return CAD_OK;
}
