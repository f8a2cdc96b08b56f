#!/bin/sh
# Greedy generation of one prompt beside Transformers' generate in the same run: benchmarks/generate.sh [135m|0.5b …]
# PYTHON: an interpreter with torch and transformers; CADTRAIN: the program; TOKENS: how many; ROUNDS: how often, in turn; RUN: what stands before each command.
# The prompt has about as many tokens as a question of twenty words has with a real tokenizer; this one knows bytes alone.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} program=${CADTRAIN:-build/cadtrain} tokens=${TOKENS:-64}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prompt='Chest pain on effort: why?'
ours() { # NAME FLAGS…
    name=$1
    shift
    ${RUN:-} "$program" generate --model-name-or-path "$work/$shape" --prompt "$prompt" --max-new-tokens "$tokens" --bf16 "$@" --json 2>&1 >/dev/null | sed -n "s/.*: \([0-9.]*\) tokens\/s.*/$shape $name \1/p" >>"$work/figures"
}
for shape in "${@:-135m}"; do
    "$python" benchmarks/generate_peer.py make "$work/$shape" "$shape" test/golden/full >/dev/null 2>&1
    round=0
    while [ $((round += 1)) -le "${ROUNDS:-3}" ]; do
        ${RUN:-} "$python" benchmarks/generate_peer.py run "$work/$shape" "$prompt" "$tokens" bf16 2>/dev/null | sed "s/^.*tokens_per_second\": \([0-9.]*\).*/$shape peer \1/" >>"$work/figures"
        ours bf16
        ours nf4 --set model.load_in_4bit=true
    done
done
# The middle of the rounds, and its ratio to the peer's.
sort -k1,1 -k2,2 -k3,3n "$work/figures" | awk '{ k = $1 " " $2; v[k, ++n[k]] = $3 } END { for (k in n) { split(k, w, " "); m = v[k, int((n[k] + 1) / 2)]; p = w[1] " peer"; printf "%s %s tokens/s, %.2f times the peer\n", k, m, m / v[p, int((n[p] + 1) / 2)] } }' | sort
