/* A model written as a GGUF file and read from it is the same model, bit by bit where F16 holds its weights; files that are no model are refused. */
#include "../base/scratch.h"

#include "gguf_file.h"
#include <cadtrain/model.h>

#define OK(call)                                                          \
    do {                                                                  \
        cad_status status_ = (call);                                      \
        if (status_) fail_msg("%s: %d %s", #call, status_, cad_reason()); \
    } while (0)

static const char *const linears[] = {"self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.o_proj.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight"};
static const int64_t shapes[][2] = {{32, 24}, {16, 24}, {16, 24}, {24, 32}, {40, 24}, {40, 24}, {24, 40}};
enum { WORDS = 600, WIDTH = 24 };

/* Multiples of 1/256 below 1: every one a half float. */
static void write_values(cad_st_writer *w, int64_t n, uint32_t site)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t r[4];
        cad_rng_words(3, CAD_RNG_TEST, site, (uint64_t)i, r);
        float x = (float)((int)(r[0] % 511) - 255) / 256;
        OK(cad_st_write(w, &x, sizeof x));
    }
}

static void make_model(const char *dir, const char *more)
{
    cad_st_writer *w;
    char name[320], json[1024];
    int64_t vector = WIDTH, table[] = {WORDS, WIDTH};
    uint32_t site = 0;
    int n;

    OK(cad_mkdirs(dir));
    OK(cad_st_create(&w, dir, "model.safetensors", 0));
    OK(cad_st_declare(w, "model.embed_tokens.weight", CAD_F32, table, 2));
    OK(cad_st_declare(w, "model.norm.weight", CAD_F32, &vector, 1));
    OK(cad_st_declare(w, "lm_head.weight", CAD_F32, table, 2));
    for (int l = 0; l < 2; l++) {
        for (int i = 0; i < 2; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s_layernorm.weight", l, i ? "post_attention" : "input");
            OK(cad_st_declare(w, name, CAD_F32, &vector, 1));
        }
        for (int i = 0; i < 7; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s", l, linears[i]);
            OK(cad_st_declare(w, name, CAD_F32, shapes[i], 2));
        }
    }
    write_values(w, WORDS * WIDTH, site++);
    write_values(w, WIDTH, site++);
    write_values(w, WORDS * WIDTH, site++);
    for (int l = 0; l < 2; l++) {
        for (int i = 0; i < 2; i++) write_values(w, WIDTH, site++);
        for (int i = 0; i < 7; i++) write_values(w, shapes[i][0] * shapes[i][1], site++);
    }
    OK(cad_st_finish(w));
    cad_st_abandon(&w);
    n = snprintf(json, sizeof json, "{\"model_type\": \"llama\", \"hidden_size\": 24, \"intermediate_size\": 40, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
                 " \"head_dim\": 8, \"vocab_size\": 600, \"max_position_embeddings\": 512, \"rms_norm_eps\": 1e-05, \"rope_theta\": 500000.0, \"tie_word_embeddings\": false%s}", more);
    snprintf(name, sizeof name, "%s/config.json", dir);
    put_file(name, json, (size_t)n);
    snprintf(name, sizeof name, "%s/tokenizer.json", dir);
    OK(cad_copy_file("test/unit/text/data/legacy/tokenizer.json", name));
}

static void expect_same_tensors(const char *dir, const char *file)
{
    cad_st *a, *b;

    OK(cad_st_open(&a, dir));
    OK(cad_weights_open(&b, file));
    assert_int_equal(cad_st_count(a), cad_st_count(b));
    for (int i = 0; i < cad_st_count(a); i++) {
        const cad_st_tensor *x = cad_st_at(a, i), *y = cad_st_find(b, x->name);
        static float u[WORDS * WIDTH], v[WORDS * WIDTH];
        assert_non_null(y);
        assert_int_equal(x->dims, y->dims);
        for (int d = 0; d < x->dims; d++) assert_int_equal(x->shape[d], y->shape[d]);
        OK(cad_st_read_f32(x, 0, x->elems, u));
        OK(cad_st_read_f32(y, 0, y->elems, v));
        assert_memory_equal(u, v, (size_t)x->elems * sizeof *u);
    }
    cad_st_close(&a);
    cad_st_close(&b);
}

static void a_model_goes_through_a_gguf_file_unchanged(void **state)
{
    static const char bands[] = ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 64}";
    static const char *const more[] = {"", bands, ", \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 4.0}"};
    bool left;
    float turn[8];

    (void)state;
    for (int i = 0; i < 3; i++) {
        cad_arch a, b;
        char dir[256];
        snprintf(dir, sizeof dir, "%s/m%d", scratch_dir, i);
        make_model(dir, more[i]);
        OK(cad_gguf_export(dir, in_scratch("x.gguf"), "F16", &left));
        assert_false(left);
        expect_same_tensors(dir, in_scratch("x.gguf"));
        OK(cad_arch_read(&a, dir));
        OK(cad_arch_read(&b, in_scratch("x.gguf")));
        cad_rope_frequencies(&a.rope, 8, turn);
        cad_rope_frequencies(&b.rope, 8, turn + 4);
        assert_memory_equal(turn, turn + 4, 4 * sizeof *turn);
        assert_true(a.layers == b.layers && a.hidden == b.hidden && a.intermediate == b.intermediate && a.vocab == b.vocab && a.q_heads == b.q_heads && a.kv_heads == b.kv_heads);
        assert_true(a.head_dim == b.head_dim && a.eps == b.eps && a.tied == b.tied && a.max_positions == b.max_positions);
        assert_int_equal(remove(in_scratch("x.gguf")), 0);
    }
}

/* ---- refused ---- */

typedef struct change { const char *part; void (*make)(gguf_file *f); } change;

static void no_architecture(gguf_file *f) { gguf_u32(f, "a", 1); }
static void other_architecture(gguf_file *f) { gguf_string(f, "general.architecture", "mamba"); }

static void no_heads(gguf_file *f)
{
    gguf_string(f, "general.architecture", "llama");
    gguf_u32(f, "llama.attention.head_count", 0);
}

static void too_many_heads(gguf_file *f)
{
    gguf_string(f, "general.architecture", "llama");
    gguf_u32(f, "llama.attention.head_count", 1000000000);
}

static void no_sizes(gguf_file *f)
{
    gguf_string(f, "general.architecture", "llama");
    gguf_u32(f, "llama.attention.head_count", 2);
    gguf_u32(f, "llama.attention.key_length", 4);
}

static void two_head_sizes(gguf_file *f)
{
    no_sizes(f);
    gguf_u32(f, "llama.rope.dimension_count", 2);
}

static void metadata_that_describe_no_model_are_refused(void **state)
{
    static const change changes[] = {{"expected \"general.architecture\"", no_architecture}, {"found \"mamba\"", other_architecture}, {"head_count", no_heads}, {"head_count", too_many_heads},
                                     {"expected \"block_count\"", no_sizes}, {"rope.dimension_count", two_head_sizes}};

    (void)state;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        gguf_file f = {0};
        cad_str bytes = {0};
        cad_arch a;
        changes[i].make(&f);
        gguf_build(&f, &bytes);
        put_file(in_scratch("bad.gguf"), bytes.data, bytes.size);
        assert_int_equal(cad_arch_read(&a, in_scratch("bad.gguf")), CAD_EMODEL);
        expect_reason(changes[i].part);
        cad_str_close(&bytes);
        gguf_close(&f);
    }
}

static void tensors_without_a_place_are_refused(void **state)
{
    static const char *const names[] = {"blk.0.attn_sinks.weight", "blk.x.attn_q.weight", "blk.0.attn_q", "blk.0..weight", "v.blk.0.weight", "blk.-1.attn_q.weight"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        gguf_file f = {0};
        cad_str bytes = {0};
        cad_st *st;
        gguf_tiny(&f, true);
        gguf_tensor(&f, names[i], 0, 8, 8, NULL, 256);
        gguf_build(&f, &bytes);
        put_file(in_scratch("bad.gguf"), bytes.data, bytes.size);
        assert_int_equal(cad_weights_open(&st, in_scratch("bad.gguf")), CAD_EMODEL);
        expect_reason("no place for");
        cad_str_close(&bytes);
        gguf_close(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_model_goes_through_a_gguf_file_unchanged), cmocka_unit_test(metadata_that_describe_no_model_are_refused),
                                       cmocka_unit_test(tensors_without_a_place_are_refused)};

    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
