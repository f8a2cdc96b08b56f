/* optim: learning-rate schedules and step arithmetic as Transformers computes them. (The AdamW arithmetic itself is a device operation.) */
#ifndef CADTRAIN_OPTIM_H
#define CADTRAIN_OPTIM_H
#include <cadtrain/base.h>
#ifdef __cplusplus
extern "C" {
#endif
typedef enum cad_schedule_kind {
    CAD_LINEAR, CAD_COSINE, CAD_COSINE_WITH_RESTARTS, CAD_POLYNOMIAL, CAD_CONSTANT, CAD_CONSTANT_WITH_WARMUP, CAD_INVERSE_SQRT,
    CAD_COSINE_WITH_MIN_LR, CAD_COSINE_WARMUP_WITH_MIN_LR
} cad_schedule_kind;
typedef struct cad_schedule {
    cad_schedule_kind kind;
    double learning_rate;
    int64_t warmup, total; /* optimizer steps */
    double num_cycles;     /* cosine 0.5, restarts 1 */
    double lr_end, power;  /* polynomial 1e-7, 1 */
    double min_lr;         /* with_min_lr; < 0: not given; min_lr_rate is then min_lr / learning_rate */
    double min_lr_rate;    /* < 0: not given; exactly one of the two for the schedules that need it */
    int64_t timescale;     /* inverse_sqrt; 0: warmup or 10000 */
    double warmup_lr_rate; /* cosine_warmup_with_min_lr; < 0: none */
} cad_schedule;
/* The rate used by optimizer step `step` (1-based), i.e. lambda(step - 1). CAD_EUSAGE where the library itself fails (polynomial with lr <= lr_end, …). */
CAD_CHECKED cad_status cad_schedule_check(const cad_schedule *s);
double cad_schedule_rate(const cad_schedule *s, int64_t step);
/* Transformers' arithmetic: rows n, per-device batch b, world W, accumulation, epochs (may be fractional), max_steps (<= 0: from epochs). */
typedef struct cad_steps { int64_t batches_per_rank, steps_per_epoch, max_steps, epochs; } cad_steps;
cad_steps cad_count_steps(int64_t rows, int64_t batch, int world, int64_t accumulation, double epochs, int64_t max_steps);
/* warmup_steps: >= 1 a count, < 1 a ratio (ceil(ratio * max_steps)); warmup_ratio is used when steps is 0. */
int64_t cad_count_warmup(double warmup_steps, double warmup_ratio, int64_t max_steps);
/* Decay group of a parameter by its name, as Transformers 5 (bias | layernorm | rmsnorm | (^|.)norm($|.) | _norm($|.)). */
bool cad_decays(const char *name);
#ifdef __cplusplus
}
#endif
#endif
