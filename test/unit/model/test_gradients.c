/* Every gradient of the whole model against differences of its loss, in double precision. */
#include "tiny.h"

/* Four points: D = (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h = f' + h^4 f5 / 30 + rounding; each f is off by c eps |f|, so that the rounding is
 * at most 18 c eps |f| / 12h. With c = 16 and |f5| <= 1e5 |f| (norms over eight columns bend sharply) the two are alike at h = 3e-4. */
static const double STEP = 3e-4;

static double floor_of(double f) { return (1e5 / 30 * STEP * STEP * STEP * STEP + 24 * 0x1p-52 / STEP) * fabs(f); }

typedef struct direction { tiny *t; const tiny_batch *x; int from; const cad_param *p; int64_t i; double before, length; uint32_t site; } direction;

static bool is_pad_row(const cad_param *p, int64_t i) { return p->role == CAD_ROLE_EMBED && i / p->cols == TINY_PAD; }

/* Component i of the random direction in row r; the pad id's row has no gradient and stays where it is. */
static double component(const direction *d, int r, int64_t i)
{
    const cad_param *p = &d->t->params->row[r];

    return p->trains && !is_pad_row(p, i) ? cad_rng_normal(9, CAD_RNG_TEST, d->site * 1000 + (uint32_t)r, (uint64_t)i) : 0;
}

static double moved(const direction *d, double by)
{
    const cad_params *all = d->t->params;

    if (d->p) tiny_set(d->t, d->p, d->i, d->before + by);
    for (int r = 0; !d->p && r < all->count; r++)
        for (int64_t i = 0; i < all->row[r].elems; i++)
            if (all->row[r].trains) tiny_set(d->t, &all->row[r], i, tiny_value(&all->row[r], r, i) + by / d->length * component(d, r, i));
    return tiny_loss_from(d->t, &d->x->b, d->from, true);
}

static double slope(const direction *d)
{
    double far = moved(d, 2 * STEP) - moved(d, -2 * STEP), near = moved(d, STEP) - moved(d, -STEP);

    return (8 * near - far) / (12 * STEP);
}

static void check_directions(tiny *t, const tiny_batch *x, double loss, int count)
{
    for (int k = 0; k < count; k++) {
        direction d = {.t = t, .x = x, .site = (uint32_t)k};
        double want = 0;
        for (int r = 0; r < t->params->count; r++)
            for (int64_t i = 0; t->params->row[r].trains && i < t->params->row[r].elems; i++) d.length += component(&d, r, i) * component(&d, r, i);
        d.length = sqrt(d.length);
        for (int r = 0; r < t->params->count; r++)
            for (int64_t i = 0; t->params->row[r].trains && i < t->params->row[r].elems; i++) want += tiny_gradient(t, &t->params->row[r], i) * component(&d, r, i) / d.length;
        double found = slope(&d);
        if (!(fabs(found - want) <= 1e-7 * fabs(want) + floor_of(loss))) fail_msg("direction %d: the gradient says %.15g, differences say %.15g", k, want, found);
    }
    tiny_draw(t);
    (void)tiny_loss_from(t, &x->b, 0, true);
}

static void check_coordinates(tiny *t, const tiny_batch *x, double loss, int64_t count)
{
    for (int r = 0; r < t->params->count; r++) {
        const cad_param *p = &t->params->row[r];
        for (int64_t k = 0; p->trains && k < cad_min(count, p->elems); k++) {
            int64_t i = p->elems <= count ? k : (int64_t)(cad_rng_uniform(3, CAD_RNG_TEST, (uint32_t)r, (uint64_t)k) * (double)p->elems);
            direction d = {t, x, p->unit, p, i, tiny_value(p, r, i), 1, 0};
            double want = tiny_gradient(t, p, i), found;
            if (is_pad_row(p, i)) {
                assert_true(want == 0);
                continue;
            }
            found = slope(&d);
            tiny_set(t, p, i, d.before);
            if (!(fabs(found - want) <= 1e-6 * fabs(want) + floor_of(loss))) fail_msg("%s[%lld]: the gradient says %.15g, differences say %.15g", p->name, (long long)i, want, found);
        }
        if (p->trains) (void)tiny_loss_from(t, &x->b, p->unit, true);
    }
}

static const int LENGTHS[] = {4, 1, 5, 1};

/* Loss and gradients once more with recomputing, on the device that poisons fresh memory: the same bits. */
static void check_recompute(const tiny *one, const tiny_batch *x, double loss)
{
    tiny t = {.arch = one->arch, .method = one->method};

    t.method.recompute = true;
    tiny_open(&t, "check", true);
    assert_true(tiny_loss_from(&t, &x->b, 0, true) == loss);
    tiny_backward(&t);
    for (int u = 0; u < t.params->units; u++)
        if (t.params->train_elems[u]) assert_memory_equal(t.grad[u], one->grad[u], (size_t)t.params->train_elems[u] * t.real);
    tiny_close(&t);
}

static void check(const char *family, int layers, const char *more, cad_method method, int directions, int64_t coordinates)
{
    tiny t = {.method = method};
    tiny_batch x = {0};

    t.method.compute = CAD_F64;
    t.method.seed = 21;
    tiny_arch(&t.arch, family, layers, more);
    tiny_fill(&x, LENGTHS, 4);
    tiny_open(&t, "ref", true);
    double loss = tiny_loss_from(&t, &x.b, 0, true);
    tiny_backward(&t);
    check_recompute(&t, &x, loss);
    check_directions(&t, &x, loss, directions);
    check_coordinates(&t, &x, loss, coordinates);
    tiny_close(&t);
    assert_int_equal(cad_mem_blocks(), 0);
}

static void full_fine_tuning(void **state)
{
    (void)state;
    check("llama", 2, ", \"tie_word_embeddings\": true", (cad_method){0}, 20, 50);
}

static void full_fine_tuning_with_biases_everywhere(void **state)
{
    (void)state;
    check("llama", 2, ", \"attention_bias\": true, \"mlp_bias\": true, \"hidden_act\": \"gelu_pytorch_tanh\"", (cad_method){0}, 20, 12);
}

static void full_fine_tuning_with_a_sliding_window(void **state)
{
    (void)state;
    check("qwen2", 3, ", \"use_sliding_window\": true, \"sliding_window\": 3, \"max_window_layers\": 1, \"hidden_act\": \"gelu\"", (cad_method){0}, 20, 12);
}

static void full_fine_tuning_with_banded_rotation(void **state)
{
    (void)state;
    check("llama", 2, ", \"rope_parameters\": {\"rope_type\": \"llama3\", \"rope_theta\": 30.0, \"factor\": 4.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
          "\"original_max_position_embeddings\": 32}", (cad_method){.num_labels = 3}, 20, 12);
}

static void a_custom_head_over_the_mean(void **state)
{
    (void)state;
    check("qwen2", 2, "", (cad_method){.custom_head = true, .pooling = CAD_POOLING_MEAN}, 20, 12);
}

static void a_custom_head_over_the_first_token_with_dropout(void **state)
{
    (void)state;
    check("qwen2", 2, "", (cad_method){.custom_head = true, .pooling = CAD_POOLING_FIRST, .head_dropout = 0.4}, 20, 12);
}

static void adapters_on_all_linear_layers(void **state)
{
    (void)state;
    check("llama", 2, "", (cad_method){.lora = true, .r = 3, .alpha = 6, .train_head = true}, 20, 16);
}

static void adapters_with_dropout_and_biases(void **state)
{
    (void)state;
    check("qwen2", 2, "", (cad_method){.lora = true, .r = 2, .alpha = 5, .dropout = 0.3, .train_bias = true, .rslora = true, .train_head = true}, 20, 50);
}

static void adapters_on_listed_layers(void **state)
{
    static const char *const targets[] = {"q_proj", "v_proj", "down_proj"};

    (void)state;
    check("llama", 2, ", \"attention_bias\": true", (cad_method){.lora = true, .r = 3, .alpha = 6, .targets = targets, .target_count = 3, .train_bias = true, .custom_head = true,
                                                                .train_head = true, .pooling = CAD_POOLING_MEAN}, 20, 12);
}

/* Embeddings, norms and one of three members of a product train in full beside adapters. */
static void adapters_beside_modules_that_train_in_full(void **state)
{
    static const char *const saves[] = {"embed_tokens", "norm", "0.self_attn.k_proj", "mlp.down_proj"};

    (void)state;
    check("qwen2", 2, "", (cad_method){.lora = true, .r = 2, .alpha = 5, .train_head = true, .saves = saves, .save_count = 4}, 20, 30);
}

static void adapters_in_one_layer_only(void **state)
{
    static const char *const targets[] = {".*\\.0\\.self_attn\\.(k|o)_proj"};

    (void)state;
    check("qwen2", 3, "", (cad_method){.lora = true, .r = 3, .alpha = 6, .targets = targets, .target_count = 1, .target_is_regex = true, .dropout = 0.25}, 20, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_fine_tuning),
        cmocka_unit_test(full_fine_tuning_with_biases_everywhere),
        cmocka_unit_test(full_fine_tuning_with_a_sliding_window),
        cmocka_unit_test(full_fine_tuning_with_banded_rotation),
        cmocka_unit_test(a_custom_head_over_the_mean),
        cmocka_unit_test(a_custom_head_over_the_first_token_with_dropout),
        cmocka_unit_test(adapters_on_all_linear_layers),
        cmocka_unit_test(adapters_with_dropout_and_biases),
        cmocka_unit_test(adapters_on_listed_layers),
        cmocka_unit_test(adapters_beside_modules_that_train_in_full),
        cmocka_unit_test(adapters_in_one_layer_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
