#include "st_priv.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

/* The limit of the format's own library, and the shortest text an entry can have ("":{"dtype":"U8",…},). */
enum { LONGEST_HEADER = 100000000, SHORTEST_ENTRY = 48 };

typedef struct scan {
    const char *path;
    const char *start, *at, *end; /* the header's text */
    const unsigned char *data;    /* the bytes behind it */
    uint64_t data_bytes;
    char *names, *free_name;      /* decoded strings are never longer than their text */
} scan;

const char *cadp_st_show(cadp_shown *s, const char *name)
{
    size_t n = strlen(name), limit = 96;
    bool cut = n > limit;

    if (cut)
        for (n = limit; n > 0 && ((unsigned char)name[n] & 0xc0) == 0x80;) n--;
    for (size_t i = 0; i < n; i++) s->text[i] = (unsigned char)name[i] < 0x20 || name[i] == 0x7f ? '?' : name[i];
    memcpy(s->text + n, "...", 4);
    if (!cut) s->text[n] = 0;
    return s->text;
}

static void skip_space(scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t')) s->at++;
}

static cad_status expected(const scan *s, const char *what)
{
    char found[16] = "the end";

    if (s->at < s->end) {
        unsigned char c = (unsigned char)*s->at;
        snprintf(found, sizeof found, c > 0x20 && c < 0x7f ? "'%c'" : "byte 0x%02x", c);
    }
    return cad_fail(CAD_EMODEL, "%s: header byte %td: expected %s, found %s", s->path, s->at - s->start, what, found);
}

static bool take(scan *s, char c)
{
    skip_space(s);
    if (s->at >= s->end || *s->at != c) return false;
    s->at++;
    return true;
}

static cad_status need(scan *s, char c, const char *what)
{
    return take(s, c) ? CAD_OK : expected(s, what);
}

static int hex4(const scan *s)
{
    int v = 0;

    if (s->end - s->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = s->at[i];
        int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}

static char *put_utf8(char *out, int c)
{
    if (c < 0x80) *out++ = (char)c;
    else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 63));
        *out++ = (char)(0x80 | (c & 63));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 63));
        *out++ = (char)(0x80 | (c >> 6 & 63));
        *out++ = (char)(0x80 | (c & 63));
    }
    return out;
}

/* \uXXXX behind the 'u', with its second half for characters beyond 16 bits; \u0000 would end a C string and is refused. */
static cad_status read_unicode(scan *s, char **out)
{
    int c = hex4(s), low;

    if (c <= 0 || (c >= 0xdc00 && c < 0xe000)) return expected(s, "four hexadecimal digits of a character");
    s->at += 4;
    if (c >= 0xd800 && c < 0xdc00) {
        if (s->end - s->at < 6 || s->at[0] != '\\' || s->at[1] != 'u') return expected(s, "the second half of a surrogate pair");
        s->at += 2;
        low = hex4(s);
        if (low < 0xdc00 || low >= 0xe000) return expected(s, "the second half of a surrogate pair");
        s->at += 4;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    *out = put_utf8(*out, c);
    return CAD_OK;
}

static cad_status read_escape(scan *s, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *known = s->at < s->end && *s->at ? strchr(from, *s->at) : NULL;

    if (known) {
        *(*out)++ = to[known - from];
        s->at++;
        return CAD_OK;
    }
    if (s->at >= s->end || *s->at != 'u') return expected(s, "an escape of JSON");
    s->at++;
    return read_unicode(s, out);
}

/* Decodes into the names' room; the caller keeps it by leaving free_name where it is, or gives it back. */
static cad_status read_string(scan *s, char **out, const char *what)
{
    char *to = s->free_name;

    CAD_TRY(need(s, '"', what));
    while (s->at < s->end && *s->at != '"') {
        if ((unsigned char)*s->at < 0x20) return expected(s, "no control character in a string");
        if (*s->at == '\\') {
            s->at++;
            CAD_TRY(read_escape(s, &to));
        } else *to++ = *s->at++;
    }
    CAD_TRY(need(s, '"', "the closing '\"' of a string"));
    *to++ = 0;
    *out = s->free_name;
    s->free_name = to;
    return CAD_OK;
}

/* A whole number as JSON writes it: no sign, no leading zero, no fraction, no exponent. */
static cad_status read_number(scan *s, const char *tensor, const char *what, int64_t *out)
{
    cadp_shown shown;
    const char *from;
    int64_t v = 0;
    bool fits = true;

    skip_space(s);
    for (from = s->at; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++)
        fits = fits && !__builtin_mul_overflow(v, 10, &v) && !__builtin_add_overflow(v, *s->at - '0', &v);
    if (s->at == from || (*from == '0' && s->at - from > 1) || (s->at < s->end && strchr(".eE+-", *s->at ? *s->at : 'x')))
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: %s must be whole numbers from 0 (header byte %td)", cadp_st_show(&shown, tensor),
            s->path, what, from - s->start);
    if (!fits)
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: %s hold a number beyond 2^63 (header byte %td)", cadp_st_show(&shown, tensor),
            s->path, what, from - s->start);
    *out = v;
    return CAD_OK;
}

static cad_status read_dtype(scan *s, cad_st_tensor *t)
{
    cadp_shown shown, shown_type;
    char *name;

    CAD_TRY(read_string(s, &name, "the dtype as a string"));
    s->free_name = name;
    if (cadp_dtype_find(&t->dtype, name)) return CAD_OK;
    return cad_fail(CAD_EMODEL, "tensor '%s' in %s: dtype '%s' is unknown; known are F32, BF16, F16, F64, I64, I32, I16, I8, U8, BOOL",
        cadp_st_show(&shown, t->name), s->path, cadp_st_show(&shown_type, name));
}

static cad_status read_shape(scan *s, cad_st_tensor *t)
{
    cadp_shown shown;

    t->elems = 1;
    CAD_TRY(need(s, '[', "'[' of a shape"));
    if (take(s, ']')) return CAD_OK;
    do {
        if (t->dims == CAD_MAX_DIMS)
            return cad_fail(CAD_EMODEL, "tensor '%s' in %s: its shape has more than %d dimensions", cadp_st_show(&shown, t->name), s->path,
                CAD_MAX_DIMS);
        CAD_TRY(read_number(s, t->name, "shapes", &t->shape[t->dims]));
        if (__builtin_mul_overflow(t->elems, t->shape[t->dims], &t->elems))
            return cad_fail(CAD_EMODEL, "tensor '%s' in %s: its shape has more than 2^63 elements", cadp_st_show(&shown, t->name), s->path);
        t->dims++;
    } while (take(s, ','));
    return need(s, ']', "',' or ']' in a shape");
}

static cad_status read_offsets(scan *s, cad_st_tensor *t)
{
    cadp_shown shown;
    int64_t begin, end;

    CAD_TRY(need(s, '[', "'[' of data_offsets"));
    CAD_TRY(read_number(s, t->name, "data_offsets", &begin));
    CAD_TRY(need(s, ',', "',' between two data_offsets"));
    CAD_TRY(read_number(s, t->name, "data_offsets", &end));
    CAD_TRY(need(s, ']', "']' after two data_offsets"));
    if (begin > end)
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: data_offsets [%" PRId64 ", %" PRId64 "] run backwards",
            cadp_st_show(&shown, t->name), s->path, begin, end);
    if ((uint64_t)end > s->data_bytes)
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: data_offsets [%" PRId64 ", %" PRId64 "] go beyond the file's %" PRIu64
            " bytes of data", cadp_st_show(&shown, t->name), s->path, begin, end, s->data_bytes);
    t->data = s->data + begin;
    t->bytes = (size_t)(end - begin);
    return CAD_OK;
}

static cad_status read_field(scan *s, cad_st_tensor *t, bool had[3])
{
    static const char *const names[3] = {"dtype", "shape", "data_offsets"};
    cadp_shown shown, shown_key;
    char *key;
    int which = 0;

    CAD_TRY(read_string(s, &key, "a key"));
    s->free_name = key;
    CAD_TRY(need(s, ':', "':' after a key"));
    while (which < 3 && strcmp(key, names[which])) which++;
    if (which == 3)
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: key '%s' is unknown; expected dtype, shape, data_offsets",
            cadp_st_show(&shown, t->name), s->path, cadp_st_show(&shown_key, key));
    if (had[which])
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: key '%s' stands twice", cadp_st_show(&shown, t->name), s->path, key);
    had[which] = true;
    return which == 0 ? read_dtype(s, t) : which == 1 ? read_shape(s, t) : read_offsets(s, t);
}

static cad_status read_tensor(scan *s, cad_st_tensor *t)
{
    cadp_shown shown;
    bool had[3] = {false};
    size_t bytes;

    CAD_TRY(need(s, '{', "'{' of a tensor"));
    if (!take(s, '}')) {
        do CAD_TRY(read_field(s, t, had));
        while (take(s, ','));
        CAD_TRY(need(s, '}', "',' or '}' in a tensor"));
    }
    if (!had[0] || !had[1] || !had[2])
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: has no %s", cadp_st_show(&shown, t->name), s->path,
            !had[0] ? "dtype" : !had[1] ? "shape" : "data_offsets");
    if (!cad_mul_ok((size_t)t->elems, cad_dtype_bytes(t->dtype), &bytes) || bytes != t->bytes)
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: %s of its shape needs %" PRId64 " x %zu bytes, data_offsets give it %zu",
            cadp_st_show(&shown, t->name), s->path, cad_dtype_name(t->dtype), t->elems, cad_dtype_bytes(t->dtype), t->bytes);
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
    cadp_shown shown;
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
        return cad_fail(CAD_EMODEL, "tensor '%s' in %s: the name stands twice%s", cadp_st_show(&shown, name), s->path,
            first == file ? "" : ", the first time in another file");
    *t = (cad_st_tensor){.name = name, .file = file};
    CAD_TRY(read_tensor(s, t));
    h->count++;
    return cad_map_set(seen, name, strlen(name), file, &had);
}

static cad_status read_entries(scan *s, cadp_header *h, cad_map *seen, int file)
{
    bool had_metadata = false;

    if (s->at >= s->end || *s->at != '{') return expected(s, "'{' as the first byte");
    s->at++;
    if (!take(s, '}')) {
        do CAD_TRY(read_entry(s, h, seen, file, &had_metadata));
        while (take(s, ','));
        CAD_TRY(need(s, '}', "',' or '}'"));
    }
    skip_space(s);
    return s->at == s->end ? CAD_OK : expected(s, "nothing but spaces behind the header's last '}'");
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
    cadp_shown shown;

    for (int i = 0; i < h->count; i++) {
        const cad_st_tensor *t = &h->tensors[i];
        const unsigned char *begin = t->data;
        if (begin < at)
            return cad_fail(CAD_EMODEL, "tensor '%s' in %s: its data overlap another tensor's", cadp_st_show(&shown, t->name), s->path);
        if (begin > at)
            return cad_fail(CAD_EMODEL, "tensor '%s' in %s: a hole of %td bytes lies before its data", cadp_st_show(&shown, t->name), s->path,
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

static cad_status find_text(scan *s, const unsigned char *bytes, size_t size)
{
    uint64_t n;
    size_t bad;

    if (size < 8) return cad_fail(CAD_EMODEL, "%s: expected a safetensors file, found %zu bytes", s->path, size);
    n = little_endian(bytes);
    if (n > LONGEST_HEADER)
        return cad_fail(CAD_EMODEL, "%s: the header claims %" PRIu64 " bytes, at most %d are allowed", s->path, n, LONGEST_HEADER);
    if (n > size - 8)
        return cad_fail(CAD_EMODEL, "%s: the header claims %" PRIu64 " bytes, the file has %zu; it is truncated or no safetensors file",
            s->path, n, size);
    s->start = s->at = (const char *)bytes + 8;
    s->end = s->start + n;
    s->data = bytes + 8 + n;
    s->data_bytes = size - 8 - n;
    if (!cad_utf8_valid(s->start, (size_t)n, &bad))
        return cad_fail(CAD_EMODEL, "%s: header byte %zu is not UTF-8", s->path, bad);
    return CAD_OK;
}

/* No more tensors than '{', and none shorter than its keys. */
static size_t most_tensors(const scan *s)
{
    size_t braces = 0, n = (size_t)(s->end - s->start);

    for (const char *p = s->start; p < s->end; p++) braces += *p == '{';
    return braces < n / SHORTEST_ENTRY + 1 ? braces : n / SHORTEST_ENTRY + 1;
}

cad_status cadp_st_header(cadp_header *out, cad_map *seen, int file, const char *path, const void *bytes, size_t size)
{
    scan s = {.path = path};
    cad_status status;

    *out = (cadp_header){0};
    CAD_TRY(find_text(&s, bytes, size));
    CAD_TRY(cad_alloc(&out->tensors, most_tensors(&s), sizeof *out->tensors, "a list of tensors"));
    status = cad_alloc(&out->names, (size_t)(s.end - s.start) + 1, 1, "names of tensors");
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
