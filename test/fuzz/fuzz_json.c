/* Any bytes: refused, or a tree whose JSON reads back to the same JSON. */
#include "fuzz.h"

#include <cadtrain/format.h>

const int fuzz_near = 3000;

bool fuzz_seed(int i, cad_str *out)
{
    static const char *const texts[] = {"{\"a\": [1, -2.5e-3, true, null, \"\\u00e9\\n\"], \"b\": {\"c\": \"\"}}", "[[[[]]]]", "123456789012345678901234567890", "{\"a\": NaN}"};

    return fuzz_text(texts, 4, i, out);
}

static cad_status emit(cad_json *j, const cad_tree *t) { return cad_json_node(j, NULL, t->root); }

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    cad_tree *t = NULL, *again = NULL;
    cad_json a = {0}, b = {.pretty = true}, c = {0};

    cad_clear();
    if (cad_json_parse(&t, (const char *)bytes, n, "f", CAD_EMODEL)) CAD_ASSERT(cad_reason()[0]);
    else {
        CAD_ASSERT(!emit(&a, t) && !emit(&b, t));
        CAD_ASSERT(!cad_json_parse(&again, b.text.data, b.text.size, "f", CAD_EMODEL) && !emit(&c, again));
        CAD_ASSERT(a.text.size == c.text.size && !memcmp(a.text.data, c.text.data, a.text.size));
    }
    cad_tree_close(&t);
    cad_tree_close(&again);
    cad_json_close(&a);
    cad_json_close(&b);
    cad_json_close(&c);
    CAD_ASSERT(!cad_mem_blocks());
    return 0;
}
