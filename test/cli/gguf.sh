#!/bin/sh
# A model leaves as a GGUF file, and such a file stands for a directory.
. test/cli/checks
golden=$PWD/test/golden
cd "$scratch" || exit 2

# near A B: nothing when the embeddings of two files agree to 16 x 2^-11 (the rounding of F16) of the largest; else the reason.
near() {
    sed 's/.*"embedding": *\[\([^]]*\)\].*/\1/; s/,/ /g' "$1" >a.txt
    sed 's/.*"embedding": *\[\([^]]*\)\].*/\1/; s/,/ /g' "$2" | paste -d ' ' a.txt - | awk '
        NF < 4 || NF % 2 { print "line " NR ": expected as many numbers on both sides"; exit }
        { most = 0
          for (i = 1; i <= NF / 2; i++) if ($i > most || -$i > most) most = $i < 0 ? -$i : $i
          for (i = 1; i <= NF / 2; i++) {
              d = $i - $(i + NF / 2)
              if (d < 0) d = -d
              if (!(d <= 16 / 2048 * most)) { print "line " NR ": expected " $i ", found " $(i + NF / 2); exit }
          } }
        END { if (NR != 12) print "expected 12 lines, found " NR }' | head -n 1
}

sed -n 's/^ *"input": /{"text": /; s/^\({"text": .*\),$/\1}/p' "$golden/records.json" >texts.jsonl
run export --checkpoint "$golden/full" --output f16 --format gguf
reason=$(why 0 "$err" 'classification head')
[ -f f16/model-f16.gguf ] && [ -f f16/head.safetensors ] || reason="expected model-f16.gguf and head.safetensors"
say export "$reason"
run export --checkpoint "$golden/lora" --model-name-or-path "$golden/full" --output q8 --merge --format gguf --gguf-type q8_0
reason=$(why 0 "$out" q8)
[ "$(ls q8 | tr '\n' ' ')" = "head.safetensors model-q8_0.gguf " ] || reason="found in q8: $(ls q8 | tr '\n' ' ')"
say merged "$reason"
run inspect q8
say inspect "$(why 0 "$out" '^  blk.0.attn_q.weight +F16 \[24, 24\]')"

"$CADTRAIN" tokenize --tokenizer-name-or-path f16/model-f16.gguf <texts.jsonl >ids.jsonl 2>"$err"
say ids "$(cmp ids.jsonl "$golden/ids.jsonl" 2>&1)"
run embed --model-name-or-path "$golden/full" --input texts.jsonl --pooling last
cp "$out" want.jsonl
run embed --model-name-or-path f16 --input texts.jsonl --pooling last
reason=$(why 0 "$out" embedding)
say embed "${reason:-$(near want.jsonl "$out")}"

run train --model-name-or-path f16/model-f16.gguf --train-file "$golden/records.json" --validation-split 0 --max-length 64 --max-steps 2 --lora-enable true --save-strategy no \
    --evaluation-strategy no --skip-test --report-to none --output-dir tuned
reason=$(why 0 "$out" 'trainable params')
[ -f tuned/tokenizer.json ] && [ -f tuned/tokenizer_config.json ] && [ -f tuned/adapter_model.safetensors ] || reason="${reason:-expected an adapter and a tokenizer in tuned}"
say train "$reason"
"$CADTRAIN" tokenize --tokenizer-name-or-path tuned <texts.jsonl >ids.jsonl 2>"$err"
say tokenizer_kept "$(cmp ids.jsonl "$golden/ids.jsonl" 2>&1)"
run eval --checkpoint tuned --test-file "$golden/records.json" --max-length 64 --prediction-output-dir pred
say eval "$(why 0 "$out" auc)"

refused type 2 'gguf-type: expected f16 or q8_0' export --checkpoint "$golden/full" --output x --format gguf --gguf-type q4
refused type_alone 2 'gguf-type: expected --format gguf' export --checkpoint "$golden/full" --output x --gguf-type f16
refused adapter 2 'merge folds it' export --checkpoint "$golden/lora" --output x --format gguf
head -c 3000 f16/model-f16.gguf >cut.gguf
refused cut 4 'cut.gguf: expected' inspect cut.gguf
exit $fails
