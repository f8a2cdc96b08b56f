#include "kept.h"

enum { WORDS = 24 };
static const float logits[WORDS] = {-2.05f, 0.989f, 2.247f, -3.471f, -0.417f, -3.042f, -1.603f, -2.234f, -2.122f, -3.042f, -0.203f, 3.404f,
                                    -3.258f, 0.219f, -3.462f, 1.259f, -2.167f, -1.41f, -5.141f, -0.892f, 2.739f, 1.206f, 3.497f, 3.515f};
static const int seen_ids[] = {3, 9, 14, 20};

typedef struct chance { int id; double p; } chance;
typedef struct filtered { double penalty, temperature, top_p, min_p; int64_t top_k; chance want[10]; } filtered;

/* RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper and MinPLogitsWarper of Transformers 5.23 in this order (ids 3, 9, 14, 3, 20 before). */
static const filtered cases[] = {
    {1.3, 0.8, 0.9, 0.02, 12, {{2, 0.06354629}, {11, 0.269891176}, {20, 0.053339257}, {22, 0.303162324}, {23, 0.310060953}}},
    {1.0, 1.0, 0.7, 0.0, 0, {{11, 0.311055861}, {22, 0.341371883}, {23, 0.347572256}}},
    {1.2, 1.5, 1.0, 0.1, 0, {{1, 0.041074498}, {2, 0.095016838}, {11, 0.205487962}, {13, 0.024582974}, {15, 0.0491751}, {20, 0.097292386}, {21, 0.047467917}, {22, 0.218631462}, {23, 0.221270863}}},
    {1.0, 0.7, 1.0, 0.0, 5, {{2, 0.049201911}, {11, 0.256926425}, {20, 0.099363984}, {22, 0.293432199}, {23, 0.301075482}}},
    {1.1, 1.2, 0.95, 0.05, 10, {{1, 0.029787884}, {2, 0.084981621}, {11, 0.222872899}, {15, 0.03730404}, {20, 0.104056589}, {21, 0.035692299}, {22, 0.240832463}, {23, 0.244472205}}},
};

static int64_t keep(const filtered *f, cadp_candidate *c)
{
    cad_sampling s = {.temperature = f->temperature, .top_k = f->top_k, .top_p = f->top_p, .min_p = f->min_p};
    uint8_t seen[WORDS] = {0};
    float now[WORDS];

    memcpy(now, logits, sizeof now);
    for (size_t i = 0; i < sizeof seen_ids / sizeof *seen_ids; i++) seen[seen_ids[i]] = 1;
    cadp_penalise(f->penalty, seen, WORDS, now);
    return cadp_keep_likely(&s, now, WORDS, c);
}

/* Logits are rounded to fp32 three times at most (penalty, temperature, exp's argument), the stored chances to nine digits. */
static void expect_chances(const filtered *f)
{
    cadp_candidate c[WORDS];
    int64_t n = keep(f, c), want = 0;
    double sum = 0, tolerance = 3 * 5 / f->temperature * 0x1p-23 + 1e-9;

    while (want < 10 && f->want[want].p > 0) want++;
    assert_int_equal(n, want);
    for (int64_t i = 0; i < n; i++) sum += exp((double)c[i].logit - (double)c[0].logit);
    for (int64_t i = 0; i < n; i++) {
        double found = exp((double)c[i].logit - (double)c[0].logit) / sum;
        int64_t k = 0;
        while (k < want && f->want[k].id != c[i].id) k++;
        assert_true(k < want);
        if (fabs(found - f->want[k].p) > tolerance) fail_msg("id %d: expected %.9f, found %.9f", c[i].id, f->want[k].p, found);
    }
}

static void what_may_be_drawn_is_what_transformers_keeps(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) expect_chances(&cases[i]);
}

static void those_as_likely_as_the_last_one_stay(void **state)
{
    static const filtered tie = {.penalty = 1, .temperature = 1, .top_p = 1, .top_k = 19};
    cadp_candidate c[WORDS];

    (void)state;
    assert_int_equal(keep(&tie, c), 20);
}

/* Half of fourteen equals: seven, though fourteenths are no binary fractions. */
static void a_share_of_equals_is_met_exactly(void **state)
{
    static const float equal[14] = {0};
    const cad_sampling half = {.temperature = 1, .top_p = 0.5};
    cadp_candidate c[14];

    (void)state;
    assert_int_equal(cadp_keep_likely(&half, equal, 14, c), 7);
}

/* A long vocabulary is not sorted to its end: what is kept is what sorting all of it would keep. */
static void few_of_many_are_the_likeliest_of_them(void **state)
{
    enum { MANY = 50000, FEW = 40 };
    const cad_sampling s = {.temperature = 0.7, .top_k = FEW, .top_p = 1};
    static cadp_candidate c[MANY];
    static float l[MANY];
    int64_t n;

    (void)state;
    for (uint32_t i = 0; i < MANY; i++) l[i] = (float)(i * 2654435761u >> 8) * 0x1p-20f;
    n = cadp_keep_likely(&s, l, MANY, c);
    assert_in_range(n, FEW, MANY);
    for (int64_t i = 1; i < n; i++) assert_true(c[i].logit < c[i - 1].logit || (c[i].logit == c[i - 1].logit && c[i].id > c[i - 1].id));
    for (int64_t i = n; i < MANY; i++) assert_true(c[i].logit < c[n - 1].logit);
}

static void a_draw_falls_on_each_candidate_in_turn(void **state)
{
    static const cadp_candidate c[] = {{0, 7}, {0, 3}, {0, 5}};

    (void)state;
    assert_int_equal(cadp_draw(c, 3, 0), 7);
    assert_int_equal(cadp_draw(c, 3, 0.34), 3);
    assert_int_equal(cadp_draw(c, 3, 0.67), 5);
    assert_int_equal(cadp_draw(c, 3, 0x1.fffffffffffffp-1), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_may_be_drawn_is_what_transformers_keeps),
        cmocka_unit_test(those_as_likely_as_the_last_one_stay),
        cmocka_unit_test(a_share_of_equals_is_met_exactly),
        cmocka_unit_test(few_of_many_are_the_likeliest_of_them),
        cmocka_unit_test(a_draw_falls_on_each_candidate_in_turn),
    };

    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
