/* What differs from layer to layer: rotation, what a query sees, experts. */
#include "arch_priv.h"

#include <math.h>

/* ---- rotation ---- */

/* The family row says which word of config.json means which kind of rotation. */
static bool rope_kind(const cad_node *family, const char *word, cad_rope_kind *out)
{
    static const char *const kinds[] = {"default", "linear", "banded"};
    const char *name;

    for (int i = 0; i < 3; i++)
        if (cad_get_string(cad_get(family, "rope_types"), kinds[i], &name, NULL) && name && !strcmp(name, word)) {
            *out = (cad_rope_kind)i;
            return true;
        }
    return false;
}

/* The words of config.json that this family knows, for the sentence that refuses another. */
static cad_status unknown_rope(const cadp_reader *r, const char *found)
{
    const cad_node *types = cad_get(r->family, "rope_types");
    cad_str words = {0};
    cad_status status = CAD_OK;

    for (const cad_node *n = types ? types->child : NULL; n && !status; n = n->next)
        if (n->kind == CAD_STRING) status = cad_str_addf(&words, "%s%s", words.size ? ", " : "", n->text);
    if (!status) status = cad_fail(CAD_EMODEL, "%s: \"rope_type\": expected one of %s, found \"%s\"", r->path, words.data ? words.data : "none", found);
    cad_str_close(&words);
    return status;
}

static cad_status read_spec(cad_rope_spec *s, const cadp_reader *r, const cad_node *from, const char *where, double theta, int64_t positions)
{
    const char *kind;

    if (!cad_get_real(from, "rope_theta", &s->theta, theta)) return cadp_bad_type(r, where, "a table with a number \"rope_theta\"");
    if (!cad_get_string(from, "rope_type", &kind, NULL) || (!kind && !cad_get_string(from, "type", &kind, "default"))) return cadp_bad_type(r, where, "a table with a word \"rope_type\"");
    if (!rope_kind(r->family, kind, &s->kind)) return unknown_rope(r, kind);
    if (!cad_get_real(from, "factor", &s->factor, 1) || !cad_get_real(from, "low_freq_factor", &s->low, 1) || !cad_get_real(from, "high_freq_factor", &s->high, 4) ||
        !cad_get_real(from, "original_max_position_embeddings", &s->original, (double)positions))
        return cadp_bad_type(r, where, "a table of numbers");
    if (!(s->theta > 0) || !(s->factor > 0)) return cad_fail(CAD_EMODEL, "%s: rope theta and factor: expected positive numbers, found %g and %g", r->path, s->theta, s->factor);
    return CAD_OK;
}

/* transformers 5: rope_parameters, one for all layers or one for each kind of layer; transformers 4: rope_theta and rope_scaling, and the base of
 * layers with a window under a key of its own, which the family's row names. */
static cad_status read_rope(cad_arch *a, const cadp_reader *r)
{
    const cad_node *v5 = cad_get(r->config, "rope_parameters"), *v4 = cad_get(r->config, "rope_scaling"), *full = cad_get(v5, "full_attention"), *local = cad_get(v5, "sliding_attention");
    const cad_node *all = full ? full : v5 && v5->kind == CAD_TABLE ? v5 : v4 && v4->kind == CAD_TABLE ? v4 : NULL;
    const char *where = v5 ? "rope_parameters" : "rope_scaling", *local_key = cadp_block_word(r, "local_theta", NULL);
    double theta, local_theta;

    if (!a->rotates) return CAD_OK;
    CAD_TRY(cadp_number(r, "rope_theta", &theta, 10000.0, true));
    CAD_TRY(read_spec(&a->rope, r, all, where, theta, a->max_positions));
    a->rope_local = a->rope;
    if (!local_key) return CAD_OK;
    CAD_TRY(cadp_number(r, local_key, &local_theta, 10000.0, true));
    return read_spec(&a->rope_local, r, local, where, local_theta, a->max_positions);
}

/* ---- lists over the layers ---- */

static cad_status short_list(const cad_arch *a, const cadp_reader *r, const char *key, const cad_node *list)
{
    return cad_fail(CAD_EMODEL, "%s:%d:%d: \"%s\": expected one entry for each of the %d layers, found %d", r->path, list->line, list->column, key, a->layers, list->children);
}

/* A list with an entry for each layer; *out stays NULL where it is absent or empty. */
static cad_status find_list(const cad_arch *a, const cadp_reader *r, const char *key, const cad_node **out)
{
    const cad_node *n = cad_get(r->config, key);

    *out = NULL;
    if (!n || n->kind == CAD_NULL || (n->kind == CAD_LIST && !n->children)) return CAD_OK;
    if (n->kind != CAD_LIST) return cadp_bad_type(r, key, "a list");
    if (n->children < a->layers) return short_list(a, r, key, n);
    *out = n->child;
    return CAD_OK;
}

/* ---- what a query sees ---- */

typedef struct mask_rule { const char *rule; int64_t window, from, period; } mask_rule;

/* Whether layer i looks back a limited way by the family's rule. */
static bool rule_limits(const mask_rule *m, const cad_arch *a, int i)
{
    if (!strcmp(m->rule, "all_layers")) return true;
    if (!strcmp(m->rule, "upper_layers")) return i >= m->from;
    if (!strcmp(m->rule, "all_but_every_nth")) return (i + 1) % m->period != 0;
    return a->rope_of[i] >= 0; /* chunks: layers that rotate */
}

static cad_status word_limits(const cadp_reader *r, const cad_node *type, bool *out)
{
    if (type->kind == CAD_STRING && (!strcmp(type->text, "sliding_attention") || !strcmp(type->text, "chunked_attention") || !strcmp(type->text, "full_attention"))) {
        *out = type->text[0] != 'f';
        return CAD_OK;
    }
    return cad_fail(CAD_EMODEL, "%s:%d:%d: \"layer_types\": expected full_attention, sliding_attention or chunked_attention, found \"%s\"", r->path, type->line, type->column, type->text ? type->text : cad_kind_name(type->kind));
}

static cad_status read_rule(mask_rule *m, const cadp_reader *r, bool *used)
{
    bool chunks = !strcmp(m->rule, "chunks");
    const char *key = chunks ? "attention_chunk_size" : "sliding_window", *period = cad_get(r->config, "sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern";
    const cad_node *given = cad_get(r->config, key);

    *used = true;
    if (!strcmp(m->rule, "upper_layers")) CAD_TRY(cadp_truth(r, "use_sliding_window", used, false));
    if (!*used || (given && given->kind == CAD_NULL)) {
        *used = false;
        return CAD_OK;
    }
    CAD_TRY(cadp_whole(r, key, &m->window, chunks ? 8192 : 4096, 1, INT32_MAX));
    if (!strcmp(m->rule, "all_but_every_nth")) CAD_TRY(cadp_whole(r, period, &m->period, 2, 1, 1 << 20));
    return strcmp(m->rule, "upper_layers") ? CAD_OK : cadp_whole(r, "max_window_layers", &m->from, 28, 0, 1 << 20);
}

static cad_status read_masks(cad_arch *a, const cadp_reader *r)
{
    mask_rule m = {.rule = cadp_block_word(r, "window", "none")};
    const cad_node *type = NULL;
    bool used, limited, chunks = !strcmp(m.rule, "chunks");

    if (!strcmp(m.rule, "none")) return CAD_OK;
    CAD_TRY(read_rule(&m, r, &used));
    if (!used) return CAD_OK;
    if (cadp_block_word(r, "layer_list", NULL)) CAD_TRY(find_list(a, r, cadp_block_word(r, "layer_list", NULL), &type));
    if (chunks) a->chunk = m.window;
    for (int i = 0; i < a->layers; i++, type = type ? type->next : NULL) {
        limited = rule_limits(&m, a, i);
        if (type) CAD_TRY(word_limits(r, type, &limited));
        if (chunks) a->chunked[i] = limited;
        else a->window[i] = limited ? (int32_t)m.window : 0;
    }
    return CAD_OK;
}

/* Layers without rotation: by a list of 1 (rotates) and 0, or every nth. */
static cad_status read_rotating(cad_arch *a, const cadp_reader *r)
{
    const char *list_key = cadp_block_word(r, "rotates", NULL);
    const cad_node *list = NULL;
    int64_t every = 0;

    if (list_key) CAD_TRY(find_list(a, r, list_key, &list));
    if (list_key) CAD_TRY(cadp_whole(r, "no_rope_layer_interval", &every, 4, 1, 1 << 20));
    for (int i = 0; i < a->layers; i++, list = list ? list->next : NULL) {
        bool turns = a->rotates && (!list_key || (i + 1) % every != 0);
        if (list && list->kind != CAD_INT && list->kind != CAD_BOOL) return cadp_bad_type(r, list_key, "a list of 0 and 1");
        if (list) turns = list->kind == CAD_BOOL ? list->boolean : list->integer != 0;
        a->rope_of[i] = turns ? 0 : -1;
    }
    return CAD_OK;
}

/* Layers with a window take the local base where the family has one. */
static void place_local_bases(cad_arch *a, const cadp_reader *r)
{
    bool two = cadp_block_word(r, "local_theta", NULL) != NULL;

    for (int i = 0; i < a->layers; i++)
        if (two && a->rope_of[i] >= 0 && a->window[i]) a->rope_of[i] = 1;
}

/* Queries of layers without rotation grow with their position: 1 + scale ln(1 + floor((p + 1) / floor_scale)). Older files say 4 for true. */
static cad_status read_temperature(cad_arch *a, const cadp_reader *r)
{
    const char *key = cadp_block_word(r, "temperature", NULL);
    const cad_node *n = key ? cad_get(r->config, key) : NULL;
    bool on = true;

    if (!key) return CAD_OK;
    if (n && n->kind == CAD_INT) on = n->integer != 0;
    else CAD_TRY(cadp_truth(r, key, &on, true));
    if (!on) return CAD_OK;
    CAD_TRY(cadp_number(r, "attn_scale", &a->temperature, 0.1, true));
    CAD_TRY(cadp_number(r, "floor_scale", &a->temperature_floor, 8192, true));
    if (a->temperature_floor > 0) return CAD_OK;
    return cad_fail(CAD_EMODEL, "%s: \"floor_scale\": expected a positive number, found %g", r->path, a->temperature_floor);
}

/* ---- experts ---- */

static cad_status mark_listed(cad_arch *a, const cadp_reader *r, const cad_node *list)
{
    for (const cad_node *n = list->child; n; n = n->next) {
        if (n->kind != CAD_INT || n->integer < 0 || n->integer >= a->layers)
            return cad_fail(CAD_EMODEL, "%s:%d:%d: \"moe_layers\": expected layers from 0 to %d, found something else", r->path, n->line, n->column, a->layers - 1);
        a->routed[n->integer] = true;
    }
    return CAD_OK;
}

static cad_status read_experts(cad_arch *a, const cadp_reader *r)
{
    const cad_node *list = cad_get(r->config, "moe_layers");
    int64_t step;

    if (!*a->names.router) return CAD_OK;
    CAD_TRY(cadp_whole(r, "num_local_experts", &a->experts, NAN, 1, 1 << 12));
    CAD_TRY(cadp_whole(r, "num_experts_per_tok", &a->chosen, 1, 1, a->experts));
    CAD_TRY(cadp_whole(r, "intermediate_size_mlp", &a->dense_intermediate, (double)a->intermediate, 1, 1 << 22));
    CAD_TRY(cadp_whole(r, "interleave_moe_layer_step", &step, 1, 1, 1 << 20));
    if (list && list->kind == CAD_LIST) return mark_listed(a, r, list);
    for (int64_t i = step - 1; i < a->layers; i += step) a->routed[i] = true;
    return CAD_OK;
}

cad_status cadp_read_layers(cad_arch *a, const cadp_reader *r)
{
    CAD_TRY(read_rope(a, r));
    CAD_TRY(read_rotating(a, r));
    CAD_TRY(read_masks(a, r));
    place_local_bases(a, r);
    CAD_TRY(read_temperature(a, r));
    return read_experts(a, r);
}

void cad_rope_frequencies(const cad_rope_spec *s, int64_t head_dim, float *out)
{
    float low_wave = (float)(s->original / s->low), high_wave = (float)(s->original / s->high);

    for (int64_t j = 0; j < head_dim / 2; j++) {
        float f = 1.0f / powf((float)s->theta, (float)(2 * j) / (float)head_dim);

        if (s->kind == CAD_ROPE_LINEAR) f /= (float)s->factor;
        if (s->kind == CAD_ROPE_BANDED) {
            float wave = 6.283185307179586f / f;
            if (wave > low_wave) f /= (float)s->factor;
            else if (wave >= high_wave && s->high != s->low) {
                float t = ((float)s->original / wave - (float)s->low) / ((float)s->high - (float)s->low);
                f = (1 - t) * f / (float)s->factor + t * f;
            }
        }
        out[j] = f;
    }
}
