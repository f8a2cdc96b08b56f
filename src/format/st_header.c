#include "st_priv.h"

#include <inttypes.h>
#include <stdlib.h>

/* The limit of the format's own library, and the shortest text an entry can have ("":{"dtype":"U8",…},). */
enum { LONGEST_HEADER = 100000000, SHORTEST_ENTRY = 48 };

typedef struct scan {
    cadp_cursor c;
    const char *path;
    const unsigned char *data; /* the bytes behind the header */
    uint64_t data_bytes;
    char *free_name;           /* decoded strings are never longer than their text */
} scan;

static bool take(scan *s, char what)
{
    cadp_json_space(&s->c);
    if (s->c.at >= s->c.end || *s->c.at != what) return false;
    s->c.at++;
    return true;
}

static cad_status need(scan *s, char what, const char *expected)
{
    return take(s, what) ? CAD_OK : cadp_cursor_fail(&s->c, expected);
}

/* Decodes into the names' room; the caller gives it back by setting free_name. A NUL would end a C string before its end. */
static cad_status read_string(scan *s, char **out, const char *expected)
{
    const char *from, *close;
    size_t n;
    bool plain;

    cadp_json_space(&s->c);
    if (s->c.at >= s->c.end || *s->c.at != '"') return cadp_cursor_fail(&s->c, expected);
    from = s->c.at + 1;
    CAD_TRY(cadp_json_string(&s->c, &close, &plain));
    n = cadp_json_unescape(s->free_name, from, close);
    if (memchr(s->free_name, 0, n))
        return cad_fail(CAD_EMODEL, "%s:%d:%d: expected no NUL character in a string", s->path, s->c.line, cadp_cursor_column(&s->c));
    s->free_name[n] = 0;
    *out = s->free_name;
    s->free_name += n + 1;
    return CAD_OK;
}

/* A whole number as JSON writes it: no sign, no leading zero, no fraction, no exponent. */
static cad_status read_number(scan *s, const char *tensor, const char *what, int64_t *out)
{
    char shown[64];
    const char *from, *at, *end = s->c.end;
    int64_t v = 0;
    bool fits = true;

    cadp_json_space(&s->c);
    for (from = at = s->c.at; at < end && *at >= '0' && *at <= '9'; at++)
        fits = fits && !__builtin_mul_overflow(v, 10, &v) && !__builtin_add_overflow(v, *at - '0', &v);
    if (at == from || (*from == '0' && at - from > 1) || (at < end && strchr(".eE+-", *at ? *at : 'x')))
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: %s must be whole numbers from 0 (header column %d)", cadp_show(shown, tensor, strlen(tensor)),
            s->path, what, cadp_cursor_column(&s->c));
    if (!fits)
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: %s hold a number beyond 2^63 (header column %d)", cadp_show(shown, tensor, strlen(tensor)),
            s->path, what, cadp_cursor_column(&s->c));
    s->c.at = at;
    *out = v;
    return CAD_OK;
}

static cad_status read_dtype(scan *s, cad_st_tensor *t)
{
    char shown[64], shown_type[64];
    char *name;

    CAD_TRY(read_string(s, &name, "the dtype as a string"));
    s->free_name = name;
    if (cadp_dtype_find(&t->dtype, name)) return CAD_OK;
    return cad_fail(CAD_EMODEL, "tensor '%s' in %s: dtype '%s' is unknown; known are F32, BF16, F16, F64, I64, I32, I16, I8, U8, BOOL",
        cadp_show(shown, t->name, strlen(t->name)), s->path, cadp_show(shown_type, name, strlen(name)));
}

static cad_status read_shape(scan *s, cad_st_tensor *t)
{
    char shown[64];

    t->elems = 1;
    CAD_TRY(need(s, '[', "'[' of a shape"));
    if (take(s, ']')) return CAD_OK;
    do {
        if (t->dims == CAD_MAX_DIMS)
            return cad_fail(CAD_EMODEL, "tensor '%s' in %s: its shape has more than %d dimensions", cadp_show(shown, t->name, strlen(t->name)), s->path,
                CAD_MAX_DIMS);
        CAD_TRY(read_number(s, t->name, "shapes", &t->shape[t->dims]));
        if (__builtin_mul_overflow(t->elems, t->shape[t->dims], &t->elems))
            return cad_fail(CAD_EMODEL, "tensor '%s' in %s: its shape has more than 2^63 elements", cadp_show(shown, t->name, strlen(t->name)), s->path);
        t->dims++;
    } while (take(s, ','));
    return need(s, ']', "',' or ']' in a shape");
}

static cad_status read_offsets(scan *s, cad_st_tensor *t)
{
    char shown[64];
    int64_t begin, end;

    CAD_TRY(need(s, '[', "'[' of data_offsets"));
    CAD_TRY(read_number(s, t->name, "data_offsets", &begin));
    CAD_TRY(need(s, ',', "',' between two data_offsets"));
    CAD_TRY(read_number(s, t->name, "data_offsets", &end));
    CAD_TRY(need(s, ']', "']' after two data_offsets"));
    if (begin > end)
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: data_offsets [%" PRId64 ", %" PRId64 "] run backwards",
            cadp_show(shown, t->name, strlen(t->name)), s->path, begin, end);
    if ((uint64_t)end > s->data_bytes)
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: data_offsets [%" PRId64 ", %" PRId64 "] go beyond the file's %" PRIu64
            " bytes of data", cadp_show(shown, t->name, strlen(t->name)), s->path, begin, end, s->data_bytes);
    t->data = s->data + begin;
    t->bytes = (size_t)(end - begin);
    return CAD_OK;
}

static cad_status read_field(scan *s, cad_st_tensor *t, bool had[3])
{
    static const char *const names[3] = {"dtype", "shape", "data_offsets"};
    char shown[64], shown_key[64];
    char *key;
    int which = 0;

    CAD_TRY(read_string(s, &key, "a key"));
    s->free_name = key;
    CAD_TRY(need(s, ':', "':' after a key"));
    while (which < 3 && strcmp(key, names[which])) which++;
    if (which == 3)
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: key '%s' is unknown; expected dtype, shape, data_offsets",
            cadp_show(shown, t->name, strlen(t->name)), s->path, cadp_show(shown_key, key, strlen(key)));
    if (had[which])
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: key '%s' stands twice", cadp_show(shown, t->name, strlen(t->name)), s->path, key);
    had[which] = true;
    return which == 0 ? read_dtype(s, t) : which == 1 ? read_shape(s, t) : read_offsets(s, t);
}

static cad_status read_tensor(scan *s, cad_st_tensor *t)
{
    char shown[64];
    bool had[3] = {false};
    size_t bytes;

    CAD_TRY(need(s, '{', "'{' of a tensor"));
    if (!take(s, '}')) {
        do CAD_TRY(read_field(s, t, had));
        while (take(s, ','));
        CAD_TRY(need(s, '}', "',' or '}' in a tensor"));
    }
    if (!had[0] || !had[1] || !had[2])
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: has no %s", cadp_show(shown, t->name, strlen(t->name)), s->path,
            !had[0] ? "dtype" : !had[1] ? "shape" : "data_offsets");
    if (!cad_mul_ok((size_t)t->elems, cad_dtype_bytes(t->dtype), &bytes) || bytes != t->bytes)
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: %s of its shape needs %" PRId64 " x %zu bytes, data_offsets give it %zu",
            cadp_show(shown, t->name, strlen(t->name)), s->path, cad_dtype_name(t->dtype), t->elems, cad_dtype_bytes(t->dtype), t->bytes);
    return CAD_OK;
}

static cad_status skip_metadata(scan *s)
{
    char *text, *keep = s->free_name;

    CAD_TRY(need(s, '{', "'{' of __metadata__"));
    if (take(s, '}')) return CAD_OK;
    do {
        CAD_TRY(read_string(s, &text, "a key of __metadata__ as a string"));
        CAD_TRY(need(s, ':', "':' after a key"));
        CAD_TRY(read_string(s, &text, "a value of __metadata__ as a string"));
        s->free_name = keep;
    } while (take(s, ','));
    return need(s, '}', "',' or '}' in __metadata__");
}

static cad_status read_entry(scan *s, cadp_header *h, cad_map *seen, int file, bool *had_metadata)
{
    cad_st_tensor *t = &h->tensors[h->count];
    char shown[64];
    int64_t first = 0;
    char *name;
    bool had;

    CAD_TRY(read_string(s, &name, "a tensor's name"));
    CAD_TRY(need(s, ':', "':' after a name"));
    if (!strcmp(name, "__metadata__")) {
        s->free_name = name;
        if (*had_metadata) return cad_fail(CAD_EMODEL, "%s: __metadata__ stands twice in the header", s->path);
        *had_metadata = true;
        return skip_metadata(s);
    }
    if (cad_map_get(seen, name, strlen(name), &first))
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: the name stands twice%s", cadp_show(shown, name, strlen(name)), s->path,
            first == file ? "" : ", the first time in another file");
    *t = (cad_st_tensor){.name = name, .file = file};
    CAD_TRY(read_tensor(s, t));
    h->count++;
    return cad_map_set(seen, name, strlen(name), file, &had);
}

static cad_status read_entries(scan *s, cadp_header *h, cad_map *seen, int file)
{
    bool had_metadata = false;

    CAD_TRY(cadp_json_take(&s->c, '{', "'{' as the header's first byte"));
    if (!take(s, '}')) {
        do CAD_TRY(read_entry(s, h, seen, file, &had_metadata));
        while (take(s, ','));
        CAD_TRY(need(s, '}', "',' or '}'"));
    }
    cadp_json_space(&s->c);
    return s->c.at == s->c.end ? CAD_OK : cadp_cursor_fail(&s->c, "nothing but spaces behind the header's last '}'");
}

static int by_place(const void *a, const void *b)
{
    const cad_st_tensor *x = a, *y = b;
    const unsigned char *p = x->data, *q = y->data;

    if (p != q) return p < q ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return x->name < y->name ? -1 : x->name > y->name; /* empty tensors at one place: in the header's order */
}

/* The data are tiled without holes: nothing can hide between tensors, and no byte belongs to two of them. */
static cad_status check_places(const scan *s, const cadp_header *h)
{
    const unsigned char *at = s->data;
    char shown[64];

    for (int i = 0; i < h->count; i++) {
        const cad_st_tensor *t = &h->tensors[i];
        const unsigned char *begin = t->data;
        if (begin < at)
            return cad_fail(CAD_EMODEL, "tensor '%s' in %s: its data overlap another tensor's", cadp_show(shown, t->name, strlen(t->name)), s->path);
        if (begin > at)
            return cad_fail(CAD_EMODEL, "tensor '%s' in %s: a hole of %td bytes lies before its data", cadp_show(shown, t->name, strlen(t->name)), s->path,
                begin - at);
        at = begin + t->bytes;
    }
    if ((uint64_t)(at - s->data) != s->data_bytes)
        return cad_fail(CAD_EMODEL, "%s: %" PRIu64 " bytes behind the last tensor belong to none", s->path,
            s->data_bytes - (uint64_t)(at - s->data));
    return CAD_OK;
}

static uint64_t little_endian(const unsigned char *b)
{
    uint64_t v = 0;

    for (int i = 7; i >= 0; i--) v = v << 8 | b[i];
    return v;
}

static cad_status find_text(scan *s, const char *path, const unsigned char *bytes, size_t size)
{
    uint64_t n;

    if (size < 8) return cad_fail(CAD_EMODEL, "%s: expected a safetensors file, found %zu bytes", path, size);
    n = little_endian(bytes);
    if (n > LONGEST_HEADER)
        return cad_fail(CAD_EMODEL, "%s: the header claims %" PRIu64 " bytes, at most %d are allowed", path, n, LONGEST_HEADER);
    if (n > size - 8)
        return cad_fail(CAD_EMODEL, "%s: the header claims %" PRIu64 " bytes, the file has %zu; it is truncated or no safetensors file",
            path, n, size);
    s->path = path;
    s->data = bytes + 8 + n;
    s->data_bytes = size - 8 - n;
    cadp_cursor_begin(&s->c, (const char *)bytes + 8, (size_t)n, path, CAD_EMODEL, NULL);
    return cadp_check_utf8((const char *)bytes + 8, (size_t)n, path, CAD_EMODEL);
}

/* No more tensors than '{', and none shorter than its keys. */
static size_t most_tensors(const scan *s)
{
    size_t braces = 0, n = (size_t)(s->c.end - s->c.at);

    for (const char *p = s->c.at; p < s->c.end; p++) braces += *p == '{';
    return braces < n / SHORTEST_ENTRY + 1 ? braces : n / SHORTEST_ENTRY + 1;
}

cad_status cadp_st_header(cadp_header *out, cad_map *seen, int file, const char *path, const void *bytes, size_t size)
{
    scan s = {0};
    cad_status status;

    *out = (cadp_header){0};
    CAD_TRY(find_text(&s, path, bytes, size));
    CAD_TRY(cad_alloc(&out->tensors, most_tensors(&s), sizeof *out->tensors, "a list of tensors"));
    status = cad_alloc(&out->names, (size_t)(s.c.end - s.c.at) + 1, 1, "names of tensors");
    if (!status) {
        s.free_name = out->names;
        status = read_entries(&s, out, seen, file);
    }
    if (!status) {
        qsort(out->tensors, (size_t)out->count, sizeof *out->tensors, by_place);
        status = check_places(&s, out);
    }
    if (status) cadp_st_header_close(out);
    return status;
}

void cadp_st_header_close(cadp_header *h)
{
    cad_free(&h->tensors);
    cad_free(&h->names);
    h->count = 0;
}
