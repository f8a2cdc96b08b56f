/* Training steps of a model of a shape (a config.json), weights random and made where they lie, so that neither a file nor a data set is needed:
 *   [mpirun -np N] shape DEVICE SHAPE full|lora|qlora|sft [layers=N] [length=N] [sequences=N] [steps=N] [stage=0|2|3] [recompute=0|1]
 * qlora, sft: NF4 under nested scales, adapters of rank 64; sft predicts every next token, the others classify. One JSON object: the plan, what the
 * allocator gave at most, resident memory of all ranks beside what they held before, and tokens a second. Exit code 1 where plan and allocator differ. */
#include <cadtrain/comm.h>
#include <cadtrain/zero.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { POOL = 1 << 20 };

typedef struct rooms {
    cad_comm *comm;
    cad_device *device;
    cad_arena arena;
    cad_arch arch;
    cad_method method;
    cad_params *params;
    cad_zero *zero;
    cad_model *model;
    int64_t layers, length, sequences, steps, stage, recompute, tokens;
    int32_t *ids, *starts, *labels, *targets;
    float *weights, *target_weights;
    double *nll;
    int64_t before; /* resident before anything of the plan was taken, MPI's own memory included */
} rooms;

static float pool[POOL];
static uint64_t bits[POOL];

static void need(cad_status status)
{
    if (!status) return;
    fprintf(stderr, "shape: %s\n", cad_reason());
    exit(status);
}

/* Of this process, in bytes. */
static int64_t resident(const char *field)
{
    char line[128];
    long long kb = 0;
    FILE *f = fopen("/proc/self/status", "r");

    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, field, strlen(field))) kb = atoll(line + strlen(field));
    if (f) fclose(f);
    return kb * 1024;
}

/* ---- weights ---- */

static cad_status draw(void *with, int row, int64_t from, int64_t n, cad_dtype as, void *out)
{
    const cad_param *p = &((rooms *)with)->params->row[row];
    uint64_t at = (uint64_t)row * 7919 + (uint64_t)from;
    float scale = p->dims == 1 ? 0 : 0.02f, base = p->dims == 1 && p->piece == CAD_PIECE_WEIGHT ? 1 : 0;

    for (int64_t i = 0; i < n; i++) {
        float v = base + scale * pool[(at + (uint64_t)i) % POOL];
        if (as == CAD_F32) ((float *)out)[i] = v;
        else ((uint16_t *)out)[i] = cad_f32_to_bf16(v);
    }
    return CAD_OK;
}

/* A byte of a row of codes: any code, and scales of about 0.05. */
static uint8_t byte_at(const cad_coded_layout *l, int row, int64_t i)
{
    static const float scale2 = 0.01f, offset = 0.05f;
    uint8_t word[4];

    if (i < l->scales2) return (uint8_t)(bits[((uint64_t)row * 131 + (uint64_t)i / 8) % POOL] >> i % 8 * 8);
    memcpy(word, i < l->offset ? &scale2 : &offset, 4);
    return i >= l->offset + 4 ? 0 : word[i % 4];
}

static cad_status draw_codes(void *with, int row, int64_t from, int64_t n, void *out, bool *has)
{
    const cad_param *p = &((rooms *)with)->params->row[row];
    cad_coded_layout l = cad_coded_layout_of(p->code, p->nested, p->rows, p->cols);

    *has = p->nested;
    for (int64_t i = 0; i < n; i++) ((uint8_t *)out)[i] = byte_at(&l, row, from + i);
    return CAD_OK;
}

/* ---- a batch ---- */

static void make_batch(rooms *r)
{
    r->tokens = r->length * r->sequences;
    need(cad_alloc(&r->ids, (size_t)r->tokens, 4, "ids"));
    need(cad_alloc(&r->targets, (size_t)r->tokens, 4, "targets"));
    need(cad_alloc(&r->target_weights, (size_t)r->tokens, 4, "targets"));
    need(cad_alloc(&r->starts, (size_t)r->sequences + 1, 4, "starts"));
    need(cad_alloc(&r->labels, (size_t)r->sequences, 4, "labels"));
    need(cad_alloc(&r->weights, (size_t)r->sequences, 4, "weights"));
    need(cad_alloc(&r->nll, (size_t)r->tokens, 8, "losses"));
    for (int64_t i = 0; i < r->tokens; i++) r->ids[i] = (int32_t)(cad_rng_uniform(42, CAD_RNG_SYNTH, 0, (uint64_t)i) * (double)r->arch.vocab);
    for (int64_t i = 0; i < r->tokens; i++) r->targets[i] = (i + 1) % r->length ? r->ids[i + 1] : -1;
    for (int64_t i = 0; i < r->tokens; i++) r->target_weights[i] = 1;
    for (int64_t s = 0; s < r->sequences; s++) {
        r->starts[s + 1] = (int32_t)((s + 1) * r->length);
        r->labels[s] = s % 2;
        r->weights[s] = 1;
    }
}

/* ---- steps ---- */

static void open_rooms(rooms *r, const char *device, const char *comm)
{
    cad_limits limits = {r->tokens, r->sequences, r->length, true, r->stage < 3, 0, false};
    cad_zero_options zero = {.stage = (int)r->stage, .train = true, .compute = CAD_BF16};

    need(cad_comm_open(&r->comm, comm));
    r->before = resident("VmRSS:");
    need(cad_device_open(&r->device, device, 0));
    zero.atoms_per_step = cad_comm_size(r->comm);
    r->arena = (cad_arena){.device = r->device};
    need(cad_params_open(&r->params, &r->arch, &r->method));
    need(cad_zero_open(&r->zero, r->params, r->comm, &r->arena, &zero));
    need(cad_model_open(&r->model, &r->arch, r->params, &r->method, &r->arena, &limits));
}

static void close_rooms(rooms *r)
{
    cad_model_close(&r->model);
    cad_zero_close(&r->zero);
    cad_params_close(&r->params);
    cad_arena_close(&r->arena);
    need(cad_device_close(&r->device));
    cad_comm_close(&r->comm);
}

static void unit_back(rooms *r, int i)
{
    cad_unit_view w;
    void *grads;
    bool add;

    if (i) need(cad_zero_fetch(r->zero, i - 1));
    need(cad_zero_use(r->zero, i, &w));
    need(cad_zero_grads(r->zero, i, &grads, &add));
    need(cad_model_backward(r->model, i, w, grads, add));
    need(cad_zero_release(r->zero, i));
    need(cad_zero_grads_done(r->zero, i, false));
}

static double one_step(rooms *r, int64_t number)
{
    cad_model_batch b = {.tokens = (int32_t)r->tokens, .sequences = (int32_t)r->sequences, .longest = (int32_t)r->length, .ids = r->ids, .starts = r->starts, .labels = r->labels, .weights = r->weights,
                         .targets = r->targets, .target_weights = r->target_weights, .scale = 1.0 / (double)r->tokens, .seed_index = (uint64_t)number};
    cad_zero_step_args a = {.lr = 1e-4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .max_grad_norm = 1, .step = number};
    cad_zero_step_result done;
    cad_unit_view w;
    double from = cad_now();
    int units = r->params->units;

    need(cad_zero_begin(r->zero));
    need(cad_model_start(r->model, &b, true));
    need(cad_zero_fetch(r->zero, 0));
    for (int i = 0; i < units; i++) {
        if (i + 1 < units) need(cad_zero_fetch(r->zero, i + 1));
        need(cad_zero_use(r->zero, i, &w));
        need(cad_model_forward(r->model, i, w));
        need(cad_zero_release(r->zero, i));
    }
    need(cad_zero_fetch(r->zero, units - 1));
    for (int i = units - 1; i >= 0; i--) unit_back(r, i);
    need(cad_model_nll(r->model, r->nll));
    need(cad_zero_step(r->zero, &a, &done));
    need(cad_device_sync(r->device));
    return cad_now() - from;
}

/* Memory and work space, by one step on a device that only counts. */
static int64_t plan(rooms *r, const char *device, int ranks, int64_t *work)
{
    char name[40], world[24];
    int64_t total = 0;

    snprintf(name, sizeof name, "plan:%s", device);
    snprintf(world, sizeof world, "plan:%d", ranks);
    open_rooms(r, name, world);
    (void)one_step(r, 1);
    *work = cad_device_work_needed(r->device);
    for (int c = 0; c < CAD_MEM_CATEGORIES; c++) total += r->arena.total[c];
    close_rooms(r);
    return total + *work;
}

static void set_method(rooms *r, const char *how)
{
    bool codes = !strcmp(how, "qlora") || !strcmp(how, "sft");

    r->method = (cad_method){.lora = codes || !strcmp(how, "lora"), .r = codes ? 64 : 16, .alpha = codes ? 16 : 32, .num_labels = 2, .pooling = CAD_POOLING_LAST, .compute = CAD_BF16,
                             .code = codes ? CAD_NF4 : CAD_PLAIN, .nested = codes, .recompute = (int)r->recompute, .seed = 42};
    r->method.causal = !strcmp(how, "sft");
    r->method.train_head = !r->method.causal;
}

static void read_arch(rooms *r, const char *shape)
{
    char *text;
    size_t n;

    need(cad_read_file(&text, &n, shape, 1 << 20, CAD_EMODEL));
    need(cad_arch_parse(&r->arch, text, n, shape));
    cad_free(&text);
    if (r->layers) r->arch.layers = (int)cad_min(r->layers, r->arch.layers);
}

static void set(rooms *r, const char *word)
{
    const struct { const char *name; int64_t *at; } keys[] = {{"layers=", &r->layers}, {"length=", &r->length}, {"sequences=", &r->sequences}, {"steps=", &r->steps}, {"stage=", &r->stage}, {"recompute=", &r->recompute}};

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strncmp(word, keys[i].name, strlen(keys[i].name))) *keys[i].at = strtoll(word + strlen(keys[i].name), NULL, 10);
}

static int64_t over_ranks(const rooms *r, int64_t mine, cad_reduce how)
{
    need(cad_comm_allreduce(r->comm, &mine, 1, CAD_NUM_I64, how));
    return mine;
}

static int run(rooms *r, const char *device, const char *shape, const char *how)
{
    const char *launched = getenv("OMPI_COMM_WORLD_SIZE");
    int ranks = launched ? atoi(launched) : 1;
    int64_t work, planned, peak, held, before;
    double seconds = 0, loss = 0, loaded;

    planned = plan(r, device, ranks, &work);
    open_rooms(r, device, ranks > 1 ? "mpi" : "self");
    need(cad_device_reserve(r->device, work));
    loaded = cad_now();
    if (r->method.code) cad_zero_set_code_reader(r->zero, draw_codes);
    need(cad_zero_load(r->zero, draw, r));
    loaded = cad_now() - loaded;
    for (int64_t i = 1; i <= r->steps; i++) {
        double took = one_step(r, i);
        seconds = i == 1 ? took : fmin(seconds, took);
    }
    for (int64_t i = 0; i < (r->method.causal ? r->tokens - r->sequences : r->sequences); i++) loss += r->nll[i];
    peak = over_ranks(r, cad_device_peak(r->device), CAD_MAX);
    held = over_ranks(r, resident("VmHWM:"), CAD_SUM);
    before = over_ranks(r, r->before, CAD_SUM);
    if (!cad_comm_rank(r->comm))
        printf("{\"what\": \"shape\", \"shape\": \"%s\", \"how\": \"%s\", \"device\": \"%s\", \"ranks\": %d, \"layers\": %d, \"stage\": %d, \"length\": %lld, \"sequences\": %lld, \"recompute\": %d, \"parameters\": %lld, "
               "\"planned_bytes\": %lld, \"peak_bytes\": %lld, \"resident_bytes\": %lld, \"resident_before\": %lld, \"load_seconds\": %.4g, \"seconds\": %.5g, \"tokens_per_second\": %.5g, \"loss\": %.6g}\n",
               strrchr(shape, '/') ? strrchr(shape, '/') + 1 : shape, how, device, ranks, r->arch.layers, (int)r->stage, (long long)r->length, (long long)r->sequences, (int)r->recompute, (long long)r->params->all,
               (long long)planned, (long long)peak, (long long)held, (long long)before, loaded, seconds, (double)(r->tokens * ranks) / seconds, loss);
    close_rooms(r);
    return planned != peak || !isfinite(loss);
}

int main(int argc, char **argv)
{
    rooms r = {.length = 128, .sequences = 1, .steps = 2, .recompute = CAD_RECOMPUTE_BLOCKS};
    int code;

    if (argc < 4) {
        fputs("shape DEVICE SHAPE full|lora|qlora|sft [layers=N] [length=N] [sequences=N] [steps=N] [stage=0|2|3] [recompute=0|1|2]\n", stderr);
        return 2;
    }
    for (int i = 4; i < argc; i++) set(&r, argv[i]);
    for (int64_t i = 0; i < POOL; i++) {
        pool[i] = (float)cad_rng_normal(2, CAD_RNG_TEST, 0, (uint64_t)i);
        bits[i] = (uint64_t)(cad_rng_uniform(3, CAD_RNG_TEST, 0, (uint64_t)i) * 0x1p62);
    }
    set_method(&r, argv[3]);
    read_arch(&r, argv[2]);
    make_batch(&r);
    code = run(&r, argv[1], argv[2], argv[3]);
    void *host[] = {r.ids, r.targets, r.target_weights, r.starts, r.labels, r.weights, r.nll};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) cad_free(&host[i]);
    return code;
}
