/* `score`: how likely a language model finds each text. */
#include "train_priv.h"

#include <math.h>
#include <stdio.h>

static cad_status print_row(void *to, int64_t i, const void *result)
{
    double sum, tokens;
    cad_json j = {0};
    cad_status status = cad_json_begin(&j, NULL, '{');

    (void)to;
    (void)i;
    memcpy(&sum, result, sizeof sum);
    memcpy(&tokens, (const char *)result + sizeof sum, sizeof tokens);
    if (!status) status = cad_json_int(&j, "tokens", (int64_t)tokens);
    if (!status) status = cad_json_real(&j, "sum_nll", sum);
    if (!status) status = cad_json_real(&j, "mean_nll", tokens > 0 ? sum / tokens : NAN);
    if (!status) status = cad_json_end(&j);
    if (!status) puts(j.text.data);
    cad_json_close(&j);
    return status;
}

cad_status cad_run_score(cad_run *r)
{
    return cadp_ask(r, &r->test, r->test.count, &(cadp_asked){2 * (int64_t)sizeof(double), r->facts.sequences, cadp_loss_sums, print_row, NULL}, "scoring");
}
