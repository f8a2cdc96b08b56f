#include "golden.h"

#include <cadtrain/data.h>

#include <fcntl.h>
#include <sys/stat.h>

/* A tokenizer of bytes in place of the real one: id = byte, 256 in front where it adds special tokens. */
struct cad_tokenizer { bool special; const char *digest; };
static int encodings;

const char *cad_tokenizer_digest(const cad_tokenizer *t) { return t->digest; }

cad_status cad_tokenizer_encode_all(const cad_tokenizer *t, const char *const *texts, const size_t *sizes, int64_t count, int64_t longest, bool keep_left, int threads,
                                    cad_ids *ids, int64_t *starts, bool *cut, void (*progress)(void *with, int64_t done), void *with)
{
    (void)threads;
    (void)progress;
    (void)with;
    encodings++;
    starts[0] = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t room = longest > 0 ? longest - t->special : INT64_MAX, n = cad_min((int64_t)sizes[i], room), from = keep_left ? 0 : (int64_t)sizes[i] - n;
        CAD_TRY(cad_grow(&ids->data, (size_t)(ids->count + n + 1), sizeof *ids->data, "ids"));
        if (t->special) ids->data[ids->count++] = 256;
        for (int64_t k = 0; k < n; k++) ids->data[ids->count++] = (unsigned char)texts[i][from + k];
        if (cut) cut[i] = n < (int64_t)sizes[i];
        starts[i + 1] = ids->count;
    }
    return CAD_OK;
}

static const cad_tokenizer bytes = {false, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"};
static const cad_tokenizer with_special = {true, "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"};
static char folder[64];

static const char *file_of(const char *name, const char *text)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(cad_write_file(path, text, strlen(text)), CAD_OK);
    return path;
}

static cad_dataset_options options(const char *path)
{
    return (cad_dataset_options){.path = path, .input_column = "input", .label_column = "output", .label_needed = true, .max_length = 4, .truncation = true,
                                 .keep_left = true, .threads = 1, .vocabulary = 257};
}

static cad_dataset *open_dataset(const cad_tokenizer *t, const cad_dataset_options *o)
{
    cad_dataset *d;

    if (cad_dataset_open(&d, t, o)) fail_msg("%s", cad_reason());
    return d;
}

static void assert_refused(const char *name, const char *text, const cad_dataset_options *like, cad_status status, const char *part)
{
    cad_dataset_options o = *like;
    cad_dataset *d;

    cad_clear();
    o.path = file_of(name, text);
    assert_int_equal(cad_dataset_open(&d, &bytes, &o), status);
    assert_null(d);
    if (!strstr(cad_reason(), part)) fail_msg("\"%s\" does not say \"%s\"", cad_reason(), part);
    assert_null(strstr(cad_reason(), "SECRET"));
    assert_null(strstr(cad_advice(), "SECRET"));
}

static void labels_may_be_integers_or_their_texts(void **state)
{
    static const int32_t want[] = {0, 1, 1, 0, 1, 0, 1, 1, 0};
    cad_dataset_options o = options(file_of("a.json", "[{\"input\":\"abcdef\",\"output\":0},{\"input\":\"ab\",\"output\":1},{\"input\":\"cdefg\",\"output\":\"1\"},"
                                                      "{\"input\":\"a\",\"output\":\"0\"},{\"input\":\"b\",\"output\":true},{\"input\":\"c\",\"output\":false},"
                                                      "{\"input\":\"d\",\"output\":1.0},{\"input\":\"e\",\"output\":\" 1.0\"},{\"input\":\"fffff\",\"output\":0.0}]"));
    cad_dataset *d = open_dataset(&bytes, &o);

    (void)state;
    assert_int_equal(d->count, 9);
    assert_memory_equal(d->labels, want, sizeof want);
    assert_int_equal(d->count_by_label[0], 4);
    assert_int_equal(d->count_by_label[1], 5);
    assert_int_equal(d->cut_by_label[0], 2);
    assert_int_equal(d->cut_by_label[1], 1);
    assert_int_equal(d->longest, 4);
    assert_true(d->cut[0] && !d->cut[1] && d->cut[2]);
    assert_int_equal(d->starts[1], 4);
    assert_int_equal(d->ids[3], 'd');
    assert_false(d->from_cache);
    assert_non_null(d->rows_file);
    cad_dataset_close(&d);
    assert_null(d);
}

static void the_cut_follows_its_side_or_is_left_out(void **state)
{
    cad_dataset_options o = options(file_of("b.csv", "input,output\nabcdef,1\n"));
    cad_dataset *d;

    (void)state;
    o.keep_left = false;
    d = open_dataset(&bytes, &o);
    assert_int_equal(d->ids[0], 'c');
    cad_dataset_close(&d);
    o.truncation = false;
    d = open_dataset(&bytes, &o);
    assert_int_equal(d->longest, 6);
    assert_false(d->cut[0]);
    cad_dataset_close(&d);
}

static void wrong_labels_are_refused_by_line_and_never_quoted(void **state)
{
    cad_dataset_options o = options(NULL);

    (void)state;
    assert_refused("c.jsonl", "{\"input\":\"a\",\"output\":1}\n{\"input\":\"a\",\"output\":\"SECRET\"}\n", &o, CAD_EDATA, "c.jsonl:2: column \"output\": expected the label 0 or 1");
    assert_refused("c.jsonl", "{\"input\":\"a\",\"output\":2}\n{\"input\":\"a\"}\n", &o, CAD_EDATA, "c.jsonl:1:");
    assert_non_null(strstr(cad_advice(), "2 of 2 rows"));
    assert_refused("c.jsonl", "{\"input\":\"a\",\"output\":1}\n{\"input\":\"a\",\"output\":null}\n", &o, CAD_EDATA, "found null");
    assert_refused("c.jsonl", "{\"input\":\"a\",\"output\":0.5}\n", &o, CAD_EDATA, "another number");
    assert_refused("c.jsonl", "{\"input\":\"a\",\"output\":\"\"}\n", &o, CAD_EDATA, "expected the label");
    assert_refused("c.jsonl", "{\"input\":\"a\",\"output\":\"01\"}\n", &o, CAD_EDATA, "expected the label");
    assert_refused("c.jsonl", "{\"input\":\"a\",\"output\":\"1.\"}\n", &o, CAD_EDATA, "expected the label");
    assert_refused("c.jsonl", "{\"input\":\"a\",\"output\":[1]}\n", &o, CAD_EDATA, "a list or table");
    assert_refused("c.jsonl", "{\"input\":[\"SECRET\"],\"output\":1}\n", &o, CAD_EDATA, "expected a text, found a list or table");
    assert_refused("c.jsonl", "{\"input\":null,\"output\":1}\n", &o, CAD_EDATA, "expected a text, found null");
}

static void a_missing_column_is_named_with_its_nearest(void **state)
{
    cad_dataset_options o = options(NULL);

    (void)state;
    assert_refused("d.jsonl", "{\"inptu\":\"a\",\"output\":1}\n", &o, CAD_EDATA, "no column \"input\"; the nearest name is \"inptu\"");
    assert_refused("d.csv", "input,ouput,row\na,1,2\n", &o, CAD_EDATA, "no column \"output\"; the nearest name is \"ouput\"");
    assert_refused("d.csv", "\"a man of 61 who smokes\",1\n\"a woman of 58\",0\n", &o, CAD_EDATA, "there is no column \"output\" among its 2");
}

static void without_a_need_for_labels_any_row_is_scored(void **state)
{
    cad_dataset_options o = options(file_of("e.jsonl", "{\"input\":\"a\"}\n{\"input\":\"b\",\"output\":\"maybe\"}\n{\"input\":\"c\",\"output\":1}\n"));
    cad_dataset *d;

    (void)state;
    o.label_needed = false;
    d = open_dataset(&bytes, &o);
    assert_true(d->labels[0] == -1 && d->labels[1] == -1 && d->labels[2] == 1);
    assert_int_equal(d->count_by_label[0] + d->count_by_label[1], 1);
    cad_dataset_close(&d);
    o.label_column = NULL;
    d = open_dataset(&bytes, &o);
    assert_int_equal(d->labels[2], -1);
    cad_dataset_close(&d);
}

static void an_empty_text_needs_special_tokens(void **state)
{
    cad_dataset_options o = options(NULL);
    cad_dataset *d;

    (void)state;
    assert_refused("f.jsonl", "{\"input\":\"a\",\"output\":1}\n{\"input\":\"\",\"output\":1}\n", &o, CAD_EDATA, "f.jsonl:2: column \"input\": expected a text, found an empty one");
    o.path = file_of("f.jsonl", "{\"input\":\"\",\"output\":1}\n");
    cad_clear();
    d = open_dataset(&with_special, &o);
    assert_int_equal(d->starts[1], 1);
    cad_dataset_close(&d);
}

static void ids_beyond_the_model_are_refused(void **state)
{
    cad_dataset_options o = options(NULL);

    (void)state;
    o.vocabulary = 'c';
    assert_refused("g.jsonl", "{\"input\":\"abc\",\"output\":1}\n", &o, CAD_EMODEL, "the id 99, the model has 99 embeddings");
}

/* ---- cache ---- */

static const char *cache_file(const cad_dataset *d)
{
    static char path[256];

    snprintf(path, sizeof path, "%s/cache/%s.tokens", folder, d->digest);
    return path;
}

static cad_dataset_options cached_options(const char *path)
{
    static char dir[96];
    cad_dataset_options o = options(path);

    snprintf(dir, sizeof dir, "%s/cache", folder);
    o.cache_dir = dir;
    return o;
}

static void assert_same(const cad_dataset *a, const cad_dataset *b)
{
    size_t n = (size_t)a->count;

    assert_int_equal(a->count, b->count);
    assert_string_equal(a->digest, b->digest);
    assert_memory_equal(a->labels, b->labels, n * sizeof *a->labels);
    assert_memory_equal(a->starts, b->starts, (n + 1) * sizeof *a->starts);
    assert_memory_equal(a->ids, b->ids, (size_t)a->starts[n] * sizeof *a->ids);
    assert_memory_equal(a->cut, b->cut, n);
    assert_memory_equal(a->count_by_label, b->count_by_label, sizeof a->count_by_label);
    assert_memory_equal(a->cut_by_label, b->cut_by_label, sizeof a->cut_by_label);
    assert_int_equal(a->longest, b->longest);
}

static const char *const records = "{\"input\":\"abcdef\",\"output\":1}\n{\"input\":\"xy\",\"output\":0}\n{\"input\":\"z\",\"output\":\"1\"}\n";

static void the_second_opening_takes_the_tokens_from_the_cache(void **state)
{
    cad_dataset_options o = cached_options(file_of("h.jsonl", records));
    cad_dataset *first = open_dataset(&bytes, &o), *second, *third;
    int before = encodings;
    struct stat s;

    (void)state;
    assert_false(first->from_cache);
    assert_int_equal(stat(cache_file(first), &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    second = open_dataset(&bytes, &o);
    o.forget_text = true;
    third = open_dataset(&bytes, &o);
    assert_true(second->from_cache && third->from_cache);
    assert_int_equal(encodings, before);
    assert_same(first, second);
    assert_same(first, third);
    assert_non_null(second->rows_file);
    assert_null(third->rows_file);
    cad_dataset_close(&first);
    cad_dataset_close(&second);
    cad_dataset_close(&third);
}

static void whatever_decides_the_ids_is_in_the_key(void **state)
{
    enum { KINDS = 7 };
    cad_dataset *d[KINDS];

    (void)state;
    for (int k = 0; k < KINDS; k++) {
        cad_dataset_options o = cached_options(file_of("i.jsonl", k == 1 ? "{\"input\":\"abcdef\",\"output\":1}\n" : records));
        if (k == 2) o.max_length = 3;
        if (k == 3) o.keep_left = false;
        if (k == 4) o.truncation = false;
        if (k == 5) o.label_needed = false;
        d[k] = open_dataset(k == 6 ? &with_special : &bytes, &o);
        for (int before = 0; before < k; before++) assert_string_not_equal(d[before]->digest, d[k]->digest);
    }
    for (int k = 0; k < KINDS; k++) cad_dataset_close(&d[k]);
}

static void spoil(const char *path, size_t size, int64_t at, bool shorten)
{
    char *text;
    size_t n;
    FILE *f;

    assert_int_equal(cad_read_file(&text, &n, path, 1 << 20, CAD_EDATA), CAD_OK);
    assert_int_equal(n, size);
    if (!shorten) text[at] ^= 1;
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, shorten ? (size_t)at : n, f), shorten ? (size_t)at : n);
    assert_int_equal(fclose(f), 0);
    cad_free(&text);
}

static void a_damaged_cache_is_made_again_whatever_the_damage(void **state)
{
    cad_dataset_options o = cached_options(file_of("j.jsonl", records));
    cad_dataset *good = open_dataset(&bytes, &o), *again;
    struct stat s;
    char path[256];

    (void)state;
    cad_log_setup(0, 1, CAD_LOG_ERROR); /* hundreds of warnings are expected here */
    snprintf(path, sizeof path, "%s", cache_file(good));
    assert_int_equal(stat(path, &s), 0);
    for (int shorten = 0; shorten < 2; shorten++)
        for (int64_t at = 0; at < s.st_size; at += at < 112 && !shorten ? 1 : 13) { /* each byte of the head, then here and there */
            spoil(path, (size_t)s.st_size, at, shorten);
            again = open_dataset(&bytes, &o);
            assert_false(again->from_cache);
            assert_same(good, again);
            cad_dataset_close(&again);
        }
    again = open_dataset(&bytes, &o);
    assert_true(again->from_cache);
    assert_string_equal(cad_reason(), "");
    cad_dataset_close(&again);
    cad_dataset_close(&good);
    cad_log_setup(0, 1, CAD_LOG_WARNING);
}

static void a_cache_that_cannot_be_written_does_not_stop_the_run(void **state)
{
    cad_dataset_options o = cached_options(file_of("k.jsonl", records));
    cad_dataset *d;

    (void)state;
    cad_log_setup(0, 1, CAD_LOG_ERROR);
    o.cache_dir = "/proc/nothing/here";
    d = open_dataset(&bytes, &o);
    assert_int_equal(d->count, 3);
    assert_string_equal(cad_reason(), "");
    cad_dataset_close(&d);
    cad_log_setup(0, 1, CAD_LOG_WARNING);
}

static void no_failed_allocation_leaks(void **state)
{
    cad_dataset_options o = options(file_of("l.jsonl", records));
    cad_dataset *d = NULL;
    int64_t nth = 0;

    (void)state;
    do {
        cad_clear();
        cad_mem_fail_at(++nth);
    } while (cad_dataset_open(&d, &bytes, &o) && !d && cad_mem_blocks() == 0 && nth < 1000);
    cad_mem_fail_at(0);
    assert_non_null(d);
    cad_dataset_close(&d);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/cadtrain-data-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    return cad_remove_tree(folder) != CAD_OK;
}

/* Which ids are given (1) or learned (0), as a text. */
static void assert_given(const cad_dataset *d, int64_t i, const char *want)
{
    char found[64] = "";

    assert_int_equal(d->starts[i + 1] - d->starts[i], strlen(want));
    for (size_t k = 0; k < strlen(want); k++) found[k] = (char)('0' + d->given[d->starts[i] + (int64_t)k]);
    assert_string_equal(found, want);
}

static cad_dataset_options form_options(const char *path, cad_template **form)
{
    cad_dataset_options o = options(path);

    assert_int_equal(cad_template_parse(form, "{question}>{response}", "t"), CAD_OK);
    o.form = *form;
    o.form_text = "{question}>{response}";
    o.columns[CAD_FIELD_QUESTION] = "q";
    o.columns[CAD_FIELD_COT] = "c";
    o.columns[CAD_FIELD_RESPONSE] = "r";
    o.end = ".";
    o.max_length = 64;
    return o;
}

static void what_is_given_is_known_from_either_end(void **state)
{
    cad_template *form;
    cad_dataset_options o = form_options(file_of("given.jsonl", "{\"q\":\"abc\",\"r\":\"de\"}\n"), &form);
    cad_dataset *d = open_dataset(&bytes, &o);

    (void)state;
    assert_given(d, 0, "1111000");
    assert_int_equal(d->answers[0], 4);
    cad_dataset_close(&d);
    o.max_length = 5;
    d = open_dataset(&with_special, &o);
    assert_given(d, 0, "11111");
    cad_dataset_close(&d);
    o.keep_left = false;
    d = open_dataset(&with_special, &o); /* 256 > d e . : the token in front stands in the place of a byte */
    assert_given(d, 0, "11000");
    assert_int_equal(d->answers[0], 2);
    cad_dataset_close(&d);
    cad_template_close(&form);
}

static cad_status shout(void *with, const char *said, size_t n, cad_str *out)
{
    (void)with;
    return cad_str_addf(out, "<%.*s>", (int)n, said);
}

/* The text is "uAAuuBB" whatever is said. */
static cad_status two_answers(void *with, const char *messages, cad_str *out, cad_cuts *cuts)
{
    static const size_t at[] = {1, 3, 5, 7};

    if (strstr(messages, "SECRET")) return cad_fail(CAD_EDATA, "expected something else");
    assert_ptr_equal(with, NULL);
    CAD_TRY(cad_grow(&cuts->at, (size_t)cuts->count + 4, sizeof *cuts->at, "cuts"));
    for (int i = 0; i < 4; i++) cuts->at[cuts->count++] = at[i];
    cuts->room = cuts->count;
    return cad_str_addf(out, "uAAuuBB");
}

static void every_answer_of_a_conversation_is_learned(void **state)
{
    static const cad_chat_form chat = {.ask = shout, .talk = two_answers, .id = "a"};
    cad_template *form;
    cad_dataset_options o = form_options(file_of("talk.jsonl", "{\"messages\":[1]}\n{\"messages\":[2]}\n"), &form);
    cad_dataset *d;

    (void)state;
    o.chat = &chat;
    d = open_dataset(&bytes, &o);
    assert_given(d, 0, "1001100");
    assert_given(d, 1, "1001100");
    assert_int_equal(d->answers[1], 5);
    cad_dataset_close(&d);
    o.max_length = 4;
    d = open_dataset(&bytes, &o);
    assert_given(d, 0, "1001");
    cad_dataset_close(&d);
    o.max_length = 64;
    assert_refused("bad.jsonl", "{\"messages\":[1]}\n{\"messages\":[\"SECRET\"]}\n", &o, CAD_EDATA, "bad.jsonl:2: column \"messages\": expected something else");
    assert_refused("bad.jsonl", "{\"messages\":\"SECRET\"}\n", &o, CAD_EDATA, "bad.jsonl:1: column \"messages\": expected a list of messages");
    cad_clear();
    o.path = file_of("asked.jsonl", "{\"q\":\"a\",\"r\":\"b\"}\n");
    d = open_dataset(&bytes, &o);
    assert_given(d, 0, "111100");
    cad_dataset_close(&d);
    cad_template_close(&form);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_given_is_known_from_either_end),
        cmocka_unit_test(every_answer_of_a_conversation_is_learned),
        CLEAN_TEST(labels_may_be_integers_or_their_texts),
        CLEAN_TEST(the_cut_follows_its_side_or_is_left_out),
        CLEAN_TEST(wrong_labels_are_refused_by_line_and_never_quoted),
        CLEAN_TEST(a_missing_column_is_named_with_its_nearest),
        CLEAN_TEST(without_a_need_for_labels_any_row_is_scored),
        CLEAN_TEST(an_empty_text_needs_special_tokens),
        CLEAN_TEST(ids_beyond_the_model_are_refused),
        CLEAN_TEST(the_second_opening_takes_the_tokens_from_the_cache),
        CLEAN_TEST(whatever_decides_the_ids_is_in_the_key),
        CLEAN_TEST(a_damaged_cache_is_made_again_whatever_the_damage),
        CLEAN_TEST(a_cache_that_cannot_be_written_does_not_stop_the_run),
        CLEAN_TEST(no_failed_allocation_leaks),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
