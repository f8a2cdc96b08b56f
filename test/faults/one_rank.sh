#!/bin/sh
# One rank that fails ends all ranks within ten seconds, with that rank's reason. A loss that is not finite names the step and the records, never their text.
. ./test/tools/e2e.sh
make_model
whole=$model
records=$scratch/records.jsonl
make_records "$records" 24
program="$cadtrain train --train-file $records --validation-split 0 --max-length 64 --per-device-train-batch-size 1 --learning-rate 1e-3 --save-strategy no --logging-steps 1
    --skip-test --report-to none --model-name-or-path $whole"

started() { [ "$(steps_of "$1" | wc -w)" -ge 3 ]; }
ended() { ! kill -0 "$pid" 2>/dev/null; }
living() { for p in /proc/[0-9]*; do tr '\0' ' ' 2>/dev/null <"$p/cmdline" | grep -q "^$cadtrain train .*$scratch" && echo "${p#/proc/}"; done 2>/dev/null | tr '\n' ' '; }

# hurt NAME SIGNAL CODES FLAGS…: three ranks, one of them gets SIGNAL in mid-training
hurt() {
    name=$1 signal=$2 codes=$3
    shift 3
    # shellcheck disable=SC2086
    mpirun -np 3 $program --max-steps 100000 --output-dir "$name" "$@" >"$log" 2>&1 &
    pid=$!
    reason=
    wait_for 20 started "$name" || reason="it does not start;"
    from=$(now_ms)
    kill "$signal" "$(children $pid | tail -n 1)"
    wait_for 15 ended || { kill -9 $pid && kill -9 $(living); }
    wait $pid
    code=$?
    took=$(($(now_ms) - from))
    echo "$code" | grep -qxE "$codes" || reason="$reason exit code: expected $codes, found $code;"
    [ $took -lt 10000 ] || reason="$reason it took $took ms;"
    sleep 0.3
    [ -z "$(living)" ] || reason="$reason ranks live on: $(living);"
    say "$name" "$reason"
}
hurt killed -9 137
hurt killed_at_stage_3 -9 137 --zero-stage 3 --gradient-accumulation-steps 2
hurt crashed -SEGV 139
hurt asserted -ABRT 134
hurt stopped -STOP 124 --watchdog-seconds 3
say the_watchdog_names_the_phase "$(grep -q 'no progress for 3 s in step' "$log" || echo "no line that says where it hangs")"

# ---- memory ----
# A batch that needs a gigabyte, and a limit on the memory of one rank (the others have none): its reason, everybody ends.
big=$scratch/big.jsonl
make_records "$big" 4000
needs="$program --train-file $big --per-device-train-batch-size 4000 --max-steps 2 --output-dir memory"
from=$(now_ms)
# shellcheck disable=SC2086
mpirun -np 2 $needs : -np 1 sh -c 'ulimit -v 1000000; exec "$@"' sh $needs >"$log" 2>&1
code=$?
took=$(($(now_ms) - from))
reason=
[ $code = 6 ] || reason="exit code: expected 6, found $code;"
[ "$(grep -cE '^cadtrain: error: rank 2: .*(memory|address space)' "$log")" = 1 ] || reason="$reason not one sentence of rank 2 about memory;"
[ "$(grep -c '^cadtrain: error:' "$log")" = 1 ] || reason="$reason more than one sentence;"
[ $took -lt 10000 ] || reason="$reason it took $took ms;"
say no_memory_on_one_rank "$reason"

# Less and less memory, alone: it works or ends with 6 and one sentence, down to where the system cannot load the program (127); it never crashes.
reason= refused=0 limit=400000 code=0
while [ $limit -gt 30000 ] && [ $code != 127 ]; do
    rm -rf memory
    # shellcheck disable=SC2086,SC3045
    (ulimit -v $limit && exec $program --max-steps 2 --save-strategy steps --save-steps 1 --output-dir memory) >"$log" 2>&1
    code=$?
    # A library of the system that cannot start (before our first line): then not even help can be had.
    # shellcheck disable=SC3045
    { [ $code != 134 ] && [ $code != 1 ]; } || (ulimit -v $limit && exec "$cadtrain" help) >/dev/null 2>&1 || code=127
    case $code in
    0 | 127) ;;
    6)
        refused=$((refused + 1))
        [ "$(grep -c '^cadtrain: error: ' "$log")" = 1 ] || reason="$reason $limit KiB: not one sentence;"
        ;;
    *) reason="$reason $limit KiB: exit code $code;" ;;
    esac
    limit=$((limit * 96 / 100))
done
[ $refused -gt 2 ] || reason="$reason refused $refused times: the limits do not surround the need;"
say less_and_less_memory "$reason"

# ---- numbers ----
# offset NAME: where the tensor's data begin in the file
offset() {
    head=$(od -An -tu8 -N8 "$1" | tr -d ' ')
    in=$(dd if="$1" bs=8 skip=1 status=none | head -c "$head" | sed 's/.*"'"$2"'": *{[^}]*"data_offsets": *\[\([0-9]*\).*/\1/')
    echo $((8 + head + in))
}

# not_finite NAME RANKS OCTAL…: a weight of the last norm becomes these bytes
not_finite() {
    name=$1 world=$2
    shift 2
    rm -rf m && cp -r "$whole" m
    model=m
    at=$(offset m/model.safetensors model.norm.weight)
    for i in 0 1 2 3 4 5 6 7; do put_bytes m/model.safetensors $((at + 4 * i)) "$@"; done
    train "$world" "$name" --max-steps 5 --save-strategy steps --save-steps 1
    code=$?
    reason=
    case $code in
    70) grep -qE '^cadtrain: error: .*step 1.*records? [0-9]+' "$log" || reason="the sentence lacks the step and the records;" ;;
    4) grep -qE '^cadtrain: error: .*model\.norm\.weight.*finite' "$log" || reason="the sentence lacks the tensor;" ;;
    *) reason="exit code: expected 70 (the loss) or 4 (the tensor), found $code;" ;;
    esac
    [ "$(grep -c '^cadtrain: error:' "$log")" = 1 ] || reason="$reason expected one sentence, found $(grep -c '^cadtrain: error:' "$log");"
    grep -qF $canary "$log" && reason="$reason text of a record is printed;"
    [ -z "$(find "$name" -name 'checkpoint-*')" ] || reason="$reason a checkpoint was written;"
    say "$name" "$reason"
}
not_finite nan_weight 1 000 000 300 177
not_finite nan_weight_on_two 2 000 000 300 177
not_finite infinite_weight 1 000 000 200 177
not_finite huge_weight 2 377 377 177 177

# Weights that grow without bounds while training: stopped in the step where it happens, on any number of ranks the same step.
model=$whole
train 1 wild_1 --max-steps 200 --learning-rate 900 --max-grad-norm 0 --lr-scheduler-type constant --gradient-accumulation-steps 2
first=$?
said=$(grep '^cadtrain: error:' "$log" | sed 's/.*error: //; s/rank [0-9]*: //')
train 2 wild_2 --max-steps 200 --learning-rate 900 --max-grad-norm 0 --lr-scheduler-type constant
second=$?
again=$(grep '^cadtrain: error:' "$log" | sed 's/.*error: //; s/rank [0-9]*: //')
say wild_training "$([ "$first $said" = "$second $again" ] || echo "one rank: $first $said; two ranks: $second $again")"
exit $fails
