#!/bin/sh
# What a folder or file holds.
. test/cli/checks

run inspect test/unit/text/data/gpt2
say tokenizer "$(why 0 "$out" 'sha256 +[0-9a-f]{64}')"
run inspect test/unit/text/data/gpt2/tokenizer.json --json
say tokenizer_json "$(why 0 "$out" '^\{"path": .*"kind": "tokenizer".*\}$')"

weights() { # BYTE: two tensors; the last byte of the second is given in octal
    printf '\202\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"norm.weight":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]}}         '
    printf '\0\0\200\077\0\0\0\0\200\077\0\0\200%b' "\\0$1"
}
weights 077 >"$scratch/one.safetensors"
weights 076 >"$scratch/two.safetensors"
run inspect "$scratch/one.safetensors"
reason=$(why 0 "$out" '^  norm.weight BF16 \[3\] [0-9a-f]{32}$')
grep -qE '^elements +5$' "$out" || reason="expected 5 elements"
say safetensors "$reason"
grep norm.weight "$out" >"$scratch/first"
grep -E '^  a ' "$out" >"$scratch/other"
run inspect "$scratch/two.safetensors"
reason=
! grep -qxF "$(cat "$scratch/first")" "$out" || reason="another byte, the same digest"
grep -qxF "$(cat "$scratch/other")" "$out" || reason="the same bytes, another digest"
say digests "$reason"

mkdir "$scratch/checkpoint"
echo '{"step": 3}' >"$scratch/checkpoint/trainer_state.json"
digest=$(sha256sum <"$scratch/checkpoint/trainer_state.json" | cut -c1-64)
printf '{"files": {"trainer_state.json": {"size": 12, "sha256": "%s"}}}\n' "$digest" >"$scratch/checkpoint/manifest.json"
run inspect "$scratch/checkpoint"
say manifest "$(why 0 "$out" '^  trainer_state.json intact')"
echo '{"step": 4}' >"$scratch/checkpoint/trainer_state.json"
run inspect "$scratch/checkpoint"
say damaged "$(why 5 "$out" '^  trainer_state.json damaged')"
rm "$scratch/checkpoint/trainer_state.json"
run inspect "$scratch/checkpoint"
say lost "$(why 5 "$out" '^  trainer_state.json missing')"
refused nothing 4 'nowhere: expected a file or a directory' inspect "$scratch/nowhere"
mkdir "$scratch/empty"
refused empty 4 'found none of config.json' inspect "$scratch/empty"
printf 'no weights' >"$scratch/broken.safetensors"
refused broken 4 'broken.safetensors' inspect "$scratch/broken.safetensors"
exit $fails
