/* Texts made of several columns by a template, or of conversations; and which of their tokens are learned. */
#include "data_priv.h"

#include <stdio.h>

/* Record i is text [at[i], at[i + 1] - 1) of all; its cuts are [cut_at[i], cut_at[i + 1]) of cuts, bytes of its own. */
typedef struct made { cad_str all; size_t *at; int64_t *cut_at; cad_cuts cuts; int64_t unanswered; } made; /* unanswered: records without a response */

/* The prefixes of the texts up to each cut, as tokens. */
typedef struct prefixes { const char **texts; size_t *sizes; cad_ids ids; int64_t *starts; } prefixes;

static cad_status add_cut(cad_cuts *c, size_t at)
{
    if (c->count == c->room) {
        CAD_TRY(cad_grow(&c->at, (size_t)(2 * c->room + 64), sizeof *c->at, "ends of answers"));
        c->room = 2 * c->room + 64;
    }
    c->at[c->count++] = at;
    return CAD_OK;
}

static cad_status read_field(const cad_rows *r, int64_t i, const char *name, cad_words_of *out)
{
    int column = cad_rows_find(r, name);
    cad_cell c;

    if (column < 0) return cadp_no_column(r, name);
    c = cad_rows_cell(r, i, column);
    if (c.kind != CAD_CELL_TEXT && c.kind != CAD_CELL_INT && c.kind != CAD_CELL_REAL) return cadp_wrong_cell(r, i, column, "a text");
    *out = (cad_words_of){c.text, c.size};
    return CAD_OK;
}

/* ---- one record ---- */

static cad_status fill_form(const cad_dataset_options *o, const cad_words_of v[CAD_FIELDS], made *m)
{
    size_t from = m->all.size, answer = 0;

    CAD_TRY(cad_template_fill(o->form, v, &m->all, &answer));
    CAD_TRY(add_cut(&m->cuts, answer - from));
    CAD_TRY(cad_str_add(&m->all, o->end, strlen(o->end)));
    return add_cut(&m->cuts, m->all.size - from);
}

/* Something else than white space. */
static bool says_something(cad_words_of v)
{
    for (size_t i = 0; i < v.size; i++)
        if (!memchr(" \t\n\r\v\f", v.text[i], 6)) return true;
    return false;
}

static cad_status make_text(const cad_dataset_options *o, const cad_rows *r, int64_t i, made *m)
{
    cad_words_of v[CAD_FIELDS] = {{0}};
    cad_str asked = {0};
    cad_status status = CAD_OK;

    for (int f = 0; f < CAD_FIELDS; f++)
        if (cad_template_uses(o->form, (cad_field)f)) CAD_TRY(read_field(r, i, o->columns[f], &v[f]));
    if (!says_something(v[CAD_FIELD_QUESTION]) || !(says_something(v[CAD_FIELD_COT]) || says_something(v[CAD_FIELD_RESPONSE])))
        return cad_fail(CAD_EDATA, "%s:%d: expected a question and an answer to it, found a record without %s", cad_rows_path(r), cad_rows_line(r, i), says_something(v[CAD_FIELD_QUESTION]) ? "an answer" : "a question");
    m->unanswered += !says_something(v[CAD_FIELD_RESPONSE]);
    if (o->chat) {
        status = o->chat->ask(o->chat->with, v[CAD_FIELD_QUESTION].text, v[CAD_FIELD_QUESTION].size, &asked);
        v[CAD_FIELD_QUESTION] = (cad_words_of){asked.data, asked.size};
    }
    if (!status) status = fill_form(o, v, m);
    cad_str_close(&asked);
    return status;
}

/* The reason, behind the record it is about. */
static cad_status say_where(cad_status status, const cad_rows *r, int64_t i)
{
    char why[512], what[512];

    snprintf(why, sizeof why, "%s", cad_reason());
    snprintf(what, sizeof what, "%s", cad_advice());
    cad_clear();
    if (*what) cad_advise("%s", what);
    return cad_fail(status, "%s:%d: column \"messages\": %s", cad_rows_path(r), cad_rows_line(r, i), why);
}

static cad_status make_conversation(const cad_dataset_options *o, const cad_rows *r, int64_t i, int column, made *m)
{
    cad_cell c = cad_rows_cell(r, i, column);
    cad_str text = {0};
    cad_status status;

    if (c.kind != CAD_CELL_JSON) return cadp_wrong_cell(r, i, column, "a list of messages, each with a role and a content");
    status = o->chat->talk(o->chat->with, c.text, &text, &m->cuts);
    if (status) status = say_where(status, r, i);
    if (!status) status = cad_str_add(&m->all, text.data, text.size);
    cad_str_close(&text);
    return status;
}

static cad_status make_all(const cad_dataset_options *o, const cad_rows *r, made *m)
{
    int64_t n = cad_rows_count(r);
    int column = o->chat ? cad_rows_find(r, "messages") : -1;

    CAD_TRY(cad_alloc(&m->at, (size_t)n + 1, sizeof *m->at, "texts"));
    CAD_TRY(cad_alloc(&m->cut_at, (size_t)n + 1, sizeof *m->cut_at, "texts"));
    for (int64_t i = 0; i < n; i++) {
        CAD_TRY(column < 0 ? make_text(o, r, i, m) : make_conversation(o, r, i, column, m));
        CAD_TRY(cad_str_add(&m->all, "", 1));
        m->at[i + 1] = m->all.size;
        m->cut_at[i + 1] = m->cuts.count;
    }
    if (m->unanswered) cad_warn("responses", "%s: %lld of %lld records have reasoning and an empty response: that is learned", cad_rows_path(r), (long long)m->unanswered, (long long)n);
    return CAD_OK;
}

/* ---- tokens ---- */

static bool is_end(const made *m, int64_t i, int64_t cut) { return m->cuts.at[cut] + 1 == m->at[i + 1] - m->at[i]; }

static cad_status encode_prefixes(const cad_tokenizer *t, const cad_dataset_options *o, const made *m, int64_t rows, prefixes *p)
{
    size_t n = (size_t)m->cuts.count;

    CAD_TRY(cad_alloc(&p->texts, n, sizeof *p->texts, "prompts"));
    CAD_TRY(cad_alloc(&p->sizes, n, sizeof *p->sizes, "prompts"));
    CAD_TRY(cad_alloc(&p->starts, n + 1, sizeof *p->starts, "prompts"));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = m->cut_at[i]; c < m->cut_at[i + 1]; c++) {
            p->texts[c] = m->all.data + m->at[i];
            p->sizes[c] = is_end(m, i, c) ? 0 : m->cuts.at[c];
        }
    return cad_tokenizer_encode_all(t, p->texts, p->sizes, m->cuts.count, 0, true, o->threads, &p->ids, p->starts, NULL, NULL, NULL);
}

/* Tokens that the prefix alone has too: one that reaches over its end belongs to what follows. */
static int64_t shared(const int32_t *whole, int64_t n, const prefixes *p, int64_t c)
{
    int64_t most = cad_min(n, p->starts[c + 1] - p->starts[c]), k = 0;

    while (k < most && p->ids.data[p->starts[c] + k] == whole[k]) k++;
    return k;
}

/* whole: the record's tokens before any were cut; of those, the last ones stay where `lost` at the beginning do not. */
static void mark(const made *m, const prefixes *p, int64_t i, const int32_t *whole, int64_t n, int64_t lost, cad_dataset *d)
{
    uint8_t *given = d->given + d->starts[i];
    int64_t here = d->starts[i + 1] - d->starts[i];

    memset(given, 1, (size_t)here);
    d->answers[i] = (int32_t)here;
    for (int64_t c = m->cut_at[i]; c + 1 < m->cut_at[i + 1]; c += 2) {
        bool ends = is_end(m, i, c + 1);
        int64_t from = cad_max(0, shared(whole, n, p, c) - lost), to = ends ? here : cad_min(here, shared(whole, n, p, c + 1) - lost);
        if (to > from) memset(given + from, 0, (size_t)(to - from));
        d->answers[i] = (int32_t)cad_min(from, here);
    }
}

/* A text that lost its beginning: its tokens before that say where the answers are. */
static cad_status mark_tail(const cad_tokenizer *t, const made *m, const prefixes *p, int64_t i, cad_dataset *d)
{
    const char *text = m->all.data + m->at[i];
    size_t size = m->at[i + 1] - m->at[i] - 1;
    int64_t starts[2];
    cad_ids all = {0};
    cad_status status = cad_tokenizer_encode_all(t, &text, &size, 1, 0, true, 1, &all, starts, NULL, NULL, NULL);

    if (!status) mark(m, p, i, all.data, all.count, all.count - (d->starts[i + 1] - d->starts[i]), d);
    cad_free(&all.data);
    return status;
}

static cad_status mark_all(const cad_tokenizer *t, const cad_dataset_options *o, const made *m, const prefixes *p, cad_dataset *d)
{
    for (int64_t i = 0; i < d->count; i++)
        if (d->cut[i] && !o->keep_left) CAD_TRY(mark_tail(t, m, p, i, d));
        else mark(m, p, i, d->ids + d->starts[i], d->starts[i + 1] - d->starts[i], 0, d);
    return CAD_OK;
}

static cad_status encode_texts(const cad_tokenizer *t, const cad_dataset_options *o, const made *m, cad_dataset *d)
{
    const char **texts = NULL;
    size_t *sizes = NULL;
    cad_ids ids = {0};
    cad_status status = cad_alloc(&texts, (size_t)d->count, sizeof *texts, "texts");

    if (!status) status = cad_alloc(&sizes, (size_t)d->count, sizeof *sizes, "text sizes");
    for (int64_t i = 0; i < d->count && !status; i++) {
        texts[i] = m->all.data + m->at[i];
        sizes[i] = m->at[i + 1] - m->at[i] - 1;
    }
    if (!status) status = cad_tokenizer_encode_all(t, texts, sizes, d->count, o->truncation ? o->max_length : 0, o->keep_left, o->threads, &ids, d->starts, d->cut, NULL, NULL);
    d->ids = ids.data;
    cad_free(&texts);
    cad_free(&sizes);
    return status;
}

static cad_status encode(const cad_tokenizer *t, const cad_dataset_options *o, cad_dataset *d, made *m, prefixes *p)
{
    CAD_TRY(make_all(o, d->rows_file, m));
    CAD_TRY(encode_texts(t, o, m, d));
    CAD_TRY(cad_alloc(&d->given, (size_t)d->starts[d->count], sizeof *d->given, "marks of tokens"));
    CAD_TRY(encode_prefixes(t, o, m, d->count, p));
    return mark_all(t, o, m, p, d);
}

cad_status cadp_encode_form(const cad_tokenizer *t, const cad_dataset_options *o, cad_dataset *d)
{
    made m = {0};
    prefixes p = {0};
    cad_status status = encode(t, o, d, &m, &p);

    cad_str_close(&m.all);
    cad_free(&m.at);
    cad_free(&m.cut_at);
    cad_free(&m.cuts.at);
    cad_free(&p.texts);
    cad_free(&p.sizes);
    cad_free(&p.ids.data);
    cad_free(&p.starts);
    return status;
}
