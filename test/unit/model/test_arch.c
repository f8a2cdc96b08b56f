/* What config.json says, in both forms; what is refused; the rotation's frequencies. */
#include "tiny.h"

static const char *shared(const char *name)
{
    static char path[2][1024];
    static int turn;
    const char *dir = getenv("CADTRAIN_SHARED");
    char *p = path[turn++ % 2];

    snprintf(p, sizeof path[0], "%s/golden/%s", dir ? dir : "../shared", name);
    return p;
}

static cad_status parse(cad_arch *a, const char *json) { return cad_arch_parse(a, json, strlen(json), "config.json"); }

static void expect_same_arch(const cad_arch *a, const cad_arch *b)
{
    assert_string_equal(a->family, b->family);
    assert_int_equal(a->layers, b->layers);
    assert_true(a->hidden == b->hidden && a->intermediate == b->intermediate && a->vocab == b->vocab && a->max_positions == b->max_positions);
    assert_true(a->q_heads == b->q_heads && a->kv_heads == b->kv_heads && a->head_dim == b->head_dim && a->pad_id == b->pad_id);
    assert_true(a->eps == b->eps && a->attn_scale == b->attn_scale && a->embed_scale == b->embed_scale && a->initializer_range == b->initializer_range);
    assert_true(a->act == b->act && a->qkv_bias == b->qkv_bias && a->o_bias == b->o_bias && a->mlp_bias == b->mlp_bias && a->tied == b->tied && a->stored == b->stored);
    assert_true(a->rope.kind == b->rope.kind && a->rope.theta == b->rope.theta && a->rope.factor == b->rope.factor);
    assert_true(a->rope.low == b->rope.low && a->rope.high == b->rope.high && a->rope.original == b->rope.original);
    assert_true(a->rope_local.theta == b->rope_local.theta && a->rope_local.kind == b->rope_local.kind && a->attn_softcap == b->attn_softcap && a->final_softcap == b->final_softcap);
    assert_true(a->norm_place == b->norm_place && a->head_norm == b->head_norm && a->centred == b->centred && a->gated == b->gated && a->causal == b->causal && a->chunk == b->chunk);
    assert_true(a->experts == b->experts && a->chosen == b->chosen && a->temperature == b->temperature && a->temperature_floor == b->temperature_floor && a->types == b->types);
    assert_memory_equal(a->rope_of, b->rope_of, sizeof a->rope_of);
    assert_memory_equal(a->chunked, b->chunked, sizeof a->chunked);
    assert_memory_equal(a->routed, b->routed, sizeof a->routed);
    assert_memory_equal(a->window, b->window, sizeof a->window);
    assert_memory_equal(&a->names, &b->names, sizeof a->names);
}

static void both_forms_of_a_file_say_the_same(void **state)
{
    static const char *const families[] = {"llama", "llama31", "qwen2", "mistral", "qwen3", "gemma2", "gemma3", "llama4", "bert"};

    (void)state;
    if (!cad_is_dir(shared("extra"))) {
        print_message("skipped: no reference files (../shared is absent)\n");
        skip();
    }
    for (int i = 0; i < 9; i++) {
        char v4[64], v5[64];
        cad_arch old, new;
        snprintf(v4, sizeof v4, "extra/hf_v4_config/%s", families[i]);
        snprintf(v5, sizeof v5, "%s/model", families[i]);
        OK(cad_arch_read(&old, shared(v4)));
        OK(cad_arch_read(&new, shared(v5)));
        expect_same_arch(&old, &new);
        if (i > 2) continue;
        assert_true(old.rope.kind == (i == 1 ? CAD_ROPE_BANDED : CAD_ROPE_DEFAULT));
        assert_true(old.head_dim == (i == 2 ? 8 : 16) && old.qkv_bias == (i == 2) && old.tied == (i == 1));
    }
}

static void an_almost_empty_file_is_filled_from_the_family(void **state)
{
    cad_arch a;

    (void)state;
    OK(parse(&a, "{\"model_type\": \"llama\"}"));
    assert_true(a.layers == 32 && a.hidden == 4096 && a.intermediate == 11008 && a.vocab == 32000 && a.q_heads == 32 && a.kv_heads == 32 && a.head_dim == 128);
    assert_true(a.max_positions == 2048 && a.eps == 1e-6 && a.rope.theta == 1e4 && a.pad_id == -1 && a.num_labels == 2 && !a.qkv_bias && !a.tied && a.window[0] == 0);
    assert_true(a.act == CAD_ACT_SILU && a.attn_scale == 1 / sqrt(128) && a.embed_scale == 1 && a.initializer_range == 0.02 && a.stored == CAD_F32);
    assert_string_equal(a.class_stem, "Llama");
    OK(parse(&a, "{\"model_type\": \"qwen2\", \"num_key_value_heads\": null, \"head_dim\": null, \"pad_token_id\": null, \"rope_scaling\": null}"));
    assert_true(a.layers == 32 && a.hidden == 4096 && a.intermediate == 22016 && a.vocab == 151936 && a.kv_heads == 32 && a.head_dim == 128);
    assert_true(a.max_positions == 32768 && a.qkv_bias && !a.o_bias && !a.mlp_bias && a.pad_id == -1 && a.window[31] == 0);
    assert_string_equal(a.class_stem, "Qwen2");
}

static void what_the_file_says_wins(void **state)
{
    cad_arch a;

    (void)state;
    OK(parse(&a, "{\"model_type\": \"llama\", \"attention_bias\": true, \"mlp_bias\": true, \"hidden_act\": \"gelu\", \"rms_norm_eps\": 1e-05, \"torch_dtype\": \"bfloat16\", "
                 "\"tie_word_embeddings\": true, \"pad_token_id\": 7, \"id2label\": {\"0\": \"a\", \"1\": \"b\", \"2\": \"c\"}, \"head_dim\": 64, \"num_key_value_heads\": 8}"));
    assert_true(a.qkv_bias && a.o_bias && a.mlp_bias && a.act == CAD_ACT_GELU_ERF && a.eps == 1e-5 && a.stored == CAD_BF16 && a.tied && a.pad_id == 7);
    assert_true(a.num_labels == 3 && a.head_dim == 64 && a.kv_heads == 8 && a.attn_scale == 0.125);
    OK(parse(&a, "{\"model_type\": \"llama\", \"dtype\": \"float16\", \"pad_token_id\": -1, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4.0}, \"rope_theta\": 500000}"));
    assert_true(a.stored == CAD_F16 && a.pad_id == 31999 && a.rope.kind == CAD_ROPE_LINEAR && a.rope.factor == 4 && a.rope.theta == 5e5);
    OK(parse(&a, "{\"model_type\": \"llama\", \"rope_theta\": 2.0, \"rope_parameters\": {\"rope_type\": \"llama3\", \"rope_theta\": 5e5, \"factor\": 32.0, \"low_freq_factor\": 1.0, "
                 "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}}"));
    assert_true(a.rope.kind == CAD_ROPE_BANDED && a.rope.theta == 5e5 && a.rope.factor == 32 && a.rope.low == 1 && a.rope.high == 4 && a.rope.original == 8192);
}

static void windows_are_where_the_rule_or_the_list_puts_them(void **state)
{
    cad_arch a;

    (void)state;
    OK(parse(&a, "{\"model_type\": \"qwen2\", \"num_hidden_layers\": 4, \"use_sliding_window\": true, \"sliding_window\": 9, \"max_window_layers\": 3}"));
    assert_true(a.window[0] == 0 && a.window[2] == 0 && a.window[3] == 9);
    OK(parse(&a, "{\"model_type\": \"qwen2\", \"num_hidden_layers\": 2, \"use_sliding_window\": true, \"max_window_layers\": 0, \"layer_types\": [\"sliding_attention\", \"full_attention\"]}"));
    assert_true(a.window[0] == 4096 && a.window[1] == 0);
    OK(parse(&a, "{\"model_type\": \"qwen2\", \"num_hidden_layers\": 2, \"use_sliding_window\": true, \"max_window_layers\": 0, \"sliding_window\": null}"));
    assert_true(a.window[0] == 0 && a.window[1] == 0);
    OK(parse(&a, "{\"model_type\": \"qwen2\", \"num_hidden_layers\": 2, \"use_sliding_window\": false, \"max_window_layers\": 0, \"sliding_window\": 9}"));
    assert_true(a.window[0] == 0);
}

static void what_is_not_computed_is_refused_with_a_sentence(void **state)
{
    static const struct { const char *json, *reason; } cases[] = {
        {"[]", "expected a table with \"model_type\""},
        {"{}", "expected a table with \"model_type\""},
        {"{\"model_type\": 3}", "expected a table with \"model_type\""},
        {"{\"model_type\": \"bloom\"}", "model_type: expected one of bert, gemma2, gemma3, llama, llama4, mistral, qwen2, qwen3, found \"bloom\""},
        {"{\"model_type\": \"llama\",}", "config.json:1:24"},
        {"{\"model_type\": \"llama\", \"hidden_size\": \"big\"}", "config.json:1:40: \"hidden_size\": expected a number, found "},
        {"{\"model_type\": \"llama\", \"hidden_size\": 0}", "\"hidden_size\": expected a whole number from 1 to 1048576, found 0"},
        {"{\"model_type\": \"llama\", \"num_hidden_layers\": 2.5}", "\"num_hidden_layers\": expected a whole number from 1 to 256, found 2.5"},
        {"{\"model_type\": \"llama\", \"num_hidden_layers\": 257}", "\"num_hidden_layers\""},
        {"{\"model_type\": \"llama\", \"vocab_size\": NaN}", "\"vocab_size\""},
        {"{\"model_type\": \"llama\", \"vocab_size\": 1000000000}", "\"vocab_size\": expected a whole number from 1 to 16777216, found 1e+09"},
        {"{\"model_type\": \"llama\", \"intermediate_size\": -1}", "\"intermediate_size\""},
        {"{\"model_type\": \"llama\", \"max_position_embeddings\": 1e300}", "\"max_position_embeddings\""},
        {"{\"model_type\": \"llama\", \"num_attention_heads\": 0}", "\"num_attention_heads\""},
        {"{\"model_type\": \"llama\", \"num_key_value_heads\": 5}", "expected num_attention_heads (32) to be a multiple of num_key_value_heads (5)"},
        {"{\"model_type\": \"llama\", \"num_key_value_heads\": 64}", "to be a multiple of num_key_value_heads (64)"},
        {"{\"model_type\": \"llama\", \"head_dim\": 7}", "\"head_dim\": expected an even number from 2 to 1024, found 7"},
        {"{\"model_type\": \"llama\", \"head_dim\": 16.5}", "\"head_dim\": expected a whole number from 2 to 1024, found 16.5"},
        {"{\"model_type\": \"llama\", \"head_dim\": 1e300}", "\"head_dim\""},
        {"{\"model_type\": \"llama\", \"quantization_config\": {\"bits\": 4}}", "config.json:1:48: quantization_config: expected an unquantised model or quant_method bitsandbytes, found something else"},
        {"{\"model_type\": \"llama\", \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2.0}}", "\"rope_type\": expected one of default, linear, llama3, found \"yarn\""},
        {"{\"model_type\": \"qwen2\", \"rope_parameters\": {\"rope_type\": \"dynamic\"}}", "found \"dynamic\""},
        {"{\"model_type\": \"llama\", \"rope_parameters\": {\"rope_type\": 4}}", "a table with a word \"rope_type\""},
        {"{\"model_type\": \"llama\", \"rope_parameters\": {\"rope_theta\": \"x\"}}", "\"rope_theta\""},
        {"{\"model_type\": \"llama\", \"rope_parameters\": {\"factor\": \"x\"}}", "a table of numbers"},
        {"{\"model_type\": \"llama\", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}}", "rope theta and factor: expected positive numbers"},
        {"{\"model_type\": \"llama\", \"rope_theta\": -3}", "rope theta and factor: expected positive numbers"},
        {"{\"model_type\": \"llama\", \"hidden_act\": \"relu\"}", "\"hidden_act\": expected silu, gelu_pytorch_tanh or gelu, found \"relu\""},
        {"{\"model_type\": \"llama\", \"hidden_act\": 1}", "\"hidden_act\": expected a word"},
        {"{\"model_type\": \"llama\", \"attention_bias\": \"yes\"}", "\"attention_bias\": expected true or false"},
        {"{\"model_type\": \"llama\", \"tie_word_embeddings\": 1}", "\"tie_word_embeddings\": expected true or false"},
        {"{\"model_type\": \"llama\", \"pad_token_id\": 32000}", "\"pad_token_id\": expected a whole number from -32000 to 31999, found 32000"},
        {"{\"model_type\": \"llama\", \"num_labels\": 0}", "\"num_labels\": expected a whole number from 1"},
        {"{\"model_type\": \"qwen2\", \"use_sliding_window\": true, \"sliding_window\": 0}", "\"sliding_window\": expected a whole number from 1"},
        {"{\"model_type\": \"qwen2\", \"use_sliding_window\": true, \"max_window_layers\": -1}", "\"max_window_layers\""},
    };
    cad_arch a;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (parse(&a, cases[i].json) != CAD_EMODEL) fail_msg("%s is not refused", cases[i].json);
        if (!strstr(cad_reason(), "config.json")) fail_msg("%s: the file is not named in \"%s\"", cases[i].json, cad_reason());
        expect_reason(cases[i].reason);
    }
    assert_int_equal(cad_arch_read(&a, "/nowhere"), CAD_EMODEL);
    expect_reason("/nowhere/config.json");
    assert_int_equal(cad_mem_blocks(), 0);
}

static void no_failed_allocation_leaks(void **state)
{
    static const char json[] = "{\"model_type\": \"qwen2\", \"rope_parameters\": {\"rope_type\": \"yarn\"}, \"hidden_size\": 64}";
    cad_arch a;
    cad_status status = CAD_ERESOURCE;

    (void)state;
    for (int64_t nth = 1; status == CAD_ERESOURCE && nth < 1000; nth++) {
        cad_mem_fail_at(nth);
        status = parse(&a, json);
        cad_mem_fail_at(0);
        cad_clear();
        assert_int_equal(cad_mem_blocks(), 0);
    }
    assert_int_equal(status, CAD_EMODEL);
}

/* Half a unit of the last printed digit. */
static double half_digit(const char *text)
{
    const char *dot = strchr(text, '.'), *e = strchr(text, 'e');
    int decimals = dot ? (int)((e ? e : text + strlen(text)) - dot - 1) : 0;

    return 0.5 * pow(10, (e ? atoi(e + 1) : 0) - decimals);
}

/* f comes out of three roundings of fp32 arithmetic on an exponent 2j/d, which multiplies an error by ln theta < 16; a band mixes two such. */
static void check_frequency(const float *f, int j, const char *want)
{
    double w = atof(want), bound = half_digit(want) + (16 + 8) * 0x1p-24 * w;

    if (!(fabs(f[j] - w) <= bound)) fail_msg("frequency %d: expected %s, found %.9g (bound %g)", j, want, (double)f[j], bound);
}

static void frequencies_are_those_of_transformers(void **state)
{
    static const struct { cad_rope_spec spec; int64_t d; struct { int j; const char *f; } at[9]; } cases[] = {
        {{CAD_ROPE_DEFAULT, 1e4, 1, 1, 4, 4096}, 128, {{0, "1.00000000"}, {1, "0.86596432"}, {32, "0.0100000000"}, {63, "1.154782e-4"}}},
        {{CAD_ROPE_DEFAULT, 5e5, 1, 1, 4, 8192}, 128, {{1, "0.81461723"}, {32, "1.4142136e-3"}, {63, "2.4551408e-6"}}},
        {{CAD_ROPE_BANDED, 5e5, 8, 1, 4, 8192}, 128,
         {{28, "3.211446e-3"}, {29, "2.1665708e-3"}, {30, "1.3718936e-3"}, {34, "1.7850781e-4"}, {35, "9.5562124e-5"}, {63, "3.068926e-7"}}},
        {{CAD_ROPE_BANDED, 5e5, 32, 1, 4, 8192}, 64,
         {{14, "3.211446e-3"}, {15, "1.2905479e-3"}, {16, "4.295568e-4"}, {17, "9.7082878e-5"}, {18, "1.9461638e-5"}, {31, "9.4183067e-8"}}},
        {{CAD_ROPE_BANDED, 5e5, 16, 1, 1, 8192}, 128, {{34, "9.3847387e-4"}, {35, "4.7781062e-5"}, {63, "1.534463e-7"}}},
        {{CAD_ROPE_DEFAULT, 1e6, 1, 1, 4, 8192}, 128, {{1, "0.80584219"}, {32, "1.00000000e-3"}, {63, "1.2409378e-6"}}},
        {{CAD_ROPE_DEFAULT, 1e6, 1, 1, 4, 8192}, 64, {{1, "0.64938163"}, {16, "1.00000000e-3"}, {31, "1.5399265e-6"}}},
        {{CAD_ROPE_DEFAULT, 1e4, 1, 1, 4, 8192}, 256, {{1, "0.93057204"}, {64, "0.0100000000"}, {127, "1.0746078e-4"}}},
        {{CAD_ROPE_LINEAR, 1e6, 8, 1, 4, 8192}, 256, {{1, "0.11221089"}, {64, "1.25000000e-4"}, {127, "1.3924673e-7"}}},
    };
    float f[128], plain[128];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cad_rope_frequencies(&cases[i].spec, cases[i].d, f);
        for (int k = 0; k < 9 && cases[i].at[k].f; k++) check_frequency(f, cases[i].at[k].j, cases[i].at[k].f);
    }
    cad_rope_frequencies(&cases[1].spec, 128, plain);
    cad_rope_frequencies(&cases[2].spec, 128, f);
    for (int j = 0; j < 64; j++) {
        if (j <= 28) assert_true(f[j] == plain[j]);
        if (j >= 35) assert_true(f[j] == plain[j] / 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_forms_of_a_file_say_the_same),
        cmocka_unit_test(an_almost_empty_file_is_filled_from_the_family),
        cmocka_unit_test(what_the_file_says_wins),
        cmocka_unit_test(windows_are_where_the_rule_or_the_list_puts_them),
        cmocka_unit_test(what_is_not_computed_is_refused_with_a_sentence),
        cmocka_unit_test(no_failed_allocation_leaks),
        cmocka_unit_test(frequencies_are_those_of_transformers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
