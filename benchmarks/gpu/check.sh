#!/bin/sh
# check.sh [--device cuda:0] [--dry] [--quick]: is the program right on a GPU? The operation table on the device; two ranks on it beside the processor (where
# there is mpirun); the acceptance of CADTRAIN_SHARED (where that is); compute-sanitizer's memcheck and racecheck over the table, where that tool is
# (--quick: not). One line a check; ends with 1 if one failed. Needs nothing but what bundle.sh brings.
# --dry: on the emulated grid, without the sanitizers; with --quick the table is left out too.
here=$(cd "$(dirname "$0")" && pwd)
device=cuda:0 dry= quick=
while [ $# -gt 0 ]; do
    case $1 in
        --dry) dry=1 device=emulated ;;
        --quick) quick=1 ;;
        --device)
            shift
            device=${1:?a value is missing}
            ;;
        *)
            sed -n '2,6s/^# //p' "$0" >&2
            exit 2
            ;;
    esac
    shift
done
. "$here/programs.sh"
log=$(mktemp) work=$(mktemp -d)
trap 'rm -rf "$log" "$work"' EXIT
failed=0

# check NAME COMMAND…
check() {
    name=$1
    shift
    export CADTRAIN_TEST_DEVICE="$device"
    if "$@" >"$log" 2>&1; then echo "ok $name"; else
        echo "not ok $name (ended with $?)"
        tail -n 25 "$log" | sed 's/^/  # /'
        failed=1
    fi
}

check device "$bench" "$device" what
if [ "$dry$quick" = 11 ]; then echo "skip operations: not asked for"; else check operations "$table"; fi

# steps OUT COMMAND…: four steps of the demonstration; the losses and norms that it logs
steps() {
    out=$1
    shift
    (cd "$work" && OMP_NUM_THREADS=1 "$@" train --max-steps 4 --max-length 16 --per-device-train-batch-size 1 --logging-steps 1 --evaluation-strategy no --save-strategy no --skip-test \
        --report-to none --output-dir "$out" $how) || return
    sed -n 's/.*"loss": *\([^,]*\), *"grad_norm": *\([^,]*\),.*/\1 \2/p' "$work/$out/log.jsonl" >"$work/$out.txt"
}
# Sums of about 1024 terms in fp32 (u = 2^-24): 8 u sqrt(1024) for a loss, four times that for the norm of a gradient.
two_ranks() {
    how="--device cpu --gradient-accumulation-steps 4" && steps one "$program" || return
    how="--device $device --gradient-accumulation-steps 2 --zero-stage 3" && steps two mpirun -np 2 "$program" || return
    paste -d ' ' "$work/one.txt" "$work/two.txt" | awk '
        function far(x, y) { return (x > y ? x - y : y - x) / (y > 1 ? y : 1) }
        { n++; if (far($1, $3) > l) l = far($1, $3); if (far($2, $4) > g) g = far($2, $4) }
        END { printf "%d steps: losses %.2g apart (1.5e-5), norms %.2g (6.1e-5)\n", n, l, g; exit !(n == 4 && l <= 1.5e-5 && g <= 6.1e-5) }'
}
if command -v mpirun >/dev/null; then
    export CADTRAIN_SHARE_GPU=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
    [ -z "$dry" ] || export CADTRAIN_EMULATED_GPU=A
    check two_ranks_on_one_device two_ranks
else echo "skip two_ranks_on_one_device: mpirun is not on this machine"; fi

shared=${CADTRAIN_SHARED:-$root/../shared}
families=llama,llama31,mistral,qwen2,qwen3,gemma2,gemma3,llama4,bert checks=logits,bf16,full,lora,qlora,causal,greedy,sft
[ -z "$dry" ] || families=llama checks=logits
if [ -f "$shared/tools/accept/accept.py" ] && command -v python3 >/dev/null; then
    check acceptance python3 "$shared/tools/accept/accept.py" --bin "$program" --golden "$shared/golden" --tokenizers "$shared/tokenizers/tokenizers.tar.xz" --families "$families" --checks "$checks" --device "$device"
else echo "skip acceptance: $shared/tools/accept or python3 is not there"; fi
tool=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
if [ -n "$dry$quick" ] || [ -z "$tool" ]; then
    echo "skip memcheck, racecheck: ${tool:+not asked for}${tool:-compute-sanitizer is not on this machine}" | sed 's|not asked for/.*|not asked for|'
else
    # the dynamic loader of a bundle is what is started: the tool follows it
    check memcheck "$tool" --target-processes all --tool memcheck --leak-check no --error-exitcode 9 "$table"
    check racecheck "$tool" --target-processes all --tool racecheck --error-exitcode 9 "$table"
fi
exit $failed
