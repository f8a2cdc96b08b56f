/* The first byte picks the form by name; the rest is refused, or a table whose every cell can be read. */
#include "fuzz.h"

#include <cadtrain/format.h>

const int fuzz_near = 3000;

bool fuzz_seed(int i, cad_str *out)
{
    static const char *const texts[] = {"0a,b\n1,\"x\"\"y\"\n,\"\"\n", "1a\tb\r\n1\t2\r\n", "2{\"a\": 1}\n{\"a\": \"x\", \"b\": [1]}\n", "2[{\"input\": \"t\", \"output\": 0}]"};

    return fuzz_text(texts, 4, i, out);
}

static void read_cell(const cad_rows *r, int64_t row, int column)
{
    cad_cell c = cad_rows_cell(r, row, column);
    cad_tree *t = NULL;

    CAD_ASSERT(!c.text[c.size]);
    if (c.kind != CAD_CELL_JSON) return;
    CAD_ASSERT(!cad_json_parse(&t, c.text, c.size, "cell", CAD_EDATA));
    cad_tree_close(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const char *const names[] = {"f.csv", "f.tsv", "f.json"};
    cad_rows *r = NULL;

    if (!n) return 0;
    cad_clear();
    if (cad_rows_parse(&r, (const char *)bytes + 1, n - 1, names[bytes[0] % 3])) CAD_ASSERT(cad_reason()[0]);
    else
        for (int64_t i = 0; i < cad_rows_count(r); i++)
            for (int c = 0; c < cad_rows_columns(r); c++) read_cell(r, i, c);
    cad_rows_close(&r);
    CAD_ASSERT(!cad_mem_blocks());
    return 0;
}
