#include "conf_bench.h"

static const void *at(const cad_options *o, const cadp_row *row) { return (const char *)o + row->at; }

static void same_words(const cad_words *a, const cad_words *b)
{
    assert_int_equal(a->count, b->count);
    for (int i = 0; i < a->count; i++) assert_string_equal(a->word[i], b->word[i]);
}

static void same_wholes(const cad_whole_numbers *a, const cad_whole_numbers *b)
{
    assert_int_equal(a->count, b->count);
    for (int i = 0; i < a->count; i++) assert_int_equal(a->at[i], b->at[i]);
}

static void same_pattern(const cad_module_numbers *a, const cad_module_numbers *b)
{
    assert_int_equal(a->count, b->count);
    for (int i = 0; i < a->count; i++) {
        assert_string_equal(a->at[i].pattern, b->at[i].pattern);
        assert_memory_equal(&a->at[i].value, &b->at[i].value, sizeof(double));
    }
}

/* Field by field, bit for bit. */
static void same_options(const cad_options *a, const cad_options *b)
{
    for (int i = 0; i < cadp_conf_row_count; i++) {
        const cadp_row *row = &cadp_conf_rows[i];
        const void *x = at(a, row), *y = at(b, row);
        switch (row->type) {
        case CADP_BOOL: assert_int_equal(*(const bool *)x, *(const bool *)y); break;
        case CADP_WORD: assert_memory_equal(x, y, row->marks & CADP_AS_BOOL ? sizeof(bool) : sizeof(int)); break;
        case CADP_MAYBE: assert_memory_equal(x, y, sizeof(int)); break;
        case CADP_INT: assert_memory_equal(x, y, sizeof(int64_t)); break;
        case CADP_REAL: case CADP_SECONDS: assert_memory_equal(x, y, sizeof(double)); break;
        case CADP_PAIR: assert_memory_equal(x, y, 2 * sizeof(double)); break;
        case CADP_WORDS: case CADP_TARGETS: same_words(x, y); break;
        case CADP_WHOLES: same_wholes(x, y); break;
        case CADP_PATTERN: same_pattern(x, y); break;
        case CADP_TEXT: {
            const char *s = *(char *const *)x, *t = *(char *const *)y;
            if (s && t) assert_string_equal(s, t);
            else assert_true(!s && !t);
        }
        }
    }
    assert_int_equal(a->model.lora.target_is_regex, b->model.lora.target_is_regex);
    assert_int_equal(a->model.lora.exclude_is_regex, b->model.lora.exclude_is_regex);
}

static void travels(cad_config *c)
{
    cad_config *copy = NULL;
    cad_str text = {0}, again = {0};

    assert_int_equal(cad_config_json(c, &text), CAD_OK);
    cad_clear();
    if (cad_config_from_json(&copy, text.data, text.size)) fail_msg("%s\n%s", cad_reason(), text.data);
    same_options(cad_config_options(c), cad_config_options(copy));
    assert_int_equal(cad_config_json(copy, &again), CAD_OK);
    assert_string_equal(text.data, again.data);
    cad_str_close(&text);
    cad_str_close(&again);
    cad_config_close(&copy);
    cad_config_close(&c);
}

static void a_configuration_travels_as_json(void **state)
{
    (void)state;
    travels(opened(NULL, NULL));
    travels(opened("--config", "configs/experiments/medical.yaml", "--output-dir", "an \"odd\"\\ näme\n", NULL));
    travels(opened("--config", "configs/experiments/demo.yaml", NULL));
    travels(opened("--exclude-modules", ".*\\.1\\..*q_proj", "--layers-to-transform", "[0, 3]", "--rank-pattern", "{\"^model.layers.0.*q_proj\": 8, v_proj: 2}", "--alpha-pattern",
                   "{v_proj: 0.1}", "--layers-pattern", "layers", NULL));
    travels(opened("--exclude-modules", "q_proj, k_proj", "--layers-to-transform", "2", NULL));
    travels(opened("--learning-rate", "0.1234567890123456789", "--weight-decay", "1e-300", "--class-weights-values", "0.1,0.30000000000000004", "--wall-time", "12:00:00",
                   "--target-modules", ".*(q|v)_proj", "--greater-is-better", "false", "--save-total-limit", "3", "--eval-steps", "9", "--seed", "9007199254740992",
                   "--report-to", "none", "--truncation-side", "left", "--min-lr", "0", "--lr-scheduler-type", "cosine_with_min_lr",
                   "--head-columns", "[a, 'b c']", "--offset-column", "prior", "--init-lora-weights", "false", "--bnb-4bit-compute-dtype", "bf16",
                   "--offload-optimizer", "cpu", "--set", "deepspeed={train_batch_size: 64}", NULL));
}

/* Every row away from its default, one at a time. */
static void every_single_option_travels(void **state)
{
    int moved = 0;

    (void)state;
    for (int i = 0; i < cadp_conf_row_count; i++) {
        const cadp_row *row = &cadp_conf_rows[i];
        char set[256], value[96] = "another";
        cad_config *c = NULL;
        char *argv[] = {"--set", set};
        if (row->marks & (CADP_HIDDEN | CADP_SECOND)) continue;
        if (row->type == CADP_BOOL) snprintf(value, sizeof value, "%s", !strcmp(row->standard, "true") ? "false" : "true");
        if (row->type == CADP_INT) snprintf(value, sizeof value, "%.0f", row->low + 2 <= row->high ? row->low + 2 : row->high);
        if (row->type == CADP_REAL || row->type == CADP_SECONDS) snprintf(value, sizeof value, "%.17g", row->low + (row->high < 1e6 ? row->high - row->low : 1) * 0.3);
        if (row->type == CADP_PAIR) snprintf(value, sizeof value, "[0.1, 0.7]");
        if (row->type == CADP_WHOLES) snprintf(value, sizeof value, "3");
        if (row->type == CADP_PATTERN) snprintf(value, sizeof value, "{another: 3}");
        if (row->type == CADP_MAYBE) snprintf(value, sizeof value, "false");
        if (row->words) snprintf(value, sizeof value, "%s", row->words[1].word);
        snprintf(set, sizeof set, "%s%s%s=%s", row->in, *row->in ? "." : "", row->key, value);
        cad_clear();
        if (cad_config_open(&c, 2, argv, NULL, false)) continue; /* refused on purpose: fp16, early stopping without evaluation … */
        travels(c);
        moved++;
    }
    printf("%d options travelled\n", moved);
    assert_true(moved >= cadp_conf_row_count - 10);
}

static void json_of_a_stranger_is_refused(void **state)
{
    static const char *const wrong[] = {"", "[]", "{\"training\": {\"nope\": 1}}", "{\"training\": {\"max_steps\": \"x\"}}", "{\"training\": "};
    cad_config *c = NULL;

    (void)state;
    for (int i = 0; i < 5; i++) {
        cad_clear();
        assert_int_not_equal(cad_config_from_json(&c, wrong[i], strlen(wrong[i])), CAD_OK);
        assert_null(c);
        assert_true(cad_reason()[0]);
    }
}

static void every_value_names_its_source(void **state)
{
    const char *config = file("s.yaml", "paths: {task: t.yaml}\ntraining: {max_steps: 3}\n");
    cad_str text = {0}, page = {0};
    cad_config *c;

    (void)state;
    file("t.yaml", "max_length: 9\n");
    setenv("CADTRAIN_SEED", "5", 1);
    c = opened("--config", config, "--num-labels", "2", "--set", "training.bf16=true", NULL);
    unsetenv("CADTRAIN_SEED");
    assert_int_equal(cad_config_sources_json(c, &text), CAD_OK);
    expect_in(text.data, "\"model.num_labels\": \"flag --num-labels\"");
    expect_in(text.data, "\"task.num_labels\": \"flag --num-labels\"");
    expect_in(text.data, "\"training.bf16\": \"flag --set training.bf16\"");
    expect_in(text.data, "\"runtime.seed\": \"environment CADTRAIN_SEED\"");
    expect_in(text.data, "s.yaml:2:23\"");
    expect_in(text.data, "t.yaml:1:13\"");
    expect_in(text.data, "\"training.weight_decay\": \"default\"");
    assert_int_equal(cad_config_print(c, &page), CAD_OK);
    expect_in(page.data, "  bf16: true");
    expect_in(page.data, "# flag --set training.bf16");
    expect_in(page.data, "# environment CADTRAIN_SEED");
    cad_str_close(&text);
    cad_str_close(&page);
    cad_config_close(&c);
}

static void what_is_printed_can_be_read_again(void **state)
{
    cad_config *c = opened("--config", "configs/experiments/medical.yaml", "--output-dir", "a: \"b\" # c", NULL), *again;
    cad_str page = {0};

    (void)state;
    assert_int_equal(cad_config_print(c, &page), CAD_OK);
    again = opened("--config", file("again.yaml", page.data), NULL);
    same_options(cad_config_options(c), cad_config_options(again));
    cad_str_close(&page);
    cad_config_close(&c);
    cad_config_close(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_configuration_travels_as_json), cmocka_unit_test(every_single_option_travels), cmocka_unit_test(json_of_a_stranger_is_refused),
        cmocka_unit_test(every_value_names_its_source), cmocka_unit_test(what_is_printed_can_be_read_again)};
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
