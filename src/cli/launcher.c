#include "cli_priv.h"

#include <stdio.h>
#include <stdlib.h>

static bool number_in(const char *name, long *out)
{
    const char *text = getenv(name);
    char *end;

    if (!text || !*text) return false;
    *out = strtol(text, &end, 10);
    return !*end;
}

/* A batch script of several tasks is not one of them: mpirun inside it speaks for itself. */
static bool slurm_task(long *rank)
{
    long tasks;

    return number_in("SLURM_NTASKS", &tasks) && tasks > 1 && number_in("SLURM_PROCID", rank);
}

bool cadp_launched(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"};
    long ignored;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i])) return true;
    return slurm_task(&ignored);
}

int cadp_launcher_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
    long rank;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (number_in(names[i], &rank)) return (int)rank;
    return slurm_task(&rank) ? (int)rank : 0;
}
