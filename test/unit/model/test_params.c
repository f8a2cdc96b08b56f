/* The table of parameters: names, order, places, what trains. */
#include "tiny.h"

static cad_params *open_table(const cad_arch *a, const cad_method *m)
{
    cad_params *p;

    OK(cad_params_open(&p, a, m));
    return p;
}

static void parse(cad_arch *a, const char *json) { OK(cad_arch_parse(a, json, strlen(json), "config.json")); }

static void names_and_order_are_those_of_the_checkpoint(void **state)
{
    static const struct { const char *name; int unit; bool trains; } want[] = {
        {"model.embed_tokens.weight", 0, false},
        {"model.layers.0.input_layernorm.weight", 1, false},
        {"model.layers.0.self_attn.q_proj.weight", 1, false},
        {"model.layers.0.self_attn.k_proj.weight", 1, false},
        {"model.layers.0.self_attn.v_proj.weight", 1, false},
        {"model.layers.0.self_attn.q_proj.bias", 1, true},
        {"model.layers.0.self_attn.k_proj.bias", 1, true},
        {"model.layers.0.self_attn.v_proj.bias", 1, true},
        {"model.layers.0.self_attn.q_proj.lora_A.weight", 1, true},
        {"model.layers.0.self_attn.q_proj.lora_B.weight", 1, true},
        {"model.layers.0.self_attn.o_proj.weight", 1, false},
        {"model.layers.0.post_attention_layernorm.weight", 1, false},
        {"model.layers.0.mlp.gate_proj.weight", 1, false},
        {"model.layers.0.mlp.up_proj.weight", 1, false},
        {"model.layers.0.mlp.down_proj.weight", 1, false},
        {"model.layers.0.mlp.down_proj.lora_A.weight", 1, true},
        {"model.layers.0.mlp.down_proj.lora_B.weight", 1, true},
        {"model.norm.weight", 2, false},
        {"classifier.classifier.weight", 2, true},
        {"classifier.classifier.bias", 2, true},
    };
    static const char *const targets[] = {"q_proj", "mlp.down_proj"};
    cad_method m = {.lora = true, .r = 3, .targets = targets, .target_count = 2, .train_bias = true, .train_head = true, .custom_head = true, .num_labels = 2};
    cad_arch a;
    cad_params *p;

    (void)state;
    tiny_arch(&a, "qwen2", 1, "");
    p = open_table(&a, &m);
    assert_int_equal(p->count, sizeof want / sizeof *want);
    assert_int_equal(p->units, 3);
    for (int i = 0; i < p->count; i++) {
        const cad_param *r = &p->row[i];
        assert_string_equal(r->name, want[i].name);
        assert_int_equal(r->unit, want[i].unit);
        assert_int_equal(r->trains, want[i].trains);
        assert_int_equal(p->find[r->unit][r->role][r->piece], i);
        assert_false(r->decays); /* the training room decides */
        assert_true(r->elems == r->rows * r->cols && (r->dims == 2 || r->rows == 1));
    }
    assert_int_equal(p->find[1][CAD_ROLE_O][CAD_PIECE_A], -1);
    assert_int_equal(p->find[0][CAD_ROLE_HEAD][CAD_PIECE_WEIGHT], -1);
    cad_params_close(&p);
    cad_params_close(&p);
    assert_int_equal(cad_mem_blocks(), 0);
}

static void expect_adapter_name(const cad_param *row, const char *want)
{
    cad_str name = {0};

    OK(cad_param_adapter_name(&name, row));
    assert_string_equal(name.data, want);
    cad_str_close(&name);
}

/* A directory with pictures beside the language model has another tree of modules (families 1.5); a language model alone has its own names. */
static void adapters_on_nested_directories_have_the_names_of_their_class(void **state)
{
    static const struct { const char *type, *text, *name; } cases[] = {
        {"gemma3", "gemma3_text", "base_model.model.model.language_model.layers.1.self_attn.q_proj.lora_A.weight"},
        {"llama4", "llama4_text", "base_model.model.language_model.model.layers.1.self_attn.q_proj.lora_A.weight"}};
    static const char *const targets[] = {"model.layers.1.self_attn.q_proj", ".*language_model.*[qv]_proj"};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        cad_method m = {.lora = true, .r = 3, .targets = targets + i % 2, .target_count = 1, .target_is_regex = i % 2, .train_head = true, .num_labels = 2};
        char json[512];
        cad_arch a;
        cad_params *p;
        snprintf(json, sizeof json, "{\"model_type\": \"%s\", \"text_config\": {\"model_type\": \"%s\", \"num_hidden_layers\": 2, \"hidden_size\": 8, \"intermediate_size\": 10, \"num_attention_heads\": 4,"
                 " \"num_key_value_heads\": 2, \"head_dim\": 4, \"vocab_size\": 13, \"num_local_experts\": 2, \"max_position_embeddings\": 64}}", cases[i / 2].type, cases[i / 2].text);
        OK(cad_arch_parse(&a, json, strlen(json), "config.json"));
        p = open_table(&a, &m);
        expect_adapter_name(&p->row[p->find[2][CAD_ROLE_Q][CAD_PIECE_A]], cases[i / 2].name);
        expect_adapter_name(&p->row[p->find[3][CAD_ROLE_HEAD][CAD_PIECE_WEIGHT]], "base_model.model.score.weight");
        assert_int_equal(p->find[1][CAD_ROLE_Q][CAD_PIECE_A] >= 0, i % 2);
        cad_params_close(&p);
    }
    assert_int_equal(cad_mem_blocks(), 0);
}

/* Names as peft 0.21 writes them: a bias beside an adapter is inside the wrapped layer. */
static void adapters_have_the_names_of_peft(void **state)
{
    static const char *const targets[] = {"q_proj"};
    cad_method m = {.lora = true, .r = 3, .targets = targets, .target_count = 1, .train_bias = true, .train_head = true, .num_labels = 2};
    cad_arch a;
    cad_params *p;

    (void)state;
    tiny_arch(&a, "qwen2", 2, "");
    p = open_table(&a, &m);
    expect_adapter_name(&p->row[p->find[2][CAD_ROLE_Q][CAD_PIECE_A]], "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight");
    expect_adapter_name(&p->row[p->find[2][CAD_ROLE_Q][CAD_PIECE_BIAS]], "base_model.model.model.layers.1.self_attn.q_proj.base_layer.bias");
    expect_adapter_name(&p->row[p->find[2][CAD_ROLE_K][CAD_PIECE_BIAS]], "base_model.model.model.layers.1.self_attn.k_proj.bias");
    expect_adapter_name(&p->row[p->find[3][CAD_ROLE_HEAD][CAD_PIECE_WEIGHT]], "base_model.model.score.weight");
    cad_params_close(&p);
    m.adapted_bias_only = true;
    p = open_table(&a, &m);
    assert_true(p->row[p->find[2][CAD_ROLE_Q][CAD_PIECE_BIAS]].trains);
    assert_false(p->row[p->find[2][CAD_ROLE_K][CAD_PIECE_BIAS]].trains);
    cad_params_close(&p);
}

/* Rows of a unit fill its two flat arrays without holes, in table order. */
static void check_places(const cad_params *p)
{
    int64_t train = 0, frozen = 0, bytes = 0, trainable = 0, all = 0;
    int unit = 0;

    for (int i = 0; i <= p->count; i++) {
        const cad_param *r = &p->row[i];
        if (i == p->count || r->unit != unit) {
            assert_true(train == p->train_elems[unit] && frozen == p->frozen_elems[unit] && bytes == p->frozen_bytes[unit]);
            trainable += train;
            all += train + frozen;
            train = frozen = bytes = 0;
            unit++;
        }
        if (i == p->count) break;
        assert_int_equal(r->unit, unit);
        assert_true(r->at == (r->trains ? train : bytes) && (r->trains || r->bytes == 4 * r->elems));
        bytes += r->bytes;
        *(r->trains ? &train : &frozen) += r->elems;
    }
    assert_int_equal(unit, p->units);
    assert_true(trainable == p->trainable && all == p->all);
}

static void expect_neighbours(const cad_params *p, int unit, const cad_role *roles, int n, cad_piece piece)
{
    for (int i = 1; i < n; i++) {
        const cad_param *a = &p->row[p->find[unit][roles[i - 1]][piece]], *b = &p->row[p->find[unit][roles[i]][piece]];
        assert_true(b->at == a->at + (a->trains ? a->elems : a->bytes) && b->trains == a->trains && b->cols == (piece == CAD_PIECE_BIAS ? b->elems : a->cols));
    }
}

static void members_of_one_product_lie_side_by_side(void **state)
{
    static const cad_role qkv[] = {CAD_ROLE_Q, CAD_ROLE_K, CAD_ROLE_V}, gu[] = {CAD_ROLE_GATE, CAD_ROLE_UP};
    static const char *const targets[] = {"v_proj"};
    cad_method methods[] = {{.num_labels = 2}, {.lora = true, .r = 2, .num_labels = 2}, {.lora = true, .r = 2, .num_labels = 2, .train_bias = true, .targets = targets, .target_count = 1}};
    cad_arch a;

    (void)state;
    tiny_arch(&a, "llama", 3, ", \"attention_bias\": true, \"mlp_bias\": true");
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        cad_params *p = open_table(&a, &methods[i]);
        check_places(p);
        for (int unit = 1; unit <= 3; unit++)
            for (int piece = CAD_PIECE_WEIGHT; piece <= CAD_PIECE_BIAS; piece++) {
                expect_neighbours(p, unit, qkv, 3, (cad_piece)piece);
                expect_neighbours(p, unit, gu, 2, (cad_piece)piece);
            }
        cad_params_close(&p);
    }
}

/* facts/families.md 11.4 and 1.3; no weight is allocated. */
static void counts_are_those_of_peft_and_transformers(void **state)
{
    static const struct { const char *json; int64_t adapters, whole; } cases[] = {
        {"{\"model_type\": \"llama\"}", 39976960, 6607351808},
        {"{\"model_type\": \"llama\", \"num_key_value_heads\": 8, \"intermediate_size\": 14336, \"vocab_size\": 128256}", 41943040, 7504932864},
        {"{\"model_type\": \"qwen2\", \"hidden_size\": 3584, \"num_hidden_layers\": 28, \"num_attention_heads\": 28, \"num_key_value_heads\": 4, \"intermediate_size\": 18944, "
         "\"vocab_size\": 152064}", 40370176, 7070626304},
    };
    static const char *const all[] = {"all-linear"};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cad_method m = {.num_labels = 2};
        cad_arch a;
        cad_params *p;
        parse(&a, cases[i].json);
        p = open_table(&a, &m);
        assert_true(p->trainable == cases[i].whole && p->all == cases[i].whole);
        cad_params_close(&p);
        m = (cad_method){.lora = true, .r = 16, .num_labels = 2, .targets = all, .target_count = 1};
        p = open_table(&a, &m);
        assert_true(p->trainable == cases[i].adapters && p->all == cases[i].whole + cases[i].adapters);
        check_places(p);
        cad_params_close(&p);
        m.train_head = true;
        p = open_table(&a, &m);
        assert_true(p->trainable == cases[i].adapters + 2 * a.hidden);
        cad_params_close(&p);
    }
}

static int count_adapters(const cad_params *p)
{
    int n = 0;

    for (int i = 0; i < p->count; i++) n += p->row[i].piece == CAD_PIECE_A;
    return n;
}

static void targets_match_as_in_peft(void **state)
{
    static const struct { const char *target[3]; int count; bool regex; int adapters; } cases[] = {
        {{NULL}, 0, false, 14}, {{"all-linear"}, 1, false, 14}, {{"q_proj"}, 1, false, 2}, {{"self_attn.q_proj", "up_proj"}, 2, false, 4},
        {{"model.layers.1.mlp.down_proj"}, 1, false, 1}, {{"layers.0.self_attn.v_proj", "1.self_attn.k_proj"}, 2, false, 2},
        {{".*\\.(q|v)_proj"}, 1, true, 4}, {{"model\\.layers\\.1\\..*"}, 1, true, 7}, {{".*layers\\.[0-9]+\\.mlp\\.(gate|up)_proj$"}, 1, true, 4},
    };
    cad_arch a;

    (void)state;
    tiny_arch(&a, "llama", 2, "");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cad_method m = {.lora = true, .r = 2, .num_labels = 2, .targets = cases[i].target, .target_count = cases[i].count, .target_is_regex = cases[i].regex};
        cad_params *p = open_table(&a, &m);
        assert_int_equal(count_adapters(p), cases[i].adapters);
        check_places(p);
        cad_params_close(&p);
    }
}

static void a_target_that_is_no_layer_is_refused(void **state)
{
    static const struct { const char *target[2]; int count; bool regex; const char *reason; } cases[] = {
        {{"q_proj", "query"}, 2, false, "self_attn.q_proj, self_attn.k_proj, self_attn.v_proj, self_attn.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj), found \"query\""},
        {{"_proj"}, 1, false, "found \"_proj\""}, {{""}, 1, false, "found \"\""}, {{"score"}, 1, false, "found \"score\""}, {{"q_proj.weight"}, 1, false, "found \"q_proj.weight\""},
        {{"layers.7.self_attn.q_proj"}, 1, false, "found \"layers.7"}, {{"q_proj"}, 1, true, "found \"q_proj\""}, {{".*(q_proj"}, 1, true, "(q_proj"},
    };
    cad_arch a;
    cad_params *p = NULL;

    (void)state;
    tiny_arch(&a, "llama", 2, "");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cad_method m = {.lora = true, .r = 2, .num_labels = 2, .targets = cases[i].target, .target_count = cases[i].count, .target_is_regex = cases[i].regex};
        if (cad_params_open(&p, &a, &m) != CAD_EUSAGE) fail_msg("%s: not refused as bad usage: %s", cases[i].target[0], cad_reason());
        expect_reason(cases[i].reason);
        assert_null(p);
    }
    assert_int_equal(cad_mem_blocks(), 0);
}

static void no_failed_allocation_leaks(void **state)
{
    static const char *const targets[] = {".*_proj"};
    cad_method m = {.lora = true, .r = 2, .num_labels = 2, .targets = targets, .target_count = 1, .target_is_regex = true};
    cad_arch a;
    cad_params *p = NULL;
    cad_status status = CAD_ERESOURCE;

    (void)state;
    tiny_arch(&a, "llama", 4, "");
    for (int64_t nth = 1; status == CAD_ERESOURCE && nth < 1000; nth++) {
        cad_mem_fail_at(nth);
        status = cad_params_open(&p, &a, &m);
        cad_mem_fail_at(0);
        cad_clear();
        if (status) assert_true(!p && cad_mem_blocks() == 0);
    }
    assert_int_equal(status, CAD_OK);
    cad_params_close(&p);
}

/* PEFT compares the end of a module's name: "norm" is every norm; a saved layer gets no adapter. */
static void modules_to_save_are_matched_as_in_peft(void **state)
{
    static const char *const saves[] = {"score", "classifier", "norm", "v_proj"}, *const wrong[] = {"score", "lm_hed"};
    cad_method m = {.lora = true, .r = 3, .train_head = true, .num_labels = 2, .saves = saves, .save_count = 4};
    cad_arch a;
    cad_params *p;

    (void)state;
    tiny_arch(&a, "qwen2", 1, "");
    p = open_table(&a, &m);
    for (int i = 0; i < p->count; i++) {
        const cad_param *r = &p->row[i];
        bool saved = strstr(r->name, "norm.") || strstr(r->name, "v_proj") || r->role == CAD_ROLE_HEAD;
        if (r->trains != (saved || r->piece >= CAD_PIECE_A)) fail_msg("%s: %s", r->name, r->trains ? "trains" : "is frozen");
    }
    assert_int_equal(p->find[1][CAD_ROLE_V][CAD_PIECE_A], -1);
    assert_true(p->find[1][CAD_ROLE_Q][CAD_PIECE_A] >= 0);
    cad_params_close(&p);
    m.saves = wrong;
    m.save_count = 2;
    assert_int_equal(cad_params_open(&p, &a, &m), CAD_EUSAGE);
    assert_non_null(strstr(cad_reason(), "found \"lm_hed\""));
    cad_clear();
    assert_int_equal(cad_mem_blocks(), 0);
}

/* PEFT: weight_B.reshape(in, r, E), so that column k E + e is rank k of expert e. */
static void adapters_of_experts_lie_in_files_as_pefts_do(void **state)
{
    const cad_param b = {.piece = CAD_PIECE_B, .dims = 3, .groups = 3, .rows = 3 * 5, .cols = 2, .elems = 30}, a = {.piece = CAD_PIECE_A, .dims = 3, .groups = 3, .rows = 3 * 2, .cols = 7, .elems = 42};
    int64_t shape[3];

    (void)state;
    assert_int_equal(cad_param_file_shape(&b, shape), 2);
    assert_true(shape[0] == 5 && shape[1] == 6);
    for (int64_t e = 0; e < 3; e++)
        for (int64_t i = 0; i < 5; i++)
            for (int64_t k = 0; k < 2; k++) assert_int_equal(cad_param_file_at(&b, (e * 5 + i) * 2 + k), i * 6 + k * 3 + e);
    assert_int_equal(cad_param_file_shape(&a, shape), 2);
    assert_true(shape[0] == 6 && shape[1] == 7 && cad_param_file_at(&a, 41) == 41);
    assert_int_equal(cad_param_shape(&a, shape), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adapters_of_experts_lie_in_files_as_pefts_do),
        cmocka_unit_test(names_and_order_are_those_of_the_checkpoint),
        cmocka_unit_test(adapters_on_nested_directories_have_the_names_of_their_class), cmocka_unit_test(adapters_have_the_names_of_peft),
        cmocka_unit_test(members_of_one_product_lie_side_by_side),
        cmocka_unit_test(counts_are_those_of_peft_and_transformers),
        cmocka_unit_test(targets_match_as_in_peft),
        cmocka_unit_test(modules_to_save_are_matched_as_in_peft),
        cmocka_unit_test(a_target_that_is_no_layer_is_refused),
        cmocka_unit_test(no_failed_allocation_leaks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
