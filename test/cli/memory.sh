#!/bin/sh
# The plan is the allocator: what `plan` says is what a run takes, to the byte; and after the first step nothing is allocated.
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
make_records "$scratch/short.jsonl" 40
sed 's/", "output"/ and a long history of much that fills the whole of the sequence", "output"/' short.jsonl >"$records"

field() { tr -d '\n' <"$2" | sed -n 's/.*"per_rank": *{[^}]*"'"$1"'": *\([0-9]*\).*/\1/p'; }

# holds NAME RANKS FLAGS…: every sequence is as long as max_length
holds() {
    name=$1 world=$2
    shift 2
    set -- --max-length 32 --per-device-train-batch-size 2 --max-steps 8 "$@"
    reason=
    CADTRAIN_DEBUG_ALLOC=1 train "$world" "$name" --gradient-accumulation-steps 2 --logging-steps 8 "$@" || reason="the run failed;"
    counts=$(sed -n 's/^allocations after step [0-9]*: //p' "$log" | sort -u | wc -l)
    lines=$(grep -c '^allocations after step' "$log")
    [ "$lines" = $((world * 2)) ] || reason="$reason expected $((world * 2)) lines of allocations, found $lines;"
    for r in $(seq 0 $((world - 1))); do
        counts=$(sed -n "s/^allocations after step [0-9]*: rank $r: //p" "$log" | sort -u | wc -l)
        [ "$counts" = 1 ] || reason="$reason rank $r: $(grep "^allocations.*rank $r:" "$log" | tr '\n' ' ')"
    done
    took=$(number peak_bytes "$name/log.jsonl")
    "$cadtrain" plan --json --world-size "$world" --model-name-or-path "$model" --gradient-accumulation-steps 2 "$@" >plan.json 2>>"$log" || reason="$reason plan failed;"
    planned=$(field total plan.json)
    [ -n "$planned" ] && [ "$planned" = "$took" ] || reason="$reason planned $planned bytes, taken $took"
    say "$name" "$reason"
}

holds full_alone 1
holds full_fast_alone 1 --reduction fast
for stage in 0 2 3; do holds "full_on_2_stage_$stage" 2 --zero-stage $stage; done
holds full_on_3_stage_3_bf16 3 --zero-stage 3 --bf16 true
holds full_recompute 1 --gradient-checkpointing true
holds adapter_alone 1 --lora-enable true --lora-r 4 --lora-dropout 0.1
holds adapter_on_2_stage_3_bf16 2 --zero-stage 3 --bf16 true --lora-enable true
holds selective 1 --gradient-checkpointing selective
holds moments_8_bit 2 --optim adamw_8bit --zero-stage 2
for stage in 0 2 3; do holds "codes_on_2_stage_$stage" 2 --zero-stage $stage --lora-enable true --lora-r 4 --load-in-4bit true; done
holds nested_codes_on_3_stage_3_bf16 3 --zero-stage 3 --bf16 true --lora-enable true --lora-r 4 --load-in-4bit true --set model.bnb_4bit_use_double_quant=true --gradient-checkpointing true
holds int8_alone 1 --lora-enable true --lora-r 4 --load-in-8bit true --optim paged_adamw_8bit
holds own_head 2 --use-custom-binary-head true --zero-stage 2

# check says the same plan as plan, whatever the evaluation's batch is; both leave nothing behind, the demo's files neither.
mkdir empty && cd empty || exit 1
TMPDIR=$scratch/empty "$cadtrain" check --json --model-name-or-path "$model" --train-file "$records" --validation-split 0 --max-length 32 --per-device-train-batch-size 8 \
    --per-device-eval-batch-size 2 >../check.json 2>"$log"
code=$?
"$cadtrain" plan --json --model-name-or-path "$model" --max-length 32 --per-device-train-batch-size 8 --per-device-eval-batch-size 2 >../plan.json 2>>"$log"
say check_plans_the_training "$([ $code = 0 ] && [ "$(field total ../check.json)" = "$(field total ../plan.json)" ] || echo "exit code $code, check says $(field total ../check.json), plan $(field total ../plan.json)")"
reason=
TMPDIR=$scratch/empty "$cadtrain" check >"$log" 2>&1 || reason="check of the demo failed;"
TMPDIR=$scratch/empty mpirun -np 2 --mca orte_tmpdir_base "$scratch" "$cadtrain" check >"$log" 2>&1 || reason="check of the demo on two ranks failed;"
TMPDIR=$scratch/empty "$cadtrain" plan >"$log" 2>&1 || reason="$reason plan of the demo failed;"
left=$(ls)
say check_and_plan_change_nothing "$reason${left:+left behind: $left}"
exit $fails
