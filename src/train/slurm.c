/* What Slurm says about the job: said at the start, kept in run.json, and its end is the run's. */
#include "train_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char *said(const char *name)
{
    const char *value = getenv(name);

    return value && *value ? value : NULL;
}

/* Seconds from now until Slurm ends the job; 0: it says nothing, or the environment is that of a job that is over. */
static double seconds_left(void)
{
    const char *end = said("SLURM_JOB_END_TIME");
    char *rest = NULL;
    double left = end ? strtod(end, &rest) - (double)time(NULL) : 0;

    return end && !*rest && left > 0 ? left : 0;
}

double cadp_wall(const cad_run *r)
{
    double asked = r->o->runtime.wall_time, left = said("SLURM_JOB_ID") ? seconds_left() : 0;

    return asked > 0 && (left <= 0 || asked < left) ? asked : left;
}

void cadp_say_slurm(void)
{
    const char *job = said("SLURM_JOB_ID"), *name = said("SLURM_JOB_NAME"), *turn = said("SLURM_RESTART_COUNT"), *nodes = said("SLURM_JOB_NODELIST");
    char end[64] = "";

    if (!job) return;
    if (seconds_left() > 0) snprintf(end, sizeof end, ", ends in %.0f s", seconds_left());
    cad_info("Slurm job %.40s%s%.80s%s%.20s%s%.200s%s", job, name ? " " : "", name ? name : "", turn ? ", restart " : "", turn ? turn : "", nodes ? ", nodes " : "", nodes ? nodes : "", end);
}

cad_status cadp_put_slurm(cad_json *j)
{
    static const char *const names[] = {"SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "SLURM_JOB_PARTITION", "SLURM_JOB_NODELIST",
                                        "SLURM_JOB_NUM_NODES", "SLURM_NTASKS", "SLURM_CPUS_PER_TASK", "SLURM_JOB_END_TIME"};

    if (!said("SLURM_JOB_ID")) return CAD_OK;
    CAD_TRY(cad_json_begin(j, "slurm", '{'));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (said(names[i])) CAD_TRY(cad_json_string(j, names[i], said(names[i])));
    return cad_json_end(j);
}
