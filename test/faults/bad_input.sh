#!/bin/sh
# Wrong input: the exit code of its kind and one sentence that says where and what, alone and on two ranks, within ten seconds; earlier files stay as
# they are, and no text of a record is printed. SAYS=1 shows the sentences. bad_input.sh [WORD]: only cases with WORD in their name.
only=$1
. ./test/tools/e2e.sh
make_model
whole=$model
rows=$scratch/rows.jsonl
make_records "$rows" 24
model=$whole records=$rows
train 1 earlier --max-steps 2 --save-strategy steps --save-steps 1 || say earlier "the run before failed"
touch "$log.before" "$log.after"

# Each case works on fresh copies: $model, $records (JSONL).
fresh() {
    rm -rf m in.* && cp -r "$whole" m && cp "$rows" in.jsonl
    model=m records=in.jsonl
}

everything() { find earlier m in.* -type f -exec sha256sum {} + 2>/dev/null | sort; }

# judge CODE: the last run against `$code_wanted` and the words of the place
judge() {
    ours=$(grep -c '^cadtrain: error: ' "$log")
    echo "$1" | grep -qxE "$want" || echo "exit code: expected $want, found $1;"
    [ "$ours" = 1 ] || echo "expected one line 'cadtrain: error:', found $ours;"
    grep '^cadtrain: error: ' "$log" | grep -qE -- "$place" || echo "the sentence does not say '$place';"
    [ "$took" -lt 10000 ] || echo "it took $took ms;"
    grep -qF $canary "$log" && echo "text of a record is printed;"
    cmp -s "$log.before" "$log.after" || echo "files were changed: $(diff "$log.before" "$log.after" | grep '^[<>]' | sed 's/.* //' | sort -u | head -n 3 | tr '\n' ' ');"
}

# bad NAME CODE PLACE FLAGS…: PLACE is what the sentence must match (an extended regular expression). OUT holds an earlier run that may be overwritten.
bad() {
    name=$1 want=$2 place=$3
    shift 3
    reason=
    case $name in *"$only"*) ;; *) fresh && return ;; esac
    everything >"$log.before"
    for world in 1 2; do
        from=$(now_ms)
        train $world earlier --max-steps 2 --overwrite-output-dir true "$@"
        code=$?
        took=$(($(now_ms) - from))
        everything >"$log.after"
        [ -z "$SAYS" ] || grep -A 2 '^cadtrain: error' "$log" | sed 's/^/  # /'
        found=$(judge $code | tr '\n' ' ')
        [ -z "$found" ] || reason="$reason on $world: $found"
    done
    say "bad_$name" "$reason"
    fresh
}

config() { sed "$1" "$whole/config.json" >m/config.json; }
row() { sed "$1" "$rows" >in.jsonl; }

# header_of FILE: its JSON. rebuild FILE: header from stdin, tensor data of FILE.
header_size() { od -An -tu8 -N8 "$1" | tr -d ' '; }
header_of() { dd if="$1" bs=8 skip=1 status=none | head -c "$(header_size "$1")"; }
rebuild() {
    cat >header
    n=$(size_of header)
    for i in 0 8 16 24 32 40 48 56; do printf "\\$(printf '%03o' $((n >> i & 255)))"; done >rebuilt
    cat header >>rebuilt
    tail -c +$(($(header_size "$1") + 9)) "$1" >>rebuilt
    mv rebuilt "$1"
}
tensors=m/model.safetensors
header() { header_of "$whole/model.safetensors" | sed "$1" | rebuild $tensors; }

fresh
# ---- model: 4 ----
rm -r m
bad model_missing 4 '(^|[^a-z])m(:| |/|").*' --model-name-or-path m
rm m/config.json
bad config_missing 4 'm/config\.json'
rm m/config.json && mkdir m/config.json
bad config_unreadable 4 'm/config\.json'
head -c 200 "$whole/config.json" >m/config.json
bad config_truncated 4 'm/config\.json:[0-9]+:[0-9]+'
config 's/"hidden_size": 64/"hidden_size": 64 64/'
bad config_not_json 4 'm/config\.json:[0-9]+:[0-9]+'
config 's/"hidden_size": 64/"hidden_size": "wide"/'
bad config_wrong_type 4 'm/config\.json.*hidden_size|hidden_size.*m/config\.json'
config '/"hidden_size"/d'
bad config_key_missing 4 'model\.embed_tokens\.weight in m/model\.safetensors: expected .*found'
config 's/"num_attention_heads": 4/"num_attention_heads": 0/'
bad config_no_heads 4 'm/config\.json.*num_attention_heads|num_attention_heads.*m/config\.json'
config 's/"hidden_size": 64/"hidden_size": 4611686018427387904/'
bad config_absurd_size 4 'm/config\.json.*hidden_size|hidden_size.*m/config\.json'
config 's/"model_type": "llama"/"model_type": "perceptron"/'
bad config_unknown_family 4 'm/config\.json.*perceptron|perceptron.*m/config\.json'
config 's/"hidden_act": "silu"/"hidden_act": "sinus"/'
bad config_unknown_activation 4 'm/config\.json.*sinus|sinus.*m/config\.json|hidden_act'
printf '{"hidden_size": 64, "hidden_size": 64}' >m/config.json
bad config_key_twice 4 'm/config\.json:[0-9]+:[0-9]+.*hidden_size'

rm $tensors
bad tensors_missing 4 'm.*(safetensors|weights)'
rm $tensors && mkdir $tensors
bad tensors_unreadable 4 'm.*expected model\.safetensors'
: >$tensors
bad tensors_empty 4 'm/model\.safetensors'
truncate -s 100 $tensors
bad tensors_header_cut 4 'm/model\.safetensors'
truncate -s -4 $tensors
bad tensors_truncated 4 'm/model\.safetensors'
printf '\0\0\0\0' >>$tensors
bad tensors_trailing_bytes 4 'm/model\.safetensors'
put_bytes $tensors 0 377 377 377 377 377 377 377 177
bad tensors_header_length 4 'm/model\.safetensors'
put_bytes $tensors 8 133
bad tensors_header_not_json 4 'm/model\.safetensors'
header 's/"data_offsets": \[0, \([0-9]*\)\]/"data_offsets": [\1, 0]/'
bad tensors_offsets_backwards 4 'm/model\.safetensors'
header 's/"data_offsets": \[66048, 66304\]/"data_offsets": [65792, 66048]/'
bad tensors_overlap 4 'm/model\.safetensors'
header 's/"F32"/"F99"/'
bad tensors_unknown_dtype 4 'm/model\.safetensors.*F99|F99.*m/model\.safetensors'
header 's/"shape": \[258, 64\]/"shape": [64, 258]/'
bad tensors_wrong_shape 4 'embed_tokens.*expected shape \[258, 64\], found \[64, 258\]'
header 's/model\.norm\.weight/model.other.weight/'
bad tensors_missing_tensor 4 'model\.norm\.weight'
header 's/model\.layers\.1\.input_layernorm\.weight/model.layers.0.input_layernorm.weight/'
bad tensors_name_twice 4 'm/model\.safetensors'

rm m/tokenizer.json
bad tokenizer_missing 4 'tokenizer\.json'
rm m/tokenizer.json && mkdir m/tokenizer.json
bad tokenizer_unreadable 4 'm/tokenizer\.json'
head -c 3000 "$whole/tokenizer.json" >m/tokenizer.json
bad tokenizer_truncated 4 'm/tokenizer\.json:[0-9]+:[0-9]+'
sed 's/"BPE"/"ABC"/' "$whole/tokenizer.json" >m/tokenizer.json
bad tokenizer_unknown_kind 4 'm/tokenizer\.json.*ABC|ABC.*m/tokenizer\.json'
sed 's/"A" *: *[0-9]*/"A": -3/' "$whole/tokenizer.json" >m/tokenizer.json
bad tokenizer_negative_id 4 'm/tokenizer\.json'
sed 's/"a" *: *[0-9]*/"a": 100000/' "$whole/tokenizer.json" >m/tokenizer.json
bad tokenizer_of_another_model 4 'tokenizer|m/'

# ---- data: 3 ----
bad data_missing 3 'nowhere\.jsonl' --train-file nowhere.jsonl
mkdir in.dir
bad data_a_folder 3 'in\.dir' --train-file in.dir
row '7s/"output": /"output" /'
bad data_bad_json 3 'in\.jsonl:7:[0-9]+'
row '9s/, "site".*//'
bad data_cut_row 3 'in\.jsonl:9:[0-9]+'
row '5s/age/\xff\xfe/'
bad data_invalid_utf8 3 'in\.jsonl:5:[0-9]+'
printf '{"input": "%sx", "output": 1}\n' $canary >>in.jsonl && printf '["%sy", 0]\n' $canary >>in.jsonl
bad data_row_not_a_table 3 'in\.jsonl:26'
: >in.jsonl
bad data_empty 3 'in\.jsonl'
bad data_no_such_column 3 'in\.jsonl.*column.*outcome.*output' --label-column outcome
bad data_no_such_text_column 3 'in\.jsonl.*column.*text' --input-column text
row '8s/"output": [01], //'
bad data_label_missing 3 'in\.jsonl:8.*output'
row '8s/"output": [01]/"output": 2/'
bad data_label_2 3 'in\.jsonl:8.*output'
row "8s/\"output\": [01]/\"output\": \"$canary\"/"
bad data_label_text 3 'in\.jsonl:8.*output'
row "8s/\"input\": \"[^\"]*\"/\"input\": [\"$canary\"]/"
bad data_text_not_a_text 3 'in\.jsonl:8.*input'
row 's/"output": 1/"output": 0/'
bad data_no_positives_to_repeat 3 'in\.jsonl.*(label|class)' --set dataset.oversampling.enabled=true --set dataset.oversampling.target_label=1 --set dataset.oversampling.repeat_times=4
row 's/"output": 1/"output": 0/'
bad data_one_class 3 'in\.jsonl.*class'
{ echo 'input,output'; echo "\"$canary a\",1"; echo "\"$canary b,0"; } >in.csv
bad data_csv_open_quote 3 'in\.csv:3' --train-file in.csv
{ echo 'input,output'; echo "$canary a,1"; echo "$canary b,0,9"; } >in.csv
bad data_csv_too_many_columns 3 'in\.csv:3' --train-file in.csv
echo 'input,output' >in.csv
bad data_csv_no_rows 3 'in\.csv' --train-file in.csv
{ echo '[{"input": "'$canary' a", "output": 1},'; echo '{"input": "'$canary' b" "output": 0}]'; } >in.json
bad data_json_array 3 'in\.json:2:[0-9]+' --train-file in.json
cp in.jsonl in.validation.jsonl && sed '3s/"output": [01]/"output": 7/' in.jsonl >in.validation.jsonl
bad data_validation_file 3 'in\.validation\.jsonl:3' --validation-file in.validation.jsonl
printf '\037\213\010\000broken' >in.jsonl.gz
bad data_broken_gzip 3 'in\.jsonl\.gz' --train-file in.jsonl.gz

# ---- usage: 2 ----
bad usage_unknown_flag 2 'learning-rat.*learning-rate' --learning-rat 1e-3
bad usage_wrong_type 2 'max-steps' --max-steps many
bad usage_out_of_range 2 'lora-dropout|lora_dropout' --lora-dropout 1.5
bad usage_no_such_file 2 'nowhere\.yaml' --config nowhere.yaml
printf 'training:\n  learning_rate: 1e-3\n  learning_rate: 1e-4\n' >in.yaml
bad usage_key_twice 2 'in\.yaml:3:[0-9]+.*learning_rate' --config in.yaml
printf 'training: &a {learning_rate: *a}\n' >in.yaml
bad usage_yaml_alias 2 'in\.yaml:1:[0-9]+' --config in.yaml
touch in.file
bad usage_output_is_a_file '[26]' 'in\.file' --output-dir in.file

# ---- checkpoint: 5; an output directory that holds another run: 2 ----
bad checkpoint_missing 5 'nowhere' --resume-from-checkpoint nowhere
mkdir -p in.empty && bad checkpoint_empty_folder 5 'in\.empty' --resume-from-checkpoint in.empty
cp -r earlier/checkpoint-1 in.flipped && flip in.flipped/state.h5 2048
bad checkpoint_flipped_byte 5 'in\.flipped/state\.h5.*expected.*found' --resume-from-checkpoint in.flipped
cp -r earlier/checkpoint-1 in.other && bad checkpoint_of_another_method 5 'in\.other/state\.h5' --resume-from-checkpoint in.other --lora-enable true
bad output_holds_a_run 2 'earlier' --overwrite-output-dir false
mkdir in.foreign && echo mine >in.foreign/config.json
bad output_holds_another_programs_model 2 'in\.foreign.*config\.json' --output-dir in.foreign
mkdir in.notes && echo mine >in.notes/thesis.txt
bad output_holds_foreign_files 2 'in\.notes.*thesis\.txt' --output-dir in.notes --overwrite-output-dir false
bad output_has_the_model 2 'm' --output-dir m

# A file that its owner may not read; root may read everything.
if [ "$(id -u)" = 0 ]; then
    echo "skip bad_unreadable_files root may read everything"
else
    chmod 000 m/config.json
    bad config_forbidden 4 'm/config\.json'
    chmod 000 in.jsonl
    bad data_forbidden 3 'in\.jsonl'
    mkdir in.closed && chmod 500 in.closed
    bad output_forbidden 6 'in\.closed' --output-dir in.closed/out
fi
exit $fails
