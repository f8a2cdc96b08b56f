/* device: what a device is, its memory, and the operations every backend offers.
 *
 * Backends: "cpu" (fast, threads), "ref" (plain loops in double: it defines right), "check" / "check:cpu" (wraps ref or cpu: fresh and
 * freed memory is NaN, red zones round every block, reading what was never written and writing outside are failures), "plan:cpu", "plan:ref" (memory
 * counts but does not exist, operations check shapes and add up FLOP and work space, nothing is computed), "cuda" / "cuda:N" (the Nth GPU; in a build
 * without CUDA its open says so), "emulated" (the kernels of cuda on the processor: for tests, slow).
 *
 * The front doors (ops_*.c) check shapes, dtypes and sizes once, count, and dispatch; backends assume them. A wrong shape is CAD_EINTERNAL
 * with the operation, what was expected and what was found. Operations run in order on the device's own stream; results are on the host
 * after cad_device_download or cad_device_sync. */
#ifndef CADTRAIN_DEVICE_H
#define CADTRAIN_DEVICE_H
#include <cadtrain/format.h>
#include <cadtrain/quant.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef struct cad_device cad_device;

/* A view: element (i, j) is data[i * ld + j]. Owns nothing, copied freely. {0} is "none". */
typedef struct cad_tensor { void *data; cad_dtype dtype; int64_t rows, cols, ld; } cad_tensor;
static inline cad_tensor cad_view(void *data, cad_dtype dtype, int64_t rows, int64_t cols)
{
    cad_tensor t = {data, dtype, rows, cols, cols};
    return t;
}
static inline cad_tensor cad_columns(cad_tensor t, int64_t from, int64_t n)
{
    cad_tensor v = {(char *)t.data + (size_t)from * cad_dtype_bytes(t.dtype), t.dtype, t.rows, n, t.ld};
    return v;
}
static inline cad_tensor cad_slice(cad_tensor t, int64_t from, int64_t n) /* rows */
{
    cad_tensor v = {(char *)t.data + (size_t)(from * t.ld) * cad_dtype_bytes(t.dtype), t.dtype, n, t.cols, t.ld};
    return v;
}
static inline bool cad_some(cad_tensor t) { return t.data != NULL; }

/* A matrix held as codes (quant.h): element (i, j) is number i * cols + j. codes: U8 [1, (rows * cols + 1) / 2], INT8: I8 [rows, cols]; scales: F32
 * [1, blocks], or nested: U8 [1, blocks] with scales2 F32 [1, blocks2] and offset F32 [1, 1]. {0} is "none". above: rows of the whole matrix, to which the
 * four belong, that lie above these (blocks of 64 cross rows): then (i, j) is number (above + i) * cols + j. */
typedef struct cad_coded { cad_code code; int64_t rows, cols; cad_tensor codes, scales, scales2, offset; int64_t above; } cad_coded;
/* The parts of one piece of memory, as cad_coded_layout_of places them. */
cad_coded cad_coded_view(void *data, cad_code code, bool nested, int64_t rows, int64_t cols);
static inline cad_coded cad_coded_rows(cad_coded q, int64_t from, int64_t n)
{
    q.above += from;
    q.rows = n;
    return q;
}

/* Sequences end to end without padding: sequence s is tokens [starts[s], starts[s + 1]). Host arrays, and the same on the device. */
typedef struct cad_packing {
    int32_t tokens, sequences, longest;
    const int32_t *starts, *ids;         /* host: [sequences + 1], [tokens] */
    const int32_t *starts_dev, *ids_dev; /* device */
} cad_packing;

/* CAD_EUSAGE: no such device; CAD_ERESOURCE: it cannot be opened. threads: 0 = what OpenMP says. */
CAD_CHECKED cad_status cad_device_open(cad_device **out, const char *name, int threads);
/* CAD_EINTERNAL when memory was left behind (check: or a red zone is broken). NULL allowed. */
cad_status cad_device_close(cad_device **d);
const char *cad_device_name(const cad_device *d);        /* "cpu" */
const char *cad_device_description(const cad_device *d); /* processor, threads, instruction set used for bf16 products */
int cad_device_threads(const cad_device *d);
bool cad_device_on_host(const cad_device *d);            /* its memory may be written by the program itself, by any thread */
bool cad_device_is_host(const cad_device *d);            /* it, or what it counts for, has the host's own memory: nothing can be moved there */
int cad_device_gpus(void);                               /* that this process sees; 0 in a build without CUDA */
/* The same text for everybody who uses the same GPU of a machine, "" for devices of one's own. */
const char *cad_device_identity(const cad_device *d);
/* What the whole device has, and what is free of it now, other programs' and the driver's share taken off. 0, 0: not known. */
void cad_device_memory(const cad_device *d, int64_t *left, int64_t *all);
bool cad_device_pretends(const cad_device *d);           /* plan: addresses must not be read */
bool cad_device_adds_apart(const cad_device *d);         /* a product's second pair of factors is a product of its own, rounded once more: nothing is won by giving both at once */
bool cad_device_turns_back(const cad_device *d);         /* a product over codes turns the whole matrix back into numbers first */

/* Bytes, on the device, of a screen of B [rows, cols] (cad_matmul, cad_make_screen), with which a product of few rows is faster; 0 where it is not. */
int64_t cad_screen_bytes(const cad_device *d, int64_t rows, int64_t cols);

/* 64-byte aligned, contents undefined (cad_device_zero clears); `what` is a row of the plan. */
CAD_CHECKED cad_status cad_device_alloc(cad_device *d, void *out, int64_t bytes, const char *what);
void cad_device_free(cad_device *d, void *inout);
int64_t cad_device_bytes(const cad_device *d);  /* alive, reserve included */
int64_t cad_device_peak(const cad_device *d);
int64_t cad_device_allocs(const cad_device *d); /* calls since the start */
/* Work space for operations, taken once before the first step; an operation that needs more fails. On "plan" the largest need is recorded. */
CAD_CHECKED cad_status cad_device_reserve(cad_device *d, int64_t bytes);
int64_t cad_device_work_needed(const cad_device *d); /* the largest need of any operation so far */
/* `call` runs on the host before every operation: MPI moves pending transfers only while it is called. NULL: none. */
void cad_device_between(cad_device *d, void (*call)(void *with), void *with);
double cad_device_flops(const cad_device *d);        /* of matrix products and attention so far (2 per multiply-add) */
int64_t cad_device_launches(const cad_device *d);
/* While on, the host waits after every operation and adds its seconds to those of the operation's name: where the time goes, not how fast it is. */
void cad_device_time(cad_device *d, bool on);
/* Operation number i, from 0: its name and seconds so far; false behind the last. */
bool cad_device_timed(const cad_device *d, int i, const char **name, double *seconds);

CAD_CHECKED cad_status cad_device_upload(cad_device *d, void *to, const void *from_host, int64_t bytes);
CAD_CHECKED cad_status cad_device_download(cad_device *d, void *to_host, const void *from, int64_t bytes); /* plan: zeroes to_host */
CAD_CHECKED cad_status cad_device_copy(cad_device *d, void *to, const void *from, int64_t bytes);
CAD_CHECKED cad_status cad_device_zero(cad_device *d, void *at, int64_t bytes);
CAD_CHECKED cad_status cad_device_sync(cad_device *d);

/* A ramp: host memory from which batches go up while the host goes on; page-locked on GPUs, in two halves that take turns. On other devices
 * it has no memory of its own and what goes up is there at once. `bytes` is what goes up in one turn at most. */
typedef struct cad_ramp cad_ramp;
CAD_CHECKED cad_status cad_ramp_open(cad_ramp **out, cad_device *d, int64_t bytes, const char *what);
void cad_ramp_close(cad_ramp **r); /* before the device */
CAD_CHECKED cad_status cad_ramp_turn(cad_ramp *r); /* the other half, once what it held has gone up */
/* Takes a copy of `from_host` (the caller's again on return), which goes up in the device's order. */
CAD_CHECKED cad_status cad_ramp_up(cad_ramp *r, void *to, const void *from_host, int64_t bytes);

/* ---- lanes: a second queue of the device, for what runs beside the operations (lane.c) ----
 * On "cuda" a stream with events; "emulated" has a stand-in, which once it was given a call does things when somebody waits for them; other devices
 * have none. The host does not wait, except in cad_lane_wait. */
typedef struct cad_lane cad_lane;
enum { CAD_LANE_MARKS = 16 };
bool cad_device_has_lanes(const cad_device *d);
CAD_CHECKED cad_status cad_lane_open(cad_lane **out, cad_device *d); /* CAD_EUSAGE: the device has none. Before the device is closed: */
void cad_lane_close(cad_lane **l);
void *cad_lane_native(const cad_lane *l); /* its cudaStream_t; NULL on "emulated" */
CAD_CHECKED cad_status cad_lane_follow(cad_lane *l);           /* what it is given next waits for all that the device was given so far */
CAD_CHECKED cad_status cad_lane_mark(cad_lane *l, int mark);   /* mark number `mark` stands behind all that the lane was given so far */
CAD_CHECKED cad_status cad_lane_before(cad_lane *l, int mark); /* what the device is given next waits for the mark */
/* `call` runs on the host in the lane's turn: on "emulated" on the thread that waits for it, on "cuda" on a thread of the driver. */
CAD_CHECKED cad_status cad_lane_later(cad_lane *l, void (*call)(void *with), void *with);
CAD_CHECKED cad_status cad_lane_wait(cad_lane *l); /* the host waits for all that the lane was given */
/* In the lane's turn; either side may be memory of the host that was pinned, and is not the caller's until the lane is past it. */
CAD_CHECKED cad_status cad_lane_copy(cad_lane *l, void *to, const void *from, int64_t bytes);
bool cad_lane_pin(cad_lane *l, void *host, int64_t bytes); /* page-locks it, for all lanes; false: it cannot be, and copies are right but waited for */
void cad_lane_unpin(cad_lane *l, void *host);              /* what was pinned, before it is given back */

/* ---- operations ----
 * Dtypes: "real" is F32, BF16 or F64. Where F64 occurs in a call everything real is F64 (the double-precision build of the whole model on
 * "ref"); otherwise each argument says what it may be. Accumulation is fp32 or better; sums over rows run in row order within fixed tiles, so
 * that bits depend neither on the thread count nor on the rank count. Arguments with data NULL are left out. */

/* C = alpha op(A) op(B) + alpha2 op(A2) op(B2) + beta C + bias, one rounding into C. op transposes where t* is set.
 * A, B, A2, B2: BF16 or F32 (all the same); C: F32 or BF16. beta == 0 does not read C. bias [1, N] of A's dtype.
 * codes, where given, is the matrix B in place of b, each element rounded to A's dtype.
 * outliers > 0 (LLM.int8(); codes INT8, tb, not ta): rows of fp16(A) become codes as those of B are, without the magnitudes >= outliers; the first product is one of whole numbers
 * times both scales * CAD_INT8_PRODUCT. Columns of A that hold such a magnitude stand outside of it: in numbers, with B's dequantised ones.
 * screen, where given (cad_make_screen's, of B; tb, alpha 1, C F32, nothing else to add): of a row of C only its largest element is asked for. Elements that are
 * surely smaller may be -infinity in place of their value; all others, every one that equals the largest among them, are there as without a screen. */
typedef struct cad_matmul_args {
    cad_tensor c, a, b; bool ta, tb; double alpha, beta;
    cad_tensor a2, b2; bool ta2, tb2; double alpha2;
    cad_tensor bias;
    cad_coded codes; double outliers;
    cad_tensor screen;
} cad_matmul_args;
CAD_CHECKED cad_status cad_matmul(cad_device *d, const cad_matmul_args *x);
/* screen [1, cad_screen_bytes] U8: what a product with B' looks at before B, F32 or BF16. Made by the device that will read it. */
CAD_CHECKED cad_status cad_make_screen(cad_device *d, cad_tensor screen, cad_tensor b);

/* y = w x / rms(x) (plus_one: gain 1 + w). y real, x F32 (F64) residual stream or BF16, w [1, width] real. width (0: all columns): each run of so many
 * columns is normed by itself, all with the same gain (heads). w none: gain 1. rstd [rows, columns / width] F32 (F64). plus, where given, is added to y
 * (the residual stream round a norm behind a half of a block), real; y may be plus. */
typedef struct cad_rmsnorm_args { cad_tensor y, x, w, rstd; double eps; bool plus_one; int64_t width; cad_tensor plus; } cad_rmsnorm_args;
CAD_CHECKED cad_status cad_rmsnorm_fwd(cad_device *d, const cad_rmsnorm_args *x);
/* dx real += (or = when !accumulate; it may then be dy); dw [1, width] F32 (F64) += or =, may be none. */
typedef struct cad_rmsnorm_bwd_args { cad_tensor dx, dw, dy, x, w, rstd; bool plus_one, accumulate, accumulate_dw; int64_t width; } cad_rmsnorm_bwd_args;
CAD_CHECKED cad_status cad_rmsnorm_bwd(cad_device *d, const cad_rmsnorm_bwd_args *x);

/* y = w (x - mean(x)) / sqrt(var(x) + eps) + b, variance over n. y, x, w [1, cols], b [1, cols] real; mean, rstd [rows, 1] F32 (F64). */
typedef struct cad_layernorm_args { cad_tensor y, x, w, b, mean, rstd; double eps; } cad_layernorm_args;
CAD_CHECKED cad_status cad_layernorm_fwd(cad_device *d, const cad_layernorm_args *x);
/* dx real (may be dy); overwritten; dw, db [1, cols] F32 (F64) += or =, each may be none. */
typedef struct cad_layernorm_bwd_args { cad_tensor dx, dw, db, dy, x, w, mean, rstd; bool accumulate_dw; } cad_layernorm_bwd_args;
CAD_CHECKED cad_status cad_layernorm_bwd(cad_device *d, const cad_layernorm_bwd_args *x);

/* Rotates each head of x [tokens, heads * head_dim] in place by its position in its sequence; inverse for gradients.
 * cosine, sine: [positions, head_dim / 2] F32 (F64). pairs: (2j, 2j + 1) instead of (j, j + d/2). */
typedef struct cad_rope_args { cad_tensor x, cosine, sine; int64_t head_dim; bool inverse, pairs; const cad_packing *packing; } cad_rope_args;
CAD_CHECKED cad_status cad_rope(cad_device *d, const cad_rope_args *x);

/* Attention inside each sequence. q, o: [tokens, q_heads * d]; k, v: [tokens, kv_heads * d]; head h uses kv head h / (q_heads / kv_heads).
 * lse [tokens, q_heads] F32 (F64): log of the sum of exponentials, kept for the backward. window 0: none, else keys > q - window.
 * softcap 0: none. causal false: everybody sees everybody (encoder). q, k, v, o and their gradients are of one real dtype. Scores and softmax stay fp32 or better.
 * dropout p > 0: probabilities are dropped after the softmax; that of (token t, query head h, key k of its sequence) is kept, and divided by 1 - p, where
 * cad_rng_words(seed, CAD_RNG_DROPOUT, site, index << 32 | ((t q_heads + h) ceil(longest / 4) + k / 4))[k % 4] >= p 2^32. */
typedef struct cad_attention_args {
    cad_tensor q, k, v, o, lse; int64_t head_dim, q_heads, kv_heads, window; double scale, softcap; bool causal; const cad_packing *packing;
    double dropout; uint64_t seed, index; uint32_t site;
} cad_attention_args;
CAD_CHECKED cad_status cad_attention_fwd(cad_device *d, const cad_attention_args *x);
/* dq, dk, dv = (overwritten). `f` holds the forward's arguments and results. */
typedef struct cad_attention_bwd_args { cad_attention_args f; cad_tensor dq, dk, dv, d_o; } cad_attention_bwd_args;
CAD_CHECKED cad_status cad_attention_bwd(cad_device *d, const cad_attention_bwd_args *x);

/* Attention of new tokens to what came before them. k, v [rows, kv_heads * d] hold the keys and values of sequences, each in a run of rows of its own: sequence s of the packing (which has
 * the new tokens alone) has its own in rows [first, first + past + n), those of its n new tokens included; place [sequences, 2] I32 is (first, past). Query i of s stands at position
 * past + i. chunk c > 0: it sees the keys of its own run of c positions only. window, scale, softcap as above; causal; no dropout. q, o [tokens, q_heads * d]; all of one real dtype. */
typedef struct cad_attention_cached_args {
    cad_tensor q, o, k, v, place; int64_t head_dim, q_heads, kv_heads, window, chunk; double scale, softcap; const cad_packing *packing;
} cad_attention_cached_args;
CAD_CHECKED cad_status cad_attention_cached(cad_device *d, const cad_attention_cached_args *x);

/* m = act(gate) * up, all of one real dtype; up none: m = act(gate) */
typedef enum cad_activation { CAD_ACT_SILU, CAD_ACT_GELU_TANH, CAD_ACT_GELU_ERF, CAD_ACT_TANH } cad_activation;
typedef struct cad_glu_args { cad_tensor m, gate, up; cad_activation act; } cad_glu_args;
CAD_CHECKED cad_status cad_glu_fwd(cad_device *d, const cad_glu_args *x);
/* dgate may be the memory of gate, dup (none where up is) that of up. m, where given, receives act(gate) * up again (it was not kept). */
typedef struct cad_glu_bwd_args { cad_tensor dgate, dup, dm, gate, up, m; cad_activation act; } cad_glu_bwd_args;
CAD_CHECKED cad_status cad_glu_bwd(cad_device *d, const cad_glu_bwd_args *x);

/* h[t] = (accumulate: +=) scale * table[ids[t]]; table [V, H] real, h F32 (F64). turned: the table lies as [H, V]. backward:
 * dtable[ids[t]] += scale * dh[t] in token order, dtable F32 (F64); row `skip` (padding_idx) gets nothing; -1: none. */
typedef struct cad_embed_args { cad_tensor h, table; double scale; int64_t skip; const cad_packing *packing; bool accumulate, turned; } cad_embed_args;
CAD_CHECKED cad_status cad_embed_fwd(cad_device *d, const cad_embed_args *x);
CAD_CHECKED cad_status cad_embed_bwd(cad_device *d, const cad_embed_args *x); /* h is dh, table is dtable */

/* y [sequences, H] from x [tokens, H], both real: the last token, the mean, or the first token of each sequence. Backward: x is dx (overwritten whole), y is dy. */
typedef enum cad_pooling { CAD_POOLING_LAST, CAD_POOLING_MEAN, CAD_POOLING_FIRST } cad_pooling;
typedef struct cad_pool_args { cad_tensor y, x; cad_pooling how; const cad_packing *packing; } cad_pool_args;
CAD_CHECKED cad_status cad_pool_fwd(cad_device *d, const cad_pool_args *x);
CAD_CHECKED cad_status cad_pool_bwd(cad_device *d, const cad_pool_args *x);

/* Weighted cross-entropy of logits [n, C] F32 (F64): nll [n, 1] F64 (unweighted, -log softmax of the label);
 * dlogits (may be none) = scale * weights[i] * (softmax - onehot), real. softcap c > 0: of c tanh(logits / c) instead. labels_dev [n] I32, weights_dev [n] F32. */
typedef struct cad_xent_args { cad_tensor logits, dlogits, nll, labels, weights; double scale, softcap; } cad_xent_args; /* labels [n, 1] I32, weights [n, 1] F32 */
CAD_CHECKED cad_status cad_xent(cad_device *d, const cad_xent_args *x);

/* y = alpha x + beta y, any two real dtypes (cast, add, scale); beta == 0 does not read y. y may be x. */
typedef struct cad_axpby_args { cad_tensor y, x; double alpha, beta; } cad_axpby_args;
CAD_CHECKED cad_status cad_axpby(cad_device *d, const cad_axpby_args *x);
/* y [1, cols] F32 (F64) = (or +=) sum of the rows of x, in row order (bias gradients). */
typedef struct cad_sum_rows_args { cad_tensor y, x; bool accumulate; } cad_sum_rows_args;
CAD_CHECKED cad_status cad_sum_rows(cad_device *d, const cad_sum_rows_args *x);
/* y = (accumulate: +=) x * w, column by column, + b. y may be x. y, x real; w, b (or none) [1, cols] real. */
typedef struct cad_scale_cols_args { cad_tensor y, x, w, b; bool accumulate; } cad_scale_cols_args;
CAD_CHECKED cad_status cad_scale_cols(cad_device *d, const cad_scale_cols_args *x);
/* w [1, cols] F32 (F64) = the sum over the rows of x * y, real. */
typedef struct cad_dot_cols_args { cad_tensor w, x, y; } cad_dot_cols_args;
CAD_CHECKED cad_status cad_dot_cols(cad_device *d, const cad_dot_cols_args *x);
/* y = (accumulate: +=) x * keep / (1 - p), keep(row, col) a pure function: cad_rng_words(seed, CAD_RNG_DROPOUT, site,
 * index << 32 | (row * ceil(cols / 4) + col / 4))[col % 4] >= p * 2^32. index < 2^31, rows * ceil(cols / 4) < 2^32. y may be x. */
typedef struct cad_dropout_args { cad_tensor y, x; double p; uint64_t seed, index; uint32_t site; bool accumulate; } cad_dropout_args;
CAD_CHECKED cad_status cad_dropout(cad_device *d, const cad_dropout_args *x);

/* ---- rows by number, and experts ---- */

/* y[i] = (accumulate: +=) sum over j of scale[i, j] x[index[i, j]]; an index below 0 adds nothing. y [n, H], x [m, H] real, index [n, k] I32, scale [n, k]
 * F32 (F64) or none (1). */
typedef struct cad_gather_args { cad_tensor y, x, index, scale; bool accumulate; } cad_gather_args;
CAD_CHECKED cad_status cad_gather(cad_device *d, const cad_gather_args *x);
/* Each of T rows goes to the k experts (of E) with the largest logits [T, E] F32 (F64), the lower number first where they are equal. The R = T k visits are
 * sorted by expert, within one by row: token [R, 1] I32 says whose visit it is, score [R, 1] F32 (F64) is the logistic of its logit, expert e has visits
 * [starts[e], starts[e + 1]) (starts [1, E + 1] I32), slot [T, k] I32 are the visits of a row, in rising order. */
typedef struct cad_route_args { cad_tensor logits, token, slot, starts, score; } cad_route_args;
CAD_CHECKED cad_status cad_route_fwd(cad_device *d, const cad_route_args *x);
/* Where visit r saw score[r] x[token[r]] and the gradient there is dv [R, H] (real): dx [T, H] F32 (F64) += score dv, dlogits [T, E] real = the gradient of
 * the logits (0 for experts not chosen). x [T, H] real. */
typedef struct cad_route_bwd_args { cad_tensor dx, dlogits, dv, x, slot, starts, score; } cad_route_bwd_args;
CAD_CHECKED cad_status cad_route_bwd(cad_device *d, const cad_route_bwd_args *x);
/* Products of groups of rows: group g has rows [starts[g], starts[g + 1]) of a; starts [1, groups + 1] I32 on the device, all rows of a. b holds the groups'
 * matrices one below the other: c[rows of g] = a[rows of g] op(b_g). ta: c holds them, c_g = a[rows of g]' b[rows of g] (0 for a group without rows).
 * accumulate: c += instead. Dtypes as in matmul. codes, where given (not with ta), is the matrix b: each group's part is turned into numbers once, or not at
 * all where it has no rows. */
typedef struct cad_groups_args { cad_tensor c, a, b, starts; bool ta, tb; int64_t groups; cad_coded codes; bool accumulate; } cad_groups_args;
CAD_CHECKED cad_status cad_matmul_groups(cad_device *d, const cad_groups_args *x);

/* ---- flat operations on shards (n elements) ---- */

/* AdamW as torch: p *= 1 - lr * decay; m += (g' - m)(1 - beta1); v = beta2 v + (1 - beta2) g'^2; p -= lr / c1 * m / (sqrt(v) / sqrt(c2) + eps),
 * g' = clip * g, c_i = 1 - beta_i^step, fp32. p, m, v, g: F32 [1, n]. copy: p again in BF16 (or none). */
typedef struct cad_adamw_args { cad_tensor p, m, v, g, copy; double lr, beta1, beta2, eps, decay, clip; int64_t step; } cad_adamw_args;
CAD_CHECKED cad_status cad_adamw(cad_device *d, const cad_adamw_args *x);
/* The same with m and v as codes of the dynamic maps (m: both signs, v: unsigned), U8 [1, n], in blocks of 256 whose scales are scale_m and scale_v,
 * F32 [1, ceil((first + n) / 256)]: element 0 is number `first` of the first block. p moves by the new moments before they are coded. All codes
 * and scales 0 at the start. */
typedef struct cad_adamw8_args { cad_tensor p, m, v, scale_m, scale_v, g, copy; double lr, beta1, beta2, eps, decay, clip; int64_t step, first; } cad_adamw8_args;
CAD_CHECKED cad_status cad_adamw8(cad_device *d, const cad_adamw8_args *x);
/* out[c] (F64, ceil(n / 1024)) = sum of squares of elements [1024 c, 1024 (c + 1)) of x F32 [1, n], each square in double, in order. */
enum { CAD_CHUNK = 1024 };
typedef struct cad_sumsq_args { cad_tensor x, out; } cad_sumsq_args;
CAD_CHECKED cad_status cad_sumsq(cad_device *d, const cad_sumsq_args *x);
/* Fixed point: q = (accumulate: +=) round(x * 2^exponent), ties to even, as int64; values beyond +-2^62 are clamped (the caller redoes the
 * step). largest [1, 1] F64 = max(largest, max |x|), +infinity when any x is NaN or infinite. x F32, q I64. */
typedef struct cad_fixed_args { cad_tensor q, x, largest; int exponent; bool accumulate; } cad_fixed_args;
CAD_CHECKED cad_status cad_fixed_add(cad_device *d, const cad_fixed_args *x);
/* x = q * 2^-exponent (largest unused) */
CAD_CHECKED cad_status cad_fixed_back(cad_device *d, const cad_fixed_args *x);
/* q += q2: int64 */
CAD_CHECKED cad_status cad_add_i64(cad_device *d, cad_tensor q, cad_tensor q2);

/* ---- weights as codes ---- */

/* q = the codes and (fp32, not nested) scales of x [q.rows, q.cols], F32 or BF16, without gaps between rows; nothing above. */
typedef struct cad_quantise_args { cad_coded q; cad_tensor x; } cad_quantise_args;
CAD_CHECKED cad_status cad_quantise(cad_device *d, const cad_quantise_args *x);
/* Scales F32 [1, n] as codes U8 [1, n] with scales2 F32 [1, ceil(n / 256)] and offset F32 [1, 1], their mean. */
typedef struct cad_nest_args { cad_tensor codes, scales2, offset, scales; } cad_nest_args;
CAD_CHECKED cad_status cad_nest(cad_device *d, const cad_nest_args *x);
/* y [q.rows, q.cols] = q, one rounding into y; y real. */
typedef struct cad_dequantise_args { cad_tensor y; cad_coded q; } cad_dequantise_args;
CAD_CHECKED cad_status cad_dequantise(cad_device *d, const cad_dequantise_args *x);
CAD_CHECKED cad_status cad_lane_dequantise(cad_lane *l, const cad_dequantise_args *x); /* as cad_dequantise, in the lane's turn */

#ifdef __cplusplus
}
#endif
#endif
