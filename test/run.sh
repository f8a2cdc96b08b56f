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
limit=$([ "$MODE" = asan ] && echo 900 || echo 300) # seconds for one program
lanes=$(($(nproc) > 4 ? $(nproc) / 2 : 2))
OBJ=build/$MODE-$CC
CADTRAIN=$PWD/$OBJ/cadtrain
CADTRAIN_SHARED=${CADTRAIN_SHARED:-../shared}
export CC MODE OBJ CADTRAIN CADTRAIN_SHARED
export CMOCKA_MESSAGE_OUTPUT=TAP LSAN_OPTIONS="suppressions=$PWD/test/tools/lsan.supp:print_suppressions=0"
export OMPI_MCA_hwloc_base_binding_policy=none # or all that runs side by side would be bound to the first core

scratch=$(mktemp -d)
log=$scratch/log
trap 'rm -rf "$scratch"' EXIT
: >"$scratch/counts"

# job NAME LIMIT COMMAND…: a line of the list that `side_by_side` runs
job() {
    name=$1
    echo "$name" | grep -qE -- "$words" || return 0
    shift
    printf '%s' "'$name'" && printf " '%s'" "$@" && echo
}

# side_by_side COUNT: the jobs of its input, COUNT at a time
side_by_side() { xargs -r -P "$1" -L 1 sh test/tools/job.sh "$scratch/counts"; }

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
begun=$(date +%s)
# shellcheck disable=SC2086
if ! make -j"$(nproc)" CC="$CC" MODE="$MODE" $targets >"$log" 2>&1; then
    grep -v '^  CC' "$log"
    echo "the build failed"
    echo "0 passed, 1 failed"
    exit 1
fi
echo "build: $(($(date +%s) - begun)) s"

# Programs of one process, one for each core; the longest first.
{
    [ "$MODE" = asan ] || job test/gates/run.sh 120 test/gates/run.sh
    for source in $(find test/unit -name 'test_ops_*.c' | sort) $(find test/unit -name 'test_*.c' ! -name 'test_ops_*' | sort); do
        job "${source%.c}" "$limit" "$OBJ/${source%.c}"
    done
    for source in test/fuzz/fuzz_*.c; do
        name=${source##*/fuzz_}
        job "${source%.c}" "$limit" "$OBJ/test/fuzz/replay_${name%.c}"
    done
} | side_by_side "$(nproc)"

# Programs of several ranks and scripts: these wait more than they compute.
{
    for source in $(find test/mpi -name 'mpi_*.c' | sort -r); do
        for n in $(ranks_of "$source"); do
            job "${source%.c} on $n" "$limit" env OMP_NUM_THREADS=1 ASAN_OPTIONS=fast_unwind_on_malloc=0:malloc_context_size=40 mpirun -np "$n" "$OBJ/${source%.c}"
        done
    done
    if [ "$MODE" = asan ]; then
        job "training through the kernels of GPUs" "$limit" env -C "$scratch" OMP_NUM_THREADS=1 "$CADTRAIN" train --device emulated --max-steps 2 --evaluation-strategy no \
            --save-strategy no --skip-test --max-length 16 --output-dir out
    else
        long="test/cli/cuda_build.sh test/cli/watched.sh $(echo test/faults/*.sh)"
        for script in $long $(echo test/gates/selftest.sh test/mpi/*.sh test/cli/*.sh | tr ' ' '\n' | grep -vE 'cuda_build|watched'); do
            job "$script" 600 sh "$script"
        done
    fi
} | side_by_side "$lanes"
[ "$MODE" = asan ] || job test/accept.sh 1800 sh test/accept.sh | side_by_side 1

awk '{ p += $1; n += $2; s += $3 } END { printf "%d passed, %d failed%s\n", p, n, s ? ", " s " skipped" : ""; exit n > 0 || !p }' "$scratch/counts"
