#!/bin/sh
# What is said about the command line itself.
. test/cli/checks

commands="train eval predict embed tokenize check plan inspect export report bench version"
run help
reason=$(why 0 "$out" '^commands')
for c in $commands; do grep -qE "^  $c " "$out" || reason="help lacks $c"; done
say help_lists_the_commands "$reason"
for c in $commands; do
    run help "$c"
    reason=$(why 0 "$out" "^cadtrain .*${c}")
    cp "$out" "$scratch/first"
    run "$c" --help
    cmp -s "$out" "$scratch/first" || reason="help $c and $c --help differ"
    say "help_of_$c" "$reason"
done
run train --help
say help_names_options "$(why 0 "$out" '--learning-rate')"
run -h
say short_help "$(why 0 "$out" '^commands')"

refused unknown_command 2 'unknown command "trian"; did you mean "train"' trian
refused unknown_command_for_help 2 'unknown command "reprot"; did you mean "report"' help reprot
refused unknown_flag 2 'learning-rat.*did you mean "--learning-rate"' train --learning-rat 1
refused unknown_flag_of_a_command 2 'checkpiont.*did you mean "--checkpoint"' eval --checkpiont x
refused far_from_any_command 2 'unknown command "xylophone"; .cadtrain help. lists them' xylophone
refused wrong_type 2 'learning-rate.*found "fast"' train --learning-rate fast
refused no_checkpoint 2 'checkpoint: expected a value, which eval needs' eval
refused no_input 2 'input: expected a value' predict --checkpoint x
refused no_path 2 'inspect: expected an argument' inspect
refused wrong_pooling 2 'pooling: expected last, mean or cls, found "max"' embed --input x --pooling max
refused wrong_format 2 'format: expected hf, peft or gguf, found "onnx"' export --checkpoint x --output y --format onnx
refused wrong_memory 2 'device-memory: expected bytes.*found "80 cows"' plan --device-memory '80 cows'
refused wrong_world 2 'world-size: expected a whole number.*found "0"' plan --world-size 0
refused missing_experiment 2 'nowhere.yaml' nowhere.yaml
refused wrong_rows 2 'rows: expected a whole number.*found "no"' explain --checkpoint x --input y --rows no

refused absent_checkpoint 5 'checkpoint nowhere: expected a directory' eval --checkpoint nowhere

for command in plan check train; do
    refused "file_beside_the_demo_of_$command" 2 'test_file nowhere: expected model_name_or_path or train_file beside it' $command --test-file nowhere
done
run train --learning-rate 3e-5 --print-config
say print_config "$(why 0 "$out" 'learning_rate.*3e-05.*--learning-rate')"
printf 'training:\n  learning_rate: 7e-5\n' >"$scratch/experiment.yaml"
run "$scratch/experiment.yaml" --print-config
say experiment_stands_first "$(why 0 "$out" 'learning_rate.*7e-05.*experiment.yaml')"
run version --json
say version_is_json "$(why 0 "$out" '"cadtrain": "[0-9]')"
run version >/dev/full
"$CADTRAIN" version >/dev/full 2>"$err"
code=$?
say full_output_is_noticed "$(why 6 "$err" 'standard output')"
exit $fails
