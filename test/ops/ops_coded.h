/* Operations on matrices held as codes. kind: the code; MORE: scales are codes too; softcap: where outliers begin. */
#ifndef TEST_OPS_CODED_H
#define TEST_OPS_CODED_H
#include "ops.h"

static void fill_codes(const ops_case *c, ops_sheet *s, int64_t rows, int64_t cols)
{
    bool nested = c->flags & MORE, bytes = c->kind == CAD_INT8;
    cad_coded_layout l = cad_coded_layout_of((cad_code)c->kind, nested, rows, cols);

    ops_add(s, (ops_slot){.name = "codes", .dtype = bytes ? CAD_I8 : CAD_U8, .rows = bytes ? rows : 1, .cols = bytes ? cols : (rows * cols + 1) / 2, .use = OPS_IN, .fill = OPS_BYTES, .fixed = true, .dense = true});
    ops_add(s, (ops_slot){.name = "scales", .dtype = nested ? CAD_U8 : CAD_F32, .rows = 1, .cols = l.blocks, .use = OPS_IN, .fill = nested ? OPS_BYTES : OPS_SQUARES, .fixed = true});
    if (!nested) return;
    ops_add(s, (ops_slot){.name = "scales2", .dtype = CAD_F32, .rows = 1, .cols = l.blocks2, .use = OPS_IN, .fill = OPS_SQUARES, .fixed = true});
    ops_add(s, (ops_slot){.name = "offset", .dtype = CAD_F32, .rows = 1, .cols = 1, .use = OPS_IN, .fill = OPS_SQUARES, .fixed = true});
}

static cad_coded codes_of(const ops_case *c, const ops_sheet *s, int64_t rows, int64_t cols)
{
    return (cad_coded){(cad_code)c->kind, rows, cols, ops_t(s, "codes"), ops_t(s, "scales"), ops_t(s, "scales2"), ops_t(s, "offset"), 0};
}

static void fill_coded_matmul(const ops_case *c, ops_sheet *s)
{
    ops_add(s, (ops_slot){.name = "c", .dtype = c->out, .rows = c->m, .cols = c->n, .use = c->beta != 0 ? OPS_INOUT : OPS_OUT});
    ops_add(s, (ops_slot){.name = "a", .dtype = c->in, .rows = c->flags & TA ? c->k : c->m, .cols = c->flags & TA ? c->m : c->k, .use = OPS_IN});
    fill_codes(c, s, c->flags & TB ? c->n : c->k, c->flags & TB ? c->k : c->n);
    if (c->k2) ops_add(s, (ops_slot){.name = "a2", .dtype = c->in, .rows = c->m, .cols = c->k2, .use = OPS_IN});
    if (c->k2) ops_add(s, (ops_slot){.name = "b2", .dtype = c->in, .rows = c->k2, .cols = c->n, .use = OPS_IN});
    if (c->flags & BIAS) ops_add(s, (ops_slot){.name = "bias", .dtype = c->in, .rows = 1, .cols = c->n, .use = OPS_IN});
}

static cad_status call_coded_matmul(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_matmul(d, &(cad_matmul_args){.c = ops_t(s, "c"), .a = ops_t(s, "a"), .codes = codes_of(c, s, c->flags & TB ? c->n : c->k, c->flags & TB ? c->k : c->n), .ta = c->flags & TA, .tb = c->flags & TB,
                                            .alpha = c->alpha, .beta = c->beta, .a2 = ops_t(s, "a2"), .b2 = ops_t(s, "b2"), .alpha2 = c->alpha2, .bias = ops_t(s, "bias"), .outliers = c->softcap});
}

static const ops_op coded_matmul = {"matmul of codes", fill_coded_matmul, call_coded_matmul, NULL, true};

/* m rows in k2 groups, each with its own part of the codes. */
static int64_t coded_group_rows(const ops_case *c) { return c->k2 * (c->flags & TB ? c->n : c->k); }

static void fill_coded_groups(const ops_case *c, ops_sheet *s)
{
    ops_add(s, (ops_slot){.name = "c", .dtype = c->out, .rows = c->m, .cols = c->n, .use = OPS_OUT});
    ops_add(s, (ops_slot){.name = "a", .dtype = c->in, .rows = c->m, .cols = c->k, .use = OPS_IN});
    ops_add(s, (ops_slot){.name = "starts", .dtype = CAD_I32, .rows = 1, .cols = c->k2 + 1, .use = OPS_IN, .fill = OPS_STARTS, .fixed = true, .dense = true});
    fill_codes(c, s, coded_group_rows(c), c->flags & TB ? c->k : c->n);
}

static cad_status call_coded_groups(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_matmul_groups(d, &(cad_groups_args){.c = ops_t(s, "c"), .a = ops_t(s, "a"), .starts = ops_t(s, "starts"), .tb = c->flags & TB, .groups = c->k2, .codes = codes_of(c, s, coded_group_rows(c), c->flags & TB ? c->k : c->n)});
}

static const ops_op coded_groups = {"matmul_groups of codes", fill_coded_groups, call_coded_groups, NULL, true};

static void fill_dequantise(const ops_case *c, ops_sheet *s)
{
    ops_add(s, (ops_slot){.name = "y", .dtype = c->out, .rows = c->m, .cols = c->n, .use = OPS_OUT});
    fill_codes(c, s, c->m, c->n);
}

static cad_status call_dequantise(cad_device *d, const ops_case *c, const ops_sheet *s) { return cad_dequantise(d, &(cad_dequantise_args){ops_t(s, "y"), codes_of(c, s, c->m, c->n)}); }

static const ops_op dequantise = {"dequantise", fill_dequantise, call_dequantise, NULL, false};

/* The last m of k rows. */
static void fill_dequantise_rows(const ops_case *c, ops_sheet *s)
{
    ops_add(s, (ops_slot){.name = "y", .dtype = c->out, .rows = c->m, .cols = c->n, .use = OPS_OUT});
    fill_codes(c, s, c->k, c->n);
}

static cad_status call_dequantise_rows(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    return cad_dequantise(d, &(cad_dequantise_args){ops_t(s, "y"), cad_coded_rows(codes_of(c, s, c->k, c->n), c->k - c->m, c->m)});
}

static const ops_op dequantise_rows = {"dequantise, rows of a matrix", fill_dequantise_rows, call_dequantise_rows, NULL, false};

/* From numbers that stay in fp32 everywhere: a code has no tolerance. */
static void fill_quantise(const ops_case *c, ops_sheet *s)
{
    bool bytes = c->kind == CAD_INT8;
    int64_t blocks = cad_coded_layout_of((cad_code)c->kind, false, c->m, c->n).blocks;

    ops_add(s, (ops_slot){.name = "x", .dtype = c->in, .rows = c->m, .cols = c->n, .use = OPS_IN, .fixed = true, .dense = true});
    ops_add(s, (ops_slot){.name = "codes", .dtype = bytes ? CAD_I8 : CAD_U8, .rows = bytes ? c->m : 1, .cols = bytes ? c->n : (c->m * c->n + 1) / 2, .use = OPS_OUT, .fixed = true, .exact = true, .dense = true});
    ops_add(s, (ops_slot){.name = "scales", .dtype = CAD_F32, .rows = 1, .cols = blocks, .use = OPS_OUT, .fixed = true, .exact = true});
}

static cad_status call_quantise(cad_device *d, const ops_case *c, const ops_sheet *s) { return cad_quantise(d, &(cad_quantise_args){codes_of(c, s, c->m, c->n), ops_t(s, "x")}); }

static const ops_op quantise = {"quantise", fill_quantise, call_quantise, NULL, false};

static void fill_nest(const ops_case *c, ops_sheet *s)
{
    ops_add(s, (ops_slot){.name = "from", .dtype = CAD_F32, .rows = 1, .cols = c->n, .use = OPS_IN, .fill = OPS_SQUARES, .fixed = true});
    ops_add(s, (ops_slot){.name = "scales", .dtype = CAD_U8, .rows = 1, .cols = c->n, .use = OPS_OUT, .fixed = true, .exact = true});
    ops_add(s, (ops_slot){.name = "scales2", .dtype = CAD_F32, .rows = 1, .cols = cad_ceil_div(c->n, CAD_SCALE_BLOCK), .use = OPS_OUT, .fixed = true, .exact = true});
    ops_add(s, (ops_slot){.name = "offset", .dtype = CAD_F32, .rows = 1, .cols = 1, .use = OPS_OUT, .fixed = true, .exact = true});
}

static cad_status call_nest(cad_device *d, const ops_case *c, const ops_sheet *s)
{
    (void)c;
    return cad_nest(d, &(cad_nest_args){ops_t(s, "scales"), ops_t(s, "scales2"), ops_t(s, "offset"), ops_t(s, "from")});
}

static const ops_op nest = {"nest", fill_nest, call_nest, NULL, false};

#define CODED(OP, M, N, K, IN, OUT, ...) {.op = &OP, .m = M, .n = N, .k = K, .in = CAD_##IN, .out = CAD_##OUT, .terms = K, __VA_ARGS__}
#define CODED_CASES                                                                                                                                              \
    CODED(coded_matmul, 1, 1, 1, F32, F32, .kind = CAD_NF4, .alpha = 1), CODED(coded_matmul, 7, 13, 5, F32, F32, .kind = CAD_FP4, .alpha = 1, .flags = TB),                              \
    CODED(coded_matmul, 33, 65, 129, F32, F32, .kind = CAD_NF4, .alpha = 1, .flags = TB), CODED(coded_matmul, 33, 65, 129, F32, F32, .kind = CAD_NF4, .alpha = 2, .beta = -1, .flags = MORE), \
    CODED(coded_matmul, 130, 97, 64, BF16, BF16, .kind = CAD_NF4, .alpha = 1, .flags = TB | MORE), CODED(coded_matmul, 130, 97, 64, BF16, F32, .kind = CAD_FP4, .alpha = 1, .beta = 1, .flags = MORE), \
    CODED(coded_matmul, 40, 300, 1000, BF16, BF16, .kind = CAD_NF4, .alpha = 1, .flags = TB | BIAS), CODED(coded_matmul, 33, 65, 29, BF16, BF16, .kind = CAD_NF4, .alpha = 1, .alpha2 = 2, .k2 = 3, .beta = 1),                \
    CODED(coded_matmul, 33, 65, 29, F32, F32, .kind = CAD_INT8, .alpha = 1, .alpha2 = 2, .k2 = 8, .flags = TB), CODED(coded_matmul, 33, 65, 129, BF16, BF16, .kind = CAD_INT8, .alpha = 1),       \
    CODED(coded_matmul, 800, 48, 96, F32, F32, .kind = CAD_NF4, .alpha = 1, .flags = TB), CODED(coded_matmul, 9, 1700, 80, F32, F32, .kind = CAD_INT8, .alpha = 1), CODED(coded_matmul, 0, 3, 4, F32, F32, .kind = CAD_NF4, .alpha = 1),         \
    CODED(coded_matmul, 6, 50, 33, F32, F32, .kind = CAD_NF4, .alpha = 1, .flags = TA), CODED(coded_matmul, 300, 200, 70, BF16, BF16, .kind = CAD_FP4, .alpha = 1, .flags = TA | TB),      \
    CODED(coded_matmul, 1, 261, 192, BF16, BF16, .kind = CAD_NF4, .alpha = 1, .flags = TB | MORE), CODED(coded_matmul, 4, 150, 448, BF16, F32, .kind = CAD_FP4, .alpha = 2, .beta = 1, .flags = TB | BIAS),  \
    CODED(coded_matmul, 2, 131, 256, F32, F32, .kind = CAD_NF4, .alpha = 1, .flags = TB | MORE), CODED(coded_matmul, 3, 200, 100, BF16, BF16, .kind = CAD_NF4, .alpha = 1, .flags = TB),   \
    CODED(coded_matmul, 26, 130, 576, BF16, BF16, .kind = CAD_NF4, .alpha = 1, .flags = TB | MORE), CODED(coded_matmul, 7, 203, 1088, BF16, F32, .kind = CAD_FP4, .alpha = 2, .alpha2 = 0, .beta = 1, .flags = TB | BIAS),  \
    CODED(coded_matmul, 1, 70, 4864, BF16, BF16, .kind = CAD_NF4, .alpha = 1, .flags = TB | MORE), CODED(coded_matmul, 1, 40, 1100, F32, F32, .kind = CAD_INT8, .alpha = 1, .flags = TB), CODED(coded_matmul, 1, 3, 32832, F32, F32, .kind = CAD_NF4, .alpha = 1, .flags = TB),           \
    CODED(coded_matmul, 1, 1, 1, F32, F32, .kind = CAD_INT8, .alpha = 1, .flags = TB, .softcap = 6), CODED(coded_matmul, 7, 13, 5, F32, F32, .kind = CAD_INT8, .alpha = 1, .flags = TB, .softcap = 1e-9),                              \
    CODED(coded_matmul, 33, 65, 129, F32, F32, .kind = CAD_INT8, .alpha = 2, .beta = -1, .flags = TB | BIAS, .softcap = 2.5), CODED(coded_matmul, 70, 300, 1100, BF16, BF16, .kind = CAD_INT8, .alpha = 1, .flags = TB | BIAS, .softcap = 3),                              \
    CODED(coded_matmul, 33, 65, 29, F32, F32, .kind = CAD_INT8, .alpha = 1, .alpha2 = 2, .k2 = 8, .beta = 1, .flags = TB, .softcap = 2), CODED(coded_matmul, 0, 3, 4, F32, F32, .kind = CAD_INT8, .alpha = 1, .flags = TB, .softcap = 6), \
    CODED(dequantise, 1, 1, 1, F32, F32, .kind = CAD_NF4), CODED(dequantise, 3, 33, 1, F32, F32, .kind = CAD_NF4), CODED(dequantise, 9, 31, 1, F32, BF16, .kind = CAD_FP4, .flags = MORE), CODED(dequantise, 300, 192, 1, F32, BF16, .kind = CAD_NF4, .flags = MORE), \
    CODED(dequantise, 5, 70, 1, F32, F32, .kind = CAD_INT8), CODED(dequantise, 7, 5000, 1, F32, BF16, .kind = CAD_INT8), CODED(dequantise, 2, 20001, 1, F32, F32, .kind = CAD_FP4),                    \
    CODED(coded_groups, 1, 1, 1, F32, F32, .kind = CAD_NF4, .k2 = 1), CODED(coded_groups, 40, 24, 16, F32, F32, .kind = CAD_NF4, .k2 = 5), CODED(coded_groups, 40, 9, 7, F32, F32, .kind = CAD_FP4, .k2 = 5, .flags = TB | MORE), \
    CODED(coded_groups, 130, 96, 64, BF16, BF16, .kind = CAD_NF4, .k2 = 16, .flags = MORE), CODED(coded_groups, 130, 96, 64, BF16, F32, .kind = CAD_NF4, .k2 = 16, .flags = TB), CODED(coded_groups, 20, 30, 11, BF16, BF16, .kind = CAD_INT8, .k2 = 4), \
    CODED(dequantise_rows, 3, 33, 8, F32, F32, .kind = CAD_NF4), CODED(dequantise_rows, 7, 100, 40, F32, BF16, .kind = CAD_FP4, .flags = MORE), CODED(dequantise_rows, 2, 70, 5, F32, F32, .kind = CAD_INT8), \
    CODED(quantise, 1, 1, 1, F32, F32, .kind = CAD_NF4), CODED(quantise, 3, 33, 1, F32, F32, .kind = CAD_FP4), CODED(quantise, 300, 192, 1, BF16, F32, .kind = CAD_NF4), CODED(quantise, 1, 50001, 1, F32, F32, .kind = CAD_NF4), \
    CODED(quantise, 5, 70, 1, F32, F32, .kind = CAD_INT8), CODED(quantise, 3, 2500, 1, BF16, F32, .kind = CAD_INT8),                                                                    \
    CODED(nest, 1, 1, 1, F32, F32, .kind = CAD_NF4), CODED(nest, 1, 1000, 1, F32, F32, .kind = CAD_NF4)
#endif
