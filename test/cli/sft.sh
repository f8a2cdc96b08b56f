#!/bin/sh
# The second job on a tiny model: a template, answers before and after, the folder to upload, and what is refused.
. test/cli/checks
repository=$PWD
cd "$scratch" || exit 1
model=$scratch/outputs/demo/model
"$CADTRAIN" train --max-steps 1 --skip-test --save-strategy no --output-dir first >"$out" 2>"$err" || { say model "the demo's model could not be made"; exit 1; }

for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do echo "{\"Question\": \"canary-$i pain?\", \"Complex_CoT\": \"heart $((i % 2))\", \"Response\": \"ECG\"}"; done >qa.jsonl
small="train --model-name-or-path $model --train-file qa.jsonl --set task.task_name=sft --max-length 200 --max-steps 6 --per-device-train-batch-size 4 --learning-rate 3e-3 --logging-steps 1 --evaluation-strategy no --save-strategy no"
form='{question}
{cot} => {response}'

run $small --template "$form" --set task.generate_samples=3 --set task.generate_max_new_tokens=8 --output-dir full
reason=$(why 0 "$out" 'test: 3 answers, exact match')
grep -q '"after": {' full/predictions/metrics.json || reason="metrics.json: expected figures before and after"
[ "$(wc -l <full/predictions/samples.jsonl)" = 3 ] || reason="samples.jsonl: expected 3 answers"
grep -q '<th>before</th>' full/predictions/report.html || reason="report.html: expected a table"
for row in perplexity 'ROUGE-L of final answers' 'exact match of final answers' 'mean log-likelihood'; do
    grep -qE "<th>$row</th><td>-?[0-9.]+</td><td>-?[0-9.]+</td>" full/predictions/report.html || reason="report.html: expected $row before and after"
done
[ "$(grep -c '<td class="text">[0-9]*</td><td class="text"><pre>.*</pre></td><td class="text"><pre>' full/predictions/report.html)" = 3 ] || reason="report.html: expected 3 answers before and after"
! grep -q canary full/predictions/report.html || reason="report.html: a question, though nobody asked for it"
held=$(sed -n 's/.*Device memory after loading, rank 0: \([0-9.]*\) MiB.*: \([0-9.]*\) MiB.*/<td>\1<.td><td>\2</p' "$err" "$out")
{ [ -n "$held" ] && grep -q "<tr><td>0</td>$held" full/predictions/report.html; } || reason="report.html: expected the device memory that was told ($held)"
grep -q 'LlamaForCausalLM' full/config.json || reason="config.json: expected a language model's"
say full "$reason"

run $small --template "$form" --max-steps 1 --set task.generate_samples=2 --set task.generate_max_new_tokens=4 --predictions-include-input true --output-dir asked
reason=$(why 0 "$out" 'test: 2 answers')
[ "$(grep -cE '<td class="text"><pre>canary-[0-9]+ pain\?$' asked/predictions/report.html)" = 2 ] && [ "$(grep -c '</pre></td><td class="text"><pre>ECG</pre></td>' asked/predictions/report.html)" = 2 ] ||
    reason="report.html: expected questions and answers"
say questions_in_the_report "$reason"

run $small --template "$form" --set task.completion_only_loss=true --lora-enable --lora-dropout 0 --output-dir lora
reason=$(why 0 "$out" "'step': 6")
grep -q '"task_type": "CAUSAL_LM"' lora/adapter_config.json || reason="adapter_config.json: expected CAUSAL_LM"
say lora "$reason"

# The same numbers on two ranks.
ranks 2 $small --template "$form" --set task.completion_only_loss=true --lora-enable --lora-dropout 0 --gradient-accumulation-steps 1 --per-device-train-batch-size 2 --set runtime.zero_stage=3 --output-dir two
reason=$(why 0 "$out" "'step': 6")
sed -n 's/.*"step": 1,.*"loss": \([0-9.]*\).*/\1/p; s/.*"loss": \([0-9.]*\).*"step": 1,.*/\1/p' lora/log.jsonl two/log.jsonl | cut -c1-7 | sort -u >losses
[ "$(wc -l <losses)" = 1 ] || reason="the first loss differs: $(tr '\n' ' ' <losses)"
say ranks "$reason"

run generate --model-name-or-path "$model" --adapter-name-or-path lora --template "$form" --prompt 'canary-3 pain?' --max-new-tokens 6 --json
say asks "$(why 0 "$out" '"prompt": "canary-3 pain\?\\n"')"

# Shapes agree, weights do not.
cp -r "$model" elsewhere
bytes=$(wc -c <elsewhere/model.safetensors)
printf '\077\077\077\077' | dd of=elsewhere/model.safetensors bs=1 seek=$((bytes - 4)) conv=notrunc 2>/dev/null
run generate --model-name-or-path elsewhere --adapter-name-or-path lora --template "$form" --prompt 'x' --max-new-tokens 2
say other_base "$(why 0 "$err" 'was trained on other weights than those of elsewhere')"
run generate --model-name-or-path "$model" --adapter-name-or-path lora --template "$form" --prompt 'x' --max-new-tokens 2
say own_base "$(grep -q 'other weights' "$err" && echo 'warned of its own base')"

# A head that is the table of words moves with it, and PEFT finds it under both names.
cp -r "$model" tied
sed -i 's/"tie_word_embeddings": [a-z]*/"tie_word_embeddings": true/' tied/config.json
grep -q '"tie_word_embeddings": true' tied/config.json || sed -i '0,/{/s//{"tie_word_embeddings": true,/' tied/config.json
run $small --model-name-or-path tied --template "$form" --lora-enable --lora-modules-to-save embed_tokens --output-dir ties
reason=$(why 0 "$out" "'step': 6")
grep -q '"ensure_weight_tying": true' ties/adapter_config.json || reason="adapter_config.json: expected ensure_weight_tying"
"$CADTRAIN" inspect ties --json >"$out" 2>"$err"
for tensor in model.embed_tokens lm_head; do grep -q "base_model.model.$tensor.weight" "$out" || reason="expected $tensor in the adapter"; done
run generate --model-name-or-path tied --adapter-name-or-path ties --template "$form" --prompt 'x' --max-new-tokens 2 --json
[ -n "$reason" ] || reason=$(why 0 "$out" '"ids"')
say tied_head "$reason"
sed -i '/ensure_weight_tying/d' ties/adapter_config.json
refused untied_head 4 'ties/adapter_config.json: expected ensure_weight_tying true' generate --model-name-or-path tied --adapter-name-or-path ties --template "$form" --prompt 'x'

cp -r lora other_rank
sed -i 's/"r": 16/"r": 4/' other_rank/adapter_config.json
refused other_shapes 4 'other_rank/adapter_model.safetensors: expected shape \[4, ' generate --model-name-or-path "$model" --adapter-name-or-path other_rank --template "$form" --prompt 'x' --max-new-tokens 2

run push --checkpoint lora --to upload
reason=$(why 0 "$out" 'upload')
for f in adapter_model.safetensors adapter_config.json tokenizer.json README.md SHA256SUMS; do [ -f upload/$f ] || reason="expected $f"; done
(cd upload && sha256sum -c --quiet SHA256SUMS) || reason="SHA256SUMS does not hold"
grep -q 'text-generation' upload/README.md || reason="README.md: expected text-generation"
! grep -rq "$scratch" upload || reason="a folder of this machine: $(grep -rl "$scratch" upload)"
grep -qE '^\| held-out records \| [0-9]+ records: perplexity [0-9.]+ \|$' upload/README.md || reason="README.md: expected how the held-out records went"
! grep -q '^base_model' upload/README.md || reason="README.md: a base that nobody else finds"
say push "$reason"
run push --checkpoint lora --to "it's named" --model-name-or-path ORG/Base
reason=$(why 0 "$out" "^hf upload ORG/NAME 'it'.''s named' \. --private$")
sed -n 2p "it's named/README.md" | grep -qx 'base_model: "ORG/Base"' || reason="README.md: expected the base's name"
grep -qx '| base model | ORG/Base |' "it's named/README.md" || reason="README.md: expected the base's name in the table"
grep -q '"base_model_name_or_path": "ORG/Base",' "it's named/adapter_config.json" || reason="adapter_config.json: expected the base's name"
(cd "it's named" && sha256sum -c --quiet SHA256SUMS) || reason="SHA256SUMS does not hold"
say push_named "$reason"
run push --checkpoint full --to upload_full
reason=$(why 0 "$out" 'hf upload')
grep -qE '^\| held-out records \| .* exact match [0-9.]+ and [0-9.]+, ROUGE-L' upload_full/README.md || reason="README.md: expected figures before and after"
! grep -rlE "canary|$scratch" upload_full >found || reason="a record or a folder of this machine in $(cat found)"
say push_full "$reason"
cp -r lora half && rm half/tokenizer*
refused push_without_tokenizer 4 'expected a tokenizer beside the model' push --checkpoint half --to upload_half
cp lora/tokenizer* half && truncate -s 4000 half/adapter_model.safetensors
refused push_half 4 'half/adapter_model.safetensors' push --checkpoint half --to upload_half
[ ! -e upload_half ] || say push_half_left "a folder is left behind"
if command -v strace >/dev/null && strace -o /dev/null true 2>/dev/null; then
    strace -f -qq -e trace=socket,connect -o calls "$CADTRAIN" push --checkpoint lora --to upload_traced >"$out" 2>"$err"
    grep -E 'AF_INET|connect' calls >used
    reason=
    [ -s used ] && reason="a socket: $(head -n 1 used)"
    [ -f upload_traced/SHA256SUMS ] || reason="expected a folder"
    [ "$(grep -c '^hf upload' "$out")" = 1 ] || reason="expected one upload command"
    say push_opens_no_socket "$reason"
else
    echo "skip ${suite}_push_opens_no_socket strace does not run here"
fi
run export --checkpoint lora --model-name-or-path "$model" --merge --output merged
reason=$(why 0 "$out" '')
run generate --model-name-or-path merged --prompt 'canary-3 pain?' --max-new-tokens 6 --json
cp "$out" of_merged
run generate --model-name-or-path "$model" --adapter-name-or-path lora --prompt 'canary-3 pain?' --max-new-tokens 6 --json
cmp -s "$out" of_merged || reason="the merged model answers otherwise"
say merged "$reason"
run export --checkpoint lora --model-name-or-path elsewhere --merge --output merged_elsewhere
say merged_elsewhere "$(why 0 "$err" 'was trained on other weights than those of elsewhere')"
refused other_task 4 'expected an adapter of a classifier' eval --checkpoint lora --model-name-or-path "$model" --test-file qa.jsonl
refused no_predictions 2 'generate answers questions' predict --checkpoint lora --model-name-or-path "$model" --input qa.jsonl --set task.task_name=sft
run eval --checkpoint lora --model-name-or-path "$model" --test-file qa.jsonl --set task.task_name=sft --template "$form" --max-length 200 --prediction-output-dir scored
reason=$(why 0 "$out" 'perplexity')
grep -q '"perplexity"' scored/metrics.json || reason="metrics.json: expected the perplexity"
say eval "$reason"
refused push_again 2 'expected an empty folder' push --checkpoint lora --to upload

fields() { refused "$1" "$2" "$3" $small --output-dir none --template "$4"; }
fields unknown_field 2 'found \{answer\}' '{question} {answer}'
fields no_response 2 'expected the field \{response\}' '{question}'
refused template_name 2 'medical_reasoning_zh' $small --output-dir none --template medical
echo '{"Question": "q", "Complex_CoT": "c"}' >bare.jsonl
refused no_column 3 'there is no column "Response"' train --model-name-or-path "$model" --train-file bare.jsonl --set task.task_name=sft --template "$form" --output-dir none
echo '{"Question": "q", "Complex_CoT": "", "Response": ""}' >bare.jsonl
refused no_answer 3 'bare.jsonl:1: .* without an answer' train --model-name-or-path "$model" --train-file bare.jsonl --set task.task_name=sft --template "$form" --output-dir none
echo '{"Question": "q", "Complex_CoT": " ", "Response": " \\n"}' >bare.jsonl
refused white_answer 3 'bare.jsonl:1: .* without an answer' train --model-name-or-path "$model" --train-file bare.jsonl --set task.task_name=sft --template "$form" --output-dir none
{ cat qa.jsonl; echo '{"Question": "q", "Complex_CoT": "thought through", "Response": ""}'; } >bare.jsonl
run $small --train-file bare.jsonl --template "$form" --max-steps 1 --skip-test --output-dir reasoning
say reasoning_alone "$(why 0 "$err" 'bare.jsonl: 1 of 17 records have reasoning and an empty response')"
for name in medical_reasoning_en medical_reasoning_zh; do
    run $small --template $name --max-length 400 --max-steps 1 --skip-test --output-dir "$name"
    say "$name" "$(why 0 "$out" "'step': 1")"
done

refused long_prompts 3 'qa.jsonl: expected records with something to learn within max_length 8, found none' $small --template "$form" --set task.completion_only_loss=true --max-length 8 --output-dir none
{ cat qa.jsonl; echo "{\"Question\": \"$(printf '%0300d' 0)\", \"Complex_CoT\": \"c\", \"Response\": \"r\"}"; } >long.jsonl
run $small --train-file long.jsonl --set dataset.validation_split=0 --template "$form" --set task.completion_only_loss=true --max-steps 1 --skip-test --output-dir long
say long_prompt "$(why 0 "$err" '1 of 17 records have nothing to learn: their prompts alone reach max_length 200')"

# A question that is cut is not asked.
refused cut_questions 3 'generate_samples: expected held-out questions below max_length 8' $small --template "$form" --max-length 8 --set task.generate_samples=2 --output-dir none
run $small --train-file long.jsonl --validation-file long.jsonl --template "$form" --max-steps 1 --set task.generate_samples=17 --set task.generate_max_new_tokens=2 --output-dir cut
reason=$(why 0 "$err" '1 held-out questions are not asked, as max_length 200')
[ "$(sed 's/.*"index": \([0-9]*\).*/\1/' cut/predictions/samples.jsonl | sort -n | tr '\n' ' ')" = "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 " ] || reason="samples.jsonl: expected the other records"
say cut_question "$reason"

# Conversations in the folder's own template; every answer of the assistant is learned, nothing else.
cp -r "$model" chatty
printf '{%% for m in messages %%}[{{ m.role }}] {{ m.content | trim }}\n{%% endfor %%}{%% if add_generation_prompt %%}[assistant]{%% endif %%}' >chatty/chat_template.jinja
for i in 1 2 3 4 5 6 7 8; do
    echo "{\"messages\": [{\"role\": \"user\", \"content\": \" pain $i? \"}, {\"role\": \"assistant\", \"content\": \"ECG\"}, {\"role\": \"user\", \"content\": \"and then?\"}, {\"role\": \"assistant\", \"content\": \"rest $((i % 2))\"}]}"
done >turns.jsonl
chat="train --model-name-or-path chatty --set task.task_name=sft --template chat --max-length 200 --learning-rate 3e-3 --logging-steps 1 --evaluation-strategy no --save-strategy no --max-steps 2"
run $chat --train-file turns.jsonl --set task.completion_only_loss=true --set task.generate_samples=1 --set task.generate_max_new_tokens=4 --output-dir turns
reason=$(why 0 "$out" "'step': 2")
run push --checkpoint turns --to upload_turns
grep -q 'm.role' upload_turns/chat_template.jinja || reason="push: expected the chat template"
(cd upload_turns && sha256sum -c --quiet SHA256SUMS && grep -q chat_template.jinja SHA256SUMS) || reason="SHA256SUMS of the chat template does not hold"
say conversations "$reason"
sed 's/"Question": "/"Question": "  /' qa.jsonl | head -n 8 >spaces.jsonl
run $chat --train-file spaces.jsonl --output-dir spaces
say chat "$(why 0 "$out" "'step': 2")"
talks() { echo "{\"messages\": $3}" >one.jsonl; refused "$1" 3 "$2" $chat --train-file one.jsonl --output-dir none; }
talks no_assistant 'one.jsonl:1: column "messages": expected an answer of the assistant, found none' '[{"role": "user", "content": "a"}]'
talks empty_answer 'one.jsonl:1: .*: message 2: expected an answer of the assistant, found an empty one' '[{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]'
talks no_role 'one.jsonl:1: .*: message 1: expected a role and a content' '[{"content": "a"}]'
talks no_list 'one.jsonl:1: column "messages": expected a list of messages' '"a"'
# A last turn of its own: answers are found; earlier answers in other words: they are not.
printf '{%% for m in messages %%}[{{ m.role }}{%% if loop.last %%}, last{%% endif %%}] {{ m.content }}\n{%% endfor %%}{%% if add_generation_prompt %%}[assistant, last]{%% endif %%}' >chatty/chat_template.jinja
run $chat --train-file turns.jsonl --set task.completion_only_loss=true --output-dir changing
say changing_prefix "$(why 0 "$out" "'step': 2")"
printf '{%% for m in messages %%}[{{ m.role }}] {%% if m.role == "assistant" and not loop.last %%}an answer{%% else %%}{{ m.content }}{%% endif %%}\n{%% endfor %%}{%% if add_generation_prompt %%}[assistant]{%% endif %%}' >chatty/chat_template.jinja
refused other_words 3 'turns.jsonl:1: .*: message 2: expected to find where this answer ends' $chat --train-file turns.jsonl --set task.completion_only_loss=true --output-dir none
run $chat --train-file turns.jsonl --output-dir all
say whole_conversations "$(why 0 "$out" "'step': 2")"

! grep -rlE 'canary' "$out" "$err" lora full/log.jsonl full/predictions/metrics.json upload >found 2>&1
say no_records_in_logs "$([ -s found ] && cat found)"
cd "$repository" || exit 1
exit $fails
