#include "model_priv.h"

#include <cadtrain/pattern.h>

#include <math.h>
#include <stdio.h>

/* One linear layer of a block, as the table is filled. */
typedef struct shape { cad_role role; const char *name; int64_t out, in; bool bias; } shape;

typedef struct builder { const cad_arch *arch; const cad_method *method; cad_params *p; int *hits, *saved, *named; } builder;

static cad_status add(builder *b, int unit, cad_role role, cad_piece piece, const char *name, int64_t rows, int64_t cols, int dims, bool trains)
{
    cad_params *p = b->p;
    cad_param *row;
    size_t root = strlen(b->arch->names.root);

    if (p->count % 64 == 0) CAD_TRY(cad_grow(&p->row, (size_t)p->count + 64, sizeof *p->row, "the parameter table"));
    row = &p->row[p->count];
    *row = (cad_param){.unit = unit, .role = role, .piece = piece, .rows = rows, .cols = cols, .elems = rows * cols, .groups = 1, .dims = dims, .trains = trains};
    CAD_TRY(cad_strdup(&row->name, name));
    if (!strncmp(name, b->arch->names.root, root) && name[root] == '.') row->root = (int)root + 1;
    if (row->root && *p->outer_root) row->outer = p->outer_root;
    if (role == CAD_ROLE_LM_HEAD && *p->outer_head) row->outer = p->outer_head;
    cadp_choose_storage(row, b->method);
    trains = row->trains;
    row->at = trains ? p->train_elems[unit] : cadp_place_frozen(row, b->method, &p->frozen_bytes[unit]);
    *(trains ? &p->train_elems[unit] : &p->frozen_elems[unit]) += row->elems;
    p->all += row->elems;
    p->trainable += trains ? row->elems : 0;
    p->find[unit][role][piece] = p->count++;
    return CAD_OK;
}

/* Whether the module of this tensor ("….weight", "….bias") is one of modules_to_save: PEFT compares the end of its name. */
static bool saved(const builder *b, const char *name)
{
    const cad_method *m = b->method;
    const char *dot = strrchr(name, '.');
    size_t n = dot ? (size_t)(dot - name) : 0;
    bool found = false;

    for (int i = 0; m->lora && i < m->save_count; i++) {
        size_t k = strlen(m->saves[i]);
        if (k > n || memcmp(name + n - k, m->saves[i], k)) continue;
        b->saved[i]++;
        found = true;
    }
    return found;
}

static cad_status add_named(builder *b, int unit, cad_role role, cad_piece piece, int64_t rows, int64_t cols, int dims, bool trains, const char *stem, const char *end)
{
    char prefix[96] = "", name[256];

    if (unit >= 1 && unit <= b->arch->layers) {
        const char *at = strstr(b->arch->names.block_prefix, "%d");
        if (!at) return cad_fail(CAD_EINTERNAL, "family row: block_prefix has no %%d");
        snprintf(prefix, sizeof prefix, "%.*s%d%s", (int)(at - b->arch->names.block_prefix), b->arch->names.block_prefix, unit - 1, at + 2);
    }
    snprintf(name, sizeof name, "%s%s%s", prefix, stem, end);
    return add(b, unit, role, piece, name, rows, cols, dims, trains || (piece <= CAD_PIECE_BIAS && role != CAD_ROLE_HEAD && saved(b, name)));
}

/* ---- which modules have an adapter (PEFT's rules, families 11.3) ---- */

static bool ends_with_entry(const char *name, const char *entry)
{
    size_t n = strlen(name), m = strlen(entry);

    return m <= n && !strcmp(name + n - m, entry) && (m == n || name[n - m - 1] == '.');
}

static bool takes_all(const cad_method *m) { return (!m->target_count && !m->parameters_only) || (!m->target_is_regex && m->target_count == 1 && !strcmp(m->targets[0], "all-linear")); }

/* The module as the class of a nested directory calls it; others have one name. */
static const char *outer_name(const builder *b, const char *module, char out[320])
{
    size_t root = strlen(b->arch->names.root);

    if (!*b->p->outer_root || strncmp(module, b->arch->names.root, root) || module[root] != '.') return module;
    snprintf(out, 320, "%s%s", b->p->outer_root, module + root + 1);
    return out;
}

/* By either name. */
static cad_status full_match(const builder *b, const char *pattern, const char *module, bool *out)
{
    char room[320];
    const char *outer = outer_name(b, module, room);

    CAD_TRY(cad_full_match(pattern, module, out));
    return *out || outer == module ? CAD_OK : cad_full_match(pattern, outer, out);
}

static bool is_entry(const builder *b, const char *module, const char *entry)
{
    char room[320];

    return ends_with_entry(module, entry) || ends_with_entry(outer_name(b, module, room), entry);
}

static cad_status excluded(const builder *b, const char *module, bool *out)
{
    const cad_method *m = b->method;

    *out = false;
    if (m->exclude_is_regex) return full_match(b, m->excluded[0], module, out);
    for (int i = 0; i < m->exclude_count; i++) *out |= is_entry(b, module, m->excluded[i]);
    return CAD_OK;
}

/* The word before the layer's number is one of layers_pattern, where there are any. */
static bool has_pattern(const builder *b)
{
    const cad_method *m = b->method;
    const char *prefix = b->arch->names.block_prefix, *number = strstr(prefix, ".%d");
    size_t n = number ? (size_t)(number - prefix) : 0;

    for (int i = 0; i < m->layers_pattern_count; i++) {
        size_t k = strlen(m->layers_pattern[i]);
        if (k <= n && !memcmp(prefix + n - k, m->layers_pattern[i], k) && (k == n || prefix[n - k - 1] == '.')) return true;
    }
    return !m->layers_pattern_count;
}

static bool among_layers(const builder *b, int unit)
{
    const cad_method *m = b->method;

    if (!m->only_count) return true;
    if (unit < 1 || unit > b->arch->layers || !has_pattern(b)) return false;
    for (int i = 0; i < m->only_count; i++)
        if (m->only_layers[i] == unit - 1) return true;
    return false;
}

/* A regular expression matches the whole module path; a list entry equals it or ends it after a dot, and only the latter asks for the layer. */
static cad_status targeted(builder *b, int unit, const char *module, bool linear, bool *out)
{
    const cad_method *m = b->method;
    char room[320];
    bool out_of_reach;

    *out = false;
    if (!m->lora) return CAD_OK;
    CAD_TRY(excluded(b, module, &out_of_reach));
    if (out_of_reach) return CAD_OK;
    if (takes_all(m)) {
        *out = linear;
        return CAD_OK;
    }
    if (m->target_is_regex) {
        CAD_TRY(full_match(b, m->targets[0], module, out));
        b->hits[0] += *out;
        return CAD_OK;
    }
    for (int i = 0; i < m->target_count; i++)
        if (is_entry(b, module, m->targets[i])) {
            *out |= !strcmp(module, m->targets[i]) || !strcmp(outer_name(b, module, room), m->targets[i]) || among_layers(b, unit);
            b->hits[i]++;
        }
    return CAD_OK;
}

static void module_name(const builder *b, int unit, cad_role role, char out[256])
{
    const char *weight = b->p->row[b->p->find[unit][role][CAD_PIECE_WEIGHT]].name;

    snprintf(out, 256, "%.*s", (int)(strlen(weight) - strlen(".weight")), weight);
}

static cad_status adapted(builder *b, int unit, const shape *s, bool *out)
{
    char module[256];

    module_name(b, unit, s->role, module);
    CAD_TRY(targeted(b, unit, module, true, out));
    *out = *out && !saved(b, b->p->row[b->p->find[unit][s->role][CAD_PIECE_WEIGHT]].name); /* what trains in full gets no adapter */
    return CAD_OK;
}

/* The first pattern that the name ends with decides: re.match("(.*\.)?(PATTERN)$", module). */
static cad_status number_for(const builder *b, const cad_module_number *list, int n, const char *module, double otherwise, double *out)
{
    cad_str whole = {0};
    cad_status status = CAD_OK;
    bool matches = false;

    *out = otherwise;
    for (int i = 0; i < n && !status && !matches; i++) {
        whole.size = 0;
        if (!(status = cad_str_addf(&whole, "(.*\\.)?(%s)", list[i].pattern))) status = full_match(b, whole.data, module, &matches);
        if (matches) *out = list[i].value;
    }
    cad_str_close(&whole);
    return status;
}

static cad_status rank_of(const builder *b, const char *module, int64_t *r, double *scale)
{
    const cad_method *m = b->method;
    double rank, alpha;

    CAD_TRY(number_for(b, m->ranks, m->rank_count, module, (double)m->r, &rank));
    CAD_TRY(number_for(b, m->alphas, m->alpha_count, module, m->alpha, &alpha));
    *r = (int64_t)rank;
    *scale = alpha / (m->rslora ? sqrt(rank) : rank);
    return CAD_OK;
}

/* ---- linear layers ---- */

static cad_status add_bias(builder *b, int unit, const shape *s)
{
    const cad_method *m = b->method;
    bool wrapped;

    if (!s->bias) return CAD_OK;
    CAD_TRY(adapted(b, unit, s, &wrapped));
    CAD_TRY(add_named(b, unit, s->role, CAD_PIECE_BIAS, 1, s->out, 1, !m->lora || (m->train_bias && (wrapped || !m->adapted_bias_only)), s->name, ".bias"));
    b->p->row[b->p->count - 1].wrapped = wrapped;
    return CAD_OK;
}

static cad_status add_adapter(builder *b, int unit, const shape *s)
{
    char module[256];
    double scale;
    int64_t r;
    bool wanted;

    CAD_TRY(adapted(b, unit, s, &wanted));
    if (!wanted) return CAD_OK;
    module_name(b, unit, s->role, module);
    CAD_TRY(rank_of(b, module, &r, &scale));
    CAD_TRY(add_named(b, unit, s->role, CAD_PIECE_A, r, s->in, 2, true, s->name, ".lora_A.weight"));
    b->p->row[b->p->count - 1].scale = scale;
    CAD_TRY(add_named(b, unit, s->role, CAD_PIECE_B, s->out, r, 2, true, s->name, ".lora_B.weight"));
    return b->method->dora ? add_named(b, unit, s->role, CAD_PIECE_MAGNITUDE, 1, s->out, 1, true, s->name, ".lora_magnitude_vector") : CAD_OK;
}

/* Weights of one group lie next to each other, so that a group is one product; then their biases. */
static cad_status add_group(builder *b, int unit, const shape *s, int n)
{
    bool base = !b->method->lora;

    for (int i = 0; i < n; i++) CAD_TRY(add_named(b, unit, s[i].role, CAD_PIECE_WEIGHT, s[i].out, s[i].in, 2, base, s[i].name, ".weight"));
    for (int i = 0; i < n; i++) CAD_TRY(add_bias(b, unit, &s[i]));
    for (int i = 0; i < n; i++) CAD_TRY(add_adapter(b, unit, &s[i]));
    return CAD_OK;
}

/* ---- the units ---- */

/* Its weight, and where rows are centred its bias, which PEFT's "bias: all" trains too. */
static cad_status add_norm(builder *b, int unit, cad_role role, const char *name, int64_t n)
{
    const cad_method *m = b->method;
    char stem[64];

    if (!*name) return CAD_OK;
    CAD_TRY(add_named(b, unit, role, CAD_PIECE_WEIGHT, 1, n, 1, !m->lora, name, ""));
    if (!b->arch->centred) return CAD_OK;
    snprintf(stem, sizeof stem, "%.*s", (int)(strlen(name) - strlen(".weight")), name);
    return add_named(b, unit, role, CAD_PIECE_BIAS, 1, n, 1, !m->lora || (m->train_bias && !m->adapted_bias_only), stem, ".bias");
}

static cad_status add_table(builder *b, cad_role role, const char *name, int64_t rows)
{
    return *name ? add_named(b, 0, role, CAD_PIECE_WEIGHT, rows, b->arch->hidden, 2, !b->method->lora, name, "") : CAD_OK;
}

/* An adapter on the table of words: A has a column for each word (PEFT's lora_embedding_A, lora_embedding_B). */
static cad_status add_embedding_adapter(builder *b)
{
    const cad_arch *a = b->arch;
    char module[256], stem[64];
    double scale;
    int64_t r;
    bool wanted;

    module_name(b, 0, CAD_ROLE_EMBED, module);
    CAD_TRY(targeted(b, 0, module, false, &wanted));
    if (!wanted) return CAD_OK;
    if (b->method->dora) return cad_fail(CAD_EUSAGE, "lora.target_modules: expected linear layers with use_dora, found %s", module);
    CAD_TRY(rank_of(b, module, &r, &scale));
    snprintf(stem, sizeof stem, "%.*s", (int)(strlen(a->names.embed) - strlen(".weight")), a->names.embed);
    CAD_TRY(add_named(b, 0, CAD_ROLE_EMBED, CAD_PIECE_A, r, a->vocab, 2, true, stem, ".lora_embedding_A"));
    b->p->row[b->p->count - 1].scale = scale;
    return add_named(b, 0, CAD_ROLE_EMBED, CAD_PIECE_B, a->hidden, r, 2, true, stem, ".lora_embedding_B");
}

static cad_status add_embeddings(builder *b)
{
    const cad_arch *a = b->arch;
    const cad_tensor_names *t = &a->names;

    CAD_TRY(add_table(b, CAD_ROLE_EMBED, t->embed, a->vocab));
    CAD_TRY(add_table(b, CAD_ROLE_EMBED_POSITION, t->embed_position, a->max_positions));
    CAD_TRY(add_table(b, CAD_ROLE_EMBED_TYPE, t->embed_type, a->types));
    CAD_TRY(add_norm(b, 0, CAD_ROLE_EMBED_NORM, t->embed_norm, a->hidden));
    return add_embedding_adapter(b);
}

static cad_status add_attention(builder *b, int unit)
{
    const cad_arch *a = b->arch;
    const cad_tensor_names *t = &a->names;
    int64_t h = a->hidden, q = a->q_heads * a->head_dim, kv = a->kv_heads * a->head_dim;
    shape qkv[] = {{CAD_ROLE_Q, t->q, q, h, a->qkv_bias}, {CAD_ROLE_K, t->k, kv, h, a->qkv_bias}, {CAD_ROLE_V, t->v, kv, h, a->qkv_bias}};
    shape o = {CAD_ROLE_O, t->o, h, q, a->o_bias};

    CAD_TRY(add_group(b, unit, qkv, 3));
    CAD_TRY(add_group(b, unit, &o, 1));
    CAD_TRY(add_norm(b, unit, CAD_ROLE_Q_NORM, t->q_norm, a->head_dim));
    return add_norm(b, unit, CAD_ROLE_K_NORM, t->k_norm, a->head_dim);
}

/* A name among target_parameters, or the end of one after a dot: PEFT looks at neither layers_to_transform nor exclude_modules here. */
static bool parameter_wanted(builder *b, int unit, cad_role role)
{
    const cad_method *m = b->method;
    const char *name = b->p->row[b->p->find[unit][role][CAD_PIECE_WEIGHT]].name;
    bool found = false;

    for (int i = 0; m->lora && i < m->parameter_count; i++) {
        if (!is_entry(b, name, m->parameters[i])) continue;
        b->named[i]++;
        found = true;
    }
    return found;
}

/* One below the other too, A [E, r, out] and B [E, in, r]: W_e + s B_e A_e. PEFT wraps the module once for each of its tensors, so that the first of two
 * is called base_layer. */
static cad_status add_experts_adapter(builder *b, int unit, cad_role role, const char *inner)
{
    const cad_param w = b->p->row[b->p->find[unit][role][CAD_PIECE_WEIGHT]];
    const char *stem = role == CAD_ROLE_EXPERT_DOWN ? b->arch->names.expert_down : b->arch->names.expert_gate_up, *dot = strrchr(stem, '.');
    char module[128], end[64];
    double scale;
    int64_t r;

    if (b->method->dora) return cad_fail(CAD_EUSAGE, "lora.use_dora: expected false beside target_parameters, as in PEFT, found true");
    snprintf(module, sizeof module, "%.*s", (int)(dot ? dot - stem : 0), stem);
    CAD_TRY(rank_of(b, w.name, &r, &scale));
    snprintf(end, sizeof end, "%s.lora_A.weight", inner);
    CAD_TRY(add_named(b, unit, role, CAD_PIECE_A, w.groups * r, w.cols, 3, true, module, end));
    b->p->row[b->p->count - 1].scale = scale;
    b->p->row[b->p->count - 1].groups = w.groups;
    snprintf(end, sizeof end, "%s.lora_B.weight", inner);
    CAD_TRY(add_named(b, unit, role, CAD_PIECE_B, w.rows, r, 3, true, module, end));
    b->p->row[b->p->count - 1].groups = w.groups;
    return CAD_OK;
}

static cad_status add_experts_adapters(builder *b, int unit)
{
    bool up = parameter_wanted(b, unit, CAD_ROLE_EXPERT_GATE_UP), down = parameter_wanted(b, unit, CAD_ROLE_EXPERT_DOWN);

    if (up) CAD_TRY(add_experts_adapter(b, unit, CAD_ROLE_EXPERT_GATE_UP, down ? ".base_layer" : ""));
    return down ? add_experts_adapter(b, unit, CAD_ROLE_EXPERT_DOWN, "") : CAD_OK;
}

/* Matrices of all experts one below the other, [E, in, out]. */
static cad_status add_experts(builder *b, int unit)
{
    const cad_arch *a = b->arch;
    bool base = !b->method->lora;

    CAD_TRY(add_named(b, unit, CAD_ROLE_ROUTER, CAD_PIECE_WEIGHT, a->experts, a->hidden, 2, base, a->names.router, ".weight"));
    CAD_TRY(add_named(b, unit, CAD_ROLE_EXPERT_GATE_UP, CAD_PIECE_WEIGHT, a->experts * a->hidden, 2 * a->intermediate, 3, base, a->names.expert_gate_up, ""));
    b->p->row[b->p->count - 1].groups = a->experts;
    CAD_TRY(add_named(b, unit, CAD_ROLE_EXPERT_DOWN, CAD_PIECE_WEIGHT, a->experts * a->intermediate, a->hidden, 3, base, a->names.expert_down, ""));
    b->p->row[b->p->count - 1].groups = a->experts;
    return add_experts_adapters(b, unit);
}

static cad_status add_mlp(builder *b, int unit)
{
    const cad_arch *a = b->arch;
    const cad_tensor_names *t = &a->names;
    bool routed = a->routed[unit - 1];
    int64_t h = a->hidden, i = routed ? a->intermediate : a->dense_intermediate;
    shape gu[] = {{CAD_ROLE_GATE, routed ? t->shared_gate : t->gate, i, h, a->mlp_bias}, {CAD_ROLE_UP, routed ? t->shared_up : t->up, i, h, a->mlp_bias}};
    shape down = {CAD_ROLE_DOWN, routed ? t->shared_down : t->down, h, i, a->mlp_bias};

    CAD_TRY(a->gated ? add_group(b, unit, gu, 2) : add_group(b, unit, gu + 1, 1));
    CAD_TRY(add_group(b, unit, &down, 1));
    return routed ? add_experts(b, unit) : CAD_OK;
}

static cad_status add_block(builder *b, int unit)
{
    const cad_arch *a = b->arch;
    const cad_tensor_names *t = &a->names;

    CAD_TRY(add_norm(b, unit, CAD_ROLE_ATTN_NORM, t->attn_norm, a->hidden));
    CAD_TRY(add_attention(b, unit));
    CAD_TRY(add_norm(b, unit, CAD_ROLE_ATTN_OUT_NORM, t->attn_out_norm, a->hidden));
    CAD_TRY(add_norm(b, unit, CAD_ROLE_MLP_NORM, t->mlp_norm, a->hidden));
    CAD_TRY(add_mlp(b, unit));
    return add_norm(b, unit, CAD_ROLE_MLP_OUT_NORM, t->mlp_out_norm, a->hidden);
}

/* A head of one's own looks past the pooler, which stays in the files as it was. */
static cad_status add_pooler(builder *b, int unit)
{
    const cad_arch *a = b->arch;
    const cad_method *m = b->method;
    shape pooler = {CAD_ROLE_POOLER, a->names.pooler, a->hidden, a->hidden, true};
    int from = b->p->count;

    if (!*a->names.pooler) return CAD_OK;
    if (!m->custom_head) return add_group(b, unit, &pooler, 1);
    CAD_TRY(add_named(b, unit, CAD_ROLE_POOLER, CAD_PIECE_WEIGHT, a->hidden, a->hidden, 2, !m->lora, a->names.pooler, ".weight"));
    CAD_TRY(add_named(b, unit, CAD_ROLE_POOLER, CAD_PIECE_BIAS, 1, a->hidden, 1, !m->lora, a->names.pooler, ".bias"));
    for (int i = from; i < b->p->count; i++) b->p->row[i].idle = true;
    return CAD_OK;
}

static cad_status add_tail(builder *b)
{
    const cad_arch *a = b->arch;
    const cad_method *m = b->method;
    int unit = a->layers + 1;
    const char *head = m->custom_head ? "classifier.classifier" : a->names.head;

    CAD_TRY(add_norm(b, unit, CAD_ROLE_FINAL_NORM, a->names.final_norm, a->hidden));
    if (m->causal && !*a->names.lm_head) return cad_fail(CAD_EMODEL, "expected a model that predicts the next token, found an encoder (%s)", a->family);
    if (m->causal) return a->tied ? CAD_OK : add_named(b, unit, CAD_ROLE_LM_HEAD, CAD_PIECE_WEIGHT, a->vocab, a->hidden, 2, !m->lora, a->names.lm_head, "");
    CAD_TRY(add_pooler(b, unit));
    CAD_TRY(add_named(b, unit, CAD_ROLE_HEAD, CAD_PIECE_WEIGHT, m->num_labels, a->hidden, 2, !m->lora || m->train_head, head, ".weight"));
    if (m->custom_head || a->head_bias) CAD_TRY(add_named(b, unit, CAD_ROLE_HEAD, CAD_PIECE_BIAS, 1, m->num_labels, 1, !m->lora || m->train_head, head, ".bias"));
    return m->columns ? add_named(b, unit, CAD_ROLE_COLUMNS, CAD_PIECE_WEIGHT, m->num_labels, m->columns, 2, true, "head_columns", ".weight") : CAD_OK;
}

static cad_status unknown_target(const cad_arch *a, const char *found)
{
    const cad_tensor_names *t = &a->names;
    const char *all[] = {t->q, t->k, t->v, t->o, t->gate, t->up, t->down, t->shared_gate, t->shared_up, t->shared_down, t->pooler};
    cad_str known = {0};
    cad_status status = CAD_OK;

    for (size_t i = 0; i < sizeof all / sizeof *all && !status; i++)
        if (*all[i]) status = cad_str_addf(&known, "%s%s", known.size ? ", " : "", all[i]);
    if (!status) status = cad_fail(CAD_EUSAGE, "lora.target_modules: expected names of linear layers of this model (%s), found \"%s\"", known.data, found);
    cad_str_close(&known);
    return status;
}

static cad_status check_parameters(const builder *b)
{
    const cad_tensor_names *t = &b->arch->names;

    for (int i = 0; b->method->lora && i < b->method->parameter_count; i++) {
        if (b->named[i]) continue;
        if (!b->arch->experts) return cad_fail(CAD_EUSAGE, "lora.target_parameters: expected none, as this model has no routed experts, found \"%.60s\"", b->method->parameters[i]);
        return cad_fail(CAD_EUSAGE, "lora.target_parameters: expected tensors of routed experts of this model (%s, %s), found \"%.60s\"", t->expert_gate_up, t->expert_down, b->method->parameters[i]);
    }
    return CAD_OK;
}

static cad_status check_targets(const builder *b)
{
    const cad_method *m = b->method;

    if (m->lora && m->only_count && (m->target_is_regex || takes_all(m)))
        return cad_fail(CAD_EUSAGE, "lora.layers_to_transform: expected target_modules to be a list of names beside it, found %s", m->target_is_regex ? "a regular expression" : "all-linear");
    for (int i = 0; i < m->target_count && b->hits; i++)
        if (!b->hits[i] && strcmp(m->targets[i], "all-linear")) return unknown_target(b->arch, m->targets[i]);
    return CAD_OK;
}

/* "score" and "classifier" are what people list for any classifier: one of them names this model's head or none does. */
static cad_status check_saved(const builder *b)
{
    for (int i = 0; b->method->lora && i < b->method->save_count; i++) {
        const char *name = b->method->saves[i];
        if (b->saved[i] || !strcmp(name, "score") || !strcmp(name, "classifier")) continue;
        return cad_fail(CAD_EUSAGE, "lora.modules_to_save: expected modules of this model (embed_tokens, norm, score, q_proj and the like), found \"%.60s\"", name);
    }
    return CAD_OK;
}

static cad_status build(builder *b)
{
    CAD_TRY(add_embeddings(b));
    for (int i = 0; i < b->arch->layers; i++) CAD_TRY(add_block(b, i + 1));
    CAD_TRY(add_tail(b));
    CAD_TRY(check_saved(b));
    CAD_TRY(check_parameters(b));
    return check_targets(b);
}

/* "model.language_model." stands for "model."; where the language model is whole inside, "language_model.model.", its head is inside too. */
static void name_outer(cad_params *p, const cad_arch *a)
{
    size_t n = strlen(a->names.nested_root), root = strlen(a->names.root);

    if (!n) return;
    snprintf(p->outer_root, sizeof p->outer_root, "%s.", a->names.nested_root);
    if (n > root && !strcmp(a->names.nested_root + n - root, a->names.root)) snprintf(p->outer_head, sizeof p->outer_head, "%.*s", (int)(n - root), a->names.nested_root);
}

cad_status cad_params_open(cad_params **out, const cad_arch *arch, const cad_method *method)
{
    builder b = {.arch = arch, .method = method};
    cad_params *p;
    cad_status status;
    size_t units = (size_t)arch->layers + 2;

    CAD_TRY(cad_alloc(out, 1, sizeof **out, "the parameter table"));
    p = b.p = *out;
    p->units = (int)units;
    p->gain_plus_one = arch->gain_plus_one;
    p->names = arch->names;
    if (arch->nested) name_outer(p, arch);
    p->stored = arch->code;
    p->stored_nested = arch->code_nested;
    p->compute = method->compute;
    if (!(status = cad_alloc(&p->train_elems, units, sizeof *p->train_elems, "the parameter table")) &&
        !(status = cad_alloc(&p->frozen_elems, units, sizeof *p->frozen_elems, "the parameter table")) &&
        !(status = cad_alloc(&p->frozen_bytes, units, sizeof *p->frozen_bytes, "the parameter table")) &&
        !(status = cad_alloc(&p->find, units, sizeof *p->find, "the parameter table")) &&
        !(status = cad_alloc(&b.hits, (size_t)method->target_count + 1, sizeof *b.hits, "the target list")) &&
        !(status = cad_alloc(&b.saved, (size_t)method->save_count + 1, sizeof *b.saved, "modules_to_save")) &&
        !(status = cad_alloc(&b.named, (size_t)method->parameter_count + 1, sizeof *b.named, "target_parameters"))) {
        memset(p->find, 0xff, units * sizeof *p->find);
        status = build(&b);
    }
    cad_free(&b.hits);
    cad_free(&b.saved);
    cad_free(&b.named);
    if (status) cad_params_close(out);
    return status;
}

void cad_params_close(cad_params **p)
{
    if (!*p) return;
    for (int i = 0; i < (*p)->count; i++) cad_free(&(*p)->row[i].name);
    cad_free(&(*p)->row);
    cad_free(&(*p)->train_elems);
    cad_free(&(*p)->frozen_elems);
    cad_free(&(*p)->frozen_bytes);
    cad_free(&(*p)->find);
    cad_free(p);
}

int cad_param_shape(const cad_param *p, int64_t out[3])
{
    int n = 0;

    if (p->dims == 3) out[n++] = p->groups;
    if (p->dims >= 2) out[n++] = p->rows / p->groups;
    out[n++] = p->cols;
    return n;
}

int cad_param_file_shape(const cad_param *p, int64_t out[3])
{
    if (p->piece < CAD_PIECE_A || p->dims != 3) return cad_param_shape(p, out);
    out[0] = cad_param_is_spread(p) ? p->rows / p->groups : p->rows;
    out[1] = cad_param_is_spread(p) ? p->cols * p->groups : p->cols;
    return 2;
}

int64_t cad_param_file_at(const cad_param *p, int64_t i)
{
    int64_t in = p->rows / p->groups, row = i / p->cols;

    return cad_param_is_spread(p) ? (row % in * p->cols + i % p->cols) * p->groups + row / in : i;
}

cad_status cad_param_adapter_name(cad_str *out, const cad_param *p)
{
    const char *outer = p->outer ? p->outer : "", *inner = p->outer ? p->name + p->root : p->name;
    int stem = (int)(strlen(inner) - strlen(".bias"));

    if (p->wrapped) return cad_str_addf(out, "base_model.model.%s%.*s.base_layer.bias", outer, stem, inner);
    return cad_str_addf(out, "base_model.model.%s%s", outer, inner);
}
