/* Any bytes: refused, or a tree whose JSON is JSON. */
#include "fuzz.h"

#include <cadtrain/format.h>

const int fuzz_near = 3000;

bool fuzz_seed(int i, cad_str *out)
{
    static const char *const texts[] = {"a: 1\nb: [x, \"y\", 3e-5]\nc:\n  d: {e: null, f: true}\n  g: |\n    text\n", "- 1\n- {a: b}\n", "a: &x 1\nb: *x\n", "? a\n: b\n"};

    return fuzz_text(texts, 4, i, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    cad_tree *t = NULL, *again = NULL;
    cad_json j = {0};

    cad_clear();
    if (cad_yaml_parse(&t, (const char *)bytes, n, "f")) CAD_ASSERT(cad_reason()[0]);
    else CAD_ASSERT(!cad_json_node(&j, NULL, t->root) && !cad_json_parse(&again, j.text.data, j.text.size, "f", CAD_EMODEL));
    cad_tree_close(&t);
    cad_tree_close(&again);
    cad_json_close(&j);
    CAD_ASSERT(!cad_mem_blocks());
    return 0;
}
