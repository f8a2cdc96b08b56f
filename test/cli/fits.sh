#!/bin/sh
# A run whose plan does not fit ends before it loads anything, and says what would fit; auto takes the fastest recompute that does.
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
make_records "$records" 24
sed 's/", "output"/ and a long history of much that fills the whole of the sequence with words that nobody needs", "output"/' "$records" >long.jsonl
records=$scratch/long.jsonl
number_of() { tr -d '\n' <"$2" | sed -n 's/.*"per_rank": *{[^}]*"'"$1"'": *\([0-9]*\).*/\1/p'; }
plan() { "$cadtrain" plan --json --model-name-or-path "$model" --max-length 64 --per-device-train-batch-size 8 "$@" 2>>"$log" >plan.json && number_of total plan.json; }

keep=$(plan) select=$(plan --gradient-checkpointing selective) blocks=$(plan --gradient-checkpointing true)
say recompute_takes_less "$([ "$blocks" -lt "$select" ] && [ "$select" -lt "$keep" ] || echo "$keep, selective $select, true $blocks bytes")"

# fit NAME MEMORY FLAG EXPECTED…: the level that auto takes
fit() {
    name=$1 memory=$2 want=$3
    train 1 "$name" --max-steps 1 --max-length 64 --per-device-train-batch-size 8 --gradient-checkpointing auto --set runtime.device_memory="$memory"
    code=$?
    got=$(sed -n 's/^gradient_checkpointing: \([a-z]*\),.*/\1/p' "$log")
    say "$name" "$([ $code = 0 ] && [ "$got" = "$want" ] || echo "exit code $code, expected $want, found $got")"
}
fit auto_keeps_what_fits "$keep" false
fit auto_recomputes_attention "$select" selective
fit auto_recomputes_blocks "$blocks" true

train 1 refused --max-steps 1 --max-length 64 --per-device-train-batch-size 8 --set runtime.device_memory=$((keep - 1))
code=$?
reason=
[ $code = 2 ] || reason="exit code: expected 2, found $code;"
grep -q 'memory: expected a plan of at most .* a rank, found one of' "$log" || reason="$reason no sentence;"
grep -q 'these fit: (1) gradient_checkpointing selective; (2) gradient_checkpointing true; (3) per_device_train_batch_size 4' "$log" || reason="$reason no settings that fit;"
say what_does_not_fit_is_refused "$reason"
train 2 refused2 --max-steps 1 --max-length 64 --per-device-train-batch-size 8 --set runtime.device_memory=1000000
code=$?
say nor_on_two_ranks "$([ $code = 2 ] && [ "$(grep -c 'memory: expected' "$log")" = 1 ] || echo "exit code $code")"

# use NAME COMMAND…: a command that does not train takes what its plan says, and with a byte less it is refused before it loads anything
use() {
    name=$1 reason=
    shift
    "$cadtrain" "$@" >"$log" 2>&1 || reason="ended with $?;"
    peak=$(sed -n 's/.*Device memory: \([0-9]*\) bytes at most.*/\1/p; s/.*, \([0-9]*\) bytes of device memory.*/\1/p' "$log")
    most=$(sed -n 's/.*Device memory: .*, \([0-9]*\) planned.*/\1/p; s/.*bytes of device memory (planned \([0-9]*\)).*/\1/p' "$log")
    [ "${peak:-0}" -gt 0 ] && [ "$peak" = "$most" ] || reason="$reason $peak bytes taken, $most planned;"
    say "${name}_takes_what_is_planned" "$reason"
    "$cadtrain" "$@" --set runtime.device_memory=$((${most:-1} - 1)) >"$log" 2>&1
    code=$?
    say "${name}_that_does_not_fit_is_refused" "$([ $code = 2 ] && grep -q 'memory: expected a plan of at most' "$log" && grep -q 'fit' "$log" || echo "exit code $code")"
}
use eval eval --checkpoint auto_keeps_what_fits --test-file "$scratch/records.jsonl" --max-length 64 --prediction-output-dir scores
say and_says_what_fits "$(grep -q 'these fit: (1) per_device_eval_batch_size' "$log" || echo 'no settings')"
use generate generate --model-name-or-path "$model" --prompt Age --max-new-tokens 4
exit $fails
