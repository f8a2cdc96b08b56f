/* The same made-up sequences through two models: how far apart are their logits? */
#include "merge_priv.h"

#include <math.h>

enum { SEQUENCES = 8, LENGTH = 32 };

static cad_status read_numbers(void *with, int row, int64_t from, int64_t n, cad_dtype as, void *out) { return cad_source_read(with, row, from, n, as, out); }
static cad_status read_codes(void *with, int row, int64_t from, int64_t n, void *out, bool *has) { return cad_source_read_codes(with, row, from, n, out, has); }

static cad_status load(cad_run *r, const cadp_probed *p)
{
    cad_source *s;
    cad_status status;

    CAD_TRY(cad_source_open(&s, p->dir, p->adapter_dir, r->params, false));
    cad_zero_set_code_reader(r->zero, read_codes);
    status = cad_zero_load(r->zero, read_numbers, s);
    cad_source_close(&s);
    return status;
}

static cad_status fill(cad_batch *b, int64_t vocab)
{
    CAD_TRY(cad_batch_open(b, SEQUENCES * LENGTH, SEQUENCES, 0));
    CAD_TRY(cad_batch_layout(b, SEQUENCES * LENGTH, SEQUENCES));
    b->head->tokens = SEQUENCES * LENGTH;
    b->head->sequences = SEQUENCES;
    b->head->scale = 1;
    for (int32_t i = 0; i <= SEQUENCES; i++) b->starts[i] = i * LENGTH;
    for (int32_t i = 0; i < SEQUENCES * LENGTH; i++) b->ids[i] = (int32_t)(cad_rng_uniform(42, CAD_RNG_SYNTH, 0, (uint64_t)i) * (double)vocab);
    return CAD_OK;
}

/* Of a language model the logits of each sequence's next token. */
static int64_t logits_each(const cadp_probed *p) { return p->method->causal ? p->arch->vocab : p->method->num_labels; }

static cad_status compute(cad_run *r, const cadp_probed *p, float *logits)
{
    static const int32_t slots[SEQUENCES] = {0, 1, 2, 3, 4, 5, 6, 7}, past[SEQUENCES] = {0};
    cad_batch b = {0};
    cad_status status;

    CAD_TRY(cad_comm_open(&r->comm, "self"));
    CAD_TRY(cad_device_open(&r->device, "cpu", cadp_threads(r)));
    CAD_TRY(cadp_open_rooms(r));
    CAD_TRY(cadp_reserve_work(r));
    CAD_TRY(load(r, p));
    status = fill(&b, r->arch.vocab);
    if (p->method->causal) r->at_slots = slots;
    if (p->method->causal) r->at_past = past;
    if (!status) status = cadp_forward(r, &b, false);
    if (!status) status = p->method->causal ? cad_model_next(r->model, logits) : cad_model_logits(r->model, logits);
    cad_batch_close(&b);
    return status;
}

static cad_status logits_of(const cad_options *o, const cadp_probed *p, float *logits)
{
    cad_options options = *o;
    cad_run r = {.o = &options, .what = {.purpose = CAD_RUN_EVAL}, .arch = *p->arch, .method = *p->method, .size = 1, .lock = -1};
    cad_status status;

    options.runtime.zero_stage = 0;
    r.facts = (cadp_facts){.micros = 1, .atoms_per_step = 1, .tokens = SEQUENCES * LENGTH, .sequences = SEQUENCES, .longest = LENGTH, .predict_batch = SEQUENCES, .kept = p->method->causal ? LENGTH : 0};
    status = compute(&r, p, logits);
    cadp_close_rooms(&r);
    return status;
}

cad_status cadp_probe(const cad_options *o, const cadp_probed *a, const cadp_probed *b, double *off, double *largest)
{
    int64_t n = SEQUENCES * logits_each(a);
    float *x;
    cad_status status;

    CAD_TRY(cad_alloc(&x, (size_t)(2 * n), sizeof *x, "logits"));
    status = logits_of(o, a, x);
    if (!status) status = logits_of(o, b, x + n);
    *off = *largest = 0;
    for (int64_t i = 0; i < n && !status; i++) {
        *off = fmax(*off, fabs((double)x[i] - (double)x[n + i]));
        *largest = fmax(*largest, fabs((double)x[i]));
    }
    cad_free(&x);
    return status;
}
