#include "model_priv.h"

#include <math.h>

static const cad_category ACT = CAD_MEM_ACTIVATIONS, WORK = CAD_MEM_WORK;

cad_tensor cadp_hidden(const cad_model *m, int block) { return cadp_rows(m, m->h[m->hs == 2 ? block % 2 : block]); }

static bool has_adapter(const cad_model *m, int which)
{
    for (int i = 0; i < m->arch->layers; i++) {
        const cadp_linear *l = &m->linear[i * CADP_LINEARS + which];
        for (int j = 0; j < l->parts; j++)
            if (l->part[j].a >= 0) return true;
    }
    return false;
}

static cad_status take_slot(cad_model *m, cad_arena *a, cadp_slot *s)
{
    const cad_arch *x = m->arch;
    int64_t t = m->limits.tokens, q = x->q_heads * x->head_dim, kv = x->kv_heads * x->head_dim;
    static const int members[CADP_LINEARS] = {3, 1, 2, 1};

    CAD_TRY(cad_arena_tensor(a, ACT, "attention norm scale", m->real, t, 1, &s->rstd1));
    CAD_TRY(cad_arena_tensor(a, ACT, "query, key, value", m->act, t, q + 2 * kv, &s->qkv));
    CAD_TRY(cad_arena_tensor(a, ACT, "attention log sums", m->real, t, x->q_heads, &s->lse));
    CAD_TRY(cad_arena_tensor(a, ACT, "attention output", m->act, t, q, &s->o));
    CAD_TRY(cad_arena_tensor(a, ACT, "residual after attention", m->real, t, x->hidden, &s->mid));
    CAD_TRY(cad_arena_tensor(a, ACT, "mlp norm scale", m->real, t, 1, &s->rstd2));
    CAD_TRY(cad_arena_tensor(a, ACT, "gate, up", m->act, t, 2 * x->intermediate, &s->gu));
    for (int i = 0; i < CADP_LINEARS && m->method.lora; i++)
        if (has_adapter(m, i)) CAD_TRY(cad_arena_tensor(a, ACT, "adapter inner values", m->act, t, members[i] * m->method.r, &s->u[i]));
    return CAD_OK;
}

static cad_status take_activations(cad_model *m, cad_arena *a)
{
    bool all = m->limits.train && !m->method.recompute;

    m->hs = m->limits.train ? m->arch->layers + 1 : 2;
    m->slots = all ? m->arch->layers : 1;
    CAD_TRY(cad_alloc(&m->h, (size_t)m->hs, sizeof *m->h, "the model"));
    CAD_TRY(cad_alloc(&m->slot, (size_t)m->slots, sizeof *m->slot, "the model"));
    for (int i = 0; i < m->hs; i++) CAD_TRY(cad_arena_tensor(a, ACT, "residual stream", m->real, m->limits.tokens, m->arch->hidden, &m->h[i]));
    for (int i = 0; i < m->slots; i++) CAD_TRY(take_slot(m, a, &m->slot[i]));
    return CAD_OK;
}

/* The MLP's and the attention's gradients are never alive together: they share one part. */
static cad_status take_shared(cad_model *m, cad_arena *a)
{
    const cad_arch *x = m->arch;
    int64_t t = m->limits.tokens, q = x->q_heads * x->head_dim, kv = x->kv_heads * x->head_dim, n = x->intermediate, each = (int64_t)cad_dtype_bytes(m->act);
    int64_t mlp = t * n * (m->limits.train ? 2 : 1), attention = m->limits.train ? t * (2 * q + 2 * kv) : 0;
    char *base;

    CAD_TRY(cad_arena_take(a, WORK, "gradients inside a block", cad_max(mlp, attention) * each, &base));
    m->m = cad_view(base, m->act, t, n);
    if (!m->limits.train) return CAD_OK;
    m->dm = cad_view(base + (size_t)(t * n * each), m->act, t, n);
    m->dqkv = cad_view(base, m->act, t, q + 2 * kv);
    m->d_o = cad_view(base + (size_t)(t * (q + 2 * kv) * each), m->act, t, q);
    return CAD_OK;
}

static cad_status take_work(cad_model *m, cad_arena *a)
{
    const cad_arch *x = m->arch;
    int64_t t = m->limits.tokens, widest = cad_max(cad_max(x->hidden, x->intermediate), x->q_heads * x->head_dim);
    bool train = m->limits.train;

    CAD_TRY(cad_arena_tensor(a, WORK, "norm output", m->act, t, x->hidden, &m->norm));
    CAD_TRY(take_shared(m, a));
    if (train) CAD_TRY(cad_arena_tensor(a, WORK, "residual gradient", m->real, t, x->hidden, &m->dh));
    if (train) CAD_TRY(cad_arena_tensor(a, WORK, "norm gradient", m->real, t, x->hidden, &m->dx));
    m->full = m->dx;
    if (!train) CAD_TRY(cad_arena_tensor(a, WORK, "normed hidden states", m->real, t, x->hidden, &m->full));
    if (train && m->act != m->real) CAD_TRY(cad_arena_tensor(a, WORK, "residual gradient, cast", m->act, t, x->hidden, &m->dcast));
    if (train && m->method.lora) CAD_TRY(cad_arena_tensor(a, WORK, "adapter gradient", m->act, t, 3 * m->method.r, &m->v));
    if (train && m->method.lora && m->method.dropout > 0) CAD_TRY(cad_arena_tensor(a, WORK, "dropped input", m->act, t, widest, &m->drop));
    return CAD_OK;
}

static cad_status take_tail(cad_model *m, cad_arena *a)
{
    int64_t n = m->limits.sequences, h = m->arch->hidden, c = m->method.num_labels;

    CAD_TRY(cad_arena_tensor(a, WORK, "final norm scale", m->real, cad_max(n, m->limits.tokens), 1, &m->rstd));
    CAD_TRY(cad_arena_tensor(a, WORK, "pooled", m->real, n, h, &m->picked));
    CAD_TRY(cad_arena_tensor(a, WORK, "features", m->real, n, h, &m->feature));
    m->pooled = m->feature;
    if (m->act != m->real) CAD_TRY(cad_arena_tensor(a, WORK, "features, cast", m->act, n, h, &m->pooled));
    CAD_TRY(cad_arena_tensor(a, WORK, "logits", m->real, n, c, &m->logits));
    CAD_TRY(cad_arena_tensor(a, WORK, "loss of each sequence", CAD_F64, n, 1, &m->nll));
    CAD_TRY(cad_arena_tensor(a, WORK, "labels", CAD_I32, n, 1, &m->labels));
    CAD_TRY(cad_arena_tensor(a, WORK, "class weights", CAD_F32, n, 1, &m->weights));
    CAD_TRY(cad_arena_take(a, WORK, "token ids", m->limits.tokens * 4, &m->ids_dev));
    CAD_TRY(cad_arena_take(a, WORK, "sequence starts", (n + 1) * 4, &m->starts_dev));
    if (!m->limits.train) return CAD_OK;
    CAD_TRY(cad_arena_tensor(a, WORK, "logit gradient", m->act, n, c, &m->dlogits));
    return cad_arena_tensor(a, WORK, "feature gradient", m->real, n, h, &m->dfeature);
}

static void fill_rotation(const cad_model *m, const float *f, void *cosine, void *sine)
{
    int64_t half = m->arch->head_dim / 2;

    for (int64_t p = 0; p < m->limits.positions; p++)
        for (int64_t j = 0; j < half; j++) {
            int64_t i = p * half + j;
            if (m->real == CAD_F64) {
                ((double *)cosine)[i] = cos((double)p * f[j]);
                ((double *)sine)[i] = sin((double)p * f[j]);
            } else {
                ((float *)cosine)[i] = cosf((float)p * f[j]);
                ((float *)sine)[i] = sinf((float)p * f[j]);
            }
        }
}

static cad_status upload_rotation(cad_model *m, float *f, void *c, void *s, int64_t elems)
{
    int64_t bytes = elems * (int64_t)cad_dtype_bytes(m->real);

    cad_rope_frequencies(&m->arch->rope, m->arch->head_dim, f);
    fill_rotation(m, f, c, s);
    CAD_TRY(cad_device_upload(m->device, m->cosine.data, c, bytes));
    return cad_device_upload(m->device, m->sine.data, s, bytes);
}

/* Angles in fp32 as Transformers takes them (families 4.2); in double only in the double-precision build of the model. */
static cad_status make_rotation(cad_model *m, cad_arena *a)
{
    int64_t half = m->arch->head_dim / 2, elems = m->limits.positions * half;
    float *f = NULL;
    void *c = NULL, *s = NULL;
    cad_status status;

    CAD_TRY(cad_arena_tensor(a, WORK, "rotation table", m->real, m->limits.positions, half, &m->cosine));
    CAD_TRY(cad_arena_tensor(a, WORK, "rotation table", m->real, m->limits.positions, half, &m->sine));
    if (cad_device_pretends(m->device)) return CAD_OK;
    if (!(status = cad_alloc(&f, (size_t)half, sizeof *f, "the rotation table")) && !(status = cad_alloc(&c, (size_t)elems, 8, "the rotation table")) &&
        !(status = cad_alloc(&s, (size_t)elems, 8, "the rotation table")))
        status = upload_rotation(m, f, c, s, elems);
    cad_free(&f);
    cad_free(&c);
    cad_free(&s);
    return status;
}

static cad_status build(cad_model *m, cad_arena *arena)
{
    m->real = m->act == CAD_F64 ? CAD_F64 : CAD_F32;
    m->lora_scale = m->method.lora ? m->method.alpha / (m->method.rslora ? sqrt((double)m->method.r) : (double)m->method.r) : 0;
    CAD_TRY(cadp_linears_build(m));
    CAD_TRY(take_activations(m, arena));
    CAD_TRY(take_work(m, arena));
    CAD_TRY(take_tail(m, arena));
    CAD_TRY(cad_ramp_open(&m->ramp, m->device, m->limits.tokens * 4 + m->limits.sequences * 12 + 4, "batches on their way to the device"));
    return make_rotation(m, arena);
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
    cad_ramp_close(&(*m)->ramp);
    cad_free(m);
}

int cad_model_units(const cad_model *m) { return m->arch->layers + 2; }

cad_status cad_model_start(cad_model *m, const cad_model_batch *b, bool training)
{
    if (b->tokens > m->limits.tokens || b->sequences > m->limits.sequences || b->longest > m->limits.positions)
        return cad_fail(CAD_EINTERNAL, "a micro-batch of %d tokens in %d sequences, longest %d, is larger than planned (%lld, %lld, %lld)", b->tokens, b->sequences, b->longest,
                        (long long)m->limits.tokens, (long long)m->limits.sequences, (long long)m->limits.positions);
    m->packing = (cad_packing){b->tokens, b->sequences, b->longest, b->starts, b->ids, m->starts_dev, m->ids_dev};
    m->training = training;
    m->has_labels = b->labels != NULL;
    m->scale = b->scale;
    m->seed_index = b->seed_index;
    CAD_TRY(cad_ramp_turn(m->ramp));
    CAD_TRY(cad_ramp_up(m->ramp, m->ids_dev, b->ids, (int64_t)b->tokens * 4));
    CAD_TRY(cad_ramp_up(m->ramp, m->starts_dev, b->starts, (int64_t)(b->sequences + 1) * 4));
    if (!m->has_labels) return CAD_OK;
    CAD_TRY(cad_ramp_up(m->ramp, m->labels.data, b->labels, (int64_t)b->sequences * 4));
    return cad_ramp_up(m->ramp, m->weights.data, b->weights, (int64_t)b->sequences * 4);
}

static cad_status embed(cad_model *m, cad_unit_view w)
{
    return cad_embed_fwd(m->device, &(cad_embed_args){.h = cadp_hidden(m, 0), .table = cadp_weight(m, w, cadp_find(m, 0, CAD_ROLE_EMBED, CAD_PIECE_WEIGHT)), .scale = m->arch->embed_scale,
                                                      .skip = -1, .packing = &m->packing});
}

static cad_status embed_backward(cad_model *m, void *grads)
{
    cad_tensor dtable = cadp_grad(m, grads, cadp_find(m, 0, CAD_ROLE_EMBED, CAD_PIECE_WEIGHT));

    if (!cad_some(dtable)) return CAD_OK;
    CAD_TRY(cad_device_zero(m->device, dtable.data, dtable.rows * dtable.cols * (int64_t)cad_dtype_bytes(dtable.dtype)));
    return cad_embed_bwd(m->device, &(cad_embed_args){.h = cadp_rows(m, m->dh), .table = dtable, .scale = m->arch->embed_scale, .skip = m->arch->pad_id, .packing = &m->packing});
}

cad_status cad_model_forward(cad_model *m, int unit, cad_unit_view w)
{
    if (unit == 0) return embed(m, w);
    return unit <= m->arch->layers ? cadp_block_forward(m, unit - 1, w) : cadp_tail_forward(m, w);
}

cad_status cad_model_backward(cad_model *m, int unit, cad_unit_view w, void *grads)
{
    if (unit == 0) return embed_backward(m, grads);
    return unit <= m->arch->layers ? cadp_block_backward(m, unit - 1, w, grads) : cadp_tail_backward(m, w, grads);
}

/* Values of a residual-dtype array as float on the host. */
static cad_status fetch(cad_model *m, cad_tensor t, float *out)
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

cad_status cad_model_logits(cad_model *m, float *out) { return fetch(m, cadp_seqs(m, m->logits), out); }

cad_status cad_model_nll(cad_model *m, double *out) { return cad_device_download(m->device, out, m->nll.data, (int64_t)m->packing.sequences * 8); }

cad_status cad_model_embedding(cad_model *m, cad_unit_view tail, cad_pooling how, float *out)
{
    CAD_TRY(cadp_tail_feature(m, tail, how));
    return fetch(m, cadp_seqs(m, m->feature), out);
}

/* facts/performance.md section 0: 6 N (or 4 N for frozen weights, plus the adapters) + 6 L d s causal. */
double cad_flop_per_token(const cad_arch *a, const cad_params *p, double mean_length)
{
    double frozen = 0, trained = 0;

    for (int i = 0; i < p->count; i++) {
        const cad_param *r = &p->row[i];
        if (r->dims != 2 || r->role == CAD_ROLE_EMBED || r->role == CAD_ROLE_HEAD) continue;
        *(r->trains ? &trained : &frozen) += (double)r->elems;
    }
    return 6 * trained + 4 * frozen + 6.0 * a->layers * (double)(a->q_heads * a->head_dim) * mean_length;
}
