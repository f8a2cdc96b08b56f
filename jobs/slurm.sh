# shellcheck shell=sh
# Sourced by the sbatch templates, which Slurm runs from a copy: everything is relative to the directory where sbatch was called.
# slurm_train FLAGS…: trains on all tasks of the job, goes on from the last checkpoint, and asks for another turn when the time is up.
MOST_TURNS=${MOST_TURNS:-20}

slurm_train() {
    umask 077
    cd "$SLURM_SUBMIT_DIR" || exit 2
    if [ ! -x build/cadtrain ]; then
        echo "build/cadtrain is missing in $SLURM_SUBMIT_DIR: run make there, and call sbatch from there" >&2
        exit 2
    fi
    # Slurm makes the job's own output file readable for others: what the program prints goes to a private one.
    mkdir -p outputs/logs
    log=outputs/logs/cadtrain-$SLURM_JOB_ID.log
    echo "turn $((${SLURM_RESTART_COUNT:-0} + 1)): $log"

    # --mpi=pmix: the processes find each other. --kill-on-bad-exit: a rank that dies takes the others along.
    # --export=ALL: the environment of this script, which sbatch --export=NONE keeps clean.
    srun --mpi=pmix --kill-on-bad-exit=1 --export=ALL --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
        build/cadtrain train --resume-from-checkpoint auto "$@" >>"$log" 2>&1
    code=$?
    if [ $code = 75 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$MOST_TURNS" ]; then
        echo "stopped with a checkpoint; asking for another turn"
        scontrol requeue "$SLURM_JOB_ID" && exit 0
    fi
    echo "ended with exit code $code"
    exit $code # the state of the job is that of the last command
}
