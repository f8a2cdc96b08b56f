#include "kept.h"

/* Bytes are tokens; <s> in front. */
static const char tokenizer_json[] =
    "{\"added_tokens\": [{\"id\": 0, \"content\": \"<s>\", \"special\": true, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false}], \"normalizer\": null, \"pre_tokenizer\": null, "
    "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"pair\": [], "
    "\"special_tokens\": {\"<s>\": {\"id\": \"<s>\", \"ids\": [0], \"tokens\": [\"<s>\"]}}}, \"decoder\": null, "
    "\"model\": {\"type\": \"BPE\", \"unk_token\": null, \"vocab\": {\"<s>\": 0}, \"merges\": []}}";

typedef struct talking { cad_options o; cad_run r; } talking;

static void open_talk(talking *t, const char *template, bool answers)
{
    memset(t, 0, sizeof *t);
    kept_put(scratch_dir, "tokenizer.json", tokenizer_json);
    kept_put(scratch_dir, "tokenizer_config.json", "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}");
    kept_put(scratch_dir, "chat_template.jinja", template);
    t->o.task.completion_only_loss = answers;
    t->r.o = &t->o;
    t->r.tokenizer_dir = scratch_dir;
    OK(cad_tokenizer_open(&t->r.tokenizer, scratch_dir));
    OK(cadp_open_chat_form(&t->r));
}

static void close_talk(talking *t)
{
    cad_tokenizer_close(&t->r.tokenizer);
    cadp_close_chat_form(&t->r);
}

/* What is learned of a conversation, each answer in [ ]. */
static void expect_talk(talking *t, const char *messages, const char *want)
{
    cad_str text = {0}, shown = {0};
    cad_cuts cuts = {0};
    size_t at = 0;

    OK(t->r.chat_form.talk(t->r.chat_form.with, messages, &text, &cuts));
    for (int64_t i = 0; i < cuts.count; i++) {
        at = cad_min(at, cuts.at[i]); /* the last pair may begin before the one before it ends */
        OK(cad_str_add(&shown, text.data + at, cuts.at[i] - at));
        OK(cad_str_add(&shown, i % 2 ? "]" : "[", 1));
        at = cuts.at[i];
    }
    OK(cad_str_add(&shown, text.data + at, text.size - at));
    assert_string_equal(shown.data, want);
    cad_str_close(&text);
    cad_str_close(&shown);
    cad_free(&cuts.at);
}

static void refused(talking *t, const char *messages, const char *why)
{
    cad_str text = {0};
    cad_cuts cuts = {0};

    assert_int_equal(t->r.chat_form.talk(t->r.chat_form.with, messages, &text, &cuts), CAD_EDATA);
    if (!strstr(cad_reason(), why)) fail_msg("%s: expected %s", cad_reason(), why);
    cad_clear();
    cad_str_close(&text);
    cad_free(&cuts.at);
}

static const char chatml[] = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
static const char two[] = "[{\"role\": \"user\", \"content\": \" a \"}, {\"role\": \"assistant\", \"content\": \"b\"}, {\"role\": \"user\", \"content\": \"c\"}, {\"role\": \"assistant\", \"content\": \"d\"}]";

static void the_turns_of_the_assistant_are_learned(void **state)
{
    talking t;

    (void)state;
    open_talk(&t, chatml, true); /* the tokenizer puts <s> itself */
    expect_talk(&t, two, "<|user|>a<|end|>\n<|assistant|>[b<|end|>\n]<|user|>c<|end|>\n<|assistant|>[d<|end|>\n]");
    close_talk(&t);
    open_talk(&t, chatml, false);
    expect_talk(&t, two, "<|user|>a<|end|>\n<|assistant|>b<|end|>\n<|user|>c<|end|>\n<|assistant|>[d<|end|>\n]");
    close_talk(&t);
}

static void a_question_is_written_as_the_template_writes_it(void **state)
{
    talking t;
    cad_str text = {0};

    (void)state;
    open_talk(&t, chatml, true);
    OK(t.r.chat_form.ask(t.r.chat_form.with, " pain? \n", 8, &text));
    assert_string_equal(text.data, "<|user|>pain?<|end|>\n<|assistant|>");
    cad_str_close(&text);
    close_talk(&t);
}

/* A last turn of its own, thoughts of earlier turns left out, what the system says before the last question. */
static void answers_are_found_in_earlier_turns_written_otherwise(void **state)
{
    static const char last[] = "{% for m in messages %}<{{ m.role }}{% if loop.last %}!{% endif %}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant!>{% endif %}";
    static const char thinks[] =
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'user' %}{{ m.content }}{% elif loop.last %}<think>{{ m.content.split('</think>')[0] }}</think>{{ m.content.split('</think>')[-1] | trim }}"
        "{% else %}{{ m.content.split('</think>')[-1] | trim }}{% endif %}<end>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    static const char opens[] =
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' and loop.last %}<think>{% endif %}{{ m.content.split('</think>')[-1] if not loop.last else m.content }}<end>{% endfor %}"
        "{% if add_generation_prompt %}<assistant><think>{% endif %}";
    static const char late[] =
        "{% set said = messages[0].content %}{% for m in messages[1:] %}{% if m.role == 'user' %}[INST]{% if loop.last or loop.index == messages[1:] | length - 1 %}{{ said }}: {% endif %}{{ m.content }}[/INST]"
        "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}";
    static const char thought[] = "[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"why</think> b \"}, {\"role\": \"user\", \"content\": \"c\"}, "
                                  "{\"role\": \"assistant\", \"content\": \"so</think>d\"}]";
    static const char told[] = "[{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}, {\"role\": \"user\", \"content\": \"c\"}, "
                               "{\"role\": \"assistant\", \"content\": \"d\"}]";
    static const struct { const char *template, *messages, *want; } cases[] = {
        {last, two, "<user> a <assistant>[b]<user>c<assistant!>[d]"},
        {thinks, thought, "<user>a<end>\n<assistant>[b<end>\n]<user>c<end>\n<assistant>[<think>so</think>d<end>\n]"},
        {opens, thought, "<user>a<end><assistant>[ b <end>]<user>c<end><assistant><think>[so</think>d<end>]"},
        {late, told, "[INST]a[/INST][b</s>][INST]s: c[/INST][d</s>]"},
    };
    talking t;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        open_talk(&t, cases[i].template, true);
        expect_talk(&t, cases[i].messages, cases[i].want);
        close_talk(&t);
    }
}

static void what_the_template_marks_is_learned(void **state)
{
    static const char marked[] = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<end>{% endfor %}"
                                 "{% if add_generation_prompt %}<assistant>{% endif %}";
    talking t;

    (void)state;
    open_talk(&t, marked, true); /* the empty piece: where the last question ends */
    expect_talk(&t, "[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]", "<user>a<end><assistant>[b][]b<end>");
    close_talk(&t);
}

static void an_answer_without_a_place_is_refused(void **state)
{
    static const char loses[] = "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' and not loop.last %}{{ m.content | length }} characters{% else %}{{ m.content }}{% endif %}<end>{% endfor %}"
                                "{% if add_generation_prompt %}<assistant>{% endif %}";
    talking t;

    (void)state;
    open_talk(&t, loses, true);
    refused(&t, two, "message 2: expected to find where this answer ends in the text of the conversation, found no such place");
    close_talk(&t);
    open_talk(&t, loses, false);
    expect_talk(&t, two, "<user> a <end><assistant>1 characters<end><user>c<end><assistant>[d<end>]");
    close_talk(&t);
}

static void a_conversation_without_an_answer_is_refused(void **state)
{
    talking t;

    (void)state;
    open_talk(&t, chatml, true);
    refused(&t, "[]", "expected a list of messages");
    refused(&t, "[{\"role\": \"user\", \"content\": \"SECRET\"}]", "found none in 1 messages");
    refused(&t, "[{\"role\": \"assistant\", \"content\": \"a\"}]", "expected something said before");
    refused(&t, "[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"\"}]", "message 2: expected an answer of the assistant, found an empty one");
    refused(&t, "[{\"role\": \"user\"}]", "message 1: expected a role and a content");
    refused(&t, "[7]", "message 1: expected a role and a content");
    close_talk(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_turns_of_the_assistant_are_learned),
        cmocka_unit_test(a_question_is_written_as_the_template_writes_it),
        cmocka_unit_test(answers_are_found_in_earlier_turns_written_otherwise),
        cmocka_unit_test(what_the_template_marks_is_learned),
        cmocka_unit_test(an_answer_without_a_place_is_refused),
        cmocka_unit_test(a_conversation_without_an_answer_is_refused),
    };

    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
