/* The table of operations, for the real and for the emulated grid (GRID says which). */
#ifndef CADP_CUDA_TABLE_H
#define CADP_CUDA_TABLE_H
#include "../device_priv.h"
#include "cuda_rt.h"

cad_status GRID(open)(cad_device *d);
void GRID(close)(cad_device *d);
cad_status GRID(alloc)(cad_device *d, void **out, int64_t bytes, const char *what);
cad_status GRID(release)(cad_device *d, void *p, int64_t bytes);
cad_status GRID(move)(cad_device *d, void *to, const void *from, int64_t bytes);
cad_status GRID(sync)(cad_device *d);
extern const cadp_lane_if GRID(lanes);
extern const cadp_ramp_if GRID(ramps);
void GRID(memory)(const cad_device *d, int64_t *left, int64_t *all);
#define CADP_GRID_OP(op, args) cad_status GRID(op)(cad_device *d, const args *x, void *work);
CADP_OPS(CADP_GRID_OP)
#undef CADP_GRID_OP
int64_t GRID(matmul_work)(const cad_device *d, const cad_matmul_args *x);
int64_t GRID(attention_bwd_work)(const cad_device *d, const cad_attention_bwd_args *x);
int64_t GRID(rmsnorm_bwd_work)(const cad_device *d, const cad_rmsnorm_bwd_args *x);
int64_t GRID(sum_rows_work)(const cad_device *d, const cad_sum_rows_args *x);
int64_t GRID(layernorm_bwd_work)(const cad_device *d, const cad_layernorm_bwd_args *x);
int64_t GRID(dot_cols_work)(const cad_device *d, const cad_dot_cols_args *x);
int64_t GRID(route_fwd_work)(const cad_device *d, const cad_route_args *x);
int64_t GRID(matmul_groups_work)(const cad_device *d, const cad_groups_args *x);
int64_t GRID(fixed_add_work)(const cad_device *d, const cad_fixed_args *x);

#define CADP_GRID_ROW(op, args) .op = GRID(op),
#define CADP_GRID_TABLE(called)                                                                                                          \
    {                                                                                                                                    \
        .name = called, .apart = true, .back = true, .open = GRID(open), .close = GRID(close), .alloc = GRID(alloc), .release = GRID(release), .move = GRID(move),    \
        .sync = GRID(sync), .lanes = &GRID(lanes), .ramps = &GRID(ramps), .memory = GRID(memory), CADP_OPS(CADP_GRID_ROW).matmul_work = GRID(matmul_work), .attention_bwd_work = GRID(attention_bwd_work),     \
        .rmsnorm_bwd_work = GRID(rmsnorm_bwd_work), .sum_rows_work = GRID(sum_rows_work), .fixed_add_work = GRID(fixed_add_work),        \
        .layernorm_bwd_work = GRID(layernorm_bwd_work), .dot_cols_work = GRID(dot_cols_work), .route_fwd_work = GRID(route_fwd_work),    \
        .matmul_groups_work = GRID(matmul_groups_work),                                                                                  \
    }
#endif
