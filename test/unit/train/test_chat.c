#include "../base/scratch.h"

#include "../../../src/train/train_priv.h"

#include <stdio.h>

static const char vectors[] = "test/unit/train/data/chat.jsonl";

static void put_template(const char *text)
{
    put_file(in_scratch("chat_template.jinja"), text, strlen(text));
}

static void put_begin(const char *token)
{
    cad_str text = {0};

    assert_int_equal(cad_str_addf(&text, *token ? "{\"bos_token\": \"%s\"}" : "{}", token), CAD_OK);
    put_file(in_scratch("tokenizer_config.json"), text.data, text.size);
    cad_str_close(&text);
}

static cad_status ask(const char *said, cad_str *out)
{
    cad_run r = {.tokenizer_dir = (char *)(uintptr_t)scratch_dir};

    return cadp_chat(&r, said, strlen(said), out);
}

static void what_a_user_says_is_put_as_transformers_renders_it(void **state)
{
    cad_rows *rows;

    (void)state;
    assert_int_equal(cad_rows_read(&rows, vectors), CAD_OK);
    assert_true(cad_rows_count(rows) >= 12);
    for (int64_t i = 0; i < cad_rows_count(rows); i++) {
        cad_str text = {0};
        put_template(cad_rows_cell(rows, i, cad_rows_find(rows, "template")).text);
        put_begin(cad_rows_cell(rows, i, cad_rows_find(rows, "bos_token")).text);
        assert_int_equal(ask(cad_rows_cell(rows, i, cad_rows_find(rows, "said")).text, &text), CAD_OK);
        assert_string_equal(text.data, cad_rows_cell(rows, i, cad_rows_find(rows, "text")).text);
        cad_str_close(&text);
    }
    cad_rows_close(&rows);
}

static void a_conversation_of_several_turns_keeps_them(void **state)
{
    cad_run r = {.tokenizer_dir = (char *)(uintptr_t)scratch_dir};
    cad_str text = {0};

    (void)state;
    put_template("{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}\n{% endfor %}{% if add_generation_prompt %}[model]{% endif %}\n");
    assert_int_equal(cadp_chat_messages(&r, "[{\"role\": \"system\", \"content\": \" a \"}, {\"role\": \"user\", \"content\": \"b\"}]", true, &text), CAD_OK);
    assert_string_equal(text.data, "[system] a\n[user] b\n[model]");
    cad_str_close(&text);
}

static void a_template_beyond_what_is_known_is_refused(void **state)
{
    cad_str text = {0};

    (void)state;
    put_template("\n{% import 'x' as y %}");
    assert_int_equal(ask("x", &text), CAD_EMODEL);
    assert_non_null(strstr(cad_reason(), ":2: chat template: expected if, for, set"));
    cad_clear();
    put_template("{{ messages[0].content | sorted }}");
    assert_int_equal(ask("x", &text), CAD_EMODEL);
    assert_non_null(strstr(cad_reason(), "found sorted"));
    cad_clear();
    put_template("{{ raise_exception('only ' + messages[0].content) }}");
    assert_int_equal(ask("secret", &text), CAD_EDATA);
    assert_non_null(strstr(cad_reason(), "refuses this conversation: only"));
    assert_null(strstr(cad_reason(), "secret"));
    cad_clear();
    cad_str_close(&text);
}

static void a_tokenizer_without_a_template_is_refused(void **state)
{
    cad_str text = {0};

    (void)state;
    remove(in_scratch("chat_template.jinja"));
    assert_int_equal(ask("x", &text), CAD_EMODEL);
    assert_non_null(strstr(cad_reason(), "expected a chat_template"));
    cad_clear();
    cad_str_close(&text);
}

/* What Transformers 5.23 makes of the templates that instruct models of these families bring. */
static void the_templates_of_the_families_say_what_transformers_renders(void **state)
{
    cad_options o = {0};
    cad_run r = {.o = &o, .tokenizer_dir = (char *)(uintptr_t)scratch_dir};
    cad_rows *rows;

    (void)state;
    put_file(in_scratch("tokenizer_config.json"), "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}", 41);
    assert_int_equal(cad_rows_read(&rows, "test/unit/train/data/chat_families.jsonl"), CAD_OK);
    assert_true(cad_rows_count(rows) >= 25);
    for (int64_t i = 0; i < cad_rows_count(rows); i++) {
        char name[64];
        cad_str text = {0};
        snprintf(name, sizeof name, "chat:%s", cad_rows_cell(rows, i, cad_rows_find(rows, "name")).text);
        o.task.template_text = name;
        assert_int_equal(cadp_chat_messages(&r, cad_rows_cell(rows, i, cad_rows_find(rows, "messages")).text, !strcmp(cad_rows_cell(rows, i, cad_rows_find(rows, "ask")).text, "true"), &text), CAD_OK);
        assert_string_equal(text.data, cad_rows_cell(rows, i, cad_rows_find(rows, "text")).text);
        cad_str_close(&text);
    }
    cad_rows_close(&rows);
}

/* Opens a tokenizer with these tokens, up to three, and asks for what a user says. */
static cad_status ask_with(const char *const tokens[3], cad_str *out)
{
    cad_run r = {.tokenizer_dir = (char *)(uintptr_t)scratch_dir};
    cad_str json = {0};
    cad_status status;

    assert_int_equal(cad_str_addf(&json, "{\"added_tokens\": ["), CAD_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(cad_str_addf(&json, "%s{\"id\": %d, \"content\": \"%s\", \"special\": true, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false}", i ? ", " : "", i + 1, tokens[i]), CAD_OK);
    assert_int_equal(cad_str_addf(&json, "], \"normalizer\": null, \"pre_tokenizer\": null, \"post_processor\": null, \"decoder\": null, \"model\": {\"type\": \"BPE\", \"unk_token\": null, \"vocab\": {\"x\": 0}, \"merges\": []}}"), CAD_OK);
    put_file(in_scratch("tokenizer.json"), json.data, json.size);
    cad_str_close(&json);
    assert_int_equal(cad_tokenizer_open(&r.tokenizer, scratch_dir), CAD_OK);
    status = cadp_chat(&r, "x", 1, out);
    cad_tokenizer_close(&r.tokenizer);
    return status;
}

static void a_folder_without_a_template_has_that_of_its_tokens(void **state)
{
    static const struct { const char *tokens[3], *want; } cases[] = {
        {{"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}, "<s><|start_header_id|>user<|end_header_id|>\n\nx<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"},
        {{"<|header_start|>", "<|header_end|>", "<|eot|>"}, "<s><|header_start|>user<|header_end|>\n\nx<|eot|><|header_start|>assistant<|header_end|>\n\n"},
        {{"<start_of_turn>", "<end_of_turn>", "y"}, "<s><start_of_turn>user\nx<end_of_turn>\n<start_of_turn>model\n"},
        {{"[INST]", "[/INST]", "y"}, "<s>[INST] x[/INST]"},
        {{"[INST]", "[/INST]", "[SYSTEM_PROMPT]"}, NULL},
        {{"<|start_header_id|>", "<|end_header_id|>", "y"}, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cad_str text = {0};
        assert_int_equal(ask_with(cases[i].tokens, &text), cases[i].want ? CAD_OK : CAD_EMODEL);
        if (cases[i].want) assert_string_equal(text.data, cases[i].want);
        else assert_non_null(strstr(cad_reason(), "expected a chat_template"));
        cad_clear();
        cad_str_close(&text);
    }
}

static void an_unknown_template_is_refused_with_those_that_there_are(void **state)
{
    char name[] = "chat:falcon";
    cad_options o = {.task.template_text = name};
    cad_run r = {.o = &o, .tokenizer_dir = (char *)(uintptr_t)scratch_dir};
    cad_str text = {0};

    (void)state;
    assert_int_equal(cadp_chat_messages(&r, "[]", true, &text), CAD_EUSAGE);
    assert_string_equal(cad_reason(), "task.template: expected chat or one of chat:gemma, chat:llama-3, chat:llama-4, chat:mistral, chat:qwen, found \"chat:falcon\"");
    cad_clear();
    cad_str_close(&text);
}

/* rouge_score 0.1.2, rougeL, use_stemmer False. */
static void rouge_l_is_that_of_the_usual_package(void **state)
{
    static const struct { const char *a, *b; double f; } cases[] = {
        {"the cat sat on the mat", "the cat is on the mat", 10.0 / 12}, {"ECG now", "ecg NOW.", 1}, {"a b c d", "d c b a", 0.25}, {"", "x", 0}, {"x", "", 0},
        {"naïve “β-blocker” therapy – 5 mg", "naive β-blocker therapy, 5mg", 0.4}, {"Größe 3,5 cm", "grosse 3.5 CM", 2.0 / 3}, {"…", "…", 0}, {"émigré é", "émigré", 1},
        {"heart-attack (NSTEMI)…", "HEART attack; nstemi!", 1}, {"π ≈ 3.14 🙂", "3 14", 1}};
    double f;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(cadp_rouge_l(cases[i].a, cases[i].b, &f), CAD_OK);
        assert_true(f > cases[i].f - 1e-12 && f < cases[i].f + 1e-12);
    }
    assert_int_equal(cadp_rouge_l("心肌梗死", "心肌炎", &f), CAD_OK);
    assert_true(f > 4.0 / 7 - 1e-12 && f < 4.0 / 7 + 1e-12); /* characters of scripts without spaces are words here */
    assert_int_equal(cadp_rouge_l("ECG、心电图。", "ECG 心电图", &f), CAD_OK);
    assert_true(f > 1 - 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_user_says_is_put_as_transformers_renders_it),
        cmocka_unit_test(a_conversation_of_several_turns_keeps_them),
        cmocka_unit_test(a_template_beyond_what_is_known_is_refused),
        cmocka_unit_test(a_tokenizer_without_a_template_is_refused),
        cmocka_unit_test(the_templates_of_the_families_say_what_transformers_renders),
        cmocka_unit_test(a_folder_without_a_template_has_that_of_its_tokens),
        cmocka_unit_test(an_unknown_template_is_refused_with_those_that_there_are),
        cmocka_unit_test(rouge_l_is_that_of_the_usual_package),
    };

    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
