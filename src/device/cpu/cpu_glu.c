#include "cpu_math.h"
#include "cpu_priv.h"

static const float root_2_over_pi = 0.79788456080286535588f, root_half = 0.70710678118654752440f, one_over_root_2_pi = 0.39894228040143267794f;

static inline float logistic(float z) { return 1 / (1 + cadp_exp(-z)); }
static inline float swell(float z) { return cadp_tanh(root_2_over_pi * (z + 0.044715f * z * z * z)); }
static inline float normal(float z) { return 0.5f * (1 + cadp_erf(z * root_half)); }

/* Value and slope of torch's silu, gelu(approximate="tanh"), gelu. */
CAD_CLONES static void silu(float *m, const float *gate, const float *up, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) m[i] = gate[i] * logistic(gate[i]) * up[i];
}

CAD_CLONES static void gelu_tanh(float *m, const float *gate, const float *up, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) m[i] = 0.5f * gate[i] * (1 + swell(gate[i])) * up[i];
}

CAD_CLONES static void gelu_erf(float *m, const float *gate, const float *up, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) m[i] = gate[i] * normal(gate[i]) * up[i];
}

CAD_CLONES static void tanh_strip(float *m, const float *gate, const float *up, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) m[i] = cadp_tanh(gate[i]) * up[i];
}

/* Strips of the backward operation; dgate may be gate, dup may be up. */
typedef struct strips { float *dgate, *dup, *m; const float *dm, *gate, *up; int64_t n; } strips;

#define BACKWARDS(name, setup, value, slope)                                          \
    CAD_CLONES static void name(const strips *s)                                      \
    {                                                                                 \
        float *dgate = s->dgate, *dup = s->dup, *m = s->m;                            \
        const float *dm = s->dm, *gate = s->gate, *up = s->up;                        \
        int64_t n = s->n;                                                             \
                                                                                      \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                           \
        {                                                                             \
            float z = gate[i], u = up[i], t = setup, a = value;                       \
            m[i] = a * u;                                                             \
            dgate[i] = dm[i] * u * (slope);                                           \
            dup[i] = dm[i] * a;                                                       \
        }                                                                             \
    }
BACKWARDS(silu_bwd, logistic(z), z * t, t * (1 + z * (1 - t)))
BACKWARDS(gelu_tanh_bwd, swell(z), 0.5f * z * (1 + t), 0.5f * (1 + t) + 0.5f * z * (1 - t * t) * root_2_over_pi * (1 + 3 * 0.044715f * z * z))
BACKWARDS(gelu_erf_bwd, normal(z), z * t, t + z * one_over_root_2_pi * cadp_exp(-0.5f * z * z))
BACKWARDS(tanh_bwd, cadp_tanh(z), t, 1 - t * t)

typedef void value_strip(float *m, const float *gate, const float *up, int64_t n);
typedef void slope_strip(const strips *s);
/* In the order of cad_activation. */
static value_strip *const values[] = {silu, gelu_tanh, gelu_erf, tanh_strip};
static slope_strip *const slopes[] = {silu_bwd, gelu_tanh_bwd, gelu_erf_bwd, tanh_bwd};

/* up, or ones where there is none. */
static const float *factors_at(cad_tensor up, int64_t row, int64_t j, int64_t n, float *room)
{
    if (cad_some(up)) return cadp_get(up, row, j, n, room);
    for (int64_t i = 0; i < n; i++) room[i] = 1;
    return room;
}

typedef struct fwd_args { const cad_glu_args *x; value_strip *value; cadp_grid grid; } fwd_args;

static void glu_rect(const void *args, int64_t i, void *work)
{
    const fwd_args *a = args;
    cadp_rect r = cadp_rect_of(&a->grid, i);
    float gate[CADP_STRIP], up[CADP_STRIP], out[CADP_STRIP];

    (void)work;
    for (int64_t row = r.row; row < r.rows_end; row++)
        for (int64_t j = r.col; j < r.cols_end; j += CADP_STRIP) {
            int64_t n = cad_min(CADP_STRIP, r.cols_end - j);
            float *m = cadp_slot(a->x->m, row, j, out);
            a->value(m, cadp_get(a->x->gate, row, j, n, gate), factors_at(a->x->up, row, j, n, up), n);
            cadp_put(a->x->m, row, j, n, m);
        }
}

cad_status cadp_cpu_glu_fwd(cad_device *d, const cad_glu_args *x, void *work)
{
    fwd_args a = {x, values[x->act], cadp_grid_of(x->gate.rows, x->gate.cols)};

    (void)work;
    cadp_cpu_each(d, a.grid.n, glu_rect, &a, NULL, 0);
    return CAD_OK;
}

typedef struct bwd_args { const cad_glu_bwd_args *x; slope_strip *slope; cadp_grid grid; } bwd_args;

static void glu_strip_backwards(const cad_glu_bwd_args *x, slope_strip *slope, int64_t row, int64_t j, int64_t n)
{
    float gate[CADP_STRIP], up[CADP_STRIP], dm[CADP_STRIP], dgate[CADP_STRIP], dup[CADP_STRIP], again[CADP_STRIP];
    strips s = {.n = n, .dm = cadp_get(x->dm, row, j, n, dm), .gate = cadp_get(x->gate, row, j, n, gate), .up = factors_at(x->up, row, j, n, up)};

    s.dgate = cadp_slot(x->dgate, row, j, dgate);
    s.dup = cad_some(x->up) ? cadp_slot(x->dup, row, j, dup) : dup;
    s.m = cad_some(x->m) ? cadp_slot(x->m, row, j, again) : again;
    slope(&s);
    cadp_put(x->dgate, row, j, n, s.dgate);
    if (cad_some(x->up)) cadp_put(x->dup, row, j, n, s.dup);
    if (cad_some(x->m)) cadp_put(x->m, row, j, n, s.m);
}

static void glu_rect_backwards(const void *args, int64_t i, void *work)
{
    const bwd_args *a = args;
    cadp_rect r = cadp_rect_of(&a->grid, i);

    (void)work;
    for (int64_t row = r.row; row < r.rows_end; row++)
        for (int64_t j = r.col; j < r.cols_end; j += CADP_STRIP)
            glu_strip_backwards(a->x, a->slope, row, j, cad_min(CADP_STRIP, r.cols_end - j));
}

cad_status cadp_cpu_glu_bwd(cad_device *d, const cad_glu_bwd_args *x, void *work)
{
    bwd_args a = {x, slopes[x->act], cadp_grid_of(x->gate.rows, x->gate.cols)};

    (void)work;
    cadp_cpu_each(d, a.grid.n, glu_rect_backwards, &a, NULL, 0);
    return CAD_OK;
}
