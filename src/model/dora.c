/* DoRA (families 11.8): y = c z + b with z = W x + s B A x and c = m / n, column by column; m is trained, n = |W + s B A| row by row is computed anew at every
 * forward and taken as constant. With dropout x~ before the adapter: y = W x + b - W x~ + c z(x~). */
#include "model_priv.h"

#include <math.h>

static cad_tensor factors(const cad_model *m, const cadp_part *p) { return cad_columns(cad_slice(m->stretch, 0, 1), p->factors, p->out); }
static cad_tensor inverses(const cad_model *m, const cadp_part *p) { return cad_columns(cad_slice(m->stretch, 1, 1), p->factors, p->out); }

/* Rows [from, from + n) of the weight, as products see them. */
static cad_status bring_rows(cad_model *m, const cadp_part *p, cad_unit_view w, int64_t from, int64_t n, cad_tensor sum, cad_tensor scratch)
{
    cad_coded q = cadp_codes(m, w, p->weight);

    if (!q.code) return cadp_copy(m, sum, cad_slice(cadp_weight(m, w, p->weight), from, n), 0);
    CAD_TRY(cad_dequantise(m->device, &(cad_dequantise_args){scratch, cad_coded_rows(q, from, n)}));
    return cadp_copy(m, sum, scratch, 0);
}
static cad_tensor sums(const cad_model *m, const cadp_part *p) { return cad_columns(cad_slice(m->stretch, 2, 1), p->factors, p->out); }

/* 1 / n of rows [from, from + n): rms(row) sqrt(in) is its norm. */
static cad_status measure(cad_model *m, const cadp_linear *l, const cadp_part *p, cad_unit_view w, int64_t from, int64_t n)
{
    cad_tensor sum = cad_view(m->stretched.data, m->real, n, l->in), scratch = cad_view(m->stretched_norm.data, m->act, n, l->in), row = cad_columns(inverses(m, p), from, n);
    cad_tensor rstd = cad_view(row.data, m->real, n, 1);

    CAD_TRY(bring_rows(m, p, w, from, n, sum, scratch));
    CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = sum, .a = cad_slice(cadp_weight(m, w, p->b), from, n), .b = cadp_weight(m, w, p->a), .alpha = p->scale, .beta = 1}));
    CAD_TRY(cad_rmsnorm_fwd(m->device, &(cad_rmsnorm_args){.y = scratch, .x = sum, .rstd = rstd}));
    return cad_axpby(m->device, &(cad_axpby_args){.y = row, .x = row, .alpha = 1 / sqrt((double)l->in)});
}

static cad_status find_factors(cad_model *m, const cadp_linear *l, const cadp_part *p, cad_unit_view w)
{
    int64_t each = cad_max(1, m->stretched.cols / l->in);

    for (int64_t from = 0; from < p->out; from += each) CAD_TRY(measure(m, l, p, w, from, cad_min(each, p->out - from)));
    return cad_scale_cols(m->device, &(cad_scale_cols_args){.y = factors(m, p), .x = cadp_weight(m, w, p->magnitude), .w = inverses(m, p)});
}

static cad_tensor room(const cad_model *m, const cadp_part *p, int64_t rows) { return cad_columns(cad_slice(m->dora, 0, rows), 0, p->out); }

static cad_status stretch(cad_model *m, const cadp_part *p, cad_tensor y, cad_tensor x, cad_tensor bias, bool accumulate)
{
    return cad_scale_cols(m->device, &(cad_scale_cols_args){.y = y, .x = x, .w = factors(m, p), .b = bias, .accumulate = accumulate});
}

/* z of what the adapter sees, low being A of that; dropped: W of it is with the dequantised weight, as in PEFT. */
static cad_status inner(cad_model *m, const cadp_part *p, cad_unit_view w, cad_tensor z, cad_tensor seen, cad_tensor low)
{
    cad_matmul_args x = {.c = z, .a = seen, .tb = true, .alpha = 1, .a2 = low, .b2 = cadp_weight(m, w, p->b), .tb2 = true, .alpha2 = p->scale};

    cadp_put_weight(m, w, p->weight, &x);
    if (seen.data != m->drop.data) x.outliers = cadp_outliers(m, &x);
    return cad_matmul(m->device, &x);
}

cad_status cadp_dora_forward(cad_model *m, const cadp_linear *l, const cadp_part *p, cad_unit_view w, cad_tensor x, cad_tensor seen, cad_tensor low, cad_tensor y, double beta)
{
    cad_tensor z = room(m, p, x.rows), bias = cadp_weight(m, w, p->bias);
    cad_matmul_args plain = {.c = y, .a = x, .tb = true, .alpha = 1, .beta = beta, .bias = bias};

    CAD_TRY(find_factors(m, l, p, w));
    CAD_TRY(inner(m, p, w, z, seen, low));
    if (seen.data == x.data) return stretch(m, p, y, z, bias, beta != 0);
    cadp_put_weight(m, w, p->weight, &plain);
    plain.outliers = cadp_outliers(m, &plain);
    CAD_TRY(cad_matmul(m->device, &plain));
    plain = (cad_matmul_args){.c = y, .a = seen, .b = plain.b, .codes = plain.codes, .tb = true, .alpha = -1, .beta = 1};
    CAD_TRY(cad_matmul(m->device, &plain));
    return stretch(m, p, y, z, (cad_tensor){0}, true);
}

cad_status cadp_dora_gradient(cad_model *m, const cadp_part *p, cad_tensor dy, cad_tensor *dz)
{
    *dz = room(m, p, dy.rows);
    return stretch(m, p, *dz, dy, (cad_tensor){0}, false);
}

cad_status cadp_dora_magnitude(cad_model *m, const cadp_part *p, cad_unit_view w, cad_tensor d, cad_tensor seen, cad_tensor low, cad_tensor dy)
{
    cad_tensor z = room(m, p, dy.rows);

    CAD_TRY(inner(m, p, w, z, seen, low));
    CAD_TRY(cad_dot_cols(m->device, &(cad_dot_cols_args){.w = sums(m, p), .x = dy, .y = z}));
    return cad_scale_cols(m->device, &(cad_scale_cols_args){.y = d, .x = sums(m, p), .w = inverses(m, p), .accumulate = m->add});
}
