#!/bin/sh
# N steps in one go and k steps, then the rest from a checkpoint, end on the same bits: at every k, on another number of ranks and another stage.
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
make_records "$records" 18

# Four micro-batches a step: an epoch of 18 has four full steps and one of two micro-batches; step 7 lies inside the second epoch.
# continued NAME FLAGS…
continued() {
    name=$1
    shift
    rm -rf straight
    trained "${name}_straight" 1 straight --gradient-accumulation-steps 4 --max-steps 7 --save-strategy steps --save-steps 1 "$@" || return
    want="$(digest straight) $(figures straight | sha256sum)"
    reason=
    for cut in "1 2 2 2" "2 4 3 1" "3 3 0 1" "4 1 3 4" "5 2 0 3" "6 4 2 1" "7 3 3 2"; do
        # shellcheck disable=SC2086
        set -- $cut "$@"
        k=$1 world=$2 stage=$3 accumulation=$4
        shift 4
        rm -rf again
        train "$world" again --gradient-accumulation-steps "$accumulation" --zero-stage "$stage" --max-steps 7 --resume-from-checkpoint "straight/checkpoint-$k" "$@" ||
            reason="$reason at step $k: exit code not 0;"
        [ "$(digest again)" = "${want%% *}" ] || reason="$reason from step $k on $world ranks, stage $stage: other bits;"
        [ "$(figures again | tail -n $((7 - k)))" = "$(figures straight | tail -n $((7 - k)))" ] || reason="$reason from step $k: other losses;"
    done
    say "$name" "$reason"
}
continued resume_all_parameters
continued resume_adapter_with_dropout --lora-enable true --lora-r 4 --lora-dropout 0.2
continued resume_bf16_cosine --bf16 true --lr-scheduler-type cosine --warmup-ratio 0.3 --weight-decay 0.1

# state.h5 is what HDF5 says it is; the attributes are there for other programs.
if command -v h5dump >/dev/null; then
    h5dump -A straight/checkpoint-3/state.h5 >"$log" 2>&1
    missing=
    for a in format step epoch atoms_per_step data_position seed world_size zero_stage config_sha256 data_sha256; do
        grep -q "ATTRIBUTE \"$a\"" "$log" || missing="$missing $a"
    done
    say state_has_its_attributes "${missing:+missing:$missing}"
else
    echo "skip state_has_its_attributes h5dump is not installed"
fi

# The same folder goes on: rows logged once, nothing of the first part lost.
rm -rf whole parts
train 1 whole --max-steps 6 --save-strategy steps --save-steps 2 --evaluation-strategy steps --eval-steps 2 --validation-split 0.3
train 1 parts --max-steps 6 --save-strategy steps --save-steps 2 --evaluation-strategy steps --eval-steps 2 --validation-split 0.3
rm -rf parts/checkpoint-6 parts/last
train 1 parts --max-steps 6 --save-strategy steps --save-steps 2 --evaluation-strategy steps --eval-steps 2 --validation-split 0.3 --resume-from-checkpoint auto
reason=
[ "$(steps_of parts)" = "1 2 3 4 5 6" ] || reason="steps in log.jsonl: $(steps_of parts)"
rows() { grep -c '"loss"\|"eval_loss"' "$1/trainer_state.json"; }
[ "$(rows parts)" = "$(rows whole)" ] || reason="rows in trainer_state.json: expected $(rows whole), found $(rows parts)"
[ "$(digest parts)" = "$(digest whole)" ] || reason="other bits"
say rows_are_logged_once "$reason"

train 1 parts --max-steps 6 --resume-from-checkpoint parts/checkpoint-2 --validation-split 0.3 --seed 7
say changed_settings_are_named "$(grep -q 'warning.*runtime.seed' "$log" || echo "no warning that names runtime.seed")"
train 1 fresh --max-steps 2 --resume-from-checkpoint auto
say auto_begins_where_nothing_is "$([ $? = 0 ] || echo "exit code not 0")"
train 1 none --max-steps 2 --resume-from-checkpoint last
say last_needs_a_checkpoint "$([ $? = 5 ] || echo "exit code not 5")"
exit $fails
