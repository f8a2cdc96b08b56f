/* The splitters written by hand are the patterns they stand for; PCRE2's route is Oniguruma's. */
#include "../../../src/text/split.h"
#include <cadtrain/format.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define TAIL "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define HEAD "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
static const char *const patterns[] = {HEAD "\\p{N}" TAIL, HEAD "\\p{N}{1,3}" TAIL,
                                       "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"};
enum { PATTERNS = 3 };

typedef struct pair { cadp_splitter hand, regex; cadp_matcher *matcher; } pair;
typedef struct bench { cadp_unicode *unicode; pair pair[PATTERNS]; cadp_spans a, b, matches; } bench;

static void bench_open(bench *x)
{
    *x = (bench){0};
    assert_int_equal(cadp_unicode_open(&x->unicode), CAD_OK);
    for (int i = 0; i < PATTERNS; ++i) {
        pair *p = &x->pair[i];
        p->hand = (cadp_splitter){.known = cadp_known_pattern(patterns[i]), .behavior = CADP_ISOLATED};
        p->regex.behavior = CADP_ISOLATED;
        assert_int_not_equal(p->hand.known, CADP_ANY);
        assert_int_equal(cadp_regex_open(&p->regex.regex, patterns[i], strlen(patterns[i]), "test"), CAD_OK);
        assert_int_equal(cadp_matcher_open(&p->matcher, p->regex.regex), CAD_OK);
    }
}

static void bench_close(bench *x)
{
    for (int i = 0; i < PATTERNS; ++i) {
        cadp_matcher_close(&x->pair[i].matcher);
        cadp_regex_close(&x->pair[i].regex.regex);
    }
    cad_free(&x->a.at);
    cad_free(&x->b.at);
    cad_free(&x->matches.at);
    cad_free(&x->unicode);
    assert_int_equal(cad_mem_blocks(), 0);
}

static void expect_same(bench *x, const char *text, size_t n)
{
    cadp_span all = {0, (uint32_t)n};

    for (int i = 0; i < PATTERNS; ++i) {
        pair *p = &x->pair[i];
        x->a.count = x->b.count = 0;
        assert_int_equal(cadp_split(&p->hand, x->unicode->flags, NULL, text, all, &x->matches, &x->a), CAD_OK);
        assert_int_equal(cadp_split(&p->regex, x->unicode->flags, p->matcher, text, all, &x->matches, &x->b), CAD_OK);
        for (int64_t j = 0; j < x->a.count && j < x->b.count; ++j)
            if (memcmp(&x->a.at[j], &x->b.at[j], sizeof x->a.at[j]))
                fail_msg("pattern %d: word %lld is [%u, %u) by hand, [%u, %u) by PCRE2", i, (long long)j, x->a.at[j].from, x->a.at[j].to, x->b.at[j].from,
                         x->b.at[j].to);
        assert_int_equal(x->a.count, x->b.count);
    }
}

static void every_code_point_is_classed_alike(void **state)
{
    static const char *const before[] = {"", " ", "a", "\n ", "'", "\xC2\xA0"};
    bench x;
    cad_str text = {0};
    char bytes[4];

    (void)state;
    bench_open(&x);
    for (size_t b = 0; b < sizeof before / sizeof before[0]; ++b) {
        text.size = 0;
        for (uint32_t c = 0; c < CADP_POINTS; ++c) {
            if ((c >= 0xD800 && c < 0xE000) || (c > 0x323FF && c < 0xE0000 && c % 64) || (c > 0xE01FF && c % 64)) continue;
            assert_int_equal(cad_str_addf(&text, "%s", before[b]), CAD_OK);
            assert_int_equal(cad_str_add(&text, bytes, cadp_utf8(bytes, c)), CAD_OK);
        }
        expect_same(&x, text.data, text.size);
    }
    cad_str_close(&text);
    bench_close(&x);
}

/* Few kinds of characters, many arrangements. */
static size_t random_text(char *out, uint64_t index)
{
    static const char *const part[] = {" ", "  ", "\t", "\n", "\r", "\r\n", "\xC2\xA0", "\xE3\x80\x80", "\xE1\xA0\x8E", "a",
                                       "B", "\xC3\xA9", "\xE6\x97\xA5", "1", "23456",
                                       "\xC2\xBD", "'", "'s", "'S", "'\xC5\xBF", "'LL", "'vE",
                                       "'r", "'D", ".", "!?", "\xCC\x81", "\xF0\x9F\x98\x80", "\xE2\x81\x9F"};
    uint32_t w[4];
    size_t n = 0;
    int count;

    cad_rng_words(7, CAD_RNG_TEST, 0, index, w);
    count = (int)(w[0] % 14);
    for (int i = 0; i < count; ++i) {
        const char *p;
        cad_rng_words(7, CAD_RNG_TEST, (uint32_t)i + 1, index, w);
        p = part[w[0] % (sizeof part / sizeof part[0])];
        memcpy(out + n, p, strlen(p));
        n += strlen(p);
    }
    return n;
}

static void random_texts_are_split_alike(void **state)
{
    bench x;
    char text[256];

    (void)state;
    bench_open(&x);
    for (uint64_t i = 0; i < 20000; ++i) {
        size_t n = random_text(text, i);
        if (n) expect_same(&x, text, n);
    }
    bench_close(&x);
}

static void golden_documents_are_split_alike(void **state)
{
    char path[1024];
    const char *shared = getenv("CADTRAIN_SHARED");
    cad_tree *tree;
    bench x;

    (void)state;
    snprintf(path, sizeof path, "%s/golden/extra/tokenizers/documents.json", shared ? shared : "../shared");
    if (!cad_is_file(path)) {
        print_message("no %s; skipped\n", path);
        skip();
    }
    assert_int_equal(cad_json_read(&tree, path, 1 << 28, CAD_EDATA), CAD_OK);
    bench_open(&x);
    for (const cad_node *n = tree->root->child; n; n = n->next) {
        const cad_node *text = n->kind == CAD_TABLE ? cad_get(n, "text") : n;
        expect_same(&x, text->text, text->size);
    }
    cad_tree_close(&tree);
    bench_close(&x);
}

static void patterns_that_mean_something_else_in_oniguruma_are_refused(void **state)
{
    static const char *const bad[] = {"^a", "a$", "\\h+", "\\w+", "a\\b", "[a[bc]]", "[a&&b]", "a{1,2}+", "(?m:.)", "(?<n>a)",
                                      "(a", "[a", "\\p{Nope}", "\\pL", "a\\", "[]a]"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
        cadp_regex *r = NULL;
        assert_int_equal(cadp_regex_open(&r, bad[i], strlen(bad[i]), "file:1:2"), CAD_EMODEL);
        assert_null(r);
        assert_memory_equal(cad_reason(), "file:1:2: ", 10);
        cad_clear();
    }
    assert_int_equal(cad_mem_blocks(), 0);
}

static void composed_and_decomposed_text_have_one_normal_form(void **state)
{
    static const struct { const char *text, *normal; } row[] = {
        {"e\xCC\x81", "\xC3\xA9"},                                     /* e + acute */
        {"a\xCC\x81\xCC\xA3", "\xE1\xBA\xA1\xCC\x81"},                 /* acute, dot below: the dot joins first */
        {"\xC3\xA9\xCC\xA3", "\xE1\xBA\xB9\xCC\x81"},                  /* e-acute + dot below */
        {"\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", "\xEA\xB0\x81"},      /* jamo to a syllable */
        {"\xEA\xB0\x80\xE1\x86\xA8", "\xEA\xB0\x81"},                  /* syllable + final jamo */
        {"\xE2\x84\xAB", "\xC3\x85"},                                  /* the Angstrom sign */
        {"\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC"},                  /* excluded from composition */
        {"\xCC\x81" "e", "\xCC\x81" "e"},
    };
    cadp_unicode *u;
    cadp_points work = {0};
    cad_str out = {0};
    bool changed;

    (void)state;
    assert_int_equal(cadp_unicode_open(&u), CAD_OK);
    for (size_t i = 0; i < sizeof row / sizeof row[0]; ++i) {
        const char *got = row[i].text;
        assert_int_equal(cadp_nfc(u, row[i].text, strlen(row[i].text), &work, &out, &changed), CAD_OK);
        if (changed) got = out.data;
        assert_string_equal(got, row[i].normal);
    }
    cad_str_close(&out);
    cadp_points_close(&work);
    cad_free(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_is_classed_alike),
        cmocka_unit_test(random_texts_are_split_alike),
        cmocka_unit_test(golden_documents_are_split_alike),
        cmocka_unit_test(patterns_that_mean_something_else_in_oniguruma_are_refused),
        cmocka_unit_test(composed_and_decomposed_text_have_one_normal_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
