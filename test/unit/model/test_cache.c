#include "tiny.h"

/* A text read at once and the same text read token by token after a beginning lead to the same next token's logits: in double, to rounding. */

enum { LONG = 17, BEGUN = 3 };

static void open_double(tiny *t, const char *family, const char *more)
{
    *t = (tiny){.kept = 24, .method = {.causal = true, .compute = CAD_F64, .num_labels = 2}};
    tiny_arch(&t->arch, family, 3, more);
    tiny_open(t, "ref", false);
}

static void step(tiny *t, const int32_t *ids, int32_t n, int32_t past, int32_t slot, float *out)
{
    int32_t starts[2] = {0, n};
    cad_model_batch b = {.tokens = n, .sequences = 1, .longest = n, .ids = ids, .starts = starts, .slots = &slot, .past = &past};

    OK(cad_model_start(t->model, &b, false));
    for (int u = 0; u < t->params->units; u++) OK(cad_model_forward(t->model, u, t->view[u]));
    OK(cad_model_next(t->model, out));
}

static void same_by_steps(const char *family, const char *more)
{
    float whole[TINY_VOCAB], steps[TINY_VOCAB];
    int32_t ids[LONG];
    tiny t;

    open_double(&t, family, more);
    for (int i = 0; i < LONG; i++) ids[i] = (2 * i * i + 5) % TINY_VOCAB;
    step(&t, ids, LONG, 0, 1, whole);
    step(&t, ids, BEGUN, 0, 4, steps);
    for (int i = BEGUN; i < LONG; i++) step(&t, ids + i, 1, i, 4, steps);
    for (int v = 0; v < TINY_VOCAB; v++) assert_true(fabs((double)whole[v] - (double)steps[v]) <= 4 * 0x1p-23 * fmax(1, fabs((double)whole[v]))); /* handed over as float */
    tiny_close(&t);
}

static void plain_attention(void **state)
{
    (void)state;
    same_by_steps("llama", "");
    same_by_steps("qwen2", ", \"tie_word_embeddings\": true");
    same_by_steps("qwen3", "");
}

static void windows_and_softcaps(void **state)
{
    (void)state;
    same_by_steps("mistral", ", \"sliding_window\": 5");
    same_by_steps("gemma2", ", \"sliding_window\": 5, \"query_pre_attn_scalar\": 4");
    same_by_steps("gemma3_text", ", \"sliding_window\": 4, \"query_pre_attn_scalar\": 4, \"sliding_window_pattern\": 2");
}

static void chunks_temperature_and_experts(void **state)
{
    (void)state;
    same_by_steps("llama4_text", ", \"attention_chunk_size\": 5, \"no_rope_layers\": [1, 1, 0], \"num_local_experts\": 3, \"num_experts_per_tok\": 1, \"intermediate_size_mlp\": 10, \"floor_scale\": 4");
}

static void more_than_is_kept_is_refused(void **state)
{
    float out[TINY_VOCAB];
    int32_t ids[1] = {1}, starts[2] = {0, 1}, slot = 0, past = 24;
    cad_model_batch b = {.tokens = 1, .sequences = 1, .longest = 1, .ids = ids, .starts = starts, .slots = &slot, .past = &past};
    tiny t;

    (void)state;
    (void)out;
    open_double(&t, "llama", "");
    assert_int_equal(cad_model_start(t.model, &b, false), CAD_EINTERNAL);
    expect_reason("more than planned");
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_attention),
        cmocka_unit_test(windows_and_softcaps),
        cmocka_unit_test(chunks_temperature_and_experts),
        cmocka_unit_test(more_than_is_kept_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
