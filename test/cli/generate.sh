#!/bin/sh
# Text after a prompt: the same whether prompts are answered together, alone or by several ranks; how an answer ends; what is refused.
. test/cli/checks
cd "$scratch" || exit 1
CADTRAIN_MODEL=$scratch/outputs/demo/model
"$CADTRAIN" train --max-steps 1 --skip-test --save-strategy no --output-dir first >"$out" 2>"$err" || { say model "the demo's model could not be made"; exit 1; }

for text in 'A' 'Age 50, chest pain' 'The record says' '?' 'x y z'; do echo "{\"prompt\": \"$text\"}"; done >prompts.jsonl
go() { run generate --model-name-or-path "$CADTRAIN_MODEL" --max-new-tokens 16 "$@"; }

go --input prompts.jsonl --json
cp "$out" together
reason=$(why 0 "$out" '"prompt": "Age 50, chest pain", "ids": \[')
[ "$(wc -l <together)" = 5 ] || reason="expected 5 lines"
say prompts "$reason"

go --input prompts.jsonl --json --per-device-eval-batch-size 1
cmp -s together "$out" || reason="answers given alone differ"
say alone "$reason"

# Answers are there as soon as those before them: a run that is cut short leaves its first ones.
for i in $(seq 2000); do cat prompts.jsonl; done >many.jsonl
"$CADTRAIN" generate --model-name-or-path "$CADTRAIN_MODEL" --max-new-tokens 16 --input many.jsonl --json >early 2>"$err" &
job=$!
for i in $(seq 300); do [ -s early ] && break; sleep 0.1; done
kill -9 $job && reason= || reason="it had ended before its first answers were seen"
wait $job 2>/dev/null
head -5 early | cmp -s - together || reason="expected the first answers in a run of 10000 that was killed"
say as_they_come "$reason"

ranks 2 generate --model-name-or-path "$CADTRAIN_MODEL" --max-new-tokens 16 --input prompts.jsonl --json --set runtime.zero_stage=3
reason=$(why 0 "$out" '"prompt"')
cmp -s together "$out" || reason="answers of two ranks with divided weights differ"
say ranks "$reason"

go --input prompts.jsonl --json --set runtime.device=emulated
reason=$(why 0 "$out" '"prompt"')
cmp -s together "$out" || reason="the kernels of the GPU, emulated, give other tokens"
say emulated "$reason"

go --prompt 'Age 50' --temperature 0.9 --top-k 40 --top-p 0.95 --min-p 0.001 --repetition-penalty 1.1 --seed 5 --json
cp "$out" drawn
go --prompt 'Age 50' --temperature 0.9 --top-k 40 --top-p 0.95 --min-p 0.001 --repetition-penalty 1.1 --seed 5 --json
reason=$(why 0 "$out" '"ids"')
cmp -s drawn "$out" || reason="the same seed draws another text"
go --prompt 'Age 50' --temperature 0.9 --seed 6 --json
! cmp -s drawn "$out" || reason="another seed draws the same text"
say drawn "$reason"

# What lets one candidate through is greedy, whatever the temperature; a word that was said does not come again where that is dear.
go --prompt 'Age 50' --json
cp "$out" greedy
for one in '--top-k 1' '--top-p 1e-9' '--min-p 1'; do
    # shellcheck disable=SC2086
    go --prompt 'Age 50' --temperature 3 --seed 9 $one --json
    reason=$(why 0 "$out" '"ids"')
    cmp -s greedy "$out" || reason="expected the greedy text"
    say "one_candidate_of${one%% *}" "$reason"
done
go --prompt 'Age 50' --temperature 3 --seed 9 --json
say hot "$(cmp -s greedy "$out" && echo 'expected another text than the greedy one')"
go --prompt 'Age 50' --repetition-penalty 1000 --json
reason=$(why 0 "$out" '"ids"')
[ -z "$(sed 's/.*"ids": \[\([^]]*\)\].*/\1/' "$out" | tr -d ' ' | tr ',' '\n' | sort | uniq -d)" ] || reason="a token twice: $(cat "$out")"
say repetition "$reason"

# Several ends: the first that comes.
ids=$(sed 's/.*"ids": \[\([^]]*\)\].*/\1/; s/,//g' greedy)
third=$(echo "$ids" | cut -d ' ' -f 3)
cp -r "$CADTRAIN_MODEL" ends
printf '{"eos_token_id": [%s, 1]}\n' "$third" >ends/generation_config.json
run generate --model-name-or-path ends --max-new-tokens 16 --prompt 'Age 50' --json
reason=$(why 0 "$out" '"finish_reason": "stop"')
said=$(sed 's/.*"ids": \[\([^]]*\)\].*/\1/; s/,//g' "$out")
case "$ids" in "$said"*) ;; *) reason="expected the beginning of $ids, found $said" ;; esac
[ "$(echo "$said" | wc -w)" -le 3 ] || reason="expected an end at token $third, found $said"
say ends "$reason"

# To the terminal: the same text, piece by piece.
text=$(sed 's/.*"text": "\(.*\)", "finish_reason".*/\1/' greedy)
go --prompt 'Age 50'
reason=$(why 0 "$out" '')
case "$text" in *\\*) ;; *) [ "$(cat "$out")" = "$text" ] || [ "$(cat "$out")" = "Age 50$text" ] || reason="expected the text of the JSON object" ;; esac
if command -v strace >/dev/null && strace -o /dev/null true 2>/dev/null; then
    strace -f -qq -e trace=write -e write=1 -o writes "$CADTRAIN" generate --model-name-or-path "$CADTRAIN_MODEL" --max-new-tokens 16 --prompt 'Age 50' >"$out" 2>"$err"
    [ "$(grep -c 'write(1,' writes)" -ge 5 ] || reason="expected the text in pieces, found $(grep -c 'write(1,' writes)"
fi
say streams "$reason"

go --prompt 'Age 50' --json --set model.load_in_4bit=true
cp "$out" coded
reason=$(why 0 "$out" '"ids"')
go --prompt 'Age 50' --json --set model.load_in_4bit=true --set runtime.device=emulated
[ -n "$reason" ] || reason=$(why 0 "$out" '"ids"')
cmp -s coded "$out" || reason="the kernels of the GPU, emulated, give other tokens from codes"
say codes "$reason"

# Greedy text to the terminal is that of the JSON object; a text that ends it is not printed.
go --prompt 'Age 50' --json
whole=$(sed 's/.*"text": "\(.\).*/\1/' "$out")
go --prompt 'Age 50' --json --stop "$whole"
say stop "$(why 0 "$out" '"text": "", "finish_reason": "stop"')"
go --prompt 'Age 50' --json --stop 'never said' --stop "$whole"
say stops "$(why 0 "$out" '"text": "", "finish_reason": "stop"')"
go --prompt 'Age 50' --json "--stop=$whole" --stop 'never said' never
say stops_of_each_time "$(why 0 "$out" '"text": "", "finish_reason": "stop"')"
# A text that ends the answer is not printed piece by piece either, nor its beginning.
"$CADTRAIN" generate --model-name-or-path "$CADTRAIN_MODEL" --max-new-tokens 16 --temperature 2 --seed 4 --prompt 'Age 50' >drawn 2>"$err"
cut=$(LC_ALL=C tr -cd 'A-Za-z0-9' <drawn | cut -c 3-4)
go --prompt 'Age 50' --temperature 2 --seed 4 --stop "$cut" --json
reason=$(why 0 "$out" '"finish_reason"')
text=$(sed 's/.*"text": "\(.*\)", "finish_reason".*/\1/' "$out")
go --prompt 'Age 50' --temperature 2 --seed 4 --stop "$cut"
case "$text" in *\\*) ;; *) [ "$(cat "$out")" = "$text" ] || reason="expected the text of the JSON object" ;; esac
say streams_to_a_stop "$reason"
n=0
for one in '"eos_token_id": "x"' '"eos_token_id": [1, "x"]' "\"eos_token_id\": [$(seq -s , 65)]"; do echo "{$one}" >ends/generation_config.json; n=$((n + 1)); refused "end_that_is_none_$n" 4 'ends/generation_config.json: eos_token_id: expected' generate --model-name-or-path ends --prompt x; done
go --prompt 'Age 50' --json
say length "$(why 0 "$out" '"finish_reason": "(length|stop)"')"

refused neither 2 'expected --prompt or --input, found neither' generate --model-name-or-path "$CADTRAIN_MODEL"
refused top_p 2 'top-p: expected a number' generate --model-name-or-path "$CADTRAIN_MODEL" --prompt x --top-p 2
refused window 3 'expected fewer tokens than the 512 positions of this model' generate --model-name-or-path "$CADTRAIN_MODEL" --prompt "$(printf '%0600d' 0)"
refused chat 4 'expected a chat_template' generate --model-name-or-path "$CADTRAIN_MODEL" --prompt x --chat
cp -r "$CADTRAIN_MODEL" chatty
printf '{%% for m in messages %%}[{{ m.role }}] {{ m.content | trim }}\n{%% endfor %%}{%% if add_generation_prompt %%}[model]{%% endif %%}' >chatty/chat_template.jinja
talk() { run generate --model-name-or-path chatty --max-new-tokens 4 --json --chat "$@"; }
talk --prompt ' pain? ' --system 'Be brief.'
say system "$(why 0 "$out" '"prompt": "\[system\] Be brief.\\n\[user\] pain\?\\n\[model\]"')"
echo '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]}' >turns.jsonl
talk --input turns.jsonl
say turns "$(why 0 "$out" '"prompt": "\[user\] a\\n\[assistant\] b\\n\[user\] c\\n\[model\]"')"
refused system_alone 2 'expected --chat with it' generate --model-name-or-path chatty --prompt x --system y
echo '{"messages": [{"content": "a"}]}' >turns.jsonl
refused no_role 3 'turns.jsonl:1: column "messages": expected a list of messages' generate --model-name-or-path chatty --chat --input turns.jsonl
refused adapter 4 'expected an adapter of a language model' generate --model-name-or-path "$CADTRAIN_MODEL" --adapter-name-or-path "$OLDPWD/test/golden/lora" --prompt x
cp -r "$CADTRAIN_MODEL" other
sed -i 's/"special": true}\]/"special": true}, {"id": 258, "content": "<far>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false}]/' other/tokenizer.json
refused tokenizer 4 'tokenizer in other: expected ids below 258 .*, found ids up to 258' generate --model-name-or-path other --prompt 'x<far>'
exit $fails
