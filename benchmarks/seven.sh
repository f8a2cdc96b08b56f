#!/bin/sh
# seven.sh: a model that does not fit in bf16 trains in NF4: a llama of 7 billion random weights is made on disk (14 GB of bf16 under $CASES) and takes
# QLoRA steps on the CPU under $RANKS ranks with ZeRO stage 3. Prints the last line of the log and the resident memory of all ranks together, in bytes.
# SIZES, RANKS, STEPS, LENGTH may be given. Never run by the tests.
set -eu
cd "$(dirname "$0")/.."
. ./jobs/setup.sh
setup_mpi
: "${BUILD:=build}" "${BENCH:=$BUILD/release-gcc/benchmarks}" "${PROGRAM:=$BUILD/cadtrain}" "${CASES:=$BUILD/benchmarks}"
: "${SIZES:=hidden=4096 layers=32 heads=32 kv_heads=32 head_dim=128 intermediate=11008 vocab=32000}" "${RANKS:=2}" "${STEPS:=2}" "${LENGTH:=128}"
case=$CASES/seven
mkdir -p "$CASES"
# shellcheck disable=SC2086
[ -f "$case/case.json" ] || "$BENCH/make_case" "$case" $SIZES records=16 shortest=60 longest=$LENGTH mean=100
rm -rf "$case/out" "$case/peaks"
mkdir -p "$case/peaks"
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} mpirun -np "$RANKS" sh -c '/usr/bin/env "$@" & child=$!
    while kill -0 $child 2>/dev/null; do sed -n "s/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p" /proc/$child/status >"'"$case"'/peaks/$child.new" 2>/dev/null && [ -s "'"$case"'/peaks/$child.new" ] && mv "'"$case"'/peaks/$child.new" "'"$case"'/peaks/$child"; sleep 0.5; done
    wait $child' sh "$PROGRAM" train --model-name-or-path "$case/model" --train-file "$case/train.jsonl" --output-dir "$case/out" --validation-split 0 --evaluation-strategy no --save-strategy no --skip-test \
    --lora-enable true --lora-r 16 --bf16 true --load-in-4bit true --set model.bnb_4bit_use_double_quant=true --zero-stage 3 --gradient-checkpointing true --max-length "$LENGTH" --per-device-train-batch-size 1 \
    --gradient-accumulation-steps 1 --max-steps "$STEPS" --logging-steps 1 >&2
tail -n 2 "$case/out/log.jsonl"
cat "$case"/peaks/*[0-9] | awk '{sum += $1} END {printf "{\"resident_bytes\": %.0f, \"ranks\": %d}\n", sum * 1024, NR}'
