#include "data_priv.h"

/* head | ids | starts | labels | rows | weights | columns | given, each part on a multiple of 8 bytes. */

static size_t part(int64_t n, size_t each) { return ((size_t)n * each + 7) / 8 * 8; }

size_t cad_batch_bytes(int64_t tokens, int64_t sequences, int64_t width)
{
    return part(1, sizeof(cad_batch_head)) + part(tokens, 4) + part(sequences + 1, 4) + 3 * part(sequences, 4) + part(sequences * width, 4) + part(tokens, 1);
}

/* The fields of a message that comes from elsewhere are numbers like any other: they may be wrong. */
cad_status cad_batch_layout(cad_batch *b, int64_t tokens, int64_t sequences)
{
    char *at = b->memory;

    if (tokens < 0 || sequences < 0 || tokens > INT32_MAX || sequences > INT32_MAX || cad_batch_bytes(tokens, sequences, b->width) > b->room)
        return cad_fail(CAD_EINTERNAL, "a batch of %lld tokens in %lld sequences does not fit into its %zu bytes", (long long)tokens, (long long)sequences, b->room);
    b->bytes = cad_batch_bytes(tokens, sequences, b->width);
    b->head = (cad_batch_head *)at;
    b->ids = (int32_t *)(at += part(1, sizeof *b->head));
    b->starts = (int32_t *)(at += part(tokens, 4));
    b->labels = (int32_t *)(at += part(sequences + 1, 4));
    b->rows = (int32_t *)(at += part(sequences, 4));
    b->weights = (float *)(at += part(sequences, 4));
    at += part(sequences, 4);
    b->beside = b->width ? (float *)at : NULL;
    b->given = (uint8_t *)(at + part(sequences * b->width, 4));
    return CAD_OK;
}

cad_status cad_batch_open(cad_batch *b, int64_t max_tokens, int64_t max_sequences, int64_t width)
{
    *b = (cad_batch){.width = width};
    CAD_ASSERT(max_tokens >= 0 && max_sequences >= 0 && width >= 0);
    if (max_tokens > INT32_MAX || max_sequences >= INT32_MAX)
        return cad_fail(CAD_EUSAGE, "a micro-batch of %lld tokens is too large: at most %d", (long long)max_tokens, INT32_MAX);
    b->room = cad_batch_bytes(max_tokens, max_sequences, width);
    CAD_TRY(cad_alloc(&b->memory, b->room, 1, "a packed batch"));
    return cad_batch_layout(b, 0, 0);
}

void cad_batch_close(cad_batch *b)
{
    cad_free(&b->memory);
    *b = (cad_batch){0};
}

cad_status cad_batch_pack(cad_batch *b, const cad_dataset *d, const int64_t *rows, int64_t count, const double class_weight[2])
{
    int64_t tokens = 0, at = 0;

    for (int64_t i = 0; i < count; i++) {
        CAD_ASSERT(!d->beside || b->width == d->beside_width);
        CAD_ASSERT(rows[i] >= 0 && rows[i] < d->count);
        tokens += d->starts[rows[i] + 1] - d->starts[rows[i]];
    }
    CAD_TRY(cad_batch_layout(b, tokens, count));
    b->head->tokens = (int32_t)tokens;
    b->head->sequences = (int32_t)count;
    b->starts[0] = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t row = rows[i], n = d->starts[row + 1] - d->starts[row];
        int32_t label = d->labels[row];
        memcpy(b->ids + at, d->ids + d->starts[row], (size_t)n * sizeof *b->ids);
        if (d->given) memcpy(b->given + at, d->given + d->starts[row], (size_t)n);
        else memset(b->given + at, 0, (size_t)n);
        b->starts[i + 1] = (int32_t)(at += n);
        b->labels[i] = label;
        b->rows[i] = (int32_t)row;
        b->weights[i] = label < 0 ? 0 : (float)(class_weight[label] * (d->row_weights ? d->row_weights[row] : 1));
        if (d->beside && b->width) memcpy(b->beside + i * b->width, d->beside + row * b->width, (size_t)b->width * sizeof *b->beside);
    }
    return CAD_OK;
}

double cad_step_scale(cad_normalization n, double step_weights, double atom_weights, int world, int64_t micros)
{
    double sum = n == CAD_NORM_GLOBAL ? step_weights : atom_weights * (double)world;

    if (n == CAD_NORM_HF_MEAN) sum *= (double)micros;
    return sum > 0 ? 1 / sum : 0;
}
