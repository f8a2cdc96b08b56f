/* The row of facts that a directory resolved to, for people. */
#include <cadtrain/model.h>

#include <stdio.h>

static cad_status put_if(cad_json *j, const char *key, double x) { return x > 0 ? cad_json_real(j, key, x) : CAD_OK; }

static cad_status put_rotation(cad_json *j, const char *key, const cad_rope_spec *s)
{
    static const char *const kinds[] = {"default", "linear", "banded"};
    char text[128];
    int n = snprintf(text, sizeof text, "base %.17g", s->theta);

    if (s->kind != CAD_ROPE_DEFAULT) n += snprintf(text + n, sizeof text - (size_t)n, ", %s, factor %.17g", kinds[s->kind], s->factor);
    if (s->kind == CAD_ROPE_BANDED) snprintf(text + n, sizeof text - (size_t)n, ", bands %.17g to %.17g of %.17g", s->low, s->high, s->original);
    return cad_json_string(j, key, text);
}

/* What layer i sees, how it turns, what its MLP is. */
static void describe_layer(const cad_arch *a, int i, char out[96])
{
    const char *turns = !a->rotates ? "" : a->rope_of[i] < 0 ? ", no rotation" : a->rope_of[i] ? ", local rotation" : "";
    const char *mlp = a->routed[i] ? ", experts" : "";

    if (a->chunked[i]) snprintf(out, 96, "chunks of %lld%s%s", (long long)a->chunk, turns, mlp);
    else if (a->window[i]) snprintf(out, 96, "window %d%s%s", a->window[i], turns, mlp);
    else snprintf(out, 96, "all%s%s%s", a->causal ? " before" : "", turns, mlp);
}

/* Layers of one kind that follow each other are one line. */
static cad_status put_layers(cad_json *j, const cad_arch *a)
{
    char kind[96], next[96], line[160];

    CAD_TRY(cad_json_begin(j, "attends_to", '['));
    for (int from = 0, to; from < a->layers; from = to) {
        describe_layer(a, from, kind);
        for (to = from + 1; to < a->layers; to++) {
            describe_layer(a, to, next);
            if (strcmp(kind, next)) break;
        }
        if (to == from + 1) snprintf(line, sizeof line, "layer %d: %s", from, kind);
        else snprintf(line, sizeof line, "layers %d-%d: %s", from, to - 1, kind);
        CAD_TRY(cad_json_string(j, NULL, line));
    }
    return cad_json_end(j);
}

static cad_status put_sizes(cad_json *j, const cad_arch *a)
{
    const struct { const char *key; int64_t n; } sizes[] = {
        {"hidden", a->hidden}, {"layers", a->layers}, {"heads", a->q_heads}, {"key_value_heads", a->kv_heads}, {"head_width", a->head_dim}, {"mlp", a->intermediate},
        {"dense_mlp", a->dense_intermediate == a->intermediate ? 0 : a->dense_intermediate}, {"vocabulary", a->vocab}, {"positions", a->max_positions}, {"experts", a->experts}, {"experts_per_token", a->chosen}};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i].n) CAD_TRY(cad_json_int(j, sizes[i].key, sizes[i].n));
    return CAD_OK;
}

static cad_status put_block(cad_json *j, const cad_arch *a)
{
    static const char *const places[] = {"before each half", "before and behind each half", "behind each sum"}, *const heads[] = {"none", "before rotation", "after rotation, without gain"};
    static const char *const acts[] = {"silu", "gelu tanh", "gelu", "tanh"};

    CAD_TRY(cad_json_string(j, "norm", a->centred ? "LayerNorm" : a->gain_plus_one ? "RMSNorm, gain 1 + w" : "RMSNorm"));
    CAD_TRY(cad_json_string(j, "norms_stand", places[a->norm_place]));
    CAD_TRY(cad_json_real(j, "epsilon", a->eps));
    CAD_TRY(cad_json_string(j, "head_norm", heads[a->head_norm]));
    CAD_TRY(cad_json_string(j, "rotation", !a->rotates ? "none: learned positions" : a->rotate_pairs ? "pairs" : "halves"));
    if (a->rotates) CAD_TRY(put_rotation(j, "rope", &a->rope));
    if (a->rotates && (a->rope_local.theta != a->rope.theta || a->rope_local.kind != a->rope.kind)) CAD_TRY(put_rotation(j, "rope_local", &a->rope_local));
    CAD_TRY(cad_json_string(j, "activation", acts[a->act]));
    CAD_TRY(cad_json_bool(j, "gated_mlp", a->gated));
    CAD_TRY(cad_json_bool(j, "qkv_bias", a->qkv_bias));
    CAD_TRY(cad_json_bool(j, "o_bias", a->o_bias));
    return cad_json_bool(j, "mlp_bias", a->mlp_bias);
}

static cad_status put_rest(cad_json *j, const cad_arch *a)
{
    CAD_TRY(cad_json_real(j, "score_scale", a->attn_scale));
    if (a->embed_scale > 1 || a->embed_scale < 1) CAD_TRY(cad_json_real(j, "embedding_scale", a->embed_scale));
    CAD_TRY(put_if(j, "score_cap", a->attn_softcap));
    CAD_TRY(put_if(j, "logit_cap", a->final_softcap));
    CAD_TRY(put_if(j, "temperature", a->temperature));
    CAD_TRY(put_if(j, "temperature_floor", a->temperature_floor));
    CAD_TRY(put_if(j, "score_dropout", a->attn_dropout));
    CAD_TRY(put_if(j, "hidden_dropout", a->hidden_dropout));
    CAD_TRY(put_if(j, "classifier_dropout", a->classifier_dropout));
    CAD_TRY(cad_json_string(j, "class", a->class_stem));
    CAD_TRY(cad_json_string(j, "head", a->names.head));
    return cad_json_bool(j, "tied_language_model_head", a->tied && *a->names.lm_head);
}

cad_status cad_arch_json(cad_json *j, const char *key, const cad_arch *a)
{
    CAD_TRY(cad_json_begin(j, key, '{'));
    CAD_TRY(cad_json_string(j, "family", a->family));
    CAD_TRY(put_sizes(j, a));
    CAD_TRY(put_block(j, a));
    CAD_TRY(put_rest(j, a));
    CAD_TRY(put_layers(j, a));
    return cad_json_end(j);
}
