#!/bin/sh
# Rows to ids and back through standard input and output.
. test/cli/checks
data=test/unit/text/data

# feed FILE ARGUMENTS…
feed() {
    from=$1
    shift
    "$CADTRAIN" tokenize "$@" <"$from" >"$out" 2>"$err"
    code=$?
}

cat >"$scratch/texts" <<'END'
{"text": "A 61-year-old man; BMI 27.4, smoker."}
{"text": ""}

{"text": "caf\u00e9 \u4f60\u597d \ud83d\ude42 \"quoted\"\ttab"}
{"text": "  two  spaces  ", "label": 1}
END
for t in llama3 o200k; do # gpt2 puts a space before the text
    feed "$scratch/texts" --tokenizer-name-or-path "$data/$t"
    reason=$(why 0 "$out" '^\{"ids": \[[0-9]')
    [ "$(wc -l <"$out")" = 4 ] || reason="expected 4 rows, found $(wc -l <"$out")"
    [ ! -s "$err" ] || reason="something on standard error"
    say "ids_$t" "$reason"
    cp "$out" "$scratch/ids"
    feed "$scratch/ids" --tokenizer-name-or-path "$data/$t" --decode
    reason=$(why 0 "$out" '^\{"text": "A 61-year-old man; BMI 27.4, smoker."\}$')
    [ "$(sed -n 4p "$out")" = '{"text": "  two  spaces  "}' ] || reason="the fourth row came back as another"
    say "back_$t" "$reason"
done

feed "$scratch/texts" --tokenizer-name-or-path "$data/bert_uncased"
cp "$out" "$scratch/ids"
feed "$scratch/texts" --tokenizer-name-or-path "$data/bert_uncased" --no-special-tokens
reason=$(why 0 "$out" ids)
[ "$(sed -n 2p "$out")" = '{"ids": []}' ] || reason="an empty text has ids without special tokens"
cmp -s "$out" "$scratch/ids" && reason="no special tokens were left out"
say without_special_tokens "$reason"

i=0
while [ $i -lt 9000 ]; do
    i=$((i + 1))
    echo '{"text": "row '$i'"}'
done >"$scratch/many"
feed "$scratch/many" --tokenizer-name-or-path "$data/o200k"
cp "$out" "$scratch/ids"
feed "$scratch/ids" --tokenizer-name-or-path "$data/o200k" --decode
say many_rows "$(cmp -s "$out" "$scratch/many" || echo 'they came back as others')"

# wrong NAME LINE PLACE…: refused at that place without a word of the row
wrong() {
    { head -n 5000 "$scratch/many"; printf '%s\n' "$2"; } >"$scratch/bad"
    name=$1 place=$3
    shift 3
    feed "$scratch/bad" --tokenizer-name-or-path "$data/gpt2" "$@"
    reason=$(why 3 "$err" "standard input:$place: ")
    ! grep -q secret "$err" || reason="the row is quoted"
    say "$name" "$reason"
}
wrong broken_row '{"text": "secret}' '5001:[0-9]+'
wrong no_text '{"note": "secret"}' '5001:1'
wrong text_of_another_kind '{"text": ["secret"]}' '5001:10'
wrong no_row '"secret"' '5001:1'
sed -i 's/"text"/"ids"/; s/"row [0-9]*"/[1]/' "$scratch/many"
wrong id_too_large '{"ids": [1, 99999999]}' '5001:13' --decode
wrong id_no_number '{"ids": [1, "secret"]}' '5001:13' --decode

refused no_tokenizer 2 'tokenizer-name-or-path' tokenize
refused no_such_tokenizer 4 'nowhere' tokenize --tokenizer-name-or-path ./nowhere
exit $fails
