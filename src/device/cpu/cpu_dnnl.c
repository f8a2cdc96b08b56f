/* All that is known of oneDNN: fp32 products, and bf16 products by primitives that are made once for each shape. */
#include "cpu_priv.h"

#include <dnnl.h>
#include <omp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* dnnl_sgemm computes with the stack pointer in a block of the heap: a handler's frame would overwrite what lies below. The other threads of a team
 * take no signals; the first one is the program's own thread, whose handlers need a stack of their own (SA_ONSTACK). */
static void block_signals(void)
{
    static _Thread_local bool blocked;
    sigset_t all;

    if (blocked || !omp_get_thread_num()) return;
    sigfillset(&all);
    blocked = !pthread_sigmask(SIG_BLOCK, &all, NULL);
}

/* oneDNN asks OpenMP how many threads there are; the answer is the calling thread's own setting, gone at the end of the region. */
void cadp_cpu_alone(void)
{
    block_signals();
    omp_set_num_threads(1);
}

static void scale(int64_t m, int64_t n, float beta, float *c, int64_t ldc)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) c[i * ldc + j] = beta == 0 ? 0 : beta * c[i * ldc + j];
}

void cadp_sgemm(int64_t m, int64_t n, int64_t k, float alpha, cadp_factor a, cadp_factor b, float beta, float *c, int64_t ldc)
{
    dnnl_status_t status;
    int64_t lda = cad_max(a.ld, a.turned ? m : k), ldb = cad_max(b.ld, b.turned ? k : n); /* the ld of a single row may be anything */

    if (!k) {
        scale(m, n, beta, c, ldc);
        return;
    }
    status = dnnl_sgemm(a.turned ? 'T' : 'N', b.turned ? 'T' : 'N', m, n, k, alpha, a.data, lda, b.data, ldb, beta, c, cad_max(ldc, n));
    CAD_ASSERT(status == dnnl_success);
}

/* ---- bf16 ---- */

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t layout; /* owned */
static dnnl_status_t make_layout(layout *out, int64_t rows, int64_t cols, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(out, 2, (dnnl_dims_t){rows, cols}, type, tag);
}
static void drop_layout(layout *l)
{
    if (*l) dnnl_memory_desc_destroy(*l);
    *l = NULL;
}
static dnnl_status_t keep_layout(layout *out, const_dnnl_memory_desc_t from) { return dnnl_memory_desc_clone(out, from); }
static size_t layout_bytes(const layout *l) { return dnnl_memory_desc_get_size(*l); }
static dnnl_status_t make_memory(dnnl_memory_t *out, const layout *l, dnnl_engine_t engine) { return dnnl_memory_create(out, *l, engine, DNNL_MEMORY_NONE); }
static dnnl_status_t describe_product(dnnl_primitive_desc_t *out, dnnl_engine_t e, const layout *a, const layout *b, const layout *c, dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(out, e, *a, *b, NULL, *c, attr);
}
static dnnl_status_t describe_reorder(dnnl_primitive_desc_t *out, dnnl_engine_t e, const layout *from, const layout *to, dnnl_primitive_attr_t attr)
{
    return dnnl_reorder_primitive_desc_create(out, *from, e, *to, e, attr);
}
static dnnl_status_t add_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1, 0, dnnl_data_type_undef); }
#else
typedef dnnl_memory_desc_t layout;
static dnnl_status_t make_layout(layout *out, int64_t rows, int64_t cols, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(out, 2, (dnnl_dims_t){rows, cols}, type, tag);
}
static void drop_layout(layout *l) { *l = (layout){0}; }
static dnnl_status_t keep_layout(layout *out, const dnnl_memory_desc_t *from)
{
    *out = *from;
    return dnnl_success;
}
static size_t layout_bytes(const layout *l) { return dnnl_memory_desc_get_size(l); }
static dnnl_status_t make_memory(dnnl_memory_t *out, const layout *l, dnnl_engine_t engine) { return dnnl_memory_create(out, l, engine, DNNL_MEMORY_NONE); }
static dnnl_status_t describe_product(dnnl_primitive_desc_t *out, dnnl_engine_t e, const layout *a, const layout *b, const layout *c, dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t op;
    dnnl_status_t status = dnnl_matmul_desc_init(&op, a, b, NULL, c);

    return status ? status : dnnl_primitive_desc_create(out, &op, attr, e, NULL);
}
static dnnl_status_t describe_reorder(dnnl_primitive_desc_t *out, dnnl_engine_t e, const layout *from, const layout *to, dnnl_primitive_attr_t attr)
{
    return dnnl_reorder_primitive_desc_create(out, from, e, to, e, attr);
}
static dnnl_status_t add_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1); }
#endif

enum { FROM, WEIGHTS, TO, SCRATCH, MEMORIES };

/* A primitive and each thread's handles of its arguments. m == 0: the reorder that packs B. */
struct cadp_bf16 {
    int64_t m, n, k;
    bool add;
    dnnl_primitive_t run;
    layout packed;
    size_t scratch_bytes;
    dnnl_memory_t (*memory)[MEMORIES]; /* by thread */
    struct cadp_bf16 *next;
};

struct cadp_dnnl {
    dnnl_engine_t engine;
    dnnl_stream_t *streams; /* by thread */
    char **scratch;         /* by thread */
    size_t scratch_bytes;   /* of each */
    int threads;
    cadp_bf16 *first;
};

static cad_status failed(dnnl_status_t status, const char *what) { return cad_fail(CAD_ERESOURCE, "oneDNN: %s fails with status %d", what, (int)status); }

#define ASK(call, what)                                            \
    do {                                                           \
        dnnl_status_t ask_status_ = (call);                        \
        if (ask_status_ != dnnl_success) return failed(ask_status_, what); \
    } while (0)

static void drop_shape(cadp_dnnl *o, cadp_bf16 *s)
{
    for (int t = 0; s->memory && t < o->threads; t++)
        for (int i = 0; i < MEMORIES; i++)
            if (s->memory[t][i]) dnnl_memory_destroy(s->memory[t][i]);
    cad_free(&s->memory);
    if (s->run) dnnl_primitive_destroy(s->run);
    drop_layout(&s->packed);
    cad_free(&s);
}

void cadp_dnnl_close(cadp_dnnl **inout)
{
    cadp_dnnl *o = *inout;

    if (!o) return;
    while (o->first) {
        cadp_bf16 *next = o->first->next;
        drop_shape(o, o->first);
        o->first = next;
    }
    for (int t = 0; t < o->threads; t++) {
        if (o->streams && o->streams[t]) dnnl_stream_destroy(o->streams[t]);
        if (o->scratch) cad_free(&o->scratch[t]);
    }
    cad_free(&o->streams);
    cad_free(&o->scratch);
    if (o->engine) dnnl_engine_destroy(o->engine);
    cad_free(inout);
}

static cad_status fill(cadp_dnnl *o)
{
    CAD_TRY(cad_alloc(&o->streams, (size_t)o->threads, sizeof *o->streams, "streams"));
    CAD_TRY(cad_alloc(&o->scratch, (size_t)o->threads, sizeof *o->scratch, "scratch memory"));
    ASK(dnnl_engine_create(&o->engine, dnnl_cpu, 0), "its CPU engine");
    for (int t = 0; t < o->threads; t++) ASK(dnnl_stream_create(&o->streams[t], o->engine, dnnl_stream_default_flags), "a stream");
    return CAD_OK;
}

/* oneDNN makes its code at a process's first product and crashes where there is no memory for it (6 MB): so it is made here, after a look whether there is. */
static cad_status make_code(void)
{
    enum { SIDE = 32, PROBE = 24 << 20 };
    static bool made; /* devices are opened by one thread */
    float *room;

    if (made) return CAD_OK;
    CAD_TRY(cad_alloc(&room, PROBE, 1, "code of products"));
    cad_free(&room);
    CAD_TRY(cad_alloc(&room, 3 * SIDE * SIDE, sizeof *room, "code of products"));
    for (int i = 0; i < 4; i++) cadp_sgemm(SIDE, SIDE, SIDE, 1, (cadp_factor){room, SIDE, i & 1}, (cadp_factor){room + SIDE * SIDE, SIDE, i & 2}, 0, room + 2 * SIDE * SIDE, SIDE);
    cad_free(&room);
    made = true;
    return CAD_OK;
}

cad_status cadp_dnnl_open(cadp_dnnl **out, int threads)
{
    cad_status status;

    CAD_TRY(make_code());
    CAD_TRY(cad_alloc(out, 1, sizeof **out, "the products"));
    (*out)->threads = threads;
    if ((status = fill(*out))) cadp_dnnl_close(out);
    return status;
}

/* Instruction sets are sets of bits. */
static bool has_isa(dnnl_cpu_isa_t isa) { return (dnnl_get_effective_cpu_isa() & isa) == isa; }

cad_status cadp_dnnl_choose_bf16(bool *native)
{
    const char *said = getenv("CADTRAIN_BF16_PRODUCTS");
    bool wanted = said && !strcmp(said, "native");

    if (said && !wanted && strcmp(said, "convert")) return cad_fail(CAD_EUSAGE, "CADTRAIN_BF16_PRODUCTS: expected native or convert, found \"%.40s\"", said);
    if (wanted && !has_isa(dnnl_cpu_isa_avx512_core)) return cad_fail(CAD_EUSAGE, "CADTRAIN_BF16_PRODUCTS=native needs a processor with AVX-512, found %s", cadp_dnnl_isa());
    *native = wanted || (!said && has_isa(dnnl_cpu_isa_avx512_core_bf16));
    return CAD_OK;
}

/* How B [k, n] is packed: as oneDNN likes it for products of many rows. */
static cad_status packed_layout(const cadp_dnnl *o, int64_t n, int64_t k, layout *out)
{
    enum { MANY = 256 };
    layout a = {0}, b = {0}, c = {0};
    dnnl_primitive_desc_t desc = NULL;
    dnnl_status_t status = make_layout(&a, MANY, k, dnnl_bf16, dnnl_ab);

    if (!status) status = make_layout(&b, k, n, dnnl_bf16, dnnl_format_tag_any);
    if (!status) status = make_layout(&c, MANY, n, dnnl_f32, dnnl_ab);
    if (!status) status = describe_product(&desc, o->engine, &a, &b, &c, NULL);
    if (!status) status = keep_layout(out, dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0));
    if (!status && layout_bytes(out) > (size_t)cadp_bf16_packed_bytes(n, k)) { /* the room that was planned */
        drop_layout(out);
        status = make_layout(out, k, n, dnnl_bf16, dnnl_ab);
    }
    if (desc) dnnl_primitive_desc_destroy(desc);
    drop_layout(&a);
    drop_layout(&b);
    drop_layout(&c);
    return status ? failed(status, "a bf16 product") : CAD_OK;
}

static dnnl_status_t make_attributes(dnnl_primitive_attr_t *attr, bool add)
{
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(attr);

    if (!status) status = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (!status && add) status = dnnl_post_ops_create(&ops);
    if (!status && add) status = add_sum(ops);
    if (!status && add) status = dnnl_primitive_attr_set_post_ops(*attr, ops);
    if (ops) dnnl_post_ops_destroy(ops);
    return status;
}

/* The primitive with its argument's handles, for layouts of its first, second and last. */
static dnnl_status_t make_primitive(cadp_dnnl *o, cadp_bf16 *s, const layout *from, const layout *weights, const layout *to)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t desc = NULL;
    layout scratch = {0};
    dnnl_status_t status = make_attributes(&attr, s->add);

    if (!status) status = s->m ? describe_product(&desc, o->engine, from, weights, to, attr) : describe_reorder(&desc, o->engine, from, to, attr);
    if (!status) status = dnnl_primitive_create(&s->run, desc);
    if (!status) status = keep_layout(&scratch, dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0));
    if (!status) s->scratch_bytes = layout_bytes(&scratch);
    for (int t = 0; !status && t < o->threads; t++) {
        status = make_memory(&s->memory[t][FROM], from, o->engine);
        if (!status && s->m) status = make_memory(&s->memory[t][WEIGHTS], weights, o->engine);
        if (!status) status = make_memory(&s->memory[t][TO], to, o->engine);
        if (!status && s->scratch_bytes) status = make_memory(&s->memory[t][SCRATCH], &scratch, o->engine);
    }
    drop_layout(&scratch);
    if (desc) dnnl_primitive_desc_destroy(desc);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return status;
}

static cad_status make_shape(cadp_dnnl *o, cadp_bf16 *s)
{
    layout from = {0}, to = {0};
    dnnl_status_t status;

    CAD_TRY(cad_alloc(&s->memory, (size_t)o->threads, sizeof *s->memory, "a product's arguments"));
    CAD_TRY(packed_layout(o, s->n, s->k, &s->packed));
    status = make_layout(&from, s->m ? s->m : s->k, s->m ? s->k : s->n, dnnl_bf16, dnnl_ab);
    if (!status && s->m) status = make_layout(&to, s->m, s->n, dnnl_f32, dnnl_ab);
    if (!status) status = make_primitive(o, s, &from, &s->packed, s->m ? &to : &s->packed);
    drop_layout(&from);
    drop_layout(&to);
    return status ? failed(status, "a bf16 product") : CAD_OK;
}

static cad_status grow_scratch(cadp_dnnl *o, size_t bytes)
{
    if (bytes <= o->scratch_bytes) return CAD_OK;
    for (int t = 0; t < o->threads; t++) {
        cad_free(&o->scratch[t]);
        CAD_TRY(cad_alloc(&o->scratch[t], bytes, 1, "scratch memory"));
    }
    o->scratch_bytes = bytes;
    return CAD_OK;
}

/* Made by one thread, since primitives remember how many there were. */
static cad_status make_alone(cadp_dnnl *o, cadp_bf16 *s)
{
    cad_status status = CAD_OK;

#pragma omp parallel num_threads(1)
    {
        cadp_cpu_alone();
        status = make_shape(o, s);
    }
    return status ? status : grow_scratch(o, s->scratch_bytes);
}

cad_status cadp_bf16_of(cadp_dnnl *o, int64_t m, int64_t n, int64_t k, bool add, const cadp_bf16 **out)
{
    cadp_bf16 *s;
    cad_status status;

    for (s = o->first; s; s = s->next)
        if (s->m == m && s->n == n && s->k == k && s->add == add) {
            *out = s;
            return CAD_OK;
        }
    CAD_TRY(cad_alloc(&s, 1, sizeof *s, "a product"));
    s->m = m, s->n = n, s->k = k, s->add = add;
    if ((status = make_alone(o, s))) {
        drop_shape(o, s);
        return status;
    }
    s->next = o->first;
    o->first = s;
    *out = s;
    return CAD_OK;
}

void cadp_bf16_run(const cadp_dnnl *o, const cadp_bf16 *s, const uint16_t *from, const void *packed, void *to)
{
    static const int places[MEMORIES] = {DNNL_ARG_FROM, DNNL_ARG_WEIGHTS, DNNL_ARG_TO, DNNL_ARG_SCRATCHPAD};
    int t = omp_get_thread_num(), n = 0;
    void *const data[MEMORIES] = {(void *)(uintptr_t)from, (void *)(uintptr_t)packed, to, o->scratch[t]};
    dnnl_exec_arg_t args[MEMORIES];
    dnnl_status_t status = dnnl_success;

    for (int i = 0; i < MEMORIES && !status; i++)
        if (s->memory[t][i]) {
            status = dnnl_memory_set_data_handle(s->memory[t][i], data[i]);
            args[n++] = (dnnl_exec_arg_t){places[i], s->memory[t][i]};
        }
    if (!status) status = dnnl_primitive_execute(s->run, o->streams[t], n, args);
    CAD_ASSERT(status == dnnl_success);
}

void cadp_dnnl_version(char *out, size_t room)
{
    const dnnl_version_t *v = dnnl_version();

    snprintf(out, room, "%d.%d.%d", v->major, v->minor, v->patch);
}

const char *cadp_dnnl_isa(void)
{
    static const struct { dnnl_cpu_isa_t isa; const char *name; } names[] = {
        {dnnl_cpu_isa_avx512_core_bf16, "AVX-512 with BF16"}, {dnnl_cpu_isa_avx512_core_vnni, "AVX-512 with VNNI"}, {dnnl_cpu_isa_avx512_core, "AVX-512"},
        {dnnl_cpu_isa_avx2_vnni, "AVX2 with VNNI"}, {dnnl_cpu_isa_avx2, "AVX2"}, {dnnl_cpu_isa_avx, "AVX"}, {dnnl_cpu_isa_sse41, "SSE4.1"}};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (has_isa(names[i].isa)) return names[i].name;
    return "no vector unit known";
}
