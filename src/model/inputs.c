/* The first block's input, seen and replaced from outside; and the gradient that leads there. */
#include "model_priv.h"

cad_status cad_model_input(cad_model *m, float *out) { return cadp_values(m, cadp_hidden(m, 0), out); }
cad_status cad_model_input_gradient(cad_model *m, float *out) { return cadp_values(m, cadp_rows(m, m->dh), out); }

cad_status cad_model_set_input(cad_model *m, const float *input)
{
    cad_tensor t = cadp_hidden(m, 0);
    int64_t n = t.rows * t.cols;
    double *wide = NULL;
    cad_status status;

    if (t.dtype == CAD_F32) return cad_device_upload(m->device, t.data, input, n * 4);
    CAD_TRY(cad_alloc(&wide, (size_t)n, sizeof *wide, "inputs"));
    for (int64_t i = 0; i < n; i++) wide[i] = (double)input[i];
    status = cad_device_upload(m->device, t.data, wide, n * 8);
    cad_free(&wide);
    return status;
}

cad_status cadp_margin_gradient(cad_model *m)
{
    cad_tensor t = cadp_seqs(m, m->dlogits);
    int64_t n = t.rows * t.cols;
    char *host = NULL;
    cad_status status;

    CAD_TRY(cad_alloc(&host, (size_t)n, 8, "a gradient"));
    for (int64_t i = 0; i < n; i++) {
        float x = i % t.cols == 1 ? 1 : i % t.cols == 0 ? -1 : 0;
        if (t.dtype == CAD_F32) ((float *)(void *)host)[i] = x;
        else if (t.dtype == CAD_F64) ((double *)(void *)host)[i] = (double)x;
        else ((uint16_t *)(void *)host)[i] = cad_f32_to_bf16(x);
    }
    status = cad_device_upload(m->device, t.data, host, n * (int64_t)cad_dtype_bytes(t.dtype));
    cad_free(&host);
    return status;
}
