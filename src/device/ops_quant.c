/* Weights and moments as codes. */
#include "ops_priv.h"

cad_coded cad_coded_view(void *data, cad_code code, bool nested, int64_t rows, int64_t cols)
{
    cad_coded_layout l = cad_coded_layout_of(code, nested, rows, cols);
    char *base = data;
    cad_coded q = {.code = code, .rows = rows, .cols = cols};

    q.codes = code == CAD_INT8 ? cad_view(base, CAD_I8, rows, cols) : cad_view(base, CAD_U8, 1, (rows * cols + 1) / 2);
    q.scales = cad_view(base + l.scales, nested ? CAD_U8 : CAD_F32, 1, l.blocks);
    if (!nested) return q;
    q.scales2 = cad_view(base + l.scales2, CAD_F32, 1, l.blocks2);
    q.offset = cad_view(base + l.offset, CAD_F32, 1, 1);
    return q;
}

/* Rows of a whole matrix need no more of its parts than what reaches down to them. */
static void part(cadp_call *c, cadp_use use, const char *name, cad_tensor t, unsigned dtypes, int64_t rows, int64_t cols)
{
    if (t.rows > rows) t.rows = rows;
    if (t.rows == 1 && t.cols > cols) t.cols = t.ld = cols;
    (use == CADP_READ ? cadp_read : cadp_write)(c, name, t, dtypes, rows, cols);
}

cad_status cadp_coded(cadp_call *c, const cad_coded *q, cadp_use use, int64_t rows, int64_t cols)
{
    bool nested = q->scales.dtype == CAD_U8;
    cad_coded_layout l;

    CAD_TRY(cadp_need(c, q->code > CAD_PLAIN && q->code <= CAD_INT8, "codes nf4, fp4 or int8", q->code));
    CAD_TRY(cadp_need(c, !nested || q->code != CAD_INT8, "codes of 4 bits under nested scales", q->code));
    CAD_TRY(cadp_need(c, q->rows == rows, "as many rows of codes as the product has", (double)q->rows));
    CAD_TRY(cadp_need(c, q->cols == cols, "as many columns of codes as the product has", (double)q->cols));
    CAD_TRY(cadp_need(c, q->above >= 0 && (use == CADP_READ || !q->above), "rows of a matrix, to be read", (double)q->above));
    CAD_TRY(cadp_need(c, rows >= 0 && rows <= INT64_MAX - q->above, "a matrix that fits memory", (double)rows));
    rows += q->above;
    CAD_TRY(cadp_need(c, cols >= 0 && (!rows || cols <= INT64_MAX / 16 / rows), "a matrix that fits memory", (double)cols));
    CAD_TRY(cadp_need(c, q->code != CAD_INT8 || q->codes.ld == cols || rows < 2, "rows of codes without gaps", (double)q->codes.ld));
    l = cad_coded_layout_of(q->code, nested, rows, cols);
    if (q->code == CAD_INT8) part(c, use, "codes", q->codes, CADP_I8, rows, cols);
    else part(c, use, "codes", q->codes, CADP_U8, 1, (rows * cols + 1) / 2);
    part(c, use, "scales", q->scales, nested ? CADP_U8 : CADP_F32, 1, l.blocks);
    if (!nested) return CAD_OK;
    part(c, use, "scales2", q->scales2, CADP_F32, 1, l.blocks2);
    part(c, use, "offset", q->offset, CADP_F32, 1, 1);
    return CAD_OK;
}

cad_status cadp_describe_quantise(cadp_call *c, const cad_quantise_args *x)
{
    CAD_TRY(cadp_coded(c, &x->q, CADP_WRITE, x->x.rows, x->x.cols));
    CAD_TRY(cadp_need(c, x->q.scales.dtype == CAD_F32, "scales F32", x->q.scales.dtype));
    CAD_TRY(cadp_need(c, x->x.rows < 2 || x->x.ld == x->x.cols, "rows without gaps", (double)x->x.ld));
    cadp_read(c, "x", x->x, CADP_F32 | CADP_BF16, x->x.rows, x->x.cols);
    return CAD_OK;
}

cad_status cadp_describe_nest(cadp_call *c, const cad_nest_args *x)
{
    int64_t n = x->scales.cols;

    cadp_write(c, "codes", x->codes, CADP_U8, 1, n);
    cadp_write(c, "scales2", x->scales2, CADP_F32, 1, cad_ceil_div(n, CAD_SCALE_BLOCK));
    cadp_write(c, "offset", x->offset, CADP_F32, 1, 1);
    cadp_read(c, "scales", x->scales, CADP_F32, 1, n);
    return CAD_OK;
}

cad_status cadp_describe_dequantise(cadp_call *c, const cad_dequantise_args *x)
{
    cadp_write(c, "y", x->y, CADP_REAL, x->q.rows, x->q.cols);
    return cadp_coded(c, &x->q, CADP_READ, x->y.rows, x->y.cols);
}

cad_status cadp_describe_adamw8(cadp_call *c, const cad_adamw8_args *x)
{
    int64_t n = x->p.cols, scales = cad_ceil_div(x->first + n, CAD_SCALE_BLOCK);

    cadp_update(c, "p", x->p, CADP_F32, 1, n);
    cadp_update(c, "m", x->m, CADP_U8, 1, n);
    cadp_update(c, "v", x->v, CADP_U8, 1, n);
    cadp_update(c, "scale_m", x->scale_m, CADP_F32, 1, scales);
    cadp_update(c, "scale_v", x->scale_v, CADP_F32, 1, scales);
    cadp_read(c, "g", x->g, CADP_F32, 1, n);
    if (cad_some(x->copy)) cadp_write(c, "copy", x->copy, CADP_BF16, 1, n);
    CAD_TRY(cadp_need(c, x->first >= 0 && x->first < CAD_SCALE_BLOCK, "first to lie in a block of 256", (double)x->first));
    return cadp_need(c, x->step >= 1, "steps counted from 1", (double)x->step);
}
