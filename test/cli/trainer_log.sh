#!/bin/sh
# A run's log beside the Trainer's: what the last step does without being asked, and the evaluation loss of its batches.
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
make_records "$records" 26
held=$scratch/held.jsonl
make_records "$held" 13

# steps KEY OUT: the steps of the rows of log_history that have KEY, one line
steps() { tr -d '\n' <"$2/trainer_state.json" | grep -o '{[^{}]*}' | grep "\"$1\":" | sed 's/.*"step": *\([0-9]*\).*/\1/' | tr '\n' ' ' | sed 's/ $//'; }
# equal WHAT FOUND EXPECTED
equal() { [ "$2" = "$3" ] || echo "$1: expected '$3', found '$2';"; }

# Seven steps, logged every three, evaluated every two, saved every five.
often="--validation-file $held --per-device-train-batch-size 4 --num-train-epochs 1 --logging-steps 3"
# shellcheck disable=SC2086
if trained the_last_step 1 last $often --evaluation-strategy steps --eval-steps 2 --save-strategy steps --save-steps 5; then
    say the_last_step_is_evaluated_and_saved "$(equal evaluations "$(steps eval_loss last)" '2 4 6 7')$(equal checkpoints "$(echo last/checkpoint-*)" 'last/checkpoint-5 last/checkpoint-7')"
    say the_log_has_a_row_every_logging_steps "$(equal log_history "$(steps loss last)" '3 6')$(equal log.jsonl "$(steps_of last)" '3 6 7')"
fi
# shellcheck disable=SC2086
if trained unsaved 1 unsaved $often --evaluation-strategy epoch; then
    say no_checkpoint_is_named_that_is_not_there "$(grep -q '"best_model_checkpoint": null' unsaved/trainer_state.json || echo "best_model_checkpoint is not null")"
    say eval_steps_are_the_librarys_when_none_are_given "$(equal eval_steps "$(number eval_steps unsaved/trainer_state.json)" 500)"
fi

# With hf the loss of an evaluation is the mean of its batches' own weighted means by their rows; what fills the last batch up on several ranks counts there too.
weights="--set dataset.class_weights.mode=manual --set dataset.class_weights.values=[0.5,2]"
"$cadtrain" eval --checkpoint last --test-file "$held" --max-length 64 --prediction-output-dir scored >"$log" 2>&1
hf="--model-name-or-path last --validation-file $held --learning-rate 0 --max-steps 1 --per-device-eval-batch-size 5 --set training.loss_normalization=hf $weights"
for n in 1 2; do
    # shellcheck disable=SC2086
    trained hf_$n $n hf$n $hf --evaluation-strategy epoch || continue
    # shellcheck disable=SC2086
    order=$(on 1 "$cadtrain" check --json --train-file "$records" $hf 2>>"$log" | tr -d '\n' | sed 's/.*"eval_rows": *\[\([^]]*\)\].*/\1/')
    want=$(sed 's/.*"label": *\([01]\).*"logits": *\[\([^,]*\), *\([^]]*\)\].*/\1 \2 \3/' scored/predictions.jsonl | awk -v order="$order" -v world="$n" '
        { d = $1 ? $2 - $3 : $3 - $2; loss[NR - 1] = log(1 + exp(d)); w[NR - 1] = $1 ? 2 : 0.5 }
        END {
            n = split(order, row, /, */)
            for (from = 0; from < n; from += 5) {
                mine = n - from < 5 ? n - from : 5; sum = all = 0
                for (i = from; i < from + (world > 1 ? 5 : mine); i++) {
                    r = row[(i < n ? i : (i - n) % (5 * world)) + 1]
                    sum += w[r] * loss[r]; all += w[r]
                }
                total += mine * sum / all
            }
            printf "%.9f", total / n
        }')
    found=$(number eval_loss hf$n/eval_results.json)
    say hf_evaluation_loss_on_${n}_ranks "$(awk -v a="$found" -v b="$want" 'BEGIN { d = a - b; if (!(a > 0) || d > 1e-5 * b || d < -1e-5 * b) print "expected " b ", found " a }')"
done
exit $fails
