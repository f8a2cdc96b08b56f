#!/bin/sh
# What a run leaves on the disk: for the owner alone whatever the umask, and no text of a record unless asked.
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
make_records "$records" 30

umask 000
train 2 out --validation-split 0.3 --max-steps 6 --evaluation-strategy steps --eval-steps 2 --save-strategy steps --save-steps 2 --report-to tensorboard,csv,jsonl \
    --run-test-after-train true --test-file "$records" --prediction-output-dir pred --per-device-eval-batch-size 1 --log-level debug
code=$?
umask 022
say training "$([ $code = 0 ] || echo "exit code: expected 0, found $code")"
[ $code = 0 ] || exit 1

open=$(find out pred token-cache ! -type l -perm /077 | head -n 3 | tr '\n' ' ')
say files_for_the_owner_alone "${open:+others may read: $open}"

found=$(grep -rlaF $canary out pred token-cache "$log" | head -n 5 | tr '\n' ' ')
say no_record_text_in_outputs "${found:+a record\'s text is in: $found}"

missing=
for f in out/config.json out/model.safetensors out/tokenizer.json out/trainer_state.json out/train_results.json out/eval_results.json out/all_results.json out/run.json \
    out/log.jsonl out/metrics.csv out/last/state.h5 out/last/manifest.json out/last/trainer_state.json out/last/model.safetensors \
    pred/metrics.json pred/predictions.jsonl pred/report.html; do
    [ -s "$f" ] || missing="$missing $f"
done
find out/runs -name 'events.out.tfevents.*' -size +0 | grep -q . || missing="$missing runs/events.out.tfevents.*"
say files_of_the_contract "${missing:+missing:$missing}"
say tokenizer_byte_for_byte "$(cmp "$model/tokenizer.json" out/tokenizer.json 2>&1)"
rest=$(find out pred \( -name '*.tmp*' -o -name '.tmp*' -o -name .lock \) | tr '\n' ' ')
say nothing_left_aside "${rest:+left behind: $rest}"
say no_carriage_return_in_a_log "$(tr -dc '\r' <"$log" | grep -q . && echo "carriage returns in the log")"
say predictions_in_the_order_of_the_file "$([ "$(sed -n 's/.*"index": *\([0-9]*\).*/\1/p' pred/predictions.jsonl | tr '\n' ' ')" = "$(seq 0 29 | tr '\n' ' ')" ] || echo "other order")"
say other_columns_are_kept "$([ "$(grep -c '"site": *"s[012]"' pred/predictions.jsonl)" = 30 ] || echo "site is not in every row")"
[ -z "$open$found" ] || fails=1

"$cadtrain" eval --checkpoint out --test-file "$records" --max-length 64 --prediction-output-dir with --predictions-include-input >"$log" 2>&1
code=$?
lines=$(grep -c "$canary" with/predictions.jsonl 2>/dev/null)
elsewhere=$(grep -laF $canary with/metrics.json with/report.html "$log" 2>/dev/null)
reason=
[ $code = 0 ] || reason="exit code $code"
[ "$lines" = 30 ] || reason="the text is in $lines of 30 rows"
[ -z "$elsewhere" ] || reason="the text is in $elsewhere"
say text_where_it_is_asked_for "$reason"

# The trained directory is read back: the same numbers as the run's own test.
"$cadtrain" eval --checkpoint out --test-file "$records" --max-length 64 --per-device-eval-batch-size 1 --prediction-output-dir again >"$log" 2>&1
say trained_model_reads_back "$(cmp pred/predictions.jsonl again/predictions.jsonl 2>&1 || diff pred/predictions.jsonl again/predictions.jsonl | head -n 2)"
mpirun -np 3 "$cadtrain" eval --checkpoint out/last --zero-stage 3 --test-file "$records" --max-length 64 --per-device-eval-batch-size 1 --prediction-output-dir three >"$log" 2>&1
say ranks_do_not_change_predictions "$(cmp pred/predictions.jsonl three/predictions.jsonl 2>&1)"
"$cadtrain" predict --checkpoint out --input "$records" --max-length 64 --per-device-eval-batch-size 1 --output - >predicted 2>"$log"
say predict_says_the_same "$([ "$(sed -n 's/.*"positive_probability": *\([^,}]*\).*/\1/p' predicted)" = "$(sed -n 's/.*"positive_probability": *\([^,}]*\).*/\1/p' pred/predictions.jsonl)" ] || echo "other probabilities")"
say predict_repeats_no_text "$(grep -qF $canary predicted "$log" && echo "a record's text is in the predictions")"
exit $fails
