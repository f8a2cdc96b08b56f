/* Experts that a checkpoint stores one by one, as linear layers [out, in] (numbers, or codes of bitsandbytes), read as the matrices [in, out] of all experts,
 * gate beside up. */
#include "model_priv.h"

#include <stdio.h>

enum { TILE = 64 }; /* rows that are transposed together */
typedef struct one { cad_param as_layer; const cad_st_tensor *t; cadp_stored *codes; } one;
struct cadp_experts { const cad_param *row; int64_t in, out; int halves; one part[]; }; /* halves: gate, up; or 1: down */

static int halves_of(const cad_param *p) { return p->role == CAD_ROLE_EXPERT_GATE_UP ? 2 : p->role == CAD_ROLE_EXPERT_DOWN ? 1 : 0; }

/* "feed_forward.experts.%d.up_proj" behind the block's prefix, numbers filled in. */
static void spell(const cad_params *ps, const cad_param *p, int64_t part, char *out, size_t room)
{
    const cad_tensor_names *n = &ps->names;
    const char *word = p->role == CAD_ROLE_EXPERT_DOWN ? n->one_down : part % 2 ? n->one_up : n->one_gate;
    const char *layer = strstr(n->block_prefix, "%d"), *expert = strstr(word, "%d");

    out[0] = 0;
    if (!layer || !expert) return;
    snprintf(out, room, "%.*s%d%s%.*s%lld%s.weight", (int)(layer - n->block_prefix), n->block_prefix, p->unit - 1, layer + 2, (int)(expert - word), word,
             (long long)(part / halves_of(p)), expert + 2);
}

cad_status cadp_experts_names(const cad_params *ps, int row, cad_map *rows)
{
    const cad_param *p = &ps->row[row];
    char name[256];

    if (p->piece != CAD_PIECE_WEIGHT) return CAD_OK;
    for (int64_t i = 0; i < p->groups * halves_of(p); i++) {
        spell(ps, p, i, name, sizeof name);
        if (*name) CAD_TRY(cad_map_set(rows, name, strlen(name), row | (i + 1) << 32, NULL));
    }
    return CAD_OK;
}

static cad_status begin(cadp_experts **out, const cad_params *ps, const cad_param *p)
{
    int64_t count = p->groups * halves_of(p);
    cadp_experts *e;

    CAD_TRY(cad_alloc(out, 1, sizeof **out + (size_t)count * sizeof(one), "experts"));
    e = *out;
    e->row = p;
    e->in = p->rows / p->groups;
    e->out = p->cols / halves_of(p);
    e->halves = halves_of(p);
    for (int64_t i = 0; i < count; i++)
        e->part[i].as_layer = (cad_param){.name = p->name, .rows = e->out, .cols = e->in, .elems = e->out * e->in, .dims = 2, .groups = 1, .code = ps->stored, .nested = ps->stored_nested};
    return CAD_OK;
}

cad_status cadp_experts_place(cadp_experts **e, const cad_params *ps, int row, int64_t part, const cad_st *st, const cad_st_tensor *t)
{
    one *p;

    if (!*e) CAD_TRY(begin(e, ps, &ps->row[row]));
    p = &(*e)->part[part];
    p->t = t;
    if (cadp_is_stored_code(&p->as_layer, t)) return cadp_stored_match(&p->codes, st, &p->as_layer, t);
    if (t->dims != 2 || t->shape[0] != (*e)->out || t->shape[1] != (*e)->in)
        return cad_fail(CAD_EMODEL, "tensor %s in %s: expected shape [%lld, %lld], found another", t->name, cad_st_file(st, t->file), (long long)(*e)->out, (long long)(*e)->in);
    if (t->dtype == CAD_F32 || t->dtype == CAD_BF16 || t->dtype == CAD_F16 || t->dtype == CAD_F64) return CAD_OK;
    return cad_fail(CAD_EMODEL, "tensor %s in %s: expected F32, BF16, F16 or F64, found %s", t->name, cad_st_file(st, t->file), cad_dtype_name(t->dtype));
}

cad_status cadp_experts_check(const cadp_experts *e, const cad_params *ps, const char *dir)
{
    char name[256];

    for (int64_t i = 0; i < e->row->groups * e->halves; i++) {
        if (e->part[i].t) continue;
        spell(ps, e->row, i, name, sizeof name);
        return cad_fail(CAD_EMODEL, "tensor %s: expected in %s, found no such tensor", name, dir);
    }
    return CAD_OK;
}

void cadp_experts_close(cadp_experts **e)
{
    if (!*e) return;
    for (int64_t i = 0; i < (*e)->row->groups * (*e)->halves; i++) cad_free(&(*e)->part[i].codes);
    cad_free(e);
}

static cad_status read_one(const one *p, int64_t from, int64_t n, float *out)
{
    if (!p->codes) return cad_st_read(p->t, from, n, CAD_F32, out);
    cadp_stored_values(p->codes, from, n, CAD_F32, out);
    return CAD_OK;
}

/* Columns [low, high) of rows [row, row + n), n at most TILE, into `out`, whose rows are `cols` apart; all of them of one expert. */
static cad_status read_tile(const cadp_experts *e, int64_t row, int64_t n, int64_t low, int64_t high, cad_dtype as, int64_t cols, void *out)
{
    const one *part = &e->part[row / e->in * e->halves];
    float strip[TILE];

    for (int64_t c = low; c < high; c++) {
        CAD_TRY(read_one(&part[c / e->out], c % e->out * e->in + row % e->in, n, strip));
        for (int64_t i = 0; i < n; i++) {
            int64_t at = i * cols + c - low;
            if (as == CAD_F32) ((float *)out)[at] = strip[i];
            else ((uint16_t *)out)[at] = cad_f32_to_bf16(strip[i]);
        }
    }
    return CAD_OK;
}

cad_status cadp_experts_read(const cadp_experts *e, int64_t from, int64_t n, cad_dtype as, void *out)
{
    int64_t cols = e->row->cols;

    for (int64_t at = from, end = from + n; at < end;) {
        int64_t row = at / cols, low = at % cols, whole = (end - at) / cols, left = e->in - row % e->in;
        int64_t rows = low || !whole ? 1 : cad_min(cad_min(whole, left), TILE), high = cad_min(cols, low + end - at);
        CAD_TRY(read_tile(e, row, rows, low, high, as, cols, (char *)out + (size_t)(at - from) * cad_dtype_bytes(as)));
        at += rows > 1 ? rows * cols : high - low;
    }
    return CAD_OK;
}
