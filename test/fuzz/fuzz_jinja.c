/* Bytes before the first NUL: a chat template; behind it: the content of a message. Runs from the repository root. */
#include <cadtrain/format.h>
#include <cadtrain/text.h>

#include "fuzz.h"

const int fuzz_near = 200;

static const char *const templates[] = {
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m.content | trim }}{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    ("{%- if messages[0]['role'] == 'system' -%}{% set s = messages[0].content %}{% set rest = messages[1:] %}{%- else -%}{% set s = none %}{% set rest = messages %}{%- endif -%}{{ s or 'x' }}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns') }}{% endif %}{{ loop.first ~ loop.last }}{% endfor %}"),
    "{% macro f(a, b=2) %}{{ a }}{{ b * 3 - 1 }}{% endmacro %}{{ f(messages | length) }}{% set ns = namespace(n=0) %}{% for c in messages[-1].content %}{% set ns.n = ns.n + 1 %}{% if c == 'z' %}{% break %}{% endif %}{% endfor %}{{ ns.n }}",
    "{{ messages | tojson(indent=2) }}{{ messages[0].content.split(' ')[-1].strip() | upper | title | lower | capitalize }}{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list | join(', ') }}",
    "{# note #}{{ {'a': [1, 2.5, true, none]}['a'][::-1] }}{{ 'a' in 'abc' and not (1 > 2) }}{{ x is defined }}{{ x | default('y') }}{{ '%s' | replace('s', 't') }}{{ range(3) | list }}"};

bool fuzz_seed(int i, cad_str *out)
{
    static const char said[] = "\0 Is \xC3\xA9\xCE\xA3 \"bad\"? z\n";

    if (i >= (int)(sizeof templates / sizeof *templates)) return false;
    CAD_ASSERT(!cad_str_add(out, templates[i], strlen(templates[i])) && !cad_str_add(out, said, sizeof said - 1));
    return true;
}

/* NULL: what was said is no text. */
static cad_tree *variables(const char *said, size_t n)
{
    cad_json j = {0};
    cad_tree *tree = NULL;
    cad_status status = cad_json_begin(&j, NULL, '{');

    if (!status) status = cad_json_begin(&j, "messages", '[');
    for (int i = 0; i < 2 && !status; i++) {
        status = cad_json_begin(&j, NULL, '{');
        if (!status) status = cad_json_string(&j, "role", i ? "assistant" : "user");
        if (!status) status = cad_json_bytes(&j, "content", said, n);
        if (!status) status = cad_json_end(&j);
    }
    if (!status) status = cad_json_end(&j);
    if (!status) status = cad_json_raw(&j, "add_generation_prompt", "true");
    if (!status) status = cad_json_string(&j, "eos_token", "</s>");
    if (!status) status = cad_json_end(&j);
    if (!status) status = cad_json_parse(&tree, j.text.data, j.text.size, "variables", CAD_EDATA);
    cad_json_close(&j);
    return status ? NULL : tree;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = memchr(data, 0, size);
    size_t file = end ? (size_t)(end - data) : size, n = end ? size - file - 1 : 0;
    cad_str out = {0};
    cad_tree *tree;

    if (!cad_utf8_valid(end ? (const char *)end + 1 : "", n, NULL)) return 0;
    tree = variables(end ? (const char *)end + 1 : "", n);
    if (tree) {
        cad_status status = cad_chat_render((const char *)data, file, "template", tree->root, &out);
        CAD_ASSERT(!status == !*cad_reason());
    }
    cad_tree_close(&tree);
    cad_str_close(&out);
    cad_clear();
    CAD_ASSERT(!cad_mem_blocks());
    return 0;
}
