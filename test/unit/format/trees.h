/* What the tests of the text readers share. */
#ifndef CADTRAIN_TEST_TREES_H
#define CADTRAIN_TEST_TREES_H
#include "../base/scratch.h"

#include <cadtrain/format.h>

/* A tree as compact JSON, compared and freed. */
static inline void expect_tree(cad_tree **t, const char *json)
{
    cad_json j = {0};

    assert_int_equal(cad_json_node(&j, NULL, (*t)->root), CAD_OK);
    assert_string_equal(j.text.data, json);
    cad_json_close(&j);
    cad_tree_close(t);
}

static inline int nothing_is_left(void **state)
{
    (void)state;
    cad_clear();
    return cad_mem_blocks() != 0;
}
#endif
