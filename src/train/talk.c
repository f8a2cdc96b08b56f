/* Records in the chat template of the model's folder: a question as what a user says, and conversations of several turns. */
#include "train_priv.h"

/* What the tokenizer puts before a text by itself and a template would write again. */
static cad_status find_begin(cad_run *r)
{
    cad_ids ids = {0};
    char *begin;
    cad_status status;

    CAD_TRY(cadp_special_token(r, "bos_token", &begin));
    status = cad_tokenizer_encode(r->tokenizer, "", 0, true, &ids);
    if (!status) status = cad_strdup(&r->chat_begin, *begin && ids.count && ids.data[0] == cad_tokenizer_id(r->tokenizer, begin) ? begin : "");
    cad_free(&begin);
    cad_free(&ids.data);
    return status;
}

static size_t begin_of(const cad_run *r, const cad_str *text)
{
    size_t n = strlen(r->chat_begin);

    return text->size >= n && !memcmp(text->data ? text->data : "", r->chat_begin, n) ? n : 0;
}

static cad_status ask(void *with, const char *said, size_t n, cad_str *out)
{
    const cad_run *r = with;
    cad_str text = {0};
    cad_status status = cadp_chat(r, said, n, &text);

    if (!status) status = cad_str_add(out, text.data ? text.data + begin_of(r, &text) : "", text.size - begin_of(r, &text));
    cad_str_close(&text);
    return status;
}

/* ---- conversations ---- */

static bool is_assistant(const cad_node *message)
{
    const char *role;

    return cad_get_string(message, "role", &role, NULL) && role && !strcmp(role, "assistant");
}

/* Where the last answer is; -1: nowhere. */
static cad_status check_messages(const cad_node *all, int64_t *last)
{
    int64_t i = 0;

    *last = -1;
    if (!all || all->kind != CAD_LIST || !all->child) return cad_fail(CAD_EDATA, "expected a list of messages, each with a role and a content");
    for (const cad_node *m = all->child; m; m = m->next, i++) {
        const char *role;
        const cad_node *content = m->kind == CAD_TABLE ? cad_get(m, "content") : NULL;
        if (m->kind != CAD_TABLE || !cad_get_string(m, "role", &role, NULL) || !role || (!content && !cad_get(m, "tool_calls"))) return cad_fail(CAD_EDATA, "message %lld: expected a role and a content", (long long)i + 1);
        if (!is_assistant(m)) continue;
        if (content && content->kind == CAD_STRING && !content->size && !cad_get(m, "tool_calls")) return cad_fail(CAD_EDATA, "message %lld: expected an answer of the assistant, found an empty one", (long long)i + 1);
        *last = i;
    }
    return *last < 0 ? cad_fail(CAD_EDATA, "expected an answer of the assistant, found none in %lld messages", (long long)i) : *last == 0 ? cad_fail(CAD_EDATA, "expected something said before the assistant answers, found nothing") : CAD_OK;
}

static cad_status add_cut(cad_cuts *c, size_t at)
{
    if (c->count == c->room) {
        CAD_TRY(cad_grow(&c->at, (size_t)(2 * c->room + 64), sizeof *c->at, "ends of answers"));
        c->room = 2 * c->room + 64;
    }
    c->at[c->count++] = at;
    return CAD_OK;
}

static cad_status unknown(int64_t i, bool begins)
{
    cad_advise("this chat template writes earlier turns in other words as a conversation goes on: one answer a record, generation and endgeneration round answers in the template, or completion_only_loss false");
    return cad_fail(CAD_EDATA, "message %lld: expected to find where this answer %s in the text of the conversation, found no such place", (long long)i + 1, begins ? "begins" : "ends");
}

/* From where the template is ready for answer i, to where it goes on behind it. */
static cad_status add_answer(const cad_run *r, cad_tree *v, int64_t i, bool last, const cad_str *whole, size_t own, cad_cuts *cuts)
{
    size_t from, to;

    CAD_TRY(cadp_answer_begins(&r->chat, v, i, whole, &from));
    CAD_TRY(cadp_answer_ends(&r->chat, v, i, whole, &to));
    if (from == SIZE_MAX && last && !r->o->task.completion_only_loss) from = own; /* all is learned: nothing but a sample's question is missing */
    if (from == SIZE_MAX || to == SIZE_MAX || to < from) return unknown(i, from == SIZE_MAX);
    CAD_TRY(add_cut(cuts, cad_max(from, own) - own));
    return add_cut(cuts, cad_max(to, own) - own);
}

/* What the template itself marks is learned; an empty piece at the end says where the last answer's question ends. */
static cad_status add_marked(const cad_run *r, cad_tree *v, int64_t last, const cad_chat_marks *marks, const cad_str *whole, size_t own, cad_cuts *cuts)
{
    size_t from;

    for (int64_t i = 0; i < marks->count; i++) CAD_TRY(add_cut(cuts, cad_max(marks->at[i], own) - own));
    CAD_TRY(cadp_answer_begins(&r->chat, v, last, whole, &from));
    if (from == SIZE_MAX) return CAD_OK;
    CAD_TRY(add_cut(cuts, cad_max(from, own) - own));
    return add_cut(cuts, cad_max(from, own) - own);
}

static cad_status add_answers(const cad_run *r, cad_tree *v, int64_t last, const cad_chat_marks *marks, const cad_str *whole, size_t own, cad_cuts *cuts)
{
    const cad_node *m = cad_get(v->root, "messages")->child;
    bool each = r->o->task.completion_only_loss;

    if (each && marks->count) return add_marked(r, v, last, marks, whole, own, cuts);
    for (int64_t i = 0; m; m = m->next, i++)
        if (i == last || (each && is_assistant(m))) CAD_TRY(add_answer(r, v, i, i == last, whole, own, cuts));
    return CAD_OK;
}

static cad_status talk(void *with, const char *messages, cad_str *out, cad_cuts *cuts)
{
    const cad_run *r = with;
    cad_chat_marks marks = {0};
    cad_str whole = {0};
    cad_tree *v;
    int64_t last;
    cad_status status;

    CAD_TRY(cadp_chat_variables(&r->chat, messages, &v));
    status = check_messages(cad_get(v->root, "messages"), &last);
    if (!status) status = cadp_chat_render(&r->chat, v, INT64_MAX, false, &whole, &marks);
    if (!status) status = add_answers(r, v, last, &marks, &whole, begin_of(r, &whole), cuts);
    if (!status) status = cad_str_add(out, whole.data ? whole.data + begin_of(r, &whole) : "", whole.size - begin_of(r, &whole));
    cad_free(&marks.at);
    cad_str_close(&whole);
    cad_tree_close(&v);
    return status;
}

cad_status cadp_last_answer(const char *messages, char **out)
{
    const char *said = "", *text;
    cad_tree *tree;
    cad_status status;

    CAD_TRY(cad_json_parse(&tree, messages, strlen(messages), "messages", CAD_EDATA));
    for (const cad_node *m = tree->root->child; m; m = m->next)
        if (is_assistant(m)) said = cad_get_string(m, "content", &text, "") && text ? text : "";
    status = cad_strdup(out, said);
    cad_tree_close(&tree);
    return status;
}

/* ---- the form ---- */

static cad_status make_id(cad_run *r)
{
    static const char *const tokens[] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    cad_str id = {0};
    cad_status status = cad_str_addf(&id, "spans 2\n%d\n%s\n", r->o->task.completion_only_loss, r->chat.own);

    for (size_t i = 0; i < sizeof tokens / sizeof *tokens && !status; i++) {
        char *token;
        if ((status = cadp_special_token(r, tokens[i], &token))) break;
        status = cad_str_addf(&id, "%s\n", token);
        cad_free(&token);
    }
    if (!status) status = cad_strdup(&r->chat_id, id.data);
    cad_str_close(&id);
    return status;
}

cad_status cadp_open_chat_form(cad_run *r)
{
    CAD_TRY(cadp_chat_open(r, &r->chat));
    CAD_TRY(find_begin(r));
    CAD_TRY(make_id(r));
    r->chat_form = (cad_chat_form){.with = r, .ask = ask, .talk = talk, .id = r->chat_id};
    return CAD_OK;
}

void cadp_close_chat_form(cad_run *r)
{
    cadp_chat_close(&r->chat);
    cad_free(&r->chat_id);
    cad_free(&r->chat_begin);
}
