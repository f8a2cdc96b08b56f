#!/bin/sh
# Kinds of adapters by options: what trains is what PEFT trains, the first loss is the base's, the directory says what was asked for, a resumed run goes on.
# The numbers are PEFT's for the model in test/golden/full (test/tools/check_with_transformers.py --methods compares more, and other families).
. test/cli/checks
golden=$PWD/test/golden
cd "$scratch" || exit 2
common="--model-name-or-path $golden/full --lora-enable --lora-r 4 --lora-alpha 8 --lora-dropout 0 --train-file $golden/records.json --validation-split 0 --max-length 96
 --per-device-train-batch-size 12 --max-steps 2 --learning-rate 3e-3 --weight-decay 0 --warmup-ratio 0 --logging-steps 1 --evaluation-strategy no --save-strategy steps --save-steps 1 --skip-test"
some='[q_proj, v_proj, down_proj]'

# kind NAME TRAINABLE PATTERN FLAGS…: PATTERN stands in adapter_config.json (line ends and spaces left out)
kind() {
    name=$1 trainable=$2 pattern=$3
    shift 3
    # shellcheck disable=SC2086
    run plan --json $common --output-dir "$name" "$@"
    reason=$(why 0 "$out" "\"trainable\": ?$trainable,")
    # shellcheck disable=SC2086
    [ -n "$reason" ] || { run train $common --output-dir "$name" "$@" && reason=$(why 0 "$name/log.jsonl" '"loss": ?0.26901'); }
    [ -n "$reason" ] || tr -d ' \n' <"$name/adapter_config.json" | grep -qE -- "$pattern" || reason="adapter_config.json: expected $pattern"
    say "$name" "$reason"
}
kind dora 3200 '"use_dora":true' --use-dora
kind rslora 1280 '"bias":"all".*"use_rslora":true' --use-rslora --lora-bias all --target-modules "$some"
kind lora_only 1264 '"bias":"lora_only"' --lora-bias lora_only --target-modules "$some"
kind patterns 1056 '"alpha_pattern":\{"down_proj":7\}.*"exclude_modules":\["1.self_attn.v_proj"\].*"rank_pattern":\{"layers.0.self_attn.q_proj":5,"v_proj":2\}' \
    --target-modules "$some" --rank-pattern '{layers.0.self_attn.q_proj: 5, v_proj: 2}' --alpha-pattern '{down_proj: 7}' --exclude-modules '[1.self_attn.v_proj]'
kind layers 624 '"layers_to_transform":\[1\]' --target-modules "$some" --layers-to-transform 1
kind words 2992 'embed_tokens' --target-modules '[q_proj, v_proj, down_proj, embed_tokens]'
kind regex 752 '"exclude_modules":".\*\\\\.1\\\\..\*q_proj"' --target-modules '.*\.(0|1)\..*(q_proj|query|up_proj)' --exclude-modules '.*\.1\..*q_proj'

cp patterns/adapter_model.safetensors whole
# shellcheck disable=SC2086
run train $common --output-dir patterns --target-modules "$some" --rank-pattern '{layers.0.self_attn.q_proj: 5, v_proj: 2}' --alpha-pattern '{down_proj: 7}' \
    --exclude-modules '[1.self_attn.v_proj]' --resume-from-checkpoint patterns/checkpoint-1 --overwrite-output-dir
reason=$(why 0 "$out" "'step': 2")
cmp -s patterns/adapter_model.safetensors whole || reason="the resumed run ends on other numbers"
say resumed "$reason"

# shellcheck disable=SC2086
refused no_layer 2 'layers_to_transform: expected layers from 0 to 1 of this model, found 2' train $common --target-modules "$some" --layers-to-transform '[0, 2]' --output-dir none
# shellcheck disable=SC2086
refused no_rank 2 'rank-pattern: expected a table of regular expressions and whole numbers' train $common --rank-pattern 'q_proj' --output-dir none
refused misspelt 2 'did you mean "--rank-pattern"' train --rank-patern '{q_proj: 2}'
exit $fails
