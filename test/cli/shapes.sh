#!/bin/sh
# Plans of real models from config.json alone, against the arithmetic of docs/memory.md.
shapes=$PWD/benchmarks/gpu/shapes experiments=$PWD/configs/experiments
. ./test/tools/e2e.sh
field() { tr -d '\n' <plan.json | sed -n 's/.*"'"$1"'": *\([0-9a-z.]*\).*/\1/p'; }
row() { tr -d '\n' <plan.json | sed -n 's/.*"per_rank": *{[^}]*"'"$1"'": *\([0-9]*\).*/\1/p'; }
shape() { mkdir -p "$1" && cp "$shapes/$1.json" "$1/config.json"; }
# is ROW BYTES
is() { [ "$(row "$1")" = "$2" ] || reason="$reason $1: expected $2, planned $(row "$1");"; }
plan() { "$cadtrain" plan --json --device emulated "$@" >plan.json 2>"$log" || reason="plan failed;"; }

reason=
shape qwen2-7b
plan --model-name-or-path qwen2-7b --bf16 true --load-in-4bit true --set model.bnb_4bit_use_double_quant=true --lora-enable true --lora-r 16 --per-device-train-batch-size 4 --max-length 1024 --device-memory 24GB
n=$((28 * (2 * 3584 * 3584 + 2 * 512 * 3584 + 3 * 3584 * 18944)))
lora=$((28 * 16 * (2 * 7168 + 2 * 4096 + 3 * 22528) + 7168))
is parameters $((n / 2 + 2 * (152064 * 3584 + 28 * (2 * 3584 + 4608) + 3584)))
is quantisation $((n / 64 + n / 4096 + 196 * 64))
is adapters $((lora * 2))
is gradients $((lora * 4))
is optimizer $((lora * 12))
is communication 0
[ "$(field fits)" = true ] && [ "$(field largest_micro_batch)" -ge 4 ] || reason="$reason does not fit;"
say qwen2_7b_qlora_on_one_card_of_24_gb "$reason"

reason=
shape llama-3.1-8b
plan --model-name-or-path llama-3.1-8b --bf16 true --zero-stage 3 --world-size 8 --per-device-train-batch-size 4 --max-length 2048 --device-memory 80GB
n=$((128256 * 4096 + 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 14336 * 4096 + 2 * 4096) + 3 * 4096))
[ "$(field all)" = $n ] && [ "$(field trainable)" = $n ] || reason="$reason expected $n parameters, planned $(field all);"
for each in 2:parameters 12:optimizer; do # parts are cut at chunks of 1024 elements, unit by unit
    least=$((n * ${each%:*} / 8)) got=$(row "${each#*:}")
    [ "$got" -ge $least ] && [ "$got" -le $((least + 34 * 1024 * ${each%:*} + 4096)) ] || reason="$reason ${each#*:}: expected $least, planned $got;"
done
[ "$(field all_gather)" = $((2 * n * 2)) ] || reason="$reason all-gather of $(field all_gather);"
[ "$(field fits)" = true ] || reason="$reason does not fit;"
say llama_3_1_8b_in_full_on_eight_cards_of_80_gb "$reason"

reason=
revision=0123456789abcdef0123456789abcdef01234567
hub=$scratch/hub/models--meta-llama--Llama-4-Scout-17B-16E-Instruct
mkdir -p "$hub/refs" "$hub/snapshots/$revision"
printf %s $revision >"$hub/refs/main"
cp "$shapes/llama-4-scout.json" "$hub/snapshots/$revision/config.json"
export HF_HUB_CACHE="$scratch/hub"
plan --config "$experiments/llama4_scout_qlora.yaml" --device-memory 141GB
n=$((48 * (2 * 5120 * 5120 + 2 * 1024 * 5120 + 3 * 8192 * 5120 + 48 * 8192 * 5120)))
lora=$((48 * 64 * (2 * 10240 + 2 * 6144 + 3 * 13312)))
is parameters $((n / 2 + 2 * (2 * 202048 * 5120 + 97 * 5120 + 48 * 16 * 5120)))
is quantisation $((n / 64 + n / 4096 + 432 * 64))
is adapters $((lora * 2))
is optimizer $((lora * 12))
[ "$(row total)" -le 75000000000 ] && [ "$(field fits)" = true ] || reason="$reason a total of $(row total);"
say scout_nf4_on_one_card_of_141_gb "$reason"

reason=
plan --config "$experiments/llama4_scout_qlora.yaml" --device-memory 141GB --zero-stage 3 --world-size 3
[ "$(row parameters)" -le $(((n / 2 + n / 64 + 4200000000) / 3)) ] && [ "$(row total)" -le 47000000000 ] && [ "$(field fits)" = true ] || reason="$reason a total of $(row total);"
[ $(($(row adapters) - lora * 2 / 3)) -le $((50 * 1024 * 2)) ] || reason="$reason adapters: $(row adapters);"
[ "$(field all_gather)" -ge $((4 * (n / 2 + n / 64))) ] && [ "$(field all_gather)" -le $((4 * (n / 2 + n / 64 + 4700000000))) ] || reason="$reason all-gather of $(field all_gather);"
say scout_nf4_on_three_cards_of_141_gb "$reason"

reason=
plan --config "$experiments/llama4_scout_qlora.yaml" --device-memory 141GB --set model.quantize_experts=false
[ "$(field fits)" = false ] && [ "$(row parameters)" -ge $((2 * 48 * 48 * 8192 * 5120)) ] || reason="$reason planned $(row parameters);"
say without_codes_for_experts_it_does_not_fit "$reason"
exit $fails
