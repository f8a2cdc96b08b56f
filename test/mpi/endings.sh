#!/bin/sh
# However one rank ends, all ranks end within ten seconds, with the code that says why, and nothing of ours stays behind.
# OBJ: where `make mpi` put the programs.
. ./jobs/setup.sh
setup_mpi
program=$(pwd)/${OBJ:-build/release-gcc}/test/mpi/mpi_ending
scratch=$(mktemp -d)
log=$scratch/log
trap 'rm -rf "$scratch"' EXIT
export OMPI_MCA_orte_tmpdir_base="$scratch" # a killed mpirun leaves its folder there
shm=$(mktemp -d /dev/shm/endings.XXXXXX) # of this test alone: other programs of the machine share memory too
trap 'rm -rf "$scratch" "$shm"' EXIT
export OMPI_MCA_btl_vader_backing_directory="$shm"
fails=0

say() { # NAME REASON: no reason is good
    if [ -z "$2" ]; then echo "ok ending_$1"; else
        echo "not ok ending_$1 $2"
        sed 's/^/  # /' "$log" | head -n 20
        fails=1
    fi
}

left() { # processes and shared memory of this program
    for p in /proc/[0-9]*; do
        case "$(tr '\0' ' ' 2>/dev/null <"$p/cmdline")" in "$program "*) echo "$p" ;; esac
    done 2>/dev/null
    find "$shm" -type f 2>/dev/null | head -n 1
}

# NAME CODES PATTERN COUNT HOW RANK: ends with one of CODES (a regular expression) within 10 s, PATTERN on COUNT lines (+: at least one)
ending() {
    touch "$log.began"
    from=$(date +%s)
    timeout -k 1 30 mpirun -np 4 "$program" "$5" "$6" >"$log" 2>&1
    code=$?
    took=$(($(date +%s) - from))
    lines=$(grep -c -- "$3" "$log")
    [ "$4" = + ] && [ "$lines" -gt 0 ] && lines=+
    reason=
    echo "$code" | grep -qxE -- "$2" || reason="exit code: expected $2, found $code"
    [ "$took" -le 10 ] || reason="took $took s"
    [ "$lines" = "$4" ] || reason="'$3': expected on $4 lines, found on $lines"
    rest=$(left)
    [ -z "$rest" ] || reason="left behind: $rest"
    rm -f "$log.began"
    say "$1" "$reason"
}

sentence='cadtrain: error: rank 2: tensor w: expected 2 rows, found 3'
ending well 0 '.' 0 well -1
ending killed 137 'signal 9' + kill 2
ending crashed 139 'signal 11' + segv 2
ending left_early 1 'exit' + exit 2
ending agreed 4 "$sentence" 1 agree 2
ending agreed_on_0 4 'cadtrain: error: rank 0: tensor w' 1 agree 0
ending aborted 4 "$sentence" 1 abort 2
ending no_memory_on_opening '6|76' 'cadtrain: error: out of memory: contributions to a sum' 1 memory 2
ending hung 124 'rank 2: no progress for 2 s in step 3 while computing' 1 hang 2
ending stopped 124 'no progress for 2 s in step' + stop 2

# mpirun itself is killed: the ranks end by themselves within the 3 s that Open MPI's ranks look for it, and nothing is left in memory.
touch "$log.began"
mpirun -np 4 "$program" forever -1 >"$log" 2>&1 &
victim=$!
sleep 1.5
kill -9 $victim
wait $victim 2>/dev/null
sleep 5
rest=$(left)
rm -f "$log.began"
say launcher_killed "${rest:+left behind: $rest}"

# refused NAME CODE PATTERN VARIABLES…: a world of one under a launcher's variables
refused() {
    name=$1 want=$2 pattern=$3
    shift 3
    env "$@" "$program" well >"$log" 2>&1
    code=$?
    reason=
    [ "$code" = "$want" ] || reason="exit code: expected $want, found $code"
    [ -z "$pattern" ] || grep -q -- "$pattern" "$log" || reason="no '$pattern'"
    say "$name" "$reason"
}
refused alone 0 '' A=1
refused plain_program_in_a_job 2 'rank 0 of 1, but SLURM_NTASKS=4' SLURM_NTASKS=4
refused advice_in_a_job 2 'srun --mpi=pmix' SLURM_NTASKS=4
refused one_task_in_a_job 0 '' SLURM_NTASKS=1
refused other_mpiexec 2 'PMI_SIZE=2' PMI_SIZE=2

SLURM_NTASKS=4 timeout 30 mpirun -np 1 "$program" well >"$log" 2>&1
code=$?
say mpirun_of_one_in_a_job "$([ $code = 0 ] || echo "exit code $code")"
exit $fails
