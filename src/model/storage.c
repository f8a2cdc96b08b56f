/* How a parameter lies in memory. */
#include "model_priv.h"

/* What Transformers hands to bitsandbytes: every linear layer but the heads (families 11.7); and, unless told otherwise, matrices of routed experts, which are
 * none to it. Tables of embeddings and norms are none; a router is read by its weight alone and stays as it is. */
static bool takes_codes(const cad_param *p, const cad_method *m)
{
    static const bool other[CAD_ROLES] = {[CAD_ROLE_EMBED] = true, [CAD_ROLE_EMBED_POSITION] = true, [CAD_ROLE_EMBED_TYPE] = true, [CAD_ROLE_HEAD] = true, [CAD_ROLE_LM_HEAD] = true, [CAD_ROLE_ROUTER] = true, [CAD_ROLE_COLUMNS] = true};

    return p->piece == CAD_PIECE_WEIGHT && (p->dims == 2 || (p->dims == 3 && !m->plain_experts)) && !other[p->role];
}

void cadp_choose_storage(cad_param *p, const cad_method *m)
{
    if (m->code == CAD_PLAIN || !takes_codes(p, m) || (m->lora && p->trains)) return;
    p->code = m->code;
    p->nested = m->nested && m->code != CAD_INT8;
    p->trains = false;
}

/* Codes begin at a multiple of 64 bytes and fill whole ones; numbers follow each other without gaps, so that neighbours can be one product. */
int64_t cadp_place_frozen(cad_param *p, const cad_method *m, int64_t *bytes)
{
    if (p->code) {
        *bytes = cad_round_up(*bytes, 64);
        p->bytes = cad_coded_layout_of(p->code, p->nested, p->rows, p->cols).bytes;
    } else p->bytes = p->elems * (int64_t)cad_dtype_bytes(m->compute);
    *bytes += p->bytes;
    return *bytes - p->bytes;
}
