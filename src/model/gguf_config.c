#include "foreign.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const cadp_foreign_key cadp_foreign_keys[] = {
    {"block_count", "num_hidden_layers", CAD_INT, true}, {"context_length", "max_position_embeddings", CAD_INT, true},
    {"embedding_length", "hidden_size", CAD_INT, true}, {"feed_forward_length", "intermediate_size", CAD_INT, true},
    {"attention.head_count", "num_attention_heads", CAD_INT, true}, {"attention.head_count_kv", "num_key_value_heads", CAD_INT, false},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", CAD_REAL, true}, {"rope.freq_base", "rope_theta", CAD_REAL, false},
    {"rope.freq_base_swa", "rope_local_base_freq", CAD_REAL, false}, {"attention.sliding_window", "sliding_window", CAD_INT, false},
    {"attn_logit_softcapping", "attn_logit_softcapping", CAD_REAL, false}, {"final_logit_softcapping", "final_logit_softcapping", CAD_REAL, false},
    {NULL, NULL, CAD_NULL, false}};

/* The shortest decimal that is the same number in single precision: 1e-6, not 9.99999997e-7. */
static double shortest(double value)
{
    char text[40];

    for (int digits = 1; digits < 10; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtof(text, NULL) == (float)value) return strtod(text, NULL);
    }
    return value;
}

static cad_status put_keys(const cadp_foreign *f, cad_json *j)
{
    for (const cadp_foreign_key *k = cadp_foreign_keys; k->stored; k++) {
        cad_gguf_value v;
        if (!cadp_foreign_get(f, k->stored, &v)) {
            if (k->needed) return cad_fail(CAD_EMODEL, "%s: expected \"%s\" of its architecture, found no such key", f->path, k->stored);
            continue;
        }
        if (v.kind != CAD_INT && (v.kind != CAD_REAL || k->kind == CAD_INT || !isfinite(v.real)))
            return cad_fail(CAD_EMODEL, "%s: \"%s\": expected one %s, found another value", f->path, k->stored, k->kind == CAD_INT ? "whole number" : "number");
        CAD_TRY(k->kind == CAD_INT ? cad_json_int(j, k->config, v.integer) : cad_json_real(j, k->config, shortest(v.real)));
    }
    return CAD_OK;
}

/* The size of a head: its own key, else what rotates; both must agree, as every dimension rotates here. */
static cad_status head_size(const cadp_foreign *f, int64_t *out)
{
    cad_gguf_value own = {0}, rotated = {0}, width = {0};
    bool has_own = cadp_foreign_get(f, "attention.key_length", &own), has_rotated = cadp_foreign_get(f, "rope.dimension_count", &rotated);

    *out = has_own ? own.integer : has_rotated ? rotated.integer : cadp_foreign_get(f, "embedding_length", &width) ? width.integer / f->q_heads : 0;
    if (*out < 1 || *out > 1 << 16) return cad_fail(CAD_EMODEL, "%s: \"attention.key_length\": expected a whole number from 1 to 65536, found another value", f->path);
    if (has_own && has_rotated && own.integer != rotated.integer)
        return cad_fail(CAD_EMODEL, "%s: \"rope.dimension_count\": expected %lld, the size of a head, found %lld", f->path, (long long)own.integer, (long long)rotated.integer);
    return CAD_OK;
}

static const cad_st_tensor *find_tensor(const cadp_foreign *f, const char *name)
{
    for (int i = 0; i < cad_gguf_count(f->file); i++)
        if (!strcmp(cad_gguf_at(f->file, i)->name, name)) return cad_gguf_at(f->file, i);
    return NULL;
}

static cad_status put_query_scale(const cadp_foreign *f, cad_json *j, int64_t head)
{
    bool own;
    int64_t by_width;
    cad_gguf_value layers = {0}, width = {0};

    (void)cad_get_bool(f->arch, "query_scale", &own, false);
    (void)cad_get_int(f->arch, "query_scale_by_width", &by_width, 0);
    if (!own) return CAD_OK;
    if (cadp_foreign_get(f, "block_count", &layers) && layers.integer == by_width && cadp_foreign_get(f, "embedding_length", &width)) head = width.integer / f->q_heads;
    return cad_json_int(j, "query_pre_attn_scalar", head);
}

/* ---- rotation ---- */


void cadp_foreign_divisors(const cad_rope_spec *s, int64_t pairs, float *out)
{
    float scaled;

    for (int64_t j = 0; j < pairs; j++) {
        double f = 1.0 / pow(s->theta, (double)(2 * j) / (double)(2 * pairs)), wave = 2 * 3.14159265358979323846 / f;
        double low = s->original / s->low, high = s->original / s->high;
        if (wave < high) scaled = 1;
        else if (wave > low) scaled = (float)s->factor;
        else {
            double t = (s->original / wave - s->low) / (s->high - s->low);
            scaled = (float)(1 / ((1 - t) / s->factor + t));
        }
        out[j] = scaled;
    }
}

/* The file keeps only the divisors. Which words of config.json give them is found by trying: scaling all three words changes nothing, so low is 1. */
static bool find_bands(cad_rope_spec *s, const float *given, float *computed, int64_t pairs)
{
    static const double highs[] = {4, 1, 2, 8, 16};

    s->low = 1;
    for (int place = 12; place < 30; place++) /* 8192 first, then from 32 on */
        for (size_t k = 0; k < sizeof highs / sizeof *highs; k++) {
            bool same = true;
            s->high = highs[k];
            s->original = place == 12 ? 8192 : (double)(1 << (place - 8));
            cadp_foreign_divisors(s, pairs, computed);
            for (int64_t i = 0; i < pairs && same; i++) same = fabsf(given[i] - computed[i]) <= 1e-4f * computed[i];
            if (same) return true;
        }
    return false;
}
static cad_status put_bands(const cadp_foreign *f, cad_json *j, const cad_st_tensor *t, double theta, int64_t head)
{
    float *given, *computed;
    bool same = false;
    const char *word = "";
    cad_rope_spec s = {.theta = theta};

    if (t->elems != head / 2 || t->dtype != CAD_F32) return cad_fail(CAD_EMODEL, "tensor %s in %s: expected %lld F32 values, found others", t->name, f->path, (long long)(head / 2));
    CAD_TRY(cad_alloc(&given, (size_t)head, sizeof *given, "rotation"));
    computed = given + head / 2;
    cad_status status = cad_st_read_f32(t, 0, t->elems, given);
    for (int64_t i = 0; i < t->elems; i++) s.factor = fmax(s.factor, (double)given[i]);
    same = !status && find_bands(&s, given, computed, t->elems);
    cad_free(&given);
    CAD_TRY(status);
    (void)cad_get_string(f->arch, "banded", &word, "");
    if (!same) return cad_fail(CAD_EMODEL, "tensor %s in %s: expected the frequencies of a known rotation in bands, found others", t->name, f->path);
    CAD_TRY(cad_json_begin(j, "rope_scaling", '{'));
    CAD_TRY(cad_json_string(j, "rope_type", word));
    CAD_TRY(cad_json_real(j, "factor", s.factor));
    CAD_TRY(cad_json_real(j, "low_freq_factor", s.low));
    CAD_TRY(cad_json_real(j, "high_freq_factor", s.high));
    CAD_TRY(cad_json_int(j, "original_max_position_embeddings", (int64_t)s.original));
    return cad_json_end(j);
}

static cad_status put_rotation(const cadp_foreign *f, cad_json *j, int64_t head)
{
    const cad_st_tensor *bands = find_tensor(f, "rope_freqs.weight");
    cad_gguf_value theta, type, factor = {0};
    char word[32];

    if (bands) return put_bands(f, j, bands, cadp_foreign_get(f, "rope.freq_base", &theta) ? theta.real : 10000.0, head);
    if (!cadp_foreign_get(f, "rope.scaling.type", &type) || type.kind != CAD_STRING || (type.size == 4 && !memcmp(type.text, "none", 4))) return CAD_OK;
    if (!cadp_foreign_get(f, "rope.scaling.factor", &factor) || factor.kind != CAD_REAL) return cad_fail(CAD_EMODEL, "%s: expected \"rope.scaling.factor\", found no such number", f->path);
    snprintf(word, sizeof word, "%.*s", (int)cad_min((int64_t)type.size, 31), type.text);
    CAD_TRY(cad_json_begin(j, "rope_scaling", '{'));
    CAD_TRY(cad_json_string(j, "rope_type", word));
    CAD_TRY(cad_json_real(j, "factor", shortest(factor.real)));
    return cad_json_end(j);
}

/* ---- the rest ---- */

/* A list of truths (true: a window) or the length of a period whose last layer sees everything. */
static cad_status put_windows(const cadp_foreign *f, cad_json *j)
{
    cad_gguf_value v;

    if (!cadp_foreign_get(f, "attention.sliding_window_pattern", &v)) return CAD_OK;
    if (v.kind == CAD_INT) return cad_json_int(j, "sliding_window_pattern", v.integer);
    if (v.kind != CAD_LIST) return cad_fail(CAD_EMODEL, "%s: \"attention.sliding_window_pattern\": expected a number or a list, found another value", f->path);
    CAD_TRY(cad_json_bool(j, "use_sliding_window", true));
    CAD_TRY(cad_json_begin(j, "layer_types", '['));
    for (int64_t i = 0; i < v.count; i++) {
        cad_gguf_value item = cad_gguf_item(&v, i);
        CAD_TRY(cad_json_string(j, NULL, item.boolean || item.integer ? "sliding_attention" : "full_attention"));
    }
    return cad_json_end(j);
}

static cad_status put_biases(const cadp_foreign *f, cad_json *j)
{
    const cad_node *biases = cad_get(f->arch, "biases");
    char name[96];

    for (const cad_node *n = biases ? biases->child : NULL; n; n = n->next) {
        snprintf(name, sizeof name, "blk.0.%s", n->key);
        CAD_TRY(cad_json_bool(j, n->text, find_tensor(f, name) != NULL));
    }
    return CAD_OK;
}

static cad_status put_token_ids(const cadp_foreign *f, cad_json *j)
{
    static const char *const names[][2] = {{"tokenizer.ggml.bos_token_id", "bos_token_id"}, {"tokenizer.ggml.eos_token_id", "eos_token_id"}, {"tokenizer.ggml.padding_token_id", "pad_token_id"}};
    cad_gguf_value v;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (cad_gguf_get(f->file, names[i][0], &v) && v.kind == CAD_INT) CAD_TRY(cad_json_int(j, names[i][1], v.integer));
    return CAD_OK;
}

static cad_status put_stored(const cadp_foreign *f, cad_json *j)
{
    const cad_st_tensor *embed = find_tensor(f, "token_embd.weight");
    const char *type = "", *kind;

    if (!embed || embed->dims != 2) return cad_fail(CAD_EMODEL, "%s: expected a matrix token_embd.weight, found none", f->path);
    kind = cad_st_kind(embed);
    type = !strcmp(kind, "BF16") ? "bfloat16" : !strcmp(kind, "F16") ? "float16" : "float32";
    CAD_TRY(cad_json_int(j, "vocab_size", embed->shape[0]));
    CAD_TRY(cad_json_bool(j, "tie_word_embeddings", find_tensor(f, "output.weight") == NULL));
    return cad_json_string(j, "dtype", type);
}

/* One architecture may stand for several types of model: those with a window in every layer are another than those without. */
static cad_status put_type(const cadp_foreign *f, cad_json *j)
{
    const cad_node *windowed = cad_get(f->arch, "windowed");
    const char *type = cad_get(f->arch, "model_types")->child->text, *class_name = "";
    cad_gguf_value window;
    bool other = windowed && cadp_foreign_get(f, "attention.sliding_window", &window) && window.kind == CAD_INT && window.integer > 0;

    (void)cad_get_string(other ? windowed : f->arch, "class", &class_name, "");
    if (other) (void)cad_get_string(windowed, "model_type", &type, type);
    CAD_TRY(cad_json_begin(j, "architectures", '['));
    CAD_TRY(cad_json_string(j, NULL, class_name));
    CAD_TRY(cad_json_end(j));
    return cad_json_string(j, "model_type", type);
}

static cad_status put_all(const cadp_foreign *f, cad_json *j)
{
    int64_t head;

    CAD_TRY(head_size(f, &head));
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(put_type(f, j));
    CAD_TRY(put_keys(f, j));
    CAD_TRY(cad_json_int(j, "head_dim", head));
    CAD_TRY(put_query_scale(f, j, head));
    CAD_TRY(put_rotation(f, j, head));
    CAD_TRY(put_windows(f, j));
    CAD_TRY(put_biases(f, j));
    CAD_TRY(put_token_ids(f, j));
    CAD_TRY(put_stored(f, j));
    return cad_json_end(j);
}

cad_status cadp_foreign_config(const cadp_foreign *f, cad_str *out)
{
    cad_json j = {.pretty = true};
    cad_status status = put_all(f, &j);

    if (status) cad_json_close(&j);
    else *out = j.text;
    return status;
}

static cad_status read_foreign(char **out, size_t *n, const char *path)
{
    cadp_foreign f;
    cad_str text = {0};
    cad_status status = cadp_foreign_open(&f, path);

    if (status) return status;
    status = cadp_foreign_config(&f, &text);
    cadp_foreign_close(&f);
    *out = text.data;
    *n = text.size;
    return status;
}

cad_status cad_arch_text(char **out, size_t *n, const char *dir)
{
    char *gguf, *path;
    cad_status status;

    *out = NULL;
    CAD_TRY(cad_gguf_find(&gguf, dir));
    if (gguf) {
        status = read_foreign(out, n, gguf);
        cad_free(&gguf);
        return status;
    }
    CAD_TRY(cad_path_join(&path, dir, "config.json"));
    status = cad_read_file(out, n, path, 16 << 20, CAD_EMODEL);
    cad_free(&path);
    return status;
}
