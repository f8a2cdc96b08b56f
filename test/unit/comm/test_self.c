#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cadtrain/comm.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int open_self(void **state)
{
    cad_clear();
    return (int)cad_comm_open((cad_comm **)state, "self");
}

static int close_self(void **state)
{
    cad_comm_close((cad_comm **)state);
    cad_clear();
    return cad_mem_blocks() != 0;
}

static void self_is_a_world_of_one(void **state)
{
    cad_comm *c = *state;

    assert_int_equal(cad_comm_rank(c), 0);
    assert_int_equal(cad_comm_size(c), 1);
    assert_int_equal(cad_comm_local_rank(c), 0);
    assert_int_equal(cad_comm_local_size(c), 1);
    assert_int_equal(cad_comm_nodes(c), 1);
    assert_string_equal(cad_comm_library(c), "self");
    assert_false(cad_comm_pretends(c));
}

static void everything_is_done_at_once_and_nothing_is_counted(void **state)
{
    cad_comm *c = *state;
    int64_t at[2] = {0, 3}, sums[3] = {0}, given[3] = {1, 2, 3};
    float x[3] = {1, 2, 3};
    char all[3] = "";
    cad_request r = {.handle = c, .slot = 5};

    assert_int_equal(cad_comm_igather(c, x, at, CAD_NUM_F32, &r), CAD_OK);
    assert_null(r.handle);
    assert_int_equal(cad_comm_iscatter(c, given, sums, at, CAD_NUM_I64, &r), CAD_OK);
    assert_null(r.handle);
    assert_memory_equal(sums, given, sizeof given);
    assert_int_equal(cad_comm_wait(c, &r, NULL), CAD_OK);
    assert_int_equal(cad_comm_allreduce(c, x, 3, CAD_NUM_F32, CAD_SUM), CAD_OK);
    assert_true(x[0] == 1 && x[2] == 3);
    assert_int_equal(cad_comm_collect(c, "abc", all, at, 0), CAD_OK);
    assert_memory_equal(all, "abc", 3);
    assert_int_equal(cad_comm_bcast(c, all, 3, 0), CAD_OK);
    assert_int_equal(cad_comm_barrier(c), CAD_OK);
    cad_comm_progress(c);
    for (int k = 0; k < CAD_WIRE_KINDS; k++) assert_int_equal(cad_comm_wire_bytes(c, (cad_wire)k), 0);
    assert_int_equal(cad_comm_scratch_bytes(c), 0);
}

static void messages_to_itself_arrive_in_order_by_tag(void **state)
{
    cad_comm *c = *state;
    char in[4][8] = {"", "", "", ""};
    cad_request s[3], r[4];
    size_t n;

    assert_int_equal(cad_comm_isend(c, "first", 6, 0, 1, &s[0]), CAD_OK);
    assert_int_equal(cad_comm_isend(c, "second", 7, 0, 1, &s[1]), CAD_OK);
    assert_int_equal(cad_comm_irecv(c, in[2], 8, 0, 2, &r[2]), CAD_OK);
    assert_int_equal(cad_comm_irecv(c, in[0], 8, 0, 1, &r[0]), CAD_OK);
    assert_int_equal(cad_comm_irecv(c, in[1], 8, 0, 1, &r[1]), CAD_OK);
    assert_int_equal(cad_comm_isend(c, "", 0, 0, 2, &s[2]), CAD_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(cad_comm_wait(c, &r[i], &n), CAD_OK);
        assert_int_equal(n, ((size_t[]){6, 7, 0})[i]);
        assert_int_equal(cad_comm_wait(c, &s[i], NULL), CAD_OK);
    }
    assert_string_equal(in[0], "first");
    assert_string_equal(in[1], "second");
    assert_int_equal(cad_comm_wire_bytes(c, CAD_WIRE_BATCH), 0);
}

static void a_message_longer_than_its_room_is_an_error(void **state)
{
    cad_comm *c = *state;
    char in[3] = "";
    cad_request s, r;

    assert_int_equal(cad_comm_irecv(c, in, 2, 0, 9, &r), CAD_OK);
    assert_int_equal(cad_comm_isend(c, "abc", 3, 0, 9, &s), CAD_OK);
    assert_int_equal(cad_comm_wait(c, &r, NULL), CAD_EINTERNAL);
    assert_string_equal(cad_reason(), "a message from rank 0 with tag 9 is longer than its room of 2 bytes");
    assert_int_equal(in[2], 0);
}

static void waiting_for_a_message_nobody_sends_is_an_error_not_a_hang(void **state)
{
    cad_comm *c = *state;
    char in[2];
    cad_request r;

    assert_int_equal(cad_comm_irecv(c, in, 2, 0, 4, &r), CAD_OK);
    assert_int_equal(cad_comm_wait(c, &r, NULL), CAD_EINTERNAL);
    assert_string_equal(cad_reason(), "a message of this rank to itself with tag 4 is waited for but was not sent");
}

static void its_own_failure_is_the_verdict(void **state)
{
    cad_comm *c = *state;
    int who = 7;

    assert_int_equal(cad_comm_agree(c, CAD_OK), CAD_OK);
    assert_int_equal(cad_comm_verdict(c, &who), CAD_OK);
    assert_int_equal(who, -1);
    assert_int_equal(cad_comm_agree(c, CAD_EDATA), CAD_EDATA);
    assert_int_equal(cad_comm_verdict(c, &who), CAD_EDATA);
    assert_int_equal(who, 0);
}

static void abort_ends_the_process_with_the_code(void **state)
{
    int how, pid = fork();

    if (pid == 0) cad_comm_abort(*state, CAD_ECHECKPOINT);
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 5);
}

static void an_unknown_kind_is_a_sentence(void **state)
{
    cad_comm *c = NULL;

    (void)state;
    assert_int_equal(cad_comm_open(&c, "nccl"), CAD_EUSAGE);
    assert_null(c);
    assert_string_equal(cad_reason(), "communicator: expected mpi, self or plan:N, found 'nccl'");
    cad_comm_close(&c);
}

static void no_failed_allocation_leaks(void **state)
{
    cad_comm *c;
    cad_status status;
    int64_t before = cad_mem_blocks();

    (void)state;
    for (int64_t nth = 1;; nth++) {
        cad_mem_fail_at(nth);
        status = cad_comm_open(&c, "self");
        cad_mem_fail_at(0);
        if (!status) break;
        assert_int_equal(status, CAD_ERESOURCE);
        assert_null(c);
        assert_int_equal(cad_mem_blocks(), before);
        cad_clear();
        assert_true(nth < 100);
    }
    cad_comm_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(self_is_a_world_of_one, open_self, close_self),
        cmocka_unit_test_setup_teardown(everything_is_done_at_once_and_nothing_is_counted, open_self, close_self),
        cmocka_unit_test_setup_teardown(messages_to_itself_arrive_in_order_by_tag, open_self, close_self),
        cmocka_unit_test_setup_teardown(a_message_longer_than_its_room_is_an_error, open_self, close_self),
        cmocka_unit_test_setup_teardown(waiting_for_a_message_nobody_sends_is_an_error_not_a_hang, open_self, close_self),
        cmocka_unit_test_setup_teardown(its_own_failure_is_the_verdict, open_self, close_self),
        cmocka_unit_test_setup_teardown(abort_ends_the_process_with_the_code, open_self, close_self),
        cmocka_unit_test_setup_teardown(an_unknown_kind_is_a_sentence, open_self, close_self),
        cmocka_unit_test_setup_teardown(no_failed_allocation_leaks, open_self, close_self),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
