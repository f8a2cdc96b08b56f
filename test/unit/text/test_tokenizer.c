/* Ids and texts of the tokenizers library (../shared/golden/extra/tokenizers), small files of our own, and files that are refused. */
#include <cadtrain/format.h>
#include <cadtrain/text.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#ifdef __SANITIZE_ADDRESS__
enum { SLOWER = 10 };
#else
enum { SLOWER = 1 };
#endif
enum { LONG = 1000000 };

static const char *shared(void)
{
    const char *s = getenv("CADTRAIN_SHARED");
    return s ? s : "../shared";
}

static char *path_of(const char *format, ...) CAD_PRINTF(1, 2);
static char *path_of(const char *format, ...)
{
    static char path[1024];
    va_list args;
    int n = snprintf(path, sizeof path, "%s/", shared());

    va_start(args, format);
    vsnprintf(path + n, sizeof path - (size_t)n, format, args);
    va_end(args);
    return path;
}

static cad_tokenizer *opened(const char *dir)
{
    cad_tokenizer *t;

    if (cad_tokenizer_open(&t, dir)) fail_msg("%s: %s", dir, cad_reason());
    return t;
}

static bool same_ids(const cad_ids *got, const cad_node *want)
{
    const cad_node *n = want->child;

    if (got->count != want->children) return false;
    for (int64_t i = 0; i < got->count; ++i, n = n->next)
        if (n->integer != got->data[i]) return false;
    return true;
}

static void encode(const cad_tokenizer *t, const char *text, size_t n, bool special, cad_ids *ids)
{
    ids->count = 0;
    if (cad_tokenizer_encode(t, text, n, special, ids)) fail_msg("%s", cad_reason());
}

static void check_row(const cad_tokenizer *t, const cad_node *row, cad_ids *ids, int bad[3])
{
    const cad_node *text = cad_get(row, "text"), *decoded = cad_get(row, "decoded"), *want = cad_get(row, "ids");
    cad_str back = {0};

    encode(t, text->text, text->size, true, ids);
    bad[0] += !same_ids(ids, want);
    encode(t, text->text, text->size, false, ids);
    bad[1] += !same_ids(ids, cad_get(row, "ids_plain"));
    ids->count = 0;
    for (const cad_node *n = want->child; n; n = n->next) {
        if (ids->count == ids->room) assert_int_equal(cad_grow(&ids->data, (size_t)(ids->room = 2 * ids->room + 64), sizeof *ids->data, "ids"), CAD_OK);
        ids->data[ids->count++] = (int32_t)n->integer;
    }
    assert_int_equal(cad_tokenizer_decode(t, ids->data, ids->count, &back), CAD_OK);
    bad[2] += back.size != decoded->size || memcmp(back.data, decoded->text, back.size);
    cad_str_close(&back);
}

static void check_lines(const cad_tokenizer *t, const char *name)
{
    char *text;
    size_t size;
    int rows = 0, bad[3] = {0};
    cad_ids ids = {0};

    if (cad_read_file(&text, &size, path_of("golden/extra/tokenizers/%s.jsonl", name), 1 << 28, CAD_EDATA)) fail_msg("%s", cad_reason());
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1, ++rows) {
        cad_tree *tree;
        if (cad_json_parse(&tree, line, (size_t)(end - line), name, CAD_EDATA)) fail_msg("%s", cad_reason());
        check_row(t, tree->root, &ids, bad);
        cad_tree_close(&tree);
    }
    print_message("%s: of %d lines %d ids, %d plain, %d decoded differ\n", name, rows, bad[0], bad[1], bad[2]);
    assert_int_equal(rows, 400);
    assert_int_equal(bad[0] + bad[1] + bad[2], 0);
    cad_free(&text);
    cad_free(&ids.data);
}

static void check_documents(const cad_tokenizer *t, const char *name)
{
    cad_tree *texts, *want;
    cad_ids ids = {0};
    int bad = 0, documents = 0;
    const cad_node *w;

    assert_int_equal(cad_json_read(&texts, path_of("golden/extra/tokenizers/documents.json"), 1 << 28, CAD_EDATA), CAD_OK);
    assert_int_equal(cad_json_read(&want, path_of("golden/extra/tokenizers/%s.documents.json", name), 1 << 28, CAD_EDATA), CAD_OK);
    w = want->root->child;
    for (const cad_node *n = texts->root->child; n; n = n->next, w = w->next, ++documents) {
        const cad_node *text = n->kind == CAD_TABLE ? cad_get(n, "text") : n;
        const char *sum = "";
        char hex[65];
        cad_sha256 s;
        assert_non_null(w);
        encode(t, text->text, text->size, false, &ids);
        cad_sha256_begin(&s);
        cad_sha256_add(&s, ids.data, (size_t)ids.count * 4);
        cad_sha256_end(&s, hex);
        bad += !cad_get_string(w, "sha256_i32le", &sum, "") || strcmp(sum, hex);
    }
    print_message("%s: of %d documents %d differ\n", name, documents, bad);
    assert_int_equal(documents, 60);
    assert_int_equal(bad, 0);
    cad_free(&ids.data);
    cad_tree_close(&texts);
    cad_tree_close(&want);
}

static char unpacked[64], scratch[64];

static int unpack(void **state)
{
    char command[2048];

    (void)state;
    if (access(path_of("tokenizers/tokenizers.tar.xz"), R_OK)) return 0;
    snprintf(unpacked, sizeof unpacked, "/tmp/cadtrain-text-XXXXXX");
    if (!mkdtemp(unpacked)) return -1;
    snprintf(command, sizeof command, "tar xJf '%s' -C '%s'", path_of("tokenizers/tokenizers.tar.xz"), unpacked);
    return system(command);
}

static int tidy(void **state)
{
    (void)state;
    if (*scratch && cad_remove_tree(scratch)) return -1;
    return *unpacked && cad_remove_tree(unpacked) ? -1 : 0;
}

static void real_tokenizer(const char *name)
{
    char dir[128];
    cad_tokenizer *t;

    if (!*unpacked) {
        print_message("no %s; skipped\n", path_of("tokenizers/tokenizers.tar.xz"));
        skip();
    }
    snprintf(dir, sizeof dir, "%s/t/%s", unpacked, name);
    t = opened(dir);
    check_lines(t, name);
    check_documents(t, name);
    cad_tokenizer_close(&t);
    assert_int_equal(cad_mem_blocks(), 0);
}

static void llama3_ids_are_those_of_the_tokenizers_library(void **state) { (void)state, real_tokenizer("llama3"); }
static void qwen2_5_ids_are_those_of_the_tokenizers_library(void **state) { (void)state, real_tokenizer("qwen2_5"); }
static void qwen3_ids_are_those_of_the_tokenizers_library(void **state) { (void)state, real_tokenizer("qwen3"); }
static void llama2_ids_are_those_of_the_tokenizers_library(void **state) { (void)state, real_tokenizer("llama2"); }
static void gemma2_ids_are_those_of_the_tokenizers_library(void **state)
{
    (void)state;
    if (SLOWER > 1) skip(); /* the same parts as gemma3's */
    real_tokenizer("gemma2");
}
static void gemma3_ids_are_those_of_the_tokenizers_library(void **state) { (void)state, real_tokenizer("gemma3"); }

static void bert_ids_are_those_of_the_tokenizers_library(void **state)
{
    char dir[1024];
    cad_tokenizer *t;

    (void)state;
    snprintf(dir, sizeof dir, "%s", path_of("golden/extra/tokenizers/bert_minilm_files"));
    if (!cad_is_dir(dir)) {
        print_message("no %s; skipped\n", dir);
        skip();
    }
    t = opened(dir);
    check_lines(t, "bert_minilm");
    check_documents(t, "bert_minilm");
    cad_tokenizer_close(&t);
}

/* Records and ids of the small models: cut at 96. */
static void check_family(const char *family)
{
    char dir[1024];
    cad_tokenizer *t;
    cad_tree *records, *want;
    const cad_node *w;
    cad_ids ids = {0};
    int bad = 0;

    snprintf(dir, sizeof dir, "%s", path_of("golden/%s/model", family));
    t = opened(dir);
    assert_int_equal(cad_json_read(&records, path_of("golden/%s/records.json", family), 1 << 28, CAD_EDATA), CAD_OK);
    assert_int_equal(cad_json_read(&want, path_of("golden/%s/ids.json", family), 1 << 28, CAD_EDATA), CAD_OK);
    w = want->root->child;
    for (const cad_node *r = records->root->child; r; r = r->next, w = w->next) {
        const cad_node *text = cad_get(r, "input");
        ids.count = 0;
        assert_int_equal(cad_tokenizer_encode_cut(t, text->text, text->size, 96, true, &ids, NULL), CAD_OK);
        bad += !same_ids(&ids, w);
    }
    print_message("%s: of %d records %d differ\n", family, records->root->children, bad);
    assert_int_equal(bad, 0);
    assert_true(cad_tokenizer_pad(t) >= 0);
    cad_free(&ids.data);
    cad_tree_close(&records);
    cad_tree_close(&want);
    cad_tokenizer_close(&t);
}

static void records_of_every_family_have_the_ids_of_the_python_stack(void **state)
{
    static const char *const families[] = {"llama", "llama31", "llama4", "mistral", "gemma2", "gemma3", "qwen2", "qwen3", "bert"};

    (void)state;
    if (!cad_is_dir(path_of("golden/llama"))) {
        print_message("no %s; skipped\n", path_of("golden"));
        skip();
    }
    for (size_t i = 0; i < sizeof families / sizeof families[0]; ++i) check_family(families[i]);
}

/* ---- small files of our own ---- */

static const char data[] = "test/unit/text/data";

static void small_tokenizer(const char *name)
{
    char path[256];
    char *text;
    size_t size;
    int bad[3] = {0};
    cad_tokenizer *t;
    cad_ids ids = {0};

    snprintf(path, sizeof path, "%s/%s", data, name);
    t = opened(path);
    snprintf(path, sizeof path, "%s/%s/vectors.jsonl", data, name);
    assert_int_equal(cad_read_file(&text, &size, path, 1 << 20, CAD_EDATA), CAD_OK);
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        cad_tree *tree;
        assert_int_equal(cad_json_parse(&tree, line, (size_t)(end - line), name, CAD_EDATA), CAD_OK);
        check_row(t, tree->root, &ids, bad);
        cad_tree_close(&tree);
    }
    if (bad[0] + bad[1] + bad[2]) fail_msg("%s: %d ids, %d plain, %d decoded differ", name, bad[0], bad[1], bad[2]);
    cad_free(&text);
    cad_free(&ids.data);
    cad_tokenizer_close(&t);
    assert_int_equal(cad_mem_blocks(), 0);
}

static void every_part_of_a_tokenizer_file_works_as_in_the_tokenizers_library(void **state)
{
    static const char *const names[] = {"gpt2", "llama3", "o200k", "capitals", "split_removed", "split_merged_with_previous", "split_merged_with_next",
                                        "split_contiguous", "split_invert", "legacy", "metaspace_first", "metaspace_always", "metaspace_never", "unknown",
                                        "unknown_fused", "no_unknown", "bert_cased", "bert_uncased"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; ++i) small_tokenizer(names[i]);
}

static void write_in(const char *file, const char *text)
{
    char path[128];

    if (!*scratch) {
        snprintf(scratch, sizeof scratch, "/tmp/cadtrain-text-XXXXXX");
        assert_non_null(mkdtemp(scratch));
    }
    snprintf(path, sizeof path, "%s/%s", scratch, file);
    if (text) assert_int_equal(cad_write_file(path, text, strlen(text)), CAD_OK);
    else unlink(path);
}

/* A whole file with three holes: top-level entries, entries of the model, merges. */
static const char *file_of(const char *top, const char *model, const char *merges)
{
    static char text[4096];

    snprintf(text, sizeof text,
             "{\"version\": \"1.0\", %s \"model\": {\"type\": \"BPE\", %s \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, \"<s>\": 3, \"</s>\": 4}, \"merges\": [%s]}}", top,
             model, merges);
    return text;
}

#define ADDED "\"added_tokens\": [{\"id\": 3, \"content\": \"<s>\", \"special\": true}, {\"id\": 4, \"content\": \"</s>\", \"special\": true}],"
#define TEMPLATE \
    "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", " \
    "\"type_id\": 0}}], \"pair\": [], \"special_tokens\": {\"<s>\": {\"id\": \"<s>\", \"ids\": [3], \"tokens\": [\"<s>\"]}}},"

static void refused(const char *text, const char *why)
{
    cad_tokenizer *t;
    cad_status status;

    write_in("tokenizer.json", text);
    status = cad_tokenizer_open(&t, scratch);
    if (status != CAD_EMODEL || !strstr(cad_reason(), why) || !strstr(cad_reason(), "tokenizer"))
        fail_msg("status %d, reason \"%s\", which does not say \"%s\"", (int)status, cad_reason(), why);
    assert_null(t);
    cad_clear();
    assert_int_equal(cad_mem_blocks(), 0);
}

static void corrupt_files_are_refused_with_a_sentence(void **state)
{
    (void)state;
    refused("", "expected");
    refused("[]", "expected a table");
    refused("{}", "tokenizer.model");
    refused("{\"model\": {\"type\": \"BPE\", \"merges\": []}}", "model.vocab");
    refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": []}}", "model.vocab");
    refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}}}", "model.merges");
    refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []}}", "found 0 once more");
    refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}}", "expected an id");
    refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 99999999999}, \"merges\": []}}", "expected an id");
    refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": \"0\"}, \"merges\": []}}", "found a string");
    refused("{\"model\": {\"type\": \"WordLevel\", \"vocab\": []}}", "WordLevel, which is not implemented");
    refused("{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}", "a list of pieces");
    refused("{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", NaN]]}}", "a piece and its score");
    refused("{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", -1.5], [\"a\", 0]]}}", "pieces that differ");
    refused("{\"model\": {\"type\": \"Unigram\", \"unk_id\": 1, \"vocab\": [[\"a\", -1.5]]}}", "unk_id");
    refused("{\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"?\"}, \"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", 1]]}}", "base64");
    refused("{\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"/////w==\"}, \"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", 1]]}}", "a table and its texts");
    refused(file_of("", "", "\"a c\""), "\"c\", which is none");
    refused(file_of("", "", "\"b a\""), "\"ba\", which is none");
    refused(file_of("", "", "\"a\""), "a merge of two tokens");
    refused(file_of("", "", "\"a b c\""), "a merge of two tokens");
    refused(file_of("", "", "[\"a\"]"), "a merge of two tokens");
    refused(file_of("", "", "[\"a\", \"\"]"), "a merge of two tokens");
    refused(file_of("", "", "[\"\", \"ab\"]"), "a merge of two tokens"); /* would be a merge of "ab" into itself */
    refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1000000000}, \"merges\": []}}", "expected an id from 0 to 16777215");
    refused(file_of("", "", "7"), "a merge of two tokens");
    refused(file_of("", "\"unk_token\": \"nope\",", ""), "unk_token \"nope\"");
    refused(file_of("", "\"dropout\": 0.1,", ""), "dropout, which is not implemented");
    refused(file_of("", "\"end_of_word_suffix\": \"</w>\",", ""), "end_of_word_suffix, which is not implemented");
    refused(file_of("\"normalizer\": {\"type\": \"NFKC\"},", "", ""), "NFKC, which is not implemented");
    refused(file_of("\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"Regex\": \"a\"}, \"content\": \"\"},", "", ""), "regular expression");
    refused(file_of("\"normalizer\": {\"type\": \"Replace\", \"content\": \"\"},", "", ""), "normalizer.pattern");
    refused(file_of("\"pre_tokenizer\": {\"type\": \"Digits\"},", "", ""), "Digits, which is not implemented");
    refused(file_of("\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(a\"}, \"behavior\": \"Isolated\"},", "", ""), "regular expression");
    refused(file_of("\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"a\"}, \"behavior\": \"Odd\"},", "", ""), "Odd, which is not implemented");
    refused(file_of("\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"ab\"},", "", ""), "one character");
    refused(file_of("\"pre_tokenizer\": {\"type\": \"Sequence\"},", "", ""), "pre_tokenizer.pretokenizers");
    refused(file_of("\"pre_tokenizer\": 3,", "", ""), "expected a table");
    refused(file_of("\"decoder\": {\"type\": \"CTC\"},", "", ""), "CTC, which is not implemented");
    refused(file_of("\"post_processor\": {\"type\": \"Odd\"},", "", ""), "Odd, which is not implemented");
    refused(file_of("\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": []},", "", ""), "without one text");
    refused(file_of("\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"x\"}}]},", "", ""), "ids of \"x\"");
    refused(file_of("\"added_tokens\": [{\"id\": 1, \"content\": \"x\"}],", "", ""), "expected id 5 for added token \"x\"");
    refused(file_of("\"added_tokens\": [{\"id\": 1, \"content\": \"a\"}],", "", ""), "expected id 0 for added token \"a\"");
    refused(file_of("\"added_tokens\": [{\"id\": 5, \"content\": \"\"}],", "", ""), "added_tokens.content");
    refused(file_of("\"added_tokens\": [{\"content\": \"x\"}],", "", ""), "added_tokens.id");
    refused(file_of("\"added_tokens\": [{\"id\": 0, \"content\": \"a\"}, {\"id\": 0, \"content\": \"a\"}],", "", ""), "found two of the same text");
    write_in("tokenizer.json", NULL);
    assert_int_equal(cad_tokenizer_open(&(cad_tokenizer *){0}, scratch), CAD_EMODEL);
    cad_clear();
    assert_int_equal(cad_mem_blocks(), 0);
}

static void expect_ids(const cad_tokenizer *t, const char *text, const char *want)
{
    cad_ids ids = {0};
    cad_str got = {0};

    encode(t, text, strlen(text), true, &ids);
    for (int64_t i = 0; i < ids.count; ++i) assert_int_equal(cad_str_addf(&got, "%s%d", i ? " " : "", ids.data[i]), CAD_OK);
    assert_string_equal(got.data, want);
    cad_str_close(&got);
    cad_free(&ids.data);
}

static cad_tokenizer *small_with(const char *config)
{
    write_in("tokenizer.json", file_of(ADDED TEMPLATE, "", "\"a b\""));
    write_in("tokenizer_config.json", config);
    return opened(scratch);
}

static void tokenizer_config_decides_begin_end_and_padding(void **state)
{
    cad_tokenizer *t = small_with(NULL);

    (void)state;
    expect_ids(t, "ab", "3 2");
    assert_int_equal(cad_tokenizer_pad(t), -1);
    assert_int_equal(cad_tokenizer_size(t), 5);
    assert_int_equal(cad_tokenizer_id(t, "ab"), 2);
    assert_int_equal(cad_tokenizer_id(t, "nope"), -1);
    assert_int_equal(strlen(cad_tokenizer_digest(t)), 64);
    cad_tokenizer_close(&t);
    t = small_with("{\"pad_token\": {\"content\": \"</s>\"}, \"bos_token\": \"<s>\"}");
    expect_ids(t, "ab", "3 2");
    assert_int_equal(cad_tokenizer_pad(t), 4);
    cad_tokenizer_close(&t);
    t = small_with("{\"add_bos_token\": false, \"add_eos_token\": true, \"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"pad_token\": \"missing\"}");
    expect_ids(t, "ab", "2 4");
    assert_int_equal(cad_tokenizer_pad(t), -1);
    cad_tokenizer_close(&t);
    t = small_with("{\"add_bos_token\": true}");
    expect_ids(t, "ab", "2");
    cad_tokenizer_close(&t);
    write_in("tokenizer_config.json", "{\"add_bos_token\": true, \"bos_token\": \"missing\"}");
    assert_int_equal(cad_tokenizer_open(&t, scratch), CAD_EMODEL);
    cad_clear();
    write_in("tokenizer_config.json", NULL);
}

static void cutting_leaves_room_for_special_tokens(void **state)
{
    cad_tokenizer *t = small_with("{\"add_bos_token\": true, \"add_eos_token\": true, \"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}");
    cad_ids ids = {0};
    bool cut;

    (void)state;
    assert_int_equal(cad_tokenizer_encode_cut(t, "aabba", 5, 5, true, &ids, &cut), CAD_OK);
    assert_true(cut);
    assert_memory_equal(ids.data, ((int32_t[]){3, 0, 2, 1, 4}), 20);
    ids.count = 0;
    assert_int_equal(cad_tokenizer_encode_cut(t, "aabba", 5, 5, false, &ids, &cut), CAD_OK);
    assert_true(cut);
    assert_memory_equal(ids.data, ((int32_t[]){3, 2, 1, 0, 4}), 20);
    ids.count = 0;
    assert_int_equal(cad_tokenizer_encode_cut(t, "aabba", 5, 6, false, &ids, &cut), CAD_OK);
    assert_false(cut);
    assert_int_equal(ids.count, 6);
    assert_int_equal(cad_tokenizer_encode_cut(t, "aabba", 5, 1, true, &ids, &cut), CAD_EUSAGE);
    cad_clear();
    cad_free(&ids.data);
    cad_tokenizer_close(&t);
    write_in("tokenizer_config.json", NULL);
}

static void text_that_is_no_utf8_is_refused_without_being_quoted(void **state)
{
    cad_tokenizer *t = small_with(NULL);
    cad_ids ids = {0};

    (void)state;
    assert_int_equal(cad_tokenizer_encode(t, "secret\xFF", 7, true, &ids), CAD_EDATA);
    assert_non_null(strstr(cad_reason(), "place 6"));
    assert_null(strstr(cad_reason(), "secret"));
    cad_clear();
    cad_free(&ids.data);
    cad_tokenizer_close(&t);
    assert_int_equal(cad_mem_blocks(), 0);
}

static void note_progress(void *with, int64_t done) { *(int64_t *)with = done; }

static void many_texts_on_many_threads_give_the_ids_of_one(void **state)
{
    enum { TEXTS = 333 };
    static char text[TEXTS][96];
    const char *texts[TEXTS];
    size_t sizes[TEXTS];
    int64_t starts[TEXTS + 1], done = 0;
    bool cut[TEXTS];
    char path[256];
    cad_tokenizer *t;
    cad_ids one = {0}, many = {0};

    (void)state;
    snprintf(path, sizeof path, "%s/llama3", data);
    t = opened(path);
    for (int i = 0; i < TEXTS; ++i) {
        sizes[i] = (size_t)snprintf(text[i], sizeof text[i], "%d patients, %.*s heart attack", i * 37, i % 40, "The systolic blood pressure was at 142 mmHg.");
        texts[i] = text[i];
    }
    for (int threads = 1; threads <= 5; ++threads) {
        many.count = 0;
        assert_int_equal(cad_tokenizer_encode_all(t, texts, sizes, TEXTS, 12, true, threads, &many, starts, cut, note_progress, &done), CAD_OK);
        assert_int_equal(done, TEXTS);
        for (int i = 0; i < TEXTS; ++i) {
            bool was_cut;
            one.count = 0;
            assert_int_equal(cad_tokenizer_encode_cut(t, text[i], sizes[i], 12, true, &one, &was_cut), CAD_OK);
            assert_int_equal(starts[i + 1] - starts[i], one.count);
            assert_memory_equal(many.data + starts[i], one.data, (size_t)one.count * 4);
            assert_int_equal(was_cut, cut[i]);
        }
    }
    text[200][3] = '\xFF';
    assert_int_equal(cad_tokenizer_encode_all(t, texts, sizes, TEXTS, 12, true, 4, &many, starts, NULL, NULL, NULL), CAD_EDATA);
    assert_non_null(strstr(cad_reason(), "UTF-8"));
    cad_clear();
    many.count = 0;
    assert_int_equal(cad_tokenizer_encode_all(t, texts, sizes, 0, 12, true, 4, &many, starts, NULL, NULL, NULL), CAD_OK);
    assert_int_equal(starts[0], 0);
    cad_free(&one.data);
    cad_free(&many.data);
    cad_tokenizer_close(&t);
    assert_int_equal(cad_mem_blocks(), 0);
}

static cad_status open_and_use(const char *dir)
{
    static const char text[] = "  The patie\xCC\x81nt's heart attack\n\n[both] 142 mmHg <s> No Yes";
    cad_tokenizer *t;
    cad_ids ids = {0};
    cad_str back = {0};
    int64_t starts[2];
    cad_status status;

    CAD_TRY(cad_tokenizer_open(&t, dir));
    status = cad_tokenizer_encode_all(t, (const char *const[]){text}, (const size_t[]){sizeof text - 1}, 1, 0, true, 1, &ids, starts, NULL, NULL, NULL);
    if (!status) status = cad_tokenizer_decode(t, ids.data, ids.count, &back);
    cad_str_close(&back);
    cad_free(&ids.data);
    cad_tokenizer_close(&t);
    return status;
}

static void no_failed_allocation_leaks(void **state)
{
    static const char *const names[] = {"llama3", "o200k", "metaspace_always", "legacy", "bert_uncased"};
    char path[256];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; ++i) {
        int64_t calls = cad_mem_calls(), step;
        snprintf(path, sizeof path, "%s/%s", data, names[i]);
        assert_int_equal(open_and_use(path), CAD_OK);
        calls = cad_mem_calls() - calls;
        step = cad_max(1, calls / 60);
        for (int64_t nth = 1; nth <= calls; nth += step) {
            cad_status status;
            cad_mem_fail_at(nth);
            status = open_and_use(path);
            cad_mem_fail_at(0);
            if (status != CAD_ERESOURCE || cad_mem_blocks()) fail_msg("allocation %lld of %lld: status %d, %lld blocks", (long long)nth, (long long)calls,
                                                                     (int)status, (long long)cad_mem_blocks());
            cad_clear();
        }
    }
}

/* The limit is above what is needed and far below what a quadratic way takes. */
static void long_texts_take_linear_time(void **state)
{
    static const char *const names[] = {"llama3", "o200k", "legacy", "metaspace_never", "unknown", "bert_uncased"};
    static const char *const units[] = {"A", "a", "\xCC\x81\xCC\xA3", " ", "\n", " \n", "\xE2\x96\x81", "ab", "'", "\xE6\x97\xA5", "[left", "1", "\xEA\xB0\x80"};
    cad_str text = {0};
    cad_ids ids = {0};
    char path[256];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; ++i) {
        cad_tokenizer *t;
        snprintf(path, sizeof path, "%s/%s", data, names[i]);
        t = opened(path);
        for (size_t u = 0; u < sizeof units / sizeof units[0]; ++u) {
            struct timespec from, to;
            size_t bytes = u < 3 ? LONG : LONG / 10;
            double seconds;
            text.size = 0;
            while (text.size < bytes) assert_int_equal(cad_str_add(&text, units[u], strlen(units[u])), CAD_OK);
            clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
            encode(t, text.data, text.size, true, &ids);
            clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
            seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
            if (seconds > 1e-6 * (double)bytes * SLOWER) fail_msg("%s took %.2f s for %zu bytes of unit %zu", names[i], seconds, bytes, u);
        }
        cad_tokenizer_close(&t);
    }
    cad_str_close(&text);
    cad_free(&ids.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_of_a_tokenizer_file_works_as_in_the_tokenizers_library),
        cmocka_unit_test(corrupt_files_are_refused_with_a_sentence),
        cmocka_unit_test(tokenizer_config_decides_begin_end_and_padding),
        cmocka_unit_test(cutting_leaves_room_for_special_tokens),
        cmocka_unit_test(text_that_is_no_utf8_is_refused_without_being_quoted),
        cmocka_unit_test(many_texts_on_many_threads_give_the_ids_of_one),
        cmocka_unit_test(no_failed_allocation_leaks),
        cmocka_unit_test(long_texts_take_linear_time),
        cmocka_unit_test(records_of_every_family_have_the_ids_of_the_python_stack),
        cmocka_unit_test(llama3_ids_are_those_of_the_tokenizers_library),
        cmocka_unit_test(qwen2_5_ids_are_those_of_the_tokenizers_library),
        cmocka_unit_test(qwen3_ids_are_those_of_the_tokenizers_library),
        cmocka_unit_test(llama2_ids_are_those_of_the_tokenizers_library),
        cmocka_unit_test(gemma2_ids_are_those_of_the_tokenizers_library),
        cmocka_unit_test(gemma3_ids_are_those_of_the_tokenizers_library),
        cmocka_unit_test(bert_ids_are_those_of_the_tokenizers_library),
    };
    return cmocka_run_group_tests(tests, unpack, tidy);
}
