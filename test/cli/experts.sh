#!/bin/sh
# Adapters on routed experts (target_parameters): ranks, resuming, loading, merging, codes, and what is refused.
. ./test/tools/e2e.sh
golden=$(cd "$repository/${CADTRAIN_SHARED:-../shared}/golden/llama4" 2>/dev/null && pwd)
if [ -z "$golden" ]; then
    echo "skip adapters_on_routed_experts ${CADTRAIN_SHARED:-../shared}/golden is not there"
    exit 0
fi
model=$golden/model records=$golden/records.json
flags="--max-length 40 --lora-enable true --lora-r 4 --set model.lora.lora_dropout=0 --lora-target-parameters experts.gate_up_proj,experts.down_proj"

# refused NAME SENTENCE FLAGS…
refused() {
    name=$1 sentence=$2 reason=
    shift 2
    train 1 no "$@" && reason="it was accepted"
    grep -q "$sentence" "$log" || reason="$reason the sentence is another"
    say "$name" "$reason"
}
refused an_unknown_tensor_is_refused_with_those_known 'target_parameters: expected tensors of routed experts of this model (feed_forward.experts.gate_up_proj, feed_forward.experts.down_proj), found "experts.up_proj"' \
    $flags --lora-target-parameters experts.up_proj
refused dropout_beside_them_is_refused 'lora_dropout: expected 0 beside target_parameters' $flags --set model.lora.lora_dropout=0.1

reason=
trained one_rank 1 one $flags --max-steps 2 --gradient-accumulation-steps 2 || exit 1
trained two_ranks 2 two $flags --max-steps 2 --set runtime.zero_stage=3 || exit 1
[ "$(digest one)" = "$(digest two)" ] || reason="adapters differ; "
[ "$(figures one)" = "$(figures two)" ] || reason="$reason figures differ"
say one_rank_and_two_with_shards_learn_the_same_bits "$reason"

reason=
trained half 1 again $flags --max-steps 2 --gradient-accumulation-steps 2 --save-strategy steps --save-steps 1 || exit 1
rm -rf again/checkpoint-2 again/*.safetensors
trained rest 2 again $flags --max-steps 2 --set runtime.zero_stage=2 --save-strategy steps --save-steps 1 --resume-from-checkpoint again/checkpoint-1 || exit 1
[ "$(digest one)" = "$(digest again)" ] || reason="what was resumed differs"
say a_resumed_run_ends_with_the_same_bits "$reason"

# W + s B A is rounded to fp32 once, and its rows are sums of at most 128 terms: 128 units of fp32 in logits of size 1, a quarter of that in probabilities.
reason=
"$cadtrain" export --checkpoint one --output merged --merge --model-name-or-path "$model" >"$log" 2>&1 || reason="export ended with $?;"
for kind in one merged; do
    "$cadtrain" predict --checkpoint "$kind" --max-length 40 --input "$records" --output "$kind.jsonl" >"$log" 2>&1 || reason="$reason predict of $kind ended with $?;"
    sed -n 's/.*"positive_probability": *\([0-9.e+-]*\).*/\1/p' "$kind.jsonl" >"$kind.numbers"
done
[ -n "$reason" ] || reason=$(paste one.numbers merged.numbers | awk '{ n++; d = $1 - $2; if (d < 0) d = -d; if (!(d <= 1.6e-5)) print "probabilities " $1 " and " $2 " differ" } END { if (!n) print "no probabilities" }')
say merged_and_adapted_give_the_same_probabilities "$reason"

reason=
trained coded 1 coded $flags --max-steps 2 --load-in-4bit true --set model.bnb_4bit_use_double_quant=true || exit 1
"$cadtrain" export --checkpoint coded --output meant --merge --model-name-or-path "$model" >"$log" 2>&1 || reason="export ended with $?;"
off=$(sed -n 's/.*logits differ by at most \([0-9.e+-]*\) from the adapter on nf4 weights.*/\1/p' "$log")
awk -v a="$off" 'BEGIN { exit !(a != "" && a + 0 <= 1.6e-5) }' || reason="$reason merged logits are $off away" # as in codes.sh
say adapters_on_experts_held_as_codes_merge_into_what_codes_mean "$reason"

cp -r "$repository/test/golden/multimodal" whole && cp "$repository/test/golden/full/tokenizer.json" "$repository/test/golden/full/tokenizer_config.json" whole
model=$scratch/whole records=$scratch/whole/qa.jsonl form='{question}=>{response}' reason=
trained language_model 1 spoken --config "$repository/configs/experiments/llama4_scout_qlora.yaml" --max-length 96 --template "$form" --max-steps 2 --set model.lora.lora_dropout=0 \
    --lora-target-parameters experts.gate_up_proj,experts.down_proj --set task.generate_samples=0 || exit 1
tr -c '[:print:]' '\n' <spoken/adapter_model.safetensors | grep -q 'base_model\.model\.language_model\.model\.layers\.1\.feed_forward\.experts\.base_layer\.lora_A\.weight' || reason="adapters by other names;"
"$cadtrain" export --checkpoint spoken --output said --merge --model-name-or-path "$model" >"$log" 2>&1 || reason="$reason export ended with $?;"
apart=$(sed -n 's/.*logits differ by at most \([0-9.e+-]*\) from the adapter on nf4 weights, on probes whose largest is \([0-9.e+-]*\).*/\1 \2/p' "$log")
echo "$apart" | awk 'NF != 2 || !($1 <= 4 * 2 ^ -9 * $2) { exit 1 }' || reason="$reason merged logits are apart by $apart;" # the folder's weights are stored in bf16: 4 u of the largest
say a_language_model_within_another_has_them_and_merges "$reason"
exit $fails
