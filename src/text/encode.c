#include "text_priv.h"

typedef struct run {
    const cad_tokenizer *t;
    cadp_scratch *s;
    cad_ids *ids;
    int64_t enough; /* no more than this count of ids is needed */
} run;

static bool space_before(const char *text, size_t at, size_t *start)
{
    size_t from = at - 1, bytes;

    while (from && ((unsigned char)text[from] & 0xC0) == 0x80) --from;
    *start = from;
    return cadp_is_space(cadp_point(text + from, &bytes));
}

static bool word_before(const char *text, size_t at)
{
    size_t from, bytes;

    if (!at) return false;
    space_before(text, at, &from);
    return cadp_is_word(cadp_point(text + from, &bytes));
}

static bool word_behind(const char *text, size_t n, size_t at)
{
    size_t bytes;
    return at < n && cadp_is_word(cadp_point(text + at, &bytes));
}

static void swallow_spaces(const cadp_added *a, const char *text, size_t n, size_t limit, cadp_hit *hit)
{
    size_t start, bytes;

    if (a->lstrip)
        while (hit->from > limit && space_before(text, hit->from, &start)) hit->from = start;
    if (a->rstrip)
        while (hit->to < n && cadp_is_space(cadp_point(text + hit->to, &bytes))) hit->to += bytes;
}

static cad_status add_id(run *r, int32_t id)
{
    CAD_TRY(cadp_ids_room(r->ids, 1));
    r->ids->data[r->ids->count++] = id;
    return CAD_OK;
}

static cad_status encode_words(run *r, cadp_piece p)
{
    const cad_tokenizer *t = r->t;
    int which;

    if (!p.size) return CAD_OK;
    CAD_TRY(cadp_pretokenize(t, r->s, &p, &which));
    for (int64_t i = 0; i < r->s->spans[which].count && r->ids->count <= r->enough; ++i) {
        cadp_span w = r->s->spans[which].at[i];
        if (t->model == CADP_BPE) CAD_TRY(cadp_bpe_encode(&t->bpe, &r->s->bpe, p.text + w.from, w.to - w.from, r->ids));
        else if (t->model == CADP_UNIGRAM) CAD_TRY(cadp_unigram_encode(&t->unigram, r->s, p.text + w.from, w.to - w.from, r->ids));
        else CAD_TRY(cadp_wordpiece_encode(&t->wordpiece, &r->s->word, p.text + w.from, w.to - w.from, r->ids));
    }
    return CAD_OK;
}

static cad_status encode_normalized(run *r, cadp_piece p);

/* Cuts the added tokens of a trie out of a piece; what lies between goes on. */
static cad_status cut_added(run *r, const cadp_trie *trie, cadp_piece p, cad_status (*rest)(run *, cadp_piece))
{
    size_t done = 0, at = 0;
    cadp_hit hit;

    while (r->ids->count <= r->enough && cadp_trie_find(trie, p.text, p.size, at, &hit)) {
        const cadp_added *a = &r->t->added[hit.token];
        at = hit.to;
        if (a->single_word && (word_before(p.text, hit.from) || word_behind(p.text, p.size, hit.to))) continue;
        swallow_spaces(a, p.text, p.size, done, &hit);
        if (done < hit.from) CAD_TRY(rest(r, (cadp_piece){p.text + done, hit.from - done, p.first && done == 0}));
        CAD_TRY(add_id(r, a->id));
        done = hit.to;
    }
    if (done < p.size && r->ids->count <= r->enough) return rest(r, (cadp_piece){p.text + done, p.size - done, p.first && done == 0});
    return CAD_OK;
}

static cad_status encode_normalized(run *r, cadp_piece p)
{
    CAD_TRY(cadp_normalize(r->t, r->s, &p));
    if (!r->t->normal_trie.any) return encode_words(r, p);
    return cut_added(r, &r->t->normal_trie, p, encode_words);
}

static cad_status add_specials(run *r, const cad_ids *special)
{
    CAD_TRY(cadp_ids_room(r->ids, special->count));
    if (special->count) memcpy(r->ids->data + r->ids->count, special->data, (size_t)special->count * sizeof *special->data);
    r->ids->count += special->count;
    return CAD_OK;
}

static cad_status check_text(const char *text, size_t n)
{
    size_t bad = 0;

    if (n > INT32_MAX) return cad_fail(CAD_EDATA, "a text is longer than 2 GB");
    return cad_utf8_valid(text, n, &bad) ? CAD_OK : cad_fail(CAD_EDATA, "expected UTF-8, found another byte at place %zu of a text", bad);
}

cad_status cadp_encode(const cad_tokenizer *t, cadp_scratch *s, const char *text, size_t n, bool special, int64_t longest, bool keep_left, cad_ids *ids,
                       bool *cut)
{
    int64_t specials = special ? t->before.count + t->after.count : 0, room = longest - specials, from, body;
    run r = {t, s, ids, INT64_MAX};

    *cut = false;
    CAD_TRY(check_text(text, n));
    if (longest > 0 && room < 0)
        return cad_fail(CAD_EUSAGE, "expected a max_length of at least %lld, found %lld: the special tokens take that many", (long long)specials,
                        (long long)longest);
    if (special) CAD_TRY(add_specials(&r, &t->before));
    from = ids->count;
    if (longest > 0 && keep_left) r.enough = from + room;
    CAD_TRY(cut_added(&r, &t->raw_trie, (cadp_piece){text, n, true}, encode_normalized));
    body = ids->count - from;
    if (longest > 0 && body > room) {
        *cut = true;
        if (!keep_left) memmove(ids->data + from, ids->data + from + body - room, (size_t)room * sizeof *ids->data);
        ids->count = from + room;
    }
    return special ? add_specials(&r, &t->after) : CAD_OK;
}

cad_status cad_tokenizer_encode_cut(const cad_tokenizer *t, const char *text, size_t n, int64_t longest, bool keep_left, cad_ids *ids, bool *cut)
{
    cadp_scratch *s;
    cad_status status;
    bool was_cut = false;

    CAD_TRY(cadp_scratch_take(t, &s));
    status = cadp_encode(t, s, text, n, true, longest, keep_left, ids, &was_cut);
    cadp_scratch_give(t, s);
    if (cut) *cut = was_cut;
    return status;
}

cad_status cad_tokenizer_encode(const cad_tokenizer *t, const char *text, size_t n, bool special, cad_ids *ids)
{
    cadp_scratch *s;
    cad_status status;
    bool cut;

    CAD_TRY(cadp_scratch_take(t, &s));
    status = cadp_encode(t, s, text, n, special, 0, true, ids, &cut);
    cadp_scratch_give(t, s);
    return status;
}
