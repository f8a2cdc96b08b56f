/* Chat templates of the families, as data: configs/chat/NAME.yaml says by which marks in the tokenizer's own template it is known, and what stands round what a user says. */
#include "train_priv.h"

#include <cadtrain/embedded.h>
#include <stdio.h>

/* All marks are in the template of the tokenizer, none of those that must not be. */
static bool fits(const cad_node *root, const char *own)
{
    const cad_node *marks = cad_get(root, "marks"), *never = cad_get(root, "never");

    for (const cad_node *m = marks ? marks->child : NULL; m; m = m->next)
        if (!strstr(own, m->text)) return false;
    for (const cad_node *m = never ? never->child : NULL; m; m = m->next)
        if (strstr(own, m->text)) return false;
    return marks != NULL;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static cad_status put(const cad_node *root, const char *said, size_t size, cad_str *out)
{
    const char *before, *behind;
    bool strips;

    if (!cad_get_string(root, "before", &before, "") || !cad_get_string(root, "behind", &behind, "") || !cad_get_bool(root, "strips", &strips, true))
        return cad_fail(CAD_EINTERNAL, "configs/chat: expected texts before and behind");
    while (strips && size && is_space(*said)) said++, size--;
    while (strips && size && is_space(said[size - 1])) size--;
    CAD_TRY(cad_str_add(out, before, strlen(before)));
    CAD_TRY(cad_str_add(out, said, size));
    return cad_str_add(out, behind, strlen(behind));
}

/* chat_template of tokenizer_config.json, or chat_template.jinja beside it. The caller frees. */
static cad_status own_template(const char *dir, char **out)
{
    char path[4096];
    const char *text;
    cad_tree *tree;
    size_t n;
    cad_status status = CAD_OK;

    *out = NULL;
    if (snprintf(path, sizeof path, "%s/chat_template.jinja", dir) < (int)sizeof path && cad_is_file(path)) return cad_read_file(out, &n, path, 1 << 24, CAD_EMODEL);
    if (snprintf(path, sizeof path, "%s/tokenizer_config.json", dir) >= (int)sizeof path || !cad_is_file(path)) return CAD_OK;
    CAD_TRY(cad_json_read(&tree, path, 1 << 26, CAD_EMODEL));
    if (cad_get_string(tree->root, "chat_template", &text, NULL) && text) status = cad_strdup(out, text);
    cad_tree_close(&tree);
    return status;
}

static cad_status find_and_put(const char *own, const char *said, size_t size, cad_str *out, bool *found)
{
    cad_tree *tree;
    cad_status status = CAD_OK;

    *found = false;
    for (const cad_embedded *f = cad_embedded_files; f->path && !*found && !status; f++) {
        if (strncmp(f->path, "configs/chat/", 13)) continue;
        CAD_TRY(cad_yaml_parse(&tree, f->text, strlen(f->text), f->path));
        if ((*found = fits(tree->root, own))) status = put(tree->root, said, size, out);
        cad_tree_close(&tree);
    }
    return status;
}

cad_status cadp_chat(const cad_run *r, const char *said, size_t size, cad_str *out)
{
    char *own;
    bool found = false;
    cad_status status;

    CAD_TRY(own_template(r->tokenizer_dir, &own));
    if (!own) return cad_fail(CAD_EMODEL, "chat: expected a chat_template in %s/tokenizer_config.json, found none", r->tokenizer_dir);
    status = find_and_put(own, said, size, out, &found);
    cad_free(&own);
    if (!status && !found) return cad_fail(CAD_EMODEL, "chat: the chat template of %s is none of those that the program knows (configs/chat)", r->tokenizer_dir);
    return status;
}
