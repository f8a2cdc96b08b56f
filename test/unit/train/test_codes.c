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

static void write_coded(const char *from, const char *to, int type, bool nested)
{
    cad_options o = {0};

    o.model.load_in_4bit = true;
    o.model.bnb_4bit_quant_type = type;
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
        assert_true(has == (p->code != CAD_PLAIN));
        if (!has) continue;
        assert_true(p->elems <= 512 && p->code == coded->arch.code && p->nested == coded->arch.code_nested);
        OK(cad_source_read(plain->source, i, 0, p->elems, CAD_F32, want));
        OK(cad_source_read(coded->source, i, 0, p->elems, CAD_F32, got));
        OK(cad_through_codes(p, CAD_F32, want));
        assert_memory_equal(got, want, (size_t)p->elems * 4);
        seen++;
    }
    assert_true(seen == 7 * coded->arch.layers);
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

static void expect_refusal(const char *from, const char *to, const char *sentence)
{
    static int turn;
    char name[24];
    opened m;

    snprintf(name, sizeof name, "damaged%d", turn++);
    write_coded(in_scratch("plain"), in_scratch(name), CAD_BNB_NF4, true);
    damage(in_scratch(name), from, to);
    assert_int_equal(open_model(&m, in_scratch(name)), CAD_EMODEL);
    if (!strstr(cad_reason(), sentence)) fail_msg("expected \"%s\" in \"%s\"", sentence, cad_reason());
    cad_clear();
    close_model(&m);
}

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
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(codes_come_back_as_they_were_made, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(damaged_codes_are_refused_in_one_sentence, make_scratch, drop_scratch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
