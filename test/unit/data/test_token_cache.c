#include "golden.h"

#include "../../../src/data/data_priv.h"

/* Blocks whose checksum is right and whose content is not: only somebody who means harm writes them. */

static int32_t ids[] = {1, 2, 3, 4}, labels[] = {0, 1, -1}, answers[] = {1, 0, 1};
static int64_t starts[] = {0, 2, 3, 4};
static bool cut[] = {false, true, false};
static const cad_dataset good = {.count = 3, .labels = labels, .ids = ids, .starts = starts, .answers = answers, .cut = cut, .digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"};
enum { CRC_AT = 12, COUNT_AT = 80, IDS_AT = 88, STARTS_AT = 96, LABELS_AT = STARTS_AT + 32, IDS_PART_AT = LABELS_AT + 16, ANSWERS_AT = IDS_PART_AT + 16, CUT_AT = ANSWERS_AT + 16, GIVEN_AT = CUT_AT + 8, END = GIVEN_AT + 8 };

static void seal(cadp_flat *f)
{
    uint32_t crc = 0;

    memcpy(f->bytes + CRC_AT, &crc, sizeof crc);
    crc = cad_crc32c(0, f->bytes, f->size);
    memcpy(f->bytes + CRC_AT, &crc, sizeof crc);
}

static const char *fault_after(size_t at, const void *value, size_t size)
{
    cadp_flat f;
    cad_dataset d = {0};
    const char *why;
    bool ok;

    assert_int_equal(cadp_flat_make(&f, &good), CAD_OK);
    assert_int_equal(f.size, END);
    memcpy(f.bytes + at, value, size);
    seal(&f);
    ok = cadp_flat_attach(&f, good.digest, &d, &why);
    assert_true(ok == !why);
    cadp_flat_close(&f);
    return why ? why : "";
}

static void a_sealed_block_with_wrong_content_is_refused(void **state)
{
    static const int64_t huge = INT64_MAX, minus = -1, five = 5, two = 2;
    static const int32_t label = 2, id = -7, given = 3;
    static const unsigned char flag = 2;

    (void)state;
    assert_string_equal(fault_after(COUNT_AT, &good.count, 8), "");
    assert_string_equal(fault_after(COUNT_AT, &huge, 8), "its size does not fit its counts");
    assert_string_equal(fault_after(COUNT_AT, &minus, 8), "its size does not fit its counts");
    assert_string_equal(fault_after(COUNT_AT, &two, 8), "its size does not fit its counts");
    assert_string_equal(fault_after(IDS_AT, &huge, 8), "its size does not fit its counts");
    assert_string_equal(fault_after(IDS_AT, &minus, 8), "its size does not fit its counts");
    assert_string_equal(fault_after(STARTS_AT, &two, 8), "its offsets are wrong");
    assert_string_equal(fault_after(STARTS_AT + 24, &five, 8), "its offsets are wrong");
    assert_string_equal(fault_after(STARTS_AT + 8, &huge, 8), "its rows are wrong");
    assert_string_equal(fault_after(STARTS_AT + 8, &minus, 8), "its rows are wrong");
    assert_string_equal(fault_after(LABELS_AT, &label, 4), "its rows are wrong");
    assert_string_equal(fault_after(IDS_PART_AT + 4, &id, 4), "its ids are wrong");
    assert_string_equal(fault_after(ANSWERS_AT, &given, 4), "its rows are wrong");
    assert_string_equal(fault_after(ANSWERS_AT, &id, 4), "its rows are wrong");
    assert_string_equal(fault_after(CUT_AT, &flag, 1), "its rows are wrong");
    assert_string_equal(fault_after(GIVEN_AT + 3, &flag, 1), "its ids are wrong");
    assert_string_equal(fault_after(16, "X", 1), "it belongs to other data");
    assert_string_equal(fault_after(0, "X", 1), "it is no token cache of this version");
}

int main(void)
{
    const struct CMUnitTest tests[] = {CLEAN_TEST(a_sealed_block_with_wrong_content_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
