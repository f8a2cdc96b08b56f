/* np: 1 2 3 4 */
/* Sharding under a model: whatever the number of ranks, the stage and the way atoms are dealt, a run has the bits of one rank alone. */
#include "ranks.h"

#include <math.h>

#include <cadtrain/zero.h>

/* A hidden size of 32 gives blocks of eight chunks, embeddings of four and a tail of one: uneven and empty parts at every number of ranks. */
static const char CONFIG[] = "{\"model_type\": \"qwen2\", \"num_hidden_layers\": 2, \"hidden_size\": 32, \"intermediate_size\": 48, \"num_attention_heads\": 4, "
                             "\"num_key_value_heads\": 2, \"vocab_size\": 97, \"max_position_embeddings\": 64, \"pad_token_id\": 3}";
/* With tensors large enough for moments of 8 bits, which begin in the middle of a block. */
static const char WIDE[] = "{\"model_type\": \"qwen2\", \"num_hidden_layers\": 2, \"hidden_size\": 32, \"intermediate_size\": 144, \"num_attention_heads\": 4, "
                           "\"num_key_value_heads\": 2, \"vocab_size\": 197, \"max_position_embeddings\": 64, \"pad_token_id\": 3}";
/* Every family: head_dim 8, 97 words. */
#define SIZES "\"hidden_size\": 32, \"intermediate_size\": 48, \"num_attention_heads\": 4, \"vocab_size\": 97, \"max_position_embeddings\": 64, \"pad_token_id\": 3"
#define SIZES_KV SIZES ", \"num_key_value_heads\": 2, \"head_dim\": 8"
#define BANDED "{\"factor\": 8.0, \"high_freq_factor\": 4.0, \"low_freq_factor\": 1.0, \"original_max_position_embeddings\": 16, \"rope_theta\": 500000.0, \"rope_type\": \"llama3\"}"
static const char *const families[] = {
    "{\"model_type\": \"llama\", \"num_hidden_layers\": 2, " SIZES_KV "}",
    "{\"model_type\": \"llama\", \"num_hidden_layers\": 1, \"tie_word_embeddings\": true, \"rope_parameters\": " BANDED ", " SIZES_KV "}",
    "{\"model_type\": \"mistral\", \"num_hidden_layers\": 2, \"sliding_window\": 4, " SIZES_KV "}",
    "{\"model_type\": \"qwen2\", \"num_hidden_layers\": 2, " SIZES ", \"num_key_value_heads\": 2}",
    "{\"model_type\": \"qwen3\", \"num_hidden_layers\": 2, " SIZES_KV "}",
    "{\"model_type\": \"gemma2\", \"num_hidden_layers\": 2, \"query_pre_attn_scalar\": 8, \"sliding_window\": 4, " SIZES_KV "}",
    "{\"model_type\": \"gemma3_text\", \"num_hidden_layers\": 3, \"query_pre_attn_scalar\": 8, \"sliding_window\": 4, " SIZES_KV "}",
    "{\"model_type\": \"llama4_text\", \"num_hidden_layers\": 2, \"intermediate_size_mlp\": 40, \"num_local_experts\": 3, \"num_experts_per_tok\": 1, \"attention_chunk_size\": 8, "
    "\"interleave_moe_layer_step\": 1, \"no_rope_layers\": [1, 0], \"use_qk_norm\": true, \"rope_parameters\": " BANDED ", " SIZES_KV "}",
    "{\"model_type\": \"bert\", \"num_hidden_layers\": 2, \"type_vocab_size\": 2, \"hidden_act\": \"gelu\", " SIZES "}"};
enum { FAMILIES = sizeof families / sizeof *families, LLAMA4 = 8 };
enum { MOST_TOKENS = 32, MOST_SEQUENCES = 4, LONGEST = 9, ATOMS = 6, STEPS = 3, MOST_ELEMS = 197 * 32 };
static const double FIRST_NORM = 0.5;

typedef struct setting { int stage; bool exact, lora, recompute, score; cad_dtype compute; int64_t atoms; const char *link; cad_code code; bool nested, coded, dora, paged, host_states, host_params, free; int family; } setting; /* free: not clipped; family: from 1; 0: a config of its own */
typedef struct rig {
    setting s;
    cad_comm *comm;
    cad_device *device;
    cad_arena arena;
    cad_arch arch;
    cad_method method;
    cad_params *params;
    cad_zero *zero;
    cad_model *model;
    double loud;      /* multiplies every gradient */
    bool poison;      /* one atom of the step has no finite gradient */
    double atom_norms;/* of the last step: sum over this rank's atoms of the norm of their gradient */
    cad_zero_step_result done;
} rig;

#if defined(__SANITIZE_ADDRESS__)
enum { SLOW = 1 }; /* the emulated grid, with every access watched */
#else
enum { SLOW = 0 };
#endif

static int rank, size;
static const char *device_name = "cpu";

/* ---- a model and its batches ---- */

static cad_status value(void *with, int row, int64_t from, int64_t n, cad_dtype as, void *out)
{
    float *wide = out;
    uint16_t *half = out;
    const cad_param *p = &((rig *)with)->params->row[row];
    bool gain = p->dims == 1 && p->piece == CAD_PIECE_WEIGHT;

    for (int64_t i = 0; i < n; i++) {
        double x = cad_rng_normal(11, CAD_RNG_TEST, (uint32_t)row, (uint64_t)(from + i));
        x = gain ? 1 + 0.1 * x : p->role == CAD_ROLE_EMBED ? x : 0.7 * x / sqrt((double)p->cols);
        if (as == CAD_F32) wide[i] = (float)x;
        else half[i] = cad_f32_to_bf16((float)x);
    }
    return CAD_OK;
}

static void open_rig(rig *r, const setting *s, cad_comm *comm, const char *device)
{
    cad_limits limits = {MOST_TOKENS, MOST_SEQUENCES, LONGEST, !s->score, false, 0, false};
    const char *config = s->family ? families[s->family - 1] : s->coded ? WIDE : CONFIG;
    cad_zero_options z = {s->stage, !s->score, s->exact, s->atoms, s->compute, s->link, s->coded, s->paged, s->host_states, s->host_params};

    *r = (rig){.s = *s, .comm = comm, .loud = 1};
    CHECK_OK(cad_device_open(&r->device, device, 1));
    r->arena.device = r->device;
    CHECK_OK(cad_arch_parse(&r->arch, config, strlen(config), "config.json"));
    r->method = (cad_method){.lora = s->lora, .r = 3, .alpha = 6, .dropout = s->lora ? 0.2 : 0, .train_head = true, .train_bias = true, .num_labels = 2, .compute = s->compute,
                             .code = s->code, .nested = s->nested, .dora = s->dora, .recompute = s->recompute, .seed = 4};
    CHECK_OK(cad_params_open(&r->params, &r->arch, &r->method));
    for (int i = 0; i < r->params->count; i++) r->params->row[i].decays = r->params->row[i].dims == 2;
    CHECK_OK(cad_zero_open(&r->zero, r->params, comm, &r->arena, &z));
    CHECK_OK(cad_model_open(&r->model, &r->arch, r->params, &r->method, &r->arena, &limits));
}

static void load(rig *r, int64_t work)
{
    CHECK_OK(cad_device_reserve(r->device, work));
    CHECK_OK(cad_zero_load(r->zero, value, r));
}

static void close_rig(rig *r)
{
    cad_model_close(&r->model);
    cad_zero_close(&r->zero);
    cad_params_close(&r->params);
    cad_arena_close(&r->arena);
    CHECK_OK(cad_device_close(&r->device));
}

typedef struct atom { int32_t ids[MOST_TOKENS], starts[MOST_SEQUENCES + 1], labels[MOST_SEQUENCES]; float weights[MOST_SEQUENCES]; cad_model_batch b; } atom;

/* The content of an atom depends on its number alone. */
static void fill(atom *x, int64_t number, double scale)
{
    int32_t n = (int32_t)(1 + number % 3), longest = 0;

    x->starts[0] = 0;
    for (int32_t s = 0; s < n; s++) {
        int32_t length = (int32_t)(1 + (number * 7 + s * 3) % LONGEST);
        x->starts[s + 1] = x->starts[s] + length;
        longest = (int32_t)cad_max(longest, length);
        x->labels[s] = (int32_t)(number + s) % 2;
        x->weights[s] = x->labels[s] ? 3 : 0.75f;
    }
    for (int32_t i = 0; i < x->starts[n]; i++) x->ids[i] = (int32_t)(cad_rng_uniform(2, CAD_RNG_TEST, (uint32_t)number, (uint64_t)i) * 97);
    x->b = (cad_model_batch){.tokens = x->starts[n], .sequences = n, .longest = longest, .ids = x->ids, .starts = x->starts, .labels = x->labels, .weights = x->weights, .scale = scale,
                             .seed_index = (uint64_t)number};
}

/* ---- one step, as the training loop does it ---- */

static void forward(rig *r, const atom *x)
{
    int units = r->params->units;

    if (x) CHECK_OK(cad_model_start(r->model, &x->b, !r->s.score));
    CHECK_OK(cad_zero_fetch(r->zero, 0));
    for (int i = 0; i < units; i++) {
        cad_unit_view w;
        if (i + 1 < units) CHECK_OK(cad_zero_fetch(r->zero, i + 1));
        CHECK_OK(cad_zero_use(r->zero, i, &w));
        if (x) CHECK_OK(cad_model_forward(r->model, i, w));
        CHECK_OK(cad_zero_release(r->zero, i));
    }
}

static double squares(const rig *r, const float *grads, int64_t n)
{
    double sum = 0;

    if (cad_device_pretends(r->device)) return 0;
    for (int64_t i = 0; grads && i < n; i++) sum += (double)grads[i] * grads[i];
    return sum;
}

static void backward(rig *r, const atom *x)
{
    double sum = 0;

    CHECK_OK(cad_zero_fetch(r->zero, r->params->units - 1));
    for (int i = r->params->units - 1; i >= 0; i--) {
        cad_unit_view w;
        void *grads;
        bool add;
        if (i) CHECK_OK(cad_zero_fetch(r->zero, i - 1));
        CHECK_OK(cad_zero_use(r->zero, i, &w));
        CHECK_OK(cad_zero_grads(r->zero, i, &grads, &add));
        if (x) CHECK_OK(cad_model_backward(r->model, i, w, grads, add));
        if (x) sum += squares(r, grads, r->params->train_elems[i]);
        CHECK_OK(cad_zero_release(r->zero, i));
        CHECK_OK(cad_zero_grads_done(r->zero, i, !x));
    }
    r->atom_norms += sqrt(sum);
}

/* The micro-steps of step `step` (from 1): atom a of the step is computed by rank a % W in micro-step a / W. Who only counts takes them all: what
 * operations need depends on the atom. */
static cad_zero_step_args args_of(const rig *r, int64_t step)
{
    return (cad_zero_step_args){.lr = 1e-2 / (double)step, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1, .max_grad_norm = r->s.free ? 0 : FIRST_NORM, .step = step};
}

static void micro_steps(rig *r, int64_t step)
{
    cad_zero_step_args args = args_of(r, step);
    int64_t w = cad_device_pretends(r->device) ? 1 : cad_comm_size(r->comm), micros = cad_ceil_div(r->s.atoms, w);
    atom x;

    r->atom_norms = 0;
    CHECK_OK(cad_zero_begin(r->zero));
    for (int64_t i = 0; i < micros; i++) {
        int64_t a = i * w + cad_comm_rank(r->comm);
        bool here = a < r->s.atoms;
        if (here) fill(&x, (step - 1) * r->s.atoms + a, r->loud / 16);
        if (here && r->poison && a == r->s.atoms / 2) x.weights[0] = NAN;
        forward(r, here ? &x : NULL);
        if (i == micros - 1) CHECK_OK(cad_zero_last(r->zero, &args));
        backward(r, here ? &x : NULL);
    }
}

static cad_status finish(rig *r, int64_t step)
{
    cad_zero_step_args args = args_of(r, step);

    return cad_zero_step(r->zero, &args, &r->done);
}

/* How often it had to be computed. */
static int whole_step(rig *r, int64_t step)
{
    for (int tries = 1;; tries++) {
        CHECK(tries <= 3);
        micro_steps(r, step);
        CHECK_OK(finish(r, step));
        if (!r->done.again) return tries;
    }
}

/* What operations need, from a run of the same steps that only counts. */
static int64_t counted_work(const setting *s, int ranks)
{
    char kind[24], device[16];
    cad_comm *c;
    rig r;
    int64_t needed;

    snprintf(kind, sizeof kind, "plan:%d", ranks);
    snprintf(device, sizeof device, "plan:%s", device_name);
    CHECK_OK(cad_comm_open(&c, kind));
    open_rig(&r, s, c, device);
    for (int64_t step = 1; step <= STEPS; step++) CHECK(whole_step(&r, step) == 1);
    needed = cad_device_work_needed(r.device);
    close_rig(&r);
    cad_comm_close(&c);
    return needed;
}

/* The same, counted once. */
static int64_t work_of(const setting *s, int ranks)
{
    static struct { int64_t key, bytes; } known[160];
    static int n;
    int64_t key = (((((*device_name * 64 + (int64_t)ranks) * 64 + s->atoms) * 16 + (int64_t)s->compute) * 4 + s->stage) * 2 + s->exact) * 128 * 256 + (s->paged * 128 + s->host_states * 64 + s->host_params * 32 + s->dora * 16 + s->family) * 128 + (int64_t)s->code * 16 + s->coded * 8 + s->nested * 4 + s->lora * 2 + s->recompute;

    for (int i = 0; i < n; i++)
        if (known[i].key == key) return known[i].bytes;
    CHECK(n < 160);
    known[n].key = key;
    known[n].bytes = counted_work(s, ranks);
    return known[n++].bytes;
}

static void start(rig *r, const setting *s, cad_comm *comm)
{
    int64_t work = work_of(s, cad_comm_size(comm));

    open_rig(r, s, comm, device_name);
    load(r, work);
}

/* ---- digests ---- */

/* Everything that trains and both moments of it, brought to rank 0 in pieces of `piece`; `digest` is filled there. */
static void digest(rig *r, int64_t piece, char hex[65])
{
    static float v[MOST_ELEMS];
    cad_sha256 h;

    cad_sha256_begin(&h);
    for (int what = 0; what < CAD_STATES; what++)
        for (int i = 0; i < r->params->count; i++)
            for (int64_t at = 0, n; r->params->row[i].trains && at < cad_zero_state_count(r->zero, i, (cad_state)what); at += n) {
                n = cad_min(piece, cad_zero_state_count(r->zero, i, (cad_state)what) - at);
                memset(v, 0xff, (size_t)n * 4);
                CHECK_OK(cad_zero_collect(r->zero, i, (cad_state)what, at, n, v));
                cad_sha256_add(&h, v, (size_t)n * 4);
            }
    cad_sha256_end(&h, hex);
}

static void run(const setting *s, cad_comm *comm, char hex[65])
{
    rig r;

    start(&r, s, comm);
    for (int64_t step = 1; step <= STEPS; step++) (void)whole_step(&r, step);
    digest(&r, 1500, hex);
    close_rig(&r);
}

/* One rank alone, at stage 0, on rank 0; everybody learns the digest. */
static void alone(const setting *s, char hex[65])
{
    setting one = *s;
    cad_comm *self;

    one.stage = 0;
    if (!rank) {
        CHECK_OK(cad_comm_open(&self, "self"));
        run(&one, self, hex);
        cad_comm_close(&self);
    }
    CHECK_OK(cad_comm_bcast(world, hex, 65, 0));
}

static const int stages[] = {0, 2, 3};

static void expect_same(const char *mine, const char *want, const char *what, const setting *s)
{
    if (rank || !strcmp(mine, want)) return;
    fprintf(stderr, "%s: stage %d, %s, %s: expected the digest %s, found %s\n", what, s->stage, s->lora ? "adapters" : "full", cad_dtype_name(s->compute), want, mine);
    CHECK(!"the same digest");
}

static void wire_is_what_theory_says(const setting *s);
static int64_t the_plan_is_what_is_held(const setting *s);
static void nothing_is_allocated_after_the_first_step(const setting *s);

static void every_stage_has_the_bits_of_one_rank(setting s)
{
    char want[65], mine[65];

    alone(&s, want);
    if (!rank) printf("%s %s, %lld atoms a step: %.16s\n", s.lora ? "adapters" : "full", cad_dtype_name(s.compute), (long long)s.atoms, want);
    for (int i = 0; i < 3; i++) {
        s.stage = stages[i];
        run(&s, world, mine);
        expect_same(mine, want, "other bits than one rank alone", &s);
        s.link = "staged"; /* as if the device's memory were not the host's */
        run(&s, world, mine);
        expect_same(mine, want, "by way of host memory: other bits than one rank alone", &s);
        s.link = NULL;
    }
}

/* Over NCCL's stand-in, on the grid that has lanes: nothing arrives before it is waited for. */
static void over_nccl_every_stage_has_the_bits_of_one_rank(setting s)
{
    const char *before = device_name;
    char want[65], mine[65];

    device_name = "emulated";
    alone(&s, want);
    s.link = "nccl";
    for (int i = 0; i < 3; i++) {
        s.stage = stages[i];
        run(&s, world, mine);
        expect_same(mine, want, "over NCCL's stand-in: other bits than one rank alone", &s);
    }
    if (!SLOW) wire_is_what_theory_says(&s);
    if (!SLOW) nothing_is_allocated_after_the_first_step(&s);
    device_name = before;
}

/* ---- fast sums ---- */

/* Sums of n floats in any order are off by at most (n - 1) eps sum |x| (Higham, Accuracy and Stability, 4.2); element by element, so also in norm. */
static void fast_sums_are_close_and_repeat(setting s)
{
    static float want[MOST_ELEMS], found[MOST_ELEMS];
    char once[65], again[65];
    setting exact = s;
    rig a, b;
    double off = 0, norms, bound;

    s.exact = false;
    exact.exact = true;
    run(&s, world, once);
    run(&s, world, again);
    expect_same(again, once, "a fast run does not repeat", &s);
    start(&a, &exact, world);
    start(&b, &s, world);
    CHECK(whole_step(&a, 1) == 1 && whole_step(&b, 1) == 1);
    norms = a.atom_norms;
    CHECK_OK(cad_comm_allreduce(world, &norms, 1, CAD_NUM_F64, CAD_SUM));
    /* moments are (1 - beta1) clip g: rounded three times more, clip by a norm that is itself off by as much */
    bound = 0.1 * fmin(1, FIRST_NORM / a.done.grad_norm) * 2 * (double)(s.atoms + 4) * 0x1p-24 * norms;
    for (int i = 0; i < a.params->count; i++) {
        int64_t n = a.params->row[i].elems;
        if (!a.params->row[i].trains) continue;
        CHECK_OK(cad_zero_collect(a.zero, i, CAD_STATE_EXP_AVG, 0, n, want));
        CHECK_OK(cad_zero_collect(b.zero, i, CAD_STATE_EXP_AVG, 0, n, found));
        for (int64_t k = 0; !rank && k < n; k++) off += ((double)want[k] - found[k]) * ((double)want[k] - found[k]);
    }
    if (!rank) printf("fast, stage %d: off by %.2f of the bound\n", s.stage, sqrt(off) / bound);
    CHECK(sqrt(off) <= bound);
    CHECK(fabs(a.done.grad_norm - b.done.grad_norm) <= (double)(s.atoms + 4) * 0x1p-24 * norms);
    close_rig(&a);
    close_rig(&b);
}

/* ---- what travels, what is held ---- */

static void wire_is_what_theory_says(const setting *s)
{
    rig r;
    int64_t micros = cad_ceil_div(s->atoms, size), gather, scatter;
    cad_zero_wire w;

    start(&r, s, world);
    w = cad_zero_theory(r.zero);
    for (int64_t step = 1; step <= 2; step++) {
        gather = cad_comm_wire_bytes(world, CAD_WIRE_GATHER);
        scatter = cad_comm_wire_bytes(world, CAD_WIRE_SCATTER);
        CHECK(whole_step(&r, step) == 1);
        CHECK(cad_comm_wire_bytes(world, CAD_WIRE_GATHER) - gather == micros * w.gather_per_micro + w.gather_per_step);
        CHECK(cad_comm_wire_bytes(world, CAD_WIRE_SCATTER) - scatter == micros * w.scatter_per_micro + w.scatter_per_step);
    }
    CHECK((size > 1) == (w.scatter_per_micro + w.scatter_per_step > 0));
    close_rig(&r);
}
/* Where the device's memory is not the host's: moments, sums, masters and parameters on the host change no bit, and the plan knows what is held. */
static void what_lies_on_the_host_has_the_same_bits(setting s, const char *link)
{
    static const struct { bool paged, states, params; } turns[] = {{true, false, false}, {false, true, false}, {false, false, true}, {true, false, true}, {false, true, true}};
    const setting plain = s;
    const char *before = device_name;
    char want[65], mine[65];

    device_name = "emulated";
    alone(&s, want);
    for (int turn = 0; turn < 5; turn++)
        for (int i = 0; i < 3; i++) {
            s = plain;
            s.stage = stages[i];
            s.link = size > 1 ? link : NULL;
            s.paged = turns[turn].paged;
            s.host_states = turns[turn].states;
            s.host_params = turns[turn].params;
            if (s.host_params && s.stage < 3) continue;
            run(&s, world, mine);
            expect_same(mine, want, "on the host: other bits", &s);
            (void)the_plan_is_what_is_held(&s);
        }
    device_name = before;
}

/* A gather of all units, forward and backward: the bytes of what trains, of plain numbers, and of codes with their scales, which is less than a sixth
 * of what the same matrices weigh in fp32. */
static void codes_travel_as_codes(setting s)
{
    rig r;
    int64_t want = 0, matrices = 0, codes = 0, quantised;

    s.stage = 3;
    start(&r, &s, world);
    for (int i = 0; i < r.params->count; i++) {
        const cad_param *p = &r.params->row[i];
        int64_t n = p->elems, scales = s.nested ? cad_round_up(cad_ceil_div(n, 64), 64) + 64 + 64 : cad_round_up(cad_ceil_div(n, 64) * 4, 64);
        bool linear = p->dims >= 2 && p->piece == CAD_PIECE_WEIGHT && p->role != CAD_ROLE_EMBED && p->role != CAD_ROLE_HEAD && p->role != CAD_ROLE_ROUTER;
        CHECK(linear == (p->code == s.code) && (!linear || !p->trains));
        want += p->trains ? n * 4 : linear ? n / 2 + scales : n * 4;
        matrices += linear ? n : 0;
        codes += linear ? n / 2 + scales : 0;
    }
    CHECK(codes > 0 && 6 * codes < 4 * matrices);
    want = size > 1 ? 2 * want : 0;
    CHECK(cad_zero_theory(r.zero).gather_per_micro >= want && cad_zero_theory(r.zero).gather_per_micro < want + r.params->count * 2 * 64);
    quantised = r.arena.total[CAD_MEM_QUANTISATION]; /* many ranks: some hold none of so small a model */
    CHECK(!cad_comm_allreduce(world, &quantised, 1, CAD_NUM_I64, CAD_SUM) && quantised > 0);
    close_rig(&r);
    wire_is_what_theory_says(&s);
}

static void nothing_is_allocated_after_the_first_step(const setting *s)
{
    rig r;
    int64_t blocks, calls, bytes;

    start(&r, s, world);
    (void)whole_step(&r, 1);
    blocks = cad_device_allocs(r.device);
    calls = cad_mem_calls();
    bytes = cad_comm_scratch_bytes(world);
    for (int64_t step = 2; step <= 4; step++) (void)whole_step(&r, step);
    /* a block's shared memory is a new allocation on the emulated grid, so that its end is watched */
    CHECK(cad_device_allocs(r.device) == blocks && (cad_mem_calls() == calls || !strcmp(device_name, "emulated")) && cad_comm_scratch_bytes(world) == bytes);
    close_rig(&r);
}

static int64_t held(const cad_arena *a)
{
    int64_t sum = 0;

    for (int i = 0; i < CAD_MEM_CATEGORIES; i++) sum += a->total[i];
    return sum;
}

static void same_rows(const cad_arena *real, const cad_arena *plan)
{
    CHECK(real->count == plan->count);
    for (int i = 0; i < real->count; i++) {
        CHECK(real->rows[i].category == plan->rows[i].category && real->rows[i].bytes == plan->rows[i].bytes);
        CHECK(!strcmp(real->rows[i].name, plan->rows[i].name));
    }
    CHECK(!memcmp(real->total, plan->total, sizeof real->total));
}

/* The plan is rank 0's; no other rank holds more. */
static int64_t the_plan_is_what_is_held(const setting *s)
{
    char kind[24], device[16];
    cad_comm *c;
    rig real, plan;
    int64_t bytes, peak;

    snprintf(kind, sizeof kind, "plan:%d", size);
    snprintf(device, sizeof device, "plan:%s", device_name);
    CHECK_OK(cad_comm_open(&c, kind));
    open_rig(&plan, s, c, device);
    for (int64_t step = 1; step <= 2; step++) (void)whole_step(&plan, step);
    CHECK_OK(cad_device_reserve(plan.device, cad_device_work_needed(plan.device)));
    open_rig(&real, s, world, device_name);
    load(&real, cad_device_work_needed(plan.device));
    for (int64_t step = 1; step <= 2; step++) (void)whole_step(&real, step);
    peak = cad_device_peak(real.device);
    if (!rank) same_rows(&real.arena, &plan.arena);
    if (!rank) CHECK(peak == cad_device_peak(plan.device));
    CHECK(cad_device_work_needed(real.device) <= cad_device_work_needed(plan.device));
    CHECK(peak <= cad_device_peak(plan.device));
    CHECK(cad_zero_theory(real.zero).gather_per_micro == cad_zero_theory(plan.zero).gather_per_micro);
    bytes = held(&plan.arena) - plan.arena.total[CAD_MEM_COMMUNICATION];
    close_rig(&real);
    close_rig(&plan);
    cad_comm_close(&c);
    return bytes;
}

/* What stands still between steps; rooms for what travels depend on the largest unit and not on the number of units. */
static void later_stages_hold_less(setting s)
{
    int64_t before = 0;

    for (int i = 0; i < 3; i++) {
        s.stage = stages[i];
        int64_t bytes = the_plan_is_what_is_held(&s);
        CHECK(!i || (size > 1 ? bytes < before : bytes == before));
        before = bytes;
    }
}

static void every_family_is_held_as_planned(void)
{
    const setting methods[] = {
        {.compute = CAD_F32}, {.compute = CAD_BF16, .recompute = true}, {.compute = CAD_F32, .coded = true}, {.lora = true, .compute = CAD_BF16}, {.lora = true, .dora = true, .compute = CAD_F32},
        {.lora = true, .code = CAD_NF4, .compute = CAD_F32}, {.lora = true, .code = CAD_FP4, .nested = true, .compute = CAD_BF16, .recompute = true}, {.lora = true, .code = CAD_INT8, .compute = CAD_F32},
        {.lora = true, .dora = true, .code = CAD_NF4, .nested = true, .compute = CAD_BF16}};

    for (int f = 1; f <= FAMILIES; f++)
        for (size_t m = 0; m < sizeof methods / sizeof *methods; m++)
            for (int i = 0; i < 3; i++) {
                setting s = methods[m];
                s.family = f;
                s.stage = stages[i];
                s.exact = true;
                s.atoms = size + 1;
                (void)the_plan_is_what_is_held(&s);
            }
}

/* ---- gradients that do not fit ---- */

static void a_gradient_that_is_not_finite_changes_nothing(const setting *s)
{
    char before[65], after[65], want[65];
    rig r;

    run(s, world, want);
    start(&r, s, world);
    (void)whole_step(&r, 1);
    digest(&r, 1024, before);
    r.poison = true;
    micro_steps(&r, 2);
    CHECK(finish(&r, 2) == CAD_EINTERNAL && strstr(cad_reason(), "not finite"));
    cad_clear();
    digest(&r, 1024, after);
    expect_same(after, before, "a gradient that is not finite changed something", s);
    r.poison = false;
    for (int64_t step = 2; step <= STEPS; step++) (void)whole_step(&r, step);
    digest(&r, 1500, after);
    expect_same(after, want, "a gradient that is not finite left a trace", s);
    close_rig(&r);
}

static void a_grid_that_does_not_fit_is_found_again(const setting *s, double loud)
{
    double largest[16];
    char mine[65], want[65];
    rig r;
    int units;

    start(&r, s, world);
    units = r.params->units;
    CHECK(whole_step(&r, 1) == 1);
    r.loud = loud;
    CHECK(whole_step(&r, 2) == 2);
    memcpy(largest, cad_zero_largest(r.zero), (size_t)units * sizeof *largest);
    digest(&r, 1024, mine);
    close_rig(&r);
    start(&r, s, world);
    (void)whole_step(&r, 1);
    r.loud = loud;
    cad_zero_set_largest(r.zero, largest);
    CHECK(whole_step(&r, 2) == 1);
    digest(&r, 1024, want);
    expect_same(mine, want, "a step that was computed twice", s);
    close_rig(&r);
}

/* ---- parameters and state by name ---- */

static void pieces_are_the_same_in_every_cut(const setting *s)
{
    static const int64_t pieces[] = {MOST_ELEMS, 7, 1000, 1023, 1025};
    char want[65], mine[65];
    rig r;

    start(&r, s, world);
    (void)whole_step(&r, 1);
    digest(&r, 1024, want);
    for (int i = 0; i < 5; i++) {
        digest(&r, pieces[i], mine);
        expect_same(mine, want, "another cut gives other values", s);
    }
    close_rig(&r);
}

static void move_state(rig *from, rig *to, int64_t piece)
{
    static float v[MOST_ELEMS];

    for (int what = 0; what < CAD_STATES; what++)
        for (int i = 0; i < from->params->count; i++)
            for (int64_t at = 0, n; from->params->row[i].trains && at < cad_zero_state_count(from->zero, i, (cad_state)what); at += n) {
                n = cad_min(piece, cad_zero_state_count(from->zero, i, (cad_state)what) - at);
                CHECK_OK(cad_zero_collect(from->zero, i, (cad_state)what, at, n, v));
                if (rank) memset(v, 0x7f, (size_t)n * 4);
                CHECK_OK(cad_zero_spread(to->zero, i, (cad_state)what, at, n, v));
            }
    cad_zero_set_largest(to->zero, cad_zero_largest(from->zero));
}

/* A run goes on at another stage with what was collected, as a checkpoint does, and ends where the undisturbed one ends. */
static void a_run_goes_on_at_another_stage(setting s, int other, int64_t piece)
{
    char want[65], mine[65];
    rig a, b;

    run(&s, world, want);
    start(&a, &s, world);
    (void)whole_step(&a, 1);
    s.stage = other;
    start(&b, &s, world);
    move_state(&a, &b, piece);
    close_rig(&a);
    for (int64_t step = 2; step <= STEPS; step++) (void)whole_step(&b, step);
    digest(&b, 1500, mine);
    expect_same(mine, want, "a run that went on", &s);
    close_rig(&b);
}

/* ---- scoring ---- */

static void score(const setting *s, cad_comm *comm, int64_t work, const atom *x, float *logits)
{
    rig r;

    open_rig(&r, s, comm, device_name);
    load(&r, work);
    forward(&r, x);
    if (x) CHECK_OK(cad_model_logits(r.model, logits));
    CHECK(r.arena.total[CAD_MEM_GRADIENTS] == 0 && r.arena.total[CAD_MEM_OPTIMIZER] == 0);
    close_rig(&r);
}

/* Each rank scores its own atom, the last one none; alone it finds the same. */
static void scores_are_those_of_one_rank(setting s)
{
    float mine[2 * MOST_SEQUENCES] = {0}, want[2 * MOST_SEQUENCES] = {0};
    int64_t work = work_of(&s, size);
    cad_comm *self;
    atom x;

    s.score = true;
    fill(&x, 40 + rank, 1);
    CHECK_OK(cad_comm_open(&self, "self"));
    s.stage = 0;
    score(&s, self, work, &x, want);
    cad_comm_close(&self);
    for (int i = 0; i < 3; i++) {
        bool here = size == 1 || rank < size - 1;
        s.stage = stages[i];
        score(&s, world, work, here ? &x : NULL, mine);
        CHECK(!here || !memcmp(mine, want, sizeof mine));
    }
}

static void at_stages(setting s, int from)
{
    for (int i = from; i < 3; i++) {
        s.stage = stages[i];
        wire_is_what_theory_says(&s);
        nothing_is_allocated_after_the_first_step(&s);
        a_gradient_that_is_not_finite_changes_nothing(&s);
        a_grid_that_does_not_fit_is_found_again(&s, 0x1p40);
        a_grid_that_does_not_fit_is_found_again(&s, 0x1p-30);
        pieces_are_the_same_in_every_cut(&s);
        a_run_goes_on_at_another_stage(s, stages[(i + 1) % 3], i ? 1000 : MOST_ELEMS);
        if (from) a_run_goes_on_at_another_stage(s, 2, 1024);
        s.exact = false;
        wire_is_what_theory_says(&s);
        a_gradient_that_is_not_finite_changes_nothing(&s);
        fast_sums_are_close_and_repeat(s);
        s.exact = true;
    }
}

/* One rank adds every atom to the sum straight away: as close however many there are, and no second place for a gradient. */
static void alone_fast_sums_need_one_place(setting s)
{
    static const int64_t atoms[] = {1, 2, 4};
    rig r;

    for (int i = 0; i < 3; i++) {
        s.atoms = atoms[i];
        s.exact = true;
        fast_sums_are_close_and_repeat(s);
        s.exact = false;
        a_gradient_that_is_not_finite_changes_nothing(&s);
        nothing_is_allocated_after_the_first_step(&s);
        start(&r, &s, world);
        CHECK(r.arena.total[CAD_MEM_GRADIENTS] >= r.params->trainable * 4 && r.arena.total[CAD_MEM_GRADIENTS] < r.params->trainable * 4 + r.params->units * 64);
        close_rig(&r);
    }
}

static void choose_device(void)
{
    cad_device *d = NULL;

    if (cad_device_open(&d, device_name, 1)) device_name = "ref";
    cad_clear();
    CHECK_OK(cad_device_close(&d));
}

int main(void)
{
    setting full = {.exact = true, .compute = CAD_F32, .atoms = ATOMS}, lora = full, half = full, half_lora = full, one = full, prime = full, codes = full, nested = full, bytes = full, moments = full, experts = full, dora = full;

    CHECK_OK(cad_comm_open(&world, "mpi"));
    rank = cad_comm_rank(world);
    size = cad_comm_size(world);
    choose_device();
    lora.lora = half_lora.lora = true;
    half.compute = half_lora.compute = CAD_BF16;
    half_lora.recompute = true;
    moments.coded = true;
    codes.lora = nested.lora = bytes.lora = true;
    codes.code = nested.code = CAD_NF4;
    nested.nested = true;
    nested.compute = CAD_BF16;
    bytes.code = CAD_INT8;
    experts.lora = dora.lora = dora.dora = true;
    experts.code = dora.code = CAD_NF4;
    experts.nested = true;
    experts.family = LLAMA4;
    one.atoms = 1;
    prime.atoms = 7;
    every_stage_has_the_bits_of_one_rank(full);
    every_stage_has_the_bits_of_one_rank(lora);
    every_stage_has_the_bits_of_one_rank(half);
    every_stage_has_the_bits_of_one_rank(half_lora);
    every_stage_has_the_bits_of_one_rank(one);
    every_stage_has_the_bits_of_one_rank(prime);
    every_stage_has_the_bits_of_one_rank(codes);
    every_stage_has_the_bits_of_one_rank(moments);
    later_stages_hold_less(moments);
    pieces_are_the_same_in_every_cut(&moments);
    a_run_goes_on_at_another_stage(moments, 3, 1000);
    moments.compute = CAD_BF16;
    moments.stage = 3;
    a_run_goes_on_at_another_stage(moments, 2, 1024);
    every_stage_has_the_bits_of_one_rank(nested);
    every_stage_has_the_bits_of_one_rank(bytes);
    every_stage_has_the_bits_of_one_rank(experts);
    every_stage_has_the_bits_of_one_rank(dora);
    codes_travel_as_codes(experts);
    if (!SLOW && size < 4) {
        what_lies_on_the_host_has_the_same_bits(lora, "staged");
        if (size < 3) what_lies_on_the_host_has_the_same_bits(nested, "staged");
        one.free = true; /* units move while gradients are computed */
        if (size == 1) what_lies_on_the_host_has_the_same_bits(one, NULL);
        one.compute = CAD_BF16;
        if (size == 2) what_lies_on_the_host_has_the_same_bits(one, "nccl");
    }
    if (size < 4 && (!SLOW || size == 2)) every_family_is_held_as_planned();
    later_stages_hold_less(codes);
    later_stages_hold_less(nested);
    codes_travel_as_codes(codes);
    if (size > 1) over_nccl_every_stage_has_the_bits_of_one_rank(full);
    if (size > 1 && !SLOW) over_nccl_every_stage_has_the_bits_of_one_rank(half_lora);
    later_stages_hold_less(full);
    later_stages_hold_less(lora);
    later_stages_hold_less(half);
    at_stages(full, 0);
    at_stages(half_lora, 2);
    if (size == 1) {
        alone_fast_sums_need_one_place(full);
        alone_fast_sums_need_one_place(half_lora);
    }
    scores_are_those_of_one_rank(full);
    scores_are_those_of_one_rank(half_lora);
    scores_are_those_of_one_rank(nested);
    CHECK_OK(cad_comm_barrier(world));
    cad_comm_close(&world);
    CHECK(cad_mem_blocks() == 0);
    return 0;
}
