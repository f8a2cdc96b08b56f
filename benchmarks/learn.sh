#!/bin/sh
# A small random model learns a synthetic medical question set: exact answers to held-out questions before and after. benchmarks/learn.sh [LEAST PERCENT]
set -eu
cd "$(dirname "$0")/.."
least=${1:-95} program=$(realpath "${CADTRAIN:-build/cadtrain}") questions=$PWD/benchmarks/medical_questions.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" "$questions" questions 2400 200 1
"$program" train --max-steps 1 --skip-test --save-strategy no --output-dir demo >/dev/null # its random model
began=$(date +%s)
"$program" train --model-name-or-path outputs/demo/model --train-file questions/train.jsonl --test-file questions/test.jsonl --validation-split 0 --set task.task_name=sft \
    --template '{question}
{cot}
{response}' --completion-only-loss true --max-length 256 --num-train-epochs 4 --per-device-train-batch-size 16 --per-device-eval-batch-size 32 --learning-rate 3e-3 --lr-scheduler-type cosine \
    --warmup-ratio 0.05 --logging-steps 25 --evaluation-strategy no --save-strategy no --set task.generate_samples=200 --set task.generate_max_new_tokens=40 --output-dir learned
echo "$(($(date +%s) - began)) seconds"
cat learned/predictions/metrics.json
"${PYTHON:-python3}" - "$least" <<'P'
import json
import sys
m = json.load(open('learned/predictions/metrics.json'))
found = 100 * m['after']['exact_match']
print(f"exact match {100 * m['before']['exact_match']:.1f} % before, {found:.1f} % after (at least {sys.argv[1]} %)")
sys.exit(found < float(sys.argv[1]) or m['before']['exact_match'] > 0)
P
