/* What a logit may depend on: its own sequence, the tokens before, distances and not places. On every device. */
#include "tiny.h"

static const char *const devices[] = {"ref", "cpu", "check:cpu", "emulated"};
static const cad_dtype dtypes[] = {CAD_F32, CAD_BF16};
enum { CLASSES = 2, MOST = TINY_SEQUENCES * CLASSES };

static void logits_of(tiny *t, const cad_model_batch *b, float *out)
{
    OK(cad_model_start(t->model, b, false));
    for (int u = 0; u < t->params->units; u++) OK(cad_model_forward(t->model, u, t->view[u]));
    OK(cad_model_logits(t->model, out));
}

/* A logit is a sum along a path of 4 products a layer over at most max(hidden, intermediate) = 10 terms, each value rounded to the compute dtype: errors
 * that are independent add as the square root of their number; norms and softmax may enlarge each by a few. */
static double bound_of(const tiny *t)
{
    double eps = t->method.compute == CAD_BF16 ? 0x1p-8 : t->method.compute == CAD_F32 ? 0x1p-24 : 0x1p-53;

    return 8 * eps * sqrt(4.0 * t->arch.layers * 10);
}

static void expect_close(const tiny *t, const float *a, const float *b, const char *what)
{
    for (int c = 0; c < CLASSES; c++)
        if (!(fabs((double)a[c] - (double)b[c]) <= bound_of(t) * fmax(1, fabs((double)a[c])))) fail_msg("%s on %s, %s: %.9g and %.9g", what, cad_device_name(t->device), cad_dtype_name(t->method.compute), (double)a[c], (double)b[c]);
}

static const int LENGTHS[] = {5, 1, 9, 1, 17, 3};
enum { COUNT = 6 };

static bool have_device(const char *name)
{
    cad_device *d = NULL;
    bool there = cad_device_open(&d, name, 1) == CAD_OK;

    cad_clear();
    OK(cad_device_close(&d));
    return there;
}

/* Runs a check on every device and dtype. */
static void everywhere(void (*check)(tiny *t, tiny_batch *x), const char *family, const char *more, cad_pooling pooling)
{
    for (size_t d = 0; d < sizeof devices / sizeof *devices; d++)
        for (int k = 0; have_device(devices[d]) && k < 2; k++) {
            tiny t = {.method = {.compute = dtypes[k], .pooling = pooling}};
            tiny_batch x = {0};
            tiny_arch(&t.arch, family, 2, more);
            tiny_fill(&x, LENGTHS, COUNT);
            tiny_open(&t, devices[d], false);
            check(&t, &x);
            tiny_close(&t);
        }
    assert_int_equal(cad_mem_blocks(), 0);
}

static void change_a_token(tiny *t, tiny_batch *x)
{
    float before[MOST], after[MOST];

    logits_of(t, &x->b, before);
    for (int s = 0; s < COUNT; s++) {
        int32_t *token = &x->ids[x->starts[s] + LENGTHS[s] / 2], kept = *token;
        *token = (kept + 5) % TINY_VOCAB;
        logits_of(t, &x->b, after);
        for (int o = 0; o < COUNT; o++) assert_true(!memcmp(before + o * CLASSES, after + o * CLASSES, CLASSES * sizeof *before) == (o != s));
        *token = kept;
    }
}

static void another_sequence_never_matters(void **state)
{
    (void)state;
    everywhere(change_a_token, "llama", "", CAD_POOLING_LAST);
    everywhere(change_a_token, "qwen2", "", CAD_POOLING_MEAN);
}

static void change_what_follows(tiny *t, tiny_batch *x)
{
    float before[MOST], after[MOST];

    logits_of(t, &x->b, before);
    for (int s = 0; s < COUNT; s++)
        for (int32_t i = x->starts[s] + 1; i < x->starts[s + 1]; i++) x->ids[i] = (x->ids[i] + 3) % TINY_VOCAB;
    logits_of(t, &x->b, after);
    assert_memory_equal(before, after, COUNT * CLASSES * sizeof *before);
}

static void later_tokens_never_matter(void **state)
{
    (void)state;
    everywhere(change_what_follows, "llama", "", CAD_POOLING_FIRST);
}

static void take_sequence(tiny_batch *to, const tiny_batch *from, int s)
{
    int32_t at = to->b.sequences ? to->starts[to->b.sequences] : 0, n = from->starts[s + 1] - from->starts[s];

    memcpy(to->ids + at, from->ids + from->starts[s], (size_t)n * sizeof *to->ids);
    to->starts[to->b.sequences + 1] = at + n;
    to->b = (cad_model_batch){.tokens = at + n, .sequences = to->b.sequences + 1, .longest = (int32_t)cad_max(to->b.longest, n), .ids = to->ids, .starts = to->starts, .scale = 1};
}

static void permute(tiny *t, tiny_batch *x)
{
    static const int order[COUNT] = {4, 2, 0, 5, 3, 1};
    tiny_batch y = {0};
    float a[MOST], b[MOST];

    for (int i = 0; i < COUNT; i++) take_sequence(&y, x, order[i]);
    logits_of(t, &x->b, a);
    logits_of(t, &y.b, b);
    for (int i = 0; i < COUNT; i++) expect_close(t, a + order[i] * CLASSES, b + i * CLASSES, "another order");
    for (int i = 0; i < COUNT && !strcmp(cad_device_name(t->device), "ref"); i++) assert_memory_equal(a + order[i] * CLASSES, b + i * CLASSES, CLASSES * sizeof *a);
}

static void the_order_in_a_batch_does_not_matter(void **state)
{
    (void)state;
    everywhere(permute, "llama", ", \"attention_bias\": true", CAD_POOLING_LAST);
    everywhere(permute, "qwen2", ", \"use_sliding_window\": true, \"sliding_window\": 4, \"max_window_layers\": 1", CAD_POOLING_MEAN);
}

static void one_by_one(tiny *t, tiny_batch *x)
{
    float a[MOST], b[MOST];

    logits_of(t, &x->b, a);
    for (int s = 0; s < COUNT; s++) {
        tiny_batch y = {0};
        take_sequence(&y, x, s);
        logits_of(t, &y.b, b);
        expect_close(t, a + s * CLASSES, b, "alone");
        if (!strcmp(cad_device_name(t->device), "ref")) assert_memory_equal(a + s * CLASSES, b, CLASSES * sizeof *a);
    }
}

static void a_sequence_alone_is_the_same(void **state)
{
    (void)state;
    everywhere(one_by_one, "llama", "", CAD_POOLING_LAST);
    everywhere(one_by_one, "qwen2", "", CAD_POOLING_MEAN);
}

/* Two layers that see three tokens back each: the last token's logits are those of the last five tokens, wherever they stand. Angles are taken of
 * fp32 products of place and frequency: off by 2^-24 of the place, 40 at most. */
static void shift(tiny *t, tiny_batch *x)
{
    static const int prefixes[] = {0, 1, 2, 7, 11};
    float out[MOST];
    double bound;

    *x = (tiny_batch){0};
    for (int s = 0; s < 5; s++) {
        int32_t at = x->b.sequences ? x->starts[s] : 0;
        for (int i = 0; i < prefixes[s] + 5; i++) x->ids[at + i] = i < prefixes[s] ? (i * 7 + s) % TINY_VOCAB : (i - prefixes[s]) * 3 % TINY_VOCAB;
        x->starts[s + 1] = at + prefixes[s] + 5;
        x->b = (cad_model_batch){.tokens = x->starts[s + 1], .sequences = s + 1, .longest = prefixes[s] + 5, .ids = x->ids, .starts = x->starts, .scale = 1};
    }
    logits_of(t, &x->b, out);
    bound = bound_of(t) + (t->method.compute == CAD_F64 ? 0 : 8 * 16 * 0x1p-24);
    for (int s = 1; s < 5; s++)
        for (int c = 0; c < CLASSES; c++)
            if (!(fabs((double)out[s * CLASSES + c] - (double)out[c]) <= bound * fmax(1, fabs((double)out[c])))) fail_msg("shifted by %d on %s, %s: %.9g and %.9g", prefixes[s], cad_device_name(t->device), cad_dtype_name(t->method.compute), (double)out[c], (double)out[s * CLASSES + c]);
}

static void only_distances_matter(void **state)
{
    (void)state;
    everywhere(shift, "qwen2", ", \"use_sliding_window\": true, \"sliding_window\": 3, \"max_window_layers\": 0", CAD_POOLING_LAST);
    everywhere(shift, "qwen2", ", \"use_sliding_window\": true, \"sliding_window\": 3, \"max_window_layers\": 0, \"rope_theta\": 3.0", CAD_POOLING_LAST);
}

/* A batch of one kind of weight has the gradient of its sequences, added up. */
static void the_gradient_of_a_batch_is_the_sum_over_its_sequences(void **state)
{
    tiny whole = {.method = {.compute = CAD_F64}}, part = whole;
    tiny_batch x = {0};

    (void)state;
    tiny_arch(&whole.arch, "qwen2", 2, "");
    part.arch = whole.arch;
    tiny_fill(&x, LENGTHS, COUNT);
    tiny_open(&whole, "ref", true);
    tiny_open(&part, "ref", true);
    double loss = tiny_loss_from(&whole, &x.b, 0, true), losses = 0;
    tiny_backward(&whole);
    for (int s = 0; s < COUNT; s++) {
        tiny_batch y = {0};
        take_sequence(&y, &x, s);
        y.b.labels = &x.labels[s];
        y.b.weights = &x.weights[s];
        y.b.scale = x.b.scale;
        losses += tiny_loss_from(&part, &y.b, 0, true);
        tiny_backward(&part);
        for (int u = 0; u < whole.params->units; u++)
            for (int64_t i = 0; i < whole.params->train_elems[u]; i++) ((double *)whole.grad[u])[i] -= ((double *)part.grad[u])[i];
    }
    assert_true(fabs(loss - losses) <= 64 * 0x1p-53 * fabs(loss));
    for (int u = 0; u < whole.params->units; u++)
        for (int64_t i = 0; i < whole.params->train_elems[u]; i++) assert_true(fabs(((double *)whole.grad[u])[i]) <= 1024 * 0x1p-53 * loss);
    tiny_close(&part);
    tiny_close(&whole);
}

static void with_threads(tiny *t, tiny_batch *x, const cad_method *m, int threads)
{
    *t = (tiny){.method = *m, .threads = threads};
    tiny_arch(&t->arch, "qwen2", 2, "");
    tiny_open(t, "cpu", true);
    (void)tiny_loss_from(t, &x->b, 0, true);
    tiny_backward(t);
}

static void the_number_of_threads_changes_no_bit(void **state)
{
    static const cad_method methods[] = {{.compute = CAD_F32}, {.compute = CAD_BF16}, {.compute = CAD_F32, .lora = true, .r = 3, .alpha = 2, .dropout = 0.2, .train_head = true},
                                         {.compute = CAD_BF16, .lora = true, .r = 3, .alpha = 2, .dropout = 0.2, .train_bias = true, .recompute = true}};
    tiny_batch x = {0};

    (void)state;
    tiny_fill(&x, LENGTHS, COUNT);
    for (int k = 0; have_device("cpu") && k < 4; k++) {
        tiny one, more;
        with_threads(&one, &x, &methods[k], 1);
        for (int threads = 2; threads <= 5; threads += 3) {
            with_threads(&more, &x, &methods[k], threads);
            for (int u = 0; u < one.params->units; u++)
                if (one.params->train_elems[u]) assert_memory_equal(one.grad[u], more.grad[u], (size_t)one.params->train_elems[u] * 4);
            tiny_close(&more);
        }
        tiny_close(&one);
    }
}

static void a_batch_larger_than_planned_is_refused(void **state)
{
    tiny t = {.method = {.compute = CAD_F32}};
    tiny_batch x = {0};
    cad_model_batch b;

    (void)state;
    tiny_arch(&t.arch, "llama", 1, "");
    tiny_fill(&x, LENGTHS, COUNT);
    tiny_open(&t, "ref", false);
    b = x.b;
    b.tokens = TINY_TOKENS + 1;
    assert_int_equal(cad_model_start(t.model, &b, false), CAD_EINTERNAL);
    expect_reason("a micro-batch of 65 tokens");
    b = x.b;
    b.longest = 65;
    assert_int_equal(cad_model_start(t.model, &b, false), CAD_EINTERNAL);
    expect_reason("longest 65, is larger than planned (64, 12, 64)");
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_sequence_never_matters),
        cmocka_unit_test(later_tokens_never_matter),
        cmocka_unit_test(the_order_in_a_batch_does_not_matter),
        cmocka_unit_test(a_sequence_alone_is_the_same),
        cmocka_unit_test(only_distances_matter),
        cmocka_unit_test(the_gradient_of_a_batch_is_the_sum_over_its_sequences),
        cmocka_unit_test(the_number_of_threads_changes_no_bit),
        cmocka_unit_test(a_batch_larger_than_planned_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
