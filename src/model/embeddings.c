/* Words, and where a family has them kinds and positions, an adapter on the words, a norm, dropout. */
#include "model_priv.h"

static cad_tensor table(const cad_model *m, cad_unit_view w, cad_role role) { return cadp_weight(m, w, cadp_find(m, 0, role, CAD_PIECE_WEIGHT)); }

static int adapter(const cad_model *m, cad_piece piece) { return cadp_find(m, 0, CAD_ROLE_EMBED, piece); }

static bool has_norm(const cad_model *m) { return cadp_find(m, 0, CAD_ROLE_EMBED_NORM, CAD_PIECE_WEIGHT) >= 0; }

/* The sum of the tables: the first block's input, or what the norm is taken of. */
static cad_tensor sum_of(const cad_model *m) { return has_norm(m) ? cadp_rows(m, m->sum) : cadp_hidden(m, 0); }

static double adapter_scale(const cad_model *m) { return m->params->row[adapter(m, CAD_PIECE_A)].scale * m->embed_scale; }

/* sum += s B (column of A that belongs to the word); words keeps those columns. */
static cad_status adapter_forward(cad_model *m, cad_unit_view w, cad_tensor sum)
{
    cad_tensor words = cadp_rows(m, m->words), cast = cadp_rows(m, m->words_cast);

    CAD_TRY(cad_embed_fwd(m->device, &(cad_embed_args){.h = words, .table = cadp_weight(m, w, adapter(m, CAD_PIECE_A)), .scale = 1, .skip = -1, .packing = &m->packing, .turned = true}));
    if (m->words_cast.data != m->words.data) CAD_TRY(cadp_copy(m, cast, words, 0));
    return cad_matmul(m->device, &(cad_matmul_args){.c = sum, .a = cast, .b = cadp_weight(m, w, adapter(m, CAD_PIECE_B)), .tb = true, .alpha = adapter_scale(m), .beta = 1});
}

static cad_status drop(cad_model *m, cad_tensor x)
{
    if (!m->training || m->arch->hidden_dropout <= 0) return CAD_OK;
    return cad_dropout(m->device, &(cad_dropout_args){.y = x, .x = x, .p = m->arch->hidden_dropout, .seed = m->method.seed, .index = m->seed_index, .site = CADP_SITE_EMBED});
}

cad_status cadp_embed_forward(cad_model *m, cad_unit_view w)
{
    cad_tensor sum = sum_of(m), kinds = table(m, w, CAD_ROLE_EMBED_TYPE), places = table(m, w, CAD_ROLE_EMBED_POSITION);

    CAD_TRY(cad_embed_fwd(m->device, &(cad_embed_args){.h = sum, .table = table(m, w, CAD_ROLE_EMBED), .scale = m->embed_scale, .skip = -1, .packing = &m->packing}));
    if (adapter(m, CAD_PIECE_A) >= 0) CAD_TRY(adapter_forward(m, w, sum));
    if (cad_some(kinds)) CAD_TRY(cad_embed_fwd(m->device, &(cad_embed_args){.h = sum, .table = kinds, .scale = 1, .skip = -1, .packing = &m->kinds, .accumulate = true}));
    if (cad_some(places)) CAD_TRY(cad_embed_fwd(m->device, &(cad_embed_args){.h = sum, .table = places, .scale = 1, .skip = -1, .packing = &m->places, .accumulate = true}));
    if (!has_norm(m)) return CAD_OK;
    CAD_TRY(cadp_norm_forward(m, 0, CAD_ROLE_EMBED_NORM, w, cadp_hidden(m, 0), sum, cadp_rows(m, m->sum_rstd), m->arch->centred ? cadp_rows(m, m->sum_mean) : (cad_tensor){0}));
    return drop(m, cadp_hidden(m, 0));
}

static cad_status zero(cad_model *m, cad_tensor t) { return cad_device_zero(m->device, t.data, t.rows * t.cols * (int64_t)cad_dtype_bytes(t.dtype)); }

static cad_status table_back(cad_model *m, void *grads, cad_role role, cad_tensor dh, double scale, int64_t skip, const cad_packing *packing)
{
    cad_tensor d = cadp_grad(m, grads, cadp_find(m, 0, role, CAD_PIECE_WEIGHT));

    if (!cad_some(d)) return CAD_OK;
    if (role == CAD_ROLE_EMBED && cad_some(m->dtied)) CAD_TRY(cadp_copy(m, d, m->dtied, m->add)); /* the same table gave the logits */
    else if (!m->add) CAD_TRY(zero(m, d));
    return cad_embed_bwd(m->device, &(cad_embed_args){.h = dh, .table = d, .scale = scale, .skip = skip, .packing = packing});
}

static cad_status adapter_back(cad_model *m, cad_unit_view w, void *grads, cad_tensor dh)
{
    cad_tensor dy = dh, da = cadp_grad(m, grads, adapter(m, CAD_PIECE_A)), db = cadp_grad(m, grads, adapter(m, CAD_PIECE_B)), dwords = cadp_rows(m, m->dwords);

    if (m->act != m->real) {
        dy = cadp_rows(m, m->dcast);
        CAD_TRY(cadp_copy(m, dy, dh, 0));
    }
    CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = db, .a = dy, .ta = true, .b = cadp_rows(m, m->words_cast), .alpha = adapter_scale(m), .beta = m->add}));
    CAD_TRY(cad_matmul(m->device, &(cad_matmul_args){.c = dwords, .a = dy, .b = cadp_weight(m, w, adapter(m, CAD_PIECE_B)), .alpha = adapter_scale(m)}));
    if (!m->add) CAD_TRY(zero(m, da));
    return cad_embed_bwd(m->device, &(cad_embed_args){.h = dwords, .table = da, .scale = 1, .skip = m->arch->pad_id, .packing = &m->packing, .turned = true});
}

cad_status cadp_embed_backward(cad_model *m, cad_unit_view w, void *grads)
{
    cad_tensor dh = cadp_rows(m, m->dh);

    if (!m->params->train_elems[0]) return CAD_OK;
    if (has_norm(m)) {
        CAD_TRY(drop(m, dh));
        CAD_TRY(cadp_norm_backward(m, 0, CAD_ROLE_EMBED_NORM, w, grads, dh, dh, cadp_rows(m, m->sum), cadp_rows(m, m->sum_rstd), m->arch->centred ? cadp_rows(m, m->sum_mean) : (cad_tensor){0}, false));
    }
    if (adapter(m, CAD_PIECE_A) >= 0) CAD_TRY(adapter_back(m, w, grads, dh));
    CAD_TRY(table_back(m, grads, CAD_ROLE_EMBED, dh, m->embed_scale, m->arch->pad_id, &m->packing));
    CAD_TRY(table_back(m, grads, CAD_ROLE_EMBED_TYPE, dh, 1, -1, &m->kinds));
    return table_back(m, grads, CAD_ROLE_EMBED_POSITION, dh, 1, -1, &m->places);
}
