/* A training step of synthetic records on a small model of the usual shape (configs/bench/config.json, random weights): the program's own
 * model, ZeRO and optimizer, without files and data. */
#include "bench_priv.h"

#include <cadtrain/embedded.h>

#include <stdio.h>

enum { RECORDS = 4, LENGTH = 128, TOKENS = RECORDS * LENGTH, STEPS = 3 };

typedef struct rooms {
    cad_comm *comm;
    cad_arena arena;
    cad_arch arch;
    cad_method method;
    cad_params *params;
    cad_source *source;
    cad_zero *zero;
    cad_model *model;
    int32_t ids[TOKENS], starts[RECORDS + 1], labels[RECORDS];
    float weights[RECORDS];
    double nll[RECORDS];
} rooms;

static void close_rooms(rooms *r)
{
    cad_model_close(&r->model);
    cad_zero_close(&r->zero);
    cad_arena_close(&r->arena);
    cad_source_close(&r->source);
    cad_params_close(&r->params);
    cad_comm_close(&r->comm);
}

static cad_status read_arch(cad_arch *out)
{
    static const char path[] = "configs/bench/config.json";

    for (const cad_embedded *f = cad_embedded_files; f->path; f++)
        if (!strcmp(f->path, path)) return cad_arch_parse(out, f->text, strlen(f->text), path);
    return cad_fail(CAD_EINTERNAL, "%s: is not in the program", path);
}

static cad_status draw(void *with, int row, int64_t from, int64_t n, cad_dtype as, void *out) { return cad_source_read(with, row, from, n, as, out); }

static cad_status open_rooms(rooms *r, cad_device *d, cad_dtype compute)
{
    cad_zero_options zero = {.train = true, .atoms_per_step = 1, .compute = compute};
    cad_limits limits = {TOKENS, RECORDS, LENGTH, true, true, 0, false};

    r->arena.device = d;
    r->method = (cad_method){.num_labels = 2, .pooling = CAD_POOLING_LAST, .compute = compute, .seed = 42};
    CAD_TRY(cad_comm_open(&r->comm, "self"));
    CAD_TRY(read_arch(&r->arch));
    CAD_TRY(cad_params_open(&r->params, &r->arch, &r->method));
    CAD_TRY(cad_source_open(&r->source, NULL, NULL, r->params, true));
    cad_source_set_draw(r->source, 42, r->arch.initializer_range);
    CAD_TRY(cad_zero_open(&r->zero, r->params, r->comm, &r->arena, &zero));
    CAD_TRY(cad_model_open(&r->model, &r->arch, r->params, &r->method, &r->arena, &limits));
    return cad_zero_load(r->zero, draw, r->source);
}

static void make_records(rooms *r)
{
    for (int i = 0; i < TOKENS; i++) r->ids[i] = (int32_t)(cad_rng_uniform(42, CAD_RNG_SYNTH, 0, (uint64_t)i) * (double)r->arch.vocab);
    for (int i = 0; i < RECORDS; i++) {
        r->starts[i + 1] = (i + 1) * LENGTH;
        r->labels[i] = i % 2;
        r->weights[i] = 1;
    }
}

static cad_status compute(rooms *r)
{
    cad_model_batch b = {.tokens = TOKENS, .sequences = RECORDS, .longest = LENGTH, .ids = r->ids, .starts = r->starts, .labels = r->labels, .weights = r->weights,
                         .scale = 1.0 / RECORDS};

    CAD_TRY(cad_zero_begin(r->zero));
    CAD_TRY(cad_walk_forward(r->zero, r->model, r->params->units, &b, true));
    CAD_TRY(cad_walk_backward(r->zero, r->model, r->params->units, false));
    return cad_model_nll(r->model, r->nll);
}

static cad_status step(rooms *r, int64_t number, double *seconds)
{
    cad_zero_step_args a = {.lr = 1e-4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .max_grad_norm = 1, .step = number};
    cad_zero_step_result result;
    double from = cad_now();

    do {
        CAD_TRY(compute(r));
        CAD_TRY(cad_zero_step(r->zero, &a, &result));
    } while (result.again);
    CAD_TRY(cad_device_sync(r->arena.device));
    *seconds = cad_now() - from;
    return CAD_OK;
}

static cad_status time_steps(rooms *r, double *best, double *flop)
{
    double seconds, before = 0;

    *best = 1e30;
    for (int64_t i = 1; i <= STEPS; i++) {
        before = cad_device_flops(r->arena.device);
        CAD_TRY(step(r, i, &seconds));
        if (i > 1 && seconds < *best) *best = seconds; /* the first step compiles */
    }
    *flop = cad_device_flops(r->arena.device) - before;
    return CAD_OK;
}

static cad_status put(cad_json *j, const rooms *r, double seconds, double flop)
{
    CAD_TRY(cad_json_begin(j, "step", '{'));
    CAD_TRY(cad_json_string(j, "dtype", cad_dtype_name(r->method.compute)));
    CAD_TRY(cad_json_int(j, "parameters", r->params->all));
    CAD_TRY(cad_json_int(j, "tokens", TOKENS));
    CAD_TRY(cad_json_real(j, "seconds", seconds));
    CAD_TRY(cad_json_real(j, "tokens_per_second", TOKENS / seconds));
    CAD_TRY(cad_json_real(j, "gflop_per_second", 1e-9 * flop / seconds));
    return cad_json_end(j);
}

cad_status cadp_bench_step(cad_json *j, cad_device *d, cad_dtype dtype)
{
    rooms *r = NULL;
    double seconds, flop;
    cad_status st;

    CAD_TRY(cad_alloc(&r, 1, sizeof *r, "a synthetic step"));
    st = open_rooms(r, d, dtype);
    if (!st) make_records(r);
    if (!st) st = time_steps(r, &seconds, &flop);
    if (!st) st = put(j, r, seconds, flop);
    close_rooms(r);
    cad_free(&r);
    return st;
}
