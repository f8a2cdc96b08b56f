#include "text_priv.h"

static cad_status replace(const cadp_normal *step, const char *text, size_t n, cad_str *out)
{
    size_t done = 0;

    out->size = 0;
    for (const char *hit; n - done >= step->from_size && (hit = memmem(text + done, n - done, step->from, step->from_size));) {
        size_t at = (size_t)(hit - text);
        CAD_TRY(cad_str_add(out, text + done, at - done));
        CAD_TRY(cad_str_add(out, step->to, step->to_size));
        done = at + step->from_size;
    }
    return cad_str_add(out, text + done, n - done);
}

static cad_status normalize_step(const cadp_normal *step, const cadp_unicode *u, cadp_points *work, const cadp_piece *p, cad_str *out, bool *changed)
{
    *changed = true;
    switch (step->kind) {
    case CADP_NORMAL_NFC: return cadp_nfc(u, p->text, p->size, work, out, changed);
    case CADP_NORMAL_WORDS: return cadp_words_normalize(step, u, work, p->text, p->size, out);
    case CADP_NORMAL_CHARSMAP: return cadp_charsmap_normalize(step, p->text, p->size, out);
    case CADP_NORMAL_REPLACE:
        *changed = memmem(p->text, p->size, step->from, step->from_size) != NULL;
        return *changed ? replace(step, p->text, p->size, out) : CAD_OK;
    case CADP_NORMAL_PREPEND:
        *changed = p->size > 0;
        if (!*changed) return CAD_OK;
        out->size = 0;
        CAD_TRY(cad_str_add(out, step->to, step->to_size));
        return cad_str_add(out, p->text, p->size);
    }
    return cad_fail(CAD_EINTERNAL, "an unknown normalizer");
}

cad_status cadp_normalize(const cad_tokenizer *t, cadp_scratch *s, cadp_piece *p)
{
    for (int i = 0, turn = 0; i < t->normals; ++i) {
        bool changed;
        CAD_TRY(normalize_step(&t->normal[i], t->unicode, &s->points, p, &s->text[turn], &changed));
        if (!changed) continue;
        p->text = s->text[turn].data;
        p->size = s->text[turn].size;
        turn = !turn;
    }
    return CAD_OK;
}
