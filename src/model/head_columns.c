/* Columns of a record beside its text: logits += terms W' + the score that the log-odds begin with (label 1). */
#include "model_priv.h"

static int64_t one_row(const cad_model *m) { return m->method.columns * (int64_t)cad_dtype_bytes(m->act) + m->method.num_labels * (int64_t)cad_dtype_bytes(m->real); }

int64_t cadp_columns_bytes(const cad_model *m) { return m->method.columns ? m->limits.sequences * one_row(m) : 0; }

cad_status cadp_take_columns(cad_model *m, cad_arena *a)
{
    if (!m->method.columns) return CAD_OK;
    CAD_TRY(cad_alloc(&m->columns_host, 1, (size_t)cadp_columns_bytes(m) + 8, "columns beside the text"));
    CAD_TRY(cad_arena_tensor(a, CAD_MEM_WORK, "columns beside the text", m->act, m->limits.sequences, m->method.columns, &m->columns));
    return cad_arena_tensor(a, CAD_MEM_WORK, "scores beside the text", m->real, m->limits.sequences, m->method.num_labels, &m->offset);
}

static void store(void *to, cad_dtype as, int64_t i, float x)
{
    if (as == CAD_F32) ((float *)to)[i] = x;
    else if (as == CAD_F64) ((double *)to)[i] = (double)x;
    else ((uint16_t *)to)[i] = cad_f32_to_bf16(x);
}

cad_status cadp_start_columns(cad_model *m, const cad_model_batch *b)
{
    int64_t n = m->method.columns, labels = m->method.num_labels, terms_bytes = b->sequences * n * (int64_t)cad_dtype_bytes(m->act);
    char *host = m->columns_host, *offsets = host + cad_round_up(m->limits.sequences * n * (int64_t)cad_dtype_bytes(m->act), 8);

    if (!n) return CAD_OK;
    for (int64_t i = 0; i < b->sequences; i++) {
        const float *row = b->beside ? b->beside + i * (n + 1) : NULL;
        for (int64_t k = 0; k < n; k++) store(host, m->act, i * n + k, row ? row[k + 1] : 0);
        for (int64_t k = 0; k < labels; k++) store(offsets, m->real, i * labels + k, row && k == 1 ? row[0] : 0);
    }
    CAD_TRY(cad_ramp_up(m->ramp, m->columns.data, host, terms_bytes));
    return cad_ramp_up(m->ramp, m->offset.data, offsets, b->sequences * labels * (int64_t)cad_dtype_bytes(m->real));
}

static int weight_row(const cad_model *m) { return cadp_find(m, m->arch->layers + 1, CAD_ROLE_COLUMNS, CAD_PIECE_WEIGHT); }

cad_status cadp_columns_forward(cad_model *m, cad_unit_view w)
{
    cad_tensor logits = cadp_seqs(m, m->logits);

    if (!m->method.columns) return CAD_OK;
    CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = logits, .a = cadp_seqs(m, m->columns), .b = cadp_weight(m, w, weight_row(m)), .tb = true, .alpha = 1, .beta = 1}));
    return cadp_copy(m, logits, cadp_seqs(m, m->offset), 1);
}

cad_status cadp_columns_backward(cad_model *m, void *grads)
{
    cad_tensor dw = m->method.columns ? cadp_grad(m, grads, weight_row(m)) : (cad_tensor){0};

    if (!cad_some(dw)) return CAD_OK;
    return cad_matmul(m->device, &(cad_matmul_args){.c = dw, .a = cadp_seqs(m, m->dlogits), .ta = true, .b = cadp_seqs(m, m->columns), .alpha = 1, .beta = m->add});
}
