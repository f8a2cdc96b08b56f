/* SentencePiece's tokenizer.model (sentencepiece_model.proto) as tokenizer.json. */
#include "make.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST_PIECES = 1 << 24, MODEL_UNIGRAM = 1, MODEL_BPE = 2 };

/* ---- protocol buffers ---- */

typedef struct wire { const unsigned char *at, *end, *begin; const char *path; } wire;
typedef struct field { uint32_t number; int type; uint64_t value; const unsigned char *bytes; size_t size; } field;

static cad_status damaged(const wire *w)
{
    return cad_fail(CAD_EMODEL, "%s: expected a SentencePiece model, found damage at byte %td", w->path, w->at - w->begin);
}

static cad_status varint(wire *w, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (w->at == w->end) return damaged(w);
        *out |= (uint64_t)(*w->at & 127) << shift;
        if (*w->at++ < 128) return CAD_OK;
    }
    return damaged(w);
}

static cad_status fixed(wire *w, size_t n, field *f)
{
    if ((size_t)(w->end - w->at) < n) return damaged(w);
    f->bytes = w->at;
    f->size = n;
    w->at += n;
    return CAD_OK;
}

static cad_status next_field(wire *w, field *f)
{
    uint64_t tag;

    *f = (field){0};
    CAD_TRY(varint(w, &tag));
    f->number = (uint32_t)(tag >> 3);
    f->type = (int)(tag & 7);
    if (tag >> 32 || !f->number) return damaged(w);
    switch (f->type) {
    case 0: return varint(w, &f->value);
    case 1: return fixed(w, 8, f);
    case 2:
        CAD_TRY(varint(w, &f->value));
        return f->value > (uint64_t)(w->end - w->at) ? damaged(w) : fixed(w, (size_t)f->value, f);
    case 5: return fixed(w, 4, f);
    default: return damaged(w);
    }
}

static wire inside(const wire *w, const field *f) { return (wire){f->bytes, f->bytes + f->size, w->begin, w->path}; }

/* ---- the model ---- */

typedef struct spec { uint64_t model_type; int32_t unk, bos, eos, pad; bool byte_fallback, dummy_prefix; const unsigned char *charsmap; size_t charsmap_size; } spec;

static cad_status read_piece(const wire *w, const field *f, cadp_lexeme *p)
{
    wire in = inside(w, f);
    field g;

    *p = (cadp_lexeme){.text = "", .kind = CADP_PIECE_NORMAL};
    while (in.at < in.end) {
        CAD_TRY(next_field(&in, &g));
        if (g.number == 1 && g.type == 2) {
            p->text = (const char *)g.bytes;
            p->size = g.size;
        } else if (g.number == 2 && g.type == 5) memcpy(&p->score, g.bytes, 4);
        else if (g.number == 3 && g.type == 0) p->kind = (int)(g.value & 15);
    }
    return CAD_OK;
}

static cad_status read_trainer(const wire *w, const field *f, spec *s)
{
    wire in = inside(w, f);
    field g;

    while (in.at < in.end) {
        CAD_TRY(next_field(&in, &g));
        if (g.type) continue;
        if (g.number == 3) s->model_type = g.value;
        if (g.number == 35) s->byte_fallback = g.value != 0;
        if (g.number == 40) s->unk = (int32_t)g.value;
        if (g.number == 41) s->bos = (int32_t)g.value;
        if (g.number == 42) s->eos = (int32_t)g.value;
        if (g.number == 43) s->pad = (int32_t)g.value;
    }
    return CAD_OK;
}

static cad_status read_normalizer(const wire *w, const field *f, spec *s)
{
    wire in = inside(w, f);
    field g;

    while (in.at < in.end) {
        CAD_TRY(next_field(&in, &g));
        if (g.number == 2 && g.type == 2) {
            s->charsmap = g.bytes;
            s->charsmap_size = g.size;
        }
        if (g.number == 3 && g.type == 0) s->dummy_prefix = g.value != 0;
    }
    return CAD_OK;
}

static cad_status count_pieces(wire w, int64_t *out)
{
    field f;

    for (*out = 0; w.at < w.end; *out += f.number == 1 && f.type == 2) CAD_TRY(next_field(&w, &f));
    if (*out >= 1 && *out <= MOST_PIECES) return CAD_OK;
    return cad_fail(CAD_EMODEL, "%s: expected a SentencePiece model of 1 to %d pieces, found %lld", w.path, MOST_PIECES, (long long)*out);
}

/* SentencePiece takes no other models either; where two pieces are one text their order of merging would be a guess. */
static cad_status check_pieces(const cadp_lexicon *l)
{
    for (int64_t i = 0; i < l->count; i++) {
        if (!l->item[i].size) return cad_fail(CAD_EMODEL, "%s: expected pieces of at least one letter, found token %lld without", l->path, (long long)i);
        if (l->item[i].twice) return cad_fail(CAD_EMODEL, "%s: expected pieces that differ, found token %lld once more", l->path, (long long)i);
    }
    return CAD_OK;
}

static cad_status read_model(wire w, cadp_lexicon *l, spec *s)
{
    int64_t n = 0;
    field f;

    while (w.at < w.end) {
        CAD_TRY(next_field(&w, &f));
        if (f.type != 2) continue;
        if (f.number == 1) CAD_TRY(read_piece(&w, &f, &l->item[n++]));
        if (f.number == 2) CAD_TRY(read_trainer(&w, &f, s));
        if (f.number == 3) CAD_TRY(read_normalizer(&w, &f, s));
    }
    CAD_TRY(cadp_lexicon_index(l));
    return check_pieces(l);
}

/* ---- tokenizer.json ---- */

static bool flag_of(const cad_tree *config, const char *key, bool otherwise)
{
    bool value;

    if (!config || !cad_get_bool(config->root, key, &value, otherwise)) return otherwise;
    return value;
}

/* The token that tokenizer_config.json names, else the model's own. */
static int64_t token_of(const cadp_lexicon *l, const cad_tree *config, const char *key, int32_t own)
{
    const cad_node *n = cadp_config_content(config, key);
    int64_t id;

    if (n && cad_map_get(l->ids, n->text, n->size, &id)) return id;
    return own >= 0 && own < l->count ? own : -1;
}

/* Early models of a family that puts a space before every text do so before every piece between special tokens ("legacy"). */
static cadp_lead lead_of(const spec *s, const cad_tree *config)
{
    if (!s->dummy_prefix || !flag_of(config, "add_prefix_space", true)) return CADP_LEAD_NONE;
    return flag_of(config, "legacy", false) ? CADP_LEAD_ALWAYS : CADP_LEAD_FIRST;
}

static cad_status put_base64(const unsigned char *b, size_t n, cad_str *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < n; i += 3) {
        uint32_t bits = (uint32_t)b[i] << 16 | (i + 1 < n ? (uint32_t)b[i + 1] << 8 : 0) | (i + 2 < n ? b[i + 2] : 0u);
        char four[] = {digits[bits >> 18], digits[bits >> 12 & 63], i + 1 < n ? digits[bits >> 6 & 63] : '=', i + 2 < n ? digits[bits & 63] : '='};
        CAD_TRY(cad_str_add(out, four, 4));
    }
    return CAD_OK;
}

/* As SpmConverter.build_tokenizer_from_spm_proto of Transformers 5. */
static cad_status put_unigram_steps(const spec *s, cad_str *out)
{
    static const char spaces[] = "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xE2\x96\x81\"}]},\n";
    static const char back[] = "\"pre_tokenizer\": null,\n\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"\xE2\x96\x81\"}, \"content\": \" \"}";

    CAD_TRY(cad_str_addf(out, "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": ["));
    if (s->charsmap_size) {
        CAD_TRY(cad_str_addf(out, "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \""));
        CAD_TRY(put_base64(s->charsmap, s->charsmap_size, out));
        CAD_TRY(cad_str_addf(out, "\"}, "));
    }
    CAD_TRY(cad_str_add(out, spaces, sizeof spaces - 1));
    CAD_TRY(cad_str_add(out, back, sizeof back - 1));
    return cad_str_addf(out, "%s]}", s->byte_fallback ? ", {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}" : "");
}

static cad_status put_unigram(const cadp_lexicon *l, const spec *s, cad_str *out)
{
    CAD_TRY(cad_str_addf(out, "\"model\": {\"type\": \"Unigram\", \"unk_id\": %d, \"byte_fallback\": %s, \"vocab\": [", s->unk, s->byte_fallback ? "true" : "false"));
    for (int64_t i = 0; i < l->count; i++) {
        CAD_TRY(cad_str_addf(out, i ? ",\n[" : "\n["));
        CAD_TRY(cadp_make_quoted(out, l->item[i].text, l->item[i].size));
        CAD_TRY(cad_str_addf(out, ", %.17g]", (double)l->item[i].score));
    }
    return cad_str_addf(out, "]}");
}

static cad_status put_model(const cadp_lexicon *l, cad_str *out)
{
    CAD_TRY(cad_str_addf(out, "\"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": true, "
                              "\"byte_fallback\": true, \"ignore_merges\": false,\n"));
    CAD_TRY(cadp_make_vocab(l, out));
    CAD_TRY(cad_str_addf(out, ",\n\"merges\": ["));
    CAD_TRY(cadp_make_merges(l, CADP_BY_PLACE, out));
    return cad_str_addf(out, "]}");
}

static cad_status put_json(cadp_lexicon *l, const spec *s, const cad_tree *config, const cad_tree *more, cad_str *out)
{
    int64_t bos = token_of(l, config, "bos_token", s->bos), eos = token_of(l, config, "eos_token", s->eos);

    for (int64_t i = 0; i < l->count; i++)
        if (l->item[i].kind == CADP_PIECE_UNKNOWN || i == bos || i == eos) l->item[i].kind = CADP_PIECE_CONTROL;
    CAD_TRY(cad_str_addf(out, "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null,\n"));
    CAD_TRY(cadp_make_added(l, config, more, out));
    CAD_TRY(cad_str_addf(out, ",\n"));
    CAD_TRY(s->model_type == MODEL_UNIGRAM ? put_unigram_steps(s, out) : cadp_make_spaces(lead_of(s, config), out));
    CAD_TRY(cad_str_addf(out, ",\n"));
    CAD_TRY(cadp_make_template(l, flag_of(config, "add_bos_token", CADP_MODEL_ADDS_BOS) ? bos : -1, flag_of(config, "add_eos_token", false) ? eos : -1, out));
    CAD_TRY(cad_str_addf(out, ",\n"));
    CAD_TRY(s->model_type == MODEL_UNIGRAM ? put_unigram(l, s, out) : put_model(l, out));
    return cad_str_addf(out, "}\n");
}

static cad_status refuse_others(const char *path, const spec *s)
{
    if (s->model_type != MODEL_BPE && s->model_type != MODEL_UNIGRAM)
        return cad_fail(CAD_EMODEL, "%s: expected a SentencePiece model of type unigram or BPE, found type %llu, which is not implemented", path, (unsigned long long)s->model_type);
    return CAD_OK;
}

cad_status cadp_make_model(const char *path, const char *bytes, size_t n, const cad_tree *config, const cad_tree *more, cad_str *json)
{
    wire w = {(const unsigned char *)bytes, (const unsigned char *)bytes + n, (const unsigned char *)bytes, path};
    spec s = {.model_type = MODEL_UNIGRAM, .unk = 0, .bos = 1, .eos = 2, .pad = -1, .dummy_prefix = true};
    cadp_lexicon l = {0};
    int64_t pieces;
    cad_status status;

    CAD_TRY(count_pieces(w, &pieces));
    if (!(status = cadp_lexicon_open(&l, path, pieces)) && !(status = read_model(w, &l, &s)) && !(status = refuse_others(path, &s)))
        status = put_json(&l, &s, config, more, json);
    cadp_lexicon_close(&l);
    return status;
}
