#!/bin/sh
# The second job's experiment as it is (paths and small sizes apart) on a directory as Transformers saves Llama4ForConditionalGeneration: the text part learns
# with NF4 codes, routed experts too, the vision part is left out; and what Transformers and PEFT compute (test/golden/README.md) comes out.
. test/cli/checks
golden=$PWD/test/golden
experiment=$PWD/configs/experiments/llama4_scout_qlora.yaml
cp -r test/golden/multimodal "$scratch/model"
cp test/golden/full/tokenizer.json test/golden/full/tokenizer_config.json "$scratch/model"
cd "$scratch" || exit 2
form='{question}
{cot} => {response}'
ask() { run generate --model-name-or-path model --template "$form" --prompt 'What of pain 3?' --max-new-tokens 12 --json "$@"; }

ask
say base "$(why 0 "$out" '"ids": \[7, 109, 7, 375, 97, 415, 8, 87, 127, 127, 127, 371\]')"
ask --adapter-name-or-path "$golden/multimodal/adapter"
say adapter "$(why 0 "$out" '"ids": \[306, 220, 31, 268, 82, 18, 252, 12, 413, 30, 384, 313\]')"
run eval --checkpoint "$golden/multimodal/adapter" --model-name-or-path model --test-file model/qa.jsonl --set task.task_name=sft --template "$form" --max-length 96 --prediction-output-dir scored
say likelihood "$(why 0 "$out" 'test: 12 records, mean log-likelihood -4\.3835, perplexity 80\.12')"

small="train --config $experiment --model-name-or-path model --train-file model/qa.jsonl --max-length 96 --validation-split 0.25 --set task.generate_samples=2 --set task.generate_max_new_tokens=6 --overwrite-output-dir"
run $small --template "$form" --num-train-epochs 2 --output-dir tuned
reason=$(why 0 "$out" 'holds a part for images too \([0-9]+ tensors\): it is left out')
grep -q 'Frozen weights: .* as nf4 under nested scales' "$err" "$out" && grep -q 'Routed experts: ' "$err" "$out" || reason="expected to be told of codes, experts with them"
grep -q 'Paging and offload' "$err" "$out" || reason="expected to be told of paged moments"
[ "$(tr -c '[:print:]' '\n' <tuned/adapter_model.safetensors | grep -oE 'base_model\.model\.[a-z0-9_.]*lora_[AB]\.weight' | sed -E 's/^(.*layers\.)[01]/\1N/; s/lora_[AB]/lora/' | sort -u | tr '\n' ' ')" = \
"$(for m in feed_forward.down_proj feed_forward.gate_proj feed_forward.shared_expert.down_proj feed_forward.shared_expert.gate_proj feed_forward.shared_expert.up_proj feed_forward.up_proj self_attn.k_proj self_attn.o_proj self_attn.q_proj self_attn.v_proj; do printf 'base_model.model.language_model.model.layers.N.%s.lora.weight ' $m; done)" ] || reason="adapters by other names"
grep -q '"r": 64' tuned/adapter_config.json && grep -q '"lora_alpha": 16' tuned/adapter_config.json && grep -q 'language_model' tuned/adapter_config.json || reason="adapter_config.json: expected r 64, alpha 16 and the language model alone"
grep -q '"after": {' tuned/predictions/metrics.json && [ "$(wc -l <tuned/predictions/samples.jsonl)" = 2 ] || reason="expected answers before and after"
say experiment "$reason"

run $small --template "$form" --num-train-epochs 2 --output-dir halfway --max-steps 5 --set training.eval_strategy=no
run $small --template "$form" --num-train-epochs 2 --output-dir again --max-steps 5 --set training.eval_strategy=no --set training.save_strategy=steps --save-steps 2 --skip-test
rm -rf again/last again/best again/adapter_model.safetensors again/checkpoint-4
"$CADTRAIN" $small --template "$form" --num-train-epochs 2 --output-dir again --max-steps 5 --set training.eval_strategy=no --skip-test --resume-from-checkpoint again/checkpoint-2 >"$out" 2>"$err"
code=$?
reason=$(why 0 "$out" "'step': 5")
cmp -s again/adapter_model.safetensors halfway/adapter_model.safetensors || reason="the resumed run ends on other numbers"
say resume "$reason"

ask --adapter-name-or-path "$golden/multimodal/adapter" --set model.load_in_4bit=true --set model.bnb_4bit_use_double_quant=true
reason=$(why 0 "$out" '"ids": \[')
cp "$out" coded
ask --set model.load_in_4bit=true --set model.bnb_4bit_use_double_quant=true
[ -n "$reason" ] || reason=$(why 0 "$out" '"ids": \[')
! cmp -s "$out" coded || reason="the adapter changes nothing"
ranks 2 generate --model-name-or-path model --template "$form" --prompt 'What of pain 3?' --max-new-tokens 12 --json --adapter-name-or-path "$golden/multimodal/adapter" --set model.load_in_4bit=true --set model.bnb_4bit_use_double_quant=true --set runtime.zero_stage=3
[ -n "$reason" ] || reason=$(why 0 "$out" '"ids": \[')
cmp -s "$out" coded || reason="two ranks with divided codes answer otherwise"
say generate_on_codes "$reason"

run push --checkpoint tuned --to upload
reason=$(why 0 "$out" '^hf upload')
(cd upload && sha256sum -c --quiet SHA256SUMS) || reason="SHA256SUMS does not hold"
for f in adapter_model.safetensors adapter_config.json tokenizer.json tokenizer_config.json README.md; do grep -q " $f\$" upload/SHA256SUMS || reason="expected $f with its checksum"; done
say push "$reason"

run export --checkpoint "$golden/multimodal/adapter" --model-name-or-path model --merge --output merged
reason=$(why 0 "$out" '')
grep -q '"Llama4ForCausalLM"' merged/config.json || reason="config.json: expected the language model alone"
run generate --model-name-or-path merged --template "$form" --prompt 'What of pain 3?' --max-new-tokens 3 --json
[ -n "$reason" ] || reason=$(why 0 "$out" '"ids": \[306, 220, 31\]')
say merged "$reason"
exit $fails
