#include "model_priv.h"

#include <math.h>
#include <stdio.h>

struct cad_source {
    const cad_params *params;
    cad_st *model, *adapter;
    const cad_st_tensor **tensor; /* [rows]; NULL: drawn */
    cadp_stored **stored;         /* [rows]; NULL: numbers */
    cadp_experts **experts;       /* [rows]; NULL: not one by one */
    bool head_is_new, classifies; /* classifies: every part of the head must have its place */
    double head_sd;
    uint64_t seed;
};

/* families 1.5: checkpoints call the same tensor by several names: behind the words of wrappers, without the word of the root, with PEFT's or older words
 * for its parts. `out` has room for any tensor name of a checked file. */
static const char *without_wrappers(const char *name, bool *rooted)
{
    static const struct { const char *word; bool root; } wrappers[] = {{"base_model.model.", false}, {"backbone.", true}, {"model.language_model.", true}, {"language_model.model.", true}, {"language_model.", false}};

    *rooted = false;
    for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers && !*rooted; i++) {
        size_t n = strlen(wrappers[i].word);
        if (strncmp(name, wrappers[i].word, n)) continue;
        name += n;
        *rooted = wrappers[i].root;
    }
    return name;
}

static void spell(const char *root, const char *name, char *out, size_t room)
{
    static const struct { const char *from, *to; } ends[] = {{".gamma", ".weight"}, {".beta", ".bias"}};
    const char *wrapped = strstr(name, ".base_layer."); /* what PEFT calls a layer beside its adapter */
    size_t n;

    snprintf(out, room, "%s%.*s%s", root, wrapped ? (int)(wrapped - name) : 0, name, wrapped ? wrapped + strlen(".base_layer") : name);
    n = strlen(out);
    for (size_t i = 0; i < 2; i++) {
        size_t k = strlen(ends[i].from);
        if (n > k && !strcmp(out + n - k, ends[i].from)) snprintf(out + n - k, room - n + k, "%s", ends[i].to);
    }
}

/* The row of a tensor by any of its names. */
static bool find_row(const cad_params *p, const cad_map *rows, const char *name, int64_t *row)
{
    char root[64] = "", spelled[640];
    bool rooted;

    snprintf(root, sizeof root, "%.*s", p->row[0].root, p->row[0].name);
    name = without_wrappers(name, &rooted);
    snprintf(spelled, sizeof spelled, "%s%s", rooted ? root : "", name); /* of two adapters on one module the first is called base_layer */
    if (cad_map_get(rows, spelled, strlen(spelled), row)) return true;
    spell(rooted ? root : "", name, spelled, sizeof spelled);
    if (cad_map_get(rows, spelled, strlen(spelled), row)) return true;
    spell(root, name, spelled, sizeof spelled);
    return cad_map_get(rows, spelled, strlen(spelled), row);
}

static void show_shape(char *out, size_t room, const int64_t *shape, int dims)
{
    size_t used = (size_t)snprintf(out, room, "[");

    for (int i = 0; i < dims && used < room; i++) used += (size_t)snprintf(out + used, room - used, "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (used < room) snprintf(out + used, room - used, "]");
}

static cad_status wrong_shape(const cad_st *st, const cad_param *p, const cad_st_tensor *t)
{
    char expected[64], found[256];
    int64_t shape[3];
    int dims = cad_param_file_shape(p, shape);

    show_shape(expected, sizeof expected, shape, dims);
    show_shape(found, sizeof found, t->shape, t->dims);
    return cad_fail(CAD_EMODEL, "tensor %s in %s: expected shape %s, found %s", t->name, cad_st_file(st, t->file), expected, found);
}

static bool shape_fits(const cad_param *p, const cad_st_tensor *t)
{
    int64_t shape[3];
    int dims = cad_param_file_shape(p, shape);

    for (int i = 0; i < dims && t->dims == dims; i++)
        if (t->shape[i] != shape[i]) return false;
    return t->dims == dims;
}

/* A head of another task: a classifier's beside a language model, a language model's beside a classifier. */
static bool is_head(const char *name)
{
    return strstr(name, "lm_head.") || strstr(name, "score.") || strstr(name, "classifier.") || strstr(name, "pooler.");
}

/* Half an adapter must not be left behind in silence. */
static cad_status without_place(const cad_source *s, const cad_st *st, const cad_st_tensor *t)
{
    if (s->classifies && strstr(t->name, "head_columns."))
        return cad_fail(CAD_EMODEL, "tensor %s in %s: expected head_columns.json beside it, which says what its columns are, found none", t->name, cad_st_file(st, t->file));
    if (st != s->adapter || (is_head(t->name) && !strstr(t->name, "lora_"))) return CAD_OK;
    return cad_fail(CAD_EMODEL, "tensor %s in %s: expected part of an adapter on the layers that adapter_config.json names, found no place for it", t->name, cad_st_file(st, t->file));
}

/* An adapter is small: every number of it is looked at before it spoils what it is added to. */
static cad_status check_finite(const cad_source *s, const cad_st *st, const cad_st_tensor *t)
{
    float v[1024];

    for (int64_t at = 0; st == s->adapter && at < t->elems; at += 1024) {
        int64_t n = cad_min(1024, t->elems - at);
        CAD_TRY(cad_st_read_f32(t, at, n, v));
        for (int64_t i = 0; i < n; i++)
            if (!isfinite(v[i])) return cad_fail(CAD_EMODEL, "tensor %s in %s: expected finite numbers, found %s at element %lld", t->name, cad_st_file(st, t->file), isnan(v[i]) ? "NaN" : "infinity", (long long)(at + i));
    }
    return CAD_OK;
}

static cad_status match_file(cad_source *s, const cad_st *st, const cad_map *rows)
{
    for (int i = 0; st && i < cad_st_count(st); i++) {
        const cad_st_tensor *t = cad_st_at(st, i);
        int64_t row;

        if (!find_row(s->params, rows, t->name, &row)) {
            CAD_TRY(without_place(s, st, t));
            continue;
        }
        if (row >> 32) {
            int whole = (int)(row & INT32_MAX);
            CAD_TRY(cadp_experts_place(&s->experts[whole], s->params, whole, (row >> 32) - 1, st, t));
            continue;
        }
        if (cadp_is_stored_code(&s->params->row[row], t)) {
            CAD_TRY(cadp_stored_match(&s->stored[row], st, &s->params->row[row], t));
            s->tensor[row] = t;
            continue;
        }
        if (!shape_fits(&s->params->row[row], t)) return wrong_shape(st, &s->params->row[row], t);
        if (t->dtype != CAD_F32 && t->dtype != CAD_BF16 && t->dtype != CAD_F16 && t->dtype != CAD_F64)
            return cad_fail(CAD_EMODEL, "tensor %s in %s: expected F32, BF16, F16 or F64, found %s", t->name, cad_st_file(st, t->file), cad_dtype_name(t->dtype));
        CAD_TRY(check_finite(s, st, t));
        s->tensor[row] = t;
    }
    return CAD_OK;
}

/* A checkpoint whose layers are codes in part: what is not would have to stay as it is. Matrices of experts may be either. */
static cad_status check_codes(const cad_source *s)
{
    const cad_st_tensor *plain = NULL;
    bool some = false;

    for (int i = 0; i < s->params->count; i++) {
        some |= s->stored[i] != NULL;
        if (s->params->row[i].code && s->params->row[i].dims == 2 && s->tensor[i] && !s->stored[i]) plain = s->tensor[i];
    }
    if (!some || !plain) return CAD_OK;
    return cad_fail(CAD_EMODEL, "tensor %s in %s: expected codes as in the other layers, found %s", plain->name, cad_st_file(s->model, plain->file), cad_dtype_name(plain->dtype));
}

static cad_status match(cad_source *s)
{
    cad_map *rows;
    cad_status status;

    CAD_TRY(cad_map_open(&rows));
    for (int i = 0; i < s->params->count; i++)
        if ((status = cad_map_set(rows, s->params->row[i].name, strlen(s->params->row[i].name), i, NULL)) || (status = cadp_experts_names(s->params, i, rows))) goto done;
    status = match_file(s, s->model, rows);
    if (!status) status = match_file(s, s->adapter, rows);
    if (!status) status = check_codes(s);
done:
    cad_map_close(&rows);
    return status;
}

static cad_status check_complete(cad_source *s, const char *dir, const char *adapter_dir, bool head_may_be_missing)
{
    for (int i = 0; i < s->params->count; i++) {
        const cad_param *p = &s->params->row[i];
        bool adapter = p->piece >= CAD_PIECE_A;

        if (s->tensor[i] || p->idle) continue;
        if (s->experts[i]) {
            CAD_TRY(cadp_experts_check(s->experts[i], s->params, dir));
            continue;
        }
        if (adapter && !adapter_dir) continue;
        if (p->role == CAD_ROLE_COLUMNS && head_may_be_missing) continue;
        if ((p->role == CAD_ROLE_HEAD || p->role == CAD_ROLE_POOLER) && head_may_be_missing) s->head_is_new = true;
        else
            return cad_fail(CAD_EMODEL, "tensor %s: expected in %s, found no such tensor", p->name, adapter ? adapter_dir : dir);
    }
    return CAD_OK;
}

cad_status cad_source_open(cad_source **out, const char *dir, const char *adapter_dir, const cad_params *params, bool head_may_be_missing)
{
    cad_source *s;
    cad_status status;

    CAD_TRY(cad_alloc(out, 1, sizeof **out, "the weights"));
    s = *out;
    s->params = params;
    s->head_sd = 0.02;
    s->classifies = !head_may_be_missing;
    if (!(status = cad_alloc(&s->tensor, (size_t)params->count, sizeof *s->tensor, "the weights")) && !(status = cad_alloc(&s->stored, (size_t)params->count, sizeof *s->stored, "the weights")) &&
        !(status = cad_alloc(&s->experts, (size_t)params->count, sizeof *s->experts, "the weights")) &&
        !(status = dir ? cad_weights_open(&s->model, dir) : CAD_OK) &&
        !(status = adapter_dir ? cad_st_open(&s->adapter, adapter_dir) : CAD_OK) && !(status = match(s)) && dir)
        status = check_complete(s, dir, adapter_dir, head_may_be_missing);
    if (status) cad_source_close(out);
    return status;
}

void cad_source_close(cad_source **s)
{
    if (!*s) return;
    cad_st_close(&(*s)->model);
    cad_st_close(&(*s)->adapter);
    for (int i = 0; (*s)->stored && i < (*s)->params->count; i++) cad_free(&(*s)->stored[i]);
    for (int i = 0; (*s)->experts && i < (*s)->params->count; i++) cadp_experts_close(&(*s)->experts[i]);
    cad_free(&(*s)->experts);
    cad_free(&(*s)->stored);
    cad_free(&(*s)->tensor);
    cad_free(s);
}

void cad_source_set_draw(cad_source *s, uint64_t seed, double initializer_range)
{
    s->seed = seed;
    s->head_sd = initializer_range;
}

static bool is_norm(const cad_param *p)
{
    switch (p->role) {
    case CAD_ROLE_ATTN_NORM: case CAD_ROLE_MLP_NORM: case CAD_ROLE_FINAL_NORM: case CAD_ROLE_EMBED_NORM: case CAD_ROLE_Q_NORM: case CAD_ROLE_K_NORM: case CAD_ROLE_ATTN_OUT_NORM: case CAD_ROLE_MLP_OUT_NORM: return true;
    default: return false;
    }
}

/* What no file holds. Adapters: A uniform within 1 / sqrt(in) (PEFT's kaiming with a = sqrt 5), B zero; on a table of words A zero and B normal. Norms one
 * (or zero where the gain is 1 + w), biases zero, the rest normal. */
static float drawn(const cad_source *s, int row, const cad_param *p, int64_t i)
{
    bool table = p->role == CAD_ROLE_EMBED;

    if (p->piece == CAD_PIECE_A && !table) return (float)((2 * cad_rng_uniform(s->seed, CAD_RNG_INIT, (uint32_t)row, (uint64_t)i) - 1) / sqrt((double)p->cols));
    if (p->piece == CAD_PIECE_B && table) return (float)cad_rng_normal(s->seed, CAD_RNG_INIT, (uint32_t)row, (uint64_t)i);
    if (p->piece == CAD_PIECE_A || p->piece == CAD_PIECE_B || p->piece == CAD_PIECE_BIAS || p->role == CAD_ROLE_COLUMNS) return 0;
    if (is_norm(p)) return s->params->gain_plus_one ? 0 : 1;
    return (float)(s->head_sd * cad_rng_normal(s->seed, CAD_RNG_INIT, (uint32_t)row, (uint64_t)i));
}

static float length_of(const float *row, int64_t n)
{
    double sum = 0;

    for (int64_t j = 0; j < n; j++) sum += (double)row[j] * (double)row[j];
    return (float)sqrt(sum);
}

/* A matrix that will be held as codes, as it comes back from them. */
static cad_status read_through_codes(const cad_source *s, int row, float *w)
{
    const cad_param *p = &s->params->row[row];
    uint16_t *half = (uint16_t *)(void *)w + p->elems;
    bool narrow = s->params->compute == CAD_BF16;

    CAD_TRY(cad_source_read(s, row, 0, p->elems, narrow ? CAD_BF16 : CAD_F32, narrow ? (void *)half : (void *)w));
    for (int64_t i = 0; i < p->elems && narrow; i++) w[i] = cad_bf16_to_f32(half[i]);
    return cad_through_codes(p, s->params->compute, p->elems, w, NULL);
}

/* New magnitudes: the norms of rows of the weight, to which B = 0 adds nothing (families 11.8). */
static cad_status magnitudes(const cad_source *s, const cad_param *p, int64_t from, int64_t n, float *out)
{
    int weight = s->params->find[p->unit][p->role][CAD_PIECE_WEIGHT];
    const cad_param *q = &s->params->row[weight];
    bool whole = q->code && !s->stored[weight];
    float *w;
    cad_status status;

    CAD_TRY(cad_alloc(&w, (size_t)(whole ? q->elems : q->cols), sizeof *w, "rows of a weight"));
    status = whole ? read_through_codes(s, weight, w) : CAD_OK;
    for (int64_t i = 0; i < n && !status; i++) {
        if (!whole) status = cad_source_read(s, weight, (from + i) * q->cols, q->cols, CAD_F32, w);
        out[i] = length_of(whole ? w + (from + i) * q->cols : w, q->cols);
    }
    cad_free(&w);
    return status;
}

static cad_status read_magnitudes(const cad_source *s, int row, int64_t from, int64_t n, cad_dtype as, void *out)
{
    float *wide = out;
    cad_status status;

    if (as == CAD_F32) return magnitudes(s, &s->params->row[row], from, n, out);
    CAD_TRY(cad_alloc(&wide, (size_t)n, sizeof *wide, "magnitudes"));
    status = magnitudes(s, &s->params->row[row], from, n, wide);
    for (int64_t i = 0; i < n && !status; i++) ((uint16_t *)out)[i] = cad_f32_to_bf16(wide[i]);
    cad_free(&wide);
    return status;
}

static cad_status read_spread(const cad_source *s, int row, int64_t from, int64_t n, cad_dtype as, void *out)
{
    for (int64_t i = 0; i < n; i++)
        CAD_TRY(cad_st_read(s->tensor[row], cad_param_file_at(&s->params->row[row], from + i), 1, as, (char *)out + (size_t)i * cad_dtype_bytes(as)));
    return CAD_OK;
}

cad_status cad_source_read(const cad_source *s, int row, int64_t from, int64_t n, cad_dtype as, void *out)
{
    float *wide = out;
    uint16_t *half = out;

    if (s->stored[row]) {
        cadp_stored_values(s->stored[row], from, n, as, out);
        return CAD_OK;
    }
    if (s->experts[row] && !s->tensor[row]) return cadp_experts_read(s->experts[row], from, n, as, out);
    if (s->tensor[row] && cad_param_is_spread(&s->params->row[row])) return read_spread(s, row, from, n, as, out);
    if (s->tensor[row]) return cad_st_read(s->tensor[row], from, n, as, out);
    if (s->params->row[row].piece == CAD_PIECE_MAGNITUDE) return read_magnitudes(s, row, from, n, as, out);
    for (int64_t i = 0; i < n; i++) {
        float x = drawn(s, row, &s->params->row[row], from + i);
        if (as == CAD_F32) wide[i] = x;
        else half[i] = cad_f32_to_bf16(x);
    }
    return CAD_OK;
}

cad_status cad_source_read_codes(const cad_source *s, int row, int64_t from, int64_t n, void *out, bool *has)
{
    *has = s->stored[row] != NULL;
    if (*has && n) cadp_stored_bytes(s->stored[row], from, n, out);
    return CAD_OK;
}

bool cad_source_has(const cad_source *s, int row) { return s->tensor[row] || s->experts[row]; }
bool cad_source_head_is_new(const cad_source *s) { return s->head_is_new; }
