/* A whole prepare on one extract and one table: the first byte says where the one ends and the other begins. Refused, or prepared. */
#include "fuzz.h"

#include <cadtrain/cohort.h>

const int fuzz_near = 200;

bool fuzz_seed(int i, cad_str *out)
{
    static const char *const texts[] = {"\xff" "eid,31-0.0,21003-0.0,53-0.0\n1,0,55,2008-03-01\n2,1,60,2009-04-02\n",
                                        "\x90" "eid,31-0.0,21003-0.0,53-0.0\n1,0,55,2008-03-01\neid\tins_index\tdiag_icd10\tepistart\n1\t0\tI219\t01/02/2012\n",
                                        "\xf0" "participant.eid,participant.p31,participant.p53_i0\n1,Male,2008-03-01\n"};

    return fuzz_text(texts, 3, i, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static char extract[128], table[128], out[128];
    char *extracts[] = {extract}, *tables[] = {table};
    cad_cohort_plan p = {.extracts = {extracts, 1}, .record_tables = {tables, 1}, .template_text = "{record}", .output_dir = out, .horizon_years = 10, .validation = 0.2,
                         .test = 0.2, .kinship_threshold = 0.0442, .columns = CAD_COLUMNS_ALL};
    size_t cut = n ? (n - 1) * bytes[0] / 255 : 0;

    if (!n) return 0;
    snprintf(extract, sizeof extract, "%s", fuzz_keep("extract", bytes + 1, cut));
    snprintf(table, sizeof table, "%s", fuzz_keep("table", bytes + 1 + cut, n - 1 - cut));
    snprintf(out, sizeof out, "%s/out", fuzz_room);
    cad_clear();
    cad_log_setup(0, 1, CAD_LOG_ERROR);
    if (cad_prepare_cohort(&p)) CAD_ASSERT(cad_reason()[0]);
    CAD_ASSERT(!cad_mem_blocks());
    CAD_ASSERT(!cad_is_dir(out) || !cad_remove_tree(out));
    return 0;
}
