#!/bin/sh
# The GPU's kernels train as the CPU's do: the same steps on `--device emulated`, whole and with adapters, alone and on two ranks; the plan
# covers its memory to the byte; and a program without CUDA says so.
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
make_records "$records" 16

# apart LIMIT_LOSS LIMIT_NORM A B: the largest distance of the logged steps of two runs, and whether it is within c u sqrt(terms)
apart() {
    figures "$3" >a.txt
    figures "$4" >b.txt
    paste -d ' ' a.txt b.txt | tr -d ',":a-df-zA-Z_' | awk -v loss="$1" -v norm="$2" '
        function far(x, y) { return (x > y ? x - y : y - x) / (y > 1 ? y : 1) }
        { n++; if (far($1, $3) > l) l = far($1, $3); if (far($2, $4) > g) g = far($2, $4) }
        END { if (n != 4 || !(l <= loss) || !(g <= norm)) printf "%d steps, losses %.2g apart (allowed %.2g), gradient norms %.2g (allowed %.2g)", n, l, loss, g, norm }'
}

# as_cpu NAME LIMIT_LOSS LIMIT_NORM RANKS FLAGS…
as_cpu() {
    name=$1 loss=$2 norm=$3 world=$4
    shift 4
    rm -rf one other
    trained "$name" 1 one --gradient-accumulation-steps 4 --max-steps 4 "$@" || return
    trained "$name" "$world" other --gradient-accumulation-steps $((4 / world)) --max-steps 4 --device emulated "$@" || return
    say "$name" "$(apart "$loss" "$norm" one other)"
}

# Sums of about 1024 terms in fp32 (u = 2^-24) and four steps: 8 u sqrt(1024) for the loss, four times that for the norm of the gradient.
# In bf16 (u = 2^-9) single roundings prevail: 4 u and 16 u.
single="1.5e-5 6.1e-5" half="7.8e-3 3.1e-2"
# shellcheck disable=SC2086
{
    as_cpu full_as_on_the_cpu $single 1
    as_cpu adapter_as_on_the_cpu $single 1 --lora-enable true --lora-r 4 --lora-dropout 0.1
    as_cpu full_in_bf16_as_on_the_cpu $half 1 --bf16 true
    as_cpu two_ranks_stage_3_as_one_on_the_cpu $single 2 --zero-stage 3
}

# A step with fewer micro-batches than ranks, at stage 3: who has none goes on to the step's end while the others compute. The streams' order does not matter.
head -n 5 "$records" >five.jsonl
records=$scratch/five.jsonl reason=
for order in early late; do
    CADTRAIN_EMULATED_STREAMS=$order train 3 "$order" --max-length 16 --max-steps 2 --device emulated --zero-stage 3 --watchdog-seconds 20 || reason="$reason $order: exit code $?;"
done
[ "$(figures early | wc -l)" = 2 ] && [ "$(figures early) $(digest early)" = "$(figures late) $(digest late)" ] || reason="$reason other numbers;"
say a_rank_without_work_at_late_streams "$reason"
records=$scratch/records.jsonl

field() { tr -d '\n' <"$2" | sed -n 's/.*"per_rank": *{[^}]*"'"$1"'": *\([0-9]*\).*/\1/p'; }
reason=
sed 's/", "output"/ and a long history of much that fills the whole of the sequence", "output"/' "$records" >long.jsonl
records=$scratch/long.jsonl
train 1 planned --max-length 32 --per-device-train-batch-size 2 --max-steps 2 --device emulated || reason="the run failed;"
"$cadtrain" plan --json --device emulated --model-name-or-path "$model" --max-length 32 --per-device-train-batch-size 2 >plan.json 2>>"$log" || reason="$reason plan failed;"
[ "$(field total plan.json)" = "$(number peak_bytes planned/log.jsonl)" ] || reason="$reason planned $(field total plan.json) bytes, taken $(number peak_bytes planned/log.jsonl)"
say the_plan_is_what_is_taken "$reason"

reason=
train 1 nowhere --max-steps 1 --device cuda
code=$?
if grep -q 'built without CUDA' "$log"; then
    [ $code = 6 ] || reason="exit code: expected 6, found $code"
    [ "$(grep -c 'error:' "$log")" = 1 ] || reason="$reason expected one sentence"
    say a_program_without_cuda_says_so "$reason"
else echo "skip a_program_without_cuda_says_so this program was built with CUDA"; fi
exit $fails
