/* The second job: records of question, reasoning and response, learned as text. */
#include "train_priv.h"

#include <cadtrain/embedded.h>
#include <math.h>
#include <stdio.h>

/* ---- the template ---- */

static cad_status from_yaml(cad_run *r, cad_tree *tree, const char *path)
{
    const char *text;

    if (!cad_get_string(tree->root, "template", &text, NULL) || !text) return cad_fail(CAD_EUSAGE, "%s: expected the key template with a text, found none", path);
    return cad_strdup(&r->form_text, text);
}

static cad_status read_named(cad_run *r, const char *name)
{
    char path[256];
    cad_tree *tree;
    cad_status status;

    snprintf(path, sizeof path, "configs/templates/%.200s.yaml", name);
    for (const cad_embedded *f = cad_embedded_files; f->path; f++) {
        if (strcmp(f->path, path)) continue;
        CAD_TRY(cad_yaml_parse(&tree, f->text, strlen(f->text), path));
        status = from_yaml(r, tree, path);
        cad_tree_close(&tree);
        return status;
    }
    return cad_fail(CAD_EUSAGE, "task.template: expected a text with {question} and {response}, a YAML file, or one of the program's templates (medical_reasoning_en, medical_reasoning_zh, chat, chat:NAME), found \"%.60s\"", name);
}

static cad_status read_form(cad_run *r)
{
    const char *t = r->o->task.template_text, *dot = t ? strrchr(t, '.') : NULL;
    cad_tree *tree;
    cad_status status;

    if (!t) return read_named(r, "medical_reasoning_en");
    if (cadp_is_chat(t)) return cad_strdup(&r->form_text, "{question}<think>\n{cot}\n</think>\n\n{response}"); /* chat_form writes the question */
    if (strchr(t, '{')) return cad_strdup(&r->form_text, t);
    if (!dot || (strcmp(dot, ".yaml") && strcmp(dot, ".yml"))) return read_named(r, t);
    CAD_TRY(cad_yaml_read(&tree, t));
    status = from_yaml(r, tree, t);
    cad_tree_close(&tree);
    return status;
}

cad_status cadp_open_form(cad_run *r)
{
    bool asks = r->what.purpose == CAD_RUN_GENERATE;

    if (!cadp_is_sft(r) && !asks) return CAD_OK;
    CAD_TRY(cadp_special_token(r, "eos_token", &r->form_end));
    if (asks && cadp_chats(r)) return cadp_chat_open(r, &r->chat);
    if (asks && !r->o->task.template_text) return CAD_OK;
    CAD_TRY(read_form(r));
    if (!*r->form_end && !asks) return cad_fail(CAD_EMODEL, "%s/tokenizer_config.json: expected an eos_token to end each text with, found none", r->tokenizer_dir);
    if (cadp_chats(r)) CAD_TRY(cadp_open_chat_form(r));
    return cad_template_parse(&r->form, r->form_text, "task.template");
}

/* ---- evaluation: the mean log-likelihood of what is learned ---- */

cad_status cadp_sft_evaluate(cad_run *r, const cadp_set *set, double *loss, int64_t *tokens, double *seconds)
{
    double *sums = NULL, all = 0, n = 0, began = cad_now();
    cad_status status;

    CAD_TRY(cad_comm_agree(r->comm, cad_alloc(&sums, (size_t)(r->rank ? 1 : 2 * set->count), sizeof *sums, "losses")));
    status = cadp_predict(r, set, set->count, sums, "evaluating");
    for (int64_t i = 0; i < set->count && !r->rank && !status; i++) {
        all += sums[2 * i];
        n += sums[2 * i + 1];
    }
    cad_free(&sums);
    *loss = n > 0 ? all / n : NAN;
    *tokens = (int64_t)n;
    *seconds = cad_now() - began;
    return status;
}
