/* All memory of a model, taken before the first step. */
#include "model_priv.h"

static const cad_category ACT = CAD_MEM_ACTIVATIONS, WORK = CAD_MEM_WORK;

/* The most ranks of adapters that a linear layer of this kind has. */
static int64_t adapter_ranks(const cad_model *m, int which)
{
    int64_t most = 0;

    for (int i = 0; i < m->arch->layers; i++) most = cad_max(most, m->linear[i * CADP_LINEARS + which].u);
    return most;
}

/* Widest of a kind of linear layer. */
static int64_t widest(const cad_model *m, int which)
{
    int64_t most = 0;

    for (int i = 0; i < m->arch->layers; i++) most = cad_max(most, m->linear[i * CADP_LINEARS + which].out);
    return most;
}

static int64_t inner(const cad_model *m) { return widest(m, CADP_GATE_UP) / (m->arch->gated ? 2 : 1); }
static int64_t heads_width(const cad_model *m) { return (m->arch->q_heads + m->arch->kv_heads) * m->arch->head_dim; }

static bool has_experts(const cad_model *m)
{
    for (int i = 0; i < m->arch->layers; i++)
        if (m->arch->routed[i]) return true;
    return false;
}

static int64_t most_visits(const cad_model *m) { return has_experts(m) ? m->limits.tokens * m->arch->chosen : 0; }

static cad_status take_edge(cad_model *m, cad_arena *a, cadp_edge *e)
{
    int64_t t = m->limits.tokens, h = m->arch->hidden;

    CAD_TRY(cad_arena_tensor(a, ACT, "norm scale", m->real, t, 1, &e->rstd));
    if (m->arch->centred) CAD_TRY(cad_arena_tensor(a, ACT, "norm mean", m->real, t, 1, &e->mean));
    if (m->arch->norm_place == CAD_NORM_BEFORE) return CAD_OK;
    if (m->arch->norm_place == CAD_NORM_AFTER) return cad_arena_tensor(a, ACT, "sum before its norm", m->real, t, h, &e->kept);
    CAD_TRY(cad_arena_tensor(a, ACT, "norm scale", m->real, t, 1, &e->rstd_out));
    return cad_arena_tensor(a, ACT, "output before its norm", m->act, t, h, &e->kept);
}

static cad_status take_visits(cad_model *m, cad_arena *a, cadp_visits *v)
{
    int64_t n = most_visits(m);

    if (!n) return CAD_OK;
    CAD_TRY(cad_arena_tensor(a, ACT, "visits of experts", CAD_I32, n, 1, &v->token));
    CAD_TRY(cad_arena_tensor(a, ACT, "visits of experts", CAD_I32, m->limits.tokens, m->arch->chosen, &v->slot));
    CAD_TRY(cad_arena_tensor(a, ACT, "visits of experts", CAD_I32, 1, m->arch->experts + 1, &v->starts));
    CAD_TRY(cad_arena_tensor(a, ACT, "visits of experts", m->real, n, 1, &v->score));
    return cad_arena_tensor(a, ACT, "experts' gate, up", m->act, n, 2 * m->arch->intermediate, &v->gu);
}

static cad_status take_slot(cad_model *m, cad_arena *a, cadp_slot *s)
{
    const cad_arch *x = m->arch;
    int64_t t = m->limits.tokens;

    CAD_TRY(take_edge(m, a, &s->attn));
    CAD_TRY(cad_arena_tensor(a, ACT, "query, key, value", m->act, t, widest(m, CADP_QKV), &s->qkv));
    if (x->head_norm != CAD_HEAD_NORM_NONE) CAD_TRY(cad_arena_tensor(a, ACT, "query, key, normed", m->act, t, heads_width(m), &s->qk));
    if (x->head_norm != CAD_HEAD_NORM_NONE) CAD_TRY(cad_arena_tensor(a, ACT, "head norm scale", m->real, t, x->q_heads + x->kv_heads, &s->rstd_qk));
    if (m->method.recompute == CAD_RECOMPUTE_ATTENTION && s != m->slot) { /* what is computed again needs one place */
        s->lse = m->slot[0].lse;
        s->o = m->slot[0].o;
    } else {
        CAD_TRY(cad_arena_tensor(a, ACT, "attention log sums", m->real, t, x->q_heads, &s->lse));
        CAD_TRY(cad_arena_tensor(a, ACT, "attention output", m->act, t, x->q_heads * x->head_dim, &s->o));
    }
    CAD_TRY(cad_arena_tensor(a, ACT, "residual after attention", m->real, t, x->hidden, &s->mid));
    CAD_TRY(take_edge(m, a, &s->mlp));
    CAD_TRY(cad_arena_tensor(a, ACT, "gate, up", m->act, t, widest(m, CADP_GATE_UP), &s->gu));
    CAD_TRY(take_visits(m, a, &s->visits));
    for (int i = 0; i < CADP_LINEARS; i++)
        if (adapter_ranks(m, i)) CAD_TRY(cad_arena_tensor(a, ACT, "adapter inner values", m->act, t, adapter_ranks(m, i), &s->u[i]));
    return CAD_OK;
}

static cad_status take_activations(cad_model *m, cad_arena *a)
{
    bool all = m->limits.train && m->method.recompute != CAD_RECOMPUTE_BLOCKS;

    m->hs = m->limits.train ? m->arch->layers + 1 : 2;
    m->slots = all ? m->arch->layers : 1;
    CAD_TRY(cad_alloc(&m->h, (size_t)m->hs, sizeof *m->h, "the model"));
    CAD_TRY(cad_alloc(&m->slot, (size_t)m->slots, sizeof *m->slot, "the model"));
    for (int i = 0; i < m->hs; i++) CAD_TRY(cad_arena_tensor(a, ACT, "residual stream", m->real, m->limits.tokens, m->arch->hidden, &m->h[i]));
    for (int i = 0; i < m->slots; i++) CAD_TRY(take_slot(m, a, &m->slot[i]));
    return CAD_OK;
}

static cad_status take_embeddings(cad_model *m, cad_arena *a)
{
    int64_t t = m->limits.tokens;
    int adapter = m->params->find[0][CAD_ROLE_EMBED][CAD_PIECE_A];

    if (*m->arch->names.embed_norm) {
        CAD_TRY(cad_arena_tensor(a, ACT, "embeddings before their norm", m->real, t, m->arch->hidden, &m->sum));
        CAD_TRY(cad_arena_tensor(a, ACT, "norm scale", m->real, t, 1, &m->sum_rstd));
        CAD_TRY(cad_arena_tensor(a, ACT, "norm mean", m->real, t, 1, &m->sum_mean));
    }
    if (adapter < 0) return CAD_OK;
    CAD_TRY(cad_arena_tensor(a, ACT, "adapter inner values", m->real, t, m->params->row[adapter].rows, &m->words));
    m->words_cast = m->words;
    if (m->act != m->real) CAD_TRY(cad_arena_tensor(a, ACT, "adapter inner values", m->act, t, m->params->row[adapter].rows, &m->words_cast));
    return m->limits.train ? cad_arena_tensor(a, WORK, "adapter gradient", m->real, t, m->params->row[adapter].rows, &m->dwords) : CAD_OK;
}

/* The MLP's and the attention's gradients are never alive together: they share one part. */
static cad_status take_shared(cad_model *m, cad_arena *a)
{
    const cad_arch *x = m->arch;
    int64_t t = m->limits.tokens, q = x->q_heads * x->head_dim, qkv = widest(m, CADP_QKV), n = inner(m), each = (int64_t)cad_dtype_bytes(m->act), dm_rows = cad_max(t, most_visits(m));
    int64_t mlp = t * n + (m->limits.train ? dm_rows * n : 0), attention = m->limits.train ? t * (q + qkv) : 0;
    char *base;

    CAD_TRY(cad_arena_take(a, WORK, "gradients inside a block", cad_max(mlp, attention) * each, &base));
    m->m = cad_view(base, m->act, t, n);
    if (!m->limits.train) return CAD_OK;
    m->dm = cad_view(base + (size_t)(t * n * each), m->act, dm_rows, n);
    m->dqkv = cad_view(base, m->act, t, qkv);
    m->d_o = cad_view(base + (size_t)(t * qkv * each), m->act, t, q);
    return CAD_OK;
}

static int64_t experts_rank(const cad_model *m)
{
    int64_t most = 0;

    for (int i = 0; i < m->params->count; i++) {
        const cad_param *p = &m->params->row[i];
        if (cad_param_is_spread(p)) most = cad_max(most, p->cols);
    }
    return most;
}

static cad_status take_experts(cad_model *m, cad_arena *a)
{
    int64_t n = most_visits(m), rank = n ? experts_rank(m) : 0;

    if (!n) return CAD_OK;
    if (rank) CAD_TRY(cad_arena_tensor(a, WORK, "inside experts' adapters", m->act, n, rank, &m->low));
    if (rank && m->limits.train) CAD_TRY(cad_arena_tensor(a, WORK, "inside experts' adapters", m->act, n, rank, &m->dlow));
    CAD_TRY(cad_arena_tensor(a, WORK, "router's logits", m->real, m->limits.tokens, m->arch->experts, &m->scores));
    CAD_TRY(cad_arena_tensor(a, WORK, "inside experts", m->act, n, m->arch->hidden, &m->visit));
    CAD_TRY(cad_arena_tensor(a, WORK, "inside experts", m->act, n, m->arch->intermediate, &m->hidden));
    return m->limits.train ? cad_arena_tensor(a, WORK, "router's gradient", m->act, m->limits.tokens, m->arch->experts, &m->dscores) : CAD_OK;
}

/* Rows of a weight are looked at a few at a time. */
static cad_status take_dora(cad_model *m, cad_arena *a)
{
    enum { MOST = 1 << 20 };
    int64_t out = 0, in = m->arch->hidden;

    if (!m->factors) return CAD_OK;
    for (int i = 0; i <= m->arch->layers * CADP_LINEARS; i++) {
        for (int j = 0; j < m->linear[i].parts; j++) out = cad_max(out, m->linear[i].part[j].out);
        in = cad_max(in, m->linear[i].in);
    }
    CAD_TRY(cad_arena_tensor(a, WORK, "inner values of a stretched layer", m->act, m->limits.tokens, out, &m->dora));
    CAD_TRY(cad_arena_tensor(a, WORK, "stretching factors", m->real, 3, m->factors, &m->stretch));
    CAD_TRY(cad_arena_tensor(a, WORK, "rows of a weight with its adapter", m->real, 1, cad_max(in, MOST), &m->stretched));
    return cad_arena_tensor(a, WORK, "rows of a weight with its adapter", m->act, 1, cad_max(in, MOST), &m->stretched_norm);
}

static cad_status take_work(cad_model *m, cad_arena *a)
{
    const cad_arch *x = m->arch;
    int64_t t = m->limits.tokens, ranks = cadp_pooler(m)->u, wide = cad_max(cad_max(x->hidden, inner(m)), x->q_heads * x->head_dim);
    bool train = m->limits.train, cast = m->act != m->real || x->norm_place == CAD_NORM_AROUND || x->hidden_dropout > 0;

    for (int i = 0; i < CADP_LINEARS; i++) ranks = cad_max(ranks, adapter_ranks(m, i));
    CAD_TRY(cad_arena_tensor(a, WORK, "norm output", m->act, t, x->hidden, &m->norm));
    CAD_TRY(take_shared(m, a));
    if (train) CAD_TRY(cad_arena_tensor(a, WORK, "residual gradient", m->real, t, x->hidden, &m->dh));
    if (train) CAD_TRY(cad_arena_tensor(a, WORK, "norm gradient", m->real, t, x->hidden, &m->dx));
    m->full = m->dx;
    if (!train) CAD_TRY(cad_arena_tensor(a, WORK, "normed hidden states", m->real, t, x->hidden, &m->full));
    if (train && cast) CAD_TRY(cad_arena_tensor(a, WORK, "residual gradient, cast", m->act, t, x->hidden, &m->dcast));
    if (train && ranks) CAD_TRY(cad_arena_tensor(a, WORK, "adapter gradient", m->act, t, ranks, &m->v));
    if (train && ranks && m->method.dropout > 0) CAD_TRY(cad_arena_tensor(a, WORK, "dropped input", m->act, t, wide, &m->drop));
    CAD_TRY(take_dora(m, a));
    CAD_TRY(cadp_take_ahead(m, a));
    return take_experts(m, a);
}

/* Few enough rows of logits that no list of all of them is ever needed; many enough for products. */
static int64_t vocabulary_rows(const cad_model *m)
{
    enum { MOST = 1 << 24, LEAST = 32 };

    return cad_min(m->limits.tokens, cad_max(cad_max(LEAST, m->limits.kept ? m->limits.sequences : 0), MOST / m->arch->vocab));
}

/* A screen pays where the head is large and sequences few; a softcap might make equal what it keeps apart. */
static cad_status take_screen(cad_model *m, cad_arena *a)
{
    enum { LEAST = 1 << 14, FEW = 4 }; /* cpu_few_rows.c */
    const cad_arch *x = m->arch;
    int64_t bytes = cad_screen_bytes(m->device, x->vocab, x->hidden);

    if (!m->limits.greedy || !bytes || m->act == CAD_F64 || x->final_softcap > 0 || m->limits.sequences > FEW || x->vocab * x->hidden < LEAST) return CAD_OK;
    return cad_arena_tensor(a, WORK, "screen of the head", CAD_U8, 1, bytes, &m->screen);
}

static cad_status take_lm(cad_model *m, cad_arena *a)
{
    const cad_arch *x = m->arch;
    int64_t t = m->limits.tokens;
    bool train = m->limits.train, head_trains = train && x->tied && m->params->row[m->params->find[0][CAD_ROLE_EMBED][CAD_PIECE_WEIGHT]].trains;

    CAD_TRY(cad_alloc(&m->picks, (size_t)t * 3, sizeof *m->picks, "targets"));
    CAD_TRY(cad_alloc(&m->pick_weights, (size_t)t, sizeof *m->pick_weights, "targets"));
    CAD_TRY(cad_arena_tensor(a, WORK, "targets", CAD_I32, t, 1, &m->targets));
    CAD_TRY(cad_arena_tensor(a, WORK, "targets", CAD_F32, t, 1, &m->target_weights));
    CAD_TRY(cad_arena_tensor(a, WORK, "targets", CAD_I32, t, 1, &m->pick));
    CAD_TRY(cad_arena_tensor(a, WORK, "loss of each target", CAD_F64, t, 1, &m->nll));
    CAD_TRY(cad_arena_tensor(a, WORK, "logits over the vocabulary", m->real, vocabulary_rows(m), x->vocab, &m->vocab));
    CAD_TRY(take_screen(m, a));
    if (x->tied && !m->limits.views_last) CAD_TRY(cad_arena_tensor(a, WORK, "table of words, kept", m->act, x->vocab, x->hidden, &m->tied));
    if (!train) return CAD_OK;
    CAD_TRY(cad_arena_tensor(a, WORK, "targets", CAD_I32, t, 1, &m->place));
    CAD_TRY(cad_arena_tensor(a, WORK, "logit gradient", m->act, vocabulary_rows(m), x->vocab, &m->dvocab));
    CAD_TRY(cad_arena_tensor(a, WORK, "gradient of what is predicted", m->real, t, x->hidden, &m->dpicked));
    return head_trains ? cad_arena_tensor(a, WORK, "gradient of the table as head", m->real, x->vocab, x->hidden, &m->dtied) : CAD_OK;
}

static cad_status take_pooler(cad_model *m, cad_arena *a)
{
    const cadp_linear *l = cadp_pooler(m);
    int64_t n = m->limits.sequences, h = m->arch->hidden;

    m->head_in = m->pooled;
    m->dfeature_cast = m->dfeature;
    if (!l->parts) return CAD_OK;
    CAD_TRY(cad_arena_tensor(a, WORK, "pooler", m->act, n, h, &m->pre));
    CAD_TRY(cad_arena_tensor(a, WORK, "pooler", m->act, n, h, &m->head_in));
    if (l->u) CAD_TRY(cad_arena_tensor(a, WORK, "adapter inner values", m->act, n, l->u, &m->u_pool));
    if (m->limits.train && m->act != m->real) return cad_arena_tensor(a, WORK, "feature gradient, cast", m->act, n, h, &m->dfeature_cast);
    return CAD_OK;
}

static cad_status take_classifier(cad_model *m, cad_arena *a)
{
    int64_t n = m->limits.sequences, h = m->arch->hidden, c = m->method.num_labels;

    CAD_TRY(cad_arena_tensor(a, WORK, "pooled", m->real, n, h, &m->picked));
    CAD_TRY(cad_arena_tensor(a, WORK, "features", m->real, n, h, &m->feature));
    m->pooled = m->feature;
    if (m->act != m->real) CAD_TRY(cad_arena_tensor(a, WORK, "features, cast", m->act, n, h, &m->pooled));
    CAD_TRY(cad_arena_tensor(a, WORK, "logits", m->real, n, c, &m->logits));
    CAD_TRY(cad_arena_tensor(a, WORK, "loss of each sequence", CAD_F64, n, 1, &m->nll));
    CAD_TRY(cad_arena_tensor(a, WORK, "labels", CAD_I32, n, 1, &m->labels));
    CAD_TRY(cad_arena_tensor(a, WORK, "class weights", CAD_F32, n, 1, &m->weights));
    if (m->limits.train) CAD_TRY(cad_arena_tensor(a, WORK, "logit gradient", m->act, n, c, &m->dlogits));
    if (m->limits.train) CAD_TRY(cad_arena_tensor(a, WORK, "feature gradient", m->real, n, h, &m->dfeature));
    CAD_TRY(cadp_take_columns(m, a));
    return take_pooler(m, a);
}

/* The batch as the device sees it: ids, starts; for learned positions and kinds these in place of ids; for chunks starts of their own. */
static cad_status take_batch(cad_model *m, cad_arena *a)
{
    int64_t t = m->limits.tokens, n = m->limits.sequences, chunks = m->arch->chunk ? t / m->arch->chunk + n + 1 : 0;

    CAD_TRY(cad_arena_take(a, WORK, "token ids", t * 4, &m->ids_dev));
    CAD_TRY(cad_arena_take(a, WORK, "sequence starts", (n + 1) * 4, &m->starts_dev));
    if (chunks) CAD_TRY(cad_alloc(&m->chunk_starts, (size_t)chunks, sizeof *m->chunk_starts, "the batch"));
    if (chunks) CAD_TRY(cad_arena_take(a, WORK, "chunk starts", chunks * 4, &m->chunk_starts_dev));
    if (!*m->arch->names.embed_position) return CAD_OK;
    CAD_TRY(cad_alloc(&m->positions, (size_t)t * 2, sizeof *m->positions, "the batch"));
    CAD_TRY(cad_arena_take(a, WORK, "positions", t * 4, &m->positions_dev));
    return cad_arena_take(a, WORK, "kinds", t * 4, &m->zeros_dev);
}

cad_status cadp_take_memory(cad_model *m, cad_arena *a)
{
    CAD_TRY(take_activations(m, a));
    CAD_TRY(take_embeddings(m, a));
    CAD_TRY(take_work(m, a));
    CAD_TRY(cad_arena_tensor(a, WORK, "final norm scale", m->real, cad_max(m->limits.sequences, m->limits.tokens), 1, &m->rstd));
    CAD_TRY(take_batch(m, a));
    if (m->limits.kept) CAD_TRY(cadp_take_cache(m, a));
    return m->method.causal ? take_lm(m, a) : take_classifier(m, a);
}
