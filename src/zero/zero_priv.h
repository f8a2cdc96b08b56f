/* What the files of zero share. A unit's trainable flat array is cut over the W ranks at multiples of CAD_CHUNK elements, its frozen one at multiples of
 * CADP_FROZEN_CHUNK bytes, which are whole blocks of codes. */
#ifndef CADP_ZERO_PRIV_H
#define CADP_ZERO_PRIV_H
#include <cadtrain/zero.h>

#include <pthread.h>

typedef struct cadp_unit {
    int64_t n, f;          /* trainable elements, frozen bytes */
    int64_t *cut, *fcut;   /* [W + 1] */
    int64_t own, own_n;    /* the trainable elements whose state lies here (stage 0: all) */
    int64_t first_chunk;   /* number of its first chunk among the chunks of all units */
    char *train, *frozen;  /* train: compute dtype; whole (stage 0, 2) or this rank's part (3) */
    float *master;         /* [own_n]; inside `train` when that is fp32 */
    char *m, *v;           /* moments.c */
    float *scale_m, *scale_v;
    void *sum;             /* [own_n] I64 or F32: the gradient of the step so far */
    bool fresh;            /* nothing in sum yet */
    bool normed, moved;    /* offload.c: of this step */
} cadp_unit;

enum { CADP_FROZEN_CHUNK = 1024, CADP_PAGE = 1 << 20, /* elements of a page */ CADP_HOST_WORK = 4096, CADP_JOBS = 32 };

/* Room for a unit that visits (stage 3), by the unit's parity: neighbours never share. */
typedef struct cadp_visit { char *memory; int unit; cad_request train, frozen; bool waiting; } cadp_visit;
/* A gradient on its way to its owners, by parity. */
typedef struct cadp_travel { float *grad; void *fixed; void *part; int unit; cad_request request; } cadp_travel;

/* What the host is to do with a unit: add what came down (fresh: nothing is there yet), or clear; take sums of squares; make AdamW's step. */
typedef struct cadp_job { cad_zero *z; int unit; bool takes, clears, fresh, norms, moves; } cadp_job;
/* By parity: what comes down, and then the parameters that go up; a page of the gradient as numbers; jobs since the host last waited. */
typedef struct cadp_beside { cad_lane *lane; char *buffer; float *page; cadp_job job[CADP_JOBS]; int jobs; bool marked; } cadp_beside;

struct cad_zero {
    const cad_params *params;
    cad_comm *comm;
    cad_device *device;
    cad_device *host;      /* what lies and is computed beside the device; NULL: nothing is */
    cad_arena host_arena;
    char *page_m, *page_v, *page_params; /* on the device: a page of moments that visit it, and of parameters that do */
    float *page_scale_m, *page_scale_v;
    cadp_beside beside[2];
    bool pinned;
    struct { cad_lane *lane; char *memory; int64_t bytes, used; bool pinned; } up; /* host_params: where they lie, and the lane on which a unit goes up */
    bool last, early;      /* the step's last micro-step; units may move in it */
    cad_zero_step_args args; /* of the step that is being made */
    double clip;
    pthread_mutex_t lock;  /* of jobs */
    cad_status failed;     /* of a job: */
    char reason[512];
    cad_link *link;        /* how units and gradients travel */
    cad_zero_options o;
    int rank, size, units;
    int64_t each;          /* bytes of a compute element */
    bool fixed;            /* sums are I64 */
    bool direct;           /* the model adds its gradients straight to sum */
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
    cad_zero_code_reader read_codes; /* NULL: none */
    struct { int64_t piece; char *x, *codes, *nested; float *scales; } coder; /* codes.c: device memory for a piece of a matrix on its way to codes */
    int64_t *offsets;      /* [W + 1] */
    uint8_t *codes;        /* host, coded moments: as long as piece, */
    float *scales;         /* and their scales */
};

/* layout.c: pure arithmetic. at[size + 1]: n elements in chunks of CAD_CHUNK, shared out evenly; no rank has more than rank 0. */
void cadp_cut(int64_t n, int size, int64_t *at);
void cadp_cut_bytes(int64_t bytes, int size, int64_t *at); /* the same in bytes, at multiples of CADP_FROZEN_CHUNK */
/* The part of [from, from + n) that lies in [low, high): false when none. */
bool cadp_common(int64_t from, int64_t n, int64_t low, int64_t high, int64_t *at, int64_t *count);
static inline size_t cadp_sum_bytes(const cad_zero *z) { return z->fixed ? 8 : 4; }
static inline cad_num cadp_sum_num(const cad_zero *z) { return z->fixed ? CAD_NUM_I64 : CAD_NUM_F32; }
static inline cad_num cadp_compute_num(const cad_zero *z) { return z->o.compute == CAD_BF16 ? CAD_NUM_BF16 : CAD_NUM_F32; }
static inline bool cadp_whole(const cad_zero *z) { return z->o.stage < 3; }
static inline bool cadp_visits(const cad_zero *z) { return z->o.stage == 3 && (z->size > 1 || z->o.host_params); }
/* Where moments, and where masters lie. */
static inline cad_device *cadp_moments_at(const cad_zero *z) { return z->o.paged || z->o.host_states ? z->host : z->device; }
static inline cad_device *cadp_params_at(const cad_zero *z) { return z->o.host_params ? z->host : z->device; }
/* fp32 parameters are their own masters where both lie at one place. */
static inline bool cadp_masters_apart(const cad_zero *z) { return z->o.compute != CAD_F32 || (z->o.host_states && !z->o.host_params); }
static inline cad_device *cadp_masters_at(const cad_zero *z) { return !cadp_masters_apart(z) ? cadp_params_at(z) : z->o.host_states ? z->host : z->device; }
static inline cad_device *cadp_sums_at(const cad_zero *z) { return z->o.host_states ? z->host : z->device; }
/* Where gradients go to fixed point. */
static inline cad_device *cadp_largest_at(const cad_zero *z) { return z->o.host_states && !z->cut_grads ? z->host : z->device; }
static inline cad_tensor cadp_largest_of(const cad_zero *z, int unit) { return cad_view(z->largest_dev + unit, CAD_F64, 1, 1); }
static inline cad_tensor cadp_flat(void *data, cad_dtype dtype, int64_t n) { return cad_view(data, dtype, 1, n); }
CAD_CHECKED cad_status cadp_finish_travel(cad_zero *z, int parity);
CAD_CHECKED cad_status cadp_add(cad_zero *z, cadp_unit *u, const void *part, bool fresh); /* to the sum, where that lies */
int cadp_exponent(const cad_zero *z, double largest);
/* Where the frozen part of a visiting unit begins. */
static inline int64_t cadp_visit_frozen(const cad_zero *z, const cadp_unit *u) { return cad_round_up(u->n * z->each, 64); }
/* The frozen bytes that lie here: [low, high). */
static inline int64_t cadp_frozen_low(const cad_zero *z, const cadp_unit *u) { return cadp_whole(z) ? 0 : u->fcut[z->rank]; }
static inline int64_t cadp_frozen_high(const cad_zero *z, const cadp_unit *u) { return cadp_whole(z) ? u->f : u->fcut[z->rank + 1]; }

/* ---- offload.c (host_states) ---- */
CAD_CHECKED cad_status cadp_beside_open(cad_zero *z);
void cadp_beside_close(cad_zero *z);
/* A unit's gradient of a micro-step, or its sum over ranks (device memory); NULL: there is none. */
CAD_CHECKED cad_status cadp_beside_take(cad_zero *z, int unit, const void *from);
CAD_CHECKED cad_status cadp_beside_taken(cad_zero *z, int parity); /* what the device is given next may write there again */
CAD_CHECKED cad_status cadp_beside_wait(cad_zero *z);
CAD_CHECKED cad_status cadp_beside_norms(cad_zero *z); /* of units that have none yet */
CAD_CHECKED cad_status cadp_beside_moves(cad_zero *z); /* units that did not yet */
/* Elements [at, at + n) of the owned gradient as numbers, a page at most. */
CAD_CHECKED cad_status cadp_host_gradient(cad_zero *z, int unit, int64_t at, int64_t n, cad_tensor *out);

/* ---- update.c ---- */
/* AdamW (args, clip) on what is owned of a unit. host_states: parameters are left in the unit's buffer, or where they lie when that is the host. */
CAD_CHECKED cad_status cadp_update_unit(cad_zero *z, int unit);
CAD_CHECKED cad_status cadp_owned_gradient(cad_zero *z, int unit, cad_tensor *out); /* on the device */

/* ---- moments.c ---- */
/* The own part of a row: unit's elements [at, at + n), their first byte in m and v; coded: their first scale, and the number of the first element in its block. */
typedef struct cadp_place { bool coded; int64_t at, n, byte, scale, first; } cadp_place;
bool cadp_place_of(const cad_zero *z, int row, cadp_place *out); /* false: nothing of it is owned here */
void cadp_moment_sizes(const cad_zero *z, int unit, int64_t *bytes, int64_t *scales); /* of each of the two */
/* The numbers of a state, counted in the unit: `first` is that of the row; `each` elements of the flat array belong to one. */
typedef struct cadp_span { int64_t first, each; } cadp_span;
cadp_span cadp_span_of(const cad_zero *z, int row, cad_state what);
/* Numbers [at, at + n), counted in the unit, all owned here. */
CAD_CHECKED cad_status cadp_state_get(cad_zero *z, int row, cad_state what, int64_t at, int64_t n, float *out);
CAD_CHECKED cad_status cadp_state_put(cad_zero *z, int row, cad_state what, int64_t at, int64_t n, const float *values);

/* ---- codes.c ---- */
CAD_CHECKED cad_status cadp_take_coder(cad_zero *z, cad_arena *a);
/* Bytes of scales among the frozen ones that lie here. */
int64_t cadp_scale_bytes(const cad_zero *z, int unit);
/* Reads every matrix that is held as codes and keeps this rank's part of them. */
CAD_CHECKED cad_status cadp_load_codes(cad_zero *z, cad_zero_reader read, void *with, int threads, float *stage);
#endif
