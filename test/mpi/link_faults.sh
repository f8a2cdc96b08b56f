#!/bin/sh
# Whatever goes wrong in NCCL on one rank (its stand-in is told what), all ranks end within seconds and one sentence says why.
# OBJ: where `make mpi` put the programs.
. ./jobs/setup.sh
setup_mpi
program=$(pwd)/${OBJ:-build/release-gcc}/test/mpi/mpi_link
log=$(mktemp)
trap 'rm -f "$log"' EXIT
fails=0

# NAME CODE PATTERN FAULT [VARIABLE=VALUE…]
ends() {
    name=$1 want=$2 pattern=$3 fault=$4
    shift 4
    from=$(date +%s)
    env CADTRAIN_NCCL_FAULT="$fault" CADTRAIN_NCCL_SECONDS=2 "$@" timeout -k 1 30 mpirun -np 3 "$program" fails >"$log" 2>&1
    code=$?
    took=$(($(date +%s) - from))
    reason=
    [ "$code" = "$want" ] || reason="exit code: expected $want, found $code"
    [ "$took" -le 12 ] || reason="took $took s"
    grep -q -- "$pattern" "$log" || reason="no '$pattern'"
    if [ -z "$reason" ]; then echo "ok nccl_$name"; else
        echo "not ok nccl_$name $reason"
        sed 's/^/  # /' "$log" | head -n 20
        fails=1
    fi
}

ends version 6 "rank 1: NCCL's stand-in on rank 1: expected version 2.28.0 or later, found 2.18.3" version:1
ends start 70 "rank 2 of 3: starting: internal error" init:2
ends start_that_never_ends 70 "rank 1 of 3: starting: not done after 2 s" stuck:1
ends refused_call 70 "rank 0 of 3: gathering parts: invalid usage" call:0:4
ends error_that_shows_later 70 "rank 1 of 3: .*remote process exited" async:1:4
ends error_noticed_by_the_watchdog 70 "rank 1: .*noticed beside the work: remote" late:1:6 CADTRAIN_TEST_SLEEPS=1
ends hang 124 "no progress for 3 s in step 4 while gathering" hang:2:5
exit $fails
