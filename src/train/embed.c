/* `embed`. */
#include "train_priv.h"

#include <stdio.h>

static cad_status print_vector(void *to, int64_t at, const void *result)
{
    const cad_run *r = to;
    const float *v = result;
    cad_json j = {0};
    cad_status status = cad_json_begin(&j, NULL, '{');

    (void)at;
    if (!status) status = cad_json_begin(&j, "embedding", '[');
    for (int64_t i = 0; i < r->arch.hidden && !status; i++) status = cad_json_real(&j, NULL, (double)v[i]);
    if (!status) status = cad_json_end(&j);
    if (!status) status = cad_json_end(&j);
    if (!status) puts(j.text.data);
    cad_json_close(&j);
    return status;
}

/* The tail's parameters are needed once more after the forward, on ranks without a row too. */
static cad_status pooled(cad_run *r, const cad_batch *b, void *out)
{
    int tail = r->params->units - 1;
    cad_unit_view w;

    CAD_TRY(cad_zero_fetch(r->zero, tail));
    CAD_TRY(cad_zero_use(r->zero, tail, &w));
    if (b->head->sequences) CAD_TRY(cad_model_embedding(r->model, w, r->embed_how, out));
    return cad_zero_release(r->zero, tail);
}

cad_status cad_run_embed(cad_run *r, cad_pooling how)
{
    r->embed_how = how;
    return cadp_ask(r, &r->test, r->test.count, &(cadp_asked){r->arch.hidden * (int64_t)sizeof(float), 1, pooled, print_vector, r}, "embedding");
}
