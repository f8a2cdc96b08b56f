/* The plan is a device: one step of the real program on a device that only counts, with the sizes of the real world. */
#include "explain_priv.h"
#include "fit_priv.h"

#include <stdio.h>

/* A micro-batch of the largest planned size: as many of the longest sequences as fit, the rest in what is left. */
static cad_status worst_batch(cad_batch *b, const cadp_facts *f)
{
    int64_t left = f->tokens;
    int32_t n = 0;

    CAD_TRY(cad_batch_open(b, f->tokens, f->sequences, f->beside));
    CAD_TRY(cad_batch_layout(b, f->tokens, cad_min(f->sequences, f->tokens)));
    b->head->tokens = (int32_t)f->tokens;
    b->head->sequences = (int32_t)cad_min(f->sequences, f->tokens);
    b->starts[0] = 0;
    for (n = 0; n < b->head->sequences; n++) {
        int64_t others = b->head->sequences - n - 1, take = others ? cad_min(f->longest, left - others) : left;
        b->starts[n + 1] = b->starts[n] + (int32_t)cad_max(1, take);
        left -= cad_max(1, take);
    }
    b->head->scale = 1;
    return CAD_OK;
}

/* The shadow of a run: the same architecture, method and facts on "plan:DEVICE" among "plan:WORLD". */
static cad_status open_shadow(cad_run *s, const cad_run *r, const char *device, int threads, int world)
{
    char name[64], ranks[32];

    *s = (cad_run){.o = r->o, .what = r->what, .link = r->link, .arch = r->arch, .method = r->method, .facts = r->facts, .exact = r->exact, .pages = r->pages, .size = world, .lock = -1};
    snprintf(name, sizeof name, "plan:%s", device);
    snprintf(ranks, sizeof ranks, "plan:%d", world);
    s->facts.micros = cad_max(1, cad_ceil_div(s->facts.atoms_per_step, world));
    CAD_TRY(cad_comm_open(&s->comm, ranks));
    CAD_TRY(cad_device_open(&s->device, name, threads));
    return cadp_open_rooms(s);
}

void cadp_close_rooms(cad_run *s)
{
    cad_model_close(&s->model);
    cad_zero_close(&s->zero);
    cad_params_close(&s->params);
    if (s->device) cad_arena_close(&s->arena);
    if (cad_device_close(&s->device)) cad_clear();
    if (s->comm) cad_comm_close(&s->comm);
    cad_free(&s->logits);
    cad_free(&s->nll);
    cad_free(&s->next);
    cad_free(&s->targets);
    cad_free(&s->target_weights);
    cad_free(&s->slots);
}

/* One optimizer step of `micros` micro-steps. */
static cad_status walk(cad_run *s, const cad_batch *b)
{
    cad_zero_step_args a = {.lr = 1e-3, .beta1 = .9, .beta2 = .999, .eps = 1e-8, .max_grad_norm = 1, .step = 1};
    cad_zero_step_result done;

    if (s->what.purpose == CAD_RUN_EXPLAIN) return cadp_explain_walk(s, b);
    if (s->what.purpose != CAD_RUN_TRAIN) return cadp_forward(s, b, false);
    CAD_TRY(cad_zero_begin(s->zero));
    for (int64_t i = 0; i < s->facts.micros; i++) {
        CAD_TRY(cadp_forward(s, b, true));
        if (i == s->facts.micros - 1) CAD_TRY(cad_zero_last(s->zero, &a));
        CAD_TRY(cadp_backward(s, b));
    }
    return cad_zero_step(s->zero, &a, &done);
}

/* Prompts as long as may be kept; then all sequences with as much as fits before them, and one token each. */
static cad_status walk_generation(cad_run *s, cad_batch *b)
{
    int32_t *places = NULL, n = b->head->sequences;
    cad_status status = cad_alloc(&places, (size_t)n * 2, sizeof *places, "places");

    for (int32_t i = 0; i < n && !status; i++) places[i] = i;
    for (int32_t i = 0, at = 0; i < n && !status; i++) {
        int32_t from = at, tokens = b->starts[i + 1] - from;
        at = b->starts[i + 1];
        b->starts[i + 1] = (i ? b->starts[i] : 0) + (int32_t)cad_min(tokens, s->facts.kept);
    }
    b->head->tokens = b->starts[n];
    s->at_slots = places;
    s->at_past = places ? places + n : NULL;
    if (!status) status = cadp_forward(s, b, false);
    for (int32_t i = 0; i < n && !status; i++) {
        b->starts[i + 1] = i + 1;
        places[n + i] = (int32_t)s->facts.kept - 1;
    }
    b->head->tokens = n;
    if (!status) status = cadp_forward(s, b, false);
    s->at_slots = s->at_past = NULL;
    cad_free(&places);
    return status;
}

static cad_status walk_shadow(cad_run *s)
{
    cad_batch b = {0};
    cad_status status;

    if (!(status = worst_batch(&b, &s->facts)) && s->what.purpose != CAD_RUN_GENERATE) status = walk(s, &b);
    if (!status && s->facts.kept) status = walk_generation(s, &b);
    cad_batch_close(&b);
    return status;
}

cad_status cadp_reserve_work(cad_run *r)
{
    cad_run s;
    cad_status status = open_shadow(&s, r, cad_device_name(r->device), cad_device_threads(r->device), r->size);
    int64_t need = 0;

    if (!status && !(status = walk_shadow(&s))) need = cad_device_work_needed(s.device);
    r->planned = need;
    for (int c = 0; c < CAD_MEM_CATEGORIES; c++) r->planned += s.arena.total[c];
    cadp_close_rooms(&s);
    return status ? status : cad_device_reserve(r->device, need);
}

/* Where memory is not the host's: before the first batch, the largest there can be. It changes nothing (zero begins anew). */
cad_status cadp_try_largest(cad_run *r)
{
    cad_batch b = {0};
    cad_status status;

    if (cad_device_on_host(r->device)) return CAD_OK;
    cad_watchdog_beat("trying the largest batch", 0);
    CAD_TRY(cad_comm_agree(r->comm, worst_batch(&b, &r->facts)));
    if (r->what.purpose == CAD_RUN_TRAIN) status = cad_zero_begin(r->zero);
    else status = CAD_OK;
    if (!status) status = cadp_forward(r, &b, r->what.purpose == CAD_RUN_TRAIN);
    if (!status && r->what.purpose == CAD_RUN_TRAIN) status = cadp_backward(r, &b);
    if (!status && r->what.purpose == CAD_RUN_TRAIN) status = cad_zero_begin(r->zero); /* takes in what is still on its way */
    if (!status) status = cad_device_sync(r->device);
    cad_batch_close(&b);
    if (!status) cadp_say_device_memory(r);
    return status;
}

/* ---- the table ---- */

typedef struct sums { int64_t category[CAD_MEM_CATEGORIES], host, total; cad_zero_wire wire; int64_t batch_bytes; double flops; } sums;

static int64_t host_bytes(const cad_run *s)
{
    const cadp_facts *f = &s->facts;
    int64_t batch = (int64_t)cad_batch_bytes(f->tokens, f->sequences, f->beside), piece = CAD_STATE_PIECE * (4 + (s->method.compute == CAD_BF16 ? 2 : 0));

    return 2 * batch * f->micros * s->size + piece + cad_comm_scratch_bytes(s->comm) + cad_zero_host_bytes(s->zero);
}

/* Rank 0 of the world has the largest parts (zero's cut), so that its sums are the worst rank's. */
static cad_status plan_sums(const cad_run *r, const char *device, int threads, int world, sums *out)
{
    cad_run s;
    cad_status status = open_shadow(&s, r, device, threads, world);

    *out = (sums){0};
    if (!status && !(status = walk_shadow(&s))) {
        for (int c = 0; c < CAD_MEM_CATEGORIES; c++) out->category[c] = s.arena.total[c];
        out->category[CAD_MEM_WORK] += cad_device_work_needed(s.device);
        for (int c = 0; c < CAD_MEM_CATEGORIES; c++) out->total += out->category[c];
        out->host = host_bytes(&s);
        out->wire = cad_zero_theory(s.zero);
        out->batch_bytes = world > 1 ? (int64_t)cad_batch_bytes(s.facts.tokens, s.facts.sequences, s.facts.beside) * s.facts.micros * (world - 1) : 0;
        out->flops = cad_device_flops(s.device);
    }
    cadp_close_rooms(&s);
    return status;
}

/* Sizes from the options alone: no data is read. */
static void facts_from_options(cad_run *r, int world)
{
    const cad_options *o = r->o;
    cadp_facts *f = &r->facts;

    f->atoms_per_step = world * cad_max(1, o->training.gradient_accumulation_steps);
    f->sequences = o->training.per_device_train_batch_size;
    f->longest = o->task.max_length;
    f->tokens = f->sequences * f->longest;
    f->mean_length = (double)f->longest;
    f->predict_batch = f->sequences;
}

cad_status cadp_plan_total(const cad_run *r, const char *device, int threads, int world, int64_t *total)
{
    sums s;

    CAD_TRY(plan_sums(r, device, threads, world, &s));
    *total = s.total;
    return CAD_OK;
}

static cad_status fits_with(const cad_run *r, const cadp_place_to *p, int64_t batch, bool *fits)
{
    cadp_setting s = cadp_setting_of(r);
    int64_t total;

    s.batch = batch;
    CAD_TRY(cadp_plan_with(r, p, &s, &total));
    *fits = total <= p->memory;
    return CAD_OK;
}

/* The largest micro-batch that fits: 0 when not even one sequence does. Memory grows with the batch, so halving finds it. */
static cad_status largest_batch(const cad_run *r, const cadp_place_to *p, int64_t *out)
{
    int64_t low = 0, high = 1;
    bool fits;

    for (; high <= 4096; high *= 2) {
        CAD_TRY(fits_with(r, p, high, &fits));
        if (!fits) break;
        low = high;
    }
    while (high - low > 1 && low) {
        int64_t middle = (low + high) / 2;
        CAD_TRY(fits_with(r, p, middle, &fits));
        *(fits ? &low : &high) = middle;
    }
    *out = low;
    return CAD_OK;
}

static cad_status put_numbers(cad_json *j, const sums *s, int64_t micros)
{
    CAD_TRY(cad_json_begin(j, "per_rank", '{'));
    for (int c = 0; c < CAD_MEM_CATEGORIES; c++) CAD_TRY(cad_json_int(j, cad_category_name((cad_category)c), s->category[c]));
    CAD_TRY(cad_json_int(j, "host", s->host));
    CAD_TRY(cad_json_int(j, "total", s->total));
    CAD_TRY(cad_json_end(j));
    CAD_TRY(cad_json_begin(j, "wire_bytes_per_step", '{'));
    CAD_TRY(cad_json_int(j, "all_gather", s->wire.gather_per_micro * micros + s->wire.gather_per_step));
    CAD_TRY(cad_json_int(j, "reduce_scatter", s->wire.scatter_per_micro * micros + s->wire.scatter_per_step));
    CAD_TRY(cad_json_int(j, "batch", s->batch_bytes));
    return cad_json_end(j);
}

static cad_status count_parameters(const cad_run *r, int64_t *trainable, int64_t *all, double *flop)
{
    cad_params *params;

    CAD_TRY(cad_params_open(&params, &r->arch, &r->method));
    *trainable = params->trainable;
    *all = params->all;
    *flop = cad_flop_per_token(&r->arch, params, r->facts.mean_length);
    cad_params_close(&params);
    return CAD_OK;
}

typedef struct planned { cadp_place_to p; sums s; int64_t micros, trainable, all, batch; double flop; } planned;

static cad_status plan_all(cad_run *r, int world, int64_t memory, planned *out)
{
    int threads = cadp_threads(r);

    out->p = (cadp_place_to){r->device ? cad_device_name(r->device) : cadp_device_name(r->o), threads, world, memory > 0 ? memory : cadp_memory_here(r, world)};
    out->micros = cad_max(1, cad_ceil_div(r->facts.atoms_per_step, world));
    CAD_TRY(cadp_decide_paging(r, &out->p));
    CAD_TRY(plan_sums(r, out->p.device, threads, world, &out->s));
    CAD_TRY(count_parameters(r, &out->trainable, &out->all, &out->flop));
    return largest_batch(r, &out->p, &out->batch);
}

cad_status cadp_plan_json(cad_run *r, int world, int64_t memory, cad_json *j, const char *key)
{
    planned x;

    CAD_TRY(plan_all(r, world, memory, &x));
    CAD_TRY(cad_json_begin(j, key, '{'));
    CAD_TRY(put_numbers(j, &x.s, x.micros));
    CAD_TRY(cad_json_real(j, "flop_per_token", x.flop));
    CAD_TRY(cad_json_int(j, "trainable", x.trainable));
    CAD_TRY(cad_json_int(j, "all", x.all));
    CAD_TRY(cad_json_int(j, "largest_micro_batch", x.batch));
    CAD_TRY(cad_json_bool(j, "fits", x.s.total <= x.p.memory));
    CAD_TRY(cadp_put_alternatives(r, &x.p, j));
    return cad_json_end(j);
}

static void print_line(const char *name, int64_t bytes) { printf("  %-16s %18lld  %10.1f MiB\n", name, (long long)bytes, (double)bytes / 0x1p20); }

cad_status cadp_plan_table(cad_run *r, int world, int64_t memory)
{
    char text[32];
    planned x;

    CAD_TRY(plan_all(r, world, memory, &x));
    printf("%d rank%s, ZeRO stage %d, micro-batches of %lld sequences of at most %lld tokens (%lld tokens)\n", world, world == 1 ? "" : "s", (int)r->o->runtime.zero_stage, (long long)r->facts.sequences,
           (long long)r->facts.longest, (long long)r->facts.tokens);
    printf("memory of the largest rank, bytes\n");
    for (int c = 0; c < CAD_MEM_CATEGORIES; c++) print_line(cad_category_name((cad_category)c), x.s.category[c]);
    print_line("total", x.s.total);
    print_line("host", x.s.host);
    printf("on the wire, bytes a step\n");
    print_line("all-gather", x.s.wire.gather_per_micro * x.micros + x.s.wire.gather_per_step);
    print_line("reduce-scatter", x.s.wire.scatter_per_micro * x.micros + x.s.wire.scatter_per_step);
    print_line("batches", x.s.batch_bytes);
    printf("trainable parameters %lld of %lld, %.4g FLOP a token\n", (long long)x.trainable, (long long)x.all, x.flop);
    printf("%s in %s; the largest micro-batch that fits: %lld\n", x.s.total <= x.p.memory ? "fits" : "does not fit", cadp_size_text(text, x.p.memory), (long long)x.batch);
    return cadp_print_alternatives(r, &x.p);
}

static cad_status print_json(cad_run *r, int world, int64_t memory)
{
    cad_json j = {.pretty = true};
    cad_status status = cadp_plan_json(r, world, memory, &j, NULL);

    if (!status) puts(j.text.data);
    cad_json_close(&j);
    return status;
}

cad_status cad_plan_print(cad_options *o, const cad_plan_options *p, bool json)
{
    cad_run r = {.o = o, .what = {.purpose = CAD_RUN_CHECK}, .size = 1, .lock = -1, .exact = cadp_exact(o, cadp_device_name(o), p->world > 1 && strcmp(cadp_device_name(o), "cpu") ? "nccl" : "host")};
    int world = p->world > 0 ? p->world : 1;
    cad_status status = cadp_prepare_demo(&r);

    r.what.purpose = CAD_RUN_TRAIN; /* the plan is a training run's */
    if (!status) status = cadp_resolve_model(&r);
    if (!status) {
        facts_from_options(&r, world);
        status = json ? print_json(&r, world, p->device_memory) : cadp_plan_table(&r, world, p->device_memory);
    }
    cad_adapter_config_close(&r.adapter);
    cad_free(&r.model_dir);
    cad_free(&r.tokenizer_dir);
    cad_free(&r.adapter_dir);
    cad_free(&r.source_config);
    cadp_drop_demo(&r);
    return status;
}
