/* Every gradient of the whole model against differences of its loss, in double precision. */
#include "tiny.h"

/* Four points: D = (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h = f' + h^4 f5 / 30 + rounding; each f is off by c eps |f|, so that the rounding is
 * at most 18 c eps |f| / 12h. With c = 16 and |f5| <= 1e5 |f| (norms over eight columns bend sharply) the two are alike at h = 3e-4. */
static const double STEP = 3e-4;

static double floor_of(double f) { return (1e5 / 30 * STEP * STEP * STEP * STEP + 24 * 0x1p-52 / STEP) * fabs(f); }

typedef struct direction { tiny *t; const tiny_batch *x; int from; const cad_param *p; int64_t i; double before, length; uint32_t site; } direction;

/* What the lookup of the pad id reads: its row of the table, its column of an adapter's A. */
static bool is_pad_row(const cad_param *p, int64_t i)
{
    if (p->role != CAD_ROLE_EMBED || p->piece == CAD_PIECE_B) return false;
    return (p->piece == CAD_PIECE_A ? i % p->cols : i / p->cols) == TINY_PAD;
}

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
        if (t->method.dora && (p->piece == CAD_PIECE_A || p->piece == CAD_PIECE_B)) continue; /* not the derivative of the loss */
        for (int64_t k = 0; p->trains && k < cad_min(count, p->elems); k++) {
            int64_t i = p->elems <= count ? k : (int64_t)(cad_rng_uniform(3, CAD_RNG_TEST, (uint32_t)r, (uint64_t)k) * (double)p->elems);
            direction d = {t, x, p->unit, p, i, tiny_value(p, r, i), 1, 0};
            double want = tiny_gradient(t, p, i), found;
            if (is_pad_row(p, i)) {
                assert_true(want == 0 || (t->method.causal && t->arch.tied)); /* a tied head sees it nevertheless */
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
static void check_recompute(const tiny *one, const tiny_batch *x, double loss, cad_recompute level)
{
    tiny t = {.arch = one->arch, .method = one->method};

    t.method.recompute = level;
    tiny_open(&t, "check", true);
    assert_true(tiny_loss_from(&t, &x->b, 0, true) == loss);
    tiny_backward(&t);
    for (int u = 0; u < t.params->units; u++)
        if (t.params->train_elems[u]) assert_memory_equal(t.grad[u], one->grad[u], (size_t)t.params->train_elems[u] * t.real);
    tiny_close(&t);
}

/* Once more on top of what is there: twice the gradient. Sums of at most TINY_TOKENS terms, of which none is over 16 times the unit's largest gradient. */
static void check_adding(tiny *t, const tiny_batch *x)
{
    for (int u = t->params->units - 1; u >= 0; u--) {
        size_t n = (size_t)t->params->train_elems[u];
        double *once = NULL, largest = 0, *twice = t->grad[u];
        OK(cad_alloc(&once, n + 1, sizeof *once, "gradients"));
        if (n) memcpy(once, twice, n * sizeof *once);
        if (u == t->params->units - 1) (void)tiny_loss_from(t, &x->b, 0, true);
        OK(cad_model_backward(t->model, u, t->view[u], t->grad[u], true));
        for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs(once[i]));
        for (size_t i = 0; i < n; i++)
            if (!(fabs(twice[i] - 2 * once[i]) <= TINY_TOKENS * 0x1p-52 * 16 * largest)) fail_msg("unit %d, element %zu: once %.17g, twice %.17g", u, i, once[i], twice[i]);
        cad_free(&once);
    }
    (void)tiny_loss_from(t, &x->b, 0, true);
    tiny_backward(t);
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
    check_recompute(&t, &x, loss, CAD_RECOMPUTE_BLOCKS);
    check_recompute(&t, &x, loss, CAD_RECOMPUTE_ATTENTION);
    check_adding(&t, &x);
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

static const char EXPERTS[] = ", \"num_local_experts\": 3, \"moe_layers\": [0, 2], \"intermediate_size_mlp\": 12, \"attention_chunk_size\": 2, \"no_rope_layer_interval\": 2, \"floor_scale\": 2, "
                              "\"rope_theta\": 30.0";
static const char SLIDING[] = ", \"sliding_window\": 2, \"query_pre_attn_scalar\": 6, \"attn_logit_softcapping\": 1.5, \"final_logit_softcapping\": 2.0";

static void a_window_in_every_layer(void **state)
{
    (void)state;
    check("mistral", 2, ", \"sliding_window\": 3", (cad_method){0}, 20, 6);
}

static void norms_of_heads(void **state)
{
    (void)state;
    check("qwen3", 2, ", \"attention_bias\": true", (cad_method){0}, 20, 12);
    check("qwen3", 1, "", (cad_method){.lora = true, .r = 2, .alpha = 3, .train_head = true}, 10, 12);
}

static void norms_on_both_sides_and_caps(void **state)
{
    (void)state;
    check("gemma2", 2, SLIDING, (cad_method){0}, 20, 12);
    check("gemma2", 2, SLIDING, (cad_method){.lora = true, .r = 2, .alpha = 3, .dropout = 0.2, .train_head = true, .pooling = CAD_POOLING_MEAN}, 10, 12);
}

static void two_bases_of_rotation(void **state)
{
    (void)state;
    check("gemma3", 3, ", \"sliding_window\": 2, \"sliding_window_pattern\": 2, \"rope_theta\": 30.0, \"rope_local_base_freq\": 3.0, \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 2.0}", (cad_method){0}, 20, 12);
}

static void experts_chunks_and_layers_without_rotation(void **state)
{
    (void)state;
    check("llama4", 3, EXPERTS, (cad_method){0}, 20, 12);
    check("llama4", 3, EXPERTS, (cad_method){.lora = true, .r = 2, .alpha = 3, .train_head = true}, 10, 12);
}

static void two_experts_for_each_token(void **state)
{
    char more[512];

    (void)state;
    snprintf(more, sizeof more, "%s, \"num_experts_per_tok\": 2, \"use_qk_norm\": false", EXPERTS);
    check("llama4", 3, more, (cad_method){0}, 20, 12);
}

static void adapters_on_routed_experts(void **state)
{
    static const char *const both[] = {"experts.gate_up_proj", "experts.down_proj"}, *const one[] = {"model.layers.2.feed_forward.experts.gate_up_proj"}, *const down[] = {"down_proj"};
    char more[512];

    (void)state;
    snprintf(more, sizeof more, "%s, \"num_experts_per_tok\": 2", EXPERTS);
    check("llama4", 3, EXPERTS, (cad_method){.lora = true, .r = 2, .alpha = 3, .parameters = both, .parameter_count = 2, .train_head = true}, 10, 12);
    check("llama4", 3, more, (cad_method){.lora = true, .r = 3, .alpha = 3, .parameters = one, .parameter_count = 1, .parameters_only = true, .train_head = true}, 10, 12);
    check("llama4", 3, EXPERTS, (cad_method){.lora = true, .r = 2, .alpha = 3, .parameters = down, .parameter_count = 1, .parameters_only = true, .causal = true}, 10, 12);
}

static const char NO_DROPOUT[] = ", \"hidden_dropout_prob\": 0.0, \"attention_probs_dropout_prob\": 0.0";

static void the_encoder(void **state)
{
    (void)state;
    check("bert", 2, NO_DROPOUT, (cad_method){0}, 20, 12);
    check("bert", 2, ", \"hidden_dropout_prob\": 0.3, \"attention_probs_dropout_prob\": 0.4, \"classifier_dropout\": 0.2", (cad_method){0}, 20, 12);
    check("bert", 2, NO_DROPOUT, (cad_method){.custom_head = true, .pooling = CAD_POOLING_MEAN, .head_dropout = 0.2}, 20, 8);
}

static void adapters_of_the_encoder(void **state)
{
    (void)state;
    check("bert", 2, "", (cad_method){.lora = true, .r = 2, .alpha = 3, .dropout = 0.2, .train_head = true, .train_bias = true}, 20, 12);
    check("bert", 2, NO_DROPOUT, (cad_method){.lora = true, .r = 2, .alpha = 3, .train_head = true, .train_bias = true, .adapted_bias_only = true}, 10, 12);
}

static void the_head_of_a_language_model(void **state)
{
    (void)state;
    check("llama", 1, "", (cad_method){.causal = true}, 20, 16);
    check("gemma2", 2, SLIDING, (cad_method){.causal = true}, 20, 16); /* tied and capped */
    check("gemma2", 2, SLIDING, (cad_method){.causal = true, .lora = true, .r = 2, .alpha = 3}, 10, 12);
    check("qwen2", 1, "", (cad_method){.causal = true, .lora = true, .r = 2, .alpha = 3}, 10, 12);
}

static void an_adapter_on_the_table_of_words(void **state)
{
    static const char *const words[] = {"embed_tokens", "q_proj"}, *const encoder[] = {"word_embeddings"};

    (void)state;
    check("gemma2", 1, SLIDING, (cad_method){.lora = true, .r = 2, .alpha = 3, .targets = words, .target_count = 2, .train_head = true}, 20, 26);
    check("bert", 1, NO_DROPOUT, (cad_method){.lora = true, .r = 3, .alpha = 3, .targets = encoder, .target_count = 1, .train_head = true}, 20, 39);
}

static void ranks_and_layers_by_pattern(void **state)
{
    static const char *const targets[] = {"q_proj", "v_proj", "down_proj"}, *const excluded[] = {"0.mlp.down_proj"};
    static char first[] = "layers.0.self_attn.q_proj", second[] = "v_proj";
    static const cad_module_number ranks[] = {{first, 4}, {second, 1}}, alphas[] = {{second, 7}};
    static const int layers[] = {0, 2};

    (void)state;
    check("llama", 3, "", (cad_method){.lora = true, .r = 2, .alpha = 3, .targets = targets, .target_count = 3, .excluded = excluded, .exclude_count = 1, .ranks = ranks, .rank_count = 2, .alphas = alphas, .alpha_count = 1,
                                       .only_layers = layers, .only_count = 2, .train_head = true}, 20, 12);
}

/* The norm of the stretched rows counts as a constant: what is compared is the gradient in the magnitudes, in biases, in the head and below the layers. */
static void magnitudes(void **state)
{
    static const char *const targets[] = {"q_proj", "up_proj", "down_proj"};

    (void)state;
    check("qwen2", 2, "", (cad_method){.lora = true, .dora = true, .r = 2, .alpha = 3, .targets = targets, .target_count = 3, .train_head = true, .train_bias = true}, 0, 12);
    check("qwen2", 2, "", (cad_method){.lora = true, .dora = true, .r = 2, .alpha = 3, .dropout = 0.3, .train_head = true}, 0, 12);
    check("bert", 1, NO_DROPOUT, (cad_method){.lora = true, .dora = true, .r = 2, .alpha = 3, .train_head = true}, 0, 12);
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
        cmocka_unit_test(a_window_in_every_layer),
        cmocka_unit_test(norms_of_heads),
        cmocka_unit_test(norms_on_both_sides_and_caps),
        cmocka_unit_test(two_bases_of_rotation),
        cmocka_unit_test(experts_chunks_and_layers_without_rotation),
        cmocka_unit_test(two_experts_for_each_token),
        cmocka_unit_test(adapters_on_routed_experts),
        cmocka_unit_test(the_encoder),
        cmocka_unit_test(adapters_of_the_encoder),
        cmocka_unit_test(the_head_of_a_language_model),
        cmocka_unit_test(an_adapter_on_the_table_of_words),
        cmocka_unit_test(ranks_and_layers_by_pattern),
        cmocka_unit_test(magnitudes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
