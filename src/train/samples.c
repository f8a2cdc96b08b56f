/* Answers to held-out questions, before and after training. */
#include "train_priv.h"

#include <math.h>
#include <stdio.h>

static const cadp_set *held_out(const cad_run *r) { return r->test.count ? &r->test : &r->eval; }

/* Whether the whole question of a row stands in its tokens, and the model has a position for an answer. */
static bool can_be_asked(const cad_run *r, const cad_dataset *d, int64_t row)
{
    int64_t given = d->answers[row], all = d->starts[row + 1] - d->starts[row];

    return given > 0 && given < cad_min(all, r->arch.max_positions) && !(d->cut[row] && r->o->task.truncation_left);
}

/* The first n of those that can be asked. */
static cad_status choose(cad_run *r, int64_t most, int64_t *n)
{
    const cadp_set *set = held_out(r);
    int64_t passed = 0;

    CAD_TRY(cad_alloc(&r->asked, (size_t)most, sizeof *r->asked, "questions"));
    *n = 0;
    for (int64_t i = 0; i < set->count && *n < most; i++) {
        if (can_be_asked(r, set->data, set->rows[i])) r->asked[(*n)++] = set->rows[i];
        else passed++;
    }
    if (!*n) return cad_fail(CAD_EDATA, "task.generate_samples: expected held-out questions below max_length %lld and the %lld positions of this model, found none", (long long)r->o->task.max_length, (long long)r->arch.max_positions);
    if (passed) cad_warn("samples", "%lld held-out questions are not asked, as max_length %lld or the model's %lld positions cut them", (long long)passed, (long long)r->o->task.max_length, (long long)r->arch.max_positions);
    return CAD_OK;
}

static cad_status copy_prompts(cad_run *r, int64_t n)
{
    const cad_dataset *d = held_out(r)->data;
    cadp_prompts *p = &r->prompts;
    int64_t tokens = 0;

    for (int64_t i = 0; i < n; i++) tokens += d->answers[r->asked[i]];
    CAD_TRY(cad_alloc(&p->ids, (size_t)tokens, sizeof *p->ids, "questions"));
    CAD_TRY(cad_alloc(&p->starts, (size_t)n + 1, sizeof *p->starts, "questions"));
    CAD_TRY(cad_alloc(&r->before, (size_t)n, sizeof *r->before, "answers"));
    for (int64_t i = 0; i < n; i++) {
        int64_t given = d->answers[r->asked[i]];
        memcpy(p->ids + p->starts[i], d->ids + d->starts[r->asked[i]], (size_t)given * sizeof *p->ids);
        p->starts[i + 1] = p->starts[i] + given;
        r->facts.longest = cad_max(r->facts.longest, given);
        r->facts.kept = cad_max(r->facts.kept, given + r->o->task.generate_max_new_tokens);
    }
    p->count = r->facts.samples = r->facts.prompts = n;
    r->facts.prompt_tokens = tokens;
    r->facts.kept = cad_min(r->facts.kept, r->arch.max_positions);
    return CAD_OK;
}

cad_status cadp_pick_samples(cad_run *r)
{
    int64_t n = cad_min(r->o->task.generate_samples, held_out(r)->count);

    if (!r->o->task.generate_samples) return CAD_OK;
    if (!n) return cad_fail(CAD_EUSAGE, "task.generate_samples: expected held-out records (validation_split, validation_file or test_file), found none");
    CAD_TRY(choose(r, n, &n));
    CAD_TRY(copy_prompts(r, n));
    return cadp_read_ends(r);
}

/* ---- the numbers ---- */

/* Words as rouge_score takes them (runs of ASCII letters and digits, in lower case; all else stands between words), and each character of a script that
 * puts nothing between its words, which rouge_score does not see. */
typedef struct words { const char *text; size_t *at, *size; int64_t count; } words;

static bool is_word(unsigned char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

/* Of a character of three or four bytes: Thai, Lao, Myanmar, Khmer; kana, Han and Hangul. */
static bool is_unspaced(const unsigned char *s, size_t n)
{
    uint32_t c = n == 3 ? (s[0] & 0xfu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu) : n == 4 ? (s[0] & 7u) << 18 | (s[1] & 0x3fu) << 12 | (s[2] & 0x3fu) << 6 | (s[3] & 0x3fu) : 0;

    return (c >= 0xe00 && c <= 0xeff) || (c >= 0x1000 && c <= 0x109f) || (c >= 0x1780 && c <= 0x17ff) || (c >= 0x3041 && c <= 0x30ff) || (c >= 0x3400 && c <= 0x9fff) || (c >= 0xac00 && c <= 0xd7a3) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x20000 && c <= 0x3ffff);
}

static cad_status split(words *w, const char *text, size_t n)
{
    *w = (words){.text = text};
    CAD_TRY(cad_alloc(&w->at, n, sizeof *w->at, "words"));
    CAD_TRY(cad_alloc(&w->size, n, sizeof *w->size, "words"));
    for (size_t i = 0; i < n;) {
        size_t from = i++;
        unsigned char c = (unsigned char)text[from];
        if (is_word(c))
            while (i < n && is_word((unsigned char)text[i])) i++;
        else {
            while (i < n && ((unsigned char)text[i] & 0xc0) == 0x80) i++;
            if (!is_unspaced((const unsigned char *)text + from, i - from)) continue;
        }
        w->at[w->count] = from;
        w->size[w->count++] = i - from;
    }
    return CAD_OK;
}

static void close_words(words *w)
{
    cad_free(&w->at);
    cad_free(&w->size);
}

static bool same_word(const words *a, int64_t i, const words *b, int64_t j)
{
    if (a->size[i] != b->size[j]) return false;
    for (size_t k = 0; k < a->size[i]; k++) {
        char x = a->text[a->at[i] + k], y = b->text[b->at[j] + k];
        if ((x >= 'A' && x <= 'Z' ? x + 32 : x) != (y >= 'A' && y <= 'Z' ? y + 32 : y)) return false;
    }
    return true;
}

/* F1 of the longest common subsequence (Lin 2004). */
static cad_status rouge(const words *a, const words *b, double *out)
{
    int32_t *row = NULL;
    double both;

    *out = 0;
    if (!a->count || !b->count) return CAD_OK;
    CAD_TRY(cad_alloc(&row, (size_t)b->count + 1, sizeof *row, "ROUGE-L"));
    for (int64_t i = 0; i < a->count; i++)
        for (int32_t j = 0, corner = 0; j < b->count; j++) {
            int32_t above = row[j + 1];
            row[j + 1] = same_word(a, i, b, j) ? corner + 1 : (int32_t)cad_max(above, row[j]);
            corner = above;
        }
    both = row[b->count];
    cad_free(&row);
    *out = 2 * both / (double)(a->count + b->count);
    return CAD_OK;
}

cad_status cadp_rouge_l(const char *a, const char *b, double *out)
{
    words x, y = {0};
    cad_status status = split(&x, a, strlen(a));

    if (!status) status = split(&y, b, strlen(b));
    if (!status) status = rouge(&x, &y, out);
    close_words(&x);
    close_words(&y);
    return status;
}

static const char *trimmed(const char *s, size_t *n)
{
    *n = strlen(s);
    while (*n && strchr(" \t\r\n", s[*n - 1])) --*n;
    while (*n && strchr(" \t\r\n", *s)) s++, --*n;
    return s;
}

/* What stands behind the last mark. */
static const char *final_answer(const char *text, const char *mark)
{
    const char *at = text;

    for (const char *p; *mark && (p = strstr(at, mark));) at = p + strlen(mark);
    return at;
}

typedef struct figures { double rouge_l; int64_t exact; } figures;

static cad_status compare(const char *answer, const char *wanted, const char *mark, figures *f)
{
    size_t n, m;
    const char *a = trimmed(final_answer(answer, mark), &n), *b = trimmed(wanted, &m);
    double one;

    CAD_TRY(cadp_rouge_l(final_answer(answer, mark), wanted, &one));
    f->rouge_l += one;
    f->exact += n == m && !memcmp(a, b, n);
    return CAD_OK;
}

/* ---- before and after ---- */

static cad_status answer_all(cad_run *r, char **out)
{
    cad_generation g = {.sampling = {.max_new_tokens = r->o->task.generate_max_new_tokens, .top_p = 1, .repetition_penalty = 1, .seed = (uint64_t)r->o->runtime.seed}};
    cad_status status = cadp_generate(r, &g, NULL, NULL);

    for (int64_t i = 0; i < r->prompts.count && !r->rank && !status; i++) {
        cad_str text = {0};
        status = cadp_answer_text(r, i, &text);
        if (!status) status = cad_strdup(&out[i], text.data ? text.data : "");
        cad_str_close(&text);
    }
    return status;
}

static cad_status held_out_loss(cad_run *r, double *loss, int64_t *tokens)
{
    const cadp_set *set = held_out(r);
    int64_t count = set->count;
    double seconds;

    CAD_TRY(cad_comm_bcast(r->comm, &count, sizeof count, 0));
    *loss = NAN;
    *tokens = 0;
    return count ? cadp_sft_evaluate(r, set, loss, tokens, &seconds) : CAD_OK;
}

cad_status cadp_sft_before(cad_run *r)
{
    int64_t tokens;

    r->loss_before = NAN;
    if (!r->facts.samples) return CAD_OK;
    CAD_TRY(held_out_loss(r, &r->loss_before, &tokens));
    return cad_comm_agree(r->comm, answer_all(r, r->before));
}

/* ---- files ---- */

/* The caller frees. */
static cad_status wanted_text(const cad_run *r, int64_t i, char **out)
{
    const cadp_set *set = held_out(r);
    const cad_rows *rows = set->data->rows_file;
    int column = r->chat.own ? cad_rows_find(rows, "messages") : -1;
    cad_cell c = cad_rows_cell(rows, r->asked[i], column < 0 ? cad_rows_find(rows, r->o->task.response_column) : column);

    return column < 0 ? cad_strdup(out, c.text ? c.text : "") : cadp_last_answer(c.text, out);
}

typedef struct ending { cad_run *r; const char *dir; char **after; figures base, tuned; double loss; int64_t tokens; cad_str mark; } ending;

static cad_status measure(ending *e)
{
    CAD_TRY(cad_template_mark(e->r->form, &e->mark));
    for (int64_t i = 0; i < e->r->facts.samples; i++) {
        char *wanted;
        cad_status status;
        CAD_TRY(wanted_text(e->r, i, &wanted));
        status = compare(e->r->before[i], wanted, e->mark.data, &e->base);
        if (!status) status = compare(e->after[i], wanted, e->mark.data, &e->tuned);
        cad_free(&wanted);
        CAD_TRY(status);
    }
    return CAD_OK;
}

static cad_status write_text(const ending *e, const char *name, const cad_str *text)
{
    char *path;
    cad_status status;

    CAD_TRY(cad_mkdirs(e->dir));
    CAD_TRY(cad_path_join(&path, e->dir, name));
    status = cad_write_file(path, text->data, text->size);
    cad_free(&path);
    return status;
}

static cad_status put_figures(cad_json *j, const char *key, double loss, const figures *f, int64_t n)
{
    CAD_TRY(cad_json_begin(j, key, '{'));
    CAD_TRY(cad_json_real(j, "mean_log_likelihood", -loss));
    CAD_TRY(cad_json_real(j, "perplexity", exp(loss)));
    if (n) CAD_TRY(cad_json_real(j, "rouge_l", f->rouge_l / (double)n));
    if (n) CAD_TRY(cad_json_real(j, "exact_match", (double)f->exact / (double)n));
    return cad_json_end(j);
}

static cad_status put_metrics(const ending *e, cad_json *j)
{
    const cad_run *r = e->r;

    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_real(j, "loss", e->loss));
    CAD_TRY(cad_json_real(j, "perplexity", exp(e->loss)));
    CAD_TRY(cad_json_int(j, "n", held_out(r)->count));
    CAD_TRY(cad_json_int(j, "tokens", e->tokens));
    CAD_TRY(cad_json_int(j, "samples", r->facts.samples));
    if (r->facts.samples) CAD_TRY(put_figures(j, "before", r->loss_before, &e->base, r->facts.samples));
    CAD_TRY(put_figures(j, "after", e->loss, &e->tuned, r->facts.samples));
    return cad_json_end(j);
}

static cad_status write_metrics(const ending *e)
{
    cad_json j = {.pretty = true};
    cad_status status = put_metrics(e, &j);

    if (!status) status = cad_str_add(&j.text, "\n", 1);
    if (!status) status = write_text(e, "metrics.json", &j.text);
    cad_json_close(&j);
    return status;
}

static cad_status put_sample(const ending *e, int64_t i, cad_json *j)
{
    cad_run *r = e->r;
    char *wanted;
    cad_status status;

    CAD_TRY(cad_json_begin(j, NULL, '{'));
    CAD_TRY(cad_json_int(j, "index", r->asked[i]));
    CAD_TRY(wanted_text(r, i, &wanted));
    status = r->o->predictions_include_input ? cad_json_string(j, "response", wanted) : CAD_OK;
    cad_free(&wanted);
    CAD_TRY(status);
    CAD_TRY(cad_json_string(j, "before", r->before[i]));
    CAD_TRY(cad_json_string(j, "after", e->after[i]));
    return cad_json_end(j);
}

static cad_status write_samples(const ending *e)
{
    cad_str all = {0};
    cad_status status = CAD_OK;

    for (int64_t i = 0; i < e->r->facts.samples && !status; i++) {
        cad_json j = {0};
        status = put_sample(e, i, &j);
        if (!status) status = cad_str_addf(&all, "%s\n", j.text.data);
        cad_json_close(&j);
    }
    if (!status && e->r->facts.samples) status = write_text(e, "samples.jsonl", &all);
    cad_str_close(&all);
    return status;
}

static cad_status add_escaped(cad_str *s, const char *text)
{
    for (; *text; text++) {
        bool shown = (unsigned char)*text >= ' ' || *text == '\n' || *text == '\t';
        const char *as = *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : *text == '&' ? "&amp;" : shown ? NULL : "\xef\xbf\xbd";
        CAD_TRY(as ? cad_str_add(s, as, strlen(as)) : cad_str_add(s, text, 1));
    }
    return CAD_OK;
}

static cad_status add_row(cad_str *s, const char *name, double before, double after)
{
    CAD_TRY(cad_str_addf(s, "<tr><th>%s</th>", name));
    for (int i = 0; i < 2; i++) CAD_TRY(isnan(i ? after : before) ? cad_str_addf(s, "<td>-</td>") : cad_str_addf(s, "<td>%.4f</td>", i ? after : before));
    return cad_str_addf(s, "</tr>\n");
}

static cad_status add_table(cad_str *s, const ending *e)
{
    double n = (double)e->r->facts.samples, none = NAN, before = e->r->facts.samples ? e->r->loss_before : NAN;

    CAD_TRY(cad_str_addf(s, "<table><tr><th></th><th>before</th><th>after</th></tr>\n"));
    CAD_TRY(add_row(s, "mean log-likelihood", -before, -e->loss));
    CAD_TRY(add_row(s, "perplexity", exp(before), exp(e->loss)));
    CAD_TRY(add_row(s, "ROUGE-L of final answers", n > 0 ? e->base.rouge_l / n : none, n > 0 ? e->tuned.rouge_l / n : none));
    CAD_TRY(add_row(s, "exact match of final answers", n > 0 ? (double)e->base.exact / n : none, n > 0 ? (double)e->tuned.exact / n : none));
    return cad_str_addf(s, "</table>\n");
}

static cad_status add_said(cad_str *s, const char *text)
{
    CAD_TRY(cad_str_addf(s, "<td class=\"text\"><pre>"));
    CAD_TRY(add_escaped(s, text));
    return cad_str_addf(s, "</pre></td>");
}

/* The question as the model was given it, and the answer of the record. */
static cad_status add_asked(cad_str *s, const ending *e, int64_t i)
{
    const cadp_prompts *p = &e->r->prompts;
    cad_str asked = {0};
    char *wanted = NULL;
    cad_status status = cad_tokenizer_decode(e->r->tokenizer, p->ids + p->starts[i], p->starts[i + 1] - p->starts[i], &asked);

    if (!status) status = wanted_text(e->r, i, &wanted);
    if (!status) status = add_said(s, asked.data ? asked.data : "");
    if (!status) status = add_said(s, wanted);
    cad_str_close(&asked);
    cad_free(&wanted);
    return status;
}

static cad_status add_answers(cad_str *s, const ending *e)
{
    bool asked = e->r->o->predictions_include_input;

    if (!e->r->facts.samples) return CAD_OK;
    CAD_TRY(cad_str_addf(s, "<section><h2>Answers to the same held-out questions</h2>\n"));
    if (!asked) CAD_TRY(cad_str_addf(s, "<p class=\"lead\">Records by their number in the file; predictions_include_input true writes questions and expected answers beside them.</p>\n"));
    CAD_TRY(cad_str_addf(s, "<table class=\"answers%s\"><tr><th>record</th>%s<th>before</th><th>after</th></tr>\n", asked ? " asked" : "", asked ? "<th>question</th><th>expected</th>" : ""));
    for (int64_t i = 0; i < e->r->facts.samples; i++) {
        CAD_TRY(cad_str_addf(s, "<tr><td class=\"text\">%lld</td>", (long long)e->r->asked[i]));
        if (asked) CAD_TRY(add_asked(s, e, i));
        CAD_TRY(add_said(s, e->r->before[i]));
        CAD_TRY(add_said(s, e->after[i]));
        CAD_TRY(cad_str_addf(s, "</tr>\n"));
    }
    return cad_str_addf(s, "</table></section>\n");
}

static cad_status add_memory(cad_str *s, const cad_run *r)
{
    if (!r->held_count) return CAD_OK;
    CAD_TRY(cad_str_addf(s, "<section><h2>Device memory after loading</h2>\n<table><tr><th>rank</th><th>held, MiB</th><th>planned for the largest rank, MiB</th></tr>\n"));
    for (int i = 0; i < r->held_count; i++) CAD_TRY(cad_str_addf(s, "<tr><td>%d</td><td>%.1f</td><td>%.1f</td></tr>\n", i, r->held[i] / 0x1p20, (double)r->planned / 0x1p20));
    return cad_str_addf(s, "</table></section>\n");
}

static cad_status add_sections(cad_str *s, const ending *e)
{
    CAD_TRY(cad_str_addf(s, "<section><h2>Before and after</h2>\n"));
    CAD_TRY(add_table(s, e));
    CAD_TRY(cad_str_addf(s, "</section>\n"));
    CAD_TRY(add_answers(s, e));
    return add_memory(s, e->r);
}

static cad_status write_page(const ending *e)
{
    const cad_run *r = e->r;
    const cad_number facts[] = {{"held-out records", (double)held_out(r)->count, true}, {"tokens learned or scored in them", (double)e->tokens, true}, {"records answered", (double)r->facts.samples, true},
                                {"trainable parameters", (double)r->params->trainable, true}, {"all parameters", (double)r->params->all, true}, {"training rows", (double)r->facts.train_rows, true},
                                {"optimizer steps", (double)r->step, true}, {"ranks", (double)r->size, true}};
    cad_report page = {.title = "Answers before and after", .facts = facts, .fact_count = (int)(sizeof facts / sizeof *facts)};
    cad_str s = {0};
    char *path = NULL;
    cad_status status = add_sections(&s, e);

    page.sections = s.data;
    if (!status) status = cad_mkdirs(e->dir);
    if (!status) status = cad_path_join(&path, e->dir, "report.html");
    if (!status) status = cadp_write_page(r, path, &page);
    cad_free(&path);
    cad_str_close(&s);
    return status;
}

static cad_status keep_results(const ending *e)
{
    cad_run *r = e->r;
    double n = (double)r->facts.samples;

    CAD_TRY(cad_str_addf(&r->results, "| %s | %lld records: ", r->test.count ? "test" : "held-out records", (long long)held_out(r)->count));
    if (n > 0) CAD_TRY(cad_str_addf(&r->results, "perplexity %.4f before and %.4f after; %lld answers: exact match %.4f and %.4f, ROUGE-L %.4f and %.4f |\n", exp(r->loss_before), exp(e->loss), (long long)r->facts.samples,
                                    (double)e->base.exact / n, (double)e->tuned.exact / n, e->base.rouge_l / n, e->tuned.rouge_l / n));
    else CAD_TRY(cad_str_addf(&r->results, "perplexity %.4f |\n", exp(e->loss)));
    return CAD_OK;
}

static cad_status write_all(ending *e)
{
    CAD_TRY(measure(e));
    CAD_TRY(write_metrics(e));
    CAD_TRY(write_samples(e));
    CAD_TRY(keep_results(e));
    cad_info("test: %lld records, mean log-likelihood %.4f, perplexity %.4f", (long long)held_out(e->r)->count, -e->loss, exp(e->loss));
    if (e->r->facts.samples)
        cad_info("test: %lld answers, exact match %.1f %% before and %.1f %% after, ROUGE-L %.3f and %.3f", (long long)e->r->facts.samples, 100.0 * (double)e->base.exact / (double)e->r->facts.samples,
                 100.0 * (double)e->tuned.exact / (double)e->r->facts.samples, e->base.rouge_l / (double)e->r->facts.samples, e->tuned.rouge_l / (double)e->r->facts.samples);
    return write_page(e);
}

cad_status cadp_sft_finish(cad_run *r, const char *dir)
{
    ending e = {.r = r, .dir = dir};
    cad_status status = cad_comm_agree(r->comm, cad_alloc(&e.after, (size_t)r->facts.samples, sizeof *e.after, "answers"));

    if (!status) status = held_out_loss(r, &e.loss, &e.tokens);
    if (!status && r->facts.samples) status = cad_comm_agree(r->comm, answer_all(r, e.after));
    if (!status) status = cad_comm_agree(r->comm, r->rank ? CAD_OK : write_all(&e));
    for (int64_t i = 0; e.after && i < r->facts.samples; i++) cad_free(&e.after[i]);
    cad_free(&e.after);
    cad_str_close(&e.mark);
    return status;
}
