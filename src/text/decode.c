#include "text_priv.h"

/* Tokens as strings, one behind the other. */
typedef struct tokens { cad_str bytes; size_t *end; int64_t count, room; } tokens;

static cad_status end_token(tokens *k)
{
    if (k->count == k->room) {
        int64_t room = k->room ? 2 * k->room : 64;
        CAD_TRY(cad_grow(&k->end, (size_t)room, sizeof *k->end, "tokens"));
        k->room = room;
    }
    k->end[k->count++] = k->bytes.size;
    return CAD_OK;
}

static cad_status add_token(tokens *k, const char *s, size_t n)
{
    CAD_TRY(cad_str_add(&k->bytes, s, n));
    return end_token(k);
}

static void tokens_close(tokens *k)
{
    cad_str_close(&k->bytes);
    cad_free(&k->end);
}

static const char *token_at(const tokens *k, int64_t i, size_t *n)
{
    size_t from = i ? k->end[i - 1] : 0;

    *n = k->end[i] - from;
    return k->bytes.data + from;
}

/* The length of the ill-formed sequence at s that one U+FFFD replaces: its longest valid beginning (Unicode, section 3.9); 0 when s begins with
 * *good well-formed bytes. */
static size_t ill_formed(const unsigned char *s, size_t n, size_t *good)
{
    unsigned char low = 0x80, high = 0xBF;
    size_t need, i;

    *good = 1;
    if (s[0] < 0x80) return 0;
    if (s[0] < 0xC2 || s[0] > 0xF4) return 1;
    need = s[0] < 0xE0 ? 1 : s[0] < 0xF0 ? 2 : 3;
    if (s[0] == 0xE0) low = 0xA0;
    if (s[0] == 0xED) high = 0x9F;
    if (s[0] == 0xF0) low = 0x90;
    if (s[0] == 0xF4) high = 0x8F;
    for (i = 1; i <= need; ++i) {
        if (i >= n || s[i] < low || s[i] > high) return i;
        low = 0x80;
        high = 0xBF;
    }
    *good = need + 1;
    return 0;
}

static cad_status add_lossy(cad_str *out, const char *s, size_t n)
{
    size_t from = 0, good;

    for (size_t i = 0; i < n;) {
        size_t bad = ill_formed((const unsigned char *)s + i, n - i, &good);
        if (bad) {
            CAD_TRY(cad_str_add(out, s + from, i - from));
            CAD_TRY(cad_str_add(out, "\xEF\xBF\xBD", 3));
            from = i + bad;
        }
        i += bad ? bad : good;
    }
    return cad_str_add(out, s + from, n - from);
}

static cad_status decode_bytes(const tokens *in, tokens *out)
{
    cad_str raw = {0};
    cad_status status = CAD_OK;

    for (int64_t i = 0; !status && i < in->count; ++i) {
        size_t n, from = raw.size;
        const char *s = token_at(in, i, &n);
        bool all;
        status = cadp_raw_bytes(s, n, &raw, &all);
        if (status || all) continue;
        raw.size = from;
        status = cad_str_add(&raw, s, n);
    }
    if (!status) status = add_lossy(&out->bytes, raw.data ? raw.data : "", raw.size);
    if (!status) status = end_token(out);
    cad_str_close(&raw);
    return status;
}

static cad_status add_replaced(cad_str *out, const char *s, size_t n, const char *from, size_t from_size, const char *to, size_t to_size)
{
    size_t done = 0;

    for (const char *hit; n - done >= from_size && (hit = memmem(s + done, n - done, from, from_size));) {
        size_t at = (size_t)(hit - s);
        CAD_TRY(cad_str_add(out, s + done, at - done));
        CAD_TRY(cad_str_add(out, to, to_size));
        done = at + from_size;
    }
    return cad_str_add(out, s + done, n - done);
}

static int hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte of <0xXX>, or -1. Rust's from_str_radix also reads "+F". */
static int byte_token(const char *s, size_t n)
{
    int high, low;

    if (n != 6 || memcmp(s, "<0x", 3) || s[5] != '>') return -1;
    high = s[3] == '+' ? 0 : hex(s[3]);
    low = hex(s[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Bytes that make no text become one U+FFFD each. */
static cad_status flush_bytes(cad_str *bytes, tokens *out)
{
    cad_status status = CAD_OK;

    if (!bytes->size) return CAD_OK;
    if (cad_utf8_valid(bytes->data, bytes->size, NULL)) status = add_token(out, bytes->data, bytes->size);
    else
        for (size_t i = 0; !status && i < bytes->size; ++i) status = add_token(out, "\xEF\xBF\xBD", 3);
    bytes->size = 0;
    return status;
}

static cad_status decode_fallback(const tokens *in, tokens *out)
{
    cad_str bytes = {0};
    cad_status status = CAD_OK;

    for (int64_t i = 0; !status && i < in->count; ++i) {
        size_t n;
        const char *s = token_at(in, i, &n);
        int byte = byte_token(s, n);
        if (byte >= 0) status = cad_str_add(&bytes, &(char){(char)byte}, 1);
        else if (!(status = flush_bytes(&bytes, out))) status = add_token(out, s, n);
    }
    if (!status) status = flush_bytes(&bytes, out);
    cad_str_close(&bytes);
    return status;
}

static cad_status decode_strip(const cadp_decode *d, const char *s, size_t n, tokens *out)
{
    for (int64_t i = 0; i < d->start && n >= d->from_size && !memcmp(s, d->from, d->from_size); ++i) {
        s += d->from_size;
        n -= d->from_size;
    }
    for (int64_t i = 0; i < d->stop && n >= d->from_size && !memcmp(s + n - d->from_size, d->from, d->from_size); ++i) n -= d->from_size;
    return add_token(out, s, n);
}

static cad_status decode_metaspace(const cadp_decode *d, const char *s, size_t n, bool first, tokens *out)
{
    bool vanish = first && d->flag;

    CAD_TRY(add_replaced(&out->bytes, s, n, d->from, d->from_size, " ", vanish ? 0 : 1));
    return end_token(out);
}

/* WordPiece's cleanup works on one token at a time. */
static cad_status cleaned(cad_str *text)
{
    static const char *const rule[][2] = {{" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"}, {" 'm", "'m"},
                                          {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    cad_status status = CAD_OK;

    for (size_t i = 0; !status && i < sizeof rule / sizeof rule[0]; ++i) {
        cad_str next = {0};
        if (!text->size || !memmem(text->data, text->size, rule[i][0], strlen(rule[i][0]))) continue;
        status = add_replaced(&next, text->data, text->size, rule[i][0], strlen(rule[i][0]), rule[i][1], strlen(rule[i][1]));
        cad_str_close(text);
        *text = next;
    }
    return status;
}

static cad_status decode_wordpiece(const cadp_decode *d, const char *s, size_t n, bool first, tokens *out)
{
    cad_str text = {0};
    cad_status status = CAD_OK;
    bool inner = !first && n >= d->from_size && !memcmp(s, d->from, d->from_size);

    if (!first && !inner) status = cad_str_add(&text, " ", 1);
    if (!status) status = inner ? cad_str_add(&text, s + d->from_size, n - d->from_size) : cad_str_add(&text, s, n);
    if (!status && d->flag) status = cleaned(&text);
    if (!status) status = add_token(out, text.data ? text.data : "", text.size);
    cad_str_close(&text);
    return status;
}

static cad_status decode_each(const cadp_decode *d, const tokens *in, tokens *out)
{
    for (int64_t i = 0; i < in->count; ++i) {
        size_t n;
        const char *s = token_at(in, i, &n);
        if (d->kind == CADP_DECODE_STRIP) CAD_TRY(decode_strip(d, s, n, out));
        else if (d->kind == CADP_DECODE_METASPACE) CAD_TRY(decode_metaspace(d, s, n, i == 0, out));
        else if (d->kind == CADP_DECODE_WORDPIECE) CAD_TRY(decode_wordpiece(d, s, n, i == 0, out));
        else {
            CAD_TRY(add_replaced(&out->bytes, s, n, d->from, d->from_size, d->to, d->to_size));
            CAD_TRY(end_token(out));
        }
    }
    return CAD_OK;
}

static cad_status decode_step(const cadp_decode *d, const tokens *in, tokens *out)
{
    switch (d->kind) {
    case CADP_DECODE_BYTES: return decode_bytes(in, out);
    case CADP_DECODE_FALLBACK: return decode_fallback(in, out);
    case CADP_DECODE_FUSE: return add_token(out, in->bytes.data ? in->bytes.data : "", in->bytes.size);
    default: return decode_each(d, in, out);
    }
}

/* Without a decoder the tokens are joined by spaces. */
static cad_status look_up(const cad_tokenizer *t, const int32_t *ids, int64_t n, tokens *out)
{
    for (int64_t i = 0; i < n; ++i) {
        int32_t id = ids[i], a = id >= 0 && id < t->size ? t->added_of[id] : -1;
        if (a >= 0 && t->added[a].skipped) continue;
        if (a >= 0) CAD_TRY(add_token(out, t->added[a].shown, t->added[a].shown_size));
        else if (id >= 0 && id < t->vocab.ids && t->vocab.token[id].there)
            CAD_TRY(add_token(out, t->vocab.bytes.data + t->vocab.token[id].at, t->vocab.token[id].size));
        else continue;
    }
    return CAD_OK;
}

cad_status cad_tokenizer_decode(const cad_tokenizer *t, const int32_t *ids, int64_t n, cad_str *out)
{
    tokens now = {0}, next = {0};
    cad_status status = look_up(t, ids, n, &now);

    for (int i = 0; !status && i < t->decodes; ++i) {
        tokens swap = now;
        next.bytes.size = 0;
        next.count = 0;
        status = decode_step(&t->decode[i], &now, &next);
        now = next;
        next = swap;
    }
    for (int64_t i = 0; !status && i < now.count; ++i) {
        size_t size;
        const char *s = token_at(&now, i, &size);
        if (i && !t->decoder) status = cad_str_add(out, " ", 1);
        if (!status) status = cad_str_add(out, s, size);
    }
    if (!status) status = cad_str_add(out, "", 0);
    tokens_close(&now);
    tokens_close(&next);
    return status;
}
