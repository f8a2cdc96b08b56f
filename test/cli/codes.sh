#!/bin/sh
# Bases held as codes, end to end: the outlier rule of LLM.int8(), and adapters over routed experts merged into what their codes mean.
. ./test/tools/e2e.sh
models=$(cd "$repository" && cd "${CADTRAIN_SHARED:-../shared}/golden" 2>/dev/null && pwd)
make_model
records=$scratch/records.jsonl
make_records "$records" 12

# within A B LIMIT: every number of two lists of losses and norms
within() { printf '%s\n%s\n' "$1" "$2" | tr -d '\n' | awk -v n=0 -v limit="$3" 'BEGIN { RS = "[^-0-9.e+]+" } $0 ~ /[0-9]/ { v[n++] = $0 } END { for (i = 0; i < n / 2; i++) { d = v[i] - v[i + n / 2]; if (d < 0) d = -d; if (!(d <= limit * (1 + v[i]))) { print "step figures " v[i] " and " v[i + n / 2] " differ by more than " limit; exit } } if (!n) print "no figures" }'; }

# The same steps with the dequantised product, and with activations as whole numbers, of 127 to the largest of a row: each is off by half a unit at most, 1 / 254 of
# it, and figures by five of those. Without a magnitude of 6 nothing stands out; where nearly everything does, what is left is the rounding to fp16, twice 1 / 2048.
eight="--lora-enable true --lora-r 4 --load-in-8bit true --max-steps 2"
reason=
train 1 plain8 $eight || reason="training with dequantised products ended with $?"
first=$(figures plain8)
train 1 outliers $eight --set model.llm_int8_threshold=6.0 || reason="training with whole numbers ended with $?"
[ -n "$reason" ] || reason=$(within "$first" "$(figures outliers)" 0.02)
[ "$(figures outliers)" != "$first" ] || reason="$reason the option changes nothing;"
grep -q 'columns with magnitudes from 6 on' "$log" || reason="$reason the log does not say so;"
grep -q '"llm_int8_threshold": 6' outliers/run.json || reason="$reason run.json does not say so;"
say activations_in_8_bits_are_near_the_dequantised_product "$reason"
reason=
train 1 all $eight --set model.llm_int8_threshold=0.0001 || reason="ended with $?"
[ -n "$reason" ] || reason=$(within "$first" "$(figures all)" 0.001)
say where_everything_stands_out_products_are_the_dequantised_ones "$reason"

if [ ! -d "$models/llama4/model" ]; then
    echo "skip adapters_over_coded_experts ${CADTRAIN_SHARED:-../shared}/golden is not there"
    exit $fails
fi
model=$models/llama4/model records=$models/llama4/records.json
trained experts_as_codes 1 adapter --max-length 40 --per-device-train-batch-size 2 --max-steps 2 --lora-enable true --lora-r 4 --load-in-4bit true --set model.bnb_4bit_use_double_quant=true || exit 1
reason=
grep -q 'Routed experts: .* million of them; model.quantize_experts false' "$log" || reason="the log does not say that routed experts are codes"
say routed_experts_are_codes_and_the_log_says_so "$reason"

# merged NAME WORD FLAGS…: $off is the difference of logits that is told
merged() {
    "$cadtrain" export --checkpoint adapter --output "$1" --merge --model-name-or-path "$model" $3 $4 >"$log" 2>&1 || reason="export ended with $?;"
    off=$(sed -n "s/.*Merged into the $2 weights: logits differ by at most \([0-9.e+-]*\) from the adapter on nf4 weights.*/\1/p" "$log")
    [ -n "$off" ] || reason="$reason the difference of logits is not told;"
}
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a + 0 <= b + 0) }'; }
reason=
merged meant dequantised
near=$off
# One rounding of W + s B A into fp32 and sums of at most 128 terms: 128 units of fp32 in logits of size 1.
less "$near" 1.6e-5 || reason="$reason $near from the adapter on codes;"
say an_adapter_over_coded_experts_merges_into_what_codes_mean "$reason"
reason=
merged made original --merge-base original
less 1e-4 "$off" && less "$off" 1 || reason="$reason $off from the adapter on codes, into what they mean $near;"
say or_into_what_codes_were_made_from "$reason"
exit $fails
