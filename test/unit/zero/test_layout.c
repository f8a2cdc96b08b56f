/* How a flat array is cut over ranks. */
#include "../../../src/zero/zero_priv.h"

#include "../base/scratch.h"

static const int64_t SIZES[] = {0, 1, 2, 1023, 1024, 1025, 2047, 2048, 2049, 5000, 16 * 1024, 16 * 1024 + 1, 17 * 1024 - 1, 123457, 1 << 20, (int64_t)152064 * 3584, ((int64_t)1 << 40) + 77};
enum { COUNT = sizeof SIZES / sizeof *SIZES, MOST_RANKS = 17 };

static void check_cut(int64_t n, int size)
{
    int64_t at[MOST_RANKS + 1], chunks = cad_ceil_div(n, CAD_CHUNK);

    cadp_cut(n, size, at);
    assert_true(at[0] == 0 && at[size] == n);
    for (int k = 0; k < size; k++) {
        assert_true(at[k] <= at[k + 1]);
        assert_true(at[k] % CAD_CHUNK == 0 || at[k] == n);
        assert_true(at[k + 1] - at[k] <= at[1]);
        assert_true(cad_ceil_div(at[k + 1] - at[k], CAD_CHUNK) <= cad_ceil_div(chunks, size));
        assert_true(cad_ceil_div(at[k + 1] - at[k], CAD_CHUNK) >= chunks / size);
    }
}

static void a_cut_covers_all_in_chunks_and_rank_0_has_most(void **state)
{
    (void)state;
    for (int i = 0; i < COUNT; i++)
        for (int size = 1; size <= MOST_RANKS; size++) check_cut(SIZES[i], size);
    for (int64_t n = 0; n < 40000; n += 331)
        for (int size = 1; size <= MOST_RANKS; size++) check_cut(n, size);
}

/* What every rank finds of a piece, end to end, is the piece. */
static void the_parts_of_a_piece_make_the_piece(void **state)
{
    (void)state;
    for (int i = 0; i < COUNT; i++)
        for (int size = 1; size <= MOST_RANKS; size++)
            for (int64_t from = 0; from < cad_min(SIZES[i], 9000); from += 777) {
                int64_t cut[MOST_RANKS + 1], n = cad_min(SIZES[i] - from, 4111), next = from;
                cadp_cut(SIZES[i], size, cut);
                for (int k = 0; k < size; k++) {
                    int64_t at, count;
                    bool some = cadp_common(from, n, cut[k], cut[k + 1], &at, &count);
                    assert_true(some == (count > 0));
                    assert_true(!some || at == next);
                    next += count;
                }
                assert_true(next == from + n);
            }
}

static void pieces_that_only_touch_have_nothing_in_common(void **state)
{
    int64_t at, n;

    (void)state;
    assert_false(cadp_common(10, 5, 15, 20, &at, &n));
    assert_int_equal(n, 0);
    assert_false(cadp_common(15, 5, 10, 15, &at, &n));
    assert_int_equal(n, 0);
    assert_false(cadp_common(12, 0, 10, 15, &at, &n));
    assert_true(cadp_common(12, 9, 10, 15, &at, &n));
    assert_int_equal(at, 12);
    assert_int_equal(n, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_covers_all_in_chunks_and_rank_0_has_most),
        cmocka_unit_test(the_parts_of_a_piece_make_the_piece),
        cmocka_unit_test(pieces_that_only_touch_have_nothing_in_common),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
