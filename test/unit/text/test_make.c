/* Folders without a tokenizer.json: ids and texts of Transformers (test/tools/made_tokenizers.py), and files that are refused. */
#include "../base/scratch.h"

#include <cadtrain/format.h>
#include <cadtrain/text.h>

static const char data[] = "test/unit/text/data";

static cad_tokenizer *opened(const char *dir)
{
    cad_tokenizer *t;

    if (cad_tokenizer_open(&t, dir)) fail_msg("%s: %s", dir, cad_reason());
    return t;
}

static int wrong_ids(const cad_tokenizer *t, const cad_node *row, const char *key, bool special)
{
    const cad_node *text = cad_get(row, "text"), *want = cad_get(row, key);
    cad_ids ids = {0};
    int wrong = 0;

    assert_int_equal(cad_tokenizer_encode(t, text->text, text->size, special, &ids), CAD_OK);
    wrong = ids.count != want->children;
    for (int64_t i = 0; i < ids.count && !wrong; i++) {
        const cad_node *n = want->child;
        for (int64_t k = 0; k < i; k++) n = n->next;
        wrong = n->integer != ids.data[i];
    }
    cad_free(&ids.data);
    return wrong;
}

static int wrong_text(const cad_tokenizer *t, const cad_node *row)
{
    const cad_node *ids = cad_get(row, "ids"), *want = cad_get(row, "decoded");
    int32_t all[4096];
    int64_t n = 0;
    cad_str back = {0};

    for (const cad_node *i = ids->child; i; i = i->next) all[n++] = (int32_t)i->integer;
    assert_int_equal(cad_tokenizer_decode(t, all, n, &back), CAD_OK);
    int wrong = back.size != want->size || memcmp(back.data, want->text, back.size);
    cad_str_close(&back);
    return wrong;
}

static void check_folder(const char *name)
{
    char path[256], *text;
    size_t size;
    int bad[3] = {0}, rows = 0;
    cad_tokenizer *t;

    snprintf(path, sizeof path, "%s/%s", data, name);
    t = opened(path);
    snprintf(path, sizeof path, "%s/%s/vectors.jsonl", data, name);
    assert_int_equal(cad_read_file(&text, &size, path, 1 << 20, CAD_EDATA), CAD_OK);
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1, rows++) {
        cad_tree *tree;
        assert_int_equal(cad_json_parse(&tree, line, (size_t)(end - line), name, CAD_EDATA), CAD_OK);
        bad[0] += wrong_ids(t, tree->root, "ids", true);
        bad[1] += wrong_ids(t, tree->root, "ids_plain", false);
        bad[2] += wrong_text(t, tree->root);
        cad_tree_close(&tree);
    }
    if (bad[0] + bad[1] + bad[2] || rows != 50) fail_msg("%s: of %d rows %d ids, %d plain, %d decoded differ", name, rows, bad[0], bad[1], bad[2]);
    cad_free(&text);
    cad_tokenizer_close(&t);
}

static void a_sentencepiece_model_gives_the_ids_of_transformers(void **state)
{
    (void)state;
    check_folder("model_first");
    check_folder("model_always");
    check_folder("model_plain");
    check_folder("model_unigram");
    check_folder("model_unigram_bytes");
}

static void a_list_of_words_gives_the_ids_of_transformers(void **state)
{
    (void)state;
    check_folder("words_cased");
    check_folder("words_uncased");
}

static void tokens_of_added_tokens_json_come_behind_the_vocabulary(void **state)
{
    cad_tokenizer *t;

    (void)state;
    put_file(in_scratch("vocab.txt"), "[UNK]\n[CLS]\n[SEP]\na\n", 20);
    put_file(in_scratch("added_tokens.json"), "{\"[two]\": 5, \"[one]\": 4}", 24);
    t = opened(scratch_dir);
    assert_int_equal(cad_tokenizer_id(t, "[one]"), 4);
    assert_int_equal(cad_tokenizer_id(t, "[two]"), 5);
    assert_int_equal(cad_tokenizer_size(t), 6);
    cad_tokenizer_close(&t);
    assert_int_equal(remove(in_scratch("vocab.txt")) | remove(in_scratch("added_tokens.json")), 0);
}

/* ---- refused ---- */

static void refuse(const char *file, const void *bytes, size_t n, const char *part)
{
    cad_tokenizer *t;

    put_file(in_scratch(file), bytes, n);
    assert_int_equal(cad_tokenizer_open(&t, scratch_dir), CAD_EMODEL);
    assert_null(t);
    assert_null(strchr(cad_reason(), '\n'));
    expect_reason(part);
    assert_int_equal(remove(in_scratch(file)), 0);
}

static void every_truncation_of_a_model_is_refused_or_a_smaller_model(void **state)
{
    char *bytes;
    size_t n;

    (void)state;
    assert_int_equal(cad_read_file(&bytes, &n, "test/unit/text/data/model_first/tokenizer.model", 1 << 20, CAD_EMODEL), CAD_OK);
    for (size_t cut = 1; cut < n; cut += cut < 200 ? 1 : 61) {
        cad_tokenizer *t;
        put_file(in_scratch("tokenizer.model"), bytes, cut);
        if (cad_tokenizer_open(&t, scratch_dir)) assert_true(cad_reason()[0] && !strchr(cad_reason(), '\n'));
        else cad_tokenizer_close(&t); /* the kind of model comes behind the pieces: a unigram model without it */
        cad_clear();
    }
    cad_free(&bytes);
    assert_int_equal(remove(in_scratch("tokenizer.model")), 0);
}

static void damaged_models_end_in_one_sentence(void **state)
{
    static const char huge[] = "\x0a\xff\xff\xff\xff\x0f", endless[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", group[] = "\x0b\x0c";
    static const char word[] = "\x0a\x03\x0a\x01" "a\x12\x02\x18\x03";
    static const char nan[] = "\x0a\x08\x0a\x01" "a\x15\x00\x00\xc0\x7f\x12\x02\x18\x02", other[] = "\x0a\x03\x0a\x01\xff\x12\x02\x18\x02";

    (void)state;
    refuse("tokenizer.model", huge, sizeof huge - 1, "damage at byte");
    refuse("tokenizer.model", endless, sizeof endless - 1, "damage at byte");
    refuse("tokenizer.model", group, sizeof group - 1, "damage at byte");
    refuse("tokenizer.model", word, sizeof word - 1, "type 3");
    refuse("tokenizer.model", nan, sizeof nan - 1, "finite score of token 0");
    refuse("tokenizer.model", other, sizeof other - 1, "UTF-8");
    refuse("tokenizer.model", "", 0, "1 to 16777216 pieces, found 0");
}

/* <unk> (kind 2) and a, then `tail`. */
static void refuse_after(const char *tail, size_t n, const char *part)
{
    static const char head[] = "\x0a\x09\x0a\x05<unk>\x18\x02\x0a\x03\x0a\x01" "a";
    char bytes[256];

    memcpy(bytes, head, sizeof head - 1);
    memcpy(bytes + sizeof head - 1, tail, n);
    refuse("tokenizer.model", bytes, sizeof head - 1 + n, part);
}
#define AFTER(tail, part) refuse_after(tail, sizeof tail - 1, part)

static void pieces_that_make_no_vocabulary_are_refused(void **state)
{
    (void)state;
    AFTER("\x0a\x03\x0a\x01" "a\x12\x02\x18\x02", "tokenizer.model: expected pieces that differ, found token 1 once more");                      /* BPE */
    AFTER("\x0a\x03\x0a\x01" "a", "tokenizer.model: expected pieces that differ, found token 1 once more");                                        /* unigram */
    AFTER("\x0a\x00\x12\x02\x18\x02", "tokenizer.model: expected pieces of at least one letter, found token 2 without");
    AFTER("\x0a\x08\x0a\x01" "b\x15\x00\x00\x80\x7f", "tokenizer.model: expected a finite score of token 2");                                    /* infinity */
    AFTER("\x0a\x85\xd8\xdd\xdc\x03\x0a\x01" "b", "tokenizer.model: expected a SentencePiece model, found damage at byte");                         /* a piece of 10^9 bytes */
    AFTER("\x0a\x08\x0a\x85\xd8\xdd\xdc\x03\x0a\x01", "tokenizer.model: expected a SentencePiece model, found damage at byte");                   /* a text of 10^9 bytes in a piece of 8 */
    AFTER("\x12\x07\x18\x01\xc0\x02\x80\x94\xeb\xdc\x03", "tokenizer.model: expected a SentencePiece model, found damage at byte");               /* a trainer's part cut inside a number */
    AFTER("\x12\x07\xc0\x02\x80\x94\xeb\xdc\x03", "tokenizer.model, as tokenizer.json:");                                                                     /* unk_id 10^9 */
    AFTER("\x12\x03\xc0\x02\x7f", "tokenizer.model, as tokenizer.json:");                                                                                              /* unk_id 127 of 2 */
    AFTER("\x1a\x04\x12\x02\xff\xff", "expected precompiled_charsmap to hold a table and its texts");
    AFTER("\x1a\x08\x12\x06\xff\xff\xff\xff\x00\x00", "expected precompiled_charsmap to hold a table and its texts");               /* a table of 4 GB */
}

/* The number of pieces is counted, whatever the trainer's part says it was; a piece without a score has 0, as protocol buffers say. */
static void a_claimed_size_and_a_missing_score_do_no_harm(void **state)
{
    static const char claimed[] = "\x0a\x09\x0a\x05<unk>\x18\x02\x0a\x03\x0a\x01" "a\x0a\x03\x0a\x01" "b\x0a\x04\x0a\x02" "ab\x12\x08\x18\x02\x20\x80\x94\xeb\xdc\x03";
    cad_tokenizer *t;

    (void)state;
    put_file(in_scratch("tokenizer.model"), claimed, sizeof claimed - 1);
    t = opened(scratch_dir);
    assert_int_equal(cad_tokenizer_size(t), 4);
    assert_int_equal(cad_tokenizer_id(t, "ab"), 3);
    cad_tokenizer_close(&t);
    assert_int_equal(remove(in_scratch("tokenizer.model")), 0);
}

static void a_piece_of_many_thousand_letters_is_refused(void **state)
{
    static char bytes[70000] = "\x0a\x84\x85\x04\x0a\x80\x85\x04";

    (void)state;
    memset(bytes + 8, 'a', 66176);
    memcpy(bytes + 8 + 66176, "\x12\x02\x18\x02", 4);
    refuse("tokenizer.model", bytes, 12 + 66176, "at most 1024 bytes");
}

static void lists_without_their_special_words_are_refused(void **state)
{
    (void)state;
    refuse("vocab.txt", "", 0, "found 0");
    refuse("vocab.txt", "a\nb\n", 4, "vocab.txt: expected the token \"[UNK]\" (unk_token) in it, found none");
    refuse("vocab.txt", "[CLS]\n[SEP]\na\n", 14, "vocab.txt: expected the token \"[UNK]\" (unk_token) in it, found none");
    refuse("vocab.txt", "[UNK]\n[SEP]\na\n", 14, "(cls_token)");
    refuse("vocab.txt", "[UNK]\n[CLS]\na\n", 14, "(sep_token)");
    refuse("vocab.txt", "\n\n\n", 3, "(unk_token)");
    refuse("vocab.txt", "[UNK]\n[CLS]\n\xff\n", 14, "vocab.txt: expected token 2 in UTF-8, found other bytes");
    refuse("vocab.txt", "[UNK]\n[CLS]\n[SEP]\n\xed\xa0\x80\n", 22, "vocab.txt: expected token 3 in UTF-8, found other bytes"); /* half a surrogate pair */
    refuse("vocab.txt", "[\0U\0N\0K\0]\0\n\0", 12, "vocab.txt: expected the token");                                         /* UTF-16 */
    put_file(in_scratch("tokenizer_config.json"), "{\"do_lower_case\": 1}", 20);
    refuse("vocab.txt", "[UNK]\n[CLS]\n[SEP]\n", 18, "do_lower_case");
    assert_int_equal(remove(in_scratch("tokenizer_config.json")), 0);
}

/* As in Python's dict: the last line of a word is its id, the others stand for nothing. */
static void a_word_on_two_lines_has_the_id_of_the_last(void **state)
{
    static const char lines[] = "[UNK]\n[CLS]\n[SEP]\nsame\nother\nsame\n";
    cad_tokenizer *t;

    (void)state;
    put_file(in_scratch("vocab.txt"), lines, sizeof lines - 1);
    t = opened(scratch_dir);
    assert_int_equal(cad_tokenizer_id(t, "same"), 5);
    assert_int_equal(cad_tokenizer_id(t, "other"), 4);
    cad_tokenizer_close(&t);
    assert_int_equal(remove(in_scratch("vocab.txt")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sentencepiece_model_gives_the_ids_of_transformers), cmocka_unit_test(a_list_of_words_gives_the_ids_of_transformers),
        cmocka_unit_test(tokens_of_added_tokens_json_come_behind_the_vocabulary), cmocka_unit_test(every_truncation_of_a_model_is_refused_or_a_smaller_model),
        cmocka_unit_test(damaged_models_end_in_one_sentence), cmocka_unit_test(pieces_that_make_no_vocabulary_are_refused),
        cmocka_unit_test(a_claimed_size_and_a_missing_score_do_no_harm), cmocka_unit_test(a_word_on_two_lines_has_the_id_of_the_last), cmocka_unit_test(a_piece_of_many_thousand_letters_is_refused), cmocka_unit_test(lists_without_their_special_words_are_refused)};

    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
