/* README.md beside an adapter: the model card with real facts and no path of a data file. */
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

static cad_status front_matter(cad_str *s, const cad_run *r)
{
    CAD_TRY(cad_str_addf(s, "---\nbase_model: "));
    CAD_TRY(add_quoted(s, base_of(r)));
    return cad_str_addf(s, "\nlibrary_name: peft\npipeline_tag: %s\ntags:\n- lora\n- cadtrain\n- %s\n---\n\n", task_of(r), task_of(r));
}

static cad_status adapter_facts(cad_str *s, const cad_run *r)
{
    const cad_method *m = &r->method;
    double scale = m->alpha / (m->rslora ? sqrt((double)m->r) : (double)m->r);

    CAD_TRY(cad_str_addf(s, "| adapter | LoRA, r %lld, alpha %g (scale %g), dropout %g%s |\n", (long long)m->r, m->alpha, scale, m->dropout, m->rslora ? ", rank-stabilised" : ""));
    if (!m->causal) CAD_TRY(cad_str_addf(s, "| head | %s, %d labels%s |\n", m->custom_head ? "linear with bias on a pooled state" : "linear on the last token", m->num_labels, m->train_head ? ", trained and saved here" : ""));
    return cad_str_addf(s, "| trainable parameters | %lld of %lld |\n", (long long)r->params->trainable, (long long)r->params->all);
}

static cad_status training_facts(cad_str *s, const cad_run *r)
{
    const cad_options *o = r->o;

    CAD_TRY(cad_str_addf(s, "| training rows | %lld (after splitting and oversampling), %lld held out |\n", (long long)r->facts.train_rows, (long long)r->facts.eval_rows));
    if (!cadp_is_sft(r)) CAD_TRY(cad_str_addf(s, "| class weights | %g, %g |\n", r->facts.class_weight[0], r->facts.class_weight[1]));
    CAD_TRY(cad_str_addf(s, "| longest record | %lld tokens (cut at %lld) |\n", (long long)r->facts.longest, (long long)o->task.max_length));
    CAD_TRY(cad_str_addf(s, "| optimizer | AdamW, learning rate %g, weight decay %g, %lld warm-up steps |\n", o->training.learning_rate, o->training.weight_decay, (long long)r->facts.warmup));
    CAD_TRY(cad_str_addf(s, "| steps | %lld of %lld, %lld sequences each at most |\n", (long long)r->step, (long long)r->facts.max_steps,
                         (long long)(r->facts.atoms_per_step * o->training.per_device_train_batch_size)));
    CAD_TRY(cad_str_addf(s, "| precision | %s, seed %lld |\n", r->method.compute == CAD_BF16 ? "bf16 with fp32 masters" : "fp32", (long long)o->runtime.seed));
    if (r->history.best_step)
        CAD_TRY(cad_str_addf(s, "| best %s on held-out rows | %.4f at step %lld |\n", o->training.metric_for_best_model ? o->training.metric_for_best_model : "metric", r->history.best_metric,
                             (long long)r->history.best_step));
    return CAD_OK;
}

static cad_status configuration(cad_str *s, const cad_run *r)
{
    char digest[65];

    if (!r->what.config_json) return CAD_OK;
    cadp_text_digest(r->what.config_json, digest);
    return cad_str_addf(s, "| configuration | SHA-256 %.16s (run.json has all of it) |\n", digest);
}

static cad_status write_text(cad_str *s, const cad_run *r)
{
    CAD_TRY(front_matter(s, r));
    CAD_TRY(cad_str_addf(s, "# %s\n\n%s, trained with cadtrain %s.\n\n| | |\n|---|---|\n",
                         r->o->experiment_name && *r->o->experiment_name ? r->o->experiment_name : "cadtrain adapter",
                         cadp_is_sft(r) ? "An adapter that answers medical questions with their reasoning" : "An adapter for binary classification of health records written as text", CAD_VERSION));
    CAD_TRY(cad_str_addf(s, "| base model | %s |\n", base_of(r)));
    CAD_TRY(adapter_facts(s, r));
    CAD_TRY(training_facts(s, r));
    CAD_TRY(configuration(s, r));
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
