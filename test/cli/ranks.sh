#!/bin/sh
# The same under mpirun: one voice, and mpirun ends with the program's code.
. test/cli/checks

# once NAME CODE PATTERN ARGUMENTS…: on two ranks that code, and the sentence once
once() {
    name=$1 want=$2 pattern=$3
    shift 3
    ranks 2 "$@"
    reason=$(why "$want" "$err" "$pattern")
    [ "$(grep -c 'cadtrain: error' "$err")" = 1 ] || reason="expected one error, found $(grep -c 'cadtrain: error' "$err")"
    say "$name" "$reason"
}
once unknown_command 2 'did you mean "train"' trian
once unknown_flag 2 'did you mean "--learning-rate"' train --learning-rat 1
once no_checkpoint 2 'checkpoint: expected a value' eval
once no_input 2 'input: expected a value' explain --checkpoint x
once no_predictions 3 'nowhere' report --predictions "$scratch/nowhere" --output "$scratch/x"
once no_model 4 'nowhere' check --model-name-or-path "$scratch/nowhere" --train-file "$scratch/nowhere.json"

for c in help 'help train' version; do
    # shellcheck disable=SC2086
    ranks 2 $c
    cp "$out" "$scratch/two"
    # shellcheck disable=SC2086
    run $c
    reason=$(why 0 "$out" .)
    cmp -s "$out" "$scratch/two" || reason="another text on two ranks"
    say "$(echo "$c" | tr ' ' _)_once" "$reason"
done

ranks 2 train --learning-rate 3e-5 --print-config
reason=$(why 0 "$out" 'learning_rate.*3e-05.*--learning-rate')
[ "$(grep -cE 'learning_rate.*--learning-rate' "$out")" = 1 ] || reason="printed $(grep -cE 'learning_rate.*--learning-rate' "$out") times"
say print_config_once "$reason"
SLURM_NTASKS=4 SLURM_PROCID=0 "$CADTRAIN" check >"$out" 2>"$err" </dev/null
code=$?
say lonely_in_a_job "$(why 2 "$err" 'srun --mpi=pmix')"
SLURM_NTASKS=4 SLURM_PROCID=1 "$CADTRAIN" help >"$out" 2>"$err" </dev/null
code=$?
reason=$(why 0 "$err" '')
[ ! -s "$out" ] || reason="task 1 printed something"
say other_tasks_are_silent "$reason"
exit $fails
