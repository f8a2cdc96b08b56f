/* Ids and texts of the tokenizers library (../shared/golden/extra/tokenizers), small files of our own, and files that are refused. */
#include <cadtrain/format.h>
#include <cadtrain/text.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

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

static char unpacked[64];

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
static void gemma2_ids_are_those_of_the_tokenizers_library(void **state) { (void)state, real_tokenizer("gemma2"); }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama3_ids_are_those_of_the_tokenizers_library),  cmocka_unit_test(qwen2_5_ids_are_those_of_the_tokenizers_library),
        cmocka_unit_test(qwen3_ids_are_those_of_the_tokenizers_library),   cmocka_unit_test(llama2_ids_are_those_of_the_tokenizers_library),
        cmocka_unit_test(gemma2_ids_are_those_of_the_tokenizers_library),  cmocka_unit_test(gemma3_ids_are_those_of_the_tokenizers_library),
        cmocka_unit_test(bert_ids_are_those_of_the_tokenizers_library),    cmocka_unit_test(records_of_every_family_have_the_ids_of_the_python_stack),
    };
    return cmocka_run_group_tests(tests, unpack, tidy);
}
