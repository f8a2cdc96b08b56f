/* Speed of the cpu device's operations on the shapes of a 135M-parameter decoder: ops [SECONDS [THREADS [ONLY]]] prints one JSON
 * object a line; ONLY: operations whose name contains it.
 * Products also as a share of what oneDNN reaches alone, with its own threads, on the same shape; calls alternate; shares are medians of neighbours.
 * With one thread, time is the processor's, so that a busy machine does not show. */
#include <cadtrain/device.h>
#include <dnnl.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { HIDDEN = 576, WIDE = 1536, HEADS = 9, KV = 3, HEAD = 64, SEQUENCES = 8, CALLS = 400 };
static const int32_t lengths[SEQUENCES] = {100, 600, 233, 317, 158, 411, 500, 89};

typedef struct bench {
    cad_device *d;
    cad_packing packing;
    int32_t starts[SEQUENCES + 1], ids[4096];
    int threads;
    double seconds;
    const char *only;
} bench;

static double now(const bench *b)
{
    struct timespec t;

    clock_gettime(b->threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void need(cad_status status)
{
    if (!status) return;
    fprintf(stderr, "ops: %s\n", cad_reason());
    exit(status);
}

static cad_tensor tensor(bench *b, cad_dtype dtype, int64_t rows, int64_t cols)
{
    int64_t n = rows * cols;
    void *data, *host;

    need(cad_device_alloc(b->d, &data, n * (int64_t)cad_dtype_bytes(dtype), "data"));
    need(cad_alloc(&host, (size_t)n, cad_dtype_bytes(dtype), "data"));
    for (int64_t i = 0; i < n; i++) {
        float x = (float)((i * 2654435761u) % 2001) / 1000 - 1;
        if (dtype == CAD_BF16)
            ((uint16_t *)host)[i] = cad_f32_to_bf16(x);
        else if (dtype == CAD_F32)
            ((float *)host)[i] = x;
    }
    need(cad_device_upload(b->d, data, host, n * (int64_t)cad_dtype_bytes(dtype)));
    cad_free(&host);
    return cad_view(data, dtype, rows, cols);
}

static void drop(bench *b, cad_tensor t) { cad_device_free(b->d, &t.data); }

/* ---- oneDNN alone ---- */

typedef struct peer { dnnl_engine_t engine; dnnl_stream_t stream; dnnl_primitive_t run; dnnl_memory_t a, b, c; } peer;

static void ask(dnnl_status_t status)
{
    if (status != dnnl_success) need(cad_fail(CAD_EINTERNAL, "oneDNN: status %d", (int)status));
}

static void describe(peer *p, cad_tensor t, bool turned, dnnl_memory_t *memory, dnnl_data_type_t type)
{
    dnnl_dims_t dims = {turned ? t.cols : t.rows, turned ? t.rows : t.cols}, strides = {turned ? 1 : t.ld, turned ? t.ld : 1};
#if DNNL_VERSION_MAJOR >= 3
    dnnl_memory_desc_t m;

    ask(dnnl_memory_desc_create_with_strides(&m, 2, dims, type, strides));
    ask(dnnl_memory_create(memory, m, p->engine, t.data));
    dnnl_memory_desc_destroy(m);
#else
    dnnl_memory_desc_t m;

    ask(dnnl_memory_desc_init_by_strides(&m, 2, dims, type, strides));
    ask(dnnl_memory_create(memory, &m, p->engine, t.data));
#endif
}

static void peer_open(peer *p, const cad_matmul_args *x)
{
    dnnl_data_type_t type = x->a.dtype == CAD_BF16 ? dnnl_bf16 : dnnl_f32;
    dnnl_primitive_desc_t desc;

    ask(dnnl_engine_create(&p->engine, dnnl_cpu, 0));
    ask(dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags));
    describe(p, x->a, x->ta, &p->a, type);
    describe(p, x->b, x->tb, &p->b, type);
    describe(p, x->c, false, &p->c, x->c.dtype == CAD_BF16 ? dnnl_bf16 : dnnl_f32);
#if DNNL_VERSION_MAJOR >= 3
    const_dnnl_memory_desc_t a, b, c;

    ask(dnnl_memory_get_memory_desc(p->a, &a));
    ask(dnnl_memory_get_memory_desc(p->b, &b));
    ask(dnnl_memory_get_memory_desc(p->c, &c));
    ask(dnnl_matmul_primitive_desc_create(&desc, p->engine, a, b, NULL, c, NULL));
#else
    const dnnl_memory_desc_t *a, *b, *c;
    dnnl_matmul_desc_t op;

    ask(dnnl_memory_get_memory_desc(p->a, &a));
    ask(dnnl_memory_get_memory_desc(p->b, &b));
    ask(dnnl_memory_get_memory_desc(p->c, &c));
    ask(dnnl_matmul_desc_init(&op, a, b, NULL, c));
    ask(dnnl_primitive_desc_create(&desc, &op, NULL, p->engine, NULL));
#endif
    ask(dnnl_primitive_create(&p->run, desc));
    dnnl_primitive_desc_destroy(desc);
}

static void peer_close(peer *p)
{
    dnnl_primitive_destroy(p->run);
    dnnl_memory_destroy(p->a);
    dnnl_memory_destroy(p->b);
    dnnl_memory_destroy(p->c);
    dnnl_stream_destroy(p->stream);
    dnnl_engine_destroy(p->engine);
}

static double peer_call(const bench *b, peer *p)
{
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->c}};
    double start = now(b);

    ask(dnnl_primitive_execute(p->run, p->stream, 3, args));
    ask(dnnl_stream_wait(p->stream));
    return now(b) - start;
}

/* One large call for fp32. */
static double sgemm_call(const bench *b, const cad_matmul_args *x, const float *fa, const float *fb, float *fc)
{
    double start = now(b);

    ask(dnnl_sgemm(x->ta ? 'T' : 'N', x->tb ? 'T' : 'N', x->c.rows, x->c.cols, x->ta ? x->a.rows : x->a.cols, 1, fa, x->a.ld, fb, x->b.ld, 0, fc, x->c.ld));
    return now(b) - start;
}

/* ---- products ---- */

typedef struct best { double ours, primitive, sgemm, to_primitive, to_sgemm; } best;

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static best race(bench *b, const cad_matmul_args *x)
{
    best t = {1e9, 1e9, 1e9, 0, 0};
    peer p;
    cad_tensor fa = tensor(b, CAD_F32, x->a.rows, x->a.cols), fb = tensor(b, CAD_F32, x->b.rows, x->b.cols), fc = tensor(b, CAD_F32, x->c.rows, x->c.cols);
    double end = cad_now() + b->seconds, primitive[CALLS], sgemm[CALLS];
    int n = 0;

    peer_open(&p, x);
    while (n < CALLS && (n < 5 || cad_now() < end)) {
        double start = now(b), took, other;
        need(cad_matmul(b->d, x));
        took = now(b) - start;
        if (took < t.ours) t.ours = took;
        if ((other = peer_call(b, &p)) < t.primitive) t.primitive = other;
        primitive[n] = other / took;
        if ((other = sgemm_call(b, x, fa.data, fb.data, fc.data)) < t.sgemm) t.sgemm = other;
        sgemm[n++] = other / took;
    }
    qsort(primitive, (size_t)n, sizeof *primitive, ascending);
    qsort(sgemm, (size_t)n, sizeof *sgemm, ascending);
    t.to_primitive = primitive[n / 2];
    t.to_sgemm = sgemm[n / 2];
    peer_close(&p);
    drop(b, fc);
    drop(b, fb);
    drop(b, fa);
    return t;
}

static void product(bench *b, const char *name, cad_dtype in, cad_dtype out, int64_t m, int64_t n, int64_t k, bool ta, bool tb)
{
    char full[64];

    snprintf(full, sizeof full, "matmul %s", name);
    if (b->only && !strstr(full, b->only)) return;
    cad_matmul_args x = {.c = tensor(b, out, m, n), .a = ta ? tensor(b, in, k, m) : tensor(b, in, m, k), .b = tb ? tensor(b, in, n, k) : tensor(b, in, k, n),
                         .ta = ta, .tb = tb, .alpha = 1};
    double flops = 2e-9 * (double)m * (double)n * (double)k;
    best t = race(b, &x);

    printf("{\"op\": \"matmul\", \"name\": \"%s\", \"in\": \"%s\", \"out\": \"%s\", \"m\": %lld, \"n\": %lld, \"k\": %lld, \"gflops\": %.1f, \"onednn\": %.1f, "
           "\"onednn_sgemm\": %.1f, \"share\": %.3f, \"share_of_sgemm\": %.3f}\n", name, cad_dtype_name(in), cad_dtype_name(out), (long long)m, (long long)n,
           (long long)k, flops / t.ours, flops / t.primitive, flops / t.sgemm, t.to_primitive, t.to_sgemm);
    fflush(stdout);
    drop(b, x.a);
    drop(b, x.b);
    drop(b, x.c);
}

static void products(bench *b, cad_dtype in)
{
    static const struct { const char *name; int64_t from, to; } layers[] = {{"q", HIDDEN, HEADS * HEAD}, {"k", HIDDEN, KV * HEAD}, {"up", HIDDEN, WIDE}, {"down", WIDE, HIDDEN}, {"lora a", HIDDEN, 16}, {"lora b", 16, HIDDEN}};
    int64_t tokens = b->packing.tokens;
    char name[64];

    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        int64_t from = layers[i].from, to = layers[i].to;
        snprintf(name, sizeof name, "%s forward", layers[i].name);
        product(b, name, in, in, tokens, to, from, false, true);
        snprintf(name, sizeof name, "%s dx", layers[i].name);
        product(b, name, in, in, tokens, from, to, false, false);
        snprintf(name, sizeof name, "%s dw", layers[i].name);
        product(b, name, in, CAD_F32, to, from, tokens, true, false);
    }
}

/* ---- the rest ---- */

typedef cad_status call(bench *b, const void *args);

static void time_op(bench *b, const char *name, cad_dtype dtype, call *run, const void *args, double bytes)
{
    if (b->only && !strstr(name, b->only)) return;
    double least = 1e9, end = cad_now() + b->seconds, before = cad_device_flops(b->d), flops;

    need(run(b, args));
    flops = cad_device_flops(b->d) - before;
    for (int i = 0; i < CALLS && cad_now() < end; i++) {
        double start = now(b), took;
        need(run(b, args));
        took = now(b) - start;
        if (took < least) least = took;
    }
    printf("{\"op\": \"%s\", \"in\": \"%s\", \"us\": %.1f, \"gb_s\": %.2f, \"gflops\": %.1f}\n", name, cad_dtype_name(dtype), least * 1e6, bytes / least * 1e-9, flops / least * 1e-9);
    fflush(stdout);
}

#define CALL(op, args) \
    static cad_status run_##op(bench *b, const void *x) { return cad_##op(b->d, (const args *)x); }
CALL(rmsnorm_fwd, cad_rmsnorm_args)
CALL(rmsnorm_bwd, cad_rmsnorm_bwd_args)
CALL(rope, cad_rope_args)
CALL(attention_fwd, cad_attention_args)
CALL(attention_bwd, cad_attention_bwd_args)
CALL(glu_fwd, cad_glu_args)
CALL(glu_bwd, cad_glu_bwd_args)
CALL(embed_fwd, cad_embed_args)
CALL(embed_bwd, cad_embed_args)
CALL(xent, cad_xent_args)
CALL(axpby, cad_axpby_args)
CALL(dropout, cad_dropout_args)
CALL(adamw, cad_adamw_args)
CALL(sumsq, cad_sumsq_args)
CALL(fixed_add, cad_fixed_args)
CALL(fixed_back, cad_fixed_args)

static void attention(bench *b, cad_dtype t)
{
    int64_t tokens = b->packing.tokens, wide = HEADS * HEAD, narrow = KV * HEAD, size = (int64_t)cad_dtype_bytes(t);
    cad_tensor cosine = tensor(b, CAD_F32, b->packing.longest, HEAD / 2), sine = tensor(b, CAD_F32, b->packing.longest, HEAD / 2);
    cad_attention_args f = {.q = tensor(b, t, tokens, wide), .k = tensor(b, t, tokens, narrow), .v = tensor(b, t, tokens, narrow), .o = tensor(b, t, tokens, wide),
                            .lse = tensor(b, CAD_F32, tokens, HEADS), .head_dim = HEAD, .q_heads = HEADS, .kv_heads = KV, .scale = 0.125, .causal = true, .packing = &b->packing};
    cad_attention_bwd_args g = {f, tensor(b, t, tokens, wide), tensor(b, t, tokens, narrow), tensor(b, t, tokens, narrow), tensor(b, t, tokens, wide)};
    cad_rope_args r = {g.dq, cosine, sine, HEAD, false, false, &b->packing};
    double once = (double)(tokens * (2 * wide + 2 * narrow) * size);

    time_op(b, "attention_fwd", t, run_attention_fwd, &f, once);
    time_op(b, "attention_bwd", t, run_attention_bwd, &g, 2 * once);
    time_op(b, "rope", t, run_rope, &r, 2.0 * (double)(tokens * wide * size));
    drop(b, cosine), drop(b, sine), drop(b, f.q), drop(b, f.k), drop(b, f.v), drop(b, f.o), drop(b, f.lse), drop(b, g.dq), drop(b, g.dk), drop(b, g.dv), drop(b, g.d_o);
}

static void rows(bench *b, cad_dtype t)
{
    int64_t n = b->packing.tokens, size = (int64_t)cad_dtype_bytes(t);
    cad_tensor x = tensor(b, CAD_F32, n, HIDDEN), y = tensor(b, t, n, HIDDEN), dx = tensor(b, CAD_F32, n, HIDDEN), w = tensor(b, t, 1, HIDDEN);
    cad_tensor dw = tensor(b, CAD_F32, 1, HIDDEN), rstd = tensor(b, CAD_F32, n, 1), gate = tensor(b, t, n, WIDE), up = tensor(b, t, n, WIDE), m = tensor(b, t, n, WIDE);
    cad_tensor dg = tensor(b, t, n, WIDE), du = tensor(b, t, n, WIDE);
    double h = (double)(n * HIDDEN), g = (double)(n * WIDE * size);

    time_op(b, "rmsnorm_fwd", t, run_rmsnorm_fwd, &(cad_rmsnorm_args){.y = y, .x = x, .w = w, .rstd = rstd, .eps = 1e-5}, h * (double)(4 + size));
    time_op(b, "rmsnorm_bwd", t, run_rmsnorm_bwd, &(cad_rmsnorm_bwd_args){.dx = dx, .dw = dw, .dy = y, .x = x, .w = w, .rstd = rstd, .accumulate = true, .accumulate_dw = true}, h * (double)(12 + size));
    time_op(b, "glu_fwd", t, run_glu_fwd, &(cad_glu_args){m, gate, up, CAD_ACT_SILU}, 3 * g);
    time_op(b, "glu_fwd gelu tanh", t, run_glu_fwd, &(cad_glu_args){m, gate, up, CAD_ACT_GELU_TANH}, 3 * g);
    time_op(b, "glu_fwd gelu erf", t, run_glu_fwd, &(cad_glu_args){m, gate, up, CAD_ACT_GELU_ERF}, 3 * g);
    time_op(b, "glu_bwd", t, run_glu_bwd, &(cad_glu_bwd_args){dg, du, m, gate, up, {0}, CAD_ACT_SILU}, 5 * g);
    time_op(b, "axpby add", t, run_axpby, &(cad_axpby_args){x, y, 1, 1}, h * (double)(8 + size));
    time_op(b, "dropout", t, run_dropout, &(cad_dropout_args){y, y, 0.1, 1, 2, 3, false}, 2 * h * (double)size);
    drop(b, x), drop(b, y), drop(b, dx), drop(b, w), drop(b, dw), drop(b, rstd), drop(b, gate), drop(b, up), drop(b, m), drop(b, dg), drop(b, du);
}

static void flat(bench *b)
{
    enum { N = 8 << 20, VOCABULARY = 49152 };
    cad_tensor p = tensor(b, CAD_F32, 1, N), m = tensor(b, CAD_F32, 1, N), v = tensor(b, CAD_F32, 1, N), g = tensor(b, CAD_F32, 1, N);
    cad_tensor copy = tensor(b, CAD_BF16, 1, N), q = tensor(b, CAD_I64, 1, N), sums = tensor(b, CAD_F64, 1, N / CAD_CHUNK), largest = tensor(b, CAD_F64, 1, 1);
    cad_tensor table = tensor(b, CAD_F32, VOCABULARY, HIDDEN), h = tensor(b, CAD_F32, b->packing.tokens, HIDDEN), nll = tensor(b, CAD_F64, 64, 1);
    cad_tensor logits = tensor(b, CAD_F32, 64, VOCABULARY), dlogits = tensor(b, CAD_BF16, 64, VOCABULARY), labels = tensor(b, CAD_I32, 64, 1), weights = tensor(b, CAD_F32, 64, 1);
    double n = N, rows_bytes = (double)b->packing.tokens * HIDDEN * 4;

    need(cad_device_zero(b->d, v.data, N * 4));
    need(cad_device_zero(b->d, labels.data, 64 * 4));
    need(cad_device_zero(b->d, q.data, N * 8));
    need(cad_device_zero(b->d, largest.data, 8));
    time_op(b, "adamw", CAD_F32, run_adamw, &(cad_adamw_args){p, m, v, g, copy, 1e-4, 0.9, 0.999, 1e-8, 0.1, 1, 10}, 30 * n);
    time_op(b, "sumsq", CAD_F32, run_sumsq, &(cad_sumsq_args){g, sums}, 4 * n);
    time_op(b, "fixed_add", CAD_F32, run_fixed_add, &(cad_fixed_args){q, g, largest, 30, true}, 20 * n);
    time_op(b, "fixed_back", CAD_F32, run_fixed_back, &(cad_fixed_args){q, g, largest, 30, false}, 12 * n);
    time_op(b, "axpby cast", CAD_F32, run_axpby, &(cad_axpby_args){copy, p, 1, 0}, 6 * n);
    time_op(b, "embed_fwd", CAD_F32, run_embed_fwd, &(cad_embed_args){.h = h, .table = table, .scale = 1, .skip = -1, .packing = &b->packing}, 2 * rows_bytes);
    time_op(b, "embed_bwd", CAD_F32, run_embed_bwd, &(cad_embed_args){.h = h, .table = table, .scale = 1, .skip = -1, .packing = &b->packing}, 3 * rows_bytes);
    time_op(b, "xent", CAD_F32, run_xent, &(cad_xent_args){.logits = logits, .dlogits = dlogits, .nll = nll, .labels = labels, .weights = weights, .scale = 1}, 64.0 * VOCABULARY * 6);
    drop(b, p), drop(b, m), drop(b, v), drop(b, g), drop(b, copy), drop(b, q), drop(b, sums), drop(b, largest), drop(b, table), drop(b, h), drop(b, nll);
    drop(b, logits), drop(b, dlogits), drop(b, labels), drop(b, weights);
}

static void pack(bench *b, void **starts, void **ids)
{
    cad_packing *p = &b->packing;

    for (int s = 0; s < SEQUENCES; s++) {
        b->starts[s + 1] = b->starts[s] + lengths[s];
        if (lengths[s] > p->longest) p->longest = lengths[s];
    }
    p->tokens = b->starts[SEQUENCES];
    p->sequences = SEQUENCES;
    for (int t = 0; t < p->tokens; t++) b->ids[t] = (int32_t)((unsigned)t * 2654435761u % 49152);
    need(cad_device_alloc(b->d, starts, sizeof b->starts, "starts"));
    need(cad_device_alloc(b->d, ids, sizeof b->ids, "ids"));
    need(cad_device_upload(b->d, *starts, b->starts, sizeof b->starts));
    need(cad_device_upload(b->d, *ids, b->ids, sizeof b->ids));
    p->starts = b->starts;
    p->ids = b->ids;
    p->starts_dev = *starts;
    p->ids_dev = *ids;
}

int main(int argc, char **argv)
{
    bench b = {.seconds = argc > 1 ? strtod(argv[1], NULL) : 0.5, .threads = argc > 2 ? (int)strtol(argv[2], NULL, 10) : omp_get_max_threads(),
               .only = argc > 3 ? argv[3] : NULL};
    void *starts, *ids;

    omp_set_num_threads(b.threads);
    need(cad_device_open(&b.d, "cpu", b.threads));
    need(cad_device_reserve(b.d, (int64_t)1 << 30));
    pack(&b, &starts, &ids);
    printf("{\"device\": \"%s\", \"tokens\": %d}\n", cad_device_description(b.d), b.packing.tokens);
    for (int i = 0; i < 2; i++) {
        cad_dtype t = i ? CAD_BF16 : CAD_F32;
        products(&b, t);
        attention(&b, t);
        rows(&b, t);
    }
    flat(&b);
    cad_device_free(b.d, &starts);
    cad_device_free(b.d, &ids);
    need(cad_device_close(&b.d));
    return 0;
}
