/* The chat templates of the program (configs/chat), for folders that bring none. */
#include "train_priv.h"

#include <cadtrain/embedded.h>
#include <stdio.h>

static const char folder[] = "configs/chat/";

/* The file's name without folder and ending; false: it is no chat template. */
static bool name_of(const cad_embedded *f, char out[64])
{
    size_t all = strlen(f->path), ends = strlen(folder) + strlen(".yaml");

    if (strncmp(f->path, folder, strlen(folder)) || all <= ends) return false;
    snprintf(out, 64, "%.*s", (int)cad_min(63, all - ends), f->path + strlen(folder));
    return true;
}

/* Whether the tokenizer has all of a list's tokens, or any of them. */
static bool has(const cad_tokenizer *t, const cad_node *list, bool all)
{
    for (const cad_node *c = list ? list->child : NULL; c; c = c->next)
        if ((cad_tokenizer_id(t, c->text) >= 0) != all) return !all;
    return all;
}

static bool fits(const cad_run *r, const cad_node *root) { return r->tokenizer && has(r->tokenizer, cad_get(root, "tokens"), true) && !has(r->tokenizer, cad_get(root, "without"), false); }

static cad_status take(cadp_chat_source *s, const cad_node *root, const char *name)
{
    const char *text = "";

    if (!cad_get_string(root, "template", &text, NULL) || !text) return cad_fail(CAD_EINTERNAL, "%s%s.yaml: expected a template", folder, name);
    s->size = strlen(text);
    s->built_in = true;
    return cad_strdup(&s->own, text);
}

static cad_status unknown(const char *name)
{
    cad_str all = {0};
    char known[64];
    cad_status status = CAD_OK;

    for (const cad_embedded *f = cad_embedded_files; f->path && !status; f++)
        if (name_of(f, known)) status = cad_str_addf(&all, "%schat:%s", all.size ? ", " : "", known);
    if (!status) status = cad_fail(CAD_EUSAGE, "task.template: expected chat or one of %s, found \"chat:%.40s\"", all.data ? all.data : "", name);
    cad_str_close(&all);
    return status;
}

cad_status cadp_family_chat(const cad_run *r, cadp_chat_source *s, const char *name)
{
    for (const cad_embedded *f = cad_embedded_files; f->path; f++) {
        char known[64];
        cad_tree *tree;
        cad_status status = CAD_OK;
        bool taken;
        if (!name_of(f, known) || (name && strcmp(name, known))) continue;
        CAD_TRY(cad_yaml_parse(&tree, f->text, strlen(f->text), f->path));
        if ((taken = name || fits(r, tree->root))) status = take(s, tree->root, known);
        cad_tree_close(&tree);
        if (taken && !name && !status) cad_warn("chat", "%s has no chat template: that of %s is used, whose tokens it has", s->dir, known);
        if (taken) return status;
    }
    return name ? unknown(name) : CAD_OK;
}
