#!/bin/sh
# startup.sh: from process start to the first step on a model of about 1 GB, beside a plain read of its file, cold and warm. One JSON object.
# Steps are one short record each. Aim: before_step_seconds within the time of the read + 1 s.
set -eu
cd "$(dirname "$0")/.."
: "${BUILD:=build}" "${BENCH:=$BUILD/release-gcc/benchmarks}" "${PROGRAM:=$BUILD/cadtrain}" "${CASES:=$BUILD/benchmarks}"
case=$CASES/gigabyte weights=$case/model/model.safetensors
[ -f "$case/case.json" ] || "$BENCH/make_case" "$case" hidden=1536 layers=18 heads=24 kv_heads=8 intermediate=4096 records=2 shortest=20 longest=40 mean=30
sync "$weights"

now() { date +%s.%N; }
forget() { dd if="$weights" iflag=nocache count=0 2>/dev/null; } # drops the file from the page cache
read_seconds() {
    began=$(now)
    dd if="$weights" of=/dev/null bs=4M 2>/dev/null
    echo "$(now) $began" | awk '{printf "%.3f", $1 - $2}'
}
# METHOD DTYPE: {"first_step_seconds": process start to the end of step 1, "step_seconds": step 1 by the program's own clock, "before_step_seconds": the rest}
start_of() {
    rm -rf "$case/out"
    [ "$1" = lora ] && lora=true || lora=false
    [ "$2" = bf16 ] && bf16=true || bf16=false
    if "$BENCH/measure" "$case/case.json" "$1" "$2" cadtrain 0 "$case/out/log.jsonl" "$CASES/startup.txt" "$PROGRAM" train --config benchmarks/train.yaml \
        --model-name-or-path "$case/model" --train-file "$case/train.jsonl" --output-dir "$case/out" --per-device-train-batch-size 1 --lora-enable $lora \
        --bf16 $bf16 >"$CASES/row"; then
        first=$(sed -n 's/.*"first_step_seconds": \([0-9.e-]*\).*/\1/p' "$CASES/row")
        step=$(sed -n '1s/.*"seconds": \([0-9.e-]*\).*/\1/p' "$case/out/log.jsonl")
        echo "$first $step" | awk '{printf "{\"first_step_seconds\": %.3f, \"step_seconds\": %.3f, \"before_step_seconds\": %.3f}", $1, $2, $1 - $2}'
    else
        printf null
    fi
}

forget
cold=$(read_seconds)
warm=$(read_seconds)
printf '{"file_bytes": %d, "read_cold_seconds": %s, "read_warm_seconds": %s' "$(stat -c %s "$weights")" "$cold" "$warm"
for dtype in bf16 fp32; do
    forget
    printf ', "lora_%s_cold": %s' $dtype "$(start_of lora $dtype)"
    printf ', "lora_%s_warm": %s' $dtype "$(start_of lora $dtype)"
done
echo "}"
