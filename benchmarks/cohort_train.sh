#!/bin/sh
# cohort_train.sh [PEOPLE [ROWS]]: the whole way on synthetic people (default 500000): extracts, prepare, LoRA of a small model on ROWS of the training split (default 20000),
# its AUC beside the best that can be reached, and whether explain finds the fields in the order of the risk function (Spearman). One JSON object.
set -eu
cd "$(dirname "$0")/.."
. ./jobs/setup.sh
setup_mpi
: "${BUILD:=build}" "${PROGRAM:=$PWD/$BUILD/cadtrain}" "${WORK:=$BUILD/benchmarks/way}" "${NP:=2}"
export OMP_NUM_THREADS=1
people=${1:-500000} rows=${2:-20000}
mkdir -p "$WORK"
WORK=$(cd "$WORK" && pwd)
here=$PWD
seconds() { date +%s.%N; }
since() { echo "$(seconds) $1" | awk '{ printf "%.1f", $1 - $2 }'; }

cd "$WORK"
"$PROGRAM" train --max-steps 1 --evaluation-strategy no --save-strategy no --skip-test --max-length 16 --output-dir base >log 2>&1 # the demo's model, of random weights
began=$(seconds)
"$PROGRAM" synth --output people --people "$people" --seed 1 >>log
synth=$(since "$began") began=$(seconds)
"$PROGRAM" prepare --config people/cohort.yaml --set cohort.columns=all --set cohort.fields="$here/configs/demo/fields.yaml" --set cohort.template="{record} CAD?" >>log
prepare=$(since "$began") began=$(seconds)
private=people/prepared/private
for part in train validation test; do head -n "$([ $part = train ] && echo "$rows" || echo 20000)" $private/$part.jsonl >$part.jsonl; done # rows stand in the order of salted ids: by chance
mpirun -np "$NP" "$PROGRAM" train --model-name-or-path outputs/demo/model --train-file train.jsonl --validation-file validation.jsonl --test-file test.jsonl --head-columns 'value_*' \
    --lora-enable true --lora-r 8 --learning-rate 3e-4 --num-train-epochs 1 --per-device-train-batch-size 32 --per-device-eval-batch-size 64 --warmup-ratio 0.1 --lr-scheduler-type cosine \
    --evaluation-strategy no --save-strategy no --logging-steps 50 --overwrite-output-dir --output-dir lora --prediction-output-dir scores >>log 2>&1
train=$(since "$began") began=$(seconds)
"$PROGRAM" explain --checkpoint lora --input test.jsonl --rows 300 --set cohort.fields="$here/configs/demo/fields.yaml" --output explained >>log 2>&1
explain=$(since "$began")
auc=$(sed -n 's/^ *"auc": \([0-9.]*\).*/\1/p' scores/metrics.json | head -n 1)
best=$(sed -n 's/^ *"best_reachable_auc": \([0-9.]*\).*/\1/p' people/truth.json)
# The fields of the risk function by what they do in truth and by explain; ranks, and Pearson's correlation of the ranks.
sed -n '/"importance"/,/}/s/^ *"\([a-z_]*\)": \([0-9.e-]*\),*$/\1 \2/p' people/truth.json | sort >true
tr -d ' \n' <explained/importance.json | sed 's/{"field":"/\n/g' | sed -n 's/^\([a-z_]*\)","gradients_abs":\([0-9.e-]*\),.*/\1 \2/p' | sort >found
join true found | sort -k2,2g | awk '{ print NR, $0 }' | sort -k4,4g | awk '{ n++; d = $1 - n; s += d * d } END { printf "%.3f", 1 - 6 * s / (n * (n * n - 1)) }' >spearman
printf '{"people": %d, "synth_seconds": %s, "prepare_seconds": %s, "rows": %d, "train_seconds": %s, "explain_seconds": %s, "auc": %s, "best_reachable_auc": %s, "share_of_best": %s, "fields": %d, "spearman": %s}\n' \
    "$people" "$synth" "$prepare" "$rows" "$train" "$explain" "$auc" "$best" "$(echo "$auc $best" | awk '{ printf "%.4f", $1 / $2 }')" "$(join true found | wc -l)" "$(cat spearman)"
