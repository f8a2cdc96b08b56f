/* Every family: loaded, written in every form, loaded again, with the logits that Transformers and PEFT computed from the same weights
 * (test/tools/round_trips.py made the numbers in data/round_trips.json, and reads with them what this test writes). */
#include "kept.h"

enum { SEQUENCES = 2, LABELS = 2, NUMBERS = SEQUENCES * LABELS, MOST_TOKENS = 64, SHARD_BYTES = 40000 };
static const int lengths[SEQUENCES] = {21, 9};

typedef struct family { const char *name, *config; const cad_node *node; cad_arch arch; double whole[NUMBERS], adapted[NUMBERS]; } family;

/* ---- weights: multiples of 1/512 by name and number, exact in BF16 and F16 ---- */

static uint64_t hash_of(const char *name)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return h;
}

/* The first byte of splitmix64 as -128 .. 127. */
static int drawn(uint64_t h, int64_t i)
{
    uint64_t z = h + (uint64_t)(i + 1) * 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (int)(z >> 56) - 128;
}

static void fill(const family *f, const cad_param *p, float *out)
{
    uint64_t h = hash_of(p->name);
    size_t n = strlen(p->name);
    bool gain = p->dims == 1 && n > 11 && !strcmp(p->name + n - 10, "orm.weight");
    int one = p->dims > 1 && strstr(p->name, "embed") ? 128 : 512;

    for (int64_t i = 0; i < p->elems; i++) {
        int k = drawn(h, i);
        out[i] = gain ? (float)((k + 128) / 4 - 32) / 128 + (f->arch.gain_plus_one ? 0 : 1) : (float)k / (float)one;
    }
}

static void write_base(const family *f, const char *dir)
{
    cad_method m = {.num_labels = LABELS, .compute = CAD_F32};
    cad_params *p;
    cad_st_writer *w;
    float *v;

    OK(cad_mkdirs(dir));
    kept_put(dir, "config.json", f->config);
    OK(cad_params_open(&p, &f->arch, &m));
    OK(cad_st_create(&w, dir, "model.safetensors", SHARD_BYTES));
    for (int i = 0; i < p->count; i++) {
        int64_t shape[3];
        int dims = cad_param_shape(&p->row[i], shape);
        OK(cad_st_declare(w, p->row[i].name, CAD_F32, shape, dims));
    }
    for (int i = 0; i < p->count; i++) {
        OK(cad_alloc(&v, (size_t)p->row[i].elems, sizeof *v, "values"));
        fill(f, &p->row[i], v);
        OK(cad_st_write(w, v, (size_t)p->row[i].elems * sizeof *v));
        cad_free(&v);
    }
    OK(cad_st_finish(w));
    cad_st_abandon(&w);
    cad_params_close(&p);
    char path[600];
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    OK(cad_copy_file("test/unit/text/data/legacy/tokenizer.json", path));
}

/* ---- a directory (and an adapter) opened as a run opens them ---- */

typedef struct rig { cad_options o; cad_run r; cad_adapter_config adapter; char *config; } rig;

static cad_status read_weight(void *with, int row, int64_t from, int64_t n, cad_dtype as, void *out) { return cad_source_read(with, row, from, n, as, out); }

static void open_rig(rig *g, const char *dir, const char *adapter, cad_method method)
{
    static const cad_limits limits = {MOST_TOKENS, SEQUENCES, MOST_TOKENS, false, true, 0, false};
    cad_run *r = &g->r;
    cad_source *s;
    size_t n;

    memset(g, 0, sizeof *g);
    g->o.model.model_name_or_path = (char *)dir;
    r->o = &g->o;
    r->size = 1;
    r->lock = -1;
    r->history.best_metric = NAN;
    r->model_dir = r->tokenizer_dir = (char *)dir;
    r->method = method;
    if (adapter) {
        OK(cad_adapter_config_read(&g->adapter, adapter));
        cad_method_take_adapter(&r->method, &g->adapter);
    }
    OK(cad_arch_text(&g->config, &n, dir));
    r->source_config = g->config;
    OK(cad_arch_read(&r->arch, dir));
    OK(cad_comm_open(&r->comm, "self"));
    OK(cad_device_open(&r->device, "cpu", 1));
    OK(cad_device_reserve(r->device, 8 << 20));
    r->arena = (cad_arena){.device = r->device};
    OK(cad_params_open(&r->params, &r->arch, &r->method));
    OK(cad_zero_open(&r->zero, r->params, r->comm, &r->arena, &(cad_zero_options){.train = true, .exact = true, .atoms_per_step = 1, .compute = r->method.compute}));
    OK(cad_model_open(&r->model, &r->arch, r->params, &r->method, &r->arena, &limits));
    OK(cad_source_open(&s, dir, adapter, r->params, true));
    OK(cad_zero_load(r->zero, read_weight, s));
    cad_source_close(&s);
}

static void close_rig(rig *g)
{
    cad_run *r = &g->r;

    cad_model_close(&r->model);
    cad_zero_close(&r->zero);
    cad_params_close(&r->params);
    cad_arena_close(&r->arena);
    OK(cad_device_close(&r->device));
    cad_comm_close(&r->comm);
    cad_adapter_config_close(&g->adapter);
    cad_free(&g->config);
}

/* head: what a GGUF file has no place for; the logits are then its product with the last token's embedding. */
static void compute(rig *g, const cad_st *head, double *out)
{
    int32_t ids[MOST_TOKENS], starts[SEQUENCES + 1] = {0};
    float logits[NUMBERS], hidden[SEQUENCES * 64], row[64];
    cad_run *r = &g->r;
    int units = r->params->units;
    cad_unit_view w = {0};

    for (int s = 0; s < SEQUENCES; s++) {
        starts[s + 1] = starts[s] + lengths[s];
        for (int i = 0; i < lengths[s]; i++) ids[starts[s] + i] = (int32_t)((2 * i * i + 3 * s + 5) % r->arch.vocab);
    }
    OK(cad_model_start(r->model, &(cad_model_batch){.tokens = starts[SEQUENCES], .sequences = SEQUENCES, .longest = lengths[0], .ids = ids, .starts = starts, .scale = 1}, false));
    for (int u = 0; u < units; u++) {
        OK(cad_zero_fetch(r->zero, u));
        OK(cad_zero_use(r->zero, u, &w));
        OK(cad_model_forward(r->model, u, w));
        if (u + 1 < units) OK(cad_zero_release(r->zero, u));
    }
    OK(cad_model_logits(r->model, logits));
    OK(cad_model_embedding(r->model, w, CAD_POOLING_LAST, hidden));
    OK(cad_zero_release(r->zero, units - 1));
    for (int i = 0; i < NUMBERS; i++) {
        out[i] = (double)logits[i];
        if (!head) continue;
        OK(cad_st_read_f32(cad_st_find(head, "score.weight"), i % LABELS * r->arch.hidden, r->arch.hidden, row));
        out[i] = 0;
        for (int64_t k = 0; k < r->arch.hidden; k++) out[i] += (double)row[k] * (double)hidden[i / LABELS * r->arch.hidden + k];
    }
}

/* ---- tolerances ---- */

/* Products one behind the other: of a block q or k or v, scores, mix, o, gate or up, down. Each sums at most `widest` terms. */
static double chain(const family *f) { return 7.0 * f->arch.layers; }

/* Rounding of fp32 sums of random signs: eps sqrt(terms) each, added over the chain as the square root; 4 deviations, of both libraries. */
static double tolerance(const family *f)
{
    double widest = (double)cad_max(f->arch.hidden, cad_max(f->arch.intermediate, f->arch.dense_intermediate));

    return 4 * 2 * 0x1p-24 * sqrt(widest) * sqrt(chain(f));
}

/* Q8_0: evenly spread weights, off by at most half of max / 127, are off by 1/254 of their own size; 4 deviations. */
static double tolerance_of_codes(const family *f) { return 4 * sqrt(chain(f)) / 254; }

static void expect_logits(const family *f, const char *form, const double *got, const double *want, double allowed)
{
    for (int i = 0; i < NUMBERS; i++) {
        double off = fabs(got[i] - want[i]) / fmax(1, fabs(want[i]));
        if (!(off <= allowed)) fail_msg("%s %s: logit %d: expected %.9g, found %.9g: off by %.2g, allowed %.2g", f->name, form, i, want[i], got[i], off, allowed);
    }
}

/* ---- the forms ---- */

static const char *place(const family *f, const char *form)
{
    static char paths[8][512];
    static int turn;
    const char *keep = getenv("ROUND_TRIPS_KEEP");
    char *path = paths[turn++ % 8];

    snprintf(path, sizeof paths[0], "%s/%s.%s", keep ? keep : scratch_dir, f->name, form);
    return path;
}

static const cad_method plain = {.num_labels = LABELS, .compute = CAD_F32};

static void expect_whole(const family *f, const char *form, const double *want, double *got)
{
    rig g;

    open_rig(&g, place(f, form), NULL, plain);
    compute(&g, NULL, got);
    close_rig(&g);
    expect_logits(f, form, got, want, tolerance(f));
}

static void write_whole(const family *f, const char *form, cad_dtype dtype)
{
    cad_method m = plain;
    rig g;

    m.compute = dtype;
    open_rig(&g, place(f, "base"), NULL, m);
    OK(cadp_write_model(&g.r, place(f, form)));
    close_rig(&g);
}

static void write_adapter(const family *f, const char *form)
{
    static const char *words[4];
    cad_method m = {.lora = true, .r = 2, .alpha = 3, .targets = words, .train_head = true, .num_labels = LABELS, .compute = CAD_F32};
    rig g;

    for (const cad_node *n = cad_get(f->node, "targets")->child; n; n = n->next) words[m.target_count++] = n->text;
    open_rig(&g, place(f, "whole"), NULL, m);
    for (int i = 0; i < g.r.params->count; i++) {
        const cad_param *p = &g.r.params->row[i];
        float *v;
        if (p->piece != CAD_PIECE_A && p->piece != CAD_PIECE_B) continue;
        OK(cad_alloc(&v, (size_t)p->elems, sizeof *v, "values"));
        fill(f, p, v);
        OK(cad_zero_spread(g.r.zero, i, CAD_STATE_PARAM, 0, p->elems, v));
        cad_free(&v);
    }
    OK(cadp_write_model(&g.r, place(f, form)));
    close_rig(&g);
}

static void expect_adapter(const family *f, const char *form)
{
    double got[NUMBERS];
    rig g;

    open_rig(&g, place(f, "whole"), place(f, form), plain);
    compute(&g, NULL, got);
    close_rig(&g);
    expect_logits(f, form, got, f->adapted, tolerance(f));
}

static void export_to(const family *f, const char *from, const char *to, const char *format, bool merge)
{
    cad_options o = {.model.model_name_or_path = (char *)place(f, "whole")};

    OK(cad_export(&o, place(f, from), place(f, to), format, merge ? CAD_MERGE_AS_TRAINED : CAD_MERGE_NONE));
}

/* Each weight is within half a step (1/127 of the largest of its 32), and what F16 makes of the scale, of the weight it was; others are as they were. */
static void expect_codes(const family *f, const char *form)
{
    cad_st *a, *b;
    static float x[1 << 16], y[1 << 16];
    int coded = 0;

    OK(cad_st_open(&a, place(f, "whole")));
    OK(cad_weights_open(&b, place(f, form)));
    for (int i = 0; i < cad_st_count(b); i++) {
        const cad_st_tensor *t = cad_st_at(b, i), *u = cad_st_find(a, t->name);
        assert_true(u && t->elems <= 1 << 16 && u->elems == t->elems);
        OK(cad_st_read_f32(u, 0, u->elems, x));
        OK(cad_st_read_f32(t, 0, t->elems, y));
        bool codes = t->dims > 1 && t->shape[t->dims - 1] % 32 == 0;
        for (int64_t e = 0; e < t->elems; e++) {
            float most = 0;
            for (int64_t k = e / 32 * 32; codes && k < e / 32 * 32 + 32; k++) most = fmaxf(most, fabsf(x[k]));
            double allowed = (double)most * (0.5 / 127 + 0x1p-11) * 1.001;
            if (!(fabs((double)x[e] - (double)y[e]) <= allowed)) fail_msg("%s %s: %s[%lld]: expected %g, found %g", f->name, form, t->name, (long long)e, (double)x[e], (double)y[e]);
        }
        coded += codes;
    }
    assert_true(coded > 0);
    cad_st_close(&a);
    cad_st_close(&b);
}

static void expect_gguf(const family *f, const char *from, const char *format, const double *want, double allowed)
{
    char file[600], form[64];
    double got[NUMBERS];
    cad_st *head = NULL;
    rig g;

    snprintf(form, sizeof form, "%s.%s", from, format);
    export_to(f, from, form, format, false);
    snprintf(file, sizeof file, "%s/head.safetensors", place(f, form));
    if (cad_is_file(file)) OK(cad_st_open(&head, file));
    open_rig(&g, place(f, form), NULL, plain);
    compute(&g, head, got);
    close_rig(&g);
    cad_st_close(&head);
    expect_logits(f, form, got, want, allowed);
}

/* ---- the families ---- */

static void read_numbers(const cad_node *list, double *out)
{
    assert_true(list && list->children == NUMBERS);
    for (const cad_node *n = list->child; n; n = n->next) *out++ = n->real;
}

static void check_family(const family *f)
{
    double first[NUMBERS], got[NUMBERS];
    bool known = strcmp(f->name, "llama4") != 0 && strcmp(f->name, "bert") != 0; /* GGUF */
    char path[600];

    write_base(f, place(f, "base"));
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", place(f, "base"));
    assert_true(cad_is_file(path));
    expect_whole(f, "base", f->whole, first);
    write_whole(f, "whole", CAD_F32);
    write_whole(f, "half", CAD_BF16);
    export_to(f, "base", "copy", "hf", false);
    for (int i = 0; i < 3; i++) {
        static const char *const forms[] = {"whole", "half", "copy"};
        expect_whole(f, forms[i], f->whole, got);
        assert_memory_equal(first, got, sizeof got); /* the weights are exact in both precisions */
    }
    write_adapter(f, "adapter");
    expect_adapter(f, "adapter");
    export_to(f, "adapter", "peft", "peft", false);
    expect_adapter(f, "peft");
    export_to(f, "adapter", "merged", NULL, true);
    expect_whole(f, "merged", f->adapted, got);
    if (!known) return;
    expect_gguf(f, "whole", "gguf-f16", f->whole, tolerance(f));
    expect_gguf(f, "whole", "gguf-q8_0", f->whole, tolerance_of_codes(f));
    expect_codes(f, "whole.gguf-q8_0");
    expect_gguf(f, "merged", "gguf-q8_0", f->adapted, tolerance_of_codes(f));
}

static void every_form_of_every_family_has_the_logits_of_transformers_and_peft(void **state)
{
    cad_tree *t;
    int count = 0;

    (void)state;
    OK(cad_json_read(&t, "test/unit/train/data/round_trips.json", 1 << 20, CAD_EDATA));
    for (const cad_node *n = t->root->child; n; n = n->next, count++) {
        cad_json j = {0};
        family f = {.node = n};
        OK(cad_json_node(&j, NULL, cad_get(n, "config")));
        f.config = j.text.data;
        assert_true(cad_get_string(n, "family", &f.name, NULL));
        OK(cad_arch_parse(&f.arch, j.text.data, j.text.size, "config.json"));
        read_numbers(cad_get(n, "whole"), f.whole);
        read_numbers(cad_get(n, "adapted"), f.adapted);
        check_family(&f);
        cad_json_close(&j);
    }
    assert_int_equal(count, 8);
    cad_tree_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(every_form_of_every_family_has_the_logits_of_transformers_and_peft, make_scratch, drop_scratch)};

    cad_log_setup(0, 1, CAD_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
