/* Merging: against the definition, with a heap and without, cut at U+2581 and whole. */
#include "../../../src/text/vocab.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

enum { LETTERS = 4, MOST_TOKENS = 400, MOST_MERGES = 300, LONGEST = 200 };
typedef struct model {
    cadp_vocab vocab;
    cadp_bpe bpe;
    cadp_bpe_work work;
    cadp_merge merge[MOST_MERGES];
    int merges;
    char name[MOST_TOKENS][64];
    int tokens;
} model;

static uint32_t draw(uint32_t site, uint64_t index)
{
    uint32_t w[4];
    cad_rng_words(11, CAD_RNG_TEST, site, index, w);
    return w[0];
}

static int token_named(const model *m, const char *name)
{
    for (int i = 0; i < m->tokens; ++i)
        if (!strcmp(m->name[i], name)) return i;
    return -1;
}

/* Random merges over a, b, U+2581 and U+00E9; a token may be the result of several merges, which stand anywhere in the order. */
static void model_open(model *m, uint64_t seed)
{
    static const char *const letters[LETTERS] = {"a", "b", "\xE2\x96\x81", "\xC3\xA9"};
    bool added;

    memset(m, 0, sizeof *m);
    for (int i = 0; i < LETTERS; ++i) strcpy(m->name[m->tokens++], letters[i]);
    for (int i = 0; i < MOST_MERGES; ++i) {
        int left = (int)(draw(2 * (uint32_t)i, seed) % (uint32_t)m->tokens), right = (int)(draw(2 * (uint32_t)i + 1, seed) % (uint32_t)m->tokens), id;
        char name[64];
        bool again = false;
        if (strlen(m->name[left]) + strlen(m->name[right]) > 14) continue;
        for (int j = 0; j < m->merges; ++j) again = again || (m->merge[j].left == left && m->merge[j].right == right);
        if (again) continue;
        snprintf(name, sizeof name, "%.30s%.30s", m->name[left], m->name[right]);
        id = token_named(m, name);
        if (id < 0) strcpy(m->name[id = m->tokens++], name);
        m->merge[m->merges] = (cadp_merge){left, right, id, (uint32_t)m->merges};
        m->merges++;
    }
    for (int i = m->merges - 1; i > 0 && seed % 2; --i) { /* also merges that stand before those that make their parts */
        int j = (int)(draw(20000 + (uint32_t)i, seed) % (uint32_t)(i + 1));
        cadp_merge other = m->merge[j];
        m->merge[j] = m->merge[i];
        m->merge[i] = other;
    }
    for (int i = 0; i < m->merges; ++i) m->merge[i].rank = (uint32_t)i;
    assert_int_equal(cadp_vocab_open(&m->vocab, m->tokens, (size_t)m->tokens), CAD_OK);
    for (int i = 0; i < m->tokens; ++i) assert_int_equal(cadp_vocab_add(&m->vocab, i, m->name[i], strlen(m->name[i]), &added), CAD_OK);
    assert_int_equal(cadp_merges_open(&m->bpe.merges, (size_t)m->merges), CAD_OK);
    for (int i = 0; i < m->merges; ++i) cadp_merges_set(&m->bpe.merges, m->merge[i]);
    assert_int_equal(cadp_bpe_work_open(&m->work), CAD_OK);
    m->bpe.vocab = &m->vocab;
    m->bpe.unknown = CADP_NO_TOKEN;
}

static void model_close(model *m)
{
    cadp_vocab_close(&m->vocab);
    cadp_merges_close(&m->bpe.merges);
    cadp_bpe_work_close(&m->work);
    cad_free(&m->bpe.joins);
}

/* The definition: again and again the pair of the lowest rank, leftmost among equals. */
static int merge_plainly(const model *m, int32_t *id, int n)
{
    for (;;) {
        const cadp_merge *best = NULL;
        int at = 0;
        for (int i = 0; i + 1 < n; ++i)
            for (int j = 0; j < m->merges && (!best || m->merge[j].rank < best->rank); ++j)
                if (m->merge[j].left == id[i] && m->merge[j].right == id[i + 1]) best = &m->merge[j], at = i;
        if (!best) return n;
        id[at] = best->id;
        memmove(id + at + 1, id + at + 2, (size_t)(n - at - 2) * sizeof *id);
        --n;
    }
}

static int random_word(const model *m, uint64_t index, int letters, char *text, int32_t *id)
{
    int n = 0;

    for (int i = 0; i < letters; ++i) {
        uint32_t w = draw(10000 + (uint32_t)i, index);
        id[i] = (int32_t)(index % 3 && w % 8 ? w % 2 : w / 8 % LETTERS);
        n += sprintf(text + n, "%s", m->name[id[i]]);
    }
    return n;
}

/* `want`, the word's letters, becomes what rank by rank they merge to. The second time a short word comes from the cache. */
static void expect_plain_merges(model *m, const char *text, int n, int32_t *want, int letters, int times, cad_ids *got)
{
    int count = merge_plainly(m, want, letters);

    for (int again = 0; again < times; ++again) {
        got->count = 0;
        assert_int_equal(cadp_bpe_encode(&m->bpe, &m->work, text, (size_t)n, got), CAD_OK);
        assert_int_equal(got->count, count);
        assert_memory_equal(got->data, want, (size_t)count * sizeof *want);
    }
}

static void words_are_merged_by_rank_then_place(void **state)
{
    char text[4 * LONGEST + 1];
    int32_t want[LONGEST];
    cad_ids got = {0};

    (void)state;
    for (uint64_t seed = 0; seed < 12; ++seed) {
        model m;
        model_open(&m, seed);
        for (uint64_t i = 0; i < 60; ++i) {
            int letters = 1 + (int)(draw(9999, seed * 1000 + i) % (i % 4 ? 40 : LONGEST)), n = random_word(&m, seed * 1000 + i, letters, text, want);
            expect_plain_merges(&m, text, n, want, letters, 2, &got);
        }
        model_close(&m);
    }
    cad_free(&got.data);
    assert_int_equal(cad_mem_blocks(), 0);
}

/* The same few letters again and again, or runs of one: a third of the words of a prefix and another end. */
static int repeated_word(const model *m, uint64_t index, int letters, char *text, int32_t *id)
{
    int block = 1 + (int)(draw(1, index) % 5), edge = draw(2, index) % 3 ? 0 : 1 + (int)(draw(3, index) % 3), n = 0;

    for (int i = 0; i < letters; ++i) {
        int at = i < edge || i >= letters - edge ? 100 + i : draw(4, index) % 4 ? i % block : i / (letters / 4 + 1);
        id[i] = (int32_t)(draw(10000 + (uint32_t)at, index) % LETTERS);
        n += sprintf(text + n, "%s", m->name[id[i]]);
    }
    return n;
}

static void words_that_repeat_are_merged_by_rank_then_place(void **state)
{
    char text[4 * LONGEST + 1];
    int32_t want[LONGEST];
    cad_ids got = {0};

    (void)state;
    for (uint64_t seed = 0; seed < 200; ++seed) {
        model m;
        model_open(&m, seed);
        for (uint64_t i = 0; i < 30; ++i) {
            int letters = LONGEST / 4 + (int)(draw(9999, seed * 1000 + i) % (3 * LONGEST / 4)), n = repeated_word(&m, seed * 1000 + i, letters, text, want);
            expect_plain_merges(&m, text, n, want, letters, 1, &got);
        }
        model_close(&m);
    }
    cad_free(&got.data);
    assert_int_equal(cad_mem_blocks(), 0);
}

/* Leaves out the merges that join a letter with U+2581. */
static void drop_joins(model *m)
{
    int kept = 0;

    for (int j = 0; j < m->merges; ++j) {
        const char *l = m->name[m->merge[j].left], *r = m->name[m->merge[j].right];
        if (strncmp(r, m->name[2], 3) || !strcmp(l + strlen(l) - 1, "\x81")) m->merge[kept++] = m->merge[j];
    }
    m->merges = kept;
}

static void cutting_at_spaces_changes_no_id(void **state)
{
    char text[4 * LONGEST + 1];
    int32_t want[LONGEST];
    cad_ids got = {0};
    int joins = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 12; ++seed) {
        model m;
        model_open(&m, seed);
        if (seed % 2) drop_joins(&m);
        cadp_merges_close(&m.bpe.merges);
        assert_int_equal(cadp_merges_open(&m.bpe.merges, (size_t)m.merges), CAD_OK);
        for (int j = 0; j < m.merges; ++j) cadp_merges_set(&m.bpe.merges, m.merge[j]);
        assert_int_equal(cadp_bpe_find_cuts(&m.bpe), CAD_OK);
        assert_true(m.bpe.cuts);
        joins += m.bpe.joins_count;
        for (uint64_t i = 0; i < 60; ++i) {
            int letters = 1 + (int)(draw(9999, seed * 1000 + i) % LONGEST), n = random_word(&m, 3 * (seed * 1000 + i), letters, text, want);
            int count = merge_plainly(&m, want, letters);
            got.count = 0;
            assert_int_equal(cadp_bpe_encode(&m.bpe, &m.work, text, (size_t)n, &got), CAD_OK);
            assert_int_equal(got.count, count);
            assert_memory_equal(got.data, want, (size_t)count * sizeof *want);
        }
        model_close(&m);
    }
    assert_true(joins > 0);
    cad_free(&got.data);
    assert_int_equal(cad_mem_blocks(), 0);
}

static void a_vocabulary_finds_what_was_added_and_nothing_else(void **state)
{
    enum { COUNT = 5000 };
    cadp_vocab v;
    char name[64];
    bool added;

    (void)state;
    assert_int_equal(cadp_vocab_open(&v, COUNT, COUNT), CAD_OK);
    for (int i = 0; i < COUNT; ++i) {
        int n = sprintf(name, "%.*s%d", i % 30, "abcdefghijklmnopqrstuvwxyzabcdefgh", i);
        assert_int_equal(cadp_vocab_add(&v, i, name, (size_t)n, &added), CAD_OK);
        assert_true(added);
        assert_int_equal(cadp_vocab_add(&v, (i + 1) % COUNT, name, (size_t)n, &added), CAD_OK);
        assert_false(added);
    }
    for (int i = 0; i < COUNT; ++i) {
        int n = sprintf(name, "%.*s%d", i % 30, "abcdefghijklmnopqrstuvwxyzabcdefgh", i);
        assert_int_equal(cadp_vocab_find(&v, name, (size_t)n), i);
        assert_int_equal(cadp_vocab_find(&v, name, (size_t)n - 1) == i, 0);
        name[n] = '!';
        assert_int_equal(cadp_vocab_find(&v, name, (size_t)n + 1), CADP_NO_TOKEN);
    }
    assert_int_equal(cadp_vocab_find(&v, "", 0), CADP_NO_TOKEN);
    cadp_vocab_close(&v);
    assert_int_equal(cad_mem_blocks(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_merged_by_rank_then_place), cmocka_unit_test(words_that_repeat_are_merged_by_rank_then_place),
        cmocka_unit_test(cutting_at_spaces_changes_no_id),
        cmocka_unit_test(a_vocabulary_finds_what_was_added_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
