#include <cadtrain/format.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- shortest decimals ---- */

typedef struct decimal { char digits[24]; int count, exponent; } decimal; /* d.ddd x 10^exponent */

static double value_of(const decimal *d)
{
    char text[48];

    snprintf(text, sizeof text, "%.1s.%se%d", d->digits, d->digits + 1, d->exponent);
    return strtod(text, NULL);
}

static void round_to(decimal *d, double value, int count)
{
    char text[40];

    snprintf(text, sizeof text, "%.*e", count - 1, value);
    d->digits[0] = text[0];
    memcpy(d->digits + 1, text + 2, (size_t)(count - 1));
    d->exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    for (d->count = count; d->count > 1 && d->digits[d->count - 1] == '0'; d->count--) {
    }
    d->digits[d->count] = 0;
}

/* One more in the last of `count` places. */
static void step_up(decimal *d, int count)
{
    while (d->count < count) d->digits[d->count++] = '0';
    int i = count - 1;
    while (i >= 0 && d->digits[i] == '9') d->digits[i--] = '0';
    if (i >= 0) d->digits[i]++;
    else {
        d->digits[0] = '1';
        d->exponent++;
    }
    d->digits[d->count] = 0;
}

/* Above a power of two the interval that reads back is twice as wide as below, so the nearest decimal of some length may miss
 * it where the next one hits. 15 digits are unique for normal numbers: what is shorter shows as trailing zeros. */
static decimal shortest(double value)
{
    int e;
    bool power = frexp(value, &e) == 0.5;
    decimal d = {.count = 0};

    for (int count = value < DBL_MIN ? 1 : 15; count <= 17; count++) {
        round_to(&d, value, count);
        if (value_of(&d) == value) break;
        if (!power) continue;
        step_up(&d, count);
        if (value_of(&d) == value) break;
    }
    return d;
}

/* As Python's repr: an exponent below 1e-4 and from 1e16 on. */
static int lay_out(char *out, size_t room, const decimal *d)
{
    int e = d->exponent, n = d->count;

    if (e < -4 || e >= 16)
        return snprintf(out, room, "%.1s%s%se%c%02d", d->digits, n > 1 ? "." : "", d->digits + 1, e < 0 ? '-' : '+', abs(e));
    if (e < 0) return snprintf(out, room, "0.%.*s%s", -e - 1, "000", d->digits);
    if (n <= e + 1) return snprintf(out, room, "%s%.*s.0", d->digits, e + 1 - n, "0000000000000000");
    return snprintf(out, room, "%.*s.%s", e + 1, d->digits, d->digits + e + 1);
}

int cad_format_real(char out[32], double value)
{
    bool minus = signbit(value) && !isnan(value);
    decimal d = {.digits = "0", .count = 1};

    if (isnan(value)) return snprintf(out, 32, "NaN");
    if (isinf(value)) return snprintf(out, 32, minus ? "-Infinity" : "Infinity");
    if (value != 0) d = shortest(fabs(value));
    out[0] = '-';
    return minus + lay_out(out + minus, (size_t)(32 - minus), &d);
}

/* ---- the writer ---- */

static cad_status add(cad_json *j, const char *s) { return cad_str_add(&j->text, s, strlen(s)); }

static cad_status new_line(cad_json *j)
{
    CAD_TRY(add(j, "\n"));
    for (int i = 0; i < j->depth; i++) CAD_TRY(add(j, "  "));
    return CAD_OK;
}

static cad_status add_escape(cad_json *j, unsigned char c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *p = c ? strchr(from, c) : NULL;

    return p ? cad_str_addf(&j->text, "\\%c", to[p - from]) : cad_str_addf(&j->text, "\\u%04x", c);
}

/* Bytes that are no UTF-8 become U+FFFD, so that what is written is JSON whatever comes in. */
static cad_status quote(cad_json *j, const char *s, size_t n)
{
    size_t valid;

    CAD_TRY(add(j, "\""));
    while (n) {
        size_t i = 0;
        if (cad_utf8_valid(s, n, &valid)) valid = n;
        while (i < valid) {
            size_t from = i;
            while (i < valid && (unsigned char)s[i] >= 0x20 && s[i] != '"' && s[i] != '\\') i++;
            CAD_TRY(cad_str_add(&j->text, s + from, i - from));
            if (i < valid) CAD_TRY(add_escape(j, (unsigned char)s[i++]));
        }
        if (valid < n) {
            CAD_TRY(add(j, "\xef\xbf\xbd"));
            valid++;
        }
        s += valid;
        n -= valid;
    }
    return add(j, "\"");
}

/* What stands before a value: comma, line, key. */
static cad_status lead(cad_json *j, const char *key, size_t n)
{
    if (j->depth) {
        if (!j->first[j->depth]) CAD_TRY(add(j, j->pretty ? "," : ", "));
        j->first[j->depth] = false;
        if (j->pretty) CAD_TRY(new_line(j));
    }
    CAD_ASSERT(!key == !(j->depth && j->closing[j->depth] == '}'));
    if (!key) return CAD_OK;
    CAD_TRY(quote(j, key, n));
    return add(j, ": ");
}

static cad_status lead_name(cad_json *j, const char *key) { return lead(j, key, key ? strlen(key) : 0); }

static cad_status open_bracket(cad_json *j, char bracket)
{
    CAD_ASSERT((bracket == '{' || bracket == '[') && j->depth + 1 < (int)sizeof j->closing);
    j->depth++;
    j->first[j->depth] = true;
    j->closing[j->depth] = bracket == '{' ? '}' : ']';
    return cad_str_add(&j->text, &bracket, 1);
}

static cad_status add_real(cad_json *j, double value)
{
    char text[32];

    return cad_str_add(&j->text, text, (size_t)cad_format_real(text, value));
}

/* Digits that an int64 cannot hold are written as they came. */
static bool is_integer(const cad_node *n)
{
    const char *s = n->text;

    if (!s) return false;
    s += *s == '-';
    return *s >= '1' && *s <= '9' && !s[strspn(s, "0123456789")];
}

static cad_status add_value(cad_json *j, const cad_node *n);

static cad_status add_entries(cad_json *j, const cad_node *n)
{
    CAD_TRY(open_bracket(j, n->kind == CAD_TABLE ? '{' : '['));
    for (const cad_node *c = n->child; c; c = c->next) {
        CAD_TRY(lead(j, c->key, (size_t)c->key_size));
        CAD_TRY(add_value(j, c));
    }
    return cad_json_end(j);
}

static cad_status add_value(cad_json *j, const cad_node *n)
{
    switch (n->kind) {
    case CAD_NULL: return add(j, "null");
    case CAD_BOOL: return add(j, n->boolean ? "true" : "false");
    case CAD_INT: return cad_str_addf(&j->text, "%lld", (long long)n->integer);
    case CAD_REAL: return is_integer(n) ? cad_str_add(&j->text, n->text, n->size) : add_real(j, n->real);
    case CAD_STRING: return quote(j, n->text, n->size);
    case CAD_LIST:
    case CAD_TABLE: break;
    }
    return add_entries(j, n);
}

cad_status cad_json_begin(cad_json *j, const char *key, char bracket)
{
    CAD_TRY(lead_name(j, key));
    return open_bracket(j, bracket);
}

cad_status cad_json_end(cad_json *j)
{
    CAD_ASSERT(j->depth > 0);
    char close = j->closing[j->depth];
    bool empty = j->first[j->depth--];
    if (j->pretty && !empty) CAD_TRY(new_line(j));
    return cad_str_add(&j->text, &close, 1);
}

cad_status cad_json_string(cad_json *j, const char *key, const char *value)
{
    return value ? cad_json_bytes(j, key, value, strlen(value)) : cad_json_null(j, key);
}

cad_status cad_json_bytes(cad_json *j, const char *key, const char *value, size_t n)
{
    CAD_TRY(lead_name(j, key));
    return quote(j, value, n);
}

cad_status cad_json_int(cad_json *j, const char *key, int64_t value)
{
    CAD_TRY(lead_name(j, key));
    return cad_str_addf(&j->text, "%lld", (long long)value);
}

cad_status cad_json_real(cad_json *j, const char *key, double value)
{
    CAD_TRY(lead_name(j, key));
    return add_real(j, value);
}

cad_status cad_json_bool(cad_json *j, const char *key, bool value)
{
    CAD_TRY(lead_name(j, key));
    return add(j, value ? "true" : "false");
}

cad_status cad_json_null(cad_json *j, const char *key)
{
    CAD_TRY(lead_name(j, key));
    return add(j, "null");
}

cad_status cad_json_node(cad_json *j, const char *key, const cad_node *node)
{
    CAD_TRY(lead_name(j, key));
    return add_value(j, node);
}

cad_status cad_json_raw(cad_json *j, const char *key, const char *text)
{
    CAD_TRY(lead_name(j, key));
    return add(j, text);
}

void cad_json_close(cad_json *j)
{
    cad_str_close(&j->text);
    j->depth = 0;
}
