#include "model_priv.h"

#include <math.h>

cad_tensor cadp_hidden(const cad_model *m, int block) { return cadp_rows(m, m->h[m->hs == 2 ? block % 2 : block]); }

/* Cosine and sine of table `which` at (p, j): angles in fp32 as Transformers takes them (families 4.2); in double only in the double-precision build. A
 * temperature is no angle but a length. */
typedef struct turn { const cad_model *m; int which; const float *f; } turn;

static void turn_at(const turn *t, int64_t p, int64_t j, double *cosine, double *sine)
{
    const cad_arch *a = t->m->arch;

    if (t->which == CADP_TEMPERATURE) {
        float grown = 1 + (float)a->temperature * log1pf(floorf(((float)p + 1) / (float)a->temperature_floor));
        *cosine = (double)grown;
        *sine = 0;
    } else if (t->m->real == CAD_F64) {
        *cosine = cos((double)p * (double)t->f[j]);
        *sine = sin((double)p * (double)t->f[j]);
    } else {
        *cosine = (double)cosf((float)p * t->f[j]);
        *sine = (double)sinf((float)p * t->f[j]);
    }
}

static void fill_rotation(const turn *t, void *cosine, void *sine)
{
    int64_t half = t->m->arch->head_dim / 2;

    for (int64_t p = 0; p < t->m->limits.positions; p++)
        for (int64_t j = 0; j < half; j++) {
            int64_t i = p * half + j;
            double c, s;
            turn_at(t, p, j, &c, &s);
            if (t->m->real == CAD_F64) {
                ((double *)cosine)[i] = c;
                ((double *)sine)[i] = s;
            } else {
                ((float *)cosine)[i] = (float)c;
                ((float *)sine)[i] = (float)s;
            }
        }
}

static cad_status upload_rotation(cad_model *m, int which, float *f, void *c, void *s, int64_t elems)
{
    int64_t bytes = elems * (int64_t)cad_dtype_bytes(m->real);

    if (which != CADP_TEMPERATURE) cad_rope_frequencies(which == CADP_ROPE_LOCAL ? &m->arch->rope_local : &m->arch->rope, m->arch->head_dim, f);
    fill_rotation(&(turn){m, which, f}, c, s);
    CAD_TRY(cad_device_upload(m->device, m->cosine[which].data, c, bytes));
    return cad_device_upload(m->device, m->sine[which].data, s, bytes);
}

static bool uses_table(const cad_arch *a, int which)
{
    for (int i = 0; i < a->layers; i++)
        if (which == CADP_TEMPERATURE ? a->rope_of[i] < 0 && a->temperature > 0 : a->rope_of[i] == which) return true;
    return false;
}

static cad_status make_rotation(cad_model *m, cad_arena *a, int which)
{
    int64_t half = m->arch->head_dim / 2, elems = m->limits.positions * half;
    float *f = NULL;
    void *c = NULL, *s = NULL;
    cad_status status;

    if (!uses_table(m->arch, which)) return CAD_OK;
    CAD_TRY(cad_arena_tensor(a, CAD_MEM_WORK, "rotation table", m->real, m->limits.positions, half, &m->cosine[which]));
    CAD_TRY(cad_arena_tensor(a, CAD_MEM_WORK, "rotation table", m->real, m->limits.positions, half, &m->sine[which]));
    if (cad_device_pretends(m->device)) return CAD_OK;
    if (!(status = cad_alloc(&f, (size_t)half, sizeof *f, "the rotation table")) && !(status = cad_alloc(&c, (size_t)elems, 8, "the rotation table")) &&
        !(status = cad_alloc(&s, (size_t)elems, 8, "the rotation table")))
        status = upload_rotation(m, which, f, c, s, elems);
    cad_free(&f);
    cad_free(&c);
    cad_free(&s);
    return status;
}

/* Transformers keeps the embeddings' factor in their dtype (families 4.4). */
static double embed_scale(const cad_model *m)
{
    float s = (float)m->arch->embed_scale;

    return m->act == CAD_BF16 ? (double)cad_bf16_to_f32(cad_f32_to_bf16(s)) : (double)s;
}

static cad_status check_positions(const cad_model *m)
{
    if (!*m->arch->names.embed_position || m->limits.positions <= m->arch->max_positions) return CAD_OK;
    return cad_fail(CAD_EMODEL, "max_length: expected at most the %lld positions that this model has learned (max_position_embeddings), found sequences of up to %lld tokens",
                    (long long)m->arch->max_positions, (long long)m->limits.positions);
}

static cad_status build(cad_model *m, cad_arena *arena)
{
    m->real = m->act == CAD_F64 ? CAD_F64 : CAD_F32;
    m->embed_scale = embed_scale(m);
    CAD_TRY(check_positions(m));
    CAD_TRY(cadp_linears_build(m));
    CAD_TRY(cadp_take_memory(m, arena));
    CAD_TRY(cad_ramp_open(&m->ramp, m->device, m->limits.tokens * 4 + m->limits.sequences * 12 + 4 + cadp_columns_bytes(m), "batches on their way to the device"));
    for (int i = 0; i < CADP_TABLES; i++) CAD_TRY(make_rotation(m, arena, i));
    return CAD_OK;
}

cad_status cad_model_open(cad_model **out, const cad_arch *arch, const cad_params *params, const cad_method *method, cad_arena *arena, const cad_limits *limits)
{
    cad_model *m;
    cad_status status;

    CAD_TRY(cad_alloc(out, 1, sizeof **out, "the model"));
    m = *out;
    m->arch = arch;
    m->params = params;
    m->method = *method;
    m->device = arena->device;
    m->limits = *limits;
    m->act = method->compute;
    if ((status = build(m, arena))) cad_model_close(out);
    return status;
}

void cad_model_close(cad_model **m)
{
    if (!*m) return;
    cad_free(&(*m)->linear);
    cad_free(&(*m)->h);
    cad_free(&(*m)->slot);
    cad_free(&(*m)->positions);
    cad_free(&(*m)->chunk_starts);
    cad_free(&(*m)->picks);
    cad_free(&(*m)->pick_weights);
    cad_free(&(*m)->columns_host);
    cad_ramp_close(&(*m)->ramp);
    cad_lane_close(&(*m)->ahead.lane);
    cad_free(&(*m)->keys);
    cad_free(&(*m)->values);
    cad_free(&(*m)->seats_host);
    cad_free(&(*m)->spots_host);
    cad_free(m);
}

int cad_model_units(const cad_model *m) { return m->arch->layers + 2; }

/* Chunks of sequences are sequences of their own to attention. */
static cad_status start_chunks(cad_model *m, const cad_model_batch *b)
{
    int32_t n = 0, c = (int32_t)cad_min(m->arch->chunk, INT32_MAX / 2), longest = 0;

    if (!m->arch->chunk) return CAD_OK;
    for (int32_t s = 0; s < b->sequences; s++)
        for (int32_t at = b->starts[s]; at < b->starts[s + 1]; at += cad_min(c, b->starts[s + 1] - at)) {
            m->chunk_starts[n++] = at;
            longest = (int32_t)cad_max(longest, cad_min(c, b->starts[s + 1] - at));
        }
    m->chunk_starts[n] = b->tokens;
    m->chunks = (cad_packing){b->tokens, n, longest, m->chunk_starts, NULL, m->chunk_starts_dev, NULL};
    return cad_device_upload(m->device, m->chunk_starts_dev, m->chunk_starts, (int64_t)(n + 1) * 4);
}

static cad_status start_positions(cad_model *m, const cad_model_batch *b)
{
    int32_t *zeros = m->positions + b->tokens;
    int64_t bytes = (int64_t)b->tokens * 4;

    if (!m->positions) return CAD_OK;
    for (int32_t s = 0; s < b->sequences; s++)
        for (int32_t t = b->starts[s]; t < b->starts[s + 1]; t++) m->positions[t] = t - b->starts[s] + (b->past ? b->past[s] : 0);
    memset(zeros, 0, (size_t)bytes);
    m->places = m->kinds = m->packing;
    m->places.ids = m->positions;
    m->places.ids_dev = m->positions_dev;
    m->kinds.ids = zeros;
    m->kinds.ids_dev = m->zeros_dev;
    CAD_TRY(cad_device_upload(m->device, m->positions_dev, m->positions, bytes));
    return cad_device_upload(m->device, m->zeros_dev, zeros, bytes);
}

/* Which tokens have a target, and where each token's row is among them. */
static cad_status start_targets(cad_model *m, const cad_model_batch *b)
{
    int64_t n = b->tokens;
    int32_t *pick = m->picks, *place = pick + n, *target = place + n;
    cad_device *d = m->device;

    m->predicted = 0;
    for (int32_t t = 0, s = 0; t < b->tokens; t++) {
        if (t == b->starts[s + 1]) s++;
        bool has = m->generating ? t + 1 == b->starts[s + 1] : b->targets && b->targets[t] >= 0;
        place[t] = has ? (int32_t)m->predicted : INT32_MIN;
        if (!has) continue;
        if (!m->generating && b->targets[t] >= m->arch->vocab) return cad_fail(CAD_EINTERNAL, "expected targets below %lld, found %d", (long long)m->arch->vocab, b->targets[t]);
        pick[m->predicted] = t;
        target[m->predicted] = m->generating ? 0 : b->targets[t];
        m->pick_weights[m->predicted++] = m->generating ? 0 : b->target_weights[t];
    }
    CAD_TRY(cad_device_upload(d, m->pick.data, pick, m->predicted * 4));
    CAD_TRY(cad_device_upload(d, m->targets.data, target, m->predicted * 4));
    CAD_TRY(cad_device_upload(d, m->target_weights.data, m->pick_weights, m->predicted * 4));
    return cad_some(m->place) ? cad_device_upload(d, m->place.data, place, (int64_t)b->tokens * 4) : CAD_OK;
}

static cad_status start_labels(cad_model *m, const cad_model_batch *b)
{
    if (!m->has_labels) return CAD_OK;
    CAD_TRY(cad_ramp_up(m->ramp, m->labels.data, b->labels, (int64_t)b->sequences * 4));
    return cad_ramp_up(m->ramp, m->weights.data, b->weights, (int64_t)b->sequences * 4);
}

cad_status cad_model_start(cad_model *m, const cad_model_batch *b, bool training)
{
    if (b->tokens > m->limits.tokens || b->sequences > m->limits.sequences || b->longest > m->limits.positions)
        return cad_fail(CAD_EINTERNAL, "a micro-batch of %d tokens in %d sequences, longest %d, is larger than planned (%lld, %lld, %lld)", b->tokens, b->sequences, b->longest,
                        (long long)m->limits.tokens, (long long)m->limits.sequences, (long long)m->limits.positions);
    m->packing = (cad_packing){b->tokens, b->sequences, b->longest, b->starts, b->ids, m->starts_dev, m->ids_dev};
    m->training = training;
    m->margin = b->margin;
    m->has_labels = b->labels != NULL && !m->method.causal;
    m->scale = b->scale;
    m->seed_index = b->seed_index;
    m->generating = b->slots != NULL;
    CAD_TRY(cad_ramp_turn(m->ramp));
    CAD_TRY(cad_ramp_up(m->ramp, m->ids_dev, b->ids, (int64_t)b->tokens * 4));
    CAD_TRY(cad_ramp_up(m->ramp, m->starts_dev, b->starts, (int64_t)(b->sequences + 1) * 4));
    CAD_TRY(start_chunks(m, b));
    CAD_TRY(start_positions(m, b));
    if (m->generating) CAD_TRY(cadp_start_cache(m, b));
    if (m->method.causal) return start_targets(m, b);
    CAD_TRY(cadp_start_columns(m, b));
    return start_labels(m, b);
}

/* A tied head needs the table of words once more at the other end. */
static cad_status keep_table(cad_model *m, cad_unit_view w)
{
    cad_tensor table = cadp_weight(m, w, cadp_find(m, 0, CAD_ROLE_EMBED, CAD_PIECE_WEIGHT));

    if (!m->method.causal || !m->arch->tied) return CAD_OK;
    if (!m->limits.views_last) return cadp_copy(m, m->tied, table, 0);
    m->tied = table;
    return CAD_OK;
}

cad_status cad_model_forward(cad_model *m, int unit, cad_unit_view w)
{
    if (unit == 0) {
        cadp_ahead_forget(m);
        CAD_TRY(keep_table(m, w));
        return cadp_embed_forward(m, w);
    }
    return unit <= m->arch->layers ? cadp_block_forward(m, unit - 1, w) : cadp_tail_forward(m, w);
}

cad_status cad_model_backward(cad_model *m, int unit, cad_unit_view w, void *grads, bool add)
{
    m->add = add;
    if (unit == 0) return cadp_embed_backward(m, w, grads);
    return unit <= m->arch->layers ? cadp_block_backward(m, unit - 1, w, grads) : cadp_tail_backward(m, w, grads);
}

cad_status cadp_values(cad_model *m, cad_tensor t, float *out)
{
    int64_t n = t.rows * t.cols;
    double *wide = NULL;
    cad_status status;

    if (t.dtype == CAD_F32) return cad_device_download(m->device, out, t.data, n * 4);
    CAD_TRY(cad_alloc(&wide, (size_t)n, sizeof *wide, "results"));
    if (!(status = cad_device_download(m->device, wide, t.data, n * 8)))
        for (int64_t i = 0; i < n; i++) out[i] = (float)wide[i];
    cad_free(&wide);
    return status;
}

cad_status cad_model_logits(cad_model *m, float *out) { return cadp_values(m, cadp_seqs(m, m->logits), out); }

cad_status cad_model_nll(cad_model *m, double *out) { return cad_device_download(m->device, out, m->nll.data, (m->method.causal ? m->predicted : m->packing.sequences) * 8); }

cad_status cad_model_next(cad_model *m, float *out)
{
    double softcap = m->arch->final_softcap;
    int64_t n = m->predicted * m->arch->vocab;

    CAD_TRY(cadp_values(m, cad_slice(m->vocab, 0, m->predicted), out));
    for (int64_t i = 0; softcap > 0 && i < n; i++) out[i] = (float)(softcap * tanh((double)out[i] / softcap));
    return CAD_OK;
}

cad_status cad_model_embedding(cad_model *m, cad_unit_view tail, cad_pooling how, float *out)
{
    CAD_TRY(cadp_tail_feature(m, tail, how));
    return cadp_values(m, cadp_seqs(m, m->feature), out);
}

/* facts/performance.md section 0: 6 N (or 4 N for frozen weights, plus the adapters) + 6 L d s causal. */
double cad_flop_per_token(const cad_arch *a, const cad_params *p, double mean_length)
{
    double frozen = 0, trained = 0;

    for (int i = 0; i < p->count; i++) {
        const cad_param *r = &p->row[i];
        double each = r->dims == 3 ? (double)a->chosen / (double)a->experts : 1; /* a token visits few of the experts */
        if (r->dims < 2 || r->unit == 0 || r->role == CAD_ROLE_HEAD || r->role == CAD_ROLE_POOLER) continue;
        *(r->trains ? &trained : &frozen) += each * (double)r->elems;
    }
    return 6 * trained + 4 * frozen + 6.0 * a->layers * (double)(a->q_heads * a->head_dim) * mean_length;
}
