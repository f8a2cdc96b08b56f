/* Checks for programs that run on several ranks: the first failure ends all ranks with code 1. */
#ifndef TEST_RANKS_H
#define TEST_RANKS_H
#include <cadtrain/comm.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHECK(x) ((x) ? (void)0 : check_failed(#x, __FILE__, __LINE__))
#define CHECK_OK(call) ((call) == CAD_OK ? (void)0 : check_failed(#call, __FILE__, __LINE__))

static cad_comm *world;

__attribute__((noreturn)) static inline void check_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "rank %d of %d: %s:%d: not so: %s (%s)\n", world ? cad_comm_rank(world) : -1, world ? cad_comm_size(world) : 0, file, line,
            what, cad_reason());
    fflush(stderr);
    if (world) cad_comm_abort(world, (cad_status)1);
    _exit(1);
}
#endif
