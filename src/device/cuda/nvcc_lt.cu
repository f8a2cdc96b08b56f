/* Products by cuBLASLt. Which algorithm is best for a shape is measured once, kept, and written to a file at the end. */
#include "cuda_lt.h"
#include "nvcc_rt.h"
#include <cublasLt.h>

#include <stdio.h>
#include <stdlib.h>

/* What an algorithm is chosen for: sizes (that of the tokens in steps of a quarter of its magnitude), layouts, dtypes, alignments. */
typedef struct key { int64_t m, n, k, lda, ldb, ldc; int32_t ta, tb, in, out, bias, adds, align, unused; } key;
typedef struct choice { key of; cublasLtMatmulAlgo_t algo; } choice;
struct cadp_lt { cublasLtHandle_t handle; choice *choices; int64_t count, room; char path[512]; bool measures, changed; };

/* The library's descriptions of one product. It thinks in columns: C' = op(B)' op(A)'. */
typedef struct call { cublasLtMatmulDesc_t does; cublasLtMatrixLayout_t left, right, c; const void *left_at, *right_at, *bias_at; void *c_at; float alpha, beta; } call;

static cad_status told(cublasStatus_t s, const char *verb) { return s ? cad_fail(CAD_EINTERNAL, "cuBLASLt, %s: %s", verb, cublasLtGetStatusString(s)) : CAD_OK; }

/* ---- the file: a line of hexadecimal digits for each choice ---- */

static void name_file(cadp_lt *lt, const cadp_gpu *gpu)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME"), *asked = getenv("CADTRAIN_PRODUCTS_FILE");
    char name[64];
    size_t n = 0;

    for (const char *p = gpu->name; *p && n + 1 < sizeof name; p++) name[n++] = *p == ' ' || *p == '/' ? '-' : *p;
    name[n] = 0;
    if (asked)
        snprintf(lt->path, sizeof lt->path, "%s", asked);
    else if ((cache && *cache) || (home && *home))
        snprintf(lt->path, sizeof lt->path, "%s%s/cadtrain/products-%s-%zu", cache && *cache ? cache : home, cache && *cache ? "" : "/.cache", name, cublasLtGetVersion());
}

static cad_status keep(cadp_lt *lt, const choice *c)
{
    if (lt->count == lt->room) {
        int64_t room = lt->room ? 2 * lt->room : 64;
        CAD_TRY(cad_grow(&lt->choices, (size_t)room, sizeof *lt->choices, "the choice of products"));
        lt->room = room;
    }
    lt->choices[lt->count++] = *c;
    return CAD_OK;
}

static bool read_line(const char *line, size_t n, choice *out)
{
    unsigned char bytes[sizeof *out];

    if (n != 2 * sizeof bytes) return false;
    for (size_t i = 0; i < sizeof bytes; i++) {
        unsigned byte;
        if (sscanf(line + 2 * i, "%2x", &byte) != 1) return false;
        bytes[i] = (unsigned char)byte;
    }
    memcpy(out, bytes, sizeof bytes);
    return true;
}

/* What cannot be read is measured again. */
static cad_status read_choices(cadp_lt *lt)
{
    char *text = NULL;
    size_t size = 0;
    cad_status status = CAD_OK;
    choice c;

    if (!lt->path[0] || !cad_is_file(lt->path)) return CAD_OK;
    if (cad_read_file(&text, &size, lt->path, 64 << 20, CAD_ERESOURCE)) {
        cad_clear();
        return CAD_OK;
    }
    for (const char *p = text; *p && !status; p += strcspn(p, "\n"), p += *p == '\n')
        if (read_line(p, strcspn(p, "\n"), &c)) status = keep(lt, &c);
    cad_free(&text);
    return status;
}

static cad_status write_choices(const cadp_lt *lt)
{
    cad_str s = {};
    cad_status status = CAD_OK;
    char folder[sizeof lt->path], *slash;

    snprintf(folder, sizeof folder, "%s", lt->path);
    if ((slash = strrchr(folder, '/'))) {
        *slash = 0;
        status = cad_mkdirs(folder);
    }
    for (int64_t i = 0; i < lt->count && !status; i++) {
        const unsigned char *bytes = (const unsigned char *)&lt->choices[i];
        for (size_t b = 0; b < sizeof *lt->choices && !status; b++) status = cad_str_addf(&s, "%02x", bytes[b]);
        if (!status) status = cad_str_add(&s, "\n", 1);
    }
    if (!status) status = cad_write_file(lt->path, s.data, s.size);
    cad_str_close(&s);
    return status;
}

extern "C" cad_status GRID(lt_open)(cadp_lt **out, const cadp_gpu *gpu)
{
    const char *measure = getenv("CADTRAIN_MEASURE_PRODUCTS");
    cad_status status;

    CAD_TRY(cad_alloc(out, 1, sizeof **out, "the state of products"));
    (*out)->measures = !measure || *measure != '0';
    name_file(*out, gpu);
    if ((status = told(cublasLtCreate(&(*out)->handle), "its start")) || (status = read_choices(*out))) GRID(lt_close)(out);
    return status;
}

extern "C" void GRID(lt_close)(cadp_lt **lt)
{
    if (!*lt) return;
    if ((*lt)->changed && (*lt)->path[0] && write_choices(*lt)) cad_clear();
    if ((*lt)->handle) (void)cublasLtDestroy((*lt)->handle);
    cad_free(&(*lt)->choices);
    cad_free(lt);
}

/* ---- a product ---- */

static cudaDataType_t type_of(cad_dtype t) { return t == CAD_BF16 ? CUDA_R_16BF : CUDA_R_32F; }

static cublasStatus_t layout(cublasLtMatrixLayout_t *out, cad_tensor t) { return cublasLtMatrixLayoutCreate(out, type_of(t.dtype), (uint64_t)t.cols, (uint64_t)t.rows, cad_max(t.ld, t.cols)); } /* what lies behind a single row does not matter to us, but to the library */

static cublasStatus_t describe_epilogue(call *c, const cadp_product *p)
{
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    cudaDataType_t type = type_of(p->a.dtype);
    cublasStatus_t s;

    if (!p->bias) return CUBLAS_STATUS_SUCCESS;
    if ((s = cublasLtMatmulDescSetAttribute(c->does, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue))) return s;
    if ((s = cublasLtMatmulDescSetAttribute(c->does, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias))) return s;
    return cublasLtMatmulDescSetAttribute(c->does, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type);
}

static cublasStatus_t describe(call *c, const cadp_product *p)
{
    cublasOperation_t left = p->tb ? CUBLAS_OP_T : CUBLAS_OP_N, right = p->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasStatus_t s;

    *c = {};
    c->left_at = p->b.data, c->right_at = p->a.data, c->c_at = p->c.data, c->bias_at = p->bias, c->alpha = p->alpha, c->beta = p->beta;
    if ((s = cublasLtMatmulDescCreate(&c->does, CUBLAS_COMPUTE_32F, CUDA_R_32F))) return s;
    if ((s = cublasLtMatmulDescSetAttribute(c->does, CUBLASLT_MATMUL_DESC_TRANSA, &left, sizeof left))) return s;
    if ((s = cublasLtMatmulDescSetAttribute(c->does, CUBLASLT_MATMUL_DESC_TRANSB, &right, sizeof right))) return s;
    if ((s = describe_epilogue(c, p))) return s;
    if ((s = layout(&c->left, p->b))) return s;
    if ((s = layout(&c->right, p->a))) return s;
    return layout(&c->c, p->c);
}

static void forget(call *c)
{
    if (c->c) (void)cublasLtMatrixLayoutDestroy(c->c);
    if (c->right) (void)cublasLtMatrixLayoutDestroy(c->right);
    if (c->left) (void)cublasLtMatrixLayoutDestroy(c->left);
    if (c->does) (void)cublasLtMatmulDescDestroy(c->does);
}

static uint32_t alignment(const void *p)
{
    uint32_t a = 256;

    while ((uintptr_t)p % a) a /= 2;
    return a;
}

/* The library is told of the bias by the alignment of the result. */
static uint32_t result_alignment(const void *c, const void *bias) { return bias ? (uint32_t)cad_min(alignment(c), alignment(bias)) : alignment(c); }

static int64_t bucket(int64_t n)
{
    int64_t step = 1;

    while (8 * step <= n) step *= 2;
    return cad_round_up(n, step);
}

static key key_of(const cadp_product *p)
{
    key k = {};
    uint32_t align = alignment(p->a.data) | alignment(p->b.data) << 10 | result_alignment(p->c.data, p->bias) << 20;

    k.m = bucket(p->c.rows), k.n = p->c.cols, k.k = p->ta ? bucket(p->a.rows) : p->a.cols;
    k.lda = p->a.ld, k.ldb = p->b.ld, k.ldc = p->c.ld;
    k.ta = p->ta, k.tb = p->tb, k.in = (int32_t)p->a.dtype, k.out = (int32_t)p->c.dtype, k.bias = p->bias != NULL, k.adds = p->beta != 0, k.align = (int32_t)align;
    return k;
}

static cublasStatus_t run(const cadp_lt *lt, const call *c, const cublasLtMatmulAlgo_t *algo, cadp_stream *s, void *work, void *to)
{
    return cublasLtMatmul(lt->handle, c->does, &c->alpha, c->left_at, c->left, c->right_at, c->right, &c->beta, to, c->c, to, c->c, algo, work, CADP_LT_WORK, cadp_cuda_stream_of(s));
}

enum { CANDIDATES = 8, REPEATS = 3 };

static cublasStatus_t ask(const cadp_lt *lt, const call *c, cublasLtMatmulHeuristicResult_t found[CANDIDATES], int *n)
{
    uint64_t work = CADP_LT_WORK;
    uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; /* none that adds in any order, or rounds partial sums to bf16 */
    uint32_t left = alignment(c->left_at), right = alignment(c->right_at), to = result_alignment(c->c_at, c->bias_at);
    cublasLtMatmulPreference_t wish;
    cublasStatus_t s = cublasLtMatmulPreferenceCreate(&wish);

    *n = 0;
    if (s) return s;
    (void)cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &work, sizeof work);
    (void)cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions);
    (void)cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &left, sizeof left);
    (void)cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &right, sizeof right);
    (void)cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &to, sizeof to);
    (void)cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &to, sizeof to);
    s = cublasLtMatmulAlgoGetHeuristic(lt->handle, c->does, c->left, c->right, c->c, c->c, wish, CANDIDATES, found, n);
    (void)cublasLtMatmulPreferenceDestroy(wish);
    return s == CUBLAS_STATUS_NOT_SUPPORTED || s == CUBLAS_STATUS_INVALID_VALUE ? CUBLAS_STATUS_SUCCESS : s;
}

/* The fastest of a few runs, in milliseconds; infinite when it does not run. */
static float time_one(const cadp_lt *lt, const call *c, const cublasLtMatmulAlgo_t *algo, cadp_stream *s, void *work, void *to, cadp_event *began, cadp_event *ended)
{
    float best = INFINITY, ms;

    for (int i = 0; i < REPEATS; i++) {
        if (GRID(event_record)(began, s) || run(lt, c, algo, s, work, to) || GRID(event_record)(ended, s) || GRID(event_between)(began, ended, &ms)) {
            cad_clear();
            (void)cudaGetLastError();
            return INFINITY;
        }
        if (ms < best) best = ms;
    }
    return best;
}

/* The best of what was found, by measuring into memory of its own (C may be added to); the first where there is no memory. */
static int measure(const cadp_lt *lt, const call *c, const cublasLtMatmulHeuristicResult_t *found, int n, cadp_stream *s, void *work, int64_t bytes)
{
    cadp_event *began = NULL, *ended = NULL;
    void *to = NULL;
    int best = 0;
    float least = INFINITY;

    if (!lt->measures || n < 2) return 0;
    if (!cudaMalloc(&to, (size_t)bytes) && !GRID(event_open)(&began) && !GRID(event_open)(&ended))
        for (int i = 0; i < n; i++) {
            float ms = time_one(lt, c, &found[i].algo, s, work, to, began, ended);
            if (ms < least) least = ms, best = i;
        }
    (void)cudaGetLastError();
    cad_clear();
    GRID(event_close)(&began);
    GRID(event_close)(&ended);
    if (to) (void)cudaFree(to);
    return best;
}

static const choice *chosen(const cadp_lt *lt, const key *k)
{
    for (int64_t i = 0; i < lt->count; i++)
        if (!memcmp(&lt->choices[i].of, k, sizeof *k)) return &lt->choices[i];
    return NULL;
}

/* An algorithm for the call; *any is false where the library has none. */
static cad_status choose(cadp_lt *lt, const call *c, const cadp_product *p, cadp_stream *s, void *work, cublasLtMatmulAlgo_t *out, bool *any)
{
    cublasLtMatmulHeuristicResult_t found[CANDIDATES], checked;
    key k = key_of(p);
    const choice *old = chosen(lt, &k);
    choice made = {};
    int n;

    *any = true;
    if (old) *out = old->algo;
    if (old && !cublasLtMatmulAlgoCheck(lt->handle, c->does, c->left, c->right, c->c, c->c, out, &checked) && checked.workspaceSize <= CADP_LT_WORK) return CAD_OK;
    CAD_TRY(told(ask(lt, c, found, &n), "its heuristics"));
    if (!(*any = n > 0)) return CAD_OK;
    if (old) { /* kept for its neighbours, but not for this very shape */
        *out = found[0].algo;
        return CAD_OK;
    }
    made.of = k;
    made.algo = found[measure(lt, c, found, n, s, work, ((p->c.rows - 1) * p->c.ld + p->c.cols) * (int64_t)cad_dtype_bytes(p->c.dtype))].algo;
    *out = made.algo;
    lt->changed = true;
    return keep(lt, &made);
}

extern "C" cad_status GRID(lt_product)(cadp_lt *lt, cadp_stream *s, const cadp_product *p, void *work, bool *done)
{
    bool narrows = p->a.dtype == CAD_F32 && p->c.dtype == CAD_BF16, nothing = !(p->ta ? p->a.rows : p->a.cols);
    cublasLtMatmulAlgo_t algo;
    cad_status status;
    call c;

    *done = false;
    if (narrows || nothing || (p->bias && p->c.dtype != p->a.dtype)) return CAD_OK;
    status = told(describe(&c, p), "a description");
    if (!status) status = choose(lt, &c, p, s, work, &algo, done);
    if (!status && *done) status = told(run(lt, &c, &algo, s, work, c.c_at), "a product");
    forget(&c);
    if (!status && *done) status = cadp_cuda_launched(s, "a product");
    return status;
}
