/* A conversation in the chat template of the model's folder. */
#include "train_priv.h"

#include <stdio.h>

/* tokenizer_config.json, or NULL where there is none. */
static cad_status read_config(const char *dir, cad_tree **out)
{
    char path[4096];

    *out = NULL;
    if (snprintf(path, sizeof path, "%s/tokenizer_config.json", dir) >= (int)sizeof path || !cad_is_file(path)) return CAD_OK;
    return cad_json_read(out, path, 1 << 26, CAD_EMODEL);
}

/* A special token of the configuration: a text, or a table with it; NULL where there is none. */
static const char *token_of(const cad_node *root, const char *key)
{
    const cad_node *n = cad_get(root, key);

    if (n && n->kind == CAD_TABLE) n = cad_get(n, "content");
    return n && n->kind == CAD_STRING ? n->text : NULL;
}

cad_status cadp_special_token(const cad_run *r, const char *key, char **out)
{
    const char *token;
    cad_tree *config;
    cad_status status;

    CAD_TRY(read_config(r->tokenizer_dir, &config));
    token = config ? token_of(config->root, key) : NULL;
    status = cad_strdup(out, token ? token : "");
    cad_tree_close(&config);
    return status;
}

/* A text, or a list of tables with names, of which the one named default counts. */
static const cad_node *template_of(const cad_node *root)
{
    const cad_node *n = cad_get(root, "chat_template");

    if (!n || n->kind != CAD_LIST) return n && n->kind == CAD_STRING ? n : NULL;
    for (const cad_node *c = n->child; c; c = c->next) {
        const char *name;
        if (cad_get_string(c, "name", &name, "") && !strcmp(name, "default")) return cad_get(c, "template");
    }
    return NULL;
}

/* chat_template.jinja, or chat_template of tokenizer_config.json; neither: own stays NULL. */
static cad_status read_own(cadp_chat_source *s)
{
    const cad_node *inside = s->config ? template_of(s->config->root) : NULL;
    char path[4096];

    if (snprintf(path, sizeof path, "%s/chat_template.jinja", s->dir) < (int)sizeof path && cad_is_file(path)) return cad_read_file(&s->own, &s->size, path, 1 << 24, CAD_EMODEL);
    if (!inside || inside->kind != CAD_STRING) return CAD_OK;
    s->size = inside->size;
    return cad_strdup(&s->own, inside->text);
}

static cad_status find_template(const cad_run *r, cadp_chat_source *s)
{
    const char *t = r->o ? r->o->task.template_text : NULL;

    if (cadp_is_chat(t) && t[4]) return cadp_family_chat(r, s, t + strlen("chat:"));
    CAD_TRY(read_own(s));
    if (!s->own) CAD_TRY(cadp_family_chat(r, s, NULL));
    if (s->own) return CAD_OK;
    cad_advise("--template chat:NAME takes one of the program's (configs/chat)");
    return cad_fail(CAD_EMODEL, "chat: expected a chat_template in %s/tokenizer_config.json, or the tokens of one of the program's templates, found none", s->dir);
}

cad_status cadp_chat_open(const cad_run *r, cadp_chat_source *s)
{
    cad_status status;

    *s = (cadp_chat_source){.dir = r->tokenizer_dir};
    CAD_TRY(read_config(s->dir, &s->config));
    status = find_template(r, s);
    if (status) cadp_chat_close(s);
    return status;
}

void cadp_chat_close(cadp_chat_source *s)
{
    cad_tree_close(&s->config);
    cad_free(&s->own);
}

/* What apply_chat_template of Transformers hands to a template. */
static cad_status put_variables(const cad_tree *config, const char *messages, cad_json *j)
{
    static const char *const tokens[] = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_raw(j, "messages", messages));
    CAD_TRY(cad_json_raw(j, "tools", "null"));
    CAD_TRY(cad_json_raw(j, "documents", "null"));
    CAD_TRY(cad_json_raw(j, "add_generation_prompt", "false"));
    for (size_t i = 0; config && i < sizeof tokens / sizeof *tokens; i++)
        if (token_of(config->root, tokens[i])) CAD_TRY(cad_json_string(j, tokens[i], token_of(config->root, tokens[i])));
    return cad_json_end(j);
}

cad_status cadp_chat_variables(const cadp_chat_source *s, const char *messages, cad_tree **out)
{
    cad_json j = {0};
    cad_status status = put_variables(s->config, messages, &j);

    *out = NULL;
    if (!status) status = cad_json_parse(out, j.text.data, j.text.size, "messages", CAD_EDATA);
    cad_json_close(&j);
    return status;
}

static cad_node *entry(cad_tree *t, const char *key)
{
    cad_node *n = t->root->child;

    while (n && strcmp(n->key, key)) n = n->next;
    return n;
}

cad_status cadp_chat_render(const cadp_chat_source *s, cad_tree *variables, int64_t first, bool ask, cad_str *out, cad_chat_marks *marks)
{
    cad_node *all = entry(variables, "messages"), *last = all->child, *rest;
    int children = all->children;
    cad_status status;

    for (int64_t i = 1; last && i < first; i++) last = last->next;
    rest = last ? last->next : NULL;
    if (last) last->next = NULL;
    all->children = (int)cad_min(first, children);
    entry(variables, "add_generation_prompt")->boolean = ask;
    status = cad_chat_render_marked(s->own, s->size, s->dir, variables->root, out, marks);
    if (last) last->next = rest;
    all->children = children;
    return status;
}

static cad_status render(const cadp_chat_source *s, const char *messages, bool ask, cad_str *out)
{
    cad_tree *variables;
    cad_status status;

    CAD_TRY(cadp_chat_variables(s, messages, &variables));
    status = cadp_chat_render(s, variables, INT64_MAX, ask, out, NULL);
    cad_tree_close(&variables);
    return status;
}

cad_status cadp_chat_messages(const cad_run *r, const char *messages, bool ask, cad_str *out)
{
    cadp_chat_source s;
    cad_status status;

    if (r->chat.own) return render(&r->chat, messages, ask, out);
    CAD_TRY(cadp_chat_open(r, &s));
    status = render(&s, messages, ask, out);
    cadp_chat_close(&s);
    return status;
}

static cad_status put_message(cad_json *j, const char *role, const char *said, size_t n)
{
    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_string(j, "role", role));
    CAD_TRY(cad_json_bytes(j, "content", said, n));
    return cad_json_end(j);
}

cad_status cadp_chat(const cad_run *r, const char *said, size_t size, cad_str *out)
{
    const char *system = r->what.generation ? r->what.generation->system : NULL;
    cad_json j = {0};
    cad_status status = cad_json_begin(&j, NULL, '[');

    if (!status && system) status = put_message(&j, "system", system, strlen(system));
    if (!status) status = put_message(&j, "user", said, size);
    if (!status) status = cad_json_end(&j);
    if (!status) status = cadp_chat_messages(r, j.text.data, true, out);
    cad_json_close(&j);
    return status;
}
