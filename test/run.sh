#!/bin/sh
# run.sh [--asan] [WORD…]: sets up, builds and runs every test that needs no GPU; with WORDs only those whose path has one of them.
# --asan: the programs under the address, undefined-behaviour and leak sanitizers. Last line: N passed, N failed(, N skipped).
cd "$(dirname "$0")/.." || exit 2
. ./jobs/setup.sh

MODE=release
if [ "$1" = --asan ]; then
    MODE=asan
    shift
fi
words=$(echo "$*" | tr ' ' '|')
CC=${CC:-gcc}
OBJ=build/$MODE-$CC
CADTRAIN=$PWD/$OBJ/cadtrain
CADTRAIN_SHARED=${CADTRAIN_SHARED:-../shared}
export CC MODE OBJ CADTRAIN CADTRAIN_SHARED
export CMOCKA_MESSAGE_OUTPUT=TAP LSAN_OPTIONS="suppressions=$PWD/test/tools/lsan.supp:print_suppressions=0"

log=$(mktemp) scratch=$(mktemp -d)
trap 'rm -rf "$log" "$scratch"' EXIT
passed=0 failed=0 skipped=0

wanted() { echo "$1" | grep -qE -- "$words"; }

# account NAME CODE SECONDS: adds up the lines ok, not ok, skip (ok … # SKIP) of $log; an exit code that no line explains is a failure.
account() {
    s=$(grep -cE '^(skip |(not )?ok [0-9]+ # SKIP)' "$log")
    n=$(grep -E '^not ok ' "$log" | grep -cvE '^not ok [0-9]+ # SKIP')
    p=$(grep -E '^ok ' "$log" | grep -cvE '^ok [0-9]+ # SKIP')
    why=
    if [ "$2" != 0 ] && [ "$n" = 0 ]; then
        n=1
        why=" (exit code $2)"
    fi
    [ "$2" != 0 ] || [ $((p + n + s)) -gt 0 ] || p=1
    passed=$((passed + p)) failed=$((failed + n)) skipped=$((skipped + s))
    echo "$1: $p passed, $n failed, $s skipped$why, $3 s"
    [ "$n" = 0 ] || sed 's/^/    /' "$log" | tail -n 60
}

# try NAME SECONDS COMMAND…
try() {
    name=$1 limit=$2
    shift 2
    wanted "$name" || return 0
    begun=$(date +%s)
    timeout -k 5 "$limit" "$@" >"$log" 2>&1 </dev/null
    account "$name" $? $(($(date +%s) - begun))
}

# The numbers of ranks a program runs on: its first line says `np: 1 2 …`.
ranks_of() {
    np=$(sed -n '1s/.*np: *\([0-9a-z][0-9 a-z]*\).*/\1/p' "$1")
    case "${np:-1 2 3 4}" in
    none*) ;;
    *) [ "$MODE" = asan ] && echo 3 || echo "${np:-1 2 3 4}" ;;
    esac
}

# shellcheck disable=SC2086
setup_packages $BUILD_PACKAGES $TEST_PACKAGES
setup_mpi

targets="unit mpi"
[ ! -f src/cli/main.c ] || targets="$OBJ/cadtrain $targets"
[ "$MODE" = asan ] || targets="$targets programs"
# shellcheck disable=SC2086
begun=$(date +%s)
if ! make -j"$(nproc)" CC="$CC" MODE="$MODE" $targets >"$log" 2>&1; then
    grep -v '^  CC' "$log"
    echo "the build failed"
    echo "0 passed, 1 failed"
    exit 1
fi
echo "build: $(($(date +%s) - begun)) s"

[ "$MODE" = asan ] || try test/gates/run.sh 120 test/gates/run.sh

# Programs of one process run side by side, one for each core; what they said is told in order.
for source in $(find test/unit -name 'test_*.c' | sort) test/fuzz/fuzz_*.c; do
    name=${source%.c}
    program=$OBJ/$name
    [ "${name#test/fuzz}" = "$name" ] || program=$OBJ/test/fuzz/replay_${name##*fuzz_}
    ! wanted "$name" || echo "$name $program"
done >"$scratch/alone"
# shellcheck disable=SC2016
xargs -P "$(nproc)" -L 1 sh -c 'begun=$(date +%s) said=$0/$(echo "$1" | tr / _)
    timeout -k 5 300 "$2" >"$said.log" 2>&1 </dev/null
    echo "$? $(($(date +%s) - begun))" >"$said.end"' "$scratch" <"$scratch/alone"
while read -r name program; do
    said=$scratch/$(echo "$name" | tr / _)
    read -r code seconds <"$said.end"
    cp "$said.log" "$log"
    account "$name" "$code" "$seconds"
done <"$scratch/alone"
for source in $(find test/mpi -name 'mpi_*.c' | sort); do
    for n in $(ranks_of "$source"); do
        try "${source%.c} on $n" 300 env OMP_NUM_THREADS=1 ASAN_OPTIONS=fast_unwind_on_malloc=0:malloc_context_size=40 \
            mpirun -np "$n" "$OBJ/${source%.c}"
    done
done
if [ "$MODE" = asan ]; then
    try "training through the GPU's kernels" 300 env -C "$scratch" OMP_NUM_THREADS=1 "$CADTRAIN" train --device emulated --max-steps 2 --evaluation-strategy no \
        --save-strategy no --skip-test --max-length 16 --output-dir out
else
    # The longest of them, of many short runs, goes beside the others.
    beside=test/faults/bad_input.sh begun=$(date +%s)
    { ! wanted $beside || timeout -k 5 600 sh $beside; } >"$scratch/beside.log" 2>&1 </dev/null &
    for script in test/gates/selftest.sh test/mpi/*.sh test/cli/*.sh test/faults/*.sh; do
        [ "$script" = $beside ] || [ ! -f "$script" ] || try "$script" 600 sh "$script"
    done
    wait $!
    code=$?
    cp "$scratch/beside.log" "$log"
    ! wanted $beside || account $beside $code $(($(date +%s) - begun))
    try test/accept.sh 1800 sh test/accept.sh
fi

skips=
[ "$skipped" = 0 ] || skips=", $skipped skipped"
echo "$passed passed, $failed failed$skips"
[ "$failed" = 0 ]
