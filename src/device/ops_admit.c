#include "ops_priv.h"

#include <stdio.h>

static void add(cadp_call *c, cadp_arg a)
{
    CAD_ASSERT(c->n < CADP_MAX_ARGS);
    c->args[c->n++] = a;
}

void cadp_read(cadp_call *c, const char *name, cad_tensor t, unsigned dtypes, int64_t rows, int64_t cols)
{
    add(c, (cadp_arg){.name = name, .t = t, .use = CADP_READ, .dtypes = dtypes, .rows = rows, .cols = cols});
}

void cadp_write(cadp_call *c, const char *name, cad_tensor t, unsigned dtypes, int64_t rows, int64_t cols)
{
    add(c, (cadp_arg){.name = name, .t = t, .use = CADP_WRITE, .dtypes = dtypes, .rows = rows, .cols = cols});
}

void cadp_update(cadp_call *c, const char *name, cad_tensor t, unsigned dtypes, int64_t rows, int64_t cols)
{
    add(c, (cadp_arg){.name = name, .t = t, .use = CADP_UPDATE, .dtypes = dtypes, .rows = rows, .cols = cols});
}

void cadp_twin(cadp_call *c, const char *name) { c->args[c->n - 1].twin = name; }

unsigned cadp_as(cad_tensor t, unsigned dtypes) { return 1u << t.dtype & dtypes; }

cad_status cadp_need(const cadp_call *c, bool holds, const char *what, double found)
{
    return holds ? CAD_OK : cad_fail(CAD_EINTERNAL, "%s: expected %s, found %.17g", c->op, what, found);
}

static cad_status check_starts(const cadp_call *c, const cad_packing *p)
{
    CAD_TRY(cadp_need(c, p->starts[0] == 0, "packing starts at 0", p->starts[0]));
    for (int32_t s = 0; s < p->sequences; s++) {
        int32_t n = p->starts[s + 1] - p->starts[s];
        CAD_TRY(cadp_need(c, n > 0, "sequences of at least one token", n));
        CAD_TRY(cadp_need(c, n <= p->longest, "packing.longest to be the longest sequence", p->longest));
    }
    return cadp_need(c, p->starts[p->sequences] == p->tokens, "packing ends at its count of tokens", p->starts[p->sequences]);
}

cad_status cadp_packing(cadp_call *c, const cad_packing *p, int64_t ids_below)
{
    if (!p || !p->starts || p->tokens < 0 || p->sequences < 0)
        return cad_fail(CAD_EINTERNAL, "%s: expected a packing with starts, found none", c->op);
    CAD_TRY(check_starts(c, p));
    c->packing = p;
    cadp_read(c, "packing.starts_dev", cad_view((void *)(uintptr_t)p->starts_dev, CAD_I32, 1, (int64_t)p->sequences + 1), CADP_I32, 1,
              (int64_t)p->sequences + 1);
    if (!ids_below) return CAD_OK;
    cadp_read(c, "packing.ids_dev", cad_view((void *)(uintptr_t)p->ids_dev, CAD_I32, 1, p->tokens), CADP_I32, 1, p->tokens);
    if (!p->ids) return cad_fail(CAD_EINTERNAL, "%s: expected a packing with ids, found none", c->op);
    for (int32_t t = 0; t < p->tokens; t++)
        if (p->ids[t] < 0 || p->ids[t] >= ids_below)
            return cad_fail(CAD_EINTERNAL, "%s: expected ids below %lld, found %d at token %d", c->op, (long long)ids_below, p->ids[t], t);
    return CAD_OK;
}

int64_t cadp_extent(cad_tensor t)
{
    if (!t.rows || !t.cols) return 0;
    return ((t.rows - 1) * t.ld + t.cols) * (int64_t)cad_dtype_bytes(t.dtype);
}

/* Views of one pitch may interleave (columns of one matrix) without sharing an element. */
static bool columns_apart(cad_tensor a, cad_tensor b)
{
    int64_t size = (int64_t)cad_dtype_bytes(a.dtype), pitch = a.ld * size;
    int64_t wide_a = a.cols * size, wide_b = b.cols * (int64_t)cad_dtype_bytes(b.dtype);
    int64_t off = (int64_t)((intptr_t)a.data - (intptr_t)b.data) % pitch;

    if (pitch != b.ld * (int64_t)cad_dtype_bytes(b.dtype)) return false;
    if (off < 0) off += pitch;
    return off >= wide_b && off + wide_a <= pitch;
}

bool cadp_overlap(cad_tensor a, cad_tensor b)
{
    int64_t na = cadp_extent(a), nb = cadp_extent(b);

    if (!na || !nb || (char *)a.data + na <= (char *)b.data || (char *)b.data + nb <= (char *)a.data) return false;
    return !columns_apart(a, b);
}

static bool same_view(cad_tensor a, cad_tensor b)
{
    return a.data == b.data && a.dtype == b.dtype && a.rows == b.rows && a.cols == b.cols && a.ld == b.ld;
}

static bool may_share(const cadp_arg *a, const cadp_arg *b)
{
    bool twins = (a->twin && !strcmp(a->twin, b->name)) || (b->twin && !strcmp(b->twin, a->name));

    return !((a->use | b->use) & CADP_WRITE) || !cadp_overlap(a->t, b->t) || (twins && same_view(a->t, b->t));
}

static void name_dtypes(char out[64], unsigned dtypes)
{
    size_t used = 0;

    out[0] = 0;
    for (int i = CAD_F32; i <= CAD_BOOL8; i++)
        if (dtypes >> i & 1) used += (size_t)snprintf(out + used, 64 - used, "%s%s", used ? " or " : "", cad_dtype_name((cad_dtype)i));
}

static cad_status wrong(const cadp_call *c, const cadp_arg *a)
{
    char expected[64];

    name_dtypes(expected, a->dtypes);
    if (!a->t.data) return cad_fail(CAD_EINTERNAL, "%s: expected %s %s [%lld, %lld], found none", c->op, a->name, expected, (long long)a->rows, (long long)a->cols);
    return cad_fail(CAD_EINTERNAL, "%s: expected %s %s [%lld, %lld], found %s [%lld, %lld] with ld %lld", c->op, a->name,
                    expected[0] ? expected : "of another dtype", (long long)a->rows, (long long)a->cols, cad_dtype_name(a->t.dtype),
                    (long long)a->t.rows, (long long)a->t.cols, (long long)a->t.ld);
}

/* The extent must fit 62 bits, so that later arithmetic on it cannot overflow. */
static bool too_large(cad_tensor t)
{
    int64_t all;

    return __builtin_mul_overflow(t.rows, t.ld, &all) || all > (INT64_MAX >> 5);
}

static cad_status check_arg(const cad_device *d, const cadp_call *c, const cadp_arg *a)
{
    cad_tensor t = a->t;

    if (!t.data || t.rows != a->rows || t.cols != a->cols || t.rows < 0 || t.cols < 0) return wrong(c, a);
    if (!(1u << t.dtype & a->dtypes) || (t.rows > 1 && t.ld < t.cols) || too_large(t)) return wrong(c, a);
    if ((uintptr_t)t.data % cad_dtype_bytes(t.dtype))
        return cad_fail(CAD_EINTERNAL, "%s: %s is not aligned to its %s elements", c->op, a->name, cad_dtype_name(t.dtype));
    if (cadp_extent(t) && !cadp_block_of(d, t.data, cadp_extent(t)))
        return cad_fail(CAD_EINTERNAL, "%s: %s [%lld, %lld] does not lie inside one block alive of device %s", c->op, a->name,
                        (long long)t.rows, (long long)t.cols, d->name);
    return CAD_OK;
}

static bool is_real(const cadp_arg *a) { return (a->dtypes & CADP_REAL) && (a->dtypes & (a->dtypes - 1)); }

/* Where one real argument is F64 all are. */
static cad_status check_doubles(const cad_device *d, const cadp_call *c)
{
    const cadp_device_if *computes = d->inner ? d->inner : d->table;
    const cadp_arg *narrow = NULL, *wide = NULL;

    for (int i = 0; i < c->n; i++)
        if (is_real(&c->args[i])) *(c->args[i].t.dtype == CAD_F64 ? &wide : &narrow) = &c->args[i];
    if (c->mixed || !wide) return CAD_OK;
    if (narrow)
        return cad_fail(CAD_EINTERNAL, "%s: expected %s F64 as %s is, found %s", c->op, narrow->name, wide->name, cad_dtype_name(narrow->t.dtype));
    return computes->doubles ? CAD_OK : cad_fail(CAD_EINTERNAL, "%s: device %s does not compute in F64", c->op, d->name);
}

cad_status cadp_admit(const cad_device *d, const cadp_call *c)
{
    for (int i = 0; i < c->n; i++) CAD_TRY(check_arg(d, c, &c->args[i]));
    CAD_TRY(check_doubles(d, c));
    for (int i = 0; i < c->n; i++)
        for (int j = 0; j < i; j++)
            if (!may_share(&c->args[i], &c->args[j]))
                return cad_fail(CAD_EINTERNAL, "%s: %s [%lld, %lld] and %s [%lld, %lld] overlap in memory", c->op, c->args[j].name,
                                (long long)c->args[j].t.rows, (long long)c->args[j].t.cols, c->args[i].name,
                                (long long)c->args[i].t.rows, (long long)c->args[i].t.cols);
    return CAD_OK;
}
