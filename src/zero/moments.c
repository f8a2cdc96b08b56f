/* Where AdamW's moments lie: fp32, or (coded) a byte each with a scale for every 256, in rows large enough for that to matter. Blocks of 256 are those of
 * the unit's flat array, cut again where a row begins; cuts between ranks are multiples of CAD_CHUNK, so that blocks do not depend on the world size. */
#include "zero_priv.h"

/* As bitsandbytes: smaller tensors keep fp32. */
enum { FEWEST = 4096 };

static bool is_coded(const cad_zero *z, const cad_param *p) { return z->o.coded && p->elems >= FEWEST; }

/* The own part of a row behind what *next says, which moves behind it. */
static bool place(const cad_zero *z, const cad_param *p, cadp_place *next, cadp_place *out)
{
    const cadp_unit *u = &z->unit[p->unit];

    if (!p->trains || !cadp_common(p->at, p->elems, u->own, u->own + u->own_n, &next->at, &next->n)) return false;
    next->coded = is_coded(z, p);
    next->first = next->at % CAD_SCALE_BLOCK;
    *out = *next;
    next->byte += next->coded ? cad_round_up(next->n, 4) : next->n * 4;
    if (next->coded) next->scale += cad_ceil_div(next->first + next->n, CAD_SCALE_BLOCK);
    return true;
}

bool cadp_place_of(const cad_zero *z, int row, cadp_place *out)
{
    const cad_param *p = z->params->row;
    cadp_place next = {0};
    int i = row;

    while (i > 0 && p[i - 1].unit == p[row].unit) i--;
    for (; i < row; i++) (void)place(z, &p[i], &next, out);
    return place(z, &p[row], &next, out);
}

void cadp_moment_sizes(const cad_zero *z, int unit, int64_t *bytes, int64_t *scales)
{
    cadp_place next = {0}, last;

    for (int i = 0; i < z->params->count; i++)
        if (z->params->row[i].unit == unit) (void)place(z, &z->params->row[i], &next, &last);
    *bytes = next.byte;
    *scales = next.scale;
}

/* ---- by name ---- */

static bool is_scale(cad_state what) { return what == CAD_STATE_SCALE_AVG || what == CAD_STATE_SCALE_AVG_SQ; }
static bool is_square(cad_state what) { return what == CAD_STATE_EXP_AVG_SQ || what == CAD_STATE_SCALE_AVG_SQ; }

int64_t cad_zero_state_count(const cad_zero *z, int row, cad_state what)
{
    const cad_param *p = &z->params->row[row];

    if (!is_scale(what)) return p->elems;
    return is_coded(z, p) ? cad_ceil_div(p->at % CAD_SCALE_BLOCK + p->elems, CAD_SCALE_BLOCK) : 0;
}

cadp_span cadp_span_of(const cad_zero *z, int row, cad_state what)
{
    const cad_param *p = &z->params->row[row];

    return is_scale(what) ? (cadp_span){p->at / CAD_SCALE_BLOCK, CAD_SCALE_BLOCK} : (cadp_span){p->at, 1};
}

typedef struct local { cad_device *at; char *data; uint8_t *codes; float *scales; int64_t first; bool is_signed; } local;

/* Numbers [at, at + n) of the span: where they lie in this rank's memory. */
static local find(const cad_zero *z, int row, cad_state what, int64_t at)
{
    const cadp_unit *u = &z->unit[z->params->row[row].unit];
    float *scales = is_square(what) ? u->scale_v : u->scale_m;
    char *moments = is_square(what) ? u->v : u->m;
    cadp_place p;

    if (what == CAD_STATE_PARAM) return (local){.at = cadp_masters_at(z), .data = (char *)(u->master + (at - u->own))};
    CAD_ASSERT(cadp_place_of(z, row, &p));
    if (is_scale(what)) return (local){.at = cadp_moments_at(z), .data = (char *)(scales + p.scale + (at - p.at / CAD_SCALE_BLOCK))};
    if (!p.coded) return (local){.at = cadp_moments_at(z), .data = moments + p.byte + (at - p.at) * 4};
    at -= p.at;
    return (local){.at = cadp_moments_at(z), .codes = (uint8_t *)moments + p.byte + at, .scales = scales + p.scale + (p.first + at) / CAD_SCALE_BLOCK, .first = (p.first + at) % CAD_SCALE_BLOCK, .is_signed = !is_square(what)};
}

static int64_t blocks_of(const local *l, int64_t n) { return cad_ceil_div(l->first + n, CAD_SCALE_BLOCK); }

cad_status cadp_state_get(cad_zero *z, int row, cad_state what, int64_t at, int64_t n, float *out)
{
    local l = find(z, row, what, at);
    const float *map = cad_dynamic_map(l.is_signed);

    if (l.data) return cad_device_download(l.at, out, l.data, n * 4);
    CAD_TRY(cad_device_download(l.at, z->codes, l.codes, n));
    CAD_TRY(cad_device_download(l.at, z->scales, l.scales, blocks_of(&l, n) * 4));
    for (int64_t i = 0; i < n; i++) out[i] = map[z->codes[i]] * z->scales[(l.first + i) / CAD_SCALE_BLOCK];
    return CAD_OK;
}

/* The nearest value of the map. */
static uint8_t nearest(const float *map, float x)
{
    int low = 0, high = 255;

    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (map[middle] <= x) low = middle;
        else high = middle;
    }
    return (uint8_t)(x - map[low] <= map[high] - x ? low : high);
}

/* Scales come first: with them every value finds its code again. */
cad_status cadp_state_put(cad_zero *z, int row, cad_state what, int64_t at, int64_t n, const float *values)
{
    local l = find(z, row, what, at);
    const float *map = cad_dynamic_map(l.is_signed);

    if (l.data) return cad_device_upload(l.at, l.data, values, n * 4);
    CAD_TRY(cad_device_download(l.at, z->scales, l.scales, blocks_of(&l, n) * 4));
    for (int64_t i = 0; i < n; i++) {
        float scale = z->scales[(l.first + i) / CAD_SCALE_BLOCK];
        z->codes[i] = scale > 0 ? nearest(map, values[i] / scale) : 0;
    }
    return cad_device_upload(l.at, l.codes, z->codes, n);
}
