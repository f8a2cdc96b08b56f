#!/bin/sh
# Which checkpoints stay, what best and last name, the best model at the end, early stopping; damaged checkpoints.
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
make_records "$records" 40
each="--validation-split 0.3 --evaluation-strategy steps --eval-steps 1 --save-strategy steps --save-steps 1"

checkpoints() { find "$1" -maxdepth 1 -name 'checkpoint-*' | sed 's/.*checkpoint-//' | sort -n | tr '\n' ' ' | sed 's/ $//'; }
linked() { readlink "$1" | sed 's/.*checkpoint-//'; }
# the step of the smallest eval_loss: trainer_state.json has it on one line or several
smallest() { tr -d '\n' <"$1" | tr '}' '\n' | sed -n 's/.*"eval_loss": *\([-0-9.e+]*\).*"step": *\([0-9]*\).*/\1 \2/p' | sort -g | head -n 1 | cut -d' ' -f2; }

# A learning rate that is too high: the best model is an early one.
# shellcheck disable=SC2086
train 2 out --max-steps 8 --learning-rate 0.3 --save-total-limit 2 --load-best-model-at-end true --metric-for-best-model loss $each
code=$?
best=$(smallest out/trainer_state.json)
reason=
[ $code = 0 ] || reason="exit code $code;"
[ "$(linked out/last)" = 8 ] || reason="$reason last names $(readlink out/last);"
[ -n "$best" ] && [ "$(linked out/best)" = "$best" ] || reason="$reason best names $(readlink out/best), the smallest eval_loss is at step $best;"
if [ "$best" = 8 ] || [ "$best" = 7 ]; then expected="7 8"; else expected="$best 8"; fi
[ "$(checkpoints out)" = "$expected" ] || reason="$reason expected the checkpoints $expected, found $(checkpoints out);"
say save_total_limit_keeps_the_best "$reason"
say best_is_not_the_last_here "$([ "$best" != 8 ] || echo "the test has lost its sense: the last step is the best")"
say best_model_at_the_end "$([ "$(digest out)" = "$(digest out/best)" ] || echo "the model in out is not that of best")"
say trainer_state_names_the_best "$(grep -q "\"best_model_checkpoint\": \"[^\"]*checkpoint-$best\"" out/trainer_state.json || echo "best_model_checkpoint is not checkpoint-$best")"

# shellcheck disable=SC2086
train 1 still --max-steps 8 --learning-rate 0 --early-stopping-patience 2 --load-best-model-at-end true --metric-for-best-model loss $each
reason=
[ "$(steps_of still)" = "1 2 3" ] || reason="expected an end after 3 steps (the first is the best, patience 2), logged: $(steps_of still)"
say early_stopping "$reason"

# shellcheck disable=SC2086
train 1 few --max-steps 6 --save-strategy best --metric-for-best-model loss --evaluation-strategy steps --eval-steps 1 --validation-split 0.3 --learning-rate 0.3
say save_strategy_best "$([ "$(checkpoints few | tr ' ' '\n' | tail -n 1)" = "$(smallest few/trainer_state.json)" ] || echo "checkpoints $(checkpoints few), the smallest eval_loss is at step $(smallest few/trainer_state.json)")"

# ---- damage ----
train 1 good --max-steps 3 --save-strategy steps --save-steps 1
want=$(digest good)

# Every file of a checkpoint, a byte flipped at its beginning, in its middle and at its end: named, code 5, nothing touched.
reason= tried=0
for file in good/checkpoint-2/*; do
    n=$(size_of "$file")
    for at in 0 $((n / 3)) $((n - 1)); do
        flip "$file" "$at"
        before=$(find good -type f -exec sha256sum {} + | sha256sum)
        train 1 other --max-steps 3 --resume-from-checkpoint good/checkpoint-2
        code=$?
        tried=$((tried + 1))
        [ $code = 5 ] || reason="$reason ${file##*/} at $at: exit code $code;"
        [ "$(grep -c '^cadtrain: error: .*checkpoint-2' "$log")" = 1 ] || reason="$reason ${file##*/} at $at: no sentence that names it;"
        [ "$(find good -type f -exec sha256sum {} + | sha256sum)" = "$before" ] || reason="$reason ${file##*/} at $at: files were changed;"
        flip "$file" "$at"
    done
done
[ $tried -ge 24 ] || reason="$reason only $tried bytes were tried;"
say a_flipped_byte_is_refused "$reason"

# truncated, missing, exchanged
damaged() { # NAME: good/checkpoint-2 was damaged; it is made whole again from checkpoint-2.kept
    before=$(find good -type f -exec sha256sum {} + | sha256sum)
    train 2 other --max-steps 3 --resume-from-checkpoint good/checkpoint-2
    code=$?
    reason=
    [ $code = 5 ] || reason="exit code: expected 5, found $code;"
    [ "$(grep -c '^cadtrain: error: .*checkpoint-2' "$log")" = 1 ] || reason="$reason not one sentence that names it;"
    [ "$(find good -type f -exec sha256sum {} + | sha256sum)" = "$before" ] || reason="$reason files were changed;"
    say "$1" "$reason"
    rm -rf good/checkpoint-2
    cp -r kept good/checkpoint-2
}
cp -r good/checkpoint-2 kept
truncate -s -1 good/checkpoint-2/state.h5
damaged a_truncated_state_is_refused
: >good/checkpoint-2/state.h5
damaged an_empty_state_is_refused
rm good/checkpoint-2/state.h5
damaged a_missing_state_is_refused
rm good/checkpoint-2/manifest.json
damaged a_missing_manifest_is_refused
cp good/checkpoint-3/state.h5 good/checkpoint-2/state.h5
damaged another_steps_state_is_refused

# last and auto fall back to the one before, say so, and end on the same bits.
for word in last auto; do
    rm -rf fall
    cp -r good fall
    flip fall/checkpoint-3/state.h5 $(($(size_of fall/checkpoint-3/state.h5) / 2))
    train 2 fall --gradient-accumulation-steps 1 --max-steps 3 --save-strategy steps --save-steps 1 --resume-from-checkpoint $word
    code=$?
    reason=
    [ $code = 0 ] || reason="exit code $code;"
    [ "$(grep -c '^cadtrain: warning: .*checkpoint-3' "$log")" = 1 ] || reason="$reason no warning that names checkpoint-3;"
    [ "$(digest fall)" = "$want" ] || reason="$reason other bits;"
    say "${word}_falls_back" "$reason"
done
for k in 1 2 3; do flip fall/checkpoint-$k/state.h5 100; done
train 1 fall --max-steps 3 --resume-from-checkpoint auto
say all_damaged_is_refused "$([ $? = 5 ] || echo "exit code not 5")"

# Other records than it began with.
make_records others.jsonl 41
train 1 other --train-file others.jsonl --max-steps 3 --resume-from-checkpoint good/checkpoint-2
say other_data_are_refused "$([ $? = 5 ] || echo "exit code not 5")"
exit $fails
