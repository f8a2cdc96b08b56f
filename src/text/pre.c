#include "text_priv.h"

/* A step that rewrites text copies each word into s->parts[turn]; the words then point there. */
static cad_status prepend_space(const cadp_pre *step, const char *text, cadp_span in, cad_str *out)
{
    if (step->prepend == CADP_PREPEND_ALWAYS && text[in.from] != ' ') CAD_TRY(cad_str_add(out, " ", 1));
    return cad_str_add(out, text + in.from, in.to - in.from);
}

static cad_status metaspace(const cadp_pre *step, const char *text, cadp_span in, bool first, cad_str *out)
{
    size_t size = strlen(step->replacement), n = in.to - in.from, done = 0;
    const char *word = text + in.from;
    bool there = word[0] == ' ' || (n >= size && !memcmp(word, step->replacement, size));

    if (!there && (step->prepend == CADP_PREPEND_ALWAYS || (step->prepend == CADP_PREPEND_FIRST && first)))
        CAD_TRY(cad_str_add(out, step->replacement, size));
    for (const char *hit; done < n && (hit = memchr(word + done, ' ', n - done)); done = (size_t)(hit - word) + 1) {
        CAD_TRY(cad_str_add(out, word + done, (size_t)(hit - word) - done));
        CAD_TRY(cad_str_add(out, step->replacement, size));
    }
    return cad_str_add(out, word + done, n - done);
}

static bool rewrites(const cadp_pre *step)
{
    return step->kind == CADP_PRE_METASPACE || (step->kind == CADP_PRE_BYTES && step->prepend != CADP_PREPEND_NEVER);
}

static cad_status rewrite(const cadp_pre *step, const cadp_piece *p, cadp_spans *words, cad_str *out)
{
    out->size = 0;
    for (int64_t i = 0; i < words->count; ++i) {
        size_t from = out->size;
        cadp_span in = words->at[i];
        if (step->kind == CADP_PRE_BYTES) CAD_TRY(prepend_space(step, p->text, in, out));
        else CAD_TRY(metaspace(step, p->text, in, p->first && in.from == 0, out));
        if (out->size > INT32_MAX) return cad_fail(CAD_EDATA, "a text is longer than 2 GB");
        words->at[i] = (cadp_span){(uint32_t)from, (uint32_t)out->size};
    }
    return CAD_OK;
}

static cad_status pre_step(const cad_tokenizer *t, cadp_scratch *s, int i, cadp_piece *p, int *which, int *turn)
{
    const cadp_pre *step = &t->pre[i];
    cadp_spans *words = &s->spans[*which], *out = &s->spans[!*which];

    if (rewrites(step)) {
        CAD_TRY(rewrite(step, p, words, &s->parts[*turn]));
        p->text = s->parts[*turn].data;
        p->size = s->parts[*turn].size;
        *turn = !*turn;
    }
    if (step->kind != CADP_PRE_WORDS && !step->splits) return CAD_OK;
    if (step->splitter.regex && !s->matcher[i]) CAD_TRY(cadp_matcher_open(&s->matcher[i], step->splitter.regex));
    out->count = 0;
    for (int64_t w = 0; w < words->count; ++w)
        if (step->kind == CADP_PRE_WORDS) CAD_TRY(cadp_words_split(p->text, words->at[w], out));
        else CAD_TRY(cadp_split(&step->splitter, t->unicode->flags, s->matcher[i], p->text, words->at[w], &s->matches, out));
    *which = !*which;
    return CAD_OK;
}

cad_status cadp_pretokenize(const cad_tokenizer *t, cadp_scratch *s, cadp_piece *p, int *which)
{
    int turn = 0;

    *which = 0;
    s->spans[0].count = 0;
    CAD_TRY(cadp_spans_add(&s->spans[0], 0, p->size));
    for (int i = 0; i < t->pres; ++i) CAD_TRY(pre_step(t, s, i, p, which, &turn));
    return CAD_OK;
}
