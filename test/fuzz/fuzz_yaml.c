/* Any bytes: refused, or a tree whose JSON is JSON. */
#include <cadtrain/format.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

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
