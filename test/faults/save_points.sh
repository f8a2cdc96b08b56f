#!/bin/sh
# The system fails or the process dies at calls of the file system all over two saves: a checkpoint is whole or absent, and going on ends on the same bits.
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
make_records "$records" 12
if ! command -v strace >/dev/null || ! strace -f -qq -o /dev/null true 2>/dev/null; then
    echo "skip save_points strace is not installed or not allowed"
    exit 0
fi
run() { "$@" "$cadtrain" train --model-name-or-path "$model" --train-file "$records" --validation-split 0 --max-length 64 --per-device-train-batch-size 1 --learning-rate 1e-3 \
    --save-strategy steps --save-steps 1 --evaluation-strategy no --logging-steps 1 --skip-test --report-to none --max-steps 3 --output-dir out --resume-from-checkpoint auto >"$log" 2>&1; }
run strace -f -qq -o trace -e trace=pwrite64,fsync,rename,fallocate
want=$(digest out)
say undisturbed "$([ -n "$want" ] && [ -f out/checkpoint-3/manifest.json ] || echo "no checkpoint-3")"
calls() { grep -c " $1(" trace; }

# whole NAME: what lies in out is whole, nothing half is named checkpoint; going on ends on the same bits
whole() {
    for c in out/checkpoint-*; do
        [ -d "$c" ] || continue
        "$cadtrain" train --model-name-or-path "$model" --train-file "$records" --validation-split 0 --max-length 64 --per-device-train-batch-size 1 --learning-rate 1e-3 \
            --save-strategy no --evaluation-strategy no --skip-test --report-to none --max-steps 3 --output-dir other --overwrite-output-dir true --resume-from-checkpoint "$c" >"$log" 2>&1 ||
            reason="$reason $1: ${c##*/} is not whole;"
    done
    run env || reason="$reason $1: going on failed;"
    [ "$(digest out)" = "$want" ] || reason="$reason $1: other bits;"
    [ -z "$(find out -name '*tmp*')" ] || reason="$reason $1: left aside: $(find out -name '*tmp*' | head -n 1);"
}

# every CALL STEP FROM WORDS NAME CODES: injections into each STEP-th call
every() {
    call=$1 step=$2 from=$3 what=$4 name=$5 codes=$6
    last=$(calls "$call")
    reason= tried=0
    k=$from
    while [ "$k" -le "$last" ]; do
        rm -rf out other token-cache
        (run strace -f -qq -o /dev/null -e trace="$call" -e inject="$call:$what$k")
        code=$?
        tried=$((tried + 1))
        echo "$code" | grep -qxE "$codes" || reason="$reason $call $k: exit code $code;"
        [ $code != 6 ] || [ "$(grep -c '^cadtrain: error: ' "$log")" = 1 ] || reason="$reason $call $k: not one sentence;"
        whole "$call $k"
        k=$((k + step))
    done
    [ $tried -ge 2 ] || reason="$reason only $tried injections;"
    say "$name" "$reason"
}
every fsync 17 6 signal=KILL:when= killed_at_fsync 137
every rename 8 4 signal=KILL:when= killed_at_rename 137
every pwrite64 89 20 signal=KILL:when= killed_at_write 137
every fsync 27 9 error=EIO:when= fsync_fails '0|6'
every pwrite64 139 40 error=ENOSPC:when= write_fails '0|6'
every rename 12 5 error=ENOSPC:when= rename_fails '0|6'
every fsync 37 7 error=EINTR:when= fsync_is_interrupted 0
every pwrite64 149 33 error=EINTR:when= write_is_interrupted 0
every fallocate 61 11 error=EOPNOTSUPP:when= no_fallocate_here 0
exit $fails
