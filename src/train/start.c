/* The first block of a run's output (contract section 6). Rank 0. */
#include "train_priv.h"
#include <cadtrain/version.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* 1234567 as 1,234,567. */
static const char *grouped(char out[32], int64_t n)
{
    char plain[32];
    int digits = snprintf(plain, sizeof plain, "%" PRId64, n), at = 0;

    for (int i = 0; i < digits; i++) {
        if (i && (digits - i) % 3 == 0 && plain[i - 1] != '-') out[at++] = ',';
        out[at++] = plain[i];
    }
    out[at] = 0;
    return out;
}

static void say_machine(const cad_run *r)
{
    cad_info("cadtrain %s  %s  %d rank%s / %d node%s  each on %s  ZeRO stage %d  %s  reduction %s  seed %lld", CAD_VERSION, cad_comm_library(r->comm), r->size, r->size == 1 ? "" : "s",
             cad_comm_nodes(r->comm), cad_comm_nodes(r->comm) == 1 ? "" : "s", cad_device_description(r->device),
             (int)r->o->runtime.zero_stage, r->method.compute == CAD_BF16 ? "bf16" : "fp32", r->exact ? "exact" : "fast", (long long)r->o->runtime.seed);
    if (r->size > 1 && strcmp(cad_zero_link(r->zero), "host")) cad_info("Units travel by %s", *cad_zero_library(r->zero) ? cad_zero_library(r->zero) : "MPI, through host memory");
}

static void say_plan(const cad_run *r)
{
    char line[512];
    int n = 0;
    int64_t total = cad_device_bytes(r->device), named = 0;

    for (int c = 0; c < CAD_MEM_CATEGORIES; c++) {
        int64_t bytes = c == CAD_MEM_WORK ? total - named : r->arena.total[c];
        if (c != CAD_MEM_WORK) named += bytes;
        if (c == CAD_MEM_WORK) continue;
        if (bytes && n < (int)sizeof line - 64) n += snprintf(line + n, sizeof line - (size_t)n, "%s %.1f, ", cad_category_name((cad_category)c), (double)bytes / 0x1p20);
    }
    cad_info("Memory per rank (MiB): %swork %.1f = %.1f", n ? line : "", (double)(total - named) / 0x1p20, (double)total / 0x1p20);
}

/* How the frozen weights and the moments are held, and what was asked for that means nothing on this device. */
static void say_storage(const cad_run *r)
{
    int64_t count = 0, bytes = 0, experts = 0;
    int optim = r->o->training.optim;
    bool paged = optim == CAD_OPTIM_PAGED_32BIT || optim == CAD_OPTIM_PAGED_8BIT;

    for (int i = 0; i < r->params->count; i++)
        if (r->params->row[i].code) {
            count += r->params->row[i].elems;
            bytes += r->params->row[i].bytes;
            if (r->params->row[i].dims == 3) experts += r->params->row[i].elems;
        }
    if (count)
        cad_info("Frozen weights: %.1f million numbers as %s%s, %.3f bits each with their scales", (double)count / 1e6, cad_code_name(r->method.code), r->method.nested && r->method.code != CAD_INT8 ? " under nested scales" : "",
                 8.0 * (double)bytes / (double)count);
    if (r->method.outliers > 0) cad_info("Products of 8 bits: activations are whole numbers too, but for columns with magnitudes from %g on; gradients and routed experts use the dequantised weights", r->method.outliers);
    if (experts)
        cad_info("Routed experts: %.1f million of them; model.quantize_experts false would leave these as numbers, as Transformers does", (double)experts / 1e6);
    if (optim == CAD_OPTIM_8BIT || optim == CAD_OPTIM_PAGED_8BIT) cad_info("Optimizer: moments in 8 bits, a scale for every 256; tensors of fewer than 4096 elements in fp32");
    if (r->pages && !cad_device_is_host(r->device))
        cad_info("Optimizer: device memory is short, so %.1f MiB of moments lie in host memory and visit the device in pages", (double)cad_zero_host_bytes(r->zero) / 0x1p20);
    else if (cad_zero_host_bytes(r->zero))
        cad_info("Offload: %.1f MiB lie in host memory:%s%s", (double)cad_zero_host_bytes(r->zero) / 0x1p20, r->o->runtime.offload_optimizer ? " gradient sums, masters and moments, the host makes the step;" : "",
                 r->o->runtime.offload_param ? " parameters" : "");
    if (r->o->runtime.offload_param && r->o->runtime.zero_stage < 3) cad_warn("offload", "runtime.offload_param: expected zero_stage 3, found %d; weights stay on the device", (int)r->o->runtime.zero_stage);
    if (cad_device_on_host(r->device) && (paged || r->o->runtime.offload_optimizer || r->o->runtime.offload_param))
        cad_info("Paging and offload: device %s is the host itself, so nothing moves and the numbers are the same", cad_device_name(r->device));
}

/* Oversampling and weights shift what a predicted probability means (facts of the run, also in the report). */
static void say_prior(cad_run *r)
{
    if (cadp_is_sft(r)) return;

    int64_t raw[2] = {0, 0}, seen[2] = {0, 0};
    const cad_dataset *d = r->train.data;
    double before, after;

    for (int64_t i = 0; i < d->count; i++) raw[d->labels[i] == 1]++;
    for (int64_t i = 0; i < r->train.count; i++) seen[d->labels[r->train.rows[i]] == 1]++;
    before = (double)raw[1] / (double)cad_max(1, raw[0]);
    after = (double)seen[1] * r->facts.class_weight[1] / fmax(1e-300, (double)seen[0] * r->facts.class_weight[0]);
    cad_info("Labels: %lld negative, %lld positive in the file; %lld and %lld trained on; class weights %.6g and %.6g", (long long)raw[0], (long long)raw[1], (long long)seen[0], (long long)seen[1],
             r->facts.class_weight[0], r->facts.class_weight[1]);
    if (before > 0 && after > 0 && fabs(log(after / before)) > 1e-9) {
        cad_info("Sampling and weights shift the prior: odds of a positive %.4g -> %.4g; predicted log-odds are higher by about %.3f than the records' own rate", before, after, log(after / before));
        if (cad_str_addf(&r->notes, "Oversampling and class weights raise predicted log-odds by about %.3f over the rate in the data; recalibrate before reading probabilities as risks.\n", log(after / before))) cad_clear();
    }
}

static void say_cuts(cad_run *r, const char *what, const cadp_set *s)
{
    const cad_dataset *d = s->data;

    if (d && cadp_is_sft(r) && d->cut_by_label[0]) {
        cad_info("%s: %lld of %lld records were longer than %lld tokens and are cut", what, (long long)d->cut_by_label[0], (long long)d->count, (long long)r->o->task.max_length);
        return;
    }
    if (!d || !(d->cut_by_label[0] + d->cut_by_label[1])) return;
    cad_info("%s: %lld of %lld negative and %lld of %lld positive records were longer than %lld tokens and are cut", what, (long long)d->cut_by_label[0], (long long)d->count_by_label[0],
             (long long)d->cut_by_label[1], (long long)d->count_by_label[1], (long long)r->o->task.max_length);
    if (cad_str_addf(&r->notes, "%s: %lld records were cut at %lld tokens.\n", what, (long long)(d->cut_by_label[0] + d->cut_by_label[1]), (long long)r->o->task.max_length)) cad_clear();
}

static void say_training(const cad_run *r)
{
    char n[32];
    int64_t batch = r->o->training.per_device_train_batch_size;

    cad_info("***** Running training *****");
    cad_info("  Num examples = %s", grouped(n, r->facts.train_rows));
    cad_info("  Num Epochs = %s", grouped(n, r->facts.epochs));
    cad_info("  Instantaneous batch size per device = %s", grouped(n, batch));
    cad_info("  Total train batch size (w. parallel, distributed & accumulation) = %s", grouped(n, batch * r->facts.atoms_per_step));
    cad_info("  Gradient Accumulation steps = %s", grouped(n, r->facts.micros));
    cad_info("  Total optimization steps = %s", grouped(n, r->facts.max_steps));
    cad_info("  Number of trainable parameters = %s", grouped(n, r->params->trainable));
    if (r->facts.start_step) cad_info("  Continuing from checkpoint, will start at step %s", grouped(n, r->facts.start_step));
}

/* A directory of a model that sees holds more than the text part. */
static void say_vision(const cad_run *r)
{
    cad_st *st;
    int n = 0;

    if (cad_weights_open(&st, r->model_dir)) {
        cad_clear();
        return;
    }
    for (int i = 0; i < cad_st_count(st); i++) {
        const char *name = cad_st_at(st, i)->name;
        n += strstr(name, "vision_model") || strstr(name, "vision_tower") || strstr(name, "multi_modal_projector");
    }
    cad_st_close(&st);
    if (n) cad_info("Model: %s holds a part for images too (%d tensors): it is left out, the text part is used", r->model_dir, n);
}

void cadp_say_start(cad_run *r)
{
    char a[32], b[32];

    if (r->rank) return;
    say_machine(r);
    cadp_say_slurm();
    cad_info("trainable params: %s || all params: %s || trainable%%: %.4f", grouped(a, r->params->trainable), grouped(b, r->params->all), 100.0 * (double)r->params->trainable / (double)r->params->all);
    say_plan(r);
    say_vision(r);
    say_storage(r);
    cad_info("Data: %s records in %s%s: %lld to train on, %lld to evaluate on", grouped(a, r->train.data->count), r->o->dataset.train_file, r->train.data->from_cache ? " (tokens from the cache)" : "",
             (long long)r->facts.train_rows, (long long)r->facts.eval_rows);
    say_prior(r);
    say_cuts(r, "training file", &r->train);
    if (r->eval.owned) say_cuts(r, "validation file", &r->eval);
    say_cuts(r, "test file", &r->test);
    say_training(r);
}

cad_status cadp_say_memory(cad_run *r)
{
    int n = r->held_count = (int)cad_min(r->size, (int)(sizeof r->held / sizeof *r->held));

    if (r->rank < n) r->held[r->rank] = (double)cad_device_bytes(r->device);
    CAD_TRY(cad_comm_allreduce(r->comm, r->held, n, CAD_NUM_F64, CAD_SUM));
    for (int i = 0; i < n && !r->rank; i++) {
        cad_info("Device memory after loading, rank %d: %.1f MiB (planned for the largest rank: %.1f MiB)", i, r->held[i] / 0x1p20, (double)r->planned / 0x1p20);
        CAD_TRY(cad_str_addf(&r->notes, "Device memory after loading, rank %d: %.1f MiB (planned for the largest rank: %.1f MiB).\n", i, r->held[i] / 0x1p20, (double)r->planned / 0x1p20));
    }
    return CAD_OK;
}
