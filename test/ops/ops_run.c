#include "ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SENTINEL = 0x5a };
int ops_rim = 3;

cad_tensor ops_t(const ops_sheet *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->slot[i].name, name)) return s->t[i];
    return (cad_tensor){0};
}

void ops_add(ops_sheet *s, ops_slot slot)
{
    CAD_ASSERT(s->n < OPS_SLOTS);
    s->slot[s->n++] = slot;
}

static void *room(size_t n)
{
    void *p = calloc(n + 1, 1);

    CAD_ASSERT(p);
    return p;
}

static double decode(cad_dtype dtype, const unsigned char *p)
{
    uint16_t half;
    float single;
    int32_t word;
    double value;

    switch (dtype) {
    case CAD_BF16: memcpy(&half, p, 2); return (double)cad_bf16_to_f32(half);
    case CAD_F32: memcpy(&single, p, 4); return (double)single;
    case CAD_I32: memcpy(&word, p, 4); return word;
    case CAD_U8: return *p;
    case CAD_I8: return *(const signed char *)p;
    default: memcpy(&value, p, 8); return value;
    }
}

static void encode(cad_dtype dtype, double value, unsigned char *p)
{
    uint16_t half = cad_f32_to_bf16((float)value);
    float single = (float)value;
    int32_t word = dtype == CAD_I32 ? (int32_t)value : 0;

    switch (dtype) {
    case CAD_BF16: memcpy(p, &half, 2); break;
    case CAD_F32: memcpy(p, &single, 4); break;
    case CAD_I32: memcpy(p, &word, 4); break;
    case CAD_U8: *p = (unsigned char)value; break;
    case CAD_I8: *p = (unsigned char)(signed char)value; break;
    default: memcpy(p, &value, 8);
    }
}

static double rounded(cad_dtype dtype, double value)
{
    unsigned char bytes[8];

    encode(dtype, value, bytes);
    return decode(dtype, bytes);
}

static double make_value(const ops_case *c, const ops_slot *s, uint32_t site, int64_t i, int64_t j)
{
    uint64_t index = (uint64_t)(i * s->cols + j);
    double normal = cad_rng_normal(11, CAD_RNG_TEST, site, index), value;
    int64_t word = (int64_t)ldexp(normal, 40);

    switch (s->fill) {
    case OPS_SQUARES: return normal * normal;
    case OPS_COSINE: return cos((double)i * pow(100, -(double)j / (double)s->cols));
    case OPS_SINE: return sin((double)i * pow(100, -(double)j / (double)s->cols));
    case OPS_LABELS: return floor(cad_rng_uniform(11, CAD_RNG_TEST, site, index) * (double)c->n);
    case OPS_ROWS: value = floor(cad_rng_uniform(11, CAD_RNG_TEST, site, index) * (double)(c->k2 + 1)); return value < (double)c->k2 ? value : INT32_MIN; /* of k2 rows, or none */
    case OPS_STARTS: return floor((double)c->m * pow((double)j / (double)(s->cols - 1), 2));          /* the first groups are small or empty */
    case OPS_PLACES: return (double)(j ? c->k + i : i * c->m);                                         /* m rows for each sequence, more and more of them before */
    case OPS_WILD: return ldexp(normal, (int)(index % 61) - 30);
    case OPS_BYTES: return floor(cad_rng_uniform(11, CAD_RNG_TEST, site, index) * (s->dtype == CAD_I8 ? 255 : 256)) - (s->dtype == CAD_I8 ? 127 : 0);
    case OPS_WORDS: memcpy(&value, &word, 8); return value;
    default: return normal;
    }
}

static void make_packing(ops_sheet *s, const ops_case *c)
{
    int32_t *starts = room((OPS_LENGTHS + 1) * sizeof *starts);
    cad_packing *p = &s->packing;

    while (p->sequences < OPS_LENGTHS && c->length[p->sequences]) {
        p->tokens += c->length[p->sequences];
        p->longest = (int32_t)cad_max(p->longest, c->length[p->sequences]);
        starts[++p->sequences] = p->tokens;
    }
    s->ids = room((size_t)p->tokens * sizeof *s->ids);
    for (int32_t t = 0; t < p->tokens; t++)
        s->ids[t] = (int32_t)(cad_rng_uniform(11, CAD_RNG_TEST, 99, (uint64_t)t) * (double)cad_max(c->m, 1));
    p->starts = starts;
    p->ids = s->ids;
}

static void make_values(ops_sheet *s, const ops_case *c, int k)
{
    const ops_slot *o = &s->slot[k];
    double *v = s->value[k];

    if (o->fill == OPS_MADE || (o->use == OPS_OUT && !o->twin)) return;
    for (int64_t i = 0; i < o->rows; i++)
        for (int64_t j = 0; j < o->cols; j++) *v++ = rounded(o->dtype, make_value(c, o, (uint32_t)(o->twin ? o->twin - 1 : k), i, j));
}

void ops_sheet_open(ops_sheet *s, const ops_case *c, bool doubles, const ops_sheet *like)
{
    *s = (ops_sheet){0};
    make_packing(s, c);
    c->op->fill(c, s);
    for (int k = 0; k < s->n; k++) {
        ops_slot *o = &s->slot[k];
        size_t bytes = (size_t)(o->rows * o->cols) * sizeof(double);
        s->value[k] = room(bytes);
        if (like) memcpy(s->value[k], like->value[k], bytes);
        else make_values(s, c, k);
        if (doubles && !o->fixed) o->dtype = CAD_F64;
    }
}

void ops_sheet_close(ops_sheet *s)
{
    for (int k = 0; k < s->n; k++) {
        free(s->value[k]);
        free(s->image[k]);
    }
    free((void *)(uintptr_t)s->packing.starts);
    free(s->ids);
    *s = (ops_sheet){0};
}

static int64_t pitch(const ops_slot *o) { return o->cols + (o->dense ? 0 : ops_rim); }
static int64_t slot_bytes(const ops_slot *o) { return (o->rows + 1) * pitch(o) * (int64_t)cad_dtype_bytes(o->dtype); }
static unsigned char *row_of(ops_sheet *s, int k, int64_t row) { return s->image[k] + row * pitch(&s->slot[k]) * (int64_t)cad_dtype_bytes(s->slot[k].dtype); }

/* Results that are not read start as NaN. */
static void draw(ops_sheet *s, int k)
{
    const ops_slot *o = &s->slot[k];
    size_t size = cad_dtype_bytes(o->dtype);
    const double *v = s->value[k];

    free(s->image[k]);
    s->image[k] = room((size_t)slot_bytes(o));
    memset(s->image[k], SENTINEL, (size_t)slot_bytes(o));
    for (int64_t i = 0; i < o->rows; i++) {
        unsigned char *p = row_of(s, k, i);
        if (o->use == OPS_OUT) memset(p, 0xff, (size_t)o->cols * size);
        else
            for (int64_t j = 0; j < o->cols; j++, p += size) encode(o->dtype, *v++, p);
    }
}

static cad_status place_slot(ops_sheet *s, int k, cad_device *d)
{
    const ops_slot *o = &s->slot[k];

    if (o->twin) {
        s->t[k] = s->t[o->twin - 1];
        return CAD_OK;
    }
    CAD_TRY(cad_device_alloc(d, &s->base[k], slot_bytes(o), o->name));
    s->t[k] = (cad_tensor){s->base[k], o->dtype, o->rows, o->cols, pitch(o)};
    if (cad_device_pretends(d)) return CAD_OK;
    draw(s, k);
    return cad_device_upload(d, s->base[k], s->image[k], slot_bytes(o));
}

static cad_status place(ops_sheet *s, cad_device *d)
{
    cad_packing *p = &s->packing;
    int64_t starts = ((int64_t)p->sequences + 1) * 4, ids = (int64_t)p->tokens * 4;

    for (int k = 0; k < s->n; k++) CAD_TRY(place_slot(s, k, d));
    CAD_TRY(cad_device_alloc(d, &s->starts_dev, starts, "starts"));
    CAD_TRY(cad_device_alloc(d, &s->ids_dev, ids, "ids"));
    CAD_TRY(cad_device_upload(d, s->starts_dev, p->starts, starts));
    CAD_TRY(cad_device_upload(d, s->ids_dev, p->ids, ids));
    p->starts_dev = s->starts_dev;
    p->ids_dev = s->ids_dev;
    return CAD_OK;
}

static bool same_from(const ops_sheet *s, int k, const unsigned char *now, int64_t from, int64_t to)
{
    const ops_slot *o = &s->slot[k];
    int64_t size = (int64_t)cad_dtype_bytes(o->dtype);

    if (!memcmp(now + from * size, s->image[k] + from * size, (size_t)((to - from) * size))) return true;
    for (int64_t e = from; e < to; e++)
        if (memcmp(now + e * size, s->image[k] + e * size, (size_t)size)) printf("%s changed at row %lld, column %lld\n", o->name, (long long)(e / pitch(o)), (long long)(e % pitch(o)));
    return false;
}

/* The view's own elements may have changed where they are results; nothing else may. */
static bool untouched(ops_sheet *s, int k, const unsigned char *now)
{
    const ops_slot *o = &s->slot[k];
    bool result = o->use != OPS_IN, good = true;

    for (int j = 0; j < s->n; j++) result = result || (s->slot[j].twin == k + 1 && s->slot[j].use != OPS_IN);
    for (int64_t row = 0; row <= o->rows && good; row++) {
        int64_t inside = result && row < o->rows ? o->cols : 0;
        good = same_from(s, k, now, row * pitch(o) + inside, (row + 1) * pitch(o));
    }
    return good;
}

static bool fetch(ops_sheet *s, int k, cad_device *d)
{
    const ops_slot *o = &s->slot[k];
    int from = o->twin ? o->twin - 1 : k;
    size_t size = cad_dtype_bytes(o->dtype);
    double *v = s->value[k];
    unsigned char *now = room((size_t)slot_bytes(o));
    bool good = !cad_device_download(d, now, s->t[k].data, slot_bytes(o)) && untouched(s, from, now);

    free(s->image[k]);
    s->image[k] = now;
    for (int64_t i = 0; i < o->rows; i++) {
        const unsigned char *p = row_of(s, k, i);
        for (int64_t j = 0; j < o->cols; j++, p += size) *v++ = decode(o->dtype, p);
    }
    return good;
}

static void leave(ops_sheet *s, cad_device *d)
{
    for (int k = 0; k < s->n; k++) cad_device_free(d, &s->base[k]);
    cad_device_free(d, &s->starts_dev);
    cad_device_free(d, &s->ids_dev);
}

typedef struct account { double flops; int64_t launches, bytes, peak, work; } account;

static account read_account(const cad_device *d)
{
    return (account){cad_device_flops(d), cad_device_launches(d), cad_device_bytes(d), cad_device_peak(d), cad_device_work_needed(d)};
}

static cad_status run_on(ops_sheet *s, const ops_case *c, const char *name, int threads, int64_t work,
                         cad_status (*what)(cad_device *, const ops_case *, const ops_sheet *), account *told)
{
    cad_device *d;
    cad_status status, closed;

    CAD_TRY(cad_device_open(&d, name, threads));
    status = place(s, d);
    if (!status && work) status = cad_device_reserve(d, work);
    if (!status) status = what(d, c, s);
    if (!status) status = cad_device_sync(d);
    *told = read_account(d);
    for (int k = s->n - 1; k >= 0 && !status && !cad_device_pretends(d); k--)
        if (!fetch(s, k, d)) status = CAD_EINTERNAL;
    leave(s, d);
    closed = cad_device_close(&d);
    return status ? status : closed;
}

/* What the plan says of the same call, the work space above all, is what the real run must repeat. */
bool ops_run(ops_sheet *s, const ops_case *c, const char *device, int threads, cad_status (*what)(cad_device *, const ops_case *, const ops_sheet *))
{
    const char *planned = strstr(device, "cpu") ? "plan:cpu" : strstr(device, "cuda") || strstr(device, "emulated") ? "plan:cuda" : "plan:ref";
    account first, plan, real;
    cad_status status = run_on(s, c, planned, threads, 0, what, &first);

    if (!status) status = run_on(s, c, planned, threads, first.work, what, &plan);
    if (!status) status = run_on(s, c, device, threads, first.work, what, &real);
    if (status) {
        printf("on %s: %s\n", device, cad_reason());
        cad_clear();
        return false;
    }
    if (plan.flops == real.flops && plan.launches == real.launches && plan.bytes == real.bytes && plan.peak == real.peak && plan.work == real.work)
        return true;
    printf("on %s: plan and run differ: FLOP %g %g, launches %lld %lld, bytes %lld %lld, work %lld %lld\n", device, plan.flops, real.flops, (long long)plan.launches,
           (long long)real.launches, (long long)plan.bytes, (long long)real.bytes, (long long)plan.work, (long long)real.work);
    return false;
}
