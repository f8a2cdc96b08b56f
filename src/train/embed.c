/* `embed`. */
#include "train_priv.h"

#include <stdio.h>

static cad_status print_vector(const float *v, int64_t n)
{
    cad_json j = {0};
    cad_status status = cad_json_begin(&j, NULL, '{');

    if (!status) status = cad_json_begin(&j, "embedding", '[');
    for (int64_t i = 0; i < n && !status; i++) status = cad_json_real(&j, NULL, (double)v[i]);
    if (!status) status = cad_json_end(&j);
    if (!status) status = cad_json_end(&j);
    if (!status) puts(j.text.data);
    cad_json_close(&j);
    return status;
}

/* The tail's parameters are needed once more after the forward. */
static cad_status embed_row(cad_run *r, cad_batch *b, int64_t row, cad_pooling how, float *out)
{
    static const double ones[2] = {1, 1};
    int tail = r->params->units - 1;
    cad_unit_view w;

    CAD_TRY(cad_batch_pack(b, r->test.data, &row, 1, ones));
    b->head->atom = 0;
    b->labels = NULL; /* no loss */
    CAD_TRY(cadp_forward(r, b, false));
    CAD_TRY(cad_zero_fetch(r->zero, tail));
    CAD_TRY(cad_zero_use(r->zero, tail, &w));
    CAD_TRY(cad_model_embedding(r->model, w, how, out));
    CAD_TRY(cad_zero_release(r->zero, tail));
    return r->rank ? CAD_OK : print_vector(out, r->arch.hidden);
}

cad_status cad_run_embed(cad_run *r, cad_pooling how)
{
    int64_t count = r->test.count;
    cad_batch b = {0};
    float *out = NULL;
    cad_status status;

    if (r->size > 1) return cad_fail(CAD_EUSAGE, "embed: expected one rank, found %d", r->size);
    if (!(status = cad_batch_open(&b, r->facts.tokens, r->facts.sequences, 0))) status = cad_alloc(&out, (size_t)r->arch.hidden, sizeof *out, "an embedding");
    for (int64_t i = 0; i < count && !status; i++) status = embed_row(r, &b, i, how, out);
    cad_free(&out);
    cad_batch_close(&b);
    return status;
}
