/* Keys and values of what came before, so that a new token costs one token. */
#include "model_priv.h"

static int64_t width(const cad_model *m) { return m->arch->kv_heads * m->arch->head_dim; }

cad_status cadp_take_cache(cad_model *m, cad_arena *a)
{
    int64_t t = m->limits.tokens, n = m->limits.sequences, rows = n * m->limits.kept, half = m->arch->head_dim / 2;

    if (!m->arch->causal) return cad_fail(CAD_EMODEL, "generation: expected a decoder, found %s, whose tokens see what comes after them", m->arch->family);
    CAD_TRY(cad_alloc(&m->keys, (size_t)m->arch->layers, sizeof *m->keys, "keys"));
    CAD_TRY(cad_alloc(&m->values, (size_t)m->arch->layers, sizeof *m->values, "values"));
    CAD_TRY(cad_alloc(&m->seats_host, (size_t)n * 2, sizeof *m->seats_host, "places"));
    CAD_TRY(cad_alloc(&m->spots_host, (size_t)t, sizeof *m->spots_host, "positions"));
    for (int i = 0; i < m->arch->layers; i++) {
        CAD_TRY(cad_arena_tensor(a, CAD_MEM_ACTIVATIONS, "keys of earlier tokens", m->act, rows, width(m), &m->keys[i]));
        CAD_TRY(cad_arena_tensor(a, CAD_MEM_ACTIVATIONS, "values of earlier tokens", m->act, rows, width(m), &m->values[i]));
    }
    CAD_TRY(cad_arena_tensor(a, CAD_MEM_WORK, "places of sequences", CAD_I32, n, 2, &m->seats));
    CAD_TRY(cad_arena_tensor(a, CAD_MEM_WORK, "positions of tokens", CAD_I32, t, 1, &m->spots));
    CAD_TRY(cad_arena_take(a, CAD_MEM_WORK, "positions of tokens", 8, &m->line_starts_dev));
    for (int i = 0; i < CADP_TABLES; i++) {
        CAD_TRY(cad_arena_tensor(a, CAD_MEM_WORK, "rotation of tokens", m->real, t, half, &m->spot_cosine[i]));
        CAD_TRY(cad_arena_tensor(a, CAD_MEM_WORK, "rotation of tokens", m->real, t, half, &m->spot_sine[i]));
    }
    return CAD_OK;
}

static cad_status check(const cad_model *m, const cad_model_batch *b)
{
    if (!m->limits.kept) return cad_fail(CAD_EINTERNAL, "a batch of generation needs a model that keeps keys and values");
    for (int32_t s = 0; s < b->sequences; s++) {
        int64_t all = b->past[s] + b->starts[s + 1] - b->starts[s];
        if (b->slots[s] < 0 || b->slots[s] >= m->limits.sequences || b->past[s] < 0 || all > m->limits.kept)
            return cad_fail(CAD_EINTERNAL, "sequence %d with %lld tokens in slot %d is more than planned (%lld of %lld)", s, (long long)all, b->slots[s], (long long)m->limits.sequences, (long long)m->limits.kept);
    }
    return CAD_OK;
}

static cad_status spot_tables(cad_model *m)
{
    cad_tensor spots = cadp_rows(m, m->spots);

    for (int i = 0; i < CADP_TABLES; i++) {
        if (!cad_some(m->cosine[i])) continue;
        CAD_TRY(cad_gather(m->device, &(cad_gather_args){.y = cadp_rows(m, m->spot_cosine[i]), .x = m->cosine[i], .index = spots}));
        CAD_TRY(cad_gather(m->device, &(cad_gather_args){.y = cadp_rows(m, m->spot_sine[i]), .x = m->sine[i], .index = spots}));
    }
    return CAD_OK;
}

cad_status cadp_start_cache(cad_model *m, const cad_model_batch *b)
{
    CAD_TRY(check(m, b));
    m->goes_on = false;
    for (int32_t s = 0; s < b->sequences; s++) {
        m->seats_host[2 * s] = b->slots[s] * (int32_t)m->limits.kept;
        m->seats_host[2 * s + 1] = b->past[s];
        if (b->past[s]) m->goes_on = true;
        for (int32_t t = b->starts[s]; t < b->starts[s + 1]; t++) m->spots_host[t] = t - b->starts[s] + b->past[s];
    }
    m->line_starts[0] = 0;
    m->line_starts[1] = b->tokens;
    m->line = (cad_packing){b->tokens, 1, b->tokens, m->line_starts, NULL, m->line_starts_dev, NULL};
    CAD_TRY(cad_device_upload(m->device, m->seats.data, m->seats_host, (int64_t)b->sequences * 8));
    CAD_TRY(cad_device_upload(m->device, m->spots.data, m->spots_host, (int64_t)b->tokens * 4));
    CAD_TRY(cad_device_upload(m->device, m->line_starts_dev, m->line_starts, 8));
    return spot_tables(m);
}

static cad_status keep(cad_model *m, cad_tensor kept, cad_tensor fresh)
{
    for (int32_t s = 0; s < m->packing.sequences; s++) {
        int64_t from = m->packing.starts[s], n = m->packing.starts[s + 1] - from;
        CAD_TRY(cadp_copy(m, cad_slice(kept, m->seats_host[2 * s] + m->seats_host[2 * s + 1], n), cad_slice(fresh, from, n), 0));
    }
    return CAD_OK;
}

cad_status cadp_cache_attend(cad_model *m, int block, const cad_attention_args *x)
{
    CAD_TRY(keep(m, m->keys[block], x->k));
    CAD_TRY(keep(m, m->values[block], x->v));
    if (!m->goes_on) return cad_attention_fwd(m->device, x);
    return cad_attention_cached(m->device, &(cad_attention_cached_args){.q = x->q, .o = x->o, .k = m->keys[block], .v = m->values[block], .place = cad_slice(m->seats, 0, m->packing.sequences),
                                                                        .head_dim = x->head_dim, .q_heads = x->q_heads, .kv_heads = x->kv_heads, .window = x->window,
                                                                        .chunk = m->arch->chunked[block] ? m->arch->chunk : 0, .scale = x->scale, .softcap = x->softcap, .packing = &m->packing});
}
