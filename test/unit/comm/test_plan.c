#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cadtrain/comm.h>

#include <stdio.h>

static cad_comm *open_plan(const char *kind)
{
    cad_comm *c;

    cad_clear();
    assert_int_equal(cad_comm_open(&c, kind), CAD_OK);
    return c;
}

static void a_plan_is_rank_0_of_as_many_as_asked(void **state)
{
    cad_comm *c = open_plan("plan:1024");

    (void)state;
    assert_int_equal(cad_comm_rank(c), 0);
    assert_int_equal(cad_comm_size(c), 1024);
    assert_true(cad_comm_pretends(c));
    cad_comm_close(&c);
    assert_int_equal(cad_mem_blocks(), 0);
}

static void bytes_are_counted_and_no_buffer_is_touched(void **state)
{
    cad_comm *c = open_plan("plan:3");
    int64_t at[4] = {0, 10, 10, 25}, big[4] = {0, 1, 2, (int64_t)1 << 40};
    cad_request r[3], m[2];
    size_t n;

    (void)state;
    assert_int_equal(cad_comm_igather(c, NULL, at, CAD_NUM_BF16, &r[0]), CAD_OK);
    assert_int_equal(cad_comm_igather(c, NULL, big, CAD_NUM_F32, &r[1]), CAD_OK);
    assert_int_equal(cad_comm_iscatter(c, NULL, NULL, at, CAD_NUM_I64, &r[2]), CAD_OK);
    assert_int_equal(cad_comm_isend(c, NULL, 100, 2, 1, &m[0]), CAD_OK);
    assert_int_equal(cad_comm_irecv(c, NULL, 70, 1, 1, &m[1]), CAD_OK);
    assert_int_equal(cad_comm_wait(c, &m[1], &n), CAD_OK);
    assert_int_equal(n, 70);
    assert_int_equal(cad_comm_wait(c, &m[0], NULL), CAD_OK);
    for (int i = 0; i < 3; i++) assert_int_equal(cad_comm_wait(c, &r[i], NULL), CAD_OK);
    assert_int_equal(cad_comm_allreduce(c, NULL, 5, CAD_NUM_F64, CAD_MAX), CAD_OK);
    assert_int_equal(cad_comm_bcast(c, NULL, 6, 0), CAD_OK);
    assert_int_equal(cad_comm_collect(c, NULL, NULL, at, 0), CAD_OK);
    assert_int_equal(cad_comm_wire_bytes(c, CAD_WIRE_GATHER), 25 * 2 + ((int64_t)4 << 40));
    assert_int_equal(cad_comm_wire_bytes(c, CAD_WIRE_SCATTER), 25 * 8);
    assert_int_equal(cad_comm_wire_bytes(c, CAD_WIRE_BATCH), 100);
    assert_int_equal(cad_comm_wire_bytes(c, CAD_WIRE_CONTROL), 5 * 8 + 6 + 25);
    cad_comm_close(&c);
}

static void scratch_is_counted_but_not_taken(void **state)
{
    cad_comm *c = open_plan("plan:4");
    int64_t even[5] = {0, 1000, 2000, 3000, 4000}, small[5] = {0, 10, 20, 30, 40}, blocks = cad_mem_blocks();
    cad_request a, b;

    (void)state;
    for (int step = 0; step < 3; step++) {
        assert_int_equal(cad_comm_iscatter(c, NULL, NULL, even, CAD_NUM_I64, &a), CAD_OK);
        assert_int_equal(cad_comm_iscatter(c, NULL, NULL, small, CAD_NUM_F32, &b), CAD_OK);
        assert_int_equal(cad_comm_wait(c, &a, NULL), CAD_OK);
        assert_int_equal(cad_comm_igather(c, NULL, even, CAD_NUM_I64, &a), CAD_OK);
        assert_int_equal(cad_comm_wait(c, &b, NULL), CAD_OK);
        assert_int_equal(cad_comm_wait(c, &a, NULL), CAD_OK);
        assert_int_equal(cad_comm_scratch_bytes(c), 3 * 1000 * 8 + 3 * 10 * 4); /* the other ranks' parts, for two calls at once */
    }
    assert_int_equal(cad_mem_blocks(), blocks);
    cad_comm_close(&c);
}

static void a_plan_for_one_counts_nothing(void **state)
{
    cad_comm *c = open_plan("plan:1");
    int64_t at[2] = {0, 10};
    cad_request r;

    (void)state;
    assert_int_equal(cad_comm_igather(c, NULL, at, CAD_NUM_F32, &r), CAD_OK);
    assert_null(r.handle);
    assert_int_equal(cad_comm_iscatter(c, NULL, NULL, at, CAD_NUM_F32, &r), CAD_OK);
    assert_null(r.handle);
    assert_int_equal(cad_comm_wire_bytes(c, CAD_WIRE_GATHER) + cad_comm_wire_bytes(c, CAD_WIRE_SCATTER), 0);
    cad_comm_close(&c);
}

static void a_plan_agrees_with_itself(void **state)
{
    cad_comm *c = open_plan("plan:8");
    int who;

    (void)state;
    assert_int_equal(cad_comm_agree(c, CAD_OK), CAD_OK);
    assert_int_equal(cad_comm_agree(c, CAD_EUSAGE), CAD_EUSAGE);
    assert_int_equal(cad_comm_verdict(c, &who), CAD_EUSAGE);
    assert_int_equal(who, 0);
    cad_comm_close(&c);
}

static void a_world_size_that_is_no_number_is_refused(void **state)
{
    static const char *const wrong[] = {"plan:", "plan:0", "plan:-2", "plan:4x", "plan:99999999999", "plan:four"};
    cad_comm *c;
    char want[128];

    (void)state;
    for (int i = 0; i < 6; i++) {
        cad_clear();
        assert_int_equal(cad_comm_open(&c, wrong[i]), CAD_EUSAGE);
        assert_null(c);
        snprintf(want, sizeof want, "world size to plan for: expected a number from 1 to 1048576, found '%s'", wrong[i] + 5);
        assert_string_equal(cad_reason(), want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_is_rank_0_of_as_many_as_asked),
        cmocka_unit_test(bytes_are_counted_and_no_buffer_is_touched),
        cmocka_unit_test(scratch_is_counted_but_not_taken),
        cmocka_unit_test(a_plan_for_one_counts_nothing),
        cmocka_unit_test(a_plan_agrees_with_itself),
        cmocka_unit_test(a_world_size_that_is_no_number_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
