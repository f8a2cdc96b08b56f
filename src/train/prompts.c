/* What `generate` is asked: prompts from the command line or a file, as tokens, and what ends a text. */
#include "train_priv.h"

#include <stdio.h>

/* ---- what ends a text: generation_config.json, config.json, the tokenizer's end-of-text ---- */

static cad_status add_end(cadp_facts *f, int64_t id, const char *where)
{
    enum { ROOM = sizeof f->ends / sizeof *f->ends };

    for (int32_t i = 0; i < f->end_count; i++)
        if (f->ends[i] == id) return CAD_OK;
    if (id < 0 || id > INT32_MAX) return CAD_OK; /* no token has it */
    if (f->end_count == ROOM) return cad_fail(CAD_EMODEL, "%s: eos_token_id: expected at most %d ends of a text", where, ROOM);
    f->ends[f->end_count++] = (int32_t)id;
    return CAD_OK;
}

static cad_status ends_of(cadp_facts *f, const cad_node *table, const char *where)
{
    const cad_node *n = table ? cad_get(table, "eos_token_id") : NULL;

    if (!n || n->kind == CAD_NULL) return CAD_OK;
    if (n->kind != CAD_LIST && n->kind != CAD_INT) return cad_fail(CAD_EMODEL, "%s: eos_token_id: expected a token's id or a list of them, found %s", where, cad_kind_name(n->kind));
    if (n->kind == CAD_INT) return add_end(f, n->integer, where);
    for (const cad_node *c = n->child; c; c = c->next) {
        if (c->kind != CAD_INT) return cad_fail(CAD_EMODEL, "%s: eos_token_id: expected tokens' ids, found %s", where, cad_kind_name(c->kind));
        CAD_TRY(add_end(f, c->integer, where));
    }
    return CAD_OK;
}

static cad_status ends_of_file(cad_run *r)
{
    char path[4096];
    cad_tree *tree;
    cad_status status;

    if (snprintf(path, sizeof path, "%s/generation_config.json", r->model_dir) >= (int)sizeof path || !cad_is_file(path)) return CAD_OK;
    CAD_TRY(cad_json_read(&tree, path, 1 << 20, CAD_EMODEL));
    status = tree->root->kind == CAD_TABLE ? ends_of(&r->facts, tree->root, path) : cad_fail(CAD_EMODEL, "%s: expected an object, found %s", path, cad_kind_name(tree->root->kind));
    cad_tree_close(&tree);
    return status;
}

static cad_status ends_of_config(cad_run *r)
{
    cad_tree *tree;
    cad_status status;

    CAD_TRY(cad_json_parse(&tree, r->source_config, strlen(r->source_config), "config.json", CAD_EMODEL));
    status = ends_of(&r->facts, tree->root, "config.json");
    if (!status) status = ends_of(&r->facts, cad_get(tree->root, "text_config"), "config.json");
    cad_tree_close(&tree);
    return status;
}

cad_status cadp_read_ends(cad_run *r)
{
    int32_t end = r->form_end && *r->form_end ? cad_tokenizer_id(r->tokenizer, r->form_end) : -1;

    CAD_TRY(ends_of_config(r));
    if (end >= 0) CAD_TRY(add_end(&r->facts, end, "tokenizer_config.json"));
    return ends_of_file(r);
}

/* ---- prompts ---- */

/* messages: said is a conversation. */
static cad_status add_prompt(cad_run *r, const char *said, size_t size, bool messages, cad_ids *ids)
{
    cadp_prompts *p = &r->prompts;
    cad_words_of v[CAD_FIELDS] = {{said, size}};
    cad_str text = {0};
    size_t answer;
    bool chat = cadp_chats(r);
    cad_status status;

    if (messages) status = cadp_chat_messages(r, said, true, &text);
    else if (chat) status = cadp_chat(r, said, size, &text);
    else status = r->form ? cad_template_fill(r->form, v, &text, &answer) : cad_str_add(&text, said, size);
    if (!status) status = cad_tokenizer_encode(r->tokenizer, text.data, text.size, !chat, ids);
    if (!status && ids->count == p->starts[p->count]) status = cad_fail(CAD_EDATA, "prompt %lld: expected a text, found an empty one (this tokenizer adds no special tokens)", (long long)p->count + 1);
    if (!status) {
        p->texts[p->count] = text.data;
        p->starts[++p->count] = ids->count;
        return CAD_OK;
    }
    cad_str_close(&text);
    return status;
}

static int column_of(const cad_run *r, const cad_rows *rows)
{
    const char *names[] = {cadp_chats(r) ? "messages" : "prompt", r->form || cadp_chats(r) ? r->o->task.question_column : "prompt", "prompt", "text", r->o->task.input_column};
    int column = -1;

    for (size_t i = 0; i < sizeof names / sizeof *names && column < 0; i++) column = cad_rows_find(rows, names[i]);
    return column;
}

static bool is_conversation(const cad_cell *c)
{
    cad_tree *tree;
    const char *text;
    bool good = !cad_json_parse(&tree, c->text, c->size, "messages", CAD_EDATA);

    if (!good) return false;
    good = tree->root->kind == CAD_LIST && tree->root->child;
    for (const cad_node *m = tree->root->child; good && m; m = m->next) good = cad_get_string(m, "role", &text, NULL) && text && cad_get(m, "content");
    cad_tree_close(&tree);
    return good;
}

static cad_status add_rows(cad_run *r, const cad_rows *rows, cad_ids *ids)
{
    int column = column_of(r, rows);

    if (column < 0) return cad_fail(CAD_EDATA, "%s: expected a column \"%s\", found none", cad_rows_path(rows), r->form ? r->o->task.question_column : "prompt");
    for (int64_t i = 0; i < cad_rows_count(rows); i++) {
        cad_cell c = cad_rows_cell(rows, i, column);
        bool messages = cadp_chats(r) && c.kind == CAD_CELL_JSON && is_conversation(&c);
        if (c.kind != CAD_CELL_TEXT && !messages) return cad_fail(CAD_EDATA, "%s:%d: column \"%s\": expected %s", cad_rows_path(rows), cad_rows_line(rows, i), cad_rows_column(rows, column),
                                                               c.kind == CAD_CELL_JSON ? "a list of messages, each with a role and a content, and --chat" : "a text");
        CAD_TRY(add_prompt(r, c.text, c.size, messages, ids));
    }
    return CAD_OK;
}

static cad_status room_for(cadp_prompts *p, int64_t n)
{
    CAD_TRY(cad_alloc(&p->texts, (size_t)n, sizeof *p->texts, "prompts"));
    return cad_alloc(&p->starts, (size_t)n + 1, sizeof *p->starts, "prompts");
}

static cad_status read_prompts(cad_run *r, cad_ids *ids)
{
    const cad_generation *g = r->what.generation;
    cad_rows *rows;
    cad_status status;

    if (g->prompt) {
        CAD_TRY(room_for(&r->prompts, 1));
        return add_prompt(r, g->prompt, strlen(g->prompt), false, ids);
    }
    CAD_TRY(cad_rows_read(&rows, r->what.input));
    if (!(status = room_for(&r->prompts, cad_rows_count(rows)))) status = add_rows(r, rows, ids);
    cad_rows_close(&rows);
    return status;
}

/* At most the positions that the model has: a longer prompt is refused, a longer answer ends there. */
static cad_status window_facts(cad_run *r)
{
    enum { TOKENS = 2048, PLACES = 32 };
    const cadp_prompts *p = &r->prompts;
    cadp_facts *f = &r->facts;

    for (int64_t i = 0; i < p->count; i++) {
        int64_t n = p->starts[i + 1] - p->starts[i];
        if (n >= r->arch.max_positions)
            return cad_fail(CAD_EDATA, "prompt %lld: expected fewer tokens than the %lld positions of this model (max_position_embeddings), found %lld", (long long)i + 1, (long long)r->arch.max_positions, (long long)n);
        f->longest = cad_max(f->longest, n);
    }
    f->prompts = p->count;
    f->prompt_tokens = p->starts[p->count];
    f->kept = cad_min(f->longest + r->what.generation->sampling.max_new_tokens, r->arch.max_positions);
    f->sequences = cad_max(1, cad_min(cad_min(r->o->training.per_device_eval_batch_size, PLACES), cad_ceil_div(p->count, r->size)));
    f->tokens = cad_max(f->longest + f->sequences - 1, cad_min(f->sequences * f->longest, TOKENS));
    for (int64_t t = 0; t < f->prompt_tokens; t++) f->vocabulary = cad_max(f->vocabulary, p->ids[t] + 1);
    return CAD_OK;
}

cad_status cadp_open_prompts(cad_run *r)
{
    cad_ids ids = {0};
    cad_status status = read_prompts(r, &ids);

    r->prompts.ids = ids.data;
    CAD_TRY(status);
    if (!r->prompts.count) return cad_fail(CAD_EDATA, "%s: expected prompts, found none", r->what.input ? r->what.input : "--prompt");
    CAD_TRY(cadp_read_ends(r));
    return window_facts(r);
}

static cad_status room_elsewhere(cad_run *r)
{
    cadp_prompts *p = &r->prompts;

    p->count = r->facts.prompts;
    p->most = cad_min(r->what.purpose == CAD_RUN_GENERATE ? r->what.generation->sampling.max_new_tokens : r->o->task.generate_max_new_tokens, r->facts.kept);
    if (r->rank) {
        CAD_TRY(cad_alloc(&p->ids, (size_t)r->facts.prompt_tokens, sizeof *p->ids, "prompts"));
        CAD_TRY(cad_alloc(&p->starts, (size_t)p->count + 1, sizeof *p->starts, "prompts"));
    }
    CAD_TRY(cad_alloc(&p->new_ids, (size_t)(p->count * p->most), sizeof *p->new_ids, "answers"));
    CAD_TRY(cad_alloc(&p->lengths, (size_t)p->count, sizeof *p->lengths, "answers"));
    return cad_alloc(&p->ended, (size_t)p->count, sizeof *p->ended, "answers");
}

cad_status cadp_tell_prompts(cad_run *r)
{
    if (!r->facts.prompts) return CAD_OK;
    CAD_TRY(cad_comm_agree(r->comm, room_elsewhere(r)));
    CAD_TRY(cad_comm_bcast(r->comm, r->prompts.ids, (size_t)r->facts.prompt_tokens * sizeof *r->prompts.ids, 0));
    return cad_comm_bcast(r->comm, r->prompts.starts, (size_t)(r->facts.prompts + 1) * sizeof *r->prompts.starts, 0);
}

void cadp_close_prompts(cad_run *r)
{
    cadp_prompts *p = &r->prompts;

    for (int64_t i = 0; p->texts && i < p->count; i++) cad_free(&p->texts[i]);
    for (int64_t i = 0; r->before && i < r->facts.samples; i++) cad_free(&r->before[i]);
    cad_free(&r->before);
    cad_free(&r->asked);
    cad_free(&p->texts);
    cad_free(&p->ids);
    cad_free(&p->starts);
    cad_free(&p->new_ids);
    cad_free(&p->lengths);
    cad_free(&p->ended);
}

/* ---- the command ---- */

static cad_status print_json(const cad_run *r, int64_t i, const cad_str *text)
{
    const cadp_prompts *p = &r->prompts;
    cad_json j = {0};
    cad_status status = cad_json_begin(&j, NULL, '{');

    if (!status) status = cad_json_string(&j, "prompt", p->texts[i]);
    if (!status) status = cad_json_begin(&j, "ids", '[');
    for (int32_t t = 0; t < p->lengths[i] && !status; t++) status = cad_json_int(&j, NULL, p->new_ids[i * p->most + t]);
    if (!status) status = cad_json_end(&j);
    if (!status) status = cad_json_bytes(&j, "text", text->data ? text->data : "", text->size);
    if (!status) status = cad_json_string(&j, "finish_reason", p->ended[i] ? "stop" : "length");
    if (!status) status = cad_json_end(&j);
    if (!status) puts(j.text.data);
    cad_json_close(&j);
    return status;
}

static void print_text(const cad_str *text)
{
    fwrite(text->data ? text->data : "", 1, text->size, stdout);
    putchar('\n');
}

static cad_status print_answer(const cad_run *r, int64_t i)
{
    cad_str text = {0};
    cad_status status = cadp_answer_text(r, i, &text);

    if (!status && r->what.generation->json) status = print_json(r, i, &text);
    else if (!status) print_text(&text);
    cad_str_close(&text);
    return status;
}

/* A text as it grows: what will stand is written once, and no half of a character. */
typedef struct stream { const cad_run *r; size_t written, held; cad_status status; } stream; /* held: bytes that may yet begin a text that ends the answer */

static void write_up_to(stream *s, const cad_str *text, size_t end)
{
    while (s->written < text->size && ((unsigned char)text->data[s->written] & 0xc0) == 0x80) s->written++; /* a decoder took back bytes that turned out to be no text */
    if (end <= s->written) return;
    fwrite(text->data + s->written, 1, end - s->written, stdout);
    fflush(stdout);
    s->written = end;
}

static void write_more(void *with, int64_t i, bool last)
{
    stream *s = with;
    cad_str text = {0};
    size_t end = 0;

    (void)last; /* write_rest */
    if (!s->status) s->status = cadp_answer_text(s->r, i, &text);
    if (!s->status) end = text.size - cad_min(text.size, s->held);
    while (end && end < text.size && ((unsigned char)text.data[end] & 0xc0) == 0x80) end--;
    while (end >= 3 && !memcmp(text.data + end - 3, "\xef\xbf\xbd", 3)) end -= 3; /* half a character as yet */
    write_up_to(s, &text, end);
    cad_str_close(&text);
}

static cad_status write_rest(stream *s)
{
    cad_str text = {0};

    if (!s->status && !(s->status = cadp_answer_text(s->r, 0, &text))) write_up_to(s, &text, text.size);
    cad_str_close(&text);
    puts("");
    return s->status;
}

static size_t longest_stop(const cad_generation *g)
{
    size_t longest = 1;

    for (int i = 0; i < g->stop_count; i++) longest = cad_max(longest, strlen(g->stop[i]));
    return longest;
}

/* Answers in the order of their prompts, each as soon as those before it are there. */
typedef struct answers { const cad_run *r; bool *there; int64_t next; cad_status status; } answers;

static void write_answers(void *with, int64_t i, bool last)
{
    answers *a = with;

    if (!last) return;
    a->there[i] = true;
    for (; !a->status && a->next < a->r->prompts.count && a->there[a->next]; a->next++) a->status = print_answer(a->r, a->next);
    fflush(stdout);
}

static cad_status generate_answers(cad_run *r)
{
    answers a = {.r = r};
    cad_status status = cad_alloc(&a.there, (size_t)r->prompts.count, 1, "answers");

    if (!status) status = cadp_generate(r, r->what.generation, r->size == 1 ? write_answers : NULL, &a);
    if (!status) status = a.status;
    for (; !status && !r->rank && a.next < r->prompts.count; a.next++) status = print_answer(r, a.next);
    cad_free(&a.there);
    return status;
}

static cad_status generate_text(cad_run *r)
{
    stream s = {.r = r, .held = longest_stop(r->what.generation) - 1};

    CAD_TRY(cadp_generate(r, r->what.generation, write_more, &s));
    return r->rank ? CAD_OK : write_rest(&s);
}

/* Of weights that every token passes: all but the table of words, and of experts those that are chosen. */
static double weight_bytes(const cad_run *r)
{
    int64_t screen = cad_model_screen_bytes(r->model); /* in the place of the head */
    double bytes = 0;

    for (int i = 0; i < r->params->count; i++) {
        const cad_param *p = &r->params->row[i];
        double share = p->role == CAD_ROLE_EMBED && !r->arch.tied ? 0 : p->dims == 3 ? (double)r->arch.chosen / (double)r->arch.experts : 1;
        bool head = p->role == CAD_ROLE_LM_HEAD || (p->role == CAD_ROLE_EMBED && r->arch.tied);
        bytes += head && screen ? (double)screen : share * (p->code ? (double)p->bytes : (double)p->elems * (double)cad_dtype_bytes(r->method.compute));
    }
    return bytes;
}

cad_status cad_run_generate(cad_run *r, cad_generated *out)
{
    bool streams = r->prompts.count == 1 && !r->what.generation->json;
    double began = cad_now();

    CAD_TRY(streams ? generate_text(r) : generate_answers(r));
    *out = (cad_generated){.prompts = r->prompts.count, .seconds = cad_now() - began, .weight_bytes = weight_bytes(r), .peak_bytes = cad_device_peak(r->device), .planned_bytes = r->planned};
    for (int64_t i = 0; i < r->prompts.count; i++) out->tokens += r->prompts.lengths[i];
    return CAD_OK;
}
