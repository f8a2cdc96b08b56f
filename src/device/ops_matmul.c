#include "ops_priv.h"

static void operand(cadp_call *c, const char *name, cad_tensor t, bool turned, unsigned dtypes, int64_t rows, int64_t cols)
{
    cadp_read(c, name, t, dtypes, turned ? cols : rows, turned ? rows : cols);
}

cad_status cadp_describe_matmul(cadp_call *c, const cad_matmul_args *x)
{
    int64_t m = x->c.rows, n = x->c.cols, k = x->ta ? x->a.rows : x->a.cols, k2 = x->ta2 ? x->a2.rows : x->a2.cols;
    unsigned same = cadp_as(x->a, CADP_REAL);

    (x->beta == 0 ? cadp_write : cadp_update)(c, "c", x->c, CADP_REAL, m, n);
    operand(c, "a", x->a, x->ta, CADP_REAL, m, k);
    if (x->codes.code) CAD_TRY(cadp_coded(c, &x->codes, CADP_READ, x->tb ? n : k, x->tb ? k : n));
    else operand(c, "b", x->b, x->tb, same, k, n);
    CAD_TRY(cadp_need(c, x->outliers >= 0 && (x->outliers == 0 || (x->codes.code == CAD_INT8 && x->tb && !x->ta)), "outliers only with codes int8, A as it lies and B turned", x->outliers));
    CAD_TRY(cadp_need(c, x->outliers == 0 || k <= CAD_INT8_TERMS, "few enough terms for whole numbers of 32 bits", (double)k));
    c->flops = 2.0 * (double)m * (double)n * (double)k;
    if (cad_some(x->screen)) {
        CAD_TRY(cadp_need(c, x->tb && !x->ta && !x->codes.code && x->alpha == 1 && x->beta == 0 && x->c.dtype == CAD_F32 && !cad_some(x->bias) && !cad_some(x->a2),
                          "a screen only for a product alone into fp32, with B turned", x->alpha));
        cadp_read(c, "screen", x->screen, CADP_U8, 1, x->screen.cols);
    }
    if (cad_some(x->bias)) cadp_read(c, "bias", x->bias, same, 1, n);
    if (!cad_some(x->a2) && !cad_some(x->b2)) return CAD_OK;
    operand(c, "a2", x->a2, x->ta2, same, m, k2);
    operand(c, "b2", x->b2, x->tb2, same, k2, n);
    c->flops += 2.0 * (double)m * (double)n * (double)k2;
    return CAD_OK;
}

static const cadp_device_if *screener(const cad_device *d) { return d->inner ? d->inner : d->table; }

int64_t cad_screen_bytes(const cad_device *d, int64_t rows, int64_t cols) { return screener(d)->screen_bytes ? screener(d)->screen_bytes(rows, cols) : 0; }

cad_status cad_make_screen(cad_device *d, cad_tensor screen, cad_tensor b)
{
    cadp_call c = {.op = "make_screen"};
    int64_t bytes = cad_screen_bytes(d, b.rows, b.cols);

    CAD_TRY(cadp_need(&c, bytes > 0, "a device and a matrix for screens", (double)bytes));
    cadp_write(&c, "screen", screen, CADP_U8, 1, bytes);
    cadp_read(&c, "b", b, CADP_F32 | CADP_BF16, b.rows, b.cols);
    CAD_TRY(cadp_admit(d, &c));
    return cad_device_pretends(d) ? CAD_OK : screener(d)->make_screen(d, screen.data, b);
}
