/* Models whose linear weights are codes on disk: written, read back, damaged; and what an adapter beside codes is folded into. */
#include "kept.h"

#include "../../../src/train/merge_priv.h"

static void write_plain(const char *name)
{
    kept k;

    kept_options(&k, name);
    k.r.method.compute = CAD_F32;
    kept_open(&k);
    kept_fill(&k);
    OK(cadp_write_model(&k.r, k.out));
    kept_close(&k);
}

/* A model with routed experts, whose blocks of 64 numbers cross experts; tensors by the table. */
static const char with_experts[] =
    "{\"model_type\": \"llama4_text\", \"num_hidden_layers\": 1, \"hidden_size\": 8, \"intermediate_size\": 6, \"intermediate_size_mlp\": 12, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 4, "
    "\"vocab_size\": 13, \"max_position_embeddings\": 64, \"pad_token_id\": 3, \"num_local_experts\": 3, \"num_experts_per_tok\": 1, \"interleave_moe_layer_step\": 1, \"no_rope_layers\": [1], \"attention_chunk_size\": 32, "
    "\"architectures\": [\"Llama4ForCausalLM\"], \"dtype\": \"float32\"}";

static void write_with_experts(const char *dir)
{
    cad_arch arch;
    cad_method method = {.causal = true, .num_labels = 2, .compute = CAD_F32};
    cad_params *params;
    cad_st_writer *w;

    OK(cad_mkdirs(dir));
    kept_put(dir, "config.json", with_experts);
    OK(cad_arch_parse(&arch, with_experts, sizeof with_experts - 1, "config.json"));
    OK(cad_params_open(&params, &arch, &method));
    OK(cad_st_create(&w, dir, "model.safetensors", 1 << 20));
    for (int turn = 0; turn < 2; turn++)
        for (int i = 0; i < params->count; i++) {
            const cad_param *p = &params->row[i];
            int64_t shape[3];
            int dims = cad_param_shape(p, shape);
            float x[512];
            assert_true(p->elems <= 512);
            for (int64_t e = 0; e < p->elems; e++) x[e] = kept_value(i, CAD_STATE_PARAM, e);
            if (!turn) OK(cad_st_declare(w, p->name, CAD_F32, shape, dims));
            else OK(cad_st_write(w, x, (size_t)p->elems * 4));
        }
    OK(cad_st_finish(w));
    cad_st_abandon(&w);
    cad_params_close(&params);
}

enum { BYTES = -1 };
static void write_coded(const char *from, const char *to, int type, bool nested)
{
    cad_options o = {0};

    o.model.load_in_4bit = type != BYTES;
    o.model.load_in_8bit = type == BYTES;
    o.model.quantize_experts = true;
    o.model.bnb_4bit_quant_type = type == BYTES ? CAD_BNB_NF4 : type;
    o.model.bnb_4bit_use_double_quant = nested;
    OK(cad_mkdirs(to));
    OK(cadp_write_codes(&o, from, to));
}

typedef struct opened { cad_arch arch; cad_method method; cad_params *params; cad_source *source; } opened;

static cad_status open_model(opened *m, const char *dir)
{
    memset(m, 0, sizeof *m);
    CAD_TRY(cad_arch_read(&m->arch, dir));
    m->method = (cad_method){.lora = true, .r = 2, .alpha = 2, .num_labels = 2, .train_head = true, .compute = CAD_F32, .code = m->arch.code, .nested = m->arch.code_nested};
    CAD_TRY(cad_params_open(&m->params, &m->arch, &m->method));
    return cad_source_open(&m->source, dir, NULL, m->params, true);
}

static void close_model(opened *m)
{
    cad_source_close(&m->source);
    cad_params_close(&m->params);
}

/* Codes of the file, byte for byte the device's own of the same numbers; and the numbers they mean. */
static void expect_codes(const opened *plain, const opened *coded)
{
    int seen = 0;

    for (int i = 0; i < coded->params->count; i++) {
        const cad_param *p = &coded->params->row[i];
        float want[512], got[512];
        bool has;
        OK(cad_source_read_codes(coded->source, i, 0, 0, NULL, &has));
        assert_true(has == (p->code != CAD_PLAIN && !(p->code == CAD_INT8 && p->dims == 3)));
        if (!has) continue;
        assert_true(p->elems <= 512 && p->code == coded->arch.code && p->nested == coded->arch.code_nested);
        OK(cad_source_read(plain->source, i, 0, p->elems, CAD_F32, want));
        OK(cad_source_read(coded->source, i, 0, p->elems, CAD_F32, got));
        OK(cad_through_codes(p, CAD_F32, p->elems, want, NULL));
        assert_memory_equal(got, want, (size_t)p->elems * 4);
        seen++;
    }
    assert_true(seen == (coded->arch.experts && coded->arch.code != CAD_INT8 ? 9 : 7) * coded->arch.layers);
}

/* As codes, read back; and the state of experts has their three dimensions. */
static void expect_round_trip(const char *from, int type, bool nested)
{
    static int turn;
    char name[24];
    opened plain, coded;

    snprintf(name, sizeof name, "round%d", turn++);
    write_coded(in_scratch(from), in_scratch(name), type, nested);
    OK(open_model(&plain, in_scratch(from)));
    OK(open_model(&coded, in_scratch(name)));
    assert_int_equal(coded.arch.code, type == BYTES ? CAD_INT8 : type == CAD_BNB_FP4 ? CAD_FP4 : CAD_NF4);
    assert_true(coded.arch.code_nested == nested);
    expect_codes(&plain, &coded);
    close_model(&plain);
    close_model(&coded);
}

static void codes_of_8_bits_and_of_experts_come_back_too(void **state)
{
    (void)state;
    write_plain("plain");
    write_with_experts(in_scratch("experts"));
    expect_round_trip("plain", BYTES, false);
    expect_round_trip("experts", BYTES, false);
    expect_round_trip("experts", CAD_BNB_NF4, false);
    expect_round_trip("experts", CAD_BNB_FP4, true);
}

static void codes_come_back_as_they_were_made(void **state)
{
    (void)state;
    write_plain("plain");
    for (int i = 0; i < 4; i++) {
        char name[24];
        opened plain, coded;
        snprintf(name, sizeof name, "coded%d", i);
        write_coded(in_scratch("plain"), in_scratch(name), i / 2 ? CAD_BNB_FP4 : CAD_BNB_NF4, i % 2);
        OK(open_model(&plain, in_scratch("plain")));
        OK(open_model(&coded, in_scratch(name)));
        assert_int_equal(coded.arch.code, i / 2 ? CAD_FP4 : CAD_NF4);
        assert_true(coded.arch.code_nested == (i % 2 == 1));
        expect_codes(&plain, &coded);
        close_model(&plain);
        close_model(&coded);
    }
}

/* The first place of `from` in the file becomes `to`, of the same length. */
static void damage(const char *dir, const char *from, const char *to)
{
    cad_str path = {0};
    char *text, *at = NULL;
    size_t n;

    assert_int_equal(strlen(from), strlen(to));
    OK(cad_str_addf(&path, "%s/model.safetensors", dir));
    OK(cad_read_file(&text, &n, path.data, 1 << 20, CAD_EMODEL));
    for (size_t i = 0; i + strlen(from) <= n && !at; i++)
        if (!memcmp(text + i, from, strlen(from))) at = text + i;
    assert_non_null(at);
    memcpy(at, to, strlen(to));
    OK(cad_write_file(path.data, text, n));
    cad_free(&text);
    cad_str_close(&path);
}

static void expect_refusal_of(const char *model, int type, const char *from, const char *to, const char *sentence)
{
    static int turn;
    char name[24];
    opened m;

    snprintf(name, sizeof name, "damaged%d", turn++);
    write_coded(in_scratch(model), in_scratch(name), type, type != BYTES);
    damage(in_scratch(name), from, to);
    assert_int_equal(open_model(&m, in_scratch(name)), CAD_EMODEL);
    if (!strstr(cad_reason(), sentence)) fail_msg("expected \"%s\" in \"%s\"", sentence, cad_reason());
    cad_clear();
    close_model(&m);
}

static void expect_refusal(const char *from, const char *to, const char *sentence) { expect_refusal_of("plain", CAD_BNB_NF4, from, to, sentence); }

static void damaged_codes_are_refused_in_one_sentence(void **state)
{
    (void)state;
    write_plain("plain");
    expect_refusal("weight.absmax\"", "weight.absmay\"", "no such tensor");
    expect_refusal("bitsandbytes__nf4\"", "bitsandbytes__nf5\"", "the state that bitsandbytes stores beside it");
    expect_refusal("\"blocksize\": 64", "\"blocksize\": 32", "blocks of 64");
    expect_refusal("\"nested_blocksize\": 256", "\"nested_blocksize\": 128", "nested blocks of 256");
    expect_refusal("\"float32\", \"shape\"", "\"float32\", \"shapf\"", "the shape of the layer");
    expect_refusal("\"nested_offset\"", "\"nested_offsex\"", "a nested_offset");
    expect_refusal("\"quant_type\": \"nf4\",", "\"quant_type\": \"nf4\"}", "expected");
    expect_refusal("weight.nested_absmax\"", "weight.nested_absmay\"", "no such tensor");
    expect_refusal("weight.quant_map\"", "weight.quant_nap\"", "no such tensor");
    expect_refusal("weight.nested_quant_map\"", "weight.nested_quant_nap\"", "no such tensor");
    expect_refusal("absmax\": {\"dtype\": \"U8\"", "absmax\": {\"dtype\": \"I8\"", "elements of U8, found");
    expect_refusal_of("plain", BYTES, "q_proj.SCB\"", "q_proj.SCA\"", "scales of F32, found none");
    expect_refusal_of("plain", BYTES, "q_proj.weight\": {\"dtype\": \"I8\"", "q_proj.weight\": {\"dtype\": \"U8\"", "expected F32, BF16, F16 or F64, found U8");
    write_with_experts(in_scratch("experts"));
    expect_refusal_of("experts", CAD_BNB_NF4, "\"float32\", \"shape\": [3, ", "\"float32\", \"shape\": [4, ", "the shape of the layer");
    expect_refusal_of("experts", CAD_BNB_NF4, "gate_up_proj.absmax\"", "gate_up_proj.absmay\"", "no such tensor");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(codes_come_back_as_they_were_made, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(codes_of_8_bits_and_of_experts_come_back_too, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(damaged_codes_are_refused_in_one_sentence, make_scratch, drop_scratch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
