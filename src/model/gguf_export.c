/* A whole model's directory as a GGUF file that llama.cpp reads: configs/gguf/architectures.yaml backwards. */
#include "foreign.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PIECE_ELEMS = 1 << 20 };
typedef struct plan { const cad_st_tensor *from; int64_t heads; float plus; } plan; /* a tensor and what is done to it */
typedef struct export {
    const char *dir, *kind, *name; /* name: of the architecture */
    cad_tree *table, *config;
    const cad_node *arch, *text;   /* text: config.json, or its text_config */
    cad_arch facts;
    cad_st *st;
    cad_gguf_writer *out;
    plan *plans;
    int count;
    bool left_head;                /* a classification head that llama.cpp has no place for */
} export;

/* ---- names ---- */

static bool lists(const cad_node *list, const char *name)
{
    for (const cad_node *n = list && list->kind == CAD_LIST ? list->child : NULL; n; n = n->next)
        if (n->kind == CAD_STRING && !strcmp(n->text, name)) return true;
    return false;
}

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && !strcmp(s + n - m, end);
}

static const char *key_of(const cad_node *table, const char *value)
{
    for (const cad_node *n = table && table->kind == CAD_TABLE ? table->child : NULL; n; n = n->next)
        if (n->kind == CAD_STRING && !strcmp(n->text, value)) return n->key;
    return NULL;
}

static cad_status no_place(const export *e, const cad_st_tensor *t)
{
    return cad_fail(CAD_EMODEL, "tensor %s in %s: expected a tensor that GGUF files of the architecture %s have a name for, found one without", t->name, cad_st_file(e->st, t->file), e->name);
}

/* …layers.N.STEM.weight as blk.N.NAME.weight. */
static cad_status name_block(const export *e, const char *at, plan *p, char *out, size_t room)
{
    char stem[96], *rest;
    const char *dot = strrchr(at, '.'), *to;
    long layer = strtol(at, &rest, 10);
    bool plus_one;

    if (rest == at || *rest != '.' || dot <= rest || (size_t)(dot - rest) > sizeof stem) return no_place(e, p->from);
    snprintf(stem, sizeof stem, "%.*s", (int)(dot - rest - 1), rest + 1);
    to = key_of(cad_get(e->arch, "blocks"), stem);
    if (!to) to = key_of(cad_get(e->table->root, "blocks"), stem);
    if (!to) return no_place(e, p->from);
    (void)cad_get_bool(e->arch, "gain_plus_one", &plus_one, false);
    if (plus_one && ends_in(to, "norm")) p->plus = 1;
    if (lists(cad_get(e->arch, "in_pairs"), to)) p->heads = strstr(to, "_k") ? e->facts.kv_heads : e->facts.q_heads;
    snprintf(out, room, "blk.%ld.%s%s", layer, to, dot);
    return CAD_OK;
}

static const char *last_words(const char *name, int words)
{
    const char *at = name + strlen(name);

    while (at > name && (at[-1] != '.' || --words > 0)) at--;
    return at;
}

/* Empty: not a part of the language model, or one that is written elsewhere. */
static cad_status name_tensor(export *e, plan *p, char *out, size_t room)
{
    const char *name = p->from->name, *layers = strstr(name, "layers."), *to;
    char canonical[96];
    bool plus_one, classifier;

    out[0] = 0;
    if (strstr(name, "vision") || strstr(name, "multi_modal") || strstr(name, "inv_freq")) return CAD_OK;
    if (!strncmp(name, "head_columns.", 13)) {
        e->left_head = true;
        return CAD_OK;
    }
    if (layers) return name_block(e, layers + strlen("layers."), p, out, room);
    to = last_words(name, 2);
    snprintf(canonical, sizeof canonical, "%s%.80s", !strncmp(to, "lm_head", 7) || !strncmp(to, "score", 5) ? "" : "model.", to);
    to = key_of(cad_get(e->table->root, "tensors"), canonical);
    if (!to) return no_place(e, p->from);
    (void)cad_get_bool(e->arch, "classifier", &classifier, false);
    if (!strncmp(to, "cls.", 4) && !classifier) {
        e->left_head = true;
        return CAD_OK;
    }
    if (!strcmp(canonical, "lm_head.weight") && e->facts.tied) return CAD_OK;
    (void)cad_get_bool(e->arch, "gain_plus_one", &plus_one, false);
    if (plus_one && ends_in(to, "norm.weight")) p->plus = 1;
    snprintf(out, room, "%s", to);
    return CAD_OK;
}

/* ---- metadata ---- */

static cad_status put_whole(const export *e, const char *key, int64_t value)
{
    char whole[128];

    snprintf(whole, sizeof whole, "%s.%s", e->name, key);
    return cad_gguf_put_int(e->out, whole, value);
}

static cad_status put_number(const export *e, const char *key, double value)
{
    char whole[128];

    snprintf(whole, sizeof whole, "%s.%s", e->name, key);
    return cad_gguf_put_real(e->out, whole, value);
}

static cad_status put_word(const export *e, const char *key, const char *value)
{
    char whole[128];

    snprintf(whole, sizeof whole, "%s.%s", e->name, key);
    return cad_gguf_put_text(e->out, whole, value, strlen(value));
}

static cad_status put_general(const export *e)
{
    CAD_TRY(cad_gguf_put_text(e->out, "general.architecture", e->name, strlen(e->name)));
    CAD_TRY(cad_gguf_put_text(e->out, "general.type", "model", 5));
    CAD_TRY(cad_gguf_put_int(e->out, "general.file_type", !strcmp(e->kind, "F16") ? 1 : 7));
    return cad_gguf_put_int(e->out, "general.quantization_version", 2);
}

static cad_status put_sizes(const export *e)
{
    const cad_arch *a = &e->facts;
    const struct { const char *key; int64_t value; } sizes[] = {
        {"context_length", a->max_positions}, {"embedding_length", a->hidden}, {"block_count", a->layers}, {"feed_forward_length", a->intermediate}, {"attention.head_count", a->q_heads},
        {"attention.head_count_kv", a->kv_heads}, {"attention.key_length", a->head_dim}, {"attention.value_length", a->head_dim}, {"rope.dimension_count", a->head_dim}, {"vocab_size", a->vocab}};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) CAD_TRY(put_whole(e, sizes[i].key, sizes[i].value));
    CAD_TRY(put_number(e, "attention.layer_norm_rms_epsilon", a->eps));
    return put_number(e, "rope.freq_base", a->rope.theta);
}

/* Which layers have a window, where that is not what the architecture alone says. */
static cad_status put_windows(const export *e)
{
    const cad_arch *a = &e->facts;
    bool every = cad_get(e->arch, "windowed") != NULL, told;
    int64_t period, widest = 0;
    char key[128];

    (void)cad_get_int(e->arch, "period", &period, 0);
    told = every || period > 0;
    for (int i = 0; i < a->layers; i++) {
        widest = cad_max(widest, a->window[i]);
        told = told && (a->window[i] > 0) == (every || (i + 1) % period);
    }
    if (!widest) return CAD_OK;
    CAD_TRY(put_whole(e, "attention.sliding_window", widest));
    if (told) return CAD_OK;
    snprintf(key, sizeof key, "%s.attention.sliding_window_pattern", e->name);
    CAD_TRY(cad_gguf_put_list(e->out, key, CAD_BOOL, a->layers));
    for (int i = 0; i < a->layers; i++) CAD_TRY(cad_gguf_add_number(e->out, CAD_BOOL, a->window[i] > 0));
    return CAD_OK;
}

/* Windows, soft caps and the second base are told as config.json tells them; what it leaves out llama.cpp takes as the family has it too. */
static cad_status put_rest(const export *e)
{
    static const char *const caps[] = {"attn_logit_softcapping", "final_logit_softcapping"};
    const cad_arch *a = &e->facts;
    const cad_node *local = cad_get(cad_get(e->text, "rope_parameters"), "sliding_attention");
    double value;

    CAD_TRY(put_windows(e));
    for (int i = 0; i < 2; i++)
        if (cad_get_real(e->text, caps[i], &value, 0) && value > 0) CAD_TRY(put_number(e, caps[i], value));
    if ((cad_get_real(e->text, "rope_local_base_freq", &value, 0) && value > 0) || (cad_get_real(local, "rope_theta", &value, 0) && value > 0)) CAD_TRY(put_number(e, "rope.freq_base_swa", value));
    if (a->rope.kind != CAD_ROPE_LINEAR) return CAD_OK;
    CAD_TRY(put_word(e, "rope.scaling.type", "linear"));
    return put_number(e, "rope.scaling.factor", a->rope.factor);
}

/* ---- tensors ---- */

static cad_status declare_bands(const export *e)
{
    int64_t pairs = e->facts.head_dim / 2;

    return e->facts.rope.kind == CAD_ROPE_BANDED ? cad_gguf_declare(e->out, "rope_freqs.weight", "F32", &pairs, 1) : CAD_OK;
}

static cad_status write_bands(const export *e)
{
    float *divisors;
    cad_status status;

    if (e->facts.rope.kind != CAD_ROPE_BANDED) return CAD_OK;
    CAD_TRY(cad_alloc(&divisors, (size_t)e->facts.head_dim, sizeof *divisors, "rotation"));
    cadp_foreign_divisors(&e->facts.rope, e->facts.head_dim / 2, divisors);
    status = cad_gguf_write(e->out, divisors, e->facts.head_dim / 2);
    cad_free(&divisors);
    return status;
}

static cad_status declare_all(export *e)
{
    char name[128];

    CAD_TRY(cad_alloc(&e->plans, (size_t)cad_st_count(e->st), sizeof *e->plans, "a list of tensors"));
    CAD_TRY(declare_bands(e));
    for (int i = 0; i < cad_st_count(e->st); i++) {
        plan *p = &e->plans[e->count];
        *p = (plan){.from = cad_st_at(e->st, i)};
        CAD_TRY(name_tensor(e, p, name, sizeof name));
        if (!name[0]) continue;
        if (p->heads && p->from->shape[0] % (2 * p->heads)) return no_place(e, p->from);
        CAD_TRY(cad_gguf_declare(e->out, name, p->from->dims == 1 ? "F32" : e->kind, p->from->shape, p->from->dims));
        e->count++;
    }
    return CAD_OK;
}

/* Row (head, j, half) of the file is row (head, half, j) of the model. */
static int64_t model_row(const plan *p, int64_t row)
{
    int64_t each = p->from->shape[0] / p->heads, half = each / 2, r = row % each;

    return row - r + r % 2 * half + r / 2;
}

static cad_status read_rows(const plan *p, int64_t from, int64_t rows, int64_t cols, float *out)
{
    if (!p->heads) return cad_st_read_f32(p->from, from * cols, rows * cols, out);
    for (int64_t i = 0; i < rows; i++) CAD_TRY(cad_st_read_f32(p->from, model_row(p, from + i) * cols, cols, out + i * cols));
    return CAD_OK;
}

static cad_status write_tensor(export *e, const plan *p, float *room)
{
    int64_t rows = p->from->dims == 1 && !p->heads ? 1 : p->from->shape[0], cols = p->from->elems / rows, each = cad_max(1, PIECE_ELEMS / cols);

    for (int64_t at = 0; at < rows; at += each) {
        int64_t n = cad_min(each, rows - at);
        CAD_TRY(read_rows(p, at, n, cols, room));
        for (int64_t i = 0; p->plus != 0 && i < n * cols; i++) room[i] += p->plus;
        CAD_TRY(cad_gguf_write(e->out, room, n * cols));
    }
    return CAD_OK;
}

static cad_status write_all(export *e)
{
    float *room;
    int64_t widest = PIECE_ELEMS;
    cad_status status;

    for (int i = 0; i < e->count; i++) widest = cad_max(widest, e->plans[i].from->elems / (e->plans[i].from->dims == 1 ? 1 : e->plans[i].from->shape[0]));
    CAD_TRY(cad_alloc(&room, (size_t)widest, sizeof *room, "rows of a matrix"));
    status = write_bands(e);
    for (int i = 0; i < e->count && !status; i++) status = write_tensor(e, &e->plans[i], room);
    cad_free(&room);
    return status;
}

/* ---- a file ---- */

static cad_status find_arch(export *e)
{
    const cad_node *list = cad_get(e->table->root, "architectures"), *nested = cad_get(e->config->root, "text_config");
    const char *type = "";

    e->text = nested && nested->kind == CAD_TABLE ? nested : e->config->root;
    (void)cad_get_string(e->text, "model_type", &type, "");
    if (!type) type = "";
    for (const cad_node *n = list ? list->child : NULL; n && !e->arch; n = n->next)
        if (lists(cad_get(n, "model_types"), type)) e->arch = n;
    if (!e->arch) return cad_fail(CAD_EMODEL, "%s: expected a model that GGUF files are written of, found model_type \"%.40s\", which is not implemented", e->dir, type);
    (void)cad_get_string(e->arch, "name", &e->name, "");
    return CAD_OK;
}

static cad_status open_model(export *e)
{
    char *text;
    size_t n;

    CAD_TRY(cadp_foreign_table(&e->table));
    CAD_TRY(cad_arch_text(&text, &n, e->dir));
    cad_status status = cad_json_parse(&e->config, text, n, e->dir, CAD_EMODEL);
    cad_free(&text);
    CAD_TRY(status);
    CAD_TRY(cad_arch_read(&e->facts, e->dir));
    CAD_TRY(find_arch(e));
    return cad_weights_open(&e->st, e->dir);
}

static cad_status run(export *e, const char *file)
{
    CAD_TRY(open_model(e));
    CAD_TRY(cad_gguf_create(&e->out, file));
    CAD_TRY(put_general(e));
    CAD_TRY(put_sizes(e));
    CAD_TRY(put_rest(e));
    CAD_TRY(cadp_foreign_put_tokens(e->out, e->dir, e->facts.vocab, e->text));
    CAD_TRY(declare_all(e));
    CAD_TRY(write_all(e));
    return cad_gguf_finish(e->out);
}

cad_status cad_gguf_export(const char *dir, const char *file, const char *kind, bool *left_head)
{
    export e = {.dir = dir, .kind = kind};
    cad_status status = run(&e, file);

    *left_head = e.left_head;
    cad_gguf_abandon(&e.out);
    cad_st_close(&e.st);
    cad_tree_close(&e.table);
    cad_tree_close(&e.config);
    cad_free(&e.plans);
    return status;
}
