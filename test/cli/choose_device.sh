#!/bin/sh
# Devices are chosen so that no two ranks compute on one GPU by mistake; what does not fit is said before the first step. The emulated grid
# plays the GPUs: CADTRAIN_EMULATED_GPU names the one that a rank is on, CADTRAIN_EMULATED_GPUS says how many the machine has.
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
make_records "$records" 8
set -- --max-length 16 --per-device-train-batch-size 1 --max-steps 1 --device emulated

# expect NAME CODE PATTERN: of the run in $log, which ended with $code
expect() {
    reason=
    [ "$code" = "$2" ] || reason="exit code: expected $2, found $code;"
    grep -q -- "$3" "$log" || reason="$reason no '$3'"
    say "$1" "$reason"
}

train 2 apart "$@"
code=$?
expect ranks_with_a_device_each_use_nccl 0 "Units travel by NCCL's stand-in"
expect and_sum_fast 0 'reduction fast'

CADTRAIN_EMULATED_GPU=A CADTRAIN_EMULATED_GPUS=1 train 2 few "$@"
code=$?
expect too_few_gpus_are_shared 0 'ranks share a GPU: NCCL cannot serve them'
expect and_units_go_through_the_host 0 'Units travel by MPI, through host memory'

CADTRAIN_EMULATED_GPU=A CADTRAIN_EMULATED_GPUS=2 train 2 mistake "$@"
code=$?
expect two_ranks_on_one_of_several_gpus_are_refused 2 'ranks 0 and 1 are on one GPU (emulated), although the machine has 2 for its 2 ranks'
expect and_advised 2 'CADTRAIN_SHARE_GPU=1'
[ "$(grep -c 'error:' "$log")" -le 2 ] || say one_sentence "$(grep -c error: "$log") sentences"

CADTRAIN_EMULATED_GPU=A CADTRAIN_EMULATED_GPUS=2 CADTRAIN_SHARE_GPU=1 train 2 purpose "$@"
code=$?
expect sharing_on_purpose_works 0 'through host memory'

CADTRAIN_EMULATED_MEMORY=1000000 train 1 small "$@"
code=$?
expect what_does_not_fit_is_said_at_once 2 'memory: expected a plan of at most 1.0 MiB a rank, found one of'

CADTRAIN_EMULATED_MEMORY=36000000 train 1 small "$@" --max-length 64 --per-device-train-batch-size 64
code=$?
expect and_what_would_fit 2 'these fit: .*per_device_train_batch_size 1'

CADTRAIN_EMULATED_MEMORY=2000000000 train 1 large "$@"
code=$?
expect memory_of_others_is_told 0 'Device memory (MiB): .* ours as planned'

# Device memory that is over on the last rank only, after so many blocks of it: in the sharding, in the model, behind it.
flags="train --model-name-or-path $model --train-file $records --validation-split 0 --learning-rate 1e-3 --save-strategy no --evaluation-strategy no --skip-test --report-to none
    --zero-stage 3 $*"
for blocks in 1 24 57; do
    others=$((1 + (blocks == 24)))
    began=$(now_ms)
    # shellcheck disable=SC2086
    mpirun -np $others "$cadtrain" $flags --output-dir full : -np 1 env CADTRAIN_EMULATED_ALLOCATIONS=$blocks "$cadtrain" $flags --output-dir full >"$log" 2>&1
    code=$?
    took=$(($(now_ms) - began))
    reason=
    [ $code = 6 ] || reason="exit code: expected 6, found $code;"
    [ "$(grep -c '^cadtrain: error:' "$log")" = 1 ] && grep -q "^cadtrain: error: rank $others: out of device memory: [a-z, ]* needs" "$log" || reason="$reason not one sentence of rank $others;"
    [ $took -lt 20000 ] || reason="$reason it took $took ms;"
    say "no_device_memory_on_one_rank_after_$blocks" "$reason"
done

CADTRAIN_NCCL_FAULT=async:1:5 train 2 broken "$@"
code=$?
expect a_failure_of_nccl_ends_all_ranks 70 'rank 1.*NCCL.*remote process exited'
exit $fails
