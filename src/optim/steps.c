#include <cadtrain/optim.h>

#include <math.h>

cad_steps cad_count_steps(int64_t rows, int64_t batch, int world, int64_t accumulation, double epochs, int64_t max_steps)
{
    cad_steps s;

    s.batches_per_rank = cad_ceil_div(cad_ceil_div(rows, batch), world);
    s.steps_per_epoch = cad_max(1, cad_ceil_div(s.batches_per_rank, accumulation));
    s.max_steps = max_steps > 0 ? max_steps : (int64_t)ceil(epochs * (double)s.steps_per_epoch);
    s.epochs = max_steps > 0 ? cad_ceil_div(max_steps, s.steps_per_epoch) : (int64_t)ceil(epochs);
    return s;
}

int64_t cad_count_warmup(double warmup_steps, double warmup_ratio, int64_t max_steps)
{
    if (warmup_steps >= 1) return (int64_t)warmup_steps;
    return (int64_t)ceil((warmup_steps > 0 ? warmup_steps : warmup_ratio) * (double)max_steps);
}
