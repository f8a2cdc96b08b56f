#!/bin/sh
# Files that cadtrain wrote give the logits and ids that Transformers and PEFT computed from them (test/golden/README.md says how).
. test/cli/checks
golden=$PWD/test/golden
cd "$scratch" || exit 2

# near FILE: nothing when the logits of pred/predictions.jsonl are those of FILE to within 3e-5 x max(1, |logit|); else the reason.
# A logit is a sum of a few hundred fp32 products deep in a chain of ten; the libraries differ among themselves by some 1e-6.
near() {
    sed 's/.*"logits": \[\([^]]*\)\].*/\1/; s/,//g' pred/predictions.jsonl | paste -d ' ' - "$1" | awk '
        NF != 4 { print "line " NR ": expected two logits on both sides"; exit }
        { for (i = 1; i <= 2; i++) {
              d = $i - $(i + 2); size = $(i + 2)
              if (d < 0) d = -d
              if (size < 0) size = -size
              if (size < 1) size = 1
              if (!(d <= 3e-5 * size)) { print "record " NR - 1 ": expected " $(i + 2) ", found " $i; exit }
              rows++
          } }
        END { if (rows != 24) print "expected 12 records, found " rows / 2 }' | head -n 1
}

# scored NAME FILE ARGUMENTS…: cadtrain eval gives the logits of FILE
scored() {
    name=$1 want=$2
    shift 2
    rm -rf pred
    run eval --test-file "$golden/records.json" --max-length 96 --prediction-output-dir pred "$@"
    reason=$(why 0 "$out" auc)
    [ -n "$reason" ] || reason=$(near "$want")
    say "$name" "$reason"
}

scored model "$golden/full.logits" --checkpoint "$golden/full"
scored adapter "$golden/lora.logits" --checkpoint "$golden/lora" --model-name-or-path "$golden/full"
run export --checkpoint "$golden/lora" --model-name-or-path "$golden/full" --output merged --merge
say export "$(why 0 "$out" merged)"
scored merged "$golden/lora.logits" --checkpoint merged

sed -n 's/^ *"input": /{"text": /; s/^\({"text": .*\),$/\1}/p' "$golden/records.json" |
    "$CADTRAIN" tokenize --tokenizer-name-or-path "$golden/full" >ids.jsonl 2>"$err"
say ids "$(cmp ids.jsonl "$golden/ids.jsonl" 2>&1)"
exit $fails
