/* np: none (test/mpi/endings.sh starts it) */
#include "ranks.h"

#include <signal.h>

/* mpi_ending HOW RANK: that rank ends in this way while the others work; test/mpi/endings.sh looks at what the shell sees. */
static int fail_by_agreement(bool mine)
{
    cad_status status = cad_comm_agree(world, mine ? cad_fail(CAD_EMODEL, "tensor w: expected 2 rows, found 3") : CAD_OK);
    cad_status verdict = cad_comm_verdict(world, NULL);

    if (status != CAD_EPEER && status) cad_print_failure();
    cad_comm_close(&world);
    return (int)verdict;
}

static void end(const char *how)
{
    if (!strcmp(how, "kill")) kill(getpid(), SIGKILL);
    if (!strcmp(how, "stop")) kill(getpid(), SIGSTOP);
    if (!strcmp(how, "segv")) kill(getpid(), SIGSEGV);
    if (!strcmp(how, "exit")) exit(0);
    if (!strcmp(how, "abort")) {
        (void)cad_fail(CAD_EMODEL, "tensor w: expected 2 rows, found 3");
        cad_print_failure();
        cad_comm_abort(world, CAD_EMODEL);
    }
    cad_watchdog_beat("computing", 3);
    for (;;) pause();
}

static void work(int step)
{
    float sum[100] = {1};

    cad_watchdog_beat("reducing", step);
    CHECK_OK(cad_comm_allreduce(world, sum, 100, CAD_NUM_F32, CAD_SUM));
    usleep(10000);
}

static long rank_before_mpi(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    return rank ? strtol(rank, NULL, 10) : 0;
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "well";
    int last = strcmp(how, "well") ? 60000 : 30;

    if (!strcmp(how, "memory") && rank_before_mpi() == strtol(argv[2], NULL, 10)) cad_mem_fail_at(4);
    cad_status status = cad_comm_open(&world, "mpi");
    cad_mem_fail_at(0);
    if (status) {
        if (status != CAD_EPEER) cad_print_failure();
        return (int)status;
    }
    bool mine = argc > 2 && cad_comm_rank(world) == strtol(argv[2], NULL, 10);
    cad_log_setup(cad_comm_rank(world), cad_comm_size(world), CAD_LOG_INFO);
    CHECK_OK(cad_watchdog_start(2, cad_comm_rank(world)));
    for (int step = 0; step < last; step++) {
        work(step);
        if (step == 3 && !strcmp(how, "agree")) return fail_by_agreement(mine);
        if (step == 3 && mine) end(how);
    }
    cad_watchdog_stop();
    cad_comm_close(&world);
    return 0;
}
