#include "gguf_priv.h"

#include <inttypes.h>
#include <limits.h>

/* The shortest an entry and a tensor can be: an empty key, its type and one byte; a name of one byte, one dimension, type and place. */
enum { SHORTEST_ENTRY = 13, SHORTEST_TENSOR = 33, LONGEST_NAME = 255 };

typedef struct scan {
    const char *path;
    const unsigned char *begin, *at, *end;
} scan;

static uint64_t little(const unsigned char *p, int bytes)
{
    uint64_t v = 0;

    for (int i = bytes - 1; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static cad_status need(scan *s, uint64_t n, const char *what)
{
    if (n <= (uint64_t)(s->end - s->at)) return CAD_OK;
    return cad_fail(CAD_EMODEL, "%s: expected %s of %" PRIu64 " bytes at byte %td, found the end of the file; it is truncated or no GGUF file", s->path, what, n,
                    s->at - s->begin);
}

static cad_status take(scan *s, int bytes, uint64_t *out, const char *what)
{
    CAD_TRY(need(s, (uint64_t)bytes, what));
    *out = little(s->at, bytes);
    s->at += bytes;
    return CAD_OK;
}

static cad_status take_text(scan *s, const char **text, size_t *size, const char *what)
{
    uint64_t n;

    CAD_TRY(take(s, 8, &n, "the length of a text"));
    CAD_TRY(need(s, n, what));
    *text = (const char *)s->at;
    *size = (size_t)n;
    s->at += n;
    return CAD_OK;
}

/* ---- metadata ---- */

static const int sizes[CADP_GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static double real_at(const unsigned char *p, int type)
{
    uint32_t narrow = (uint32_t)little(p, 4);
    float f;
    double d;

    if (type == CADP_GGUF_F32) {
        memcpy(&f, &narrow, 4);
        return (double)f;
    }
    uint64_t wide = little(p, 8);
    memcpy(&d, &wide, 8);
    return d;
}

static int64_t integer_at(const unsigned char *p, int type)
{
    uint64_t v = little(p, sizes[type]);

    switch (type) {
    case CADP_GGUF_I8: return (int8_t)v;
    case CADP_GGUF_I16: return (int16_t)v;
    case CADP_GGUF_I32: return (int32_t)v;
    default: return v > INT64_MAX && type == CADP_GGUF_U64 ? INT64_MAX : (int64_t)v;
    }
}

static void scalar(const unsigned char *p, int type, cad_gguf_value *v)
{
    if (type == CADP_GGUF_BOOL) {
        v->kind = CAD_BOOL;
        v->boolean = *p != 0;
    } else if (type == CADP_GGUF_F32 || type == CADP_GGUF_F64) {
        v->kind = CAD_REAL;
        v->real = real_at(p, type);
    } else {
        v->kind = CAD_INT;
        v->integer = integer_at(p, type);
        v->real = (double)v->integer;
    }
}

static cad_status bad_type(const scan *s, uint64_t type, const char *key, size_t n)
{
    char shown[64];

    return cad_fail(CAD_EMODEL, "%s: \"%s\": expected a type from 0 to %d, found %" PRIu64, s->path, cadp_show(shown, key, n), CADP_GGUF_TYPES - 1, type);
}

static cad_status read_strings(scan *s, cadp_gguf_entry *e)
{
    size_t n;

    if ((uint64_t)e->value.count > (uint64_t)(s->end - s->at) / 8) return need(s, (uint64_t)e->value.count * 8, "a list of texts");
    CAD_TRY(cad_alloc(&e->strings, (size_t)e->value.count + 1, sizeof *e->strings, "a list of texts"));
    for (int64_t i = 0; i < e->value.count; i++) CAD_TRY(take_text(s, &e->strings[i], &n, "a text of a list"));
    e->value.items = e->strings;
    return CAD_OK;
}

static cad_status read_list(scan *s, cadp_gguf_entry *e, const char *key, size_t key_size)
{
    uint64_t type, count;
    char shown[64];

    CAD_TRY(take(s, 4, &type, "the type of a list"));
    CAD_TRY(take(s, 8, &count, "the length of a list"));
    if (type == CADP_GGUF_LIST) return cad_fail(CAD_EMODEL, "%s: \"%s\": expected a list of values, found a list of lists", s->path, cadp_show(shown, key, key_size));
    if (type >= CADP_GGUF_TYPES) return bad_type(s, type, key, key_size);
    if (count > INT32_MAX) return cad_fail(CAD_EMODEL, "%s: \"%s\": expected a list of at most 2^31 values, found %" PRIu64, s->path, cadp_show(shown, key, key_size), count);
    e->value.kind = CAD_LIST;
    e->value.of = (int)type;
    e->value.count = (int64_t)count;
    if (type == CADP_GGUF_STRING) return read_strings(s, e);
    CAD_TRY(need(s, count * (uint64_t)sizes[type], "a list"));
    e->value.items = s->at;
    s->at += count * (uint64_t)sizes[type];
    return CAD_OK;
}

static cad_status read_value(scan *s, cadp_gguf_entry *e, const char *key, size_t key_size)
{
    uint64_t type;

    CAD_TRY(take(s, 4, &type, "the type of a value"));
    if (type >= CADP_GGUF_TYPES) return bad_type(s, type, key, key_size);
    if (type == CADP_GGUF_LIST) return read_list(s, e, key, key_size);
    if (type == CADP_GGUF_STRING) {
        e->value.kind = CAD_STRING;
        return take_text(s, &e->value.text, &e->value.size, "a text");
    }
    CAD_TRY(need(s, (uint64_t)sizes[type], "a value"));
    scalar(s->at, (int)type, &e->value);
    s->at += sizes[type];
    return CAD_OK;
}

static cad_status read_entry(scan *s, cadp_gguf_head *h)
{
    const char *key;
    size_t n;
    char shown[64];
    bool had;

    CAD_TRY(take_text(s, &key, &n, "a key"));
    if (!cad_utf8_valid(key, n, NULL) || memchr(key, 0, n)) return cad_fail(CAD_EMODEL, "%s: expected a key in UTF-8 at byte %td, found other bytes", s->path, (const unsigned char *)key - s->begin);
    CAD_TRY(cad_map_set(h->keys, key, n, h->entry_count, &had));
    if (had) return cad_fail(CAD_EMODEL, "%s: the key \"%s\" stands twice", s->path, cadp_show(shown, key, n));
    return read_value(s, &h->entries[h->entry_count++], key, n);
}

cad_gguf_value cad_gguf_item(const cad_gguf_value *list, int64_t i)
{
    cad_gguf_value v = {0};

    CAD_ASSERT(list->kind == CAD_LIST && i >= 0 && i < list->count);
    if (list->of == CADP_GGUF_STRING) {
        v.kind = CAD_STRING;
        v.text = ((const char *const *)list->items)[i];
        v.size = (size_t)little((const unsigned char *)v.text - 8, 8);
    } else scalar((const unsigned char *)list->items + i * sizes[list->of], list->of, &v);
    return v;
}

/* ---- tensors ---- */

static const struct { const char *name; bool read; cad_pack pack; cad_dtype dtype; } types[] = {
    [0] = {"F32", true, CAD_PACK_NONE, CAD_F32}, [1] = {"F16", true, CAD_PACK_NONE, CAD_F16}, [2] = {"Q4_0", true, CAD_PACK_Q4_0, CAD_F32},
    [3] = {"Q4_1", true, CAD_PACK_Q4_1, CAD_F32}, [6] = {"Q5_0", true, CAD_PACK_Q5_0, CAD_F32}, [7] = {"Q5_1", true, CAD_PACK_Q5_1, CAD_F32},
    [8] = {"Q8_0", true, CAD_PACK_Q8_0, CAD_F32}, [9] = {"Q8_1", false, 0, 0}, [10] = {"Q2_K", false, 0, 0}, [11] = {"Q3_K", false, 0, 0},
    [12] = {"Q4_K", true, CAD_PACK_Q4_K, CAD_F32}, [13] = {"Q5_K", true, CAD_PACK_Q5_K, CAD_F32}, [14] = {"Q6_K", true, CAD_PACK_Q6_K, CAD_F32},
    [15] = {"Q8_K", false, 0, 0}, [16] = {"IQ2_XXS", false, 0, 0}, [17] = {"IQ2_XS", false, 0, 0}, [18] = {"IQ3_XXS", false, 0, 0},
    [19] = {"IQ1_S", false, 0, 0}, [20] = {"IQ4_NL", false, 0, 0}, [21] = {"IQ3_S", false, 0, 0}, [22] = {"IQ2_S", false, 0, 0},
    [23] = {"IQ4_XS", false, 0, 0}, [24] = {"I8", true, CAD_PACK_NONE, CAD_I8}, [25] = {"I16", true, CAD_PACK_NONE, CAD_I16},
    [26] = {"I32", true, CAD_PACK_NONE, CAD_I32}, [27] = {"I64", true, CAD_PACK_NONE, CAD_I64}, [28] = {"F64", true, CAD_PACK_NONE, CAD_F64},
    [29] = {"IQ1_M", false, 0, 0}, [30] = {"BF16", true, CAD_PACK_NONE, CAD_BF16}, [34] = {"TQ1_0", false, 0, 0}, [35] = {"TQ2_0", false, 0, 0},
    [39] = {"MXFP4", false, 0, 0},
};
enum { TYPES = sizeof types / sizeof *types };

static cad_status find_type(const scan *s, uint64_t number, cad_st_tensor *t)
{
    const char *name = number < TYPES && types[number].name ? types[number].name : "unknown";
    char shown[64];

    if (number >= TYPES || !types[number].read)
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: expected F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K, found type %" PRIu64 " (%s)",
                        cadp_show(shown, t->name, strlen(t->name)), s->path, number, name);
    t->pack = types[number].pack;
    t->dtype = types[number].dtype;
    return CAD_OK;
}

/* The fastest dimension comes first in the file. */
static cad_status read_shape(scan *s, cad_st_tensor *t)
{
    uint64_t dims, size;
    char shown[64];

    CAD_TRY(take(s, 4, &dims, "the number of dimensions"));
    if (dims < 1 || dims > 4) return cad_fail(CAD_EMODEL, "tensor '%s' in %s: expected 1 to 4 dimensions, found %" PRIu64, cadp_show(shown, t->name, strlen(t->name)), s->path, dims);
    t->dims = (int)dims;
    t->elems = 1;
    for (int i = t->dims - 1; i >= 0; i--) {
        CAD_TRY(take(s, 8, &size, "a dimension"));
        if (size < 1 || size > INT64_MAX || __builtin_mul_overflow(t->elems, (int64_t)size, &t->elems))
            return cad_fail(CAD_EMODEL, "tensor '%s' in %s: expected a shape of 1 to 2^63 elements, found another", cadp_show(shown, t->name, strlen(t->name)), s->path);
        t->shape[i] = (int64_t)size;
    }
    return CAD_OK;
}

static cad_status find_bytes(const scan *s, cad_st_tensor *t)
{
    int64_t each = cadp_pack_elems(t->pack), cols = t->shape[t->dims - 1];
    size_t unit = t->pack ? cadp_pack_bytes(t->pack) : cad_dtype_bytes(t->dtype);
    char shown[64];

    if (cols % each)
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: expected rows of whole blocks of %" PRId64 " values as %s has them, found %" PRId64 " values",
                        cadp_show(shown, t->name, strlen(t->name)), s->path, each, cad_st_kind(t), cols);
    if (!cad_mul_ok((size_t)(t->elems / each), unit, &t->bytes))
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: expected a shape of at most 2^63 bytes, found more", cadp_show(shown, t->name, strlen(t->name)), s->path);
    return CAD_OK;
}

static cad_status read_name(scan *s, cad_st_tensor *t, cad_map *seen, int file, char **room)
{
    const char *name;
    size_t n;
    char shown[64];
    bool had;

    CAD_TRY(take_text(s, &name, &n, "a tensor's name"));
    if (!n || n > LONGEST_NAME || !cad_utf8_valid(name, n, NULL) || memchr(name, 0, n))
        return cad_fail(CAD_EMODEL, "%s: expected a tensor's name of 1 to %d bytes of UTF-8 at byte %td, found another", s->path, LONGEST_NAME, (const unsigned char *)name - s->begin);
    t->name = *room;
    memcpy(t->name, name, n);
    t->name[n] = 0;
    *room += n + 1;
    CAD_TRY(cad_map_set(seen, name, n, file, &had));
    return had ? cad_fail(CAD_EMODEL, "tensor '%s' in %s: the name stands twice", cadp_show(shown, name, n), s->path) : CAD_OK;
}

/* `data` keeps the place as the file gives it until the head's end is known. */
static cad_status read_tensor(scan *s, cadp_gguf_head *h, cad_map *seen, int file, char **room)
{
    cad_st_tensor *t = &h->tensors[h->count];
    uint64_t type, place;

    t->file = file;
    CAD_TRY(read_name(s, t, seen, file, room));
    CAD_TRY(read_shape(s, t));
    CAD_TRY(take(s, 4, &type, "a tensor's type"));
    CAD_TRY(take(s, 8, &place, "a tensor's place"));
    CAD_TRY(find_type(s, type, t));
    CAD_TRY(find_bytes(s, t));
    t->data = (const void *)(uintptr_t)place;
    h->count++;
    return CAD_OK;
}

/* Tensors follow each other in the order of the head, each on a multiple of the alignment, and the last ends inside the file. */
static cad_status place_tensors(const scan *s, cadp_gguf_head *h, uint64_t align)
{
    uint64_t head = (uint64_t)(s->at - s->begin), size = (uint64_t)(s->end - s->begin), due = 0;
    uint64_t data = head + (align - head % align) % align;
    char shown[64];

    for (int i = 0; i < h->count; i++) {
        cad_st_tensor *t = &h->tensors[i];
        uint64_t place = (uint64_t)(uintptr_t)t->data;
        cadp_show(shown, t->name, strlen(t->name));
        if (place != due)
            return cad_fail(CAD_EMODEL, "tensor '%s' in %s: expected its data at byte %" PRIu64 " behind the head, found %" PRIu64, shown, s->path, due, place);
        if (data > size || place > size - data || t->bytes > size - data - place)
            return cad_fail(CAD_EMODEL, "tensor '%s' in %s: expected %zu bytes of data, found the end of the file; it is truncated", shown, s->path, t->bytes);
        t->data = s->begin + data + place;
        due = place + t->bytes + (align - t->bytes % align) % align;
    }
    return CAD_OK;
}

/* ---- the head ---- */

static cad_status check_start(scan *s, uint64_t *tensors, uint64_t *entries)
{
    uint64_t magic, version;

    CAD_TRY(take(s, 4, &magic, "the letters GGUF"));
    if (magic != 0x46554747u) return cad_fail(CAD_EMODEL, "%s: expected a GGUF file, found other first bytes", s->path);
    CAD_TRY(take(s, 4, &version, "the version"));
    if (version != 2 && version != 3)
        return cad_fail(CAD_EMODEL, "%s: expected GGUF version 2 or 3, found %s", s->path, version == 1 ? "version 1" : version & 0xffff ? "another version" : "a big-endian file");
    CAD_TRY(take(s, 8, tensors, "the number of tensors"));
    CAD_TRY(take(s, 8, entries, "the number of keys"));
    if (*tensors > (uint64_t)(s->end - s->at) / SHORTEST_TENSOR || *tensors > INT_MAX)
        return cad_fail(CAD_EMODEL, "%s: the file claims %" PRIu64 " tensors, its %td bytes cannot hold them", s->path, *tensors, s->end - s->begin);
    if (*entries > (uint64_t)(s->end - s->at) / SHORTEST_ENTRY)
        return cad_fail(CAD_EMODEL, "%s: the file claims %" PRIu64 " keys, its %td bytes cannot hold them", s->path, *entries, s->end - s->begin);
    return CAD_OK;
}

static cad_status find_alignment(const scan *s, const cadp_gguf_head *h, uint64_t *align)
{
    cad_gguf_value v;

    *align = CADP_GGUF_ALIGNMENT;
    if (!cadp_gguf_get(h, "general.alignment", &v)) return CAD_OK;
    if (v.kind != CAD_INT || v.integer < 8 || v.integer > 1 << 20 || v.integer & (v.integer - 1))
        return cad_fail(CAD_EMODEL, "%s: \"general.alignment\": expected a power of two from 8 to 1048576, found another value", s->path);
    *align = (uint64_t)v.integer;
    return CAD_OK;
}

/* Bytes that the names take, each with a NUL; the scan is a copy, so that the tensors can be read afterwards. */
static cad_status measure_names(scan s, uint64_t tensors, size_t *out)
{
    const char *name;
    size_t n;
    uint64_t dims;

    *out = 0;
    for (uint64_t i = 0; i < tensors; i++) {
        CAD_TRY(take_text(&s, &name, &n, "a tensor's name"));
        CAD_TRY(take(&s, 4, &dims, "the number of dimensions"));
        CAD_TRY(need(&s, dims * 8 + 12, "a tensor's shape, type and place"));
        s.at += dims * 8 + 12;
        *out += n + 1;
    }
    return CAD_OK;
}

static cad_status read_head(scan *s, cadp_gguf_head *h, cad_map *seen, int file)
{
    uint64_t tensors = 0, entries = 0, align;
    size_t name_bytes;
    char *room;

    CAD_TRY(check_start(s, &tensors, &entries));
    CAD_TRY(cad_map_open(&h->keys));
    CAD_TRY(cad_alloc(&h->entries, (size_t)entries, sizeof *h->entries, "metadata"));
    for (uint64_t i = 0; i < entries; i++) CAD_TRY(read_entry(s, h));
    CAD_TRY(find_alignment(s, h, &align));
    CAD_TRY(cad_alloc(&h->tensors, (size_t)tensors, sizeof *h->tensors, "a list of tensors"));
    CAD_TRY(measure_names(*s, tensors, &name_bytes));
    CAD_TRY(cad_alloc(&h->names, name_bytes, 1, "names of tensors"));
    room = h->names;
    for (uint64_t i = 0; i < tensors; i++) CAD_TRY(read_tensor(s, h, seen, file, &room));
    return place_tensors(s, h, align);
}

cad_status cadp_gguf_head_read(cadp_gguf_head *out, cad_map *seen, int file, const char *path, const void *bytes, size_t size)
{
    scan s = {path, bytes, bytes, (const unsigned char *)bytes + size};
    cad_status status;

    *out = (cadp_gguf_head){0};
    status = read_head(&s, out, seen, file);
    if (status) cadp_gguf_head_close(out);
    return status;
}

void cadp_gguf_head_close(cadp_gguf_head *h)
{
    for (int64_t i = 0; h->entries && i < h->entry_count; i++) cad_free(&h->entries[i].strings);
    cad_free(&h->entries);
    cad_map_close(&h->keys);
    cad_free(&h->tensors);
    cad_free(&h->names);
    *h = (cadp_gguf_head){0};
}

bool cadp_gguf_get(const cadp_gguf_head *h, const char *key, cad_gguf_value *out)
{
    int64_t i;

    if (!cad_map_get(h->keys, key, strlen(key), &i)) return false;
    *out = h->entries[i].value;
    return true;
}
