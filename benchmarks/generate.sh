#!/bin/sh
# Greedy generation of one prompt beside Transformers' generate in the same run: benchmarks/generate.sh [135m|0.5b …]
# PYTHON: an interpreter with torch and transformers; CADTRAIN: the program; TOKENS: how many.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} program=${CADTRAIN:-build/cadtrain} tokens=${TOKENS:-64}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prompt='A person of sixty years has had chest pain on effort for three weeks and smokes. What is the next step?'
for shape in "${@:-135m}"; do
    "$python" benchmarks/generate_peer.py make "$work/$shape" "$shape" test/golden/full >/dev/null 2>&1
    for round in 1 2 3; do
        "$python" benchmarks/generate_peer.py run "$work/$shape" "$prompt" "$tokens" bf16 2>/dev/null | sed "s/^.*tokens_per_second\": \([0-9.]*\).*/$shape round $round: transformers bf16 \1 tokens\/s/"
        for dtype in --bf16 "--bf16 false"; do
            "$program" generate --model-name-or-path "$work/$shape" --prompt "$prompt" --max-new-tokens "$tokens" $dtype --json 2>&1 >/dev/null | sed "s/^cadtrain:/$shape round $round: cadtrain $dtype/"
        done
    done
done
