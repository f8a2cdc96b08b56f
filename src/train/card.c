/* README.md beside a trained model or adapter: the model card with real facts and no path of this machine. */
#include "keep_priv.h"
#include <cadtrain/version.h>

#include <math.h>
#include <stdio.h>

static cad_status add_quoted(cad_str *s, const char *text)
{
    cad_json j = {0};
    cad_status status = cad_json_string(&j, NULL, text); /* a JSON string is a YAML string */

    if (!status) status = cad_str_add(s, j.text.data, j.text.size);
    cad_json_close(&j);
    return status;
}

static const char *base_of(const cad_run *r) { return r->o->model.model_name_or_path ? r->o->model.model_name_or_path : r->model_dir; }

static const char *task_of(const cad_run *r) { return cadp_is_sft(r) ? "text-generation" : "text-classification"; }

/* base_model: only where others find it by that name; without it the Hub would refuse the card. */
static cad_status front_matter(cad_str *s, const cad_run *r, const char *base, bool known)
{
    const cad_method *m = &r->method;

    CAD_TRY(cad_str_addf(s, "---\n"));
    if (known) {
        CAD_TRY(cad_str_addf(s, "base_model: "));
        CAD_TRY(add_quoted(s, base));
        CAD_TRY(cad_str_addf(s, "\n"));
    }
    CAD_TRY(cadp_base_licence(r->model_dir, s));
    CAD_TRY(cad_str_addf(s, "library_name: %s\npipeline_tag: %s\ntags:\n", m->lora ? "peft" : "transformers", task_of(r)));
    if (m->lora) CAD_TRY(cad_str_addf(s, "- lora\n%s%s", m->dora ? "- dora\n" : "", m->code ? "- qlora\n" : ""));
    return cad_str_addf(s, "- cadtrain\n- %s\n---\n\n", task_of(r));
}

/* A name or a pattern as code; a bar would end the cell. */
static cad_status add_code(cad_str *s, const char *text)
{
    CAD_TRY(cad_str_addf(s, "`"));
    for (; *text; text++) CAD_TRY(*text == '|' ? cad_str_addf(s, "\\|") : cad_str_add(s, text, 1));
    return cad_str_addf(s, "`");
}

static cad_status add_codes(cad_str *s, const char *title, const char *const *words, int n)
{
    CAD_TRY(cad_str_addf(s, "| %s | ", title));
    for (int i = 0; i < n; i++) {
        if (i) CAD_TRY(cad_str_addf(s, ", "));
        CAD_TRY(add_code(s, words[i]));
    }
    return cad_str_addf(s, " |\n");
}

static cad_status adapter_facts(cad_str *s, const cad_run *r)
{
    static const char *const all[] = {"all-linear"};
    const cad_method *m = &r->method;
    double scale = m->alpha / (m->rslora ? sqrt((double)m->r) : (double)m->r);

    CAD_TRY(cad_str_addf(s, "| adapter | %s, r %lld, alpha %g (scale %g), dropout %g%s |\n", m->dora ? "DoRA" : "LoRA", (long long)m->r, m->alpha, scale, m->dropout, m->rslora ? ", rank-stabilised" : ""));
    if (!m->parameters_only) CAD_TRY(m->target_count ? add_codes(s, "adapted layers", m->targets, m->target_count) : add_codes(s, "adapted layers", all, 1));
    if (m->parameter_count) CAD_TRY(add_codes(s, "adapted experts", m->parameters, m->parameter_count));
    return m->code ? cad_str_addf(s, "| frozen weights | %s codes%s |\n", cad_code_name(m->code), m->nested ? ", their scales as codes too" : "") : CAD_OK;
}

static cad_status method_facts(cad_str *s, const cad_run *r)
{
    const cad_method *m = &r->method;

    if (m->lora) CAD_TRY(adapter_facts(s, r));
    if (!m->causal) CAD_TRY(cad_str_addf(s, "| head | %s, %d labels%s |\n", m->custom_head ? "linear with bias on a pooled state" : "linear on the last token", m->num_labels, m->lora && m->train_head ? ", trained and saved here" : ""));
    return cad_str_addf(s, "| trainable parameters | %lld of %lld |\n", (long long)r->params->trainable, (long long)r->params->all);
}

static cad_status reading_facts(cad_str *s, const cad_run *r)
{
    const cad_options *o = r->o;
    const char *t = o->task.template_text;

    if (!r->train.data) return CAD_OK; /* written from weights alone */
    CAD_TRY(cad_str_addf(s, "| records | %lld read; %lld rows to train on (after splitting and oversampling), %lld held out |\n", (long long)r->train.data->count, (long long)r->facts.train_rows, (long long)r->facts.eval_rows));
    CAD_TRY(cad_str_addf(s, "| longest record | %lld tokens (cut at %lld) |\n", (long long)r->facts.longest, (long long)o->task.max_length));
    if (!cadp_is_sft(r)) return cad_str_addf(s, "| class weights | %g, %g |\n", r->facts.class_weight[0], r->facts.class_weight[1]);
    CAD_TRY(cad_str_addf(s, "| template | %s |\n", cadp_is_chat(t) ? t[4] ? t : "the chat template here" : t && (strchr(t, '{') || strchr(t, '.')) ? "the user's own" : t ? t : "medical_reasoning_en"));
    return cad_str_addf(s, "| learned | %s |\n", o->task.completion_only_loss ? "the answers" : "whole records, questions too");
}

static cad_status training_facts(cad_str *s, const cad_run *r)
{
    const cad_options *o = r->o;

    CAD_TRY(cad_str_addf(s, "| optimizer | AdamW, learning rate %g, weight decay %g, %lld warm-up steps |\n", o->training.learning_rate, o->training.weight_decay, (long long)r->facts.warmup));
    CAD_TRY(cad_str_addf(s, "| steps | %lld of %lld, %lld sequences each at most |\n", (long long)r->step, (long long)r->facts.max_steps,
                         (long long)(r->facts.atoms_per_step * o->training.per_device_train_batch_size)));
    CAD_TRY(cad_str_addf(s, "| precision | %s, seed %lld |\n", r->method.compute == CAD_BF16 ? "bf16 with fp32 masters" : "fp32", (long long)o->runtime.seed));
    if (r->history.best_step)
        CAD_TRY(cad_str_addf(s, "| best %s on held-out rows | %.4f at step %lld |\n", o->training.metric_for_best_model ? o->training.metric_for_best_model : "metric", r->history.best_metric,
                             (long long)r->history.best_step));
    return r->results.size ? cad_str_add(s, r->results.data, r->results.size) : CAD_OK;
}

static cad_status configuration(cad_str *s, const cad_run *r)
{
    char digest[65];

    if (!r->what.config_json) return CAD_OK;
    cadp_text_digest(r->what.config_json, digest);
    return cad_str_addf(s, "| configuration | SHA-256 %.16s (its run.json has all of it) |\n", digest);
}

static const char *kind_of(const cad_run *r)
{
    if (cadp_is_sft(r)) return r->method.lora ? "An adapter that answers medical questions with their reasoning" : "A language model that answers medical questions with their reasoning";
    return r->method.lora ? "An adapter for binary classification of health records written as text" : "A model for binary classification of health records written as text";
}

static cad_status facts(cad_str *s, const cad_run *r, const char *base)
{
    const char *name = r->o->experiment_name;

    CAD_TRY(cad_str_addf(s, "# %s\n\n%s, trained with cadtrain %s.\n\n| | |\n|---|---|\n", name && *name ? name : r->method.lora ? "cadtrain adapter" : "cadtrain model", kind_of(r), CAD_VERSION));
    CAD_TRY(cad_str_addf(s, "| base model | %s |\n", base));
    CAD_TRY(method_facts(s, r));
    CAD_TRY(reading_facts(s, r));
    CAD_TRY(training_facts(s, r));
    return configuration(s, r);
}

static cad_status write_text(cad_str *s, const cad_run *r)
{
    cad_str base = {0};
    bool known;
    cad_status status = cadp_public_name(base_of(r), &base, &known);

    if (!status) status = front_matter(s, r, base.data, known);
    if (!status) status = facts(s, r, base.data);
    cad_str_close(&base);
    CAD_TRY(status);
    if (cadp_is_sft(r))
        return cad_str_addf(s, "\n## Use and limits\n\nFor research. It is no medical device, and what it writes can be wrong: no answer of it may decide on a person's care. Trained weights can hold\n"
                               "text of the records they were trained on: treat these files as the data they came from until that has been assessed.\n");
    return cad_str_addf(s, "\n## Use and limits\n\nFor research on groups of records of the kind it was trained on. It is no medical device; its probabilities follow the share of positives\n"
                           "that training saw, so they need recalibration before they are read as risks. Trained weights can hold text of the records they were trained on:\n"
                           "treat these files as the data they came from until that has been assessed.\n");
}

cad_status cadp_write_card(const cad_run *r, const char *dir)
{
    cad_str text = {0}, path = {0};
    cad_status status = write_text(&text, r);

    if (!status) status = cadp_join(&path, dir, "README.md");
    if (!status) status = cad_write_file(path.data, text.data, text.size);
    cad_str_close(&path);
    cad_str_close(&text);
    return status;
}
