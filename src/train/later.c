/* What this version does not compute is refused, never passed over in silence. */
#include "train_priv.h"

static cad_status among(const char *option, const cad_words *w, const char *const *known, const char *expected)
{
    for (int i = 0; i < w->count; i++) {
        bool found = false;
        for (int k = 0; known[k] && !found; k++) found = !strcmp(w->word[i], known[k]);
        if (!found) return cad_fail(CAD_EUSAGE, "%s: expected %s, found \"%.60s\": this version trains no other tensors beside an adapter", option, expected, w->word[i]);
    }
    return CAD_OK;
}

/* PEFT passes over layers that are not there. */
static cad_status check_layers(const cad_whole_numbers *w, int layers)
{
    for (int i = 0; i < w->count; i++)
        if (w->at[i] >= layers) return cad_fail(CAD_EUSAGE, "layers_to_transform: expected layers from 0 to %d of this model, found %d", layers - 1, w->at[i]);
    return CAD_OK;
}

static cad_status refuse_methods(const cad_options *o, bool decoder, int layers)
{
    static const char *const patterns[] = {"score", "classifier", "head", NULL};

    if (o->model.pooling == CAD_POOL_CLS && decoder) return cad_fail(CAD_EUSAGE, "pooling: expected last_token or mean for a decoder, found cls");
    if (!o->model.lora.enabled) return CAD_OK;
    if (o->model.lora.init_lora_weights && strcmp(o->model.lora.init_lora_weights, "true"))
        return cad_fail(CAD_EUSAGE, "init_lora_weights: expected true, found %s: this version starts adapters with A uniform and B zero", o->model.lora.init_lora_weights);
    CAD_TRY(check_layers(&o->model.lora.layers_to_transform, layers));
    return among("head_trainable_patterns", &o->model.head_trainable_patterns, patterns, "classifier, score or head");
}

cad_status cadp_refuse_later(const cad_run *r)
{
    const cad_options *o = r->o;

    if (o->task.task_name == CAD_TASK_SFT && (r->what.purpose == CAD_RUN_PREDICT || r->what.purpose == CAD_RUN_EMBED))
        return cad_fail(CAD_EUSAGE, "task_name: expected binary_classification here, found sft: generate answers questions");
    if (o->task.task_name == CAD_TASK_SFT && !r->arch.causal) return cad_fail(CAD_EUSAGE, "task_name: expected binary_classification for an encoder, found sft");
    if (o->task.task_name == CAD_TASK_SFT && (o->dataset.head_columns.count || o->dataset.offset_column || o->dataset.weight_column))
        return cad_fail(CAD_EUSAGE, "head_columns, offset_column, weight_column: expected none with task_name sft, found some: they belong to a classifier");
    return refuse_methods(o, r->arch.causal, r->arch.layers);
}
