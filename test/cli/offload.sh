#!/bin/sh
# What lies in host memory on a device that has its own: the same losses, less on the device, and the plan knows it. (Device "emulated".)
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
make_records "$records" 16
small="--device emulated --max-length 16 --per-device-train-batch-size 1 --max-steps 2 --logging-steps 1"
lora="$small --lora-enable true --lora-r 4 --load-in-4bit true"
field() { tr -d '\n' <"$2" | sed -n 's/.*"per_rank": *{[^}]*"'"$1"'": *\([0-9]*\).*/\1/p'; }
losses() { sed -n 's/.*"loss": \([0-9.e-]*\).*"grad_norm": \([0-9.e-]*\).*/\1 \2/p' "$1/log.jsonl" | tr '\n' ' '; }

# holds NAME RANKS FLAGS…: the run's peak is its plan's; $took is that
holds() {
    name=$1 world=$2 reason=
    shift 2
    # shellcheck disable=SC2086
    train "$world" "$name" $lora "$@" || reason="the run failed;"
    took=$(number peak_bytes "$name/log.jsonl")
    # shellcheck disable=SC2086
    "$cadtrain" plan --json --world-size "$world" --model-name-or-path "$model" $lora "$@" >plan.json 2>>"$log" || reason="$reason plan failed;"
}

holds kept 1
kept=$took first=$(losses kept)
say kept_on_the_device "$reason"
holds paged 1 --optim paged_adamw_32bit --set runtime.device_memory=$((kept - 1))
[ "$(losses paged)" = "$first" ] || reason="$reason other losses: $(losses paged), expected $first;"
[ "$took" -lt "$kept" ] || reason="$reason $took bytes, without pages $kept;"
[ "$(field total plan.json)" = "$took" ] || reason="$reason planned $(field total plan.json), taken $took;"
grep -q 'visit the device in pages' "$log" || reason="$reason no word of pages;"
say moments_visit_in_pages_where_memory_is_short "$reason"
holds paged_idle 1 --optim paged_adamw_32bit
[ "$took" = "$kept" ] || reason="$reason $took bytes, expected $kept;"
say moments_stay_where_memory_is_not_short "$reason"
holds states 1 --set runtime.offload_optimizer=cpu
[ "$(losses states)" = "$first" ] || reason="$reason other losses: $(losses states), expected $first;"
[ "$took" -lt "$kept" ] && [ "$(field optimizer plan.json)" = 0 ] && [ "$(field host plan.json)" -gt 0 ] || reason="$reason $took bytes, $kept with the optimizer on the device;"
[ "$(field total plan.json)" = "$took" ] || reason="$reason planned $(field total plan.json), taken $took;"
say the_host_makes_the_step "$reason"
holds cut 2 --zero-stage 3
cut=$took second=$(losses cut)
holds frozen 2 --zero-stage 3 --set runtime.offload_param=cpu --set runtime.offload_optimizer=cpu
[ "$(losses frozen)" = "$second" ] || reason="$reason other losses: $(losses frozen), expected $second;"
[ "$took" -lt "$cut" ] && [ "$(field parameters plan.json)" = 0 ] || reason="$reason $took bytes, $cut with weights on the device;"
[ "$(field total plan.json)" = "$took" ] || reason="$reason planned $(field total plan.json), taken $took;"
say frozen_weights_come_from_the_host "$reason"
holds alone 1 --zero-stage 3 --set runtime.offload_param=cpu
[ "$(losses alone)" = "$first" ] || reason="$reason other losses: $(losses alone), expected $first;"
say one_rank_too "$reason"

# Everything trains, in bf16: four steps of accumulation with clipping; then one atom a step without it, where units move while gradients are computed.
lora="$small --bf16 true --gradient-accumulation-steps 2"
holds whole 1
whole=$took first=$(losses whole) weights=$(digest whole)
holds whole_states 1 --set runtime.offload_optimizer=cpu
[ "$(losses whole_states)" = "$first" ] && [ "$(digest whole_states)" = "$weights" ] || reason="$reason other losses or weights: $(losses whole_states), expected $first;"
[ "$(field total plan.json)" = "$took" ] && [ "$(field optimizer plan.json)" = 0 ] || reason="$reason planned $(field total plan.json), taken $took;"
[ "$took" -lt "$whole" ] || reason="$reason $took bytes, $whole with all on the device;"
say full_training_steps_on_the_host "$reason"
echo '{"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}, "offload_optimizer": {"device": "cpu"}}}' >zero3.json
for world in 1 2; do
    holds "params$world" $world --deepspeed "$scratch/zero3.json"
    [ "$world" = 2 ] || { [ "$(losses params1)" = "$first" ] && [ "$(digest params1)" = "$weights" ]; } || reason="$reason other losses or weights: $(losses params1), expected $first;"
    [ "$(field total plan.json)" = "$took" ] && [ "$(field parameters plan.json)" = 0 ] && [ "$(field host plan.json)" -gt 0 ] || reason="$reason planned $(field total plan.json), taken $took;"
    grep -q 'lie in host memory: gradient sums, masters and moments.* parameters' "$log" || reason="$reason no word of offload;"
    say "trainable_parameters_lie_on_the_host_$world" "$reason"
done
holds plain2 2 --zero-stage 3
[ "$(losses plain2)" = "$(losses params2)" ] && [ "$(digest plain2)" = "$(digest params2)" ] || reason="other losses or weights: $(losses params2), expected $(losses plain2)"
say two_ranks_have_the_same_weights "$reason"
lora="$small --bf16 true --max-grad-norm 0"
holds free 1
first=$(losses free) weights=$(digest free)
holds free_states 1 --set runtime.offload_optimizer=cpu
[ "$(losses free_states)" = "$first" ] && [ "$(digest free_states)" = "$weights" ] || reason="$reason other losses or weights: $(losses free_states), expected $first;"
say units_move_while_gradients_are_computed "$reason"
exit $fails
