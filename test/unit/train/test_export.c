#include "kept.h"

#include <sys/stat.h>

static const char *const words[] = {"q_proj", "gate_proj", "down_proj"};

static cad_method adapter_method(bool custom, bool rslora)
{
    return (cad_method){.lora = true, .r = 3, .alpha = 5, .rslora = rslora, .targets = words, .target_count = 3, .train_head = true, .custom_head = custom, .num_labels = 2, .compute = CAD_F32};
}

/* A whole classifier (BF16 or F32, either head) in `name`. */
static void write_base(const char *name, cad_dtype dtype, bool custom)
{
    kept k;

    kept_options(&k, name);
    k.r.method.compute = dtype;
    k.r.method.custom_head = custom;
    kept_open(&k);
    kept_fill(&k);
    OK(cadp_write_model(&k.r, k.out));
    kept_close(&k);
}

static void write_adapter(const char *name, const char *base, bool custom, bool rslora)
{
    kept k;

    kept_options(&k, name);
    k.o.model.model_name_or_path = (char *)base;
    k.r.method = adapter_method(custom, rslora);
    kept_open(&k);
    kept_fill(&k);
    OK(cadp_write_model(&k.r, k.out));
    kept_close(&k);
}

static float read_one(const cad_st *st, const char *name, int64_t at)
{
    const cad_st_tensor *t = cad_st_find(st, name);
    float x;

    if (!t) fail_msg("no tensor %s", name);
    OK(cad_st_read_f32(t, at, 1, &x));
    return x;
}

static double power_of_two(cad_dtype d) { return d == CAD_BF16 ? 0x1p-8 : 0x1p-24; } /* half a unit in the last place of 1 */

/* Every element of every tensor against W + s B A summed in the other order; the tolerance is the rounding to the base's precision
 * and that of r products in double. */
static void expect_merged(const char *base_dir, const char *adapter_dir, const char *merged_dir, double scale, int64_t r)
{
    cad_st *base, *adapter, *merged;
    char name[256];
    int adapted = 0, dropped;

    OK(cad_st_open(&base, base_dir));
    OK(cad_st_open(&adapter, adapter_dir));
    OK(cad_st_open(&merged, merged_dir));
    dropped = cad_st_find(base, "lm_head.weight") != NULL; /* no part of a classifier */
    assert_int_equal(cad_st_count(merged), cad_st_count(base) - dropped);
    for (int i = 0; i < cad_st_count(base); i++) {
        const cad_st_tensor *w = cad_st_at(base, i), *m = cad_st_find(merged, w->name), *a, *b, *saved;
        if (dropped && !strcmp(w->name, "lm_head.weight")) continue;
        if (!m) fail_msg("no tensor %s", w->name);
        assert_int_equal(m->dtype, w->dtype);
        assert_int_equal(m->elems, w->elems);
        snprintf(name, sizeof name, "base_model.model.%.*s.lora_A.weight", (int)(strlen(w->name) - 7), w->name);
        a = cad_st_find(adapter, name);
        snprintf(name, sizeof name, "base_model.model.%.*s.lora_B.weight", (int)(strlen(w->name) - 7), w->name);
        b = cad_st_find(adapter, name);
        snprintf(name, sizeof name, "base_model.model.%s", w->name);
        saved = cad_st_find(adapter, name);
        adapted += a != NULL;
        for (int64_t e = 0; e < w->elems; e++) {
            double want = read_one(saved ? adapter : base, saved ? saved->name : w->name, e), size = 0;
            for (int64_t k = r - 1; a && k >= 0; k--) {
                double term = scale * (double)read_one(adapter, b->name, e / w->shape[1] * r + k) * (double)read_one(adapter, a->name, k * w->shape[1] + e % w->shape[1]);
                want += term;
                size += fabs(term);
            }
            double off = fabs(read_one(merged, w->name, e) - want), allowed = power_of_two(w->dtype) * fabs(want) * 1.01 + 0x1p-50 * size + 0x1p-140;
            if (off > allowed) fail_msg("%s[%lld]: off by %g, allowed %g", w->name, (long long)e, off, allowed);
        }
    }
    assert_true(adapted > 0);
    cad_st_close(&base);
    cad_st_close(&adapter);
    cad_st_close(&merged);
}

static cad_status export_to(const char *base, const char *checkpoint, const char *output, const char *format, bool merge)
{
    cad_options o = {.model.model_name_or_path = (char *)base};

    return cad_export(&o, checkpoint, output, format, merge);
}

static void a_merged_model_is_the_base_plus_the_product(void **state)
{
    static const struct { cad_dtype dtype; bool custom, rslora; } cases[] = {{CAD_F32, false, false}, {CAD_F32, false, true}, {CAD_BF16, false, false}, {CAD_F32, true, false}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char base[32], adapter[32], out[32];
        snprintf(base, sizeof base, "base%zu", i);
        snprintf(adapter, sizeof adapter, "adapter%zu", i);
        snprintf(out, sizeof out, "merged%zu", i);
        write_base(base, cases[i].dtype, cases[i].custom);
        write_adapter(adapter, "Org/Base", cases[i].custom, cases[i].rslora);
        OK(export_to(in_scratch(base), in_scratch(adapter), in_scratch(out), NULL, true));
        expect_merged(in_scratch(base), in_scratch(adapter), in_scratch(out), cases[i].rslora ? 5 / sqrt(3.0) : 5 / 3.0, 3);
        snprintf(out, sizeof out, "merged%zu/merges.txt", i);
        expect_content(in_scratch(out), "a b\r\n");
        snprintf(out, sizeof out, "merged%zu/config.json", i);
        assert_true(cad_is_file(in_scratch(out)));
        snprintf(out, sizeof out, "merged%zu/adapter_config.json", i);
        assert_false(cad_is_file(in_scratch(out)));
    }
}

static void the_adapters_own_word_names_the_base(void **state)
{
    (void)state;
    write_base("base", CAD_F32, false);
    write_adapter("adapter", in_scratch("base"), false, false);
    OK(export_to(NULL, in_scratch("adapter"), in_scratch("merged/"), "hf", true));
    expect_merged(in_scratch("base"), in_scratch("adapter"), in_scratch("merged"), 5 / 3.0, 3);
}

static void expect_same(const char *a, const char *b, const char *const *names)
{
    char x[65], y[65], path[256];

    for (; *names; names++) {
        snprintf(path, sizeof path, "%s/%s", a, *names);
        OK(cad_sha256_file(in_scratch(path), x, CAD_EDATA));
        snprintf(path, sizeof path, "%s/%s", b, *names);
        OK(cad_sha256_file(in_scratch(path), y, CAD_EDATA));
        assert_string_equal(x, y);
    }
}

static void copies_are_byte_for_byte(void **state)
{
    static const char *const adapter[] = {"adapter_model.safetensors", "adapter_config.json", "README.md", "tokenizer.json", "merges.txt", NULL};
    static const char *const whole[] = {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", NULL};
    struct stat st;

    (void)state;
    write_base("base", CAD_F32, false);
    write_adapter("adapter", "Org/Base", false, false);
    OK(export_to(NULL, in_scratch("adapter"), in_scratch("a"), NULL, false));
    expect_same("adapter", "a", adapter);
    OK(export_to(NULL, in_scratch("base"), in_scratch("b"), "hf", false));
    expect_same("base", "b", whole);
    assert_int_equal(stat(in_scratch("b"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void a_checkpoint_and_an_output_directory_are_sources_too(void **state)
{
    static const char *const whole[] = {"model.safetensors", "config.json", NULL};
    kept k;

    (void)state;
    kept_options(&k, "out");
    kept_open(&k);
    OK(cadp_output_open(&k.r));
    kept_fill(&k);
    kept_save(&k, 1, true);
    kept_save(&k, 2, false);
    kept_close(&k);
    OK(export_to(NULL, in_scratch("out/checkpoint-2"), in_scratch("a"), NULL, false));
    expect_same("out/checkpoint-2", "a", whole);
    assert_false(cad_is_file(in_scratch("a/state.h5")));
    OK(export_to(NULL, in_scratch("out"), in_scratch("b"), NULL, false));
    expect_same("out/checkpoint-1", "b", whole); /* the best */
    put_file(in_scratch("out/checkpoint-1/config.json"), "{}", 2);
    assert_int_equal(export_to(NULL, in_scratch("out"), in_scratch("c"), NULL, false), CAD_ECHECKPOINT);
    expect_reason("config.json: expected");
}

static void what_makes_no_sense_is_refused_before_anything_is_written(void **state)
{
    (void)state;
    write_base("base", CAD_F32, false);
    write_adapter("adapter", "Org/Base", false, false);
    OK(cad_mkdirs(in_scratch("empty")));
    OK(cad_mkdirs(in_scratch("full")));
    put_file(in_scratch("full/x"), "x", 1);
    const struct { const char *from, *to, *format; bool merge; cad_status status; const char *reason; } cases[] = {
        {"base", "o", NULL, true, CAD_EUSAGE, "expected an adapter"},          {"base", "o", "peft", false, CAD_EUSAGE, "expected an adapter"},
        {"adapter", "o", "hf", false, CAD_EUSAGE, "--merge folds it"},         {"adapter", "o", "peft", true, CAD_EUSAGE, "expected --format hf"},
        {"adapter", "o", "onnx", false, CAD_EUSAGE, "expected hf, peft or gguf"},    {"adapter", "full", NULL, false, CAD_EUSAGE, "expected an empty folder"},
        {"empty", "o", NULL, false, CAD_ECHECKPOINT, "expected a model"},      {"absent", "o", NULL, false, CAD_ECHECKPOINT, "expected a folder"},
        {"adapter", "o", NULL, true, CAD_EMODEL, "huggingface-cli download Org/Base"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(export_to(NULL, in_scratch(cases[i].from), in_scratch(cases[i].to), cases[i].format, cases[i].merge), cases[i].status);
        expect_reason(cases[i].reason);
        assert_false(cad_is_dir(in_scratch("o")));
    }
    OK(export_to(NULL, in_scratch("adapter"), in_scratch("empty"), NULL, false));
}

static void no_failed_allocation_leaks_or_leaves_half_a_model(void **state)
{
    cad_status status = CAD_ERESOURCE;

    (void)state;
    write_base("base", CAD_F32, false);
    write_adapter("adapter", "Org/Base", false, false);
    for (int64_t nth = 1; status; nth += 2 + nth / 8) {
        cad_mem_fail_at(nth);
        status = export_to(in_scratch("base"), in_scratch("adapter"), in_scratch("o"), NULL, true);
        cad_mem_fail_at(0);
        cad_clear();
        assert_true(!status || !cad_is_dir(in_scratch("o")));
    }
    expect_merged(in_scratch("base"), in_scratch("adapter"), in_scratch("o"), 5 / 3.0, 3);
}

/* ---- against PEFT's own files ---- */

static const char *golden(char out[1024], const char *name)
{
    const char *shared = getenv("CADTRAIN_SHARED");

    snprintf(out, 1024, "%s/golden/qwen2/%s", shared ? shared : "../shared", name);
    return out;
}

static void put_shard(cad_json *j, const char *from, const char *to)
{
    cad_st *st;

    OK(cad_copy_file(from, in_scratch(to)));
    OK(cad_st_open(&st, from));
    for (int i = 0; i < cad_st_count(st); i++) OK(cad_json_string(j, cad_st_at(st, i)->name, to + 5));
    cad_st_close(&st);
}

static void a_real_adapter_is_folded_into_its_base(void **state)
{
    char model[1024], head[1024], adapter[1024], config[1200];
    cad_json j = {0};
    double scale = 8.0 / 4;

    (void)state;
    if (!cad_is_dir(golden(adapter, "lora/adapter_after"))) {
        print_message("skipped: %s is not here (CADTRAIN_SHARED)\n", adapter);
        skip();
    }
    OK(cad_mkdirs(in_scratch("base")));
    OK(cad_json_begin(&j, NULL, '{'));
    OK(cad_json_begin(&j, "weight_map", '{'));
    put_shard(&j, golden(model, "model/model.safetensors"), "base/model-00001-of-00002.safetensors");
    put_shard(&j, golden(head, "seqcls/head.safetensors"), "base/model-00002-of-00002.safetensors");
    OK(cad_json_end(&j));
    OK(cad_json_end(&j));
    put_file(in_scratch("base/model.safetensors.index.json"), j.text.data, j.text.size);
    cad_json_close(&j);
    snprintf(config, sizeof config, "%s", golden(model, "model/config.json"));
    OK(cad_copy_file(config, in_scratch("base/config.json")));
    OK(export_to(in_scratch("base"), adapter, in_scratch("merged"), NULL, true));
    expect_merged(in_scratch("base"), adapter, in_scratch("merged"), scale, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_merged_model_is_the_base_plus_the_product, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(the_adapters_own_word_names_the_base, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(copies_are_byte_for_byte, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(a_checkpoint_and_an_output_directory_are_sources_too, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(what_makes_no_sense_is_refused_before_anything_is_written, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(no_failed_allocation_leaks_or_leaves_half_a_model, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(a_real_adapter_is_folded_into_its_base, make_scratch, drop_scratch),
    };

    cad_h5_setup();
    cad_log_setup(0, 1, CAD_LOG_ERROR);
    setenv("HOME", "/nonexistent", 1);
    unsetenv("HF_HOME");
    unsetenv("HF_HUB_CACHE");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
