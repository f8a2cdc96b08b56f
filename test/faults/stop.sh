#!/bin/sh
# Signals, the files STOP and SAVE, and the wall clock: the step is finished on all ranks, a checkpoint written, exit code 75; going on ends on the same bits.
. ./test/tools/e2e.sh
make_model
records=$scratch/records.jsonl
make_records "$records" 40
long="--gradient-accumulation-steps 4 --lr-scheduler-type constant --max-steps 100000"

started() { [ "$(steps_of out | wc -w)" -ge "$1" ]; }

# begin RANKS FLAGS…: starts a long run in the background; $pid, once it has made three steps
begin() {
    world=$1
    shift
    rm -rf out
    set -- --model-name-or-path "$model" --train-file "$records" --validation-split 0 --max-length 64 --per-device-train-batch-size 1 --learning-rate 1e-3 --save-strategy no \
        --logging-steps 1 --skip-test --report-to none --output-dir out "$@"
    # shellcheck disable=SC2086
    case $world in
    1) "$cadtrain" train "$@" $long >"$log" 2>&1 & ;;
    script) "$repository/jobs/local.sh" train "$@" $long >"$log" 2>&1 & ;;
    *) mpirun -np "$world" "$cadtrain" train "$@" $long >"$log" 2>&1 & ;;
    esac
    pid=$!
    wait_for 30 started 3 || echo "  # the run does not start"
}

ended() { ! kill -0 "$pid" 2>/dev/null; }

# finish: waits for the run; $code
finish() {
    wait_for 15 ended || kill -9 "$pid"
    wait "$pid"
    code=$?
}

# judge NAME WORLD CODES: exit code, one line about it, a complete checkpoint that equals a run of as many steps in one go
judge() {
    reason=
    echo "$code" | grep -qxE "$3" || reason="exit code: expected $3, found $code;"
    k=$(readlink out/last | sed 's/.*checkpoint-//')
    if [ -z "$k" ]; then reason="$reason no checkpoint was written"; else
        grep -q "stopped after step $k" "$log" || reason="$reason no line says that it stopped after step $k;"
        cp -r out stopped
        # shellcheck disable=SC2086
        train 1 whole --gradient-accumulation-steps $((4 * $2)) --lr-scheduler-type constant --max-steps $((k + 3)) --save-strategy steps --save-steps "$k" --overwrite-output-dir true
        [ "$(digest stopped/last)" = "$(digest "whole/checkpoint-$k")" ] || reason="$reason checkpoint-$k has other bits;"
        train 3 stopped --zero-stage 2 --gradient-accumulation-steps 1 --lr-scheduler-type constant --max-steps $((k + 3)) --resume-from-checkpoint auto || reason="$reason going on failed;"
        [ "$(digest stopped)" = "$(digest whole)" ] || reason="$reason after going on: other bits;"
    fi
    say "$1" "$reason"
    rm -rf stopped whole
}

for signal in TERM USR1 INT; do
    begin 1
    kill -$signal "$pid"
    finish
    judge "stopped_by_$signal" 1 75
done

begin 2
kill -USR1 "$pid" # mpirun hands it on to every rank
finish
judge mpirun_hands_on_USR1 2 75

begin 2 --zero-stage 3
kill -TERM "$(children "$pid" | tail -n 1)"
finish
judge one_rank_gets_TERM 2 75

# mpirun waits, sends TERM, waits again and kills: a second each unless told otherwise. Its own exit code is its business (1 or 143).
export OMPI_MCA_odls_base_sigkill_timeout=4
begin 2
kill -TERM "$pid"
finish
judge mpirun_gets_TERM 2 '75|143|1'
unset OMPI_MCA_odls_base_sigkill_timeout

if cmp -s "$cadtrain" "$repository/build/cadtrain"; then # else the script would build another
    begin script
    kill -TERM "$pid"
    finish
    judge the_script_hands_on_TERM 2 75
fi

begin 1
touch out/STOP
finish
judge the_file_STOP 1 75

begin 1
touch out/SAVE
saved() { [ -L out/last ]; }
wait_for 10 saved
reason=
saved || reason="no checkpoint was written;"
at=$(steps_of out | wc -w)
wait_for 10 started $((at + 3)) || reason="$reason it does not go on;"
[ ! -e out/SAVE ] || reason="$reason SAVE is still there;"
kill -TERM "$pid"
finish
[ "$(find out -maxdepth 1 -name 'checkpoint-*' | wc -l)" = 2 ] || reason="$reason expected 2 checkpoints (SAVE, then TERM), found $(find out -maxdepth 1 -name 'checkpoint-*' | wc -l)"
say the_file_SAVE "$reason"

# A second job in the same folder is refused with the first one's name; the first goes on.
begin 1
cp "$log" first
train 2 out --max-steps 2 --overwrite-output-dir true
code=$?
reason=
[ $code = 6 ] || reason="exit code: expected 6, found $code;"
grep -q "^cadtrain: error: .*out: another job writes there: process $pid" "$log" || reason="$reason no sentence that names process $pid;"
at=$(steps_of out | wc -w)
wait_for 10 started $((at + 3)) || reason="$reason the first job does not go on;"
say one_job_in_a_folder "$reason"
kill -TERM "$pid"
finish

# Nobody reads what it prints: the training is not lost.
train_to() { train 1 "$@" --max-steps 20 --save-strategy steps --save-steps 10; }
(train_to unheard) && mv "$log" heard
"$cadtrain" train --model-name-or-path "$model" --train-file "$records" --validation-split 0 --max-length 64 --per-device-train-batch-size 1 --learning-rate 1e-3 --save-strategy no \
    --evaluation-strategy no --logging-steps 1 --skip-test --report-to none --max-steps 20 --output-dir piped 2>"$log" | head -n 1 >/dev/null
say nobody_reads_the_log "$([ "$(digest piped)" = "$(digest unheard)" ] || echo "other bits, or no model at all")"

# Before the time is over, the checkpoint included; what is left of it is for starting and ending.
from=$(now_ms)
# shellcheck disable=SC2086
train 1 wall --wall-time 4 $long
code=$?
took=$(($(now_ms) - from))
reason=
[ $code = 75 ] || reason="exit code: expected 75, found $code;"
[ $took -lt 4000 ] || reason="$reason it took $took ms;"
[ -f wall/last/state.h5 ] || reason="$reason no checkpoint"
say wall_time "$reason"

# The same when only Slurm says when the job ends; its numbers are in the log and in run.json.
# shellcheck disable=SC2086
(export SLURM_JOB_ID=4711 SLURM_JOB_NAME=hearts SLURM_JOB_END_TIME=$(($(date +%s) + 4)) && train 1 slurm $long)
code=$?
reason=
[ $code = 75 ] || reason="exit code: expected 75, found $code;"
[ -f slurm/last/state.h5 ] || reason="$reason no checkpoint;"
grep -q '^Slurm job 4711 hearts, ends in [0-4] s$' "$log" || reason="$reason no line about the job;"
grep -q '"SLURM_JOB_ID": "4711"' slurm/last/run.json || reason="$reason run.json does not name the job"
say the_end_of_a_slurm_job "$reason"

begin 1
kill -INT "$pid"
kill -INT "$pid"
from=$(now_ms)
finish
say a_second_INT_ends_at_once "$([ "$code" = 130 ] || [ "$code" = 75 ] || echo "exit code: expected 130 or 75, found $code")"
exit $fails
