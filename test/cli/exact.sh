#!/bin/sh
# Exact mode: the same atoms give the same bits on every number of ranks, every ZeRO stage, every cut of accumulation and every thread count.
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
make_records "$records" 40

# Twelve micro-batches a step; an epoch of 40 has three full steps and one of four micro-batches.
# same NAME FLAGS… < lines "RANKS STAGE THREADS [FLAG VALUE]": all of them end on the same model
same() {
    name=$1
    shift
    first= reason= runs=0
    while read -r world stage threads more; do
        rm -rf out
        # shellcheck disable=SC2086
        OMP_NUM_THREADS=$threads trained "${name}_run" "$world" out --gradient-accumulation-steps $((12 / world)) --zero-stage "$stage" --max-steps 5 "$@" $more </dev/null || {
            reason="$world ranks, stage $stage: the run failed"
            continue
        }
        found="$(digest out) $(figures out | sha256sum)"
        runs=$((runs + 1))
        first=${first:-$found}
        [ "$found" = "$first" ] || reason="$reason $world ranks, stage $stage, $threads threads $more;"
        [ "$(steps_of out)" = "1 2 3 4 5" ] || reason="$reason steps logged: $(steps_of out);"
    done
    say "$name" "${reason:+of $runs runs these differ from the first: $reason}"
}

same all_parameters <<END
1 0 1
1 2 1
1 3 2
2 0 1
2 2 2
2 3 1
3 0 1
3 2 1
3 3 1
4 0 1
4 2 1
4 3 1
2 3 1 --gradient-checkpointing true
1 0 2
END
same adapter_with_dropout --lora-enable true --lora-r 4 --lora-alpha 8 --lora-dropout 0.2 <<END
1 0 1
1 3 2
2 0 1
2 2 1
3 2 1
3 3 1
4 0 1
4 3 1
2 3 1 --gradient-checkpointing true
END
same bf16 --bf16 true <<END
1 0 1
2 3 2
3 2 1
4 0 1
END
same own_head_dropout --use-custom-binary-head true --head-dropout 0.3 --pooling mean --per-device-train-batch-size 2 <<END
1 0 2
2 2 1
3 3 1
4 0 1
END
same grouped_by_length --group-by-length true --loss-normalization hf --per-device-train-batch-size 2 <<END
1 0 1
1 3 1
END

# A different seed is a different model: the comparison above can fail.
train 1 a --max-steps 2 && train 1 b --max-steps 2 --seed 7
say another_seed_differs "$([ "$(digest a)" != "$(digest b)" ] || echo "the same model")"
exit $fails
