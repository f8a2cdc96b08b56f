/* What a GPU does with cadtrain's operations, one JSON object a line:
 *   gpu DEVICE matrix [SIDE]                       bf16 products of random numbers, SIDE x SIDE (8192)
 *   gpu DEVICE attention HEAD TOKENS               causal attention, forward and backward, two sequences of TOKENS, 4096 columns of queries
 *   gpu DEVICE step SHAPE full|paged|offload|lora|uneven|qlora|sft LENGTH SEQUENCES STEPS   whole training steps of the model of SHAPE (a config.json), random weights;
 *        uneven: adapters of rank 16 and records of uneven length up to LENGTH; qlora: adapters on weights in NF4; sft: of rank 64, and
 *        every next token is predicted. Recomputes only what the plan does not fit without.
 *   gpu DEVICE generate SHAPE PAST SEQUENCES STEPS  a token at a time for so many sequences at once, each behind PAST made-up ones; random weights in bf16, or nf4
 *   gpu DEVICE codes ROWS COLS                      a matrix back from NF4 and from 8 bits to bf16
 *   gpu DEVICE moments COUNT                        AdamW on COUNT parameters, with moments in fp32 and in 8 bits
 * DEVICE is "cuda:0"; "emulated" and "cpu" try the same with tiny sizes. */
#include <cadtrain/link.h>
#include <cadtrain/train.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const double PEAK = 989.4e12; /* of an H100 or H200, dense bf16: facts/performance.md */
enum { POOL = 1 << 20 };
static const double SECONDS_EACH = 2, SECONDS_TRIED = 0.02; /* the latter where there is no GPU and nothing is measured */

static void need(cad_status status)
{
    if (!status) return;
    fprintf(stderr, "gpu: %s\n", cad_reason());
    exit(status);
}

static void fill(cad_device *d, void *to, int64_t n)
{
    static uint16_t pool[POOL];

    for (int64_t i = 0; i < cad_min(n, POOL); i++) pool[i] = cad_f32_to_bf16((float)cad_rng_normal(1, CAD_RNG_TEST, 0, (uint64_t)i));
    for (int64_t at = 0; at < n; at += POOL) need(cad_device_upload(d, (uint16_t *)to + at, pool, cad_min(POOL, n - at) * 2));
}

static cad_tensor random_matrix(cad_device *d, int64_t rows, int64_t cols)
{
    void *p;

    need(cad_device_alloc(d, &p, rows * cols * 2, "a matrix"));
    fill(d, p, rows * cols);
    return cad_view(p, CAD_BF16, rows, cols);
}

/* Seconds of one call among as many as fit in the time, all in flight. */
static double timed(cad_device *d, cad_status (*call)(cad_device *, const void *), const void *x)
{
    double enough = strncmp(cad_device_name(d), "cuda", 4) ? SECONDS_TRIED : SECONDS_EACH, took;
    int64_t calls = 1;

    need(call(d, x)); /* the first one chooses its way */
    need(cad_device_sync(d));
    for (;; calls *= 2) {
        double from = cad_now();
        for (int64_t i = 0; i < calls; i++) need(call(d, x));
        need(cad_device_sync(d));
        took = cad_now() - from;
        if (took > enough || calls > 4096) return took / (double)calls;
    }
}

static cad_status multiply(cad_device *d, const void *x) { return cad_matmul(d, x); }
static cad_status attend(cad_device *d, const void *x) { return cad_attention_fwd(d, &((const cad_attention_bwd_args *)x)->f); }
static cad_status attend_back(cad_device *d, const void *x) { return cad_attention_bwd(d, x); }

static void matrix(cad_device *d, int64_t side)
{
    cad_matmul_args x = {.a = random_matrix(d, side, side), .b = random_matrix(d, side, side), .c = random_matrix(d, side, side), .tb = true, .alpha = 1};
    double seconds, flop = 2 * pow((double)side, 3);

    need(cad_device_reserve(d, 64 << 20));
    seconds = timed(d, multiply, &x);
    printf("{\"what\": \"matrix\", \"size\": %lld, \"tflops\": %.6g}\n", (long long)side, 1e-12 * flop / seconds);
    cad_device_free(d, &x.a.data);
    cad_device_free(d, &x.b.data);
    cad_device_free(d, &x.c.data);
}

/* ---- attention ---- */

enum { TWO = 2 };
static void attention(cad_device *d, int64_t head, int64_t length)
{
    int64_t heads = cad_max(1, (length > 512 ? 4096 : 128) / head), kv = cad_max(1, heads / 4), t = TWO * length;
    int32_t starts[TWO + 1] = {0, (int32_t)length, (int32_t)t};
    void *starts_dev, *lse;
    cad_attention_bwd_args x = {.f = {.head_dim = head, .q_heads = kv * 4 <= heads ? kv * 4 : heads, .kv_heads = kv, .scale = 1 / sqrt((double)head), .causal = true}};
    cad_packing packing = {.tokens = (int32_t)t, .sequences = TWO, .longest = (int32_t)length, .starts = starts};
    double forward, backward, flop;

    heads = x.f.q_heads;
    need(cad_device_alloc(d, &starts_dev, sizeof starts, "starts"));
    need(cad_device_upload(d, starts_dev, starts, sizeof starts));
    packing.starts_dev = starts_dev;
    need(cad_device_alloc(d, &lse, t * heads * 4, "log sums"));
    x.f.packing = &packing;
    x.f.lse = cad_view(lse, CAD_F32, t, heads);
    x.f.q = random_matrix(d, t, heads * head);
    x.f.o = random_matrix(d, t, heads * head);
    x.dq = random_matrix(d, t, heads * head);
    x.d_o = random_matrix(d, t, heads * head);
    x.f.k = random_matrix(d, t, kv * head);
    x.f.v = random_matrix(d, t, kv * head);
    x.dk = random_matrix(d, t, kv * head);
    x.dv = random_matrix(d, t, kv * head);
    need(cad_device_reserve(d, 256 << 20));
    forward = timed(d, attend, &x);
    backward = timed(d, attend_back, &x);
    flop = TWO * 4.0 * (double)heads * (double)head * (double)length * (double)length / 2; /* half the square: causal */
    printf("{\"what\": \"attention\", \"head\": %lld, \"heads\": %lld, \"kv_heads\": %lld, \"length\": %lld, \"forward_tflops\": %.6g, \"backward_tflops\": %.6g}\n", (long long)head, (long long)heads,
           (long long)kv, (long long)length, 1e-12 * flop / forward, 1e-12 * 2.5 * flop / backward);
    void *all[] = {starts_dev, lse, x.f.q.data, x.f.o.data, x.dq.data, x.d_o.data, x.f.k.data, x.f.v.data, x.dk.data, x.dv.data};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) cad_device_free(d, &all[i]);
}

/* ---- codes ---- */

static cad_status turn_back(cad_device *d, const void *x) { return cad_dequantise(d, x); }
static cad_status move_on(cad_device *d, const void *x) { return cad_adamw(d, x); }
static cad_status move_on8(cad_device *d, const void *x) { return cad_adamw8(d, x); }

static void codes(cad_device *d, int64_t rows, int64_t cols)
{
    static const cad_code kinds[] = {CAD_NF4, CAD_INT8};
    cad_tensor x = random_matrix(d, rows, cols);

    for (int i = 0; i < 2; i++) {
        cad_coded_layout l = cad_coded_layout_of(kinds[i], false, rows, cols);
        cad_dequantise_args back = {.y = x};
        void *memory;
        double seconds;
        need(cad_device_alloc(d, &memory, l.bytes, "codes"));
        back.q = cad_coded_view(memory, kinds[i], false, rows, cols);
        need(cad_quantise(d, &(cad_quantise_args){back.q, x}));
        seconds = timed(d, turn_back, &back);
        printf("{\"what\": \"codes\", \"code\": \"%s\", \"rows\": %lld, \"cols\": %lld, \"gigabytes_per_second\": %.6g}\n", cad_code_name(kinds[i]), (long long)rows, (long long)cols,
               1e-9 * (double)(l.bytes + rows * cols * 2) / seconds);
        cad_device_free(d, &memory);
    }
    cad_device_free(d, &x.data);
}

static cad_tensor cleared(cad_device *d, cad_dtype dtype, int64_t n)
{
    void *p;

    need(cad_device_alloc(d, &p, n * (int64_t)cad_dtype_bytes(dtype), "an array"));
    need(cad_device_zero(d, p, n * (int64_t)cad_dtype_bytes(dtype)));
    return cad_view(p, dtype, 1, n);
}

static void moments(cad_device *d, int64_t n)
{
    int64_t blocks = cad_ceil_div(n, CAD_SCALE_BLOCK);
    cad_tensor p = cleared(d, CAD_F32, n), g = cleared(d, CAD_F32, n), copy = cleared(d, CAD_BF16, n), m = cleared(d, CAD_F32, n), v = cleared(d, CAD_F32, n);
    cad_tensor m8 = cleared(d, CAD_U8, n), v8 = cleared(d, CAD_U8, n), scale_m = cleared(d, CAD_F32, blocks), scale_v = cleared(d, CAD_F32, blocks);
    cad_adamw_args full = {p, m, v, g, copy, 1e-5, 0.9, 0.999, 1e-8, 0.01, 1, 1};
    cad_adamw8_args small = {p, m8, v8, scale_m, scale_v, g, copy, 1e-5, 0.9, 0.999, 1e-8, 0.01, 1, 1, 0};
    double one = timed(d, move_on, &full), other = timed(d, move_on8, &small);
    cad_tensor all[] = {p, g, copy, m, v, m8, v8, scale_m, scale_v};

    printf("{\"what\": \"moments\", \"bits\": 32, \"parameters\": %lld, \"gigabytes_per_second\": %.6g, \"seconds_per_billion\": %.6g}\n", (long long)n, 1e-9 * 30 * (double)n / one, 1e9 * one / (double)n);
    printf("{\"what\": \"moments\", \"bits\": 8, \"parameters\": %lld, \"gigabytes_per_second\": %.6g, \"seconds_per_billion\": %.6g}\n", (long long)n, 1e-9 * 18 * (double)n / other, 1e9 * other / (double)n);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) cad_device_free(d, &all[i].data);
}

/* ---- whole steps ---- */

typedef struct rooms {
    cad_comm *comm;
    cad_arena arena;
    cad_arch arch;
    cad_method method;
    cad_params *params;
    cad_zero *zero;
    cad_model *model;
    int32_t *ids, *starts, *labels, *targets;
    float *weights, *target_weights;
    double *nll;
    int64_t length, sequences, tokens;
    int64_t kept; /* positions of each sequence, where it generates */
    bool uneven, paged, offloaded;
} rooms;

/* Weights of the usual size, in both dtypes: billions of them are copied from here. */
static float pool[POOL];
static uint16_t half_pool[POOL];

static void fill_pool(void)
{
    for (int64_t i = 0; i < POOL; i++) {
        pool[i] = 0.02f * (float)cad_rng_normal(2, CAD_RNG_TEST, 0, (uint64_t)i);
        half_pool[i] = cad_f32_to_bf16(pool[i]);
    }
}

static cad_status draw(void *with, int row, int64_t from, int64_t n, cad_dtype as, void *out)
{
    const cad_param *p = &((rooms *)with)->params->row[row];
    float flat = p->piece == CAD_PIECE_WEIGHT ? 1 : 0;
    int64_t at = (int64_t)(((uint64_t)row * 7919 + (uint64_t)from) % POOL), each = as == CAD_F32 ? 4 : 2, some;

    for (int64_t i = 0; p->dims == 1 && i < n; i++) {
        if (as == CAD_F32) ((float *)out)[i] = flat;
        else ((uint16_t *)out)[i] = cad_f32_to_bf16(flat);
    }
    for (int64_t i = 0; p->dims != 1 && i < n; i += some, at = 0) {
        some = cad_min(n - i, POOL - at);
        memcpy((char *)out + i * each, as == CAD_F32 ? (const void *)(pool + at) : (const void *)(half_pool + at), (size_t)(some * each));
    }
    return CAD_OK;
}

/* Records as the biobank's: a third of the longest to the longest, in turn. */
static void make_records(rooms *r)
{
    need(cad_alloc(&r->ids, (size_t)(r->length * r->sequences), 4, "ids"));
    need(cad_alloc(&r->starts, (size_t)r->sequences + 1, 4, "starts"));
    need(cad_alloc(&r->labels, (size_t)r->sequences, 4, "labels"));
    need(cad_alloc(&r->weights, (size_t)r->sequences, 4, "weights"));
    for (int64_t s = 0; s < r->sequences; s++) {
        int64_t n = r->uneven ? cad_max(1, r->length / 3 + (r->length - r->length / 3) * ((s * 37) % 101) / 101) : r->length;
        r->starts[s + 1] = r->starts[s] + (int32_t)n;
        r->labels[s] = s % 2;
        r->weights[s] = 1;
    }
    r->tokens = r->starts[r->sequences];
    need(cad_alloc(&r->nll, (size_t)r->tokens, 8, "losses"));
    for (int64_t i = 0; i < r->tokens; i++) r->ids[i] = (int32_t)(cad_rng_uniform(42, CAD_RNG_SYNTH, 0, (uint64_t)i) * (double)r->arch.vocab);
    need(cad_alloc(&r->targets, (size_t)r->tokens, 4, "targets"));
    need(cad_alloc(&r->target_weights, (size_t)r->tokens, 4, "targets"));
    for (int64_t i = 0, s = 0; i < r->tokens; i++) {
        s += i + 1 == r->starts[s + 1];
        r->targets[i] = i + 1 == r->starts[s] ? -1 : r->ids[i + 1];
        r->target_weights[i] = 1;
    }
}

static void open_rooms(rooms *r, cad_device *d)
{
    cad_zero_options zero = {.train = !r->kept, .atoms_per_step = 1, .compute = CAD_BF16, .paged = r->paged, .host_states = r->offloaded};
    cad_limits limits = {r->tokens, r->sequences, cad_max(r->length, r->kept), !r->kept, true, r->kept, false};

    r->arena = (cad_arena){.device = d};
    need(cad_comm_open(&r->comm, "self"));
    need(cad_params_open(&r->params, &r->arch, &r->method));
    need(cad_zero_open(&r->zero, r->params, r->comm, &r->arena, &zero));
    need(cad_model_open(&r->model, &r->arch, r->params, &r->method, &r->arena, &limits));
}

static void close_rooms(rooms *r)
{
    cad_model_close(&r->model);
    cad_zero_close(&r->zero);
    cad_arena_close(&r->arena);
    cad_params_close(&r->params);
    cad_comm_close(&r->comm);
}

static double one_step(rooms *r, int64_t number)
{
    cad_model_batch b = {.tokens = (int32_t)r->tokens, .sequences = (int32_t)r->sequences, .longest = (int32_t)r->length, .ids = r->ids, .starts = r->starts, .labels = r->labels,
                         .weights = r->weights, .targets = r->targets, .target_weights = r->target_weights, .scale = 1.0 / (double)(r->method.causal ? r->tokens : r->sequences), .seed_index = (uint64_t)number};
    cad_zero_step_args a = {.lr = 1e-5, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .max_grad_norm = 1, .step = number};
    cad_zero_step_result done;
    double from = cad_now();

    need(cad_zero_begin(r->zero));
    need(cad_walk_forward(r->zero, r->model, r->params->units, &b, true));
    need(cad_walk_backward(r->zero, r->model, r->params->units, false));
    need(cad_zero_step(r->zero, &a, &done));
    need(cad_model_nll(r->model, r->nll));
    need(cad_device_sync(r->arena.device));
    return cad_now() - from;
}

/* Memory and work space, by one step on a device that only counts. */
static int64_t plan(rooms *r, const char *device, int64_t *work)
{
    char name[40];
    cad_device *d;
    int64_t total = 0;

    snprintf(name, sizeof name, "plan:%s", device);
    need(cad_device_open(&d, name, 0));
    open_rooms(r, d);
    (void)one_step(r, 1);
    *work = cad_device_work_needed(d);
    for (int c = 0; c < CAD_MEM_CATEGORIES; c++) total += r->arena.total[c];
    close_rooms(r);
    need(cad_device_close(&d));
    return total + *work;
}

static void print_shares(const cad_device *d)
{
    const char *name;
    double seconds, all = 0;
    bool first = true;

    for (int i = 0; cad_device_timed(d, i, &name, &seconds); i++) all += seconds;
    printf(", \"shares\": {");
    for (int i = 0; cad_device_timed(d, i, &name, &seconds); i++)
        if (seconds > 0) {
            printf("%s\"%s\": %.4f", first ? "" : ", ", name, seconds / all);
            first = false;
        }
    printf("}");
}

static int smaller(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

static const int recomputes[] = {CAD_RECOMPUTE_LEAST, CAD_RECOMPUTE_ATTENTION, CAD_RECOMPUTE_BLOCKS}; /* from fast to small */
static const char *const recompute_names[] = {"none", "blocks", "attention"};

static void step(cad_device *d, const char *shape, const char *how, int64_t length, int64_t sequences, int64_t steps)
{
    rooms r = {.length = length, .sequences = sequences, .uneven = !strcmp(how, "uneven"), .paged = !strcmp(how, "paged"), .offloaded = !strcmp(how, "offload")};
    int64_t work, planned, left, all;
    double *took, seconds, flop, losses = 0;
    char *text;
    size_t n;

    fill_pool();
    need(cad_read_file(&text, &n, shape, 1 << 20, CAD_EMODEL));
    need(cad_arch_parse(&r.arch, text, n, shape));
    r.method = (cad_method){.lora = *how != 'f' && !r.paged && !r.offloaded, .r = 16, .alpha = 32, .train_head = true, .num_labels = 2, .pooling = CAD_POOLING_LAST, .compute = CAD_BF16, .seed = 42};
    if (*how == 'q' || *how == 's') r.method.code = CAD_NF4, r.method.nested = true;
    if (*how == 's') r.method.causal = true, r.method.train_head = false, r.method.r = 64, r.method.alpha = 16;
    make_records(&r);
    cad_device_memory(d, &left, &all);
    for (int i = 0; i < 3; i++) {
        r.method.recompute = recomputes[i];
        planned = plan(&r, cad_device_name(d), &work);
        if (!all || planned <= left) break;
    }
    if (all && planned > left) need(cad_fail(CAD_ERESOURCE, "%s %s: the plan needs %.1f GiB, %.1f are free", shape, how, (double)planned / 0x1p30, (double)left / 0x1p30));
    open_rooms(&r, d);
    need(cad_device_reserve(d, work));
    need(cad_zero_load(r.zero, draw, &r));
    need(cad_alloc(&took, (size_t)steps, sizeof *took, "times"));
    (void)one_step(&r, 1);
    for (int64_t i = 0; i < steps; i++) took[i] = one_step(&r, i + 2);
    qsort(took, (size_t)steps, sizeof *took, smaller);
    seconds = took[steps / 2];
    cad_device_time(d, true);
    (void)one_step(&r, steps + 2);
    cad_device_time(d, false);
    flop = cad_flop_per_token(&r.arch, r.params, r.uneven ? (double)r.tokens / (double)r.sequences : (double)length);
    for (int64_t i = 0, all_of = r.method.causal ? r.tokens - sequences : sequences; i < all_of; i++) losses += r.nll[i] / (double)all_of;
    cad_device_memory(d, &left, &all);
    printf("{\"what\": \"step\", \"shape\": \"%s\", \"how\": \"%s\", \"length\": %lld, \"sequences\": %lld, \"tokens\": %lld, \"recompute\": \"%s\", \"seconds\": %.6g, \"tokens_per_second\": %.6g, "
           "\"flop_per_token\": %.6g, \"share_of_peak\": %.5f, \"planned_bytes\": %lld, \"peak_bytes\": %lld, \"device_bytes_in_use\": %lld, \"loss\": %.6g",
           strrchr(shape, '/') ? strrchr(shape, '/') + 1 : shape, how, (long long)length, (long long)sequences, (long long)r.tokens, recompute_names[r.method.recompute], seconds,
           (double)r.tokens / seconds, flop, flop * (double)r.tokens / seconds / PEAK, (long long)planned, (long long)cad_device_peak(d), (long long)(all - left), losses);
    print_shares(d);
    puts("}");
    close_rooms(&r);
    void *host[] = {text, took, r.ids, r.starts, r.labels, r.weights, r.targets, r.target_weights, r.nll};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) cad_free(&host[i]);
}

/* ---- generation ---- */

/* One more token of each sequence; all of them have `past`. */
static double one_token(rooms *r, int32_t *slots, int32_t *past, int32_t at, float *next)
{
    cad_model_batch b = {.tokens = (int32_t)r->sequences, .sequences = (int32_t)r->sequences, .longest = 1, .ids = r->ids, .starts = r->starts, .slots = slots, .past = past};
    double from = cad_now();

    for (int32_t s = 0; s < r->sequences; s++) {
        slots[s] = s;
        past[s] = at;
    }
    need(cad_walk_forward(r->zero, r->model, r->params->units, &b, false));
    if (cad_device_pretends(r->arena.device)) return 0;
    need(cad_model_next(r->model, next));
    return cad_now() - from;
}

static void generate(cad_device *d, const char *shape, int64_t past_tokens, int64_t sequences, int64_t steps, bool codes)
{
    rooms r = {.length = 1, .sequences = sequences, .kept = past_tokens + steps + 1};
    int32_t *slots, *past;
    int64_t work;
    double *took;
    float *next;
    char *text, name[40];
    cad_device *counting;
    size_t n;

    fill_pool();
    need(cad_read_file(&text, &n, shape, 1 << 20, CAD_EMODEL));
    need(cad_arch_parse(&r.arch, text, n, shape));
    r.method = (cad_method){.causal = true, .num_labels = 2, .compute = CAD_BF16, .seed = 42};
    if (codes) r.method.lora = true, r.method.r = 64, r.method.alpha = 16, r.method.code = CAD_NF4, r.method.nested = true;
    make_records(&r);
    need(cad_alloc(&slots, (size_t)sequences, 4, "slots"));
    need(cad_alloc(&past, (size_t)sequences, 4, "pasts"));
    need(cad_alloc(&took, (size_t)steps, sizeof *took, "times"));
    need(cad_alloc(&next, (size_t)(sequences * r.arch.vocab), sizeof *next, "logits"));
    snprintf(name, sizeof name, "plan:%s", cad_device_name(d));
    need(cad_device_open(&counting, name, 0));
    open_rooms(&r, counting);
    (void)one_token(&r, slots, past, 0, next);
    work = cad_device_work_needed(counting);
    close_rooms(&r);
    need(cad_device_close(&counting));
    open_rooms(&r, d);
    need(cad_device_reserve(d, work));
    need(cad_zero_load(r.zero, draw, &r));
    for (int64_t i = 0; i < 2; i++) (void)one_token(&r, slots, past, (int32_t)past_tokens, next); /* what stands before it is whatever the memory holds */
    for (int64_t i = 0; i < steps; i++) took[i] = one_token(&r, slots, past, (int32_t)(past_tokens + i), next);
    qsort(took, (size_t)steps, sizeof *took, smaller);
    printf("{\"what\": \"generate\", \"shape\": \"%s\", \"past\": %lld, \"sequences\": %lld, \"tokens_per_second\": %.6g, \"peak_bytes\": %lld}\n", strrchr(shape, '/') ? strrchr(shape, '/') + 1 : shape,
           (long long)past_tokens, (long long)sequences, (double)sequences / took[steps / 2], (long long)cad_device_peak(d));
    close_rooms(&r);
    void *host[] = {text, slots, past, took, next, r.ids, r.starts, r.labels, r.weights, r.targets, r.target_weights, r.nll};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) cad_free(&host[i]);
}

static int64_t number(int argc, char **argv, int i, int64_t otherwise) { return argc > i ? strtoll(argv[i], NULL, 10) : otherwise; }

int main(int argc, char **argv)
{
    cad_device *d;

    if (argc < 3) {
        fputs("gpu DEVICE matrix [SIDE] | attention HEAD LENGTH | step SHAPE full|paged|offload|lora|uneven|qlora|sft LENGTH SEQUENCES STEPS | generate SHAPE PAST SEQUENCES STEPS [nf4] | codes ROWS COLS | moments COUNT\n", stderr);
        return 2;
    }
    need(cad_device_open(&d, argv[1], 0));
    if (!strcmp(argv[2], "matrix")) matrix(d, number(argc, argv, 3, 8192));
    else if (!strcmp(argv[2], "attention")) attention(d, number(argc, argv, 3, 128), number(argc, argv, 4, 4096));
    else if (!strcmp(argv[2], "step") && argc > 4) step(d, argv[3], argv[4], number(argc, argv, 5, 1024), number(argc, argv, 6, 4), number(argc, argv, 7, 5));
    else if (!strcmp(argv[2], "generate") && argc > 3) generate(d, argv[3], number(argc, argv, 4, 1024), number(argc, argv, 5, 1), number(argc, argv, 6, 32), argc > 7 && !strcmp(argv[7], "nf4"));
    else if (!strcmp(argv[2], "codes")) codes(d, number(argc, argv, 3, 14336), number(argc, argv, 4, 4096));
    else if (!strcmp(argv[2], "moments")) moments(d, number(argc, argv, 3, 1 << 28));
    else if (!strcmp(argv[2], "what")) printf("{\"what\": \"device\", \"device\": \"%s\"}\n", cad_device_description(d));
    else return 2;
    need(cad_device_close(&d));
    return 0;
}
