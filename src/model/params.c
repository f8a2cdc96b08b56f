#include <cadtrain/model.h>
#include <cadtrain/pattern.h>

#include <stdio.h>

/* One linear layer of a block, as the table is filled. */
typedef struct shape { cad_role role; const char *name; int64_t out, in; bool bias; } shape;

typedef struct builder { const cad_arch *arch; const cad_method *method; cad_params *p; int *hits, *saved; } builder;

static cad_status add(builder *b, int unit, cad_role role, cad_piece piece, const char *name, int64_t rows, int64_t cols, int dims, bool trains)
{
    cad_params *p = b->p;
    cad_param *row;

    if (p->count % 64 == 0) CAD_TRY(cad_grow(&p->row, (size_t)p->count + 64, sizeof *p->row, "the parameter table"));
    row = &p->row[p->count];
    *row = (cad_param){.unit = unit, .role = role, .piece = piece, .rows = rows, .cols = cols, .elems = rows * cols, .dims = dims, .trains = trains};
    CAD_TRY(cad_strdup(&row->name, name));
    row->at = trains ? p->train_elems[unit] : p->frozen_elems[unit];
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

static bool ends_with_entry(const char *name, const char *entry)
{
    size_t n = strlen(name), m = strlen(entry);

    return m <= n && !strcmp(name + n - m, entry) && (m == n || name[n - m - 1] == '.');
}

/* PEFT's rule (families 11.3): a regular expression matches the whole module path; a list entry equals it or ends it after a dot. */
static cad_status targeted(builder *b, const char *module, bool *out)
{
    const cad_method *m = b->method;

    *out = false;
    if (!m->lora) return CAD_OK;
    if (!m->target_count || (!m->target_is_regex && m->target_count == 1 && !strcmp(m->targets[0], "all-linear"))) {
        *out = true;
        return CAD_OK;
    }
    if (m->target_is_regex) {
        CAD_TRY(cad_full_match(m->targets[0], module, out));
        b->hits[0] += *out;
        return CAD_OK;
    }
    for (int i = 0; i < m->target_count; i++)
        if (ends_with_entry(module, m->targets[i])) {
            *out = true;
            b->hits[i]++;
        }
    return CAD_OK;
}

static cad_status adapted(builder *b, int unit, const shape *s, bool *out)
{
    char module[256];
    const char *weight = b->p->row[b->p->find[unit][s->role][CAD_PIECE_WEIGHT]].name;

    snprintf(module, sizeof module, "%.*s", (int)(strlen(weight) - strlen(".weight")), weight);
    CAD_TRY(targeted(b, module, out));
    *out = *out && !saved(b, weight); /* what trains in full gets no adapter */
    return CAD_OK;
}

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
    bool wanted;

    CAD_TRY(adapted(b, unit, s, &wanted));
    if (!wanted) return CAD_OK;
    CAD_TRY(add_named(b, unit, s->role, CAD_PIECE_A, b->method->r, s->in, 2, true, s->name, ".lora_A.weight"));
    return add_named(b, unit, s->role, CAD_PIECE_B, s->out, b->method->r, 2, true, s->name, ".lora_B.weight");
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

static cad_status add_block(builder *b, int unit)
{
    const cad_arch *a = b->arch;
    const cad_tensor_names *t = &a->names;
    int64_t h = a->hidden, q = a->q_heads * a->head_dim, kv = a->kv_heads * a->head_dim, i = a->intermediate;
    bool base = !b->method->lora;
    shape qkv[] = {{CAD_ROLE_Q, t->q, q, h, a->qkv_bias}, {CAD_ROLE_K, t->k, kv, h, a->qkv_bias}, {CAD_ROLE_V, t->v, kv, h, a->qkv_bias}};
    shape o = {CAD_ROLE_O, t->o, h, q, a->o_bias}, down = {CAD_ROLE_DOWN, t->down, h, i, a->mlp_bias};
    shape gu[] = {{CAD_ROLE_GATE, t->gate, i, h, a->mlp_bias}, {CAD_ROLE_UP, t->up, i, h, a->mlp_bias}};

    CAD_TRY(add_named(b, unit, CAD_ROLE_ATTN_NORM, CAD_PIECE_WEIGHT, 1, h, 1, base, t->attn_norm, ""));
    CAD_TRY(add_group(b, unit, qkv, 3));
    CAD_TRY(add_group(b, unit, &o, 1));
    CAD_TRY(add_named(b, unit, CAD_ROLE_MLP_NORM, CAD_PIECE_WEIGHT, 1, h, 1, base, t->mlp_norm, ""));
    CAD_TRY(add_group(b, unit, gu, 2));
    return add_group(b, unit, &down, 1);
}

static cad_status add_tail(builder *b)
{
    const cad_arch *a = b->arch;
    const cad_method *m = b->method;
    int unit = a->layers + 1;
    const char *head = m->custom_head ? "classifier.classifier" : "score";

    CAD_TRY(add_named(b, unit, CAD_ROLE_FINAL_NORM, CAD_PIECE_WEIGHT, 1, a->hidden, 1, !m->lora, a->names.final_norm, ""));
    CAD_TRY(add_named(b, unit, CAD_ROLE_HEAD, CAD_PIECE_WEIGHT, m->num_labels, a->hidden, 2, !m->lora || m->train_head, head, ".weight"));
    if (!m->custom_head) return CAD_OK;
    return add_named(b, unit, CAD_ROLE_HEAD, CAD_PIECE_BIAS, 1, m->num_labels, 1, !m->lora || m->train_head, head, ".bias");
}

static cad_status check_targets(const builder *b)
{
    const cad_arch *a = b->arch;
    const cad_tensor_names *t = &a->names;

    for (int i = 0; i < b->method->target_count && b->hits; i++)
        if (!b->hits[i] && strcmp(b->method->targets[i], "all-linear"))
            return cad_fail(CAD_EUSAGE, "lora.target_modules: expected names of linear layers of this model (%s, %s, %s, %s, %s, %s, %s), found \"%s\"", t->q, t->k, t->v,
                            t->o, t->gate, t->up, t->down, b->method->targets[i]);
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
    const cad_arch *a = b->arch;

    CAD_TRY(add_named(b, 0, CAD_ROLE_EMBED, CAD_PIECE_WEIGHT, a->vocab, a->hidden, 2, !b->method->lora, a->names.embed, ""));
    for (int i = 0; i < a->layers; i++) CAD_TRY(add_block(b, i + 1));
    CAD_TRY(add_tail(b));
    CAD_TRY(check_saved(b));
    return check_targets(b);
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
    if (!(status = cad_alloc(&p->train_elems, units, sizeof *p->train_elems, "the parameter table")) &&
        !(status = cad_alloc(&p->frozen_elems, units, sizeof *p->frozen_elems, "the parameter table")) &&
        !(status = cad_alloc(&p->find, units, sizeof *p->find, "the parameter table")) &&
        !(status = cad_alloc(&b.hits, (size_t)method->target_count + 1, sizeof *b.hits, "the target list")) &&
        !(status = cad_alloc(&b.saved, (size_t)method->save_count + 1, sizeof *b.saved, "modules_to_save"))) {
        memset(p->find, 0xff, units * sizeof *p->find);
        status = build(&b);
    }
    cad_free(&b.hits);
    cad_free(&b.saved);
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
    cad_free(&(*p)->find);
    cad_free(p);
}

cad_status cad_param_adapter_name(cad_str *out, const cad_param *p)
{
    int stem = (int)(strlen(p->name) - strlen(".bias"));

    if (p->wrapped) return cad_str_addf(out, "base_model.model.%.*s.base_layer.bias", stem, p->name);
    return cad_str_addf(out, "base_model.model.%s", p->name);
}
