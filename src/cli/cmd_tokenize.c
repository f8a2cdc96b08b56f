/* tokenize: JSONL from standard input to standard output, in chunks, so that neither has to fit into memory. */
#include "cli_priv.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { CHUNK_LINES = 4096, CHUNK_BYTES = 8 << 20, PIECE = 1 << 20, LONGEST_ROW = 1 << 30 };
static const char input[] = "standard input";

/* The rows of one chunk: row i is text[at[i]] … text[end[i]]; what follows the last one is the beginning of the next chunk. */
typedef struct chunk {
    cad_str text;
    size_t at[CHUNK_LINES], end[CHUNK_LINES], taken;
    int64_t number[CHUNK_LINES], lines; /* of the line in the input, from 1; lines taken so far */
    int count;
    bool ended;
} chunk;

typedef struct stream { cad_tokenizer *t; bool special, decode; int threads; chunk c; cad_tree *row[CHUNK_LINES]; cad_str out; } stream;

static bool blank(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!s[i] || !strchr(" \t\r\n", s[i])) return false;
    return true;
}

static cad_status read_piece(chunk *c)
{
    ssize_t n;

    if (c->text.size > LONGEST_ROW) return cad_fail(CAD_EDATA, "%s:%lld: expected rows of at most %d bytes", input, (long long)c->lines + 1, (int)LONGEST_ROW);
    if (c->text.room - c->text.size < PIECE + 1) {
        size_t room = 2 * c->text.room + PIECE + 1;
        CAD_TRY(cad_grow(&c->text.data, room, 1, "rows"));
        c->text.room = room;
    }
    do n = read(STDIN_FILENO, c->text.data + c->text.size, PIECE);
    while (n < 0 && errno == EINTR);
    if (n < 0) return cad_fail(CAD_EDATA, "%s: %s", input, strerror(errno));
    c->text.size += (size_t)n;
    c->ended = n == 0;
    return CAD_OK;
}

/* Another program may wait for answers before it writes on. */
static bool more_waits(void)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};

    return poll(&in, 1, 0) > 0;
}

static void split(chunk *c)
{
    const char *text = c->text.data;

    c->count = 0;
    while (c->count < CHUNK_LINES && c->taken < c->text.size) {
        const char *newline = memchr(text + c->taken, '\n', c->text.size - c->taken);
        size_t from = c->taken;
        if (!newline && !c->ended) return;
        c->taken = newline ? (size_t)(newline - text) + 1 : c->text.size;
        c->lines++;
        if (blank(text + from, c->taken - from)) continue;
        c->at[c->count] = from;
        c->end[c->count] = c->taken;
        c->number[c->count++] = c->lines;
    }
}

/* The next rows: none only at the end. */
static cad_status read_chunk(chunk *c)
{
    if (c->taken) memmove(c->text.data, c->text.data + c->taken, c->text.size - c->taken);
    c->text.size -= c->taken;
    c->taken = 0;
    split(c);
    while (!c->count && !c->ended) {
        do CAD_TRY(read_piece(c));
        while (!c->ended && c->text.size < CHUNK_BYTES && more_waits());
        split(c);
    }
    return CAD_OK;
}

/* A row that does not parse is parsed again below as many empty lines as precede it: the reason then names its true line. */
static cad_status explain_row(const chunk *c, int i)
{
    cad_str text = {0};
    cad_tree *tree = NULL;
    cad_status st = CAD_OK;

    cad_clear();
    for (int64_t k = 1; k < c->number[i] && !st; k++) st = cad_str_add(&text, "\n", 1);
    if (!st) st = cad_str_add(&text, c->text.data + c->at[i], c->end[i] - c->at[i]);
    if (!st) st = cad_json_parse(&tree, text.data, text.size, input, CAD_EDATA);
    cad_tree_close(&tree);
    cad_str_close(&text);
    return st;
}

static cad_status refuse(const stream *s, int i, const cad_node *node, const char *expected)
{
    const char *found = node ? cad_kind_name(node->kind) : "none";
    int column = node ? node->column : 1;

    return cad_fail(CAD_EDATA, "%s:%lld:%d: expected %s, found %s", input, (long long)s->c.number[i], column, expected, found);
}

static cad_status parse_row(stream *s, int i)
{
    const chunk *c = &s->c;
    const cad_node *root;

    if (cad_json_parse(&s->row[i], c->text.data + c->at[i], c->end[i] - c->at[i], input, CAD_EDATA)) return explain_row(c, i);
    root = s->row[i]->root;
    return root->kind == CAD_TABLE ? CAD_OK : refuse(s, i, root, s->decode ? "a row {\"ids\": […]}" : "a row {\"text\": …}");
}

static cad_status add_ids(cad_str *out, const int32_t *ids, int64_t n)
{
    CAD_TRY(cad_str_add(out, "{\"ids\": [", 9));
    for (int64_t i = 0; i < n; i++) {
        char digits[16], *p = digits + sizeof digits;
        uint32_t rest = (uint32_t)ids[i];
        do *--p = (char)('0' + rest % 10);
        while (rest /= 10);
        if (i) CAD_TRY(cad_str_add(out, ", ", 2));
        CAD_TRY(cad_str_add(out, p, (size_t)(digits + sizeof digits - p)));
    }
    return cad_str_add(out, "]}\n", 3);
}

/* With special tokens on all threads; without them the door encodes one text at a time. */
static cad_status encode_texts(const stream *s, const char *const *texts, const size_t *sizes, cad_ids *ids, int64_t *starts)
{
    if (s->special) return cad_tokenizer_encode_all(s->t, texts, sizes, s->c.count, 0, true, s->threads, ids, starts, NULL, NULL, NULL);
    for (int i = 0; i < s->c.count; i++) {
        starts[i] = ids->count;
        CAD_TRY(cad_tokenizer_encode(s->t, texts[i], sizes[i], false, ids));
        starts[i + 1] = ids->count;
    }
    return CAD_OK;
}

typedef struct work { const char *text[CHUNK_LINES]; size_t size[CHUNK_LINES]; int64_t starts[CHUNK_LINES + 1]; cad_ids ids; } work;

static cad_status encode_rows(stream *s, work *w)
{
    for (int i = 0; i < s->c.count; i++) {
        const cad_node *text = cad_get(s->row[i]->root, "text");
        if (!text || text->kind != CAD_STRING) return refuse(s, i, text, "\"text\" with a string");
        w->text[i] = text->text;
        w->size[i] = text->size;
    }
    w->ids.count = 0;
    CAD_TRY(encode_texts(s, w->text, w->size, &w->ids, w->starts));
    for (int i = 0; i < s->c.count; i++) CAD_TRY(add_ids(&s->out, w->ids.data + w->starts[i], w->starts[i + 1] - w->starts[i]));
    return CAD_OK;
}

static cad_status read_ids(const stream *s, int i, cad_ids *out)
{
    const cad_node *list = cad_get(s->row[i]->root, "ids");

    if (!list || list->kind != CAD_LIST) return refuse(s, i, list, "\"ids\" with a list of token ids");
    out->count = 0;
    if (list->children > out->room) {
        CAD_TRY(cad_grow(&out->data, (size_t)list->children, sizeof *out->data, "token ids"));
        out->room = list->children;
    }
    for (const cad_node *id = list->child; id; id = id->next) {
        if (id->kind != CAD_INT || id->integer < 0 || id->integer >= cad_tokenizer_size(s->t))
            return cad_fail(CAD_EDATA, "%s:%lld:%d: expected a token id from 0 to %d, found %s", input, (long long)s->c.number[i], id->column,
                            (int)cad_tokenizer_size(s->t) - 1, id->kind == CAD_INT ? "one outside" : cad_kind_name(id->kind));
        out->data[out->count++] = (int32_t)id->integer;
    }
    return CAD_OK;
}

/* Other programs also end lines at U+0085, U+2028 and U+2029: in a row of JSON they are written as escapes. */
static cad_status add_row(cad_str *out, const char *row, size_t n)
{
    size_t from = 0;

    for (size_t i = 0; i + 1 < n; i++) {
        const unsigned char *b = (const unsigned char *)row + i;
        bool next_line = b[0] == 0xC2 && b[1] == 0x85, separator = i + 2 < n && b[0] == 0xE2 && b[1] == 0x80 && (b[2] == 0xA8 || b[2] == 0xA9);
        if (!next_line && !separator) continue;
        CAD_TRY(cad_str_add(out, row + from, i - from));
        CAD_TRY(cad_str_addf(out, "\\u%s", next_line ? "0085" : b[2] == 0xA8 ? "2028" : "2029"));
        from = i + (next_line ? 2 : 3);
    }
    return cad_str_add(out, row + from, n - from);
}

static cad_status add_text(cad_str *out, const cad_str *text)
{
    cad_json j = {0};
    cad_status st = cad_json_begin(&j, NULL, '{');

    if (!st) st = cad_json_bytes(&j, "text", text->data ? text->data : "", text->size);
    if (!st) st = cad_json_end(&j);
    if (!st) st = cad_str_addf(&j.text, "\n");
    if (!st) st = add_row(out, j.text.data, j.text.size);
    cad_json_close(&j);
    return st;
}

static cad_status decode_rows(stream *s, cad_ids *ids)
{
    cad_str text = {0};
    cad_status st = CAD_OK;

    for (int i = 0; i < s->c.count && !st; i++) {
        text.size = 0;
        st = read_ids(s, i, ids);
        if (!st) st = cad_tokenizer_decode(s->t, ids->data, ids->count, &text);
        if (!st) st = add_text(&s->out, &text);
    }
    cad_str_close(&text);
    return st;
}

static cad_status take_chunk(stream *s, work *w)
{
    s->out.size = 0;
    for (int i = 0; i < s->c.count; i++) CAD_TRY(parse_row(s, i));
    CAD_TRY(s->decode ? decode_rows(s, &w->ids) : encode_rows(s, w));
    if (fwrite(s->out.data, 1, s->out.size, stdout) != s->out.size || fflush(stdout)) return cad_fail(CAD_ERESOURCE, "standard output: cannot be written");
    return CAD_OK;
}

static void close_rows(stream *s)
{
    for (int i = 0; i < CHUNK_LINES; i++) cad_tree_close(&s->row[i]);
}

static cad_status take_all(stream *s, work *w)
{
    cad_status st = read_chunk(&s->c);

    while (!st && s->c.count) {
        st = take_chunk(s, w);
        close_rows(s);
        if (!st) st = read_chunk(&s->c);
    }
    cad_str_close(&s->c.text);
    cad_str_close(&s->out);
    cad_free(&w->ids.data);
    return st;
}

static cad_status open_tokenizer(cad_tokenizer **out, const cad_options *o)
{
    const char *name = o->model.tokenizer_name_or_path ? o->model.tokenizer_name_or_path : o->model.model_name_or_path;
    char *dir = NULL;
    cad_status st;

    if (!name) return cad_fail(CAD_EUSAGE, "--tokenizer-name-or-path: expected a directory with tokenizer.json, found nothing");
    CAD_TRY(cad_find_model(&dir, name, o->model.cache_dir));
    st = cad_tokenizer_open(out, dir);
    cad_free(&dir);
    return st;
}

static int threads_of(const cad_options *o)
{
    if (o->runtime.threads > 0) return (int)o->runtime.threads;
    return (int)cad_max(1, sysconf(_SC_NPROCESSORS_ONLN));
}

cad_status cadp_cmd_tokenize(cadp_call *c)
{
    stream *s = NULL;
    work *w = NULL;
    cad_status st;

    CAD_TRY(cad_alloc(&s, 1, sizeof *s, "rows"));
    s->special = !cadp_call_given(c, "no-special-tokens");
    s->decode = cadp_call_given(c, "decode");
    s->threads = threads_of(c->o);
    st = cad_alloc(&w, 1, sizeof *w, "rows");
    if (!st) st = open_tokenizer(&s->t, c->o);
    if (!st) st = take_all(s, w);
    cad_tokenizer_close(&s->t);
    cad_free(&w);
    cad_free(&s);
    return st;
}
