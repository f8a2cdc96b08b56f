#!/bin/sh
# The commands that compute, on a few records and a small model.
. test/cli/checks
cd "$scratch" || exit 2

i=0
while [ $i -lt 24 ]; do
    i=$((i + 1))
    echo '{"input": "canary-'$i' a '$((40 + i))'-year-old, blood pressure '$((110 + 3 * (i % 9)))'", "output": "'$((i % 3 == 0))'", "site": "s'$((i % 2))'"}'
done >records.jsonl
sed 's/"input"/"text"/' records.jsonl | head -n 3 >texts.jsonl

ranks 2 --max-steps 2 --logging-steps 1
reason=$(why 0 "$out" '^configuration: the embedded demo')
head -n 1 "$out" | grep -q '^configuration: ' || reason="the first line does not say where the configuration came from"
[ "$(grep -c 'Running training' "$out")" = 1 ] || reason="expected one voice"
for line in model metrics report; do
    path=$(sed -n "s/^$line  *//p" "$out")
    { [ -n "$path" ] && [ -e "$path" ]; } || reason="the last lines do not say where the $line lies"
done
! tr -d '\n' <"$out" | grep -q "$(printf '\r')" || reason="a carriage return in a file"
[ -z "$(find outputs ! -type l -perm /077)" ] || reason="others may read what was written"
say train "$reason"
model=$(sed -n 's/^model  *//p' "$out")

run inspect "$model/checkpoint-2"
reason=$(why 0 "$out" '^  state.h5 +intact')
grep -qE '^  step +2$' "$out" || reason="no step 2 in the state"
say inspect "$reason"
cp -r "$model/checkpoint-2" damaged
printf 'x' | dd of=damaged/state.h5 bs=1 seek=3000 conv=notrunc 2>"$err"
run inspect damaged
say inspect_damaged "$(why 5 "$out" '^  state.h5 +damaged')"

run eval --checkpoint "$model" --test-file records.jsonl --prediction-output-dir scored
reason=$(why 0 "$out" auc)
[ "$(wc -l <scored/predictions.jsonl)" = 24 ] || reason="expected 24 predictions"
say eval "$reason"
ranks 2 eval --checkpoint "$model" --test-file records.jsonl --prediction-output-dir scored2
reason=$(why 0 "$out" auc)
cmp -s scored/predictions.jsonl scored2/predictions.jsonl || reason="other predictions on two ranks"
say eval_on_two_ranks "$reason"
run eval --checkpoint "$model" --test-file records.jsonl --max-length 32
reason=$(why 0 "$err" 'was trained with max_length 1024 .here 32.')
[ -f "outputs/predictions/$(echo "$model" | tr / _)/metrics.json" ] || reason="the scores do not lie in a folder named after the checkpoint"
say eval_as_trained "$reason"
run predict --checkpoint "$model" --input records.jsonl --output -
reason=$(why 0 "$out" positive_probability)
[ "$(grep -c '^{.*}$' "$out")" = 24 ] && [ "$(wc -l <"$out")" = 24 ] || reason="expected 24 rows and nothing else on standard output"
say predict "$reason"
run embed --model-name-or-path "$model" --input texts.jsonl --pooling mean
reason=$(why 0 "$out" '^\{"embedding": \[')
[ "$(wc -l <"$out")" = 3 ] || reason="expected 3 rows and nothing else on standard output"
say embed "$reason"
run check --json --model-name-or-path "$model" --train-file records.jsonl
reason=$(why 0 "$out" '"train_rows": \[[0-9].*"micro_batches": \[')
[ "$(head -c 1 "$out")$(tail -n 1 "$out" | tail -c 3)" = '{}}' ] || reason="more than JSON on standard output"
say check "$reason"
run plan --json --model-name-or-path "$model" --world-size 4 --device-memory 80GB
say plan "$(why 0 "$out" '"largest_micro_batch": *[0-9]')"

# Stopped by a signal through mpirun: a checkpoint and 75; run again it goes on. More than once: a signal may come at any instruction.
small="--model-name-or-path $model --train-file records.jsonl --evaluation-strategy no --save-strategy no --skip-test --output-dir stopped --logging-steps 1"
before=0
for turn in 1 2 3 4; do
    : >"$out" # of the turn before
    # shellcheck disable=SC2086
    mpirun -np 2 "$CADTRAIN" $small --max-steps 100000 --resume-from-checkpoint auto >"$out" 2>"$err" </dev/null &
    launcher=$!
    tries=0
    until grep -q "^{'loss'" "$out" || [ $tries = 300 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    kill -USR1 $launcher
    wait $launcher
    code=$?
    reason=$(why 75 "$err" 'checkpoint is written')
    step=$(readlink stopped/last | sed 's/.*-//')
    [ "${step:-0}" -gt "$before" ] || reason="no later checkpoint than that of step $before"
    before=$step
    say "stopped_$turn" "$reason"
done
# shellcheck disable=SC2086
ranks 2 $small --max-steps $((step + 1)) --resume-from-checkpoint auto
reason=$(why 0 "$out" "'step': $((step + 1)),")
! grep -q "'step': $step," "$out" || reason="it began again before the checkpoint"
say goes_on "$reason"

# What this version does not compute is refused.
later() {
    refused "later_$1" 2 "$2" train --model-name-or-path "$model" --train-file records.jsonl --output-dir x "$3" "$4" --lora-enable
}
later init init_lora_weights --init-lora-weights gaussian

# A module that trains in full beside the adapter is in its file and in its description.
ranks 2 train --model-name-or-path "$model" --train-file records.jsonl --output-dir saved --lora-enable --modules-to-save embed_tokens,score --max-steps 1 --skip-test
reason=$(why 0 "$out" "trainable params")
run inspect saved
grep -q 'base_model.model.model.embed_tokens.weight' "$out" || reason="$reason no embed_tokens in the adapter"
tr -d ' \n' <saved/adapter_config.json | grep -q '"modules_to_save":\["score","embed_tokens"\]' || reason="$reason adapter_config.json does not say so"
say modules_to_save "$reason"

ranks 2 train --model-name-or-path "$model" --train-file nowhere.jsonl --output-dir x
say no_data "$(why 3 "$err" 'nowhere.jsonl')"
echo '{"input": "canary-x", "output": "2"}' >>records.jsonl
ranks 2 train --model-name-or-path "$model" --train-file records.jsonl --output-dir x
say wrong_label "$(why 3 "$err" 'records.jsonl:25')"

# No word of a record where it does not belong: logs, tables, checkpoints.
! grep -rlE 'canary' "$out" "$err" outputs/checkpoints stopped scored/metrics.json scored/report.html >"$scratch/found" 2>&1
say no_records_in_logs "$([ -s "$scratch/found" ] && cat "$scratch/found")"
exit $fails
