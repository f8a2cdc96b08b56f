/* Operations on rows of activations. */
#include "ops_priv.h"

/* Columns normed together; the number of such runs is cols / width. */
static cad_status check_width(const cadp_call *c, int64_t width, int64_t cols)
{
    CAD_TRY(cadp_need(c, width >= 0, "width >= 0", (double)width));
    return cadp_need(c, !width || cols % width == 0, "columns to be a multiple of width", (double)cols);
}

cad_status cadp_describe_rmsnorm_fwd(cadp_call *c, const cad_rmsnorm_args *x)
{
    int64_t rows = x->x.rows, cols = x->x.cols, width = x->width ? x->width : cols;

    CAD_TRY(check_width(c, x->width, cols));
    cadp_write(c, "y", x->y, CADP_REAL, rows, cols);
    if (cad_some(x->plus)) cadp_twin(c, "plus");
    cadp_read(c, "x", x->x, CADP_REAL, rows, cols);
    if (cad_some(x->plus)) cadp_read(c, "plus", x->plus, CADP_REAL, rows, cols);
    if (cad_some(x->w)) cadp_read(c, "w", x->w, CADP_REAL, 1, width);
    cadp_write(c, "rstd", x->rstd, CADP_WIDE, rows, width ? cols / width : 1);
    return cadp_need(c, x->eps >= 0, "eps >= 0", x->eps);
}

cad_status cadp_describe_rmsnorm_bwd(cadp_call *c, const cad_rmsnorm_bwd_args *x)
{
    int64_t rows = x->x.rows, cols = x->x.cols, width = x->width ? x->width : cols;

    CAD_TRY(check_width(c, x->width, cols));
    (x->accumulate ? cadp_update : cadp_write)(c, "dx", x->dx, CADP_REAL, rows, cols);
    if (!x->accumulate) cadp_twin(c, "dy");
    if (cad_some(x->dw)) (x->accumulate_dw ? cadp_update : cadp_write)(c, "dw", x->dw, CADP_WIDE, 1, width);
    cadp_read(c, "dy", x->dy, CADP_REAL, rows, cols);
    cadp_read(c, "x", x->x, CADP_REAL, rows, cols);
    if (cad_some(x->w)) cadp_read(c, "w", x->w, CADP_REAL, 1, width);
    cadp_read(c, "rstd", x->rstd, CADP_WIDE, rows, width ? cols / width : 1);
    return CAD_OK;
}

cad_status cadp_describe_layernorm_fwd(cadp_call *c, const cad_layernorm_args *x)
{
    int64_t rows = x->x.rows, cols = x->x.cols;

    cadp_write(c, "y", x->y, CADP_REAL, rows, cols);
    cadp_read(c, "x", x->x, CADP_REAL, rows, cols);
    cadp_read(c, "w", x->w, CADP_REAL, 1, cols);
    cadp_read(c, "b", x->b, CADP_REAL, 1, cols);
    cadp_write(c, "mean", x->mean, CADP_WIDE, rows, 1);
    cadp_write(c, "rstd", x->rstd, CADP_WIDE, rows, 1);
    return cadp_need(c, x->eps >= 0, "eps >= 0", x->eps);
}

cad_status cadp_describe_layernorm_bwd(cadp_call *c, const cad_layernorm_bwd_args *x)
{
    int64_t rows = x->x.rows, cols = x->x.cols;

    cadp_write(c, "dx", x->dx, CADP_REAL, rows, cols);
    cadp_twin(c, "dy");
    if (cad_some(x->dw)) (x->accumulate_dw ? cadp_update : cadp_write)(c, "dw", x->dw, CADP_WIDE, 1, cols);
    if (cad_some(x->db)) (x->accumulate_dw ? cadp_update : cadp_write)(c, "db", x->db, CADP_WIDE, 1, cols);
    cadp_read(c, "dy", x->dy, CADP_REAL, rows, cols);
    cadp_read(c, "x", x->x, CADP_REAL, rows, cols);
    cadp_read(c, "w", x->w, CADP_REAL, 1, cols);
    cadp_read(c, "mean", x->mean, CADP_WIDE, rows, 1);
    cadp_read(c, "rstd", x->rstd, CADP_WIDE, rows, 1);
    return CAD_OK;
}

cad_status cadp_describe_glu_fwd(cadp_call *c, const cad_glu_args *x)
{
    unsigned same = cadp_as(x->gate, CADP_REAL);

    cadp_read(c, "gate", x->gate, CADP_REAL, x->gate.rows, x->gate.cols);
    if (cad_some(x->up)) cadp_read(c, "up", x->up, same, x->gate.rows, x->gate.cols);
    cadp_write(c, "m", x->m, same, x->gate.rows, x->gate.cols);
    return CAD_OK;
}

cad_status cadp_describe_glu_bwd(cadp_call *c, const cad_glu_bwd_args *x)
{
    int64_t rows = x->gate.rows, cols = x->gate.cols;
    unsigned same = cadp_as(x->gate, CADP_REAL);

    cadp_read(c, "gate", x->gate, CADP_REAL, rows, cols);
    if (cad_some(x->up)) cadp_read(c, "up", x->up, same, rows, cols);
    cadp_read(c, "dm", x->dm, same, rows, cols);
    cadp_write(c, "dgate", x->dgate, same, rows, cols);
    cadp_twin(c, "gate");
    if (cad_some(x->up)) {
        cadp_write(c, "dup", x->dup, same, rows, cols);
        cadp_twin(c, "up");
    }
    if (cad_some(x->m)) cadp_write(c, "m", x->m, same, rows, cols);
    return CAD_OK;
}

/* Rows and columns of the table as ids see it. */
static int64_t table_ids(const cad_embed_args *x) { return x->turned ? x->table.cols : x->table.rows; }
static int64_t table_width(const cad_embed_args *x) { return x->turned ? x->table.rows : x->table.cols; }

cad_status cadp_describe_embed_fwd(cadp_call *c, const cad_embed_args *x)
{
    CAD_TRY(cadp_packing(c, x->packing, cad_max(table_ids(x), 1)));
    (x->accumulate ? cadp_update : cadp_write)(c, "h", x->h, CADP_WIDE, x->packing->tokens, table_width(x));
    cadp_read(c, "table", x->table, CADP_REAL, x->table.rows, x->table.cols);
    return CAD_OK;
}

cad_status cadp_describe_embed_bwd(cadp_call *c, const cad_embed_args *x)
{
    CAD_TRY(cadp_packing(c, x->packing, cad_max(table_ids(x), 1)));
    cadp_read(c, "h", x->h, CADP_WIDE, x->packing->tokens, table_width(x));
    cadp_update(c, "table", x->table, CADP_WIDE, x->table.rows, x->table.cols);
    return cadp_need(c, x->skip >= -1 && x->skip < table_ids(x), "skip to be a row of the table or -1", (double)x->skip);
}

cad_status cadp_describe_pool_fwd(cadp_call *c, const cad_pool_args *x)
{
    CAD_TRY(cadp_packing(c, x->packing, 0));
    cadp_write(c, "y", x->y, CADP_REAL, x->packing->sequences, x->x.cols);
    cadp_read(c, "x", x->x, CADP_REAL, x->packing->tokens, x->x.cols);
    return CAD_OK;
}

cad_status cadp_describe_pool_bwd(cadp_call *c, const cad_pool_args *x)
{
    CAD_TRY(cadp_packing(c, x->packing, 0));
    cadp_read(c, "y", x->y, CADP_REAL, x->packing->sequences, x->x.cols);
    cadp_write(c, "x", x->x, CADP_REAL, x->packing->tokens, x->x.cols);
    return CAD_OK;
}

cad_status cadp_describe_xent(cadp_call *c, const cad_xent_args *x)
{
    int64_t rows = x->logits.rows, cols = x->logits.cols;

    CAD_TRY(cadp_need(c, cols >= 1, "at least one class", (double)cols));
    CAD_TRY(cadp_need(c, x->softcap >= 0, "softcap >= 0", x->softcap));
    cadp_read(c, "logits", x->logits, CADP_WIDE, rows, cols);
    cadp_read(c, "labels", x->labels, CADP_I32, rows, 1);
    cadp_write(c, "nll", x->nll, CADP_F64, rows, 1);
    if (!cad_some(x->dlogits)) return CAD_OK;
    cadp_read(c, "weights", x->weights, CADP_F32, rows, 1);
    cadp_write(c, "dlogits", x->dlogits, CADP_REAL, rows, cols);
    return CAD_OK;
}

cad_status cadp_describe_axpby(cadp_call *c, const cad_axpby_args *x)
{
    c->mixed = true;
    (x->beta == 0 ? cadp_write : cadp_update)(c, "y", x->y, CADP_REAL, x->x.rows, x->x.cols);
    cadp_twin(c, "x");
    cadp_read(c, "x", x->x, CADP_REAL, x->x.rows, x->x.cols);
    return CAD_OK;
}

cad_status cadp_describe_sum_rows(cadp_call *c, const cad_sum_rows_args *x)
{
    (x->accumulate ? cadp_update : cadp_write)(c, "y", x->y, CADP_WIDE, 1, x->x.cols);
    cadp_read(c, "x", x->x, CADP_REAL, x->x.rows, x->x.cols);
    return CAD_OK;
}

cad_status cadp_describe_scale_cols(cadp_call *c, const cad_scale_cols_args *x)
{
    c->mixed = true;
    (x->accumulate ? cadp_update : cadp_write)(c, "y", x->y, CADP_REAL, x->x.rows, x->x.cols);
    cadp_twin(c, "x");
    cadp_read(c, "x", x->x, CADP_REAL, x->x.rows, x->x.cols);
    cadp_read(c, "w", x->w, CADP_REAL, 1, x->x.cols);
    if (cad_some(x->b)) cadp_read(c, "b", x->b, CADP_REAL, 1, x->x.cols);
    return CAD_OK;
}

cad_status cadp_describe_dot_cols(cadp_call *c, const cad_dot_cols_args *x)
{
    cadp_write(c, "w", x->w, CADP_WIDE, 1, x->x.cols);
    cadp_read(c, "x", x->x, CADP_REAL, x->x.rows, x->x.cols);
    cadp_read(c, "y", x->y, CADP_REAL, x->x.rows, x->x.cols);
    return CAD_OK;
}

cad_status cadp_describe_dropout(cadp_call *c, const cad_dropout_args *x)
{
    double words = (double)x->x.rows * (double)cad_ceil_div(x->x.cols, 4);

    (x->accumulate ? cadp_update : cadp_write)(c, "y", x->y, CADP_REAL, x->x.rows, x->x.cols);
    cadp_twin(c, "x");
    cadp_read(c, "x", x->x, CADP_REAL, x->x.rows, x->x.cols);
    CAD_TRY(cadp_need(c, x->p >= 0 && x->p < 1, "p in [0, 1)", x->p));
    CAD_TRY(cadp_need(c, x->index < (uint64_t)1 << 31, "index < 2^31", (double)x->index));
    return cadp_need(c, words < 0x1p32, "rows * ceil(cols / 4) < 2^32", words);
}
