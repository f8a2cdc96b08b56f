/* The matrix rate of this machine, for the share of it that training reaches (mfu in the log). */
#include "train_priv.h"

#include <math.h>

enum { SIDE = 640, SIDE_OF_A_GPU = 4096, TRIES = 3 };

static cad_status time_products(cad_device *d, cad_dtype dtype, double *rate)
{
    int64_t side = strncmp(cad_device_name(d), "cuda", 4) ? SIDE : SIDE_OF_A_GPU;
    cad_tensor t[3];
    cad_matmul_args x = {.tb = true, .alpha = 1};
    cad_arena a = {.device = d};
    cad_status status = CAD_OK;

    for (int i = 0; i < 3 && !status; i++)
        if (!(status = cad_arena_tensor(&a, CAD_MEM_WORK, "a matrix", i ? dtype : CAD_F32, side, side, &t[i]))) status = cad_device_zero(d, t[i].data, side * side * (int64_t)cad_dtype_bytes(t[i].dtype));
    for (int i = 0; i < TRIES && !status; i++) {
        double began = cad_now(), took;
        x.c = t[0], x.a = t[1], x.b = t[2];
        if ((status = cad_matmul(d, &x)) || (status = cad_device_sync(d))) break;
        took = cad_now() - began;
        *rate = took > 0 ? fmax(*rate, 2 * (double)side * (double)side * (double)side / took) : *rate;
    }
    cad_arena_close(&a);
    return status;
}

/* On a device of its own, so that the run's memory stays what the plan says. All ranks at once: they share the cores while training too. */
cad_status cadp_measure_peak(cad_run *r)
{
    cad_device *d;
    double rate = 0;
    cad_status status;

    CAD_TRY(cad_comm_barrier(r->comm));
    CAD_TRY(cad_device_open(&d, cad_device_name(r->device), cad_device_threads(r->device)));
    if (!(status = cad_device_reserve(d, 32 << 20))) status = time_products(d, r->method.compute, &rate);
    if (cad_device_close(&d) && !status) status = CAD_EINTERNAL;
    CAD_TRY(status);
    CAD_TRY(cad_comm_allreduce(r->comm, &rate, 1, CAD_NUM_F64, CAD_SUM));
    r->facts.peak_flops = rate;
    return CAD_OK;
}
