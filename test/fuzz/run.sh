#!/bin/sh
# run.sh SECONDS [NAME…]: every fuzz target (or those named) for so many seconds of the processor (not of the clock: the machine may be crowded) on one core, under
# the address and undefined-behaviour sanitizers. Build with `make fuzz` first. Corpora grow in build/fuzz-corpus/NAME; what crashes, or takes over 20 seconds of
# the processor, lies in build/fuzz-found. Ends with 1 if something was found.
cd "$(dirname "$0")/../.." || exit 2
wanted=${1:-60}
[ $# = 0 ] || shift
any=0
programs=build/fuzz-clang/test/fuzz
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# measure: into $taken, the seconds of the processor that children of this shell (not of a subshell, whose count begins anew) took so far
measure() {
    times >"$log.times"
    taken=$(awk 'NR == 2 { for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); sum += 60 * t[1] + t[2] } printf "%d", sum }' "$log.times")
    rm -f "$log.times"
}

# round NAME SECONDS: so long by the clock; what was slow by the clock is run again alone, where only time of the processor counts
round() {
    found=build/fuzz-found/$1-
    "$programs/fuzz_$1" -max_total_time="$2" -max_len=65536 -rss_limit_mb=2048 -timeout=600 -report_slow_units=20 -print_final_stats=1 \
        -artifact_prefix="$found" "build/fuzz-corpus/$1" >"$log" 2>&1
    ended=$?
    cat "$log" >>"build/fuzz-found/$1.log"
    for slow in "$found"slow-unit-*; do
        [ -f "$slow" ] || continue
        if (ulimit -t 20 && "$programs/replay_$1" "$slow") >/dev/null 2>&1; then rm "$slow"; else ended=1; fi
    done
    return $ended
}

mkdir -p build/fuzz-found
for source in test/fuzz/fuzz_*.c; do
    name=${source##*/fuzz_} && name=${name%.c}
    [ $# = 0 ] || case " $* " in *" $name "*) ;; *) continue ;; esac
    mkdir -p "build/fuzz-corpus/$name"
    rm -f "build/fuzz-found/$name.log"
    "$programs/replay_$name" --write "build/fuzz-corpus/$name"
    measure
    begun=$(date +%s) before=$taken used=0 clean=clean
    while [ "$used" -lt "$wanted" ] && [ $clean = clean ]; do
        left=$((wanted - used))
        round "$name" $((left > 10 ? left : 10)) || clean=FOUND
        measure
        used=$((taken - before))
    done
    [ $clean = clean ] || any=1
    runs=$(awk '/^stat::number_of_executed_units/ { n += $2 } END { print n + 0 }' "build/fuzz-found/$name.log")
    echo "$name: $runs inputs, $used s of the processor, $(($(date +%s) - begun)) s by the clock, $clean"
done
exit $any
