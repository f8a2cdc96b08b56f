/* What the files of zero share. A unit's flat arrays are cut over the W ranks at multiples of CAD_CHUNK elements. */
#ifndef CADP_ZERO_PRIV_H
#define CADP_ZERO_PRIV_H
#include <cadtrain/zero.h>

typedef struct cadp_unit {
    int64_t n, f;          /* trainable, frozen elements */
    int64_t *cut, *fcut;   /* [W + 1] */
    int64_t own, own_n;    /* the trainable elements whose state lies here (stage 0: all) */
    int64_t first_chunk;   /* number of its first chunk among the chunks of all units */
    char *train, *frozen;  /* compute dtype: whole (stage 0, 2) or this rank's part (3) */
    float *master, *m, *v; /* [own_n]; master is inside `train` when that is fp32 */
    void *sum;             /* [own_n] I64 or F32: the gradient of the step so far */
    bool fresh;            /* nothing in sum yet */
} cadp_unit;

/* Room for a unit that visits (stage 3), by the unit's parity: neighbours never share. */
typedef struct cadp_visit { char *memory; int unit; cad_request train, frozen; bool waiting; } cadp_visit;
/* A gradient on its way to its owners, by parity. */
typedef struct cadp_travel { float *grad; void *fixed; void *part; int unit; cad_request request; } cadp_travel;

struct cad_zero {
    const cad_params *params;
    cad_comm *comm;
    cad_device *device;
    cad_link *link;        /* how units and gradients travel */
    cad_zero_options o;
    int rank, size, units;
    int64_t each;          /* bytes of a compute element */
    bool fixed;            /* sums are I64 */
    bool direct;           /* the model writes its gradient straight into sum */
    bool cut_grads;        /* gradients travel at every micro-step */
    cadp_unit *unit;
    cadp_visit visit[2];
    cadp_travel travel[2];
    int64_t chunks;
    double *partial_dev, *partial;      /* [chunks] */
    double *largest_dev, *seen, *largest; /* [units]: this step on the device, its host copy, the last step's (< 0: none) */
    int *exponent;         /* [units] */
    float *piece;          /* host: the largest tensor's elements, CAD_STATE_PIECE at most */
    uint16_t *half;        /* host, as long, with compute BF16 */
    int64_t *offsets;      /* [W + 1] */
};

/* layout.c: pure arithmetic. at[size + 1]: n elements in chunks of CAD_CHUNK, shared out evenly; no rank has more than rank 0. */
void cadp_cut(int64_t n, int size, int64_t *at);
/* The part of [from, from + n) that lies in [low, high): false when none. */
bool cadp_common(int64_t from, int64_t n, int64_t low, int64_t high, int64_t *at, int64_t *count);
static inline size_t cadp_sum_bytes(const cad_zero *z) { return z->fixed ? 8 : 4; }
static inline cad_num cadp_sum_num(const cad_zero *z) { return z->fixed ? CAD_NUM_I64 : CAD_NUM_F32; }
static inline cad_num cadp_compute_num(const cad_zero *z) { return z->o.compute == CAD_BF16 ? CAD_NUM_BF16 : CAD_NUM_F32; }
static inline bool cadp_whole(const cad_zero *z) { return z->o.stage < 3; }
static inline cad_tensor cadp_flat(void *data, cad_dtype dtype, int64_t n) { return cad_view(data, dtype, 1, n); }
CAD_CHECKED cad_status cadp_finish_travel(cad_zero *z, int parity);
CAD_CHECKED cad_status cadp_add_to_sum(cad_zero *z, cadp_unit *u, const void *part);
int cadp_exponent(const cad_zero *z, double largest);
#endif
