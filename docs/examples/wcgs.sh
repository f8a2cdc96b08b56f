#!/bin/sh
# sh docs/examples/wcgs.sh WCGS_FOLDER MODEL SEED…: text alone, with columns in the head, with the regression as offset; each beside logistic regression on
# the same test rows. What wcgs.py wrote lies in WCGS_FOLDER. CADTRAIN: the program; LAUNCH: before it (mpirun -np 2).
program=${CADTRAIN:-build/cadtrain} folder=$1 model=$2
shift 2
for seed in "$@"; do
    data=$folder/$seed
    for way in text columns offset; do
        case $way in
        text) beside= rate=${RATE:-2e-3} epochs=${EPOCHS:-4} ;;
        columns) beside="--head-columns age,height,weight,sbp,dbp,chol,ncigs,arcus,type_a" rate=2e-4 epochs=2 ;;
        offset) beside="--offset-column score_logistic" rate=2e-4 epochs=2 ;;
        esac
        # shellcheck disable=SC2086
        ${LAUNCH:-} "$program" train --model-name-or-path "$model" --train-file "$data/train.jsonl" --validation-file "$data/validation.jsonl" --test-file "$data/test.jsonl" \
            --num-train-epochs "$epochs" --per-device-train-batch-size 16 --learning-rate "$rate" --warmup-ratio 0.1 --lr-scheduler-type cosine --seed "$seed" \
            --evaluation-strategy epoch --save-strategy epoch --save-total-limit 1 --load-best-model-at-end true --metric-for-best-model auc --report-to jsonl --overwrite-output-dir \
            --output-dir "$data/$way" --prediction-output-dir "$data/$way-scores" $beside >"$data/$way.log" 2>&1 &&
            "$program" report --predictions "$data/$way-scores/predictions.jsonl" --output "$data/$way-report" >>"$data/$way.log" 2>&1 || exit 1
        printf '%s\t%s\t' "$seed" "$way"
        tr -d ' \n' <"$data/$way-report/metrics.json" | sed 's/.*"auc_model":\([0-9.]*\),"auc_score":\([0-9.]*\),"difference":\([-0-9.e]*\),"difference_ci":\[\([-0-9.e]*\),\([-0-9.e]*\)\].*/\1\t\2\t\3\t\4\t\5/'
        echo
    done
done
