/* `score`: how likely a language model finds each text. */
#include "train_priv.h"

#include <math.h>
#include <stdio.h>

static cad_status print_row(int64_t tokens, double sum)
{
    cad_json j = {0};
    cad_status status = cad_json_begin(&j, NULL, '{');

    if (!status) status = cad_json_int(&j, "tokens", tokens);
    if (!status) status = cad_json_real(&j, "sum_nll", sum);
    if (!status) status = cad_json_real(&j, "mean_nll", tokens ? sum / (double)tokens : NAN);
    if (!status) status = cad_json_end(&j);
    if (!status) puts(j.text.data);
    cad_json_close(&j);
    return status;
}

/* As many of the rows from `first` on as fit into a batch. */
static int64_t next_rows(const cad_run *r, int64_t first, int64_t *rows)
{
    const int64_t *starts = r->test.data->starts;
    int64_t n = 0, tokens = 0;

    for (; first + n < r->test.count && n < r->facts.sequences; n++) {
        int64_t row = r->test.rows[first + n], more = starts[row + 1] - starts[row];
        if (n && tokens + more > r->facts.tokens) break;
        rows[n] = row;
        tokens += more;
    }
    return n;
}

static cad_status score_batch(cad_run *r, const cad_batch *b)
{
    const double *nll = r->nll;

    CAD_TRY(cadp_forward(r, b, false));
    CAD_TRY(cad_model_nll(r->model, r->nll));
    for (int32_t s = 0; s < b->head->sequences; s++) {
        int64_t n = b->starts[s + 1] - b->starts[s] - 1;
        double sum = 0;
        for (int64_t i = 0; i < n; i++) sum += *nll++;
        CAD_TRY(print_row(n, sum));
    }
    return CAD_OK;
}

cad_status cad_run_score(cad_run *r)
{
    static const double ones[2] = {1, 1};
    cad_batch b = {0};
    int64_t *rows = NULL, n = 0;
    cad_status status;

    if (r->size > 1) return cad_fail(CAD_EUSAGE, "score: expected one rank, found %d", r->size);
    if (!(status = cad_batch_open(&b, r->facts.tokens, r->facts.sequences, 0))) status = cad_alloc(&rows, (size_t)r->facts.sequences, sizeof *rows, "a batch");
    for (int64_t i = 0; i < r->test.count && !status; i += n) {
        n = next_rows(r, i, rows);
        if (!(status = cad_batch_pack(&b, r->test.data, rows, n, ones))) status = score_batch(r, &b);
    }
    cad_free(&rows);
    cad_batch_close(&b);
    return status;
}
