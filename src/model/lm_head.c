/* The tail of a language model: only tokens with a target are looked at, and their logits over the vocabulary exist for a few rows at a time. */
#include "model_priv.h"

static int tail_unit(const cad_model *m) { return m->arch->layers + 1; }

static cad_tensor predicted(const cad_model *m, cad_tensor t) { return cad_slice(t, 0, m->predicted); }

/* [vocabulary, hidden]: of its own, or the table of words. */
static cad_tensor head_of(const cad_model *m, cad_unit_view w) { return m->arch->tied ? m->tied : cadp_weight(m, w, cadp_find(m, tail_unit(m), CAD_ROLE_LM_HEAD, CAD_PIECE_WEIGHT)); }

/* Where the head's gradient goes: none where it is frozen. */
static cad_tensor head_grad(const cad_model *m, void *grads) { return m->arch->tied ? m->dtied : cadp_grad(m, grads, cadp_find(m, tail_unit(m), CAD_ROLE_LM_HEAD, CAD_PIECE_WEIGHT)); }

/* The table's own place takes one micro-batch. */
static bool adds(const cad_model *m) { return m->add && !m->arch->tied; }

static bool head_trains(const cad_model *m)
{
    int row = m->arch->tied ? cadp_find(m, 0, CAD_ROLE_EMBED, CAD_PIECE_WEIGHT) : cadp_find(m, tail_unit(m), CAD_ROLE_LM_HEAD, CAD_PIECE_WEIGHT);

    return m->params->row[row].trains;
}

int64_t cad_model_screen_bytes(const cad_model *m) { return cad_some(m->screen) ? m->screen.cols : 0; }

int cad_model_head_unit(const cad_model *m) { return m->arch->tied ? 0 : tail_unit(m); }

static cad_status make_screen(cad_model *m, cad_tensor head)
{
    if (!cad_some(m->screen) || m->screened) return CAD_OK;
    m->screened = true;
    return cad_make_screen(m->device, m->screen, head);
}

cad_status cad_model_make_screen(cad_model *m, cad_unit_view w)
{
    int unit = cad_model_head_unit(m);

    return make_screen(m, cadp_weight(m, w, cadp_find(m, unit, m->arch->tied ? CAD_ROLE_EMBED : CAD_ROLE_LM_HEAD, CAD_PIECE_WEIGHT)));
}

static cad_status next_logits(cad_model *m, cad_tensor head, cad_tensor x, cad_tensor logits)
{
    CAD_TRY(make_screen(m, head));
    return cad_matmul(m->device, &(cad_matmul_args){.c = logits, .a = x, .b = head, .tb = true, .alpha = 1, .screen = m->screen});
}

/* Rows [from, from + n) of what is predicted: logits, losses, and (gradient) their gradient with that of the rows and of the head. */
static cad_status part(cad_model *m, cad_tensor head, int64_t from, int64_t n, bool gradient, cad_tensor dhead)
{
    cad_tensor x = cad_slice(m->norm, from, n), logits = cad_slice(m->vocab, 0, n), d = gradient ? cad_slice(m->dvocab, 0, n) : (cad_tensor){0};

    if (m->generating) return next_logits(m, head, x, logits);
    CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = logits, .a = x, .b = head, .tb = true, .alpha = 1}));
    CAD_TRY(cad_xent(m->device, &(cad_xent_args){.logits = logits, .dlogits = d, .nll = cad_slice(m->nll, from, n), .labels = cad_slice(m->targets, from, n),
                                                 .weights = cad_slice(m->target_weights, from, n), .scale = m->scale, .softcap = m->arch->final_softcap}));
    if (!gradient) return CAD_OK;
    if (cad_some(dhead)) CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = dhead, .a = d, .ta = true, .b = x, .alpha = 1, .beta = from || adds(m) ? 1 : 0}));
    return cad_matmul(m->device, &(cad_matmul_args){.c = cad_slice(m->dpicked, from, n), .a = d, .b = head, .alpha = 1});
}

static cad_status all_parts(cad_model *m, cad_tensor head, bool gradient, cad_tensor dhead)
{
    int64_t each = m->vocab.rows;

    for (int64_t from = 0; from < m->predicted; from += each) CAD_TRY(part(m, head, from, cad_min(each, m->predicted - from), gradient, dhead));
    return CAD_OK;
}

/* Where the head is frozen its rows' gradient is made at once: their logits are there. */
cad_status cadp_lm_forward(cad_model *m, cad_unit_view w)
{
    cad_tensor rows = predicted(m, m->full);

    CAD_TRY(cad_gather(m->device, &(cad_gather_args){.y = rows, .x = cadp_hidden(m, m->arch->layers), .index = predicted(m, m->pick)}));
    CAD_TRY(cadp_norm_forward(m, tail_unit(m), CAD_ROLE_FINAL_NORM, w, predicted(m, m->norm), rows, predicted(m, m->rstd), (cad_tensor){0}));
    return all_parts(m, head_of(m, w), m->training && !head_trains(m), (cad_tensor){0});
}

cad_status cadp_lm_backward(cad_model *m, cad_unit_view w, void *grads)
{
    cad_tensor d = predicted(m, m->dpicked), dhead = head_grad(m, grads);

    if (head_trains(m)) CAD_TRY(all_parts(m, head_of(m, w), true, dhead));
    if (cad_some(dhead) && !m->predicted && !adds(m)) CAD_TRY(cad_device_zero(m->device, dhead.data, dhead.rows * dhead.cols * (int64_t)cad_dtype_bytes(dhead.dtype)));
    CAD_TRY(cadp_norm_backward(m, tail_unit(m), CAD_ROLE_FINAL_NORM, w, grads, d, d, predicted(m, m->full), predicted(m, m->rstd), (cad_tensor){0}, false));
    return cad_gather(m->device, &(cad_gather_args){.y = cadp_rows(m, m->dh), .x = d, .index = cadp_rows(m, m->place)});
}
