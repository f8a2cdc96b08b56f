/* Matrices that bitsandbytes saved as codes: NAME.weight (U8, or I8 with NAME.SCB beside it), NAME.weight.absmax, .quant_map, .nested_absmax,
 * .nested_quant_map and .quant_state.bitsandbytes__nf4, whose bytes are JSON. Routed experts (its nn.parametrize) have no ".weight" and three dimensions. */
#include "model_priv.h"

#include <stdio.h>

struct cadp_stored { const cad_st_tensor *codes, *scales, *scales2; float offset; const cad_param *row; };

typedef struct place { const cad_st *st; const cad_param *p; const cad_st_tensor *t; } place;

static cad_status wrong(const place *at, const char *end, const char *expected, const char *found)
{
    return cad_fail(CAD_EMODEL, "tensor %s%s in %s: expected %s, found %s", at->t->name, end, cad_st_file(at->st, at->t->file), expected, found);
}

/* NAME.weight + end, with so many elements of this dtype. */
static cad_status part(const place *at, const char *end, cad_dtype dtype, int64_t n, const cad_st_tensor **out)
{
    char name[512], expected[64], found[64];

    snprintf(name, sizeof name, "%s%s", at->t->name, end);
    *out = cad_st_find(at->st, name);
    snprintf(expected, sizeof expected, "%lld elements of %s", (long long)n, cad_dtype_name(dtype));
    if (!*out) return wrong(at, end, expected, "no such tensor");
    if ((*out)->dtype == dtype && (*out)->elems == n) return CAD_OK;
    snprintf(found, sizeof found, "%lld of %s", (long long)(*out)->elems, cad_dtype_name((*out)->dtype));
    return wrong(at, end, expected, found);
}

/* A map that is stored must be the one this program knows. */
static cad_status check_map(const place *at, const char *end, const float *map, int64_t n)
{
    const cad_st_tensor *t;

    CAD_TRY(part(at, end, CAD_F32, n, &t));
    return memcmp(t->data, map, (size_t)n * 4) ? wrong(at, end, "the values of bitsandbytes", "others") : CAD_OK;
}

static bool has_shape(const cad_param *p, const cad_node *shape)
{
    int64_t want[3];
    int dims = cad_param_shape(p, want), i = 0;

    if (!shape || shape->kind != CAD_LIST || shape->children != dims) return false;
    for (const cad_node *n = shape->child; n; n = n->next, i++)
        if (n->kind != CAD_INT || n->integer != want[i]) return false;
    return true;
}

static cad_status check_numbers(const place *at, const char *end, const cad_node *root, float *offset)
{
    int64_t block, block2;
    double mean = 0;

    if (!has_shape(at->p, cad_get(root, "shape"))) return wrong(at, end, "the shape of the layer", "another");
    if (!cad_get_int(root, "blocksize", &block, 0) || block != CAD_QUANT_BLOCK) return wrong(at, end, "blocks of 64", "others");
    if (!at->p->nested) return CAD_OK;
    if (!cad_get_int(root, "nested_blocksize", &block2, 0) || block2 != CAD_SCALE_BLOCK) return wrong(at, end, "nested blocks of 256", "others");
    if (!cad_get(root, "nested_offset") || !cad_get_real(root, "nested_offset", &mean, 0)) return wrong(at, end, "a nested_offset", "none");
    *offset = (float)mean;
    return CAD_OK;
}

static cad_status read_state(const place *at, float *offset)
{
    char end[64], name[512];
    const cad_st_tensor *t;
    cad_tree *tree;
    cad_status status;

    snprintf(end, sizeof end, ".quant_state.bitsandbytes__%s", cad_code_name(at->p->code));
    snprintf(name, sizeof name, "%s%s", at->t->name, end);
    t = cad_st_find(at->st, name);
    if (!t || t->dtype != CAD_U8) return wrong(at, end, "the state that bitsandbytes stores beside it", "none");
    CAD_TRY(cad_json_parse(&tree, t->data, t->bytes, name, CAD_EMODEL));
    status = check_numbers(at, end, tree->root, offset);
    cad_tree_close(&tree);
    return status;
}

static cad_status match_4bit(const place *at, cadp_stored *s)
{
    cad_coded_layout l = cad_coded_layout_of(at->p->code, at->p->nested, at->p->rows, at->p->cols);

    CAD_TRY(part(at, "", CAD_U8, (at->p->elems + 1) / 2, &s->codes));
    CAD_TRY(part(at, ".absmax", at->p->nested ? CAD_U8 : CAD_F32, l.blocks, &s->scales));
    CAD_TRY(check_map(at, ".quant_map", cad_code_book(at->p->code), 16));
    CAD_TRY(read_state(at, &s->offset));
    if (!at->p->nested) return CAD_OK;
    CAD_TRY(part(at, ".nested_absmax", CAD_F32, l.blocks2, &s->scales2));
    return check_map(at, ".nested_quant_map", cad_dynamic_map(true), 256);
}

static cad_status match_int8(const place *at, cadp_stored *s)
{
    char name[512];

    CAD_TRY(part(at, "", CAD_I8, at->p->elems, &s->codes));
    snprintf(name, sizeof name, "%.*sSCB", (int)(strlen(at->t->name) - strlen("weight")), at->t->name);
    s->scales = cad_st_find(at->st, name);
    if (!s->scales || s->scales->dtype != CAD_F32 || s->scales->elems != at->p->rows)
        return cad_fail(CAD_EMODEL, "tensor %s in %s: expected %lld scales of F32, found %s", name, cad_st_file(at->st, at->t->file), (long long)at->p->rows, s->scales ? "others" : "none");
    return CAD_OK;
}

cad_status cadp_stored_match(cadp_stored **out, const cad_st *st, const cad_param *p, const cad_st_tensor *t)
{
    place at = {st, p, t};
    cad_status status;

    if (*out) return cad_fail(CAD_EMODEL, "tensor %s in %s: expected one matrix of this layer, found two", t->name, cad_st_file(st, t->file));
    CAD_TRY(cad_alloc(out, 1, sizeof **out, "stored codes"));
    (*out)->row = p;
    status = p->code == CAD_INT8 ? match_int8(&at, *out) : match_4bit(&at, *out);
    if (status) cad_free(out);
    return status;
}

bool cadp_is_stored_code(const cad_param *p, const cad_st_tensor *t) { return p->code && t->dtype == (p->code == CAD_INT8 ? CAD_I8 : CAD_U8) && !(p->code == CAD_INT8 && p->dims == 3); }

/* What of [at, at + n) belongs to a part of `size` bytes that begins at `begin`. */
static void give(char *out, int64_t at, int64_t n, int64_t begin, const void *part_data, int64_t size)
{
    int64_t low = cad_max(at, begin), high = cad_min(at + n, begin + size);

    if (high > low) memcpy(out + (low - at), (const char *)part_data + (low - begin), (size_t)(high - low));
}

void cadp_stored_bytes(const cadp_stored *s, int64_t from, int64_t n, void *out)
{
    cad_coded_layout l = cad_coded_layout_of(s->row->code, s->row->nested, s->row->rows, s->row->cols);

    memset(out, 0, (size_t)n);
    give(out, from, n, l.codes, s->codes->data, (int64_t)s->codes->bytes);
    give(out, from, n, l.scales, s->scales->data, (int64_t)s->scales->bytes);
    if (!s->row->nested) return;
    give(out, from, n, l.scales2, s->scales2->data, (int64_t)s->scales2->bytes);
    give(out, from, n, l.offset, &s->offset, 4);
}

static float number(const void *data, int64_t i)
{
    float x;

    memcpy(&x, (const char *)data + 4 * i, 4); /* what is mapped may lie anywhere */
    return x;
}

static float value_at(const cadp_stored *s, int64_t i)
{
    const uint8_t *codes = s->codes->data;
    float scale;
    int64_t block = i / CAD_QUANT_BLOCK;

    if (s->row->code == CAD_INT8) return cad_int8_value((int8_t)codes[i], number(s->scales->data, i / s->row->cols));
    scale = s->row->nested ? cad_nested_scale(cad_dynamic_map(true), ((const uint8_t *)s->scales->data)[block], number(s->scales2->data, block / CAD_SCALE_BLOCK), s->offset) : number(s->scales->data, block);
    return cad_code_book(s->row->code)[i % 2 ? codes[i / 2] & 15 : codes[i / 2] >> 4] * scale;
}

void cadp_stored_values(const cadp_stored *s, int64_t from, int64_t n, cad_dtype as, void *out)
{
    for (int64_t i = 0; i < n; i++) {
        float x = value_at(s, from + i);
        if (as == CAD_F32) ((float *)out)[i] = x;
        else ((uint16_t *)out)[i] = cad_f32_to_bf16(x);
    }
}
