/* zero: who holds which piece of what, and when it travels. Cuts the parameter table; knows no model. The training loop does not know the stage.
 *
 * Stage 0: every rank holds all; gradients are summed over ranks at the step. Stage 2: gradients and optimizer state are cut, parameters
 * whole. Stage 3: parameters are cut too (frozen ones as well), gathered unit by unit, the next unit's gather in flight. The cut of a
 * unit's flat array falls on multiples of CAD_CHUNK elements, so that norms are sums of the same chunks whatever the world size. */
#ifndef CADTRAIN_ZERO_H
#define CADTRAIN_ZERO_H
#include <cadtrain/link.h>
#include <cadtrain/model.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef struct cad_zero_options {
    int stage;              /* 0, 2, 3 */
    bool train;             /* false: parameters only */
    bool exact;             /* int64 fixed point; else fp32 in rank order */
    int64_t atoms_per_step; /* bounds the number of addends */
    cad_dtype compute;
    const char *link;       /* how units travel: a kind of link.h; NULL: "host" */
    bool coded;             /* moments of 8 bits: a byte each and a scale for every 256 */
    /* Where the device's memory is not the host's (else nothing moves): */
    bool paged;             /* moments lie in host memory and visit the device in pages: the same bits */
    bool host_states;       /* gradient sums, masters and moments lie in host memory: gradients go there unit by unit, and the host makes the step */
    bool host_params;       /* stage 3: this rank's parts of parameters lie in host memory; a unit goes up when it visits */
} cad_zero_options;
typedef struct cad_zero cad_zero;
/* Takes its memory from `arena`. Borrows params, comm and the arena's device until close. */
CAD_CHECKED cad_status cad_zero_open(cad_zero **out, const cad_params *params, cad_comm *comm, cad_arena *arena, const cad_zero_options *o);
void cad_zero_close(cad_zero **z);
const char *cad_zero_link(const cad_zero *z);    /* the kind of its link */
const char *cad_zero_library(const cad_zero *z); /* cad_link_library */
int64_t cad_zero_host_bytes(const cad_zero *z);  /* what paged, host_states, host_params hold there */

/* ---- one micro-step ---- */
/* Collective at stage 3. Begins to bring a unit here; returns at once. At most two units are here at a time. */
CAD_CHECKED cad_status cad_zero_fetch(cad_zero *z, int unit);
/* Waits for a fetched unit. The view lasts until release. */
CAD_CHECKED cad_status cad_zero_use(cad_zero *z, int unit, cad_unit_view *out);
CAD_CHECKED cad_status cad_zero_release(cad_zero *z, int unit);
/* Where to write a unit's gradient (NULL: nothing in it trains), add: to add it to; then hand it over, which may start its reduction. Collective at
 * stage 2, 3. `empty`: this rank has no atom in this micro-step; its gradient counts as zero. */
CAD_CHECKED cad_status cad_zero_grads(cad_zero *z, int unit, void **out, bool *add);
CAD_CHECKED cad_status cad_zero_grads_done(cad_zero *z, int unit, bool empty);
/* Before the first micro-step of a step (and before it is done again); micro-steps since the last step count for nothing. Collective at stage 2, 3. */
CAD_CHECKED cad_status cad_zero_begin(cad_zero *z);
typedef struct cad_zero_step_args { double lr, beta1, beta2, eps, weight_decay, max_grad_norm; int64_t step; } cad_zero_step_args;
/* May be called before the backward pass of the step's last micro-step, with what cad_zero_step will be called with: with host_states the host then takes
 * norms in that pass; and where neither clipping nor a fixed-point grid asks for all gradients first, it moves each unit while the device computes
 * the next. Then a gradient that is not finite is noticed when units behind it have moved. Collective at stage 2, 3. */
CAD_CHECKED cad_status cad_zero_last(cad_zero *z, const cad_zero_step_args *a);

/* ---- the step ---- */
typedef struct cad_zero_step_result { double grad_norm; bool again; int bad_unit; } cad_zero_step_result;
/* Collective. Sums what is left, clips by the global norm (before clipping: grad_norm), AdamW on the owned parts, brings parameters up to date.
 * again: the fixed-point grid did not fit the gradients; nothing was changed, the step must be computed once more (at most twice).
 * A gradient that is not finite: CAD_EINTERNAL, nothing was changed. max_grad_norm <= 0: no clipping. */
CAD_CHECKED cad_status cad_zero_step(cad_zero *z, const cad_zero_step_args *a, cad_zero_step_result *out);

/* ---- parameters and state by name ---- */
/* Scales (of coded moments) come before what they scale: only with them a value finds its code again. */
typedef enum cad_state { CAD_STATE_PARAM, CAD_STATE_SCALE_AVG, CAD_STATE_SCALE_AVG_SQ, CAD_STATE_EXP_AVG, CAD_STATE_EXP_AVG_SQ, CAD_STATES } cad_state;
/* Numbers of a row's state: its elements; of scales one for each block, 0 where the moments are fp32. */
int64_t cad_zero_state_count(const cad_zero *z, int row, cad_state what);
/* Fills this rank's parts of every parameter from a reader (elements [from, from + n) of a row as F32 or BF16, on any thread). Not collective. */
typedef cad_status (*cad_zero_reader)(void *with, int row, int64_t from, int64_t n, cad_dtype as, void *out);
CAD_CHECKED cad_status cad_zero_load(cad_zero *z, cad_zero_reader read, void *with);
/* Before cad_zero_load: a second reader, with the same `with`, for rows held as codes: their own bytes [from, from + n), where the source holds them
 * (*has; n 0 only asks). Without it, or where it has none, codes are made from numbers. */
typedef cad_status (*cad_zero_code_reader)(void *with, int row, int64_t from, int64_t n, void *out, bool *has);
void cad_zero_set_code_reader(cad_zero *z, cad_zero_code_reader read);
/* Collective. Numbers [from, from + n) of a trainable row's state (fp32 master precision) to rank 0; `out` is used there only. n <= CAD_STATE_PIECE. */
enum { CAD_STATE_PIECE = 1 << 22 };
CAD_CHECKED cad_status cad_zero_collect(cad_zero *z, int row, cad_state what, int64_t from, int64_t n, float *out);
/* Collective. The reverse: rank 0's values (in `values` there; a buffer of n on every rank, overwritten) into the owners' parts. */
CAD_CHECKED cad_status cad_zero_spread(cad_zero *z, int row, cad_state what, int64_t from, int64_t n, float *values);
/* The largest |gradient| of each unit in the last step: decides the next step's fixed-point grid, belongs into a checkpoint. [units] */
const double *cad_zero_largest(const cad_zero *z);
void cad_zero_set_largest(cad_zero *z, const double *largest);
/* Payload of one micro-step and of one step, in bytes, from the cut alone (the test compares with cad_comm_wire_bytes). */
typedef struct cad_zero_wire { int64_t gather_per_micro, scatter_per_micro, gather_per_step, scatter_per_step; } cad_zero_wire;
cad_zero_wire cad_zero_theory(const cad_zero *z);
#ifdef __cplusplus
}
#endif
#endif
