#!/bin/sh
# chaos.sh [KILLS]: random ranks are killed at random moments, each restart has another number of ranks and another stage; the end has the bits of the undisturbed run.
kills=${1:-12}
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
make_records "$records" 60
steps=$((kills * 20 + 20)) # more than the kills can use up
flags="--lora-enable true --lora-r 4 --lora-dropout 0.1 --per-device-train-batch-size 2 --max-steps $steps --lr-scheduler-type cosine --save-steps 3 --save-total-limit 3"

# shellcheck disable=SC2086
trained undisturbed 1 calm --gradient-accumulation-steps 12 $flags || exit 1

begun() { [ -n "$(children $pid)" ]; }
logged() { [ "$(steps_of out | wc -w)" -ge "$1" ] || ! kill -0 "$pid" 2>/dev/null; }

done_kills=0 starts=0 worlds= code=1 slow=0
while [ $code != 0 ] && [ $starts -lt $((kills * 3)) ]; do
    draw 4
    world=$((drawn + 1))
    draw 3
    stage=$((drawn ? drawn + 1 : 0))
    worlds="$worlds $world/$stage"
    starts=$((starts + 1))
    # shellcheck disable=SC2086
    mpirun -np $world "$cadtrain" train --model-name-or-path "$model" --train-file "$records" --validation-split 0 --max-length 64 --learning-rate 1e-3 --save-strategy steps \
        --evaluation-strategy no --logging-steps 1 --skip-test --report-to none --output-dir out --gradient-accumulation-steps $((12 / world)) --zero-stage $stage $flags \
        --resume-from-checkpoint auto >"$log" 2>&1 &
    pid=$!
    if [ $done_kills -lt "$kills" ]; then
        draw 8
        wait_for 20 begun
        if [ $((done_kills % 4)) = 3 ]; then sleep 0.$((drawn + 1)); else wait_for 20 logged $(($(steps_of out | wc -w) + 1 + drawn)); fi
        ranks=$(children $pid)
        if [ -n "$ranks" ]; then
            draw "$(echo "$ranks" | wc -l)"
            # shellcheck disable=SC2046
            kill -9 $(echo "$ranks" | sed -n "$((drawn + 1))p") 2>/dev/null && done_kills=$((done_kills + 1))
            from=$(now_ms)
        fi
    fi
    wait $pid
    code=$?
    [ $code = 0 ] || [ $(($(now_ms) - from)) -lt 10000 ] || slow=$((slow + 1))
    case $code in
    0 | 137) ;;
    *) break ;;
    esac
done
reason=
[ $code = 0 ] || reason="exit code after start $starts: $code;"
[ $done_kills -ge "$kills" ] || reason="$reason expected $kills kills, made $done_kills;"
[ $slow = 0 ] || reason="$reason $slow times the other ranks lived on for ten seconds;"
[ "$(digest out)" = "$(digest calm)" ] || reason="$reason other bits (ranks/stages$worlds);"
[ "$(figures out)" = "$(figures calm)" ] || reason="$reason other losses in log.jsonl;"
say chaos "$reason"
rest=$(find out \( -name '.tmp*' -o -name '*.tmp-*' -o -name .lock \) | tr '\n' ' ')
say chaos_leaves_nothing_aside "${rest:+left behind: $rest}"
say chaos_repeats_no_text "$(grep -rlaF $canary out "$log" | head -n 1)"
echo "# $done_kills kills, $starts starts, ranks/stages$worlds"
exit $fails
