/* Gated activations: value and slope of torch's silu, gelu(approximate="tanh"), gelu, tanh. */
#include "cuda_grid.h"

#define ROOT_2_OVER_PI 0.79788456080286535588f
#define ROOT_HALF 0.70710678118654752440f
#define ONE_OVER_ROOT_2_PI 0.39894228040143267794f

/* Eight of up, 1 where there is none. */
template <class T> ON_DEVICE void get8_up(float u[8], const cad_tensor &up, int64_t row, int64_t col, int n, bool whole)
{
    if (up.data)
        get8(u, at<T>(up, row, col), n, whole);
    else
#pragma unroll
        for (int i = 0; i < 8; i++) u[i] = 1;
}

/* act(z), and where asked its derivative. */
ON_DEVICE float activate(int act, float z, float *slope)
{
    float t;

    if (act == CAD_ACT_SILU) {
        t = 1 / (1 + expf(-z));
        if (slope) *slope = t * (1 + z * (1 - t));
        return z * t;
    }
    if (act == CAD_ACT_GELU_TANH) {
        t = tanhf(ROOT_2_OVER_PI * (z + 0.044715f * z * z * z));
        if (slope) *slope = 0.5f * (1 + t) + 0.5f * z * (1 - t * t) * ROOT_2_OVER_PI * (1 + 3 * 0.044715f * z * z);
        return 0.5f * z * (1 + t);
    }
    if (act == CAD_ACT_TANH) {
        t = tanhf(z);
        if (slope) *slope = 1 - t * t;
        return t;
    }
    t = 0.5f * (1 + erff(z * ROOT_HALF));
    if (slope) *slope = t + z * ONE_OVER_ROOT_2_PI * expf(-0.5f * z * z);
    return z * t;
}

template <class T> KERNEL(EIGHTS, 8) gate_up(cad_tensor m, cad_tensor gate, cad_tensor up, int act, bool wide)
{
    int64_t col = my_eighth();
    int n = count_of(col, gate.cols);
    float z[8], u[8];

    if (col >= gate.cols) return;
    for (int64_t row = here_block().y; row < gate.rows; row += here_blocks().y) {
        get8(z, at<T>(gate, row, col), n, wide && n == 8);
        get8_up<T>(u, up, row, col, n, wide && n == 8);
#pragma unroll
        for (int i = 0; i < 8; i++) z[i] = activate(act, z[i], NULL) * u[i];
        put8(at<T>(m, row, col), z, n, wide && n == 8);
    }
}

extern "C" cad_status GRID(glu_fwd)(cad_device *d, const cad_glu_args *x, void *work)
{
    cad_tensor m = x->m, gate = x->gate, up = x->up;
    bool wide;

    (void)work;
    if (is_flat(m) && is_flat(gate) && is_flat(up)) m = as_row(m), gate = as_row(gate), up = as_row(up);
    wide = lies_wide(m) && lies_wide(gate) && lies_wide(up);
    WITH_TYPE(gate.dtype, T, return launch(stream_of(d), "glu_fwd", gate_up<T>, eighths(gate.rows, gate.cols), EIGHTS, 0, m, gate, up, (int)x->act, wide));
}

template <class T> KERNEL(EIGHTS, 4) gate_up_back(cad_tensor dgate, cad_tensor dup, cad_tensor dm, cad_tensor gate, cad_tensor up, cad_tensor m, int act, bool wide)
{
    int64_t col = my_eighth();
    int n = count_of(col, gate.cols);
    float z[8], u[8], g[8];

    if (col >= gate.cols) return;
    for (int64_t row = here_block().y; row < gate.rows; row += here_blocks().y) {
        get8(z, at<T>(gate, row, col), n, wide && n == 8);
        get8_up<T>(u, up, row, col, n, wide && n == 8);
        get8(g, at<T>(dm, row, col), n, wide && n == 8);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float slope, value = activate(act, z[i], &slope), gradient = g[i];
            g[i] = value * u[i];
            z[i] = gradient * u[i] * slope;
            u[i] = gradient * value;
        }
        if (m.data) put8(at<T>(m, row, col), g, n, wide && n == 8);
        put8(at<T>(dgate, row, col), z, n, wide && n == 8);
        if (dup.data) put8(at<T>(dup, row, col), u, n, wide && n == 8);
    }
}

extern "C" cad_status GRID(glu_bwd)(cad_device *d, const cad_glu_bwd_args *x, void *work)
{
    cad_tensor t[6] = {x->dgate, x->dup, x->dm, x->gate, x->up, x->m};
    bool flat = true, wide = true;

    (void)work;
    for (int i = 0; i < 6; i++) flat = flat && is_flat(t[i]);
    for (int i = 0; i < 6; i++) {
        if (flat) t[i] = as_row(t[i]);
        wide = wide && lies_wide(t[i]);
    }
    WITH_TYPE(x->gate.dtype, T, return launch(stream_of(d), "glu_bwd", gate_up_back<T>, eighths(t[3].rows, t[3].cols), EIGHTS, 0, t[0], t[1], t[2], t[3], t[4], t[5], (int)x->act, wide));
}
