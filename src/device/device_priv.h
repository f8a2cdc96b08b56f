/* What stands behind a cad_device: one const table per backend, chosen by name in device.c. */
#ifndef CADP_DEVICE_PRIV_H
#define CADP_DEVICE_PRIV_H
#include <cadtrain/device.h>

/* `work` is at least work(args) bytes of the reserve, 64-byte aligned. */
#define CADP_OPS(X)                                                                                                            \
    X(matmul, cad_matmul_args) X(rmsnorm_fwd, cad_rmsnorm_args) X(rmsnorm_bwd, cad_rmsnorm_bwd_args) X(rope, cad_rope_args)       \
    X(attention_fwd, cad_attention_args) X(attention_bwd, cad_attention_bwd_args) X(glu_fwd, cad_glu_args)                      \
    X(glu_bwd, cad_glu_bwd_args) X(embed_fwd, cad_embed_args) X(embed_bwd, cad_embed_args) X(pool_fwd, cad_pool_args)           \
    X(pool_bwd, cad_pool_args) X(xent, cad_xent_args) X(axpby, cad_axpby_args) X(sum_rows, cad_sum_rows_args)                   \
    X(dropout, cad_dropout_args) X(adamw, cad_adamw_args) X(sumsq, cad_sumsq_args) X(fixed_add, cad_fixed_args)                 \
    X(fixed_back, cad_fixed_args) X(add_i64, cad_fixed_args) X(layernorm_fwd, cad_layernorm_args)                               \
    X(layernorm_bwd, cad_layernorm_bwd_args) X(gather, cad_gather_args) X(route_fwd, cad_route_args)                             \
    X(route_bwd, cad_route_bwd_args) X(matmul_groups, cad_groups_args) X(scale_cols, cad_scale_cols_args)                          \
    X(dot_cols, cad_dot_cols_args) X(adamw8, cad_adamw8_args) X(quantise, cad_quantise_args)                                        \
    X(nest, cad_nest_args) X(dequantise, cad_dequantise_args) X(attention_cached, cad_attention_cached_args)

/* `own` is what open gave; the lane's doors have checked marks. */
typedef struct cadp_lane_if {
    CAD_CHECKED cad_status (*open)(cad_device *d, void **own);
    void (*close)(void *own);
    void *(*native)(void *own);
    CAD_CHECKED cad_status (*follow)(cad_device *d, void *own);
    CAD_CHECKED cad_status (*mark)(void *own, int mark);
    CAD_CHECKED cad_status (*before)(cad_device *d, void *own, int mark);
    CAD_CHECKED cad_status (*later)(void *own, void (*call)(void *with), void *with);
    CAD_CHECKED cad_status (*wait)(void *own);
    CAD_CHECKED cad_status (*dequantise)(void *own, const cad_dequantise_args *x);
    CAD_CHECKED cad_status (*copy)(void *own, void *to, const void *from, int64_t bytes);
    CAD_CHECKED cad_status (*pin)(void *host, int64_t bytes);
    cad_status (*unpin)(void *host);
} cadp_lane_if;

/* Page-locked memory and what is done from it without the host's waiting. */
typedef struct cadp_ramp_if {
    CAD_CHECKED cad_status (*open)(void **own, int64_t bytes, const char *what);
    void (*close)(void *own);
    CAD_CHECKED cad_status (*turn)(cad_device *d, void *own, char **memory); /* of the half that is free now */
    CAD_CHECKED cad_status (*send)(cad_device *d, void *own, void *to, const char *from, int64_t bytes);
} cadp_ramp_if;

#define CADP_NUMBER(op, args) CADP_OP_##op,
enum { CADP_OPS(CADP_NUMBER) CADP_OP_COUNT };
#undef CADP_NUMBER

typedef struct cadp_device_if {
    const char *name;
    bool doubles; /* computes in double where everything real is F64; else such a call is refused at the door */
    bool apart;   /* cad_device_adds_apart */
    bool back;    /* cad_device_turns_back */
    CAD_CHECKED cad_status (*open)(cad_device *d);
    void (*close)(cad_device *d);
    CAD_CHECKED cad_status (*alloc)(cad_device *d, void **out, int64_t bytes, const char *what); /* 64-byte aligned */
    cad_status (*release)(cad_device *d, void *p, int64_t bytes);
    CAD_CHECKED cad_status (*move)(cad_device *d, void *to, const void *from, int64_t bytes); /* upload, download, copy; from NULL: zero */
    CAD_CHECKED cad_status (*sync)(cad_device *d);
    const cadp_lane_if *lanes; /* NULL: none */
    const cadp_ramp_if *ramps; /* NULL: uploads */
    void (*memory)(const cad_device *d, int64_t *left, int64_t *all); /* NULL: not known */
    int64_t (*screen_bytes)(int64_t rows, int64_t cols);              /* NULL: 0 */
    CAD_CHECKED cad_status (*make_screen)(cad_device *d, void *screen, cad_tensor b);
#define CADP_ROW(op, args)                                                            \
    CAD_CHECKED cad_status (*op)(cad_device * d, const args *x, void *work);          \
    int64_t (*op##_work)(const cad_device *d, const args *x); /* NULL: needs none */
    CADP_OPS(CADP_ROW)
#undef CADP_ROW
} cadp_device_if;

/* A block of device memory alive; the list of a device is sorted by address. */
typedef struct cadp_block { char *at; int64_t bytes; char what[48]; } cadp_block;

struct cad_device {
    const cadp_device_if *table; /* its own rows */
    const cadp_device_if *inner; /* check, plan: the backend they wrap or stand for */
    char name[32], description[256], identity[64];
    int threads, index;          /* index: N of "cuda:N" */
    void *own;                   /* the (inner) backend's state */
    void *outer;                 /* the state of check or plan round it */
    void *reserve;
    int64_t reserved, needed;
    int64_t bytes, peak, allocs, blocks, launches;
    double flops;
    bool timed;
    double seconds[CADP_OP_COUNT]; /* cad_device_time */
    void (*between)(void *with); /* cad_device_between */
    void *between_with;
    cadp_block *list;            /* `blocks` of them */
    int64_t room;
    cad_status fault;            /* a free that found damage; told at the next sync or close */
};

/* The block that holds [p, p + bytes), NULL when no single one does (blocks.c). */
const cadp_block *cadp_block_of(const cad_device *d, const void *p, int64_t bytes);
/* The block at or before p, NULL when none. */
const cadp_block *cadp_block_before(const cad_device *d, const void *p);
CAD_CHECKED cad_status cadp_block_add(cad_device *d, void *at, int64_t bytes, const char *what);
void cadp_block_drop(cad_device *d, const void *at);

/* GPUs that the CUDA runtime sees; 0 where there is none (cuda_absent.c, cuda_present.c). */
int cadp_cuda_count(void);
/* What other rooms' doors need of a check of an address range. */
CAD_CHECKED cad_status cadp_need_inside(const cad_device *d, const char *verb, const void *p, int64_t bytes);

extern const cadp_device_if cadp_device_cpu, cadp_device_ref, cadp_device_check, cadp_device_plan, cadp_device_emulated, cadp_device_cuda;
#endif
