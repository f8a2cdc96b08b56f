/* `check`: what a run would read and do. Changes nothing. */
#include "train_priv.h"

#include <stdio.h>

static cad_status put_rows(cad_json *j, const char *key, const cadp_set *s)
{
    CAD_TRY(cad_json_begin(j, key, '['));
    for (int64_t i = 0; i < s->count; i++) CAD_TRY(cad_json_int(j, NULL, s->rows[i]));
    return cad_json_end(j);
}

static cad_status put_atom(cad_run *r, cad_json *j, int64_t atom, int64_t *positions)
{
    int64_t n;

    CAD_TRY(cad_sampler_atom(r->sampler, atom, positions, &n));
    CAD_TRY(cad_json_begin(j, NULL, '['));
    for (int64_t i = 0; i < n; i++) CAD_TRY(cad_json_int(j, NULL, r->train.rows[positions[i]]));
    return cad_json_end(j);
}

/* Of each of the first three epochs: its micro-batches, each a list of rows of the raw file. */
static cad_status put_atoms(cad_run *r, cad_json *j)
{
    int64_t *positions;
    cad_status status = CAD_OK;

    CAD_TRY(cad_json_begin(j, "micro_batches", '['));
    CAD_TRY(cad_alloc(&positions, (size_t)r->facts.sequences, sizeof *positions, "row numbers"));
    for (int64_t e = 0; e < 3 && !status; e++) {
        if ((status = cad_json_begin(j, NULL, '['))) break;
        for (int64_t a = 0; a < r->facts.atoms_per_epoch && !status; a++) status = put_atom(r, j, e * r->facts.atoms_per_epoch + a, positions);
        if (!status) status = cad_json_end(j);
    }
    cad_free(&positions);
    return status ? status : cad_json_end(j);
}

static cad_status put_all(cad_run *r, cad_json *j, const char *config, const char *sources)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_raw(j, "config", config));
    CAD_TRY(cad_json_raw(j, "sources", sources));
    CAD_TRY(cadp_plan_json(r, r->size, 0, j, "plan"));
    CAD_TRY(cad_json_begin(j, "data", '{'));
    CAD_TRY(put_rows(j, "train_rows", &r->train));
    CAD_TRY(put_rows(j, "eval_rows", &r->eval));
    CAD_TRY(put_atoms(r, j));
    CAD_TRY(cad_json_end(j));
    return cad_json_end(j);
}

static cad_status print_json(cad_run *r, const char *config, const char *sources)
{
    cad_json j = {0};
    cad_status status = put_all(r, &j, config, sources);

    if (!status) puts(j.text.data);
    cad_json_close(&j);
    return status;
}

static void print_data(const cad_run *r)
{
    const cad_dataset *d = r->train.data;

    printf("records            %lld (%lld negative, %lld positive) in %s\n", (long long)d->count, (long long)d->count_by_label[0], (long long)d->count_by_label[1], r->o->dataset.train_file);
    printf("cut at %-11lld %lld negative, %lld positive\n", (long long)r->o->task.max_length, (long long)d->cut_by_label[0], (long long)d->cut_by_label[1]);
    printf("to train on        %lld after split and oversampling, %.1f tokens each\n", (long long)r->facts.train_rows, r->facts.mean_length);
    printf("to evaluate on     %lld\n", (long long)r->facts.eval_rows);
    printf("class weights      %.6g, %.6g\n", r->facts.class_weight[0], r->facts.class_weight[1]);
    printf("optimizer steps    %lld in %lld epochs, %lld of warm-up\n", (long long)r->facts.max_steps, (long long)r->facts.epochs, (long long)r->facts.warmup);
    printf("largest micro-batch %lld tokens\n", (long long)r->facts.tokens);
}

cad_status cad_run_check(cad_run *r, const char *config_json, const char *sources_json, const char *config_text, bool json)
{
    if (r->rank) return CAD_OK;
    r->what.purpose = CAD_RUN_TRAIN; /* the plan is a training run's */
    if (json) return print_json(r, config_json, sources_json);
    fputs(config_text, stdout);
    print_data(r);
    return cadp_plan_table(r, r->size, 0);
}
